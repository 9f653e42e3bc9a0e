# SPDX-License-Identifier: Apache-2.0
"""Keys, queues, clients that leave, and the end of a server."""
import concurrent.futures
import http.client
import json
import pathlib
import re
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import threading
import time
import unittest

from serving import BOBBIN, REAL, ROOT, SECONDS, TINY, Case, Server, anthropic, chat, openai, with_clients

LONG = {"max_tokens": 500000, "ignore_eos": True}
ROOMY = ("-c", "1000000", "--kv-cache-bytes", "0", "--log-level", "info")    # LONG ones end on no machine


class Keys(Case):
    options = ("--api-key", "first", "--api-key", "second")

    def test_keys(self):
        for headers, status in (({}, 401), ({"Authorization": "Bearer first"}, 200), ({"x-api-key": "second"}, 200),
                                ({"Authorization": "bearer second"}, 200), ({"Authorization": "Bearer firs"}, 401),
                                ({"Authorization": "Basic first"}, 401),
                                ({"Authorization": "Bearer "}, 401), ({"Authorization": "Bearer firstfirst"}, 401)):
            with self.subTest(headers=headers):
                got, reply, data = self.server.ask("GET", "/v1/models", **headers)
                self.assertEqual(got, status, data)
                self.assertEqual(reply.get("WWW-Authenticate"), "Bearer" if status == 401 else None)
                if status == 401:
                    why = "the key that came isn't one of" if headers else "no key came"
                    self.assertIn(why, json.loads(data)["error"]["message"])
        self.assertEqual(self.server.ask("GET", "/health")[0], 200)
        self.assertEqual(self.server.ask("GET", "/metrics")[0], 401)

    @with_clients
    def test_clients(self):
        with self.assertRaises(openai.AuthenticationError):
            self.server.openai().models.list()
        with self.assertRaises(anthropic.AuthenticationError):
            self.server.anthropic().messages.create(model="llama", max_tokens=1, messages=[
                {"role": "user", "content": "1"}])


class Leaving(Case):
    options = (*ROOMY, "--no-enable-prefix-caching")    # which would keep pages

    def test_a_client_that_leaves_frees_its_pages(self):
        for stream in (False, True):
            with self.subTest(stream=stream):
                body = json.dumps(chat(**LONG, stream=stream)).encode()
                s = socket.create_connection(("127.0.0.1", self.server.port))
                s.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
                          b"Content-Length: %d\r\n\r\n" % len(body) + body)
                self.server.wait_for(lambda v: v["n_requests"] == 1 and v["requests"][0]["output_tokens"] > 3 and
                                     v["kv_bytes"] > 0)
                s.close()
                self.server.wait_for(lambda v: v["n_requests"] == 0 and v["kv_bytes"] == 0)
                self.assertEqual(self.server.metric("bobbin_kv_cache_bytes"), 0)

    def test_deadline(self):
        reply = self.server.post("/v1/chat/completions", chat(**LONG, deadline_ms=300))
        self.assertEqual(reply["choices"][0]["finish_reason"], "abort")
        reply = self.server.post("/completion", {"prompt": [1, 2], "deadline_ms": 300, "ignore_eos": True})
        self.assertEqual(reply["stop_type"], "deadline")
        reply = self.server.post("/generate", {"input_ids": [1, 2], "sampling_params": {
            "max_new_tokens": LONG["max_tokens"], "deadline_ms": 300, "ignore_eos": True}})
        self.assertEqual(reply["meta_info"]["finish_reason"], {"type": "abort"})

    @with_clients
    def test_deadline_of_a_message(self):
        ask = {"model": "llama", "max_tokens": LONG["max_tokens"], "messages": [{"role": "user", "content": "1 2"}],
               "extra_body": {"ignore_eos": True, "deadline_ms": 300}}
        client = self.server.anthropic(timeout=SECONDS)
        self.assertEqual(client.messages.create(**ask).stop_reason, "deadline")
        with client.messages.stream(**ask) as stream:
            self.assertEqual(stream.get_final_message().stop_reason, "deadline")

    def test_why_a_response_is_incomplete(self):
        for more, why in (({"deadline_ms": 300}, "deadline"), ({"max_output_tokens": 3}, "max_output_tokens")):
            body = {"input": "1 2", "ignore_eos": True, **more}
            reply = self.server.post("/v1/responses", body)
            self.assertEqual((reply["status"], reply["incomplete_details"]["reason"]), ("incomplete", why))
            self.assertEqual([item["status"] for item in reply["output"]], ["incomplete"])
            _, _, data = self.server.ask("POST", "/v1/responses", {**body, "stream": True})
            last = json.loads(data.decode().strip().split("data: ")[-1])
            self.assertEqual((last["type"], last["response"]["incomplete_details"]["reason"]),
                             ("response.incomplete", why))
            self.assertEqual([item["status"] for item in last["response"]["output"]], ["incomplete"])


