# SPDX-License-Identifier: Apache-2.0
"""Nsight Compute beside the emulator: sectors of global memory and bank conflicts of the same launches, which says how
far the emulator's counts can be believed."""
import csv
import pathlib
import re
import tempfile

from acceptance.job import Skip, json_lines
from acceptance.kernels import AT_ONCE

SEED = "1"
# Their small shapes: ncu plays a launch several times, and the checker takes seconds for large ones.
KERNELS = {"cuda": ("rmsnorm", "matmul_q8_0", "matmul_bf16", "attention_f16", "matmul_q4_k"),
           "simt": ("rmsnorm", "matmul_q8_0")}
N_LAUNCHES = {"cuda": 50, "simt": 20}
CLOSE = 0.02
PREFIX = "l1tex__t_sectors_pipe_lsu_mem_global_op_"
# What is summed for each figure: the first of the alternatives that this version of ncu knows whole. Copies
# to shared memory (cp.async) are counted apart from loads.
READS = ((PREFIX + "ld",),)
COPIES = ((PREFIX + "ldgsts",), (PREFIX + "ldgsts_cache_access", PREFIX + "ldgsts_cache_bypass"))
WRITES = ((PREFIX + "st",),)
CONFLICTS = (("l1tex__data_bank_conflicts_pipe_lsu_mem_shared",),)
REGISTERS = "launch__registers_per_thread"
SHARED = "launch__shared_mem_per_block_dynamic"  # tells tiles apart whose grids are the same
SECTOR_BYTES = 32
DENIED = re.compile(r"==ERROR== (.*(?:ERR_NVGPUCTRPERM|permission|Failed to initialize the profiler|LibraryNotLoaded"
                    r"|not supported).*)")


def base_name(kernel):
    """`tile` of `void tile<(int)64>(float *)`, and of what LAUNCH was given, `(tile<64>)`."""
    words = re.sub(r"^\(?(?:void )?|\(anonymous namespace\)::|<unnamed>::", "", kernel)
    return re.match(r"[\w:]*", words).group(0).rsplit("::", 1)[-1]


def metrics_known(job, ncu):
    """{figure: names to be summed}; a figure that ncu doesn't know is left out."""
    done = job.run([ncu, "--query-metrics"], 20)
    refused = DENIED.search(done.out + done.err)
    if done.status:
        raise Skip(f"ncu: {refused.group(1) if refused else done.why()}")
    known = set(re.findall(r"^(\w+__\w+)", done.out, re.M))
    out = {}
    for figure, choices in (("reads", READS), ("copies", COPIES), ("writes", WRITES), ("conflicts", CONFLICTS)):
        for names in choices:
            if known.issuperset(names):
                out[figure] = [name + ".sum" for name in names]
                break
    if "reads" not in out or "writes" not in out:
        raise Skip("this ncu knows no sectors of global memory by the names that are asked for")
    return out


def command_for(job, device, kernel):
    return [job.program("tests/checkkernels"), "--device", device, "--gemm", "exact", "--seed", SEED, "--small",
            "--kernel", kernel, "--launches", "--json"]


def number(text):
    try:
        return float(text.replace(",", ""))
    except ValueError:
        return 0.0


def profiled(job, ncu, metrics, kernel):
    """[{"kernel", figures…}] of the first launches, as ncu counts them."""
    names = sorted({name for names in metrics.values() for name in names} | {REGISTERS, SHARED})
    with tempfile.TemporaryDirectory() as folder:
        log = pathlib.Path(folder, "log")
        # One launch more: opening the device makes one of its own.
        done = job.run([ncu, "--csv", "--page", "raw", "--print-units", "base", "--clock-control", "none",
                        "--launch-count", str(N_LAUNCHES[job.device] + 1), "--kill", "yes", "--metrics",
                        ",".join(names), "--log-file", log, *command_for(job, job.device, kernel)], 25)
        text = log.read_text(errors="replace") if log.exists() else ""
    refused = DENIED.search(text + done.out + done.err)
    if refused:
        raise Skip(f"ncu: {refused.group(1)}")
    lines = [line for line in text.splitlines() if line.startswith('"')]
    rows = [row for row in csv.DictReader(lines) if row.get("ID")]
    if not rows:
        raise Skip(f"ncu counted nothing: {done.why()}")
    out = []
    for row in rows:
        figures = {figure: sum(number(row.get(name, "")) for name in names) for figure, names in metrics.items()}
        out.append({"kernel": base_name(row["Kernel Name"]), "registers": number(row.get(REGISTERS, "")),
                    "shape": [int(n) for n in re.findall(r"\d+", row["Grid Size"] + row["Block Size"])]
                    + [int(number(row.get(SHARED, "")))], **figures})
    return [launch for launch in out if launch["kernel"] != "nothing"][:N_LAUNCHES[job.device]]


