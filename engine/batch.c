/* SPDX-License-Identifier: Apache-2.0
 *
 * Composes a step's arrays: rows, sequences, page tables. On a device they are sent as one image,
 * the arrays first, at addresses that follow from the numbers of rows, sequences and shares alone,
 * so that a captured step finds them there again; then the page tables. */
#include "sample.h"

#include <assert.h>
#include <string.h>

enum { CHUNK_BYTES = BB_CHUNK * sizeof(void *), CHUNK_TOKENS = BB_CHUNK * BB_PAGE };

static size_t round64(size_t n) {
	return (n + 63) & ~(size_t)63;
}

static size_t n_kv_places(const struct bb_engine *e) {
	return e->plan.n_paged == 0 ? 0
		: (size_t)e->plan.n_layers * (size_t)hparam_int(&e->plan.hp, H_KV_HEADS);
}

/* States to keep on the way that a step of n_rows rows in all can have. */
static size_t most_saves(const struct bb_engine *e, size_t n_rows) {
	return e->plan.state_floats > 0 ? n_rows / STATE_EVERY + n_rows : 0;
}

size_t batch_scratch_bytes(const struct bb_engine *e) {
	const struct bb_hparams *hp = &e->plan.hp;
	if (e->plan.n_paged == 0) {
		return 64; /* there is no attention */
	}
	const int n_heads = hparam_int(hp, H_HEADS), head_dim = hparam_int(hp, H_HEAD);
	const struct bb_kv_layout *layout = engine_kv_layout(e, e->kv_type);
	return layout->scratch_bytes != NULL
		? layout->scratch_bytes(e->plan.max_rows, capture_kept(e->max_len), n_heads, head_dim)
		: attention_scratch_bytes(e->plan.max_rows, e->n_threads, n_heads, head_dim);
}

/* ---- memory ---- */

/* Everything but page tables, for n_rows rows. */
static size_t arrays_bytes(const struct bb_engine *e, int n_rows) {
	const size_t rows = (size_t)n_rows;
	const size_t per_kind = round64(rows * sizeof(struct bb_attention_seq)) +
		round64(rows / 2 * sizeof(struct bb_attention_seq)) +
		round64(rows * sizeof(struct bb_kept));
	const size_t states = e->plan.state_floats == 0 ? 0
		: round64(rows * sizeof(struct bb_state_seq)) +
		round64(most_saves(e, rows) * sizeof(struct bb_state_save));
	return states + 3 * round64(rows * sizeof(int32_t)) + round64(n_kv_places(e) *
		sizeof(struct bb_kv_head)) + (size_t)e->plan.n_paged * per_kind;
}

static bool image_create(struct bb_engine *e, size_t bytes, struct bb_error *err) {
	return staging_resize(&e->memory, &e->batch.image.copy, bytes, "page tables", err);
}

