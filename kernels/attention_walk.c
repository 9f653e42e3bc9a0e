/* SPDX-License-Identifier: Apache-2.0
 *
 * The walk over sequences, splits and pages that the fast attention variants share. Every row gets
 * the same partial per split and the same joins whichever of two ways is taken:
 *
 *   whole   a unit is a block of rows of one kv head, its splits one after the other; the block is
 *           large, so that converting a split's K and V is paid once for many rows (prefill,
 *           batches)
 *   split   a unit is a small block and one split; partials go to scratch, and the thread that
 *           stores a block's last one joins them in index order (few sequences, long contexts;
 *           sequences that share pages, whose rows are then in one block for these)
 *
 * Scratch is bounded: with more splits than it holds, the split way goes in rounds. */
#include "attention_walk.h"

#include <assert.h>
#include <limits.h>
#include <stdatomic.h>
#include <string.h>

enum {
	WHOLE_FLOATS = 192 * 64, /* rows * vd of a block: q and o stay in L2 beside a split's K and V */
	SPLIT_ROWS = 24,
	SHARE_ROWS = 192,
	MIN_PARTIAL_ROWS = 4096, /* of partials that scratch holds */
	PARTIAL_ROWS_PER_THREAD = 256,
	MIN_STAGED_TILES = 3,
};

/* Rows [row0, row0 + n_rows) of a sequence, counted as token * heads_per_kv + head. Or what
 * sequences share: all heads of one row of each, for the splits before their own, which have
 * blocks behind this one. The split in which they part belongs to it where its first pages are
 * shared, too: an item then walks it for one sequence after the other, so that these are read
 * once. */
struct block {
	int seq, row0, n_rows;
	int split0, n_splits;   /* that any of its rows sees, for any kv head */
	int64_t first_item;     /* item = first_item + (split - split0) * n_kv_heads + kv head */
	int64_t first_place;    /* rows of partials that the items of blocks before it take */
	int n_members;          /* sequences that share it, the first being seq; 0: it's one's own */
	int n_common;           /* pages that these share of the last split; 0: all */
	int back;               /* how far before this one that of what it shares stands; 0: nothing */
};

struct walk {
	const struct bb_attention *a;
	const struct attn_ops *ops;
	struct attn_dims dims;
	int heads_per_kv, n_slots;
	size_t q_stride, k_plane_bytes; /* of a slab */
	size_t k_elems, v_elems;        /* of a plane */

	struct block *blocks;           /* [n_blocks] */
	int n_blocks;
	uint8_t *slots;                 /* [n_slots, slot_bytes]: struct slot's arrays */
	size_t slot_bytes;
	atomic_uchar *busy;             /* [n_slots] */

	/* the split way */
	int64_t round_begin, round_end; /* items */
	int64_t round_place;            /* rows of partials that items before the round take */
	float *partials; /* [round's items]: m[rows], l[rows], o[rows, vd] with rows of place_rows */
	float *running_m, *running_l;   /* [rows, n_heads]; o is in `out` between rounds */
	atomic_int *pending;            /* [n_blocks, n_kv_heads] items to come in this round */
};

/* A thread's work space. */
struct slot {
	uint8_t *q;              /* [block rows, or of what is shared, q_stride] */
	uint8_t *k, *v;          /* [SPLIT_PAGES, plane] staged */
	float *scores, *p;       /* [TILE_ROWS, 256] */
	float *m, *l, *o;        /* [block rows], [block rows], [block rows, vd] running */
	float *part_m, *part_l;  /* [TILE_ROWS] */
	float *part_o;           /* [TILE_ROWS, vd] */
};

/* ---- scratch ---- */

static size_t round64(size_t n) {
	return (n + 63) & ~(size_t)63;
}

static void *take(uintptr_t *at, size_t bytes) {
	void *taken = (void *)*at;
	*at += round64(bytes);
	return taken;
}

static int whole_rows(int vd) {
	const int rows = WHOLE_FLOATS / vd / TILE_ROWS * TILE_ROWS;
	return rows > SPLIT_ROWS ? rows : SPLIT_ROWS;
}

/* Of what sequences share, whose o isn't in the slot. */
static int share_rows(int vd) {
	return whole_rows(vd) > SHARE_ROWS ? whole_rows(vd) : SHARE_ROWS;
}

