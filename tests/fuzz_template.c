/* SPDX-License-Identifier: Apache-2.0
 *
 * libFuzzer target for chat templates: any bytes are either refused with one sentence or render to
 * valid text, within the limits of time and memory, also when an allocation fails on the way. The
 * variables are those of tests/data/templates/cases.json; given a corpus folder, its sources are
 * written there first. Run by tests/fuzz. */
#include "template.h"

#include "template/text.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

int LLVMFuzzerInitialize(int *n_args, char ***args);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static json_t *vars;

static void write_seed(const char *folder, const char *group, size_t i, const json_t *source) {
	char path[4096];
	snprintf(path, sizeof(path), "%s/seed-%s-%zu", folder, group, i);
	FILE *f = fopen(path, "wb");
	if (f != NULL) {
		fwrite(json_string_value(source), 1, json_string_length(source), f);
		fclose(f);
	}
}

int LLVMFuzzerInitialize(int *n_args, char ***args) {
	const char *folder = NULL, *group;
	for (int i = 1; i < *n_args && folder == NULL; i++) {
		folder = (*args)[i][0] != '-' ? (*args)[i] : NULL;
	}
	json_t *all = json_load_file(BOBBIN_TESTS "/data/templates/cases.json", JSON_ALLOW_NUL, NULL);
	assert(all != NULL);
	vars = json_incref(json_object_get(all, "vars"));
	json_t *cases;
	json_object_foreach(json_object_get(all, "groups"), group, cases) {
		for (size_t i = 0; folder != NULL && i < json_array_size(cases); i++) {
			write_seed(folder, group, i, json_object_get(json_array_get(cases, i), "source"));
		}
	}
	json_decref(all);
	return 0;
}

static enum bb_code render_once(const uint8_t *data, size_t bytes) {
	struct bb_error err = { 0 };
	struct template *t = NULL;
	char *text = NULL;
	size_t n_text = 0;
	const bool ok = template_create(&t, (const char *)data, bytes, &err)
		&& template_render(t, vars, &text, &n_text, &err);
	if (ok) {
		assert(err.code == BB_OK && text[n_text] == '\0' && text_is_valid(text, n_text));
	} else {
		assert(err.code != BB_OK && err.text[0] != '\0' && strchr(err.text, '\n') == NULL);
		assert(text == NULL && text_is_valid(err.text, strlen(err.text)));
	}
	base_free(text);
	template_destroy(t);
	return err.code;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
	const enum bb_code code = render_once(data, bytes);
	assert(code == BB_OK || code == BB_ERR_TEMPLATE);
	base_fail_alloc_at(bytes > 0 ? 1 + data[bytes - 1] % 8 : 1);
	const enum bb_code failed = render_once(data, bytes);
	base_fail_alloc_at(0);
	assert(failed == code || failed == BB_ERR_MEMORY);
	return 0;
}
