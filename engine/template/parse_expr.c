/* SPDX-License-Identifier: Apache-2.0
 *
 * Expressions: precedence climbing, then postfixes, filters and tests. */
#include "template/ast.h"
#include "template/interp.h"

#include <string.h>

/* ---- helpers of both halves ---- */

struct node *parse_new(struct parser *p, enum node_kind kind) {
	struct node *n = job_alloc(p->job, 1, sizeof(*n));
	n->kind = kind;
	n->line = p->at->line;
	job_work(p->job, 1);
	return n;
}

/* Room doubles at powers of two. */
static bool is_full(size_t n) {
	return (n & (n - 1)) == 0;
}

static void *grow_pointers(struct parser *p, void *old, size_t n) {
	const size_t cap = n == 0 ? 1 : 2 * n;
	return is_full(n) ? job_grow(p->job, old, n * sizeof(void *), cap * sizeof(void *)) : old;
}

void parse_add(struct parser *p, struct node *to, struct node *item) {
	to->items = grow_pointers(p, to->items, to->n_items);
	to->items[to->n_items++] = item;
}

bool parse_skip(struct parser *p, enum token_kind kind) {
	if (p->at->kind != kind) {
		return false;
	}
	p->at++;
	p->job->line = p->at->line;
	return true;
}

void parse_fail(struct parser *p, const char *expected) {
	p->job->line = p->at->line;
	job_fail(p->job, "expected %s, got %s", expected, lex_describe(p->job, p->at));
}

void parse_expect(struct parser *p, enum token_kind kind) {
	if (!parse_skip(p, kind)) {
		const struct token want = { .kind = kind };
		parse_fail(p, lex_describe(p->job, &want));
	}
}

bool parse_at_name(const struct parser *p, const char *name) {
	return p->at->kind == TOKEN_NAME && text_is(p->at->text, name);
}

bool parse_skip_name(struct parser *p, const char *name) {
	return parse_at_name(p, name) && parse_skip(p, TOKEN_NAME);
}

const struct string *parse_name(struct parser *p) {
	const struct string *name = p->at->text;
	parse_expect(p, TOKEN_NAME);
	return name;
}

/* ---- primaries ---- */

static struct node *constant(struct parser *p, struct value v) {
	struct node *n = parse_new(p, NODE_CONST);
	n->constant = v;
	return n;
}

static void note_special_name(struct parser *p, const struct string *name) {
	for (struct params *m = p->macro; m != NULL; m = m->outer) {
		m->takes_varargs |= text_is(name, "varargs");
		m->takes_kwargs |= text_is(name, "kwargs");
		m->takes_caller |= text_is(name, "caller");
	}
}

static struct node *name_or_constant(struct parser *p) {
	struct node *n = parse_new(p, NODE_NAME);
	n->name = parse_name(p);
	if (text_is(n->name, "true") || text_is(n->name, "True")) {
		n->kind = NODE_CONST;
		n->constant = value_bool(true);
	} else if (text_is(n->name, "false") || text_is(n->name, "False")) {
		n->kind = NODE_CONST;
		n->constant = value_bool(false);
	} else if (text_is(n->name, "none") || text_is(n->name, "None")) {
		n->kind = NODE_CONST;
		n->constant = value_none();
	} else {
		note_special_name(p, n->name);
	}
	return n;
}

static struct node *string_constant(struct parser *p) {
	struct node *n = parse_new(p, NODE_CONST);
	const struct string *s = p->at->text;
	while (parse_skip(p, TOKEN_STRING)) {
		if (p->at->kind == TOKEN_STRING) {
			s = text_concat(p->job, s, p->at->text);
		}
	}
	n->constant = value_string(s);
	return n;
}

static struct node *list_display(struct parser *p) {
	struct node *n = parse_new(p, NODE_LIST);
	parse_expect(p, TOKEN_LBRACKET);
	while (p->at->kind != TOKEN_RBRACKET) {
		parse_add(p, n, parse_expression(p, true));
		if (!parse_skip(p, TOKEN_COMMA)) {
			break;
		}
	}
	parse_expect(p, TOKEN_RBRACKET);
	return n;
}

