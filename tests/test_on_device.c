/* SPDX-License-Identifier: Apache-2.0
 *
 * The engine on the emulator of CUDA, or on the device that is named: the same bits in any order of
 * threads and blocks, one launch for a step of decoding, and what happens when the device fails.
 * Goldens and invariance are with the CPU's (test_golden, test_bits). */
#include "on_device.h"

#include <math.h>

/* ---- bits ---- */

/* The same logits of tokens that are decoded beside others: two strangers, and a fork of the
 * context that is fed the same. */
static float *decode_together(struct bb_engine *e, const int32_t *ids) {
	enum { N = 4, OURS = 2, FORK = 3 };
	const size_t n_vocab = (size_t)vocab_of(e);
	float *logits = malloc(N_DECODED * n_vocab * sizeof(*logits));
	float *others = malloc(N * n_vocab * sizeof(*others));
	struct bb_context *c[N];
	struct bb_error err = { 0 };
	for (int i = 0; i <= OURS; i++) {
		c[i] = new_context(e);
		step(c[i], ids, i == OURS ? N_PROMPT : 11 + 40 * i, NULL);
	}
	cr_assert(bb_context_fork(&c[FORK], c[OURS], &err), "%s", err.text);
	for (size_t i = 0; i < N_DECODED; i++) {
		struct bb_step_item items[N];
		for (size_t j = 0; j < N; j++) {
			items[j] = (struct bb_step_item){ c[j], ids + N_PROMPT + i, 1, others + j * n_vocab,
				false };
		}
		items[OURS].logits = logits + i * n_vocab;
		cr_assert(bb_step(e, items, N, &err), "%s", err.text);
		cr_assert_eq(memcmp(items[OURS].logits, items[FORK].logits, n_vocab * sizeof(float)), 0,
			"token %zu: the fork has other bits", i);
	}
	for (int i = 0; i < N; i++) {
		bb_context_destroy(c[i]);
	}
	free(others);
	return logits;
}

typedef float *decode_fn(struct bb_engine *e, const int32_t *ids);

/* All that is decoded in every order is what the first gives in the first order. */
static void check_orders(const char *name, enum bb_kv_type kv_type, decode_fn *const *ways,
	int n_ways) {
	/* forward on two workers, backward on one, at random once or twice */
	const int n_orders = is_whole() ? 4 : 3;
	struct bb_engine *e = open_device(name, kv_type, 0);
	const size_t bytes = (size_t)N_DECODED * (size_t)vocab_of(e) * sizeof(float);
	int32_t ids[N_PROMPT + N_DECODED];
	make_ids(ids, N_PROMPT + N_DECODED, vocab_of(e), 5);
	float *want = NULL;
	for (int i = 0; i < n_orders * n_ways; i++) {
		reschedule(e, i / n_ways);
		float *got = ways[i % n_ways](e, ids);
		want = want != NULL ? want : got;
		cr_assert_eq(memcmp(want, got, bytes), 0, "%s, kv %s: order %d, way %d gives other bits",
			name, bb_kv_type_name(kv_type), i / n_ways, i % n_ways);
		if (got != want) {
			free(got);
		}
	}
	reschedule(e, 0);
	free(want);
	bb_engine_destroy(e);
}

Test(on_device, any_order_gives_the_same_bits) {
	decode_fn *const alone[] = { decode };
	check_orders("llama", BB_KV_F32, alone, 1);
	check_orders("qwen2", BB_KV_INT8, alone, 1);
	check_orders("gemma3", BB_KV_F16, alone, 1);
	check_orders("llama-window", BB_KV_BF16, alone, 1);
}

Test(on_device, any_order_gives_the_same_bits_of_quantised_weights, .timeout = 200) {
	decode_fn *const ways[] = { decode, decode_together };
	check_orders("llama-quantised", BB_KV_F16, ways, 2);
}

/* ---- a real model ---- */

/* Root of the mean square of the differences of two rows of logits, as a share of the range of the
 * first. */
static double distance(const float *a, const float *b, int n) {
	double sum = 0, low = a[0], high = a[0];
	for (int i = 0; i < n; i++) {
		sum += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
		low = fmin(low, a[i]);
		high = fmax(high, a[i]);
	}
	return sqrt(sum / n) / (high - low);
}

static int32_t largest(const float *x, int n) {
	int32_t best = 0;
	for (int32_t i = 1; i < n; i++) {
		best = x[i] > x[best] ? i : best;
	}
	return best;
}

