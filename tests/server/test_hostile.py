# SPDX-License-Identifier: Apache-2.0
"""Bad input: the server says 400 and the like, and goes on."""
import http.client
import json
import pathlib
import re
import resource
import socket
import struct
import subprocess
import time
import unittest

from serving import BOBBIN, BUILD, SECONDS, TINY, Case, Server, chat


def raw(server, data, seconds=SECONDS):
    """What comes back for these bytes."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=seconds) as s:
        s.sendall(data)
        out = b""
        try:
            while block := s.recv(65536):
                out += block
        except (TimeoutError, ConnectionError):
            pass
        return out


class Hostile(Case):
    options = ("--max-body-bytes", "1M", "--log-level", "off", "--max-json-depth", "20")

    def tearDown(self):
        self.assertEqual(self.server.post("/v1/chat/completions", chat())["choices"][0]["finish_reason"], "length")

    def refused(self, body, status=400, code="invalid_json"):
        got, _, data = self.server.ask("POST", "/v1/chat/completions", body)
        self.assertEqual(got, status, data)
        error = json.loads(data)["error"]
        self.assertEqual(error["code"], code)
        return error["message"]

    def test_not_json(self):
        for body in (b"", b"{", b"[1]", b"nul", b'{"a": 1} x', b"\x00\x01", b'{"a": 1e999}', b"{'a': 1}"):
            with self.subTest(body=body):
                self.refused(body)

    def test_nul(self):
        for body in (b'{"prompt": "a\\u0000"}', b'{"a\\u0000": 1}'):
            status, _, data = self.server.ask("POST", "/v1/completions", body)
            self.assertEqual((status, json.loads(data)["error"]["message"].split(", which")[0]),
                             (400, "a string of the body has the character \\u0000"))

    def test_deep(self):
        for open_, close in (("[", "]"), ('{"a":', "}")):
            self.assertIn("deep", self.refused('{"messages":' + open_ * 100000 + "1" + close * 100000 + "}"))

    def test_duplicate_keys(self):
        self.assertIn("duplicate", self.refused('{"messages": [], "messages": []}'))

    def test_invalid_utf8(self):
        for bad in (b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf5\x80\x80\x80", b"\xe2\x82"):
            with self.subTest(bad=bad):
                self.refused(b'{"messages": [{"role": "user", "content": "' + bad + b'"}]}')

    def test_too_large(self):
        message = self.refused(b'{"a": "' + b"x" * (100 << 20) + b'"}', 413, "request_too_large")
        self.assertIn("1048576", message)

    def test_too_large_in_chunks(self):
        def blocks():
            yield b'{"a": "'
            for _ in range(40):
                yield b"x" * 100000
            yield b'"}'
        connection = self.server.connect()
        connection.request("POST", "/v1/chat/completions", blocks(), {"Content-Type": "application/json"})
        self.assertEqual(connection.getresponse().status, 413)
        connection.close()

    def test_expect_continue(self):
        reply = raw(self.server, b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
                    b"Content-Length: 99999999\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n")
        self.assertTrue(reply.startswith(b"HTTP/1.1 413"), reply[:100])

    def test_not_http(self):
        for data in (b"\x16\x03\x01\x02\x00", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\r\n" * 100,
                     b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n",
                     b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5x\r\n\r\n12345",
                     b"GET /" + b"a" * 100000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
                     b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: y\r\n" * 30000 + b"\r\n"):
            with self.subTest(data=data[:40]):
                self.assertNotIn(b" 200 ", raw(self.server, data, 2)[:20])

    def test_unknown_paths_and_methods(self):
        for method, path, status in (("GET", "/nothing", 404), ("GET", "/v1/completions", 405),
                                     ("POST", "/health", 405), ("PUT", "/v1/models", 405),
                                     ("GET", "/v1/models/other", 404), ("GET", "/../../etc/passwd", 404),
                                     ("OPTIONS", "/v1/models", 405)):
            with self.subTest(path=path, method=method):
                got, headers, _ = self.server.ask(method, path)
                self.assertEqual(got, status)
                self.assertEqual("Allow" in headers, status == 405)
                self.assertNotIn("Access-Control-Allow-Methods", headers)
        for path, allowed in (("/v1/completions", "POST"), ("/v1/models", "GET, HEAD"), ("/ping", "GET, HEAD, POST"),
                              ("/v1/responses/x", "POST, GET, HEAD, DELETE")):
            self.assertEqual(self.server.ask("PATCH", path)[1]["Allow"], allowed)

    def test_types_of_all_fields(self):
        bad = [None, True, 1, -1, 1.5, 1e300, "x", "", [], [[]], {}, {"a": {}}, [None], [{}], ["x"], "\u0007é"]
        fields = ("messages", "model", "temperature", "top_p", "top_k", "n", "seed", "stop", "max_tokens", "stream",
                  "stream_options", "logprobs", "top_logprobs", "logit_bias", "tools", "tool_choice", "response_format",
                  "chat_template_kwargs", "stop_token_ids", "priority", "cache_salt", "min_tokens", "chat_template",
                  "continue_final_message", "deadline_ms", "prompt_logprobs", "structured_outputs")
        for name in fields:
            for value in bad:
                body = {**chat(), name: value}
                status, _, data = self.server.ask("POST", "/v1/chat/completions", body)
                self.assertIn(status, (200, 400, 404), (name, value, data[:200]))
        for path, names in (("/v1/completions", ("prompt", "echo", "logprobs", "max_tokens", "suffix")),
                            ("/v1/responses", ("input", "instructions", "tools", "text", "include", "reasoning",
                                               "previous_response_id", "store", "max_output_tokens")),
                            ("/v1/embeddings", ("input", "encoding_format", "dimensions", "priority",
                                                "cache_salt")),
                            ("/v1/messages", ("messages", "system", "tools", "tool_choice", "thinking",
                                              "stop_sequences", "max_tokens")),
                            ("/tokenize", ("prompt", "content", "messages", "add_special_tokens")),
                            ("/detokenize", ("tokens",)), ("/apply-template", ("messages",))):
            for name in names:
                for value in bad:
                    body = {"max_tokens": 2, "max_output_tokens": 2, name: value}
                    status, _, data = self.server.ask("POST", path, body)
                    self.assertIn(status, (200, 400, 404), (path, name, value, data[:200]))

    def test_context_overflow(self):
        self.assertIn("maximum context", self.refused(chat("1 " * 5000), 400, "context_length_exceeded"))
        self.refused(chat(max_tokens=10 ** 6), 400, "context_length_exceeded")

    def test_origin_of_others(self):
        status, headers, _ = self.server.ask("POST", "/v1/chat/completions", chat(), Origin="http://evil.example")
        self.assertEqual(status, 403)
        self.assertIsNone(headers.get("Access-Control-Allow-Origin"))
        for host in ("localhost", "127.0.0.1"):
            own = f"http://{host}:{self.server.port}"
            self.assertEqual(self.server.ask("POST", "/v1/chat/completions", chat(), Origin=own,
                                             Host=own[len("http://"):])[0], 200)
        own = f"http://127.0.0.1:{self.server.port}"
        self.assertEqual(self.server.ask("POST", "/v1/chat/completions", chat(), Origin=own)[0], 200)


    def test_unknown_model(self):
        for path in ("/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/embeddings", "/v1/messages"):
            field = {"/v1/completions": "prompt", "/v1/responses": "input", "/v1/embeddings": "input"}.get(path)
            body = {field: "1", "model": "other"} if field else chat(model="other")
            error = self.server.post(path, body, 404)["error"]
            self.assertIn("'other'", error["message"])
            for model in self.server.get("/v1/models")["data"]:
                self.assertIn(f"'{model['id']}'", error["message"])

    def test_long_lists_of_tokens(self):
        for field, value in (("logit_bias", {str(i): 1 for i in range(1025)}), ("stop_token_ids", [1] * 1025)):
            self.refused(chat(**{field: value}), 400, "invalid_value")
        most = {str(i): -100 for i in reversed(range(199))}   # of a vocabulary of 199
        reply = self.server.post("/v1/completions", {"prompt": [1, 2], "max_tokens": 4, "temperature": 0,
                                                     "return_token_ids": True, "logit_bias": {**most, "77": 100}})
        self.assertEqual(reply["choices"][0]["token_ids"], [77] * 4)

    def test_names_of_tools(self):
        def tools(name):
            return chat("1 2", tools=[{"type": "function", "function": {"name": name}}], tool_choice="none")
        for name in ('a", "x": "', "a b", "a\n", "<tool_call>", "\u00e9", "", "a" * 257):
            with self.subTest(name=name):
                self.assertIn("tools[0]", self.refused(tools(name), 400, "invalid_value"))
        self.server.post("/v1/chat/completions", tools("A-z_0.9" + "a" * 249))

    def test_hosts(self):
        """A stranger's page whose name resolves to this machine says that name as Origin and as Host."""
        port = self.server.port
        for host, status in (("evil.example", 403), (f"evil.example:{port}", 403), ("localhost.evil.example", 403),
                             ("127.0.0.1.evil.example", 403), ("127.0.0.1:1x", 403), ("[::1", 403), ("::1", 403),
                             ("[::2]", 403), ("x", 403), (":80", 403), ("localhost", 200), (f"LOCALHOST:{port}", 200),
                             ("127.0.0.1", 200), (f"127.0.0.1:{port}", 200), ("[::1]", 200), (f"[::1]:{port}", 200)):
            with self.subTest(host=host):
                got, _, data = self.server.ask("POST", "/v1/chat/completions", chat(), Host=host,
                                               Origin=f"http://{host}")
                self.assertEqual(got, status, data)
                if status == 403:
                    self.assertEqual(json.loads(data)["error"]["code"], "host_not_allowed")
        self.assertTrue(raw(self.server, b"GET /health HTTP/1.0\r\n\r\n").startswith(b"HTTP/1."))


