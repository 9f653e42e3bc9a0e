/* SPDX-License-Identifier: Apache-2.0
 *
 * bobbin detokenize: a JSON array of token ids on stdin -> the exact bytes they stand for. */
#include "commands.h"

#include "input.h"
#include "open.h"
#include "terminal.h"

struct options {
	struct open_options open;
};

static const struct arg_group groups[] = {
	{ "model", open_model_only, offsetof(struct options, open) },
	{ 0 },
};

const struct arg_command cmd_detokenize = {
	.name = "detokenize",
	.usage = "MODEL < IDS.json",
	.summary = "Turns a JSON array of token ids on stdin into the bytes they stand for.\n"
		"No newline is added.",
	.groups = groups,
	.positional = "MODEL",
	.positional_at = offsetof(struct options, open.path),
	.main = detokenize_main,
};

int detokenize_main(int argc, char **argv) {
	struct options o = { 0 };
	const int status = args_parse(&cmd_detokenize, argc, argv, &o);
	struct bb_engine *e = NULL;
	const int opened = status < 0 ? open_model(&o.open, OPEN_VOCAB, &e) : status;
	if (opened >= 0) {
		return opened;
	}
	struct input json;
	struct bb_tokens tokens = { 0 };
	struct bb_text text = { 0 };
	struct bb_error err = { 0 };
	const bool ok = input_read("-", &json, &err) && input_ids(&json, "stdin", &tokens, &err) &&
		bb_detokenize(e, tokens.ids, tokens.n, &text, &err);
	if (ok && text.bytes > 0) {
		out_write(text.data, text.bytes);
	}
	input_finish(&json);
	bb_tokens_finish(&tokens);
	bb_text_finish(&text);
	bb_engine_destroy(e);
	return ok ? STATUS_OK : failure_of(&err);
}
