/* SPDX-License-Identifier: Apache-2.0
 *
 * Faults made on purpose, each against every hand-set model that might see it: what must be caught
 * is caught, at once where the expectation says so, and what a model can't see another one does.
 * docs/faults.md holds what was seen, as this suite writes it: BOBBIN_FAULTS=write rewrites the
 * tables there, otherwise they must be the same. It plays the reference kernels, so that numbers
 * depend on the C library's functions of floats alone. */
#include "handset_asserts.h"

#include "fault_hooks.h"
#include "golden.h"

enum { MOST_COLUMNS = 7, MAX_TOKENS = 600 };

/* A model, where faults strike, and how long it plays on. */
struct column {
	const char *title;
	struct hand_spec spec;
	int at, n_tokens;
	enum bb_kv_type kv_type;
};

/* What must be seen, by column: W wrong in the first row behind the fault that is defined, w in a
 * later one, l by logits alone, . not, - not played. `numpy`: what a model showed when the same was
 * done to it in numpy, 0: nobody did; and the column of that model. */
struct row {
	const char *name, *how;
	struct fault fault;  /* at: 0 = from the start, 1 = the column's */
	char expected[MOST_COLUMNS + 1], numpy;
	int numpy_column;
	int window, chunk;   /* of the engine; rows of a step, 0 = 1 */
	bool is_harmless;    /* to all of these models, and that is right or shown elsewhere */
};

#define KERNEL "kernel"
#define TABLE "page table"
#define STATE "state"
#define FILE_ "file"

/* Columns of models that were played in numpy, beside the first of each table. */
enum { S5 = 1, COPY = 1, CONV = 2 };

static const struct column attention[] = {
	{ "stream", { "dfa", { "mod7" } }, 201, 400 },
	{ "stream S5", { "dfa", { "s5" } }, 41, 120 },
	{ "block", { "dfa-block", { "mod7" }, .length = 150 }, 60, 301 },
	{ "census", { "census", .length = 300 }, 101, 290 },
	{ "induction", { "induction", .bits = 8 }, 100, 254 },
	{ "recency", { "induction", .bits = 8, .recency = true, .length = 512 }, 300, 500, BB_KV_F32 },
	{ "circuit", { "circuit", .bits = 6 }, 101, 288, BB_KV_F32 },
};

