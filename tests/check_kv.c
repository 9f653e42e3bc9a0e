/* SPDX-License-Identifier: Apache-2.0
 *
 * Checks of what is done to pages: copying, rewriting as another KV type, gathering kept tokens,
 * turning K. Whole pages are compared with what layout->append makes of the same values, bit for
 * bit, so that slots which aren't meant, scales and padding are seen too. */
#include "check_pages.h"

#include <math.h>
#include <string.h>

static const char *const type_names[] = { "f32", "f16", "bf16", "int8" };

CHECK(kv_copy) {
	const bool is_bench = check_is_bench(c);
	for (int i = 0; i < (is_bench ? 2 : 12); i++) {
		const bool is_pages = i % 2 != 0; /* of all layers, or slabs */
		const size_t bytes = is_bench ? (size_t)check_shrunk(c, is_pages ? 1 << 20 : 32768)
			: i == 3 ? 65536 : 16 * (size_t)check_rand(c, 0, i < 6 ? 20 : 3000);
		const int n = is_bench ? (is_pages ? 32 : 256) : check_rand(c, 0, 7), gap = 16;
		const size_t stride = bytes + gap;
		const uint8_t *in = check_in_bytes(c, (size_t)n * stride, 64);
		uint8_t *out = check_out_bytes(c, "pages", (size_t)n * stride, 64);
		void **to = check_scratch(c, (size_t)n * sizeof(*to), 8);
		void **from = check_scratch(c, (size_t)n * sizeof(*from), 8);
		for (int j = 0; j < n; j++) {
			to[j] = out + (size_t)j * stride;
			from[j] = (void *)(uintptr_t)(in + (size_t)(n - 1 - j / 2) * stride); /* some twice */
		}
		while (check_next(c, 2.0 * n * (double)bytes, "pages=%d bytes=%zu", n, bytes)) {
			fn(check_queue(c), to, from, n, bytes);
			for (int j = 0; j < n && !is_bench; j++) {
				check_same(c, "a page", to[j], from[j], bytes);
			}
		}
	}
}

/* ---- kv_quantise ---- */

/* One play over one pair of layouts. */
struct rewrite {
	struct bb_kv_quantise a;
	struct pages to, from;
	uint8_t *want; /* [to.n_bytes] */
	struct bb_kv_slab *slabs;
};

/* A slab per sequence and kv head, of whose 64 slots n_tokens hold something. */
static void make_rewrite(struct check *c, struct rewrite *r, const struct values *v,
	enum bb_kv_dtype from, enum bb_kv_dtype to, const struct bb_kv_layout *from_layout,
	const struct bb_kv_layout *to_layout) {
	const struct pages_shape *s = v->shape;
	int rooms[MAX_PAGES_SEQS];
	const int n_tokens = pages_capacity(s, rooms, 1);
	const int per_seq = (n_tokens + BB_PAGE - 1) / BB_PAGE;
	pages_make(c, &r->to, s, 1, rooms, to, to_layout);
	pages_make(c, &r->from, s, 1, rooms, from, from_layout);
	r->slabs = check_scratch(c, sizeof(*r->slabs) * (size_t)(s->n_seqs * s->n_kv_heads * per_seq),
		8);
	int n = 0;
	for (int i = 0; i < s->n_seqs * s->n_kv_heads; i++) {
		const int i_seq = i / s->n_kv_heads, h = i % s->n_kv_heads;
		for (int t = 0; t < rooms[i_seq]; t += BB_PAGE) {
			const int rest = rooms[i_seq] - t;
			r->slabs[n++] = (struct bb_kv_slab){ pages_slab(&r->to, r->to.bytes, i_seq, t, h),
				pages_slab(&r->from, r->from.bytes, i_seq, t, h), rest < BB_PAGE ? rest : BB_PAGE };
		}
		for (int t = 0; t < rooms[i_seq] && !check_is_bench(c); t++) {
			const size_t at = values_at(v, i_seq, t, h);
			pages_store(&r->from, r->from.bytes, i_seq, t, h, v->k + at, v->v + at);
		}
	}
	r->a = (struct bb_kv_quantise){ r->slabs, n, s->head_dim, s->group, to, from, to_layout,
		from_layout };
	const size_t n_want = check_is_bench(c) ? 0 : r->to.n_bytes;
	r->want = check_scratch(c, n_want, 64);
	memset(r->want, 0xff, n_want);
	float k[512], x[512];
	for (int i = 0; i < s->n_seqs * s->n_kv_heads && !check_is_bench(c); i++) {
		for (int t = 0; t < rooms[i / s->n_kv_heads]; t++) {
			pages_read(&r->from, i / s->n_kv_heads, t, i % s->n_kv_heads, k, x);
			pages_store(&r->to, r->want, i / s->n_kv_heads, t, i % s->n_kv_heads, k, x);
		}
	}
}

