/* SPDX-License-Identifier: Apache-2.0
 *
 * Vectors where tokens would stand: those of tokens' embeddings give the bits of the tokens,
 * however rows are cut, forked, rewound, saved, put aside or found in the prefix cache; they live
 * as long as somebody needs them, and no longer; what can't be a vector is refused. */
#include "outcomes.h"

#include <float.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

enum { N_ROWS = 150 };

static struct bb_engine *open_on(const char *name, const char *device) {
	const struct bb_engine_params params = { .path = tiny_path(name), .device = device,
		.n_threads = 1, .kv_type = BB_KV_F16, .max_model_len = 1024, .max_batch_tokens = 192 };
	return open_or_skip(&params);
}

static int width_of(const struct bb_engine *e) {
	return hparam_int(&e->plan.hp, H_EMBD);
}

/* What the embedding gives for tokens [n, width], as the file has it. */
static float *rows_of(const struct bb_engine *e, const int32_t *ids, int n) {
	const struct plan_op *o = &e->plan.embed.ops[0];
	const size_t width = (size_t)width_of(e);
	float *rows = malloc((size_t)n * width * sizeof(*rows));
	cr_assert_eq(o->kind, OP_EMBED);
	for (int i = 0; i < n; i++) {
		float *row = rows + (size_t)i * width;
		dtype_decode(row, (const uint8_t *)o->table->data +
			(size_t)ids[i] * dtype_row_bytes(o->table->type, (int64_t)width), o->table->type,
			(int64_t)width);
		for (size_t c = 0; c < width && e->model->embed_is_scaled; c++) {
			row[c] *= o->scalar[0];
		}
	}
	return rows;
}

static struct bb_vectors *vectors_of(struct bb_engine *e, const int32_t *ids, int n) {
	float *rows = rows_of(e, ids, n);
	struct bb_vectors *v;
	struct bb_error err = { 0 };
	cr_assert(bb_vectors_create(&v, e, rows, n, &err), "%s", err.text);
	cr_assert_eq(bb_vectors_count(v), n);
	free(rows);
	return v;
}

/* Some of the tokens become vectors: a run of them, then every third. */
static void mix(int32_t *mixed, const int32_t *ids, const int32_t *vectors, int n) {
	for (int i = 0; i < n; i++) {
		const bool is_vector = (i >= 10 && i < 70) || i % 3 == 0;
		mixed[i] = is_vector ? vectors[i] : ids[i];
	}
}

static void feed_in(struct bb_context *c, const int32_t *ids, int n, int chunk, float *logits) {
	const int n_vocab = vocab_of(c->engine);
	for (int i = 0, m; i < n; i += m) {
		m = n - i < chunk ? n - i : chunk;
		feed(c, c->engine, ids + i, m, logits + (size_t)i * (size_t)n_vocab);
	}
}

static void check_rows(const char *name, const char *device) {
	struct bb_engine *e = open_on(name, device);
	const size_t n_vocab = (size_t)vocab_of(e), bytes = N_ROWS * n_vocab * sizeof(float);
	int32_t ids[N_ROWS], mixed[N_ROWS];
	float *want = malloc(bytes), *got = malloc(bytes);
	make_ids(ids, N_ROWS, (int)n_vocab, 3);
	struct bb_vectors *v = vectors_of(e, ids, N_ROWS);
	mix(mixed, ids, bb_vectors_ids(v), N_ROWS);
	struct bb_context *c = new_context(e);
	feed_in(c, ids, N_ROWS, N_ROWS, want);
	bb_context_destroy(c);
	static const int chunks[] = { N_ROWS, 37, 1 };
	for (size_t i = 0; i < COUNT(chunks); i++) {
		const int n = chunks[i] > 1 || is_whole() ? N_ROWS : 20;
		c = new_context(e);
		feed_in(c, mixed, n, chunks[i], got);
		cr_assert_eq(memcmp(want, got, (size_t)n * n_vocab * sizeof(float)), 0,
			"%s, %d at a time: vectors give other bits", name, chunks[i]);
		cr_assert_eq(memcmp(bb_context_tokens(c), mixed, (size_t)n * sizeof(*mixed)), 0);
		bb_context_destroy(c);
	}
	bb_vectors_destroy(v);
	free(want);
	free(got);
	bb_engine_destroy(e);
}

