/* SPDX-License-Identifier: Apache-2.0
 *
 * Hand-set models as tests of all that a context can go through: batches of contexts of different
 * automata, lengths and phases; prompts in chunks of any size; forks that part and come back,
 * rewinds, files, at random points and at the ends of pages and splits; windows; every KV type;
 * states that are computed again from few checkpoints. Every row with an answer is looked at. */
#include "handset_asserts.h"

#include "base.h"

#include <assert.h>

enum { MAX_SLOTS = 8, MAX_TOKENS = 1400, SLACK = 200 /* that windows keep */ };

struct config {
	struct hand_spec spec;
	int n_tokens, n_rounds, n_slots;
	enum bb_kv_type kv_type;
	int window;
	size_t state_cache_bytes;
	enum bb_kv_type state_cache_type;
	const char *device;
	int most_rows;  /* of a context in a step; 0 = 130 */
	int least;      /* rows that have an answer, of ten rounds: little less than what was seen */
};

/* A context, and the script that it is in. */
struct slot {
	struct bb_context *context;
	int i_table, at, deepest; /* tokens read: now, and at most: windows forget by that */
	int32_t ids[MAX_TOKENS], expected[MAX_TOKENS];
	float *calm; /* [n_tokens, n_vocab]: the script as a fresh context reads it whole, or NULL */
};

struct game {
	const struct config *config;
	struct hand_model model;
	struct hand_random random;
	uint64_t seed;
	int round, n_looked; /* rows */
	struct slot slots[MAX_SLOTS];
};

static const char *where_text(const struct game *g, const struct slot *s) {
	static char text[80];
	snprintf(text, sizeof(text), "seed %llu, round %d, context %d", (unsigned long long)g->seed,
		g->round, (int)(s - g->slots));
	return text;
}

/* From token `from` on the slot has another script. */
static void part(struct game *g, struct slot *s, int from) {
	hand_script(&g->model, s->i_table, &g->random, s->ids, from, g->config->n_tokens);
	hand_expect(&g->model, s->ids, g->config->n_tokens, s->expected);
	free(s->calm);
	s->calm = hand_calm(&g->model, s->ids, g->config->n_tokens);
}

static void begin(struct game *g, struct slot *s) {
	const int n_tables = g->model.options.n_tables;
	bb_context_destroy(s->context);
	s->context = new_context(g->model.engine);
	s->i_table = n_tables > 0 ? hand_below(&g->random, n_tables) : 0;
	s->at = s->deepest = 0;
	part(g, s, 0);
}

static void look(struct game *g, const struct slot *s, int at, const float *row) {
	const struct hand_place place = { at, s->ids[at], s->expected[at],
		s->calm != NULL ? s->calm + (size_t)at * (size_t)g->model.n_vocab : NULL };
	if (place.want >= 0) {
		g->n_looked++;
		cr_assert(hand_is_right(&g->model, row, &place, where_text(g, s)), "%s",
			g->model.failure);
	}
}

/* How many tokens come next: often up to the end of a page or a split, or one more or less. */
static int next_rows(struct game *g, const struct slot *s) {
	static const int ends[] = { 63, 64, 65, 255, 256, 257, 511, 512, 513 };
	const int left = g->config->n_tokens - s->at;
	const int most_rows = g->config->most_rows > 0 ? g->config->most_rows : 130;
	const int most = left < most_rows ? left : most_rows;
	if (hand_below(&g->random, 3) == 0) {
		for (size_t i = 0; i < COUNT(ends); i++) {
			if (ends[i] > s->at && ends[i] - s->at <= most) {
				return ends[i] - s->at;
			}
		}
	}
	return hand_below(&g->random, 3) == 0 ? 1 : 1 + hand_below(&g->random, most);
}

