/* SPDX-License-Identifier: Apache-2.0
 *
 * Boolean circuits of any size by chain of thought, in three layers: a token of the answer is the
 * value of one gate, so as many steps as there are gates do what no constant number of layers does
 * at once (Merrill & Sabharwal, arXiv:2310.07923). The prompt lists the gates as tokens
 * `operand operand table gate`, then the values of the inputs; wires are numbered, inputs first.
 *
 * 1. A gate's token looks 1, 2 and 3 tokens back, and takes its truth table and the codes of its
 *    operands. (Value tokens look at themselves there, and take nothing.)
 * 2. The value token of wire t looks for the gate with the code of t + 1, which it carries, and
 *    takes table and operands. Where there is none, all value tokens are the best match, and what
 *    they give is 0.
 * 3. It looks for the value tokens of both operands. The feed-forward picks the entry of the table:
 *    a unit for each, open where both values are its own.
 *
 * Codes, values and tables are signs; blocks of ones go out when they come in, so that the sum of
 * squares is ENERGY in all rows that matter, and norms change nothing. The logit of the right value
 * token is bits + 1, that of its opposite bits - 1, those of others less; at the end that of EOS is
 * END_LOGIT. */
#include "build.h"

#include "base.h"

#include <string.h>

enum {
	LOOK_PAIRS = 15,                /* of RoPE, to look back; the others don't turn */
	FIRST_CODE = 2 * LOOK_PAIRS + 2, /* element of a key */
	WIDTH = 256, ENERGY = 256,
	FILL = 12,                      /* columns for it */
	ENTRIES = 4,                    /* of a truth table, behind which a sign says whether to end */
	TABLE = ENTRIES + 1,
	UNITS = ENTRIES + 1,
	GATE = 128,                     /* silu(128) = 128, and silu(-128) is lost beside 1 in f32 */
	SCORE = 32,                     /* of q and k: a sign is worth 32^2 / sqrt(64) = 128 nats */
	END_LOGIT = 32,
	FLAG_ROW = HANDSET_HEAD - 1,    /* of a head's values: moves a block of ones */
};

/* Ids, behind the tables. */
enum { END = HANDSET_OPS, EOS, FIRST_WIRE };

static int operand_id(int bits, int wire) {
	return FIRST_WIRE + wire;
}

static int gate_id(int bits, int wire) {
	return FIRST_WIRE + (1 << bits) + wire;
}

static int value_id(int bits, int wire, bool value) {
	return FIRST_WIRE + (2 << bits) + 2 * wire + value;
}

int32_t handset_circuit_value(int bits, int wire, bool value) {
	return value_id(bits, wire, value);
}

/* T00 T01 T10 T11 are the bits of a table's id, the last the lowest. */
static bool entry(int op, bool a, bool b) {
	return (op >> (3 - (2 * a + b)) & 1) != 0;
}

/* ---- the model ---- */

/* Columns. */
struct layout {
	int bits, operand, gate, table, a, b, own, next, value, value_a, value_b, result;
	int is_table, is_operand, is_gate, is_value, one;
	int spare_table, spare_a, spare_b, spare_values, spare_result, fill;
};

static struct layout layout_of(int bits) {
	struct layout at = { .bits = bits };
	int *const codes[] = { &at.operand, &at.gate, &at.a, &at.b, &at.own, &at.next, &at.spare_a,
		&at.spare_b };
	int *const signs[] = { &at.value, &at.value_a, &at.value_b, &at.result, &at.is_table,
		&at.is_operand, &at.is_gate, &at.is_value, &at.one, &at.spare_result };
	int column = 0;
	for (size_t i = 0; i < COUNT(codes); i++, column += bits) {
		*codes[i] = column;
	}
	for (size_t i = 0; i < COUNT(signs); i++) {
		*signs[i] = column++;
	}
	at.table = column;
	at.spare_table = at.table + TABLE;
	at.spare_values = at.spare_table + TABLE;
	at.fill = at.spare_values + 2;
	assert(at.fill + FILL <= WIDTH);
	return at;
}

static float sign(bool b) {
	return b ? 1 : -1;
}

static void put_code(const struct matrix *m, int row, int column, int bits, int wire) {
	for (int i = 0; i < bits; i++) {
		set(m, row, column + i, sign(wire >> i & 1));
	}
}

static void put_ones(const struct matrix *m, int row, int column, int n) {
	for (int i = 0; i < n; i++) {
		set(m, row, column + i, 1);
	}
}