Test(vectors, of_tokens_give_the_bits_of_tokens) {
	static const char *const names[] = { "llama", "llama-quantised", "gemma3", "qwen2", "mamba2",
		"falcon-h1", "granitehybrid", "rwkv7", "recurrent_gemma", "zamba2" };
	for (size_t i = 0; i < COUNT(names); i++) {
		check_rows(names[i], NULL);
	}
}

Test(vectors, of_tokens_give_the_bits_of_tokens_on_a_device, .timeout = 200) {
	check_rows("llama-quantised", test_device());
	check_rows("gemma3", test_device());
	check_rows("granitehybrid", test_device());
}

/* Steps of one row each are captured on a device: a vector's isn't, and those behind it are. */
Test(vectors, stand_beside_what_decodes, .timeout = 100) {
	struct bb_engine *e = open_on("llama", test_device());
	enum { N = 12 };
	const size_t n_vocab = (size_t)vocab_of(e);
	int32_t ids[N];
	make_ids(ids, N, (int)n_vocab, 8);
	struct bb_vectors *v = vectors_of(e, ids, N);
	struct bb_context *c[3] = { new_context(e), new_context(e), new_context(e) };
	float *logits = malloc(3 * n_vocab * sizeof(*logits));
	struct bb_error err = { 0 };
	for (int i = 0; i < N; i++) {
		struct bb_step_item items[3];
		for (int k = 0; k < 3; k++) {
			const bool is_vector = k == 1 ? i % 4 == 1 : k == 2 && i % 2 == 0 && i < 6;
			items[k] = (struct bb_step_item){ .context = c[k], .n_tokens = 1,
				.tokens = is_vector ? bb_vectors_ids(v) + i : ids + i,
				.logits = logits + (size_t)k * n_vocab };
		}
		cr_assert(bb_step(e, items, 3, &err), "%s", err.text);
		cr_assert_eq(memcmp(logits, logits + n_vocab, n_vocab * sizeof(float)), 0, "step %d", i);
		cr_assert_eq(memcmp(logits, logits + 2 * n_vocab, n_vocab * sizeof(float)), 0);
	}
	free(logits);
	for (int k = 0; k < 3; k++) {
		bb_context_destroy(c[k]);
	}
	bb_vectors_destroy(v);
	bb_engine_destroy(e);
}

/* ---- contexts ---- */

/* The logits behind the last of these tokens. */
static float *last_of(struct bb_context *c, const int32_t *ids, int n) {
	float *logits = malloc((size_t)vocab_of(c->engine) * sizeof(*logits));
	struct bb_error err = { 0 };
	cr_assert(bb_prefill(c, ids, (size_t)n, logits, NULL, NULL, &err), "%s", err.text);
	return logits;
}

static void expect_same(const struct bb_engine *e, float *want, float *got, const char *what) {
	cr_assert_eq(memcmp(want, got, (size_t)vocab_of(e) * sizeof(float)), 0, "%s", what);
	free(got);
}

/* A recurrent layer reads vectors again for a rewind, though who made them has let them go. */
static void check_timeline(const char *name) {
	enum { N = 700, CUT = 630, N_OTHER = 40 };
	struct bb_engine *e = open_on(name, NULL);
	int32_t ids[N + N_OTHER], mixed[N + N_OTHER];
	make_ids(ids, N + N_OTHER, vocab_of(e), 4);
	struct bb_vectors *v = vectors_of(e, ids, N + N_OTHER);
	mix(mixed, ids, bb_vectors_ids(v), N + N_OTHER);
	struct bb_error err = { 0 };
	struct bb_context *c = new_context(e), *other = new_context(e), *fork;
	int32_t branch[CUT + N_OTHER];
	memcpy(branch, ids, CUT * sizeof(*ids));
	memcpy(branch + CUT, ids + N, N_OTHER * sizeof(*ids));
	float *want = last_of(other, branch, CUT + N_OTHER);
	float *first = last_of(c, mixed, N);
	int32_t tail[N_OTHER];
	memcpy(tail, mixed + N, sizeof(tail));
	cr_assert(bb_context_fork(&fork, c, &err), "%s", err.text);
	bb_vectors_destroy(v);
	bb_context_destroy(c);
	cr_assert(bb_context_rewind(fork, CUT, &err), "%s", err.text);
	float *got = last_of(fork, ids + N, N_OTHER);
	expect_same(e, want, got, "a fork, rewound");
	cr_assert(bb_context_rewind(fork, 1, &err), "%s", err.text);
	expect_same(e, first, last_of(fork, ids + 1, N - 1), "a vector, then tokens");
	/* the ids of the tail's vectors are gone with them */
	int n_gone = 0;
	for (int i = 0; i < N_OTHER; i++) {
		n_gone += vectors_is(tail[i]) && !vectors_has(e->vectors, tail[i]);
	}
	cr_assert_gt(n_gone, 0);
	cr_assert(!bb_prefill(fork, tail, N_OTHER, NULL, NULL, NULL, &err));
	cr_assert_eq(err.code, BB_ERR_INPUT);
	cr_assert(strstr(err.text, "expected 0 to") != NULL, "%s", err.text);
	free(want);
	free(first);
	bb_context_destroy(fork);
	bb_context_destroy(other);
	bb_engine_destroy(e);
}

