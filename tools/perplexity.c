/* SPDX-License-Identifier: Apache-2.0
 *
 * bobbin perplexity: as llama-perplexity computes it. Windows of c tokens without overlap, BOS in
 * the first place of each where the model wants one, the second half of each scored. */
#include "commands.h"

#include "input.h"
#include "open.h"
#include "terminal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct options {
	struct open_options open;
	const char *file;
	int n_ctx, n_batch, max_windows;
	bool json;
};

#define AT(member) offsetof(struct options, member)

static const struct arg_option own[] = {
	{ "-f,--file", "FILE", "the text; - reads stdin", ARG_TEXT, AT(file) },
	{ "-c,--ctx-size,--max-model-len", "N", "tokens of a window (default 512)", ARG_INT, AT(n_ctx),
		4, 1 << 24 },
	{ "-b,--batch-size,-ub,--ubatch-size", "N", "tokens a step (default 512)", ARG_INT, AT(n_batch),
		1, 1 << 15 },
	{ "--chunks", "N", "score only the first N windows; 0 = all (default)", ARG_INT,
		AT(max_windows), 0, 1 << 30 },
	{ "--json", NULL, "print one JSON object", ARG_FLAG, AT(json) },
	{ 0 },
};

static const struct arg_group groups[] = {
	{ "options", own, 0 },
	{ "model", open_engine, AT(open) },
	{ 0 },
};

const struct arg_command cmd_perplexity = {
	.name = "perplexity",
	.usage = "MODEL -f TEXT [-c 512] [options]",
	.summary = "Measures how well a model predicts a text.\n"
		"Prints the value after each window, as [1]12.3456, and last: Final estimate: "
		"PPL = X +/- Y.\nBoth are comparable with llama-perplexity's.",
	.groups = groups,
	.positional = "MODEL",
	.positional_at = AT(open.path),
	.later = OPEN_LATER,
	.main = perplexity_main,
};

enum { MAX_PARALLEL = 64, LOGITS_LIMIT = 1 << 27 /* bytes of logits a step */ };

struct job { /* finish_job frees it */
	struct bb_engine *engine;
	struct bb_tokens tokens;
	struct bb_context *contexts[MAX_PARALLEL]; /* [n_parallel] */
	int n_parallel, n_ctx, n_vocab;
	int n_read_rows;   /* a window's tokens in a step that reads */
	int n_score_rows;  /* ... in a step that scores */
	int n_windows, n_done;
	float *logits;     /* [n_parallel, n_score_rows, n_vocab] */
	double nll, nll2;  /* sums of -log p and of its square, of whole windows */
	double window_nll[MAX_PARALLEL], window_nll2[MAX_PARALLEL]; /* [n_parallel], of those at work */
	bool is_listed;    /* the value after each window goes to stdout */
	size_t n_scored;
};

static void finish_job(struct job *j) {
	free(j->logits);
	for (int i = 0; i < j->n_parallel; i++) {
		bb_context_destroy(j->contexts[i]);
	}
	bb_tokens_finish(&j->tokens);
	bb_engine_destroy(j->engine);
}

/* -log of the softmax at id. */
static double negative_log(const float *logits, int n, int32_t id) {
	float most = logits[0];
	for (int i = 1; i < n; i++) {
		most = logits[i] > most ? logits[i] : most;
	}
	double sum = 0;
	for (int i = 0; i < n; i++) {
		sum += (double)expf(logits[i] - most);
	}
	return log(sum) + (double)most - (double)logits[id];
}

/* Adds tokens first..last - 1 of windows n_done.. to their contexts; with logits where wanted. */
static bool step(struct job *j, int n, int first, int last, bool is_scored, struct bb_error *err) {
	struct bb_step_item items[MAX_PARALLEL]; /* [n] */
	const size_t rows = (size_t)(last - first);
	for (int i = 0; i < n; i++) {
		float *logits = j->logits + (size_t)i * rows * (size_t)j->n_vocab;
		items[i] = (struct bb_step_item){
			j->contexts[i], j->tokens.ids + (size_t)(j->n_done + i) * (size_t)j->n_ctx + first,
			(int)rows, is_scored ? logits : NULL, is_scored,
		};
	}
	return bb_step(j->engine, items, n, err);
}

