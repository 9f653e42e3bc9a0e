# SPDX-License-Identifier: Apache-2.0
"""The kernels: their checks, the same under compute-sanitizer, their times beside the limits and beside PyTorch's."""
import pathlib
import re
import tempfile
import xml.etree.ElementTree as ET

from acceptance import machine, peer
from acceptance.job import Skip, json_lines

SEED = "1"
SLOW = "attention_*|matmul_*"  # under any checker
AT_ONCE = {"cuda": 8, "simt": 1}  # processes that share the device; their references take the CPU
# On the emulator only to play the script: a kernel of each kind.
CHECKED = {"cuda": "*", "simt": "@(add|rmsnorm|matmul_q8_0)"}
SHAPES = {"cuda": (), "simt": ("--small",)}
SANITIZED = {"cuda": (f"!({SLOW})", "@(attention_f16|attention_int8|matmul_bf16|matmul_q8_0|matmul_q4_k)"),
             "simt": ("add",)}
TIMED = {"cuda": ("attention_f16", "attention_int8", "matmul_bf16", "matmul_q8_0", "matmul_q4_k", "matmul_q6_k",
                  "matmul_q4_0", "attention_bf16", "matmul_f16", f"!({SLOW})"),
         "simt": ("attention_f16", "matmul_q8_0", "matmul_bf16")}
COMPARED = {"cuda": ("attention_f16", "matmul_bf16", "matmul_q8_0"), "simt": ("attention_f16", "matmul_bf16")}
TOOLS = ("memcheck", "racecheck", "synccheck", "initcheck")
# What each tool calls a finding, at the start of a line after its bars.
FINDING = re.compile(r"^========= ((?:Invalid|Misaligned|Program hit|Error: |Warning: Race|Race reported|Barrier error|"
                     r"Uninitialized|Out-of-range|Potential|Leaked).*)$", re.M)
SUMMARY = re.compile(r"ERROR SUMMARY: (\d+) error|RACECHECK SUMMARY: (\d+) hazard")
REFUSED = re.compile(r"Device not supported|is not supported on|Unable to find|Target application terminated before "
                     r"first instrumented API call|No attachable process")


def checkkernels(job, *more):
    return [job.program("tests/checkkernels"), "--device", job.device, "--seed", SEED, *more]


def checks(job):
    """Every variant against the reference, and the bits of its rows alone, at other alignments and a second time. A
    process for each kernel: a fault of one leaves the others' device as it was."""
    done = job.run(checkkernels(job, "--list", "--kernel", CHECKED[job.device]), 20)
    names = list(dict.fromkeys(line.split()[0] for line in done.out.splitlines()
                               if line.endswith("modules of devices")))
    if done.status or not names:
        job.item("checkkernels", "failed", done.why() if done.status else "it lists no kernel")
    answers = job.side_by_side(lambda name: job.run(checkkernels(job, *SHAPES[job.device], "--json", "--kernel", name)),
                               names, AT_ONCE[job.device])
    for name, answer in zip(names, answers):
        if isinstance(answer, Skip):
            job.item(name, "skipped", str(answer))
            continue
        lines = json_lines(answer.out)
        for line in lines:
            status = {"ok": "passed", "FAIL": "failed"}.get(line.get("result"), "skipped")
            job.item(f"{line.get('kernel')} {line.get('variant')}", status, line.get("message"), seed=line.get("seed"),
                     cases=line.get("cases"), worst=line.get("worst"))
            if "other_rows" in line:
                bits(job, line)
        closing(job, name, answer)


def bits(job, line):
    """Whether --gemm wgmma has the bits of the ordinary kernel, which computed each of the rows alone: what decides
    whether it may become the default."""
    n, other = line["rows"], line["other_rows"]
    job.item(f"{line['kernel']} wgmma beside the ordinary kernel", "measured",
             f"{n - other} of {n} rows have the same bits", rows=n, other_rows=other, same_bits=n > 0 and other == 0)


def closing(job, name, done):
    """An item where checkkernels itself ended badly, or was stopped."""
    found = re.findall(r"^(\d+) passed, (\d+) failed, (\d+) skipped$", done.out + done.err, re.M)
    if done.was_stopped:
        job.item(f"checkkernels {name}", "skipped", done.why() + "; what comes after wasn't played")
    elif not found or done.status and found[-1][1] == "0":
        job.item(f"checkkernels {name}", "failed", done.why(), output=done.err[-2000:])


# ---- compute-sanitizer ----

