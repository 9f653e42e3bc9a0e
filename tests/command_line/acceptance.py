# SPDX-License-Identifier: Apache-2.0
"""bench/gpu-acceptance, played on the emulator, with stand-ins for what a machine with a GPU has: they print what the
real tools print."""
import array
import json
import math
import os
import subprocess
import sys
import unittest

from case import BUILD, ROOT, SECONDS, Case, read_npy

SCRIPT = ROOT / "bench/gpu-acceptance"
STEPS = ("record", "build", "limits", "checks", "engine", "timings", "comparators", "profile", "models", "sanitizer")
HAS_SIMT = all((BUILD / f"kernels/cuda/libbobbin_{name}.so").exists() for name in ("simt", "simt_check"))

NVIDIA_SMI = """#!/bin/sh
echo "NVIDIA H100 80GB HBM3, 9.0, 580.159.04, 1980 MHz, 2619 MHz, 700.00 W, 34"
"""
# Runs what it is given; the log is the real one's.
SANITIZER = """#!/bin/sh
[ "$1" = --version ] && { echo "Version 2025.3.1.0 (build 36400000)"; exit; }
tool=$2; log=$4; shift 6
"$@" || exit
echo "========= COMPUTE-SANITIZER" >"$log"
if [ "$tool" = racecheck ]; then
	echo "========= RACECHECK SUMMARY: 0 hazards displayed (0 errors, 0 warnings)"
else
	echo "========= ERROR SUMMARY: 0 errors"
fi >>"$log"
"""
SANITIZER_FINDS = """#!/bin/sh
[ "$1" = --version ] && exit
cat >"$4" <<'END'
========= COMPUTE-SANITIZER
========= Invalid __global__ read of size 4 bytes
=========     at add_k(float *, const float *, unsigned long)+0x90 in pointwise.cu:20
=========     by thread (1,0,0) in block (0,0,0)
========= ERROR SUMMARY: 1 error
END
exit 86
"""
# Counts what the emulator's checker counts, in the columns of `--csv --page raw`.
NCU = """#!/usr/bin/env python3
import csv, json, subprocess, sys
args = sys.argv[1:]
prefix = "l1tex__t_sectors_pipe_lsu_mem_global_op_"
names = [prefix + "ld", prefix + "ldgsts", prefix + "st", "l1tex__data_bank_conflicts_pipe_lsu_mem_shared"]
if args == ["--version"]:
    print("NVIDIA (R) Nsight Compute Command Line Profiler\\nVersion 2025.3.1.0 (build 36398880) (public-release)")
elif args == ["--query-metrics"]:
    print("Device NVIDIA H100 80GB HBM3 (GH100)\\n" + "-" * 20 + " --------\\nMetric Name   Metric Type")
    print("\\n".join(name + "   Counter   sector   # of something" for name in names))
else:
    log = args[args.index("--log-file") + 1]
    command = args[args.index("--log-file") + 2:]
    command[command.index("--device") + 1] = "simt_check"
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    with open(log, "w", newline="") as out:
        out.write("==PROF== Connected to process 1\\n")
        rows = csv.writer(out, quoting=csv.QUOTE_ALL)
        metrics = [name + ".sum" for name in names] + ["launch__registers_per_thread",
                                                      "launch__shared_mem_per_block_dynamic"]
        rows.writerow(["ID", "Kernel Name", "Block Size", "Grid Size", *metrics])
        rows.writerow(["", "", "", "", "sector", "sector", "sector", "", "register/thread", "byte/block"])
        launches = [json.loads(line) for line in output.splitlines() if '"launch"' in line]
        rows.writerow(["0", "nothing(int)", "(1, 1, 1)", "(1, 1, 1)", "0", "0", "0", "0", "16", "0"])
        for i, l in enumerate(launches):
            rows.writerow([i + 1, "void " + l["launch"].strip("()") + "(float *)", tuple(l["block"]), tuple(l["grid"]),
                           f"{l['read_bytes'] // 32:,}", "0", f"{l['written_bytes'] // 32:,}",
                           l["wavefronts"] - l["ideal_wavefronts"], "32", f"{l['shared_bytes']:,}"])
"""
NCU_DENIED = """#!/bin/sh
[ "$1" = --version ] && exit
echo "==ERROR== ERR_NVGPUCTRPERM - The user does not have permission to access NVIDIA GPU Performance Counters"
exit 1
"""
PEER = """import json, sys
print(json.dumps({"torch": "2.11.0"}), flush=True)
for line in sys.stdin:
    request = json.loads(line)
    if request.get("rows", 0) >= 256:
        print(json.dumps({"error": "CUDA out of memory"}), flush=True)
        continue
    print(json.dumps({"seconds": 1e-3, "work": 1e9, "backend": "flash", "times": {"flash": 1e-3}, "runs": 50}),
          flush=True)
"""
# As much of PyTorch as torch_peer.py calls, without the arithmetic.
TORCH = {"torch/__init__.py": """import contextlib
__version__ = "2.11.0+cpu"
float16, bfloat16, float32, int32, int8 = "float16", "bfloat16", "float32", "int32", "int8"
class Tensor:
    def __init__(self, *shape):
        self.shape = shape
    def view(self, dtype):
        return self
    sum = t = lambda self: self
    def copy_(self, source):
        assert source.shape == self.shape
def randn(*shape, dtype, device):
    assert device == "cpu"
    return Tensor(*shape)
def randint(low, high, shape, dtype, device):
    return Tensor(*shape)
def empty_like(x):
    return Tensor(*x.shape)
def matmul(a, b):
    return Tensor(a.shape[0], b.shape[1])
def manual_seed(seed):
    pass
inference_mode = contextlib.nullcontext
from . import nn
""", "torch/nn/__init__.py": "from . import attention, functional\n",
         "torch/nn/attention.py": """import contextlib, enum
SDPBackend = enum.Enum("SDPBackend", "MATH FLASH_ATTENTION CUDNN_ATTENTION")
sdpa_kernel = contextlib.nullcontext
""", "torch/nn/functional.py": """def linear(x, w):
    assert x.shape[1] == w.shape[1]
def scaled_dot_product_attention(q, k, v, is_causal, enable_gqa):
    assert enable_gqa and k.shape == v.shape and q.shape[0] == k.shape[0] and is_causal == (q.shape[2] > 1)
    if q.shape[2] == 64:
        raise RuntimeError("no kernel for 64 rows\\nmore")
"""}
# Judges what a tool printed; the functions want a job, its items are what is looked at.
JUDGE = """import json, pathlib, sys
sys.path[0] = sys.argv[1]
from acceptance import job, kernels, profile
from acceptance.job import Done
run = job.Job("simt", pathlib.Path("none"), 10)
"""
PEER_DIES = "import sys\nprint('{\"torch\": \"2\"}', flush=True)\nsys.stdin.readline()\n"


