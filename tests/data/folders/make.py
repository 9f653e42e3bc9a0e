#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes the folders beside it: small byte-level BPE tokenizers as Hugging Face folders have them, one for
each way of splitting text that engine/token knows, and cases.json: texts and the ids that the official
library gives for them. Read by tests/test_folder_tokens.c.

Usage: tests/data/folders/make.py

Needs tokenizers (pip install tokenizers)."""
import json
import pathlib

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

HERE = pathlib.Path(__file__).resolve().parent
CORPUS = ["The name: it winds long threads of thought, and pays them out when they are needed.",
          "A context is a value that grows, forks and rewinds without copying; they're 1234567 tokens long.",
          "While the thread is wound, the bobbin turns; when it's needed, the bobbin gives.",
          "int main(void) {\n\treturn 0;\n}\n\n    indented by 4, 12 and 2024 columns\n"] * 4
TEXTS = ["", "a", " the bobbin", "The thread's long, isn't it?  They'LL wind 1234567 threads...",
         "  two spaces,\ttab\n\n\nthree lines  \n end ", "don't DON'T we've I'm", "x=12;y=345678", "na\u00efve caf\u00e9 \u00bd \u2014 \u4f60\u597d \U0001f9f5",
         "<|end|>the thread<|end|>", "before<|user|>between <|note|> after", "\r\n\r\nreturn 0;\r\n", "100% of   42"]
CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def split(regex):
    return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(regex), "isolated"),
                                    pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


SPLITS = {
    "gpt2": pre_tokenizers.ByteLevel(add_prefix_space=False),
    "smollm": pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True),
                                       pre_tokenizers.ByteLevel(add_prefix_space=False)]),
    "qwen2": split(CONTRACTIONS + r"\p{N}" + REST),
    "llama3": split(CONTRACTIONS + r"\p{N}{1,3}" + REST),
}


def train(name):
    tokenizer = Tokenizer(models.BPE(ignore_merges=name == "llama3"))
    tokenizer.pre_tokenizer = SPLITS[name]
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(CORPUS, trainers.BpeTrainer(
        vocab_size=400, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False,
        special_tokens=["<|begin|>", "<|end|>", "<|user|>"]))
    tokenizer.add_tokens(["<|note|>"])
    if name == "llama3":
        tokenizer.post_processor = processors.Sequence([
            processors.ByteLevel(trim_offsets=False),
            processors.TemplateProcessing(single="<|begin|> $A", special_tokens=[("<|begin|>", 0)])])
    return tokenizer


def main():
    cases = {}
    for name in SPLITS:
        tokenizer = train(name)
        folder = HERE / name
        folder.mkdir(exist_ok=True)
        text = json.loads(tokenizer.to_str())
        (folder / "tokenizer.json").write_text(json.dumps(text, ensure_ascii=False, separators=(",", ":")) + "\n",
                                               encoding="utf-8")
        config = {"architectures": ["LlamaForCausalLM"], "vocab_size": tokenizer.get_vocab_size(),
                  "bos_token_id": 0, "eos_token_id": 2}
        (folder / "config.json").write_text(json.dumps(config) + "\n", encoding="utf-8")
        (folder / "generation_config.json").write_text(
            json.dumps({"eos_token_id": [1, 2], "temperature": 0.25, "top_k": 7}) + "\n", encoding="utf-8")
        cases[name] = [{"text": text, "ids": tokenizer.encode(text).ids,
                        "plain": tokenizer.encode(text, add_special_tokens=False).ids} for text in TEXTS]
    template = "{% for m in messages %}<|user|>{{ m['content'] }}<|end|>{% endfor %}"
    (HERE / "gpt2" / "chat_template.jinja").write_text(template, encoding="utf-8")
    (HERE / "qwen2" / "tokenizer_config.json").write_text(json.dumps({"chat_template": template}) + "\n",
                                                          encoding="utf-8")
    (HERE / "cases.json").write_text(json.dumps(cases, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
