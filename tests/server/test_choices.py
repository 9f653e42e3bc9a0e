# SPDX-License-Identifier: Apache-2.0
"""Answers of which some are chosen, by certainty or by votes; thinking that the clock closes."""
import json
import tempfile
import pathlib
import time
import unittest

from serving import REAL, TINY, Server, with_clients
from test_effort import CHAT, END, HI, REQUESTS, SUM, Thinking as Base, ask, events, kinds


class Choices(Base):
    more = {"thinking_token_budget": 4, "messages": SUM, "max_tokens": 24}

    def test_best_of(self):
        every = self.chat(n=6, **self.more)
        texts = [choice["message"] for choice in every["choices"]]
        reply = self.chat(n=2, best_of=6, **self.more)
        chosen = [d["branch"] for d in kinds(reply, "choose")]
        self.assertEqual(len(set(chosen)), 2)
        self.assertEqual([choice["message"] for choice in reply["choices"]], [texts[b] for b in chosen])
        self.assertEqual([choice["index"] for choice in reply["choices"]], [0, 1])
        self.assertEqual(reply["usage"]["completion_tokens"], every["usage"]["completion_tokens"])
        self.assertEqual(reply["usage"]["branches"], 6)
        values = [d["value"] for d in kinds(reply, "choose")]
        self.assertEqual(values, sorted(values, reverse=True))

    def test_streamed(self):
        body = {"n": 2, "best_of": 4, "logprobs": True, "return_token_ids": True, **self.more}
        plain = self.chat(**body)
        chunks, _ = self.stream(**body)
        for i, choice in enumerate(plain["choices"]):
            mine = [c["choices"][0] for c in chunks if c["choices"] and c["choices"][0]["index"] == i]
            self.assertEqual("".join(c["delta"].get("content") or "" for c in mine), choice["message"]["content"])
            self.assertEqual("".join(c["delta"].get("reasoning_content", "") for c in mine),
                             choice["message"].get("reasoning_content", ""))
            self.assertEqual([e for c in mine for e in (c["logprobs"] or {}).get("content", [])],
                             choice["logprobs"]["content"])
            self.assertEqual([t for c in mine for t in c.get("token_ids", [])], choice["token_ids"])
            self.assertEqual(mine[-1]["finish_reason"], choice["finish_reason"])
        self.assertEqual(chunks[-1]["decisions"], plain["decisions"])

    def test_completions(self):
        body = {"prompt": ["2 + 2 =", "3 + 4 ="], "max_tokens": 6, "seed": 3, "n": 1, "best_of": 3, "logprobs": 1}
        plain = self.server.post("/v1/completions", body)
        every = self.server.post("/v1/completions", {**body, "n": 3})["choices"]
        chosen = [(d["prompt"], d["branch"]) for d in kinds(plain, "choose")]
        self.assertEqual([p for p, _ in chosen], [0, 1])
        self.assertEqual([c["text"] for c in plain["choices"]], [every[3 * p + b]["text"] for p, b in chosen])
        self.assertEqual([c["index"] for c in plain["choices"]], [0, 1])
        chunks, _ = self.stream("/v1/completions", body)
        told = sorted((c["choices"][0] for c in chunks if c["choices"]), key=lambda c: c["index"])
        self.assertEqual(told, plain["choices"])

    def test_vote(self):
        effort = {"choice": "vote", "answer_pattern": "number"}
        reply = self.chat(best_of=7, effort=effort, **self.more)
        choose, = kinds(reply, "choose")
        self.assertEqual(len(reply["choices"]), 1)
        votes = [vote["answer"] for vote in reply["votes"]]
        most = max(votes, key=votes.count)
        first = next(vote["branch"] for vote in reply["votes"] if vote["answer"] == most)
        if votes.count(most) > max(votes.count(other) for other in {*votes, None} - {most}):
            self.assertEqual(choose["branch"], first)
        every = [choice["message"] for choice in self.chat(n=7, **self.more)["choices"]]
        self.assertEqual(reply["choices"][0]["message"], every[choose["branch"]])
        for path, body in (("/v1/responses", {"input": "What is 2 + 2?", "max_output_tokens": 20}),
                           ("/v1/messages", {"messages": SUM, "max_tokens": 20})):
            both = {**body, "best_of": 3, "seed": 2, "effort": effort, "thinking_token_budget": 2}
            plain = self.server.post(path, both)
            self.assertEqual(len(kinds(plain, "choose")), 1)
            _, _, data = self.server.ask("POST", path, {**both, "stream": True})
            text = "".join(e.get("delta", {}).get("text", "") if isinstance(e.get("delta"), dict) else
                           e["delta"] if e["type"] == "response.output_text.delta" else "" for e in events(data))
            blocks = plain.get("content") or [p for item in plain["output"] for p in item.get("content", [])]
            self.assertEqual(text, "".join(b["text"] for b in blocks if b["type"] in ("text", "output_text")))

    def test_consensus(self):
        effort = {"answer_pattern": r"(4)", "consensus": 0.8}
        reply = self.chat(best_of=16, effort=effort, **{**self.more, "temperature": 0})
        self.assertLess(reply["usage"]["branches"], 16)
        self.assertTrue(kinds(reply, "choose"))

    def test_a_pattern_that_never_matches(self):
        reply = self.chat(best_of=4, effort={"choice": "vote", "answer_pattern": "zzz never"}, **self.more)
        self.assertEqual(len(reply["choices"]), 1)
        self.assertTrue(reply["choices"][0]["message"]["content"])

    def test_a_catastrophic_pattern(self):
        start = time.monotonic()
        reply = self.chat(best_of=3, effort={"choice": "vote", "answer_pattern": "((.+)+)+\\1zzz"}, **self.more)
        self.assertEqual(len(reply["choices"]), 1)
        self.assertLess(time.monotonic() - start, 60)

    def test_leaving(self):
        """In the middle of 16 branches: all of it is free in the next step."""
        connection = self.server.connect()
        connection.request("POST", CHAT, json.dumps(ask(best_of=16, max_tokens=400, ignore_eos=True, stream=True)))
        end = time.monotonic() + 60
        while not any(len(r["branches"]) == 16 and all(b["output_tokens"] > 1 for b in r["branches"])
                      for r in self.server.get(REQUESTS)["data"]):
            self.assertLess(time.monotonic(), end)
            time.sleep(0.005)
        connection.close()
        self.server.wait_for(lambda loads: loads["n_requests"] == 0)
        self.assertEqual(self.server.get(REQUESTS)["data"], [])

    def test_comments_meanwhile(self):
        """One in ten seconds at least, in which tokens come all the time that aren't told yet."""
        connection = self.server.connect()
        start = time.monotonic()
        connection.request("POST", CHAT, json.dumps(ask(best_of=32, max_tokens=450, ignore_eos=True, stream=True)))
        reply = connection.getresponse()
        lines, silent = [], start
        while line := reply.readline():
            self.assertLess(time.monotonic() - silent, 15)
            silent = time.monotonic()
            lines.append(line)
        connection.close()
        self.assertEqual(lines[-2], b"data: [DONE]\n")
        self.assertEqual({line.split(b" ")[0] for line in lines if line.strip()} - {b":"}, {b"data:"})
        took = time.monotonic() - start
        if b": waiting\n" in lines:
            self.assertGreater(took, 9)
        else:
            self.assertLess(took, 11)

    def test_refused(self):
        for param, more in (("answer_pattern", {"best_of": 2, "effort": {"choice": "vote", "answer_pattern": "(("}}),
                            ("consensus", {"best_of": 2, "effort": {"consensus": 0.3, "answer_pattern": "line"}}),
                            ("answer_pattern", {"best_of": 2, "effort": {"choice": "vote"}}),
                            ("deepconf.warmup", {"best_of": 4, "effort": {"deepconf": {"warmup": 9},
                                                                          "answer_pattern": "line"}})):
            with self.subTest(more=more):
                error = self.chat(400, **more)["error"]
                self.assertEqual(error["param"], "effort." + param, error)
                self.assertTrue(error["message"].isascii())

    def test_a_deadline(self):
        """What is whole then is chosen among, or what there is."""
        for more in ({}, {"stream": True}):
            status, _, data = self.server.ask("POST", CHAT, ask(best_of=4, max_tokens=450, ignore_eos=True,
                                                                deadline_ms=150, **more))
            self.assertEqual(status, 200)
            chunks = events(data) or [json.loads(data)]
            self.assertEqual([c["finish_reason"] for chunk in chunks for c in chunk["choices"] if c["finish_reason"]],
                             ["abort"])

    @with_clients
    def test_by_the_client(self):
        reply = self.server.openai().completions.create(model="smollm2", prompt="2 + 2 =", max_tokens=6, best_of=4, n=2)
        self.assertEqual(len(reply.choices), 2)
        self.assertEqual(reply.usage.completion_tokens, 24)


