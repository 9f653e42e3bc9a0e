/* SPDX-License-Identifier: Apache-2.0
 *
 * Policies over several answers, through the scheduler: each branch that they begin has the tokens
 * that it has among all n, and where they stop, what they drop and what they choose is what their
 * rules say of these, worked out here. On tiny models whose answers are one of three numbers. */
#include "mixed.h"

#include "effort/confidence.h"
#include "effort/vote.h"

enum { N = 16, LENGTH = 6, MOST_DECISIONS = 200, MOST_REQUESTS = 8 };

struct heard {
	struct bb_request *request;
	int32_t ids[N][LENGTH];
	double confidence[N][LENGTH], certainty[N];
	int n_ids[N], n_tokens, n_finished, n_decisions;
	enum bb_finish finish[N];
	struct bb_decision decisions[MOST_DECISIONS];
	struct bb_usage usage;
	struct bb_error error;
	bool has_ended;
	int cancel_at; /* tokens until it cancels itself; 0: it doesn't */
};

static void hear(void *user, const struct bb_event *event) {
	struct heard *h = user;
	const int i = event->branch;
	cr_assert(!h->has_ended, "an event after the last one");
	if (event->kind == BB_EVENT_DECISION) {
		cr_assert_lt(h->n_decisions, MOST_DECISIONS);
		h->decisions[h->n_decisions++] = *event->decision;
	} else if (event->kind == BB_EVENT_TOKEN) {
		cr_assert(h->finish[i] == BB_FINISH_NONE && h->n_ids[i] < LENGTH);
		h->confidence[i][h->n_ids[i]] = (double)event->token->confidence;
		h->certainty[i] += (double)event->token->certainty;
		h->ids[i][h->n_ids[i]++] = event->token->id;
		if (++h->n_tokens == h->cancel_at) {
			bb_request_cancel(event->request);
		}
	} else if (event->kind == BB_EVENT_FINISHED) {
		cr_assert_eq(h->finish[i], BB_FINISH_NONE);
		h->finish[i] = event->finish;
		h->n_finished++;
	} else if (event->kind == BB_EVENT_FAILED) {
		h->error = *event->error;
	}
	if (event->usage != NULL) {
		h->usage = *event->usage;
		h->has_ended = true;
	}
}

static struct bb_engine *engine;
static const char *device; /* of engines; NULL: the CPU */
static int32_t ids[MAX_PROMPT];

static void open_tiny(const char *name, int n_tokens, int n_contexts) {
	struct bb_engine_params params = { .path = tiny_path(name), .max_model_len = 512,
		.device = device, .n_threads = 1 };
	engine = open_or_skip(&params);
	if (n_tokens + n_contexts > 0) {
		bb_engine_limit_kv(engine, engine_kv_bytes(engine, n_tokens) +
			(size_t)n_contexts * engine->states.bytes);
	}
	make_ids(ids, MAX_PROMPT, vocab_of(engine), 1);
}

/* Texts are of the numbers 11, 12 and 13, the first one likeliest. */
static const struct bb_logit_bias biases[] = { { 11, 41 }, { 12, 40 }, { 13, 40 } };

static struct bb_request_params ask(uint64_t seed, const struct bb_effort *effort) {
	struct bb_request_params p = request(engine, ids + seed % 100, 70, LENGTH, seed);
	p.generation.sampling.logit_bias = biases;
	p.generation.sampling.n_logit_bias = COUNT(biases);
	p.generation.sampling.wants_confidence = true;
	p.n = N;
	p.effort = effort;
	p.event = hear;
	return p;
}

static void submit_heard(struct bb_scheduler *s, struct bb_request_params p, struct heard *h) {
	struct bb_error err = { 0 };
	memset(h, 0, sizeof(*h));
	p.user = h;
	cr_assert(bb_request_submit(&h->request, s, &p, &err), "%s", err.text);
}

static void run_one(const struct bb_request_params *p, struct heard *h) {
	struct bb_scheduler_stats stats;
	struct bb_scheduler *s = new_scheduler(engine, NULL);
	submit_heard(s, *p, h);
	run_all(s);
	bb_scheduler_stats(s, &stats);
	cr_assert_float_eq(h->usage.flops, stats.flops, 1, "of branches that a step ended, too");
	cr_assert(h->has_ended && h->error.code == BB_OK, "%s", h->error.text);
	cr_assert_eq(h->n_finished, p->n);
	bb_scheduler_destroy(s);
	bb_request_release(h->request);
	cr_assert_eq(engine->n_contexts, 0);
}