/* The logits of token t tell what comes after it. */
static bool score(struct job *j, int n, int first, int last, struct bb_error *err) {
	for (int i = 0; i < n; i++) {
		const int32_t *ids = j->tokens.ids + (size_t)(j->n_done + i) * (size_t)j->n_ctx;
		for (int t = first; t < last; t++) {
			const size_t row = (size_t)i * (size_t)(last - first) + (size_t)(t - first);
			const double nll = negative_log(j->logits + row * (size_t)j->n_vocab, j->n_vocab,
				ids[t + 1]);
			if (!isfinite(nll)) {
				return input_fail(err, BB_ERR_FORMAT, "expected finite logits after token %d of "
					"window %d, some are NaN or infinite; is the file damaged?", t,
					j->n_done + i + 1);
			}
			j->window_nll[i] += nll;
			j->window_nll2[i] += nll * nll;
		}
	}
	return true;
}

/* Window by window, so that what shared a step changes no bit of a sum. */
static bool count_windows(struct job *j, int n, struct bb_error *err) {
	for (int i = 0; i < n; i++) {
		j->nll += j->window_nll[i];
		j->nll2 += j->window_nll2[i];
		j->n_scored += (size_t)(j->n_ctx - 1 - j->n_ctx / 2);
		j->n_done++;
		if (j->is_listed) { /* as llama-perplexity does */
			out_print("[%d]%.4f,", j->n_done, exp(j->nll / (double)j->n_scored));
			out_flush();
		}
		if (!bb_context_rewind(j->contexts[i], 0, err)) {
			return false;
		}
	}
	return true;
}

/* The next n windows side by side; stops between steps on Ctrl-C, then none of them counts. */
static bool windows(struct job *j, int n, struct bb_error *err) {
	const int half = j->n_ctx / 2, end = j->n_ctx - 1;
	memset(j->window_nll, 0, sizeof(j->window_nll));
	memset(j->window_nll2, 0, sizeof(j->window_nll2));
	for (int t = 0; t < end;) {
		const bool is_scored = t >= half;
		const int most = is_scored ? j->n_score_rows : j->n_read_rows,
			stop = is_scored ? end : half;
		const int last = stop - t < most ? stop : t + most;
		if (interrupted()) {
			return true;
		}
		if (!step(j, n, t, last, is_scored, err)) {
			return false;
		}
		if (is_scored && !score(j, n, t, last, err)) {
			return false;
		}
		t = last;
		if (!j->is_listed || !out_is_terminal()) { /* a bar would overwrite the list */
			progress_show(NULL, "perplexity", j->n_done + n * (double)t / end, j->n_windows);
		}
	}
	return count_windows(j, n, err);
}

static bool tokenize(struct job *j, const struct input *text, int max_windows,
	struct bb_error *err) {
	size_t bytes = text->bytes;
	if (bytes > 0 && text->data[bytes - 1] == '\n') {
		bytes--; /* llama-perplexity drops the last newline of a file */
	}
	if (!bb_tokenize(j->engine, text->data, bytes, true, false, &j->tokens, err)) {
		return false;
	}
	const size_t n_whole = j->tokens.n / (size_t)j->n_ctx;
	if (n_whole == 0) {
		return input_fail(err, BB_ERR_INPUT, "the text has %zu tokens, fewer than a window of %d",
			j->tokens.n, j->n_ctx);
	}
	const size_t n = max_windows > 0 && (size_t)max_windows < n_whole ? (size_t)max_windows
		: n_whole;
	j->n_windows = n < INT32_MAX ? (int)n : INT32_MAX;
	for (size_t i = 0; bb_token_adds_bos(j->engine) && i < n; i++) {
		j->tokens.ids[i * (size_t)j->n_ctx] = bb_token_bos(j->engine);
	}
	return true;
}