@unittest.skipUnless(HAS_SIMT, "this build has no emulator")
class Acceptance(Case):
    emulated = True

    def tools(self, **programs):
        folder = self.folder / "tools"
        folder.mkdir(exist_ok=True)
        for name, text in programs.items():
            path = folder / {"torch_peer": "torch_peer.py"}.get(name, name.replace("_", "-"))
            path.write_text(text, encoding="utf-8")
            path.chmod(0o755)
        return folder

    def play(self, *args, status=0, **env):
        """The items of a run, its page and what it printed."""
        out = self.folder / "out"
        done = subprocess.run([sys.executable, SCRIPT, "--build", BUILD, "-o", out, *map(str, args)],
                              capture_output=True, text=True, timeout=SECONDS, check=False,
                              env={**os.environ, **env})
        self.assertEqual(done.returncode, status, done.stdout[-3000:] + done.stderr[-2000:])
        lines, page = sorted(out.glob("*.jsonl"))[-1], sorted(out.glob("*.md"))[-1]
        items = [json.loads(line) for line in lines.read_text(encoding="utf-8").splitlines()]
        return items, page.read_text(encoding="utf-8"), done.stdout

    def of(self, items, step, **fields):
        return [i for i in items if i["step"] == step and all(i.get(k) == v for k, v in fields.items())]

    def test_every_step_with_every_tool(self):
        tools = self.tools(nvidia_smi=NVIDIA_SMI, compute_sanitizer=SANITIZER, ncu=NCU, torch_peer=PEER)
        items, page, out = self.play("--device", "simt", "--tools", tools)
        self.assertEqual(list(dict.fromkeys(i["step"] for i in items)), list(STEPS))
        self.assertEqual(self.of(items, "record", item="card")[0]["driver_version"], "580.159.04")
        self.assertEqual({(i["device"], i["gpu"]) for i in items}, {("simt", "NVIDIA H100 80GB HBM3")})
        self.assertAlmostEqual(self.of(items, "limits", item="matmul")[0]["share_of_datasheet"], 1e12 / 989e12)
        self.assertGreaterEqual(len(self.of(items, "checks", status="passed")), 4)
        self.assertEqual(self.of(items, "engine", item="test_golden")[0]["n_passed"], 1)
        decode = [i for i in self.of(items, "timings") if "decode" in i["item"]]
        self.assertTrue(decode and all(i["share_of_measured"] > 0 and i["bound"] for i in decode))
        self.assertTrue(any(i["item"].startswith("matmul_q8_0 fast 64 x ") for i in self.of(items, "timings")))
        self.assertTrue(any(" fast pp64 " in i["item"] for i in self.of(items, "models", status="measured")))
        compared = self.of(items, "comparators", status="measured")
        self.assertTrue(compared and any(" fast " in i["item"] for i in compared))
        for item in compared:
            self.assertAlmostEqual(item["ratio"], 1000 / item["median_us"], 3)
        self.assertEqual(self.of(items, "comparators", status="skipped")[0]["reason"], "torch: CUDA out of memory")
        self.assertTrue(all(i["tokens_per_s"] > 0 for i in self.of(items, "models")))
        self.assertEqual([i["item"].split()[0] for i in self.of(items, "sanitizer", status="passed")],
                         ["memcheck", "racecheck", "synccheck", "initcheck"])
        counted = self.of(items, "profile", status="passed")
        self.assertTrue(counted and all(i["ncu_sectors"] == i["emu_sectors"] > 0 for i in counted), counted)
        for step in STEPS[1:]:
            self.assertIn(f"## {step}\n", page)
        widths = {line.count("|") for line in page.split("## checks")[1].split("##")[0].splitlines() if line}
        self.assertEqual(len(widths), 1)
        self.assertIn(" 0 failed, ", out)
        lines = next((self.folder / "out").glob("*.jsonl"))
        self.assertEqual(subprocess.run([sys.executable, SCRIPT, "--render", lines], capture_output=True, text=True,
                                        check=True).stdout, page)

    def test_what_is_missing_is_skipped_with_a_reason(self):
        items, page, _ = self.play("--device", "simt", *(word for step in ("comparators", "profile", "sanitizer")
                                                         for word in ("--only", step)), "--tools",
                                   self.tools(torch_peer="print('{\"fatal\": \"torch finds no GPU\"}')"))
        self.assertEqual(self.of(items, "record", item="card")[0]["reason"], "nvidia-smi is missing")
        self.assertEqual(self.of(items, "comparators")[0]["reason"], "torch finds no GPU")
        self.assertEqual(self.of(items, "profile")[0]["reason"], "ncu is missing")
        self.assertEqual(self.of(items, "limits", item="copy")[0]["status"], "measured")
        self.assertEqual(self.of(items, "sanitizer")[-1]["status"], "passed", "the emulator's own checker")
        self.assertIn("torch finds no GPU", page)

    def test_what_is_asked_of_torch(self):
        for name, text in TORCH.items():
            (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / name).write_text(text, encoding="utf-8")
        items, _, _ = self.play("--device", "simt", "--only", "timings", "--only", "comparators",
                                PYTHONPATH=str(self.folder))
        self.assertEqual(items[-1]["torch"], "2.11.0+cpu")
        self.assertEqual([i["item"] for i in self.of(items, "limits")], ["copy", "read", "matmul"])
        compared = self.of(items, "comparators", status="measured")
        self.assertEqual({i["comparator"] for i in compared} - {"F.linear", "torch.matmul"}, {"math"})
        self.assertTrue(all(len(i["comparator_all_us"]) == 2 and i["ratio"] > 0 for i in compared))
        self.assertEqual([i["reason"] for i in self.of(items, "comparators", status="skipped")],
                         ["torch: RuntimeError: math: no kernel for 64 rows"])

    def test_findings_and_refusals(self):
        tools = self.tools(nvidia_smi="#!/bin/sh\necho no devices were found\nexit 6\n", ncu=NCU_DENIED,
                           compute_sanitizer=SANITIZER_FINDS, torch_peer=PEER_DIES)
        items, _, _ = self.play("--device", "simt", "--tools", tools, "--only", "sanitizer", "--only", "profile",
                                status=1)
        self.assertIn("no devices were found", self.of(items, "record", item="card")[0]["reason"])
        self.assertEqual(self.of(items, "limits", item="limits by torch")[0]["reason"], "torch's process ended")
        found = self.of(items, "sanitizer", status="failed")
        self.assertEqual(len(found), 4)
        self.assertEqual((found[0]["n_findings"], found[0]["reason"]), (1, "Invalid __global__ read of size 4 bytes"))
        self.assertIn("ERR_NVGPUCTRPERM", self.of(items, "profile")[0]["reason"])
        self.assertEqual(self.of(items, "profile")[0]["status"], "skipped")

    def test_a_machine_without_a_build(self):
        items, _, _ = self.play("--device", "cuda", "--build", self.folder / "none", status=1, PATH="/nonexistent")
        self.assertEqual([(i["item"], i["status"]) for i in items],
                         [("card", "failed"), ("machine", "measured"), ("build", "failed")])
        self.assertIn("meson or ninja is missing", items[-1]["reason"])

    def test_no_time(self):
        items, page, _ = self.play("--device", "simt", "--minutes", "0.001", "--only", "checks", "--only", "models")
        for step in ("checks", "models"):
            self.assertEqual({i["reason"] for i in self.of(items, step)}, {"no time is left for it"})
        self.assertIn("## models", page)

    def test_list_and_help(self):
        for word in ("--list", "--help"):
            done = subprocess.run([sys.executable, SCRIPT, word], capture_output=True, text=True, check=True)
            self.assertIn("sanitizer", done.stdout)
        done = subprocess.run([sys.executable, SCRIPT, "--list"], capture_output=True, text=True, check=True)
        self.assertEqual([line.split()[0] for line in done.stdout.splitlines()], list(STEPS))


