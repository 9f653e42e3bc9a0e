/* SPDX-License-Identifier: Apache-2.0
 *
 * SPM, ids as text, pieces, and the streaming detokenizer, on small vocabularies made here. */
#include "vocab_builder.h"

#include <criterion/criterion.h>

#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SPACE "\xE2\x96\x81" /* U+2581 */

/* ---- SPM ---- */

/* <unk> 0, <s> 1, </s> 2, bytes 3 to 258, then what the test adds; no space in front. */
static void begin_spm(bool add_space_prefix) {
	vocab_begin("llama", NULL);
	gguf_builder_bool(&vocab.gguf, "tokenizer.ggml.add_space_prefix", add_space_prefix);
	vocab_add("<unk>", VOCAB_UNKNOWN);
	vocab_add("<s>", VOCAB_CONTROL);
	vocab_add("</s>", VOCAB_CONTROL);
	vocab_add_byte_tokens();
}

Test(spm, higher_scores_first_then_leftmost) {
	begin_spm(false);
	vocab_add_scored("a", -9); /* 259 */
	vocab_add_scored("b", -9);
	vocab_add_scored("c", -9);
	vocab_add_scored("ab", -2); /* 262 */
	vocab_add_scored("bc", -1);
	vocab_add_scored("aa", -3);
	struct tokenizer *t = vocab_end();
	cr_assert_str_eq(vocab_ids(t, "abc", 0), "259 263");
	cr_assert_str_eq(vocab_ids(t, "aaa", 0), "264 259");
	cr_assert_str_eq(vocab_ids(t, "aab", 0), "259 262");
	tokenizer_destroy(t);
}

/* A text that goes on has no space before it, be that a part of its first token or not. */
Test(spm, behind_another_text) {
	begin_spm(true);
	vocab_add_scored(SPACE, -9); /* 259 */
	vocab_add_scored("a", -9);
	vocab_add_scored("b", -9);
	vocab_add_scored(SPACE "a", -1); /* 262 */
	struct tokenizer *t = vocab_end();
	struct bb_tokens behind = { 0 };
	struct bb_error err = { 0 };
	cr_assert_str_eq(vocab_ids(t, "ab", 0), "262 261");
	cr_assert(tokenizer_encode_behind(t, "ab", 2, &behind, &err), "%s", err.text);
	cr_assert(behind.n == 2 && behind.ids[0] == 260 && behind.ids[1] == 261);
	cr_assert(tokenizer_encode_behind(t, " a</s>a", 7, &behind, &err), "%s", err.text);
	cr_assert(behind.n == 5 && behind.ids[2] == 262 && behind.ids[3] == 2 &&
		behind.ids[4] == 262, "a new text begins behind a control token");
	bb_tokens_finish(&behind);
	tokenizer_destroy(t);
}

/* The best-scored join of two neighbours, leftmost first, until no join is a piece. */
static size_t merge_slowly(const char *text, size_t n, char pieces[][32]) {
	for (size_t i = 0; i < n; i++) {
		snprintf(pieces[i], 32, "%c", text[i]);
	}
	for (;;) {
		size_t at = SIZE_MAX;
		float best = 0;
		for (size_t i = 0; i + 1 < n; i++) {
			char both[64];
			snprintf(both, sizeof(both), "%.31s%.31s", pieces[i], pieces[i + 1]);
			for (size_t id = 0; id < vocab.n_texts; id++) {
				if (strcmp(vocab.texts[id], both) == 0
					&& (at == SIZE_MAX || vocab.scores[id] > best)) {
					best = vocab.scores[id];
					at = i;
				}
			}
		}
		if (at == SIZE_MAX) {
			return n;
		}
		char both[64];
		snprintf(both, sizeof(both), "%.31s%.31s", pieces[at], pieces[at + 1]);
		snprintf(pieces[at], sizeof(pieces[0]), "%.31s", both);
		memmove(pieces[at + 1], pieces[at + 2], (n - at - 2) * sizeof(pieces[0]));
		n--;
	}
}

