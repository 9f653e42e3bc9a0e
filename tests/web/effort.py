# SPDX-License-Identifier: Apache-2.0
"""Budgets, branches and decisions of requests, buttons to steer them, and the settings of effort."""
import json
import urllib.request

from case import PageCase, sse
from looks import CONTRAST


def branch(index, **more):
    return {"index": index, "live": True, "thinking": True, "output_tokens": 100, "thinking_tokens": 90, "cot_steps": 3,
            "budget": 512, "mean_logprob": -0.4, "confidence": 14.25, "finish_reason": None, **more}


def decision(kind, index, token, policy, why, **more):
    return {"kind": kind, "branch": index, "token": token, "policy": policy, "value": 1.0, "bar": 2.0, "why": why,
            "load_dependent": False, **more}


def row(number, **more):
    return {"id": number, "state": "writing", "priority": 0, "branches": 1, "prompt_tokens": 100, "read_tokens": 100,
            "cached_tokens": 0, "output_tokens": 28, "age_s": 1, "tokens_per_second": 9, "kv_bytes": 4096, "share": 0.5,
            **more}


def loads(*rows):
    return {"running": len(rows), "waiting": 0, "aside": 0, "max_model_len": 512, "kv_bytes": 4096, "max_kv_bytes": 0,
            "prefix_bytes": 0, "prompt_tokens": 100, "cached_tokens": 0, "output_tokens": 28, "step_ms": 2,
            "step_rows": 1, "n_requests": len(rows), "requests": rows}


def request(number, *branches, budget=None, decisions=()):
    return {"id": f"chatcmpl-{number}", "number": number, "request_id": "r", "path": "/v1/chat/completions",
            "n_branches": len(branches), "budget": budget, "branches": branches, "decisions": list(decisions)}


FOUR = (branch(0, thinking=False, live=False, finish_reason="stop"), branch(1, thinking_tokens=256),
        branch(2, thinking=False, live=False, finish_reason="dropped", confidence=9.31),
        branch(3, thinking=False, output_tokens=0, thinking_tokens=0, confidence=0))
DROP = decision("drop", 2, 77, "deepconf", "group confidence 9.31 is below 12.04")


