/* SPDX-License-Identifier: Apache-2.0
 *
 * Sets of stacks, byte by byte and token by token. */
#include "match.h"

#include <stdlib.h>
#include <string.h>

enum {
	MAX_DEPTH = 1200,      /* cells below a cell */
	MAX_STACKS = 1 << 14,  /* of a set */
	SOFT_SETS = 1 << 12, SOFT_CELLS = 1 << 16, /* with more, what isn't needed is dropped */
	MAX_SETS = 1 << 17, MAX_CELLS = 1 << 21,
};

static struct bb_error *trouble_of(const struct matcher *m) {
	return &m->rules->x.trouble;
}

static bool is_well(const struct matcher *m) {
	return trouble_of(m)->code == BB_OK;
}

static bool make_room(struct matcher *m, void **array, uint32_t n, uint32_t *cap, uint32_t most,
	size_t bytes) {
	if (n < *cap) {
		return true;
	}
	if (n >= most) {
		return base_fail(trouble_of(m), BB_ERR_UNSUPPORTED, "expected a grammar with less ways to "
			"read a text; this one needs more than %u at once", most);
	}
	const uint32_t wanted = 2 * *cap + 64;
	void *grown = base_realloc(*array, wanted, bytes);
	if (grown == NULL) {
		return base_no_memory(trouble_of(m), "grammar", wanted * bytes);
	}
	*array = grown;
	*cap = wanted;
	return true;
}

static uint32_t scatter(uint64_t h) {
	h = (h ^ (h >> 31)) * 0x9E3779B97F4A7C15u;
	h = (h ^ (h >> 29)) * 0xBF58476D1CE4E5B9u;
	return (uint32_t)(h ^ (h >> 32));
}

/* ---- cells ---- */

static uint32_t cell_hash(uint32_t node, uint32_t next, int32_t count) {
	return scatter(((uint64_t)next << 32 | node) + (uint64_t)(uint32_t)count * 0xD6E8FEB86659FD93u);
}

static bool grow_cells(struct matcher *m) {
	const uint32_t mask = 2 * m->cell_mask + 1;
	uint32_t *slots = base_alloc((size_t)mask + 1, sizeof(*slots));
	if (slots == NULL) {
		return base_no_memory(trouble_of(m), "grammar", ((size_t)mask + 1) * sizeof(*slots));
	}
	for (uint32_t i = 1; i < m->n_cells; i++) {
		const struct match_cell *c = &m->cells[i];
		uint32_t at = cell_hash(c->node, c->next, c->count) & mask;
		while (slots[at] != 0) {
			at = (at + 1) & mask;
		}
		slots[at] = i;
	}
	base_free(m->cell_slots);
	m->cell_slots = slots;
	m->cell_mask = mask;
	return true;
}

/* 0 after trouble, or where the stack would be too deep. */
static uint32_t cell_of(struct matcher *m, uint32_t node, int32_t count, uint32_t next) {
	uint32_t at = cell_hash(node, next, count) & m->cell_mask;
	for (; m->cell_slots[at] != 0; at = (at + 1) & m->cell_mask) {
		const struct match_cell *c = &m->cells[m->cell_slots[at]];
		if (c->node == node && c->next == next && c->count == count) {
			return m->cell_slots[at];
		}
	}
	const int32_t depth = m->cells[next].depth + 1;
	if (depth > MAX_DEPTH) {
		m->was_too_deep = true;
		return 0;
	}
	if (!make_room(m, (void **)&m->cells, m->n_cells, &m->cap_cells, MAX_CELLS,
		sizeof(*m->cells))) {
		return 0;
	}
	m->cells[m->n_cells] = (struct match_cell){ .node = node, .next = next, .count = count,
		.depth = depth };
	m->cell_slots[at] = m->n_cells++;
	const uint32_t made = m->n_cells - 1;
	return 2 * m->n_cells <= m->cell_mask || grow_cells(m) ? made : 0;
}

/* ---- what a cell begins with ---- */

static bool push_stack(struct matcher *m, uint32_t expr, uint32_t cell) {
	if (!make_room(m, (void **)&m->found, m->n_found, &m->cap_found, MAX_STACKS,
		sizeof(*m->found))) {
		return false;
	}
	m->found[m->n_found++] = (struct match_stack){ expr, cell };
	return true;
}

