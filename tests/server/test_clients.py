# SPDX-License-Identifier: Apache-2.0
"""What the methods of the openai and anthropic packages do beyond a plain request: helpers that parse, lists, what is
kept, and that all that isn't there is refused as the packages' own exceptions, by the name of what was asked for."""
import base64
import datetime
import json
import struct
import typing

from serving import REAL, Case, anthropic, openai, with_clients

try:
    import pydantic
except ImportError:
    pydantic = None

HI = [{"role": "user", "content": "Why is the sky blue?"}]

if pydantic:
    class City(pydantic.BaseModel):
        name: str = pydantic.Field(max_length=8)
        warm: bool

    class Town(pydantic.BaseModel):
        name: typing.Literal["Bath", "York"]  # the anthropic package leaves maxLength out
        warm: bool

    class GetWeather(pydantic.BaseModel):
        """The weather of a city."""
        city: str = pydantic.Field(max_length=8)


@with_clients
class OpenAIMethods(Case):
    model, options = REAL, ("-c", "1024", "--log-level", "off")

    def setUp(self):
        self.client = self.server.openai()
        self.chat = {"model": "smollm2", "messages": HI, "max_tokens": 60, "temperature": 0}
        self.ask = {"model": "smollm2", "input": "Name a city.", "max_output_tokens": 60, "temperature": 0}

    def refused(self, error, param, call, *args, **kwargs):
        with self.subTest(param=param, more=str(kwargs)[:60]), self.assertRaises(error) as caught:
            call(*args, **kwargs)
        if param is not None:
            self.assertEqual(caught.exception.param, param)
        self.assertGreater(len(caught.exception.message), 20)

    def test_chat_parse(self):
        parse, tool = self.client.chat.completions.parse, openai.pydantic_function_tool(GetWeather)
        self.assertIsInstance(parse(**self.chat, response_format=City).choices[0].message.parsed, City)
        call = parse(**self.chat, tools=[tool], tool_choice="required").choices[0].message.tool_calls[0]
        self.assertIsInstance(call.function.parsed_arguments, GetWeather)
        shown = [*HI, {"role": "assistant", "content": '<tool_call>\n{"name": "GetWeather", "arguments": '
                       '{"city": "A far too long name"}}\n</tool_call>'}] * 3
        both = {**self.chat, "tools": [tool], "response_format": City, "parallel_tool_calls": False}
        self.assertIsInstance(parse(**both, tool_choice="none").choices[0].message.parsed, City)
        call = parse(**{**both, "messages": [*shown, *HI]}).choices[0].message.tool_calls[0]
        self.assertIsInstance(call.function.parsed_arguments, GetWeather)

    def test_chat_stream(self):
        tool = openai.pydantic_function_tool(GetWeather)
        for more, wanted, kind in (({"response_format": City}, City, "content.done"),
                                   ({"tools": [tool], "tool_choice": "required"}, GetWeather,
                                    "tool_calls.function.arguments.done")):
            with self.client.chat.completions.stream(**self.chat, **more) as stream:
                kinds = [event.type for event in stream]
                message = stream.get_final_completion().choices[0].message
            self.assertIn(kind, kinds)
            parsed = message.parsed if wanted is City else message.tool_calls[0].function.parsed_arguments
            self.assertIsInstance(parsed, wanted)
        with self.client.chat.completions.stream(**{**self.chat, "max_tokens": 300}, logprobs=True) as stream:
            kinds = [event.type for event in stream]
            choice = stream.get_final_completion().choices[0]
        self.assertIn("logprobs.content.done", kinds)
        self.assertTrue("".join(e.token for e in choice.logprobs.content).startswith(choice.message.content))

    def test_chat_completions_are_not_kept(self):
        kept = self.client.chat.completions
        self.assertTrue(kept.create(**{**self.chat, "max_tokens": 1}, store=True, metadata={"a": "b"}).id)
        for call in (lambda: list(kept.list()), lambda: kept.retrieve("x"), lambda: kept.update("x", metadata={}),
                     lambda: kept.delete("x"), lambda: list(kept.messages.list("x"))):
            self.refused(openai.NotFoundError, None, call)

    def test_chat_fields(self):
        """Those that ask for what isn't done here are refused; others change nothing, or what they say."""
        create, short = self.client.chat.completions.create, {**self.chat, "max_tokens": 3}
        for name, value in (("audio", {"voice": "x", "format": "wav"}), ("functions", [{"name": "f"}]),
                            ("function_call", "auto"), ("modalities", ["text", "audio"]), ("modalities", "text"),
                            ("web_search_options", {"search_context_size": "low"}), ("moderation", {"model": "x"})):
            self.refused(openai.BadRequestError, name, create, **short, **{name: value})
        plain = create(**short).choices[0].message.content
        for name, value in (("modalities", ["text"]), ("prediction", {"type": "content", "content": "x"}),
                            ("reasoning_effort", "low"), ("safety_identifier", "x"), ("service_tier", "auto"),
                            ("user", "x"), ("prompt_cache_key", "x"), ("metadata", {"a": "b"})):
            with self.subTest(name):
                self.assertEqual(create(**short, **{name: value}).choices[0].message.content, plain)

    def test_completions_fields(self):
        create, ask = self.client.completions.create, {"model": "smollm2", "prompt": "The sky is", "temperature": 0,
                                                       "max_tokens": 5}
        for name, value in (("suffix", "x"), ("stream_options", {"include_usage": True}),
                            ("logprobs", 21), ("prompt", [[]])):
            self.refused(openai.BadRequestError, name, create, **{**ask, name: value})
        plain = create(**ask).choices[0].text
        self.assertEqual(create(**ask, best_of=1, user="x").choices[0].text, plain)
        chunks = list(create(**ask, stream=True, stream_options={"include_usage": True}))
        self.assertEqual((chunks[-1].choices, chunks[-1].usage.completion_tokens), ([], 5))

    def test_responses_parse(self):
        tool = openai.pydantic_function_tool(GetWeather)
        tool = {"type": "function", **tool["function"]}
        self.assertIsInstance(self.client.responses.parse(**self.ask, text_format=City).output_parsed, City)
        call = self.client.responses.parse(**self.ask, tools=[tool], tool_choice="required").output[0]
        self.assertEqual((call.type, call.name), ("function_call", "GetWeather"))
        GetWeather(**json.loads(call.arguments))
        with self.client.responses.stream(**self.ask, text_format=City) as stream:
            self.assertIn("response.output_text.done", [event.type for event in stream])
            self.assertIsInstance(stream.get_final_response().output_parsed, City)

    def test_responses_logprobs(self):
        """An entry a token, streamed or not, as chat completions have them; also of text that waits for a stop string
        or the rest of a character."""
        more = {"include": ["message.output_text.logprobs"], "top_logprobs": 2,
                "extra_body": {"stop": ["zzz", " the e"]}}
        messages = [{"role": "user", "content": "Say: naïve café 日本, a b c."}]
        for length in (40, 300):
            want = [e.model_dump() for e in self.client.chat.completions.create(
                **{**self.chat, "messages": messages, "max_tokens": length}, logprobs=True, top_logprobs=2,
                stop=["zzz", " the e"]).choices[0].logprobs.content]
            ask = {**self.ask, "input": messages[0]["content"], "max_output_tokens": length}
            plain = self.client.responses.create(**ask, **more).output[-1].content[0].logprobs
            events = list(self.client.responses.create(**ask, **more, stream=True))
            deltas = [e for event in events if event.type == "response.output_text.delta" for e in event.logprobs]
            done = next(event for event in events if event.type == "response.output_text.done").logprobs
            final = events[-1].response.output[-1].content[0].logprobs
            for got in (plain, deltas, done, final):
                self.assertEqual([(e.token, e.logprob) for e in got], [(e["token"], e["logprob"]) for e in want])
                self.assertEqual([[(t.token, t.logprob) for t in e.top_logprobs] for e in got],
                                 [[(t["token"], t["logprob"]) for t in e["top_logprobs"]] for e in want])

    def test_input_items(self):
        kept = self.client.responses
        first = kept.create(**{**self.ask, "max_output_tokens": 2})
        items = list(kept.input_items.list(first.id))
        self.assertEqual([(i.type, i.role, i.content[0].type, i.content[0].text, i.status) for i in items],
                         [("message", "user", "input_text", "Name a city.", "completed")])
        said = [{"role": "user", "content": "one"}, {"role": "assistant", "content": "two"},
                {"type": "function_call", "call_id": "call_1", "name": "f", "arguments": "{}"},
                {"type": "function_call_output", "call_id": "call_1", "output": "three"},
                {"role": "user", "content": [{"type": "input_text", "text": "four"}]}]
        second = kept.create(**{**self.ask, "input": said, "max_output_tokens": 2, "previous_response_id": first.id})
        newest = list(kept.input_items.list(second.id, limit=2))  # the package turns the pages
        self.assertEqual([item.type for item in newest], ["message", "function_call_output", "function_call", "message",
                                                          "message"])
        self.assertEqual(newest[-2].content[0].type, "output_text")
        self.assertEqual(len({item.id for item in newest}), 5)
        rising = kept.input_items.list(second.id, order="asc", limit=4)
        self.assertEqual((len(rising.data), rising.has_more, rising.last_id), (4, True, rising.data[-1].id))
        after = kept.input_items.list(second.id, order="asc", after=rising.data[0].id).data
        self.assertEqual([item.id for item in after], [item.id for item in newest[::-1]][1:])
        for more in ({"limit": 0}, {"limit": 101}, {"after": "msg_none"}, {"order": "up"}):
            self.refused(openai.BadRequestError, next(iter(more)), kept.input_items.list, second.id, **more)
        kept.delete(second.id)
        self.refused(openai.NotFoundError, "response_id", kept.input_items.list, second.id)

    def test_what_responses_are_not(self):
        kept = self.client.responses
        reply = kept.create(**{**self.ask, "max_output_tokens": 2})
        self.refused(openai.BadRequestError, "response_id", kept.cancel, reply.id)
        self.refused(openai.NotFoundError, "response_id", kept.cancel, "resp_none")
        self.refused(openai.NotFoundError, None, kept.compact, model="smollm2", input="x")
        self.refused(openai.BadRequestError, "stream", lambda: list(kept.retrieve(reply.id, stream=True)))
        self.assertEqual(kept.retrieve(reply.id, include=["message.output_text.logprobs"]).id, reply.id)
        self.assertGreater(kept.input_tokens.count(model="smollm2", input="x").input_tokens, 1)
        self.assertIsNone(kept.delete(reply.id))
        self.refused(openai.NotFoundError, "response_id", kept.delete, reply.id)
        for name, value in (("background", True), ("conversation", "x"), ("prompt", {"id": "x"}),
                            ("moderation", {"model": "x"}), ("context_management", [{"type": "compaction"}]),
                            ("tools", [{"type": "web_search"}]), ("tools", [{"type": "custom", "name": "x"}]),
                            ("input", [{"type": "item_reference", "id": "x"}]), ("input", 5)):
            self.refused(openai.BadRequestError, name, kept.create, **{**self.ask, name: value})
        for name, value in (("background", False), ("truncation", "disabled"), ("service_tier", "auto"),
                            ("max_tool_calls", 3), ("safety_identifier", "x"), ("reasoning", {"effort": "low"})):
            with self.subTest(name):
                self.assertTrue(kept.create(**{**self.ask, "max_output_tokens": 1}, **{name: value}).id)

    def test_embeddings(self):
        create = self.client.embeddings.create
        text = create(model="smollm2", input="x", encoding_format="base64").data[0].embedding
        data = base64.b64decode(text)
        numbers = create(model="smollm2", input="x", encoding_format="float").data[0].embedding
        for a, b in zip(struct.unpack(f"<{len(data) // 4}f", data), numbers, strict=True):
            self.assertAlmostEqual(a, b, places=6)
        short = create(model="smollm2", input="x", dimensions=8).data[0].embedding
        scale = sum(v * v for v in numbers[:8]) ** 0.5
        for a, b in zip(short, numbers[:8], strict=True):
            self.assertAlmostEqual(a, b / scale, places=5)
        reply = create(model="smollm2", input=[[1, 2], [3]], user="x")
        self.assertEqual(([item.index for item in reply.data], reply.usage.prompt_tokens), ([0, 1], 3))
        self.assertEqual(len(create(model="smollm2", input=[1, 2]).data), 1)
        for name, value in (("input", []), ("input", ""), ("input", [[]]), ("input", [10 ** 8]), ("dimensions", 0),
                            ("dimensions", 9999), ("encoding_format", "hex")):
            self.refused(openai.BadRequestError, name, create, **{"model": "smollm2", "input": "x", name: value})
        self.refused(openai.NotFoundError, "model", create, model="other", input="x")

    def test_models(self):
        models = self.client.models
        self.assertEqual(models.retrieve("smollm2").object, "model")
        self.refused(openai.NotFoundError, "model", models.retrieve, "other")
        self.refused(openai.NotFoundError, None, models.delete, "smollm2")