/* The CPU's greedy text, fed to both. The same inputs give products the same bits, but what differs
 * in the last bit elsewhere may be rounded to another int8 on its way into the next product: the
 * C reference and the CPU's best variants are as far apart as the CPU and the device. */
Test(on_device, real_model_agrees_with_the_cpu, .timeout = 300) {
	enum { N_READ = 24 };
	const int n_greedy = is_whole() ? 16 : 4; /* a token takes a second on the emulator */
	struct bb_engine_params params = { .path = real_path("smollm2") };
	struct bb_engine *cpu = open_with(&params);
	params.device = test_device();
	struct bb_engine *simt = open_with(&params);
	const int n_vocab = vocab_of(cpu);
	float *want = malloc((size_t)n_vocab * sizeof(*want));
	float *got = malloc((size_t)n_vocab * sizeof(*got));
	struct bb_context *a = new_context(cpu), *b = new_context(simt);
	int32_t ids[N_READ];
	make_ids(ids, N_READ, n_vocab, 3);
	for (int i = 0, n = N_READ; i <= n_greedy; i++, n = 1) {
		step(a, ids, n, want);
		step(b, ids, n, got);
		const double off = distance(want, got, n_vocab);
		cr_assert(off <= 0.02, "token %d: the logits are %.2e of their range apart", i, off);
		ids[0] = largest(want, n_vocab);
		const double lost = want[ids[0]] - want[largest(got, n_vocab)];
		cr_assert(lost < 0.5, "token %d: the device's choice has a logit %.3f lower", i, lost);
	}
	bb_context_destroy(a);
	bb_context_destroy(b);
	free(want);
	free(got);
	bb_engine_destroy(cpu);
	bb_engine_destroy(simt);
}

/* ---- two operations in one launch ---- */

struct arrays {
	const struct memory *m;
	struct bb_error err;
};

/* n random floats of the device. */
static float *floats(struct arrays *a, int n, int seed) {
	float *host = malloc((size_t)n * sizeof(*host));
	uint32_t x = 12345u + (uint32_t)seed * 2654435761u;
	for (int i = 0; i < n; i++) {
		x = x * 1664525u + 1013904223u;
		host[i] = ((float)(x >> 8) / 8388608.0f - 1.0f) * (i % 37 == 0 ? 20.0f : 1.0f);
	}
	float *there = memory_map(a->m, (size_t)n * sizeof(*there), "test", &a->err);
	cr_assert_not_null(there, "%s", a->err.text);
	memory_in(a->m, there, host, (size_t)n * sizeof(*there));
	cr_assert(memory_wait(a->m, &a->err), "%s", a->err.text);
	free(host);
	return there;
}

static void expect_equal(struct arrays *a, const void *x, const void *y, size_t n,
	const char *what) {
	uint8_t *p = malloc(n), *q = malloc(n);
	memory_out(a->m, p, x, n);
	memory_out(a->m, q, y, n);
	cr_assert(memory_wait(a->m, &a->err), "%s", a->err.text);
	for (size_t i = 0; i < n; i++) {
		cr_assert_eq(p[i], q[i], "%s: byte %zu of %zu is %d, want %d", what, i, n, q[i], p[i]);
	}
	free(p);
	free(q);
}

/* rmsnorm or a gate, then prep; and the two in one launch. */
static void check_fused_rows(const struct bb_engine *e, int k, int n) {
	const struct bb_kernels *kernels = &e->kernels;
	bb_queue *q = e->memory.queue;
	struct arrays a = { &e->memory };
	const struct bb_layout *layout;
	kernels_matmul(kernels, BB_Q4_1, &layout);
	cr_assert(layout->fuses(BB_Q4_1) && !layout->fuses(BB_F32));
	const size_t bytes = layout->prep_bytes(BB_Q4_1, n, k);
	float *x = floats(&a, 2 * n * k, 1), *w = floats(&a, k, 2), *y = floats(&a, n * k, 3);
	void *want = floats(&a, (int)bytes / 4 + 1, 4), *got = floats(&a, (int)bytes / 4 + 1, 4);
	struct bb_fused_x f = { BB_FUSE_RMSNORM, x, NULL, 2 * k, w, 1e-6f };
	kernels->rmsnorm(q, y, k, x, 2 * k, w, n, 1, k, 1e-6f);
	layout->prep(q, want, BB_Q4_1, y, k, n, k);
	layout->prep_fused(q, got, BB_Q4_1, &f, n, k);
	expect_equal(&a, want, got, bytes, "rmsnorm");
	for (int i = 0; i < 2; i++) {
		f = (struct bb_fused_x){ i == 0 ? BB_FUSE_SILU_MUL : BB_FUSE_GELU_MUL, x, x + k, 2 * k };
		(i == 0 ? kernels->silu_mul : kernels->gelu_mul)(q, y, k, x, x + k, 2 * k, n, k);
		layout->prep(q, want, BB_Q4_1, y, k, n, k);
		layout->prep_fused(q, got, BB_Q4_1, &f, n, k);
		expect_equal(&a, want, got, bytes, i == 0 ? "silu_mul" : "gelu_mul");
	}
	void *all[] = { x, w, y, want, got };
	for (size_t i = 0; i < COUNT(all); i++) {
		memory_unmap(a.m, all[i], 0);
	}
}

