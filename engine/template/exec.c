/* SPDX-License-Identifier: Apache-2.0
 *
 * Statements and the scopes of names. A loop, macro, block or with has names of its own; `if` has
 * not. */
#include "template/interp.h"

/* ---- scopes ---- */

struct scope *scope_push(struct interp *in, struct scope *parent) {
	struct scope *s = job_alloc(&in->job, 1, sizeof(*s));
	s->parent = parent;
	in->scope = s;
	return s;
}

void scope_set(struct interp *in, struct scope *s, const struct string *name, struct value v) {
	for (size_t i = 0; i < s->n; i++) {
		if (text_equal(s->bindings[i].name, name)) {
			s->bindings[i].value = v;
			return;
		}
	}
	if (s->n == s->cap) {
		const size_t cap = 2 * s->cap + 3;
		s->bindings = job_grow(&in->job, s->bindings, s->n * sizeof(*s->bindings),
			cap * sizeof(*s->bindings));
		s->cap = cap;
	}
	s->bindings[s->n++] = (struct binding){ name, v };
}

struct value scope_get(struct interp *in, const struct string *name) {
	for (const struct scope *s = in->scope; s != NULL; s = s->parent) {
		job_work(&in->job, 1 + s->n / 8);
		for (size_t i = 0; i < s->n; i++) {
			if (text_equal(s->bindings[i].name, name)) {
				return s->bindings[i].value;
			}
		}
	}
	const struct value *v = dict_get_string(&in->job, in->vars, name);
	if (v != NULL) {
		return *v;
	}
	const struct builtin *b = global_find(name);
	if (b != NULL) {
		return value_function(in, b, value_none());
	}
	return value_undefined(&in->job, "'%.*s' is undefined", (int)name->bytes, name->data);
}

static void capture_scopes(struct scope *s) {
	for (; s != NULL && !s->is_captured; s = s->parent) {
		s->is_captured = true;
	}
}

/* ---- assignment ---- */

static void set_member(struct interp *in, const struct node *target, struct value v) {
	const struct value ns = scope_get(in, target->name);
	if (ns.kind != VALUE_NAMESPACE) {
		job_fail(&in->job, "can't assign to an attribute of '%.*s', which is no namespace",
			(int)target->name->bytes, target->name->data);
	}
	dict_set(&in->job, ns.dict, target->constant, v);
}

static void assign(struct interp *in, const struct node *target, struct value v) {
	if (target->kind == NODE_NAME) {
		scope_set(in, in->scope, target->name, v);
		return;
	}
	if (target->kind == NODE_MEMBER) {
		set_member(in, target, v);
		return;
	}
	if (!value_is_iterable(v)) {
		job_fail(&in->job, "cannot unpack non-iterable %s object", value_type(v));
	}
	const struct list *items = value_iterate(&in->job, v);
	if (items->n != target->n_items) {
		job_fail(&in->job, "%s values to unpack (expected %zu, got %zu)",
			items->n < target->n_items ? "not enough" : "too many", target->n_items, items->n);
	}
	for (size_t i = 0; i < items->n; i++) {
		assign(in, target->items[i], items->items[i]);
	}
}

/* ---- loops ---- */

static const struct string loop_name = { .data = "loop", .bytes = 4, .chars = 4 };

/* A scope for one more turn: the last one again, unless a macro still looks into it. */
static struct scope *next_scope(struct interp *in, struct scope *last, struct scope *parent) {
	if (last == NULL || last->is_captured) {
		return scope_push(in, parent);
	}
	last->n = 0;
	in->scope = last;
	return last;
}

static const struct list *filter_items(struct interp *in, const struct node *n,
	const struct list *items) {
	struct scope *const outer = in->scope;
	struct scope *scope = NULL;
	struct list *kept = list_create(&in->job, 0);
	for (size_t i = 0; i < items->n; i++) {
		scope = next_scope(in, scope, outer);
		assign(in, n->a, items->items[i]);
		if (value_is_true(eval(in, n->d))) {
			list_push(&in->job, kept, items->items[i]);
		}
	}
	in->scope = outer;
	return kept;
}

static enum flow run_loop(struct interp *in, const struct node *n, struct value over, int depth0) {
	struct scope *const outer = in->scope;
	const struct list *items = value_iterate(&in->job, over);
	items = n->d == NULL ? items : filter_items(in, n, items);
	struct loop *loop = job_alloc(&in->job, 1, sizeof(*loop));
	*loop = (struct loop){ .node = n, .scope = outer, .items = items, .depth0 = depth0 };
	if (n->recursive) {
		capture_scopes(outer);
	}
	struct scope *scope = NULL;
	bool has_finished_turn = false; /* Jinja's else runs unless one turn came to its end */
	enum flow flow = FLOW_NEXT;
	for (size_t i = 0; i < items->n && flow != FLOW_BREAK; i++) {
		scope = next_scope(in, scope, outer);
		loop->i_item = i;
		scope_set(in, scope, &loop_name, (struct value){ .kind = VALUE_LOOP, .loop = loop });
		assign(in, n->a, items->items[i]);
		flow = exec(in, n->body);
		has_finished_turn |= flow == FLOW_NEXT;
	}
	flow = FLOW_NEXT;
	if (!has_finished_turn && n->c != NULL) {
		scope_push(in, outer);
		flow = exec(in, n->c);
	}
	in->scope = outer;
	return flow;
}

