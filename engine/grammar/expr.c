/* SPDX-License-Identifier: Apache-2.0
 *
 * Expressions: made, simplified and kept. Alternatives and conjunctions are lists in the order of
 * numbers without duplicates, which is what makes the number of derivatives finite. */
#include "expr.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum {
	MAX_EXPRS = 1 << 22,     /* of 36 bytes */
	MAX_ROW_BYTES = 96 << 20,
	COMPILE_WORK = 1 << 26,   /* see exprs_work */
	MAX_LIST = 1 << 16,      /* alternatives in one list */
	MAX_PREFIXES = 500,      /* texts of a list that begin with each other, by recursion */
	N_FEW = 64,              /* elements for which no list is allocated */
	MAX_SEARCH = 1 << 17,    /* states that are looked at to see whether one has any text */
};

static void fail_memory(struct exprs *x, size_t bytes) {
	base_no_memory(&x->trouble, "grammar", bytes);
}

static void fail_size(struct exprs *x) {
	base_fail(&x->trouble, BB_ERR_UNSUPPORTED,
		"expected a grammar of at most %d states, this one needs more", (int)x->max_states);
}

bool exprs_init(struct exprs *x, struct bb_error *err) {
	memset(x, 0, sizeof(*x));
	x->max_states = MAX_EXPRS;
	x->max_work = COMPILE_WORK;
	x->cap = 256;
	x->mask = 1023;
	x->all = base_alloc(x->cap, sizeof(*x->all));
	x->slots = base_alloc(x->mask + 1, sizeof(*x->slots));
	if (x->all == NULL || x->slots == NULL) {
		return base_no_memory(err, "grammar", x->cap * sizeof(*x->all));
	}
	x->all[EXPR_NONE] = (struct expr){ .op = EXPR_OP_NONE, .clipped = EXPR_NONE };
	x->all[EXPR_EMPTY] = (struct expr){ .op = EXPR_OP_EMPTY, .flags = EXPR_NULLABLE,
		.clipped = EXPR_EMPTY };
	x->n = 2;
	return true;
}

void exprs_finish(struct exprs *x) {
	base_free(x->all);
	base_free(x->slots);
	base_free(x->sets);
	base_free(x->rows);
	memset(x, 0, sizeof(*x));
}

size_t exprs_bytes(const struct exprs *x) {
	return x->cap * sizeof(*x->all) + ((size_t)x->mask + 1) * sizeof(*x->slots) +
		x->cap_sets * sizeof(*x->sets) +
		x->cap_rows * (size_t)x->n_classes * sizeof(*x->rows);
}

void exprs_begin(struct exprs *x) {
	x->work = 0;
	x->max_work = EXPR_WORK;
}

bool exprs_work_over(struct exprs *x) {
	if (x->trouble.code == BB_OK) {
		base_fail(&x->trouble, BB_ERR_UNSUPPORTED, "expected a grammar that takes at most %llu "
			"pieces of work at a time, this one needs more", (unsigned long long)x->max_work);
	}
	return false;
}

/* ---- one number for equal expressions ---- */

static uint32_t hash(const struct expr *e) {
	uint64_t h = e->op * 0x9E3779B97F4A7C15u ^ e->a * 0xBF58476D1CE4E5B9u;
	h = (h ^ (h >> 29)) * 0x94D049BB133111EBu ^ e->b * 0xD6E8FEB86659FD93u;
	h = (h ^ (h >> 31)) * 0x9E3779B97F4A7C15u ^ (uint32_t)e->min * 0xC2B2AE3D27D4EB4Fu;
	h = (h ^ (h >> 30)) * 0xBF58476D1CE4E5B9u ^ (uint32_t)e->max * 0x165667B19E3779F9u;
	return (uint32_t)((h ^ (h >> 32)) * 0x9E3779B1u);
}

