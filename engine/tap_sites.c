/* SPDX-License-Identifier: Apache-2.0
 *
 * The sites of a plan: what its ops write, by names that don't depend on how products were stacked
 * or what else the planner does at once. */
#include "engine.h"
#include "form.h"

#include <assert.h>
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_OUTPUTS = 24 }; /* of an op: members of a group */

/* ---- what an op writes ---- */

/* Columns that it writes from its output on, side by side; of a row of an expert, if it's of
 * experts. */
static int columns_of(const struct plan *p, const struct plan_op *o) {
	switch (o->kind) {
	case OP_MATMUL:
	case OP_ADD_MATMUL:
		return o->matrix->n;
	case OP_ROPE:
	case OP_RMSNORM:
	case OP_LAYERNORM:
	case OP_HEADS_MATMUL:
		return o->n_groups * o->dim;
	default:
		return o->dim;
	}
}

static int outputs_of(const struct plan *p, const struct plan_op *o, enum bb_act *acts) {
	int n = 0, left = columns_of(p, o);
	for (enum bb_act act = o->out_act; act < ACT_COUNT && left > 0; act++) {
		const int width = form_width(&p->hp, act);
		if (act == o->out_act || (form_group(act) == form_group(o->out_act) && width > 0)) {
			assert(n < MAX_OUTPUTS);
			acts[n++] = act;
			left -= width;
		}
	}
	if (o->kind == OP_WKV7_KEYS) { /* which it changes too */
		acts[n++] = ACT_WKV_K;
		acts[n++] = ACT_WKV_B;
	}
	return n;
}

/* Which hyper-parameter counts the heads of an activation; H_NONE: it has none. */
static enum bb_hparam heads_of(enum bb_act act) {
	switch (act) {
	case ACT_Q:
	case ACT_ATT:
	case ACT_ATT_GATE:
		return H_HEADS;
	case ACT_K:
	case ACT_V:
		return H_KV_HEADS;
	case ACT_SSM_Z:
	case ACT_SSM_X:
	case ACT_SSM_DT:
		return H_SSM_HEADS;
	case ACT_LSTM_Z:
	case ACT_LSTM_V:
	case ACT_LSTM_Q:
	case ACT_LSTM_K:
	case ACT_LSTM_I:
	case ACT_LSTM_F:
		return H_LSTM_HEADS;
	case ACT_WKV_R:
	case ACT_WKV_W:
	case ACT_WKV_K:
	case ACT_WKV_V:
	case ACT_WKV_A:
	case ACT_WKV_B:
	case ACT_WKV_G:
	case ACT_WKV_Y:
	case ACT_WKV_V0:
		return H_WKV_HEADS;
	case ACT_DELTA_Q:
	case ACT_DELTA_K:
		return H_DELTA_KEY_HEADS;
	case ACT_DELTA_V:
	case ACT_DELTA_Z:
	case ACT_DELTA_B:
	case ACT_DELTA_A:
		return H_DELTA_HEADS;
	default:
		return H_NONE;
	}
}

static int n_heads_of(const struct plan *p, enum bb_act act, int width) {
	const enum bb_hparam h = heads_of(act);
	const int n = h != H_NONE ? hparam_int(&p->hp, h) : 0;
	return n > 0 && width % n == 0 ? n : 0;
}

/* ---- lists ---- */

/* What comes before the first layer and behind the last. */
static const char *const ends[] = { "embed", "unembed" };

static const struct plan_ops *list_of(const struct plan *p, int layer) {
	return layer == BB_TAP_EMBED ? &p->embed : layer == BB_TAP_UNEMBED ? &p->unembed
		: layer >= 0 && layer < p->n_layers ? &p->layers[layer] : NULL;
}

static int layer_of(const struct plan *p, int i_list) {
	return i_list == 0 ? BB_TAP_EMBED : i_list > p->n_layers ? BB_TAP_UNEMBED : i_list - 1;
}

static void small_letters(char *out, size_t bytes, const char *text) {
	snprintf(out, bytes, "%s", text);
	for (; *out != '\0'; out++) {
		*out = (char)tolower((unsigned char)*out);
	}
}

