/* SPDX-License-Identifier: Apache-2.0
 *
 * Checks of what pages and tokens are ranked by: bounds of pages, bit for bit; what a page can give
 * a query; norms. Slots outside the runs hold NaNs, and a run by itself has the bits that it has
 * among others. */
#include "check_pages.h"

#include <math.h>
#include <string.h>

static const char *const type_names[] = { "f32", "f16", "bf16", "int8" };

/* One channel of one token that nothing may hide. */
static void damage(struct values *v) {
	const struct pages_shape *s = v->shape;
	v->k[values_at(v, 0, s->n_tokens[0] / 2, s->n_kv_heads - 1) + (size_t)s->head_dim / 3] = -NAN;
}

/* Bounds of one head of one page in a copy of the pages. */
static void bound_page(const struct pages *p, uint8_t *bytes, int i_seq, int i_page, int n_slots,
	int h) {
	const int width = (p->a.head_dim + 15) / 16 * 16;
	uint8_t *page = pages_slab(p, bytes, i_seq, i_page * BB_PAGE, h) - p->offsets[h];
	float *bounds = (float *)(void *)(page + p->bounds[h]), k[512];
	memset(bounds, 0, kv_bounds_bytes(p->a.head_dim));
	for (int slot = 0; slot < n_slots; slot++) {
		pages_read(p, i_seq, i_page * BB_PAGE + slot, h, k, NULL);
		for (int d = 0; d < p->a.head_dim; d++) {
			float *least = &bounds[d], *largest = &bounds[width + d];
			if (slot == 0) {
				*least = *largest = k[d];
			}
			const bool is_damaged = isnan(*least) || isnan(k[d]);
			*least = is_damaged ? NAN : fminf(*least, k[d]) + 0.0f;
			*largest = is_damaged ? NAN : fmaxf(*largest, k[d]) + 0.0f;
		}
	}
}

/* Those of every page that holds a token of a run. */
static void bound_pages(const struct pages *p, uint8_t *bytes) {
	for (int unit = 0; unit < p->a.n_seqs * p->a.n_kv_heads; unit++) {
		const int i_seq = unit / p->a.n_kv_heads, h = unit % p->a.n_kv_heads;
		const struct bb_kv_run *run = &p->runs[i_seq * p->a.n_groups + h % p->a.n_groups];
		const int end = run->kept.n_before + run->n_tokens;
		for (int i = run->kept.n_before / BB_PAGE; run->n_tokens > 0 && i * BB_PAGE < end; i++) {
			const int rest = end - i * BB_PAGE;
			bound_page(p, bytes, i_seq, i, rest < BB_PAGE ? rest : BB_PAGE, h);
		}
	}
}

struct bounding {
	struct pages p;
	uint8_t *want; /* [p.n_bytes] */
};

static void check_bounds(struct check *c, kv_bounds_fn *fn, const struct pages_shape *shape,
	enum bb_kv_dtype type) {
	const bool is_bench = check_is_bench(c);
	const struct bb_kv_layout *layouts[MAX_PAGES_LAYOUTS];
	const int n_plays = check_kv_layouts(c, type, layouts);
	struct values *v = check_scratch(c, sizeof(*v), 8);
	struct bounding *plays = check_scratch(c, (size_t)n_plays * sizeof(*plays), 8);
	int rooms[MAX_PAGES_SEQS * 2];
	const int most = pages_capacity(shape, rooms, shape->n_groups);
	values_draw(c, v, shape);
	if (!is_bench && check_rand(c, 0, 1) == 0) {
		damage(v);
	}
	double bytes = 0;
	for (int i = 0; i < n_plays; i++) {
		struct bounding *b = &plays[i];
		pages_make(c, &b->p, shape, shape->n_groups, rooms, type, layouts[i]);
		pages_fill(c, &b->p, v);
		b->want = check_scratch(c, is_bench ? 0 : b->p.n_bytes, 64);
		if (!is_bench) {
			memcpy(b->want, b->p.bytes, b->p.n_bytes);
			bound_pages(&b->p, b->want);
		}
		bytes = (double)b->p.n_bytes / (double)b->p.page_bytes * shape->n_kv_heads
			* ((double)b->p.slab_bytes / 2 + (double)kv_bounds_bytes(shape->head_dim));
	}
	while (check_next(c, bytes, "%s heads=%d/%d dim=%d group=%d tokens=%d", type_names[type],
		shape->n_kv_heads, shape->n_groups, shape->head_dim, shape->group, most)) {
		for (int i = 0; i < n_plays; i++) {
			fn(check_queue(c), &plays[i].p.a, plays[i].p.bounds);
		}
		for (int i = 0; i < n_plays && !is_bench; i++) {
			check_same(c, layouts[i]->name, plays[i].p.bytes, plays[i].want, plays[i].p.n_bytes);
		}
	}
}

