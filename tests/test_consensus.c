/* SPDX-License-Identifier: Apache-2.0
 *
 * Policies over several answers, through the scheduler: each branch that they begin has the tokens
 * that it has among all n, and where they stop, what they drop and what they choose is what their
 * rules say of these, worked out here. On tiny models whose answers are one of three numbers. */
#include "heard.h"

#include "effort/confidence.h"
#include "effort/vote.h"
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
	cr_assert_eq(h.decisions[0].kind, BB_DECISION_START);
	cr_assert_str_eq(h.decisions[0].why, "no answer has a vote yet");
	cr_assert_eq(h.usage.n_cot_steps, all.usage.n_cot_steps, "%d, %d", h.usage.n_cot_steps,
		all.usage.n_cot_steps);
	cr_assert_gt(h.usage.n_cot_steps, 0);
	bb_engine_destroy(engine);
}

Test(consensus, smollm2, .timeout = 120) {
	static struct heard all, h;
	static const char prompt[] = "Q: 3 + 4 = ?\nA: 7\nQ: 5 + 1 = ?\nA: 6\nQ: 8 + 6 = ?\nA:";
	const struct bb_engine_params params = { .path = real_path("smollm2"), .max_model_len = 512 };
	const struct bb_effort effort = consensus_of(0.9);
	struct bb_tokens tokens = { 0 };
	struct bb_error err = { 0 };
	engine = open_with(&params);
	cr_assert(bb_tokenize(engine, prompt, sizeof(prompt) - 1, false, false, &tokens, &err), "%s",
		err.text);
	struct bb_request_params p = request(engine, tokens.ids, (int)tokens.n, LENGTH, 3);
	p.generation.sampling.temperature = 0.7f;
	p.n = N;
	p.event = hear;
	run_one(&p, &all);
	p.effort = &effort;
	run_one(&p, &h);
	cr_assert_geq(h.usage.n_branches, vote_least(0, 0, 0.9, N));
	for (int i = 0; i < N; i++) {
		expect_same_tokens(&all, &h, i, i < h.usage.n_branches ? all.n_ids[i] : 0);
	}
	cr_assert_eq(n_of_kind(&h, BB_DECISION_FINISH), h.usage.n_branches < N);
	cr_assert_eq(n_of_kind(&h, BB_DECISION_CHOOSE), 1);
	bb_tokens_finish(&tokens);
	bb_engine_destroy(engine);
}

/* Answers that are words: of a grammar that leaves four of them. */
Test(consensus, of_texts) {
	static struct outcome all, o;
	const struct bb_engine_params params = { .path = with_vocabulary("llama"), .n_threads = 1,
		.max_model_len = 512 };
	struct bb_grammar *grammar;
	struct bb_error err = { 0 };
	static const char source[] = "is [12] or [34]";
	engine = open_with(&params);
	make_ids(ids, MAX_PROMPT, vocab_of(engine), 1);
	cr_assert(bb_grammar_create(&grammar, engine, BB_GRAMMAR_REGEX, source, sizeof(source) - 1,
		&err), "%s", err.text);
	const struct bb_effort effort = { .answer_pattern = "is (.)", .choice = BB_CHOICE_VOTE,
		.consensus = 0.8 };
	for (uint64_t seed = 0; seed < 8; seed++) {
		struct bb_request_params p = request(engine, ids, 50, 20, seed);
		struct vote votes[N];
		p.n = N;
		p.generation.sampling.grammar = grammar;
		for (int i = 0; i < 2; i++) {
			struct bb_scheduler *s = new_scheduler(engine, NULL);
			struct outcome *to = i == 0 ? &all : &o;
			memset(to, 0, sizeof(*to));
			p.effort = i == 0 ? NULL : &effort;
			submit(s, p, to);
			run_all(s);
			bb_scheduler_destroy(s);
			bb_request_release(to->request);
		}
		int n = 0, winner;
		do {
			votes[n] = (struct vote){ .is_given = true, .weight = 1,
				.answer = all.text[n][3] == '1' ? "1" : "2" };
			const struct vote_count c = vote_count(votes, ++n, false);
			winner = c.leader;
			if (vote_beta(c.n, c.n_second) >= effort.consensus) {
				break;
			}
		} while (n < N);
		cr_assert_eq(o.usage.n_branches, n);
		for (int i = 0; i < N; i++) {
			cr_assert_str_eq(o.text[i], i < n ? all.text[i] : "");
		}
		const struct bb_decision *last = &o.decisions[o.n_decisions - 1];
		cr_assert(last->kind == BB_DECISION_CHOOSE && last->branch == winner, "%s",
			o.error.text);
	}
	bb_grammar_destroy(grammar);
	bb_engine_destroy(engine);
	unlink(params.path);
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