class Hosts(unittest.TestCase):
    def asks(self, hosts, *options):
        server = Server(TINY, "--log-level", "off", *options)
        self.addCleanup(server.stop)
        for host, status in hosts.items():
            self.assertEqual(server.ask("GET", "/health", Host=host)[0], status, host)

    def test_allowed(self):
        self.asks({"llm.lan": 200, "LLM.lan:80": 200, "other": 200, "more": 403, "localhost": 200},
                  "--allowed-host", "llm.lan", "--allowed-host", "other")

    def test_open_to_others(self):
        self.asks({"anything": 200, "localhost": 200}, "--host", "0.0.0.0")

    def test_another_address_of_this_machine(self):
        server = Server(TINY, "--log-level", "off", "--host", "localhost")
        self.addCleanup(server.stop)
        self.assertEqual(server.ask("GET", "/health", Host="x")[0], 403)


class OtherDevice(unittest.TestCase):
    def test_embeddings(self):
        """Whatever the device is, as far as this machine has one: the emulator where it's built, else the CPU."""
        has_simt = (BUILD / "kernels/cuda/libbobbin_simt.so").exists()
        server = Server(TINY, "--log-level", "off", "--device", "simt" if has_simt else "auto")
        self.addCleanup(server.stop)
        cpu = Server(TINY, "--log-level", "off")
        self.addCleanup(cpu.stop)
        body = {"input": [[1, 2], [3, 4, 5] * 20]}
        for want, got in zip(cpu.post("/v1/embeddings", body)["data"], server.post("/v1/embeddings", body)["data"]):
            self.assertGreater(sum(a * b for a, b in zip(want["embedding"], got["embedding"])), 0.999)
        server.post("/v1/chat/completions", chat())


