/* SPDX-License-Identifier: Apache-2.0
 *
 * Rows before the head: the ones that taps see, with the same bits however they are computed; and
 * requests for them beside requests for answers, which they hold up by no step. */
#include "outcomes.h"

#include <math.h>

enum { LENGTH = 130, MAX_WIDTH = 1024 };

static struct bb_engine *open_on(const char *name, const char *device, bool taps) {
	const struct bb_engine_params params = { .path = tiny_path(name), .device = device,
		.n_threads = 1, .max_model_len = 512, .max_batch_tokens = 192, .taps = taps };
	return open_or_skip(&params);
}

static int width_of(const struct bb_engine *e) {
	const int width = hparam_int(&e->plan.hp, H_EMBD);
	cr_assert_leq(width, MAX_WIDTH);
	return width;
}

/* The row behind the last of these tokens, which are read so many at a time. */
static void read_hidden(struct bb_engine *e, const int32_t *ids, int n, int chunk, float *out) {
	struct bb_context *c = new_context(e);
	struct bb_error err = { 0 };
	for (int i = 0, m; i < n; i += m) {
		m = n - i < chunk ? n - i : chunk;
		const struct bb_step_item item = { .context = c, .tokens = ids + i, .n_tokens = m,
			.hidden = i + m == n ? out : NULL };
		cr_assert(bb_step(e, &item, 1, &err), "%s", err.text);
	}
	bb_context_destroy(c);
}

static void expect_row(const struct bb_engine *e, const float *want, const float *got,
	const char *what) {
	const int width = width_of(e);
	for (int i = 0; i < width; i++) {
		cr_assert(memcmp(&want[i], &got[i], sizeof(float)) == 0, "%s: [%d] is %.9g, expected %.9g",
			what, i, (double)got[i], (double)want[i]);
	}
}

/* Two rows in one step with a context that decodes, whose logits are none the wiser. */
static void check_beside(struct bb_engine *e, const int32_t *ids, int n, const float *want) {
	const size_t n_vocab = (size_t)vocab_of(e);
	float *alone = malloc(n_vocab * sizeof(float)), *beside = malloc(n_vocab * sizeof(float));
	float rows[2][MAX_WIDTH];
	struct bb_context *c[3] = { new_context(e), new_context(e), new_context(e) }, *fork;
	struct bb_error err = { 0 };
	for (int i = 0; i < 2; i++) {
		cr_assert(bb_prefill(c[i], ids, (size_t)n - 1, NULL, NULL, NULL, &err), "%s", err.text);
	}
	cr_assert(bb_context_fork(&fork, c[1], &err), "%s", err.text);
	struct bb_step_item items[3] = {
		{ .context = c[0], .tokens = ids + n - 1, .n_tokens = 1, .hidden = rows[0] },
		{ .context = c[1], .tokens = ids, .n_tokens = 1, .logits = alone },
		{ .context = c[2], .tokens = ids, .n_tokens = n, .hidden = rows[1] },
	};
	cr_assert(bb_step(e, &items[1], 1, &err), "%s", err.text);
	items[1].context = fork;
	items[1].logits = beside;
	cr_assert(bb_step(e, items, 3, &err), "%s", err.text);
	expect_row(e, want, rows[0], "beside a decoding context, its last token");
	expect_row(e, want, rows[1], "beside a decoding context, whole");
	cr_assert_eq(memcmp(alone, beside, n_vocab * sizeof(float)), 0);
	for (int i = 0; i < 3; i++) {
		bb_context_destroy(c[i]);
	}
	bb_context_destroy(fork);
	free(alone);
	free(beside);
}

static void check_bits(const char *name, const char *device, float *want) {
	struct bb_engine *e = open_on(name, device, false);
	int32_t ids[LENGTH];
	float got[MAX_WIDTH];
	make_ids(ids, LENGTH, vocab_of(e), 3);
	read_hidden(e, ids, LENGTH, LENGTH, want);
	read_hidden(e, ids, LENGTH, 50, got);
	expect_row(e, want, got, name);
	check_beside(e, ids, LENGTH, want);
	bb_engine_destroy(e);
}

static void take(void *user, const struct bb_tap_rows *rows) {
	memcpy(user, rows->rows + (size_t)(rows->n_rows - 1) * (size_t)rows->site->width,
		(size_t)rows->site->width * sizeof(float));
}

static void check_tap(const char *name, const float *got) {
	struct bb_engine *e = open_on(name, NULL, true);
	float want[MAX_WIDTH];
	const struct bb_tap tap = { .at = "unembed:h", .fn = take, .user = want };
	const struct bb_taps taps = { .taps = &tap, .n_taps = 1 };
	int32_t ids[LENGTH];
	struct bb_error err = { 0 };
	struct bb_context *c = new_context(e);
	float *logits = malloc((size_t)vocab_of(e) * sizeof(*logits));
	make_ids(ids, LENGTH, vocab_of(e), 3);
	cr_assert(bb_taps_attach(e, &taps, &err), "%s", err.text);
	cr_assert(bb_prefill(c, ids, LENGTH, logits, NULL, NULL, &err), "%s", err.text);
	expect_row(e, want, got, name);
	free(logits);
	bb_context_destroy(c);
	bb_engine_destroy(e);
}

