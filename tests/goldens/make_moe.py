#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes the goldens of hybrids with mixtures of experts, and of their relatives without, as make.py does it
for the others.

Usage: tests/goldens/make_moe.py [NAME]...      writes NAME.gguf and NAME-LENGTH.npy beside itself, and hf/NAME

Needs what make.py needs."""
import sys

import gguf
import numpy as np
import torch
import transformers

import make
import make_recurrent


# ---- the models: GGUF architecture, Hugging Face class and config ----

def mamba2_layers(**kwargs):
    return {"hidden_size": 36, "num_hidden_layers": 4, "num_attention_heads": 3, "num_key_value_heads": 1,
            "mamba_n_heads": 8, "mamba_d_head": 9, "mamba_expand": 2, "mamba_n_groups": 1, "mamba_d_state": 19,
            "mamba_d_conv": 4, "mamba_chunk_size": 16, "mamba_conv_bias": True, "mamba_proj_bias": False,
            "max_position_embeddings": 4096, "rms_norm_eps": 1e-5, "tie_word_embeddings": True, **kwargs}


def granite(**kwargs):
    config = mamba2_layers(
        layer_types=["mamba", "attention", "mamba", "attention"], intermediate_size=24, num_local_experts=7,
        num_experts_per_tok=3, shared_intermediate_size=40, embedding_multiplier=3.5, residual_multiplier=0.6,
        attention_multiplier=0.35, logits_scaling=2.5, position_embedding_type=None,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0})
    return ("granitehybrid", transformers.GraniteMoeHybridForCausalLM, transformers.GraniteMoeHybridConfig,
            {**config, **kwargs})


def bamba(**kwargs):
    # RoPE is "linear" since transformers 5.2 turns half of a head only where it isn't "default".
    config = mamba2_layers(
        hidden_size=48, mamba_d_head=12, intermediate_size=56, attn_layer_indices=[1, 2],
        tie_word_embeddings=False, rope_parameters={"rope_type": "linear", "rope_theta": 10000.0, "factor": 2.0,
                                                    "partial_rotary_factor": 0.5})
    return "granitehybrid", transformers.BambaForCausalLM, transformers.BambaConfig, {**config, **kwargs}


def jamba(**kwargs):
    config = {"hidden_size": 36, "intermediate_size": 40, "num_hidden_layers": 4, "num_attention_heads": 3,
              "num_key_value_heads": 1, "attn_layer_period": 3, "attn_layer_offset": 0, "num_experts": 6,
              "num_experts_per_tok": 2, "expert_layer_period": 2, "expert_layer_offset": 1, "mamba_d_state": 11,
              "mamba_d_conv": 4, "mamba_expand": 2, "mamba_dt_rank": 5, "mamba_conv_bias": True,
              "mamba_proj_bias": False, "use_mamba_kernels": False, "max_position_embeddings": 4096,
              "rms_norm_eps": 1e-5, "tie_word_embeddings": False}
    return "jamba", transformers.JambaForCausalLM, transformers.JambaConfig, {**config, **kwargs}


def qwen3_next(**kwargs):
    config = {"hidden_size": 40, "intermediate_size": 24, "num_hidden_layers": 4, "num_attention_heads": 3,
              "num_key_value_heads": 1, "head_dim": 24, "linear_conv_kernel_dim": 4, "linear_key_head_dim": 11,
              "linear_value_head_dim": 11, "linear_num_key_heads": 2, "linear_num_value_heads": 6,
              "moe_intermediate_size": 20, "shared_expert_intermediate_size": 28, "num_experts": 9,
              "num_experts_per_tok": 4, "max_position_embeddings": 4096, "rms_norm_eps": 1e-6,
              "layer_types": ["linear_attention", "linear_attention", "full_attention", "linear_attention"],
              "tie_word_embeddings": False, "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0,
                                                                "partial_rotary_factor": 0.25}}
    return "qwen3next", transformers.Qwen3NextForCausalLM, transformers.Qwen3NextConfig, {**config, **kwargs}


MODELS = {
    "granitehybrid": granite(),
    "granitehybrid-rope": granite(position_embedding_type="rope", num_local_experts=5, num_experts_per_tok=5,
                                  layer_types=["attention", "mamba", "attention", "mamba"], intermediate_size=32,
                                  tie_word_embeddings=False, mamba_conv_bias=False),
    "granitehybrid-dense": granite(num_local_experts=0, num_experts_per_tok=0, shared_intermediate_size=56,
                                   intermediate_size=56, hidden_size=32, mamba_d_head=8, num_attention_heads=4,
                                   num_key_value_heads=2),
    "bamba": bamba(),
    "jamba": jamba(),
    "jamba-dense": jamba(num_experts=1, num_experts_per_tok=1, attn_layer_period=2, attn_layer_offset=0,
                         num_key_value_heads=3, tie_word_embeddings=True),
    "qwen3next": qwen3_next(),
    "qwen3next-interval": qwen3_next(
        layer_types=["linear_attention", "full_attention"] * 2, linear_num_key_heads=4, linear_num_value_heads=4,
        linear_conv_kernel_dim=3, linear_key_head_dim=16, linear_value_head_dim=16, head_dim=16, hidden_size=32,
        num_attention_heads=4, num_key_value_heads=2, tie_word_embeddings=True, moe_intermediate_size=16,
        num_experts_per_tok=1),
}


def build(name, weights):
    _, cls, config_cls, config = MODELS[name]
    model = cls(config_cls(vocab_size=make.VOCAB, attn_implementation="eager", experts_implementation="eager",
                           pad_token_id=None, bos_token_id=None, eos_token_id=None, **config)).eval()
    if weights is not None:
        state = {n: torch.from_numpy(w).to(torch.get_default_dtype()) for n, w in weights.items()}
        missing = model.load_state_dict(state, strict=False)
        tied = ["lm_head.weight"] if model.config.tie_word_embeddings else []
        assert not missing.unexpected_keys and missing.missing_keys == tied, missing
    return model


# ---- the GGUF file, as llama.cpp's converter lays it out ----

NAMES = {
    "model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight",
    "model.final_layernorm.weight": "output_norm.weight", "lm_head.weight": "output.weight",
    "input_layernorm.weight": "attn_norm.weight", "self_attn.q_proj.weight": "attn_q.weight",
    "self_attn.k_proj.weight": "attn_k.weight", "self_attn.v_proj.weight": "attn_v.weight",
    "self_attn.o_proj.weight": "attn_output.weight", "mamba.in_proj.weight": "ssm_in.weight",
    "mamba.conv1d.weight": "ssm_conv1d.weight", "mamba.conv1d.bias": "ssm_conv1d.bias",
    "mamba.dt_bias": "ssm_dt.bias", "mamba.A_log": "ssm_a", "mamba.D": "ssm_d",
    "mamba.norm.weight": "ssm_norm.weight", "mamba.out_proj.weight": "ssm_out.weight",
    "post_attention_layernorm.weight": "ffn_norm.weight", "pre_ff_layernorm.weight": "ffn_norm.weight",
    "feed_forward.gate_proj.weight": "ffn_gate.weight", "feed_forward.up_proj.weight": "ffn_up.weight",
    "feed_forward.down_proj.weight": "ffn_down.weight", "block_sparse_moe.router.layer.weight": "ffn_gate_inp.weight",
    "block_sparse_moe.output_linear.weight": "ffn_down_exps.weight", "mamba.x_proj.weight": "ssm_x.weight",
    "mamba.dt_proj.weight": "ssm_dt.weight", "mamba.dt_proj.bias": "ssm_dt.bias",
    "mamba.dt_layernorm.weight": "ssm_dt_norm.weight", "mamba.b_layernorm.weight": "ssm_b_norm.weight",
    "mamba.c_layernorm.weight": "ssm_c_norm.weight", "feed_forward.router.weight": "ffn_gate_inp.weight",
    "feed_forward.experts.down_proj": "ffn_down_exps.weight",
}


NAMES_OF = {"qwen3next": {
    "post_attention_layernorm.weight": "post_attention_norm.weight", "self_attn.q_norm.weight": "attn_q_norm.weight",
    "self_attn.k_norm.weight": "attn_k_norm.weight", "linear_attn.in_proj_ba.weight": "ssm_ba.weight",
    "linear_attn.conv1d.weight": "ssm_conv1d.weight", "linear_attn.dt_bias": "ssm_dt.bias",
    "linear_attn.A_log": "ssm_a", "linear_attn.norm.weight": "ssm_norm.weight",
    "linear_attn.out_proj.weight": "ssm_out.weight", "mlp.gate.weight": "ffn_gate_inp.weight",
    "mlp.experts.down_proj": "ffn_down_exps.weight", "mlp.shared_expert_gate.weight": "ffn_gate_inp_shexp.weight",
    "mlp.shared_expert.gate_proj.weight": "ffn_gate_shexp.weight",
    "mlp.shared_expert.up_proj.weight": "ffn_up_shexp.weight",
    "mlp.shared_expert.down_proj.weight": "ffn_down_shexp.weight",
}}


def stored(arch, name, value, config):
    """Names and arrays that a tensor becomes; `name` without the layer's prefix."""
    suffix = "_shexp" if config.get("num_local_experts") else ""
    if name in ("block_sparse_moe.input_linear.weight", "feed_forward.experts.gate_up_proj"):
        gate, up = np.split(value, 2, axis=1)
        return {"ffn_gate_exps.weight": gate, "ffn_up_exps.weight": up}
    if name == "mlp.experts.gate_up_proj":
        gate, up = np.split(value, 2, axis=1)
        return {"ffn_gate_exps.weight": gate, "ffn_up_exps.weight": up}
    if name == "linear_attn.in_proj_qkvz.weight":
        keys, values = config["linear_key_head_dim"], config["linear_value_head_dim"]
        values *= config["linear_num_value_heads"] // config["linear_num_key_heads"]
        heads = value.reshape(config["linear_num_key_heads"], -1, value.shape[-1])
        parts = [part.reshape(-1, value.shape[-1]) for part in np.split(
            heads, [keys, 2 * keys, 2 * keys + values], axis=1)]
        return {"attn_qkv.weight": np.concatenate(parts[:3]), "attn_gate.weight": parts[3]}
    if name == "shared_mlp.input_linear.weight":
        gate, up = np.split(value, 2)
        return {f"ffn_gate{suffix}.weight": gate, f"ffn_up{suffix}.weight": up}
    if name == "shared_mlp.output_linear.weight":
        return {f"ffn_down{suffix}.weight": value}
    heads = {"q_proj": config["num_attention_heads"], "k_proj": config["num_key_value_heads"]}
    projection = name.split(".")[-2] if "." in name else name
    if projection in heads and arch == "granitehybrid":
        value = make.pairs_adjacent(value, heads[projection])
    names = {**NAMES, **NAMES_OF.get(arch, {})}
    if arch == "qwen3next" and name.endswith("norm.weight") and name != "linear_attn.norm.weight":
        value = value + np.float32(1)
    if name == "mlp.shared_expert_gate.weight":
        value = value[0]
    return {names[name]: make_recurrent.as_stored("mamba2" if arch == "granitehybrid" else "mamba", name, value)}


