/* SPDX-License-Identifier: Apache-2.0
 *
 * Opening engines on files that are wrong in one way each, running out of memory at every
 * allocation, and the promise that a step allocates nothing. */
#include "models.h"

#include "gguf.h"

#include <jansson.h>

#include <math.h>
#include <sched.h>
#include <sys/stat.h>

/* ---- wrong files ---- */

/* A copy of a tiny model in which the n bytes `from` read `to` everywhere. */
static const char *patched_bytes(const char *name, const char *from, const char *to, size_t n) {
	static char path[64];
	FILE *in = fopen(tiny_path(name), "rb");
	cr_assert_not_null(in);
	fseek(in, 0, SEEK_END);
	const size_t bytes = (size_t)ftell(in);
	rewind(in);
	char *data = malloc(bytes);
	cr_assert_eq(fread(data, 1, bytes, in), bytes);
	fclose(in);
	int n_found = 0;
	for (char *at = memmem(data, bytes, from, n); at != NULL;
		at = memmem(at, bytes - (size_t)(at - data), from, n)) {
		memcpy(at, to, n);
		n_found++;
	}
	cr_assert_gt(n_found, 0, "'%s' isn't in %s", from, name);
	snprintf(path, sizeof(path), "/tmp/bobbin-test-%d.gguf", (int)getpid());
	FILE *out = fopen(path, "wb");
	cr_assert_eq(fwrite(data, 1, bytes, out), bytes);
	fclose(out);
	free(data);
	return path;
}

static const char *patched(const char *name, const char *from, const char *to) {
	cr_assert_eq(strlen(from), strlen(to));
	return patched_bytes(name, from, to, strlen(from));
}

static void expect_refused(const char *path, enum bb_code code, const char *part) {
	const struct bb_engine_params params = { .path = path, .n_threads = 1 };
	struct bb_engine *e = NULL;
	struct bb_error err = { 0 };
	cr_assert_not(bb_engine_open(&e, bb_models, &params, &err));
	cr_assert_null(e);
	cr_assert_eq(err.code, code, "code %d: %s", err.code, err.text);
	cr_assert_not_null(strstr(err.text, part), "'%s' doesn't say '%s'", err.text, part);
	cr_assert_not_null(strstr(err.text, path), "'%s' doesn't name the file", err.text);
	for (const char *p = err.text; *p != '\0'; p++) {
		cr_assert_geq(*p, ' ', "byte %d in an error sentence", *p);
	}
	unlink(path);
}

Test(engine, unknown_architecture) {
	expect_refused(patched("llama", "llama", "gizmo"), BB_ERR_UNSUPPORTED, "'gizmo'");
}

/* Bytes of a file that a terminal would obey never reach a sentence. */
Test(engine, architecture_that_does_not_print) {
	expect_refused(patched_bytes("llama", "\10\0\0\0\5\0\0\0\0\0\0\0llama",
		"\10\0\0\0\5\0\0\0\0\0\0\0\33[2J\n", 17), BB_ERR_UNSUPPORTED, "'?[2J?'");
}

Test(engine, rope_scaling_that_does_not_print) {
	expect_refused(
		patched_bytes("qwen2-yarn", "\4\0\0\0\0\0\0\0yarn", "\4\0\0\0\0\0\0\0\33[7m", 12),
		BB_ERR_UNSUPPORTED, "'?[7m'");
}

Test(engine, missing_tensor_is_named) {
	expect_refused(patched("llama", "blk.1.ffn_down.weight", "blk.1.ffn_dawn.weight"),
		BB_ERR_FORMAT, "'blk.1.ffn_down.weight' is missing");
}

Test(engine, unknown_tensor_is_named) {
	expect_refused(patched_bytes("llama", "\0output.weight", "\0outpot.weight", 14),
		BB_ERR_UNSUPPORTED, "'outpot.weight' isn't part of architecture llama");
}

