/* SPDX-License-Identifier: Apache-2.0
 *
 * bobbin run: one prompt in, the generated text out. */
#include "commands.h"

#include "answers.h"
#include "constraint.h"
#include "edits.h"
#include "input.h"
#include "open.h"
#include "parts.h"
#include "prompt.h"
#include "sampling.h"
#include "speculation.h"
#include "terminal.h"

#include <string.h>

struct options {
	struct open_options open;
	struct speculation_options speculation;
	struct sampling_options sampling;
	struct constraint_options constraint;
	struct effort_options effort;
	struct edit_options edits;
	const char *prompt, *file, *system, *template_file;
	const char *feed;
	int n_logprobs;
	bool raw, json, verbose_prompt, trace_state;
};

#define AT(member) offsetof(struct options, member)

static const struct arg_option own[] = {
	{ "-p,--prompt", "TEXT", "the prompt; - or none reads stdin", ARG_TEXT, AT(prompt) },
	{ "-f,--file", "FILE", "read the prompt from a file", ARG_TEXT, AT(file) },
	{ "--system", "TEXT", "a system message before the prompt", ARG_TEXT, AT(system) },
	{ "--raw", NULL, "continue the prompt as it is, without the chat template", ARG_FLAG, AT(raw) },
	{ "--chat-template-file", "FILE", "use this template instead of the model's", ARG_TEXT,
		AT(template_file) },
	{ "--json", NULL, "print one object: text, tokens, finish_reason, counts, timings", ARG_FLAG,
		AT(json) },
	{ "--logprobs", "N",
		"with --json: log-probabilities, and the N likeliest of each place (0 to 20)",
		ARG_INT, AT(n_logprobs), 0, BB_MAX_LOGPROBS },
	{ "--trace-state", NULL, "print a line per CoT step: its log-probability, bytes of state, text",
		ARG_FLAG, AT(trace_state) },
	{ "--feed", "TEXT", "answer each token that is written with one of this text's", ARG_TEXT,
		AT(feed) },
	{ "--replay", "FILE", "do what was decided before: what --json printed then", ARG_TEXT,
		AT(effort.replay) },
	{ "--verbose-prompt", NULL, "show the prompt as the model sees it on stderr", ARG_FLAG,
		AT(verbose_prompt) },
	{ 0 },
};

static const struct arg_group groups[] = {
	{ "prompt and output", own, 0 },
	{ "sampling", sampling_table, AT(sampling) },
	{ "what the text must be", constraint_table, AT(constraint) },
	{ "how much thought", effort_table, AT(effort) },
	{ "guesses", speculation_table, AT(speculation) },
	{ "what to change on the way", edit_table, AT(edits) },
	{ "model", open_engine, AT(open) },
	{ "context", open_context, AT(open) },
	{ 0 },
};

const struct arg_command cmd_run = {
	.name = "run",
	.usage = "MODEL [-p TEXT | -f FILE] [-n N] [options]",
	.summary = "Generates text. The prompt goes through the model's chat template unless "
		"--raw is given.\n"
		"Only the generated text goes to stdout, or what --json and --trace-state print in its "
		"place; the speed and the seed go to stderr.",
	.groups = groups,
	.positional = "MODEL",
	.positional_at = AT(open.path),
	.later = OPEN_LATER,
	.main = run_main,
};

struct job { /* what a run owns; finish_job frees it */
	struct bb_engine *engine;
	struct bb_engine *draft;
	struct bb_speculation speculation;
	struct bb_grammar *grammar;
	struct bb_context *context;
	struct bb_scheduler *scheduler;
	struct effort_request request;
	struct answers answers;
	struct edits edits;
	struct input text, template_text;
	struct bb_text rendered;
	struct bb_tokens prompt, feed;
	struct parts parts;
	struct answer answer;
	struct trace trace;
};

static void finish_job(struct job *j) {
	answer_finish(&j->answer);
	bb_scheduler_destroy(j->scheduler);
	answers_finish(&j->answers);
	effort_request_finish(&j->request);
	bb_context_destroy(j->context);
	bb_grammar_destroy(j->grammar);
	bb_engine_destroy(j->engine);
	bb_engine_destroy(j->draft);
	edits_finish(&j->edits);
	bb_tokens_finish(&j->prompt);
	bb_tokens_finish(&j->feed);
	trace_finish(&j->trace);
	parts_finish(&j->parts);
	bb_text_finish(&j->rendered);
	input_finish(&j->text);
	input_finish(&j->template_text);
}

