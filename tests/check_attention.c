/* SPDX-License-Identifier: Apache-2.0
 *
 * Attention and KV append: ragged batches against the reference, and what the contract promises
 * about bits: a row alone or among others, unused slots that hold NaNs, pages that aren't there. */
#include "check.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { MAX_SEQS = 8, MAX_ALIKE = 64, MAX_GROUPS = 2, MAX_KV_HEADS = 8, SLAB_OFFSET = 192 };
/* Tokens of sequences that are alike: drawn once, and stored again and again. */
enum { N_DRAWN = 4096 };

/* `ring`: the context has that many pages, walked round and round: long contexts in little
 * memory. */
struct seq_shape {
	int pos0, n_rows, ring;
};

struct shape {
	int n_heads, n_kv_heads, head_dim, window, group;
	float k_scale; /* size of the keys' elements; large ones give sharp softmaxes */
	struct seq_shape seqs[MAX_SEQS]; /* ends with n_rows == 0, or full */
	/* kv heads 1, 3, ... are a group of their own, which keeps none of the first `dropped`
	 * tokens of any sequence (no more than every pos0); 0: one group */
	int dropped;
	/* so many of the first kept tokens of each group lie in the pages of sequence 0, for all */
	int n_shared;
	int n_common; /* pages of the split behind these, too, up to so many tokens; 0: none */
	float softcap;
	bool has_sinks;
	int n_alike; /* so many sequences as the first, each with pages of its own; 0: as listed */
};

struct scene {
	const struct shape *shape;
	enum bb_kv_dtype type;
	const struct bb_kv_layout *layout;
	size_t slab_bytes, page_bytes;
	int n_seqs, n_rows;
	const float *k, *v; /* [tokens of all sequences, n_kv_heads * head_dim] */
	struct bb_kept kept[MAX_ALIKE][MAX_GROUPS];
	struct bb_attention_seq seqs[MAX_ALIKE], share;
	struct bb_kv_head kv_heads[MAX_KV_HEADS];
	struct bb_attention attention;
};

static int seq_len(const struct seq_shape *s) {
	return s->pos0 + s->n_rows;
}

static int n_pages(int n_tokens) {
	return (n_tokens + BB_PAGE - 1) / BB_PAGE;
}

/* Tokens that are stored: all, or what fits the ring. */
static int n_stored(const struct seq_shape *s) {
	return s->ring > 0 ? s->ring * BB_PAGE : seq_len(s);
}

static const struct seq_shape *seq_of(const struct shape *s, int i) {
	return &s->seqs[s->n_alike > 0 ? 0 : i];
}

static int count_seqs(const struct shape *s) {
	int n = s->n_alike;
	while (s->n_alike == 0 && n < MAX_SEQS && s->seqs[n].n_rows > 0) {
		n++;
	}
	return n;
}

/* Rows of k and v that sequence i has for itself. */
static int n_drawn(const struct shape *s, int i) {
	const int n = n_stored(seq_of(s, i));
	return s->n_alike == 0 ? n : i > 0 ? 0 : n < N_DRAWN ? n : N_DRAWN;
}

/* First token that a row at `pos` sees. */
static int first_seen(const struct shape *s, int pos) {
	return s->window > 0 && s->window <= pos ? pos + 1 - s->window : 0;
}

/* A page table of n pages: page i is the (i modulo n_real)-th of `bytes`, from first_page on.
 * Pages before are NULL, and chunks without others. */
static void *const *const *make_table(struct check *c, uint8_t *bytes, size_t page_bytes,
	int first_page, int n, int n_real) {
	const int n_chunks = (n + BB_CHUNK - 1) / BB_CHUNK;
	void ***chunks = check_scratch(c, (size_t)n_chunks * sizeof(*chunks), 64);
	for (int i = 0; i < n_chunks; i++) {
		const int first = i * BB_CHUNK, end = n - first < BB_CHUNK ? n : first + BB_CHUNK;
		chunks[i] = NULL;
		if (end <= first_page) {
			continue;
		}
		chunks[i] = check_scratch(c, (size_t)(end - first) * sizeof(*chunks[i]), 64);
		for (int p = first; p < end; p++) {
			chunks[i][p - first] = p >= first_page
				? bytes + (size_t)(p % n_real) * page_bytes : NULL;
		}
	}
	return (void *const *const *)chunks;
}

