/* SPDX-License-Identifier: Apache-2.0
 *
 * bobbin tokenize: the bytes of stdin -> a JSON array of token ids. */
#include "commands.h"

#include "input.h"
#include "open.h"
#include "prompt.h"
#include "terminal.h"

struct options {
	struct open_options open;
	bool no_bos, no_parse_special;
};

#define AT(member) offsetof(struct options, member)

static const struct arg_option own[] = {
	{ "--no-bos", NULL, "add no special token of any kind", ARG_FLAG, AT(no_bos) },
	{ "--no-parse-special", NULL, "control tokens spelled out in the text are plain text", ARG_FLAG,
		AT(no_parse_special) },
	{ 0 },
};

static const struct arg_group groups[] = {
	{ "options", own, 0 },
	{ "model", open_model_only, AT(open) },
	{ 0 },
};

const struct arg_command cmd_tokenize = {
	.name = "tokenize",
	.usage = "MODEL [--no-bos] [--no-parse-special] < TEXT",
	.summary = "Turns the bytes of stdin into one JSON array of token ids.\n"
		"Special tokens are added and parsed as the model's metadata says; a "
		"vocabulary-only file will do.",
	.groups = groups,
	.positional = "MODEL",
	.positional_at = AT(open.path),
	.main = tokenize_main,
};

static bool print(const struct bb_tokens *t) {
	out_write("[", 1);
	for (size_t i = 0; i < t->n; i++) {
		out_print("%s%d", i > 0 ? ", " : "", t->ids[i]);
	}
	return out_write("]\n", 2);
}

int tokenize_main(int argc, char **argv) {
	struct options o = { 0 };
	const int status = args_parse(&cmd_tokenize, argc, argv, &o);
	struct bb_engine *e = NULL;
	const int opened = status < 0 ? open_model(&o.open, OPEN_VOCAB, &e) : status;
	if (opened >= 0) {
		return opened;
	}
	struct input text;
	struct bb_tokens tokens = { 0 };
	struct bb_error err = { 0 };
	const bool ok = input_read("-", &text, &err) &&
		bb_tokenize(e, text.data, text.bytes, !o.no_bos, !o.no_parse_special, &tokens, &err);
	if (ok) {
		prompt_note_lost(&tokens);
		print(&tokens);
	}
	input_finish(&text);
	bb_tokens_finish(&tokens);
	bb_engine_destroy(e);
	return ok ? STATUS_OK : failure_of(&err);
}
