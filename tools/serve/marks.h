/* SPDX-License-Identifier: Apache-2.0
 *
 * Where the messages of a conversation begin in its prompt, for the engine: there it can go back
 * to, whatever the model keeps of what it read. */
#ifndef MARKS_H
#define MARKS_H

#include "exchange.h"

struct conversation;

/* The marks of c, whose prompt is the rendering of these messages and what is forced of the
 * answer. What can't be told, or has no memory, isn't marked. */
void marks_find(struct exchange *x, struct conversation *c, const json_t *messages);
/* One more, behind those that there are; if there is room. */
void marks_add(struct conversation *c, size_t first, enum bb_role role);
/* Of message i; of the answer behind the last one. */
enum bb_role marks_role(const json_t *messages, size_t i);

#endif