static int n_groups(const struct shape *s) {
	return s->dropped > 0 ? 2 : 1;
}

static int dropped_of(const struct shape *s, int i_group) {
	return i_group == 1 ? s->dropped : 0;
}

/* Stores kept tokens [begin, end) of one head of a group: rows of k and v from `first` on. */
static void store_head(struct check *c, const struct scene *s, int h, size_t first,
	void *const *const *chunks, int begin, int end) {
	const struct shape *shape = s->shape;
	struct bb_kept *kept = check_scratch(c, sizeof(*kept), 8);
	struct bb_attention_seq *rows = check_scratch(c, sizeof(*rows), 8);
	struct bb_kv_head *place = check_scratch(c, sizeof(*place), 8);
	*kept = (struct bb_kept){ chunks, begin };
	*rows = (struct bb_attention_seq){ kept, 0, end - begin, 0 };
	*place = (struct bb_kv_head){ 0, s->kv_heads[h].slab_offset };
	const size_t ld = (size_t)shape->n_kv_heads * shape->head_dim;
	const size_t at = first * ld + (size_t)h * shape->head_dim;
	const struct bb_kv_append append = {
		.k = s->k + at, .v = s->v + at, .ld = (int)ld, .seqs = rows, .n_seqs = 1, .kv_heads = place,
		.n_kv_heads = 1, .head_dim = shape->head_dim, .kv_group = shape->group, .type = s->type,
		.layout = s->layout, .n_rows = end - begin,
	};
	kv_append(check_queue(c), &append);
}

/* What a group keeps of sequence i for rows at [first_pos, n_tokens): tokens up to n_tokens are
 * stored, other slots hold `poison`; pages outside the windows are NULL. k0: the sequence's
 * first row in k and v. */
static struct bb_kept fill_group(struct check *c, const struct scene *s, int i, int i_group,
	size_t k0, int first_pos, int n_tokens, int poison) {
	const struct seq_shape *seq = seq_of(s->shape, i);
	const int dropped = dropped_of(s->shape, i_group), n_kept = n_tokens - dropped;
	const int n = n_pages(n_kept), n_real = seq->ring > 0 ? seq->ring : n;
	const int first_page = first_seen(s->shape, first_pos - dropped) / BB_PAGE;
	uint8_t *bytes = check_scratch(c, (size_t)n_real * s->page_bytes, 64);
	if (!check_is_bench(c)) {
		memset(bytes, poison, (size_t)n_real * s->page_bytes);
	}
	const int stored = n_stored(seq) < n_kept ? n_stored(seq) : n_kept;
	void *const *const *direct = make_table(c, bytes, s->page_bytes, 0, n_real, n_real);
	const int begin = seq->ring > 0 ? 0 : first_page * BB_PAGE;
	for (int h = 0; h < s->shape->n_kv_heads; h++) {
		if (s->kv_heads[h].i_group != i_group) {
			continue;
		}
		if (s->shape->n_alike == 0) {
			store_head(c, s, h, k0 + (size_t)(begin + dropped), direct, begin, stored);
		}
		for (int t = begin; s->shape->n_alike > 0 && t < stored; t += N_DRAWN) {
			store_head(c, s, h, 0, direct, t, stored - t < N_DRAWN ? stored : t + N_DRAWN);
		}
	}
	return (struct bb_kept){ make_table(c, bytes, s->page_bytes, first_page, n, n_real),
		first_pos - dropped };
}

static void fill_groups(struct check *c, struct bb_kept kept[MAX_GROUPS], const struct scene *s,
	int i, size_t k0, int first_pos, int n_tokens, int poison) {
	for (int g = 0; g < n_groups(s->shape); g++) {
		kept[g] = fill_group(c, s, i, g, k0, first_pos, n_tokens, poison);
	}
}

static int n_common(const struct shape *s) {
	return s->n_common > 0 ? s->n_common : s->n_shared;
}

/* The tables are in memory of this file. */
static void share_pages(const struct scene *s, int i) {
	for (int g = 0; g < n_groups(s->shape); g++) {
		for (int p = 0; p < n_common(s->shape) / BB_PAGE; p++) {
			void **chunk = (void **)s->kept[i][g].chunks[p / BB_CHUNK];
			chunk[p % BB_CHUNK] = kept_page(&s->kept[0][g], p);
		}
	}
}

