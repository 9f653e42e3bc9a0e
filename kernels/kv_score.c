/* SPDX-License-Identifier: Apache-2.0
 *
 * What says of K and V in pages how much they matter, without attention, the references: bounds of
 * pages, what a page can give a query, norms of tokens. Ranking and keeping are the engine's. */
#include "kv_slab.h"

#include <assert.h>
#include <math.h>

size_t kv_bounds_bytes(int head_dim) {
	return 2 * (size_t)kv_vd(head_dim) * sizeof(float);
}

/* Scores that can be ordered. */
static float ordered(double score) {
	return isnan(score) ? INFINITY : (float)score;
}

/* One kv head of one sequence. */
struct head_run {
	const struct bb_kv_run *run;
	int h, i_seq;
	size_t slab_offset;
	int first_page, n_pages; /* those with tokens of the run end before n_pages */
};

static struct head_run head_run_of(const struct bb_kv_runs *a, int unit) {
	const int h = unit % a->n_kv_heads, i_seq = unit / a->n_kv_heads;
	const struct bb_kv_run *run = &a->runs[i_seq * a->n_groups + a->kv_heads[h].i_group];
	const int first = run->kept.n_before / BB_PAGE;
	return (struct head_run){ run, h, i_seq, a->kv_heads[h].slab_offset, first,
		run->n_tokens > 0 ? (run->kept.n_before + run->n_tokens - 1) / BB_PAGE + 1 : first };
}

struct job {
	const struct bb_kv_runs *a;
	const size_t *bounds;        /* [n_kv_heads] */
	const struct bb_kv_query *s;
	float *k_norms, *v_norms;    /* [n_kv_heads, ld] or NULL */
	int ld;
};

/* bounds: f32 [2][kv_vd(head_dim)] */
static void bound_page(float *bounds, const struct bb_kv_runs *a, const uint8_t *slab,
	int n_slots) {
	const int width = kv_vd(a->head_dim);
	float k[BB_MAX_HEAD_DIM], *least = bounds, *largest = bounds + width;
	for (int d = 0; d < width; d++) {
		least[d] = d < a->head_dim ? INFINITY : 0;
		largest[d] = d < a->head_dim ? -INFINITY : 0;
	}
	for (int slot = 0; slot < n_slots; slot++) {
		a->layout->read(slab, a->type, a->head_dim, a->kv_group, slot, k, NULL);
		for (int d = 0; d < a->head_dim; d++) {
			const float x = k[d] + 0.0f; /* -0 to +0 */
			if (isnan(x)) {
				least[d] = largest[d] = NAN;
			}
			least[d] = x < least[d] ? x : least[d];
			largest[d] = x > largest[d] ? x : largest[d];
		}
	}
}

static void bound_heads(const void *arg, int begin, int end) {
	const struct job *job = arg;
	for (int unit = begin; unit < end; unit++) {
		const struct head_run r = head_run_of(job->a, unit);
		const int n_tokens = r.run->kept.n_before + r.run->n_tokens;
		for (int i = r.first_page; i < r.n_pages; i++) {
			uint8_t *page = kept_page(&r.run->kept, i);
			const int rest = n_tokens - i * BB_PAGE;
			bound_page((float *)(void *)(page + job->bounds[r.h]), job->a, page + r.slab_offset,
				rest < BB_PAGE ? rest : BB_PAGE);
		}
	}
}

void kv_bounds_c(bb_queue *q, const struct bb_kv_runs *a, const size_t *bounds) {
	const struct job job = { .a = a, .bounds = bounds };
	assert(a->head_dim <= BB_MAX_HEAD_DIM);
	queue_run(q, bound_heads, &job, a->n_seqs * a->n_kv_heads, 1);
}

static float score_page(const float *query, const float *bounds, int head_dim) {
	const float *least = bounds, *largest = bounds + kv_vd(head_dim);
	double sum = 0;
	for (int d = 0; d < head_dim; d++) {
		const double a = (double)query[d] * least[d], b = (double)query[d] * largest[d];
		sum += a > b || a != a ? a : b;
	}
	return ordered(sum);
}

static void score_heads(const void *arg, int begin, int end) {
	const struct job *job = arg;
	const struct bb_kv_query *s = job->s;
	const int head_dim = job->a->head_dim, per_kv = s->n_heads / job->a->n_kv_heads;
	for (int unit = begin; unit < end; unit++) {
		const struct head_run r = head_run_of(job->a, unit);
		const int row = s->rows != NULL ? s->rows[r.i_seq] : r.i_seq;
		const float *query = s->queries + (size_t)row * s->ld_q + (size_t)r.h * per_kv * head_dim;
		for (int i = r.first_page; i < r.n_pages; i++) {
			const uint8_t *page = kept_page(&r.run->kept, i);
			float most = -INFINITY;
			for (int j = 0; j < per_kv; j++) {
				most = fmaxf(most, score_page(query + (size_t)j * head_dim,
					(const float *)(const void *)(page + job->bounds[r.h]), head_dim));
			}
			s->scores[(size_t)unit * s->ld_scores + i] = most;
		}
	}
}

void kv_score_c(bb_queue *q, const struct bb_kv_query *s, const struct bb_kv_runs *a,
	const size_t *bounds) {
	const struct job job = { .a = a, .bounds = bounds, .s = s };
	assert(s->n_heads % a->n_kv_heads == 0);
	queue_run(q, score_heads, &job, a->n_seqs * a->n_kv_heads, 1);
}

static float norm(const float *x, int n) {
	double sum = 0;
	for (int i = 0; i < n; i++) {
		sum += (double)x[i] * x[i];
	}
	return ordered(sqrt(sum));
}

static void norm_heads(const void *arg, int begin, int end) {
	const struct job *job = arg;
	const struct bb_kv_runs *a = job->a;
	float x[BB_MAX_HEAD_DIM];
	for (int unit = begin; unit < end; unit++) {
		const struct head_run r = head_run_of(a, unit);
		for (int i = 0; i < r.run->n_tokens; i++) {
			const int token = r.run->kept.n_before + i, slot = token % BB_PAGE;
			const uint8_t *slab = (const uint8_t *)kept_page(&r.run->kept, token / BB_PAGE)
				+ r.slab_offset;
			const size_t at = (size_t)r.h * job->ld + (size_t)(r.run->row0 + i);
			if (job->k_norms != NULL) {
				a->layout->read(slab, a->type, a->head_dim, a->kv_group, slot, x, NULL);
				job->k_norms[at] = norm(x, a->head_dim);
			}
			if (job->v_norms != NULL) {
				a->layout->read(slab, a->type, a->head_dim, a->kv_group, slot, NULL, x);
				job->v_norms[at] = norm(x, a->head_dim);
			}
		}
	}
}

void kv_norms_c(bb_queue *q, float *k_norms, float *v_norms, int ld, const struct bb_kv_runs *a) {
	const struct job job = { .a = a, .k_norms = k_norms, .v_norms = v_norms, .ld = ld };
	assert(a->head_dim <= BB_MAX_HEAD_DIM);
	queue_run(q, norm_heads, &job, a->n_seqs * a->n_kv_heads, 1);
}