Test(spm, equals_the_plain_algorithm) {
	for (int round = 0; round < 20; round++) {
		begin_spm(false);
		for (const char *c = "abcd"; *c != '\0'; c++) {
			vocab_add_scored((char[]){ *c, '\0' }, -20);
		}
		for (int i = 0; i < 30; i++) { /* few pairs, so that there is where to cut */
			char text[16] = "";
			for (uint32_t k = 0, bytes = 2 + vocab_draw(4); k < bytes; k++) {
				text[k] = (char)('a' + vocab_draw(round % 2 == 0 ? 3 : 4));
			}
			if (!vocab_has(text)) {
				vocab_add_scored(text, -(float)vocab_draw(12) / 2 + (float)vocab_draw(2));
			}
		}
		struct tokenizer *t = vocab_end();
		for (int i = 0; i < 20; i++) {
			char text[64], pieces[64][32];
			const size_t n = 1 + vocab_draw(sizeof(text) - 1);
			for (size_t k = 0; k < n; k++) {
				text[k] = (char)('a' + vocab_draw(4));
			}
			const size_t n_pieces = merge_slowly(text, n, pieces);
			struct bb_tokens ids = vocab_encode(t, text, n, 0);
			cr_assert_eq(ids.n, n_pieces);
			for (size_t k = 0; k < n_pieces; k++) {
				cr_assert_str_eq(vocab.texts[ids.ids[k]], pieces[k]);
			}
			bb_tokens_finish(&ids);
		}
		tokenizer_destroy(t);
	}
}

Test(spm, other_characters_become_their_bytes) {
	begin_spm(false);
	vocab_add_scored("a", -1);
	struct tokenizer *t = vocab_end();
	/* byte n is token n + 3 */
	cr_assert_str_eq(vocab_ids(t, "a\xC3\xA9", 0), "259 198 172");
	cr_assert_str_eq(vocab_ids(t, "\xFF" "a\xE2\x82", 0), "258 259 229 133");
	struct bb_tokens ids = vocab_encode(t, "a\0b", 3, 0);
	cr_assert_str_eq(vocab_print(&ids), "259 3 101");
	bb_tokens_finish(&ids);
	for (int round = 0; round < 200; round++) {
		uint8_t text[48];
		const size_t n = vocab_draw(sizeof(text));
		for (size_t i = 0; i < n; i++) {
			text[i] = (uint8_t)vocab_draw(256);
		}
		vocab_round_trip(t, text, n);
	}
	tokenizer_destroy(t);
}

Test(spm, the_unknown_token_without_bytes) {
	vocab_begin("llama", NULL);
	gguf_builder_bool(&vocab.gguf, "tokenizer.ggml.add_space_prefix", false);
	vocab_add("<unk>", VOCAB_UNKNOWN);
	vocab_add_scored("a", -1);
	struct tokenizer *t = vocab_end();
	cr_assert_str_eq(vocab_ids(t, "a\xC3\xA9z", 0), "1 0 0");
	cr_assert_eq(vocab_lost(t, "a\xC3\xA9z"), 0);
	cr_assert_eq(tokenizer_eos(t), -1); /* the default, 2, is beyond this vocabulary */
	tokenizer_destroy(t);
}

Test(spm, a_space_in_front_of_text_and_after_added_tokens) {
	begin_spm(true);
	vocab_add_scored(SPACE, -9);     /* 259 */
	vocab_add_scored("a", -9);       /* 260 */
	vocab_add_scored(SPACE "a", -1); /* 261 */
	struct tokenizer *t = vocab_end();
	cr_assert_str_eq(vocab_ids(t, "a", 0), "261");
	cr_assert_str_eq(vocab_ids(t, " a", 0), "259 261");
	cr_assert_str_eq(vocab_ids(t, "aa a", 0), "261 260 261");
	cr_assert_str_eq(vocab_ids(t, "a<s>a</s>", VOCAB_PARSE | VOCAB_ADD), "1 261 1 261 2");
	cr_assert_str_eq(vocab_ids(t, "", VOCAB_ADD), "1");
	cr_assert(tokenizer_adds_bos(t));
	tokenizer_destroy(t);
}

Test(spm, a_written_U2581_is_a_space) {
	begin_spm(false);
	vocab_add_scored("a", -9);
	vocab_add_scored(SPACE, -9);
	vocab_add_scored(SPACE "a", -1);
	struct tokenizer *t = vocab_end();
	cr_assert_str_eq(vocab_ids(t, "a" SPACE "a " SPACE, 0), "259 261 260 260");
	cr_assert_str_eq(vocab_ids(t, SPACE, 0), "260");
	const struct gguf_string s = tokenizer_piece(t, 261, false);
	cr_assert(s.bytes == 2 && memcmp(s.data, " a", 2) == 0);
	tokenizer_destroy(t);
}

