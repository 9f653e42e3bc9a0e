/* SPDX-License-Identifier: Apache-2.0
 *
 * Pages that the checks of KV kernels work on. */
#include "check_pages.h"

#include <assert.h>
#include <string.h>

enum { GAP = 192 }; /* bytes of a page before its first slab */

size_t values_at(const struct values *v, int i_seq, int t, int h) {
	const struct pages_shape *s = v->shape;
	return ((v->first[i_seq] + (size_t)t) * (size_t)s->n_kv_heads + (size_t)h)
		* (size_t)s->head_dim;
}

/* Some channels are outliers, some rows are zeros of both signs. None under --bench. */
void values_draw(struct check *c, struct values *v, const struct pages_shape *shape) {
	size_t n_tokens = 0;
	*v = (struct values){ .shape = shape };
	for (int i = 0; i < shape->n_seqs; i++) {
		v->first[i] = n_tokens;
		n_tokens += (size_t)shape->n_tokens[i % 4];
	}
	const size_t n = check_is_bench(c) ? 0
		: n_tokens * (size_t)shape->n_kv_heads * (size_t)shape->head_dim;
	v->k = check_in(c, n);
	v->v = check_in(c, n);
	for (size_t i = 0; i < n; i++) {
		const size_t d = i % (size_t)shape->head_dim, row = i / (size_t)shape->head_dim;
		v->k[i] *= d % 13 == 5 ? 4.0f : row % 17 == 3 ? 0.0f : 1.0f;
		v->v[i] *= d % 7 == 2 ? 3.0f : row % 17 == 4 ? 0.0f : 1.0f;
	}
}

int pages_capacity(const struct pages_shape *shape, int *capacity, int n_groups) {
	int most = 0;
	for (int i = 0; i < shape->n_seqs * n_groups; i++) {
		capacity[i] = shape->n_tokens[i / n_groups % 4];
		most = capacity[i] > most ? capacity[i] : most;
	}
	return most;
}

static void *const *const *make_table(struct check *c, uint8_t *bytes, size_t page_bytes, int n) {
	const int n_chunks = (n + BB_CHUNK - 1) / BB_CHUNK;
	void ***chunks = check_scratch(c, (size_t)n_chunks * sizeof(*chunks), 8);
	for (int i = 0; i < n_chunks; i++) {
		const int n_here = n - i * BB_CHUNK < BB_CHUNK ? n - i * BB_CHUNK : BB_CHUNK;
		chunks[i] = check_scratch(c, (size_t)n_here * sizeof(**chunks), 8);
		for (int p = 0; p < n_here; p++) {
			/* a page's tokens lie after those of the next one */
			chunks[i][p] = bytes + (size_t)(n - 1 - i * BB_CHUNK - p) * page_bytes;
		}
	}
	return (void *const *const *)chunks;
}

static int pages_of(int n_tokens) {
	return (n_tokens + BB_PAGE - 1) / BB_PAGE;
}

void pages_make(struct check *c, struct pages *p, const struct pages_shape *shape, int n_groups,
	const int *capacity, enum bb_kv_dtype type, const struct bb_kv_layout *layout) {
	const int n_runs = shape->n_seqs * n_groups, n_kv = shape->n_kv_heads;
	const int n_slabs = (n_kv + n_groups - 1) / n_groups;
	struct bb_kv_head *kv_heads = check_scratch(c, (size_t)n_kv * sizeof(*kv_heads), 8);
	*p = (struct pages){ .shape = shape,
		.slab_bytes = layout->slab_bytes(type, shape->head_dim, shape->group),
		.runs = check_scratch(c, (size_t)n_runs * sizeof(*p->runs), 8),
		.offsets = check_scratch(c, (size_t)n_kv * sizeof(size_t), 8),
		.bounds = check_scratch(c, (size_t)n_kv * sizeof(size_t), 8) };
	const size_t bounds_bytes = kv_bounds_bytes(shape->head_dim);
	p->page_bytes = (GAP + (size_t)n_slabs * (p->slab_bytes + bounds_bytes) + 63) & ~(size_t)63;
	for (int h = 0; h < n_kv; h++) {
		p->offsets[h] = GAP + (size_t)(h / n_groups) * p->slab_bytes;
		p->bounds[h] = GAP + (size_t)n_slabs * p->slab_bytes
			+ (size_t)(h / n_groups) * bounds_bytes;
		kv_heads[h] = (struct bb_kv_head){ h % n_groups, p->offsets[h] };
	}
	size_t n_pages = 0;
	p->a = (struct bb_kv_runs){ p->runs, kv_heads, shape->n_seqs, n_groups, n_kv,
		shape->head_dim, shape->group, type, layout, 0 };
	for (int i = 0; i < n_runs; i++) {
		n_pages += (size_t)pages_of(capacity[i]);
		p->a.max_tokens = capacity[i] > p->a.max_tokens ? capacity[i] : p->a.max_tokens;
	}
	p->n_bytes = n_pages * p->page_bytes;
	p->bytes = check_scratch(c, p->n_bytes, 64);
	if (!check_is_bench(c)) {
		memset(p->bytes, 0xff, p->n_bytes);
	} else if (!check_is_device_bench(c)) { /* floats of ordinary size */
		memset(p->bytes, 0x3c, p->n_bytes);
	}
	uint8_t *bytes = p->bytes;
	for (int i = 0; i < n_runs; i++) {
		const int n = pages_of(capacity[i]);
		p->runs[i] = (struct bb_kv_run){ { make_table(c, bytes, p->page_bytes, n), 0 }, capacity[i],
			0 };
		bytes += (size_t)n * p->page_bytes;
	}
}