CHECK(kv_bounds) {
	for (int i = 0; i < check_pages_shapes(c); i++) {
		const struct pages_shape shape = check_pages_shape(c, i);
		for (int type = KV_F32; type <= KV_INT8; type++) {
			check_bounds(c, fn, &shape, (enum bb_kv_dtype)type);
		}
	}
}

/* ---- kv_score ---- */

/* No token's q . k is above the score of its page, and a page of one token has just that one. */
static void check_is_bound(struct check *c, const struct pages *p, const struct bb_kv_query *s,
	int unit) {
	const int i_seq = unit / p->a.n_kv_heads, h = unit % p->a.n_kv_heads;
	const int per_kv = s->n_heads / p->a.n_kv_heads, head_dim = p->a.head_dim;
	const struct bb_kv_run *run = &p->runs[i_seq * p->a.n_groups + h % p->a.n_groups];
	const int row = s->rows != NULL ? s->rows[i_seq] : i_seq;
	const int end = run->kept.n_before + run->n_tokens;
	float k[512];
	for (int t = run->kept.n_before / BB_PAGE * BB_PAGE; run->n_tokens > 0 && t < end; t++) {
		const float score = s->scores[(size_t)unit * (size_t)s->ld_scores + (size_t)t / BB_PAGE];
		pages_read(p, i_seq, t, h, k, NULL);
		double most = -INFINITY;
		for (int j = h * per_kv; j < (h + 1) * per_kv; j++) {
			const float *q = s->queries + (size_t)row * (size_t)s->ld_q + (size_t)(j * head_dim);
			double dot = 0;
			for (int d = 0; d < head_dim; d++) {
				dot += (double)q[d] * k[d];
			}
			most = isnan(dot) ? INFINITY : dot > most ? dot : most;
		}
		const bool is_only = t % BB_PAGE == 0 && t + 1 == end;
		if (!(score >= most - 1e-4) || (is_only && !(score <= most + 1e-4))) {
			check_fail(c, "page %d of sequence %d, kv head %d scores %.9g, token %d has %.9g",
				t / BB_PAGE, i_seq, h, (double)score, t, most);
			return;
		}
	}
}

static void score_alone(struct check *c, kv_score_fn *fn, const struct bb_kv_query *s,
	const struct pages *p, int i_seq, float *scores) {
	const struct bb_kv_runs a = pages_alone(p, i_seq);
	struct bb_kv_query one = *s;
	const size_t n = (size_t)a.n_kv_heads * (size_t)s->ld_scores;
	/* with what isn't written */
	memcpy(scores, s->scores + (size_t)i_seq * n, n * sizeof(*scores));
	one.scores = scores;
	one.queries += (size_t)(s->rows != NULL ? s->rows[i_seq] : i_seq) * (size_t)s->ld_q;
	one.rows = NULL;
	fn(check_queue(c), &one, &a, p->bounds);
	check_same(c, "a sequence alone", scores, s->scores + (size_t)i_seq * n, n * sizeof(*scores));
}

