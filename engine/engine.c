/* SPDX-License-Identifier: Apache-2.0
 *
 * Opening and closing an engine: file, tokenizer, plan, weights, threads; and what it says of
 * itself. */
#include "sample.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* ---- names ---- */

bool bb_kv_type_parse(const char *name, enum bb_kv_type *out) {
	static const struct {
		const char *name;
		enum bb_kv_type type;
	} names[] = {
		{ "auto", BB_KV_AUTO }, { "f32", BB_KV_F32 }, { "float32", BB_KV_F32 },
		{ "f16", BB_KV_F16 },
		{ "float16", BB_KV_F16 }, { "bf16", BB_KV_BF16 }, { "bfloat16", BB_KV_BF16 },
		{ "int8", BB_KV_INT8 }, { "q8_0", BB_KV_INT8 },
	};
	for (size_t i = 0; i < COUNT(names); i++) {
		if (strcmp(names[i].name, name) == 0) {
			*out = names[i].type;
			return true;
		}
	}
	return false;
}

const char *bb_kv_type_name(enum bb_kv_type type) {
	static const char *const names[] = { "auto", "f32", "f16", "bf16", "int8" };
	return names[type];
}

enum bb_kv_dtype engine_kv_dtype(enum bb_kv_type type) {
	static const enum bb_kv_dtype types[] = { KV_F16, KV_F32, KV_F16, KV_BF16, KV_INT8 };
	return types[type];
}

const char *engine_kv_name(enum bb_kv_dtype type) {
	static const char *const names[] = { "f32", "f16", "bf16", "int8" };
	return names[type];
}

int engine_n_vocab(const struct bb_engine *e) {
	return e->is_planned ? hparam_int(&e->plan.hp, H_VOCAB) : tokenizer_n_vocab(e->tokenizer);
}

const struct bb_kv_layout *engine_kv_layout(const struct bb_engine *e, enum bb_kv_dtype type) {
	const struct bb_kv_layout *layout;
	kernels_attention(&e->kernels, type, &layout);
	return layout;
}

size_t engine_slab_bytes(const struct bb_engine *e, enum bb_kv_dtype type) {
	return engine_kv_layout(e, type)->slab_bytes(type, hparam_int(&e->plan.hp, H_HEAD),
		e->kv_group);
}

/* ---- ISA levels ---- */

const char *const *bb_isa_names(void) {
	static const char *const names[] = {
#define X(name, flags) #name,
		BB_ISAS(X)
#undef X
		NULL,
	};
	return names;
}

static const struct bb_isa *find_isa(const char *name) {
	for (const struct bb_isa *isa = bb_isas; isa->name != NULL; isa++) {
		if (strcmp(isa->name, name) == 0) {
			return isa;
		}
	}
	return NULL;
}

bool bb_isa_is_available(const char *name) {
	const struct bb_isa *isa = find_isa(name);
	return isa != NULL && (isa->flags & ~cpu_flags()) == 0;
}

/* The level asked for, or the highest one this machine runs whole. */
static const struct bb_isa *choose_isa(const char *name, struct bb_error *err) {
	if (name == NULL) {
		const struct bb_isa *best = &bb_isas[0];
		for (const struct bb_isa *isa = bb_isas; isa->name != NULL; isa++) {
			best = bb_isa_is_available(isa->name) ? isa : best;
		}
		return best;
	}
	const struct bb_isa *isa = find_isa(name);
	char shown[BASE_SHOWN];
	if (isa == NULL) {
		base_fail(err, BB_ERR_USAGE, "no ISA level '%s'; expected c, avx2, avx_vnni, avx512, "
			"avx512_vnni or avx512_bf16", base_show(name, strlen(name), shown, sizeof(shown)));
	} else if ((isa->flags & ~cpu_flags()) != 0) {
		base_fail(err, BB_ERR_UNSUPPORTED, "this machine can't run ISA level '%s'", name);
		isa = NULL;
	}
	return isa;
}

bool engine_isa(const char *name, struct bb_kernels *k, const char **used, struct bb_error *err) {
	const struct bb_isa *isa = choose_isa(name, err);
	if (isa == NULL) {
		return false;
	}
	*used = isa->name;
	bb_kernels_cpu(k, isa->flags);
	return true;
}

double bb_engine_read_bandwidth(const struct bb_engine *e, size_t bytes) {
	return memory_is_host(&e->memory) ? cpu_read_bandwidth(e->pool, bytes)
		: memory_copy_bandwidth(&e->memory, bytes);
}

