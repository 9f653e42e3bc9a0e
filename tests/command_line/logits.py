# SPDX-License-Identifier: Apache-2.0
"""bobbin logits."""
import array
import json
import math
import os
import resource
import signal
import subprocess
import unittest

from case import BOBBIN, SECONDS, TINY, TINY_WINDOW, REAL, Case, bobbin, damaged, read_npy, real


class Logits(Case):
    def logits(self, model, ids, *args, out="out.npy"):
        out = self.folder / out
        _, err = bobbin("logits", model, "--tokens", ids, "-o", out, *args)
        return *read_npy(out), err.decode()

    def test_shape_and_line(self):
        rows, columns, _, err = self.logits(TINY, self.ids(70))
        n_vocab = json.loads(bobbin("inspect", TINY, "--json")[0])["n_vocab"]
        self.assertEqual((rows, columns), (70, n_vocab))
        self.assertEqual(err, "steps 1, most rows in a step 70\n")

    def test_chunks_change_no_bit(self):
        ids = self.ids(150)
        want = self.logits(TINY, ids)[2]
        for chunk, steps in ((1, 150), (7, 22), (64, 3)):
            _, _, got, err = self.logits(TINY, ids, "--chunk", chunk)
            self.assertEqual(got, want, f"--chunk {chunk}")
            self.assertIn(f"steps {steps}, most rows in a step {chunk}\n", err)

    def test_company_changes_no_bit(self):
        ids = self.ids(100)
        want = self.logits(TINY, ids)[2]
        for args in (("--beside", 1), ("--beside", 9, "--chunk", 3), ("--beside", 4, "--chunk", 1, "-t", 2)):
            _, _, got, err = self.logits(TINY, ids, *args)
            self.assertEqual(got, want, args)
            chunk = args[3] if len(args) > 2 else 100
            self.assertGreater(int(err.split()[-1]), chunk)

    def test_company_in_tiny_contexts(self):
        for n in (1, 2, 5):
            ids = self.ids(n)
            want = self.logits(TINY, ids)[2]
            self.assertEqual(self.logits(TINY, ids, "--beside", 9, "--chunk", 1, "-c", n)[2], want)

    def test_window_model(self):
        ids = self.ids(300)
        want = self.logits(TINY_WINDOW, ids)[2]
        self.assertEqual(self.logits(TINY_WINDOW, ids, "--chunk", 1, "--beside", 2)[2], want)

    def test_damaged_model_is_written_with_a_notice(self):
        out = self.folder / "out.npy"
        _, err = bobbin("logits", damaged(self.folder), "--tokens", self.ids(70), "-o", out, "--chunk", 9)
        self.assertIn(b"70 of 70 tokens have logits that are NaN or infinite, the first at index 0", err)
        self.assertEqual(read_npy(out)[0], 70)
        self.assertNotIn(b"infinite", bobbin("logits", TINY, "--tokens", self.ids(70), "-o", out)[1])

    def test_reads_stdin(self):
        out = self.folder / "out.npy"
        bobbin("logits", TINY, "--tokens", "-", "-o", out, stdin="[1, 2, 3]")
        self.assertEqual(read_npy(out)[0], 3)

    def test_writes_stdout(self):
        ids, out = self.ids(70), self.folder / "out.npy"
        bobbin("logits", TINY, "--tokens", ids, "-o", out)
        got, err = bobbin("logits", TINY, "--tokens", "-", "-o", "-", "--chunk", 9, stdin=ids.read_bytes(),
                          cwd=self.folder)
        self.assertEqual(got, out.read_bytes())
        self.sentence(err, "steps 8, most rows in a step 9")
        self.assertEqual(sorted(p.name for p in self.folder.iterdir()), ["ids.json", "out.npy"])

    def test_closed_pipe_ends_it_without_a_word(self):
        read_end, write_end = os.pipe()
        os.close(read_end)
        done = subprocess.run([BOBBIN, "logits", TINY, "--tokens", self.ids(300), "-o", "-"], stdout=write_end,
                              stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=SECONDS, check=False)
        os.close(write_end)
        self.assertEqual(done.returncode, 1)
        self.assertEqual(done.stderr, b"")

    def test_output_that_cannot_be_written(self):
        for path in ("/no/such/out.npy", self.folder, ""):
            _, err = bobbin("logits", TINY, "--tokens", self.ids(3), "-o", path, status=1)
            self.sentence(err, f"'{path}' could not be written")

    def test_output_replaces_what_a_link_points_at(self):
        (self.folder / "old").write_bytes(b"old")
        os.chmod(self.folder / "old", 0o600)
        (self.folder / "link").symlink_to("old")
        self.assertEqual(self.logits(TINY, self.ids(3), out="link")[0], 3)
        self.assertTrue((self.folder / "link").is_symlink())
        self.assertEqual(os.stat(self.folder / "old").st_mode & 0o777, 0o600)

    def test_output_has_the_usual_mode(self):
        mask = os.umask(0o027)
        self.addCleanup(os.umask, mask)
        self.logits(TINY, self.ids(3))
        self.assertEqual(os.stat(self.folder / "out.npy").st_mode & 0o777, 0o640)

    @unittest.skipUnless(os.path.exists("/dev/full"), "/dev/full is missing")
    def test_full_disk(self):
        _, err = bobbin("logits", TINY, "--tokens", self.ids(300), "-o", "/dev/full", status=1)
        self.sentence(err, "/dev/full", "No space left")

    def test_file_size_limit_leaves_nothing_behind(self):
        out = self.folder / "out.npy"

        def limit():
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
        _, err = bobbin("logits", TINY, "--tokens", self.ids(300), "-o", out, status=1, preexec_fn=limit)
        self.sentence(err, str(out))
        self.assertEqual([p.name for p in self.folder.iterdir()], ["ids.json"])

    def test_bad_tokens(self):
        for text in ("[]", "[1, 70000000]", "[-1]", "{}", "nonsense"):
            with self.subTest(text):
                path = self.folder / "bad.json"
                path.write_text(text, encoding="utf-8")
                out = self.folder / "out.npy"
                self.sentence(bobbin("logits", TINY, "--tokens", path, "-o", out, status=1)[1], "bad.json")
                self.assertFalse(out.exists())

    def test_bad_tokens_on_stdin(self):
        for text in ("[]", "[1, 70000000]", "nonsense"):
            _, err = bobbin("logits", TINY, "--tokens", "-", "-o", self.folder / "o", stdin=text, status=1)
            self.sentence(err, "bobbin logits: stdin")

    def test_too_many_tokens(self):
        _, err = bobbin("logits", TINY, "--tokens", self.ids(40), "-o", self.folder / "o", "-c", "30", status=1)
        self.sentence(err, "40 tokens", "30")

    @real
    def test_real_model(self):
        ids = self.folder / "ids.json"
        ids.write_bytes(bobbin("tokenize", REAL, stdin="The quick brown fox jumps over the lazy dog.")[0])
        want = self.logits(REAL, ids)
        self.assertEqual(self.logits(REAL, ids, "--chunk", 1, "--beside", 3)[2], want[2])
        last = array.array("f", want[2])[-want[1]:]
        self.assertTrue(all(math.isfinite(v) for v in last))