static void embed_tables(const struct matrix *embed, const struct layout *at) {
	for (int id = 0; id <= END; id++) {
		for (int i = 0; i < ENTRIES; i++) {
			set(embed, id, at->table + i, sign(id < END && entry(id, i >> 1, i & 1)));
		}
		set(embed, id, at->table + ENTRIES, sign(id == END));
		set(embed, id, at->is_table, 1);
		set(embed, id, at->one, 1);
		decoder_fill(embed, id, at->fill, FILL, ENERGY - TABLE - 2);
	}
	set(embed, EOS, at->one, 1);
	decoder_fill(embed, EOS, at->fill, FILL, ENERGY - 1);
}

static void embed_wire(const struct matrix *embed, const struct layout *at, int wire) {
	const int bits = at->bits, operand = operand_id(bits, wire), gate = gate_id(bits, wire);
	put_code(embed, operand, at->operand, bits, wire);
	set(embed, operand, at->is_operand, 1);
	set(embed, operand, at->one, 1);
	decoder_fill(embed, operand, at->fill, FILL, ENERGY - bits - 2);
	put_code(embed, gate, at->gate, bits, wire);
	set(embed, gate, at->is_gate, 1);
	set(embed, gate, at->one, 1);
	put_ones(embed, gate, at->spare_table, TABLE);
	put_ones(embed, gate, at->spare_a, bits);
	put_ones(embed, gate, at->spare_b, bits);
	decoder_fill(embed, gate, at->fill, FILL, ENERGY - 3 * bits - TABLE - 2);
	for (int v = 0; v < 2; v++) {
		const int id = value_id(bits, wire, v);
		put_code(embed, id, at->own, bits, wire);
		put_code(embed, id, at->next, bits, wire + 1);
		set(embed, id, at->value, sign(v));
		set(embed, id, at->is_value, 1);
		set(embed, id, at->one, 1);
		put_ones(embed, id, at->spare_table, TABLE);
		put_ones(embed, id, at->spare_a, bits);
		put_ones(embed, id, at->spare_b, bits);
		put_ones(embed, id, at->spare_values, 2);
		set(embed, id, at->spare_result, 1);
		decoder_fill(embed, id, at->fill, FILL, ENERGY - 4 * bits - TABLE - 6);
	}
}

static void name_wire(struct handset_build *b, int bits, int wire) {
	build_name(b, operand_id(bits, wire), "x%d", wire);
	build_name(b, gate_id(bits, wire), "g%d", wire);
	build_name(b, value_id(bits, wire, false), "v%d=0", wire);
	build_name(b, value_id(bits, wire, true), "v%d=1", wire);
}

static void put_output(const struct matrix *output, const struct layout *at) {
	for (int wire = 0; wire < 1 << at->bits; wire++) {
		for (int v = 0; v < 2; v++) {
			const int id = value_id(at->bits, wire, v);
			put_code(output, id, at->next, at->bits, wire);
			set(output, id, at->result, sign(v));
		}
	}
	set(output, EOS, at->table + ENTRIES, END_LOGIT);
}

/* n features from `from` on go into rows first_row.. of a head's values, and from there to `to`. */
static void copy(const struct decoder_layer *l, int head, int first_row, int from, int to, int n) {
	for (int i = 0; i < n; i++) {
		set(&l->v, head * HANDSET_HEAD + first_row + i, from + i, 1);
		set(&l->o, to + i, head * HANDSET_HEAD + first_row + i, 1);
	}
}

/* n ones from `spare` on go out where the head finds a row with feature `flag`. */
static void give_up(const struct decoder_layer *l, int head, int flag, int spare, int n) {
	const int row = head * HANDSET_HEAD + FLAG_ROW;
	set(&l->v, row, flag, 1);
	for (int i = 0; i < n; i++) {
		set(&l->o, spare + i, row, -1);
	}
}

/* The head looks for rows whose code in `key` is that in `query`. */
static void match(const struct decoder_layer *l, int head, int query, int key, int bits) {
	for (int i = 0; i < bits; i++) {
		set(&l->q, head * HANDSET_HEAD + FIRST_CODE + i, query + i, SCORE);
		set(&l->k, head * HANDSET_HEAD + FIRST_CODE + i, key + i, SCORE);
	}
}

static void gather(const struct decoder_layer *l, const struct layout *at) {
	for (int head = 0; head < 3; head++) {
		decoder_look_back_if(l, head, at->is_gate, at->one, head + 1, 0, LOOK_PAIRS);
		decoder_look_back_if(l, head, at->is_value, at->one, 0, 0, LOOK_PAIRS);
	}
	copy(l, 0, 0, at->table, at->table, TABLE);
	give_up(l, 0, at->is_table, at->spare_table, TABLE);
	copy(l, 1, 0, at->operand, at->b, at->bits);
	give_up(l, 1, at->is_operand, at->spare_b, at->bits);
	copy(l, 2, 0, at->operand, at->a, at->bits);
	give_up(l, 2, at->is_operand, at->spare_a, at->bits);
}

