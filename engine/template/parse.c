/* SPDX-License-Identifier: Apache-2.0
 *
 * Statements and the template as a whole. */
#include "template/ast.h"

#include "template/interp.h"

#include <string.h>

static struct node *statements(struct parser *p, const char *const *ends);

/* The rest of a tag, then statements up to (not past) the name of one of the tags in `ends`. */
static struct node *body_until(struct parser *p, const char *const *ends) {
	parse_skip(p, TOKEN_COLON);
	parse_expect(p, TOKEN_TAG_END);
	return statements(p, ends);
}

static struct node *body_to(struct parser *p, const char *end) {
	const char *const ends[] = { end, NULL };
	struct node *body = body_until(p, ends);
	p->at++;
	return body;
}

static struct node *parse_if(struct parser *p) {
	static const char *const ends[] = { "elif", "else", "endif", NULL };
	struct node *n = parse_new(p, NODE_IF);
	const bool was_conditional = p->is_conditional;
	p->at++;
	for (;;) {
		p->is_conditional = true;
		parse_add(p, n, parse_tuple(p, false));
		parse_add(p, n, body_until(p, ends));
		if (parse_skip_name(p, "elif")) {
			continue;
		}
		if (parse_skip_name(p, "else")) {
			n->c = body_to(p, "endif");
		} else {
			p->at++;
		}
		p->is_conditional = was_conditional;
		return n;
	}
}

static struct node *parse_for(struct parser *p) {
	static const char *const ends[] = { "endfor", "else", NULL };
	struct node *n = parse_new(p, NODE_FOR);
	const bool was_conditional = p->is_conditional;
	p->at++;
	n->a = parse_target(p, false);
	if (!parse_skip_name(p, "in")) {
		parse_fail(p, "'in'");
	}
	n->b = parse_tuple(p, false);
	if (parse_skip_name(p, "if")) {
		n->d = parse_expression(p, true);
	}
	n->recursive = parse_skip_name(p, "recursive");
	p->is_conditional = false;
	p->n_loops++;
	n->body = body_until(p, ends);
	p->n_loops--;
	if (parse_skip_name(p, "else")) {
		n->c = body_to(p, "endfor");
	} else {
		p->at++;
	}
	p->is_conditional = was_conditional;
	return n;
}

/* The body of a macro-like block: names are looked up anew, and no loop reaches into it. */
static struct node *macro_body(struct parser *p, struct params *params, const char *end) {
	const struct parser outer = *p;
	if (params != p->macro) {
		params->outer = p->macro;
	}
	p->macro = params;
	p->n_loops = 0;
	p->is_conditional = false;
	struct node *body = body_to(p, end);
	p->macro = outer.macro;
	p->n_loops = outer.n_loops;
	p->is_conditional = outer.is_conditional;
	return body;
}

static struct node *block_body(struct parser *p, const char *end) {
	return macro_body(p, p->macro, end);
}

static struct node *parse_set(struct parser *p) {
	struct node *n = parse_new(p, NODE_SET);
	p->at++;
	n->a = parse_target(p, true);
	if (parse_skip(p, TOKEN_ASSIGN)) {
		n->b = parse_tuple(p, true);
		return n;
	}
	n->kind = NODE_SET_BLOCK;
	n->d = parse_filters(p, NULL, false);
	n->body = block_body(p, "endset");
	return n;
}

static void parse_params(struct parser *p, struct params *params) {
	parse_expect(p, TOKEN_LPAREN);
	struct node *names = parse_new(p, NODE_TUPLE), *defaults = parse_new(p, NODE_TUPLE);
	bool needs_default = false;
	while (p->at->kind != TOKEN_RPAREN) {
		if (names->n_items > 0) {
			parse_expect(p, TOKEN_COMMA);
		}
		struct node *name = parse_new(p, NODE_NAME);
		name->name = parse_name(p);
		parse_add(p, names, name);
		if (parse_skip(p, TOKEN_ASSIGN)) {
			parse_add(p, defaults, parse_expression(p, true));
			needs_default = true;
		} else if (text_is(name->name, "caller")) {
			parse_fail(p, "a default for the parameter 'caller'");
		} else if (needs_default) {
			parse_fail(p, "a default, as the parameter before has one");
		} else {
			parse_add(p, defaults, NULL);
		}
	}
	parse_expect(p, TOKEN_RPAREN);
	params->n = names->n_items;
	params->defaults = defaults->items;
	params->names = job_alloc(p->job, params->n, sizeof(*params->names));
	for (size_t i = 0; i < params->n; i++) {
		params->names[i] = names->items[i]->name;
	}
}

static struct node *parse_macro(struct parser *p) {
	struct node *n = parse_new(p, NODE_MACRO);
	p->at++;
	n->name = parse_name(p);
	n->params = job_alloc(p->job, 1, sizeof(*n->params));
	parse_params(p, n->params);
	n->body = macro_body(p, n->params, "endmacro");
	return n;
}

static struct node *parse_call_block(struct parser *p) {
	struct node *n = parse_new(p, NODE_CALL_BLOCK);
	p->at++;
	n->params = job_alloc(p->job, 1, sizeof(*n->params));
	if (p->at->kind == TOKEN_LPAREN) {
		parse_params(p, n->params);
	}
	n->a = parse_expression(p, true);
	if (n->a->kind != NODE_CALL) {
		p->job->line = n->line;
		job_fail(p->job, "expected a call after 'call'");
	}
	n->body = macro_body(p, n->params, "endcall");
	return n;
}