static size_t q_stride_of(const struct attn_dims *dims) {
	return round64((size_t)dims->kd * 4 + 64);
}

/* Lays a slot out from `at` on; returns its end. */
static uintptr_t slot_at(struct slot *s, uintptr_t at, const struct attn_dims *dims) {
	const size_t rows = (size_t)whole_rows(dims->vd);
	s->q = take(&at, (size_t)share_rows(dims->vd) * q_stride_of(dims));
	s->k = take(&at, (size_t)BB_SPLIT * dims->kd * 4);
	s->v = take(&at, (size_t)BB_SPLIT * dims->vd * 4);
	s->scores = take(&at, TILE_ROWS * BB_SPLIT * sizeof(float));
	s->p = take(&at, TILE_ROWS * BB_SPLIT * sizeof(float));
	s->m = take(&at, rows * sizeof(float));
	s->l = take(&at, rows * sizeof(float));
	s->o = take(&at, rows * dims->vd * sizeof(float));
	s->part_m = take(&at, TILE_ROWS * sizeof(float));
	s->part_l = take(&at, TILE_ROWS * sizeof(float));
	s->part_o = take(&at, (size_t)TILE_ROWS * dims->vd * sizeof(float));
	return at;
}

static size_t slot_bytes_of(const struct attn_dims *dims) {
	struct slot s;
	return slot_at(&s, 64, dims) - 64;
}

static int partial_rows(int n_threads) {
	return MIN_PARTIAL_ROWS + PARTIAL_ROWS_PER_THREAD * n_threads;
}

/* Rows of a block's item in partials. */
static int place_rows(const struct block *b) {
	return (b->n_rows + 7) & ~7;
}

/* Blocks of a step: a sequence of n rows has at most n * ceil(n_heads / SPLIT_ROWS), and what it
 * shares with others one more. */
static size_t max_blocks(int n_rows, int n_heads) {
	return (size_t)n_rows * (size_t)((n_heads + SPLIT_ROWS - 1) / SPLIT_ROWS + 1);
}

static uintptr_t lay_out(struct walk *w, uintptr_t at, int n_rows, int n_heads, int n_threads) {
	const size_t n_blocks = max_blocks(n_rows, n_heads);
	w->n_slots = n_threads;
	w->slot_bytes = slot_bytes_of(&w->dims);
	w->blocks = take(&at, n_blocks * sizeof(*w->blocks));
	w->busy = take(&at, (size_t)n_threads * sizeof(*w->busy));
	w->slots = take(&at, (size_t)n_threads * w->slot_bytes);
	w->partials = take(&at, (size_t)partial_rows(n_threads) * (size_t)(2 + w->dims.vd) *
		sizeof(float));
	w->running_m = take(&at, (size_t)n_rows * n_heads * sizeof(float));
	w->running_l = take(&at, (size_t)n_rows * n_heads * sizeof(float));
	/* n_kv_heads is at most this */
	w->pending = take(&at, n_blocks * (size_t)n_heads * sizeof(*w->pending));
	return at;
}

static struct attn_dims dims_of(int head_dim, int group) {
	return (struct attn_dims){ head_dim, kv_kd(head_dim), kv_vd(head_dim),
		kv_group_width(head_dim, group), kv_n_groups(head_dim, group) };
}

size_t attention_scratch_bytes(int n_rows, int n_threads, int n_heads, int head_dim) {
	struct walk w = { .dims = dims_of(head_dim, 0) };
	return lay_out(&w, 64, n_rows, n_heads, n_threads) - 64;
}

int attention_share_rows(int n_heads, int n_kv_heads, int head_dim) {
	const int vd = kv_vd(head_dim), heads = n_heads / n_kv_heads;
	return heads <= whole_rows(vd) ? share_rows(vd) / heads : 1;
}

static struct slot claim(const struct walk *w, int *index) {
	struct slot s;
	for (int i = 0;; i = (i + 1) % w->n_slots) {
		if (!atomic_exchange_explicit(&w->busy[i], 1, memory_order_acquire)) {
			*index = i;
			slot_at(&s, (uintptr_t)w->slots + (size_t)i * w->slot_bytes, &w->dims);
			return s;
		}
	}
}

static void release(const struct walk *w, int index) {
	atomic_store_explicit(&w->busy[index], 0, memory_order_release);
}

/* ---- rows and splits of a block ---- */

