# SPDX-License-Identifier: Apache-2.0
"""Whole models of random weights: reading prompts and generating, in batches and at depths."""
import os
import pathlib
import shutil
import sys
import tempfile

from acceptance.job import ROOT, Skip, json_lines

# Shape, type, bytes of the file, and the tests: (arguments of `bobbin bench`, seconds).
PLANS = {
    "cuda": (
        ("1b", "Q8_0", 1.4e9, (("-p 512,4096 -n 64 -d 0 -np 1", 15), ("-p 0 -n 32 -d 0 -np 8,64", 10),
                               ("-p 0 -n 32 -d 8192,32768 -np 1", 15), ("-p 0 -n 16 -d 4096 -np 16", 10),
                               ("-p 0 -n 32 -d 131000 -np 1", 25))),
        ("8b", "Q4_K", 4.6e9, (("-p 512 -n 64 -d 0 -np 1", 20), ("-p 512 -n 0 -d 0 -np 1 --gemm fast", 8),
                               ("-p 0 -n 32 -d 0 -np 64", 10))),
        # The deepest comes last: it takes the longest, and nothing is lost if there is no time for it.
        ("8b", "Q8_0", 8.6e9, (("-p 512,4096 -n 64 -d 0 -np 1", 30), ("-p 0 -n 32 -d 0 -np 8,64", 15),
                               ("-p 0 -n 32 -d 8192,32768 -np 1", 30),
                               ("-p 512,4096 -n 0 -d 0 -np 1 --gemm fast", 12),
                               ("-p 0 -n 32 -d 131000 -np 1", 80))),
    ),
    "simt": (("tiny", "Q8_0", 2e6, (("-p 8 -n 2 -d 0 -np 1,2", 30), ("-p 0 -n 1 -d 65 -np 1", 30),
                               ("-p 64 -n 0 -d 0 -np 1 --gemm fast", 30))),
             ("tiny", "Q4_K", 2e6, (("-p 0 -n 1 -d 0 -np 1", 30),))),
}


def folder_for(n_bytes):
    """A place with room for the file: memory where there is twice the room, since the model is also read."""
    for place in ("/dev/shm", os.environ.get("TMPDIR", "/tmp")):
        room = shutil.disk_usage(place).free if pathlib.Path(place).is_dir() else 0
        if room > n_bytes * (2 if place == "/dev/shm" else 1.05):
            return place
    raise Skip(f"no room for a file of {n_bytes / 1e9:.1f} GB")


def models(job):
    for like, kind, n_bytes, tests in PLANS[job.device]:
        name = f"{like} {kind}"
        try:
            with tempfile.TemporaryDirectory(dir=folder_for(n_bytes)) as folder:
                path = pathlib.Path(folder, f"{like}-{kind}.gguf")
                done = job.run([sys.executable, ROOT / "bench/random_model", path, "--like", like, "--type", kind], 60)
                if done.status:
                    raise Skip(f"random_model: {done.why()}")
                for arguments, seconds in tests:
                    play(job, name, path, arguments.split(), seconds)
        except Skip as reason:
            job.item(name, "skipped", str(reason))


def play(job, name, path, arguments, seconds):
    done = job.run([job.program("tools/bobbin"), "bench", path, "--device", job.device, *arguments, "-r", "2",
                    "-o", "jsonl"], seconds)
    rows = json_lines(done.out)
    for row in rows:
        test = f"pp{row['n_prompt']}" if row["n_prompt"] else f"tg{row['n_gen']}"
        test = ("fast " if row["gemm"] == "fast" else "") + test
        job.item(f"{name} {test} np{row['n_parallel']} d{row['n_depth']}", "measured", model=name,
                 tokens_per_s=row["avg_ts"], samples=row["samples_ts"], step_bytes=row["step_bytes"],
                 **share(job, row))
    if done.was_stopped:
        job.item(f"{name} {' '.join(arguments)}", "skipped", done.why() + f" after {len(rows)} tests")
    elif done.status:  # a machine need not have cuBLASLt
        status = "skipped" if "libcublasLt" in done.err else "failed"
        job.item(f"{name} {' '.join(arguments)}", status, done.why())


def share(job, row):
    """Bytes that a step of generating has to read, over its time, of what memory gives."""
    if not row["n_gen"] or not row["avg_ns"]:
        return {}
    rate = row["step_bytes"] * row["n_gen"] / (row["avg_ns"] * 1e-9)
    out = {"gbs": rate / 1e9}
    if job.limits.get("copy"):
        out |= {"share_of_measured": rate / job.limits["copy"], "bound": "memory"}
    if job.sheet:
        out["share_of_datasheet"] = rate / job.sheet["memory"]
    return out
