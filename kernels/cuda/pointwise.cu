/* SPDX-License-Identifier: Apache-2.0
 *
 * What happens to each element by itself: sums, gated activations. The arithmetic of an element
 * doesn't depend on where it lies; only the width of the loads does. */
#include "module.h"

enum { THREADS = 256 };

__global__ void __launch_bounds__(THREADS) add_kernel(float *y, const float *x, size_t n) {
	const size_t i = (size_t)blockIdx.x * THREADS + threadIdx.x;
	if (i < n) {
		y[i] += x[i];
	}
}

extern "C" void add_sm80(bb_queue *q, float *y, const float *x, size_t n) {
	LAUNCH(add_kernel, blocks_for(n, THREADS), THREADS, 0, q->stream, y, x, n);
	queue_launched(q, "add");
}
