#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes the goldens of models that attend and have recurrent layers, as make.py does it for the others.

Usage: tests/goldens/make_hybrid.py [NAME]...      writes NAME.gguf and NAME-LENGTH.npy beside itself,
                                                   and hf/NAME for some

Needs what make.py needs."""
import sys

import gguf
import numpy as np
import torch
import transformers
from transformers.models.recurrent_gemma import modeling_recurrent_gemma

import make
import make_recurrent


# ---- the models ----

def falcon_h1(**kwargs):
    return {"hidden_size": 40, "intermediate_size": 56, "num_hidden_layers": 3, "num_attention_heads": 5,
            "num_key_value_heads": 1, "head_dim": 12, "mamba_d_ssm": 72, "mamba_n_heads": 6, "mamba_d_head": 12,
            "mamba_d_state": 19, "mamba_n_groups": 2, "mamba_d_conv": 4, "mamba_chunk_size": 16,
            "mamba_conv_bias": True, "mamba_proj_bias": False, "mamba_rms_norm": True,
            "mamba_norm_before_gate": False, "rms_norm_eps": 1e-5, "rope_theta": 1e6,
            "max_position_embeddings": 4096, "tie_word_embeddings": False, "embedding_multiplier": 1.7,
            "lm_head_multiplier": 0.6, "key_multiplier": 0.8, "attention_in_multiplier": 1.2,
            "attention_out_multiplier": 0.9, "ssm_in_multiplier": 1.1, "ssm_out_multiplier": 0.7,
            "ssm_multipliers": [0.9, 1.2, 1.1, 0.8, 1.3], "mlp_multipliers": [1.4, 0.6], **kwargs}


def lfm2(**kwargs):
    return {"hidden_size": 40, "intermediate_size": 90, "block_auto_adjust_ff_dim": True,
            "block_ffn_dim_multiplier": 1.1, "block_multiple_of": 8, "num_hidden_layers": 4,
            "layer_types": ["conv", "full_attention", "conv", "full_attention"], "conv_L_cache": 3,
            "conv_bias": False, "num_attention_heads": 5, "num_key_value_heads": 1, "norm_eps": 1e-5,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e6}, "max_position_embeddings": 4096,
            "tie_word_embeddings": True, **kwargs}


def recurrent_gemma(**kwargs):
    return {"hidden_size": 40, "intermediate_size": 113, "num_hidden_layers": 5, "num_attention_heads": 5,
            "num_key_value_heads": 1, "lru_width": 60, "attention_window_size": 37, "conv1d_width": 4,
            "logits_soft_cap": 30.0, "rms_norm_eps": 1e-6, "tie_word_embeddings": True,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e4}, **kwargs}


def zamba2(**kwargs):
    """transformers 5.2.0 gives a block the turns that its layer's number says, not its own: here both agree. In one
    chunk, since it joins chunks wrongly; with next to no least step, which is there on the CPU only."""
    return {"hidden_size": 40, "intermediate_size": 56, "num_hidden_layers": 7,
            "layers_block_type": ["mamba", "mamba", "hybrid", "mamba", "mamba", "hybrid", "hybrid"],
            "num_attention_heads": 4, "num_mem_blocks": 2, "adapter_rank": 6, "use_shared_attention_adapter": True,
            "use_mem_rope": True, "rope_parameters": {"rope_type": "default", "rope_theta": 1e4},
            "mamba_d_state": 19, "mamba_expand": 2, "n_mamba_heads": 10, "mamba_ngroups": 2, "mamba_d_conv": 4,
            "chunk_size": 512, "time_step_min": 1e-9, "rms_norm_eps": 1e-4, "max_position_embeddings": 4096,
            "tie_word_embeddings": True, **kwargs}


MODELS = {
    "falcon-h1": falcon_h1(),
    "falcon-h1-plain": falcon_h1(mamba_rms_norm=False, mamba_conv_bias=False, mamba_n_groups=1,
                                 num_attention_heads=4, num_key_value_heads=2, head_dim=16),
    "lfm2": lfm2(),
    "lfm2-plain": lfm2(block_auto_adjust_ff_dim=False, intermediate_size=56, conv_L_cache=4,
                       num_attention_heads=4, num_key_value_heads=2, tie_word_embeddings=False,
                       layer_types=["full_attention", "conv", "conv", "conv"]),
    "recurrent_gemma": recurrent_gemma(),
    "recurrent_gemma-bias": recurrent_gemma(
        hidden_size=48, intermediate_size=96, num_hidden_layers=4, num_attention_heads=3, num_key_value_heads=3,
        lru_width=48, attention_window_size=100, conv1d_width=3, logits_soft_cap=4.0, attention_bias=True,
        block_types=["attention", "recurrent"]),
    "zamba2": zamba2(),
    "zamba2-plain": zamba2(num_hidden_layers=4, layers_block_type=["hybrid", "mamba", "hybrid", "mamba"],
                           num_attention_heads=6, num_key_value_heads=2, hidden_size=36, num_mem_blocks=1,
                           use_shared_attention_adapter=False, use_mem_rope=False, n_mamba_heads=6,
                           mamba_ngroups=1, mamba_d_conv=3, tie_word_embeddings=False),
}


def is_lfm2(config):
    return "conv_L_cache" in config


def is_recurrent_gemma(config):
    return "lru_width" in config


def is_zamba2(config):
    return "num_mem_blocks" in config


def build_zamba2(config):
    model = transformers.Zamba2ForCausalLM(transformers.Zamba2Config(**config)).eval()
    if not config["use_mem_rope"]:
        model.model.rotary_emb = lambda x, position_ids: None  # which it asks for all the same
    return model


def limit_window(model):
    """transformers 5.2.0 lets prompts see everything. DeepMind's code: the window, and the token itself."""
    mask_of, window = model._update_causal_mask, model.config.attention_window_size

    def limited(attention_mask, x, positions):
        mask = mask_of(attention_mask, x, positions)
        too_old = torch.arange(mask.shape[-1]) < positions[:, None] - window
        return mask.masked_fill(too_old, torch.finfo(mask.dtype).min)
    model._update_causal_mask = limited