static int n_of_kind(const struct heard *h, enum bb_decision_kind kind) {
	int n = 0;
	for (int i = 0; i < h->n_decisions; i++) {
		n += h->decisions[i].kind == kind;
	}
	return n;
}

static const struct bb_decision *one_of_kind(const struct heard *h, enum bb_decision_kind kind) {
	cr_assert_eq(n_of_kind(h, kind), 1, "%d of kind %s", n_of_kind(h, kind),
		bb_decision_name(kind));
	int i = 0;
	while (h->decisions[i].kind != kind) {
		i++;
	}
	return &h->decisions[i];
}

/* ---- what is expected ---- */

/* The last number of a text; "" for an answer that wasn't whole. */
static void votes_of(const struct heard *all, int n, struct vote *votes) {
	static const char *const texts[] = { "11", "12", "13" };
	for (int i = 0; i < n; i++) {
		votes[i] = (struct vote){ .is_given = true, .answer = texts[all->ids[i][LENGTH - 1] - 11],
			.weight = 1 };
	}
}

/* How many of the answers that all[N] gives the rule reads, and who gave the winner first. */
static int settled_at(const struct heard *all, double threshold, int *winner) {
	struct vote votes[N];
	votes_of(all, N, votes);
	for (int n = 1; n <= N; n++) {
		const struct vote_count c = vote_count(votes, n, false);
		*winner = c.leader;
		if (vote_beta(c.n, c.n_second) >= threshold) {
			return n;
		}
	}
	return N;
}

static void expect_same_tokens(const struct heard *all, const struct heard *h, int i, int n) {
	cr_assert_eq(h->n_ids[i], n, "branch %d has %d tokens, not %d", i, h->n_ids[i], n);
	for (int k = 0; k < n; k++) {
		cr_assert_eq(h->ids[i][k], all->ids[i][k], "branch %d, token %d", i, k);
	}
}

static void expect_consensus(const struct heard *all, const struct heard *h, double threshold) {
	int winner;
	const int n = settled_at(all, threshold, &winner);
	cr_assert_eq(h->usage.n_branches, n, "%d branches began, expected %d at %g",
		h->usage.n_branches, n, threshold);
	for (int i = 0; i < N; i++) {
		expect_same_tokens(all, h, i, i < n ? LENGTH : 0);
		cr_assert_eq(h->finish[i], i < n ? BB_FINISH_LENGTH : BB_FINISH_DROPPED);
	}
	cr_assert_eq(h->usage.n_dropped, 0); /* of those that began */
	cr_assert_eq(n_of_kind(h, BB_DECISION_START), n - vote_least(0, 0, threshold, N));
	cr_assert_eq(n_of_kind(h, BB_DECISION_FINISH), n < N);
	const struct bb_decision *d = one_of_kind(h, BB_DECISION_CHOOSE);
	cr_assert_eq(d->branch, winner);
	cr_assert_str_eq(d->policy, "choice");
	if (n < N) {
		d = one_of_kind(h, BB_DECISION_FINISH);
		cr_assert(d->branch == -1 && !d->is_load_dependent && d->value >= d->bar &&
			d->bar == threshold && strcmp(d->policy, "consensus") == 0);
	}
}

/* ---- consensus ---- */

static const double thresholds[] = { 0.8, 0.9, 0.95, 0.99 };

static struct bb_effort consensus_of(double threshold) {
	return (struct bb_effort){ .answer_pattern = "number", .choice = BB_CHOICE_VOTE,
		.consensus = threshold };
}

static void check_consensus(const char *model, int first_seed, int n_seeds) {
	static struct heard all, h;
	open_tiny(model, 0, 0);
	int n_read = 0;
	for (int seed = first_seed; seed < first_seed + n_seeds; seed++) {
		struct bb_request_params p = ask((uint64_t)seed, NULL);
		run_one(&p, &all);
		for (size_t i = 0; i < COUNT(thresholds); i++) {
			const struct bb_effort effort = consensus_of(thresholds[i]);
			p.effort = &effort;
			run_one(&p, &h);
			expect_consensus(&all, &h, thresholds[i]);
			n_read += h.usage.n_branches;
		}
	}
	cr_expect(n_read < n_seeds * 4 * N, "%d answers were read", n_read);
	bb_engine_destroy(engine);
}

