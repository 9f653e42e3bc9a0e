/* SPDX-License-Identifier: Apache-2.0
 *
 * GET /metrics, in the text format of Prometheus: our own names, and those of vLLM that dashboards
 * and autoscalers read, where --metrics-compat asks for them. */
#include "metrics_table.h"

#include "ration.h"
#include "routes.h"
#include "server.h"

#include <stdio.h>

/* vLLM's buckets, so that its dashboards fit. */
static const double first_s[] = { .001, .005, .01, .02, .04, .06, .08, .1, .25, .5, .75, 1, 2.5, 5,
	7.5, 10, 20, 40, 80, 160, 640, 2560 };
static const double between_s[] = { .01, .025, .05, .075, .1, .15, .2, .3, .4, .5, .75, 1, 2.5, 5,
	7.5, 10, 20, 40, 80 };
static const double whole_s[] = { .3, .5, .8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120,
	240, 480, 960, 1920, 7680 };
static const double tokens[] = { 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000,
	50000, 100000, 200000, 500000, 1000000 };
#define BOUNDS(list) list, (int)(sizeof(list) / sizeof((list)[0]))

const struct histogram_row metrics_histograms[N_HISTOGRAMS] = {
	[HIST_TTFT] = { "time_to_first_token_seconds", "time_to_first_token_seconds",
		"From the request to its first token.", BOUNDS(first_s) },
	[HIST_ITL] = { "inter_token_latency_seconds", "inter_token_latency_seconds",
		"From one token of an answer to the next.", BOUNDS(between_s) },
	[HIST_E2E] = { "request_seconds", "e2e_request_latency_seconds",
		"From the request to the end of its answer.", BOUNDS(whole_s) },
	[HIST_QUEUE] = { "request_queue_seconds", "request_queue_time_seconds",
		"Until the first step for a request.", BOUNDS(whole_s) },
	[HIST_PREFILL] = { "request_prompt_seconds", "request_prefill_time_seconds",
		"Reading the prompt.", BOUNDS(whole_s) },
	[HIST_DECODE] = { "request_output_seconds", "request_decode_time_seconds",
		"From the first token to the last one.", BOUNDS(whole_s) },
	[HIST_TPOT] = { "request_time_per_output_token_seconds",
		"request_time_per_output_token_seconds",
		"Mean time of an answer's tokens behind the first.", BOUNDS(between_s) },
	[HIST_PROMPT_TOKENS] = { "request_prompt_tokens", "request_prompt_tokens",
		"Tokens of a prompt.", BOUNDS(tokens) },
	[HIST_OUTPUT_TOKENS] = { "request_output_tokens", "request_generation_tokens",
		"Tokens of an answer.", BOUNDS(tokens) },
};

struct page {
	struct buf out;
	const char *prefix;  /* "bobbin_" or "vllm:" */
	char labels[512];    /* without braces; may be empty */
};

static void head(struct page *p, const char *name, const char *type, const char *help) {
	buf_print(&p->out, "# HELP %s%s %s\n# TYPE %s%s %s\n", p->prefix, name, help, p->prefix, name,
		type);
}

static void sample(struct page *p, const char *name, const char *more, double value) {
	const char *comma = p->labels[0] != '\0' && more[0] != '\0' ? "," : "";
	const bool has_labels = p->labels[0] != '\0' || more[0] != '\0';
	buf_print(&p->out, "%s%s%s%s%s%s%s %.17g\n", p->prefix, name, has_labels ? "{" : "", p->labels,
		comma, more, has_labels ? "}" : "", value);
}

static void put(struct page *p, const char *name, const char *type, const char *help,
	double value) {
	head(p, name, type, help);
	sample(p, name, "", value);
}

static void put_histogram(struct page *p, const char *name, const struct histogram_row *row,
	const struct histogram_counts *counts) {
	char full[80], bound[32];
	double total = 0;
	head(p, name, "histogram", row->help);
	snprintf(full, sizeof(full), "%s_bucket", name);
	for (int i = 0; i <= row->n_bounds; i++) {
		total += (double)counts->n[i];
		if (i < row->n_bounds) {
			snprintf(bound, sizeof(bound), "le=\"%g\"", row->bounds[i]);
		}
		sample(p, full, i < row->n_bounds ? bound : "le=\"+Inf\"", total);
	}
	snprintf(full, sizeof(full), "%s_sum", name);
	sample(p, full, "", counts->sum);
	snprintf(full, sizeof(full), "%s_count", name);
	sample(p, full, "", total);
}

