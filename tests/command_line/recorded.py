# SPDX-License-Identifier: Apache-2.0
"""bench/tasks, bench/traces and bench/replay: tasks are as asked for, a recording that was cut goes on, and what is
made of recorded answers is what the policies' papers say."""
import collections
import json
import math
import pathlib
import random
import subprocess
import sys
import tempfile

from case import BUILD, REAL, ROOT, SECONDS, Case, real

N = 8


def run(*words, status=0):
    done = subprocess.run([*map(str, words)], capture_output=True, timeout=SECONDS, check=False)
    assert done.returncode == status, f"{words}: exit status {done.returncode}\n{done.stderr.decode()[-800:]}"
    return done.stdout.decode()


def tasks(*words):
    return [json.loads(line) for line in run(sys.executable, ROOT / "bench/tasks", *words).splitlines()]


def most_voted(answers):
    """The first answer that has most votes, its votes, and those of the answer that has most of the others."""
    votes = collections.Counter(answers)
    if not votes:
        return None, 0, 0
    first = max(dict.fromkeys(answers), key=votes.get)
    return first, votes.pop(first), max(votes.values(), default=0)


def beta(a, b):
    """Adaptive-Consistency's rule, arXiv:2305.11860, as a sum of whole numbers."""
    return sum(math.comb(a + b + 1, k) for k in range(a + 1)) / 2 ** (a + b + 1)


def settled(answers, threshold):
    """How many of the answers it takes: None has no vote."""
    for n in range(1, len(answers)):
        _, a, b = most_voted([answer for answer in answers[:n] if answer])
        if beta(a, b) >= threshold:
            return n
    return len(answers)


def made_up(rng, name):
    """A recorded task whose answers are few numbers, or none."""
    branches = []
    for _ in range(N):
        answer, n = rng.choice((7, 7, 7, 12, 12, 40, None)), rng.randrange(3, 30)
        branches.append({"text": f"so\nAnswer: {answer}" if answer else "I don't know", "n_tokens": n,
                         "finish": "stop", "logprob": -0.5, "certainty": round(rng.uniform(5, 15), 3),
                         "confidences": [rng.randrange(500, 2500) for _ in range(n)]})
    return {"task": name, "seed": 1, "n_prompt": 9, "branches": branches}


class Tasks(Case):
    def test_the_same_seed_gives_the_same_tasks(self):
        first = tasks()
        self.assertEqual(first, tasks("--seed", 1))
        self.assertNotEqual(first, tasks("--seed", 2))
        self.assertEqual(len(first), 400)
        self.assertEqual(len({t["messages"][-1]["content"] for t in first}), 400)
        self.assertEqual({t["kind"] for t in first}, {"arithmetic", "word", "logic"})

    def test_families_are_chosen_by_name(self):
        self.assertEqual([t["family"] for t in tasks("--tasks", 5, "--families", "sum,days")],
                         ["sum"] * 3 + ["days"] * 2)


class Replay(Case):
    def setUp(self):
        rng = random.Random(4)
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.listed, self.traces = (pathlib.Path(folder.name) / name for name in ("tasks", "traces"))
        self.recorded = [made_up(rng, f"t-{i}") for i in range(40)]
        self.listed.write_text("".join(json.dumps({"task": t["task"], "family": "made up", "answer": "7"}) + "\n"
                                       for t in self.recorded))
        self.traces.write_text('{"model":"none"}\n' + "".join(json.dumps(t) + "\n" for t in self.recorded))

    def play(self):
        lines = [json.loads(line) for line in run(BUILD / "bench/replay", self.listed, self.traces).splitlines()]
        return lines[:len(self.recorded)], lines[len(self.recorded):]

    def answers(self, t):
        return [b["text"].rpartition("Answer: ")[2] if "Answer" in b["text"] else None for b in t["branches"]]

    def test_votes_consensus_and_certainty_are_what_they_are_by_definition(self):
        played, _ = self.play()
        n_drawn = collections.Counter()
        for t, p in zip(self.recorded, played):
            answers, tokens = self.answers(t), [b["n_tokens"] for b in t["branches"]]
            for n in range(1, N + 1):
                given, _, _ = most_voted([a for a in answers[:n] if a])
                self.assertEqual(p["vote"][n - 1][:3], [given == "7", sum(tokens[:n]), n])
                voters = [i for i in range(n) if answers[i]] or list(range(n))
                self.assertEqual(p["certainty"][n - 1][3], max(voters, key=lambda i: t["branches"][i]["certainty"])
                                 if any(answers[:n]) else p["certainty"][n - 1][3])
            for threshold, (right, spent, n, _) in p["consensus"].items():
                self.assertEqual(n, settled(answers, float(threshold)))
                self.assertEqual([right, spent], p["vote"][n - 1][:2])
                n_drawn[threshold] += n
        self.assertLess(n_drawn["0.7"], n_drawn["0.9"])
        self.assertLess(n_drawn["0.9"], n_drawn["0.99"])

    def test_deepconf_spends_no_more_than_all_and_at_least_its_warm_up(self):
        played, _ = self.play()
        n_less = 0
        for t, p in zip(self.recorded, played):
            tokens = [b["n_tokens"] for b in t["branches"]]
            for name, (_, spent, n, _) in p["deepconf"].items():
                n_warmup = int(name.split(",")[0].split()[1])
                self.assertTrue(sum(tokens[:n_warmup]) <= spent <= sum(tokens[:n]), (name, spent, n))
                n_less += spent < sum(tokens[:n])
        self.assertGreater(n_less, 0)  # some are dropped before their end

    def test_water_filling_spends_no_more_than_equal_shares(self):
        _, budgets = self.play()
        self.assertEqual([b["budget"] for b in budgets], list(range(1, N)))
        for b in budgets:
            equal, filled = (sum(task[1] for task in b[part]) for part in ("equal", "filled"))
            self.assertLessEqual(filled, equal * (1 + 1e-6))
            self.assertTrue(all(abs(task[2] - b["budget"]) < 1e-6 for task in b["equal"]))

    def test_a_task_that_is_not_listed_is_refused(self):
        self.listed.write_text('{"task": "other", "family": "made up", "answer": "7"}\n')
        run(BUILD / "bench/replay", self.listed, self.traces, status=1)


@real
class Traces(Case):
    def test_a_recording_that_was_cut_goes_on(self):
        with tempfile.TemporaryDirectory() as name:
            listed, out = pathlib.Path(name) / "tasks", pathlib.Path(name) / "traces"
            listed.write_text("".join(json.dumps(t) + "\n" for t in tasks("--tasks", 2, "--families", "product,truth")))
            words = (BUILD / "bench/traces", REAL, listed, out, 2, 6)
            run(*words)
            whole = out.read_bytes()
            lines = whole.splitlines(keepends=True)
            self.assertEqual(len(lines), 3)
            out.write_bytes(b"".join(lines[:2]) + lines[2][:40])
            run(*words)
            self.assertEqual(out.read_bytes(), whole)
            for line in lines[1:]:
                for branch in json.loads(line)["branches"]:
                    self.assertEqual(len(branch["confidences"]), branch["n_tokens"])
                    self.assertGreater(branch["certainty"], 0)
            run(*words[:-1], 7, status=1)  # other settings than those in the file
