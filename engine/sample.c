/* SPDX-License-Identifier: Apache-2.0
 *
 * Sampling. The order is vLLM's: penalties and bias on the logits, temperature, min-p, top-k, top-p
 * over what top-k left. Log-probabilities are of the unmodified logits. */
#include "sample.h"

#include <assert.h>
#include <float.h>
#include <math.h>
#include <string.h>
#include <sys/random.h>

/* ---- randomness ---- */

/* splitmix64's finaliser: neighbouring seeds give unrelated keys. */
static uint64_t mix(uint64_t x) {
	x += 0x9E3779B97F4A7C15u;
	x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
	x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
	return x ^ (x >> 31);
}

uint64_t sampler_key(uint64_t seed) {
	return mix(seed);
}

uint64_t bb_random_seed(void) {
	uint64_t seed = 0;
	if (getrandom(&seed, sizeof(seed), 0) != (ssize_t)sizeof(seed)) {
		seed = mix((uint64_t)(base_seconds() * 1e9));
	}
	return seed >> 11; /* below 2^53: JSON numbers hold it */
}

/* ---- parameters ---- */

/* What may be asked for, and the key by which a file recommends it. */
static const struct parameter {
	const char *name, *key;
	size_t at; /* of a float in struct bb_sampling */
	double min, max;
} parameters[] = {
#define AT(member) offsetof(struct bb_sampling, member)
	{ "temperature", "general.sampling.temp", AT(temperature), 0, 1e6 },
	{ "top_p", "general.sampling.top_p", AT(top_p), (double)1e-9f, 1 },
	{ "min_p", "general.sampling.min_p", AT(min_p), 0, 1 },
	{ "repetition_penalty", "general.sampling.penalty_repeat", AT(repetition_penalty),
		(double)1e-6f, 1e6 },
	{ "presence_penalty", NULL, AT(presence_penalty), -2, 2 },
	{ "frequency_penalty", NULL, AT(frequency_penalty), -2, 2 },
#undef AT
};
static const int min_top_k = -1;

static void sampling_init(struct bb_sampling *s) {
	memset(s, 0, sizeof(*s));
	s->temperature = s->top_p = s->repetition_penalty = 1;
}

bool sampling_read(struct bb_sampling *s, const struct gguf *g, struct bb_error *err) {
	sampling_init(s);
	bool found;
	for (size_t i = 0; i < COUNT(parameters); i++) {
		const struct parameter *p = &parameters[i];
		double value = 0;
		if (p->key == NULL) {
			continue;
		}
		if (!gguf_float(g, p->key, &value, &found, err)) {
			return false;
		}
		if (found && !(value >= p->min && value <= p->max)) {
			return base_fail(err, BB_ERR_FORMAT, "metadata key '%s' is %g, expected %g to %g",
				p->key, value, p->min, p->max);
		}
		if (found) {
			const float rounded = (float)value;
			memcpy((uint8_t *)s + p->at, &rounded, sizeof(rounded));
		}
	}
	const char *const key = "general.sampling.top_k";
	int64_t top_k = 0;
	if (!gguf_int(g, key, &top_k, &found, err)) {
		return false;
	}
	if (top_k < min_top_k || top_k > INT32_MAX) {
		return base_fail(err, BB_ERR_FORMAT, "metadata key '%s' is %lld, expected %d to %d", key,
			(long long)top_k, min_top_k, INT32_MAX);
	}
	s->top_k = (int)top_k;
	return true;
}

void bb_sampling_default(const struct bb_engine *e, struct bb_sampling *s) {
	if (e != NULL) {
		*s = e->sampling;
	} else {
		sampling_init(s);
	}
}

static bool check_range(const char *name, double value, double min, double max,
	struct bb_error *err) {
	return (value >= min && value <= max) ||
		base_fail(err, BB_ERR_USAGE, "%s is %g, expected %g to %g", name, value, min, max);
}

