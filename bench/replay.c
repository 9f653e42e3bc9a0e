/* SPDX-License-Identifier: Apache-2.0
 *
 * What policies would have made of answers that bench/traces recorded: each reads the first of the
 * same n answers of a task, in the order of their branches. The rules are the engine's own
 * (engine/effort/: answers, votes, confidences, worths), called in the order in which its policies
 * do; bench/effort_curves makes curves of what is printed.
 *
 * A line a task: how many tokens each answer has, and per setting [is the given answer right,
 * tokens spent, answers begun, which one is given]. Then a line a budget, from equal shares of 1 to
 * n - 1 answers: per task what these make of it, and what water-filling makes of no more tokens
 * ([how often right, tokens, answers], means over as many orders of the same answers, as recorded
 * and shuffled: who happens to come first would hide differences of this size).
 *
 * replay TASKS TRACES [PATTERN] */
#include "bobbin.h"

#include "fail.h"
#include "pattern.h"

#include "effort/answer.h"
#include "effort/confidence.h"
#include "effort/vote.h"
#include "effort/worth.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_N = 64, N_GROUPS = 3, ORDERS = 32 };
static const int groups[N_GROUPS] = { 8, 16, 32 }; /* tokens; answers have tens of them */
static const double thresholds[] = { 0.7, 0.75, 0.8, 0.85, 0.9, 0.925, 0.95, 0.975, 0.99 };
static const int warmups[] = { 4, 8 };
static const double keeps[] = { 0.1, 0.3, 0.5, 0.7, 0.9 };
static const double conf_share = 0.95;

struct task {
	const char *name, *family;
	json_t *confidences[MAX_N]; /* arrays, in hundredths */
	struct vote votes[MAX_N];   /* of weight 1 */
	bool is_right[MAX_N];
	int n_tokens[MAX_N];
	double lowest[N_GROUPS][MAX_N];
	double value[MAX_N], cost[MAX_N]; /* of one more answer behind so many */
};

struct replay {
	struct answer_pattern *pattern;
	json_t **lines; /* [n_tasks] of TRACES: tasks borrow from them */
	json_t *list;   /* of TASKS, by name */
	struct task *tasks; /* [n_tasks] */
	int n_tasks, n;
};

/* ---- reading ---- */

/* An answer's canonical form; the caller frees it with bb_text_finish. */
static struct bb_text answer_of(const struct replay *r, const char *text) {
	struct bb_text out = { 0 };
	struct bb_error err = { 0 };
	const bool ok = r->pattern != NULL
		? answer_find(r->pattern, text, strlen(text), 0, &out, &err)
		: answer_canonical(text, strlen(text), &out, &err);
	if (!ok) {
		fail("%s", err.text);
		exit(1);
	}
	return out;
}

static double lowest_of(const json_t *confidences, int group) {
	struct confidence c;
	struct bb_error err = { 0 };
	if (!confidence_init(&c, group, &err)) {
		fail("%s", err.text);
		exit(1);
	}
	for (size_t i = 0; i < json_array_size(confidences); i++) {
		confidence_add(&c, (float)json_integer_value(json_array_get(confidences, i)) / 100);
	}
	const double lowest = confidence_lowest(&c);
	confidence_finish(&c);
	return lowest;
}

static bool read_branch(const struct replay *r, struct task *t, int i, json_t *branch,
	const char *right) {
	const char *text, *finish;
	double certainty;
	json_error_t error;
	if (json_unpack_ex(branch, &error, 0, "{s:s, s:i, s:s, s:F, s:o}", "text", &text, "n_tokens",
		&t->n_tokens[i], "finish", &finish, "certainty", &certainty, "confidences",
		&t->confidences[i]) != 0) {
		return fail("task '%s', answer %d: %s", t->name, i, error.text);
	}
	struct bb_text answer = answer_of(r, text);
	t->votes[i] = (struct vote){
		.is_given = true, .is_whole = strcmp(finish, "stop") == 0, .answer = answer.data,
		.certainty = certainty, .weight = 1,
	};
	t->is_right[i] = answer.bytes > 0 && strcmp(answer.data, right) == 0;
	for (int g = 0; g < N_GROUPS; g++) {
		t->lowest[g][i] = lowest_of(t->confidences[i], groups[g]);
	}
	return true;
}

