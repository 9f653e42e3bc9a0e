/* SPDX-License-Identifier: Apache-2.0
 *
 * Hand-set models as judges of an engine: files, scripts, rows, and their meaning. */
#include "handset_harness.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Steps of SplitMix64 (Steele et al., OOPSLA 2014). */
int hand_below(struct hand_random *r, int n) {
	uint64_t x = r->state += 0x9e3779b97f4a7c15u;
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
	x ^= x >> 31;
	return (int)((x >> 32) * (uint64_t)n >> 32);
}

/* ---- models ---- */

/* It forgets on purpose, so users aren't offered it. */
extern const struct handset_kind handset_fading_parity;

bool hand_write(struct hand_model *m, const struct hand_spec *spec, struct bb_error *err) {
	static int n_models;
	*m = (struct hand_model){ .kind = handset_find(spec->kind) };
	if (strcmp(spec->kind, handset_fading_parity.name) == 0) {
		m->kind = &handset_fading_parity;
	}
	assert(m->kind != NULL);
	m->options = (struct handset_options){ .tables = m->tables, .length = spec->length,
		.bits = spec->bits, .recency = spec->recency };
	size_t n = (size_t)snprintf(m->name, sizeof(m->name), "%s%s", spec->kind,
		spec->recency ? " --recency" : "");
	for (int i = 0; i < HAND_TABLES && spec->tables[i] != NULL; i++) {
		if (!handset_table_builtin(&m->tables[i], spec->tables[i], err)) {
			return false;
		}
		m->options.n_tables++;
		n += (size_t)snprintf(m->name + n, sizeof(m->name) - n, "%s%s", i > 0 ? "+" : " ",
			spec->tables[i]);
	}
	snprintf(m->path, sizeof(m->path), "/tmp/bobbin-hand-%d-%d.gguf", (int)getpid(), n_models++);
	return handset_check(m->kind, &m->options, err) &&
		handset_write(m->kind, &m->options, m->path, err);
}

bool hand_load(struct hand_model *m, const struct bb_engine_params *params, struct bb_error *err) {
	struct bb_engine_params p = *params;
	struct bb_engine_info info;
	bb_engine_destroy(m->engine);
	m->engine = NULL;
	p.path = m->path;
	m->window = p.window;
	if (!bb_engine_open(&m->engine, bb_models, &p, err)) {
		return false;
	}
	bb_engine_info(m->engine, &info);
	m->n_vocab = info.n_vocab;
	return true;
}

void hand_close(struct hand_model *m) {
	bb_engine_destroy(m->engine);
	if (m->path[0] != '\0') {
		unlink(m->path);
	}
	for (int i = 0; i < m->options.n_tables; i++) {
		handset_table_finish(&m->tables[i]);
	}
	*m = (struct hand_model){ 0 };
}

static bool is_kind(const struct hand_model *m, const char *name) {
	return strcmp(m->kind->name, name) == 0;
}

/* ---- scripts ---- */

/* What the kind answers behind the last of ids[n], of which it looks at the last `reach`. */
static int answer_behind(const struct hand_model *m, const int32_t *ids, int n, int reach) {
	const int k = n < reach ? n : reach;
	int32_t *expected = malloc((size_t)k * sizeof(*expected));
	hand_expect(m, ids + n - k, k, expected);
	const int answer = expected[k - 1];
	free(expected);
	return answer;
}

static int n_symbols_of(const struct hand_model *m) {
	int n = 0;
	for (int i = 0; i < m->options.n_tables; i++) {
		n += m->tables[i].n_symbols;
	}
	return n;
}

static int first_symbol_of(const struct hand_model *m, int i_table) {
	int first = 0;
	for (int i = 0; i < i_table; i++) {
		first += m->tables[i].n_symbols;
	}
	return first;
}

static int first_state_of(const struct hand_model *m, int i_table) {
	int first = n_symbols_of(m);
	for (int i = 0; i < i_table; i++) {
		first += m->tables[i].n_states;
	}
	return first;
}

/* q0 x1 q1 x2 q2 ... */
static int32_t next_of_stream(const struct hand_model *m, int i_table, struct hand_random *r,
	const int32_t *ids, int n) {
	if (n == 0) {
		return first_state_of(m, i_table);
	}
	const bool is_state = ids[n - 1] >= n_symbols_of(m);
	return is_state ? first_symbol_of(m, i_table) + hand_below(r, m->tables[i_table].n_symbols)
		: answer_behind(m, ids, n, 2);
}

