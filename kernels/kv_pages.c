/* SPDX-License-Identifier: Apache-2.0
 *
 * What is done to pages when a context is forked or compressed, the references: copying, rewriting
 * as another KV type, gathering what is kept, turning K to new positions. Which tokens are kept is
 * the engine's matter. Places in a slab are the layout's; what has to keep its bits goes through
 * layout->copy, the rest through read and append. */
#include "kernels.h"

#include <assert.h>
#include <string.h>

struct copy_job {
	void *const *to, *const *from; /* [n] addresses */
	size_t bytes;
};

static void copy_some(const void *arg, int begin, int end) {
	const struct copy_job *job = arg;
	for (int i = begin; i < end; i++) {
		memcpy(job->to[i], job->from[i], job->bytes);
	}
}

void kv_copy_c(bb_queue *q, void *const *to, void *const *from, int n, size_t bytes) {
	const struct copy_job job = { to, from, bytes };
	assert(bytes % 16 == 0);
	queue_run(q, copy_some, &job, n, 1);
}

static void quantise_slabs(const void *arg, int begin, int end) {
	const struct bb_kv_quantise *a = arg;
	float k[BB_MAX_HEAD_DIM], v[BB_MAX_HEAD_DIM];
	for (int i = begin; i < end; i++) {
		const struct bb_kv_slab *slab = &a->slabs[i];
		for (int slot = 0; slot < slab->n_tokens; slot++) {
			a->from_layout->read(slab->from, a->from, a->head_dim, 0, slot, k, v);
			a->to_layout->append(slab->to, a->to, a->head_dim, a->kv_group, slot, k, v);
		}
	}
}

void kv_quantise_c(bb_queue *q, const struct bb_kv_quantise *a) {
	assert(a->head_dim <= BB_MAX_HEAD_DIM && a->from != KV_INT8);
	queue_run(q, quantise_slabs, a, a->n_slabs, 1);
}

/* ---- runs, a kv head of a sequence at a time ---- */

static uint8_t *slab_of(void *const *const *chunks, int token, size_t offset) {
	const int i_page = token / BB_PAGE;
	return (uint8_t *)chunks[i_page / BB_CHUNK][i_page % BB_CHUNK] + offset;
}

struct compact_job {
	const struct bb_kv_runs *to;
	const struct bb_kv_source *from; /* [n_seqs, n_groups] */
	const size_t *from_offsets;      /* [n_kv_heads] */
};

static void compact_heads(const void *arg, int begin, int end) {
	const struct compact_job *job = arg;
	const struct bb_kv_runs *a = job->to;
	for (int unit = begin; unit < end; unit++) {
		const int h = unit % a->n_kv_heads;
		const int i_run = unit / a->n_kv_heads * a->n_groups + a->kv_heads[h].i_group;
		const struct bb_kv_run *run = &a->runs[i_run];
		const struct bb_kv_source *from = &job->from[i_run];
		for (int i = 0; i < run->n_tokens; i++) {
			const int old = from->tokens != NULL ? from->tokens[i] : i;
			const int new = run->kept.n_before + i;
			a->layout->copy(slab_of(run->kept.chunks, new, a->kv_heads[h].slab_offset),
				new % BB_PAGE, slab_of(from->chunks, old, job->from_offsets[h]), old % BB_PAGE,
				a->type, a->head_dim, a->kv_group);
		}
	}
}

void kv_compact_c(bb_queue *q, const struct bb_kv_runs *to, const struct bb_kv_source *from,
	const size_t *from_offsets) {
	const struct compact_job job = { to, from, from_offsets };
	queue_run(q, compact_heads, &job, to->n_seqs * to->n_kv_heads, 1);
}

struct rerotate_job {
	const struct bb_kv_runs *a;
	const float *cs; /* [rows, n_pairs, 2] */
	int n_pairs;
};

static void rerotate_heads(const void *arg, int begin, int end) {
	const struct rerotate_job *job = arg;
	const struct bb_kv_runs *a = job->a;
	float k[BB_MAX_HEAD_DIM];
	for (int unit = begin; unit < end; unit++) {
		const struct bb_kv_head *head = &a->kv_heads[unit % a->n_kv_heads];
		const struct bb_kv_run *run = &a->runs[unit / a->n_kv_heads * a->n_groups + head->i_group];
		for (int i = 0; i < run->n_tokens; i++) {
			const int token = run->kept.n_before + i, slot = token % BB_PAGE;
			uint8_t *slab = slab_of(run->kept.chunks, token, head->slab_offset);
			a->layout->read(slab, a->type, a->head_dim, a->kv_group, slot, k, NULL);
			rope_c(NULL, k, a->head_dim, job->cs + (size_t)(run->row0 + i) * job->n_pairs * 2, 1, 1,
				a->head_dim, job->n_pairs);
			a->layout->append(slab, a->type, a->head_dim, a->kv_group, slot, k, NULL);
		}
	}
}

void kv_rerotate_c(bb_queue *q, const struct bb_kv_runs *a, const float *cs, int n_pairs) {
	const struct rerotate_job job = { a, cs, n_pairs };
	assert(a->head_dim <= BB_MAX_HEAD_DIM && 2 * n_pairs <= a->head_dim);
	queue_run(q, rerotate_heads, &job, a->n_seqs * a->n_kv_heads, 1);
}
