/* SPDX-License-Identifier: Apache-2.0
 *
 * soak-handset: hand-set models for as long as one likes. Streams run by themselves: the symbols
 * come from a seed, each state that the model writes is the one that it reads next, and every row
 * of logits must be right, while pages stay as many as at first. Others read a script of N tokens,
 * and every row with an answer is looked at. A circuit is written gate by gate. The last line is
 * `N passed, N failed, N skipped`. */
#include "base.h"
#include "handset_harness.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char usage[] =
	"soak-handset [--kinds LIST] [--kv f16,int8] [--steps N] [--length N]\n"
	"             [--contexts N] [--threads N] [--seed N]\n"
	"\n"
	"Streams, of --steps N CoT steps (20000), in --contexts N of each automaton (1):\n"
	"  s5           S5 by one attention layer, window 8\n"
	"  tables       the same of parity, mod7 and bracket8 in one model, side by side\n"
	"  conv         S5 by a convolution\n"
	"What is read, of --length N (131072):\n"
	"  block        mod7, N symbols in the prompt and all N states behind it\n"
	"  induction    N tokens, where rare ones are looked for\n"
	"  recency      N tokens of 64 symbols, of which the newest match answers; at most 65536, f32\n"
	"  copy         16 items in N tokens of noise\n"
	"  latch        N tokens\n"
	"  dictionary   N tokens\n"
	"  s5-rwkv      N tokens\n"
	"And one that isn't of any length:\n"
	"  circuit      4096 random gates, written one by one\n"
	"\n"
	"--kinds: s5,tables,block. --kv is for s5, tables, block, induction and circuit.\n";

enum { WINDOW = 8, MAX_CONTEXTS = 48, WARM_UP = 1000 };

struct soak {
	const char *kinds, *kv;
	int n_steps, length, n_contexts, n_threads;
	uint64_t seed;
};

/* ---- what a run costs ---- */

struct cost {
	double seconds;
	size_t kv_bytes, resident;
	long n_allocs;
};

static size_t resident_bytes(void) {
	long pages = 0, all = 0;
	FILE *f = fopen("/proc/self/statm", "r");
	if (f != NULL) {
		if (fscanf(f, "%ld %ld", &all, &pages) != 2) {
			pages = 0;
		}
		fclose(f);
	}
	return (size_t)pages * (size_t)sysconf(_SC_PAGESIZE);
}

static struct cost cost_now(struct bb_context *const *c, int n) {
	struct cost cost = { base_seconds(), 0, resident_bytes(), base_count_allocs() };
	for (int i = 0; i < n; i++) {
		cost.kv_bytes += bb_context_kv_bytes(c[i]);
	}
	return cost;
}

static void die(const struct bb_error *err) {
	fprintf(stderr, "soak-handset: %s\n", err->text);
	exit(1);
}

struct kind;

/* Plays one; says what is wrong and returns false where something is. */
typedef bool soak_fn(const struct soak *o, const struct kind *kind, enum bb_kv_type kv_type);

struct kind {
	const char *word;
	soak_fn *soak;
	struct hand_spec spec;
	int window;
	bool has_kv_types; /* played with each that is asked for, else with that of `kv_type` */
	enum bb_kv_type kv_type;
};

/* ---- streams ---- */

struct stream {
	int i_table, state;
	int32_t next[2]; /* the state's token, the symbol's */
};

struct run {
	struct hand_model model;
	int n;                                  /* contexts */
	struct bb_context *contexts[MAX_CONTEXTS];
	struct stream streams[MAX_CONTEXTS];
	struct hand_random random;
};

/* Whether no symbol leads out of it: a walk that has come there proves nothing more. */
static bool is_sink(const struct handset_table *t, int state) {
	for (int a = 0; a < t->n_symbols; a++) {
		if (t->next[state * t->n_symbols + a] != state) {
			return false;
		}
	}
	return true;
}

static int next_symbol(struct run *r, const struct stream *s) {
	const struct handset_table *t = &r->model.tables[s->i_table];
	int symbol;
	do {
		symbol = hand_below(&r->random, t->n_symbols);
	} while (is_sink(t, t->next[s->state * t->n_symbols + symbol]));
	return symbol;
}

