/* SPDX-License-Identifier: Apache-2.0
 *
 * Taps and edits: names, numbers computed again from what was tapped, the same bits however rows
 * are batched and with or without, on the CPU and on a device. */
#include "tapped.h"

/* ---- names ---- */

Test(taps, sites_are_named_as_the_list_goes) {
	static const char *const want[] = { "h.1", "q.1", "k.1", "v", "q.2", "k.2", "att", "x.1", "h.2",
		"gate", "up", "ff", "x.2" };
	struct bb_engine *e = open_cpu("llama");
	struct bb_tap_site s;
	for (size_t i = 0; i < COUNT(want); i++) {
		cr_assert(bb_tap_site(e, 1, (int)i, &s));
		cr_assert_str_eq(s.name, want[i]);
	}
	cr_assert(!bb_tap_site(e, 1, COUNT(want), &s));
	cr_assert(!bb_tap_site(e, 3, 0, &s));
	cr_assert(bb_tap_site(e, BB_TAP_EMBED, 0, &s));
	cr_assert_str_eq(s.full, "embed.x");
	cr_assert(bb_tap_site(e, BB_TAP_UNEMBED, 1, &s));
	cr_assert_str_eq(s.full, "unembed.logits");
	cr_assert_eq(s.width, 199);
	bb_engine_destroy(e);
}

Test(taps, a_request_finds_its_site) {
	static const struct {
		const char *at, *full;
		int n;
	} all[] = {
		{ "1:q", "blk.1.q.2", 1 }, { "1:q.1", "blk.1.q.1", 1 }, { "blk.2.att", "blk.2.att", 1 },
		{ "1:ATT", "blk.1.att", 1 }, { "1:attention", "blk.1.att", 1 },
		{ "2:silu_mul", "blk.2.ff", 1 },
		{ "*:x", "blk.0.x.2", 3 }, { "1-2:x.1", "blk.1.x.1", 2 }, { "embed:x", "embed.x", 1 },
		{ "embed.x", "embed.x", 1 }, { "unembed:h", "unembed.h", 1 },
		{ "unembed:rmsnorm", "unembed.h", 1 },
	};
	struct bb_engine *e = open_cpu("llama");
	for (size_t i = 0; i < COUNT(all); i++) {
		struct bb_error err = { 0 };
		struct bb_tap_site s;
		int n;
		cr_assert(bb_tap_find(e, all[i].at, &s, &n, &err), "%s: %s", all[i].at, err.text);
		cr_assert_str_eq(s.full, all[i].full);
		cr_assert_eq(n, all[i].n, "%s: %d sites", all[i].at, n);
	}
	bb_engine_destroy(e);
}

Test(taps, what_is_no_site_is_refused_in_a_sentence) {
	static const struct {
		const char *at, *says;
	} all[] = {
		{ "1:foo", "layer 1 has h.1, q.1" }, { "1:q.3", "has h.1" }, { "1:q.x", "has h.1" },
		{ "1:q.", "has h.1" }, { "1:", "has h.1" }, { "1:matmul", "has h.1" }, /* several */
		{ "3:q", "a layer from 0 to 2" }, { "1-3:q", "a layer from 0 to 2" },
		{ "2-1:q", "a layer from 0 to 2" }, { "q", "expected LAYER:NAME" },
		{ "", "expected LAYER:NAME" }, { "99999999999:q", "a layer from 0 to 2" },
		{ "embed:q", "embed has x" }, { "unembed:q", "unembed has h, logits" },
		{ "*:ssm_x", "of these layers" },
		{ "1:a_name_that_is_much_longer_than_any_that_there_is", "has h.1" },
	};
	struct bb_engine *e = open_cpu("llama");
	for (size_t i = 0; i < COUNT(all); i++) {
		struct bb_error err = { 0 };
		struct bb_tap_site s;
		int n;
		cr_assert(!bb_tap_find(e, all[i].at, &s, &n, &err), "%s", all[i].at);
		cr_assert_eq(err.code, BB_ERR_USAGE);
		cr_assert_not_null(strstr(err.text, all[i].says), "%s: %s", all[i].at, err.text);
	}
	bb_engine_destroy(e);
}

/* ---- numbers ---- */

