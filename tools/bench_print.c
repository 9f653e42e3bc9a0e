/* SPDX-License-Identifier: Apache-2.0
 *
 * The rows of `bobbin bench` as a Markdown table, CSV, JSON or JSON lines; fields are named as
 * llama-bench names them. */
#include "bench.h"

#include "terminal.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

static double mean(const double *v, int n) {
	double sum = 0;
	for (int i = 0; i < n; i++) {
		sum += v[i];
	}
	return n > 0 ? sum / n : 0;
}

/* Of a sample (n - 1); 0 for a single value. */
static double deviation(const double *v, int n) {
	const double m = mean(v, n);
	double sum = 0;
	for (int i = 0; i < n; i++) {
		sum += (v[i] - m) * (v[i] - m);
	}
	return n > 1 ? sqrt(sum / (n - 1)) : 0;
}

static double tokens_of(const struct bench_test *t) {
	return (double)t->n_parallel * (t->n_prompt + t->n_gen);
}

/* Tokens per second of every sample. */
static void rates(const struct bench_test *t, double *ts) {
	for (int i = 0; i < t->n_samples; i++) {
		ts[i] = t->ns[i] > 0 ? tokens_of(t) * 1e9 / t->ns[i] : 0;
	}
}

double bench_percent(const struct bench_test *t) {
	const double ns = mean(t->ns, t->n_samples);
	if (t->n_gen == 0 || t->bandwidth <= 0 || ns <= 0) {
		return -1;
	}
	return 100 * t->step_bytes * t->n_gen / (ns * 1e-9) / t->bandwidth;
}

static void model_type(const struct bb_engine_info *info, char *buf, size_t bytes) {
	const double n = (double)info->n_params;
	if (n >= 1e9) {
		snprintf(buf, bytes, "%s %.2fB %s", info->arch, n / 1e9, info->weight_type);
	} else {
		snprintf(buf, bytes, "%s %.2fM %s", info->arch, n / 1e6, info->weight_type);
	}
}

static const char *backend(const struct bb_engine_info *info) {
	return strcmp(info->device, "cpu") == 0 ? "CPU" : strcmp(info->device, "cuda") == 0 ? "CUDA"
		: "SIMT";
}

static json_t *numbers(const double *v, int n) {
	json_t *list = json_array();
	for (int i = 0; i < n; i++) {
		json_array_append_new(list, json_real(v[i]));
	}
	return list;
}

static json_t *whole_numbers(const double *v, int n) {
	json_t *list = json_array();
	for (int i = 0; i < n; i++) {
		json_array_append_new(list, json_integer((json_int_t)v[i]));
	}
	return list;
}

static json_t *row(const struct bench_settings *s, const struct bench_test *t) {
	char type[96];
	double ts[BENCH_MAX_REPEATS];
	model_type(&s->info, type, sizeof(type));
	rates(t, ts);
	const int n = t->n_samples;
	const double percent = bench_percent(t);
	const bool is_cpu = strcmp(s->info.device, "cpu") == 0;
	json_t *root = json_pack(
		"{s:s, s:i, s:s, s:s, s:s, s:o, s:s, s:I, s:I, s:i, s:i, s:i, s:s, s:s, s:i, s:b}",
		"build_commit", "bobbin " BB_VERSION, "build_number", 0, "cpu_info", s->info.cpu,
		"gpu_info", is_cpu ? "" : s->info.device_name, "backends",
		backend(&s->info), "model_filename", json_bytes(s->path, strlen(s->path)),
		"model_type", type, "model_size", (json_int_t)s->info.file_bytes, "model_n_params",
		(json_int_t)s->info.n_params, "n_batch", s->n_batch, "n_ubatch", s->n_ubatch, "n_threads",
		s->info.n_threads, "type_k", s->info.kv_type, "type_v", s->info.kv_type, "n_gpu_layers",
		is_cpu ? 0 : s->info.n_layers, "flash_attn", 1);
	json_t *more = json_pack("{s:s, s:s, s:i, s:i, s:i, s:i, s:s, s:I, s:I, s:f, s:f, s:o, "
		"s:o, s:o, s:o, s:o}", "isa", s->info.isa, "gemm", s->info.gemm, "n_prompt", t->n_prompt,
		"n_gen", t->n_gen, "n_depth", t->n_depth, "n_parallel", t->n_parallel, "test_time", t->time,
		"avg_ns", (json_int_t)mean(t->ns, n), "stddev_ns", (json_int_t)deviation(t->ns, n),
		"avg_ts", mean(ts, n), "stddev_ts", deviation(ts, n), "samples_ns",
		whole_numbers(t->ns, n), "samples_ts", numbers(ts, n), "step_bytes",
		t->n_gen > 0 ? json_integer((json_int_t)t->step_bytes) : json_null(), "read_bandwidth",
		t->bandwidth > 0 ? json_real(t->bandwidth) : json_null(), "pct_bandwidth",
		percent >= 0 ? json_real(percent) : json_null());
	json_object_update_missing(root, more);
	json_decref(more);
	return root;
}