static bool read_task(struct replay *r, json_t *line) {
	struct task *t = &r->tasks[r->n_tasks];
	const char *right;
	json_t *branches;
	json_error_t error;
	if (json_unpack_ex(line, &error, 0, "{s:s, s:o}", "task", &t->name, "branches",
			&branches) != 0 ||
		json_unpack_ex(json_object_get(r->list, t->name), &error, 0, "{s:s, s:s}", "family",
			&t->family, "answer", &right) != 0) {
		return fail("a recorded task is not in the list: %s", error.text);
	}
	const int n = (int)json_array_size(branches);
	if (n < 2 || n > MAX_N || (r->n_tasks > 0 && n != r->n)) {
		return fail("task '%s' has %d answers, expected %d", t->name, n, r->n > 0 ? r->n : MAX_N);
	}
	r->n = n;
	const struct replay plain = { 0 };
	struct bb_text canonical = answer_of(&plain, right);
	bool ok = canonical.bytes > 0 || fail("task '%s' has no answer", t->name);
	for (int i = 0; ok && i < n; i++) {
		ok = read_branch(r, t, i, json_array_get(branches, (size_t)i), canonical.data);
	}
	bb_text_finish(&canonical);
	r->lines[r->n_tasks++] = line;
	return ok;
}

/* JSON values of a file, one behind the other, each given to `take`. */
static bool read_lines(struct replay *r, const char *path,
	bool (*take)(struct replay *, json_t *)) {
	FILE *f = fopen(path, "r");
	if (f == NULL) {
		return fail("'%s' can't be read: %s", path, strerror(errno));
	}
	json_error_t error;
	json_t *line;
	bool ok = true;
	while (ok && (line = json_loadf(f, JSON_DISABLE_EOF_CHECK, &error)) != NULL) {
		ok = take(r, line);
	}
	if (ok && !feof(f)) {
		ok = fail("'%s': %s", path, error.text);
	}
	fclose(f);
	return ok;
}

static bool take_listed(struct replay *r, json_t *line) {
	const char *name = json_string_value(json_object_get(line, "task"));
	return json_object_set_new(r->list, name != NULL ? name : "", line) == 0 && name != NULL;
}

static bool take_recorded(struct replay *r, json_t *line) {
	if (json_object_get(line, "task") == NULL) { /* what was asked of which model */
		json_decref(line);
		return true;
	}
	if (r->n_tasks % 64 == 0) {
		const size_t room = (size_t)r->n_tasks + 64;
		r->tasks = must(realloc(r->tasks, room * sizeof(*r->tasks)));
		r->lines = must(realloc(r->lines, room * sizeof(*r->lines)));
	}
	return read_task(r, line);
}

/* ---- rules ---- */

static int tokens_of(const struct task *t, int n) {
	int sum = 0;
	for (int i = 0; i < n; i++) {
		sum += t->n_tokens[i];
	}
	return sum;
}

/* [is the chosen answer right, tokens, answers, which one is chosen] */
static json_t *outcome(const struct task *t, const struct vote *votes, int n, enum bb_choice choice,
	int n_tokens) {
	const int chosen = vote_choose(votes, n, choice, 0, 0);
	return must(json_pack("[i, i, i, i]", chosen >= 0 && t->is_right[chosen], n_tokens, n, chosen));
}

/* Of the first 1 to n answers. */
static json_t *play_choice(const struct replay *r, const struct task *t, enum bb_choice choice,
	int i_group) {
	json_t *all = must(json_array());
	struct vote votes[MAX_N];
	memcpy(votes, t->votes, sizeof(votes));
	for (int i = 0; i < r->n; i++) {
		votes[i].weight = choice == BB_CHOICE_WEIGHTED ? t->lowest[i_group][i] : 1;
	}
	for (int n = 1; n <= r->n; n++) {
		json_array_append_new(all, outcome(t, votes, n, choice, tokens_of(t, n)));
	}
	return all;
}

static json_t *play_consensus(const struct replay *r, const struct task *t, double threshold) {
	int n = vote_least(0, 0, threshold, r->n);
	while (n < r->n) {
		const struct vote_count v = vote_count(t->votes, n, false);
		if (vote_beta(v.n, v.n_second) >= threshold) {
			break;
		}
		n += vote_least(v.n, v.n_second, threshold, r->n - n);
	}
	return outcome(t, t->votes, n, BB_CHOICE_VOTE, tokens_of(t, n));
}

/* Tokens after which the answer's last group is below the bar; all of them: it never is. */
static int tokens_above(const struct task *t, int i, int group, double bar, bool *is_dropped) {
	struct confidence c;
	struct bb_error err = { 0 };
	if (!confidence_init(&c, group, &err)) {
		fail("%s", err.text);
		exit(1);
	}
	int n = 0;
	for (*is_dropped = false; !*is_dropped && n < t->n_tokens[i]; n++) {
		const json_t *one = json_array_get(t->confidences[i], (size_t)n);
		confidence_add(&c, (float)json_integer_value(one) / 100);
		*is_dropped = confidence_has_group(&c) && confidence_now(&c) < bar;
	}
	confidence_finish(&c);
	return n;
}

