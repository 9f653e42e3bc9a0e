/* SPDX-License-Identifier: Apache-2.0
 *
 * Command lines. A command lists its options once, in tables; parsing, `--help` and, through that,
 * the man page and the completions follow from them. Knows nothing of models. */
#ifndef ARGS_H
#define ARGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { ARG_LIST_MAX = 64 };

struct arg_texts {
	const char *v[ARG_LIST_MAX]; /* [n] */
	int n;
};

struct arg_ints {
	int v[ARG_LIST_MAX]; /* [n] */
	int n;
};

struct arg_seed {
	uint64_t value;
	bool is_set;
};

struct arg_limit {
	size_t value;
	bool is_set;
};

enum arg_kind {
	ARG_FLAG,  /* bool: set to true */
	ARG_NONE,  /* accepted, changes nothing */
	ARG_INT,   /* int within min..max */
	ARG_FLOAT, /* float within min..max */
	ARG_DOUBLE, /* double within min..max */
	ARG_SEED,  /* struct arg_seed */
	ARG_BYTES, /* size_t: a whole number, perhaps with K, M or G behind (2^10, 2^20, 2^30) */
	ARG_LIMIT, /* struct arg_limit: the same, where 0 isn't as if nothing were given */
	ARG_TEXT,  /* const char *: one of choices where there are any */
	ARG_TEXTS, /* struct arg_texts: one more with each use */
	/* struct arg_ints: numbers within min..max, joined by commas; the first use replaces */
	ARG_INTS,
};

struct arg_option {
	const char *names;   /* every spelling, joined by commas: "-n,--max-tokens" */
	const char *value;   /* how help shows the value; NULL for flags */
	const char *help;
	enum arg_kind kind;
	size_t at;           /* offset of the target in the struct of the option's group */
	double min, max;
	const char *choices; /* joined by bars, or NULL */
	/* names that are understood, for the engine to judge; joined by bars, or NULL */
	const char *others;
};

/* Options that several commands share; `at` is where the group's struct lies in the command's. */
struct arg_group {
	const char *title;
	const struct arg_option *options; /* ends with names == NULL */
	size_t at;
};

struct arg_command {
	const char *name, *usage, *summary; /* usage: what follows the name */
	const char *notes;                  /* more paragraphs of help, or NULL */
	const struct arg_group *groups;     /* ends with title == NULL; NULL = only --help */
	const char *positional;             /* name of the one plain argument, or NULL */
	size_t positional_at;               /* const char *, as -m would set it */
	const char *later; /* spellings that are understood, but not in this build; or NULL */
	void (*help_more)(void); /* prints what follows the options in help, or NULL */
	int (*main)(int argc, char **argv);
};

/* Reads argv[1..argc - 1] into *options, which holds the defaults already. Returns -1 to go on,
 * else the exit status: 0 after --help, 2 after bad usage, which was reported. */
int args_parse(const struct arg_command *command, int argc, char **argv, void *options);
void args_help(const struct arg_command *command);
/* The candidate that `word` was probably meant to be, or NULL. */
const char *args_nearest(const char *word, const char *const *candidates, int n_candidates);

#endif
