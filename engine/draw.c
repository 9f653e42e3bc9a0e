/* SPDX-License-Identifier: Apache-2.0
 *
 * Draws of a step. On the host they wait for its end and are the sampler's. On a device one copy
 * carries the parameters of all rows with their lists, the kernel reads logits where the step left
 * them, and one copy brings the results. */
#include "draw.h"

#include "sample.h"

#include <assert.h>
#include <string.h>

/* What the kernel gives for a row. */
enum { ROW_BYTES = 4 * (5 + 2 * BB_SAMPLE_TOP) };

static size_t round16(size_t n) {
	return (n + 15) / 16 * 16;
}

static int n_vocab_of(const struct bb_engine *e) {
	return hparam_int(&e->plan.hp, H_VOCAB);
}

bool draws_there(const struct bb_engine *e) {
	return !memory_is_host(&e->memory) && n_vocab_of(e) <= BB_SAMPLE_VOCAB;
}

static size_t mask_bytes(const struct bb_sampler *s, const struct bb_sample_params *p) {
	return p->mask != NULL ? ((size_t)s->n_vocab + 31) / 32 * sizeof(*p->mask) : 0;
}

static size_t list_bytes(const struct bb_sampler *s) {
	struct bb_sample_params p;
	sampler_params(s, 0, &p);
	return round16((size_t)p.n_counts * sizeof(*p.counts)) +
		round16((size_t)p.n_bias * sizeof(*p.bias)) + round16(mask_bytes(s, &p));
}

bool draws_create(struct bb_engine *e, struct bb_error *err) {
	struct draw_room *room = &e->draws;
	if (!draws_there(e)) {
		return true;
	}
	const size_t rows = (size_t)e->plan.max_rows;
	room->scratch_bytes = sample_scratch_bytes(e->plan.logits_rows, n_vocab_of(e));
	room->scratch = memory_map(&e->memory, room->scratch_bytes, "sampling", err);
	return room->scratch != NULL &&
		staging_resize(&e->memory, &room->out, (rows + 1) * ROW_BYTES, "sampling", err) &&
		staging_resize(&e->memory, &room->in, rows * round16(sizeof(struct bb_sample_params)),
			"sampling", err);
}

void draws_finish(struct bb_engine *e) {
	struct draw_room *room = &e->draws;
	staging_destroy(&e->memory, &room->in);
	staging_destroy(&e->memory, &room->out);
	memory_unmap(&e->memory, room->scratch, room->scratch_bytes);
	base_free(room->rows);
	memset(room, 0, sizeof(*room));
}

/* A place on the host for all logits of items with drafts. */
static bool reserve_rows(struct bb_engine *e, const struct bb_step_item *items, int n,
	struct bb_error *err) {
	struct draw_room *room = &e->draws;
	int rows = 0;
	for (int i = 0; i < n; i++) {
		rows += items[i].n_drafts > 0 ? 1 + items[i].n_drafts : 0;
	}
	if (rows <= room->max_rows) {
		return true;
	}
	const size_t floats = (size_t)rows * (size_t)n_vocab_of(e);
	base_free(room->rows);
	room->rows = base_alloc(floats, sizeof(float));
	room->max_rows = room->rows != NULL ? rows : 0;
	return room->rows != NULL || base_no_memory(err, "logits", floats * sizeof(float));
}

bool draws_reserve(struct bb_engine *e, const struct bb_step_item *items, int n,
	struct bb_error *err) {
	struct staging *in = &e->draws.in;
	for (int i = 0; i < n; i++) {
		if (items[i].sampler != NULL && !sampler_prepare(items[i].sampler, e, err)) {
			return false;
		}
	}
	if (!draws_there(e)) {
		return reserve_rows(e, items, n, err);
	}
	size_t bytes = (size_t)e->plan.max_rows * round16(sizeof(struct bb_sample_params));
	for (int i = 0; i < n; i++) {
		if (items[i].sampler != NULL) { /* behind drafts more tokens are counted */
			bytes += list_bytes(items[i].sampler) +
				round16((size_t)items[i].n_drafts * sizeof(struct bb_token_count));
		}
	}
	if (bytes <= in->bytes) {
		return true;
	}
	captures_drop(e); /* they know the old address */
	return staging_resize(&e->memory, in, bytes + bytes / 2, "sampling", err);
}

