/* SPDX-License-Identifier: Apache-2.0
 *
 * Plays the check of every kernel with every variant against the reference, and benches them. The
 * bodies are in check_*.c: since this file names one for each row KERNEL of kernels.def, a kernel
 * without a check does not link. First it proves on deliberately broken variants that faults are
 * seen. With --device the variants are those of a device's module, the references the CPU's. */
#include "check_harness.h"

#include <assert.h>
#include <fnmatch.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* One trampoline per kernel, from the untyped function of the table to the typed one of the
 * body. */
#define KERNEL(name, args) \
	void check_##name(struct check *c, name##_fn *fn); \
	static void body_##name(struct check *c, void (*fn)(void)) { \
		check_##name(c, (name##_fn *)fn); \
	}
#define VARIANT(name, tag, needs, layout)
#include "kernels.def"
#undef KERNEL

static const struct kernel {
	const char *name;
	body_fn *body;
} kernels[] = {
#define KERNEL(name, args) { #name, body_##name },
#include "kernels.def"
#undef KERNEL
#undef VARIANT
};

struct options {
	uint64_t seed;
	int n_repeats, n_threads;
	int max_cases; /* only the first of each kernel; 0 = all */
	const char *glob;
	const struct bb_isa *isa; /* only the variants that this level adds; NULL = all */
	const char *device;
	bool is_exact; /* without the variants that are asked for: cuBLASLt's, wgmma's */
	int arch; /* that the emulator passes for, compute capability times 10; 0: its own */
	bool is_bench, is_json, is_list, is_small, is_least;
	bool is_launches; /* each variant once, and what the emulator counted of its launches */
};

struct run {
	struct options options;
	unsigned flags;        /* of this CPU */
	bb_queue *queue;
	struct device device;  /* whose variants are played; all zero: the CPU's */
	bb_queue *device_queue;
	bool has_lt, has_wgmma; /* gemm_fast, gemm_wgmma of the device; else why not: */
	char why_no_lt[256], why_no_wgmma[256];
	FILE *text;            /* for people; JSON goes to stdout */
	double read_bandwidth; /* bytes per second; bench only */
	int n_passed, n_failed, n_skipped;
};

static struct run run;

/* ---- reporting ---- */

static void print_summary(void) {
	fprintf(run.text, "%d passed, %d failed, %d skipped\n", run.n_passed, run.n_failed,
		run.n_skipped);
	fflush(run.text);
}

static void print_json_text(const char *key, const char *text) {
	printf(", \"%s\": \"", key);
	for (; *text != '\0'; text++) {
		if (*text == '"' || *text == '\\') {
			putchar('\\');
		}
		putchar((unsigned char)*text < ' ' ? ' ' : *text);
	}
	putchar('"');
}

static void report(const struct bb_variant *v, const char *result, const struct check *c,
	const char *message) {
	const bool is_wgmma = c != NULL && (v->needs & BB_WGMMA) != 0;
	if (strcmp(result, "FAIL") == 0 || strcmp(result, "skip") == 0) {
		fprintf(run.text, "%-5s %s %s: %s\n", result, v->kernel, v->tag, message);
	} else {
		fprintf(run.text, "%-5s %-14s %-12s %4d cases, largest error %.2g of what is allowed",
			result, v->kernel, v->tag, c->n_cases, c->worst);
		if (is_wgmma) {
			fprintf(run.text, ", %d of %d rows have other bits than the ordinary kernel's",
				c->n_other_rows, c->n_rows);
		}
		fputc('\n', run.text);
	}
	if (run.options.is_json) {
		printf("{\"kernel\": \"%s\", \"variant\": \"%s\", \"result\": \"%s\", \"seed\": %llu",
			v->kernel, v->tag, result, (unsigned long long)run.options.seed);
		print_json_text("message", message);
		if (is_wgmma) {
			printf(", \"rows\": %d, \"other_rows\": %d", c->n_rows, c->n_other_rows);
		}
		printf(", \"cases\": %d, \"worst\": %g}\n", c != NULL ? c->n_cases : 0,
			c != NULL ? c->worst : 0.0);
	}
}

