# SPDX-License-Identifier: Apache-2.0
"""What a model, a name or a stranger's page could do to whoever reads: nothing. And Markdown as it should look."""
import http.client
import json
import urllib.parse

from case import PageCase

ATTACKS = [
    "<script>window.hit = 1</script>", "<img src=x onerror='window.hit = 1'>", "<svg onload=window.hit=1>",
    "[a](javascript:window.hit=1)", "[b](JaVaScRiPt:window.hit=1)",
    "[c](data:text/html,<script>window.hit=1</script>)",
    "[d](java\tscript:window.hit=1)", "![e](http://other.invalid/pixel.png)", "[f](vbscript:x)",
    "[g](//other.invalid/)",
    "</div></article><iframe src=javascript:parent.hit=1></iframe>", "`<img src=x onerror=window.hit=1>`",
    "```html\"><img src=x onerror=window.hit=1>\n<script>window.hit = 1</script>\n```",
    "| <b onclick=window.hit=1>a</b> | b |\n|---|---|\n| <img src=x onerror=window.hit=1> | [x](javascript:x) |",
    "# <img src=x onerror=window.hit=1>", "> <style>*{display:none}</style>", "1. <base href=http://other.invalid/>",
    "<form action=http://other.invalid/><input name=a></form>",
    "<meta http-equiv=refresh content='0;url=http://other.invalid/'>",
    "http://other.invalid/\"onmouseover=\"window.hit=1", "&lt;script&gt;window.hit=1&lt;/script&gt;", "{{constructor}}",
    "[x](https://other.invalid/\" onclick=\"window.hit=1)", "**<img src=x onerror=window.hit=1>**",
]
WRONG = ("[...document.querySelectorAll('#messages *')].filter(n => ['SCRIPT', 'IMG', 'SVG', 'IFRAME', 'STYLE', "
         "'BASE', 'META', 'INPUT', 'OBJECT', 'EMBED', 'LINK'].includes(n.tagName.toUpperCase()) || "
         "[...n.attributes].some(a => a.name.startsWith('on') || "
         "(a.name === 'href' && !/^(https?|mailto):/.test(a.value)))).map(n => n.outerHTML)")
NAME = "<img src=x onerror=window.hit=1>"


class Safety(PageCase):
    options = ("--served-model-name", NAME)

    def check(self):
        self.page.wait_for_timeout(300)
        self.assertIsNone(self.page.evaluate("window.hit ?? null"))
        self.assertEqual(self.page.evaluate(WRONG), [])

    def test_text_of_models(self):
        text = "\n\n".join(ATTACKS)
        self.answer({"reasoning_content": text}, {"content": text})
        self.send(text)
        self.wait_answer()
        self.check()
        self.assertIn("<script>window.hit = 1</script>", self.text(".assistant > .content"))
        self.page.locator("#messages button", has_text="Edit").first.click()
        self.page.press(".edit textarea", "Escape")
        self.page.reload()      # from what was kept
        self.check()

    def test_long_lines_take_no_time(self):
        """A model may write any line, and the page reads an answer again with each piece: no line may hang it."""
        many = 200000
        for name, line in {"heading": "# a" + " " * many, "heading 2": "# a" + " " * many + "b\rc",
                           "closed": "# a" + "#" * many + "a", "fence": "```" + " " * many + "`",
                           "long fence": "~" * many + "`", "table": "a|b\n" + " " * many + "-" + " " * many + "x",
                           "rule": "- " * many + "x"}.items():
            with self.subTest(name):
                took = self.page.evaluate("async text => { const m = await import('/web/markdown.js'); "
                                          "const start = performance.now(); m.blocksOf(text).length; "
                                          "return performance.now() - start; }", line)
                self.assertLess(took, 10000)

    def test_headings(self):
        self.answer({"content": "# One  \n\n## Two ##  \n\n### a#b\n\n#none"})
        self.send("go")
        self.wait_answer()
        self.assertEqual([self.text(f".assistant > .content {tag}") for tag in ("h3", "h4", "h5", "p")],
                         ["One", "Two", "a#b", "#none"])

    def test_text_that_comes_in_pieces(self):
        """A mark that is whole only after a while."""
        text = "\n\n".join(ATTACKS)
        self.answer(*({"content": text[i:i + 3]} for i in range(0, len(text), 3)))
        self.send("go")
        self.wait_answer()
        self.check()

    def test_names_and_errors(self):
        self.assertTrue(self.text("#model").startswith(NAME))
        self.may_say = ("status of 400",)
        self.page.route("**/v1/chat/completions", lambda route: route.fulfill(
            status=400, content_type="application/json",
            body=json.dumps({"error": {"message": ATTACKS[1], "code": None}})))
        self.send("go")
        self.page.wait_for_selector(".error:visible")
        self.assertEqual(self.text(".error"), ATTACKS[1])
        self.check()

    def test_tool_calls_are_text(self):
        self.answer({"tool_calls": [{"index": 0, "function": {"name": ATTACKS[1], "arguments": ATTACKS[2]}}]})
        self.send("go")
        self.wait_answer()
        self.check()

    def test_kept_nonsense(self):
        """What somebody else has left in the browser's store."""
        for text in ("{", "null", "[]", '{"messages": 3}',
                     '{"messages": [null, {"role": "system"}, {"role": "user"}]}'):
            self.page.goto(f"{self.server.url}/web/icon.svg")
            self.page.evaluate("t => ['conversation', 'settings', 'theme'].forEach("
                               "k => localStorage.setItem('bobbin.' + k, t))", text)
            self.page.goto(self.server.url)
            self.wait("document.getElementById('model').textContent !== ''")
            self.assertEqual(self.page.locator(".message").count(), 0)

    def test_headers(self):
        host = urllib.parse.urlsplit(self.server.url).netloc
        connection = http.client.HTTPConnection(host)
        paths = ["/"] + [f"/web/{name}" for name in ("style.css", "main.js", "chat.js", "api.js", "loads.js",
                                                     "markdown.js", "theme.js", "icon.svg")]
        for path in paths:
            connection.request("GET", path)
            reply = connection.getresponse()
            reply.read()
            policy = reply.getheader("Content-Security-Policy")
            self.assertEqual((reply.status, reply.getheader("X-Content-Type-Options")), (200, "nosniff"), path)
            self.assertIn("default-src 'none'", policy)
            self.assertIn("frame-ancestors 'none'", policy)
            self.assertNotIn("unsafe", policy)
        for path in ("/web/", "/web/../../etc/passwd", "/web/chat", "/index.html"):
            connection.request("GET", path)
            reply = connection.getresponse()
            reply.read()
            self.assertEqual(reply.status, 404, path)
        connection.close()


