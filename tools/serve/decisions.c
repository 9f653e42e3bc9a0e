/* SPDX-License-Identifier: Apache-2.0
 *
 * A list that grows, under a lock; and its two forms in JSON. */
#include "decisions.h"

#include "decision.h"
#include "fields.h"
#include "ration.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* Of a list to do again: each token of a branch looks through them. */
enum { MOST_REPLAYED = 16384 };

void decisions_init(struct decisions *d) {
	memset(d, 0, sizeof(*d));
	pthread_mutex_init(&d->lock, NULL);
}

void decisions_finish(struct decisions *d) {
	free(d->v);
	pthread_mutex_destroy(&d->lock);
}

/* Which branch comes to its token first depends on who shares the steps: lists don't. */
static bool goes_before(const struct bb_decision *a, const struct bb_decision *b) {
	const bool is_chosen = a->kind == BB_DECISION_CHOOSE;
	if (is_chosen || b->kind == BB_DECISION_CHOOSE) { /* in the order of the answers */
		return !is_chosen;
	}
	return a->token != b->token ? a->token < b->token : a->branch < b->branch;
}

void decisions_note(struct decisions *d, const struct bb_decision *from) {
	pthread_mutex_lock(&d->lock);
	const int cap = d->n < d->cap ? d->cap : d->cap > 0 ? 2 * d->cap : 8;
	struct decision *v = cap > d->cap ? realloc(d->v, (size_t)cap * sizeof(*v)) : d->v;
	if (v == NULL) {
		d->has_lost = true;
	} else {
		d->v = v;
		d->cap = cap;
		struct decision *to = &v[d->n++];
		for (; to > v && goes_before(from, &to[-1].decision); to--) {
			to[0] = to[-1];
		}
		to->decision = *from;
		snprintf(to->policy, sizeof(to->policy), "%s", from->policy != NULL ? from->policy : "");
		to->decision.policy = NULL; /* the copy beside it; the list may move */
	}
	pthread_mutex_unlock(&d->lock);
}

int decisions_given(struct decisions *d, int k, int n_branches) {
	int found = -1, n_chosen = 0;
	pthread_mutex_lock(&d->lock);
	for (int i = 0; i < d->n; i++) {
		const struct bb_decision *one = &d->v[i].decision;
		if (one->kind == BB_DECISION_CHOOSE && n_chosen++ == k) {
			found = one->branch;
		}
	}
	for (int b = 0; n_chosen == 0 && found < 0 && b < n_branches; b++) {
		bool is_dropped = false;
		for (int i = 0; i < d->n; i++) {
			const struct bb_decision *one = &d->v[i].decision;
			is_dropped = is_dropped || (one->kind == BB_DECISION_DROP && one->branch == b);
		}
		found = !is_dropped && k-- == 0 ? b : -1;
	}
	pthread_mutex_unlock(&d->lock);
	return found < n_branches ? found : -1;
}

/* ---- as JSON ---- */

json_t *decisions_json(struct decisions *d) {
	json_t *list = json_array();
	pthread_mutex_lock(&d->lock);
	for (int i = 0; i < d->n; i++) {
		struct bb_decision one = d->v[i].decision;
		one.policy = d->v[i].policy;
		json_array_append_new(list, decision_json(&one));
	}
	if (d->has_lost) {
		ration_lose();
	}
	pthread_mutex_unlock(&d->lock);
	return list;
}

/* ---- the log ---- */

/* Bytes beyond ASCII as U+FFFD: what a reason quotes may have been cut within a character. */
static void print_text(FILE *out, const char *text, size_t most) {
	putc('"', out);
	for (size_t i = 0; i < most && text[i] != '\0'; i++) {
		const unsigned char c = (unsigned char)text[i];
		if (c >= 0x80) {
			fputs((c & 0xC0) == 0x80 ? "" : "\\ufffd", out);
		} else if (c < ' ' || c == '"' || c == '\\') {
			fprintf(out, "\\u%04x", c);
		} else {
			putc(c, out);
		}
	}
	putc('"', out);
}

static void print_number(FILE *out, const char *name, double value) {
	if (isfinite(value)) {
		fprintf(out, ",\"%s\":%.17g", name, value);
	} else {
		fprintf(out, ",\"%s\":null", name);
	}
}

static void print_decision(FILE *out, const struct decision *d) {
	const struct bb_decision *one = &d->decision;
	fprintf(out, "{\"kind\":\"%s\",\"branch\":%d,\"token\":%d,\"policy\":",
		bb_decision_name(one->kind), one->branch, one->token);
	print_text(out, d->policy, sizeof(d->policy));
	print_number(out, "value", one->value);
	print_number(out, "bar", one->bar);
	fputs(",\"why\":", out);
	print_text(out, one->why, sizeof(one->why));
	fprintf(out, ",\"load_dependent\":%s}", one->is_load_dependent ? "true" : "false");
}

