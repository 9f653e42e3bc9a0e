# SPDX-License-Identifier: Apache-2.0
"""How much thought a request gets: budgets to the token, answers that are chosen, decisions, steering."""
import concurrent.futures
import json
import pathlib
import tempfile
import time
import unittest

from serving import REAL, TINY, Case, Server, with_clients

HI = [{"role": "user", "content": "Why is the sky blue?"}]
SUM = [{"role": "user", "content": "What is 2 + 2? Write the number."}]
HARD = {"soft_from": 1}     # the end doesn't become likelier before the budget is used
CHAT, REQUESTS = "/v1/chat/completions", "/v1/requests"
END = "</think>"


def ask(**more):
    return {"messages": HI, "max_tokens": 40, "temperature": 0.8, "seed": 5, **more}


def events(data):
    """The JSON of a stream's events."""
    return [json.loads(line[6:]) for line in data.decode().splitlines() if line.startswith("data: {")]


def kinds(reply, *wanted):
    return [d for d in reply.get("decisions", []) if not wanted or d["kind"] in wanted]


class Thinking(Case):
    """A model without tags, told that thinking ends with one: it writes none by itself."""
    model, options = REAL, ("-c", "512", "--log-level", "off", "--think-end", END)

    def chat(self, status=200, **more):
        return self.server.post(CHAT, ask(**more), status)

    def stream(self, path=CHAT, body=None, **more):
        status, _, data = self.server.ask("POST", path, {**(body or ask(**more)), "stream": True,
                                                         "stream_options": {"include_usage": True}})
        self.assertEqual(status, 200, data)
        return events(data), data


