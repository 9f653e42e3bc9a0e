/* SPDX-License-Identifier: Apache-2.0
 *
 * Ids and names of a hand-set model's tokens. */
#ifndef LEGEND_H
#define LEGEND_H

#include "handset.h"

/* A line to stderr: "ids: 0 (  1 )  2 x  3 depth0 ... 11 depth8  12 error", and of several tables
 * with which token a run of each begins. */
void legend_print(const struct handset_kind *kind, const struct handset_options *o,
	const struct handset_names *names);

#endif
