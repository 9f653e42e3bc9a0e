# SPDX-License-Identifier: Apache-2.0
"""bobbin run."""
import json
import re
import subprocess

from case import BOBBIN, TINY, REAL, Case, Terminal, bobbin, real


class Run(Case):
    def test_only_text_on_stdout(self):
        out, err = bobbin("run", TINY, "-p", "1 2 3", "-n", "5", "--seed", "1")
        self.assertEqual(len(out.split()), 5)
        self.assertRegex(err.decode(), r"prompt: 3 tokens.*generated: 5 tokens.*seed 1")

    def test_newline_only_on_a_terminal(self):
        args = ("run", TINY, "-p", "1 2 3", "-n", "5", "--seed", "1")
        out = bobbin(*args)[0]
        self.assertRegex(out, rb"\d$")
        with Terminal(*args) as t:
            t.wait_for(out.strip() + b"\r\nprompt: 3 tokens")

    def test_speed_begins_a_line_where_both_go_to_one_file(self):
        path = self.folder / "both"
        with open(path, "wb") as out:
            subprocess.run([BOBBIN, "run", TINY, "-p", "1 2 3", "-n", "5"], stdout=out, stderr=out, check=True)
        self.assertRegex(path.read_text(encoding="utf-8"), r"\n[\d ]+\nprompt: 3 tokens")

    @real
    def test_bytes_without_a_token_are_counted(self):
        every_byte = bytes(range(256))
        ids, lost = bobbin("tokenize", REAL, stdin=every_byte)
        back = bobbin("detokenize", REAL, stdin=ids)[0]
        n_lost = len(every_byte) - len(back)
        self.assertGreater(n_lost, 0)
        self.assertIn(f"{n_lost} bytes of the text are left out", lost.decode())
        said = bobbin("run", REAL, "--raw", "-n", "1", stdin=every_byte)[1].decode()
        self.assertIn(f"{n_lost} bytes of the text are left out", said)
        self.assertNotIn("left out", bobbin("run", REAL, "--raw", "-n", "1", "-p", "a")[1].decode())

    def test_seed_repeats(self):
        one, two, other = (bobbin("run", TINY, "-p", "1 2 3", "-n", "20", "--seed", s)[0] for s in (5, 5, 6))
        self.assertEqual(one, two)
        self.assertNotEqual(one, other)

    def test_printed_seed_repeats(self):
        out, err = bobbin("run", TINY, "-p", "1 2 3", "-n", "20")
        seed = re.search(r"seed (\d+)", err.decode()).group(1)
        self.assertEqual(bobbin("run", TINY, "-p", "1 2 3", "-n", "20", "--seed", seed)[0], out)

    def test_threads_change_nothing(self):
        one, two = (bobbin("run", TINY, "-p", "1 2 3", "-n", "20", "--seed", "5", "-t", t)[0] for t in (1, 2))
        self.assertEqual(one, two)

    def test_prompt_from_stdin_and_file(self):
        path = self.folder / "prompt"
        path.write_text("1 2 3", encoding="utf-8")
        want = bobbin("run", TINY, "-p", "1 2 3", "-n", "5", "--temp", "0")[0]
        self.assertEqual(bobbin("run", TINY, "-n", "5", "--temp", "0", stdin="1 2 3")[0], want)
        self.assertEqual(bobbin("run", TINY, "-p", "-", "-n", "5", "--temp", "0", stdin="1 2 3")[0], want)
        self.assertEqual(bobbin("run", TINY, "-f", path, "-n", "5", "--temp", "0")[0], want)

    def test_json(self):
        root = json.loads(bobbin("run", TINY, "-p", "1 2 3", "-n", "5", "--seed", "9", "--json")[0])
        self.assertEqual(set(root), {"text", "tokens", "finish_reason", "prompt_tokens", "completion_tokens",
                                     "seed", "timings"})
        self.assertEqual((root["prompt_tokens"], root["completion_tokens"], root["seed"]), (3, 5, 9))
        self.assertEqual(root["text"].split(), [str(i) for i in root["tokens"]])
        self.assertEqual(root["finish_reason"], "length")
        self.assertEqual(root["timings"]["predicted_n"], 5)

    def test_trace_of_one_step(self):
        lines = bobbin("run", TINY, "-p", "1 2 3", "-n", "5", "--temp", "0", "--trace-state")[0].decode().splitlines()
        text = bobbin("run", TINY, "-p", "1 2 3", "-n", "5", "--temp", "0")[0].decode()
        self.assertEqual(lines[0].split(), ["step", "at", "token", "tokens", "logprob", "state", "written"])
        self.assertRegex(lines[1], r"^ +0 +3 +5 +-\d+\.\d{3} +[\d.]+ [KM]iB  " + re.escape(text) + "$")
        self.assertEqual(len(lines), 2)

    def test_trace_as_json(self):
        args = ("run", TINY, "-p", "1 2 3", "-n", "5", "--temp", "0", "--json", "--trace-state", "--logprobs", "0")
        root = json.loads(bobbin(*args)[0])
        step, = root["cot_steps"]
        self.assertEqual((step["index"], step["first"], step["n_tokens"], step["text"], step["state_bytes"]),
                         (0, 3, 5, root["text"], 0))
        self.assertAlmostEqual(step["logprob"], sum(entry["logprob"] for entry in root["logprobs"]["content"]), 4)
        self.assertGreater(step["kv_bytes"], 0)

    def test_trace_of_nothing(self):
        self.assertEqual(bobbin("run", TINY, "-p", "1 2 3", "-n", "0", "--trace-state")[0], b"")
        root = json.loads(bobbin("run", TINY, "-p", "1 2 3", "-n", "0", "--trace-state", "--json")[0])
        self.assertEqual(root["cot_steps"], [])

    def test_feed(self):
        fed = json.loads(bobbin("run", TINY, "-p", "1 2 3", "--feed", "7 8", "--temp", "0", "--json")[0])
        self.assertEqual((len(fed["tokens"]), fed["finish_reason"]), (3, "length"))
        history = [1, 2, 3]
        for token, answer in zip(fed["tokens"], (7, 8, None)):
            prompt = " ".join(map(str, history))
            alone = json.loads(bobbin("run", TINY, "-p", prompt, "-n", "1", "--temp", "0", "--json")[0])
            self.assertEqual(alone["tokens"], [token])
            history += [token, answer]

    def test_trace_of_what_was_fed(self):
        lines = bobbin("run", TINY, "-p", "1 2 3", "--feed", "7 8", "--temp", "0", "--trace-state")[0].decode()
        self.assertRegex(lines, r"state +read +written\n +0 +3 +3 .* 3 7 8 +\d+ \d+ \d+\n$")
        args = ("run", TINY, "-p", "1 2 3", "--feed", "7 8", "--temp", "0", "--trace-state", "--json")
        self.assertEqual(json.loads(bobbin(*args)[0])["cot_steps"][0]["read"], " 3 7 8")

    def test_feed_is_checked(self):
        err = bobbin("run", TINY, "-p", "1 2 3", "--feed", "7 x", "-n", "9", status=1)[1].decode()
        self.assertRegex(err, "expected decimal ids|token id")

    def test_logprobs(self):
        root = json.loads(bobbin("run", TINY, "-p", "1 2", "-n", "4", "--temp", "0", "--json", "--logprobs", "3")[0])
        content = root["logprobs"]["content"]
        self.assertEqual([entry["id"] for entry in content], root["tokens"])
        for entry in content:
            self.assertEqual(len(entry["top_logprobs"]), 3)
            self.assertEqual(entry["top_logprobs"][0]["id"], entry["id"])
            self.assertLessEqual(entry["logprob"], 0)

    def test_nothing_to_generate(self):
        root = json.loads(bobbin("run", TINY, "-p", "1 2", "-n", "0", "--json")[0])
        self.assertEqual((root["text"], root["tokens"], root["prompt_tokens"]), ("", [], 2))

    def test_logit_bias_forces(self):
        root = json.loads(bobbin("run", TINY, "-p", "1 2", "-n", "3", "--temp", "0", "--logit-bias", "42=100",
                                 "--json")[0])
        self.assertEqual(root["tokens"], [42] * 3)

    def test_ends_of_ranges(self):
        for args in (("--top-p", "1e-9"), ("--repetition-penalty", "1e-6"), ("--temp", "1e6"), ("--min-p", "1")):
            bobbin("run", TINY, "-p", "1 2", "-n", "2", *args)

    def test_logit_bias_of_no_token(self):
        _, err = bobbin("run", TINY, "-p", "1 2", "--logit-bias", "99999=1", status=2)
        self.sentence(err, "logit_bias", "99999", "0 to 198")

    def test_stop(self):
        first = json.loads(bobbin("run", TINY, "-p", "1 2", "-n", "9", "--temp", "0", "--json")[0])
        stop = first["text"].split()[3]
        root = json.loads(bobbin("run", TINY, "-p", "1 2", "-n", "9", "--temp", "0", "--json", "--stop", stop)[0])
        self.assertEqual(root["finish_reason"], "stop")
        self.assertTrue(first["text"].startswith(root["text"]))
        self.assertNotIn(stop, root["text"])

    def test_stop_token_ids_and_min_tokens(self):
        args = ("run", TINY, "-p", "1 2", "-n", "9", "--temp", "0", "--json")
        first = json.loads(bobbin(*args)[0])["tokens"]
        for spelling in ("--stop-token-ids", "--stop_token_ids"):
            root = json.loads(bobbin(*args, spelling, f"198,{first[0]}")[0])
            self.assertEqual((root["tokens"], root["finish_reason"]), (first[:1], "stop"))
        root = json.loads(bobbin(*args, "--stop-token-ids", first[0], "--min-tokens", "9")[0])
        self.assertEqual(len(root["tokens"]), 9)
        self.assertNotIn(first[0], root["tokens"])
        for more, words in ((("--min-tokens", "10"), "min_tokens is 10"), (("--stop-token-ids", "199"), "199")):
            self.sentence(bobbin(*args, *more, status=2)[1], words, "expected 0 to")

    def test_end_of_the_context(self):
        root = json.loads(bobbin("run", TINY, "-p", "1 2 3", "-c", "16", "--json", "--ignore-eos")[0])
        self.assertEqual(root["finish_reason"], "length")
        self.assertLessEqual(root["prompt_tokens"] + root["completion_tokens"], 16)

    def test_prompt_too_long(self):
        _, err = bobbin("run", TINY, "-c", "8", stdin=" ".join("1" * 20), status=1)
        self.assertIn("20 tokens", err.decode())
        self.assertIn("only 8", err.decode())

    def test_empty_prompt(self):
        self.assertIn(b"empty", bobbin("run", TINY, "--raw", "-p", "", status=1)[1])

    def test_ids_out_of_range(self):
        self.assertIn(b"99999999", bobbin("run", TINY, "--raw", "-p", "99999999", status=1)[1])

    def test_missing_prompt_file(self):
        self.sentence(bobbin("run", TINY, "-f", "/no/such", status=1)[1], "/no/such", "No such file")

    @real
    def test_template_and_raw(self):
        chat = json.loads(bobbin("run", REAL, "-p", "Hi", "-n", "1", "--json")[0])
        raw = json.loads(bobbin("run", REAL, "-p", "Hi", "-n", "1", "--json", "--raw")[0])
        self.assertGreater(chat["prompt_tokens"], raw["prompt_tokens"])

    @real
    def test_text_is_what_the_tokens_say(self):
        root = json.loads(bobbin("run", REAL, "-p", "Count to five.", "-n", "12", "--seed", "3", "--json")[0])
        text = bobbin("detokenize", REAL, stdin=json.dumps(root["tokens"]))[0].decode()
        self.assertTrue(text.startswith(root["text"]))

    @real
    def test_json_text_equals_plain_text(self):
        args = ("run", REAL, "-p", "Count to five.", "-n", "12", "--seed", "3")
        self.assertEqual(json.loads(bobbin(*args, "--json")[0])["text"], bobbin(*args)[0].decode())

    @real
    def test_json_schema(self):
        schema = {"type": "object", "properties": {"name": {"type": "string", "maxLength": 12},
                  "age": {"type": "integer", "minimum": 7, "maximum": 99}}, "required": ["name", "age"],
                  "additionalProperties": False}
        path = self.folder / "schema.json"
        path.write_text(json.dumps(schema), encoding="utf-8")
        for seed in range(3):
            args = ("run", REAL, "-p", "A person.", "-n", "99", "--seed", seed, "--temp", "1.5", "--json")
            root = json.loads(bobbin(*args, "--json-schema", path)[0])
            self.assertEqual(root, {**root, "finish_reason": "stop"})
            person = json.loads(root["text"])
            self.assertEqual(list(person), ["name", "age"])
            self.assertTrue(len(person["name"]) <= 12 and 7 <= person["age"] <= 99, person)
            same = json.loads(bobbin(*args, "--json-schema", json.dumps(schema))[0])
            self.assertEqual(same["tokens"], root["tokens"])

    @real
    def test_json_is_indented_where_asked(self):
        schema = {"type": "object", "properties": {"on": {"type": "boolean"}, "of": {"type": "array", "items": {
            "type": "object", "properties": {"n": {"enum": [1, 22]}}, "required": ["n"], "additionalProperties": False},
            "minItems": 2, "maxItems": 3}}, "required": ["on", "of"], "additionalProperties": False}
        for indent in (0, 2, 4):
            text = bobbin("run", REAL, "-p", "In JSON.", "-n", "200", "--seed", indent, "--json-schema",
                          json.dumps(schema), "--json-indent", indent)[0].decode()
            self.assertEqual(text, json.dumps(json.loads(text), indent=indent))
        self.assertIn("--json-schema", bobbin("run", REAL, "-p", "a", "--json-indent", "2", "--regex", "a",
                                              status=2)[1].decode())

    @real
    def test_other_constraints(self):
        args = ("run", REAL, "-p", "Say something.", "-n", "60", "--seed", 4, "--temp", "1.2")
        self.assertRegex(bobbin(*args, "--regex", r"[a-f]{4}-\d\d")[0], rb"^[a-f]{4}-\d\d$")
        self.assertIn(bobbin(*args, "--choice", "left", "--choice", "left hand")[0], (b"left", b"left hand"))
        path = self.folder / "sum.gbnf"
        path.write_text('root ::= n ("+" n){2}\nn ::= [1-9] | "(" n "*" n ")"\n', encoding="utf-8")
        self.assertRegex(bobbin(*args, "--grammar", path)[0], rb"^[(1-9][1-9+*()]*\+[1-9+*()]*\+[1-9+*()]*$")
        plain = bobbin(*args, "--regex", "(?s:.)*", status=1)[1].decode()
        self.assertIn("flag", plain)

    @real
    def test_a_constraint_leaves_log_probabilities_alone(self):
        args = ("run", REAL, "-p", "Is water wet?", "--temp", "0", "-n", "1", "--json", "--logprobs", "5")
        free = json.loads(bobbin(*args)[0])["logprobs"]["content"][0]
        bound = json.loads(bobbin(*args, "--choice", "zebra")[0])["logprobs"]["content"][0]
        self.assertEqual(free["top_logprobs"], bound["top_logprobs"])
        self.assertLess(bound["logprob"], free["logprob"])

    @real
    def test_constraints_with_bans_and_bias(self):
        args = ("run", REAL, "-p", "Is water wet?", "--temp", "0", "-n", "9", "--choice", "yes", "--choice", "no")
        yes, no = (json.loads(bobbin("tokenize", REAL, "--no-bos", stdin=word)[0])[0] for word in ("yes", "no"))
        self.assertEqual(bobbin(*args, "--logit-bias", f"{yes}=100")[0], b"yes")
        self.assertEqual(bobbin(*args, "--logit-bias", f"{no}=100")[0], b"no")
        for more in (("--min-tokens", "5"), ("--ignore-eos",)):
            self.assertIn("nothing but an end", bobbin(*args, *more, status=1)[1].decode())

    def test_constraints_are_checked(self):
        err = bobbin("run", TINY, "-p", "1", "--choice", "a", "--json-object", status=2)[1].decode()
        self.assertIn("2 are given", err)
        self.assertIn("vocabulary", bobbin("run", TINY, "-p", "1", "--choice", "a", status=1)[1].decode())

    @real
    def test_what_schemas_cannot_say_is_named(self):
        err = bobbin("run", REAL, "-p", "a", "--json-schema", '{"not": {}}', status=1)[1].decode()
        self.assertIn("'not'", err)

    def test_system_message_without_a_template(self):
        self.sentence(bobbin("run", TINY, "-p", "1", "--system", "2", status=2)[1], "no chat template", "--system")

    def test_template_without_a_vocabulary(self):
        path = self.folder / "t.jinja"
        path.write_text("{{ messages }}", encoding="utf-8")
        for command in ("run", "chat"):
            self.sentence(bobbin(command, TINY, "--chat-template-file", path, status=2)[1], "no vocabulary")

    def test_stdin_is_read_once(self):
        for args in ((), ("-p", "-"), ("-f", "-")):
            self.sentence(bobbin("run", TINY, "--chat-template-file", "-", *args, status=2)[1], "both", "stdin")
        self.sentence(bobbin("template", "--chat-template-file", "-", status=2)[1], "stdin")
        self.sentence(bobbin("chat", TINY, "--chat-template-file", "-", status=2)[1], "stdin")

    @real
    def test_system_message_that_the_template_leaves_out(self):
        path = self.folder / "t.jinja"
        for text, status, word in (("{% for m in messages if m.role != 'system' %}{{ m.content }}{% endfor %}", 2,
                                    "no place for a system message"),
                                   ("{{ raise_exception('no system here') }}", 1, "no system here")):
            path.write_text(text, encoding="utf-8")
            args = ("--system", "Be brief.", "--chat-template-file", path)
            self.sentence(bobbin("run", REAL, "-p", "Hi", *args, status=status)[1], word)
            self.sentence(bobbin("chat", REAL, *args, stdin="Hi\n", status=status)[1], word)

    @real
    def test_system_message_and_verbose_prompt(self):
        _, err = bobbin("run", REAL, "-p", "Hi", "--system", "Be brief, Bob.", "-n", "1", "--verbose-prompt")
        self.assertIn(b"Be brief, Bob.", err)
        found = re.search(rb"\n\((\d+) tokens, system from 0, user from (\d+), assistant from (\d+)\)\n", err)
        self.assertTrue(found, err)
        total, user, assistant = map(int, found.groups())
        self.assertTrue(0 < user < assistant < total, found)

    def test_verbose_prompt_without_a_template(self):
        for more in ((), ("--raw",)):
            _, err = bobbin("run", TINY, "-p", "1 2 3", "-n", "1", "--verbose-prompt", *more)
            self.assertIn(b"1 2 3\n(3 tokens)\n", err)
