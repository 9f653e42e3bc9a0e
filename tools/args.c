/* SPDX-License-Identifier: Apache-2.0
 *
 * Parsing and help from the option tables of args.h. */
#include "args.h"

#include "terminal.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct arg_option help_option = { "-h,--help", NULL, "show this help", ARG_NONE };
static const struct arg_option version_option = { "--version", NULL, "show the version", ARG_NONE };

/* ---- names ---- */

/* Calls for the i-th spelling in a list joined by `sep`; false behind the last. */
static bool spelling(const char *names, char sep, int i, char *buf, size_t bytes) {
	for (; i > 0 && names != NULL; i--) {
		names = strchr(names, sep);
		names = names != NULL ? names + 1 : NULL;
	}
	if (names == NULL) {
		return false;
	}
	const char *end = strchr(names, sep);
	snprintf(buf, bytes, "%.*s", (int)(end != NULL ? (size_t)(end - names) : strlen(names)), names);
	return true;
}

static bool has_spelling(const char *names, char sep, const char *name) {
	char buf[64];
	for (int i = 0; spelling(names, sep, i, buf, sizeof(buf)); i++) {
		if (strcmp(buf, name) == 0) {
			return true;
		}
	}
	return false;
}

/* Letters to insert, delete or change to get from a to b (Levenshtein); long words count as far. */
static int distance(const char *a, const char *b) {
	int row[64];
	const int n_a = (int)strlen(a), n_b = (int)strlen(b);
	if (n_b >= 64) {
		return 64;
	}
	for (int j = 0; j <= n_b; j++) {
		row[j] = j;
	}
	for (int i = 1; i <= n_a; i++) {
		int diagonal = row[0];
		row[0] = i;
		for (int j = 1; j <= n_b; j++) {
			const int change = diagonal + (a[i - 1] != b[j - 1]);
			const int insert = row[j - 1] + 1, drop = row[j] + 1;
			diagonal = row[j];
			row[j] = change < insert ? change : insert;
			row[j] = drop < row[j] ? drop : row[j];
		}
	}
	return row[n_b];
}

const char *args_nearest(const char *word, const char *const *candidates, int n_candidates) {
	const char *best = NULL;
	int least = 3 + (int)strlen(word) / 4;
	for (int i = 0; i < n_candidates; i++) {
		const int d = distance(word, candidates[i]);
		if (d < least && d < (int)strlen(candidates[i])) {
			least = d;
			best = candidates[i];
		}
	}
	return best;
}

/* ---- finding an option ---- */

struct found {
	const struct arg_option *option;
	char *base; /* its group's struct */
};

static bool find(const struct arg_command *command, void *options, const char *name,
	struct found *out) {
	const bool is_help = has_spelling(help_option.names, ',', name);
	if (is_help || has_spelling(version_option.names, ',', name)) {
		*out = (struct found){ is_help ? &help_option : &version_option, NULL };
		return true;
	}
	for (const struct arg_group *g = command->groups; g != NULL && g->title != NULL; g++) {
		for (const struct arg_option *o = g->options; o->names != NULL; o++) {
			if (has_spelling(o->names, ',', name)) {
				*out = (struct found){ o, (char *)options + g->at };
				return true;
			}
		}
	}
	return false;
}

static int unknown_option(const struct arg_command *command, const char *name) {
	if (has_spelling(command->later, ',', name)) {
		return failure("option '%s' isn't in this build", name);
	}
	static char names[192][32];
	const char *candidates[192] = { "--help", "--version" };
	int n = 2;
	for (const struct arg_group *g = command->groups; g != NULL && g->title != NULL; g++) {
		for (const struct arg_option *o = g->options; o->names != NULL; o++) {
			for (int i = 0; n < 192 && spelling(o->names, ',', i, names[n], sizeof(names[n]));
				i++) {
				candidates[n] = names[n];
				n++;
			}
		}
	}
	/* A single letter is near every other one. */
	const char *nearest = name[1] == '-' ? args_nearest(name, candidates, n) : NULL;
	if (nearest != NULL) {
		return usage_error("unknown option '%s'; did you mean '%s'?", name, nearest);
	}
	return usage_error("unknown option '%s'; 'bobbin %s --help' lists those there are", name,
		command->name);
}

/* ---- values ---- */

static int out_of_range(const char *name, const char *text, const struct arg_option *o) {
	const char *unit = strcmp(o->value, "GIB") == 0 ? " of GiB" : "";
	return usage_error("option '%s' is '%s', expected a number%s from %.10g to %.10g", name, text,
		unit, o->min, o->max);
}

