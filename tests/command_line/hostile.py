# SPDX-License-Identifier: Apache-2.0
"""Files made to be slow to open: texts that collide in the hash tables of anyone whose hash they know."""
import struct
import time

from case import Case, bobbin

K = 0x9E3779B97F4A7C15
STRING, ARRAY, INT, FLOAT = 8, 9, 5, 6


def string(data):
    return struct.pack("<Q", len(data)) + data


def write_vocabulary(path, texts, types):
    """A GGUF file of a SentencePiece vocabulary and nothing else."""
    n = len(texts)
    keys = [
        (b"general.architecture", STRING, string(b"llama")),
        (b"tokenizer.ggml.model", STRING, string(b"llama")),
        (b"tokenizer.ggml.tokens", ARRAY, struct.pack("<IQ", STRING, n) + b"".join(map(string, texts))),
        (b"tokenizer.ggml.scores", ARRAY, struct.pack(f"<IQ{n}f", FLOAT, n, *[0.0] * n)),
        (b"tokenizer.ggml.token_type", ARRAY, struct.pack(f"<IQ{n}i", INT, n, *types)),
    ]
    with open(path, "wb") as f:
        f.write(b"GGUF" + struct.pack("<IQQ", 3, 0, len(keys)))
        for key, kind, value in keys:
            f.write(string(key) + struct.pack("<I", kind) + value)


class Hostile(Case):
    def seconds(self, texts, types):
        path = self.folder / "vocab.gguf"
        write_vocabulary(path, texts, types)
        start = time.monotonic()
        bobbin("tokenize", path, stdin="a")
        return time.monotonic() - start

    def slower(self, harmless, hostile, types):
        limit = 1 + 8 * self.seconds(harmless, types)
        self.assertLess(self.seconds(hostile, types), limit)

    def test_pieces(self):
        """Words that a multiplication, a shift by 32 and an exclusive or leave alike, whatever came before."""
        n_choices = 15
        units = [(b"abcdefgh" b"ijklmnop"), (b"abcdefg\xe8" b"ijk\xecmno\xf0")]
        hostile = [b"".join(units[i >> bit & 1] for bit in range(n_choices)) + b"." for i in range(1 << n_choices)]
        harmless = [b"%240d." % i for i in range(1 << n_choices)]
        self.slower(harmless, hostile, [1] * len(hostile))

    def test_added_tokens(self):
        """One long text, whose edges in the trie would all lie in a sixteenth of the table."""
        n = 1 << 17
        mask, text = 2 * n - 1, bytearray()
        for node in range(n):
            h = node * 256 * K
            text.append(next((b for b in range(256) if ((h + b * K) >> 32 & mask) < mask // 16), 0))
        self.slower([bytes(i * 7 & 255 for i in range(n))], [bytes(text)], [3])
