# SPDX-License-Identifier: Apache-2.0
"""Options of effort: budgets, several answers, votes, what is decided and done again."""
import json
import re
import subprocess

from case import BOBBIN, ROOT, TINY, REAL, Case, Terminal, bobbin, real

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

    def test_what_the_engine_refuses(self):
        for args, words in (
                (("--best-of", "4", "--choose", "vote"), ("--answer-pattern",)),    # of what?
                (("--thinking-budget", "5", "--min-thinking", "9", *THINK),
                 ("--min-thinking is 9", "--thinking-budget, 5")),
                (("-n", "5", "--min-thinking", "9", *THINK), ("--min-thinking is 9", "-n, 5")),
                (("--best-of", "3", "--deepconf", "4", "--answer-pattern", "number"),
                 ("--deepconf is 4", "--best-of, 3")),
                (("--consensus", "0.9", "--answer-pattern", "number"), ("--consensus of 1", "--best-of of 2"))):
            with self.subTest(" ".join(args)):
                self.sentence(bobbin("run", TINY, "--raw", "-p", "1 2 3", *args, status=2)[1], *words)

    def test_pattern(self):
        args = ("run", TINY, "--raw", "-p", "1 2", "--best-of", "3", "--choose", "vote", "--answer-pattern", "(")
        self.sentence(bobbin(*args, status=1)[1], "pattern")

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

    def test_best_is_the_surest(self):
        root = json.loads(bobbin("run", TINY, "-p", "1 2 3", "-n", "12", "--seed", "3", "--best-of", "5", "--json")[0])
        sure = {a["index"]: a["mean_certainty"] for a in root["answers"]}
        self.assertEqual((len(sure), len(set(sure.values()))), (5, 5))
        self.assertEqual(root["given"], [max(sure, key=sure.get)])
        self.assertEqual(root["text"], root["answers"][root["given"][0]]["text"])
        two = json.loads(bobbin("run", TINY, "-p", "1 2 3", "-n", "12", "--seed", "3", "--best-of", "5", "-N", "2",
                                "--json")[0])
        self.assertEqual(two["given"], sorted(sure, key=sure.get, reverse=True)[:2])

    def test_chat(self):
        """The seed of a turn draws the same as without; parts of the last turn are known."""
        args, lines = ("chat", TINY, "-n", "6", "--seed", "1"), "1 2 3\n4 5\n/segments\n/clear\n/segments\n"
        out, err = bobbin(*args, stdin=lines)
        effort_out, effort_err = bobbin(*args, "-N", "1", stdin=lines)
        self.assertEqual(effort_out, out)
        self.assertEqual(re.findall(r"(?m)^ +\d+ .*", effort_err.decode()), re.findall(r"(?m)^ +\d+ .*", err.decode()))
        self.assertIn(b"the context is empty", effort_err)

    def test_chat_interrupted(self):
        with Terminal("chat", TINY, "--seed", "1", "--ignore-eos", "-c", "2000000", "-N", "1") as t:
            t.wait_for(b"> ")
            t.send(b"1 2\n")
            t.wait_for(b"1 2\r\n")
            t.wait_some()
            t.send(b"\x03")
            t.wait_for(b"> ")
            t.wait_until_edited()
            t.send(b"\x04")
            self.assertEqual(t.status(), 0)

    def test_catastrophic_pattern(self):
        """It matches nothing within its limits: there is no vote."""
        args = ("run", TINY, "-p", "1 2 3", "-n", "200", "--ignore-eos", "--seed", "3", "--best-of", "3")
        root = json.loads(bobbin(*args, "--choose", "vote", "--answer-pattern", "(( ?\\d+)+)+x", "--json")[0])
        self.assertEqual((root["votes"], root["given"]), ([], [0]))

    def test_interrupt(self):
        with Terminal("run", TINY, "-p", "1 2 3", "-N", "1", "--ignore-eos", "-c", "100000") as t:
            t.wait_some()
            t.send(b"\x03")
            t.wait_for(b"stopped after")
            self.assertEqual(t.status(), 130)