static int check_options(const struct options *o) {
	if (o->open.path == NULL) {
		return usage_error("no MODEL was given");
	}
	if (o->prompt != NULL && o->file != NULL) {
		return usage_error("-p and -f are both given; one is enough");
	}
	if (o->raw && (o->system != NULL || o->template_file != NULL)) {
		return usage_error("--raw uses no chat template, so it has no place for %s",
			o->system != NULL ? "--system" : "--chat-template-file");
	}
	const bool reads_stdin = o->file != NULL ? strcmp(o->file, "-") == 0
		: o->prompt == NULL || strcmp(o->prompt, "-") == 0;
	if (reads_stdin && o->template_file != NULL && strcmp(o->template_file, "-") == 0) {
		return usage_error("the prompt and --chat-template-file can't both be read from stdin");
	}
	if (o->n_logprobs >= 0 && !o->json) {
		return usage_error("--logprobs needs --json");
	}
	return -1;
}

/* Answers come from a scheduler. */
static bool has_requests(const struct options *o) {
	return effort_options_given(&o->effort) || speculation_given(&o->speculation);
}

static int check_effort(const struct options *o) {
	if (!has_requests(o)) {
		return -1;
	}
	if (o->trace_state || o->feed != NULL) {
		return usage_error("%s follows a single answer that nothing decides about; it can't be "
			"combined with options about thought, several answers or guesses",
			o->feed != NULL ? "--feed" : "--trace-state");
	}
	if (o->sampling.max_tokens == 0) {
		return usage_error("-n is 0, expected at least 1 token with options about thought, "
			"several answers or guesses");
	}
	return effort_options_check(&o->effort);
}

static bool read_prompt(const struct options *o, struct job *j, struct bb_error *err) {
	if (o->template_file != NULL && !input_read(o->template_file, &j->template_text, err)) {
		return false;
	}
	const char *path = o->file != NULL ? o->file : "-";
	if (o->prompt == NULL || strcmp(o->prompt, "-") == 0) {
		return input_read(path, &j->text, err);
	}
	return true;
}

static json_t *messages(const struct options *o, const char *text, size_t bytes) {
	json_t *list = json_array();
	if (o->system != NULL) {
		json_array_append_new(list, json_pack("{s:s, s:o}", "role", "system", "content",
			json_bytes(o->system, strlen(o->system))));
	}
	json_array_append_new(list, json_pack("{s:s, s:o}", "role", "user", "content",
		json_bytes(text, bytes)));
	return list;
}

/* A system message is never dropped without a word. */
static bool check_system(const struct options *o, const struct job *j, const char *source,
	struct bb_error *err) {
	if (o->system == NULL) {
		return true;
	}
	if (!prompt_has_template(j->engine, source)) {
		return input_fail(err, BB_ERR_USAGE,
			"the model has no chat template, so there is no place for --system; put the text "
			"into the prompt%s", bb_has_vocab(j->engine) ? ", or give a --chat-template-file" : "");
	}
	return prompt_check_system(j->engine, source, err);
}

static bool make_prompt(const struct options *o, struct job *j, struct bb_error *err) {
	const bool is_given = j->text.data == NULL;
	const char *text = is_given ? o->prompt : j->text.data;
	const size_t bytes = is_given ? strlen(o->prompt) : j->text.bytes;
	const char *source = o->template_file != NULL ? j->template_text.data : NULL;
	if (!prompt_check_template(j->engine, source, err) || !check_system(o, j, source, err)) {
		return false;
	}
	bool ok;
	if (o->raw || !prompt_has_template(j->engine, source)) {
		if (!o->raw) {
			notice("the model has no chat template; the prompt is continued as it is");
		}
		ok = prompt_raw(j->engine, text, bytes, &j->prompt, err);
	} else {
		json_t *list = messages(o, text, bytes);
		ok = prompt_chat(j->engine, source, list, true, &j->rendered, &j->prompt, err) &&
			parts_find(&j->parts, j->engine, source, list, &j->prompt, err);
		json_decref(list);
	}
	prompt_note_lost(&j->prompt);
	struct bb_engine_info info;
	bb_engine_info(j->engine, &info);
	if (ok && o->verbose_prompt) {
		const bool is_raw = j->rendered.data == NULL;
		fprintf(stderr, "%.*s\n(%zu tokens", (int)(is_raw ? bytes : j->rendered.bytes),
			is_raw ? text : j->rendered.data, j->prompt.n);
		for (size_t i = 0; i < j->parts.n; i++) {
			fprintf(stderr, ", %s from %d", bb_role_name(j->parts.items[i].role),
				j->parts.items[i].first);
		}
		fputs(")\n", stderr);
	}
	return ok && prompt_check(&j->prompt, info.max_len, err);
}