static bool push_cell(struct matcher *m, uint32_t cell) {
	if (!make_room(m, (void **)&m->left, m->n_left, &m->cap_left, MAX_CELLS, sizeof(*m->left))) {
		return false;
	}
	m->left[m->n_left++] = cell;
	return true;
}

/* A cell in front of `next`, to look at; too deep ones are left out. */
static bool push_node(struct matcher *m, uint32_t node, int32_t count, uint32_t next) {
	const uint32_t cell = cell_of(m, node, count, next);
	return cell != 0 ? push_cell(m, cell) : is_well(m);
}

static bool push_repeat(struct matcher *m, const struct node *n, uint32_t node, int32_t count,
	uint32_t next) {
	if (count >= n->min && !push_cell(m, next)) {
		return false;
	}
	if (n->max >= 0 && count >= n->max) {
		return true;
	}
	/* with no upper bound, rounds behind the lower one are alike */
	const int32_t far = n->max < 0 ? n->min : n->max;
	const uint32_t again = cell_of(m, node, count < far ? count + 1 : far, next);
	return again != 0 ? push_node(m, n->a, 0, again) : is_well(m);
}

/* Adds the stacks that begin with a cell to `found`. A cell that this stamp has seen has them there
 * already. */
static bool add_closure(struct matcher *m, uint32_t start) {
	bool ok = push_cell(m, start);
	while (ok && m->n_left > 0) {
		const uint32_t at = m->left[--m->n_left];
		ok = exprs_work(&m->rules->x, 1);
		if (m->cells[at].stamp == m->stamp) {
			continue;
		}
		m->cells[at].stamp = m->stamp;
		if (at == 0) {
			ok = push_stack(m, EXPR_EMPTY, 0);
			continue;
		}
		const struct match_cell c = m->cells[at];
		const struct node *const n = &m->rules->nodes[c.node];
		switch (n->op) {
		case NODE_EMPTY:
			ok = push_cell(m, c.next);
			break;
		case NODE_TERM:
			ok = push_stack(m, n->a, c.next) && (!n->is_nullable || push_cell(m, c.next));
			break;
		case NODE_SEQ: {
			const uint32_t rest = cell_of(m, n->b, 0, c.next);
			ok = rest != 0 ? push_node(m, n->a, 0, rest) : is_well(m);
			break;
		}
		case NODE_EITHER:
			ok = push_node(m, n->a, 0, c.next) && push_node(m, n->b, 0, c.next);
			break;
		case NODE_REPEAT:
			ok = push_repeat(m, n, c.node, c.count, c.next);
			break;
		case NODE_RULE:
			ok = push_node(m, m->rules->rules[n->a].body, 0, c.next);
			break;
		default:
			break;
		}
	}
	m->n_left = 0;
	return ok;
}

/* ---- sets ---- */

static int by_both(const void *a, const void *b) {
	const struct match_stack *s = a, *t = b;
	return s->expr != t->expr ? (s->expr > t->expr ? 1 : -1)
		: (s->cell > t->cell) - (s->cell < t->cell);
}

static uint32_t set_hash(const struct match_stack *s, uint32_t n) {
	uint64_t h = n;
	for (uint32_t i = 0; i < n; i++) {
		h = (h ^ ((uint64_t)s[i].expr << 32 | s[i].cell)) * 0x9E3779B97F4A7C15u;
		h ^= h >> 29;
	}
	return scatter(h);
}

static bool grow_sets(struct matcher *m) {
	const uint32_t mask = 2 * m->set_mask + 1;
	uint32_t *slots = base_alloc((size_t)mask + 1, sizeof(*slots));
	if (slots == NULL) {
		return base_no_memory(trouble_of(m), "grammar", ((size_t)mask + 1) * sizeof(*slots));
	}
	for (uint32_t i = 1; i < m->n_sets; i++) {
		uint32_t at = set_hash(m->stacks + m->sets[i].first, m->sets[i].n) & mask;
		while (slots[at] != 0) {
			at = (at + 1) & mask;
		}
		slots[at] = i;
	}
	base_free(m->set_slots);
	m->set_slots = slots;
	m->set_mask = mask;
	return true;
}

