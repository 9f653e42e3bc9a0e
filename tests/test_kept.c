/* SPDX-License-Identifier: Apache-2.0
 *
 * Keys, values and states as contexts keep them, against what was tapped on the way; and the memory
 * of taps. */
#include "on_device.h"
#include "tapped.h"

/* ---- what contexts keep ---- */

static float *rows_of(struct bb_engine *e, const char *at, struct bb_context *c, int chunk) {
	struct sink *s = tap_sites(e, &at, 1, NULL, 0);
	free(read_all(e, c, chunk));
	float *rows = s->rows;
	attach(e, NULL);
	free(s);
	return rows;
}

Test(kept, keys_and_values_are_those_that_were_computed) {
	struct bb_engine *e = open_cpu("qwen2");
	struct bb_attention_shape kv;
	struct bb_error err = { 0 };
	cr_assert(!bb_attention_shape(e, 3, &kv));
	cr_assert(bb_attention_shape(e, 1, &kv));
	const int n_heads = kv.n_kv_heads, dim = kv.head_dim;
	struct bb_context *c = new_context(e);
	float *rows[2] = { rows_of(e, "1:k.2", c, 50), NULL };
	cr_assert(bb_context_rewind(c, 0, &err));
	rows[1] = rows_of(e, "1:v", c, 50);
	const int first = 5, n = 140;
	const size_t width = (size_t)(n_heads * dim), all = (size_t)n * width;
	float *k = malloc(all * sizeof(float)), *v = malloc(all * sizeof(float));
	cr_assert(bb_context_kv(c, 1, first, n, k, v, &err), "%s", err.text);
	for (int h = 0; h < n_heads; h++) {
		for (int t = 0; t < n; t++) {
			const size_t from = (size_t)(first + t) * width + (size_t)(h * dim);
			const size_t to = (size_t)((h * n + t) * dim);
			cr_assert_eq(memcmp(k + to, rows[0] + from, (size_t)dim * sizeof(float)), 0);
			cr_assert_eq(memcmp(v + to, rows[1] + from, (size_t)dim * sizeof(float)), 0);
		}
	}
	cr_assert(!bb_context_kv(c, 3, 0, 1, k, NULL, &err));
	cr_assert_str_eq(err.text, "layer 3, expected 0 to 2");
	err = (struct bb_error){ 0 };
	cr_assert(!bb_context_kv(c, 1, 149, 2, k, NULL, &err));
	cr_assert_eq(err.code, BB_ERR_CONTEXT);
	cr_assert_str_eq(err.text, "tokens 149 to 150 of layer 1, which keeps 0 to 149");
	free(k);
	free(v);
	free(rows[0]);
	free(rows[1]);
	bb_context_destroy(c);
	bb_engine_destroy(e);
}

Test(kept, a_window_has_let_go_of_the_first_tokens) {
	struct bb_engine *e = open_taps("gemma3", NULL, false, BB_KV_F16);
	struct bb_context *c = new_context(e);
	struct bb_error err = { 0 };
	float k[20];
	int32_t ids[500];
	make_ids(ids, 500, vocab_of(e), 4);
	cr_assert(bb_prefill(c, ids, 500, NULL, NULL, NULL, &err), "%s", err.text);
	cr_assert(!bb_context_kv(c, 0, 0, 1, k, NULL, &err));
	cr_assert_not_null(strstr(err.text, "layer 0, which keeps 192 to 499"), "%s", err.text);
	err = (struct bb_error){ 0 };
	cr_assert(bb_context_kv(c, 0, 192, 1, k, NULL, &err), "%s", err.text);
	cr_assert(bb_context_kv(c, 5, 0, 1, k, NULL, &err), "%s", err.text);
	bb_context_destroy(c);
	bb_engine_destroy(e);
}

