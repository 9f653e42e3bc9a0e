/* SPDX-License-Identifier: Apache-2.0
 *
 * For each kind of finding a kernel with that bug, which the checker must find at the line that is
 * marked "bug: <name>", and the same kernel without it, in which nothing may be found. */
#include "device.cuh"
#include "report.h"

#include <stdlib.h>

#include "simt_test.h"

enum { N = 256 };

static float *x, *y;

/* ---- bounds ---- */

template <bool bug> __global__ void read_past(const float *a, float *b) {
	const unsigned t = threadIdx.x;
	b[t] = a[t + (bug ? 1 : 0)]; /* bug: read_past */
}

template <bool bug> __global__ void write_past(const float *a, float *b) {
	const int t = (int)threadIdx.x - (bug ? 1 : 0);
	b[t] = a[threadIdx.x]; /* bug: write_past */
}

template <bool bug> __global__ void vector_past(const float *a, float *b) {
	for (unsigned i = threadIdx.x; bug ? i <= N / 4 : i < N / 4; i += blockDim.x) {
		const float4 v = ld_nc((const float4 *)a + i); /* bug: vector_past */
		if (i < N / 4) {
			st_vec((float4 *)b + i, v);
		}
	}
}

template <bool bug> __global__ void shared_past(const float *a, float *b) {
	SHARED(float, row, [N]);
	const unsigned t = threadIdx.x;
	row[t + (bug ? 1 : 0)] = a[t]; /* bug: shared_past */
	b[t] = row[t + (bug ? 1 : 0)];
}

template <bool bug> __global__ void host_memory(const float *a, float *b) {
	static float there[N];
	float *to = bug ? there : b;
	to[threadIdx.x] = a[threadIdx.x]; /* bug: host_memory */
}

template <bool bug> __global__ void far_off(const float *a, float *b) {
	const size_t t = threadIdx.x;
	b[t] = a[bug ? t + 4096 * 4 : t]; /* bug: far_off */
}

template <bool bug> __global__ void misaligned(const float *a, float *b) {
	const float *from = a + (bug ? 1 : 0);
	const float2 v = ld_vec((const float2 *)from + threadIdx.x / 4); /* bug: misaligned */
	b[threadIdx.x] = v.x;
}

/* ---- races ---- */

template <bool bug> __global__ void missing_barrier(const float *a, float *b) {
	SHARED(float, row, [N]);
	const unsigned t = threadIdx.x;
	row[t] = a[t];
	__syncthreads();
	const float v = row[N - 1 - t];
	if (!bug) {
		__syncthreads();
	}
	row[t] = v; /* bug: missing_barrier */
	b[t] = v;
}

template <bool bug> __global__ void missing_syncwarp(const float *a, float *b) {
	SHARED(float, row, [N]);
	const unsigned t = threadIdx.x;
	row[t] = 0.0f;
	__syncthreads();
	row[t] = a[t];
	if (bug) {
		__shfl_xor_sync(ALL_LANES, a[t], 1); /* orders nothing */
	} else {
		__syncwarp();
	}
	b[t] = row[t ^ 1]; /* bug: missing_syncwarp */
}

template <bool bug> __global__ void two_blocks(const float *a, float *b) {
	const unsigned t = bug ? threadIdx.x : threadIdx.x + blockIdx.x * blockDim.x;
	b[t] = a[t]; /* bug: two_blocks */
}

template <bool bug> __global__ void last_block(const float *a, float *b) {
	const unsigned t = threadIdx.x + blockIdx.x * blockDim.x;
	b[t] = a[t] + (bug && blockIdx.x == 1 ? b[t - blockDim.x] : 0.0f); /* bug: last_block */
}

/* The last of the blocks, by a count that says nothing of what they wrote. */
DEVICE bool counts_last(unsigned *count) {
	SHARED(unsigned, before);
	if (threadIdx.x == 0) {
		before = atomicAdd(count, 1u);
	}
	__syncthreads();
	return before == gridDim.x - 1;
}

