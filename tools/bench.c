/* SPDX-License-Identifier: Apache-2.0
 *
 * bobbin bench: tokens per second of reading prompts and of generating, at depths, for one or
 * several sequences; and how much of the memory's read bandwidth generating reaches. */
#include "bench.h"

#include "commands.h"
#include "input.h"
#include "open.h"
#include "terminal.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

struct options {
	struct open_options open;
	struct arg_ints prompts, gens, depths, parallel;
	int repeats, n_batch, n_ubatch;
	const char *format, *type_k, *type_v;
	struct arg_seed seed;
	bool json, no_warmup;
};

#define AT(member) offsetof(struct options, member)

static const struct arg_option own[] = {
	{ "-p,--n-prompt", "N,…", "prompt tests: tokens to read; 0 = none (default 512)", ARG_INTS,
		AT(prompts), 0, 1 << 24 },
	{ "-n,--n-gen", "N,…", "generation tests: tokens to generate; 0 = none (default 128)", ARG_INTS,
		AT(gens), 0, 1 << 24 },
	{ "-d,--n-depth", "N,…", "tokens in the context before (default 0)", ARG_INTS, AT(depths), 0,
		1 << 24 },
	{ "-np,--parallel,--n-parallel", "N,…", "sequences in the batch (default 1)", ARG_INTS,
		AT(parallel), 1, 1024 },
	{ "-ctk,--cache-type-k", "TYPE", "of keys, as --kv-cache-dtype (default f16)", ARG_TEXT,
		AT(type_k) },
	{ "-ctv,--cache-type-v", "TYPE", "of values; must be the same", ARG_TEXT, AT(type_v) },
	{ "-r,--repetitions", "N", "runs of each test (default 5)", ARG_INT, AT(repeats), 1,
		BENCH_MAX_REPEATS },
	{ "-b,--batch-size", "N", "tokens a step at most (default 2048)", ARG_INT, AT(n_batch), 1,
		1 << 16 },
	{ "-ub,--ubatch-size", "N", "tokens a step at most; the smaller of both counts (default 512, "
		"on a large GPU 2048)", ARG_INT, AT(n_ubatch), 1, 1 << 16 },
	{ "-o,--output", "FORMAT", "md (default), csv, json or jsonl", ARG_TEXT, AT(format), 0, 0,
		"md|csv|json|jsonl" },
	{ "--json", NULL, "the same as -o json", ARG_FLAG, AT(json) },
	{ "--no-warmup", NULL, "no run before those that count", ARG_FLAG, AT(no_warmup) },
	{ "-s,--seed", "N", "of the random tokens (default 1)", ARG_SEED, AT(seed) },
	{ 0 },
};

static const struct arg_group groups[] = {
	{ "tests", own, 0 },
	{ "model", open_engine, AT(open) },
	{ 0 },
};

const struct arg_command cmd_bench = {
	.name = "bench",
	.usage = "MODEL [-p 512] [-n 128] [-d 0,4096] [-np 1,8] [-o FORMAT] [options]",
	.summary = "Measures tokens per second.\n"
		"A row for each -p and each -n, at each depth and number of sequences; numbers "
		"joined by commas.\n"
		"% read: bytes that a generation step reads, over time, of the read bandwidth "
		"measured beside it.",
	.groups = groups,
	.positional = "MODEL",
	.positional_at = AT(open.path),
	.later = OPEN_LATER,
	.main = bench_main,
};

struct job { /* finish_job frees it */
	struct bb_engine *engine;
	struct bench_settings settings;
	enum bench_format format;
	struct bb_context **bases; /* [n_bases] contexts of n_depth tokens, read once and then forked */
	struct bb_context **runs;  /* [n_parallel] forks of one repetition */
	int n_bases, n_samplers, n_depth, max_parallel, max_len;
	struct bb_sampler **samplers; /* [n_samplers = max_parallel], greedy */
	struct bb_sampled *sampled;   /* [max_parallel]: what nobody reads */
	int32_t *ids;              /* [max(max_batch_tokens, n_depth)] */
	struct bb_step_item *items; /* [max_parallel] */
	uint64_t random;
	int n_rows;                /* printed */
};

static void drop(struct bb_context **contexts, int n) {
	for (int i = 0; i < n; i++) {
		bb_context_destroy(contexts[i]);
		contexts[i] = NULL;
	}
}

