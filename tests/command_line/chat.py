# SPDX-License-Identifier: Apache-2.0
"""bobbin chat, from a pipe and on a terminal."""
import json

from case import TINY, REAL, Case, Terminal, bobbin, real


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
        for word in ("/clear", "/regen", "/system", "/save", "/exit"):
            self.assertIn(word, err)

    def test_no_such_option_yet(self):
        self.sentence(bobbin("chat", TINY, "--session", "x", status=2)[1], "--session")

    @real
    def test_context_is_kept(self):
        path = self.folder / "chat.json"
        bobbin("chat", REAL, "-n", "8", "--temp", "0", stdin=f"Hello there\nAgain\n/save {path}\n")
        messages = json.loads(path.read_text(encoding="utf-8"))["messages"]
        request = json.dumps({"messages": messages[:3], "add_generation_prompt": True})
        prompt = bobbin("template", REAL, stdin=request)[0]
        alone = bobbin("run", REAL, "--raw", "-n", "8", "--temp", "0", "-p", prompt.decode())[0]
        self.assertEqual(alone.decode().strip("\n"), messages[3]["content"].strip("\n"))

    def test_terminal(self):
        """Line editing: a prompt is shown, Ctrl-C gives up a line, Ctrl-D leaves."""
        with Terminal("chat", TINY, "-n", "3", "--seed", "1") as t:
            t.wait_for(b"> ")
            t.send(b"1 2\n")
            t.wait_for(b"\n", b"> ")
            t.send(b"junk\x03")
            t.wait_for(b"Ctrl-C again")
            t.wait_for(b"> ")
            t.send(b"\x04")
            self.assertEqual(t.status(), 0)

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
