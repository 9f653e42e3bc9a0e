/* SPDX-License-Identifier: Apache-2.0
 *
 * Chat templates against Jinja itself: tests/data/templates/cases.json holds what Jinja, set up as
 * transformers sets it up, made of every case (make.py beside it writes it). Then limits,
 * allocation failures and the interface. */
#include "gguf.h"
#include "template.h"

#include <criterion/criterion.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static json_t *load_cases(void) {
	json_error_t error;
	json_t *all = json_load_file(BOBBIN_TESTS "/data/templates/cases.json", JSON_ALLOW_NUL, &error);
	cr_assert(all != NULL, "cases.json:%d: %s", error.line, error.text);
	return all;
}

/* Compiles and renders; NULL and *err on a failure of either. */
static char *render(const char *source, size_t source_bytes, const json_t *vars, size_t *bytes,
	struct bb_error *err) {
	struct template *t;
	char *text = NULL;
	if (template_create(&t, source, source_bytes, err)) {
		template_render(t, vars, &text, bytes, err);
	}
	template_destroy(t);
	return text;
}

static char *render_text(const char *source, const char *vars_json, struct bb_error *err) {
	json_t *vars = json_loads(vars_json, 0, NULL);
	cr_assert(vars != NULL);
	size_t bytes;
	char *text = render(source, strlen(source), vars, &bytes, err);
	json_decref(vars);
	return text;
}

/* What Jinja failed with must fail here too: at the same line, and where the message is part of
 * what templates rely on, with that message. */
static bool is_same_failure(const json_t *want, const struct bb_error *err) {
	const char *kind = json_string_value(json_object_get(want, "error"));
	const char *message = json_string_value(json_object_get(want, "message"));
	const long long line = json_integer_value(json_object_get(want, "line"));
	char place[64];
	snprintf(place, sizeof(place), "line %lld of the template", line);
	const bool says_message = strcmp(kind, "UndefinedError") == 0
		|| strcmp(kind, "TemplateError") == 0;
	return err->code == BB_ERR_TEMPLATE && (line == 0 || strstr(err->text, place) != NULL)
		&& (!says_message || strstr(err->text, message) != NULL);
}

/* Whether source with vars gives what Jinja gave; says so on stderr if not. */
static bool is_as_jinja(const char *name, size_t i, const json_t *source, const json_t *vars,
	const json_t *want) {
	struct bb_error err = { 0 };
	size_t bytes = 0;
	char *text = render(json_string_value(source), json_string_length(source), vars, &bytes, &err);
	const json_t *expected = json_object_get(want, "text");
	bool same;
	if (expected == NULL) {
		same = text == NULL && is_same_failure(want, &err);
	} else {
		same = text != NULL && bytes == json_string_length(expected)
			&& memcmp(text, json_string_value(expected), bytes) == 0;
	}
	if (!same) {
		fprintf(stderr, "%s %zu: %.300s\n  want %s%s (line %lld)\n  got  %s%s\n", name, i,
			json_string_value(source), expected != NULL ? "" : "failure: ",
			json_string_value(expected != NULL ? expected : json_object_get(want, "message")),
			(long long)json_integer_value(json_object_get(want, "line")),
			text != NULL ? "" : "failure: ", text != NULL ? text : err.text);
	}
	base_free(text);
	return same;
}

static void play(const char *group) {
	json_t *all = load_cases();
	const json_t *cases = json_object_get(json_object_get(all, "groups"), group);
	cr_assert_gt(json_array_size(cases), 0, "cases.json has no group %s", group);
	size_t n_wrong = 0;
	for (size_t i = 0; i < json_array_size(cases); i++) {
		const json_t *one = json_array_get(cases, i);
		const json_t *vars = json_object_get(one, "vars");
		n_wrong += !is_as_jinja(group, i, json_object_get(one, "source"),
			vars != NULL ? vars : json_object_get(all, "vars"), one);
	}
	json_decref(all);
	cr_assert_eq(n_wrong, 0, "%s: %zu of the cases differ from Jinja", group, n_wrong);
}

Test(template, literals) {
	play("literals");
}

Test(template, escapes) {
	play("escapes");
}

Test(template, arithmetic) {
	play("arithmetic");
}

Test(template, arithmetic_errors) {
	play("arithmetic_errors");
}

