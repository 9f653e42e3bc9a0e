# SPDX-License-Identifier: Apache-2.0
"""What is around the server: metrics as Prometheus wants them, the Grafana board, the systemd unit, the containers."""
import json
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

from serving import BOBBIN, REAL, Case, ROOT, with_clients

BOARD = ROOT / "tools/grafana-bobbin.json"
UNIT = ROOT / "packaging/bobbin.service"
DOCKERFILES = (ROOT / "packaging/Dockerfile", ROOT / "packaging/Dockerfile.cuda")


def exported(text):
    """{name of a metric: its type}"""
    return dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.M))


class Metrics(Case):
    options = ("--metrics-compat", "vllm")

    def text(self):
        self.server.post("/v1/completions", {"prompt": [1, 2], "max_tokens": 3})
        status, headers, data = self.server.ask("GET", "/metrics")
        self.assertEqual(status, 200)
        self.assertTrue(headers["Content-Type"].startswith("text/plain; version=0.0.4"))
        return data.decode()

    def test_tokens_of_prompts(self):
        """All of them count, from the cache or not, and what was looked up is never less than what was found."""
        names = [f'{name}{{model_name="llama",engine="0"}}' for name in (
            "vllm:prompt_tokens_total", "vllm:prefix_cache_queries_total", "vllm:prefix_cache_hits_total")]
        names += ["bobbin_prompt_tokens_total", "bobbin_prompt_tokens_cached_total"]
        before = [self.server.metric(name) for name in names]
        usage = [self.server.post("/v1/completions", {"prompt": list(range(1, 181)), "max_tokens": 2})["usage"]
                 for _ in range(3)]
        cached = sum(u["prompt_tokens_details"]["cached_tokens"] for u in usage)
        self.assertGreater(cached, 100)
        self.assertEqual([self.server.metric(name) - was for name, was in zip(names, before)],
                         [540, 540, cached, 540, cached])
        loads = self.server.get("/v1/loads")
        self.assertEqual(loads["prompt_tokens"], self.server.metric("bobbin_prompt_tokens_total"))

    @unittest.skipUnless(shutil.which("promtool"), "promtool is missing (Debian: prometheus)")
    def test_promtool(self):
        """Ours are clean. vLLM's names are what they are; what promtool says of them is of style, not of form."""
        text = self.text()
        own = "".join(line for line in text.splitlines(True) if not re.match(r"(# \S+ )?vllm:", line))
        done = subprocess.run(["promtool", "check", "metrics"], input=own, capture_output=True, text=True, check=False)
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "", ""))
        done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True, check=False)
        self.assertIn(done.returncode, (0, 3), done.stderr)     # 3: warnings of style
        self.assertTrue(all(line.startswith("vllm:") for line in done.stderr.splitlines()), done.stderr)

    def test_board(self):
        """It names what is exported, in ways that fit the type; panels don't overlap."""
        board, types = json.loads(BOARD.read_text(encoding="utf-8")), exported(self.text())
        queries = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
        queries += [variable["query"]["query"] for variable in board["templating"]["list"]
                    if variable["type"] == "query"]
        seen = set()
        for query in queries:
            for before, name in re.findall(r"(\w+ ?\(|\(|^)?\b(bobbin_\w+)", query):
                base = re.sub(r"_(bucket|sum|count)$", "", name)
                kind = types.get(name) or (types.get(base) if types.get(base) == "histogram" else None)
                self.assertIsNotNone(kind, f"{name} isn't exported: {query}")
                if kind != "gauge":
                    self.assertEqual(before, "rate(", query)
                seen.add(base if kind == "histogram" else name)
            self.assertEqual(query.count("("), query.count(")"), query)
        self.assertGreater(len(seen), 20)
        taken = set()
        for panel in board["panels"]:
            at = panel["gridPos"]
            cells = {(at["x"] + i, at["y"] + k) for i in range(at["w"]) for k in range(at["h"])}
            self.assertFalse(cells & taken, panel["title"])
            self.assertLessEqual(at["x"] + at["w"], 24)
            taken |= cells
        self.assertEqual(len({panel["id"] for panel in board["panels"]}), len(board["panels"]))

    @unittest.skipUnless(shutil.which("promtool"), "promtool is missing (Debian: prometheus)")
    def test_queries_of_the_board(self):
        """As rules, they are what Prometheus can parse."""
        board = json.loads(BOARD.read_text(encoding="utf-8"))
        rules = [{"record": f"board:{panel['id']}:{target['refId']}",
                  "expr": target["expr"].replace("$__rate_interval", "1m").replace("$instance", ".*")}
                 for panel in board["panels"] for target in panel["targets"]]
        with tempfile.NamedTemporaryFile("w", suffix=".yml") as file:
            json.dump({"groups": [{"name": "board", "rules": rules}]}, file)    # JSON is YAML too
            file.flush()
            done = subprocess.run(["promtool", "check", "rules", file.name], capture_output=True, text=True,
                                  check=False)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertIn(f"{len(rules)} rules found", done.stdout)


