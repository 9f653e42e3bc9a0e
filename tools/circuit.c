/* SPDX-License-Identifier: Apache-2.0
 *
 * A circuit's prompt, printed. */
#include "circuit.h"

#include "handset.h"
#include "input.h"
#include "terminal.h"

#include <stdlib.h>
#include <string.h>

static bool read_values(const struct handset_circuit *c, const char *text, bool *values,
	struct bb_error *err) {
	const size_t n = strlen(text);
	if (n != (size_t)c->n_inputs || strspn(text, "01") != n) {
		return input_fail(err, BB_ERR_USAGE, "--values: expected %d digits 0 or 1, one for each "
			"input, have '%.80s'", c->n_inputs, text);
	}
	for (size_t i = 0; i < n; i++) {
		values[i] = text[i] == '1';
	}
	return true;
}

static bool print_prompt(const struct handset_circuit *c, int bits, const bool *values,
	struct bb_error *err) {
	struct bb_tokens prompt = { 0 };
	const bool ok = handset_circuit_prompt(c, bits, values, &prompt, err);
	for (size_t i = 0; ok && i < prompt.n; i++) {
		out_print("%s%d", i > 0 ? " " : "", prompt.ids[i]);
	}
	if (ok) {
		out_print("\n");
		fprintf(stderr, "for a model written with --bits %d\n", bits);
		for (int i = c->n_inputs; i < c->n_inputs + c->n_gates; i++) {
			char name[64];
			show(c->names[i], name, sizeof(name));
			fprintf(stderr, "%s: %d is 0, %d is 1\n", name,
				handset_circuit_value(bits, i, false), handset_circuit_value(bits, i, true));
		}
	}
	bb_tokens_finish(&prompt);
	return ok;
}

bool circuit_print(const char *path, const char *values, int bits, struct bb_error *err) {
	struct input json;
	struct handset_circuit c = { 0 };
	bool ok = input_read_most(path, "a circuit", HANDSET_MAX_JSON, &json, err) &&
		handset_circuit_parse(&c, input_name(path), json.data, json.bytes, err);
	bool *inputs = ok ? calloc((size_t)c.n_inputs, sizeof(*inputs)) : NULL;
	if (ok && inputs == NULL) {
		ok = input_fail(err, BB_ERR_MEMORY, "out of memory for %d inputs", c.n_inputs);
	}
	ok = ok && read_values(&c, values, inputs, err) && print_prompt(&c, bits, inputs, err);
	free(inputs);
	handset_circuit_finish(&c);
	input_finish(&json);
	return ok;
}
