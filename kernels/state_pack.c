/* SPDX-License-Identifier: Apache-2.0
 *
 * Parts of a fixed state in int8, as checkpoints may be kept: blocks of 32 with a scale each, and
 * back. One variant for all ISA levels: a checkpoint is made once in hundreds of tokens. */
#include "kv_slab.h"

enum { BLOCK = BB_STATE_BLOCK, GRAIN = 256 };

struct job {
	int8_t *q;     /* [n_blocks, BLOCK] */
	float *scales; /* [n_blocks] */
	float *to;
	const float *x;
	size_t n;
};

size_t state_packed_bytes(size_t n) {
	const size_t n_blocks = (n + BLOCK - 1) / BLOCK;
	return (n_blocks * (BLOCK + sizeof(float)) + 63) / 64 * 64;
}

static struct job job_of(const void *packed, size_t n) {
	int8_t *q = (int8_t *)(uintptr_t)packed;
	const size_t n_blocks = (n + BLOCK - 1) / BLOCK;
	return (struct job){ .q = q, .scales = (float *)(void *)(q + n_blocks * BLOCK), .n = n };
}

static int block_elems(const struct job *j, int i_block) {
	const size_t left = j->n - (size_t)i_block * BLOCK;
	return left < BLOCK ? (int)left : BLOCK;
}

static void pack_blocks(const void *job, int begin, int end) {
	const struct job *j = job;
	for (int b = begin; b < end; b++) {
		int8_t *q = j->q + (size_t)b * BLOCK;
		const int n = block_elems(j, b);
		j->scales[b] = kv_quantise(q, j->x + (size_t)b * BLOCK, n);
		for (int i = n; i < BLOCK; i++) {
			q[i] = 0;
		}
	}
}

static void unpack_blocks(const void *job, int begin, int end) {
	const struct job *j = job;
	for (int b = begin; b < end; b++) {
		for (int i = 0; i < block_elems(j, b); i++) {
			j->to[(size_t)b * BLOCK + i] = (float)j->q[(size_t)b * BLOCK + i] * j->scales[b];
		}
	}
}

void state_pack_c(bb_queue *q, void *packed, const float *x, size_t n) {
	struct job job = job_of(packed, n);
	job.x = x;
	queue_run(q, pack_blocks, &job, (int)((n + BLOCK - 1) / BLOCK), GRAIN);
}

void state_unpack_c(bb_queue *q, float *x, const void *packed, size_t n) {
	struct job job = job_of(packed, n);
	job.to = x;
	queue_run(q, unpack_blocks, &job, (int)((n + BLOCK - 1) / BLOCK), GRAIN);
}
