/* SPDX-License-Identifier: Apache-2.0
 *
 * A repeat's bounds are replaced by none below and a mark above, larger than any bound: how far an
 * expression's derivatives have come down from the mark is how many rounds were taken. Where each
 * way to read a token takes as many, which is seen state by state, the token fits bounds that let
 * so many rounds be taken, and nothing else of the bounds matters for it; but an intersection may
 * have no text with few rounds left, which is asked when the bounds are known. */
#include "counts.h"

#include <string.h>

enum {
	MARK_SPAN = 1 << 20, /* mark i is EXPR_MARK + (i + 1) * MARK_SPAN */
	MAX_LOOKS = 200,   /* expressions that are looked at for one state */
	MAX_STATES = 1 << 12,
	FEW_ROUNDS = 4,    /* least reach: as many times more, as often as needed */
	MAX_ROUNDS = 64,   /* beyond, reach is all */
	DEAD = 1, FIRST = 2, /* in rows: 0 not asked; FIRST + a state */
};

/* ---- marks and bounds ---- */

/* Of a repeat with a mark: which, and how far it has come down. */
static int mark_of(const struct expr *e) {
	return (e->max - EXPR_MARK - 1) / MARK_SPAN;
}

static int32_t rounds_of(const struct expr *e) {
	return EXPR_MARK + (mark_of(e) + 1) * MARK_SPAN - e->max;
}

struct marking {
	struct exprs *x;
	struct count_bounds *bounds;
	int first; /* bounds before it aren't these repeats', even where they are equal */
	int n_looks;
};

static uint32_t mark_repeat(struct marking *k, uint32_t a) {
	const struct expr e = k->x->all[a];
	const struct count_bound own = { e.a, e.min, e.max < 0 ? COUNTS_NO_MAX : e.max };
	struct count_bounds *const b = k->bounds;
	int i = k->first;
	while (i < b->n && (b->all[i].body != own.body || b->all[i].min != own.min ||
		b->all[i].max != own.max)) {
		i++;
	}
	if (i == COUNTS_MOST) {
		return a;
	}
	b->all[i] = own;
	b->n += i == b->n;
	return expr_repeat(k->x, e.a, 0, EXPR_MARK + (i + 1) * MARK_SPAN);
}

/* Of a sequence the first part that has a bound: behind it the same repeat may stand again. */
static uint32_t mark(struct marking *k, uint32_t expr) {
	const struct expr e = k->x->all[expr];
	if ((e.flags & EXPR_BOUNDED) == 0 || ++k->n_looks > MAX_LOOKS) {
		return expr;
	}
	switch (e.op) {
	case EXPR_OP_REPEAT:
		return mark_repeat(k, expr);
	case EXPR_OP_SEQ:
		return (k->x->all[e.a].flags & EXPR_BOUNDED) != 0
			? expr_seq(k->x, mark(k, e.a), e.b) : expr_seq(k->x, e.a, mark(k, e.b));
	case EXPR_OP_OR: {
		const uint32_t first = mark(k, e.a);
		return expr_or(k->x, first, mark(k, e.b));
	}
	case EXPR_OP_AND: {
		/* both must hold, and one may be over where the other goes on */
		const int first = k->first;
		const uint32_t a = mark(k, e.a);
		k->first = k->bounds->n;
		const uint32_t b = mark(k, e.b);
		k->first = first;
		return expr_and(k->x, a, b);
	}
	default:
		return expr;
	}
}

uint32_t counts_mark(struct exprs *x, uint32_t expr, struct count_bounds *out) {
	struct marking k = { .x = x, .bounds = out };
	*out = (struct count_bounds){ 0 };
	const uint32_t marked = mark(&k, expr);
	return k.n_looks > MAX_LOOKS || out->n == 0 || x->trouble.code != BB_OK ? EXPR_NONE : marked;
}

static uint32_t unmark_repeat(struct exprs *x, const struct expr *e,
	const struct count_bounds *bounds) {
	const struct count_bound b = bounds->all[mark_of(e)];
	const int32_t rounds = rounds_of(e);
	return rounds > b.max ? EXPR_NONE : expr_repeat(x, e->a, b.min > rounds ? b.min - rounds : 0,
		b.max == COUNTS_NO_MAX ? -1 : b.max - rounds);
}

