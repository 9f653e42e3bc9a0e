/* SPDX-License-Identifier: Apache-2.0
 *
 * bobbin chat: a conversation. The whole of it is rendered anew for each turn; what the context
 * already holds of that is kept, only the rest is read. */
#include "commands.h"

#include "answers.h"
#include "input.h"
#include "line.h"
#include "open.h"
#include "output.h"
#include "parts.h"
#include "prompt.h"
#include "sampling.h"
#include "terminal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

struct options {
	struct open_options open;
	struct sampling_options sampling;
	struct effort_options effort;
	const char *system, *template_file;
};

#define AT(member) offsetof(struct options, member)

static const struct arg_option own[] = {
	{ "--system", "TEXT", "a system message before the conversation", ARG_TEXT, AT(system) },
	{ "--chat-template-file", "FILE", "use this template instead of the model's", ARG_TEXT,
		AT(template_file) },
	{ 0 },
};

static const struct arg_group groups[] = {
	{ "conversation", own, 0 },
	{ "sampling", sampling_table, AT(sampling) },
	{ "how much thought", effort_table, AT(effort) },
	{ "model", open_engine, AT(open) },
	{ "context", open_context, AT(open) },
	{ 0 },
};

const struct arg_command cmd_chat = {
	.name = "chat",
	.usage = "MODEL [--system TEXT] [options]",
	.summary = "Talks with a model, line by line.\n"
		"A line that begins with / is a command: /help lists them. Ctrl-C stops the answer, "
		"Ctrl-D leaves.\n"
		"Reads lines from a pipe as well, then without prompts.",
	.groups = groups,
	.positional = "MODEL",
	.positional_at = AT(open.path),
	.later = OPEN_LATER ",--session",
	.main = chat_main,
};

struct chat { /* finish_chat frees it */
	struct bb_engine *engine;
	struct bb_context *context;            /* NULL: answers come from the scheduler */
	struct bb_scheduler *scheduler;
	const struct effort_options *effort;   /* with it */
	struct parts parts;                    /* of the last prompt, with it */
	int n_timeline;                        /* tokens of that prompt and its answer */
	struct bb_generation_params params;
	struct sampling_storage storage;
	struct input template_text;
	json_t *messages; /* array of {role, content} */
	struct line_reader *reader;
	bool has_template, is_over, has_failed;
	uint64_t first_seed;
	size_t n_read, n_made;
};

static void finish_chat(struct chat *c) {
	bb_scheduler_destroy(c->scheduler);
	parts_finish(&c->parts);
	bb_context_destroy(c->context);
	bb_engine_destroy(c->engine);
	input_finish(&c->template_text);
	json_decref(c->messages);
	line_destroy(c->reader);
}

/* ---- messages ---- */

static void add_message(struct chat *c, const char *role, const char *text, size_t bytes) {
	json_array_append_new(c->messages, json_pack("{s:s, s:o}", "role", role, "content",
		json_bytes(text, bytes)));
}

static const char *role_of(const struct chat *c, size_t i) {
	const char *role = json_string_value(json_object_get(json_array_get(c->messages, i), "role"));
	return role != NULL ? role : "";
}

static bool last_is(const struct chat *c, const char *role) {
	const size_t n = json_array_size(c->messages);
	return n > 0 && strcmp(role_of(c, n - 1), role) == 0;
}

static void drop_last(struct chat *c) {
	json_array_remove(c->messages, json_array_size(c->messages) - 1);
}

static bool make_prompt(struct chat *c, struct bb_text *rendered, struct bb_tokens *out,
	struct bb_error *err) {
	struct bb_engine_info info;
	bb_engine_info(c->engine, &info);
	const bool ok = prompt_chat(c->engine, c->template_text.data, c->messages, true, rendered, out,
		err);
	if (ok && out->n > (size_t)info.max_len) {
		return input_fail(err, BB_ERR_CONTEXT, "the conversation would have %zu tokens, but the "
			"context holds only %d; /clear forgets it, -c N makes room for more", out->n,
			info.max_len);
	}
	return ok && prompt_check(out, info.max_len, err);
}

/* ---- one answer ---- */

/* What came of it, for the conversation. */
struct outcome {
	const char *text; /* [bytes], of what was drawn */
	size_t bytes;
	enum bb_finish finish;
	bool was_interrupted;
	int n_timeline;
};

