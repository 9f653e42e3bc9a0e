# SPDX-License-Identifier: Apache-2.0
"""Strict tools that the model calls when it wants to, by the openai and anthropic packages, in every format."""
import json
import pathlib
import tempfile
import unittest

from serving import REAL, TINY, Case, Server, anthropic, chat, openai, with_clients
from test_agents import with_words

PICK = {"type": "object", "properties": {"n": {"enum": [17, 19]}}, "required": ["n"], "additionalProperties": False}
CALL = '{"name": "pick", "arguments": {"n": %d}}'
# How the formats write a call; small models go on with what they see.
FORMATS = {
    "hermes": "<tool_call>\n" + CALL + "\n</tool_call>",
    "mistral": "[TOOL_CALLS][" + CALL + "]",
    "lfm2": "<|tool_call_start|>[pick(n=%d)]<|tool_call_end|>",
    "pythonic": "[pick(n=%d)]",
    "llama3_json": '{"name": "pick", "parameters": {"n": %d}}',
    "deepseek": "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>pick<｜tool▁sep｜>"
                '{"n": %d}<｜tool▁call▁end｜><｜tool▁calls▁end｜>',
}


def seen(text):
    """A conversation in which the model has written so, with other numbers."""
    messages = []
    for number in (3, 5, 4):
        messages += [{"role": "user", "content": "Pick a number."},
                     {"role": "assistant", "content": text.replace("%d", str(number))}]
    return [*messages, {"role": "user", "content": "Pick a number."}]


def tools(strict, schema=None):
    return [{"type": "function", "function": {"name": "pick", "parameters": schema or PICK, "strict": strict}}]


def ask(client, text, strict, **more):
    return client.chat.completions.create(**{"model": "smollm2", "messages": seen(text), "tools": tools(strict),
                                             "temperature": 0, "max_tokens": 120, **more})


@with_clients
class Formats(unittest.TestCase):
    def test_arguments_follow_the_schema(self):
        if not REAL.exists():
            self.skipTest(f"{REAL} is missing")
        for name, text in FORMATS.items():
            server = Server(REAL, "-c", "2048", "--log-level", "off", "--tool-call-parser", name)
            try:
                client = server.openai()
                with self.subTest(name):
                    free = ask(client, text, False).choices[0].message.tool_calls
                    self.assertNotIn(json.loads(free[0].function.arguments)["n"], (17, 19))
                    choice = ask(client, text, True, parallel_tool_calls=False).choices[0]
                    self.assertEqual(choice.finish_reason, "tool_calls")
                    self.assertEqual(len(choice.message.tool_calls), 1)
                    held = choice.message.tool_calls[0].function
                    self.assertEqual(held.name, "pick")
                    self.assertIn(json.loads(held.arguments), ({"n": 17}, {"n": 19}))
                    self.check_forced(client, text)
                    streamed = [call for chunk in ask(client, text, True, parallel_tool_calls=False, stream=True)
                                for call in chunk.choices[0].delta.tool_calls or []]
                    self.assertEqual([call.function.arguments for call in streamed], [held.arguments])
            finally:
                server.stop()


    def check_forced(self, client, text):
        """A call that must come follows its schema, be its tool strict or not, named or one of several."""
        other = {"type": "function", "function": {"name": "pick2", "parameters": PICK}}
        for choice, more in (({"type": "function", "function": {"name": "pick"}}, []), ("required", []),
                             ("required", [other])):
            choices = ask(client, text, None, tools=[*tools(None), *more], tool_choice=choice,
                          parallel_tool_calls=False).choices
            self.assertEqual(choices[0].finish_reason, "tool_calls")
            self.assertEqual(len(choices[0].message.tool_calls), 1)
            self.assertIn(json.loads(choices[0].message.tool_calls[0].function.arguments), ({"n": 17}, {"n": 19}))