static int seq_of(const struct walk *w, const struct block *b, int row) {
	return b->seq + (b->n_members > 0 ? row / w->heads_per_kv : 0);
}

static const struct bb_kept *kept_of(const struct walk *w, int seq, int kv_head) {
	return &w->a->seqs[seq].groups[w->a->kv_heads[kv_head].i_group];
}

/* The last and the first kept token that a row sees, of those that the block is about. */
static int last_seen(const struct walk *w, const struct block *b, int kv_head, int row) {
	const int n_before = kept_of(w, seq_of(w, b, row), kv_head)->n_before;
	const int shared = b->n_splits * BB_SPLIT - 1;
	return b->n_members == 0 ? n_before + (b->row0 + row) / w->heads_per_kv
		: n_before < shared ? n_before : shared;
}

static int first_seen(const struct walk *w, int last) {
	return w->a->window > 0 && w->a->window <= last ? last + 1 - w->a->window : 0;
}

/* Column in q and out, in heads. */
static size_t head_of(const struct walk *w, const struct block *b, int row, int kv_head) {
	return (size_t)kv_head * w->heads_per_kv + (size_t)((b->row0 + row) % w->heads_per_kv);
}

static size_t step_row(const struct walk *w, const struct block *b, int row) {
	const int row0 = w->a->seqs[seq_of(w, b, row)].row0;
	return (size_t)row0 + (size_t)(b->n_members > 0 ? 0 : (b->row0 + row) / w->heads_per_kv);
}

static float *out_of(const struct walk *w, const struct block *b, int row, int kv_head) {
	return w->a->out + step_row(w, b, row) * (size_t)w->a->ld_out
		+ head_of(w, b, row, kv_head) * (size_t)w->dims.head_dim;
}

static void prep_block(const struct walk *w, const struct slot *s, const struct block *b,
	int kv_head) {
	for (int r = 0; r < b->n_rows; r++) {
		const float *q = w->a->queries + step_row(w, b, r) * (size_t)w->a->ld_q
			+ head_of(w, b, r, kv_head) * (size_t)w->dims.head_dim;
		w->ops->prep_q(s->q + (size_t)r * w->q_stride, q, &w->dims, w->a->scale);
	}
}

static const uint8_t *slab_of(const struct walk *w, int seq, int kv_head, int page) {
	const uint8_t *base = kept_page(kept_of(w, seq, kv_head), page);
	return base == NULL ? NULL : base + w->a->kv_heads[kv_head].slab_offset;
}

/* Planes are read in the order K of the pages, V of the pages, K of the next slabs. Two planes
 * ahead is far enough; the softmax takes the second V plane, so the last K plane has nothing left
 * to do. */
static void plan_prefetch(const struct walk *w, struct attn_tile *t, const void *const next[2]) {
	const uint8_t *order[2 * SPLIT_PAGES + 2];
	int places[2 * SPLIT_PAGES], n = 0, n_k = 0;
	for (int i = 0; i < 2 * SPLIT_PAGES; i++) {
		const void *plane = i < SPLIT_PAGES ? t->k[i] : t->v[i - SPLIT_PAGES];
		if (plane != NULL) {
			places[n] = i;
			order[n++] = plane;
			n_k += i < SPLIT_PAGES;
		}
	}
	order[n] = next[0];
	order[n + 1] = next[1];
	for (int i = 0; i < n; i++) {
		const bool has_target = i != n_k - 1 && order[i + 2] != NULL;
		t->ahead[places[i]] = has_target ? order[i + 2] - order[i] : 0;
	}
	t->softmax_ahead = order[n_k + 1];
	t->softmax_ahead_bytes = t->softmax_ahead != NULL ? w->k_plane_bytes : 0;
}

/* Sets t->k and t->v for tokens [begin, end) of the sequence's split that starts at `token`.
 * is_staged: the planes of pages from first_page on are staged, those before are already. */
