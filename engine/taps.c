/* SPDX-License-Identifier: Apache-2.0
 *
 * Taps and edits: attaching them, and what happens behind each op of a step. Rows are copied out,
 * changed, copied in, wherever the step is computed, so that devices need no kernels for it; the
 * room for that is had when they are attached. */
#include "engine.h"
#include "form.h"

#include <assert.h>
#include <float.h>
#include <math.h>
#include <string.h>

struct tap {
	struct tap_place place;
	struct bb_tap_site site;
	struct bb_tap request;
};

struct edit {
	struct tap_place place;
	struct bb_tap_site site;
	struct bb_edit request;
	float *add;     /* [n_parts, width]; NULL: it scales */
	int i_request;  /* whose edit this is, at one of its sites */
	int64_t n_rows; /* changed so far */
};

struct attention_tap {
	const struct plan_op *op;
	int layer;
	struct bb_attention_tap request;
};

struct taps {
	struct tap *taps;               /* [n_taps] */
	struct edit *edits;             /* [n_edits] */
	struct attention_tap *attention; /* [n_attention] */
	int n_taps, n_edits, n_attention;
	float *room;                    /* [room_floats]: rows on their way */
	size_t room_floats;
	/* of attention, else NULL: */
	int max_tokens;
	float *keys;                    /* [max_tokens, head_dim] of a KV head */
	double *scores;                 /* [max_tokens] */
	float *weights;                 /* [max_tokens] */
	uint8_t *slab;
	/* of the step that is under way: */
	const struct bb_step_item *items;
	int n_items;
	struct bb_error *err;           /* the step's */
	bool has_failed;
};

/* ---- rows ---- */

/* Rows of a context in a matrix of a step. */
struct stretch {
	const struct bb_context *context;
	int first;        /* token */
	int row0, n_rows;
};

/* The rows of item i, which follow those of the items before; row0 is where they begin, and becomes
 * where they end. `wanted`: those with wanted logits alone. */
static struct stretch stretch_of(const struct bb_step_item *item, bool wanted, int *row0) {
	const bool has_last = item->logits != NULL || item->sampler != NULL;
	const int n = !wanted || (item->logits != NULL && item->all_logits) ? item->n_tokens : has_last;
	const struct stretch s = { item->context,
		bb_context_length(item->context) + item->n_tokens - n, *row0, n };
	*row0 += n;
	return s;
}

/* The part of it that a request for tokens [first, first + n), n 0: without an end, is for and that
 * lies in rows [row0, end). */
static struct stretch part_of(struct stretch s, int first, int n, int row0, int end) {
	const int64_t last = n > 0 ? (int64_t)first + n - s.first : s.n_rows;
	int stop = last < s.n_rows ? (int)last : s.n_rows;
	stop = end - s.row0 < stop ? end - s.row0 : stop;
	int skip = first > s.first ? first - s.first : 0;
	skip = row0 - s.row0 > skip ? row0 - s.row0 : skip;
	skip = skip < s.n_rows ? skip : s.n_rows;
	return (struct stretch){ s.context, s.first + skip, s.row0 + skip,
		stop > skip ? stop - skip : 0 };
}

/* What goes wrong is said at the first wait behind it, so here and not at the step's end. */
static bool wait_for(const struct bb_engine *e) {
	struct taps *t = e->taps;
	t->has_failed = !memory_wait(&e->memory, t->err) || t->has_failed;
	return !t->has_failed;
}

static bool copy_out(const struct bb_engine *e, const void *from, size_t bytes, void *to) {
	memory_out(&e->memory, to, from, bytes);
	return wait_for(e);
}

/* What an op has computed: rows [row0, end) of a matrix, the first of them at `at`. */
struct output {
	const struct plan_op *op;
	float *at;
	int row0, end;
	bool is_wanted; /* its rows are those with wanted logits */
};

