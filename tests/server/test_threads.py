# SPDX-License-Identifier: Apache-2.0
"""The server's threads under ThreadSanitizer: connections against the thread that steps, by requests of all kinds, some
of which leave, until SIGTERM comes among them. libmicrohttpd isn't compiled for it; nothing has to be left out for
that."""
import http.client
import json
import random
import resource
import signal
import socket
import threading
import time
import unittest

from serving import BUILD, SECONDS, TINY, Server, chat

PROGRAM = BUILD / "tests" / "bobbin_tsan"
SECONDS_OF_LOAD = 12


def talk(words, **more):
    return "/v1/chat/completions", chat(" ".join(words), **more)


def requests(random_):
    """One of each kind; whatever is drawn may come often, so that prompts begin alike."""
    words = [str(random_.randrange(1, 9)) for _ in range(random_.choice((3, 40, 150)))]
    n = random_.randrange(1, 40)
    yield talk(words, max_tokens=n)
    yield talk(words, max_tokens=n, stream=True, n=3, logprobs=True, top_logprobs=5)
    yield talk(words, max_tokens=n, priority=-1, deadline_ms=random_.choice((20, 1000)), ignore_eos=True)
    yield talk(words, max_tokens=n, response_format={"type": "json_object"})
    yield "/v1/completions", {"prompt": [" ".join(words), [1, 2, 3]], "max_tokens": n, "n": 2, "echo": True,
                              "logprobs": 3}
    yield "/v1/completions", {"prompt": " ".join(words), "max_tokens": n, "stream": True, "prompt_logprobs": 2}
    yield "/v1/responses", {"input": " ".join(words), "max_output_tokens": n, "stream": n % 2 == 0}
    yield "/v1/messages", {"messages": [{"role": "user", "content": " ".join(words)}], "max_tokens": n}
    yield "/v1/embeddings", {"input": [" ".join(words), "1 2"]}
    yield "/tokenize", {"prompt": " ".join(words)}
    yield talk(["1"] * 3000)    # is refused
    for path in ("/v1/loads", "/metrics", "/v1/models", "/health"):
        yield path, None


@unittest.skipUnless(PROGRAM.exists(), "ThreadSanitizer isn't here, or the build has another sanitizer")
@unittest.skipIf(resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY,
                 "ThreadSanitizer needs all of the address space")
class Threads(unittest.TestCase):
    def play(self, server, seed, end):
        """A client; every fourth request is left before its answer is whole."""
        random_ = random.Random(seed)
        while time.monotonic() < end:
            for path, body in random_.sample(list(requests(random_)), 6):
                try:
                    connection = server.connect()
                    connection.request("GET" if body is None else "POST", path, body and json.dumps(body))
                    if random_.randrange(4) == 0:
                        time.sleep(random_.random() * 0.05)
                        connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                        connection.close()
                        continue
                    reply = connection.getresponse()
                    data = reply.read()
                    connection.close()
                    self.seen.add(reply.status)
                    if reply.status not in (200, 400, 429, 503):
                        self.wrong.append((path, reply.status, data[:300]))
                except (OSError, http.client.HTTPException) as error:
                    if not self.is_ending:
                        self.wrong.append((path, repr(error)))

    def stand_still(self, server):
        """A stream that isn't read: its request pauses, until the server ends."""
        body = json.dumps({"prompt": [1, 2], "max_tokens": 400, "n": 4, "stream": True, "ignore_eos": True,
                           "logprobs": 20}).encode()
        s = socket.socket()
        self.addCleanup(s.close)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        s.connect(("127.0.0.1", server.port))
        s.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

    def test_load(self):
        self.seen, self.wrong, self.is_ending = set(), [], False
        server = Server(TINY, "--log-level", "error", "-t", "2", "--max-num-seqs", "6", "--max-queue", "6",
                        "--kv-cache-bytes", "1M", "--request-memory-bytes", "4M", "--max-connections", "64",
                        "--drain-timeout", "3", program=PROGRAM)
        self.addCleanup(server.stop)
        self.stand_still(server)
        end = time.monotonic() + SECONDS_OF_LOAD
        clients = [threading.Thread(target=self.play, args=(server, seed, end)) for seed in range(10)]
        for client in clients:
            client.start()
        time.sleep(SECONDS_OF_LOAD * 0.8)
        self.is_ending = True
        server.process.send_signal(signal.SIGTERM)
        status = server.process.wait(SECONDS)
        for client in clients:
            client.join()
        said = server.said()
        self.assertNotIn("ThreadSanitizer", said, said[:6000])
        self.assertEqual(status, 0, said[-2000:])
        self.assertEqual(self.wrong, [])
        self.assertLessEqual({200, 400}, self.seen)
