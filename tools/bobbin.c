/* SPDX-License-Identifier: Apache-2.0
 *
 * bobbin: the command line. Finds the subcommand, and ends the process so that nothing that could
 * not be written goes unnoticed. */
#include "commands.h"

#include "bobbin.h"
#include "terminal.h"

#include <stdio.h>
#include <string.h>

static const struct arg_command *const commands[] = {
	&cmd_run, &cmd_chat, &cmd_serve, &cmd_tokenize, &cmd_detokenize, &cmd_template,
	&cmd_logits, &cmd_perplexity, &cmd_taps, &cmd_bench, &cmd_inspect, &cmd_kernels, &cmd_handset,
};
enum { N_COMMANDS = sizeof(commands) / sizeof(commands[0]) };

static void help(void) {
	out_print("usage: bobbin COMMAND [MODEL] [options]\n\n"
		"Runs language models on this machine. MODEL is a GGUF file or a "
		"Hugging Face folder.\n\ncommands\n");
	for (int i = 0; i < N_COMMANDS; i++) {
		const char *end = strchr(commands[i]->summary, '.');
		out_print("  %-12s %.*s\n", commands[i]->name, (int)(end - commands[i]->summary),
			commands[i]->summary);
	}
	out_print("\n  bobbin COMMAND --help lists the options of a command\n"
		"  bobbin --version prints the version\n\n"
		"exit status: 0 done, 1 the work failed, 2 bad usage, 130 stopped by Ctrl-C "
		"(serve: by the second)\n");
}

static const struct arg_command *find(const char *name) {
	for (int i = 0; i < N_COMMANDS; i++) {
		if (strcmp(commands[i]->name, name) == 0) {
			return commands[i];
		}
	}
	return NULL;
}

static int unknown(const char *name) {
	const char *names[N_COMMANDS + 2] = { "--help", "--version" };
	for (int i = 0; i < N_COMMANDS; i++) {
		names[i + 2] = commands[i]->name;
	}
	const char *nearest = args_nearest(name, names, N_COMMANDS + 2);
	const char *what = name[0] == '-' ? "option" : "command";
	if (nearest != NULL) {
		return usage_error("unknown %s '%s'; did you mean '%s'?", what, name, nearest);
	}
	return usage_error("unknown %s '%s'; 'bobbin --help' lists those there are", what, name);
}

static bool is_one_of(const char *word, const char *a, const char *b, const char *c) {
	return strcmp(word, a) == 0 || strcmp(word, b) == 0 || strcmp(word, c) == 0;
}

static int dispatch(int argc, char **argv) {
	if (argc < 2) {
		return usage_error("no command was given; 'bobbin --help' lists those there are");
	}
	const char *word = argv[1];
	const bool is_help = is_one_of(word, "help", "--help", "-h");
	if (is_help && argc == 2) {
		help();
		return STATUS_OK;
	}
	if (is_one_of(word, "version", "--version", "-V")) {
		out_print("bobbin %s\n", BB_VERSION);
		return STATUS_OK;
	}
	const struct arg_command *command = find(is_help ? argv[2] : word);
	if (command == NULL) {
		return unknown(is_help ? argv[2] : word);
	}
	if (is_help) {
		args_help(command);
		return STATUS_OK;
	}
	static char name[64];
	snprintf(name, sizeof(name), "bobbin %s", command->name);
	terminal_command(name);
	return command->main(argc - 1, argv + 1);
}

int main(int argc, char **argv) {
	terminal_start();
	return terminal_end(dispatch(argc, argv));
}