static bool generate(struct chat *c, struct answer *a, struct outcome *out, struct bb_error *err) {
	struct bb_text rendered = { 0 };
	struct bb_tokens prompt = { 0 };
	struct parts parts = { 0 };
	const bool ok = make_prompt(c, &rendered, &prompt, err) &&
		parts_keep(&parts, c->context, c->engine, c->template_text.data, c->messages, &prompt,
			err) && answer_init(a, true, false, err) &&
		answer_generate(a, c->engine, c->context, &c->params, &prompt, &parts, err);
	parts_finish(&parts);
	bb_tokens_finish(&prompt);
	bb_text_finish(&rendered);
	c->n_read += a->n_read;
	c->n_made += a->tokens.n;
	*out = (struct outcome){ a->text, a->text_bytes, a->finish, a->was_interrupted,
		bb_context_length(c->context) };
	return ok;
}

static bool draw_from(struct chat *c, struct answers *as, const struct bb_text *rendered,
	const struct bb_tokens *prompt, struct bb_error *err) {
	const char *source = !c->has_template ? NULL : c->template_text.data != NULL
		? c->template_text.data : bb_chat_template(c->engine);
	struct effort_request r;
	const bool ok = effort_request_init(&r, c->engine, c->effort, source,
		rendered->data != NULL ? rendered->data : "", rendered->bytes, prompt->n,
		c->params.max_tokens, err) && answers_init(as, c->engine, &r, true, false,
		c->effort->shows_decisions, err) && answers_draw(as, c->scheduler, &r, &c->params, prompt,
		&c->parts, "chat", err);
	effort_request_finish(&r);
	return ok;
}

/* The same by the scheduler, which keeps what the next turn begins with. */
static bool draw(struct chat *c, struct answers *as, struct outcome *out, struct bb_error *err) {
	struct bb_text rendered = { 0 };
	struct bb_tokens prompt = { 0 };
	parts_finish(&c->parts);
	const bool ok = make_prompt(c, &rendered, &prompt, err) &&
		parts_find(&c->parts, c->engine, c->template_text.data, c->messages, &prompt, err) &&
		draw_from(c, as, &rendered, &prompt, err);
	const struct answer *best = ok ? answers_best(as) : NULL;
	if (best != NULL) {
		answers_print(as);
		*out = (struct outcome){ best->text, best->text_bytes, best->finish, as->was_interrupted,
			(int)(prompt.n + best->tokens.n) - 1 }; /* the last one isn't in the context */
	} else {
		*out = (struct outcome){ .was_interrupted = as->was_interrupted };
	}
	c->n_timeline = out->n_timeline;
	c->n_read += (size_t)(as->usage.n_prompt - as->usage.n_cached);
	c->n_made += (size_t)as->usage.n_output;
	bb_tokens_finish(&prompt);
	bb_text_finish(&rendered);
	return ok;
}

/* Answers the last message, which is the user's. False when no answer came of it. */
static bool answer(struct chat *c) {
	struct answer a = { 0 };
	struct answers as = { 0 };
	struct outcome out = { 0 };
	struct bb_error err = { 0 };
	const bool ok = c->scheduler != NULL ? draw(c, &as, &out, &err) : generate(c, &a, &out, &err);
	if (a.text_file != NULL || as.n > 0) {
		out_write("\n", 1);
	}
	if (!out_flush()) {
		c->is_over = true;
	}
	if (!ok) {
		failure_of(&err);
		c->has_failed = true;
	}
	const bool is_answered = ok && (out.bytes > 0 || !out.was_interrupted);
	if (is_answered) {
		add_message(c, "assistant", out.text != NULL ? out.text : "", out.bytes);
	}
	if (out.finish == BB_FINISH_CONTEXT) {
		notice("the context of %d tokens is full; /clear forgets the conversation, -c N makes "
			"room for more", out.n_timeline + 1);
	}
	interrupt_clear();
	answer_finish(&a);
	answers_finish(&as);
	return is_answered;
}

/* ---- commands ---- */

static void do_help(struct chat *c, const char *text);

static void do_clear(struct chat *c, const char *text) {
	while (json_array_size(c->messages) > 0 && !last_is(c, "system")) {
		drop_last(c);
	}
	if (c->scheduler != NULL) {
		c->parts.n = 0;
		return;
	}
	/* the next turn would forget too, but who looks now shall see what there is */
	const bool has_system = json_array_size(c->messages) > 0 &&
		bb_context_n_segments(c->context) > 0 &&
		bb_context_segment(c->context, 0).role == BB_ROLE_SYSTEM;
	const int n_kept = has_system ? bb_context_segment(c->context, 0).n_tokens : 0;
	struct bb_error ignored = { 0 };
	if (!bb_context_rewind(c->context, n_kept, &ignored)) {
		bb_context_rewind(c->context, 0, &ignored);
	}
}

static void do_exit(struct chat *c, const char *text) {
	c->is_over = true;
}

