/* SPDX-License-Identifier: Apache-2.0
 *
 * Which drafts go into a step. Both sources of text propose for each branch at each token, whether
 * or not a row is spent on it, and what came then tells how often those of a kind are right: so a
 * text in which nothing comes again costs no row to find out, and one that begins to repeat itself
 * is noticed within a few tokens. */
#include "spec.h"

#include "requests.h"
#include "spec/history.h"
#include "spec/model.h"
#include "spec/pace.h"

#include <assert.h>
#include <string.h>

enum {
	MOST_DRAFTS = 64, DEFAULT_DRAFTS = 16, MIN_MATCH = 2,
	MOST_INDEXED = 1 << 20, /* tokens of a context */
	MOST_FORCED = 256,      /* bytes */
	GIVES_WAY = 64,         /* steps without drafts where memory was short */
};
static const size_t DEFAULT_HISTORY = (size_t)32 << 20;

/* Matches of 2 to 3 tokens, 4 to 7, and so on: the longer, the likelier it goes on. */
enum { N_KINDS = 5 };
/* How likely, before anything was seen. */
static const double PRIOR[N_KINDS] = { 0.15, 0.3, 0.5, 0.7, 0.8 }, MODEL_PRIOR = 0.6,
	GRAMMAR_PRIOR = 0.7;
/* Tokens that rates tell of: of all branches, and of one, which begins as all are. */
static const double MEMORY = 512, OWN_MEMORY = 32, PRIOR_WEIGHT = 2, ALL_WEIGHT = 4;
/* A row has to be worth this much more than it costs: both are guesses. */
static const double MARGIN = 1.15;
/* Of the tokens a second that a branch has without drafts it keeps this part at least. */
static const double FAIR = 0.97;

struct proposal {
	int32_t ids[MOST_DRAFTS]; /* [n] */
	int n, n_seen;            /* of them, as many came as it said */
	int match;                /* tokens that agreed before them */
};

struct spec_branch {
	struct spec_index own;    /* of its timeline */
	struct history_texts *texts;
	struct spec_follower *follower; /* of the draft model */
	struct proposal proposals[BB_SPEC_SOURCES];
	struct spec_rate rates[BB_SPEC_SOURCES][N_KINDS];
	int source, n_drafts;     /* of the step's drafts */
	int most, room;           /* that it has in this step, and that it may have */
};

struct spec {
	struct bb_speculation params; /* defaults filled in */
	struct history history;
	struct bb_tokens forced;  /* of one branch, for a while */
	struct spec_rate rates[BB_SPEC_SOURCES][N_KINDS];
	struct spec_costs costs;
	double round_s;           /* what the draft model takes for a draft of each branch */
	struct spec_wish *wishes; /* [max_items] of the draft model, and their items */
	int *of_wish;
	double *reached;          /* [max_items]: how likely all of an item's drafts are right */
	double *expected;         /* [max_items]: tokens that its step is expected to give */
	int n_waits;              /* steps to come without drafts */
};

/* ---- life ---- */

