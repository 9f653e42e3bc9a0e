/* SPDX-License-Identifier: Apache-2.0
 *
 * Branches of a request that begin late, end early or ask for a probe: each has the bits that it
 * has alone, whatever others do, and leaves nothing behind. On tiny models. */
#include "mixed.h"

static struct bb_engine *engine;
static int32_t ids[MAX_PROMPT];

static void open_tiny(const char *name, int n_tokens, int n_contexts) {
	struct bb_engine_params params = { .path = tiny_path(name), .max_model_len = 512,
		.n_threads = 1 };
	params.max_kv_bytes = n_tokens + n_contexts > 0 ? bytes_of(&params, n_tokens, n_contexts) : 0;
	engine = open_with(&params);
	make_ids(ids, MAX_PROMPT, vocab_of(engine), 1);
}

/* ---- branches that begin late ---- */

struct late {
	const char *model;
	int n_tokens, n_contexts; /* that memory is for; 0: no limit */
	bool no_prefix_cache, no_stem;
	int n_prompt, max_running;
};

static int n_ended(const struct outcome *o, int n) {
	int n_done = 0;
	for (int i = 0; i < n; i++) {
		n_done += o->finish[i] != BB_FINISH_NONE;
	}
	return n_done;
}

/* All branches of p and the one beside them have what each gets alone; nothing is left. */
static void close_both(const struct bb_request_params *p, const struct bb_request_params *beside,
	const struct outcome o[2]) {
	for (int i = 0; i < p->n; i++) {
		expect_alone(engine, p, i, &o[0]);
	}
	expect_alone(engine, beside, 0, &o[1]);
	bb_request_release(o[0].request);
	bb_request_release(o[1].request);
	cr_assert_eq(engine->n_contexts, 0);
	bb_engine_destroy(engine);
}

/* Two of six branches begin with the prompt, the others when one has ended, beside a request that
 * lives as long. */
static void check_late(const struct late *l) {
	static struct outcome o[2];
	open_tiny(l->model, l->n_tokens, l->n_contexts);
	const struct bb_scheduler_params sp = { .no_prefix_cache = l->no_prefix_cache };
	struct bb_scheduler *s = new_scheduler(engine, &sp);
	struct bb_request_params p = request(engine, ids, l->n_prompt, 20, 5), beside = p;
	const bool is_short = l->n_tokens + l->n_contexts > 0;
	struct bb_error err = { 0 };
	memset(o, 0, sizeof(o));
	p.n = 6;
	submit(s, p, &o[0]);
	beside.prompt = ids + 100;
	beside.n_prompt = 70;
	beside.generation.max_tokens = 60;
	submit(s, beside, &o[1]);
	struct bb_request *r = o[0].request;
	r->n_first = r->branches[0].n_places = 2;
	int n_begun = 2;
	for (bool idle = false; !idle;) {
		step(s, &idle);
		mixed_check_bytes(engine);
		cr_assert(o[0].n_tokens == 0 || l->no_stem || r->stem != NULL || is_short ||
			n_begun == 6);
		if (l->no_stem) {
			turns_drop_stem(r);
		}
		while (n_begun < 6 && n_begun - n_ended(&o[0], 6) < 2) {
			cr_assert(turns_begin_late(&r->branches[n_begun++], &err), "%s", err.text);
			idle = false;
		}
	}
	struct bb_scheduler_stats stats;
	bb_scheduler_stats(s, &stats);
	cr_expect(is_short || l->no_stem || stats.n_computed_again == 0, "%d tokens again",
		(int)stats.n_computed_again);
	cr_assert(o[0].has_ended && o[1].has_ended, "%s", o[0].error.text);
	bb_scheduler_destroy(s);
	close_both(&p, &beside, o);
}

static const char *const models[] = { "llama", "gemma3", "mamba2", "falcon-h1", "rwkv7" };

Test(late, with_the_bits_of_branches_that_begin_at_once) {
	for (size_t i = 0; i < COUNT(models); i++) {
		check_late(&(struct late){ .model = models[i], .n_prompt = 90 });
		check_late(&(struct late){ .model = models[i], .n_prompt = 90, .no_prefix_cache = true });
	}
	check_late(&(struct late){ .model = "llama", .n_prompt = 1 });
	check_late(&(struct late){ .model = "mamba2", .n_prompt = 1 });
}

Test(late, without_a_stem) {
	for (size_t i = 0; i < COUNT(models); i++) {
		check_late(&(struct late){ .model = models[i], .n_prompt = 90, .no_stem = true });
		check_late(&(struct late){ .model = models[i], .n_prompt = 90, .no_stem = true,
			.no_prefix_cache = true });
	}
}

