/* SPDX-License-Identifier: Apache-2.0
 *
 * The public text functions: tokenizers and chat templates of an engine. */
#include "engine.h"

#include <assert.h>
#include <string.h>

bool bb_tokenize(const struct bb_engine *e, const char *text, size_t bytes, bool add_special,
	bool parse_special, struct bb_tokens *out, struct bb_error *err) {
	struct bb_error inner = { .code = BB_OK };
	if (tokenizer_encode(e->tokenizer, text, bytes, add_special, parse_special, out, &inner)) {
		return true;
	}
	const char *why = e->file.no_tokenizer != NULL ? e->file.no_tokenizer
		: bb_has_vocab(e) ? NULL : "the model has no vocabulary";
	return why == NULL ? base_fail(err, inner.code, "%s", inner.text)
		: base_fail(err, inner.code, "%s, so text means token ids: %.300s", why, inner.text);
}

bool bb_detokenize(const struct bb_engine *e, const int32_t *ids, size_t n, struct bb_text *out,
	struct bb_error *err) {
	const int n_known = tokenizer_n_vocab(e->tokenizer);
	for (size_t i = 0; i < n; i++) {
		if (ids[i] < 0 || ids[i] >= n_known) {
			return base_fail(err, BB_ERR_INPUT, "token id %d at index %zu, expected 0 to %d",
				ids[i], i, n_known - 1);
		}
	}
	for (size_t i = 0; i < n; i++) {
		const struct gguf_string piece = tokenizer_piece(e->tokenizer, ids[i], true);
		if (!base_append(out, piece.data, piece.bytes, err)) {
			return false;
		}
	}
	return true;
}

int bb_token_bos(const struct bb_engine *e) {
	return tokenizer_bos(e->tokenizer);
}

int bb_token_eos(const struct bb_engine *e) {
	return tokenizer_eos(e->tokenizer);
}

bool bb_token_adds_bos(const struct bb_engine *e) {
	return tokenizer_adds_bos(e->tokenizer);
}

bool bb_token_is_end(const struct bb_engine *e, int32_t id) {
	return tokenizer_is_eog(e->tokenizer, id);
}

bool bb_has_vocab(const struct bb_engine *e) {
	return !tokenizer_is_vocabless(e->tokenizer);
}

const char *bb_token_name(const struct bb_engine *e, int32_t id, size_t *bytes) {
	const struct gguf_kv *names = gguf_find(&e->file.gguf, "bobbin.token_names");
	if (names == NULL || names->strings == NULL || id < 0 || (uint64_t)id >= names->n) {
		return NULL;
	}
	*bytes = names->strings[id].bytes;
	return names->strings[id].data;
}

const char *bb_chat_template(const struct bb_engine *e) {
	return e->chat_template;
}

static bool set_token(json_t *vars, const char *key, const struct bb_engine *e, int id) {
	if (json_object_get(vars, key) != NULL || e == NULL || id < 0) {
		return true;
	}
	const struct gguf_string piece = tokenizer_piece(e->tokenizer, id, true);
	return json_object_set_new(vars, key, engine_json_text(piece.data, piece.bytes)) == 0;
}

json_t *engine_json_text(const char *data, size_t bytes) {
	json_t *text = json_stringn(data, bytes);
	return text != NULL ? text : json_string("(not UTF-8)");
}

/* transformers defines these as None when the caller gives none. */
static bool set_none(json_t *vars, const char *key) {
	return json_object_get(vars, key) != NULL || json_object_set_new(vars, key, json_null()) == 0;
}

static bool render(const struct bb_engine *e, const char *source, json_t *vars, struct bb_text *out,
	struct bb_error *err) {
	const bool ok = set_token(vars, "bos_token", e, e != NULL ? bb_token_bos(e) : -1) &&
		set_token(vars, "eos_token", e, e != NULL ? bb_token_eos(e) : -1) &&
		set_none(vars, "tools") && set_none(vars, "documents");
	if (!ok) {
		return base_no_memory(err, "template variables", 0);
	}
	struct template *t;
	if (!template_create(&t, source, strlen(source), err)) {
		return false;
	}
	char *text = NULL;
	size_t bytes = 0;
	const bool done = template_render(t, vars, &text, &bytes, err) &&
		base_append(out, text, bytes, err);
	base_free(text);
	template_destroy(t);
	return done;
}

bool bb_template_render(const struct bb_engine *e, const char *template_source,
	const char *vars_json, size_t vars_bytes, struct bb_text *out, struct bb_error *err) {
	const char *source = template_source != NULL ? template_source : e->chat_template;
	if (source == NULL) {
		return base_fail(err, BB_ERR_TEMPLATE, "the model has no chat template");
	}
	json_error_t problem;
	json_t *vars = json_loadb(vars_json, vars_bytes, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL,
		&problem);
	if (vars == NULL) {
		char shown[sizeof(problem.text)]; /* quotes what it stumbled on */
		return base_fail(err, BB_ERR_INPUT, "template variables: line %d, column %d: %s",
			problem.line, problem.column,
			base_show(problem.text, strlen(problem.text), shown, sizeof(shown)));
	}
	bool ok = json_is_object(vars)
		? render(e, source, vars, out, err)
		: base_fail(err, BB_ERR_INPUT, "template variables: expected a JSON object");
	json_decref(vars);
	return ok;
}
