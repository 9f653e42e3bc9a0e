/* SPDX-License-Identifier: Apache-2.0
 *
 * Records n answers to each of many tasks (bench/tasks), for policies to be judged by afterwards:
 * whatever a policy reads, drops or doesn't draw, it is of these same answers. A line of OUT is a
 * task, in the order in which they end:
 *
 *   {"task": NAME, "seed": N, "n_prompt": N, "branches": [{"text", "n_tokens", "finish", "logprob",
 *    "certainty", "confidences": [...]}, ...]}
 *
 * n_tokens and all series count the end token; logprob and certainty are means over tokens;
 * confidences, one a token, are in hundredths of a nat (arXiv:2508.15260). The first line says what
 * was asked of which model. Where OUT is there already what it lacks is added: tasks are written
 * whole, and a line that a kill cut off goes.
 *
 * With CONSENSUS, a threshold, the engine's own policy draws no more answers than it wants: those
 * branches are written, and which one is given ("chosen"). bench/effort_curves --engine holds it
 * against what it makes of all answers.
 *
 * traces MODEL TASKS OUT [N [MAX_TOKENS [TEMPERATURE [PLACES [THREADS [CONSENSUS]]]]]]
 *                        16  160         0.8          64      0        0 */
#include "bobbin.h"

#include "fail.h"
#include "pattern.h"

#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct branch {
	char *text; /* [bytes] */
	size_t bytes;
	int *confidences; /* [n_tokens] with room for max_tokens, in hundredths */
	int n_tokens;
	double logprob, certainty; /* sums */
	enum bb_finish finish;
};

struct task {
	struct record *record;
	const char *name; /* of the list of tasks */
	json_t *messages; /* ... too: the conversation before the answer */
	uint64_t seed;
	size_t n_prompt;
	struct branch *branches; /* [n], while it runs */
	int chosen;              /* of them, by consensus */
	struct bb_request *request;
};

struct record {
	struct bb_engine *engine;
	struct bb_scheduler *scheduler;
	json_t *list;       /* [n_tasks] */
	struct task *tasks; /* [n_tasks] */
	int n_tasks, n, max_tokens, n_places, n_threads;
	double temperature, consensus;
	FILE *out;
	int n_left, n_written; /* tasks that run; that were written in this run */
	double n_tokens, began_s;
	bool has_failed;
};

static double now_s(void) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* ---- what is written ---- */

static json_t *branch_json(const struct branch *b) {
	json_t *confidences = must(json_array());
	for (int i = 0; i < b->n_tokens; i++) {
		json_array_append_new(confidences, json_integer(b->confidences[i]));
	}
	const double n = b->n_tokens;
	return must(json_pack("{s:s%, s:i, s:s, s:f, s:f, s:o}", "text", b->text != NULL ? b->text : "",
		b->bytes, "n_tokens", b->n_tokens,
		"finish", b->finish == BB_FINISH_STOP ? "stop" : "length",
		"logprob", round(b->logprob / n * 1e5) / 1e5,
		"certainty", round(b->certainty / n * 1e5) / 1e5, "confidences", confidences));
}

static bool write_line(struct record *r, json_t *line) {
	char *text = must(json_dumps(line, JSON_COMPACT | JSON_REAL_PRECISION(9)));
	const bool ok = fputs(text, r->out) >= 0 && fputc('\n', r->out) != EOF && fflush(r->out) == 0;
	free(text);
	json_decref(line);
	return ok || fail("the answers can't be written: %s", strerror(errno));
}

static void task_free(struct task *t, int n) {
	for (int i = 0; t->branches != NULL && i < n; i++) {
		free(t->branches[i].text);
		free(t->branches[i].confidences);
	}
	free(t->branches);
	t->branches = NULL;
}

static void write_task(struct task *t) {
	struct record *r = t->record;
	json_t *branches = must(json_array());
	for (int i = 0; i < r->n && t->branches[i].n_tokens > 0; i++) { /* those that began */
		r->n_tokens += t->branches[i].n_tokens;
		json_array_append_new(branches, branch_json(&t->branches[i]));
	}
	json_t *line = must(json_pack("{s:s, s:I, s:I, s:o}", "task", t->name, "seed",
		(json_int_t)t->seed, "n_prompt", (json_int_t)t->n_prompt, "branches", branches));
	if (r->consensus > 0) {
		json_object_set_new(line, "chosen", json_integer(t->chosen));
	}
	r->has_failed = !write_line(r, line);
	r->n_written++;
	const double s = now_s() - r->began_s;
	fprintf(stderr, "\rtraces: %d of %d tasks left, %.0f tokens/s, %.0f tokens a task, %.0f s ",
		r->n_left - 1, r->n_tasks, r->n_tokens / s, r->n_tokens / r->n_written, s);
}

