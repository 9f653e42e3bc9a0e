# SPDX-License-Identifier: Apache-2.0
"""bobbin chat, from a pipe and on a terminal."""
import json
import re
import signal
import subprocess
import time

from case import BOBBIN, SECONDS, TINY, TINY_WINDOW, REAL, Case, Terminal, bobbin, real


def segments(stderr):
    """[[(role, first token, tokens)]], a list for each /segments."""
    tables = stderr.decode().split("segment  role       first token  tokens\n")[1:]
    rows = [re.findall(r"^ *(\d+)  (\w+) +(\d+) +(\d+)$", table, re.M) for table in tables]
    assert all([int(row[0]) for row in table] == list(range(len(table))) for table in rows), rows
    return [[(role, int(first), int(n)) for _, role, first, n in table] for table in rows]


class Chat(Case):
    def test_lines_from_a_pipe(self):
        out, err = bobbin("chat", TINY, "-n", "3", "--seed", "1", stdin="1 2\n3 4\n")
        self.assertEqual([len(line.split()) for line in out.decode().splitlines()], [3, 3])
        self.assertIn(b"seed 1", err)

    def test_save_and_clear(self):
        path = self.folder / "chat.json"
        bobbin("chat", TINY, "-n", "2", stdin=f"9 9\n/clear\n1 2\n/save {path}\n/exit\n3\n")
        messages = json.loads(path.read_text(encoding="utf-8"))["messages"]
        self.assertEqual([m["role"] for m in messages], ["user", "assistant"])
        self.assertEqual(messages[0]["content"], "1 2")

    def test_regen_gives_another_answer(self):
        out, _ = bobbin("chat", TINY, "-n", "12", "--seed", "1", stdin="1 2\n/regen\n")
        one, two = out.decode().splitlines()
        self.assertNotEqual(one, two)

    def test_the_printed_seeds_repeat(self):
        out, err = bobbin("chat", TINY, "-n", "12", "--seed", "5", stdin="1 2\n/regen\n/regen\n")
        seeds = re.findall(r"^bobbin chat: seed (\d+)$", err.decode(), re.M)
        self.assertEqual(seeds, ["6", "7"])
        self.assertTrue(err.decode().endswith("seed 5, since the last /regen 7\n"), err)
        for seed, line in zip(["5", *seeds], out.decode().splitlines()):
            alone = bobbin("run", TINY, "-p", "1 2", "-n", "12", "--seed", seed)[0].decode()
            self.assertEqual(alone.strip(), line.strip())

    def test_seeds_stay_what_the_option_takes(self):
        _, err = bobbin("chat", TINY, "-n", "2", "--seed", 2**63 - 1, stdin="1 2\n/regen\n")
        self.assertIn(b"bobbin chat: seed 0\n", err)

    def test_regen_that_fails_keeps_the_answer(self):
        path = self.folder / "chat.json"
        bobbin("chat", TINY, "-n", "2", "-c", "8", stdin=f"1 2\n/system 1 2 3 4 5 6 7 8 9\n/regen\n/save {path}\n",
               status=1)
        messages = json.loads(path.read_text(encoding="utf-8"))["messages"]
        self.assertEqual([m["role"] for m in messages], ["system", "user", "assistant"])

    def test_full_context_says_what_to_do(self):
        out, err = bobbin("chat", TINY, "-c", "8", "--ignore-eos", stdin="1 2 3\n4\n/clear\n5 6\n", status=1)
        lines = [line for line in err.decode().splitlines() if "/clear" in line]
        self.assertEqual(len(lines), 3, err)
        for line, words in zip(lines, ("context of 8 tokens is full", "would have 9 tokens", "is full")):
            self.assertIn(words, line)
            self.assertIn("-c N", line)
        self.assertEqual([len(line.split()) for line in out.decode().splitlines()], [5, 6])

    def test_save_to_stdout(self):
        out, _ = bobbin("chat", TINY, "-n", "2", stdin="/system 5\n/save -\n", cwd=self.folder)
        self.assertEqual(json.loads(out)["messages"], [{"role": "system", "content": "5"}])
        self.assertEqual(list(self.folder.iterdir()), [])

    @real
    def test_system_command_that_the_template_leaves_out(self):
        path = self.folder / "t.jinja"
        path.write_text("{% for m in messages if m.role != 'system' %}{{ m.content }}{% endfor %}", encoding="utf-8")
        _, err = bobbin("chat", REAL, "--chat-template-file", path, stdin="/system Be brief.\n/system\n", status=1)
        self.assertIn(b"no place for a system message", err)
        self.assertIn(b"there is no system message", err)

    def test_system(self):
        path = self.folder / "chat.json"
        bobbin("chat", TINY, "-n", "1", "--system", "5", stdin=f"1\n/system 6\n/save {path}\n")
        self.assertEqual(json.loads(path.read_text(encoding="utf-8"))["messages"][0],
                         {"role": "system", "content": "6"})

    def test_unknown_command(self):
        self.assertIn(b"'/save'", bobbin("chat", TINY, stdin="/sav x\n", status=1)[1])

    def test_save_that_fails(self):
        self.assertIn(b"/no/such", bobbin("chat", TINY, stdin="/save /no/such/file\n", status=1)[1])

    def test_help(self):
        err = bobbin("chat", TINY, stdin="/help\n")[1].decode()
        for word in ("/clear", "/regen", "/system", "/segments", "/save", "/exit"):
            self.assertIn(word, err)

    def test_segments_without_a_template(self):
        """The last token of an answer is read with the next turn."""
        lines = ("/segments", "1 2", "3 4", "/segments", "/clear", "1 2 9", "/segments", "/system 5", "/regen",
                 "/segments")
        out, err = bobbin("chat", TINY, "-n", "3", "--ignore-eos", "--seed", "1", stdin="\n".join(lines) + "\n")
        self.assertEqual([len(line.split()) for line in out.decode().splitlines()], [3, 3, 3, 3])
        self.assertIn(b"the context is empty", err)
        self.assertEqual(segments(err), [
            [("user", 0, 2), ("assistant", 2, 3), ("user", 5, 2), ("assistant", 7, 2)],
            [("user", 0, 3), ("assistant", 3, 2)],
            [("system", 0, 1), ("user", 1, 3), ("assistant", 4, 2)]])

    def test_segments_of_the_same_tokens_from_other_messages(self):
        """What is kept must be cut as the new conversation is."""
        for first, then, want in (("1\n", "1 2 3 4\n", [("user", 0, 4)]),
                                  ("1 2 3 4\n", "/system 1\n2 3 4\n", [("system", 0, 1), ("user", 1, 3)])):
            _, err = bobbin("chat", TINY, "-n", "1", stdin=f"{first}/clear\n{then}/segments\n")
            (table,) = segments(err)
            self.assertEqual([row for row in table if row[0] != "assistant"], want)
        args = ("chat", TINY, "-n", "3", "--temp", "0", "--ignore-eos", "--system", "7")
        answer = bobbin(*args, stdin="1\n")[0].decode().strip()
        _, err = bobbin(*args, stdin=f"1\n/segments\n/clear\n1 {answer}\n/segments\n")
        self.assertEqual(segments(err), [[("system", 0, 1), ("user", 1, 1), ("assistant", 2, 2)],
                                         [("system", 0, 1), ("user", 1, 4), ("assistant", 5, 2)]])

    def test_segments_after_the_window_lost_the_prefix(self):
        lines = "1 2 " + "3 " * 600, "/segments", "/clear", "1 2 4 4", "/segments"
        _, err = bobbin("chat", TINY_WINDOW, "-n", "0", "-c", "4000", "--system", "7", stdin="\n".join(lines) + "\n")
        self.assertEqual(segments(err), [[("system", 0, 1), ("user", 1, 602), ("assistant", 603, 0)],
                                         [("system", 0, 1), ("user", 1, 4), ("assistant", 5, 0)]])

    @real
    def test_segments_are_the_messages_of_the_template(self):
        path = self.folder / "chat.json"
        _, err = bobbin("chat", REAL, "-n", "8", "--temp", "0", "--system", "Be brief.",
                        stdin=f"Hello there\nAgain\n/save {path}\n/segments\n")
        messages = json.loads(path.read_text(encoding="utf-8"))["messages"]
        (table,) = segments(err)
        self.assertEqual([row[0] for row in table], [m["role"] for m in messages])
        for i, (_, first, _) in enumerate(table):
            before = bobbin("template", REAL, stdin=json.dumps({"messages": messages[:i]}))[0] if i else b""
            self.assertEqual(first, len(json.loads(bobbin("tokenize", REAL, "--no-bos", stdin=before)[0])))

    @real
    def test_segments_that_the_template_does_not_keep_apart(self):
        """A system message inside the user's: both are one segment, the system's."""
        path = self.folder / "t.jinja"
        path.write_text("{% set s = messages[0].content + '\n' if messages[0].role == 'system' else '' %}"
                        "{% for m in messages if m.role != 'system' %}{{ '<|im_start|>' + m.role + '\n' + s + "
                        "m.content + '<|im_end|>' }}{% endfor %}{% if add_generation_prompt %}<|im_start|>{% endif %}",
                        encoding="utf-8")
        args = ("chat", REAL, "--chat-template-file", path, "-n", "2", "--temp", "0", "--ignore-eos")
        for more, roles in (((), ["user", "assistant", "user", "assistant"]),
                            (("--system", "Be brief."), ["system", "assistant", "user", "assistant"])):
            (table,) = segments(bobbin(*args, *more, stdin="Hi\nOh\n/segments\n")[1])
            self.assertEqual([row[0] for row in table], roles)
            self.assertEqual(table[0][1], 0)

    @real
    def test_context_is_kept(self):
        path = self.folder / "chat.json"
        bobbin("chat", REAL, "-n", "8", "--temp", "0", stdin=f"Hello there\nAgain\n/save {path}\n")
        messages = json.loads(path.read_text(encoding="utf-8"))["messages"]
        request = json.dumps({"messages": messages[:3], "add_generation_prompt": True})
        prompt = bobbin("template", REAL, stdin=request)[0]
        alone = bobbin("run", REAL, "--raw", "-n", "8", "--temp", "0", "-p", prompt.decode())[0]
        self.assertEqual(alone.decode().strip("\n"), messages[3]["content"].strip("\n"))

    def test_interrupt_after_the_window_lost_the_prefix(self):
        """A context that starts again is no error, and hides none that comes after."""
        process = subprocess.Popen([BOBBIN, "chat", TINY_WINDOW, "-n", "0", "-c", "4000000"], stdin=subprocess.PIPE,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0)
        process.stdin.write(b"1 2 " + b"3 " * 600 + b"\n/clear\n")
        self.assertEqual(process.stdout.read(1), b"\n")
        process.stdin.write(b"1 2 " + b"4 " * 200000 + b"\n")
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=SECONDS)
        self.assertEqual(process.returncode, 0, err)
        self.assertNotIn(b"rewind", err)

    def test_terminal(self):
        """Line editing: a prompt is shown, Ctrl-C gives up a line, Ctrl-D leaves."""
        with Terminal("chat", TINY, "-n", "3", "--seed", "1") as t:
            t.wait_for(b"> ")
            t.send(b"1 2\n")
            t.wait_for(b"\n", b"> ")
            t.send(b"junk\x03")
            t.wait_for(b"Ctrl-C again")
            t.wait_for(b"> ")
            t.wait_until_edited()
            t.send(b"\x04")
            self.assertEqual(t.status(), 0)

    def test_terminal_interrupt_as_the_prompt_appears(self):
        """The prompt is there a moment before the terminal is ready for a line."""
        for _ in range(12):
            with Terminal("chat", TINY, "-n", "3", "--seed", "1") as t:
                t.wait_for(b"> ")
                t.send(b"1 2\n")
                t.wait_for(b"\n", b"> ")
                t.send(b"\x03")
                t.wait_for(b"Ctrl-C again")

    def test_terminal_shows_a_name_without_controls(self):
        path = self.folder / "model.gguf"
        path.write_bytes(TINY.read_bytes().replace(b"golden llama", b"a\x1b]0;b\xc2\x9b\xff\xc3\xa9c"))
        with Terminal("chat", path) as t:
            t.wait_for("a?]0;b??éc, 512 tokens of context".encode())

    def test_terminal_interrupt_stops_the_answer_only(self):
        with Terminal("chat", TINY, "--seed", "1", "--ignore-eos", "-c", "2000000") as t:
            t.wait_for(b"> ")
            t.send(b"1 2\n")
            t.wait_for(b"1 2\r\n")
            t.wait_some()
            t.send(b"\x03")
            t.wait_for(b"> ")
            t.send(b"/exit\n")
            self.assertEqual(t.status(), 0)