static const struct plan_op *op_of(const struct bb_engine *e, const char *at) {
	struct tap_query q;
	struct tap_place place;
	struct bb_tap_site site;
	struct bb_error err = { 0 };
	int i_list = 0;
	cr_assert(tap_parse(&q, &e->plan, at, &err), "%s", err.text);
	cr_assert(tap_next(&q, &e->plan, &i_list, &place, &site));
	return place.op;
}

/* y [rows] += the matrix of an op, which is of one tensor of f32, times x [cols] */
static void multiply(const struct plan_op *o, const float *x, double *y) {
	const struct bb_tensor *t = o->matrix->sources[0].w;
	const float *w = t->data;
	cr_assert(o->matrix->n_sources == 1 && t->type == BB_F32);
	for (int r = 0; r < o->matrix->n; r++) {
		for (int c = 0; c < o->matrix->k; c++) {
			y[r] += (double)w[(size_t)r * (size_t)o->matrix->k + (size_t)c] * (double)x[c];
		}
	}
}

Test(taps, rows_follow_from_one_another) {
	static const char *const at[] = { "0:x", "1:h.1", "1:att", "1:x.1", "1:gate", "1:up", "1:ff",
		"1:q.1", "1:q.2", "unembed:logits" };
	enum { X, H, ATT, X1, GATE, UP, FF, Q1, Q2, LOGITS };
	struct bb_engine *e = open_cpu("llama");
	struct sink *s = tap_sites(e, at, COUNT(at), NULL, 0);
	float *logits = logits_of(e);
	const float *norm = op_of(e, "1:h.1")->w;
	for (size_t t = 0; t < N_TOKENS; t++) {
		const size_t n = s[X].floats, n_ff = s[FF].floats, n_q = s[Q1].floats;
		const float *x = s[X].rows + t * n, *h = s[H].rows + t * n, *x1 = s[X1].rows + t * n;
		double sum = 0, after[64], q[2] = { 0 };
		for (size_t i = 0; i < n; i++) {
			sum += (double)x[i] * (double)x[i] / (double)n;
			after[i] = x[i];
		}
		const double scale = 1 / sqrt(sum + e->plan.hp.v[H_NORM_EPS]);
		multiply(op_of(e, "1:x.1"), s[ATT].rows + t * s[ATT].floats, after);
		for (size_t i = 0; i < n; i++) {
			cr_assert_float_eq(h[i], (double)x[i] * scale * (double)norm[i], 1e-5);
			cr_assert_float_eq(x1[i], after[i], 1e-5);
		}
		for (size_t i = t * n_ff; i < (t + 1) * n_ff; i++) {
			const double g = s[GATE].rows[i];
			cr_assert_float_eq(s[FF].rows[i], g / (1 + exp(-g)) * (double)s[UP].rows[i], 1e-5);
		}
		for (size_t i = t * n_q; i < (t + 1) * n_q; i++) { /* a rotation */
			q[0] += (double)s[Q1].rows[i] * (double)s[Q1].rows[i];
			q[1] += (double)s[Q2].rows[i] * (double)s[Q2].rows[i];
			cr_assert(t > 0 || s[Q1].rows[i] == s[Q2].rows[i]);
		}
		cr_assert_float_eq(q[0], q[1], 1e-4 * q[0]);
		cr_assert(t == 0 || memcmp(s[Q1].rows + t * n_q, s[Q2].rows + t * n_q, n_q * 4) != 0);
	}
	cr_assert_eq(memcmp(logits, s[LOGITS].rows, (size_t)N_TOKENS * s[LOGITS].floats * 4), 0);
	free(logits);
	sinks_free(s, COUNT(at));
	bb_engine_destroy(e);
}

/* ---- attention ---- */