uint32_t counts_unmark(struct exprs *x, uint32_t a, const struct count_bounds *bounds) {
	const struct expr e = x->all[a];
	if ((e.flags & EXPR_MARKED) == 0) {
		return a;
	}
	switch (e.op) {
	case EXPR_OP_REPEAT:
		return unmark_repeat(x, &e, bounds);
	case EXPR_OP_SEQ: {
		const uint32_t first = counts_unmark(x, e.a, bounds);
		return expr_seq(x, first, counts_unmark(x, e.b, bounds));
	}
	case EXPR_OP_OR: {
		const uint32_t first = counts_unmark(x, e.a, bounds);
		return expr_or(x, first, counts_unmark(x, e.b, bounds));
	}
	case EXPR_OP_AND: {
		const uint32_t first = counts_unmark(x, e.a, bounds);
		return expr_and(x, first, counts_unmark(x, e.b, bounds));
	}
	default:
		return a;
	}
}

/* ---- states ---- */

/* Where the walk is: an expression, and the rounds of repeats that are over. */
struct state {
	uint32_t expr;
	uint8_t inside;
	bool asks, is_nullable;
	int32_t rounds[COUNTS_MOST];
	uint32_t part; /* 1 + which, 0: none yet */
};

struct walk {
	struct exprs *x;
	const struct token_tree *tree;
	int n_marks;
	int32_t reach[COUNTS_MOST];
	struct state *states; /* [n] */
	uint32_t *rows;       /* [cap, n_classes] */
	uint32_t *slots;      /* [2 * MAX_STATES]: 1 + a state, 0: free */
	uint32_t n, cap;
	uint32_t *ends;       /* [n_ids]: 1 + the state of a token, 0: it doesn't fit */
	uint32_t *crossings;  /* [n_crossings, 2]: nodes, and their states */
	uint32_t n_crossings, cap_crossings;
	bool is_one;          /* so far */
};

struct look {
	const struct exprs *x;
	int n_looks;
	bool differs; /* a mark has come down in different ways */
	unsigned some; /* bits of marks that were seen */
	int32_t rounds[COUNTS_MOST];
};

/* Bits of the marks that every text of an expression goes through. */
static unsigned look(struct look *k, uint32_t a) {
	const struct expr e = k->x->all[a];
	if ((e.flags & EXPR_MARKED) == 0 || ++k->n_looks > MAX_LOOKS) {
		return 0;
	}
	if (e.op == EXPR_OP_REPEAT) {
		const int i = mark_of(&e);
		k->differs |= (k->some >> i & 1) != 0 && k->rounds[i] != rounds_of(&e);
		k->rounds[i] = rounds_of(&e);
		k->some |= 1u << i;
		return 1u << i;
	}
	const unsigned first = look(k, e.a), rest = look(k, e.b);
	return e.op == EXPR_OP_OR ? first & rest : first | rest;
}

static uint32_t *slot_of(const struct walk *w, const struct state *s) {
	uint64_t h = s->expr;
	for (int i = 0; i < COUNTS_MOST; i++) {
		h = (h ^ (h >> 29) ^ (uint64_t)(uint32_t)s->rounds[i] << 32) * 0x9E3779B97F4A7C15u;
	}
	uint32_t at = (uint32_t)(h >> 40) & (2 * MAX_STATES - 1);
	for (; w->slots[at] != 0; at = (at + 1) & (2 * MAX_STATES - 1)) {
		const struct state *o = &w->states[w->slots[at] - 1];
		if (o->expr == s->expr && memcmp(o->rounds, s->rounds, sizeof(s->rounds)) == 0) {
			break;
		}
	}
	return &w->slots[at];
}

static bool add_state(struct walk *w, const struct state *s) {
	const size_t n_classes = (size_t)w->x->n_classes;
	const uint32_t cap = w->cap;
	if (!exprs_room(w->x, (void **)&w->states, w->n, &w->cap, sizeof(*w->states))) {
		return false;
	}
	if (w->cap != cap) {
		uint32_t *rows = base_realloc(w->rows, w->cap, n_classes * sizeof(*rows));
		if (rows == NULL) {
			return base_no_memory(&w->x->trouble, "grammar", w->cap * n_classes * sizeof(*rows));
		}
		w->rows = rows;
	}
	memset(w->rows + w->n * n_classes, 0, n_classes * sizeof(*w->rows));
	w->states[w->n++] = *s;
	return true;
}

/* FIRST + the state of an expression behind one of these rounds; DEAD: none, or it is beyond the
 * reach, or trouble, or rounds can't be told. */
