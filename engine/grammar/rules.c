/* SPDX-License-Identifier: Apache-2.0
 *
 * Rules: made and checked. */
#include "rules.h"

#include <string.h>

enum {
	MAX_NODES = 1 << 20,
	MAX_RULES = 1 << 14,
	MAX_FLAT = 2000, /* leaves of a rule that becomes one expression */
	MAX_FLAT_DEPTH = 200, /* of rules, groups and repeats in each other, in one expression */
	MAX_LEFT_DEPTH = 500, /* of rules that begin with one another */
	TOO_LARGE = 1 << 30,
};

/* Instead of a rule. */
enum { NO_RULE = -1, TOO_DEEP = -2 };

bool rules_init(struct rules *r, struct bb_error *err) {
	memset(r, 0, sizeof(*r));
	if (!exprs_init(&r->x, err)) {
		return false;
	}
	r->cap = 64;
	r->nodes = base_alloc(r->cap, sizeof(*r->nodes));
	if (r->nodes == NULL) {
		return base_no_memory(err, "grammar", r->cap * sizeof(*r->nodes));
	}
	r->nodes[RULES_NOTHING] = (struct node){ .op = NODE_NOTHING };
	r->nodes[RULES_EMPTY] = (struct node){ .op = NODE_EMPTY };
	r->n = 2;
	return true;
}

void rules_destroy(struct rules *r) {
	for (uint32_t i = 0; i < r->n_rules; i++) {
		base_free(r->rules[i].name);
	}
	base_free(r->rules);
	base_free(r->nodes);
	exprs_finish(&r->x);
	memset(r, 0, sizeof(*r));
}

size_t rules_bytes(const struct rules *r) {
	return exprs_bytes(&r->x) + r->cap * sizeof(*r->nodes) + r->cap_rules * sizeof(*r->rules);
}

/* ---- making ---- */

static uint32_t add(struct rules *r, struct node node) {
	struct bb_error *const trouble = &r->x.trouble;
	if (r->n == r->cap) {
		const uint32_t cap = 2 * r->cap;
		struct node *nodes = cap <= MAX_NODES ? base_realloc(r->nodes, cap, sizeof(*nodes)) : NULL;
		if (nodes == NULL && cap > MAX_NODES) {
			base_fail(trouble, BB_ERR_UNSUPPORTED, "expected a grammar of at most %d parts, this "
				"one needs more", MAX_NODES);
		} else if (nodes == NULL) {
			base_no_memory(trouble, "grammar", cap * sizeof(*nodes));
		} else {
			r->nodes = nodes;
			r->cap = cap;
		}
	}
	if (trouble->code != BB_OK) {
		return RULES_NOTHING;
	}
	r->nodes[r->n] = node;
	return r->n++;
}

uint32_t rules_term(struct rules *r, uint32_t expr) {
	return expr == EXPR_NONE ? RULES_NOTHING : expr == EXPR_EMPTY ? RULES_EMPTY
		: add(r, (struct node){ .op = NODE_TERM, .a = expr });
}

uint32_t rules_text(struct rules *r, const char *text) {
	return rules_term(r, expr_text(&r->x, text, strlen(text)));
}


uint32_t rules_seq(struct rules *r, uint32_t a, uint32_t b) {
	if (a == RULES_NOTHING || b == RULES_NOTHING) {
		return RULES_NOTHING;
	}
	if (a == RULES_EMPTY || b == RULES_EMPTY) {
		return a == RULES_EMPTY ? b : a;
	}
	return add(r, (struct node){ .op = NODE_SEQ, .a = a, .b = b });
}

uint32_t rules_either(struct rules *r, uint32_t a, uint32_t b) {
	if (a == RULES_NOTHING || a == b) {
		return b;
	}
	return b == RULES_NOTHING ? a : add(r, (struct node){ .op = NODE_EITHER, .a = a, .b = b });
}

uint32_t rules_repeat(struct rules *r, uint32_t a, int min, int max) {
	if (a == RULES_NOTHING || a == RULES_EMPTY || max == 0) {
		return a == RULES_NOTHING && min > 0 ? a : RULES_EMPTY;
	}
	return min == 1 && max == 1 ? a
		: add(r, (struct node){ .op = NODE_REPEAT, .a = a, .min = min, .max = max });
}