/* The weights times the values are what attention gave. */
static void check_attention(const char *name, int layer, enum bb_kv_type type, double tolerance) {
	struct bb_engine *e = open_taps(name, NULL, true, type);
	struct bb_context *c = new_context(e);
	struct attention a;
	struct sink att;
	char at[24];
	struct bb_attention_shape kv;
	struct bb_error err = { 0 };
	attention_init(&a, e, c, layer);
	snprintf(at, sizeof(at), "%d:att", layer);
	sink_init(&att, e, at);
	const struct bb_tap rows = { at, 0, 0, take, &att };
	const struct bb_attention_tap tap = { layer, -1, 0, 0, take_weights, &a };
	attach(e, &(struct bb_taps){ &rows, 1, &tap, 1, NULL, 0, N_TOKENS });
	free(read_all(e, c, 70));
	cr_assert_eq(a.n_rows, a.n_heads * N_TOKENS);
	cr_assert(bb_attention_shape(e, layer, &kv));
	cr_assert(kv.n_heads == a.n_heads && kv.window == a.window);
	const size_t dim = (size_t)kv.head_dim, each = (size_t)(a.n_heads / kv.n_kv_heads);
	float *v = malloc((size_t)kv.n_kv_heads * N_TOKENS * dim * sizeof(float));
	cr_assert(bb_context_kv(c, layer, 0, N_TOKENS, NULL, v, &err), "%s", err.text);
	for (size_t h = 0; h < (size_t)a.n_heads; h++) {
		for (size_t t = 0; t < N_TOKENS; t++) {
			for (size_t d = 0; d < dim; d++) {
				double sum = 0;
				for (size_t i = 0; i <= t; i++) {
					sum += (double)a.weights[(h * N_TOKENS + t) * N_TOKENS + i] *
						(double)v[((h / each) * N_TOKENS + i) * dim + d];
				}
				cr_assert_float_eq(att.rows[t * att.floats + h * dim + d], sum, tolerance,
					"%s, head %zu, token %zu: %g, want %g", name, h, t,
					(double)att.rows[t * att.floats + h * dim + d], sum);
			}
		}
	}
	free(v);
	free(att.rows);
	free(a.weights);
	bb_context_destroy(c);
	bb_engine_destroy(e);
}

Test(taps, weights_of_attention_give_what_it_gave) {
	check_attention("llama", 1, BB_KV_F32, 1e-5);
	check_attention("qwen2", 2, BB_KV_F32, 1e-5);
	check_attention("gemma3", 0, BB_KV_F32, 1e-5); /* sliding */
	check_attention("gemma3", 5, BB_KV_F32, 1e-5); /* full */
	check_attention("falcon-h1", 1, BB_KV_F32, 1e-5);
}

Test(taps, weights_of_attention_are_those_of_rounded_keys) {
	check_attention("llama", 1, BB_KV_F16, 1e-4);
	check_attention("llama", 1, BB_KV_INT8, 6e-2); /* whose kernels round q too */
}

static void count_row(void *user, const struct bb_attention_row *r) {
	int *counts = user; /* [2]: rows, and those that weren't asked for */
	counts[0]++;
	counts[1] += r->layer == 2 && r->head == 1 && r->token >= 10 && r->token < 15 ? 0 : 1;
}

Test(taps, only_what_was_asked_for_comes) {
	struct bb_engine *e = open_cpu("llama");
	struct sink s;
	int counts[2] = { 0 };
	sink_init(&s, e, "1:v");
	const struct bb_tap rows = { "1:v", 60, 7, take, &s };
	const struct bb_attention_tap tap = { 2, 1, 10, 5, count_row, counts };
	attach(e, &(struct bb_taps){ .taps = &rows, .n_taps = 1, .attention = &tap, .n_attention = 1 });
	struct bb_context *c = new_context(e);
	free(read_all(e, c, 13));
	cr_assert_eq(s.n_rows, 7);
	cr_assert_eq(counts[0], 5);
	cr_assert_eq(counts[1], 0);
	attach(e, NULL);
	cr_assert(bb_context_rewind(c, 0, &(struct bb_error){ 0 }));
	free(read_all(e, c, 13));
	cr_assert_eq(s.n_rows, 7);
	free(s.rows);
	bb_context_destroy(c);
	bb_engine_destroy(e);
}

/* What callbacks may ask, which tells what was before the step. */
struct asker {
	struct bb_engine *engine;
	const int32_t *ids; /* those of the context before the step */
	int n_before, n_calls;
};

static void ask(struct asker *a, const struct bb_context *c) {
	struct bb_engine_info info;
	struct bb_tap_site site;
	struct bb_attention_shape shape;
	struct bb_state_part part;
	struct bb_error err = { 0 };
	int n;
	bb_engine_info(a->engine, &info);
	cr_assert_eq(info.n_vocab, vocab_of(a->engine));
	cr_assert(bb_tap_site(a->engine, 1, 0, &site));
	cr_assert(bb_tap_find(a->engine, "*:x", &site, &n, &err), "%s", err.text);
	cr_assert(bb_attention_shape(a->engine, 1, &shape) && bb_state_part(a->engine, 1, 0, &part));
	cr_assert_eq(bb_context_length(c), a->n_before);
	cr_assert_eq(memcmp(bb_context_tokens(c), a->ids, (size_t)a->n_before * sizeof(*a->ids)), 0);
	a->n_calls++;
}