def sanitized(job, program, tool, kernels):
    """What became of the command, and its log."""
    with tempfile.TemporaryDirectory() as folder:
        log = pathlib.Path(folder, "log")
        done = job.run([program, "--tool", tool, "--log-file", log, "--error-exitcode", "86",
                        *checkkernels(job, "--small", "--gemm", "exact", "--kernel", kernels)])
        return done, log.read_text(errors="replace") if log.exists() else ""


def judge(job, name, done, text):
    findings = FINDING.findall(text)
    summary = SUMMARY.search(text)
    n = int(next(filter(None, summary.groups()))) if summary else len(findings)
    refused = REFUSED.search(text + done.err + done.out)
    figures = {"n_findings": n, "seconds": round(done.seconds, 1),
               "kernels_done": len(re.findall(r"^ok    \S+ +\S+ +\d+ cases", done.out, re.M))}
    if n or findings:
        job.item(name, "failed", (findings or [summary.group(0)])[0][:300], **figures)
    elif refused:
        job.item(name, "skipped", refused.group(0), **figures)
    elif done.was_stopped:
        job.item(name, "cut off" if figures["kernels_done"] else "skipped",
                 done.why() + f" after {figures['kernels_done']} kernels", **figures)
    elif done.status or summary is None:
        job.item(name, "failed", done.why() if done.status else "no summary", **figures)
    else:
        job.item(name, "passed", **figures)


def sanitizer(job):
    """On the emulator its own checker takes the tools' place, unless --tools has one."""
    if not job.is_gpu and job.find("compute-sanitizer") is None:
        job.program("kernels/cuda/libbobbin_simt_check.so")
        done = job.run([job.program("tests/checkkernels"), "--device", "simt_check", "--gemm", "exact", "--seed", SEED,
                        "--kernel", SANITIZED["simt"][0]])
        closing(job, "simt_check", done)
        if done.status == 0:
            job.item("simt_check", "passed")
        return
    program = job.need("compute-sanitizer", "/usr/local/cuda/bin")
    groups = SANITIZED[job.device]
    wanted = [(tool, kernels) for tool in TOOLS for kernels in groups]
    answers = job.side_by_side(lambda what: sanitized(job, program, *what), wanted, AT_ONCE[job.device])
    for what, answer in zip(wanted, answers):
        if isinstance(answer, Skip):
            job.item(" ".join(what), "skipped", str(answer))
        else:
            judge(job, " ".join(what), *answer)


# ---- the engine ----

def engine(job):
    """Goldens and invariance on this device: each suite is played with $BOBBIN_TEST_DEVICE."""
    parts = {"cuda": (("test_golden", "*"), ("test_bits", "bits_device/*"), ("test_on_device", "*"),
                      ("test_driver", "*"), ("test_requests_on_device", "*"), ("test_truth", "truth/*emulator"),
                      ("test_handset", "*/on_a_device"), ("test_handset_circuit", "*/on_a_device"),
                      ("test_handset_induction", "*/on_a_device"), ("test_handset_rwkv", "*/on_a_device"),
                      ("test_taps", "*/*_on_a_device")),
             "simt": (("test_golden", "golden/llama_7"),)}
    for suite, pattern in parts[job.device]:
        try:
            play_suite(job, suite, pattern)
        except Skip as reason:
            job.item(suite, "skipped", str(reason))


def play_suite(job, suite, pattern):
    with tempfile.TemporaryDirectory() as folder:
        report = pathlib.Path(folder, "report.xml")
        done = job.run([job.program(f"tests/{suite}"), f"-j{AT_ONCE[job.device]}", f"--filter={pattern}",
                        f"--xml={report}"], None, BOBBIN_TEST_DEVICE=job.device)
        try:
            cases = list(ET.parse(report).iter("testcase"))
        except (OSError, ET.ParseError):
            cases = []
    states = [case.get("status", "").upper() for case in cases]
    n_passed, n_skipped = states.count("PASSED"), states.count("SKIPPED")
    n_failed = len(states) - n_passed - n_skipped
    figures = {"n_passed": n_passed, "n_failed": n_failed, "n_skipped": n_skipped, "seconds": round(done.seconds, 1)}
    if done.was_stopped:
        job.item(suite, "skipped", done.why())
    elif done.status or n_failed or not n_passed:
        failures = re.findall(r"^\[----\] (.*)$", done.err, re.M)
        job.item(suite, "failed", (failures or [done.why()])[-1][:300], **figures)
    else:
        job.item(suite, "passed", **figures)


# ---- times ----

def numbers_of(label):
    """{"heads": 32, "kv_heads": 8, …} of the name of a case."""
    out = {name: int(value) for name, value in re.findall(r"(\w+)=(\d+)", label)}
    heads = re.search(r"heads=(\d+)/(\d+)", label)
    if heads:
        out["heads"], out["kv_heads"] = map(int, heads.groups())
    return out