static void fatal_crash(const char *message) {
	fprintf(run.text, "FAIL  %s\n", message);
	run.n_failed++;
	print_summary();
	_exit(1);
}

/* The names of the flags in `needs` that are missing. */
static const char *missing(unsigned needs, char *buf, size_t bytes) {
	if (run.device.module != NULL && (needs & BB_LT) != 0 && !run.has_lt) {
		return run.why_no_lt;
	}
	if (run.device.module != NULL && (needs & BB_WGMMA) != 0) {
		return run.why_no_wgmma;
	}
	if (run.device.module != NULL) {
		const unsigned least = needs & ~(unsigned)(BB_ONLY | BB_LT);
		snprintf(buf, bytes, "needs compute capability %.1f", (double)least / 10);
		return buf;
	}
	static const char *const names[] = { "avx2", "avx_vnni", "avx512", "avx512_vnni",
		"avx512_bf16" };
	size_t n = (size_t)snprintf(buf, bytes, "this machine lacks");
	for (size_t i = 0; i < COUNT(names); i++) {
		if ((needs & ~run.flags) >> i & 1) {
			n += (size_t)snprintf(buf + n, bytes - n, " %s", names[i]);
		}
	}
	return buf;
}

/* ---- which variants ---- */

/* The lowest level at which a variant may run. */
static const struct bb_isa *level_of(const struct bb_variant *v) {
	const struct bb_isa *isa = bb_isas;
	while (isa->name != NULL && (v->needs & ~isa->flags) != 0) {
		isa++;
	}
	assert(isa->name != NULL);
	return isa;
}

static bool is_selected(const struct bb_variant *v) {
	return run.options.isa == NULL || level_of(v) == run.options.isa;
}

static bool can_run(const struct bb_variant *v) {
	if (run.device.module == NULL) {
		return (v->needs & ~run.flags) == 0;
	}
	if ((v->needs & BB_WGMMA) != 0) {
		return run.has_wgmma;
	}
	const unsigned least = v->needs & ~(unsigned)(BB_ONLY | BB_LT);
	if ((v->needs & BB_LT) != 0 && !run.has_lt) {
		return false;
	}
	return (v->needs & BB_ONLY) != 0 ? run.flags == least : run.flags >= least;
}

/* The first variant of a kernel in a list; its others follow. NULL when it has none. */
static const struct bb_variant *first_of(const struct bb_variant *list, const char *kernel) {
	for (const struct bb_variant *v = list; v->kernel != NULL; v++) {
		if (strcmp(v->kernel, kernel) == 0) {
			return v;
		}
	}
	return NULL;
}

static const struct bb_variant *reference_of(const char *kernel) {
	return first_of(bb_variants, kernel);
}

/* Of those that are played. */
static const struct bb_variant *played_of(const char *kernel) {
	return first_of(run.device.module != NULL ? run.device.module->variants : bb_variants, kernel);
}

static bool has_kernel(const struct bb_variant *v, const char *kernel) {
	return v != NULL && v->kernel != NULL && strcmp(v->kernel, kernel) == 0;
}

static void list_variants(void) {
	for (const struct bb_variant *v = bb_variants; v->kernel != NULL; v++) {
		if (fnmatch(run.options.glob, v->kernel, FNM_EXTMATCH) == 0 && is_selected(v)) {
			printf("%-16s %-12s level %-12s layout %-12s %s\n", v->kernel, v->tag,
				level_of(v)->name, v->layout_name,
				(v->needs & ~run.flags) == 0 ? "runs here" : "can't run here");
		}
	}
	for (const struct bb_variant *v = bb_gpu_variants; v->kernel != NULL; v++) {
		if (fnmatch(run.options.glob, v->kernel, FNM_EXTMATCH) == 0 && run.options.isa == NULL) {
			printf("%-16s %-12s level %-12s layout %-12s %s\n", v->kernel, v->tag, "gpu",
				v->layout_name, "in the modules of devices");
		}
	}
}

/* ---- checks ---- */

static void reschedule(const struct device *device, int i) {
	if (device != NULL && device->module->reschedule != NULL) {
		device->module->reschedule(i);
	}
}