Test(template, floats) {
	play("floats");
}

Test(template, comparison) {
	play("comparison");
}

Test(template, comparison_errors) {
	play("comparison_errors");
}

Test(template, logic) {
	play("logic");
}

Test(template, names) {
	play("names");
}

Test(template, names_errors) {
	play("names_errors");
}

Test(template, slices) {
	play("slices");
}

Test(template, slice_errors) {
	play("slice_errors");
}

Test(template, printing) {
	play("printing");
}

Test(template, tests) {
	play("tests");
}

Test(template, test_errors) {
	play("test_errors");
}

Test(template, filters_text) {
	play("filters_text");
}

Test(template, filters_number) {
	play("filters_number");
}

Test(template, number_errors) {
	play("number_errors");
}

Test(template, filters_sequence) {
	play("filters_sequence");
}

Test(template, filters_select) {
	play("filters_select");
}

Test(template, filter_errors) {
	play("filter_errors");
}

Test(template, tojson) {
	play("tojson");
}

Test(template, tojson_errors) {
	play("tojson_errors");
}

Test(template, string_methods) {
	play("string_methods");
}

Test(template, string_method_errors) {
	play("string_method_errors");
}

Test(template, percent) {
	play("percent");
}

Test(template, percent_errors) {
	play("percent_errors");
}

Test(template, collections) {
	play("collections");
}

Test(template, collection_errors) {
	play("collection_errors");
}

Test(template, calls) {
	play("calls");
}

Test(template, call_errors) {
	play("call_errors");
}

Test(template, if_) {
	play("if");
}

Test(template, for_) {
	play("for");
}

Test(template, for_errors) {
	play("for_errors");
}

Test(template, set) {
	play("set");
}

Test(template, set_errors) {
	play("set_errors");
}

Test(template, macro) {
	play("macro");
}

Test(template, macro_errors) {
	play("macro_errors");
}

Test(template, blocks) {
	play("blocks");
}

Test(template, block_errors) {
	play("block_errors");
}

Test(template, whitespace) {
	play("whitespace");
}

Test(template, unicode) {
	play("unicode");
}

Test(template, streams) {
	play("streams");
}

Test(template, globals) {
	play("globals");
}

/* ---- whole templates ---- */

/* As transformers calls a template: tools and documents are none unless given. */
static json_t *talk_vars(const json_t *talk) {
	json_t *vars = json_pack("{s:n, s:n, s:s, s:s}", "tools", "documents", "bos_token", "<s>",
		"eos_token", "</s>");
	cr_assert_eq(json_object_update(vars, (json_t *)(uintptr_t)talk), 0);
	return vars;
}

static void play_talks(const char *set, const char *name, const char *source, size_t bytes) {
	json_t *all = load_cases();
	json_t *text = json_stringn(source, bytes);
	const json_t *talks = json_object_get(all, "talks");
	const json_t *outcomes = json_object_get(json_object_get(all, set), name);
	cr_assert_geq(json_array_size(talks), 10);
	cr_assert_eq(json_array_size(outcomes), json_array_size(talks));
	size_t n_wrong = 0;
	for (size_t i = 0; i < json_array_size(talks); i++) {
		json_t *vars = talk_vars(json_array_get(talks, i));
		n_wrong += !is_as_jinja(name, i, text, vars, json_array_get(outcomes, i));
		json_decref(vars);
	}
	json_decref(text);
	json_decref(all);
	cr_assert_eq(n_wrong, 0, "%s: %zu of the conversations differ from Jinja", name, n_wrong);
}

static void play_family(const char *name) {
	char path[1024];
	snprintf(path, sizeof(path), "%s/data/templates/%s.jinja", BOBBIN_TESTS, name);
	struct base_file file;
	struct bb_error err = { 0 };
	cr_assert(base_file_open(&file, path, &err), "%s", err.text);
	play_talks("families", name, (const char *)file.data, file.bytes);
	base_file_close(&file);
}

