/* SPDX-License-Identifier: Apache-2.0
 *
 * Rendering and tokenizing prompts. */
#include "prompt.h"

#include "input.h"
#include "terminal.h"

#include <stdlib.h>
#include <string.h>

bool prompt_has_template(const struct bb_engine *e, const char *source) {
	return bb_has_vocab(e) && (source != NULL || bb_chat_template(e) != NULL);
}

static bool render(const struct bb_engine *e, const char *source, json_t *messages,
	bool asks, struct bb_text *text, struct bb_error *err) {
	json_t *vars = json_pack("{s:O, s:b}", "messages", messages, "add_generation_prompt", asks);
	char *json = vars != NULL ? json_dumps(vars, 0) : NULL;
	json_decref(vars);
	if (json == NULL) {
		return input_fail(err, BB_ERR_MEMORY, "no memory for the messages");
	}
	const bool ok = bb_template_render(e, source, json, strlen(json), text, err);
	free(json);
	return ok;
}

/* The prompt with this system message, before some user's. */
static bool render_system(const struct bb_engine *e, const char *source, const char *content,
	struct bb_text *text, struct bb_error *err) {
	json_t *messages = json_pack("[{s:s, s:s}, {s:s, s:s}]", "role", "system", "content", content,
		"role", "user", "content", "Hello");
	const bool ok = render(e, source, messages, true, text, err);
	json_decref(messages);
	return ok;
}

bool prompt_check_template(const struct bb_engine *e, const char *source, struct bb_error *err) {
	return source == NULL || bb_has_vocab(e) || input_fail(err, BB_ERR_USAGE,
		"the model has no vocabulary: its prompts are token ids, with no place for "
		"--chat-template-file");
}

bool prompt_check_system(const struct bb_engine *e, const char *source, struct bb_error *err) {
	struct bb_text one = { 0 }, other = { 0 };
	const bool ok = render_system(e, source, "one", &one, err) &&
		render_system(e, source, "another", &other, err);
	const bool is_used = ok && (one.bytes != other.bytes ||
		(one.bytes > 0 && memcmp(one.data, other.data, one.bytes) != 0));
	bb_text_finish(&one);
	bb_text_finish(&other);
	return is_used || (ok && input_fail(err, BB_ERR_USAGE,
		"the chat template has no place for a system message"));
}

/* Without a template the contents follow each other, a newline behind each. */
static bool join_lines(const struct bb_engine *e, json_t *messages, struct bb_tokens *out,
	struct bb_error *err) {
	char *text = NULL;
	size_t bytes = 0, i;
	FILE *f = open_memstream(&text, &bytes);
	const json_t *message;
	json_array_foreach(messages, i, message) {
		const json_t *content = json_object_get(message, "content");
		if (f != NULL) {
			fwrite(json_string_value(content), 1, json_string_length(content), f);
			fputc('\n', f);
		}
	}
	const bool ok = f != NULL && fclose(f) == 0
		? prompt_raw(e, text, bytes, out, err)
		: input_fail(err, BB_ERR_MEMORY, "no memory for the conversation");
	free(text);
	return ok;
}

/* The template writes BOS itself where the model was trained with one, so tokenizing adds none:
 * what transformers' apply_chat_template does. */
bool prompt_chat(const struct bb_engine *e, const char *source, json_t *messages, bool asks,
	struct bb_text *text, struct bb_tokens *out, struct bb_error *err) {
	if (!prompt_has_template(e, source)) {
		return join_lines(e, messages, out, err);
	}
	return render(e, source, messages, asks, text, err) &&
		bb_tokenize(e, text->data != NULL ? text->data : "", text->bytes, false, true, out, err);
}

bool prompt_raw(const struct bb_engine *e, const char *text, size_t bytes, struct bb_tokens *out,
	struct bb_error *err) {
	return bb_tokenize(e, text, bytes, true, true, out, err);
}

void prompt_note_lost(const struct bb_tokens *tokens) {
	if (tokens->n_lost > 0) {
		notice("%zu byte%s of the text %s left out: the vocabulary has no token for %s",
			tokens->n_lost, tokens->n_lost == 1 ? "" : "s", tokens->n_lost == 1 ? "is" : "are",
			tokens->n_lost == 1 ? "it" : "them");
	}
}

bool prompt_check(const struct bb_tokens *prompt, int max_len, struct bb_error *err) {
	if (prompt->n == 0) {
		return input_fail(err, BB_ERR_INPUT, "the prompt is empty");
	}
	if (prompt->n > (size_t)max_len) {
		return input_fail(err, BB_ERR_CONTEXT,
			"the prompt has %zu tokens, but the context holds only %d; -c N makes it larger, "
			"though a model answers badly beyond the length it was made for", prompt->n, max_len);
	}
	return true;
}