static void make_scene(struct check *c, struct scene *s, const struct shape *shape,
	enum bb_kv_dtype type) {
	memset(s, 0, sizeof(*s));
	s->shape = shape;
	s->type = type;
	s->layout = check_kv_layout(c);
	s->slab_bytes = s->layout->slab_bytes(type, shape->head_dim, shape->group);
	s->page_bytes = SLAB_OFFSET + shape->n_kv_heads * s->slab_bytes;
	size_t n_tokens = 0;
	s->n_seqs = count_seqs(shape);
	for (int i = 0; i < s->n_seqs; i++) {
		n_tokens += (size_t)n_drawn(shape, i);
		s->n_rows += seq_of(shape, i)->n_rows;
	}
	const size_t kv_dim = (size_t)shape->n_kv_heads * shape->head_dim;
	float *k = check_in(c, n_tokens * kv_dim);
	float *v = check_in(c, n_tokens * kv_dim);
	for (size_t j = 0; j < n_tokens * kv_dim; j++) {
		k[j] *= shape->k_scale * (j % kv_dim % 13 == 5 ? 4.0f : 1.0f);
		v[j] *= j % kv_dim % 7 == 2 ? 3.0f : 1.0f;
	}
	s->k = k;
	s->v = v;
	for (int h = 0; h < shape->n_kv_heads; h++) {
		const int n = n_groups(shape);
		s->kv_heads[h] = (struct bb_kv_head){
			h % n, SLAB_OFFSET + (size_t)(h / n) * s->slab_bytes,
		};
	}
	size_t k0 = 0;
	int row0 = s->n_rows;
	for (int i = 0; i < s->n_seqs; i++) { /* rows of the sequences lie in reverse order */
		const struct seq_shape *seq = seq_of(shape, i);
		row0 -= seq->n_rows;
		fill_groups(c, s->kept[i], s, i, k0, seq->pos0, seq_len(seq), 0xff);
		s->seqs[i] = (struct bb_attention_seq){ s->kept[i], row0, seq->n_rows, shape->n_shared };
		if (shape->n_shared > 0) {
			s->seqs[i].row0 = i;
			share_pages(s, i);
		}
		k0 += (size_t)n_drawn(shape, i);
	}
	int max_kept = 0;
	for (int i = 0; i < s->n_seqs; i++) {
		const int n = seq_len(seq_of(shape, i));
		max_kept = n > max_kept ? n : max_kept;
	}
	const size_t scratch_bytes = s->layout->scratch_bytes != NULL
		? s->layout->scratch_bytes(s->n_rows, max_kept, shape->n_heads, shape->head_dim)
		: attention_scratch_bytes(s->n_rows, queue_threads(check_queue(c)), shape->n_heads,
			shape->head_dim);
	s->attention = (struct bb_attention){
		.seqs = s->seqs, .n_seqs = s->n_seqs, .kv_heads = s->kv_heads,
		.n_heads = shape->n_heads, .n_kv_heads = shape->n_kv_heads,
		.head_dim = shape->head_dim, .kv_group = shape->group, .window = shape->window,
		.scale = 1.0f / sqrtf((float)shape->head_dim), .softcap = shape->softcap,
		.scratch = check_scratch(c, scratch_bytes, 64), .scratch_bytes = scratch_bytes,
		.n_rows = s->n_rows, .max_kept = max_kept,
	};
	if (shape->has_sinks) {
		float *sinks = check_in(c, (size_t)shape->n_heads);
		s->attention.sinks = sinks;
	}
	if (shape->n_shared > 0) {
		s->share = (struct bb_attention_seq){ s->kept[0], 0, s->n_seqs, shape->n_shared,
			n_common(shape) };
		s->attention.shares = &s->share;
		s->attention.n_shares = 1;
		s->attention.n_shared_rows = s->n_seqs;
	}
}

