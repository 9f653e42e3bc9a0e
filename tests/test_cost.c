/* SPDX-License-Identifier: Apache-2.0
 *
 * What is counted of steps, held against what the CPU's walk asks for, plane by plane, and against
 * operations added up by hand. The emulator's traffic is test_on_device's. */
#include "outcomes.h"

#include "attention_walk.h"

enum { N_BEGUN = 1100, N_FORKS = 6, N_COUSINS = 2, N_OTHERS = 2, N_PIECE = 3 };
enum { N_ALL = N_FORKS + N_COUSINS + N_OTHERS };

/* ---- what the walk reads ---- */

/* Planes that it asked for, each a page's keys or values of a head in a layer. One that is among
 * the last eight, the keys and values of a split, comes from a cache: it isn't read again. */
enum { MAX_READS = 1 << 16, N_CACHED = 8 };
static struct {
	const void *planes[MAX_READS];
	int n;
	const void *cached[N_CACHED]; /* the last one first */
} reads;

static void read_plane(const void *plane) {
	int i = 0;
	while (i < N_CACHED - 1 && reads.cached[i] != plane) {
		i++;
	}
	if (reads.cached[i] != plane) {
		cr_assert_lt(reads.n, MAX_READS);
		reads.planes[reads.n++] = plane;
	}
	memmove(reads.cached + 1, reads.cached, (size_t)i * sizeof(*reads.cached));
	reads.cached[0] = plane;
}

static void forget_reads(void) {
	reads.n = 0;
	memset(reads.cached, 0, sizeof(reads.cached));
}

static int n_reads(const void *plane) {
	int n = 0;
	for (int i = 0; i < reads.n; i++) {
		n += reads.planes[i] == plane;
	}
	return n;
}

static void stage(void *dst, const void *plane, size_t n) {
	(void)dst;
	(void)n;
	read_plane(plane);
}

static void weigh(const struct attn_tile *t) {
	for (int r = 0; r < t->n_rows; r++) {
		t->m[r] = 0;
		t->l[r] = 1;
		memset(t->o + (size_t)r * (size_t)t->dims.vd, 0, (size_t)t->dims.vd * sizeof(float));
	}
}

static void weigh_direct(const struct attn_tile *t) {
	for (int i = 0; i < 2 * SPLIT_PAGES; i++) {
		const void *plane = i < SPLIT_PAGES ? t->k[i] : t->v[i - SPLIT_PAGES];
		if (plane != NULL) {
			read_plane(plane);
		}
	}
	weigh(t);
}

static void prep_q(void *dst, const float *q, const struct attn_dims *dims, float scale) {
	(void)dst;
	(void)q;
	(void)dims;
	(void)scale;
}

static void join(float *big_m, float *big_l, float *big_o, const float *m, const float *l,
	const float *o, int vd) {
	(void)big_m;
	(void)big_o;
	(void)m;
	(void)o;
	(void)vd;
	*big_l += *l;
}

static void finish(float *out, const float *o, float l, int head_dim) {
	(void)o;
	(void)l;
	memset(out, 0, (size_t)head_dim * sizeof(*out));
}

static void attention_counted(bb_queue *q, const struct bb_attention *a) {
	static const struct attn_ops ops = { .type = KV_F16, .staged_elem_bytes = 4, .stage = stage,
		.tile = weigh, .tile_direct = weigh_direct, .prep_q = prep_q, .join = join,
		.finish = finish };
	attention_walk(q, a, &ops);
}

static void attention_direct(bb_queue *q, const struct bb_attention *a) {
	static const struct attn_ops ops = { .type = KV_F16, .tile_direct = weigh_direct,
		.prep_q = prep_q, .join = join, .finish = finish };
	attention_walk(q, a, &ops);
}

static struct bb_engine *open_counted(const char *model, attention_fn *fn) {
	struct bb_engine *e = open_with(&(struct bb_engine_params){ .path = tiny_path(model),
		.n_threads = 1, .kv_type = BB_KV_F16, .max_model_len = 4096 });
	e->kernels.attention_f16 = fn;
	return e;
}

/* Forks of a prompt of 1100 tokens, 17 pages and a part of one, that went on for 0, 40, ... tokens;
 * cousins, which share 300 tokens with them; one that shares nothing, and a short one, which reads
 * a piece of a prompt. Among each other. */