/* Floats that a row of a site has in memory, gaps included; the last one's gap isn't read. */
static size_t row_floats(const struct tap_place *place, const struct bb_tap_site *site) {
	const size_t ld = place->at != NULL ? (size_t)place->ld : (size_t)site->width;
	return (size_t)site->n_parts * ld;
}

static float *rows_at(const struct output *out, const struct tap_place *place,
	const struct bb_tap_site *site, int row) {
	return out->at + (size_t)(row - out->row0) * row_floats(place, site);
}

/* Bytes of n rows, as far as the last column of the site. */
static size_t rows_bytes(const struct tap_place *place, const struct bb_tap_site *site, int n) {
	const size_t width = (size_t)site->width, each = row_floats(place, site);
	const size_t gap = each / (size_t)site->n_parts - width;
	return ((size_t)n * each - gap) * sizeof(float);
}

static int rows_in_room(const struct taps *t, const struct tap_place *place,
	const struct bb_tap_site *site, int n) {
	const size_t most = t->room_floats / row_floats(place, site);
	return (size_t)n < most ? n : (int)most;
}

/* ---- taps ---- */

/* Rows [row, row + n) of a site into the room, dense. */
static bool gather(const struct bb_engine *e, const struct output *out,
	const struct tap_place *place, const struct bb_tap_site *site, int row, int n) {
	float *room = e->taps->room;
	const size_t width = (size_t)site->width;
	const size_t ld = row_floats(place, site) / (size_t)site->n_parts;
	if (!copy_out(e, rows_at(out, place, site, row), rows_bytes(place, site, n), room)) {
		return false;
	}
	for (size_t i = 1; i < (size_t)n * (size_t)site->n_parts && ld > width; i++) {
		memmove(room + i * width, room + i * ld, width * sizeof(*room));
	}
	return true;
}

static void show(struct bb_engine *e, const struct output *out, const struct tap *tap) {
	struct taps *t = e->taps;
	int row0 = 0;
	for (int i = 0; i < t->n_items; i++) {
		const struct stretch all = stretch_of(&t->items[i], out->is_wanted, &row0);
		const struct stretch s = part_of(all, tap->request.first, tap->request.n_tokens, out->row0,
			out->end);
		for (int done = 0, n; done < s.n_rows; done += n) {
			n = rows_in_room(t, &tap->place, &tap->site, s.n_rows - done);
			if (!gather(e, out, &tap->place, &tap->site, s.row0 + done, n)) {
				return;
			}
			const struct bb_tap_rows rows = { &tap->site, s.context, s.first + done, n, t->room };
			tap->request.fn(tap->request.user, &rows);
		}
	}
}

/* ---- edits ---- */

static void edit_row(const struct edit *d, float *row, size_t ld) {
	const size_t width = (size_t)d->site.width;
	const bool is_head = d->request.kind == BB_EDIT_SCALE && d->request.head >= 0;
	const size_t head = is_head ? width / (size_t)d->site.n_heads : width;
	const size_t first = is_head ? (size_t)d->request.head * head : 0, end = first + head;
	for (size_t part = 0; part < (size_t)d->site.n_parts; part++) {
		float *x = row + part * ld;
		for (size_t c = 0; c < width && d->request.kind == BB_EDIT_ADD; c++) {
			x[c] += d->add[part * width + c];
		}
		for (size_t c = first; c < end && d->request.kind == BB_EDIT_SCALE; c++) {
			x[c] *= d->request.factor;
		}
	}
}

/* Norms and products behind a site sum squares of a row in f32. An infinite sum would make a row of
 * zeros of it, and so finite logits that mean nothing. */
static bool is_sound(const struct edit *d, const float *row, size_t ld) {
	double sum = 0;
	bool is_finite = true;
	for (size_t part = 0; part < (size_t)d->site.n_parts; part++) {
		for (size_t c = 0; c < (size_t)d->site.width; c++) {
			const float x = row[part * ld + c];
			is_finite = is_finite && isfinite(x);
			sum += (double)x * (double)x;
		}
	}
	return is_finite && (d->place.act == ACT_LOGITS || sum < (double)FLT_MAX);
}

