/* SPDX-License-Identifier: Apache-2.0
 *
 * The server's reader: thinking, content and calls in the formats of model families, whatever the
 * pieces are in which the text comes. */
#include "reader.h"

#include <criterion/criterion.h>

#include <stdio.h>
#include <string.h>

struct seen {
	struct buf text;
	enum part_kind last;
};

/* "R(thinking)C(content)T(name {arguments})" */
static void note(void *user, const struct part *part) {
	struct seen *s = user;
	static const char letters[] = "RCT";
	if (s->text.bytes > 0 && part->kind == s->last && part->kind != PART_CALL) {
		s->text.bytes--; /* the parenthesis: it goes on */
		buf_print(&s->text, "%.*s)", (int)part->bytes, part->text);
	} else {
		buf_print(&s->text, "%c(%s%s%.*s)", letters[part->kind],
			part->name != NULL ? part->name : "", part->name != NULL ? " " : "",
			(int)part->bytes, part->text);
	}
	s->last = part->kind;
}

struct row {
	const char *format, *text, *want;
	bool is_thinking;
};

#define DS(word) "<\uFF5Ctool\u2581" word "\uFF5C>"

static const struct row rows[] = {
	{ "hermes", "Hello <b>there</b>.\n", "C(Hello <b>there</b>.\n)" },
	{ "hermes", "<think>\nHm. <tool_call>?\n</think>\n\nYes.", "R(Hm. <tool_call>?)C(Yes.)" },
	{ "hermes", "Hm.\n</think>\n\nYes.", "R(Hm.)C(Yes.)", true },
	{ "hermes", "Hm, and no end", "R(Hm, and no end)", true },
	{ "hermes", "  <thinking> is a word", "C(  <thinking> is a word)" },
	{ "hermes", "I look.\n<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": 1}}\n</tool_call>\n"
		"<tool_call>\n{\"name\": \"g\", \"arguments\": {}}\n</tool_call>",
		"C(I look.)T(f {\"a\": 1})T(g {})" },
	{ "hermes", "<tool_call>\n{\"name\": \"f\", \"arguments\": \"{\\\"a\\\": [1, 2]}\"}",
		"T(f {\"a\": [1, 2]})" },
	{ "hermes", "<tool_call>\n<function=f>\n<parameter=a>\nx y\n</parameter>\n<parameter=b>\n7\n"
		"</parameter>\n</function>\n</tool_call>", "T(f {\"a\": \"x y\", \"b\": 7})" },
	{ "hermes", "<tool_call>nothing</tool_call> more",
		"C(<tool_call>nothing</tool_call> more)" },
	{ "hermes", "{\"name\": \"f\", \"arguments\": {}}", "T(f {})" },
	{ "hermes", "{\"name\": \"unknown\", \"arguments\": {}}",
		"C({\"name\": \"unknown\", \"arguments\": {}})" },
	{ "hermes", "{\"a\": 1}", "C({\"a\": 1})" },
	{ "hermes", "a < b, <tool", "C(a < b, <tool)" },
	{ "mistral", "[TOOL_CALLS][{\"name\": \"f\", \"arguments\": {\"a\": \"]\"}}, {\"name\": \"g\", "
		"\"arguments\": {}}]", "T(f {\"a\": \"]\"})T(g {})" },
	{ "mistral", "So: [TOOL_CALLS]f[CALL_ID]abc[ARGS]{\"a\": {}}[TOOL_CALLS]g{}",
		"C(So:)T(f {\"a\": {}})T(g {})" },
	{ "deepseek", DS("calls\u2581begin") DS("call\u2581begin") "function" DS("sep") "f\n```json\n"
		"{\"a\": 1}\n```" DS("call\u2581end") "\n" DS("call\u2581begin") "g" DS("sep") "{}"
		DS("call\u2581end") DS("calls\u2581end"), "T(f {\"a\": 1})T(g {})" },
	{ "lfm2", "<|tool_call_start|>[f(a=1, b='x, \\'y\\'', c=[True, None, {'k': -2.5}])]"
		"<|tool_call_end|>Done.",
		"T(f {\"a\": 1, \"b\": \"x, 'y'\", \"c\": [true, null, {\"k\": -2.5}]})C(Done.)" },
	{ "pythonic", "[f(a=\"1\"), g()]", "T(f {\"a\": \"1\"})T(g {})" },
	{ "pythonic", "[1, 2, 3] is a list", "C([1, 2, 3] is a list)" },
	{ "pythonic", "[f(a=b)]", "C([f(a=b)])" },
	{ "llama3_json", "<|python_tag|>{\"name\": \"f\", \"parameters\": {\"a\": 1}}; "
		"{\"name\": \"g\", \"parameters\": {}}", "T(f {\"a\": 1})T(g {})" },
	{ "llama3_json", "{\"name\": \"f\", \"parameters\": [1]}",
		"C({\"name\": \"f\", \"parameters\": [1]})" },
};