static void load_split(const struct walk *w, const struct slot *s, struct attn_tile *t, int seq,
	int kv_head, int token, int begin, int end, bool is_staged, int first_page) {
	const size_t elem = w->ops->staged_elem_bytes;
	for (int p = 0; p < SPLIT_PAGES; p++) {
		t->k[p] = t->v[p] = NULL;
		if ((p + 1) * BB_PAGE <= begin || p * BB_PAGE >= end) {
			continue;
		}
		const uint8_t *slab = slab_of(w, seq, kv_head, token / BB_PAGE + p);
		t->k[p] = slab;
		t->v[p] = slab + w->k_plane_bytes;
		if (is_staged) {
			uint8_t *k = s->k + (size_t)p * w->k_elems * elem,
				*v = s->v + (size_t)p * w->v_elems * elem;
			if (p >= first_page) {
				w->ops->stage(k, t->k[p], w->k_elems);
				w->ops->stage(v, t->v[p], w->v_elems);
			}
			t->k[p] = k;
			t->v[p] = v;
		}
	}
}

/* The tokens of a split that a row sees; false when there are none. */
static bool clip(const struct walk *w, const struct block *b, int kv_head, int row, int token,
	int *begin, int *end) {
	const int last = last_seen(w, b, kv_head, row), first = first_seen(w, last);
	*begin = first > token ? first - token : 0;
	*end = last + 1 - token < BB_SPLIT ? last + 1 - token : BB_SPLIT;
	return *begin < *end;
}

/* The first two slabs of a block's i-th split, or NULLs. Only to prefetch: perhaps no row sees
 * them. */
static void opening(const struct walk *w, const struct block *b, int i_split, int kv_head,
	const void *slabs[2]) {
	const int page = (b->split0 + i_split) * SPLIT_PAGES;
	const int row = b->n_members > 0 ? 0 : b->n_rows - 1; /* of the sequence that is asked */
	const int n_pages = last_seen(w, b, kv_head, row) / BB_PAGE + 1;
	slabs[0] = page < n_pages ? slab_of(w, b->seq, kv_head, page) : NULL;
	slabs[1] = page + 1 < n_pages ? slab_of(w, b->seq, kv_head, page + 1) : NULL;
}

static struct attn_tile new_tile(const struct walk *w, const struct slot *s) {
	return (struct attn_tile){ .dims = w->dims, .q_stride = w->q_stride, .scores = s->scores,
		.p = s->p, .softcap = w->a->softcap * LOG2_E };
}

/* Rows [first, last) of a block against the split that starts at `token`, which is loaded. */
static void run_tiles(const struct walk *w, const struct slot *s, const struct block *b,
	int kv_head, struct attn_tile *t, int token, int first, int last, bool is_staged,
	float *parts) {
	const int n_tiles = (last - first + TILE_ROWS - 1) / TILE_ROWS, vd = w->dims.vd;
	for (int i = 0, r = first; i < n_tiles; i++, r += t->n_rows) {
		t->n_rows = (last - r + n_tiles - i - 1) / (n_tiles - i);
		t->q = s->q + (size_t)r * w->q_stride;
		for (int j = 0; j < t->n_rows; j++) {
			clip(w, b, kv_head, r + j, token, &t->begin[j], &t->end[j]);
		}
		t->m = parts != NULL ? parts + r : s->part_m;
		t->l = parts != NULL ? parts + place_rows(b) + r : s->part_l;
		t->o = parts != NULL ? parts + 2 * place_rows(b) + (size_t)r * vd : s->part_o;
		(is_staged ? w->ops->tile : w->ops->tile_direct)(t);
		for (int j = 0; parts == NULL && j < t->n_rows; j++) {
			w->ops->join(&s->m[r + j], &s->l[r + j], s->o + (size_t)(r + j) * vd, &t->m[j],
				&t->l[j], t->o + (size_t)j * vd, vd);
		}
	}
}

/* The split in which sequences part, one after the other, over the pages that they share and its
 * own. Partials go to `parts`. */
static void run_parting(const struct walk *w, const struct slot *s, const struct block *b,
	int kv_head, float *parts) {
	const void *const nothing[2] = { NULL, NULL };
	const int heads = w->heads_per_kv, token = (b->n_splits - 1) * BB_SPLIT;
	const bool is_staged = w->ops->stage != NULL &&
		b->n_members * ((heads + TILE_ROWS - 1) / TILE_ROWS) >= MIN_STAGED_TILES;
	struct attn_tile t = new_tile(w, s);
	for (int i = 0, begin, end; i < b->n_members; i++) {
		clip(w, b, kv_head, i * heads, token, &begin, &end);
		load_split(w, s, &t, b->seq + i, kv_head, token, begin, end, is_staged,
			i > 0 ? b->n_common : 0);
		if (!is_staged) {
			plan_prefetch(w, &t, nothing);
		}
		run_tiles(w, s, b, kv_head, &t, token, i * heads, (i + 1) * heads, is_staged, parts);
	}
}