def emulated(job, kernel):
    """The same launches as the emulator's checker counts them."""
    done = job.run(command_for(job, "simt_check", kernel), 60)
    launches = [line for line in json_lines(done.out) if "launch" in line]
    if not launches:
        raise Skip(f"the emulator counted nothing: {done.why()}")
    return [{"kernel": base_name(line["launch"]), "shape": line["grid"] + line["block"] + [line["shared_bytes"]],
             "sectors": (line["read_bytes"] + line["written_bytes"]) / SECTOR_BYTES,
             "conflicts": line["wavefronts"] - line["ideal_wavefronts"], "wavefronts": line["wavefronts"]}
            for line in launches if base_name(line["launch"]) != "nothing"][:N_LAUNCHES[job.device]]


def compare(job, kernel, counted, expected):
    """An item for each function among the launches, whose sums are compared: sectors, and bank conflicts as shares of
    all that shared memory serves. Where a kernel chooses tiles by the processors that there are, the emulator, which
    has few, may choose others."""
    n = min(len(counted), len(expected))
    pairs = list(zip(counted[:n], expected[:n]))
    if any(ours["kernel"] != theirs["kernel"] for ours, theirs in pairs):
        raise Skip("ncu and the emulator saw other launches")
    for name in dict.fromkeys(launch["kernel"] for launch in counted[:n]):
        same = [(ours, theirs) for ours, theirs in pairs if ours["kernel"] == name and ours["shape"] == theirs["shape"]]
        if not same:
            job.item(f"{kernel} {name}", "skipped", "the emulator, with fewer processors, takes other tiles")
            continue
        ncu = sum(ours[figure] for ours, _ in same for figure in ("reads", "copies", "writes") if figure in ours)
        emulator = sum(theirs["sectors"] for _, theirs in same)
        conflicts = sum(theirs["conflicts"] for _, theirs in same)
        wavefronts = sum(theirs["wavefronts"] for _, theirs in same)
        counted_conflicts = sum(ours["conflicts"] for ours, _ in same) if "conflicts" in same[0][0] else None
        apart = [f"sectors are more than {CLOSE:.0%} apart"] if abs(ncu - emulator) > CLOSE * emulator else []
        if counted_conflicts is not None and abs(counted_conflicts - conflicts) > CLOSE * wavefronts:
            apart.append(f"bank conflicts are more than {CLOSE:.0%} of the wavefronts apart")
        job.item(f"{kernel} {name}", "failed" if apart else "passed", "; ".join(apart) or None, launches=len(same),
                 ncu_sectors=int(ncu), emu_sectors=int(emulator),
                 ncu_conflicts=None if counted_conflicts is None else int(counted_conflicts),
                 emu_conflicts=int(conflicts), emu_wavefronts=int(wavefronts), registers=int(same[0][0]["registers"]))


def profile(job):
    ncu = job.need("ncu", "/usr/local/cuda/bin")
    job.program("kernels/cuda/libbobbin_simt_check.so")
    metrics = metrics_known(job, ncu)
    kernels = KERNELS[job.device]
    expected = job.side_by_side(lambda kernel: emulated(job, kernel), kernels, AT_ONCE[job.device])
    for kernel, launches in zip(kernels, expected):
        try:
            if isinstance(launches, Skip):
                raise launches
            compare(job, kernel, profiled(job, ncu, metrics, kernel), launches)
        except Skip as reason:
            job.item(kernel, "skipped", str(reason))
