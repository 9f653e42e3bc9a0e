#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes the tiny model of tests/test_bits.c and tests/test_on_device.c whose weights are quantised: of random
blocks, one layer, Q8_0 in attention, Q4_K in the feed-forward, Q6_K in the head. Nobody quantised anything
into them, so there are no logits to compare with; what is asked is that the same request gives the same bits.

Usage: tests/goldens/make_quantised.py      writes llama-quantised.gguf beside itself

Needs gguf and numpy (pip install gguf numpy); the tests need only the committed file."""
import math
import pathlib

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type

PATH = pathlib.Path(__file__).resolve().parent / "llama-quantised.gguf"
VOCAB, DIM, FF, HEADS, KV_HEADS, HEAD = 199, 256, 512, 8, 2, 32
# Bytes of a block at which a scale in float16 lies, and its share of the first.
SCALES = {Type.Q8_0: {0: 1.0}, Type.Q4_K: {0: 1.0, 2: 7.5}, Type.Q6_K: {208: 1.0}}
MATRICES = {
    "token_embd": (Type.Q8_0, VOCAB, DIM), "output": (Type.Q6_K, VOCAB, DIM),
    "blk.0.attn_q": (Type.Q8_0, HEADS * HEAD, DIM), "blk.0.attn_k": (Type.Q8_0, KV_HEADS * HEAD, DIM),
    "blk.0.attn_v": (Type.Q8_0, KV_HEADS * HEAD, DIM), "blk.0.attn_output": (Type.Q8_0, DIM, HEADS * HEAD),
    "blk.0.ffn_gate": (Type.Q4_K, FF, DIM), "blk.0.ffn_up": (Type.Q4_K, FF, DIM),
    "blk.0.ffn_down": (Type.Q4_K, DIM, FF),
}
NORMS = ("blk.0.attn_norm", "blk.0.ffn_norm", "output_norm")


def with_scales(blocks, kind, d):
    for at, share in SCALES[kind].items():
        blocks[..., at:at + 2] = (share * d).astype("<f2")[..., None].view(np.uint8)


def random_blocks(rng, kind, n_rows, n_cols, deviation):
    """Rows of blocks of random bytes, as bytes; what they mean has the deviation given."""
    n, n_bytes = gguf.GGML_QUANT_SIZES[kind]
    blocks = rng.integers(0, 256, (n_rows, n_cols // n, n_bytes), dtype=np.uint8)
    if kind == Type.Q8_0:
        blocks[blocks == 128] = 127  # -128 is written by no quantiser
    spread = rng.uniform(0.5, 1.5, blocks.shape[:2])
    with_scales(blocks, kind, 0.001 * spread)
    rows = blocks.reshape(n_rows, -1)
    with_scales(blocks, kind, 0.001 * spread * deviation / gguf.quants.dequantize(rows, kind).std())
    return rows


def main():
    rng = np.random.default_rng(2001)
    w = gguf.GGUFWriter(PATH, "llama")
    w.add_type(gguf.GGUFType.MODEL)
    w.add_name("random blocks")
    w.add_block_count(1)
    w.add_context_length(512)
    w.add_embedding_length(DIM)
    w.add_feed_forward_length(FF)
    w.add_head_count(HEADS)
    w.add_head_count_kv(KV_HEADS)
    w.add_key_length(HEAD)
    w.add_value_length(HEAD)
    w.add_rope_dimension_count(HEAD)
    w.add_rope_freq_base(10000.0)
    w.add_layer_norm_rms_eps(1e-5)
    w.add_vocab_size(VOCAB)
    w.add_file_type(gguf.LlamaFileType.MOSTLY_Q4_K_M)
    w.add_tokenizer_model("no_vocab")
    for name in NORMS:
        w.add_tensor(f"{name}.weight", (1 + 0.3 * rng.standard_normal(DIM)).astype(np.float32))
    for name, (kind, n_rows, n_cols) in MATRICES.items():
        # as tests/goldens/make.py: attention is peaked and logits are far apart
        deviation = 1.4 / math.sqrt(n_cols) if name.startswith("blk") else 0.7
        w.add_tensor(f"{name}.weight", random_blocks(rng, kind, n_rows, n_cols, deviation), raw_dtype=kind)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


if __name__ == "__main__":
    main()
