/* SPDX-License-Identifier: Apache-2.0
 *
 * Attention over paged KV, the references: one row and head at a time, sums in double. The walk
 * over splits and pages that the fast variants share is in attention_walk.c.
 *
 * What int8 rounds, here as in the fast variants: q to int8 per scale group of K, sq = max|q| /
 * 127; score = scale * sum over groups of sq * sk[t] * (integer dot product). For V, per page: w[t]
 * = p[t] * sv[t], u[t] = w[t] * (255 / largest visible w) rounded to nearest even, and the page
 * adds (largest w / 255) * sum of u[t] * v[t]. */
#include "kv_slab.h"

#include <assert.h>
#include <math.h>
#include <string.h>

enum { GRAIN = 4 };

struct job {
	const struct bb_attention *a;
	enum bb_kv_dtype type;
};

/* One query and the tokens [begin, end) it sees. */
struct query {
	const struct job *job;
	const struct bb_kept *kept;
	size_t slab; /* offset of the head's slab in a page */
	const float *q;
	int begin, end;
	int8_t q8[BB_MAX_HEAD_DIM];
	float q8_scale[BB_MAX_HEAD_DIM]; /* per group */
};

struct partial {
	double m, l, o[BB_MAX_HEAD_DIM];
};

static double capped(const struct bb_attention *a, double score) {
	return a->softcap > 0 ? a->softcap * tanh(score / a->softcap) : score;
}

static double score_float(const struct query *q, const uint8_t *slab, int slot) {
	const struct bb_attention *a = q->job->a;
	float k[BB_MAX_HEAD_DIM], v[BB_MAX_HEAD_DIM];
	layout_kv_rows.read(slab, q->job->type, a->head_dim, a->kv_group, slot, k, v);
	double sum = 0;
	for (int d = 0; d < a->head_dim; d++) {
		sum += (double)q->q[d] * k[d];
	}
	return capped(a, sum * a->scale);
}

static void add_values_float(struct partial *part, const struct query *q, const uint8_t *slab,
	int first, int end, const double *p) {
	const struct bb_attention *a = q->job->a;
	float k[BB_MAX_HEAD_DIM], v[BB_MAX_HEAD_DIM];
	for (int slot = first; slot < end; slot++) {
		layout_kv_rows.read(slab, q->job->type, a->head_dim, a->kv_group, slot, k, v);
		for (int d = 0; d < a->head_dim; d++) {
			part->o[d] += p[slot] * v[d];
		}
	}
}

static double score_int8(const struct query *q, const uint8_t *slab, int slot) {
	const struct bb_attention *a = q->job->a;
	const int n_groups = kv_n_groups(a->head_dim, a->kv_group);
	const int width = kv_group_width(a->head_dim, a->kv_group);
	const struct kv_plane plane = kv_plane_of(KV_INT8, a->head_dim, n_groups);
	const int8_t *k = (const int8_t *)slab + (size_t)slot * a->head_dim;
	const float *scales = (const float *)(const void *)(slab + plane.scales);
	double sum = 0;
	for (int g = 0; g < n_groups; g++) {
		int dot = 0;
		for (int d = g * width; d < (g + 1) * width && d < a->head_dim; d++) {
			dot += q->q8[d] * k[d];
		}
		sum += (double)q->q8_scale[g] * scales[slot * n_groups + g] * dot;
	}
	return capped(a, sum * a->scale);
}

static void add_values_int8(struct partial *part, const struct query *q, const uint8_t *slab,
	int first, int end, const double *p) {
	const struct bb_attention *a = q->job->a;
	const size_t k_bytes = kv_plane_of(KV_INT8, a->head_dim,
		kv_n_groups(a->head_dim, a->kv_group)).bytes;
	const struct kv_plane plane = kv_plane_of(KV_INT8, a->head_dim, 1);
	const int8_t *v = (const int8_t *)slab + k_bytes;
	const float *scales = (const float *)(const void *)(slab + k_bytes + plane.scales);
	double w[BB_PAGE], largest = 0;
	for (int t = first; t < end; t++) {
		w[t] = p[t] * scales[t];
		largest = w[t] <= largest ? largest : w[t]; /* keeps a NaN */
	}
	for (int t = first; t < end && largest != 0; t++) {
		const double u = nearbyint(w[t] * (255 / largest)) * (largest / 255);
		for (int d = 0; d < a->head_dim; d++) {
			part->o[d] += u * v[(size_t)t * a->head_dim + d];
		}
	}
}