/* The count is in the first of a, which is 0. */
template <bool bug> __global__ void without_fence(const float *a, float *b) {
	const unsigned n = gridDim.x * blockDim.x, t = threadIdx.x + blockIdx.x * blockDim.x;
	b[t] = a[t | 1];
	if (bug ? counts_last((unsigned *)a) : arrives_last((unsigned *)a, gridDim.x)) {
		b[t] += b[(t + blockDim.x) % n]; /* bug: without_fence */
	}
}

template <bool bug> __global__ void late_write(const float *a, float *b) {
	const unsigned n = gridDim.x * blockDim.x, t = threadIdx.x + blockIdx.x * blockDim.x;
	b[t] = a[t | 1];
	if (arrives_last((unsigned *)a, gridDim.x)) {
		b[t] += b[(t + blockDim.x) % n]; /* bug: late_write */
	} else if (bug) {
		b[t] = 0.0f;
	}
}

template <bool bug> __global__ void plain_counter(const float *a, float *b) {
	SHARED(int, counter);
	if (threadIdx.x == 0) {
		counter = 0;
	}
	__syncthreads();
	if (!bug) {
		atomicAdd(&counter, (int)a[1]);
	} else {
		counter += (int)a[1]; /* bug: plain_counter */
	}
	__syncthreads();
	b[threadIdx.x] = (float)counter;
}

/* ---- uninitialised ---- */

template <bool bug> __global__ void unwritten_shared(const float *a, float *b) {
	SHARED(float, row, [N]);
	const unsigned t = threadIdx.x;
	if (!bug || t < N / 2) {
		row[t] = a[t];
	}
	__syncthreads();
	b[t] = row[N - 1 - t]; /* bug: unwritten_shared */
}

template <bool bug> __global__ void unwritten_global(const float *a, float *b) {
	const unsigned t = threadIdx.x;
	if (!bug) {
		b[t] = a[t];
	}
	b[t] = b[t] + a[t]; /* bug: unwritten_global */
}

/* ---- async copies ---- */

template <bool bug> __global__ void missing_wait(const float *a, float *b) {
	SHARED(float, stage, [2][N * 4]);
	const unsigned t = threadIdx.x;
	for (int i = 0; i < 4; i++) { /* the buffers have old values from the third on */
		cp_async16(&stage[i % 2][t % 64 * 4 + t / 64 * 256], a + t % 64 * 4);
		cp_async_commit();
		if (!bug || i < 2) {
			cp_async_wait<0>();
		} else {
			cp_async_wait<1>();
		}
		__syncthreads();
		b[t] = stage[i % 2][t]; /* bug: missing_wait */
		__syncthreads();
	}
	cp_async_wait<0>();
}

template <bool bug> __global__ void left_copy(const float *a, float *b) {
	SHARED(float, stage, [N * 4]);
	const unsigned t = threadIdx.x;
	cp_async16(&stage[t * 4], a + t % 64 * 4); /* bug: left_copy */
	cp_async_commit();
	if (!bug) {
		cp_async_wait<0>();
	}
	b[t] = a[t];
}

template <bool bug> __global__ void copy_past(const float *a, float *b) {
	SHARED(float, stage, [N]);
	const unsigned t = threadIdx.x;
	if (t < N / 4) {
		cp_async16(&stage[t * 4], a + t * 4 + (bug ? 4 : 0)); /* bug: copy_past */
	}
	cp_async_commit();
	cp_async_wait<0>();
	__syncthreads();
	b[t] = stage[t];
}

/* In any order of the threads some copy to what another has written before. */
template <bool bug> __global__ void copy_race(const float *a, float *b) {
	SHARED(float, stage, [N]);
	const unsigned t = threadIdx.x, to = N / 4 - 1 - t;
	stage[t] = a[t];
	if (!bug) {
		__syncthreads();
	}
	if (t < N / 4) {
		cp_async16(&stage[to * 4], a + to * 4); /* bug: copy_race */
	}
	cp_async_commit();
	cp_async_wait<0>();
	__syncthreads();
	b[t] = stage[t];
}

template <bool bug> __global__ void atomic_past(const float *a, float *b) {
	const unsigned t = threadIdx.x;
	b[t] = a[t];
	atomicAdd((unsigned *)b + t + (bug ? 1 : 0), 0u); /* bug: atomic_past */
}