bool bb_sampling_check(const struct bb_engine *e, const struct bb_sampling *s,
	struct bb_error *err) {
	for (size_t i = 0; i < COUNT(parameters); i++) {
		const struct parameter *p = &parameters[i];
		float value;
		memcpy(&value, (const uint8_t *)s + p->at, sizeof(value));
		if (!check_range(p->name, value, p->min, p->max, err)) {
			return false;
		}
	}
	if (!check_range("top_k", s->top_k, min_top_k, INT32_MAX, err) ||
		!check_range("logprobs", s->n_logprobs, 0, BB_MAX_LOGPROBS, err)) {
		return false;
	}
	const int n_vocab = engine_n_vocab(e);
	for (int i = 0; i < s->n_logit_bias; i++) {
		const int32_t id = s->logit_bias[i].id;
		if (id < 0 || id >= n_vocab) {
			return base_fail(err, BB_ERR_USAGE, "logit_bias is for token id %d, expected 0 to %d",
				id, n_vocab - 1);
		}
		if (!check_range("logit_bias", s->logit_bias[i].bias, -100, 100, err)) {
			return false;
		}
	}
	return true;
}

/* out [n]: in [n], whose runs of `run` are sorted by ids, with runs of twice that. Equals stay in
 * their order. */
static void merge_runs(struct bb_token_bias *out, const struct bb_token_bias *in, int n, int run) {
	for (int from = 0; from < n; from += 2 * run) {
		const int middle = from + run < n ? from + run : n;
		const int end = middle + run < n ? middle + run : n;
		int a = from, b = middle;
		for (int i = from; i < end; i++) {
			out[i] = a < middle && (b == end || in[a].id <= in[b].id) ? in[a++] : in[b++];
		}
	}
}

/* What is wanted in its order, the lean, and then what is banned, sorted by ids. There is room for
 * one lean always. */
static void list_biases(struct bb_sampler *s) {
	const int n_wanted = s->params.n_logit_bias, n_added = n_wanted + (s->lean.bias != 0);
	const int n = n_added + s->n_banned;
	struct bb_token_bias *now = s->bias, *next = s->bias + n; /* there is room for two lists */
	for (int i = 0; i < n; i++) {
		now[i] = i < n_wanted ? (struct bb_token_bias){ s->wanted[i].id, s->wanted[i].bias }
			: i < n_added ? s->lean
			: (struct bb_token_bias){ s->ends[i - n_added], -INFINITY };
	}
	for (int run = 1; run < n; run *= 2) {
		struct bb_token_bias *const old = now;
		merge_runs(next, now, n, run);
		now = next;
		next = old;
	}
	if (now != s->bias) {
		memcpy(s->bias, now, (size_t)n * sizeof(*now));
	}
	s->n_bias = n;
}

static bool find_ends(struct bb_sampler *s, const struct bb_engine *e, const int32_t *more,
	int n_more, struct bb_error *err) {
	const int n_known = tokenizer_n_vocab(e->tokenizer);
	struct bb_tokens ends = { 0 };
	bool ok = true;
	for (int32_t id = 0; ok && id < n_known; id++) {
		ok = !tokenizer_is_eog(e->tokenizer, id) || bb_tokens_push(&ends, id, err);
	}
	s->n_eog = (int)ends.n;
	for (int i = 0; ok && i < n_more; i++) {
		ok = bb_tokens_push(&ends, more[i], err);
	}
	const size_t n_bias = 2 * (ends.n + (size_t)s->params.n_logit_bias + 1);
	struct bb_token_bias *bias = ok ? base_alloc(n_bias, sizeof(*bias)) : NULL;
	if (bias == NULL) {
		bb_tokens_finish(&ends);
		return ok && base_no_memory(err, "sampler", n_bias * sizeof(*bias));
	}
	base_free(s->ends);
	base_free(s->bias);
	s->bias = bias;
	s->ends = ends.ids;
	s->n_ends = s->n_banned = (int)ends.n;
	list_biases(s);
	return true;
}