/* ---- opening ---- */

static bool check_params(const struct bb_engine_params *p, struct bb_error *err) {
	char shown[BASE_SHOWN];
	if (p->device != NULL && !device_is_known(p->device)) {
		return base_fail(err, BB_ERR_USAGE,
			"device '%s' is unknown; expected auto, cpu, cuda or simt",
			base_show(p->device, strlen(p->device), shown, sizeof(shown)));
	}
	if (p->gemm != NULL && strcmp(p->gemm, "exact") != 0 && strcmp(p->gemm, "fast") != 0 &&
		strcmp(p->gemm, "wgmma") != 0) {
		return base_fail(err, BB_ERR_USAGE, "gemm '%s' is unknown; expected exact, fast or wgmma",
			base_show(p->gemm, strlen(p->gemm), shown, sizeof(shown)));
	}
	if (p->state_cache_type != BB_KV_AUTO && p->state_cache_type != BB_KV_F32 &&
		p->state_cache_type != BB_KV_INT8) {
		return base_fail(err, BB_ERR_USAGE, "checkpoints of type %s; expected f32 or int8",
			bb_kv_type_name(p->state_cache_type));
	}
	if (p->n_threads < 0 || p->n_threads > 1024 || p->max_model_len < 0 || p->window < 0 ||
		p->max_batch_tokens < 0 || p->max_batch_tokens > 1 << 16) {
		return base_fail(err, BB_ERR_USAGE,
			"expected 0 to 1024 threads, 0 to 65536 batch tokens, no negative length or window");
	}
	return true;
}

static bool find_model(struct bb_engine *e, const struct bb_model *const *models,
	struct bb_error *err) {
	struct gguf_string arch;
	bool found;
	if (!gguf_str(&e->file.gguf, "general.architecture", &arch, &found, err)) {
		return false;
	}
	if (!found) {
		return base_fail(err, BB_ERR_FORMAT, "metadata key 'general.architecture' is missing");
	}
	char known[300] = "";
	bool is_cut = false;
	for (; *models != NULL; models++) {
		if (file_is_of(&e->file, *models)) {
			e->model = *models;
			return true;
		}
		const char *name = file_arch_name(&e->file, *models);
		if (name != NULL && !is_cut) { /* as many as the sentence has room for */
			const size_t n = strlen(known);
			is_cut = n + strlen(", ") + strlen(name) + sizeof(", ...") > sizeof(known);
			snprintf(known + n, sizeof(known) - n, "%s%s", n > 0 ? ", " : "",
				is_cut ? "..." : name);
		}
	}
	char shown[BASE_SHOWN];
	return base_fail(err, BB_ERR_UNSUPPORTED,
		"architecture '%s' isn't one that this build runs (%s)",
		base_show(arch.data, arch.bytes, shown, sizeof(shown)), known);
}

/* *out = a copy of the string, NULL when the key is absent; false when it is no string or memory
 * fails. */
static bool copy_string(const struct gguf *g, const char *key, char **out, struct bb_error *err) {
	struct gguf_string s;
	bool found;
	*out = NULL;
	if (!gguf_str(g, key, &s, &found, err)) {
		return false;
	}
	*out = found ? base_strndup(s.data, s.bytes) : NULL;
	return !found || *out != NULL || base_no_memory(err, key, s.bytes);
}

/* general.name, or the file's name without folder and ending. */
static bool model_name(struct bb_engine *e, const char *path, struct bb_error *err) {
	if (!copy_string(&e->file.gguf, "general.name", &e->name, err)) {
		return false;
	}
	if (e->name == NULL) {
		const char *slash = strrchr(path, '/');
		const char *stem = slash != NULL ? slash + 1 : path;
		const char *dot = strrchr(stem, '.');
		e->name = base_strndup(stem, dot != NULL ? (size_t)(dot - stem) : strlen(stem));
	}
	return e->name != NULL || base_no_memory(err, "model name", strlen(path));
}

/* A folder's text files stand in its metadata; sentences name the keys there. */
static bool fail_text(const struct bb_engine *e, const char *from, const struct bb_error *inner,
	struct bb_error *err) {
	return e->file.is_folder && inner->code != BB_ERR_MEMORY
		? base_fail(err, inner->code, "%s, as GGUF metadata: %.400s", from, inner->text)
		: base_fail(err, inner->code, "%s", inner->text);
}