/* x1 ... xN-1 PAD SEP q1 ... qN-1 EOS, and again: what a SEP or a state needs is N tokens back. */
static int32_t next_of_block(const struct hand_model *m, int i_table, struct hand_random *r,
	const int32_t *ids, int n) {
	const int length = m->options.length, at = n % (2 * length + 1);
	const int pad = n_symbols_of(m), shift = pad + 1 - n_symbols_of(m);
	const struct handset_table *t = &m->tables[i_table];
	int n_states = 0;
	for (int i = 0; i < m->options.n_tables; i++) {
		n_states += m->tables[i].n_states;
	}
	const int eos = pad + 1 + n_states, first_state = first_state_of(m, i_table) + shift;
	if (at < length) {
		return at == length - 1 ? pad
			: first_symbol_of(m, i_table) + hand_below(r, t->n_symbols);
	}
	if (at == length) {
		return eos + 1 + i_table;
	}
	const int symbol = ids[n - 1 - length];
	const int state = at == length + 1 ? 0 : ids[n - 1] - first_state;
	return symbol == pad ? eos
		: first_state + t->next[state * t->n_symbols + symbol - first_symbol_of(m, i_table)];
}

/* s0, then other ids than s0 once each in any order, then any one of them at a time, each once: of
 * ids 1 .. n - 1 exactly one earlier copy is there. */
static int32_t next_of_induction(const struct hand_model *m, struct hand_random *r,
	const int32_t *ids, int n) {
	const int n_ids = 1 << m->options.bits, n_first = n_ids / 2;
	if (m->options.recency) {
		return n == 0 ? 0 : 1 + hand_below(r, n_ids < 16 ? n_ids - 1 : 15);
	}
	if (n == 0) {
		return 0;
	}
	bool *used = calloc((size_t)n_ids, sizeof(*used));
	const int n_free = n < n_first ? n_ids - n : n_first - 1 - (n - n_first) % (n_first - 1);
	for (int i = n < n_first ? 0 : n_first + (n - n_first) / (n_first - 1) * (n_first - 1); i < n;
		i++) {
		used[ids[i]] = true;
	}
	/* the k-th of those that are free: unused ones, later those of the first part */
	int k = hand_below(r, n_free), id = -1;
	for (int i = 0; id < 0; i++) {
		const int candidate = n < n_first ? i : ids[1 + i];
		id = !used[candidate] && k-- == 0 ? candidate : -1;
	}
	free(used);
	return id;
}

/* Up to 16 items among much noise, GO, then what must come. */
static int32_t next_of_copy(const struct hand_model *m, struct hand_random *r, const int32_t *ids,
	int n) {
	enum { N_ITEMS = 16, GO = 20 };
	int n_items = 0;
	for (int i = 0; i < n; i++) {
		n_items += ids[i] < N_ITEMS;
	}
	if (n > 0 && ids[n - 1] >= GO) {
		const int answer = answer_behind(m, ids, n, n);
		return answer >= 0 ? answer : N_ITEMS;
	}
	const int pick = hand_below(r, 24);
	return n_items < 12 && pick < 6 ? hand_below(r, N_ITEMS)
		: n_items >= 12 && pick < 3 ? GO : N_ITEMS + pick % 4;
}

static int32_t next_of_dictionary(struct hand_random *r, const int32_t *ids, int n) {
	enum { N = 16 };
	return n > 0 && ids[n - 1] < N ? N + hand_below(r, N)
		: hand_below(r, N) + (hand_below(r, 2) == 0 ? 0 : 2 * N);
}

/* Writes, then swaps and reads. */
static int32_t next_of_s5(struct hand_random *r, int n) {
	enum { N_SWAPS = 10, N = 5 };
	return n < N ? N_SWAPS + n : hand_below(r, 2) == 0 ? hand_below(r, N_SWAPS)
		: N_SWAPS + N + hand_below(r, N);
}

static int32_t next_of(const struct hand_model *m, int i_table, struct hand_random *r,
	const int32_t *ids, int n) {
	if (is_kind(m, "dfa") || is_kind(m, "conv-dfa")) {
		return next_of_stream(m, i_table, r, ids, n);
	}
	if (is_kind(m, "dfa-block")) {
		return next_of_block(m, i_table, r, ids, n);
	}
	if (is_kind(m, "induction")) {
		return next_of_induction(m, r, ids, n);
	}
	if (is_kind(m, "selective-copy")) {
		return next_of_copy(m, r, ids, n);
	}
	if (is_kind(m, "dictionary")) {
		return next_of_dictionary(r, ids, n);
	}
	if (is_kind(m, "s5-rwkv")) {
		return next_of_s5(r, n);
	}
	if (is_kind(m, "fading-parity")) { /* begin, then a one and a read in turn */
		return n == 0 ? 2 : n % 2 == 1 ? 1 : 3;
	}
	if (is_kind(m, "latch")) {
		return hand_below(r, 8) == 0 ? hand_below(r, 16) : 16 + hand_below(r, 4);
	}
	assert(is_kind(m, "census"));
	return n == 0 ? 0 : 1 + hand_below(r, m->options.length);
}

void hand_script(const struct hand_model *m, int i_table, struct hand_random *r, int32_t *ids,
	int from, int n) {
	for (int i = from; i < n; i++) {
		ids[i] = next_of(m, i_table, r, ids, i);
	}
}

void hand_expect(const struct hand_model *m, const int32_t *ids, int n, int32_t *expected) {
	struct bb_error err = { 0 };
	if (!m->kind->expect(&m->options, ids, (size_t)n, expected, &err)) {
		fprintf(stderr, "%s: %s\n", m->name, err.text);
		abort();
	}
}