/* One step of some of the contexts. */
static void step(struct game *g) {
	struct bb_step_item items[MAX_SLOTS];
	struct slot *of[MAX_SLOTS];
	struct bb_error err = { 0 };
	int n_items = 0, n_rows = 0;
	for (int i = 0; i < g->config->n_slots; i++) {
		struct slot *s = &g->slots[i];
		if (s->at == g->config->n_tokens) {
			begin(g, s);
		}
		const int n = next_rows(g, s);
		if ((n_items > 0 && hand_below(&g->random, 4) == 0) || n_rows + n > HAND_ROWS) {
			continue;
		}
		items[n_items] = (struct bb_step_item){ .context = s->context, .tokens = s->ids + s->at,
			.n_tokens = n, .all_logits = true,
			.logits = g->model.logits + (size_t)n_rows * (size_t)g->model.n_vocab };
		of[n_items++] = s;
		n_rows += n;
	}
	cr_assert(bb_step(g->model.engine, items, n_items, &err), "%s", err.text);
	for (int i = 0; i < n_items; i++) {
		for (int r = 0; r < items[i].n_tokens; r++) {
			look(g, of[i], of[i]->at + r,
				items[i].logits + (size_t)r * (size_t)g->model.n_vocab);
		}
		of[i]->at += items[i].n_tokens;
		of[i]->deepest = of[i]->at > of[i]->deepest ? of[i]->at : of[i]->deepest;
	}
}

/* ---- what happens between steps ---- */

/* A place to go back to: any, or one near the end of a page. */
static int place(struct game *g, const struct slot *s) {
	const int held = g->config->window > 0 && s->deepest > SLACK ? s->deepest - SLACK : 0;
	const int first = held < s->at ? held : s->at;
	const int n = first + hand_below(&g->random, s->at - first + 1);
	const int end = n / 64 * 64 + hand_below(&g->random, 3) - 1;
	return hand_below(&g->random, 2) == 0 && end >= first && end <= s->at ? end : n;
}

static void rewind_to(struct game *g, struct slot *s, int n) {
	struct bb_error err = { 0 };
	cr_assert(bb_context_rewind(s->context, n, &err), "%s: to token %d of %d: %s",
		where_text(g, s), n, s->at, err.text);
	s->at = n;
}

/* Another slot's context becomes a fork of this one, which goes on otherwise. */
static void fork_off(struct game *g, struct slot *s) {
	struct slot *other = &g->slots[hand_below(&g->random, g->config->n_slots)];
	struct bb_error err = { 0 };
	if (other == s) {
		return;
	}
	bb_context_destroy(other->context);
	free(other->calm);
	*other = *s;
	other->calm = NULL;
	cr_assert(bb_context_fork(&other->context, s->context, &err), "%s", err.text);
	part(g, other, other->at);
}

/* A fork leads a life of its own, comes back to where it parted, and takes the place of the context
 * that it came from. */
static void rejoin(struct game *g, struct slot *s) {
	struct bb_error err = { 0 };
	struct bb_context *original = s->context;
	struct slot back = *s;
	s->calm = NULL;
	const int left = g->config->n_tokens - s->at;
	cr_assert(bb_context_fork(&s->context, original, &err), "%s", err.text);
	part(g, s, s->at);
	const int n = left < 40 ? left : 1 + hand_below(&g->random, 40);
	if (n > 0) {
		const struct bb_step_item item = { .context = s->context, .tokens = s->ids + s->at,
			.n_tokens = n, .logits = g->model.logits, .all_logits = true };
		cr_assert(bb_step(g->model.engine, &item, 1, &err), "%s", err.text);
		for (int r = 0; r < n; r++) {
			look(g, s, s->at + r, g->model.logits + (size_t)r * (size_t)g->model.n_vocab);
		}
		s->at += n;
		rewind_to(g, s, back.at);
	}
	back.context = s->context;
	back.deepest = s->at + n > back.deepest ? s->at + n : back.deepest;
	bb_context_destroy(original);
	free(s->calm);
	*s = back;
}

static void through_file(struct game *g, struct slot *s) {
	struct bb_error err = { 0 };
	char path[80];
	bool same_bits = false;
	snprintf(path, sizeof(path), "/tmp/bobbin-truth-%d", (int)getpid());
	cr_assert(bb_context_save(s->context, path, &err), "%s: %s", where_text(g, s), err.text);
	bb_context_destroy(s->context);
	cr_assert(bb_context_load(&s->context, g->model.engine, path, &same_bits, &err), "%s: %s",
		where_text(g, s), err.text);
	cr_assert(same_bits && bb_context_length(s->context) == s->at);
	unlink(path);
}

static void between(struct game *g) {
	struct slot *s = &g->slots[hand_below(&g->random, g->config->n_slots)];
	switch (hand_below(&g->random, 8)) {
	case 0:
		fork_off(g, s);
		break;
	case 1:
		rejoin(g, s);
		break;
	case 2:
		rewind_to(g, s, place(g, s));
		break;
	case 3:
		rewind_to(g, s, place(g, s));
		part(g, s, s->at);
		break;
	case 4:
		through_file(g, s);
		break;
	default:
		break;
	}
}

