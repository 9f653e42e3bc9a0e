/* SPDX-License-Identifier: Apache-2.0
 *
 * bobbin logits: the logits after every token of one sequence, as a NumPy file; cut into steps and
 * beside other sequences as asked, which must not change a bit. */
#include "commands.h"

#include "input.h"
#include "npy.h"
#include "open.h"
#include "terminal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* The others grow by 1 to BESIDE_ROWS tokens a step. */
enum { MAX_BESIDE = 256, BESIDE_ROWS = 7, DEFAULT_CHUNK = 512 };

struct options {
	struct open_options open;
	const char *tokens, *output;
	int chunk, n_beside;
	struct arg_seed seed;
};

#define AT(member) offsetof(struct options, member)

static const struct arg_option own[] = {
	{ "--tokens", "FILE", "a JSON array of token ids; - reads stdin", ARG_TEXT, AT(tokens) },
	{ "-o,--output", "FILE", "the .npy file to write, float32 [n_tokens, n_vocab]; - is stdout",
		ARG_TEXT, AT(output) },
	{ "--chunk", "N", "tokens a step; 1 = as decoding does (default 512)", ARG_INT, AT(chunk), 1,
		1 << 15 },
	{ "--beside", "N", "run N other sequences in the same steps (default 0)", ARG_INT, AT(n_beside),
		0, MAX_BESIDE },
	{ "-s,--seed", "N", "of the other sequences' tokens (default 1)", ARG_SEED, AT(seed) },
	{ 0 },
};

static const struct arg_group groups[] = {
	{ "options", own, 0 },
	{ "model", open_engine, AT(open) },
	{ "context", open_context, AT(open) },
	{ 0 },
};

const struct arg_command cmd_logits = {
	.name = "logits",
	.usage = "MODEL --tokens FILE.json -o OUT.npy [--chunk N] [--beside N]",
	.summary = "Writes the logits after every token of a sequence to a NumPy file.\n"
		"Neither --chunk nor --beside changes a bit of them. Says on stderr: steps S, most "
		"rows in a step R.",
	.groups = groups,
	.positional = "MODEL",
	.positional_at = AT(open.path),
	.later = OPEN_LATER,
	.main = logits_main,
};

struct job { /* finish_job frees it */
	struct bb_engine *engine;
	struct bb_tokens tokens;
	struct bb_context *context;
	struct bb_context *beside[MAX_BESIDE]; /* [n_beside] */
	int n_beside, n_vocab, max_len;
	uint64_t random;
	float *logits; /* [chunk, n_vocab] */
	struct npy file;
	int n_steps, most_rows;
	int n_bad, first_bad; /* tokens with logits that aren't finite; the index of the first */
};

static void finish_job(struct job *j) {
	free(j->logits);
	for (int i = 0; i < j->n_beside; i++) {
		bb_context_destroy(j->beside[i]);
	}
	bb_context_destroy(j->context);
	bb_tokens_finish(&j->tokens);
	bb_engine_destroy(j->engine);
}

/* splitmix64 (Steele, Lea, Flood 2014). */
static int32_t random_id(struct job *j) {
	uint64_t x = j->random += 0x9E3779B97F4A7C15u;
	x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
	x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
	return (int32_t)((x ^ (x >> 31)) % (uint64_t)j->n_vocab);
}

/* Tokens that the i-th other sequence brings into a step: all different, one of them decoding. */
static int beside_rows(int i, int step) {
	return i % 2 == 0 ? 1 : 1 + (i + step) % BESIDE_ROWS;
}

static bool create_beside(struct job *j, int n, struct bb_error *err) {
	for (int i = 0; i < n; i++) {
		if (!bb_context_create(&j->beside[i], j->engine, NULL, err)) {
			return false;
		}
		j->n_beside++;
		int32_t ids[16 + MAX_BESIDE]; /* [n_ids]: each sequence has a length of its own */
		const int n_ids = 3 + i < j->max_len / 2 ? 3 + i : 1;
		for (int t = 0; t < n_ids; t++) {
			ids[t] = random_id(j);
		}
		if (!bb_prefill(j->beside[i], ids, (size_t)n_ids, NULL, NULL, NULL, err)) {
			return false;
		}
	}
	return true;
}

/* Somebody may want to look at them, so they are written; but not without a word. */
static void count_bad(struct job *j, int first, int n) {
	const size_t n_vocab = (size_t)j->n_vocab;
	for (int i = 0; i < n; i++) {
		const float *row = j->logits + (size_t)i * n_vocab;
		bool is_finite = true;
		for (size_t k = 0; k < n_vocab; k++) {
			is_finite = isfinite(row[k]) && is_finite;
		}
		if (!is_finite) {
			j->first_bad = j->n_bad++ == 0 ? first + i : j->first_bad;
		}
	}
}