static void check_score(struct check *c, kv_score_fn *fn, const struct pages_shape *shape,
	bool is_damaged) {
	const bool is_bench = check_is_bench(c);
	struct values *v = check_scratch(c, sizeof(*v), 8);
	struct pages *p = check_scratch(c, sizeof(*p), 8);
	int rooms[MAX_PAGES_SEQS * 2];
	const int most = pages_capacity(shape, rooms, shape->n_groups);
	values_draw(c, v, shape);
	if (is_damaged) {
		damage(v);
	}
	pages_make(c, p, shape, shape->n_groups, rooms, KV_F16, check_kv_layout(c));
	pages_fill(c, p, v);
	if (!is_bench) {
		bound_pages(p, p->bytes);
	}
	const int n_heads = shape->n_kv_heads * (is_bench ? 4 : check_rand(c, 1, 5));
	const int ld_scores = (most + BB_PAGE - 1) / BB_PAGE + 3;
	const int ld_q = n_heads * shape->head_dim + (is_bench ? 0 : check_rand(c, 0, 2));
	int32_t *rows = check_in_bytes(c, (size_t)shape->n_seqs * sizeof(*rows), 4);
	for (int i = 0; i < shape->n_seqs; i++) {
		rows[i] = shape->n_seqs - 1 - i;
	}
	const size_t n_scores = (size_t)(shape->n_seqs * shape->n_kv_heads * ld_scores);
	const struct bb_kv_query s = {
		.scores = check_out(c, "scores", n_scores, (struct tol){ 1e-5f, 1e-4f }),
		.queries = check_in(c, (size_t)shape->n_seqs * (size_t)ld_q),
		.rows = !is_bench && check_rand(c, 0, 1) == 0 ? rows : NULL,
		.ld_scores = ld_scores, .ld_q = ld_q, .n_heads = n_heads,
	};
	float *alone = check_scratch(c, n_scores * sizeof(*alone), 4);
	const double bytes = (double)(shape->n_seqs * shape->n_kv_heads) * most / BB_PAGE
		* (double)kv_bounds_bytes(shape->head_dim);
	while (check_next(c, bytes, "heads=%d/%d dim=%d seqs=%d tokens=%d%s", n_heads,
		shape->n_kv_heads, shape->head_dim, shape->n_seqs, most, is_damaged ? " damaged" : "")) {
		fn(check_queue(c), &s, &p->a, p->bounds);
		check_wait(c);
		for (int i = 0; i < shape->n_seqs * shape->n_kv_heads && !is_bench; i++) {
			check_is_bound(c, p, &s, i);
		}
		for (int i = 0; i < shape->n_seqs && !is_bench; i++) {
			score_alone(c, fn, &s, p, i, alone);
		}
	}
}

CHECK(kv_score) {
	for (int i = 0; i < check_pages_shapes(c); i++) {
		const struct pages_shape shape = check_pages_shape(c, i);
		check_score(c, fn, &shape, false);
		if (i == 1 || i == 2) {
			check_score(c, fn, &shape, true);
		}
	}
}

/* ---- kv_norms ---- */

/* Norms of all tokens of the runs, found another way. */
static void check_are_norms(struct check *c, const struct pages *p, int ld, const float *k_norms,
	const float *v_norms) {
	float x[2][512];
	for (int i = 0; i < p->a.n_seqs * p->a.n_kv_heads; i++) {
		const int i_seq = i / p->a.n_kv_heads, h = i % p->a.n_kv_heads;
		const struct bb_kv_run *run = &p->runs[i_seq * p->a.n_groups + h % p->a.n_groups];
		for (int t = 0; t < run->n_tokens; t++) {
			const size_t at = (size_t)h * (size_t)ld + (size_t)(run->row0 + t);
			double norms[2] = { 0, 0 };
			pages_read(p, i_seq, run->kept.n_before + t, h, x[0], x[1]);
			for (int d = 0; d < 2 * p->a.head_dim; d++) {
				norms[d % 2] = hypot(norms[d % 2], (double)x[d % 2][d / 2]);
			}
			for (int j = 0; j < 2; j++) {
				const float *got = j == 0 ? k_norms : v_norms;
				const double want = isnan(norms[j]) ? INFINITY : norms[j];
				if (got != NULL && !(fabs(got[at] - want) <= 1e-5 * want || got[at] == want)) {
					check_fail(c, "%c of token %d of sequence %d, kv head %d: norm %.9g, want %.9g",
						"KV"[j], t, i_seq, h, (double)got[at], want);
					return;
				}
			}
		}
	}
}

