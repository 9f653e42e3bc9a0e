#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes the goldens of tests/test_golden.c: tiny seeded random models as GGUF files, and the logits that
the official implementation (Hugging Face transformers) gives for them.

Usage: tests/goldens/make.py [NAME]...      writes NAME.gguf and NAME-LENGTH.npy beside itself

Some models are written as Hugging Face folders too, by transformers: hf/NAME. Variants of them, which share
their weights, are a config.json alone. Each has a config-4.json beside it, as transformers wrote it before 5.

Needs torch, transformers 5.2.0 and gguf (pip install torch transformers==5.2.0 gguf); the tests need
only the committed files. The logits are computed in float64: the official code runs with every mention
of float32 in it read as float64, and its result is checked here against the unpatched float32 model.
The GGUF files hold what llama.cpp's converter would write, as float32, without a vocabulary."""
import contextlib
import json
import math
import pathlib
import shutil
import sys

import gguf
import numpy as np
import torch
import transformers

HERE = pathlib.Path(__file__).resolve().parent
VOCAB = 199  # odd, so that no row count of the head is a multiple of anything
LENGTHS = (1, 7, 64, 257)
ROWS = 8  # logits after at most this many last tokens are kept


def prompt(length):
    """Token ids; tests/test_golden.c has the same formula."""
    return [(17 + 31 * i + 7 * i * i + i // 5) % VOCAB for i in range(length)]


# ---- the models: Hugging Face class, config, and what the GGUF is called ----

def llama(**kwargs):
    config = {"hidden_size": 48, "intermediate_size": 104, "num_hidden_layers": 3,
              "num_attention_heads": 3, "num_key_value_heads": 1, "head_dim": 16,
              "tie_word_embeddings": False, "max_position_embeddings": 512, "rms_norm_eps": 1e-5,
              "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}}
    return "llama", transformers.LlamaForCausalLM, transformers.LlamaConfig, {**config, **kwargs}


def mistral(**kwargs):
    _, _, _, config = llama(sliding_window=50, **kwargs)
    return "llama", transformers.MistralForCausalLM, transformers.MistralConfig, config


def qwen2(**kwargs):
    config = {"hidden_size": 60, "intermediate_size": 88, "num_hidden_layers": 3,
              "num_attention_heads": 5, "num_key_value_heads": 5, "tie_word_embeddings": True,
              "max_position_embeddings": 512, "rms_norm_eps": 1e-6,
              "rope_parameters": {"rope_type": "default", "rope_theta": 1000000.0}}
    return "qwen2", transformers.Qwen2ForCausalLM, transformers.Qwen2Config, {**config, **kwargs}


def gemma3(pattern, n_layers, full=None, local_base=10000.0, **kwargs):
    kinds = ["full_attention" if (i + 1) % pattern == 0 else "sliding_attention"
             for i in range(n_layers)]
    config = {"hidden_size": 48, "intermediate_size": 72, "num_hidden_layers": n_layers,
              "num_attention_heads": 3, "num_key_value_heads": 1, "head_dim": 20,
              "query_pre_attn_scalar": 20, "sliding_window": 37, "layer_types": kinds,
              "max_position_embeddings": 512, "rms_norm_eps": 1e-6, "tie_word_embeddings": True,
              "rope_parameters": {
                  "full_attention": full or {"rope_type": "default", "rope_theta": 1000000.0},
                  "sliding_attention": {"rope_type": "default", "rope_theta": local_base}}}
    return "gemma3", transformers.Gemma3ForCausalLM, transformers.Gemma3TextConfig, {**config, **kwargs}


MODELS = {
    "llama": llama(),
    "llama-tied": llama(tie_word_embeddings=True, num_attention_heads=6, num_key_value_heads=2,
                        head_dim=10, hidden_size=56, num_hidden_layers=4),
    "llama3-rope": llama(rope_parameters={
        "rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0,
        "high_freq_factor": 4.0, "original_max_position_embeddings": 64}),
    "llama-linear": llama(num_key_value_heads=3, rope_parameters={
        "rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}),
    "llama-window": mistral(),
    "qwen2": qwen2(),
    "qwen2-yarn": qwen2(num_key_value_heads=1, rope_parameters={
        "rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0,
        "original_max_position_embeddings": 128}),
    "gemma3": gemma3(6, 7),
    "gemma3-linear": gemma3(3, 4, query_pre_attn_scalar=48, head_dim=32, local_base=3000.0,
                            full={"rope_type": "linear", "rope_theta": 1000000.0, "factor": 8.0}),
}


# Those that are also written as folders, and bytes of a shard; None: one file.
FOLDERS = {"llama": "150KB", "gemma3-linear": None}

# Other configurations for the weights of "llama".
VARIANTS = {
    "llama-llama3": llama(rope_parameters={
        "rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0,
        "high_freq_factor": 4.0, "original_max_position_embeddings": 64}),
    "llama-yarn": llama(rope_parameters={
        "rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "attention_factor": 1.3,
        "beta_fast": 20.0, "beta_slow": 2.0, "original_max_position_embeddings": 128}),
    "llama-longer": llama(rope_parameters={
        "rope_type": "linear", "rope_theta": 20000.0, "factor": 4.0}),
    "llama-mistral": mistral(),
}


# ---- weights and logits ----

@contextlib.contextmanager
def float64():
    """The official code, with every float32 in it read as float64."""
    saved = torch.float32, torch.float, torch.Tensor.float, torch.get_default_dtype()
    torch.float32 = torch.float = torch.float64
    torch.Tensor.float = torch.Tensor.double
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.float32, torch.float, torch.Tensor.float, default = saved
        torch.set_default_dtype(default)


def random_weights(shapes, norm_center, seed):
    """{name: float32 array}: spread wide enough that attention is peaked and logits are far apart."""
    rng = np.random.default_rng(seed)
    weights = {}
    for name, shape in sorted(shapes.items()):
        noise = rng.standard_normal(shape)
        if "norm" in name:
            value = norm_center + 0.3 * noise
        elif name.endswith("bias"):
            value = 0.7 * noise
        elif "embed_tokens" in name or "lm_head" in name:
            value = 0.7 * noise
        else:
            value = noise * 1.4 / math.sqrt(shape[-1])
        weights[name] = value.astype(np.float32)
    return weights


def build(cls, config_cls, config, weights):
    made = config_cls(vocab_size=VOCAB, attn_implementation="eager", pad_token_id=None,
                      bos_token_id=None, eos_token_id=None, **config)
    model = cls(made).eval()
    if weights is not None:
        state = {name: torch.from_numpy(w).to(torch.get_default_dtype())
                 for name, w in weights.items()}
        missing = model.load_state_dict(state, strict=False)
        assert not missing.unexpected_keys
        assert all("lm_head" in name for name in missing.missing_keys), missing
    return model


def logits_of(model, length):
    with torch.no_grad():
        return model(torch.tensor([prompt(length)]), use_cache=False).logits[0].numpy()


# ---- the GGUF file, as llama.cpp's converter lays it out ----

NAMES = {
    "model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output",
    "input_layernorm": "attn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
}
NORM_NAMES = {
    "llama": {"post_attention_layernorm": "ffn_norm"},
    "qwen2": {"post_attention_layernorm": "ffn_norm"},
    "gemma3": {"post_attention_layernorm": "post_attention_norm",
               "pre_feedforward_layernorm": "ffn_norm",
               "post_feedforward_layernorm": "post_ffw_norm"},
}


def gguf_name(arch, name):
    stem, kind = name.rsplit(".", 1)
    names = {**NAMES, **NORM_NAMES[arch]}
    if stem.startswith("model.layers."):
        _, _, i_layer, rest = stem.split(".", 3)
        return f"blk.{i_layer}.{names[rest]}.{kind}"
    return f"{names[stem]}.{kind}"


def pairs_adjacent(rows, n_heads):
    """Rows of each head from halves (i, i + d/2) to adjacent pairs (2i, 2i + 1)."""
    d = rows.shape[0] // n_heads
    return np.ascontiguousarray(
        rows.reshape(n_heads, 2, d // 2, -1).transpose(0, 2, 1, 3).reshape(rows.shape))


def llama3_factors(head_dim, rope):
    """What divides each frequency: 1 for short waves, `factor` for long ones, smooth in between."""
    out = []
    low = rope["original_max_position_embeddings"] / rope["low_freq_factor"]
    high = rope["original_max_position_embeddings"] / rope["high_freq_factor"]
    for i in range(head_dim // 2):
        wave = 2 * math.pi * rope["rope_theta"] ** (2 * i / head_dim)
        smooth = (rope["original_max_position_embeddings"] / wave - rope["low_freq_factor"]) / (
            rope["high_freq_factor"] - rope["low_freq_factor"])
        out.append(1 if wave < high else rope["factor"] if wave > low
                   else 1 / ((1 - smooth) / rope["factor"] + smooth))
    return np.array(out, dtype=np.float32)


def write_gguf(path, name, arch, config, weights):
    w = gguf.GGUFWriter(path, arch)
    w.add_type(gguf.GGUFType.MODEL)
    w.add_name(f"golden {name}")
    w.add_block_count(config["num_hidden_layers"])
    w.add_context_length(config["max_position_embeddings"])
    w.add_embedding_length(config["hidden_size"])
    w.add_feed_forward_length(config["intermediate_size"])
    w.add_head_count(config["num_attention_heads"])
    w.add_head_count_kv(config["num_key_value_heads"])
    w.add_layer_norm_rms_eps(config["rms_norm_eps"])
    w.add_vocab_size(VOCAB)
    w.add_file_type(gguf.LlamaFileType.ALL_F32)
    head_dim = config.get("head_dim", config["hidden_size"] // config["num_attention_heads"])
    if "head_dim" in config:
        w.add_key_length(head_dim)
        w.add_value_length(head_dim)
    if arch == "llama":
        w.add_rope_dimension_count(head_dim)
    rope = config["rope_parameters"].get("full_attention", config["rope_parameters"])
    w.add_rope_freq_base(rope["rope_theta"])
    if rope["rope_type"] in ("linear", "yarn"):
        w.add_rope_scaling_type(gguf.RopeScalingType(rope["rope_type"]))
        w.add_rope_scaling_factor(rope["factor"])
    if rope["rope_type"] == "yarn":
        w.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])
    if rope["rope_type"] == "llama3":
        w.add_tensor("rope_freqs.weight", llama3_factors(head_dim, rope))
    if "sliding_window" in config:
        w.add_sliding_window(config["sliding_window"])
    if arch == "gemma3":
        pattern = config["layer_types"].index("full_attention") + 1
        if pattern != 6:  # the converter leaves the usual value out
            w.add_uint32("gemma3.attention.sliding_window_pattern", pattern)
        local_base = config["rope_parameters"]["sliding_attention"]["rope_theta"]
        if local_base != 10000:
            w.add_rope_freq_base_swa(local_base)
        if config["query_pre_attn_scalar"] != head_dim:
            w.add_float32("gemma3.attention.scale", config["query_pre_attn_scalar"] ** -0.5)
    w.add_tokenizer_model("no_vocab")
    heads = {"q_proj": config["num_attention_heads"], "k_proj": config["num_key_value_heads"]}
    for full_name, value in weights.items():
        projection = full_name.split(".")[-2]
        if arch == "llama" and projection in heads:
            value = pairs_adjacent(value, heads[projection])
        if arch == "gemma3" and "norm" in projection:
            value = value + np.float32(1)
        w.add_tensor(gguf_name(arch, full_name), value)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


# ---- the Hugging Face folder, as transformers writes it ----

def write_folder(name, model, shard):
    """hf/NAME: config.json and weights, in files of at most `shard` bytes."""
    path = HERE / "hf" / name
    shutil.rmtree(path, ignore_errors=True)
    model.save_pretrained(path, **({} if shard is None else {"max_shard_size": shard}))
    (path / "generation_config.json").unlink()
    write_older(path)


def write_older(path):
    """config-4.json: RoPE in entries of their own, a pattern for kinds of layers, Python's infinity."""
    config = json.loads((path / "config.json").read_text(encoding="utf-8"))
    rope = config.pop("rope_parameters", None)
    if rope is not None and "full_attention" in rope:
        config["rope_local_base_freq"] = rope["sliding_attention"]["rope_theta"]
        rope = rope["full_attention"]
        config["sliding_window_pattern"] = config.pop("layer_types").index("full_attention") + 1
        del config["_sliding_window_pattern"]
    if config["model_type"] == "lfm2":  # as published at first: the numbers of the layers that attend
        config["full_attn_idxs"] = [i for i, kind in enumerate(config.pop("layer_types")) if kind == "full_attention"]
    if rope is not None:
        config["rope_theta"] = rope.pop("rope_theta")
        if "partial_rotary_factor" in rope:
            config["partial_rotary_factor"] = rope.pop("partial_rotary_factor")
        rope["type"] = rope.pop("rope_type")
        config["rope_scaling"] = None if rope["type"] == "default" else rope
    if config.get("time_step_limit") is not None:
        config["time_step_limit"] = [math.inf if isinstance(v, dict) else v for v in config["time_step_limit"]]
    config["torch_dtype"] = config.pop("dtype", "float32")
    (path / "config-4.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def write_variant(name, model, logits):
    """hf/NAME: configurations without weights, and the logits that they give with another's."""
    path = HERE / "hf" / name
    path.mkdir(parents=True, exist_ok=True)
    model.config.architectures = [type(model).__name__]
    model.config.save_pretrained(path)
    write_older(path)
    assert logits.dtype == np.float64
    np.save(path / "257.npy", logits[-ROWS:].astype(np.float32))


def make_variant(name, weights):
    _, cls, config_cls, config = VARIANTS[name]
    with float64():
        logits = logits_of(build(cls, config_cls, config, weights), 257)
    write_variant(name, build(cls, config_cls, config, weights), logits)


def make(name, seed):
    arch, cls, config_cls, config = MODELS[name]
    shapes = {n: tuple(p.shape) for n, p in build(cls, config_cls, config, None).named_parameters()}
    weights = random_weights(shapes, 0.0 if arch == "gemma3" else 1.0, seed)
    plain = build(cls, config_cls, config, weights)
    with float64():
        exact = build(cls, config_cls, config, weights)
        logits = {length: logits_of(exact, length) for length in LENGTHS}
    assert all(v.dtype == np.float64 for v in logits.values())
    spread = np.ptp(logits[257])
    off = max(np.abs(logits_of(plain, n) - logits[n]).max() for n in LENGTHS) / spread
    assert off < 1e-4, off
    write_gguf(HERE / f"{name}.gguf", name, arch, config, weights)
    if name in FOLDERS:
        write_folder(name, plain, FOLDERS[name])
    for variant in VARIANTS if name == "llama" else ():
        make_variant(variant, weights)
    for length, rows in logits.items():
        np.save(HERE / f"{name}-{length}.npy", rows[-ROWS:].astype(np.float32))
    print(f"{name}: logits spread {spread:.1f}; unpatched float32 is off by {off:.1e} of it")


def main():
    for i, name in enumerate(MODELS):
        if len(sys.argv) == 1 or name in sys.argv[1:]:
            make(name, 1000 + i)


if __name__ == "__main__":
    main()
