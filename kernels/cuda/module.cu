/* SPDX-License-Identifier: Apache-2.0
 *
 * The device module: opening a device, its queues, copies and graphs, and the table of its kernels.
 * All that the host sees of it is struct bb_module. */
#include "matmul_lt.h"
#include "matmul_panel.h"
#include "module.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef __CUDACC__
#define MODULE_NAME "cuda"
#else
#define MODULE_NAME "simt"
#include "../simt/report.h"
#endif

struct bb_device {
	struct arena arena;
	struct bb_device_info info;
	struct lt *lt; /* NULL: cuBLASLt isn't open */
	int block_bytes; /* of shared memory, that a block may have at most: all but 1 KiB of it */
	bool has_wgmma; /* gemm_wgmma has been called */
};

struct bb_graph {
	cudaGraph_t graph;
	cudaGraphExec_t exec;
	int n_nodes;
};

/* ---- kernels ---- */

/* A layout column of `none` becomes NULL, any other name &layout_<name>, declared by its header. */
#define LAYOUT_PTR_none NULL
#define LAYOUT_PTR_kv_padded &layout_kv_padded
#define LAYOUT_PTR_panels &layout_panels
#define LAYOUT_PTR_panels_lt &layout_panels_lt
#define LAYOUT_PTR_panels_pairs &layout_panels_pairs
#define LAYOUT_PTR_panels_wgmma &layout_panels_wgmma
#define LAYOUT_PTR_panels_wgmma_pairs &layout_panels_wgmma_pairs