class Markdown(PageCase):
    def shown(self, text):
        self.answer({"content": text})
        self.send("show")
        self.wait_answer()
        html = self.page.locator(".assistant > .content").last.inner_html()
        self.page.unroute("**/v1/chat/completions")
        return html

    def test_forms(self):
        for text, html in {
            "a *b* **c** `d*e*` ~~f~~ _g_ h_i_j": "<p>a <em>b</em> <strong>c</strong> <code>d*e*</code> <del>f</del> "
                                                  "<em>g</em> h_i_j</p>",
            "# One\n\n### Three": "<h3>One</h3><h5>Three</h5>",
            "- a\n- b\n  - c\n- d": "<ul><li>a</li><li>b<ul><li>c</li></ul></li><li>d</li></ul>",
            "3. a\n4. b": '<ol start="3"><li>a</li><li>b</li></ol>',
            "> a\n> b\n\nc": "<blockquote><p>a\nb</p></blockquote><p>c</p>",
            "---": "<hr>", "2 * 3 * 4": "<p>2 * 3 * 4</p>", "\\*a\\*": "<p>*a*</p>",
            "a < b & c": "<p>a &lt; b &amp; c</p>",
            "| a | b |\n|:-:|--:|\n| 1 | `x|y` |":
                '<div class="wide" tabindex="0"><table><thead><tr><th class="center">a</th><th class="right">b</th>'
                '</tr></thead><tbody><tr><td class="center">1</td><td class="right"><code>x|y</code></td></tr></tbody>'
                "</table></div>",
        }.items():
            with self.subTest(text):
                self.assertEqual(self.shown(text).replace(' class=""', ""), html)

    def test_links(self):
        html = self.shown("see [docs](https://a.invalid/x_(y)?q=1#z), https://b.invalid/c. and [no](javascript:x)")
        self.assertIn('href="https://a.invalid/x_(y)?q=1#z"', html)
        self.assertIn('href="https://b.invalid/c"', html)
        self.assertEqual(html.count("<a "), 2)
        self.assertEqual(html.count('rel="noopener noreferrer nofollow"'), 2)

    def test_code(self):
        """Its text is exact; it is copied; an open fence is shown as code while it comes in."""
        code = "def f(x):\n\treturn '*a* <b>'\n" + "x" * 3000
        self.answer(*({"content": piece} for piece in ("Look:\n\n```py\n", code, "\n```\n\nDone. ")))
        self.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        self.send("show")
        self.wait_answer()
        self.assertEqual(self.page.text_content(".code code"), code)
        self.assertEqual(self.text(".code .bar span"), "py")
        self.page.click(".code .copy")
        self.page.wait_for_selector(".copy:has-text('Copied')")
        self.assertEqual(self.page.evaluate("navigator.clipboard.readText()"), code)
        self.assertLessEqual(self.page.evaluate("document.documentElement.scrollWidth"), self.width)
        self.assertIn("```", self.shown("```\nopen ``` still") + "```")
        self.assertEqual(self.page.locator(".code").count(), 2)

    def test_hard_text_is_quick(self):
        """Marks that never end: the time doesn't grow with their number's square."""
        for text in ("**a " * 50000, "[" * 50000, "`" * 3 + "a\n" * 50000, "> " * 5000, "- " * 5000, "_a" * 50000,
                     "| a " * 5000 + "\n" + "|-" * 5000, "\n".join("  " * i + "- x" for i in range(300)), "*" * 50000):
            with self.subTest(text[:8]):
                took = self.page.evaluate(
                    "async t => { const m = await import('/web/markdown.js'), b = document.createElement('div');"
                    "const s = performance.now(); m.render(b, t, true); return performance.now() - s; }", text)
                self.assertLess(took, 1500)