static void ask_at_rows(void *user, const struct bb_tap_rows *rows) {
	ask(user, rows->context);
}

static void ask_at_attention(void *user, const struct bb_attention_row *row) {
	ask(user, row->context);
}

Test(taps, callbacks_may_ask_what_was_before_the_step) {
	struct bb_engine *e = open_cpu("falcon-h1");
	struct bb_context *c = new_context(e);
	int32_t ids[7];
	make_ids(ids, 7, vocab_of(e), 4);
	struct asker a = { e, ids, 0, 0 };
	const struct bb_tap rows = { "1:x", 0, 0, ask_at_rows, &a };
	const struct bb_attention_tap tap = { 1, 0, 0, 0, ask_at_attention, &a };
	feed(c, e, ids, 3, NULL);
	attach(e, &(struct bb_taps){ .taps = &rows, .n_taps = 1, .attention = &tap, .n_attention = 1 });
	a.n_before = 3;
	feed(c, e, ids + 3, 4, NULL);
	cr_assert_eq(a.n_calls, 1 + 4);
	bb_context_destroy(c);
	bb_engine_destroy(e);
}

/* ---- bits ---- */

/* Our tokens a few at a time, between two strangers. */
static void read_beside(struct bb_engine *e, struct sink *sinks, int n_sinks) {
	const int n_vocab = vocab_of(e), chunk = 23;
	float *logits = malloc((size_t)chunk * (size_t)n_vocab * sizeof(float)), other[512];
	struct bb_context *c[3] = { new_context(e), new_context(e), new_context(e) };
	int32_t ids[N_TOKENS], noise[2][3];
	make_ids(ids, N_TOKENS, n_vocab, 4);
	make_ids(noise[0], 3, n_vocab, 5);
	make_ids(noise[1], 3, n_vocab, 6);
	for (int i = 0; i < n_sinks; i++) {
		sinks[i].context = c[1];
	}
	for (int i = 0; i < N_TOKENS; i += chunk) {
		const int n = N_TOKENS - i < chunk ? N_TOKENS - i : chunk;
		const struct bb_step_item items[3] = { { c[0], noise[0], 3, other, false },
			{ c[1], ids + i, n, logits, true }, { c[2], noise[1], 1 + i % 2, NULL, false } };
		struct bb_error err = { 0 };
		cr_assert(bb_step(e, items, 3, &err), "%s", err.text);
	}
	free(logits);
	for (int i = 0; i < 3; i++) {
		bb_context_destroy(c[i]);
	}
}

/* Every site has the same bits in one step, in chunks, and beside others; and logits are those of
 * an engine without taps. */
static void check_bits(const char *name, const char *device, enum bb_kv_type type) {
	int n, n_again;
	struct bb_engine *plain = open_taps(name, device, false, type);
	float *want = logits_of(plain);
	const size_t bytes = (size_t)N_TOKENS * (size_t)vocab_of(plain) * sizeof(float);
	bb_engine_destroy(plain);
	struct bb_engine *e = open_taps(name, device, true, type);
	float *got = logits_of(e);
	cr_assert_eq(memcmp(want, got, bytes), 0, "%s: an engine for taps has other bits", name);
	free(got);
	struct sink *once = tap_all(e, &n);
	got = logits_of(e);
	cr_assert_eq(memcmp(want, got, bytes), 0, "%s: taps change bits", name);
	free(got);
	for (int way = 0; way < 2; way++) {
		struct sink *again = tap_all(e, &n_again);
		cr_assert_eq(n, n_again);
		struct bb_context *c = new_context(e);
		if (way == 0) {
			free(read_all(e, c, 37));
		} else {
			read_beside(e, again, n);
		}
		bb_context_destroy(c);
		for (int i = 0; i < n; i++) {
			cr_assert_eq(again[i].n_rows, N_TOKENS, "%s, %s: %d rows", name, again[i].at,
				again[i].n_rows);
			cr_assert_eq(memcmp(once[i].rows, again[i].rows, N_TOKENS * once[i].floats * 4), 0,
				"%s, %s: other bits %s", name, once[i].at,
				way == 0 ? "in chunks" : "beside others");
		}
		sinks_free(again, n);
	}
	attach(e, NULL);
	sinks_free(once, n);
	free(want);
	bb_engine_destroy(e);
}