static bool grow_slots(struct exprs *x) {
	const uint32_t mask = 2 * x->mask + 1;
	uint32_t *slots = base_alloc((size_t)mask + 1, sizeof(*slots));
	if (slots == NULL) {
		fail_memory(x, ((size_t)mask + 1) * sizeof(*slots));
		return false;
	}
	for (uint32_t i = 2; i < x->n; i++) {
		uint32_t at = hash(&x->all[i]) & mask;
		while (slots[at] != 0) {
			at = (at + 1) & mask;
		}
		slots[at] = i + 1;
	}
	base_free(x->slots);
	x->slots = slots;
	x->mask = mask;
	return true;
}

bool exprs_room(struct exprs *x, void **array, uint32_t n, uint32_t *cap, size_t bytes) {
	if (n < *cap) {
		return true;
	}
	const uint32_t wanted = 2 * *cap + 64;
	void *grown = base_realloc(*array, wanted, bytes);
	if (grown == NULL) {
		fail_memory(x, wanted * bytes);
		return false;
	}
	*array = grown;
	*cap = wanted;
	return true;
}

static uint32_t intern(struct exprs *x, struct expr e) {
	if (x->trouble.code != BB_OK) {
		return EXPR_NONE;
	}
	uint32_t at = hash(&e) & x->mask;
	for (; x->slots[at] != 0; at = (at + 1) & x->mask) {
		const struct expr *o = &x->all[x->slots[at] - 1];
		if (o->op == e.op && o->a == e.a && o->b == e.b && o->min == e.min && o->max == e.max) {
			return x->slots[at] - 1;
		}
	}
	if (x->n >= x->max_states) {
		fail_size(x);
		return EXPR_NONE;
	}
	if (!exprs_room(x, (void **)&x->all, x->n, &x->cap, sizeof(*x->all))) {
		return EXPR_NONE;
	}
	x->all[x->n] = e;
	x->slots[at] = ++x->n;
	if (2 * x->n > x->mask && !grow_slots(x)) {
		return EXPR_NONE;
	}
	return x->n - 1;
}

static uint8_t flags_of(const struct exprs *x, uint32_t a) {
	return x->all[a].flags;
}

/* ---- making ---- */

uint32_t expr_set(struct exprs *x, const struct byte_set *set) {
	if ((set->bits[0] | set->bits[1] | set->bits[2] | set->bits[3]) == 0) {
		return EXPR_NONE;
	}
	uint32_t i = 0;
	while (i < x->n_sets && memcmp(&x->sets[i], set, sizeof(*set)) != 0) {
		i++;
	}
	if (i == x->n_sets) {
		assert(!x->has_classes);
		if (!exprs_room(x, (void **)&x->sets, i, &x->cap_sets, sizeof(*x->sets))) {
			return EXPR_NONE;
		}
		x->sets[x->n_sets++] = *set;
	}
	return intern(x, (struct expr){ .op = EXPR_OP_SET, .a = i });
}

uint32_t expr_range(struct exprs *x, int first, int last) {
	struct byte_set set = { { 0 } };
	for (int i = first; i <= last; i++) {
		set.bits[i >> 6] |= (uint64_t)1 << (i & 63);
	}
	return expr_set(x, &set);
}

uint32_t expr_text(struct exprs *x, const char *text, size_t bytes) {
	uint32_t all = EXPR_EMPTY;
	for (size_t i = bytes; i-- > 0;) {
		const uint8_t byte = (uint8_t)text[i];
		all = expr_seq(x, expr_range(x, byte, byte), all);
	}
	return all;
}

/* The elements of a list of `op` behind list[n], which has room for list_length of them; the new
 * number. */
static size_t spread(const struct exprs *x, enum expr_op op, uint32_t a, uint32_t *list, size_t n) {
	for (; x->all[a].op == op; a = x->all[a].b) {
		list[n++] = x->all[a].a;
	}
	list[n++] = a;
	return n;
}

