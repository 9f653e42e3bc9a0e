/* SPDX-License-Identifier: Apache-2.0
 *
 * Attention over pages of f16, bf16 and int8, on tensor cores. Two loops round one arithmetic
 * (attention.cuh, attention_page.cuh): split by split, or whole, page by page. Which one runs is
 * chosen by the shape of the step, and changes no bit. */
#include "attention_share.cuh"
#include "attention_split.cuh"
#include "attention_whole.cuh"
#include "module.h"

enum { MIN_WHOLE_BLOCKS = 128 }; /* as many as a device is wide, about */

template <enum bb_kv_dtype type>
static void launch_split(const struct attention_job *job, dim3 grid, cudaStream_t stream) {
	const size_t bytes = split_bytes<type, 1>(job);
	ALLOW_SMEM((attention_split<type>), bytes);
	LAUNCH_EARLY((attention_split<type>), grid, THREADS, bytes, stream, *job);
}

template <enum bb_kv_dtype type>
static void launch_share(const struct attention_job *job, dim3 grid, cudaStream_t stream) {
	const size_t bytes = split_bytes<type, SHARE_TILES>(job);
	ALLOW_SMEM((attention_share<type>), bytes);
	LAUNCH_EARLY((attention_share<type>), grid, THREADS, bytes, stream, *job);
}

/* Whether a block may have so much memory. */
static bool has_room(size_t bytes) {
	int device = 0, most = 0;
	return cudaGetDevice(&device) == cudaSuccess
		&& cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, device)
			== cudaSuccess
		&& bytes <= (size_t)most;
}

template <enum bb_kv_dtype type, int n, int n_tiles>
static void launch_whole(bb_queue *q, const struct attention_job *job) {
	const int rows = whole_shape<type, n, n_tiles>::ROWS;
	const size_t bytes = whole_bytes<type, n, n_tiles>(job);
	const dim3 grid((unsigned)(job->a.n_rows * job->heads_per_kv / rows + job->a.n_seqs),
		(unsigned)job->a.n_kv_heads);
	ALLOW_SMEM((attention_whole<type, n, n_tiles>), bytes);
	LAUNCH((attention_whole<type, n, n_tiles>), grid, THREADS, bytes, q->stream, *job);
	queue_launched(q, "attention_whole");
}

/* Two tiles a warp are less work; but two blocks on each processor, of half the rows if need be,
 * hide each other's waits. */
template <enum bb_kv_dtype type, int n>
static void launch_whole(bb_queue *q, const struct attention_job *job) {
	const int rows = whole_shape<type, n, 2>::ROWS;
	const int n_blocks = job->a.n_rows * job->heads_per_kv / rows * job->a.n_kv_heads;
	if (n_blocks < 2 * queue_processors(q)) {
		launch_whole<type, n, 1>(q, job);
	} else {
		launch_whole<type, n, 2>(q, job);
	}
}

/* Whether the rows are enough to fill the blocks of the whole way, and these the device. */
static bool is_whole(const struct attention_job *job, int rows) {
	const int n_rows = job->a.n_rows * job->heads_per_kv;
	const int n_blocks = (n_rows + rows - 1) / rows * job->a.n_kv_heads;
	return n_rows >= rows / 2 * job->a.n_seqs &&
		(n_blocks >= MIN_WHOLE_BLOCKS || job->n_splits <= 2);
}

template <enum bb_kv_dtype type> static void run(bb_queue *q, const struct bb_attention *a) {
	struct attention_job job;
	attention_prepare(&job, a, type);
	const bool is_wide = job.width > 2 * GROUP;
	const size_t arrays = 8 * 1024; /* of attention_whole, beside its dynamic memory */
	if (!is_whole(&job, is_wide ? 2 * TILE : 4 * TILE)
		|| (is_wide && !has_room(whole_bytes<type, 4, 1>(&job) + arrays))) {
		attention_rounds(q, &job, launch_split<type>, has_room(split_bytes<type, SHARE_TILES>(&job))
			? launch_share<type> : NULL, "attention_split");
		return;
	}
	job.parts = (float *)a->scratch;
	if (job.width <= GROUP) {
		launch_whole<type, 1>(q, &job);
	} else if (job.width <= 2 * GROUP) {
		launch_whole<type, 2>(q, &job);
	} else {
		launch_whole<type, 4, 1>(q, &job);
	}
	attention_prepare_rows(q, a);
}

void attention_f16_sm80(bb_queue *q, const struct bb_attention *a) {
	run<KV_F16>(q, a);
}

void attention_bf16_sm80(bb_queue *q, const struct bb_attention *a) {
	run<KV_BF16>(q, a);
}

void attention_int8_sm80(bb_queue *q, const struct bb_attention *a) {
	run<KV_INT8>(q, a);
}