/* ---- what is computed ---- */

static void on_token(struct branch *b, const struct bb_event *event) {
	b->confidences[b->n_tokens++] = (int)lround((double)event->token->confidence * 100);
	b->logprob += (double)event->token->logprob;
	b->certainty += (double)event->token->certainty;
	b->text = must(realloc(b->text, b->bytes + event->bytes + 1));
	memcpy(b->text + b->bytes, event->text, event->bytes);
	b->bytes += event->bytes;
}

static void on_event(void *user, const struct bb_event *event) {
	struct task *t = user;
	struct record *r = t->record;
	if (event->kind == BB_EVENT_TOKEN) {
		on_token(&t->branches[event->branch], event);
	} else if (event->kind == BB_EVENT_DECISION) {
		if (event->decision->kind == BB_DECISION_CHOOSE) {
			t->chosen = event->decision->branch;
		}
	} else if (event->kind == BB_EVENT_FINISHED) {
		t->branches[event->branch].finish = event->finish;
	} else if (event->kind == BB_EVENT_FAILED) {
		r->has_failed = true;
		fail("task '%s': %s", t->name, event->error->text);
	}
	if (event->usage != NULL) {
		if (event->kind == BB_EVENT_FINISHED && !r->has_failed) {
			write_task(t);
		}
		task_free(t, r->n);
		bb_request_release(event->request);
		r->n_left--;
	}
}

static bool tokenize(const struct record *r, json_t *messages, struct bb_tokens *ids,
	struct bb_error *err) {
	json_t *vars = must(json_pack("{s:O, s:b}", "messages", messages, "add_generation_prompt",
		true));
	char *json = must(json_dumps(vars, 0));
	struct bb_text text = { 0 };
	const bool ok = bb_template_render(r->engine, NULL, json, strlen(json), &text, err) &&
		bb_tokenize(r->engine, text.data, text.bytes, false, true, ids, err);
	bb_text_finish(&text);
	json_decref(vars);
	free(json);
	return ok;
}

static bool submit(struct record *r, struct task *t) {
	struct bb_tokens ids = { 0 };
	struct bb_error err = { 0 };
	const struct bb_effort effort = {
		.answer_pattern = ANSWER_PATTERN, .consensus = r->consensus, .choice = BB_CHOICE_VOTE,
	};
	struct bb_request_params params = {
		.n = r->n, .effort = r->consensus > 0 ? &effort : NULL, .event = on_event, .user = t,
	};
	bb_sampling_default(r->engine, &params.generation.sampling);
	params.generation.sampling.temperature = (float)r->temperature;
	params.generation.sampling.top_p = 1;
	params.generation.sampling.top_k = 0;
	params.generation.sampling.repetition_penalty = 1;
	params.generation.sampling.seed = t->seed;
	params.generation.sampling.wants_confidence = true;
	params.generation.max_tokens = r->max_tokens;
	t->branches = must(calloc((size_t)r->n, sizeof(*t->branches)));
	for (int i = 0; i < r->n; i++) {
		t->branches[i].confidences =
			must(calloc((size_t)r->max_tokens, sizeof(*t->branches[i].confidences)));
	}
	bool ok = tokenize(r, t->messages, &ids, &err);
	params.prompt = ids.ids;
	params.n_prompt = t->n_prompt = ids.n;
	r->n_left++;
	ok = ok && bb_request_submit(&t->request, r->scheduler, &params, &err);
	r->n_left -= !ok;
	bb_tokens_finish(&ids);
	return ok || fail("task '%s': %s", t->name, err.text);
}

/* ---- what is there ---- */

static bool read_tasks(struct record *r, const char *path) {
	FILE *f = fopen(path, "r");
	if (f == NULL) {
		return fail("'%s' can't be read: %s", path, strerror(errno));
	}
	r->list = must(json_array());
	json_error_t error;
	json_t *task;
	while ((task = json_loadf(f, JSON_DISABLE_EOF_CHECK, &error)) != NULL) {
		json_array_append_new(r->list, task);
	}
	fclose(f);
	r->n_tasks = (int)json_array_size(r->list);
	r->tasks = must(calloc((size_t)r->n_tasks + 1, sizeof(*r->tasks)));
	for (int i = 0; i < r->n_tasks; i++) {
		struct task *t = &r->tasks[i];
		json_int_t seed;
		t->record = r;
		if (json_unpack_ex(json_array_get(r->list, (size_t)i), &error, 0, "{s:s, s:o, s:I}", "task",
			&t->name, "messages", &t->messages, "seed", &seed) != 0) {
			return fail("'%s': task %d: %s", path, i + 1, error.text);
		}
		t->seed = (uint64_t)seed;
	}
	return r->n_tasks > 0 || fail("'%s' has no tasks", path);
}