static void check_quantise(struct check *c, kv_quantise_fn *fn, const struct pages_shape *shape,
	enum bb_kv_dtype from, enum bb_kv_dtype to) {
	const struct bb_kv_layout *from_layouts[MAX_PAGES_LAYOUTS], *to_layouts[MAX_PAGES_LAYOUTS];
	const int n_from = check_kv_layouts(c, from, from_layouts);
	const int n_to = check_kv_layouts(c, to, to_layouts), n_plays = n_from > n_to ? n_from : n_to;
	struct values *v = check_scratch(c, sizeof(*v), 8);
	struct rewrite *plays = check_scratch(c, (size_t)n_plays * sizeof(*plays), 8);
	struct pages_shape few = *shape; /* pages, not chunks of them */
	few.n_tokens[0] = few.n_tokens[0] > 300 && !check_is_bench(c) ? 150 : few.n_tokens[0];
	values_draw(c, v, &few);
	for (int i = 0; i < n_plays; i++) {
		make_rewrite(c, &plays[i], v, from, to, from_layouts[i % n_from], to_layouts[i % n_to]);
	}
	const int n_slabs = plays[0].a.n_slabs;
	const double bytes = (double)n_slabs * (double)(plays[0].to.slab_bytes
		+ plays[0].from.slab_bytes);
	while (check_next(c, bytes, "%s to %s heads=%d dim=%d group=%d slabs=%d", type_names[from],
		type_names[to], few.n_kv_heads, few.head_dim, few.group, n_slabs)) {
		for (int i = 0; i < n_plays; i++) {
			fn(check_queue(c), &plays[i].a);
		}
		for (int i = 0; i < n_plays && !check_is_bench(c); i++) {
			check_same(c, plays[i].to.a.layout->name, plays[i].to.bytes, plays[i].want,
				plays[i].to.n_bytes);
		}
	}
}

CHECK(kv_quantise) {
	for (int i = 0; i < check_pages_shapes(c); i++) {
		const struct pages_shape shape = check_pages_shape(c, i);
		for (int pair = 0; pair < 12; pair++) {
			const enum bb_kv_dtype from = (enum bb_kv_dtype)(pair / 4);
			const enum bb_kv_dtype to = (enum bb_kv_dtype)(pair % 4);
			/* the first shapes every pair, the others what engines do */
			if (from != to && (to == KV_INT8 || (i < 3 && !check_is_bench(c)))) {
				check_quantise(c, fn, &shape, from, to);
			}
		}
	}
}

/* ---- kv_compact ---- */

struct gathering {
	struct pages to, from;
	struct bb_kv_source *sources; /* [n_seqs, n_groups] of `to` */
	uint8_t *want;                /* [to.n_bytes] */
};

/* What is kept, the same over every layout. */
struct keeping {
	struct values v;
	int before[MAX_PAGES_SEQS * 2], n[MAX_PAGES_SEQS * 2], room[MAX_PAGES_SEQS * 2];
	int32_t *tokens[MAX_PAGES_SEQS * 2]; /* NULL: all from the first on */
};

/* About half the tokens, or all of the first half; run 3 keeps none. */
static void draw_keeping(struct check *c, struct keeping *k, const struct pages_shape *shape) {
	const bool is_bench = check_is_bench(c);
	values_draw(c, &k->v, shape);
	for (int i = 0; i < shape->n_seqs * shape->n_groups; i++) {
		const int n_tokens = shape->n_tokens[i / shape->n_groups % 4];
		/* the longest run begins in a page's last slot, and so needs most pages */
		k->before[i] = is_bench ? 0 : i == 0 ? BB_PAGE - 1 : check_rand(c, 0, 70);
		k->tokens[i] = NULL;
		k->n[i] = n_tokens / 2;
		if (i % 4 != 2) {
			k->tokens[i] = check_in_bytes(c, (size_t)n_tokens * sizeof(int32_t), 4);
			k->n[i] = 0;
			for (int t = 0; t < n_tokens && i != 3; t++) {
				k->tokens[i][k->n[i]] = t;
				k->n[i] += is_bench ? t % 2 : check_rand(c, 0, 99) < (t / 64 % 3 == 1 ? 90 : 40);
			}
		}
		k->room[i] = k->before[i] + k->n[i];
	}
}