static void play_model(const char *name) {
	char path[1024];
	const char *folder = getenv("BOBBIN_MODELS"), *home = getenv("HOME");
	snprintf(path, sizeof(path), "%s%s/%s.gguf", folder != NULL ? folder : home != NULL ? home : "",
		folder != NULL ? "" : "/.cache/bobbin/models", name);
	if (access(path, R_OK) != 0) {
		cr_skip_test("%s is missing", path);
	}
	struct gguf g;
	struct gguf_string source;
	struct bb_error err = { 0 };
	bool found = false;
	cr_assert(gguf_open(&g, path, &err), "%s", err.text);
	cr_assert(gguf_str(&g, "tokenizer.chat_template", &source, &found, &err) && found);
	play_talks("models", name, source.data, source.bytes);
	gguf_finish(&g);
}

Test(template, like_chatml) {
	play_family("chatml");
}

Test(template, like_llama3) {
	play_family("llama3");
}

Test(template, like_gemma3) {
	play_family("gemma3");
}

Test(template, like_qwen3) {
	play_family("qwen3");
}

Test(template, like_deepseek) {
	play_family("deepseek");
}

Test(template, like_mistral) {
	play_family("mistral");
}

Test(template, model_smollm2) {
	play_model("smollm2");
}

Test(template, model_qwen) {
	play_model("qwen");
}

/* ---- limits ---- */

static void refuse(const char *source, const char *reason) {
	struct bb_error err = { 0 };
	char *text = render_text(source, "{}", &err);
	cr_assert_null(text, "%s: rendered", source);
	cr_assert_eq(err.code, BB_ERR_TEMPLATE, "%s: %s", source, err.text);
	cr_assert(strstr(err.text, reason) != NULL, "%s: %s", source, err.text);
}

/* n times `unit`, between head and tail. */
static void refuse_repeated(const char *head, const char *unit, size_t n, const char *tail,
	const char *reason) {
	char *source = calloc(strlen(head) + n * strlen(unit) + strlen(tail) + 1, 1);
	char *at = stpcpy(source, head);
	for (size_t i = 0; i < n; i++) {
		at = stpcpy(at, unit);
	}
	stpcpy(at, tail);
	refuse(source, reason);
	free(source);
}

Test(template, limits_steps, .timeout = 120) {
	refuse("{% set r = range(9999)|list %}{% for a in r %}{% for b in r %}{% endfor %}{% endfor %}",
		"steps");
	refuse("{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}{% endmacro %}"
		"{{ m(30) }}", "needed");
	refuse("{% for a in range(99999) %}{{ ('x' * 99999)|length }}{% endfor %}", "needed");
}

Test(template, limits_output) {
	refuse("{% set x = 'x' * 9999 %}{% for a in range(99999) %}{{ x }}{% endfor %}", "MiB");
	refuse("{{ 'x' * 999999999999 }}", "MiB");
	refuse("{{ 'x'.center(999999999999) }}", "MiB");
	refuse("{{ '%999999999d' % 1 }}", "beyond");
	refuse("{{ '{:999999999}'.format(1) }}", "beyond");
	refuse("{{ [1] * 999999999999 }}", "needed");
	refuse("{{ [1]|batch(999999999999, 1)|list }}", "needed");
	refuse("{{ []|slice(999999999999)|list }}", "needed");
	refuse("{% set ns = namespace(s='x') %}{% for i in range(64) %}{% set ns.s = ns.s * 2 %}"
		"{% endfor %}", "MiB");
	refuse("{% set ns = namespace(s=[1]) %}{% for i in range(64) %}{% set ns.s = [ns.s, ns.s] %}"
		"{% endfor %}{{ ns.s }}", "line 1");
}