uint8_t *pages_slab(const struct pages *p, uint8_t *bytes, int i_seq, int t, int h) {
	const struct bb_kv_head *head = &p->a.kv_heads[h];
	const struct bb_kept *kept = &p->runs[i_seq * p->a.n_groups + head->i_group].kept;
	return bytes + ((uint8_t *)kept_page(kept, t / BB_PAGE) - p->bytes) + head->slab_offset;
}

void pages_store(const struct pages *p, uint8_t *bytes, int i_seq, int t, int h, const float *k,
	const float *v) {
	p->a.layout->append(pages_slab(p, bytes, i_seq, t, h), p->a.type, p->a.head_dim, p->a.kv_group,
		t % BB_PAGE, k, v);
}

void pages_read(const struct pages *p, int i_seq, int t, int h, float *k, float *v) {
	p->a.layout->read(pages_slab(p, p->bytes, i_seq, t, h), p->a.type, p->a.head_dim,
		p->a.kv_group, t % BB_PAGE, k, v);
}

/* Where a group's run begins: a page's last slot, or a page; in the middle of a short sequence. */
static int run_begin(int room, int i_group) {
	const int page = room / 2 / BB_PAGE * BB_PAGE;
	return i_group % 2 != 0 ? page : page > 0 ? page - 1 : room / 2;
}

/* Sequence 1 has but one token in its run, sequence 3 none; the longest run, of sequence 0, needs
 * more pages, and more groups of rows, than its number of tokens alone. */
void pages_fill(struct check *c, struct pages *p, const struct values *v) {
	const bool is_bench = check_is_bench(c);
	int row0 = 0;
	p->a.max_tokens = 0;
	for (int i = p->shape->n_seqs - 1; i >= 0; i--) { /* rows of sequences in reverse order */
		const int room = p->shape->n_tokens[i % 4];
		for (int g = 0; g < p->a.n_groups; g++) {
			struct bb_kv_run *run = &p->runs[i * p->a.n_groups + g];
			const int begin = is_bench ? 0 : run_begin(room, g), rest = room - begin - room / 9;
			run->kept.n_before = begin;
			run->n_tokens = is_bench ? room : i == 3 ? 0 : i == 1 ? 1
				: i == 0 && rest > 16 ? rest & ~15 : rest;
			run->row0 = row0;
			p->a.max_tokens = run->n_tokens > p->a.max_tokens ? run->n_tokens : p->a.max_tokens;
			for (int h = g; h < p->a.n_kv_heads && !is_bench; h += p->a.n_groups) {
				for (int t = 0; t < begin + run->n_tokens; t++) {
					const size_t at = values_at(v, i, t, h);
					pages_store(p, p->bytes, i, t, h, v->k + at, v->v + at);
				}
			}
		}
		row0 += room;
	}
}

struct bb_kv_runs pages_alone(const struct pages *p, int i_seq) {
	struct bb_kv_runs a = p->a;
	a.runs += i_seq * a.n_groups;
	a.n_seqs = 1;
	return a;
}

bool check_is_padded(struct check *c) {
	return strcmp(check_kv_layout(c)->name, "kv_padded") == 0;
}

int check_kv_layouts(struct check *c, enum bb_kv_dtype type,
	const struct bb_kv_layout *layouts[MAX_PAGES_LAYOUTS]) {
	int n = 0;
	layouts[n++] = check_kv_layout(c);
	if (!check_is_padded(c) && !check_is_bench(c) && (cpu_flags() & BB_AVX2) != 0) {
		layouts[n++] = &layout_kv_lanes;
		if (type == KV_F16 || type == KV_BF16) {
			layouts[n++] = &layout_kv_pairs;
		}
	}
	return n;
}

static const struct pages_shape shapes[] = {
	{ 64, 0, 3, 1, 4, { 130, 70, 66, 40 } },
	{ 80, 32, 3, 2, 2, { 100, 63 } },
	{ 6, 0, 1, 1, 1, { 70 } },
	{ 20, 4, 2, 2, 3, { 65, 5, 1 } },
	{ 128, 8, 2, 1, 1, { 200 } },
	{ 256, 0, 1, 1, 1, { 67 } },
	{ 512, 32, 1, 1, 1, { 12 } },
	{ 8, 0, 1, 1, 1, { 4300 } },
};

int check_pages_shapes(struct check *c) {
	return check_is_bench(c) ? 1 : check_is_small(c) ? 5 : (int)COUNT(shapes);
}

struct pages_shape check_pages_shape(struct check *c, int i) {
	if (check_is_device_bench(c)) { /* a layer of Llama 3 8B */
		const int n = check_shrunk(c, 8192);
		return (struct pages_shape){ 128, 0, 8, 1, check_shrunk(c, 16), { n, n, n, n } };
	}
	return check_is_bench(c) ? (struct pages_shape){ 64, 0, 3, 1, 1, { 16384 } } : shapes[i];
}
