/* SPDX-License-Identifier: Apache-2.0
 *
 * bobbin serve: the HTTP server. Options, signals, and the order in which it ends. */
#include "commands.h"

#include "available.h"
#include "input.h"
#include "open.h"
#include "serve/auth.h"
#include "serve/http.h"
#include "serve/ration.h"
#include "speculation.h"
#include "terminal.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/resource.h>
#include <unistd.h>

struct options {
	struct open_options open;
	struct speculation_options speculation;
	struct server_options server;
	const char *key_file, *template_file, *metrics_compat, *log_level, *compute_budget;
	float swap_gib; /* < 0: not given */
	size_t request_memory_bytes;
};

#define AT(member) offsetof(struct options, member)
#define OF(member) offsetof(struct options, server.member)

static const struct arg_option own[] = {
	{ "--host", "ADDRESS", "where to listen (default 127.0.0.1: this machine only)", ARG_TEXT,
		OF(host) },
	{ "--port", "N", "0 = any that is free (default 8000)", ARG_INT, OF(port), 0, 65535 },
	{ "--served-model-name,--alias,-a", "NAME", "what replies call the model, and requests may; "
		"may be repeated (default: the file's stem)", ARG_TEXTS, OF(names) },
	{ "--api-key", "KEY", "requests must have it as 'Authorization: Bearer KEY'; may be repeated; "
		"$BOBBIN_API_KEY is one too", ARG_TEXTS, OF(keys) },
	{ "--api-key-file", "FILE", "the same, a key a line, perhaps with ' weight=N' behind it: of "
		"its share of --compute-budget (default 1)", ARG_TEXT, AT(key_file) },
	{ "--cors-origin,--allowed-origins", "ORIGIN", "pages from there may use the server, * = from "
		"anywhere; may be repeated (default: none)", ARG_TEXTS, OF(origins) },
	{ "--allowed-host", "NAME", "requests may call this machine so in their Host, beside "
		"localhost, 127.0.0.1, [::1] and --host's address; may be repeated; where --host isn't of "
		"this machine alone, any name will do", ARG_TEXTS, OF(hosts) },
	{ "--chat-template,--chat-template-file", "FILE", "use this template instead of the model's",
		ARG_TEXT, AT(template_file) },
	{ "--tool-call-parser", "NAME", "how the model writes calls of tools: auto (default, from the "
		"template), none, hermes, mistral, deepseek, lfm2, pythonic or llama3_json", ARG_TEXT,
		OF(tool_parser) },
	{ "--reasoning-parser", "NAME", "auto (default, from the template), none, or think: text in "
		"<think> goes to reasoning_content", ARG_TEXT, OF(reasoning_parser) },
	{ "--think-end", "TEXT", "thinking ends where the model writes this, instead of its template's "
		"</think>: what comes before it goes to reasoning_content", ARG_TEXT, OF(think_end) },
	{ "--think-begin", "TEXT", "and begins with this (default: with the answer)", ARG_TEXT,
		OF(think_begin) },
	{ "--thinking-budget,--reasoning-budget", "N", "thinking tokens of requests that ask for "
		"nothing else; -1 = no budget (default)", ARG_INT, OF(thinking_budget), -1, INT_MAX },
	{ "--reasoning-effort", "LEVEL", "the same as a level: none, minimal, low, medium, high, "
		"xhigh or max", ARG_TEXT, OF(reasoning_effort) },
	{ "--answer-pattern", "REGEX", "what an answer is, for votes and probes: a regular expression, "
		"or number, boxed, choice or line", ARG_TEXT, OF(answer_pattern) },
	{ "--decision-log", "FILE", "append what was decided about each request, a JSON object a line, "
		"so that it can be done again", ARG_TEXT, OF(decision_log) },
	{ "--enable-prompt-embeds", NULL, "prompts may come as embeddings, in tensors of torch.save",
		ARG_FLAG, OF(prompt_embeds) },
	{ "--metrics-compat", "NAME", "vllm: publish the metrics by vLLM's names as well", ARG_TEXT,
		AT(metrics_compat), 0, 0, "vllm" },
	{ "--log-level", "LEVEL", "off, error, warn, info (default) or debug: requests on stderr, a "
		"JSON object a line", ARG_TEXT, AT(log_level), 0, 0, "off|error|warn|info|debug" },
	{ "--enable-metrics,--metrics,--enable-auto-tool-choice,--jinja,--enable-prefix-caching", NULL,
		"accepted: on anyway", ARG_NONE, 0 },
	{ 0 },
};

