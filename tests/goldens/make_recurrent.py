#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes the goldens of recurrent models, as make.py does it for the others.

Usage: tests/goldens/make_recurrent.py [NAME]...      writes NAME.gguf and NAME-LENGTH.npy beside itself,
                                                      and hf/NAME for some

Needs what make.py needs."""
import math
import sys

import gguf
import numpy as np
import torch
import transformers

import make

LENGTHS = (1, 63, 64, 65, 500)


# ---- the models: GGUF architecture, Hugging Face class and config ----

def mamba(**kwargs):
    config = {"hidden_size": 40, "intermediate_size": 72, "state_size": 11, "num_hidden_layers": 3,
              "conv_kernel": 4, "time_step_rank": 5, "use_conv_bias": True, "use_bias": False,
              "expand": 1.8, "layer_norm_epsilon": 1e-5, "tie_word_embeddings": True, **kwargs}
    return "mamba", transformers.MambaForCausalLM, transformers.MambaConfig, config


def falcon_mamba(**kwargs):
    _, _, _, config = mamba(mixer_rms_eps=1e-5, tie_word_embeddings=False, **kwargs)
    return "mamba", transformers.FalconMambaForCausalLM, transformers.FalconMambaConfig, config


def mamba2(**kwargs):
    config = {"hidden_size": 36, "num_heads": 6, "head_dim": 12, "expand": 2, "state_size": 19,
              "n_groups": 1, "num_hidden_layers": 3, "conv_kernel": 4, "use_conv_bias": True,
              "use_bias": False, "chunk_size": 16, "layer_norm_epsilon": 1e-5,
              "tie_word_embeddings": True, **kwargs}
    return "mamba2", transformers.Mamba2ForCausalLM, transformers.Mamba2Config, config


def xlstm(**kwargs):
    config = {"hidden_size": 72, "embedding_dim": 72, "num_hidden_layers": 3, "num_blocks": 3, "num_heads": 4,
              "qk_dim_factor": 0.5, "v_dim_factor": 1.0, "ffn_proj_factor": 1.5, "chunk_size": 64,
              "ffn_round_up_to_multiple_of": 8, "norm_eps": 1e-5, "eps": 1e-6, "gate_soft_cap": 15.0,
              "output_logit_soft_cap": 30.0, "tie_word_embeddings": False, **kwargs}
    return "xlstm", transformers.xLSTMForCausalLM, transformers.xLSTMConfig, config


MODELS = {
    "mamba": mamba(),
    "mamba-plain-conv": mamba(use_conv_bias=False, conv_kernel=3, intermediate_size=80, expand=2,
                              time_step_rank=3),
    "falcon-mamba": falcon_mamba(),
    "mamba2": mamba2(),
    "mamba2-heads": mamba2(num_heads=9, head_dim=8, state_size=32, use_conv_bias=False,
                           tie_word_embeddings=False),
    "xlstm": xlstm(),
    "xlstm-caps": xlstm(num_heads=2, qk_dim_factor=1.0, v_dim_factor=2.0, gate_soft_cap=3.0, eps=0.05,
                        output_logit_soft_cap=4.0),
}


# Those that are also written as Hugging Face folders.
FOLDERS = ("falcon-mamba", "mamba2", "xlstm", "xlstm-caps")

# What GGUF has no architecture for: folders alone.
NO_GGUF = ("xlstm",)

# Other configurations for the weights of FOLDERS.
VARIANTS = {
    "falcon-mamba-eps": ("falcon-mamba", {"mixer_rms_eps": 0.3}),
    "mamba2-limits": ("mamba2", {"time_step_limit": (0.1, 0.5)}),
}


# ---- weights ----

def random_weights(shapes, seed, norm_center=1.0):
    """As make.random_weights; decays from slow to fast, steps mostly below 1."""
    weights = make.random_weights(shapes, norm_center, seed)
    rng = np.random.default_rng(seed + 1000)
    for name, shape in sorted(shapes.items()):
        value = None
        if name.endswith("A_log"):
            value = rng.uniform(-2, 2, shape)
        elif name.endswith(".D"):
            value = 1 + 0.3 * rng.standard_normal(shape)
        elif name.endswith(("dt_bias", "dt_proj.bias")):
            value = -1.5 + rng.standard_normal(shape)
        elif "embeddings" in name:
            value = 0.7 * rng.standard_normal(shape)
        elif "conv1d.weight" in name:
            value = 0.6 * rng.standard_normal(shape)
        elif "igate_preact.bias" in name:
            value = -1 + rng.standard_normal(shape)
        elif "fgate_preact.bias" in name:
            value = 3 + rng.standard_normal(shape)
        elif name.endswith("recurrent_param"):
            value = -4 + 1.5 * rng.standard_normal(shape)
        elif name.endswith(("_pre_norm.weight", "final_norm.weight")):  # of 1 + w
            value = 0.3 * rng.standard_normal(shape)
        if value is not None:
            weights[name] = value.astype(np.float32)
    return weights


# ---- the GGUF file, as llama.cpp's converter lays it out ----

NAMES = {
    "backbone.embeddings.weight": "token_embd.weight", "backbone.norm_f.weight": "output_norm.weight",
    "lm_head.weight": "output.weight", "norm.weight": "attn_norm.weight",
    "mixer.in_proj.weight": "ssm_in.weight", "mixer.conv1d.weight": "ssm_conv1d.weight",
    "mixer.conv1d.bias": "ssm_conv1d.bias", "mixer.x_proj.weight": "ssm_x.weight",
    "mixer.dt_proj.weight": "ssm_dt.weight", "mixer.dt_proj.bias": "ssm_dt.bias",
    "mixer.dt_bias": "ssm_dt.bias", "mixer.A_log": "ssm_a", "mixer.D": "ssm_d",
    "mixer.norm.weight": "ssm_norm.weight", "mixer.out_proj.weight": "ssm_out.weight",
}


def gguf_name(name):
    if name.startswith("backbone.layers."):
        _, _, i_layer, rest = name.split(".", 3)
        return f"blk.{i_layer}.{NAMES[rest]}"
    return NAMES[name]


def as_stored(arch, name, value):
    if name.endswith("A_log"):
        value = -np.exp(value)
    if name.endswith("conv1d.weight"):
        value = value[:, 0]
    if arch == "mamba2" and name.endswith(("A_log", ".D")):
        value = value.reshape(-1, 1)
    return np.ascontiguousarray(value.astype(np.float32))


def write_gguf(path, name, arch, config, weights):
    w = gguf.GGUFWriter(path, arch)
    w.add_type(gguf.GGUFType.MODEL)
    w.add_name(f"golden {name}")
    w.add_block_count(config["num_hidden_layers"])
    w.add_context_length(1 << 20)
    w.add_embedding_length(config["hidden_size"])
    w.add_feed_forward_length(0)
    w.add_head_count(0)
    w.add_layer_norm_rms_eps(config["layer_norm_epsilon"])
    w.add_vocab_size(make.VOCAB)
    w.add_file_type(gguf.LlamaFileType.ALL_F32)
    w.add_ssm_conv_kernel(config["conv_kernel"])
    w.add_ssm_state_size(config["state_size"])
    if arch == "mamba2":
        inner = config["num_heads"] * config["head_dim"]
        w.add_ssm_time_step_rank(config["num_heads"])
        w.add_ssm_group_count(config["n_groups"])
    else:
        inner = config["intermediate_size"]
        w.add_ssm_time_step_rank(config["time_step_rank"])
        w.add_ssm_dt_b_c_rms("mixer_rms_eps" in config)
    w.add_ssm_inner_size(inner)
    w.add_tokenizer_model("no_vocab")
    for full_name, value in weights.items():
        value = as_stored(arch, full_name, value)
        if full_name.endswith("mixer.norm.weight"):
            value = value.reshape(config["n_groups"], -1)
        w.add_tensor(gguf_name(full_name), value)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def build(name, weights, **changes):
    _, cls, config_cls, config = MODELS[name]
    made = config_cls(vocab_size=make.VOCAB, pad_token_id=None, bos_token_id=None, eos_token_id=None,
                      **{**config, **changes})
    model = cls(made).eval()
    if weights is not None:
        state = {n: torch.from_numpy(w).to(torch.get_default_dtype()) for n, w in weights.items()}
        missing = model.load_state_dict(state, strict=False)
        assert not missing.unexpected_keys
        assert all("lm_head" in n or "rms" in n for n in missing.missing_keys), missing
    return model


def write_logits(name, build, seed, norm_center=1.0, most=1e-4):
    """The goldens of random weights; returns the weights, and the model in float32, which may be off by `most`."""
    shapes = {n: tuple(p.shape) for n, p in build(name, None).named_parameters()}
    weights = random_weights(shapes, seed, norm_center)
    plain = build(name, weights)
    with make.float64():
        exact = build(name, weights).double()
        logits = {n: make.logits_of(exact, n) for n in LENGTHS}
    assert all(v.dtype == np.float64 for v in logits.values()), {v.dtype for v in logits.values()}
    spread = np.ptp(logits[LENGTHS[-1]])
    off = max(np.abs(make.logits_of(plain, n) - logits[n]).max() for n in LENGTHS) / spread
    assert off < most, off
    for length, rows in logits.items():
        np.save(make.HERE / f"{name}-{length}.npy", rows[-make.ROWS:].astype(np.float32))
    print(f"{name}: logits spread {spread:.1f}; unpatched float32 is off by {off:.1e} of it")
    return weights, plain


def write(name, seed):
    arch, _, _, config = MODELS[name]
    weights, plain = write_logits(name, build, seed)
    if arch not in NO_GGUF:
        write_gguf(make.HERE / f"{name}.gguf", name, arch, config, weights)
    if name in FOLDERS:
        make.write_folder(name, plain, None)
        write_variants(name, weights)


def write_variants(name, weights):
    for variant, (of, changes) in VARIANTS.items():
        if of == name:
            with make.float64():
                logits = make.logits_of(build(name, weights, **changes).double(), 257)
            make.write_variant(variant, build(name, weights, **changes), logits)


def main():
    names = sys.argv[1:] or list(MODELS)
    for name in names:
        write(name, 100 + list(MODELS).index(name))


if __name__ == "__main__":
    main()
