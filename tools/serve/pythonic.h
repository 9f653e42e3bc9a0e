/* SPDX-License-Identifier: Apache-2.0
 *
 * Calls of tools that are written as calls in Python: [f(a=1, b="x"), g()]. */
#ifndef PYTHONIC_H
#define PYTHONIC_H

#include <jansson.h>

/* An array of {name, arguments}; NULL where the text isn't such a list of calls with literals. */
json_t *pythonic_read(const char *text, size_t bytes);

#endif