/* A block's i-th split, which perhaps no row of this head sees. Rows' partials go to `parts` (an
 * item's place), or, when that is NULL, are joined to the slot's running ones. `next`: the slabs
 * that come after. */
static void run_split(const struct walk *w, const struct slot *s, const struct block *b,
	int kv_head, int i_split, float *parts, const void *const next[2]) {
	const int token = (b->split0 + i_split) * BB_SPLIT;
	int begin = 0, last_end = 0, unused, first = 0, last = b->n_rows;
	while (first < last && !clip(w, b, kv_head, first, token, &begin, &unused)) {
		first++;
	}
	if (first == last) {
		return;
	}
	while (!clip(w, b, kv_head, last - 1, token, &unused, &last_end)) {
		last--;
	}
	struct attn_tile t = new_tile(w, s);
	const int n_tiles = (last - first + TILE_ROWS - 1) / TILE_ROWS;
	const bool is_staged = w->ops->stage != NULL && n_tiles >= MIN_STAGED_TILES;
	load_split(w, s, &t, b->seq, kv_head, token, begin, last_end, is_staged, 0);
	if (!is_staged) {
		plan_prefetch(w, &t, next);
	}
	run_tiles(w, s, b, kv_head, &t, token, first, last, is_staged, parts);
}

static void start_running(const struct slot *s, int n_rows, int vd) {
	for (int r = 0; r < n_rows; r++) {
		s->m[r] = -__builtin_inff();
		s->l[r] = 0;
	}
	memset(s->o, 0, (size_t)n_rows * vd * sizeof(float));
}

/* A sink is a split with a score, without values. */
static void join_sinks(const struct walk *w, const struct slot *s, const struct block *b,
	int kv_head) {
	const int vd = w->dims.vd;
	memset(s->part_o, 0, (size_t)vd * sizeof(float));
	for (int r = 0; r < b->n_rows; r++) {
		const float m = w->a->sinks[head_of(w, b, r, kv_head)] * LOG2_E, l = 1;
		w->ops->join(&s->m[r], &s->l[r], s->o + (size_t)r * vd, &m, &l, s->part_o, vd);
	}
}

static void finish_rows(const struct walk *w, const struct slot *s, const struct block *b,
	int kv_head) {
	if (w->a->sinks != NULL) {
		join_sinks(w, s, b, kv_head);
	}
	for (int r = 0; r < b->n_rows; r++) {
		w->ops->finish(out_of(w, b, r, kv_head), s->o + (size_t)r * w->dims.vd, s->l[r],
			w->dims.head_dim);
	}
}

/* ---- whole ---- */

static void run_whole(const void *arg, int begin, int end) {
	const struct walk *w = arg;
	int index;
	const struct slot s = claim(w, &index);
	for (int unit = begin; unit < end; unit++) {
		/* last blocks first: they see the most */
		const struct block *b = &w->blocks[w->n_blocks - 1 - unit / w->a->n_kv_heads];
		const int kv_head = unit % w->a->n_kv_heads;
		prep_block(w, &s, b, kv_head);
		start_running(&s, b->n_rows, w->dims.vd);
		for (int i = 0; i < b->n_splits; i++) {
			const void *next[2];
			opening(w, b, i + 1, kv_head, next);
			run_split(w, &s, b, kv_head, i, NULL, next);
		}
		finish_rows(w, &s, b, kv_head);
	}
	release(w, index);
}

/* ---- split ---- */

static float *item_parts(const struct walk *w, const struct block *b, int64_t item) {
	const int64_t place = b->first_place + (item - b->first_item) * place_rows(b);
	return w->partials + (size_t)(place - w->round_place) * (size_t)(2 + w->dims.vd);
}

static int64_t item_of(const struct walk *w, const struct block *b, int i_split, int kv_head) {
	return b->first_item + (int64_t)i_split * w->a->n_kv_heads + kv_head;
}