static const struct row attention_rows[] = {
	{ "none", KERNEL, { FAULT_NONE }, ".......", '.', .is_harmless = true },
	{ "none, but the attention of this suite", KERNEL, { FAULT_OWN_LOOP }, ".......",
		.is_harmless = true },
	{ "newest key and value lost", KERNEL, { FAULT_NEWEST_LOST, 1 }, "WWwWWWW", 'W', S5 },
	{ "another context's page", TABLE, { FAULT_OTHERS_PAGE, 1 }, "WWW.Www", 'W', S5 },
	{ "another context's value", KERNEL, { FAULT_OTHERS_VALUE, 1 }, "WWw.ww.", 'W', S5 },
	{ "page twice", TABLE, { FAULT_PAGE_TWICE, 0 }, "wwwwwww" },
	{ "positions begin anew", KERNEL, { FAULT_POSITION_RESET, 1 }, "WWW.wWw", 'W', S5 },
	{ "position + 1", KERNEL, { FAULT_POSITION_MOVED, 1, 1 }, "llW.lwl", 'l', S5 },
	{ "position + 2", KERNEL, { FAULT_POSITION_MOVED, 1, 2 }, "WWW.wW.", 'W' },
	{ "window 1", KERNEL, { FAULT_WINDOW, 0, 1 }, "WWWwwwW", 'W' },
	{ "window 2", KERNEL, { FAULT_WINDOW, 0, 2 }, "..WwwwW", '.' },
	{ "window of 8 sees 9", KERNEL, { FAULT_WINDOW, 0, 9 }, "..-l---", .window = 8 },
	{ "older half lost", KERNEL, { FAULT_OLDEST_LOST, 1 }, "..WWw.W" },
	{ "last key and value twice", KERNEL, { FAULT_LAST_TWICE, 1 }, "...W...", '.', S5 },
	{ "an empty slot seen", KERNEL, { FAULT_SLOT_TOO_MANY, 1 }, "...W..." },
	{ "rows see one ahead", KERNEL, { FAULT_SEES_NEXT }, "...WWW.", .chunk = 16 },
	{ "no rotation", KERNEL, { FAULT_NO_ROPE }, "www.wwW", 'w' },
	{ "neighbours as pairs", KERNEL, { FAULT_PAIRS }, "WWW.wwW", 'W' },
	{ "frequencies / 4", KERNEL, { FAULT_FREQ_SCALE, 0, 0.25 }, "wwW.wwW", 'w' },
	{ "frequency base 500000", KERNEL, { FAULT_FREQ_BASE, 0, 5e5 }, "..W..l.", '.' },
	{ "half of the dimensions turned", FILE_, { FAULT_ROPE_HALF }, "..W.---", '.' },
	{ "angles in bf16", KERNEL, { FAULT_ANGLES_BF16 }, "w-w..w.", 'w' },
	{ "gate and up swapped", FILE_, { FAULT_GATE_UP }, "lll-...", 'l' },
	{ "epsilon 1e-5", FILE_, { FAULT_EPSILON, 0, 1e-5 }, "lllllll", 'l' },
	{ "epsilon 1e-2", FILE_, { FAULT_EPSILON, 0, 1e-2 }, "lllwlll", 'l' },
	{ "values of two heads swapped", FILE_, { FAULT_HEADS_SWAPPED }, "-W----W", 'W', S5 },
	{ "values of two heads shared", FILE_, { FAULT_HEADS_SHARED }, "-W----w", 'w', S5 },
	{ "weights in int8, a scale per row", FILE_, { FAULT_ROWS_INT8 }, "...wl-l", '.', S5 },
	{ "scores / 8", KERNEL, { FAULT_SCALE, 0, 0.125 }, "lll.lll" },
	{ "scores * 1.01", KERNEL, { FAULT_SCALE, 0, 1.01 }, ".......",
		.is_harmless = true },
};

static const struct column recurrent[] = {
	{ "latch", { "latch" }, 100, 300 },
	{ "selective-copy", { "selective-copy" }, 40, 120 },
	{ "conv-dfa", { "conv-dfa", { "mod7" } }, 101, 300 },
	{ "dictionary", { "dictionary" }, 120, 400 },
	{ "s5-rwkv", { "s5-rwkv" }, 100, 400 },
	{ "fading-parity", { "fading-parity" }, 20, 260 },
};

static const struct row recurrent_rows[] = {
	{ "none", STATE, { FAULT_NONE }, "......", '.', COPY, .is_harmless = true },
	{ "state of layer 0 lost", STATE, { FAULT_STATE_LOST, 1, 0 }, "WWWWWW", 'w', COPY },
	{ "state of layer 1 lost", STATE, { FAULT_STATE_LOST, 1, 1 }, "-W----", 'w', COPY },
	{ "another context's state, last layer", STATE, { FAULT_STATE_OTHERS, 1, 0 }, "W-WWw." },
	{ "another context's state, layer 1", STATE, { FAULT_STATE_OTHERS, 1, 1 }, "-W----", 'w',
		COPY },
	{ "a token read twice", "step", { FAULT_READ_TWICE, 1 }, ".w..WW", 'w', COPY },
	{ "last tokens of the convolution lost", STATE, { FAULT_CONV_LOST, 1 }, "..W---", 'W', CONV },
	{ "last row of the token shift lost", STATE, { FAULT_SHIFT_LOST, 1 }, "---w.." },
	{ "state through bf16 once", STATE, { FAULT_STATE_BF16, 1 }, ".l...l", '.', COPY },
	{ "numbers below 2^-126 become 0", STATE, { FAULT_STATE_FLUSHED }, ".....w" },
	{ "rates end at 1", FILE_, { FAULT_RATES_END, 0, 1 }, "----w-" },
	{ "epsilon 1e-2", FILE_, { FAULT_EPSILON, 0, 1e-2 }, "lwl---" },
};