class Clock(Base):
    def test_answer_by(self):
        """There is no time left to think."""
        reply = self.chat(answer_by_ms=1, max_tokens=60)
        close, = kinds(reply, "close")
        self.assertEqual((close["policy"], close["load_dependent"]), ("deadline", True))
        self.assertLess(close["token"], 60)
        again = self.chat(max_tokens=60, effort={"replay": reply["decisions"]})
        self.assertEqual(again["choices"], reply["choices"])

    def test_logged_and_replayed(self):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder, "decisions")
            server = Server(REAL, "-c", "512", "--log-level", "off", "--think-end", END, "--decision-log", path)
            self.addCleanup(server.stop)
            body = {"messages": HI, "max_tokens": 200, "ignore_eos": True, "answer_by_ms": 300, "n": 2}
            reply = server.post(CHAT, body)
            line, = (json.loads(text) for text in path.read_text(encoding="utf-8").splitlines())
            self.assertEqual(line["decisions"], reply["decisions"])
            self.assertEqual({d["policy"] for d in line["decisions"]}, {"deadline"})
            again = server.post(CHAT, {**body, "seed": line["seed"], "effort": {"replay": line["decisions"]}})
            self.assertEqual(again["choices"], reply["choices"])
            self.assertEqual(server.stop(), 0)


class Pattern(unittest.TestCase):
    def test_of_the_server(self):
        with self.assertRaisesRegex(AssertionError, "pattern"):
            Server(TINY, "--answer-pattern", "((")