/* Splits [*begin, *end) of a block's head, counted from split0, that belong to this round. */
static void round_splits(const struct walk *w, const struct block *b, int kv_head, int *begin,
	int *end) {
	const int n_kv = w->a->n_kv_heads;
	const int64_t most = (int64_t)b->n_splits * n_kv;
	const int64_t before = w->round_begin - b->first_item - kv_head + n_kv - 1;
	const int64_t last = w->round_end - b->first_item - kv_head + n_kv - 1;
	*begin = before > 0 ? (int)((before < most ? before : most) / n_kv) : 0;
	*end = last > 0 ? (int)((last < most ? last : most) / n_kv) : 0;
}

/* Whether none of a block's splits is left for later rounds. */
static bool is_done(const struct walk *w, const struct block *b, int kv_head) {
	int begin, end;
	round_splits(w, b, kv_head, &begin, &end);
	return end == b->n_splits;
}

/* Joins the partials that a block's items of this round have for row r of `to`, which is their row
 * `row`. */
static void join_parts(const struct walk *w, const struct slot *s, const struct block *b,
	int kv_head, int row, int r) {
	const int vd = w->dims.vd, rows = place_rows(b);
	int begin, end, from, to;
	round_splits(w, b, kv_head, &begin, &end);
	for (int i = begin; i < end; i++) {
		if (clip(w, b, kv_head, row, (b->split0 + i) * BB_SPLIT, &from, &to)) {
			const float *part = item_parts(w, b, item_of(w, b, i, kv_head));
			w->ops->join(&s->m[r], &s->l[r], s->o + (size_t)r * vd, part + row,
				part + rows + row, part + 2 * rows + (size_t)row * vd, vd);
		}
	}
}

/* Joins a block's partials of this round, those of what it shares first, to what earlier rounds
 * left. */
static void join_block(const struct walk *w, const struct slot *s, const struct block *b,
	int kv_head) {
	const struct block *shared = b - b->back;
	const int vd = w->dims.vd, head_dim = w->dims.head_dim;
	start_running(s, b->n_rows, vd);
	for (int r = 0; r < b->n_rows; r++) {
		const size_t at = step_row(w, b, r) * (size_t)w->a->n_heads + head_of(w, b, r, kv_head);
		float *out = out_of(w, b, r, kv_head), *o = s->o + (size_t)r * vd;
		if (item_of(w, shared, 0, kv_head) < w->round_begin) {
			s->m[r] = w->running_m[at];
			s->l[r] = w->running_l[at];
			memcpy(o, out, (size_t)head_dim * sizeof(*o));
		}
		if (shared != b) {
			join_parts(w, s, shared, kv_head, (b->seq - shared->seq) * w->heads_per_kv + r, r);
		}
		join_parts(w, s, b, kv_head, r, r);
		w->running_m[at] = s->m[r];
		w->running_l[at] = s->l[r];
		memcpy(out, o, (size_t)head_dim * sizeof(*o));
	}
	if (is_done(w, b, kv_head) && is_done(w, shared, kv_head)) {
		finish_rows(w, s, b, kv_head);
	}
}

/* An item is there: whose last one of the round it was, joins. */
static void arrive(const struct walk *w, const struct slot *s, int i_block, int kv_head) {
	const int n_members = w->blocks[i_block].n_members;
	const int first = n_members > 0 ? i_block + 1 : i_block;
	for (int i = first; i < first + (n_members > 0 ? n_members : 1); i++) {
		atomic_int *pending = &w->pending[(size_t)i * w->a->n_kv_heads + kv_head];
		if (atomic_fetch_sub_explicit(pending, 1, memory_order_acq_rel) == 1) {
			join_block(w, s, &w->blocks[i], kv_head);
		}
	}
}

static int block_of_item(const struct walk *w, int64_t item) {
	int low = 0, high = w->n_blocks - 1;
	while (low < high) {
		const int middle = low + (high - low + 1) / 2;
		if (w->blocks[middle].first_item <= item) {
			low = middle;
		} else {
			high = middle - 1;
		}
	}
	return low;
}

/* The heads of a page lie together, so a thread walks them before it goes to the next split. */
static void run_items(const void *arg, int begin, int end) {
	const struct walk *w = arg;
	const int n_kv = w->a->n_kv_heads;
	int index;
	const struct slot s = claim(w, &index);
	for (int i = begin; i < end; i++) {
		const int64_t item = w->round_begin + i;
		const int i_block = block_of_item(w, item);
		const struct block *b = &w->blocks[i_block];
		const int in_block = (int)(item - b->first_item);
		const int i_split = in_block / n_kv, kv_head = in_block % n_kv;
		prep_block(w, &s, b, kv_head);
		const bool is_last = kv_head + 1 == n_kv;
		const void *next[2];
		opening(w, b, i_split + is_last, is_last ? 0 : kv_head + 1, next);
		if (b->n_common > 0 && i_split + 1 == b->n_splits) {
			run_parting(w, &s, b, kv_head, item_parts(w, b, item));
		} else {
			run_split(w, &s, b, kv_head, i_split, item_parts(w, b, item), next);
		}
		arrive(w, &s, i_block, kv_head);
	}
	release(w, index);
}