static void make_contexts(struct bb_engine *e, struct bb_context *c[N_ALL],
	struct bb_context **prompt) {
	struct bb_context *base = new_context(e);
	append_made(base, e, 300, 1);
	struct bb_context *cousin = fork_of(base);
	append_made(base, e, N_BEGUN - 300, 2);
	append_made(cousin, e, 700, 3);
	for (int i = 0; i < N_FORKS; i++) {
		const int at = i * (N_ALL - 1) / N_FORKS;
		c[at] = fork_of(base);
		if (i > 0) {
			append_made(c[at], e, 40 * i, 10 + i);
		}
	}
	for (int i = 0, n = 0; i < N_ALL - 1; i++) {
		if (c[i] == NULL) {
			c[i] = n < N_COUSINS ? fork_of(cousin) : new_context(e);
			append_made(c[i], e, n < N_COUSINS ? 9 + n : 500, 20 + n);
			n++;
		}
	}
	c[N_ALL - 1] = new_context(e);
	append_made(c[N_ALL - 1], e, 70, 30);
	bb_context_destroy(cousin);
	*prompt = base;
}

/* Planes that the counted bytes are, each whole though its page isn't full; all kinds of layers see
 * all tokens. */
static double n_counted(const struct bb_engine *e, uint64_t kv_bytes, struct bb_context **c,
	int n) {
	double pages = 0;
	const size_t page_bytes = c[0]->tables[0].pool->page_bytes;
	for (int i = 0; i < n; i++) {
		const int left = bb_context_length(c[i]) % BB_PAGE;
		pages += left > 0 ? 1 - (double)left / BB_PAGE : 0;
	}
	pages += (double)kv_bytes / (double)page_bytes;
	return pages * 2 * e->plan.n_layers * hparam_int(&e->plan.hp, H_KV_HEADS);
}

static void check_reads(const char *model, attention_fn *fn) {
	struct bb_engine *e = open_counted(model, fn);
	struct bb_context *c[N_ALL] = { NULL }, *prompt;
	struct bb_step_item items[N_ALL];
	struct bb_engine_stats before, after;
	struct bb_error err = { 0 };
	int32_t ids[N_ALL + N_PIECE];
	make_contexts(e, c, &prompt);
	make_ids(ids, N_ALL + N_PIECE, vocab_of(e), 40);
	for (int turn = 0; turn < 3; turn++) {
		for (int i = 0; i < N_ALL; i++) {
			struct bb_context *context = c[(i * 7 + turn) % N_ALL];
			items[i] = (struct bb_step_item){ .context = context, .tokens = ids + i,
				.n_tokens = context == c[N_ALL - 1] ? N_PIECE : 1 };
		}
		bb_engine_stats(e, &before);
		forget_reads();
		cr_assert(bb_step(e, items, N_ALL, &err), "%s", err.text);
		bb_engine_stats(e, &after);
		cr_assert_eq(e->batch.n_shared_rows, N_FORKS + N_COUSINS);
		cr_assert_float_eq(n_counted(e, after.kv_bytes - before.kv_bytes, c, N_ALL), reads.n, 0.01,
			"%s, turn %d: %d planes are read, %.2f are counted", model, turn, reads.n,
			n_counted(e, after.kv_bytes - before.kv_bytes, c, N_ALL));
		/* of the prompt each plane of a whole page once, but for those that cousins have, too */
		for (int page = 0; page < N_BEGUN / BB_PAGE; page++) {
			const uint8_t *at = kv_page(&prompt->tables[0], page);
			const int n_kv_heads = hparam_int(&e->plan.hp, H_KV_HEADS);
			for (int i = 0; i < e->plan.n_layers * n_kv_heads; i++) {
				const int n = n_reads(at + e->batch.on_host.kv_heads[i].slab_offset);
				cr_assert_eq(n, page < 256 / BB_PAGE ? 2 : 1, "%s, turn %d: page %d is read %d "
					"times", model, turn, page, n);
			}
		}
	}
	for (int i = 0; i < N_ALL; i++) {
		bb_context_destroy(c[i]);
	}
	bb_context_destroy(prompt);
	bb_engine_destroy(e);
}

Test(cost, counts_the_planes_that_the_walk_reads) {
	check_reads("llama", attention_counted);
	check_reads("llama", attention_direct);
	check_reads("qwen2", attention_counted);
}

/* ---- forks ---- */

static uint64_t copied(const struct bb_engine *e) {
	struct bb_engine_stats stats;
	bb_engine_stats(e, &stats);
	return stats.copied_bytes;
}

