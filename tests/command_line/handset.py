# SPDX-License-Identifier: Apache-2.0
"""bobbin handset: what it writes runs as it says; bad tables and options get a sentence."""
import json
import random
import re
import shlex
import subprocess

from case import BOBBIN, ROOT, SECONDS, Case, bobbin

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
                self.assertRegex(said, r"(?m)^ids: 0 ")
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

    def ids_of(self, *args, **more):
        return re.search(r"^ids: (.*)$", self.write(*args, **more)[1], re.M).group(1)

    def test_ids_are_told_with_names(self):
        self.assertEqual(self.ids_of("dfa", "--table", "bracket8"),
                         "0 (  1 )  2 x  3 depth0 ... 11 depth8  12 error")
        self.assertEqual(self.ids_of("induction"), "0 ... 4095")
        table = self.table({"delta": [[0, 1], [1, 0]], "states": ["\x1b[2J", "b"], "symbols": ["a9", "a10"]})
        self.assertEqual(self.ids_of("dfa", "--table", table), "0 a9  1 a10  2 ?[2J  3 b")

    def test_many_ids_are_cut(self):
        said = self.ids_of("dfa-block", "--table", "s5")
        self.assertTrue(said.startswith("0 swap  1 cycle  2 PAD  3 01234  4 01243  "), said)
        self.assertTrue(said.endswith("  ...  121 43201  122 43210  123 EOS  124 SEP"), said)
        self.assertLessEqual(len(said.split("  ")), 41)

    def test_ids_of_several_tables_say_where_runs_begin(self):
        self.assertTrue(self.ids_of("dfa", "--table", "s5", "--table", "mod7").endswith(
            "; runs begin with 5 s5.01234, 125 mod7.0"))
        self.assertTrue(self.ids_of("conv-dfa", "--table", "parity", "--table", "mod7").endswith(
            "; runs begin with 5 parity.even, 7 mod7.0"))
        self.assertTrue(self.ids_of("dfa-block", "--table", "parity", "--table", "parity").endswith(
            "10 parity.SEP  11 parity2.SEP; runs begin with 10 parity.SEP, 11 parity2.SEP"))

    def test_recency_says_which_keys_it_needs(self):
        needs = "--kv-cache-dtype f32"
        self.assertIn(f" {needs} ", self.write("induction", "--recency", "-N", "64", "--bits", "5")[1])
        self.assertNotIn(needs, self.write("induction", "--bits", "5")[1])
        self.assertIn(f"--recency: bobbin run needs {needs}", bobbin("handset", "--help")[0].decode())

    def test_docs_have_the_limits_that_help_has(self):
        text = bobbin("handset", "--help")[0].decode()
        docs = (ROOT / "docs/handset.md").read_text(encoding="utf-8")
        page = " ".join((ROOT / "tools/bobbin.1.scd").read_text(encoding="utf-8").split())
        limits = re.findall(r"in all tables: (.*)$", text, re.M)
        self.assertEqual(len(limits), 3)
        for limit in limits:
            self.assertIn(f"for {limit}", docs)
        needs = re.search(r"bobbin run needs (.*)$", text, re.M).group(1)
        self.assertIn(f"`{needs}`", docs)
        self.assertIn(f"*{needs}*", page)
        states, symbols, pairs, name, size = re.search(
            r"1 to (\d+) states and 1 to (\d+) symbols, at most (\d+) pairs .* 1 to (\d+) bytes;\n.*at most (\d+) MiB",
            text).groups()
        for where in (" ".join(docs.split()), page):
            self.assertIn(f"{states} states, {symbols} symbols", where)
            for words in (f"{pairs} pairs of both", f"1 to {name} bytes", f"{size} MiB"):
                self.assertIn(words, where)
        for operation in re.search(r"^ *tables: (.*)\.$", text, re.M).group(1).split(", "):
            self.assertIn(f"`{operation}`", docs)
            self.assertRegex(page, rf"[ :]{operation}[ ,.]")

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
        for value, *words in (("", "T.json isn't JSON"), ({"delta": []}, '"delta"'), ({"delta": [[0, 2], [0, 0]]},
                              "T.json: delta[0][1]", "0 to 1"), ({"delta": [[0], [0, 0]]}, "delta[1]"),
                              ({"delta": [[0]], "sates": ["a"]}, '"sates"', '"states"'),
                              ({"delta": [[0, 0]], "symbols": ["a", "a"]}, "symbols[0] and symbols[1]"),
                              ({"delta": [[0]], "states": [""]}, "states[0]", "1 to 39 bytes"),
                              ({"delta": [[0]] * 1001}, "1 to 1000 states, has 1001")):
            with self.subTest(value):
                out = self.folder / "model.gguf"
                self.sentence(bobbin("handset", "dfa", "--table", self.table(value), "-o", out, status=1)[1], *words)
                self.assertFalse(out.exists())

    def test_tables_without_room(self):
        """Tables that are good by themselves, and just above what a kind has units for."""
        out = self.folder / "model.gguf"
        table = self.table({"delta": [[0] * 4097] * 2})
        self.sentence(bobbin("handset", "dfa", "--table", table, "-o", out, status=1)[1], "1 to 1000 symbols")
        for kind, n_states, n_symbols, limit in (("conv-dfa", 27, 304, "P at most 8192"),
                                                 ("dfa", 512, 64, "P at most 32767"),
                                                 ("dfa-block", 512, 63, "P + Q at most 32767")):
            table = self.table({"delta": [[0] * n_symbols] * n_states})
            with self.subTest(kind):
                self.sentence(bobbin("handset", kind, "--table", table, "-o", out, status=1)[1],
                              f"Q = {n_states} states", limit)
                self.assertFalse(out.exists())

    def test_table_without_end(self):
        self.sentence(bobbin("handset", "dfa", "--table", "/dev/zero", "-o", self.folder / "x", status=1)[1],
                      "'/dev/zero' is longer than 16 MiB", "a table")
        table = self.table('{"delta": [[0]]}' + " " * ((16 << 20) - 16))
        self.write("dfa", "--table", table)
        table = self.table('{"delta": [[0]]}' + " " * ((16 << 20) - 15))
        self.sentence(bobbin("handset", "dfa", "--table", table, "-o", self.folder / "x", status=1)[1], "16 MiB")

    def test_model_does_not_replace_its_table(self):
        table = self.table({"delta": [[0]]})
        before, link = table.read_bytes(), self.folder / "link"
        link.symlink_to(table)
        for out, again in ((table, table), (link, table), (table, link)):
            with self.subTest(out):
                self.sentence(bobbin("handset", "dfa", "--table", "mod7", "--table", again, "-o", out, status=2)[1],
                              f"-o is '{out}'", f"--table '{again}'")
        with table.open("rb") as f:
            done = subprocess.run([BOBBIN, "handset", "dfa", "--table", "-", "-o", table], stdin=f, check=False,
                                  capture_output=True, timeout=SECONDS)
        self.assertEqual(done.returncode, 2, done.stderr)
        self.assertEqual(table.read_bytes(), before)
        for _ in range(2):  # a built-in table isn't the file of its name
            bobbin("handset", "dfa", "--table", "parity", "-o", "parity", cwd=self.folder)

    def test_bad_usage(self):
        out = self.folder / "model.gguf"
        for args, *words in ((["dfa", "-o", out], "--table", "parity"), (["dfa"], "-o"), ([], "KIND"),
                             (["dfs", "-o", out], "'dfa'"), (["latch", "-o", out, "--table", "mod7"], "no --table"),
                             (["latch", "-o", out, "-N", "9"], "no --length"), (["nothing", "-o", out], "--help"),
                             (["census", "-o", out, "-N", "1025"], "2 to 1024"),
                             (["dfa", "--table", "pairity", "-o", out], "'pairity'", "did you mean 'parity'?"),
                             (["dfa", "--table", "nothing", "-o", out], "'nothing'", "bracket8"),
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
