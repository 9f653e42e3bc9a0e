/* SPDX-License-Identifier: Apache-2.0
 *
 * Segments of contexts: what belongs to which, through forks, rewinds, failed allocations and
 * failed reads. Random orders of operations are in test_context. */
#include "models.h"

#include "engine.h"

#include <signal.h>

static const int32_t ids[] = { 5, 17, 23, 99, 3, 42, 8, 111, 64, 2 };

static struct bb_engine *open_tiny(void) {
	const struct bb_engine_params params = { .path = tiny_path("llama"), .n_threads = 1,
		.max_batch_tokens = 16 };
	return open_with(&params);
}

static void begin(struct bb_context *c, int first, enum bb_role role) {
	struct bb_error err = { 0 };
	cr_assert(bb_context_begin_segment(c, first, role, &err), "%s", err.text);
}

static void rewind_to(struct bb_context *c, int n) {
	struct bb_error err = { 0 };
	cr_assert(bb_context_rewind(c, n, &err), "%s", err.text);
}

/* want: "role first+n_tokens", joined by blanks */
static void expect(const struct bb_context *c, const char *want) {
	char got[256] = "";
	for (int i = 0; i < bb_context_n_segments(c); i++) {
		const struct bb_segment s = bb_context_segment(c, i);
		const size_t used = strlen(got);
		snprintf(got + used, sizeof(got) - used, "%s%s %d+%d", i > 0 ? " " : "",
			bb_role_name(s.role), s.first, s.n_tokens);
	}
	cr_assert_str_eq(got, want);
}

/* "system 0+3 user 3+4 assistant 7+3" */
static struct bb_context *three_segments(struct bb_engine *e) {
	struct bb_context *c = new_context(e);
	begin(c, 0, BB_ROLE_SYSTEM);
	feed(c, e, ids, 3, NULL);
	begin(c, 3, BB_ROLE_USER);
	feed(c, e, ids + 3, 4, NULL);
	begin(c, 7, BB_ROLE_ASSISTANT);
	feed(c, e, ids + 7, 3, NULL);
	return c;
}

Test(segments, hold_every_token) {
	struct bb_engine *e = open_tiny();
	struct bb_context *c = three_segments(e), *d = new_context(e);
	expect(c, "system 0+3 user 3+4 assistant 7+3");
	expect(d, "");
	begin(d, 0, BB_ROLE_USER);
	expect(d, "user 0+0");
	feed(d, e, ids, 2, NULL);
	begin(d, 2, BB_ROLE_THINKING);
	expect(d, "user 0+2 thinking 2+0");
	bb_context_destroy(c);
	bb_context_destroy(d);
	bb_engine_destroy(e);
}

Test(segments, tokens_before_the_first_are_one_of_no_role) {
	struct bb_engine *e = open_tiny();
	struct bb_context *c = new_context(e);
	feed(c, e, ids, 4, NULL);
	expect(c, "none 0+4");
	begin(c, 4, BB_ROLE_TOOL);
	expect(c, "none 0+4 tool 4+0");
	feed(c, e, ids, 1, NULL);
	expect(c, "none 0+4 tool 4+1");
	bb_context_destroy(c);
	bb_engine_destroy(e);
}

Test(segments, a_prompt_can_be_marked_after_it_was_read) {
	struct bb_engine *e = open_tiny();
	struct bb_context *c = new_context(e);
	feed(c, e, ids, 10, NULL);
	begin(c, 0, BB_ROLE_SYSTEM);
	begin(c, 2, BB_ROLE_USER);
	begin(c, 9, BB_ROLE_ASSISTANT);
	expect(c, "system 0+2 user 2+7 assistant 9+1");
	bb_context_destroy(c);
	bb_engine_destroy(e);
}

Test(segments, one_that_begins_at_the_same_token_is_replaced) {
	struct bb_engine *e = open_tiny();
	struct bb_context *c = three_segments(e);
	begin(c, 10, BB_ROLE_USER);
	begin(c, 10, BB_ROLE_TOOL);
	expect(c, "system 0+3 user 3+4 assistant 7+3 tool 10+0");
	feed(c, e, ids, 2, NULL);
	begin(c, 10, BB_ROLE_THINKING);
	expect(c, "system 0+3 user 3+4 assistant 7+3 thinking 10+2");
	bb_context_destroy(c);
	bb_engine_destroy(e);
}

