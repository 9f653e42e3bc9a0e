/* SPDX-License-Identifier: Apache-2.0
 *
 * A device other than the CPU: what its module (libbobbin_cuda.so, libbobbin_simt.so) exports, and
 * how one is found, opened and closed. Knows no kernels and no models; arithmetic is called through
 * the module's kernel table, with pointers to the device's memory.
 *
 * Work is given to queues; calls on one queue happen in order, and return before they are done. A
 * launch can't fail: its error sticks to the queue, and is read once a step by `wait`. */
#ifndef DEVICE_H
#define DEVICE_H

#include "kernels.h"

#ifdef __cplusplus /* the device modules */
extern "C" {
#endif

/* Of struct bb_module and of everything that kernels.h declares. */
enum { BB_MODULE_ABI = 7 };

/* What is opened: a GPU, or the emulator. */
typedef struct bb_device bb_device;
/* A captured stretch of work, which can be launched again and again. */
typedef struct bb_graph bb_graph;

/* What a test can make fail. */
enum bb_failure { BB_FAIL_ALLOC, BB_FAIL_HOST_ALLOC, BB_FAIL_LAUNCH, BB_FAIL_COPY, BB_FAIL_FILL,
	BB_FAIL_STREAM, BB_FAIL_EVENT, BB_FAIL_CAPTURE, BB_FAIL_GRAPH, BB_FAIL_GEMM };

/* A launch on the emulator. Bytes and wavefronts are counted by its checker alone, in sectors of 32
 * bytes; `new` ones are those that the launch touches for the first time, which memory must move
 * where caches keep the rest. */
struct bb_launch {
	char kernel[96];
	unsigned grid[3], block[3], shared_bytes; /* dynamic shared memory of a block */
	uint64_t read_bytes, written_bytes, new_read_bytes, new_written_bytes;
	uint64_t wavefronts, ideal_wavefronts; /* of shared memory */
	uint64_t mma_operations, dp4a_operations; /* a multiplication and an addition are two */
	uint64_t graph_launch; /* since the last call: which of them ran it, from 1; 0: none did */
};

/* A line of source on the emulator, as it accesses memory of a kind. */
struct bb_line {
	char file[160];
	int line;
	bool is_shared, is_write;
	int bytes_per_lane;          /* the widest access */
	uint64_t requests, bytes;    /* of warps; what their lanes asked for */
	uint64_t parts, ideal_parts; /* sectors, or of shared memory wavefronts; what bytes need */
};

struct bb_device_info {
	char name[256];
	int arch;            /* compute capability times ten */
	int n_processors;
	size_t memory_bytes; /* all that there is */
};

/* Sentences go to text[bytes]. A function that gives one returns false or NULL then. */
struct bb_module {
	int abi; /* BB_MODULE_ABI; the rest is to be believed only when it is */
	const char *name; /* "cuda", "simt" */
	const struct bb_variant *variants; /* ends with a NULL kernel */
	/* The best variants for a device; NULL for a kernel without one. */
	void (*kernels)(const bb_device *d, struct bb_kernels *k);

	/* Opens a device that may hold at most max_bytes here (0: nine tenths of what is free). */
	bb_device *(*open)(size_t max_bytes, char *text, size_t bytes);
	void (*close)(bb_device *d); /* NULL is fine; queues and graphs have to be gone */
	void (*info)(const bb_device *d, struct bb_device_info *out);
	/* Opens cuBLASLt; from then on `kernels` gives the variants that need it (BB_LT). Their
	 * products of BB_LT_ROWS rows and more round weights and x to bf16 and sum in f32, in an order
	 * that depends on the shape. False with a sentence, where nothing has changed. */
	bool (*gemm_fast)(bb_device *d, char *text, size_t bytes);
	/* From then on `kernels` gives the variants that need Hopper's own products (BB_WGMMA), from
	 * BB_WGMMA_ROWS rows on; below they are the ordinary ones. The bits are the same if the
	 * hardware adds up a step of 16 alike in both: an H100 did in all rows of bench/gpu-acceptance,
	 * and gained with 512 rows, not with 64. They become the default when the engine's tests have
	 * run with them on a GPU. False with a sentence, where nothing has changed: on another compute
	 * capability than 9.0, in a build without code for 90a. */
	bool (*gemm_wgmma)(bb_device *d, char *text, size_t bytes);
	/* Bytes of the device in which a product with a matrix [n, k] works, and where they are, which
	 * serves all products: as many as the largest needs, its owner's, 256-byte aligned. */
	size_t (*gemm_bytes)(int n, int k);
	void (*gemm_memory)(bb_device *d, void *memory);
	/* Chooses the algorithms of products y [up to max_rows, ld_y] with a matrix [n, k], so that
	 * none is chosen in a step. */
	bool (*gemm_plan)(bb_device *d, const float *y, int ld_y, int n, int k, int max_rows,
		char *text, size_t bytes);

	/* Memory of the device, 256-byte aligned and not cleared, of its arena: admitted by bytes,
	 * taken from the driver in large segments, which are kept until close. */
	void *(*alloc)(bb_device *d, size_t n, char *text, size_t bytes);
	void (*free)(bb_device *d, void *p); /* NULL is fine */
	size_t (*arena_bytes)(const bb_device *d, size_t *used);
	/* Host memory that copies can overlap with compute; NULL when there is none. */
	void *(*host_alloc)(bb_device *d, size_t n);
	void (*host_free)(bb_device *d, void *p);
	/* Memory that both sides reach, for tests and benches; the host may look only after `wait`.
	 * Register: n bytes of whole pages of the host's, of which used[n_used] may be touched. Alloc:
	 * memory that moves to the side that touches it. */
	bool (*host_register)(bb_device *d, void *pages, size_t n, void *used, size_t n_used);
	void (*host_unregister)(bb_device *d, void *pages, void *used, size_t n_used);
	void *(*both_alloc)(bb_device *d, size_t n);
	void (*both_free)(bb_device *d, void *p);
	/* Moves it to the device, whose pages are then as large as those of its own memory. */
	void (*both_send)(bb_device *d, void *p, size_t n);

	bb_queue *(*queue_create)(bb_device *d);
	void (*queue_destroy)(bb_queue *q); /* waits; NULL is fine */
	/* Waits until all that the queue was given is done; false with the first error since the last
	 * wait in a sentence. */
	bool (*wait)(bb_queue *q, char *text, size_t bytes);
	/* How long the queue takes for what it is given between the two, on the device's own clock; the
	 * second waits. 0 seconds when that can't be known. */
	void (*clock_start)(bb_queue *q);
	double (*clock_stop)(bb_queue *q);
	/* What q is given from now on happens after what `before` has been given. */
	void (*after)(bb_queue *q, bb_queue *before);
	void (*copy_in)(bb_queue *q, void *device, const void *host, size_t n);
	void (*copy_out)(bb_queue *q, void *host, const void *device, size_t n);
	void (*copy)(bb_queue *q, void *dst, const void *src, size_t n); /* both the device's */
	void (*fill)(bb_queue *q, void *device, int byte, size_t n);

	/* Between the two the queue records instead of doing; nothing may wait on it. */
	void (*capture_begin)(bb_queue *q);
	bb_graph *(*capture_end)(bb_queue *q, char *text, size_t bytes);
	void (*graph_launch)(bb_queue *q, const bb_graph *g);
	int (*graph_nodes)(const bb_graph *g);
	void (*graph_destroy)(bb_graph *g); /* NULL is fine */

	/* For tests; NULL on a GPU. Reschedule: another order of threads and blocks, numbered from 0;
	 * below 0 that of -i, and what queues are given is done when it is waited for and no sooner,
	 * queues taking turns at random. Findings: what the emulator's checker has found since the last
	 * call, the first in words. */
	void (*reschedule)(int i);
	int (*findings)(char *text, size_t bytes);
	/* The n-th call from now that could fail so fails, and the error of a launch, a copy or a fill
	 * sticks; 0 takes it back. */
	void (*fail)(enum bb_failure what, int n);
	/* Launches since the last call, oldest first, the first max of them and at most 4096; returns
	 * how many there were. What was counted is forgotten; bytes and wavefronts are counted from the
	 * first call on. */
	int (*launches)(struct bb_launch *out, int max);
	/* Calls since the last one that took memory from the driver, the device's or pinned, or had it
	 * make a stream, an event or a graph. */
	uint64_t (*creations)(void);
	/* What is opened next passes for a device of this compute capability, times 10. */
	void (*pass_for)(int arch);
	/* Lines that have accessed memory since the last call of `launches`, the first max of them;
	 * returns how many there were. */
	int (*lines)(struct bb_line *out, int max);
};

/* The one function that a module exports. */
#define BB_MODULE_SYMBOL "bobbin_module"
typedef const struct bb_module *bb_module_fn(void);

/* Whether device_open knows a name. */
bool device_is_known(const char *name);

/* An open device; all zero is the CPU. */
struct device {
	void *library;
	const struct bb_module *module;
	bb_device *d;
};

/* `name`: "cpu", "cuda", "simt", or "auto": cuda where it can be had, else cpu; "simt_check" is
 * simt with the emulator's checker, in build trees only. Modules lie beside the executable, in
 * ../kernels/cuda of it (the build tree) or where they were installed. False with a sentence in
 * text; with "auto" never, and then text says why a GPU whose driver is loaded was passed over, or
 * is empty. */
bool device_open(struct device *out, const char *name, size_t max_bytes, char *text, size_t bytes);
void device_close(struct device *d);
/* "cpu", "cuda", "simt". */
const char *device_kind(const struct device *d);

#ifdef __cplusplus
}
#endif

#endif
