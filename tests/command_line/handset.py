# SPDX-License-Identifier: Apache-2.0
"""bobbin handset: what it writes runs as it says; bad tables and options get a sentence."""
import json
import random
import re
import shlex
import subprocess

from case import BOBBIN, SECONDS, Case, bobbin

TABLES = ("parity", "mod7", "bracket8", "s5")


class Handset(Case):
    def write(self, *args, **more):
        """(path, what it says)"""
        path = self.folder / "model.gguf"
        return path, bobbin("handset", *args, "-o", path, **more)[1].decode()

    def table(self, value):
        path = self.folder / "T.json"
        path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
        return path

    def kinds(self):
        text = bobbin("handset", "--help")[0].decode().split("\nkinds")[1]
        return re.findall(r"^  (\S+)  ", text, re.M)

    def test_help_lists_kinds_and_formats(self):
        text = bobbin("handset", "--help")[0].decode()
        self.assertLessEqual({"dfa", "dfa-block", "conv-dfa", "latch", "selective-copy", "census"}, set(self.kinds()))
        self.assertIn("q0 x1 q1 x2 q2", text)
        self.assertIn("--length: N, the distance", text)

    def test_what_it_says_to_try_works(self):
        for kind in self.kinds():
            takes = ["--table", "mod7"] if kind in ("dfa", "dfa-block", "conv-dfa") else []
            with self.subTest(kind):
                path, said = self.write(kind, *takes)
                self.assertTrue(said.startswith(f"{path}: {kind}, "), said)
                command = re.search(r"^try: bobbin (.*)$", said, re.M).group(1)
                done = subprocess.run(["bash", "-c", f"{shlex.quote(str(BOBBIN))} {command}"], capture_output=True,
                                      timeout=SECONDS, check=False)
                self.assertEqual(done.returncode, 0, done.stderr)
                self.assertRegex(done.stdout, rb"^ *step .* written\n(?: +\d.*\n)+$")

    def test_names_of_tokens(self):
        path, _ = self.write("dfa-block", "--table", "parity", "--table", "bracket8")
        data = path.read_bytes()
        for name in (b"parity.even", b"bracket8.(", b"bracket8.depth8", b"PAD", b"EOS", b"bracket8.SEP"):
            self.assertIn(len(name).to_bytes(8, "little") + name, data)

    def test_block_from_a_table(self):
        """A random automaton of 9 states and 4 symbols: states of the whole word, then the end."""
        rng = random.Random(5)
        delta = [[rng.randrange(9) for _ in range(4)] for _ in range(9)]
        path, _ = self.write("dfa-block", "--table", self.table({"delta": delta}), "-N", "70")
        for n in (0, 1, 33, 69):
            word, state, want = [rng.randrange(4) for _ in range(n)], 0, []
            for symbol in word:
                state = delta[state][symbol]
                want.append(5 + state)
            ids = " ".join(map(str, word + [4] * (70 - n) + [15]))
            out = bobbin("run", path, "--raw", "-p", ids)[0]
            self.assertEqual(list(map(int, out.split())), [*want, 14])

    def test_table_from_stdin(self):
        path, _ = self.write("dfa", "--table", "-", stdin=b'{"delta": [[1], [0]]}')
        self.assertEqual(bobbin("run", path, "--raw", "-n", "1", "-p", "1 0")[0], b"2")

    def test_types_give_the_same_answers(self):
        outs, sizes = set(), set()
        for kind in ("f32", "f16", "bf16"):
            path, _ = self.write("dfa-block", "--table", "s5", "-N", "20", "--type", kind)
            outs.add(bobbin("run", path, "--raw", "-p", " ".join(["0 1 1"] * 6 + ["2 2 124"]))[0])
            sizes.add(path.stat().st_size)
        self.assertEqual((len(outs), len(sizes)), (1, 2))

    def test_bad_tables(self):
        for value, *words in (("", "T isn't JSON"), ({"delta": []}, '"delta"'), ({"delta": [[0, 2], [0, 0]]},
                              "delta[0][1]", "0 to 1"), ({"delta": [[0], [0, 0]]}, "delta[1]")):
            with self.subTest(value):
                out = self.folder / "model.gguf"
                self.sentence(bobbin("handset", "dfa", "--table", self.table(value), "-o", out, status=1)[1], *words)
                self.assertFalse(out.exists())

    def test_bad_usage(self):
        out = self.folder / "model.gguf"
        for args, *words in ((["dfa", "-o", out], "--table", "parity"), (["dfa"], "-o"), ([], "KIND"),
                             (["dfs", "-o", out], "'dfa'"), (["latch", "-o", out, "--table", "mod7"], "no --table"),
                             (["latch", "-o", out, "-N", "9"], "no --length"), (["nothing", "-o", out], "--help"),
                             (["census", "-o", out, "-N", "1025"], "2 to 1024"), (["dfa", "--table", "pariti", "-o",
                              out], "'pariti'", "bracket8"),
                             (["latch", "-o", "-"], "stdout", "a file's name"),
                             (["latch", "-o", out, "--type", "q8"], "f32|f16|bf16")):
            with self.subTest(args):
                self.sentence(bobbin("handset", *args, status=2)[1], *words)
                self.assertFalse(out.exists())

    def test_missing_table_file(self):
        self.sentence(bobbin("handset", "dfa", "--table", "no/such.json", "-o", self.folder / "x", status=1)[1],
                      "no/such.json")

    def test_unwritable_file(self):
        self.sentence(bobbin("handset", "latch", "-o", self.folder / "no" / "x.gguf", status=1)[1],
                      "can't be created")
        (self.folder / "d").mkdir()
        self.sentence(bobbin("handset", "latch", "-o", self.folder / "d", status=1)[1], "regular file")

    def test_old_file_stays_until_the_new_one_is_whole(self):
        path, _ = self.write("latch")
        before = path.read_bytes()
        bobbin("handset", "dfa", "--table", self.table("{"), "-o", path, status=1)
        self.assertEqual(path.read_bytes(), before)
        self.assertEqual([p.name for p in self.folder.iterdir() if ".part" in p.name], [])