Test(consensus, reads_the_first_of_the_same_answers) {
	check_consensus("llama", 0, 16);
	check_consensus("gemma3", 0, 4);
	check_consensus("mamba2", 0, 6);
	check_consensus("falcon-h1", 0, 4);
}

struct room {
	const char *model;
	int n_tokens, n_contexts, max_running; /* 0: as many as one likes */
	bool no_prefix_cache;
};

/* Requests beside each other, put aside and brought back, decide as they do alone. */
static void check_beside(const struct room *room) {
	static struct heard all[MOST_REQUESTS], h[MOST_REQUESTS];
	struct bb_effort efforts[MOST_REQUESTS];
	struct bb_request_params p[MOST_REQUESTS];
	open_tiny(room->model, 0, 0);
	for (int i = 0; i < MOST_REQUESTS; i++) {
		p[i] = ask((uint64_t)i + 50, NULL);
		run_one(&p[i], &all[i]);
	}
	bb_engine_destroy(engine);
	open_tiny(room->model, room->n_tokens, room->n_contexts);
	const struct bb_scheduler_params sp = { .no_prefix_cache = room->no_prefix_cache,
		.max_running = room->max_running };
	struct bb_scheduler *s = new_scheduler(engine, &sp);
	for (int i = 0; i < MOST_REQUESTS; i++) {
		efforts[i] = consensus_of(thresholds[i % 4]);
		p[i].effort = &efforts[i];
		submit_heard(s, p[i], &h[i]);
	}
	for (bool idle = false; !idle;) {
		step(s, &idle);
		mixed_check_bytes(engine);
	}
	for (int i = 0; i < MOST_REQUESTS; i++) {
		cr_assert(h[i].has_ended && h[i].error.code == BB_OK, "%s", h[i].error.text);
		expect_consensus(&all[i], &h[i], thresholds[i % 4]);
		bb_request_release(h[i].request);
	}
	bb_scheduler_destroy(s);
	cr_assert_eq(engine->n_contexts, 0);
	bb_engine_destroy(engine);
}

Test(consensus, decides_beside_others_as_alone) {
	check_beside(&(struct room){ "llama" });
	check_beside(&(struct room){ "llama", .max_running = 16, .no_prefix_cache = true });
	check_beside(&(struct room){ "llama", .n_tokens = 320 });
	check_beside(&(struct room){ "llama", .n_tokens = 320, .no_prefix_cache = true });
	check_beside(&(struct room){ "gemma3", .n_tokens = 512 });
	check_beside(&(struct room){ "mamba2", .n_contexts = 4 });
	check_beside(&(struct room){ "falcon-h1", .n_tokens = 512, .n_contexts = 5 });
}

Test(consensus, on_a_device, .timeout = 300) {
	device = test_device();
	check_consensus("llama", 7, 1);
	check_consensus("falcon-h1", 7, 1);
}

/* What was asked for while it ran is done again at the same tokens, and nothing else is. */
static void check_replay(const struct bb_control *control, const struct bb_effort *asked) {
	static struct heard first, again;
	struct bb_effort effort = *asked;
	struct bb_request_params p = ask(7, &effort);
	struct bb_scheduler *s = new_scheduler(engine, NULL);
	struct bb_error err = { 0 };
	bool idle;
	submit_heard(s, p, &first);
	while (n_of_kind(&first, BB_DECISION_START) == 0) {
		step(s, &idle);
	}
	step(s, &idle);
	step(s, &idle);
	cr_assert(bb_request_control(first.request, control, &err), "%s", err.text);
	run_all(s);
	cr_assert(first.has_ended && first.usage.n_branches < N);
	bb_request_release(first.request);
	bb_scheduler_destroy(s);
	effort.replays = true;
	effort.replay = first.decisions;
	effort.n_replay = first.n_decisions;
	run_one(&p, &again);
	for (int i = 0; i < N; i++) {
		expect_same_tokens(&first, &again, i, first.n_ids[i]);
		cr_assert_eq(again.finish[i], first.finish[i], "branch %d", i);
	}
	cr_assert_eq(one_of_kind(&again, BB_DECISION_CHOOSE)->branch,
		one_of_kind(&first, BB_DECISION_CHOOSE)->branch);
	cr_assert_eq(again.usage.n_branches, first.usage.n_branches);
}

