/* SPDX-License-Identifier: Apache-2.0
 *
 * bobbin handset: writes a model whose weights are set by hand, and says how to try it. */
#include "commands.h"

#include "circuit.h"
#include "handset.h"
#include "input.h"
#include "legend.h"
#include "terminal.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct options {
	const char *kind, *output, *type, *circuit, *values;
	struct arg_texts tables;
	int length, bits;
	bool recency, non_negative;
};

#define AT(member) offsetof(struct options, member)

static const struct arg_option own[] = {
	{ "-o,--output", "FILE", "the GGUF file to write", ARG_TEXT, AT(output) },
	{ "--table", "T", "an automaton: parity, mod7, bracket8, s5, or a JSON file; - reads stdin. "
		"Again for more in one model", ARG_TEXTS, AT(tables) },
	{ "-N,--length", "N", "what N means, and its default, is below", ARG_INT, AT(length), 1,
		INT32_MAX },
	{ "--bits", "N", "of the code that stands for a token", ARG_INT, AT(bits), 1, 32 },
	{ "--recency", NULL, "of several matches the last one answers", ARG_FLAG, AT(recency) },
	{ "--non-negative", NULL, "keys without negative numbers", ARG_FLAG, AT(non_negative) },
	{ "--circuit", "C.json", "of circuit, instead of -o: prints the prompt that asks for the gates "
		"of this circuit", ARG_TEXT, AT(circuit) },
	{ "--values", "BITS", "of its inputs: a 0 or 1 for each, as in 101", ARG_TEXT, AT(values) },
	{ "--type", "TYPE", "of the weights: f32, f16 or bf16 (default f32)", ARG_TEXT, AT(type), 0, 0,
		"f32|f16|bf16" },
	{ 0 },
};

static const struct arg_group groups[] = {
	{ "options", own, 0 },
	{ 0 },
};

/* "  a line of it" for each line. */
static void print_lines(const char *text) {
	while (*text != '\0') {
		const size_t n = strcspn(text, "\n");
		out_print("      %.*s\n", (int)n, text);
		text += n + (text[n] == '\n');
	}
}

static void print_kinds(void) {
	out_print("\nkinds, what they compute, the format of their prompts\n");
	for (int i = 0; handset_kinds[i] != NULL; i++) {
		const struct handset_kind *k = handset_kinds[i];
		out_print("  %-14s  %s\n", k->name, k->summary);
		print_lines(k->format);
		if (k->takes & HANDSET_TAKES_TABLES) {
			out_print("      --table: at least one; of A symbols, Q states and P pairs of both, in "
				"all tables: %s\n", k->tables);
		}
		if (k->takes & HANDSET_TAKES_LENGTH) {
			out_print("      --length: %s; %d to %d, default %d\n", k->length, k->min_length,
				k->max_length, k->default_length);
		}
		if (k->takes & HANDSET_TAKES_BITS) {
			out_print("      --bits: %d to %d, default %d\n", k->min_bits, k->max_bits,
				k->default_bits);
		}
		if (k->takes & (HANDSET_TAKES_RECENCY | HANDSET_TAKES_NON_NEGATIVE)) {
			out_print("     %s%s\n", k->takes & HANDSET_TAKES_RECENCY ? " --recency" : "",
				k->takes & HANDSET_TAKES_NON_NEGATIVE ? " --non-negative" : "");
		}
		if (k->recency != NULL) {
			out_print("      --recency: bobbin run needs %s\n", k->recency);
		}
	}
	out_print("\na table in JSON has 1 to %d states and 1 to %d symbols, at most %d pairs of both, "
		"and names of 1 to %d bytes;\nJSON of a table or a circuit has at most %d MiB\n"
		"exit status: 2 for what the command line says, 1 for a file that can't be read or "
		"written, or whose contents won't do\n", HANDSET_MAX_STATES, HANDSET_MAX_SYMBOLS,
		HANDSET_MAX_PAIRS, HANDSET_MAX_NAME, HANDSET_MAX_JSON >> 20);
}

const struct arg_command cmd_handset = {
	.name = "handset",
	.usage = "KIND -o FILE.gguf [--table T]... [options]",
	.summary = "Writes a model whose weights are set by hand, so that its right output is known.\n"
		"It is an ordinary GGUF file without a tokenizer: prompts are token ids. A table in JSON "
		"is {\"delta\": [[next state per symbol] per state]},\nperhaps with \"states\" and "
		"\"symbols\", their names.",
	.groups = groups,
	.positional = "KIND",
	.positional_at = AT(kind),
	.help_more = print_kinds,
	.main = handset_main,
};