/* How many items of the block, and of what it shares, this round has for a head. */
static int n_pending(const struct walk *w, const struct block *b, int kv_head) {
	int begin, end, n;
	round_splits(w, b, kv_head, &begin, &end);
	n = end - begin;
	if (b->back > 0) {
		round_splits(w, b - b->back, kv_head, &begin, &end);
		n += end - begin;
	}
	return n;
}

/* The round's items: from round_begin on as many as scratch has places for; sets what they wait
 * for. */
static void open_round(struct walk *w, int64_t n_items) {
	const int capacity = partial_rows(w->n_slots);
	int i = block_of_item(w, w->round_begin);
	const struct block *first = &w->blocks[i];
	w->round_place = first->first_place +
		(w->round_begin - first->first_item) * place_rows(first);
	w->round_end = n_items;
	for (int j = i; j < w->n_blocks; j++) {
		const struct block *b = &w->blocks[j];
		const int64_t n = (w->round_place + capacity - b->first_place) / place_rows(b);
		if (n < (int64_t)b->n_splits * w->a->n_kv_heads) {
			w->round_end = b->first_item + n;
			break;
		}
	}
	for (int last = block_of_item(w, w->round_end - 1); i <= last; i++) {
		const int last_member = i + w->blocks[i].n_members;
		last = last_member > last ? last_member : last;
		for (int h = 0; h < w->a->n_kv_heads; h++) {
			atomic_init(&w->pending[(size_t)i * w->a->n_kv_heads + h],
				n_pending(w, &w->blocks[i], h));
		}
	}
}

static void run_rounds(bb_queue *q, struct walk *w, int64_t n_items) {
	const int n_kv = w->a->n_kv_heads, n_threads = w->n_slots;
	for (w->round_begin = 0; w->round_begin < n_items; w->round_begin = w->round_end) {
		open_round(w, n_items);
		const int n = (int)(w->round_end - w->round_begin),
			grain = n / (4 * n_threads) / n_kv * n_kv;
		queue_run(q, run_items, w, n, grain < 1 ? 1 : grain > 4 * n_kv ? 4 * n_kv : grain);
	}
}

/* ---- choice ---- */

/* The sequences, cut into blocks: what these amount to. */
struct cut {
	int64_t n_items, n_places;
	int most_splits; /* of the largest block */
};

static void span(const struct walk *w, struct block *b) {
	int first = INT_MAX, last = 0;
	for (int h = 0; h < w->a->n_kv_heads; h++) {
		const int low = first_seen(w, last_seen(w, b, h, 0));
		const int high = last_seen(w, b, h, b->n_rows - 1);
		first = low < first ? low : first;
		last = high > last ? high : last;
	}
	b->split0 = first / BB_SPLIT;
	b->n_splits = last / BB_SPLIT + 1 - b->split0;
}

/* A block is complete: where its items come. */
static void add_block(struct walk *w, const struct block *b, struct cut *cut) {
	struct block *at = &w->blocks[w->n_blocks++];
	*at = *b;
	at->first_item = cut->n_items;
	at->first_place = cut->n_places;
	const int64_t n = (int64_t)b->n_splits * w->a->n_kv_heads;
	cut->n_items += n;
	cut->n_places += n * place_rows(b);
	cut->most_splits = b->n_splits > cut->most_splits ? b->n_splits : cut->most_splits;
}

/* A sequence, in blocks of at most max_rows rows. */
static void cut_seq(struct walk *w, int i_seq, int max_rows, struct cut *cut) {
	const int n_rows = w->a->seqs[i_seq].n_rows * w->heads_per_kv;
	const int n_blocks = (n_rows + max_rows - 1) / max_rows;
	const int step = (n_rows + n_blocks - 1) / (n_blocks > 0 ? n_blocks : 1);
	const int rounded = (step + TILE_ROWS - 1) / TILE_ROWS * TILE_ROWS;
	for (int row = 0; row < n_rows; row += rounded) {
		struct block b = { .seq = i_seq, .row0 = row,
			.n_rows = n_rows - row < rounded ? n_rows - row : rounded };
		span(w, &b);
		add_block(w, &b, cut);
	}
}