/* What a list per layer may say: one number, and 0 for layers of another kind. */
#define KV_HEADS "head_count_kv\11\0\0\0\5\0\0\0\4\0\0\0\0\0\0\0"
Test(engine, layers_of_different_kv_heads_are_refused) {
	const char from[] = KV_HEADS "\0\0\0\0\1\0\0\0", to[] = KV_HEADS "\5\0\0\0\1\0\0\0";
	expect_refused(patched_bytes("lfm2", from, to, sizeof(from) - 1), BB_ERR_UNSUPPORTED,
		"'lfm2.attention.head_count_kv' is 5 in some layers and 1 in others");
}

Test(engine, weights_of_another_kind_of_layer_are_refused) {
	const char from[] = KV_HEADS "\0\0\0\0\1\0\0\0", to[] = KV_HEADS "\1\0\0\0\0\0\0\0";
	expect_refused(patched_bytes("lfm2", from, to, sizeof(from) - 1), BB_ERR_FORMAT,
		"tensor 'blk.0.attn_q.weight' is missing");
}

Test(engine, list_of_other_length_than_layers_is_refused) {
	const char from[] = "block_count\4\0\0\0\4", to[] = "block_count\4\0\0\0\3";
	expect_refused(patched_bytes("lfm2", from, to, sizeof(from) - 1), BB_ERR_FORMAT,
		"'lfm2.attention.head_count_kv': expected a list of 3 numbers, one per layer, has 4");
}

/* Two lists: what neither attends nor feeds forward scans. */
#define FF_WIDTHS "feed_forward_length\11\0\0\0\5\0\0\0\5\0\0\0\0\0\0\0\0\0\0\0"
Test(engine, kinds_of_layers_follow_the_second_list) {
	const char from[] = FF_WIDTHS "8\0\0\0\0\0\0\0", to[] = FF_WIDTHS "\0\0\0\0008\0\0\0";
	expect_refused(patched_bytes("nemotron_h", from, to, sizeof(from) - 1), BB_ERR_FORMAT,
		"tensor 'blk.1.ssm_in.weight' is missing");
}

Test(engine, missing_key_is_named) {
	expect_refused(patched("llama", "llama.block_count", "llama.block_caunt"), BB_ERR_FORMAT,
		"'llama.block_count' is missing");
}

/* A path that happens to begin the sentence is named all the same; none is named twice. */
Test(engine, every_sentence_names_the_file_once) {
	char folder[64];
	snprintf(folder, sizeof(folder), "/tmp/bobbin-test-folder-%d", (int)getpid());
	cr_assert_eq(mkdir(folder, 0700), 0);
	const char *spoiled = patched("llama", "blk.1.ffn_down.weight", "blk.1.ffn_dawn.weight");
	cr_assert_eq(chdir(folder), 0);
	cr_assert_eq(rename(spoiled, "t"), 0);
	const struct bb_engine_params params = { .path = "t", .n_threads = 1 };
	struct bb_engine *e = NULL;
	struct bb_error err = { 0 };
	cr_assert_not(bb_engine_open(&e, bb_models, &params, &err));
	cr_assert_eq(strncmp(err.text, "t: tensor 'blk.1", 16), 0, "%s", err.text);
	unlink("t");
	err = (struct bb_error){ 0 };
	cr_assert_not(bb_engine_open(&e, bb_models, &params, &err));
	cr_assert_eq(strncmp(err.text, "t: can't be opened", 18), 0, "%s", err.text);
	cr_assert_eq(rmdir(folder), 0);
}

Test(engine, long_path_is_cut_and_named_once) {
	char path[400] = "/tmp/";
	memset(path + 5, 'x', 200);
	const struct bb_engine_params params = { .path = path };
	struct bb_engine *e = NULL;
	struct bb_error err = { 0 };
	cr_assert_not(bb_engine_open(&e, bb_models, &params, &err));
	cr_assert_not_null(strstr(err.text, "can't be opened"), "%s", err.text);
	cr_assert_eq(strstr(err.text, "/tmp/"), err.text);
	cr_assert_null(strstr(err.text + 1, "/tmp/"), "%s", err.text);
}