Test(spm, user_defined_tokens_come_first) {
	begin_spm(false);
	vocab_add_scored("a", -9);                 /* 259 */
	vocab_add_scored(SPACE, -9);               /* 260 */
	vocab_add_scored(SPACE "a", -1);           /* 261 */
	vocab_add("   ", VOCAB_USER_DEFINED);      /* 262: literal spaces, as in Gemma's files */
	vocab_add("<td>", VOCAB_USER_DEFINED);     /* 263 */
	struct tokenizer *t = vocab_end();
	cr_assert_str_eq(vocab_ids(t, "a    a<td>a", 0), "259 262 261 263 259");
	cr_assert_str_eq(vocab_ids(t, "a  a", 0), "259 260 261");
	tokenizer_destroy(t);
}

Test(spm, control_and_byte_tokens_are_not_made_of_text) {
	begin_spm(false);
	static const char *const parts[] = { "<", "s", ">", "<s", "0", "x", "A", "<0", "<0x", "<0x0",
		"<0x0A" };
	for (size_t i = 0; i < COUNT(parts); i++) {
		vocab_add_scored(parts[i], -(float)i);
	}
	struct tokenizer *t = vocab_end();
	cr_assert_str_eq(vocab_ids(t, "<s>", 0), "262 261"); /* "<s" and ">" */
	cr_assert_str_eq(vocab_ids(t, "<0x0A>", 0), "269 261");
	tokenizer_destroy(t);
}

Test(spm, a_megabyte_of_anything_takes_linear_time) {
	enum { N = 1000000 };
	begin_spm(true);
	static const char *const pieces[] = { "a", "aa", "aaaa", "aaaaaaaa", "aaaaaaaaaaaaaaaa", "b",
		"ab", "ba", "abab", SPACE, SPACE SPACE, SPACE "a" };
	for (size_t i = 0; i < COUNT(pieces); i++) {
		vocab_add_scored(pieces[i], -(float)i);
	}
	struct tokenizer *t = vocab_end();
	char *text = malloc(N);
	static const char units[][3] = { "aa", "ab", "  ", " a", "xx", "\xFF\xFF", "\n\n" };
	for (size_t k = 0; k < COUNT(units); k++) {
		for (size_t i = 0; i < N; i++) {
			text[i] = units[k][i % 2];
		}
		const clock_t start = clock();
		struct bb_tokens ids = vocab_encode(t, text, N, 0);
		cr_assert_lt(clock() - start, 5 * CLOCKS_PER_SEC);
		bb_tokens_finish(&ids);
	}
	free(text);
	tokenizer_destroy(t);
}

/* ---- no vocabulary ---- */

static struct tokenizer *without_vocabulary(int n) {
	vocab_begin("no_vocab", NULL);
	gguf_builder_str(&vocab.gguf, "general.architecture", "llama");
	gguf_builder_int(&vocab.gguf, "llama.vocab_size", GGUF_U32, n);
	return vocab_create();
}

Test(ids, numbers_between_spaces_and_commas) {
	struct tokenizer *t = without_vocabulary(200);
	cr_assert(tokenizer_is_vocabless(t));
	cr_assert_eq(tokenizer_n_vocab(t), 200);
	cr_assert_str_eq(tokenizer_model_name(t), "no_vocab");
	cr_assert_str_eq(vocab_ids(t, "1, 2 3\n199,\t0 ,, 007", VOCAB_ADD), "1 2 3 199 0 7");
	cr_assert_str_eq(vocab_ids(t, " , \n", 0), "");
	cr_assert_eq(tokenizer_bos(t), -1);
	tokenizer_destroy(t);
}

