/* SPDX-License-Identifier: Apache-2.0
 *
 * Strict tools, format by format: which answers may be written, and that what is let through as a
 * call is read as one with arguments that are valid. */
#include "grammar/match.h"
#include "grammar/sources.h"
#include "reader.h"
#include "strict.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

/* pick is strict, note isn't. */
static const char tools_text[] = "[{\"function\": {\"name\": \"pick\", \"parameters\": {"
	"\"type\": \"object\", \"properties\": {\"n\": {\"$ref\": \"#/$defs/few\"},"
	"\"on\": {\"type\": \"boolean\"}},"
	"\"$defs\": {\"few\": {\"enum\": [17, 19]}}, \"required\": [\"n\"],"
	"\"additionalProperties\": false}}},"
	"{\"function\": {\"name\": \"note\", \"parameters\": {\"type\": \"object\","
	"\"properties\": {\"of\": {\"type\": \"string\"}}}}}]";

struct answer_case {
	const char *format, *source; /* source: of the template */
	bool is_one, is_thinking, may_think;
	const char *schema;
	/* Up to NULL: texts with calls, texts without any, texts that can't be. */
	const char *calls[6], *texts[5], *bad[9];
};

static struct bb_thinking thinking_of(const struct answer_case *c) {
	return (struct bb_thinking){ .starts_inside = c->is_thinking, .begin = "<think>",
		.end = c->may_think ? "</think>" : NULL };
}

static bool compile(const struct answer_case *c, const json_t *tools, struct rules *r,
	struct bb_error *err) {
	json_t *strict = json_pack("[b, b]", 1, 0);
	json_t *schema = c->schema != NULL ? json_loads(c->schema, 0, NULL) : NULL;
	struct strict s = { .format = tool_format_find(c->format), .tools = tools, .strict = strict,
		.source = c->source, .schema = schema, .is_one = c->is_one,
		.thinking = thinking_of(c) };
	json_t *structure = strict_structure(&s);
	char *text = json_dumps(structure, JSON_ENCODE_ANY);
	cr_assert(text != NULL && s.refused == NULL);
	const bool ok = rules_init(r, err) &&
		source_compile(r, BB_GRAMMAR_STRUCTURE, text, strlen(text), err);
	free(text);
	json_decref(structure);
	json_decref(strict);
	json_decref(schema);
	return ok;
}

static bool fits(struct rules *r, const char *text) {
	struct bb_error err = { 0 };
	struct matcher m;
	bool ok = false;
	cr_assert(matcher_init(&m, r, NULL, &err), "%s", err.text);
	cr_assert(matcher_accept(&m, text, strlen(text), &ok, &err), "%s", err.text);
	ok = ok && matcher_may_end(&m);
	matcher_finish(&m);
	return ok;
}

struct seen {
	int n_calls;
	bool are_valid;
};

static void see(void *user, const struct part *part) {
	struct seen *s = user;
	if (part->kind == PART_CALL) {
		json_t *value = json_loadb(part->text, part->bytes, 0, NULL);
		const json_int_t n = json_integer_value(json_object_get(value, "n"));
		const bool is_pick = strcmp(part->name, "pick") == 0;
		s->n_calls++;
		s->are_valid = s->are_valid && (is_pick ? n == 17 || n == 19 : json_is_object(value));
		json_decref(value);
	}
}

/* The text without the byte that stands before a control token's name. */
static int n_calls_of(const struct answer_case *c, const json_t *tools, const char *text) {
	struct reader r;
	struct seen seen = { .are_valid = true };
	const struct bb_thinking thinking = thinking_of(c);
	reader_init(&r, tool_format_find(c->format), tools, &thinking);
	r.is_strict = true;
	for (; *text != '\0'; text++) {
		reader_feed(&r, text, *text != '\xFF', false, see, &seen);
	}
	reader_feed(&r, "", 0, true, see, &seen);
	reader_finish(&r);
	return seen.are_valid ? seen.n_calls : -1;
}

#define CALL(n) "{\"name\": \"pick\", \"arguments\": {\"n\": " #n "}}"
#define LLAMA(n) "{\"name\": \"pick\", \"parameters\": {\"n\": " #n "}}"
#define IN(n) "<tool_call>\n" CALL(n) "\n</tool_call>"
#define NOTE "{\"name\": \"note\", \"arguments\": {\"any\": [1]}}"
#define TAGS(n) "<tool_call>\n<function=pick>\n<parameter=n>\n" #n "\n</parameter>\n</function>\n" \
	"</tool_call>"
#define DS_NEW(n) "\xFF" DEEPSEEK("calls\u2581begin") "\xFF" DEEPSEEK("call\u2581begin") "pick" \
	"\xFF" DEEPSEEK("sep") "{\"n\": " #n "}\xFF" DEEPSEEK("call\u2581end") \
	DEEPSEEK("calls\u2581end")
#define DS_OLD(n) DEEPSEEK("calls\u2581begin") DEEPSEEK("call\u2581begin") "function" \
	DEEPSEEK("sep") "pick\n```json\n{\"n\":" #n "}\n```" DEEPSEEK("call\u2581end") \
	DEEPSEEK("calls\u2581end")
