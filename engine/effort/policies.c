/* SPDX-License-Identifier: Apache-2.0
 *
 * The table of policies, in the order in which they are asked: what an earlier one has done, later
 * ones see. */
#include "effort.h"

#include <string.h>

extern const struct effort_policy effort_allot, effort_budget, effort_choice, effort_consensus,
	effort_deadline, effort_deepconf, effort_minimum, effort_probe;

const struct effort_policy *const effort_policies[] = {
	&effort_minimum,
	&effort_budget,
	&effort_probe,
	&effort_deadline,
	&effort_consensus,
	&effort_deepconf,
	&effort_allot,
	&effort_choice,
	NULL,
};

const char effort_control[] = "control";

const struct effort_policy *effort_policy_find(const char *name) {
	for (int i = 0; effort_policies[i] != NULL; i++) {
		if (strcmp(effort_policies[i]->name, name) == 0) {
			return effort_policies[i];
		}
	}
	return NULL;
}