/* Of which lines of source, for a variant; NULL: of none. */
static void print_lines(const struct bb_module *module, const struct bb_variant *v) {
	enum { MOST = 1024 };
	static struct bb_line lines[MOST];
	const int n = v != NULL ? module->lines(lines, MOST) : 0;
	for (int i = 0; i < (n < MOST ? n : MOST); i++) {
		const struct bb_line *l = &lines[i];
		printf("{\"file\": \"%s\", \"line\": %d, \"kernel\": \"%s\", \"is_shared\": %s, "
			"\"is_write\": %s, \"bytes_per_lane\": %d, \"requests\": %llu, \"bytes\": %llu, "
			"\"parts\": %llu, \"ideal_parts\": %llu}\n", l->file, l->line, v->kernel,
			l->is_shared ? "true" : "false", l->is_write ? "true" : "false", l->bytes_per_lane,
			(unsigned long long)l->requests, (unsigned long long)l->bytes,
			(unsigned long long)l->parts, (unsigned long long)l->ideal_parts);
	}
}

/* What the emulator counted since the last call, as JSON; a GPU counts nothing. v: whose launches
 * they are; NULL: forget them. */
static void print_launches(const struct device *device, const struct bb_variant *v) {
	const bool is_wanted = v != NULL;
	enum { MOST = 4096 };
	static struct bb_launch launches[MOST];
	if (device == NULL || device->module->launches == NULL) {
		return;
	}
	print_lines(device->module, is_wanted ? v : NULL);
	const int n = device->module->launches(launches, MOST);
	for (int i = 0; is_wanted && i < (n < MOST ? n : MOST); i++) {
		const struct bb_launch *l = &launches[i];
		printf("{\"launch\": \"%s\", \"grid\": [%u, %u, %u], \"block\": [%u, %u, %u], "
			"\"shared_bytes\": %u, \"read_bytes\": %llu, \"written_bytes\": %llu, "
			"\"new_read_bytes\": %llu, \"new_written_bytes\": %llu, \"wavefronts\": %llu, "
			"\"ideal_wavefronts\": %llu}\n", l->kernel, l->grid[0], l->grid[1], l->grid[2],
			l->block[0], l->block[1], l->block[2], l->shared_bytes,
			(unsigned long long)l->read_bytes, (unsigned long long)l->written_bytes,
			(unsigned long long)l->new_read_bytes, (unsigned long long)l->new_written_bytes,
			(unsigned long long)l->wavefronts, (unsigned long long)l->ideal_wavefronts);
	}
}

/* Three plays: guard page after the buffers, before them, and with threads; on the emulator each in
 * another order of the device's threads. `first` keeps the records and the failure. */
static void play_variant(struct check *first, const struct check *setup,
	const struct records *want) {
	*first = *setup;
	first->want = want;
	first->place = AT_END;
	reschedule(setup->device, 0);
	if (run.options.is_launches) {
		print_launches(setup->device, NULL);
	}
	check_play(first);
	if (run.options.is_launches) {
		print_launches(setup->device, setup->variant);
		return;
	}
	for (int i = 0; i < 2 && first->n_failures == 0; i++) {
		struct check again = *setup;
		again.want_bits = &first->records;
		again.place = i == 0 ? AT_START : AT_END;
		again.queue = setup->device != NULL ? setup->queue : i == 0 ? NULL : run.queue;
		reschedule(setup->device, i + 1);
		check_play(&again);
		if (again.n_failures > 0) {
			first->n_failures = again.n_failures;
			snprintf(first->failure, sizeof(first->failure), "%s", again.failure);
			if (again.queue == run.queue) {
				/* after a crash its workers may still be inside; it is left to them */
				run.queue = queue_create(run.options.n_threads);
			}
		}
		check_finish(&again);
	}
}

