/* SPDX-License-Identifier: Apache-2.0
 *
 * The tokenizer as others see it: creation, encoding around added tokens, pieces, and the streaming
 * detokenizer. The vocabulary is in vocab.c, the algorithms in bpe.c, spm.c and world.c. */
#include "token.h"

#include "merge.h"

#include <assert.h>
#include <limits.h>
#include <string.h>

/* ---- life ---- */

static bool load_kind(struct tokenizer *t, const struct gguf *g, struct bb_error *err) {
	static const char *const names[] = { "gpt2", "llama", "rwkv", "no_vocab", "none" };
	static const enum vocab_kind kinds[] = { VOCAB_BPE, VOCAB_SPM, VOCAB_WORLD, VOCAB_IDS,
		VOCAB_IDS };
	struct gguf_string model = { "", 0 };
	char shown[BASE_SHOWN];
	bool found;
	if (!gguf_str(g, "tokenizer.ggml.model", &model, &found, err)) {
		return false;
	}
	for (size_t i = 0; i < COUNT(names); i++) {
		if (model.bytes == strlen(names[i]) && memcmp(model.data, names[i], model.bytes) == 0) {
			t->kind = kinds[i];
			t->model = names[i] == names[4] ? names[3] : names[i];
			t->pre = "";
			return true;
		}
	}
	return base_fail(err, BB_ERR_UNSUPPORTED,
		"tokenizer.ggml.model: expected gpt2, llama, rwkv or no_vocab, %s%s%s",
		found ? "has \"" : "is absent",
		base_show(model.data, model.bytes, shown, sizeof(shown)), found ? "\"" : "");
}

static bool load_pre(struct tokenizer *t, const struct gguf *g, struct bb_error *err) {
	struct gguf_string pre = { "", 0 };
	bool found;
	return gguf_str(g, "tokenizer.ggml.pre", &pre, &found, err) && pretoken_create(t, pre, err);
}

static bool load(struct tokenizer *t, const struct gguf *g, struct bb_error *err) {
	if (!load_kind(t, g, err) || (t->kind == VOCAB_BPE && !load_pre(t, g, err))
		|| !vocab_load(t, g, err) || (t->kind == VOCAB_BPE && !bpe_load(t, g, err))
		|| (t->kind == VOCAB_WORLD && !world_load(t, err))) {
		return false;
	}
	if (t->kind == VOCAB_SPM) {
		spm_load(t);
	}
	return vocab_load_roles(t, g, err);
}

bool tokenizer_create(struct tokenizer **out, const struct gguf *g, struct bb_error *err) {
	*out = NULL;
	struct tokenizer *t = base_alloc(1, sizeof(*t));
	if (t == NULL) {
		return base_no_memory(err, "tokenizer", sizeof(*t));
	}
	if (!load(t, g, err)) {
		tokenizer_destroy(t);
		return false;
	}
	*out = t;
	return true;
}

void tokenizer_destroy(struct tokenizer *t) {
	if (t != NULL) {
		vocab_finish(t);
		pretoken_destroy(t->pretoken);
		base_free(t);
	}
}

/* ---- text to ids ---- */

static bool is_separator(char c) {
	return c == ' ' || c == ',' || c == '\n' || c == '\r' || c == '\t';
}

static bool parse_ids(const struct tokenizer *t, const char *text, size_t bytes,
	struct bb_tokens *out, struct bb_error *err) {
	for (size_t i = 0; i < bytes;) {
		if (is_separator(text[i])) {
			i++;
			continue;
		}
		size_t end = i;
		int64_t id = 0;
		for (; end < bytes && text[end] >= '0' && text[end] <= '9'; end++) {
			id = id > t->n_vocab ? id : id * 10 + (text[end] - '0');
		}
		if (end == i || (end < bytes && !is_separator(text[end]))) {
			return base_fail(err, BB_ERR_INPUT, "expected decimal token ids separated by spaces or "
				"commas, has something else at byte %zu", end);
		}
		if (id >= t->n_vocab) {
			char shown[21];
			return base_fail(err, BB_ERR_INPUT, "expected token ids from 0 to %d, has %s",
				t->n_vocab - 1, base_show(text + i, end - i, shown, sizeof(shown)));
		}
		if (!bb_tokens_push(out, (int32_t)id, err)) {
			return false;
		}
		i = end;
	}
	return true;
}

