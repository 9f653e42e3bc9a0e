# SPDX-License-Identifier: Apache-2.0
"""tokenize, detokenize and template."""
import json

from case import TINY, REAL, Case, bobbin, real


class Text(Case):
    def test_ids_are_text_without_a_vocabulary(self):
        self.assertEqual(json.loads(bobbin("tokenize", TINY, stdin="3 1, 2")[0])[-3:], [3, 1, 2])

    @real
    def test_round_trip(self):
        text = "Grüße, 世界! \t\n  def f(x):\n\treturn x ** 2  # 🦊\r\n".encode()
        ids = bobbin("tokenize", REAL, "--no-bos", stdin=text)[0]
        self.assertIsInstance(json.loads(ids), list)
        self.assertEqual(bobbin("detokenize", REAL, stdin=ids)[0], text)

    @real
    def test_special_tokens(self):
        whole = json.loads(bobbin("tokenize", REAL, stdin="<|im_start|>")[0])
        plain = json.loads(bobbin("tokenize", REAL, "--no-parse-special", stdin="<|im_start|>")[0])
        self.assertEqual(len(whole), 1)
        self.assertGreater(len(plain), 1)

    @real
    def test_empty(self):
        self.assertEqual(json.loads(bobbin("tokenize", REAL, "--no-bos")[0]), [])
        self.assertEqual(bobbin("detokenize", REAL, stdin="[]")[0], b"")

    def test_bad_ids(self):
        for text in ("", "{}", "[1, ", "[1.5]", '["a"]', "[-1]", "[99999999999]", "[70000000]"):
            with self.subTest(text):
                self.sentence(bobbin("detokenize", TINY, stdin=text, status=1)[1], "bobbin detokenize:")

    def test_template_file_alone(self):
        path = self.folder / "t.jinja"
        path.write_text("{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}", encoding="utf-8")
        out, _ = bobbin("template", "--chat-template-file", path,
                        stdin='{"messages": [{"role": "user", "content": "Hi"}]}')
        self.assertEqual(out, b"<user>Hi")

    def test_template_raises(self):
        path = self.folder / "t.jinja"
        path.write_text("{{ raise_exception('no ' + messages[0].role) }}", encoding="utf-8")
        _, err = bobbin("template", "--chat-template-file", path,
                        stdin='{"messages": [{"role": "user", "content": "Hi"}]}', status=1)
        self.sentence(err, "no user")

    def test_template_errors(self):
        path = self.folder / "t.jinja"
        path.write_text("{% if %}", encoding="utf-8")
        self.sentence(bobbin("template", "--chat-template-file", path, stdin="{}", status=1)[1], "line 1")
        self.sentence(bobbin("template", "--chat-template-file", path, stdin="[", status=1)[1], "bobbin template:")
        self.sentence(bobbin("template", "--chat-template-file", "/no/such", stdin="{}", status=1)[1], "/no/such")
        self.sentence(bobbin("template", stdin="{}", status=2)[1], "MODEL")

    @real
    def test_template_of_a_model(self):
        out, _ = bobbin("template", REAL, stdin='{"messages": [{"role": "user", "content": "Hi"}], '
                                                '"add_generation_prompt": true}')
        self.assertTrue(out.endswith(b"<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"))
