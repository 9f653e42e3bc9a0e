# SPDX-License-Identifier: Apache-2.0
"""What the comparisons with llama.cpp share: finding the programs, running them, reading .npy rows."""
import array
import ast
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent


def add_arguments(parser):
    parser.add_argument("llama", type=pathlib.Path, help="a llama.cpp build: the folder that holds "
                        "bin/llama-bench, or that bin itself")
    parser.add_argument("models", nargs="+", type=pathlib.Path, metavar="MODEL.gguf")
    parser.add_argument("--bobbin", type=pathlib.Path, default=ROOT / "build/tools/bobbin")
    parser.add_argument("-t", "--threads", type=int, default=0, help="0 = one per core")


def llama_program(folder, name):
    for place in (folder / name, folder / "bin" / name):
        if place.exists():
            return place.resolve()
    sys.exit(f"{folder} holds no {name} and no bin/{name}")


def run(command, **kwargs):
    """Standard output and standard error; ends the program with the command's own words on failure."""
    done = subprocess.run([str(c) for c in command], capture_output=True, check=False, **kwargs)
    if done.returncode:
        sys.exit("%s\nexit status %d\n%s" % (" ".join(map(str, command)), done.returncode,
                                            done.stderr.decode(errors="replace")[-2000:]))
    return done.stdout, done.stderr


class Rows:
    """Rows of a two-dimensional float32 .npy file, read one at a time: a vocabulary is wide."""

    def __init__(self, path):
        self.file = open(path, "rb")
        lead = self.file.read(8)
        wide = 2 if lead[6] == 1 else 4
        header = self.file.read(int.from_bytes(self.file.read(wide), "little")).decode()
        facts = ast.literal_eval(header.strip())
        if facts["descr"] != "<f4" or facts["fortran_order"]:
            sys.exit(f"{path}: want C-ordered float32, has {facts}")
        self.n, self.width = facts["shape"]
        self.start = self.file.tell()

    def __getitem__(self, i):
        self.file.seek(self.start + 4 * self.width * i)
        row = array.array("f")
        row.fromfile(self.file, self.width)
        return row