static size_t list_length(const struct exprs *x, enum expr_op op, uint32_t a) {
	size_t n = 1;
	for (; x->all[a].op == op; a = x->all[a].b) {
		n++;
	}
	return n;
}

/* Two parts of which neither is nothing or empty, and the first is no sequence. */
static uint32_t pair(struct exprs *x, uint32_t a, uint32_t b) {
	const uint8_t f = flags_of(x, a), g = flags_of(x, b);
	return intern(x, (struct expr){ .op = EXPR_OP_SEQ, .a = a, .b = b,
		.flags = (f & g & EXPR_NULLABLE) | ((f | g) & EXPR_PASSED_ON) });
}

/* Room for n numbers, `few` where they fit there; NULL after trouble. A text is a sequence as long
 * as it is, so what goes along one keeps a list of its own and spares the stack. */
static uint32_t *list_of(struct exprs *x, size_t n, uint32_t *few) {
	if (!exprs_work(x, n)) {
		return NULL;
	}
	uint32_t *list = n <= N_FEW ? few : base_alloc(n, sizeof(*list));
	if (list == NULL) {
		fail_memory(x, n * sizeof(*list));
	}
	return list;
}

uint32_t expr_seq(struct exprs *x, uint32_t a, uint32_t b) {
	if (a == EXPR_NONE || b == EXPR_NONE) {
		return EXPR_NONE;
	}
	if (a == EXPR_EMPTY || b == EXPR_EMPTY) {
		return a == EXPR_EMPTY ? b : a;
	}
	uint32_t few[N_FEW], *list;
	size_t n = list_length(x, EXPR_OP_SEQ, a);
	if (n == 1 || (list = list_of(x, n, few)) == NULL) {
		return n == 1 ? pair(x, a, b) : EXPR_NONE;
	}
	spread(x, EXPR_OP_SEQ, a, list, 0);
	while (n > 0 && b != EXPR_NONE) {
		b = pair(x, list[--n], b);
	}
	if (list != few) {
		base_free(list);
	}
	return b;
}

static int by_number(const void *a, const void *b) {
	const uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
	return (x > y) - (x < y);
}

static uint32_t join(struct exprs *x, enum expr_op op, uint32_t a, uint32_t b) {
	uint32_t few[N_FEW], *list;
	const size_t most = list_length(x, op, a) + list_length(x, op, b);
	if (most > MAX_LIST) {
		fail_size(x);
		return EXPR_NONE;
	}
	if ((list = list_of(x, most, few)) == NULL) {
		return EXPR_NONE;
	}
	const size_t n = spread(x, op, b, list, spread(x, op, a, list, 0));
	qsort(list, n, sizeof(*list), by_number);
	uint32_t all = list[n - 1];
	for (size_t i = n - 1; i-- > 0;) {
		if (list[i] == list[i + 1]) {
			continue;
		}
		const uint8_t f = flags_of(x, list[i]), g = flags_of(x, all);
		const uint8_t nullable = (op == EXPR_OP_OR ? f | g : f & g) & EXPR_NULLABLE;
		const uint8_t tricky = op == EXPR_OP_AND ? EXPR_TRICKY : 0;
		all = intern(x, (struct expr){ .op = op, .a = list[i], .b = all,
			.flags = nullable | tricky | ((f | g) & EXPR_PASSED_ON) });
	}
	if (list != few) {
		base_free(list);
	}
	return all;
}

static uint32_t join_sets(struct exprs *x, uint32_t a, uint32_t b) {
	struct byte_set both = x->sets[x->all[a].a];
	for (int i = 0; i < 4; i++) {
		both.bits[i] |= x->sets[x->all[b].a].bits[i];
	}
	return expr_set(x, &both);
}

uint32_t expr_or(struct exprs *x, uint32_t a, uint32_t b) {
	if (a == b || b == EXPR_NONE) {
		return a;
	}
	if (a == EXPR_NONE) {
		return b;
	}
	if (x->all[a].op == EXPR_OP_SET && x->all[b].op == EXPR_OP_SET && !x->has_classes) {
		return join_sets(x, a, b);
	}
	return join(x, EXPR_OP_OR, a, b);
}

