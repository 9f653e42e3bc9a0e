/* SPDX-License-Identifier: Apache-2.0
 *
 * What a Hugging Face folder says of text, as the metadata of a GGUF file: one reader then checks
 * and uses both. */
#ifndef FOLDER_TEXT_H
#define FOLDER_TEXT_H

#include "json.h"

/* Appends to *out a GGUF file without tensors that holds the folder's name, architecture,
 * vocabulary and recommended sampling. *no_tokenizer: why the vocabulary is ids only, one half of
 * a sentence; NULL: it isn't. */
bool folder_text(struct bb_text *out, const char **no_tokenizer, const char *path,
	const json_t *config, struct bb_error *err);

#endif
