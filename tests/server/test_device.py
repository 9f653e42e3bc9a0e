# SPDX-License-Identifier: Apache-2.0
"""The server with its steps on the emulator of CUDA, or on the device that $BOBBIN_TEST_DEVICE names."""
import json
import os
import time
import unittest

from serving import BUILD, Case

DEVICE = os.environ.get("BOBBIN_TEST_DEVICE") or "simt"
LONG = {"prompt": [5, 6, 7], "max_tokens": 50000, "ignore_eos": True}


@unittest.skipUnless((BUILD / f"kernels/cuda/libbobbin_{DEVICE}.so").exists(), f"this build has no device {DEVICE}")
class OnADevice(Case):
    options = ("--device", DEVICE, "--threads", 1, "-c", 60000, "--no-enable-prefix-caching", "--log-level", "off")

    @classmethod
    def setUpClass(cls):
        cls.start = time.monotonic()
        super().setUpClass()

    @classmethod
    def tearDownClass(cls):
        super().tearDownClass()
        if DEVICE == "simt":
            print(f"\n{time.monotonic() - cls.start:.1f} seconds on the emulator")    # as tests/suites reads it

    def stream(self, **more):
        """A connection whose answer has begun."""
        connection = self.server.connect()
        connection.request("POST", "/v1/completions", json.dumps({**LONG, "stream": True, **more}),
                           {"Content-Type": "application/json"})
        reply = connection.getresponse()
        self.assertEqual(reply.status, 200)
        reply.readline()
        return connection, reply

    def test_answers(self):
        """What was asked together, drawn and counted as alone."""
        self.assertIn(DEVICE, self.server.get("/version")["device"])
        body = {"prompt": [9, 8, 7, 6], "max_tokens": 6, "seed": 3, "temperature": 1, "n": 3, "logprobs": 2}
        first = self.server.post("/v1/completions", body)
        connection, reply = self.stream()
        again = self.server.post("/v1/completions", body)
        self.assertEqual([c["logprobs"] for c in again["choices"]], [c["logprobs"] for c in first["choices"]])
        self.assertEqual([c["text"] for c in again["choices"]], [c["text"] for c in first["choices"]])
        self.assertEqual(len({c["text"] for c in first["choices"]}), 3)
        connection.close()
        reply.close()
        self.server.wait_for(lambda v: v["n_requests"] == 0)

    def test_a_client_that_leaves(self):
        """Seen in /v1/loads: its memory is free within a few steps, of which the one that stays counts each."""
        stays = self.stream()
        leaves = self.stream(prompt=list(range(3, 150)))
        self.server.wait_for(lambda v: v["step_rows"] == 2)    # both write
        view = self.server.get("/v1/loads")
        self.assertEqual((view["running"], view["waiting"], view["aside"]), (2, 0, 0))
        self.assertEqual([r["state"] for r in view["requests"]], ["writing"] * 2)
        self.assertEqual([r["prompt_tokens"] for r in view["requests"]], [3, 147])
        self.assertLess(view["requests"][0]["kv_bytes"], view["requests"][1]["kv_bytes"])
        self.assertEqual(view["kv_bytes"], sum(r["kv_bytes"] for r in view["requests"]))
        self.assertGreater(view["step_ms"], 0)
        before = self.server.get("/v1/loads")["requests"][0]["output_tokens"]
        for part in reversed(leaves):
            part.close()
        self.server.wait_for(lambda v: v["n_requests"] == 1)
        view = self.server.get("/v1/loads")
        self.assertEqual(view["kv_bytes"], view["requests"][0]["kv_bytes"])
        self.assertLess(view["requests"][0]["output_tokens"] - before, 30)
        for part in reversed(stays):
            part.close()
        self.server.wait_for(lambda v: v["n_requests"] == 0 and v["kv_bytes"] == 0)
