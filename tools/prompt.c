/* SPDX-License-Identifier: Apache-2.0
 *
 * Rendering and tokenizing prompts. */
#include "prompt.h"

#include "input.h"

#include <stdlib.h>
#include <string.h>

bool prompt_has_template(const struct bb_engine *e, const char *source) {
	return bb_has_vocab(e) && (source != NULL || bb_chat_template(e) != NULL);
}

/* The template writes BOS itself where the model was trained with one, so tokenizing adds none: what
 * transformers' apply_chat_template does. */
bool prompt_chat(const struct bb_engine *e, const char *source, json_t *messages, struct bb_text *text,
	struct bb_tokens *out, struct bb_error *err) {
	json_t *vars = json_pack("{s:O, s:b}", "messages", messages, "add_generation_prompt", 1);
	char *json = vars != NULL ? json_dumps(vars, 0) : NULL;
	json_decref(vars);
	if (json == NULL) {
		return input_fail(err, BB_ERR_MEMORY, "no memory for the messages");
	}
	const bool ok = bb_template_render(e, source, json, strlen(json), text, err) &&
		bb_tokenize(e, text->data != NULL ? text->data : "", text->bytes, false, true, out, err);
	free(json);
	return ok;
}

bool prompt_raw(const struct bb_engine *e, const char *text, size_t bytes, struct bb_tokens *out,
	struct bb_error *err) {
	return bb_tokenize(e, text, bytes, true, true, out, err);
}

bool prompt_check(const struct bb_tokens *prompt, int max_len, struct bb_error *err) {
	if (prompt->n == 0) {
		return input_fail(err, BB_ERR_INPUT, "the prompt is empty");
	}
	if (prompt->n > (size_t)max_len) {
		return input_fail(err, BB_ERR_CONTEXT,
			"the prompt has %zu tokens, but the context holds only %d; -c N makes it larger", prompt->n,
			max_len);
	}
	return true;
}
