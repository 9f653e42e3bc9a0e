/* SPDX-License-Identifier: Apache-2.0
 *
 * The vocabulary: reads the token arrays of a GGUF file, checks them against each other, and
 * answers bytes -> id and id -> bytes. Doesn't split or merge text. */
#include "vocab.h"

#include <assert.h>
#include <limits.h>
#include <math.h>
#include <string.h>

#define KEY "tokenizer.ggml."

/* ---- characters ---- */

size_t vocab_step(const char *p, size_t bytes) {
	const int n = base_char(p, bytes);
	return n > 0 ? (size_t)n : 1;
}

/* GPT-2 writes bytes as printable characters: those that print as Latin-1 stand for themselves, the
 * other 68 are U+0100 onwards, in order. Returns the byte, or -1. */
static int byte_of_symbol(uint32_t c) {
	if ((c >= 0x21 && c <= 0x7E) || (c >= 0xA1 && c <= 0xFF && c != 0xAD)) {
		return (int)c;
	}
	if (c < 0x100 || c > 0x100 + 67) {
		return -1;
	}
	const int n = (int)(c - 0x100);
	return n <= 0x20 ? n : n == 0x21 ? 0x7F : n <= 0x42 ? n - 0x22 + 0x80 : 0xAD;
}

long vocab_decode_symbols(const char *p, size_t bytes, char *dst) {
	long n = 0;
	for (size_t i = 0; i < bytes;) {
		const int step = base_char(p + i, bytes - i);
		const uint8_t *u = (const uint8_t *)p + i;
		const int byte = step == 1 ? byte_of_symbol(u[0])
			: step == 2 ? byte_of_symbol((uint32_t)(u[0] & 0x1F) << 6 | (u[1] & 0x3F)) : -1;
		if (byte < 0) {
			return -1;
		}
		dst[n++] = (char)byte;
		i += (size_t)step;
	}
	return n;
}

/* U+2581 becomes a space; returns the bytes written to dst[bytes]. */
static size_t decode_spaces(const char *p, size_t bytes, char *dst) {
	size_t n = 0;
	for (size_t i = 0; i < bytes;) {
		if (bytes - i >= 3 && memcmp(p + i, "\xE2\x96\x81", 3) == 0) {
			dst[n++] = ' ';
			i += 3;
		} else {
			dst[n++] = p[i++];
		}
	}
	return n;
}