bool batch_create(struct bb_engine *e, struct bb_error *err) {
	struct batch *b = &e->batch;
	struct batch_arrays *a = &b->on_host;
	const size_t rows = (size_t)e->plan.max_rows;
	a->ids = base_alloc(rows, sizeof(*a->ids));
	a->pos = base_alloc(rows, sizeof(*a->pos));
	a->out_row = base_alloc(rows, sizeof(*a->out_row));
	a->kv_heads = base_alloc(n_kv_places(e) + 1, sizeof(*a->kv_heads));
	a->states = base_alloc(rows, sizeof(*a->states));
	a->saves = base_alloc(most_saves(e, rows) + 1, sizeof(*a->saves));
	b->logits = base_alloc(rows, sizeof(*b->logits));
	b->draws = base_alloc(rows, sizeof(*b->draws));
	b->order = base_alloc(rows, sizeof(*b->order));
	b->vector_rows = base_alloc(rows, sizeof(*b->vector_rows));
	b->hidden_rows = base_alloc(rows, sizeof(*b->hidden_rows));
	b->hidden = base_alloc(rows, sizeof(*b->hidden));
	bool ok = a->ids != NULL && a->pos != NULL && a->out_row != NULL && a->kv_heads != NULL &&
		a->states != NULL && a->saves != NULL && b->logits != NULL && b->draws != NULL &&
		b->order != NULL && b->vector_rows != NULL && b->hidden_rows != NULL && b->hidden != NULL;
	for (int i = 0; i < e->plan.n_paged; i++) {
		a->seqs[i] = base_alloc(rows, sizeof(*a->seqs[i]));
		a->kept[i] = base_alloc(rows, sizeof(*a->kept[i]));
		a->shares[i] = base_alloc(rows / 2 + 1, sizeof(*a->shares[i]));
		ok = ok && a->seqs[i] != NULL && a->kept[i] != NULL && a->shares[i] != NULL;
	}
	if (!ok) {
		return base_no_memory(err, "batch", rows * sizeof(*a->seqs[0]));
	}
	b->at = *a;
	b->scratch_bytes = batch_scratch_bytes(e);
	b->scratch = memory_map(&e->memory, b->scratch_bytes, "attention scratch", err);
	if (b->scratch == NULL) {
		return false;
	}
	const size_t some_tables = 64 * CHUNK_BYTES;
	return memory_is_host(&e->memory) ||
		image_create(e, arrays_bytes(e, e->plan.max_rows) + some_tables, err);
}

void batch_finish(struct bb_engine *e) {
	struct batch *b = &e->batch;
	for (int i = 0; i < MAX_LAYER_KINDS; i++) {
		base_free(b->on_host.seqs[i]);
		base_free(b->on_host.kept[i]);
		base_free(b->on_host.shares[i]);
	}
	base_free(b->on_host.kv_heads);
	base_free(b->on_host.states);
	base_free(b->on_host.saves);
	base_free(b->on_host.ids);
	base_free(b->on_host.pos);
	base_free(b->on_host.out_row);
	base_free(b->logits);
	base_free(b->draws);
	base_free(b->order);
	base_free(b->vector_rows);
	base_free(b->hidden_rows);
	base_free(b->hidden);
	staging_destroy(&e->memory, &b->vector_room);
	staging_destroy(&e->memory, &b->image.copy);
	memory_unmap(&e->memory, b->scratch, b->scratch_bytes);
	memset(b, 0, sizeof(*b));
}

/* ---- the image ---- */

static int n_chunks(int n_tokens) {
	return (int)(((int64_t)n_tokens + CHUNK_TOKENS - 1) / CHUNK_TOKENS);
}

/* Room for the vectors of these items. Their order follows from their number alone. */
static bool reserve_vectors(struct bb_engine *e, const struct bb_step_item *items, int n_items,
	struct bb_error *err) {
	struct batch *b = &e->batch;
	size_t n = 0;
	for (int i = 0; i < n_items; i++) {
		n += vectors_count(items[i].tokens, (size_t)items[i].n_tokens);
	}
	if (n <= (size_t)b->max_vectors) {
		return true;
	}
	const size_t most = (size_t)e->plan.max_rows, cap = 2 * n < most ? 2 * n : most;
	const size_t bytes = cap * (size_t)hparam_int(&e->plan.hp, H_EMBD) * sizeof(float);
	if (!staging_resize(&e->memory, &b->vector_room, bytes + cap * sizeof(int32_t), "vectors",
		err)) {
		return false;
	}
	b->max_vectors = (int)cap;
	return true;
}

bool batch_reserve(struct bb_engine *e, const struct bb_step_item *items, int n_items,
	struct bb_error *err) {
	if (!reserve_vectors(e, items, n_items, err)) {
		return false;
	}
	if (memory_is_host(&e->memory)) {
		return true;
	}
	size_t bytes = arrays_bytes(e, e->plan.max_rows);
	for (int i = 0; i < n_items; i++) {
		const int n = n_chunks(bb_context_length(items[i].context) + items[i].n_tokens);
		bytes += (size_t)e->plan.n_paged * ((size_t)n * CHUNK_BYTES +
			round64((size_t)n * sizeof(void *)));
	}
	if (bytes <= e->batch.image.copy.bytes) {
		return true;
	}
	struct bb_error ignored = { 0 };
	if (!image_create(e, bytes + bytes / 2, &ignored) && !image_create(e, bytes, err)) {
		return false;
	}
	captures_drop(e); /* they know the old addresses */
	return true;
}