class View(PageCase):
    """What the live view makes of what the server says."""

    def show(self, rows, requests):
        self.rows, self.requests, self.asked = rows, requests, []
        self.page.route("**/v1/loads", lambda route: route.fulfill(json=loads(*self.rows)))
        self.page.route("**/v1/requests", lambda route: route.fulfill(json={"object": "list", "data": self.requests}))
        self.page.route("**/v1/requests/*/control", self.control)
        self.page.click("#tab-loads")
        self.wait("document.querySelectorAll('#rows tr[data-id]').length > 0")

    def control(self, route):
        self.asked.append((route.request.url.split("/")[-2], json.loads(route.request.post_data)))
        if self.refusal:
            route.fulfill(status=400, json={"error": {"message": self.refusal}})
        else:
            route.fulfill(json={"success": True})

    refusal = None

    def test_branches(self):
        self.show([row(7, branches=4)], [request(7, *FOUR, budget=512, decisions=[DROP])])
        self.page.wait_for_selector(".effort")
        states = self.page.locator(".effort .state").all_inner_texts()
        self.assertEqual(states, ["ended (stop)", "thinking", "dropped", "waiting"])
        cells = self.page.locator(".effort tbody tr").nth(1).locator("td").all_inner_texts()
        self.assertEqual([cell.strip() for cell in cells[1:5]], ["100", "256 of 512", "3", "14.25"])
        self.assertEqual(self.page.evaluate("document.querySelectorAll('.effort progress')[1].value"), 0.5)
        self.assertIn("drop answer 3, token 77 deepconf: group confidence 9.31", self.text(".decisions"))
        for scheme in ("light", "dark"):
            self.page.emulate_media(color_scheme=scheme)
            self.assertEqual(self.page.evaluate(CONTRAST), [])
        self.page.set_viewport_size({"width": 360, "height": 700})
        self.assertLessEqual(self.page.evaluate("document.documentElement.scrollWidth"), 360)
        outside = self.page.evaluate(
            "[...document.querySelectorAll('.effort *')].filter(n => n.checkVisibility() && "
            "n.getBoundingClientRect().right > innerWidth + 0.5).map(n => n.outerHTML.slice(0, 80))")
        self.assertEqual(outside, [])

    def test_what_is_new_is_added(self):
        self.show([row(7)], [request(7, branch(0), budget=512)])
        self.page.wait_for_selector(".effort")
        self.page.evaluate("document.querySelector('.effort tbody tr').isTheSame = true")
        self.requests = [request(7, branch(0, thinking_tokens=512), budget=512, decisions=[
            decision("budget", 0, 90, "control", "512 from now on", load_dependent=True),
            decision("close", 0, 512, "budget", "512 of at most 512")])]
        self.wait("document.querySelectorAll('.decisions li').length === 2")
        self.assertTrue(self.page.evaluate("document.querySelector('.effort tbody tr').isTheSame"))
        self.assertIn("close", self.page.locator(".decisions li").first.inner_text())
        self.requests[0]["decisions"].insert(1, decision("extend", 0, 100, "control", "in between"))
        self.wait("document.querySelectorAll('.decisions li').length === 3")
        self.assertEqual([text.split()[0] for text in self.page.locator(".decisions li").all_inner_texts()],
                         ["close", "extend", "budget"])
        self.rows, self.requests = [row(8)], []
        self.wait("document.querySelectorAll('.effort').length === 0")
        self.assertEqual(self.page.locator("#rows tr").count(), 1)

    def test_nothing_to_see(self):
        self.show([row(7)], [request(7, branch(0, thinking=False, thinking_tokens=0, budget=None))])
        self.page.wait_for_timeout(200)
        self.assertEqual(self.page.locator(".effort").count(), 0)

    def test_buttons(self):
        self.show([row(7, branches=4)], [request(7, *FOUR, budget=512)])
        self.page.wait_for_selector(".effort")
        line = self.page.locator(".effort tbody tr").nth(1)
        for name, body in (("End thinking", {"action": "close", "branch": 1}),
                           ("Think on", {"action": "extend", "branch": 1, "tokens": 256}),
                           ("+ 256", {"action": "budget", "branch": 1, "tokens": 768}),
                           ("Drop", {"action": "drop", "branch": 1})):
            line.get_by_role("button", name=name).click()
            self.wait_asked(("7", body))
        self.page.get_by_role("button", name="Finish").click()
        self.wait_asked(("7", {"action": "finish"}))
        ended = self.page.locator(".effort tbody tr").nth(0)
        self.assertEqual([b for b in ended.get_by_role("button").all() if b.is_visible()], [])

    def test_refusal_is_shown(self):
        self.refusal, self.may_say = "branch 1 thinks no more", ("400",)
        self.show([row(7)], [request(7, branch(0), budget=512)])
        self.page.get_by_role("button", name="End thinking").click()
        self.wait("document.querySelector('.effort .note').textContent === 'branch 1 thinks no more'")

    def wait_asked(self, what):
        for _ in range(200):
            if what in self.asked:
                return
            self.page.wait_for_timeout(20)
        self.fail(f"{what} isn't among {self.asked}")


