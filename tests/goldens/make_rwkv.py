#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes the goldens of RWKV-6 and RWKV-7: their formulas (arXiv:2404.05892 and 2503.14456, section 4) in float64.

Usage: tests/goldens/make_rwkv.py [NAME]...           writes NAME.gguf, hf/NAME or both, and NAME-LENGTH.npy,
                                                      beside itself
       tests/goldens/make_rwkv.py --official NAME     compares with the package rwkv in float32 instead

Needs the packages gguf, numpy and safetensors, and for --official torch and rwkv."""
import json
import os
import pathlib
import sys
import tempfile

import gguf
import numpy as np
import safetensors.numpy

HERE = pathlib.Path(__file__).resolve().parent
VOCAB = 199
LENGTHS = (1, 63, 64, 65, 500)
ROWS = 8  # logits after at most this many last tokens are kept
MIXES = "rwkvag"
MIXES6 = "wkvrg"
# Width, head size, layers, inner width of the channel mix; ranks of w, a, v, g, or of mixes and of decays, after how
# many layers what goes on is halved, and whether matrices of low rank are in float16.
MODELS = {
    "rwkv7": dict(dim=48, head=16, layers=3, ff=80, w=9, a=7, v=5, g=12),
    "rwkv7-heads": dict(dim=60, head=20, layers=3, ff=130, w=16, a=16, v=32, g=24),
    "rwkv7-folder": dict(dim=64, head=64, layers=2, ff=72, w=8, a=6, v=5, g=10),
    "rwkv6": dict(dim=48, head=16, layers=3, ff=84, mix=7, decay=9, halve=0),
    "rwkv6-halved": dict(dim=60, head=20, layers=4, ff=130, mix=16, decay=24, halve=2),
    "rwkv6-folder": dict(dim=36, head=12, layers=2, ff=96, mix=32, decay=64, halve=0, half=True),
}
# In the order in which they came.
SEEDS = ("rwkv7", "rwkv7-heads", "rwkv6", "rwkv6-halved", "rwkv7-folder", "rwkv6-folder")


def prompt(length):
    """Token ids; tests/test_golden.c has the same formula."""
    return [(17 + 31 * i + 7 * i * i + i // 5) % VOCAB for i in range(length)]


# ---- weights, by the official names; matrices are [out, in] but for w1 ... g2, which are [in, out] ----

def low_rank6(name):
    return name.endswith(("time_maa_w1", "time_maa_w2", "time_decay_w1", "time_decay_w2"))


def random_weights(m, seed):
    rng = np.random.default_rng(seed)
    dim, weights = m["dim"], {}

    def add(name, shape, spread, center=0.0):
        weights[name] = (center + spread * rng.standard_normal(shape)).astype(np.float32)

    def add_mix(name, shape=dim):
        weights[name] = rng.uniform(0, 1, shape).astype(np.float32)

    def add_norm(name):
        add(name + ".weight", dim, 0.2, 1.0)
        add(name + ".bias", dim, 0.2)

    def add_time_mix7(att, is_first):
        for mix in MIXES:
            add_mix(att + "x_" + mix)
        for name in ("receptance", "key", "value", "output"):
            add(att + name + ".weight", (dim, dim), 1 / dim ** 0.5)
        for low in "wavg":
            if low == "v" and is_first:
                continue
            add(att + low + "1", (dim, m[low]), 1 / dim ** 0.5)
            add(att + low + "2", (m[low], dim), 1.5 / m[low] ** 0.5)
            if low != "g":
                add(att + low + "0", dim, 1.0, -1.0 if low == "w" else 0.0)
        add(att + "k_k", dim, 0.2, 0.8)
        add(att + "k_a", dim, 0.2, 0.9)
        add(att + "r_k", (dim // m["head"], m["head"]), 0.3)

    def add_time_mix6(att):
        for mix in "x" + MIXES6:
            add_mix(f"{att}time_maa_{mix}", (1, 1, dim))
        add(att + "time_maa_w1", (dim, 5 * m["mix"]), 1 / dim ** 0.5)
        add(att + "time_maa_w2", (5, m["mix"], dim), 0.7 / m["mix"] ** 0.5)
        add(att + "time_decay", (1, 1, dim), 1.5, -3.0)
        add(att + "time_decay_w1", (dim, m["decay"]), 1 / dim ** 0.5)
        add(att + "time_decay_w2", (m["decay"], dim), 1 / m["decay"] ** 0.5)
        add(att + "time_faaaa", (dim // m["head"], m["head"]), 0.5)
        for name in ("receptance", "key", "value", "gate", "output"):
            add(att + name + ".weight", (dim, dim), 1 / dim ** 0.5)

    add("emb.weight", (VOCAB, dim), 0.7)
    add("head.weight", (VOCAB, dim), 2 / dim ** 0.5)
    add_norm("blocks.0.ln0")
    add_norm("ln_out")
    for i in range(m["layers"]):
        att, ffn = f"blocks.{i}.att.", f"blocks.{i}.ffn."
        add_norm(f"blocks.{i}.ln1")
        add_norm(f"blocks.{i}.ln2")
        add_norm(att + "ln_x")
        if "mix" in m:
            add_time_mix6(att)
            add_mix(ffn + "time_maa_k", (1, 1, dim))
            add_mix(ffn + "time_maa_r", (1, 1, dim))
            add(ffn + "receptance.weight", (dim, dim), 1 / dim ** 0.5)
        else:
            add_time_mix7(att, i == 0)
            add_mix(ffn + "x_k")
        add(ffn + "key.weight", (m["ff"], dim), 1 / dim ** 0.5)
        add(ffn + "value.weight", (dim, m["ff"]), 0.7 / m["ff"] ** 0.5)
    if m.get("half"):
        weights = {n: value.astype(np.float16).astype(np.float32) if low_rank6(n) else value
                   for n, value in weights.items()}
    return weights


# ---- the oracle ----

def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def norm(x, w, b, eps=1e-5):
    centered = x - x.mean(-1, keepdims=True)
    return centered / np.sqrt((centered ** 2).mean(-1, keepdims=True) + eps) * w + b


def shifted(x):
    return np.concatenate([np.zeros_like(x[:1]), x[:-1]]) - x


def recurrence(r, w, k, v, a, b):
    """All [tokens, heads, head]; the state is [heads, value, key]."""
    state, out = np.zeros((r.shape[1], r.shape[2], r.shape[2])), np.zeros_like(r)
    for t in range(len(r)):
        removed = np.einsum("hij,hj->hi", state, a[t])
        state = state * w[t][:, None] + removed[:, :, None] * b[t][:, None]
        state = state + v[t][:, :, None] * k[t][:, None]
        out[t] = np.einsum("hij,hj->hi", state, r[t])
    return out


def time_mix(z, x, first, head):
    difference, n = shifted(x), len(x)
    xr, xw, xk, xv, xa, xg = (x + difference * z["x_" + mix] for mix in MIXES)
    r, k, v = xr @ z["receptance.weight"].T, xk @ z["key.weight"].T, xv @ z["value.weight"].T
    w = np.exp(-np.exp(-0.5) * sigmoid(z["w0"] + np.tanh(xw @ z["w1"]) @ z["w2"]))
    if first is None:
        first = v
    else:
        v = v + (first - v) * sigmoid(z["v0"] + xv @ z["v1"] @ z["v2"])
    a = sigmoid(z["a0"] + xa @ z["a1"] @ z["a2"])
    g = sigmoid(xg @ z["g1"]) @ z["g2"]
    r, w, raw, v, a = (y.reshape(n, -1, head) for y in (r, w, k, v, a))
    kk = raw * z["k_k"].reshape(-1, head)
    kk = kk / np.maximum(np.sqrt((kk ** 2).sum(-1, keepdims=True)), 1e-12)
    k = raw * (1 + (a - 1) * z["k_a"].reshape(-1, head))
    y = recurrence(r, w, k, v, -kk, kk * a)
    y = norm(y, z["ln_x.weight"].reshape(-1, head), z["ln_x.bias"].reshape(-1, head), 64e-5)
    y = y + (r * k * z["r_k"]).sum(-1, keepdims=True) * v
    return (y.reshape(n, -1) * g) @ z["output.weight"].T, first


def time_mix6(z, x, head):
    """The state is [heads, key, value]."""
    difference, n = shifted(x), len(x)
    low = np.tanh((x + difference * z["time_maa_x"]) @ z["time_maa_w1"]).reshape(n, 5, -1)
    xw, xk, xv, xr, xg = (x + difference * (z[f"time_maa_{mix}"] + low[:, i] @ z["time_maa_w2"][i])
                          for i, mix in enumerate(MIXES6))
    w = np.exp(-np.exp(z["time_decay"] + np.tanh(xw @ z["time_decay_w1"]) @ z["time_decay_w2"]))
    gate = xg @ z["gate.weight"].T
    r, k, v, w = (y.reshape(n, -1, head) for y in (xr @ z["receptance.weight"].T, xk @ z["key.weight"].T,
                                                   xv @ z["value.weight"].T, w))
    state, y = np.zeros((r.shape[1], head, head)), np.zeros_like(r)
    for t in range(n):
        kv = k[t][:, :, None] * v[t][:, None]
        y[t] = np.einsum("hj,hji->hi", r[t], state + z["time_faaaa"][:, :, None] * kv)
        state = state * w[t][:, :, None] + kv
    y = norm(y, z["ln_x.weight"].reshape(-1, head), z["ln_x.bias"].reshape(-1, head), 64e-5)
    return (y.reshape(n, -1) * gate * sigmoid(gate)) @ z["output.weight"].T


def halving(m, i_layer):
    """By what the official implementation in float16 divides matrices of a layer, and so does llama.cpp's converter."""
    return 2.0 ** (i_layer // m["halve"]) if m.get("halve") else 1.0


def logits_of(m, weights, tokens):
    z = {name: (value.squeeze() if "time_maa_" in name or name.endswith("time_decay") else value).astype(np.float64)
         for name, value in weights.items()}

    def part(prefix):
        return {n[len(prefix):]: value for n, value in z.items() if n.startswith(prefix)}

    x = norm(z["emb.weight"][tokens], z["blocks.0.ln0.weight"], z["blocks.0.ln0.bias"])
    first = None
    for i in range(m["layers"]):
        block, att, ffn = part(f"blocks.{i}."), part(f"blocks.{i}.att."), part(f"blocks.{i}.ffn.")
        h = norm(x, block["ln1.weight"], block["ln1.bias"])
        if "mix" in m:
            x = x + time_mix6(att, h, m["head"]) / halving(m, i)
        else:
            y, first = time_mix(att, h, first, m["head"])
            x = x + y
        h = norm(x, block["ln2.weight"], block["ln2.bias"])
        k = np.maximum((h + shifted(h) * ffn["time_maa_k" if "mix" in m else "x_k"]) @ ffn["key.weight"].T, 0) ** 2
        y = k @ ffn["value.weight"].T / halving(m, i)
        if "mix" in m:
            y *= sigmoid((h + shifted(h) * ffn["time_maa_r"]) @ ffn["receptance.weight"].T)
        x = x + y
        if m.get("halve") and (i + 1) % m["halve"] == 0:
            x = x / 2
    return norm(x, z["ln_out.weight"], z["ln_out.bias"]) @ z["head.weight"].T


# ---- the GGUF file, as llama.cpp's converter lays it out ----

ENDS = {"emb.": "token_embd.", "head.": "output.", "blocks.0.ln0.": "token_embd_norm.", "ln_out.": "output_norm."}
INNER = {"ln1.": "attn_norm.", "ln2.": "attn_norm_2.", "att.ln_x.": "time_mix_ln.",
         "ffn.x_k": "channel_mix_lerp_k", "ffn.time_maa_": "channel_mix_lerp_", "ffn.": "channel_mix_",
         "att.time_maa_x": "time_mix_lerp_x", "att.time_maa_": "time_mix_", "att.time_faaaa": "time_mix_first",
         "att.time_decay": "time_mix_decay", "att.": "time_mix_"}


def gguf_tensors(m, weights):
    mixes = [f"time_maa_{mix}" for mix in MIXES6] if "mix" in m else [f"x_{mix}" for mix in MIXES]
    for i in range(m["layers"]):
        fused = np.stack([weights[f"blocks.{i}.att.{mix}"] for mix in mixes])
        yield f"blk.{i}.time_mix_lerp_fused.weight", fused.reshape(len(mixes), 1, 1, -1)
    for name, value in weights.items():
        if ".att." in name and name.split(".att.")[1] in mixes:
            continue
        end = [e for e in ENDS if name.startswith(e)]
        if end:
            yield ENDS[end[0]] + name[len(end[0]):], value
            continue
        _, i_layer, rest = name.split(".", 2)
        begin = next(b for b in INNER if rest.startswith(b))
        if rest[-1] in "12":
            value = value.swapaxes(-1, -2)
        new = f"blk.{i_layer}.{INNER[begin]}{rest[len(begin):]}"
        if not new.endswith((".weight", ".bias")):
            new += ".weight"
        if rest in ("att.output.weight", "ffn.value.weight"):
            value = value / np.float32(halving(m, int(i_layer)))
        value = value.flatten() if rest == "att.r_k" else value.squeeze() if "time_maa" in rest else value
        value = value.squeeze() if rest == "att.time_decay" else value
        if i_layer == "0" and "time_mix_a" in new:  # stand-ins, which nobody may read
            yield new.replace("time_mix_a", "time_mix_v"), value
        yield new, value


def write_gguf(name, m, weights):
    w = gguf.GGUFWriter(HERE / f"{name}.gguf", name.split("-")[0])
    w.add_type(gguf.GGUFType.MODEL)
    w.add_name(f"golden {name}")
    w.add_context_length(1 << 20)
    w.add_embedding_length(m["dim"])
    w.add_block_count(m["layers"])
    w.add_layer_norm_eps(1e-5)
    w.add_wkv_head_size(m["head"])
    if "mix" in m:
        w.add_rescale_every_n_layers(m["halve"])
        w.add_time_mix_extra_dim(m["mix"])
        w.add_time_decay_extra_dim(m["decay"])
    else:
        w.add_decay_lora_rank(m["w"])
        w.add_iclr_lora_rank(m["a"])
        w.add_value_residual_mix_lora_rank(m["v"])
        w.add_gate_lora_rank(m["g"])
    w.add_feed_forward_length(m["ff"])
    w.add_head_count(0)
    w.add_vocab_size(VOCAB)
    w.add_file_type(gguf.LlamaFileType.ALL_F32)
    w.add_tokenizer_model("no_vocab")
    for full_name, value in gguf_tensors(m, weights):
        w.add_tensor(full_name, np.ascontiguousarray(value))
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


# ---- the folder, as flash-linear-attention names things; the norm over heads has head_dim * norm_eps there ----

FLA = {"emb.": "embeddings.", "ln_out.": "norm.", "blocks.0.ln0.": "layers.0.pre_norm."}
FLA_INNER = {"ln1.": "attn_norm.", "ln2.": "ffn_norm.", "att.ln_x.": "attn.g_norm.", "att.receptance.": "attn.r_proj.",
             "att.key.": "attn.k_proj.", "att.value.": "attn.v_proj.", "att.output.": "attn.o_proj.", "att.": "attn.",
             "ffn.": "ffn."}
FLA_LOW = {"0": "2.bias", "1": "0.weight", "2": "2.weight"}


def fla_tensor(name, value):
    if name == "head.weight":
        return "lm_head.weight", value
    end = [e for e in FLA if name.startswith(e)]
    if end:
        return "model." + FLA[end[0]] + name[len(end[0]):], value
    _, i_layer, rest = name.split(".", 2)
    begin = next(b for b in FLA_INNER if rest.startswith(b))
    inner = FLA_INNER[begin] + rest[len(begin):]
    if rest[-1] in "012":
        inner = f"{inner[:-1]}_lora.lora.{FLA_LOW[rest[-1]]}"
        value = value if rest[-1] == "0" else value.T
    value = value.reshape(1, 1, -1) if ".x_" in inner and begin == "att." else value
    return f"model.layers.{i_layer}.{inner}", value


def fla_config(m):
    return {
        "a_low_rank_dim": m["a"], "architectures": ["RWKV7ForCausalLM"], "attn": None, "attn_mode": "chunk",
        "bos_token_id": 0, "decay_low_rank_dim": m["w"], "eos_token_id": 0, "fuse_cross_entropy": True,
        "fuse_norm": False, "gate_low_rank_dim": m["g"], "head_dim": m["head"], "hidden_act": "sqrelu",
        "hidden_ratio": 4.0, "hidden_size": m["dim"], "initializer_range": 0.006, "intermediate_size": m["ff"],
        "max_position_embeddings": 2048, "model_type": "rwkv7", "norm_bias": True, "norm_eps": 1e-5,
        "norm_first": True, "num_heads": 32, "num_hidden_layers": m["layers"], "tie_word_embeddings": False,
        "torch_dtype": "float32", "transformers_version": "4.48.0", "use_cache": True, "v_low_rank_dim": m["v"],
        "value_dim": [m["dim"]] * m["layers"], "vocab_size": VOCAB,
    }


# ---- the folder, as modeling_rwkv6.py of the folders RWKV/v6-Finch-*-HF names things ----

FINCH = {".att.": ".attention.", ".ffn.": ".feed_forward.", "blocks.0.ln0.": "blocks.0.pre_ln.", "emb.": "embeddings."}


def finch_tensor(name, value):
    value = value.astype(np.float16) if low_rank6(name) else value
    if name == "head.weight":
        return name, value
    for official_name, new in FINCH.items():
        name = name.replace(official_name, new)
    return "rwkv." + name, value


def finch_config(m):
    """That code halves in 16 bits only, and has ranks of 32 and 64, and the inner width, from the width."""
    assert m["mix"] == 32 and m["decay"] == 64 and m["ff"] == m["dim"] * 7 // 2 // 32 * 32
    return {
        "architectures": ["Rwkv6ForCausalLM"], "attention_hidden_size": m["dim"],
        "auto_map": {"AutoConfig": "configuration_rwkv6.Rwkv6Config",
                     "AutoModelForCausalLM": "modeling_rwkv6.Rwkv6ForCausalLM"},
        "bos_token_id": 0, "context_length": 4096, "eos_token_id": 0, "head_size": m["head"], "head_size_divisor": 8,
        "hidden_size": m["dim"], "intermediate_size": None, "layer_norm_epsilon": 1e-05, "model_type": "rwkv6",
        "num_attention_heads": 64, "num_hidden_layers": m["layers"], "rescale_every": 1, "tie_word_embeddings": False,
        "transformers_version": "4.33.1", "use_cache": True, "vocab_size": VOCAB,
    }


def write_folder(name, m, weights):
    path = HERE / "hf" / name
    path.mkdir(exist_ok=True)
    tensor, config = (finch_tensor, finch_config(m)) if "mix" in m else (fla_tensor, fla_config(m))
    tensors = dict(tensor(n, value) for n, value in weights.items())
    safetensors.numpy.save_file({n: np.ascontiguousarray(value) for n, value in tensors.items()},
                                path / "model.safetensors", {"format": "pt"})
    (path / "config.json").write_text(json.dumps(config, indent=2) + "\n")


# ---- the official package ----

def official(m, weights):
    """The largest difference from the oracle, as a share of the logits' range. In float32 nothing is halved there."""
    os.environ.update(RWKV_V7_ON="0" if "mix" in m else "1", RWKV_JIT_ON="0", RWKV_CUDA_ON="0")
    import torch
    from rwkv.model import RWKV
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        path = os.path.join(folder, "model")
        torch.save({n: torch.from_numpy(v.copy()) for n, v in weights.items()}, path + ".pth")
        model = RWKV(model=path + ".pth" * ("mix" in m), strategy="cpu fp32")
        got, _ = model.forward(prompt(LENGTHS[-1]), None, full_output=True)
    want = logits_of(dict(m, halve=0) if "mix" in m else m, weights, prompt(LENGTHS[-1]))
    return np.abs(got.double().numpy() - want).max() / np.ptp(want)


def main():
    names = [a for a in sys.argv[1:] if a != "--official"] or list(MODELS)
    for name in names:
        m, seed = MODELS[name], 200 + SEEDS.index(name)
        weights = random_weights(m, seed)
        if "--official" in sys.argv:
            print(f"{name}: the official float32 is off by {official(m, weights):.1e} of the range")
            continue
        if name != "rwkv6-folder":
            write_gguf(name, m, weights)
        if name.endswith("folder"):
            write_folder(name, m, weights)
        for length in LENGTHS:
            rows = logits_of(m, weights, prompt(length))
            np.save(HERE / f"{name}-{length}.npy", rows[-ROWS:].astype(np.float32))
        print(f"{name}: logits spread {np.ptp(rows):.1f}")


if __name__ == "__main__":
    main()