/* Room for n bytes in the image; returns its offset. */
static size_t put(struct batch_image *im, const void *data, size_t n) {
	const size_t at = im->used;
	assert(at + n <= im->copy.bytes);
	if (data != NULL) {
		memcpy(im->copy.host + at, data, n);
	}
	im->used += round64(n);
	return at;
}

/* A page table with its chunks; returns the address of its list there. */
static void *put_table(struct batch_image *im, const struct bb_kept *kept, int n_tokens) {
	const int n = n_chunks(n_tokens);
	const size_t list = put(im, NULL, (size_t)n * sizeof(void *));
	void **chunks = (void **)(void *)(im->copy.host + list);
	for (int i = 0; i < n; i++) {
		chunks[i] = kept->chunks[i] != NULL
			? im->copy.there + put(im, kept->chunks[i], CHUNK_BYTES) : NULL;
	}
	return im->copy.there + list;
}

static void *put_array(struct batch_image *im, const void *data, size_t n) {
	return im->copy.there + put(im, data, n);
}

/* A captured step has no saves, so what follows lies at the same addresses. */
static void send_states(struct batch *b, struct batch_image *im) {
	const struct batch_arrays *from = &b->on_host;
	const size_t seqs = (size_t)b->n_seqs, saves = (size_t)b->n_saves;
	const size_t at = put(im, from->states, seqs * sizeof(*from->states));
	b->at.states = (void *)(im->copy.there + at);
	b->at.saves = put_array(im, from->saves, saves * sizeof(*from->saves));
	struct bb_state_seq *seq = (void *)(im->copy.host + at);
	for (size_t i = 0; i < seqs; i++) {
		seq[i].saves = b->at.saves + (seq[i].saves - from->saves);
	}
}

static void send(struct bb_engine *e) {
	struct batch *b = &e->batch;
	const struct batch_arrays *from = &b->on_host;
	struct batch_image *im = &b->image;
	const size_t rows = (size_t)b->n_rows, seqs = (size_t)b->n_seqs;
	const size_t shares = (size_t)b->n_shares;
	size_t kept[MAX_LAYER_KINDS], places[MAX_LAYER_KINDS], shared[MAX_LAYER_KINDS];
	im->used = 0;
	b->at.ids = put_array(im, from->ids, rows * sizeof(*from->ids));
	b->at.pos = put_array(im, from->pos, rows * sizeof(*from->pos));
	b->at.out_row = put_array(im, from->out_row, rows * sizeof(*from->out_row));
	b->at.kv_heads = put_array(im, from->kv_heads, n_kv_places(e) * sizeof(*from->kv_heads));
	if (e->plan.state_floats > 0) {
		send_states(b, im);
	}
	for (int kind = 0; kind < e->plan.n_paged; kind++) {
		places[kind] = put(im, from->seqs[kind], seqs * sizeof(*from->seqs[kind]));
		kept[kind] = put(im, from->kept[kind], seqs * sizeof(*from->kept[kind]));
		shared[kind] = put(im, from->shares[kind], shares * sizeof(*from->shares[kind]));
		b->at.seqs[kind] = (void *)(im->copy.there + places[kind]);
		b->at.shares[kind] = (void *)(im->copy.there + shared[kind]);
		b->at.kept[kind] = (void *)(im->copy.there + kept[kind]);
	}
	for (int kind = 0; kind < e->plan.n_paged; kind++) {
		struct bb_attention_seq *seq = (void *)(im->copy.host + places[kind]);
		struct bb_kept *k = (void *)(im->copy.host + kept[kind]);
		for (size_t i = 0; i < seqs; i++) {
			seq[i].groups = b->at.kept[kind] + i;
			k[i].chunks = put_table(im, &k[i], k[i].n_before + seq[i].n_rows);
		}
		struct bb_attention_seq *share = (void *)(im->copy.host + shared[kind]);
		for (size_t i = 0; i < shares; i++) {
			share[i].groups = b->at.kept[kind] + share[i].row0;
		}
	}
	memory_in(&e->memory, im->copy.there, im->copy.host, im->used);
}