/* A U32 of the metadata: key, type 4, value. */
Test(engine, wrong_shape_names_both) {
	expect_refused(patched_bytes("gemma3", "embedding_length\4\0\0\0\60",
		"embedding_length\4\0\0\0\62", 21), BB_ERR_FORMAT,
		"expected shape [199, 50], the file has [199, 48]");
}

Test(engine, missing_file) {
	const struct bb_engine_params params = { .path = "/nonexistent/model.gguf" };
	struct bb_engine *e;
	struct bb_error err = { 0 };
	cr_assert_not(bb_engine_open(&e, bb_models, &params, &err));
	cr_assert_eq(err.code, BB_ERR_IO);
}

Test(engine, folder_is_not_a_model) {
	const struct bb_engine_params params = { .path = "/tmp" };
	struct bb_engine *e;
	struct bb_error err = { 0 };
	cr_assert_not(bb_engine_open(&e, bb_models, &params, &err));
	cr_assert_eq(err.code, BB_ERR_IO);
	cr_assert_not_null(strstr(err.text, "no config.json"), "%s", err.text);
}

static void expect_option_refused(struct bb_engine_params params, enum bb_code code) {
	struct bb_engine *e;
	struct bb_error err = { 0 };
	params.path = tiny_path("llama");
	cr_assert_not(bb_engine_open(&e, bb_models, &params, &err));
	cr_assert_eq(err.code, code, "%s", err.text);
}

Test(engine, options_out_of_range_are_refused) {
	expect_option_refused((struct bb_engine_params){ .device = "cuda" }, BB_ERR_UNSUPPORTED);
	expect_option_refused((struct bb_engine_params){ .gemm = "wild" }, BB_ERR_USAGE);
	expect_option_refused((struct bb_engine_params){ .isa = "sse9" }, BB_ERR_USAGE);
	expect_option_refused((struct bb_engine_params){ .n_threads = -1 }, BB_ERR_USAGE);
	expect_option_refused((struct bb_engine_params){ .window = -1 }, BB_ERR_USAGE);
	expect_option_refused((struct bb_engine_params){ .state_cache_type = BB_KV_F16 },
		BB_ERR_USAGE);
}

/* A copy of tiny llama with a NaN as element i of a tensor. */
static const char *with_nan(const char *tensor, int i) {
	struct gguf g;
	struct bb_error err = { 0 };
	cr_assert(gguf_open(&g, tiny_path("llama"), &err), "%s", err.text);
	const struct bb_tensor *t = gguf_tensor(&g, tensor);
	cr_assert(t != NULL && t->type == BB_F32);
	const float *at = (const float *)t->data + i;
	float spoiled[8];
	memcpy(spoiled, at, sizeof(spoiled));
	spoiled[0] = NAN;
	const char *path = patched_bytes("llama", (const char *)at, (const char *)spoiled,
		sizeof(spoiled));
	gguf_finish(&g);
	return path;
}

Test(engine, weights_that_give_no_finite_logits_end_a_generation) {
	const char *path = with_nan("output_norm.weight", 3);
	const struct bb_engine_params params = { .path = path, .n_threads = 1 };
	struct bb_engine *e = open_with(&params);
	struct bb_context *c = new_context(e);
	struct bb_generation *g;
	struct bb_generation_params p = { .max_tokens = 4 };
	struct bb_error err = { 0 };
	const int32_t prompt[] = { 5, 17, 23 };
	bb_sampling_default(e, &p.sampling);
	for (int i = 0; i < 2; i++) { /* the context is as it was, and asked again it says so again */
		err = (struct bb_error){ 0 };
		cr_assert_not(bb_generation_create(&g, c, &p, prompt, 3, NULL, NULL, &err));
		cr_assert_eq(err.code, BB_ERR_FORMAT);
		cr_assert_not_null(strstr(err.text, "logits after token 2"), "%s", err.text);
		cr_assert_null(g);
		cr_assert_eq(bb_context_length(c), 0);
	}
	bb_context_destroy(c);
	bb_engine_destroy(e);
	unlink(path);
}