Test(taps, bits_do_not_depend_on_batching) {
	static const char *const names[] = { "llama", "gemma3", "qwen2", "falcon-h1", "rwkv7",
		"granitehybrid", "mamba", "xlstm", "zamba2", "recurrent_gemma", "qwen3next", "mamba2",
		"lfm2", "rwkv6", "bamba", "jamba", "nemotron_h" };
	size_t n = 0;
	while (bb_models[n] != NULL) {
		n++;
	}
	cr_assert_eq(n, COUNT(names), "a model for each of %zu architectures", n);
	for (size_t i = 0; i < COUNT(names); i++) {
		check_bits(names[i], NULL, BB_KV_F32);
	}
	check_bits("llama-quantised", NULL, BB_KV_INT8);
}

Test(taps, bits_do_not_depend_on_taps_on_a_device, .timeout = 300) {
	check_bits("llama-quantised", test_device(), BB_KV_F16);
	check_bits("falcon-h1", test_device(), BB_KV_F16);
}

/* Sites on a device are those on the CPU, as far as their arithmetic agrees; and a decoded token,
 * which would be captured otherwise, has its rows. */
Test(taps, a_device_has_the_same_sites, .timeout = 300) {
	struct bb_engine *cpu = open_cpu("llama");
	struct bb_engine *e = open_taps("llama", test_device(), true, BB_KV_F32);
	int n, n_there;
	struct sink *a = tap_all(cpu, &n), *b = tap_all(e, &n_there);
	cr_assert_eq(n, n_there);
	int32_t ids[12];
	make_ids(ids, 12, vocab_of(cpu), 2);
	float logits[9 * 199];
	struct bb_context *c = new_context(cpu), *d = new_context(e);
	for (int i = 0; i < 12; i += i == 0 ? 9 : 1) {
		feed(c, cpu, ids + i, i == 0 ? 9 : 1, logits);
		feed(d, e, ids + i, i == 0 ? 9 : 1, logits);
	}
	for (int i = 0; i < n; i++) {
		cr_assert_eq(b[i].n_rows, 12);
		const double off = largest_difference(a[i].rows, b[i].rows, 12 * a[i].floats);
		cr_assert(off < 2e-3, "%s: %g apart", a[i].at, off);
	}
	struct bb_attention_shape kv;
	cr_assert(bb_attention_shape(e, 2, &kv));
	const size_t n_floats = (size_t)(kv.n_kv_heads * kv.head_dim * 12);
	float *k[2] = { malloc(n_floats * sizeof(float)), malloc(n_floats * sizeof(float)) };
	struct bb_error err = { 0 };
	cr_assert(bb_context_kv(c, 2, 0, 12, k[0], NULL, &err) &&
		bb_context_kv(d, 2, 0, 12, k[1], NULL, &err), "%s", err.text);
	cr_assert(largest_difference(k[0], k[1], n_floats) < 2e-3);
	free(k[0]);
	free(k[1]);
	bb_context_destroy(c);
	bb_context_destroy(d);
	sinks_free(a, n);
	sinks_free(b, n);
	bb_engine_destroy(cpu);
	bb_engine_destroy(e);
}

/* ---- edits ---- */

static float *edited(struct bb_engine *e, const struct bb_edit *edits, int n) {
	attach(e, &(struct bb_taps){ .edits = edits, .n_edits = n });
	float *logits = logits_of(e);
	attach(e, NULL);
	return logits;
}

/* Qwen2's products have biases: a vector added to one's output is a bias more. */
Test(taps, adding_a_vector_is_adding_to_the_bias) {
	struct bb_engine *e = open_cpu("qwen2");
	const size_t n = (size_t)N_TOKENS * (size_t)vocab_of(e);
	float v[60];
	make_vector(v, 60);
	const struct bb_edit edit = { "1:q.1", BB_EDIT_ADD, 0, 0, v, 60, -1, 0 };
	float *plain = edited(e, NULL, 0), *got = edited(e, &edit, 1);
	float *bias = op_of(e, "1:q.1")->matrix->bias;
	for (int i = 0; i < 60; i++) {
		bias[i] += v[i];
	}
	float *want = logits_of(e);
	cr_assert(largest_difference(plain, want, n) > 1e-2);
	const double off = largest_difference(got, want, n);
	cr_assert(off < 1e-4, "%g apart", off);
	free(plain);
	free(got);
	free(want);
	bb_engine_destroy(e);
}