def build_recurrent_gemma(config):
    kinds = modeling_recurrent_gemma.RecurrentGemmaRglru
    kinds._rnn_scan.__defaults__ = (torch.get_default_dtype(),)  # what it adds up in
    model = transformers.RecurrentGemmaForCausalLM(transformers.RecurrentGemmaConfig(**config)).eval()
    limit_window(model.model)
    return model


def build(name, weights):
    changes = {"vocab_size": make.VOCAB, "pad_token_id": None, "bos_token_id": None, "eos_token_id": None}
    if is_lfm2(MODELS[name]):
        model = transformers.Lfm2ForCausalLM(transformers.Lfm2Config(**changes, **MODELS[name])).eval()
    elif is_recurrent_gemma(MODELS[name]):
        model = build_recurrent_gemma({**changes, **MODELS[name]})
    elif is_zamba2(MODELS[name]):
        model = build_zamba2({**changes, **MODELS[name]})
    else:
        model = transformers.FalconH1ForCausalLM(transformers.FalconH1Config(**changes, **MODELS[name])).eval()
    if weights is not None:
        state = {n: torch.from_numpy(w).to(torch.get_default_dtype()) for n, w in weights.items()}
        missing = model.load_state_dict(state, strict=False)
        tied = ["lm_head.weight"] if model.config.tie_word_embeddings else []
        own = [n for n in missing.missing_keys if "shared_transformer" not in n]
        assert not missing.unexpected_keys and own == tied, missing
    return model


# ---- the GGUF file, as llama.cpp's converter lays it out: multipliers are in the weights ----

NAMES = {
    "model.embed_tokens.weight": "token_embd.weight", "model.final_layernorm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight", "input_layernorm.weight": "attn_norm.weight",
    "self_attn.q_proj.weight": "attn_q.weight", "self_attn.k_proj.weight": "attn_k.weight",
    "self_attn.v_proj.weight": "attn_v.weight", "self_attn.o_proj.weight": "attn_output.weight",
    "mamba.in_proj.weight": "ssm_in.weight", "mamba.conv1d.weight": "ssm_conv1d.weight",
    "mamba.conv1d.bias": "ssm_conv1d.bias", "mamba.dt_bias": "ssm_dt.bias", "mamba.A_log": "ssm_a",
    "mamba.D": "ssm_d", "mamba.norm.weight": "ssm_norm.weight", "mamba.out_proj.weight": "ssm_out.weight",
    "pre_ff_layernorm.weight": "ffn_norm", "feed_forward.gate_proj.weight": "ffn_gate.weight",
    "feed_forward.up_proj.weight": "ffn_up.weight", "feed_forward.down_proj.weight": "ffn_down.weight",
    "model.embedding_norm.weight": "token_embd_norm.weight", "operator_norm.weight": "attn_norm.weight",
    "self_attn.out_proj.weight": "attn_output.weight", "self_attn.q_layernorm.weight": "attn_q_norm.weight",
    "self_attn.k_layernorm.weight": "attn_k_norm.weight", "conv.in_proj.weight": "shortconv.in_proj.weight",
    "conv.conv.weight": "shortconv.conv.weight", "conv.out_proj.weight": "shortconv.out_proj.weight",
    "ffn_norm.weight": "ffn_norm.weight", "feed_forward.w1.weight": "ffn_gate.weight",
    "feed_forward.w2.weight": "ffn_down.weight", "feed_forward.w3.weight": "ffn_up.weight",
}