static void play_seed(const struct config *config, uint64_t seed) {
	struct game *g = calloc(1, sizeof(*g));
	struct bb_error err = { 0 };
	const struct bb_engine_params params = { .device = config->device, .n_threads = 1,
		.kv_type = config->kv_type, .window = config->window, .max_batch_tokens = HAND_ROWS,
		.state_cache_bytes = config->state_cache_bytes,
		.state_cache_type = config->state_cache_type };
	assert(config->n_tokens <= MAX_TOKENS && config->n_slots <= MAX_SLOTS);
	g->config = config;
	g->random.state = g->seed = seed;
	cr_assert(hand_write(&g->model, &config->spec, &err) && hand_load(&g->model, &params, &err),
		"%s: %s", config->spec.kind, err.text);
	g->model.near = config->state_cache_type == BB_KV_INT8 ? 1e-3f : 0;
	for (int i = 0; i < config->n_slots; i++) {
		begin(g, &g->slots[i]);
	}
	for (g->round = 0; g->round < config->n_rounds; g->round++) {
		step(g);
		between(g);
	}
	const int least = config->least * config->n_rounds / 10;
	cr_log_info("%s, %s: %d rows in %d rounds", g->model.name, g->model.setting, g->n_looked,
		config->n_rounds);
	cr_assert(least > 0 && g->n_looked >= least, "%s, %s: %d rows have an answer, expected %d",
		g->model.name, g->model.setting, g->n_looked, least);
	for (int i = 0; i < config->n_slots; i++) {
		free(g->slots[i].calm);
		bb_context_destroy(g->slots[i].context);
	}
	hand_close(&g->model);
	free(g);
}

static const enum bb_kv_type kv_types[] = { BB_KV_F32, BB_KV_F16, BB_KV_BF16, BB_KV_INT8 };

static void play_kv_types(struct config config, uint64_t seed) {
	for (size_t k = 0; k < COUNT(kv_types); k++) {
		config.kv_type = kv_types[k];
		play_seed(&config, seed + k);
	}
}

/* ---- attention ---- */

static const struct config automata = { { "dfa", { "parity", "mod7", "bracket8" } },
	.n_tokens = 600, .n_rounds = 120, .n_slots = 6, .least = 640 };
static const struct config s5 = { { "dfa", { "s5" } }, .n_tokens = 300, .n_rounds = 40,
	.n_slots = 3, .least = 280 };
static const struct config blocks = { { "dfa-block", { "parity", "mod7", "bracket8" },
	.length = 130 }, .n_tokens = 320, .n_rounds = 120, .n_slots = 6, .least = 450 };
static const struct config census = { { "census", .length = 300 }, .n_tokens = 300,
	.n_rounds = 120, .n_slots = 6, .least = 1100 };
static const struct config induction = { { "induction", .bits = 9 }, .n_tokens = 500,
	.n_rounds = 60, .n_slots = 4, .least = 400 };
static const struct config recency = { { "induction", .bits = 8, .recency = true, .length = 600 },
	.n_tokens = 600, .n_rounds = 60, .n_slots = 4, .kv_type = BB_KV_F32, .least = 1150 };
static const struct config boxes = { { "induction", .bits = 9, .non_negative = true },
	.n_tokens = 500, .n_rounds = 60, .n_slots = 4, .least = 400 };
static const struct config digit = { { "induction", .bits = 7, .non_negative = true },
	.n_tokens = 300, .n_rounds = 40, .n_slots = 4, .least = 160 };
static const struct config circuits = { { "circuit", .bits = 6 }, .n_tokens = 288,
	.n_rounds = 120, .n_slots = 6, .least = 200 };

Test(truth, automata_in_one_batch, .timeout = 120) {
	play_kv_types(automata, 100);
	play_kv_types(automata, 200);
}

Test(truth, automata_in_windows, .timeout = 120) {
	struct config c = automata;
	c.window = 2;
	play_kv_types(c, 300);
	c.window = 8;
	play_kv_types(c, 400);
}

Test(truth, s5, .timeout = 120) {
	struct config c = s5;
	play_kv_types(c, 500);
	c.window = 8;
	c.kv_type = BB_KV_INT8;
	play_seed(&c, 510);
}