/* 16 forks of n tokens go on, and are dropped: which bytes are copied. */
static void check_copies(struct bb_engine *e, int n, int n_copies) {
	enum { N = 16 };
	struct bb_context *base = new_context(e), *forks[N];
	struct bb_step_item items[N];
	struct bb_error err = { 0 };
	const int32_t id = 5;
	append_made(base, e, n, 1);
	const uint64_t before = copied(e);
	for (int i = 0; i < N; i++) {
		forks[i] = fork_of(base);
		items[i] = (struct bb_step_item){ .context = forks[i], .tokens = &id, .n_tokens = 1 };
	}
	cr_assert_eq(copied(e), before, "a fork has copied");
	cr_assert(bb_step(e, items, N, &err), "%s", err.text);
	size_t page_bytes = 0;
	for (int i = 0; i < e->plan.n_paged; i++) {
		page_bytes += base->tables[i].pool->page_bytes;
	}
	cr_assert_eq(copied(e) - before, (uint64_t)n_copies * page_bytes);
	cr_assert(bb_step(e, items, N, &err), "%s", err.text);
	for (int i = 0; i < N; i++) {
		bb_context_destroy(forks[i]);
	}
	bb_context_destroy(base);
	cr_assert_eq(copied(e) - before, (uint64_t)n_copies * page_bytes);
}

Test(cost, forks_and_drops_copy_nothing_but_a_partly_filled_page) {
	static const char *const models[] = { "llama", "gemma3", "falcon-h1" };
	for (size_t i = 0; i < COUNT(models); i++) {
		struct bb_engine *e = open_with(&(struct bb_engine_params){ .path = tiny_path(models[i]),
			.n_threads = 1, .max_model_len = 4096 });
		check_copies(e, 5 * BB_PAGE, 0);
		check_copies(e, 5 * BB_PAGE + 1, 16);
		check_copies(e, 6 * BB_PAGE - 1, 16);
		bb_engine_destroy(e);
	}
}

/* ---- operations ---- */

/* Of tokens [first, first + n), the last one's logits wanted, of a decoder with gated feed-forward,
 * token by token. */
static double decoder_flops(const struct bb_engine *e, int first, int n) {
	const struct bb_hparams *hp = &e->plan.hp;
	const double embd = hp->v[H_EMBD], q = hp->v[H_HEADS] * hp->v[H_HEAD],
		kv = hp->v[H_KV_HEADS] * hp->v[H_HEAD];
	const double weights = embd * (2 * q + 2 * kv + 3 * hp->v[H_FF]);
	double flops = 2 * embd * hp->v[H_VOCAB];
	for (int t = first; t < first + n; t++) {
		for (int i = 0; i < e->plan.n_layers; i++) {
			const int window = e->plan.kinds[e->plan.layer_kind[i]].window;
			const int seen = window > 0 && window < t + 1 ? window : t + 1;
			flops += 2 * weights + 4 * q * seen;
		}
	}
	return flops;
}

static struct bb_engine *open_tiny(const char *name) {
	return open_with(&(struct bb_engine_params){ .path = tiny_path(name), .n_threads = 1 });
}

Test(cost, operations_of_attention_and_products) {
	static const char *const models[] = { "llama", "qwen2", "gemma3", "llama-window",
		"llama-quantised" };
	for (size_t i = 0; i < COUNT(models); i++) {
		struct bb_engine *e = open_tiny(models[i]);
		for (int first = 0; first < 40; first++) {
			for (int n = 1; n < 40; n += 3) {
				const double want = decoder_flops(e, first, n);
				cr_assert_float_eq(bb_engine_flops(e, first, n), want, 1e-9 * want,
					"%s: %d tokens from %d on", models[i], n, first);
			}
		}
		cr_assert_eq(bb_engine_flops(e, 7, 0), 0);
		bb_engine_destroy(e);
	}
}

/* By the numbers of each model's file, but for the head's. */
Test(cost, operations_of_scans_and_experts) {
	struct bb_engine *e = open_tiny("mamba");
	const double *v = e->plan.hp.v;
	const double inner = v[H_SSM_INNER], state = v[H_SSM_STATE], rank = v[H_SSM_DT_RANK];
	double want = v[H_LAYERS] * (2 * v[H_EMBD] * 2 * inner + 2 * inner * v[H_SSM_CONV] +
		2 * inner * (rank + 2 * state) + 2 * rank * inner + 6 * inner * state +
		2 * inner * v[H_EMBD]);
	cr_assert_float_eq(cost_flops(e, 1000, 3, 0), 3 * want, 1);
	bb_engine_destroy(e);

	e = open_tiny("granitehybrid");
	double expert = 0; /* of one more for every row, in all layers */
	for (int i = 0; i < e->plan.n_matrices; i++) {
		const struct plan_matrix *m = &e->plan.matrices[i];
		expert += m->n_stack > 0 ? 2.0 * m->n * m->k : 0;
	}
	const double before = e->cost.row_flops;
	e->plan.hp.v[H_EXPERTS_USED]++;
	cost_init(&e->cost, &e->plan);
	cr_assert_gt(expert, 0);
	cr_assert_float_eq(e->cost.row_flops - before, expert, 1);
	bb_engine_destroy(e);
}