Test(consensus, done_again_as_it_was) {
	const struct bb_effort effort = consensus_of(0.95);
	open_tiny("llama", 0, 0);
	check_replay(&(struct bb_control){ .kind = BB_CONTROL_FINISH, .branch = -1 }, &effort);
	check_replay(&(struct bb_control){ .kind = BB_CONTROL_DROP, .branch = 5 }, &effort);
	bb_engine_destroy(engine);
}

/* Then all are drawn, and the first one is given. */
Test(consensus, a_pattern_that_never_matches) {
	static struct heard all, h;
	open_tiny("llama", 0, 0);
	struct bb_effort effort = consensus_of(0.9);
	effort.answer_pattern = "answer: (\\d+)";
	struct bb_request_params p = ask(1, NULL);
	run_one(&p, &all);
	p.effort = &effort;
	run_one(&p, &h);
	cr_assert_eq(h.usage.n_branches, N);
	for (int i = 0; i < N; i++) {
		expect_same_tokens(&all, &h, i, LENGTH);
	}
	const struct bb_decision *d = one_of_kind(&h, BB_DECISION_CHOOSE);
	cr_assert_eq(d->branch, 0);
	cr_assert_not_null(strstr(d->why, "no answer"), "%s", d->why);
	bb_engine_destroy(engine);
}

/* ---- deepconf ---- */

enum { GROUP = 3, WARMUP = 6 };
static const double KEEP = 0.75, SHARE = 0.9;

/* The lowest mean of a group within the first n tokens of a branch, as it comes token by token. */
static double lowest_of(const struct heard *all, int i, int n) {
	double sum = 0, lowest = INFINITY;
	for (int k = 0; k < n; k++) {
		const double old = k >= GROUP ? all->confidence[i][k - GROUP] : 0;
		sum += all->confidence[i][k] - old;
		lowest = k + 1 >= GROUP ? fmin(lowest, sum / GROUP) : lowest;
	}
	return lowest;
}

/* Tokens that branch i has when it falls below the bar; LENGTH: it doesn't before its end. */
static int dropped_at(const struct heard *all, int i, double bar) {
	for (int n = GROUP; n < LENGTH; n++) {
		if (lowest_of(all, i, n) < bar) {
			return n;
		}
	}
	return LENGTH;
}

static void expect_deepconf(const struct heard *all, const struct heard *h) {
	struct vote votes[N];
	double lowest[WARMUP];
	votes_of(all, N, votes);
	for (int i = 0; i < N; i++) {
		votes[i].weight = lowest_of(all, i, LENGTH);
	}
	for (int i = 0; i < WARMUP; i++) {
		lowest[i] = votes[i].weight;
	}
	const double bar = confidence_bar(lowest, WARMUP, KEEP);
	for (int i = 0; i < WARMUP; i++) {
		votes[i].weight = votes[i].weight < bar ? 0 : votes[i].weight;
	}
	int n = WARMUP, n_dropped = 0;
	while (n < N && vote_count(votes, n, true).share < SHARE) {
		for (int i = 0; i < WARMUP && n < N; i++, n++) {
			votes[n].is_given = dropped_at(all, n, bar) == LENGTH;
			n_dropped += !votes[n].is_given;
		}
	}
	cr_assert_eq(h->usage.n_branches, n, "%d branches began, expected %d", h->usage.n_branches, n);
	cr_assert_eq(h->usage.n_dropped, n_dropped);
	cr_assert_eq(n_of_kind(h, BB_DECISION_DROP), n_dropped);
	for (int i = 0; i < N; i++) {
		expect_same_tokens(all, h, i, i >= n ? 0 : i < WARMUP ? LENGTH : dropped_at(all, i, bar));
	}
	cr_assert_eq(one_of_kind(h, BB_DECISION_CHOOSE)->branch, vote_count(votes, n, true).leader);
}