def add_tensors(w, arch, weights, config):
    for full_name, value in weights.items():
        prefix, name = "", full_name
        if full_name.startswith("model.layers."):
            _, _, i_layer, name = full_name.split(".", 3)
            prefix = f"blk.{i_layer}."
        for short, array in stored(arch, name, value, config).items():
            w.add_tensor(prefix + short, np.ascontiguousarray(array, dtype=np.float32))


def add_granite(w, config):
    attends = [kind == "attention" for kind in config["layer_types"]] if "layer_types" in config else [
        i in config["attn_layer_indices"] for i in range(config["num_hidden_layers"])]
    has_rope = "attn_layer_indices" in config  # not as position_embedding_type says
    head_dim = config["hidden_size"] // config["num_attention_heads"]
    rope = config["rope_parameters"]
    w.add_feed_forward_length(config["intermediate_size"])
    w.add_head_count_kv([config["num_key_value_heads"] if a else 0 for a in attends])
    w.add_layer_norm_rms_eps(config["rms_norm_eps"])
    w.add_rope_freq_base(rope["rope_theta"])
    w.add_rope_dimension_count(head_dim // 2 if has_rope else head_dim)
    w.add_rope_scaling_finetuned(has_rope or config["position_embedding_type"] == "rope")
    if rope["rope_type"] == "linear":
        w.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        w.add_rope_scaling_factor(rope["factor"])
    w.add_ssm_conv_kernel(config["mamba_d_conv"])
    w.add_ssm_state_size(config["mamba_d_state"])
    w.add_ssm_group_count(config["mamba_n_groups"])
    w.add_ssm_inner_size(config["mamba_expand"] * config["hidden_size"])
    w.add_ssm_time_step_rank(config["mamba_n_heads"])
    if "attention_multiplier" in config:
        w.add_attention_scale(config["attention_multiplier"])
        w.add_embedding_scale(config["embedding_multiplier"])
        w.add_residual_scale(config["residual_multiplier"])
        w.add_logit_scale(config["logits_scaling"])
        w.add_expert_count(config["num_local_experts"])
        w.add_expert_used_count(config["num_experts_per_tok"])
        w.add_expert_shared_feed_forward_length(config["shared_intermediate_size"])


def add_jamba(w, config):
    period, offset = config["attn_layer_period"], config["attn_layer_offset"]
    w.add_feed_forward_length(config["intermediate_size"])
    w.add_head_count_kv([config["num_key_value_heads"] if i % period == offset else 0
                         for i in range(config["num_hidden_layers"])])
    w.add_layer_norm_rms_eps(config["rms_norm_eps"])
    w.add_ssm_conv_kernel(config["mamba_d_conv"])
    w.add_ssm_state_size(config["mamba_d_state"])
    w.add_ssm_inner_size(config["mamba_expand"] * config["hidden_size"])
    w.add_ssm_time_step_rank(config["mamba_dt_rank"])
    w.add_expert_count(config["num_experts"])
    w.add_expert_used_count(config["num_experts_per_tok"])


def add_qwen3_next(w, config):
    recurs = [kind == "linear_attention" for kind in config["layer_types"]]
    w.add_feed_forward_length(config["intermediate_size"])
    w.add_head_count_kv(config["num_key_value_heads"])
    w.add_key_length(config["head_dim"])
    w.add_value_length(config["head_dim"])
    w.add_layer_norm_rms_eps(config["rms_norm_eps"])
    w.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    w.add_rope_dimension_count(config["head_dim"] // 4)
    w.add_ssm_conv_kernel(config["linear_conv_kernel_dim"])
    w.add_ssm_state_size(config["linear_key_head_dim"])
    w.add_ssm_group_count(config["linear_num_key_heads"])
    w.add_ssm_time_step_rank(config["linear_num_value_heads"])
    w.add_ssm_inner_size(config["linear_num_value_heads"] * config["linear_value_head_dim"])
    interval = 2 if recurs == [True, False] * 2 else 4
    if interval == 4:  # files of earlier converters have no list
        w.add_array("qwen3next.attention.recurrent_layers", recurs)
    w.add_uint32("qwen3next.full_attention_interval", interval)
    w.add_expert_count(config["num_experts"])
    w.add_expert_used_count(config["num_experts_per_tok"])
    w.add_expert_feed_forward_length(config["moe_intermediate_size"])
    w.add_expert_shared_feed_forward_length(config["shared_expert_intermediate_size"])


def write_gguf(path, name, arch, config, weights):
    w = gguf.GGUFWriter(path, arch)
    w.add_type(gguf.GGUFType.MODEL)
    w.add_name(f"golden {name}")
    w.add_block_count(config["num_hidden_layers"])
    w.add_context_length(config["max_position_embeddings"])
    w.add_embedding_length(config["hidden_size"])
    w.add_head_count(config["num_attention_heads"])
    w.add_vocab_size(make.VOCAB)
    w.add_file_type(gguf.LlamaFileType.ALL_F32)
    {"granitehybrid": add_granite, "jamba": add_jamba, "qwen3next": add_qwen3_next}[arch](w, config)
    w.add_tokenizer_model("no_vocab")
    add_tensors(w, arch, weights, config)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def write(name, seed):
    arch, _, _, config = MODELS[name]
    norm_center = 0.25 if arch == "qwen3next" else 1.0  # most of its norms multiply with 1 + w
    weights, plain = make_recurrent.write_logits(name, build, seed, norm_center)
    write_gguf(make.HERE / f"{name}.gguf", name, arch, config, weights)
    make.write_folder(name, plain, None)


def main():
    names = sys.argv[1:] or list(MODELS)
    for name in names:
        write(name, 300 + list(MODELS).index(name))


if __name__ == "__main__":
    main()