static bool open_text(struct bb_engine *e, const struct bb_engine_params *params,
	struct bb_error *err) {
	const struct gguf *g = &e->file.gguf;
	struct bb_error inner = { .code = BB_OK };
	if (!file_open(&e->file, params->path, !params->vocab_only, err)) {
		return false;
	}
	if (!tokenizer_create(&e->tokenizer, g, &inner)) {
		return fail_text(e, "tokenizer.json", &inner, err);
	}
	if (!sampling_read(&e->sampling, g, &inner)) {
		return fail_text(e, "generation_config.json", &inner, err);
	}
	return model_name(e, params->path, err) && cot_read(g, &e->cot_each_token, err) &&
		copy_string(g, "tokenizer.chat_template", &e->chat_template, err);
}

static const char *embedding_name(const struct bb_engine *e) {
	for (const struct bb_weight *w = e->model->weights; w->slot != W_NONE; w++) {
		if (w->slot == W_EMBED && file_column(&e->file, w)->name != NULL) {
			return file_column(&e->file, w)->name;
		}
	}
	return "";
}

/* Rows of the embedding; a tokenizer may know fewer (padding), never more. */
static bool vocab_size(const struct bb_engine *e, int *n_vocab, struct bb_error *err) {
	const char *name = embedding_name(e);
	const struct bb_tensor *t = file_tensor(&e->file, name);
	*n_vocab = t != NULL && t->n_dims == 2 && t->dims[0] < INT32_MAX ? (int)t->dims[0] : 0;
	const int n_known = tokenizer_n_vocab(e->tokenizer);
	if (*n_vocab > 0 && n_known > *n_vocab) {
		return base_fail(err, BB_ERR_FORMAT,
			"the tokenizer has %d tokens, but tensor '%s' only %d rows", n_known, name, *n_vocab);
	}
	return true;
}

/* A bias makes the same few channels of all keys large, and the channels that share their scale are
 * rounded away. Perplexity of Qwen2.5-0.5B, f16 7.34: int8 7.56 with a scale per 32 channels, 7.40
 * per 8, 7.32 per 4. Without a bias 32 do: SmolLM2-135M and Gemma 3 270M lose at most 0.3 %. */
static int choose_kv_group(const struct plan *p) {
	const struct bb_tensor *const *layer_0 = p->weights.per_layer; /* [W_COUNT] */
	return layer_0[W_K_BIAS] != NULL ? 4 : 32;
}

/* On a device: what its faster products need. Those of the CPU are exact, even where `fast` is
 * asked for; wgmma is asked for to try one GPU. */
static bool open_fast(struct bb_engine *e, const char *gemm, struct bb_error *err) {
	const struct device *d = &e->memory.device;
	const bool is_host = memory_is_host(&e->memory);
	char why[512] = "it is for a GPU of compute capability 9.0";
	e->is_fast = !is_host && gemm != NULL && strcmp(gemm, "fast") == 0;
	e->is_wgmma = gemm != NULL && strcmp(gemm, "wgmma") == 0;
	const bool is_open = e->is_fast ? d->module->gemm_fast(d->d, why, sizeof(why))
		: !e->is_wgmma || (!is_host && d->module->gemm_wgmma(d->d, why, sizeof(why)));
	return is_open || base_fail(err, BB_ERR_UNSUPPORTED, "gemm %s on device %s: %s", gemm,
		device_kind(d), why);
}

/* Opens what steps are computed on, and chooses the kernels. */
static bool open_memory(struct bb_engine *e, const struct bb_engine_params *params,
	struct bb_error *err) {
	const int n_threads = params->inspect_only ? 1 : e->n_threads; /* inspecting computes nothing */
	e->pool = queue_create(n_threads);
	if (e->pool == NULL) {
		return base_fail(err, BB_ERR_MEMORY, "a pool of %d threads could not be started",
			n_threads);
	}
	e->kernels = e->cpu_kernels;
	if (!memory_open(&e->memory, params->device, params->max_device_bytes, e->pool, err)) {
		return false;
	}
	if (!open_fast(e, params->gemm, err)) {
		return false;
	}
	if (!memory_is_host(&e->memory)) {
		const struct device *d = &e->memory.device;
		d->module->kernels(d->d, &e->kernels);
		d->module->info(d->d, &e->device);
	}
	return true;
}