/* ---- tables ---- */

/* The file's name without folders and extension. */
static const char *stem(const char *path, char *out, size_t cap) {
	const char *slash = strrchr(path, '/');
	const char *name = slash != NULL ? slash + 1 : input_name(path);
	const char *dot = strrchr(name, '.');
	snprintf(out, cap, "%.*s", (int)(dot != NULL && dot != name ? (size_t)(dot - name)
		: strlen(name)), name);
	return out;
}

enum { MAX_BUILTIN = 16 };

static int list_builtin(const char *names[MAX_BUILTIN]) {
	int n = 0;
	while (n < MAX_BUILTIN && handset_table_name(n) != NULL) {
		names[n] = handset_table_name(n);
		n++;
	}
	return n;
}

static bool is_builtin(const char *name) {
	const char *names[MAX_BUILTIN];
	int n = list_builtin(names);
	while (n > 0 && strcmp(names[n - 1], name) != 0) {
		n--;
	}
	return n > 0;
}

static bool no_such_table(const char *name, struct bb_error *err) {
	const char *names[MAX_BUILTIN];
	const int n = list_builtin(names);
	const char *nearest = args_nearest(name, names, n);
	if (nearest != NULL) {
		return input_fail(err, BB_ERR_USAGE, "no table is called '%.80s'; did you mean '%s'?", name,
			nearest);
	}
	return input_fail(err, BB_ERR_USAGE, "no table is called '%.80s'; those built in are %s, and a "
		"JSON file may be named", name, handset_tables);
}

static bool read_table(const char *name, struct handset_table *t, struct bb_error *err) {
	struct input json;
	char short_name[40];
	if (handset_table_builtin(t, name, err) || err->code != BB_OK) {
		return err->code == BB_OK;
	}
	struct stat info;
	if (strcmp(name, "-") != 0 && strpbrk(name, "./") == NULL && stat(name, &info) != 0) {
		return no_such_table(name, err);
	}
	const bool ok = input_read_most(name, "a table", HANDSET_MAX_JSON, &json, err) &&
		handset_table_parse(t, stem(name, short_name, sizeof(short_name)), input_name(name),
			json.data, json.bytes, err);
	input_finish(&json);
	return ok;
}

/* A model mustn't take the place of a table that it is made from. */
static bool check_output(const struct options *o, struct bb_error *err) {
	struct stat output, table;
	if (stat(o->output, &output) != 0) {
		return true;
	}
	for (int i = 0; i < o->tables.n; i++) {
		const char *name = o->tables.v[i];
		const int status = strcmp(name, "-") == 0 ? fstat(STDIN_FILENO, &table)
			: stat(name, &table);
		if (status == 0 && !is_builtin(name) && table.st_dev == output.st_dev &&
			table.st_ino == output.st_ino) {
			return input_fail(err, BB_ERR_USAGE, "-o is '%s', the same file as --table '%s'",
				o->output, name);
		}
	}
	return true;
}

/* ---- what to try ---- */

enum { SHORT_RUN = 8 };

/* Ids as an argument for a shell, which repeats long runs itself. */
static void print_ids(const struct bb_tokens *ids) {
	for (size_t i = 0; i < ids->n;) {
		size_t n = 1;
		while (i + n < ids->n && ids->ids[i + n] == ids->ids[i]) {
			n++;
		}
		fputs(i > 0 ? " " : " \"", stderr);
		if (n > SHORT_RUN) {
			fprintf(stderr, "$(yes %d | head -n %zu | tr '\\n' ' ')", ids->ids[i], n);
		} else {
			n = 1;
			fprintf(stderr, "%d", ids->ids[i]);
		}
		i += n;
	}
	fputs("\"", stderr);
}

