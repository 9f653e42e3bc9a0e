/* SPDX-License-Identifier: Apache-2.0
 *
 * Starting and ending, and the one thread that computes. */
#include "server.h"

#include "asked_effort.h"
#include "decisions.h"
#include "terminal.h"
#include "turn.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

bool server_fail(struct bb_error *err, enum bb_code code, const char *format, ...) {
	va_list args;
	va_start(args, format);
	if (err->code == BB_OK) {
		err->code = code;
		vsnprintf(err->text, sizeof(err->text), format, args);
	}
	va_end(args);
	return false;
}

bool server_has_model(const struct server *s, const char *name) {
	if (name == NULL || name[0] == '\0') {
		return true;
	}
	for (int i = 0; i < s->n_names; i++) {
		if (strcmp(name, s->names[i]) == 0) {
			return true;
		}
	}
	return false;
}

static void add_name(struct server *s, const char *name) {
	if (name[0] != '\0' && (s->n_names == 0 || !server_has_model(s, name))) {
		s->names[s->n_names++] = name;
	}
}

/* --served-model-name, then the file's stem, then what the file calls itself. */
static void name_model(struct server *s, const char *path) {
	size_t n = strlen(path);
	while (n > 1 && path[n - 1] == '/') {
		n--;
	}
	size_t first = n;
	while (first > 0 && path[first - 1] != '/') {
		first--;
	}
	snprintf(s->stem, sizeof(s->stem), "%.*s", (int)(n - first), path + first);
	char *ending = strrchr(s->stem, '.');
	if (ending != NULL && strcmp(ending, ".gguf") == 0) {
		*ending = '\0';
	}
	for (int i = 0; i < s->options.names.n; i++) {
		add_name(s, s->options.names.v[i]);
	}
	add_name(s, s->stem);
	add_name(s, s->info.name);
}

bool server_check(const struct server_options *o, struct bb_error *err) {
	const char *tools = o->tool_parser;
	if (tools != NULL && strcmp(tools, "auto") != 0 && strcmp(tools, "none") != 0 &&
		tool_format_find(tools) == NULL) {
		return server_fail(err, BB_ERR_USAGE, "option '--tool-call-parser' is '%.100s', expected "
			"one of %s", tools, tool_format_names());
	}
	return asked_effort_check(o, err);
}

static void choose_parsers(struct server *s) {
	const struct server_options *o = &s->options;
	const char *tools = o->tool_parser != NULL ? o->tool_parser : "auto";
	const char *reasoning = o->reasoning_parser != NULL ? o->reasoning_parser : "auto";
	s->template_source = o->template_source != NULL ? o->template_source
		: bb_has_vocab(s->engine) ? bb_chat_template(s->engine) : NULL;
	s->tools = strcmp(tools, "auto") == 0 ? tool_format_of(s->template_source)
		: strcmp(tools, "none") != 0 ? tool_format_find(tools) : NULL;
	const char *source = s->template_source != NULL ? s->template_source : "";
	const bool has_tags = strstr(source, "<think>") != NULL || strstr(source, "</think>") != NULL;
	if (o->think_end != NULL) {
		s->thinking = (struct bb_thinking){ .begin = o->think_begin, .end = o->think_end };
	} else if (strcmp(reasoning, "auto") == 0 ? has_tags : strcmp(reasoning, "none") != 0) {
		s->thinking = (struct bb_thinking){ .begin = "<think>", .end = "</think>" };
	}
}

static void *run(void *user) {
	struct server *s = user;
	while (!atomic_load(&s->must_stop)) {
		bool is_idle;
		if (!bb_scheduler_step(s->scheduler, &is_idle, &s->broken)) {
			atomic_store(&s->is_broken, true);
			is_idle = true;
		}
		turn_free_ended(s);
		if (is_idle) {
			bb_scheduler_wait(s->scheduler, 1);
		}
	}
	return NULL;
}

bool server_start(struct server *s, struct bb_engine *engine, const struct server_options *options,
	const char *path, struct bb_error *err) {
	memset(s, 0, sizeof(*s));
	s->engine = engine;
	s->options = *options;
	s->created = (long)time(NULL);
	s->started = seconds_now();
	bb_engine_info(engine, &s->info);
	metrics_init(&s->metrics);
	store_init(&s->store, options->max_stored, options->max_stored_bytes);
	name_model(s, path);
	pthread_mutex_init(&s->live_lock, NULL);
	s->decision_fd = -1;
	s->cut_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	const struct bb_scheduler_params params = {
		.max_running = options->max_running, .max_waiting = options->max_waiting,
		.max_step_tokens = options->max_step_tokens,
		.prefix_cache_bytes = options->prefix_cache_bytes,
		.max_swap_bytes = options->swap_bytes > 0 ? options->swap_bytes : BB_SWAP_NONE,
		.no_prefix_cache = options->no_prefix_cache, .speculation = options->speculation,
		.compute_budget = options->compute_budget, .budget_is_flops = options->budget_is_flops,
	};
	choose_parsers(s);
	if (s->cut_fd < 0) {
		return server_fail(err, BB_ERR_IO, "no eventfd for the end: %s", strerror(errno));
	}
	if (!asked_effort_check_model(s, engine, err)) {
		return false;
	}
	if (options->decision_log != NULL) {
		s->decision_fd = decisions_open(options->decision_log, &s->has_torn_line);
		if (s->decision_fd < 0) {
			return server_fail(err, BB_ERR_IO, "'%s' can't be opened: %s", options->decision_log,
				strerror(errno));
		}
	}
	if (!bb_scheduler_create(&s->scheduler, engine, &params, err)) {
		return false;
	}
	if (pthread_create(&s->thread, NULL, run, s) != 0) {
		return server_fail(err, BB_ERR_MEMORY, "a thread for the engine couldn't be started");
	}
	s->has_thread = true;
	return true;
}

void server_cut(struct server *s) {
	const uint64_t one = 1;
	atomic_store(&s->is_cut, true);
	const ssize_t written = write(s->cut_fd, &one, sizeof(one));
	(void)written; /* it's never read, so there is room for the first one */
}

void server_stop(struct server *s) {
	if (s->has_thread) {
		atomic_store(&s->must_stop, true);
		bb_scheduler_wake(s->scheduler);
		pthread_join(s->thread, NULL);
		s->has_thread = false;
	}
	/* Whoever still waits for an event gets its last one from here. */
	bb_scheduler_destroy(s->scheduler);
	s->scheduler = NULL;
	turn_free_ended(s);
}

void server_finish(struct server *s) {
	bb_engine_destroy(s->engine);
	store_finish(&s->store);
	metrics_destroy(&s->metrics);
	if (s->cut_fd >= 0) {
		close(s->cut_fd);
	}
	if (s->decision_fd >= 0) {
		close(s->decision_fd);
	}
	pthread_mutex_destroy(&s->live_lock);
}