Test(deepconf, drops_and_stops_by_its_rule) {
	static struct heard all, h;
	static const char *const models[] = { "llama", "mamba2" };
	const struct bb_effort effort = { .answer_pattern = "number", .choice = BB_CHOICE_WEIGHTED,
		.n_warmup = WARMUP, .group = GROUP, .keep = KEEP, .conf_share = SHARE };
	for (size_t k = 0; k < COUNT(models); k++) {
		int n_dropped = 0, n_stopped = 0;
		open_tiny(models[k], 0, 0);
		for (int seed = 0; seed < 24; seed++) {
			struct bb_request_params p = ask((uint64_t)seed, NULL);
			run_one(&p, &all);
			p.effort = &effort;
			run_one(&p, &h);
			expect_deepconf(&all, &h);
			n_dropped += h.usage.n_dropped;
			n_stopped += h.usage.n_branches < N;
		}
		cr_expect(n_dropped > 5 && n_stopped > 2 && n_stopped < 24, "%d dropped, "
			"%d stopped", n_dropped, n_stopped);
		bb_engine_destroy(engine);
	}
}

/* With both no more begin than either wants, and either stops it. */
Test(deepconf, with_consensus) {
	static struct heard h;
	open_tiny("llama", 0, 0);
	struct bb_effort effort = { .answer_pattern = "number", .choice = BB_CHOICE_WEIGHTED,
		.n_warmup = 6, .group = GROUP, .keep = KEEP, .conf_share = 1, .consensus = 0.8 };
	for (int seed = 0; seed < 12; seed++) {
		struct bb_request_params p = ask((uint64_t)seed, &effort);
		run_one(&p, &h);
		cr_assert_eq(n_of_kind(&h, BB_DECISION_CHOOSE), 1);
		cr_assert_eq(n_of_kind(&h, BB_DECISION_START), h.usage.n_branches - 2);
	}
	bb_engine_destroy(engine);
}

/* ---- choices ---- */

Test(choices, by_certainty) {
	static struct heard all, h;
	open_tiny("llama", 0, 0);
	for (int seed = 0; seed < 6; seed++) {
		struct bb_request_params p = ask((uint64_t)seed, NULL);
		const struct bb_effort effort = { .choice = BB_CHOICE_CERTAINTY, .n_given = 3 };
		run_one(&p, &all);
		p.effort = &effort;
		run_one(&p, &h);
		cr_assert_eq(n_of_kind(&h, BB_DECISION_CHOOSE), 3);
		double before = INFINITY;
		int n_better = 0, n_as_good = 0;
		for (int i = 0; i < h.n_decisions; i++) {
			const struct bb_decision *d = &h.decisions[i];
			cr_assert_float_eq(d->value, all.certainty[d->branch] / LENGTH, 1e-6);
			cr_assert_leq(d->value, before);
			before = d->value;
		}
		for (int i = 0; i < N; i++) {
			n_better += all.certainty[i] / LENGTH > before + 1e-9;
			n_as_good += all.certainty[i] / LENGTH > before - 1e-9;
		}
		cr_assert(before > 0 && n_better <= 2 && n_as_good >= 3);
	}
	bb_engine_destroy(engine);
}

/* ---- probes ---- */

/* Token 5 ends thinking, which the texts never do by themselves. */
static struct bb_effort probing(int stable) {
	return (struct bb_effort){ .thinking = { .starts_inside = true, .end = "5" },
		.answer_pattern = "number", .probe_every = 2, .probe_tokens = 3, .probe_stable = stable,
		.probe_text = "21 22" };
}

static void check_probes(const struct room *room) {
	static struct heard all, h;
	const struct bb_effort often = probing(1), never = probing(50);
	open_tiny(room->model, room->n_tokens, room->n_contexts);
	struct bb_request_params p = ask(3, NULL);
	p.n = N;
	run_one(&p, &all);
	p.effort = &never;
	run_one(&p, &h);
	for (int i = 0; i < N; i++) {
		expect_same_tokens(&all, &h, i, LENGTH);
	}
	cr_assert_eq(n_of_kind(&h, BB_DECISION_PROBE), 2 * N); /* behind 2 and 4 tokens */
	cr_assert_eq(h.usage.n_probe_tokens, 2 * N * 3);
	cr_assert_eq(h.usage.n_output, N * LENGTH);
	p.effort = &often;
	run_one(&p, &h);
	cr_assert_eq(n_of_kind(&h, BB_DECISION_CLOSE), N);
	for (int i = 0; i < N; i++) {
		cr_assert(h.ids[i][0] == all.ids[i][0] && h.ids[i][1] == all.ids[i][1]);
		cr_assert_eq(h.ids[i][2], 5, "branch %d goes on with %d", i, h.ids[i][2]);
	}
	cr_assert_eq(h.usage.n_thinking, 2 * N);
	bb_engine_destroy(engine);
}