static int32_t best_of(const float *logits, int n) {
	int32_t best = 0;
	for (int i = 1; i < n; i++) {
		best = logits[i] > logits[best] ? i : best;
	}
	return best;
}

/* Of three contexts in one step the second reads a token whose embedding holds a NaN. */
static void spoil_one_of_three(const char *device) {
	enum { N = 3, BAD = 9 };
	const char *path = with_nan("token_embd.weight", BAD * 48);
	const struct bb_engine_params params = { .path = path, .device = device, .n_threads = 1 };
	struct bb_engine *e;
	struct bb_error err = { 0 };
	if (!bb_engine_open(&e, bb_models, &params, &err)) {
		unlink(path);
		cr_skip_test("%s", err.text);
	}
	const int32_t ids[N] = { 5, BAD, 17 };
	float *logits = calloc((size_t)N * (size_t)vocab_of(e), sizeof(*logits));
	struct bb_step_item items[N];
	struct bb_sampled sampled[N];
	struct bb_sampling greedy;
	bb_sampling_default(e, &greedy);
	greedy.temperature = 0;
	for (int i = 0; i < N; i++) {
		items[i] = (struct bb_step_item){ new_context(e), &ids[i], 1,
			.logits = logits + (size_t)i * (size_t)vocab_of(e), .sampled = &sampled[i] };
		cr_assert(bb_sampler_create(&items[i].sampler, e, &greedy, &err), "%s", err.text);
	}
	cr_assert_not(bb_step(e, items, N, &err));
	cr_assert_eq(err.code, BB_ERR_FORMAT);
	cr_assert_not_null(strstr(err.text, "logits"), "%s", err.text);
	for (int i = 0; i < N; i++) {
		cr_assert_eq(bb_context_length(items[i].context), 1);
		cr_assert_eq(sampled[i].id, ids[i] == BAD ? -1 : best_of(items[i].logits, vocab_of(e)));
		bb_sampler_destroy(items[i].sampler);
		bb_context_destroy(items[i].context);
	}
	free(logits);
	bb_engine_destroy(e);
	unlink(path);
}

Test(engine, a_row_without_finite_logits_takes_no_other_token) {
	spoil_one_of_three("cpu");
}

Test(engine, a_row_without_finite_logits_takes_no_other_token_on_the_emulator) {
	spoil_one_of_three("simt");
}

/* ---- memory ---- */

static void fail_every_allocation(const char *path) {
	const struct bb_engine_params params = { .path = path, .n_threads = 1,
		.max_batch_tokens = 8 };
	long n = 0;
	for (bool opened = false; !opened; n++) {
		struct bb_engine *e = NULL;
		struct bb_error err = { 0 };
		base_fail_alloc_at(n + 1);
		opened = bb_engine_open(&e, bb_models, &params, &err);
		base_fail_alloc_at(0);
		cr_assert(opened || (err.code == BB_ERR_MEMORY && e == NULL), "allocation %ld: %s", n + 1,
			err.text);
		bb_engine_destroy(e);
	}
	cr_assert_gt(n, 50);
}

Test(engine, every_failed_allocation_at_load_is_a_clean_error, .timeout = 120) {
	fail_every_allocation(tiny_path("gemma3"));
}

/* Which has a tensor for each expert. */
Test(engine, every_failed_allocation_at_load_of_a_folder_is_too, .timeout = 120) {
	fail_every_allocation(BOBBIN_TESTS "/goldens/hf/jamba");
}