static void fetch_gate(const struct decoder_layer *l, const struct layout *at) {
	const int bits = at->bits, own = FIRST_CODE + bits;
	match(l, 0, at->next, at->gate, bits);
	/* one less than a match, and one more than the next best, whose product is bits - 2 */
	set(&l->q, own, at->is_value, SCORE);
	set(&l->k, own, at->is_value, (float)(SCORE * (bits - 1)));
	copy(l, 0, 0, at->table, at->table, TABLE);
	copy(l, 0, TABLE, at->a, at->a, bits);
	copy(l, 0, TABLE + bits, at->b, at->b, bits);
	give_up(l, 0, at->is_gate, at->spare_table, TABLE);
	give_up(l, 0, at->is_gate, at->spare_a, bits);
	give_up(l, 0, at->is_gate, at->spare_b, bits);
}

static void fetch_values(const struct decoder_layer *l, const struct layout *at) {
	match(l, 0, at->a, at->own, at->bits);
	match(l, 1, at->b, at->own, at->bits);
	for (int head = 0; head < 2; head++) {
		copy(l, head, 0, at->value, head == 0 ? at->value_a : at->value_b, 1);
		give_up(l, head, at->is_value, at->spare_values + head, 1);
	}
	for (int i = 0; i < ENTRIES; i++) {
		set(&l->gate, i, at->value_a, GATE * sign(i >> 1));
		set(&l->gate, i, at->value_b, GATE * sign(i & 1));
		set(&l->gate, i, at->one, -GATE);
		set(&l->up, i, at->table + i, 1);
		set(&l->down, at->result, i, 1.0f / GATE);
	}
	set(&l->gate, ENTRIES, at->one, GATE);
	set(&l->up, ENTRIES, at->one, 1);
	set(&l->down, at->spare_result, ENTRIES, -1.0f / GATE);
}

static bool build(struct handset_build *b, const struct handset_options *o, struct bb_error *err) {
	const int bits = o->bits;
	const struct layout at = layout_of(bits);
	const struct decoder d = { .n_layers = 3, .width = WIDTH, .n_ff = UNITS, .eos = EOS,
		.n_vocab = FIRST_WIRE + (4 << bits), .context_length = 1 << 20,
		.norm = 1 /* sqrt(ENERGY / WIDTH) */ };
	struct matrix embed, output;
	decoder_begin(b, &d);
	decoder_ends(b, &d, &embed, &output);
	decoder_divisors(b, &d, LOOK_PAIRS);
	embed_tables(&embed, &at);
	for (int op = 0; op < HANDSET_OPS; op++) {
		build_name(b, op, "%s", handset_ops[op]);
	}
	build_name(b, END, "end");
	build_name(b, EOS, "EOS");
	for (int wire = 0; wire < 1 << bits; wire++) {
		embed_wire(&embed, &at, wire);
		name_wire(b, bits, wire);
	}
	put_output(&output, &at);
	const struct decoder_layer first = decoder_layer(b, &d, 0), second = decoder_layer(b, &d, 1);
	const struct decoder_layer third = decoder_layer(b, &d, 2);
	gather(&first, &at);
	fetch_gate(&second, &at);
	fetch_values(&third, &at);
	return true;
}

/* ---- circuits ---- */

#define OPS(X) X("false") X("and") X("gt") X("a") X("lt") X("b") X("xor") X("or") X("nor") \
	X("xnor") X("not-b") X("ge") X("not-a") X("le") X("nand") X("true")
#define X(name) name,
const char *const handset_ops[HANDSET_OPS] = { OPS(X) };
#undef X
#define X(name) name ", "
#define OP_LIST OPS(X) "not"
const char handset_op_list[] = OP_LIST;

static bool push_gate(struct bb_tokens *out, int bits, const struct handset_gate *g, int wire,
	struct bb_error *err) {
	return bb_tokens_push(out, operand_id(bits, g->a), err) &&
		bb_tokens_push(out, operand_id(bits, g->b), err) && bb_tokens_push(out, g->op, err) &&
		bb_tokens_push(out, gate_id(bits, wire), err);
}

bool handset_circuit_prompt(const struct handset_circuit *c, int bits, const bool *inputs,
	struct bb_tokens *out, struct bb_error *err) {
	const int n_wires = c->n_inputs + c->n_gates;
	static const struct handset_gate end = { END, 0, 0 };
	if (n_wires >= 1 << bits) {
		return base_fail(err, BB_ERR_USAGE, "expected at most %d inputs and gates with --bits %d, "
			"have %d", (1 << bits) - 1, bits, n_wires);
	}
	bool ok = true;
	for (int i = 0; ok && i < c->n_gates; i++) {
		ok = push_gate(out, bits, &c->gates[i], c->n_inputs + i, err);
	}
	ok = ok && push_gate(out, bits, &end, n_wires, err);
	for (int i = 0; ok && i < c->n_inputs; i++) {
		ok = bb_tokens_push(out, value_id(bits, i, inputs[i]), err);
	}
	return ok;
}