Test(ids, what_is_no_id_is_refused) {
	struct tokenizer *t = without_vocabulary(200);
	static const char *const bad[] = { "200", "1 -1", "1x", "a", "1.5", "1;2",
		"99999999999999999999999999" };
	for (size_t i = 0; i < COUNT(bad); i++) {
		struct bb_tokens ids = { 0 };
		struct bb_error err = { .code = BB_OK };
		cr_assert(bb_tokens_push(&ids, 5, NULL));
		cr_assert_not(tokenizer_encode(t, bad[i], strlen(bad[i]), false, false, &ids, &err));
		cr_assert_eq(err.code, BB_ERR_INPUT, "%s", bad[i]);
		cr_assert_eq(ids.n, 1); /* as before */
		bb_tokens_finish(&ids);
	}
	tokenizer_destroy(t);
}

Test(ids, pieces_are_numbers_again) {
	struct tokenizer *t = without_vocabulary(1000);
	struct bb_tokens ids = vocab_encode(t, "7 999 0", 7, 0);
	struct bb_text back = vocab_bytes(t, &ids), stream = { 0 };
	cr_assert_str_eq(back.data, " 7 999 0");
	struct token_stream s = { 0 };
	for (size_t i = 0; i < ids.n; i++) {
		cr_assert(token_stream_push(&s, t, ids.ids[i], false, &stream, NULL));
	}
	cr_assert_str_eq(stream.data, "7 999 0");
	bb_text_finish(&stream);
	bb_text_finish(&back);
	bb_tokens_finish(&ids);
	tokenizer_destroy(t);
}

/* ---- pieces and streams ---- */

Test(pieces, control_tokens_show_only_if_asked) {
	vocab_begin("gpt2", "qwen2");
	vocab_add_bytes();
	const int control = vocab_add("<c>", VOCAB_CONTROL);
	const int user = vocab_add("<u>", VOCAB_USER_DEFINED);
	const int word = vocab_add_merge("\xC4\xA0", "a"); /* a space and "a" */
	const int raw = vocab_add("x y", VOCAB_NORMAL); /* not in the byte alphabet: as it is */
	struct tokenizer *t = vocab_end();
	cr_assert_eq(tokenizer_piece(t, control, false).bytes, 0);
	cr_assert_eq(tokenizer_piece(t, control, true).bytes, 3);
	cr_assert_eq(tokenizer_piece(t, user, false).bytes, 3);
	cr_assert_eq(memcmp(tokenizer_piece(t, word, false).data, " a", 2), 0);
	cr_assert_eq(memcmp(tokenizer_piece(t, raw, false).data, "x y", 3), 0);
	for (int i = 0; i < 256; i++) {
		const struct gguf_string s = tokenizer_piece(t, i, false);
		cr_assert(s.bytes == 1 && (uint8_t)s.data[0] == i);
	}
	cr_assert_str_eq(tokenizer_model_name(t), "gpt2");
	cr_assert_str_eq(tokenizer_pre_name(t), "qwen2");
	tokenizer_destroy(t);
}

static struct tokenizer *bytes_only(void) {
	vocab_begin("gpt2", "gpt2");
	vocab_add_bytes();
	vocab_add("<c>", VOCAB_CONTROL);
	return vocab_end();
}

/* What the bytes, one token each, become; `at` shows where output came: '.' for none. */
static const char *stream_of(const struct tokenizer *t, const char *text, size_t n) {
	static char shown[256];
	struct token_stream s = { 0 };
	struct bb_text out = { 0 };
	size_t at = 0;
	for (size_t i = 0; i < n; i++) {
		out.bytes = 0;
		cr_assert(token_stream_push(&s, t, (uint8_t)text[i], false, &out, NULL));
		at += (size_t)snprintf(shown + at, sizeof(shown) - at, "%.*s",
			(int)(out.bytes > 0 ? out.bytes : 1), out.bytes > 0 ? out.data : ".");
	}
	out.bytes = 0;
	cr_assert(token_stream_flush(&s, &out, NULL));
	cr_assert_eq(s.n_held, 0);
	snprintf(shown + at, sizeof(shown) - at, "/%.*s", (int)out.bytes,
		out.bytes > 0 ? out.data : "");
	bb_text_finish(&out);
	return shown;
}

#define STREAM(t, text) stream_of(t, text, sizeof(text) - 1)
#define BAD "\xEF\xBF\xBD"

