#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes the token ids that tests/test_token_world.c compares with: the official World tokenizer's.

Usage: tests/data/tokens/make_world.py      writes world.json beside itself

Needs the package rwkv. The file holds an excerpt of the vocabulary: all tokens that stand anywhere in the texts, and
every byte. With no others can a text be cut, so the cuts are those of the whole vocabulary; ids are counted anew, behind
that of <s>."""
import json
import pathlib

import rwkv.rwkv_tokenizer

import make

HERE = pathlib.Path(__file__).resolve().parent


def main():
    folder = pathlib.Path(rwkv.rwkv_tokenizer.__file__).parent
    official = rwkv.rwkv_tokenizer.TRIE_TOKENIZER(str(folder / "rwkv_vocab_v20230424.txt"))
    texts = list(dict.fromkeys(case["text"] for case in make.cases() if "<s>" not in case["text"]))
    joined = [text.encode() for text in texts]
    kept = [(i, token) for i, token in official.idx2token.items()
            if len(token) == 1 or any(token in text for text in joined)]
    anew = {i: 1 + n for n, (i, _) in enumerate(kept)}
    cases = [{"text": text, "ids": [anew[i] for i in official.encode(text)]} for text in texts]
    tokens = ["<s>"] + [repr(token)[2:-1] for _, token in kept]  # as llama.cpp's converter writes them
    lines = ",\n".join(json.dumps(row, separators=(",", ":")) for row in cases)
    (HERE / "world.json").write_text(
        f'{{"tokens":{json.dumps(tokens, separators=(",", ":"))},\n"cases":[\n{lines}\n]}}\n')
    print(f"{len(cases)} cases, {len(tokens)} tokens")


if __name__ == "__main__":
    main()