/* ---- one fault against one model ---- */

struct outcome {
	char seen;        /* as in struct row */
	int n_rows;       /* defined rows behind the fault */
	int first, n_wrong; /* of them */
	float off;        /* the largest of those that are right by order */
};

static struct outcome judge(const struct hand_model *m, const float *row,
	const struct hand_place *place, struct outcome o) {
	const struct hand_look look = hand_look(m, row, place);
	if (look.verdict == HAND_WRONG) {
		o.first = o.n_wrong++ == 0 ? o.n_rows : o.first;
		o.seen = o.n_rows == 0 ? 'W' : o.seen == 'W' ? 'W' : 'w';
	} else if (look.verdict == HAND_LOGITS) {
		o.seen = o.seen == '.' ? 'l' : o.seen;
		o.off = look.off > o.off ? look.off : o.off;
	}
	o.n_rows++;
	return o;
}

/* Whether what was read last is such that the fault can show at all. */
static bool can_strike(const struct hand_model *m, const struct fault *f, int32_t last) {
	const bool is_dictionary = strcmp(m->kind->name, "dictionary") == 0;
	if (f->kind == FAULT_SHIFT_LOST) {
		return !is_dictionary || last < 16; /* a key, whose value comes next */
	}
	if (f->kind == FAULT_READ_TWICE) { /* an item, a value, a swap */
		return is_dictionary ? last >= 16 && last < 32 : last < 10;
	}
	return true;
}

/* Scripts of two contexts; of the first what must come, and rows as they are without a fault. */
struct script {
	int n, at;
	int32_t ids[2][MAX_TOKENS], expected[MAX_TOKENS];
	float *calm; /* [n, n_vocab], or NULL where they are known */
};

static void write_script(struct script *s, const struct hand_model *m, const struct fault *f,
	int n) {
	struct hand_random random = { 7 };
	s->n = n;
	for (int i = 0; i < 2; i++) {
		hand_script(m, 0, &random, s->ids[i], 0, n);
	}
	hand_expect(m, s->ids[0], n, s->expected);
	s->calm = hand_calm(m, s->ids[0], n);
	s->at = f->at;
	while (s->at > 0 && s->at < n - 1 && !can_strike(m, f, s->ids[0][s->at - 1])) {
		s->at++;
	}
}

/* Two contexts, `chunk` rows of each in a step. */
static struct outcome play(struct hand_model *m, const struct script *s, const struct fault *f,
	int chunk) {
	const size_t n_vocab = (size_t)m->n_vocab;
	struct bb_context *c[2] = { new_context(m->engine), new_context(m->engine) };
	struct bb_error err = { 0 };
	struct outcome o = { .seen = '.' };
	for (int t = 0; t + chunk <= s->n; t += chunk) {
		fault_between(c[0], c[1], f);
		if (f->kind == FAULT_READ_TWICE && t == f->at) {
			feed(c[0], m->engine, s->ids[0] + t - 1, 1, NULL);
		}
		const struct bb_step_item items[2] = {
			{ .context = c[0], .tokens = s->ids[0] + t, .n_tokens = chunk, .logits = m->logits,
				.all_logits = true },
			{ .context = c[1], .tokens = s->ids[1] + t, .n_tokens = chunk },
		};
		cr_assert(bb_step(m->engine, items, 2, &err), "%s", err.text);
		for (int i = 0; i < chunk; i++) {
			const int at = t + i;
			const struct hand_place place = { at, s->ids[0][at], s->expected[at],
				s->calm != NULL ? s->calm + (size_t)at * n_vocab : NULL };
			if (place.want < 0) {
				continue;
			}
			const struct outcome next = judge(m, m->logits + (size_t)i * n_vocab, &place, o);
			cr_assert(at >= f->at || next.seen == '.', "%s: wrong behind token %d, before the "
				"fault at %d", m->name, at, f->at);
			o = at >= f->at ? next : o;
		}
	}
	bb_context_destroy(c[0]);
	bb_context_destroy(c[1]);
	return o;
}

