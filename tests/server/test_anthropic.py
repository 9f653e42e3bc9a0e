# SPDX-License-Identifier: Apache-2.0
"""The anthropic package, unchanged, against a small model of real text."""
import json

from serving import REAL, Case, anthropic, with_clients

HI = [{"role": "user", "content": "Why is the sky blue?"}]
TOOLS = [{"name": "get_weather", "description": "The weather of a city",
          "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}]


@with_clients
class Anthropic(Case):
    model, options = REAL, ("-c", "1024", "--log-level", "off")

    def setUp(self):
        self.client = self.server.anthropic()

    def say(self, greedy=True, **more):
        body = {"extra_body": {"temperature": 0}} if greedy else {}
        return self.client.messages.create(**{"model": "smollm2", "max_tokens": 12, "messages": HI, **body, **more})

    def test_plain(self):
        reply = self.say(system="Be brief.")
        self.assertEqual((reply.role, reply.stop_reason, reply.content[0].type), ("assistant", "max_tokens", "text"))
        self.assertEqual(reply.usage.output_tokens, 12)
        same = self.server.post("/v1/chat/completions", {"messages": [{"role": "system", "content": "Be brief."}, *HI],
                                                         "max_tokens": 12, "temperature": 0})
        self.assertEqual(reply.content[0].text, same["choices"][0]["message"]["content"])

    def test_streamed(self):
        plain = self.say()
        with self.client.messages.stream(model="smollm2", max_tokens=12, messages=HI,
                                         extra_body={"temperature": 0}) as stream:
            self.assertEqual("".join(stream.text_stream), plain.content[0].text)
            final = stream.get_final_message()
        self.assertEqual(final.stop_reason, "max_tokens")
        self.assertEqual(final.usage.output_tokens, 12)
        kinds = [e.type for e in self.say(stream=True)]
        self.assertEqual(kinds[:2], ["message_start", "content_block_start"])
        self.assertEqual(kinds[-3:], ["content_block_stop", "message_delta", "message_stop"])

    def test_stop_sequence(self):
        whole = self.say(max_tokens=30).content[0].text
        word = whole.split()[5]
        reply = self.say(max_tokens=30, stop_sequences=["not there", word])
        self.assertEqual((reply.stop_reason, reply.stop_sequence), ("stop_sequence", word))
        self.assertEqual(reply.content[0].text, whole[:whole.index(word)])

    def test_prefill(self):
        reply = self.say(messages=[*HI, {"role": "assistant", "content": "Because"}])
        self.assertNotIn("Because", reply.content[0].text[:8])

    def test_tools_round_trip(self):
        reply = self.say(tools=TOOLS, tool_choice={"type": "tool", "name": "get_weather"}, max_tokens=100)
        self.assertEqual(reply.stop_reason, "tool_use")
        call = reply.content[-1]
        self.assertEqual((call.type, call.name), ("tool_use", "get_weather"))
        with self.client.messages.stream(model="smollm2", max_tokens=100, messages=HI, tools=TOOLS,
                                         tool_choice={"type": "tool", "name": "get_weather"},
                                         extra_body={"temperature": 0}) as stream:
            self.assertEqual(stream.get_final_message().content[-1].input, call.input)
        after = self.say(tools=TOOLS, messages=[
            *HI, {"role": "assistant", "content": [b.model_dump(exclude_none=True) for b in reply.content]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": call.id,
                                          "content": [{"type": "text", "text": "18 degrees"}]},
                                         {"type": "text", "text": "So?"}]}])
        self.assertTrue(after.content)

    def test_json_schema(self):
        reply = self.say(max_tokens=60, output_config={"format": {"type": "json_schema", "schema": {
            "type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"],
            "additionalProperties": False}}})
        self.assertIn(json.loads(reply.content[0].text), ({"ok": True}, {"ok": False}))

    def test_what_would_change_the_answer(self):
        """Is taken as chat completions take it, or refused by name."""
        for name, value in (("bad_words", ["x"]), ("n", 2), ("mcp_servers", [{"url": "x"}]), ("min_tokens", -1)):
            with self.subTest(name), self.assertRaises(anthropic.BadRequestError) as caught:
                self.say(greedy=False, extra_body={name: value})
            self.assertIn(f"'{name}'", caught.exception.body["error"]["message"])
        reply = self.say(greedy=False, extra_body={"guided_regex": "[a-c]{3}", "no_such_field": 1, "metadata": {}})
        self.assertRegex(reply.content[0].text, "^[a-c]{3}$")

    def test_count_tokens(self):
        counted = self.client.messages.count_tokens(model="smollm2", messages=HI, system="Be brief.").input_tokens
        usage = self.say(system="Be brief.").usage
        self.assertEqual(counted, usage.input_tokens + usage.cache_read_input_tokens)

    def test_errors(self):
        for error, kind, more in (
                (anthropic.NotFoundError, "not_found_error", {"model": "other"}),
                (anthropic.BadRequestError, "invalid_request_error", {"max_tokens": 1020}),
                (anthropic.BadRequestError, "invalid_request_error", {"messages": []}),
                (anthropic.BadRequestError, "invalid_request_error", {"messages": [{"role": "king", "content": "x"}]}),
                (anthropic.BadRequestError, "invalid_request_error", {"messages": [{"role": "user", "content": [
                    {"type": "image", "source": {"type": "url", "url": "x"}}]}]})):
            with self.subTest(more=str(more)[:60]):
                with self.assertRaises(error) as caught:
                    self.say(**more)
                self.assertEqual(caught.exception.body["error"]["type"], kind)