/* Head 1 of attention scaled to nothing adds nothing to the residual stream. */
Test(taps, scaling_a_head_to_nothing_takes_its_part_away) {
	static const char *const at[] = { "0:x", "1:att", "1:x.1" };
	struct bb_engine *e = open_cpu("llama");
	const struct bb_edit edit = { "1:att", BB_EDIT_SCALE, 0, 0, NULL, 0, 1, 0 };
	struct sink *plain = tap_sites(e, at, 3, NULL, 0);
	free(logits_of(e));
	struct sink *s = tap_sites(e, at, 3, &edit, 1);
	free(logits_of(e));
	for (size_t t = 0; t < N_TOKENS; t++) {
		double after[64];
		float att[64];
		memcpy(att, plain[1].rows + t * 48, sizeof(float) * 48);
		for (size_t i = 0; i < 48; i++) {
			att[i] = i / 16 == 1 ? 0 : att[i];
			cr_assert_eq(att[i], s[1].rows[t * 48 + i]);
		}
		for (size_t i = 0; i < 48; i++) {
			after[i] = s[0].rows[t * 48 + i];
		}
		multiply(op_of(e, "1:x.1"), att, after);
		for (size_t i = 0; i < 48; i++) {
			cr_assert_float_eq(s[2].rows[t * 48 + i], after[i], 1e-5);
		}
	}
	sinks_free(plain, 3);
	sinks_free(s, 3);
	bb_engine_destroy(e);
}

Test(taps, edits_begin_and_end_where_they_are_told_to) {
	struct bb_engine *e = open_cpu("llama");
	const size_t n_vocab = (size_t)vocab_of(e), from = 100;
	float v[48];
	make_vector(v, 48);
	const struct bb_edit all[] = { { "1:x", BB_EDIT_SCALE, 100, 1, NULL, 0, -1, 0 },
		{ "1:x", BB_EDIT_ADD, 100, 1, v, 48, -1, 0 } };
	const char *const at[] = { "1:x", "2:x" };
	float *plain = logits_of(e);
	struct sink *s = tap_sites(e, at, 2, NULL, 0), *d;
	free(logits_of(e));
	d = tap_sites(e, at, 2, all, 2);
	float *got = logits_of(e);
	cr_assert_eq(memcmp(plain, got, from * n_vocab * 4), 0);
	cr_assert(largest_difference(plain + from * n_vocab, got + from * n_vocab, n_vocab) > 1e-3);
	cr_assert(largest_difference(plain + 120 * n_vocab, got + 120 * n_vocab, n_vocab) > 0);
	cr_assert_eq(memcmp(d[0].rows + from * 48, v, sizeof(v)), 0); /* set: times 0, then added */
	cr_assert_eq(memcmp(d[0].rows + 101 * 48, s[0].rows + 101 * 48, sizeof(v)), 0);
	free(plain);
	free(got);
	sinks_free(s, 2);
	sinks_free(d, 2);
	bb_engine_destroy(e);
}

/* Whatever the list, an edit has the same bits in one step and in many; the last logits' are moved
 * by as much as was added to them. */
static void check_edit_bits(const char *name, const char *device, const char *at) {
	struct bb_engine *e = open_taps(name, device, true, BB_KV_F32);
	struct bb_tap_site s;
	struct bb_error err = { 0 };
	const size_t n = (size_t)N_TOKENS * (size_t)vocab_of(e);
	int n_sites;
	float *plain = logits_of(e), v[512];
	cr_assert(bb_tap_find(e, at, &s, &n_sites, &err), "%s", err.text);
	make_vector(v, s.width * s.n_parts);
	const struct bb_edit edits[] = { { at, BB_EDIT_ADD, 40, 0, v, s.width * s.n_parts, -1, 0 },
		{ at, BB_EDIT_SCALE, 0, 0, NULL, 0, s.n_heads - 1, 0.5f } };
	attach(e, &(struct bb_taps){ .edits = edits, .n_edits = s.n_heads > 1 ? 2 : 1 });
	float *want = logits_of(e);
	cr_assert(largest_difference(plain, want, n) > 1e-4, "%s: %s changes nothing", name, at);
	struct bb_context *c = new_context(e);
	float *got = read_all(e, c, 31);
	cr_assert_eq(memcmp(want, got, n * 4), 0, "%s, %s: other bits in chunks", name, at);
	for (size_t i = 40 * 199; i < n && strcmp(at, "unembed:logits") == 0; i++) {
		cr_assert_eq(got[i], plain[i] + v[i % 199]);
	}
	bb_context_destroy(c);
	free(plain);
	free(want);
	free(got);
	bb_engine_destroy(e);
}

