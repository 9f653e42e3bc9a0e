/* SPDX-License-Identifier: Apache-2.0
 *
 * What rows of logits hand-set models must give, and what it means when they give others. */
#include "handset_harness.h"

#include <math.h>
#include <string.h>

/* ---- the logit of id v at a place ---- */

typedef float aim_fn(const struct hand_model *m, const struct hand_place *p, int v);

static float aim_of_automaton(const struct hand_model *m, const struct hand_place *p, int v) {
	return v == p->want ? 1 : 0;
}

/* Signs in which the codes of two ids are alike, less those in which they differ. */
static float alike(int a, int b, int bits) {
	return (float)(bits - 2 * __builtin_popcount((unsigned)(a ^ b) & ((1u << bits) - 1)));
}

/* Twice a number of 6 bits in the field of 64 elements where x^6 = x + 1. */
static int twice(int x) {
	return x < 32 ? 2 * x : (2 * x) ^ 0x43;
}

/* Of ids whose code is signs; or the digits that two share: of 7 bits or fewer the id is its digit,
 * else there are three, low + i high in the field of 64 elements for i = 0, 1, 2. */
static float aim_of_induction(const struct hand_model *m, const struct hand_place *p, int v) {
	const int bits = m->options.bits, differ = v ^ p->want, low = differ % 64, high = differ / 64;
	if (!m->options.non_negative) {
		return alike(v, p->want, bits);
	}
	return bits <= 7 ? differ == 0 : (low == 0) + (low == high) + (low == twice(high));
}

/* The next wire's code beside each wire's, and the sign of its value beside that of both values;
 * EOS takes part with a code of its own, 32 long. */
static float aim_of_circuit(const struct hand_model *m, const struct hand_place *p, int v) {
	enum { EOS = HANDSET_OPS + 1 };
	const int bits = m->options.bits, first = handset_circuit_value(bits, 0, false);
	const int next = (p->id - first) / 2 + 1;
	const bool ends = p->want == EOS, is_one = !ends && (p->want - first) % 2 != 0;
	if (v < first) {
		return v != EOS ? 0 : ends ? 32 : -32;
	}
	return alike(next, (v - first) / 2, bits) + (((v - first) % 2 != 0) == is_one ? 1.0f : -1.0f);
}

/* BOS, the only token with a value, leaves a window; y is in the norm. */
static double share_of_first(const struct hand_model *m, const struct hand_place *p) {
	return m->window > 0 && p->at >= m->window ? 0 : 1.0 / (p->at + 1);
}

static float aim_of_census(const struct hand_model *m, const struct hand_place *p, int v) {
	const double y = share_of_first(m, p);
	return (float)((2.0 * v - (double)v * v * y) * 2 / sqrt(4 + y * y));
}

/* RWKV-7: a row is four features whose squares add up to its width, and the n answers' columns:
 * what a norm over 64 columns with its epsilon of 64e-5 makes of a one in one of them; and then the
 * last norm. Logits of the n ids from `first` on are these columns, of the others 0. */
static float aim_of_recurrent(int width, int first, int n, int want, int v) {
	const double mean_in = 1.0 / 64, spread = sqrt(mean_in - mean_in * mean_in + 64e-5);
	const double on = (1 - mean_in) / spread, off = -mean_in / spread;
	const double mean = (on + (n - 1) * off) / width;
	const double squares = width + on * on + (n - 1) * off * off;
	const double deviation = sqrt(squares / width - mean * mean);
	return v < first || v >= first + n ? 0 : (float)(((v == want ? on : off) - mean) / deviation);
}

static float aim_of_dictionary(const struct hand_model *m, const struct hand_place *p, int v) {
	return aim_of_recurrent(256, 16, 16, p->want, v);
}

static float aim_of_s5(const struct hand_model *m, const struct hand_place *p, int v) {
	return aim_of_recurrent(64, 20, 5, p->want, v);
}

/* ---- kinds ---- */

