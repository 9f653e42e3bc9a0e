# SPDX-License-Identifier: Apache-2.0
"""Chatting: sending, streaming, stopping, editing, asking again, what is kept, thinking, errors, keys."""
import json
import time

from case import PageCase

LONG = "Tell a long story about a sailor and her ship."


class Chatting(PageCase):
    def requests(self):
        """Bodies of the chat completions that are asked for from now on."""
        bodies = []
        self.page.on("request", lambda r: bodies.append(json.loads(r.post_data))
                     if r.url.endswith("/v1/chat/completions") else None)
        return bodies

    def test_sends_and_streams(self):
        """Text grows while the answer comes, and its figures follow."""
        self.set(max_tokens=120, temperature=0, seed=1)
        self.send(LONG)
        self.wait("document.querySelector('.assistant > .content').textContent.length > 5")
        first = len(self.text(".assistant > .content"))
        self.assertTrue(self.page.is_visible("#stop"))
        self.wait(
            f"document.querySelector('.assistant > .content').textContent.length > {first + 20}")
        self.assertTrue(self.page.is_visible("#stop"), "it grew while it was coming")
        self.wait_answer()
        self.assertRegex(self.text(".assistant .figures"), r"^\d+ tokens · [\d.]+ tokens/s · prompt \d+")
        self.assertEqual(self.page.inner_text(".user .content"), LONG)

    def test_settings_are_sent(self):
        bodies = self.requests()
        self.answer({"content": "yes"})
        self.set(temperature=0.5, top_p=0.9, top_k=20, seed=7, max_tokens=9, system="Be brief.")
        self.send("hello")
        self.wait_answer()
        for name, value in {"temperature": 0.5, "top_p": 0.9, "top_k": 20, "seed": 7, "max_tokens": 9}.items():
            self.assertEqual(bodies[0][name], value)
        self.assertEqual(bodies[0]["messages"], [{"role": "system", "content": "Be brief."},
                                                 {"role": "user", "content": "hello"}])
        self.assertNotIn("min_p", bodies[0])
        self.send("again")
        self.wait_answer()
        self.assertEqual([m["role"] for m in bodies[1]["messages"]], ["system", "user", "assistant", "user"])

    def test_stop(self):
        """By the button and by Esc; the server's request ends too."""
        self.set(max_tokens=2000, temperature=0)
        for how in ("button", "Escape"):
            self.send(LONG)
            self.wait("[...document.querySelectorAll('.assistant > .content')].at(-1)"
                                        ".textContent.length > 5")
            if how == "button":
                self.page.click("#stop")
            else:
                self.page.press("#prompt", "Escape")
            self.wait_answer()
            self.assertIn("stopped", self.page.locator(".assistant .figures").last.inner_text())
            end = time.monotonic() + 10
            while self.page.evaluate("fetch('/v1/loads').then(r => r.json()).then(l => l.n_requests)") > 0:
                self.assertLess(time.monotonic(), end, "the server goes on")
                time.sleep(0.1)

    def test_regenerate_and_edit(self):
        bodies = self.requests()
        self.answer({"content": "one"})
        self.send("first")
        self.wait_answer()
        self.send("second")
        self.wait_answer()
        self.page.locator(".assistant button", has_text="Regenerate").last.click()
        self.wait("document.querySelectorAll('.message').length === 4")
        self.wait_answer()
        self.assertEqual(len(bodies), 3)
        self.assertEqual(bodies[2]["messages"], bodies[1]["messages"])
        self.page.locator(".user button", has_text="Edit").first.click()
        self.page.fill(".edit textarea", "changed")
        self.page.press(".edit textarea", "Enter")
        self.wait("document.querySelectorAll('.message').length === 2")
        self.wait_answer()
        self.assertEqual(bodies[3]["messages"], [{"role": "user", "content": "changed"}])
        self.page.locator(".assistant button", has_text="Edit").click()
        self.page.fill(".edit textarea", "two")
        self.page.press(".edit textarea", "Escape")
        self.assertEqual(self.text(".assistant > .content"), "one")
        self.page.locator(".assistant button", has_text="Edit").click()
        self.page.fill(".edit textarea", "two")
        self.page.press(".edit textarea", "Enter")
        self.assertEqual(self.text(".assistant > .content"), "two")
        self.assertEqual(len(bodies), 4)

    def test_is_kept(self):
        """Over a reload, until it is forgotten."""
        self.answer({"content": "kept"})
        self.set(temperature=0.25)
        self.send("keep this")
        self.wait_answer()
        self.page.reload()
        self.assertEqual(self.text(".user .content"), "keep this")
        self.assertEqual(self.text(".assistant > .content"), "kept")
        self.assertEqual(self.page.input_value("[name=temperature]"), "0.25")
        self.page.once("dialog", lambda d: d.accept())
        self.page.click("#new")
        self.assertEqual(self.page.locator(".message").count(), 0)
        self.page.reload()
        self.assertEqual(self.page.locator(".message").count(), 0)

    def test_thinking_is_apart(self):
        bodies = self.requests()
        self.answer({"reasoning_content": "first I "}, {"reasoning_content": "think"}, {"content": "then I speak"})
        self.send("hm")
        self.wait_answer()
        self.assertEqual(self.text(".thinking .content"), "first I think")
        self.assertEqual(self.text(".assistant > .content"), "then I speak")
        self.page.click(".thinking summary")
        self.assertFalse(self.page.is_visible(".thinking .content"))
        self.send("and")
        self.wait_answer()
        self.assertEqual(bodies[1]["messages"][1], {"role": "assistant", "content": "then I speak",
                                                    "reasoning_content": "first I think"})

    def test_refusals(self):
        """Whatever the server refuses is shown, and can be asked again."""
        self.may_say = ("status of 400",)
        self.set(max_tokens=10_000_000)
        self.send("too much")
        self.page.wait_for_selector(".error:visible")
        self.assertIn("maximum context length", self.text(".error"))
        self.wait_answer()
        self.set(max_tokens=3)
        self.page.click(".assistant button:has-text('Regenerate')")
        self.page.wait_for_selector(".figures:has-text('tokens')")
        self.assertEqual(self.page.locator(".error:visible").count(), 0)

    def test_cut_off(self):
        self.page.route("**/v1/chat/completions", lambda route: route.fulfill(
            status=200, content_type="text/event-stream",
            body='data: {"choices":[{"index":0,"delta":{"content":"half"}}]}\n\n'))
        self.send("go")
        self.page.wait_for_selector(".error:visible")
        self.assertEqual(self.text(".error"), "the answer was cut off")
        self.assertEqual(self.text(".assistant > .content"), "half")

    def test_a_thousand_messages(self):
        kept = {"messages": [{"role": ("user", "assistant")[i % 2],
                                         "text": f"message {i} **bold**\n\n- a\n- b"} for i in range(1000)]}
        self.page.goto(f"{self.server.url}/web/icon.svg")     # where no page keeps what it has
        self.page.evaluate("text => localStorage.setItem('bobbin.conversation', text)", json.dumps(kept))
        self.page.goto(self.server.url)
        self.assertEqual(self.page.locator(".message").count(), 1000)
        self.answer({"content": "fine"})
        start = time.monotonic()
        self.send("still there?")
        self.page.wait_for_selector(".message:nth-child(1002) .figures:has-text('tokens')")
        self.assertLess(time.monotonic() - start, 30)
        self.assertTrue(self.page.evaluate("(b => b.scrollHeight - b.scrollTop - b.clientHeight < 60)"
                                           "(document.getElementById('scroll'))"))

    def test_does_not_jump(self):
        """What is read further up stays where it is while text comes in below, and the message's field doesn't move."""
        self.answer(*({"content": f"line {i}\n\n"} for i in range(60)))
        self.send("much")
        self.wait_answer()
        self.page.unroute("**/v1/chat/completions")
        self.page.evaluate("document.getElementById('scroll').scrollTop = 100")
        self.set(max_tokens=60, temperature=0)
        self.page.fill("#prompt", LONG)
        before = self.page.locator("#composer").bounding_box()
        self.page.press("#prompt", "Enter")
        self.wait("[...document.querySelectorAll('.assistant > .content')].at(-1)"
                                    ".textContent.length > 5")
        self.page.evaluate("document.getElementById('scroll').scrollTop = 100")
        self.wait_answer()
        self.assertEqual(self.page.evaluate("document.getElementById('scroll').scrollTop"), 100)
        self.assertTrue(self.page.is_visible("#down"))
        self.assertEqual(self.page.locator("#composer").bounding_box(), before)
        self.page.click("#down")
        self.assertFalse(self.page.is_visible("#down"))


