/* SPDX-License-Identifier: Apache-2.0
 *
 * Tokenizers: text <-> token ids, from a GGUF file's vocabulary. Byte-level BPE (model "gpt2" in
 * tokenizer.ggml.model), SentencePiece with byte fallback ("llama"), RWKV's World, which takes the
 * longest token each time ("rwkv"), and "no_vocab", where text means ids. */
#ifndef TOKEN_H
#define TOKEN_H

#include "gguf.h"

struct tokenizer; /* opaque; immutable once created, so any thread may use it */

/* *out owns copies of what it needs; the gguf may be finished afterwards. */
bool tokenizer_create(struct tokenizer **out, const struct gguf *g, struct bb_error *err);
void tokenizer_destroy(struct tokenizer *t);

/* Appends the ids of text[bytes] (any bytes, NULs and invalid UTF-8 included) to *out.
 * add_special: BOS/EOS as the metadata says (add_bos_token, add_eos_token, add_space_prefix of SPM
 * is independent of it). parse_special: control and user-defined tokens are found in the text;
 * without it, only user-defined (normal added) ones, as llama.cpp does. A byte that the vocabulary
 * has no token for (SmolLM2 lacks 21) is left out by BPE, and becomes the unknown token of SPM and
 * World, if there is one. After an error *out is as before. */
bool tokenizer_encode(const struct tokenizer *t, const char *text, size_t bytes, bool add_special,
	bool parse_special, struct bb_tokens *out, struct bb_error *err);
/* The same for a text that goes on behind another one: SPM puts no space before it. Control tokens
 * are found in it. */
bool tokenizer_encode_behind(const struct tokenizer *t, const char *text, size_t bytes,
	struct bb_tokens *out, struct bb_error *err);

/* Raw bytes of one token as they appear in the text: byte tokens decoded, U+2581 turned to a space,
 * control tokens empty unless `special`. Returns a borrowed view valid as long as t lives. */
struct gguf_string tokenizer_piece(const struct tokenizer *t, int32_t id, bool special);

/* Streaming detokenizer: feed ids, get only whole UTF-8 characters. Zeroed = fresh. */
struct token_stream {
	char held[4];     /* an unfinished character */
	uint8_t n_held;
	bool started;     /* SPM: the space that add_space_prefix put in front was dropped. Set it where
	                   * text goes on after a prompt: the space of the first token is real then. */
};
/* Appends to *out what became complete with id. */
bool token_stream_push(struct token_stream *s, const struct tokenizer *t, int32_t id, bool special,
	struct bb_text *out, struct bb_error *err);
/* What is still held (bytes that never became a character), as U+FFFD; resets the stream. */
bool token_stream_flush(struct token_stream *s, struct bb_text *out, struct bb_error *err);

int32_t tokenizer_n_vocab(const struct tokenizer *t);
bool tokenizer_is_vocabless(const struct tokenizer *t); /* no_vocab: text is ids in decimal */
int32_t tokenizer_bos(const struct tokenizer *t);  /* -1: none */
int32_t tokenizer_eos(const struct tokenizer *t);  /* -1: none */
bool tokenizer_adds_bos(const struct tokenizer *t);
bool tokenizer_is_control(const struct tokenizer *t, int32_t id);
/* Does generation end at id: EOS, EOT, EOM of the metadata and the known end-of-turn texts
 * (<|im_end|>, <end_of_turn>, <|eot_id|>, <|endoftext|>, …) among control tokens. */
bool tokenizer_is_eog(const struct tokenizer *t, int32_t id);
const char *tokenizer_model_name(const struct tokenizer *t); /* "gpt2", "rwkv", "no_vocab", … */
const char *tokenizer_pre_name(const struct tokenizer *t);   /* "smollm", "qwen2", …; "" for SPM */

#endif