Test(taps, edits_have_the_same_bits_however_rows_are_batched) {
	check_edit_bits("llama", NULL, "1:k.2");
	check_edit_bits("llama", NULL, "embed:x");
	check_edit_bits("llama", NULL, "unembed:h");
	check_edit_bits("llama", NULL, "unembed:logits");
	check_edit_bits("granitehybrid", NULL, "0:e_up"); /* of experts */
	check_edit_bits("falcon-h1", NULL, "1:ssm_x.3");
	check_edit_bits("rwkv7", NULL, "1:wkv_y.1");
	check_edit_bits("xlstm", NULL, "1:lstm_v.2");
}

Test(taps, edits_on_a_device, .timeout = 300) {
	check_edit_bits("llama", test_device(), "1:att");
	check_edit_bits("falcon-h1", test_device(), "1:ssm_x.3");
}

/* Keys of one KV head are made of heads all the same: its only one is all of them. */
Test(taps, the_only_head_of_a_site_can_be_scaled) {
	static const char *const at[] = { "1:k" };
	struct bb_engine *e = open_cpu("llama");
	struct bb_tap_site s;
	cr_assert(bb_tap_find(e, "1:k", &s, &(int){ 0 }, &(struct bb_error){ 0 }) && s.n_heads == 1);
	cr_assert(bb_tap_find(e, "1:x", &s, &(int){ 0 }, &(struct bb_error){ 0 }) && s.n_heads == 0);
	const struct bb_edit edit = { "1:k", BB_EDIT_SCALE, 0, 0, NULL, 0, 0, 0 };
	struct sink *sink = tap_sites(e, at, 1, &edit, 1);
	free(logits_of(e));
	for (size_t i = 0; i < N_TOKENS * sink->floats; i++) {
		cr_assert(sink->rows[i] == 0);
	}
	sinks_free(sink, 1);
	bb_engine_destroy(e);
}

Test(taps, edits_count_the_rows_that_they_changed) {
	struct bb_engine *e = open_cpu("llama");
	const struct bb_edit all[] = { { "*:att", BB_EDIT_SCALE, 100, 20, NULL, 0, 1, 0.5f },
		{ "1:x", BB_EDIT_SCALE, N_TOKENS, 0, NULL, 0, -1, 0.5f },
		{ "unembed:h", BB_EDIT_SCALE, 0, 7, NULL, 0, -1, 0.5f } };
	float logits[199];
	int32_t ids[9];
	attach(e, &(struct bb_taps){ .edits = all, .n_edits = COUNT(all) });
	struct bb_context *c = new_context(e), *d = new_context(e);
	make_ids(ids, 9, vocab_of(e), 4);
	const struct bb_step_item last = { d, ids, 9, logits, false }; /* whose logits are wanted */
	cr_assert(bb_step(e, &last, 1, &(struct bb_error){ 0 }));
	cr_assert_eq(bb_taps_edited(e, 0), 0);
	cr_assert_eq(bb_taps_edited(e, 2), 0);
	free(read_all(e, c, 31));
	cr_assert_eq(bb_taps_edited(e, 0), 3 * 20);
	cr_assert_eq(bb_taps_edited(e, 1), 0);
	cr_assert_eq(bb_taps_edited(e, 2), 7);
	attach(e, NULL);
	cr_assert_eq(bb_taps_edited(e, 0), 0);
	bb_context_destroy(c);
	bb_context_destroy(d);
	bb_engine_destroy(e);
}

