/* SPDX-License-Identifier: Apache-2.0
 *
 * What was written in each CoT step, how likely the model found it, and how large the context's
 * state has become. */
#include "trace.h"

#include "terminal.h"

#include <stdio.h>

void trace_finish(struct trace *t) {
	json_decref(t->steps);
}

/* Text in one line: what would end it, or move the cursor, is written as C does. */
static bool print_line(const char *text, size_t bytes) {
	bool ok = true;
	for (size_t i = 0; i < bytes && ok; i++) {
		const unsigned char byte = (unsigned char)text[i];
		if (byte == '\n' || byte == '\t' || byte == '\r' || byte == '\\') {
			ok = out_print("\\%c", byte == '\n' ? 'n' : byte == '\t' ? 't' : byte == '\r' ? 'r'
				: '\\');
		} else if (byte < 0x20 || byte == 0x7F) {
			ok = out_print("\\x%02x", byte);
		} else {
			ok = out_write(text + i, 1);
		}
	}
	return ok && out_write("\n", 1);
}

static bool print_bytes(double bytes) {
	static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB" };
	int i = 0;
	while (bytes >= 1024 && i < 4) {
		bytes /= 1024;
		i++;
	}
	char text[32];
	snprintf(text, sizeof(text), "%.*f %s", i > 0, bytes, units[i]);
	return out_print("%11s  ", text);
}

static bool add_object(struct trace *t, const struct bb_cot_step *s, const char *text,
	size_t bytes, size_t kv_bytes, size_t fixed_bytes) {
	/* jansson has no infinity, and -0 would be noise */
	return json_array_append_new(t->steps, json_pack("{s:i, s:i, s:i, s:o, s:f, s:I, s:I}", "index",
		s->index, "first", s->first, "n_tokens", s->n_tokens, "text", json_bytes(text, bytes),
		"logprob", s->logprob + 0.0, "kv_bytes", (json_int_t)kv_bytes, "state_bytes",
		(json_int_t)fixed_bytes)) == 0;
}

static bool print_row(struct trace *t, const struct bb_cot_step *s, const char *text, size_t bytes,
	size_t all_bytes) {
	if (!t->has_header) {
		t->has_header = true;
		if (!out_print("%5s %9s %6s %9s  %11s  %s\n", "step", "at token", "tokens", "logprob",
			"state", "written")) {
			return false;
		}
	}
	return out_print("%5d %9d %6d %9.3f  ", s->index, s->first, s->n_tokens, s->logprob + 0.0) &&
		print_bytes((double)all_bytes) && print_line(text, bytes) && out_flush();
}

bool trace_add(struct trace *t, const struct bb_engine *e, const struct bb_context *c,
	const struct bb_generation *g, int32_t id, bool is_last) {
	struct bb_cot_step s;
	if (!bb_generation_cot_step(g, &s) && !is_last) {
		return true;
	}
	struct bb_engine_info info;
	bb_engine_info(e, &info);
	size_t bytes = s.bytes;
	const char *name = s.n_tokens == 1 ? bb_token_name(e, id, &bytes) : NULL;
	const char *text = name != NULL ? name : s.text;
	const size_t kv_bytes = bb_context_kv_bytes(c);
	return t->steps != NULL ? add_object(t, &s, text, bytes, kv_bytes, info.state_bytes)
		: print_row(t, &s, text, bytes, kv_bytes + info.state_bytes);
}
