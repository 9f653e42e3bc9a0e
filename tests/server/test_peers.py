# SPDX-License-Identifier: Apache-2.0
"""The own endpoints of llama-server and SGLang, by requests as their users write them."""
import json

from serving import REAL, TINY, Case

PROMPT = "The sky is"


def events(data):
    """The events of a stream, [DONE] among them as it is."""
    lines = [line[6:] for line in data.decode().split("\n\n") if line.startswith("data: ")]
    return [line if line == "[DONE]" else json.loads(line) for line in lines]


class Peers(Case):
    model, options = REAL, ("-c", "1024", "--log-level", "off", "-np", "4")

    def plain(self, **more):
        return self.server.post("/v1/completions", {"prompt": PROMPT, "max_tokens": 8, "temperature": 0, **more})

    def complete(self, status=200, **more):
        return self.server.post("/completion", {"prompt": PROMPT, "n_predict": 8, "temperature": 0, **more}, status)

    def generate(self, status=200, params=None, **more):
        return self.server.post("/generate", {"text": PROMPT, "sampling_params": {
            "max_new_tokens": 8, "temperature": 0, **(params or {})}, **more}, status)

    def stream(self, path, body):
        status, headers, data = self.server.ask("POST", path, {**body, "stream": True})
        self.assertEqual((status, headers["Content-Type"]), (200, "text/event-stream"))
        return events(data)

    def test_completion(self):
        want = self.plain(return_token_ids=True)["choices"][0]
        reply = self.complete(cache_prompt=True, id_slot=-1, return_tokens=True)
        self.assertEqual((reply["content"], reply["tokens"]), (want["text"], want["token_ids"]))
        self.assertEqual((reply["stop"], reply["stop_type"], reply["stopping_word"], reply["truncated"]),
                         (True, "limit", "", False))
        self.assertEqual((reply["tokens_predicted"], reply["tokens_evaluated"], reply["model"]), (8, 3, "smollm2"))
        self.assertEqual(reply["timings"]["predicted_n"], 8)
        settings = reply["generation_settings"]
        self.assertEqual((settings["temperature"], settings["n_predict"]), (0, 8))
        word = want["text"].split()[3]
        reply = self.complete(stop=[word])
        self.assertEqual((reply["stop_type"], reply["stopping_word"], reply["content"]),
                         ("word", word, want["text"][:want["text"].index(word)]))
        self.assertEqual(reply["generation_settings"]["stop"], [word])
        stops = [word, "never said by anybody"]
        last = self.stream("/completion", {"prompt": PROMPT, "n_predict": 8, "stop": stops})[-1]
        self.assertEqual(last["generation_settings"]["stop"], stops)
        ids = self.server.post("/tokenize", {"prompt": PROMPT})["tokens"]
        self.assertEqual(self.complete(prompt=ids)["content"], want["text"])
        both = self.complete(prompt=[PROMPT, "Water is"])
        self.assertEqual(([r["index"] for r in both], both[0]["content"]), ([0, 1], want["text"]))
        self.assertEqual(self.complete(json_schema={"enum": [17]}, n_predict=-1)["content"], "17")
        self.assertEqual(self.complete(json_schema={"enum": [17]}, n_predict=-1)["stop_type"], "eos")
        self.assertRegex(self.complete(grammar='root ::= "a" [0-9]')["content"], "^a[0-9]$")

    def test_completion_bias_and_probabilities(self):
        first = self.complete(n_probs=3)
        entries = first["completion_probabilities"]
        self.assertEqual([e["id"] for e in entries], first["tokens"])
        self.assertTrue(all(len(e["top_logprobs"]) == 3 and e["logprob"] <= 0 for e in entries))
        never = self.complete(logit_bias=[[first["tokens"][0], False]])["tokens"][0]
        self.assertNotEqual(never, first["tokens"][0])
        always = self.complete(logit_bias=[[never, 100]], n_predict=2)["tokens"]
        self.assertEqual(always, [never] * 2)

    def test_completion_streamed(self):
        want = self.complete()
        got = self.stream("/completion", {"prompt": PROMPT, "n_predict": 8, "temperature": 0})
        self.assertEqual("".join(e["content"] for e in got), want["content"])
        self.assertEqual([t for e in got for t in e["tokens"]], want["tokens"])
        self.assertEqual([e["stop"] for e in got], [False] * (len(got) - 1) + [True])
        self.assertEqual((got[-1]["stop_type"], got[-1]["tokens_predicted"]), ("limit", 8))
        self.assertNotIn("timings", got[0])

    def test_completion_of_ids_and_texts(self):
        """One prompt of both, as well among several."""
        ids = self.server.post("/tokenize", {"prompt": PROMPT})["tokens"]
        rest = self.server.post("/detokenize", {"tokens": ids[1:]})["content"]
        want = self.complete()["content"]
        self.assertEqual(self.complete(prompt=[ids[0], rest])["content"], want)
        self.assertEqual(self.complete(prompt=[PROMPT[:3], *ids[1:]])["content"], want)
        self.assertEqual([r["content"] for r in self.complete(prompt=[[ids[0], rest], ids, PROMPT])], [want] * 3)
        for prompt in ([ids[0], None], [ids[0], [1]], [True], 5, [ids[0], 1 << 30], {}):
            with self.subTest(prompt):
                self.assertEqual(self.complete(400, prompt=prompt)["error"]["param"], "prompt")

    def test_paths_without_a_version(self):
        body = {"prompt": PROMPT, "n_predict": 8, "temperature": 0}
        self.assertEqual(*(self.server.post(path, body)["content"] for path in ("/completions", "/completion")))
        self.assertEqual(self.server.get("/models"), self.server.get("/v1/models"))
        hi = {"messages": [{"role": "user", "content": "Hi."}], "max_tokens": 4, "temperature": 0}
        self.assertEqual(*(self.server.post(path, hi)["choices"] for path in ("/chat/completions",
                                                                             "/v1/chat/completions")))
        self.assertEqual(self.server.post("/responses", {"input": "Hi.", "max_output_tokens": 3})["object"], "response")

    def test_completion_refuses(self):
        for more, param in (({"prompt": None}, "prompt"), ({"n_predict": 0}, "n_predict"),
                            ({"n_predict": 1022}, "max_tokens"),
                            ({"n_predict": None, "max_tokens": 1022}, "max_tokens"),
                            ({"n_predict": "x"}, "n_predict"),
                            ({"mirostat": 2}, "mirostat"), ({"logit_bias": [["x", 1]]}, "logit_bias"),
                            ({"samplers": ["top_k"]}, "samplers"), ({"prompt": []}, "prompt"),
                            ({"json_schema": {"not": {}}}, "json_schema"), ({"n_probs": 21}, "n_probs")):
            with self.subTest(more):
                self.assertEqual(self.complete(400, **more)["error"]["param"], param)
        self.assertEqual(self.complete(404, model="other")["error"]["code"], "model_not_found")

    def test_pieces(self):
        """Texts, or bytes where a token is a part of a letter."""
        text = "sky \U0001f701"
        rows = self.server.post("/tokenize", {"content": text, "with_pieces": True})["tokens"]
        self.assertEqual([row["id"] for row in rows], self.server.post("/tokenize", {"content": text})["tokens"])
        pieces = [row["piece"] for row in rows]
        self.assertEqual({type(piece) for piece in pieces}, {str, list})
        self.assertEqual(b"".join(bytes(p) if isinstance(p, list) else p.encode() for p in pieces), text.encode())

    def test_props_and_slots(self):
        props = self.server.get("/props")
        self.assertEqual((props["total_slots"], props["default_generation_settings"]["n_ctx"]), (4, 1024))
        self.assertIn("<|im_start|>", props["chat_template"])
        self.assertEqual((props["model_alias"], props["eos_token"]), ("smollm2", "<|im_end|>"))
        self.assertEqual(self.server.ask("POST", "/props", {})[0], 405)
        self.server.wait_for(lambda loads: loads["n_requests"] == 0)
        slots = self.server.get("/slots")
        self.assertEqual([(s["id"], s["is_processing"]) for s in slots], [(i, False) for i in range(4)])
        connection = self.server.connect()
        connection.request("POST", "/completion", json.dumps({"prompt": PROMPT, "n_predict": 900, "stream": True,
                                                              "ignore_eos": True}))
        reply = connection.getresponse()
        self.server.wait_for(lambda loads: any(r["output_tokens"] > 0 for r in loads["requests"]))
        busy = [s for s in self.server.get("/slots") if s["is_processing"]]
        self.assertEqual((len(busy), busy[0]["n_prompt_tokens"]), (1, 3))
        self.assertGreater(busy[0]["next_token"][0]["n_decoded"], 0)
        connection.close()
        reply.close()
        self.server.wait_for(lambda loads: loads["n_requests"] == 0)
        self.assertFalse(any(s["is_processing"] for s in self.server.get("/slots?fail_on_no_slot=1")))

    def test_generate(self):
        want = self.plain(return_token_ids=True, logprobs=0)["choices"][0]
        reply = self.generate(rid="mine", return_logprob=True)
        self.assertEqual((reply["text"], reply["output_ids"]), (want["text"], want["token_ids"]))
        meta = reply["meta_info"]
        self.assertEqual(meta["finish_reason"], {"type": "length", "length": 8})
        self.assertEqual((meta["prompt_tokens"], meta["completion_tokens"]), (3, 8))
        self.assertEqual([row[:2] for row in meta["output_token_logprobs"]],
                         [list(row) for row in zip(want["logprobs"]["token_logprobs"], want["token_ids"])])
        word = want["text"].split()[3]
        reply = self.generate(params={"stop": word})
        self.assertEqual((reply["text"], reply["meta_info"]["finish_reason"]),
                         (want["text"][:want["text"].index(word)], {"type": "stop", "matched": word}))
        ids = self.server.post("/tokenize", {"prompt": PROMPT})["tokens"]
        self.assertEqual(self.generate(text=None, input_ids=ids)["text"], want["text"])
        many = self.generate(text=[PROMPT, "Water is"])
        self.assertEqual((len(many), many[0]["text"]), (2, want["text"]))
        drawn = self.generate(params={"n": 2, "temperature": 1, "sampling_seed": 5})
        again = self.generate(params={"n": 2, "temperature": 1, "sampling_seed": 5})
        self.assertEqual([r["text"] for r in drawn], [r["text"] for r in again])
        held = self.generate(params={"json_schema": '{"enum": [17]}'})
        self.assertEqual((held["text"], held["meta_info"]["finish_reason"]["type"]), ("17", "stop"))
        self.assertRegex(self.generate(params={"regex": "[a-c]{3}"})["text"], "^[a-c]{3}$")
        long = self.server.post("/generate", {"input_ids": ids * 330, "sampling_params": {"ignore_eos": True}})
        self.assertEqual(long["meta_info"]["completion_tokens"], 1024 - 990)  # a default of 128 gives way
        self.generate(400, text=None, input_ids=ids * 330, params={"max_new_tokens": 128})

    def test_generate_streamed(self):
        want = self.generate()
        got = self.stream("/generate", {"text": PROMPT, "sampling_params": {"max_new_tokens": 8, "temperature": 0}})
        self.assertEqual(got[-1], "[DONE]")
        texts = [e["text"] for e in got[:-1]]
        self.assertTrue(all(b.startswith(a) for a, b in zip(texts, texts[1:])))
        self.assertEqual((texts[-1], got[-2]["output_ids"]), (want["text"], want["output_ids"]))
        self.assertEqual([e["meta_info"]["finish_reason"] is None for e in got[:-1]], [True] * (len(got) - 2) + [False])

    def test_generate_refuses(self):
        for more, params, param in (({"text": None}, {}, "text"), ({"input_ids": [1]}, {}, "text"),
                                    ({"image_data": "x"}, {}, "image_data"),
                                    ({}, {"max_new_tokens": 0}, "max_new_tokens"),
                                    ({}, {"ebnf": "root ::= a"}, "ebnf"), ({}, {"temperature": -1}, "temperature"),
                                    ({"return_logprob": True, "logprob_start_len": 0}, {}, "logprob_start_len"),
                                    ({"top_logprobs_num": 2}, {}, "top_logprobs_num")):
            with self.subTest(more=more, params=params):
                self.assertEqual(self.generate(400, params, **more)["error"]["param"], param)
        reply = self.server.post("/generate", {"text": PROMPT, "sampling_params": [{}]}, 400)
        self.assertEqual(reply["error"]["param"], "sampling_params")


class ManySlots(Case):
    model, options = TINY, ("-c", "100000", "--kv-cache-bytes", "0", "--log-level", "off", "-np", "100")

    def test_all_of_them(self):
        """More than one page of any list."""
        connection = self.server.connect()
        connection.request("POST", "/v1/completions", json.dumps({"prompt": [[i, 2] for i in range(100)],
                                                                  "max_tokens": 90000, "ignore_eos": True}))
        self.server.wait_for(lambda loads: loads["running"] == 100)
        slots = self.server.get("/slots")
        self.assertEqual([s["id"] for s in slots], list(range(100)))
        self.assertTrue(all(s["is_processing"] for s in slots))
        self.server.get("/slots?fail_on_no_slot=1", 503)
        connection.close()
        self.server.wait_for(lambda loads: loads["n_requests"] == 0)
        self.assertFalse(any(s["is_processing"] for s in self.server.get("/slots")))
