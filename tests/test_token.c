/* SPDX-License-Identifier: Apache-2.0
 *
 * Byte-level BPE: how text is split, merged and cut at added tokens, on small vocabularies made
 * here, against plain algorithms. */
#include "merge.h"
#include "pretoken.h"
#include "vocab_builder.h"

#include <criterion/criterion.h>

#include <stdlib.h>
#include <string.h>
#include <time.h>

/* ---- splitting ---- */

static const char *split_bytes(const char *pre, const char *text, size_t bytes) {
	static char shown[1024];
	size_t n = 0;
	vocab_begin("gpt2", pre);
	vocab_add_bytes();
	struct tokenizer *t = vocab_end();
	struct pretoken_scan scan;
	cr_assert(pretoken_start(&scan, t->pretoken, text, bytes, NULL));
	while (scan.at < bytes) {
		const size_t start = scan.at;
		size_t end;
		cr_assert(pretoken_next(&scan, &end, NULL));
		cr_assert(end > start && end <= bytes);
		n += (size_t)snprintf(shown + n, sizeof(shown) - n, "%s%.*s", start > 0 ? "|" : "",
			(int)(end - start), text + start);
	}
	pretoken_stop(&scan);
	tokenizer_destroy(t);
	return shown;
}

static const char *split(const char *pre, const char *text) {
	return split_bytes(pre, text, strlen(text));
}

Test(split, gpt2_words_numbers_and_signs) {
	cr_assert_str_eq(split("gpt2", "Hello world, x=42!"), "Hello| world|,| x|=|42|!");
	cr_assert_str_eq(split("gpt-2", "a 12b  34"), "a| 12|b| | 34");
	cr_assert_str_eq(split("gpt-2", "\xD0\x9F\xD1\x80 \xE4\xBD\xA0\xE3\x80\x82"),
		"\xD0\x9F\xD1\x80| \xE4\xBD\xA0|\xE3\x80\x82");
}

Test(split, gpt2_leaves_the_last_space_to_the_word) {
	cr_assert_str_eq(split("gpt2", "a   b \n c\n\n"), "a|  | b| \n| c|\n\n");
	cr_assert_str_eq(split("gpt2", "  "), "  ");
}

Test(split, gpt2_contractions_are_lower_case) {
	cr_assert_str_eq(split("gpt2", "it's we'll I'D 'tis"), "it|'s| we|'ll| I|'|D| '|tis");
}

Test(split, smollm_cuts_digits_one_by_one) {
	cr_assert_str_eq(split("smollm", "x123 45"), "x|1|2|3| |4|5");
	cr_assert_str_eq(split("smollm", "\xC2\xBD\xE2\x85\xA7"), "\xC2\xBD|\xE2\x85\xA7");
}

Test(split, smollm_keeps_spaces_before_a_digit_together) {
	cr_assert_str_eq(split("smollm", "a   1   b"), "a|   |1|  | b");
	cr_assert_str_eq(split("smollm", "1's 2"), "1|'s| |2");
}

Test(split, qwen2_takes_one_sign_along_with_a_word) {
	cr_assert_str_eq(split("qwen2", "(abc) \tdef _x"), "(abc|)| |\tdef| _|x");
	cr_assert_str_eq(split("qwen2", "12 3"), "1|2| |3");
}

Test(split, qwen2_contractions_are_of_any_case) {
	cr_assert_str_eq(split("qwen2", "it's WE'LL 'Re"), "it|'s| WE|'LL| '|Re");
	/* the original expression folds case, and U+017F folds to s */
	cr_assert_str_eq(split("qwen2", "a'\xC5\xBFx"), "a|'\xC5\xBF|x");
}

Test(split, qwen2_newlines) {
	cr_assert_str_eq(split("qwen2", "a;\n\nb\n \n c  \n"), "a|;\n\n|b|\n \n| c|  \n");
	cr_assert_str_eq(split("qwen2", "a\r\n\r\n  b"), "a|\r\n\r\n| | b");
}