static void check_fused_x(const struct bb_engine *e, int k) {
	check_fused_rows(e, k, 3);
}

/* RoPE of q and k, then append; and the two in one launch. */
static void check_turned_append(struct bb_engine *e, int n_pairs) {
	enum { N = 3, N_RESERVED = 8 };
	const struct bb_module *module = module_of(e);
	const struct bb_hparams *hp = &e->plan.hp;
	const int n_heads = hparam_int(hp, H_HEADS), n_kv_heads = hparam_int(hp, H_KV_HEADS);
	const int head_dim = hparam_int(hp, H_HEAD), ld = (n_heads + 2 * n_kv_heads) * head_dim;
	struct arrays a = { &e->memory };
	const struct bb_kv_layout *layout;
	kernels_attention(&e->kernels, e->kv_type, &layout);
	cr_assert(layout->turns);
	struct bb_context *c = new_context(e);
	cr_assert(bb_context_reserve(c, N_RESERVED, &a.err), "%s", a.err.text);
	const struct bb_step_item item = { c, (const int32_t[N]){ 1, 2, 3 }, N, NULL, false };
	batch_compose(e, &item, 1);
	void *page = c->tables[0].chunks[0][0];
	const size_t bytes = c->tables[0].pool->page_bytes;
	float *cs = floats(&a, 2 * N * n_pairs, 6), *first = floats(&a, (int)(bytes / 4), 7);
	float *x[2] = { floats(&a, N * ld, 5), floats(&a, N * ld, 5) };
	for (int i = 0; i < 2; i++) {
		const struct bb_kv_append append = {
			.k = x[i] + n_heads * head_dim, .v = x[i] + (n_heads + n_kv_heads) * head_dim,
			.ld = ld, .seqs = e->batch.at.seqs[0], .n_seqs = 1, .kv_heads = e->batch.at.kv_heads,
			.n_kv_heads = n_kv_heads, .head_dim = head_dim, .kv_group = e->kv_group,
			.type = e->kv_type, .layout = layout, .n_rows = N, .cs = i > 0 ? cs : NULL, .q = x[i],
			.n_pairs = n_pairs, .n_heads = n_heads,
		};
		module->fill(e->memory.queue, page, 0, bytes);
		if (i == 0) {
			e->kernels.rope(e->memory.queue, x[0], ld, cs, N, n_heads + n_kv_heads, head_dim,
				n_pairs);
		}
		kv_append(e->memory.queue, &append);
		if (i == 0) {
			memory_copy(a.m, first, page, bytes);
		}
	}
	expect_equal(&a, first, page, bytes, "page");
	for (int r = 0; r < N; r++) {
		expect_equal(&a, x[0] + r * ld, x[1] + r * ld,
			(size_t)(n_heads * head_dim) * sizeof(float), "q");
	}
	void *all[] = { cs, first, x[0], x[1] };
	for (size_t i = 0; i < COUNT(all); i++) {
		memory_unmap(a.m, all[i], 0);
	}
	bb_context_destroy(c);
}

Test(on_device, an_append_turns_with_the_bits_of_rope) {
	static const enum bb_kv_type types[] = { BB_KV_F32, BB_KV_F16, BB_KV_BF16, BB_KV_INT8 };
	for (size_t i = 0; i < COUNT(types); i++) {
		struct bb_engine *e = open_device("llama", types[i], 0);
		const int half = hparam_int(&e->plan.hp, H_HEAD) / 2;
		check_turned_append(e, half);
		check_turned_append(e, half - 3);
		bb_engine_destroy(e);
	}
}