/* The new rows' K and V of sequence 0 as stored: every layout keeps the same numbers. */
static void read_stored(float *k, float *v, const struct scene *s) {
	const int dim = s->shape->head_dim;
	for (int i = 0; i < s->seqs[0].n_rows; i++) {
		for (int h = 0; h < s->shape->n_kv_heads; h++, k += dim, v += dim) {
			const struct bb_kept *kept = &s->kept[0][s->kv_heads[h].i_group];
			const int t = kept->n_before + i;
			const uint8_t *page = kept_page(kept, t / BB_PAGE);
			s->layout->read(page + s->kv_heads[h].slab_offset, s->type, dim, s->shape->group,
				t % BB_PAGE, k, v);
		}
	}
}

/* A row of a scene again, alone, in pages where whatever it can't see is poison. */
struct alone {
	int row, pos, poison, width;
	struct bb_kept kept[MAX_GROUPS];
	struct bb_attention_seq seq;
	float *out; /* [width] */
};

static void make_alone(struct check *c, struct alone *one, const struct scene *s, int i_seq, int i,
	int poison) {
	const int pos = s->shape->seqs[i_seq].pos0 + i, width = s->shape->n_heads * s->shape->head_dim;
	size_t k0 = 0;
	for (int j = 0; j < i_seq; j++) {
		k0 += (size_t)n_stored(&s->shape->seqs[j]);
	}
	*one = (struct alone){ .row = s->seqs[i_seq].row0 + i, .pos = pos, .poison = poison,
		.width = width, .seq = { one->kept, 0, 1, 0 } };
	fill_groups(c, one->kept, s, i_seq, k0, pos, pos + 1, poison);
	one->out = check_scratch(c, (size_t)width * sizeof(float), 4);
}

static void check_alone(struct check *c, attention_fn *fn, const struct scene *s,
	const struct alone *one) {
	struct bb_attention a = s->attention;
	a.queries += (size_t)one->row * a.ld_q;
	a.out = one->out;
	a.seqs = &one->seq;
	a.n_seqs = 1;
	a.n_rows = 1;
	a.n_shares = a.n_shared_rows = 0;
	fn(check_queue(c), &a);
	char what[64];
	snprintf(what, sizeof(what), "row at %d alone, poison %02x", one->pos, (unsigned)one->poison);
	check_same(c, what, one->out, s->attention.out + (size_t)one->row * a.ld_out,
		(size_t)one->width * sizeof(float));
}

/* Sequences that share pages have the bits of those that don't know of it. */
static void check_unshared(struct check *c, attention_fn *fn, const struct scene *s, float *out) {
	struct bb_attention a = s->attention;
	a.out = out;
	a.n_shares = a.n_shared_rows = 0;
	fn(check_queue(c), &a);
	for (int r = 0; r < s->n_rows; r++) {
		const size_t at = (size_t)r * (size_t)a.ld_out;
		check_same(c, "rows without shares", s->attention.out + at, out + at,
			sizeof(float) * (size_t)(a.n_heads * a.head_dim));
	}
}

/* One split at a time, which scratch may force, has the bits of all at once. */
static void check_rounds(struct check *c, attention_fn *fn, const struct scene *s, float *out) {
	struct bb_attention a = s->attention;
	a.out = out;
	a.scratch_bytes = s->layout->scratch_bytes(s->n_rows, 1, a.n_heads, a.head_dim);
	fn(check_queue(c), &a);
	for (int r = 0; r < s->n_rows; r++) {
		const size_t at = (size_t)r * (size_t)a.ld_out;
		check_same(c, "rows in rounds", s->attention.out + at, out + at,
			sizeof(float) * (size_t)(a.n_heads * a.head_dim));
	}
}

/* Rows that attention leaves prepared for the next product: as prep makes them of out. */
struct prepared {
	const struct bb_layout *layout; /* NULL: it leaves none */
	int k;
	size_t bytes;
	void *want, *got;
	float *out;
};

static void make_prepared(struct check *c, struct prepared *p, const struct scene *s) {
	const int k = s->shape->n_heads * s->shape->head_dim;
	*p = (struct prepared){ k % 32 == 0 ? s->layout->prepares : NULL, k, 0, NULL, NULL, NULL };
	if (p->layout != NULL) {
		p->bytes = p->layout->prep_bytes(BB_Q8_0, s->n_rows, k);
		p->want = check_scratch(c, p->bytes, 64);
		p->got = check_scratch(c, p->bytes, 64);
		p->out = check_scratch(c, (size_t)s->n_rows * (size_t)k * sizeof(float), 16);
	}
}

