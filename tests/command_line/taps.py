# SPDX-License-Identifier: Apache-2.0
"""bobbin taps, and edits in bobbin run."""
import array
import importlib.util
import json
import pathlib
import re
import struct
import subprocess
import sys
import unittest

from case import BOBBIN, TINY, TINY_WINDOW, ROOT, Case, bobbin

RECURRENT = ROOT / "tests/goldens/falcon-h1.gguf"


def load(path):
    """(shape, numbers) of a NumPy file."""
    data = pathlib.Path(path).read_bytes()
    size = struct.unpack("<H", data[8:10])[0]
    header = data[10:10 + size].decode()
    assert data[:8] == b"\x93NUMPY\x01\x00" and "'<f4'" in header and "False" in header, header
    shape = tuple(map(int, re.findall(r"\d+", re.search(r"'shape': \(([^)]*)\)", header).group(1))))
    values = array.array("f", data[10 + size:])
    n = 1
    for axis in shape:
        n *= axis
    assert n == len(values), (shape, len(values))
    return shape, values


DESCR = {"e": "<f2", "f": "<f4", "d": "<f8", "b": "|i1", "B": "|u1", "h": "<i2", "H": "<u2", "i": "<i4", "I": "<u4",
         "q": "<i8", "Q": "<u8"}


def save(path, values, shape=None, kind="f", fortran=False):
    shape = shape or (len(values),)
    text = str({"descr": DESCR[kind], "fortran_order": fortran, "shape": shape})
    header = text.encode() + b" " * (-(len(text) + 11) % 64) + b"\n"
    path.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header +
                     struct.pack(f"<{len(values)}{kind}", *values))
    return path


HEADS = ROOT / "bench/induction_heads"
NEEDS = ("numpy", "matplotlib", "PIL")


@unittest.skipUnless(all(importlib.util.find_spec(name) for name in NEEDS), "numpy, matplotlib or Pillow is missing")
class InductionHeads(Case):
    def heads(self, *args, status=0):
        done = subprocess.run([sys.executable, HEADS, "--bobbin", BOBBIN, *map(str, args)], cwd=self.folder,
                              capture_output=True, check=False)
        self.assertEqual(done.returncode, status, done.stderr.decode())
        return done.stdout, done.stderr

    def test_picture_and_losses(self):
        model, picture = self.folder / "induction.gguf", HEADS.parent.parent / "docs/induction-heads.png"
        bobbin("handset", "induction", "-o", model)
        before = picture.read_bytes()
        out, _ = self.heads(model, "--sequences", 2, "--off", 1, "--name", "by hand")
        lines = out.decode().splitlines()
        self.assertRegex(lines[0], r"^by hand: 1:0 0\.9")
        self.assertRegex(lines[2], r"without the best 1:0: ")
        self.assertEqual((self.folder / "induction-heads.png").read_bytes()[:4], b"\x89PNG")
        self.assertEqual(picture.read_bytes(), before)

    def test_sentences(self):
        self.sentence(self.heads("none.gguf", status=1)[1], "none.gguf", "No such file")
        self.sentence(self.heads("x", "--bobbin", "/nonexistent", status=1)[1], "'/nonexistent'", "--bobbin")
        self.sentence(self.heads(TINY, "--length", 500, status=1)[1], "the model has 199 tokens", "500 different ones")
        self.sentence(self.heads(TINY, "-o", "none/x.png", status=1)[1], "'none/x.png'", "folder")
        self.sentence(self.heads(ROOT / "tests/goldens/mamba.gguf", status=1)[1], "no layer of this model attends")

    def test_help(self):
        out, _ = self.heads("--help")
        self.assertNotIn(b"Traceback", out)
        for option in (b"--bobbin PATH", b"--length L", b"--sequences N", b"--name NAME", b"--off K", b"FILE.png"):
            self.assertIn(option + b" ", out.replace(b"\n", b"  ").replace(b"]", b" "))


