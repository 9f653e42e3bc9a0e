/* SPDX-License-Identifier: Apache-2.0
 *
 * A model's config.json: what a description's names in it mean (see struct bb_key), and what else
 * stands in it. */
#ifndef CONFIG_H
#define CONFIG_H

#include "graph.h"
#include "json.h"

/* What the names stand for in the configuration `root`; *used [bytes] is the alternative that was
 * found, for sentences. *found is false when none is there, *value is left alone then. */
bool config_number(const json_t *root, const char *names, double *value, bool *found, char *used,
	size_t bytes, struct bb_error *err);
/* The first alternative that is there and not null; NULL: none. Of names without * and =. */
const json_t *config_value(const json_t *root, const char *names);
/* Whether `text` is one of the alternatives of `names`. */
bool config_names(const char *names, const char *text);
/* The first string of "architectures"; NULL: there is none. */
const char *config_arch(const json_t *root);

/* Names of the type of RoPE scaling. Where kinds of layer have one each, that of full attention:
 * the others may have none. */
#define CONFIG_ROPE_TYPE "rope_parameters.full_attention.rope_type|rope_parameters.rope_type|" \
	"rope_parameters.type|rope_scaling.rope_type|rope_scaling.type"

/* Refuses a configuration with an entry that changes the arithmetic and that the model doesn't
 * read, and one with an entry of which this build can't say that it doesn't. */
bool config_unread_check(const json_t *root, const struct bb_model *m, const struct bb_hparams *hp,
	struct bb_error *err);

#endif