class Budgets(Thinking):
    def test_to_the_token(self):
        for budget in (0, 1, 7, 20):
            with self.subTest(budget=budget):
                reply = self.chat(thinking_token_budget=budget, return_token_ids=True, effort=HARD)
                choice, usage = reply["choices"][0], reply["usage"]
                self.assertEqual(usage["completion_tokens"], 40)
                self.assertEqual(usage["completion_tokens_details"]["reasoning_tokens"], budget)
                close, = kinds(reply, "close")
                self.assertEqual((close["token"], close["policy"], close["branch"]), (budget, "budget", 0))
                self.assertFalse(close["load_dependent"])
                ids = choice["token_ids"]
                closing = self.server.post("/tokenize", {"prompt": f"\n{END}\n\n", "add_special_tokens": False})
                n = len(closing["tokens"])
                self.assertEqual(ids[budget:budget + n], closing["tokens"])
                thought = self.server.post("/detokenize", {"tokens": ids[:budget]})["prompt"]
                self.assertEqual(choice["message"].get("reasoning_content", "").strip(), thought.strip())
                self.assertTrue(choice["message"]["content"])
                self.assertNotIn(END, choice["message"]["content"])

    def test_streamed(self):
        plain = self.chat(thinking_token_budget=9, n=3)
        self.assertEqual(plain["usage"]["completion_tokens_details"]["reasoning_tokens"], 27)
        chunks, _ = self.stream(thinking_token_budget=9, n=3)
        texts = [["", ""] for _ in range(3)]
        for chunk in chunks:
            for choice in chunk["choices"]:
                texts[choice["index"]][0] += choice["delta"].get("reasoning_content", "")
                texts[choice["index"]][1] += choice["delta"].get("content") or ""
        self.assertEqual(texts, [[c["message"]["reasoning_content"], c["message"]["content"]]
                                 for c in plain["choices"]])
        usage, before = chunks[-1]["usage"], plain["usage"]
        for name in ("completion_tokens", "cot_steps", "branches", "dropped_branches", "probe_tokens"):
            self.assertEqual(usage[name], before[name])
        details, guesses = usage["completion_tokens_details"], usage["speculation"].values()
        self.assertEqual(details["reasoning_tokens"], 27)
        self.assertEqual(details["accepted_prediction_tokens"], sum(g["accepted"] for g in guesses))
        self.assertEqual(details["rejected_prediction_tokens"], sum(g["drafted"] - g["accepted"] for g in guesses))
        self.assertEqual(chunks[-1]["decisions"], plain["decisions"])
        self.assertEqual(len(kinds(plain, "close")), 3)
        self.assertEqual((usage["branches"], usage["dropped_branches"]), (3, 0))
        self.assertGreater(usage["flops"], 1e9)
        self.assertGreater(usage["cot_steps"], 0)

    def test_guesses(self):
        """What was written before is guessed, but for where a row more was measured to cost too much."""
        for _ in range(10):
            usage = self.chat(thinking_token_budget=9, n=3)["usage"]
            if usage["completion_tokens_details"]["accepted_prediction_tokens"] > 0:
                return
        self.fail("ten times the same answers, and no guess was right")

    def test_soft(self):
        """Before the budget is used the end comes at a sentence's end, where it isn't too unlikely."""
        def spent(soft_from):
            replies = [self.chat(thinking_token_budget=80, max_tokens=100, seed=seed, effort={
                "soft_from": soft_from, "think_end": " However"}) for seed in range(6)]
            return [r["usage"]["completion_tokens_details"]["reasoning_tokens"] for r in replies]
        soft, hard = spent(0.1), spent(1)
        self.assertLess(sum(soft), sum(hard))
        self.assertTrue(all(a <= b <= 80 for a, b in zip(soft, hard)), (soft, hard))

    def test_last_chunk_without_usage(self):
        _, _, data = self.server.ask("POST", CHAT, ask(thinking_token_budget=3, n=2, stream=True))
        chunks = events(data)
        self.assertEqual([i for i, c in enumerate(chunks) if "decisions" in c], [len(chunks) - 1])
        self.assertEqual(len(chunks[-1]["decisions"]), 2)

    def test_all_names(self):
        plain = self.chat(thinking_token_budget=6)["choices"]
        for more in ({"thinking_budget_tokens": 6}, {"reasoning_budget_tokens": 6}, {"max_thinking_tokens": 6},
                     {"custom_params": {"thinking_budget": 6}}, {"nvext": {"max_thinking_tokens": 6}},
                     {"reasoning": {"max_tokens": 6}}, {"thinking": {"type": "enabled", "budget_tokens": 6}},
                     {"thinking_token_budget": 6, "max_thinking_tokens": 6}):
            with self.subTest(more=more):
                self.assertEqual(self.chat(**more)["choices"], plain)

    def test_other_endpoints(self):
        reply = self.server.post("/v1/responses", {"input": "Why is the sky blue?", "max_output_tokens": 40,
                                                   "thinking_token_budget": 5, "effort": HARD, "store": False})
        self.assertEqual(reply["usage"]["output_tokens_details"]["reasoning_tokens"], 5)
        self.assertEqual([item["type"] for item in reply["output"]], ["reasoning", "message"])
        self.assertEqual(kinds(reply, "close")[0]["token"], 5)
        message = {"messages": HI, "max_tokens": 40, "thinking": {"type": "enabled", "budget_tokens": 5},
                   "effort": HARD}
        reply = self.server.post("/v1/messages", message)
        self.assertEqual(reply["usage"]["reasoning_tokens"], 5)
        self.assertEqual([block["type"] for block in reply["content"]], ["thinking", "text"])
        self.assertEqual(kinds(reply, "close")[0]["token"], 5)
        body = {"prompt": "The sky is", "max_tokens": 30, "thinking_token_budget": 5, "seed": 1}
        reply = self.server.post("/v1/completions", body)
        self.assertEqual(reply["usage"]["completion_tokens_details"]["reasoning_tokens"], 5)
        self.assertIn(END, reply["choices"][0]["text"])
        chunks, _ = self.stream("/v1/completions", body)
        self.assertEqual("".join(c["choices"][0]["text"] for c in chunks if c["choices"]), reply["choices"][0]["text"])
        self.assertEqual(chunks[-1]["decisions"], reply["decisions"])
        two = self.server.post("/v1/completions", {**body, "prompt": ["The sky is", "Salt is"], "n": 2})
        self.assertEqual(two["usage"]["completion_tokens_details"]["reasoning_tokens"], 20)
        self.assertEqual(sorted((d["prompt"], d["branch"]) for d in kinds(two, "close")),
                         [(0, 0), (0, 1), (1, 0), (1, 1)])
        replay = {"replay": two["decisions"]}
        error = self.server.post("/v1/completions", {**body, "prompt": ["The", "Salt"], "effort": replay}, 400)["error"]
        self.assertEqual(error["param"], "effort.replay")
        reply = self.server.post("/completion", {**body, "n_predict": 30, "max_tokens": 30})
        self.assertIn(END, reply["content"])
        self.assertEqual([d["token"] for d in kinds(reply, "close")], [5])
        pair = self.server.post("/generate", {"text": "The sky is", "sampling_params": {
            "n": 2, "max_new_tokens": 30, "custom_params": {"thinking_budget": 5}}})
        self.assertEqual([[d["branch"] for d in kinds(one["meta_info"], "close")] for one in pair], [[0], [1]])

    def test_anthropic_streams(self):
        status, _, data = self.server.ask("POST", "/v1/messages", {
            "messages": HI, "max_tokens": 40, "thinking": {"type": "enabled", "budget_tokens": 5}, "stream": True,
            "effort": HARD})
        self.assertEqual(status, 200)
        delta = next(e for e in events(data) if e["type"] == "message_delta")
        self.assertEqual((delta["usage"]["reasoning_tokens"], delta["decisions"][0]["token"]), (5, 5))

    def test_levels(self):
        spent = []
        for level in ("none", "minimal", "low", "medium", "high", "xhigh", "max"):
            reply = self.chat(reasoning_effort=level, max_tokens=200, ignore_eos=True)
            spent.append(reply["usage"]["completion_tokens_details"]["reasoning_tokens"])
        for level, budget in zip(spent, (0, 128, 150, 150, 150, 150, 200)):     # a quarter stays for the answer
            self.assertTrue(budget - 2 <= level <= budget, spent)   # what may begin the end's mark, does
        self.assertEqual(self.chat(reasoning={"effort": "none"})["choices"],
                         self.chat(reasoning_effort="none")["choices"])
        off = self.chat(thinking={"type": "disabled"})
        self.assertEqual(off["usage"]["completion_tokens_details"]["reasoning_tokens"], 0)

    def test_minimum(self):
        reply = self.chat(effort={"think_end": "e"}, min_thinking_tokens=12, max_tokens=60)
        extends = kinds(reply, "extend")
        self.assertTrue(extends)
        self.assertTrue(all(d["token"] < 12 for d in extends))

    def test_marks_of_the_request(self):
        reply = self.chat(effort={"think_end": "Answer:", "closing": "\nAnswer:"}, thinking_token_budget=8)
        self.assertEqual(reply["usage"]["completion_tokens_details"]["reasoning_tokens"], 8)
        self.assertTrue(reply["choices"][0]["message"]["reasoning_content"])
        self.assertNotIn("Answer:", reply["choices"][0]["message"]["content"])

    def test_with_a_schema(self):
        """An answer of a given form has no thinking."""
        reply = self.chat(thinking_token_budget=8, response_format={"type": "json_schema", "json_schema": {
            "name": "x", "schema": {"enum": ["yes", "no"]}}})
        self.assertIn(json.loads(reply["choices"][0]["message"]["content"]), ("yes", "no"))
        self.assertEqual(reply["usage"]["completion_tokens_details"]["reasoning_tokens"], 0)

    def test_beside_others(self):
        """To the token, and with the same text, whoever else is served."""
        bodies = [ask(thinking_token_budget=i, seed=i, n=1 + i % 3, effort=HARD) for i in range(8)]
        alone = [self.server.post(CHAT, body)["choices"] for body in bodies]
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            again = list(pool.map(lambda body: self.server.post(CHAT, body), bodies * 2))
        self.assertEqual([reply["choices"] for reply in again], alone * 2)
        for i, reply in enumerate(again):
            i %= 8
            self.assertEqual(reply["usage"]["completion_tokens_details"]["reasoning_tokens"], i * (1 + i % 3))