/* The first sentence stays, as of a device's errors. */
static void refuse_row(struct taps *t, const struct edit *d, int token) {
	if (!t->has_failed) {
		base_fail(t->err, BB_ERR_INPUT, "%s: an edit makes the row of token %d %s", d->site.full,
			token, d->place.act == ACT_LOGITS ? "NaN or infinite, expected finite numbers"
			: "too large for f32, expected finite numbers whose squares have a finite sum");
	}
	t->has_failed = true;
}

static void change(struct bb_engine *e, const struct output *out, struct edit *d) {
	struct taps *t = e->taps;
	const size_t each = row_floats(&d->place, &d->site);
	int row0 = 0;
	for (int i = 0; i < t->n_items; i++) {
		const struct stretch all = stretch_of(&t->items[i], out->is_wanted, &row0);
		const struct stretch s = part_of(all, d->request.first, d->request.n_tokens, out->row0,
			out->end);
		for (int done = 0, n; done < s.n_rows; done += n) {
			n = rows_in_room(t, &d->place, &d->site, s.n_rows - done);
			float *at = rows_at(out, &d->place, &d->site, s.row0 + done);
			const size_t bytes = rows_bytes(&d->place, &d->site, n);
			if (!copy_out(e, at, bytes, t->room)) {
				return;
			}
			for (size_t r = 0; r < (size_t)n; r++) {
				const size_t ld = each / (size_t)d->site.n_parts;
				float *row = t->room + r * each;
				const bool was_sound = is_sound(d, row, ld); /* else the model's file is why */
				edit_row(d, row, ld);
				if (was_sound && !is_sound(d, row, ld)) {
					refuse_row(t, d, s.first + done + (int)r);
					return;
				}
			}
			d->n_rows += n;
			memory_in(&e->memory, at, t->room, bytes);
			if (!wait_for(e)) { /* the room is used again */
				return;
			}
		}
	}
}

/* ---- attention ---- */

/* The keys [first, end) of a KV head of a sequence of this step, to the same places of t->keys. */
static bool read_keys(const struct bb_engine *e, const struct bb_kept *kept,
	const struct bb_kv_head *place, int first, int end) {
	const struct taps *t = e->taps;
	const enum bb_kv_dtype type = e->batch.kv_type;
	const struct bb_kv_layout *layout = engine_kv_layout(e, type);
	const int head_dim = hparam_int(&e->plan.hp, H_HEAD);
	const size_t bytes = engine_slab_bytes(e, type);
	for (int i = first / BB_PAGE; i * BB_PAGE < end; i++) {
		const uint8_t *page = kept_page(kept, i);
		if (!copy_out(e, page + place->slab_offset, bytes, t->slab)) {
			return false;
		}
		for (int slot = 0; slot < BB_PAGE && i * BB_PAGE + slot < end; slot++) {
			layout->read(t->slab, type, head_dim, e->kv_group, slot,
				t->keys + (size_t)(i * BB_PAGE + slot) * (size_t)head_dim, NULL);
		}
	}
	return true;
}

/* softmax over tokens [first, end) of q's products with their keys */
static void weigh(const struct bb_engine *e, const float *q, int first, int end) {
	const struct taps *t = e->taps;
	const size_t head_dim = (size_t)hparam_int(&e->plan.hp, H_HEAD);
	const double scale = (double)(float)e->plan.hp.v[H_ATTN_SCALE];
	double most = -INFINITY, sum = 0;
	for (int i = first; i < end; i++) {
		const float *k = t->keys + (size_t)i * head_dim;
		double dot = 0;
		for (size_t c = 0; c < head_dim; c++) {
			dot += (double)q[c] * (double)k[c];
		}
		t->scores[i - first] = dot * scale;
		most = fmax(most, dot * scale);
	}
	for (int i = 0; i < end - first; i++) {
		t->scores[i] = exp(t->scores[i] - most);
		sum += t->scores[i];
	}
	for (int i = 0; i < end - first; i++) {
		t->weights[i] = (float)(t->scores[i] / sum);
	}
}