uint32_t rules_rule(struct rules *r, const char *name, size_t bytes) {
	struct bb_error *const trouble = &r->x.trouble;
	if (r->n_rules == r->cap_rules) {
		const uint32_t cap = 2 * r->cap_rules + 16;
		struct rule *rules = cap <= 2 * MAX_RULES
			? base_realloc(r->rules, cap, sizeof(*rules)) : NULL;
		if (rules == NULL && cap > 2 * MAX_RULES) {
			base_fail(trouble, BB_ERR_UNSUPPORTED, "expected a grammar of at most %d rules, this "
				"one needs more", MAX_RULES);
		} else if (rules == NULL) {
			base_no_memory(trouble, "grammar", cap * sizeof(*rules));
		} else {
			r->rules = rules;
			r->cap_rules = cap;
		}
	}
	char *copy = trouble->code == BB_OK ? base_strndup(name, bytes) : NULL;
	if (copy == NULL) {
		base_no_memory(trouble, "grammar", bytes + 1);
		return 0;
	}
	r->rules[r->n_rules] = (struct rule){ .name = copy, .body = RULES_NOTHING, .size = -1 };
	return r->n_rules++;
}

uint32_t rules_call(struct rules *r, uint32_t rule) {
	return add(r, (struct node){ .op = NODE_RULE, .a = rule });
}

/* ---- flattening ---- */

enum { UNSEEN, OPEN, DONE };

static double size_of_rule(struct rules *r, uint32_t rule, int depth, int *deepest);

/* How many leaves a node has with rules written out; TOO_LARGE where they name themselves or go too
 * deep. depth: of what it stands in; *deepest: as far as anything went, this node too. */
static double size_of(struct rules *r, uint32_t a, int depth, int *deepest) {
	double size = 0;
	*deepest = depth > *deepest ? depth : *deepest;
	for (;;) {
		const struct node n = r->nodes[a];
		if (size > MAX_FLAT || depth > MAX_FLAT_DEPTH) {
			return TOO_LARGE;
		}
		switch (n.op) {
		case NODE_SEQ:
		case NODE_EITHER:
			size += size_of(r, n.a, depth + 1, deepest);
			a = n.b;
			continue;
		case NODE_REPEAT:
			return size + size_of(r, n.a, depth + 1, deepest);
		case NODE_RULE:
			return size + size_of_rule(r, n.a, depth + 1, deepest);
		default:
			return size + 1;
		}
	}
}

static double size_of_rule(struct rules *r, uint32_t rule, int depth, int *deepest) {
	struct rule *const known = &r->rules[rule];
	if (known->state == UNSEEN) {
		int own = depth;
		known->state = OPEN;
		known->size = size_of(r, known->body, depth, &own);
		known->height = own - depth;
		known->state = DONE;
	}
	const int end = depth + known->height;
	*deepest = end > *deepest ? end : *deepest;
	return known->state == OPEN || end > MAX_FLAT_DEPTH ? TOO_LARGE : known->size;
}

/* By itself. */
static double size_alone(struct rules *r, uint32_t a) {
	int deepest = 0;
	return size_of(r, a, 0, &deepest);
}

static uint32_t as_expr(struct rules *r, uint32_t a);

/* A sequence, or alternatives: the last two are joined first. */
static uint32_t list_expr(struct rules *r, uint32_t a) {
	const enum node_op op = r->nodes[a].op;
	size_t n = 1;
	for (uint32_t i = a; r->nodes[i].op == op; i = r->nodes[i].b) {
		n++;
	}
	uint32_t *list = base_alloc(n, sizeof(*list));
	if (list == NULL) {
		base_no_memory(&r->x.trouble, "grammar", n * sizeof(*list));
		return EXPR_NONE;
	}
	for (size_t i = 0; i < n; i++, a = r->nodes[a].b) {
		list[i] = as_expr(r, i + 1 < n ? r->nodes[a].a : a);
	}
	uint32_t all = list[--n];
	while (n-- > 0) {
		all = op == NODE_SEQ ? expr_seq(&r->x, list[n], all) : expr_or(&r->x, list[n], all);
	}
	base_free(list);
	return all;
}

/* Of a node that size_of has found small. */
static uint32_t as_expr(struct rules *r, uint32_t a) {
	const struct node n = r->nodes[a];
	switch (n.op) {
	case NODE_TERM:
		return n.a;
	case NODE_SEQ:
	case NODE_EITHER:
		return list_expr(r, a);
	case NODE_REPEAT:
		return expr_repeat(&r->x, as_expr(r, n.a), n.min, n.max);
	case NODE_RULE:
		return as_expr(r, r->rules[n.a].body);
	default:
		return n.op == NODE_EMPTY ? EXPR_EMPTY : EXPR_NONE;
	}
}

