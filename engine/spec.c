/* SPDX-License-Identifier: Apache-2.0
 *
 * Which drafts go into a step. Both sources of text propose for each branch at each token, whether
 * or not a row is spent on it, and what came then tells how often those of a kind are right: so a
 * text in which nothing comes again costs no row to find out, and one that begins to repeat itself
 * is noticed within a few tokens. */
#include "spec.h"

#include "requests.h"
#include "spec/history.h"
#include "spec/pace.h"

#include <assert.h>
#include <string.h>

enum { TEXT_SOURCES = BB_SPEC_HISTORY + 1 }; /* those of texts that were seen */
enum {
	MOST_DRAFTS = 64, DEFAULT_DRAFTS = 16, MIN_MATCH = 2,
	MOST_INDEXED = 1 << 20, /* tokens of a context */
	GIVES_WAY = 64,         /* steps without drafts where memory was short */
};
static const size_t DEFAULT_HISTORY = (size_t)32 << 20;

/* Matches of 2 to 3 tokens, 4 to 7, and so on: the longer, the likelier it goes on. */
enum { N_KINDS = 5 };
/* How likely, before anything was seen. */
static const double PRIOR[N_KINDS] = { 0.15, 0.3, 0.5, 0.7, 0.8 };
/* Tokens that rates tell of: of all branches, and of one, which begins as all are. */
static const double MEMORY = 512, OWN_MEMORY = 32, PRIOR_WEIGHT = 2, ALL_WEIGHT = 4;
/* A row has to be worth this much more than it costs: both are guesses. */
static const double MARGIN = 1.15;

struct proposal {
	int32_t ids[MOST_DRAFTS]; /* [n] */
	int n, n_seen;            /* of them, as many came as it said */
	int match;                /* tokens that agreed before them */
};

struct spec_branch {
	struct spec_index own;    /* of its timeline */
	struct history_texts *texts;
	struct proposal proposals[TEXT_SOURCES];
	struct spec_rate rates[TEXT_SOURCES][N_KINDS];
	int source, n_drafts;     /* of the step's drafts */
	int most;                 /* that it may have in this step */
};

struct spec {
	struct bb_speculation params; /* defaults filled in */
	struct history history;
	struct spec_rate rates[TEXT_SOURCES][N_KINDS];
	struct spec_costs costs;
	int n_waits;              /* steps to come without drafts */
};

/* ---- life ---- */

static const char *const source_names[] = { "ngram", "suffix", "draft_model" };

const char *bb_spec_source_name(enum bb_spec_source source) {
	assert((size_t)source < COUNT(source_names));
	return source_names[source];
}

bool bb_spec_source_parse(const char *name, enum bb_spec_source *out) {
	for (size_t i = 0; i < COUNT(source_names); i++) {
		if (strcmp(source_names[i], name) == 0) {
			*out = (enum bb_spec_source)i;
			return true;
		}
	}
	return false;
}

static bool check_range(const char *name, int value, int min, int max, struct bb_error *err) {
	return (value >= min && value <= max) ||
		base_fail(err, BB_ERR_USAGE, "%s is %d, expected %d to %d", name, value, min, max);
}

bool spec_create(struct spec **out, struct bb_engine *e, const struct bb_speculation *params,
	struct bb_error *err) {
	struct bb_speculation p = params != NULL ? *params : (struct bb_speculation){ 0 };
	*out = NULL;
	p.max_drafts = p.max_drafts != 0 ? p.max_drafts : DEFAULT_DRAFTS;
	p.min_match = p.min_match != 0 ? p.min_match : MIN_MATCH;
	p.max_match = p.max_match != 0 ? p.max_match : SPEC_LOOK;
	p.history_bytes = p.history_bytes != 0 ? p.history_bytes : DEFAULT_HISTORY;
	p.sources = p.sources != 0 ? p.sources : 1u << BB_SPEC_PROMPT | 1u << BB_SPEC_HISTORY;
	if (!check_range("num_speculative_tokens", p.max_drafts, 1, MOST_DRAFTS, err) ||
		!check_range("prompt_lookup_min", p.min_match, 1, SPEC_LOOK, err) ||
		!check_range("prompt_lookup_max", p.max_match, p.min_match, SPEC_LOOK, err)) {
		return false;
	}
	struct spec *s = base_alloc(1, sizeof(*s));
	if (s == NULL) {
		return base_no_memory(err, "speculation", sizeof(*s));
	}
	s->params = p;
	history_init(&s->history, p.history_bytes);
	*out = s;
	return true;
}

void spec_destroy(struct spec *s) {
	if (s != NULL) {
		history_finish(&s->history);
		base_free(s);
	}
}

static struct spec_branch *branch_of(struct spec *s, struct branch *b) {
	if (b->spec == NULL) {
		const char *salt = b->request->params.cache_salt;
		struct spec_branch *x = base_alloc(1, sizeof(*x));
		if (x == NULL) {
			return NULL;
		}
		spec_index_init(&x->own, MOST_INDEXED);
		x->texts = history_get(&s->history, salt != NULL ? salt : "");
		b->spec = x;
	}
	return b->spec;
}

