/* SPDX-License-Identifier: Apache-2.0
 *
 * Boolean circuits with hand-set weights: each logit of each step, generated and fed, random
 * circuits, classic ones and one of thousands of gates, with every KV type; and what the same
 * weights can't do when the steps between are left out. */
#include "handset_asserts.h"

#include "base.h"

enum { AND = 1, XOR = 6, OR = 7, EOS = HANDSET_OPS + 1 };
enum { BATCH = 32, MAX_WIRES = 8191 };

static struct hand_random dice;

/* A circuit in the making, with values of its inputs. */
struct sample {
	struct handset_circuit circuit;
	struct handset_gate gates[MAX_WIRES];
	bool values[MAX_WIRES]; /* [n_inputs + n_gates] */
};

static int add(struct sample *s, int op, int a, int b) {
	s->gates[s->circuit.n_gates++] = (struct handset_gate){ op, a, b };
	return s->circuit.n_inputs + s->circuit.n_gates - 1;
}

static void begin(struct sample *s, int n_inputs) {
	s->circuit = (struct handset_circuit){ .n_inputs = n_inputs, .gates = s->gates };
}

static void make_random(struct sample *s, int n_inputs, int n_gates) {
	begin(s, n_inputs);
	for (int i = 0; i < n_inputs; i++) {
		s->values[i] = hand_below(&dice, 2);
	}
	for (int i = 0; i < n_gates; i++) {
		const int op = hand_below(&dice, HANDSET_OPS), a = hand_below(&dice, n_inputs + i);
		add(s, op, a, hand_below(&dice, n_inputs + i));
	}
	handset_circuit_run(&s->circuit, s->values);
}

static int n_wires(const struct sample *s) {
	return s->circuit.n_inputs + s->circuit.n_gates;
}

/* ---- what a row must be ---- */

/* The row behind the value of wire `wire` of the sample. */
static void check_row(struct hand_model *p, const float *row, const struct sample *s, int wire) {
	const int bits = p->options.bits, next = wire + 1, n_gates = s->circuit.n_gates;
	expect_row(p, row, 4 * (n_gates + 1) + wire,
		handset_circuit_value(bits, wire, s->values[wire]),
		next == n_wires(s) ? EOS : handset_circuit_value(bits, next, s->values[next]));
}

/* ---- generated, several circuits side by side ---- */

static struct bb_tokens prompt_of(const struct hand_model *p, const struct sample *s) {
	struct bb_tokens prompt = { 0 };
	struct bb_error err = { 0 };
	cr_assert(handset_circuit_prompt(&s->circuit, p->options.bits, s->values, &prompt, &err), "%s",
		err.text);
	return prompt;
}

/* Each context goes on until its EOS; rows are checked as they come. */
static void generate(struct hand_model *p, const struct sample *samples, int n) {
	struct bb_context *contexts[BATCH];
	struct bb_error err = { 0 };
	const size_t n_vocab = (size_t)p->n_vocab;
	int longest = 0;
	for (int i = 0; i < n; i++) {
		struct bb_tokens prompt = prompt_of(p, &samples[i]);
		float *row = p->logits + (size_t)i * n_vocab;
		contexts[i] = new_context(p->engine);
		cr_assert(bb_prefill(contexts[i], prompt.ids, prompt.n, row, NULL, NULL, &err), "%s",
			err.text);
		bb_tokens_finish(&prompt);
		check_row(p, row, &samples[i], samples[i].circuit.n_inputs - 1);
		longest = samples[i].circuit.n_gates > longest ? samples[i].circuit.n_gates : longest;
	}
	for (int t = 0; t < longest; t++) {
		struct bb_step_item items[BATCH];
		int32_t ids[BATCH];
		int n_items = 0;
		for (int i = 0; i < n; i++) {
			float *row = p->logits + (size_t)i * n_vocab;
			if (t < samples[i].circuit.n_gates) {
				ids[i] = hand_largest(row, p->n_vocab);
				items[n_items++] = (struct bb_step_item){ .context = contexts[i],
					.tokens = &ids[i], .n_tokens = 1, .logits = row };
			}
		}
		cr_assert(bb_step(p->engine, items, n_items, &err), "%s", err.text);
		for (int i = 0; i < n; i++) {
			if (t < samples[i].circuit.n_gates) {
				check_row(p, p->logits + (size_t)i * n_vocab, &samples[i],
					samples[i].circuit.n_inputs + t);
			}
		}
	}
	for (int i = 0; i < n; i++) {
		bb_context_destroy(contexts[i]);
	}
}

