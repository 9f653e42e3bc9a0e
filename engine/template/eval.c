/* SPDX-License-Identifier: Apache-2.0
 *
 * Evaluates expressions: names, operators with Python's meaning, and what they call. */
#include "template/interp.h"

static struct value eval_list(struct interp *in, const struct node *n, enum value_kind kind) {
	struct list *list = list_create(&in->job, n->n_items);
	for (size_t i = 0; i < n->n_items; i++) {
		list_push(&in->job, list, eval(in, n->items[i]));
	}
	return value_list(kind, list);
}

static struct value eval_dict(struct interp *in, const struct node *n) {
	struct dict *d = dict_create(&in->job);
	for (size_t i = 0; i + 1 < n->n_items; i += 2) {
		const struct value key = eval(in, n->items[i]);
		dict_set(&in->job, d, key, eval(in, n->items[i + 1]));
	}
	return (struct value){ .kind = VALUE_DICT, .dict = d };
}

static struct value eval_item(struct interp *in, const struct node *n) {
	const struct value of = eval(in, n->a);
	if (n->b->kind != NODE_SLICE) {
		return item_get(in, of, eval(in, n->b));
	}
	const struct node *ends[3] = { n->b->a, n->b->b, n->b->c };
	struct value parts[3];
	for (int i = 0; i < 3; i++) {
		parts[i] = ends[i] == NULL ? value_none() : eval(in, ends[i]);
	}
	return eval_slice(in, of, parts);
}

static struct value eval_builtin(struct interp *in, const struct node *n, const char *what) {
	const struct value self = n->a == NULL ? in->block_text : eval(in, n->a);
	if (n->builtin == NULL) {
		job_fail(&in->job, "there is no %s named '%.*s'", what, (int)n->name->bytes, n->name->data);
	}
	struct args args;
	eval_args(in, n->args, &args);
	return builtin_call(in, n->builtin, self, &args);
}

static bool compare_one(struct interp *in, int op, struct value a, struct value b) {
	struct job *j = &in->job;
	switch (op) {
	case TOKEN_EQ: return value_equal(j, a, b);
	case TOKEN_NE: return !value_equal(j, a, b);
	case TOKEN_LT: return value_compare(j, a, b, "<") == -1;
	case TOKEN_GT: return value_compare(j, a, b, ">") == 1;
	case TOKEN_LE: {
		const int order = value_compare(j, a, b, "<=");
		return order == -1 || order == 0;
	}
	case TOKEN_GE: {
		const int order = value_compare(j, a, b, ">=");
		return order == 1 || order == 0;
	}
	case OP_IN: return value_contains(j, b, a);
	default: return !value_contains(j, b, a);
	}
}

static struct value eval_compare(struct interp *in, const struct node *n) {
	struct value left = eval(in, n->a);
	for (size_t i = 0; i < n->n_items; i++) {
		const struct value right = eval(in, n->items[i]->a);
		if (!compare_one(in, n->items[i]->op, left, right)) {
			return value_bool(false);
		}
		left = right;
	}
	return value_bool(true);
}

static struct value eval_concat(struct interp *in, const struct node *n) {
	const struct string *s = value_str(&in->job, eval(in, n->items[0]));
	for (size_t i = 1; i < n->n_items; i++) {
		s = text_concat(&in->job, s, value_str(&in->job, eval(in, n->items[i])));
	}
	return value_string(s);
}

static struct value eval_condition(struct interp *in, const struct node *n) {
	if (value_is_true(eval(in, n->a))) {
		return eval(in, n->b);
	}
	if (n->c != NULL) {
		return eval(in, n->c);
	}
	return value_undefined(&in->job, "the condition was false and there is no else");
}

static struct value eval_logic(struct interp *in, const struct node *n) {
	const struct value left = eval(in, n->a);
	return value_is_true(left) == (n->kind == NODE_OR) ? left : eval(in, n->b);
}

static struct value dispatch(struct interp *in, const struct node *n) {
	switch (n->kind) {
	case NODE_CONST: return n->constant;
	case NODE_NAME: return scope_get(in, n->name);
	case NODE_LIST: return eval_list(in, n, VALUE_LIST);
	case NODE_TUPLE: return eval_list(in, n, VALUE_TUPLE);
	case NODE_DICT: return eval_dict(in, n);
	case NODE_ATTRIBUTE: return attribute_get(in, eval(in, n->a), n->name);
	case NODE_ITEM: return eval_item(in, n);
	case NODE_CALL: return call_node(in, n, NULL);
	case NODE_FILTER: return eval_builtin(in, n, "filter");
	case NODE_TEST: return eval_builtin(in, n, "test");
	case NODE_NOT: return value_bool(!value_is_true(eval(in, n->a)));
	case NODE_NEGATE: return operate_negate(in, eval(in, n->a), false);
	case NODE_PLUS: return operate_negate(in, eval(in, n->a), true);
	case NODE_BINARY: {
		const struct value a = eval(in, n->a);
		return operate(in, n->op, a, eval(in, n->b));
	}
	case NODE_CONCAT: return eval_concat(in, n);
	case NODE_COMPARE: return eval_compare(in, n);
	case NODE_AND: case NODE_OR: return eval_logic(in, n);
	case NODE_CONDITION: return eval_condition(in, n);
	default: job_fail(&in->job, "a statement stands where an expression should");
	}
}

struct value eval(struct interp *in, const struct node *n) {
	job_enter(&in->job);
	job_work(&in->job, 1);
	in->job.line = n->line;
	const struct value v = dispatch(in, n);
	job_leave(&in->job);
	return v;
}