#define LFM(n) "\xFF<|tool_call_start|>[pick(n=" #n ")]\xFF<|tool_call_end|>"

#define BOOL "{\"type\": \"object\", \"properties\": {\"ok\": {\"type\": \"boolean\"}}," \
	"\"required\": [\"ok\"], \"additionalProperties\": false}"

static const struct answer_case cases[] = {
	{ "hermes", "", .calls = { IN(17), "Well.\n" IN(19), IN(17) "\n" IN(19), CALL(17),
			"<tool_call>" NOTE "</tool_call>", CALL(17) "\n" CALL(19) },
		.texts = { "", "just <tool", "{\"city\": \"Paris\"}", "[1]" },
		.bad = { IN(18), "Well. " IN(17) IN(18), CALL(18), "<tool_call>",
			"<tool_call>hm</tool_call>",
			"a <tool_call>{\"name\": \"other\", \"arguments\": {}}</tool_call>",
			"{\"name\": 1}", "<tool_call>" CALL(17),
			"<tool_call>{\"name\": \"note\", \"arguments\": 1}</tool_call>" } },
	{ "hermes", "", .is_one = true, .calls = { IN(17), "Well.\n" IN(19), CALL(17) },
		.texts = { "", "text" }, .bad = { IN(17) IN(19), IN(17) " and more", CALL(17) CALL(19) } },
	{ "hermes", "<function=", .calls = { TAGS(17), "So: " TAGS(19),
			"<tool_call><function=pick>\n<parameter=n>\n17\n</parameter>\n<parameter=on>\ntrue\n"
			"</parameter>\n</function></tool_call>",
			"<tool_call><function=note></function></tool_call>" },
		.texts = { "text", "<function=pick>" },
		.bad = { TAGS(18), IN(18), "<tool_call><function=pick></function></tool_call>",
			"<tool_call><function=pick>\n<parameter=m>\n17\n"
			"</parameter>\n</function></tool_call>" } },
	{ "hermes", "", .may_think = true,
		.calls = { "<think>\n<tool_call> is what I write\n</think>\n\n" IN(17), IN(19),
			"\xFF<think>hm</think>" CALL(19) },
		.texts = { "<think>hm <tool_call>", "\n<think>a</think> b", "no", "a <think>" },
		.bad = { "<think>hm</think>" IN(18), "<think>hm</think>" CALL(18), IN(18) } },
	{ "hermes", "", .is_thinking = true, .may_think = true,
		.calls = { "so\n</think>\n" IN(17), "\xFF</think>" CALL(17) },
		.texts = { "on and on <tool_call>", "so</think>text" },
		.bad = { "so</think>" IN(18), "so</think>\n" CALL(18) } },
	{ "mistral", "", .calls = { "\xFF[TOOL_CALLS][" CALL(17) "]",
			"Hm [TOOL_CALLS][" CALL(17) "," NOTE "]", "[TOOL_CALLS][" CALL(19) ", " CALL(17) "]" },
		.texts = { "text", "{\"name\": 1}" },
		.bad = { "[TOOL_CALLS][" CALL(18) "]", "[TOOL_CALLS][]", "[TOOL_CALLS]",
			"[TOOL_CALLS][" CALL(17) "] and so on" } },
	{ "mistral", "[ARGS]", .calls = { "\xFF[TOOL_CALLS]pick\xFF[ARGS]{\"n\": 17}",
			"[TOOL_CALLS]pick{\"n\":19}",
			"[TOOL_CALLS]pick[CALL_ID]abc123DEF[ARGS]{\"n\":19}",
			"[TOOL_CALLS]pick[ARGS]{\"n\":17}[TOOL_CALLS]note[ARGS]{}" },
		.texts = { "text" }, .bad = { "[TOOL_CALLS]pick[ARGS]{\"n\": 18}", "[TOOL_CALLS]pick[ARGS]",
			"[TOOL_CALLS]other[ARGS]{}", "[TOOL_CALLS]pick[ARGS]{\"n\":17}[TOOL_CALLS]pick{}" } },
	{ "mistral", "[ARGS]", .is_one = true, .calls = { "[TOOL_CALLS]pick[ARGS]{\"n\": 17}" },
		.bad = { "[TOOL_CALLS]pick[ARGS]{\"n\":17}[TOOL_CALLS]note[ARGS]{}" } },
	{ "deepseek", "x", .calls = { DS_NEW(17), "Hm." DS_NEW(19) "Hm." },
		.texts = { "text" },
		.bad = { DS_NEW(18), DEEPSEEK("calls\u2581begin"), DS_OLD(17) } },
	{ "deepseek", "```json", .calls = { DS_OLD(17), "Hm.\n" DS_OLD(19) }, .texts = { "text" },
		.bad = { DS_OLD(18), DS_NEW(17) } },
	{ "lfm2", "", .calls = { LFM(17), "Well: " LFM(19) " so.",
			"<|tool_call_start|>[pick(n=17, on=True), note(of=\"a\\ud83d\\ude00b\")]"
			"<|tool_call_end|>" },
		.texts = { "text", "[pick(n=18)]" },
		.bad = { LFM(18), "<|tool_call_start|>[]<|tool_call_end|>",
			"<|tool_call_start|>[pick()]<|tool_call_end|>", "<|tool_call_start|>[pick(n=17)]" } },
	{ "pythonic", "", .calls = { "[pick(n=17)]", "\n[pick(n=17, on=false), pick(n=19)]",
			"[note()]" },
		.texts = { "text", "[1, 2]", "[other(n=1)]", "see [pick(n=18)]" },
		.bad = { "[pick(n=18)]", "[pick (n=18)]", " [ pick(n=18)]", "[pick(n=17), pick(n=18)]",
			"[pick(n=17)" } },
	{ "pythonic", "", .is_one = true, .calls = { "[pick(n=17)]" },
		.bad = { "[pick(n=17), pick(n=19)]" } },
	/* A schema for what isn't a call. */
	{ "hermes", "", .schema = BOOL, .calls = { IN(17), CALL(17), IN(17) "\n" IN(19) },
		.texts = { "{\"ok\": true}" }, .bad = { "", "text", "text " IN(17), IN(18),
			"{\"ok\": true}" IN(17), IN(17) "{\"ok\": true}", "{\"ok\": 1}" } },
	{ "lfm2", "", .is_one = true, .schema = BOOL, .calls = { LFM(17) },
		.texts = { "{\"ok\":false}" }, .bad = { LFM(17) LFM(17), "[1]" } },
	{ "llama3_json", "", .schema = BOOL, .calls = { LLAMA(17) }, .texts = { "{\"ok\": true}" },
		.bad = { LLAMA(18), "text" } },
	{ "llama3_json", "", .calls = { LLAMA(17), "\xFF<|python_tag|>" LLAMA(19),
			LLAMA(17) "; " LLAMA(19) },
		.texts = { "text", "{\"city\": 1}", "see " LLAMA(18), "<|python_tag|>print(1)",
			"{\"a\": 1, \"name\": \"pick\", \"parameters\": {\"n\": 18}}" },
		.bad = { LLAMA(18), "<|python_tag|>" LLAMA(18), " " LLAMA(18), LLAMA(17) LLAMA(18),
			"{\"type\": \"function\", \"name\": \"pick\", \"parameters\": {\"n\": 18}}",
			"{\"parameters\": {\"n\": 18}, \"name\": \"pick\"}" } },
};