static struct node *dict_display(struct parser *p) {
	struct node *n = parse_new(p, NODE_DICT);
	parse_expect(p, TOKEN_LBRACE);
	while (p->at->kind != TOKEN_RBRACE) {
		parse_add(p, n, parse_expression(p, true));
		parse_expect(p, TOKEN_COLON);
		parse_add(p, n, parse_expression(p, true));
		if (!parse_skip(p, TOKEN_COMMA)) {
			break;
		}
	}
	parse_expect(p, TOKEN_RBRACE);
	return n;
}

static struct node *parentheses(struct parser *p) {
	parse_expect(p, TOKEN_LPAREN);
	struct node *n;
	if (p->at->kind == TOKEN_RPAREN) {
		n = parse_new(p, NODE_TUPLE);
	} else {
		n = parse_tuple(p, true);
	}
	parse_expect(p, TOKEN_RPAREN);
	return n;
}

struct node *parse_primary(struct parser *p) {
	struct node *n;
	switch (p->at->kind) {
	case TOKEN_NAME:
		return name_or_constant(p);
	case TOKEN_STRING:
		return string_constant(p);
	case TOKEN_INT:
		n = constant(p, value_int(p->at->integer));
		p->at++;
		return n;
	case TOKEN_FLOAT:
		n = constant(p, value_float(p->at->real));
		p->at++;
		return n;
	case TOKEN_LPAREN:
		return parentheses(p);
	case TOKEN_LBRACKET:
		return list_display(p);
	case TOKEN_LBRACE:
		return dict_display(p);
	default:
		parse_fail(p, "an expression");
	}
}

/* ---- postfixes ---- */

static void add_named(struct parser *p, struct call_args *args) {
	args->names = grow_pointers(p, args->names, args->n_named);
	args->named = grow_pointers(p, args->named, args->n_named);
	args->names[args->n_named] = parse_name(p);
	parse_expect(p, TOKEN_ASSIGN);
	args->named[args->n_named] = parse_expression(p, true);
	args->n_named++;
}

static void add_argument(struct parser *p, struct call_args *args) {
	if (args->star_star == NULL && parse_skip(p, TOKEN_POW)) {
		args->star_star = parse_expression(p, true);
	} else if (args->star_star == NULL && args->star == NULL && parse_skip(p, TOKEN_MUL)) {
		args->star = parse_expression(p, true);
	} else if (args->star_star == NULL && p->at->kind == TOKEN_NAME
			&& p->at[1].kind == TOKEN_ASSIGN) {
		add_named(p, args);
	} else if (args->star_star == NULL && args->star == NULL && args->n_named == 0) {
		args->positional = grow_pointers(p, args->positional, args->n);
		args->positional[args->n++] = parse_expression(p, true);
	} else {
		parse_fail(p, "arguments in the order x, name=x, *x, **x");
	}
}

static struct call_args *call_arguments(struct parser *p) {
	struct call_args *args = job_alloc(p->job, 1, sizeof(*args));
	if (!parse_skip(p, TOKEN_LPAREN)) {
		return args;
	}
	while (p->at->kind != TOKEN_RPAREN) {
		add_argument(p, args);
		if (!parse_skip(p, TOKEN_COMMA)) {
			break;
		}
	}
	parse_expect(p, TOKEN_RPAREN);
	return args;
}

static bool ends_subscript(const struct parser *p) {
	return p->at->kind == TOKEN_COLON || p->at->kind == TOKEN_RBRACKET
		|| p->at->kind == TOKEN_COMMA;
}

static struct node *one_subscript(struct parser *p) {
	struct node *slice = parse_new(p, NODE_SLICE);
	if (p->at->kind != TOKEN_COLON) {
		slice->a = parse_expression(p, true);
		if (p->at->kind != TOKEN_COLON) {
			return slice->a;
		}
	}
	parse_expect(p, TOKEN_COLON);
	if (!ends_subscript(p)) {
		slice->b = parse_expression(p, true);
	}
	if (parse_skip(p, TOKEN_COLON) && !ends_subscript(p)) {
		slice->c = parse_expression(p, true);
	}
	return slice;
}

