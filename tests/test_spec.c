/* SPDX-License-Identifier: Apache-2.0
 *
 * Drafts change no bit: of requests of all sorts, with as many drafts as may be; of contexts that
 * steps with drafts left; whatever fails on the way. Where drafts come from, and that they don't
 * come from others. */
#include "efforts.h"
#include "mixed.h"
#include "spec/history.h"
#include "spec/pace.h"

/* ---- requests ---- */

static const struct bb_speculation all_drafts = { .is_fixed = true, .max_drafts = 5,
	.min_match = 1 };

/* 64 requests three times: where all have room, and where few have. */
static void check_all(const char *name, int n_tokens, int n_contexts) {
	struct mixed m = { .params = { .path = with_vocabulary(name), .max_model_len = 512 },
		.n_requests = 64, .most_prompt = 120, .most_tokens = 50, .max_running = 12,
		.max_step_tokens = 96, .has_vocabulary = true, .speculation = &all_drafts };
	check_mixed(&m);
	check_mixed_pressed(&m, n_tokens, n_contexts);
	unlink(m.params.path);
}

#define MIXED(suite, name, n_tokens, n_contexts) \
	Test(spec, suite, .timeout = 120) { \
		check_all(name, n_tokens, n_contexts); \
	}

MIXED(attention, "llama", 700, 0)
MIXED(windows, "gemma3", 900, 0)
MIXED(states, "mamba2", 0, 5)
MIXED(both, "falcon-h1", 700, 5)

/* ---- policies ---- */

static void with_policies(int i, struct bb_effort *f, struct bb_request_params *p) {
	*f = thinking();
	f->has_budget = i % 3 != 2;
	f->max_thinking = 5 + i % 17;
	f->soft_from = i % 2 == 0 ? 0.5 : 1;
	f->min_thinking = i % 4 == 1 ? f->max_thinking - 4 : 0;
	f->probe_every = i % 5 == 0 ? 4 : 0;
	f->probe_tokens = 3;
	f->probe_stable = 2;
	f->probe_text = f->probe_every > 0 ? "3 4" : NULL;
	f->answer_pattern = f->probe_every > 0 ? "([0-9]+)" : NULL;
	*p = thinker(f, 40, (uint64_t)i);
	p->n = 1 + i % 2;
	p->n_prompt = 8 + (size_t)(i * 7) % 40;
	p->generation.sampling.temperature = i % 3 == 0 ? 1 : 0;
	p->generation.sampling.frequency_penalty = i % 8 == 7 ? 0.5f : 0;
	p->generation.sampling.logit_bias = i % 7 == 3 ? &always : &never;
}

/* What policies decide, and at which tokens, is the same with as many drafts as may be. */
static void check_policies(const char *model) {
	static struct outcome plain, drafted;
	const struct bb_scheduler_params sp = { .speculation = &all_drafts };
	uint64_t n_accepted = 0;
	int n_decisions = 0;
	efforts_open(model);
	for (int i = 0; i < 40; i++) {
		struct bb_effort f;
		struct bb_request_params p;
		struct bb_scheduler *s = new_scheduler(engine, &sp);
		with_policies(i, &f, &p);
		memset(&drafted, 0, sizeof(drafted));
		submit(s, p, &drafted);
		run_all(s);
		p.no_speculation = true;
		run_one(&p, &plain);
		cr_assert(drafted.has_ended && drafted.error.code == BB_OK, "%s", drafted.error.text);
		for (int k = 0; k < p.n; k++) {
			const int n = plain.n_ids[k];
			cr_assert_eq(drafted.n_ids[k], n);
			cr_assert_eq(memcmp(drafted.ids[k], plain.ids[k], (size_t)n * sizeof(int32_t)), 0);
			cr_assert_eq(memcmp(drafted.logprobs[k], plain.logprobs[k],
				(size_t)n * sizeof(float)), 0);
			cr_assert_str_eq(drafted.text[k], plain.text[k]);
			cr_assert_eq(drafted.finish[k], plain.finish[k]);
		}
		cr_assert_eq(drafted.n_decisions, plain.n_decisions, "request %d: %d, not %d", i,
			drafted.n_decisions, plain.n_decisions);
		cr_assert_eq(drafted.usage.n_thinking, plain.usage.n_thinking);
		cr_assert_eq(drafted.usage.n_probe_tokens, plain.usage.n_probe_tokens);
		n_decisions += plain.n_decisions;
		n_accepted += drafted.usage.spec[BB_SPEC_PROMPT].n_accepted;
		bb_request_release(drafted.request);
		bb_scheduler_destroy(s);
	}
	cr_assert(n_decisions > 40 && n_accepted > 100, "%d decisions, %d drafts were right",
		n_decisions, (int)n_accepted);
	efforts_close();
}