Test(engine, every_failed_allocation_in_a_step_loses_nothing) {
	const struct bb_engine_params params = { .path = tiny_path("llama"), .n_threads = 1 };
	struct bb_engine *e = open_with(&params);
	struct bb_context *c = new_context(e), *fork = NULL;
	struct bb_error err = { 0 };
	int32_t ids[200];
	make_ids(ids, 200, vocab_of(e), 1);
	feed(c, e, ids, 70, NULL);
	long n = 1;
	for (bool done = false; !done; n++) {
		err = (struct bb_error){ 0 };
		base_fail_alloc_at(n);
		const struct bb_step_item item = { c, ids + 70, 130, NULL, false };
		const bool forked = bb_context_fork(&fork, c, &err);
		done = forked && bb_step(e, &item, 1, &err);
		base_fail_alloc_at(0);
		bb_context_destroy(fork);
		cr_assert(done || err.code == BB_ERR_MEMORY, "%s", err.text);
		cr_assert_eq(bb_context_length(c), done ? 200 : 70);
		cr_assert_eq(memcmp(bb_context_tokens(c), ids, 70 * sizeof(ids[0])), 0);
	}
	cr_assert_gt(n, 3);
	bb_context_destroy(c);
	bb_engine_destroy(e);
}

/* ---- steps ---- */

/* Contexts of 60, 61, … tokens that take their logits from steps as they like. */
enum { N_CONTEXTS = 4, MAX_NEW = 150 };

struct crowd {
	struct bb_engine *e;
	struct bb_context *c[N_CONTEXTS];
	int32_t ids[N_CONTEXTS][MAX_NEW];
	float *logits[N_CONTEXTS]; /* [MAX_NEW, n_vocab] */
	int n_vocab;
};

static void make_crowd(struct crowd *w, const char *model) {
	const struct bb_engine_params params = { .path = tiny_path(model), .n_threads = 2,
		.max_model_len = 1000 };
	w->e = open_with(&params);
	w->n_vocab = vocab_of(w->e);
	for (int i = 0; i < N_CONTEXTS; i++) {
		int32_t prompt[64];
		make_ids(prompt, 64, w->n_vocab, i + 1);
		make_ids(w->ids[i], MAX_NEW, w->n_vocab, i + 10);
		w->c[i] = new_context(w->e);
		feed(w->c[i], w->e, prompt, 60 + i, NULL);
		w->logits[i] = calloc((size_t)MAX_NEW * (size_t)w->n_vocab, sizeof(float));
		cr_assert_not_null(w->logits[i]);
	}
}

static void finish_crowd(struct crowd *w) {
	for (int i = 0; i < N_CONTEXTS; i++) {
		free(w->logits[i]);
		bb_context_destroy(w->c[i]);
	}
	bb_engine_destroy(w->e);
}

/* A step in which context i takes n[i] tokens; logits of all of them, or of the last. */
static void step_crowd(const struct crowd *w, const int *n, bool all_logits) {
	struct bb_step_item items[N_CONTEXTS];
	struct bb_error err = { 0 };
	for (int i = 0; i < N_CONTEXTS; i++) {
		items[i] = (struct bb_step_item){ w->c[i], w->ids[i], n[i], w->logits[i], all_logits };
	}
	cr_assert(bb_step(w->e, items, N_CONTEXTS, &err), "%s", err.text);
}

static void reserve_crowd(const struct crowd *w, int n) {
	struct bb_error err = { 0 };
	for (int i = 0; i < N_CONTEXTS; i++) {
		cr_assert(bb_context_reserve(w->c[i], n, &err), "%s", err.text);
	}
}