static struct outcome cell(const struct column *column, const struct row *row) {
	static struct script script;
	struct hand_model m;
	struct bb_error err = { 0 };
	const struct hand_case sound = { column->spec, { .isa = "c", .kv_type = column->kv_type,
		.window = row->window } };
	struct bb_engine_params params = sound.params;
	struct fault f = row->fault;
	f.at *= column->at;
	params.n_threads = 1;
	open_case(&m, &sound);
	write_script(&script, &m, &f, column->n_tokens);
	f.at = script.at;
	if (f.kind >= FAULT_EPSILON) {
		cr_assert(fault_write(&m, &f, &err) && hand_load(&m, &params, &err), "%s: %s: %s",
			row->name, column->title, err.text);
	}
	fault_install(m.engine, &f);
	const struct outcome o = play(&m, &script, &f, row->chunk > 0 ? row->chunk : 1);
	cr_assert_gt(o.n_rows, 0);
	free(script.calm);
	hand_close(&m);
	return o;
}

/* Deviations are powers of ten, for their digits depend on the C library. */
static void print_outcome(FILE *out, char expected, const struct outcome *o) {
	if (expected == '-') {
		fprintf(out, " |");
	} else if (o->seen == '.') {
		fprintf(out, " not seen |");
	} else if (o->seen == 'l') {
		fprintf(out, " logits, by 1e%d |", (int)lround(log10((double)o->off)));
	} else {
		fprintf(out, o->first == 0 ? " wrong at once, %d of %d |" : " wrong, %d of %d", o->n_wrong,
			o->n_rows);
		if (o->first > 0) {
			fprintf(out, ", row %d on |", o->first);
		}
	}
}

/* ---- tables ---- */

static int rank(char seen) {
	static const char order[] = ".lwW";
	return (int)(strchr(order, seen) - order);
}

static const char *numpy_text(char seen) {
	return seen == 'W' ? "wrong at once" : seen == 'w' ? "wrong" : seen == 'l' ? "logits"
		: seen == '.' ? "not seen" : "";
}

/* Plays a row into `out`; returns how many cells aren't what must be. */
static int make_row(FILE *out, const struct column *columns, int n_columns, const struct row *row) {
	bool is_seen = row->is_harmless;
	int n_bad = 0;
	fprintf(out, "| %s | %s | %s |", row->name, row->how, numpy_text(row->numpy));
	for (int i = 0; i < n_columns; i++) {
		const char want = row->expected[i];
		struct outcome o = { .seen = want };
		if (want != '-') {
			o = cell(&columns[i], row);
			is_seen = is_seen || o.seen != '.';
		}
		print_outcome(out, want, &o);
		if (o.seen != want) {
			n_bad++;
			fprintf(stderr, "%s: %s: expected %c, seen %c (%d of %d rows wrong, first %d, off "
				"%g)\n", row->name, columns[i].title, want, o.seen, o.n_wrong, o.n_rows, o.first,
				(double)o.off);
		}
		if (row->numpy != 0 && i == row->numpy_column && rank(o.seen) < rank(row->numpy)) {
			n_bad++;
			fprintf(stderr, "%s: %s: in numpy %c, seen %c\n", row->name, columns[i].title,
				row->numpy, o.seen);
		}
	}
	fprintf(out, "\n");
	if (!is_seen) {
		n_bad++;
		fprintf(stderr, "%s: nobody sees it\n", row->name);
	}
	return n_bad;
}

static int make_table(FILE *out, const struct column *columns, int n_columns,
	const struct row *rows, size_t n) {
	int n_bad = 0;
	fprintf(out, "| fault | where | in numpy |");
	for (int i = 0; i < n_columns; i++) {
		fprintf(out, " %s |", columns[i].title);
	}
	fprintf(out, "\n|");
	for (int i = 0; i < n_columns + 3; i++) {
		fprintf(out, "---|");
	}
	fprintf(out, "\n");
	for (size_t r = 0; r < n; r++) {
		n_bad += make_row(out, columns, n_columns, &rows[r]);
	}
	return n_bad;
}