Test(split, llama3_takes_three_digits) {
	cr_assert_str_eq(split("llama3", "1234567 89"), "123|456|7| |89");
	cr_assert_str_eq(split("llama-bpe", "I'm 25%\n!"), "I|'m| |25|%\n|!");
}

Test(split, spaces_are_the_white_space_set) {
	/* U+0085, U+00A0, U+3000 and U+2028 are; U+180E, U+200B and U+001C are not */
	cr_assert_str_eq(split("gpt2", "a\xC2\x85\xC2\xA0" "b"), "a|\xC2\x85|\xC2\xA0|b");
	cr_assert_str_eq(split("gpt2", "\xE3\x80\x80\xE2\x80\xA8" "b"), "\xE3\x80\x80|\xE2\x80\xA8|b");
	cr_assert_str_eq(split("qwen2", "\xE1\xA0\x8E" "b"), "\xE1\xA0\x8E" "b");
	cr_assert_str_eq(split("gpt2", " \xE1\xA0\x8E\xE2\x80\x8B\x1C b"),
		" \xE1\xA0\x8E\xE2\x80\x8B\x1C| b");
}

Test(split, letters_newer_than_the_library) {
	/* U+31350 and U+11F04 are letters, U+11F50 is a number since Unicode 15 */
	cr_assert_str_eq(split("gpt2", "x\xF0\xB1\x8D\x90\xF0\x91\xBC\x84"),
		"x\xF0\xB1\x8D\x90\xF0\x91\xBC\x84");
	cr_assert_str_eq(split("gpt2", "x\xF0\x91\xBD\x90"), "x|\xF0\x91\xBD\x90");
}

Test(split, invalid_bytes_are_signs) {
	cr_assert_str_eq(split("gpt2", "ab\xFF\xC3 c\xED\xA0\x80"), "ab|\xFF\xC3| c|\xED\xA0\x80");
	cr_assert_str_eq(split("qwen2", "\xE2\x82" "abc"), "\xE2\x82|abc");
}

Test(split, words_put_together_are_the_text) {
	static const char *const names[] = { "gpt-2", "smollm", "qwen2", "llama3" };
	for (size_t k = 0; k < COUNT(names); k++) {
		for (int round = 0; round < 30; round++) {
			char text[40], joined[256] = "";
			for (size_t i = 0; i < sizeof(text); i++) {
				const char common = "a1 \n\r'sT.\t{"[vocab_draw(11)];
				text[i] = vocab_draw(3) == 0 ? (char)(128 + vocab_draw(128)) : common;
			}
			const char *words = split_bytes(names[k], text, sizeof(text));
			size_t n = 0;
			for (const char *p = words; *p != '\0'; p++) {
				joined[n] = *p;
				n += *p != '|';
			}
			cr_assert(n == sizeof(text) && memcmp(joined, text, n) == 0);
		}
	}
}

/* ---- byte-level BPE ---- */

Test(bpe, merges_by_rank_then_leftmost) {
	vocab_begin("gpt2", "gpt2");
	vocab_add_bytes();
	vocab_add_merge("b", "c"); /* 256 */
	vocab_add_merge("a", "b");
	vocab_add_merge("a", "a");
	vocab_add_merge("a", "bc"); /* 259 */
	struct tokenizer *t = vocab_end();
	cr_assert_str_eq(vocab_ids(t, "abc", 0), "259");
	cr_assert_str_eq(vocab_ids(t, "ab", 0), "257");
	cr_assert_str_eq(vocab_ids(t, "aaa", 0), "258 97");
	cr_assert_str_eq(vocab_ids(t, "", 0), "");
	tokenizer_destroy(t);
}

