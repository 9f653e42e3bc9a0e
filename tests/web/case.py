# SPDX-License-Identifier: Apache-2.0
"""What the tests of the page share: a server on a real model, a browser, and what no page may do: say something on the
console, ask another host."""
import atexit
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest
import urllib.parse

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
BOBBIN = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "build").resolve() / "tools/bobbin"
MODELS = pathlib.Path(os.environ.get("BOBBIN_MODELS", pathlib.Path.home() / ".cache/bobbin/models"))
REAL = MODELS / "smollm2.gguf"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
MILLISECONDS = 60000

try:
    from playwright.sync_api import sync_playwright
except ImportError:
    sync_playwright = None

MISSING = ("the Python package playwright is missing" if sync_playwright is None
           else "chromium is missing" if CHROMIUM is None
           else f"{REAL} is missing" if not REAL.exists() else None)
_browser = []


def browser():
    """One for all tests; a page has a context of its own, so nothing is kept from one to the next."""
    if not _browser:
        play = sync_playwright().start()
        _browser.append(play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]))
        atexit.register(lambda: (_browser[0].close(), play.stop()))
    return _browser[0]


class Server:
    """`bobbin serve` on a free port."""

    def __init__(self, *options):
        self.log = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen([BOBBIN, "serve", str(REAL), "--port", "0", *options],
                                        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        self.url, lines = None, []
        for line in self.process.stderr:
            lines.append(line)
            found = re.search(r" at (http://\S+)", line)
            if found:
                self.url = found.group(1)
                break
        if self.url is None:
            raise AssertionError(f"the server didn't start: {''.join(lines)}")
        self.drain = subprocess.Popen(["cat"], stdin=self.process.stderr, stdout=self.log)

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)
        self.drain.wait(10)
        self.process.stderr.close()
        self.log.close()


def sse(*deltas, finish="stop"):
    """A whole streamed chat completion."""
    events = [{"choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
    events.append({"choices": [{"index": 0, "delta": {}, "finish_reason": finish}]})
    events.append({"choices": [], "usage": {"prompt_tokens": 20, "completion_tokens": len(deltas), "total_tokens":
                                            20 + len(deltas), "prompt_tokens_details": {"cached_tokens": 16}},
                   "timings": {"predicted_per_second": 25.5}})
    return "".join(f"data: {json.dumps(event)}\n\n" for event in events) + "data: [DONE]\n\n"


@unittest.skipIf(MISSING, MISSING)
class PageCase(unittest.TestCase):
    options = ()                        # of the server
    width, height, scheme = 1100, 800, "light"

    @classmethod
    def setUpClass(cls):
        cls.server = Server(*cls.options)
        cls.addClassCleanup(cls.server.stop)

    def setUp(self):
        context = browser().new_context(viewport={"width": self.width, "height": self.height},
                                        color_scheme=self.scheme)
        self.addCleanup(context.close)
        self.page = context.new_page()
        self.page.set_default_timeout(MILLISECONDS)
        self.said, self.hosts = [], set()
        self.may_say = ()               # patterns of what the browser itself reports of a refusal
        self.page.on("console", lambda m: self.said.append(m.text) if m.type in ("error", "warning") else None)
        self.page.on("pageerror", lambda e: self.said.append(str(e)))
        context.on("request", lambda r: self.hosts.add(urllib.parse.urlsplit(r.url).netloc))
        self.page.goto(self.server.url)
        self.wait("document.getElementById('model').textContent !== ''")

    def tearDown(self):
        said = [text for text in self.said if not any(re.search(p, text) for p in self.may_say)]
        self.assertEqual(said, [])
        self.assertEqual(self.hosts, {urllib.parse.urlsplit(self.server.url).netloc})

    def set(self, **values):
        """Fills settings by their name and closes them."""
        self.page.click("#open-settings")
        for name, value in values.items():
            self.page.fill(f"#settings [name={name}], #settings #{name}", str(value))
        self.page.click("#close-settings")

    def wait(self, claim):
        """Until an expression of the page is true. Its policy forbids the eval of playwright's own."""
        end = time.monotonic() + MILLISECONDS / 1000
        while not self.page.evaluate(claim):
            self.assertLess(time.monotonic(), end, f"never true: {claim}")
            self.page.wait_for_timeout(20)

    def send(self, text):
        self.page.fill("#prompt", text)
        self.page.press("#prompt", "Enter")

    def wait_answer(self):
        self.page.wait_for_selector("#stop", state="hidden")

    def answer(self, *deltas, finish="stop"):
        """The next answers are these instead of the model's."""
        self.page.route("**/v1/chat/completions", lambda route: route.fulfill(
            status=200, content_type="text/event-stream", body=sse(*deltas, finish=finish)))

    def text(self, selector):
        return self.page.inner_text(selector)
