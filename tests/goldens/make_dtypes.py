#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes dtype_bytes.npy and dtype_values.npy for test_dtype.c: two blocks of 256 random elements of
every element type, each byte as a float, and what gguf-py (ggml-org, pip install gguf) decodes them to.

Usage: make_dtypes.py FOLDER"""
import pathlib
import sys

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType as Type, quants

N = 512  # elements of a row
# where the f16 or bf16 scales of a block stand
SCALES = {Type.F32: (), Type.F16: (0,), Type.Q4_0: (0,), Type.Q4_1: (0, 2), Type.Q5_0: (0,),
          Type.Q5_1: (0, 2), Type.Q8_0: (0,), Type.Q4_K: (0, 2), Type.Q5_K: (0, 2), Type.Q6_K: (208,),
          Type.BF16: (0,)}


def main():
    folder, rng = pathlib.Path(sys.argv[1]), np.random.default_rng(20)
    stored = np.zeros((len(SCALES), 4 * N), np.float32)
    values = np.zeros((len(SCALES), N), np.float32)
    for i, (kind, places) in enumerate(SCALES.items()):
        elems, size = GGML_QUANT_SIZES[kind]
        blocks = rng.integers(0, 256, (N // elems, size), np.uint8)
        for place in places:
            scales = rng.normal(0, 0.1, len(blocks)).astype(np.float16)
            blocks[:, place:place + 2] = scales.view(np.uint8).reshape(-1, 2)
        if kind == Type.F32:
            blocks = rng.normal(0, 1, N).astype(np.float32).view(np.uint8)
        blocks = np.ascontiguousarray(blocks).reshape(-1)
        stored[i, :blocks.size] = blocks
        values[i] = quants.dequantize(blocks, kind).reshape(-1)
    np.save(folder / "dtype_bytes.npy", stored)
    np.save(folder / "dtype_values.npy", values)


if __name__ == "__main__":
    main()