static bool report(const struct options *o, const struct handset_kind *kind,
	const struct handset_options *handset, const struct handset_names *names,
	struct bb_error *err) {
	struct bb_tokens prompt = { 0 }, feed = { 0 };
	struct stat info = { 0 };
	const int n = kind->example(handset, &prompt, err);
	const bool ok = n != 0 && (kind->example_feed == NULL ||
		kind->example_feed(handset, &feed, err));
	if (ok && stat(o->output, &info) == 0) {
		fprintf(stderr, "%s: %s, %.1f MB\n", o->output, kind->name, (double)info.st_size / 1e6);
		legend_print(kind, handset, names);
		fprintf(stderr, "try: bobbin run %s --raw --trace-state", o->output);
		if (handset->recency && kind->recency != NULL) {
			fprintf(stderr, " %s", kind->recency);
		}
		if (n > 0) {
			fprintf(stderr, " -n %d", n);
		}
		fputs(" -p", stderr);
		print_ids(&prompt);
		if (feed.n > 0) {
			fputs(" --feed", stderr);
			print_ids(&feed);
		}
		fputs("\n", stderr);
	}
	bb_tokens_finish(&prompt);
	bb_tokens_finish(&feed);
	return ok;
}

/* ---- the command ---- */

static int unknown_kind(const char *name) {
	const char *names[32];
	int n = 0;
	for (; handset_kinds[n] != NULL && n < 32; n++) {
		names[n] = handset_kinds[n]->name;
	}
	const char *nearest = args_nearest(name, names, n);
	if (nearest != NULL) {
		return usage_error("unknown kind '%s'; did you mean '%s'?", name, nearest);
	}
	return usage_error("unknown kind '%s'; 'bobbin handset --help' lists those there are", name);
}

static int work(const struct options *o, const struct handset_kind *kind,
	struct handset_table *tables) {
	static const char *const types[] = { "f32", "f16", "bf16" };
	struct bb_error err = { 0 };
	struct handset_options handset = { .tables = tables, .n_tables = o->tables.n,
		.length = o->length, .bits = o->bits, .recency = o->recency,
		.non_negative = o->non_negative };
	while (o->type != NULL && strcmp(types[handset.type], o->type) != 0) {
		handset.type++;
	}
	if (!check_output(o, &err)) {
		return failure_of(&err);
	}
	for (int i = 0; i < o->tables.n; i++) {
		if (!read_table(o->tables.v[i], &tables[i], &err)) {
			return failure_of(&err);
		}
	}
	struct handset_names names = { 0 };
	const bool ok = handset_check(kind, &handset, &err) &&
		handset_write_named(kind, &handset, o->output, &names, &err) &&
		report(o, kind, &handset, &names, &err);
	handset_names_finish(&names);
	return ok ? STATUS_OK : failure_of(&err);
}

/* --circuit and --values come together, and alone but for --bits. */
static int print_circuit(const struct options *o, const struct handset_kind *kind) {
	struct bb_error err = { 0 };
	struct handset_options handset = { .bits = o->bits };
	if (strcmp(kind->name, "circuit") != 0 || o->output != NULL) {
		return usage_error("--circuit and --values are for the kind circuit, without -o");
	}
	if (o->tables.n > 0 || o->length > 0 || o->recency || o->non_negative || o->type != NULL) {
		return usage_error("--circuit and --values write no model: beside them only --bits counts");
	}
	if (o->circuit == NULL || o->values == NULL) {
		return usage_error("--circuit needs --values, and --values needs --circuit");
	}
	return handset_check(kind, &handset, &err) &&
		circuit_print(o->circuit, o->values, handset.bits, &err) ? STATUS_OK : failure_of(&err);
}

int handset_main(int argc, char **argv) {
	struct options o = { 0 };
	const int status = args_parse(&cmd_handset, argc, argv, &o);
	if (status >= 0) {
		return status;
	}
	if (o.kind == NULL || (o.output == NULL && o.circuit == NULL)) {
		return usage_error(o.kind == NULL ? "no KIND was given; 'bobbin handset --help' lists them"
			: "no -o was given");
	}
	if (o.output != NULL && strcmp(o.output, "-") == 0) {
		return usage_error("-o is '-', but a model can't go to stdout; expected a file's name");
	}
	const struct handset_kind *kind = handset_find(o.kind);
	if (kind == NULL) {
		return unknown_kind(o.kind);
	}
	if (o.circuit != NULL || o.values != NULL) {
		return print_circuit(&o, kind);
	}
	struct handset_table tables[ARG_LIST_MAX] = { 0 };
	const int result = work(&o, kind, tables);
	for (int i = 0; i < o.tables.n; i++) {
		handset_table_finish(&tables[i]);
	}
	return result;
}