/* ---- composing ---- */

/* A page holds the slabs of all layers of its kind, and of all their heads. */
static void place_heads(struct bb_engine *e) {
	const int n_kv_heads = hparam_int(&e->plan.hp, H_KV_HEADS);
	const size_t slab_bytes = engine_slab_bytes(e, e->batch.kv_type);
	struct bb_kv_head *place = e->batch.on_host.kv_heads;
	for (int i = 0; i < e->plan.n_layers; i++) {
		const size_t first = (size_t)e->plan.layer_index[i] * (size_t)n_kv_heads;
		for (int h = 0; h < n_kv_heads; h++) {
			*place++ = (struct bb_kv_head){
				.i_group = 0, .slab_offset = (first + (size_t)h) * slab_bytes,
			};
		}
	}
}

/* The step's vectors, in the order of their rows, and that order behind them. */
static void put_vectors(struct bb_engine *e) {
	struct batch *b = &e->batch;
	const size_t n = (size_t)b->n_vectors, width = (size_t)hparam_int(&e->plan.hp, H_EMBD);
	float *rows = (float *)(void *)b->vector_room.host;
	int32_t *order = (int32_t *)(void *)(rows + n * width);
	for (size_t i = 0; i < n; i++) {
		int32_t *id = &b->on_host.ids[b->vector_rows[i]];
		vectors_read(e->vectors, id, 1, rows + i * width);
		order[i] = (int32_t)i;
		*id = 0;
	}
	b->vectors_at = (float *)(void *)b->vector_room.there;
	b->vector_order = (int32_t *)(void *)(b->vectors_at + n * width);
	memory_in(&e->memory, b->vectors_at, rows, n * (width * sizeof(*rows) + sizeof(*order)));
}

/* Logits behind token t of the item are drawn from: on the host they need a place. */
static void add_draw(struct bb_engine *e, const struct bb_step_item *item, int t) {
	struct batch *b = &e->batch;
	struct bb_sampler *s = item->sampler;
	const bool is_ahead = t >= item->n_tokens - item->n_drafts;
	if (b->logits[b->n_out] == NULL && !draws_there(e)) {
		b->logits[b->n_out] = item->n_drafts == 0 ? s->row
			: e->draws.rows + (size_t)b->n_draft_rows++ * (size_t)s->n_vocab;
	}
	b->draws[b->n_out] = (struct draw){
		.sampler = s, .out = item->sampled, .logits = b->logits[b->n_out],
		.token_index = bb_context_length(item->context) + t + 1, .is_ahead = is_ahead,
		.is_late = is_ahead && draws_there(e) && !sampler_is_steady(s),
	};
	b->n_draws++;
}

static void add_state(struct batch *b, const struct bb_step_item *item, int i_seq) {
	const struct bb_context *c = item->context;
	struct bb_state_save *saves = b->on_host.saves + b->n_saves;
	for (int i = 0; i < c->n_saves; i++) {
		saves[i] = (struct bb_state_save){ c->saves[i].n_tokens - bb_context_length(c),
			c->saves[i].state->data };
	}
	b->on_host.states[i_seq] = (struct bb_state_seq){
		.from = c->state != NULL ? c->state->data : NULL, .to = c->next_state->data,
		.saves = saves, .n_saves = c->n_saves, .row0 = b->n_rows, .n_rows = item->n_tokens,
	};
	b->n_saves += c->n_saves;
}