struct value exec_recursive(struct interp *in, struct loop *outer, struct value items) {
	if (!outer->node->recursive) {
		job_fail(&in->job, "only a loop marked 'recursive' can be called");
	}
	struct scope *const scope = in->scope;
	struct out *const out = in->out;
	struct out text = { 0 };
	in->scope = outer->scope;
	in->out = &text;
	run_loop(in, outer->node, items, outer->depth0 + 1);
	in->out = out;
	in->scope = scope;
	return value_string(out_done(&in->job, &text));
}

/* ---- blocks ---- */

struct string *exec_capture(struct interp *in, const struct node *body) {
	struct out *const out = in->out;
	struct out text = { 0 };
	in->out = &text;
	exec(in, body);
	in->out = out;
	return out_done(&in->job, &text);
}

/* The text of a body with names of its own, through the filters of the block if it has some. */
static struct value filtered_block(struct interp *in, const struct node *body,
	const struct node *filters) {
	struct scope *const outer = in->scope;
	scope_push(in, outer);
	const struct value text = value_string(exec_capture(in, body));
	in->scope = outer;
	if (filters == NULL) {
		return text;
	}
	in->block_text = text;
	return eval(in, filters);
}

static struct value closure(struct interp *in, const struct node *n, const struct string *name) {
	struct macro *m = job_alloc(&in->job, 1, sizeof(*m));
	*m = (struct macro){ .name = name, .params = n->params, .body = n->body, .scope = in->scope };
	capture_scopes(in->scope);
	return (struct value){ .kind = VALUE_MACRO, .macro = m };
}

static void call_block(struct interp *in, const struct node *n) {
	static const struct string name = { .data = "caller", .bytes = 6, .chars = 6 };
	const struct value caller = closure(in, n, &name);
	out_str(&in->job, in->out, call_node(in, n->a, &caller));
}

static enum flow with_block(struct interp *in, const struct node *n) {
	struct scope *const outer = in->scope;
	struct value *values = job_alloc(&in->job, n->n_items, sizeof(*values));
	for (size_t i = 0; i < n->n_items; i += 2) {
		values[i] = eval(in, n->items[i + 1]);
	}
	scope_push(in, outer);
	for (size_t i = 0; i < n->n_items; i += 2) {
		assign(in, n->items[i], values[i]);
	}
	const enum flow flow = exec(in, n->body);
	in->scope = outer;
	return flow;
}

static enum flow exec_if(struct interp *in, const struct node *n) {
	for (size_t i = 0; i + 1 < n->n_items; i += 2) {
		if (value_is_true(eval(in, n->items[i]))) {
			return exec(in, n->items[i + 1]);
		}
	}
	return n->c == NULL ? FLOW_NEXT : exec(in, n->c);
}

static enum flow exec_body(struct interp *in, const struct node *n) {
	enum flow flow = FLOW_NEXT;
	for (size_t i = 0; i < n->n_items && flow == FLOW_NEXT; i++) {
		flow = exec(in, n->items[i]);
	}
	return flow;
}

static enum flow dispatch(struct interp *in, const struct node *n) {
	switch (n->kind) {
	case NODE_BODY:
		return exec_body(in, n);
	case NODE_TEXT:
		out_string(&in->job, in->out, n->constant.string);
		break;
	case NODE_OUTPUT:
		out_str(&in->job, in->out, eval(in, n->a));
		break;
	case NODE_IF:
		return exec_if(in, n);
	case NODE_FOR:
		return run_loop(in, n, eval(in, n->b), 0);
	case NODE_SET:
		assign(in, n->a, eval(in, n->b));
		break;
	case NODE_SET_BLOCK:
		assign(in, n->a, filtered_block(in, n->body, n->d));
		break;
	case NODE_FILTER_BLOCK:
		out_str(&in->job, in->out, filtered_block(in, n->body, n->a));
		break;
	case NODE_MACRO:
		scope_set(in, in->scope, n->name, closure(in, n, n->name));
		break;
	case NODE_CALL_BLOCK:
		call_block(in, n);
		break;
	case NODE_WITH:
		return with_block(in, n);
	case NODE_SCOPE:
		out_str(&in->job, in->out, filtered_block(in, n->body, NULL));
		break;
	case NODE_BREAK:
		return FLOW_BREAK;
	case NODE_CONTINUE:
		return FLOW_CONTINUE;
	default:
		job_fail(&in->job, "an expression stands where a statement should");
	}
	return FLOW_NEXT;
}

enum flow exec(struct interp *in, const struct node *n) {
	job_enter(&in->job);
	job_work(&in->job, 1);
	in->job.line = n->line;
	const enum flow flow = dispatch(in, n);
	job_leave(&in->job);
	return flow;
}
