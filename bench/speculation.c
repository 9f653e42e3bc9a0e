/* SPDX-License-Identifier: Apache-2.0
 *
 * What drafts bring: the same requests with and without them, in turns, on one scheduler. Three
 * kinds of work: a file that is to be repeated with a change, JSON by a schema with long keys, and
 * free text. Each request has a cache salt of its own, so none finds what another wrote; `json
 * again` is for what a server finds that answered one schema before. Of models without a vocabulary
 * (bench/random_recurrent writes some) random ids are asked to go on: greedily such a model soon
 * repeats itself, at temperature 1 never. Says for each kind the tokens
 * a second, the ratio of each pair (its median, least and most), and drafts by source. That answers
 * are the same with and without is checked as well.
 *
 * speculation MODEL [PAIRS [TOKENS [KIND...]]]      5 256, all kinds */
#include "bobbin.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_PAIRS = 100, MAX_TOKENS = 4096, N_SIDES = 2 }; /* sides: without, with */

static _Noreturn void fail(const char *why) {
	fprintf(stderr, "speculation: %s\n", why);
	exit(1);
}

/* ---- what is asked ---- */

/* A file in Python, another one for each number. */
static void put_file(FILE *f, int number) {
	static const char *const nouns[] = { "order", "invoice", "customer", "shipment", "refund",
		"account", "payment", "product" };
	static const char *const verbs[] = { "load", "check", "store", "format", "merge", "count" };
	unsigned x = 12345u + 977u * (unsigned)number;
	fprintf(f, "import json\nimport logging\n\nlog = logging.getLogger(__name__)\n");
	for (int i = 0; i < 6; i++) {
		x = x * 1664525u + 1013904223u;
		const char *noun = nouns[(x >> 10) % 8], *verb = verbs[(x >> 20) % 6];
		const int limit = (int)(x >> 8) % 900 + 100;
		fprintf(f, "\n\ndef %s_%s_%d(items, limit=%d):\n"
			"    \"\"\"%s each %s that is below the limit.\"\"\"\n    result = []\n"
			"    for item in items:\n        if item[\"%s_total\"] > limit:\n"
			"            log.warning(\"%s %%s is too large\", item[\"id\"])\n"
			"            continue\n        result.append(item)\n    return result\n",
			verb, noun, i, limit, verb, noun, noun, noun);
	}
}

static void put_edit(FILE *f, int number) {
	fprintf(f, "Here is a file:\n\n```python\n");
	put_file(f, number);
	fprintf(f, "```\n\nReplace the name `result` by `kept` everywhere. Answer with the whole "
		"file and nothing else.");
}

static void put_json(FILE *f, int number) {
	static const char *const subjects[] = { "planets of the solar system", "rivers of Europe",
		"programming languages", "composers", "chemical elements", "capital cities" };
	fprintf(f, "Describe some %s as JSON.", subjects[number % 6]);
}

static void put_free(FILE *f, int number) {
	static const char *const subjects[] = { "a lighthouse keeper", "the first trains",
		"why bread rises", "a lost letter", "how maps were made", "the sea in winter" };
	fprintf(f, "Write a long text about %s.", subjects[number % 6]);
}

static const char schema[] = "{\"type\":\"array\",\"minItems\":8,\"items\":{\"type\":\"object\","
	"\"properties\":{\"official_name_in_english\":{\"type\":\"string\",\"maxLength\":24},"
	"\"short_description_for_readers\":{\"type\":\"string\",\"maxLength\":60},"
	"\"year_of_first_mention\":{\"type\":\"integer\",\"minimum\":0,\"maximum\":2100},"
	"\"is_commonly_known_today\":{\"type\":\"boolean\"},"
	"\"estimated_importance_score\":{\"type\":\"integer\",\"minimum\":0,\"maximum\":100}},"
	"\"required\":[\"official_name_in_english\",\"short_description_for_readers\","
	"\"year_of_first_mention\",\"is_commonly_known_today\",\"estimated_importance_score\"],"
	"\"additionalProperties\":false}}";

