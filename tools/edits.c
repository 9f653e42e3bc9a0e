/* SPDX-License-Identifier: Apache-2.0
 *
 * Reading edits: SITE[@TOKENS]=FILE.npy[*FACTOR] and SITE[@TOKENS]:HEAD=FACTOR. */
#include "edits.h"

#include "input.h"
#include "npy.h"
#include "terminal.h"

#include <ctype.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define AT(member) offsetof(struct edit_options, member)

const struct arg_option edit_table[] = {
	{ "--add", "SITE=V.npy[*F]", "add F times a vector to what an op gives, as 5:x=v.npy*-2; "
		"SITE@A-B: to tokens A to B alone, where V may have a row for each", ARG_TEXTS, AT(add) },
	{ "--scale-head", "SITE:HEAD=F", "multiply a head of what an op gives, as 3:att:7=0; HEAD *: "
		"all of it; SITE@A-B:HEAD: of tokens A to B alone", ARG_TEXTS, AT(scale_head) },
	{ 0 },
};

/* A whole number of digits alone. */
static bool read_int(const char *text, const char **end, int *out) {
	char *e;
	const unsigned long n = isdigit((unsigned char)*text) ? strtoul(text, &e, 10) : ULONG_MAX;
	if (n >= INT_MAX) {
		return false;
	}
	*end = e;
	*out = (int)n;
	return true;
}

bool edits_range(const char *text, int *first, int *n) {
	const char *end;
	int last;
	if (!read_int(text, &end, first)) {
		return false;
	}
	last = *first;
	if (*end == '-' && !read_int(end + 1, &end, &last)) {
		return false;
	}
	*n = last - *first + 1;
	return *end == '\0' && last >= *first;
}

static bool read_factor(const char *text, float *out) {
	char *end;
	*out = strtof(text, &end);
	return end != text && *end == '\0' && isfinite(*out);
}

/* Takes a site's text apart at '@', and remembers it. */
static bool read_site(struct edits *e, const char *text, size_t bytes, struct bb_edit *edit,
	const char *option, struct bb_error *err) {
	char *name = strndup(text, bytes);
	if (name == NULL) {
		return input_fail(err, BB_ERR_MEMORY, "no memory for the edits");
	}
	e->names[e->n_names++] = name;
	edit->at = name;
	char *tokens = strchr(name, '@');
	if (tokens == NULL) {
		return true;
	}
	*tokens++ = '\0';
	return edits_range(tokens, &edit->first, &edit->n_tokens) || input_fail(err, BB_ERR_USAGE,
		"option '%s': '@%.40s', expected tokens as @5 or @3-7", option, tokens);
}

static bool push(struct edits *e, const struct bb_edit *edit, struct bb_error *err) {
	struct bb_edit *more = realloc(e->items, ((size_t)e->n + 1) * sizeof(*more));
	if (more == NULL) {
		return input_fail(err, BB_ERR_MEMORY, "no memory for the edits");
	}
	e->items = more;
	e->items[e->n++] = *edit;
	return true;
}

/* Times the factor, finite as it was and as it has become. */
static bool multiply(struct npy_array *v, float factor, const char *path, struct bb_error *err) {
	for (size_t i = 0; i < v->n; i++) {
		const float x = v->data[i];
		v->data[i] *= factor;
		if (isfinite(v->data[i])) {
			continue;
		}
		char at[96] = "";
		size_t rest = i, each = v->n;
		for (int axis = 0; axis < v->n_axes; axis++, rest %= each) {
			each /= v->shape[axis];
			snprintf(at + strlen(at), sizeof(at) - strlen(at), "%s%zu", axis > 0 ? ", " : "",
				rest / each);
		}
		return isfinite(x) ? input_fail(err, BB_ERR_USAGE, "%.150s has %g at [%s], which times %g "
				"is beyond float32", input_name(path), (double)x, at, (double)factor)
			: input_fail(err, BB_ERR_FORMAT, "%.150s has %s at [%s], expected finite numbers",
				input_name(path), isnan(x) ? "a NaN" : "an infinity", at);
	}
	return true;
}

/* A vector for all tokens, or a row for each of those that are named. */
static bool push_rows(struct edits *e, const struct npy_array *v, struct bb_edit edit,
	const char *text, struct bb_error *err) {
	const size_t n_rows = v->n_axes > 1 ? v->shape[0] : 1;
	if (n_rows == 1) {
		edit.add = v->data;
		edit.n_add = (int)v->n;
		return push(e, &edit, err);
	}
	if ((size_t)edit.n_tokens != n_rows) {
		return input_fail(err, BB_ERR_USAGE, "option '--add %.60s': %zu rows, expected one, or "
			"one for each of the tokens that SITE@A-B names", text, n_rows);
	}
	edit.n_tokens = 1;
	edit.n_add = (int)(v->n / n_rows);
	for (size_t i = 0; i < n_rows; i++, edit.first++) {
		edit.add = v->data + i * (size_t)edit.n_add;
		if (!push(e, &edit, err)) {
			return false;
		}
	}
	return true;
}