@with_clients
class AnthropicMethods(Case):
    model, options = REAL, ("-c", "1024", "--log-level", "off", "--served-model-name", "one", "--served-model-name",
                            "two")

    def setUp(self):
        self.client = self.server.anthropic()
        self.ask = {"model": "one", "max_tokens": 60, "messages": HI, "extra_body": {"temperature": 0}}

    def test_models(self):
        every = list(self.client.models.list())
        self.assertEqual([m.id for m in every[:3]], ["one", "two", "smollm2"])
        for model in every:
            self.assertEqual((model.type, model.display_name, model.lifecycle), ("model", model.id, "active"))
            self.assertEqual((model.max_input_tokens, model.max_tokens), (1024, 1024))
            self.assertIsInstance(model.created_at, datetime.datetime)
            self.assertEqual(self.client.models.retrieve(model.id), model)
        self.assertEqual([m.id for m in self.client.models.list(limit=1)], [m.id for m in every])
        page = self.client.models.list(limit=2)
        self.assertEqual((page.has_more, page.first_id, page.last_id), (True, "one", "two"))
        self.assertEqual([m.id for m in self.client.models.list(after_id="one", limit=1).data], ["two"])
        self.assertEqual([m.id for m in self.client.models.list(before_id="smollm2", limit=1).data], ["two"])
        for more in ({"limit": 0}, {"limit": 1001}, {"after_id": "none"}):
            with self.subTest(more), self.assertRaises(anthropic.BadRequestError):
                self.client.models.list(**more)
        with self.assertRaises(anthropic.NotFoundError) as caught:
            self.client.models.retrieve("none")
        self.assertEqual(caught.exception.body["error"]["type"], "not_found_error")
        self.assertNotIn("display_name", self.server.get("/v1/models")["data"][0])

    def test_parse(self):
        reply = self.client.messages.parse(**self.ask, output_format=Town)
        self.assertIsInstance(reply.parsed_output, Town)
        with self.client.messages.stream(**self.ask, output_format=Town) as stream:
            self.assertIn("message_stop", [event.type for event in stream])
            self.assertIsInstance(stream.get_final_message().parsed_output, Town)

    def test_count_tokens(self):
        tools = [{"name": "f", "input_schema": {"type": "object"}}]
        plain, more = (self.client.messages.count_tokens(model="one", messages=HI, **fields).input_tokens
                       for fields in ({}, {"tools": tools, "system": "Be brief."}))
        usage = self.client.messages.create(**{**self.ask, "max_tokens": 1}, tools=tools, system="Be brief.").usage
        self.assertLess(plain, more)
        self.assertEqual(more, usage.input_tokens + usage.cache_read_input_tokens)

    def test_what_is_not_there(self):
        for call in (lambda: list(self.client.messages.batches.list()),
                     lambda: self.client.messages.batches.create(requests=[]), lambda: list(self.client.files.list())):
            with self.assertRaises(anthropic.NotFoundError) as caught:
                call()
            self.assertEqual(caught.exception.body["error"]["type"], "not_found_error")
        for name, value in (("container", "x"), ("tool_choice", {"type": "any"}),
                            ("tools", [{"type": "web_search_20250305", "name": "web_search"}])):
            with self.subTest(name), self.assertRaises(anthropic.BadRequestError) as caught:
                self.client.messages.create(**self.ask, **{name: value})
            self.assertIn(f"'{name}'", caught.exception.body["error"]["message"])
        for name, value in (("service_tier", "auto"), ("inference_geo", "us"), ("output_config", {"effort": "low"}),
                            ("metadata", {"user_id": "x"}), ("thinking", {"type": "disabled"})):
            with self.subTest(name):
                self.assertTrue(self.client.messages.create(**{**self.ask, "max_tokens": 1}, **{name: value}).id)

    def test_tool_runner(self):
        """It asks for a thread first, which is refused in the words that make it send the whole conversation."""
        asked = []

        def weather(city: str) -> str:
            """The weather of a city."""
            asked.append(city)
            return "18 degrees"
        runner = self.client.beta.messages.tool_runner(
            **self.ask, tools=[anthropic.beta_tool(weather)], tool_choice={"type": "tool", "name": "weather"},
            max_iterations=2)
        replies = list(runner)
        self.assertEqual([reply.stop_reason for reply in replies], ["tool_use"] * 2)
        self.assertGreaterEqual(len(asked), 1)
        read = [reply.usage.input_tokens + reply.usage.cache_read_input_tokens for reply in replies]
        self.assertGreater(read[1], read[0] + 20)
        with self.assertRaises(anthropic.BadRequestError) as caught:
            self.client.beta.messages.create(**self.ask, thread={"type": "create"})
        self.assertEqual(caught.exception.body["error"]["details"]["error_code"], "thread_unsupported_request")
