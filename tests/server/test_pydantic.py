# SPDX-License-Identifier: Apache-2.0
"""Schemas as pydantic writes them: taken, and then answers are valid models; or refused by what can't be had."""
import datetime
import enum
import typing
import uuid

from serving import REAL, Case, openai, with_clients

try:
    import pydantic
except ImportError:  # with_clients skips all then
    pydantic = None


def models():
    """Types of a field that are taken, and those that are refused with the word that their refusal has."""
    class Color(str, enum.Enum):
        RED = "red"
        BLUE = "blue"

    class Level(enum.IntEnum):
        ONE = 1
        TWO = 2

    class Place(pydantic.BaseModel):
        street: str
        number: typing.Annotated[int, pydantic.Field(ge=1, le=99, description="of the house", examples=[7])] = 3

    class Node(pydantic.BaseModel):
        value: int
        children: list["Node"] = []

    class Cat(pydantic.BaseModel):
        kind: typing.Literal["cat"]
        lives: int

    class Dog(pydantic.BaseModel):
        kind: typing.Literal["dog"]
        name: str

    class Closed(pydantic.BaseModel):
        model_config = pydantic.ConfigDict(extra="forbid")
        a: typing.Annotated[bool, pydantic.Field(deprecated=True)]
    tagged = typing.Annotated[typing.Union[Cat, Dog], pydantic.Field(discriminator="kind")]
    taken = {
        "none": None, "bool": bool, "int": int, "float": float, "str": str, "any": typing.Any,
        "optional": typing.Optional[int], "optional model": typing.Optional[Place],
        "union": typing.Union[int, str, None],
        "literal": typing.Literal["a", "b", 3], "enum": Color, "int enum": Level, "nested": Place, "recursive": Node,
        "list": list[int], "list of models": list[Place], "list of lists": list[list[str]], "tuple": tuple[int, str],
        "dict": dict[str, int], "dict of lists": dict[str, list[Place]], "datetime": datetime.datetime,
        "date": datetime.date, "uuid": uuid.UUID,
        "constr": pydantic.constr(min_length=2, max_length=9, pattern="^[a-z]+$"),
        "conint": pydantic.conint(gt=0, lt=10), "conlist": pydantic.conlist(int, min_length=1, max_length=3),
        "closed": Closed, "tagged union": tagged, "union of models": typing.Union[Cat, Dog],
        "secret in a list": list[typing.Optional[uuid.UUID]]}
    refused = {
        "time": (datetime.time, "'time'"), "timedelta": (datetime.timedelta, "'duration'"),
        "uuid4": (pydantic.UUID4, "'uuid4'"), "url": (pydantic.AnyUrl, "'uri'"), "bytes": (bytes, "'binary'"),
        "confloat": (pydantic.confloat(ge=0, le=1), "'minimum'"), "set": (set[int], "'uniqueItems'"),
        "multiple": (pydantic.conint(multiple_of=3), "'multipleOf'"), "keys": (dict[Color, int], "'propertyNames'"),
        "patterns of keys": (dict[pydantic.constr(pattern="^a"), int], "'patternProperties'")}
    return taken, refused


def model_of(field):
    return pydantic.create_model("Model", field=(field, ...))


@with_clients
class Pydantic(Case):
    model, options = REAL, ("--served-model-name", "small", "-c", "1024", "--log-level", "off")

    def chat(self, schema, **more):
        return self.server.openai().chat.completions.create(
            model="small", messages=[{"role": "user", "content": "Answer in JSON."}], response_format={
                "type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": True}}, **more)

    def test_types_that_are_taken(self):
        """Members that a model doesn't name would be allowed, and a small model goes on and on with them."""
        for name, field in models()[0].items():
            with self.subTest(name):
                model = model_of(field)
                schema = {**model.model_json_schema(), "additionalProperties": False}
                choice = self.chat(schema, max_tokens=150, temperature=0).choices[0]
                if choice.finish_reason == "stop":
                    model.model_validate_json(choice.message.content)

    def test_types_that_are_refused_by_name(self):
        for name, (field, word) in models()[1].items():
            with self.subTest(name), self.assertRaises(openai.BadRequestError) as caught:
                self.chat(model_of(field).model_json_schema(), max_tokens=1)
            self.assertIn(word, caught.exception.message)

    def test_the_package_parses_models(self):
        """Its own form of a model's schema: all members required, no others."""
        class Pet(pydantic.BaseModel):
            kind: typing.Literal["cat", "dog"]
            age: typing.Optional[pydantic.conint(ge=0, le=30)]

        class Person(pydantic.BaseModel):
            name: pydantic.constr(max_length=20)
            pets: pydantic.conlist(Pet, max_length=2)
        reply = self.server.openai().chat.completions.parse(
            model="small", messages=[{"role": "user", "content": "Who has a cat?"}], response_format=Person,
            max_tokens=200, temperature=0)
        self.assertEqual(reply.choices[0].finish_reason, "stop")
        self.assertIsInstance(reply.choices[0].message.parsed, Person)