static void fill_site(const struct plan *p, int layer, const struct tap_place *place, int number,
	int n_same, struct bb_tap_site *site) {
	char name[20];
	*site = (struct bb_tap_site){ .layer = layer, .op = op_name(place->op->kind),
		.n_parts = place->op->n_rows, .width = place->op->kind == OP_PLACE ? place->op->dim
			: form_width(&p->hp, place->act) };
	site->n_heads = n_heads_of(p, place->act, site->width);
	small_letters(name, sizeof(name), act_name(place->act));
	if (n_same > 1) {
		snprintf(site->name, sizeof(site->name), "%s.%d", name, number);
	} else {
		snprintf(site->name, sizeof(site->name), "%s", name);
	}
	if (layer >= 0) {
		snprintf(site->full, sizeof(site->full), "blk.%d.%s", layer, site->name);
	} else {
		snprintf(site->full, sizeof(site->full), "%s.%s", ends[layer == BB_TAP_UNEMBED],
			site->name);
	}
}

bool tap_place(const struct plan *p, int layer, int i, struct tap_place *place,
	struct bb_tap_site *site) {
	const struct plan_ops *list = list_of(p, layer);
	int n_before = 0, number = 0, n_same = 0;
	*place = (struct tap_place){ 0 };
	for (int pass = 0; list != NULL && pass < 2; pass++) { /* the second counts the name */
		for (int j = 0; j < list->n; j++) {
			enum bb_act acts[MAX_OUTPUTS + 2];
			const struct plan_op *o = &list->ops[j];
			const int n = outputs_of(p, o, acts);
			for (int k = 0; k < n && pass == 0 && place->op == NULL; k++) {
				if (n_before++ == i) {
					*place = (struct tap_place){ o, acts[k], NULL, o->ld_out };
				}
			}
			for (int k = 0; k < n && pass == 1 && place->op != NULL; k++) {
				n_same += acts[k] == place->act;
				number = o == place->op && acts[k] == place->act ? n_same : number;
			}
		}
	}
	if (place->op == NULL) {
		return false;
	}
	if (place->act != ACT_LOGITS) { /* unembed's X isn't where the plan has X, nor is a part */
		place->at = place->op->out + (p->acts[place->act] - p->acts[place->op->out_act]);
	}
	fill_site(p, layer, place, number, n_same, site);
	return true;
}

/* ---- requests ---- */

/* The site of a list that the name means; with an op's own name *n_of_op counts those it writes. */
static bool match(const struct tap_query *q, const struct plan *p, int i_list,
	struct tap_place *place, struct bb_tap_site *site) {
	const int layer = layer_of(p, i_list);
	struct tap_place here;
	struct bb_tap_site s;
	int n = 0, n_of_op = 0;
	bool is_found = false;
	for (int i = 0; tap_place(p, layer, i, &here, &s); i++) {
		char name[32];
		small_letters(name, sizeof(name), act_name(here.act));
		const bool is_name = strcmp(name, q->name) == 0;
		n += is_name;
		if (is_name && (q->number == 0 || q->number == n)) {
			*place = here;
			*site = s;
			is_found = true;
		} else if (n == 0 && q->number == 0 && strcmp(s.op, q->name) == 0 && n_of_op++ == 0) {
			*place = here;
			*site = s;
		}
	}
	return is_found || (n == 0 && n_of_op == 1);
}

bool tap_next(const struct tap_query *q, const struct plan *p, int *i_list,
	struct tap_place *place, struct bb_tap_site *site) {
	for (int i = *i_list > q->first ? *i_list : q->first; i <= q->last; i++) {
		if (match(q, p, i, place, site)) {
			*i_list = i + 1;
			return true;
		}
	}
	*i_list = q->last + 1;
	return false;
}

