/* SPDX-License-Identifier: Apache-2.0
 *
 * tokenizer.json of a Hugging Face folder, as the metadata of a GGUF file. */
#ifndef FOLDER_TOKENS_H
#define FOLDER_TOKENS_H

#include "json.h"
#include "metadata.h"

/* Writes the vocabulary of `root`, tokenizer.json's value or NULL, if it is byte-level BPE with a
 * pre-tokenizer that engine/token knows. *why is NULL then; else it says why not, one half of a
 * sentence, and nothing is written. *bos: the token that the tokenizer puts before texts; -1: none.
 * False for a value that is wrong, and where memory fails. */
bool folder_tokens(struct metadata *m, const json_t *root, int32_t *bos, const char **why,
	struct bb_error *err);

#endif
