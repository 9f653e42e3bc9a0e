# SPDX-License-Identifier: Apache-2.0
"""What the machine is, the build for its card, and what its card reaches: the denominators of all shares."""
import pathlib
import platform
import re
import shutil
import subprocess

from acceptance import peer
from acceptance.job import ROOT, Skip

QUERY = ("name", "compute_cap", "driver_version", "clocks.sm", "clocks.mem", "power.limit", "temperature.gpu")
# Of data sheets: bytes per second of memory, operations per second of bf16 tensor cores without sparsity.
SHEETS = {"H100 80GB HBM3": (3.35e12, 989e12), "H100 PCIe": (2.04e12, 756e12), "H200": (4.8e12, 989e12),
          "A100": (2.04e12, 312e12), "4090": (1.008e12, 165e12)}
NVCC = "/usr/local/cuda/bin"
WHOLE = ("tests/checkkernels", "tools/bobbin")


def query(job):
    """{field: text} of the first card."""
    done = job.run([job.need("nvidia-smi"), f"--query-gpu={','.join(QUERY)}", "--format=csv,noheader"], 20)
    lines = done.out.strip().splitlines()
    if done.status or not lines:
        raise Skip(f"nvidia-smi: {done.why()}")
    return dict(zip(QUERY, (word.strip() for word in lines[0].split(","))))


def commit():
    """The commit; with + where files differ from it; of a copy without git, unknown."""
    def git(*args):
        return subprocess.run(["git", "-C", str(ROOT), *args], capture_output=True, text=True, check=True).stdout
    try:
        return git("rev-parse", "--short=12", "HEAD").strip() + ("+" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def version(job, name, *folders):
    """The line of `NAME --version` that has a number, or None."""
    path = job.find(name, *folders)
    if path is None:
        return None
    lines = [line for line in job.run([path, "--version"], 20).out.splitlines() if re.search(r"\d\.\d", line)]
    return lines[-1].strip() if lines else None


def cpu_name():
    for line in pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def record(job):
    facts = {"kernel": platform.release(), "cpu": cpu_name(), "python": platform.python_version(),
             "nvcc": version(job, "nvcc", NVCC), "ncu": version(job, "ncu", NVCC),
             "compute_sanitizer": version(job, "compute-sanitizer", NVCC)}
    try:
        card = query(job)
    except Skip as reason:
        job.item("card", "failed" if job.is_gpu else "skipped", str(reason))
    else:
        job.common["gpu"] = card["name"]
        for name, (memory, tensor) in SHEETS.items():
            if name in card["name"]:
                job.sheet = {"memory": memory, "tensor": tensor}
        job.item("card", "measured", **card)
    job.item("machine", "measured", **facts)


def built(job):
    module = job.build / f"kernels/cuda/libbobbin_{job.device}.so"
    return module.exists() and all((job.build / path).exists() for path in WHOLE)


def arch_of(job):
    """What -Dgpu_archs calls the card: 9.0 has instructions of its own under 90a."""
    number = query(job)["compute_cap"].replace(".", "")
    return number + "a" if number == "90" else number


def build(job):
    """Only what isn't there: a folder that was built elsewhere and brought along is taken as it is."""
    folder = job.build.name  # where it lies says nothing to who reads the results
    if built(job):
        job.item("build", "passed", folder=folder, was_there=True)
        return
    if shutil.which("meson") is None or shutil.which("ninja") is None:
        raise Skip(f"{job.build} isn't built for {job.device}, and meson or ninja is missing")
    setup = ["meson", "setup", job.build, "--buildtype=release"]
    if job.is_gpu:
        setup += ["-Dcuda=enabled", f"-Dgpu_archs={arch_of(job)}"]
    commands = [["ninja", "-C", job.build]]
    if not (job.build / "build.ninja").exists():
        commands.insert(0, setup)
    for command in commands:
        done = job.run(command)
        if done.status:
            job.item("build", "failed", f"{command[0]}: {done.why()}", output=(done.out + done.err)[-2000:])
            return
    job.item("build", "passed" if built(job) else "failed", folder=folder, was_there=False)


def limits(job):
    """With torch: a copy, a read, a product of random numbers, each a median. Without it the copy that checkkernels
    times stands for both, and products have no limit."""
    try:
        answers = {name: peer.of(job).ask({"op": name}, 60) for name in ("copy", "read", "matmul")}
    except Skip as reason:
        job.item("limits by torch", "skipped", str(reason))
        answers = {}
    for name, answer in answers.items():
        rate = answer["work"] / answer["seconds"]
        job.limits[name] = rate
        of = job.sheet.get("tensor" if name == "matmul" else "memory")
        unit = "tflops" if name == "matmul" else "gbs"
        job.item(name, "measured", **{unit: rate / (1e12 if name == "matmul" else 1e9)},
                 median_us=answer["seconds"] * 1e6, share_of_datasheet=rate / of if of else None)
    if "copy" not in job.limits:
        own_copy(job)


def own_copy(job):
    done = job.run([job.program("tests/checkkernels"), "--bench", "--device", job.device, "--kernel", "none"], 60)
    found = re.search(r"copies ([\d.]+) GB/s", done.out)
    if done.status or found is None:
        job.item("copy", "failed", done.why())
        return
    job.limits["copy"] = float(found.group(1)) * 1e9
    job.item("copy", "measured", gbs=float(found.group(1)))
