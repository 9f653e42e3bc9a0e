/* SPDX-License-Identifier: Apache-2.0
 *
 * What grammars let through and what not, text by text; what sources are refused, with which words;
 * that an allocation may fail anywhere. */
#include "grammar/cache.h"
#include "grammar/match.h"
#include "grammar/sources.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <string.h>
#include <time.h>

#define SCHEMA BB_GRAMMAR_JSON_SCHEMA
#define REGEX BB_GRAMMAR_REGEX
#define GBNF BB_GRAMMAR_GBNF
#define CHOICE BB_GRAMMAR_CHOICE

/* Whether a text is one of the grammar, as a whole. */
static bool fits(enum bb_grammar_kind kind, const char *source, const char *text) {
	struct bb_error err = { 0 };
	struct rules r;
	struct matcher m;
	bool ok = false;
	cr_assert(rules_init(&r, &err), "%s", err.text);
	cr_assert(source_compile(&r, kind, source, strlen(source), &err), "%s: %s", source, err.text);
	cr_assert(matcher_init(&m, &r, NULL, &err), "%s", err.text);
	cr_assert(matcher_accept(&m, text, strlen(text), &ok, &err), "%s", err.text);
	ok = ok && matcher_may_end(&m);
	matcher_finish(&m);
	rules_destroy(&r);
	return ok;
}

/* The same of JSON that is indented. */
static bool fits_indented(int indent, const char *source, const char *text) {
	struct bb_error err = { 0 };
	struct rules r;
	struct matcher m;
	bool ok = false;
	cr_assert(rules_init(&r, &err), "%s", err.text);
	cr_assert(source_compile_indented(&r, SCHEMA, source, strlen(source), indent, &err), "%s: %s",
		source, err.text);
	cr_assert(matcher_init(&m, &r, NULL, &err), "%s", err.text);
	cr_assert(matcher_accept(&m, text, strlen(text), &ok, &err), "%s", err.text);
	ok = ok && matcher_may_end(&m);
	matcher_finish(&m);
	rules_destroy(&r);
	return ok;
}

/* Cases: a source, texts that fit up to NULL, texts that don't up to NULL. */
struct fit_case {
	const char *source;
	const char *good[8], *bad[10];
};

static void check_cases(enum bb_grammar_kind kind, const struct fit_case *cases, size_t n) {
	for (size_t i = 0; i < n; i++) {
		for (int j = 0; j < 8 && cases[i].good[j] != NULL; j++) {
			cr_expect(fits(kind, cases[i].source, cases[i].good[j]), "%s refuses %s",
				cases[i].source, cases[i].good[j]);
		}
		for (int j = 0; j < 10 && cases[i].bad[j] != NULL; j++) {
			cr_expect(!fits(kind, cases[i].source, cases[i].bad[j]), "%s lets through %s",
				cases[i].source, cases[i].bad[j]);
		}
	}
}

static void check_refused(enum bb_grammar_kind kind, const char *source, enum bb_code code,
	const char *words) {
	struct bb_error err = { 0 };
	struct rules r;
	cr_assert(rules_init(&r, &err));
	cr_expect(!source_compile(&r, kind, source, strlen(source), &err), "%s is taken", source);
	cr_expect_eq(err.code, code, "%s: %s", source, err.text);
	cr_expect(strstr(err.text, words) != NULL, "%s: %s", source, err.text);
	rules_destroy(&r);
}

#define NAMED "{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"integer\"},\"b\":true}"