/* So many rows keep a device's processors busy: 512 for those of a CPU. */
static int rows_for(const struct bb_engine *e) {
	enum { FEW = 512, MANY = 2048, OF_A_PROCESSOR = 16 };
	const int n = OF_A_PROCESSOR * e->device.n_processors / FEW * FEW;
	return n < FEW ? FEW : n > MANY ? MANY : n;
}

static bool open_model(struct bb_engine *e, const struct bb_model *const *models,
	const struct bb_engine_params *params, struct bb_error *err) {
	int n_vocab;
	const int max_rows = params->max_batch_tokens > 0 ? params->max_batch_tokens : rows_for(e);
	if (!find_model(e, models, err) || !vocab_size(e, &n_vocab, err) ||
		!plan_create(&e->plan, e->model, &e->file, &e->kernels, &e->memory, n_vocab, max_rows,
		params->window, err)) {
		return false;
	}
	e->is_planned = true;
	cost_init(&e->cost, &e->plan);
	e->can_tap = params->taps;
	if (e->can_tap) {
		plan_part(&e->plan);
	}
	e->kv_group = choose_kv_group(&e->plan);
	if (memory_is_host(&e->memory)) {
		bb_kernels_cpu(&e->kernels, plan_flags(&e->plan, e->kernels.flags));
	}
	e->max_len = params->max_model_len > 0 ? params->max_model_len
		: hparam_int(&e->plan.hp, H_CONTEXT);
	const size_t gib = 1 << 30, cache = params->state_cache_bytes;
	const size_t most = cache == 0 ? gib : cache == BB_STATE_CACHE_NONE ? 0 : cache;
	if (!vectors_create(&e->vectors, hparam_int(&e->plan.hp, H_EMBD), err)) {
		return false;
	}
	state_pool_init(&e->states, e->plan.state_floats * sizeof(float), &e->memory, most);
	state_pool_init(&e->packed_states, engine_packed_state_bytes(e), &e->memory, most);
	e->kept_states = params->state_cache_type == BB_KV_INT8 ? &e->packed_states : &e->states;
	if (params->inspect_only) {
		return true;
	}
	if (!batch_create(e, err) || !draws_create(e, err) ||
		!plan_pack(&e->plan, params->progress, params->progress_user, err) ||
		(e->is_fast && !plan_gemm(&e->plan, err))) {
		return false;
	}
	e->is_packed = true;
	return true;
}

/* Puts the path before a sentence about the file, unless whoever wrote it did: "PATH: …", the
 * path as far as sentences have room for it. */
static void name_file(struct bb_error *err, const char *path) {
	if (err == NULL || err->code == BB_ERR_USAGE || err->code == BB_ERR_CANCELLED) {
		return;
	}
	char text[sizeof(err->text)];
	const int n = snprintf(text, sizeof(text), "%.150s: ", path);
	if (strncmp(err->text, text, (size_t)n) == 0) {
		return;
	}
	snprintf(text + n, sizeof(text) - (size_t)n, "%.350s", err->text);
	memcpy(err->text, text, sizeof(text));
}

bool bb_engine_open(struct bb_engine **out, const struct bb_model *const *models,
	const struct bb_engine_params *params, struct bb_error *err) {
	assert(params->path != NULL);
	*out = NULL;
	if (!check_params(params, err)) {
		return false;
	}
	struct bb_engine *e = base_alloc(1, sizeof(*e));
	if (e == NULL) {
		return base_no_memory(err, "engine", sizeof(*e));
	}
	e->n_threads = params->n_threads > 0 ? params->n_threads : cpu_count();
	cpu_name(e->cpu, sizeof(e->cpu));
	e->kv_type = engine_kv_dtype(params->kv_type);
	e->budget.max_bytes = params->max_kv_bytes;
	bool is_of_file = false; /* what goes wrong */
	bool ok = grammar_trees_create(&e->grammar_trees, err) &&
		engine_isa(params->isa, &e->cpu_kernels, &e->isa, err);
	if (ok) {
		is_of_file = true;
		ok = open_text(e, params, err);
	}
	if (ok && !params->vocab_only) {
		is_of_file = open_memory(e, params, err);
		ok = is_of_file && open_model(e, models, params, err);
	}
	if (!ok) {
		if (is_of_file) {
			name_file(err, params->path);
		}
		bb_engine_destroy(e);
		return false;
	}
	*out = e;
	return true;
}

void bb_engine_limit_kv(struct bb_engine *e, size_t max_kv_bytes) {
	assert(e->n_contexts == 0);
	e->budget.max_bytes = max_kv_bytes;
}