class Kept(Case):
    """The prefix cache has room for two conversations: about 3 pages of 1.4 MiB each."""
    model, options = REAL, ("--prefix-cache-bytes", "11M", "--swap-space", "0", "--log-level", "off")

    def test_a_prompt_cache_key_is_no_conversation(self):
        """OpenAI's key names an app: what one of its requests left doesn't go for what another one leaves."""
        def cached(word, **more):
            usage = self.server.post("/v1/chat/completions", chat(" and ".join([word] * 60), max_tokens=1,
                                                                  **more))["usage"]
            return usage["prompt_tokens_details"]["cached_tokens"] / usage["prompt_tokens"]
        cached("salt")
        for word in ("iron", "rain"):
            cached(word, prompt_cache_key="an app")
        self.assertGreater(cached("iron", prompt_cache_key="an app"), 0.8)
        self.assertLess(cached("salt"), 0.5)    # the oldest one had to go
        self.server.post("/v1/chat/completions", chat(prompt_cache_key=3))


def text(string):
    return struct.pack("<Q", len(string)) + string.encode()


class Recommended(unittest.TestCase):
    def test_a_response_echoes_what_applies(self):
        """The request's sampling, or what the model's file recommends. 128 bytes of keys keep its data aligned."""
        keys = (text("general.sampling.temp") + struct.pack("<If", 6, 0.6) +
                text("general.sampling.top_p") + struct.pack("<If", 6, 0.95) +
                text("general.author") + struct.pack("<I", 8) + text("somebody, somewhere"))
        self.assertEqual(len(keys) % 32, 0)
        data = TINY.read_bytes()
        n_keys = struct.unpack_from("<Q", data, 16)[0] + 3
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder, "tiny.gguf")
            path.write_bytes(data[:16] + struct.pack("<Q", n_keys) + keys + data[24:])
            server = Server(path, "--log-level", "off")
            self.addCleanup(server.stop)
            for more, want in (({}, (0.6, 0.95)), ({"temperature": 0.25, "top_p": 1}, (0.25, 1))):
                reply = server.post("/v1/responses", {"input": "1 2", "max_output_tokens": 1, **more})
                self.assertEqual((reply["temperature"], reply["top_p"]), want)


# Fails every third event that has a text, by its size, and whatever else has that. What says so has none, so that it
# can't fail.
NO_MEMORY = r"""
#include "serve/turn.h"
#include <dlfcn.h>
void *calloc(size_t n, size_t bytes) {
	static void *(*real)(size_t, size_t);
	static atomic_int count;
	if (real == NULL) {
		real = (void *(*)(size_t, size_t))dlsym(RTLD_NEXT, "calloc");
	}
	const size_t least = sizeof(struct turn_event) + 2;
	return n == 1 && bytes >= least && bytes < least + 16 && atomic_fetch_add(&count, 1) % 3 == 2
		? NULL : real(n, bytes);
}
"""