static void check_prepared(struct check *c, attention_fn *fn, const struct scene *s,
	const struct prepared *p) {
	struct bb_attention a = s->attention;
	p->layout->prep(check_queue(c), p->want, BB_Q8_0, a.out, a.ld_out, s->n_rows, p->k);
	a.out = p->out;
	a.ld_out = p->k;
	a.prepared = p->got;
	fn(check_queue(c), &a);
	check_same(c, "prepared rows", p->got, p->want, p->bytes);
	a.scratch_bytes = s->layout->scratch_bytes(s->n_rows, 1, a.n_heads, a.head_dim);
	fn(check_queue(c), &a);
	check_same(c, "prepared rows in rounds", p->got, p->want, p->bytes);
}

/* Bytes of K and V, each read once per sequence, and the operations of all rows. */
static void cost(const struct scene *s, double *bytes, double *ops) {
	const struct shape *shape = s->shape;
	*bytes = *ops = 0;
	for (int i = 0; i < s->n_seqs * shape->n_kv_heads; i++) {
		const int i_seq = i / shape->n_kv_heads, n_rows = s->seqs[i_seq].n_rows;
		const struct bb_kept *kept = &s->kept[i_seq][s->kv_heads[i % shape->n_kv_heads].i_group];
		const int seen = kept->n_before + n_rows - first_seen(shape, kept->n_before);
		*bytes += (double)seen / BB_PAGE * (double)s->slab_bytes;
		for (int r = 0; r < n_rows; r++) {
			const int last = kept->n_before + r;
			*ops += 4.0 * (shape->n_heads / shape->n_kv_heads) * shape->head_dim
				* (last + 1 - first_seen(shape, last));
		}
	}
}

/* What a variant rounds shows in its layout: kv_pairs q, k, p and v to the 8 bits of bf16;
 * kv_padded q and p to the type of the pages, 11 bits for f16 and int8. int8 rounds p to 8 bits
 * at slightly different places; over kv_padded it rounds neither q nor p to 8 bits, as the
 * reference does, whose error is what is seen there. */
static struct tol tolerance(const struct bb_kv_layout *layout, enum bb_kv_dtype type) {
	const bool is_padded = strcmp(layout->name, "kv_padded") == 0;
	if (type == KV_INT8) {
		return is_padded ? (struct tol){ 0.05f, 0.1f } : (struct tol){ 0.01f, 0.02f };
	}
	if (strcmp(layout->name, "kv_pairs") == 0 || (is_padded && type == KV_BF16)) {
		return (struct tol){ 0.02f, 0.06f };
	}
	if (is_padded && type == KV_F16) {
		return (struct tol){ 0.002f, 0.004f };
	}
	return (struct tol){ 1e-5f, 2e-5f };
}