static void check_kernel(const struct kernel *kernel, uint64_t seed) {
	const struct bb_variant *reference = reference_of(kernel->name);
	if (reference == NULL) {
		return;
	}
	struct check recorded = { .body = kernel->body, .variant = reference, .seed = seed,
		.max_cases = run.options.max_cases, .is_small = run.options.is_small,
		.is_least = run.options.is_least };
	bool is_recorded = false;
	const struct device *device = run.device.module != NULL ? &run.device : NULL;
	for (const struct bb_variant *v = played_of(kernel->name); has_kernel(v, kernel->name); v++) {
		char text[128];
		if (!is_selected(v)) {
			continue;
		}
		if (!can_run(v)) {
			run.n_skipped++;
			report(v, "skip", NULL, missing(v->needs, text, sizeof(text)));
			continue;
		}
		if (!is_recorded && v != reference) {
			check_play(&recorded);
			is_recorded = true;
		}
		const struct check setup = { .body = kernel->body, .variant = v, .seed = seed,
			.device = device, .queue = run.device_queue,
			/* few rows are the other variant's */
			.max_cases = !run.options.is_small ? recorded.max_cases : (v->needs & BB_LT) != 0 ? 1
				: (v->needs & BB_WGMMA) != 0 ? 2 : recorded.max_cases,
			.is_small = recorded.is_small, .is_least = recorded.is_least };
		struct check c;
		play_variant(&c, &setup, v != reference ? &recorded.records : NULL);
		if (c.n_failures > 0 || c.n_cases == 0) {
			run.n_failed++;
			report(v, "FAIL", &c, c.n_cases == 0 ? "the body made no case" : c.failure);
		} else {
			run.n_passed++;
			report(v, "ok", &c, "");
		}
		check_finish(&c);
	}
	check_finish(&recorded);
}

/* ---- the harness checked by variants that must fail ---- */

static void add_wrong(bb_queue *q, float *y, const float *x, size_t n, float scale) {
	add_c(q, y, x, n, scale);
	y[n / 2] += 1;
}

static void add_forgets(bb_queue *q, float *y, const float *x, size_t n, float scale) {
	add_c(q, y, x, n - 1, scale);
}

static void add_over_reads(bb_queue *q, float *y, const float *x, size_t n, float scale) {
	add_c(q, y, x, n, scale);
	(void)*(const volatile float *)(x + n);
}

static void add_under_writes(bb_queue *q, float *y, const float *x, size_t n, float scale) {
	add_c(q, y, x, n, scale);
	*(volatile float *)(y - 1) = 0;
}

static void add_writes_input(bb_queue *q, float *y, const float *x, size_t n, float scale) {
	add_c(q, y, x, n, scale);
	*(volatile float *)(uintptr_t)x = 0;
}

static void add_illegal(bb_queue *q, float *y, const float *x, size_t n, float scale) {
	__builtin_trap();
}

static void check_harness(uint64_t seed) {
	static const struct {
		const char *tag;
		add_fn *fn;
		const char *failure; /* must be in the text */
	} bad[] = {
		{ "wrong", add_wrong, "want" },
		{ "forgets", add_forgets, "want" },
		{ "over_reads", add_over_reads, "SIGSEGV: a read" },
		{ "under_writes", add_under_writes, "SIGSEGV: a write" },
		{ "writes_input", add_writes_input, "SIGSEGV: a write" },
		{ "illegal", add_illegal, "SIGILL" },
	};
	struct check want = { .body = body_add, .variant = reference_of("add"), .seed = seed };
	check_play(&want);
	for (size_t i = 0; i < COUNT(bad); i++) {
		const struct bb_variant v = { "add", bad[i].tag, (void (*)(void))bad[i].fn, 0, "none",
			NULL };
		const struct check setup = { .body = body_add, .variant = &v, .seed = seed };
		struct check c;
		play_variant(&c, &setup, &want.records);
		if (c.n_failures > 0 && strstr(c.failure, bad[i].failure) != NULL) {
			run.n_passed++;
		} else {
			run.n_failed++;
			fprintf(run.text, "FAIL  the harness did not see what is wrong with add %s (%s)\n",
				bad[i].tag, c.failure);
		}
		check_finish(&c);
	}
	check_finish(&want);
	fprintf(run.text, "ok    %zu broken variants caught\n", COUNT(bad));
}

/* ---- bench ---- */

