/* SPDX-License-Identifier: Apache-2.0
 *
 * bobbin template: messages as JSON on stdin -> the prompt that the chat template makes of them. */
#include "commands.h"

#include "input.h"
#include "open.h"
#include "terminal.h"

#include <string.h>

struct options {
	struct open_options open;
	const char *template_file;
};

#define AT(member) offsetof(struct options, member)

static const struct arg_option own[] = {
	{ "--chat-template-file", "FILE", "use this template instead of the model's", ARG_TEXT,
		AT(template_file) },
	{ 0 },
};

static const struct arg_group groups[] = {
	{ "options", own, 0 },
	{ "model", open_model_only, AT(open) },
	{ 0 },
};

const struct arg_command cmd_template = {
	.name = "template",
	.usage = "[MODEL] [--chat-template-file FILE] < REQUEST.json",
	.summary = "Renders a chat template with the JSON object on stdin.\n"
		"The object holds messages, and may hold tools, add_generation_prompt and any "
		"other variable.\n"
		"No newline is added. Exits with 1 when the template raises.",
	.groups = groups,
	.positional = "MODEL",
	.positional_at = AT(open.path),
	.main = template_main,
};

static bool render(const struct options *o, const struct bb_engine *e, struct bb_error *err) {
	struct input source = { 0 }, json = { 0 };
	struct bb_text out = { 0 };
	const bool ok = (o->template_file == NULL || input_read(o->template_file, &source, err)) &&
		input_read("-", &json, err) &&
		bb_template_render(e, source.data, json.data, json.bytes, &out, err);
	if (ok && out.bytes > 0) {
		out_write(out.data, out.bytes);
	}
	input_finish(&source);
	input_finish(&json);
	bb_text_finish(&out);
	return ok;
}

int template_main(int argc, char **argv) {
	struct options o = { 0 };
	int status = args_parse(&cmd_template, argc, argv, &o);
	if (status >= 0) {
		return status;
	}
	if (o.open.path == NULL && o.template_file == NULL) {
		return usage_error("neither MODEL nor --chat-template-file was given");
	}
	if (o.template_file != NULL && strcmp(o.template_file, "-") == 0) {
		return usage_error("stdin holds the request; expected a file for --chat-template-file");
	}
	struct bb_engine *e = NULL;
	if (o.open.path != NULL) {
		status = open_model(&o.open, OPEN_VOCAB, &e);
		if (status >= 0) {
			return status;
		}
	}
	struct bb_error err = { 0 };
	status = render(&o, e, &err) ? STATUS_OK : failure_of(&err);
	bb_engine_destroy(e);
	return status;
}