template <bool bug> __global__ void matrix_past(const float *a, float *b) {
	SHARED(float, stage, [N]);
	const unsigned t = threadIdx.x;
	uint32_t r[4];
	stage[t] = a[t];
	__syncthreads();
	ldmatrix_x4(r, &stage[(t / 32 + (bug ? 1 : 0)) * 32 + t % 8 * 4]); /* bug: matrix_past */
	b[t] = (float)r[0];
}

/* ---- barriers, warps ---- */

template <bool bug> __global__ void two_barriers(const float *a, float *b) {
	if (bug && threadIdx.x >= 128) {
		__syncthreads(); /* bug: two_barriers */
	} else {
		__syncthreads();
	}
	b[threadIdx.x] = a[threadIdx.x];
}

template <bool bug> __global__ void early_exit(const float *a, float *b) {
	b[threadIdx.x] = a[threadIdx.x];
	if (bug && threadIdx.x >= 128) {
		return;
	}
	__syncthreads(); /* bug: early_exit */
}

template <bool bug> __global__ void skipped_barrier(const float *a, float *b) {
	if (!bug || threadIdx.x >= 16) {
		__syncthreads();
	}
	b[threadIdx.x] = __shfl_xor_sync(ALL_LANES, a[threadIdx.x], 1); /* bug: skipped_barrier */
}

template <bool bug> __global__ void wrong_mask(const float *a, float *b) {
	const unsigned mask = bug ? 0x0000ffffu : ALL_LANES;
	b[threadIdx.x] = __shfl_xor_sync(mask, a[threadIdx.x], 1); /* bug: wrong_mask */
}

template <bool bug> __global__ void two_words(const float *a, float *b) {
	float v = a[threadIdx.x];
	if (bug && (threadIdx.x & 1) != 0) {
		v = __shfl_xor_sync(ALL_LANES, v, 1); /* bug: two_words */
	} else {
		v = __shfl_xor_sync(ALL_LANES, v, 1);
	}
	b[threadIdx.x] = v;
}

template <bool bug> __global__ void lane_outside(const float *a, float *b) {
	const unsigned half = threadIdx.x & 16 ? 0xffff0000u : 0x0000ffffu;
	b[threadIdx.x] = __shfl_xor_sync(half, a[threadIdx.x], bug ? 16 : 1); /* bug: lane_outside */
}

template <bool bug> __global__ void exited_lanes(const float *a, float *b) {
	b[threadIdx.x] = a[threadIdx.x];
	if (bug && threadIdx.x % 32 >= 16) {
		return;
	}
	b[threadIdx.x] = __shfl_xor_sync(ALL_LANES, a[threadIdx.x], 1); /* bug: exited_lanes */
}

/* ---- wgmma ---- */

/* A tile of b at a multiple of 1024, written by all threads. */
static inline uint32_t *tile_of(uint32_t *room, const float *a) {
	uint32_t *tile = room + (1024 - shared_address(room) % 1024) % 1024 / 4;
	for (unsigned i = threadIdx.x; i < 128 * 32; i += N) {
		tile[i] = bf16x2_of(a[i % N], 1.0f);
	}
	return tile;
}

template <bool bug> __global__ void unfenced_tile(const float *a, float *b) {
	SHARED(uint32_t, room, [128 * 32 + 256]);
	const uint32_t *tile = tile_of(room, a), ones[4] = {0x3f803f80u, 0, 0, 0};
	float d[64] = {};
	if (!bug) {
		async_proxy_fence();
	}
	__syncthreads();
	wgmma_begin();
	wgmma_bf16(d, ones, wgmma_tile(tile)); /* bug: unfenced_tile */
	wgmma_commit();
	wgmma_wait<0>();
	b[threadIdx.x] = d[0];
}

template <bool bug> __global__ void overwritten_tile(const float *a, float *b) {
	SHARED(uint32_t, room, [128 * 32 + 256]);
	uint32_t *tile = tile_of(room, a);
	const uint32_t ones[4] = {0x3f803f80u, 0, 0, 0};
	float d[64] = {};
	async_proxy_fence();
	__syncthreads();
	wgmma_begin();
	wgmma_bf16(d, ones, wgmma_tile(tile));
	wgmma_commit();
	wgmma_wait<bug ? 1 : 0>();
	__syncthreads();
	tile[threadIdx.x] = 0; /* bug: overwritten_tile */
	wgmma_wait<0>();
	b[threadIdx.x] = d[0];
}

