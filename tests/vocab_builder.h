/* SPDX-License-Identifier: Apache-2.0
 *
 * Small vocabularies for the tests of the tokenizers, written as GGUF files in memory and read
 * back, and ids and bytes in a form that reads well in an assertion. One at a time. */
#ifndef VOCAB_BUILDER_H
#define VOCAB_BUILDER_H

#include "gguf_builder.h"
#include "vocab.h"

enum { VOCAB_PARSE = 1, VOCAB_ADD = 2 }; /* parse_special, add_special */
enum { VOCAB_MAX = 4096 };

struct vocab_builder {
	struct gguf_builder gguf; /* for keys of the test's own */
	char texts[VOCAB_MAX][32], merges[VOCAB_MAX][40];
	int32_t types[VOCAB_MAX];
	float scores[VOCAB_MAX];
	size_t n_texts, n_merges;
};
extern struct vocab_builder vocab;

/* Starts over; pre may be NULL. */
void vocab_begin(const char *model, const char *pre);
/* A token; returns its id. The first is 0. */
int vocab_add(const char *text, enum vocab_type type);
int vocab_add_scored(const char *text, float score);
/* The character of GPT-2's alphabet that stands for a byte, and 256 tokens of them in order. */
const char *vocab_symbol(int byte);
void vocab_add_bytes(void);
/* Both in GPT-2's alphabet; the joined piece becomes a token. Returns its id. */
int vocab_add_merge(const char *left, const char *right);
/* Tokens <0x00> to <0xFF>; returns the first id. */
int vocab_add_byte_tokens(void);
bool vocab_has(const char *text);
/* Writes the arrays of tokens, merges, types and scores. */
void vocab_put(void);
/* Creates from what was put; vocab_end also puts. An error fails the test. */
struct tokenizer *vocab_create(void);
struct tokenizer *vocab_end(void);
bool vocab_try(struct tokenizer **t, struct bb_error *err);

/* The ids as "1 2 3", in a static buffer. */
const char *vocab_print(const struct bb_tokens *ids);
const char *vocab_ids(const struct tokenizer *t, const char *text, int how);
/* Bytes of text that have no token. */
size_t vocab_lost(const struct tokenizer *t, const char *text);
struct bb_tokens vocab_encode(const struct tokenizer *t, const void *text, size_t bytes, int how);
/* All pieces one after the other. */
struct bb_text vocab_bytes(const struct tokenizer *t, const struct bb_tokens *ids);
void vocab_round_trip(const struct tokenizer *t, const void *text, size_t bytes);
/* A number from 0 to below - 1; the same in every run. */
uint32_t vocab_draw(uint32_t below);

#endif