static struct node *subscript(struct parser *p, struct node *of) {
	struct node *n = parse_new(p, NODE_ITEM);
	n->a = of;
	parse_expect(p, TOKEN_LBRACKET);
	struct node *several = parse_new(p, NODE_TUPLE);
	while (p->at->kind != TOKEN_RBRACKET) {
		parse_add(p, several, one_subscript(p));
		if (p->at->kind == TOKEN_RBRACKET) {
			break;
		}
		parse_expect(p, TOKEN_COMMA);
	}
	parse_expect(p, TOKEN_RBRACKET);
	n->b = several->n_items == 1 ? several->items[0] : several;
	for (size_t i = 0; several->n_items > 1 && i < several->n_items; i++) {
		if (several->items[i]->kind == NODE_SLICE) {
			p->job->line = n->line;
			job_fail(p->job, "a slice can't stand in a list of subscripts");
		}
	}
	return n;
}

static struct node *dotted(struct parser *p, struct node *of) {
	struct node *n = parse_new(p, NODE_ATTRIBUTE);
	n->a = of;
	parse_expect(p, TOKEN_DOT);
	if (p->at->kind == TOKEN_INT) {
		n->kind = NODE_ITEM;
		n->b = parse_primary(p);
	} else {
		n->name = parse_name(p);
	}
	return n;
}

static struct node *call(struct parser *p, struct node *of) {
	struct node *n = parse_new(p, NODE_CALL);
	n->a = of;
	n->args = call_arguments(p);
	return n;
}

static struct node *postfixes(struct parser *p, struct node *n) {
	for (;;) {
		if (p->at->kind == TOKEN_DOT) {
			n = dotted(p, n);
		} else if (p->at->kind == TOKEN_LBRACKET) {
			n = subscript(p, n);
		} else if (p->at->kind == TOKEN_LPAREN) {
			n = call(p, n);
		} else {
			return n;
		}
	}
}

/* ---- filters and tests ---- */

static const struct string *dotted_name(struct parser *p) {
	const struct string *name = parse_name(p);
	while (parse_skip(p, TOKEN_DOT)) {
		name = text_concat(p->job, name, text_literal(p->job, "."));
		name = text_concat(p->job, name, parse_name(p));
	}
	return name;
}

static void need_builtin(struct parser *p, const struct node *n, const char *what) {
	if (n->builtin == NULL && !p->is_conditional) {
		p->job->line = n->line;
		job_fail(p->job, "there is no %s named '%.*s'", what, (int)n->name->bytes, n->name->data);
	}
}

struct node *parse_filters(struct parser *p, struct node *input, bool inline_first) {
	while (inline_first || parse_skip(p, TOKEN_PIPE)) {
		inline_first = false;
		struct node *n = parse_new(p, NODE_FILTER);
		n->a = input;
		n->name = dotted_name(p);
		n->args = call_arguments(p);
		n->builtin = filter_find(n->name);
		need_builtin(p, n, "filter");
		input = n;
	}
	return input;
}

static bool starts_argument(const struct parser *p) {
	switch (p->at->kind) {
	case TOKEN_STRING: case TOKEN_INT: case TOKEN_FLOAT: case TOKEN_LBRACKET: case TOKEN_LBRACE:
		return true;
	case TOKEN_NAME:
		return !parse_at_name(p, "else") && !parse_at_name(p, "or") && !parse_at_name(p, "and");
	default:
		return false;
	}
}

static struct node *test(struct parser *p, struct node *subject) {
	struct node *n = parse_new(p, NODE_TEST);
	n->a = subject;
	const bool is_negated = parse_skip_name(p, "not");
	n->name = dotted_name(p);
	if (!starts_argument(p)) {
		n->args = call_arguments(p);
	} else if (parse_at_name(p, "is")) {
		parse_fail(p, "one test only");
	} else {
		n->args = job_alloc(p->job, 1, sizeof(*n->args));
		n->args->positional = job_alloc(p->job, 1, sizeof(struct node *));
		n->args->positional[0] = postfixes(p, parse_primary(p));
		n->args->n = 1;
	}
	n->builtin = test_find(n->name);
	need_builtin(p, n, "test");
	if (is_negated) {
		struct node *negated = parse_new(p, NODE_NOT);
		negated->line = n->line;
		negated->a = n;
		return negated;
	}
	return n;
}