static void check_shape(struct check *c, attention_fn *fn, const struct shape *shape,
	enum bb_kv_dtype type) {
	struct scene *s = check_scratch(c, sizeof(*s), 64);
	make_scene(c, s, shape, type);
	const int width = shape->n_heads * shape->head_dim;
	struct tol tol = tolerance(s->layout, type);
	tol.abs *= shape->k_scale > 1 ? shape->k_scale : 1;
	s->attention.ld_q = width + 3;
	s->attention.ld_out = width + 5;
	s->attention.queries = check_in(c, (size_t)s->n_rows * (width + 3));
	s->attention.out = check_out(c, "out", (size_t)s->n_rows * (width + 5), tol);
	struct alone *alone = check_scratch(c, 3 * MAX_SEQS * sizeof(*alone), 64);
	int n_alone = 0;
	for (int i = 0; i < s->n_seqs && !check_is_bench(c); i++) {
		if ((shape->n_shared == 0 || i == 0) && shape->seqs[i].ring == 0) {
			const int n = s->seqs[i].n_rows;
			make_alone(c, &alone[n_alone++], s, i, n - 1, 0x00);
			if (!check_is_least(c)) {
				make_alone(c, &alone[n_alone++], s, i, 0, 0xff);
				make_alone(c, &alone[n_alone++], s, i, n / 2, 0x7b);
			}
		}
	}
	float *again = check_scratch(c, (size_t)s->n_rows * (width + 5) * sizeof(float), 4);
	struct prepared prepared;
	make_prepared(c, &prepared, s);
	const size_t n_stored_floats = (size_t)s->seqs[0].n_rows * shape->n_kv_heads * shape->head_dim;
	float *k = check_out(c, "stored k", n_stored_floats, (struct tol){ 0 });
	float *v = check_out(c, "stored v", n_stored_floats, (struct tol){ 0 });
	double bytes, ops;
	cost(s, &bytes, &ops);
	check_ops(c, ops);
	/* the loop's own copies: a bench mustn't read the device's memory between runs */
	const struct bb_attention a = s->attention;
	const int n_seqs = s->n_seqs;
	while (check_next(c, bytes, "heads=%d/%d dim=%d window=%d group=%d seqs=%d rows=%d pos0=%d "
		"dropped=%d", shape->n_heads, shape->n_kv_heads, shape->head_dim, shape->window,
		shape->group, n_seqs, a.n_rows, shape->seqs[0].pos0, shape->dropped)) {
		fn(check_queue(c), &a);
		if (check_is_bench(c)) {
			continue;
		}
		check_wait(c);
		read_stored(k, v, s);
		for (int i = 0; i < n_alone; i++) {
			check_alone(c, fn, s, &alone[i]);
		}
		if (shape->n_shared > 0) {
			check_unshared(c, fn, s, again);
		}
		if (s->layout->scratch_bytes != NULL) {
			check_rounds(c, fn, s, again);
		}
		if (prepared.layout != NULL) {
			check_prepared(c, fn, s, &prepared);
		}
	}
}