/* The same under the emulator's checker: races, bounds, values that nobody wrote. */
Test(on_device, fused_launches_have_no_findings) {
	char text[400];
	if (strcmp(test_device(), "simt") != 0) {
		cr_skip_test("only the emulator has a checker");
	}
	const struct bb_engine_params params = { .path = tiny_path("llama"), .device = "simt_check",
		.n_threads = 1, .kv_type = BB_KV_INT8 };
	struct bb_engine *e = open_with(&params);
	check_fused_x(e, 96);
	check_fused_x(e, 512);
	check_turned_append(e, hparam_int(&e->plan.hp, H_HEAD) / 2);
	cr_assert_eq(module_of(e)->findings(text, sizeof(text)), 0, "%s", text);
	bb_engine_destroy(e);
}

Test(on_device, a_fused_x_has_the_bits_of_two_launches) {
	struct bb_engine *e = open_device("llama", BB_KV_F16, 0);
	check_fused_x(e, 96);  /* a warp a row, an odd number of blocks */
	check_fused_x(e, 256);
	check_fused_x(e, 1056);
	bb_engine_destroy(e);
}

/* The same of large products of --gemm fast, whose x is in bf16. */
Test(on_device, a_fused_x_of_many_rows_has_the_bits_of_two_launches) {
	const struct bb_engine_params params = { .path = tiny_path("llama"), .device = "simt",
		.gemm = "fast", .n_threads = 1 };
	if (strcmp(test_device(), "simt") != 0) {
		cr_skip_test("a GPU's machine may lack cuBLASLt");
	}
	struct bb_engine *e = open_with(&params);
	check_fused_rows(e, 96, BB_LT_ROWS);
	check_fused_rows(e, 1056, BB_LT_ROWS);
	bb_engine_destroy(e);
}

/* Where weights are of a block type: norms and gates go with the products, RoPE with the append. */
Test(on_device, a_layer_is_planned_with_fused_operations, .timeout = 120) {
	const struct bb_engine_params params = { .path = real_path("smollm2"),
		.device = test_device(),
		.inspect_only = true };
	struct bb_engine *e = open_with(&params);
	const struct plan_ops *layer = &e->plan.layers[0];
	int n_fused = 0, n_normalise = 0, n_take = 0;
	for (int i = 0; i < layer->n; i++) {
		n_fused += plan_is_fused(layer, i);
		n_normalise += layer->ops[i].normalises;
		n_take += layer->ops[i].takes;
	}
	cr_assert_eq(n_fused, 4, "%d of %d operations", n_fused, layer->n);
	cr_assert_eq(n_normalise, 2, "%d products normalise", n_normalise);
	cr_assert_eq(n_take, 2, "%d products find their x", n_take);
	bb_engine_destroy(e);
}

/* ---- siblings of a fork ---- */

enum { N_SIBLINGS = 4, MAX_SIBLINGS = 32 };

/* Sectors of 32 bytes that kernels of such a name read in the step that was run last, in bytes; a
 * GPU counts none. */
struct attention_bytes {
	double all, share; /* attention, attention_share */
};

static struct attention_bytes attention_bytes(const struct bb_engine *e) {
	static struct bb_launch launches[1024];
	struct attention_bytes bytes = { 0, 0 };
	if (module_of(e)->launches == NULL) {
		return bytes;
	}
	const int n = module_of(e)->launches(launches, 1024);
	for (int i = 0; i < n && i < 1024; i++) {
		const double here = (double)launches[i].read_bytes;
		bytes.all += strstr(launches[i].kernel, "attention") != NULL ? here : 0;
		bytes.share += strstr(launches[i].kernel, "attention_share") != NULL ? here : 0;
	}
	return bytes;
}

/* One token of each of n contexts in a step, four in turn from the first-th on; returns what
 * attention read. */
static struct attention_bytes step_all(struct bb_engine *e, struct bb_context **c, int n,
	int first, float *logits) {
	static const int32_t ids[N_SIBLINGS] = { 3, 5, 8, 13 };
	struct bb_step_item items[1 + MAX_SIBLINGS];
	struct bb_error err = { 0 };
	for (int i = 0; i < n; i++) {
		items[i] = (struct bb_step_item){ c[i], &ids[(first + i) % N_SIBLINGS], 1,
			logits + i * vocab_of(e), false };
	}
	attention_bytes(e);
	cr_assert(bb_step(e, items, n, &err), "%s", err.text);
	return attention_bytes(e);
}

/* n siblings behind a short context that is none of them have the bits of each alone, and read less
 * than by themselves: what they share n_times, or, where that is 0, in the launch of all else. */