static const struct fit_case schema_cases[] = {
	{ "{\"type\":\"null\"}", { "null" }, { "nul", "nulll", "true", "", " null" } },
	{ "{\"type\":\"boolean\"}", { "true", "false" }, { "True", "1" } },
	{ "{\"type\":[\"null\",\"integer\"]}", { "null", "0", "-7", "120" },
		{ "01", "-0", "1.0", "1e2", "+1", "\"1\"", "-" } },
	{ "{\"type\":\"number\"}", { "0", "-0", "1.5", "-0.25e+10", "3E7" },
		{ "1.", ".5", "01", "1e", "0x1", "NaN", "Infinity", "-" } },
	{ "{\"type\":\"integer\",\"minimum\":-12,\"maximum\":105}",
		{ "-12", "-9", "0", "9", "10", "99", "100", "105" },
		{ "-13", "106", "-0", "110", "200", "1000", "-100" } },
	{ "{\"type\":\"integer\",\"exclusiveMinimum\":99}", { "100", "101", "999", "1000" },
		{ "99", "0", "-100", "0100" } },
	{ "{\"type\":\"integer\",\"maximum\":-5.5}", { "-6", "-10", "-99" }, { "-5", "0", "6" } },
	{ "{\"type\":\"integer\",\"minimum\":-9223372036854775807,\"maximum\":9223372036854775807}",
		{ "9223372036854775807", "-9223372036854775807", "0" },
		{ "9223372036854775808", "-9223372036854775808", "10000000000000000000" } },
	{ "{\"type\":\"string\"}",
		{ "\"\"", "\"a\\n\\u00e9\\/\"", "\"\xC3\xA9\xF0\x9F\x98\x80\"", "\"\\ud83d\\ude00\"",
			"\"\\uD83D\\uDE00x\"", "\"\\\\\"" },
		{ "\"", "\"a\nb\"", "\"\\ud83d\"", "\"\\ude00\"", "\"\\ud83dx\"", "\"\\x\"", "\"\xFF\"",
			"\"\xC0\x80\"", "\"\xED\xA0\x80\"" } },
	{ "{\"type\":\"string\",\"minLength\":1,\"maxLength\":3}",
		{ "\"a\"", "\"abc\"", "\"\xF0\x9F\x98\x80\\ud83d\\ude00x\"", "\"\\n\\n\\n\"" },
		{ "\"\"", "\"abcd\"", "\"\\n\\n\\n\\n\"" } },
	{ "{\"type\":\"string\","
		"\"pattern\":\"^a.c$\"}", { "\"abc\"", "\"a\\\"c\"", "\"a\xC3\xA9" "c\"" },
		{ "\"ac\"", "\"abcd\"", "\"a\\nc\"" } },
	{ "{\"type\":\"string\",\"pattern\":\"b+\",\"maxLength\":3}", { "\"b\"", "\"abb\"", "\"bxx\"" },
		{ "\"\"", "\"axx\"", "\"abxx\"" } },
	{ "{\"type\":\"string\",\"format\":\"date\"}", { "\"2024-02-29\"", "\"2000-02-29\"",
		"\"0001-01-31\"" }, { "\"2023-02-29\"", "\"1900-02-29\"", "\"2024-04-31\"",
		"\"2024-13-01\"", "\"0000-01-01\"", "\"24-01-01\"" } },
	{ "{\"type\":\"string\",\"format\":\"date-time\"}",
		{ "\"2024-02-29T23:59:59Z\"", "\"2024-01-01T00:00:00.123+05:30\"" },
		{ "\"2024-01-01T24:00:00Z\"", "\"2024-01-01T00:00:00\"", "\"2024-01-01 00:00:00Z\"" } },
	{ "{\"type\":\"string\",\"format\":\"uuid\"}", { "\"123e4567-e89b-12d3-A456-426614174000\"" },
		{ "\"123e4567e89b12d3a456426614174000\"", "\"123e4567-e89b-12d3-a456-42661417400g\"" } },
	{ "{\"enum\":[1,\"a\\\"b\",null,[1,{\"k\":2}],0.1]}",
		{ "1", "\"a\\\"b\"", "null", "[1,{\"k\":2}]", "[1, {\"k\": 2}]", "0.1" },
		{ "2", "\"a\"", "[1]", "[1,  {\"k\":2}]", "0.10" } },
	{ "{\"const\":\"x\"}", { "\"x\"" }, { "\"y\"", "x" } },
	{ "{\"type\":\"string\",\"enum\":[\"a\",1,\"bcd\"],\"maxLength\":2}", { "\"a\"" },
		{ "1", "\"bcd\"" } },
	{ NAMED ",\"required\":[\"a\"],\"additionalProperties\":false}",
		{ "{\"a\":1}", "{ \"a\": 1, \"b\": [] }", "{\"a\":1,\"b\":null}" },
		{ "{}", "{\"b\":1}", "{\"b\":1,\"a\":1}", "{\"a\":1,}", "{\"a\":1,\"c\":1}",
			"{\"a\":  1}", "{\"a\":\"1\"}", "{\"a\":1}x", "{\"a\":1,\"a\":1}" } },
	{ NAMED "}", { "{}", "{\"c\":1}", "{\"a\":1,\"c\":{\"d\":[1,2]},\"ab\":2}", "{\"b\":1,"
		"\"\":0}" },
		{ "{\"a\":\"x\"}", "{\"c\":1,\"a\":1}", "{\"c\":1,\"\\u0061\":1}", "{\"c\":1" } },
	{ "{\"type\":\"object\",\"additionalProperties\":{\"type\":\"null\"},\"required\":[\"z\"]}",
		{ "{\"z\":null}", "{\"z\":null,\"y\":null}" }, { "{}", "{\"z\":1}", "{\"y\":null}" } },
	{ "{\"type\":\"array\",\"items\":{\"type\":\"null\"},\"minItems\":2,\"maxItems\":3}",
		{ "[null,null]", "[ null, null,null ]" },
		{ "[]", "[null]", "[null,null,null,null]", "[null,1]", "[null null]", "[null,null,]" } },
	{ "{\"type\":\"array\",\"prefixItems\":[{\"const\":1},{\"const\":2}],\"items\":{\"const\":3},"
		"\"minItems\":1,\"maxItems\":4}", { "[1]", "[1,2]", "[1,2,3]", "[1,2,3,3]" },
		{ "[]", "[2]", "[1,3]", "[1,2,2]", "[1,2,3,3,3]" } },
	{ "{\"type\":\"array\",\"prefixItems\":[{\"const\":1},{\"const\":2}],\"items\":false}",
		{ "[]", "[1]", "[1,2]" }, { "[1,2,3]" } },
	{ "{\"type\":\"array\",\"maxItems\":0}", { "[]" }, { "[1]", "[ ]x" } },
	{ "{\"anyOf\":[{\"type\":\"integer\"},{\"const\":\"a\"}]}", { "12", "\"a\"" },
		{ "\"b\"", "null" } },
	{ "{\"oneOf\":[{\"type\":\"integer\",\"maximum\":3},{\"type\":\"integer\",\"minimum\":5}]}",
		{ "3", "5" }, { "4" } },
	{ "{\"oneOf\":[{\"type\":\"object\",\"properties\":{\"k\":{\"const\":1}},\"required\":[\"k\"]},"
		"{\"type\":\"object\",\"properties\":{\"k\":{\"const\":2}},\"required\":[\"k\"]}],"
		"\"properties\":{\"x\":{\"type\":\"null\"}}}",
		{ "{\"x\":null,\"k\":2}", "{\"k\":1}" }, { "{\"k\":3}", "{}", "{\"x\":1,\"k\":1}" } },
	{ "{\"allOf\":[{\"type\":\"integer\",\"minimum\":3},{\"maximum\":5,\"type\":[\"integer\","
		"\"string\"]}]}", { "3", "5" }, { "2", "6", "\"a\"" } },
	{ "{\"allOf\":[{\"properties\":{\"a\":{\"type\":\"integer\"}},"
		"\"type\":\"object\"},{\"properties\":"
		"{\"a\":{\"enum\":[1,\"x\"]}},\"required\":[\"a\"],\"additionalProperties\":false}]}",
		{ "{\"a\":1}" }, { "{\"a\":\"x\"}", "{\"a\":2}", "{}", "{\"a\":1,\"b\":1}" } },
	{ "{\"$ref\":\"#/$defs/a~1b\",\"$defs\":{\"a/b\":{\"type\":\"array\","
		"\"items\":{\"$ref\":\"#\"}}}}",
		{ "[]", "[[],[[]]]" }, { "[1]", "[", "[]]" } },
	{ "{\"type\":\"object\","
		"\"properties\":{\"next\":{\"anyOf\":[{\"type\":\"null\"},{\"$ref\":\"#\"}]}"
		"},\"required\":[\"next\"],\"additionalProperties\":false}",
		{ "{\"next\":{\"next\":null}}" }, { "{\"next\":{}}", "{\"next\":{\"next\":null}" } },
	{ "true", { "1", "{\"a\":[true,null]}", "\"x\"" }, { "", "[1,]", "{a:1}", "1 " } },
};

