# SPDX-License-Identifier: Apache-2.0
"""The process that measures with PyTorch: started once, since importing it takes long, and asked in turns with our own
kernels. Requests and answers are lines of JSON (torch_peer.py)."""
import json
import os
import pathlib
import select
import signal
import subprocess
import sys

from acceptance.job import Skip

SCRIPT = pathlib.Path(__file__).resolve().parent / "torch_peer.py"


class Peer:
    def __init__(self, job):
        script = SCRIPT
        if job.tools and (job.tools / SCRIPT.name).exists():
            script = job.tools / SCRIPT.name
        self.job = job
        self.pending = b""
        # A session of its own: a Ctrl-C is this program's to handle.
        self.process = subprocess.Popen([sys.executable, str(script), "cuda" if job.is_gpu else "cpu"],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                                        start_new_session=True)
        job.closing.append(self.close)
        self.gone = None
        try:
            job.common["torch"] = self.answer(90)["torch"]
        except Skip as reason:
            self.gone = str(reason)

    def close(self):
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()

    def stop(self, reason):
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.gone = reason
        raise Skip(reason)

    def answer(self, seconds):
        """The next line; a peer that is late or dead is not asked again."""
        while b"\n" not in self.pending:
            limit = min(seconds * self.job.scale, self.job.left())
            if not select.select([self.process.stdout], [], [], limit)[0]:
                self.stop(f"torch gave no answer in {limit:.0f} s")
            data = os.read(self.process.stdout.fileno(), 65536)
            if not data:
                self.stop("torch's process ended")
            self.pending += data
        line, self.pending = self.pending.split(b"\n", 1)
        answer = json.loads(line)
        if "fatal" in answer:
            self.stop(answer["fatal"])
        return answer

    def ask(self, request, seconds):
        if self.gone:
            raise Skip(self.gone)
        try:
            self.process.stdin.write(json.dumps(request).encode() + b"\n")
            self.process.stdin.flush()
        except OSError:
            self.stop("torch's process ended")
        answer = self.answer(seconds)
        if "error" in answer:
            raise Skip(f"torch: {answer['error']}")
        return answer


def of(job):
    """The job's peer, started when it is first wanted."""
    if not hasattr(job, "peer"):
        job.peer = Peer(job)
    if job.peer.gone:
        raise Skip(job.peer.gone)
    return job.peer