Test(spec, policies_decide_the_same) {
	check_policies("llama");
	check_policies("falcon-h1");
}

/* ---- contexts ---- */

static struct bb_sampler *sampler(struct bb_engine *e, const struct bb_sampling *p) {
	struct bb_sampler *s;
	struct bb_error err = { 0 };
	cr_assert(bb_sampler_create(&s, e, p, &err), "%s", err.text);
	return s;
}

static void step_with(struct bb_context *c, const int32_t *ids, int n, int n_drafts,
	struct bb_sampler *s, struct bb_sampled *out) {
	struct bb_error err = { 0 };
	const struct bb_step_item item = { .context = c, .tokens = ids, .n_tokens = n, .sampler = s,
		.sampled = out, .n_drafts = n_drafts };
	cr_assert(bb_step(c->engine, &item, 1, &err), "%s", err.text);
}

/* Logits behind one token more, which is taken back. */
static void look(struct bb_context *c, float *logits) {
	const int32_t id = 5;
	const int n = bb_context_length(c);
	struct bb_error err = { 0 };
	feed(c, c->engine, &id, 1, logits);
	cr_assert(bb_context_rewind(c, n, &err), "%s", err.text);
}

static void expect_same(struct bb_context *a, struct bb_context *b) {
	const size_t n_vocab = (size_t)vocab_of(a->engine);
	const int n = bb_context_length(a);
	float *one = malloc(n_vocab * sizeof(*one)), *other = malloc(n_vocab * sizeof(*other));
	cr_assert_eq(n, bb_context_length(b));
	cr_assert_eq(memcmp(bb_context_tokens(a), bb_context_tokens(b), (size_t)n * sizeof(int32_t)),
		0);
	look(a, one);
	look(b, other);
	cr_assert_eq(memcmp(one, other, n_vocab * sizeof(*one)), 0, "other logits at token %d", n);
	free(one);
	free(other);
}

enum { N_PROMPT = 500, N_DRAWN = 40 };

/* What a context draws, one token a step. */
static void draw_alone(struct bb_context *c, const int32_t *prompt, const struct bb_sampling *p,
	struct bb_sampled *drawn) {
	struct bb_sampler *s = sampler(c->engine, p);
	step_with(c, prompt, N_PROMPT, 0, s, &drawn[0]);
	for (int i = 1; i < N_DRAWN; i++) {
		step_with(c, &drawn[i - 1].id, 1, 0, s, &drawn[i]);
	}
	bb_sampler_destroy(s);
}

/* Draws the same with drafts that are right up to a random place; now and then a fork is made or
 * thrown away where something is ahead. Passes a checkpoint of the grid. */
static void draw_with_drafts(struct bb_context *c, const int32_t *prompt,
	const struct bb_sampling *p, const struct bb_sampled *drawn) {
	struct bb_sampler *s = sampler(c->engine, p);
	struct bb_sampled out;
	struct bb_error err = { 0 };
	uint32_t random = 3;
	int32_t ids[8];
	step_with(c, prompt, N_PROMPT, 0, s, &out);
	for (int i = 1; i < N_DRAWN;) {
		const int left = N_DRAWN - i - 1, most = left < 6 ? left : 6;
		const int n = most > 0 ? (int)(mixed_random(&random) % (uint32_t)(most + 1)) : 0;
		const int n_right = n > 0 ? (int)(mixed_random(&random) % (uint32_t)(n + 1)) : 0;
		for (int k = 0; k <= n; k++) {
			ids[k] = k <= n_right ? drawn[i - 1 + k].id : (drawn[i - 1 + k].id + 1) %
				vocab_of(c->engine);
		}
		step_with(c, ids, 1 + n, n, s, &out);
		cr_assert_eq(bb_context_length(c), N_PROMPT + i, "only what is sure is appended");
		const int forks_at = mixed_random(&random) % 4 == 0 ? n_right / 2 : -1;
		for (int k = 0;; k++) {
			bool follows;
			cr_assert_eq(memcmp(&out.logprob, &drawn[i].logprob, sizeof(float)), 0);
			cr_assert_eq(out.id, drawn[i++].id);
			if (k == forks_at) {
				struct bb_context *f;
				cr_assert(bb_context_fork(&f, c, &err), "%s", err.text);
				bb_context_destroy(f);
			}
			cr_assert(bb_step_follow(c, &out, &follows, &err), "%s", err.text);
			cr_assert_eq(follows, k < n_right && forks_at < 0 ? true : k < forks_at);
			if (!follows) {
				break;
			}
		}
	}
	bb_sampler_destroy(s);
}

