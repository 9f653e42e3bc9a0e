# SPDX-License-Identifier: Apache-2.0
"""Options of effort: budgets, several answers, votes, what is decided and done again."""
import json
import re

from case import TINY, REAL, Case, Terminal, bobbin, real

END = "Final answer:"
ASK = ("-p", "What is 7 times 8? Think first, then write 'Final answer:' and a number.", "--seed", "7")
THINK = ("--think-end", END)


def drawn(*args, **more):
    return json.loads(bobbin("run", REAL, *ASK, "--json", *args, **more)[0])


def kinds(root):
    return [d["kind"] for d in root["decisions"]]


class Usage(Case):
    def test_refused(self):
        for args, words in (
                (("--thinking-budget", "5"), ("knows no thinking", "--think-end")),
                (("--thinking-budget", "-1"), ("'--thinking-budget'", "from 0 to")),
                (("--reasoning-effort", "huge"), ("'huge'", "minimal", "xhigh")),
                (("--reasoning-effort", "low", "--thinking-budget", "5"), ("one is enough",)),
                (("--think-end", ""), ("empty text",)),
                (("--think-begin", "a"), ("'--think-begin'", "--think-end")),
                (("--soft-from", "0.5"), ("'--soft-from'", "--thinking-budget")),
                (("--max-extensions", "2"), ("'--max-extensions'", "--min-thinking")),
                (("--probe-text", "x"), ("'--probe-text'", "--probe-every")),
                (("--deepconf-keep", "0.5"), ("'--deepconf-keep'", "--deepconf")),
                (("-N", "0"), ("'-N'", "from 1")),
                (("-N", "4", "--best-of", "3"), ("--best-of is 3", "at least the 4")),
                (("--best-of", "3", "--choose", "all"), ("--choose all",)),
                (("-N", "3", "--choose", "vote", "--answer-pattern", "number"), ("a vote gives one answer",)),
                (("--choose", "loudest"), ("'loudest'", "certainty")),
                (("--best-of", "4", "--consensus", "0.4", "--answer-pattern", "number"), ("'--consensus'", "0.5")),
                (("-N", "2", "--trace-state"), ("--trace-state",)),
                (("-N", "2", "--feed", "1"), ("--feed",)),
                (("-N", "2", "-n", "0"), ("at least 1 token",))):
            with self.subTest(" ".join(args)):
                self.sentence(bobbin("run", TINY, "--raw", "-p", "1 2 3", *args, status=2)[1], *words)


    def test_replay_of_what_is_none(self):
        path = self.folder / "replay"
        for text, words in (("{", ("JSON",)), ("{}", ("decisions",)), ('[{"kind": "close"}]', ("decision 0",)),
                            ('[{"kind": "fly", "policy": "x", "branch": 0, "token": 1}]', ("decision 0",))):
            path.write_text(text, encoding="utf-8")
            self.sentence(bobbin("run", TINY, "--raw", "-p", "1", "-n", "2", "--replay", path, status=1)[1], *words)
        self.sentence(bobbin("run", TINY, "--raw", "-p", "1", "--replay", self.folder / "none", status=1)[1], "none")


class Answers(Case):
    def test_several(self):
        args = ("run", TINY, "-p", "1 2 3", "-n", "5", "--seed", "3")
        out, err = bobbin(*args, "-N", "3")
        parts = re.split(r"\n?--- answer (\d) of 3 ---\n", out.decode())
        self.assertEqual(parts[1::2], ["1", "2", "3"])
        self.assertEqual(parts[2], bobbin(*args)[0].decode())
        self.assertNotEqual(parts[2], parts[4])
        self.assertRegex(err.decode(), r"prompt: 3 tokens.*generated: 15 tokens.*seed 3\n.*answers: 3 of 3 drawn")

    def test_json(self):
        args = ("run", TINY, "-p", "1 2 3", "-n", "5", "--seed", "3", "--json")
        root = json.loads(bobbin(*args, "-N", "2", "--logprobs", "1")[0])
        plain = json.loads(bobbin(*args, "--logprobs", "1")[0])
        self.assertEqual((root["text"], root["tokens"], root["finish_reason"]),
                         (plain["text"], plain["tokens"], plain["finish_reason"]))
        self.assertEqual((root["given"], root["completion_tokens"], root["usage"]["branches"]), ([0, 1], 10, 2))
        one, two = root["answers"]
        self.assertEqual((one["index"], one["text"], two["index"]), (0, plain["text"], 1))
        self.assertEqual(one["logprobs"], plain["logprobs"])
        mean = sum(entry["logprob"] for entry in plain["logprobs"]["content"]) / 5
        self.assertAlmostEqual(one["mean_logprob"], mean, 5)
        self.assertEqual(set(root["timings"]), set(plain["timings"]))

    def test_one_is_streamed_as_without(self):
        args = ("run", TINY, "-p", "1 2 3", "-n", "9", "--seed", "3")
        self.assertEqual(bobbin(*args, "-N", "1")[0], bobbin(*args)[0])
        self.assertEqual(bobbin(*args, "--decisions")[0], bobbin(*args)[0])


    def test_interrupt(self):
        with Terminal("run", TINY, "-p", "1 2 3", "-N", "1", "--ignore-eos", "-c", "100000") as t:
            t.wait_some()
            t.send(b"\x03")
            t.wait_for(b"stopped after")
            self.assertEqual(t.status(), 130)


@real
class Thinking(Case):
    def test_budget_is_exact(self):
        for n in (0, 1, 16):
            root = drawn("-n", "60", *THINK, "--thinking-budget", n, "--soft-from", "1", "--ignore-eos")
            self.assertEqual((root["usage"]["reasoning_tokens"], kinds(root)), (n, ["close"]))
            self.assertIn(END, root["text"])

    def test_levels(self):
        none = drawn("-n", "20", *THINK, "--reasoning-effort", "none")
        self.assertEqual(none["usage"]["reasoning_tokens"], 0)
        self.assertEqual(none["tokens"], drawn("-n", "20", *THINK, "--thinking-budget", "0")["tokens"])

    def test_minimum(self):
        root = drawn("-n", "60", *THINK, "--min-thinking", "20", "--temp", "0", "--think-extension", " Hold on")
        for d in root["decisions"]:
            self.assertEqual(d["kind"], "extend")
        self.assertTrue(root["usage"]["reasoning_tokens"] >= 20 or root["finish_reason"] == "stop")

    def test_decisions_are_shown(self):
        args = (*ASK, *THINK, "-n", "30", "--thinking-budget", "8", "--soft-from", "1", "--decisions")
        said = bobbin("run", REAL, *args)[1]
        self.assertRegex(said.decode(), r"(?m)^\[close\] answer 1 at token 8, budget: \S")
        self.assertRegex(said.decode(), r"thinking: 8 tokens; CoT steps: \d")


    def test_chat(self):
        lines = "What is 2 plus 3?\nAnd 4 plus 4?\n/segments\n"
        args = ("chat", REAL, "--temp", "0", "-n", "16", *THINK, "--thinking-budget", "4", "--soft-from", "1")
        out, err = bobbin(*args, stdin=lines)
        self.assertEqual(out.decode().count(END), 2)
        self.assertRegex(err.decode(), r"assistant +\d+ +\d+")
        self.assertEqual(bobbin(*args, stdin=lines)[0], out)

    def test_chat_goes_on_from_one(self):
        self.sentence(bobbin("chat", REAL, "-N", "2", status=2)[1], "one answer", "--best-of")