uint32_t expr_and(struct exprs *x, uint32_t a, uint32_t b) {
	if (a == b) {
		return a;
	}
	if (a == EXPR_NONE || b == EXPR_NONE) {
		return EXPR_NONE;
	}
	/* but a mark must be seen, or how far it has come down is lost */
	if ((a == EXPR_EMPTY || b == EXPR_EMPTY) &&
		((flags_of(x, a) | flags_of(x, b)) & EXPR_MARKED) == 0) {
		return expr_is_nullable(x, a) && expr_is_nullable(x, b) ? EXPR_EMPTY : EXPR_NONE;
	}
	return join(x, EXPR_OP_AND, a, b);
}

uint32_t expr_not(struct exprs *x, uint32_t a) {
	if (x->all[a].op == EXPR_OP_NOT) {
		return x->all[a].a;
	}
	const uint8_t f = flags_of(x, a);
	return intern(x, (struct expr){ .op = EXPR_OP_NOT, .a = a,
		.flags = (~f & EXPR_NULLABLE) | EXPR_TRICKY | (f & EXPR_COUNTS) });
}

uint32_t expr_repeat(struct exprs *x, uint32_t a, int min, int max) {
	if (max == 0 || a == EXPR_EMPTY || (a == EXPR_NONE && min == 0)) {
		return EXPR_EMPTY;
	}
	if (a == EXPR_NONE || (min == 1 && max == 1)) {
		return a;
	}
	if (expr_is_nullable(x, a)) {
		min = 0;
	}
	if (x->all[a].op == EXPR_OP_REPEAT && x->all[a].min == 0 && x->all[a].max < 0) {
		return a;
	}
	const bool counts = min > EXPR_HORIZON + 1 || max > EXPR_HORIZON + 1;
	return intern(x, (struct expr){ .op = EXPR_OP_REPEAT, .a = a, .min = min, .max = max,
		.flags = (min == 0 ? EXPR_NULLABLE : 0) | (counts ? EXPR_COUNTS : 0) |
			(min > 0 || max > 0 ? EXPR_BOUNDED : 0) | (max > EXPR_MARK ? EXPR_MARKED : 0) |
			(flags_of(x, a) & (EXPR_TRICKY | EXPR_COUNTS)) });
}

static int by_text(const void *a, const void *b) {
	const struct expr_text *s = a, *t = b;
	const int order = memcmp(s->data, t->data, s->bytes < t->bytes ? s->bytes : t->bytes);
	return order != 0 ? order : (s->bytes > t->bytes) - (s->bytes < t->bytes);
}

/* Of sorted texts that have their first `at` bytes in common: what may follow. */
static uint32_t texts_behind(struct exprs *x, const struct expr_text *t, size_t n, size_t at,
	int depth) {
	if (n == 1) {
		return expr_text(x, t->data + at, t->bytes - at);
	}
	if (depth > MAX_PREFIXES) {
		base_fail(&x->trouble, BB_ERR_UNSUPPORTED, "expected at most %d texts that each begin with "
			"the one before, or share ever more with the others", MAX_PREFIXES);
		return EXPR_NONE;
	}
	uint32_t all = EXPR_NONE;
	size_t i = 0;
	for (; i < n && t[i].bytes == at; i++) {
		all = EXPR_EMPTY;
	}
	while (i < n) {
		size_t end = i + 1, same = at + 1;
		while (end < n && t[end].data[at] == t[i].data[at]) {
			end++;
		}
		const struct expr_text *const last = &t[end - 1];
		while (same < t[i].bytes && same < last->bytes && t[i].data[same] == last->data[same]) {
			same++;
		}
		all = expr_or(x, all, expr_seq(x, expr_text(x, t[i].data + at, same - at),
			texts_behind(x, t + i, end - i, same, depth + 1)));
		i = end;
	}
	return all;
}