/* All kv heads are of one group before. */
static void make_gathering(struct check *c, struct gathering *g, const struct keeping *k,
	enum bb_kv_dtype type, const struct bb_kv_layout *layout) {
	const struct pages_shape *s = k->v.shape;
	int rooms[MAX_PAGES_SEQS];
	pages_capacity(s, rooms, 1);
	pages_make(c, &g->from, s, 1, rooms, type, layout);
	pages_make(c, &g->to, s, s->n_groups, k->room, type, layout);
	g->sources = check_scratch(c, (size_t)(s->n_seqs * s->n_groups) * sizeof(*g->sources), 8);
	const size_t n_want = check_is_bench(c) ? 0 : g->to.n_bytes;
	g->want = check_scratch(c, n_want, 64);
	memset(g->want, 0xff, n_want);
	g->to.a.max_tokens = 0;
	for (int i = 0; i < s->n_seqs * s->n_groups; i++) {
		g->sources[i] = (struct bb_kv_source){ g->from.runs[i / s->n_groups].kept.chunks,
			k->tokens[i] };
		g->to.runs[i].kept.n_before = k->before[i];
		g->to.runs[i].n_tokens = k->n[i];
		g->to.a.max_tokens = k->n[i] > g->to.a.max_tokens ? k->n[i] : g->to.a.max_tokens;
	}
	for (int i = 0; i < s->n_seqs * s->n_kv_heads && !check_is_bench(c); i++) {
		const int i_seq = i / s->n_kv_heads, h = i % s->n_kv_heads;
		const int run = i_seq * s->n_groups + h % s->n_groups;
		for (int t = 0; t < rooms[i_seq]; t++) {
			const size_t at = values_at(&k->v, i_seq, t, h);
			pages_store(&g->from, g->from.bytes, i_seq, t, h, k->v.k + at, k->v.v + at);
		}
		for (int t = 0; t < k->n[run]; t++) {
			const size_t at = values_at(&k->v, i_seq, k->tokens[run] ? k->tokens[run][t] : t, h);
			pages_store(&g->to, g->want, i_seq, k->before[run] + t, h, k->v.k + at, k->v.v + at);
		}
	}
}

static void check_compact(struct check *c, kv_compact_fn *fn, const struct pages_shape *shape,
	enum bb_kv_dtype type) {
	const struct bb_kv_layout *layouts[MAX_PAGES_LAYOUTS];
	const int n_plays = check_kv_layouts(c, type, layouts);
	struct keeping *k = check_scratch(c, sizeof(*k), 8);
	struct gathering *plays = check_scratch(c, (size_t)n_plays * sizeof(*plays), 8);
	draw_keeping(c, k, shape);
	double n_kept = 0;
	for (int i = 0; i < shape->n_seqs * shape->n_groups; i++) {
		n_kept += k->n[i];
	}
	for (int i = 0; i < n_plays; i++) {
		make_gathering(c, &plays[i], k, type, layouts[i]);
	}
	const double bytes = 2 * n_kept / BB_PAGE * (double)plays[0].to.slab_bytes
		* (shape->n_kv_heads / shape->n_groups);
	while (check_next(c, bytes, "%s heads=%d/%d dim=%d group=%d kept=%.0f", type_names[type],
		shape->n_kv_heads, shape->n_groups, shape->head_dim, shape->group, n_kept)) {
		for (int i = 0; i < n_plays; i++) {
			fn(check_queue(c), &plays[i].to.a, plays[i].sources, plays[i].from.offsets);
		}
		for (int i = 0; i < n_plays && !check_is_bench(c); i++) {
			check_same(c, layouts[i]->name, plays[i].to.bytes, plays[i].want, plays[i].to.n_bytes);
		}
	}
}

CHECK(kv_compact) {
	for (int i = 0; i < check_pages_shapes(c); i++) {
		const struct pages_shape shape = check_pages_shape(c, i);
		for (int type = KV_F32; type <= KV_INT8; type++) {
			check_compact(c, fn, &shape, (enum bb_kv_dtype)type);
		}
	}
}

/* ---- kv_rerotate ---- */

/* Tables for tokens at old positions, at new ones, and of the way between. */
struct turns {
	int n_rows, n_pairs;
	float *old, *new, *delta; /* [n_rows, n_pairs, 2] */
};

