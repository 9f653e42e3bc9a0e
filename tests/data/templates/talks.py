# SPDX-License-Identifier: Apache-2.0
"""The conversations that make.py renders with whole templates."""

# Models with a template of their own: MODEL.gguf in the folder given to make.py.
MODELS = ("smollm2", "qwen")

WEATHER = {"type": "function", "function": {
    "name": "get_weather", "description": "The weather at a place, <now> & \"here\".",
    "parameters": {"type": "object", "properties": {
        "place": {"type": "string", "description": "Größe egal"},
        "unit": {"type": "string", "enum": ["C", "F"]},
        "days": {"type": "array", "items": {"type": "integer"}}}, "required": ["place"]}}}
TIME = {"type": "function", "function": {"name": "get_time", "description": "The time.",
                                         "parameters": {"type": "object", "properties": {}}}}


def said(*pairs):
    return [{"role": role, "content": content} for role, content in pairs]


def called(name, arguments, content=""):
    return {"role": "assistant", "content": content, "tool_calls": [
        {"type": "function", "function": {"name": name, "arguments": arguments}}]}


TALKS = [
    {"messages": said(("user", "Hello")), "add_generation_prompt": True},
    {"messages": said(("user", "Hello")), "add_generation_prompt": False},
    {"messages": said(("system", "Be brief."), ("user", "Hi\nthere ")), "add_generation_prompt": True},
    {"messages": said(("system", "Be brief."), ("user", "1+1?"), ("assistant", " 2 "), ("user", "2+2?"),
                      ("assistant", "4")), "add_generation_prompt": False},
    {"messages": said(("user", "Grüße 猫 🐈"), ("assistant", "Здравствуй — “quoted” <b>&amp;</b>"),
                      ("user", "{{ not a tag }} {% nor this %}")), "add_generation_prompt": True},
    {"messages": said(("user", ""), ("assistant", ""), ("user", "still there?")),
     "add_generation_prompt": True},
    {"messages": said(("user", "Weather in Oslo?")), "tools": [WEATHER, TIME],
     "add_generation_prompt": True},
    {"messages": said(("system", "Use tools."), ("user", "Weather in Oslo?"))
     + [called("get_weather", {"place": "Oslo", "days": [1, 2], "x": 1.5, "y": None, "z": True}),
        {"role": "tool", "name": "get_weather", "content": "{\"temp\": -3}"},
        {"role": "tool", "name": "get_time", "content": "12:00"}]
     + said(("assistant", "It is cold."), ("user", "Thanks")),
     "tools": [WEATHER], "add_generation_prompt": True},
    {"messages": said(("user", "Think."), ("assistant", "<think>\nlong\nthought\n</think>\n\nAnswer 1"),
                      ("user", "Again."), ("assistant", "<think>more</think>Answer 2")),
     "add_generation_prompt": False},
    {"messages": said(("user", "Think."), ("assistant", "Plain"), ("user", "Now?")),
     "add_generation_prompt": True, "enable_thinking": False},
    {"messages": said(("user", "a"), ("user", "b")), "add_generation_prompt": True},
    {"messages": [{"role": "user", "content": [{"type": "text", "text": " parts "},
                                               {"type": "image"}, {"type": "text", "text": "two"}]}],
     "add_generation_prompt": True},
    {"messages": said(("system", "Only a system.")), "add_generation_prompt": True},
    {"messages": [], "add_generation_prompt": False},
    {"messages": [{"role": "user", "content": "No content next"},
                  {"role": "assistant", "content": None, "tool_calls": [
                      {"id": "abc123def", "type": "function",
                       "function": {"name": "get_time", "arguments": {}}}]},
                  {"role": "tool", "tool_call_id": "abc123def", "content": "now"}],
     "tools": [TIME], "add_generation_prompt": True},
]