class Refusals(Thinking):
    def refused(self, param, **more):
        error = self.chat(400, **more)["error"]
        self.assertEqual(error["param"], param, error)
        self.assertTrue(error["message"].isascii() and "\n" not in error["message"])
        return error["message"]

    def test_names_that_disagree(self):
        message = self.refused("max_thinking_tokens", thinking_token_budget=5, max_thinking_tokens=6)
        self.assertIn("'thinking_token_budget' is 5", message)
        self.refused("effort.min_thinking", min_thinking_tokens=5, effort={"min_thinking": 6})
        self.refused("reasoning.effort", reasoning_effort="low", reasoning={"effort": "high"})
        self.refused("effort.answer_by_ms", answer_by_ms=5, effort={"answer_by_ms": 6})

    def test_contradictions(self):
        self.refused("reasoning_effort", reasoning_effort="none", thinking_token_budget=5)
        self.refused("reasoning_effort", thinking={"type": "disabled", "budget_tokens": 5})
        self.refused("reasoning_effort", reasoning_effort="none", thinking_token_budget=-1)
        self.refused("best_of", n=3, best_of=2)
        self.assertIn("'best_of', 3", self.refused("effort.deepconf.warmup", best_of=3, effort={
            "deepconf": {"warmup": 4}, "answer_pattern": "line"}))
        self.assertIn("answer_by_ms is 6", self.chat(400, answer_by_ms=6, deadline_ms=5)["error"]["message"])
        self.refused("best_of", best_of=2, effort={"choice": "all"})
        self.refused("n", n=2, best_of=4, effort={"choice": "vote", "answer_pattern": "line"})
        self.assertIn("'thinking_token_budget', 5", self.refused("min_thinking_tokens", thinking_token_budget=5,
                                                                  min_thinking_tokens=6))
        self.refused("min_thinking_tokens", min_thinking_tokens=6, response_format={"type": "json_object"})

    def test_values(self):
        for param, more in (("reasoning_effort", {"reasoning_effort": "huge"}),
                            ("thinking_token_budget", {"thinking_token_budget": -2}),
                            ("thinking_token_budget", {"thinking_token_budget": "all"}),
                            ("answer_by_ms", {"answer_by_ms": -5}), ("deadline_ms", {"deadline_ms": -5}),
                            ("best_of", {"best_of": 1000}), ("effort", {"effort": 5}),
                            ("effort.thinkend", {"effort": {"thinkend": "x"}}),
                            ("effort.probe.all", {"effort": {"probe": {"all": 1}}}),
                            ("effort.think_end", {"effort": {"think_end": ""}}),
                            ("effort.think_end", {"effort": {"think_end": "x" * 500}}),
                            ("effort.choice", {"effort": {"choice": "best"}}),
                            ("effort.consensus", {"effort": {"consensus": 1.5}}),
                            ("reasoning", {"reasoning": "high"}), ("thinking", {"thinking": "disabled"}),
                            ("custom_params", {"custom_params": 5}), ("nvext", {"nvext": [5]}),
                            ("thinking.type", {"thinking": {"type": "disable"}}),
                            ("effort.soft_from", {"effort": {"soft_from": 0}}),
                            ("effort.max_extensions", {"effort": {"max_extensions": 0}}),
                            ("effort.answer_tokens", {"effort": {"answer_tokens": 0}}),
                            ("effort.deepconf.keep", {"effort": {"deepconf": {"keep": 0}}}),
                            ("effort.replay", {"effort": {"replay": {}}}),
                            ("effort.replay", {"effort": {"replay": [{"kind": "x", "token": 1}]}}),
                            ("effort.replay", {"effort": {"replay": [{"kind": "close", "token": -1}]}})):
            with self.subTest(param=param, more=more):
                self.refused(param, **more)

    def test_beyond_the_context(self):
        """A budget that can't be reached is held all the same."""
        reply = self.chat(thinking_token_budget=10 ** 9, max_tokens=10, ignore_eos=True)
        self.assertEqual(reply["usage"]["completion_tokens_details"]["reasoning_tokens"], 10)
        self.assertEqual(kinds(reply), [])
        self.assertIn(f"expected -1 to {2 ** 31 - 1}",
                      self.refused("thinking_token_budget", thinking_token_budget=10 ** 12))

    def test_many_decisions(self):
        self.refused("effort.replay", effort={"replay": [{"kind": "close", "token": 1}] * 16385})

    def test_types(self):
        bad = [None, True, 1, -1, 1.5, 1e300, "x", "", [], [[]], {}, {"a": {}}, [None], [{}], ["x"], "\u0007\u00e9"]
        names = ("think_end", "think_begin", "closing", "extension", "soft_from", "min_thinking", "max_extensions",
                 "answer_by_ms", "answer_tokens", "answer_pattern", "choice", "consensus", "deepconf", "probe",
                 "elastic", "replay")
        fields = [{name: value} for value in bad for name in ("thinking_token_budget", "thinking", "reasoning",
                  "nvext", "custom_params", "min_thinking_tokens", "best_of", "effort", "reasoning_effort")]
        fields += [{"effort": {name: value}} for value in bad for name in names]
        for more in fields:
            status, _, data = self.server.ask("POST", CHAT, ask(**{"max_tokens": 2, **more}))
            self.assertIn(status, (200, 400), (more, data[:200]))