static void finish_job(struct job *j) {
	if (j->bases != NULL) {
		drop(j->bases, j->n_bases);
	}
	free(j->bases);
	free(j->runs);
	for (int i = 0; i < j->n_samplers; i++) {
		bb_sampler_destroy(j->samplers[i]);
	}
	free(j->samplers);
	free(j->sampled);
	free(j->ids);
	free(j->items);
	bb_engine_destroy(j->engine);
}

/* splitmix64 (Steele, Lea, Flood 2014). */
static int32_t random_id(struct job *j) {
	uint64_t x = j->random += 0x9E3779B97F4A7C15u;
	x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
	x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
	return (int32_t)((x ^ (x >> 31)) % (uint64_t)j->settings.info.n_vocab);
}

/* Contexts of the depth asked for; those of the last test are used again where the depth is the
 * same. */
static bool fill_bases(struct job *j, int n_depth, int n, struct bb_error *err) {
	if (n_depth != j->n_depth) {
		drop(j->bases, j->n_bases);
		j->n_bases = 0;
		j->n_depth = n_depth;
	}
	const struct bb_context_params params = { .max_len = j->max_len };
	for (; j->n_bases < n; j->n_bases++) {
		struct bb_context **c = &j->bases[j->n_bases];
		if (!bb_context_create(c, j->engine, &params, err)) {
			return false;
		}
		for (int t = 0; t < n_depth; t++) {
			j->ids[t] = random_id(j);
		}
		if (n_depth > 0 &&
			!bb_prefill(*c, j->ids, (size_t)n_depth, NULL, progress_show, NULL, err)) {
			bb_context_destroy(*c);
			*c = NULL;
			return false;
		}
	}
	return true;
}

static bool fork_all(struct job *j, int n, struct bb_error *err) {
	for (int i = 0; i < n; i++) {
		if (!bb_context_fork(&j->runs[i], j->bases[i], err)) {
			drop(j->runs, i);
			return false;
		}
	}
	return true;
}

static bool stopped(struct bb_error *err) {
	return interrupted() && !input_fail(err, BB_ERR_CANCELLED, "measuring was stopped");
}

/* n tokens of sequence i, behind the last of which one is drawn, as when an answer is generated;
 * what comes next is random all the same, for a model of random weights repeats itself. */
static struct bb_step_item item_of(struct job *j, int i, const int32_t *ids, int n, bool draws) {
	return (struct bb_step_item){
		.context = j->runs[i], .tokens = ids, .n_tokens = n,
		.sampler = draws ? j->samplers[i] : NULL, .sampled = &j->sampled[i],
	};
}

/* Every sequence reads n tokens, in steps that are filled up with the next sequence's. */
static bool read_prompts(struct job *j, int n, int n_parallel, struct bb_error *err) {
	const int max_rows = j->settings.info.max_batch_tokens;
	int i_seq = 0, done = 0;
	while (i_seq < n_parallel) {
		int n_items = 0, n_rows = 0;
		while (i_seq < n_parallel && n_rows < max_rows) {
			const int rest = n - done, room = max_rows - n_rows, rows = rest < room ? rest : room;
			const bool is_last = rows == rest;
			for (int t = 0; t < rows; t++) {
				j->ids[n_rows + t] = random_id(j);
			}
			j->items[n_items++] = item_of(j, i_seq, j->ids + n_rows, rows, is_last);
			n_rows += rows;
			done = is_last ? 0 : done + rows;
			i_seq += is_last;
		}
		if (stopped(err) || !bb_step(j->engine, j->items, n_items, err)) {
			return false;
		}
	}
	return true;
}

static bool generate(struct job *j, int n, int n_parallel, struct bb_error *err) {
	const int max_rows = j->settings.info.max_batch_tokens;
	for (int t = 0; t < n; t++) {
		for (int first = 0; first < n_parallel; first += max_rows) {
			const int rest = n_parallel - first, rows = rest < max_rows ? rest : max_rows;
			for (int i = 0; i < rows; i++) {
				j->ids[i] = random_id(j);
				j->items[i] = item_of(j, first + i, j->ids + i, 1, true);
			}
			if (stopped(err) || !bb_step(j->engine, j->items, rows, err)) {
				return false;
			}
		}
	}
	return true;
}

