/* SPDX-License-Identifier: Apache-2.0
 *
 * Transition tables of automata: four built-in ones, and those of JSON files. Parity, addition
 * modulo 7 and the group S5 permute their states, so that one wrong step never heals; the brackets
 * have a sink. S5 isn't solvable: no constant number of layers tracks it without writing states
 * down (Barrington 1989; arXiv:2404.08819). */
#include "handset.h"

#include "json.h"

#include <string.h>

enum { NAME_BYTES = HANDSET_MAX_NAME + 1 };

const char handset_tables[] = "parity, mod7, bracket8, s5";

/* ---- tables in memory ---- */

static bool create(struct handset_table *t, const char *name, int n_states, int n_symbols,
	struct bb_error *err) {
	*t = (struct handset_table){ .n_states = n_states, .n_symbols = n_symbols };
	t->name = base_strdup(name);
	t->next = base_alloc((size_t)(n_states * n_symbols), sizeof(*t->next));
	t->states = base_alloc((size_t)n_states, sizeof(*t->states));
	t->symbols = base_alloc((size_t)n_symbols, sizeof(*t->symbols));
	return (t->name != NULL && t->next != NULL && t->states != NULL && t->symbols != NULL) ||
		base_no_memory(err, name, (size_t)(n_states * n_symbols) * sizeof(*t->next));
}

void handset_table_finish(struct handset_table *t) {
	for (int i = 0; t->states != NULL && i < t->n_states; i++) {
		base_free(t->states[i]);
	}
	for (int i = 0; t->symbols != NULL && i < t->n_symbols; i++) {
		base_free(t->symbols[i]);
	}
	base_free(t->name);
	base_free(t->next);
	base_free(t->states);
	base_free(t->symbols);
	*t = (struct handset_table){ 0 };
}

static bool put_name(char **out, const char *name, struct bb_error *err) {
	*out = base_strdup(name);
	return *out != NULL || base_no_memory(err, "name of a state or symbol", strlen(name) + 1);
}

/* ---- built in ---- */

enum { S5 = 5, S5_ORDER = 120 };

/* The i-th permutation of 0..4 in lexicographic order. */
static void permutation(int i, int p[S5]) {
	int left[S5] = { 0, 1, 2, 3, 4 };
	for (int k = 0, order = S5_ORDER; k < S5; k++) {
		order /= S5 - k;
		const int at = i / order;
		i %= order;
		p[k] = left[at];
		memmove(left + at, left + at + 1, (size_t)(S5 - k - at - 1) * sizeof(*left));
	}
}

static int index_of_permutation(const int p[S5]) {
	int index = 0;
	for (int k = 0, order = S5_ORDER; k < S5; k++) {
		int n_less = 0;
		for (int j = k + 1; j < S5; j++) {
			n_less += p[j] < p[k];
		}
		order /= S5 - k;
		index += n_less * order;
	}
	return index;
}

static int next_parity(int state, int symbol) {
	return state ^ symbol;
}

static int next_mod7(int state, int symbol) {
	return (state + symbol) % 7;
}

/* Depth 0 to 8; 9: below 0 or above 8 once, and so for ever. */
static int next_bracket8(int state, int symbol) {
	static const int step[] = { 1, -1, 0 };
	const int depth = state + step[symbol];
	return state == 9 || depth < 0 || depth > 8 ? 9 : depth;
}

/* q.g: the generators are (0 1) and the cycle of all five. */
static int next_s5(int state, int symbol) {
	static const int generators[2][S5] = { { 1, 0, 2, 3, 4 }, { 1, 2, 3, 4, 0 } };
	int p[S5], product[S5];
	permutation(state, p);
	for (int i = 0; i < S5; i++) {
		product[i] = p[generators[symbol][i]];
	}
	return index_of_permutation(product);
}

static void name_number(int state, char *out) {
	snprintf(out, NAME_BYTES, "%d", state);
}

static void name_parity(int state, char *out) {
	snprintf(out, NAME_BYTES, "%s", state == 0 ? "even" : "odd");
}

static void name_depth(int state, char *out) {
	snprintf(out, NAME_BYTES, state == 9 ? "error" : "depth%d", state);
}

static void name_permutation(int state, char *out) {
	int p[S5];
	permutation(state, p);
	snprintf(out, NAME_BYTES, "%d%d%d%d%d", p[0], p[1], p[2], p[3], p[4]);
}

static const struct builtin {
	const char *name;
	int n_states, n_symbols;
	int (*next)(int state, int symbol);
	void (*name_state)(int state, char *out);
	const char *symbols[3];
} builtins[] = {
	{ "parity", 2, 2, next_parity, name_parity, { "0", "1" } },
	{ "mod7", 7, 3, next_mod7, name_number, { "+0", "+1", "+2" } },
	{ "bracket8", 10, 3, next_bracket8, name_depth, { "(", ")", "x" } },
	{ "s5", S5_ORDER, 2, next_s5, name_permutation, { "swap", "cycle" } },
};

static bool fill(struct handset_table *t, const struct builtin *from, struct bb_error *err) {
	char name[NAME_BYTES];
	bool ok = create(t, from->name, from->n_states, from->n_symbols, err);
	for (int a = 0; ok && a < t->n_symbols; a++) {
		ok = put_name(&t->symbols[a], from->symbols[a], err);
	}
	for (int q = 0; ok && q < t->n_states; q++) {
		from->name_state(q, name);
		ok = put_name(&t->states[q], name, err);
		for (int a = 0; a < t->n_symbols; a++) {
			t->next[q * t->n_symbols + a] = from->next(q, a);
		}
	}
	return ok;
}