/* ---- formats ---- */

static void csv_value(const json_t *value) {
	char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_REAL_PRECISION(12) | JSON_COMPACT);
	out_print("\"");
	for (const char *c = json_is_string(value) ? json_string_value(value) : text; c != NULL && *c;
		c++) {
		out_print(*c == '"' ? "\"\"" : "%c", *c);
	}
	out_print("\"");
	free(text);
}

static void csv_row(const json_t *object, bool with_names) {
	const char *key;
	json_t *value;
	const char *comma = "";
	if (with_names) {
		json_object_foreach((json_t *)(uintptr_t)object, key, value) {
			out_print("%s%s", comma, key);
			comma = ",";
		}
		out_print("\n");
	}
	comma = "";
	json_object_foreach((json_t *)(uintptr_t)object, key, value) {
		out_print("%s", comma);
		csv_value(value);
		comma = ",";
	}
	out_print("\n");
}

static void md_row(const struct bench_settings *s, const struct bench_test *t) {
	char type[96], test[64], share[16] = "";
	double ts[BENCH_MAX_REPEATS];
	rates(t, ts);
	model_type(&s->info, type, sizeof(type));
	snprintf(test, sizeof(test), "%s%d", t->n_prompt > 0 ? "pp" : "tg", t->n_prompt + t->n_gen);
	if (t->n_depth > 0) {
		snprintf(test + strlen(test), sizeof(test) - strlen(test), " @ d%d", t->n_depth);
	}
	if (bench_percent(t) >= 0) {
		snprintf(share, sizeof(share), "%.1f", bench_percent(t));
	}
	char speed[64];
	snprintf(speed, sizeof(speed), "%.2f ± %.2f", mean(ts, t->n_samples),
		deviation(ts, t->n_samples));
	/* "±" is two bytes in one column. */
	out_print("| %-24s | %7.2f MiB | %9.2f M | %-7s | %7d | %-5s | %4d | %-16s | %19s | %6s |\n",
		type, (double)s->info.file_bytes / (1 << 20), (double)s->info.n_params / 1e6,
		backend(&s->info), s->info.n_threads, s->info.kv_type, t->n_parallel, test, speed, share);
}

void bench_print_start(enum bench_format format) {
	if (format == BENCH_JSON) {
		out_print("[\n");
	} else if (format == BENCH_MD) {
		out_print("| %-24s | %11s | %11s | %-7s | %7s | %-5s | %4s | %-16s | %18s | %6s |\n",
			"model", "size", "params", "backend", "threads", "kv", "np", "test", "t/s", "% read");
		out_print("| %.24s | %.10s: | %.10s: | %.7s | %.6s: | %.5s | %.3s: | %.16s | "
			"%.17s: | %.5s: |\n", "------------------------", "----------", "----------", "-------",
			"------", "-----", "---", "----------------", "-----------------", "-----");
	}
	out_flush();
}

void bench_print_row(enum bench_format format, const struct bench_settings *s,
	const struct bench_test *t, bool is_first) {
	json_t *object = row(s, t);
	if (format == BENCH_MD) {
		md_row(s, t);
	} else if (format == BENCH_CSV) {
		csv_row(object, is_first);
	} else if (format == BENCH_JSONL) {
		out_json_take(json_incref(object), JSON_COMPACT);
	} else {
		out_print("%s", is_first ? "" : ",\n");
		char *text = json_dumps(object, JSON_INDENT(2));
		out_print("%s", text != NULL ? text : "null");
		free(text);
	}
	json_decref(object);
	out_flush();
}

void bench_print_end(enum bench_format format, bool is_empty) {
	if (format == BENCH_JSON) {
		out_print("%s]\n", is_empty ? "" : "\n");
	}
}
