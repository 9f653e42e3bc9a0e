/* SPDX-License-Identifier: Apache-2.0
 *
 * One play of a check body: guarded buffers, random numbers, comparison, timing, crashes. What is
 * played, and in which order, is decided in checkkernels.c. */
#include "check_harness.h"

#include <assert.h>
#include <math.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

enum { PAGE = 4096, MAX_RUNS = 200, MIN_RUNS = 3 };
/* More than the caches of any GPU. */
#define FLUSH_BYTES ((size_t)256 << 20)

double check_seconds(void) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void *grow(void *items, size_t n, size_t *capacity, size_t item_bytes) {
	if (n < *capacity) {
		return items;
	}
	*capacity = *capacity == 0 ? 16 : *capacity * 2;
	items = realloc(items, *capacity * item_bytes);
	assert(items != NULL);
	return items;
}

/* ---- random numbers: splitmix64 (Steele, Lea, Flood 2014) ---- */

static uint64_t draw(uint64_t *state) {
	uint64_t z = *state += 0x9e3779b97f4a7c15u;
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return z ^ z >> 31;
}

static void fill_random(uint64_t *state, uint8_t *data, size_t bytes) {
	for (size_t i = 0; i < bytes; i += 8) {
		const uint64_t r = draw(state);
		memcpy(data + i, &r, bytes - i < 8 ? bytes - i : 8);
	}
}

int check_rand(struct check *c, int lowest, int highest) {
	const uint64_t span = (uint64_t)((int64_t)highest - lowest) + 1;
	return (int)(lowest + (int64_t)(draw(&c->numbers) % span));
}

/* The sum of four uniform numbers of deviation 1/2. */
float check_normal(struct check *c) {
	const uint64_t r = draw(&c->numbers);
	const int sum = (int)(r & 0xffff) + (int)(r >> 16 & 0xffff) + (int)(r >> 32 & 0xffff) +
		(int)(r >> 48);
	return (float)(sum - 2 * 0xffff) * (1.7320508f / 0xffff);
}

/* ---- buffers ---- */

static size_t round_up(size_t n, size_t unit) {
	return (n + unit - 1) / unit * unit;
}

/* A device is told of memory that it shall reach. */
static void show_to_device(struct check *c, const struct buffer *b) {
	if (c->device != NULL && !b->is_both
		&& !c->device->module->host_register(c->device->d, b->map + PAGE, b->map_bytes - 2 * PAGE,
			b->data, b->bytes)) {
		fprintf(stderr, "checkkernels: the device can't be shown %zu bytes\n", b->bytes);
		exit(2);
	}
}

/* Where the device's own memory is wanted, for timings: no guard pages then. */
static uint8_t *alloc_both(struct check *c, size_t bytes) {
	uint8_t *map = c->device->module->both_alloc(c->device->d, bytes);
	if (map == NULL) {
		fprintf(stderr, "checkkernels: %zu bytes of the device can't be had\n", bytes);
		exit(2);
	}
	return map;
}