const char *handset_table_name(int i) {
	return i >= 0 && (size_t)i < COUNT(builtins) ? builtins[i].name : NULL;
}

bool handset_table_builtin(struct handset_table *t, const char *name, struct bb_error *err) {
	*t = (struct handset_table){ 0 };
	for (size_t i = 0; i < COUNT(builtins); i++) {
		if (strcmp(builtins[i].name, name) == 0) {
			const bool ok = fill(t, &builtins[i], err);
			if (!ok) {
				handset_table_finish(t);
			}
			return ok;
		}
	}
	return false;
}

/* ---- JSON ---- */

struct source {
	const char *name, *file;
	struct bb_error *err;
};

static bool check_count(const struct source *s, const char *what, size_t n, size_t most) {
	return (n >= 1 && n <= most) || base_fail(s->err, BB_ERR_INPUT,
		"%.160s: expected 1 to %zu %s, has %zu", s->file, most, what, n);
}

static bool read_row(const struct source *s, struct handset_table *t, int state,
	const json_t *row) {
	if (!json_is_array(row) || json_array_size(row) != (size_t)t->n_symbols) {
		return base_fail(s->err, BB_ERR_INPUT,
			"%.160s: delta[%d] isn't an array of %d next states, as delta[0] is", s->file, state,
			t->n_symbols);
	}
	for (int a = 0; a < t->n_symbols; a++) {
		const json_t *next = json_array_get(row, (size_t)a);
		const json_int_t value = json_is_integer(next) ? json_integer_value(next) : -1;
		if (value < 0 || value >= t->n_states) {
			return base_fail(s->err, BB_ERR_INPUT,
				"%.160s: delta[%d][%d] isn't a state, a whole number from 0 to %d", s->file, state,
				a, t->n_states - 1);
		}
		t->next[state * t->n_symbols + a] = (int)value;
	}
	return true;
}

static bool check_new(const struct source *s, const char *key, char **names, int i) {
	for (int j = 0; j < i; j++) {
		if (strcmp(names[j], names[i]) == 0) {
			return base_fail(s->err, BB_ERR_INPUT, "%.160s: %s[%d] and %s[%d] have the same name",
				s->file, key, j, key, i);
		}
	}
	return true;
}

/* The names under `key`, or letter and number where there are none. */
static bool read_names(const struct source *s, const json_t *root, const char *key, char letter,
	char **names, int n) {
	const json_t *list = json_object_get(root, key);
	if (list != NULL && (!json_is_array(list) || json_array_size(list) != (size_t)n)) {
		return base_fail(s->err, BB_ERR_INPUT, "%.160s: %s isn't an array of %d names", s->file,
			key, n);
	}
	for (int i = 0; i < n; i++) {
		char name[NAME_BYTES];
		const json_t *given = list != NULL ? json_array_get(list, (size_t)i) : NULL;
		const size_t bytes = json_string_length(given); /* 0 where it isn't a string */
		if (list != NULL && (bytes == 0 || bytes >= NAME_BYTES)) {
			return base_fail(s->err, BB_ERR_INPUT, "%.160s: %s[%d] isn't a string of 1 to %d bytes",
				s->file, key, i, HANDSET_MAX_NAME);
		}
		snprintf(name, sizeof(name), "%c%d", letter, i);
		if (!put_name(&names[i], given != NULL ? json_string_value(given) : name, s->err) ||
			!check_new(s, key, names, i)) {
			return false;
		}
	}
	return true;
}

static bool read_table(const struct source *s, struct handset_table *t, const json_t *root) {
	static const char *const keys[] = { "delta", "states", "symbols", NULL };
	const json_t *delta = json_object_get(root, "delta");
	if (!json_is_array(delta) || !json_is_array(json_array_get(delta, 0))) {
		return base_fail(s->err, BB_ERR_INPUT, "%.160s: expected {\"delta\": [[next state per "
			"symbol] per state]}", s->file);
	}
	if (!json_check_keys(s->file, root, keys, s->err)) {
		return false;
	}
	const size_t n_states = json_array_size(delta);
	const size_t n_symbols = json_array_size(json_array_get(delta, 0));
	if (!check_count(s, "states", n_states, HANDSET_MAX_STATES) ||
		!check_count(s, "symbols", n_symbols, HANDSET_MAX_SYMBOLS) ||
		!check_count(s, "pairs of a state and a symbol", n_states * n_symbols, HANDSET_MAX_PAIRS) ||
		!create(t, s->name, (int)n_states, (int)n_symbols, s->err)) {
		return false;
	}
	for (int q = 0; q < t->n_states; q++) {
		if (!read_row(s, t, q, json_array_get(delta, (size_t)q))) {
			return false;
		}
	}
	return read_names(s, root, "states", 'q', t->states, t->n_states) &&
		read_names(s, root, "symbols", 'x', t->symbols, t->n_symbols);
}

bool handset_table_parse(struct handset_table *t, const char *name, const char *file,
	const void *json, size_t bytes, struct bb_error *err) {
	const struct source s = { name, file, err };
	*t = (struct handset_table){ 0 };
	json_t *root = json_read(file, json, bytes, err);
	const bool ok = root != NULL && read_table(&s, t, root);
	json_decref(root);
	if (!ok) {
		handset_table_finish(t);
	}
	return ok;
}
