/* SPDX-License-Identifier: Apache-2.0
 *
 * Kernels for the test of the stand-in runtime, and their launchers for C. */
#include "device.cuh"
#include "runtime_kernels.h"

__global__ void add_kernel(int *p, int v) {
	p[threadIdx.x] += v;
}

__global__ void dyn_kernel(int *p) {
	DYN_SHARED(int, all);
	all[threadIdx.x] = 1;
	p[threadIdx.x] = all[threadIdx.x];
}

__global__ void stray_kernel(int *p) {
	p[1 << 12] = 1;
}

void launch_add(int *p, int v, int n, cudaStream_t stream) {
	LAUNCH(add_kernel, dim3(1), dim3((unsigned)n), 0, stream, p, v);
}

void launch_dyn(int *p, size_t smem, cudaStream_t stream) {
	LAUNCH(dyn_kernel, dim3(1), dim3(32), smem, stream, p);
}

cudaError_t allow_dyn(size_t smem) {
	return ALLOW_SMEM(dyn_kernel, smem);
}

void launch_stray(int *p, cudaStream_t stream) {
	LAUNCH(stray_kernel, dim3(1), dim3(1), 0, stream, p);
}