static float *state_of(const struct bb_context *c, int layer, const char *name, size_t *n) {
	struct bb_state_part part;
	struct bb_error err = { 0 };
	int i = 0;
	while (bb_state_part(c->engine, layer, i, &part) && strcmp(part.name, name) != 0) {
		i++;
	}
	cr_assert_str_eq(part.name, name, "layer %d has no state %s", layer, name);
	*n = 1;
	for (int axis = 0; axis < part.n_axes; axis++) {
		*n *= (size_t)part.shape[axis];
	}
	float *state = malloc(*n * sizeof(float));
	cr_assert(bb_context_state(c, layer, i, state, &err), "%s", err.text);
	return state;
}

/* A shift keeps its last input, a convolution its last three, an RG-LRU what it gave last. */
Test(kept, states_are_the_last_rows_where_they_are_such) {
	static const struct {
		const char *model, *at, *state;
		int layer, n_rows;
	} all[] = {
		{ "rwkv7", "1:h.1", "shift.1", 1, 1 }, { "rwkv7", "1:h.2", "shift.2", 1, 1 },
		{ "mamba", "1:ssm_x.1", "conv_silu", 1, 3 }, { "jamba", "1:ssm_x.1", "conv_silu", 1, 3 },
		{ "recurrent_gemma", "0:rg_lru", "rg_lru", 0, 1 },
	};
	for (size_t i = 0; i < COUNT(all); i++) {
		struct bb_engine *e = open_cpu(all[i].model);
		struct bb_context *c = new_context(e);
		size_t n;
		float *empty = state_of(c, all[i].layer, all[i].state, &n);
		for (size_t j = 0; j < n; j++) {
			cr_assert_eq(empty[j], 0);
		}
		float *rows = rows_of(e, all[i].at, c, 40);
		float *state = state_of(c, all[i].layer, all[i].state, &n);
		const size_t width = n / (size_t)all[i].n_rows;
		cr_assert_eq(memcmp(state, rows + (size_t)(N_TOKENS - all[i].n_rows) * width, n * 4), 0,
			"%s, %s", all[i].model, all[i].state);
		free(empty);
		free(rows);
		free(state);
		bb_context_destroy(c);
		bb_engine_destroy(e);
	}
}

/* y[i] = sum over j of S[j, i] r[j] in every head. */
Test(kept, the_state_of_wkv_gives_its_last_row) {
	struct bb_engine *e = open_cpu("rwkv7");
	struct bb_context *c = new_context(e);
	struct bb_error err = { 0 };
	size_t n;
	float *r = rows_of(e, "1:wkv_r", c, 40);
	cr_assert(bb_context_rewind(c, 0, &err));
	float *y = rows_of(e, "1:wkv_y.1", c, N_TOKENS);
	float *state = state_of(c, 1, "wkv7", &n);
	cr_assert_eq(n, 3 * 16 * 16);
	for (size_t h = 0; h < 3; h++) {
		for (size_t i = 0; i < 16; i++) {
			double sum = 0;
			for (size_t j = 0; j < 16; j++) {
				sum += (double)state[(h * 16 + j) * 16 + i] *
					(double)r[(N_TOKENS - 1) * 48 + h * 16 + j];
			}
			cr_assert_float_eq(y[(N_TOKENS - 1) * 48 + h * 16 + i], sum, 1e-4);
		}
	}
	free(r);
	free(y);
	free(state);
	bb_context_destroy(c);
	bb_engine_destroy(e);
}