# From SIGUSR1 on until the next one, fails one of 150 allocations on average, whosever it is.
LITTLE_MEMORY = r"""
#include <dlfcn.h>
#include <signal.h>
#include <stddef.h>
static atomic_bool is_short;
static atomic_uint count;
static void *(*real_malloc)(size_t), *(*real_calloc)(size_t, size_t), *(*real_realloc)(void *, size_t);
static void toggle(int number) {
	(void)number;
	atomic_store(&is_short, !atomic_load(&is_short));
}
__attribute__((constructor)) static void begin(void) {
	real_malloc = (void *(*)(size_t))dlsym(RTLD_NEXT, "malloc");
	real_realloc = (void *(*)(void *, size_t))dlsym(RTLD_NEXT, "realloc");
	real_calloc = (void *(*)(size_t, size_t))dlsym(RTLD_NEXT, "calloc");
	signal(SIGUSR1, toggle);
}
static int fails(void) {
	unsigned x = atomic_load(&is_short) ? atomic_fetch_add(&count, 1) + 1 : 0; /* mixed: no gap is like another */
	x = (x ^ x >> 16) * 0x7feb352du;
	x = (x ^ x >> 15) * 0x846ca68bu;
	return x != 0 && (x ^ x >> 16) < ~0u / 150;
}
void *malloc(size_t n) {
	if (real_malloc == NULL) {
		begin();
	}
	return fails() ? NULL : real_malloc(n);
}
void *realloc(void *p, size_t n) {
	if (real_realloc == NULL) {
		begin();
	}
	return fails() ? NULL : real_realloc(p, n);
}
void *calloc(size_t n, size_t size) {
	static char early[4096]; /* dlsym wants some before it knows where to get it */
	static size_t used;
	if (real_calloc == NULL) {
		void *p = early + used;
		used += (n * size + 15) / 16 * 16;
		return used <= sizeof(early) ? p : NULL;
	}
	return fails() ? NULL : real_calloc(n, size);
}
"""


@unittest.skipUnless(shutil.which("cc"), "there is no C compiler")
@unittest.skipIf(b"__asan_init" in BOBBIN.read_bytes(), "the address sanitizer has an allocator of its own")
class NoMemory(unittest.TestCase):
    def start(self, text, *options):
        """A server with a library before all others."""
        with tempfile.TemporaryDirectory() as folder:
            source, library = pathlib.Path(folder, "no_memory.c"), pathlib.Path(folder, "no_memory.so")
            source.write_text(text, encoding="utf-8")
            subprocess.run(["cc", "-D_GNU_SOURCE", "-include", "stdatomic.h", "-include", "stdbool.h", "-shared",
                            "-fPIC", "-O2", *(f"-I{ROOT / name}" for name in ("engine", "tools", "kernels")), source,
                            "-o", library], check=True)
            server = Server(TINY, "--log-level", "off", *options, env={"LD_PRELOAD": str(library)})
        self.addCleanup(server.stop)
        return server

    def test_it_lives(self):
        """Whatever has no memory is an error, and never half an answer; when there is some again all is as before."""
        server = self.start(LITTLE_MEMORY)
        long = {"max_tokens": 9, "ignore_eos": True}
        bodies = {"/v1/chat/completions": chat("1 2", logprobs=True, n=3, top_logprobs=2, **long),
                  "/v1/completions": {"prompt": "1 2", "logprobs": 3, "echo": True, **long},
                  "/v1/responses": {"input": "1 2", "max_output_tokens": 9, "ignore_eos": True, "temperature": 0,
                                    "best_of": 2, "seed": 1, "thinking_token_budget": 3,
                                    "effort": {"think_end": "198"}},
                  "/v1/messages": {"messages": chat("1 2")["messages"], "max_tokens": 9, "temperature": 0},
                  "/v1/embeddings": {"input": ["1 2", "3"]}, "/tokenize": {"prompt": "1 2 3"}}

        def answer(data):
            reply = json.loads(data)
            for name in ("id", "created", "created_at", "timings", "usage"):
                reply.pop(name, None)
            return re.sub(r'"(msg|resp|call|rs)_[0-9a-f]+"', '""', json.dumps(reply))

        def ask(path):
            seed = {"seed": 1} if "max_tokens" in bodies[path] else {}
            return server.ask("POST", path, {**seed, **bodies[path]})

        def text_of(data):
            chunks = [json.loads(event) for event in re.findall(rb"^data: (\{.*)$", data, re.M)]
            return [(c["choices"][0]["delta"], c["choices"][0]["finish_reason"]) for c in chunks]

        streamed = chat("1 2", max_tokens=2, ignore_eos=True)
        text = text_of(server.ask("POST", "/v1/chat/completions", {**streamed, "stream": True})[2])
        alone = {path: answer(ask(path)[2]) for path in bodies}
        texts = {path: server.ask("GET", path)[2] for path in ("/", "/openapi.json")}
        server.process.send_signal(signal.SIGUSR1)
        statuses = {}
        for path in list(bodies) * 200:
            try:
                status, _, data = ask(path)
            except (OSError, http.client.HTTPException):
                status = None   # the library had none to begin or go on
            statuses[status] = statuses.get(status, 0) + 1
            if status == 200:
                self.assertEqual(answer(data), alone[path])
        for path in list(texts) * 100:
            try:
                status, _, data = server.ask("GET", path)
            except (OSError, http.client.HTTPException):
                continue
            self.assertIn((status, data == texts[path]), ((200, True), (503, False)), path)
        whole, others = 0, 0
        for _ in range(300):
            try:
                status, _, data = server.ask("POST", "/v1/chat/completions", {**streamed, "stream": True})
            except (OSError, http.client.HTTPException):
                continue
            if status == 200 and b"data: [DONE]" in data and b'"error"' not in data:
                self.assertEqual(text_of(data), text)
                whole += 1
            others += b'"error"' in data
        self.assertTrue(whole and others, (whole, others))
        kept = set()
        for _ in range(1500):
            try:
                data = server.ask("POST", "/v1/responses", {"input": "1 2", "max_output_tokens": 1, "stream": True})[2]
            except (OSError, http.client.HTTPException):
                continue
            kept.update(re.findall(r'"(resp_[0-9a-f]+)"', data.decode()))
        self.assertIsNone(server.process.poll(), server.said()[-1000:])
        self.assertEqual(set(statuses) - {None, 200, 503}, set(), statuses)
        self.assertTrue(statuses.get(200) and statuses.get(503), statuses)
        server.process.send_signal(signal.SIGUSR1)
        for path in bodies:
            self.assertEqual(answer(ask(path)[2]), alone[path])
        lengths = [server.post("/v1/responses", {"input": "3", "max_output_tokens": 1, "previous_response_id": name})
                   ["usage"]["input_tokens"] for name in kept if server.ask("GET", f"/v1/responses/{name}")[0] == 200]
        self.assertEqual(set(lengths), {4})    # of the kept ones all messages

    def test_an_answer_with_a_gap_is_an_error(self):
        server = self.start(NO_MEMORY)
        bodies = {"/v1/chat/completions": chat("1 2", max_tokens=9, ignore_eos=True),
                  "/v1/completions": {"prompt": [1, 2], "max_tokens": 9, "ignore_eos": True},
                  "/v1/responses": {"input": "1 2", "max_output_tokens": 9, "ignore_eos": True}}
        for path, body in bodies.items():
            with self.subTest(path):
                self.assertIn("memory", server.post(path, body, 503)["error"]["message"])
                status, _, data = server.ask("POST", path, {**body, "stream": True})
                self.assertEqual(status, 200)
                events = [json.loads(text) for text in re.findall(rb"^data: (\{.*)$", data, re.M)]
                error = events[-1].get("error") or events[-1]["response"]["error"]
                self.assertIn("memory", error["message"])
                self.assertFalse([e for e in events if e.get("choices") and e["choices"][0]["finish_reason"]])