template <bool bug> __global__ void left_wgmma(const float *a, float *b) {
	SHARED(uint32_t, room, [128 * 32 + 256]);
	const uint32_t *tile = tile_of(room, a), ones[4] = {0x3f803f80u, 0, 0, 0};
	float d[64] = {};
	async_proxy_fence();
	__syncthreads();
	wgmma_begin();
	wgmma_bf16(d, ones, wgmma_tile(tile)); /* bug: left_wgmma */
	wgmma_commit();
	if (!bug) {
		wgmma_wait<0>();
	}
	b[threadIdx.x] = d[0];
}

template <bool bug> __global__ void unbegun_wgmma(const float *a, float *b) {
	SHARED(uint32_t, room, [128 * 32 + 256]);
	const uint32_t *tile = tile_of(room, a), ones[4] = {0x3f803f80u, 0, 0, 0};
	float d[64] = {};
	async_proxy_fence();
	__syncthreads();
	if (!bug) {
		wgmma_begin();
	}
	wgmma_bf16(d, ones, wgmma_tile(tile)); /* bug: unbegun_wgmma */
	wgmma_commit();
	wgmma_wait<0>();
	b[threadIdx.x] = d[0];
}

template <bool bug> __global__ void crooked_tile(const float *a, float *b) {
	SHARED(uint32_t, room, [128 * 32 + 256]);
	const uint32_t *tile = tile_of(room, a), ones[4] = {0x3f803f80u, 0, 0, 0};
	float d[64] = {};
	async_proxy_fence();
	__syncthreads();
	wgmma_begin();
	wgmma_bf16(d, ones, wgmma_tile(tile + (bug ? 32 : 0))); /* bug: crooked_tile */
	wgmma_commit();
	wgmma_wait<0>();
	b[threadIdx.x] = d[0];
}

/* ---- early launches ---- */

/* The launch before: it reads all of a, and writes the first half of b. */
__global__ void fill_half(const float *a, float *b) {
	const unsigned t = threadIdx.x;
	const float v = a[t];
	if (t < N / 2) {
		b[t] = v;
	}
}

template <bool bug> __global__ void early_read(const float *a, float *b) {
	const unsigned t = threadIdx.x, from = t % (N / 2);
	if (!bug) {
		await_launches();
	}
	const float v = a[t] + b[from]; /* bug: early_read */
	if (bug) {
		await_launches();
	}
	__syncthreads();
	b[t] = v;
}

template <bool bug> __global__ void early_write(const float *a, float *b) {
	const unsigned t = threadIdx.x;
	float *there = const_cast<float *>(a);
	if (!bug) {
		await_launches();
	}
	there[t] = (float)t; /* bug: early_write */
	if (bug) {
		await_launches();
	}
	b[t] = 0.0f;
}

template <bool bug> __global__ void early_copy(const float *a, float *b) {
	SHARED(float, stage, [N]);
	const unsigned t = threadIdx.x;
	if (!bug) {
		await_launches();
	}
	if (t < N / 8) {
		cp_async16(&stage[t * 4], b + t * 4); /* bug: early_copy */
	}
	cp_async_commit();
	cp_async_wait<0>();
	await_launches();
	__syncthreads();
	b[t] = a[t] + stage[t % (N / 2)];
}

/* Some wait, some return: but one of those that return has read before. */
template <bool bug> __global__ void early_return(const float *a, float *b) {
	const unsigned t = threadIdx.x;
	if (t % 2 != 0) {
		if (bug && b[t % (N / 2)] < 0.0f) { /* bug: early_return */
			b[t] = 0.0f;
		}
		return;
	}
	b[N / 2 + t / 2] = a[t]; /* a is only read, and nobody wrote here */
	await_launches();
	b[t / 2] = a[t];
}

