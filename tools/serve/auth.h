/* SPDX-License-Identifier: Apache-2.0
 *
 * Who may use the server. */
#ifndef AUTH_H
#define AUTH_H

#include "args.h"

/* Whether one of the keys is that of `Authorization: Bearer KEY` or, as Anthropic's clients send
 * it, of `x-api-key: KEY`; both may be NULL. Without keys anybody may. How long it takes doesn't
 * depend on how much of a key is right. */
bool auth_allows(const struct arg_texts *keys, const char *authorization, const char *api_key);

#endif