Test(grammar, json_schemas_let_through_what_is_valid_and_no_more) {
	check_cases(SCHEMA, schema_cases, COUNT(schema_cases));
}

Test(grammar, every_integer_range_has_its_integers) {
	char source[128], text[16];
	for (int min = -21; min <= 21; min += 3) {
		for (int max = min - 1; max <= 112; max += 7) {
			snprintf(source, sizeof(source), "{\"type\":\"integer\",\"minimum\":%d,\"maximum\":%d}",
				min, max);
			struct bb_error err = { 0 };
			struct rules r;
			cr_assert(rules_init(&r, &err));
			const bool any = source_compile(&r, SCHEMA, source, strlen(source), &err);
			rules_destroy(&r);
			cr_assert_eq(any, min <= max, "%s", source);
			for (int i = -125; any && i <= 125; i += 1) {
				snprintf(text, sizeof(text), "%d", i);
				cr_assert_eq(fits(SCHEMA, source, text), i >= min && i <= max, "%s %d", source, i);
			}
		}
	}
}

static const struct fit_case regex_cases[] = {
	{ "a(b|cd)*e?", { "a", "abcdb", "acde" }, { "", "ac", "abee", "xa" } },
	{ "^[a-c\\d_-]{2,3}$", { "a1", "--_" }, { "a", "abcd", "d1" } },
	{ "(?:ab){2}|x+?", { "abab", "x", "xxx" }, { "ab", "ababab", "" } },
	{ "[^\\x00-\\x7f]\\u{1F600}?", { "\xC3\xA9", "\xE6\x97\xA5\xF0\x9F\x98\x80" },
		{ "a", "\xC3", "\xF0\x9F\x98" } },
	{ "\\w+\\s\\S\\D", { "ab x!", "_\tyz" }, { "ab xx1", "ab  x", "a-b xx" } },
	{ "\\p{Lu}\\p{Ll}+", { "Ab", "\xC3\x89t\xC3\xA9" }, { "ab", "AB", "A1" } },
	{ ".{3}", { "abc", "\xC3\xA9.\t" }, { "ab", "a\nb" } },
	{ "a{,2}b{1,}\\{x\\}a{b", { "b{x}a{b", "aabb{x}a{b" }, { "aaab{x}a{b", "a{x}a{b" } },
	{ "(?P<n>a)(?<m>b)", { "ab" }, { "a" } },
	{ "(a*)*(b|)+", { "", "aab", "bbb" }, { "ba" } },
	{ "", { "" }, { "a" } },
};

Test(grammar, regexes_match_whole_texts) {
	check_cases(REGEX, regex_cases, COUNT(regex_cases));
}

static const struct fit_case gbnf_cases[] = {
	{ "root ::= \"a\" b? # comment\nb ::= [0-9]{2} | \"\\x41\" |\n  [^a-z\\n]\n",
		{ "a", "a12", "aA", "a!" }, { "ab", "", "a123" } },
	{ "root  ::= expr\nexpr ::= term (\"+\" term)*\nterm ::= [0-9]+ | (\"(\" expr\n  \")\")\n",
		{ "1", "1+2", "((1+23)+4)" }, { "1+", "(1", "()", "1)" } },
	{ "root ::= \"(\" root \")\" root | \"\"", { "", "()(())" }, { "(", ")(" } },
	{ "root ::= (\"a\" | \"b\"){2,3} .", { "ab\xC3\xA9", "aaab" }, { "ab", "aaaab" } },
	{ "root ::= \"\\u00e9\\\"\" \"\\n\"", { "\xC3\xA9\"\n" }, { "e\"\n" } },
};

Test(grammar, gbnf_is_read_as_llama_cpp_does) {
	check_cases(GBNF, gbnf_cases, COUNT(gbnf_cases));
}

Test(grammar, choices_are_what_they_say) {
	static const struct fit_case cases[] = {
		{ "[\"yes\",\"yes please\",\"no\",\"\"]", { "yes", "yes please", "no", "" },
			{ "y", "yes ", "nono" } } };
	check_cases(CHOICE, cases, COUNT(cases));
	cr_expect(fits(BB_GRAMMAR_JSON_OBJECT, "", "{\"a\": [1, {}]}"));
	cr_expect(!fits(BB_GRAMMAR_JSON_OBJECT, "", "[1]"));
}

/* Where a schema stands in a schema; with a keyword in the place of K. */
static const char *const places[] = { "{K}", "{\"type\":\"array\",\"items\":{K}}",
	"{\"type\":\"array\",\"prefixItems\":[true,{K}]}", "{\"properties\":{\"a\":{K}}}",
	"{\"properties\":{\"a\":{K}},\"required\":[\"a\"]}", "{\"additionalProperties\":{K}}",
	"{\"anyOf\":[true,{K}]}", "{\"allOf\":[true,{\"anyOf\":[{K}]}]}",
	"{\"oneOf\":[{\"const\":1},{\"type\":\"null\",K}]}", "{\"enum\":[1],K}", "{\"const\":1,K}",
	"{\"$ref\":\"#/$defs/a\",\"$defs\":{\"a\":{K}}}",
	"{\"$ref\":\"#/definitions/a\",\"definitions\":{\"a\":{K}}}",
	"{\"items\":{\"$ref\":\"#\",K}}", "{\"type\":\"null\",\"$defs\":{\"a\":{K}}}",
	"{\"type\":\"null\",\"properties\":{\"a\":{K}}}",
	"{\"type\":\"array\",\"maxItems\":0,\"items\":{K}}" };

static void put_in_place(char *source, size_t cap, const char *place, const char *keyword) {
	const char *const at = strstr(place, "K}");
	snprintf(source, cap, "%.*s%s%s", (int)(at - place), place, keyword, at + 1);
}

