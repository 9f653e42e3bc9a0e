/* SPDX-License-Identifier: Apache-2.0
 *
 * Metadata keys that change what is computed and that a model's description doesn't read. A file
 * with one would run and give wrong text, so it is refused, unless the value is the one that
 * changes nothing. The names are those of ggml's gguf-py/gguf/constants.py. */
#include "plan.h"

#include <string.h>

/* `key` follows "<arch>."; a star at its end stands for any rest. */
static const struct unread {
	const char *key;
	double neutral[2];    /* what changes nothing; [1] only if it isn't 0 */
	enum bb_hparam same;  /* neither does this hyper-parameter's value */
} unread_keys[] = {
	{ "activation_sparsity_scale" },
	{ "altup.*" },
	{ "attention.causal", { 1 } },
	{ "attention.clamp_kqv" },
	{ "attention.compress_*" },
	{ "attention.group_norm_*" },
	{ "attention.iclr_scale", { 1 } },
	{ "attention.indexer.*" },
	{ "attention.key_length_*", .same = H_HEAD },
	{ "attention.max_alibi_bias" },
	{ "attention.output_scale", { 0, 1 } },
	{ "attention.recurrent_layers" },
	{ "attention.relative_buckets_count" },
	{ "attention.scale", .same = H_ATTN_SCALE },
	{ "attention.shared_kv_layers" },
	{ "attention.sliding_window" },
	{ "attention.sliding_window_pattern" },
	{ "attention.temperature_length" },
	{ "attention.temperature_scale" },
	{ "attention.value_length_*", .same = H_HEAD_V },
	{ "attention.value_scale", { 0, 1 } },
	{ "attn_logit_softcapping" },
	{ "embedding_length_per_layer_input" },
	{ "embedding_scale", { 0, 1 } },
	{ "expert_*" },
	{ "experts_per_group" },
	{ "final_logit_softcapping" },
	{ "full_attention_interval" },
	{ "hash_layer_count" },
	{ "hyper_connection.*" },
	{ "interleave_moe_layer_step" },
	{ "kda.*" },
	{ "leading_dense_block_count" },
	{ "logit_scale", { 0, 1 } },
	{ "moe_*" },
	{ "nextn_predict_layers" },
	{ "rescale_every_n_layers" },
	{ "residual_scale", { 0, 1 } },
	{ "rope.dimension_count_swa", .same = H_ROPE_DIM },
	{ "rope.dimension_sections" },
	{ "rope.freq_base_swa", .same = H_ROPE_BASE },
	{ "rope.scaling.alpha", { 0, 1 } },
	{ "rope.scaling.yarn_attn_factor", { 0, 1 } },
	{ "rope.scaling.yarn_log_multiplier" },
	{ "router_logit_softcapping" },
	{ "shortconv.*" },
	{ "ssm.*" },
	{ "swiglu_clamp_*" },
	{ "swin_norm" },
	{ "time_decay_extra_dim" },
	{ "time_mix_extra_dim" },
	{ "token_shift_count" },
	{ "use_parallel_residual" },
	{ "wkv.*" },
};

static const struct unread *find_unread(const char *key) {
	for (size_t i = 0; i < COUNT(unread_keys); i++) {
		const char *name = unread_keys[i].key;
		const size_t n = strlen(name) - 1;
		if (name[n] == '*' ? strncmp(key, name, n) == 0 : strcmp(key, name) == 0) {
			return &unread_keys[i];
		}
	}
	return NULL;
}

static bool model_reads(const struct bb_model *m, const char *key) {
	if (m->gguf_layers != NULL && strcmp(m->gguf_layers + (m->gguf_layers[0] == '!'), key) == 0) {
		return true;
	}
	for (const struct bb_key *k = m->keys; k->h != H_NONE; k++) {
		if (k->gguf != NULL && strcmp(k->gguf, key) == 0) {
			return true;
		}
	}
	return false;
}

static bool is_neutral(const struct unread *u, const struct bb_hparams *hp, double value) {
	return value == u->neutral[0] || (u->neutral[1] != 0 && value == u->neutral[1]) ||
		(u->same != H_NONE && (value == 0 || (float)value == (float)hp->v[u->same]));
}

/* The first number of a key that isn't neutral, into text; false when all are. */
static bool find_effect(const struct gguf_kv *kv, const struct unread *u,
	const struct bb_hparams *hp, char *text, size_t bytes) {
	if (kv->strings != NULL) {
		char shown[BASE_SHOWN];
		snprintf(text, bytes, "'%s'", kv->n == 0 ? ""
			: base_show(kv->strings[0].data, kv->strings[0].bytes, shown, sizeof(shown)));
		return true;
	}
	for (uint64_t i = 0; i < kv->n; i++) {
		const double value = gguf_array_float(kv, i);
		if (!is_neutral(u, hp, value)) {
			snprintf(text, bytes, "%g", value);
			return true;
		}
	}
	return false;
}

static void expected_text(const struct unread *u, const struct bb_hparams *hp, char *text,
	size_t bytes) {
	const int n = snprintf(text, bytes, "%g", u->neutral[0]);
	const double other = u->same != H_NONE ? hp->v[u->same] : u->neutral[1];
	if (other != 0) {
		snprintf(text + n, bytes - (size_t)n, " or %g", other);
	}
}

bool unread_check(const struct bb_model *m, const struct bb_hparams *hp, const struct gguf *g,
	struct bb_error *err) {
	const size_t prefix = strlen(m->name);
	for (size_t i = 0; i < g->n_kvs; i++) {
		const struct gguf_kv *kv = &g->kvs[i];
		if (strncmp(kv->key, m->name, prefix) != 0 || kv->key[prefix] != '.') {
			continue;
		}
		const char *key = kv->key + prefix + 1;
		const struct unread *u = find_unread(key);
		char value[64], expected[64];
		if (u != NULL && !model_reads(m, key) && find_effect(kv, u, hp, value, sizeof(value))) {
			expected_text(u, hp, expected, sizeof(expected));
			return base_fail(err, BB_ERR_UNSUPPORTED,
				"metadata key '%.100s' is %s, and this build's %s doesn't compute that; "
				"expected %s",
				kv->key, value, m->name, expected);
		}
	}
	return true;
}