static void add_item(struct bb_engine *e, const struct bb_step_item *item, int i_seq) {
	struct batch *b = &e->batch;
	struct batch_arrays *a = &b->on_host;
	const size_t n_vocab = (size_t)hparam_int(&e->plan.hp, H_VOCAB);
	const int pos0 = bb_context_length(item->context), end = pos0 + item->n_tokens;
	float *logits = item->logits;
	b->max_kept = end > b->max_kept ? end : b->max_kept;
	for (int kind = 0; kind < e->plan.n_paged; kind++) {
		a->kept[kind][i_seq] = (struct bb_kept){
			(void *const *const *)item->context->tables[kind].chunks, pos0,
		};
		a->seqs[kind][i_seq] = (struct bb_attention_seq){
			.groups = &a->kept[kind][i_seq], .row0 = b->n_rows, .n_rows = item->n_tokens,
		};
	}
	if (e->plan.state_floats > 0) {
		add_state(b, item, i_seq);
	}
	for (int t = 0; t < item->n_tokens; t++) {
		const bool is_last = t == item->n_tokens - 1;
		const bool is_drawn = item->sampler != NULL && t >= item->n_tokens - 1 - item->n_drafts;
		if ((logits != NULL && (item->all_logits || is_last)) || is_drawn) {
			b->logits[b->n_out] = logits;
			b->draws[b->n_out] = (struct draw){ 0 };
			if (is_drawn) {
				add_draw(e, item, t);
			}
			a->out_row[b->n_out++] = b->n_rows;
			logits = logits != NULL ? logits + n_vocab : NULL;
		}
		if (vectors_is(item->tokens[t])) {
			b->vector_rows[b->n_vectors++] = b->n_rows;
		}
		a->ids[b->n_rows] = item->tokens[t];
		a->pos[b->n_rows++] = pos0 + t;
	}
	if (item->hidden != NULL) {
		b->hidden_rows[b->n_hidden] = b->n_rows - 1;
		b->hidden[b->n_hidden++] = item->hidden;
	}
}

/* Of the first n pages, how many are the same, from the first on. */
static int common_pages(const struct kv_table *a, const struct kv_table *b, int n) {
	int i = 0;
	while (i < n) {
		void **p = a->chunks[i / BB_CHUNK], **q = b->chunks[i / BB_CHUNK];
		if (p != q && p[i % BB_CHUNK] != q[i % BB_CHUNK]) {
			return i;
		}
		i = p == q ? (i / BB_CHUNK + 1) * BB_CHUNK : i + 1;
	}
	return n;
}

/* Tokens, whole pages, that two contexts have in common in every kind of layer that sees all
 * tokens. */
static int common_tokens(const struct bb_engine *e, const struct bb_context *a,
	const struct bb_context *b) {
	const int m = bb_context_length(a), n = bb_context_length(b);
	int pages = (m < n ? m : n) / BB_PAGE;
	bool is_compared = false;
	for (int kind = 0; kind < e->plan.n_paged; kind++) {
		if (e->plan.kinds[kind].window == 0) {
			pages = common_pages(&a->tables[kind], &b->tables[kind], pages);
			is_compared = true;
		}
	}
	return is_compared ? pages * BB_PAGE : 0;
}

static int whole_splits(int n_tokens) {
	return n_tokens / BB_SPLIT * BB_SPLIT;
}

static void add_share(struct bb_engine *e, int first, int n, int n_common) {
	const int n_shared = whole_splits(n_common);
	struct batch *b = &e->batch;
	struct batch_arrays *a = &b->on_host;
	for (int kind = 0; kind < e->plan.n_paged; kind++) {
		a->shares[kind][b->n_shares] = (struct bb_attention_seq){
			.groups = &a->kept[kind][first], .row0 = first, .n_rows = n, .n_shared = n_shared,
			.n_common = n_common,
		};
		for (int i = first; i < first + n; i++) {
			a->seqs[kind][i].n_shared = n_shared;
		}
	}
	b->n_shares++;
	b->n_shared_rows += n;
}

/* Contexts that follow one another, of n items with one row each, and begin alike, each as the
 * first of its run, which ends where what they have in common would shrink to less than half, and
 * where two begin that have more than twice as much. */