static void check_siblings(struct bb_engine *e, int n, int n_times, bool is_counted) {
	const size_t n_vocab = (size_t)vocab_of(e), n_logits = (size_t)(1 + n) * n_vocab;
	float *together = malloc(n_logits * sizeof(float)), *alone = malloc(n_logits * sizeof(float));
	struct bb_context *c[1 + MAX_SIBLINGS], *fork;
	struct bb_error err = { 0 };
	int32_t ids[BB_SPLIT + 4];
	make_ids(ids, COUNT(ids), (int)n_vocab, 9);
	c[0] = new_context(e);
	step(c[0], ids, 7, NULL);
	c[1] = new_context(e);
	step(c[1], ids, COUNT(ids), NULL);
	for (int i = 2; i <= n; i++) {
		cr_assert(bb_context_fork(&c[i], c[1], &err), "%s", err.text);
	}
	struct attention_bytes one = { 0, 0 };
	for (int i = 0; i <= N_SIBLINGS; i++) {
		cr_assert(bb_context_fork(&fork, c[i], &err), "%s", err.text);
		one = step_all(e, &fork, 1, i, alone + (size_t)i * n_vocab);
		bb_context_destroy(fork);
	}
	const struct attention_bytes bytes = step_all(e, c, 1 + n, 0, together);
	for (int i = 0; i <= n; i++) { /* the same token as a sibling that was alone */
		const int like = i <= N_SIBLINGS ? i : (i - 1) % N_SIBLINGS + 1;
		cr_assert_eq(memcmp(together + (size_t)i * n_vocab, alone + (size_t)like * n_vocab,
			n_vocab * sizeof(float)), 0, "context %d of %d siblings has other bits", i, n);
		bb_context_destroy(c[i]);
	}
	cr_assert(!is_counted || bytes.all < 0.7 * n * one.all, "%d siblings read %.0f bytes, one %.0f",
		n, bytes.all, one.all);
	cr_assert(!is_counted || (bytes.share > 0.9 * n_times * one.all - 1 &&
		bytes.share < 1.3 * n_times * one.all + 1), "%d siblings share %.0f bytes, one reads %.0f",
		n, bytes.share, one.all);
	free(together);
	free(alone);
}

/* 3 heads to a KV head: 12 rows are one tile, 24 are two of a block, 96 two blocks. */
Test(on_device, siblings_of_a_fork_read_their_common_pages_for_64_rows_at_once, .timeout = 300) {
	const bool is_counted = strcmp(test_device(), "simt") == 0;
	const struct bb_engine_params params = { .path = tiny_path("llama"), .n_threads = 1,
		.device = is_counted ? "simt_check" : test_device() };
	struct bb_engine *e = open_with(&params);
	check_siblings(e, N_SIBLINGS, 0, is_counted);
	check_siblings(e, 8, 1, is_counted);
	check_siblings(e, MAX_SIBLINGS, 2, is_counted);
	bb_engine_destroy(e);
}

/* ---- captured steps ---- */

/* Contexts by their names here: two without siblings, and two families. */
enum { U, A0, A1, A2, V, B0, B1, B2, N_CONTEXTS, N_TOGETHER = 7 };

static void make_families(struct bb_engine *e, struct bb_context **c) {
	static const struct {
		int first, n, n_tokens;
	} made[] = { { U, 1, 30 }, { A0, 3, 260 }, { V, 1, 300 }, { B0, 3, 520 } };
	int32_t ids[520];
	struct bb_error err = { 0 };
	for (size_t i = 0; i < COUNT(made); i++) {
		make_ids(ids, made[i].n_tokens, vocab_of(e), 20 + (int)i);
		c[made[i].first] = new_context(e);
		for (int t = 0, n; t < made[i].n_tokens; t += n) {
			n = made[i].n_tokens - t < 300 ? made[i].n_tokens - t : 300;
			step(c[made[i].first], ids + t, n, NULL);
		}
		for (int j = 1; j < made[i].n; j++) {
			cr_assert(bb_context_fork(&c[made[i].first + j], c[made[i].first], &err), "%s",
				err.text);
		}
	}
}

/* A step of one token of forks of n contexts in this order; logits [n, n_vocab]. */
static void step_forks(struct bb_engine *e, struct bb_context **c, const int *order, int n,
	float *logits) {
	static const int32_t ids[N_CONTEXTS] = { 1, 2, 3, 4, 5, 6, 7, 8 };
	struct bb_step_item items[N_CONTEXTS];
	struct bb_error err = { 0 };
	for (int i = 0; i < n; i++) {
		items[i] = (struct bb_step_item){ NULL, &ids[order[i]], 1, logits + i * vocab_of(e),
			false };
		cr_assert(bb_context_fork(&items[i].context, c[order[i]], &err), "%s", err.text);
	}
	cr_assert(bb_step(e, items, n, &err), "%s", err.text);
	for (int i = 0; i < n; i++) {
		bb_context_destroy(items[i].context);
	}
}