Test(late, with_little_memory) {
	check_late(&(struct late){ "llama", 256, 0, .n_prompt = 90 });
	check_late(&(struct late){ "llama", 256, 0, .n_prompt = 90, .no_prefix_cache = true });
	check_late(&(struct late){ "gemma3", 320, 0, .n_prompt = 90 });
	check_late(&(struct late){ "mamba2", 0, 3, .n_prompt = 90 });
	check_late(&(struct late){ "falcon-h1", 256, 3, .n_prompt = 90, .no_prefix_cache = true });
}

/* ---- probes ---- */

/* Room for a probe of each branch, as a policy of them has it. */
static void allow_probes(struct bb_request *r) {
	const int n = r->params.n;
	struct branch *all = base_alloc((size_t)(2 * n), sizeof(*all));
	memcpy(all, r->branches, (size_t)n * sizeof(*all));
	for (int i = 0; i < n; i++) {
		all[n + i] = (struct branch){ .request = r, .parent = &all[i], .index = n + i,
			.n_places = 1 };
	}
	base_free(r->branches);
	r->branches = all;
	r->n_all = 2 * n;
}

/* What the probes of three branches say is the same whatever memory there is, and the branches have
 * the bits that they have alone. */
static void probe_all(const struct late *l, struct bb_text *said) {
	static struct outcome o[2];
	static int probed_at[3];
	open_tiny(l->model, l->n_tokens, l->n_contexts);
	const struct bb_scheduler_params sp = { .no_prefix_cache = l->no_prefix_cache,
		.max_running = l->max_running };
	struct bb_scheduler *s = new_scheduler(engine, &sp);
	struct bb_request_params p = request(engine, ids, l->n_prompt, 24, 5), beside = p;
	struct bb_error err = { 0 };
	memset(o, 0, sizeof(o));
	memset(probed_at, 0, sizeof(probed_at));
	p.n = 3;
	p.no_speculation = true; /* it's looked at between its tokens */
	submit(s, p, &o[0]);
	beside.prompt = ids + 100;
	beside.n_prompt = 70;
	beside.generation.max_tokens = 60;
	submit(s, beside, &o[1]);
	struct bb_request *r = o[0].request;
	allow_probes(r);
	int n_expected = 0;
	for (bool idle = false; !idle;) {
		step(s, &idle);
		mixed_check_bytes(engine);
		for (int i = 0; i < 3 && !o[0].has_ended; i++) {
			struct branch *b = &r->branches[i];
			struct branch *probe = turns_probe_of(b);
			if (probe == NULL && b->is_live && b->n_output % 7 == 3 &&
				b->n_output != probed_at[i] && turns_is_in(b)) {
				probed_at[i] = b->n_output;
				n_expected += 5;
				cr_assert(probes_begin(s, b, ids + 300, 4, 5, &err), "%s", err.text);
			} else if (probe != NULL) {
				cr_assert_eq(b->n_output, probed_at[i], "it went on without its probe");
				if (probe->n_output == 4 && probe->said.bytes > 0) {
					said[i].bytes = 0;
					cr_assert(base_append(&said[i], probe->said.data, probe->said.bytes, &err));
				}
			}
		}
	}
	cr_assert(o[0].has_ended && o[1].has_ended, "%s", o[0].error.text);
	cr_assert_eq(o[0].usage.n_probe_tokens, n_expected);
	cr_assert_eq(n_expected, 3 * 3 * 5);
	bb_scheduler_destroy(s);
	close_both(&p, &beside, o);
}

/* Cases differ in what there is room for. */
static void check_probes(const struct late *cases, size_t n) {
	struct bb_text first[3] = { 0 }, others[3] = { 0 };
	for (size_t i = 0; i < n; i++) {
		probe_all(&cases[i], i == 0 ? first : others);
		for (int k = 0; k < 3; k++) {
			cr_assert_gt(first[k].bytes, 0);
			cr_assert(i == 0 || strcmp(first[k].data, others[k].data) == 0, "case %zu: \"%s\", "
				"expected \"%s\"", i, others[k].data, first[k].data);
		}
	}
	for (int k = 0; k < 3; k++) {
		bb_text_finish(&first[k]);
		bb_text_finish(&others[k]);
	}
}

Test(probes, of_transformers) {
	check_probes((const struct late[]){
		{ .model = "llama", .n_prompt = 90 },
		{ .model = "llama", .n_prompt = 90, .no_prefix_cache = true },
		{ .model = "llama", .n_prompt = 90, .max_running = 3 },
		{ .model = "llama", .n_prompt = 90, .n_tokens = 256 },
	}, 4);
	check_probes((const struct late[]){
		{ .model = "gemma3", .n_prompt = 90 },
		{ .model = "gemma3", .n_prompt = 90, .n_tokens = 320 },
	}, 2);
}