static void check_contexts(const char *name) {
	const struct bb_engine_params params = { .path = tiny_path(name), .max_model_len = 1024 };
	struct bb_engine *e = open_with(&params);
	struct bb_error err = { 0 };
	static int32_t prompt[N_PROMPT];
	static struct bb_sampled drawn[N_DRAWN];
	make_ids(prompt, N_PROMPT, vocab_of(e), 4);
	for (int i = 0; i < 3; i++) {
		struct bb_sampling p;
		bb_sampling_default(e, &p);
		p.seed = (uint64_t)i;
		p.temperature = i == 0 ? 0 : 1;
		p.frequency_penalty = i == 2 ? 1 : 0;
		struct bb_context *a = new_context(e), *b = new_context(e);
		draw_alone(a, prompt, &p, drawn);
		draw_with_drafts(b, prompt, &p, drawn);
		expect_same(a, b);
		cr_assert_eq(a->checkpoints.n, b->checkpoints.n);
		cr_assert(bb_context_rewind(a, 512, &err) && bb_context_rewind(b, 512, &err), "%s",
			err.text);
		expect_same(a, b);
		bb_context_destroy(a);
		bb_context_destroy(b);
	}
	cr_assert_eq(e->states.n_live, 0);
	bb_engine_destroy(e);
}

Test(spec, leaves_contexts_as_without) {
	static const char *const names[] = { "llama", "gemma3", "mamba", "mamba2", "rwkv6", "rwkv7",
		"falcon-h1", "qwen3next", "lfm2" };
	for (size_t i = 0; i < COUNT(names); i++) {
		check_contexts(names[i]);
	}
}

/* ---- where drafts come from ---- */

static int find(const struct spec_index *x, const char *tail, int least, uint64_t *at) {
	int32_t ids[64];
	const size_t n = strlen(tail);
	for (size_t i = 0; i < n; i++) {
		ids[i] = tail[i];
	}
	return spec_index_find(x, ids, n, least, at);
}

static void add(struct spec_index *x, const char *text) {
	for (; *text != '\0'; text++) {
		const int32_t id = *text == '|' ? -1 : *text;
		cr_assert(spec_index_add(x, &id, 1));
	}
}

static void expect_next(const struct spec_index *x, const char *tail, int match,
	const char *next) {
	uint64_t at = 0;
	int32_t ids[16];
	char text[17] = "";
	cr_assert_eq(find(x, tail, 1, &at), match, "of '%s' %d agree", tail, find(x, tail, 1, &at));
	const int n = match > 0 ? spec_index_read(x, at, ids, 6) : 0;
	for (int i = 0; i < n; i++) {
		text[i] = (char)ids[i];
	}
	cr_assert_str_eq(text, next);
}

Test(spec, finds_the_longest_suffix) {
	struct spec_index x;
	spec_index_init(&x, 1 << 12);
	uint64_t at;
	cr_assert_eq(find(&x, "abcd", 1, &at), 0);
	add(&x, "the quick brown fox|a quick white fox|");
	expect_next(&x, "one quick ", 8, "brown ");
	expect_next(&x, "the quick ", 10, "brown ");
	expect_next(&x, "x fo", 3, "x");
	expect_next(&x, "zz", 0, "");
	cr_assert_eq(find(&x, "x fo", 4, &at), 0, "less agree than have to");
	add(&x, "to be or not to b");
	expect_next(&x, "to be or not to b", 4, "e or n"); /* itself, and not its own end */
	spec_index_finish(&x);
	spec_index_init(&x, 1 << 12);
	add(&x, "ababab");
	expect_next(&x, "ababab", 4, "ababab"); /* beyond its end it goes on as it did */
	spec_index_finish(&x);
}