static bool encode_plain(const struct tokenizer *t, const char *text, size_t bytes,
	bool after_special, struct merge_work *w, struct bb_tokens *out, struct bb_error *err) {
	return t->kind == VOCAB_BPE ? bpe_encode(t, text, bytes, w, out, err)
		: t->kind == VOCAB_WORLD ? world_encode(t, text, bytes, out, err)
		: spm_encode(t, text, bytes, after_special && t->add_space_prefix, w, out, err);
}

/* mark as special_mark gives it, or NULL: no added tokens. */
static bool encode_marked(const struct tokenizer *t, const char *text, size_t bytes,
	const uint8_t *mark, bool is_behind, struct merge_work *w, struct bb_tokens *out,
	struct bb_error *err) {
	bool after_special = !is_behind;
	for (size_t i = 0; i < bytes;) {
		size_t end = mark == NULL ? bytes : i + 1;
		if (mark == NULL || mark[i] == 0) {
			while (end < bytes && mark[end] == 0) {
				end++;
			}
			if (!encode_plain(t, text + i, end - i, after_special, w, out, err)) {
				return false;
			}
			after_special = false;
		} else {
			while (end < bytes && mark[end] == 1) {
				end++;
			}
			if (!bb_tokens_push(out, trie_find(&t->special, text + i, end - i), err)) {
				return false;
			}
			after_special = true;
		}
		i = end;
	}
	return true;
}

static bool encode(const struct tokenizer *t, const char *text, size_t bytes, bool add_special,
	bool parse_special, bool is_behind, struct bb_tokens *out, struct bb_error *err) {
	assert(text != NULL || bytes == 0);
	const size_t n_before = out->n;
	if (bytes >= INT32_MAX) {
		return base_fail(err, BB_ERR_INPUT, "expected a text of less than 2 GiB, has %zu bytes",
			bytes);
	}
	struct merge_work work = { 0 };
	uint8_t *mark = NULL;
	bool ok;
	if (t->kind == VOCAB_IDS) {
		ok = parse_ids(t, text, bytes, out, err);
	} else {
		ok = special_mark(t, text, bytes, parse_special, &mark, err)
			&& (!add_special || !t->add_bos || bb_tokens_push(out, t->bos, err))
			&& encode_marked(t, text, bytes, mark, is_behind, &work, out, err)
			&& (!add_special || !t->add_eos || bb_tokens_push(out, t->eos, err));
	}
	merge_finish(&work);
	base_free(mark);
	out->n = ok ? out->n : n_before;
	return ok;
}

bool tokenizer_encode(const struct tokenizer *t, const char *text, size_t bytes, bool add_special,
	bool parse_special, struct bb_tokens *out, struct bb_error *err) {
	return encode(t, text, bytes, add_special, parse_special, false, out, err);
}

bool tokenizer_encode_behind(const struct tokenizer *t, const char *text, size_t bytes,
	struct bb_tokens *out, struct bb_error *err) {
	return encode(t, text, bytes, false, true, true, out, err);
}

/* ---- ids to text ---- */

struct gguf_string tokenizer_piece(const struct tokenizer *t, int32_t id, bool special) {
	if (id < 0 || id >= t->n_vocab) {
		return (struct gguf_string){ "", 0 }; /* a padding row of the embedding has no text */
	}
	const uint8_t type = t->type[id];
	const bool is_hidden = type == VOCAB_CONTROL || type == VOCAB_UNKNOWN || type == VOCAB_UNUSED
		|| type == VOCAB_UNDEFINED;
	return is_hidden && !special ? (struct gguf_string){ "", 0 } : vocab_piece(t, id);
}