/* The node becomes one leaf, or its parts do. */
static void flatten(struct rules *r, uint32_t a) {
	for (;;) {
		const struct node n = r->nodes[a];
		if (n.op <= NODE_TERM) {
			return;
		}
		if (size_alone(r, a) <= MAX_FLAT) {
			const uint32_t expr = as_expr(r, a);
			r->nodes[a] = expr <= EXPR_EMPTY
				? (struct node){ .op = expr == EXPR_NONE ? NODE_NOTHING : NODE_EMPTY }
				: (struct node){ .op = NODE_TERM, .a = expr };
			return;
		}
		if (n.op == NODE_RULE) {
			return;
		}
		flatten(r, n.a);
		if (n.op == NODE_REPEAT) {
			return;
		}
		a = n.b;
	}
}

void rules_flatten(struct rules *r) {
	for (uint32_t i = 0; i < r->n_rules; i++) {
		int deepest = 0;
		size_of_rule(r, i, 0, &deepest);
	}
	for (uint32_t i = 0; i < r->n_rules; i++) {
		flatten(r, r->rules[i].body);
	}
	flatten(r, r->root);
	for (uint32_t i = 0; i < r->n_rules; i++) {
		r->rules[i].state = UNSEEN;
	}
}

/* ---- checking ---- */

/* The nodes that a node names; how many. */
static int named(const struct rules *r, const struct node *n, uint32_t out[2]) {
	switch (n->op) {
	case NODE_SEQ:
	case NODE_EITHER:
		out[0] = n->a;
		out[1] = n->b;
		return 2;
	case NODE_REPEAT:
		out[0] = n->a;
		return 1;
	case NODE_RULE:
		out[0] = r->rules[n->a].body;
		return 1;
	default:
		return 0;
	}
}

/* One node by what is known of those it names; has anything changed? */
static bool learn(struct rules *r, struct node *n) {
	uint32_t names[2] = { 0 };
	named(r, n, names);
	const struct node *const a = &r->nodes[names[0]], *const b = &r->nodes[names[1]];
	const bool nullable = n->is_nullable, productive = n->is_productive;
	switch (n->op) {
	case NODE_NOTHING:
		break;
	case NODE_EMPTY:
		n->is_nullable = n->is_productive = true;
		break;
	case NODE_TERM:
		n->is_nullable = expr_is_nullable(&r->x, n->a);
		n->is_productive = productive || expr_is_live(&r->x, n->a);
		break;
	case NODE_SEQ:
		n->is_nullable = a->is_nullable && b->is_nullable;
		n->is_productive = a->is_productive && b->is_productive;
		break;
	case NODE_EITHER:
		n->is_nullable = a->is_nullable || b->is_nullable;
		n->is_productive = a->is_productive || b->is_productive;
		break;
	case NODE_REPEAT:
		n->is_nullable = n->min == 0 || a->is_nullable;
		n->is_productive = n->min == 0 || a->is_productive;
		break;
	default:
		n->is_nullable = a->is_nullable;
		n->is_productive = a->is_productive;
	}
	return n->is_nullable != nullable || n->is_productive != productive;
}

/* Who names a node: users[first[i]..first[i + 1]) name node i. */
struct users {
	uint32_t *first; /* [n + 1] */
	uint32_t *users; /* [2 * n] */
	uint32_t *left;  /* [n_left] of n: nodes to look at */
	bool *is_left;   /* [n] */
	uint32_t n_left;
};

static void list_users(const struct rules *r, struct users *u) {
	uint32_t names[2];
	for (uint32_t i = 0; i < r->n; i++) {
		for (int j = named(r, &r->nodes[i], names); j-- > 0;) {
			u->first[names[j]]++;
		}
	}
	for (uint32_t i = 0, sum = 0; i <= r->n; i++) {
		sum += i < r->n ? u->first[i] : 0;
		u->first[i] = sum; /* the end; each user below moves it to the beginning */
	}
	for (uint32_t i = r->n; i-- > 0;) {
		for (int j = named(r, &r->nodes[i], names); j-- > 0;) {
			u->users[--u->first[names[j]]] = i;
		}
	}
}

static void push_left(struct users *u, uint32_t node) {
	if (!u->is_left[node]) {
		u->is_left[node] = true;
		u->left[u->n_left++] = node;
	}
}

/* Each node, and again where one that it names has changed: what may be empty and what has any
 * text, which both only come to be true. False: no memory. */