/* A KV head of one sequence, all its heads that are asked for; the queries are in the room. */
static bool look_at(const struct bb_engine *e, const struct attention_tap *tap, int i_seq,
	struct stretch s, int i_kv) {
	const struct taps *t = e->taps;
	const struct plan *p = &e->plan;
	const struct bb_hparams *hp = &p->hp;
	const int kind = p->layer_kind[tap->layer], window = p->kinds[kind].window;
	const int n_kv_heads = hparam_int(hp, H_KV_HEADS);
	const int each = hparam_int(hp, H_HEADS) / n_kv_heads;
	const int head = tap->request.head, head_dim = hparam_int(hp, H_HEAD);
	const struct bb_kv_head *place = e->batch.on_host.kv_heads + tap->layer * n_kv_heads + i_kv;
	const int lowest = window > 0 && s.first + 1 > window ? s.first + 1 - window : 0;
	if (!read_keys(e, &e->batch.on_host.kept[kind][i_seq], place, lowest, s.first + s.n_rows)) {
		return false;
	}
	for (int h = i_kv * each; h < (i_kv + 1) * each; h++) {
		for (int r = 0; r < s.n_rows && (head < 0 || head == h); r++) {
			const int end = s.first + r + 1;
			const int first = window > 0 && end > window ? end - window : 0;
			weigh(e, t->room + (size_t)r * (size_t)tap->op->ld_in + h * head_dim, first, end);
			const struct bb_attention_row row = { s.context, tap->layer, h, end - 1, first,
				end - first, t->weights };
			tap->request.fn(tap->request.user, &row);
		}
	}
	return true;
}

static void show_attention(struct bb_engine *e, const struct attention_tap *tap, int n_rows) {
	const struct taps *t = e->taps;
	const struct bb_hparams *hp = &e->plan.hp;
	const int n_kv_heads = hparam_int(hp, H_KV_HEADS), head = tap->request.head;
	const int only = head < 0 ? -1 : head / (hparam_int(hp, H_HEADS) / n_kv_heads);
	const size_t ld = (size_t)tap->op->ld_in, width = (size_t)hparam_int(hp, H_Q_WIDTH);
	int row0 = 0;
	for (int i = 0; i < t->n_items; i++) {
		const struct stretch all = stretch_of(&t->items[i], false, &row0);
		const struct stretch s = part_of(all, tap->request.first, tap->request.n_tokens, 0, n_rows);
		if (s.n_rows > 0 && !copy_out(e, tap->op->in + (size_t)s.row0 * ld,
			((size_t)(s.n_rows - 1) * ld + width) * sizeof(float), t->room)) {
			return;
		}
		for (int h = 0; h < n_kv_heads && s.n_rows > 0; h++) {
			if ((only < 0 || only == h) && !look_at(e, tap, i, s, h)) {
				return;
			}
		}
	}
}

/* ---- what a step calls ---- */

bool taps_begin(struct bb_engine *e, const struct bb_step_item *items, int n_items,
	struct bb_error *err) {
	struct taps *t = e->taps;
	if (t == NULL) {
		return true;
	}
	for (int i = 0; i < n_items && t->n_attention > 0; i++) {
		const int n = bb_context_length(items[i].context) + items[i].n_tokens;
		if (n > t->max_tokens) {
			return base_fail(err, BB_ERR_CONTEXT, "a context of %d tokens, but taps of attention "
				"were attached for at most %d", n, t->max_tokens);
		}
	}
	t->items = items;
	t->n_items = n_items;
	t->err = err;
	t->has_failed = false;
	return true;
}

bool taps_end(const struct bb_engine *e) {
	return e->taps == NULL || !e->taps->has_failed;
}