/* The next seed: the same one would give the same answer. The old answer stays where none comes. */
static void do_regen(struct chat *c, const char *text) {
	if (!last_is(c, "assistant")) {
		notice("there is no answer to make again");
		return;
	}
	json_t *old = json_incref(json_array_get(c->messages, json_array_size(c->messages) - 1));
	const uint64_t old_seed = c->params.sampling.seed;
	drop_last(c);
	c->params.sampling.seed = (old_seed + 1) & INT64_MAX; /* what --seed takes */
	if (answer(c)) {
		notice("seed %" PRIu64, c->params.sampling.seed);
		json_decref(old);
	} else {
		c->params.sampling.seed = old_seed;
		json_array_append_new(c->messages, old);
	}
}

static void do_save(struct chat *c, const char *path) {
	if (path[0] == '\0') {
		notice("/save needs the name of a file");
		return;
	}
	struct bb_error err = { 0 };
	struct output file;
	json_t *root = json_pack("{s:O}", "messages", c->messages);
	char *text = json_dumps(root, JSON_INDENT(2));
	json_decref(root);
	bool ok = text != NULL || input_fail(&err, BB_ERR_MEMORY, "no memory for the messages");
	if (ok && output_open(&file, path, &err)) {
		ok = output_write(&file, text, strlen(text), &err) && output_write(&file, "\n", 1, &err);
		ok = output_close(&file, ok, &err);
	} else {
		ok = false;
	}
	free(text);
	if (ok) {
		notice("saved to '%s'", path);
	} else if (out_flush()) {
		failure_of(&err);
		c->has_failed = true;
	} else {
		c->is_over = true;
	}
}

static void do_system(struct chat *c, const char *text) {
	const bool has_system = json_array_size(c->messages) > 0 &&
		strcmp(role_of(c, 0), "system") == 0;
	if (text[0] == '\0') {
		notice("%s", has_system ? json_string_value(json_object_get(json_array_get(c->messages, 0),
			"content")) : "there is no system message");
		return;
	}
	struct bb_error err = { 0 };
	if (c->has_template && !prompt_check_system(c->engine, c->template_text.data, &err)) {
		failure_of(&err);
		c->has_failed = true;
		return;
	}
	if (has_system) {
		json_array_remove(c->messages, 0);
	}
	json_array_insert_new(c->messages, 0, json_pack("{s:s, s:o}", "role", "system", "content",
		json_bytes(text, strlen(text))));
}

/* Segment i of the last turn. */
static struct bb_segment segment_of(const struct chat *c, int i) {
	if (c->scheduler == NULL) {
		return bb_context_segment(c->context, i);
	}
	const struct part *p = &c->parts.items[i];
	const int end = (size_t)i + 1 < c->parts.n ? p[1].first : c->n_timeline;
	return (struct bb_segment){ p->role, p->first, end - p->first };
}

static void do_segments(struct chat *c, const char *text) {
	const int n = c->scheduler != NULL ? (int)c->parts.n : bb_context_n_segments(c->context);
	if (n == 0) {
		notice("the context is empty");
		return;
	}
	fputs("segment  role       first token  tokens\n", stderr);
	for (int i = 0; i < n; i++) {
		const struct bb_segment s = segment_of(c, i);
		fprintf(stderr, "%7d  %-9s  %11d  %6d\n", i, bb_role_name(s.role), s.first, s.n_tokens);
	}
}

static const struct {
	const char *name, *help;
	void (*run)(struct chat *c, const char *text);
} commands[] = {
	{ "/help", "this list", do_help },
	{ "/clear", "forget the conversation, but for the system message", do_clear },
	{ "/regen", "answer the last message again, with the next seed", do_regen },
	{ "/system", "TEXT: set the system message; alone: show it", do_system },
	{ "/segments", "show how the context is cut: role, first token, tokens", do_segments },
	{ "/save", "FILE: write the messages as JSON; - is stdout", do_save },
	{ "/exit", "leave (also Ctrl-D)", do_exit },
};
enum { N_COMMANDS = sizeof(commands) / sizeof(commands[0]) };

static void do_help(struct chat *c, const char *text) {
	for (int i = 0; i < N_COMMANDS; i++) {
		fprintf(stderr, "%-9s %s\n", commands[i].name, commands[i].help);
	}
	fputs("Ctrl-C stops the answer. A backslash at the end of a line joins the next "
		"one to it. A line\n"
		"that begins with a space is never a command.\n", stderr);
}

static void run_command(struct chat *c, const char *line) {
	const char *names[N_COMMANDS];
	const size_t n = strcspn(line, " \t");
	for (int i = 0; i < N_COMMANDS; i++) {
		names[i] = commands[i].name;
		if (strlen(names[i]) == n && strncmp(names[i], line, n) == 0) {
			commands[i].run(c, line + n + strspn(line + n, " \t"));
			return;
		}
	}
	char word[32];
	snprintf(word, sizeof(word), "%.*s", n < 24 ? (int)n : 24, line);
	const char *nearest = args_nearest(word, names, N_COMMANDS);
	notice("unknown command '%s'; did you mean '%s'?", word, nearest != NULL ? nearest : "/help");
	c->has_failed = true;
}