template <bool bug> __global__ void moved_read(const float *a, float *b) {
	const unsigned t = threadIdx.x, from = t % (N / 2);
	await_launches();
	const float v = bug ? ld_nc(b + from) : ld_vec(b + from); /* bug: moved_read */
	__syncthreads();
	b[t] = v + a[t];
}

template <bool bug> __global__ void nobody_waits(const float *a, float *b) {
	if (!bug) {
		await_launches();
	}
	if (threadIdx.x < N / 2) {
		b[N / 2 + threadIdx.x] = a[threadIdx.x];
	}
}

/* ---- the suite ---- */

/* The line that carries the mark. */
static int line_of(const char *name) {
	char wanted[80], text[400];
	snprintf(wanted, sizeof(wanted), "/* bug: %s */", name);
	FILE *source = fopen(SOURCE, "r");
	int line = 0, found = 0;
	while (source != nullptr && found == 0 && fgets(text, sizeof(text), source) != nullptr) {
		line++;
		found = strstr(text, wanted) != nullptr && strstr(text, "strstr") == nullptr ? line : 0;
	}
	if (source != nullptr) {
		fclose(source);
	}
	return found;
}

static void prepare(void) {
	float ones[N];
	for (int i = 0; i < N; i++) {
		ones[i] = (float)i;
	}
	cudaDeviceReset();
	simt_forget_findings();
	cudaMalloc(&x, sizeof(ones));
	cudaMalloc(&y, sizeof(ones));
	cudaMemcpy(x, ones, sizeof(ones), cudaMemcpyHostToDevice);
}

using Kernel = void(const float *, float *);

static void play(const char *name, const char *kind, Kernel *broken, Kernel *clean, int n_blocks) {
	for (int order = SIMT_FORWARD; order <= SIMT_RANDOM; order++) {
		const struct simt_options options = {0, (enum simt_order)order, 7, true};
		simt_set(&options);
		prepare();
		LAUNCH(broken, dim3((unsigned)n_blocks), dim3(N / (unsigned)n_blocks), 0, nullptr, x, y);
		struct simt_finding f;
		bool found = false;
		const int line = line_of(name);
		for (int i = 0; simt_get_finding(i, &f); i++) {
			found = found || (strcmp(f.kind, kind) == 0 && f.line == line);
		}
		if (!verify(found, "%s in order %d: no %s at line %d", name, order, kind, line)) {
			for (int i = 0; simt_get_finding(i, &f); i++) {
				printf("  %s at line %d: %s\n", f.kind, f.line, f.text);
			}
		}
		prepare();
		LAUNCH(clean, dim3((unsigned)n_blocks), dim3(N / (unsigned)n_blocks), 0, nullptr, x, y);
		const bool any = simt_get_finding(0, &f);
		verify(!any && cudaGetLastError() == cudaSuccess, "%s without the bug: %s at line %d: %s",
			name, any ? f.kind : "an error", any ? f.line : 0, any ? f.text : "");
	}
}

/* What copies, atomics and matrices move is counted at their lines, not at the emulator's. */
static void test_lines(void) {
	static const struct {
		const char *name;
		Kernel *kernel;
		bool is_shared, is_write;
	} cases[] = {{"copy_past", copy_past<false>, false, false},
		{"copy_past", copy_past<false>, true, true},
		{"atomic_past", atomic_past<false>, false, true},
		{"matrix_past", matrix_past<false>, true, false}};
	for (const auto &one : cases) {
		struct simt_line lines[64];
		bool found = false;
		prepare();
		simt_forget_traffic();
		LAUNCH(one.kernel, dim3(1), dim3(N), 0, nullptr, x, y);
		const int n = simt_get_lines(lines, 64), line = line_of(one.name);
		for (int i = 0; i < n && i < 64; i++) {
			const struct simt_line *l = &lines[i];
			found = found || (l->line == line && l->is_shared == one.is_shared &&
				l->is_write == one.is_write && strstr(l->file, "checker.cu") != NULL);
			verify(strstr(l->file, "words.hpp") == NULL, "%s is counted at %s:%d", one.name,
				l->file, l->line);
		}
		verify(found, "%s: nothing %s is counted at line %d", one.name,
			one.is_write ? "written" : "read", line);
	}
}

