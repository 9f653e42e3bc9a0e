# SPDX-License-Identifier: Apache-2.0
"""What the tests of the server share: starting one, raw requests, the clients."""
import http.client
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
BUILD = pathlib.Path(sys.argv[1]).resolve()
BOBBIN = BUILD / "tools" / "bobbin"
TINY = ROOT / "tests/goldens/llama.gguf"
MODELS = pathlib.Path(os.environ.get("BOBBIN_MODELS", pathlib.Path.home() / ".cache/bobbin/models"))
REAL = MODELS / "smollm2.gguf"
SECONDS = 120

try:
    import anthropic
    import openai
except ImportError:
    anthropic = openai = None


def with_clients(test):
    return unittest.skipIf(openai is None, "the openai and anthropic packages are missing")(test)


class Server:
    """A `bobbin serve` on a port of its own. limit: bytes of its address space."""

    def __init__(self, model, *options, env=None, limit=None, program=BOBBIN):
        limited = ["prlimit", f"--as={limit}"] if limit else []
        self.log = tempfile.TemporaryFile()
        self.process = subprocess.Popen([*limited, program, "serve", model, "--port", "0", *map(str, options)],
                                        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=self.log,
                                        env={**os.environ, **(env or {})})
        end = time.monotonic() + SECONDS
        while not (found := re.search(r"http://[^ ]+:(\d+)\n", self.said())):
            if self.process.poll() is not None or time.monotonic() > end:
                raise AssertionError(f"the server didn't start: {self.said()}")
            time.sleep(0.02)
        self.port = int(found.group(1))

    def said(self):
        self.log.seek(0)
        return self.log.read().decode()

    def lines(self):
        """The access log."""
        return [json.loads(line) for line in self.said().splitlines() if line.startswith("{")]

    def connect(self):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=SECONDS)

    def ask(self, method, path, body=None, **headers):
        """(status, headers, bytes)"""
        connection = self.connect()
        if isinstance(body, (dict, list)):
            body = json.dumps(body)
        connection.request(method, path, body, {"Content-Type": "application/json", **headers})
        reply = connection.getresponse()
        data = reply.read()
        connection.close()
        return reply.status, reply.headers, data

    def post(self, path, body, status=200, **headers):
        got, _, data = self.ask("POST", path, body, **headers)
        if got != status:
            raise AssertionError(f"{path}: status {got}, want {status}: {data[:500]}")
        return json.loads(data)

    def get(self, path, status=200, **headers):
        got, _, data = self.ask("GET", path, **headers)
        if got != status:
            raise AssertionError(f"{path}: status {got}, want {status}: {data[:500]}")
        return json.loads(data)

    def metric(self, name):
        _, _, data = self.ask("GET", "/metrics")
        return float(re.search(rf"^{re.escape(name)} (\S+)$", data.decode(), re.M).group(1))

    def wait_for(self, what, seconds=SECONDS):
        """Until what() of the live view is true."""
        end = time.monotonic() + seconds
        while not what(self.get("/v1/loads")):
            if time.monotonic() > end:
                raise AssertionError(f"it never came to that: {self.get('/v1/loads')}")
            time.sleep(0.01)

    def openai(self, **more):
        return openai.OpenAI(base_url=f"http://127.0.0.1:{self.port}/v1", api_key="none", max_retries=0, **more)

    def anthropic(self, **more):
        return anthropic.Anthropic(base_url=f"http://127.0.0.1:{self.port}", api_key="none", max_retries=0, **more)

    def stop(self, number=signal.SIGTERM):
        """Its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.ended()

    def ended(self):
        try:
            return self.process.wait(SECONDS)
        finally:
            self.process.kill()     # of those that don't end
            self.process.wait()

    def wait_to_say(self, text):
        end = time.monotonic() + SECONDS
        while text not in self.said():
            if time.monotonic() > end:
                raise AssertionError(f"it never said '{text}': {self.said()}")
            time.sleep(0.01)


class Case(unittest.TestCase):
    """With a server for all tests of the class."""
    model, options = TINY, ()

    @classmethod
    def setUpClass(cls):
        if not cls.model.exists():
            raise unittest.SkipTest(f"{cls.model} is missing")
        cls.server = Server(cls.model, *cls.options)

    @classmethod
    def tearDownClass(cls):
        status = cls.server.stop()
        if status != 0:
            raise AssertionError(f"the server ended with {status}")


def chat(content="1 2 3", **more):
    return {"messages": [{"role": "user", "content": content}], "max_tokens": 4, "temperature": 0, **more}