bool sampler_ban_ends(struct bb_sampler *s, const struct bb_engine *e, const int32_t *ids, int n,
	struct bb_error *err) {
	return find_ends(s, e, ids, n, err);
}

void sampler_allow_ends(struct bb_sampler *s) {
	s->n_banned = s->params.ignore_eos ? s->n_eog : 0;
	s->has_mask = false;
	list_biases(s);
}

void sampler_force(struct bb_sampler *s, int32_t id) {
	s->forced = (struct bb_token_bias){ id, INFINITY }; /* what is infinitely likely is taken */
}

void sampler_lean(struct bb_sampler *s, int32_t id, float bias) {
	if (s->lean.bias != bias || (bias != 0 && s->lean.id != id)) {
		s->lean = (struct bb_token_bias){ id, bias };
		list_biases(s);
	}
}

bool sampler_keep_row(struct bb_sampler *s, struct bb_error *err) {
	const size_t n = (size_t)s->n_vocab;
	s->row = s->row != NULL ? s->row : base_alloc(n, sizeof(float));
	return s->row != NULL || base_no_memory(err, "sampler", n * sizeof(float));
}

static bool begin_grammar(struct bb_sampler *s, struct bb_error *err) {
	const struct bb_grammar *const g = s->params.grammar;
	s->last = s->drawn = BB_SAMPLE_ID_NONE;
	if (g == NULL) {
		return true;
	}
	const struct token_tree *const t = grammar_tree(g);
	if (t->n_vocab != s->n_vocab) {
		return base_fail(err, BB_ERR_USAGE, "the grammar is for %d tokens, the model has %d",
			t->n_vocab, s->n_vocab);
	}
	s->mask = base_alloc((size_t)t->n_words, sizeof(*s->mask));
	if (s->mask == NULL) {
		return base_no_memory(err, "sampler", (size_t)t->n_words * sizeof(*s->mask));
	}
	return grammar_begin(g, &s->matcher, err);
}

bool sampler_init(struct bb_sampler *s, const struct bb_engine *e, const struct bb_sampling *params,
	struct bb_error *err) {
	memset(s, 0, sizeof(*s));
	if (!bb_sampling_check(e, params, err)) {
		return false;
	}
	s->params = *params;
	s->forced.id = BB_SAMPLE_ID_NONE;
	s->n_vocab = hparam_int(&e->plan.hp, H_VOCAB);
	const bool has_penalty = params->repetition_penalty != 1 || params->presence_penalty != 0 ||
		params->frequency_penalty != 0;
	const size_t n = (size_t)s->n_vocab, n_bias = (size_t)params->n_logit_bias;
	s->row = draws_there(e) ? NULL : base_alloc(n, sizeof(float));
	s->logits = base_alloc(n, sizeof(float));
	s->probs = base_alloc(n, sizeof(float));
	s->order = base_alloc(n, sizeof(int32_t));
	s->wanted = base_alloc(n_bias, sizeof(*s->wanted));
	s->bias = base_alloc(2 * (n_bias + 1), sizeof(*s->bias));
	s->counts = has_penalty ? base_alloc(n, sizeof(*s->counts)) : NULL;
	s->place = has_penalty ? base_alloc(n, sizeof(*s->place)) : NULL;
	if (s->logits == NULL || s->probs == NULL || s->order == NULL || s->wanted == NULL ||
		s->bias == NULL || (s->row == NULL && !draws_there(e)) ||
		(has_penalty && (s->counts == NULL || s->place == NULL))) {
		sampler_finish(s);
		return base_no_memory(err, "sampler", n * sizeof(float));
	}
	if (n_bias > 0) {
		memcpy(s->wanted, params->logit_bias, n_bias * sizeof(*s->wanted));
	}
	s->params.logit_bias = s->wanted;
	list_biases(s);
	if ((params->ignore_eos && !find_ends(s, e, NULL, 0, err)) || !begin_grammar(s, err)) {
		sampler_finish(s);
		return false;
	}
	return true;
}