static void put_finished(struct page *p, const char *name, const char *label,
	const struct metrics *m) {
	static const char *const reasons[] = { "stop", "length", "abort", "error" };
	char more[64];
	head(p, name, "counter", "Answers, by why they ended.");
	for (int i = 0; i < N_FINISHED; i++) {
		snprintf(more, sizeof(more), "%s=\"%s\"", label, reasons[i]);
		sample(p, name, more, (double)m->finished[i]);
	}
}

static void put_drafts(struct page *p, const struct bb_scheduler_stats *st) {
	char more[64];
	for (int accepted = 0; accepted < 2; accepted++) {
		const char *name = accepted ? "drafts_accepted_total" : "drafts_total";
		head(p, name, "counter", accepted ? "Tokens that were guessed right, by how."
			: "Tokens that were computed as guesses, by how.");
		for (int i = 0; i < BB_SPEC_SOURCES; i++) {
			snprintf(more, sizeof(more), "source=\"%s\"",
				bb_spec_source_name((enum bb_spec_source)i));
			sample(p, name, more,
				(double)(accepted ? st->spec[i].n_accepted : st->spec[i].n_drafted));
		}
	}
}

static void put_own(struct page *p, const struct server *s, const struct metrics *m,
	const struct bb_scheduler_stats *st) {
	char more[64];
	put(p, "requests_running", "gauge", "Requests that have begun.", st->n_running);
	put(p, "requests_waiting", "gauge", "Requests that haven't begun.", st->n_waiting);
	put(p, "requests_aside", "gauge", "Requests that were put aside for others.", st->n_aside);
	put(p, "kv_cache_bytes", "gauge", "Keys, values and states of contexts, in use.",
		(double)st->kv_bytes);
	put(p, "kv_cache_limit_bytes", "gauge", "Their limit; 0 means none.",
		(double)st->max_kv_bytes);
	put(p, "prefix_cache_bytes", "gauge", "Kept for prompts that begin alike.",
		(double)st->prefix_bytes);
	put(p, "swap_bytes", "gauge", "Host memory of what was put aside.", (double)st->swap_bytes);
	put(p, "swap_limit_bytes", "gauge", "Its limit.", (double)s->options.swap_bytes);
	put(p, "request_memory_pooled_bytes", "gauge", "What large requests hold of their common pool.",
		(double)ration_pooled());
	put(p, "requests_total", "counter", "Requests that were taken.", (double)st->n_requests);
	put(p, "requests_refused_total", "counter", "Requests that were refused.",
		(double)m->n_refused);
	put(p, "requests_refused_busy_total", "counter", "Refused since the queue was full.",
		(double)m->n_busy);
	put(p, "steps_total", "counter", "Steps of the engine.", (double)st->n_steps);
	put(p, "step_seconds_total", "counter", "Time spent in steps.", st->busy_s);
	put(p, "prompt_tokens_total", "counter", "Tokens of prompts, computed or not.",
		(double)(st->n_prompt_tokens + st->n_cached_tokens));
	put(p, "prompt_tokens_cached_total", "counter", "Tokens of prompts that weren't computed.",
		(double)st->n_cached_tokens);
	put(p, "output_tokens_total", "counter", "Tokens of answers.", (double)st->n_output_tokens);
	put(p, "tokens_computed_again_total", "counter", "Tokens of what had been put aside.",
		(double)st->n_computed_again);
	head(p, "preemptions_total", "counter", "How often something was put aside.");
	sample(p, "preemptions_total", "kind=\"swap\"", (double)st->n_swapped);
	sample(p, "preemptions_total", "kind=\"recompute\"", (double)st->n_dropped);
	put_drafts(p, st);
	put(p, "compute_spent_total", "counter", "Of the compute budget, in its unit.", st->spent);
	put(p, "compute_held_seconds_total", "counter", "Time in which it held requests back.",
		st->held_s);
	put(p, "compute_held", "gauge", "Answers that it holds back now.", st->n_held);
	put(p, "compute_price", "gauge", "What a unit costs elastic requests, while others wait.",
		st->price);
	put_finished(p, "answers_total", "reason", m);
	head(p, "http_responses_total", "counter", "Responses, by status.");
	for (int i = 0; i < METRICS_STATUSES && m->replies[i].n > 0; i++) {
		snprintf(more, sizeof(more), "code=\"%d\"", m->replies[i].status);
		sample(p, "http_responses_total", more, (double)m->replies[i].n);
	}
	put(p, "start_time_seconds", "gauge", "When the server started, since 1970.",
		(double)s->created);
	for (int i = 0; i < N_HISTOGRAMS; i++) {
		put_histogram(p, metrics_histograms[i].name, &metrics_histograms[i], &m->histograms[i]);
	}
}

