/* SPDX-License-Identifier: Apache-2.0
 *
 * The subcommands: one file each, one row each in bobbin.c. */
#ifndef COMMANDS_H
#define COMMANDS_H

#include "args.h"

extern const struct arg_command cmd_bench, cmd_chat, cmd_detokenize, cmd_handset, cmd_inspect,
	cmd_kernels, cmd_logits, cmd_perplexity, cmd_run, cmd_serve, cmd_taps, cmd_template,
	cmd_tokenize;

int bench_main(int argc, char **argv);
int chat_main(int argc, char **argv);
int detokenize_main(int argc, char **argv);
int handset_main(int argc, char **argv);
int inspect_main(int argc, char **argv);
int kernels_main(int argc, char **argv);
int logits_main(int argc, char **argv);
int perplexity_main(int argc, char **argv);
int run_main(int argc, char **argv);
int serve_main(int argc, char **argv);
int taps_main(int argc, char **argv);
int template_main(int argc, char **argv);
int tokenize_main(int argc, char **argv);

#endif