void sampler_finish(struct bb_sampler *s) {
	base_free(s->logits);
	base_free(s->probs);
	base_free(s->order);
	base_free(s->row);
	base_free(s->wanted);
	base_free(s->bias);
	base_free(s->ends);
	base_free(s->counts);
	base_free(s->place);
	base_free(s->mask);
	matcher_finish(&s->matcher);
	memset(s, 0, sizeof(*s));
}

bool bb_sampler_create(struct bb_sampler **out, const struct bb_engine *e,
	const struct bb_sampling *params, struct bb_error *err) {
	*out = base_alloc(1, sizeof(**out));
	if (*out == NULL) {
		return base_no_memory(err, "sampler", sizeof(**out));
	}
	if (!sampler_init(*out, e, params, err)) {
		base_free(*out);
		*out = NULL;
	}
	return *out != NULL;
}

void bb_sampler_destroy(struct bb_sampler *s) {
	if (s != NULL) {
		sampler_finish(s);
		base_free(s);
	}
}

/* Where a token is counted, or NULL without penalties. */
static struct bb_token_count *count_of(struct bb_sampler *s, int32_t id) {
	if (s->counts == NULL) {
		return NULL;
	}
	if (s->place[id] == 0) {
		s->counts[s->n_counts] = (struct bb_token_count){ id, 0 };
		s->place[id] = ++s->n_counts;
	}
	return &s->counts[s->place[id] - 1];
}

void bb_sampler_prompt(struct bb_sampler *s, const int32_t *ids, size_t n) {
	for (size_t i = 0; i < n; i++) {
		if (!vectors_is(ids[i])) {
			assert(ids[i] >= 0 && ids[i] < s->n_vocab);
			count_of(s, ids[i]);
		}
	}
}

void sampler_count(struct bb_sampler *s, int32_t id) {
	const int before = s->n_counts;
	struct bb_token_count *t = count_of(s, id);
	if (t != NULL) {
		t->n_output++;
	}
	s->has_new_count = s->n_counts > before;
	s->last = s->drawn = id;
	s->has_mask = false;
}

static void uncount(struct bb_sampler *s, int32_t id) {
	struct bb_token_count *t = count_of(s, id);
	if (t != NULL) {
		t->n_output--;
	}
	if (s->has_new_count) { /* it's the last one */
		s->n_counts--;
		s->place[id] = 0;
	}
}

bool sampler_is_steady(const struct bb_sampler *s) {
	return s->counts == NULL && s->mask == NULL && !s->is_led &&
		s->n_banned == (s->params.ignore_eos ? s->n_eog : 0);
}

void sampler_replace(struct bb_sampler *s, const struct bb_engine *e, int32_t id,
	struct bb_sampled *out) {
	assert(s->from != NULL);
	uncount(s, out->id);
	out->id = id;
	sampler_report(s, e, s->from, s->params.n_logprobs, out);
	sampler_count(s, id);
}

/* ---- grammars ---- */

/* Behind an end nothing but another one can come. */
static void allow_ends_only(struct bb_sampler *s) {
	const struct token_tree *const t = grammar_tree(s->params.grammar);
	memset(s->mask, 0, (size_t)t->n_words * sizeof(*s->mask));
	for (int i = 0; i < t->n_ends; i++) {
		s->mask[t->ends[i] >> 5] |= 1u << (t->ends[i] & 31);
	}
}

static bool follow_drawn(struct bb_sampler *s, const struct bb_engine *e, struct bb_error *err) {
	const int32_t id = s->drawn;
	if (id == BB_SAMPLE_ID_NONE || s->has_ended) {
		return true;
	}
	s->has_ended = tokenizer_is_eog(e->tokenizer, id);
	bool is_mark;
	const struct gguf_string text = token_tree_text(e->tokenizer, id, &is_mark);
	if (!s->has_ended && ((is_mark &&
		!grammar_accept(s->params.grammar, &s->matcher, TOKENS_MARK, 1, err)) ||
		!grammar_accept(s->params.grammar, &s->matcher, text.data, text.bytes, err))) {
		return false;
	}
	s->drawn = BB_SAMPLE_ID_NONE;
	return true;
}

