/* SPDX-License-Identifier: Apache-2.0
 *
 * bobbin: an inference engine for long-context reasoning. This header is the whole public API;
 * it includes bobbin_effort.h, for how much thought a request gets, and bobbin_taps.h, for looking
 * inside.
 *
 *   engine    a loaded model and the device it runs on; immutable after opening
 *   context   one timeline of tokens with the state every layer keeps for it
 *   step      one forward pass over new tokens of any number of contexts
 *   sampler   turns logits into tokens, reproducibly
 *   request   a prompt and what follows it, run beside others by a scheduler
 *
 * Rules. Functions that can fail because of the world (files, memory, requests) return bool and
 * fill *err, which is zeroed before, with one sentence: an error that it holds already is kept.
 * Breaking a documented precondition is an assert. Pointers are
 * borrowed unless the name says `take`. Arrays are row-major, outermost dimension first. One thread
 * at a time may use an engine. The same request gives the same bits: the logits of a context depend
 * only on its tokens, never on what shares the step, how a prompt was cut into steps, the number of
 * threads, or forks and rewinds on the way. (But for what is asked for by `gemm`
 * "fast" and checkpoints of int8.) */
#ifndef BOBBIN_H
#define BOBBIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#ifdef __cplusplus
extern "C" {
#endif

#define BB_VERSION "0.1.0"

enum bb_code {
	BB_OK = 0,
	BB_ERR_USAGE,     /* an option or argument out of range */
	BB_ERR_IO,        /* a file could not be opened, read or written */
	BB_ERR_FORMAT,    /* a file is not what it claims to be */
	BB_ERR_UNSUPPORTED, /* well-formed, but not something this build runs */
	BB_ERR_MEMORY,    /* an allocation or a limit on bytes */
	BB_ERR_CONTEXT,   /* the context is full, or the position is out of its range */
	BB_ERR_TEMPLATE,  /* a chat template is wrong, or raised */
	BB_ERR_INPUT,     /* text, JSON, token ids or edits that can't be used */
	BB_ERR_CANCELLED, /* the caller's progress callback said stop */
	BB_ERR_DEVICE,    /* a GPU's driver or a launch failed; what it held can't be trusted */
	BB_ERR_BUSY,      /* the queue is full: the same request may be taken later */
};

struct bb_error {
	enum bb_code code;
	char text[512]; /* one sentence, no newline */
};

/* ---- engine ---- */

struct bb_engine;
struct bb_model; /* an architecture: one file in models/ */

/* Every architecture of this build, NULL-terminated; defined by the models library. */
extern const struct bb_model *const bb_models[];

/* As state_cache_bytes: no checkpoints. */
#define BB_STATE_CACHE_NONE ((size_t)-1)
/* As max_swap_bytes: nothing is copied away. */
#define BB_SWAP_NONE ((size_t)-1)

enum bb_kv_type { BB_KV_AUTO, BB_KV_F32, BB_KV_F16, BB_KV_BF16, BB_KV_INT8 };
/* "f16", "int8", … and the aliases float16, bfloat16, q8_0; false for an unknown name. */
bool bb_kv_type_parse(const char *name, enum bb_kv_type *out);
const char *bb_kv_type_name(enum bb_kv_type type);

/* Called while weights load and while a long prompt is read: done of total, in units of work.
 * Return false to stop (the call in progress fails with BB_ERR_CANCELLED). */
typedef bool bb_progress_fn(void *user, const char *what, double done, double total);

struct bb_engine_params { /* zeroed = defaults */
	const char *path;          /* a GGUF file or a Hugging Face folder */
	const char *device;        /* NULL or "cpu"; "cuda", "simt"; "auto": a GPU where there is one */
	const char *isa;           /* NULL = the best this machine has; see bb_isa_names */
	/* NULL or "exact": the same bits however work is batched. "fast": a GPU multiplies steps of 64
	 * rows and more through cuBLASLt, with weights and activations rounded to bf16, which gives up
	 * that promise: bits then depend on how a prompt is cut and on what shares its step. Changes
	 * nothing on the CPU. "wgmma", on trial: a GPU of compute capability 9.0 multiplies the same
	 * steps with 16-bit weights by Hopper's own instructions. Whether that keeps the promise no GPU
	 * has shown yet. It is refused elsewhere. */
	const char *gemm;
	int n_threads;             /* 0 = one per CPU that the process may run on */
	enum bb_kv_type kv_type;   /* of new contexts; AUTO = f16 */
	int max_model_len;         /* tokens per context; 0 = the model's own number */
	int window;                /* attend to the last N tokens only; 0 = as the model says */
	int max_batch_tokens;      /* rows per step that memory is planned for; 0 = 512, on a GPU
	                            * with many processors up to 2048 */
	size_t max_kv_bytes;       /* limit on pages of all contexts, and for requests on them and the
	                            * states of their recurrent layers; 0 = no limit of our own */
	size_t state_cache_bytes;  /* of checkpoints of all contexts, for models with recurrent layers;
	                            * 0 = 1 GiB, BB_STATE_CACHE_NONE = none */
	/* AUTO or F32: checkpoints are the states as they were. INT8, down to 0.3 of the bytes: the
	 * matrices among them are rounded, each 32 floats to 127 steps up to their largest. What goes
	 * on behind a rewind that used one then has other bits than without. */
	enum bb_kv_type state_cache_type;
	size_t max_device_bytes;   /* memory that a GPU may give; 0 = nine tenths of what is free */
	bool vocab_only;           /* tokenizer, template and metadata only: no weights, no steps */
	bool inspect_only;         /* checks and plans, but does not pack weights: no steps */
	/* bb_taps_attach will be used: a device computes each op by itself, launch by launch, so that
	 * its output can be looked at. Slower there, with the same bits; changes nothing on the CPU. */
	bool taps;
	bb_progress_fn *progress;
	void *progress_user;
};

bool bb_engine_open(struct bb_engine **out, const struct bb_model *const *models,
	const struct bb_engine_params *params, struct bb_error *err);
void bb_engine_destroy(struct bb_engine *e);
/* max_kv_bytes for who knows it only when the weights are there; before the first context. */
void bb_engine_limit_kv(struct bb_engine *e, size_t max_kv_bytes);

struct bb_engine_info {
	const char *arch;            /* "llama" */
	const char *name;            /* general.name, or the file's stem, or the folder's name */
	const char *weight_type;     /* the type that holds most weights: "Q4_1" */
	const char *isa;             /* ISA level in use: "avx512_bf16" */
	const char *device;          /* where steps are computed: "cpu", "cuda", "simt" */
	const char *device_name;     /* "NVIDIA H100 80GB HBM3"; the CPU's name on "cpu" */
	const char *gemm;            /* "exact", or "fast" where a device does it, or "wgmma" */
	const char *why_no_gpu;      /* why "auto" passed a GPU over that is there, or "" */
	const char *cpu;             /* what the CPU calls itself: "AMD EPYC 9R14" */
	const char *kv_type;         /* of new contexts */
	const char *tokenizer;       /* "gpt2", "llama", "no_vocab" */
	int n_threads, n_layers, n_vocab, n_embd;
	int trained_len;             /* context length of the model's metadata */
	int max_len;                 /* of new contexts in this engine */
	int max_batch_tokens;
	int64_t n_params;
	size_t file_bytes;           /* of all tensors in the file */
	size_t weight_bytes;         /* packed weights in memory */
	size_t step_weight_bytes;    /* weight bytes that one decoded token reads */
	size_t kv_bytes_per_token;   /* KV bytes that one more token of a full-attention context adds */
	size_t activation_bytes;     /* planned once, at load */
	size_t state_bytes;          /* that recurrent layers remember of a context */
	int max_checkpoints;         /* states that the state cache holds */
};
void bb_engine_info(const struct bb_engine *e, struct bb_engine_info *info);
struct bb_engine_stats { /* since opening */
	uint64_t n_steps, n_rows; /* rows: tokens computed, those computed again included */
	/* What steps read, each thing once a step though it serves many rows: weights (of experts as
	 * many as the rows may have chosen); keys and values that attention sees, those that contexts
	 * share and it reads for all of them together once; states of recurrent layers. */
	uint64_t weight_bytes, kv_bytes, state_bytes;
	uint64_t copied_bytes;    /* of pages copied because a fork went on in a partly filled one */
	double flops;             /* see bb_engine_flops */
};
void bb_engine_stats(const struct bb_engine *e, struct bb_engine_stats *stats);
/* Operations of computing tokens first to first + n_tokens - 1 of a context, with logits behind the
 * last one: 2 for each weight that a token is multiplied with, of a mixture those of the experts
 * that it uses; 4 a channel of each head for each key that it sees; what recurrent layers do to
 * their states. What is done to single elements isn't counted. */
double bb_engine_flops(const struct bb_engine *e, int first, int n_tokens);
/* KV bytes that attention reads for one token decoded at depth n (windows considered). */
size_t bb_engine_kv_read_bytes(const struct bb_engine *e, int n_tokens);
/* What `bobbin inspect` prints: metadata, tensors, layers with their op lists, memory plan. */
bool bb_engine_inspect(const struct bb_engine *e, FILE *out, bool as_json, struct bb_error *err);

/* Bytes per second that the engine's threads read from a buffer of `bytes` (best of several
 * passes), or that its device moves when it copies as much, for "% of the measured bandwidth". 0
 * when the buffer can't be had, and on the emulator. */
double bb_engine_read_bandwidth(const struct bb_engine *e, size_t bytes);
/* ISA levels, lowest first, NULL-terminated; and whether this CPU runs one. */
const char *const *bb_isa_names(void);
bool bb_isa_is_available(const char *name);
/* The kernel table: every variant, what it needs, which one wins on this machine under `isa`. */
bool bb_kernels_print(FILE *out, const char *isa, bool as_json, struct bb_error *err);

/* ---- text ---- */

struct bb_tokens { /* growable; zeroed = empty */
	int32_t *ids; /* [n] */
	size_t n, cap;
	size_t n_lost; /* bytes of text that were left out, for the vocabulary has no token for them */
};
void bb_tokens_finish(struct bb_tokens *t);
bool bb_tokens_push(struct bb_tokens *t, int32_t id, struct bb_error *err);

/* Appends the ids of text[bytes] (any bytes at all). With a no_vocab model, and with a
 * folder without a tokenizer that this build reads, the text is decimal ids separated by spaces or
 * commas. */
bool bb_tokenize(const struct bb_engine *e, const char *text, size_t bytes, bool add_special,
	bool parse_special, struct bb_tokens *out, struct bb_error *err);

struct bb_text { /* growable bytes, NUL-terminated when not empty; zeroed = empty */
	char *data;
	size_t bytes, cap;
};
void bb_text_finish(struct bb_text *t);
/* The exact bytes of the ids, control tokens included. */
bool bb_detokenize(const struct bb_engine *e, const int32_t *ids, size_t n, struct bb_text *out,
	struct bb_error *err);

int bb_token_bos(const struct bb_engine *e); /* -1: none */
int bb_token_eos(const struct bb_engine *e); /* -1: none */
bool bb_token_adds_bos(const struct bb_engine *e);
bool bb_token_is_end(const struct bb_engine *e, int32_t id); /* generation stops there */
bool bb_has_vocab(const struct bb_engine *e);
/* What a file without a vocabulary calls a token in its metadata (`bobbin.token_names`, one for
 * each id): [*bytes], not NUL-terminated, borrowed. NULL: it doesn't. */
const char *bb_token_name(const struct bb_engine *e, int32_t id, size_t *bytes);

/* Source of the model's chat template, or NULL. */
const char *bb_chat_template(const struct bb_engine *e);
/* Renders a chat template with a JSON object of variables: messages, tools, add_generation_prompt
 * and any others. template_source NULL = the model's; e may be NULL when it is given. bos_token and
 * eos_token come from the model unless given. */
bool bb_template_render(const struct bb_engine *e, const char *template_source,
	const char *vars_json, size_t vars_bytes, struct bb_text *out, struct bb_error *err);

/* ---- vectors ---- */

/* Rows that stand where tokens would: each gets an id below -1, which goes into lists of tokens and
 * into timelines as ids of the vocabulary do. Steps, prompts of generations and requests, forks,
 * rewinds, snapshots and the prefix cache take both, mixed at will. Rows of the same bytes have the
 * same id, so they are found in the cache as equal tokens are. Penalties pass over them. */
struct bb_vectors;
/* rows [n, n_embd], n >= 1, are copied. They are what a model's embedding gives for a token, in
 * Hugging Face's words what get_input_embeddings() returns: where the architecture goes on to
 * multiply that (Granite, Falcon-H1, RecurrentGemma), the engine does so with vectors; Gemma 3's
 * embedding has its factor in it. The row of a token's embedding gives the bits that the token
 * gives. BB_ERR_INPUT for numbers that aren't finite, or whose squares, so multiplied, have no
 * finite sum in f32; BB_ERR_MEMORY. Must be destroyed before the engine, which has to be able to
 * compute; unlike the rest, may be made and destroyed on any thread. */
bool bb_vectors_create(struct bb_vectors **out, struct bb_engine *e, const float *rows, int n,
	struct bb_error *err);
/* Requests that were submitted and contexts that have them keep what they need. */
void bb_vectors_destroy(struct bb_vectors *v);
int bb_vectors_count(const struct bb_vectors *v);
const int32_t *bb_vectors_ids(const struct bb_vectors *v); /* [n] */

/* ---- contexts ---- */

struct bb_context;

struct bb_context_params { /* zeroed = the engine's settings */
	enum bb_kv_type kv_type;
	int max_len;
};
bool bb_context_create(struct bb_context **out, struct bb_engine *e,
	const struct bb_context_params *params, struct bb_error *err);
void bb_context_destroy(struct bb_context *c);
/* A second context with the same timeline. Copies nothing but one address per 4096 tokens: what
 * both hold is shared until one side goes on. Then it copies its token ids and what it knows of
 * segments (unless it is the first to go on), the addresses of about 64 pages and, of the keys and
 * values, a partly filled last page. Room that c had reserved is given back. */
bool bb_context_fork(struct bb_context **out, struct bb_context *c, struct bb_error *err);
/* Forgets every token from index n_tokens on, with the segments that begin there or later, and
 * gives back reserved room. Where layers are recurrent the state behind n_tokens may be gone: then
 * the tokens from the last checkpoint on are computed again, with the same bits (but behind one of
 * int8), and a checkpoint stays there. Checkpoints stand where segments begin and every 512 tokens,
 * as many as the state cache holds; old ones are thinned out first. BB_ERR_CONTEXT when n_tokens is
 * beyond the timeline, or before what a sliding window still holds; BB_ERR_MEMORY is possible where
 * pages on both sides of the cut are shared with a fork, or tokens are computed again. On an error
 * the context is as it was. */
bool bb_context_rewind(struct bb_context *c, int n_tokens, struct bb_error *err);
int bb_context_length(const struct bb_context *c);
/* Makes room for n_tokens (>= 1) more tokens, in pages, their table and the timeline: until they
 * are appended, or a fork or rewind gives the room back, bb_step allocates nothing for them (on a
 * device, and with vectors: but for what bb_step says).
 * Layers with a sliding window get room for all of them too. Not needed for a step, which makes
 * the room that it lacks. BB_ERR_CONTEXT when the context can't hold so many, BB_ERR_MEMORY;
 * then the context is as it was. */
bool bb_context_reserve(struct bb_context *c, int n_tokens, struct bb_error *err);
/* [length], until the next change of c. Below -1: vectors, see there. */
const int32_t *bb_context_tokens(const struct bb_context *c);

/* Writes the whole context to a file: tokens, segments, keys and values, states and checkpoints.
 * Written aside and renamed when it's on the disk: a file of that name is whole, that of before or
 * this one. What stands there and is no regular file, a link too, is refused. BB_ERR_IO,
 * BB_ERR_MEMORY; BB_ERR_DEVICE after a step that failed and left no state. */
bool bb_context_save(struct bb_context *c, const char *path, struct bb_error *err);
/* A context as it was saved, of its KV type, which goes on without computing anything again.
 * *same_bits (may be NULL): whether it goes on with the bits that the saved one would have: the
 * version, the device or ISA level, and `gemm` are as they were there. Of checkpoints as many come
 * back as the state cache holds. BB_ERR_FORMAT for what isn't a snapshot, or is damaged;
 * BB_ERR_UNSUPPORTED for one of another model, told by the names, shapes and parts of the data of
 * its tensors, its hyper-parameters and windows; BB_ERR_CONTEXT where it has more tokens than
 * contexts hold here; BB_ERR_IO, BB_ERR_MEMORY, BB_ERR_DEVICE. Then *out is NULL. */
bool bb_context_load(struct bb_context **out, struct bb_engine *e, const char *path,
	bool *same_bits, struct bb_error *err);

/* A timeline is cut into segments, runs of tokens with one role: a message, or a part of one. */
enum bb_role {
	BB_ROLE_NONE,     /* not said: of tokens before the first segment that was begun */
	BB_ROLE_SYSTEM,
	BB_ROLE_USER,
	BB_ROLE_ASSISTANT,
	BB_ROLE_THINKING, /* the model's, before its answer */
	BB_ROLE_TOOL,     /* what a tool gave back */
};
const char *bb_role_name(enum bb_role role); /* "none", "system", … */
bool bb_role_parse(const char *name, enum bb_role *out); /* false for an unknown name */

struct bb_segment {
	enum bb_role role;
	int first, n_tokens; /* the last segment of a context may have no tokens yet */
};
/* Begins a segment at token `first`: what lies from there on, and what is appended later, belongs
 * to it. At most the length, where the context ends; less marks a prompt that was read in one go,
 * but not before the last segment that was begun. One that begins at the same token is replaced.
 * Takes the room that it needs, so no later step does. BB_ERR_MEMORY; then nothing has changed. */
bool bb_context_begin_segment(struct bb_context *c, int first, enum bb_role role,
	struct bb_error *err);
/* Together they hold every token. */
int bb_context_n_segments(const struct bb_context *c);
struct bb_segment bb_context_segment(const struct bb_context *c, int i);

/* Bytes of pages that this context refers to: shared ones counted whole, reserved ones too. */
size_t bb_context_kv_bytes(const struct bb_context *c);

/* ---- steps ---- */

struct bb_step_item {
	struct bb_context *context; /* at most once per step */
	const int32_t *tokens;      /* [n_tokens], appended to the timeline; ids of vectors too */
	int n_tokens;               /* >= 1 */
	float *logits;              /* NULL, [n_vocab], or [n_tokens, n_vocab] with all_logits */
	bool all_logits;            /* logits after every token instead of the last */
	struct bb_sampler *sampler; /* at most once per step, not with all_logits; NULL: no draw */
	struct bb_sampled *sampled; /* with sampler: the token drawn to follow the last one, which is
	                             * not appended. On a device it's drawn where the logits are */
	float *hidden;              /* NULL, or [n_embd]: what the head is multiplied with behind the
	                             * last token; not with logits or a sampler */
	/* With a sampler, no logits and no taps: so many of the tokens, the last, fewer than n_tokens,
	 * are guesses at what it will draw. They are computed but not appended: bb_step_follow does
	 * that as far as they were right. A step with drafts may allocate. */
	int n_drafts;
};
/* One forward pass over contexts of one KV type. The rows of all items together must not exceed
 * max_batch_tokens. Either every item is appended or, on an error, none is. One error comes later:
 * BB_ERR_FORMAT where a sampler finds logits that aren't finite; then all items are appended, and
 * the `sampled` of those that have no token has id -1. Allocates nothing
 * where bb_context_reserve made room before, wherever the logits go; else only that room, before
 * it computes. With vectors also room for them, and to list them. On a device also room for the
 * list of all pages, and for what samplers list (penalised tokens, biases), where either has
 * outgrown what there is; and what the driver takes to capture a kind of step the first time. */
bool bb_step(struct bb_engine *e, const struct bb_step_item *items, int n_items,
	struct bb_error *err);
/* Where the engine's last step had drafts for c, and the token that was drawn last is the next of
 * them: appends it and draws what follows, with the bits that a step of that one token would give.
 * *follows: whether it did. False, without an error, also where a grammar has no mask for that
 * draw, which the next step will then tell; and where c was changed or forked since. Allocates
 * nothing but what a grammar's mask takes. BB_ERR_FORMAT as bb_step: then the token is appended.
 * BB_ERR_DEVICE. */
bool bb_step_follow(struct bb_context *c, struct bb_sampled *out, bool *follows,
	struct bb_error *err);
/* Appends any number of tokens in steps of max_batch_tokens; logits [n_vocab] of the last, or NULL.
 * On an error the context is rewound to where it was, or to empty when a sliding window no longer
 * holds what that needs. */
bool bb_prefill(struct bb_context *c, const int32_t *tokens, size_t n_tokens, float *logits,
	bb_progress_fn *progress, void *user, struct bb_error *err);

/* ---- grammars ---- */

/* What a text may be: a sampler that has one draws only tokens that fit, and end tokens where the
 * text may end, and nothing but them where it must. Log-probabilities stay those of the model. A
 * token's text has to fit as it is: nothing is generated that another token would correct. */
struct bb_grammar;

enum bb_grammar_kind {
	/* A JSON Schema in JSON: type (one or a list), enum, const, properties, required,
	 * additionalProperties, items, prefixItems, minItems, maxItems, anyOf, oneOf, allOf, $ref to
	 * '#' and '#/...', $defs, minLength, maxLength, pattern, format date, date-time and uuid,
	 * minimum, maximum, exclusiveMinimum and exclusiveMaximum of integers, and what only
	 * describes (title, description, default, examples, ...). Properties come in the order of the
	 * schema, then others. Between two JSON tokens there is at most one space, unless
	 * bb_grammar_create_indented asks for more. allOf is merged; of oneOf no two branches may hold
	 * at once, which must show. Anything else is refused by name, wherever a schema stands. */
	BB_GRAMMAR_JSON_SCHEMA,
	BB_GRAMMAR_JSON_OBJECT, /* any JSON object; the source is not looked at */
	/* The usual syntax, of the whole text; no lookaround, backreferences or word boundaries. */
	BB_GRAMMAR_REGEX,
	BB_GRAMMAR_CHOICE,      /* a JSON array of strings: one of them */
	BB_GRAMMAR_GBNF,        /* llama.cpp's notation, from the rule "root" */
	/* Free text with parts that aren't, in JSON. A part is a text; {"mark": TEXT}, a control token
	 * or its letters; {"regex": TEXT}; {"schema": SCHEMA}; {"seq": [PART...]}; {"any": [PART...]};
	 * {"list": PART, "between": PART, "max": N}, one or more; {"some": [[PART, REQUIRED]...],
	 * "between": PART}; {"until": TEXT}, any text up to the first TEXT, and that; {"without": TEXT
	 * or null}, any text that hasn't got it. With "not_first": PART these don't begin so. */
	BB_GRAMMAR_STRUCTURE,
};
/* source: [bytes] of UTF-8. The first one of an engine sorts its vocabulary; sources that were
 * compiled lately share that, and what was learnt since. BB_ERR_INPUT for a
 * source that isn't of its kind, BB_ERR_UNSUPPORTED for what can't be had, be it a keyword or a
 * size, BB_ERR_MEMORY. Must be destroyed before the engine. Unlike the rest, a grammar may be made
 * and destroyed on any thread. */
bool bb_grammar_create(struct bb_grammar **out, const struct bb_engine *e,
	enum bb_grammar_kind kind, const char *source, size_t bytes, struct bb_error *err);
/* The same of JSON that is indented as Python's json.dumps(indent=n) does it: each element and each
 * property on a line of its own, n spaces more a level (0..BB_MAX_INDENT), one space behind a
 * colon. What is in more than 16 arrays and objects is on one line. */
#define BB_MAX_INDENT 16
bool bb_grammar_create_indented(struct bb_grammar **out, const struct bb_engine *e,
	enum bb_grammar_kind kind, const char *source, size_t bytes, int indent, struct bb_error *err);
void bb_grammar_destroy(struct bb_grammar *g);

/* ---- sampling ---- */

struct bb_logit_bias {
	int32_t id;
	float bias;
};

struct bb_sampling { /* bb_sampling_default fills it */
	/* >= 0. 0, and what is so small that logits / temperature overflows (below about 1e-37), is
	 * greedy: the lowest id wins a tie. */
	float temperature;
	int top_k;                  /* 0 or -1 = all */
	float top_p;                /* (0, 1] */
	float min_p;                /* [0, 1] */
	float repetition_penalty;   /* > 0; 1 = off (CTRL, arXiv:1909.05858), over prompt and output */
	float presence_penalty;     /* [-2, 2], over the output, as the OpenAI API defines it */
	float frequency_penalty;    /* [-2, 2] */
	uint64_t seed;
	const struct bb_logit_bias *logit_bias; /* [n_logit_bias] */
	int n_logit_bias;
	bool ignore_eos;            /* end tokens can't be sampled */
	int n_logprobs;             /* most likely alternatives to report, 0..BB_MAX_LOGPROBS */
	bool wants_confidence;      /* fills confidence and certainty of bb_sampled, 0 without */
	/* What the generated text must be, of the same engine; NULL: anything. Borrowed for the
	 * sampler's life, by any number of samplers at once. */
	const struct bb_grammar *grammar;
};
#define BB_MAX_LOGPROBS 20
/* The defaults of every command: temperature 1, top_p 1, top_k 0, min_p 0, no penalties; then
 * what the model's own metadata recommends (general.sampling.*; a file that recommends what is
 * out of range isn't opened). seed is left 0. */
void bb_sampling_default(const struct bb_engine *e, struct bb_sampling *s);
bool bb_sampling_check(const struct bb_engine *e, const struct bb_sampling *s,
	struct bb_error *err);
/* A seed from the operating system. */
uint64_t bb_random_seed(void);

struct bb_sampled {
	int32_t id;          /* -1: none could be drawn */
	float logprob;       /* of id under the model's unmodified distribution p; finite */
	float confidence;    /* minus the mean log-probability of its 20 likeliest tokens */
	float certainty;     /* KL(uniform || p): minus the mean over all tokens of log p, and log V */
	bool is_forced;      /* written by a policy, not drawn */
	int n_top;
	int32_t top_ids[BB_MAX_LOGPROBS];
	float top_logprobs[BB_MAX_LOGPROBS];
};

/* What draws the tokens of one context, by items of steps. It counts its own draws as output for
 * penalties; what it draws depends on the logits, the seed and where the token will stand. */
struct bb_sampler;
/* BB_ERR_USAGE for what bb_sampling_check refuses, BB_ERR_MEMORY. params is copied. */
bool bb_sampler_create(struct bb_sampler **out, const struct bb_engine *e,
	const struct bb_sampling *params, struct bb_error *err);
void bb_sampler_destroy(struct bb_sampler *s);
/* Tokens that penalties count as prompt: [n], each one of the vocabulary. */
void bb_sampler_prompt(struct bb_sampler *s, const int32_t *ids, size_t n);

/* ---- generation: prompt in, text out, in pieces ---- */

enum bb_finish {
	BB_FINISH_NONE,
	BB_FINISH_STOP,
	BB_FINISH_LENGTH,
	BB_FINISH_CONTEXT,
	BB_FINISH_CANCELLED, /* of requests: bb_request_cancel */
	BB_FINISH_DEADLINE,  /* of requests: their deadline has passed */
	BB_FINISH_DROPPED,   /* of branches: a policy or a control ended it */
};

struct bb_generation_params {
	struct bb_sampling sampling;
	int max_tokens;              /* >= 1, or -1 = to the end of the context */
	const char *const *stop;     /* [n_stop] strings; the text ends before the first one found */
	int n_stop;
	int min_tokens;              /* before so many, end tokens and what stops can't come */
	const int32_t *stop_token_ids; /* [n_stop_token_ids]: each is the last token, and in the text */
	int n_stop_token_ids;
	bool special;                /* show control tokens in the text */
};
/* BB_ERR_USAGE for what is out of range; bb_generation_create refuses it too. */
bool bb_generation_check(const struct bb_engine *e, const struct bb_generation_params *params,
	struct bb_error *err);

struct bb_generation;

/* The context holds the prompt already, except for its last tokens given here (at least one). The
 * first token is drawn with them; BB_ERR_FORMAT when the model's logits aren't finite. */
bool bb_generation_create(struct bb_generation **out, struct bb_context *c,
	const struct bb_generation_params *params, const int32_t *prompt, size_t n_prompt,
	bb_progress_fn *progress, void *user, struct bb_error *err);
void bb_generation_destroy(struct bb_generation *g);
/* Produces one token. *text points to the bytes that became final with it (may be empty; valid
 * until the next call), whole UTF-8 characters only. *finish tells why this was the last one.
 * BB_ERR_FORMAT when the model's logits aren't finite; after BB_ERR_MEMORY the call may be
 * repeated, and gives the token that it would have given. */
bool bb_generation_next(struct bb_generation *g, struct bb_sampled *token, const char **text,
	size_t *bytes, enum bb_finish *finish, struct bb_error *err);
/* What others have to say, behind the token that was given out last, which must have been one and
 * not the end: the next token is drawn behind these ids [n], which penalties count as prompt.
 * BB_ERR_INPUT for an id that the model doesn't have, BB_ERR_CONTEXT where the context hasn't room
 * for them and one token more, BB_ERR_MEMORY; then nothing has changed. */
bool bb_generation_feed(struct bb_generation *g, const int32_t *ids, size_t n,
	struct bb_error *err);

/* A stretch of generated text in which thought is measured. It ends with the token that completes a
 * blank line behind words, or, from 64 tokens on, a line or a sentence; a file may say that each
 * token is a step (`bobbin.cot_step`: "token"). All that is generated is cut so, an answer behind
 * the thinking too. */
struct bb_cot_step {
	int index;           /* 0: the first of the generation */
	int first, n_tokens; /* of the timeline; what was fed in between is not counted */
	double logprob;      /* the sum of its tokens' log-probabilities, in nats */
	/* [bytes], also what a stop string cut off; until the generation's next token. A token that
	 * ends within a character leaves its first bytes for the next step. */
	const char *text;
	size_t bytes;
};
/* What the step that the last token belongs to has so far; true if it ended with it, be it that
 * everything did. */
bool bb_generation_cot_step(const struct bb_generation *g, struct bb_cot_step *step);

/* ---- requests: many generations on one engine ---- */

/* Runs requests beside each other: each step decodes one token of those that have begun and reads
 * pieces of the prompts of others. While it lives it is the one user of its engine, but for
 * functions that take a const engine. Whatever it does (who shares a step, how a prompt is cut,
 * what is put aside for others and brought back, what prompts share) changes no bit of an answer:
 * it's the one that the request gets alone.
 *
 * Who goes first: the lower priority; of one priority those with a deadline that can still be met,
 * least predicted work first; then those without a deadline in the order in which they came; then
 * those whose deadline can't be met. A request may be put aside for one that goes before it. The
 * oldest of the requests without a deadline always has its place in the step, whatever its
 * priority: so each begins, at the latest, when those that came before it are done. Beside it who
 * goes before all others begins in the next step, if memory is left and its n is below max_running:
 * the oldest keeps one place, the memory that it holds there, and, while it reads its prompt, the
 * first 4 of the step's rows for prompts, or half of them where they are fewer than 8. With
 * max_running 1 the oldest of all requests has the one place, whatever its deadline. Of prompts
 * whose logits are wanted (n_prompt_logprobs) one at a time is read, in the same order. */
struct bb_scheduler;
struct bb_speculation; /* bobbin_effort.h */
struct bb_scheduler_params { /* zeroed = defaults */
	int max_running;           /* contexts in a step, n of a request with n; 0 = 64 */
	int max_waiting;           /* requests that haven't begun; 0 = 1024 */
	int max_step_tokens;       /* rows of a step; 0 = the engine's max_batch_tokens */
	size_t max_swap_bytes;     /* of the host's memory, for what is put aside: branches of requests,
	                            * and what the prefix cache has no room for; 0 = 4 GiB,
	                            * BB_SWAP_NONE = none. What has no room is computed again */
	size_t prefix_cache_bytes; /* 0 = half of the engine's max_kv_bytes, or 4 GiB without those, and
	                            * what the state cache may hold */
	bool no_prefix_cache;
	const struct bb_speculation *speculation; /* copied; NULL: its defaults */
	/* Tokens that may be computed in a second, of prompts and answers, computed again and drafted
	 * ones too, or FLOPs of them (see bb_engine_flops); those of one second may be saved up. What
	 * a step was said to take may be less than it takes. 0: as many as there is time for. With one
	 * accounts share places, in any order of priorities, and the budget by their weights: what one
	 * doesn't use the others have, and nobody saves up for later. Within an account the order is
	 * that of bb_scheduler, but that the oldest without a deadline has at least an eighth. */
	double compute_budget;
	bool budget_is_flops;
	double (*clock)(void *user); /* seconds that never go back; NULL: the machine's clock */
	void *clock_user;
};
bool bb_scheduler_create(struct bb_scheduler **out, struct bb_engine *e,
	const struct bb_scheduler_params *params, struct bb_error *err);
/* What hasn't ended is cancelled: its last events come from here. Requests that weren't released
 * stay, to be released. */
void bb_scheduler_destroy(struct bb_scheduler *s);
/* One step of the engine for whoever is due; calls the events. One thread at a time calls it, and
 * no lock is held during events, which may submit, cancel and release. *idle: nobody was due, or
 * the compute budget has nothing left now. What goes wrong for some requests is told to them;
 * false: nothing can be computed any more (BB_ERR_DEVICE): all requests have failed with that
 * sentence, and later ones will. */
bool bb_scheduler_step(struct bb_scheduler *s, bool *idle, struct bb_error *err);
/* Sleeps until there is something to do, bb_scheduler_wake, or for most_s seconds of the machine's
 * clock; whether a step is due: requests are open, and if all are paused, one may have been
 * cancelled, or have come to its deadline. */
bool bb_scheduler_wait(struct bb_scheduler *s, double most_s);
void bb_scheduler_wake(struct bb_scheduler *s); /* from any thread; not from a signal handler */

/* Where guesses at the next tokens come from: the request's own tokens, what was written for the
 * same cache_salt before, a smaller model, the text that a grammar forces. */
enum bb_spec_source {
	BB_SPEC_PROMPT, BB_SPEC_HISTORY, BB_SPEC_MODEL, BB_SPEC_GRAMMAR, BB_SPEC_SOURCES
};
struct bb_spec_count {
	uint64_t n_drafted, n_accepted; /* rows that were spent on guesses; those that were right */
};

struct bb_usage {
	int n_prompt, n_cached; /* tokens of the prompt; those of them that weren't computed for it */
	int n_output;           /* tokens given out, of all branches */
	int n_preempted;        /* how often a branch was put aside */
	double queued_s;        /* from its arrival to its first step */
	double prompt_s;        /* from there to the first token */
	double output_s;        /* from there to the last one */
	int n_thinking;         /* of n_output: thinking tokens */
	int n_cot_steps;        /* of all branches: within thinking where it is told apart */
	int n_branches;         /* that began */
	int n_dropped;          /* of them */
	int n_probe_tokens;     /* beyond n_output: drawn by probes */
	double flops;           /* of all rows computed for it, probes' and those computed again too */
	struct bb_spec_count spec[BB_SPEC_SOURCES];
};

enum bb_event_kind {
	BB_EVENT_STARTED,  /* once: the first step for it comes next */
	BB_EVENT_PROMPT,   /* with n_prompt_logprobs, for each token of the prompt but the first:
	                    * `token` says how likely it was there, `index` where it stands */
	BB_EVENT_HIDDEN,   /* with wants_hidden, once: `hidden` */
	BB_EVENT_TOKEN,    /* one more token of a branch, and the text that became final with it */
	BB_EVENT_DECISION, /* `decision`: before the TOKEN that it makes, or the FINISHED */
	BB_EVENT_FINISHED, /* once for each branch: `finish`. With the last one comes `usage` */
	BB_EVENT_FAILED,   /* instead of what else would have come: `error`, and `usage` */
};
struct bb_request;
struct bb_effort;   /* bobbin_effort.h */
struct bb_decision;
/* What it points to lasts until the callback returns. The event with `usage` is the last one of its
 * request; every request has one. */
struct bb_event {
	enum bb_event_kind kind;
	struct bb_request *request;
	int branch;                     /* 0 to n - 1 */
	int index;                      /* of the token: in its branch's output, or in the prompt */
	const struct bb_sampled *token;
	const char *text;               /* [bytes], whole UTF-8 characters */
	size_t bytes;
	const float *hidden;            /* [n_embd] */
	enum bb_finish finish;          /* with the last TOKEN of a branch too, if that ended it */
	const struct bb_usage *usage;
	const struct bb_error *error;
	const struct bb_decision *decision;
};
typedef void bb_event_fn(void *user, const struct bb_event *event);

/* A segment of the prompt begins at token `first`, in order; at n_prompt that of the answer. */
struct bb_segment_mark {
	int first;
	enum bb_role role;
};

struct bb_request_params { /* zeroed = defaults, but for what is said */
	const int32_t *prompt;      /* [n_prompt], at least one; copied, like all that is here */
	size_t n_prompt;
	const struct bb_segment_mark *segments; /* [n_segments] */
	int n_segments;
	struct bb_generation_params generation; /* filled by the caller */
	int n;                      /* branches; 0 = 1. Each draws with bb_branch_seed */
	const struct bb_effort *effort; /* NULL: no policy */
	bool no_speculation;        /* one token a step and branch */
	int priority;               /* lower goes first */
	const char *account;        /* who shares the compute budget with others; NULL: one of those
	                             * that don't say */
	double weight;              /* of its account there, and of its value where it's elastic; 0 = 1.
	                             * An account's is the largest of its requests' */
	double deadline_ms;         /* from now: an answer that isn't whole then ends; 0 = none */
	int n_predicted;            /* tokens that the answer may have, for who has a deadline; 0: as
	                             * many as answers had so far, 128 before the first. Never more than
	                             * max_tokens */
	const char *cache_salt;     /* prefixes are shared among requests with the same; NULL = "" */
	const char *conversation;   /* turns of one conversation replace each other in the cache */
	int n_prompt_logprobs;      /* BB_EVENT_PROMPT with so many alternatives each; 0: none, as it
	                             * must be where there are vectors in the prompt */
	bool wants_hidden;          /* no answer, but what the head is multiplied with behind the last
	                             * token of the prompt, which may be as long as a context; n is 1,
	                             * without n_prompt_logprobs. `generation` is not looked at; it ends
	                             * with BB_FINISH_STOP, and nothing is left in the prefix cache */
	bb_event_fn *event;         /* called by bb_scheduler_step, or by bb_scheduler_destroy */
	void *user;
};
/* From any thread. BB_ERR_BUSY when the queue is full; BB_ERR_CONTEXT when the prompt is longer
 * than contexts may be, or than what the engine's max_kv_bytes can ever hold;
 * BB_ERR_USAGE, BB_ERR_INPUT for what is out of range; BB_ERR_MEMORY. Then *out is NULL, and there
 * will be no event. Events may come before it returns. */
bool bb_request_submit(struct bb_request **out, struct bb_scheduler *s,
	const struct bb_request_params *params, struct bb_error *err);
/* From any thread, at any time before the release. Its branches end with BB_FINISH_CANCELLED in the
 * next step, and what they held is free in it; a request that has ended stays as it is. */
void bb_request_cancel(struct bb_request *r);
/* From any thread, at any time before the release. A paused request takes no part in steps that
 * begin from now on, gives way to all others when memory or places are short, and can still be
 * cancelled or come to its deadline. For those whose events nobody fetches. */
void bb_request_pause(struct bb_request *r, bool is_paused);
/* From any thread; NULL is fine. One that hasn't ended goes on. */
void bb_request_release(struct bb_request *r);
/* What a branch draws with: the seed itself for branch 0. */
uint64_t bb_branch_seed(uint64_t seed, int branch);

struct bb_scheduler_stats { /* counts since it was created */
	int n_running, n_waiting, n_aside; /* now: requests in steps, not begun, put aside */
	uint64_t n_requests, n_finished, n_cancelled, n_expired, n_failed, n_refused;
	uint64_t n_steps, n_prompt_tokens, n_cached_tokens, n_output_tokens;
	uint64_t n_computed_again;         /* tokens, of what was put aside */
	uint64_t n_swapped, n_dropped;     /* branches put aside: copied away, or to compute again */
	size_t kv_bytes, max_kv_bytes;     /* pages and states of contexts, and their limit (0: none) */
	size_t swap_bytes, prefix_bytes;   /* the second: with checkpoints */
	double step_s, busy_s;             /* the last step's time, and that of all */
	double flops;                      /* of all rows computed, see bb_engine_flops */
	uint64_t step_rows;                /* the last step's rows */
	struct bb_spec_count spec[BB_SPEC_SOURCES];
	double spent;                      /* of the compute budget */
	double held_s;                     /* in which it held requests back */
	int n_held;                        /* branches that it holds back now */
	double price;                      /* of a unit of it, as elastic requests see it */
};
void bb_scheduler_stats(struct bb_scheduler *s, struct bb_scheduler_stats *out); /* any thread */

enum bb_request_state {
	BB_REQUEST_WAITING,
	BB_REQUEST_READING, /* its prompt */
	BB_REQUEST_WRITING,
	BB_REQUEST_ASIDE,   /* all that it has begun is put aside */
};
struct bb_request_info { /* for a live view */
	uint64_t id;               /* counts requests of the scheduler, from 1 */
	enum bb_request_state state;
	int priority, n_branches;
	int n_prompt, n_read, n_cached, n_output;
	double age_s, tokens_per_s; /* since it came; of output, since its first token */
	size_t kv_bytes;           /* pages and states of its contexts, shared ones counted for each */
	double share;              /* of the last step's rows, 0 to 1 */
};
/* Of the requests that haven't ended the first `most` by age; how many there are. Any thread. */
int bb_scheduler_requests(struct bb_scheduler *s, struct bb_request_info *out, int most);
/* The id of a request in bb_request_info. */
uint64_t bb_request_id(const struct bb_request *r);

#ifdef __cplusplus
}
#endif

#include "bobbin_effort.h"
#include "bobbin_taps.h"

#endif