static void run(struct bb_engine *e, struct output *out) {
	const struct taps *t = e->taps;
	float *const logits = out->at;
	for (int i = 0; i < t->n_edits; i++) {
		const struct tap_place *place = &t->edits[i].place;
		if (place->op == out->op) {
			out->at = place->at != NULL ? place->at : logits;
			change(e, out, &t->edits[i]);
		}
	}
	for (int i = 0; i < t->n_taps; i++) {
		const struct tap_place *place = &t->taps[i].place;
		if (place->op == out->op) {
			out->at = place->at != NULL ? place->at : logits;
			show(e, out, &t->taps[i]);
		}
	}
}

void taps_after(struct bb_engine *e, const struct plan_op *o, int i_layer, int n_rows) {
	const struct taps *t = e->taps;
	if (o->out_act != ACT_LOGITS) { /* which taps_logits saw */
		struct output out = { o, NULL, 0, n_rows, i_layer == e->plan.n_layers };
		run(e, &out);
	}
	for (int i = 0; i < t->n_attention; i++) {
		if (t->attention[i].op == o) {
			show_attention(e, &t->attention[i], n_rows);
		}
	}
}

void taps_logits(struct bb_engine *e, const struct plan_op *o, int i, int n, float *y) {
	struct output out = { o, y, i, i + n, true };
	run(e, &out);
}

/* ---- attaching ---- */

void taps_destroy(struct taps *t) {
	for (int i = 0; t != NULL && t->edits != NULL && i < t->n_edits; i++) {
		base_free(t->edits[i].add);
	}
	if (t != NULL) {
		base_free(t->taps);
		base_free(t->edits);
		base_free(t->attention);
		base_free(t->room);
		base_free(t->keys);
		base_free(t->scores);
		base_free(t->weights);
		base_free(t->slab);
	}
	base_free(t);
}

/* Room for some rows of logits, or for all that a step may have of others. */
static void want_room(const struct bb_engine *e, struct taps *t, const struct tap_place *place,
	const struct bb_tap_site *site) {
	const size_t n = place->at != NULL ? (size_t)e->plan.max_rows : LOGITS_ROWS;
	const size_t floats = n * row_floats(place, site);
	t->room_floats = floats > t->room_floats ? floats : t->room_floats;
}

static bool add_taps(const struct bb_engine *e, struct taps *t, const struct bb_tap *request,
	struct bb_error *err) {
	struct tap_query q;
	struct tap tap = { .request = *request };
	assert(request->fn != NULL && request->first >= 0 && request->n_tokens >= 0);
	if (!tap_parse(&q, &e->plan, request->at, err)) {
		return false;
	}
	for (int i_list = 0; tap_next(&q, &e->plan, &i_list, &tap.place, &tap.site); t->n_taps++) {
		struct tap *more = base_realloc(t->taps, (size_t)t->n_taps + 1, sizeof(*more));
		if (more == NULL) {
			return base_no_memory(err, "taps", sizeof(*more));
		}
		t->taps = more;
		t->taps[t->n_taps] = tap;
		t->taps[t->n_taps].request.at = NULL; /* the caller's */
		want_room(e, t, &tap.place, &tap.site);
	}
	return true;
}

static bool check_edit(const struct edit *d, struct bb_error *err) {
	const struct bb_tap_site *s = &d->site;
	const struct bb_edit *r = &d->request;
	const int n_add = r->add != NULL ? r->n_add : 0;
	if (r->kind == BB_EDIT_ADD && n_add != s->n_parts * s->width) {
		return base_fail(err, BB_ERR_USAGE, "%s: a vector of %d numbers, but its rows have %d",
			s->full, n_add, s->n_parts * s->width);
	}
	for (int i = 0; r->kind == BB_EDIT_ADD && i < n_add; i++) {
		if (!isfinite(r->add[i])) {
			return base_fail(err, BB_ERR_USAGE, "%s: number %d of the vector is %s, expected "
				"finite ones", s->full, i, isnan(r->add[i]) ? "NaN" : "infinite");
		}
	}
	if (r->kind == BB_EDIT_SCALE && !isfinite(r->factor)) {
		return base_fail(err, BB_ERR_USAGE, "%s: a factor that is %s, expected a finite one",
			s->full, isnan(r->factor) ? "NaN" : "infinite");
	}
	if (r->kind == BB_EDIT_SCALE && r->head >= 0 && r->head >= s->n_heads) {
		return s->n_heads == 0 ? base_fail(err, BB_ERR_USAGE,
			"%s: head %d, but it isn't made of heads; * (in C -1) is all of it", s->full, r->head)
			: base_fail(err, BB_ERR_USAGE, "%s: head %d, expected 0 to %d", s->full, r->head,
				s->n_heads - 1);
	}
	return true;
}