static void open_run(struct run *r, const struct soak *o, const struct hand_spec *spec,
	struct bb_engine_params params) {
	struct bb_error err = { 0 };
	params.n_threads = o->n_threads;
	params.state_cache_bytes = BB_STATE_CACHE_NONE; /* checkpoints would grow with the tokens */
	r->random.state = o->seed;
	if (!hand_write(&r->model, spec, &err) || !hand_load(&r->model, &params, &err)) {
		die(&err);
	}
	const int n_tables = r->model.options.n_tables;
	r->n = n_tables > 0 ? n_tables * o->n_contexts : 1;
	for (int i = 0; i < r->n; i++) {
		const int i_table = i / o->n_contexts;
		r->streams[i] = (struct stream){ .i_table = i_table,
			.next = { hand_first_state(&r->model, i_table) } };
		if (!bb_context_create(&r->contexts[i], r->model.engine, NULL, &err)) {
			die(&err);
		}
	}
}

/* One CoT step of each context; false when a row is wrong, which it says. */
static bool stream_step(struct run *r, int step) {
	struct bb_step_item items[MAX_CONTEXTS];
	struct bb_error err = { 0 };
	const int n_vocab = r->model.n_vocab;
	for (int i = 0; i < r->n; i++) {
		struct stream *s = &r->streams[i];
		const struct handset_table *t = &r->model.tables[s->i_table];
		const int symbol = next_symbol(r, s);
		s->next[1] = hand_first_symbol(&r->model, s->i_table) + symbol;
		s->state = t->next[s->state * t->n_symbols + symbol];
		items[i] = (struct bb_step_item){ .context = r->contexts[i], .tokens = s->next,
			.n_tokens = 2, .logits = r->model.logits + (size_t)i * (size_t)n_vocab };
	}
	if (!bb_step(r->model.engine, items, r->n, &err)) {
		die(&err);
	}
	for (int i = 0; i < r->n; i++) {
		struct stream *s = &r->streams[i];
		char where[64];
		const struct hand_place place = { 2 * step + 1, s->next[1],
			hand_first_state(&r->model, s->i_table) + s->state, NULL };
		snprintf(where, sizeof(where), "context %d, step %d", i, step);
		s->next[0] = hand_largest(items[i].logits, n_vocab);
		if (!hand_is_right(&r->model, items[i].logits, &place, where)) {
			printf("%s\n", r->model.failure);
			return false;
		}
	}
	return true;
}

static void close_run(struct run *r) {
	for (int i = 0; i < r->n; i++) {
		bb_context_destroy(r->contexts[i]);
	}
	hand_close(&r->model);
}

static void print_cost(const struct run *r, const char *what, int done, int all,
	const struct cost *first, const struct cost *now) {
	printf("%s, %s KV, %d context%s: %d of %d %s, %.0f s, %zu bytes of pages, %.1f MiB resident, "
		"%ld allocations\n", r->model.name, bb_kv_type_name(r->model.kv_type), r->n,
		r->n > 1 ? "s" : "", done, all, what, now->seconds - first->seconds,
		now->kv_bytes, (double)now->resident / 0x1p20,
		now->n_allocs - first->n_allocs);
	fflush(stdout);
}

/* Beside the list of tokens, of which a reallocation holds three at most, memory stays as it was:
 * pages as many as in the first steps, and no call of the allocator but for a chunk of the page
 * table every 4096 tokens and the list, which grows by halves. */
static bool is_flat(const struct run *r, int n_steps, size_t most_pages, const struct cost *warm,
	const struct cost *end) {
	const size_t n_tokens = 2 * (size_t)n_steps * (size_t)r->n;
	const long most_allocs = (long)(n_tokens / 4096) + 64L * r->n;
	const size_t most_more = 3 * sizeof(int32_t) * n_tokens + ((size_t)8 << 20);
	if (end->kv_bytes > most_pages) {
		printf("%s: %zu bytes of pages, at first at most %zu\n", r->model.name, end->kv_bytes,
			most_pages);
	} else if (end->n_allocs - warm->n_allocs > most_allocs) {
		printf("%s: %ld allocations, expected at most %ld\n", r->model.name,
			end->n_allocs - warm->n_allocs, most_allocs);
	} else if (end->resident > warm->resident + most_more) {
		printf("%s: %zu bytes resident, %zu at first\n", r->model.name, end->resident,
			warm->resident);
	} else {
		return true;
	}
	return false;
}