Test(grammar, what_is_not_supported_is_named_wherever_it_stands) {
	static const char *const keywords[] = { "not", "if", "then", "else", "patternProperties",
		"multipleOf", "uniqueItems", "contains", "dependentRequired", "dependentSchemas",
		"minProperties", "maxProperties", "unevaluatedProperties", "unevaluatedItems",
		"propertyNames", "$anchor", "$dynamicRef", "$id", "nullable", "additionalItems",
		"dependencies", "contentEncoding", "x-mine", "" };
	for (size_t i = 0; i < COUNT(keywords); i++) {
		for (size_t j = 0; j < COUNT(places); j++) {
			char source[256], keyword[64], words[64];
			snprintf(keyword, sizeof(keyword), "\"%s\":1", keywords[i]);
			snprintf(words, sizeof(words), "keyword '%s'", keywords[i]);
			put_in_place(source, sizeof(source), places[j], keyword);
			check_refused(SCHEMA, source, BB_ERR_UNSUPPORTED, words);
		}
	}
}

Test(grammar, what_only_describes_is_taken_wherever_it_stands) {
	static const char *const keywords[] = { "\"title\":\"t\"", "\"description\":\"d\"",
		"\"default\":{\"not\":1}", "\"examples\":[{\"$ref\":\"nowhere\"}]", "\"$comment\":\"c\"",
		"\"deprecated\":true", "\"readOnly\":true", "\"writeOnly\":false",
		"\"discriminator\":{\"propertyName\":\"kind\"}", "\"$schema\":\"http://x\"" };
	for (size_t i = 0; i < COUNT(keywords); i++) {
		for (size_t j = 0; j < COUNT(places); j++) {
			char source[256];
			struct bb_error err = { 0 };
			struct rules r;
			put_in_place(source, sizeof(source), places[j], keywords[i]);
			cr_expect(rules_init(&r, &err) && source_compile(&r, SCHEMA, source, strlen(source),
				&err), "%s: %s", source, err.text);
			rules_destroy(&r);
		}
	}
}

Test(grammar, json_is_indented_where_asked) {
	static const char any[] = "{}";
	cr_expect(fits_indented(2, any, "{\n  \"a\": [\n    1,\n    {}\n  ],\n  \"b\": []\n}"));
	cr_expect(fits_indented(0, any, "[\n1,\n[\n2\n]\n]"));
	cr_expect(fits_indented(3, any, "7"));
	static const char *const bad[] = { "{\"a\": 1}", "{\n \"a\": 1\n}", "{\n   \"a\": 1\n}",
		"{\n  \"a\":1\n}", "{\n  \"a\":  1\n}", "{\n  \"a\": 1 \n}", "{ }", "[\n]",
		"[\n  1,2\n]", "[\n  1, \n  2\n]", "[\n  1\n  ]", "[\n\n  1\n]", "[\n  [\n  1\n  ]\n]",
		"[\n  1]", "\n7" };
	for (size_t i = 0; i < COUNT(bad); i++) {
		cr_expect(!fits_indented(2, any, bad[i]), "lets through %s", bad[i]);
	}
	static const char tuple[] = "{\"type\":\"object\",\"properties\":{\"v\":{\"type\":\"array\","
		"\"prefixItems\":[{\"type\":\"null\"},{\"type\":\"boolean\"}],"
		"\"items\":{\"const\":{\"x\":[1,{}],\"y\":[]}}}},"
		"\"required\":[\"v\"],\"additionalProperties\":false}";
	cr_expect(fits_indented(1, tuple, "{\n \"v\": [\n  null,\n  true,\n  {\n   \"x\": [\n    1,"
		"\n    {}\n   ],\n   \"y\": []\n  }\n ]\n}"));
	cr_expect(fits_indented(1, tuple, "{\n \"v\": []\n}"));
}

/* A recursive schema has rules for 16 levels, and below them one for all on one line. */
Test(grammar, indentation_ends_at_a_depth) {
	static const char list[] = "{\"type\":\"array\",\"items\":{\"$ref\":\"#\"}}";
	char text[8192] = "";
	for (int i = 0; i < 16; i++) {
		snprintf(text + strlen(text), sizeof(text) - strlen(text), "[\n%*s", 2 * (i + 1), "");
	}
	strcat(text, "[[[], []]]");
	cr_expect(fits_indented(SOURCE_ONE_LINE, list, "[[[], []]]"));
	for (int i = 15; i >= 0; i--) {
		snprintf(text + strlen(text), sizeof(text) - strlen(text), "\n%*s]", 2 * i, "");
	}
	cr_expect(fits_indented(2, list, text), "%s", text);
}

#define FEW "{\"schema\":{\"type\":\"object\",\"properties\":{\"n\":{\"enum\":[17,19]}}," \
	"\"required\":[\"n\"],\"additionalProperties\":false}}"

static const struct fit_case structure_cases[] = {
	{ "\"a\"", { "a" }, { "", "aa" } },
	{ "{\"seq\":[\"a\",{\"any\":[\"b\",{\"regex\":\"c+\"}]},{\"schema\":{\"enum\":[1,[2]]}}]}",
		{ "ab1", "accc[2]" }, { "a1", "ab2", "acb1" } },
	{ "{\"mark\":\"<x>\"}", { "<x>", "\xFF<x>" }, { "\xFF\xFF<x>", "<x", "" } },
	{ "{\"list\":\"a\",\"between\":\",\"}", { "a", "a,a,a" }, { "", "a,", "aa" } },
	{ "{\"list\":\"a\",\"max\":2}", { "a", "aa" }, { "", "aaa" } },
	{ "{\"some\":[[\"a\",false],[\"b\",true],[\"c\",false]],\"between\":\";\"}",
		{ "b", "a;b", "b;c", "a;b;c" }, { "a", "c", "a;c", "b;a", ";b", "b;", "" } },
	{ "{\"some\":[[\"a\",false]]}", { "", "a" }, { "aa" } },
	{ "{\"until\":\"aab\"}", { "aab", "aaab", "xaaaab", "\xFF\n" "aab", "abaab" },
		{ "", "aa", "aabx", "aabaab", "aab\n" } },
	{ "{\"without\":\"aab\"}", { "", "aa", "abab", "aaxb" }, { "aab", "xaaabx", "aabaa" } },
	{ "{\"without\":null,\"not_first\":{\"seq\":[{\"regex\":\" *\"},\"[\"]}}",
		{ "", "  ", "a[" }, { "[", "  [a" } },
	/* Text, calls of something in marks, text. */
	{ "{\"seq\":[{\"any\":[\"\",{\"list\":{\"seq\":[{\"until\":\"<c>\"}," FEW ",\"</c>\"]}}]},"
		"{\"without\":\"<c>\"}]}",
		{ "", "just text <c", "well: <c>{\"n\": 17}</c>",
			"\xFF<c>{\"n\":19}</c> and <c>{\"n\":17}</c>.", "</c>" },
		{ "<c>", "a <c>{\"n\": 18}</c>", "<c>{\"n\":17}", "<c>{\"n\":17}</c><c>no</c>",
			"<c> {\"n\":17}</c>" } },
};