void bb_engine_destroy(struct bb_engine *e) {
	if (e == NULL) {
		return;
	}
	assert(e->n_contexts == 0); /* contexts go before their engine */
	for (int i = 0; i < MAX_LAYER_KINDS; i++) {
		for (int t = 0; t < N_KV_TYPES; t++) {
			if (e->pools[i][t].page_bytes > 0) {
				kv_pool_finish(&e->pools[i][t]);
			}
		}
	}
	state_pool_finish(&e->states);
	state_pool_finish(&e->packed_states);
	vectors_destroy(e->vectors);
	captures_drop(e);
	taps_destroy(e->taps);
	draws_finish(e);
	batch_finish(e);
	plan_finish(&e->plan);
	memory_close(&e->memory);
	queue_destroy(e->pool);
	grammar_trees_destroy(e->grammar_trees);
	tokenizer_destroy(e->tokenizer);
	file_finish(&e->file);
	base_free(e->name);
	base_free(e->chat_template);
	base_free(e);
}

/* ---- what an engine says of itself ---- */

static const char *main_type(const struct model_file *f, int64_t *n_params, size_t *bytes) {
	size_t by_type[BB_DTYPE_LIMIT] = { 0 };
	enum bb_dtype best = BB_F32;
	for (size_t i = 0; i < f->n_tensors; i++) {
		const struct bb_tensor *t = &f->tensors[i];
		*n_params += t->dims[0] * t->dims[1] * t->dims[2] * t->dims[3];
		*bytes += t->bytes;
		by_type[t->type] += t->bytes;
		best = by_type[t->type] > by_type[best] ? t->type : best;
	}
	return tensor_type_name(best);
}

static size_t kv_bytes_per_token(const struct bb_engine *e, int i_kind) {
	return (size_t)e->plan.kinds[i_kind].n_layers * (size_t)hparam_int(&e->plan.hp, H_KV_HEADS) *
		engine_slab_bytes(e, e->kv_type) / BB_PAGE;
}

void bb_engine_info(const struct bb_engine *e, struct bb_engine_info *info) {
	memset(info, 0, sizeof(*info));
	info->name = e->name;
	info->arch = e->model != NULL ? e->model->name : "";
	info->weight_type = main_type(&e->file, &info->n_params, &info->file_bytes);
	info->isa = e->isa;
	info->device = device_kind(&e->memory.device);
	info->cpu = e->cpu;
	info->gemm = e->is_fast ? "fast" : e->is_wgmma ? "wgmma" : "exact";
	info->why_no_gpu = e->memory.why_not;
	info->device_name = memory_is_host(&e->memory) ? e->cpu : e->device.name;
	info->kv_type = engine_kv_name(e->kv_type);
	info->tokenizer = tokenizer_model_name(e->tokenizer);
	info->n_threads = e->n_threads;
	info->n_vocab = engine_n_vocab(e);
	if (!e->is_planned) {
		return;
	}
	const struct plan *p = &e->plan;
	info->n_layers = p->n_layers;
	info->n_embd = hparam_int(&p->hp, H_EMBD);
	info->trained_len = hparam_int(&p->hp, H_CONTEXT);
	info->max_len = e->max_len;
	info->max_batch_tokens = p->max_rows;
	info->weight_bytes = plan_packed_bytes(p);
	info->step_weight_bytes = plan_step_bytes(p);
	info->state_bytes = p->state_floats * sizeof(float);
	info->max_checkpoints = e->kept_states->max_kept;
	info->activation_bytes = p->memory_bytes + p->gemm_bytes + batch_scratch_bytes(e);
	for (int i = 0; i < p->n_paged; i++) {
		info->kv_bytes_per_token += kv_bytes_per_token(e, i);
	}
}

void bb_engine_stats(const struct bb_engine *e, struct bb_engine_stats *stats) {
	*stats = e->stats;
	stats->copied_bytes = e->budget.copied_bytes;
}

size_t bb_engine_kv_read_bytes(const struct bb_engine *e, int n_tokens) {
	size_t bytes = 0;
	for (int i = 0; i < e->plan.n_paged; i++) {
		const int window = e->plan.kinds[i].window;
		const int seen = window > 0 && window < n_tokens ? window : n_tokens;
		bytes += kv_bytes_per_token(e, i) * (size_t)seen;
	}
	return bytes;
}