static bool soak_streams(const struct soak *o, const struct kind *kind, enum bb_kv_type kv_type) {
	struct run *r = calloc(1, sizeof(*r));
	assert(r != NULL);
	open_run(r, o, &kind->spec, (struct bb_engine_params){ .kv_type = kv_type,
		.window = kind->window });
	const struct cost first = cost_now(r->contexts, r->n);
	struct cost warm = first, now = first;
	size_t most_pages = 0;
	bool ok = true;
	for (int step = 0; ok && step < o->n_steps; step++) {
		ok = stream_step(r, step);
		if (step < WARM_UP) {
			now = cost_now(r->contexts, r->n);
			most_pages = now.kv_bytes > most_pages ? now.kv_bytes : most_pages;
			warm = now;
		}
		const int tenth = o->n_steps / 10 > WARM_UP ? o->n_steps / 10 : o->n_steps;
		const bool is_last = step + 1 == o->n_steps;
		if (ok && ((step + 1) % tenth == 0 || step == WARM_UP || is_last)) {
			now = cost_now(r->contexts, r->n);
			ok = is_flat(r, step + 1, most_pages, &warm, &now);
			print_cost(r, "steps", step + 1, o->n_steps, &first, &now);
		}
	}
	close_run(r);
	free(r);
	return ok;
}

/* ---- what is read ---- */

/* ids[n] of which the first `half` have no answer, or none that needs a look. A step of many rows
 * has the bits of one at a time, so where each row is right a model that writes would have written
 * these tokens itself. */
static bool read_ids(struct run *r, const int32_t *ids, int half, int n) {
	struct bb_error err = { 0 };
	const struct cost first = cost_now(r->contexts, 1);
	struct cost now = first;
	int n_right = 0;
	if (half > 0 && !bb_prefill(r->contexts[0], ids, (size_t)half, NULL, NULL, NULL, &err)) {
		die(&err);
	}
	for (int i = 0, at = half; i < 10; i++) {
		const int rows = (int)((int64_t)(n - half) * (i + 1) / 10) + half - at;
		const int n_defined = hand_play(&r->model, r->contexts[0], ids + at, rows, HAND_ROWS, NULL);
		if (n_defined < 0) {
			printf("%s\n", r->model.failure);
			return false;
		}
		n_right += n_defined;
		at += rows;
		now = cost_now(r->contexts, 1);
		print_cost(r, "tokens", at, n, &first, &now);
	}
	printf("%s: %d answers, all right\n", r->model.name, n_right);
	if (n_right == 0) {
		printf("%s: no row had an answer\n", r->model.name);
	}
	return n_right > 0;
}

/* What is looked for: n_needles rare ids, one in each stretch of n common ones, then each again,
 * with a common one behind it; in another order. ids [n + 2 n_needles]. */
static void hide_needles(struct hand_random *random, int32_t *ids, int n, int n_needles) {
	enum { COMMON = 64 };
	const int stretch = n / n_needles;
	for (int i = 0; i < n; i++) {
		ids[i] = hand_below(random, COMMON);
	}
	for (int i = 0; i < n_needles; i++) {
		ids[1 + i * stretch + hand_below(random, stretch - 2)] = COMMON + i;
	}
	for (int i = 0; i < n_needles; i++) {
		ids[n + 2 * i] = COMMON + (i * 7 + 3) % n_needles;
		ids[n + 2 * i + 1] = hand_below(random, COMMON);
	}
}

/* 16 items in n tokens of noise, one in each stretch; GO, and the items again. ids [n + 17] */
static void hide_items(struct hand_random *random, int32_t *ids, int n) {
	enum { ITEMS = 16, NOISES = 4, GO = 20 };
	const int stretch = n / ITEMS;
	for (int i = 0; i < n; i++) {
		ids[i] = ITEMS + hand_below(random, NOISES);
	}
	ids[n] = GO;
	for (int i = 0; i < ITEMS; i++) {
		const int item = hand_below(random, ITEMS);
		ids[i * stretch + hand_below(random, stretch)] = item;
		ids[n + 1 + i] = GO + 1 + item;
	}
}