/* The split whose first token is `token`. */
static void run_split(struct partial *part, const struct query *q, int token) {
	const bool is_int8 = q->job->type == KV_INT8;
	const int begin = q->begin > token ? q->begin - token : 0;
	const int end = q->end - token < BB_SPLIT ? q->end - token : BB_SPLIT;
	double p[BB_SPLIT];
	memset(part, 0, sizeof(*part));
	part->m = -INFINITY;
	for (int t = begin; t < end; t++) {
		const uint8_t *slab = (const uint8_t *)kept_page(q->kept, (token + t) / BB_PAGE) + q->slab;
		p[t] = is_int8 ? score_int8(q, slab, t % BB_PAGE) : score_float(q, slab, t % BB_PAGE);
		part->m = p[t] <= part->m ? part->m : p[t];
	}
	for (int t = begin; t < end; t++) {
		p[t] = exp(p[t] - part->m);
		part->l += p[t];
	}
	for (int page = begin / BB_PAGE; page * BB_PAGE < end; page++) {
		const uint8_t *slab = (const uint8_t *)kept_page(q->kept, token / BB_PAGE + page) + q->slab;
		const int first = begin > page * BB_PAGE ? begin - page * BB_PAGE : 0;
		const int last = end - page * BB_PAGE < BB_PAGE ? end - page * BB_PAGE : BB_PAGE;
		(is_int8 ? add_values_int8 : add_values_float)(part, q, slab, first, last,
			p + (size_t)page * BB_PAGE);
	}
}

static void run_query(float *out, const struct query *q, int head, int head_dim) {
	const float *sinks = q->job->a->sinks;
	struct partial all = { -INFINITY, 0, { 0 } }, part;
	for (int token = q->begin / BB_SPLIT * BB_SPLIT; token < q->end; token += BB_SPLIT) {
		run_split(&part, q, token);
		const double m = part.m <= all.m ? all.m : part.m;
		const double old = exp(all.m - m), add = exp(part.m - m);
		all.m = m;
		all.l = all.l * old + part.l * add;
		for (int d = 0; d < head_dim; d++) {
			all.o[d] = all.o[d] * old + part.o[d] * add;
		}
	}
	const double m = sinks != NULL && sinks[head] > all.m ? sinks[head] : all.m;
	const double old = exp(all.m - m), sink = sinks != NULL ? exp(sinks[head] - m) : 0;
	for (int d = 0; d < head_dim; d++) {
		out[d] = (float)(all.o[d] * old / (all.l * old + sink));
	}
}

static void run_units(const void *arg, int begin, int end) {
	const struct job *job = arg;
	const struct bb_attention *a = job->a;
	const struct bb_attention_seq *seq = a->seqs;
	struct query q = { .job = job };
	int first = 0; /* row of the step that is this sequence's row 0, in the order of seqs */
	for (int unit = begin; unit < end; unit++) {
		const int i = unit / a->n_heads, head = unit % a->n_heads;
		while (i - first >= seq->n_rows) {
			first += seq->n_rows;
			seq++;
		}
		const size_t row = (size_t)seq->row0 + (size_t)(i - first);
		const struct bb_kv_head *kv_head = &a->kv_heads[head / (a->n_heads / a->n_kv_heads)];
		q.kept = &seq->groups[kv_head->i_group];
		q.slab = kv_head->slab_offset;
		q.q = a->queries + row * (size_t)a->ld_q + (size_t)head * a->head_dim;
		q.end = q.kept->n_before + i - first + 1;
		q.begin = a->window > 0 && a->window < q.end ? q.end - a->window : 0;
		const int width = kv_group_width(a->head_dim, a->kv_group);
		for (int d = 0; job->type == KV_INT8 && d < a->head_dim; d += width) {
			const int rest = a->head_dim - d;
			q.q8_scale[d / width] = kv_quantise(q.q8 + d, q.q + d, rest < width ? rest : width);
		}
		run_query(a->out + row * (size_t)a->ld_out + (size_t)head * a->head_dim, &q, head,
			a->head_dim);
	}
}

static void run(bb_queue *queue, const struct bb_attention *a, enum bb_kv_dtype type) {
	const struct job job = { a, type };
	int n_rows = 0;
	for (int i = 0; i < a->n_seqs; i++) {
		n_rows += a->seqs[i].n_rows;
	}
	assert(a->head_dim <= BB_MAX_HEAD_DIM && a->n_heads % a->n_kv_heads == 0);
	queue_run(queue, run_units, &job, n_rows * a->n_heads, GRAIN);
}

void attention_f32_c(bb_queue *q, const struct bb_attention *a) {
	run(q, a, KV_F32);
}

void attention_f16_c(bb_queue *q, const struct bb_attention *a) {
	run(q, a, KV_F16);
}

void attention_bf16_c(bb_queue *q, const struct bb_attention *a) {
	run(q, a, KV_BF16);
}

void attention_int8_c(bb_queue *q, const struct bb_attention *a) {
	run(q, a, KV_INT8);
}