class Judgements(Case):
    def judged(self, script):
        done = subprocess.run([sys.executable, "-B", "-c", JUDGE + script + "\nprint(json.dumps(run.items))",
                               ROOT / "bench"], capture_output=True, text=True, check=True)
        return json.loads(done.stdout.splitlines()[-1])

    def test_a_sanitizer_that_is_stopped_has_not_passed(self):
        items = self.judged("""
ok = "ok    add              sm80        12 cases\\n"
clean = "========= ERROR SUMMARY: 0 errors\\n"
kernels.judge(run, "whole", Done(0, ok, "", 9, False), clean)
kernels.judge(run, "some", Done(-9, 2 * ok, "", 9, True), "")
kernels.judge(run, "none", Done(-9, "", "", 9, True), "")
kernels.judge(run, "found", Done(-9, ok, "", 9, True), "========= Invalid __global__ read of size 4 bytes\\n")
""")
        self.assertEqual([(i["item"], i["status"]) for i in items],
                         [("whole", "passed"), ("some", "cut off"), ("none", "skipped"), ("found", "failed")])
        self.assertEqual(items[1]["kernels_done"], 2)
        self.assertEqual(items[1]["reason"], "stopped at its limit of 9 s after 2 kernels")

    def test_sectors_and_conflicts_are_compared_where_tiles_are_the_same(self):
        items = self.judged("""
def launch(sectors, conflicts, blocks=4):
    return ({"kernel": "k", "shape": [blocks, 1, 1, 32, 1, 1], "registers": 32.0, "reads": sectors,
             "writes": 0, "conflicts": conflicts},
            {"kernel": "k", "shape": [4, 1, 1, 32, 1, 1], "sectors": 1000, "conflicts": 50, "wavefronts": 1000})
for name, ours in (("same", (1000, 50)), ("near", (1015, 65)), ("sectors", (1030, 50)), ("conflicts", (1000, 80)),
                   ("fewer", (1000, 20)), ("tiles", (1000, 80, 8))):
    profile.compare(run, name, *([x] for x in launch(*ours)))
""")
        self.assertEqual([i["status"] for i in items], ["passed", "passed", "failed", "failed", "failed", "skipped"])
        self.assertIn("sectors", items[2]["reason"])
        self.assertIn("bank conflicts", items[3]["reason"])


class RandomModel(Case):
    def test_every_type_opens_and_has_finite_logits(self):
        for kind in ("Q4_0", "Q4_1", "Q5_0", "Q8_0", "Q4_K", "Q6_K", "F16", "BF16", "F32"):
            with self.subTest(kind):
                path = self.folder / "model.gguf"
                subprocess.run([sys.executable, ROOT / "bench/random_model", path, "--type", kind], check=True,
                               capture_output=True)
                done = subprocess.run([BUILD / "tools/bobbin", "logits", path, "--tokens", self.ids(20), "-o",
                                       self.folder / "out.npy"], capture_output=True, text=True, check=False)
                self.assertEqual((done.returncode, "finite" in done.stderr), (0, False), done.stderr)
                rows, columns, data = read_npy(self.folder / "out.npy")
                logits = array.array("f", data)
                self.assertEqual((rows, columns), (20, 512))
                size = math.sqrt(sum(x * x for x in logits) / len(logits))
                self.assertTrue(0.3 < size < 3, size)