@real
class Guide(Case):
    def test_commands(self):
        """Those of docs/effort.md, as they stand there."""
        text = (ROOT / "docs/effort.md").read_text(encoding="utf-8")
        blocks = [b for b in re.findall(r"(?m)^```sh\n(.*?)^```$", text, re.S | re.M) if "bobbin run" in b]
        self.assertEqual(len(blocks), 2)
        for block in blocks:
            script = block.replace("bobbin run model.gguf", f"'{BOBBIN}' run '{REAL}'")
            done = subprocess.run(["bash", "-euc", script], capture_output=True, text=True, check=False, timeout=240,
                                  cwd=self.folder)
            self.assertEqual(done.returncode, 0, done.stderr)
        then = json.loads((self.folder / "then.json").read_text(encoding="utf-8"))
        self.assertEqual(done.stdout, then["text"])


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

    def test_replay_of_a_deadline(self):
        endless = ("--think-end", "THE END", "-n", "400", "--ignore-eos")
        root = drawn(*endless, "--answer-by-ms", "200", "--answer-tokens", "8")
        close = [d for d in root["decisions"] if d["kind"] == "close"]
        self.assertEqual([d["load_dependent"] for d in close], [True])
        path = self.folder / "then.json"
        path.write_text(json.dumps(root), encoding="utf-8")
        again = drawn(*endless, "--replay", path)
        self.assertEqual(again["tokens"], root["tokens"])

    def test_vote_that_is_settled(self):
        """Equal answers settle a vote at 0.95 when four are there."""
        args = (*THINK, "--thinking-budget", "12", "-n", "24", "--temp", "0", "--answer-pattern", "number")
        root = drawn(*args, "--best-of", "16", "--consensus", "0.95")
        self.assertEqual(root["usage"]["branches"], 4)
        self.assertEqual(len({a["text"] for a in root["answers"]}), 1)
        self.assertEqual(kinds(root)[-1], "choose")
        vote, = root["votes"]
        self.assertEqual((vote["votes"], vote["weight"]), (4, 4))
        self.assertEqual({a["answer"] for a in root["answers"]}, {vote["answer"]})
        self.assertEqual(root["given"], [0])

    def test_deepconf(self):
        root = drawn("-n", "48", "--temp", "1.2", "--answer-pattern", "number", "--best-of", "8", "--deepconf", "3",
                     "--deepconf-group", "8", "--deepconf-keep", "0.1", "--ignore-eos")
        dropped = [a["index"] for a in root["answers"] if a["finish_reason"] == "dropped"]
        self.assertEqual((len(dropped), kinds(root).count("drop")), (root["usage"]["dropped_branches"],) * 2)
        self.assertNotIn(root["given"][0], dropped)

    def test_probes_leave_nothing(self):
        args = (*THINK, "-n", "64", "--temp", "0", "--ignore-eos")
        root = drawn(*args, "--probe-every", "8", "--probe-stable", "2", "--answer-pattern", "number")
        self.assertIn("probe", kinds(root))
        self.assertGreater(root["usage"]["probe_tokens"], 0)
        plain = drawn(*args, "-N", "1")["tokens"]
        closed = [d["token"] for d in root["decisions"] if d["kind"] == "close"]
        n = closed[0] if closed else len(plain)
        self.assertEqual(root["tokens"][:n], plain[:n])

    def test_chat(self):
        lines = "What is 2 plus 3?\nAnd 4 plus 4?\n/segments\n"
        args = ("chat", REAL, "--temp", "0", "-n", "16", *THINK, "--thinking-budget", "4", "--soft-from", "1")
        out, err = bobbin(*args, stdin=lines)
        self.assertEqual(out.decode().count(END), 2)
        self.assertRegex(err.decode(), r"assistant +\d+ +\d+")
        self.assertEqual(bobbin(*args, stdin=lines)[0], out)

    def test_chat_goes_on_from_one(self):
        self.sentence(bobbin("chat", REAL, "-N", "2", status=2)[1], "one answer", "--best-of")
        out, _ = bobbin("chat", REAL, "--temp", "0.8", "--seed", "1", "-n", "8", "--best-of", "3", stdin="Hello\n")
        self.assertTrue(out.strip())