static const struct kind {
	const char *name;
	void (*put)(FILE *f, int number);
	float temperature;
	bool has_schema, has_history;
} kinds[] = {
	{ "edit", put_edit, 0, false, false },
	{ "json", put_json, 0, true, false },
	{ "json again", put_json, 0, true, true },
	{ "free, greedy", put_free, 0, false, false },
	{ "free", put_free, 1, false, false },
	{ "ids, greedy", NULL, 0, false, false },
	{ "ids", NULL, 1, false, false },
};
enum { N_KINDS = sizeof(kinds) / sizeof(kinds[0]) };

/* ---- one request ---- */

struct answer {
	int32_t ids[MAX_TOKENS]; /* [n] */
	int n;
	struct bb_usage usage;
};

static void on_event(void *user, const struct bb_event *event) {
	struct answer *a = user;
	if (event->kind == BB_EVENT_TOKEN && a->n < MAX_TOKENS) {
		a->ids[a->n++] = event->token->id;
	} else if (event->kind == BB_EVENT_FAILED) {
		fail(event->error->text);
	}
	if (event->usage != NULL) {
		a->usage = *event->usage;
	}
}

/* The question as the model's chat template has it. */
static void make_prompt(struct bb_engine *e, const struct kind *k, int number,
	struct bb_tokens *out) {
	struct bb_text rendered = { 0 };
	struct bb_error err = { 0 };
	char *text = NULL, *vars = NULL;
	size_t bytes, vars_bytes;
	for (int i = 0; k->put == NULL && i < 200; i++) {
		const uint32_t x = (uint32_t)(number * 1000 + i) * 2654435761u;
		if (!bb_tokens_push(out, (int32_t)(x >> 8) % 1000, &err)) {
			fail(err.text);
		}
	}
	if (k->put == NULL) {
		return;
	}
	FILE *f = open_memstream(&text, &bytes);
	k->put(f, number);
	fclose(f);
	f = open_memstream(&vars, &vars_bytes);
	fprintf(f, "{\"messages\":[{\"role\":\"user\",\"content\":\"");
	for (size_t i = 0; i < bytes; i++) {
		if (text[i] == '\n') {
			fprintf(f, "\\n");
		} else {
			fprintf(f, text[i] == '"' || text[i] == '\\' ? "\\%c" : "%c", text[i]);
		}
	}
	fprintf(f, "\"}],\"add_generation_prompt\":true}");
	fclose(f);
	if (!bb_template_render(e, NULL, vars, vars_bytes, &rendered, &err) ||
		!bb_tokenize(e, rendered.data, rendered.bytes, bb_token_adds_bos(e), true, out, &err)) {
		fail(err.text);
	}
	bb_text_finish(&rendered);
	free(text);
	free(vars);
}

struct bench {
	struct bb_engine *engine;
	struct bb_scheduler *scheduler;
	struct bb_grammar *grammar;
	int n_pairs, n_tokens, n_asked;
};

static void ask(struct bench *b, const struct kind *k, int number, bool drafts,
	struct answer *a) {
	char salt[32];
	struct bb_tokens prompt = { 0 };
	struct bb_request *r;
	struct bb_error err = { 0 };
	bool idle = false;
	make_prompt(b->engine, k, number, &prompt);
	snprintf(salt, sizeof(salt), k->has_history ? "%s" : "%s %d", k->name, b->n_asked++);
	struct bb_request_params p = { .prompt = prompt.ids, .n_prompt = prompt.n,
		.cache_salt = salt, .no_speculation = !drafts, .event = on_event, .user = a };
	bb_sampling_default(b->engine, &p.generation.sampling);
	p.generation.sampling.repetition_penalty = 1;
	p.generation.sampling.temperature = k->temperature;
	p.generation.sampling.seed = (uint64_t)number;
	p.generation.sampling.ignore_eos = !k->has_schema;
	p.generation.sampling.grammar = k->has_schema ? b->grammar : NULL;
	p.generation.max_tokens = b->n_tokens;
	a->n = 0;
	if (!bb_request_submit(&r, b->scheduler, &p, &err)) {
		fail(err.text);
	}
	while (!idle) {
		if (!bb_scheduler_step(b->scheduler, &idle, &err)) {
			fail(err.text);
		}
	}
	bb_request_release(r);
	bb_tokens_finish(&prompt);
}