/* As many windows at once as fill a step with the rows of their first halves. */
static bool prepare(struct job *j, int n_batch, struct bb_error *err) {
	const size_t row_bytes = (size_t)j->n_vocab * sizeof(float);
	const int half = j->n_ctx / 2;
	int n = n_batch / half;
	n = n < 1 ? 1 : n > MAX_PARALLEL ? MAX_PARALLEL : n;
	n = n > j->n_windows ? j->n_windows : n;
	const int affordable = (int)((size_t)LOGITS_LIMIT / row_bytes / (size_t)n);
	j->n_read_rows = n_batch / n;
	j->n_score_rows = affordable < 1 ? 1 : affordable < j->n_read_rows
		? affordable : j->n_read_rows;
	j->logits = malloc((size_t)n * (size_t)j->n_score_rows * row_bytes);
	if (j->logits == NULL) {
		return input_fail(err, BB_ERR_MEMORY, "no memory for the logits of a step");
	}
	const struct bb_context_params params = { .max_len = j->n_ctx };
	for (; j->n_parallel < n; j->n_parallel++) {
		if (!bb_context_create(&j->contexts[j->n_parallel], j->engine, &params, err)) {
			return false;
		}
	}
	return true;
}

static void print(const struct job *j, bool as_json, double seconds) {
	const double n = (double)j->n_scored, mean = j->nll / n;
	const double variance = j->nll2 / n - mean * mean;
	const double ppl = exp(mean);
	const double error = variance > 0 && n > 1 ? sqrt(variance / (n - 1)) * ppl : 0;
	if (as_json) {
		out_json_take(json_pack("{s:f, s:f, s:i, s:i, s:I, s:I, s:f}", "ppl", ppl, "ppl_stderr",
			error, "n_ctx", j->n_ctx, "n_windows", j->n_done, "n_tokens", (json_int_t)j->tokens.n,
			"n_tokens_scored", (json_int_t)j->n_scored, "seconds", seconds), 0);
	} else {
		out_print("Final estimate: PPL = %.4f +/- %.5f\n", ppl, error);
	}
}

static int work(struct job *j, const struct options *o, const struct input *text) {
	struct bb_error err = { 0 };
	struct bb_engine_info info;
	bb_engine_info(j->engine, &info);
	j->n_vocab = info.n_vocab;
	j->n_ctx = o->n_ctx;
	j->is_listed = !o->json;
	if (j->n_ctx > info.trained_len) {
		notice("windows of %d tokens, though the model was made for %d", j->n_ctx,
			info.trained_len);
	}
	if (!tokenize(j, text, o->max_windows, &err) || !prepare(j, o->n_batch, &err)) {
		return failure_of(&err);
	}
	const double start = seconds_now();
	bool ok = true;
	while (ok && j->n_done < j->n_windows && !interrupted()) {
		const int rest = j->n_windows - j->n_done;
		ok = windows(j, rest < j->n_parallel ? rest : j->n_parallel, &err);
	}
	progress_clear();
	if (j->is_listed && j->n_done > 0) {
		out_print("\n");
		out_flush();
	}
	if (!ok) {
		return failure_of(&err);
	}
	const double seconds = seconds_now() - start;
	const bool is_whole = j->n_done == j->n_windows; /* Ctrl-C may have come too late */
	if (!is_whole) {
		notice("stopped after %d of %d windows", j->n_done, j->n_windows);
	}
	if (j->n_done > 0) {
		fprintf(stderr, "%d windows of %d tokens, %.1f tokens/s\n", j->n_done, j->n_ctx,
			seconds > 0 ? (double)j->n_done * j->n_ctx / seconds : 0);
		print(j, o->json, seconds);
	}
	return is_whole ? STATUS_OK : STATUS_INTERRUPTED;
}

int perplexity_main(int argc, char **argv) {
	struct options o = { .n_ctx = 512, .n_batch = 512 };
	int status = args_parse(&cmd_perplexity, argc, argv, &o);
	if (status >= 0) {
		return status;
	}
	if (o.open.path == NULL || o.file == NULL) {
		return usage_error("no %s was given", o.open.path == NULL ? "MODEL" : "-f");
	}
	struct input text;
	struct bb_error err = { 0 };
	if (!input_read(o.file, &text, &err)) {
		return failure_of(&err);
	}
	static struct job j;
	o.open.max_batch_tokens = o.n_batch;
	status = open_model(&o.open, OPEN_ALL, &j.engine);
	status = status < 0 ? work(&j, &o, &text) : status;
	input_finish(&text);
	finish_job(&j);
	return status;
}