Test(grammar, structures_mix_free_text_with_what_is_not) {
	check_cases(BB_GRAMMAR_STRUCTURE, structure_cases, COUNT(structure_cases));
	const enum bb_code bad = BB_ERR_INPUT;
	check_refused(BB_GRAMMAR_STRUCTURE, "{\"seq\":[{\"x\":1}]}", bad, "expected a text, mark");
	check_refused(BB_GRAMMAR_STRUCTURE, "{\"seq\":[", bad, "line 1");
	check_refused(BB_GRAMMAR_STRUCTURE, "{\"until\":1}", bad, "a text");
	check_refused(BB_GRAMMAR_STRUCTURE, "{\"list\":\"a\",\"max\":0}", bad, "max");
	check_refused(BB_GRAMMAR_STRUCTURE, "{\"regex\":\"(\"}", bad, "')'");
	check_refused(BB_GRAMMAR_STRUCTURE, "{\"seq\":\"ab\"}", bad, "a list");
	check_refused(BB_GRAMMAR_STRUCTURE, "{\"any\":{}}", bad, "a list");
	check_refused(BB_GRAMMAR_STRUCTURE, "{\"until\":\"a\",\"not_first\":{\"any\":1}}", bad,
		"a list");
	check_refused(BB_GRAMMAR_STRUCTURE, "{\"some\":null}", bad, "a list");
	check_refused(BB_GRAMMAR_STRUCTURE, "{\"some\":[\"a\"]}", bad, "pairs");
	check_refused(BB_GRAMMAR_STRUCTURE, "{\"some\":[[\"a\",1]]}", bad, "pairs");
	check_refused(BB_GRAMMAR_STRUCTURE, "{\"schema\":{\"not\":{}}}", BB_ERR_UNSUPPORTED, "not");
	check_refused(BB_GRAMMAR_STRUCTURE, "{\"until\":\"a\",\"not_first\":{\"schema\":{}}}", bad,
		"expected a text, mark");
}

Test(grammar, what_is_not_supported_is_named) {
	const enum bb_code no = BB_ERR_UNSUPPORTED, bad = BB_ERR_INPUT;
	check_refused(SCHEMA, "{\"type\":\"string\",\"format\":\"email\"}", no, "email");
	check_refused(SCHEMA, "{\"type\":\"number\",\"minimum\":1}", no, "'minimum'");
	check_refused(SCHEMA, "{\"properties\":{\"a\":{\"not\":{}}}}", no, "at #/properties/a");
	check_refused(SCHEMA, "{\"anyOf\":[{},{\"format\":\"x\"}]}", no, "at #/anyOf/1");
	check_refused(SCHEMA, "{\"type\":\"number\",\"exclusiveMinimum\":0}", no, "'exclusiveMinimum'");
	check_refused(SCHEMA, "{\"oneOf\":[{\"type\":\"integer\"},{\"type\":\"number\"}]}", no,
		"oneOf");
	check_refused(SCHEMA, "{\"$ref\":\"#/nowhere\"}", bad, "#/nowhere");
	check_refused(SCHEMA, "{\"$ref\":\"http://x\"}", no, "http://x");
	check_refused(SCHEMA, "{\"type\":\"array\",\"items\":{\"$ref\":\"#\"},\"minItems\":1}", bad,
		"no JSON fits");
	check_refused(SCHEMA, "{\"type\":\"text\"}", bad, "text");
	check_refused(SCHEMA, "{\"type\":\"integer\",\"minimum\":2,\"maximum\":1}", bad,
		"no JSON fits");
	check_refused(SCHEMA, "{\"type\":\"object\",\"required\":[\"a\"],"
		"\"additionalProperties\":false}", bad, "no JSON fits");
	check_refused(SCHEMA, "{\"a\":", bad, "line 1");
	check_refused(SCHEMA, "{\"type\":\"null\",\"type\":\"null\"}", bad, "duplicate");
	check_refused(REGEX, "(?=a)b", no, "lookaround");
	check_refused(REGEX, "(a)\\1", no, "backreference");
	check_refused(REGEX, "a\\b", no, "boundary");
	check_refused(REGEX, "(a{1000}){1000000}", no, "at most");
	check_refused(REGEX, "((a{1000}){1000}){1000}", no, "at most");
	check_refused(REGEX, "(a", bad, "')'");
	check_refused(REGEX, "[b-a]", bad, "rises");
	check_refused(REGEX, "*a", bad, "repeat");
	check_refused(GBNF, "root ::= root \"a\" | \"b\"", no, "root");
	check_refused(GBNF, "root ::= a", bad, "'a'");
	check_refused(GBNF, "a ::= \"b\"", bad, "root");
	check_refused(GBNF, "root ::= \"b\" )", bad, "line 1");
	check_refused(GBNF, "root ::= <[1]>", no, "tokens");
	check_refused(GBNF, "root ::= \"a\" root", bad, "none fits");
	check_refused(CHOICE, "[]", bad, "array");
	check_refused(CHOICE, "[1]", bad, "array");
}