static void check_steps_allocate_nothing(const char *model) {
	struct crowd w;
	struct bb_context *fork;
	struct bb_error err = { 0 };
	make_crowd(&w, model);
	/* Something to copy on write. */
	cr_assert(bb_context_fork(&fork, w.c[0], &err), "%s", err.text);
	reserve_crowd(&w, 800);
	base_forbid_alloc(true); /* any allocation aborts from here */
	for (int i = 0; i < 330; i++) { /* over page borders, and so far that windows let pages go */
		feed(w.c[0], w.e, w.ids[0] + i % MAX_NEW, 1, w.logits[0]);
	}
	step_crowd(&w, (const int[]){ 1, 1, 1, 1 }, false);
	step_crowd(&w, (const int[]){ 1, 17, 3, 40 }, false);
	step_crowd(&w, (const int[]){ 100, 1, 150, 5 }, true);
	step_crowd(&w, (const int[]){ 15, 16, 17, 1 }, true);
	cr_assert(bb_prefill(w.c[1], w.ids[1], 100, w.logits[1], NULL, NULL, &err), "%s", err.text);
	base_forbid_alloc(false);
	bb_context_destroy(fork);
	finish_crowd(&w);
}

Test(engine, steps_with_reserved_room_allocate_nothing) {
	check_steps_allocate_nothing("llama");
	check_steps_allocate_nothing("llama-window");
	check_steps_allocate_nothing("gemma3");
}

/* Where the callers' arrays lie makes no difference: few rows here and there, many in one place. */
Test(engine, scattered_logits_are_the_same) {
	static const int counts[][N_CONTEXTS] = { { 1, 1, 1, 1 }, { 5, 1, 40, 2 }, { 15, 16, 17, 9 } };
	struct crowd w;
	struct bb_error err = { 0 };
	make_crowd(&w, "llama");
	float *alone = calloc((size_t)MAX_NEW * (size_t)w.n_vocab, sizeof(float));
	for (size_t k = 0; k < COUNT(counts); k++) {
		step_crowd(&w, counts[k], true);
		for (int i = 0; i < N_CONTEXTS; i++) {
			const int n = counts[k][i];
			cr_assert(bb_context_rewind(w.c[i], 60 + i, &err), "%s", err.text);
			feed(w.c[i], w.e, w.ids[i], n, alone);
			cr_assert_eq(
				memcmp(alone, w.logits[i], (size_t)n * (size_t)w.n_vocab * sizeof(float)), 0);
			cr_assert_eq(w.logits[i][(size_t)n * (size_t)w.n_vocab], 0.0f);
			memset(w.logits[i], 0, (size_t)n * (size_t)w.n_vocab * sizeof(float));
			cr_assert(bb_context_rewind(w.c[i], 60 + i, &err), "%s", err.text);
		}
	}
	free(alone);
	finish_crowd(&w);
}

/* ---- what an engine says of itself ---- */

Test(engine, info_of_a_tiny_model) {
	const struct bb_engine_params params = { .path = tiny_path("gemma3"), .inspect_only = true };
	struct bb_engine *e = open_with(&params);
	struct bb_engine_info info;
	bb_engine_info(e, &info);
	cr_assert_str_eq(info.arch, "gemma3");
	cr_assert_eq(info.n_vocab, 199);
	cr_assert_str_eq(info.weight_type, "F32");
	cr_assert_gt(info.step_weight_bytes, 0);
	cr_assert_gt(bb_engine_kv_read_bytes(e, 100), bb_engine_kv_read_bytes(e, 10));
	bb_engine_destroy(e);
}

/* What `bobbin inspect` prints of a tiny model on the C level; freed by the caller. */
static char *inspected(const char *model, bool as_json) {
	const struct bb_engine_params params = {
		.path = tiny_path(model), .inspect_only = true, .isa = "c",
	};
	struct bb_engine *e = open_with(&params);
	struct bb_error err = { 0 };
	char *text = NULL;
	size_t bytes = 0;
	FILE *out = open_memstream(&text, &bytes);
	cr_assert(bb_engine_inspect(e, out, as_json, &err), "%s", err.text);
	fclose(out);
	bb_engine_destroy(e);
	return text;
}

