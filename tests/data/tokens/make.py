#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes the token ids that tests/test_token.c compares with: llama.cpp's, for the three real models.

Usage: tests/data/tokens/make.py LLAMA_SERVER MODELS      writes cases.json beside itself

LLAMA_SERVER is llama.cpp's program of that name (b11434 was used), MODELS the folder with smollm2.gguf,
gemma.gguf and qwen.gguf. The tests need only the committed file. Not in it, because llama.cpp differs
from the models' own tokenizers there: "</s>", which it takes for a control token of every vocabulary
that has it, and the long s after an apostrophe, which the original expressions match as an s."""
import json
import pathlib
import random
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
MODELS = ("smollm2", "gemma", "qwen")

CODE = ['def f(x):\n    """doc"""\n\tif x>=10**3: return {"a":[1,2.5e-3]}\r\n\r\n    pass  # end\n',
        "for (size_t i = 0; i < n; i++) {\n\t\ty[i] += a[i] * 0x1F;\n}\n",
        "SELECT * FROM t WHERE id != 'x''y';--\n", "https://example.com/a?b=c&d=%20#x  user@host.org",
        "<div class=\"a\">\n  <td>1</td><td> 2</td>\n</div>", "$\\frac{a}{b} \\neq \\sum_{i=1}^{n} x_i$"]

SCRIPTS = ["Привет, мир! Ёлки-палки…", "日本語のテキスト。「はい」、１２３！", "안녕하세요 세계 ㄱㄴㄷ", "你好，世界！一二三４５６",
           "مرحبا بالعالم ١٢٣ ﷺ", "שלום עולם", "नमस्ते दुनिया १२३ क्षि", "สวัสดีชาวโลก ๑๒๓", "வணக்கம்", "ሰላም ልዑል",
           "Γειά σου Κόσμε", "Xin chào thế giới", "e\u0301 n\u0303 Å ǆ ß ŉ İ ı", "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𝟙𝟚𝟛 𐍈 𓀀", "ℌ½²③Ⅷ ₿€£¥₹",
           "x\U00031350y \U0002ebf0 z\U00011f04w \U0001e4d0 \U00011f50\U00011f51", "t̷̗̎e̶͔̐x̵̱̔t̴̜̚"]

EMOJI = ["👨‍👩‍👧‍👦 🏳️‍🌈 👍🏽 🇩🇪🇫🇷", "☺️☺ 1️⃣2️⃣", "😀😀😀 a😀b", "\u200d\ufe0f\u200b\ufeff"]

SPACES = [" ", "  ", "   ", "\t", "\n", "\r\n", " a", "a ", "  a  b   c    d ", "a\n\n\nb\n", "a\r\n\r\nb\r", " \t \n\t \n x",
          "\n  \n   x", "   \n", "\n   ", "\n" * 40, "\t" * 35, " " * 70, "a\u00a0b \u00a0c", "a\u3000b \u3000 c", "a\u2028b\u2029 c",
          "a\u202fb\u205fc\u1680d\u2003e", "a\u180eb \u180e c", "a\u0085b \x0b\x0c c", "a\x1cb \x1c c", "▁▁ ▁a▁", "\u2581"]

DIGITS = ["1234567890", "12 3  45   678", "  1  22   333", "1a2b3c", "3.14159e-10,000", "٣٤٥ ١", "x1 y22", "1's 2'll"]

CONTRACTIONS = ["don't I'll you've we're she'd I'm it's", "DON'T I'LL YOU'VE WE'RE", "''' '' ' 's 't '", "rock'n'roll 'tis"]

CONTROLS = ["\x00", "a\x00b", "\x01\x02\x03\x1e\x1f \x7f", "\x1b[31mred\x1b[0m", "\ud7ff\ue000\ufffd\uffff\U0010ffff"]

SPECIAL = ["<|im_start|>user\nhi<|im_end|>\n", "<|endoftext|><|endoftext|> a<|endoftext|>", "<bos><eos><unk><pad><mask>",
           "<start_of_turn>user\nhi<end_of_turn>\n", "<tool_call>\n{}\n</tool_call>", "<table><tr><td>x</td></tr></table> <h1>",
           "<|im_start|", "<|im_end|>>", "<<|im_end|>>", "<|fim_prefix|>a<|fim_suffix|>b<|fim_middle|>", "[multimodal]",
           "<unused5> <unused55>5", "<0x0A><0xFF>", "<repo_name>x<reponame>", "[PAD151700]"]

PROSE = ["", "Hello world", " Hello, world!", "The quick brown fox jumps over the lazy dog.", "...!!!\n\n\n  ??", "=-=-=-=-=-",
         "Pneumonoultramicroscopicsilicovolcanoconiosis antidisestablishmentarianism", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
         "ALL CAPS and miXed CaSe, with-hyphens_and_underscores/slashes\\back", "“Quotes” — dashes – and… dots"]


def scrambled():
    """Seeded mixtures: what no one would write down."""
    rng = random.Random(7)
    pools = [[chr(c) for c in range(32, 127)], list(" \n\t\r'"), list("abc 123'stveSTll"), [chr(c) for c in range(0xa0, 0x250)],
             [chr(c) for c in range(0x600, 0x6ff)], list("\u00a0\u3000\u2028\u2009\u202f\u180e\u200b\x85\x1c\n\r A1."),
             ["<|im_end|>", "<end_of_turn>", "<bos>", "\n\n", "  ", "<", "|", ">", "a", " ", "<tool_call>", "<td>", "\t\t"],
             list("0123456789 ,."), [chr(c) for c in range(0x1f300, 0x1f650)] + ["\u200d"] * 99]
    for i in range(60):
        pool = pools[i % len(pools)]
        yield "".join(rng.choice(pool) for _ in range(rng.choice((3, 8, 20, 40))))


def cases():
    plain = PROSE + CODE + SCRIPTS + EMOJI + SPACES + DIGITS + CONTRACTIONS + CONTROLS
    for text in plain:
        yield {"text": text, "add_special": False, "parse_special": False}
    for text in SPECIAL + list(scrambled()):
        for parse in (False, True):
            yield {"text": text, "add_special": False, "parse_special": parse}
    for text in ("", "Hello world", "<bos>x"):
        yield {"text": text, "add_special": True, "parse_special": True}


class Server:
    def __init__(self, program, model):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self.process = subprocess.Popen([program, "-m", model, "--port", str(port), "-c", "256", "--no-warmup"],
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def __enter__(self):
        for _ in range(600):
            try:
                urllib.request.urlopen(self.url + "/health", timeout=5).close()
                return self
            except (urllib.error.URLError, ConnectionError):
                time.sleep(0.2)
        raise SystemExit("the server does not answer")

    def __exit__(self, *exc):
        self.process.terminate()
        self.process.wait()

    def ids(self, case):
        body = json.dumps({"content": case["text"], "add_special": case["add_special"],
                           "parse_special": case["parse_special"]}).encode()
        request = urllib.request.Request(self.url + "/tokenize", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)["tokens"]


def main():
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    rows = list(cases())
    for model in MODELS:
        with Server(sys.argv[1], str(pathlib.Path(sys.argv[2], model + ".gguf"))) as server:
            for row in rows:
                row[model] = server.ids(row)
    lines = ",\n".join(json.dumps(row, separators=(",", ":")) for row in rows)
    (HERE / "cases.json").write_text(f"[\n{lines}\n]\n")
    print(f"{len(rows)} cases")


if __name__ == "__main__":
    main()