bool sampler_allows(const struct bb_sampler *s, int32_t id) {
	return s->mask == NULL || (s->mask[id >> 5] >> (id & 31) & 1) != 0;
}

bool sampler_prepare(struct bb_sampler *s, const struct bb_engine *e, struct bb_error *err) {
	if (s->mask == NULL || s->has_mask) {
		return true;
	}
	if (!follow_drawn(s, e, err)) {
		return false;
	}
	if (s->has_ended) {
		allow_ends_only(s);
	} else if (!grammar_mask(s->params.grammar, &s->matcher, s->mask, err)) {
		return false;
	}
	uint32_t before = 0, after = 0;
	const int n_words = grammar_tree(s->params.grammar)->n_words;
	for (int i = 0; i < n_words; i++) {
		before |= s->mask[i];
	}
	for (int i = 0; i < s->n_banned; i++) {
		s->mask[s->ends[i] >> 5] &= ~(1u << (s->ends[i] & 31));
	}
	for (int i = 0; i < n_words; i++) {
		after |= s->mask[i];
	}
	s->has_mask = after != 0;
	return s->has_mask || base_fail(err, BB_ERR_INPUT, before != 0
		? "the grammar allows nothing but an end here, which min_tokens or ignore_eos forbids"
		: s->matcher.was_too_deep ? "the text is nested too deep for the grammar to go on"
		: "no token of the vocabulary can go on with the text as the grammar wants it");
}

size_t sampler_forced_text(struct bb_sampler *s, char *out, size_t most) {
	if (s->mask == NULL || !s->has_mask || s->has_ended) {
		return 0;
	}
	const size_t n = grammar_forced(s->params.grammar, &s->matcher, out, most);
	const char *mark = memmem(out, n, TOKENS_MARK, 1);
	return mark != NULL ? (size_t)(mark - out) : n;
}

/* ---- one draw ---- */

void sampler_params(const struct bb_sampler *s, int token_index, struct bb_sample_params *p) {
	const struct bb_sampling *from = &s->params;
	*p = (struct bb_sample_params){
		.temperature = from->temperature, .top_k = from->top_k, .top_p = from->top_p,
		.min_p = from->min_p, .repetition_penalty = from->repetition_penalty,
		.presence_penalty = from->presence_penalty,
		.frequency_penalty = from->frequency_penalty,
		.n_counts = s->n_counts, .n_bias = s->n_bias, .counts = s->counts, .bias = s->bias,
		.key = sampler_key(from->seed), .token_index = (uint32_t)token_index,
		.n_top = from->n_logprobs, .n_confidence = from->wants_confidence ? BB_SAMPLE_TOP : 0,
		.mask = s->mask,
	};
	if (s->forced.id != BB_SAMPLE_ID_NONE) {
		p->n_counts = 0;
		p->n_bias = 1;
		p->bias = &s->forced;
		p->mask = NULL;
	}
}

/* The logits to draw from: the model's own, or a changed copy. */
static const float *adjusted(struct bb_sampler *s, const float *logits, int token_index) {
	struct bb_sample_params p;
	sampler_params(s, token_index, &p);
	if (p.n_counts == 0 && p.n_bias == 0 && p.mask == NULL) {
		return logits;
	}
	sample_adjust(s->logits, logits, s->n_vocab, &p);
	return s->logits;
}

/* Candidates in s->order, most likely first; their number. Only what can pass the filters is looked
 * at: tokens below (1 - top_p) / n_vocab add up to less than 1 - top_p, so the nucleus has none. */
