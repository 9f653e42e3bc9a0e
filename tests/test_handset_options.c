/* SPDX-License-Identifier: Apache-2.0
 *
 * Hand-set models before they run: tables from JSON and built in, options that a kind takes, what
 * stands in the file, failures of memory. */
#include "handset.h"

#include "base.h"
#include "gguf.h"

#include <criterion/criterion.h>

#include <string.h>
#include <unistd.h>

static bool parse(struct handset_table *t, const char *json, struct bb_error *err) {
	return handset_table_parse(t, "T", "T.json", json, strlen(json), err);
}

static void expect_refused(const char *json, const char *word) {
	struct handset_table t;
	struct bb_error err = { 0 };
	cr_assert(!parse(&t, json, &err), "%s is taken", json);
	cr_assert(strstr(err.text, word) != NULL, "%s: '%s' lacks '%s'", json, err.text, word);
	cr_assert_eq(strncmp(err.text, "T.json", 6), 0, "%s", err.text);
	cr_assert_null(t.next);
}

Test(handset_options, table_of_json) {
	struct handset_table t;
	struct bb_error err = { 0 };
	cr_assert(parse(&t, "{\"delta\": [[1, 0, 2], [2, 1, 0], [0, 0, 0]], \"states\": [\"a\", "
		"\"b\", \"c\"]}", &err), "%s", err.text);
	static const int want[] = { 1, 0, 2, 2, 1, 0, 0, 0, 0 };
	cr_assert(t.n_states == 3 && t.n_symbols == 3);
	cr_assert_eq(memcmp(t.next, want, sizeof(want)), 0);
	cr_assert_str_eq(t.states[2], "c");
	cr_assert_str_eq(t.symbols[1], "x1");
	cr_assert_str_eq(t.name, "T");
	handset_table_finish(&t);
	handset_table_finish(&t);
}

Test(handset_options, bad_tables) {
	expect_refused("", "JSON");
	expect_refused("[[0]]", "object");
	expect_refused("{}", "\"delta\"");
	expect_refused("{\"delta\": 3}", "\"delta\"");
	expect_refused("{\"delta\": []}", "\"delta\"");
	expect_refused("{\"delta\": [[]]}", "symbols");
	expect_refused("{\"delta\": [[0, 0], [1]]}", "delta[1]");
	expect_refused("{\"delta\": [[0, 2], [1, 0]]}", "delta[0][1]");
	expect_refused("{\"delta\": [[0, -1], [1, 0]]}", "0 to 1");
	expect_refused("{\"delta\": [[0, 1.0], [1, 0]]}", "delta[0][1]");
	expect_refused("{\"delta\": [[0]], \"states\": [\"a\", \"b\"]}", "states");
	expect_refused("{\"delta\": [[0]], \"symbols\": [7]}", "symbols[0]");
	expect_refused("{\"delta\": [[0]], \"symbols\": "
		"[\"0123456789012345678901234567890123456789\"]}", "39 bytes");
	expect_refused("{\"delta\": [[0]], \"symbols\": [\"\"]}", "symbols[0]");
	expect_refused("{\"delta\": [[0, 0]], \"symbols\": [\"a\", \"a\"]}",
		"symbols[0] and symbols[1]");
	expect_refused("{\"delta\": [[0]], \"sates\": [\"a\"]}",
		"\"sates\", expected none but \"delta\", \"states\" and \"symbols\"");
}

Test(handset_options, table_too_large) {
	struct bb_text json = { 0 };
	struct bb_error err = { 0 };
	struct handset_table t;
	cr_assert(base_append(&json, "{\"delta\": [", 11, &err));
	for (int q = 0; q < 1001; q++) {
		cr_assert(base_append(&json, q > 0 ? ",[0]" : "[0]", q > 0 ? 4 : 3, &err));
	}
	cr_assert(base_append(&json, "]}", 2, &err));
	cr_assert(!parse(&t, json.data, &err));
	cr_assert(strstr(err.text, "1 to 1000 states, has 1001") != NULL, "%s", err.text);
	bb_text_finish(&json);
}

/* A group's table is a Latin square by symbol; S5's generators have the orders 2 and 5, and reach
 * all of it. */