static struct buffer *add_buffer(struct check *c, enum buffer_kind kind, const char *name,
	size_t bytes, size_t align) {
	assert(!c->is_in_loop && align > 0 && PAGE % align == 0);
	c->buffers = grow(c->buffers, c->n_buffers, &c->buffers_capacity, sizeof(*c->buffers));
	const size_t inner = round_up(bytes > 0 ? bytes : 1, PAGE);
	struct buffer *b = &c->buffers[c->n_buffers++];
	*b = (struct buffer){ .name = name, .kind = kind, .map_bytes = inner + 2 * PAGE, .bytes = bytes,
		.is_both = c->device != NULL && c->is_bench };
	if (b->is_both) {
		b->map = alloc_both(c, b->map_bytes);
		b->data = b->map + PAGE;
		return b;
	}
	uint8_t *map = mmap(NULL, inner + 2 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (map == MAP_FAILED || mprotect(map + PAGE, inner, PROT_READ | PROT_WRITE) != 0) {
		perror("checkkernels: mmap");
		exit(2);
	}
	if (inner >= (size_t)4 << 20) {
		madvise(map + PAGE, inner, MADV_HUGEPAGE);
	}
	uint8_t *data = map + PAGE;
	if (c->place == AT_END) {
		data += (inner - bytes) / align * align;
	}
	b->map = map;
	b->data = data;
	show_to_device(c, b);
	return b;
}

static void free_buffer(struct check *c, struct buffer *b) {
	if (b->is_both) {
		c->device->module->both_free(c->device->d, b->map);
	} else {
		if (c->device != NULL) {
			c->device->module->host_unregister(c->device->d, b->map + PAGE, b->data,
				b->bytes);
		}
		munmap(b->map, b->map_bytes);
	}
	free(b->initial);
}

static void free_past_buffers(struct check *c) {
	size_t n = 0;
	for (size_t i = 0; i < c->n_buffers; i++) {
		if (c->buffers[i].is_past) {
			free_buffer(c, &c->buffers[i]);
		} else {
			c->buffers[n++] = c->buffers[i];
		}
	}
	c->n_buffers = n;
}

static void protect_inputs(struct check *c, int protection) {
	for (size_t i = 0; i < c->n_buffers; i++) {
		const struct buffer *b = &c->buffers[i];
		if (b->kind == BUFFER_IN && !b->is_both) {
			mprotect(b->map + PAGE, b->map_bytes - 2 * PAGE, protection);
		}
	}
}

static void fill_normal(struct check *c, float *x, size_t n) {
	for (size_t i = 0; i < n; i++) {
		x[i] = check_normal(c);
	}
}

float *check_in(struct check *c, size_t n) {
	float *x = (float *)(void *)add_buffer(c, BUFFER_IN, "input", n * 4, 4)->data;
	fill_normal(c, x, n);
	return x;
}

void *check_in_bytes(struct check *c, size_t bytes, size_t align) {
	struct buffer *b = add_buffer(c, BUFFER_IN, "input", bytes, align);
	fill_random(&c->numbers, b->data, bytes);
	return b->data;
}

float *check_out(struct check *c, const char *name, size_t n, struct tol tol) {
	struct buffer *b = add_buffer(c, BUFFER_OUT, name, n * 4, 4);
	b->is_float = true;
	b->tol = tol;
	fill_random(&c->garbage, b->data, b->bytes);
	return (float *)(void *)b->data;
}

int32_t *check_out_i32(struct check *c, const char *name, size_t n) {
	return check_out_bytes(c, name, n * 4, 4);
}

void *check_out_bytes(struct check *c, const char *name, size_t bytes, size_t align) {
	struct buffer *b = add_buffer(c, BUFFER_OUT, name, bytes, align);
	fill_random(&c->garbage, b->data, bytes);
	return b->data;
}

float *check_inout(struct check *c, const char *name, size_t n, struct tol tol) {
	struct buffer *b = add_buffer(c, BUFFER_INOUT, name, n * 4, 4);
	b->is_float = true;
	b->tol = tol;
	fill_normal(c, (float *)(void *)b->data, n);
	return (float *)(void *)b->data;
}

void *check_scratch(struct check *c, size_t bytes, size_t align) {
	struct buffer *b = add_buffer(c, BUFFER_SCRATCH, "scratch", bytes, align);
	/* of its own sequence: sizes differ between layouts and must not shift the others */
	uint64_t state = c->seed ^ bytes;
	if (!b->is_both) { /* gigabytes of pages, which shall begin on the device's side */
		fill_random(&state, b->data, bytes);
	}
	return b->data;
}

bb_queue *check_queue(struct check *c) {
	return c->queue;
}

bb_queue *check_queue_alone(struct check *c) {
	return c->device != NULL ? c->queue : NULL;
}

static void (*on_fatal_crash)(const char *message);

/* After an error of the device nothing that it does can be believed: the program ends. */
void check_wait(struct check *c) {
	char text[256], message[512];
	if (c->device != NULL && !c->device->module->wait(c->queue, text, sizeof(text))) {
		snprintf(message, sizeof(message), "%s %s: %s: %s", c->variant->kernel, c->variant->tag,
			c->label, text);
		on_fatal_crash(message);
	}
	const bool has_checker = c->device != NULL && c->device->module->findings != NULL;
	if (has_checker && c->device->module->findings(message, sizeof(message)) > 0) {
		check_fail(c, "%s", message);
	}
}

const struct bb_layout *check_layout(struct check *c) {
	return c->variant->layout;
}

const struct bb_kv_layout *check_kv_layout(struct check *c) {
	return c->variant->layout;
}

void check_kernels(struct check *c, struct bb_kernels *k, unsigned flags) {
	if (c->device != NULL) {
		c->device->module->kernels(c->device->d, k);
	} else {
		bb_kernels_cpu(k, flags);
	}
}

bool check_is_bench(struct check *c) {
	return c->is_bench;
}

bool check_is_small(struct check *c) {
	return c->is_small;
}

bool check_is_least(struct check *c) {
	return c->is_least;
}

bool check_is_device_bench(struct check *c) {
	return c->is_bench && c->device != NULL;
}

static bool is_emulated(const struct check *c) {
	return strcmp(c->device->module->name, "simt") == 0;
}

int check_shrunk(struct check *c, int n) {
	return !check_is_device_bench(c) || !is_emulated(c) ? n : n < 64 ? 1 : n / 64;
}

void check_ops(struct check *c, double ops) {
	c->ops = ops;
}

/* ---- failures and comparison ---- */

void check_fail(struct check *c, const char *fmt, ...) {
	if (c->n_failures++ > 0) {
		return;
	}
	const int n = snprintf(c->failure, sizeof(c->failure), "%s: ", c->label);
	va_list args;
	va_start(args, fmt);
	vsnprintf(c->failure + n, sizeof(c->failure) - (size_t)n, fmt, args);
	va_end(args);
}

void check_same(struct check *c, const char *what, const void *got, const void *want,
	size_t bytes) {
	check_wait(c);
	const uint8_t *g = got, *w = want;
	for (size_t i = 0; i < bytes; i++) {
		if (g[i] != w[i]) {
			check_fail(c, "%s: byte %zu of %zu differs: 0x%02x, want 0x%02x", what, i, bytes, g[i],
				w[i]);
			return;
		}
	}
}

void check_same_row(struct check *c, const char *what, const void *got, const void *want,
	size_t bytes) {
	check_wait(c);
	c->n_rows++;
	c->n_other_rows += memcmp(got, want, bytes) != 0;
	if ((c->variant->needs & BB_WGMMA) == 0 || is_emulated(c)) {
		check_same(c, what, got, want, bytes);
	}
}

/* The error of got as a share of what is allowed; above 1 fails. */
static double share_of_tolerance(float got, float want, struct tol tol) {
	if (memcmp(&got, &want, sizeof(got)) == 0 || (isnan(got) && isnan(want))) {
		return 0;
	}
	if (!isfinite(got) || !isfinite(want)) {
		return INFINITY;
	}
	const double allowed = (double)tol.abs + (double)tol.rel * fabs((double)want);
	const double error = fabs((double)got - (double)want);
	return error == 0 ? 0 : error / allowed;
}

static void compare_floats(struct check *c, const struct buffer *b, const uint8_t *want_data) {
	double worst = 0;
	size_t at = 0;
	float got, want;
	for (size_t i = 0; i < b->bytes / 4; i++) {
		memcpy(&got, b->data + 4 * i, 4);
		memcpy(&want, want_data + 4 * i, 4);
		const double share = share_of_tolerance(got, want, b->tol);
		if (share > worst) {
			worst = share;
			at = i;
		}
	}
	if (worst > 1) {
		memcpy(&got, b->data + 4 * at, 4);
		memcpy(&want, want_data + 4 * at, 4);
		check_fail(c, "%s[%zu] of %zu is %.9g, want %.9g (rel %g, abs %g allowed)", b->name, at,
			b->bytes / 4, (double)got, (double)want, (double)b->tol.rel, (double)b->tol.abs);
	}
	c->worst = fmax(c->worst, worst);
}

static const struct record *find_record(struct check *c, const struct records *want, size_t i,
	const struct buffer *b) {
	const struct record *r = i < want->n ? &want->items[i] : NULL;
	if (r == NULL || strcmp(r->label, c->label) != 0 || r->bytes != b->bytes) {
		check_fail(c, "the body made other cases than when the reference played it");
		return NULL;
	}
	return r;
}

/* Records every output of the case that ended, and compares it. */
static void take_outputs(struct check *c) {
	for (size_t i = 0; i < c->n_buffers; i++) {
		const struct buffer *b = &c->buffers[i];
		if (b->is_past || (b->kind != BUFFER_OUT && b->kind != BUFFER_INOUT)) {
			continue;
		}
		const size_t n = c->records.n;
		const struct record *r;
		if (c->want != NULL && (r = find_record(c, c->want, n, b)) != NULL) {
			if (b->is_float) {
				compare_floats(c, b, r->data);
			} else {
				check_same(c, b->name, b->data, r->data, b->bytes);
			}
		}
		/* cuBLASLt may take another algorithm at another alignment */
		const bool has_bits = c->want_bits != NULL && (c->variant->needs & BB_LT) == 0;
		if (has_bits && (r = find_record(c, c->want_bits, n, b)) != NULL) {
			char what[128];
			snprintf(what, sizeof(what), "%s (%s)", b->name, c->queue != NULL ?
				"bits with a thread pool" : "bits at another alignment");
			check_same(c, what, b->data, r->data, b->bytes);
		}
		c->records.items = grow(c->records.items, n, &c->records.capacity,
			sizeof(*c->records.items));
		struct record *own = &c->records.items[c->records.n++];
		*own = (struct record){ .name = b->name, .data = malloc(b->bytes + 1), .bytes = b->bytes };
		assert(own->data != NULL);
		memcpy(own->label, c->label, sizeof(own->label));
		memcpy(own->data, b->data, b->bytes);
	}
}

/* ---- the loop ---- */

static void begin_case(struct check *c) {
	free_past_buffers(c);
	for (size_t i = 0; i < c->n_buffers; i++) {
		struct buffer *b = &c->buffers[i];
		if (b->kind == BUFFER_INOUT) {
			b->initial = malloc(b->bytes + 1);
			assert(b->initial != NULL);
			memcpy(b->initial, b->data, b->bytes);
		}
	}
	protect_inputs(c, PROT_READ);
	c->is_in_loop = true;
	c->n_cases++;
	c->n_times = c->n_warm = 0;
	c->budget = check_seconds() + 0.4;
}

/* Drops every line of every buffer from all caches: what a step of a model finds, whose weights are
 * larger than the caches. On a GPU other memory is written, since a touch of the host's would bring
 * the buffers' pages back. */
static void flush_caches(struct check *c) {
	if (c->device != NULL) {
		if (c->flushed != NULL) {
			c->device->module->fill(c->queue, c->flushed, 0, FLUSH_BYTES);
		}
		return;
	}
	for (size_t i = 0; i < c->n_buffers; i++) {
		const struct buffer *b = &c->buffers[i];
		for (size_t at = 0; at < b->map_bytes - 2 * PAGE; at += 64) {
			__builtin_ia32_clflush(b->map + PAGE + at);
		}
	}
	__builtin_ia32_mfence();
}

static int by_value(const void *a, const void *b) {
	const double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

static void take_sample(struct check *c, double bytes) {
	qsort(c->times, (size_t)c->n_times, sizeof(*c->times), by_value);
	c->samples.items = grow(c->samples.items, c->samples.n, &c->samples.capacity,
		sizeof(*c->samples.items));
	struct sample *s = &c->samples.items[c->samples.n++];
	const double median = c->times[c->n_times / 2];
	*s = (struct sample){ .seconds = median, .bytes = bytes, .ops = c->ops, .n_runs = c->n_times,
		.spread = (c->times[c->n_times * 3 / 4] - c->times[c->n_times / 4]) / median };
	memcpy(s->label, c->label, sizeof(s->label));
}

/* On a GPU the first runs bring the buffers' pages over. */
static bool is_warm(struct check *c) {
	if (!check_is_device_bench(c) || is_emulated(c) || c->n_warm == 2) {
		return true;
	}
	c->n_warm++;
	c->budget = check_seconds() + 0.4;
	return false;
}

static bool is_enough(const struct check *c, double now) {
	if (!c->is_bench || (c->device != NULL && is_emulated(c))) {
		return true; /* the emulator's speed says nothing */
	}
	return c->n_times == MAX_RUNS || (c->n_times >= MIN_RUNS && now > c->budget);
}

/* What is run next is timed; on a device by its own clock, which a launch doesn't wait for. */
static void start_clock(struct check *c) {
	if (check_is_device_bench(c)) {
		c->device->module->clock_start(c->queue);
	}
	c->started = check_seconds();
}

static double stop_clock(struct check *c) {
	return check_is_device_bench(c) ? c->device->module->clock_stop(c->queue)
		: check_seconds() - c->started;
}

/* What is timed shouldn't fetch pages from the host. */
static void send_buffers(struct check *c) {
	for (size_t i = 0; i < c->n_buffers; i++) {
		const struct buffer *b = &c->buffers[i];
		if (b->is_both && !b->is_past) {
			c->device->module->both_send(c->device->d, b->map, b->map_bytes);
		}
	}
}

static void end_case(struct check *c) {
	c->is_in_loop = false;
	protect_inputs(c, PROT_READ | PROT_WRITE);
	for (size_t i = 0; i < c->n_buffers; i++) {
		c->buffers[i].is_past = true;
	}
	c->ops = 0;
}

bool check_next(struct check *c, double bytes, const char *fmt, ...) {
	if (!c->is_in_loop && c->max_cases > 0 && c->n_cases == c->max_cases) {
		siglongjmp(c->crashed, 1); /* no failure: the cases that were asked for are played */
	}
	const double took = c->is_in_loop ? stop_clock(c) : 0;
	check_wait(c);
	if (!c->is_in_loop) {
		va_list args;
		va_start(args, fmt);
		vsnprintf(c->label, sizeof(c->label), fmt, args);
		va_end(args);
		begin_case(c);
		send_buffers(c);
	} else {
		if (c->n_times == 0 && !check_is_device_bench(c)) {
			take_outputs(c);
		}
		if (is_warm(c)) {
			c->times[c->n_times++] = took;
		}
		if (is_enough(c, check_seconds())) {
			if (c->is_bench) {
				take_sample(c, bytes);
			}
			end_case(c);
			return false;
		}
	}
	for (size_t i = 0; i < c->n_buffers; i++) {
		if (c->buffers[i].initial != NULL && (!check_is_device_bench(c) || c->n_warm == 0)) {
			memcpy(c->buffers[i].data, c->buffers[i].initial, c->buffers[i].bytes);
		}
	}
	if (c->is_bench) {
		flush_caches(c);
	}
	start_clock(c);
	return true;
}

/* ---- crashes ---- */

static struct check *volatile playing;

/* "SIGSEGV: a write at byte 400 of y [400]" */
static void describe_crash(const struct check *c, int number, const siginfo_t *info,
	const ucontext_t *context, char *text, size_t text_bytes) {
	const uint8_t *at = info->si_addr;
	const char *signal_name = number == SIGSEGV ? "SIGSEGV" : number == SIGBUS ? "SIGBUS" :
		number == SIGILL ? "SIGILL" : "SIGFPE";
	const char *access = context->uc_mcontext.gregs[REG_ERR] & 2 ? "a write" : "a read";
	for (size_t i = 0; i < c->n_buffers; i++) {
		const struct buffer *b = &c->buffers[i];
		if (number == SIGSEGV && at >= b->map && at < b->map + b->map_bytes) {
			snprintf(text, text_bytes, "%s: %s at byte %td of %s [%zu bytes]", signal_name, access,
				at - b->data, b->name, b->bytes);
			return;
		}
	}
	snprintf(text, text_bytes, "%s at address %p", signal_name, (const void *)at);
}

static void on_signal(int number, siginfo_t *info, void *context) {
	struct check *c = playing;
	if (c == NULL) {
		signal(number, SIG_DFL);
		return;
	}
	char text[256];
	describe_crash(c, number, info, context, text, sizeof(text));
	if (gettid() == getpid() && c->device == NULL) {
		check_fail(c, "%s", text);
		siglongjmp(c->crashed, 1);
	}
	char message[512];
	snprintf(message, sizeof(message), "%s %s: %s: %s (in a thread of the pool or on the device)",
		c->variant->kernel, c->variant->tag, c->label, text);
	on_fatal_crash(message);
}

void check_catch_signals(void (*on_fatal)(const char *message)) {
	on_fatal_crash = on_fatal;
	const struct sigaction action = { .sa_sigaction = on_signal,
		.sa_flags = SA_SIGINFO | SA_NODEFER };
	const int numbers[] = { SIGSEGV, SIGBUS, SIGILL, SIGFPE };
	for (size_t i = 0; i < COUNT(numbers); i++) {
		sigaction(numbers[i], &action, NULL);
	}
}

/* ---- a play ---- */

void check_play(struct check *c) {
	uint64_t hash = c->seed;
	for (const char *s = c->variant->kernel; *s != '\0'; s++) {
		hash = (hash ^ (uint8_t)*s) * 0x100000001b3u;
	}
	c->numbers = draw(&hash);
	c->garbage = draw(&hash);
	c->times = calloc(MAX_RUNS, sizeof(*c->times));
	assert(c->times != NULL);
	char why[256];
	if (check_is_device_bench(c) && !is_emulated(c)) {
		c->flushed = c->device->module->alloc(c->device->d, FLUSH_BYTES, why, sizeof(why));
	}
	playing = c;
	if (sigsetjmp(c->crashed, 1) == 0) {
		c->body(c, c->variant->fn);
	}
	playing = NULL;
	check_wait(c);
	for (size_t i = 0; i < c->n_buffers; i++) {
		free_buffer(c, &c->buffers[i]);
	}
	if (c->flushed != NULL) {
		c->device->module->free(c->device->d, c->flushed);
		c->flushed = NULL;
	}
	free(c->buffers);
	free(c->times);
	c->buffers = NULL;
	c->times = NULL;
	c->n_buffers = c->buffers_capacity = 0;
}

void check_finish(struct check *c) {
	for (size_t i = 0; i < c->records.n; i++) {
		free(c->records.items[i].data);
	}
	free(c->records.items);
	free(c->samples.items);
	c->records = (struct records){ 0 };
	c->samples = (struct samples){ 0 };
}