static const struct arg_option limits[] = {
	{ "--max-num-seqs,--max-running-requests,-np,--parallel", "N",
		"answers in a step; 1 = one at a time, urgent or not (default 64)", ARG_INT,
		OF(max_running), 1, 4096 },
	{ "--max-queue", "N", "requests that may wait; more get 429 (default 1024)", ARG_INT,
		OF(max_waiting), 1, 1 << 20 },
	{ "--max-num-batched-tokens", "N", "tokens in a step (default: as the engine plans)", ARG_INT,
		OF(max_step_tokens), 1, 1 << 20 },
	{ "--compute-budget", "N", "tokens that may be computed in a second, of prompts and answers of "
		"all requests, or N flops, as 5e11flops; keys share them by their weights (default: as "
		"many as there is time for)", ARG_TEXT, AT(compute_budget) },
	{ "--prefix-cache-bytes,--cache-ram", "N", "what prompts that begin alike share (default: half "
		"of --kv-cache-bytes, else 4G)", ARG_BYTES, OF(prefix_cache_bytes) },
	{ "--no-enable-prefix-caching,--disable-radix-cache", NULL, "share nothing between requests",
		ARG_FLAG, OF(no_prefix_cache) },
	{ "--swap-space", "GIB", "memory for requests put aside for others and prefixes that have no "
		"room; what has none here is computed again; 0 = none (default: an eighth of what is free, "
		"at most 4)", ARG_FLOAT,
		AT(swap_gib), 0, 1 << 20 },
	{ "--request-memory-bytes", "N", "what bodies, answers in the making and events that aren't "
		"read hold in sum, without contexts; more gets 503, and slow readers' requests pause; "
		"small requests always have room (default 1G)", ARG_BYTES, AT(request_memory_bytes) },
	{ "--max-body-bytes", "N", "of a request; more gets 413 (default 32M)", ARG_BYTES,
		OF(max_body_bytes) },
	{ "--max-json-depth", "N", "levels of a request's JSON (default 100)", ARG_INT, OF(max_depth),
		2, 1000 },
	{ "--max-connections", "N", "open at once (default 1024)", ARG_INT, OF(max_connections), 1,
		1 << 16 },
	{ "--max-n", "N", "answers that one request may ask for (default 64)", ARG_INT, OF(max_n), 1,
		4096 },
	{ "--max-stored-responses", "N", "kept for previous_response_id (default 1024)", ARG_INT,
		OF(max_stored), 0, 1 << 20 },
	{ "--max-stored-bytes", "N", "of these (default 256M)", ARG_BYTES, OF(max_stored_bytes) },
	{ "--max-prompt-embeds-bytes", "N", "of prompts as embeddings, as float32, that aren't "
		"answered; more get 429 (default 1G)", ARG_BYTES, OF(max_embeds_bytes) },
	{ "--idle-timeout", "S", "seconds until a silent connection is closed (default 60)", ARG_INT,
		OF(idle_s), 1, 86400 },
	{ "--request-timeout", "S", "seconds that a request may take to come, from its first byte "
		"(default 120)", ARG_INT, OF(receive_s), 1, 86400 },
	{ "--drain-timeout", "S", "seconds that SIGTERM waits for what has begun (default 30)", ARG_INT,
		OF(drain_s), 0, 86400 },
	{ 0 },
};

static const struct arg_group groups[] = {
	{ "server", own, 0 },
	{ "limits", limits, 0 },
	{ "guesses", speculation_table, AT(speculation) },
	{ "model", open_engine, AT(open) },
	{ "context", open_context, AT(open) },
	{ 0 },
};

const struct arg_command cmd_serve = {
	.name = "serve",
	.usage = "MODEL [--host ADDRESS] [--port N] [options]",
	.summary = "Serves a model over HTTP. The APIs are those of OpenAI (chat completions, "
		"completions, responses,\nembeddings) and Anthropic (messages); /openapi.json describes "
		"them, /metrics is for Prometheus.\n"
		"SIGTERM and Ctrl-C end it when what has begun is answered, a second one at once.",
	.groups = groups,
	.positional = "MODEL",
	.positional_at = AT(open.path),
	.later = OPEN_LATER ",--lora",
	.main = serve_main,
};

/* ---- signals ---- */

static int signal_pipe[2] = { -1, -1 };
static volatile sig_atomic_t n_signals;

static void on_signal(int number) {
	const int reason = errno;
	if (++n_signals > 1) {
		_exit(128 + number);
	}
	const ssize_t written = write(signal_pipe[1], "", 1);
	(void)written;
	errno = reason;
}

static bool watch_signals(void) {
	if (pipe2(signal_pipe, O_CLOEXEC | O_NONBLOCK) != 0) {
		return false;
	}
	const struct sigaction action = { .sa_handler = on_signal, .sa_flags = SA_RESTART };
	return sigaction(SIGTERM, &action, NULL) == 0 && sigaction(SIGINT, &action, NULL) == 0;
}

/* ---- keys, templates ---- */

struct files { /* what options point into */
	struct input keys, template_text;
};

