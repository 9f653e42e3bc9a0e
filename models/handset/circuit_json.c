/* SPDX-License-Identifier: Apache-2.0
 *
 * Circuits in JSON: inputs and gates by name, in an order in which each gate's operands come before
 * it. */
#include "handset.h"

#include "json.h"

#include <string.h>
#include <strings.h>

enum { MAX_WIRES = 1 << 20, MAX_NAME = 40 };

struct source {
	const char *file;
	struct handset_circuit *circuit;
	struct handset_gate *gates; /* [n_gates], the circuit's */
	json_t *wires;              /* name: number */
	struct bb_error *err;
};

void handset_circuit_finish(struct handset_circuit *c) {
	for (int i = 0; c->names != NULL && i < c->n_inputs + c->n_gates; i++) {
		base_free(c->names[i]);
	}
	base_free(c->names);
	base_free((void *)c->gates);
	*c = (struct handset_circuit){ 0 };
}

static bool add_wire(const struct source *s, int wire, const json_t *name) {
	const char *text = json_string_value(name);
	const size_t n = text != NULL ? strlen(text) : 0;
	const char *what = wire < s->circuit->n_inputs ? "inputs" : "gates";
	const int i = wire < s->circuit->n_inputs ? wire : wire - s->circuit->n_inputs;
	if (n == 0 || n >= MAX_NAME) {
		return base_fail(s->err, BB_ERR_INPUT, "%.160s: the name of %s[%d] isn't a string of 1 to "
			"%d bytes", s->file, what, i, MAX_NAME - 1);
	}
	if (json_object_get(s->wires, text) != NULL) {
		return base_fail(s->err, BB_ERR_INPUT, "%.160s: the name of %s[%d] is that of an earlier "
			"wire", s->file, what, i);
	}
	s->circuit->names[wire] = base_strdup(text);
	return (s->circuit->names[wire] != NULL &&
		json_object_set_new(s->wires, text, json_integer(wire)) == 0) ||
		base_no_memory(s->err, "name of a wire", n + 1);
}

/* A name of handset_ops or "not", in any case, or four digits; -1: none of them. */
static int table_of(const char *text) {
	if (text != NULL && strcasecmp(text, "not") == 0) {
		return 12; /* not-a */
	}
	for (int op = 0; text != NULL && op < HANDSET_OPS; op++) {
		const char digits[] = { (char)('0' + (op >> 3)), (char)('0' + (op >> 2 & 1)),
			(char)('0' + (op >> 1 & 1)), (char)('0' + (op & 1)), '\0' };
		if (strcasecmp(text, handset_ops[op]) == 0 || strcmp(text, digits) == 0) {
			return op;
		}
	}
	return -1;
}

/* Whether the second operand changes nothing. */
static bool reads_one(int op) {
	return (op >> 3 & 1) == (op >> 2 & 1) && (op >> 1 & 1) == (op & 1);
}

/* ["x", "xor", "a", "b"], or ["x", "not", "a"]. */
static bool read_gate(const struct source *s, int i, const json_t *gate) {
	const size_t n = json_array_size(gate);
	const char *table = json_string_value(json_array_get(gate, 1));
	const int op = table_of(table);
	int operands[2];
	if (table != NULL && op < 0) {
		char shown[40];
		return base_fail(s->err, BB_ERR_INPUT, "%.160s: gates[%d] has the table \"%s\", expected "
			"four digits 0 or 1, or one of %s", s->file, i,
			base_show(table, strlen(table), shown, sizeof(shown)), handset_op_list);
	}
	if (op < 0 || (n != 4 && !(n == 3 && reads_one(op)))) {
		return base_fail(s->err, BB_ERR_INPUT, "%.160s: expected gates[%d] to be [name, table, "
			"operand, operand]", s->file, i);
	}
	for (size_t j = 0; j < 2; j++) {
		const char *name = json_string_value(json_array_get(gate, 2 + (j < n - 2 ? j : 0)));
		const json_t *wire = name != NULL ? json_object_get(s->wires, name) : NULL;
		if (wire == NULL) {
			return base_fail(s->err, BB_ERR_INPUT, "%.160s: operand %zu of gates[%d] isn't the "
				"name of an input or an earlier gate", s->file, j + 1, i);
		}
		operands[j] = (int)json_integer_value(wire);
	}
	s->gates[i] = (struct handset_gate){ op, operands[0], operands[1] };
	return add_wire(s, s->circuit->n_inputs + i, json_array_get(gate, 0));
}

static bool read_circuit(struct source *s, const json_t *root) {
	static const char *const keys[] = { "inputs", "gates", NULL };
	const json_t *inputs = json_object_get(root, "inputs"), *gates = json_object_get(root, "gates");
	struct handset_circuit *c = s->circuit;
	const size_t n_wires = json_array_size(inputs) + json_array_size(gates);
	if (json_array_size(inputs) == 0 || !json_is_array(gates) || n_wires > MAX_WIRES) {
		return base_fail(s->err, BB_ERR_INPUT, "%.160s: expected {\"inputs\": [name, ...], "
			"\"gates\": [[name, table, operand, operand], ...]} with an input or more", s->file);
	}
	if (!json_check_keys(s->file, root, keys, s->err)) {
		return false;
	}
	c->names = base_alloc(n_wires, sizeof(*c->names));
	c->gates = s->gates = base_alloc(n_wires, sizeof(*s->gates));
	s->wires = json_object();
	if (c->names == NULL || s->gates == NULL || s->wires == NULL) {
		return base_no_memory(s->err, "circuit", n_wires * sizeof(*s->gates));
	}
	c->n_inputs = (int)json_array_size(inputs);
	c->n_gates = (int)json_array_size(gates);
	bool ok = true;
	for (int i = 0; ok && i < c->n_inputs; i++) {
		ok = add_wire(s, i, json_array_get(inputs, (size_t)i));
	}
	for (int i = 0; ok && i < c->n_gates; i++) {
		ok = read_gate(s, i, json_array_get(gates, (size_t)i));
	}
	return ok;
}

bool handset_circuit_parse(struct handset_circuit *c, const char *file, const void *json,
	size_t bytes, struct bb_error *err) {
	struct source s = { .file = file, .circuit = c, .err = err };
	*c = (struct handset_circuit){ 0 };
	json_t *root = json_read(file, json, bytes, err);
	const bool ok = root != NULL && read_circuit(&s, root);
	json_decref(root);
	json_decref(s.wires);
	if (!ok) {
		handset_circuit_finish(c);
	}
	return ok;
}