void spec_end(struct spec *s, struct branch *b, bool is_whole) {
	struct spec_branch *x = b->spec;
	if (x == NULL) {
		return;
	}
	const size_t n_prompt = b->request->params.n_prompt;
	if (is_whole && x->texts != NULL && b->ids.n > n_prompt) {
		history_add(&s->history, x->texts, b->ids.ids + n_prompt, b->ids.n - n_prompt);
	}
	history_put(&s->history, x->texts);
	spec_index_finish(&x->own);
	base_free(x);
	b->spec = NULL;
}

/* ---- what is proposed, and what came ---- */

static int kind_of(int match) {
	int kind = 0;
	for (; match >= 4 && kind + 1 < N_KINDS; match /= 2) {
		kind++;
	}
	return kind;
}

void spec_see(struct spec *s, struct branch *b, int32_t token) {
	struct spec_branch *x = b->spec;
	for (int i = 0; x != NULL && i < TEXT_SOURCES; i++) {
		struct proposal *p = &x->proposals[i];
		if (p->n_seen < p->n) {
			const int kind = kind_of(p->match + p->n_seen);
			const bool is_right = p->ids[p->n_seen] == token;
			spec_rate_add(&s->rates[i][kind], is_right, MEMORY);
			spec_rate_add(&x->rates[i][kind], is_right, OWN_MEMORY);
			p->n_seen = is_right ? p->n_seen + 1 : p->n;
		}
	}
}

static void propose(const struct spec *s, const struct branch *b, int source,
	const struct spec_index *from) {
	struct proposal *p = &b->spec->proposals[source];
	uint64_t at = 0;
	*p = (struct proposal){ 0 };
	if ((s->params.sources >> source & 1) != 0 && from != NULL) {
		const size_t n = b->ids.n, most = (size_t)s->params.max_match;
		const size_t tail = n < most ? n : most;
		p->match = spec_index_find(from, b->ids.ids + n - tail, tail, s->params.min_match, &at);
		p->n = p->match > 0 ? spec_index_read(from, at, p->ids, s->params.max_drafts) : 0;
	}
}

/* How likely draft i of a proposal is right if those before it were. */
static double chance(const struct spec *s, const struct spec_branch *x, int source, int i) {
	const struct proposal *p = &x->proposals[source];
	if (i >= p->n) {
		return 0;
	}
	const int kind = kind_of(p->match + i);
	const double all = spec_rate_of(&s->rates[source][kind], PRIOR[kind], PRIOR_WEIGHT);
	return spec_rate_of(&x->rates[source][kind], all, ALL_WEIGHT);
}

/* Behind an end nothing follows: it's no draft. */
static int until_end(const struct branch *b, const struct proposal *p) {
	const struct bb_engine *e = b->request->scheduler->engine;
	int n = 0;
	while (n < p->n && !tokenizer_is_eog(e->tokenizer, p->ids[n])) {
		n++;
	}
	return n;
}

static void look(struct spec *s, struct branch *b, int most) {
	struct spec_branch *x = branch_of(s, b);
	if (x == NULL) {
		return;
	}
	x->n_drafts = x->most = 0;
	if (!spec_index_add(&x->own, b->ids.ids + x->own.n, b->ids.n - (size_t)x->own.n)) {
		return;
	}
	propose(s, b, BB_SPEC_PROMPT, &x->own);
	propose(s, b, BB_SPEC_HISTORY, x->texts != NULL ? &x->texts->index : NULL);
	x->source = chance(s, x, BB_SPEC_HISTORY, 0) > chance(s, x, BB_SPEC_PROMPT, 0)
		? BB_SPEC_HISTORY : BB_SPEC_PROMPT;
	x->most = until_end(b, &x->proposals[x->source]);
	x->most = x->most < most ? x->most : most;
}

/* ---- how many are worth it ---- */

/* Bytes that item i's drafts take beyond its row. */
static size_t bytes_for(const struct bb_scheduler *s, int i, int n_drafts) {
	const struct branch *b = s->of_item[i];
	const int n = s->items[i].n_tokens;
	return turns_bytes_for(b, n + n_drafts) - turns_bytes_for(b, n) +
		(size_t)n_drafts * s->engine->states.bytes;
}

/* Bytes that drafts may take: what the step's own rows leave. */
static size_t spare_bytes(const struct bb_scheduler *s) {
	const size_t max = s->engine->budget.max_bytes;
	size_t used = engine_used_bytes(s->engine).live;
	for (int i = 0; i < s->n_items; i++) {
		used += turns_bytes_for(s->of_item[i], s->items[i].n_tokens);
	}
	return max == 0 ? SIZE_MAX : used < max ? max - used : 0;
}