uint32_t expr_texts(struct exprs *x, struct expr_text *texts, size_t n) {
	qsort(texts, n, sizeof(*texts), by_text);
	size_t n_kept = 0;
	for (size_t i = 0; i < n; i++) {
		if (n_kept == 0 || by_text(&texts[n_kept - 1], &texts[i]) != 0) {
			texts[n_kept++] = texts[i];
		}
	}
	return n_kept == 0 ? EXPR_NONE : texts_behind(x, texts, n_kept, 0, 0);
}

/* ---- going on ---- */

void exprs_make_classes(struct exprs *x) {
	/* splits classes by one set after the other */
	x->n_classes = 1;
	memset(x->class_of, 0, sizeof(x->class_of));
	for (uint32_t s = 0; s < x->n_sets; s++) {
		int moved[256];
		bool stays[256] = { false };
		memset(moved, -1, sizeof(moved));
		for (int b = 0; b < 256; b++) {
			stays[x->class_of[b]] |= (x->sets[s].bits[b >> 6] >> (b & 63) & 1) == 0;
		}
		for (int b = 0; b < 256; b++) {
			const int class = x->class_of[b];
			if ((x->sets[s].bits[b >> 6] >> (b & 63) & 1) != 0 && stays[class]) {
				moved[class] = moved[class] < 0 ? x->n_classes++ : moved[class];
				x->class_of[b] = (uint8_t)moved[class];
			}
		}
	}
	for (int b = 255; b >= 0; b--) {
		x->byte_of[x->class_of[b]] = (uint8_t)b;
	}
	for (int i = 0; i < x->n_classes; i++) {
		x->search_order[i] = (uint8_t)i;
	}
	x->has_classes = true;
}

static uint32_t derive(struct exprs *x, uint32_t a, int byte);

/* Along the sequence, as far as the empty text leads. */
static uint32_t derive_seq(struct exprs *x, uint32_t a, int byte) {
	uint32_t all = EXPR_NONE;
	while (x->all[a].op == EXPR_OP_SEQ) {
		const uint32_t first = x->all[a].a, rest = x->all[a].b;
		all = expr_or(x, all, expr_seq(x, derive(x, first, byte), rest));
		if (!expr_is_nullable(x, first)) {
			return all;
		}
		a = rest;
	}
	return expr_or(x, all, derive(x, a, byte));
}

/* An element of a list. States of an intersection are pairs of those of its elements, which are few
 * and come again in many pairs: their steps are kept. */
static uint32_t derive_element(struct exprs *x, enum expr_op op, uint32_t a, int byte) {
	return op == EXPR_OP_AND && x->has_classes ? expr_step_any(x, a, x->class_of[byte])
		: derive(x, a, byte);
}

static uint32_t derive_list(struct exprs *x, uint32_t a, int byte) {
	const enum expr_op op = x->all[a].op;
	uint32_t all = derive_element(x, op, x->all[a].a, byte);
	for (a = x->all[a].b; all != EXPR_NONE || op == EXPR_OP_OR; a = x->all[a].b) {
		const bool is_last = x->all[a].op != op;
		const uint32_t next = derive_element(x, op, is_last ? a : x->all[a].a, byte);
		all = op == EXPR_OP_OR ? expr_or(x, all, next) : expr_and(x, all, next);
		if (is_last) {
			return all;
		}
	}
	return all;
}

