/* SPDX-License-Identifier: Apache-2.0
 *
 * soak-handset: hand-set automata for as long as one likes. Streams run by themselves: the symbols
 * come from a seed, each state that the model writes is the one that it reads next, and every row
 * of logits must be 1.0 for the right state and 0.0 for all others, while pages stay as many as at
 * first. Blocks read each of N symbols once, N tokens back. The last line is
 * `N passed, N failed, N skipped`. */
#include "base.h"
#include "handset_harness.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char usage[] =
	"soak-handset [--kinds s5,tables,block] [--kv f16,int8] [--steps N] [--length N]\n"
	"             [--contexts N] [--threads N] [--seed N]\n"
	"\n"
	"  s5       CoT steps of S5 by one attention layer, window 8\n"
	"  tables   the same of parity, mod7 and bracket8 in one model, side by side\n"
	"  block    mod7, N symbols in the prompt and all N states behind it\n"
	"\n"
	"  --steps N     of streams, 20000\n"
	"  --length N    of blocks, 131072\n"
	"  --contexts N  of each automaton in a batch, 1\n";

enum { WINDOW = 8, MAX_CONTEXTS = 48, WARM_UP = 1000, CHUNK = 512 };

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

/* ---- streams ---- */

struct stream {
	int i_table, first_symbol, first_state, state;
	int32_t next[2]; /* the state's token, the symbol's */
};

struct run {
	struct hand_model model;
	int n;                                  /* contexts */
	struct bb_context *contexts[MAX_CONTEXTS];
	struct stream streams[MAX_CONTEXTS];
	float *logits;                          /* [n, n_vocab] */
	struct hand_random random;
	const char *kv;
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

static void open_streams(struct run *r, const struct soak *o, const char *const *tables) {
	struct hand_spec spec = { .kind = "dfa" };
	struct bb_error err = { 0 };
	struct bb_engine_params params = { .window = WINDOW, .n_threads = o->n_threads };
	bb_kv_type_parse(r->kv, &params.kv_type);
	r->random.state = o->seed;
	for (int i = 0; i < HAND_TABLES && tables[i] != NULL; i++) {
		spec.tables[i] = tables[i];
	}
	if (!hand_write(&r->model, &spec, &err) || !hand_load(&r->model, &params, &err)) {
		die(&err);
	}
	int first_symbol = 0, first_state = 0;
	const int n_tables = r->model.options.n_tables;
	for (int i = 0; i < n_tables; i++) {
		first_state += r->model.tables[i].n_symbols;
	}
	r->n = n_tables * o->n_contexts;
	for (int i = 0; i < r->n; i++) {
		const int i_table = i / o->n_contexts;
		r->streams[i] = (struct stream){ i_table, first_symbol, first_state, 0, { first_state } };
		if ((i + 1) % o->n_contexts == 0) {
			first_symbol += r->model.tables[i_table].n_symbols;
			first_state += r->model.tables[i_table].n_states;
		}
		if (!bb_context_create(&r->contexts[i], r->model.engine, NULL, &err)) {
			die(&err);
		}
	}
	r->logits = malloc((size_t)r->n * (size_t)r->model.n_vocab * sizeof(*r->logits));
	assert(r->logits != NULL);
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
		s->next[1] = s->first_symbol + symbol;
		s->state = t->next[s->state * t->n_symbols + symbol];
		items[i] = (struct bb_step_item){ .context = r->contexts[i], .tokens = s->next,
			.n_tokens = 2, .logits = r->logits + (size_t)i * (size_t)n_vocab };
	}
	if (!bb_step(r->model.engine, items, r->n, &err)) {
		die(&err);
	}
	for (int i = 0; i < r->n; i++) {
		struct stream *s = &r->streams[i];
		const int at = 2 * step + 1, want = s->first_state + s->state;
		const struct hand_look look = hand_look(&r->model, items[i].logits, at, want);
		s->next[0] = look.got;
		if (look.verdict != HAND_RIGHT) {
			char text[1024], where[64];
			snprintf(where, sizeof(where), "%s KV, context %d, step %d", r->kv, i, step);
			hand_describe(text, sizeof(text), &r->model, where, at, want, &look,
				items[i].logits);
			printf("%s\n", text);
			return false;
		}
	}
	return true;
}

static void close_run(struct run *r) {
	for (int i = 0; i < r->n; i++) {
		bb_context_destroy(r->contexts[i]);
	}
	free(r->logits);
	hand_close(&r->model);
}