static int filter(struct bb_sampler *s, float p_max) {
	const struct bb_sampling *p = &s->params;
	const bool has_top_k = p->top_k > 0 && p->top_k < s->n_vocab;
	float least = p->min_p * p_max;
	if (!has_top_k && p->min_p == 0 && p->top_p < 1) {
		least = fmaxf(least, (1 - p->top_p) / (float)s->n_vocab);
	}
	int n = 0;
	for (int i = 0; i < s->n_vocab; i++) {
		if (s->probs[i] >= least) {
			s->order[n++] = i;
		}
	}
	n = sample_top(s->order, n, has_top_k ? p->top_k : n, s->probs);
	double total = 1; /* top-p is a share of what top-k and min-p left */
	if (has_top_k || p->min_p > 0) {
		total = 0;
		for (int i = 0; i < n; i++) {
			total += s->probs[s->order[i]];
		}
	}
	double sum = 0;
	for (int i = 0; i < n; i++) {
		sum += s->probs[s->order[i]];
		if (sum >= p->top_p * total) {
			return p->top_p < 1 ? i + 1 : n;
		}
	}
	return n;
}

/* Inverse CDF over the candidates (order NULL: over all, by index). */
static int32_t draw(const struct bb_sampler *s, const int32_t *order, int n, double u) {
	double total = 0;
	for (int i = 0; i < n; i++) {
		total += s->probs[order != NULL ? order[i] : i];
	}
	double left = u * total;
	int32_t last = order != NULL ? order[0] : 0;
	for (int i = 0; i < n; i++) {
		const int32_t id = order != NULL ? order[i] : i;
		if (s->probs[id] > 0) {
			last = id;
			left -= s->probs[id];
			if (left < 0) {
				break;
			}
		}
	}
	return last;
}

/* Whole numbers all the way, so that the compiler makes vectors of it: a vocabulary has 250 000. */
static bool all_finite(const float *logits, int n) {
	const uint32_t exponent = 0x7F800000u;
	uint32_t n_wrong = 0;
	for (int i = 0; i < n; i++) {
		uint32_t bits;
		memcpy(&bits, &logits[i], sizeof(bits));
		n_wrong += (bits & exponent) == exponent;
	}
	return n_wrong == 0;
}

static int32_t pick(struct bb_sampler *s, const struct bb_engine *e, const float *logits,
	int token_index) {
	const struct bb_sampling *p = &s->params;
	int32_t best = 0;
	e->cpu_kernels.argmax(e->pool, &best, logits, s->n_vocab);
	/* A bias or a penalty may have made the best infinite. Where 1 / T or the scaled logits
	 * overflow, nothing but the best has a probability: below a temperature of about 1e-37. */
	const float inverse = 1 / p->temperature;
	if (!isfinite(logits[best]) || !isfinite(inverse) || !isfinite(inverse * logits[best])) {
		return best;
	}
	float log_sum;
	e->cpu_kernels.softmax(e->pool, s->probs, &log_sum, logits, s->n_vocab, inverse);
	const double u = philox_unit(sampler_key(p->seed), (uint32_t)token_index);
	const bool has_filter = (p->top_k > 0 && p->top_k < s->n_vocab) || p->top_p < 1 || p->min_p > 0;
	if (!has_filter) {
		return draw(s, NULL, s->n_vocab, u);
	}
	return draw(s, s->order, filter(s, s->probs[best]), u);
}

/* Finite for finite logits: a logit 3e38 below the best can't be told from one that is lower
 * still. */
static float log_probability(float logit, float base) {
	return fmaxf(logit - base, -FLT_MAX);
}

/* x among the `n` largest, which fall: [BB_SAMPLE_TOP]; how many there are then. */
static int keep_largest(float *largest, int n, float x) {
	int at = n < BB_SAMPLE_TOP ? n : BB_SAMPLE_TOP - 1;
	for (; at > 0 && largest[at - 1] < x; at--) {
		largest[at] = largest[at - 1];
	}
	largest[at] = x;
	return n < BB_SAMPLE_TOP ? n + 1 : n;
}