class WithoutMarks(Case):
    model, options = REAL, ("-c", "512", "--log-level", "off")

    def test_a_budget_needs_an_end(self):
        error = self.server.post(CHAT, ask(max_thinking_tokens=5), 400)["error"]
        self.assertEqual(error["param"], "max_thinking_tokens")
        self.assertIn("effort.think_end", error["message"])
        probe = {"probe": {"every": 8}, "answer_pattern": "number"}
        for param, more in (("answer_by_ms", {"answer_by_ms": 500}), ("effort.probe", {"effort": probe}),
                            ("effort.answer_by_ms", {"effort": {"answer_by_ms": 500}}),
                            ("effort.closing", {"effort": {"closing": "so"}}),
                            ("effort.extension", {"effort": {"extension": "Wait"}})):
            error = self.server.post(CHAT, ask(**more), 400)["error"]
            self.assertEqual(error["param"], param)
            self.assertIn("effort.think_end", error["message"])
        reply = self.server.post(CHAT, ask(max_thinking_tokens=5, effort={"think_end": END}))
        self.assertEqual(reply["usage"]["completion_tokens_details"]["reasoning_tokens"], 5)

    def test_what_clients_ask_all_models_for(self):
        plain = self.server.post(CHAT, ask())["choices"]
        self.assertEqual(self.server.post(CHAT, ask(reasoning_effort="low"))["choices"], plain)
        reply = self.server.post("/v1/messages", {"messages": HI, "max_tokens": 4,
                                                  "thinking": {"type": "enabled", "budget_tokens": 1024}})
        self.assertEqual([block["type"] for block in reply["content"]], ["text"])


