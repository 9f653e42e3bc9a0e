# SPDX-License-Identifier: Apache-2.0
"""Clients of streamed completions: one thread, raw sockets, no JSON read, for the servers need the CPU."""
import json
import re
import selectors
import socket
import sys
import time

EVENT = b"data: {"
USAGE = re.compile(rb'"completion_tokens":\s*(\d+)')
LOOK_BACK = 4096  # bytes of a reply's end in which its usage is looked for


def body_of(prompt, n_tokens, more):
    return json.dumps({"prompt": prompt, "max_tokens": n_tokens, "temperature": 0, "ignore_eos": True,
                       "stream": True, "stream_options": {"include_usage": True}, **more}).encode()


class Stream:
    """One request on its way. Events are counted where they begin."""

    def __init__(self, port, body):
        head = ("POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
                f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n")
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.sendall(head.encode() + body)
        self.last = None     # when an event came
        self.n_events = 0
        self.end = b""       # the last bytes that came

    def read(self):
        """How many events began, or None at the end."""
        data = self.socket.recv(1 << 16)
        if not data:
            return None
        n = (self.end[1 - len(EVENT):] + data).count(EVENT)
        self.end = (self.end + data)[-LOOK_BACK:]
        self.n_events += n
        return n

    def n_tokens(self):
        """By the usage that it ended with."""
        found = USAGE.findall(self.end)
        if not found:
            sys.exit("a stream ended without its usage: " + self.end.decode(errors="replace"))
        return int(found[-1])


class Clients:
    """Clients that ask again as soon as they are answered. `bodies` yields what whoever is free asks next."""

    def __init__(self, port, bodies, n):
        self.port, self.bodies = port, bodies
        self.selector = selectors.DefaultSelector()
        self.guests = []     # streams of who asks once, and isn't counted
        self.forget()
        for _ in range(n):
            self.ask(next(bodies))

    def forget(self):
        """What is told counts from now on."""
        self.n_events = 0
        self.gaps = []       # seconds between reads of a stream in which events began
        self.ended = []      # streams

    def ask(self, body):
        stream = Stream(self.port, body)
        self.selector.register(stream.socket, selectors.EVENT_READ, stream)
        return stream

    def ask_once(self, body):
        self.guests.append(self.ask(body))

    def take(self, stream):
        n, now = stream.read(), time.monotonic()
        if n is None:
            self.selector.unregister(stream.socket)
            stream.socket.close()
            stream.n_tokens()  # it ended well
        if stream in self.guests:
            if n is None:
                self.guests.remove(stream)
        elif n is None:
            self.ended.append(stream)
            self.ask(next(self.bodies))
        elif n > 0:
            self.n_events += n
            if stream.last is not None:
                self.gaps.append(now - stream.last)
            stream.last = now

    def run(self, seconds, until=lambda: False):
        """For so long, or until `until` says so."""
        end = time.monotonic() + seconds
        while not until() and (left := end - time.monotonic()) > 0:
            for key, _ in self.selector.select(left):
                self.take(key.data)

    def n_tokens(self):
        """Some events only say how an answer ended, and a token of half a character has none: what has ended says
        how many tokens an event is."""
        n_events = sum(stream.n_events for stream in self.ended)
        n_tokens = sum(stream.n_tokens() for stream in self.ended)
        return self.n_events * (n_tokens / n_events if n_events else 1)

    def leave(self):
        for key in list(self.selector.get_map().values()):
            key.fileobj.close()
        self.selector.close()