static struct node *parse_filter_block(struct parser *p) {
	struct node *n = parse_new(p, NODE_FILTER_BLOCK);
	p->at++;
	n->a = parse_filters(p, NULL, true);
	n->body = block_body(p, "endfilter");
	return n;
}

static struct node *parse_with(struct parser *p) {
	struct node *n = parse_new(p, NODE_WITH);
	p->at++;
	while (p->at->kind != TOKEN_TAG_END) {
		if (n->n_items > 0) {
			parse_expect(p, TOKEN_COMMA);
		}
		parse_add(p, n, parse_target(p, false));
		parse_expect(p, TOKEN_ASSIGN);
		parse_add(p, n, parse_expression(p, true));
	}
	n->body = body_to(p, "endwith");
	return n;
}

static struct node *parse_generation(struct parser *p) {
	struct node *n = parse_new(p, NODE_SCOPE);
	p->at++;
	n->body = block_body(p, "endgeneration");
	return n;
}

static struct node *parse_jump(struct parser *p) {
	const bool is_break = parse_at_name(p, "break");
	struct node *n = parse_new(p, is_break ? NODE_BREAK : NODE_CONTINUE);
	if (p->n_loops == 0) {
		job_fail(p->job, "'%s' stands outside of a loop", is_break ? "break" : "continue");
	}
	p->at++;
	return n;
}

static struct node *parse_print(struct parser *p) {
	struct node *n = parse_new(p, NODE_BODY);
	p->at++;
	while (p->at->kind != TOKEN_TAG_END) {
		if (n->n_items > 0) {
			parse_expect(p, TOKEN_COMMA);
		}
		struct node *output = parse_new(p, NODE_OUTPUT);
		output->a = parse_expression(p, true);
		parse_add(p, n, output);
	}
	return n;
}

static struct node *refuse(struct parser *p) {
	job_fail(p->job, "'%.*s' is not supported: a chat template is one file of its own",
		(int)p->at->text->bytes, p->at->text->data);
}

static const struct {
	const char *name;
	struct node *(*parse)(struct parser *p);
} tags[] = {
	{ "if", parse_if },
	{ "for", parse_for },
	{ "set", parse_set },
	{ "macro", parse_macro },
	{ "call", parse_call_block },
	{ "filter", parse_filter_block },
	{ "with", parse_with },
	{ "generation", parse_generation },
	{ "break", parse_jump },
	{ "continue", parse_jump },
	{ "print", parse_print },
	{ "include", refuse },
	{ "import", refuse },
	{ "from", refuse },
	{ "extends", refuse },
	{ "block", refuse },
	{ "autoescape", refuse },
};

static struct node *statement(struct parser *p, const char *const *ends) {
	if (p->at->kind != TOKEN_NAME) {
		parse_fail(p, "the name of a tag");
	}
	p->job->line = p->at->line;
	for (size_t i = 0; i < COUNT(tags); i++) {
		if (parse_at_name(p, tags[i].name)) {
			job_enter(p->job);
			struct node *n = tags[i].parse(p);
			job_leave(p->job);
			return n;
		}
	}
	struct out o = { 0 };
	for (size_t i = 0; ends[i] != NULL; i++) {
		out_format(p->job, &o, "%s'%s'", i == 0 ? " (looking for " : " or ", ends[i]);
	}
	out_text(p->job, &o, o.bytes > 0 ? ")" : "");
	job_fail(p->job, "unknown tag '%.*s'%.*s", (int)p->at->text->bytes, p->at->text->data,
		(int)o.bytes, o.data);
}

static struct node *output(struct parser *p) {
	struct node *n = parse_new(p, NODE_OUTPUT);
	parse_expect(p, TOKEN_PRINT_BEGIN);
	n->a = parse_tuple(p, true);
	parse_expect(p, TOKEN_PRINT_END);
	return n;
}

static bool at_one_of(const struct parser *p, const char *const *names) {
	for (size_t i = 0; names[i] != NULL; i++) {
		if (parse_at_name(p, names[i])) {
			return true;
		}
	}
	return false;
}

static struct node *statements(struct parser *p, const char *const *ends) {
	struct node *body = parse_new(p, NODE_BODY);
	while (p->at->kind != TOKEN_END) {
		if (p->at->kind == TOKEN_DATA) {
			struct node *text = parse_new(p, NODE_TEXT);
			text->constant = value_string(p->at->text);
			parse_add(p, body, text);
			p->at++;
		} else if (p->at->kind == TOKEN_PRINT_BEGIN) {
			parse_add(p, body, output(p));
		} else {
			parse_expect(p, TOKEN_TAG_BEGIN);
			if (at_one_of(p, ends)) {
				return body;
			}
			parse_add(p, body, statement(p, ends));
			parse_expect(p, TOKEN_TAG_END);
		}
	}
	if (ends[0] != NULL) {
		p->job->line = p->at->line;
		job_fail(p->job, "the template ends before '%s'", ends[0]);
	}
	return body;
}

struct node *parse_template(struct job *j, const char *source, size_t bytes) {
	static const char *const no_ends[] = { NULL };
	struct parser p = { .job = j, .at = lex_source(j, source, bytes) };
	return statements(&p, no_ends);
}