static void play_random(const struct hand_case *s, int n_circuits, int most_gates) {
	static struct sample samples[BATCH];
	struct hand_model p;
	open_case(&p, s);
	for (int first = 0; first < n_circuits; first += BATCH) {
		const int n = n_circuits - first < BATCH ? n_circuits - first : BATCH;
		for (int i = 0; i < n; i++) {
			/* small ones more often: the time is that of attention, a square */
			const int most = 1 + hand_below(&dice, most_gates);
			make_random(&samples[i], 1 + hand_below(&dice, 16), 1 + hand_below(&dice, most));
		}
		generate(&p, samples, n);
	}
	hand_close(&p);
}

Test(handset_circuit, random_circuits_are_evaluated_gate_by_gate, .timeout = 600) {
	play_random(&(struct hand_case){ { "circuit", .bits = 8 } }, 1000, 200);
}

Test(handset_circuit, every_kv_type_and_weight_type_gives_the_same_logits, .timeout = 600) {
	static const enum bb_kv_type kv_types[] = { BB_KV_F32, BB_KV_F16, BB_KV_BF16, BB_KV_INT8 };
	for (size_t i = 0; i < COUNT(kv_types); i++) {
		play_random(&(struct hand_case){ { "circuit", .bits = 8 }, { .kv_type = kv_types[i] } },
			BATCH, 150);
	}
	play_random(&(struct hand_case){ { "circuit", .bits = 9, .type = HANDSET_F16 } }, BATCH, 60);
	play_random(&(struct hand_case){ { "circuit", .bits = 9, .type = HANDSET_BF16 } }, BATCH, 60);
}

Test(handset_circuit, every_isa_level_gives_the_same_logits, .timeout = 600) {
	for (const char *const *isa = bb_isa_names(); *isa != NULL; isa++) {
		if (bb_isa_is_available(*isa)) {
			play_random(&(struct hand_case){ { "circuit", .bits = 7 }, { .isa = *isa } }, 8, 60);
		}
	}
}

Test(handset_circuit, on_a_device, .timeout = 600) {
	static const enum bb_kv_type kv_types[] = { BB_KV_F16, BB_KV_INT8 };
	if (!HAS_SIMT && named_device() == NULL) {
		cr_skip_test("no emulator in this build");
	}
	for (size_t i = 0; i < COUNT(kv_types); i++) {
		play_random(&(struct hand_case){ { "circuit", .bits = 6 },
			{ .kv_type = kv_types[i], .device = test_device() } }, 3, 12);
	}
}

/* ---- a large one ---- */

enum { LARGE_INPUTS = 64, LARGE_GATES = 4096, LARGE_ROWS = 64 };

/* All values are fed: where each row is right behind what is right, so is what is generated. */
static void feed_values(struct hand_model *p, const struct sample *s) {
	struct bb_error err = { 0 };
	struct bb_context *c = new_context(p->engine);
	struct bb_tokens prompt = prompt_of(p, s);
	int32_t ids[LARGE_ROWS];
	cr_assert(bb_prefill(c, prompt.ids, prompt.n, p->logits, NULL, NULL, &err), "%s", err.text);
	bb_tokens_finish(&prompt);
	check_row(p, p->logits, s, s->circuit.n_inputs - 1);
	for (int wire = s->circuit.n_inputs; wire < n_wires(s); wire += LARGE_ROWS) {
		const int n = n_wires(s) - wire < LARGE_ROWS ? n_wires(s) - wire : LARGE_ROWS;
		for (int i = 0; i < n; i++) {
			ids[i] = handset_circuit_value(p->options.bits, wire + i, s->values[wire + i]);
		}
		feed(c, p->engine, ids, n, p->logits);
		for (int i = 0; i < n; i++) {
			check_row(p, p->logits + (size_t)i * (size_t)p->n_vocab, s, wire + i);
		}
	}
	bb_context_destroy(c);
}

Test(handset_circuit, thousands_of_gates, .timeout = 900) {
	static struct sample s;
	struct hand_model p;
	open_case(&p, &(struct hand_case){ { "circuit" } });
	make_random(&s, LARGE_INPUTS, LARGE_GATES);
	feed_values(&p, &s);
	hand_close(&p);
}

/* ---- classic ones ---- */

enum { WORD = 8 };