/* Each kernel is launched early behind fill_half; then it may do what it likes: behind a copy, a
 * wait of the host, or without being early. */
static void play_early(const char *name, int line, Kernel *kernel, bool has_bug) {
	for (int how = 0; how < 4; how++) {
		struct simt_finding f;
		bool found = false;
		prepare();
		LAUNCH(fill_half, dim3(1), dim3(N), 0, nullptr, x, y);
		if (how == 1) {
			cudaMemcpy(x, x + 1, 4, cudaMemcpyDeviceToDevice);
		} else if (how == 2) {
			cudaStreamSynchronize(nullptr);
		}
		if (how < 3) {
			LAUNCH_EARLY(kernel, dim3(1), dim3(N), 0, nullptr, x, y); /* bug: nobody_waits */
		} else {
			LAUNCH(kernel, dim3(1), dim3(N), 0, nullptr, x, y);
		}
		for (int i = 0; simt_get_finding(i, &f); i++) {
			found = found || (strcmp(f.kind, "early-access") == 0 && f.line == line);
		}
		verify(found == (has_bug && how == 0), "%s %s the bug, case %d: %s at line %d", name,
			has_bug ? "with" : "without", how, found ? "found" : "nothing", line);
		const bool any = simt_get_finding(0, &f);
		verify(has_bug || !any, "%s, case %d: %s at line %d: %s", name, how, any ? f.kind : "",
			any ? f.line : 0, any ? f.text : "");
	}
}

#define PLAY_EARLY(name)                                                                           \
	play_early(#name, line_of(#name), name<true>, true);                                           \
	play_early(#name, line_of(#name), name<false>, false)

#define PLAY(name, kind, n_blocks) play(#name, kind, name<true>, name<false>, n_blocks)

int main(void) {
	verify(simt_checks(), "this is not a checker build");
	PLAY(read_past, "global-bounds", 1);
	PLAY(write_past, "global-bounds", 1);
	PLAY(vector_past, "global-bounds", 1);
	PLAY(shared_past, "shared-bounds", 1);
	PLAY(host_memory, "no-memory", 1);
	PLAY(far_off, "no-memory", 1);
	PLAY(misaligned, "misaligned", 1);
	PLAY(missing_barrier, "shared-race", 1);
	PLAY(missing_syncwarp, "shared-race", 1);
	PLAY(two_blocks, "global-race", 2);
	PLAY(last_block, "global-race", 2);
	PLAY(without_fence, "global-race", 2);
	PLAY(late_write, "global-race", 2);
	PLAY(plain_counter, "shared-race", 1);
	PLAY(unwritten_shared, "shared-uninitialised", 1);
	PLAY(unwritten_global, "global-uninitialised", 1);
	PLAY(missing_wait, "async", 1);
	PLAY(left_copy, "async", 1);
	PLAY(copy_past, "global-bounds", 1);
	PLAY(copy_race, "shared-race", 1);
	PLAY(atomic_past, "global-bounds", 1);
	PLAY(matrix_past, "shared-bounds", 1);
	PLAY(two_barriers, "barrier", 1);
	PLAY(early_exit, "barrier", 1);
	PLAY(skipped_barrier, "deadlock", 1);
	PLAY(wrong_mask, "warp", 1);
	PLAY(two_words, "warp", 1);
	PLAY(lane_outside, "warp", 1);
	PLAY(exited_lanes, "warp", 1);
	PLAY(unfenced_tile, "async", 1);
	PLAY(overwritten_tile, "shared-race", 1);
	PLAY(left_wgmma, "async", 1);
	PLAY(unbegun_wgmma, "wgmma", 1);
	PLAY(crooked_tile, "wgmma", 1);
	for (int order = SIMT_FORWARD; order <= SIMT_RANDOM; order++) {
		const struct simt_options options = {0, (enum simt_order)order, 7, true, false};
		simt_set(&options);
		PLAY_EARLY(early_read);
		PLAY_EARLY(early_write);
		PLAY_EARLY(early_copy);
		PLAY_EARLY(early_return);
		PLAY_EARLY(moved_read);
		PLAY_EARLY(nobody_waits);
	}
	test_lines();
	return close_tests();
}
