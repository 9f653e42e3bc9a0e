/* SPDX-License-Identifier: Apache-2.0
 *
 * Ids and names of a hand-set model's tokens, on one line that people can read: names that count up
 * are one entry, "18 x0 ... 8209 x8191", and of many entries the first and the last are shown. */
#include "legend.h"

#include "terminal.h"

#include <stdlib.h>
#include <string.h>

enum { SHORT_RUN = 8, MAX_ENTRIES = 40, LAST_ENTRIES = 4 };

/* Where the number at a name's end begins: at most 9 digits. */
static size_t number_at(const char *name) {
	size_t n = strlen(name), digits = 0;
	while (n > 0 && digits < 9 && name[n - 1] >= '0' && name[n - 1] <= '9') {
		n--;
		digits++;
	}
	return n;
}

/* The id behind the entry of id `from`: a run of names whose numbers grow with the ids, or one. */
static int entry_end(const struct handset_names *names, int from) {
	const char *first = names->names[from];
	const size_t prefix = number_at(first);
	const long number = strtol(first + prefix, NULL, 10);
	int end = from + 1;
	for (; end < names->n; end++) {
		const char *name = names->names[end];
		char digits[24];
		snprintf(digits, sizeof(digits), "%ld", number + end - from);
		if (strncmp(name, first, prefix) != 0 || strcmp(name + prefix, digits) != 0) {
			break;
		}
	}
	return end - from > SHORT_RUN && first[prefix] != '\0' ? end : from + 1;
}

static void print_token(const struct handset_names *names, int id) {
	char id_text[16], name[160];
	snprintf(id_text, sizeof(id_text), "%d", id);
	show(names->names[id], name, sizeof(name));
	fprintf(stderr, " %s", id_text);
	if (strcmp(name, id_text) != 0) { /* those that nobody named are called by their ids */
		fprintf(stderr, " %s", name);
	}
}

static void print_entry(const struct handset_names *names, int from, int end) {
	print_token(names, from);
	if (end > from + 1) {
		fputs(" ...", stderr);
		print_token(names, end - 1);
	}
}

static void print_entries(const struct handset_names *names) {
	int n = 0, i = 0;
	for (int id = 0; id < names->n; id = entry_end(names, id)) {
		n++;
	}
	for (int id = 0; id < names->n; i++) {
		const int end = entry_end(names, id);
		if (n <= MAX_ENTRIES || i < MAX_ENTRIES - LAST_ENTRIES || i >= n - LAST_ENTRIES) {
			fputs(i > 0 ? " " : "", stderr);
			print_entry(names, id, end);
		} else if (i == MAX_ENTRIES - LAST_ENTRIES) {
			fputs("  ...", stderr);
		}
		id = end;
	}
}

void legend_print(const struct handset_kind *kind, const struct handset_options *o,
	const struct handset_names *names) {
	fputs("ids:", stderr);
	print_entries(names);
	for (int i = 0; o->n_tables > 1 && i < o->n_tables; i++) {
		fputs(i == 0 ? "; runs begin with" : ",", stderr);
		print_token(names, kind->start(o, i));
	}
	fputs("\n", stderr);
}