/* Every part of every layer, in one go, in chunks and after a rewind with its replay. */
static void check_states(const char *name, const char *device) {
	struct bb_engine *e = open_taps(name, device, false, BB_KV_F32);
	struct bb_context *c[2] = { new_context(e), new_context(e) };
	struct bb_error err = { 0 };
	int n_parts = 0;
	int32_t ids[9];
	make_ids(ids, 9, vocab_of(e), 9);
	free(read_all(e, c[0], N_TOKENS));
	free(read_all(e, c[1], 19));
	feed(c[1], e, ids, 9, NULL);
	cr_assert(bb_context_rewind(c[1], N_TOKENS, &err), "%s", err.text);
	struct bb_state_part part;
	for (int layer = 0; layer < e->plan.n_layers; layer++) {
		for (int i = 0; bb_state_part(e, layer, i, &part); i++, n_parts++) {
			size_t n;
			float *a = state_of(c[0], layer, part.name, &n);
			float *b = state_of(c[1], layer, part.name, &n);
			float *zero = calloc(n, sizeof(float));
			cr_assert_eq(memcmp(a, b, n * 4), 0, "%s, %s", name, part.full);
			cr_assert_neq(memcmp(a, zero, n * 4), 0, "%s, %s is empty", name, part.full);
			free(a);
			free(b);
			free(zero);
		}
	}
	cr_assert(n_parts > 0);
	bb_context_destroy(c[0]);
	bb_context_destroy(c[1]);
	bb_engine_destroy(e);
}

Test(kept, states_are_the_same_however_tokens_came) {
	static const char *const names[] = { "mamba", "mamba2", "falcon-h1", "rwkv6", "rwkv7", "xlstm",
		"qwen3next", "recurrent_gemma", "lfm2", "zamba2" };
	for (size_t i = 0; i < COUNT(names); i++) {
		check_states(names[i], NULL);
	}
}

Test(kept, states_on_a_device, .timeout = 300) {
	check_states("falcon-h1", test_device());
}

/* ---- memory ---- */

Test(kept, a_step_allocates_nothing_for_them) {
	struct bb_engine *e = open_cpu("llama");
	struct bb_context *c = new_context(e);
	struct bb_error err = { 0 };
	struct attention a;
	int n;
	attention_init(&a, e, c, 1);
	struct sink *s = tap_all(e, &n); /* whose list is attached again, with attention and edits */
	struct bb_tap taps[MAX_TAPS];
	for (int i = 0; i < n; i++) {
		taps[i] = (struct bb_tap){ s[i].at, 0, 0, take, &s[i] };
	}
	const struct bb_attention_tap tap = { 1, -1, 0, 0, take_weights, &a };
	const struct bb_edit edit = { "1:att", BB_EDIT_SCALE, 0, 0, NULL, 0, 2, 2 };
	attach(e, &(struct bb_taps){ taps, n, &tap, 1, &edit, 1, 100 });
	int32_t ids[101];
	make_ids(ids, 101, vocab_of(e), 4);
	float *logits = malloc((size_t)100 * (size_t)vocab_of(e) * sizeof(float));
	cr_assert(bb_context_reserve(c, 100, &err), "%s", err.text);
	base_forbid_alloc(true);
	feed(c, e, ids, 100, logits);
	base_forbid_alloc(false);
	cr_assert_eq(a.n_rows, a.n_heads * 100);
	const struct bb_step_item item = { .context = c, .tokens = ids, .n_tokens = 1 };
	cr_assert(!bb_step(e, &item, 1, &err));
	cr_assert_eq(err.code, BB_ERR_CONTEXT);
	cr_assert_str_eq(err.text,
		"a context of 101 tokens, but taps of attention were attached for at most 100");
	cr_assert_eq(bb_context_length(c), 100);
	free(logits);
	free(a.weights);
	bb_context_destroy(c);
	sinks_free(s, n);
	bb_engine_destroy(e);
}

