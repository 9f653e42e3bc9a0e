/* SPDX-License-Identifier: Apache-2.0
 *
 * How families of models write calls of tools into their text, and how that is read. */
#ifndef TOOL_FORMAT_H
#define TOOL_FORMAT_H

#include <jansson.h>

#include <stdbool.h>
#include <stddef.h>

/* How DeepSeek spells its marks. */
#define DEEPSEEK(word) "<\uFF5Ctool\u2581" word "\uFF5C>"

enum { TOOL_FORMAT_WORDS = 2 };
struct tool_format {
	const char *name;
	/* Of the text: calls lie between them; begin NULL: there are no marks; end NULL: to the end of
	 * the text. Where the text begins with one of `starts` all of it may be calls. */
	const char *begin, *end, *starts[TOOL_FORMAT_WORDS];
	bool has_special; /* its marks are control tokens, which texts don't show unless asked */
	/* Any of them in a chat template: it's this format. */
	const char *signs[TOOL_FORMAT_WORDS];
	/* Reads what stands between the marks: an array of {name, arguments}, or NULL where it isn't
	 * one call or more, whole and well-formed. */
	json_t *(*read)(const char *text, size_t bytes);
	/* What a call begins with, up to its name, what stands between name and arguments, and what
	 * follows them, where they are JSON: with these a prompt can go on to the arguments of a call
	 * that the model must write. Else NULL. */
	const char *opening, *naming, *closing;
	/* Where a call is one object: what comes before and behind it, and what it calls the arguments;
	 * else NULL. */
	const char *before, *after, *arguments;
};

/* By its name or an alias that other servers have; NULL: there is none. */
const struct tool_format *tool_format_find(const char *name);
/* The format of a chat template's models; hermes where nothing in it tells. */
const struct tool_format *tool_format_of(const char *chat_template);
/* Names of all, joined by commas. */
const char *tool_format_names(void);

#endif
