# SPDX-License-Identifier: Apache-2.0
"""Options, help, the man page and the completions."""
import json
import pathlib
import re
import subprocess
import sys

from case import BOBBIN, BUILD, COMMANDS, REAL, ROOT, SECONDS, TINY, Case, bobbin, options_of, real


class Usage(Case):
    def test_help(self):
        out, err = bobbin("--help")
        self.assertEqual(err, b"")
        for command in COMMANDS:
            self.assertRegex(out.decode(), rf"\n  {command} ")
        self.assertEqual(out, bobbin("help")[0])

    def test_version(self):
        self.assertRegex(bobbin("--version")[0], rb"^bobbin \d+\.\d+\.\d+\n$")
        self.assertEqual(bobbin("--version")[0], bobbin("run", "--version")[0])

    def test_no_command(self):
        self.sentence(bobbin(status=2)[1], "no command")

    def test_unknown_command(self):
        self.sentence(bobbin("benhc", status=2)[1], "benhc", "'bench'")

    def test_unknown_command_far_from_all(self):
        self.sentence(bobbin("xyzzyplugh", status=2)[1], "xyzzyplugh", "--help")

    def test_unknown_option_suggests(self):
        self.sentence(bobbin("run", TINY, "--tmep", "1", status=2)[1], "--tmep", "'--temp'")

    def test_suggestions_make_sense(self):
        self.assertNotIn(b"did you mean", bobbin("bench", TINY, "-c", "5", status=2)[1])
        self.sentence(bobbin("run", "--hlep", status=2)[1], "'--help'")
        self.sentence(bobbin("--verson", status=2)[1], "'--version'")

    def test_unknown_option_of_every_command(self):
        for command in COMMANDS:
            with self.subTest(command):
                self.sentence(bobbin(command, "--no-such-thing", status=2)[1], "--no-such-thing")

    def test_missing_value(self):
        self.sentence(bobbin("run", TINY, "-n", status=2)[1], "-n", "needs a value")

    def test_value_of_a_flag(self):
        self.sentence(bobbin("run", TINY, "--raw=1", status=2)[1], "--raw", "takes no value")

    def test_bad_numbers(self):
        for option, value in (("-n", "x"), ("-n", "1.5"), ("-n", "-2"), ("-t", "-1"), ("--temp", "hot"),
                              ("--temp", "-1"), ("--temp", "nan"), ("--top-p", "0"), ("--top-p", "1.1"),
                              ("--min-p", "2"), ("--top-k", "-5"), ("--presence-penalty", "3"), ("--seed", "-7"),
                              ("--seed", "1e3"), ("--repetition-penalty", "0"), ("-n", "99999999999999999999")):
            with self.subTest(f"{option} {value}"):
                self.sentence(bobbin("run", TINY, "-p", "1", option, value, status=2)[1], option, value)

    def test_leading_zeros_change_no_number(self):
        want = bobbin("run", TINY, "-p", "1 2", "-n", "010", "--seed", "10")
        self.assertEqual(len(want[0].split()), 10)
        for seed in ("010", "0010"):
            self.assertEqual(bobbin("run", TINY, "-p", "1 2", "-n", "10", "--seed", seed)[0], want[0])
        self.assertIn(b"seed 8\n", bobbin("run", TINY, "-p", "1 2", "-n", "08", "--seed", "08")[1])
        self.sentence(bobbin("run", TINY, "-p", "1", "--seed", "0x10", status=2)[1], "'0x10'")

    def test_columns_of_help(self):
        for command in COMMANDS:
            for line in bobbin(command, "--help")[0].decode().splitlines():
                if re.match(r"  -\S.*\S  ", line):
                    self.assertRegex(line, r"^.{32}  \S", command)

    def test_bad_words(self):
        for option, value in (("--device", "tpu"), ("--isa", "sse9"), ("--gemm", "wild"),
                              ("--kv-cache-dtype", "f99")):
            with self.subTest(f"{option} {value}"):
                self.sentence(bobbin("run", TINY, "-p", "1", option, value, status=2)[1], value)

    def test_values_named_by_errors_and_help_are_taken(self):
        help_text = bobbin("run", "--help")[0].decode()
        for option, refused in (("--kv-cache-dtype", ("int4", "fp8")),):
            _, err = bobbin("run", TINY, "-p", "1", option, "xyz", status=2)
            line = next(row for row in help_text.splitlines() if f" {option} " in row)
            for name in refused:
                self.assertNotIn(name, err.decode() + line)

    def test_devices(self):
        modules = BUILD / "kernels/cuda"
        want = bobbin("run", TINY, "-p", "1 2 3", "-n", "6", "--temp", "0", "--device", "cpu")
        if (modules / "libbobbin_simt.so").exists():
            out, err = bobbin("run", TINY, "-p", "1 2 3", "-n", "6", "--temp", "0", "--device", "simt")
            self.assertEqual(out, want[0])
            self.assertIn(b"device simt: ", err)
            self.sentence(bobbin("run", TINY, "-p", "1", "--device", "simt", "--device-memory-bytes", "100K",
                                 status=1)[1], "device memory")
            rows = json.loads(bobbin("bench", TINY, "-p", "4", "-n", "2", "-r", "1", "--device", "simt", "--json")[0])
            self.assertEqual({row["backends"] for row in rows}, {"SIMT"})
        if not pathlib.Path("/proc/driver/nvidia/version").exists():
            self.sentence(bobbin("run", TINY, "-p", "1", "--device", "cuda", status=1)[1], "device cuda: ")
        self.assertNotIn(b"device", want[1])

    def test_gemm_fast(self):
        prompt = ("-p", " ".join(str(i % 150) for i in range(80)), "-n", "2", "--temp", "0")
        out, err = bobbin("run", TINY, *prompt, "--gemm", "fast")
        self.assertIn(b"gemm fast changes nothing on the CPU", err)
        want, err = bobbin("run", TINY, *prompt, "--gemm", "exact")
        self.assertEqual(out, want)
        self.assertNotIn(b"gemm", err)
        if not (BUILD / "kernels/cuda/libbobbin_simt.so").exists():
            return
        out, err = bobbin("run", TINY, *prompt, "--device", "simt", "--gemm", "fast")
        self.assertEqual(len(out.split()), 2)
        self.assertIn(b"bits may depend on how work is batched", err)
        out, _ = bobbin("inspect", TINY, "--device", "simt", "--gemm", "fast")
        self.assertIn(b"gemm fast: bits may depend on how work is batched", out.splitlines()[0])
        rows = json.loads(bobbin("bench", TINY, "-p", "64", "-n", "0", "-r", "1", "--device", "simt", "--gemm", "fast",
                                 "--json")[0])
        self.assertEqual({row["gemm"] for row in rows}, {"fast"})

    def test_gemm_wgmma(self):
        self.sentence(bobbin("run", TINY, "-p", "1", "--gemm", "wgmma", status=1)[1],
                      "gemm wgmma on device cpu: it is for a GPU of compute capability 9.0")
        if not (BUILD / "kernels/cuda/libbobbin_simt.so").exists():
            return
        out, _ = bobbin("inspect", TINY, "--device", "simt", "--gemm", "wgmma")
        self.assertIn(b"gemm wgmma: bits may depend on how work is batched", out.splitlines()[0])
        model, out = self.folder / "model.gguf", self.folder / "out.npy"
        for kind in ("BF16", "F16"):
            subprocess.run([sys.executable, ROOT / "bench/random_model", model, "--type", kind], check=True,
                           capture_output=True)
            logits = {}
            for gemm in ("exact", "wgmma"):
                bobbin("logits", model, "--tokens", self.ids(80), "-o", out, "--device", "simt", "--gemm", gemm)
                logits[gemm] = out.read_bytes()
            self.assertEqual(logits["exact"], logits["wgmma"], kind)

    def test_deterministic(self):
        want, _ = bobbin("run", TINY, "-p", "1 2 3", "-n", "4", "--temp", "0")
        for option in ("--deterministic", "--enable-deterministic-inference"):
            for more in ((), ("--gemm", "exact")):
                self.assertEqual(bobbin("run", TINY, "-p", "1 2 3", "-n", "4", "--temp", "0", option, *more)[0], want)
            for words in (("--gemm", "fast", option), (option, "--gemm=fast")):
                self.sentence(bobbin("run", TINY, "-p", "1", *words, status=2)[1], "'--gemm fast'")
        self.sentence(bobbin("inspect", TINY, "--deterministic", "--gemm", "fast", status=2)[1], "'--gemm fast'")

    def test_names_that_are_not_built(self):
        for option, value in (("--kv-cache-dtype", "int4"), ("--kv-cache-dtype", "fp8")):
            with self.subTest(f"{option} {value}"):
                self.sentence(bobbin("run", TINY, "-p", "1", option, value, status=1)[1], value, "build")

    def test_options_that_are_not_built(self):
        names = ("--kv-policy", "--kv-policy=a:b=1", "--session-dir", "--session_dir")
        for command in ("run", "chat", "bench", "perplexity", "logits", "inspect"):
            for name in (*names, "--session") if command == "chat" else names:
                with self.subTest(f"{command} {name}"):
                    option = name.split("=")[0].replace("_", "-")
                    self.sentence(bobbin(command, TINY, name, "x", status=1)[1], f"'{option}' isn't in this build")
        self.sentence(bobbin("run", TINY, "--session", "x", status=2)[1], "unknown option '--session'")
        self.sentence(bobbin("run", TINY, "-ngl", "99", status=2)[1], "unknown option '-ngl'")
        self.sentence(bobbin("run", "", "-p", "1", status=2)[1], "MODEL is empty")

    def test_bytes(self):
        for value in ("0", "64M", "1G", "65536K", "67108864"):
            bobbin("run", TINY, "-p", "1 2", "-n", "1", "--kv-cache-bytes", value)
        for value in ("1T", "-1", "M", "1MM", "1.5G", "9999999999G", ""):
            with self.subTest(value):
                _, err = bobbin("run", TINY, "-p", "1", "--kv-cache-bytes", value, status=2)
                self.sentence(err, f"'{value}'", "K, M or G")

    def test_limit_on_the_kv_cache(self):
        text = self.folder / "text"
        text.write_text("1 2 3 " * 100, encoding="utf-8")
        for args in (("run", TINY, "-p", "1 2"), ("bench", TINY, "-p", "8", "-n", "0", "-o", "csv"),
                     ("perplexity", TINY, "-f", text, "-c", "64"),
                     ("logits", TINY, "--tokens", self.ids(9), "-o", self.folder / "o.npy")):
            with self.subTest(args[0]):
                _, err = bobbin(*args, "--kv-cache-memory-bytes", "1K", status=1)
                self.assertRegex(err, rb"KV cache: a page needs \d+ bytes, 0 of the limit of 1024 are in use")

    def test_second_model(self):
        self.sentence(bobbin("run", TINY, TINY, status=2)[1], "too many")

    def test_no_model(self):
        for command in ("run", "chat", "tokenize", "detokenize", "inspect", "bench", "logits", "perplexity"):
            with self.subTest(command):
                self.sentence(bobbin(command, status=2)[1], "no MODEL")

    def test_bad_logit_bias(self):
        for value in ("5", "5=", "x=1", "5=500", "-1=1"):
            with self.subTest(value):
                self.sentence(bobbin("run", TINY, "-p", "1", "--logit-bias", value, status=2)[1], value)

    def test_options_that_exclude_each_other(self):
        self.sentence(bobbin("run", TINY, "-p", "1", "-f", "x", status=2)[1], "-p", "-f")
        self.sentence(bobbin("run", TINY, "-p", "1", "--raw", "--system", "x", status=2)[1], "--system")
        self.sentence(bobbin("run", TINY, "-p", "1", "--logprobs", "3", status=2)[1], "--json")

    def test_spellings_of_values(self):
        want = bobbin("run", TINY, "-p", "1 2", "-n", "4", "--temp", "0")[0]
        for args in (("-p=1 2", "-n4", "--temp=0"), ("--prompt", "1 2", "--max-tokens=4", "--temperature", "0"),
                     ("--prompt=1 2", "--max_tokens", "4", "--temp", "0")):
            self.assertEqual(bobbin("run", *args, "-m", TINY)[0], want)

    @real
    def test_commands_of_the_readme(self):
        block = re.search(r"^## Use\n+```\n(.*?)^```", (ROOT / "README.md").read_text(encoding="utf-8"),
                          re.M | re.S).group(1).splitlines()
        self.assertGreater(len(block), 5)
        (self.folder / "model.gguf").symlink_to(REAL)
        (self.folder / "build/tools").mkdir(parents=True)
        (self.folder / "build/tools/bobbin").symlink_to(BOBBIN)
        (self.folder / "prompt.txt").write_text("Why is the sky blue?", encoding="utf-8")
        (self.folder / "book.txt").write_text("It was a dark and stormy night. " * 200, encoding="utf-8")
        (self.folder / "person.json").write_text('{"type": "object", "properties": {"name": {"type": "string"}}}',
                                                 encoding="utf-8")
        shorter = {"run": "-n 4", "chat": "-n 4", "bench": "-p 16 -n 4 -d 0,16 -r 1", "perplexity": "--chunks 1"}
        for line in block:
            command = re.search(r"build/tools/bobbin (\w+)", line).group(1)
            if command == "serve":  # tests/server has its examples
                continue
            with self.subTest(line):
                done = subprocess.run(["bash", "-c", f"{line} {shorter.get(command, '')}"], input=b"Hi\n",
                                      capture_output=True, timeout=SECONDS, check=False, cwd=self.folder)
                self.assertEqual(done.returncode, 0, done.stderr)
                self.assertNotEqual(done.stdout.strip(), b"")

    def test_man_page_names_every_option(self):
        page = (ROOT / "tools/bobbin.1.scd").read_text(encoding="utf-8")
        for command in COMMANDS:
            self.assertTrue(f"*bobbin {command}*" in page, command)
            for name in options_of(command):
                self.assertTrue(f"*{name}*" in page, f"{command} {name}")

    def test_man_page_names_no_other(self):
        page = (ROOT / "tools/bobbin.1.scd").read_text(encoding="utf-8")
        known = {name for command in COMMANDS for name in options_of(command)}
        for name in re.findall(r"\*(--[a-z-]+)", page):
            self.assertIn(name, known | {"--name"})

    def test_completions_hold_every_spelling(self):
        script = (ROOT / "tools/completions/bobbin.bash").read_text(encoding="utf-8")
        words = re.search(r"\trun\) words=\"(.*)\"", script)
        self.assertLessEqual({"--deterministic", "--enable-deterministic-inference", "-h", "--help", "-c"},
                             set(words[1].split()))

    def test_completions_are_current(self):
        done = subprocess.run([ROOT / "tools/completions/make", BOBBIN, "--check"], capture_output=True,
                              timeout=SECONDS, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_bash_completion_completes(self):
        script = (f"source {ROOT}/tools/completions/bobbin.bash; COMP_WORDS=(bobbin run --te); COMP_CWORD=2; "
                  "_bobbin; echo ${COMPREPLY[@]}")
        done = subprocess.run(["bash", "-c", script], capture_output=True, timeout=SECONDS, check=True)
        self.assertEqual(done.stdout.split(), [b"--temp", b"--temperature"])
