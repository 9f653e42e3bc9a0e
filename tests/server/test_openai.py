# SPDX-License-Identifier: Apache-2.0
"""The openai package, unchanged, against a small model of real text."""
import json
import math

from serving import REAL, Case, openai, with_clients

HI = [{"role": "user", "content": "Why is the sky blue?"}]
TOOLS = [{"type": "function", "function": {
    "name": "get_weather", "description": "The weather of a city",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}}]


@with_clients
class OpenAI(Case):
    model, options = REAL, ("--served-model-name", "small", "-c", "1024", "--log-level", "off")

    def setUp(self):
        self.client = self.server.openai()

    def chat(self, **more):
        return self.client.chat.completions.create(**{"model": "small", "messages": HI, "max_tokens": 12,
                                                      "temperature": 0, **more})

    def test_models(self):
        names = [model.id for model in self.client.models.list()]
        self.assertEqual(names[:2], ["small", "smollm2"])
        self.assertEqual(self.client.models.retrieve("smollm2").id, "smollm2")
        for name in names:
            self.assertEqual(self.chat(model=name, max_tokens=1).model, "small")

    def test_plain(self):
        reply = self.chat()
        choice = reply.choices[0]
        self.assertEqual((choice.message.role, choice.finish_reason), ("assistant", "length"))
        self.assertGreater(len(choice.message.content), 20)
        self.assertEqual(reply.usage.completion_tokens, 12)
        self.assertEqual(reply.usage.total_tokens, reply.usage.prompt_tokens + 12)
        self.assertEqual(self.chat().choices[0].message.content, choice.message.content)

    def test_streamed_is_the_same(self):
        chunks = list(self.chat(stream=True, stream_options={"include_usage": True}))
        text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
        plain = self.chat()
        self.assertEqual(text, plain.choices[0].message.content)
        self.assertEqual(chunks[0].choices[0].delta.role, "assistant")
        self.assertEqual(chunks[-2].choices[0].finish_reason, "length")
        self.assertEqual(chunks[-1].choices, [])
        self.assertEqual(chunks[-1].usage.completion_tokens, 12)
        self.assertTrue(all(c.usage is None for c in chunks[:-1]))
        self.assertEqual({c.id for c in chunks}, {chunks[0].id})

    def test_usage_of_every_chunk(self):
        chunks = list(self.chat(stream=True, stream_options={"continuous_usage_stats": True, "include_usage": True}))
        counts = [c.usage.completion_tokens for c in chunks]
        self.assertEqual((counts[0], counts[-1]), (0, 12))
        self.assertEqual(counts, sorted(counts))

    def test_n(self):
        reply = self.chat(n=4, temperature=1, seed=7)
        texts = [choice.message.content for choice in reply.choices]
        self.assertEqual([choice.index for choice in reply.choices], [0, 1, 2, 3])
        self.assertGreater(len(set(texts)), 1)
        self.assertEqual(reply.usage.completion_tokens, 48)
        self.assertEqual(self.chat(temperature=1, seed=7).choices[0].message.content, texts[0])
        streamed = ["", "", "", ""]
        for chunk in self.chat(n=4, temperature=1, seed=7, stream=True):
            streamed[chunk.choices[0].index] += chunk.choices[0].delta.content or ""
        self.assertEqual(streamed, texts)

    def test_logprobs(self):
        reply = self.chat(logprobs=True, top_logprobs=5)
        entries = reply.choices[0].logprobs.content
        self.assertEqual(len(entries), 12)
        self.assertEqual("".join(e.token for e in entries), reply.choices[0].message.content)
        for entry in entries:
            self.assertEqual(len(entry.top_logprobs), 5)
            self.assertEqual(entry.token, entry.top_logprobs[0].token)  # greedy
            self.assertEqual(bytes(entry.bytes).decode(), entry.token)
            self.assertLess(sum(math.exp(t.logprob) for t in entry.top_logprobs), 1.001)
        streamed = [e for c in self.chat(logprobs=True, top_logprobs=5, stream=True) if c.choices and
                    c.choices[0].logprobs for e in c.choices[0].logprobs.content]
        self.assertEqual([e.logprob for e in streamed], [e.logprob for e in entries])

    def test_logit_bias(self):
        first = self.chat(max_tokens=1, logprobs=True).choices[0].logprobs.content[0]
        ids = self.server.post("/tokenize", {"prompt": first.token, "add_special_tokens": False})["tokens"]
        other = self.chat(max_tokens=1, logprobs=True, logit_bias={str(ids[0]): -100}).choices[0]
        self.assertNotEqual(other.logprobs.content[0].token, first.token)

    def test_stop(self):
        whole = self.chat(max_tokens=30).choices[0].message.content
        word = whole.split()[6]
        reply = self.chat(max_tokens=30, stop=[word, "never to come"])
        self.assertEqual(reply.choices[0].message.content, whole[:whole.index(word)])
        self.assertEqual(reply.choices[0].finish_reason, "stop")
        self.assertEqual(reply.choices[0].stop_reason, word)
        streamed = "".join(c.choices[0].delta.content or "" for c in self.chat(max_tokens=30, stop=word, stream=True))
        self.assertEqual(streamed, whole[:whole.index(word)])

    def test_completions_stop(self):
        def complete(**more):
            return self.client.completions.create(model="small", prompt="The sky is", max_tokens=30, temperature=0,
                                                  **more)
        plain = complete()
        self.assertIsNone(plain.choices[0].stop_reason)
        self.assertEqual(plain.usage.completion_tokens_details.reasoning_tokens, 0)
        whole = plain.choices[0].text
        word = whole.split()[6]
        choice = complete(stop=["never to come", word]).choices[0]
        self.assertEqual((choice.text, choice.finish_reason, choice.stop_reason),
                         (whole[:whole.index(word)], "stop", word))
        chunks = list(complete(stop=[word], stream=True))
        self.assertEqual("".join(c.choices[0].text for c in chunks), whole[:whole.index(word)])
        self.assertEqual([c.choices[0].stop_reason for c in chunks], [None] * (len(chunks) - 1) + [word])

    def test_a_message_that_repeats_itself_goes_on(self):
        """It stands at each of its bytes, which takes no longer for that."""
        messages = [{"role": "user", "content": "a" * 800000}, {"role": "assistant", "content": "a" * 400000}]
        error = self.server.post("/v1/chat/completions", {"messages": messages, "continue_final_message": True}, 400)
        self.assertEqual(error["error"]["code"], "context_length_exceeded")

    def test_the_stop_string_that_it_was(self):
        """Of a long one, and of those that came before min_tokens."""
        def complete(**more):
            return self.client.completions.create(**{"model": "small", "prompt": "The sky is", "temperature": 0,
                                                     "max_tokens": 20, **more}).choices[0]
        words = complete().text.split()
        reply = complete(stop=[words[8], words[1]], extra_body={"min_tokens": 6})
        self.assertIn(words[1], reply.text)
        self.assertEqual((reply.finish_reason, reply.stop_reason), ("stop", words[8]))
        word = " understanding"
        ids = self.server.post("/tokenize", {"prompt": word, "add_special_tokens": False})["tokens"]
        self.assertEqual(len(ids), 1)
        reply = complete(max_tokens=500, logit_bias={str(ids[0]): 100}, stop=["x", word * 400])
        self.assertEqual((reply.finish_reason, reply.stop_reason, reply.text), ("stop", word * 400, ""))

    def test_continue_final_message(self):
        begun = [*HI, {"role": "assistant", "content": "The sky is blue because"}]
        reply = self.chat(messages=begun, extra_body={"continue_final_message": True})
        self.assertTrue(reply.choices[0].message.content.startswith(" "), reply.choices[0].message.content)

    def test_parts_and_developer(self):
        parts = [{"role": "developer", "content": "Be brief."},
                 {"role": "user", "content": [{"type": "text", "text": "Why is the sky blue?"}]}]
        plain = [{"role": "system", "content": "Be brief."}, HI[0]]
        self.assertEqual(self.chat(messages=parts).choices[0].message.content,
                         self.chat(messages=plain).choices[0].message.content)

    def test_tools_round_trip(self):
        for choice in ("required", {"type": "function", "function": {"name": "get_weather"}}):
            reply = self.chat(tools=TOOLS, tool_choice=choice, max_tokens=100)
            self.assertEqual(reply.choices[0].finish_reason, "tool_calls")
            call = reply.choices[0].message.tool_calls[0]
            self.assertIsInstance(json.loads(call.function.arguments), dict)
        self.assertEqual(call.function.name, "get_weather")
        streamed = [c.choices[0].delta.tool_calls for c in self.chat(tools=TOOLS, tool_choice=choice, max_tokens=100,
                                                                     stream=True) if c.choices[0].delta.tool_calls]
        self.assertEqual(streamed[0][0].function.arguments, call.function.arguments)
        messages = [*HI, reply.choices[0].message.model_dump(exclude_none=True),
                    {"role": "tool", "tool_call_id": call.id, "content": "18 degrees and sunny"}]
        answer = self.chat(messages=messages, tools=TOOLS, tool_choice="none").choices[0]
        self.assertGreater(len(answer.message.content), 10)
        rendered = self.server.post("/apply-template", {"messages": messages, "tools": TOOLS})["prompt"]
        for word in ("get_weather", "<tool_call>", "18 degrees and sunny"):
            self.assertIn(word, rendered)

    def test_schemas_of_tools_are_kept_to(self):
        """A call that must come follows its schema; a schema that can't be enforced is refused by its keyword."""
        def tool(name, schema):
            return {"type": "function", "function": {"name": name, "parameters": schema}}
        odd = tool("odd", {"type": "object", "patternProperties": {"a": {}}})
        for tools, choice in (([odd], "required"), ([odd], {"type": "function", "function": {"name": "odd"}}),
                              ([*TOOLS, odd], "required")):
            with self.subTest(choice=choice), self.assertRaises(openai.BadRequestError) as caught:
                self.chat(tools=tools, tool_choice=choice)
            self.assertEqual(caught.exception.param, "tools")
            self.assertIn("patternProperties", caught.exception.message)
        self.chat(tools=[odd], tool_choice="auto", max_tokens=1)
        few = tool("pick", {"type": "object", "properties": {"n": {"enum": [17, 19]}}, "required": ["n"],
                            "additionalProperties": False})
        for tools in ([few], [few, tool("other", few["function"]["parameters"])]):
            call = self.chat(tools=tools, tool_choice="required", max_tokens=60).choices[0].message.tool_calls[0]
            self.assertIn(json.loads(call.function.arguments), ({"n": 17}, {"n": 19}))

    def test_json_schema(self):
        schema = {"type": "object", "properties": {"name": {"type": "string", "maxLength": 12},
                                                   "age": {"type": "integer", "minimum": 0, "maximum": 99}},
                  "required": ["name", "age"], "additionalProperties": False}
        for temperature in (0, 1):
            reply = self.chat(max_tokens=100, temperature=temperature, seed=3, response_format={
                "type": "json_schema", "json_schema": {"name": "person", "schema": schema, "strict": True}})
            self.assertEqual(reply.choices[0].finish_reason, "stop")
            person = json.loads(reply.choices[0].message.content)
            self.assertEqual(set(person), {"name", "age"})
            self.assertIn(person["age"], range(100))
        response = self.client.responses.create(model="small", input="Who are you?", temperature=0, text={
            "format": {"type": "json_schema", "name": "person", "schema": schema}})
        self.assertEqual(set(json.loads(response.output_text)), {"name", "age"})
        with self.assertRaises(openai.BadRequestError) as caught:
            self.chat(response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": {
                "type": "object", "patternProperties": {"a": {}}}}})
        self.assertEqual(caught.exception.param, "response_format")
        self.assertIn("patternProperties", caught.exception.message)

    def test_json_is_indented_where_asked(self):
        schema = {"type": "object", "properties": {"on": {"type": "boolean"}, "of": {"type": "array", "items": {
            "type": "object", "properties": {"n": {"enum": [1, 22]}}, "required": ["n"], "additionalProperties": False},
            "minItems": 2, "maxItems": 3}}, "required": ["on", "of"], "additionalProperties": False}
        asks = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
        for indent in (0, 3):
            texts = [self.chat(max_tokens=200, response_format=asks, extra_body={
                "structured_outputs": {"indent": indent}}).choices[0].message.content]
            texts.append(self.client.completions.create(model="small", prompt="In JSON:", max_tokens=200, extra_body={
                "structured_outputs": {"json": schema, "indent": indent}}).choices[0].text)
            texts.append(self.client.responses.create(model="small", input="In JSON.", text={
                "format": {"type": "json_schema", "name": "x", "schema": schema}}, extra_body={
                    "structured_outputs": {"indent": indent}}).output_text)
            for text in texts:
                self.assertEqual(text, json.dumps(json.loads(text), indent=indent))
        for param, outputs in (("structured_outputs", {"indent": 2}), ("structured_outputs", "x"),
                               ("structured_outputs", {"indent": 2, "regex": "a"}),
                               ("structured_outputs.indent", {"json": schema, "indent": 17}),
                               ("structured_outputs.whitespace_pattern", {"json": schema,
                                                                         "whitespace_pattern": " *"})):
            with self.subTest(outputs), self.assertRaises(openai.BadRequestError) as caught:
                self.chat(extra_body={"structured_outputs": outputs})
            self.assertEqual(caught.exception.param, param)
            self.assertIn(f"'{param}'", caught.exception.message)

    def test_other_constraints(self):
        for outputs, want in (({"choice": ["yes", "no"]}, "^(yes|no)$"), ({"regex": "[a-c]{3}"}, "^[a-c]{3}$"),
                              ({"grammar": 'root ::= "a" [0-9] "z"'}, "^a[0-9]z$")):
            with self.subTest(outputs):
                reply = self.chat(extra_body={"structured_outputs": outputs})
                self.assertRegex(reply.choices[0].message.content, want)
                reply = self.client.completions.create(model="small", prompt="Well:", max_tokens=8,
                                                       extra_body={"structured_outputs": outputs})
                self.assertRegex(reply.choices[0].text, want)
        for more in ({"regex": "("}, {"regex": "a", "guided_choice": ["b"]}, {"grammar": "root = x"},
                     {"structured_outputs": {"choice": "x"}}):
            with self.subTest(more), self.assertRaises(openai.BadRequestError):
                self.chat(extra_body=more)

    def test_completions(self):
        reply = self.client.completions.create(model="small", prompt=["The sky is", "Water is"], max_tokens=5,
                                               temperature=0, n=2)
        self.assertEqual([c.index for c in reply.choices], [0, 1, 2, 3])
        self.assertEqual(reply.choices[0].text, reply.choices[1].text)
        self.assertEqual(reply.usage.completion_tokens, 20)
        default = self.client.completions.create(model="small", prompt="The sky is", temperature=0)
        self.assertEqual(default.usage.completion_tokens, 16)
        ids = self.server.post("/tokenize", {"prompt": "The sky is"})["tokens"]
        by_ids = self.client.completions.create(model="small", prompt=ids, temperature=0)
        self.assertEqual(by_ids.choices[0].text, default.choices[0].text)
        streamed = "".join(c.choices[0].text for c in self.client.completions.create(
            model="small", prompt="The sky is", temperature=0, stream=True))
        self.assertEqual(streamed, default.choices[0].text)

    def test_completions_logprobs_have_the_token(self):
        reply = self.client.completions.create(model="small", prompt="The sky is", max_tokens=12, temperature=3,
                                               seed=5, logprobs=1, extra_body={"return_tokens_as_token_ids": True})
        logprobs = reply.choices[0].logprobs
        self.assertEqual(max(len(top) for top in logprobs.top_logprobs), 2)    # one isn't the likeliest
        for token, logprob, top in zip(logprobs.tokens, logprobs.token_logprobs, logprobs.top_logprobs):
            self.assertEqual(top[token], logprob)
            self.assertLessEqual(len(top), 2)

    def test_completions_echo(self):
        reply = self.client.completions.create(model="small", prompt="The sky is", max_tokens=3, temperature=0,
                                               echo=True, logprobs=2)
        choice = reply.choices[0]
        self.assertTrue(choice.text.startswith("The sky is"))
        self.assertEqual("".join(choice.logprobs.tokens), choice.text)
        self.assertIsNone(choice.logprobs.token_logprobs[0])
        self.assertTrue(all(v < 0 for v in choice.logprobs.token_logprobs[1:]))
        for token, at in zip(choice.logprobs.tokens, choice.logprobs.text_offset):
            self.assertEqual(choice.text[at:at + len(token)], token)
        scored = self.client.completions.create(model="small", prompt="The sky is", max_tokens=0, echo=True, logprobs=1)
        self.assertEqual(scored.choices[0].text, "The sky is")
        self.assertEqual(scored.choices[0].logprobs.token_logprobs[1:], choice.logprobs.token_logprobs[1:3])
        self.assertEqual(scored.usage.completion_tokens, 0)

    def test_responses(self):
        first = self.client.responses.create(model="small", input="My name is Ada.", max_output_tokens=16,
                                             temperature=0)
        self.assertEqual((first.status, first.incomplete_details.reason), ("incomplete", "max_output_tokens"))
        second = self.client.responses.create(model="small", input="What is my name?", previous_response_id=first.id,
                                              instructions="Be brief.", max_output_tokens=16, temperature=0)
        same = self.chat(messages=[{"role": "system", "content": "Be brief."},
                                   {"role": "user", "content": "My name is Ada."},
                                   {"role": "assistant", "content": first.output_text},
                                   {"role": "user", "content": "What is my name?"}], max_tokens=16)
        self.assertEqual(second.output_text, same.choices[0].message.content)
        self.assertEqual(second.usage.input_tokens, same.usage.prompt_tokens)
        self.assertEqual(self.client.responses.retrieve(second.id).output_text, second.output_text)
        self.client.responses.delete(second.id)
        with self.assertRaises(openai.NotFoundError):
            self.client.responses.retrieve(second.id)
        with self.assertRaises(openai.BadRequestError) as caught:
            self.client.responses.create(model="small", input="x", previous_response_id=second.id)
        self.assertEqual(caught.exception.code, "previous_response_not_found")
        unkept = self.client.responses.create(model="small", input="Hi", store=False, max_output_tokens=2)
        with self.assertRaises(openai.NotFoundError):
            self.client.responses.retrieve(unkept.id)

    def test_responses_take_what_chat_takes(self):
        """And refuse what it refuses, by name: nothing that would change the answer is dropped."""
        for name, value in (("bad_words", ["x"]), ("n", 2), ("logit_bias", {"9999999": 1}), ("min_tokens", -1),
                            ("mirostat", 2), ("response_format", {"type": "x"})):
            with self.subTest(name), self.assertRaises(openai.BadRequestError) as caught:
                self.client.responses.create(model="small", input="Hi", max_output_tokens=4, extra_body={name: value})
            self.assertEqual(caught.exception.param, name)
        reply = self.client.responses.create(model="small", input="Hi", max_output_tokens=20, user="me",
                                             extra_body={"guided_regex": "[a-c]{3}", "no_such_field": 1, "n": 1})
        self.assertRegex(reply.output_text, "^[a-c]{3}$")

    def test_a_response_with_nul_is_kept(self):
        nul = next(i for i in range(1000) if self.server.post("/detokenize", {"tokens": [i]})["prompt"] == "\0")
        reply = self.client.responses.create(model="small", input="Hi", max_output_tokens=2, temperature=0,
                                             extra_body={"logit_bias": {str(nul): 100}})
        self.assertEqual(reply.output_text, "\0\0")
        self.assertEqual(self.client.responses.retrieve(reply.id).output_text, "\0\0")

    def test_responses_streamed(self):
        plain = self.client.responses.create(model="small", input="Say hello.", temperature=0, max_output_tokens=300)
        self.assertEqual(plain.status, "completed")
        with self.client.responses.stream(model="small", input="Say hello.", temperature=0, max_output_tokens=300) as s:
            events = list(s)
            self.assertEqual(s.get_final_response().output_text, plain.output_text)
        self.assertEqual([e.sequence_number for e in events], list(range(len(events))))
        kinds = [e.type for e in events]
        self.assertEqual(kinds[:4], ["response.created", "response.in_progress", "response.output_item.added",
                                     "response.content_part.added"])
        self.assertEqual(kinds[-4:], ["response.output_text.done", "response.content_part.done",
                                      "response.output_item.done", "response.completed"])

    def test_responses_tools(self):
        tools = [{"type": "function", **TOOLS[0]["function"]}]
        reply = self.client.responses.create(model="small", input="The weather in Paris?", tools=tools, temperature=0,
                                             tool_choice={"type": "function", "name": "get_weather"})
        call = reply.output[0]
        self.assertEqual((call.type, call.name), ("function_call", "get_weather"))
        with self.client.responses.stream(model="small", input="The weather in Paris?", tools=tools, temperature=0,
                                          tool_choice={"type": "function", "name": "get_weather"}) as s:
            self.assertEqual(s.get_final_response().output[0].arguments, call.arguments)
        after = self.client.responses.create(model="small", max_output_tokens=8, previous_response_id=reply.id, input=[
            {"type": "function_call_output", "call_id": call.call_id, "output": "18 degrees"}])
        self.assertGreater(after.usage.input_tokens, reply.usage.input_tokens - 200)

    def test_embeddings(self):
        reply = self.client.embeddings.create(model="small", input=["The sky is blue.", "Blue is the sky.", "1 + 1"])
        vectors = [item.embedding for item in reply.data]
        for v in vectors:
            self.assertAlmostEqual(sum(x * x for x in v), 1, places=4)
        near, far = (sum(a * b for a, b in zip(vectors[0], v)) for v in vectors[1:])
        self.assertGreater(near, far)
        alone = self.client.embeddings.create(model="small", input="The sky is blue.").data[0].embedding
        self.assertEqual(alone, vectors[0])
        short = self.client.embeddings.create(model="small", input="The sky is blue.", dimensions=8).data[0].embedding
        self.assertEqual(len(short), 8)
        floats = self.client.embeddings.create(model="small", input="The sky is blue.", encoding_format="float")
        self.assertEqual([round(x, 6) for x in floats.data[0].embedding], [round(x, 6) for x in alone])

    def test_errors(self):
        for error, code, param, more in (
                (openai.NotFoundError, "model_not_found", "model", {"model": "other"}),
                (openai.BadRequestError, "invalid_value", "temperature", {"temperature": -1}),
                (openai.BadRequestError, "invalid_value", "n", {"n": 0}),
                (openai.BadRequestError, "invalid_value", "max_tokens", {"max_tokens": 0}),
                (openai.BadRequestError, "context_length_exceeded", "max_tokens", {"max_tokens": 1020}),
                (openai.BadRequestError, "context_length_exceeded", "messages",
                 {"messages": [{"role": "user", "content": "word " * 2000}]}),
                (openai.BadRequestError, "invalid_value", "messages", {"messages": []}),
                (openai.BadRequestError, "invalid_value", "messages[0]", {"messages": [{"role": "user"}]}),
                (openai.BadRequestError, "invalid_value", "messages[0]",
                 {"messages": [{"role": "king", "content": ""}]}),
                (openai.BadRequestError, "invalid_value", "messages[0]", {"messages": [{"role": "user", "content": [
                    {"type": "image_url", "image_url": {"url": "data:"}}]}]}),
                (openai.BadRequestError, "invalid_value", "tool_choice", {"tool_choice": "required"}),
                (openai.BadRequestError, "invalid_value", "logit_bias", {"logit_bias": {"9999999": 1}}),
                (openai.BadRequestError, "unsupported_parameter", "bad_words", {"extra_body": {"bad_words": ["x"]}}),
        ):
            with self.subTest(param=param, more=str(more)[:60]):
                with self.assertRaises(error) as caught:
                    self.chat(**more)
                self.assertEqual((caught.exception.code, caught.exception.param), (code, param))
        self.chat(extra_body={"no_such_field": 1, "bad_words": None})

    def test_suffix_is_refused(self):
        with self.assertRaises(openai.BadRequestError) as caught:
            self.client.completions.create(model="small", prompt="x", suffix="y")
        self.assertEqual(caught.exception.param, "suffix")