/* A list into the staged copy at *used; returns its address there. */
static const void *put_list(struct staging *in, size_t *used, const void *list, size_t bytes) {
	const size_t at = *used;
	assert(at + bytes <= in->bytes);
	if (bytes > 0) {
		memcpy(in->host + at, list, bytes);
	}
	*used += round16(bytes);
	return in->there + at;
}

static void put_params(struct staging *in, size_t *used, const struct draw *d,
	struct bb_sample_params *p) {
	sampler_params(d->sampler, d->token_index, p);
	const size_t n_mask = mask_bytes(d->sampler, p);
	p->counts = put_list(in, used, p->counts, (size_t)p->n_counts * sizeof(*p->counts));
	p->bias = put_list(in, used, p->bias, (size_t)p->n_bias * sizeof(*p->bias));
	p->mask = n_mask > 0 ? put_list(in, used, p->mask, n_mask) : NULL;
}

static bool is_drawn(const struct draw *d) {
	return d->sampler != NULL && !d->is_late;
}

void draws_send(struct bb_engine *e) {
	const struct batch *b = &e->batch;
	struct staging *in = &e->draws.in;
	if (b->n_draws == 0 || !draws_there(e)) {
		return;
	}
	struct bb_sample_params *params = (void *)in->host;
	size_t used = round16((size_t)b->n_out * sizeof(*params));
	for (int i = 0; i < b->n_out; i++) {
		if (is_drawn(&b->draws[i])) {
			put_params(in, &used, &b->draws[i], &params[i]);
		}
	}
	memory_in(&e->memory, in->there, in->host, used);
}

/* The results of rows from `row` on, in the copy that begins at `base`: arrays of n_out rows. */
static void results_at(struct bb_sample *a, uint8_t *base, int n_out, int row) {
	float *f = (float *)(void *)base;
	const size_t n = (size_t)n_out, r = (size_t)row;
	a->ids = (int32_t *)(void *)base + r;
	a->logprobs = f + n + r;
	a->entropies = f + 2 * n + r;
	a->confidences = f + 3 * n + r;
	a->certainties = f + 4 * n + r;
	a->top_ids = (int32_t *)(void *)base + 5 * n + r * BB_SAMPLE_TOP;
	a->top_logprobs = f + (5 + BB_SAMPLE_TOP) * n + r * BB_SAMPLE_TOP;
}

void draws_run(struct bb_engine *e, int i, int n) {
	const struct batch *b = &e->batch;
	const int n_vocab = n_vocab_of(e);
	if (b->n_draws == 0 || !draws_there(e)) {
		return;
	}
	for (int j = 0, end; j < n; j = end) {
		const bool draws = is_drawn(&b->draws[i + j]);
		for (end = j + 1; end < n && is_drawn(&b->draws[i + end]) == draws; end++) {
		}
		if (draws) {
			struct bb_sample a = {
				.logits = e->plan.acts[ACT_LOGITS] + (size_t)j * (size_t)n_vocab, .ld = n_vocab,
				.n_rows = end - j, .n_vocab = n_vocab,
				.params = (const struct bb_sample_params *)(void *)e->draws.in.there + i + j,
				.scratch = e->draws.scratch,
			};
			results_at(&a, e->draws.out.there, b->n_out, i + j);
			e->kernels.sample(e->memory.queue, &a);
		}
	}
}

void draws_fetch(struct bb_engine *e) {
	const struct staging *out = &e->draws.out;
	if (e->batch.n_draws > 0 && draws_there(e)) {
		memory_out(&e->memory, out->host, out->there, (size_t)e->batch.n_out * ROW_BYTES);
	}
}