static const char *const source_names[] = { "ngram", "suffix", "draft_model", "grammar" };

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
	int max_items, struct bb_error *err) {
	struct bb_speculation p = params != NULL ? *params : (struct bb_speculation){ 0 };
	*out = NULL;
	p.max_drafts = p.max_drafts != 0 ? p.max_drafts : DEFAULT_DRAFTS;
	p.min_match = p.min_match != 0 ? p.min_match : MIN_MATCH;
	p.max_match = p.max_match != 0 ? p.max_match : SPEC_LOOK;
	p.history_bytes = p.history_bytes != 0 ? p.history_bytes : DEFAULT_HISTORY;
	p.sources = p.sources != 0 ? p.sources : (1u << BB_SPEC_SOURCES) - 1;
	const bool wants_model = (p.sources >> BB_SPEC_MODEL & 1) != 0;
	if (wants_model && p.draft == NULL && p.sources == 1u << BB_SPEC_MODEL) {
		return base_fail(err, BB_ERR_USAGE, "drafts come of a draft model, and none is given");
	}
	if (!check_range("num_speculative_tokens", p.max_drafts, 1, MOST_DRAFTS, err) ||
		!check_range("prompt_lookup_min", p.min_match, 1, SPEC_LOOK, err) ||
		!check_range("prompt_lookup_max", p.max_match, p.min_match, SPEC_LOOK, err) ||
		(p.draft != NULL && wants_model && !spec_model_check(e, p.draft, err))) {
		return false;
	}
	p.draft = wants_model ? p.draft : NULL;
	struct spec *s = base_alloc(1, sizeof(*s));
	if (s == NULL) {
		return base_no_memory(err, "speculation", sizeof(*s));
	}
	s->params = p;
	spec_history_init(&s->history, p.history_bytes);
	s->reached = base_alloc((size_t)max_items, sizeof(*s->reached));
	s->expected = base_alloc((size_t)max_items, sizeof(*s->expected));
	s->wishes = base_alloc((size_t)max_items, sizeof(*s->wishes));
	s->of_wish = base_alloc((size_t)max_items, sizeof(*s->of_wish));
	if (s->reached == NULL || s->expected == NULL || s->wishes == NULL || s->of_wish == NULL) {
		spec_destroy(s);
		return base_no_memory(err, "speculation", (size_t)max_items * sizeof(*s->reached));
	}
	*out = s;
	return true;
}

