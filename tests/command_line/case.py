# SPDX-License-Identifier: Apache-2.0
"""What the tests of the command line share: running a command, reading what it writes, a terminal."""
import array
import json
import os
import pathlib
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
BUILD = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "build").resolve()
BOBBIN = BUILD / "tools" / "bobbin"
TINY, TINY_WINDOW = ROOT / "tests/goldens/llama.gguf", ROOT / "tests/goldens/gemma3.gguf"
MODELS = pathlib.Path(os.environ.get("BOBBIN_MODELS", pathlib.Path.home() / ".cache/bobbin/models"))
REAL = MODELS / "smollm2.gguf"
COMMANDS = ("run", "chat", "serve", "tokenize", "detokenize", "template", "logits", "perplexity", "taps", "bench",
            "inspect", "kernels", "handset")
SECONDS = 240

# Started in the background, a shell passes SIGINT on as ignored, and so would every program tested here.
signal.signal(signal.SIGINT, signal.default_int_handler)


def bobbin(*args, stdin=b"", status=0, **more):
    """Runs a command, checks its exit status, and gives (stdout, stderr) as bytes."""
    stdin = stdin.encode() if isinstance(stdin, str) else stdin
    done = subprocess.run([BOBBIN, *map(str, args)], input=stdin, capture_output=True, timeout=SECONDS,
                          check=False, **more)
    if done.returncode != status:
        raise AssertionError(f"bobbin {' '.join(map(str, args))}: exit status {done.returncode}, want {status}\n"
                             f"{done.stdout.decode(errors='replace')[-800:]}\n"
                             f"{done.stderr.decode(errors='replace')[-800:]}")
    return done.stdout, done.stderr


def real(test):
    return unittest.skipUnless(REAL.exists(), f"{REAL} is missing")(test)


def read_npy(path):
    data = pathlib.Path(path).read_bytes()
    assert data[:8] == b"\x93NUMPY\x01\x00", data[:8]
    size = struct.unpack("<H", data[8:10])[0]
    header = data[10:10 + size].decode()
    assert (10 + size) % 64 == 0 and header.endswith("\n")
    assert "'descr': '<f4'" in header and "'fortran_order': False" in header
    rows, columns = map(int, re.search(r"'shape': \((\d+), (\d+)\)", header).groups())
    values = array.array("f", data[10 + size:])
    assert len(values) == rows * columns, (len(values), rows, columns)
    return rows, columns, data[10 + size:]


def options_of(command):
    """Every spelling in a command's help."""
    out, _ = bobbin(command, "--help")
    rows = re.findall(r"^  (-[^\s,]+(?:, -[^\s,]+)*)", out.decode(), re.M)
    return [name for row in rows for name in row.split(", ")]


def damaged(folder):
    """A model whose logits aren't all finite."""
    path, data = folder / "damaged.gguf", bytearray(TINY.read_bytes())
    data[-64:] = b"\xff" * 64
    path.write_bytes(data)
    return path


class Case(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def sentence(self, stderr, *words):
        """One line on stderr that holds the words."""
        lines = stderr.decode().strip().splitlines()
        self.assertEqual(len(lines), 1, lines)
        for word in words:
            self.assertIn(word, lines[0])

    def ids(self, n, n_vocab=190):
        path = self.folder / "ids.json"
        path.write_text(json.dumps([(7 + 13 * i) % n_vocab for i in range(n)]), encoding="utf-8")
        return path


def wait_until_it_listens(process):
    """Until Ctrl-C would be caught by the program itself, not by what became of this one's copy."""
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        status = pathlib.Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
        caught = int(re.search(r"SigCgt:\s+(\w+)", status).group(1), 16)
        if os.path.realpath(f"/proc/{process.pid}/exe") == str(BOBBIN) and caught & 1 << signal.SIGINT - 1:
            return
        time.sleep(0.01)
    raise AssertionError("it never listened to SIGINT")


class Terminal:
    """A bobbin on a terminal of its own."""

    def __init__(self, *args):
        try:
            self.pid, self.fd = pty.fork()
        except OSError as error:  # a chroot without /dev/pts
            raise unittest.SkipTest(f"no terminal can be had: {error}") from error
        if self.pid == 0:
            os.environ.update(TERM="xterm", HOME="/nonexistent", LC_ALL="C.UTF-8")
            os.execv(BOBBIN, ["bobbin", *map(str, args)])
        self.seen = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        try:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        except (ChildProcessError, ProcessLookupError):
            pass
        os.close(self.fd)

    def read(self, seconds):
        if not select.select([self.fd], [], [], seconds)[0]:
            return False
        try:
            data = os.read(self.fd, 65536)
        except OSError:
            return False
        self.seen += data
        return bool(data)

    def wait_for(self, *words):
        end = time.monotonic() + SECONDS
        for word in words:
            while word not in self.seen:
                if time.monotonic() > end or not self.read(end - time.monotonic()):
                    raise AssertionError(f"no {word} in {self.seen[-500:]}")
            self.seen = self.seen.split(word, 1)[1]

    def wait_some(self):
        """Until more text came."""
        self.seen = b""
        while len(self.seen) < 20 and self.read(SECONDS):
            pass
        self.seen = b""

    def wait_until_edited(self):
        """Until keys arrive one by one; a Ctrl-D before that is the end of a line, and lost with it."""
        end = time.monotonic() + SECONDS
        while termios.tcgetattr(self.fd)[3] & termios.ICANON:
            self.read(0.01)
            if time.monotonic() > end:
                raise AssertionError("the terminal never left its line mode")

    def send(self, data):
        os.write(self.fd, data)

    def status(self):
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                return os.waitstatus_to_exitcode(status)
            self.read(0.1)
        raise AssertionError("it did not end")