def kind_of(kernel, label):
    """What the case is, in the words of the table, and the same as a request to PyTorch, or None."""
    f = numbers_of(label)
    if kernel.startswith("attention_"):
        rows = f["rows"] // f["seqs"]
        spec = {"op": "attention", "batch": f["seqs"], "rows": rows, "past": f["pos0"], "heads": f["heads"],
                "kv_heads": f["kv_heads"], "dim": f["dim"]}
        shape = f"{rows} tokens" if rows > 1 else f"{f['seqs']} x {f['pos0'] + 1}"
        return ("prefill" if rows > 1 else "decode") + f" {shape}", spec
    if kernel.startswith("matmul_"):
        return f"{f['rows']} x {f['k']} x {f['n']}", {"op": "linear", "rows": f["rows"], "n": f["n"], "k": f["k"]}
    return label, None


def time_kernel(job, kernel, seconds):
    """Timed cases of one kernel, or of a pattern of them; raises Skip when there is none."""
    done = job.run(checkkernels(job, "--bench", "--json", "--kernel", kernel), seconds)
    rows = [line for line in json_lines(done.out) if "seconds" in line and line["seconds"] > 0]
    failures = [line for line in json_lines(done.out) if line.get("result") == "FAIL"]
    if failures or (done.status and not done.was_stopped):
        job.item(kernel, "failed", failures[0]["message"] if failures else done.why())
    elif done.was_stopped:
        job.item(kernel, "skipped", done.why() + f" after {len(rows)} cases")
    return rows


def shares(job, row):
    """Of what the card reaches, and of its data sheet; the larger of bytes and operations is what binds."""
    out = {}
    for name, rate, measured, sheet in (
            ("memory", row["gb_per_s"] * 1e9, "copy", "memory"),
            ("tensor cores", row["gop_per_s"] * 1e9, "matmul", "tensor")):
        if job.limits.get(measured):
            share = rate / job.limits[measured]
            if share > out.get("share_of_measured", 0):
                out |= {"share_of_measured": share, "bound": name}
                out["share_of_datasheet"] = rate / job.sheet[sheet] if sheet in job.sheet else None
    return out


def label_of(row):
    """The kernel; with --gemm fast, which is cuBLASLt's, and with --gemm wgmma it stands beside itself."""
    return row["kernel"] + {"lt": " fast", "sm90a": " wgmma"}.get(row["variant"], "")


def timings(job):
    for kernel in TIMED[job.device]:
        try:
            for row in time_kernel(job, kernel, 25):
                what, spec = kind_of(row["kernel"], row["case"])
                job.timings.append((row["kernel"], what, spec, row))
                job.item(f"{label_of(row)} {what}", "measured", kernel=row["kernel"], variant=row["variant"],
                         case=row["case"], median_us=row["seconds"] * 1e6, spread=row["spread"], runs=row["runs"],
                         gbs=row["gb_per_s"], tflops=row["gop_per_s"] / 1e3, **shares(job, row))
        except Skip as reason:
            job.item(kernel, "skipped", str(reason))
    if job.find("nvidia-smi"):
        job.item("card after", "measured", **machine.query(job))


def comparators(job):
    """PyTorch, ours (exact, then by wgmma and fast), PyTorch again on the same shapes; its better median counts."""
    torch = peer.of(job)
    for kernel in COMPARED[job.device]:
        first = {what: spec for name, what, spec, _ in job.timings if name == kernel}
        if not first:
            job.item(kernel, "skipped", "no times of ours to compare with")
            continue
        before = {what: ask(job, torch, spec) for what, spec in first.items()}
        ours = {}
        for row in time_kernel(job, kernel, 25):
            ours.setdefault(kind_of(kernel, row["case"])[0], []).append((label_of(row), row["seconds"]))
        for what, spec in first.items():
            answers = [a for a in (before[what], ask(job, torch, spec)) if "seconds" in a]
            if what not in ours or not answers:
                job.item(f"{kernel} {what}", "skipped", before[what].get("error", "no time of ours"))
                continue
            best = min(answers, key=lambda a: a["seconds"])
            for label, seconds in ours[what]:
                job.item(f"{label} {what}", "measured", kernel=kernel, median_us=seconds * 1e6,
                         comparator=best["backend"], comparator_us=best["seconds"] * 1e6,
                         comparator_all_us=[{k: v * 1e6 for k, v in a["times"].items()} for a in answers],
                         ratio=best["seconds"] / seconds)


def ask(job, torch, spec):
    try:
        return torch.ask(spec, 20)
    except Skip as reason:
        return {"error": str(reason)}
