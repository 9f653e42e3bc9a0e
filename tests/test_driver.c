/* SPDX-License-Identifier: Apache-2.0
 *
 * What the engine asks of a device's driver, and when: nothing new in a step like one before, which
 * steps stay captured, work that is done as late as may be, queues and captures that can't be had.
 * The emulator counts, delays and refuses; a GPU plays the rest. */
#include "on_device.h"

#include "draw.h"
#include "sample.h"
#include "upload.h"

/* ---- captured steps ---- */

/* A graph with nothing in it for a kind of step that never comes. */
static void occupy(struct bb_engine *e, int i) {
	char why[256];
	module_of(e)->capture_begin(e->memory.queue);
	bb_graph *g = module_of(e)->capture_end(e->memory.queue, why, sizeof(why));
	cr_assert_not_null(g, "%s", why);
	e->captures.entries[i].key = (struct capture_key){ .n_rows = -1 - i };
	e->captures.entries[i].graph = g;
	e->captures.entries[i].last_use = ++e->captures.n_uses;
}

Test(driver, the_kind_of_step_that_came_least_recently_makes_room) {
	struct bb_engine *e = open_device("llama", BB_KV_F16, 0);
	float *logits = malloc((size_t)vocab_of(e) * sizeof(*logits));
	const int32_t ids[] = { 1, 2, 3 };
	struct bb_context *c = new_context(e);
	step(c, ids, 3, NULL);
	step(c, ids, 1, logits);
	const int first = 0, oldest = 1;
	cr_assert_eq(e->captures.entries[first].key.n_rows, 1);
	for (int i = oldest; i < MAX_CAPTURES; i++) {
		cr_assert_null(e->captures.entries[i].graph);
		occupy(e, i);
	}
	step(c, ids, 1, logits); /* the first kind again, so it is not the oldest any more */
	step(c, ids, 1, NULL);
	cr_assert_eq(n_captures(e), MAX_CAPTURES);
	cr_assert_eq(e->captures.entries[first].key.n_out, 1);
	cr_assert_eq(e->captures.entries[oldest].key.n_rows, 1, "the new kind is elsewhere");
	cr_assert_eq(e->captures.entries[oldest].key.n_out, 0);
	bb_context_destroy(c);
	free(logits);
	bb_engine_destroy(e);
}

/* ---- what a step takes from the driver ---- */

enum { N_WARM = 3 };

/* A step of n tokens of each of the first n_items contexts, whose last tokens may be drawn. */
static void warm_step(struct bb_context **c, int n_items, int n, struct bb_sampler *samplers) {
	static const int32_t ids[40] = { 4, 9, 2 };
	struct bb_engine *e = c[0]->engine;
	struct bb_step_item items[N_WARM];
	struct bb_sampled out[N_WARM];
	struct bb_error err = { 0 };
	for (int i = 0; i < n_items; i++) {
		items[i] = (struct bb_step_item){
			.context = c[i], .tokens = ids, .n_tokens = n,
			.sampler = samplers != NULL ? &samplers[i] : NULL, .sampled = &out[i],
		};
	}
	cr_assert(bb_step(e, items, n_items, &err), "%s", err.text);
}

static void check_warm(struct bb_context **c, int n_items, int n, struct bb_sampler *samplers) {
	const struct bb_module *module = module_of(c[0]->engine);
	for (int i = 0; i < 3; i++) {
		module->creations();
		base_forbid_alloc(i > 0);
		warm_step(c, n_items, n, samplers);
		base_forbid_alloc(false);
		const uint64_t n_made = module->creations();
		const bool is_captured = n == 1;
		cr_assert(i > 0 || !is_captured || n_made > 0, "a capture isn't counted");
		cr_assert(i == 0 || n_made == 0, "step %d of %d items, %d tokens each%s: %llu things of "
			"the driver are made", i, n_items, n, samplers != NULL ? " and a draw" : "",
			(unsigned long long)n_made);
	}
}

Test(driver, a_step_like_one_before_makes_nothing_of_the_driver) {
	struct bb_engine *e = open_device("llama", BB_KV_F16, 0);
	if (module_of(e)->creations == NULL) {
		cr_skip_test("only the emulator counts what is asked of the driver");
	}
	struct bb_context *c[N_WARM];
	struct bb_sampler samplers[N_WARM];
	struct bb_error err = { 0 };
	struct bb_sampling params;
	bb_sampling_default(e, &params);
	params.temperature = 1;
	for (int i = 0; i < N_WARM; i++) {
		c[i] = new_context(e);
		cr_assert(bb_context_reserve(c[i], 250, &err), "%s", err.text);
		cr_assert(sampler_init(&samplers[i], e, &params, &err), "%s", err.text);
	}
	cr_assert(draws_there(e));
	check_warm(c, 1, 40, NULL);
	check_warm(c, N_WARM, 20, samplers);
	check_warm(c, 1, 1, NULL);
	check_warm(c, N_WARM, 1, NULL);
	check_warm(c, 1, 1, samplers);
	check_warm(c, 2, 1, samplers);
	for (int i = 0; i < N_WARM; i++) {
		bb_context_destroy(c[i]);
		sampler_finish(&samplers[i]);
	}
	bb_engine_destroy(e);
}

/* ---- work that is done as late as may be ---- */

