/* SPDX-License-Identifier: Apache-2.0
 *
 * Lines of a dialogue: edited with history on a terminal, plain from anything else. */
#ifndef LINE_H
#define LINE_H

#include <stdbool.h>

struct line_reader;

enum line_outcome { LINE_TEXT, LINE_END, LINE_INTERRUPTED, LINE_ERROR };

struct line_reader *line_create(void); /* NULL: no memory */
void line_destroy(struct line_reader *r);
bool line_is_edited(const struct line_reader *r);
/* *text (without its newline, valid until the next call) where the outcome is LINE_TEXT. On a
 * terminal a line that ends with a backslash goes on in the next. */
enum line_outcome line_read(struct line_reader *r, const char **text);

#endif
