/* SPDX-License-Identifier: Apache-2.0
 *
 * An induction head (Olsson et al., arXiv:2209.11895): … A B … A, and the answer is B. The first
 * layer looks one token back and writes the code of what it finds there, P, beside the token's own,
 * T; the second looks for the row whose P is this token's T, and writes its T as the answer O.
 * Features of a row: T, P, O, two blocks of ones that go out when P and O come in, a constant, and
 * a filling, so that the sum of squares is ENERGY throughout and norms change nothing.
 *
 * A code is b signs. With --non-negative it's digits, each with a one in the place of its value:
 * then an element-wise maximum over keys says which digits occur among them, and no query can get
 * more from the box of a page than the digits that it shares with some key there. One digit for
 * up to 7 bits: that bound is exact, and a page has the largest exactly when it holds a match.
 * Three of 64 values for more, of which any two tell the token, so that two codes share one at
 * most. */
#include "build.h"

#include "base.h"

#include <math.h>

enum {
	LOOK_PAIRS = 15,              /* of RoPE: these look one token back */
	RECENT_PAIR = LOOK_PAIRS,     /* this tells old matches from new ones */
	FIRST_CODE = 2 * (RECENT_PAIR + 1), /* element of a key; these don't turn */
	ENERGY = 64,
	FILL = 8,                     /* columns for it */
	ONE_DIGIT_BITS = 7,
	DIGIT_BITS = 6, N_DIGITS = 3,
};

#define NATS 128.0        /* that a match is ahead of everything else: e^-104 is 0 in f32 */
#define RECENT_NATS 24.0  /* … of a match one token older: 1 + e^-24 is 1 in f32 */

struct coding {
	int n, weight;   /* elements, and the sum of their squares */
	int n_digits;    /* 0: signs */
	int digit_values;
	int shared_less; /* how far the product of two codes is below that of one with itself */
};

static struct coding coding_of(const struct handset_options *o) {
	if (!o->non_negative) {
		return (struct coding){ .n = o->bits, .weight = o->bits, .shared_less = 2 };
	}
	if (o->bits <= ONE_DIGIT_BITS) {
		const int n = 1 << o->bits;
		return (struct coding){ .n = n, .weight = 1, .n_digits = 1, .digit_values = n,
			.shared_less = 1 };
	}
	return (struct coding){ .n = N_DIGITS << DIGIT_BITS, .weight = N_DIGITS,
		.n_digits = N_DIGITS, .digit_values = 1 << DIGIT_BITS, .shared_less = N_DIGITS - 1 };
}

/* The i-th of three: low + i high over the field of 64 elements, x^6 = x + 1, where 1 and 2 have
 * different products with all but 0; so any two of them tell low and high. */
static int digit_of(const struct coding *c, int id, int i) {
	const int high = id >> DIGIT_BITS, low = id & ((1 << DIGIT_BITS) - 1);
	if (c->n_digits == 1) {
		return id;
	}
	const int twice = high << 1, reduced = twice >> DIGIT_BITS != 0 ? twice ^ 0x43 : twice;
	return low ^ (i == 0 ? 0 : i == 1 ? high : reduced);
}

static void put_code(const struct matrix *m, int row, int column, const struct coding *c, int id) {
	for (int i = 0; c->n_digits == 0 && i < c->n; i++) {
		set(m, row, column + i, (id >> i & 1) != 0 ? 1 : -1);
	}
	for (int i = 0; i < c->n_digits; i++) {
		set(m, row, column + i * c->digit_values + digit_of(c, id, i), 1);
	}
}

/* Columns of the blocks. */
struct layout {
	int token, previous, answer, spare[2], one, fill;
};

static struct layout layout_of(const struct coding *c) {
	struct layout at = { 0, c->n, 2 * c->n, { 3 * c->n, 3 * c->n + c->weight }, 0, 0 };
	at.one = at.spare[1] + c->weight;
	at.fill = at.one + 1;
	return at;
}

/* The head's values: the code T that is found goes to `to`, a block of ones goes out for it. */
static void copy_code(const struct decoder_layer *l, const struct coding *c,
	const struct layout *at, int to, int spare, int head_dim) {
	for (int i = 0; i < c->n; i++) {
		set(&l->v, i, at->token + i, 1);
		set(&l->o, to + i, i, 1);
	}
	set(&l->v, head_dim - 1, at->one, 1);
	for (int i = 0; i < c->weight; i++) {
		set(&l->o, spare + i, head_dim - 1, -1);
	}
}

/* Scores get A cos(w distance + pi / 4), which falls by RECENT_NATS a token or more over N tokens:
 * by A sqrt(2) in all, so a match's margin is more than that. */
static double recency_frequency(const struct handset_options *o) {
	return M_PI / 2 / o->length;
}

static double recency_amplitude(const struct handset_options *o) {
	return o->recency ? RECENT_NATS / (recency_frequency(o) * sin(M_PI / 4)) : 0;
}