/* Repeats the best merge of the whole word until there is none; quadratic, and plain. */
static size_t merge_slowly(const char *text, size_t n, char pieces[][32]) {
	for (size_t i = 0; i < n; i++) {
		snprintf(pieces[i], 32, "%c", text[i]);
	}
	for (;;) {
		size_t best = SIZE_MAX, at = 0;
		for (size_t i = 0; i + 1 < n; i++) {
			char key[80];
			snprintf(key, sizeof(key), "%.31s %.31s", pieces[i], pieces[i + 1]);
			for (size_t rank = 0; rank < vocab.n_merges && rank < best; rank++) {
				if (strcmp(vocab.merges[rank], key) == 0) {
					best = rank;
					at = i;
				}
			}
		}
		if (best == SIZE_MAX) {
			return n;
		}
		char both[64];
		snprintf(both, sizeof(both), "%.31s%.31s", pieces[at], pieces[at + 1]);
		snprintf(pieces[at], sizeof(pieces[0]), "%.31s", both);
		memmove(pieces[at + 1], pieces[at + 2], (n - at - 2) * sizeof(pieces[0]));
		n--;
	}
}

/* Pieces over "abc" of up to 12 letters, each the join of two earlier ones; ranks in any order. */
static void add_random_merges(int n) {
	for (int i = 0; i < n; i++) {
		char left[16], right[16], both[32];
		const uint32_t n_joined = (uint32_t)vocab.n_texts - 256;
		const uint32_t id = i < 6 || vocab_draw(2) == 0 ? 97 + vocab_draw(3)
			: 256 + vocab_draw(n_joined);
		snprintf(left, sizeof(left), "%s", vocab.texts[id]);
		snprintf(right, sizeof(right), "%s", vocab.texts[97 + vocab_draw(3)]);
		snprintf(both, sizeof(both), "%s%s", left, right);
		if (strlen(both) <= 12 && !vocab_has(both)) {
			vocab_add_merge(left, right);
		}
	}
	for (size_t i = vocab.n_merges; i > 1; i--) {
		char kept[sizeof(vocab.merges[0])];
		const size_t other = vocab_draw((uint32_t)i);
		memcpy(kept, vocab.merges[i - 1], sizeof(kept));
		memcpy(vocab.merges[i - 1], vocab.merges[other], sizeof(kept));
		memcpy(vocab.merges[other], kept, sizeof(kept));
	}
}