static uint32_t enter(struct walk *w, uint32_t expr, const int32_t *rounds) {
	struct look k = { .x = w->x };
	const unsigned all = look(&k, expr);
	const uint8_t flags = w->x->all[expr].flags;
	struct state s = { .expr = expr, .inside = (uint8_t)all };
	memcpy(s.rounds, rounds, sizeof(s.rounds));
	if (k.n_looks > MAX_LOOKS || k.differs || all != k.some) {
		w->is_one = false;
		return DEAD;
	}
	for (int i = 0; i < w->n_marks; i++) {
		s.rounds[i] = (all >> i & 1) != 0 ? k.rounds[i] : s.rounds[i];
		if (s.rounds[i] > w->reach[i]) {
			return DEAD;
		}
	}
	if (all == 0 && !expr_is_live(w->x, expr)) {
		return DEAD;
	}
	s.is_nullable = (flags & EXPR_NULLABLE) != 0;
	s.asks = all != 0 && (flags & (EXPR_TRICKY | EXPR_NULLABLE)) != 0;
	uint32_t *const slot = slot_of(w, &s);
	if (*slot == 0) {
		w->is_one = w->is_one && w->n < MAX_STATES;
		if (!w->is_one || !add_state(w, &s)) {
			return DEAD;
		}
		*slot = w->n;
	}
	return FIRST + *slot - 1;
}

static uint32_t go_on(struct walk *w, uint32_t from, int class) {
	const struct state s = w->states[from];
	const uint32_t next = expr_step_any(w->x, s.expr, class);
	const uint32_t found = next == EXPR_NONE ? DEAD : enter(w, next, s.rounds);
	w->rows[(size_t)from * (size_t)w->x->n_classes + (size_t)class] = found;
	return found;
}

static bool add_crossing(struct walk *w, uint32_t node, uint32_t state) {
	if (!exprs_room(w->x, (void **)&w->crossings, w->n_crossings, &w->cap_crossings,
		2 * sizeof(*w->crossings))) {
		return false;
	}
	w->crossings[2 * w->n_crossings] = node;
	w->crossings[2 * w->n_crossings++ + 1] = state;
	return true;
}

/* Fills ends and crossings; false: trouble, or not one. */
static bool go_through(struct walk *w, uint32_t marked, uint32_t *stack) {
	const struct token_tree *const t = w->tree;
	const size_t n_classes = (size_t)w->x->n_classes;
	const uint8_t *const class_of = w->x->class_of;
	const uint32_t start = enter(w, marked, (const int32_t[COUNTS_MOST]){ 0 });
	if (start == DEAD || !exprs_work(w->x, t->n_nodes / 8)) {
		return false;
	}
	stack[0] = start - FIRST;
	for (uint32_t i = 1; i < t->n_nodes;) {
		const int depth = t->depth[i];
		const uint32_t from = stack[depth - 1];
		const int class = class_of[t->byte[i]];
		uint32_t next = w->rows[from * n_classes + (size_t)class];
		if (next == 0) {
			next = go_on(w, from, class);
			if (!w->is_one || w->x->trouble.code != BB_OK) {
				return false;
			}
		}
		if (next == DEAD) {
			i = t->end[i];
			continue;
		}
		const uint32_t state = next - FIRST;
		for (uint32_t j = t->first[i]; j < t->first[i + 1]; j++) {
			w->ends[j] = state + 1;
		}
		if (w->states[state].is_nullable && t->end[i] > i + 1 && !add_crossing(w, i, state)) {
			return false;
		}
		stack[depth] = state;
		i++;
	}
	return true;
}

/* ---- parts ---- */

/* The part of each state: states of which nothing has to be asked share one where they have taken
 * the same rounds. Returns how many there are. */
static uint32_t number_parts(struct walk *w) {
	uint32_t n = 0;
	for (uint32_t i = 0; i < w->n; i++) {
		struct state *const s = &w->states[i];
		for (uint32_t j = 0; j < i && !s->asks && s->part == 0; j++) {
			const struct state *const o = &w->states[j];
			if (!o->asks && o->inside == s->inside &&
				memcmp(o->rounds, s->rounds, sizeof(s->rounds)) == 0) {
				s->part = o->part;
			}
		}
		s->part = s->part == 0 ? ++n : s->part;
	}
	return n;
}

/* Room for what a part has, counted in n_ids and n_crossings, which start over. */
static bool alloc_part(struct count_family *f, struct count_part *p, size_t n_words) {
	const bool is_wide = p->n_ids >= n_words;
	p->ids = is_wide ? NULL : base_alloc(p->n_ids, sizeof(*p->ids));
	p->bits = is_wide ? base_alloc(n_words, sizeof(*p->bits)) : NULL;
	p->crossings = base_alloc(p->n_crossings, sizeof(*p->crossings));
	f->bytes += sizeof(*p) + (is_wide ? n_words : p->n_ids) * sizeof(*p->ids) +
		p->n_crossings * sizeof(*p->crossings);
	p->n_ids = p->n_crossings = 0;
	return (p->ids != NULL || p->bits != NULL) && p->crossings != NULL;
}