static void find_shares(struct bb_engine *e, const struct bb_step_item *items, int n) {
	const int *order = e->batch.order;
	for (int i = 0, end; i + 1 < n; i = end) {
		const struct bb_context *first = items[order[i]].context;
		int n_common = common_tokens(e, first, items[order[i + 1]].context);
		for (end = i + 1; end < n; end++) {
			const struct bb_context *c = items[order[end]].context;
			const int here = common_tokens(e, first, c), n_shared = whole_splits(n_common);
			const int deeper = end + 1 < n ? common_tokens(e, c, items[order[end + 1]].context) : 0;
			if (n_shared == 0 || whole_splits(here) < n_shared / 2 ||
				whole_splits(deeper) / 2 > n_shared) {
				break;
			}
			n_common = here < n_common ? here : n_common;
		}
		if (end > i + 1) {
			add_share(e, i, end - i, n_common);
		}
	}
}

/* The first kind of layer that sees all tokens; -1: there is none. */
static int full_kind(const struct bb_engine *e) {
	int kind = 0;
	while (kind < e->plan.n_paged && e->plan.kinds[kind].window > 0) {
		kind++;
	}
	return kind < e->plan.n_paged ? kind : -1;
}

/* Whether the pages of a kind, as a list of addresses, come before those of the other context;
 * items of several rows come last. */
static bool comes_before(const struct bb_step_item *a, const struct bb_step_item *b, int kind) {
	const struct kv_table *p = &a->context->tables[kind], *q = &b->context->tables[kind];
	const int most = p->n_pages < q->n_pages ? p->n_pages : q->n_pages;
	if (a->n_tokens > 1 || b->n_tokens > 1) {
		return a->n_tokens == 1 && b->n_tokens > 1;
	}
	const int i = common_pages(p, q, most);
	return i < most && (uintptr_t)kv_page(p, i) < (uintptr_t)kv_page(q, i);
}

/* Lists items so that contexts with common pages follow one another, and those of one row come
 * first, by Shell's sort, which needs no memory. */
static void sort_items(struct bb_engine *e, const struct bb_step_item *items, int n_items,
	int kind) {
	int *order = e->batch.order;
	for (int gap = n_items / 2; gap > 0; gap /= 2) {
		for (int i = gap; i < n_items; i++) {
			const int item = order[i];
			int at = i;
			while (at >= gap && comes_before(&items[item], &items[order[at - gap]], kind)) {
				order[at] = order[at - gap];
				at -= gap;
			}
			order[at] = item;
		}
	}
}

/* In which order the items' sequences lie; returns how many of the first ones, which have one row
 * each, may share pages. Taps know the callers' order. */
static int arrange(struct bb_engine *e, const struct bb_step_item *items, int n_items) {
	const int kind = full_kind(e);
	int n_single = 0;
	for (int i = 0; i < n_items; i++) {
		e->batch.order[i] = i;
		n_single += items[i].n_tokens == 1;
	}
	if (n_single < 2 || kind < 0 || e->taps != NULL) {
		return 0;
	}
	sort_items(e, items, n_items, kind);
	return n_single;
}

void batch_compose(struct bb_engine *e, const struct bb_step_item *items, int n_items) {
	struct batch *b = &e->batch;
	b->n_rows = b->n_out = b->n_draws = b->n_draft_rows = b->max_kept = 0;
	b->n_shares = b->n_shared_rows = b->n_saves = b->n_vectors = b->n_hidden = 0;
	b->n_seqs = n_items;
	b->kv_type = items[0].context->kv_type;
	if (e->plan.n_paged > 0) {
		place_heads(e);
	}
	b->n_single = arrange(e, items, n_items);
	for (int i = 0; i < n_items; i++) {
		add_item(e, &items[b->order[i]], i);
	}
	for (int i = 0; i < b->n_hidden; i++) {
		b->on_host.out_row[b->n_out + i] = b->hidden_rows[i];
	}
	find_shares(e, items, b->n_single);
	if (b->n_vectors > 0) {
		put_vectors(e);
	}
	if (!memory_is_host(&e->memory)) {
		send(e);
	}
}
