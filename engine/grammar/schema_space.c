/* SPDX-License-Identifier: Apache-2.0
 *
 * JSON Schema: white space between tokens. On one line there may be a space, or none. Indented it
 * is as Python's json.dumps(indent=n) has it, and nothing else, so that a model can't lose itself
 * in blanks. Rules know their level, so each level has its own: what is deeper than a limit, as
 * recursive schemas may be, is on one line. */
#include "schema.h"

#include <string.h>

enum { MAX_LEVELS = 16 };

int schema_level(const struct schema *c) {
	return c->indent == SOURCE_ONE_LINE ? 0 : c->level < MAX_LEVELS ? c->level : MAX_LEVELS;
}

bool schema_is_indented(const struct schema *c) {
	return c->indent != SOURCE_ONE_LINE && c->level < MAX_LEVELS;
}

static uint32_t text_of(struct schema *c, const char *text) {
	return expr_text(&c->r->x, text, strlen(text));
}

static uint32_t maybe_space(struct schema *c) {
	return expr_repeat(&c->r->x, text_of(c, " "), 0, 1);
}

/* The end of a line and what the next one begins with. */
static uint32_t new_line(struct schema *c, int level) {
	const uint32_t blanks = expr_repeat(&c->r->x, text_of(c, " "), level * c->indent,
		level * c->indent);
	return expr_seq(&c->r->x, text_of(c, "\n"), blanks);
}

static uint32_t inside(struct schema *c) {
	return schema_is_indented(c) ? new_line(c, c->level + 1) : maybe_space(c);
}

uint32_t schema_open(struct schema *c, const char *bracket) {
	return expr_seq(&c->r->x, text_of(c, bracket), inside(c));
}

uint32_t schema_comma(struct schema *c) {
	return expr_seq(&c->r->x, text_of(c, ","), inside(c));
}

uint32_t schema_close(struct schema *c, const char *bracket) {
	return expr_seq(&c->r->x, schema_is_indented(c) ? new_line(c, c->level) : maybe_space(c),
		text_of(c, bracket));
}

uint32_t schema_colon(struct schema *c) {
	return schema_is_indented(c) ? text_of(c, ": ")
		: expr_seq(&c->r->x, text_of(c, ":"), maybe_space(c));
}