/* Of more tokens than it holds the oldest are forgotten, and nothing else. */
Test(spec, forgets_the_oldest) {
	enum { CAP = 1 << 10, N = 5000 };
	static int32_t ids[N];
	struct spec_index x;
	spec_index_init(&x, CAP);
	make_ids(ids, N, 30000, 9);
	cr_assert(spec_index_add(&x, ids, N));
	cr_assert_leq(spec_index_bytes(&x), (size_t)CAP * 16);
	int n_found = 0;
	for (int i = 16; i < N; i++) {
		uint64_t at;
		const int match = spec_index_find(&x, ids + i - 16, 16, 2, &at);
		cr_assert(match == 0 || ids[at] == ids[i]);
		cr_assert(i >= N - CAP || match == 0, "token %d is long gone", i);
		n_found += match > 0;
	}
	cr_assert_gt(n_found, CAP / 2);
	spec_index_finish(&x);
}

/* Each salt has its own texts, and who wasn't here for longest goes first. */
Test(spec, keeps_texts_of_salts_apart) {
	struct history h;
	static int32_t ids[1000];
	spec_history_init(&h, 64 << 10);
	make_ids(ids, 1000, 30000, 2);
	struct history_texts *a = spec_history_get(&h, "a"), *b = spec_history_get(&h, "b");
	uint64_t at;
	spec_history_add(&h, a, ids, 100);
	cr_assert_gt(spec_index_find(&a->index, ids, 50, 2, &at), 0);
	cr_assert_eq(spec_index_find(&b->index, ids, 50, 2, &at), 0);
	spec_history_put(&h, b);
	spec_history_put(&h, a);
	for (int i = 0; i < 200; i++) {
		char salt[16];
		snprintf(salt, sizeof(salt), "%d", i);
		struct history_texts *t = spec_history_get(&h, salt);
		spec_history_add(&h, t, ids, 300);
		spec_history_put(&h, t);
		cr_assert_leq(h.bytes, h.max_bytes);
	}
	a = spec_history_get(&h, "a");
	cr_assert_eq(spec_index_find(&a->index, ids, 50, 2, &at), 0, "it's the oldest");
	spec_history_put(&h, a);
	spec_history_finish(&h);
}

/* A request that repeats what one of its salt wrote has drafts of that; another's hasn't. */
Test(spec, tells_no_salt_what_another_wrote) {
	const struct bb_engine_params params = { .path = tiny_path("llama"), .max_model_len = 512 };
	const struct bb_speculation spec = { .is_fixed = true, .sources = 1u << BB_SPEC_HISTORY };
	struct bb_engine *e = open_with(&params);
	const struct bb_scheduler_params sp = { .speculation = &spec };
	struct bb_scheduler *s = new_scheduler(e, &sp);
	static const char *const salts[] = { "mine", "yours", "mine" };
	int32_t prompt[40];
	make_ids(prompt, 40, vocab_of(e), 3);
	for (int i = 0; i < 3; i++) {
		static struct outcome o[3];
		struct bb_request_params p = request(e, prompt, 40, 40, 1);
		p.generation.sampling.ignore_eos = true;
		p.cache_salt = salts[i];
		submit(s, p, &o[i]);
		run_all(s);
		expect_alone(e, &p, 0, &o[i]);
		cr_assert_eq(o[i].usage.spec[BB_SPEC_PROMPT].n_drafted, 0);
		const struct bb_spec_count *n = &o[i].usage.spec[BB_SPEC_HISTORY];
		cr_assert(i < 2 ? n->n_drafted == 0 : n->n_accepted > 20, "request %d: %d of %d", i,
			(int)n->n_accepted, (int)n->n_drafted);
		bb_request_release(o[i].request);
	}
	bb_scheduler_destroy(s);
	bb_engine_destroy(e);
}

/* What a grammar leaves no choice about is guessed from the first time on. */
Test(spec, guesses_what_a_grammar_forces) {
	static const char regex[] = "(name of the thing is [a-z]{2} and )*";
	const struct bb_engine_params params = { .path = real_path("smollm2"),
		.max_model_len = 512 };
	struct bb_engine *e = open_with(&params);
	const struct bb_speculation spec = { .sources = 1u << BB_SPEC_GRAMMAR, .is_fixed = true };
	const struct bb_scheduler_params sp = { .speculation = &spec };
	struct bb_scheduler *s = new_scheduler(e, &sp);
	struct bb_grammar *g;
	struct bb_error err = { 0 };
	int32_t prompt[20];
	cr_assert(bb_grammar_create(&g, e, BB_GRAMMAR_REGEX, regex, strlen(regex), &err), "%s",
		err.text);
	make_ids(prompt, 20, vocab_of(e), 3);
	for (int i = 0; i < 2; i++) {
		static struct outcome o[2];
		struct bb_request_params p = request(e, prompt, 20, 40, (uint64_t)i);
		p.generation.sampling.grammar = g;
		p.generation.sampling.ignore_eos = true;
		p.generation.sampling.temperature = i % 2 == 0 ? 0 : 1;
		submit(s, p, &o[i]);
		run_all(s);
		expect_alone(e, &p, 0, &o[i]);
		const struct bb_spec_count *n = &o[i].usage.spec[BB_SPEC_GRAMMAR];
		cr_assert(n->n_accepted > 8, "%d of %d", (int)n->n_accepted, (int)n->n_drafted);
		bb_request_release(o[i].request);
	}
	bb_scheduler_destroy(s);
	bb_grammar_destroy(g);
	bb_engine_destroy(e);
}