static bool add_set(struct matcher *m, uint32_t at) {
	const size_t n_classes = (size_t)m->rules->x.n_classes;
	const uint32_t cap = m->cap_sets;
	if (!make_room(m, (void **)&m->sets, m->n_sets, &m->cap_sets, MAX_SETS, sizeof(*m->sets))) {
		return false;
	}
	if (m->cap_sets != cap) {
		uint32_t *rows = base_realloc(m->rows, m->cap_sets, n_classes * sizeof(*rows));
		if (rows == NULL) {
			m->cap_sets = cap;
			return base_no_memory(trouble_of(m), "grammar", m->cap_sets * n_classes);
		}
		m->rows = rows;
	}
	for (uint32_t i = 0; i < m->n_found; i++) {
		if (!make_room(m, (void **)&m->stacks, m->n_stacks + i, &m->cap_stacks, UINT32_MAX / 4,
			sizeof(*m->stacks))) {
			return false;
		}
		m->stacks[m->n_stacks + i] = m->found[i];
	}
	m->sets[m->n_sets] = (struct match_set){ m->n_stacks, m->n_found };
	memset(m->rows + m->n_sets * n_classes, 0, n_classes * sizeof(*m->rows));
	m->n_stacks += m->n_found;
	m->set_slots[at] = m->n_sets++;
	return 2 * m->n_sets <= m->set_mask || grow_sets(m);
}

/* The number of the set that was found; 0: it has no stacks, or trouble. */
static uint32_t close_set(struct matcher *m) {
	if (m->n_found == 0 || !is_well(m)) {
		return 0;
	}
	qsort(m->found, m->n_found, sizeof(*m->found), by_both);
	uint32_t n = 1;
	for (uint32_t i = 1; i < m->n_found; i++) {
		if (by_both(&m->found[n - 1], &m->found[i]) != 0) {
			m->found[n++] = m->found[i];
		}
	}
	m->n_found = n;
	uint32_t at = set_hash(m->found, n) & m->set_mask;
	for (; m->set_slots[at] != 0; at = (at + 1) & m->set_mask) {
		const struct match_set *s = &m->sets[m->set_slots[at]];
		if (s->n == n && memcmp(m->stacks + s->first, m->found, n * sizeof(*m->found)) == 0) {
			return m->set_slots[at];
		}
	}
	return add_set(m, at) ? m->n_sets - 1 : 0;
}

static void open_set(struct matcher *m) {
	m->n_found = 0;
	m->stamp++;
}

/* The set of stacks that begin with a cell. */
static uint32_t start_of(struct matcher *m, uint32_t cell) {
	if (m->cells[cell].start == 0) {
		open_set(m);
		const uint32_t set = add_closure(m, cell) ? close_set(m) : 0;
		if (!is_well(m)) {
			return 0;
		}
		m->cells[cell].start = set + 1;
	}
	return m->cells[cell].start - 1;
}

/* The set behind one byte; 0: none can follow. */
static uint32_t next_set(struct matcher *m, uint32_t set, int class) {
	struct exprs *const x = &m->rules->x;
	const size_t at = (size_t)set * (size_t)x->n_classes + (size_t)class;
	if (set == 0 || m->rows[at] != 0) {
		return set == 0 ? 0 : m->rows[at] - 1;
	}
	const struct match_set from = m->sets[set];
	open_set(m);
	for (uint32_t i = 0; i < from.n && exprs_work(x, 1); i++) {
		const struct match_stack s = m->stacks[from.first + i];
		const uint32_t next = expr_step(x, s.expr, class);
		if (next > EXPR_EMPTY && !push_stack(m, next, s.cell)) {
			return 0;
		}
		if (expr_is_nullable(x, next) && !add_closure(m, s.cell)) {
			return 0;
		}
	}
	const uint32_t found = close_set(m);
	if (is_well(m)) {
		m->rows[at] = found + 1;
	}
	return found;
}

/* ---- life ---- */

static bool alloc_tables(struct matcher *m, struct bb_error *err) {
	m->cell_mask = m->set_mask = 255;
	m->cap_cells = m->cap_sets = 64;
	m->cells = base_alloc(m->cap_cells, sizeof(*m->cells));
	m->sets = base_alloc(m->cap_sets, sizeof(*m->sets));
	m->cell_slots = base_alloc(m->cell_mask + 1, sizeof(*m->cell_slots));
	m->set_slots = base_alloc(m->set_mask + 1, sizeof(*m->set_slots));
	m->rows = base_alloc(m->cap_sets, (size_t)m->rules->x.n_classes * sizeof(*m->rows));
	m->n_cells = m->n_sets = 1; /* those that are number 0 */
	return (m->cells != NULL && m->sets != NULL && m->cell_slots != NULL && m->set_slots != NULL &&
		m->rows != NULL) || base_no_memory(err, "grammar", m->cap_cells * sizeof(*m->cells));
}