static const struct judge {
	const char *kind;
	aim_fn *aim; /* NULL: only the order of logits is known */
	const char *meaning;
} judges[] = {
	{ "dfa", aim_of_automaton,
		"it reads the token before: the newest key or value is lost, is another context's, or "
		"lies at another position; RoPE is left out, pairs others or is scaled; a window of 1. "
		"Logits alone: a position that is off by one, gate and up swapped, an epsilon" },
	{ "dfa-block", aim_of_automaton,
		"it reads one token N back: a page in the middle is lost, moved or another "
		"context's, dropped too early; RoPE's base, its half, or its angles in few bits" },
	{ "induction", aim_of_induction,
		"it reads any earlier token by what it is, over two layers: a page is lost or "
		"there twice, a prefix shared in one layer only. With --recency: angles, KV or scores have "
		"too few bits" },
	{ "census", aim_of_census,
		"it counts what attention sees: a slot too many, one too few, a duplicate, what a "
		"window should have let go" },
	{ "latch", aim_of_automaton,
		"one scan's state was lost, is another context's, or decays" },
	{ "selective-copy", NULL,
		"a scan's state in one of two layers was lost, is another context's, or "
		"has seen a token twice; chunks of a prompt end in the wrong state" },
	{ "conv-dfa", aim_of_automaton,
		"the convolution's last tokens were lost, or are another context's, for one "
		"step" },
	{ "dictionary", aim_of_dictionary,
		"the token shift's last row, or RWKV-7's state, was lost or is another "
		"context's" },
	{ "s5-rwkv", aim_of_s5,
		"RWKV-7's state was lost, or its rates end at 1" },
	{ "circuit", aim_of_circuit,
		"three layers look 1, 2 and 3 tokens back and find a gate, then two values, by their "
		"codes: a page is lost, there twice or another context's, or a layer has another's" },
	{ "s5-unscaled", aim_of_s5, "it can't do better: its rates end at 1" },
	{ "fading-parity", NULL, "numbers below 2^-126 became 0" },
};

static const struct judge *judge_of(const char *kind) {
	for (size_t i = 0; i < sizeof(judges) / sizeof(judges[0]); i++) {
		if (strcmp(judges[i].kind, kind) == 0) {
			return &judges[i];
		}
	}
	return NULL;
}

bool hand_knows_rows(const struct hand_model *m) {
	return judge_of(m->kind->name)->aim != NULL;
}

const char *hand_meaning(const char *kind) {
	return judge_of(kind)->meaning;
}

/* ---- rows ---- */

int hand_largest(const float *row, int n) {
	int best = 0;
	for (int i = 1; i < n; i++) {
		best = row[i] > row[best] || row[best] != row[best] ? i : best;
	}
	return best;
}

/* What logit v may be off. Both terms of the census's are rounded, and int8 rounds its values. */
static float near_of(const struct hand_model *m, const struct judge *j, const struct hand_place *p,
	int v) {
	if (j->aim == aim_of_census) {
		const double y = 1.0 / (p->at + 1), rounding = m->kv_type == BB_KV_INT8 ? 1e-6 : 5e-7;
		return m->near + (float)(rounding * (2.0 * v + (double)v * v * y));
	}
	if (j->aim == aim_of_dictionary || j->aim == aim_of_s5) {
		/* bf16 products round activations, too */
		return m->near + (m->options.type == HANDSET_BF16 ? 0.03f : 1e-4f);
	}
	return m->near;
}

/* NaN: unknown. */
static float aim_of(const struct hand_model *m, const struct judge *j, const struct hand_place *p,
	int v) {
	return j->aim != NULL ? j->aim(m, p, v) : p->calm != NULL ? p->calm[v] : NAN;
}

struct hand_look hand_look(const struct hand_model *m, const float *row,
	const struct hand_place *p) {
	const struct judge *j = judge_of(m->kind->name);
	struct hand_look look = { HAND_RIGHT, hand_largest(row, m->n_vocab), p->want, 0 };
	/* beyond a window the census has no answer, only its logits */
	const bool is_beyond = j->aim == aim_of_census && m->window > 0 && p->at >= m->window;
	bool is_off = false, is_wrong = !(row[p->want] == row[p->want]);
	for (int v = 0; v < m->n_vocab; v++) {
		const float aim = aim_of(m, j, p, v);
		is_wrong = is_wrong || (v != p->want && !(row[v] < row[p->want]));
		if (aim != aim) {
			continue;
		}
		const float off = fabsf(row[v] - aim);
		is_off = is_off || !(off <= near_of(m, j, p, v));
		if (!(off <= look.off)) {
			look.off = off;
			look.worst = v;
		}
	}
	look.verdict = is_wrong && !is_beyond ? HAND_WRONG : is_off ? HAND_LOGITS : HAND_RIGHT;
	return look;
}

void hand_describe(char *out, size_t cap, const struct hand_model *m, const char *where,
	const struct hand_place *p, const struct hand_look *look, const float *row) {
	const struct judge *j = judge_of(m->kind->name);
	snprintf(out, cap, "%s, %s%s%s: first wrong behind token %d: expected %d (logit %.9g), got %d "
		"(logit %.9g); farthest off is %d (%.9g, expected %.9g). What it usually means: %s.",
		m->name, m->setting, where[0] != '\0' ? ", " : "", where, p->at, p->want,
		(double)row[p->want], look->got, (double)row[look->got], look->worst,
		(double)row[look->worst], (double)aim_of(m, j, p, look->worst), j->meaning);
}

bool hand_is_right(struct hand_model *m, const float *row, const struct hand_place *place,
	const char *where) {
	const struct hand_look look = hand_look(m, row, place);
	if (look.verdict != HAND_RIGHT) {
		hand_describe(m->failure, sizeof(m->failure), m, where, place, &look, row);
	}
	return look.verdict == HAND_RIGHT;
}
