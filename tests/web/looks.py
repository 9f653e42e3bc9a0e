# SPDX-License-Identifier: Apache-2.0
"""Colours, a phone's width, keys alone, and the live view of requests."""
import threading
import urllib.request

from case import PageCase

LINE = "int a_long_line_of_code(void) { return 1 + 2 + 3 + 4 + 5 + 6 + 7 + 8; } /* and on and on */\n"
CODE = "```c\n" + LINE * 5 + "```"
WIDE = f"A word: {'w' * 300}\n\n{CODE}\n\n| a | b | c | d | e | f | g |\n|---|---|---|---|---|---|---|\n| " + \
    " | ".join(["some words"] * 7) + " |"
BACK = "getComputedStyle(document.body).backgroundColor"
# The least contrast of texts with what is behind them, as WCAG counts it.
CONTRAST = """(() => {
const light = (c) => { const [r, g, b] = c.match(/[\\d.]+/g).slice(0, 3).map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
const behind = (n) => { for (; n; n = n.parentElement) { const c = getComputedStyle(n).backgroundColor;
    if (!/, 0\\)$/.test(c)) return c; } return 'rgb(255, 255, 255)'; };
return [...document.querySelectorAll('body *')].filter(n => n.checkVisibility() && !n.disabled &&
    [...n.childNodes].some(c => c.nodeType === 3 && c.data.trim())).map(n => {
    const a = light(getComputedStyle(n).color), b = light(behind(n));
    return [(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), n.outerHTML.slice(0, 90)]; })
    .filter(([ratio]) => ratio < 4.5); })()"""


class Colours(PageCase):
    def test_switch(self):
        light = self.page.evaluate(BACK)
        self.page.emulate_media(color_scheme="dark")
        dark = self.page.evaluate(BACK)
        self.assertNotEqual(light, dark)
        for name, want in (("Light", light), ("Dark", dark)):
            self.page.click("#theme")
            self.assertEqual(self.text("#theme"), name)
            self.assertEqual(self.page.evaluate(BACK), want)
        self.page.emulate_media(color_scheme="light")
        self.page.reload()
        self.assertEqual(self.page.evaluate(BACK), dark, "the choice lasts")
        self.page.click("#theme")
        self.assertEqual((self.text("#theme"), self.page.evaluate(BACK)), ("Auto", light))

    def test_contrast(self):
        self.answer({"reasoning_content": "hm"}, {"content": WIDE + "\n\n> quoted [a](https://a.invalid/)"})
        self.send("show")
        self.wait_answer()
        self.page.click("#open-settings")
        for scheme in ("light", "dark"):
            self.page.emulate_media(color_scheme=scheme)
            self.assertEqual(self.page.evaluate(CONTRAST), [])
        self.page.click("#tab-loads")
        self.page.wait_for_selector("#totals dd")
        self.assertEqual(self.page.evaluate(CONTRAST), [])


class Phone(PageCase):
    width, height = 360, 700

    def fits(self):
        self.assertLessEqual(self.page.evaluate("document.documentElement.scrollWidth"), self.width)
        outside = self.page.evaluate(
            "[...document.querySelectorAll('button, input, textarea, select, article')]"
            ".filter(n => n.checkVisibility())"
            ".filter(n => { const r = n.getBoundingClientRect(); return r.left < 0 || r.right > innerWidth + 0.5; })"
            ".map(n => n.outerHTML.slice(0, 80))")
        self.assertEqual(outside, [])

    def test_fits(self):
        self.fits()
        self.answer({"reasoning_content": "w" * 300}, {"content": WIDE})
        self.send("s" * 200)
        self.wait_answer()
        self.fits()
        self.page.locator("#messages button", has_text="Edit").first.click()
        self.fits()
        self.page.press(".edit textarea", "Escape")
        self.page.click("#open-settings")
        self.fits()
        self.page.click("#close-settings")
        self.page.click("#tab-loads")
        self.page.wait_for_selector("#totals dd")
        self.fits()