/* The second order has as many shares of as many contexts as the first: one capture serves both. */
static void check_families(const char *name) {
	static const int orders[2][N_TOGETHER] = { { U, A0, A1, V, B0, B1, B2 },
		{ U, B0, B1, V, A0, A1, A2 } };
	struct bb_engine *e = open_device(name, BB_KV_F16, 0);
	const size_t n_vocab = (size_t)vocab_of(e);
	float *alone = malloc(N_CONTEXTS * n_vocab * sizeof(float));
	float *together = malloc(N_TOGETHER * n_vocab * sizeof(float));
	struct bb_context *c[N_CONTEXTS];
	make_families(e, c);
	for (int i = 0; i < N_CONTEXTS; i++) {
		step_forks(e, c, &i, 1, alone + (size_t)i * n_vocab);
	}
	int n = 0;
	for (int k = 0; k < 2; k++) {
		step_forks(e, c, orders[k], N_TOGETHER, together);
		cr_assert_eq(e->batch.n_shares, 2, "%s: %d shares", name, e->batch.n_shares);
		cr_assert_eq(e->batch.n_shared_rows, 5, "%s: %d rows", name, e->batch.n_shared_rows);
		cr_assert(k == 0 || n_captures(e) == n, "%s was captured again", name);
		n = n_captures(e);
		for (size_t i = 0; i < N_TOGETHER; i++) {
			cr_assert_eq(memcmp(together + i * n_vocab, alone + (size_t)orders[k][i] * n_vocab,
				n_vocab * sizeof(float)), 0, "%s, order %d: item %zu has other bits", name, k, i);
		}
	}
	for (int i = 0; i < N_CONTEXTS; i++) {
		bb_context_destroy(c[i]);
	}
	free(alone);
	free(together);
	bb_engine_destroy(e);
}

Test(on_device, families_of_contexts_have_the_bits_of_each_alone, .timeout = 200) {
	check_families("llama");
	check_families("gemma3");
}

Test(on_device, decoding_is_captured_once_for_many_tokens) {
	struct bb_engine *e = open_device("llama", BB_KV_F16, 0);
	float *logits = malloc((size_t)vocab_of(e) * sizeof(*logits));
	int32_t ids[400];
	make_ids(ids, 400, vocab_of(e), 1);
	struct bb_context *c = new_context(e);
	struct bb_error err = { 0 };
	step(c, ids, 10, logits);
	cr_assert_eq(n_captures(e), 0, "a prompt is not captured");
	cr_assert(bb_context_reserve(c, 300, &err), "%s", err.text);
	step(c, ids + 10, 1, logits);
	cr_assert_eq(n_captures(e), 1);
	base_forbid_alloc(true); /* pages, tables and the captured step are there */
	for (int i = 11; i < BB_SPLIT; i++) {
		step(c, ids + i, 1, logits);
	}
	base_forbid_alloc(false);
	cr_assert_eq(n_captures(e), 1);
	step(c, ids + BB_SPLIT, 1, logits);
	cr_assert_eq(n_captures(e), 2, "another split");
	step(c, ids + BB_SPLIT + 1, 1, NULL);
	cr_assert_eq(n_captures(e), 3, "no logits");
	bb_context_destroy(c);
	free(logits);
	bb_engine_destroy(e);
}

/* More page tables than the first image has room for. */
Test(on_device, page_tables_of_many_contexts_find_room) {
	enum { N = 80 };
	struct bb_engine *e = open_device("gemma3", BB_KV_F16, 0);
	const size_t n_vocab = (size_t)vocab_of(e), bytes = e->batch.image.copy.bytes;
	struct bb_step_item items[N];
	float *logits = malloc(2 * N * n_vocab * sizeof(*logits));
	int32_t ids[N];
	struct bb_error err = { 0 };
	make_ids(ids, N, (int)n_vocab, 2);
	for (int i = 0; i < N; i++) {
		items[i] = (struct bb_step_item){ new_context(e), ids, 1, logits + (size_t)i * n_vocab,
			false };
	}
	int n_steps = 0;
	bool has_grown = false;
	for (int n = 1; n <= N; n += 4) { /* the first context sees ids[0], ids[0], … */
		cr_assert(bb_step(e, items, n, &err), "%s", err.text);
		n_steps++;
		if (!has_grown && e->batch.image.copy.bytes > bytes) {
			/* captured a step ago, when the image was elsewhere */
			cr_assert(bb_step(e, items, n - 4, &err), "%s", err.text);
			n_steps++;
			has_grown = true;
		}
	}
	cr_assert(has_grown);
	struct bb_context *alone = new_context(e);
	for (int i = 0; i < n_steps; i++) {
		step(alone, ids, 1, logits + N * n_vocab);
	}
	cr_assert_eq(memcmp(logits, logits + N * n_vocab, n_vocab * sizeof(*logits)), 0);
	bb_context_destroy(alone);
	for (int i = 0; i < N; i++) {
		bb_context_destroy(items[i].context);
	}
	free(logits);
	bb_engine_destroy(e);
}