/* Inputs a, b, least first; returns the carry, sums in `out`. */
static int make_adder(struct sample *s, int out[WORD]) {
	begin(s, 2 * WORD);
	int carry = -1;
	for (int i = 0; i < WORD; i++) {
		const int a = i, b = WORD + i, half = add(s, XOR, a, b);
		const int both = add(s, AND, a, b);
		if (carry < 0) {
			out[i] = half;
			carry = both;
		} else {
			out[i] = add(s, XOR, half, carry);
			const int through = add(s, AND, half, carry);
			carry = add(s, OR, both, through);
		}
	}
	return carry;
}

static int number_of(const struct sample *s, const int *wires, int n) {
	int number = 0;
	for (int i = 0; i < n; i++) {
		number |= s->values[wires[i]] << i;
	}
	return number;
}

Test(handset_circuit, adds, .timeout = 600) {
	static struct sample samples[BATCH];
	struct hand_model p;
	open_case(&p, &(struct hand_case){ { "circuit", .bits = 7 } });
	for (int i = 0; i < BATCH; i++) {
		struct sample *s = &samples[i];
		int wires[WORD + 1];
		const int a = hand_below(&dice, 1 << WORD), b = hand_below(&dice, 1 << WORD);
		wires[WORD] = make_adder(s, wires);
		for (int k = 0; k < WORD; k++) {
			s->values[k] = (a >> k & 1) != 0;
			s->values[WORD + k] = (b >> k & 1) != 0;
		}
		handset_circuit_run(&s->circuit, s->values);
		cr_assert_eq(number_of(s, wires, WORD + 1), a + b);
	}
	generate(&p, samples, BATCH);
	hand_close(&p);
}

/* Odd-even transposition: WORD rounds of comparators, which are an OR and an AND. */
static void make_sorter(struct sample *s, int out[WORD]) {
	begin(s, WORD);
	for (int i = 0; i < WORD; i++) {
		out[i] = i;
	}
	for (int round = 0; round < WORD; round++) {
		for (int i = round % 2; i + 1 < WORD; i += 2) {
			const int largest = add(s, OR, out[i], out[i + 1]);
			out[i + 1] = add(s, AND, out[i], out[i + 1]);
			out[i] = largest;
		}
	}
}

Test(handset_circuit, sorts_and_finds_majorities, .timeout = 600) {
	static struct sample samples[BATCH];
	struct hand_model p;
	open_case(&p, &(struct hand_case){ { "circuit", .bits = 7 } });
	for (int first = 0; first < 1 << WORD; first += BATCH) {
		for (int i = 0; i < BATCH; i++) {
			struct sample *s = &samples[i];
			int wires[WORD];
			make_sorter(s, wires);
			for (int k = 0; k < WORD; k++) {
				s->values[k] = ((first + i) >> k & 1) != 0;
			}
			handset_circuit_run(&s->circuit, s->values);
			const int ones = __builtin_popcount((unsigned)(first + i));
			cr_assert_eq(number_of(s, wires, WORD), (1 << ones) - 1);
			cr_assert_eq(s->values[wires[WORD / 2]], ones > WORD / 2); /* the majority */
		}
		generate(&p, samples, BATCH);
	}
	hand_close(&p);
}

/* ---- without chain of thought ---- */

/* The gates between are left out, and the last one is asked for at once. Its operands have no
 * values then: those of wires with similar codes are averaged, and the answer is a tie or a guess.
 */
Test(handset_circuit, without_the_steps_between_the_same_weights_guess, .timeout = 600) {
	enum { N = 600, INPUTS = 8, GATES = 60 };
	static struct sample s;
	struct hand_model p;
	struct bb_error err = { 0 };
	int n_right = 0, n_wrong = 0;
	open_case(&p, &(struct hand_case){ { "circuit", .bits = 7 } });
	for (int i = 0; i < N; i++) {
		make_random(&s, INPUTS, GATES);
		/* the last gate is the parity of two late ones, but not of the one that is shown */
		const int last = n_wires(&s) - 1;
		s.gates[GATES - 1] = (struct handset_gate){ XOR, last - 2, last - 3 };
		for (int k = GATES - 5; k < GATES - 1; k++) {
			s.gates[k].op = XOR;
		}
		handset_circuit_run(&s.circuit, s.values);
		struct bb_context *c = new_context(p.engine);
		struct bb_tokens prompt = prompt_of(&p, &s);
		cr_assert(bb_tokens_push(&prompt, handset_circuit_value(7, last - 1, s.values[last - 1]),
			&err));
		cr_assert(bb_prefill(c, prompt.ids, prompt.n, p.logits, NULL, NULL, &err), "%s", err.text);
		const float right = p.logits[handset_circuit_value(7, last, s.values[last])];
		const float wrong = p.logits[handset_circuit_value(7, last, !s.values[last])];
		n_right += right > wrong;
		n_wrong += wrong > right;
		bb_tokens_finish(&prompt);
		bb_context_destroy(c);
	}
	hand_close(&p);
	cr_log_info("of %d %d right, %d wrong, %d a tie", N, n_right, n_wrong, N - n_right - n_wrong);
	cr_assert(n_right < N / 2 && n_wrong < N / 2 && abs(n_right - n_wrong) < N / 8,
		"%d of %d right, %d wrong: expected about as many, and ties", n_right, N, n_wrong);
}