class Thinking(PageCase):
    """A template that begins the answer within thinking, on the real model."""

    @classmethod
    def setUpClass(cls):
        import tempfile
        file = tempfile.NamedTemporaryFile("w", suffix=".jinja")
        cls.addClassCleanup(file.close)
        file.write("{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
                   "<|im_start|>assistant\n<think>\n")
        file.flush()
        cls.options = ("--chat-template", file.name, "--reasoning-parser", "think")
        super().setUpClass()

    def test_thinking_streams(self):
        self.set(max_tokens=60, temperature=0)
        self.send(LONG)
        self.wait("document.querySelector('.thinking .content').textContent.length > 5")
        self.assertEqual(self.text(".thinking summary"), "Thinking…")
        self.page.evaluate("getSelection().selectAllChildren(document.querySelector('.thinking p'))")
        selected = self.page.evaluate("String(getSelection())")
        self.wait_answer()
        self.assertTrue(self.page.evaluate("String(getSelection())").startswith(selected))
        self.assertNotEqual(selected, "")
        self.assertEqual(self.text(".thinking summary"), "Thought")
        self.assertGreater(len(self.text(".thinking .content")), 20)


class Keys(PageCase):
    options = ("--api-key", "secret")

    def test_asks_for_the_key(self):
        self.may_say = ("status of 401",)
        self.assertTrue(self.page.is_visible("#settings"))
        self.assertEqual(self.page.evaluate("document.activeElement.id"), "key")
        self.assertEqual(self.text("#model"), "This server wants a key")
        self.page.fill("#key", "wrong")
        self.page.press("#key", "Tab")
        self.wait("document.getElementById('model').textContent === 'This key was not accepted'")
        self.page.fill("#key", "secret")
        self.page.press("#key", "Tab")
        self.wait("document.getElementById('model').textContent.startsWith('smollm2')")
        self.page.click("#close-settings")
        self.set(max_tokens=3)
        self.send("hello")
        self.page.wait_for_selector(".figures:has-text('tokens')")
        self.assertNotIn("secret", self.page.evaluate("JSON.stringify(localStorage)"))
