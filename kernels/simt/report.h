/* SPDX-License-Identifier: Apache-2.0
 *
 * What a test asks of the emulator: how blocks are scheduled, what the checker has found, what was
 * moved and launched, and which failures the stand-in of the CUDA runtime shall give. Plain C. */
#ifndef SIMT_REPORT_H
#define SIMT_REPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- schedule ---- */

/* The order in which threads of a block and blocks of a grid get their turns: no result may
 * depend on it. */
enum simt_order { SIMT_FORWARD, SIMT_REVERSE, SIMT_RANDOM };

struct simt_options {
	int n_workers; /* host threads; 0 = one per CPU. The checker build takes one. */
	enum simt_order order;
	uint32_t seed; /* of SIMT_RANDOM */
	bool is_quiet; /* findings are kept, and not printed to stderr */
	/* Work on a stream is done when something waits for it, not when it is handed over, and streams
	 * take turns that the seed draws: what pinned memory holds then is copied. */
	bool defers;
};
void simt_set(const struct simt_options *options);
bool simt_checks(void); /* is this a checker build? */

/* ---- findings ---- */

/* Kinds: global-bounds, shared-bounds, no-memory, misaligned, shared-race, global-race,
 * global-uninitialised, shared-uninitialised, async (a copy that is used or left before its wait),
 * early-access (a launch that may begin early touches what the one before has written, or writes
 * what it has read, before it waits), barrier, warp, deadlock, fault (a guard page was hit: plain
 * build, or an access far off). */
struct simt_finding {
	const char *kind, *kernel;
	const char *file; /* as the compiler was given it */
	int line;
	unsigned thread[3], block[3];
	uint64_t count; /* times it was seen; place and text are those of the first */
	char text[320];
};
int simt_n_findings(const char *kind); /* of one kind, or of all for NULL */
bool simt_get_finding(int i, struct simt_finding *out);
void simt_forget_findings(void);

/* ---- what was moved ---- */

struct simt_traffic {
	uint64_t launches, graph_launches, copies, memsets; /* a graph's nodes count as launches too */
	/* Calls that take memory of the device or pinned memory, or make a stream, an event or a graph:
	 * each costs a driver microseconds to milliseconds, and some wait for the device. */
	uint64_t creations;
	uint64_t blocks, threads, barriers, warp_ops, switches;
	/* The rest is counted in the checker build, from the first simt_forget_traffic on. A request is
	 * one access of one warp. */
	uint64_t global_requests, global_bytes, global_sectors, ideal_sectors; /* 32-byte sectors */
	uint64_t global_read_sectors, global_written_sectors;
	/* Those that a launch touches for the first time: what memory must move when its caches keep
	 * the rest. */
	uint64_t new_read_sectors, new_written_sectors;
	uint64_t shared_requests, shared_bytes, wavefronts, ideal_wavefronts;
	uint64_t mma_operations, dp4a_operations; /* with what tiles are padded by */
};
void simt_get_traffic(struct simt_traffic *out);
void simt_forget_traffic(void);

/* The same for each launch since simt_forget_traffic, the first max of them; returns how many there
 * were. */
struct simt_launch {
	char kernel[96];
	unsigned grid[3], block[3], shared_bytes; /* dynamic shared memory of a block */
	uint64_t graph_launch; /* which of them ran it, from 1 on; 0: a launch by itself */
	struct simt_traffic traffic;
};
int simt_get_launches(struct simt_launch *out, int max);

/* The same for each line of source; global or shared, read or written. */
struct simt_line {
	char file[160];
	int line;
	bool is_shared, is_write;
	int bytes_per_lane; /* the widest access of the line */
	uint64_t requests, bytes;
	uint64_t parts, ideal; /* sectors of global memory, wavefronts of shared */
};
int simt_get_lines(struct simt_line *out, int max); /* returns how many there are */

/* ---- the device, and its failures ---- */

struct simt_device {
	int n_devices; /* 0: no device */
	int driver_version; /* 0: no driver; 12040 is CUDA 12.4 */
	int major, minor; /* compute capability; how much shared memory a block may have follows */
	size_t total_bytes;
};
void simt_get_device(struct simt_device *out);
void simt_set_device(const struct simt_device *device);

/* The n-th call from now (1 is the next) fails; 0 takes it back. */
void simt_fail_malloc(int n); /* cudaMalloc: cudaErrorMemoryAllocation */
void simt_fail_host_alloc(int n); /* cudaHostAlloc: cudaErrorMemoryAllocation */
void simt_fail_launch(int n); /* LAUNCH: a sticky cudaErrorLaunchFailure */
void simt_fail_copy(int n); /* cudaMemcpy and its like: a sticky cudaErrorIllegalAddress */
void simt_fail_memset(int n); /* cudaMemset and its like: a sticky cudaErrorIllegalAddress */
void simt_fail_stream(int n); /* cudaStreamCreate: cudaErrorMemoryAllocation */
void simt_fail_event(int n); /* cudaEventCreate: cudaErrorMemoryAllocation */
void simt_fail_capture(int n); /* cudaStreamEndCapture: cudaErrorStreamCaptureInvalidated */
void simt_fail_instantiate(int n); /* cudaGraphInstantiate: cudaErrorMemoryAllocation */
/* A call of cuBLASLt, each with an error that it may give; opening the library is one too. */
void simt_fail_cublaslt(int n);
bool simt_has_cublaslt(void); /* in dlopen's stead */
void simt_no_image(bool is_missing); /* kernels: cudaErrorNoKernelImageForDevice */

/* What a captured graph holds. */
enum simt_node_kind { SIMT_NODE_KERNEL, SIMT_NODE_COPY, SIMT_NODE_MEMSET, SIMT_NODE_EVENT };
struct simt_node {
	enum simt_node_kind kind;
	const char *kernel; /* lives as long as the graph */
	unsigned grid[3], block[3];
	size_t bytes; /* dynamic shared memory, or what is copied or set */
};
struct CUgraph_st;
bool simt_get_node(const struct CUgraph_st *graph, size_t i, struct simt_node *out);

#ifdef __cplusplus
}
#endif
#endif