Test(template, limits_depth) {
	refuse("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "nested deeper");
	refuse("{% set ns = namespace(a=1) %}{% set ns.a = ns %}{{ ns }}", "nested deeper");
	refuse("{% set ns = namespace(a=[]) %}{% for i in range(9999) %}{% set ns.a = [ns.a] %}"
		"{% endfor %}{{ ns.a }}", "nested deeper");
	refuse("{% set ns = namespace(a=(), b=()) %}{% for i in range(9999) %}{% set ns.a = (ns.a,) %}"
		"{% set ns.b = (ns.b,) %}{% endfor %}{{ ns.a == ns.b }}", "nested deeper");
	refuse_repeated("{{ ", "(", 100000, "1", "levels");
	refuse_repeated("{{ ", "[", 100000, "1", "levels");
	refuse_repeated("{{ ", "-", 100000, "1 }}", "nested deeper");
	refuse_repeated("{{ ", "not ", 100000, "1 }}", "nested deeper");
	refuse_repeated("{{ 1", " + 1", 100000, " }}", "nested deeper");
	refuse_repeated("{{ a", ".a", 100000, " }}", "nested deeper");
	refuse_repeated("{{ a", "|list", 100000, " }}", "nested deeper");
	refuse_repeated("{{ 1", " if 1 else 1", 100000, " }}", "nested deeper");
	refuse_repeated("", "{% if 1 %}", 100000, "", "nested deeper");
	refuse_repeated("", "{% for x in y %}", 100000, "", "nested deeper");
}

Test(template, limits_numbers) {
	refuse("{{ 9223372036854775807 + 1 }}", "64 bits");
	refuse("{{ -9223372036854775807 - 2 }}", "64 bits");
	refuse("{{ 2 ** 63 }}", "64 bits");
	refuse("{{ 9223372036854775808 }}", "64 bits");
	refuse("{{ 3037000500 * 3037000500 }}", "64 bits");
	refuse("{{ (-9223372036854775807 - 1) // -1 }}", "64 bits");
	refuse("{{ -(-9223372036854775807 - 1) }}", "64 bits");
	refuse("{{ '9223372036854775808'|int }}", "64 bits");
	refuse("{{ 1e30|int }}", "64 bits");
}

Test(template, long_growing_text_is_linear, .timeout = 60) {
	struct bb_error err = { 0 };
	char *text = render_text("{% set ns = namespace(s='', t='') %}{% for i in range(30000) %}"
		"{% set ns.s = ns.s + 'a line of some length\n' %}"
		"{% set ns.t = ns.t ~ 'and ' ~ 'another' %}{% endfor %}"
		"{{ ns.s|length + ns.t|length }}", "{}", &err);
	cr_assert(text != NULL, "%s", err.text);
	cr_assert_str_eq(text, "990000");
	base_free(text);
}

/* ---- the interface ---- */

Test(template, refuses_bytes_that_are_no_text) {
	struct template *t;
	struct bb_error err = { 0 };
	cr_assert_not(template_create(&t, "a\xFF", 2, &err));
	cr_assert_null(t);
	cr_assert_eq(err.code, BB_ERR_TEMPLATE);
	template_destroy(t);
	template_destroy(NULL);
}

Test(template, compiled_once_renders_often) {
	static const char source[] = "{% set x = x + 1 %}{{ x }}";
	struct template *t;
	struct bb_error err = { 0 };
	cr_assert(template_create(&t, source, strlen(source), &err), "%s", err.text);
	for (int i = 0; i < 5; i++) {
		json_t *vars = json_pack("{s:i}", "x", i);
		char *text, want[16];
		size_t bytes;
		cr_assert(template_render(t, vars, &text, &bytes, &err), "%s", err.text);
		snprintf(want, sizeof(want), "%d", i + 1);
		cr_assert_str_eq(text, want);
		cr_assert_eq(bytes, strlen(want));
		base_free(text);
		json_decref(vars);
	}
	template_destroy(t);
}

Test(template, an_error_leaves_nothing_behind) {
	struct bb_error err = { 0 };
	cr_assert_null(render_text("a\n{{ raise_exception('only so far') }}", "{}", &err));
	cr_assert_eq(err.code, BB_ERR_TEMPLATE);
	cr_assert_str_eq(err.text, "line 2 of the template: only so far");
}

Test(template, survives_every_failed_allocation) {
	static const char source[] = "{% macro m(a) %}{{ a|tojson }}{% endmacro %}{% for x in xs %}"
		"{{ m(x) ~ loop.index }}{% endfor %}{{ ('y' * 70000)|length }}{{ xs|sort|join(',') }}";
	json_t *vars = json_pack("{s:[s, s, s]}", "xs", "c", "a", "b");
	char *text = NULL;
	long n = 0;
	while (text == NULL && n < 1000) {
		struct bb_error err = { 0 };
		size_t bytes;
		base_fail_alloc_at(++n);
		text = render(source, strlen(source), vars, &bytes, &err);
		cr_assert(text != NULL || err.code == BB_ERR_MEMORY, "call %ld: %s", n, err.text);
	}
	base_fail_alloc_at(0);
	cr_assert_gt(n, 4);
	cr_assert_str_eq(text, "\"c\"1\"a\"2\"b\"370000a,b,c");
	base_free(text);
	json_decref(vars);
}
