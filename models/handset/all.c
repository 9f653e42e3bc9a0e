/* SPDX-License-Identifier: Apache-2.0
 *
 * Every kind of hand-set model, one line each, in alphabetical order; and what of the options each
 * takes. */
#include "handset.h"

#include "base.h"

#include <string.h>

#define KINDS(X) \
	X(census) \
	X(circuit) \
	X(conv_dfa) \
	X(dfa) \
	X(dfa_block) \
	X(dictionary) \
	X(induction) \
	X(latch) \
	X(s5_rwkv) \
	X(selective_copy)

#define X(name) extern const struct handset_kind handset_##name;
KINDS(X)
#undef X

#define X(name) &handset_##name,
const struct handset_kind *const handset_kinds[] = { KINDS(X) NULL };
#undef X

const struct handset_kind *handset_find(const char *name) {
	for (int i = 0; handset_kinds[i] != NULL; i++) {
		if (strcmp(handset_kinds[i]->name, name) == 0) {
			return handset_kinds[i];
		}
	}
	return NULL;
}

/* A number of *o: the default where it is 0, or one sentence. */
static bool check_number(const struct handset_kind *kind, const char *option, bool is_taken,
	int *value, int least, int most, int otherwise, struct bb_error *err) {
	if (*value != 0 && !is_taken) {
		return base_fail(err, BB_ERR_USAGE, "%s takes no %s", kind->name, option);
	}
	*value = *value == 0 ? otherwise : *value;
	return !is_taken || (*value >= least && *value <= most) || base_fail(err, BB_ERR_USAGE,
		"%s of %s: expected %d to %d, have %d", option, kind->name, least, most, *value);
}

bool handset_check(const struct handset_kind *kind, struct handset_options *o,
	struct bb_error *err) {
	if (o->n_tables == 0 && (kind->takes & HANDSET_TAKES_TABLES)) {
		return base_fail(err, BB_ERR_USAGE, "%s needs a --table: %s, or a JSON file", kind->name,
			handset_tables);
	}
	if (o->n_tables > 0 && !(kind->takes & HANDSET_TAKES_TABLES)) {
		return base_fail(err, BB_ERR_USAGE, "%s takes no --table", kind->name);
	}
	if (o->recency && !(kind->takes & HANDSET_TAKES_RECENCY)) {
		return base_fail(err, BB_ERR_USAGE, "%s takes no --recency", kind->name);
	}
	if (o->non_negative && !(kind->takes & HANDSET_TAKES_NON_NEGATIVE)) {
		return base_fail(err, BB_ERR_USAGE, "%s takes no --non-negative", kind->name);
	}
	return check_number(kind, "--length", kind->takes & HANDSET_TAKES_LENGTH, &o->length,
			kind->min_length, kind->max_length, kind->default_length, err) &&
		check_number(kind, "--bits", kind->takes & HANDSET_TAKES_BITS, &o->bits, kind->min_bits,
			kind->max_bits, kind->default_bits, err);
}
