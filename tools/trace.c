/* SPDX-License-Identifier: Apache-2.0
 *
 * What was written in each CoT step, how likely the model found it, and how large the context's
 * state has become. */
#include "trace.h"

#include "terminal.h"

#include <stdio.h>
#include <stdlib.h>

void trace_finish(struct trace *t) {
	json_decref(t->steps);
	bb_tokens_finish(&t->read);
}

/* Their names, or else their text: [*bytes], the caller's to free; NULL: no memory. */
static char *text_of(const struct bb_engine *e, const struct bb_tokens *ids, size_t *bytes) {
	char *text = NULL;
	FILE *f = open_memstream(&text, bytes);
	for (size_t i = 0; f != NULL && i < ids->n; i++) {
		struct bb_text piece = { 0 };
		struct bb_error ignored = { 0 };
		size_t n;
		const char *name = bb_token_name(e, ids->ids[i], &n);
		if (name != NULL) {
			fprintf(f, "%s%.*s", i > 0 ? " " : "", (int)n, name);
		} else if (bb_detokenize(e, &ids->ids[i], 1, &piece, &ignored)) {
			fwrite(piece.data, 1, piece.bytes, f);
		}
		bb_text_finish(&piece);
	}
	return f != NULL && fclose(f) == 0 ? text : NULL;
}

/* Text in a line: what would end it, or move the cursor, is written as C does. As wide as `width`
 * at least. */
static bool print_text(const char *text, size_t bytes, int width) {
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
	return ok && out_print("%*s", bytes < (size_t)width ? width - (int)bytes : 0, "");
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

/* A step as it's told. */
struct row {
	struct bb_cot_step step;
	const char *written; /* [written_bytes] */
	size_t written_bytes;
	char *read;          /* [read_bytes]; NULL: it isn't told */
	size_t read_bytes, kv_bytes, state_bytes;
};

static bool add_object(struct trace *t, const struct row *r) {
	const struct bb_cot_step *s = &r->step;
	/* jansson has no infinity, and -0 would be noise */
	json_t *o = json_pack("{s:i, s:i, s:i, s:o, s:f, s:I, s:I}", "index", s->index, "first",
		s->first, "n_tokens", s->n_tokens, "text", json_bytes(r->written, r->written_bytes),
		"logprob", s->logprob + 0.0, "kv_bytes", (json_int_t)r->kv_bytes, "state_bytes",
		(json_int_t)r->state_bytes);
	if (o != NULL && r->read != NULL) {
		json_object_set_new(o, "read", json_bytes(r->read, r->read_bytes));
	}
	return json_array_append_new(t->steps, o) == 0;
}

static bool print_row(struct trace *t, const struct row *r) {
	enum { READ_WIDTH = 12 };
	const struct bb_cot_step *s = &r->step;
	if (!t->has_header) {
		t->has_header = true;
		if (!out_print("%5s %9s %6s %9s  %11s  %-*s%s\n", "step", "at token", "tokens", "logprob",
			"state", r->read != NULL ? READ_WIDTH : 0, r->read != NULL ? "read" : "", "written")) {
			return false;
		}
	}
	return out_print("%5d %9d %6d %9.3f  ", s->index, s->first, s->n_tokens, s->logprob + 0.0) &&
		print_bytes((double)(r->kv_bytes + r->state_bytes)) &&
		(r->read == NULL || print_text(r->read, r->read_bytes, READ_WIDTH)) &&
		print_text(r->written, r->written_bytes, 0) && out_write("\n", 1) && out_flush();
}

bool trace_add(struct trace *t, const struct bb_engine *e, const struct bb_context *c,
	const struct bb_generation *g, int32_t id, bool is_last) {
	struct row r = { .kv_bytes = bb_context_kv_bytes(c) };
	if (!bb_generation_cot_step(g, &r.step) && !is_last) {
		return true;
	}
	struct bb_engine_info info;
	bb_engine_info(e, &info);
	r.state_bytes = info.state_bytes;
	r.written_bytes = r.step.bytes;
	const char *name = r.step.n_tokens == 1 ? bb_token_name(e, id, &r.written_bytes) : NULL;
	r.written = name != NULL ? name : r.step.text;
	r.read = t->shows_read ? text_of(e, &t->read, &r.read_bytes) : NULL;
	t->read.n = 0;
	const bool ok = t->steps != NULL ? add_object(t, &r) : print_row(t, &r);
	free(r.read);
	return ok;
}