static void put_vllm(struct page *p, const struct metrics *m,
	const struct bb_scheduler_stats *st) {
	double n_drafted = 0, n_accepted = 0;
	for (int i = 0; i < BB_SPEC_SOURCES; i++) {
		n_drafted += (double)st->spec[i].n_drafted;
		n_accepted += (double)st->spec[i].n_accepted;
	}
	const double used = st->max_kv_bytes > 0 ? (double)st->kv_bytes / (double)st->max_kv_bytes : 0;
	const double n_prompt = (double)(st->n_prompt_tokens + st->n_cached_tokens);
	put(p, "num_requests_running", "gauge", "Requests in steps.", st->n_running);
	put(p, "num_requests_waiting", "gauge", "Requests that wait.", st->n_waiting + st->n_aside);
	head(p, "num_requests_waiting_by_reason", "gauge", "Requests that wait, by reason.");
	sample(p, "num_requests_waiting_by_reason", "reason=\"capacity\"", st->n_waiting);
	sample(p, "num_requests_waiting_by_reason", "reason=\"deferred\"", st->n_aside);
	put(p, "kv_cache_usage_perc", "gauge", "Share of the KV cache in use, 1 is all.", used);
	put(p, "gpu_cache_usage_perc", "gauge", "The old name of kv_cache_usage_perc.", used);
	put(p, "prompt_tokens_total", "counter", "Tokens of prompts.", n_prompt);
	put(p, "generation_tokens_total", "counter", "Tokens of answers.",
		(double)st->n_output_tokens);
	put(p, "prompt_tokens_cached_total", "counter", "Tokens of prompts that were cached.",
		(double)st->n_cached_tokens);
	put(p, "prefix_cache_queries_total", "counter", "Tokens looked up in the prefix cache.",
		n_prompt);
	put(p, "prefix_cache_hits_total", "counter", "Tokens found there.",
		(double)st->n_cached_tokens);
	put(p, "num_preemptions_total", "counter", "How often something was put aside.",
		(double)(st->n_swapped + st->n_dropped));
	put(p, "spec_decode_num_draft_tokens_total", "counter", "Tokens computed as guesses.",
		n_drafted);
	put(p, "spec_decode_num_accepted_tokens_total", "counter", "Guesses that were right.",
		n_accepted);
	put_finished(p, "request_success_total", "finished_reason", m);
	for (int i = 0; i < N_HISTOGRAMS; i++) {
		const struct histogram_row *row = &metrics_histograms[i];
		put_histogram(p, row->vllm, row, &m->histograms[i]);
	}
}

/* As the text format wants a label's value. */
static void label(char *out, size_t bytes, const char *text) {
	size_t n = 0;
	for (; *text != '\0' && n + 3 < bytes; text++) {
		if (*text == '"' || *text == '\\') {
			out[n++] = '\\';
		}
		out[n++] = *text == '\n' ? ' ' : *text;
	}
	out[n] = '\0';
}

void metrics_handle(struct exchange *x) {
	struct server *s = x->server;
	struct bb_scheduler_stats stats;
	bb_scheduler_stats(s->scheduler, &stats);
	pthread_mutex_lock(&s->metrics.lock);
	struct metrics m = s->metrics; /* one moment */
	pthread_mutex_unlock(&s->metrics.lock);
	struct page p = { .prefix = "bobbin_" };
	put_own(&p, s, &m, &stats);
	if (s->options.metrics_vllm) {
		char name[400];
		label(name, sizeof(name), s->names[0]);
		p.prefix = "vllm:";
		snprintf(p.labels, sizeof(p.labels), "model_name=\"%s\",engine=\"0\"", name);
		put_vllm(&p, &m, &stats);
	}
	if (p.out.has_failed) {
		reply_no_memory(x);
	} else {
		reply_text(x, 200, "text/plain; version=0.0.4; charset=utf-8", p.out.data);
	}
	buf_finish(&p.out);
}