static int add_key(struct server_options *o, const char *key, double weight) {
	if (o->keys.n == ARG_LIST_MAX) {
		return failure("there are more than %d keys", ARG_LIST_MAX);
	}
	o->weights[o->keys.n] = weight;
	o->keys.v[o->keys.n++] = key;
	return -1;
}

/* A key a line, some with weights. */
static int read_keys(struct options *o, char *rest) {
	static const char blanks[] = " \t\r";
	int status = -1, i_line = 0;
	for (char *line; status < 0 && rest != NULL && (line = strsep(&rest, "\n")) != NULL;) {
		double weight;
		i_line++;
		for (size_t n = strlen(line); n > 0 && strchr(blanks, line[n - 1]) != NULL; n--) {
			line[n - 1] = '\0';
		}
		if (!auth_cut_weight(line, &weight)) {
			return failure("'%s': a key's weight is '%s', expected a number above 0", o->key_file,
				strrchr(line, '=') + 1);
		}
		/* no client can send one with a blank: it's a weight that was mistyped */
		if (strpbrk(line, blanks) != NULL) {
			return failure("'%s': line %d has a blank, expected a key, or a key and 'weight=N'",
				o->key_file, i_line);
		}
		status = line[0] != '\0' ? add_key(&o->server, line, weight) : -1;
	}
	return status;
}

/* A number, perhaps with what it counts, and perhaps with /s behind that. */
static int read_budget(struct options *o) {
	static const char *const units[] = { "tokens", "flops" };
	const char *text = o->compute_budget;
	if (text == NULL) {
		return -1;
	}
	char *end;
	const double n = strtod(text, &end);
	bool is_read = end > text && n > 0 && isfinite(n);
	end += strspn(end, " ");
	for (int i = 0; i < 2; i++) {
		const size_t letters = strlen(units[i]);
		if (strncasecmp(end, units[i], letters) == 0) {
			o->server.budget_is_flops = i == 1;
			end += letters;
			break;
		}
	}
	is_read = is_read && (end[0] == '\0' || strcmp(end, "/s") == 0);
	o->server.compute_budget = n;
	return is_read ? -1 : usage_error("option '--compute-budget' is '%s', expected a number above "
		"0 of tokens or flops a second", text);
}

static int read_files(struct options *o, struct files *f) {
	struct bb_error err = { 0 };
	const char *key = getenv("BOBBIN_API_KEY");
	int status = key != NULL && key[0] != '\0' ? add_key(&o->server, key, 0) : -1;
	if (o->key_file != NULL && !input_read(o->key_file, &f->keys, &err)) {
		return failure_of(&err);
	}
	status = status < 0 ? read_keys(o, f->keys.data) : status;
	for (int i = 0; i < o->server.keys.n; i++) {
		if (o->server.keys.v[i][0] == '\0') {
			return usage_error("option '--api-key' is empty");
		}
	}
	if (o->key_file != NULL && status < 0 && o->server.keys.n == 0) {
		return failure("'%s' has no key", o->key_file);
	}
	if (o->template_file != NULL && !input_read(o->template_file, &f->template_text, &err)) {
		return failure_of(&err);
	}
	o->server.template_source = f->template_text.data;
	return status;
}

static enum log_level log_level(const char *name) {
	static const char *const names[] = { "off", "error", "warn", "info", "debug" };
	int i = LOG_INFO;
	for (int k = 0; name != NULL && k <= LOG_DEBUG; k++) {
		i = strcmp(name, names[k]) == 0 ? k : i;
	}
	return (enum log_level)i;
}

/* ---- serving ---- */

/* A connection is a socket, and a request that waits an eventfd. */
static void allow_files(int connections) {
	struct rlimit limit;
	const rlim_t want = 2 * (rlim_t)connections + 256;
	if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < want) {
		limit.rlim_cur = want < limit.rlim_max ? want : limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
}

static bool wait_for_signal(int most_ms) {
	struct pollfd fd = { .fd = signal_pipe[0], .events = POLLIN };
	char byte;
	return poll(&fd, 1, most_ms) > 0 && read(signal_pipe[0], &byte, 1) == 1;
}

/* Until nothing is open. */
static void wait_for_open(struct server *s, struct http *h, double seconds) {
	const double end = seconds_now() + seconds;
	while (atomic_load(&s->n_open) > 0 && seconds_now() < end) {
		wait_for_signal(50);
		http_sweep(h);
	}
}

static void drain(struct server *s, struct http *h) {
	const double to_say_so = 2;
	atomic_store(&s->is_draining, true);
	notice("ending; %d requests are open", atomic_load(&s->n_open));
	wait_for_open(s, h, s->options.drain_s);
	if (atomic_load(&s->n_open) > 0) {
		notice("%d requests are cut off", atomic_load(&s->n_open));
		server_cut(s);
		wait_for_open(s, h, to_say_so);
	}
}