Test(probes, close_thinking_when_the_answer_stands) {
	check_probes(&(struct room){ "llama" });
	check_probes(&(struct room){ "llama", .n_tokens = 320 });
	check_probes(&(struct room){ "mamba2" });
	check_probes(&(struct room){ "mamba2", .n_contexts = 4 });
	check_probes(&(struct room){ "falcon-h1", .n_tokens = 512, .n_contexts = 5 });
}

Test(probes, on_a_device, .timeout = 300) {
	device = test_device();
	check_probes(&(struct room){ "llama", .n_tokens = 320 });
	check_probes(&(struct room){ "falcon-h1" });
}

/* ---- who leaves, and what fails ---- */

static double virtual_clock(void *user) {
	return *(const double *)user;
}

/* Of the answers that were whole by then one is chosen. */
Test(leaving, at_the_deadline) {
	static struct heard h;
	double now = 1;
	open_tiny("llama", 0, 0);
	const struct bb_scheduler_params sp = { .clock = virtual_clock, .clock_user = &now };
	struct bb_scheduler *s = new_scheduler(engine, &sp);
	const struct bb_effort effort = consensus_of(0.99);
	struct bb_request_params p = ask(7, &effort);
	bool idle;
	p.deadline_ms = 1000;
	submit_heard(s, p, &h);
	while (n_of_kind(&h, BB_DECISION_START) == 0) {
		step(s, &idle);
	}
	const int n_whole = h.n_finished;
	step(s, &idle);
	now = 3;
	step(s, &idle);
	cr_assert(h.has_ended && n_whole >= 6 && n_whole < N);
	for (int i = 0; i < N; i++) {
		cr_assert_eq(h.finish[i], i < n_whole ? BB_FINISH_LENGTH : BB_FINISH_DEADLINE);
	}
	cr_assert_lt(one_of_kind(&h, BB_DECISION_CHOOSE)->branch, n_whole);
	bb_request_release(h.request);
	bb_scheduler_destroy(s);
	bb_engine_destroy(engine);
}

static struct bb_effort all_at_once(void) {
	struct bb_effort effort = probing(2);
	effort.choice = BB_CHOICE_WEIGHTED;
	effort.consensus = 0.95;
	effort.n_warmup = 6;
	effort.group = GROUP;
	return effort;
}

/* Whoever of 16 branches has said whatever when the client leaves, all is free in the next step. */
Test(leaving, in_the_middle) {
	static const char *const models[] = { "llama", "mamba2", "falcon-h1" };
	const struct bb_effort efforts[] = { consensus_of(0.99), all_at_once(),
		{ .choice = BB_CHOICE_CERTAINTY } };
	static struct heard h;
	for (size_t k = 0; k < COUNT(models); k++) {
		open_tiny(models[k], 0, 0);
		for (int at = 1; at < 60; at += 7) {
			const struct bb_scheduler_params sp = { .no_prefix_cache = true };
			struct bb_scheduler *s = new_scheduler(engine, &sp);
			struct bb_request_params p = ask(3, &efforts[at % 3]);
			bool idle = false;
			submit_heard(s, p, &h);
			while (h.n_tokens < at && !h.has_ended) {
				step(s, &idle);
			}
			bb_request_cancel(h.request);
			step(s, &idle);
			cr_assert(h.has_ended && h.n_finished == N, "%d of %d", h.n_finished, N);
			cr_assert_eq(engine->n_contexts, 0);
			cr_assert_eq(engine_used_bytes(engine).all, 0);
			bb_scheduler_destroy(s);
			bb_request_release(h.request);
		}
		bb_engine_destroy(engine);
	}
}