static bool add_edits(const struct bb_engine *e, struct taps *t, const struct bb_edit *request,
	int i_request, struct bb_error *err) {
	struct tap_query q;
	struct edit edit = { .request = *request, .i_request = i_request };
	assert(request->first >= 0 && request->n_tokens >= 0 && request->head >= -1);
	if (!tap_parse(&q, &e->plan, request->at, err)) {
		return false;
	}
	if (request->kind != BB_EDIT_ADD && request->kind != BB_EDIT_SCALE) {
		return base_fail(err, BB_ERR_USAGE, "an edit of kind %d, expected BB_EDIT_ADD (%d) or "
			"BB_EDIT_SCALE (%d)", (int)request->kind, BB_EDIT_ADD, BB_EDIT_SCALE);
	}
	for (int i_list = 0; tap_next(&q, &e->plan, &i_list, &edit.place, &edit.site);) {
		if (!check_edit(&edit, err)) {
			return false;
		}
		struct edit *more = base_realloc(t->edits, (size_t)t->n_edits + 1, sizeof(*more));
		if (more == NULL) {
			return base_no_memory(err, "edits", sizeof(*more));
		}
		t->edits = more;
		struct edit *new = &t->edits[t->n_edits++];
		*new = edit;
		new->request.at = NULL; /* the caller's, as the vector */
		new->request.add = NULL;
		if (request->kind == BB_EDIT_ADD) {
			new->add = base_alloc((size_t)request->n_add, sizeof(float));
			if (new->add == NULL) {
				return base_no_memory(err, "edits", (size_t)request->n_add * sizeof(float));
			}
			memcpy(new->add, request->add, (size_t)request->n_add * sizeof(float));
		}
		want_room(e, t, &edit.place, &edit.site);
	}
	return true;
}

static const struct plan_op *attention_of(const struct plan *p, int layer) {
	const struct plan_ops *list = &p->layers[layer];
	for (int i = 0; i < list->n; i++) {
		if (list->ops[i].kind == OP_ATTENTION) {
			return &list->ops[i];
		}
	}
	return NULL;
}

static bool check_attention(const struct bb_engine *e, const struct bb_attention_tap *r,
	struct bb_error *err) {
	const struct plan *p = &e->plan;
	assert(r->fn != NULL && r->first >= 0 && r->n_tokens >= 0 && r->layer >= -1 && r->head >= -1);
	if (r->layer >= p->n_layers) {
		return base_fail(err, BB_ERR_USAGE, "attention of layer %d, expected 0 to %d", r->layer,
			p->n_layers - 1);
	}
	if (p->n_paged == 0 || (r->layer >= 0 && attention_of(p, r->layer) == NULL)) {
		return r->layer < 0 ? base_fail(err, BB_ERR_USAGE, "no layer of this model attends")
			: base_fail(err, BB_ERR_USAGE, "layer %d doesn't attend", r->layer);
	}
	return r->head < hparam_int(&p->hp, H_HEADS) || base_fail(err, BB_ERR_USAGE,
		"attention of head %d, expected 0 to %d", r->head, hparam_int(&p->hp, H_HEADS) - 1);
}