static void play(const struct row *row, size_t piece) {
	json_t *known = json_loads("[{\"function\": {\"name\": \"f\"}}, "
		"{\"function\": {\"name\": \"g\"}}]", 0, NULL);
	struct reader r;
	struct seen s = { 0 };
	const size_t bytes = strlen(row->text);
	reader_init(&r, tool_format_find(row->format), known,
		&(struct bb_thinking){ .starts_inside = row->is_thinking, .begin = "<think>",
			.end = "</think>" });
	for (size_t i = 0; i < bytes; i += piece) {
		const size_t n = bytes - i < piece ? bytes - i : piece;
		reader_feed(&r, row->text + i, n, false, note, &s);
	}
	reader_feed(&r, "", 0, true, note, &s);
	cr_expect_str_eq(buf_string(&s.text), row->want, "%s in pieces of %zu: got %s, want %s",
		row->format, piece, buf_string(&s.text), row->want);
	reader_finish(&r);
	buf_finish(&s.text);
	json_decref(known);
}

Test(reader, formats_in_pieces_of_any_size) {
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		for (size_t piece = 1; piece <= strlen(rows[i].text); piece += piece < 8 ? 1 : 17) {
			play(&rows[i], piece);
		}
		play(&rows[i], 1000);
	}
}

Test(reader, without_tools_nothing_is_held_back) {
	struct reader r;
	struct seen s = { 0 };
	reader_init(&r, NULL, NULL, &(struct bb_thinking){ 0 });
	reader_feed(&r, "<tool_call> <thi", 16, false, note, &s);
	cr_expect_str_eq(buf_string(&s.text), "C(<tool_call> <thi)");
	reader_finish(&r);
	buf_finish(&s.text);
}

Test(reader, thinking_ends_at_any_mark) {
	static const struct {
		struct bb_thinking thinking;
		const char *text, *want;
	} of[] = {
		{ { .starts_inside = true, .end = "Answer:" }, "2 + 2 Ans 4\nAnswer: 4",
			"R(2 + 2 Ans 4)C(4)" },
		{ { .starts_inside = true, .end = "Answer:" }, "no end <think>", "R(no end <think>)" },
		{ { .begin = "[T]", .end = "[/T]" }, " [T]so[/T]it", "R(so)C(it)" },
		{ { .begin = "[T]", .end = "[/T]" }, "[t]so[/T]it", "C([t]so[/T]it)" },
	};
	for (size_t i = 0; i < sizeof(of) / sizeof(of[0]); i++) {
		struct reader r;
		struct seen s = { 0 };
		reader_init(&r, NULL, NULL, &of[i].thinking);
		reader_feed(&r, of[i].text, strlen(of[i].text), true, note, &s);
		cr_expect_str_eq(buf_string(&s.text), of[i].want, "got %s, want %s", buf_string(&s.text),
			of[i].want);
		reader_finish(&r);
		buf_finish(&s.text);
	}
}

Test(reader, templates_tell_the_format) {
	static const struct {
		const char *source, *name;
	} known[] = {
		{ "{{ '<tool_call>' }}", "hermes" }, { "[AVAILABLE_TOOLS] [TOOL_CALLS]", "mistral" },
		{ "x" DS("calls\u2581begin"), "deepseek" }, { "<|tool_list_start|>", "lfm2" },
		{ "'<|python_tag|>'", "llama3_json" }, { "[func_name1(a=b)]", "pythonic" },
		{ "{{ messages }}", "hermes" }, { NULL, "hermes" },
	};
	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
		cr_expect_str_eq(tool_format_of(known[i].source)->name, known[i].name);
	}
	cr_expect_str_eq(tool_format_find("qwen3_coder")->name, "hermes");
	cr_expect_null(tool_format_find("none such"));
}

/* Bytes of which nothing is a call: no matter what, all of them are read to their end. */
Test(reader, random_bytes) {
	static const char letters[] = "{}[]()\"':,=\\<> \ntool_call</f1.-";
	unsigned long state = 1;
	for (int round = 0; round < 20000; round++) {
		char text[64];
		const size_t n = (size_t)(round % 64);
		for (size_t i = 0; i < n; i++) {
			state = state * 6364136223846793005u + 1442695040888963407u;
			text[i] = letters[(state >> 33) % (sizeof(letters) - 1)];
		}
		for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i += 3) {
			json_decref(tool_format_find(rows[i].format)->read(text, n));
		}
	}
}