static bool report(struct matcher *m, struct bb_error *err) {
	struct bb_error *const trouble = trouble_of(m);
	base_fail(err, trouble->code, "%s", trouble->text);
	*trouble = (struct bb_error){ 0 };
	return false;
}

bool matcher_init(struct matcher *m, struct rules *rules, struct heads *heads,
	struct bb_error *err) {
	memset(m, 0, sizeof(*m));
	m->rules = rules;
	m->heads = heads;
	const size_t depth = heads != NULL ? (size_t)heads->tree->max_depth + 1 : 1;
	m->path = base_alloc(depth, sizeof(*m->path));
	if (m->path == NULL) {
		return base_no_memory(err, "grammar", depth * sizeof(*m->path));
	}
	if (!alloc_tables(m, err)) {
		matcher_finish(m);
		return false;
	}
	exprs_begin(&m->rules->x);
	const uint32_t root = cell_of(m, rules->root, 0, 0);
	m->now = root != 0 ? start_of(m, root) : 0;
	if (!is_well(m)) {
		report(m, err);
		matcher_finish(m);
		return false;
	}
	return true;
}

void matcher_finish(struct matcher *m) {
	base_free(m->cells);
	base_free(m->cell_slots);
	base_free(m->stacks);
	base_free(m->sets);
	base_free(m->set_slots);
	base_free(m->rows);
	base_free(m->found);
	base_free(m->left);
	base_free(m->path);
	memset(m, 0, sizeof(*m));
}

/* A cell of another matcher's table, with all below it. */
static uint32_t copy_cell(struct matcher *to, const struct matcher *from, uint32_t cell) {
	uint32_t chain[MAX_DEPTH + 1], copy = 0;
	int n = 0;
	for (; cell != 0; cell = from->cells[cell].next) {
		chain[n++] = cell;
	}
	while (n-- > 0 && is_well(to)) {
		const struct match_cell *c = &from->cells[chain[n]];
		copy = cell_of(to, c->node, c->count, copy);
	}
	return copy;
}

/* Drops all sets and cells but those that the text stands at. */
static bool drop_old(struct matcher *m) {
	struct matcher fresh = { .rules = m->rules, .heads = m->heads };
	const struct match_set now = m->sets[m->now];
	bool ok = alloc_tables(&fresh, trouble_of(m));
	open_set(&fresh);
	for (uint32_t i = 0; ok && i < now.n; i++) {
		const struct match_stack s = m->stacks[now.first + i];
		const uint32_t cell = copy_cell(&fresh, m, s.cell);
		ok = is_well(m) && push_stack(&fresh, s.expr, cell);
	}
	fresh.now = ok ? close_set(&fresh) : 0;
	if (!ok || !is_well(m)) {
		matcher_finish(&fresh);
		return false;
	}
	fresh.path = m->path;
	m->path = NULL;
	matcher_finish(m);
	*m = fresh;
	return true;
}

bool matcher_accept(struct matcher *m, const char *text, size_t bytes, bool *fits,
	struct bb_error *err) {
	uint32_t set = m->now;
	exprs_begin(&m->rules->x);
	for (size_t i = 0; i < bytes && set != 0; i++) {
		set = next_set(m, set, m->rules->x.class_of[(uint8_t)text[i]]);
	}
	if (!is_well(m)) {
		return report(m, err);
	}
	*fits = set != 0;
	m->now = set != 0 ? set : m->now;
	return (m->n_sets <= SOFT_SETS && m->n_cells <= SOFT_CELLS) || drop_old(m) || report(m, err);
}

static bool may_end_at(const struct matcher *m, uint32_t set) {
	const struct match_set s = m->sets[set];
	for (uint32_t i = 0; i < s.n; i++) { /* sorted: those of EXPR_EMPTY come first */
		if (m->stacks[s.first + i].expr == EXPR_EMPTY && m->stacks[s.first + i].cell == 0) {
			return true;
		}
	}
	return false;
}

bool matcher_may_end(const struct matcher *m) {
	return may_end_at(m, m->now);
}