Test(vectors, are_forked_and_rewound) {
	check_timeline("llama");
	check_timeline("mamba2");
	check_timeline("falcon-h1");
}

/* What a context has forgotten goes when it makes room for others. */
Test(vectors, that_were_forgotten_go) {
	struct bb_engine *e = open_on("llama", NULL);
	enum { N = 100 };
	struct bb_context *c = new_context(e);
	struct bb_error err = { 0 };
	int32_t first = 0;
	for (int turn = 0; turn < 20; turn++) {
		int32_t ids[N];
		make_ids(ids, N, vocab_of(e), 50 + turn);
		float *rows = rows_of(e, ids, N);
		for (int i = 0; i < N; i++) {
			rows[i * width_of(e)] = (float)(turn * N + i); /* no two are alike */
		}
		struct bb_vectors *v;
		cr_assert(bb_vectors_create(&v, e, rows, N, &err), "%s", err.text);
		free(rows);
		cr_assert(bb_prefill(c, bb_vectors_ids(v), N, NULL, NULL, NULL, &err), "%s", err.text);
		first = bb_vectors_ids(v)[0];
		bb_vectors_destroy(v);
		cr_assert(vectors_has(e->vectors, first));
		cr_assert(bb_context_rewind(c, 0, &err), "%s", err.text);
		cr_assert_gt(first, -2 - 4 * N, "turn %d has id %d", turn, first);
	}
	bb_context_destroy(c);
	cr_assert(!vectors_has(e->vectors, first));
	bb_engine_destroy(e);
}

static void check_saved(const char *name) {
	struct bb_engine *e = open_on(name, NULL);
	char path[64];
	snprintf(path, sizeof(path), "/tmp/bobbin-vectors-%d", (int)getpid());
	int32_t ids[N_ROWS], mixed[N_ROWS];
	make_ids(ids, N_ROWS, vocab_of(e), 6);
	struct bb_vectors *v = vectors_of(e, ids, N_ROWS);
	mix(mixed, ids, bb_vectors_ids(v), N_ROWS);
	struct bb_context *c = new_context(e);
	struct bb_error err = { 0 };
	cr_assert(bb_prefill(c, mixed, N_ROWS - 9, NULL, NULL, NULL, &err), "%s", err.text);
	cr_assert(bb_context_save(c, path, &err), "%s", err.text);
	float *want = last_of(c, ids + N_ROWS - 9, 9);
	bb_context_destroy(c);
	bb_vectors_destroy(v);
	bb_engine_destroy(e);
	e = open_on(name, NULL);
	bool is_same;
	for (int turn = 0; turn < 2; turn++) {
		cr_assert(bb_context_load(&c, e, path, &is_same, &err) && is_same, "%s", err.text);
		cr_assert_eq(bb_context_length(c), N_ROWS - 9);
		for (int i = 0; i < N_ROWS - 9; i++) {
			cr_assert(mixed[i] == ids[i] ? bb_context_tokens(c)[i] == ids[i]
				: vectors_is(bb_context_tokens(c)[i]), "token %d", i);
		}
		cr_assert(bb_context_save(c, path, &err), "%s", err.text);
		/* rows of one make another's ids: a rewind reads them again */
		cr_assert(bb_context_rewind(c, N_ROWS - 20, &err), "%s", err.text);
		expect_same(e, want, last_of(c, ids + N_ROWS - 20, 20), "a loaded context");
		bb_context_destroy(c);
	}
	free(want);
	unlink(path);
	bb_engine_destroy(e);
}