Test(probes, of_recurrent_models) {
	check_probes((const struct late[]){
		{ .model = "mamba2", .n_prompt = 90 },
		{ .model = "mamba2", .n_prompt = 90, .n_contexts = 3 },
	}, 2);
	check_probes((const struct late[]){
		{ .model = "falcon-h1", .n_prompt = 90 },
		{ .model = "falcon-h1", .n_prompt = 90, .n_tokens = 256, .n_contexts = 3 },
	}, 2);
}

/* What bb_generation makes of these ids [n] and n_tokens more, greedily. */
static void go_on_alone(const int32_t *prompt, int n, int n_tokens, struct bb_text *out) {
	struct bb_context *c = new_context(engine);
	struct bb_request_params p = request(engine, prompt, n, n_tokens, 0);
	struct bb_generation *g;
	struct bb_error err = { 0 };
	enum bb_finish finish = BB_FINISH_NONE;
	p.generation.sampling.temperature = 0;
	cr_assert(bb_generation_create(&g, c, &p.generation, prompt, (size_t)n, NULL, NULL, &err),
		"%s", err.text);
	while (finish == BB_FINISH_NONE) {
		struct bb_sampled token;
		const char *text;
		size_t bytes;
		cr_assert(bb_generation_next(g, &token, &text, &bytes, &finish, &err), "%s", err.text);
		cr_assert(base_append(out, text, bytes, &err));
	}
	bb_generation_destroy(g);
	bb_context_destroy(c);
}

static void check_goes_on(const char *model) {
	static struct outcome o;
	static int32_t all[MAX_PROMPT];
	open_tiny(model, 0, 0);
	struct bb_scheduler *s = new_scheduler(engine, NULL);
	struct bb_request_params p = request(engine, ids, 80, 12, 0);
	struct bb_text said = { 0 }, alone = { 0 };
	struct bb_error err = { 0 };
	bool idle;
	memset(&o, 0, sizeof(o));
	p.generation.sampling.temperature = 0;
	p.no_speculation = true; /* it stops where it's wanted */
	submit(s, p, &o);
	allow_probes(o.request);
	while (o.n_tokens < 6) {
		step(s, &idle);
	}
	struct branch *b = &o.request->branches[0];
	cr_assert(probes_begin(s, b, ids + 300, 9, 10, &err), "%s", err.text);
	const struct branch *probe = turns_probe_of(b);
	while (turns_probe_of(b) != NULL) {
		said.bytes = 0;
		cr_assert(base_append(&said, probe->said.data, probe->said.bytes, &err));
		step(s, &idle);
	}
	memcpy(all, ids, 80 * sizeof(*all));
	memcpy(all + 80, o.ids[0], 6 * sizeof(*all));
	memcpy(all + 86, ids + 300, 9 * sizeof(*all));
	go_on_alone(all, 95, 9, &alone); /* its last token went with it */
	cr_assert_str_eq(said.data, alone.data);
	run_all(s);
	bb_scheduler_destroy(s);
	bb_request_release(o.request);
	bb_text_finish(&said);
	bb_text_finish(&alone);
	bb_engine_destroy(engine);
}

Test(probes, go_on_from_where_their_branch_is) {
	for (size_t i = 0; i < COUNT(models); i++) {
		check_goes_on(models[i]);
	}
}

/* What was cancelled while it's being asked is free within a step, its probes too. */
Test(probes, cancelled_with_their_branches) {
	for (size_t k = 0; k < COUNT(models); k++) {
		static struct outcome o;
		struct bb_error err = { 0 };
		bool idle;
		open_tiny(models[k], 0, 0);
		const struct bb_scheduler_params sp = { .no_prefix_cache = true };
		struct bb_scheduler *s = new_scheduler(engine, &sp);
		struct bb_request_params p = request(engine, ids, 80, 60, 3);
		memset(&o, 0, sizeof(o));
		p.n = 16;
		submit(s, p, &o);
		allow_probes(o.request);
		while (o.n_tokens < 40) {
			step(s, &idle);
		}
		for (int i = 0; i < 8; i++) {
			cr_assert(probes_begin(s, &o.request->branches[2 * i], ids + 300, 9, 50, &err), "%s",
				err.text);
		}
		step(s, &idle);
		step(s, &idle);
		cr_assert(turns_is_in(&o.request->branches[16]));
		bb_request_cancel(o.request);
		step(s, &idle);
		cr_assert(o.has_ended && o.finish[15] == BB_FINISH_CANCELLED);
		cr_assert_eq(engine->n_contexts, 0);
		cr_assert_eq(engine_used_bytes(engine).all, 0);
		bb_scheduler_destroy(s);
		bb_request_release(o.request);
		bb_engine_destroy(engine);
	}
}