Test(strict, calls_follow_the_schema_in_every_format) {
	json_t *tools = json_loads(tools_text, 0, NULL);
	for (size_t i = 0; i < COUNT(cases); i++) {
		const struct answer_case *c = &cases[i];
		struct bb_error err = { 0 };
		struct rules r;
		cr_assert(compile(c, tools, &r, &err), "%zu: %s", i, err.text);
		for (int k = 0; k < 6 && c->calls[k] != NULL; k++) {
			cr_expect(fits(&r, c->calls[k]), "case %zu, %s refuses %s", i, c->format, c->calls[k]);
			cr_expect_gt(n_calls_of(c, tools, c->calls[k]), 0, "case %zu, %s doesn't read %s", i,
				c->format, c->calls[k]);
		}
		for (int k = 0; k < 5 && c->texts[k] != NULL; k++) {
			cr_expect(fits(&r, c->texts[k]), "case %zu, %s refuses %s", i, c->format, c->texts[k]);
			cr_expect_eq(n_calls_of(c, tools, c->texts[k]), 0, "case %zu, %s reads a call: %s", i,
				c->format, c->texts[k]);
		}
		for (int k = 0; k < 9 && c->bad[k] != NULL; k++) {
			cr_expect(!fits(&r, c->bad[k]), "case %zu, %s lets through %s", i, c->format,
				c->bad[k]);
		}
		rules_destroy(&r);
	}
	json_decref(tools);
}

Test(strict, schemas_without_properties_are_refused_where_arguments_are_named) {
	json_t *tools = json_loads("[{\"function\": {\"name\": \"f\", \"parameters\": {"
		"\"$ref\": \"#/$defs/a\", \"$defs\": {\"a\": {\"type\": \"object\"}}}}}]", 0, NULL);
	json_t *strict = json_pack("[b]", 1);
	static const char *const named[] = { "lfm2", "pythonic" }, *const whole[] = { "hermes",
		"mistral", "deepseek", "llama3_json" };
	for (size_t i = 0; i < COUNT(named) + COUNT(whole); i++) {
		const bool is_named = i < COUNT(named);
		struct strict s = { .tools = tools, .strict = strict, .source = "",
			.format = tool_format_find(is_named ? named[i] : whole[i - COUNT(named)]) };
		json_decref(strict_structure(&s));
		cr_expect_eq(s.refused != NULL, is_named, "%s", s.format->name);
	}
	json_decref(strict);
	json_decref(tools);
}