/* ---- memory ---- */

static const double GIB = 1 << 30;

/* Where nothing is said half of what is free when the weights are there is for contexts, an eighth
 * for those that are put aside: the rest is for requests, responses, others on this machine. What a
 * GPU has isn't counted here. */
static void limit_memory(struct options *o, struct bb_engine *e) {
	const size_t free = available_memory("");
	struct bb_engine_info info;
	bb_engine_info(e, &info);
	const size_t least = (size_t)64 << 20;
	size_t kv = o->open.max_kv_bytes.value;
	if (!o->open.max_kv_bytes.is_set && free > 0 && strcmp(info.device, "cuda") != 0) {
		kv = free / 2 > least ? free / 2 : least;
		bb_engine_limit_kv(e, kv);
	}
	size_t swap = (size_t)4 << 30;
	if (o->swap_gib >= 0) {
		swap = (size_t)((double)o->swap_gib * GIB);
	} else if (free > 0 && free / 8 < swap) {
		swap = free / 8;
	}
	o->server.swap_bytes = swap;
	ration_limit(o->request_memory_bytes, o->server.max_connections);
	char of_kv[64] = "KV cache without a limit";
	if (kv > 0) {
		snprintf(of_kv, sizeof(of_kv), "KV cache up to %.2f GiB", (double)kv / GIB);
	}
	notice("memory: %.2f GiB are free; %s (--kv-cache-bytes), %.2f GiB for what is put aside "
		"(--swap-space), %.2f GiB for requests (--request-memory-bytes)", (double)free / GIB, of_kv,
		(double)swap / GIB, (double)o->request_memory_bytes / GIB);
}

static int serve(struct server *s, struct http *http) {
	struct bb_error err = { 0 };
	if (!http_start(http, s, &err)) {
		return failure_of(&err);
	}
	if (s->template_source == NULL && bb_has_vocab(s->engine)) {
		notice("the model has no chat template: messages reach it as lines, without their roles "
			"(--chat-template gives it one)");
	}
	const char *host = s->options.host;
	notice("'%s' at http://%s%s%s:%d", s->names[0], strchr(host, ':') != NULL ? "[" : "", host,
		strchr(host, ':') != NULL ? "]" : "", http_port(http));
	while (!wait_for_signal(1000)) {
		http_sweep(http);
	}
	drain(s, http);
	return STATUS_OK;
}

int serve_main(int argc, char **argv) {
	struct options o = { .swap_gib = -1, .request_memory_bytes = (size_t)1 << 30,
		.server = { .host = "127.0.0.1", .port = 8000, .max_running = 64,
		.max_waiting = 1024, .max_body_bytes = (size_t)32 << 20, .max_depth = 100,
		.max_connections = 1024, .max_n = 64, .max_stored = 1024,
		.max_stored_bytes = (size_t)256 << 20,
		.max_embeds_bytes = (size_t)1 << 30, .idle_s = 60, .receive_s = 120, .drain_s = 30,
		.thinking_budget = -1 } };
	struct files files = { 0 };
	struct bb_engine *engine = NULL, *draft = NULL;
	struct bb_speculation speculation;
	struct http *http = NULL;
	struct bb_error err = { 0 };
	int status = args_parse(&cmd_serve, argc, argv, &o);
	if (status >= 0) {
		return status;
	}
	o.server.metrics_vllm = o.metrics_compat != NULL;
	o.server.log_level = log_level(o.log_level);
	o.open.max_batch_tokens = o.server.max_step_tokens;
	status = read_budget(&o);
	status = status < 0 ? read_files(&o, &files) : status;
	if (status < 0 && o.open.path != NULL &&
		(!server_check(&o.server, &err) || !http_create(&http, &o.server, &err))) {
		status = failure_of(&err);
	}
	status = status < 0 ? speculation_params(&o.speculation, &o.open, &speculation, &draft)
		: status;
	o.server.speculation = &speculation;
	status = status < 0 ? open_model(&o.open, OPEN_ALL, &engine) : status;
	if (status < 0 && !watch_signals()) {
		status = failure("no pipe for signals: %s", strerror(errno));
	}
	static struct server server;
	if (status < 0) {
		json_object_seed(0); /* before there are threads */
		limit_memory(&o, engine);
		allow_files(o.server.max_connections);
		status = server_start(&server, engine, &o.server, o.open.path, &err)
			? serve(&server, http) : failure_of(&err);
		http_stop(http);
		http = NULL;
		server_stop(&server);
		server_finish(&server);
	}
	http_stop(http);
	bb_engine_destroy(draft);
	input_finish(&files.keys);
	input_finish(&files.template_text);
	return status;
}