void spec_destroy(struct spec *s) {
	if (s != NULL) {
		spec_history_finish(&s->history);
		bb_tokens_finish(&s->forced);
		base_free(s->wishes);
		base_free(s->of_wish);
		base_free(s->reached);
		base_free(s->expected);
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
		x->texts = spec_history_get(&s->history, salt != NULL ? salt : "");
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
		spec_history_add(&s->history, x->texts, b->ids.ids + n_prompt, b->ids.n - n_prompt);
	}
	spec_history_put(&s->history, x->texts);
	spec_follower_destroy(x->follower);
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

/* Of draft i of a proposal: where nothing was matched all are of one. */
static int kind_at(const struct proposal *p, int source, int i) {
	return source > BB_SPEC_HISTORY ? 0 : kind_of(p->match + i);
}

void spec_see(struct spec *s, struct branch *b, int32_t token) {
	struct spec_branch *x = b->spec;
	for (int i = 0; x != NULL && i < BB_SPEC_SOURCES; i++) {
		struct proposal *p = &x->proposals[i];
		if (p->n_seen < p->n) {
			const int kind = kind_at(p, i, p->n_seen);
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

/* The tokens of the text that a grammar forces, but the last, which what follows may become a part
 * of, and the space that SentencePiece puts before each text. */
static void propose_forced(struct spec *s, struct branch *b) {
	struct proposal *p = &b->spec->proposals[BB_SPEC_GRAMMAR];
	const struct tokenizer *t = b->request->scheduler->engine->tokenizer;
	struct bb_error ignored = { 0 };
	char text[MOST_FORCED];
	*p = (struct proposal){ 0 };
	const size_t n = (s->params.sources >> BB_SPEC_GRAMMAR & 1) == 0 ? 0
		: sampler_forced_text(&b->generation->sampler, text, sizeof(text));
	s->forced.n = 0;
	if (n < 2 || !tokenizer_encode(t, text, n, false, false, &s->forced, &ignored)) {
		return;
	}
	const struct gguf_string piece = tokenizer_piece(t, s->forced.n > 0 ? s->forced.ids[0] : 0,
		false);
	const bool has_space = piece.bytes == 1 && piece.data[0] == ' ' && text[0] != ' ';
	for (size_t i = has_space; i + 1 < s->forced.n && p->n < s->params.max_drafts; i++) {
		p->ids[p->n++] = s->forced.ids[i];
	}
}

/* How likely draft i of a proposal is right if those before it were. */
static double chance(const struct spec *s, const struct spec_branch *x, int source, int i) {
	const struct proposal *p = &x->proposals[source];
	if (i >= p->n) {
		return 0;
	}
	const int kind = kind_at(p, source, i);
	const double prior = source == BB_SPEC_MODEL ? MODEL_PRIOR
		: source == BB_SPEC_GRAMMAR ? GRAMMAR_PRIOR : PRIOR[kind];
	const double all = spec_rate_of(&s->rates[source][kind], prior, PRIOR_WEIGHT);
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
	x->n_drafts = x->most = x->proposals[BB_SPEC_MODEL].n = 0;
	x->room = most;
	if (!spec_index_add(&x->own, b->ids.ids + x->own.n, b->ids.n - (size_t)x->own.n)) {
		return;
	}
	propose(s, b, BB_SPEC_PROMPT, &x->own);
	propose(s, b, BB_SPEC_HISTORY, x->texts != NULL ? &x->texts->index : NULL);
	propose_forced(s, b);
	x->source = BB_SPEC_PROMPT;
	for (int i = 0; i < BB_SPEC_SOURCES; i++) {
		x->source = chance(s, x, i, 0) > chance(s, x, x->source, 0) ? i : x->source;
	}
	x->most = until_end(b, &x->proposals[x->source]);
	x->most = x->most < most ? x->most : most;
}

/* ---- the draft model ---- */

/* How much of what a model's rates tell is forgotten where it isn't asked: it's asked again once
 * what is believed before anything is seen has come back. */
static const double FORGETS = 0.995;
/* Before a draft of a model was timed: a part of a step. And what it has to bring. */
static const double MODEL_ROUND = 0.3, LEAST_GAIN = 1.05;

/* How many drafts of the model for n of n_decode branches bring the most, where one is right with
 * probability p: 0 where none is worth it. */
static int model_drafts(const struct spec *s, int n_decode, int n, double p) {
	const double step_s = spec_costs_step(&s->costs, n_decode);
	const double row = spec_costs_row(&s->costs, n_decode) * n;
	const double round = s->round_s > 0 && step_s > 0 ? s->round_s / step_s : MODEL_ROUND;
	double best = LEAST_GAIN, right = 1, tokens = n_decode;
	int most = 0;
	for (int k = 1; k <= s->params.max_drafts; k++) {
		right *= p;
		tokens += n * right;
		const double gain = tokens / n_decode / (1 + (row + round) * k);
		if (gain > best) {
			best = gain;
			most = k;
		}
	}
	return s->params.is_fixed ? s->params.max_drafts : most;
}

static void forget(struct spec_rate *r) {
	r->n_right *= FORGETS;
	r->n *= FORGETS;
}

/* The branches whose texts propose nothing as likely as what the model does; their number. */
static int wish(struct bb_scheduler *s, double *p) {
	struct spec *spec = s->spec;
	int n = 0;
	*p = 0;
	for (int i = 0; i < s->n_items && n < SPEC_MODEL_ITEMS; i++) {
		struct branch *b = s->of_item[i];
		struct spec_branch *x = b->spec;
		if (x == NULL || x->room <= 0) {
			continue;
		}
		struct proposal *proposal = &x->proposals[BB_SPEC_MODEL];
		*proposal = (struct proposal){ .n = 1 }; /* to be asked how likely it would be */
		const double here = chance(spec, x, BB_SPEC_MODEL, 0);
		proposal->n = 0;
		if (x->most == 0 || here > chance(spec, x, x->source, 0)) {
			spec->of_wish[n] = i;
			spec->wishes[n++] = (struct spec_wish){ .follower = &x->follower,
				.ids = b->ids.ids, .n = b->ids.n, .sampling = &b->generation->sampler.params,
				.drafts = proposal->ids };
			*p += here;
		}
	}
	*p = n > 0 ? *p / n : 0;
	return n;
}

static void ask_model(struct bb_scheduler *s, int n_decode) {
	struct spec *spec = s->spec;
	double p;
	const int n = wish(s, &p), most = n > 0 ? model_drafts(spec, n_decode, n, p) : 0;
	for (int i = 0; i < n; i++) {
		struct spec_branch *x = s->of_item[spec->of_wish[i]]->spec;
		spec->wishes[i].most = most < x->room ? most : x->room;
		if (most == 0) {
			forget(&x->rates[BB_SPEC_MODEL][0]);
		}
	}
	if (most == 0) {
		forget(&spec->rates[BB_SPEC_MODEL][0]);
		return;
	}
	const double start = requests_now(s);
	const int n_steps = spec_model_draft(spec->params.draft, engine_n_vocab(s->engine),
		spec->wishes, n);
	if (n_steps > 0) {
		const double round_s = (requests_now(s) - start) / n_steps;
		spec->round_s += (spec->round_s > 0 ? 0.2 : 1) * (round_s - spec->round_s);
	}
	for (int i = 0; i < n; i++) {
		struct spec_branch *x = s->of_item[spec->of_wish[i]]->spec;
		if (spec->wishes[i].n_drafts > 0) {
			x->proposals[BB_SPEC_MODEL].n = x->most = spec->wishes[i].n_drafts;
			x->source = BB_SPEC_MODEL;
		}
	}
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
static int likeliest(const struct bb_scheduler *s, double *p) {
	int best = -1;
	*p = 0;
	for (int i = 0; i < s->n_items; i++) {
		const struct spec_branch *x = s->of_item[i]->spec;
		if (x == NULL || x->n_drafts >= x->most) {
			continue;
		}
		const double here = s->spec->reached[i] * chance(s->spec, x, x->source, x->n_drafts);
		if (here > *p) {
			*p = here;
			best = i;
		}
	}
	return best;
}

/* A draft is worth its row where that brings more tokens a second than the step has so far. Returns
 * what the step costs with all of them, as a multiple of what it costs without. */
static double choose(struct bb_scheduler *s, int n_rows, int n_decode, double row) {
	struct spec *spec = s->spec;
	double tokens = n_decode, cost = 1, p;
	size_t spare = spare_bytes(s);
	const int room = s->params.max_step_tokens - n_rows;
	const int spare_rows = spend_spare_rows(s, requests_now(s));
	for (int left = room < spare_rows ? room : spare_rows; left > 0; left--) {
		const int i = likeliest(s, &p);
		if (i < 0 || (!spec->params.is_fixed && p * cost < MARGIN * row * tokens)) {
			return cost;
		}
		struct spec_branch *x = s->of_item[i]->spec;
		const size_t bytes = bytes_for(s, i, x->n_drafts + 1) - bytes_for(s, i, x->n_drafts);
		if (bytes > spare) {
			x->most = x->n_drafts;
			continue;
		}
		spare -= bytes;
		x->n_drafts++;
		spec->reached[i] = p;
		spec->expected[i] += p;
		tokens += p;
		cost += row;
	}
	return cost;
}

/* Nobody pays for the drafts of others: who is expected to have fewer tokens a second than without
 * any takes the last ones from those who have most. */
static void be_fair(struct bb_scheduler *s, double row, double cost) {
	struct spec *spec = s->spec;
	for (;;) {
		int most = -1;
		bool is_fair = true;
		for (int i = 0; i < s->n_items; i++) {
			const struct spec_branch *x = s->of_item[i]->spec;
			is_fair = is_fair && (s->items[i].n_tokens > 1 || spec->expected[i] >= FAIR * cost);
			if (x != NULL && x->n_drafts > 0 &&
				(most < 0 || spec->expected[i] > spec->expected[most])) {
				most = i;
			}
		}
		if (is_fair || most < 0) {
			return;
		}
		struct spec_branch *x = s->of_item[most]->spec;
		spec->expected[most] -= spec->reached[most];
		x->n_drafts--;
		spec->reached[most] /= chance(spec, x, x->source, x->n_drafts);
		cost -= row;
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
		spec->reached[i] = spec->expected[i] = 1;
		if (may_draft(s, i)) {
			look(spec, b, waits ? 0 : generation_most_drafts(b->generation));
		} else if (b->spec != NULL) {
			b->spec->n_drafts = b->spec->most = b->spec->room = 0;
		}
	}
	if (spec->params.draft != NULL && n_decode > 0) {
		ask_model(s, n_decode);
	}
	if (n_decode > 0) {
		const double row = spec_costs_row(&spec->costs, n_decode);
		const double cost = choose(s, n_rows, n_decode, row);
		if (!spec->params.is_fixed) {
			be_fair(s, row, cost);
		}
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