Test(hidden, is_what_taps_see) {
	static const char *const names[] = { "llama", "llama-quantised", "gemma3", "mamba2", "rwkv7",
		"granitehybrid" };
	for (size_t i = 0; i < COUNT(names); i++) {
		float row[MAX_WIDTH];
		check_bits(names[i], NULL, row);
		check_tap(names[i], row);
	}
}

Test(hidden, is_the_same_on_a_device, .timeout = 200) {
	static const char *const names[] = { "llama-quantised", "gemma3", "mamba2" };
	for (size_t i = 0; i < COUNT(names); i++) {
		float cpu[MAX_WIDTH], there[MAX_WIDTH];
		check_bits(names[i], test_device(), there);
		check_bits(names[i], NULL, cpu);
		struct bb_engine *e = open_on(names[i], NULL, false);
		double off = 0, all = 0;
		for (int k = 0; k < width_of(e); k++) {
			off += pow((double)cpu[k] - (double)there[k], 2);
			all += pow((double)cpu[k], 2);
		}
		cr_assert(sqrt(off / all) < 0.02, "%s: %.2e of its length apart", names[i],
			sqrt(off / all));
		bb_engine_destroy(e);
	}
}

/* ---- requests ---- */

static struct bb_request_params hidden_request(const int32_t *ids, int n) {
	return (struct bb_request_params){ .prompt = ids, .n_prompt = (size_t)n,
		.wants_hidden = true };
}

enum { N_REQUESTS = 30 };

/* Every second one wants a row, beside others that want an answer, and are put aside. */
static void check_mixed(const char *name, int tokens, size_t states, bool swaps) {
	static int32_t prompts[N_REQUESTS][LENGTH];
	static struct outcome outcomes[N_REQUESTS];
	static float rows[N_REQUESTS][MAX_WIDTH];
	struct bb_request_params requests[N_REQUESTS];
	struct bb_engine_params params = { .path = tiny_path(name), .max_model_len = 512 };
	struct bb_engine *e = open_with(&params);
	params.max_kv_bytes = engine_kv_bytes(e, tokens) + states * e->states.bytes;
	bb_engine_destroy(e);
	e = open_with(&params);
	const struct bb_scheduler_params sp = { .max_running = 8, .max_step_tokens = 64,
		.max_swap_bytes = swaps ? 0 : 1 };
	struct bb_scheduler *s = new_scheduler(e, &sp);
	memset(outcomes, 0, sizeof(outcomes));
	for (int i = 0; i < N_REQUESTS; i++) {
		const int n = 1 + i * 53 % LENGTH;
		make_ids(prompts[i], LENGTH, vocab_of(e), 1 + i % 4);
		requests[i] = i % 2 == 0 ? hidden_request(prompts[i], n)
			: request(e, prompts[i], n, 15, (uint64_t)i);
		requests[i].priority = -i / 5; /* who comes later goes first */
		outcomes[i].hidden = rows[i];
		submit(s, requests[i], &outcomes[i]);
		if (i % 10 == 6) {
			bb_request_cancel(outcomes[i].request);
		}
		bool idle;
		step(s, &idle);
	}
	run_all(s);
	struct bb_scheduler_stats stats;
	bb_scheduler_stats(s, &stats);
	cr_assert((swaps ? stats.n_swapped : stats.n_dropped) > 0, "nobody was put aside");
	bb_scheduler_destroy(s);
	for (int i = 0; i < N_REQUESTS; i++) {
		struct outcome *o = &outcomes[i];
		cr_assert(o->has_ended && o->error.code == BB_OK, "%s", o->error.text);
		bb_request_release(o->request);
		if (i % 2 != 0) {
			expect_alone(e, &requests[i], 0, o);
			continue;
		}
		const bool is_cancelled = i % 10 == 6;
		float want[MAX_WIDTH];
		cr_assert_eq(o->finish[0], is_cancelled ? BB_FINISH_CANCELLED : BB_FINISH_STOP);
		cr_assert_eq(o->n_tokens, 0);
		cr_assert_eq(o->usage.n_output, 0);
		cr_assert_eq(o->n_hidden, is_cancelled ? 0 : width_of(e));
		if (!is_cancelled) {
			read_hidden(e, prompts[i], (int)requests[i].n_prompt, LENGTH, want);
			expect_row(e, want, rows[i], name);
		}
	}
	cr_assert_eq(e->n_contexts, 0);
	bb_engine_destroy(e);
}

Test(hidden, comes_beside_answers, .timeout = 120) {
	check_mixed("llama", 400, 0, true);
	check_mixed("llama", 400, 0, false);
	check_mixed("falcon-h1", 400, 4, true);
	check_mixed("falcon-h1", 400, 4, false);
}