/* Every regex over few letters up to a length, against the same language by enumeration: bounded
 * repeats in each other count alike. */
Test(grammar, counted_repeats_count) {
	char source[64], text[32];
	for (int m = 0; m <= 3; m++) {
		for (int n = m; n <= 4; n++) {
			snprintf(source, sizeof(source), "((ab){%d,%d}c){1,2}", m, n);
			for (int i = 0; i <= 5; i++) {
				for (int j = -1; j <= 5; j++) { /* -1: no second round */
					text[0] = '\0';
					for (int k = 0; k < i; k++) {
						strcat(text, "ab");
					}
					strcat(text, "c");
					for (int k = 0; k < j; k++) {
						strcat(text, "ab");
					}
					strcat(text, j >= 0 ? "c" : "");
					const bool good = i >= m && i <= n && (j < 0 || (j >= m && j <= n));
					cr_assert_eq(fits(REGEX, source, text), good, "%s %s", source, text);
				}
			}
		}
	}
}

/* Which of the letters so far may be the last but 4000 is a state with as many elements as there
 * were: going on costs ever more, until it is refused. The matcher stands where it stood. */
Test(grammar, work_at_a_time_has_a_limit) {
	static const char source[] = "[ab]*a[ab]{4000}";
	static char text[3000];
	struct bb_error err = { 0 };
	struct rules r;
	struct matcher m;
	bool ok = false;
	memset(text, 'a', sizeof(text));
	cr_assert(rules_init(&r, &err) && source_compile(&r, REGEX, source, strlen(source), &err) &&
		matcher_init(&m, &r, NULL, &err), "%s", err.text);
	cr_assert(!matcher_accept(&m, text, sizeof(text), &ok, &err));
	cr_assert_eq(err.code, BB_ERR_UNSUPPORTED);
	cr_assert(strstr(err.text, "pieces of work") != NULL, "%s", err.text);
	cr_assert(matcher_accept(&m, text, 100, &ok, &err) && ok, "%s", err.text);
	matcher_finish(&m);
	rules_destroy(&r);
}

/* ---- on little stack ---- */

/* What a small request can hold, compiled, followed and clipped by a thread of 256 KiB of stack; a
 * server's have four times that. */
struct long_case {
	enum bb_grammar_kind kind;
	char source[300000], text[100000];
	bool is_taken, fits;
	struct bb_error err;
};

static bool play_rules(struct long_case *c, struct rules *r) {
	struct matcher m = { 0 };
	bool ok = true;
	for (uint32_t i = 0; ok && i < r->n; i++) {
		ok = r->nodes[i].op != NODE_TERM || expr_clip(&r->x, r->nodes[i].a) != EXPR_NONE;
	}
	ok = ok && matcher_init(&m, r, NULL, &c->err);
	for (const char *at = c->text; ok && *at != '\0'; at += strnlen(at, 50)) {
		ok = matcher_accept(&m, at, strnlen(at, 50), &ok, &c->err) && ok;
	}
	ok = ok && matcher_may_end(&m);
	matcher_finish(&m);
	return ok;
}

/* Asserts are for the test's own thread. */
static void *play_long(void *arg) {
	struct long_case *c = arg;
	struct rules r = { 0 };
	c->err = (struct bb_error){ 0 };
	c->is_taken = rules_init(&r, &c->err) &&
		source_compile(&r, c->kind, c->source, strlen(c->source), &c->err);
	c->fits = c->is_taken && play_rules(c, &r);
	rules_destroy(&r);
	return NULL;
}

static struct long_case long_case;

/* refused: words of the refusal, or NULL: the text fits. */
static void play_on_little_stack(enum bb_grammar_kind kind, const char *refused) {
	pthread_attr_t attr;
	pthread_t thread;
	long_case.kind = kind;
	pthread_attr_init(&attr);
	cr_assert_eq(pthread_attr_setstacksize(&attr, 256 << 10), 0);
	cr_assert_eq(pthread_create(&thread, &attr, play_long, &long_case), 0);
	pthread_join(thread, NULL);
	pthread_attr_destroy(&attr);
	cr_assert_eq(long_case.is_taken, refused == NULL, "%.40s: %s", long_case.source,
		long_case.err.text);
	cr_assert(refused == NULL ? long_case.fits : strstr(long_case.err.text, refused) != NULL,
		"%.40s: %s", long_case.source, long_case.err.text);
}

/* `n` times `part` behind what the text is. */
static void repeat(char *text, const char *part, int n) {
	char *at = text + strlen(text);
	for (int i = 0; i < n; i++) {
		at = stpcpy(at, part);
	}
}

/* source: begin, n times part, end; text: the same. */
static void lay(char *text, const char *begin, const char *part, int n, const char *end) {
	strcpy(text, begin);
	repeat(text, part, n);
	strcat(text, end);
}

Test(long_grammar, of_regex) {
	lay(long_case.source, "(", "a", 20000, ")b");
	lay(long_case.text, "", "a", 20000, "b");
	play_on_little_stack(REGEX, NULL);
	lay(long_case.source, "(", "a", 20000, "){2}(b|cd){100}e");
	lay(long_case.text, "", "a", 40000, "");
	lay(strchr(long_case.text, '\0'), "", "cd", 100, "e");
	play_on_little_stack(REGEX, NULL);
	lay(long_case.source, "a", "{0,1}", 10000, "");
	play_on_little_stack(REGEX, "repeats");
}

Test(long_grammar, of_texts_in_schemas) {
	lay(long_case.source, "{\"const\":\"", "a", 20000, "\"}");
	lay(long_case.text, "\"", "a", 20000, "\"");
	play_on_little_stack(SCHEMA, NULL);
	lay(long_case.source, "{\"enum\":[1,{\"k\":\"", "a", 20000, "\"}]}");
	lay(long_case.text, "{\"k\":\"", "a", 20000, "\"}");
	play_on_little_stack(SCHEMA, NULL);
	lay(long_case.source, "{\"type\":\"object\",\"properties\":{\"", "a", 20000,
		"\":{\"const\":1}}}");
	lay(long_case.text, "{\"", "a", 20000, "\":1}");
	play_on_little_stack(SCHEMA, NULL);
	lay(long_case.source, "{\"const\":\"", "a", 70000, "\"}");
	play_on_little_stack(SCHEMA, "at most 65536 bytes");
	lay(long_case.source, "{\"properties\":{\"", "a", 70000, "\":true},\"type\":\"object\"}");
	play_on_little_stack(SCHEMA, "at most 65536 bytes");
	lay(long_case.source, "{\"const\":", "[", 600, "");
	repeat(long_case.source, "]", 600);
	strcat(long_case.source, "}");
	play_on_little_stack(SCHEMA, "arrays and objects of at most");
}

