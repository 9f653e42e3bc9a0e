/* SPDX-License-Identifier: Apache-2.0
 *
 * Chat templates: an interpreter of the Jinja that published templates use, with the semantics of
 * transformers' ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True). Steps, output
 * and recursion are limited, so a template can neither hang nor exhaust memory. */
#ifndef TEMPLATE_H
#define TEMPLATE_H

#include "base.h"

#include <jansson.h>

struct template; /* opaque; immutable once compiled */

/* Parses source[bytes]. A syntax error names line and what was expected. */
bool template_create(struct template **out, const char *source, size_t bytes, struct bb_error *err);
void template_destroy(struct template *t);

/* Renders with the members of `vars` (a JSON object; borrowed) as globals, plus range, namespace,
 * dict, raise_exception, strftime_now. *text (base_free'd by the caller, NUL-terminated) has *bytes
 * bytes. A raise_exception gives BB_ERR_TEMPLATE with its message. */
bool template_render(const struct template *t, const json_t *vars, char **text, size_t *bytes,
	struct bb_error *err);

#endif