class Templates(unittest.TestCase):
    """A template of a model that thinks: the prompt opens the thinking."""

    def setUp(self):
        if not REAL.exists():
            self.skipTest(f"{REAL} is missing")
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)

    def start(self, *options):
        path = pathlib.Path(self.folder.name, "template")
        path.write_text("{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
                        "<|im_start|>assistant\n{% if enable_thinking is defined and not enable_thinking %}<think>\n\n"
                        "</think>\n\n{% else %}<think>\n{% endif %}", encoding="utf-8")
        server = Server(REAL, "-c", "512", "--log-level", "off", "--chat-template", path, *options)
        self.addCleanup(server.stop)
        return server

    def spent(self, server, **more):
        reply = server.post(CHAT, ask(**more))
        return reply["usage"]["completion_tokens_details"]["reasoning_tokens"], reply["choices"][0]["message"]

    def test_tags(self):
        server = self.start()
        spent, message = self.spent(server, thinking_token_budget=6)
        self.assertEqual(spent, 6)
        self.assertTrue(message["reasoning_content"] and message["content"])
        for more in ({"reasoning_effort": "none"}, {"chat_template_kwargs": {"enable_thinking": False}}):
            spent, message = self.spent(server, **more)
            self.assertEqual(spent, 0)
            self.assertNotIn("reasoning_content", message)

    def test_defaults_of_the_server(self):
        server = self.start("--thinking-budget", "4")
        self.assertEqual(self.spent(server)[0], 4)
        self.assertEqual(self.spent(server, thinking_token_budget=9)[0], 9)
        self.assertEqual(self.spent(server, thinking_token_budget=-1)[0], 40)
        self.assertEqual(self.spent(server, reasoning_effort="max")[0], 40)
        server = self.start("--reasoning-effort", "none")
        self.assertEqual(self.spent(server)[0], 0)


