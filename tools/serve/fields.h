/* SPDX-License-Identifier: Apache-2.0
 *
 * Reading requests: the body as JSON within limits, and its fields by type and range. What fails
 * has replied with 400 and the field's name. A field that is null counts as absent, which leaves
 * the target as it is. */
#ifndef FIELDS_H
#define FIELDS_H

#include "exchange.h"

/* The body into x->in: one object in UTF-8, no key twice, nested no deeper than allowed. */
bool fields_parse(struct exchange *x);

/* NULL where it's absent or null. A name may be as "outer.inner", which errors call it, where `in`
 * is that object. */
const json_t *field(const json_t *in, const char *name);
bool field_bool(struct exchange *x, const json_t *in, const char *name, bool *out);
bool field_int(struct exchange *x, const json_t *in, const char *name, int min, int max, int *out);
bool field_float(struct exchange *x, const json_t *in, const char *name, double min, double max,
	float *out);
bool field_double(struct exchange *x, const json_t *in, const char *name, double min, double max,
	double *out);
bool field_string(struct exchange *x, const json_t *in, const char *name, const char **out);
/* A token id below n_vocab, or several, appended. */
bool field_id(struct exchange *x, const json_t *item, const char *name, int n_vocab,
	struct bb_tokens *out);
bool field_ids(struct exchange *x, const json_t *list, const char *name, int n_vocab,
	struct bb_tokens *out);
/* Refuses the model's name unless it's one of ours. */
bool field_model(struct exchange *x);
bool reply_no_model(struct exchange *x, const char *name);
/* Whether a value asks for anything: not null, false, 0, "" or empty. */
bool field_asks(const json_t *value);
/* A copy of x->in without these fields [names, ending in NULL], for another API's words for them:
 * what is left is what both have, and what only fields_unsupported knows. NULL: no memory. */
json_t *fields_copy(const struct exchange *x, const char *const *names);
/* Refuses fields [names, ending in NULL] that would change the answer if they were understood. */
bool fields_unsupported(struct exchange *x, const json_t *in, const char *const *names);

#endif
