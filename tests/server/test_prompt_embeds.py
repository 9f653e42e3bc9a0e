# SPDX-License-Identifier: Apache-2.0
"""Prompts that come as embeddings, as vLLM's clients send them: base64 of a file of torch.save."""
import base64
import io
import json
import pathlib
import struct
import subprocess
import tempfile
import time
import unittest
import zipfile

from serving import BOBBIN, REAL, ROOT, SECONDS, TINY, Case, Server, openai, with_clients

FILES = ROOT / "tests/data/tensors"


def number(n):
    return b"K" + bytes([n]) if n < 256 else b"J" + struct.pack("<i", n)


def tensor(rows, shape=None, kind="Float", change=None):
    """What torch.save writes of float32 rows, bytes of them, of this shape."""
    n = len(rows) // 4
    stride, strides = 1, []
    for size in reversed(shape):
        strides.insert(0, stride)
        stride *= size
    sizes = bytes([0x84 + len(shape)])
    pickle = (b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\nq\x00((X\x07\x00\x00\x00storageq\x01ctorch\n" +
              kind.encode() + b"Storage\nq\x02X\x01\x00\x00\x000q\x03X\x03\x00\x00\x00cpuq\x04" + number(n) +
              b"tq\x05QK\x00" + b"".join(map(number, shape)) + sizes + b"q\x06" + b"".join(map(number, strides)) +
              sizes + b"q\x07\x89ccollections\nOrderedDict\nq\x08)Rq\ttq\nRq\x0b.")
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("archive/data.pkl", change(pickle) if change else pickle)
        archive.writestr("archive/byteorder", "little")
        archive.writestr("archive/data/0", rows)
    return base64.b64encode(out.getvalue()).decode()


def embeddings(model, ids):
    """(rows of float32, their width): what the model's first op gives for these tokens."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "ids.json")
        path.write_text(json.dumps(ids), encoding="utf-8")
        subprocess.run([BOBBIN, "taps", model, "--tokens", path, "--at", "embed:x", "-o",
                        pathlib.Path(folder, "x.npy")], check=True, capture_output=True)
        npy = pathlib.Path(folder, "x.npy").read_bytes()
    rows = npy[10 + struct.unpack("<H", npy[8:10])[0]:]
    return rows, len(rows) // 4 // len(ids)


class Tiny(Case):
    model, options = TINY, ("--enable-prompt-embeds", "--log-level", "off")

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.ids = [(7 * i * i + 3 * i) % 199 for i in range(90)]
        cls.rows, cls.width = embeddings(TINY, cls.ids)

    def complete(self, status=200, **body):
        return self.server.post("/v1/completions", {"max_tokens": 12, "temperature": 0, "logprobs": 3,
                                                    "return_token_ids": True, **body}, status)

    def refused(self, says, **body):
        error = self.complete(400, **body)["error"]
        self.assertIn(says, error["message"])
        self.assertNotIn("\n", error["message"])
        return error

    def one(self, n=90):
        return tensor(self.rows[:4 * self.width * n], (n, self.width))

    def test_those_of_tokens_give_the_answer_of_tokens(self):
        want = self.complete(prompt=self.ids)
        for shape in ((90, self.width), (1, 90, self.width)):
            for empty in ({}, {"prompt": ""}, {"prompt": None}, {"prompt": []}):
                got = self.complete(prompt_embeds=tensor(self.rows, shape), **empty)
                self.assertEqual(got["choices"], want["choices"])
                self.assertEqual(got["usage"]["prompt_tokens"], 90)
        self.assertEqual(self.complete(prompt_embeds=self.one())["usage"]["prompt_tokens_details"]["cached_tokens"], 89)

    def test_many_come_first(self):
        want = [self.complete(prompt=self.ids[:n])["choices"][0] for n in (90, 40, 70)]
        got = self.complete(prompt_embeds=[self.one(90), self.one(40)], prompt=[self.ids[:70]])["choices"]
        self.assertEqual([{**choice, "index": 0} for choice in got], want)
        got = self.complete(prompt_embeds=self.one(40), prompt=self.ids[:70])["choices"]
        self.assertEqual([{**choice, "index": 0} for choice in got], want[1:])

    def test_streamed(self):
        want = self.complete(prompt=self.ids)["choices"][0]["text"]
        status, _, data = self.server.ask("POST", "/v1/completions", {
            "prompt": "", "prompt_embeds": self.one(), "max_tokens": 12, "temperature": 0, "stream": True})
        self.assertEqual(status, 200)
        chunks = [json.loads(line[6:]) for line in data.decode().splitlines() if line.startswith("data: {")]
        self.assertEqual("".join(chunk["choices"][0]["text"] for chunk in chunks), want)

    def test_files_of_torch(self):
        files = {path.stem: base64.b64encode(path.read_bytes()).decode() for path in FILES.glob("*.pt")}
        want = self.complete(prompt_embeds=files["f32"])["choices"]
        for name in ("f16", "bf16", "batch", "grad", "parameter", "view", "turned"):
            self.assertEqual(self.complete(prompt_embeds=files[name])["choices"], want, name)
        self.refused("float32, float16 or bfloat16", prompt_embeds=files["f64"])
        self.refused("one dense tensor", prompt_embeds=files["list"])
        self.refused("expected a file of torch.save", prompt_embeds=files["old"])
        self.refused("has the shape [192], expected [n, 48]", prompt_embeds=files["flat"])

    def test_chat(self):
        """Without a template a line a message: what is read there is the same as its tokens."""
        def ask(content):
            return self.server.post("/v1/chat/completions", {
                "messages": [{"role": "user", "content": content}], "max_tokens": 8, "temperature": 0,
                "logprobs": True, "return_token_ids": True})
        text = ask("1 2 " + " ".join(map(str, self.ids[:40])) + " 5 6")
        parts = ask([{"type": "text", "text": "1 2"}, {"type": "prompt_embeds", "data": self.one(40)},
                     {"type": "text", "text": "5 6"}])
        self.assertEqual(parts["choices"], text["choices"])
        self.assertEqual(parts["prompt_token_ids"], [1, 2, *[None] * 40, 5, 6])
        self.assertEqual(len(text["prompt_token_ids"]), 44)

    def test_what_is_refused(self):
        width, rows = self.width, self.rows
        for shape in ((90 * width,), (width, 90), (2, 45, width)):
            self.refused(f"expected [n, {width}] or [1, n, {width}]", prompt_embeds=tensor(rows, shape))
        for bad, says in ((float("nan"), "vector 1 has nan at index 0"), (float("inf"), "vector 1 has inf"),
                          (3e38, "too much for f32")):
            broken = rows[:4 * width] + struct.pack("<f", bad) + rows[4 * width + 4:]
            self.refused(says, prompt_embeds=tensor(broken, (90, width)))
        self.refused("elements", prompt_embeds=tensor(rows[:-4], (90, width)))
        self.refused("one dense tensor", prompt_embeds=tensor(rows, (90, width), "Double"))
        evil = tensor(rows, (90, width), change=lambda p: b"\x80\x02cos\nsystem\n(X\x04\x00\x00\x00truetR.")
        self.refused("one dense tensor", prompt_embeds=evil)
        self.refused("expected a file of torch.save", prompt_embeds=base64.b64encode(b"1234").decode())
        self.refused("expected a file of torch.save", prompt_embeds=self.one()[:400])
        for text in ("?", "AAA", "A B="):
            self.refused("isn't base64", prompt_embeds=text)
        for value in (5, {}, [5], [None], [[self.one()]]):
            self.assertEqual(self.refused("prompt_embeds", prompt_embeds=value)["param"], "prompt_embeds")
        error = self.refused("maximum context", prompt_embeds=tensor(bytes(4 * width * 600), (600, width)))
        self.assertEqual(error["code"], "context_length_exceeded")
        self.refused("'echo'", prompt_embeds=self.one(), echo=True)
        self.refused("prompt_logprobs", prompt_embeds=self.one(), prompt_logprobs=1)
        self.refused("missing", prompt_embeds=[])
        for path, body in (("/v1/chat/completions", {"messages": [{"role": "user", "content": "1"}]}),
                           ("/v1/responses", {"input": "1"}),
                           ("/v1/messages", {"messages": [{"role": "user", "content": "1"}], "max_tokens": 1})):
            self.server.post(path, {**body, "prompt_embeds": self.one()}, 400)
        part = [{"role": "user", "content": [{"type": "prompt_embeds", "data": self.one()}]}]
        for path, body in (("/v1/responses", {"input": part}), ("/v1/messages", {"messages": part, "max_tokens": 1}),
                           ("/tokenize", {"messages": part}), ("/apply-template", {"messages": part})):
            self.server.post(path, body, 400)
        part[0]["content"][0]["data"] = "AAA"
        self.server.post("/v1/chat/completions", {"messages": part}, 400)


class Limited(unittest.TestCase):
    def test_bytes_of_all_that_wait(self):
        """Of two prompts of 19200 bytes each, the second may come when the first has its answer."""
        server = Server(TINY, "--enable-prompt-embeds", "--max-prompt-embeds-bytes", "30K", "--log-level", "off",
                        "-c", "1000000", "--kv-cache-bytes", "0")
        self.addCleanup(server.stop)
        body = {"prompt_embeds": tensor(struct.pack("<4800f", *range(4800)), (100, 48)), "max_tokens": 1}
        slow = server.connect()
        slow.request("POST", "/v1/completions", json.dumps({**body, "max_tokens": 500000, "ignore_eos": True,
                                                            "stream": True}), {"Content-Type": "application/json"})
        reply = slow.getresponse()
        reply.readline()
        status, headers, data = server.ask("POST", "/v1/completions", body)
        self.assertEqual(status, 429, data)
        self.assertEqual(headers["Retry-After"], "1")
        self.assertIn("aren't answered yet", json.loads(data)["error"]["message"])
        server.post("/v1/completions", {"prompt": [1, 2], "max_tokens": 1})
        reply.close()
        slow.close()
        end = time.monotonic() + SECONDS
        while server.ask("POST", "/v1/completions", body)[0] == 429:    # until the server sees that it has left
            self.assertLess(time.monotonic(), end)
            time.sleep(0.01)
        server.post("/v1/completions", {**body, "prompt_embeds": [body["prompt_embeds"]] * 2}, 429)
        server.post("/v1/completions", body)


class Off(unittest.TestCase):
    def test_unless_it_is_asked_for(self):
        server = Server(TINY, "--log-level", "off")
        self.addCleanup(server.stop)
        part = {"type": "prompt_embeds", "data": "AAAA"}
        for path, body in (("/v1/completions", {"prompt_embeds": "AAAA"}),
                           ("/v1/chat/completions", {"messages": [{"role": "user", "content": [part]}]})):
            self.assertIn("--enable-prompt-embeds", server.post(path, body, 400)["error"]["message"])


@with_clients
class OpenAI(Case):
    """The openai package, with a chat template around what comes as embeddings."""
    model, options = REAL, ("--enable-prompt-embeds", "-c", "512", "--log-level", "off")

    def test_completions_and_chat(self):
        client = self.server.openai()
        content = "Please tell me about the capital of France."
        ids = self.server.post("/tokenize", {"prompt": content, "add_special_tokens": False})["tokens"]
        rows, width = embeddings(REAL, ids)
        encoded = tensor(rows, (len(ids), width))
        asked = {"model": "", "max_tokens": 12, "temperature": 0}
        text = client.completions.create(prompt=content, **asked)
        for prompt in ("", None):
            got = client.completions.create(prompt=prompt, extra_body={"prompt_embeds": encoded}, **asked)
            self.assertEqual(got.choices[0].text, text.choices[0].text)
        text = client.chat.completions.create(messages=[{"role": "user", "content": content}], **asked)
        got = client.chat.completions.create(messages=[{"role": "user", "content": [
            {"type": "prompt_embeds", "data": encoded}]}], **asked)
        self.assertEqual(got.choices[0].message.content, text.choices[0].message.content)
        self.assertEqual(got.usage.prompt_tokens, text.usage.prompt_tokens)
        with self.assertRaises(openai.BadRequestError):
            client.completions.create(prompt="", extra_body={"prompt_embeds": encoded[:80]}, **asked)