int decisions_open(const char *path, bool *is_torn) {
	const int fd = open(path, O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
	struct stat s;
	char last = '\n';
	if (fd >= 0 && fstat(fd, &s) == 0 && S_ISREG(s.st_mode) && s.st_size > 0 &&
		pread(fd, &last, 1, s.st_size - 1) != 1) {
		last = '\n';
	}
	*is_torn = last != '\n';
	return fd;
}

/* In one write, where the system takes all of it. */
static bool append(int fd, const char *line, size_t bytes, bool *is_torn) {
	while (bytes > 0) {
		const ssize_t n = write(fd, line, bytes);
		if (n > 0) {
			line += n;
			bytes -= (size_t)n;
			*is_torn = bytes > 0;
		} else if (n == 0 || errno != EINTR) {
			return false;
		}
	}
	return true;
}

bool decisions_log(struct decisions *d, int fd, bool *is_torn, const char *id, uint64_t number,
	uint64_t seed) {
	char *line = NULL;
	size_t bytes = 0;
	pthread_mutex_lock(&d->lock);
	const int n = d->n;
	FILE *out = n > 0 ? open_memstream(&line, &bytes) : NULL;
	if (out != NULL) {
		fputs(*is_torn ? "\n{\"id\":" : "{\"id\":", out);
		print_text(out, id, SIZE_MAX);
		fprintf(out, ",\"number\":%llu,\"time\":%lld,\"seed\":%lld,\"decisions\":[",
			(unsigned long long)number, (long long)time(NULL), (long long)(int64_t)seed);
		for (int i = 0; i < n; i++) {
			fputs(i > 0 ? "," : "", out);
			print_decision(out, &d->v[i]);
		}
		fputs("]}\n", out);
	}
	pthread_mutex_unlock(&d->lock);
	const bool is_made = out != NULL && fclose(out) == 0;
	const bool ok = n == 0 || (is_made && append(fd, line, bytes, is_torn));
	free(line);
	return ok;
}

/* ---- from requests ---- */

static bool wrong(struct exchange *x, const char *name, size_t i, const char *what) {
	return reply_error(x, 400, name, "invalid_value", "'%s[%zu]' %s", name, i, what);
}

static bool read_one(struct exchange *x, const json_t *item, const char *name, size_t i,
	struct bb_decision *d) {
	const char *kind = json_string_value(json_object_get(item, "kind")), *why = NULL;
	if (kind == NULL || !bb_decision_parse(kind, &d->kind)) {
		return wrong(x, name, i, "isn't a decision of a known kind, as replies list them");
	}
	const json_t *token = field(item, "token"), *branch = field(item, "branch");
	if (!json_is_integer(token) || json_integer_value(token) < 0 ||
		json_integer_value(token) > INT_MAX) {
		return wrong(x, name, i, "has no 'token' that is a whole number");
	}
	if (branch != NULL && (!json_is_integer(branch) || json_integer_value(branch) < -1 ||
		json_integer_value(branch) > INT_MAX)) {
		return wrong(x, name, i, "has a 'branch' that isn't a whole number from -1 on");
	}
	d->token = (int)json_integer_value(token);
	d->branch = branch != NULL ? (int)json_integer_value(branch) : -1;
	d->policy = "control"; /* unless it says */
	const char *names[] = { "value", "bar" };
	double *const numbers[] = { &d->value, &d->bar };
	for (int k = 0; k < 2; k++) {
		const json_t *number = field(item, names[k]);
		if (number != NULL && !json_is_number(number)) {
			return wrong(x, name, i, "has a 'value' or 'bar' that isn't a number");
		}
		*numbers[k] = json_number_value(number);
	}
	if (!field_string(x, item, "policy", &d->policy) || !field_string(x, item, "why", &why) ||
		!field_bool(x, item, "load_dependent", &d->is_load_dependent)) {
		return false;
	}
	snprintf(d->why, sizeof(d->why), "%s", why != NULL ? why : "");
	return true;
}

bool decisions_read(struct exchange *x, const json_t *list, const char *name,
	struct bb_decision **out, int *n) {
	const size_t size = json_array_size(list);
	if (!json_is_array(list)) {
		return reply_error(x, 400, name, "invalid_type",
			"'%s' must be an array of decisions, as replies list them", name);
	}
	if (size > MOST_REPLAYED) {
		return reply_error(x, 400, name, "invalid_value", "'%s' has %zu decisions, expected at "
			"most %d", name, size, MOST_REPLAYED);
	}
	struct bb_decision *all = ration_take(size * sizeof(*all)) ? calloc(size + 1, sizeof(*all))
		: NULL;
	if (all == NULL) {
		return reply_no_memory(x);
	}
	*out = all; /* the caller's to free, whatever comes of it */
	*n = (int)size;
	for (size_t i = 0; i < size; i++) {
		if (!read_one(x, json_array_get(list, i), name, i, &all[i])) {
			return false;
		}
	}
	return true;
}