/* The bits of loading and of steps don't depend on when a queue does what it was given, nor on
 * whose turn it is: copies read pinned memory late, so who fills it again too early is seen. */
static void check_late(const char *name, enum bb_kv_type kv_type) {
	const int n_seeds = is_whole() ? 6 : 3;
	struct bb_engine *e = open_device(name, kv_type, 0);
	const struct bb_module *module = module_of(e);
	if (module->reschedule == NULL) {
		cr_skip_test("only the emulator can be late on purpose");
	}
	const size_t bytes = (size_t)N_DECODED * (size_t)vocab_of(e) * sizeof(float);
	int32_t ids[N_PROMPT + N_DECODED];
	make_ids(ids, N_PROMPT + N_DECODED, vocab_of(e), 6);
	float *want = decode(e, ids);
	bb_engine_destroy(e);
	for (int seed = 2; seed < 2 + n_seeds; seed++) {
		module->reschedule(-seed);
		e = open_device(name, kv_type, 0);
		float *got = decode(e, ids);
		cr_assert_eq(memcmp(want, got, bytes), 0, "%s: seed %d gives other bits", name, seed);
		free(got);
		bb_engine_destroy(e);
	}
	module->reschedule(0);
	free(want);
}

Test(driver, late_work_gives_the_same_bits) {
	check_late("llama", BB_KV_F16);
	check_late("qwen2", BB_KV_INT8);
}

/* Steps of a prompt, of one token and of several contexts under the emulator's checker: what may
 * begin early touches nothing too early, alone or in a captured step. */
Test(driver, early_launches_wait_for_what_they_touch, .timeout = 300) {
	if (strcmp(test_device(), "simt") != 0) {
		cr_skip_test("only the emulator has a checker");
	}
	enum { N_KEPT = 70 }; /* a page that is full before the step, and one that isn't */
	const struct bb_engine_params params = { .path = tiny_path("llama"), .device = "simt_check",
		.n_threads = 1, .kv_type = BB_KV_INT8 };
	struct bb_engine *e = open_with(&params);
	struct bb_context *c = new_context(e), *fork;
	struct bb_error err = { 0 };
	char text[400];
	int32_t ids[N_KEPT];
	make_ids(ids, N_KEPT, vocab_of(e), 8);
	step(c, ids, N_KEPT, NULL);
	cr_assert(bb_context_fork(&fork, c, &err), "%s", err.text);
	struct bb_context *both[] = { c, fork };
	warm_step(both, 1, 1, NULL);
	warm_step(both, 2, 1, NULL);
	cr_assert_eq(module_of(e)->findings(text, sizeof(text)), 0, "%s", text);
	bb_context_destroy(c);
	bb_context_destroy(fork);
	bb_engine_destroy(e);
}

/* ---- failures ---- */

/* Every queue fails once, by its stream and by its event. */
static void check_queues(enum bb_failure what) {
	struct bb_engine_params params = { .path = tiny_path("llama"), .device = test_device(),
		.n_threads = 1 };
	struct bb_engine *e = open_with(&params);
	const struct bb_module *module = module_of(e);
	bb_engine_destroy(e);
	int n = 1;
	for (bool ok = false; !ok; n++) {
		struct bb_error err = { 0 };
		fail(module, what, n);
		ok = bb_engine_open(&e, bb_models, &params, &err);
		cr_assert(ok || (err.code == BB_ERR_MEMORY && err.text[0] != '\0'), "%s", err.text);
	}
	fail(module, what, 0);
	cr_assert_gt(n, 1 + 1 + UPLOAD_LANES); /* the engine's, and each lane's */
	struct bb_context *c = new_context(e);
	step(c, (const int32_t[]){ 1, 2, 3 }, 3, NULL);
	bb_context_destroy(c);
	bb_engine_destroy(e);
}

Test(driver, loading_survives_any_queue_that_cannot_be_made) {
	check_queues(BB_FAIL_STREAM);
	check_queues(BB_FAIL_EVENT);
}

/* Where a step can't be captured its launches go one by one, with the same bits, and the next step
 * tries again. */
Test(driver, a_step_that_cannot_be_captured_is_launched) {
	static const enum bb_failure parts[] = { BB_FAIL_CAPTURE, BB_FAIL_GRAPH };
	struct bb_engine *e = open_device("llama", BB_KV_F16, 0);
	const size_t n_vocab = (size_t)vocab_of(e);
	float *want = malloc(2 * n_vocab * sizeof(*want)), *got = malloc(2 * n_vocab * sizeof(*got));
	const int32_t ids[] = { 1, 2, 3, 4, 5 };
	for (size_t i = 0; i <= COUNT(parts); i++) {
		struct bb_context *c = new_context(e);
		float *to = i == 0 ? want : got;
		captures_drop(e);
		step(c, ids, 3, NULL);
		if (i > 0) {
			fail(module_of(e), parts[i - 1], 1);
		}
		step(c, ids + 3, 1, to);
		cr_assert_eq(n_captures(e), i == 0 ? 1 : 0);
		step(c, ids + 4, 1, to + n_vocab);
		cr_assert_eq(n_captures(e), 1);
		cr_assert_eq(memcmp(want, to, 2 * n_vocab * sizeof(*want)), 0, "part %zu", i);
		bb_context_destroy(c);
	}
	free(want);
	free(got);
	bb_engine_destroy(e);
}