Test(vectors, are_saved) {
	check_saved("llama");
	check_saved("mamba2");
}

/* A file that was forged, checksum and all, byte by byte: what it says of vectors is held against
 * its tokens, and those that were read until then are let go, which the engine's end asks for. */
Test(vectors, of_a_forged_file_fit_its_tokens) {
	enum { N = 5, BEGINNING = 2000 }; /* the head, vectors, ids */
	static uint8_t bytes[1 << 20];
	struct bb_engine *e = open_on("llama", NULL);
	int32_t ids[N], mixed[N];
	char path[64];
	snprintf(path, sizeof(path), "/tmp/bobbin-vectors-%d", (int)getpid());
	make_ids(ids, N, vocab_of(e), 6);
	struct bb_vectors *v = vectors_of(e, ids, N);
	mix(mixed, ids, bb_vectors_ids(v), N);
	struct bb_context *c = new_context(e);
	struct bb_error err = { 0 };
	cr_assert(bb_prefill(c, mixed, N, NULL, NULL, NULL, &err), "%s", err.text);
	cr_assert(bb_context_save(c, path, &err), "%s", err.text);
	bb_context_destroy(c);
	bb_vectors_destroy(v);
	FILE *f = fopen(path, "r+b");
	cr_assert_not_null(f);
	setbuf(f, NULL);
	const size_t n = fread(bytes, 1, sizeof(bytes), f);
	cr_assert(n > BEGINNING && n < sizeof(bytes));
	int n_misfits = 0, n_loaded = 0;
	for (size_t i = 0; i < BEGINNING; i++) {
		bytes[i] ^= 0x41;
		const XXH64_hash_t hash = XXH3_64bits(bytes, n - sizeof(hash));
		memcpy(bytes + n - sizeof(hash), &hash, sizeof(hash));
		rewind(f);
		cr_assert_eq(fwrite(bytes, 1, n, f), n);
		struct bb_error why = { 0 };
		const bool ok = bb_context_load(&c, e, path, NULL, &why);
		cr_assert(ok || (c == NULL && why.text[0] != '\0'), "byte %zu", i);
		n_misfits += strstr(why.text, "its vectors don't fit its tokens") != NULL;
		n_loaded += ok;
		bb_context_destroy(c);
		bytes[i] ^= 0x41;
	}
	cr_assert(n_misfits > 0 && n_loaded > 0, "%d misfits, %d loaded", n_misfits, n_loaded);
	fclose(f);
	unlink(path);
	bb_engine_destroy(e);
}

/* Every call that makes or uses vectors, with each allocation failing in turn. */
Test(vectors, every_failed_allocation_loses_nothing) {
	struct bb_engine *e = open_on("llama", NULL);
	int32_t ids[N_ROWS];
	make_ids(ids, N_ROWS, vocab_of(e), 6);
	float *rows = rows_of(e, ids, N_ROWS);
	char path[64];
	snprintf(path, sizeof(path), "/tmp/bobbin-vectors-%d", (int)getpid());
	bool done = false;
	int n_failed = 0;
	for (int n = 1; !done; n++) {
		struct bb_vectors *v = NULL;
		struct bb_context *c = NULL, *fork = NULL, *loaded = NULL;
		struct bb_error err = { 0 };
		base_fail_alloc_at(n);
		done = bb_vectors_create(&v, e, rows, N_ROWS, &err) &&
			bb_context_create(&c, e, NULL, &err) &&
			bb_prefill(c, bb_vectors_ids(v), 50, NULL, NULL, NULL, &err) &&
			bb_context_fork(&fork, c, &err) &&
			bb_prefill(c, bb_vectors_ids(v) + 50, 50, NULL, NULL, NULL, &err) &&
			bb_prefill(fork, bb_vectors_ids(v) + 60, 50, NULL, NULL, NULL, &err) &&
			bb_context_save(fork, path, &err) && bb_context_load(&loaded, e, path, NULL, &err);
		base_fail_alloc_at(0);
		cr_assert(done || err.code == BB_ERR_MEMORY, "%s", err.text);
		n_failed += !done;
		bb_vectors_destroy(v);
		bb_context_destroy(c);
		bb_context_destroy(fork);
		bb_context_destroy(loaded);
	}
	cr_assert_gt(n_failed, 20);
	unlink(path);
	free(rows);
	bb_engine_destroy(e);
}