class Live(Thinking):
    def begin(self, **more):
        """A stream that thinks on and on: its connection, its reply, its id."""
        connection = self.server.connect()
        body = ask(**{"max_tokens": 400, "ignore_eos": True, "stream": True,
                      "stream_options": {"include_usage": True}, **more})
        connection.request("POST", CHAT, json.dumps(body), {"Content-Type": "application/json"})
        reply = connection.getresponse()
        first = json.loads(reply.readline()[6:])
        self.addCleanup(connection.close)
        return reply, first["id"]

    def control(self, name, status=200, **body):
        return self.server.post(f"{REQUESTS}/{name}/control", body, status)

    def wait(self, name, what):
        end = time.monotonic() + 60
        while not what(request := self.server.get(f"{REQUESTS}/{name}")["data"][0]):
            self.assertLess(time.monotonic(), end, request)
            time.sleep(0.005)
        return request

    def wait_for_thoughts(self, name):
        return self.wait(name, lambda r: r["branches"] and r["branches"][0]["thinking_tokens"] > 3)

    def finish(self, reply):
        return events(reply.read())[-1]

    def test_close(self):
        reply, name = self.begin()
        self.wait_for_thoughts(name)
        self.control(name, action="close")
        last = self.finish(reply)
        close, = kinds(last, "close")
        self.assertEqual((close["policy"], close["load_dependent"]), ("control", True))
        self.assertEqual(last["usage"]["completion_tokens_details"]["reasoning_tokens"], close["token"])
        self.assertLess(close["token"], 400)
        again = self.server.post(CHAT, ask(max_tokens=400, ignore_eos=True, effort={"replay": last["decisions"]}))
        self.assertEqual(again["usage"]["completion_tokens_details"]["reasoning_tokens"], close["token"])
        self.assertEqual(again["usage"]["completion_tokens"], last["usage"]["completion_tokens"])

    def test_budget(self):
        reply, name = self.begin()
        request = self.wait_for_thoughts(name)
        self.assertIsNone(request["budget"])
        self.control(request["number"], action="budget", tokens=100)
        self.wait(request["request_id"], lambda r: r["budget"] == 100)
        self.control(request["request_id"], action="budget", tokens=120)
        last = self.finish(reply)
        self.assertEqual(last["usage"]["completion_tokens_details"]["reasoning_tokens"], 120)
        self.assertEqual([d["kind"] for d in kinds(last, "budget", "close")], ["budget", "budget", "close"])

    def test_branches(self):
        reply, name = self.begin(n=3)
        self.wait(name, lambda r: len(r["branches"]) == 3 and all(b["output_tokens"] > 2 for b in r["branches"]))
        self.control(name, action="drop", branch=1)
        request = self.wait(name, lambda r: not r["branches"][1]["live"])
        self.assertEqual(request["branches"][1]["finish_reason"], "dropped")
        self.assertEqual([d["branch"] for d in request["decisions"]], [1])
        self.control(name, 400, action="drop", branch=1)
        self.control(name, 400, action="drop", branch=7)
        self.control(name, action="close")
        last = self.finish(reply)
        self.assertEqual((last["usage"]["branches"], last["usage"]["dropped_branches"]), (3, 1))

    def test_finish(self):
        reply, name = self.begin(n=4)
        self.control(name, 400, action="finish")    # no answer is whole
        self.finish(reply)
        reply, name = self.begin(n=8, ignore_eos=False, thinking_token_budget=2, messages=SUM)
        self.wait(name, lambda r: any(b["finish_reason"] for b in r["branches"]))
        self.control(name, action="finish")
        last = self.finish(reply)
        self.assertEqual([d["policy"] for d in kinds(last, "finish")], ["control"])
        self.assertGreater(last["usage"]["dropped_branches"], 0)

    def test_refused(self):
        self.control("chatcmpl-none", 404, action="close")
        reply, name = self.begin()
        for body in ({}, {"action": "stop"}, {"action": "close", "tokens": 5}, {"action": "budget"},
                     {"action": "extend"}, {"action": "drop"}, {"action": "budget", "tokens": -1},
                     {"action": "finish", "branch": 0}, {"action": "close", "branch": 3}, {"action": 5}):
            with self.subTest(body=body):
                self.control(name, 400, **body)
        self.server.get(f"{REQUESTS}/none", 404)
        self.assertEqual(self.server.ask("POST", f"{REQUESTS}/{name}", {"action": "close"})[0], 404)
        self.control(name, action="close")
        self.finish(reply)

    def test_as_llama_server_has_it(self):
        path = CHAT + "/control"
        self.assertEqual(self.server.post(path, {"id": "chatcmpl-none", "action": "reasoning_end"})["success"], False)
        self.server.post(path, {"action": "reasoning_end"}, 400)
        reply, name = self.begin()
        self.server.post(path, {"id": name, "action": "pause"}, 400)
        self.wait_for_thoughts(name)
        self.assertEqual(self.server.post(path, {"id": name, "action": "reasoning_end"}), {"success": True})
        self.assertLess(self.finish(reply)["usage"]["completion_tokens_details"]["reasoning_tokens"], 400)


