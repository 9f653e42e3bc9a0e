/* SPDX-License-Identifier: Apache-2.0
 *
 * Prompts that come as embeddings, in the words of vLLM: base64 of what torch.save writes. */
#ifndef PROMPT_EMBEDS_H
#define PROMPT_EMBEDS_H

#include "exchange.h"

/* A text with a tensor [n, n_embd] or [1, n, n_embd]; param is the field's name. False: replied. */
bool prompt_embeds_read(struct exchange *x, const json_t *value, const char *param,
	struct bb_vectors **out);
void prompt_embeds_free(struct server *s, struct bb_vectors *v); /* NULL is fine */
/* Their ids, appended. False: replied. */
bool prompt_embeds_push(struct exchange *x, const struct bb_vectors *v, struct bb_tokens *ids);

#endif
