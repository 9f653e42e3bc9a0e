/* SPDX-License-Identifier: Apache-2.0
 *
 * libFuzzer target for sources of grammars: the first byte says of which kind, the rest is either
 * refused with one sentence or compiled; then the text that comes by always taking one of the bytes
 * that may follow is never at a dead end, also when an allocation fails on the way. Run by
 * tests/fuzz. */
#include "grammar/match.h"
#include "grammar/sources.h"

#include <assert.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

enum { STEPS = 24 };

/* Some byte that may follow, from `first` on; false: none, or an error. */
static bool go_on(struct matcher *m, int first, struct bb_error *err) {
	for (int i = 0; i < 256 && err->code == BB_OK; i++) {
		const char byte = (char)(first + i);
		bool fits;
		if (matcher_accept(m, &byte, 1, &fits, err) && fits) {
			return true;
		}
	}
	return false;
}

static enum bb_code compile_once(const uint8_t *data, size_t bytes, bool allocs_fail) {
	static const enum bb_grammar_kind kinds[] = { BB_GRAMMAR_JSON_SCHEMA, BB_GRAMMAR_REGEX,
		BB_GRAMMAR_GBNF, BB_GRAMMAR_CHOICE, BB_GRAMMAR_STRUCTURE };
	struct bb_error err = { 0 };
	struct rules r;
	struct matcher m = { 0 };
	bool ok = rules_init(&r, &err);
	r.x.max_states = 1 << 15;
	const enum bb_grammar_kind kind = kinds[data[0] % COUNT(kinds)];
	ok = ok && source_compile(&r, kind, (const char *)data + 1, bytes - 1, &err) &&
		matcher_init(&m, &r, NULL, &err);
	for (int i = 0; ok && i < STEPS; i++) {
		ok = go_on(&m, data[(size_t)i % bytes], &err);
		/* a class may have nothing but an end behind it; what is too large shows as an error */
		assert(ok || err.code != BB_OK || matcher_may_end(&m) || m.was_too_deep);
	}
	assert(err.code == BB_OK || (err.text[0] != '\0' && strchr(err.text, '\n') == NULL));
	for (const char *p = err.text; *p != '\0' && !allocs_fail; p++) {
		assert((unsigned char)*p >= 0x20);
	}
	matcher_finish(&m);
	rules_destroy(&r);
	return err.code;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
	if (bytes < 2) {
		return 0;
	}
	const enum bb_code code = compile_once(data, bytes, false);
	assert(code == BB_OK || code == BB_ERR_INPUT || code == BB_ERR_UNSUPPORTED);
	base_fail_alloc_at(1 + (data[bytes - 1] | data[bytes / 2] << 8) % 500);
	const enum bb_code failed = compile_once(data, bytes, true);
	base_fail_alloc_at(0);
	assert(failed == code || failed == BB_ERR_MEMORY);
	return 0;
}