class Queue(Case):
    options = ("--max-num-seqs", "2", "--max-queue", "2", *ROOMY)

    @with_clients
    def test_full(self):
        """Long requests fill it, as many at a time as this machine's memory and speed ask for, until one that comes by
        hand and one of the client's are refused."""
        client = self.server.openai()

        def by_hand():
            return self.server.ask("POST", "/v1/chat/completions", chat(**LONG, deadline_ms=2000))

        def by_client():
            try:
                client.completions.create(model="llama", prompt="1 2", max_tokens=LONG["max_tokens"],
                                          extra_body={"ignore_eos": True, "deadline_ms": 2000})
            except openai.RateLimitError as error:
                return error
            return None

        answers, refusals = [], []
        end = time.monotonic() + SECONDS
        while not (refusals and any(answer[0] == 429 for answer in answers)) and time.monotonic() < end:
            with concurrent.futures.ThreadPoolExecutor(16) as pool:
                asked = [(pool.submit(by_hand), pool.submit(by_client)) for _ in range(8)]
            answers += [hand.result() for hand, _ in asked]
            refusals += [error for _, asks in asked if (error := asks.result()) is not None]
        refused = [(headers, data) for status, headers, data in answers if status == 429]
        self.assertTrue(refusals and refused)
        self.assertEqual(json.loads(refused[0][1])["error"]["code"], "queue_full")
        self.assertGreaterEqual(int(refused[0][0]["Retry-After"]), 1)
        self.assertEqual({status for status, _, _ in answers} - {429}, {200})
        self.assertEqual(self.server.metric("bobbin_requests_refused_busy_total"), len(refused) + len(refusals))


