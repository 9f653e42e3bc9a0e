# SPDX-License-Identifier: Apache-2.0
"""Guesses at tokens ahead: options, vLLM's JSON, draft models; the text is the same with any of them."""
import json

from case import TINY, REAL, Case, bobbin, real

ASK = ("--raw", "-p", "The cat sat on the mat. " * 3 + "The cat", "--temp", "0", "-n", "40")


def drawn(*args):
    return json.loads(bobbin("run", REAL, *ASK, "--json", *args)[0])


class Usage(Case):
    def test_refused(self):
        for args, words in (
                (("--spec-type", "medusa"), ("'medusa'", "ngram", "draft_model")),
                (("--spec-type", "draft_model"), ("draft model", "none is given")),
                (("--spec-type", "ngram", "--draft-model", TINY), ("a draft model is given",)),
                (("--spec-draft-n-max", "65"), ("--spec-draft-n-max", "64")),
                (("--speculative-config", "["), ("JSON object",)),
                (("--speculative-config", "[]"), ("JSON object",)),
                (("--speculative-config", '{"method": "eagle"}'), ("'eagle'", "suffix")),
                (("--speculative-config", '{"method": 1}'), ("'method'", "string")),
                (("--speculative-config", '{"draft_sample_method": "x"}'), ("draft_sample_method", "method")),
                (("--speculative-config", '{"num_speculative_tokens": 0}'), ("num_speculative_tokens", "1 to 64")),
                (("--speculative-config", '{"method": "ngram", "prompt_lookup_min": 9, "prompt_lookup_max": 3}'),
                 ("prompt_lookup_max is 3", "9")),
                (("--spec-type", "ngram", "--trace-state"), ("--trace-state",)),
                (("--spec-type", "ngram", "-n", "0"), ("at least 1 token",))):
            with self.subTest(" ".join(map(str, args))):
                self.sentence(bobbin("run", TINY, "--raw", "-p", "1 2 3", *args, status=2)[1], *words)

    def test_a_draft_model_that_is_none(self):
        self.sentence(bobbin("run", TINY, "--raw", "-p", "1", "-md", "/nowhere", status=1)[1], "/nowhere")


@real
class Same(Case):
    def test_text(self):
        plain = drawn("--spec-type", "none")
        self.assertEqual(bobbin("run", REAL, *ASK)[0].decode().rstrip("\n"), plain["text"].rstrip("\n"))
        self.assertEqual(sum(d["drafted"] for d in plain["usage"]["speculation"].values()), 0)
        for args in (("--spec-type", "ngram"), ("--spec-type", "suffix", "--spec-draft-n-max", "3"),
                     ("--draft-model", REAL), ("--speculative-config", '{"method": "ngram", "prompt_lookup_min": 3}'),
                     ("--speculative-config", json.dumps({"model": str(REAL), "num_speculative_tokens": 2}))):
            with self.subTest(" ".join(map(str, args))):
                root = drawn(*args)
                self.assertEqual((root["text"], root["tokens"]), (plain["text"], plain["tokens"]))
                for counts in root["usage"]["speculation"].values():
                    self.assertLessEqual(counts["accepted"], counts["drafted"])

    def test_a_text_that_repeats_itself_is_guessed(self):
        """But for where a row more was measured to cost too much, as on a busy machine."""
        accepted = [drawn("--spec-type", "ngram")["usage"]["speculation"]["ngram"]["accepted"]]
        while accepted[-1] <= 10 and len(accepted) < 5:
            accepted.append(drawn("--spec-type", "ngram")["usage"]["speculation"]["ngram"]["accepted"])
        self.assertGreater(accepted[-1], 10, accepted)
