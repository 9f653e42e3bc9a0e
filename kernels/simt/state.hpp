/* SPDX-License-Identifier: Apache-2.0
 *
 * The emulator's records: threads of a block as fibers, their warps, and the block that a worker is
 * running. A block lives on one host thread from start to end, so nothing here is locked. */
#pragma once

#include "report.h"
#include "words.hpp"

#include <string>
#include <vector>

#undef threadIdx
#undef blockIdx
#undef blockDim
#undef gridDim

namespace simt {

constexpr int MAX_THREADS = 1024, LANES = 32, MAX_WARPS = MAX_THREADS / LANES;
constexpr size_t PAGE_BYTES = 4096;
constexpr size_t STACK_BYTES = 64 << 10; /* of one fiber; its lowest page is a guard */
constexpr size_t ARENA_BYTES = 256 << 10; /* shared memory with the gaps between its arrays */
/* Of a block: on the devices that have most, and without asking. */
constexpr size_t MAX_SMEM_BYTES = 227 << 10, PLAIN_SMEM_BYTES = 48 << 10;

enum class State : uint8_t { ready, in_warp, at_barrier, done };
enum class Op : uint8_t { sync, shuffle, ballot, reduce, ldmatrix, mma, wgmma, wgmma_wait };

/* What a lane wants from its warp while it is parked. in and out lie on the lane's own stack. */
struct Ask {
	Op op;
	uint32_t mask;
	Site site;
	const void *in;
	void *out;
	int n, how; /* words or matrices; which reduction, layout or type */
	uintptr_t pc; /* of the word in the kernel, for the checker */
};

struct AsyncCopy {
	void *s;
	const void *g;
	int n_bytes, n_from, group;
	Site site;
};

/* A lane's part of a wgmma that is under way, and sums that such are added to: what the kernel has
 * in d meanwhile is NaN. */
struct Wgmma {
	Mma type;
	float *d;
	uint32_t a[4];
	uint64_t b;
	int group;
	Site site;
};
struct WgmmaSums {
	float *d, value[WGMMA_SUMS];
};

/* One access of one lane, until its warp's are put together. */
struct Access {
	uintptr_t pc, address;
	uint8_t n_bytes, lane;
	bool is_write, is_shared;
};

struct Thread : Place {
	void *sp;
	int index, warp;
	State state;
	bool started;
	bool has_awaited, is_nc; /* the launch before; what it does now is an ld_nc. The checker's. */
	Ask ask;
	Site site; /* of the barrier where it waits */
	int n_groups; /* of async copies */
	std::vector<AsyncCopy> copies;
	int n_wgmma_groups;
	bool may_wgmma; /* since wgmma_begin */
	std::vector<Wgmma> wgmmas;
	std::vector<WgmmaSums> wgmma_sums;
	std::vector<Access> log;
};

struct Warp {
	uint32_t ready, live, arrived, existing; /* a bit per lane */
};

struct SharedArray {
	const void *tag;
	size_t offset, n_bytes;
	const char *name;
};

struct Block {
	Thread threads[MAX_THREADS];
	Warp warps[MAX_WARPS];
	int n_threads, n_warps, n_live, n_at_barrier;
	bool failed, fault, is_last; /* is_last: what arrives_last gives */
	uint32_t index;
	Site barrier_site;
	int barrier_first;
	void *scheduler; /* stack pointer of the host thread */
	enum simt_order order;
	uint32_t random;
	const Call *call;
	size_t dyn_bytes, used_bytes;
	std::vector<SharedArray> arrays;
	char *stacks, *arena;
	struct simt_traffic traffic;
};

extern __thread Block *block; /* what this host thread is running */

static inline Thread *running(void) {
	return static_cast<Thread *>(self);
}

/* ---- fiber.cpp ---- */
extern "C" void simt_switch(void **save, void *load);
void *fiber_prepare(char *stack_top, void (*entry)(void));

/* ---- schedule.cpp ---- */
Block *block_create(void);
/* false when the block could not be run to its end; the finding is there then. */
bool block_run(Block *b, const Shape &shape, const Call &call, uint32_t index);
void yield_thread(Thread *me); /* another thread's turn; returns when it is this one's again */
[[noreturn]] void abandon_block(void);

/* ---- launch.cpp ---- */
const struct simt_options &options(void);
/* Runs all blocks; false when one could not be ended, and whether an access was at fault. */
bool run_kernel(const Call &call, const Shape &shape, bool *fault);
struct simt_traffic &host_traffic(void); /* what is counted outside of blocks */

/* ---- wgmma.cpp; of the whole warp that `lanes` [32] begins ---- */
void wgmma_issue(Thread *lanes);
void wgmma_finish(Thread *lanes, int n);

/* ---- findings.cpp ---- */
__attribute__((format(printf, 4, 5))) void report(
	const char *kind, uintptr_t pc, const Site *site, const char *format, ...);
struct Line {
	std::string file;
	int line;
};
std::vector<Line> lines_of(const std::vector<uintptr_t> &pcs);

/* ---- work.cpp, device.cpp ---- */
void work_reseed(uint32_t seed); /* also does what was deferred: another schedule begins */
/* An error that the next cudaGetLastError gives; a sticky one stays until the device is reset. */
cudaError_t fail_with(cudaError_t error);
cudaError_t fail_for_good(cudaError_t error);
/* What keeps the device from taking work: no driver, a sticky error; or cudaSuccess. */
cudaError_t device_state(void);
cudaError_t launch_refused(const Call &call, const Shape &shape);
/* Whether a block of a kernel may have so much shared memory, static and dynamic. */
bool smem_is_allowed(const void *kernel, size_t n_bytes);
/* Counts down to an injected failure. */
enum class Failure { malloc, host_alloc, launch, copy, memset, stream, event, capture, instantiate,
	cublaslt, n };
bool failure_due(Failure which);

/* ---- check.cpp, traffic.cpp; only when `checking` ---- */
extern bool checking;
extern bool counting; /* sectors and wavefronts too, at a price */
/* `site` where a word of device code is the access: its instruction is the emulator's. */
void check_access(uintptr_t address, int n_bytes, bool is_write, bool is_atomic, uintptr_t pc,
	const Site *site = nullptr);
void check_lane_access(Thread *t, uintptr_t address, int n_bytes, bool is_write, bool is_atomic,
	uintptr_t pc, const Site *site = nullptr);
void check_copy_issued(const AsyncCopy &copy, uintptr_t pc);
void check_copy_arrived(const AsyncCopy &copy);
/* An operand of the tensor cores that t's warp has them read while it goes on. */
void check_operand(Thread *t, uintptr_t address, int n_bytes, const Site &site);
void check_proxy_fence(void);
void check_warp_joined(int warp, uint32_t lanes);
void check_barrier(void); /* all accesses before it are ordered before all after it */
void check_arrival(const void *count, bool is_last); /* of the block, before arrives_last's end */
void check_block_starts(const Shape &shape);
void check_launch_starts(const Shape &shape);
void check_launch_ends(const Call &call, const Shape &shape);
/* What the stream was given is done before anything that it is given from here on begins. */
void check_stream_waits(cudaStream_t stream);
void check_all_streams_wait(void);
void check_host_wrote(const void *p, size_t n_bytes); /* device memory has a value now */
void check_host_copied(const void *to, const void *from, size_t n_bytes);
void traffic_launch_starts(void);
void traffic_flush(Block *b);
void traffic_is_at(uintptr_t pc, const Site &site); /* what accesses at pc are counted for */
void traffic_forget(void);

} // namespace simt
