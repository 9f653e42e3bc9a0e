# SPDX-License-Identifier: Apache-2.0
"""bobbin handset circuit: prompts for circuits in JSON, and what the model answers."""
import itertools
import json
import re

from case import Case, bobbin

ADDER = {"inputs": ["a", "b", "carry"],
         "gates": [["half", "xor", "a", "b"], ["sum", "xor", "half", "carry"], ["both", "and", "a", "b"],
                   ["through", "and", "half", "carry"], ["carry-out", "or", "both", "through"]]}

TABLES = "false, and, gt, a, lt, b, xor, or, nor, xnor, not-b, ge, not-a, le, nand, true, not"


class Circuit(Case):
    def json(self, value):
        path = self.folder / "C.json"
        path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
        return path

    def prompt(self, circuit, values, *more, **expects):
        """(the ids, what is said of them)"""
        out, err = bobbin("handset", "circuit", "--circuit", self.json(circuit), "--values", values, *more, **expects)
        return out.decode().strip(), err.decode()

    def test_full_adder(self):
        model = self.folder / "circuit.gguf"
        bobbin("handset", "circuit", "--bits", "5", "-o", model)
        for a, b, carry in itertools.product((0, 1), repeat=3):
            ids, said = self.prompt(ADDER, f"{a}{b}{carry}", "--bits", "5")
            self.assertTrue(said.startswith("for a model written with --bits 5\n"), said)
            names = {name: (int(zero), int(one)) for name, zero, one
                     in re.findall(r"^(\S+): (\d+) is 0, (\d+) is 1$", said, re.M)}
            out = list(map(int, bobbin("run", model, "--raw", "-p", ids)[0].split()))
            self.assertEqual(len(out), 6)
            self.assertEqual(out[1], names["sum"][(a + b + carry) % 2])
            self.assertEqual(out[4], names["carry-out"][(a + b + carry) // 2])
            self.assertEqual(out[5], 17)

    def test_tables_by_digits(self):
        self.assertEqual(self.prompt({"inputs": ["a", "b"], "gates": [["x", "0110", "a", "b"]]}, "01")[0],
                         self.prompt({"inputs": ["a", "b"], "gates": [["x", "xor", "a", "b"]]}, "01")[0])

    def test_names_of_tables_in_any_case(self):
        said = [self.prompt({"inputs": ["a", "b"], "gates": [["x", xor, "a", "b"], ["y", no, "x"]]}, "01")
                for xor, no in (("xor", "not"), ("XOR", "Not"))]
        self.assertEqual(*said)

    def test_bad_circuits(self):
        for circuit, *words in (("{", "C.json isn't JSON"), ({"inputs": []}, "C.json: expected", '"inputs"'),
                                ({"inputs": ["a"], "gates": [], "input": []}, 'the key "input"'),
                                ({"inputs": ["a"], "gates": [["x", "nor", "a", "y"]]}, "operand 2 of gates[0]"),
                                ({"inputs": ["a", "b"], "gates": [["x", "imply", "a", "b"]]}, "C.json: gates[0]",
                                 '"imply"', f"one of {TABLES}")):
            with self.subTest(circuit):
                self.sentence(self.prompt(circuit, "1", status=1)[1].encode(), *words)

    def test_circuit_without_end(self):
        self.sentence(bobbin("handset", "circuit", "--circuit", "/dev/zero", "--values", "1", status=1)[1],
                      "'/dev/zero' is longer than 16 MiB", "a circuit")

    def test_bad_usage(self):
        self.sentence(self.prompt(ADDER, "10", status=2)[1].encode(), "3 digits", "'10'")
        self.sentence(self.prompt(ADDER, "102", status=2)[1].encode(), "3 digits", "'102'")
        self.sentence(self.prompt({"inputs": [f"i{i}" for i in range(16)], "gates": []}, "0" * 16, "--bits", "4",
                                  status=2)[1].encode(), "at most 15 inputs and gates with --bits 4, have 16")
        path = self.json(ADDER)
        self.sentence(bobbin("handset", "circuit", "--circuit", path, "--values", "101", "-o", path, status=2)[1],
                      "without -o")
        self.assertEqual(json.loads(path.read_text(encoding="utf-8")), ADDER)
        for args, *words in ((["circuit", "--circuit", path], "--values"), (["circuit", "--values", "1", "-o", "x"],
                             "without -o"), (["circuit", "--values", "1"], "-o"),
                             (["latch", "--circuit", path, "--values", "1"], "kind circuit")):
            with self.subTest(args):
                self.sentence(bobbin("handset", *args, status=2)[1], *words)

    def test_missing_file(self):
        self.sentence(bobbin("handset", "circuit", "--circuit", "no/such.json", "--values", "1", status=1)[1],
                      "no/such.json")