/* ---- requests ---- */

enum { N_REQUESTS = 24, PROMPT = 120 };

/* Requests whose prompts are vectors, beside each other and some twice, are what the same tokens
 * are alone. */
static void check_requests(const char *name, size_t tokens, size_t states, bool swaps) {
	static int32_t prompts[N_REQUESTS][PROMPT], mixed[PROMPT];
	static struct outcome outcomes[N_REQUESTS];
	struct bb_request_params requests[N_REQUESTS];
	struct bb_engine_params params = { .path = tiny_path(name), .max_model_len = 512 };
	struct bb_engine *e = open_with(&params);
	params.max_kv_bytes = engine_kv_bytes(e, (int)tokens) + states * e->states.bytes;
	bb_engine_destroy(e);
	e = open_with(&params);
	const struct bb_scheduler_params sp = { .max_running = 8, .max_step_tokens = 48,
		.max_swap_bytes = swaps ? 0 : 1, .clock = stopped_clock };
	struct bb_scheduler *s = new_scheduler(e, &sp);
	memset(outcomes, 0, sizeof(outcomes));
	for (int i = 0; i < N_REQUESTS; i++) {
		make_ids(prompts[i], PROMPT, vocab_of(e), 1 + i / 2);
		struct bb_vectors *v = vectors_of(e, prompts[i], PROMPT);
		mix(mixed, prompts[i], bb_vectors_ids(v), PROMPT);
		requests[i] = request(e, i % 3 == 2 ? bb_vectors_ids(v) : mixed, PROMPT, 20, (uint64_t)i);
		requests[i].n = i % 5 == 4 ? 2 : 1;
		requests[i].priority = -i / 4; /* who comes later goes first */
		requests[i].generation.sampling.frequency_penalty = 0.5f;
		outcomes[i].cancel_at = i % 9 == 8 ? 3 : 0;
		submit(s, requests[i], &outcomes[i]);
		bb_vectors_destroy(v);
		bool idle;
		step(s, &idle);
	}
	run_all(s);
	struct bb_scheduler_stats stats;
	bb_scheduler_stats(s, &stats);
	cr_assert((swaps ? stats.n_swapped : stats.n_dropped) > 0, "nobody was put aside");
	cr_assert_gt(stats.n_cached_tokens, 0, "nobody shared a beginning");
	bb_scheduler_destroy(s);
	for (int i = 0; i < N_REQUESTS; i++) {
		cr_assert_eq(outcomes[i].error.code, BB_OK, "%s", outcomes[i].error.text);
		requests[i].prompt = prompts[i];
		expect_alone(e, &requests[i], 0, &outcomes[i]);
		bb_request_release(outcomes[i].request);
	}
	bb_engine_destroy(e);
}

Test(vectors, in_prompts_are_put_aside) {
	check_requests("llama", 500, 0, true);
	check_requests("llama", 500, 0, false);
	check_requests("falcon-h1", 500, 4, true);
	check_requests("falcon-h1", 500, 4, false);
}

/* The cache knows a prompt again by the bytes of its vectors, and no other. */
Test(vectors, are_found_in_the_cache_by_their_bytes) {
	struct bb_engine *e = open_on("llama", NULL);
	struct bb_scheduler *s = new_scheduler(e, NULL);
	int32_t ids[PROMPT];
	make_ids(ids, PROMPT, vocab_of(e), 9);
	float *rows = rows_of(e, ids, PROMPT);
	static const int want[] = { 0, PROMPT - 1, 80, 0, PROMPT - 1 };
	for (size_t i = 0; i < COUNT(want); i++) {
		struct outcome o = { 0 };
		struct bb_vectors *v;
		struct bb_error err = { 0 };
		rows[80 * width_of(e)] += i == 2;
		cr_assert(bb_vectors_create(&v, e, rows, PROMPT, &err), "%s", err.text);
		submit(s, request(e, i == 3 ? ids : bb_vectors_ids(v), PROMPT, 3, 1), &o);
		bb_vectors_destroy(v);
		run_all(s);
		cr_assert_eq(o.usage.n_cached, want[i], "request %zu: %d are cached", i, o.usage.n_cached);
		bb_request_release(o.request);
	}
	free(rows);
	bb_scheduler_destroy(s);
	bb_engine_destroy(e);
}