static void draw_turns(struct check *c, struct turns *t, const struct pages_shape *shape) {
	int32_t *pos = check_scratch(c, sizeof(*pos), 4);
	t->n_rows = 0;
	for (int i = 0; i < shape->n_seqs; i++) {
		t->n_rows += shape->n_tokens[i % 4];
	}
	t->n_pairs = shape->head_dim / 2 - (shape->head_dim % 16 == 0 ? shape->head_dim / 8 : 0);
	double inv_freq[256];
	for (int i = 0; i < t->n_pairs; i++) {
		inv_freq[i] = pow(1e4, -(double)i / t->n_pairs);
	}
	const size_t per_row = (size_t)t->n_pairs * 2;
	const bool is_bench = check_is_bench(c);
	float *tables[3];
	for (int i = 0; i < 3; i++) {
		tables[i] = check_in(c, is_bench && i < 2 ? per_row : (size_t)t->n_rows * per_row);
	}
	t->old = tables[0];
	t->new = tables[1];
	t->delta = tables[2];
	for (int r = 0; r < t->n_rows && !is_bench; r++) { /* to bench, any numbers will do */
		const int32_t to = check_rand(c, 0, 1 << 20), from = to + check_rand(c, 0, 1 << 20);
		const int32_t all[] = { from, to, to - from };
		for (int i = 0; i < 3; i++) {
			*pos = all[i];
			rope_table_c(NULL, tables[i] + (size_t)r * per_row, pos, inv_freq, 1, t->n_pairs, 1.0f);
		}
	}
}

/* rope as the variant that plays does it. */
static void turn(struct check *c, float *x, int head_dim, const float *cs, int n_pairs) {
	if (!check_is_padded(c)) {
		rope_c(NULL, x, head_dim, cs, 1, 1, head_dim, n_pairs);
		return;
	}
	for (int i = 0; i < n_pairs; i++) {
		const float a = x[i], b = x[i + n_pairs], cosine = cs[2 * i], sine = cs[2 * i + 1];
		const float bs = b * sine, bc = b * cosine;
		x[i] = fmaf(a, cosine, -bs);
		x[i + n_pairs] = fmaf(a, sine, bc);
	}
}

/* A function of one token of a run, which is the i-th of it. */
typedef void per_token(struct check *c, const struct pages *p, const struct turns *t, int i_seq,
	int h, int token, int row, void *arg);

static void each_token(struct check *c, const struct pages *p, const struct turns *t,
	per_token *fn, void *arg) {
	for (int unit = 0; unit < p->a.n_seqs * p->a.n_kv_heads; unit++) {
		const int i_seq = unit / p->a.n_kv_heads, h = unit % p->a.n_kv_heads;
		const struct bb_kv_run *run = &p->runs[i_seq * p->a.n_groups + h % p->a.n_groups];
		for (int i = 0; i < run->n_tokens; i++) {
			fn(c, p, t, i_seq, h, run->kept.n_before + i, run->row0 + i, arg);
		}
	}
}

/* arg: the copy of the pages, in which K of the token is turned. */
static void turn_stored(struct check *c, const struct pages *p, const struct turns *t, int i_seq,
	int h, int token, int row, void *arg) {
	float k[512];
	pages_read(p, i_seq, token, h, k, NULL);
	turn(c, k, p->a.head_dim, t->delta + (size_t)row * t->n_pairs * 2, t->n_pairs);
	pages_store(p, arg, i_seq, token, h, k, NULL);
}

/* arg: the values before rope. Over f32 nothing but rope has rounded. */
static void check_position(struct check *c, const struct pages *p, const struct turns *t, int i_seq,
	int h, int token, int row, void *arg) {
	const struct values *v = arg;
	float k[512], want[512];
	pages_read(p, i_seq, token, h, k, NULL);
	memcpy(want, v->k + values_at(v, i_seq, token, h), sizeof(float) * (size_t)p->a.head_dim);
	rope_c(NULL, want, p->a.head_dim, t->new + (size_t)row * t->n_pairs * 2, 1, 1, p->a.head_dim,
		t->n_pairs);
	for (int d = 0; d < p->a.head_dim; d++) {
		if (!(fabsf(k[d] - want[d]) < 1e-5f)) {
			check_fail(c, "k[%d] of token %d is %.9g, at its new position it is %.9g", d, token,
				(double)k[d], (double)want[d]);
			return;
		}
	}
}

