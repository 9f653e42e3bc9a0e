# SPDX-License-Identifier: Apache-2.0
"""Agents whose contexts grow by tools' results, seeded: what they send, turn by turn, and what of it had to be read.

A turn sends all messages so far; the answer and a tool's result, between a line and a page, come behind it. One turn
in ten is sent again with another result in place of the last one, and in one in twenty an older result is cut
short. Agents work side by side, each waiting for its own answers only.

Of a prompt those tokens are reusable that it has in common, from its first one on, with a prompt that the same agent
sent before and the answer to it; never its last token, whose logits are wanted. Reused are those that the server says
it had (`usage.prompt_tokens_details.cached_tokens`), as far as they are reusable: what an agent has from others doesn't
make up for what it lost. What doesn't begin at a page, or at a state that a recurrent
model has kept, counts as reusable all the same."""
import http.client
import json
import random
import threading
import time

WORDS = ("the file of build error line test in module call returned value list key index no such found warning "
         "string user server path result token page cache step model weights memory byte offset size node tree edge "
         "hash seed run slow fast open closed read write sent got wait done fail pass next last first second time "
         "date name type row column table query join left right sum mean total count price order item stock city "
         "street road map point rain wind cloud iron stone water light sound paper glass").split()
TURNS, AGENTS = 40, 4


class Text:
    """Words, of about so many tokens."""

    def __init__(self, rng):
        self.rng = rng

    def of(self, tokens):
        return " ".join(self.rng.choice(WORDS) + self.rng.choice(("", "", "", ",", ".", " =", ":"))
                        for _ in range(max(1, int(tokens / 1.75))))


class Ids:
    """Ids in decimal, for models without a vocabulary."""

    def __init__(self, rng, n_vocab):
        self.rng, self.n_vocab = rng, n_vocab

    def of(self, tokens):
        return " ".join(str(self.rng.randrange(4, self.n_vocab)) for _ in range(max(1, tokens)))


class Agent:
    def __init__(self, number, n_vocab, scale):
        self.rng = random.Random(1000 + number)
        self.text = Text(self.rng) if n_vocab is None else Ids(self.rng, n_vocab)
        self.scale = scale
        shared = random.Random(1)
        words = Text(shared) if n_vocab is None else Ids(shared, n_vocab)
        self.messages = [{"role": "system", "content": words.of(200 // scale) + " " + self.text.of(100 // scale)},
                         {"role": "user", "content": self.text.of(60 // scale)}]
        self.known = []
        self.reusable = self.reused = self.cached = self.prompt_tokens = self.output_tokens = self.longest = 0

    def result(self):
        """Mostly short, some of a page."""
        tokens = self.rng.choice((12, 20, 30, 50, 80, 120, 200, 320))
        return {"role": "tool", "tool_call_id": "call", "content": self.text.of(max(2, tokens // self.scale))}

    def turns(self, n):
        """Yields requests; the answer comes back."""
        for turn in range(n):
            if turn > 0:
                again = self.rng.random()
                results = [m for m in self.messages[:-2] if m["role"] == "tool"]
                if again < 0.1:
                    self.messages[-1] = self.result()
                elif again < 0.15 and results:
                    cut = results[-1]
                    cut["content"] = " ".join(cut["content"].split()[:4])
            max_tokens = max(2, self.rng.choice((12, 20, 32, 48)) // self.scale)
            answer = yield {"messages": self.messages, "max_tokens": max_tokens, "temperature": 0, "seed": turn,
                            "ignore_eos": True, "return_token_ids": True}
            self.messages += [{"role": "assistant", "content": answer}, self.result()]

    def count(self, reply):
        usage, prompt = reply["usage"], reply.get("prompt_token_ids")
        self.prompt_tokens += usage["prompt_tokens"]
        self.output_tokens += usage["completion_tokens"]
        self.longest = max(self.longest, usage["total_tokens"])
        cached = usage["prompt_tokens_details"]["cached_tokens"]
        self.cached += cached
        if prompt is not None:
            reusable = max((common(prompt[:-1], other) for other in self.known), default=0)
            self.reusable += reusable
            self.reused += min(reusable, cached)
            self.known.append(prompt + reply["choices"][0]["token_ids"])


def common(a, b):
    n = 0
    for x, y in zip(a, b):
        if x != y:
            break
        n += 1
    return n


def post(port, body):
    """llama-server refuses what has no room beside others: then it's asked again, as often as it takes."""
    while True:
        status, data = post_once(port, body)
        if status == 200:
            return json.loads(data)
        if b"Context size has been exceeded" not in data:
            raise RuntimeError(f"status {status}: {data[:500]!r}")
        time.sleep(0.1)


def post_once(port, body):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
    connection.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
    reply = connection.getresponse()
    data = reply.read()
    connection.close()
    return reply.status, data


def play(port, n_vocab=None, agents=AGENTS, turns=TURNS, scale=1):
    """The agents when all are done, and the seconds that it took. n_vocab: of a model without a vocabulary; scale:
    all lengths divided by it."""
    everyone = [Agent(i, n_vocab, scale) for i in range(agents)]
    failures = []

    def work(agent):
        requests = agent.turns(turns)
        answer = None
        try:
            while True:
                reply = post(port, requests.send(answer))
                agent.count(reply)
                answer = reply["choices"][0]["message"]["content"]
        except StopIteration:
            pass
        except Exception as error:  # pylint: disable=broad-exception-caught
            failures.append(error)

    threads = [threading.Thread(target=work, args=(agent,)) for agent in everyone]
    start = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return everyone, time.monotonic() - start


def total(agents, name):
    return sum(getattr(agent, name) for agent in agents)


def share(agents):
    return total(agents, "reused") / total(agents, "reusable")