static const char *string_in(const json_t *object, const char *key) {
	const char *text = json_string_value(json_object_get(object, key));
	return text != NULL ? text : "";
}

Test(engine, inspect_names_the_variant_of_every_op) {
	char *text = inspected("gemma3", true);
	json_t *root = json_loads(text, 0, NULL);
	const json_t *layers = json_object_get(root, "layers");
	int n_ops = 0;
	for (size_t i = 0; i < json_array_size(layers); i++) {
		const json_t *ops = json_object_get(json_array_get(layers, i), "ops");
		for (size_t j = 0; j < json_array_size(ops); j++, n_ops++) {
			const json_t *o = json_array_get(ops, j);
			cr_assert_str_eq(string_in(o, "variant"), "c", "%s", string_in(o, "op"));
			if (strcmp(string_in(o, "op"), "attention") == 0) {
				cr_assert_str_eq(string_in(o, "kernel"), "attention_f16");
				cr_assert_not_null(strstr(string_in(o, "detail"), "f16, layout kv_rows"));
			}
		}
	}
	cr_assert_gt(n_ops, 50);
	json_decref(root);
	free(text);
}

Test(engine, inspect_prints_whole_numbers_as_such) {
	char *text = inspected("gemma3", true);
	json_t *root = json_loads(text, 0, NULL);
	const json_t *hparams = json_object_get(root, "hparams");
	cr_assert(json_is_integer(json_object_get(hparams, "heads")));
	cr_assert(json_is_integer(json_object_get(hparams, "heads*head_dim")));
	cr_assert(json_is_real(json_object_get(hparams, "rope_base")));
	json_decref(root);
	free(text);
}

Test(engine, inspect_shows_groups_and_scalars) {
	char *text = inspected("gemma3", false);
	cr_assert_not_null(strstr(text, "Q [rows, 60] | K [rows, 20] | V [rows, 20]\n"), "%s", text);
	cr_assert_not_null(strstr(text, "embedding_scale 6.9282"), "%s", text);
	cr_assert_null(strstr(text, " \n"));
	free(text);
}

Test(engine, kv_type_names) {
	enum bb_kv_type type;
	cr_assert(bb_kv_type_parse("q8_0", &type));
	cr_assert_eq(type, BB_KV_INT8);
	cr_assert(bb_kv_type_parse("bfloat16", &type));
	cr_assert_eq(type, BB_KV_BF16);
	cr_assert_not(bb_kv_type_parse("int3", &type));
}

/* Threads beyond what the process may use would wait for each other. */
Test(engine, default_threads_are_those_that_may_run) {
	cpu_set_t before, one;
	cr_assert_eq(sched_getaffinity(0, sizeof(before), &before), 0);
	CPU_ZERO(&one);
	for (int i = 0; i < CPU_SETSIZE && CPU_COUNT(&one) == 0; i++) {
		if (CPU_ISSET(i, &before)) {
			CPU_SET(i, &one);
		}
	}
	cr_assert_eq(sched_setaffinity(0, sizeof(one), &one), 0);
	const struct bb_engine_params params = { .path = tiny_path("llama"), .inspect_only = true };
	struct bb_engine *e = open_with(&params);
	struct bb_engine_info info;
	bb_engine_info(e, &info);
	cr_assert_eq(info.n_threads, 1);
	cr_assert_gt(strlen(info.cpu), 0);
	bb_engine_destroy(e);
}

Test(engine, isa_names_are_those_of_the_kernels) {
	const char *const *names = bb_isa_names();
	int i = 0;
	for (; bb_isas[i].name != NULL; i++) {
		cr_assert_str_eq(names[i], bb_isas[i].name);
	}
	cr_assert_null(names[i]);
}

Test(engine, c_level_is_everywhere) {
	cr_assert_str_eq(bb_isa_names()[0], "c");
	cr_assert(bb_isa_is_available("c"));
	cr_assert_not(bb_isa_is_available("z80"));
}