/* Of `row` in the results at `base`, of n_out rows. */
static void read_row(const struct bb_engine *e, const struct bb_sampler *s, uint8_t *base,
	int n_out, int row, struct bb_sampled *out) {
	struct bb_sample a;
	results_at(&a, base, n_out, row);
	const int n_vocab = n_vocab_of(e), n_top = s->params.n_logprobs;
	out->id = a.ids[0];
	out->logprob = a.logprobs[0];
	out->confidence = a.confidences[0];
	out->certainty = a.certainties[0];
	out->n_top = n_top < n_vocab ? n_top : n_vocab;
	memcpy(out->top_ids, a.top_ids, (size_t)out->n_top * sizeof(*a.top_ids));
	memcpy(out->top_logprobs, a.top_logprobs, (size_t)out->n_top * sizeof(*a.top_logprobs));
}

/* What the step drew, or on the host draws now. */
static bool read_draw(struct bb_engine *e, int row, struct bb_sampled *out) {
	const struct draw *d = &e->batch.draws[row];
	if (draws_there(e)) {
		d->sampler->from = d->logits;
		read_row(e, d->sampler, e->draws.out.host, e->batch.n_out, row, out);
	} else {
		sampler_choose(d->sampler, e, d->logits, d->token_index, out);
	}
	if (out->id != BB_SAMPLE_ID_NONE) {
		sampler_count(d->sampler, out->id);
	}
	return out->id != BB_SAMPLE_ID_NONE;
}

bool draws_read(struct bb_engine *e, struct bb_error *err) {
	const struct batch *b = &e->batch;
	int refused = 0; /* where the first token stands that couldn't be drawn */
	for (int i = 0; b->n_draws > 0 && i < b->n_out; i++) {
		const struct draw *d = &b->draws[i];
		if (d->sampler != NULL && !d->is_ahead && !read_draw(e, i, d->out) && refused == 0) {
			refused = d->token_index;
		}
	}
	return refused == 0 || sampler_refuse(taps_has_edits(e), refused, err);
}

/* ---- behind drafts ---- */

bool draws_prepare(struct bb_engine *e, int row, int32_t draft) {
	const struct draw *d = &e->batch.draws[row];
	struct bb_error ignored = { 0 };
	/* of more rows than that the logits are gone */
	const bool is_there = !d->is_late || e->batch.n_out <= e->plan.logits_rows;
	return is_there && d->sampler->last == draft && sampler_prepare(d->sampler, e, &ignored);
}

/* One row by itself, whose results come behind those of the step. */
static bool draw_late(struct bb_engine *e, int row, struct bb_sampled *out, struct bb_error *err) {
	const struct draw *d = &e->batch.draws[row];
	struct draw_room *room = &e->draws;
	const size_t at = (size_t)e->plan.max_rows * ROW_BYTES;
	struct bb_sample_params *params = (void *)room->in.host;
	const int n_vocab = n_vocab_of(e);
	size_t used = round16(sizeof(*params));
	put_params(&room->in, &used, d, params);
	memory_in(&e->memory, room->in.there, room->in.host, used);
	struct bb_sample a = {
		.logits = e->plan.acts[ACT_LOGITS] + (size_t)row * (size_t)n_vocab, .ld = n_vocab,
		.n_rows = 1, .n_vocab = n_vocab, .params = (const void *)room->in.there,
		.scratch = room->scratch,
	};
	results_at(&a, room->out.there + at, 1, 0);
	e->kernels.sample(e->memory.queue, &a);
	memory_out(&e->memory, room->out.host + at, room->out.there + at, ROW_BYTES);
	if (!memory_wait(&e->memory, err)) {
		return false;
	}
	read_row(e, d->sampler, room->out.host + at, 1, 0, out);
	if (out->id != BB_SAMPLE_ID_NONE) {
		sampler_count(d->sampler, out->id);
	}
	return true;
}

bool draws_follow(struct bb_engine *e, int row, struct bb_sampled *out, struct bb_error *err) {
	const struct draw *d = &e->batch.draws[row];
	if (!d->is_late) {
		read_draw(e, row, out);
	} else if (!draw_late(e, row, out, err)) {
		return false;
	}
	return out->id != BB_SAMPLE_ID_NONE ||
		sampler_refuse(taps_has_edits(e), d->token_index, err);
}