static bool read_feed(const struct options *o, struct job *j, struct bb_error *err) {
	return o->feed == NULL ||
		bb_tokenize(j->engine, o->feed, strlen(o->feed), false, true, &j->feed, err);
}

static void print_json(const struct job *j, uint64_t seed) {
	const struct answer *a = &j->answer;
	json_t *root = json_pack("{s:o, s:o, s:s, s:I, s:I, s:I, s:o}", "text",
		json_bytes(a->text, a->text_bytes), "tokens", answer_ids(a), "finish_reason",
		answer_reason(a), "prompt_tokens", (json_int_t)a->n_prompt, "completion_tokens",
		(json_int_t)a->tokens.n, "seed", (json_int_t)seed, "timings", answer_timings(a, 0));
	if (root != NULL && a->logprobs != NULL) {
		json_object_set_new(root, "logprobs", json_pack("{s:O}", "content", a->logprobs));
	}
	if (root != NULL && a->trace != NULL) {
		json_object_set(root, "cot_steps", a->trace->steps);
	}
	out_json_take(root, JSON_COMPACT);
}

static bool attach_edits(struct job *j, struct bb_error *err) {
	const struct bb_taps taps = { .edits = j->edits.items, .n_edits = j->edits.n };
	return j->edits.n == 0 || bb_taps_attach(j->engine, &taps, err);
}

/* What people have to know about how an answer ended. */
static void note_end(const struct answer *a) {
	if (a->was_interrupted) {
		notice("stopped after %zu token%s", a->tokens.n, a->tokens.n == 1 ? "" : "s");
	}
	if (a->finish == BB_FINISH_CONTEXT) {
		notice("the context is full; -c N makes room for more");
	}
}

/* One answer, token by token. */
static int generate(const struct options *o, struct job *j,
	const struct bb_generation_params *params) {
	struct bb_error err = { 0 };
	if (!read_feed(o, j, &err) || !bb_context_create(&j->context, j->engine, NULL, &err) ||
		!answer_init(&j->answer, !o->json && !o->trace_state, o->n_logprobs >= 0, &err)) {
		return failure_of(&err);
	}
	j->trace.steps = o->json && o->trace_state ? json_array() : NULL;
	j->answer.trace = o->trace_state ? &j->trace : NULL;
	j->answer.feed = o->feed != NULL ? &j->feed : NULL;
	j->trace.shows_read = o->feed != NULL;
	if (o->feed != NULL && !bb_tokens_push(&j->trace.read, j->prompt.ids[j->prompt.n - 1], &err)) {
		return failure_of(&err);
	}
	const bool ok = answer_generate(&j->answer, j->engine, j->context, params, &j->prompt,
		&j->parts, &err);
	if (o->json && ok) {
		print_json(j, params->sampling.seed);
	} else if (!o->json && !o->trace_state && out_meets_stderr()) {
		out_write("\n", 1); /* a program that reads this wants the text alone */
	}
	if (!out_flush()) {
		return STATUS_FAILED;
	}
	if (!ok) {
		return failure_of(&err);
	}
	note_end(&j->answer);
	edits_note_unused(&j->edits, j->engine, bb_context_length(j->context));
	answer_summary(&j->answer, params->sampling.seed);
	return j->answer.was_interrupted ? STATUS_INTERRUPTED : STATUS_OK;
}

/* ---- effort ---- */

