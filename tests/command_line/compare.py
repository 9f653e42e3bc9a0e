# SPDX-License-Identifier: Apache-2.0
"""The comparisons with llama.cpp, against programs that say what they are told to."""
import json
import subprocess
import sys

from case import BOBBIN, ROOT, SECONDS, TINY, Case, bobbin

SERVER = '''#!{python}
import http.server, json, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def answer(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps({{"tokens": [{token}]}}).encode())
    do_GET = do_POST = answer
    def log_message(self, *args):
        pass
http.server.HTTPServer(("127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1])), Handler).serve_forever()
'''


class Compare(Case):
    def compare(self, script, peer, text, *args):
        (self.folder / "bin").mkdir(exist_ok=True)
        (self.folder / "bin" / peer).write_text(text, encoding="utf-8")
        (self.folder / "bin" / peer).chmod(0o755)
        done = subprocess.run([ROOT / "bench" / script, self.folder, TINY, "--bobbin", BOBBIN, *map(str, args)],
                              capture_output=True, timeout=SECONDS, check=False)
        return done.returncode, done.stdout.decode(), done.stderr

    def test_perplexity_that_differs(self):
        path = self.folder / "text"
        path.write_text(" ".join(str(7 * i % 190) for i in range(400)), encoding="utf-8")
        ours = json.loads(bobbin("perplexity", TINY, "-f", path, "-c", "64", "--json")[0])["ppl"]
        for factor, status in ((1.004, 0), (0.996, 0), (1.006, 1), (0.994, 1)):
            line = f"Final estimate: PPL = {ours / factor:.4f} +/- 1.0"
            got, out, err = self.compare("perplexity_vs_llama", "llama-perplexity", f"#!/bin/sh\necho '{line}'\n",
                                         "-f", path, "-c", "64")
            self.assertEqual(got, status, out)
            self.assertEqual(b"differ by more than 0.5 %" in err, status == 1)

    def test_first_difference_that_is_no_rounding(self):
        for prompt in ("1 2", "3 4 5", "9"):  # gaps on both sides of 0.5
            root = json.loads(bobbin("run", TINY, "--raw", "-p", prompt, "-n", "1", "--temp", "0", "--json",
                                     "--logprobs", "2")[0])
            best, second = root["logprobs"]["content"][0]["top_logprobs"]
            gap = best["logprob"] - second["logprob"]
            for token, status in ((best["id"], 0), (second["id"], int(gap >= 0.5))):
                got, out, err = self.compare("greedy_vs_llama", "llama-server",
                                             SERVER.format(python=sys.executable, token=token), "--prompt", prompt)
                self.assertEqual(got, status, out)
                self.assertEqual(b"gap of 0.5 or more" in err, status == 1)
