# SPDX-License-Identifier: Apache-2.0
"""Opening model files, and what inspect and kernels say."""
import json

from case import TINY, Case, bobbin

FOLDER = TINY.parent / "hf" / "llama"


class Models(Case):
    def test_missing_file(self):
        self.sentence(bobbin("run", "/no/such.gguf", "-p", "1", status=1)[1], "/no/such.gguf")

    def test_folder(self):
        for name in ("", "/"):
            path = f"{self.folder}{name}"
            self.sentence(bobbin("inspect", path, status=1)[1], f"'{path}' is a folder without config.json")

    def test_folder_with_models(self):
        for name in ("b.gguf", "a.gguf", "model.safetensors"):
            (self.folder / name).write_bytes(b"")
        self.sentence(bobbin("run", self.folder, "-p", "1", status=1)[1], "is a folder without config.json",
                      f"'{self.folder}/a.gguf'")
        (self.folder / "config.json").write_bytes(b"")
        (self.folder / "model.safetensors").unlink()
        self.sentence(bobbin("run", self.folder, "-p", "1", status=1)[1], "is a folder without *.safetensors",
                      f"'{self.folder}/a.gguf'")

    def test_hugging_face_folder(self):
        out = bobbin("inspect", FOLDER)[0].decode()
        for word in ("llama: llama, tokenizer no_vocab", "LlamaForCausalLM", "model.embed_tokens.weight", "layer 0"):
            self.assertIn(word, out)
        self.assertEqual(bobbin("run", f"{FOLDER}/", "-p", "1 2", "-n", "3", "--temp", "0")[0],
                         bobbin("run", TINY, "-p", "1 2", "-n", "3", "--temp", "0")[0])

    def test_short_arrays_are_shown(self):
        path = self.folder / "a.gguf"
        bobbin("handset", "dfa", "--table", "parity", "-o", path)
        metadata = json.loads(bobbin("inspect", path, "--json")[0])["metadata"]
        self.assertEqual(metadata["bobbin.token_names"], ["0", "1", "even", "odd"])
        self.assertIn(b'["0", "1", "even", "odd"]', bobbin("inspect", path)[0])

    def test_hugging_face_folder_without_a_tokenizer(self):
        err = bobbin("tokenize", FOLDER, stdin=b"hello", status=1)[1]
        self.sentence(err, "the folder has no tokenizer.json, so text means token ids")

    def test_hugging_face_folder_without_weights(self):
        (self.folder / "config.json").write_bytes((FOLDER / "config.json").read_bytes())
        self.sentence(bobbin("run", self.folder, "-p", "1", status=1)[1], str(self.folder), "neither model.safetensors")
        self.assertEqual(json.loads(bobbin("tokenize", self.folder, stdin=b"5 6")[0]), [5, 6])
        (self.folder / "pytorch_model.bin").write_bytes(b"")
        self.sentence(bobbin("run", self.folder, "-p", "1", status=1)[1], "pytorch_model.bin isn't read")

    def test_model_from_stdin(self):
        self.sentence(bobbin("inspect", "-", status=2)[1], "can't be read from stdin")

    def test_not_a_model(self):
        path = self.folder / "x.gguf"
        path.write_bytes(b"hello")
        self.sentence(bobbin("inspect", path, status=1)[1], str(path))

    def test_empty_file(self):
        path = self.folder / "x.gguf"
        path.write_bytes(b"")
        self.sentence(bobbin("run", path, "-p", "1", status=1)[1], str(path))

    def test_truncated_model(self):
        path = self.folder / "x.gguf"
        path.write_bytes(TINY.read_bytes()[:-4096])
        self.sentence(bobbin("run", path, "-p", "1", status=1)[1], str(path))

    def test_inspect(self):
        out = bobbin("inspect", TINY)[0].decode()
        for word in ("llama", "token_embd.weight", "memory", "layer 0"):
            self.assertIn(word, out)

    def test_inspect_json(self):
        root = json.loads(bobbin("inspect", TINY, "--json")[0])
        self.assertEqual(root["arch"], "llama")
        self.assertTrue(root["tensors"] and root["layers"] and root["memory"])

    def test_kernels(self):
        out = bobbin("kernels")[0].decode()
        self.assertIn("chosen", out)

    def test_kernels_json_forced_level(self):
        root = json.loads(bobbin("kernels", "--json", "--isa", "c")[0])
        chosen = {row["variant"] for row in root["variants"] if row["status"] == "chosen"}
        self.assertEqual(chosen, {"c"})

    def test_level_that_this_machine_lacks(self):
        rows = json.loads(bobbin("kernels", "--json")[0])["variants"]
        lacking = {row["variant"] for row in rows if row["status"] == "this CPU lacks it"}
        for level in lacking & {"avx2", "avx_vnni", "avx512", "avx512_vnni", "avx512_bf16"}:
            _, err = bobbin("run", TINY, "-p", "1", "--isa", level, status=1)
            self.sentence(err, f"bobbin run: this machine can't run ISA level '{level}'")

    def test_notice_above_the_trained_length(self):
        err = bobbin("run", TINY, "-p", "1", "-n", "1", "-c", "1000000")[1].decode()
        self.assertIn("1000000", err)