/* One step: n tokens of the sequence, in the middle of the others' tokens. */
static bool step(struct job *j, int n, struct bb_error *err) {
	static int32_t ids[MAX_BESIDE][BESIDE_ROWS];
	struct bb_step_item items[MAX_BESIDE + 1]; /* [n_beside + 1] */
	const int at = bb_context_length(j->context), middle = j->n_beside / 2;
	int n_rows = n;
	for (int i = 0; i < j->n_beside; i++) {
		int rows = beside_rows(i, j->n_steps);
		rows = rows < j->max_len ? rows : j->max_len;
		if (bb_context_length(j->beside[i]) + rows > j->max_len &&
			!bb_context_rewind(j->beside[i], 0, err)) {
			return false;
		}
		for (int t = 0; t < rows; t++) {
			ids[i][t] = random_id(j);
		}
		items[i + (i >= middle)] = (struct bb_step_item){ j->beside[i], ids[i], rows, NULL, false };
		n_rows += rows;
	}
	items[middle] = (struct bb_step_item){ j->context, j->tokens.ids + at, n, j->logits, true };
	j->n_steps++;
	j->most_rows = n_rows > j->most_rows ? n_rows : j->most_rows;
	if (!bb_step(j->engine, items, j->n_beside + 1, err)) {
		return false;
	}
	count_bad(j, at, n);
	return npy_write(&j->file, j->logits, (size_t)n, err);
}

static bool run(struct job *j, int chunk, struct bb_error *err) {
	const int n_tokens = (int)j->tokens.n;
	for (int done = 0; done < n_tokens && !interrupted();) {
		const int n = n_tokens - done < chunk ? n_tokens - done : chunk;
		if (!step(j, n, err)) {
			return false;
		}
		done += n;
		progress_show(NULL, "logits", done, n_tokens);
	}
	return true;
}

static bool prepare(struct job *j, const struct options *o, int chunk, struct bb_error *err) {
	if (j->tokens.n == 0) {
		return input_fail(err, BB_ERR_INPUT, "%s holds no token ids", input_name(o->tokens));
	}
	if (j->tokens.n > (size_t)j->max_len) {
		return input_fail(err, BB_ERR_CONTEXT,
			"%zu tokens, but the context holds only %d; -c N makes it larger", j->tokens.n,
			j->max_len);
	}
	for (size_t i = 0; i < j->tokens.n; i++) {
		if (j->tokens.ids[i] >= j->n_vocab) {
			return input_fail(err, BB_ERR_INPUT, "%s: token id %d at index %zu, expected 0 to %d",
				input_name(o->tokens), j->tokens.ids[i], i, j->n_vocab - 1);
		}
	}
	j->logits = malloc((size_t)chunk * (size_t)j->n_vocab * sizeof(float));
	if (j->logits == NULL) {
		return input_fail(err, BB_ERR_MEMORY, "no memory for the logits of %d tokens", chunk);
	}
	return bb_context_create(&j->context, j->engine, NULL, err) &&
		create_beside(j, o->n_beside, err) &&
		npy_open(&j->file, o->output, j->tokens.n, (size_t)j->n_vocab, err);
}

static int work(struct job *j, const struct options *o) {
	struct bb_engine_info info;
	struct bb_error err = { 0 };
	bb_engine_info(j->engine, &info);
	j->n_vocab = info.n_vocab;
	j->max_len = info.max_len;
	j->random = o->seed.is_set ? o->seed.value : 1;
	const int chunk = (size_t)o->chunk < j->tokens.n ||
		j->tokens.n == 0 ? o->chunk : (int)j->tokens.n;
	bool ok = prepare(j, o, chunk, &err) && run(j, chunk, &err);
	progress_clear();
	const int n_done = j->context != NULL ? bb_context_length(j->context) : 0;
	const bool is_whole = (size_t)n_done == j->tokens.n;
	ok = npy_close(&j->file, ok && is_whole, &err) || (ok && !is_whole);
	if (!out_flush()) {
		return STATUS_FAILED;
	}
	if (!ok) {
		return failure_of(&err);
	}
	if (j->n_bad > 0) {
		notice("%d of %d tokens have logits that are NaN or infinite, the first at index %d; is "
			"the model's file damaged?", j->n_bad, n_done, j->first_bad);
	}
	if (!is_whole) {
		notice("stopped after %d of %zu tokens; %s", n_done, j->tokens.n,
			strcmp(o->output, "-") == 0 ? "the array on stdout is cut short"
			: "no file is written");
		return STATUS_INTERRUPTED;
	}
	fprintf(stderr, "steps %d, most rows in a step %d\n", j->n_steps, j->most_rows);
	return STATUS_OK;
}

static int read_tokens(struct job *j, const struct options *o) {
	struct input json;
	struct bb_error err = { 0 };
	const bool ok = input_read(o->tokens, &json, &err) &&
		input_ids(&json, input_name(o->tokens), &j->tokens, &err);
	input_finish(&json);
	return ok ? -1 : failure_of(&err);
}

int logits_main(int argc, char **argv) {
	struct options o = { .chunk = DEFAULT_CHUNK };
	int status = args_parse(&cmd_logits, argc, argv, &o);
	if (status >= 0) {
		return status;
	}
	if (o.open.path == NULL || o.tokens == NULL || o.output == NULL) {
		return usage_error("no %s was given", o.open.path == NULL ? "MODEL" : o.tokens == NULL
			? "--tokens" : "-o");
	}
	static struct job j;
	o.open.max_batch_tokens = o.chunk + o.n_beside * BESIDE_ROWS;
	status = read_tokens(&j, &o);
	status = status < 0 ? open_model(&o.open, OPEN_ALL, &j.engine) : status;
	status = status < 0 ? work(&j, &o) : status;
	finish_job(&j);
	return status;
}
