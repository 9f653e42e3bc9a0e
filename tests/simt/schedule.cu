/* SPDX-License-Identifier: Apache-2.0
 *
 * The same bits on any number of workers and in any order of threads; faults and deadlocks named in
 * the plain build too; traffic that can be counted by hand (in the checker build); and how many
 * turns a second the scheduler gives. */
#include "device.cuh"
#include "report.h"

#include <time.h>

#include "simt_test.h"

enum { N = 1 << 14, BLOCK = 256 };

static float *x, *y;
static float host[N], first[N], got[N];

/* Sums whose value depends on their order, through shuffles, shared memory and barriers. */
__global__ void __launch_bounds__(BLOCK) sum_kernel(const float *a, float *b, int n_rounds) {
	SHARED(float, part, [BLOCK / WARP]);
	const unsigned t = threadIdx.x, i = blockIdx.x * BLOCK + t;
	float v = a[i];
	for (int r = 0; r < n_rounds; r++) {
		float s = v;
		for (int d = WARP / 2; d > 0; d /= 2) {
			s += __shfl_xor_sync(ALL_LANES, s, d);
		}
		if (t % WARP == 0) {
			part[t / WARP] = s;
		}
		__syncthreads();
		for (int w = 0; w < BLOCK / WARP; w++) {
			s = fmaf(part[w], 0.37f, s);
		}
		v = exp2_approx(-fabsf(s) * 1e-3f) + a[i];
		__syncthreads();
	}
	b[i] = v;
}

static void test_bits(void) {
	for (int run = 0; run < 12; run++) {
		const struct simt_options options = {run % 2 + 1, (enum simt_order)(run / 2 % 3),
			(uint32_t)run, true};
		simt_set(&options);
		cudaMemset(y, 0, sizeof(got));
		LAUNCH(sum_kernel, dim3(N / BLOCK), dim3(BLOCK), 0, nullptr, x, y, 3);
		cudaMemcpy(run == 0 ? first : got, y, sizeof(got), cudaMemcpyDeviceToHost);
		verify(run == 0 ? first[5] > 0.0f : memcmp(first, got, sizeof(got)) == 0,
			"run %d: %d workers, order %d", run, options.n_workers, options.order);
	}
}

/* ---- what ends a launch ---- */

__global__ void stray_kernel(float *b) {
	b[(size_t)threadIdx.x + N] = 1.0f;
}

__global__ void stuck_kernel(float *b) {
	if (threadIdx.x != 3) {
		__syncwarp();
	} else {
		__syncthreads();
	}
	b[threadIdx.x] = 1.0f;
}

__global__ void deep_kernel(float *b, int depth) {
	volatile char room[62 << 10]; /* the first byte is on the guard page below the stack */
	room[0] = (char)depth;
	b[0] = room[0];
}

static void lose(const char *name, cudaError_t want, const char *kind) {
	struct simt_finding f;
	bool found = false;
	for (int i = 0; simt_get_finding(i, &f); i++) {
		found = found || strcmp(f.kind, kind) == 0;
	}
	verify(found, "%s: no %s is found", name, kind);
	verify(cudaGetLastError() == want && cudaDeviceSynchronize() == want, "%s: %s", name,
		cudaGetErrorString(cudaPeekAtLastError()));
	cudaDeviceReset();
	cudaMalloc(&x, sizeof(host));
	cudaMalloc(&y, sizeof(host));
	cudaMemcpy(x, host, sizeof(host), cudaMemcpyHostToDevice);
	simt_forget_findings();
	LAUNCH(sum_kernel, dim3(N / BLOCK), dim3(BLOCK), 0, nullptr, x, y, 3);
	cudaMemcpy(got, y, sizeof(got), cudaMemcpyDeviceToHost);
	verify(memcmp(first, got, sizeof(got)) == 0, "%s: no work after a reset", name);
}

static void test_ends(void) {
	for (int order = SIMT_FORWARD; order <= SIMT_RANDOM; order++) {
		const struct simt_options options = {2, (enum simt_order)order, 1, true};
		simt_set(&options);
		LAUNCH(stray_kernel, dim3(2), dim3(32), 0, nullptr, y);
		lose("a stray write", cudaErrorIllegalAddress, "fault");
		LAUNCH(stuck_kernel, dim3(1), dim3(32), 0, nullptr, y);
		lose("a warp that is stuck", cudaErrorLaunchFailure, "deadlock");
		LAUNCH(deep_kernel, dim3(1), dim3(32), 0, nullptr, y, 1);
		lose("a stack that is too small", cudaErrorIllegalAddress, "fault");
	}
}