/* ---- a draft model ---- */

/* Requests of several sorts with drafts of another model alone; returns how many were right. */
static void draft_with(const char *name, const char *draft_name, bool is_fixed,
	struct bb_spec_count *count) {
	const struct bb_engine_params params = { .path = tiny_path(name), .max_model_len = 512 };
	struct bb_engine *e = open_with(&params);
	const struct bb_engine_params other = { .path = tiny_path(draft_name), .max_model_len = 200 };
	struct bb_engine *draft = open_with(&other);
	const struct bb_speculation spec = { .is_fixed = is_fixed, .max_drafts = 4, .draft = draft,
		.sources = 1u << BB_SPEC_MODEL };
	const struct bb_scheduler_params sp = { .speculation = &spec, .max_running = 5 };
	struct bb_scheduler *s = new_scheduler(e, &sp);
	static int32_t prompts[8][MAX_PROMPT];
	static struct outcome o[8];
	struct bb_request_params p[8];
	struct bb_scheduler_stats stats;
	memset(o, 0, sizeof(o));
	for (int i = 0; i < 8; i++) {
		const int n = i == 7 ? 190 : 10 + 20 * i; /* the last one outgrows the model's contexts */
		make_ids(prompts[i], n, vocab_of(e), i + 1);
		p[i] = request(e, prompts[i], n, 30, (uint64_t)i);
		p[i].n = i == 3 ? 3 : 1;
		p[i].generation.sampling.temperature = i % 2 == 0 ? 1 : 0;
		p[i].generation.sampling.top_k = i == 2 ? 20 : 0;
		submit(s, p[i], &o[i]);
	}
	run_all(s);
	bb_scheduler_stats(s, &stats);
	*count = stats.spec[BB_SPEC_MODEL];
	bb_scheduler_destroy(s);
	for (int i = 0; i < 8; i++) {
		for (int k = 0; k < p[i].n; k++) {
			expect_alone(e, &p[i], k, &o[i]);
		}
		bb_request_release(o[i].request);
	}
	cr_assert_eq(draft->n_contexts, 0);
	bb_engine_destroy(draft);
	bb_engine_destroy(e);
}

/* With random numbers that a token's place gives, a model agrees with itself at any temperature. */
Test(spec, a_model_drafts_what_it_draws) {
	static const char *const names[] = { "llama", "mamba2", "falcon-h1" };
	for (size_t i = 0; i < COUNT(names); i++) {
		struct bb_spec_count n;
		draft_with(names[i], names[i], true, &n);
		cr_assert_gt(n.n_drafted, 100);
		cr_assert_eq(n.n_accepted, n.n_drafted, "%s: %d of %d", names[i], (int)n.n_accepted,
			(int)n.n_drafted);
	}
}

Test(spec, another_model_changes_nothing) {
	struct bb_spec_count n;
	draft_with("llama", "llama-tied", true, &n);
	cr_assert(n.n_drafted > 0 && n.n_accepted < n.n_drafted);
	draft_with("llama", "llama-tied", false, &n);
}