/* What the cache keeps has no more bytes of vectors than of what its limit counts. */
Test(vectors, that_are_larger_than_their_context_are_not_kept) {
	static const struct {
		const char *name;
		int n;
		bool is_kept;
	} all[] = { { "llama", 400, true }, { "mamba2", 5, true }, { "mamba2", 400, false } };
	for (size_t i = 0; i < COUNT(all); i++) {
		struct bb_engine *e = open_on(all[i].name, NULL);
		struct bb_scheduler *s = new_scheduler(e, NULL);
		int32_t ids[400];
		struct outcome o = { 0 };
		make_ids(ids, all[i].n, vocab_of(e), 9);
		struct bb_vectors *v = vectors_of(e, ids, all[i].n);
		const int32_t first = bb_vectors_ids(v)[0];
		submit(s, request(e, bb_vectors_ids(v), all[i].n, 2, 1), &o);
		bb_vectors_destroy(v);
		run_all(s);
		cr_assert(o.has_ended);
		cr_assert_eq(vectors_has(e->vectors, first), all[i].is_kept, "%s, %d", all[i].name,
			all[i].n);
		bb_request_release(o.request);
		bb_scheduler_destroy(s);
		cr_assert(!vectors_has(e->vectors, first));
		bb_engine_destroy(e);
	}
}

/* ---- what is refused ---- */

/* A row that is short enough until the model multiplies it, as it does with a token's. */
Test(vectors, are_refused_where_the_model_makes_them_too_long) {
	static const char *const names[] = { "llama", "recurrent_gemma" };
	for (size_t i = 0; i < COUNT(names); i++) {
		struct bb_engine *e = open_on(names[i], NULL);
		float *row = calloc((size_t)width_of(e), sizeof(*row));
		struct bb_vectors *v;
		struct bb_error err = { 0 };
		row[1] = 1e19f;
		const bool ok = bb_vectors_create(&v, e, row, 1, &err);
		cr_assert_eq(ok, i == 0, "%s: %s", names[i], err.text);
		cr_assert(ok || strstr(err.text, "vector 0 is 1e+19 long, which times") != NULL, "%s",
			err.text);
		bb_vectors_destroy(v);
		free(row);
		bb_engine_destroy(e);
	}
}

Test(vectors, what_is_none_is_refused_in_a_sentence) {
	struct bb_engine *e = open_on("llama", NULL);
	struct bb_vectors *v;
	const int width = width_of(e);
	static const struct {
		float bad;
		const char *says;
	} all[] = {
		{ NAN, "vector 1 has nan at index 2" }, { -INFINITY, "vector 1 has -inf at index 2" },
		{ FLT_MAX, "vector 1 is 3.4e+38 long" },
	};
	float *rows = calloc(2 * (size_t)width, sizeof(*rows));
	for (size_t i = 0; i < COUNT(all); i++) {
		struct bb_error err = { 0 };
		rows[width + 2] = all[i].bad;
		cr_assert(!bb_vectors_create(&v, e, rows, 2, &err) && v == NULL);
		cr_assert_eq(err.code, BB_ERR_INPUT);
		cr_assert(strstr(err.text, all[i].says) != NULL, "%s", err.text);
	}
	rows[width + 2] = 1;
	struct bb_error err = { 0 };
	cr_assert(bb_vectors_create(&v, e, rows, 2, &err), "%s", err.text);
	struct bb_scheduler *s = new_scheduler(e, NULL);
	struct bb_request_params p = request(e, bb_vectors_ids(v), 2, 3, 1);
	struct bb_request *r;
	p.event = on_event;
	p.n_prompt_logprobs = 1;
	cr_assert(!bb_request_submit(&r, s, &p, &err));
	cr_assert(strstr(err.text, "expected 0 for a prompt with vectors") != NULL, "%s", err.text);
	static const int32_t strange[] = { -1, -5, INT32_MIN };
	for (size_t i = 0; i < COUNT(strange); i++) {
		struct bb_error none = { 0 };
		p.prompt = &strange[i];
		p.n_prompt = 1;
		p.n_prompt_logprobs = 0;
		cr_assert(!bb_request_submit(&r, s, &p, &none));
		cr_assert_eq(none.code, BB_ERR_INPUT, "%s", none.text);
	}
	free(rows);
	bb_scheduler_destroy(s);
	bb_vectors_destroy(v);
	bb_engine_destroy(e);
}