static const struct bb_variant variants[] = {
#define KERNEL(name, args)
#define VARIANT(name, tag, needs, layout)
#define GPU_VARIANT(name, tag, needs, layout) \
	{ #name, #tag, (void (*)(void))name##_##tag, needs, #layout, LAYOUT_PTR_##layout },
#include "../kernels.def"
#undef KERNEL
#undef VARIANT
	{ NULL, NULL, NULL, 0, NULL, NULL },
};

static bool is_met(unsigned needs, const bb_device *d) {
	if ((needs & BB_WGMMA) != 0) {
		return d->has_wgmma;
	}
	const unsigned least = needs & ~(unsigned)(BB_ONLY | BB_LT), arch = (unsigned)d->info.arch;
	return (d->lt != NULL || (needs & BB_LT) == 0)
		&& ((needs & BB_ONLY) != 0 ? arch == least : arch >= least);
}

static void module_kernels(const bb_device *d, struct bb_kernels *k) {
	memset(k, 0, sizeof(*k));
	k->flags = (unsigned)d->info.arch;
#define KERNEL(name, args)
#define VARIANT(name, tag, needs, layout)
#define GPU_VARIANT(name, tag, needs, layout) \
	if (is_met(needs, d)) { \
		k->name = name##_##tag; \
		k->name##_layout = LAYOUT_PTR_##layout; \
	}
#include "../kernels.def"
#undef KERNEL
#undef VARIANT
}

/* ---- opening ---- */

/* Whether this build has code for the device shows when it is launched. */
__global__ void nothing(int) {
}

#ifdef __CUDACC__
bool has_early_launches;

/* PTX of an older architecture that was compiled for this device doesn't wait. */
static bool awaits_launches(void) {
	cudaFuncAttributes a;
	return cudaFuncGetAttributes(&a, (const void *)nothing) == cudaSuccess && a.ptxVersion >= 90;
}
#endif

static bool has_driver(char *text, size_t bytes) {
	int driver = 0, runtime = 0, n_devices = 0;
	cudaDriverGetVersion(&driver);
	cudaRuntimeGetVersion(&runtime);
	const cudaError_t error = cudaGetDeviceCount(&n_devices);
	if (driver == 0) {
		snprintf(text, bytes, "no NVIDIA driver is installed");
	} else if (error == cudaErrorInsufficientDriver) {
		snprintf(text, bytes, "the NVIDIA driver is for CUDA %d.%d, this build needs %d.%d",
			driver / 1000, driver % 1000 / 10, runtime / 1000, runtime % 1000 / 10);
	} else if (error == cudaErrorNoDevice || (error == cudaSuccess && n_devices == 0)) {
		snprintf(text, bytes, "the NVIDIA driver finds no device");
	} else if (error != cudaSuccess) {
		snprintf(text, bytes, "%s", cudaGetErrorString(error));
	} else {
		return true;
	}
	return false;
}

static bool open_first(bb_device *d, char *text, size_t bytes) {
	cudaDeviceProp prop;
	cudaError_t error = cudaSetDevice(0);
	error = error == cudaSuccess ? cudaGetDeviceProperties(&prop, 0) : error;
	if (error != cudaSuccess) {
		snprintf(text, bytes, "device 0: %s", cudaGetErrorString(error));
		return false;
	}
	snprintf(d->info.name, sizeof(d->info.name), "%s", prop.name);
	d->info.arch = 10 * prop.major + prop.minor;
	d->info.n_processors = prop.multiProcessorCount;
	d->block_bytes = (int)prop.sharedMemPerBlockOptin;
	d->info.memory_bytes = prop.totalGlobalMem;
	if (d->info.arch >= 80) {
		LAUNCH(nothing, 1, 1, 0, (cudaStream_t)0, 0);
		error = cudaGetLastError();
#ifdef __CUDACC__
		has_early_launches = awaits_launches();
#endif
	}
	if (d->info.arch < 80 || error == cudaErrorNoKernelImageForDevice) {
		snprintf(text, bytes, "%s has compute capability %d.%d, this build has code for %s",
			prop.name, prop.major, prop.minor, BOBBIN_ARCHS);
		return false;
	}
	if (error != cudaSuccess) {
		snprintf(text, bytes, "%s: %s", prop.name, cudaGetErrorString(error));
		return false;
	}
	return true;
}

static void module_close(bb_device *d) {
	if (d != NULL) {
		lt_close(d->lt);
		arena_finish(&d->arena);
		free(d);
	}
}

static bb_device *module_open(size_t max_bytes, char *text, size_t bytes) {
	bb_device *d = (bb_device *)calloc(1, sizeof(*d));
	size_t n_free = 0, n_total = 0;
	if (d == NULL) {
		snprintf(text, bytes, "out of memory");
		return NULL;
	}
	if (!has_driver(text, bytes) || !open_first(d, text, bytes)) {
		free(d);
		return NULL;
	}
	const cudaError_t error = cudaMemGetInfo(&n_free, &n_total);
	if (error != cudaSuccess) {
		snprintf(text, bytes, "%s: %s", d->info.name, cudaGetErrorString(error));
		free(d);
		return NULL;
	}
	arena_init(&d->arena, max_bytes > 0 ? max_bytes : n_free / 10 * 9);
	return d;
}

static void module_info(const bb_device *d, struct bb_device_info *out) {
	*out = d->info;
}

/* ---- products by cuBLASLt ---- */

int queue_processors(const bb_queue *q) {
	return q->device->info.n_processors;
}

int queue_block_bytes(const bb_queue *q) {
	return q->device->block_bytes;
}

int queue_blocks(const bb_queue *q, int bytes, int most) {
	const int kept = 1024; /* of each block, by the driver */
	const int fit = (q->device->block_bytes + kept) / (bytes + kept);
	return q->device->info.n_processors * (fit < 1 ? 1 : fit < most ? fit : most);
}

struct lt *device_lt(bb_device *d) {
	return d->lt;
}

static bool module_gemm_fast(bb_device *d, char *text, size_t bytes) {
	d->lt = d->lt != NULL ? d->lt : lt_open(text, bytes);
	return d->lt != NULL;
}

/* The emulator has the words, whatever it passes for. */
static bool module_gemm_wgmma(bb_device *d, char *text, size_t bytes) {
	d->has_wgmma = true;
#ifdef __CUDACC__
	d->has_wgmma = d->info.arch == 90 && strstr(BOBBIN_ARCHS, "90a") != NULL;
#endif
	if (!d->has_wgmma) {
		snprintf(text, bytes, "it needs compute capability 9.0 and code for 90a; %s has %d.%d, "
			"this build has code for %s", d->info.name, d->info.arch / 10, d->info.arch % 10,
			BOBBIN_ARCHS);
	}
	return d->has_wgmma;
}

static void module_gemm_memory(bb_device *d, void *memory) {
	lt_work_in(d->lt, memory);
}

static bool module_gemm_plan(bb_device *d, const float *y, int ld_y, int n, int k, int max_rows,
	char *text, size_t bytes) {
	return lt_plan(d->lt, y, ld_y, n, k, max_rows, text, bytes);
}

/* ---- memory ---- */

static void *module_alloc(bb_device *d, size_t n, char *text, size_t bytes) {
	return arena_alloc(&d->arena, n, text, bytes);
}

static void module_free(bb_device *d, void *p) {
	if (p != NULL) {
		arena_free(&d->arena, p);
	}
}

static size_t module_arena_bytes(const bb_device *d, size_t *used) {
	*used = d->arena.used_bytes;
	return d->arena.max_bytes;
}

/* A failed call's error is not the next launch's. */
static void *or_null(cudaError_t error, void *p) {
	if (error != cudaSuccess) {
		cudaGetLastError();
		return NULL;
	}
	return p;
}

static void *module_host_alloc(bb_device *d, size_t n) {
	void *p = NULL;
	const cudaError_t error = cudaMallocHost(&p, n > 0 ? n : 1);
	return or_null(error, p);
}

static void module_host_free(bb_device *d, void *p) {
	cudaFreeHost(p);
}

/* The emulator is told of the bytes that may be touched, a GPU of the pages. */
static bool module_host_register(bb_device *d, void *pages, size_t n, void *used, size_t n_used) {
#ifdef __CUDACC__
	return cudaHostRegister(pages, n, cudaHostRegisterDefault) == cudaSuccess;
#else
	return n_used == 0 || cudaHostRegister(used, n_used, cudaHostRegisterDefault) == cudaSuccess;
#endif
}

static void module_host_unregister(bb_device *d, void *pages, void *used, size_t n_used) {
#ifdef __CUDACC__
	cudaHostUnregister(pages);
#else
	if (n_used > 0) {
		cudaHostUnregister(used);
	}
#endif
}

static void *module_both_alloc(bb_device *d, size_t n) {
	void *p = NULL;
#ifdef __CUDACC__
	const cudaError_t error = cudaMallocManaged(&p, n > 0 ? n : 1);
#else
	const cudaError_t error = cudaMalloc(&p, n > 0 ? n : 1);
#endif
	return or_null(error, p);
}

static void module_both_free(bb_device *d, void *p) {
	cudaFree(p);
}

static void module_both_send(bb_device *d, void *p, size_t n) {
#ifdef __CUDACC__
	const cudaMemLocation there = { cudaMemLocationTypeDevice, 0 };
	if (cudaMemPrefetchAsync(p, n, there, 0, (cudaStream_t)0) != cudaSuccess
		|| cudaStreamSynchronize((cudaStream_t)0) != cudaSuccess) {
		cudaGetLastError(); /* it comes when it is touched */
	}
#else
	void *copy = malloc(n); /* the emulator didn't see the host write it */
	if (copy != NULL) {
		memcpy(copy, p, n);
		cudaMemcpy(p, copy, n, cudaMemcpyHostToDevice);
		free(copy);
	}
#endif
}

/* ---- queues ---- */

static void module_queue_destroy(bb_queue *q) {
	if (q == NULL) {
		return;
	}
	if (q->stream != NULL) {
		cudaStreamSynchronize(q->stream);
		cudaStreamDestroy(q->stream);
	}
	if (q->event != NULL) {
		cudaEventDestroy(q->event);
	}
	for (int i = 0; i < 2; i++) {
		if (q->clock[i] != NULL) {
			cudaEventDestroy(q->clock[i]);
		}
	}
	cudaFree(q->arrivals);
	free(q);
}

static const size_t arrivals_bytes = N_ARRIVALS * sizeof(unsigned);

static bb_queue *module_queue_create(bb_device *d) {
	bb_queue *q = (bb_queue *)calloc(1, sizeof(*q));
	if (q == NULL) {
		return NULL;
	}
	q->device = d;
	/* not of the arena: like the stream it is the queue's own, whatever the limit */
	if (cudaMalloc((void **)&q->arrivals, arrivals_bytes) != cudaSuccess
		|| cudaStreamCreateWithFlags(&q->stream, cudaStreamNonBlocking) != cudaSuccess
		|| cudaEventCreateWithFlags(&q->event, cudaEventDisableTiming) != cudaSuccess
		|| cudaMemsetAsync(q->arrivals, 0, arrivals_bytes, q->stream) != cudaSuccess) {
		cudaGetLastError();
		module_queue_destroy(q);
		return NULL;
	}
	return q;
}

/* Gives the error that stuck, and forgets it. */
static bool check(bb_queue *q, char *text, size_t bytes) {
	queue_note(q, cudaGetLastError(), "an earlier launch");
	if (q->error == cudaSuccess) {
		return true;
	}
	snprintf(text, bytes, "%s: %s", q->what, cudaGetErrorString(q->error));
	q->error = cudaSuccess;
	return false;
}

static bool module_wait(bb_queue *q, char *text, size_t bytes) {
	queue_note(q, cudaStreamSynchronize(q->stream), "work on the device");
	return check(q, text, bytes);
}

static void module_clock_start(bb_queue *q) {
	for (int i = 0; i < 2; i++) {
		if (q->clock[i] == NULL) {
			queue_note(q, cudaEventCreate(&q->clock[i]), "an event");
		}
	}
	queue_note(q, cudaEventRecord(q->clock[0], q->stream), "an event");
}

static double module_clock_stop(bb_queue *q) {
	float ms = 0;
	queue_note(q, cudaEventRecord(q->clock[1], q->stream), "an event");
	queue_note(q, cudaEventSynchronize(q->clock[1]), "work on the device");
	return cudaEventElapsedTime(&ms, q->clock[0], q->clock[1]) == cudaSuccess ? 1e-3 * ms : 0;
}

static void module_after(bb_queue *q, bb_queue *before) {
	queue_note(q, cudaEventRecord(before->event, before->stream), "an event");
	queue_note(q, cudaStreamWaitEvent(q->stream, before->event, 0), "an event");
}

static void module_copy_in(bb_queue *q, void *device, const void *host, size_t n) {
	queue_note(q, cudaMemcpyAsync(device, host, n, cudaMemcpyHostToDevice, q->stream), "a copy in");
}

static void module_copy_out(bb_queue *q, void *host, const void *device, size_t n) {
	const cudaMemcpyKind kind = cudaMemcpyDeviceToHost;
	queue_note(q, cudaMemcpyAsync(host, device, n, kind, q->stream), "a copy out");
}

static void module_copy(bb_queue *q, void *dst, const void *src, size_t n) {
	queue_note(q, cudaMemcpyAsync(dst, src, n, cudaMemcpyDeviceToDevice, q->stream), "a copy");
}

static void module_fill(bb_queue *q, void *device, int byte, size_t n) {
	queue_note(q, cudaMemsetAsync(device, byte, n, q->stream), "a fill");
}

/* ---- graphs ---- */

static void module_graph_destroy(bb_graph *g) {
	if (g == NULL) {
		return;
	}
	if (g->exec != NULL) {
		cudaGraphExecDestroy(g->exec);
	}
	if (g->graph != NULL) {
		cudaGraphDestroy(g->graph);
	}
	free(g);
}

static void module_capture_begin(bb_queue *q) {
	const cudaStreamCaptureMode mode = cudaStreamCaptureModeThreadLocal;
	queue_note(q, cudaStreamBeginCapture(q->stream, mode), "a capture");
}

static bb_graph *module_capture_end(bb_queue *q, char *text, size_t bytes) {
	bb_graph *g = (bb_graph *)calloc(1, sizeof(*g));
	cudaGraph_t graph = NULL;
	size_t n = 0;
	queue_note(q, cudaStreamEndCapture(q->stream, &graph), "a capture");
	if (g == NULL) {
		if (graph != NULL) {
			cudaGraphDestroy(graph);
		}
		snprintf(text, bytes, "out of memory");
		return NULL;
	}
	g->graph = graph;
	if (q->error == cudaSuccess) {
		queue_note(q, cudaGraphGetNodes(g->graph, NULL, &n), "a graph");
		queue_note(q, cudaGraphInstantiate(&g->exec, g->graph, 0), "a graph");
	}
	g->n_nodes = (int)n;
	if (!check(q, text, bytes)) {
		module_graph_destroy(g);
		return NULL;
	}
	return g;
}

static void module_graph_launch(bb_queue *q, const bb_graph *g) {
	queue_note(q, cudaGraphLaunch(g->exec, q->stream), "a graph's launch");
}

static int module_graph_nodes(const bb_graph *g) {
	return g->n_nodes;
}

/* ---- for tests ---- */

#ifdef __CUDACC__
static void (*const module_reschedule)(int) = NULL; /* a GPU has an order of its own */
static int (*const module_findings)(char *, size_t) = NULL;
static void (*const module_fail)(enum bb_failure, int) = NULL;
static int (*const module_launches)(struct bb_launch *, int) = NULL;
static uint64_t (*const module_creations)(void) = NULL;
static void (*const module_pass_for)(int) = NULL;
static int (*const module_lines)(struct bb_line *, int) = NULL;
#else
static void module_reschedule(int i) {
	const int n = abs(i);
	const simt_order order = n == 0 ? SIMT_FORWARD : n == 1 ? SIMT_REVERSE : SIMT_RANDOM;
	const simt_options options = { n % 2, order, (uint32_t)n, true, i < 0 };
	simt_set(&options);
}

static int module_findings(char *text, size_t bytes) {
	const int n = simt_n_findings(NULL);
	simt_finding f;
	text[0] = '\0';
	if (n > 0 && simt_get_finding(0, &f)) {
		snprintf(text, bytes, "%s in %s (%s:%d): %s", f.kind, f.kernel, f.file, f.line, f.text);
	}
	simt_forget_findings();
	return n;
}

static void module_fail(enum bb_failure what, int n) {
	switch (what) {
	case BB_FAIL_ALLOC: simt_fail_malloc(n); break;
	case BB_FAIL_HOST_ALLOC: simt_fail_host_alloc(n); break;
	case BB_FAIL_LAUNCH: simt_fail_launch(n); break;
	case BB_FAIL_COPY: simt_fail_copy(n); break;
	case BB_FAIL_FILL: simt_fail_memset(n); break;
	case BB_FAIL_STREAM: simt_fail_stream(n); break;
	case BB_FAIL_EVENT: simt_fail_event(n); break;
	case BB_FAIL_CAPTURE: simt_fail_capture(n); break;
	case BB_FAIL_GRAPH: simt_fail_instantiate(n); break;
	case BB_FAIL_GEMM: simt_fail_cublaslt(n); break;
	}
}

static int module_launches(struct bb_launch *out, int max) {
	enum { SECTOR = 32, MOST = 4096 };
	static struct simt_launch all[MOST];
	const int n = simt_get_launches(all, MOST);
	for (int i = 0; i < n && i < max && i < MOST; i++) {
		const struct simt_traffic *t = &all[i].traffic;
		struct bb_launch *to = &out[i];
		memcpy(to->kernel, all[i].kernel, sizeof(to->kernel));
		memcpy(to->grid, all[i].grid, sizeof(to->grid));
		memcpy(to->block, all[i].block, sizeof(to->block));
		to->shared_bytes = all[i].shared_bytes;
		to->read_bytes = t->global_read_sectors * SECTOR;
		to->written_bytes = t->global_written_sectors * SECTOR;
		to->new_read_bytes = t->new_read_sectors * SECTOR;
		to->new_written_bytes = t->new_written_sectors * SECTOR;
		to->wavefronts = t->wavefronts;
		to->ideal_wavefronts = t->ideal_wavefronts;
		to->mma_operations = t->mma_operations;
		to->dp4a_operations = t->dp4a_operations;
		to->graph_launch = all[i].graph_launch;
	}
	simt_forget_traffic();
	return n;
}

static uint64_t module_creations(void) {
	static uint64_t before;
	struct simt_traffic t;
	simt_get_traffic(&t);
	const uint64_t n = t.creations - before;
	before = t.creations;
	return n;
}

static void module_pass_for(int arch) {
	struct simt_device d;
	simt_get_device(&d);
	d.major = arch / 10;
	d.minor = arch % 10;
	simt_set_device(&d);
}

static int module_lines(struct bb_line *out, int max) {
	enum { MOST = 1024 };
	static struct simt_line all[MOST];
	const int n = simt_get_lines(all, MOST);
	for (int i = 0; i < n && i < max && i < MOST; i++) {
		const struct simt_line *l = &all[i];
		struct bb_line *to = &out[i];
		memcpy(to->file, l->file, sizeof(to->file));
		to->line = l->line;
		to->is_shared = l->is_shared;
		to->is_write = l->is_write;
		to->bytes_per_lane = l->bytes_per_lane;
		to->requests = l->requests;
		to->bytes = l->bytes;
		to->parts = l->parts;
		to->ideal_parts = l->ideal;
	}
	return n;
}
#endif

/* ---- the export ---- */

static const struct bb_module module = {
	BB_MODULE_ABI,
	MODULE_NAME,
	variants,
	module_kernels,
	module_open,
	module_close,
	module_info,
	module_gemm_fast,
	module_gemm_wgmma,
	lt_bytes,
	module_gemm_memory,
	module_gemm_plan,
	module_alloc,
	module_free,
	module_arena_bytes,
	module_host_alloc,
	module_host_free,
	module_host_register,
	module_host_unregister,
	module_both_alloc,
	module_both_free,
	module_both_send,
	module_queue_create,
	module_queue_destroy,
	module_wait,
	module_clock_start,
	module_clock_stop,
	module_after,
	module_copy_in,
	module_copy_out,
	module_copy,
	module_fill,
	module_capture_begin,
	module_capture_end,
	module_graph_launch,
	module_graph_nodes,
	module_graph_destroy,
	module_reschedule,
	module_findings,
	module_fail,
	module_launches,
	module_creations,
	module_pass_for,
	module_lines,
};

extern "C" __attribute__((visibility("default"))) const struct bb_module *bobbin_module(void) {
	return &module;
}