/* The second layer's scores. All are exact but the recency's: products are powers of 2. */
static void match_code(const struct decoder_layer *l, const struct handset_options *o,
	const struct coding *c, const struct layout *at, int head_dim) {
	const double amplitude = recency_amplitude(o), scale = sqrt(head_dim);
	const double margin = exp2(ceil(log2(2 * sin(M_PI / 4) * amplitude + NATS)));
	const double product = margin * scale / c->shared_less;
	const double k = exp2(floor(log2(product) / 2));
	for (int i = 0; i < c->n; i++) {
		set(&l->q, FIRST_CODE + i, at->token + i, (float)(product / k));
		set(&l->k, FIRST_CODE + i, at->previous + i, (float)k);
	}
	if (o->recency) {
		const double q = amplitude * scale / k;
		set(&l->q, 2 * RECENT_PAIR, at->one, (float)(q * cos(M_PI / 4)));
		set(&l->q, 2 * RECENT_PAIR + 1, at->one, (float)(q * sin(M_PI / 4)));
		set(&l->k, 2 * RECENT_PAIR, at->one, (float)k);
	}
}

static bool build(struct handset_build *b, const struct handset_options *o, struct bb_error *err) {
	if (o->recency && o->non_negative) {
		return base_fail(err, BB_ERR_USAGE, "expected --recency or --non-negative, got both: what "
			"tells new matches from old ones are keys that turn");
	}
	const struct coding c = coding_of(o);
	const struct layout at = layout_of(&c);
	const int head_dim = o->non_negative ? 4 * HANDSET_HEAD : HANDSET_HEAD;
	struct decoder d = { .n_layers = 2, .width = build_width(at.fill + FILL), .n_ff = 1,
		.n_heads = 1, .head_dim = head_dim, .n_vocab = 1 << o->bits, .eos = -1,
		.context_length = o->recency ? o->length : 1 << 20 };
	d.norm = (float)sqrt((double)ENERGY / d.width);
	struct matrix embed, output;
	decoder_begin(b, &d);
	decoder_ends(b, &d, &embed, &output);
	const struct matrix divisors = decoder_divisors(b, &d, LOOK_PAIRS);
	if (o->recency) {
		set(&divisors, RECENT_PAIR, 0,
			(float)(decoder_frequency(&d, RECENT_PAIR) / recency_frequency(o)));
	}
	for (int id = 0; id < d.n_vocab; id++) {
		put_code(&embed, id, at.token, &c, id);
		put_code(&output, id, at.answer, &c, id);
		for (int i = 0; i < c.weight; i++) {
			set(&embed, id, at.spare[0] + i, 1);
			set(&embed, id, at.spare[1] + i, 1);
		}
		set(&embed, id, at.one, 1);
		decoder_fill(&embed, id, at.fill, FILL, ENERGY - 3 * c.weight - 1);
	}
	const struct decoder_layer first = decoder_layer(b, &d, 0), second = decoder_layer(b, &d, 1);
	decoder_look_back(&first, 0, at.one, 1, 0, LOOK_PAIRS);
	copy_code(&first, &c, &at, at.previous, at.spare[0], head_dim);
	match_code(&second, o, &c, &at, head_dim);
	copy_code(&second, &c, &at, at.answer, at.spare[1], head_dim);
	return true;
}

/* ---- what it answers ---- */

enum { NO_MATCH = -1, MANY = -2 };

static void see(int32_t *answer, int32_t id, bool recency) {
	*answer = *answer == NO_MATCH || recency ? id : MANY;
}

static bool expect(const struct handset_options *o, const int32_t *ids, size_t n, int32_t *expected,
	struct bb_error *err) {
	const int n_vocab = 1 << o->bits;
	int32_t *answers = base_alloc((size_t)n_vocab, sizeof(*answers)); /* [n_vocab]: to each token */
	if (answers == NULL) {
		return base_no_memory(err, "answers", (size_t)n_vocab * sizeof(*answers));
	}
	for (int i = 0; i < n_vocab; i++) {
		answers[i] = NO_MATCH;
	}
	int32_t before = n > 0 ? ids[0] : 0; /* the first token has itself before it */
	for (size_t i = 0; i < n; before = ids[i++]) {
		expected[i] = -1;
		if (ids[i] >= 0 && ids[i] < n_vocab && before >= 0 && before < n_vocab) {
			see(&answers[before], ids[i], o->recency);
			expected[i] = answers[ids[i]] >= 0 ? answers[ids[i]] : -1;
		}
	}
	base_free(answers);
	return true;
}

static int example(const struct handset_options *o, struct bb_tokens *prompt,
	struct bb_error *err) {
	static const int32_t ids[] = { 0, 1, 3, 2, 1 };
	return build_example(prompt, ids, sizeof(ids) / sizeof(ids[0]), err);
}

const struct handset_kind handset_induction = {
	.name = "induction",
	.summary = "an induction head: finds what came behind the last token before, in two layers",
	.format = "s0 ... A B ... A: the answer is B, the token behind the one earlier A.\n"
		"ids: 0 to 2^bits - 1. s0 should not come again: what is before it looks like itself.\n"
		"Several earlier A without --recency, and none: nothing is promised.\n"
		"--recency: of several A the newest.\n"
		"--non-negative: keys of the second layer without negative numbers, so that the box round "
		"a page's keys says what a query finds there.",
	.length = "N is the longest prompt of a model with --recency",
	.recency = "--kv-cache-dtype f32",
	.takes = HANDSET_TAKES_LENGTH | HANDSET_TAKES_BITS | HANDSET_TAKES_RECENCY |
		HANDSET_TAKES_NON_NEGATIVE,
	.min_length = 2, .max_length = 65536, .default_length = 4096,
	.min_bits = 2, .max_bits = 12, .default_bits = 12,
	.build = build,
	.expect = expect,
	.example = example,
};
