/* SPDX-License-Identifier: Apache-2.0
 *
 * The interface of chat templates: compiling a source, giving JSON variables to it, and turning a
 * failure anywhere inside into an error. The interpreter is in template/. */
#include "template.h"

#include "template/interp.h"

#include <string.h>

struct template {
	struct job_chunk *chunks; /* of everything below */
	const struct node *body;
};

/* The only setjmp frames are the two run_* functions: they own nothing that a jump could lose. */

static const struct node *run_parser(struct job *j, const char *source, size_t bytes) {
	if (setjmp(j->way_out) != 0) {
		return NULL;
	}
	return parse_template(j, source, bytes);
}

bool template_create(struct template **out, const char *source, size_t bytes,
	struct bb_error *err) {
	*out = NULL;
	struct template *t = base_alloc(1, sizeof(*t));
	if (t == NULL) {
		return base_no_memory(err, "template", sizeof(*t));
	}
	struct job job;
	job_init(&job, err);
	t->body = run_parser(&job, source, bytes);
	t->chunks = job.chunks;
	if (t->body == NULL) {
		template_destroy(t);
		return false;
	}
	*out = t;
	return true;
}

void template_destroy(struct template *t) {
	if (t != NULL) {
		job_free_chunks(t->chunks);
		base_free(t);
	}
}

/* ---- variables ---- */

static struct value from_json(struct job *j, const json_t *json);

static struct value string_from_json(struct job *j, const char *s, size_t bytes) {
	if (!text_is_valid(s, bytes)) {
		job_fail(j, "a variable is not valid UTF-8");
	}
	return value_string(text_view(j, s, bytes));
}

static struct dict *dict_from_json(struct job *j, const json_t *json) {
	struct dict *d = dict_create(j);
	void *at = json_object_iter((json_t *)(uintptr_t)json);
	for (; at != NULL; at = json_object_iter_next((json_t *)(uintptr_t)json, at)) {
		const char *key = json_object_iter_key(at);
		const struct value name = string_from_json(j, key, strlen(key));
		dict_set(j, d, name, from_json(j, json_object_iter_value(at)));
	}
	return d;
}

static struct list *list_from_json(struct job *j, const json_t *json) {
	const size_t n = json_array_size(json);
	struct list *list = list_create(j, n);
	for (size_t i = 0; i < n; i++) {
		list_push(j, list, from_json(j, json_array_get(json, i)));
	}
	return list;
}

static struct value from_json(struct job *j, const json_t *json) {
	job_enter(j);
	struct value v = value_none();
	switch (json_typeof(json)) {
	case JSON_OBJECT:
		v = (struct value){ .kind = VALUE_DICT, .dict = dict_from_json(j, json) };
		break;
	case JSON_ARRAY:
		v = value_list(VALUE_LIST, list_from_json(j, json));
		break;
	case JSON_STRING:
		v = string_from_json(j, json_string_value(json), json_string_length(json));
		break;
	case JSON_INTEGER:
		v = value_int(json_integer_value(json));
		break;
	case JSON_REAL:
		v = value_float(json_real_value(json));
		break;
	case JSON_TRUE: case JSON_FALSE:
		v = value_bool(json_is_true(json));
		break;
	case JSON_NULL:
		break;
	}
	job_leave(j);
	return v;
}

/* ---- rendering ---- */

static bool run_body(struct interp *in, const struct node *body, const json_t *vars) {
	if (setjmp(in->job.way_out) != 0) {
		return false;
	}
	in->vars = dict_from_json(&in->job, vars);
	scope_push(in, NULL);
	exec(in, body);
	return true;
}

bool template_render(const struct template *t, const json_t *vars, char **text, size_t *bytes,
	struct bb_error *err) {
	*text = NULL;
	*bytes = 0;
	struct out out = { 0 };
	struct interp in = { .out = &out };
	job_init(&in.job, err);
	bool ok = run_body(&in, t->body, vars);
	if (ok) {
		*text = base_strndup(out.data == NULL ? "" : out.data, out.bytes);
		*bytes = out.bytes;
		ok = *text != NULL || base_no_memory(err, "rendered template", out.bytes + 1);
	}
	job_finish(&in.job);
	return ok;
}