/* The part of docs/faults.md between two lines that name it. */
static void compare_table(const char *name, const char *table) {
	struct base_file file;
	struct bb_error err = { 0 };
	char path[1024], begin[64], end[64];
	snprintf(path, sizeof(path), "%s/../docs/faults.md", BOBBIN_TESTS);
	snprintf(begin, sizeof(begin), "<!-- %s -->\n", name);
	snprintf(end, sizeof(end), "<!-- end of %s -->\n", name);
	cr_assert(base_file_open(&file, path, &err), "%s", err.text);
	char *text = base_strndup((const char *)file.data, file.bytes);
	base_file_close(&file);
	char *from = strstr(text, begin), *to = strstr(text, end);
	cr_assert(from != NULL && to != NULL, "%s has no %s", path, begin);
	from += strlen(begin);
	const char *mode = getenv("BOBBIN_FAULTS");
	if (mode != NULL && strcmp(mode, "write") == 0) {
		FILE *out = fopen(path, "w");
		cr_assert_not_null(out, "%s", path);
		fprintf(out, "%.*s%s%s", (int)(from - text), text, table, to);
		cr_assert_eq(fclose(out), 0);
	} else {
		const size_t n = (size_t)(to - from);
		cr_assert(n == strlen(table) && memcmp(from, table, n) == 0, "docs/faults.md isn't what "
			"was seen; BOBBIN_FAULTS=write test_faults writes it anew. Seen:\n%s", table);
	}
	base_free(text);
}

static void play_table(const char *name, const struct column *columns, int n_columns,
	const struct row *rows, size_t n) {
	char *table;
	size_t bytes;
	FILE *out = open_memstream(&table, &bytes);
	const int n_bad = make_table(out, columns, n_columns, rows, n);
	cr_assert_eq(fclose(out), 0);
	cr_assert_eq(n_bad, 0, "%d cells of %s aren't as expected:\n%s", n_bad, name, table);
	compare_table(name, table);
	free(table);
}

Test(faults, of_attention, .timeout = 300) {
	play_table("attention", attention, (int)COUNT(attention), attention_rows,
		COUNT(attention_rows));
}

Test(faults, of_states, .timeout = 300) {
	play_table("states", recurrent, (int)COUNT(recurrent), recurrent_rows, COUNT(recurrent_rows));
}

/* Scores that are a little too large: none of these models sees them, a golden does. */
static double off_with(enum fault_kind kind, const struct npy *want) {
	enum { N = 64 };
	const struct bb_engine_params params = { .path = tiny_path("llama"), .isa = "c",
		.n_threads = 1, .kv_type = BB_KV_F32 };
	const struct fault f = { kind, 0, 1.01 };
	int32_t ids[N];
	size_t at;
	float *logits = malloc(N * GOLDEN_VOCAB * sizeof(*logits));
	struct bb_engine *e = open_with(&params);
	struct bb_context *c = new_context(e);
	golden_prompt(ids, N);
	fault_install(e, &f);
	feed(c, e, ids, N, logits);
	const double off = golden_off(logits + (N - want->rows) * GOLDEN_VOCAB, want, &at);
	bb_context_destroy(c);
	bb_engine_destroy(e);
	free(logits);
	return off;
}

Test(faults, scores_that_are_too_large_are_seen_by_a_golden) {
	struct npy want;
	npy_init(&want, BOBBIN_TESTS "/goldens/llama-64.npy");
	const double sound = off_with(FAULT_NONE, &want), scaled = off_with(FAULT_SCALE, &want);
	npy_finish(&want);
	cr_log_info("off by %.1e of the range, with scores * 1.01 by %.1e", sound, scaled);
	cr_assert(sound <= GOLDEN_TOLERANCE && scaled > 2 * GOLDEN_TOLERANCE, "off by %g of the "
		"range, with scores * 1.01 by %g", sound, scaled);
}
