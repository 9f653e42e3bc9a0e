#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes the goldens of Nemotron-H, as make_hybrid.py does it for the models that transformers has.

Usage: tests/goldens/make_nemotron_h.py [NAME]...      writes NAME.gguf, hf/NAME and NAME-LENGTH.npy beside itself

transformers 5.2.0 hasn't got the architecture, so the oracle stands here: the formulas of the modelling code that
NVIDIA publishes with the weights, token by token where that works in chunks, in the type of its weights. Needs
what make.py needs, and the package safetensors."""
import json
import math
import shutil
import sys
import types

import gguf
import safetensors.numpy
import torch
from torch import nn
from torch.nn import functional as F

import make
import make_recurrent

ATTENTION, FEED_FORWARD, MAMBA = "*", "-", "M"


def nemotron_h(**kwargs):
    return {"hidden_size": 40, "intermediate_size": 56, "hybrid_override_pattern": "M-*M-", "num_attention_heads": 5,
            "num_key_value_heads": 1, "head_dim": 12, "mamba_num_heads": 6, "mamba_head_dim": 12, "ssm_state_size": 19,
            "n_groups": 2, "conv_kernel": 4, "use_conv_bias": True, "attention_bias": False, "mlp_bias": False,
            "layer_norm_epsilon": 1e-5, "rms_norm_eps": 1e-5, **kwargs}


MODELS = {
    "nemotron_h": nemotron_h(),
    "nemotron_h-bias": nemotron_h(hybrid_override_pattern="*-MM*-", num_attention_heads=4, num_key_value_heads=2,
                                  head_dim=10, n_groups=1, use_conv_bias=False, attention_bias=True, mlp_bias=True,
                                  layer_norm_epsilon=1e-3, rms_norm_eps=None),
}


# ---- the oracle ----

class RmsNorm(nn.Module):
    """Over groups of so many columns, each with its part of the weight."""

    def __init__(self, dim, eps, group=None):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.eps, self.group = eps, group or dim

    def forward(self, x):
        groups = x.unflatten(-1, (-1, self.group))
        scale = torch.rsqrt(groups.pow(2).mean(-1, keepdim=True) + self.eps)
        return self.weight * (groups * scale).flatten(-2)


class Attention(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.head_dim, bias = c["head_dim"], c["attention_bias"]
        width, kv_width = c["num_attention_heads"] * self.head_dim, c["num_key_value_heads"] * self.head_dim
        self.q_proj = nn.Linear(c["hidden_size"], width, bias=bias)
        self.k_proj = nn.Linear(c["hidden_size"], kv_width, bias=bias)
        self.v_proj = nn.Linear(c["hidden_size"], kv_width, bias=bias)
        self.o_proj = nn.Linear(width, c["hidden_size"], bias=bias)

    def forward(self, x):
        q, k, v = (p(x).unflatten(-1, (-1, self.head_dim)).transpose(0, 1)
                   for p in (self.q_proj, self.k_proj, self.v_proj))
        k, v = (y.repeat_interleave(len(q) // len(k), dim=0) for y in (k, v))
        scores = q @ k.transpose(1, 2) / math.sqrt(self.head_dim)
        hidden = torch.ones(len(x), len(x), dtype=torch.bool).triu(1)
        p = scores.masked_fill(hidden, -math.inf).softmax(-1)
        return self.o_proj((p @ v).transpose(0, 1).flatten(1))


class FeedForward(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.up_proj = nn.Linear(c["hidden_size"], c["intermediate_size"], bias=c["mlp_bias"])
        self.down_proj = nn.Linear(c["intermediate_size"], c["hidden_size"], bias=c["mlp_bias"])

    def forward(self, x):
        return self.down_proj(F.relu(self.up_proj(x)).square())


class Mamba(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.n_heads, self.n_groups = c["mamba_num_heads"], c["n_groups"]
        self.inner, self.bc = self.n_heads * c["mamba_head_dim"], self.n_groups * c["ssm_state_size"]
        width = self.inner + 2 * self.bc
        self.in_proj = nn.Linear(c["hidden_size"], self.inner + width + self.n_heads, bias=False)
        self.conv1d = nn.Conv1d(width, width, c["conv_kernel"], groups=width, padding=c["conv_kernel"] - 1,
                                bias=c["use_conv_bias"])
        self.dt_bias = nn.Parameter(torch.ones(self.n_heads))
        self.A_log = nn.Parameter(torch.ones(self.n_heads))
        self.D = nn.Parameter(torch.ones(self.n_heads))
        self.norm = RmsNorm(self.inner, c["layer_norm_epsilon"], self.inner // self.n_groups)
        self.out_proj = nn.Linear(self.inner, c["hidden_size"], bias=False)

    def forward(self, x):
        gate, xbc, dt = self.in_proj(x).split([self.inner, self.inner + 2 * self.bc, self.n_heads], dim=-1)
        xbc = F.silu(self.conv1d(xbc.T[None])[0, :, :len(x)].T)
        values, b, c = xbc.split([self.inner, self.bc, self.bc], dim=-1)
        values = values.unflatten(-1, (self.n_heads, -1))
        b, c = (y.unflatten(-1, (self.n_groups, -1)).repeat_interleave(self.n_heads // self.n_groups, dim=1)
                for y in (b, c))
        dt = F.softplus(dt + self.dt_bias)
        keep = torch.exp(-dt * torch.exp(self.A_log))
        state = torch.zeros_like(values[0, :, :, None] * b[0, :, None, :])
        out = []
        for t in range(len(x)):
            state = keep[t, :, None, None] * state + (dt[t, :, None] * values[t])[:, :, None] * b[t, :, None, :]
            out.append((state * c[t, :, None, :]).sum(-1) + self.D[:, None] * values[t])
        return self.out_proj(self.norm(torch.stack(out).flatten(1) * F.silu(gate)))


class Layer(nn.Module):
    def __init__(self, c, letter):
        super().__init__()
        self.norm = RmsNorm(c["hidden_size"], c["layer_norm_epsilon"])
        self.mixer = {ATTENTION: Attention, FEED_FORWARD: FeedForward, MAMBA: Mamba}[letter](c)

    def forward(self, x):
        return x + self.mixer(self.norm(x))


class NemotronH(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.backbone = nn.Module()
        self.backbone.embeddings = nn.Embedding(make.VOCAB, c["hidden_size"])
        self.backbone.layers = nn.ModuleList([Layer(c, letter) for letter in c["hybrid_override_pattern"]])
        self.backbone.norm_f = RmsNorm(c["hidden_size"], c["layer_norm_epsilon"])
        self.lm_head = nn.Linear(c["hidden_size"], make.VOCAB, bias=False)

    def forward(self, ids, use_cache):
        x = self.backbone.embeddings(ids[0])
        for layer in self.backbone.layers:
            x = layer(x)
        return types.SimpleNamespace(logits=self.lm_head(self.backbone.norm_f(x))[None])


def build(name, weights):
    model = NemotronH(MODELS[name]).eval()
    if weights is not None:
        model.load_state_dict({n: torch.from_numpy(w).to(torch.get_default_dtype()) for n, w in weights.items()})
    return model


# ---- the GGUF file, as llama.cpp's converter lays it out ----

NAMES = {
    "backbone.embeddings": "token_embd", "backbone.norm_f": "output_norm", "lm_head": "output", "norm": "attn_norm",
    "mixer.q_proj": "attn_q", "mixer.k_proj": "attn_k", "mixer.v_proj": "attn_v", "mixer.o_proj": "attn_output",
    "mixer.up_proj": "ffn_up", "mixer.down_proj": "ffn_down", "mixer.in_proj": "ssm_in",
    "mixer.conv1d": "ssm_conv1d", "mixer.norm": "ssm_norm", "mixer.out_proj": "ssm_out",
}
WHOLE_NAMES = {"mixer.dt_bias": "ssm_dt.bias", "mixer.A_log": "ssm_a", "mixer.D": "ssm_d"}


def gguf_name(name):
    block = ""
    if name.startswith("backbone.layers."):
        _, _, i_layer, name = name.split(".", 3)
        block = f"blk.{i_layer}."
    stem, _, kind = name.rpartition(".")
    return block + (WHOLE_NAMES.get(name) or f"{NAMES[stem]}.{kind}")


def write_gguf(path, name, c, weights):
    w = gguf.GGUFWriter(path, "nemotron_h")
    w.add_type(gguf.GGUFType.MODEL)
    w.add_name(f"golden {name}")
    w.add_block_count(len(c["hybrid_override_pattern"]))
    w.add_context_length(1 << 20)
    w.add_embedding_length(c["hidden_size"])
    letters = c["hybrid_override_pattern"]
    w.add_feed_forward_length([c["intermediate_size"] * (letter == FEED_FORWARD) for letter in letters])
    w.add_head_count(c["num_attention_heads"])
    w.add_head_count_kv([c["num_key_value_heads"] * (letter == ATTENTION) for letter in letters])
    w.add_key_length(c["head_dim"])
    w.add_value_length(c["head_dim"])
    if c["rms_norm_eps"] is not None:
        w.add_layer_norm_rms_eps(c["rms_norm_eps"])
    w.add_layer_norm_eps(c["layer_norm_epsilon"])
    w.add_rope_dimension_count(c["head_dim"])
    w.add_rope_scaling_finetuned(False)
    w.add_vocab_size(make.VOCAB)
    w.add_file_type(gguf.LlamaFileType.ALL_F32)
    w.add_ssm_conv_kernel(c["conv_kernel"])
    w.add_ssm_state_size(c["ssm_state_size"])
    w.add_ssm_group_count(c["n_groups"])
    w.add_ssm_inner_size(c["mamba_num_heads"] * c["mamba_head_dim"])
    w.add_ssm_time_step_rank(c["mamba_num_heads"])
    w.add_tokenizer_model("no_vocab")
    for full_name, value in weights.items():
        if full_name.endswith("mixer.norm.weight"):
            value = value.reshape(c["n_groups"], -1)
        w.add_tensor(gguf_name(full_name), make_recurrent.as_stored("mamba2", full_name, value))
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


# ---- the folder, with the entries of those that NVIDIA publishes; config-4.json as they are written ----

PUBLISHED = {
    "architectures": ["NemotronHForCausalLM"], "attention_dropout": 0.0, "bos_token_id": 1, "chunk_size": 128,
    "dtype": "float32", "eos_token_id": 2, "expand": 2, "hidden_dropout": 0.0, "initializer_range": 0.02,
    "mamba_hidden_act": "silu", "mamba_proj_bias": False, "max_position_embeddings": 8192,
    "mlp_hidden_act": "relu2", "model_type": "nemotron_h", "num_logits_to_keep": 1, "pad_token_id": 0,
    "rescale_prenorm_residual": True, "residual_in_fp32": False, "sliding_window": None,
    "tie_word_embeddings": False, "time_step_floor": 0.0001,
    "time_step_limit": [0.0, {"__float__": "Infinity"}], "time_step_max": 0.1, "time_step_min": 0.001,
    "time_step_rank": 256, "transformers_version": "4.48.0.dev0", "use_bias": False, "use_cache": True,
    "use_mamba_kernels": True, "vocab_size": make.VOCAB,
}


def write_folder(name, c, weights):
    path = make.HERE / "hf" / name
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    config = {**PUBLISHED, **c, "num_hidden_layers": len(c["hybrid_override_pattern"])}
    if config["rms_norm_eps"] is None:
        del config["rms_norm_eps"]
        config["attention_head_dim"] = config.pop("head_dim")
    (path / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    make.write_older(path)
    safetensors.numpy.save_file(weights, path / "model.safetensors", metadata={"format": "pt"})


def write(name, seed):
    weights, _ = make_recurrent.write_logits(name, build, seed)
    write_gguf(make.HERE / f"{name}.gguf", name, MODELS[name], weights)
    write_folder(name, MODELS[name], weights)


def main():
    for name in sys.argv[1:] or list(MODELS):
        write(name, 300 + list(MODELS).index(name))


if __name__ == "__main__":
    main()
