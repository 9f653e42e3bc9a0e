/* SPDX-License-Identifier: Apache-2.0
 *
 * Inside of the tokenizers: the vocabulary that the algorithms share. Pieces are kept as the bytes
 * they stand for (byte symbols decoded, U+2581 turned to a space), once, for both directions. */
#ifndef VOCAB_H
#define VOCAB_H

#include "token.h"

enum vocab_kind { VOCAB_BPE, VOCAB_SPM, VOCAB_WORLD, VOCAB_IDS };

enum vocab_type { /* as numbered in tokenizer.ggml.token_type */
	VOCAB_UNDEFINED, VOCAB_NORMAL, VOCAB_UNKNOWN, VOCAB_CONTROL, VOCAB_USER_DEFINED, VOCAB_UNUSED,
	VOCAB_BYTE,
};

/* Open addressing; a slot is the upper half of the hash << 32 | id + 1, zero when free. */
struct piece_map {
	uint64_t *slots; /* [mask + 1] */
	size_t mask;
};

struct merge_slot {
	uint64_t pair; /* left + 1 << 32 | right + 1; zero when free */
	uint32_t rank;
	int32_t id; /* of the two joined */
};

struct merge_map {
	struct merge_slot *slots; /* [mask + 1] */
	size_t mask;
	int shift; /* what leaves the index of the first slot from a hash */
	uint64_t secret;
};

/* A trie over tokens' texts, its edges hashed: node << 8 | byte in the upper half of a slot, the
 * child in the lower; zero when free (node 0 is the root, nobody's child). */
struct trie {
	uint64_t *edges; /* [mask + 1] */
	size_t mask;
	int shift; /* as in merge_map */
	uint64_t secret;
	int32_t *token;  /* [n_nodes] the id whose text ends there, or -1 */
	uint32_t n_nodes;
	uint8_t starts[256];        /* does any text start with this byte */
	uint8_t pairs[65536 / 8];   /* bit first << 8 | second: may a text start so */
};

struct pretoken;

enum { MAX_EOG = 64 };

struct tokenizer {
	enum vocab_kind kind;
	uint64_t secret; /* random, so that no file can choose texts that collide */
	const char *model;
	const char *pre; /* "" unless BPE */
	int32_t n_vocab;
	char *text;      /* [start[n_vocab]] the pieces, one after the other */
	uint32_t *start; /* [n_vocab + 1] */
	uint8_t *type;   /* [n_vocab] enum vocab_type */
	float *score;    /* [n_vocab] SPM only */
	int32_t byte_id[256]; /* token of a single byte, or -1 */
	int32_t bos, eos, unknown; /* -1: none */
	bool add_bos, add_eos, add_space_prefix;
	int32_t eog[MAX_EOG]; /* [n_eog] */
	int n_eog;
	struct piece_map pieces;
	struct merge_map merges;
	struct trie special; /* added tokens */
	struct trie words;   /* World only: all others that a text can turn into */
	struct pretoken *pretoken; /* BPE only */
	/* SPM: may any piece hold these two bytes on the two sides of a character boundary? Where none
	 * does, no merge crosses, and the text is cut there. Bit last << 8 | first. */
	uint8_t joints[65536 / 8];
};

/* As base_char, but an invalid byte is a character of its own. */
size_t vocab_step(const char *p, size_t bytes);

/* A permutation of the 64-bit numbers whose upper bits are a hash of the key. With a secret of the
 * load no file can bring keys that collide: the upper bits of a product with a random odd number
 * are universal (Dietzfelbinger et al., 1997), the rest scatters keys that follow each other. */
static inline uint64_t vocab_mix(uint64_t key, uint64_t secret) {
	uint64_t h = key * (secret | 1);
	h ^= h >> 32;
	return h * 0x9E3779B97F4A7C15u;
}

/* The ordinary token that stands for these bytes, or -1. Control, unknown and byte tokens are never
 * found: text can't turn into them. */
int32_t vocab_find(const struct tokenizer *t, const char *p, size_t bytes);
struct gguf_string vocab_piece(const struct tokenizer *t, int32_t id);
/* Bytes of a text in GPT-2's byte alphabet into dst[bytes]; -1 when a character isn't in it. */
long vocab_decode_symbols(const char *p, size_t bytes, char *dst);

/* Fills the vocabulary of t from g: pieces, types, scores, map, added tokens, byte tokens. */
bool vocab_load(struct tokenizer *t, const struct gguf *g, struct bb_error *err);
/* The ids with a meaning: BOS, EOS, unknown, the end-of-generation set, and the flags. */
bool vocab_load_roles(struct tokenizer *t, const struct gguf *g, struct bb_error *err);
void vocab_finish(struct tokenizer *t);

/* ---- tries ---- */

/* Room for texts of `bytes` together; `what` they are, for errors. */
bool trie_create(struct trie *s, size_t bytes, uint64_t secret, const char *what,
	struct bb_error *err);
/* A text of at least one byte that isn't there yet. */
bool trie_insert(struct trie *s, const struct gguf_string *text, int32_t id,
	struct bb_error *err);
/* 0: none. */
uint32_t trie_child(const struct trie *s, uint32_t node, uint8_t byte);
/* The token whose text is exactly p[bytes], or -1. */
int32_t trie_find(const struct trie *s, const char *p, size_t bytes);
void trie_finish(struct trie *s);

/* ---- added tokens in the text ---- */

bool special_build(struct tokenizer *t, const struct gguf_kv *tokens, struct bb_error *err);
/* Marks where added tokens stand in text[bytes]: (*mark)[i] is 2 at the first byte of one, 1 in the
 * rest of it, 0 in ordinary text. NULL when there is none. The longest token wins wherever tokens
 * overlap, then the leftmost. Freed by the caller with base_free. */
bool special_mark(const struct tokenizer *t, const char *text, size_t bytes, bool parse_special,
	uint8_t **mark, struct bb_error *err);

/* ---- pre-tokenizers ---- */

bool pretoken_create(struct tokenizer *t, struct gguf_string name, struct bb_error *err);
void pretoken_destroy(struct pretoken *p);
/* Does a word that is a token as a whole skip the merges (llama3)? Is BOS added by default? */
bool pretoken_ignores_merges(const struct pretoken *p);
bool pretoken_adds_bos(const struct pretoken *p);

/* ---- the algorithms ---- */

struct merge_work;
bool bpe_load(struct tokenizer *t, const struct gguf *g, struct bb_error *err);
bool bpe_encode(const struct tokenizer *t, const char *text, size_t bytes, struct merge_work *w,
	struct bb_tokens *out, struct bb_error *err);
void spm_load(struct tokenizer *t);
/* Refuses tokens of more than WORLD_MAX bytes, which bound how far a text is looked ahead. */
enum { WORLD_MAX = 1024 };
bool world_load(struct tokenizer *t, struct bb_error *err);
bool world_encode(const struct tokenizer *t, const char *text, size_t bytes, struct bb_tokens *out,
	struct bb_error *err);
/* What a GGUF file's text of a token stands for, into dst[bytes]; -1: its escapes are none. */
long world_unescape(const char *p, size_t bytes, char *dst);
bool spm_encode(const struct tokenizer *t, const char *text, size_t bytes, bool prefix_space,
	struct merge_work *w, struct bb_tokens *out, struct bb_error *err);

#endif
