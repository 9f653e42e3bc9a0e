/* SPDX-License-Identifier: Apache-2.0
 *
 * How many deadlines of a trace could be met at best: by a preemptive fluid server that does a
 * second of work in a second and knows all lengths. */
#ifndef BOUND_H
#define BOUND_H

#include "virtual.h"

/* An upper bound for every schedule of v, and at most n. Part of a request counts as that part:
 * bound.c says why that is exact for the fluid server with such parts, and more than any with whole
 * ones. -1: no memory. Takes a time that grows as n * n. */
double bound_met(const struct virtual_server *v, const struct virtual_request *requests, int n);

#endif