/* ---- rows ---- */

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

/* The logit of id `v` where `want` must come behind index `at`; NaN: only the order is promised. */
static float aim_of(const struct hand_model *m, int at, int want, int v) {
	if (is_kind(m, "dfa") || is_kind(m, "dfa-block") || is_kind(m, "conv-dfa") ||
		is_kind(m, "latch")) {
		return v == want ? 1 : 0;
	}
	if (is_kind(m, "induction") && !m->options.non_negative) {
		return (float)(m->options.bits - 2 * __builtin_popcount((unsigned)(v ^ want)));
	}
	if (is_kind(m, "census")) { /* BOS, the only one with a value, leaves a window */
		const double y = m->window > 0 && at >= m->window ? 0 : 1.0 / (at + 1);
		return (float)((2.0 * v - (double)v * v * y) * 2 / sqrt(4 + y * y)); /* y is in the norm */
	}
	if (is_kind(m, "dictionary")) {
		return aim_of_recurrent(256, 16, 16, want, v);
	}
	if (is_kind(m, "s5-rwkv")) {
		return aim_of_recurrent(64, 20, 5, want, v);
	}
	return NAN;
}

static float near_of(const struct hand_model *m, int v) {
	const bool is_recurrent = is_kind(m, "dictionary") || is_kind(m, "s5-rwkv");
	return m->near + (is_recurrent ? 1e-3f : is_kind(m, "census")
		? 1e-3f + 1e-6f * (float)v * (float)v / 4 : 0);
}

static int largest(const float *row, int n) {
	int best = 0;
	for (int i = 1; i < n; i++) {
		best = row[i] > row[best] || row[best] != row[best] ? i : best;
	}
	return best;
}

struct hand_look hand_look(const struct hand_model *m, const float *row, int at, int want) {
	struct hand_look look = { HAND_RIGHT, largest(row, m->n_vocab), want, 0 };
	const bool is_beyond = is_kind(m, "census") && m->window > 0 && at >= m->window;
	bool is_off = false, is_wrong = !(row[want] == row[want]);
	for (int v = 0; v < m->n_vocab; v++) {
		const float aim = aim_of(m, at, want, v);
		is_wrong = is_wrong || (v != want && !(row[v] < row[want]));
		if (aim != aim) {
			continue;
		}
		const float off = fabsf(row[v] - aim);
		is_off = is_off || !(off <= near_of(m, v));
		if (!(off <= look.off)) {
			look.off = off;
			look.worst = v;
		}
	}
	/* beyond a window the census has no answer, only its logits */
	look.verdict = is_wrong && !is_beyond ? HAND_WRONG : is_off ? HAND_LOGITS : HAND_RIGHT;
	return look;
}

/* ---- meaning ---- */

static const struct meaning {
	const char *kind, *text;
} meanings[] = {
	{ "dfa", "it reads the token before: the newest key or value is lost, is another context's, or "
		"lies at another position; RoPE is left out, pairs others or is scaled; a window of 1. "
		"Logits alone: a position that is off by one, gate and up swapped, an epsilon" },
	{ "dfa-block", "it reads one token N back: a page in the middle is lost, moved or another "
		"context's, dropped too early; RoPE's base, its half, or its angles in few bits" },
	{ "induction", "it reads any earlier token by what it is, over two layers: a page is lost or "
		"there twice, a prefix shared in one layer only. With --recency: angles, KV or scores have "
		"too few bits" },
	{ "census", "it counts what attention sees: a slot too many, one too few, a duplicate, what a "
		"window should have let go" },
	{ "latch", "one scan's state was lost, is another context's, or decays" },
	{ "selective-copy", "a scan's state in one of two layers was lost, is another context's, or "
		"has seen a token twice; chunks of a prompt end in the wrong state" },
	{ "conv-dfa", "the convolution's last tokens were lost, or are another context's, for one "
		"step" },
	{ "dictionary", "the token shift's last row, or RWKV-7's state, was lost or is another "
		"context's" },
	{ "s5-rwkv", "RWKV-7's state was lost, or its rates end at 1" },
	{ "fading-parity", "numbers below 2^-126 became 0" },
};

const char *hand_meaning(const char *kind) {
	for (size_t i = 0; i < sizeof(meanings) / sizeof(meanings[0]); i++) {
		if (strcmp(meanings[i].kind, kind) == 0) {
			return meanings[i].text;
		}
	}
	return "nobody has said what that means";
}

void hand_describe(char *out, size_t cap, const struct hand_model *m, const char *where, int at,
	int want, const struct hand_look *look, const float *row) {
	const float aim = aim_of(m, at, want, look->worst);
	snprintf(out, cap, "%s, %s: first wrong behind token %d: expected %d (logit %.9g), got %d "
		"(logit %.9g); farthest off is %d (%.9g, expected %.9g). What it usually means: %s.",
		m->name, where, at, want, (double)row[want], look->got, (double)row[look->got],
		look->worst, (double)row[look->worst], (double)aim, hand_meaning(m->kind->name));
}