Test(bpe, equals_the_plain_algorithm) {
	for (int round = 0; round < 20; round++) {
		vocab_begin("gpt2", "gpt2");
		vocab_add_bytes();
		add_random_merges(40);
		struct tokenizer *t = vocab_end();
		for (int i = 0; i < 20; i++) {
			char text[64], pieces[64][32];
			const size_t n = 1 + vocab_draw(sizeof(text) - 1);
			for (size_t k = 0; k < n; k++) {
				text[k] = (char)('a' + vocab_draw(3));
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

Test(bpe, any_bytes_come_back) {
	vocab_begin("gpt2", "qwen2");
	vocab_add_bytes();
	vocab_add_merge("t", "h");
	vocab_add_merge("\xC4\xA0", "th"); /* a space and "th" */
	vocab_add_merge("\xC3\xA3", "\xC4\xA3"); /* bytes E3 and 81 */
	struct tokenizer *t = vocab_end();
	static const char mixed[] = " the \0 th\xE3\x81\x82\xE3\x81\xFF\xC0\xAF";
	vocab_round_trip(t, mixed, sizeof(mixed) - 1);
	for (int round = 0; round < 300; round++) {
		uint8_t text[64];
		const size_t n = vocab_draw(sizeof(text));
		for (size_t i = 0; i < n; i++) {
			text[i] = (uint8_t)vocab_draw(256);
		}
		vocab_round_trip(t, text, n);
	}
	cr_assert_str_eq(vocab_ids(t, " the", 0), "257 101");
	tokenizer_destroy(t);
}

Test(bpe, a_missing_byte_keeps_its_neighbours_apart) {
	vocab_begin("gpt2", "gpt2");
	vocab_add("a", VOCAB_NORMAL);
	vocab_add("b", VOCAB_NORMAL);
	vocab_add_merge("a", "b");
	struct tokenizer *t = vocab_end();
	cr_assert_str_eq(vocab_ids(t, "ab", 0), "2");
	cr_assert_str_eq(vocab_ids(t, "axb", 0), "0 1");
	cr_assert_str_eq(vocab_ids(t, "xxx x", 0), "");
	cr_assert_eq(vocab_lost(t, "ab"), 0);
	cr_assert_eq(vocab_lost(t, "axb"), 1);
	cr_assert_eq(vocab_lost(t, "xxx x"), 5);
	tokenizer_destroy(t);
}

Test(bpe, llama3_words_skip_the_merges) {
	vocab_begin("gpt2", "llama-bpe");
	vocab_add_bytes();
	vocab_add_merge("a", "b");
	vocab_add("abc", VOCAB_NORMAL); /* 257, which no merge makes */
	struct tokenizer *t = vocab_end();
	cr_assert_str_eq(vocab_ids(t, "abc", 0), "257");
	cr_assert_str_eq(vocab_ids(t, "abcd", 0), "256 99 100");
	tokenizer_destroy(t);
	vocab_begin("gpt2", "qwen2");
	vocab_add_bytes();
	vocab_add_merge("a", "b");
	vocab_add("abc", VOCAB_NORMAL);
	t = vocab_end();
	cr_assert_str_eq(vocab_ids(t, "abc", 0), "256 99");
	tokenizer_destroy(t);
}

Test(bpe, of_equal_merges_the_first_counts) {
	vocab_begin("gpt2", "gpt2");
	vocab_add_bytes();
	vocab_add_merge("a", "b");
	vocab_add_merge("b", "c");
	snprintf(vocab.merges[vocab.n_merges++], sizeof(vocab.merges[0]), "a b");
	struct tokenizer *t = vocab_end();
	cr_assert_str_eq(vocab_ids(t, "abc", 0), "256 99");
	tokenizer_destroy(t);
}

/* 1 MB in one word. The limit, of this process's time, is far from what it takes (0.2 s) and from
 * what n * n would. */
static void encode_megabyte(const struct tokenizer *t, const char *unit) {
	enum { N = 1000000 };
	const size_t bytes = strlen(unit);
	char *text = malloc(N);
	for (size_t i = 0; i < N; i++) {
		text[i] = unit[i % bytes];
	}
	const clock_t start = clock();
	struct bb_tokens ids = vocab_encode(t, text, N, VOCAB_PARSE);
	cr_assert_lt(clock() - start, 5 * CLOCKS_PER_SEC);
	struct bb_text back = vocab_bytes(t, &ids);
	cr_assert(back.bytes == N && memcmp(back.data, text, N) == 0);
	bb_text_finish(&back);
	bb_tokens_finish(&ids);
	free(text);
}

Test(bpe, a_megabyte_of_anything_takes_linear_time) {
	vocab_begin("gpt2", "qwen2");
	vocab_add_bytes();
	add_random_merges(60);
	for (int i = 2; i < 24; i++) {
		char run[32] = "";
		for (int k = 0; k < i; k++) {
			strcat(run, k % 2 == 0 ? "<" : "\n");
		}
		vocab_add(run, VOCAB_USER_DEFINED);
	}
	struct tokenizer *t = vocab_end();
	static const char *const units[] = { "a", "abcabac", " ", "\n", " \n", "'", "\xFF", "<\n",
		"1" };
	for (size_t i = 0; i < COUNT(units); i++) {
		encode_megabyte(t, units[i]);
	}
	tokenizer_destroy(t);
}

/* ---- added tokens ---- */

static struct tokenizer *with_added(const char *pre) {
	vocab_begin("gpt2", pre);
	vocab_add_bytes();
	vocab_add("<|end|>", VOCAB_CONTROL);        /* 256 */
	vocab_add("<|end|>more", VOCAB_CONTROL);    /* 257 */
	vocab_add("<tool>", VOCAB_USER_DEFINED);    /* 258 */
	vocab_add("<unk>", VOCAB_UNKNOWN);          /* 259 */
	return vocab_end();
}

Test(added, control_tokens_only_where_asked) {
	struct tokenizer *t = with_added("gpt2");
	cr_assert_str_eq(vocab_ids(t, "a<|end|>b", VOCAB_PARSE), "97 256 98");
	cr_assert_str_eq(vocab_ids(t, "<|end|>", 0), "60 124 101 110 100 124 62");
	cr_assert_str_eq(vocab_ids(t, "<unk>", VOCAB_PARSE), "259");
	cr_assert_str_eq(vocab_ids(t, "<unk>", 0), "60 117 110 107 62");
	tokenizer_destroy(t);
}

Test(added, user_defined_tokens_always) {
	struct tokenizer *t = with_added("gpt2");
	cr_assert_str_eq(vocab_ids(t, "<tool><tool>x", 0), "258 258 120");
	cr_assert_str_eq(vocab_ids(t, "<tool", 0), "60 116 111 111 108");
	tokenizer_destroy(t);
}

Test(added, the_longest_wins) {
	struct tokenizer *t = with_added("gpt2");
	cr_assert_str_eq(vocab_ids(t, "<|end|>more<|end|>mor", VOCAB_PARSE), "257 256 109 111 114");
	tokenizer_destroy(t);
	vocab_begin("gpt2", "gpt2");
	vocab_add_bytes();
	vocab_add("ab", VOCAB_CONTROL);
	vocab_add("bcd", VOCAB_CONTROL);
	t = vocab_end();
	/* wherever it starts */
	cr_assert_str_eq(vocab_ids(t, "abcd ab", VOCAB_PARSE), "97 257 32 256");
	tokenizer_destroy(t);
}

/* Every length from the longest, every place from the left, wherever nothing was taken yet. */
static void mark_slowly(const char *text, size_t n, uint8_t *mark) {
	memset(mark, 0, n);
	for (size_t bytes = 16; bytes > 0; bytes--) {
		for (size_t at = 0; at + bytes <= n; at++) {
			for (size_t i = 256; i < vocab.n_texts; i++) {
				if (strlen(vocab.texts[i]) == bytes && memcmp(vocab.texts[i], text + at, bytes) == 0
					&& memchr(mark + at, 1, bytes) == NULL && memchr(mark + at, 2, bytes) == NULL) {
					memset(mark + at, 1, bytes);
					mark[at] = 2;
				}
			}
		}
	}
}

Test(added, equals_the_plain_algorithm) {
	for (int round = 0; round < 40; round++) {
		vocab_begin("gpt2", "gpt2");
		vocab_add_bytes();
		for (int i = 0; i < 12; i++) {
			char text[16] = "";
			const uint32_t bytes = 2 + vocab_draw(6);
			for (uint32_t k = 0; k < bytes; k++) {
				text[k] = (char)('a' + vocab_draw(2));
			}
			if (!vocab_has(text)) {
				vocab_add(text, VOCAB_CONTROL);
			}
		}
		struct tokenizer *t = vocab_end();
		for (int i = 0; i < 20; i++) {
			char text[48];
			uint8_t want[48], *got;
			for (size_t k = 0; k < sizeof(text); k++) {
				text[k] = (char)('a' + (vocab_draw(9) == 0 ? 2 : vocab_draw(2)));
			}
			mark_slowly(text, sizeof(text), want);
			cr_assert(special_mark(t, text, sizeof(text), true, &got, NULL));
			cr_assert(got != NULL && memcmp(got, want, sizeof(text)) == 0);
			base_free(got);
		}
		tokenizer_destroy(t);
	}
}

Test(added, bos_and_eos_as_the_file_says) {
	static const struct {
		const char *pre;
		int add_bos, add_eos; /* -1: absent */
		const char *want;
	} cases[] = {
		{ "qwen2", -1, -1, "120" }, { "qwen2", 1, -1, "256 120" },
		{ "llama-bpe", -1, -1, "256 120" }, { "llama-bpe", 0, -1, "120" },
		{ "smollm", 0, 1, "120 257" }, { "gpt-2", 1, 1, "256 120 257" },
	};
	for (size_t i = 0; i < COUNT(cases); i++) {
		vocab_begin("gpt2", cases[i].pre);
		vocab_add_bytes();
		gguf_builder_int(&vocab.gguf, "tokenizer.ggml.bos_token_id", GGUF_U32,
			vocab_add("<s>", VOCAB_CONTROL));
		gguf_builder_int(&vocab.gguf, "tokenizer.ggml.eos_token_id", GGUF_U32,
			vocab_add("<e>", VOCAB_CONTROL));
		if (cases[i].add_bos >= 0) {
			gguf_builder_bool(&vocab.gguf, "tokenizer.ggml.add_bos_token", cases[i].add_bos != 0);
		}
		if (cases[i].add_eos >= 0) {
			gguf_builder_bool(&vocab.gguf, "tokenizer.ggml.add_eos_token", cases[i].add_eos != 0);
		}
		struct tokenizer *t = vocab_end();
		cr_assert_str_eq(vocab_ids(t, "x", VOCAB_ADD), cases[i].want);
		cr_assert_str_eq(vocab_ids(t, "x", 0), "120");
		cr_assert_eq(tokenizer_bos(t), 256);
		cr_assert_eq(tokenizer_eos(t), 257);
		cr_assert_eq(tokenizer_adds_bos(t), strncmp(cases[i].want, "256", 3) == 0);
		tokenizer_destroy(t);
	}
}

Test(added, ends_of_generation) {
	vocab_begin("gpt2", "gpt2");
	vocab_add_bytes();
	const int im_end = vocab_add("<|im_end|>", VOCAB_CONTROL);
	const int other = vocab_add("<other>", VOCAB_CONTROL);
	const int user = vocab_add("<|eot_id|>", VOCAB_USER_DEFINED);
	const int tag = vocab_add("</s>", VOCAB_USER_DEFINED);
	const int eom = vocab_add("<done>", VOCAB_CONTROL);
	gguf_builder_int(&vocab.gguf, "tokenizer.ggml.eom_token_id", GGUF_U32, eom);
	struct tokenizer *t = vocab_end();
	cr_assert(tokenizer_is_eog(t, im_end) && tokenizer_is_eog(t, eom) && tokenizer_is_eog(t, user));
	cr_assert_not(tokenizer_is_eog(t, other) || tokenizer_is_eog(t, tag));
	cr_assert_not(tokenizer_is_eog(t, 97) || tokenizer_is_eog(t, -1));
	cr_assert_eq(tokenizer_eos(t), -1);
	/* a text from outside must not end a turn */
	cr_assert_str_eq(vocab_ids(t, "<|eot_id|>", 0), "60 124 101 111 116 95 105 100 124 62");
	cr_assert_str_eq(vocab_ids(t, "<|eot_id|>", VOCAB_PARSE), "258");
	tokenizer_destroy(t);
}

Test(added, harmony_messages_go_on) {
	vocab_begin("gpt2", "gpt2");
	vocab_add_bytes();
	const int end = vocab_add("<|end|>", VOCAB_CONTROL);
	const int done = vocab_add("<|return|>", VOCAB_CONTROL);
	vocab_add("<|call|>", VOCAB_CONTROL);
	gguf_builder_int(&vocab.gguf, "tokenizer.ggml.eos_token_id", GGUF_U32, done);
	struct tokenizer *t = vocab_end();
	cr_assert(tokenizer_is_eog(t, done) && tokenizer_is_eog(t, done + 1));
	cr_assert_not(tokenizer_is_eog(t, end));
	tokenizer_destroy(t);
}
