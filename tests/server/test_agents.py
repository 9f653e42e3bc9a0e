# SPDX-License-Identifier: Apache-2.0
"""Agents with memory for two of four, and where the messages of their prompts begin: on attention, on Mamba-2 and on a
hybrid, with ids in decimal and with words in a template. bench/agents_vs_llama does the same on real sizes."""
import json
import pathlib
import struct
import subprocess
import sys
import tempfile
import unittest

from serving import BOBBIN, ROOT, Server, chat

sys.path.insert(0, str(ROOT / "bench"))
import agents  # noqa: E402  pylint: disable=wrong-import-position

KINDS = ("llama", "mamba2", "falcon-h1")
LENGTH = 6800
TEMPLATE = ("{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
            "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}{# tools #}")
SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}


def tiny(name):
    return ROOT / f"tests/goldens/{name}.gguf"


def text(word):
    data = word.encode()
    return struct.pack("<Q", len(data)) + data


def end_of(data, kind, at):
    """Behind a value of a GGUF file's metadata."""
    if kind == 8:
        return at + 8 + struct.unpack_from("<Q", data, at)[0]
    if kind == 9:
        of, n = struct.unpack_from("<IQ", data, at)
        at += 12
        for _ in range(n):
            at = end_of(data, of, at)
        return at
    return at + SIZES[kind]


def with_words(name, path, template=TEMPLATE):
    """The tiny model with a vocabulary of characters, 199 as it has ids, and a chat template, or None."""
    data = tiny(name).read_bytes()
    version, n_tensors, n_keys = struct.unpack_from("<IQQ", data, 4)
    at, kept = 24, []
    for _ in range(n_keys):
        start, n = at, struct.unpack_from("<Q", data, at)[0]
        key, at = data[at + 8:at + 8 + n], at + 8 + n
        at = end_of(data, struct.unpack_from("<I", data, at)[0], at + 4)
        if not key.startswith(b"tokenizer."):
            kept.append(data[start:at])
    first = at
    for _ in range(n_tensors):
        at = end_of(data, 8, at)
        at += 4 + 8 * struct.unpack_from("<I", data, at)[0] + 12
    tensors, weights = data[first:at], data[-(-at // 32) * 32:]
    words = ["<|im_start|>", "<|im_end|>", "\u010a", "\u0120", *map(chr, range(33, 127)), "qz"]
    words += [f"<|{i}|>" for i in range(199 - len(words))]
    kinds = [3 if word.startswith("<|") else 1 for word in words]
    strings, ints = (struct.pack("<IIQ", 9, kind, len(words)) for kind in (8, 5))
    for key, value in (("model", struct.pack("<I", 8) + text("gpt2")), ("pre", struct.pack("<I", 8) + text("gpt-2")),
                       ("tokens", strings + b"".join(map(text, words))),
                       ("token_type", ints + struct.pack(f"<{len(words)}i", *kinds)),
                       ("merges", struct.pack("<IIQ", 9, 8, 1) + text("q z")),
                       ("eos_token_id", struct.pack("<II", 4, 1))):
        kept.append(text(f"tokenizer.ggml.{key}") + value)
    if template is not None:
        kept.append(text("tokenizer.chat_template") + struct.pack("<I", 8) + text(template))
    head = struct.pack("<4sIQQ", b"GGUF", version, n_tensors, len(kept)) + b"".join(kept) + tensors
    path.write_bytes(head + bytes(-len(head) % 32) + weights)


def bytes_of(model):
    """Of a context of LENGTH tokens, and of its state."""
    done = subprocess.run([BOBBIN, "inspect", model, "--json"], capture_output=True, check=True)
    memory = json.loads(done.stdout)["memory"]
    state = memory.get("state_bytes", 0)
    return memory["kv_bytes_per_token"] * LENGTH + state, state


class Agents(unittest.TestCase):
    def serve(self, model, *options):
        server = Server(model, "--log-level", "off", "-c", "8192", *options)
        self.addCleanup(server.stop)
        return server

    def play(self, model, n_vocab, scale):
        context, state = bytes_of(model)
        states = ("--state-cache-bytes", 16 * state) if state > 0 else ()
        server = self.serve(model, "--kv-cache-bytes", 2 * context, "--swap-space", 4 * context / 2**30, *states)
        everyone, _ = agents.play(server.port, n_vocab, scale=scale)
        self.assertGreater(agents.total(everyone, "reusable"), 200000)
        self.assertGreater(max(agent.longest for agent in everyone), 5000)
        self.assertGreater(agents.share(everyone), 0.95)
        loads = server.get("/v1/loads")
        self.assertLessEqual(loads["kv_bytes"], 2 * context)
        self.assertLessEqual(server.metric("bobbin_swap_bytes"), 4 * context)
        return server

    def test_memory_for_two_of_four(self):
        for name in KINDS:
            with self.subTest(model=name):
                self.play(tiny(name), 199, 1)

    def test_memory_for_two_of_four_in_words(self):
        with tempfile.TemporaryDirectory() as folder:
            for name in KINDS:
                with self.subTest(model=name):
                    path = pathlib.Path(folder, f"{name}.gguf")
                    with_words(name, path)
                    self.play(path, None, 4)

    def test_a_message_written_anew(self):
        """What comes before it isn't read again, whatever the model."""
        messages = [{"role": "system", "content": "you answer " * 4}, {"role": "user", "content": "what is it? " * 3},
                    {"role": "assistant", "content": "it is this " * 5}, {"role": "user", "content": "look again"}]
        with tempfile.TemporaryDirectory() as folder:
            for name in KINDS:
                path = pathlib.Path(folder, f"{name}.gguf")
                with_words(name, path)
                server = self.serve(path)

                def cached(some):
                    reply = server.post("/v1/chat/completions", chat(messages=some, max_tokens=3))
                    return reply["usage"]["prompt_tokens_details"]["cached_tokens"]

                def length(some):
                    return len(server.post("/v1/chat/completions", chat(
                        messages=some, max_tokens=1, cache_salt="other", add_generation_prompt=False,
                        return_token_ids=True))["prompt_token_ids"])
                cached(messages)
                for i in (3, 2, 1):
                    with self.subTest(model=name, message=i):
                        changed = [*messages[:i], {**messages[i], "content": f"{i} other words"}]
                        self.assertGreaterEqual(cached(changed), length(messages[:i]))
                server.stop()