/* ---- requests ---- */

static double run_beside(struct bb_scheduler *s, struct bb_engine *e, const int32_t *ids,
	struct outcome *o) {
	struct bb_request_params p = request(e, ids, 300, 20, 1);
	p.generation.sampling.ignore_eos = true;
	p.n = 3;
	submit(s, p, &o[0]);
	p = request(e, ids + 300, 40, 30, 2);
	p.generation.sampling.ignore_eos = true;
	submit(s, p, &o[1]);
	run_all(s);
	return o[0].usage.flops + o[1].usage.flops;
}

static double alone_flops(const struct bb_engine *e, int n_prompt, int n_output, int n) {
	const double head = 2 * e->plan.hp.v[H_EMBD] * e->plan.hp.v[H_VOCAB];
	return cost_flops(e, 0, n_prompt - 1, 0) +
		n * (cost_flops(e, n_prompt - 1, n_output, 0) + n_output * head);
}

Test(cost, requests_are_told_what_they_took) {
	struct bb_engine *e = open_with(&(struct bb_engine_params){ .path = tiny_path("llama"),
		.n_threads = 1, .max_batch_tokens = 64 });
	const struct bb_scheduler_params params = { .clock = stopped_clock, .no_prefix_cache = true };
	struct bb_scheduler *s = new_scheduler(e, &params);
	struct bb_scheduler_stats stats;
	struct bb_engine_stats engine_stats;
	struct outcome o[2] = { 0 };
	int32_t ids[340];
	make_ids(ids, 340, vocab_of(e), 3);
	const double sum = run_beside(s, e, ids, o);
	bb_scheduler_stats(s, &stats);
	bb_engine_stats(e, &engine_stats);
	cr_assert_float_eq(o[0].usage.flops, alone_flops(e, 300, 20, 3), 1);
	cr_assert_float_eq(o[1].usage.flops, alone_flops(e, 40, 30, 1), 1);
	cr_assert_float_eq(stats.flops, sum, 1);
	cr_assert_float_eq(engine_stats.flops, sum, 1);
	bb_request_release(o[0].request);
	bb_request_release(o[1].request);
	bb_scheduler_destroy(s);
	bb_engine_destroy(e);
}

/* Branches are read together in every step, be another's prompt read beside them, and after some of
 * them have ended. */
Test(cost, branches_are_read_together_beside_other_requests) {
	enum { N = 4 };
	struct bb_engine *e = open_with(&(struct bb_engine_params){ .path = tiny_path("llama"),
		.n_threads = 1, .max_batch_tokens = 64, .max_model_len = 2048 });
	const struct bb_scheduler_params params = { .clock = stopped_clock };
	struct bb_scheduler *s = new_scheduler(e, &params);
	struct outcome o[2] = { 0 };
	int32_t ids[400];
	make_ids(ids, 400, vocab_of(e), 4);
	struct bb_request_params p = request(e, ids, 390, 40, 1);
	p.generation.sampling.temperature = 1;
	p.n = N; /* each until an end token, or 40 */
	submit(s, p, &o[0]);
	int n_together = 0, n_mixed = 0;
	bool has_other = false;
	for (bool idle = false; !idle;) {
		step(s, &idle);
		int n_live = 0;
		for (int i = 0; i < N; i++) {
			n_live += o[0].n_ids[i] > 1 && o[0].finish[i] == BB_FINISH_NONE;
		}
		if (n_live >= 2 && !has_other) {
			make_ids(ids, 400, vocab_of(e), 5);
			struct bb_request_params other = request(e, ids, 400, 5, 2);
			submit(s, other, &o[1]);
			has_other = true;
		} else if (n_live >= 2) {
			cr_assert_eq(e->batch.n_shares, 1);
			cr_assert_geq(e->batch.n_shared_rows, n_live);
			n_together++;
			n_mixed += e->batch.n_rows > e->batch.n_seqs;
		}
	}
	cr_assert(n_together > 8 && n_mixed > 2, "%d steps, %d beside a prompt", n_together, n_mixed);
	bb_request_release(o[0].request);
	bb_request_release(o[1].request);
	bb_scheduler_destroy(s);
	bb_engine_destroy(e);
}