static void print_bench(const struct bb_variant *v, const struct sample *s, double c_seconds) {
	const double rate = s->bytes / s->seconds, share = rate / run.read_bandwidth;
	const double ops = s->ops / s->seconds;
	char ops_text[32] = "", times_text[32] = "";
	if (s->ops > 0) {
		snprintf(ops_text, sizeof(ops_text), "%.1f", ops * 1e-9);
	}
	if (c_seconds > 0) {
		snprintf(times_text, sizeof(times_text), "%.1f", c_seconds / s->seconds);
	}
	fprintf(run.text, "%-14s %-12s %-28s %10.2f %5.0f%% %8.2f %5.0f%% %9s %7s\n", v->kernel,
		v->tag, s->label, s->seconds * 1e6, s->spread * 100, rate * 1e-9, share * 100, ops_text,
		times_text);
	if (run.options.is_json) {
		printf("{\"kernel\": \"%s\", \"variant\": \"%s\"", v->kernel, v->tag);
		print_json_text("case", s->label);
		printf(", \"bytes\": %.0f, \"seconds\": %.9f, \"spread\": %.4f, \"runs\": %d, "
			"\"gb_per_s\": %.4f, "
			"\"share_of_bandwidth\": %.4f, \"gop_per_s\": %.4f, \"times_c\": %.3f}\n",
			s->bytes, s->seconds, s->spread, s->n_runs, rate * 1e-9, share, ops * 1e-9,
			c_seconds / s->seconds);
		fflush(stdout); /* a run that is cut off still counts */
	}
}

static void bench_variant(const struct kernel *kernel, const struct bb_variant *v,
	const struct device *device, struct check *reference, uint64_t seed) {
	const bool is_reference = v == reference->variant;
	struct check c = { .body = kernel->body, .variant = v, .seed = seed, .device = device,
		.queue = device != NULL ? run.device_queue : run.queue,
		.want = is_reference ? NULL : &reference->records, .is_bench = true,
		.max_cases = run.options.max_cases };
	if (run.options.is_launches) {
		print_launches(device, NULL);
	}
	check_play(&c);
	if (run.options.is_launches) {
		print_launches(device, v);
	}
	for (size_t i = 0; i < c.samples.n; i++) {
		const struct sample *own = &c.samples.items[i];
		print_bench(v, own, i < reference->samples.n ? reference->samples.items[i].seconds :
			is_reference ? own->seconds : 0);
	}
	if (c.n_failures > 0) {
		run.n_failed++;
		report(v, "FAIL", &c, c.failure);
	} else {
		run.n_passed++;
	}
	if (is_reference) {
		*reference = c;
	} else {
		check_finish(&c);
	}
}

static void bench_kernel(const struct kernel *kernel, uint64_t seed) {
	const struct device *device = run.device.module != NULL ? &run.device : NULL;
	struct check reference = { .variant = reference_of(kernel->name) };
	const struct bb_variant *v = played_of(kernel->name);
	if (reference.variant == NULL || v == NULL) {
		return;
	}
	/* The reference would take minutes for what a GPU is given. */
	if (device == NULL) {
		bench_variant(kernel, reference.variant, NULL, &reference, seed);
	}
	for (; has_kernel(v, kernel->name); v++) {
		if (v != reference.variant && can_run(v) && is_selected(v)) {
			bench_variant(kernel, v, device, &reference, seed);
		}
	}
	check_finish(&reference);
}

/* Bytes per second that the device reads, and writes, when it copies. */
static double device_bandwidth(const struct device *device, bb_queue *q) {
	const bool is_emulated = strcmp(device->module->name, "simt") == 0;
	const size_t n = (size_t)(is_emulated ? 1 : 256) << 20;
	char text[256];
	void *to = device->module->alloc(device->d, n, text, sizeof(text));
	void *from = device->module->alloc(device->d, n, text, sizeof(text));
	double best = 0;
	for (int i = 0; to != NULL && from != NULL && i < 5; i++) {
		const double start = check_seconds();
		for (int j = 0; j < 10; j++) {
			device->module->copy(q, to, from, n);
		}
		device->module->wait(q, text, sizeof(text));
		const double rate = 20.0 * (double)n / (check_seconds() - start);
		best = rate > best ? rate : best;
	}
	device->module->free(device->d, from);
	device->module->free(device->d, to);
	return best;
}