static bool read_int(const char *text, const struct arg_option *o, int *out) {
	char *end;
	errno = 0;
	const long v = strtol(text, &end, 10);
	*out = (int)v;
	return end != text && *end == '\0' && errno == 0 && (double)v >= o->min && (double)v <= o->max;
}

static int set_ints(const struct arg_option *o, const char *name, const char *text,
	struct arg_ints *list) {
	list->n = 0;
	char item[32];
	for (int i = 0; spelling(text, ',', i, item, sizeof(item)); i++) {
		if (i == ARG_LIST_MAX) {
			return usage_error("option '%s' takes at most %d numbers", name, ARG_LIST_MAX);
		}
		if (!read_int(item, o, &list->v[list->n++])) {
			return out_of_range(name, item, o);
		}
	}
	return -1;
}

static int set_double(const struct arg_option *o, const char *name, const char *text,
	double *target) {
	char *end;
	const double v = strtod(text, &end);
	if (end == text || *end != '\0' || !isfinite(v) || v < o->min || v > o->max) {
		return out_of_range(name, text, o);
	}
	*target = v;
	return -1;
}

static int set_float(const struct arg_option *o, const char *name, const char *text,
	float *target) {
	double v = 0;
	const int status = set_double(o, name, text, &v);
	*target = status < 0 ? (float)v : *target;
	return status;
}

static int set_seed(const char *name, const char *text, struct arg_seed *target) {
	char *end;
	errno = 0;
	const long long v = strtoll(text, &end, 10);
	if (end == text || *end != '\0' || errno != 0 || v < -1) {
		return usage_error("option '%s' is '%s', expected a whole number from 0 to 2^63 - 1, "
			"or -1 for any", name, text);
	}
	*target = (struct arg_seed){ (uint64_t)v, v >= 0 };
	return -1;
}

static int set_bytes(const char *name, const char *text, size_t *target) {
	static const char units[] = "KMG";
	char *end;
	errno = 0;
	const long long v = strtoll(text, &end, 10);
	const char *unit = end != text && *end != '\0' ? strchr(units, *end) : NULL;
	const int shift = unit != NULL ? 10 * (int)(unit - units + 1) : 0;
	if (end == text || end[unit != NULL] != '\0' || errno != 0 || v < 0 || v > INT64_MAX >> shift) {
		return usage_error("option '%s' is '%s', expected a number of bytes, perhaps with K, M or "
			"G behind", name, text);
	}
	*target = (size_t)v << shift;
	return -1;
}

static int set_text(const struct arg_option *o, const char *name, const char *text,
	const char **target) {
	if (o->choices != NULL && !has_spelling(o->choices, '|', text) &&
		!has_spelling(o->others, '|', text)) {
		return usage_error("option '%s' is '%s', expected %s", name, text, o->choices);
	}
	*target = text;
	return -1;
}

static int set(const struct found *f, const char *name, const char *text) {
	const struct arg_option *o = f->option;
	void *target = f->base + o->at;
	struct arg_texts *texts;
	struct arg_limit *limit;
	switch (o->kind) {
	case ARG_FLAG:
		*(bool *)target = true;
		return -1;
	case ARG_NONE:
		return -1;
	case ARG_INT:
		return read_int(text, o, target) ? -1 : out_of_range(name, text, o);
	case ARG_FLOAT:
		return set_float(o, name, text, target);
	case ARG_DOUBLE:
		return set_double(o, name, text, target);
	case ARG_SEED:
		return set_seed(name, text, target);
	case ARG_BYTES:
		return set_bytes(name, text, target);
	case ARG_LIMIT:
		limit = target;
		limit->is_set = true;
		return set_bytes(name, text, &limit->value);
	case ARG_TEXT:
		return set_text(o, name, text, target);
	case ARG_TEXTS:
		texts = target;
		if (texts->n == ARG_LIST_MAX) {
			return usage_error("option '%s' can be used at most %d times", name, ARG_LIST_MAX);
		}
		texts->v[texts->n++] = text;
		return -1;
	case ARG_INTS:
		return set_ints(o, name, text, target);
	}
	return -1;
}

/* ---- parsing ---- */

/* Others have long options with one dash, as -ngl: no number begins with a letter. */
static bool may_be_value(const struct arg_option *o, const char *text) {
	const bool is_text = o->kind == ARG_TEXT || o->kind == ARG_TEXTS;
	return is_text || strchr("0123456789+-.", text[0]) != NULL;
}