static bool read_add(struct edits *e, const char *text, struct bb_error *err) {
	struct bb_edit edit = { .kind = BB_EDIT_ADD };
	struct npy_array v;
	float factor = 1;
	const char *equals = strchr(text, '='), *times = equals != NULL ? strrchr(equals, '*') : NULL;
	if (equals == NULL || (times != NULL && !read_factor(times + 1, &factor))) {
		return input_fail(err, BB_ERR_USAGE,
			"option '--add' is '%.60s', expected SITE=FILE.npy or SITE=FILE.npy*FACTOR", text);
	}
	if (!read_site(e, text, (size_t)(equals - text), &edit, "--add", err)) {
		return false;
	}
	char *path = strndup(equals + 1, times != NULL ? (size_t)(times - equals - 1)
		: strlen(equals + 1));
	bool ok = path != NULL ? npy_load(&v, path, err)
		: input_fail(err, BB_ERR_MEMORY, "no memory for the edits");
	if (ok) {
		e->vectors[e->n_vectors++] = v.data;
		ok = multiply(&v, factor, path, err) && push_rows(e, &v, edit, text, err);
	}
	free(path);
	return ok;
}

static bool read_scale(struct edits *e, const char *text, struct bb_error *err) {
	struct bb_edit edit = { .kind = BB_EDIT_SCALE, .head = -1 };
	const char *equals = strchr(text, '='), *colon = equals, *end = NULL;
	while (colon != NULL && colon > text && *colon != ':') {
		colon--;
	}
	const bool is_all = colon != NULL && strncmp(colon, ":*=", 3) == 0;
	if (colon == NULL || *colon != ':' || !read_factor(equals + 1, &edit.factor) ||
		(!is_all && (!read_int(colon + 1, &end, &edit.head) || end != equals))) {
		return input_fail(err, BB_ERR_USAGE,
			"option '--scale-head' is '%.60s', expected SITE:HEAD=FACTOR, as 3:att:7=0", text);
	}
	return read_site(e, text, (size_t)(colon - text), &edit, "--scale-head", err) &&
		push(e, &edit, err);
}

bool edits_read(struct edits *out, const struct edit_options *o, struct bb_error *err) {
	const size_t n = (size_t)(o->add.n + o->scale_head.n);
	*out = (struct edits){ 0 };
	out->names = calloc(n + 1, sizeof(*out->names));
	out->vectors = calloc(n + 1, sizeof(*out->vectors));
	bool ok = out->names != NULL && out->vectors != NULL ? true
		: input_fail(err, BB_ERR_MEMORY, "no memory for the edits");
	for (int i = 0; ok && i < o->scale_head.n; i++) {
		ok = read_scale(out, o->scale_head.v[i], err);
	}
	for (int i = 0; ok && i < o->add.n; i++) {
		ok = read_add(out, o->add.v[i], err);
	}
	return ok;
}

bool edits_check(const struct edits *e, int n_tokens, struct bb_error *err) {
	for (int i = 0; i < e->n; i++) {
		const struct bb_edit *d = &e->items[i];
		const int n = d->n_tokens > 0 ? d->n_tokens : 1;
		if (d->first >= n_tokens || n > n_tokens - d->first) {
			return input_fail(err, BB_ERR_USAGE, "option '--%s': token %d of %.60s, but there are "
				"tokens 0 to %d", d->kind == BB_EDIT_ADD ? "add" : "scale-head", d->first + n - 1,
				d->at, n_tokens - 1);
		}
	}
	return true;
}

void edits_note_unused(const struct edits *e, const struct bb_engine *engine, int n_tokens) {
	for (int i = 0, next; i < e->n; i = next) {
		int64_t n_rows = 0;
		for (next = i; next < e->n && e->items[next].at == e->items[i].at; next++) {
			n_rows += bb_taps_edited(engine, next); /* a row of the file each */
		}
		if (n_rows == 0) {
			notice("'--%s %s' from token %d on has changed nothing: the model has read tokens 0 to "
				"%d%s", e->items[i].kind == BB_EDIT_ADD ? "add" : "scale-head", e->items[i].at,
				e->items[i].first, n_tokens - 1, e->items[i].first < n_tokens
				? ", and nobody wanted the logits of these" : "");
		}
	}
}

void edits_finish(struct edits *e) {
	for (int i = 0; i < e->n_names; i++) {
		free(e->names[i]);
	}
	for (int i = 0; i < e->n_vectors; i++) {
		free(e->vectors[i]);
	}
	free(e->names);
	free(e->vectors);
	free(e->items);
	*e = (struct edits){ 0 };
}