static void start_bench(void) {
	char name[64];
	if (run.device.module != NULL) {
		struct bb_device_info info;
		run.device.module->info(run.device.d, &info);
		run.read_bandwidth = device_bandwidth(&run.device, run.device_queue);
		fprintf(run.text, "%s, copies %.1f GB/s, read and written; caches flushed before "
			"each run\n", info.name,
			run.read_bandwidth * 1e-9);
	} else {
		run.read_bandwidth = cpu_read_bandwidth(run.queue, (size_t)512 << 20);
		fprintf(run.text, "%s, %d threads, reads %.1f GB/s from memory; caches flushed "
			"before each run\n", cpu_name(name, sizeof(name)), queue_threads(run.queue),
			run.read_bandwidth * 1e-9);
	}
	fprintf(run.text, "%-14s %-12s %-28s %10s %6s %8s %6s %9s %7s\n", "kernel", "variant", "case",
		"median us", "spread", "GB/s", "memory", "Gop/s", "x c");
}

/* ---- main ---- */

static int usage(const char *wrong) {
	fprintf(stderr, "%s%scheckkernels [--seed N] [--repeat N] [--kernel GLOB] [--isa NAME] "
		"[--device cpu|cuda|simt|simt_check] [--arch N] [--gemm exact|fast] [--threads N] "
		"[--bench] [--cases N] [--small|--least] [--launches] [--json] [--list]\n", wrong,
		*wrong != '\0' ? "\n" : "");
	return 2;
}

static const struct bb_isa *find_isa(const char *name) {
	for (const struct bb_isa *isa = bb_isas; isa->name != NULL; isa++) {
		if (strcmp(isa->name, name) == 0) {
			return isa;
		}
	}
	return NULL;
}

static bool parse_options(struct options *o, int argc, char **argv) {
	static const struct option long_options[] = {
		{ "seed", required_argument, NULL, 's' },   { "repeat", required_argument, NULL, 'r' },
		{ "kernel", required_argument, NULL, 'k' }, { "isa", required_argument, NULL, 'i' },
		{ "threads", required_argument, NULL, 't' }, { "bench", no_argument, NULL, 'b' },
		{ "json", no_argument, NULL, 'j' },         { "list", no_argument, NULL, 'l' },
		{ "device", required_argument, NULL, 'd' },  { "launches", no_argument, NULL, 'n' },
		{ "cases", required_argument, NULL, 'c' },  { "small", no_argument, NULL, 'm' },
		{ "gemm", required_argument, NULL, 'g' }, { "least", no_argument, NULL, 'a' },
		{ "arch", required_argument, NULL, 'v' },
		{ 0 },
	};
	for (int option; (option = getopt_long(argc, argv, "", long_options, NULL)) != -1;) {
		switch (option) {
		case 's':
			o->seed = strtoull(optarg, NULL, 0);
			break;
		case 'r':
			o->n_repeats = atoi(optarg);
			break;
		case 'k':
			o->glob = optarg;
			break;
		case 'i':
			o->isa = find_isa(optarg);
			if (o->isa == NULL) {
				return false;
			}
			break;
		case 'd':
			o->device = optarg;
			break;
		case 'g':
			o->is_exact = strcmp(optarg, "exact") == 0;
			if (!o->is_exact && strcmp(optarg, "fast") != 0) {
				return false;
			}
			break;
		case 'v':
			o->arch = atoi(optarg);
			break;
		case 't':
			o->n_threads = atoi(optarg);
			break;
		case 'n':
			o->is_launches = true;
			break;
		case 'c':
			o->max_cases = atoi(optarg);
			break;
		case 'a':
			o->is_least = true;
			/* fallthrough */
		case 'm':
			o->is_small = true;
			break;
		case 'b':
			o->is_bench = true;
			break;
		case 'j':
			o->is_json = true;
			break;
		case 'l':
			o->is_list = true;
			break;
		default:
			return false;
		}
	}
	return optind == argc && o->n_repeats > 0 && o->n_threads > 0
		&& (o->isa == NULL || strcmp(o->device, "cpu") == 0);
}