/* The one byte that can follow, and the set behind it; 0: there are several, or none. */
static uint32_t only_next(struct matcher *m, uint32_t set, char *byte) {
	const struct exprs *const x = &m->rules->x;
	uint32_t only = 0;
	int n = 0;
	for (int class = 0; class < x->n_classes && n < 2; class++) {
		const uint32_t next = next_set(m, set, class);
		for (int i = 0; next != 0 && i < 256; i++) {
			n += x->class_of[i] == class;
		}
		only = next != 0 ? next : only;
		*byte = next != 0 ? (char)x->byte_of[class] : *byte;
	}
	return n == 1 && is_well(m) ? only : 0;
}

size_t matcher_forced(struct matcher *m, char *out, size_t most) {
	size_t n = 0;
	exprs_begin(&m->rules->x);
	for (uint32_t set = m->now; n < most && !may_end_at(m, set); n++) {
		set = only_next(m, set, &out[n]);
		if (set == 0) {
			break;
		}
	}
	*trouble_of(m) = (struct bb_error){ 0 }; /* less is known then */
	return n;
}

/* ---- masks ---- */

/* Sets the bits of tokens that lie below a node, from a set on. */
static void walk(struct matcher *m, uint32_t node, uint32_t set, uint32_t *bits) {
	const struct token_tree *const t = m->heads->tree;
	const uint8_t *const class_of = m->rules->x.class_of;
	m->path[t->depth[node]] = set;
	for (uint32_t i = node + 1; i < t->end[node];) {
		const int depth = t->depth[i];
		const uint32_t next = next_set(m, m->path[depth - 1], class_of[t->byte[i]]);
		if (!exprs_work(&m->rules->x, 1)) {
			return;
		}
		if (next == 0) {
			i = t->end[i];
			continue;
		}
		for (uint32_t j = t->first[i]; j < t->first[i + 1]; j++) {
			bits[t->ids[j] >> 5] |= 1u << (t->ids[j] & 31);
		}
		m->path[depth] = next;
		i++;
	}
}

static void add_head(struct matcher *m, const struct head *h, uint32_t cell, uint32_t *bits) {
	exprs_work(&m->rules->x, (size_t)m->heads->tree->n_words / 8 + h->n_ids);
	for (int i = 0; h->bits != NULL && i < m->heads->tree->n_words; i++) {
		bits[i] |= h->bits[i];
	}
	for (uint32_t i = 0; i < h->n_ids; i++) {
		bits[h->ids[i] >> 5] |= 1u << (h->ids[i] & 31);
	}
	/* Behind cell 0 nothing comes: of free text at the end, each node would be a crossing. */
	const uint32_t behind = h->n_crossings > 0 && cell != 0 ? start_of(m, cell) : 0;
	for (uint32_t i = 0; behind != 0 && i < h->n_crossings && is_well(m); i++) {
		walk(m, h->crossings[i], behind, bits);
	}
}

/* The stacks of a set that are walked from the root, as a set; the others' heads are added. */
static uint32_t add_heads(struct matcher *m, uint32_t set, uint32_t *bits) {
	const struct match_set from = m->sets[set];
	uint32_t n_wide = 0;
	for (uint32_t i = 0; i < from.n && is_well(m); i++) {
		const struct match_stack s = m->stacks[from.first + i];
		const struct head *h = heads_find(m->heads, s.expr);
		if (h == NULL) {
			return 0;
		}
		if (!h->is_narrow) {
			n_wide++;
			add_head(m, h, s.cell, bits);
		}
	}
	if (n_wide == 0) {
		return set;
	}
	open_set(m);
	for (uint32_t i = 0; n_wide < from.n && i < from.n; i++) {
		const struct match_stack s = m->stacks[from.first + i];
		const struct head *h = heads_find(m->heads, s.expr);
		if (h == NULL || (h->is_narrow && !push_stack(m, s.expr, s.cell))) {
			return 0;
		}
	}
	return close_set(m);
}

bool matcher_mask(struct matcher *m, uint32_t *bits, struct bb_error *err) {
	const struct token_tree *const t = m->heads->tree;
	memset(bits, 0, (size_t)t->n_words * sizeof(*bits));
	m->was_too_deep = false;
	exprs_begin(&m->rules->x);
	const uint32_t narrow = add_heads(m, m->now, bits);
	if (is_well(m) && narrow != 0) {
		walk(m, 0, narrow, bits);
	}
	if (!is_well(m)) {
		return report(m, err);
	}
	for (int i = 0; matcher_may_end(m) && i < t->n_ends; i++) {
		bits[t->ends[i] >> 5] |= 1u << (t->ends[i] & 31);
	}
	return true;
}