/* ---- failures ---- */

static void refused(const struct bb_engine_params *params, enum bb_code code, const char *part) {
	struct bb_engine *e = NULL;
	struct bb_error err = { 0 };
	cr_assert_not(bb_engine_open(&e, bb_models, params, &err));
	cr_assert_null(e);
	cr_assert_eq(err.code, code, "code %d: %s", err.code, err.text);
	cr_assert_not_null(strstr(err.text, part), "'%s' doesn't say '%s'", err.text, part);
}

Test(on_device, what_cannot_be_opened_says_so) {
	struct bb_engine_params params = { .path = tiny_path("llama"), .n_threads = 1 };
	params.device = "tpu";
	refused(&params, BB_ERR_USAGE, "device 'tpu' is unknown");
	params.device = test_device();
	params.max_device_bytes = 100000;
	refused(&params, BB_ERR_MEMORY, "of device memory can't be had");
	params.vocab_only = true; /* needs no device */
	bb_engine_destroy(open_with(&params));
}

/* Every piece of memory that loading takes from the driver fails once. */
Test(on_device, loading_survives_any_failed_allocation) {
	struct bb_engine_params params = { .path = tiny_path("llama"), .device = test_device(),
		.n_threads = 1 };
	struct bb_engine *e = open_with(&params);
	const struct bb_module *module = module_of(e);
	bb_engine_destroy(e);
	int n = 1;
	for (bool ok = false; !ok; n++) {
		struct bb_error err = { 0 };
		fail(module, BB_FAIL_ALLOC, n);
		ok = bb_engine_open(&e, bb_models, &params, &err);
		cr_assert(ok || err.code == BB_ERR_MEMORY, "%s", err.text);
	}
	fail(module, BB_FAIL_ALLOC, 0);
	cr_assert_gt(n, 2);
	bb_engine_destroy(e);
}

/* Every request of memory that loading makes is the first that doesn't fit, on the device … */
Test(on_device, loading_says_what_does_not_fit) {
	struct bb_engine_params params = { .path = tiny_path("qwen2"), .device = test_device(),
		.n_threads = 1, .max_batch_tokens = 16 };
	struct bb_engine *e = NULL;
	int n_refused = 0;
	for (params.max_device_bytes = 1024; e == NULL; n_refused++) {
		struct bb_error err = { 0 };
		cr_assert(bb_engine_open(&e, bb_models, &params, &err) || (err.code == BB_ERR_MEMORY &&
			strstr(err.text, "of device memory can't be had") != NULL), "%s", err.text);
		params.max_device_bytes += params.max_device_bytes / 64 + 256;
	}
	cr_assert_gt(n_refused, 50);
	bb_engine_destroy(e);
}

/* … and on the host. */
Test(on_device, loading_survives_any_failed_allocation_of_the_host) {
	struct bb_engine_params params = { .path = tiny_path("qwen2"), .device = test_device(),
		.n_threads = 1, .max_batch_tokens = 16 };
	struct bb_engine *e = NULL;
	int n_failed = 0;
	for (long n = 1; e == NULL; n++) {
		struct bb_error err = { 0 };
		base_fail_alloc_at(n);
		if (!bb_engine_open(&e, bb_models, &params, &err)) {
			cr_assert_eq(err.code, BB_ERR_MEMORY, "allocation %ld: %s", n, err.text);
			n_failed++;
		}
	}
	base_fail_alloc_at(0);
	cr_assert_gt(n_failed, 50);
	bb_engine_destroy(e);
}