static const struct shape shapes[] = {
	{ 9, 3, 64, 0, 0, 1.0f, { { 0, 5, 0 }, { 700, 1, 0 }, { 63, 1, 0 }, { 200, 130, 0 } } },
	{ 4, 1, 256, 100, 0, 0.5f, { { 511, 1, 0 }, { 300, 21, 0 }, { 0, 1, 0 } } },
	{ 14, 2, 64, 0, 32, 1.0f, { { 250, 12, 0 }, { 2000, 1, 0 } } },
	{ 2, 2, 80, 1, 32, 1.0f, { { 130, 9, 0 } } },
	{ 6, 2, 128, 65, 0, 0.1f, { { 1000, 70, 0 }, { 64, 64, 0 } } },
	{ 8, 8, 8, 0, 0, 2.0f, { { 257, 3, 0 }, { 255, 2, 0 } } },
	{ 3, 1, 16, 7, 0, 1.0f, { { 62, 200, 0 } } },
	{ 26, 1, 32, 0, 0, 1.0f, { { 90, 2, 0 }, { 0, 64, 0 } } },
	{ 2, 1, 64, 0, 0, 20.0f, { { 400, 30, 0 } } },
	{ 5, 1, 6, 0, 0, 1.0f, { { 60, 9, 0 } } },
	{ 4, 2, 96, 0, 32, 0.0f, { { 300, 3, 0 } } },
	{ 14, 2, 64, 0, 8, 1.0f, { { 250, 12, 0 }, { 600, 1, 0 } } },
	{ 4, 1, 256, 90, 8, 0.5f, { { 300, 21, 0 }, { 0, 1, 0 } } },
	{ 5, 1, 80, 0, 8, 1.0f, { { 130, 9, 0 } } },
	{ 3, 1, 128, 0, 8, 1.0f, { { 300, 2, 0 } } },
	{ 2, 1, 80, 0, 16, 1.0f, { { 130, 9, 0 } } },
	{ 2, 2, 20, 0, 4, 1.0f, { { 70, 3, 0 } } },
	{ 2, 1, 64, 700, 0, 1.0f, { { (1 << 20) + 77, 3, 3 } } },
	{ 22, 1, 16, 0, 0, 1.0f, { { (1 << 16) + 5, 2, 2 }, { 100, 1, 0 } } },
	{ 9, 3, 64, 0, 0, 1.0f, { { 700, 1, 0 }, { 300, 130, 0 } }, 300 },
	{ 4, 2, 64, 0, 32, 1.0f, { { 2000, 1, 0 }, { 1990, 2, 0 } }, 1990 },
	{ 8, 8, 16, 90, 0, 1.0f, { { 301, 70, 0 }, { 280, 1, 0 } }, 279 },
	{ 8, 2, 64, 0, 0, 1.0f, { { 700, 1, 0 }, { 512, 1, 0 }, { 600, 1, 0 } }, .n_shared = 512 },
	{ 8, 2, 64, 0, 0, 1.0f, { { 700, 1, 0 }, { 576, 1, 0 }, { 767, 1, 0 }, { 768, 1, 0 } },
		.n_shared = 512, .n_common = 576 },
	{ 7, 1, 32, 0, 8, 1.0f, { { 450, 1, 0 }, { 511, 1, 0 } }, .n_shared = 256, .n_common = 448 },
	{ 14, 2, 32, 0, 8, 1.0f, { { 300, 1, 0 }, { 256, 1, 0 }, { 700, 1, 0 }, { 290, 1, 0 } },
		.n_shared = 256 },
	{ 6, 2, 16, 0, 0, 1.0f, { { 900, 1, 0 }, { 800, 1, 0 }, { 600, 1, 0 } }, 70, 512 },
	{ 6, 2, 16, 0, 0, 1.0f, { { 900, 1, 0 }, { 800, 1, 0 }, { 700, 1, 0 } }, 70, 512, 576 },
	{ 8, 2, 64, 0, 32, 1.0f, { { 700, 1, 0 } }, .n_shared = 512, .n_common = 640, .n_alike = 40 },
	{ 8, 1, 128, 0, 8, 1.0f, { { 700, 1, 0 }, { 520, 1, 0 }, { 600, 1, 0 }, { 513, 1, 0 },
		{ 512, 1, 0 }, { 1030, 1, 0 }, { 800, 1, 0 } }, .n_shared = 512 },
	{ 12, 1, 256, 0, 0, 0.5f, { { 300, 1, 0 } }, .n_shared = 256, .n_alike = 20 },
	{ 16, 1, 40, 0, 8, 2.0f, { { 513, 1, 0 } }, .n_shared = 512, .softcap = 1.0f,
		.has_sinks = true, .n_alike = 5 },
	{ 4, 2, 16, 0, 0, 1.0f, { { 900, 1, 0 }, { 800, 1, 0 }, { 600, 1, 0 }, { 690, 1, 0 },
		{ 700, 1, 0 }, { 650, 1, 0 }, { 901, 1, 0 }, { 899, 1, 0 } }, 70, 512 },
	{ 4, 4, 8, 0, 0, 1.0f, { { 256, 1, 0 } }, .n_shared = 256, .n_alike = 64 },
	{ 16, 2, 8, 0, 0, 1.0f, { { 2120, 1, 0 } }, .n_shared = 2048, .n_common = 2112,
		.n_alike = 64 },
	{ 50, 1, 256, 0, 64, 1.0f, { { 300, 1, 0 } }, .n_shared = 256, .n_alike = 3 },
	{ 8, 2, 64, 0, 0, 3.0f, { { 700, 1, 0 }, { 5, 40, 0 } }, .softcap = 2.0f },
	{ 8, 4, 64, 128, 32, 1.0f, { { 300, 1, 0 }, { 100, 70, 0 } }, .has_sinks = true },
	{ 4, 2, 40, 0, 8, 2.0f, { { 513, 2, 0 }, { 0, 1, 0 } }, .softcap = 1.0f, .has_sinks = true },
};

/* One of each kind: splits that are joined, int8 groups, windows, groups that keep different
 * tokens, and every width of the kernels that walk all pages at once. */
static const struct shape small_shapes[] = {
	{ 4, 2, 16, 0, 0, 1.0f, { { 300, 1, 0 }, { 63, 1, 0 }, { 0, 2, 0 } } },
	{ 4, 1, 32, 0, 16, 1.0f, { { 60, 9, 0 } } },
	{ 2, 2, 80, 1, 32, 1.0f, { { 70, 20, 0 } } },
	{ 6, 1, 136, 40, 0, 0.1f, { { 62, 11, 0 } } },
	{ 5, 1, 6, 0, 0, 1.0f, { { 60, 9, 0 } } },
	{ 4, 2, 32, 0, 0, 1.0f, { { 520, 1, 0 }, { 513, 2, 0 } }, 510 },
	{ 6, 2, 16, 0, 0, 1.0f, { { 300, 1, 0 }, { 260, 1, 0 }, { 520, 1, 0 } }, .n_shared = 256 },
	{ 7, 1, 32, 0, 8, 1.0f, { { 520, 1, 0 }, { 513, 1, 0 }, { 600, 1, 0 } }, .n_shared = 512 },
	{ 4, 1, 16, 0, 0, 1.0f, { { 256, 1, 0 } }, .n_shared = 256, .n_alike = 40 },
	{ 4, 2, 16, 0, 8, 2.0f, { { 257, 1, 0 }, { 0, 40, 0 } }, .softcap = 1.0f, .has_sinks = true },
};