class Settings(PageCase):
    def asked_with(self, choose=None, **settings):
        bodies = []
        self.page.unroute("**/v1/chat/completions")
        self.page.route("**/v1/chat/completions", lambda route: (bodies.append(json.loads(route.request.post_data)),
                        route.fulfill(status=200, content_type="text/event-stream", body=sse({"content": "yes"}))))
        self.page.click("#open-settings")
        for name, value in settings.items():
            place = self.page.locator(f"#settings [name={name}]")
            if name in ("reasoning_effort", "choice"):
                place.select_option(value)
            else:
                place.fill(value)
        self.page.click("#close-settings")
        self.send("ask")
        self.wait_answer()
        return bodies[0]

    def test_fields(self):
        self.assertTrue({"effort", "best_of", "reasoning_effort"}.isdisjoint(self.asked_with()))
        asked = self.asked_with(reasoning_effort="low", think_end="Answer:", min_thinking_tokens="4")
        self.assertEqual((asked["reasoning_effort"], asked["effort"], asked["min_thinking_tokens"]),
                         ("low", {"think_end": "Answer:"}, 4))
        asked = self.asked_with(reasoning_effort="", thinking_token_budget="0", best_of="8", choice="consensus",
                                answer_pattern="number", min_thinking_tokens="")
        self.assertNotIn("reasoning_effort", asked)
        self.assertEqual((asked["thinking_token_budget"], asked["best_of"], asked["effort"]), (0, 8, {
            "think_end": "Answer:", "choice": "vote", "consensus": 0.95, "answer_pattern": "number"}))
        asked = self.asked_with(choice="certainty", answer_pattern="")
        self.assertEqual(asked["effort"], {"think_end": "Answer:", "choice": "certainty"})
        self.page.reload()
        self.assertEqual(self.page.input_value("[name=best_of]"), "8")

    def test_decisions_below_an_answer(self):
        body = sse({"content": "42"}).replace('"timings"', f'"decisions": {json.dumps([DROP])}, "timings"')
        self.page.route("**/v1/chat/completions", lambda route: route.fulfill(
            status=200, content_type="text/event-stream", body=body))
        self.send("ask")
        self.wait_answer()
        self.page.click("summary:has-text('1 decision')")
        self.assertIn("drop answer 3, token 77 deepconf", self.text(".message .decisions"))


class Live(PageCase):
    """Requests of the model's own, steered from the page."""

    def begin(self, **fields):
        body = {"messages": [{"role": "user", "content": "Tell me a long story."}], "max_tokens": 3000, "seed": 1,
                "ignore_eos": True, "stream": True, "effort": {"think_end": "THE END"}, **fields}
        stream = urllib.request.urlopen(urllib.request.Request(
            f"{self.server.url}/v1/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}))
        self.addCleanup(stream.close)
        self.page.click("#tab-loads")
        self.page.wait_for_selector(".effort .state.reading")

    def test_budget_is_seen_and_extended(self):
        self.begin(thinking_token_budget=1000)
        self.wait("/^[1-9]\\d* of 1,000$/.test(document.querySelector('.effort [data-name=Thinking]').textContent)")
        self.page.click("text=+ 256")
        self.wait("/ of 1,256$/.test(document.querySelector('.effort [data-name=Thinking]').textContent)")
        self.page.click("text=Think on")
        self.wait("document.querySelectorAll('.decisions li').length === 2")
        self.page.click("text=End thinking")
        self.wait("document.querySelector('.effort .state').textContent === 'answering'")
        kinds = self.page.locator(".decisions b").all_inner_texts()
        self.assertEqual(kinds, ["close", "extend", "budget"])
        self.assertIn("control", self.page.locator(".decisions li").first.inner_text())

    def test_branches_are_dropped_but_for_the_last(self):
        self.begin(n=3)
        self.wait("document.querySelectorAll('.effort tbody tr').length === 3")
        self.page.locator(".effort tbody tr").nth(1).get_by_role("button", name="Drop").click()
        self.wait("document.querySelectorAll('.effort .state')[1].textContent === 'dropped'")
        self.assertTrue(self.page.get_by_role("button", name="Finish").is_hidden(), "none is whole")
        self.page.locator(".effort tbody tr").nth(0).get_by_role("button", name="Drop").click()
        self.wait("document.querySelectorAll('.effort .state')[0].textContent === 'dropped'")
        last = self.page.locator(".effort tbody tr").nth(2)
        self.assertTrue(last.get_by_role("button", name="Drop").is_hidden())
        self.assertTrue(last.get_by_role("button", name="End thinking").is_visible())
