# SPDX-License-Identifier: Apache-2.0
"""Embeddings beside answers: the scheduler reads their texts in the steps of all others."""
import base64
import concurrent.futures
import json
import struct
import time
import unittest

from serving import TINY, Case, Server, chat


def text(i, n=40):
    return [(i * 31 + 7 * k * k + k) % 199 for k in range(n)]


class Embeddings(Case):
    model, options = TINY, ("--log-level", "off")

    def embed(self, status=200, **body):
        reply = self.server.post("/v1/embeddings", body, status)
        return [item["embedding"] for item in reply["data"]] if status == 200 else reply["error"]

    def test_many_are_what_each_is_alone(self):
        texts = [text(i, 1 + 13 * i % 90) for i in range(70)]
        many = self.server.post("/v1/embeddings", {"input": texts})
        self.assertEqual([item["index"] for item in many["data"]], list(range(70)))
        self.assertEqual(many["usage"]["prompt_tokens"], sum(map(len, texts)))
        for i in (0, 17, 69):
            self.assertEqual(self.embed(input=texts[i]), [many["data"][i]["embedding"]])
        for vector in (item["embedding"] for item in many["data"]):
            self.assertAlmostEqual(sum(x * x for x in vector), 1, places=4)

    def test_forms(self):
        vector, = self.embed(input=text(1))
        packed = base64.b64decode(self.embed(input=text(1), encoding_format="base64")[0])
        self.assertEqual(packed, struct.pack(f"<{len(vector)}f", *vector))
        short, = self.embed(input=text(1), dimensions=5)
        length = sum(x * x for x in vector[:5]) ** 0.5
        for got, want in zip(short, vector):
            self.assertAlmostEqual(got, want / length, places=5)
        self.assertEqual(self.embed(input=text(1), priority=-3, cache_salt="x"), [vector])

    def test_as_long_as_a_context(self):
        self.assertEqual(len(self.embed(input=text(1, 512))), 1)
        error = self.embed(400, input=text(1, 513))
        self.assertEqual(error["code"], "context_length_exceeded")
        self.assertIn("'input'", self.embed(400, input=[text(1), []])["message"])
        self.assertIn("2048", self.embed(400, input=[[1]] * 2049)["message"])

    def test_beside_answers(self):
        """All at once: the bits are those of each alone."""
        def ask(i):
            if i % 2:
                return self.embed(input=[text(i, 90), text(i + 1, 60)])
            return self.server.post("/v1/completions", {"prompt": text(i), "max_tokens": 30, "logprobs": 2,
                                                        "seed": i, "ignore_eos": True})["choices"]
        alone = [ask(i) for i in range(12)]
        with concurrent.futures.ThreadPoolExecutor(12) as pool:
            self.assertEqual(list(pool.map(ask, range(12))), alone)

    def test_who_leaves_is_forgotten(self):
        connection = self.server.connect()
        connection.request("POST", "/v1/embeddings", json.dumps({"input": [text(i, 500) for i in range(1000)]}),
                           {"Content-Type": "application/json"})
        self.server.wait_for(lambda loads: loads["running"] > 0)
        connection.sock.close()
        connection.close()
        self.server.wait_for(lambda loads: loads["running"] + loads["waiting"] == 0, 20)


class Queue(unittest.TestCase):
    def test_a_long_list_leaves_room_in_a_short_queue(self):
        server = Server(TINY, "--log-level", "off", "--max-queue", "4")
        self.addCleanup(server.stop)
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            many = pool.submit(server.post, "/v1/embeddings", {"input": [text(i, 300) for i in range(200)]})
            time.sleep(0.05)
            while not many.done():
                server.post("/v1/chat/completions", chat(max_tokens=2))
            self.assertEqual(len(many.result()["data"]), 200)
