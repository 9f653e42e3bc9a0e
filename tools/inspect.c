/* SPDX-License-Identifier: Apache-2.0
 *
 * bobbin inspect: what a model file holds and how this machine would run it. */
#include "commands.h"

#include "open.h"
#include "terminal.h"

struct options {
	struct open_options open;
	bool json;
};

#define AT(member) offsetof(struct options, member)

static const struct arg_option own[] = {
	{ "--json", NULL, "print one JSON object", ARG_FLAG, AT(json) },
	{ 0 },
};

static const struct arg_group groups[] = {
	{ "options", own, 0 },
	{ "model", open_engine, AT(open) },
	{ "context", open_context, AT(open) },
	{ 0 },
};

const struct arg_command cmd_inspect = {
	.name = "inspect",
	.usage = "MODEL [--json] [options]",
	.summary = "Shows what is in a model file and how it runs here.\n"
		"Metadata, tensors, layers with their op lists and kernels, memory per context length.",
	.groups = groups,
	.positional = "MODEL",
	.positional_at = AT(open.path),
	.later = OPEN_LATER,
	.main = inspect_main,
};

static bool print(FILE *out, const void *user, struct bb_error *err) {
	const struct options *o = ((const void *const *)user)[0];
	const struct bb_engine *e = ((const void *const *)user)[1];
	return bb_engine_inspect(e, out, o->json, err);
}

/* A file without tensors is shown as far as it goes. */
static int open_either(const struct options *o, struct bb_engine **e) {
	const int status = open_model(&o->open, OPEN_VOCAB, e);
	if (status >= 0) {
		return status;
	}
	struct bb_engine_info info;
	bb_engine_info(*e, &info);
	if (info.file_bytes == 0) {
		return -1;
	}
	bb_engine_destroy(*e);
	return open_model(&o->open, OPEN_INSPECT, e);
}

int inspect_main(int argc, char **argv) {
	struct options o = { 0 };
	const int status = args_parse(&cmd_inspect, argc, argv, &o);
	struct bb_engine *e = NULL;
	const int opened = status < 0 ? open_either(&o, &e) : status;
	if (opened >= 0) {
		return opened;
	}
	struct bb_error err = { 0 };
	const void *const what[] = { &o, e };
	const bool ok = out_capture(print, what, &err);
	bb_engine_destroy(e);
	return ok ? STATUS_OK : failure_of(&err);
}