/* Names the sites of the first list that was asked for. */
static bool refuse(const struct tap_query *q, const struct plan *p, struct bb_error *err) {
	char known[320] = "", where[32], shown[BASE_SHOWN];
	const int layer = layer_of(p, q->first);
	struct tap_place place;
	struct bb_tap_site site;
	size_t n = 0;
	for (int i = 0; tap_place(p, layer, i, &place, &site); i++) {
		if (n + strlen(site.name) + sizeof(", ...") > sizeof(known)) {
			snprintf(known + n, sizeof(known) - n, ", ...");
			break;
		}
		n += (size_t)snprintf(known + n, sizeof(known) - n, "%s%s", n > 0 ? ", " : "", site.name);
	}
	if (layer >= 0) {
		snprintf(where, sizeof(where), "layer %d", layer);
	} else {
		snprintf(where, sizeof(where), "%s", ends[layer == BB_TAP_UNEMBED]);
	}
	return base_fail(err, BB_ERR_USAGE, "'%s': expected the name of one output%s; %s has %s",
		base_show(q->at, strlen(q->at), shown, sizeof(shown)),
		q->last > q->first ? " of these layers" : "", where, known);
}

static bool refuse_form(const char *at, const struct plan *p, struct bb_error *err) {
	char shown[BASE_SHOWN];
	return base_fail(err, BB_ERR_USAGE, "'%s': expected LAYER:NAME with a layer from 0 to %d, "
		"a range as 0-%d, *, embed or unembed", base_show(at, strlen(at), shown, sizeof(shown)),
		p->n_layers - 1, p->n_layers - 1);
}

/* Digits only, below a million; -1: it's no number. */
static int read_number(const char *text, const char **end) {
	int n = -1;
	for (*end = text; isdigit((unsigned char)**end); ++*end) {
		n = n > 99999 ? 999999 : (n < 0 ? 0 : n) * 10 + (**end - '0');
	}
	return n;
}

/* "3", "4-7", "*", "embed", "unembed", and what is behind it. */
static bool read_layers(struct tap_query *q, const struct plan *p, const char *at,
	const char **end) {
	for (int i = 0; i < 2; i++) {
		const size_t n = strlen(ends[i]);
		if (strncmp(at, ends[i], n) == 0) {
			q->first = q->last = i == 0 ? 0 : p->n_layers + 1;
			*end = at + n;
			return true;
		}
	}
	if (*at == '*') {
		*end = at + 1;
		q->first = 1;
		q->last = p->n_layers;
		return true;
	}
	const int first = read_number(at, end);
	const int last = **end == '-' ? read_number(*end + 1, end) : first;
	q->first = first + 1;
	q->last = last + 1;
	return first >= 0 && last >= first && last < p->n_layers;
}

bool tap_parse(struct tap_query *q, const struct plan *p, const char *at, struct bb_error *err) {
	const char *end = at;
	*q = (struct tap_query){ .at = at };
	const bool is_block = strncmp(at, "blk.", 4) == 0;
	if (!read_layers(q, p, is_block ? at + 4 : at, &end) || (*end != ':' && *end != '.')) {
		return refuse_form(at, p, err);
	}
	const char *name = end + 1, *dot = strchr(name, '.');
	if (strlen(name) < sizeof(q->name)) { /* else, as with a wrong number, nothing is called so */
		small_letters(q->name, sizeof(q->name), name);
		if (dot != NULL) {
			q->number = read_number(dot + 1, &end);
			q->name[*end == '\0' && q->number > 0 ? dot - name : 0] = '\0';
		}
	}
	struct tap_place place;
	struct bb_tap_site site;
	int i_list = 0;
	return tap_next(q, p, &i_list, &place, &site) || refuse(q, p, err);
}

/* ---- the public side ---- */

bool bb_tap_site(const struct bb_engine *e, int layer, int i, struct bb_tap_site *out) {
	struct tap_place place;
	assert(e->is_planned);
	return tap_place(&e->plan, layer, i, &place, out);
}

bool bb_tap_find(const struct bb_engine *e, const char *at, struct bb_tap_site *first, int *n,
	struct bb_error *err) {
	struct tap_query q;
	struct tap_place place;
	struct bb_tap_site site;
	assert(e->is_planned);
	*n = 0;
	if (!tap_parse(&q, &e->plan, at, err)) {
		return false;
	}
	for (int i_list = 0; tap_next(&q, &e->plan, &i_list, &place, &site);) {
		*first = (*n)++ == 0 ? site : *first;
	}
	return true;
}