static bool start_effort(const struct options *o, struct job *j,
	const struct bb_generation_params *params, struct bb_error *err) {
	const char *source = o->template_file != NULL ? j->template_text.data
		: bb_chat_template(j->engine);
	const bool is_raw = j->rendered.data == NULL, is_read = j->text.data != NULL;
	const char *text = !is_raw ? j->rendered.data : is_read ? j->text.data : o->prompt;
	const size_t bytes = !is_raw ? j->rendered.bytes : is_read ? j->text.bytes : strlen(o->prompt);
	if (!effort_request_init(&j->request, j->engine, &o->effort, is_raw ? NULL : source, text,
		bytes, j->prompt.n, params->max_tokens, err)) {
		return false;
	}
	const struct bb_scheduler_params one = { .max_running = j->request.n > 64 ? j->request.n : 0,
		.max_waiting = 1, .speculation = &j->speculation };
	return bb_scheduler_create(&j->scheduler, j->engine, &one, err) &&
		answers_init(&j->answers, j->engine, &j->request, !o->json, o->n_logprobs >= 0,
			o->effort.shows_decisions, err);
}

/* Tokens of the longest one with its prompt. */
static int longest(const struct job *j) {
	size_t most = 0;
	for (int i = 0; i < j->answers.n; i++) {
		const size_t n = j->answers.items[i].answer.tokens.n;
		most = n > most ? n : most;
	}
	return (int)(j->prompt.n + most);
}

static int draw(const struct options *o, struct job *j, const struct bb_generation_params *params) {
	struct bb_error err = { 0 };
	if (!start_effort(o, j, params, &err)) {
		return failure_of(&err);
	}
	struct answers *as = &j->answers;
	const bool ok = answers_draw(as, j->scheduler, &j->request, params, &j->prompt, &j->parts, NULL,
		&err);
	if (o->json && ok) {
		out_json_take(answers_json(as, params->sampling.seed), JSON_COMPACT);
	} else if (!o->json) {
		answers_print(as);
		if (out_meets_stderr()) {
			out_write("\n", 1);
		}
	}
	if (!out_flush()) {
		return STATUS_FAILED;
	}
	if (!ok) {
		return failure_of(&err);
	}
	if (as->was_interrupted) {
		notice("stopped after %d token%s", as->usage.n_output, as->usage.n_output == 1 ? "" : "s");
	} else if (answers_best(as) != NULL) {
		note_end(answers_best(as));
	}
	edits_note_unused(&j->edits, j->engine, longest(j));
	answers_summary(as, params->sampling.seed);
	return as->was_interrupted ? STATUS_INTERRUPTED : STATUS_OK;
}

static int work(const struct options *o, struct job *j) {
	struct bb_generation_params params;
	struct sampling_storage storage;
	struct bb_error err = { 0 };
	const int status = sampling_params(j->engine, &o->sampling, &storage, &params);
	if (status >= 0) {
		return status;
	}
	params.sampling.n_logprobs = o->n_logprobs > 0 ? o->n_logprobs : 0;
	params.sampling.wants_confidence = o->json && effort_options_given(&o->effort);
	if (!constraint_create(&o->constraint, j->engine, &j->grammar, &err)) {
		return failure_of(&err);
	}
	params.sampling.grammar = j->grammar;
	if (!attach_edits(j, &err) || !make_prompt(o, j, &err)) {
		return failure_of(&err);
	}
	return has_requests(o) ? draw(o, j, &params) : generate(o, j, &params);
}

int run_main(int argc, char **argv) {
	struct options o = { .sampling = SAMPLING_UNSET, .effort = EFFORT_UNSET, .n_logprobs = -1,
		.constraint.json_indent = CONSTRAINT_ONE_LINE };
	int status = args_parse(&cmd_run, argc, argv, &o);
	status = status < 0 ? check_options(&o) : status;
	status = status < 0 ? constraint_check(&o.constraint) : status;
	status = status < 0 ? check_effort(&o) : status;
	if (status >= 0) {
		return status;
	}
	struct job j = { 0 };
	struct bb_error err = { 0 };
	if (!read_prompt(&o, &j, &err) || !edits_read(&j.edits, &o.edits, &err)) {
		status = failure_of(&err);
	} else {
		o.open.taps = j.edits.n > 0;
		status = speculation_params(&o.speculation, &o.open, &j.speculation, &j.draft);
		status = status < 0 ? open_model(&o.open, OPEN_ALL, &j.engine) : status;
		status = status < 0 ? work(&o, &j) : status;
	}
	finish_job(&j);
	return status;
}