/* ---- the conversation ---- */

/* Returns the exit status once it is over. */
static int converse(struct chat *c) {
	bool was_interrupted = false;
	while (!c->is_over) {
		const char *line = "";
		const enum line_outcome outcome = line_read(c->reader, &line);
		if (outcome == LINE_END) {
			break;
		}
		if (outcome == LINE_ERROR) {
			return failure("stdin could not be read: %s", strerror(errno));
		}
		if (outcome == LINE_INTERRUPTED) {
			if (was_interrupted || !line_is_edited(c->reader)) {
				notice("the conversation was stopped");
				return STATUS_INTERRUPTED;
			}
			interrupt_clear();
			notice("press Ctrl-C again, or Ctrl-D, to leave");
		} else if (line[0] == '/') {
			run_command(c, line);
		} else if (line[strspn(line, " \t\n")] != '\0') {
			add_message(c, "user", line, strlen(line));
			if (!answer(c)) {
				drop_last(c);
			}
		}
		was_interrupted = outcome == LINE_INTERRUPTED;
	}
	return c->has_failed && !line_is_edited(c->reader) ? STATUS_FAILED : STATUS_OK;
}

static bool start_drawing(struct chat *c, const struct options *o, struct bb_error *err) {
	if (!effort_options_given(&o->effort)) {
		return bb_context_create(&c->context, c->engine, NULL, err);
	}
	c->effort = &o->effort;
	const struct bb_scheduler_params one = { .max_waiting = 1 };
	return bb_scheduler_create(&c->scheduler, c->engine, &one, err);
}

/* What can't be said of a conversation. */
static int check_effort(const struct options *o) {
	if (o->effort.n_answers > 1) {
		return usage_error("a conversation goes on from one answer, but -N is %d; --best-of says "
			"how many are drawn", o->effort.n_answers);
	}
	return effort_options_check(&o->effort);
}

static int start(struct chat *c, const struct options *o) {
	struct bb_error err = { 0 };
	const int status = sampling_params(c->engine, &o->sampling, &c->storage, &c->params);
	if (status >= 0) {
		return status;
	}
	c->first_seed = c->params.sampling.seed;
	if ((o->template_file != NULL && !input_read(o->template_file, &c->template_text, &err)) ||
		!prompt_check_template(c->engine, c->template_text.data, &err) ||
		!start_drawing(c, o, &err)) {
		return failure_of(&err);
	}
	c->messages = json_array();
	c->reader = line_create();
	if (c->messages == NULL || c->reader == NULL) {
		return failure("no memory for a conversation");
	}
	c->has_template = prompt_has_template(c->engine, c->template_text.data);
	if (!c->has_template) {
		notice("the model has no chat template; the lines are continued as they are%s",
			o->system != NULL ? ", the system message before them" : "");
	}
	if (o->system != NULL && c->has_template &&
		!prompt_check_system(c->engine, c->template_text.data, &err)) {
		return failure_of(&err);
	}
	if (o->system != NULL) {
		add_message(c, "system", o->system, strlen(o->system));
	}
	if (line_is_edited(c->reader)) {
		struct bb_engine_info info;
		char name[96];
		bb_engine_info(c->engine, &info);
		show(info.name, name, sizeof(name));
		fprintf(stderr, "%s, %d tokens of context; /help lists the commands\n", name,
			info.max_len);
	}
	return -1;
}

int chat_main(int argc, char **argv) {
	struct options o = { .sampling = SAMPLING_UNSET, .effort = EFFORT_UNSET };
	int status = args_parse(&cmd_chat, argc, argv, &o);
	status = status < 0 ? check_effort(&o) : status;
	if (status >= 0) {
		return status;
	}
	if (o.template_file != NULL && strcmp(o.template_file, "-") == 0) {
		return usage_error("stdin holds the conversation; expected a file for "
			"--chat-template-file");
	}
	struct chat c = { 0 };
	status = open_model(&o.open, OPEN_ALL, &c.engine);
	status = status < 0 ? start(&c, &o) : status;
	if (status < 0) {
		status = converse(&c);
		fprintf(stderr, "read %zu tokens, generated %zu; seed %" PRIu64, c.n_read, c.n_made,
			c.first_seed);
		if (c.params.sampling.seed != c.first_seed) {
			fprintf(stderr, ", since the last /regen %" PRIu64, c.params.sampling.seed);
		}
		fputc('\n', stderr);
	}
	finish_chat(&c);
	return status;
}