static bool learn_all(struct rules *r) {
	struct users u = { .first = base_alloc(r->n + 1, sizeof(*u.first)),
		.users = base_alloc(2 * (size_t)r->n, sizeof(*u.users)),
		.left = base_alloc(r->n, sizeof(*u.left)),
		.is_left = base_alloc(r->n, sizeof(*u.is_left)) };
	const bool ok = (u.first != NULL && u.users != NULL && u.left != NULL && u.is_left != NULL) ||
		base_no_memory(&r->x.trouble, "grammar", r->n * sizeof(*u.users));
	if (ok) {
		list_users(r, &u);
	}
	for (uint32_t i = r->n; ok && i-- > 0;) {
		push_left(&u, i);
	}
	while (ok && u.n_left > 0) {
		const uint32_t node = u.left[--u.n_left];
		u.is_left[node] = false;
		if (learn(r, &r->nodes[node])) {
			for (uint32_t i = u.first[node]; i < u.first[node + 1]; i++) {
				push_left(&u, u.users[i]);
			}
		}
	}
	base_free(u.first);
	base_free(u.users);
	base_free(u.left);
	base_free(u.is_left);
	return ok;
}

/* Goes through what a node may begin with; the rule that begins with itself, NO_RULE or
 * TOO_DEEP. */
static long find_left(struct rules *r, uint32_t a, int depth);

static long find_left_rule(struct rules *r, uint32_t rule, int depth) {
	if (r->rules[rule].state != UNSEEN) {
		return r->rules[rule].state == OPEN ? (long)rule : NO_RULE;
	}
	r->rules[rule].state = OPEN;
	const long found = find_left(r, r->rules[rule].body, depth);
	r->rules[rule].state = DONE;
	return found;
}

static long find_left(struct rules *r, uint32_t a, int depth) {
	while (depth <= MAX_LEFT_DEPTH) {
		const struct node n = r->nodes[a];
		if (n.op == NODE_RULE) {
			return find_left_rule(r, n.a, depth + 1);
		}
		if (n.op < NODE_SEQ || !n.is_productive) {
			return NO_RULE;
		}
		const long found = find_left(r, n.a, depth + 1);
		const bool goes_on = n.op == NODE_EITHER ||
			(n.op == NODE_SEQ && r->nodes[n.a].is_nullable);
		if (found != NO_RULE || !goes_on) {
			return found;
		}
		a = n.b;
	}
	return TOO_DEEP;
}

static bool check_left(struct rules *r, struct bb_error *err) {
	for (uint32_t i = 0; i < r->n_rules; i++) {
		char shown[BASE_SHOWN];
		const long left = find_left_rule(r, i, 0);
		const char *const name = r->rules[left >= 0 ? left : (long)i].name;
		base_show(name, strlen(name), shown, sizeof(shown));
		if (left == TOO_DEEP) {
			return base_fail(err, BB_ERR_UNSUPPORTED, "expected rules of which at most %d begin "
				"with one another, from '%s' on more do", MAX_LEFT_DEPTH, shown);
		}
		if (left >= 0) {
			return base_fail(err, BB_ERR_UNSUPPORTED, "expected rules that don't begin with "
				"themselves, '%s' does", shown);
		}
	}
	return true;
}

bool rules_finish(struct rules *r, const char *hopeless, struct bb_error *err) {
	if (r->x.trouble.code != BB_OK) {
		return base_fail(err, r->x.trouble.code, "%s", r->x.trouble.text);
	}
	exprs_make_classes(&r->x);
	if (!learn_all(r) || r->x.trouble.code != BB_OK) {
		return base_fail(err, r->x.trouble.code, "%s", r->x.trouble.text);
	}
	if (!r->nodes[r->root].is_productive) {
		return base_fail(err, BB_ERR_INPUT, "%s", hopeless);
	}
	if (!check_left(r, err)) {
		return false;
	}
	for (uint32_t i = 0; i < r->n; i++) {
		if (!r->nodes[i].is_productive) {
			r->nodes[i] = (struct node){ .op = NODE_NOTHING };
		} else if (r->nodes[i].op == NODE_REPEAT && r->nodes[i].is_nullable) {
			r->nodes[i].min = 0;
			r->nodes[i] = r->nodes[r->nodes[i].a].is_productive ? r->nodes[i]
				: (struct node){ .op = NODE_EMPTY, .is_nullable = true, .is_productive = true };
		}
	}
	return true;
}
