/* SPDX-License-Identifier: Apache-2.0
 *
 * The device module over the stand-in of the CUDA runtime: its sentences for every failure, the
 * arena's accounts, queues, copies and graphs. Linked with the module's sources, so that failures
 * can be asked for. */
#include "device.h"
#include "report.h"
#include "runtime.h"

#include <criterion/criterion.h>
#include <string.h>

bb_module_fn bobbin_module;

static const struct bb_module *m;
static char text[512];

static void setup(void) {
	m = bobbin_module();
}

static bb_device *open_device(size_t max_bytes) {
	bb_device *d = m->open(max_bytes, text, sizeof(text));
	cr_assert_not_null(d, "%s", text);
	return d;
}

static void refused(const char *sentence) {
	cr_assert_null(m->open(0, text, sizeof(text)));
	cr_assert_not_null(strstr(text, sentence), "%s", text);
}

/* ---- opening ---- */

Test(device, says_why_it_cannot_be_opened, .init = setup) {
	struct simt_device usual, changed;
	simt_get_device(&usual);
	changed = usual;
	changed.driver_version = 0;
	simt_set_device(&changed);
	refused("no NVIDIA driver is installed");
	changed.driver_version = 12040;
	simt_set_device(&changed);
	refused("the NVIDIA driver is for CUDA 12.4, this build needs 13.0");
	changed = usual;
	changed.n_devices = 0;
	simt_set_device(&changed);
	refused("finds no device");
	changed = usual;
	changed.major = 7;
	changed.minor = 5;
	simt_set_device(&changed);
	refused("compute capability 7.5, this build has code for");
	simt_set_device(&usual);
	simt_no_image(true);
	refused("this build has code for");
	simt_no_image(false);
	m->close(open_device(0));
}

Test(device, names_are_known_or_refused) {
	struct device d;
	cr_assert(device_open(&d, "cpu", 0, text, sizeof(text)));
	cr_assert_str_eq(device_kind(&d), "cpu");
	device_close(&d);
	cr_assert(device_open(&d, "auto", 0, text, sizeof(text)));
	device_close(&d);
	cr_assert_not(device_open(&d, "tpu", 0, text, sizeof(text)));
	cr_assert_not_null(strstr(text, "device tpu: unknown"), "%s", text);
}

Test(device, simt_is_found_in_the_build) {
	struct device d;
	cr_assert(device_open(&d, "simt", 0, text, sizeof(text)), "%s", text);
	cr_assert_str_eq(device_kind(&d), "simt");
	struct bb_kernels k;
	d.module->kernels(d.d, &k);
	cr_assert_not_null(k.add);
	device_close(&d);
	cr_assert_str_eq(device_kind(&d), "cpu");
}

/* ---- memory ---- */

Test(device, arena_admits_by_bytes, .init = setup) {
	const size_t mib = (size_t)1 << 20;
	size_t used;
	bb_device *d = open_device(100 * mib);
	char *a = m->alloc(d, 10 * mib, text, sizeof(text));
	char *b = m->alloc(d, 1, text, sizeof(text));
	char *c = m->alloc(d, 80 * mib, text, sizeof(text));
	cr_assert(a != NULL && b != NULL && c == NULL);
	cr_assert_str_eq(text, "80.0 MiB of device memory can't be had: of the 100.0 MiB that are "
		"allowed here 10.0 MiB are in use, but no free part is larger than 54.0 MiB");
	cr_assert_null(m->alloc(d, 95 * mib, text, sizeof(text)));
	cr_assert_str_eq(text, "95.0 MiB of device memory can't be had: 10.0 MiB of the 100.0 MiB that "
		"are allowed here are in use");
	cr_assert_eq(m->arena_bytes(d, &used), 100 * mib);
	cr_assert_eq(used, 10 * mib + 256);
	cr_assert_eq((uintptr_t)a % 256, 0);
	cr_assert_eq(b, a + 10 * mib);
	c = m->alloc(d, 30 * mib, text, sizeof(text));
	cr_assert_eq(c, b + 256);
	m->free(d, b);
	m->free(d, a);
	cr_assert_eq(m->alloc(d, 10 * mib + 256, text, sizeof(text)), a, "free neighbours are joined");
	m->free(d, a);
	m->free(d, c);
	m->free(d, NULL);
	a = m->alloc(d, 100 * mib, text, sizeof(text));
	cr_assert_not_null(a, "what nobody uses makes room: %s", text);
	m->free(d, a);
	cr_assert_eq(m->alloc(d, 64 * mib, text, sizeof(text)), a);
	m->arena_bytes(d, &used);
	cr_assert_eq(used, 64 * mib);
	m->close(d);
}

Test(device, memory_that_is_not_there_is_refused_once, .init = setup) {
	bb_device *d = open_device(0);
	bb_queue *q = m->queue_create(d);
	simt_fail_malloc(1);
	cr_assert_null(m->alloc(d, 1000, text, sizeof(text)));
	cr_assert_not_null(strstr(text, "1.0 KiB of device memory can't be had: the driver refuses "
		"them; 0.0 KiB are in use here"), "%s", text);
	cr_assert(m->wait(q, text, sizeof(text)), "no error is left behind: %s", text);
	cr_assert_not_null(m->alloc(d, 1000, text, sizeof(text)));
	simt_fail_host_alloc(1);
	cr_assert_null(m->host_alloc(d, 1000));
	cr_assert(m->wait(q, text, sizeof(text)));
	m->queue_destroy(q);
	m->close(d);
}