class Keys(Case):
    model, options = REAL, ("-c", "512", "--log-level", "off", "--think-end", END, "--api-key", "one", "--api-key",
                            "two")

    def test_each_sees_its_own(self):
        one, two = ({"Authorization": f"Bearer {key}"} for key in ("one", "two"))
        connection = self.server.connect()
        connection.request("POST", CHAT, json.dumps(ask(max_tokens=400, ignore_eos=True, stream=True)), one)
        reply = connection.getresponse()
        name = json.loads(reply.readline()[6:])["id"]
        self.assertEqual([r["id"] for r in self.server.get(REQUESTS, **one)["data"]], [name])
        self.assertEqual(self.server.get(REQUESTS, **two)["data"], [])
        self.server.get(REQUESTS, 401)
        self.server.get(f"{REQUESTS}/{name}", 404, **two)
        path = f"{REQUESTS}/{name}/control"
        self.server.post(path, {"action": "close"}, 404, **two)
        self.server.post(path, {"action": "close"}, **one)
        reply.read()
        connection.close()


class Log(unittest.TestCase):
    @unittest.skipUnless(REAL.exists(), f"{REAL} is missing")
    def test_lines_and_replay(self):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder, "decisions")
            path.write_text('{"of": "before"}\n', encoding="utf-8")
            server = Server(REAL, "-c", "512", "--log-level", "off", "--think-end", END, "--decision-log", path)
            self.addCleanup(server.stop)
            body = {"messages": HI, "max_tokens": 60, "thinking_token_budget": 20}
            reply = server.post(CHAT, body)
            server.post(CHAT, ask(max_tokens=3))    # about this one nothing is decided
            lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
            self.assertEqual([line.get("id") for line in lines], [None, reply["id"]])
            self.assertEqual((lines[1]["decisions"], lines[1]["seed"]), (reply["decisions"], reply["seed"]))
            again = server.post(CHAT, {**body, "seed": lines[1]["seed"], "effort": {"replay": lines[1]["decisions"]}})
            self.assertEqual(again["choices"], reply["choices"])
            self.assertEqual(server.stop(), 0)

    @unittest.skipUnless(REAL.exists(), f"{REAL} is missing")
    def test_behind_a_torn_line(self):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder, "decisions")
            path.write_text('{"of": "befo', encoding="utf-8")
            server = Server(REAL, "-c", "512", "--log-level", "off", "--think-end", END, "--decision-log", path)
            self.addCleanup(server.stop)
            names = [server.post(CHAT, ask(thinking_token_budget=2, max_tokens=4))["id"] for _ in range(2)]
            lines = path.read_text(encoding="utf-8").splitlines()
            self.assertEqual((lines[0], [json.loads(line)["id"] for line in lines[1:]]), ('{"of": "befo', names))

    @unittest.skipUnless(REAL.exists(), f"{REAL} is missing")
    def test_a_full_disk(self):
        """The answers come all the same, and it is said once."""
        server = Server(REAL, "-c", "512", "--log-level", "off", "--think-end", END, "--decision-log", "/dev/full")
        self.addCleanup(server.stop)
        for _ in range(2):
            self.assertEqual(len(server.post(CHAT, ask(thinking_token_budget=2, max_tokens=4))["decisions"]), 1)
        self.assertEqual(server.said().count("decisions are missing there"), 1)

    def test_a_file_that_cannot_be_written(self):
        with self.assertRaisesRegex(AssertionError, "can't be opened"):
            Server(TINY, "--decision-log", "/nonexistent/decisions")