class OneAtATime(Case):
    options = ("-np", "1", *ROOMY)

    def test_they_come_one_by_one(self):
        self.assertEqual(len(self.server.get("/slots")), 1)
        with concurrent.futures.ThreadPoolExecutor(3) as pool:
            texts = [reply["choices"][0]["message"]["content"] for reply in pool.map(
                lambda priority: self.server.post("/v1/chat/completions", chat(priority=priority)), (0, 0, -1))]
        self.assertEqual(texts, texts[:1] * 3)
        self.assertIn("n is 2", self.server.post("/v1/chat/completions", chat(n=2), 400)["error"]["message"])


class Ending(unittest.TestCase):
    def stream(self, server, results, **more):
        connection = server.connect()
        try:
            connection.request("POST", "/v1/chat/completions", json.dumps(chat(stream=True, **more)))
            results.append(connection.getresponse().read())
        except (OSError, http.client.HTTPException) as error:
            results.append(error)

    def test_sigterm_drains(self):
        server = Server(TINY, *ROOMY, "--drain-timeout", "300", "--idle-timeout", "1000")
        results = []
        holder = server.connect()   # while it goes on, the server can't end
        holder.request("POST", "/v1/chat/completions", json.dumps(chat(stream=True, **LONG)))
        reply = holder.getresponse()
        threads = [threading.Thread(target=self.stream, args=(server, results), kwargs={"max_tokens": 3000,
                                                                                       "ignore_eos": True})
                   for _ in range(8)]
        for thread in threads:
            thread.start()
        end = time.monotonic() + SECONDS
        while server.metric("bobbin_requests_total") < 9:   # on a fast machine some have ended
            self.assertLess(time.monotonic(), end)
            time.sleep(0.01)
        server.process.send_signal(signal.SIGTERM)
        server.wait_to_say("ending; ")
        status, headers, data = server.ask("POST", "/v1/chat/completions", chat())
        self.assertEqual((status, json.loads(data)["error"]["code"]), (503, "shutting_down"))
        self.assertIn("Retry-After", headers)
        self.assertEqual(server.ask("GET", "/health")[0], 503)
        reply.close()
        holder.close()
        for thread in threads:
            thread.join()
        self.assertEqual([r[-16:] for r in results], [b"\n\ndata: [DONE]\n\n"] * 8)
        self.assertEqual(server.ended(), 0)

    def test_drain_timeout(self):
        """Who is cut off is told, one that writes and those that wait, in the words of each API."""
        server = Server(TINY, *ROOMY, "-np", "1", "--drain-timeout", "1")
        bodies = (("/v1/chat/completions", chat(**LONG)), ("/v1/completions", {"prompt": [1, 2], **LONG}),
                  ("/completion", {"prompt": [1, 2], "n_predict": -1, "ignore_eos": True}),
                  ("/v1/responses", {"input": "1 2", "ignore_eos": True}),
                  ("/v1/messages", chat(**LONG)), ("/v1/embeddings", {"input": "1 2"}))
        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            asked = []
            for path, body in bodies:
                for stream in (False, True) if "input" not in body or "ignore_eos" in body else (False,):
                    asked.append((path, stream, pool.submit(server.ask, "POST", path, {**body, "stream": True}
                                                            if stream else body)))
                    server.wait_for(lambda v: v["n_requests"] == len(asked))
            self.assertEqual(server.stop(), 0)
            self.assertIn(f"{len(asked)} requests are cut off", server.said())
            for path, stream, reply in asked:
                with self.subTest(path=path, stream=stream):
                    status, _, data = reply.result()
                    self.assertEqual(status, 200 if stream else 503, data)
                    last = [line for line in data.decode().splitlines() if line.startswith("data: {")][-1][6:] \
                        if stream else data
                    found = json.loads(last)
                    error = found["response"]["error"] if "response" in found else found["error"]
                    self.assertIn("the server ends", error["message"])
                    if "messages" not in path and "responses" not in path:
                        self.assertEqual(error["code"], "shutting_down")
        lines = [line for line in server.lines() if line["method"] == "POST"]
        self.assertEqual([(line["error"], "cut_off" in line) for line in lines],
                         [("shutting_down", False)] * len(asked))

    def test_second_signal_ends_at_once(self):
        server = Server(TINY, *ROOMY)
        thread = threading.Thread(target=self.stream, args=(server, []), kwargs=LONG)
        thread.start()
        server.wait_for(lambda v: v["n_requests"] == 1)
        server.process.send_signal(signal.SIGTERM)
        server.wait_to_say("ending; ")
        self.assertEqual(server.stop(), 128 + signal.SIGTERM)   # and not 0 when they are cut off
        thread.join()

    def test_ctrl_c(self):
        self.assertEqual(Server(TINY).stop(signal.SIGINT), 0)

    def test_port_in_use(self):
        server = Server(TINY)
        self.addCleanup(server.stop)
        done = subprocess.run([BOBBIN, "serve", TINY, "--port", str(server.port)], capture_output=True, check=False,
                              timeout=SECONDS)
        self.assertEqual(done.returncode, 1)
        self.assertIn(b"can't be listened on", done.stderr)

    def test_wrong_options_are_told_before_a_model_is_loaded(self):
        server = Server(TINY)
        self.addCleanup(server.stop)
        for options, status, words in ((("--port", str(server.port)), 1, b"can't be listened on"),
                                       (("--host", "nowhere.invalid"), 2, b"'nowhere.invalid' is no address"),
                                       (("--swap-space", "4G"), 2, b"expected a number of GiB from 0"),
                                       (("--tool-call-parser", "x"), 2, b"'--tool-call-parser' is 'x'")):
            done = subprocess.run([BOBBIN, "serve", "/no/such/model.gguf", "--port", "0", *options],
                                  capture_output=True, check=False, timeout=SECONDS)
            self.assertEqual(done.returncode, status, done.stderr)
            self.assertIn(words, done.stderr)