def gguf_name(name):
    if name.startswith("model.layers."):
        _, _, i_layer, rest = name.split(".", 3)
        return f"blk.{i_layer}.{NAMES[rest]}"
    return NAMES[name]


def multiplier_of(name, c):
    """A number, or one for each row."""
    inner, bc = c["mamba_d_ssm"], c["mamba_n_groups"] * c["mamba_d_state"]
    sizes = [inner, inner, bc, bc, c["mamba_n_heads"]]
    return {
        "embed_tokens": c["embedding_multiplier"], "lm_head": c["lm_head_multiplier"],
        "q_proj": c["attention_in_multiplier"], "v_proj": c["attention_in_multiplier"],
        "k_proj": c["attention_in_multiplier"] * c["key_multiplier"], "o_proj": c["attention_out_multiplier"],
        "in_proj": c["ssm_in_multiplier"] * np.repeat(c["ssm_multipliers"], sizes)[:, None],
        "out_proj": c["ssm_out_multiplier"], "gate_proj": c["mlp_multipliers"][0],
        "down_proj": c["mlp_multipliers"][1],
    }.get(name.split(".")[-2], 1)


def as_stored(name, value, c):
    if is_lfm2(c):
        return np.ascontiguousarray(value[:, 0] if name.endswith("conv.conv.weight") else value)
    heads = {"q_proj": c["num_attention_heads"], "k_proj": c["num_key_value_heads"]}
    projection = name.split(".")[-2]
    value = value.astype(np.float64) * multiplier_of(name, c)
    if projection in heads:
        value = make.pairs_adjacent(value, heads[projection])
    if name.endswith("mamba.norm.weight"):
        value = value.reshape(c["mamba_n_groups"], -1)
    return make_recurrent.as_stored("mamba2", name, value)


def write_gguf(path, name, config, weights):
    w = gguf.GGUFWriter(path, "lfm2" if is_lfm2(config) else "falcon-h1")
    w.add_type(gguf.GGUFType.MODEL)
    w.add_name(f"golden {name}")
    w.add_block_count(config["num_hidden_layers"])
    w.add_context_length(config["max_position_embeddings"])
    w.add_embedding_length(config["hidden_size"])
    w.add_head_count(config["num_attention_heads"])
    w.add_vocab_size(make.VOCAB)
    w.add_file_type(gguf.LlamaFileType.ALL_F32)
    (add_lfm2 if is_lfm2(config) else add_falcon_h1)(w, config, weights)
    w.add_tokenizer_model("no_vocab")
    for full_name, value in weights.items():
        w.add_tensor(gguf_name(full_name), as_stored(full_name, value, config))
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def add_lfm2(w, config, weights):
    w.add_feed_forward_length(len(weights["model.layers.0.feed_forward.w1.weight"]))
    w.add_head_count_kv([config["num_key_value_heads"] if kind == "full_attention" else 0
                         for kind in config["layer_types"]])
    w.add_layer_norm_rms_eps(config["norm_eps"])
    w.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    w.add_shortconv_l_cache(config["conv_L_cache"])


def add_falcon_h1(w, config, weights):
    w.add_feed_forward_length(config["intermediate_size"])
    w.add_head_count_kv(config["num_key_value_heads"])
    w.add_key_length(config["head_dim"])
    w.add_value_length(config["head_dim"])
    w.add_layer_norm_rms_eps(config["rms_norm_eps"])
    w.add_rope_freq_base(config["rope_theta"])
    w.add_ssm_conv_kernel(config["mamba_d_conv"])
    w.add_ssm_inner_size(config["mamba_d_ssm"])
    w.add_ssm_state_size(config["mamba_d_state"])
    w.add_ssm_time_step_rank(config["mamba_n_heads"])
    w.add_ssm_group_count(config["mamba_n_groups"])


def write(name, seed):
    config = MODELS[name]
    # in one chunk float32 sums up decays of 500 tokens, whose differences are all that counts
    weights, plain = make_recurrent.write_logits(name, build, seed, most=1e-3 if is_zamba2(config) else 1e-4)
    has_no_gguf = is_recurrent_gemma(config) or is_zamba2(config)
    if not has_no_gguf:
        write_gguf(make.HERE / f"{name}.gguf", name, config, weights)
    make.write_folder(name, plain, None)


def main():
    names = sys.argv[1:] or list(MODELS)
    for name in names:
        write(name, 200 + list(MODELS).index(name))


if __name__ == "__main__":
    main()