/* Of the items that may have one more draft, the one whose is likeliest to be right; -1: none. */
static int likeliest(const struct bb_scheduler *s, const double *reached, double *p) {
	int best = -1;
	*p = 0;
	for (int i = 0; i < s->n_items; i++) {
		const struct spec_branch *x = s->of_item[i]->spec;
		if (x == NULL || x->n_drafts >= x->most) {
			continue;
		}
		const double here = reached[i] * chance(s->spec, x, x->source, x->n_drafts);
		if (here > *p) {
			*p = here;
			best = i;
		}
	}
	return best;
}

/* A draft is worth its row where that brings more tokens a second than the step has so far. */
static void choose(struct bb_scheduler *s, int n_rows, int n_decode) {
	struct spec *spec = s->spec;
	const double row = spec_costs_row(&spec->costs, n_decode);
	double *reached = s->spec_reached, tokens = n_decode, cost = 1, p;
	size_t spare = spare_bytes(s);
	for (int i = 0; i < s->n_items; i++) {
		reached[i] = 1;
	}
	for (int left = s->params.max_step_tokens - n_rows; left > 0; left--) {
		const int i = likeliest(s, reached, &p);
		if (i < 0 || (!spec->params.is_fixed && p * cost < MARGIN * row * tokens)) {
			return;
		}
		struct spec_branch *x = s->of_item[i]->spec;
		const size_t bytes = bytes_for(s, i, x->n_drafts + 1) - bytes_for(s, i, x->n_drafts);
		if (bytes > spare) {
			x->most = x->n_drafts;
			continue;
		}
		spare -= bytes;
		reached[i] = p;
		x->n_drafts++;
		tokens += p;
		cost += row;
	}
}

/* ---- the step ---- */

/* The drafts stand behind the branch's tokens, as if they were. */
static void put(struct bb_scheduler *s, int i) {
	struct bb_step_item *item = &s->items[i];
	struct branch *b = s->of_item[i];
	struct spec_branch *x = b->spec;
	struct bb_error ignored = { 0 };
	const size_t n = b->ids.n;
	const struct proposal *p = &x->proposals[x->source];
	int n_put = 0;
	while (n_put < x->n_drafts && bb_tokens_push(&b->ids, p->ids[n_put], &ignored)) {
		n_put++;
	}
	b->ids.n = n;
	x->n_drafts = n_put;
	item->tokens = b->ids.ids + bb_context_length(b->context);
	item->n_tokens += n_put;
	item->n_drafts = n_put;
	item->sampler->is_led = b->effort != NULL;
	b->request->usage.spec[x->source].n_drafted += (uint64_t)n_put;
	s->now.spec[x->source].n_drafted += (uint64_t)n_put;
}

static bool may_draft(const struct bb_scheduler *s, int i) {
	const struct branch *b = s->of_item[i];
	const struct bb_step_item *item = &s->items[i];
	return item->sampler != NULL && item->logits == NULL && item->n_tokens == 1 &&
		b->parent == NULL && !b->request->params.no_speculation &&
		!generation_is_forced(b->generation);
}

void spec_draft(struct bb_scheduler *s) {
	struct spec *spec = s->spec;
	int n_rows = 0, n_decode = 0;
	if (spec == NULL || s->engine->taps != NULL) {
		return;
	}
	const bool waits = spec->n_waits > 0 || s->is_short || s->squeeze > 0;
	spec->n_waits -= spec->n_waits > 0;
	for (int i = 0; i < s->n_items; i++) {
		struct branch *b = s->of_item[i];
		n_rows += s->items[i].n_tokens;
		n_decode += s->items[i].n_tokens == 1;
		if (may_draft(s, i)) {
			look(spec, b, waits ? 0 : generation_most_drafts(b->generation));
		} else if (b->spec != NULL) {
			b->spec->n_drafts = b->spec->most = 0;
		}
	}
	if (n_decode > 0) {
		choose(s, n_rows, n_decode);
	}
	for (int i = 0; i < s->n_items; i++) {
		if (s->of_item[i]->spec != NULL && s->of_item[i]->spec->n_drafts > 0) {
			put(s, i);
		}
	}
}

void spec_measure(struct spec *s, int n_rows, int n_drafts, double seconds) {
	if (s != NULL && seconds > 0) {
		spec_costs_add(&s->costs, n_rows, n_drafts, seconds);
	}
}

double spec_without(const struct spec *s, int n_rows, int n_drafts, double seconds) {
	return n_drafts == 0 ? seconds
		: seconds / (1 + spec_costs_row(&s->costs, n_rows) * n_drafts);
}

bool spec_gives_way(struct bb_scheduler *s) {
	bool had = false;
	for (int i = 0; i < s->n_items; i++) {
		had = had || s->items[i].n_drafts > 0;
	}
	if (had) {
		s->spec->n_waits = GIVES_WAY;
	}
	return had;
}

void spec_took(struct bb_scheduler *s, struct branch *b) {
	const int source = b->spec->source;
	b->request->usage.spec[source].n_accepted++;
	s->now.spec[source].n_accepted++;
}