static bool soak_reading(const struct soak *o, const struct kind *kind, enum bb_kv_type kv_type) {
	enum { ITEMS = 16 };
	struct run *r = calloc(1, sizeof(*r));
	struct hand_spec spec = kind->spec;
	const bool is_block = strcmp(kind->word, "block") == 0;
	const bool is_recency = strcmp(kind->word, "recency") == 0;
	const int length = is_recency && o->length > 65536 ? 65536 : o->length;
	int n_needles = length / 200 < 499 ? length / 200 : 499, half = 0, n = length;
	int32_t *ids = malloc((2 * (size_t)length + 1024) * sizeof(*ids));
	assert(r != NULL && ids != NULL);
	spec.length = is_block || is_recency ? length : 0;
	open_run(r, o, &spec, (struct bb_engine_params){ .kv_type = kv_type });
	if (strcmp(kind->word, "induction") == 0) {
		while (n_needles % 7 == 0) { /* so that seven steps at a time reach each */
			n_needles--;
		}
		hide_needles(&r->random, ids, length, n_needles);
		half = length;
		n = length + 2 * n_needles;
	} else if (strcmp(kind->word, "copy") == 0) {
		hide_items(&r->random, ids, length);
		half = length;
		n = length + 1 + ITEMS;
	} else if (is_recency) {
		for (int i = 0; i < n; i++) {
			ids[i] = i == 0 ? 0 : 1 + hand_below(&r->random, 64);
		}
	} else {
		half = is_block ? length : 0;
		n = is_block ? 2 * length : length;
		hand_script(&r->model, 0, &r->random, ids, 0, n);
	}
	const bool ok = read_ids(r, ids, half, n);
	free(ids);
	close_run(r);
	free(r);
	return ok;
}

/* ---- what is written ---- */

static bool soak_circuit(const struct soak *o, const struct kind *kind, enum bb_kv_type kv_type) {
	enum { INPUTS = 64, GATES = 4096, EOS = HANDSET_OPS + 1 };
	static struct handset_gate gates[GATES];
	const struct handset_circuit circuit = { .n_inputs = INPUTS, .n_gates = GATES, .gates = gates };
	struct run *r = calloc(1, sizeof(*r));
	struct bb_tokens prompt = { 0 };
	struct bb_error err = { 0 };
	bool inputs[INPUTS];
	assert(r != NULL);
	open_run(r, o, &kind->spec, (struct bb_engine_params){ .kv_type = kv_type });
	for (int i = 0; i < INPUTS; i++) {
		inputs[i] = hand_below(&r->random, 2) == 1;
	}
	for (int i = 0; i < GATES; i++) {
		gates[i] = (struct handset_gate){ hand_below(&r->random, HANDSET_OPS),
			hand_below(&r->random, INPUTS + i), hand_below(&r->random, INPUTS + i) };
	}
	const struct cost first = cost_now(r->contexts, 1);
	if (!handset_circuit_prompt(&circuit, r->model.options.bits, inputs, &prompt, &err) ||
		!bb_prefill(r->contexts[0], prompt.ids, prompt.n - 1, NULL, NULL, NULL, &err)) {
		die(&err);
	}
	const int n = hand_generate(&r->model, r->contexts[0], prompt.ids[prompt.n - 1], GATES + 1, EOS,
		NULL);
	if (n < GATES + 1) {
		printf("%s\n", n < 0 ? r->model.failure : "the circuit ended too early");
	}
	const struct cost now = cost_now(r->contexts, 1);
	print_cost(r, "tokens written", n, GATES + 1, &first, &now);
	bb_tokens_finish(&prompt);
	close_run(r);
	free(r);
	return n == GATES + 1;
}

static const struct kind kinds[] = {
	{ "s5", soak_streams, { "dfa", { "s5" } }, WINDOW, true },
	{ "tables", soak_streams, { "dfa", { "parity", "mod7", "bracket8" } }, WINDOW, true },
	{ "conv", soak_streams, { "conv-dfa", { "s5" } } },
	{ "block", soak_reading, { "dfa-block", { "mod7" } }, 0, true },
	{ "induction", soak_reading, { "induction", .bits = 10 }, 0, true },
	{ "recency", soak_reading, { "induction", .bits = 7, .recency = true }, 0, false, BB_KV_F32 },
	{ "copy", soak_reading, { "selective-copy" } },
	{ "latch", soak_reading, { "latch" } },
	{ "dictionary", soak_reading, { "dictionary" } },
	{ "s5-rwkv", soak_reading, { "s5-rwkv" } },
	{ "circuit", soak_circuit, { "circuit" }, 0, true },
};