/* How far a logit lies below the best. */
static double depth_of(float logit, float best) {
	const double below = (double)best - (double)logit;
	return below < BB_SAMPLE_BELOW ? below : BB_SAMPLE_BELOW;
}

/* How sure the model is, of finite logits, with log_sum as softmax has it. Few stretches of a
 * vocabulary have one of its largest, so most are only compared and summed, by vectors: sums of
 * LANES of their own, which don't depend on how many the CPU adds at once. */
static void measure_confidence(const float *logits, int n_vocab, float best, float log_sum,
	struct bb_sampled *out) {
	enum { STRETCH = 512, LANES = 8 };
	float largest[BB_SAMPLE_TOP];
	double lanes[LANES] = { 0 }, sum = 0, top = 0;
	int n = 0;
	for (int from = 0; from < n_vocab; from += STRETCH) {
		const int end = n_vocab - from < STRETCH ? n_vocab : from + STRETCH;
		const float bar = n < BB_SAMPLE_TOP ? -INFINITY : largest[BB_SAMPLE_TOP - 1];
		uint32_t n_above = 0;
		for (int i = from; i < end; i++) {
			n_above += logits[i] > bar;
		}
		int i = from;
		for (; i + LANES <= end; i += LANES) {
			for (int j = 0; j < LANES; j++) {
				lanes[j] += depth_of(logits[i + j], best);
			}
		}
		for (; i < end; i++) {
			sum += depth_of(logits[i], best);
		}
		for (i = from; n_above > 0 && i < end; i++) {
			if (n < BB_SAMPLE_TOP || logits[i] > largest[BB_SAMPLE_TOP - 1]) {
				n = keep_largest(largest, n, logits[i]);
			}
		}
	}
	for (int j = 0; j < LANES; j++) {
		sum += lanes[j];
	}
	for (int j = 0; j < n; j++) {
		top -= (double)log_probability(largest[j], best + log_sum);
	}
	out->confidence = (float)(top / n);
	out->certainty = (float)fmax(sum / n_vocab + (double)log_sum - log(n_vocab), 0);
}

void sampler_report(struct bb_sampler *s, const struct bb_engine *e, const float *logits, int n_top,
	struct bb_sampled *out) {
	int32_t best = 0;
	float log_sum;
	e->cpu_kernels.argmax(e->pool, &best, logits, s->n_vocab);
	e->cpu_kernels.softmax(e->pool, NULL, &log_sum, logits, s->n_vocab, 1);
	const float base = logits[best] + log_sum;
	out->logprob = log_probability(logits[out->id], base);
	out->confidence = out->certainty = 0;
	if (s->params.wants_confidence) {
		measure_confidence(logits, s->n_vocab, logits[best], log_sum, out);
	}
	out->n_top = n_top;
	if (out->n_top > 0) {
		for (int i = 0; i < s->n_vocab; i++) {
			s->order[i] = i;
		}
		out->n_top = sample_top(s->order, s->n_vocab, out->n_top, logits);
		for (int i = 0; i < out->n_top; i++) {
			out->top_ids[i] = s->order[i];
			out->top_logprobs[i] = log_probability(logits[s->order[i]], base);
		}
	}
}

void sampler_choose(struct bb_sampler *s, const struct bb_engine *e, const float *logits,
	int token_index, struct bb_sampled *out) {
	out->id = BB_SAMPLE_ID_NONE;
	s->from = logits;
	if (all_finite(logits, s->n_vocab)) {
		out->id = pick(s, e, adjusted(s, logits, token_index), token_index);
		sampler_report(s, e, logits, s->params.n_logprobs, out);
	}
}

bool sampler_refuse(bool is_edited, int token_index, struct bb_error *err) {
	return base_fail(err, is_edited ? BB_ERR_INPUT : BB_ERR_FORMAT,
		"expected finite logits after token %d, some are NaN or infinite; is %s?",
		token_index - 1, is_edited ? "an edit too large" : "the file damaged");
}