void handset_circuit_run(const struct handset_circuit *c, bool *values) {
	for (int i = 0; i < c->n_gates; i++) {
		const struct handset_gate *g = &c->gates[i];
		values[c->n_inputs + i] = entry(g->op, values[g->a], values[g->b]);
	}
}

/* ---- what the model answers ---- */

enum { UNSET = -1, TWICE = -2 };

/* What is known of a wire: its gate, and its value; or UNSET, or TWICE, which answers nothing. */
struct wire {
	struct handset_gate gate;
	int op, value;
};

static void see_gate(struct wire *w, const int32_t *ids, size_t i, int n_wires) {
	const bool is_whole = i >= 3 && ids[i - 1] >= 0 && ids[i - 1] <= END &&
		ids[i - 2] >= FIRST_WIRE && ids[i - 2] < FIRST_WIRE + n_wires &&
		ids[i - 3] >= FIRST_WIRE && ids[i - 3] < FIRST_WIRE + n_wires;
	w->op = w->op != UNSET || !is_whole ? TWICE : ids[i - 1];
	if (w->op >= 0) {
		w->gate = (struct handset_gate){ w->op, ids[i - 3] - FIRST_WIRE, ids[i - 2] - FIRST_WIRE };
	}
}

static int32_t answer(const struct wire *wires, int bits, int next) {
	if (next >= 1 << bits || wires[next].op < 0) {
		return -1;
	}
	const struct handset_gate *g = &wires[next].gate;
	const int a = wires[g->a].value, b = wires[g->b].value;
	return a < 0 || b < 0 ? -1 : g->op == END ? EOS : value_id(bits, next, entry(g->op, a, b));
}

static bool expect(const struct handset_options *o, const int32_t *ids, size_t n, int32_t *expected,
	struct bb_error *err) {
	const int n_wires = 1 << o->bits, first_gate = FIRST_WIRE + n_wires;
	const int first_value = first_gate + n_wires, n_vocab = first_value + 2 * n_wires;
	struct wire *wires = base_alloc((size_t)n_wires, sizeof(*wires));
	if (wires == NULL) {
		return base_no_memory(err, "wires", (size_t)n_wires * sizeof(*wires));
	}
	for (int i = 0; i < n_wires; i++) {
		wires[i].op = wires[i].value = UNSET;
	}
	for (size_t i = 0; i < n; i++) {
		expected[i] = -1;
		if (ids[i] >= first_gate && ids[i] < first_value) {
			see_gate(&wires[ids[i] - first_gate], ids, i, n_wires);
		} else if (ids[i] >= first_value && ids[i] < n_vocab) {
			const int wire = (ids[i] - first_value) / 2;
			struct wire *w = &wires[wire];
			w->value = w->value != UNSET ? TWICE : (ids[i] - first_value) % 2;
			expected[i] = answer(wires, o->bits, wire + 1);
		}
	}
	base_free(wires);
	return true;
}

/* A full adder: 1 + 0 + 1. */
static int example(const struct handset_options *o, struct bb_tokens *prompt,
	struct bb_error *err) {
	enum { AND = 1, XOR = 6, OR = 7 };
	static const struct handset_gate gates[] = { { XOR, 0, 1 }, { XOR, 3, 2 }, { AND, 0, 1 },
		{ AND, 3, 2 }, { OR, 5, 6 } };
	static const bool inputs[] = { true, false, true };
	const struct handset_circuit adder = { .n_inputs = 3, .n_gates = COUNT(gates), .gates = gates };
	return handset_circuit_prompt(&adder, o->bits, inputs, prompt, err) ? -1 : 0;
}

const struct handset_kind handset_circuit = {
	.name = "circuit",
	.summary = "boolean circuits of any size: writes the value of one gate after the other, in "
		"three layers",
	.format = "x y table g for each gate, in order; x0 x0 end g behind the last; then a value of "
		"each input.\n"
		"The answer is the value of each gate, and EOS. Wires are numbered, the inputs first; x "
		"and y name a gate's operands.\n"
		"The model and the prompt must have the same --bits: each id of a wire depends on them.\n"
		"tables: " OP_LIST ".\n"
		"ids: 16 tables (bits: the results for 00 01 10 11), end 16, EOS 17, with n = 2^bits\n"
		"x of wire i 18 + i, its g 18 + n + i, its value 0 or 1 18 + 2 n + 2 i, or one more.\n"
		"--circuit C.json --values 101 writes such a prompt.",
	.takes = HANDSET_TAKES_BITS,
	.min_bits = 4, .max_bits = 14, .default_bits = 13,
	.build = build,
	.expect = expect,
	.example = example,
};