/* ---- traffic ---- */

__global__ void stride_kernel(const float *a, float *b, int stride) {
	SHARED(float, tile, [32 * 33]);
	const unsigned t = threadIdx.x;
	tile[t] = a[t * (unsigned)stride]; /* a request of 32 lanes, 4 bytes each */
	__syncthreads();
	const float v = tile[t];
	__syncthreads();
	tile[t * (unsigned)stride] = v;
	__syncthreads();
	st_vec((float4 *)b + t, make_float4(v, v, v, v));
}

static void test_traffic(void) {
	static const struct {
		int stride;
		uint64_t read_sectors, wavefronts;
	} cases[] = {{1, 4, 3}, {2, 8, 4}, {32, 32, 34}, {33, 32, 3}};
	for (const auto &one : cases) {
		struct simt_traffic t;
		simt_forget_traffic();
		LAUNCH(stride_kernel, dim3(1), dim3(32), 0, nullptr, x, y, one.stride);
		simt_get_traffic(&t);
		verify(t.launches == 1 && t.blocks == 1 && t.threads == 32 && t.barriers == 3,
			"stride %d: launches, blocks or barriers", one.stride);
		if (!simt_checks()) {
			continue;
		}
		verify(t.global_read_sectors == one.read_sectors && t.global_written_sectors == 16,
			"stride %d: %d sectors read", one.stride, (int)t.global_read_sectors);
		verify(t.global_bytes == 128 + 512 && t.ideal_sectors == 4 + 16, "stride %d: ideal",
			one.stride);
		verify(t.wavefronts == one.wavefronts && t.ideal_wavefronts == 3,
			"stride %d: %d wavefronts", one.stride, (int)t.wavefronts);
	}
	struct simt_line lines[64];
	const int n = simt_get_lines(lines, 64);
	int n_wide = 0;
	for (int i = 0; i < n && i < 64; i++) {
		n_wide += !lines[i].is_shared && lines[i].is_write && lines[i].bytes_per_lane == 16;
	}
	verify(simt_checks() ? n_wide == 1 : n == 0, "%d lines, %d with wide stores", n, n_wide);
}

/* ---- speed ---- */

static double now(void) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

__global__ void barrier_kernel(int n) {
	for (int i = 0; i < n; i++) {
		__syncthreads();
	}
}

__global__ void shuffle_kernel(float *b, int n) {
	float v = (float)threadIdx.x;
	for (int i = 0; i < n; i++) {
		v = __shfl_xor_sync(ALL_LANES, v, 1);
	}
	b[threadIdx.x + blockIdx.x * blockDim.x] = v;
}

static void measure(int n_workers) {
	const struct simt_options options = {n_workers, SIMT_FORWARD, 1, true};
	struct simt_traffic t;
	simt_set(&options);
	for (int what = 0; what < 2; what++) {
		simt_forget_traffic();
		const double start = now();
		if (what == 0) {
			LAUNCH(barrier_kernel, dim3(8), dim3(256), 0, nullptr, 500);
		} else {
			LAUNCH(shuffle_kernel, dim3(8), dim3(256), 0, nullptr, y, 500);
		}
		const double seconds = now() - start;
		simt_get_traffic(&t);
		printf("%d worker%s: %.1f M switches/s at %s, %.1f ns each\n", n_workers,
			n_workers > 1 ? "s" : "", (double)t.switches / seconds * 1e-6,
			what == 0 ? "barriers" : "shuffles", seconds / (double)t.switches * 1e9);
		verify(t.switches > 100000, "%d switches", (int)t.switches);
	}
}

int main(void) {
	for (int i = 0; i < N; i++) {
		host[i] = (float)((i * 7919) % 1009) * 0.01f;
	}
	cudaMalloc(&x, sizeof(host));
	cudaMalloc(&y, sizeof(host));
	cudaMemcpy(x, host, sizeof(host), cudaMemcpyHostToDevice);
	test_bits();
	verify(simt_n_findings(NULL) == 0, "a clean kernel has findings");
	test_ends();
	test_traffic();
	measure(1);
	measure(2);
	return close_tests();
}