Test(handset_options, s5_is_the_group) {
	struct handset_table t;
	struct bb_error err = { 0 };
	bool is_reached[120] = { true };
	int n_reached = 1, queue[120] = { 0 };
	cr_assert(handset_table_builtin(&t, "s5", &err));
	cr_assert(t.n_states == 120 && t.n_symbols == 2);
	cr_assert_str_eq(t.states[0], "01234");
	cr_assert_str_eq(t.states[119], "43210");
	for (int i = 0; i < n_reached; i++) {
		for (int a = 0; a < 2; a++) {
			const int next = t.next[queue[i] * 2 + a];
			if (!is_reached[next]) {
				is_reached[next] = true;
				queue[n_reached++] = next;
			}
		}
	}
	cr_assert_eq(n_reached, 120);
	for (int q = 0; q < 120; q++) {
		int p = q;
		for (int i = 0; i < 5; i++) {
			p = t.next[p * 2 + 1];
		}
		cr_assert_eq(p, q);
		cr_assert_eq(t.next[t.next[q * 2] * 2], q);
	}
	cr_assert_str_eq(t.states[t.next[0]], "10234");
	cr_assert_str_eq(t.states[t.next[1]], "12340");
	handset_table_finish(&t);
}

Test(handset_options, brackets_have_a_sink) {
	struct handset_table t;
	struct bb_error err = { 0 };
	cr_assert(handset_table_builtin(&t, "bracket8", &err));
	for (int a = 0; a < 3; a++) {
		cr_assert_eq(t.next[9 * 3 + a], 9);
	}
	cr_assert(t.next[8 * 3] == 9 && t.next[1] == 9 && t.next[0] == 1 && t.next[5 * 3 + 2] == 5);
	handset_table_finish(&t);
	cr_assert(!handset_table_builtin(&t, "nothing", &err) && err.code == BB_OK);
}

/* ---- options ---- */

static struct handset_table parity(void) {
	struct handset_table t;
	struct bb_error err = { 0 };
	cr_assert(handset_table_builtin(&t, "parity", &err), "%s", err.text);
	return t;
}

static void expect_usage(const char *kind, struct handset_options o, const char *word) {
	struct bb_error err = { 0 };
	cr_assert(!handset_check(handset_find(kind), &o, &err), "%s: taken, no '%s'", kind, word);
	cr_assert_eq(err.code, BB_ERR_USAGE);
	cr_assert(strstr(err.text, word) != NULL, "%s: '%s' lacks '%s'", kind, err.text, word);
}

Test(handset_options, options_of_kinds) {
	struct handset_table t = parity();
	struct handset_options o = { .tables = &t, .n_tables = 1 };
	struct bb_error err = { 0 };
	cr_assert(handset_check(handset_find("dfa-block"), &o, &err), "%s", err.text);
	cr_assert_eq(o.length, 512);
	expect_usage("dfa", (struct handset_options){ 0 }, "--table");
	expect_usage("latch", (struct handset_options){ .tables = &t, .n_tables = 1 }, "--table");
	expect_usage("latch", (struct handset_options){ .length = 3 }, "takes no --length");
	expect_usage("latch", (struct handset_options){ .bits = 3 }, "takes no --bits");
	expect_usage("latch", (struct handset_options){ .recency = true }, "--recency");
	expect_usage("latch", (struct handset_options){ .non_negative = true }, "--non-negative");
	expect_usage("census", (struct handset_options){ .length = 1 }, "expected 2 to 1024, have 1");
	expect_usage("census", (struct handset_options){ .length = 1025 }, "have 1025");
	cr_assert_null(handset_find("nothing"));
	handset_table_finish(&t);
}

static const char *file_name(void) {
	static char name[64];
	snprintf(name, sizeof(name), "/tmp/bobbin-handset-options-%d", (int)getpid());
	return name;
}

Test(handset_options, too_many_states_for_a_model) {
	enum { N_TABLES = 20 };
	struct handset_table tables[N_TABLES];
	struct bb_error err = { 0 };
	for (int i = 0; i < N_TABLES; i++) {
		cr_assert(handset_table_builtin(&tables[i], "s5", &err));
	}
	struct handset_options o = { .tables = tables, .n_tables = N_TABLES };
	cr_assert(handset_check(handset_find("dfa"), &o, &err));
	cr_assert(!handset_write(handset_find("dfa"), &o, file_name(), &err));
	cr_assert(err.code == BB_ERR_INPUT && strstr(err.text, "at most 4093") != NULL, "%s",
		err.text);
	cr_assert_neq(access(file_name(), F_OK), 0);
	for (int i = 0; i < N_TABLES; i++) {
		handset_table_finish(&tables[i]);
	}
}

/* ---- files ---- */

/* A name for each id; and matrices that no type rounds, but for the phases of W_Q and the census,
 * whose are F32 throughout. */