/* Texts that each begin with the one before. */
static void lay_prefixes(int n) {
	char *at = long_case.source;
	*at++ = '[';
	for (int i = 1; i <= n; i++) {
		at += sprintf(at, "%s\"%.*s\"", i > 1 ? "," : "", i, long_case.text);
	}
	strcpy(at, "]");
}

Test(long_grammar, of_choices) {
	lay(long_case.text, "", "ab", 225, "");
	lay_prefixes(450);
	play_on_little_stack(CHOICE, NULL);
	lay(long_case.text, "", "ab", 350, "");
	lay_prefixes(700);
	play_on_little_stack(CHOICE, "begin with the one before");
	lay(long_case.source, "[\"b\",\"", "a", 90000, "\"]");
	lay(long_case.text, "", "a", 90000, "");
	play_on_little_stack(CHOICE, NULL);
}

/* a0 ::= a1, a1 ::= a2 ... in this order or the other one. */
static void lay_chain(int n, const char *begin, bool is_backwards) {
	char *at = stpcpy(long_case.source, begin);
	for (int i = 0; i < n; i++) {
		const int rule = is_backwards ? n - 1 - i : i;
		at += sprintf(at, "a%d ::= a%d\n", rule, rule + 1);
	}
	sprintf(at, "a%d ::= \"x\"\nroot ::= a0\n", n);
}

Test(long_grammar, of_gbnf) {
	strcpy(long_case.text, "x");
	lay_chain(400, "", false);
	play_on_little_stack(GBNF, NULL);
	lay_chain(10000, "", false);
	play_on_little_stack(GBNF, "begin with one another");
	lay_chain(10000, "", true);
	play_on_little_stack(GBNF, NULL);
	lay(long_case.source, "root ::= \"x\"", "?", 10000, "\n");
	play_on_little_stack(GBNF, "repeats");
	lay(long_case.source, "root ::= \"x\"", " \"y\"", 20000, "\n");
	lay(long_case.text, "x", "y", 20000, "");
	play_on_little_stack(GBNF, NULL);
}

/* Rules of which each by itself is short, but whose chains hang together. */
Test(long_grammar, of_gbnf_chains_of_chains) {
	char *at = long_case.source + sprintf(long_case.source, "root ::= ");
	for (int i = 0; i < 100; i++) {
		at += sprintf(at, "%sc%d-0", i > 0 ? " | " : "", i);
	}
	at += sprintf(at, "\n");
	for (int i = 0; i < 100; i++) {
		for (int k = 0; k < 99; k++) {
			at += sprintf(at, "c%d-%d ::= (c%d-%d | \"y\")\n", i, k, i, k + 1);
		}
		at += i > 0 ? sprintf(at, "c%d-99 ::= \"y\" c%d-0\n", i, i - 1)
			: sprintf(at, "c%d-99 ::= \"x\"\n", i);
	}
	lay(long_case.text, "", "y", 99, "x");
	play_on_little_stack(GBNF, NULL);
}

/* Each rule names the next, and what is known of the last goes up to the first: not by one rule for
 * each pass over all. Seconds of this process, so that others on the machine don't count; one pass
 * per rule takes more than ten, once through some hundredths. */
Test(grammar, long_chains_of_rules_take_no_long_time) {
	enum { N = 16000 };
	static char source[60 * N];
	char *at = source + sprintf(source, "root ::= c0\n");
	struct bb_error err = { 0 };
	struct rules r;
	for (int i = 0; i < N; i++) {
		at += sprintf(at, "c%d ::= \"(\" c%d \")\" | \"[\" c%d\n", i, i + 1, i + 1);
	}
	sprintf(at, "c%d ::= \"x\" root | \"y\"\n", N);
	const clock_t start = clock();
	cr_assert(rules_init(&r, &err) && source_compile(&r, GBNF, source, strlen(source), &err), "%s",
		err.text);
	cr_assert_lt((double)(clock() - start) / CLOCKS_PER_SEC, 3);
	rules_destroy(&r);
}

/* ---- compiled ones are kept ---- */

/* Takes the entry of a source; makes it, where nobody has. */
static struct grammar_entry *take(struct grammar_cache *c, const char *source, bool *is_fresh) {
	struct grammar_entry *const fresh = base_alloc(1, sizeof(*fresh));
	grammar_entry_init(fresh, SCHEMA, source, strlen(source));
	struct grammar_entry *const e = grammar_cache_take(c, fresh);
	*is_fresh = e == fresh;
	if (e == fresh) {
		const struct bb_error err = { source[0] == '!' ? BB_ERR_INPUT : BB_OK, "no" };
		grammar_cache_made(c, e, &err);
	} else {
		grammar_entry_finish(fresh);
		base_free(fresh);
	}
	return e;
}

static int free_all(struct grammar_entry *e) {
	int n = 0;
	for (struct grammar_entry *next; e != NULL; e = next, n++) {
		next = e->older;
		grammar_entry_finish(e);
		base_free(e);
	}
	return n;
}

static bool takes_fresh(struct grammar_cache *c, const char *source, size_t bytes, int *n_freed) {
	bool is_fresh;
	struct grammar_entry *const e = take(c, source, &is_fresh);
	*n_freed = free_all(grammar_cache_leave(c, e, bytes));
	return is_fresh;
}