/* ---- queues and graphs ---- */

/* Each part of a queue is refused once: nothing of it is left. */
Test(device, a_queue_that_cannot_be_made_leaves_nothing, .init = setup) {
	static void (*const parts[])(int) = { simt_fail_malloc, simt_fail_stream, simt_fail_event };
	bb_device *d = open_device(0);
	size_t before, after, total;
	cudaMemGetInfo(&before, &total);
	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		parts[i](1);
		cr_assert_null(m->queue_create(d), "part %zu", i);
		cudaMemGetInfo(&after, &total);
		cr_assert_eq(before, after, "part %zu leaves %zu bytes", i, before - after);
		bb_queue *q = m->queue_create(d);
		cr_assert_not_null(q, "part %zu fails again", i);
		cr_assert(m->wait(q, text, sizeof(text)), "%s", text);
		m->queue_destroy(q);
	}
	simt_fail_memset(1);
	cr_assert_null(m->queue_create(d));
	cr_assert_null(m->queue_create(d), "a failed fill takes the device with it");
	cr_assert_eq(cudaDeviceReset(), cudaSuccess);
	bb_queue *q = m->queue_create(d);
	cr_assert_not_null(q);
	m->queue_destroy(q);
	m->close(d);
}

Test(device, a_failed_fill_sticks_to_the_queue, .init = setup) {
	bb_device *d = open_device(0);
	bb_queue *q = m->queue_create(d);
	void *x = m->alloc(d, 1000, text, sizeof(text));
	simt_fail_memset(1);
	m->fill(q, x, 0, 1000);
	cr_assert_not(m->wait(q, text, sizeof(text)));
	cr_assert_eq(strncmp(text, "a fill: ", 8), 0, "%s", text);
	m->queue_destroy(q);
	m->close(d);
}

/* A graph that can't be had says why, and the queue works on. */
Test(device, a_capture_that_fails_leaves_a_queue_that_works, .init = setup) {
	static void (*const parts[])(int) = { simt_fail_capture, simt_fail_instantiate };
	bb_device *d = open_device(0);
	bb_queue *q = m->queue_create(d);
	void *x = m->alloc(d, 1000, text, sizeof(text));
	for (int i = 0; i < 2; i++) {
		parts[i](1);
		m->capture_begin(q);
		m->fill(q, x, 0, 1000);
		cr_assert_null(m->capture_end(q, text, sizeof(text)));
		cr_assert_not_null(strstr(text, i == 0 ? "a capture: " : "a graph: "), "%s", text);
		m->fill(q, x, 0, 1000);
		cr_assert(m->wait(q, text, sizeof(text)), "%s", text);
		m->capture_begin(q);
		bb_graph *g = m->capture_end(q, text, sizeof(text));
		cr_assert_not_null(g, "%s", text);
		m->graph_destroy(g);
	}
	m->queue_destroy(q);
	m->close(d);
}

enum { N = 1000 };

Test(device, work_goes_there_and_back, .init = setup) {
	bb_device *d = open_device(0);
	bb_queue *q = m->queue_create(d), *copies = m->queue_create(d);
	struct bb_kernels k;
	m->kernels(d, &k);
	float *host = m->host_alloc(d, N * sizeof(*host));
	float *x = m->alloc(d, N * sizeof(*x), text, sizeof(text));
	float *y = m->alloc(d, N * sizeof(*y), text, sizeof(text));
	for (int i = 0; i < N; i++) {
		host[i] = (float)i;
	}
	m->copy_in(copies, x, host, N * sizeof(*x));
	m->after(q, copies);
	m->fill(q, y, 0, N * sizeof(*y));
	k.add(q, y, x, N, 1);
	m->capture_begin(q);
	k.add(q, y, x, N, 1);
	k.add(q, x, y, N, 1);
	bb_graph *g = m->capture_end(q, text, sizeof(text));
	cr_assert_not_null(g, "%s", text);
	cr_assert_eq(m->graph_nodes(g), 2);
	m->graph_launch(q, g);
	m->graph_launch(q, g); /* y: 1, 2, 5; x: 1, 3, 8 times */
	m->copy(q, y, x, N * sizeof(*y));
	m->copy_out(q, host, y, N * sizeof(*y));
	cr_assert(m->wait(q, text, sizeof(text)), "%s", text);
	for (int i = 0; i < N; i++) {
		cr_assert_eq(host[i], 8.0f * (float)i);
	}
	m->graph_destroy(g);
	m->host_free(d, host);
	m->queue_destroy(copies);
	m->queue_destroy(q);
	m->close(d);
}

Test(device, a_failed_launch_sticks_to_the_queue, .init = setup) {
	bb_device *d = open_device(0);
	bb_queue *q = m->queue_create(d);
	struct bb_kernels k;
	m->kernels(d, &k);
	float *x = m->alloc(d, N * sizeof(*x), text, sizeof(text));
	m->fill(q, x, 0, N * sizeof(*x));
	simt_fail_launch(1);
	k.add(q, x, x, N, 1);
	cr_assert_not(m->wait(q, text, sizeof(text)));
	cr_assert_eq(strncmp(text, "add: ", 5), 0, "%s", text);
	m->queue_destroy(q);
	m->close(d);
}