Test(spec, refuses_another_vocabulary) {
	const struct bb_engine_params params = { .path = tiny_path("llama") };
	struct bb_engine *e = open_with(&params);
	const struct bb_engine_params other = { .path = tiny_path("gemma3") };
	const char *path = with_vocabulary("llama");
	const struct bb_engine_params texts = { .path = path };
	struct bb_engine *drafts[] = { open_with(&other), open_with(&texts) };
	for (size_t i = 0; i < COUNT(drafts); i++) {
		const struct bb_speculation spec = { .draft = drafts[i] };
		const struct bb_scheduler_params sp = { .speculation = &spec };
		struct bb_scheduler *s;
		struct bb_error err = { 0 };
		const bool same = vocab_of(drafts[i]) == vocab_of(e) && i == 0;
		cr_assert(bb_scheduler_create(&s, e, &sp, &err) == same, "%zu: %s", i, err.text);
		cr_assert(same || err.code == BB_ERR_USAGE, "%s", err.text);
		bb_scheduler_destroy(s);
		bb_engine_destroy(drafts[i]);
	}
	unlink(path);
	const struct bb_speculation none = { .sources = 1u << BB_SPEC_MODEL };
	const struct bb_scheduler_params sp = { .speculation = &none };
	struct bb_scheduler *s;
	struct bb_error err = { 0 };
	cr_assert_not(bb_scheduler_create(&s, e, &sp, &err));
	cr_assert_eq(err.code, BB_ERR_USAGE);
	bb_engine_destroy(e);
}

/* ---- how many ---- */

Test(spec, learns_what_rows_cost) {
	struct spec_costs c = { 0 };
	uint32_t random = 5;
	for (int i = 0; i < 300; i++) {
		const int n = (int)(mixed_random(&random) % 9);
		spec_costs_add(&c, 1, n, 0.01 * (1 + 0.4 * n));
		spec_costs_add(&c, 8, n, 0.02 * (1 + 0.05 * n));
	}
	cr_assert_float_eq(spec_costs_row(&c, 1), 0.4, 0.05);
	cr_assert_float_eq(spec_costs_row(&c, 8), 0.05, 0.02);
	for (int i = 0; i < 100; i++) { /* a neighbour takes half of the machine; all steps are alike */
		spec_costs_add(&c, 1, 4, 0.02 * (1 + 0.4 * 4));
	}
	cr_assert_float_eq(spec_costs_row(&c, 1), 0.4, 0.25);
	struct spec_rate r = { 0 };
	cr_assert_float_eq(spec_rate_of(&r, 0.3, 4), 0.3, 1e-9);
	for (int i = 0; i < 400; i++) {
		spec_rate_add(&r, i % 4 == 0, 64);
	}
	cr_assert_float_eq(spec_rate_of(&r, 0.9, 1), 0.25, 0.05);
}

Test(spec, refuses_what_is_out_of_range) {
	const struct bb_engine_params params = { .path = tiny_path("llama") };
	static const struct bb_speculation wrong[] = { { .max_drafts = 65 }, { .max_drafts = -1 },
		{ .min_match = 65 }, { .min_match = 8, .max_match = 4 } };
	struct bb_engine *e = open_with(&params);
	for (size_t i = 0; i < COUNT(wrong); i++) {
		const struct bb_scheduler_params sp = { .speculation = &wrong[i] };
		struct bb_scheduler *s;
		struct bb_error err = { 0 };
		cr_assert_not(bb_scheduler_create(&s, e, &sp, &err));
		cr_assert_eq(err.code, BB_ERR_USAGE);
		cr_assert_null(s);
	}
	bb_engine_destroy(e);
}

/* ---- failures ---- */

/* Whichever allocation of a step fails, the answer is the same, or an error says why there is
 * none. */
Test(spec, goes_on_without_memory_for_drafts, .timeout = 60) {
	const struct bb_engine_params params = { .path = tiny_path("falcon-h1"),
		.max_model_len = 512 };
	struct bb_engine *e = open_with(&params);
	const struct bb_scheduler_params sp = { .speculation = &all_drafts };
	int32_t prompt[30];
	make_ids(prompt, 15, vocab_of(e), 3);
	make_ids(prompt + 15, 15, vocab_of(e), 3);
	int n_whole = 0;
	for (int n = 1; n < 120; n++) {
		struct outcome o = { 0 };
		struct bb_scheduler *s = new_scheduler(e, &sp);
		const struct bb_request_params p = request(e, prompt, 30, 24, 1);
		submit(s, p, &o);
		bool idle = false;
		for (int i = 0; !idle; i++) {
			base_fail_alloc_at(i == 2 ? n : 0);
			step(s, &idle);
		}
		base_fail_alloc_at(0);
		cr_assert(o.has_ended && (o.error.code == BB_OK || o.error.code == BB_ERR_MEMORY));
		if (o.error.code == BB_OK) {
			expect_alone(e, &p, 0, &o);
			n_whole++;
		}
		bb_request_release(o.request);
		bb_scheduler_destroy(s);
	}
	cr_assert_gt(n_whole, 60);
	bb_engine_destroy(e);
}