/* ---- a kind ---- */

static int by_value(const void *a, const void *b) {
	const double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

static void run_kind(struct bench *b, const struct kind *k) {
	static struct answer answers[N_SIDES];
	double ratios[MAX_PAIRS], seconds[N_SIDES] = { 0 };
	struct bb_spec_count counts[BB_SPEC_SOURCES] = { { 0 } };
	int n_tokens = 0;
	for (int i = 0; i < b->n_pairs; i++) {
		for (int j = 0; j < N_SIDES; j++) {
			const int side = (i + j) % 2;
			ask(b, k, i, side == 1, &answers[side]);
		}
		if (answers[0].n != answers[1].n || answers[0].n < 2 || memcmp(answers[0].ids,
			answers[1].ids, (size_t)answers[0].n * sizeof(int32_t)) != 0) {
			fail("an answer with drafts is another one than without");
		}
		for (int side = 0; side < N_SIDES; side++) {
			seconds[side] += answers[side].usage.output_s;
		}
		for (int s = 0; s < BB_SPEC_SOURCES; s++) {
			counts[s].n_drafted += answers[1].usage.spec[s].n_drafted;
			counts[s].n_accepted += answers[1].usage.spec[s].n_accepted;
		}
		n_tokens += answers[0].n - 1;
		ratios[i] = answers[0].usage.output_s / answers[1].usage.output_s;
	}
	qsort(ratios, (size_t)b->n_pairs, sizeof(*ratios), by_value);
	printf("%-13s %8.1f %8.1f   %5.2f  %5.2f  %5.2f ", k->name, n_tokens / seconds[0],
		n_tokens / seconds[1], ratios[b->n_pairs / 2], ratios[0], ratios[b->n_pairs - 1]);
	for (int s = 0; s < BB_SPEC_SOURCES; s++) {
		if (counts[s].n_drafted > 0) {
			printf("  %s %d/%d", bb_spec_source_name((enum bb_spec_source)s),
				(int)counts[s].n_accepted, (int)counts[s].n_drafted);
		}
	}
	printf("\n");
	fflush(stdout);
}

static bool is_wanted(const struct bench *b, const struct kind *k, char **names, int n) {
	if ((k->put != NULL) != bb_has_vocab(b->engine)) {
		return false;
	}
	for (int i = 0; i < n; i++) {
		if (strcmp(names[i], k->name) == 0) {
			return true;
		}
	}
	return n == 0;
}

int main(int argc, char **argv) {
	struct bench b = { .n_pairs = argc > 2 ? atoi(argv[2]) : 5,
		.n_tokens = argc > 3 ? atoi(argv[3]) : 256 };
	const struct bb_engine_params params = { .path = argc > 1 ? argv[1] : NULL,
		.max_model_len = 8192 };
	struct bb_error err = { 0 };
	if (argc < 2 || b.n_pairs < 1 || b.n_pairs > MAX_PAIRS || b.n_tokens < 2 ||
		b.n_tokens > MAX_TOKENS) {
		fprintf(stderr, "usage: speculation MODEL [PAIRS [TOKENS [KIND...]]]\n");
		return 2;
	}
	if (!bb_engine_open(&b.engine, bb_models, &params, &err) ||
		!bb_scheduler_create(&b.scheduler, b.engine, NULL, &err) ||
		(bb_has_vocab(b.engine) && !bb_grammar_create(&b.grammar, b.engine,
			BB_GRAMMAR_JSON_SCHEMA, schema, strlen(schema), &err))) {
		fail(err.text);
	}
	printf("%-13s %8s %8s   %5s  %5s  %5s   right/drafted\n", "", "without", "with", "ratio",
		"least", "most");
	for (int i = 0; i < N_KINDS; i++) {
		if (is_wanted(&b, &kinds[i], argv + 4, argc > 4 ? argc - 4 : 0)) {
			run_kind(&b, &kinds[i]);
		}
	}
	bb_scheduler_destroy(b.scheduler);
	bb_grammar_destroy(b.grammar);
	bb_engine_destroy(b.engine);
	return 0;
}