/* Whichever allocation fails, the request ends, well or with a sentence, and nothing is left. */
static void check_failures(const char *model, const struct bb_effort *effort) {
	static struct heard all, h;
	open_tiny(model, 0, 0);
	struct bb_request_params p = ask(3, effort);
	run_one(&p, &all);
	bool has_failed = true, failed_any = false;
	for (long n = 1; has_failed; n += n < 300 ? 3 : 17) {
		struct bb_scheduler *s = new_scheduler(engine, NULL);
		struct bb_error err = { 0 };
		const long before = base_count_allocs();
		memset(&h, 0, sizeof(h));
		p.user = &h;
		base_fail_alloc_at(n);
		if (bb_request_submit(&h.request, s, &p, &err)) {
			run_all(s);
		}
		has_failed = base_count_allocs() - before >= n;
		base_fail_alloc_at(0);
		cr_assert(h.request != NULL || err.code == BB_ERR_MEMORY, "%s", err.text);
		cr_assert(h.request == NULL || h.has_ended);
		cr_assert(h.error.code == BB_OK || h.error.code == BB_ERR_MEMORY, "%s", h.error.text);
		failed_any = failed_any || err.code != BB_OK || h.error.code != BB_OK;
		if (h.request != NULL && h.error.code == BB_OK) {
			cr_assert_eq(h.usage.n_branches, all.usage.n_branches, "allocation %ld", n);
			for (int i = 0; i < N; i++) {
				expect_same_tokens(&all, &h, i, all.n_ids[i]);
			}
		}
		bb_request_release(h.request);
		bb_scheduler_destroy(s);
		cr_assert_eq(engine->n_contexts, 0);
		cr_assert_eq(engine_used_bytes(engine).all, 0);
	}
	cr_assert(failed_any);
	bb_engine_destroy(engine);
}

Test(leaving, failing_allocations, .timeout = 200) {
	const struct bb_effort effort = all_at_once();
	check_failures("llama", &effort);
	check_failures("falcon-h1", &effort);
}

/* ---- what is refused ---- */

Test(refused, settings_that_contradict_themselves) {
	static const struct {
		struct bb_effort effort;
		int n;
		const char *why;
	} cases[] = {
		{ { .consensus = 0.9 }, 4, "answer_pattern" },
		{ { .consensus = 0.5, .answer_pattern = "number" }, 4, "more than 0.5" },
		{ { .consensus = 1, .answer_pattern = "number" }, 4, "less than 1" },
		{ { .consensus = NAN, .answer_pattern = "number" }, 4, "less than 1" },
		{ { .consensus = 0.9, .answer_pattern = "number" }, 1, "n of 2" },
		{ { .choice = BB_CHOICE_VOTE }, 4, "answer_pattern" },
		{ { .choice = BB_CHOICE_CERTAINTY, .n_given = 5 }, 4, "n_given" },
		{ { .n_given = 1 }, 4, "n_given" },
		{ { .choice = (enum bb_choice)9 }, 4, "choice" },
		{ { .n_warmup = 4, .answer_pattern = "number" }, 4, "n_warmup" },
		{ { .n_warmup = -1 }, 4, "n_warmup" },
		{ { .n_warmup = 2 }, 4, "answer_pattern" },
		{ { .n_warmup = 2, .answer_pattern = "number", .keep = 2 }, 4, "keep" },
		{ { .n_warmup = 2, .answer_pattern = "number", .conf_share = -1 }, 4, "conf_share" },
		{ { .n_warmup = 2, .answer_pattern = "number", .group = -1 }, 4, "group" },
		{ { .probe_every = 4, .answer_pattern = "number" }, 1, "thinking" },
		{ { .probe_every = 4, .thinking.end = "5" }, 1, "answer_pattern" },
		{ { .probe_every = -1 }, 1, "probe_every" },
		{ { .probe_tokens = -1 }, 1, "probe_tokens" },
		{ { .probe_every = 4, .thinking.end = "5", .answer_pattern = "number", .probe_text = "" },
			1, "probe_text" },
		{ { .answer_pattern = "(" }, 1, "regular expression" },
		{ { .answer_pattern = "" }, 1, "empty" },
	};
	open_tiny("llama", 0, 0);
	for (size_t i = 0; i < COUNT(cases); i++) {
		struct bb_error err = { 0 };
		cr_expect_not(bb_effort_check(engine, &cases[i].effort, cases[i].n, 20, &err), "case %zu",
			i);
		cr_expect(err.code == BB_ERR_USAGE || err.code == BB_ERR_INPUT);
		cr_expect_not_null(strstr(err.text, cases[i].why), "case %zu: %s", i, err.text);
	}
	bb_engine_destroy(engine);
}