class Keyboard(PageCase):
    def test_everything_without_a_mouse(self):
        keys = self.page.keyboard
        self.assertEqual(self.page.evaluate("document.activeElement.id"), "prompt")
        self.answer({"content": "yes"})
        keys.type("one")
        keys.press("Shift+Enter")
        keys.type("two")
        keys.press("Enter")
        self.wait_answer()
        self.assertEqual(self.text(".user .content"), "one\ntwo")
        self.assertEqual(self.page.evaluate("document.activeElement.id"), "prompt")
        keys.press("Shift+Tab")     # back to the last action of the answer
        self.assertEqual(self.page.evaluate("document.activeElement.textContent"), "Regenerate")
        outline = self.page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        self.assertEqual(outline, "solid")
        keys.press("Enter")
        self.wait_answer()
        self.page.focus("#tab-chat")
        keys.press("ArrowRight")
        self.assertTrue(self.page.is_visible("#loads"))
        self.assertEqual(self.page.evaluate("document.activeElement.id"), "tab-loads")
        keys.press("ArrowLeft")
        self.assertTrue(self.page.is_visible("#chat"))
        self.page.focus("#open-settings")
        keys.press("Enter")
        self.assertEqual(self.page.evaluate("document.activeElement.id"), "system")
        keys.press("Escape")
        self.assertFalse(self.page.is_visible("#settings"))
        self.assertEqual(self.page.evaluate("document.activeElement.id"), "open-settings")

    def test_every_stop_has_a_name(self):
        self.answer({"reasoning_content": "hm"}, {"content": CODE})
        self.send("show")
        self.wait_answer()
        self.page.click("#open-settings")
        self.page.focus("body")
        seen = set()
        for _ in range(60):
            self.page.keyboard.press("Tab")
            at = self.page.evaluate("(() => { const n = document.activeElement; return [n.tagName, n.id, n.name ?? '', "
                                    "(n.ariaLabel || n.labels?.[0]?.textContent || n.textContent || '').trim(), "
                                    "getComputedStyle(n).outlineStyle]; })()")
            if at[0] == "BODY":
                continue
            self.assertNotEqual(at[3], "", at)
            self.assertNotEqual(at[4], "none", at)
            seen.add(at[1] or at[2] or at[3])
        self.assertLessEqual({"tab-chat", "new", "open-settings", "theme", "prompt", "system", "temperature", "key",
                              "Regenerate"}, seen)


class Requests(PageCase):
    options = ("--max-num-seqs", "2")

    def test_live_view(self):
        """Requests that run and wait are seen, with what they do; they go when they have ended."""
        body = (b'{"prompt": "Once upon a time", "max_tokens": 1500, "temperature": 0, "ignore_eos": true, '
                b'"stream": true}')
        streams = []

        def begin():
            streams.append(urllib.request.urlopen(urllib.request.Request(
                f"{self.server.url}/v1/completions", body, {"Content-Type": "application/json"})))

        self.page.click("#tab-loads")
        threads = [threading.Thread(target=begin, daemon=True) for _ in range(3)]
        for thread in threads:
            thread.start()
        self.wait("document.querySelectorAll('#rows tr').length === 3 && "
                  "document.querySelectorAll('.writing').length === 2")
        self.wait("[...document.querySelectorAll('#rows tr')].filter(r => parseFloat(r.children[5].textContent) > 0)"
                  ".length === 2")
        row = self.page.locator("#rows tr:has(.writing)").first.locator("td").all_inner_texts()
        self.assertRegex(row[2], r"\d")
        self.assertRegex(row[3], r"^\d+ \(\d+ %\)$")
        self.assertRegex(row[6], r"\d (B|KiB|MiB)$")
        self.assertRegex(row[7], r"^[1-9]\d? %$")  # half of the step, but for guesses
        self.assertRegex(row[8], r"\d s$")
        totals = dict(zip(self.page.locator("#totals dt").all_inner_texts(),
                          self.page.locator("#totals dd").all_inner_texts()))
        self.assertEqual((totals["Running"], totals["Queue"]), ("2", "1"))
        self.wait("parseFloat(document.querySelectorAll('#totals dd')[2].textContent) > 0")
        self.assertRegex(self.page.get_attribute("#graph .out", "points"), r"\d")
        for stream in streams:
            stream.close()
        self.wait("document.querySelectorAll('#rows tr').length <= 1")
        self.page.set_viewport_size({"width": 360, "height": 700})
        self.assertLessEqual(self.page.evaluate("document.documentElement.scrollWidth"), 360)

    def test_one_request(self):
        """The bar is how full its context is, not how much of its prompt is read; one row is a row."""
        request = {"id": 7, "state": "writing", "priority": 0, "branches": 1, "prompt_tokens": 100, "read_tokens": 100,
                   "cached_tokens": 0, "output_tokens": 28, "age_s": 1, "tokens_per_second": 9, "kv_bytes": 4096,
                   "share": 1}
        loads = {"running": 1, "waiting": 0, "aside": 0, "max_model_len": 512, "kv_bytes": 4096, "max_kv_bytes": 0,
                 "prefix_bytes": 0, "prompt_tokens": 100, "cached_tokens": 0, "output_tokens": 28, "step_ms": 2,
                 "step_rows": 1, "n_requests": 1, "requests": [request]}
        self.page.route("**/v1/loads", lambda route: route.fulfill(json=loads))
        self.page.click("#tab-loads")
        self.wait("document.querySelectorAll('#rows tr').length === 1")
        self.assertEqual(self.page.evaluate("document.querySelector('#rows progress').value"), 0.25)
        self.assertEqual(self.page.locator("#rows td").all_inner_texts()[2].strip(), "128")
        self.assertRegex(self.page.locator("#totals dd").all_inner_texts()[-1], r"ms, 1 row$")