static void norms_alone(struct check *c, kv_norms_fn *fn, const struct pages *p, int ld,
	float *alone, const float *k_norms, const float *v_norms, int i_seq) {
	const struct bb_kv_runs a = pages_alone(p, i_seq);
	const size_t n = (size_t)a.n_kv_heads * (size_t)ld;
	float *k = alone, *v = alone + n;
	fn(check_queue(c), k_norms != NULL ? k : NULL, v_norms != NULL ? v : NULL, ld, &a);
	check_wait(c);
	for (int h = 0; h < a.n_kv_heads; h++) {
		const struct bb_kv_run *run = &a.runs[a.kv_heads[h].i_group];
		const size_t at = (size_t)h * (size_t)ld + (size_t)run->row0;
		const size_t bytes = (size_t)run->n_tokens * sizeof(float);
		if (k_norms != NULL) {
			check_same(c, "norms of K, a sequence alone", k + at, k_norms + at, bytes);
		}
		if (v_norms != NULL) {
			check_same(c, "norms of V, a sequence alone", v + at, v_norms + at, bytes);
		}
	}
}

static void check_norms(struct check *c, kv_norms_fn *fn, const struct pages_shape *shape,
	enum bb_kv_dtype type, int which) {
	const bool is_bench = check_is_bench(c);
	const struct bb_kv_layout *layouts[MAX_PAGES_LAYOUTS];
	const int n_plays = check_kv_layouts(c, type, layouts);
	struct values *v = check_scratch(c, sizeof(*v), 8);
	struct pages *plays = check_scratch(c, (size_t)n_plays * sizeof(*plays), 8);
	int rooms[MAX_PAGES_SEQS * 2], ld = is_bench ? 0 : 3;
	pages_capacity(shape, rooms, shape->n_groups);
	for (int i = 0; i < shape->n_seqs; i++) {
		ld += shape->n_tokens[i % 4];
	}
	values_draw(c, v, shape);
	if (!is_bench && which == 0) {
		damage(v);
	}
	for (int i = 0; i < n_plays; i++) {
		pages_make(c, &plays[i], shape, shape->n_groups, rooms, type, layouts[i]);
		pages_fill(c, &plays[i], v);
	}
	const size_t n = (size_t)(shape->n_kv_heads * ld);
	const struct tol tol = { 1e-6f, 0 };
	float *k = which != 1 ? check_out(c, "norms of K", n, tol) : NULL;
	float *x = which != 2 ? check_out(c, "norms of V", n, tol) : NULL;
	float *others = check_scratch(c, 2 * n * sizeof(*others), 4);
	const double bytes = (double)ld * shape->n_kv_heads * (double)plays[0].slab_bytes / BB_PAGE;
	while (check_next(c, bytes, "%s heads=%d/%d dim=%d group=%d tokens=%d which=%d",
		type_names[type], shape->n_kv_heads, shape->n_groups, shape->head_dim, shape->group, ld,
		which)) {
		fn(check_queue(c), k, x, ld, &plays[0].a);
		check_wait(c);
		if (!is_bench) {
			check_are_norms(c, &plays[0], ld, k, x);
		}
		for (int i = 0; i < shape->n_seqs && !is_bench; i++) {
			norms_alone(c, fn, &plays[0], ld, others, k, x, i);
		}
		for (int i = 1; i < n_plays; i++) { /* every layout stores the same values */
			for (int seq = 0; seq < shape->n_seqs; seq++) {
				norms_alone(c, fn, &plays[i], ld, others, k, x, seq);
			}
		}
	}
}

CHECK(kv_norms) {
	for (int i = 0; i < check_pages_shapes(c); i++) {
		const struct pages_shape shape = check_pages_shape(c, i);
		for (int type = KV_F32; type <= KV_INT8; type++) {
			const int which = check_is_bench(c) ? 0 : (i + type) % 3;
			check_norms(c, fn, &shape, (enum bb_kv_dtype)type, which);
		}
	}
}
