/* SPDX-License-Identifier: Apache-2.0
 *
 * Answers of a conversation of which some are chosen when all are there. */
#ifndef CHOSEN_H
#define CHOSEN_H

#include "talk.h"

/* Those that are given go to the front of t->answers, in their order; t->n_answers becomes their
 * number. */
void chosen_find(struct talk *t);
/* What a stream would have said of them as they came. */
void chosen_tell(struct talk *t, struct buf *out);

#endif
