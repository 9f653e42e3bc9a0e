/* SPDX-License-Identifier: Apache-2.0
 *
 * What the server says on stderr: a JSON object a line. */
#ifndef ACCESS_H
#define ACCESS_H

#include "exchange.h"

/* One request: at the level `info`; those that failed at `warn`, or `error` where it's our
 * fault. */
void access_log(const struct exchange *x, bool is_whole);

#endif