class Packaging(unittest.TestCase):
    @unittest.skipUnless(shutil.which("systemd-analyze"), "systemd-analyze is missing")
    def test_unit(self):
        """systemd finds nothing wrong with it, and the service little to do harm with."""
        with tempfile.TemporaryDirectory() as folder:
            unit = pathlib.Path(folder, UNIT.name)
            unit.write_text(UNIT.read_text(encoding="utf-8").replace("/usr/bin/bobbin", str(BOBBIN)), encoding="utf-8")
            done = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False)
            self.assertEqual((done.returncode, done.stdout + done.stderr), (0, ""))
            done = subprocess.run(["systemd-analyze", "security", "--offline=true", "--threshold=20", unit],
                                  capture_output=True, text=True, check=False)
            self.assertEqual(done.returncode, 0, done.stdout[-400:])

    def test_containers(self):
        """What they install at the end is what the program was linked with."""
        linked = subprocess.run(["ldd", BOBBIN], capture_output=True, text=True, check=True).stdout
        ours = {"libjansson", "libpcre2-8", "libutf8proc", "libedit", "libmicrohttpd", "libxxhash"}
        needed = {name for name in ours if f"{name}.so" in linked}
        self.assertIn("libmicrohttpd", needed)
        for path in DOCKERFILES:
            text = path.read_text(encoding="utf-8").replace("\\\n", " ")
            build, final = text.split("\nFROM ")[1:]
            self.assertTrue(build.startswith("debian:12-slim AS build") and final.startswith("debian:12-slim\n"))
            for name in needed:
                self.assertRegex(final, rf"\b{name}", path.name)
                self.assertRegex(build, rf"\b{re.sub('-8$', '', name)}-dev\b", path.name)
            self.assertRegex(final, r"(?m)^USER [1-9]")
            self.assertRegex(final, r"(?m)^HEALTHCHECK .*/health")
            for option in re.findall(r"--[a-z-]+", re.search(r"(?m)^ENTRYPOINT (.*)$", final).group(1)):
                said = subprocess.run([BOBBIN, "serve", "--help"], capture_output=True, text=True, check=True).stdout
                self.assertIn(option, said)


@unittest.skipUnless(REAL.exists(), f"{REAL} is missing")
class Guide(Case):
    """The commands and programs of docs/serving.md and docs/effort.md, as they stand there."""
    model = REAL

    def blocks(self, language, name="serving.md"):
        text = (ROOT / "docs" / name).read_text(encoding="utf-8")
        found = re.findall(rf"(?m)^```{language}\n(.*?)^```$", text, re.S | re.M)
        self.assertTrue(found)
        return [block.replace("http://127.0.0.1:8000", f"http://127.0.0.1:{self.server.port}") for block in found]

    def play(self, *command):
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    @unittest.skipUnless(shutil.which("curl"), "curl is missing")
    def test_curl(self):
        outputs = [self.play("bash", "-c", block) for block in self.blocks("sh")]
        self.assertTrue(json.loads(outputs[0])["choices"][0]["message"]["content"])
        self.assertTrue(outputs[1].endswith("data: [DONE]\n\n"))
        for word in ('"assistant"', '"smollm2"', '"tokens"', '"ok"', "bobbin_requests_total"):
            self.assertIn(word, outputs[2])

    @unittest.skipUnless(shutil.which("curl"), "curl is missing")
    def test_curl_of_effort(self):
        block, = (block for block in self.blocks("sh", "effort.md") if "curl" in block)
        first, second = map(json.loads, self.play("bash", "-c", block).replace("}{", "}\n{").splitlines())
        self.assertLessEqual(first["usage"]["completion_tokens_details"]["reasoning_tokens"], 48)
        self.assertNotIn("\\n", first["choices"][0]["message"]["reasoning_content"])  # of the closing, as it is quoted
        self.assertIn("choose", [d["kind"] for d in second["decisions"]])
        self.assertEqual(len(second["choices"]), 1)

    @with_clients
    def test_python(self):
        outputs = [self.play(sys.executable, "-c", block) for block in self.blocks("python")]
        self.assertGreater(len(outputs[0]), 20)
        turns = [tuple(map(int, pair)) for pair in re.findall(r"(\d+) tokens, (\d+) from the cache", outputs[1])]
        self.assertEqual((len(turns), turns[1][0] > turns[0][0]), (2, True))