class Taps(Case):
    def taps(self, *args, model=TINY, n=70):
        """{name: (shape, numbers)} of the files in the folder, and stderr."""
        out = self.folder / "out"
        _, err = bobbin("taps", model, "--tokens", self.ids(n), "-o", out, *args)
        files = {path.name.removesuffix(".npy"): load(path) for path in out.iterdir()}
        for path in out.iterdir():
            path.unlink()
        return files, err.decode()

    def refused(self, *args, status=2, model=TINY):
        _, err = bobbin("taps", model, "--tokens", self.ids(9), "-o", self.folder / "out", *args, status=status)
        self.assertFalse((self.folder / "out").exists())
        return err

    def test_list(self):
        lines = bobbin("taps", TINY, "--list")[0].decode().splitlines()
        names = [line.split()[0] for line in lines]
        self.assertEqual(names[:9], ["embed.x", "blk.0.h.1", "blk.0.q.1", "blk.0.k.1", "blk.0.v", "blk.0.q.2",
                                     "blk.0.k.2", "blk.0.att", "blk.0.x.1"])
        self.assertEqual(names[-2:], ["unembed.h", "unembed.logits"])
        self.assertEqual(len(names), len(set(names)))
        self.assertIn("[48] = 3 heads of 16", lines[2])
        self.assertIn("[16] = 1 head of 16", lines[3])
        self.assertTrue(lines[1].endswith("[48]"), lines[1])  # it isn't made of heads
        self.assertRegex("\n".join(lines), r"blk\.2\.attention +--attention +\[3, tokens, tokens\]\n")
        lines = bobbin("taps", RECURRENT, "--list")[0].decode()
        self.assertRegex(lines, r"blk\.1\.ssd +--state +\[6, \d+, 12\]")

    def test_every_listed_site_is_taken(self):
        for model in (TINY, RECURRENT):
            rows = [line.split() for line in bobbin("taps", model, "--list")[0].decode().splitlines()]
            sites = [row[0] for row in rows if not row[1].startswith("--")]
            args = [word for i in range(0, len(sites), 20) for word in ("--at", ",".join(sites[i:i + 20]))]
            files, err = self.taps(*args, model=model, n=3)
            self.assertEqual(set(files), set(sites))
            self.assertEqual(len(err.splitlines()), len(sites))

    def test_shapes_and_lines(self):
        files, err = self.taps("--at", "1:q,*:x,unembed:logits", "--attention", "1", "--attention", "2:1", "--kv", 0)
        self.assertEqual({name: shape for name, (shape, _) in files.items()}, {
            "blk.1.q.2": (70, 48), "blk.0.x.2": (70, 48), "blk.1.x.2": (70, 48), "blk.2.x.2": (70, 48),
            "unembed.logits": (70, 199), "blk.1.attention": (3, 70, 70), "blk.2.attention.1": (70, 70),
            "blk.0.keys": (1, 70, 16), "blk.0.values": (1, 70, 16)})
        self.assertIn(f"{self.folder}/out/blk.1.q.2.npy: blk.1.q.2 [70, 48]\n", err)
        self.assertEqual(len(err.splitlines()), len(files))

    def test_logits_are_those_of_logits(self):
        bobbin("logits", TINY, "--tokens", self.ids(70), "-o", self.folder / "logits.npy")
        files, _ = self.taps("--at", "unembed:logits")
        self.assertEqual(files["unembed.logits"], load(self.folder / "logits.npy"))

    def test_rows(self):
        every, _ = self.taps("--at", "1:att", "--attention", "1:2", "--kv", 1, "-c", 600, n=600)
        some, _ = self.taps("--at", "1:att", "--attention", "1:2", "--kv", 1, "--rows", "510-519", "-c", 600,
                            n=600)
        self.assertEqual(some["blk.1.att"][0], (10, 48))
        self.assertEqual(some["blk.1.att"][1], every["blk.1.att"][1][510 * 48:520 * 48])
        self.assertEqual(some["blk.1.attention.2"], ((10, 600), every["blk.1.attention.2"][1][510 * 600:520 * 600]))
        self.assertEqual(some["blk.1.keys"], ((1, 10, 16), every["blk.1.keys"][1][510 * 16:520 * 16]))
        one, _ = self.taps("--at", "1:att", "--rows", 7, n=9)
        self.assertEqual(one["blk.1.att"], ((1, 48), every["blk.1.att"][1][7 * 48:8 * 48]))

    def test_attention_sees_the_past(self):
        files, _ = self.taps("--attention", "0:1", "--attention", "5:1", model=TINY_WINDOW)
        for layer, window in ((0, 37), (5, 70)):
            weights = files[f"blk.{layer}.attention.1"][1]
            for t in range(70):
                row = weights[t * 70:(t + 1) * 70]
                self.assertAlmostEqual(sum(row), 1, places=5)
                self.assertEqual([i for i, w in enumerate(row) if w > 0], list(range(max(0, t + 1 - window), t + 1)))

    def test_states(self):
        files, _ = self.taps("--state", 1, "--kv", "*", model=RECURRENT)
        self.assertEqual({name for name in files if "state" in name}, {"blk.1.state.conv_silu", "blk.1.state.ssd"})
        self.assertEqual(files["blk.1.state.ssd"][0][0], 6)
        self.assertEqual(len([name for name in files if "keys" in name]), 3)

    def test_layers_as_ranges_and_lists(self):
        wide, _ = self.taps("--attention", "1-2, 0:1", "--kv", "0,2", "--at", "1:x, 2:x ", n=9)
        self.assertEqual(sorted(wide), ["blk.0.attention.1", "blk.0.keys", "blk.0.values", "blk.1.attention",
                                        "blk.1.x.2", "blk.2.attention", "blk.2.keys", "blk.2.values", "blk.2.x.2"])
        again, _ = self.taps("--attention", 1, "--attention", 2, "--attention", "0:1", "--kv", 0, "--kv", "2", "--at",
                             "1:x", "--at", "2:x", n=9)
        self.assertEqual(wide, again)
        some, _ = self.taps("--state", "0-1,0", model=RECURRENT, n=9)
        self.assertEqual({name[:11] for name in some}, {"blk.0.state", "blk.1.state"})

    def test_one_array_is_one_file(self):
        out = self.folder / "q.npy"
        _, err = bobbin("taps", TINY, "--tokens", self.ids(5), "--at", "1:q", "-o", out)
        self.sentence(err, f"{out}: blk.1.q.2 [5, 48]")
        self.assertEqual(load(out)[0], (5, 48))
        got, _ = bobbin("taps", TINY, "-p", "7 20 33 46 59", "--at", "1:q", "-o", "-")
        self.assertEqual(got, out.read_bytes())
        err = bobbin("taps", TINY, "-p", "1", "--at", "1:q,1:k", "-o", self.folder / "x.npy", status=2)[1]
        self.sentence(err, "2 arrays", "x.npy", "one file")

    def test_too_many_arrays_for_a_file_are_refused_before_the_run(self):
        args = ("taps", TINY_WINDOW, "--tokens", self.ids(500), "--kv", 0, "-o")
        self.sentence(bobbin(*args, self.folder / "x.npy", status=2)[1], "2 arrays", "one file")
        _, err = bobbin(*args, self.folder / "x", status=1)  # which is found behind the run
        self.sentence(err, "layer 0, which keeps 192 to 499")

    def test_adding_and_setting(self):
        v = save(self.folder / "v.npy", [i / 10 for i in range(48)])
        plain, _ = self.taps("--at", "1:x,2:x")
        added, _ = self.taps("--at", "1:x,2:x", "--add", f"1:x={v}*-2")
        for got, want, i in zip(added["blk.1.x.2"][1], plain["blk.1.x.2"][1], range(48 * 70)):
            self.assertAlmostEqual(got, want - 2 * (i % 48) / 10, places=4)
        self.assertNotEqual(added["blk.2.x.2"], plain["blk.2.x.2"])
        rows = save(self.folder / "rows.npy", list(range(96)), (2, 48), "d")
        edited, _ = self.taps("--at", "1:x", "--add", f"1:x@4-5={rows}", "--scale-head", "1:x@4-5:*=0")
        x = edited["blk.1.x.2"][1]
        self.assertEqual(list(x[4 * 48:6 * 48]), list(range(96)))
        self.assertEqual(x[:4 * 48], plain["blk.1.x.2"][1][:4 * 48])
        self.assertEqual(x[6 * 48:], plain["blk.1.x.2"][1][6 * 48:])

    def test_types_of_vectors(self):
        want = [1, -2, 3, 0.5, -0.25, 100] * 8
        plain, _ = self.taps("--at", "1:x", "--scale-head", "1:x:*=0", "--add", f"1:x={save(self.folder / 'v', want)}",
                             n=3)
        for kind in DESCR:
            values = [v if kind in "efd" else abs(int(v)) if kind in "BHIQ" else int(v) for v in want]
            v = save(self.folder / "v", values, kind=kind)
            got, _ = self.taps("--at", "1:x", "--scale-head", "1:x:*=0", "--add", f"1:x={v}", n=3)
            self.assertEqual(list(got["blk.1.x.2"][1]), values * 3, kind)
        self.assertEqual(list(plain["blk.1.x.2"][1]), want * 3)
        halves = [2.0 ** -24, 2.0 ** -15, 65504, -0.333251953125] * 12  # the first two are subnormal
        v = save(self.folder / "v", halves, kind="e")
        got, _ = self.taps("--at", "1:att", "--scale-head", "1:att:*=0", "--add", f"1:att={v}", n=1)
        self.assertEqual(list(got["blk.1.att"][1]), halves)

    def test_columns_first(self):
        rows = list(range(96))
        v = save(self.folder / "v", [rows[i % 2 * 48 + i // 2] for i in rows], (2, 48), fortran=True)
        got, _ = self.taps("--at", "1:x", "--scale-head", "1:x@4-5:*=0", "--add", f"1:x@4-5={v}", "--rows", "4-5", n=9)
        self.assertEqual(list(got["blk.1.x.2"][1]), rows)

    def test_numbers_that_are_not_finite(self):
        def add(values, factor="", shape=None, kind="f"):
            v = save(self.folder / "v.npy", values, shape, kind)
            return self.refused("--at", "1:q", "--add", f"1:x@2-3={v}{factor}", status=2 if factor else 1)
        self.sentence(add([0, 0, 0, float("nan")] + [0] * 44), "v.npy has a NaN at [3], expected")
        self.sentence(add([0] * 50 + [float("-inf")] + [0] * 45, shape=(2, 48)), "v.npy has an infinity at [1, 2]")
        self.sentence(add([1e300] * 48, kind="d"), "an infinity at [0]")
        self.sentence(add([float("inf")] * 48, kind="e"), "an infinity at [0]")
        self.sentence(add([1, 2, 9] + [0] * 45, "*1e38"), "v.npy has 9 at [2], which times 1e+38 is beyond float32")

    def test_edits_that_overflow(self):
        v = save(self.folder / "v.npy", [1] * 48)
        args = ("run", TINY, "-p", "1 2 3", "-n", 8, "--temp", 0)
        _, err = bobbin(*args, "--add", f"1:x={v}*1e38", status=1)
        self.sentence(err.splitlines()[-1] + b"\n", "blk.1.x.2", "an edit makes the row of token 0 too large")
        out, err = bobbin(*args, "--add", f"1:x={v}*1e15")
        self.assertEqual(len(out.split()), 8)
        v = save(self.folder / "v.npy", [3e38] * 199)
        _, err = bobbin(*args, "--add", f"unembed:logits={v}", "--add", f"unembed:logits={v}", status=1)
        self.sentence(err.splitlines()[-1] + b"\n", "unembed.logits", "token 2 NaN or infinite")

    def test_edits_of_no_token(self):
        v = save(self.folder / "v.npy", [0] * 48)
        for tokens, last in (("9", 9), ("7-9", 9), ("500-600", 600)):
            self.sentence(self.refused("--at", "1:q", "--add", f"1:x@{tokens}={v}"), f"'--add': token {last} of 1:x",
                          "tokens 0 to 8")
        self.sentence(self.refused("--at", "1:q", "--scale-head", "1:att@9:*=0"), "'--scale-head': token 9 of 1:att")
        args = ("run", TINY, "-p", "1 2 3", "-n", 4, "--temp", 0)
        said = b"from token %d on has changed nothing: the model has read tokens 0 to 5"
        _, err = bobbin(*args, "--add", f"1:x@6={v}", "--scale-head", "1:att@5:*=1")
        self.assertIn(b"'--add 1:x' " + said % 6, err)
        self.assertEqual(err.count(b"changed nothing"), 1)
        _, err = bobbin(*args, "--scale-head", "unembed:h@0:*=1")
        self.assertIn(b"'--scale-head unembed:h' " + said % 0 + b", and nobody wanted the logits of these", err)
        rows = save(self.folder / "rows.npy", [0] * 96, (2, 48))
        self.assertNotIn(b"nothing", bobbin(*args, "--add", f"1:x@5-6={rows}")[1])  # of these one is there

    def test_full_stdout_is_said_once(self):
        with open("/dev/full", "wb") as full:
            done = subprocess.run([BOBBIN, "taps", TINY, "-p", "1 2", "--at", "1:x", "-o", "-"], stdout=full,
                                  stderr=subprocess.PIPE, check=False)
        self.assertEqual(done.returncode, 1)
        self.sentence(done.stderr, "stdout could not be written: No space left")

    def test_scaling_heads(self):
        plain, _ = self.taps("--at", "0:att", "--at", "1:q")
        scaled, _ = self.taps("--at", "0:att", "--at", "1:q", "--scale-head", "0:att:1=3")
        for i, (got, want) in enumerate(zip(scaled["blk.0.att"][1], plain["blk.0.att"][1])):
            self.assertAlmostEqual(got, want * (3 if i % 48 // 16 == 1 else 1), places=5)
        self.assertNotEqual(scaled["blk.1.q.2"], plain["blk.1.q.2"])

    def test_generation_under_edits(self):
        args = ("run", TINY, "-p", "1 2 3", "-n", 8, "--temp", 0)
        plain, _ = bobbin(*args)
        v = save(self.folder / "v.npy", [50.0 if i == 77 else 0.0 for i in range(199)])
        self.assertEqual(bobbin(*args, "--add", f"unembed:logits={v}")[0].split(), [b"77"] * 8)
        self.assertEqual(bobbin(*args, "--add", f"unembed:logits={v}*0")[0], plain)
        self.assertEqual(bobbin(*args, "--scale-head", "*:att:*=1")[0], plain)
        self.assertNotEqual(bobbin(*args, "--scale-head", "*:att:*=0")[0], plain)
        self.sentence(bobbin(*args, "--add", f"unembed:x={v}", status=2)[1], "unembed has h, logits")

    def test_bad_sites(self):
        self.sentence(self.refused("--at", "1:foo"), "'1:foo'", "layer 1 has h.1, q.1, k.1, v, q.2")
        self.sentence(self.refused("--at", "1:q,3:q"), "'3:q'", "a layer from 0 to 2")
        self.sentence(self.refused("--at", "q"), "'q'", "LAYER:NAME")
        self.sentence(self.refused("--attention", "3"), "'3'", "layers from 0 to 2, as 0, 0-2 or *")
        self.sentence(self.refused("--attention", "1-3"), "'1-3'", "layers from 0 to 2")
        self.sentence(self.refused("--kv", "2-1"), "'2-1'", "layers from 0 to 2")
        self.sentence(self.refused("--attention", "1:x"), "'1:x'")
        self.sentence(self.refused("--attention", "1:3"), "head 3, expected 0 to 2")
        self.sentence(self.refused("--kv", "1:2"), "--kv")
        self.sentence(self.refused("--state", "1"), "layer 1 keeps no state")
        mamba = ROOT / "tests/goldens/mamba.gguf"
        self.sentence(self.refused("--attention", "0", model=mamba), "layer 0 doesn't attend")
        self.sentence(self.refused("--attention", "*", model=mamba), "no layer of this model attends")
        self.sentence(self.refused("--attention", "0-1", model=mamba), "none of layers 0 to 1 attends")
        self.sentence(self.refused("--kv", "0", model=mamba), "layer 0 keeps no keys and values")
        self.sentence(self.refused("--kv", "*", model=mamba), "no layer of this model keeps keys and values")
        self.sentence(self.refused("--state", "*"), "no layer of this model keeps a state")
        for text in ("", "1:q,", ",1:q", "1:q, ,1:k", " "):
            self.sentence(self.refused("--at", text), f"'{text}'", "is empty")
        self.sentence(self.refused("--kv", "1,"), "'1,'", "is empty")
        self.sentence(self.refused("--at", "1:q", "--rows", "5-9"), "'5-9'", "tokens 0 to 8")
        self.sentence(self.refused("--at", "1:q", "--rows", "5-4"), "'5-4'")

    def test_bad_edits(self):
        v = save(self.folder / "v.npy", [1, 2, 3])
        self.sentence(self.refused("--at", "1:q", "--add", f"1:x={v}"), "blk.1.x.2", "a vector of 3", "have 48")
        self.sentence(self.refused("--at", "1:q", "--add", "1:x"), "'1:x'", "SITE=FILE.npy")
        self.sentence(self.refused("--at", "1:q", "--add", f"1:x={v}*y"), "SITE=FILE.npy*FACTOR")
        self.sentence(self.refused("--at", "1:q", "--add", f"1:x@5-4={v}"), "@5-4")
        self.sentence(self.refused("--at", "1:q", "--add", "1:x=/nonexistent", status=1), "/nonexistent")
        for name, data in (("text", b"hello"), ("cut", v.read_bytes()[:-1]), ("empty", b"")):
            (self.folder / name).write_bytes(data)
            self.sentence(self.refused("--at", "1:q", "--add", f"1:x={self.folder / name}", status=1), name,
                          "expected a NumPy array")
        rows = save(self.folder / "rows.npy", [0] * 96, (2, 48))
        self.sentence(self.refused("--at", "1:q", "--add", f"1:x={rows}"), "2 rows")
        for text in ("1:att=0", "1:att:1", "1:att:1=x", "1:att:=0", "1:att:-1=0", "=0"):
            self.sentence(self.refused("--at", "1:q", "--scale-head", text), "--scale-head", f"'{text}'")
        self.sentence(self.refused("--at", "1:q", "--scale-head", "1:att:3=0"), "head 3, expected 0 to 2")
        self.sentence(self.refused("--at", "1:q", "--scale-head", "1:x:1=0"), "isn't made of heads")
        self.sentence(self.refused("--at", "1:q", "--scale-head", "1:x:0=0"), "isn't made of heads; * ")

    def test_bad_usage(self):
        self.sentence(bobbin("taps", status=2)[1], "no MODEL")
        self.sentence(bobbin("taps", TINY, status=2)[1], "-p", "--tokens", "--list")
        self.sentence(bobbin("taps", TINY, "-p", "1", "-o", "x", status=2)[1], "nothing to look at")
        self.sentence(bobbin("taps", TINY, "-p", "1", "--at", "1:q", status=2)[1], "no -o")
        self.sentence(bobbin("taps", TINY, "-p", "", "--at", "1:q", "-o", "x", status=1)[1], "empty")
        (self.folder / "big.json").write_text(json.dumps([500]), encoding="utf-8")
        self.sentence(bobbin("taps", TINY, "--tokens", self.folder / "big.json", "--at", "1:q", "-o",
                             self.folder / "out", status=1)[1], "500")
