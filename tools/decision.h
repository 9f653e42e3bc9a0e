/* SPDX-License-Identifier: Apache-2.0
 *
 * Decisions about effort: as lines for people, as JSON, and back from it. */
#ifndef DECISION_H
#define DECISION_H

#include "bobbin.h"

#include <jansson.h>
#include <stdio.h>

/* One line, its newline included. */
void decision_print(FILE *out, const struct bb_decision *d);
json_t *decision_json(const struct bb_decision *d); /* NULL: no memory */
/* A list of such objects, or an object that has one as "decisions". *out: [*n], to be freed; what
 * it points to belongs to json, which must last as long. BB_ERR_INPUT, BB_ERR_MEMORY. */
bool decision_list(json_t *json, struct bb_decision **out, int *n, struct bb_error *err);

#endif