/* arg: the values; K of the run's tokens gets rope at their old positions. */
static void store_turned(struct check *c, const struct pages *p, const struct turns *t, int i_seq,
	int h, int token, int row, void *arg) {
	const struct values *v = arg;
	float k[512];
	memcpy(k, v->k + values_at(v, i_seq, token, h), sizeof(float) * (size_t)p->a.head_dim);
	rope_c(NULL, k, p->a.head_dim, t->old + (size_t)row * t->n_pairs * 2, 1, 1, p->a.head_dim,
		t->n_pairs);
	pages_store(p, p->bytes, i_seq, token, h, k, NULL);
}

/* arg: where the results go; they are compared with those of the reference. */
static void take_turned(struct check *c, const struct pages *p, const struct turns *t, int i_seq,
	int h, int token, int row, void *arg) {
	float *k = arg;
	pages_read(p, i_seq, token, h, k + ((size_t)row * p->a.n_kv_heads + h) * p->a.head_dim, NULL);
}

/* A unit in the last place, since a turn in f32 may be rounded to the other side; of int8 a step
 * of a group whose largest is 22. */
static struct tol tolerance(enum bb_kv_dtype type) {
	static const struct tol tols[] = { { 2e-6f, 5e-6f }, { 1e-3f, 5e-6f }, { 8e-3f, 5e-6f },
		{ 0, 0.18f } };
	return tols[type];
}

struct rerotation {
	struct pages p;
	uint8_t *before, *want; /* [p.n_bytes] */
};

static void check_rerotate(struct check *c, kv_rerotate_fn *fn, const struct pages_shape *shape,
	enum bb_kv_dtype type) {
	const bool is_bench = check_is_bench(c);
	const struct bb_kv_layout *layouts[MAX_PAGES_LAYOUTS];
	const int n_plays = check_kv_layouts(c, type, layouts);
	struct values *v = check_scratch(c, sizeof(*v), 8);
	struct turns *t = check_scratch(c, sizeof(*t), 8);
	struct rerotation *plays = check_scratch(c, (size_t)n_plays * sizeof(*plays), 8);
	values_draw(c, v, shape);
	draw_turns(c, t, shape);
	int rooms[MAX_PAGES_SEQS * 2];
	const int most = pages_capacity(shape, rooms, shape->n_groups);
	for (int i = 0; i < n_plays; i++) {
		struct rerotation *r = &plays[i];
		pages_make(c, &r->p, shape, shape->n_groups, rooms, type, layouts[i]);
		pages_fill(c, &r->p, v);
		if (!is_bench) {
			each_token(c, &r->p, t, store_turned, v);
			r->before = check_scratch(c, r->p.n_bytes, 64);
			r->want = check_scratch(c, r->p.n_bytes, 64);
			memcpy(r->before, r->p.bytes, r->p.n_bytes);
			memcpy(r->want, r->p.bytes, r->p.n_bytes);
			each_token(c, &r->p, t, turn_stored, r->want);
		}
	}
	float *k = check_out(c, "turned k", is_bench ? 0 : (size_t)t->n_rows * (size_t)shape->n_kv_heads
		* (size_t)shape->head_dim, tolerance(type));
	const double n_rows = t->n_rows, k_bytes = (double)plays[0].p.slab_bytes / 2 / BB_PAGE;
	while (check_next(c, n_rows * (2 * k_bytes * shape->n_kv_heads + 8.0 * t->n_pairs),
		"%s heads=%d dim=%d pairs=%d group=%d tokens=%d", type_names[type], shape->n_kv_heads,
		shape->head_dim, t->n_pairs, shape->group, most)) {
		for (int i = 0; i < n_plays; i++) {
			if (!is_bench) {
				memcpy(plays[i].p.bytes, plays[i].before, plays[i].p.n_bytes);
			}
			fn(check_queue(c), &plays[i].p.a, t->delta, t->n_pairs);
		}
		check_wait(c);
		for (int i = 0; i < n_plays && !is_bench; i++) {
			check_same(c, layouts[i]->name, plays[i].p.bytes, plays[i].want, plays[i].p.n_bytes);
			if (type == KV_F32) {
				each_token(c, &plays[i].p, t, check_position, v);
			}
		}
		if (!is_bench) {
			each_token(c, &plays[0].p, t, take_turned, k);
		}
	}
}

CHECK(kv_rerotate) {
	for (int i = 0; i < check_pages_shapes(c); i++) {
		const struct pages_shape shape = check_pages_shape(c, i);
		for (int type = KV_F32; type <= KV_INT8; type++) {
			check_rerotate(c, fn, &shape, (enum bb_kv_dtype)type);
		}
	}
}
