/* SPDX-License-Identifier: Apache-2.0
 *
 * What n answers to one prompt cost beside n requests that share nothing: bytes of a step, counted;
 * time from the request to the last token; time of decoding alone, beside what bytes and the
 * measured rate of multiplying in attention allow. Both sides take turns, so that a noisy machine
 * is fair to both, and must give the same tokens and logits.
 *
 * branches MODEL [N [PROMPT [TOKENS [ROUNDS [THREADS [KV]]]]]]       16 4096 128 3 0 f16 */
#include "bobbin.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Of shorter prompts attention takes too little time to be told from noise. */
enum { MAX_N = 64, MAX_ROUNDS = 32, LEAST_PROMPT = 1024 };

struct run {
	struct bb_engine *engine;
	struct bb_engine_info info;
	int n, n_prompt, n_tokens, n_rounds;
	int32_t *prompt;             /* [n_prompt] */
	int32_t *drawn[2];           /* [n, n_tokens]: of branches, of requests by themselves */
	float *logits[2];            /* [n, n_vocab] */
};

static double now(void) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static int by_value(const void *a, const void *b) {
	const double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

static double median(double *v, int n) {
	qsort(v, (size_t)n, sizeof(*v), by_value);
	return n % 2 == 1 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
}

/* ---- from the request to the last token ---- */

struct answer {
	int32_t *drawn; /* [n_tokens], of branch 0 */
	int n_tokens, n_ended;
};

static void on_event(void *user, const struct bb_event *event) {
	struct answer *a = user;
	if (event->kind == BB_EVENT_TOKEN) {
		a->drawn[event->branch * a->n_tokens + event->index] = event->token->id;
	} else if (event->kind == BB_EVENT_FAILED) {
		fprintf(stderr, "branches: %s\n", event->error->text);
		exit(1);
	}
	a->n_ended += event->usage != NULL;
}

static bool submit(struct run *r, struct bb_scheduler *s, int i, int n, struct answer *a,
	struct bb_error *err) {
	char salt[16];
	struct bb_request_params p = { .prompt = r->prompt, .n_prompt = (size_t)r->n_prompt, .n = n,
		.event = on_event, .user = a, .cache_salt = salt };
	struct bb_request *request = NULL;
	snprintf(salt, sizeof(salt), "%d", i); /* or they would share what they read */
	bb_sampling_default(r->engine, &p.generation.sampling);
	p.generation.sampling.temperature = 1;
	p.generation.sampling.ignore_eos = true;
	p.generation.sampling.seed = bb_branch_seed(1, i);
	p.generation.max_tokens = r->n_tokens;
	if (!bb_request_submit(&request, s, &p, err)) {
		return false;
	}
	bb_request_release(request);
	return true;
}

/* One request of n branches, or n requests. */
static bool time_requests(struct run *r, bool is_shared, double *seconds, struct bb_error *err) {
	const struct bb_scheduler_params params = { .no_prefix_cache = true };
	const int n_requests = is_shared ? 1 : r->n;
	struct bb_scheduler *s = NULL;
	struct answer answers[MAX_N];
	bool ok = bb_scheduler_create(&s, r->engine, &params, err), is_idle = false;
	const double start = now();
	for (int i = 0; ok && i < n_requests; i++) {
		answers[i] = (struct answer){ r->drawn[!is_shared] + (size_t)i * (size_t)r->n_tokens,
			r->n_tokens, 0 };
		ok = submit(r, s, i, is_shared ? r->n : 1, &answers[i], err);
	}
	while (ok && !is_idle) {
		ok = bb_scheduler_step(s, &is_idle, err);
	}
	*seconds = now() - start;
	bb_scheduler_destroy(s);
	return ok;
}

static bool compare_requests(struct run *r, struct bb_error *err) {
	double seconds[2][MAX_ROUNDS];
	const size_t n = (size_t)r->n * (size_t)r->n_tokens;
	for (int i = 0; i < r->n_rounds; i++) {
		for (int j = 0; j < 2; j++) {
			const int side = (i + j) % 2;
			if (!time_requests(r, side == 0, &seconds[side][i], err)) {
				return false;
			}
		}
		fprintf(stderr, "branches: round %d: %.2f s and %.2f s\n", i, seconds[0][i],
			seconds[1][i]);
		if (memcmp(r->drawn[0], r->drawn[1], n * sizeof(*r->drawn[0])) != 0) {
			fprintf(stderr, "branches: the branches' tokens aren't those of the requests\n");
			return false;
		}
	}
	const double a = median(seconds[0], r->n_rounds), b = median(seconds[1], r->n_rounds);
	printf("from request to last token: %.2f s, by themselves %.2f s: %.2f x as fast\n", a, b,
		b / a);
	return true;
}

/* ---- decoding alone ---- */

enum side { FORKS, OWN, FRESH, ONE, N_SIDES };

struct decoding {
	struct bb_context *contexts[N_SIDES][MAX_N];
	double *seconds[N_SIDES];                 /* [n_tokens]: of each step */
	double kv_bytes[N_SIDES], bytes[N_SIDES], flops[N_SIDES]; /* of a step, on average */
	double copied[N_SIDES];                   /* of all steps */
	double rate; /* operations per second of attention where the prompt is read */
};

static uint32_t next_random(uint32_t *state) {
	*state = *state * 1664525u + 1013904223u;
	return *state >> 8;
}

/* Reads all of the prompt but its last token, behind which answers part, piece by piece. The last
 * whole piece has more keys to see than the first one, and nothing else to do: *rate is that of
 * multiplying with them. */
static bool read_prompt(struct run *r, struct bb_context **c, double *rate, struct bb_error *err) {
	const int n_read = r->n_prompt - 1, half = n_read / 2 > 0 ? n_read / 2 : 1;
	const int most = r->info.max_batch_tokens < half ? r->info.max_batch_tokens : half;
	double first = 0, last = 0;
	if (!bb_context_create(c, r->engine, NULL, err)) {
		return false;
	}
	for (int done = 0, n; done < n_read; done += n) {
		const int left = n_read - done;
		n = left < most ? left : most;
		const double start = now();
		if (!bb_prefill(*c, r->prompt + done, (size_t)n, NULL, NULL, NULL, err)) {
			return false;
		}
		const double seconds = now() - start;
		first = done == 0 ? seconds : first;
		if (n == most && done > 0) {
			last = seconds;
			*rate = (bb_engine_flops(r->engine, done, n) - bb_engine_flops(r->engine, 0, n)) /
				(last - first);
		}
	}
	return true;
}

static bool make_contexts(struct run *r, struct decoding *d, struct bb_error *err) {
	double rates[MAX_N];
	for (int i = 0; i < r->n; i++) {
		fprintf(stderr, "\rbranches: prompt %d of %d", i + 1, r->n);
		if (!read_prompt(r, &d->contexts[OWN][i], &rates[i], err) ||
			!bb_context_create(&d->contexts[FRESH][i], r->engine, NULL, err) ||
			!bb_context_fork(&d->contexts[FORKS][i], d->contexts[OWN][0], err)) {
			return false;
		}
	}
	fprintf(stderr, "\n");
	d->rate = median(rates, r->n);
	/* the first of those by themselves must have pages of its own, too */
	bb_context_destroy(d->contexts[OWN][0]);
	d->contexts[OWN][0] = NULL;
	double unused;
	return bb_context_fork(&d->contexts[ONE][0], d->contexts[FORKS][0], err) &&
		read_prompt(r, &d->contexts[OWN][0], &unused, err);
}

static bool step(struct run *r, struct decoding *d, enum side side, int t, const int32_t *ids,
	struct bb_error *err) {
	const int n = side == ONE ? 1 : r->n, n_vocab = r->info.n_vocab;
	struct bb_step_item items[MAX_N];
	struct bb_engine_stats before, after;
	for (int i = 0; i < n; i++) {
		items[i] = (struct bb_step_item){ .context = d->contexts[side][i], .tokens = ids + i,
			.n_tokens = 1, .logits = r->logits[side == OWN] + (size_t)i * (size_t)n_vocab };
	}
	bb_engine_stats(r->engine, &before);
	const double start = now();
	if (!bb_step(r->engine, items, n, err)) {
		return false;
	}
	d->seconds[side][t] = now() - start;
	bb_engine_stats(r->engine, &after);
	const double kv = (double)(after.kv_bytes - before.kv_bytes) / r->n_tokens;
	d->kv_bytes[side] += kv;
	d->bytes[side] += kv + (double)(after.weight_bytes - before.weight_bytes +
		after.state_bytes - before.state_bytes) / r->n_tokens;
	d->flops[side] += (after.flops - before.flops) / r->n_tokens;
	d->copied[side] += (double)(after.copied_bytes - before.copied_bytes);
	return true;
}

static bool decode(struct run *r, struct decoding *d, struct bb_error *err) {
	uint32_t random = 3;
	const size_t n_logits = (size_t)r->n * (size_t)r->info.n_vocab;
	for (int t = 0; t < r->n_tokens; t++) {
		int32_t ids[MAX_N];
		for (int i = 0; i < r->n; i++) {
			ids[i] = (int32_t)(next_random(&random) % (uint32_t)r->info.n_vocab);
		}
		const bool is_odd = t % 2;
		if (!step(r, d, FRESH, t, ids, err) || !step(r, d, ONE, t, ids, err) ||
			!step(r, d, is_odd ? OWN : FORKS, t, ids, err) ||
			!step(r, d, is_odd ? FORKS : OWN, t, ids, err)) {
			return false;
		}
		if (memcmp(r->logits[0], r->logits[1], n_logits * sizeof(float)) != 0) {
			fprintf(stderr, "branches: token %d: forks have other logits\n", t);
			return false;
		}
	}
	return true;
}

/* What a step takes at least: the rest of it as measured, and the slower of bytes and operations of
 * attention. */
static double allowed(const struct decoding *d, enum side side, double rest, double bandwidth) {
	const double bytes = d->kv_bytes[side] / bandwidth;
	const double flops = (d->flops[side] - d->flops[FRESH]) / d->rate;
	return rest + (bytes > flops ? bytes : flops);
}

static void report(struct run *r, struct decoding *d) {
	double t[N_SIDES];
	for (int i = 0; i < N_SIDES; i++) {
		t[i] = median(d->seconds[i], r->n_tokens);
	}
	const double bandwidth = bb_engine_read_bandwidth(r->engine, (size_t)512 << 20);
	const double forks = allowed(d, FORKS, t[FRESH], bandwidth),
		own = allowed(d, OWN, t[FRESH], bandwidth);
	/* of its own tokens, the prompt's last among them, a branch sees 1 in the first step, n_tokens
	 * in the last */
	const double of_one = (r->n_tokens + 1) / 2.0 * (double)r->info.kv_bytes_per_token;
	printf("bytes of a step: %.1f MB, of one branch %.1f MB, without their own tokens %.1f and "
		"%.1f MB: %.3f x\n", d->bytes[FORKS] / 1e6, d->bytes[ONE] / 1e6,
		(d->bytes[FORKS] - r->n * of_one) / 1e6, (d->bytes[ONE] - of_one) / 1e6,
		(d->bytes[FORKS] - r->n * of_one) / (d->bytes[ONE] - of_one));
	printf("  keys and values alone: %.1f and %.1f MB: %.3f x; by themselves %.1f MB\n",
		(d->kv_bytes[FORKS] - r->n * of_one) / 1e6, (d->kv_bytes[ONE] - of_one) / 1e6,
		(d->kv_bytes[FORKS] - r->n * of_one) / (d->kv_bytes[ONE] - of_one),
		d->kv_bytes[OWN] / 1e6);
	printf("bytes copied: %.0f, %.2f pages a branch\n", d->copied[FORKS] + d->copied[ONE],
		(d->copied[FORKS] + d->copied[ONE]) / (r->n + 1) /
		(64.0 * (double)r->info.kv_bytes_per_token));
	printf("decoding alone: %.2f ms a step, by themselves %.2f ms: %.2f x as fast\n",
		t[FORKS] * 1e3, t[OWN] * 1e3, t[OWN] / t[FORKS]);
	printf("  allowed by %.1f GB/s and %.0f Gflop/s in attention: %.2f ms, %.2f ms: %.2f x\n",
		bandwidth / 1e9, d->rate / 1e9, forks * 1e3, own * 1e3, own / forks);
	printf("  without a prompt %.2f ms, one branch %.2f ms\n", t[FRESH] * 1e3, t[ONE] * 1e3);
}

static bool compare_decoding(struct run *r, struct bb_error *err) {
	struct decoding d = { 0 };
	bool ok = true;
	for (int i = 0; i < N_SIDES; i++) {
		d.seconds[i] = calloc((size_t)r->n_tokens, sizeof(double));
		ok = ok && d.seconds[i] != NULL;
	}
	ok = ok && make_contexts(r, &d, err) && decode(r, &d, err);
	if (ok) {
		report(r, &d);
	}
	for (int i = 0; i < N_SIDES; i++) {
		free(d.seconds[i]);
		for (int j = 0; j < r->n; j++) {
			bb_context_destroy(d.contexts[i][j]);
		}
	}
	return ok;
}

/* ---- main ---- */

static bool create(struct run *r, const struct bb_engine_params *params, struct bb_error *err) {
	uint32_t random = 2;
	if (!bb_engine_open(&r->engine, bb_models, params, err)) {
		return false;
	}
	bb_engine_info(r->engine, &r->info);
	const size_t n = (size_t)r->n;
	r->prompt = calloc((size_t)r->n_prompt, sizeof(*r->prompt));
	for (int i = 0; i < 2; i++) {
		r->drawn[i] = calloc(n * (size_t)r->n_tokens, sizeof(*r->drawn[i]));
		r->logits[i] = calloc(n * (size_t)r->info.n_vocab, sizeof(*r->logits[i]));
		if (r->prompt == NULL || r->drawn[i] == NULL || r->logits[i] == NULL) {
			snprintf(err->text, sizeof(err->text), "no memory");
			return false;
		}
	}
	for (int i = 0; i < r->n_prompt; i++) {
		r->prompt[i] = (int32_t)(next_random(&random) % (uint32_t)r->info.n_vocab);
	}
	printf("%s, %s, %s, KV of %s, %d threads: %d answers of %d tokens to a prompt of %d\n",
		r->info.name, r->info.cpu, r->info.isa, r->info.kv_type, r->info.n_threads, r->n,
		r->n_tokens, r->n_prompt);
	return true;
}

static void finish(struct run *r) {
	bb_engine_destroy(r->engine);
	free(r->prompt);
	for (int i = 0; i < 2; i++) {
		free(r->drawn[i]);
		free(r->logits[i]);
	}
}

int main(int argc, char **argv) {
	struct run r = { .n = argc > 2 ? atoi(argv[2]) : 16, .n_prompt = argc > 3 ? atoi(argv[3])
		: 4096, .n_tokens = argc > 4 ? atoi(argv[4]) : 128, .n_rounds = argc > 5 ? atoi(argv[5])
		: 3 };
	struct bb_engine_params params = { .path = argc > 1 ? argv[1] : NULL,
		.n_threads = argc > 6 ? atoi(argv[6]) : 0 };
	struct bb_error err = { .code = BB_OK };
	if (argc < 2 || argc > 8 || r.n < 2 || r.n > MAX_N || r.n_prompt < LEAST_PROMPT ||
		r.n_tokens < 1 || r.n_rounds < 0 || r.n_rounds > MAX_ROUNDS ||
		(argc > 7 && !bb_kv_type_parse(argv[7], &params.kv_type))) {
		fprintf(stderr, "usage: branches MODEL [N (2..%d) [PROMPT (%d..) [TOKENS [ROUNDS (0..%d) "
			"[THREADS [KV]]]]]]\n", MAX_N, LEAST_PROMPT, MAX_ROUNDS);
		return 2;
	}
	const bool ok = create(&r, &params, &err) && compare_decoding(&r, &err) &&
		(r.n_rounds == 0 || compare_requests(&r, &err));
	if (!ok && err.text[0] != '\0') {
		fprintf(stderr, "branches: %s\n", err.text);
	}
	finish(&r);
	return ok ? 0 : 1;
}