static struct node *filters_and_tests(struct parser *p, struct node *n) {
	for (;;) {
		if (p->at->kind == TOKEN_PIPE) {
			n = parse_filters(p, n, false);
		} else if (parse_skip_name(p, "is")) {
			n = test(p, n);
		} else if (p->at->kind == TOKEN_LPAREN) {
			n = call(p, n);
		} else {
			return n;
		}
	}
}

/* ---- operators ---- */

static struct node *unary(struct parser *p, bool with_filters) {
	struct node *n;
	job_enter(p->job);
	if (p->at->kind == TOKEN_SUB || p->at->kind == TOKEN_ADD) {
		n = parse_new(p, p->at->kind == TOKEN_SUB ? NODE_NEGATE : NODE_PLUS);
		p->at++;
		n->a = unary(p, false);
	} else {
		n = parse_primary(p);
	}
	n = postfixes(p, n);
	if (with_filters) {
		n = filters_and_tests(p, n);
	}
	job_leave(p->job);
	return n;
}

/* How tightly an operator binds; 0 = it is none. All group to the left, ** too. */
static int binding(enum token_kind kind) {
	switch (kind) {
	case TOKEN_ADD: case TOKEN_SUB: return 1;
	case TOKEN_TILDE: return 2;
	case TOKEN_MUL: case TOKEN_DIV: case TOKEN_FLOORDIV: case TOKEN_MOD: return 3;
	case TOKEN_POW: return 4;
	default: return 0;
	}
}

static struct node *arithmetic(struct parser *p, int tightness) {
	struct node *left = unary(p, true);
	for (int b; (b = binding(p->at->kind)) >= tightness && b > 0;) {
		struct node *n = parse_new(p, b == 2 ? NODE_CONCAT : NODE_BINARY);
		n->op = (int)p->at->kind;
		if (b == 2) {
			parse_add(p, n, left);
			while (parse_skip(p, TOKEN_TILDE)) {
				parse_add(p, n, arithmetic(p, b + 1));
			}
		} else {
			p->at++;
			n->a = left;
			n->b = arithmetic(p, b + 1);
		}
		left = n;
	}
	return left;
}

static int comparison(const struct parser *p) {
	switch (p->at->kind) {
	case TOKEN_EQ: case TOKEN_NE: case TOKEN_GT: case TOKEN_GE: case TOKEN_LT: case TOKEN_LE:
		return (int)p->at->kind;
	case TOKEN_NAME:
		if (parse_at_name(p, "in")) {
			return OP_IN;
		}
		if (parse_at_name(p, "not") && p->at[1].kind == TOKEN_NAME
				&& text_is(p->at[1].text, "in")) {
			return OP_NOT_IN;
		}
		return 0;
	default:
		return 0;
	}
}

static struct node *compared(struct parser *p) {
	struct node *first = arithmetic(p, 1);
	if (comparison(p) == 0) {
		return first;
	}
	struct node *n = parse_new(p, NODE_COMPARE);
	n->a = first;
	for (int op; (op = comparison(p)) != 0;) {
		struct node *operand = parse_new(p, NODE_OPERAND);
		operand->op = op;
		p->at += op == OP_NOT_IN ? 2 : 1;
		operand->a = arithmetic(p, 1);
		parse_add(p, n, operand);
	}
	return n;
}

static struct node *negated(struct parser *p) {
	if (!parse_at_name(p, "not")) {
		return compared(p);
	}
	struct node *n = parse_new(p, NODE_NOT);
	p->at++;
	job_enter(p->job);
	n->a = negated(p);
	job_leave(p->job);
	return n;
}

static struct node *conjunction(struct parser *p) {
	struct node *left = negated(p);
	while (parse_at_name(p, "and")) {
		struct node *n = parse_new(p, NODE_AND);
		p->at++;
		n->a = left;
		n->b = negated(p);
		left = n;
	}
	return left;
}