/* Without pinned memory a step goes the slower way. */
Test(on_device, pinned_memory_is_not_needed) {
	struct bb_engine_params params = { .path = tiny_path("llama"), .device = test_device(),
		.n_threads = 1 };
	struct bb_engine *e = open_with(&params);
	const struct bb_module *module = module_of(e);
	cr_assert(e->batch.image.copy.is_pinned);
	bb_engine_destroy(e);
	fail(module, BB_FAIL_HOST_ALLOC, 1);
	e = open_with(&params);
	cr_assert_not(e->batch.image.copy.is_pinned);
	struct bb_context *c = new_context(e);
	step(c, (const int32_t[]){ 1, 2, 3 }, 3, NULL);
	bb_context_destroy(c);
	bb_engine_destroy(e);
}

/* A context that finds no room keeps its tokens; another goes on with its own bits. */
Test(on_device, a_full_device_loses_no_other_request) {
	enum { N = 200 };
	struct bb_engine *e = open_device("llama", BB_KV_F32, 0);
	int32_t ids[4096];
	size_t used;
	make_ids(ids, 4096, vocab_of(e), 7);
	float *want = decode(e, ids);
	bb_context_destroy(new_context(e)); /* sets the pools up */
	const size_t page_bytes = e->pools[0][KV_F32].page_bytes;
	kv_pool_finish(&e->pools[0][KV_F32]);
	module_of(e)->arena_bytes(e->memory.device.d, &used);
	bb_engine_destroy(e);

	const size_t n_pages = (N_PROMPT + N_DECODED) / BB_PAGE + 1;
	e = open_device("llama", BB_KV_F32, used + (n_pages + 4) * page_bytes);
	struct bb_context *greedy = new_context(e), *other = new_context(e);
	struct bb_error err = { 0 };
	step(other, ids, N_PROMPT, NULL);
	int n_read = 0;
	for (bool ok = true; ok && n_read < 4096; n_read += ok ? BB_PAGE : 0) {
		ok = bb_prefill(greedy, ids + n_read, BB_PAGE, NULL, NULL, NULL, &err);
	}
	cr_assert_eq(err.code, BB_ERR_MEMORY, "%s", err.text);
	cr_assert_not_null(strstr(err.text, "KV cache: "), "%s", err.text);
	cr_assert_not_null(strstr(err.text, "of device memory can't be had"), "%s", err.text);
	cr_assert(n_read > 0 && bb_context_length(greedy) == n_read);
	const size_t n_vocab = (size_t)vocab_of(e);
	float *got = malloc(n_vocab * sizeof(*got));
	for (int i = 0; i < N_DECODED; i++) {
		step(other, ids + N_PROMPT + i, 1, got);
		cr_assert_eq(memcmp(got, want + (size_t)i * n_vocab, n_vocab * sizeof(*got)), 0);
	}
	bb_context_destroy(other);
	cr_assert(bb_prefill(greedy, ids, BB_PAGE, NULL, NULL, NULL, &err), "the room is given back");
	bb_context_destroy(greedy);
	free(got);
	free(want);
	bb_engine_destroy(e);
}

/* A launch or copy that fails takes the driver's context with it: the step isn't appended, and
 * neither is any later one, each with the sentence. */
static void check_sticky(enum bb_failure what, int n_new, const char *part) {
	struct bb_engine *e = open_device("llama", BB_KV_F16, 0);
	struct bb_context *c = new_context(e);
	const int32_t ids[] = { 1, 2, 3, 4 };
	float *logits = malloc((size_t)vocab_of(e) * sizeof(*logits));
	step(c, ids, 4, logits);
	step(c, ids, 1, logits);
	fail(module_of(e), what, 1);
	for (int i = 0; i < 2; i++) {
		struct bb_error err = { 0 };
		const struct bb_step_item item = { c, ids, n_new, logits, false };
		cr_assert_not(bb_step(e, &item, 1, &err));
		cr_assert_eq(err.code, BB_ERR_DEVICE, "code %d: %s", err.code, err.text);
		cr_assert_not_null(strstr(err.text, "device simt: "), "%s", err.text);
		cr_assert(i > 0 || strstr(err.text, part) != NULL, "%s", err.text);
		cr_assert_eq(bb_context_length(c), 5);
	}
	bb_context_destroy(c);
	free(logits);
	bb_engine_destroy(e);
}

Test(on_device, a_failed_launch_is_said_and_sticks) {
	check_sticky(BB_FAIL_LAUNCH, 3, "launch");
}

Test(on_device, a_failed_launch_of_a_captured_step_is_said_and_sticks) {
	check_sticky(BB_FAIL_LAUNCH, 1, "launch");
}

Test(on_device, a_failed_copy_is_said_and_sticks) {
	check_sticky(BB_FAIL_COPY, 1, "copy");
}