Test(stream, only_whole_characters_come_out) {
	struct tokenizer *t = bytes_only();
	cr_assert_str_eq(STREAM(t, "a\xC3\xA9" "b"), "a.\xC3\xA9" "b/");
	cr_assert_str_eq(STREAM(t, "\xE2\x82\xAC"), "..\xE2\x82\xAC/");
	cr_assert_str_eq(STREAM(t, "\xF0\x9F\x98\x80!"), "...\xF0\x9F\x98\x80!/");
	cr_assert_str_eq(STREAM(t, "\xED\x9F\xBF"), "..\xED\x9F\xBF/");
	cr_assert_str_eq(STREAM(t, "\xF4\x8F\xBF\xBF"), "...\xF4\x8F\xBF\xBF/");
	tokenizer_destroy(t);
}

Test(stream, broken_characters_are_replaced) {
	struct tokenizer *t = bytes_only();
	cr_assert_str_eq(STREAM(t, "\xC3" "a"), "." BAD "a/");
	cr_assert_str_eq(STREAM(t, "\xFF\x80" "a"), BAD BAD "a/");
	cr_assert_str_eq(STREAM(t, "\xE2\x82\xC3\xA9"), ".." BAD "\xC3\xA9/");
	cr_assert_str_eq(STREAM(t, "\xED\xA0\x80"), "." BAD BAD BAD "/"); /* a surrogate */
	cr_assert_str_eq(STREAM(t, "\xE0\x80\xF4\x90"), "." BAD BAD "." BAD BAD "/");
	tokenizer_destroy(t);
}

Test(stream, what_is_left_is_replaced_at_the_end) {
	struct tokenizer *t = bytes_only();
	cr_assert_str_eq(STREAM(t, "a\xF0\x9F\x98"), "a.../" BAD);
	cr_assert_str_eq(STREAM(t, "\xC3"), "./" BAD);
	cr_assert_str_eq(STREAM(t, ""), "/");
	tokenizer_destroy(t);
}

Test(stream, equals_the_text_for_any_characters) {
	struct tokenizer *t = bytes_only();
	static const char *const units[] = { "a", " ", "\n", "\xC3\xA9", "\xE2\x82\xAC",
		"\xF0\x9F\x98\x80" };
	for (int round = 0; round < 100; round++) {
		struct bb_text text = { 0 }, out = { 0 };
		struct token_stream s = { 0 };
		for (int i = 0; i < 20; i++) {
			const char *unit = units[vocab_draw(COUNT(units))];
			cr_assert(base_append(&text, unit, strlen(unit), NULL));
		}
		for (size_t i = 0; i < text.bytes; i++) {
			cr_assert(token_stream_push(&s, t, (uint8_t)text.data[i], false, &out, NULL));
			cr_assert_leq(text.bytes - out.bytes, text.bytes - i - 1 + 3);
		}
		cr_assert(token_stream_flush(&s, &out, NULL));
		cr_assert_str_eq(out.data, text.data);
		bb_text_finish(&out);
		bb_text_finish(&text);
	}
	tokenizer_destroy(t);
}

static const char *stream_ids(const struct tokenizer *t, bool started, const char *text, int how) {
	static struct bb_text out;
	struct token_stream s = { .started = started };
	struct bb_tokens ids = vocab_encode(t, text, strlen(text), how);
	out.bytes = 0;
	for (size_t i = 0; i < ids.n; i++) {
		cr_assert(token_stream_push(&s, t, ids.ids[i], false, &out, NULL));
	}
	cr_assert(token_stream_flush(&s, &out, NULL));
	bb_tokens_finish(&ids);
	return out.bytes > 0 ? out.data : "";
}

Test(stream, the_space_in_front_goes_again) {
	begin_spm(true);
	vocab_add_scored("a", -9);
	vocab_add_scored(SPACE, -9);
	vocab_add_scored(SPACE "a", -1);
	struct tokenizer *t = vocab_end();
	cr_assert_str_eq(stream_ids(t, false, "a a", 0), "a a");
	cr_assert_str_eq(stream_ids(t, false, "  a", 0), "  a");
	cr_assert_str_eq(stream_ids(t, false, "a", VOCAB_ADD), "a"); /* BOS is no text */
	cr_assert_str_eq(stream_ids(t, true, "a", 0), " a"); /* text that goes on: a real space */
	tokenizer_destroy(t);
	begin_spm(false);
	vocab_add_scored(SPACE, -9);
	t = vocab_end();
	cr_assert_str_eq(stream_ids(t, false, "  ", 0), "  ");
	tokenizer_destroy(t);
}
