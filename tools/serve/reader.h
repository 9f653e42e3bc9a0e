/* SPDX-License-Identifier: Apache-2.0
 *
 * Tells thinking, content and calls of tools apart in the text of an answer, as it comes. */
#ifndef READER_H
#define READER_H

#include "bobbin.h"
#include "buf.h"
#include "tool_format.h"

enum part_kind { PART_REASONING, PART_CONTENT, PART_CALL };
struct part { /* lasts until the callback returns */
	enum part_kind kind;
	const char *text;  /* [bytes], never empty; of a call: its arguments as JSON */
	size_t bytes;
	const char *name;  /* of a call */
};
typedef void part_fn(void *user, const struct part *part);

/* Bytes of a mark, with the NUL behind it. */
enum { READER_MARK = 128 };
enum reader_state { READER_START, READER_THINKING, READER_CONTENT, READER_CALL, READER_WHOLE };
struct reader { /* reader_init .. reader_finish */
	const struct tool_format *tools; /* NULL: calls aren't looked for */
	const json_t *known;             /* tools that there are, borrowed: for calls without marks */
	char think[READER_MARK], end_think[READER_MARK]; /* where thinking begins and ends */
	enum reader_state state;
	struct buf held;                 /* not given out yet */
	bool skips_blanks;               /* before what comes next */
	bool at_start;                   /* of the content */
	bool is_strict;                  /* without marks, an object is a call if "name" comes first */
	int n_calls;
};
/* known: {"function": {"name"}} each. Marks of thinking are shorter than READER_MARK; without an
 * end it isn't told apart. */
void reader_init(struct reader *r, const struct tool_format *tools, const json_t *known,
	const struct bb_thinking *thinking);
void reader_finish(struct reader *r);
/* More text; is_last: there will be none. */
void reader_feed(struct reader *r, const char *text, size_t bytes, bool is_last, part_fn *fn,
	void *user);

#endif
