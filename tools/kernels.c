/* SPDX-License-Identifier: Apache-2.0
 *
 * bobbin kernels: the kernel table, and which variant this machine takes. */
#include "commands.h"

#include "terminal.h"

struct options {
	const char *isa;
	bool json;
};

#define AT(member) offsetof(struct options, member)

static const struct arg_option own[] = {
	{ "--isa", "LEVEL", "as if the machine had only this ISA level", ARG_TEXT, AT(isa), 0, 0,
		"c|avx2|avx_vnni|avx512|avx512_vnni|avx512_bf16" },
	{ "--json", NULL, "print one JSON object", ARG_FLAG, AT(json) },
	{ 0 },
};

static const struct arg_group groups[] = {
	{ "options", own, 0 },
	{ 0 },
};

const struct arg_command cmd_kernels = {
	.name = "kernels",
	.usage = "[--isa LEVEL] [--json]",
	.summary = "Lists every kernel variant, which one runs here and why.\n"
		"The last variant of a kernel that the machine can run is taken.",
	.groups = groups,
	.main = kernels_main,
};

static bool print(FILE *out, const void *user, struct bb_error *err) {
	const struct options *o = user;
	return bb_kernels_print(out, o->isa, o->json, err);
}

int kernels_main(int argc, char **argv) {
	struct options o = { 0 };
	const int status = args_parse(&cmd_kernels, argc, argv, &o);
	if (status >= 0) {
		return status;
	}
	struct bb_error err = { 0 };
	return out_capture(print, &o, &err) ? STATUS_OK : failure_of(&err);
}