static struct node *disjunction(struct parser *p) {
	struct node *left = conjunction(p);
	while (parse_at_name(p, "or")) {
		struct node *n = parse_new(p, NODE_OR);
		p->at++;
		n->a = left;
		n->b = conjunction(p);
		left = n;
	}
	return left;
}

/* The parts of `x if c else y` may use filters that don't exist, as long as they aren't reached;
 * those of x are parsed before the `if` is seen, so they are looked up again at run time. */
static bool condition_follows(const struct parser *p) {
	int depth = 0;
	for (const struct token *t = p->at;; t++) {
		switch (t->kind) {
		case TOKEN_LPAREN: case TOKEN_LBRACKET: case TOKEN_LBRACE:
			depth++;
			break;
		case TOKEN_RPAREN: case TOKEN_RBRACKET: case TOKEN_RBRACE:
			if (depth-- == 0) {
				return false;
			}
			break;
		case TOKEN_COMMA:
			if (depth == 0) {
				return false;
			}
			break;
		case TOKEN_TAG_END: case TOKEN_PRINT_END: case TOKEN_END:
			return false;
		case TOKEN_NAME:
			if (depth == 0 && text_is(t->text, "if")) {
				return true;
			}
			break;
		default:
			break;
		}
	}
}

struct node *parse_expression(struct parser *p, bool with_condition) {
	job_enter(p->job);
	const bool was_conditional = p->is_conditional;
	if (with_condition && !was_conditional) {
		p->is_conditional = condition_follows(p);
	}
	struct node *n = disjunction(p);
	while (with_condition && parse_at_name(p, "if")) {
		struct node *choice = parse_new(p, NODE_CONDITION);
		p->at++;
		choice->b = n;
		choice->a = disjunction(p);
		if (parse_skip_name(p, "else")) {
			choice->c = parse_expression(p, true);
		}
		n = choice;
	}
	p->is_conditional = was_conditional;
	job_leave(p->job);
	return n;
}

static bool ends_tuple(const struct parser *p) {
	return p->at->kind == TOKEN_PRINT_END || p->at->kind == TOKEN_TAG_END
		|| p->at->kind == TOKEN_RPAREN;
}

struct node *parse_tuple(struct parser *p, bool with_condition) {
	struct node *n = parse_new(p, NODE_TUPLE);
	bool has_comma = false;
	while (!ends_tuple(p)) {
		parse_add(p, n, parse_expression(p, with_condition));
		if (!parse_skip(p, TOKEN_COMMA)) {
			break;
		}
		has_comma = true;
	}
	if (n->n_items == 0) {
		parse_fail(p, "an expression");
	}
	return has_comma ? n : n->items[0];
}

/* ---- targets ---- */

static struct node *one_target(struct parser *p, bool with_members) {
	if (p->at->kind != TOKEN_LPAREN) {
		struct node *n = parse_new(p, NODE_NAME);
		n->name = parse_name(p);
		static const char *const reserved[] = { "true", "false", "none", "True", "False", "None" };
		for (size_t i = 0; i < COUNT(reserved); i++) {
			if (text_is(n->name, reserved[i])) {
				job_fail(p->job, "can't assign to '%s'", reserved[i]);
			}
		}
		if (with_members && parse_skip(p, TOKEN_DOT)) {
			n->kind = NODE_MEMBER;
			n->constant = value_string(parse_name(p));
		}
		return n;
	}
	parse_expect(p, TOKEN_LPAREN);
	job_enter(p->job);
	struct node *n = parse_target(p, with_members);
	job_leave(p->job);
	parse_expect(p, TOKEN_RPAREN);
	return n;
}

struct node *parse_target(struct parser *p, bool with_members) {
	struct node *n = parse_new(p, NODE_TUPLE);
	bool has_comma = false;
	while (!ends_tuple(p)) {
		parse_add(p, n, one_target(p, with_members));
		if (!parse_skip(p, TOKEN_COMMA)) {
			break;
		}
		has_comma = true;
	}
	if (n->n_items == 0) {
		parse_fail(p, "a name to assign to");
	}
	return has_comma ? n : n->items[0];
}