def head(body, path="/v1/chat/completions"):
    return b"POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % (path.encode(), len(body))


class HalfSent(unittest.TestCase):
    def test_clients_that_hang_up(self):
        """Wherever a request breaks off, with and without a word, nothing of it stays: the server can end at once."""
        server = Server(TINY, "--log-level", "off", "--drain-timeout", "1000", "-c", "1000000")
        self.addCleanup(server.stop)
        long = {"max_tokens": 900000, "ignore_eos": True}
        bodies = [json.dumps(chat(**more)).encode() for more in ({}, long, {**long, "stream": True})]
        whole = [head(body) + body for body in bodies]
        for data in whole:
            for n in (0, 1, 20, data.index(b"\r\n\r\n") + 4, len(data) - 1, len(data)):
                for resets in (False, True):
                    with socket.create_connection(("127.0.0.1", server.port)) as s:
                        s.sendall(data[:n])
                        if resets:
                            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.assertEqual(server.post("/v1/chat/completions", chat())["usage"]["completion_tokens"], 4)
        self.assertEqual(server.stop(), 0)


class Memory(unittest.TestCase):
    """16M for all requests: 8M as the pool, 64K for each connection, as much for its events."""
    options = ("--request-memory-bytes", "16M", "--max-connections", "64", "--log-level", "off", "-c", "1000000",
               "--kv-cache-bytes", "64M", "--prefix-cache-bytes", "1M", "--swap-space", "0")
    most = (16 + 64 + 40) << 20     # all of these, and what allocators and threads take

    def setUp(self):
        self.server = Server(TINY, *self.options)
        self.addCleanup(self.server.stop)
        self.sockets = []
        self.addCleanup(lambda: [s.close() for s in self.sockets])

    def memory(self):
        """The most that it had at any time, in bytes."""
        if b"__asan_init" in BOBBIN.read_bytes():
            return 0    # which keeps what was freed
        status = pathlib.Path(f"/proc/{self.server.process.pid}/status").read_text(encoding="ascii")
        return int(re.search(r"VmHWM:\s+(\d+) kB", status).group(1)) << 10

    def send(self, data):
        s = socket.create_connection(("127.0.0.1", self.server.port), timeout=SECONDS)
        self.sockets.append(s)
        s.sendall(data)
        return s

    def answered(self, s):
        reply = http.client.HTTPResponse(s)
        reply.begin()
        return reply.status, reply.read()

    def others_are_served(self):
        self.assertEqual(self.server.post("/v1/chat/completions", chat())["usage"]["completion_tokens"], 4)
        self.assertLess(self.memory(), self.most)

    def all_is_free(self):
        for s in self.sockets:
            s.close()
        self.server.wait_for(lambda v: v["n_requests"] == 0)
        end = time.monotonic() + SECONDS
        while self.server.metric("bobbin_request_memory_pooled_bytes") > 0:
            self.assertLess(time.monotonic(), end)
            time.sleep(0.01)

    def expect_refused(self, data):
        reply = data if isinstance(data, dict) else json.loads(data)
        self.assertIn("--request-memory-bytes", reply["error"]["message"])

    def test_bodies(self):
        """Of 20 half-sent ones of 4M some are forgotten, and told so at their end."""
        body = b'{"a": "' + b"x" * (4 << 20) + b'"}'
        for _ in range(20):
            self.send((head(body) + body)[:-1])
        self.others_are_served()
        replies = []
        for s in self.sockets:
            s.sendall(b"}")
            replies.append(self.answered(s))
        statuses = [status for status, _ in replies]
        self.assertGreater(statuses.count(503), 10)
        self.assertEqual(set(statuses) - {503, 400}, set())
        self.expect_refused(next(data for status, data in replies if status == 503))
        self.all_is_free()

    def test_trees(self):
        """JSON that takes a hundred times its bytes."""
        for unit in (b"{},", b"[],", b'{"a":1},', b"1,"):
            body = b'{"messages": [' + unit * ((1 << 20) // len(unit)) + b"1]}"
            status, data = self.answered(self.send(head(body) + body))
            self.assertEqual(status, 503, data)
            self.expect_refused(data)
        self.others_are_served()
        self.all_is_free()

    def test_answers(self):
        """An answer that takes too much before it's whole, plain and streamed as one that is kept."""
        body = {"prompt": [1, 2], "max_tokens": 200000, "ignore_eos": True, "logprobs": 20, "n": 2}
        self.expect_refused(self.server.post("/v1/completions", body, 503))
        body = {"input": "1 2", "max_output_tokens": 200000, "ignore_eos": True, "top_logprobs": 20,
                "include": ["message.output_text.logprobs"], "stream": True}
        status, _, data = self.server.ask("POST", "/v1/responses", body)
        self.assertEqual(status, 200)
        self.assertIn(b"--request-memory-bytes", data[-1000:])
        self.others_are_served()
        self.all_is_free()

    def test_prompts_of_many_answers(self):
        """Of requests for 64 answers so many are taken as have room for the ids of each."""
        body = json.dumps({"prompt": list(range(1, 101)) * 40, "max_tokens": 100000, "ignore_eos": True, "n": 64,
                           "stream": True}).encode()
        statuses = []
        for _ in range(20):
            reply = http.client.HTTPResponse(self.send(head(body, "/v1/completions") + body))
            reply.begin()
            statuses.append(reply.status)
        self.assertEqual(set(statuses), {200, 503})
        self.assertGreater(statuses.count(200), 4)
        self.others_are_served()
        self.all_is_free()

    def test_many_prompts_of_many_answers(self):
        body = {"prompt": [[1]] * 1024, "n": 64, "max_tokens": 1}
        self.expect_refused(self.server.post("/v1/completions", body, 503))
        self.others_are_served()
        self.all_is_free()

    def test_readers_that_stop(self):
        """Their requests pause, others' go on; what they read later is whole."""
        n, most = 4, 4000
        for more in ({"n": n, "logprobs": 20}, {"n": n}):
            body = json.dumps({"prompt": [1, 2], "max_tokens": most, "stream": True, "ignore_eos": True,
                               **more}).encode()
            with socket.socket() as s:
                s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                s.connect(("127.0.0.1", self.server.port))
                s.settimeout(SECONDS)
                s.sendall(head(body, "/v1/completions") + body)
                before, now = -1, 0
                end = time.monotonic() + SECONDS
                while (before != now or now == 0) and time.monotonic() < end:
                    time.sleep(0.5)
                    loads = self.server.get("/v1/loads")
                    before, now = now, loads["requests"][0]["output_tokens"] if loads["requests"] else n * most
                self.assertLess(now, n * most)
                self.others_are_served()
                reply = http.client.HTTPResponse(s)
                reply.begin()
                data = reply.read()
            events = [json.loads(text) for text in re.findall(rb"^data: (\{.*)$", data, re.M)]
            ends = [e for e in events if e["choices"][0]["finish_reason"]]
            self.assertEqual([e["choices"][0]["finish_reason"] for e in ends], ["length"] * n)
            if "logprobs" in more:
                self.assertEqual(sum(len(e["choices"][0]["logprobs"]["tokens"]) for e in events), n * most)
            self.assertTrue(data.endswith(b"data: [DONE]\n\n"))
        self.all_is_free()

    def test_stored_responses(self):
        """What is kept has its own limit: the longest unused goes."""
        server = Server(TINY, *self.options, "--max-stored-bytes", "20K")
        self.addCleanup(server.stop)
        ids = [server.post("/v1/responses", {"input": "1 " * 1000, "max_output_tokens": 1})["id"] for _ in range(20)]
        found = [server.ask("GET", f"/v1/responses/{i}")[0] for i in ids]
        self.assertEqual((found[0], found[-1]), (404, 200))
        self.assertEqual(server.post("/v1/responses", {"input": "2", "previous_response_id": ids[-1],
                                                       "max_output_tokens": 1})["status"], "incomplete")


class Told(unittest.TestCase):
    """What is said at the start."""

    def said(self, *options, limit=None):
        server = Server(TINY, "--log-level", "off", *options, limit=limit)
        self.addCleanup(server.stop)
        found = re.search(r"memory: ([\d.]+) GiB are free; KV cache (?:up to ([\d.]+) GiB|without a limit) .*, "
                          r"([\d.]+) GiB for what is put aside", server.said())
        self.assertTrue(found, server.said())
        kv = server.get("/v1/loads")["max_kv_bytes"]
        swap = server.metric("bobbin_swap_limit_bytes")
        return tuple(float(text) if text else None for text in found.groups()), kv, swap

    def test_defaults(self):
        (free, kv, swap), max_kv, max_swap = self.said()
        self.assertAlmostEqual(kv, free / 2, delta=0.02)
        self.assertAlmostEqual(max_kv / 2 ** 30, kv, delta=0.02)
        self.assertAlmostEqual(swap, min(4, free / 8), delta=0.02)
        self.assertAlmostEqual(max_swap / 2 ** 30, swap, delta=0.02)

    @unittest.skipIf(b"__asan_init" in BOBBIN.read_bytes() or b"__tsan_init" in BOBBIN.read_bytes(),
                     "sanitizers map far more than they use")
    def test_little_memory(self):
        most = resource.getrlimit(resource.RLIMIT_AS)[1]
        limit = 2 << 30 if most == resource.RLIM_INFINITY else min(most, 2 << 30)
        (free, kv, _), _, _ = self.said(limit=limit)
        self.assertLess(free, limit / 2 ** 30)
        self.assertAlmostEqual(kv, free / 2, delta=0.02)

    def test_as_asked(self):
        (_, kv, swap), max_kv, max_swap = self.said("--kv-cache-bytes", "0", "--swap-space", "0.5")
        self.assertEqual((kv, max_kv, swap, max_swap), (None, 0, 0.5, 2 ** 29))
        (_, kv, swap), max_kv, max_swap = self.said("--kv-cache-bytes", "1G", "--swap-space", "0")
        self.assertEqual((kv, max_kv, swap, max_swap), (1, 2 ** 30, 0, 0))


class NoRoom(unittest.TestCase):
    def test_a_cache_that_holds_nothing_is_refused_at_start(self):
        ended = subprocess.run([BOBBIN, "serve", TINY, "--port", "0", "--kv-cache-bytes", "1K"], timeout=60,
                               stdin=subprocess.DEVNULL, capture_output=True, text=True)
        self.assertEqual(ended.returncode, 2, ended.stderr)
        least = re.search(r"the KV cache may have 1024 bytes, expected at least (\d+)", ended.stderr)
        self.assertTrue(least, ended.stderr)
        server = Server(TINY, "--kv-cache-bytes", least.group(1), "--log-level", "off")
        self.addCleanup(server.stop)
        server.post("/v1/chat/completions", {"messages": [{"role": "user", "content": "1"}], "max_tokens": 1})


class Slow(unittest.TestCase):
    def test_a_pause_between_requests(self):
        """It's no part of the next one's time to come; that one's own is."""
        server = Server(TINY, "--request-timeout", "3", "--log-level", "off")
        self.addCleanup(server.stop)
        body = json.dumps(chat()).encode()
        with socket.create_connection(("127.0.0.1", server.port), timeout=SECONDS) as s:
            for pause in (0, 6, 0):
                time.sleep(pause)
                s.sendall(head(body) + body)
                reply = http.client.HTTPResponse(s)
                reply.begin()
                self.assertEqual(json.loads(reply.read())["usage"]["completion_tokens"], 4)
            s.sendall(head(body)[:20])
            self.assertEqual(s.recv(1), b"")    # it hangs up

    def test_slow_and_silent_clients_are_cut_off(self):
        server = Server(TINY, "--idle-timeout", "2", "--request-timeout", "4", "--log-level", "off")
        self.addCleanup(server.stop)
        head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n"
        for begin, trickle in ((head + b"{", False), (head, False), (b"POST /v1", False), (head, True),
                               (b"GET /", True)):
            with socket.create_connection(("127.0.0.1", server.port), timeout=SECONDS) as s:
                s.sendall(begin)
                start, is_open = time.monotonic(), True
                s.settimeout(0.5)
                while is_open and time.monotonic() - start < SECONDS:
                    try:
                        if trickle:
                            s.sendall(b" " if begin is head else b"a")
                        is_open = bool(s.recv(4096))
                    except TimeoutError:
                        pass
                    except ConnectionError:
                        is_open = False
                self.assertFalse(is_open, begin)
        self.assertEqual(server.get("/health"), {"status": "ok"})

    def test_a_reader_that_stops(self):
        """Its stream is cut off, and what it held is free; others go on meanwhile."""
        server = Server(TINY, "--idle-timeout", "2", "--log-level", "off", "-c", "1000000")
        self.addCleanup(server.stop)
        with socket.socket() as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            s.connect(("127.0.0.1", server.port))
            body = json.dumps(chat(max_tokens=900000, ignore_eos=True, stream=True)).encode()
            s.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
                      b"Content-Length: %d\r\n\r\n" % len(body) + body)
            server.wait_for(lambda v: v["n_requests"] == 1)
            self.assertEqual(server.post("/v1/chat/completions", chat())["usage"]["completion_tokens"], 4)
            server.wait_for(lambda v: v["n_requests"] == 0)