static int hex_digit(char c) {
	return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10
		: c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The byte that "<0xXX>" names, or -1. */
static int parse_byte_token(const struct gguf_string *s) {
	if (s->bytes != 6 || memcmp(s->data, "<0x", 3) != 0 || s->data[5] != '>') {
		return -1;
	}
	const int high = hex_digit(s->data[3]), low = hex_digit(s->data[4]);
	return high < 0 || low < 0 ? -1 : high << 4 | low;
}

/* ---- the map from bytes to ids ---- */

static uint64_t read_bytes(const char *p, size_t n) {
	uint64_t v = 0;
	memcpy(&v, p, n);
	return v;
}

/* 0 to 7 bytes as a number below 2^56; another one for every text of that length. */
static uint64_t read_few(const char *p, size_t bytes) {
	if (bytes >= 4) { /* two overlapping reads of a fixed size */
		return read_bytes(p, 4) | read_bytes(p + bytes - 4, 4) >> (64 - 8 * bytes) << 32;
	}
	return bytes == 0 ? 0 : (uint64_t)(uint8_t)p[0] | (uint64_t)(uint8_t)p[bytes / 2] << 8
		| (uint64_t)(uint8_t)p[bytes - 1] << 16;
}

/* (h + c) * x modulo 2^61 - 1, or a little more; h, c and x are at most a little more than 2^61. */
static uint64_t next_power(uint64_t h, uint64_t c, uint64_t x) {
	const uint64_t prime = (UINT64_C(1) << 61) - 1;
	const unsigned __int128 product = (unsigned __int128)(h + c) * x;
	const uint64_t sum = (uint64_t)(product & prime) + (uint64_t)(product >> 61);
	return (sum & prime) + (sum >> 61);
}

/* Seven bytes at a time as coefficients of a polynomial modulo 2^61 - 1, at a point that is the
 * load's secret (Carter and Wegman, 1979): no file can bring texts that collide. */
static uint64_t hash_text(const struct tokenizer *t, const char *p, size_t bytes) {
	const uint64_t x = t->secret >> 4 | UINT64_C(1) << 60;
	uint64_t h = 0;
	for (; bytes > 7; p += 7, bytes -= 7) {
		h = next_power(h, (read_bytes(p, 8) & UINT64_MAX >> 8) | UINT64_C(8) << 57, x);
	}
	h = next_power(h, read_few(p, bytes) | (uint64_t)(bytes + 1) << 57, x);
	return vocab_mix(h, 1);
}

struct gguf_string vocab_piece(const struct tokenizer *t, int32_t id) {
	assert(id >= 0 && id < t->n_vocab);
	return (struct gguf_string){ t->text + t->start[id], t->start[id + 1] - t->start[id] };
}

/* The slot where p[bytes] is, or the free one where it belongs. */
static uint64_t *find_slot(const struct tokenizer *t, const char *p, size_t bytes, uint64_t hash) {
	const struct piece_map *m = &t->pieces;
	for (size_t i = hash & m->mask;; i = (i + 1) & m->mask) {
		uint64_t *slot = &m->slots[i];
		if (*slot == 0) {
			return slot;
		}
		if ((*slot ^ hash) >> 32 == 0) {
			const struct gguf_string s = vocab_piece(t, (int32_t)((uint32_t)*slot - 1));
			if (s.bytes == bytes && memcmp(s.data, p, bytes) == 0) {
				return slot;
			}
		}
	}
}

int32_t vocab_find(const struct tokenizer *t, const char *p, size_t bytes) {
	return (int32_t)(uint32_t)*find_slot(t, p, bytes, hash_text(t, p, bytes)) - 1;
}

/* Two tokens of the same text would leave it to chance which one a text becomes. */
static bool add_piece(struct tokenizer *t, int32_t id, bool may_repeat, struct bb_error *err) {
	const struct gguf_string s = vocab_piece(t, id);
	const uint64_t hash = hash_text(t, s.data, s.bytes);
	uint64_t *slot = find_slot(t, s.data, s.bytes, hash);
	if (*slot != 0) {
		return may_repeat || base_fail(err, BB_ERR_FORMAT,
			KEY "tokens: expected different texts, tokens %u and %d have the same",
			(uint32_t)*slot - 1, id);
	}
	*slot = (hash >> 32 << 32) | (uint32_t)(id + 1);
	return true;
}

/* ---- loading ---- */

/* The array under key with n elements, of strings or not; NULL in *out when absent. */
static bool find_array(const struct gguf *g, const char *key, uint64_t n, bool strings,
	const struct gguf_kv **out, struct bb_error *err) {
	const struct gguf_kv *kv = *out = gguf_find(g, key);
	if (kv == NULL) {
		return true;
	}
	if (kv->type != GGUF_ARRAY || (kv->elem == GGUF_STRING) != strings || kv->elem == GGUF_ARRAY) {
		return base_fail(err, BB_ERR_FORMAT, "%s: expected an array of %s", key,
			strings ? "strings" : "numbers");
	}
	if (n > 0 && kv->n != n) {
		return base_fail(err, BB_ERR_FORMAT, "%s: expected %llu elements, one per token, has %llu",
			key, (unsigned long long)n, (unsigned long long)kv->n);
	}
	return true;
}

static bool load_types(struct tokenizer *t, const struct gguf *g, struct bb_error *err) {
	const struct gguf_kv *kv;
	if (!find_array(g, KEY "token_type", (uint64_t)t->n_vocab, false, &kv, err)) {
		return false;
	}
	for (int32_t i = 0; i < t->n_vocab; i++) {
		const int64_t type = kv == NULL ? VOCAB_NORMAL : gguf_array_int(kv, (uint64_t)i);
		if (type < VOCAB_UNDEFINED || type > VOCAB_BYTE) {
			return base_fail(err, BB_ERR_FORMAT,
				KEY "token_type: expected 0 to 6 for token %d, has %lld", i, (long long)type);
		}
		t->type[i] = (uint8_t)type;
	}
	return true;
}

static bool load_scores(struct tokenizer *t, const struct gguf *g, struct bb_error *err) {
	const struct gguf_kv *kv;
	if (!find_array(g, KEY "scores", (uint64_t)t->n_vocab, false, &kv, err)) {
		return false;
	}
	if (t->kind != VOCAB_SPM) {
		return true;
	}
	if (kv == NULL) {
		return base_fail(err, BB_ERR_FORMAT,
			KEY "scores: expected with model \"llama\", is absent");
	}
	for (int32_t i = 0; i < t->n_vocab; i++) {
		t->score[i] = (float)gguf_array_float(kv, (uint64_t)i) + 0.0f; /* no -0 */
		if (isnan(t->score[i])) {
			return base_fail(err, BB_ERR_FORMAT, KEY "scores: token %d has no number", i);
		}
	}
	return true;
}

/* What token id stands for, into dst[s->bytes]. *reachable: may ordinary text become this token. */
static bool decode_token(struct tokenizer *t, int32_t id, const struct gguf_string *s, char *dst,
	size_t *bytes, bool *reachable, struct bb_error *err) {
	const bool ordinary = t->type[id] == VOCAB_NORMAL || t->type[id] == VOCAB_UNUSED
		|| t->type[id] == VOCAB_USER_DEFINED || t->type[id] == VOCAB_UNDEFINED;
	*reachable = ordinary && s->bytes > 0;
	*bytes = s->bytes;
	if (t->type[id] == VOCAB_BYTE) {
		const int byte = parse_byte_token(s);
		if (byte < 0 || (t->kind == VOCAB_SPM && t->byte_id[byte] >= 0)) {
			char shown[BASE_SHOWN];
			return base_fail(err, BB_ERR_FORMAT,
				KEY "tokens: expected a byte of its own, as <0x0A>, for token %d, has \"%s\"", id,
				base_show(s->data, s->bytes, shown, sizeof(shown)));
		}
		t->byte_id[byte] = id;
		*dst = (char)byte;
		*bytes = 1;
		return true;
	}
	if (ordinary && t->kind == VOCAB_SPM) {
		/* a text's spaces are U+2581 to SPM: a literal one is never matched */
		*reachable = *reachable && memchr(s->data, ' ', s->bytes) == NULL;
		*bytes = decode_spaces(s->data, s->bytes, dst);
		return true;
	}
	if (ordinary && t->kind == VOCAB_WORLD && t->type[id] != VOCAB_USER_DEFINED) {
		const long n = world_unescape(s->data, s->bytes, dst);
		if (n < 0) {
			char shown[BASE_SHOWN];
			return base_fail(err, BB_ERR_FORMAT, KEY "tokens: expected bytes as Python writes "
				"them, as a\\x0b, for token %d, has \"%s\"", id,
				base_show(s->data, s->bytes, shown, sizeof(shown)));
		}
		*reachable = *reachable && t->type[id] != VOCAB_UNUSED; /* what fills up the vocabulary */
		*bytes = (size_t)n;
		return true;
	}
	if (ordinary && t->kind == VOCAB_BPE) {
		const long n = vocab_decode_symbols(s->data, s->bytes, dst);
		*reachable = *reachable && n > 0;
		if (n >= 0 && t->type[id] != VOCAB_USER_DEFINED) {
			*bytes = (size_t)n;
			return true;
		}
		*reachable = *reachable && n == (long)s->bytes;
	}
	memcpy(dst, s->data, s->bytes);
	return true;
}

enum { REACHABLE = 0x80 }; /* in type[] while the vocabulary is built */

static bool load_pieces(struct tokenizer *t, const struct gguf_kv *tokens, struct bb_error *err) {
	size_t at = 0;
	for (int32_t i = 0; i < t->n_vocab; i++) {
		size_t bytes;
		bool reachable;
		t->start[i] = (uint32_t)at;
		if (!decode_token(t, i, &tokens->strings[i], t->text + at, &bytes, &reachable, err)) {
			return false;
		}
		t->type[i] |= reachable ? REACHABLE : 0;
		at += bytes;
	}
	t->start[t->n_vocab] = (uint32_t)at;
	/* an added token must not hide an ordinary one of the same text from the merges */
	for (int pass = 0; pass < 2; pass++) {
		for (int32_t i = 0; i < t->n_vocab; i++) {
			const bool is_user = (t->type[i] & ~REACHABLE) == VOCAB_USER_DEFINED;
			if ((t->type[i] & REACHABLE) != 0 && is_user == (pass == 1)
				&& !add_piece(t, i, is_user, err)) {
				return false;
			}
		}
	}
	for (int32_t i = 0; i < t->n_vocab; i++) {
		t->type[i] &= (uint8_t)~REACHABLE;
	}
	return true;
}

static bool allocate(struct tokenizer *t, size_t text_bytes, struct bb_error *err) {
	const size_t n = (size_t)t->n_vocab;
	size_t n_slots = 16;
	while (n_slots < 2 * n) {
		n_slots *= 2;
	}
	t->text = base_alloc(text_bytes, 1);
	t->start = base_alloc(n + 1, sizeof(*t->start));
	t->type = base_alloc(n, sizeof(*t->type));
	t->score = t->kind == VOCAB_SPM ? base_alloc(n, sizeof(*t->score)) : NULL;
	t->pieces.slots = base_alloc(n_slots, sizeof(*t->pieces.slots));
	t->pieces.mask = n_slots - 1;
	if (t->text == NULL || t->start == NULL || t->type == NULL || t->pieces.slots == NULL
		|| (t->kind == VOCAB_SPM && t->score == NULL)) {
		return base_no_memory(err, "vocabulary", text_bytes + n_slots * 8 + n * 9);
	}
	return true;
}

/* no_vocab: as many tokens as the model has, each standing for its number after a space. */
static bool load_ids(struct tokenizer *t, const struct gguf *g, struct bb_error *err) {
	enum { MAX_IDS = 1 << 24, PIECE = 12 };
	struct gguf_string arch = { "", 0 };
	bool found;
	if (!gguf_str(g, "general.architecture", &arch, &found, err)) {
		return false;
	}
	char key[128];
	char shown[BASE_SHOWN];
	snprintf(key, sizeof(key), "%s.vocab_size",
		base_show(arch.data, arch.bytes, shown, sizeof(shown)));
	int64_t n = 0;
	if (!gguf_int(g, key, &n, &found, err)) {
		return false;
	}
	if (!found) {
		const struct bb_tensor *embd = gguf_tensor(g, "token_embd.weight");
		n = embd != NULL ? embd->dims[0] : 0;
	}
	if (n < 1 || n > MAX_IDS) {
		return base_fail(err, BB_ERR_FORMAT,
			"%s: expected 1 to %d with a no_vocab tokenizer, has %lld", key, MAX_IDS, (long long)n);
	}
	t->n_vocab = (int32_t)n;
	if (!allocate(t, (size_t)n * PIECE, err)) {
		return false;
	}
	size_t at = 0;
	for (int32_t i = 0; i < t->n_vocab; i++) {
		t->start[i] = (uint32_t)at;
		at += (size_t)snprintf(t->text + at, PIECE, " %d", i);
		t->type[i] = VOCAB_NORMAL;
	}
	t->start[n] = (uint32_t)at;
	return true;
}

bool vocab_load(struct tokenizer *t, const struct gguf *g, struct bb_error *err) {
	memset(t->byte_id, 0xFF, sizeof(t->byte_id));
	t->secret = g->hash_seed;
	if (t->kind == VOCAB_IDS) {
		return load_ids(t, g, err);
	}
	const struct gguf_kv *tokens;
	if (!find_array(g, KEY "tokens", 0, true, &tokens, err)) {
		return false;
	}
	if (tokens == NULL || tokens->n == 0 || tokens->n >= INT32_MAX) {
		return base_fail(err, BB_ERR_FORMAT, KEY "tokens: expected 1 to %d tokens, has %llu",
			INT32_MAX - 1, tokens == NULL ? 0ull : (unsigned long long)tokens->n);
	}
	size_t bytes = 1;
	for (uint64_t i = 0; i < tokens->n; i++) {
		bytes += tokens->strings[i].bytes;
	}
	if (bytes >= UINT32_MAX) {
		return base_fail(err, BB_ERR_FORMAT,
			KEY "tokens: expected texts of less than 4 GiB, has %zu bytes", bytes);
	}
	t->n_vocab = (int32_t)tokens->n;
	return allocate(t, bytes, err) && load_types(t, g, err) && load_scores(t, g, err)
		&& load_pieces(t, tokens, err) && special_build(t, tokens, err);
}

void vocab_finish(struct tokenizer *t) {
	base_free(t->text);
	base_free(t->start);
	base_free(t->type);
	base_free(t->score);
	base_free(t->pieces.slots);
	base_free(t->merges.slots);
	trie_finish(&t->special);
	trie_finish(&t->words);
}

/* ---- tokens with a meaning ---- */

static bool load_id(const struct tokenizer *t, const struct gguf *g, const char *key, int32_t *id,
	struct bb_error *err) {
	int64_t value;
	bool found;
	if (!gguf_int(g, key, &value, &found, err)) {
		return false;
	}
	if (found && (value < 0 || value >= t->n_vocab)) {
		return base_fail(err, BB_ERR_FORMAT, "%s: expected a token id from 0 to %d, has %lld", key,
			t->n_vocab - 1, (long long)value);
	}
	if (found) {
		*id = (int32_t)value;
	} else if (*id >= t->n_vocab) {
		*id = -1; /* the default of a larger vocabulary */
	}
	return true;
}

static void add_eog(struct tokenizer *t, int32_t id) {
	for (int i = 0; i < t->n_eog; i++) {
		if (t->eog[i] == id) {
			return;
		}
	}
	if (id >= 0 && t->n_eog < MAX_EOG) {
		t->eog[t->n_eog++] = id;
	}
}

/* Texts that end a turn or a document in the families of models that use them. Files often name one
 * of several in their metadata, or the wrong one. */
static const char *const eog_texts[] = {
	"<|im_end|>", "<|endoftext|>", "<|end_of_text|>", "<|eot_id|>", "<|eom_id|>", "<|end|>",
	"<|return|>", "<|call|>", "<|flush|>", "<|calls|>", "<end_of_turn>", "<turn|>", "<EOT>",
	"_<EOT>", "[EOT]", "[EOS]", "</s>", "<eos>", "<end_of_utterance>", "<|tool_response>",
	"<\xEF\xBD\x9C" "end\xE2\x96\x81" "of\xE2\x96\x81" "sentence\xEF\xBD\x9C>",
	/* of code models: what follows is another file */
	"<|fim_pad|>", "<|fim_repo|>", "<|repo_name|>", "<|file_sep|>", "<reponame>",
};

static void find_eog(struct tokenizer *t) {
	for (size_t i = 0; i < COUNT(eog_texts); i++) {
		const size_t bytes = strlen(eog_texts[i]);
		const int32_t id = trie_find(&t->special, eog_texts[i], bytes);
		/* some files call them user-defined, and then a user's text could end a turn; "</s>" is
		 * also a tag of HTML, and a token of its own in Gemma's vocabulary */
		if (id >= 0 && t->type[id] == VOCAB_USER_DEFINED && strcmp(eog_texts[i], "</s>") != 0) {
			t->type[id] = VOCAB_CONTROL;
		}
		if (id >= 0 && t->type[id] == VOCAB_CONTROL) {
			add_eog(t, id);
		}
	}
	/* harmony: <|end|> closes a message, and the answer goes on; <|return|> and <|call|> end it */
	const int32_t end = trie_find(&t->special, "<|end|>", 7);
	if (end >= 0 && end != t->eos && trie_find(&t->special, "<|return|>", 10) >= 0
		&& trie_find(&t->special, "<|call|>", 8) >= 0) {
		for (int i = 0; i < t->n_eog; i++) {
			if (t->eog[i] == end) {
				t->eog[i] = t->eog[--t->n_eog];
			}
		}
	}
}

bool vocab_load_roles(struct tokenizer *t, const struct gguf *g, struct bb_error *err) {
	const bool is_spm = t->kind == VOCAB_SPM;
	int32_t eot = -1, eom = -1;
	bool found;
	t->bos = is_spm ? 1 : -1;
	t->eos = is_spm ? 2 : -1;
	t->unknown = is_spm ? 0 : -1;
	t->add_bos = is_spm || (t->pretoken != NULL && pretoken_adds_bos(t->pretoken));
	t->add_eos = false;
	t->add_space_prefix = is_spm;
	if (!load_id(t, g, KEY "bos_token_id", &t->bos, err)
		|| !load_id(t, g, KEY "eos_token_id", &t->eos, err)
		|| !load_id(t, g, KEY "unknown_token_id", &t->unknown, err)
		|| !load_id(t, g, KEY "eot_token_id", &eot, err)
		|| !load_id(t, g, KEY "eom_token_id", &eom, err)
		|| !gguf_bool(g, KEY "add_bos_token", &t->add_bos, &found, err)
		|| !gguf_bool(g, KEY "add_eos_token", &t->add_eos, &found, err)
		|| !gguf_bool(g, KEY "add_space_prefix", &t->add_space_prefix, &found, err)) {
		return false;
	}
	t->add_bos = t->add_bos && t->bos >= 0 && t->kind != VOCAB_IDS;
	t->add_eos = t->add_eos && t->eos >= 0 && t->kind != VOCAB_IDS;
	t->add_space_prefix = t->add_space_prefix && is_spm;
	add_eog(t, t->eos);
	add_eog(t, eot);
	add_eog(t, eom);
	if (t->kind != VOCAB_IDS) {
		find_eog(t);
	}
	return true;
}
