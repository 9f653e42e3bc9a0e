# SPDX-License-Identifier: Apache-2.0
"""The process's edges: pipes, full disks, Ctrl-C; and the example program."""
import json
import os
import shutil
import signal
import subprocess
import time
import unittest

from case import BOBBIN, BUILD, SECONDS, TINY, REAL, Case, bobbin, real, wait_until_it_listens


def names(*args):
    done = subprocess.run(["nm", "--defined-only", *map(str, args)], capture_output=True, text=True, check=True)
    return {line.split()[-1] for line in done.stdout.splitlines() if len(line.split()) == 3}


class Edges(Case):
    @unittest.skipUnless(shutil.which("nm"), "nm is missing")
    def test_no_function_is_in_the_place_of_a_library_s(self):
        """What a program exports is what a shared library it is linked with has, too, and would call in its place."""
        self.assertEqual(names("-D", BOBBIN) & names(BUILD / "engine/libengine.a"), set())

    def test_a_reader_that_has_left_is_told_nothing(self):
        for args in (("inspect", TINY), ("run", TINY, "-p", "1", "-n", "400", "--ignore-eos"), ("bench", "--help")):
            with self.subTest(args[0]):
                read_end, write_end = os.pipe()
                os.close(read_end)
                done = subprocess.run([BOBBIN, *map(str, args)], stdin=subprocess.DEVNULL, stdout=write_end,
                                      stderr=subprocess.PIPE, timeout=SECONDS, check=False)
                os.close(write_end)
                self.assertEqual(done.returncode, 1)
                self.assertNotIn(b"written", done.stderr)

    @unittest.skipUnless(os.path.exists("/dev/full"), "/dev/full is missing")
    def test_full_stdout(self):
        for args in (("--help",), ("kernels",), ("inspect", TINY, "--json"), ("run", TINY, "-p", "1", "-n", "3"),
                     ("tokenize", TINY), ("bench", TINY, "-p", "4", "-n", "0", "-r", "1")):
            with self.subTest(args[0]), open("/dev/full", "wb") as full:
                done = subprocess.run([BOBBIN, *map(str, args)], stdin=subprocess.DEVNULL, stdout=full,
                                      stderr=subprocess.PIPE, timeout=SECONDS, check=False)
                self.assertEqual(done.returncode, 1)
                self.assertIn(b"No space left", done.stderr)

    def test_stdout_that_is_not_open(self):
        done = subprocess.run(["bash", "-c", f'"{BOBBIN}" inspect "{TINY}" >&-'], stdin=subprocess.DEVNULL,
                              stderr=subprocess.PIPE, timeout=SECONDS, check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn(b"written", done.stderr)

    def test_no_progress_in_pipes(self):
        _, err = bobbin("run", TINY, "-p", " ".join(["7"] * 900), "-c", "2000", "-n", "2")
        self.assertNotIn(b"\r", err)
        self.assertNotIn(b"\x1b", err)

    def interrupt(self, *args, ready=b"", stdin=None):
        """Presses Ctrl-C once some output is there; gives (status, stdout, stderr)."""
        process = subprocess.Popen([BOBBIN, *map(str, args)], stdin=stdin or subprocess.DEVNULL,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0)
        first = process.stdout.read(8) if ready else b""
        if not ready:
            wait_until_it_listens(process)
            time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=SECONDS)
        return process.returncode, first + out, err

    def test_interrupt_run(self):
        status, out, err = self.interrupt("run", TINY, "-p", "1 2", "-c", "4000000", "--ignore-eos", ready=b"x")
        self.assertEqual(status, 130)
        self.assertGreater(len(out.split()), 0)
        self.assertRegex(err, rb"\nbobbin run: stopped after \d+ tokens?\n.*generated:")

    def test_interrupt_run_json(self):
        process = subprocess.Popen([BOBBIN, "run", TINY, "-p", "1 2", "-c", "4000000", "--ignore-eos", "--json",
                                    "--verbose-prompt"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, bufsize=0)
        for line in process.stderr:
            if b"tokens)" in line:
                break
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=SECONDS)
        self.assertEqual(process.returncode, 130)
        self.assertEqual(json.loads(out)["finish_reason"], "abort")
        self.assertIn(b"bobbin run: stopped after ", err)

    def test_interrupt_bench(self):
        status, out, err = self.interrupt("bench", TINY, "-p", "8", "-n", "100000", "-r", "1", "-o", "jsonl",
                                          ready=b"x")
        self.assertEqual(status, 130)
        self.assertEqual([json.loads(line)["n_prompt"] for line in out.splitlines()], [8])
        self.assertTrue(err.endswith(b"\nbobbin bench: measuring was stopped\n"), err)

    def test_interrupt_bench_json_stays_json(self):
        process = subprocess.Popen([BOBBIN, "bench", TINY, "-p", "0", "-n", "500000", "-r", "1", "-o", "json"],
                                   stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                   bufsize=0)
        process.stdout.read(2)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=SECONDS)
        self.assertEqual((process.returncode, json.loads(b"[\n" + out)), (130, []))

    def test_interrupt_logits(self):
        ids = self.folder / "ids.json"
        ids.write_text(json.dumps([i % 190 for i in range(60000)]), encoding="utf-8")
        out = self.folder / "out.npy"
        process = subprocess.Popen([BOBBIN, "logits", TINY, "--tokens", ids, "-o", out, "--chunk", "1", "-c", "60000"],
                                   stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        end = time.monotonic() + SECONDS
        while not any(p.stat().st_size > 10000 for p in self.folder.glob(".bobbin-*")) and time.monotonic() < end:
            time.sleep(0.02)
        self.assertFalse(out.exists())
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=SECONDS)
        self.assertEqual(process.returncode, 130)
        self.sentence(err.splitlines()[-1], "stopped after", "of 60000 tokens", "no file is written")
        self.assertEqual(list(self.folder.iterdir()), [ids])

    def test_interrupt_perplexity(self):
        path = self.folder / "text"
        path.write_text(" ".join(str(i % 190) for i in range(400000)), encoding="utf-8")
        status, _, err = self.interrupt("perplexity", TINY, "-f", path, "-c", "64")
        self.assertEqual(status, 130, err)
        self.assertRegex(err, rb"bobbin perplexity: stopped after \d+ of 6250 windows\n")

    def test_interrupt_while_stdin_is_open(self):
        for args, want in ((("tokenize", TINY), "reading 'stdin' was stopped"),
                           (("detokenize", TINY), "reading 'stdin' was stopped"), (("run", TINY), "reading 'stdin'"),
                           (("perplexity", TINY, "-f", "-"), "reading 'stdin' was stopped"),
                           (("logits", TINY, "--tokens", "-", "-o", "-"), "reading 'stdin' was stopped"),
                           (("chat", TINY), "the conversation was stopped")):
            with self.subTest(args[0]):
                read_end, write_end = os.pipe()
                status, _, err = self.interrupt(*args, stdin=read_end)
                os.close(read_end)
                os.close(write_end)
                self.assertEqual(status, 130)
                self.assertIn(f"bobbin {args[0]}: {want}", err.decode())

    @real
    def test_interrupt_while_loading(self):
        process = subprocess.Popen([BOBBIN, "run", REAL, "-p", "Hi", "-t", "1"], stdin=subprocess.DEVNULL,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        wait_until_it_listens(process)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=SECONDS)
        self.assertEqual((process.returncode, out), (130, b""))
        self.sentence(err, "bobbin run: loading was stopped")


class Example(Case):
    def test_first_program(self):
        program = BUILD / "examples" / "first"
        done = subprocess.run([program, TINY, "1 2 3"], capture_output=True, timeout=SECONDS, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(len(done.stdout.split()), 64)
        again = subprocess.run([program, TINY, "1 2 3"], capture_output=True, timeout=SECONDS, check=False)
        self.assertEqual(again.stdout, done.stdout)

    def test_first_program_fails_with_a_sentence(self):
        done = subprocess.run([BUILD / "examples" / "first", "/no/such", "1"], capture_output=True, timeout=SECONDS,
                              check=False)
        self.assertEqual(done.returncode, 1)
        self.sentence(done.stderr, "/no/such")