/* What overflows behind an edit would be 0 behind the next norm, and tokens go on from there. */
Test(taps, rows_that_edits_make_too_large_fail_the_step) {
	static const struct {
		const char *at, *says;
		float factor;
	} all[] = {
		{ "1:x", "blk.1.x.2: an edit makes the row of token 5 too large for f32", 1e30f },
		{ "1:att", "blk.1.att: an edit makes the row of token 5 too large for f32", 3e38f },
		{ "unembed:logits", "token 5 NaN or infinite", 3e38f },
	};
	struct bb_engine *e = open_cpu("llama");
	for (size_t i = 0; i < COUNT(all); i++) {
		struct bb_error err = { 0 };
		struct bb_context *c = new_context(e);
		const struct bb_edit once = { all[i].at, BB_EDIT_SCALE, 5, 2, NULL, 0, -1, all[i].factor };
		const struct bb_edit edits[] = { once, once };
		int32_t ids[7];
		float logits[7 * 199];
		make_ids(ids, 7, vocab_of(e), 4);
		attach(e, &(struct bb_taps){ .edits = edits, .n_edits = COUNT(edits) });
		const struct bb_step_item item = { c, ids, 7, logits, true };
		cr_assert(!bb_step(e, &item, 1, &err));
		cr_assert_eq(err.code, BB_ERR_INPUT);
		cr_assert_not_null(strstr(err.text, all[i].says), "%s", err.text);
		cr_assert_eq(bb_context_length(c), 0);
		attach(e, NULL);
		cr_assert(bb_step(e, &item, 1, &err), "%s", err.text);
		bb_context_destroy(c);
	}
	bb_engine_destroy(e);
}

Test(taps, bad_requests_leave_what_was_attached) {
	static const float two[] = { 1, 2 }, nan_at_3[16] = { [3] = NAN };
	static const struct {
		struct bb_edit edit;
		const char *says;
	} edits[] = {
		{ { "1:x", BB_EDIT_ADD, 0, 0, two, 2, -1, 0 },
			"a vector of 2 numbers, but its rows have 48" },
		{ { "1:att", BB_EDIT_SCALE, 0, 0, NULL, 0, 3, 0 }, "head 3, expected 0 to 2" },
		{ { "1:x", BB_EDIT_SCALE, 0, 0, NULL, 0, 1, 0 }, "it isn't made of heads; * " },
		{ { "1:x", BB_EDIT_SCALE, 0, 0, NULL, 0, 0, 0 }, "head 0, but it isn't made of heads; *" },
		{ { "1:att", BB_EDIT_SCALE, 0, 0, NULL, 0, 0, INFINITY }, "a factor that is infinite" },
		{ { "1:k", BB_EDIT_ADD, 0, 0, nan_at_3, 16, -1, 0 }, "number 3 of the vector is NaN" },
		{ { "1:none", BB_EDIT_SCALE, 0, 0, NULL, 0, 0, 0 }, "layer 1 has h.1" },
		{ { "1:x", BB_EDIT_ADD, 0, 0, NULL, 48, -1, 0 }, "a vector of 0 numbers" },
		{ { .at = "1:att" }, "an edit of kind 0, expected BB_EDIT_ADD" },
	};
	struct bb_engine *e = open_cpu("llama");
	struct sink *s = tap_sites(e, (const char *const[]){ "1:x" }, 1, NULL, 0);
	for (size_t i = 0; i < COUNT(edits); i++) {
		struct bb_error err = { 0 };
		cr_assert(!bb_taps_attach(e, &(struct bb_taps){ .edits = &edits[i].edit, .n_edits = 1 },
			&err));
		cr_assert_eq(err.code, BB_ERR_USAGE);
		cr_assert_not_null(strstr(err.text, edits[i].says), "%s", err.text);
	}
	const struct bb_attention_tap taps[] = { { 3, 0, 0, 0, take_weights, NULL },
		{ 0, 3, 0, 0, take_weights, NULL } };
	for (int i = 0; i < 2; i++) {
		struct bb_error err = { 0 };
		cr_assert(!bb_taps_attach(e, &(struct bb_taps){ .attention = &taps[i], .n_attention = 1 },
			&err));
		cr_assert_not_null(strstr(err.text, "expected 0 to 2"), "%s", err.text);
	}
	free(logits_of(e));
	cr_assert_eq(s->n_rows, N_TOKENS);
	sinks_free(s, 1);
	bb_engine_destroy(e);
	e = open_cpu("mamba");
	struct bb_error err = { 0 };
	const struct bb_attention_tap any = { -1, -1, 0, 0, take_weights, NULL };
	cr_assert(!bb_taps_attach(e, &(struct bb_taps){ .attention = &any, .n_attention = 1 }, &err));
	cr_assert_str_eq(err.text, "no layer of this model attends");
	bb_engine_destroy(e);
}