class Seen(Case):
    options = ("--metrics-compat", "vllm", "--cors-origin", "http://page.example")

    def test_metrics(self):
        self.server.post("/v1/chat/completions", chat())
        _, headers, data = self.server.ask("GET", "/metrics")
        text = data.decode()
        self.assertTrue(headers["Content-Type"].startswith("text/plain; version=0.0.4"))
        for name in ("bobbin_time_to_first_token_seconds", "bobbin_inter_token_latency_seconds",
                     "bobbin_request_seconds",
                     "vllm:time_to_first_token_seconds", "vllm:e2e_request_latency_seconds"):
            self.assertRegex(text, rf"\n{name}_count(\{{.*\}})? [1-9]")
        self.assertRegex(text, r'vllm:num_requests_running\{model_name="llama",engine="0"\} 0')
        for name, kind in re.findall(r"^# TYPE (\S+) (\S+)$", text, re.M):
            self.assertEqual(kind == "counter", name.endswith("_total"), name)
            self.assertIn(f"# HELP {name} ", text)
            if kind == "histogram":
                counts = [float(v) for v in re.findall(rf"^{name}_bucket\{{.*\}} (\S+)$", text, re.M)]
                self.assertEqual(counts, sorted(counts))

    def test_cors(self):
        page = {"Origin": "http://page.example"}
        status, headers, _ = self.server.ask("OPTIONS", "/v1/chat/completions", **page)
        self.assertEqual((status, headers["Access-Control-Allow-Origin"]), (204, "http://page.example"))
        self.assertIn("POST", headers["Access-Control-Allow-Methods"])
        _, headers, _ = self.server.ask("GET", "/v1/models", **page)
        self.assertEqual(headers["Access-Control-Allow-Origin"], "http://page.example")

    def test_access_log(self):
        self.server.post("/v1/chat/completions", chat())
        end = time.monotonic() + SECONDS
        while not (lines := [v for v in self.server.lines() if v["method"] == "POST"]) and time.monotonic() < end:
            time.sleep(0.01)  # it's written when the reply is out
        line = lines[-1]
        self.assertEqual((line["path"], line["status"], line["output_tokens"]), ("/v1/chat/completions", 200, 4))
        self.assertNotIn("1 2 3", json.dumps(line))

    def test_half_a_request_has_no_reply_to_count(self):
        with socket.create_connection(("127.0.0.1", self.server.port)) as s:
            s.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{")
        end = time.monotonic() + SECONDS
        while not any(line["status"] == 0 for line in self.server.lines()):
            self.assertLess(time.monotonic(), end)
            time.sleep(0.01)
        text = self.server.ask("GET", "/metrics")[2].decode()
        self.assertIn("bobbin_http_responses_total{", text)
        self.assertNotIn('code="0"', text)

    def test_openapi(self):
        description = self.server.get("/openapi.json")
        self.assertTrue(description["openapi"].startswith("3."))
        for path in ("/v1/chat/completions", "/v1/messages", "/v1/responses", "/metrics", "/tokenize"):
            self.assertIn(path, description["paths"])

    def test_openapi_has_the_fields_that_are_read(self):
        schemas = self.server.get("/openapi.json")["components"]["schemas"]
        shared = ("asked.c", "constraint.c", "asked_effort.c")
        for schema, files, others in (  # others: what another endpoint's requests have, and n, which must be 1
                ("ChatRequest", (*shared, "chat.c", "messages.c"), {"prompt"}),
                ("CompletionRequest", (*shared, "completions.c"), {"messages"}),
                ("ResponseRequest", ("responses_read.c",), {"n"}), ("MessagesRequest", ("anthropic_read.c",), {"n"}),
                ("EmbeddingRequest", ("embeddings.c",), set()),
                ("LlamaCompletionRequest", ("llama.c", "peers.c"), set()),
                ("GenerateRequest", ("sglang.c", "peers.c"), {"prompt", "logprob_start_len"})):
            source = "".join((ROOT / "tools/serve" / name).read_text(encoding="utf-8") for name in files)
            read = set(re.findall(r'\bfield\w*\(x, (?:x->)?in, "(\w+)"|\bfield\(x->in, "(\w+)"', source))
            read = {a or b for a, b in read}
            for names in re.findall(r"(?:lengths|passed)\[\] = \{([^}]*)\}", source):
                read |= set(re.findall(r'"(\w+)"', names))
            read |= set(re.findall(r'\{ "(\w+)", (?:NULL|"\w+"), BB_GRAMMAR', source))
            read |= set(re.findall(r'\{ NULL, "(\w+)" \}', source))
            read |= set(re.findall(r'\{ "(\w+)", "\1\.\w+" \}', source))
            self.assertGreaterEqual(len(read), 3, schema)
            self.assertEqual(read - others - set(schemas[schema]["properties"]), set(), schema)

    def test_openapi_has_the_fields_of_effort(self):
        schemas = self.server.get("/openapi.json")["components"]["schemas"]
        source = (ROOT / "tools/serve/asked_effort.c").read_text(encoding="utf-8")
        effort = schemas["Effort"]["properties"]
        for name, properties in (("effort", effort), ("effort.deepconf", effort["deepconf"]["properties"]),
                                 ("effort.probe", effort["probe"]["properties"])):
            read = set(re.findall(rf'"{re.escape(name)}\.(\w+)"[, ]', source))
            self.assertEqual(read, set(properties))

    def test_token_tools(self):
        ids = self.server.post("/tokenize", {"prompt": "5 6 7"})["tokens"]
        self.assertEqual(ids[-3:], [5, 6, 7])
        self.assertEqual(self.server.post("/tokenize", {"content": "5 6"})["tokens"], [5, 6])
        self.assertEqual(self.server.post("/detokenize", {"tokens": [5, 6]})["prompt"].strip(), "5 6")

    def test_small_ones(self):
        for path in ("/health", "/v1/health", "/ping"):
            self.assertEqual(self.server.get(path), {"status": "ok"})
        self.assertRegex(self.server.get("/version")["version"], r"^\d+\.\d+\.\d+$")


class Same(Case):
    """Many at once: every answer is the one that its request gets alone."""
    model, options = REAL, ("-c", "1024", "--log-level", "off")

    def test_bits(self):
        bodies = [chat("Tell me about " + word, max_tokens=10 + 7 * i, temperature=1, seed=i, logprobs=True)
                  for i, word in enumerate(("salt", "iron", "rain", "sleep", "bread", "the sea"))]
        alone = [self.server.post("/v1/chat/completions", body)["choices"] for body in bodies]
        with concurrent.futures.ThreadPoolExecutor(12) as pool:
            again = list(pool.map(lambda body: self.server.post("/v1/chat/completions", body)["choices"], bodies * 2))
        self.assertEqual(again, alone * 2)