/* Splits "--name=value", "-n=value" and "-n5"; *value stays NULL where the word has none. */
static bool split(const struct arg_command *command, void *options, const char *word, char *name,
	size_t name_bytes, const char **value, struct found *f) {
	const char *equals = strchr(word, '=');
	const size_t n = equals != NULL ? (size_t)(equals - word) : strlen(word);
	snprintf(name, name_bytes, "%.*s", (int)n, word);
	for (char *c = name + 2; name[0] == '-' && name[1] == '-' && *c != '\0'; c++) {
		*c = *c == '_' ? '-' : *c;
	}
	*value = equals != NULL ? equals + 1 : NULL;
	if (find(command, options, name, f)) {
		return true;
	}
	if (word[1] != '-' && word[2] != '\0') {
		const char letter[3] = { '-', word[1], '\0' };
		if (find(command, options, letter, f) && f->option->value != NULL &&
			may_be_value(f->option, word + 2)) {
			snprintf(name, name_bytes, "%s", letter);
			*value = word + 2;
			return true;
		}
	}
	return false;
}

static int option(const struct arg_command *command, void *options, char **argv, int argc, int *i) {
	char name[64];
	const char *value;
	struct found f;
	if (!split(command, options, argv[*i], name, sizeof(name), &value, &f)) {
		return unknown_option(command, name);
	}
	if (f.option == &help_option) {
		args_help(command);
		return 0;
	}
	if (f.option == &version_option) {
		out_print("bobbin %s\n", BB_VERSION);
		return 0;
	}
	if (f.option->value == NULL && value != NULL) {
		return usage_error("option '%s' takes no value", name);
	}
	if (f.option->value != NULL && value == NULL) {
		if (*i + 1 >= argc) {
			return usage_error("option '%s' needs a value: %s", name, f.option->value);
		}
		value = argv[++*i];
	}
	return set(&f, name, value);
}

static int positional(const struct arg_command *command, void *options, const char *word) {
	if (command->positional == NULL) {
		return usage_error("'%s' is one argument too many", word);
	}
	const char **target = (const char **)((char *)options + command->positional_at);
	if (*target != NULL) {
		return usage_error("'%s' is one argument too many: %s is '%s' already", word,
			command->positional, *target);
	}
	*target = word;
	return -1;
}

int args_parse(const struct arg_command *command, int argc, char **argv, void *options) {
	bool only_plain = false;
	for (int i = 1; i < argc; i++) {
		const char *word = argv[i];
		int status;
		if (!only_plain && strcmp(word, "--") == 0) {
			only_plain = true;
			continue;
		}
		if (!only_plain && word[0] == '-' && word[1] != '\0') {
			status = option(command, options, argv, argc, &i);
		} else {
			status = positional(command, options, word);
		}
		if (status >= 0) {
			return status;
		}
	}
	return -1;
}

/* ---- help ---- */

/* Columns of a text: bytes of UTF-8 that go on with a character take none. */
static int columns(const char *text) {
	int n = 0;
	for (; *text != '\0'; text++) {
		n += ((unsigned char)*text & 0xC0) != 0x80;
	}
	return n;
}

static void help_row(const struct arg_option *o) {
	char left[160] = "", name[64];
	for (int i = 0; spelling(o->names, ',', i, name, sizeof(name)); i++) {
		snprintf(left + strlen(left), sizeof(left) - strlen(left), "%s%s", i > 0 ? ", " : "", name);
	}
	if (o->value != NULL) {
		snprintf(left + strlen(left), sizeof(left) - strlen(left), " %s", o->value);
	}
	const int n = columns(left);
	if (n > 30) {
		out_print("  %s\n%34s%s\n", left, "", o->help);
	} else {
		out_print("  %s%*s  %s\n", left, 30 - n, "", o->help);
	}
}

void args_help(const struct arg_command *command) {
	out_print("usage: bobbin %s %s\n\n%s\n", command->name, command->usage, command->summary);
	if (command->notes != NULL) {
		out_print("\n%s\n", command->notes);
	}
	for (const struct arg_group *g = command->groups; g != NULL && g->title != NULL; g++) {
		out_print("\n%s\n", g->title);
		for (const struct arg_option *o = g->options; o->names != NULL; o++) {
			help_row(o);
		}
	}
	out_print("\n");
	help_row(&help_option);
	help_row(&version_option);
	if (command->help_more != NULL) {
		command->help_more();
	}
}