static uint32_t derive(struct exprs *x, uint32_t a, int byte) {
	const struct expr e = x->all[a];
	if (!exprs_work(x, 1)) {
		return EXPR_NONE;
	}
	switch (e.op) {
	case EXPR_OP_SET:
		return (x->sets[e.a].bits[byte >> 6] >> (byte & 63) & 1) != 0 ? EXPR_EMPTY : EXPR_NONE;
	case EXPR_OP_SEQ:
		return derive_seq(x, a, byte);
	case EXPR_OP_OR:
	case EXPR_OP_AND:
		return derive_list(x, a, byte);
	case EXPR_OP_NOT:
		return expr_not(x, derive(x, e.a, byte));
	case EXPR_OP_REPEAT:
		return expr_seq(x, derive(x, e.a, byte),
			expr_repeat(x, e.a, e.min > 0 ? e.min - 1 : 0, e.max < 0 ? -1 : e.max - 1));
	default:
		return EXPR_NONE;
	}
}

/* The row of transitions of a, or NULL after trouble. */
static uint32_t *row_of(struct exprs *x, uint32_t a) {
	const size_t n = (size_t)x->n_classes, bytes = n * sizeof(*x->rows);
	if (x->all[a].row == 0) {
		if (x->n_rows == x->cap_rows && (size_t)x->cap_rows * bytes >= MAX_ROW_BYTES) {
			fail_size(x);
			return NULL;
		}
		if (!exprs_room(x, (void **)&x->rows, x->n_rows, &x->cap_rows, bytes)) {
			return NULL;
		}
		memset(x->rows + x->n_rows * n, 0, bytes);
		x->all[a].row = ++x->n_rows;
	}
	return x->rows + (x->all[a].row - 1) * n;
}

uint32_t expr_step_any(struct exprs *x, uint32_t a, int class) {
	assert(x->has_classes);
	const uint32_t *row = x->trouble.code == BB_OK ? row_of(x, a) : NULL;
	if (row == NULL || row[class] != 0) {
		return row == NULL ? EXPR_NONE : row[class] - 1;
	}
	const uint32_t next = derive(x, a, x->byte_of[class]);
	if (x->trouble.code != BB_OK) {
		return EXPR_NONE;
	}
	row_of(x, a)[class] = next + 1;
	return next;
}

uint32_t expr_step(struct exprs *x, uint32_t a, int class) {
	const uint32_t next = expr_step_any(x, a, class);
	return (flags_of(x, next) & EXPR_TRICKY) != 0 && !expr_is_live(x, next) ? EXPR_NONE : next;
}

/* Numbers that a search keeps. */
struct numbers {
	uint32_t *all; /* [n] */
	uint32_t n, cap;
};

static bool push(struct exprs *x, struct numbers *list, uint32_t a) {
	if (!exprs_room(x, (void **)&list->all, list->n, &list->cap, sizeof(*list->all))) {
		return false;
	}
	list->all[list->n++] = a;
	return true;
}

static bool is_surely_live(const struct exprs *x, uint32_t a) {
	const uint8_t f = flags_of(x, a);
	return a != EXPR_NONE && ((f & EXPR_TRICKY) == 0 || (f & (EXPR_NULLABLE | EXPR_LIVE)) != 0);
}

/* A class that has led to an end is tried first from now on. */
static void prefer(struct exprs *x, int place) {
	const uint8_t class = x->search_order[place];
	memmove(x->search_order + 1, x->search_order, (size_t)place);
	x->search_order[0] = class;
}

/* Depth first in the automaton from a on, for texts mostly can end where they go on: then all on
 * the way there is live. Where none ends, all that was seen is dead. */