Test(kept, memory_that_is_not_there_changes_nothing) {
	struct bb_engine *e = open_cpu("llama");
	struct sink *s = tap_sites(e, (const char *const[]){ "1:x" }, 1, NULL, 0);
	float v[48], k[16];
	make_vector(v, 48);
	const struct bb_tap rows[] = { { "*:x", 0, 0, take, NULL },
		{ "unembed:logits", 0, 0, take, NULL } };
	const struct bb_attention_tap tap = { -1, -1, 0, 0, take_weights, NULL };
	const struct bb_edit edits[] = { { "*:x", BB_EDIT_ADD, 0, 0, v, 48, -1, 0 },
		{ "1:q", BB_EDIT_SCALE, 0, 0, NULL, 0, 1, 2 } };
	const struct bb_taps taps = { rows, 2, &tap, 1, edits, 2, 0 };
	struct taps *const before = e->taps;
	bool ok = false;
	int n = 0;
	while (!ok) {
		struct bb_error err = { 0 };
		base_fail_alloc_at(++n);
		ok = bb_taps_attach(e, &taps, &err);
		base_fail_alloc_at(0);
		cr_assert(ok || (err.code == BB_ERR_MEMORY && e->taps == before), "allocation %d", n);
	}
	cr_assert(n > 10);
	attach(e, NULL);
	struct bb_context *c = new_context(e);
	struct bb_error err = { 0 };
	free(read_all(e, c, 50));
	base_fail_alloc_at(1);
	cr_assert(!bb_context_kv(c, 1, 0, 1, k, NULL, &err));
	base_fail_alloc_at(0);
	cr_assert_eq(err.code, BB_ERR_MEMORY);
	bb_context_destroy(c);
	sinks_free(s, 1);
	bb_engine_destroy(e);
}

/* The n-th copy behind a tap's rows. */
struct saboteur {
	const struct bb_module *module;
	int n;
};

static void sabotage(void *user, const struct bb_tap_rows *rows) {
	const struct saboteur *s = user;
	cr_assert_eq(rows->n_rows, 5);
	fail(s->module, BB_FAIL_COPY, s->n);
}

/* The n-th copy behind the tap of a site fails: it's one of rows on their way to a tap or back from
 * an edit, and none of the step's tokens is appended. An error sticks to the device, so each is a
 * test of its own. */
static void check_failed_copy(const char *behind, int n) {
	struct bb_engine *e = open_taps("qwen2", test_device(), true, BB_KV_F16);
	struct bb_context *c = new_context(e);
	struct attention a;
	struct saboteur saboteur = { module_of(e), n };
	attention_init(&a, e, c, 1);
	const struct bb_tap rows = { behind, 0, 0, sabotage, &saboteur };
	const struct bb_edit edit = { "1:q", BB_EDIT_SCALE, 0, 0, NULL, 0, 2, 2 };
	const struct bb_attention_tap tap = { 1, -1, 0, 0, take_weights, &a };
	attach(e, &(struct bb_taps){ &rows, 1, &tap, 1, &edit, 1, 0 });
	int32_t ids[5];
	make_ids(ids, 5, vocab_of(e), 4);
	const struct bb_step_item item = { .context = c, .tokens = ids, .n_tokens = 5 };
	struct bb_error err = { 0 };
	cr_assert(!bb_step(e, &item, 1, &err));
	fail(module_of(e), BB_FAIL_COPY, 0);
	cr_assert_eq(err.code, BB_ERR_DEVICE, "%s", err.text);
	cr_assert_not_null(strstr(err.text, "a copy"), "%s", err.text);
	cr_assert_eq(bb_context_length(c), 0);
	cr_assert_eq(a.n_rows, n > 2 ? 10 : 0); /* of two KV heads, whose keys came */
	free(a.weights);
	bb_context_destroy(c);
	bb_engine_destroy(e);
}

Test(kept, a_step_fails_where_an_edit_gets_no_rows_of_the_device) {
	check_failed_copy("1:v", 1);
}

Test(kept, a_step_fails_where_an_edit_can_give_none_back) {
	check_failed_copy("1:v", 2);
}

Test(kept, a_step_fails_where_a_tap_gets_no_queries_of_the_device) {
	check_failed_copy("1:att", 1);
}

Test(kept, a_step_fails_where_a_tap_gets_no_keys_of_the_device) {
	check_failed_copy("1:att", 4);
}