static void forget_task(struct record *r, const json_t *name) {
	for (int i = 0; json_is_string(name) && i < r->n_tasks; i++) {
		if (r->tasks[i].name != NULL && strcmp(r->tasks[i].name, json_string_value(name)) == 0) {
			r->tasks[i].name = NULL;
		}
	}
}

/* Cuts off what isn't whole, and leaves r->tasks[].name NULL where a task is there. False: the
 * first line isn't `head`. */
static bool resume(struct record *r, const json_t *head) {
	char *line = NULL;
	size_t room = 0;
	off_t end = 0;
	bool is_first = true, ok = true;
	for (ssize_t n; ok && (n = getline(&line, &room, r->out)) > 0 && line[n - 1] == '\n';) {
		json_t *json = json_loads(line, 0, NULL);
		ok = is_first ? json_equal(json, head) : json != NULL;
		forget_task(r, json_object_get(json, "task"));
		json_decref(json);
		is_first = false;
		end += n;
	}
	free(line);
	return ok ? ftruncate(fileno(r->out), end) == 0 && fseeko(r->out, end, SEEK_SET) == 0 &&
		(!is_first || write_line(r, json_deep_copy(head)))
		: fail("what is in the file was recorded otherwise");
}

static bool begin(struct record *r, const char *path) {
	struct bb_engine_info info;
	bb_engine_info(r->engine, &info);
	json_t *head = must(json_pack("{s:s, s:s, s:s, s:s, s:i, s:i, s:f}", "model", info.name,
		"weights", info.weight_type, "isa", info.isa, "kv_type", info.kv_type, "n", r->n,
		"max_tokens", r->max_tokens, "temperature", r->temperature));
	if (r->consensus > 0) {
		json_object_set_new(head, "consensus", json_real(r->consensus));
	}
	r->out = fopen(path, "a+");
	const bool ok = r->out != NULL ? resume(r, head)
		: fail("'%s' can't be written: %s", path, strerror(errno));
	json_decref(head);
	return ok;
}

static bool record(struct record *r, const char *model, const char *tasks, const char *out) {
	struct bb_error err = { 0 };
	const struct bb_engine_params open = { .path = model, .n_threads = r->n_threads };
	const struct bb_scheduler_params places = { .max_running = r->n_places, .max_waiting = 100000 };
	if (!read_tasks(r, tasks)) {
		return false;
	}
	if (!bb_engine_open(&r->engine, bb_models, &open, &err) ||
		!bb_scheduler_create(&r->scheduler, r->engine, &places, &err)) {
		return fail("%s", err.text);
	}
	bool ok = begin(r, out);
	for (int i = 0; ok && i < r->n_tasks; i++) {
		ok = r->tasks[i].name == NULL || submit(r, &r->tasks[i]);
	}
	r->began_s = now_s();
	for (bool idle = false; ok && r->n_left > 0;) {
		ok = (bb_scheduler_step(r->scheduler, &idle, &err) || fail("%s", err.text)) &&
			!r->has_failed;
	}
	fputc('\n', stderr);
	return ok;
}

int main(int argc, char **argv) {
	if (argc < 4) {
		fail("expected MODEL TASKS OUT [N [MAX_TOKENS [TEMPERATURE [PLACES [THREADS "
			"[CONSENSUS]]]]]]");
		return 2;
	}
	struct record r = {
		.n = argc > 4 ? atoi(argv[4]) : 16, .max_tokens = argc > 5 ? atoi(argv[5]) : 160,
		.temperature = argc > 6 ? atof(argv[6]) : 0.8, .n_places = argc > 7 ? atoi(argv[7]) : 64,
		.n_threads = argc > 8 ? atoi(argv[8]) : 0, .consensus = argc > 9 ? atof(argv[9]) : 0,
	};
	if (r.n < 1 || r.n > r.n_places || r.max_tokens < 1 || r.n_threads < 0) {
		fail("expected N of 1 to PLACES, and MAX_TOKENS of 1 or more");
		return 2;
	}
	r.has_failed = !record(&r, argv[1], argv[2], argv[3]);
	bb_scheduler_destroy(r.scheduler);
	bb_engine_destroy(r.engine);
	if (r.out != NULL && fclose(r.out) != 0) {
		r.has_failed = !fail("the answers can't be written: %s", strerror(errno));
	}
	json_decref(r.list);
	free(r.tasks);
	return r.has_failed ? 1 : 0;
}