/* Who writes gets a token in each step while long texts are read. */
Test(hidden, holds_up_nobody) {
	enum { N = 480, N_TEXTS = 4 };
	struct bb_engine *e = open_on("llama", NULL, false);
	const struct bb_scheduler_params sp = { .max_step_tokens = 64 };
	struct bb_scheduler *s = new_scheduler(e, &sp);
	static int32_t ids[N_TEXTS][N];
	static float rows[N_TEXTS][MAX_WIDTH];
	struct outcome chat = { 0 }, texts[N_TEXTS] = { 0 };
	bool idle;
	make_ids(ids[0], 5, vocab_of(e), 1);
	struct bb_request_params p = request(e, ids[0], 5, MAX_OUT - 1, 1);
	p.generation.sampling.ignore_eos = true;
	submit(s, p, &chat);
	step(s, &idle);
	cr_assert_eq(chat.n_tokens, 1);
	for (int i = 0; i < N_TEXTS; i++) {
		make_ids(ids[i], N, vocab_of(e), 2 + i);
		texts[i].hidden = rows[i];
		submit(s, hidden_request(ids[i], N), &texts[i]);
	}
	int n_steps = 1;
	while (!chat.has_ended) {
		step(s, &idle);
		cr_assert_eq(chat.n_tokens, ++n_steps, "step %d gave no token", n_steps);
	}
	run_all(s);
	for (int i = 0; i < N_TEXTS; i++) {
		cr_assert(texts[i].has_ended && texts[i].n_hidden > 0);
		bb_request_release(texts[i].request);
	}
	bb_request_release(chat.request);
	bb_scheduler_destroy(s);
	bb_engine_destroy(e);
}

/* They use what the prefix cache has, and leave nothing there. */
Test(hidden, takes_prefixes_and_leaves_none) {
	struct bb_engine *e = open_on("llama", NULL, false);
	struct bb_scheduler *s = new_scheduler(e, NULL);
	static const int want[] = { 0, 0, 0, LENGTH - 1 };
	int32_t ids[LENGTH];
	float rows[COUNT(want)][MAX_WIDTH];
	make_ids(ids, LENGTH, vocab_of(e), 5);
	for (size_t i = 0; i < COUNT(want); i++) {
		struct outcome o = { .hidden = rows[i] };
		submit(s, i == 2 ? request(e, ids, LENGTH, 3, 1) : hidden_request(ids, LENGTH), &o);
		run_all(s);
		cr_assert_eq(o.usage.n_cached, want[i], "request %zu: %d are cached", i, o.usage.n_cached);
		bb_request_release(o.request);
	}
	expect_row(e, rows[0], rows[3], "behind a cached prefix");
	bb_scheduler_destroy(s);
	bb_engine_destroy(e);
}

Test(hidden, of_a_text_as_long_as_a_context) {
	struct bb_engine *e = open_on("llama", NULL, false);
	struct bb_scheduler *s = new_scheduler(e, NULL);
	static int32_t ids[513];
	float row[MAX_WIDTH];
	struct outcome o = { .hidden = row };
	struct bb_error err = { 0 };
	struct bb_request *r;
	make_ids(ids, 513, vocab_of(e), 5);
	submit(s, hidden_request(ids, 512), &o);
	run_all(s);
	cr_assert(o.has_ended && o.n_hidden > 0);
	bb_request_release(o.request);
	struct bb_request_params p = hidden_request(ids, 513);
	p.event = on_event;
	cr_assert(!bb_request_submit(&r, s, &p, &err) && r == NULL);
	cr_assert_eq(err.code, BB_ERR_CONTEXT);
	cr_assert_str_eq(err.text, "the prompt has 513 tokens, and contexts hold at most 512");
	bb_scheduler_destroy(s);
	bb_engine_destroy(e);
}

/* No memory for the rows fails the request alone, and the next one has them. */
Test(hidden, every_failed_allocation_ends_in_a_sentence) {
	struct bb_engine *e = open_on("llama", NULL, false);
	int32_t ids[LENGTH];
	make_ids(ids, LENGTH, vocab_of(e), 5);
	long n_allocs = 1;
	int n_failed = 0;
	for (long n = 0; n <= n_allocs; n++) { /* 0: none fails */
		float row[MAX_WIDTH];
		struct outcome o = { .hidden = row };
		struct bb_error err = { 0 };
		struct bb_scheduler *s = new_scheduler(e, NULL);
		struct bb_request_params p = hidden_request(ids, LENGTH);
		p.event = on_event;
		p.user = &o;
		const long before = base_count_allocs();
		base_fail_alloc_at(n);
		const bool ok = bb_request_submit(&o.request, s, &p, &err);
		if (ok) {
			run_all(s);
		}
		base_fail_alloc_at(0);
		n_allocs = n == 0 ? base_count_allocs() - before : n_allocs;
		const bool done = ok && o.n_hidden > 0 && o.error.code == BB_OK;
		cr_assert(done || (n > 0 && (ok ? &o.error : &err)->code == BB_ERR_MEMORY));
		n_failed += !done;
		bb_request_release(o.request);
		bb_scheduler_destroy(s);
	}
	cr_assert_gt(n_failed, 5);
	bb_engine_destroy(e);
}