static bool add_attention(const struct bb_engine *e, struct taps *t,
	const struct bb_attention_tap *request, struct bb_error *err) {
	const struct plan *p = &e->plan;
	if (!check_attention(e, request, err)) {
		return false;
	}
	struct attention_tap *more = base_realloc(t->attention,
		(size_t)(t->n_attention + p->n_layers), sizeof(*more));
	if (more == NULL) {
		return base_no_memory(err, "taps", (size_t)p->n_layers * sizeof(*more));
	}
	t->attention = more;
	for (int i = 0; i < p->n_layers; i++) {
		const struct plan_op *op = attention_of(p, i);
		if (op != NULL && (request->layer < 0 || request->layer == i)) {
			t->attention[t->n_attention++] = (struct attention_tap){ op, i, *request };
			const size_t floats = (size_t)p->max_rows * (size_t)op->ld_in;
			t->room_floats = floats > t->room_floats ? floats : t->room_floats;
		}
	}
	return true;
}

static bool make_room(const struct bb_engine *e, struct taps *t, int max_tokens,
	struct bb_error *err) {
	t->room = base_alloc(t->room_floats, sizeof(*t->room));
	if (t->room == NULL) {
		return base_no_memory(err, "taps", t->room_floats * sizeof(*t->room));
	}
	if (t->n_attention == 0) {
		return true;
	}
	t->max_tokens = max_tokens > 0 ? max_tokens : e->max_len;
	const size_t n = (size_t)t->max_tokens, head_dim = (size_t)hparam_int(&e->plan.hp, H_HEAD);
	t->keys = base_alloc(n, head_dim * sizeof(*t->keys));
	t->scores = base_alloc(n, sizeof(*t->scores));
	t->weights = base_alloc(n, sizeof(*t->weights));
	size_t slab_bytes = 0;
	for (int type = 0; type < N_KV_TYPES; type++) { /* contexts have their own */
		const size_t bytes = engine_slab_bytes(e, type);
		slab_bytes = bytes > slab_bytes ? bytes : slab_bytes;
	}
	t->slab = base_alloc(slab_bytes, 1);
	return (t->keys != NULL && t->scores != NULL && t->weights != NULL && t->slab != NULL) ||
		base_no_memory(err, "taps of attention",
			n * (head_dim * sizeof(*t->keys) + sizeof(*t->scores) + sizeof(*t->weights)));
}

static bool fill(const struct bb_engine *e, struct taps *t, const struct bb_taps *in,
	struct bb_error *err) {
	bool ok = true;
	for (int i = 0; ok && i < in->n_taps; i++) {
		ok = add_taps(e, t, &in->taps[i], err);
	}
	for (int i = 0; ok && i < in->n_attention; i++) {
		ok = add_attention(e, t, &in->attention[i], err);
	}
	for (int i = 0; ok && i < in->n_edits; i++) {
		ok = add_edits(e, t, &in->edits[i], i, err);
	}
	return ok && make_room(e, t, in->max_tokens, err);
}

bool bb_taps_attach(struct bb_engine *e, const struct bb_taps *taps, struct bb_error *err) {
	assert(e->is_packed && e->can_tap);
	struct taps *made = NULL;
	if (taps != NULL && taps->n_taps + taps->n_attention + taps->n_edits > 0) {
		made = base_alloc(1, sizeof(*made));
		if (made == NULL) {
			return base_no_memory(err, "taps", sizeof(*made));
		}
		if (!fill(e, made, taps, err)) {
			taps_destroy(made);
			return false;
		}
	}
	taps_destroy(e->taps);
	e->taps = made;
	return true;
}

int64_t bb_taps_edited(const struct bb_engine *e, int i) {
	const struct taps *t = e->taps;
	int64_t n = 0;
	for (int k = 0; t != NULL && k < t->n_edits; k++) {
		n += t->edits[k].i_request == i ? t->edits[k].n_rows : 0;
	}
	return n;
}

bool taps_has_edits(const struct bb_engine *e) {
	return e->taps != NULL && e->taps->n_edits > 0;
}