/* ---- command ---- */

static bool has_word(const char *list, const char *word) {
	const size_t n = strlen(word);
	for (const char *p = list; (p = strstr(p, word)) != NULL; p += n) {
		if ((p == list || p[-1] == ',') && (p[n] == '\0' || p[n] == ',')) {
			return true;
		}
	}
	return false;
}

static void read_arguments(struct soak *o, int argc, char **argv) {
	for (int i = 1; i < argc; i += 2) {
		const char *name = argv[i], *value = i + 1 < argc ? argv[i + 1] : NULL;
		int *number = strcmp(name, "--steps") == 0 ? &o->n_steps
			: strcmp(name, "--length") == 0 ? &o->length
			: strcmp(name, "--contexts") == 0 ? &o->n_contexts
			: strcmp(name, "--threads") == 0 ? &o->n_threads : NULL;
		if (value != NULL && number != NULL && atoi(value) > 0) {
			*number = atoi(value);
		} else if (value != NULL && strcmp(name, "--seed") == 0) {
			o->seed = strtoull(value, NULL, 10);
		} else if (value != NULL && strcmp(name, "--kinds") == 0) {
			o->kinds = value;
		} else if (value != NULL && strcmp(name, "--kv") == 0) {
			o->kv = value;
		} else {
			fputs(usage, strcmp(name, "--help") == 0 ? stdout : stderr);
			exit(strcmp(name, "--help") == 0 ? 0 : 2);
		}
	}
	if (o->n_contexts > MAX_CONTEXTS / 3 || o->length < 256 || o->length > 4000000 ||
		o->n_steps > 2000000) {
		fprintf(stderr, "soak-handset: at most %d contexts and 2000000 steps, and a length of "
			"256 to 4000000\n", MAX_CONTEXTS / 3);
		exit(2);
	}
}

/* Every word is a kind. */
static void check_kinds(const char *list) {
	for (const char *p = list; *p != '\0'; p += strcspn(p, ","), p += *p == ',') {
		size_t i = 0;
		while (i < COUNT(kinds) && (strlen(kinds[i].word) != strcspn(p, ",") ||
			strncmp(p, kinds[i].word, strlen(kinds[i].word)) != 0)) {
			i++;
		}
		if (i == COUNT(kinds)) {
			fprintf(stderr, "soak-handset: no kind is called '%.*s'\n", (int)strcspn(p, ","), p);
			exit(2);
		}
	}
}

int main(int argc, char **argv) {
	static const enum bb_kv_type kv_types[] = { BB_KV_F32, BB_KV_F16, BB_KV_BF16, BB_KV_INT8 };
	struct soak o = { .kinds = "s5,tables,block", .kv = "f16,int8", .n_steps = 20000,
		.length = 131072, .n_contexts = 1, .n_threads = 1, .seed = 12 };
	int n_passed = 0, n_all = 0;
	read_arguments(&o, argc, argv);
	check_kinds(o.kinds);
	for (size_t i = 0; i < COUNT(kinds); i++) {
		if (has_word(o.kinds, kinds[i].word) && !kinds[i].has_kv_types) {
			n_all++;
			n_passed += kinds[i].soak(&o, &kinds[i], kinds[i].kv_type);
		}
		for (size_t k = 0; has_word(o.kinds, kinds[i].word) && kinds[i].has_kv_types &&
			k < COUNT(kv_types); k++) {
			if (has_word(o.kv, bb_kv_type_name(kv_types[k]))) {
				n_all++;
				n_passed += kinds[i].soak(&o, &kinds[i], kv_types[k]);
			}
		}
	}
	if (n_all == 0) {
		fputs(usage, stderr);
		return 2;
	}
	printf("%d passed, %d failed, 0 skipped\n", n_passed, n_all - n_passed);
	return n_passed == n_all ? 0 : 1;
}