class Options(unittest.TestCase):
    def test_refused(self):
        for options, why in ((("--think-begin", "x"), "needs '--think-end'"), (("--think-end", ""), "has 0 bytes"),
                             (("--reasoning-effort", "huge"), "expected one of"),
                             (("--reasoning-effort", "low", "--thinking-budget", "5"), "one is enough"),
                             (("--thinking-budget", "5"), "needs '--think-end'")):
            with self.subTest(options=options):
                with self.assertRaisesRegex(AssertionError, why):
                    Server(TINY, *options)


@with_clients
class Client(Thinking):
    """The openai package, unchanged."""

    def test_plain_and_streamed(self):
        client = self.server.openai()
        ask_for = {"model": "smollm2", "messages": HI, "max_tokens": 40, "seed": 2, "n": 2,
                   "extra_body": {"thinking_token_budget": 11}}
        reply = client.chat.completions.create(**ask_for)
        self.assertEqual(reply.usage.completion_tokens_details.reasoning_tokens, 22)
        self.assertEqual(len(reply.decisions), 2)
        chunks = list(client.chat.completions.create(**ask_for, stream=True, stream_options={"include_usage": True}))
        self.assertEqual(chunks[-1].usage.completion_tokens_details.reasoning_tokens, 22)
        text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices and c.choices[0].index == 1)
        self.assertEqual(text, reply.choices[1].message.content)

    def test_responses(self):
        client = self.server.openai()
        reply = client.responses.create(model="smollm2", input="Why?", max_output_tokens=30, store=False,
                                        reasoning={"effort": "minimal"})
        self.assertEqual([item.type for item in reply.output], ["reasoning", "message"])
