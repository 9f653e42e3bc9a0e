# SPDX-License-Identifier: Apache-2.0
"""bobbin perplexity."""
import array
import json
import math

from case import TINY, Case, bobbin, damaged, read_npy


class Perplexity(Case):
    def text(self, n):
        path = self.folder / "text"
        path.write_text(" ".join(str((7 + 13 * i * i) % 190) for i in range(n)) + "\n", encoding="utf-8")
        return path

    def test_last_line(self):
        out, _ = bobbin("perplexity", TINY, "-f", self.text(400), "-c", "64")
        self.assertRegex(out.decode().splitlines()[-1], r"^Final estimate: PPL = \d+\.\d{4,} \+/- \d+\.\d{4,}$")

    def test_value_after_each_window(self):
        lines = bobbin("perplexity", TINY, "-f", self.text(400), "-c", "64")[0].decode().splitlines()
        self.assertEqual(len(lines), 2)
        values = [item.split("]") for item in lines[0].rstrip(",").split(",")]
        self.assertEqual([number for number, _ in values], [f"[{i + 1}" for i in range(6)])
        self.assertEqual(lines[1].split()[4], values[-1][1])
        first = bobbin("perplexity", TINY, "-f", self.text(400), "-c", "64", "--chunks", "1")[0].decode()
        self.assertEqual(first.splitlines()[0], f"[1]{values[0][1]},")

    def test_batch_changes_nothing(self):
        path = self.text(400)
        want = bobbin("perplexity", TINY, "-f", path, "-c", "64")[0]
        for batch in (1, 20, 64, 1000):
            self.assertEqual(bobbin("perplexity", TINY, "-f", path, "-c", "64", "-b", batch)[0], want)

    def test_json(self):
        root = json.loads(bobbin("perplexity", TINY, "-f", self.text(400), "-c", "64", "--json")[0])
        line = bobbin("perplexity", TINY, "-f", self.text(400), "-c", "64")[0].decode().splitlines()[-1]
        self.assertAlmostEqual(root["ppl"], float(line.split()[4]), 3)
        self.assertEqual((root["n_windows"], root["n_tokens_scored"]), (400 // 64, 400 // 64 * 31))

    def test_agrees_with_logits(self):
        """One window, computed again from the logits: the definition of llama-perplexity."""
        text = self.text(64)
        want = json.loads(bobbin("perplexity", TINY, "-f", text, "-c", "64", "--json")[0])
        ids = json.loads(bobbin("tokenize", TINY, "--no-parse-special", stdin=text.read_bytes()[:-1])[0])[:64]
        path, out = self.folder / "ids.json", self.folder / "out.npy"
        path.write_text(json.dumps(ids), encoding="utf-8")
        bobbin("logits", TINY, "--tokens", path, "-o", out)
        _, n_vocab, data = read_npy(out)
        values, nll = array.array("f", data), []
        for t in range(32, 63):
            row = values[t * n_vocab:(t + 1) * n_vocab]
            most = max(row)
            nll.append(math.log(math.fsum(math.exp(v - most) for v in row)) + most - row[ids[t + 1]])
        mean = sum(nll) / len(nll)
        self.assertAlmostEqual(want["ppl"] / math.exp(mean), 1, 4)
        variance = sum(v * v for v in nll) / len(nll) - mean * mean
        error = math.sqrt(variance / (len(nll) - 1)) * math.exp(mean)
        self.assertAlmostEqual(want["ppl_stderr"] / error, 1, 3)

    def test_damaged_model(self):
        for args in ((), ("--json",)):
            out, err = bobbin("perplexity", damaged(self.folder), "-f", self.text(400), "-c", "64", *args, status=1)
            self.sentence(err, "expected finite logits", "window 1", "damaged")
            self.assertEqual(out, b"")

    def test_text_too_short(self):
        self.sentence(bobbin("perplexity", TINY, "-f", self.text(50), "-c", "64", status=1)[1], "50 tokens", "64")

    def test_missing_text(self):
        self.sentence(bobbin("perplexity", TINY, "-f", "/no/such", status=1)[1], "/no/such")
        self.sentence(bobbin("perplexity", TINY, status=2)[1], "-f")
