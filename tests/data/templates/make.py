#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes cases.json: what Jinja itself, set up as transformers sets it up, makes of every case.

Usage: make.py [FOLDER]     FOLDER has the GGUF files whose own templates are rendered, too.
Needs jinja2 3.1 (and gguf for FOLDER). Running the tests needs only cases.json."""
import datetime
import json
import pathlib
import sys

import jinja2
import jinja2.ext
import jinja2.nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

from expressions import GROUPS, VARS
from talks import MODELS, TALKS

HERE = pathlib.Path(__file__).resolve().parent


class Generation(jinja2.ext.Extension):
    """{% generation %} … {% endgeneration %}: a scope, and nothing else."""

    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_keep"), [], [], body).set_lineno(line)

    @jinja2.pass_eval_context
    def _keep(self, context, caller):
        return caller()


def raise_exception(message):
    raise jinja2.exceptions.TemplateError(message)


def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators,
                      sort_keys=sort_keys)


def environment():
    env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True,
                                        extensions=[Generation, jinja2.ext.loopcontrols])
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = lambda form: datetime.datetime.now().strftime(form)
    return env


def line_of(error):
    """The template's line that an exception names, or 0."""
    if isinstance(error, jinja2.TemplateSyntaxError):
        return error.lineno
    line, frame = 0, error.__traceback__
    while frame is not None:
        if frame.tb_frame.f_code.co_filename == "<template>":
            line = frame.tb_lineno
        frame = frame.tb_next
    return line


def outcome(source, variables):
    """{"text"} or {"error", "message", "line"}."""
    try:
        text = environment().from_string(source).render(**variables)
        text.encode("utf-8")
        assert " at 0x" not in text, f"the text of {source} has an address"
        return {"text": text}
    except (AssertionError, RecursionError) as error:
        if isinstance(error, AssertionError) and "address" in str(error):
            raise
        return {"error": type(error).__name__, "message": "", "line": 0}
    except Exception as error:
        return {"error": type(error).__name__, "message": str(error), "line": line_of(error)}


def case(entry):
    """A source, or (source, variables)."""
    source, variables = (entry, None) if isinstance(entry, str) else entry
    made = {"source": source}
    if variables is not None:
        made["vars"] = variables
    made.update(outcome(source, VARS if variables is None else variables))
    return made


def talk_outcomes(source):
    return [outcome(source, {"tools": None, "documents": None, "bos_token": "<s>",
                             "eos_token": "</s>", **talk}) for talk in TALKS]


def model_template(path):
    import gguf
    return gguf.GGUFReader(path).fields["tokenizer.chat_template"].contents()


def main():
    made = {
        "vars": VARS,
        "groups": {name: [case(entry) for entry in entries] for name, entries in GROUPS.items()},
        "talks": TALKS,
        "families": {path.stem: talk_outcomes(path.read_text(encoding="utf-8"))
                     for path in sorted(HERE.glob("*.jinja"))},
    }
    old = HERE / "cases.json"
    made["models"] = json.loads(old.read_text(encoding="utf-8"))["models"] if old.exists() else {}
    if len(sys.argv) > 1:
        folder = pathlib.Path(sys.argv[1])
        made["models"] = {name: talk_outcomes(model_template(folder / f"{name}.gguf"))
                          for name in MODELS}
    old.write_text(json.dumps(made, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    n = sum(len(entries) for entries in made["groups"].values())
    errors = sum("error" in entry for entries in made["groups"].values() for entry in entries)
    print(f"{n} cases in {len(made['groups'])} groups, {errors} of them errors")


if __name__ == "__main__":
    main()