static json_t *play_deepconf(const struct replay *r, const struct task *t, int n_warmup,
	double keep, int i_group) {
	struct vote votes[MAX_N] = { 0 };
	double lowest[MAX_N], bar = 0;
	int n = 0, n_tokens = 0, wave = n_warmup;
	while (n < r->n) {
		const int end = n + wave < r->n ? n + wave : r->n;
		for (; n < end; n++) {
			bool is_dropped = false;
			n_tokens += n < n_warmup ? t->n_tokens[n]
				: tokens_above(t, n, groups[i_group], bar, &is_dropped);
			votes[n] = is_dropped ? (struct vote){ 0 } : t->votes[n];
			votes[n].weight = lowest[n] = t->lowest[i_group][n];
		}
		if (n == n_warmup) {
			bar = confidence_bar(lowest, n_warmup, keep);
			for (int i = 0; i < n_warmup; i++) {
				votes[i].weight = votes[i].weight < bar ? 0 : votes[i].weight;
			}
		}
		const struct vote_count v = vote_count(votes, n, true);
		if (v.leader >= 0 && v.share >= conf_share) {
			break;
		}
	}
	return outcome(t, votes, n, BB_CHOICE_WEIGHTED, n_tokens);
}

/* ---- a budget for all tasks ---- */

/* The next answer is expected to have as many tokens as those before had on average. */
static void set_worths(const struct replay *r, struct task *t) {
	for (int n = 1; n < r->n; n++) {
		const struct vote_count v = vote_count(t->votes, n, false);
		t->cost[n] = (double)tokens_of(t, n) / n;
		t->value[n] = worth_vote(v.n, v.n_second, 0, r->n - n);
	}
}

/* How many answers a task draws while one more is worth the price of its tokens. */
static int n_worth(const struct replay *r, const struct task *t, double price) {
	int n = 1;
	while (n < r->n && worth_goes(t->value[n], t->cost[n], price)) {
		n++;
	}
	return n;
}

static double tokens_at(const struct replay *r, double price) {
	double sum = 0;
	for (int i = 0; i < r->n_tasks; i++) {
		sum += tokens_of(&r->tasks[i], n_worth(r, &r->tasks[i], price));
	}
	return sum;
}

/* The lowest price at which all tasks together spend no more than so many answers each would. */
static double price_of(const struct replay *r, int n_each) {
	double budget = 0, low = 0, high = 1;
	for (int i = 0; i < r->n_tasks; i++) {
		budget += tokens_of(&r->tasks[i], n_each);
	}
	for (int i = 0; i < 60 && tokens_at(r, low) > budget; i++) {
		const double middle = (low + high) / 2;
		const bool is_over = tokens_at(r, middle) > budget;
		low = is_over ? middle : low;
		high = is_over ? high : middle;
	}
	return tokens_at(r, low) > budget ? high : low;
}

static void print_line(json_t *line) {
	json_dumpf(line, stdout, JSON_COMPACT | JSON_REAL_PRECISION(6));
	putchar('\n');
	json_decref(line);
}

/* Of a policy that gives a task so many answers: what is summed over orders. */
struct sums {
	double right, tokens, answers;
};

static void add_vote(struct sums *s, const struct task *t, int n) {
	const int chosen = vote_choose(t->votes, n, BB_CHOICE_VOTE, 0, 0);
	s->right += chosen >= 0 && t->is_right[chosen];
	s->tokens += tokens_of(t, n);
	s->answers += n;
}

static void swap_answers(struct task *t, int a, int b) {
	const struct vote vote = t->votes[a];
	const bool is_right = t->is_right[a];
	const int n_tokens = t->n_tokens[a];
	t->votes[a] = t->votes[b];
	t->is_right[a] = t->is_right[b];
	t->n_tokens[a] = t->n_tokens[b];
	t->votes[b] = vote;
	t->is_right[b] = is_right;
	t->n_tokens[b] = n_tokens;
}

/* Another order of each task's answers (Fisher and Yates). What is summed by order only knows
 * votes, tokens and what is right. */
static void shuffle(struct replay *r, uint64_t *random) {
	for (int i = 0; i < r->n_tasks; i++) {
		for (int k = r->n - 1; k > 0; k--) {
			*random = *random * 6364136223846793005u + 1442695040888963407u;
			swap_answers(&r->tasks[i], k, (int)((*random >> 33) % (uint64_t)(k + 1)));
		}
	}
}