static void check_all(void) {
	struct options *o = &run.options;
	if (o->is_bench) {
		start_bench();
	}
	for (int i = 0; i < o->n_repeats; i++, o->seed++) {
		fprintf(run.text, "seed %llu\n", (unsigned long long)o->seed);
		if (!o->is_bench) {
			check_harness(o->seed);
		}
		for (size_t k = 0; k < COUNT(kernels); k++) {
			if (fnmatch(o->glob, kernels[k].name, FNM_EXTMATCH) != 0) {
				continue;
			}
			if (o->is_bench) {
				bench_kernel(&kernels[k], o->seed);
			} else {
				check_kernel(&kernels[k], o->seed);
			}
		}
	}
}

/* cuBLASLt, and memory for any of its products; without it its variants are skipped. */
static void open_lt(void) {
	const struct device *d = &run.device;
	snprintf(run.why_no_lt, sizeof(run.why_no_lt), "--gemm exact");
	void *memory = NULL;
	if (!run.options.is_exact && d->module->gemm_fast(d->d, run.why_no_lt,
			sizeof(run.why_no_lt))) {
		memory = d->module->alloc(d->d, d->module->gemm_bytes(1 << 17, 1 << 15), run.why_no_lt,
			sizeof(run.why_no_lt));
	}
	run.has_lt = memory != NULL;
	if (run.has_lt) {
		d->module->gemm_memory(d->d, memory);
	}
}

static void open_wgmma(void) {
	const struct device *d = &run.device;
	snprintf(run.why_no_wgmma, sizeof(run.why_no_wgmma), "--gemm exact");
	run.has_wgmma = !run.options.is_exact
		&& d->module->gemm_wgmma(d->d, run.why_no_wgmma, sizeof(run.why_no_wgmma));
}

/* Opened as another device than it was. */
static bool reopen_as(const char *name, int arch, char *text, size_t bytes) {
	void (*const pass_for)(int) = run.device.module != NULL ? run.device.module->pass_for : NULL;
	if (pass_for == NULL) {
		snprintf(text, bytes, "device %s can't pass for another", name);
		return false;
	}
	device_close(&run.device);
	pass_for(arch);
	return device_open(&run.device, name, 0, text, bytes);
}

static bool open_device(const char *name) {
	const int arch = run.options.arch;
	char text[512];
	if (!device_open(&run.device, name, 0, text, sizeof(text))
		|| (arch > 0 && !reopen_as(name, arch, text, sizeof(text)))) {
		fprintf(stderr, "checkkernels: %s\n", text);
		return false;
	}
	if (run.device.module == NULL) {
		return true;
	}
	struct bb_device_info info;
	run.device.module->info(run.device.d, &info);
	run.device_queue = run.device.module->queue_create(run.device.d);
	run.flags = (unsigned)info.arch;
	open_lt();
	open_wgmma();
	fprintf(run.text, "%s, %d processors, compute capability %.1f\n", info.name, info.n_processors,
		info.arch / 10.0);
	return run.device_queue != NULL;
}

int main(int argc, char **argv) {
	struct timespec now;
	clock_gettime(CLOCK_REALTIME, &now);
	const long n_cpus = sysconf(_SC_NPROCESSORS_ONLN);
	run.options = (struct options){ .seed = (uint64_t)now.tv_nsec, .n_repeats = 1, .glob = "*",
		.device = "cpu", .n_threads = n_cpus < 2 ? 2 : (int)n_cpus };
	if (!parse_options(&run.options, argc, argv)) {
		return usage("");
	}
	setvbuf(stdout, NULL, _IOLBF, 0); /* who is cut off keeps what was said */
	run.text = run.options.is_json ? stderr : stdout;
	run.flags = cpu_flags();
	if (run.options.is_list) {
		list_variants();
		return 0;
	}
	run.queue = queue_create(run.options.n_threads);
	if (run.queue == NULL) {
		fprintf(stderr, "checkkernels: no threads can be had\n");
		return 2;
	}
	if (!open_device(run.options.device)) {
		return 2;
	}
	check_catch_signals(fatal_crash);
	check_all();
	if (run.device.module != NULL) {
		run.device.module->queue_destroy(run.device_queue);
		device_close(&run.device);
	}
	queue_destroy(run.queue);
	print_summary();
	return run.n_failed > 0 ? 1 : 0;
}