/* ---- JSON ---- */

static void expect_refused(const char *json, const char *sentence) {
	struct handset_circuit c;
	struct bb_error err = { 0 };
	cr_assert_not(handset_circuit_parse(&c, "C.json", json, strlen(json), &err), "%s", json);
	cr_assert(strstr(err.text, sentence) != NULL, "%s: '%s' lacks '%s'", json, err.text, sentence);
	cr_assert(c.names == NULL && c.gates == NULL);
}

Test(handset_circuit, json_says_what_the_circuit_is) {
	static const char json[] = "{\"inputs\": [\"a\", \"b\"], \"gates\": [[\"x\", \"xor\", \"a\", "
		"\"b\"], [\"y\", \"0001\", \"x\", \"a\"], [\"z\", \"NOT\", \"y\"]]}";
	static const struct handset_gate want[] = { { XOR, 0, 1 }, { AND, 2, 0 }, { 12, 3, 3 } };
	struct handset_circuit c;
	struct bb_error err = { 0 };
	bool values[5] = { true, false };
	cr_assert(handset_circuit_parse(&c, "C.json", json, strlen(json), &err), "%s", err.text);
	cr_assert(c.n_inputs == 2 && c.n_gates == 3);
	cr_assert_eq(memcmp(c.gates, want, sizeof(want)), 0);
	cr_assert_str_eq(c.names[0], "a");
	cr_assert_str_eq(c.names[4], "z");
	handset_circuit_run(&c, values);
	cr_assert(values[2] && values[3] && !values[4]);
	handset_circuit_finish(&c);
	handset_circuit_finish(&c);
}

Test(handset_circuit, json_that_is_no_circuit_gets_a_sentence) {
	expect_refused("[]", "C.json");
	expect_refused("{\"inputs\": [], \"gates\": []}", "expected {\"inputs\"");
	expect_refused("{\"inputs\": [\"a\", \"a\"], \"gates\": []}",
		"inputs[1] is that of an earlier");
	expect_refused("{\"inputs\": [\"\"], \"gates\": []}", "inputs[0] isn't a string of 1 to");
	expect_refused("{\"inputs\": [\"a\"], \"gates\": [[\"x\", \"xor\", \"a\"]]}", "gates[0] to be");
	expect_refused("{\"inputs\": [\"a\"], \"gates\": [[\"x\", \"xyz\", \"a\", \"a\"]]}",
		"C.json: gates[0] has the table \"xyz\", expected four digits 0 or 1, or one of false, ");
	expect_refused("{\"inputs\": [\"a\"], \"gates\": [], \"outputs\": [\"a\"]}",
		"\"outputs\", expected none but \"inputs\" and \"gates\"");
	expect_refused("{\"inputs\": [\"a\"], \"gates\": [[\"x\", \"or\", \"a\", \"x\"]]}",
		"operand 2 of gates[0]");
	expect_refused("{\"inputs\": [\"a\"], \"gates\": [[\"a\", \"or\", \"a\", \"a\"]]}",
		"gates[0] is that of an earlier wire");
}

Test(handset_circuit, more_wires_than_codes_are_refused) {
	static struct sample s;
	struct bb_tokens prompt = { 0 };
	struct bb_error err = { 0 };
	make_random(&s, 3, 5);
	cr_assert_not(handset_circuit_prompt(&s.circuit, 3, s.values, &prompt, &err));
	cr_assert(strstr(err.text, "at most 7 inputs and gates with --bits 3, have 8") != NULL, "%s",
		err.text);
	s.circuit.n_gates = 4;
	cr_assert(handset_circuit_prompt(&s.circuit, 3, s.values, &prompt, &err), "%s", err.text);
	bb_tokens_finish(&prompt);
}