static const char replacement[] = "\xEF\xBF\xBD"; /* U+FFFD */

/* Can p[n], n of 1 to 3, still become a character with more bytes? */
static bool is_prefix(const char *p, int n) {
	char whole[4] = { p[0], (char)0x80, (char)0x80, (char)0x80 };
	memcpy(whole, p, (size_t)n);
	for (int second = 0x80; n == 1 && second < 0xC0; second += 0x10) {
		whole[1] = (char)second; /* not every one may follow E0, ED, F0 and F4 */
		if (base_char(whole, 4) > 1) {
			return true;
		}
	}
	return n > 1 && base_char(whole, 4) > n;
}

static bool push_byte(struct token_stream *s, char byte, struct bb_text *out,
	struct bb_error *err) {
	char next[5];
	memcpy(next, s->held, s->n_held);
	next[s->n_held] = byte;
	const int n = s->n_held + 1;
	if (base_char(next, (size_t)n) == n) {
		s->n_held = 0;
		return base_append(out, next, (size_t)n, err);
	}
	if (n < 4 && is_prefix(next, n)) {
		s->held[s->n_held++] = byte;
		return true;
	}
	/* what was held never becomes a character; the byte may start one */
	const bool had = s->n_held > 0;
	s->n_held = 0;
	return base_append(out, replacement, 3, err) && (!had || push_byte(s, byte, out, err));
}

bool token_stream_push(struct token_stream *s, const struct tokenizer *t, int32_t id, bool special,
	struct bb_text *out, struct bb_error *err) {
	struct gguf_string p = tokenizer_piece(t, id, special);
	const bool is_text = t->type[id] != VOCAB_CONTROL && t->type[id] != VOCAB_UNKNOWN;
	if (!s->started && is_text) {
		s->started = true;
		if (p.bytes > 0 && p.data[0] == ' ' && (t->add_space_prefix || t->kind == VOCAB_IDS)) {
			p.data++;
			p.bytes--;
		}
	}
	for (size_t i = 0; i < p.bytes;) {
		size_t whole = i; /* the stretch of whole characters is copied at once */
		while (s->n_held == 0 && whole < p.bytes) {
			const int step = base_char(p.data + whole, p.bytes - whole);
			if (step == 0) {
				break;
			}
			whole += (size_t)step;
		}
		if (whole > i ? !base_append(out, p.data + i, whole - i, err)
			: !push_byte(s, p.data[i], out, err)) {
			return false;
		}
		i = whole > i ? whole : i + 1;
	}
	return true;
}

bool token_stream_flush(struct token_stream *s, struct bb_text *out, struct bb_error *err) {
	const bool had = s->n_held > 0;
	*s = (struct token_stream){ 0 };
	return !had || base_append(out, replacement, 3, err);
}

/* ---- questions ---- */

int32_t tokenizer_n_vocab(const struct tokenizer *t) {
	return t->n_vocab;
}

bool tokenizer_is_vocabless(const struct tokenizer *t) {
	return t->kind == VOCAB_IDS;
}

int32_t tokenizer_bos(const struct tokenizer *t) {
	return t->bos;
}

int32_t tokenizer_eos(const struct tokenizer *t) {
	return t->eos;
}

bool tokenizer_adds_bos(const struct tokenizer *t) {
	return t->add_bos;
}

bool tokenizer_is_control(const struct tokenizer *t, int32_t id) {
	return id >= 0 && id < t->n_vocab && t->type[id] == VOCAB_CONTROL;
}

bool tokenizer_is_eog(const struct tokenizer *t, int32_t id) {
	for (int i = 0; i < t->n_eog; i++) {
		if (t->eog[i] == id) {
			return true;
		}
	}
	return false;
}

const char *tokenizer_model_name(const struct tokenizer *t) {
	return t->model;
}

const char *tokenizer_pre_name(const struct tokenizer *t) {
	return t->pre;
}