static void begin_at(int first) {
	struct bb_engine *e = open_tiny();
	struct bb_error err = { 0 };
	bb_context_begin_segment(three_segments(e), first, BB_ROLE_USER, &err);
}

Test(segments, none_begins_before_the_last, .signal = SIGABRT) {
	begin_at(6);
}

Test(segments, none_begins_behind_the_end, .signal = SIGABRT) {
	begin_at(11);
}

/* ---- rewind ---- */

Test(segments, rewind_into_one_cuts_it) {
	struct bb_engine *e = open_tiny();
	struct bb_context *c = three_segments(e);
	rewind_to(c, 5);
	expect(c, "system 0+3 user 3+2");
	feed(c, e, ids, 1, NULL);
	expect(c, "system 0+3 user 3+3");
	begin(c, 6, BB_ROLE_TOOL);
	expect(c, "system 0+3 user 3+3 tool 6+0");
	bb_context_destroy(c);
	bb_engine_destroy(e);
}

Test(segments, rewind_forgets_what_begins_there) {
	struct bb_engine *e = open_tiny();
	struct bb_context *c = three_segments(e);
	rewind_to(c, 7);
	expect(c, "system 0+3 user 3+4");
	begin(c, 7, BB_ROLE_TOOL);
	rewind_to(c, 7); /* no token is forgotten, but the empty segment is */
	expect(c, "system 0+3 user 3+4");
	feed(c, e, ids, 1, NULL);
	expect(c, "system 0+3 user 3+5");
	rewind_to(c, 0);
	expect(c, "");
	feed(c, e, ids, 1, NULL);
	expect(c, "none 0+1");
	bb_context_destroy(c);
	bb_engine_destroy(e);
}

static bool stop_at_half(void *user, const char *what, double done, double total) {
	(void)user;
	(void)what;
	return done < total / 2;
}

Test(segments, a_prompt_that_fails_leaves_the_one_that_was_begun_for_it) {
	struct bb_engine *e = open_tiny();
	struct bb_context *c = three_segments(e), *fork;
	struct bb_error err = { 0 };
	int32_t many[100];
	make_ids(many, 100, vocab_of(e), 1);
	begin(c, 10, BB_ROLE_USER);
	fork = fork_of(c);
	cr_assert_not(bb_prefill(c, many, 100, NULL, stop_at_half, NULL, &err));
	cr_assert_eq(err.code, BB_ERR_CANCELLED);
	expect(c, "system 0+3 user 3+4 assistant 7+3 user 10+0");
	expect(fork, "system 0+3 user 3+4 assistant 7+3 user 10+0");
	feed(c, e, ids, 2, NULL);
	expect(c, "system 0+3 user 3+4 assistant 7+3 user 10+2");
	bb_context_destroy(c);
	bb_context_destroy(fork);
	bb_engine_destroy(e);
}

/* ---- fork ---- */

Test(segments, forks_share_until_they_differ) {
	struct bb_engine *e = open_tiny();
	struct bb_context *c = three_segments(e), *one = fork_of(c), *two = fork_of(c);
	cr_assert_eq(one->timeline.segments.array, c->timeline.segments.array);
	begin(one, 10, BB_ROLE_THINKING);
	cr_assert_eq(one->timeline.segments.array, c->timeline.segments.array);
	begin(two, 10, BB_ROLE_TOOL);
	begin(c, 7, BB_ROLE_USER);
	expect(one, "system 0+3 user 3+4 assistant 7+3 thinking 10+0");
	expect(two, "system 0+3 user 3+4 assistant 7+3 tool 10+0");
	expect(c, "system 0+3 user 3+4 user 7+3");
	bb_context_destroy(c);
	bb_context_destroy(one);
	rewind_to(two, 4);
	begin(two, 4, BB_ROLE_ASSISTANT);
	expect(two, "system 0+3 user 3+1 assistant 4+0");
	bb_context_destroy(two);
	bb_engine_destroy(e);
}

/* ---- memory ---- */

