/* SPDX-License-Identifier: Apache-2.0
 *
 * Who may use the server. */
#ifndef AUTH_H
#define AUTH_H

#include "args.h"

/* Which of the keys is that of `Authorization: Bearer KEY` or, as Anthropic's clients send it, of
 * `x-api-key: KEY`; both may be NULL. -1: none. Without keys anybody may, as 0. How long it takes
 * doesn't depend on how much of a key is right. */
int auth_key(const struct arg_texts *keys, const char *authorization, const char *api_key);

/* Takes ` weight=NUMBER` off the end of a line with a key; *weight is 0 where there is none. False:
 * it's no number above 0. */
bool auth_cut_weight(char *line, double *weight);

#endif