static void print_cost(const struct run *r, const char *what, int done, int all,
	const struct cost *first, const struct cost *now) {
	printf("%s, %s KV, %d context%s: %d of %d %s, %.0f s, %zu bytes of pages, %.1f MiB resident, "
		"%ld allocations\n", r->model.name, r->kv, r->n, r->n > 1 ? "s" : "", done, all, what,
		now->seconds - first->seconds, now->kv_bytes, (double)now->resident / 0x1p20,
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

static bool soak_streams(const struct soak *o, const char *const *tables, const char *kv) {
	struct run *r = calloc(1, sizeof(*r));
	r->kv = kv;
	open_streams(r, o, tables);
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

/* ---- blocks ---- */

/* ids[2 N + 1]: N - 1 symbols, PAD, SEP, the states; expected likewise. */
static bool read_block(struct run *r, const int32_t *ids, const int32_t *expected, int n) {
	struct bb_error err = { 0 };
	const struct cost first = cost_now(r->contexts, 1);
	const int half = n / 2; /* behind SEP */
	if (!bb_prefill(r->contexts[0], ids, (size_t)half, NULL, NULL, NULL, &err)) {
		die(&err);
	}
	struct cost now = cost_now(r->contexts, 1);
	print_cost(r, "tokens", half, n, &first, &now);
	/* a step of many rows has the bits of one at a time, so where each row is right the model
	 * would have written these tokens itself */
	for (int at = half, tenth = 0; at < n;) {
		const int rows = n - at < CHUNK ? n - at : CHUNK;
		const struct bb_step_item item = { .context = r->contexts[0], .tokens = ids + at,
			.n_tokens = rows, .logits = r->logits, .all_logits = true };
		if (!bb_step(r->model.engine, &item, 1, &err)) {
			die(&err);
		}
		for (int i = 0; i < rows; i++) {
			const float *row = r->logits + (size_t)i * (size_t)r->model.n_vocab;
			const struct hand_look look = hand_look(&r->model, row, at + i, expected[at + i]);
			if (look.verdict != HAND_RIGHT) {
				char text[1024];
				hand_describe(text, sizeof(text), &r->model, r->kv, at + i, expected[at + i],
					&look, row);
				printf("%s\n", text);
				return false;
			}
		}
		at += rows;
		if ((at - half) * (int64_t)10 / (n - half) > tenth) {
			tenth = (int)((at - half) * (int64_t)10 / (n - half));
			now = cost_now(r->contexts, 1);
			print_cost(r, "tokens", at, n, &first, &now);
		}
	}
	return true;
}

static bool soak_block(const struct soak *o, const char *kv) {
	struct run *r = calloc(1, sizeof(*r));
	const struct hand_spec spec = { .kind = "dfa-block", .tables = { "mod7" },
		.length = o->length };
	struct bb_engine_params params = { .n_threads = o->n_threads, .max_batch_tokens = CHUNK };
	struct bb_error err = { 0 };
	const int n = 2 * o->length;
	r->kv = kv;
	r->n = 1;
	r->random.state = o->seed;
	bb_kv_type_parse(kv, &params.kv_type);
	if (!hand_write(&r->model, &spec, &err) || !hand_load(&r->model, &params, &err) ||
		!bb_context_create(&r->contexts[0], r->model.engine, NULL, &err)) {
		die(&err);
	}
	int32_t *ids = malloc((size_t)n * sizeof(*ids)), *expected = malloc((size_t)n * sizeof(*ids));
	r->logits = malloc(CHUNK * (size_t)r->model.n_vocab * sizeof(*r->logits));
	assert(ids != NULL && expected != NULL && r->logits != NULL);
	hand_script(&r->model, 0, &r->random, ids, 0, n);
	hand_expect(&r->model, ids, n, expected);
	const bool ok = read_block(r, ids, expected, n);
	free(ids);
	free(expected);
	close_run(r);
	free(r);
	return ok;
}

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
	if (o->n_contexts > MAX_CONTEXTS / 3 || o->length < 2 || o->n_steps > 2000000) {
		fprintf(stderr, "soak-handset: at most %d contexts and 2000000 steps, and blocks of at "
			"least 2\n", MAX_CONTEXTS / 3);
		exit(2);
	}
}

int main(int argc, char **argv) {
	static const char *const kv_types[] = { "f32", "f16", "bf16", "int8" };
	static const char *const s5[HAND_TABLES] = { "s5" };
	static const char *const tables[HAND_TABLES] = { "parity", "mod7", "bracket8" };
	struct soak o = { .kinds = "s5,tables,block", .kv = "f16,int8", .n_steps = 20000,
		.length = 131072, .n_contexts = 1, .n_threads = 1, .seed = 12 };
	int n_passed = 0, n_all = 0;
	read_arguments(&o, argc, argv);
	for (size_t i = 0; i < COUNT(kv_types); i++) {
		if (!has_word(o.kv, kv_types[i])) {
			continue;
		}
		if (has_word(o.kinds, "s5")) {
			n_all++;
			n_passed += soak_streams(&o, s5, kv_types[i]);
		}
		if (has_word(o.kinds, "tables")) {
			n_all++;
			n_passed += soak_streams(&o, tables, kv_types[i]);
		}
		if (has_word(o.kinds, "block")) {
			n_all++;
			n_passed += soak_block(&o, kv_types[i]);
		}
	}
	if (n_all == 0) {
		fputs(usage, stderr);
		return 2;
	}
	printf("%d passed, %d failed, 0 skipped\n", n_passed, n_all - n_passed);
	return n_passed == n_all ? 0 : 1;
}