static void expect_file(const struct handset_kind *kind, enum handset_type type) {
	struct gguf g;
	struct bb_error err = { 0 };
	cr_assert(gguf_open(&g, file_name(), &err), "%s", err.text);
	const struct gguf_kv *names = gguf_find(&g, "bobbin.token_names");
	const struct bb_tensor *embed = gguf_tensor(&g, "token_embd.weight");
	cr_assert(names != NULL && (int64_t)names->n == embed->dims[0], "%s", kind->name);
	for (uint64_t i = 0; i < names->n; i++) {
		cr_assert_gt(names->strings[i].bytes, 0, "%s: token %d has no name", kind->name, (int)i);
	}
	for (size_t i = 0; i < g.n_tensors; i++) {
		const struct bb_tensor *t = &g.tensors[i];
		if (t->n_dims < 2 || strstr(t->name, "attn_q") != NULL ||
			strcmp(kind->name, "census") == 0) {
			continue;
		}
		for (size_t k = 0; k < t->bytes / (t->type == BB_F32 ? 4 : 2); k++) {
			const uint16_t *half = (const uint16_t *)t->data;
			const float v = t->type == BB_F32 ? ((const float *)t->data)[k]
				: t->type == BB_F16 ? f16_to_f32(half[k]) : bf16_to_f32(half[k]);
			cr_assert(bf16_to_f32(f32_to_bf16(v)) == v, "%s, type %d: %s[%zu] is %.9g", kind->name,
				(int)type, t->name, k, (double)v);
		}
	}
	gguf_finish(&g);
}

Test(handset_options, every_kind_has_what_a_kind_needs) {
	struct handset_table tables[2] = { parity(), parity() };
	for (int i = 0; handset_kinds[i] != NULL; i++) {
		const struct handset_kind *kind = handset_kinds[i];
		cr_assert_eq(handset_find(kind->name), kind);
		cr_assert(i == 0 || strcmp(handset_kinds[i - 1]->name, kind->name) < 0, "%s: out of order",
			kind->name);
		cr_assert(kind->summary[0] != '\0' && kind->format[0] != '\0');
		for (enum handset_type type = HANDSET_F32; type <= HANDSET_BF16; type++) {
			struct handset_options o = { .type = type, .tables = tables,
				.n_tables = kind->takes & HANDSET_TAKES_TABLES ? 2 : 0 };
			struct bb_tokens prompt = { 0 };
			struct bb_error err = { 0 };
			int32_t expected[2048];
			cr_assert(handset_check(kind, &o, &err) &&
				handset_write(kind, &o, file_name(), &err), "%s", err.text);
			expect_file(kind, type);
			cr_assert_neq(kind->example(&o, &prompt, &err), 0);
			cr_assert(prompt.n > 0 && prompt.n <= COUNT(expected));
			cr_assert(kind->expect(&o, prompt.ids, prompt.n, expected, &err));
			cr_assert_geq(expected[prompt.n - 1], 0, "%s: the example has no answer", kind->name);
			cr_assert(kind->example_feed == NULL || kind->example_feed(&o, &prompt, &err));
			bb_tokens_finish(&prompt);
		}
	}
	unlink(file_name());
	handset_table_finish(&tables[0]);
	handset_table_finish(&tables[1]);
}

/* Of a table, its model, the example of it and its answers, the n-th allocation fails. Codes are
 * short: each token's name is one. */
static bool make(const struct handset_kind *kind, struct bb_error *err) {
	static int32_t expected[2048];
	struct handset_table t = { 0 };
	struct bb_tokens prompt = { 0 };
	static const char json[] = "{\"delta\": [[0, 1], [1, 0]], \"symbols\": [\"a\", \"b\"]}";
	struct handset_options o = { .tables = &t, .n_tables = kind->takes & HANDSET_TAKES_TABLES,
		.bits = kind->min_bits };
	const bool ok = (o.n_tables == 0 || handset_table_parse(&t, "T", "T.json", json, strlen(json),
		err)) &&
		handset_check(kind, &o, err) && handset_write(kind, &o, file_name(), err) &&
		kind->example(&o, &prompt, err) != 0 && prompt.n <= COUNT(expected) &&
		kind->expect(&o, prompt.ids, prompt.n, expected, err) &&
		(kind->example_feed == NULL || kind->example_feed(&o, &prompt, err));
	bb_tokens_finish(&prompt);
	handset_table_finish(&t);
	return ok;
}

Test(handset_options, failed_allocations) {
	for (int i = 0; handset_kinds[i] != NULL; i++) {
		struct bb_error none = { 0 };
		const long before = base_count_allocs();
		cr_assert(make(handset_kinds[i], &none), "%s", none.text);
		const long n_allocs = base_count_allocs() - before;
		cr_assert_gt(n_allocs, 10);
		for (long n = 1; n <= n_allocs; n++) {
			struct bb_error err = { 0 };
			base_fail_alloc_at(n);
			const bool ok = make(handset_kinds[i], &err);
			base_fail_alloc_at(0);
			cr_assert(!ok && err.code == BB_ERR_MEMORY, "%s, allocation %ld: %s",
				handset_kinds[i]->name, n, err.text);
			unlink(file_name());
		}
	}
}