static json_t *means_of(const struct replay *r, const struct sums *sums) {
	json_t *all = must(json_array());
	for (int i = 0; i < r->n_tasks; i++) {
		json_array_append_new(all, json_pack("[f, f, f]", sums[i].right / ORDERS,
			sums[i].tokens / ORDERS, sums[i].answers / ORDERS));
	}
	return all;
}

/* The last thing that is done: afterwards the answers are in another order. */
static void print_budgets(struct replay *r) {
	const size_t n_tasks = (size_t)r->n_tasks, n_sums = (size_t)r->n * n_tasks;
	struct sums *equal = must(calloc(n_sums, sizeof(*equal)));
	struct sums *filled = must(calloc(n_sums, sizeof(*filled)));
	uint64_t random = 1;
	for (int order = 0; order < ORDERS; order++) {
		for (int i = 0; i < r->n_tasks; i++) {
			set_worths(r, &r->tasks[i]);
		}
		for (int n_each = 1; n_each < r->n; n_each++) {
			const double price = price_of(r, n_each);
			for (int i = 0; i < r->n_tasks; i++) {
				const struct task *t = &r->tasks[i];
				const size_t at = (size_t)n_each * n_tasks + (size_t)i;
				add_vote(&equal[at], t, n_each);
				add_vote(&filled[at], t, n_worth(r, t, price));
			}
		}
		shuffle(r, &random);
	}
	for (int n_each = 1; n_each < r->n; n_each++) {
		print_line(must(json_pack("{s:i, s:i, s:o, s:o}", "budget", n_each, "orders", ORDERS,
			"equal", means_of(r, equal + (size_t)n_each * n_tasks),
			"filled", means_of(r, filled + (size_t)n_each * n_tasks))));
	}
	free(equal);
	free(filled);
}

static void print_task(const struct replay *r, const struct task *t) {
	json_t *tokens = must(json_array()), *right = must(json_array());
	json_t *consensus = must(json_object()), *deepconf = must(json_object());
	char name[64];
	for (int i = 0; i < r->n; i++) {
		json_array_append_new(tokens, json_integer(t->n_tokens[i]));
		json_array_append_new(right, json_integer(t->is_right[i]));
	}
	for (size_t i = 0; i < sizeof(thresholds) / sizeof(thresholds[0]); i++) {
		snprintf(name, sizeof(name), "%g", thresholds[i]);
		json_object_set_new(consensus, name, play_consensus(r, t, thresholds[i]));
	}
	for (int w = 0; w < 2; w++) {
		for (int g = 0; g < N_GROUPS; g++) {
			for (size_t k = 0; k < sizeof(keeps) / sizeof(keeps[0]); k++) {
				snprintf(name, sizeof(name), "warmup %d, group %d, keep %g", warmups[w], groups[g],
					keeps[k]);
				json_object_set_new(deepconf, name, play_deepconf(r, t, warmups[w], keeps[k], g));
			}
		}
	}
	print_line(must(json_pack("{s:s, s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "task", t->name,
		"family", t->family, "n_tokens", tokens, "is_right", right,
		"vote", play_choice(r, t, BB_CHOICE_VOTE, 0),
		"weighted", play_choice(r, t, BB_CHOICE_WEIGHTED, 1),
		"certainty", play_choice(r, t, BB_CHOICE_CERTAINTY, 0),
		"consensus", consensus, "deepconf", deepconf)));
}

int main(int argc, char **argv) {
	struct replay r = { .list = must(json_object()) };
	struct bb_error err = { 0 };
	if (argc < 3 || argc > 4) {
		fail("expected TASKS TRACES [PATTERN]");
		return 2;
	}
	if (!answer_pattern_create(&r.pattern, argc > 3 ? argv[3] : ANSWER_PATTERN, &err)) {
		fail("%s", err.text);
		return 2;
	}
	bool ok = read_lines(&r, argv[1], take_listed) && read_lines(&r, argv[2], take_recorded) &&
		(r.n_tasks > 0 || fail("'%s' has no answers", argv[2]));
	for (int i = 0; ok && i < r.n_tasks; i++) {
		print_task(&r, &r.tasks[i]);
	}
	if (ok) {
		print_budgets(&r);
	}
	for (int i = 0; i < r.n_tasks; i++) {
		for (int k = 0; k < r.n; k++) {
			struct bb_text answer = { .data = (char *)(uintptr_t)r.tasks[i].votes[k].answer };
			bb_text_finish(&answer);
		}
		json_decref(r.lines[i]);
	}
	free(r.tasks);
	free(r.lines);
	json_decref(r.list);
	answer_pattern_destroy(r.pattern);
	return ok && fflush(stdout) == 0 ? 0 : 1;
}
