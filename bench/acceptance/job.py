# SPDX-License-Identifier: Apache-2.0
"""One acceptance run: its items, its time, the commands that it starts. An item is written and flushed when it is
known, so that a run that is cut off still counts. Knows nothing of what the steps do."""
import datetime
import json
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
STATUSES = ("passed", "failed", "cut off", "skipped", "measured")  # cut off: no fault in the part that was played
CANNOT_START = "error while loading shared libraries"


class Skip(Exception):
    """A step, or the rest of it, can't be had; the text says why."""


class Done:
    """What became of a command; output is what came until it ended or was stopped."""

    def __init__(self, status, out, err, seconds, was_stopped):
        self.status, self.out, self.err = status, out, err
        self.seconds, self.was_stopped = seconds, was_stopped

    def why(self):
        """One sentence about a bad end."""
        if self.was_stopped:
            return f"stopped at its limit of {self.seconds:.0f} s"
        words = (self.err.strip() or self.out.strip()).splitlines()
        return f"exit status {self.status}" + (f": {words[-1][:300]}" if words else "")


class Job:
    def __init__(self, device, build, minutes, file=None, tools=None):
        self.device, self.build, self.file, self.tools = device, build, file, tools
        self.is_gpu = device == "cuda"
        self.scale = minutes / 10
        self.end = time.monotonic() + 60 * minutes
        self.step, self.step_end = None, self.end
        self.common = {}   # on every line
        self.items = []
        self.limits = {}   # bytes and operations per second that this card reaches: copy, read, matmul
        self.sheet = {}    # the same of its data sheet, where it is known
        self.timings = []  # of our kernels
        self.closing = []  # called at the end
        self.live = set()  # processes of commands

    # ---- items ----

    def item(self, name, status, reason=None, /, **figures):
        assert status in STATUSES
        now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        line = {"step": self.step, "item": name, "status": status, **({"reason": reason} if reason else {}),
                **figures, "device": self.device, "date": now, **self.common}
        self.items.append(line)
        if self.file is not None:
            self.file.write(json.dumps(line) + "\n")
            self.file.flush()
        print(f"{status:8} {self.step}: {name}" + (f" ({reason})" if reason else ""), flush=True)
        return line

    def count(self, status):
        return sum(line["status"] == status for line in self.items)

    # ---- time ----

    def begin(self, step, seconds):
        """Starts a step that may take so long in a run of ten minutes."""
        self.step = step
        self.step_end = min(self.end, time.monotonic() + seconds * self.scale)

    def left(self):
        return max(0.0, self.step_end - time.monotonic())

    # ---- commands ----

    def find(self, name, *folders):
        """Path of a tool, or None. On the emulator only --tools is searched: the real ones would find no GPU."""
        places = [self.tools] if self.tools else []
        places += [os.environ.get("PATH", ""), *folders] if self.is_gpu else []
        for place in places:
            path = shutil.which(name, path=str(place))
            if path:
                return path
        return None

    def need(self, name, *folders):
        path = self.find(name, *folders)
        if path is None:
            raise Skip(f"{name} is missing")
        return path

    def program(self, path):
        if not (self.build / path).exists():
            raise Skip(f"{path} isn't built")
        return self.build / path

    def run(self, command, seconds=None, **env):
        """Runs a command for as long as it, and the step, may take; raises Skip when it can't be started."""
        limit = self.left() if seconds is None else min(self.left(), seconds * self.scale)
        if limit < 0.5:
            raise Skip("no time is left for it")
        start, was_stopped = time.monotonic(), False
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            try:
                process = subprocess.Popen([str(c) for c in command], stdin=subprocess.DEVNULL, stdout=out,
                                           stderr=err, cwd=ROOT, start_new_session=True,
                                           env={**os.environ, **env})
            except OSError as error:
                raise Skip(f"{command[0]} can't be started: {error.strerror}") from error
            self.live.add(process)
            try:
                process.wait(limit)
            except BaseException as error:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                if not isinstance(error, subprocess.TimeoutExpired):
                    raise
                was_stopped = True
            finally:
                self.live.discard(process)
            texts = []
            for stream in (out, err):
                stream.seek(0)
                texts.append(stream.read().decode(errors="replace"))
        if process.returncode == 127 and CANNOT_START in texts[1]:
            raise Skip(f"{command[0]} can't be started: {texts[1].strip().splitlines()[-1]}")
        return Done(process.returncode, *texts, time.monotonic() - start, was_stopped)

    def side_by_side(self, function, things, n):
        """function(thing) of each, up to n at a time, in their order; a Skip that one raises is its answer. A Ctrl-C
        ends their commands."""
        def call(thing):
            try:
                return function(thing)
            except Skip as reason:
                return reason

        with ThreadPoolExecutor(n) as pool:
            futures = [pool.submit(call, thing) for thing in things]
            try:
                return [future.result() for future in futures]
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                for process in list(self.live):
                    os.killpg(process.pid, signal.SIGKILL)
                raise


def json_lines(text):
    """The objects of the lines that are whole."""
    found = []
    for line in text.splitlines():
        try:
            value = json.loads(line)
        except ValueError:
            continue
        if isinstance(value, dict):
            found.append(value)
    return found
