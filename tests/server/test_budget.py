# SPDX-License-Identifier: Apache-2.0
"""A compute budget: held, shared among keys by their weights, told in the metrics."""
import json
import pathlib
import subprocess
import tempfile
import threading
import time
import unittest

from serving import BOBBIN, REAL, SECONDS, TINY, Server

RATE = 400


def with_keys(text, *options):
    with tempfile.NamedTemporaryFile("w", suffix=".keys") as file:
        file.write(text)
        file.flush()
        return Server(TINY, "--api-key-file", file.name, "-c", "100000", "--kv-cache-bytes", "0", *options)


class Stream(threading.Thread):
    """Reads an endless answer, counting its tokens, until it is told to leave."""

    def __init__(self, server, key, max_tokens=90000):
        super().__init__(daemon=True)
        self.server, self.key, self.max_tokens, self.n, self.leaves = server, key, max_tokens, 0, False
        self.start()

    def run(self):
        connection = self.server.connect()
        connection.request("POST", "/v1/completions", json.dumps(
            {"prompt": [1, 2, 3], "max_tokens": self.max_tokens, "ignore_eos": True, "stream": True}),
            {"Content-Type": "application/json", "Authorization": f"Bearer {self.key}"})
        reply = connection.getresponse()
        while not self.leaves and (line := reply.readline()):
            self.n += line.startswith(b'data: {"')
        connection.close()


class Budget(unittest.TestCase):
    def setUp(self):
        self.server = with_keys("light\n\nheavy weight=3\r\n", "--compute-budget", f"{RATE}/s", "--log-level", "off")
        self.addCleanup(self.server.stop)

    def metric(self, name):
        _, _, data = self.server.ask("GET", "/metrics", Authorization="Bearer light")
        return next(float(line.split()[1]) for line in data.decode().splitlines() if line.startswith(name + " "))

    def test_keys_share_it_by_weight(self):
        start, before = time.monotonic(), self.metric("bobbin_compute_spent_total")
        self.assertEqual(self.metric("bobbin_compute_held"), 0)
        streams = [Stream(self.server, key) for key in ("light", "heavy") for _ in range(6)]
        time.sleep(2.5)     # what was saved up is spent
        counts = [stream.n for stream in streams]
        self.assertGreater(self.metric("bobbin_compute_held"), 0)
        time.sleep(4)
        gained = [stream.n - count for stream, count in zip(streams, counts)]
        spent = self.metric("bobbin_compute_spent_total") - before
        passed = time.monotonic() - start
        for stream in streams:
            stream.leaves = True
        light, heavy = sum(gained[:6]), sum(gained[6:])
        self.assertGreater(light, 4 * RATE / 4 * 0.7)
        self.assertAlmostEqual(heavy / light, 3, delta=0.45)
        self.assertLessEqual(spent, RATE * (passed + 1))
        self.assertGreater(spent, RATE * (passed - 1))
        self.assertGreater(self.metric("bobbin_compute_held_seconds_total"), 3)

    def test_a_key_is_what_stands_before_its_weight(self):
        for key, status in (("light", 200), ("heavy", 200), ("heavy weight=3", 401), ("weight=3", 401)):
            self.assertEqual(self.server.ask("GET", "/v1/models", Authorization=f"Bearer {key}")[0], status, key)


@unittest.skipUnless(REAL.exists(), f"{REAL} is missing")
class Elastic(unittest.TestCase):
    """Of a small budget: who is elastic thinks less while others wait, and as much as it may while nobody does."""

    def setUp(self):
        self.server = Server(REAL, "--think-end", "</think>", "--compute-budget", "20", "-c", "512", "--log-level",
                             "off")
        self.addCleanup(self.server.stop)

    def ask(self, **effort):
        return self.server.post("/v1/chat/completions", {
            "messages": [{"role": "user", "content": "Why is the sky blue?"}], "max_tokens": 40, "seed": 5,
            "priority": -1, "temperature": 0.8, "return_token_ids": True, "effort": {"elastic": True, **effort}})

    def test_gives_way(self):
        alone = self.ask()
        self.assertEqual(alone["usage"]["completion_tokens_details"]["reasoning_tokens"], 40)
        streams = [Stream(self.server, "", 400) for _ in range(8)]
        self.server.wait_for(lambda loads: loads["running"] + loads["waiting"] == 8)
        crowded = self.ask()
        for stream in streams:
            stream.leaves = True
        close, = crowded["decisions"]
        self.assertEqual((close["kind"], close["policy"], close["load_dependent"]), ("close", "allot", True))
        self.assertLess(close["value"], close["bar"])
        self.assertEqual(crowded["usage"]["completion_tokens_details"]["reasoning_tokens"], close["token"])
        self.assertEqual(self.ask(replay=crowded["decisions"])["choices"], crowded["choices"])


class Refused(unittest.TestCase):
    def refuse(self, status, words, *options):
        done = subprocess.run([BOBBIN, "serve", TINY, "--port", "0", *options], capture_output=True, check=False,
                              timeout=SECONDS)
        self.assertEqual(done.returncode, status, done.stderr)
        self.assertIn(words, done.stderr.decode())

    def test_budgets(self):
        for budget in ("0", "-3", "many", "nan", "inf", "5/min", "", "3 s", "3 flops s", "flops"):
            self.refuse(2, f"option '--compute-budget' is '{budget}'", "--compute-budget", budget)

    def test_weights(self):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "keys"
            for weight in ("0", "-1", "x", "", "1x", "inf"):
                path.write_text(f"secret weight={weight}\n", encoding="utf-8")
                self.refuse(1, f"a key's weight is '{weight}', expected a number above 0", "--api-key-file", str(path))
            for line in ("secret wieght=2", "secret weight=2 3", "secret # mine"):
                path.write_text(f"other \n\n{line}\n", encoding="utf-8")
                self.refuse(1, "line 3 has a blank, expected a key", "--api-key-file", str(path))