/* As SmolLM2-135M, Gemma 3 270M and Qwen2.5-0.5B decode and prefill. The long decode walks more KV
 * than a cache holds, as the layers of a model do. */
static const struct shape bench_shapes[] = {
	{ 9, 3, 64, 0, 0, 1.0f, { { 2047, 1, 0 } } },
	{ 9, 3, 64, 0, 0, 1.0f, { { 230399, 1, 0 } } },
	{ 4, 1, 256, 0, 0, 1.0f, { { 65535, 1, 0 } } },
	{ 14, 2, 64, 0, 0, 1.0f, { { 65535, 1, 0 } } },
	{ 14, 2, 64, 0, 32, 1.0f, { { 65535, 1, 0 } } },
	{ 14, 2, 64, 0, 8, 1.0f, { { 65535, 1, 0 } } },
	{ 9, 3, 64, 0, 0, 1.0f, { { 0, 512, 0 } } },
	{ 9, 3, 64, 0, 0, 1.0f, { { 2048, 512, 0 } } },
	{ 9, 3, 64, 0, 0, 1.0f, { { 7168, 512, 0 } } },
	{ 4, 1, 256, 512, 0, 1.0f, { { 2048, 512, 0 } } },
	{ 14, 2, 64, 0, 0, 1.0f, { { 2048, 512, 0 } } },
	{ 14, 2, 64, 0, 32, 1.0f, { { 2048, 512, 0 } } },
	{ 14, 2, 64, 0, 8, 1.0f, { { 2048, 512, 0 } } },
};

/* As Llama 3 8B: whole prompts; one token of each of many sequences, at several depths. */
static void bench_device(struct check *c, attention_fn *fn, enum bb_kv_dtype type) {
	static const int n_seqs[] = { 1, 8, 64 }, depths[] = { 2048, 8192, 32768 };
	static const int prompts[] = { 1024, 4096, 16384 };
	struct shape s = { 32, 8, 128, 0, 0, 1.0f, { { 0 } } };
	for (size_t i = 0; i < COUNT(prompts); i++) {
		s.seqs[0] = (struct seq_shape){ 0, check_shrunk(c, prompts[i]), 0 };
		check_shape(c, fn, &s, type);
	}
	for (size_t i = 0; i < COUNT(n_seqs) * COUNT(depths); i++) {
		const int depth = check_shrunk(c, depths[i / COUNT(n_seqs)]);
		s.n_alike = check_shrunk(c, n_seqs[i % COUNT(n_seqs)]);
		s.seqs[0] = (struct seq_shape){ depth - 1, 1, 0 };
		check_shape(c, fn, &s, type);
	}
}

static void check_any(struct check *c, attention_fn *fn, enum bb_kv_dtype type) {
	if (check_is_device_bench(c)) {
		bench_device(c, fn, type);
		return;
	}
	const struct shape *all = check_is_bench(c) ? bench_shapes
		: check_is_small(c) ? small_shapes : shapes;
	const size_t n = check_is_bench(c) ? COUNT(bench_shapes)
		: check_is_small(c) ? COUNT(small_shapes) : COUNT(shapes);
	for (size_t i = 0; i < n; i++) {
		check_shape(c, fn, &all[i], type);
	}
}

CHECK(attention_f32) {
	check_any(c, fn, KV_F32);
}

CHECK(attention_f16) {
	check_any(c, fn, KV_F16);
}

CHECK(attention_bf16) {
	check_any(c, fn, KV_BF16);
}

CHECK(attention_int8) {
	check_any(c, fn, KV_INT8);
}