/* Sequences that share pages: as many at once as a slot has rows for. */
static void cut_share(struct walk *w, const struct bb_attention_seq *share, struct cut *cut) {
	const int most = share_rows(w->dims.vd) / w->heads_per_kv;
	const int n_common = (share->n_common - share->n_shared) / BB_PAGE;
	const int n_shared = share->n_shared / BB_SPLIT + (n_common > 0);
	const int n_blocks = (share->n_rows + most - 1) / most;
	for (int i = 0, n; i < share->n_rows; i += n) {
		n = (share->n_rows + n_blocks - 1) / n_blocks;
		n = share->n_rows - i < n ? share->n_rows - i : n;
		add_block(w, &(struct block){ .seq = share->row0 + i, .n_rows = n * w->heads_per_kv,
			.n_splits = n_shared, .n_members = n, .n_common = n_common }, cut);
		for (int k = 0; k < n; k++) {
			struct block own = { .seq = share->row0 + i + k, .n_rows = w->heads_per_kv,
				.back = k + 1 };
			span(w, &own);
			own.n_splits -= n_shared - own.split0;
			own.split0 = n_shared;
			add_block(w, &own, cut);
		}
	}
}

static struct cut cut_all(struct walk *w, int max_rows, bool has_shares) {
	const struct bb_attention *a = w->a;
	struct cut cut = { 0 };
	w->n_blocks = 0;
	for (int i = 0, i_share = 0; i < a->n_seqs;) {
		if (has_shares && i_share < a->n_shares && a->shares[i_share].row0 == i) {
			cut_share(w, &a->shares[i_share], &cut);
			i += a->shares[i_share++].n_rows;
		} else {
			cut_seq(w, i++, max_rows, &cut);
		}
	}
	return cut;
}

/* Whether a slot has places for a sequence's own rows. */
static bool may_share(const struct walk *w) {
	return w->a->n_shares > 0 && w->a->window == 0 &&
		w->heads_per_kv <= whole_rows(w->dims.vd);
}

void attention_walk(bb_queue *q, const struct bb_attention *a, const struct attn_ops *ops) {
	struct walk w = { .a = a, .ops = ops, .dims = dims_of(a->head_dim, a->kv_group) };
	const int n_threads = queue_threads(q);
	int n_rows = 0;
	for (int i = 0; i < a->n_seqs; i++) {
		n_rows += a->seqs[i].n_rows;
	}
	assert(a->n_heads % a->n_kv_heads == 0 && (uintptr_t)a->scratch % 64 == 0);
	assert(attention_scratch_bytes(n_rows, n_threads, a->n_heads, a->head_dim) <= a->scratch_bytes);
	const int n_groups = ops->type == KV_INT8 ? w.dims.n_groups : 0;
	w.heads_per_kv = a->n_heads / a->n_kv_heads;
	w.q_stride = q_stride_of(&w.dims);
	w.k_plane_bytes = kv_plane_of(ops->type, w.dims.kd, n_groups).bytes;
	w.k_elems = (size_t)BB_PAGE * w.dims.kd;
	w.v_elems = (size_t)BB_PAGE * w.dims.vd;
	lay_out(&w, (uintptr_t)a->scratch, n_rows, a->n_heads, n_threads);
	for (int i = 0; i < n_threads; i++) {
		atomic_init(&w.busy[i], 0);
	}
	if (may_share(&w)) {
		run_rounds(q, &w, cut_all(&w, SPLIT_ROWS, true).n_items);
		return;
	}
	const struct cut whole = cut_all(&w, whole_rows(w.dims.vd), false);
	/* whole, if the largest unit leaves every thread enough others to be busy with meanwhile */
	if (whole.most_splits <= 1 || (int64_t)whole.most_splits * n_threads * 3 <= whole.n_items) {
		queue_run(q, run_whole, &w, w.n_blocks * a->n_kv_heads, 1);
		return;
	}
	run_rounds(q, &w, cut_all(&w, SPLIT_ROWS, false).n_items);
}