/* One run, in *ns; the forks are made and dropped outside the clock. */
static bool run_once(struct job *j, const struct bench_test *t, double *ns, struct bb_error *err) {
	if (!fork_all(j, t->n_parallel, err)) {
		return false;
	}
	const double start = seconds_now();
	const bool ok = t->n_prompt > 0 ? read_prompts(j, t->n_prompt, t->n_parallel, err)
		: generate(j, t->n_gen, t->n_parallel, err);
	*ns = (seconds_now() - start) * 1e9;
	drop(j->runs, t->n_parallel);
	return ok;
}

/* Weights once (more often where the sequences don't fit a step), and every sequence's KV at the
 * depth halfway. */
static void measure_bandwidth(struct job *j, struct bench_test *t) {
	const struct bb_engine_info *info = &j->settings.info;
	const int middle = t->n_depth + (t->n_gen + 1) / 2;
	const int n_steps = (t->n_parallel + info->max_batch_tokens - 1) / info->max_batch_tokens;
	t->step_bytes = (double)info->step_weight_bytes * n_steps +
		(double)t->n_parallel * (double)bb_engine_kv_read_bytes(j->engine, middle);
	t->bandwidth = bb_engine_read_bandwidth(j->engine, (size_t)t->step_bytes);
}

static bool run_test(struct job *j, struct bench_test *t, const struct options *o,
	struct bb_error *err) {
	const time_t now = time(NULL);
	struct tm utc;
	strftime(t->time, sizeof(t->time), "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &utc));
	if (!fill_bases(j, t->n_depth, t->n_parallel, err)) {
		return false;
	}
	double ignored;
	if (!o->no_warmup && !run_once(j, t, &ignored, err)) {
		return false;
	}
	for (; t->n_samples < o->repeats; t->n_samples++) {
		progress_show(NULL, "measuring", t->n_samples, o->repeats);
		if (!run_once(j, t, &t->ns[t->n_samples], err)) {
			break;
		}
	}
	progress_clear();
	if (t->n_gen > 0 && t->n_samples > 0) {
		measure_bandwidth(j, t);
	}
	if (t->n_samples > 0) {
		bench_print_row(j->format, &j->settings, t, j->n_rows++ == 0);
	}
	return t->n_samples == o->repeats;
}

/* Prompt tests, then generation tests, of one depth and number of sequences. */
static bool run_tests(struct job *j, const struct options *o, int n_depth, int n_parallel,
	struct bb_error *err) {
	const struct arg_ints *const lists[] = { &o->prompts, &o->gens };
	for (int kind = 0; kind < 2; kind++) {
		for (int i = 0; i < lists[kind]->n; i++) {
			const int n = lists[kind]->v[i];
			static struct bench_test t;
			t = (struct bench_test){
				.n_prompt = kind == 0 ? n : 0, .n_gen = kind == 1 ? n : 0, .n_depth = n_depth,
				.n_parallel = n_parallel,
			};
			if (n > 0 && !run_test(j, &t, o, err)) {
				return false;
			}
		}
	}
	return true;
}

static int greatest(const struct arg_ints *list) {
	int most = 0;
	for (int i = 0; i < list->n; i++) {
		most = list->v[i] > most ? list->v[i] : most;
	}
	return most;
}

static bool prepare(struct job *j, const struct options *o) {
	bb_engine_info(j->engine, &j->settings.info);
	if (j->settings.n_ubatch == 0) {
		j->settings.n_ubatch = j->settings.info.max_batch_tokens;
	}
	const struct bb_engine_info *info = &j->settings.info;
	const int n_depth = greatest(&o->depths), n_prompt = greatest(&o->prompts);
	const int n_gen = greatest(&o->gens), n_new = n_prompt > n_gen ? n_prompt : n_gen;
	j->max_len = n_depth + n_new;
	j->n_depth = -1;
	j->max_parallel = greatest(&o->parallel);
	j->random = o->seed.is_set ? o->seed.value : 1;
	if (j->max_len > info->trained_len) {
		notice("contexts of up to %d tokens, though the model was made for %d", j->max_len,
			info->trained_len);
	}
	const size_t n = (size_t)j->max_parallel;
	const int n_ids = n_depth > info->max_batch_tokens ? n_depth : info->max_batch_tokens;
	j->bases = calloc(n, sizeof(struct bb_context *));
	j->runs = calloc(n, sizeof(struct bb_context *));
	j->items = calloc(n, sizeof(*j->items));
	j->ids = calloc((size_t)n_ids, sizeof(*j->ids));
	j->samplers = calloc(n, sizeof(struct bb_sampler *));
	j->sampled = calloc(n, sizeof(*j->sampled));
	return j->bases != NULL && j->runs != NULL && j->items != NULL && j->ids != NULL &&
		j->samplers != NULL && j->sampled != NULL;
}

static bool create_samplers(struct job *j, struct bb_error *err) {
	struct bb_sampling greedy;
	bool ok = true;
	bb_sampling_default(NULL, &greedy);
	greedy.temperature = 0;
	while (ok && j->n_samplers < j->max_parallel) {
		ok = bb_sampler_create(&j->samplers[j->n_samplers], j->engine, &greedy, err);
		j->n_samplers += ok;
	}
	return ok;
}

static enum bench_format format_of(const struct options *o) {
	static const char *const names[] = { "md", "csv", "json", "jsonl" };
	const char *name = o->json ? "json" : o->format;
	for (int i = 0; i < 4; i++) {
		if (strcmp(names[i], name) == 0) {
			return (enum bench_format)i;
		}
	}
	return BENCH_MD;
}

static int work(struct job *j, const struct options *o) {
	if (!prepare(j, o)) {
		return failure("no memory for %d sequences", greatest(&o->parallel));
	}
	struct bb_error err = { 0 };
	bool ok = create_samplers(j, &err);
	bench_print_start(j->format);
	for (int d = 0; ok && d < o->depths.n; d++) {
		for (int p = 0; ok && p < o->parallel.n; p++) {
			ok = run_tests(j, o, o->depths.v[d], o->parallel.v[p], &err);
		}
	}
	bench_print_end(j->format, j->n_rows == 0);
	out_flush();
	return ok ? STATUS_OK : failure_of(&err);
}

static bool is_same_type(const char *one, const char *other) {
	enum bb_kv_type a, b;
	return strcmp(one, other) == 0 || (bb_kv_type_parse(one, &a) && bb_kv_type_parse(other, &b) &&
		a == b);
}

/* Two types, as llama-bench has them, to the one that this build has; f16 is what it has unset. */
static int take_types(struct options *o) {
	if (o->type_k == NULL && o->type_v == NULL) {
		return -1;
	}
	if (o->open.kv_type != NULL) {
		return usage_error("--kv-cache-dtype and %s are both given; one is enough",
			o->type_k != NULL ? "-ctk" : "-ctv");
	}
	const char *k = o->type_k != NULL ? o->type_k : "f16";
	const char *v = o->type_v != NULL ? o->type_v : "f16";
	o->open.kv_type = k;
	return is_same_type(k, v) ? -1 : failure("keys in '%s' and values in '%s' aren't in this "
		"build; expected one type for both", k, v);
}

int bench_main(int argc, char **argv) {
	struct options o = {
		.prompts = { { 512 }, 1 }, .gens = { { 128 }, 1 }, .depths = { { 0 }, 1 },
		.parallel = { { 1 }, 1 },
		.repeats = 5, .n_batch = 2048, .n_ubatch = 0, .format = "md",
	};
	int status = args_parse(&cmd_bench, argc, argv, &o);
	if (status >= 0) {
		return status;
	}
	if (greatest(&o.prompts) == 0 && greatest(&o.gens) == 0) {
		return usage_error("-p and -n are both 0: nothing to measure");
	}
	status = take_types(&o);
	if (status >= 0) {
		return status;
	}
	struct job j = {
		.format = format_of(&o),
		.settings = { .path = o.open.path, .n_batch = o.n_batch, .n_ubatch = o.n_ubatch },
	};
	const int n_ubatch = o.n_ubatch > 0 ? o.n_ubatch : o.n_batch < 2048 ? 512 : 0;
	o.open.max_batch_tokens = o.n_batch < n_ubatch ? o.n_batch : n_ubatch;
	status = open_model(&o.open, OPEN_ALL, &j.engine);
	status = status < 0 ? work(&j, &o) : status;
	finish_job(&j);
	return status;
}