Test(grammar_cache, keeps_what_was_used_last_within_its_bytes) {
	struct grammar_cache c;
	bool is_fresh;
	int n;
	grammar_cache_init(&c, 100);
	cr_assert(takes_fresh(&c, "a", 40, &n) && n == 0);
	cr_assert(takes_fresh(&c, "b", 40, &n) && n == 0);
	cr_assert(!takes_fresh(&c, "a", 40, &n) && n == 0);
	cr_assert(takes_fresh(&c, "c", 40, &n) && n == 1); /* b goes */
	cr_assert(!takes_fresh(&c, "a", 40, &n) && n == 0);
	cr_assert(takes_fresh(&c, "b", 40, &n) && n == 1); /* c goes */
	struct grammar_entry *const used = take(&c, "a", &is_fresh);
	cr_assert(takes_fresh(&c, "d", 40, &n) && n == 1 && !is_fresh); /* b goes: a has a user */
	cr_assert(takes_fresh(&c, "e", 50, &n) && n == 1);
	/* has grown beyond half: is left to its user */
	cr_assert(!takes_fresh(&c, "a", 60, &n) && n == 0);
	cr_assert(takes_fresh(&c, "a", 10, &n) && n == 0);
	cr_assert_eq(free_all(grammar_cache_leave(&c, used, 60)), 1);
	cr_assert_eq(c.bytes, 60);
	cr_assert_eq(free_all(grammar_cache_clear(&c)), 2);
	cr_assert_eq(c.bytes, 0);
	for (int i = 0; i < 1000; i++) {
		char name[8];
		snprintf(name, sizeof(name), "%d", i);
		cr_assert(takes_fresh(&c, name, 0, &n) && n == (i >= 256));
	}
	cr_assert_eq(free_all(grammar_cache_clear(&c)), 256);
	grammar_cache_finish(&c);
}

Test(grammar_cache, forgets_what_could_not_be_made) {
	struct grammar_cache c;
	bool is_fresh;
	int n;
	grammar_cache_init(&c, 100);
	struct grammar_entry *const e = take(&c, "!", &is_fresh);
	cr_assert(is_fresh && e->err.code == BB_ERR_INPUT && c.n == 0);
	cr_assert(takes_fresh(&c, "!", 10, &n) && n == 1);
	cr_assert_eq(free_all(grammar_cache_leave(&c, e, 10)), 1);
	cr_assert_eq(c.bytes, 0);
	grammar_cache_finish(&c);
}

struct takers {
	struct grammar_cache cache;
	_Atomic int n_waiting, n_fresh, n_unmade;
};

/* Whoever gets the fresh one takes a while to make it: the others must have it made. */
static void *take_slowly(void *arg) {
	struct takers *const t = arg;
	struct grammar_entry *const fresh = base_alloc(1, sizeof(*fresh));
	grammar_entry_init(fresh, REGEX, "x", 1);
	t->n_waiting++;
	struct grammar_entry *const e = grammar_cache_take(&t->cache, fresh);
	if (e == fresh) {
		const struct bb_error err = { 0 };
		t->n_fresh++;
		while (t->n_waiting < 8) {
			nanosleep(&(struct timespec){ 0, 1000000 }, NULL);
		}
		nanosleep(&(struct timespec){ 0, 20000000 }, NULL);
		grammar_cache_made(&t->cache, e, &err);
	} else {
		grammar_entry_finish(fresh);
		base_free(fresh);
	}
	t->n_unmade += !e->is_made;
	free_all(grammar_cache_leave(&t->cache, e, 1));
	return NULL;
}

Test(grammar_cache, makes_once_what_many_ask_for_at_a_time) {
	static struct takers t;
	pthread_t threads[8];
	grammar_cache_init(&t.cache, 100);
	for (size_t i = 0; i < COUNT(threads); i++) {
		cr_assert_eq(pthread_create(&threads[i], NULL, take_slowly, &t), 0);
	}
	for (size_t i = 0; i < COUNT(threads); i++) {
		pthread_join(threads[i], NULL);
	}
	cr_assert(t.n_fresh == 1 && t.n_unmade == 0 && t.cache.n_shared == 7);
	cr_assert_eq(free_all(grammar_cache_clear(&t.cache)), 1);
	grammar_cache_finish(&t.cache);
}

Test(grammar, allocations_may_fail) {
	static const struct {
		enum bb_grammar_kind kind;
		const char *source, *text;
	} cases[] = {
		{ SCHEMA, NAMED ",\"required\":[\"a\"]}", "{\"a\":12,\"c\":{\"d\":[1,\"x\"]}}" },
		{ SCHEMA, "{\"type\":\"string\",\"pattern\":\"^\\\\w{2,40}$\","
		"\"maxLength\":9}", "\"abc\"" },
		{ REGEX, "[a-z]+@(x|y){2,3}\\.com", "ab@xyx.com" },
		{ GBNF, "root ::= \"(\" root \")\" root | [a-z]*", "(a)((c))" },
		{ CHOICE, "[\"a\",\"b\"]", "a" },
		{ BB_GRAMMAR_STRUCTURE, "{\"seq\":[{\"until\":\"ab\",\"not_first\":{\"mark\":\"x\"}},"
			"{\"schema\":{\"enum\":[12]}},{\"some\":[[\"c\",true],[\"d\",false]],"
			"\"between\":{\"regex\":\" ?\"}}]}",
			"..ab12c d" },
	};
	for (size_t i = 0; i < COUNT(cases); i++) {
		bool done = false;
		for (long n = 1; !done; n++) {
			struct bb_error err = { 0 };
			struct rules r;
			struct matcher m = { 0 };
			bool ok = false;
			cr_assert_lt(n, 100000);
			base_fail_alloc_at(n);
			done = rules_init(&r, &err) && source_compile(&r, cases[i].kind, cases[i].source,
				strlen(cases[i].source), &err) && matcher_init(&m, &r, NULL, &err) &&
				matcher_accept(&m, cases[i].text, strlen(cases[i].text), &ok, &err);
			base_fail_alloc_at(0);
			cr_assert(done ? ok : err.code == BB_ERR_MEMORY, "%s, %ld: %s", cases[i].source, n,
				err.text);
			matcher_finish(&m);
			rules_destroy(&r);
		}
	}
}