/* Begins segments in c, of which `other` may be a fork, until none needs memory any more. */
static void fail_every_allocation(struct bb_context *c, struct bb_context *other, int first) {
	static const char before[] = "system 0+3 user 3+4 assistant 7+3";
	struct bb_error err = { 0 };
	long n = 1;
	for (;; n++) {
		base_fail_alloc_at(n);
		const bool done = bb_context_begin_segment(c, first, BB_ROLE_TOOL, &err);
		base_fail_alloc_at(0);
		if (done) {
			break;
		}
		cr_assert_eq(err.code, BB_ERR_MEMORY);
		cr_assert_not_null(strstr(err.text, "timeline"), "%s", err.text);
		expect(c, before);
		expect(other, before);
		err = (struct bb_error){ 0 };
	}
	cr_assert_gt(n, 1); /* some needed memory */
	expect(c, first == 7 ? "system 0+3 user 3+4 tool 7+3"
		: "system 0+3 user 3+4 assistant 7+3 tool 10+0");
	expect(other, before);
}

Test(segments, no_memory_changes_nothing) {
	struct bb_engine *e = open_tiny();
	for (int first = 7; first <= 10; first += 3) {
		struct bb_context *c = three_segments(e), *fork = fork_of(c), *third = fork_of(c);
		begin(third, 10, BB_ROLE_USER); /* takes the end of what is shared */
		fail_every_allocation(c, fork, first);
		bb_context_destroy(c);
		bb_context_destroy(fork);
		bb_context_destroy(third);
	}
	bb_engine_destroy(e);
}

Test(segments, the_first_one_fails_without_memory) {
	struct bb_engine *e = open_tiny();
	struct bb_context *c = new_context(e);
	for (long n = 1; n <= 2; n++) {
		struct bb_error err = { 0 };
		base_fail_alloc_at(n);
		cr_assert_not(bb_context_begin_segment(c, 0, BB_ROLE_USER, &err));
		base_fail_alloc_at(0);
		expect(c, "");
	}
	bb_context_destroy(c);
	bb_engine_destroy(e);
}

/* Room for tokens is promised by bb_context_reserve; a segment brings its own. */
Test(segments, steps_after_reserve_allocate_nothing) {
	struct bb_engine *e = open_tiny();
	struct bb_context *c = three_segments(e), *fork;
	struct bb_error err = { 0 };
	begin(c, 10, BB_ROLE_USER);
	fork = fork_of(c);
	cr_assert(bb_context_reserve(c, 20, &err), "%s", err.text);
	begin(c, 10, BB_ROLE_TOOL);
	base_forbid_alloc(true);
	feed(c, e, ids, 10, NULL);
	feed(c, e, ids, 10, NULL);
	base_forbid_alloc(false);
	expect(c, "system 0+3 user 3+4 assistant 7+3 tool 10+20");
	expect(fork, "system 0+3 user 3+4 assistant 7+3 user 10+0");
	bb_context_destroy(c);
	bb_context_destroy(fork);
	bb_engine_destroy(e);
}

Test(segments, many_are_kept) {
	enum { N = 1000 };
	struct bb_engine *e = open_tiny();
	struct bb_context_params params = { .max_len = N };
	struct bb_context *c = NULL;
	struct bb_error err = { 0 };
	cr_assert(bb_context_create(&c, e, &params, &err), "%s", err.text);
	for (int i = 0; i < N; i++) {
		begin(c, i, i % 2 == 0 ? BB_ROLE_USER : BB_ROLE_ASSISTANT);
		feed(c, e, ids, 1, NULL);
	}
	cr_assert_eq(bb_context_n_segments(c), N);
	for (int i = 0; i < N; i++) {
		const struct bb_segment s = bb_context_segment(c, i);
		cr_assert(s.first == i && s.n_tokens == 1 && s.role == (i % 2 == 0 ? BB_ROLE_USER
			: BB_ROLE_ASSISTANT));
	}
	bb_context_destroy(c);
	bb_engine_destroy(e);
}

Test(segments, roles_have_names) {
	for (int i = BB_ROLE_NONE; i <= BB_ROLE_TOOL; i++) {
		enum bb_role role = BB_ROLE_NONE;
		cr_assert(bb_role_parse(bb_role_name((enum bb_role)i), &role));
		cr_assert_eq((int)role, i);
	}
	enum bb_role role = BB_ROLE_TOOL;
	cr_assert_not(bb_role_parse("narrator", &role));
	cr_assert_eq(role, BB_ROLE_TOOL);
}