/* ---- all of them at random ---- */

static uint32_t random_state = 1;

static int random_below(int n) {
	return (int)(mixed_random(&random_state) % (uint32_t)n);
}

static void random_effort(struct bb_effort *e) {
	static const char *const patterns[] = { "number", "line", "(\\d)", "never", "(1+)+$" };
	memset(e, 0, sizeof(*e));
	if (random_below(3) > 0) {
		e->thinking = (struct bb_thinking){ .starts_inside = random_below(2) == 0,
			.begin = random_below(2) == 0 ? "12" : NULL,
			.end = random_below(2) == 0 ? "13" : "13 11",
			.extension = random_below(2) == 0 ? "11 12" : NULL };
		e->has_budget = random_below(2) == 0;
		e->max_thinking = random_below(LENGTH + 2);
		e->min_thinking = random_below(3) == 0 ? random_below(4) : 0;
		e->probe_every = random_below(2) * (1 + random_below(4));
		e->probe_tokens = random_below(4);
		e->probe_stable = random_below(3);
		e->probe_text = "21 22";
	}
	e->answer_pattern = random_below(4) > 0 ? patterns[random_below((int)COUNT(patterns))] : NULL;
	e->choice = (enum bb_choice)random_below(4);
	e->consensus = random_below(2) == 0 ? 0.6 + 0.39 * random_below(100) / 100 : 0;
	e->n_warmup = random_below(2) * random_below(8);
	e->group = random_below(5);
	e->keep = random_below(10) / 10.0;
}

static void expect_ended(const struct bb_request_params *p, const struct heard *h) {
	const struct bb_effort *e = p->effort;
	int n_begun = 0;
	cr_assert(h->has_ended && h->error.code == BB_OK, "%s", h->error.text);
	cr_assert_eq(h->n_finished, p->n);
	for (int i = 0; i < p->n; i++) {
		n_begun += h->n_ids[i] > 0;
		cr_assert(h->n_ids[i] > 0 || h->finish[i] == BB_FINISH_DROPPED);
	}
	cr_assert_eq(h->usage.n_branches, n_begun);
	cr_assert(!e->has_budget || h->usage.n_thinking <= e->max_thinking * n_begun);
	cr_assert(e->choice == BB_CHOICE_ALL || n_of_kind(h, BB_DECISION_CHOOSE) == 1);
	cr_assert(e->probe_every > 0 || h->usage.n_probe_tokens == 0);
}

/* Whatever is combined ends, alone as beside others with little memory, with the same tokens. */
static void check_compositions(const char *model, int n_tokens, int n_contexts, int n_rounds) {
	static struct heard h[MOST_REQUESTS], alone;
	open_tiny(model, n_tokens, n_contexts);
	for (int round = 0; round < n_rounds; round++) {
		struct bb_effort efforts[MOST_REQUESTS];
		struct bb_request_params p[MOST_REQUESTS];
		struct bb_scheduler *s = new_scheduler(engine, NULL);
		for (int i = 0; i < MOST_REQUESTS;) {
			struct bb_error err = { 0 };
			random_effort(&efforts[i]);
			p[i] = ask((uint64_t)(round * MOST_REQUESTS + i), &efforts[i]);
			p[i].n = 1 + random_below(8);
			if (bb_effort_check(engine, &efforts[i], p[i].n, LENGTH, &err)) {
				submit_heard(s, p[i], &h[i]);
				i++;
			}
		}
		run_all(s);
		bb_scheduler_destroy(s);
		for (int i = 0; i < MOST_REQUESTS; i++) {
			expect_ended(&p[i], &h[i]);
			bb_request_release(h[i].request);
		}
		const int i = round % MOST_REQUESTS;
		run_one(&p[i], &alone);
		for (int k = 0; k < p[i].n; k++) {
			expect_same_tokens(&alone, &h[i], k, alone.n_ids[k]);
		}
		cr_assert_eq(alone.n_decisions, h[i].n_decisions);
	}
	bb_engine_destroy(engine);
}

Test(compositions, end, .timeout = 120) {
	check_compositions("llama", 320, 0, 60);
	check_compositions("mamba2", 0, 5, 30);
	check_compositions("falcon-h1", 512, 5, 35);
}