static bool search_live(struct exprs *x, uint32_t a) {
	struct numbers seen = { 0 }, from = { 0 }, left = { 0 }; /* the last two: places in seen */
	bool is_live = is_surely_live(x, a), ok = push(x, &left, 0) && push(x, &from, 0) &&
		push(x, &seen, a);
	uint32_t at = 0;
	x->all[a].flags |= EXPR_SEEN;
	while (ok && !is_live && left.n > 0) {
		at = left.all[--left.n];
		const uint32_t first = left.n;
		for (int i = 0; ok && !is_live && i < x->n_classes; i++) {
			const uint32_t next = expr_step_any(x, seen.all[at], x->search_order[i]);
			ok = exprs_work(x, 1);
			is_live = ok && is_surely_live(x, next);
			if (is_live) {
				prefer(x, i);
			}
			if (ok && !is_live && (flags_of(x, next) & (EXPR_SEEN | EXPR_DEAD)) == 0 &&
				next != EXPR_NONE) {
				x->all[next].flags |= EXPR_SEEN;
				ok = push(x, &left, seen.n) && push(x, &from, at) && push(x, &seen, next);
			}
		}
		if (ok && left.n > first) { /* the way that is preferred goes last, to be taken first */
			const uint32_t last = left.all[left.n - 1];
			left.all[left.n - 1] = left.all[first];
			left.all[first] = last;
		}
		if (seen.n > MAX_SEARCH) {
			fail_size(x);
			ok = false;
		}
	}
	for (uint32_t i = 0; i < seen.n; i++) {
		x->all[seen.all[i]].flags &= (uint8_t)~EXPR_SEEN;
		if (ok && !is_live) {
			x->all[seen.all[i]].flags |= EXPR_DEAD;
		}
	}
	x->all[a].flags &= (uint8_t)~EXPR_SEEN;
	for (; ok && is_live; at = from.all[at]) {
		x->all[seen.all[at]].flags |= EXPR_LIVE;
		if (at == 0) {
			break;
		}
	}
	base_free(seen.all);
	base_free(from.all);
	base_free(left.all);
	return ok && is_live;
}

bool expr_is_live(struct exprs *x, uint32_t a) {
	if (is_surely_live(x, a)) {
		return true;
	}
	return a != EXPR_NONE && (flags_of(x, a) & EXPR_DEAD) == 0 && search_live(x, a);
}

bool expr_matches(struct exprs *x, uint32_t a, const char *text, size_t bytes) {
	for (size_t i = 0; i < bytes && a != EXPR_NONE; i++) {
		a = x->has_classes ? expr_step_any(x, a, x->class_of[(uint8_t)text[i]])
			: derive(x, a, (uint8_t)text[i]);
	}
	return expr_is_nullable(x, a);
}

static bool is_clipped(const struct exprs *x, uint32_t a) {
	return (flags_of(x, a) & EXPR_COUNTS) == 0 || (flags_of(x, a) & EXPR_TRICKY) != 0 ||
		x->all[a].clipped != 0;
}

/* A sequence, or alternatives, from the first end on that is known. */
static uint32_t clip_list(struct exprs *x, uint32_t a) {
	const enum expr_op op = x->all[a].op;
	uint32_t few[N_FEW], end = a;
	size_t n = 0;
	for (; x->all[end].op == op && !is_clipped(x, end); end = x->all[end].b) {
		n++;
	}
	uint32_t *const list = list_of(x, n, few);
	if (list == NULL) {
		return EXPR_NONE;
	}
	for (size_t i = 0; i < n; i++, a = x->all[a].b) {
		list[i] = a;
	}
	uint32_t all = expr_clip(x, end);
	while (n-- > 0) {
		const uint32_t first = expr_clip(x, x->all[list[n]].a);
		all = op == EXPR_OP_SEQ ? expr_seq(x, first, all) : expr_or(x, first, all);
		x->all[list[n]].clipped = x->trouble.code == BB_OK ? all : 0;
	}
	if (list != few) {
		base_free(list);
	}
	return all;
}

uint32_t expr_clip(struct exprs *x, uint32_t a) {
	const struct expr e = x->all[a];
	if (is_clipped(x, a)) {
		return e.clipped != 0 ? e.clipped : a;
	}
	if (e.op != EXPR_OP_REPEAT) {
		return clip_list(x, a);
	}
	const int past = EXPR_HORIZON + 1;
	const uint32_t all = expr_repeat(x, expr_clip(x, e.a), e.min > past ? past : e.min,
		e.max > past ? -1 : e.max);
	x->all[a].clipped = x->trouble.code == BB_OK ? all : 0;
	return all;
}