static bool fill_parts(struct count_family *f, const struct walk *w) {
	const struct token_tree *const t = w->tree;
	for (uint32_t i = 0; i < w->n; i++) {
		struct count_part *const p = &f->parts[w->states[i].part - 1];
		p->expr = w->states[i].expr;
		p->inside = w->states[i].inside;
		p->asks = w->states[i].asks;
		f->asks |= p->asks;
		memcpy(p->rounds, w->states[i].rounds, sizeof(p->rounds));
	}
	for (uint32_t j = 0; j < t->n_ids; j++) {
		if (w->ends[j] != 0) {
			f->parts[w->states[w->ends[j] - 1].part - 1].n_ids++;
		}
	}
	for (uint32_t i = 0; i < w->n_crossings; i++) {
		f->parts[w->states[w->crossings[2 * i + 1]].part - 1].n_crossings++;
	}
	for (uint32_t i = 0; i < f->n; i++) {
		if (!alloc_part(f, &f->parts[i], (size_t)t->n_words)) {
			return base_no_memory(&w->x->trouble, "grammar", f->bytes);
		}
	}
	for (uint32_t j = 0; j < t->n_ids; j++) {
		struct count_part *const p = w->ends[j] == 0 ? NULL
			: &f->parts[w->states[w->ends[j] - 1].part - 1];
		if (p != NULL && p->bits != NULL) {
			p->bits[t->ids[j] >> 5] |= 1u << (t->ids[j] & 31);
		} else if (p != NULL) {
			p->ids[p->n_ids++] = t->ids[j];
		}
	}
	for (uint32_t i = 0; i < w->n_crossings; i++) {
		struct count_part *const p = &f->parts[w->states[w->crossings[2 * i + 1]].part - 1];
		p->crossings[p->n_crossings++] = w->crossings[2 * i];
	}
	return true;
}

int32_t counts_reach_of(int32_t max) {
	int32_t reach = FEW_ROUNDS;
	while (reach < max && reach < MAX_ROUNDS) {
		reach *= 4;
	}
	return reach < max ? COUNTS_NO_MAX : reach;
}

bool counts_create(struct count_family *f, struct exprs *x, const struct token_tree *tree,
	uint32_t marked, const struct count_bounds *bounds, uint32_t *stack, bool *is_one) {
	struct walk w = { .x = x, .tree = tree, .n_marks = bounds->n, .is_one = true };
	memset(f, 0, sizeof(*f));
	for (int i = 0; i < bounds->n; i++) {
		w.reach[i] = f->reach[i] = counts_reach_of(bounds->all[i].max);
	}
	w.slots = base_alloc(2 * MAX_STATES, sizeof(*w.slots));
	w.ends = base_alloc(tree->n_ids, sizeof(*w.ends));
	bool ok = w.slots != NULL && w.ends != NULL;
	if (!ok) {
		base_no_memory(&x->trouble, "grammar", tree->n_ids * sizeof(*w.ends));
	}
	ok = ok && go_through(&w, marked, stack);
	if (ok) {
		f->n = number_parts(&w);
		f->parts = base_alloc(f->n, sizeof(*f->parts));
		ok = f->parts != NULL ? fill_parts(f, &w)
			: base_no_memory(&x->trouble, "grammar", f->n * sizeof(*f->parts));
	}
	*is_one = ok;
	if (!ok) {
		counts_destroy(f);
	}
	base_free(w.states);
	base_free(w.rows);
	base_free(w.slots);
	base_free(w.ends);
	base_free(w.crossings);
	return x->trouble.code == BB_OK;
}

void counts_destroy(struct count_family *f) {
	if (f->is_stored) {
		memset(f, 0, sizeof(*f));
	}
	for (uint32_t i = 0; f->parts != NULL && i < f->n; i++) {
		base_free(f->parts[i].bits);
		base_free(f->parts[i].ids);
		base_free(f->parts[i].crossings);
	}
	base_free(f->parts);
	memset(f, 0, sizeof(*f));
}

bool counts_reach(const struct count_family *f, const struct count_bounds *bounds) {
	for (int i = 0; i < bounds->n; i++) {
		if (bounds->all[i].max > f->reach[i]) {
			return false;
		}
	}
	return true;
}

bool counts_part_fits(struct exprs *x, const struct count_part *p,
	const struct count_bounds *bounds, bool *may_end) {
	for (int i = 0; i < bounds->n; i++) {
		const bool is_inside = (p->inside >> i & 1) != 0;
		if (p->rounds[i] > bounds->all[i].max ||
			(!is_inside && p->rounds[i] < bounds->all[i].min)) {
			return false;
		}
	}
	*may_end = true;
	if (p->asks) {
		const uint32_t expr = counts_unmark(x, p->expr, bounds);
		*may_end = expr_is_nullable(x, expr);
		return expr_is_live(x, expr);
	}
	return true;
}