Test(truth, blocks, .timeout = 120) {
	play_kv_types(blocks, 600);
}

Test(truth, census, .timeout = 120) {
	struct config c = census;
	play_kv_types(c, 700);
	c.window = 8;
	play_kv_types(c, 710);
	c.window = 64;
	play_kv_types(c, 720);
}

Test(truth, induction, .timeout = 120) {
	play_kv_types(induction, 800);
	play_seed(&recency, 810);
	play_kv_types(boxes, 820);
	play_kv_types(digit, 830);
}

Test(truth, circuits, .timeout = 120) {
	cr_assert_eq(circuits.n_tokens, hand_circuit_length(circuits.spec.bits));
	play_kv_types(circuits, 840);
	play_kv_types(circuits, 850);
}

/* ---- states ---- */

static const struct config states[] = {
	{ { "latch" }, .n_tokens = 1400, .n_rounds = 80, .n_slots = 4, .least = 1000 },
	{ { "selective-copy" }, .n_tokens = 1400, .n_rounds = 80, .n_slots = 4, .least = 24 },
	{ { "conv-dfa", { "parity", "mod7", "bracket8" } }, .n_tokens = 1400, .n_rounds = 80,
		.n_slots = 6, .least = 850 },
	{ { "dictionary" }, .n_tokens = 1400, .n_rounds = 80, .n_slots = 4, .least = 360 },
	{ { "s5-rwkv" }, .n_tokens = 1400, .n_rounds = 80, .n_slots = 4, .least = 520 },
};

Test(truth, states, .timeout = 120) {
	for (size_t i = 0; i < COUNT(states); i++) {
		play_seed(&states[i], 900 + i);
		play_seed(&states[i], 910 + i);
	}
}

/* None, and a few: most rewinds read all again, or from a place far before. */
Test(truth, states_with_few_checkpoints, .timeout = 120) {
	for (size_t i = 0; i < COUNT(states); i++) {
		struct config c = states[i];
		c.n_tokens = 900;
		c.n_rounds = 50;
		c.state_cache_bytes = BB_STATE_CACHE_NONE;
		play_seed(&c, 920 + i);
		c.state_cache_bytes = (size_t)200 << 10;
		play_seed(&c, 930 + i);
	}
}

/* What these hold is one-hot, or whole numbers of a few sizes: rounding leaves the answer. */
Test(truth, states_from_int8_checkpoints, .timeout = 120) {
	for (size_t i = 0; i < COUNT(states); i++) {
		struct config c = states[i];
		c.state_cache_type = BB_KV_INT8;
		play_seed(&c, 940 + i);
	}
}

/* ---- devices ---- */

static void play_device(struct config c, enum bb_kv_type kv_type, int window, uint64_t seed) {
	if (!HAS_SIMT && named_device() == NULL) {
		cr_skip_test("no emulator in this build");
	}
	c.device = test_device();
	c.kv_type = kv_type;
	c.window = window;
	c.n_slots = 3;
	c.least /= 5; /* fewer slots, fewer rows */
	if (!is_whole()) {
		c.n_rounds = 24;
		c.most_rows = 70;
	}
	play_seed(&c, seed);
}

Test(truth, attention_on_the_emulator, .timeout = 300) {
	struct config short_blocks = blocks;
	short_blocks.spec.length = 70;
	short_blocks.n_tokens = 170;
	play_device(automata, BB_KV_F16, 0, 1000);
	play_device(automata, BB_KV_INT8, 8, 1001);
	play_device(short_blocks, BB_KV_BF16, 0, 1002);
	play_device(census, BB_KV_F32, 0, 1003);
	play_device(census, BB_KV_F16, 8, 1004);
	play_device(induction, BB_KV_F16, 0, 1005);
	play_device(boxes, BB_KV_INT8, 0, 1006);
	play_device(circuits, BB_KV_F16, 0, 1007);
	play_device(s5, BB_KV_INT8, 8, 1008);
	play_device(recency, BB_KV_F32, 0, 1009);
	play_device(digit, BB_KV_BF16, 0, 1010);
}

Test(truth, states_on_the_emulator, .timeout = 300) {
	for (size_t i = 0; i < COUNT(states); i++) {
		struct config c = states[i];
		c.n_tokens = 260;
		c.state_cache_bytes = i % 2 == 0 ? 0 : (size_t)200 << 10;
		play_device(c, BB_KV_AUTO, 0, 1020 + i);
	}
}