@with_clients
class Strict(Case):
    model, options = REAL, ("-c", "2048", "--log-level", "off")

    def setUp(self):
        self.client = self.server.openai()

    def test_text_before_and_without_calls_is_free(self):
        text = "Let me see. " + FORMATS["hermes"]
        message = ask(self.client, text, True).choices[0].message
        self.assertEqual(message.content, "Let me see.")
        self.assertIn(json.loads(message.tool_calls[0].function.arguments)["n"], (17, 19))
        hi = [{"role": "user", "content": "Why is the sky blue?"}]
        free, held = (ask(self.client, "", strict, messages=hi, max_tokens=40, logprobs=True).choices[0]
                      for strict in (False, True))
        self.assertEqual(held, free)

    def test_control_tokens_are_a_part_of_free_text(self):
        start = self.server.post("/tokenize", {"prompt": "<|im_start|>", "add_special_tokens": False})["tokens"]
        self.assertEqual(len(start), 1)
        reply = ask(self.client, FORMATS["hermes"], True, max_tokens=3, logit_bias={str(start[0]): 100},
                    extra_body={"return_token_ids": True})
        self.assertEqual(reply.choices[0].token_ids, start * 3)

    def test_parallel_calls(self):
        text = FORMATS["hermes"] + "\n" + FORMATS["hermes"]
        for strict in (True, False):
            both = ask(self.client, text, strict).choices[0].message.tool_calls
            self.assertGreater(len(both), 1)
            reply = ask(self.client, text, strict, parallel_tool_calls=False)
            self.assertEqual((len(reply.choices[0].message.tool_calls), reply.choices[0].finish_reason),
                             (1, "tool_calls"))
            self.assertLess(reply.usage.completion_tokens, 40)  # it ends there

    def test_what_cannot_be_enforced_is_refused(self):
        for schema, word in (({"type": "object", "patternProperties": {"a": {}}}, "patternProperties"),
                             ({"type": "object", "properties": {"n": {"$ref": "#/nowhere"}}}, "nowhere")):
            with self.assertRaises(openai.BadRequestError) as caught:
                ask(self.client, FORMATS["hermes"], None, tools=tools(True, schema))
            self.assertEqual(caught.exception.param, "tools")
            self.assertIn(word, caught.exception.message)
            ask(self.client, FORMATS["hermes"], None, tools=tools(False, schema), max_tokens=1)
        with self.assertRaises(openai.BadRequestError) as caught:
            ask(self.client, FORMATS["hermes"], "yes")
        self.assertEqual(caught.exception.param, "strict")

    def test_responses(self):
        reply = self.client.responses.create(
            model="smollm2", input=seen(FORMATS["hermes"]), temperature=0, max_output_tokens=120,
            parallel_tool_calls=False,
            tools=[{"type": "function", "name": "pick", "parameters": PICK, "strict": True}])
        self.assertEqual([item.type for item in reply.output], ["function_call"])
        self.assertIn(json.loads(reply.output[0].arguments)["n"], (17, 19))
        self.assertTrue(reply.tools[0].strict)

    def test_anthropic(self):
        client = self.server.anthropic()
        reply = client.messages.create(
            model="smollm2", messages=seen(FORMATS["hermes"]), max_tokens=120, extra_body={"temperature": 0},
            tool_choice={"type": "auto", "disable_parallel_tool_use": True},
            tools=[{"name": "pick", "input_schema": PICK, "strict": True}])
        self.assertEqual((reply.stop_reason, [block.type for block in reply.content]), ("tool_use", ["tool_use"]))
        self.assertIn(reply.content[0].input["n"], (17, 19))
        with self.assertRaises(anthropic.BadRequestError):
            client.messages.create(model="smollm2", messages=seen(""), max_tokens=1, tools=[
                {"name": "pick", "input_schema": {"type": "object", "not": {}}, "strict": True}])


class WithoutTemplate(unittest.TestCase):
    """Models that have no chat template: messages are lines, and calls are written as the Hermes models do."""

    def serve(self, *options, words=True):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        path = pathlib.Path(folder.name, "llama.gguf")
        if words:
            with_words("llama", path, template=None)
        server = Server(path if words else TINY, "--log-level", "off", "-c", "2048", *options)
        self.addCleanup(server.stop)
        return server

    def test_a_call_that_must_come(self):
        server = self.serve()
        named = {"type": "function", "function": {"name": "pick"}}
        other = {"type": "function", "function": {"name": "pick2", "parameters": PICK}}
        for choice, more in (("required", []), (named, []), (named, [other]), ("required", [other])):
            with self.subTest(choice=choice, more=more):
                body = chat("Pick a number.", max_tokens=100, tools=[*tools(False), *more], tool_choice=choice,
                            parallel_tool_calls=False)
                reply = server.post("/v1/chat/completions", body)["choices"][0]
                self.assertEqual(reply["finish_reason"], "tool_calls")
                self.assertEqual(len(reply["message"]["tool_calls"]), 1)
                called = reply["message"]["tool_calls"][0]["function"]
                self.assertIn(json.loads(called["arguments"]), ({"n": 17}, {"n": 19}))

    def test_it_is_said(self):
        server = self.serve()
        self.assertIn("the model has no chat template", server.said())
        body = {"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi."}]}
        for more, text in (({}, "Be brief.\nHi.\n"), ({"continue_final_message": True}, "Be brief.\nHi.")):
            reply = server.post("/apply-template", {**body, **more})
            self.assertEqual(reply["prompt"], text)
            self.assertEqual(server.post("/detokenize", {"tokens": reply["token_ids"]})["content"], text)
        forced = server.post("/apply-template", {**body, "tools": tools(False), "tool_choice": "required"})
        self.assertTrue(forced["prompt"].endswith('<tool_call>\n{"name": "pick", "arguments": '), forced["prompt"])
        self.assertEqual(self.serve(words=False).post("/apply-template", {"messages": [
            {"role": "user", "content": "1 2"}, {"role": "user", "content": "3"}]})["prompt"], "1 2\n3\n")

    def test_where_no_call_can_come_it_is_refused(self):
        for words, options in ((True, ("--tool-call-parser", "none")), (False, ())):
            server = self.serve(*options, words=words)
            body = chat("1 2 3", tools=tools(False), tool_choice="required")
            error = server.post("/v1/chat/completions", body, 400)["error"]
            self.assertEqual((error["param"], error["code"]), ("tool_choice", "unsupported_parameter"))
