/* SPDX-License-Identifier: Apache-2.0
 *
 * Faults made on purpose: kernels that go wrong, states that are changed, files that are. */
#include "fault_hooks.h"

#include "gguf.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Kernels get no argument of ours, so what goes wrong stands here. */
static struct {
	struct fault fault;
	struct bb_kernels real;
	attention_fn *attention;
	enum bb_kv_dtype type;
	const struct bb_kv_layout *layout;
} now;

/* ---- attention ---- */

struct stored {
	float k[BB_MAX_HEAD_DIM], v[BB_MAX_HEAD_DIM];
};

static void read_token(struct stored *s, const struct bb_attention *a, const struct bb_kept *kept,
	size_t slab_offset, int t) {
	const uint8_t *slab = (const uint8_t *)kept_page(kept, t / BB_PAGE) + slab_offset;
	now.layout->read(slab, now.type, a->head_dim, a->kv_group, t % BB_PAGE, s->k, s->v);
}

/* How often row n of sequence i sees token t. */
static int times_seen(int i, int n, int t) {
	const struct fault *f = &now.fault;
	const bool is_victim = i == 0 && n >= f->at;
	switch (f->kind) {
	case FAULT_NEWEST_LOST:
		return !(is_victim && t == f->at - 1);
	case FAULT_OLDEST_LOST:
		return !(is_victim && t < n / 2);
	case FAULT_LAST_TWICE:
		return is_victim && t == f->at - 1 ? 2 : 1;
	default:
		return 1;
	}
}

/* One row and head, by the formula above struct bb_attention. */
static void attend_row(const struct bb_attention *a, int i, int row, int head) {
	const struct bb_attention_seq *seq = &a->seqs[i];
	const struct bb_kv_head *where = &a->kv_heads[head / (a->n_heads / a->n_kv_heads)];
	const struct bb_kept *kept = &seq->groups[where->i_group];
	const int n = kept->n_before + row;
	const bool looks_ahead = now.fault.kind == FAULT_SEES_NEXT && row + 1 < seq->n_rows;
	const bool has_more = now.fault.kind == FAULT_SLOT_TOO_MANY && i == 0 && n >= now.fault.at;
	const int begin = a->window > 0 && n + 1 > a->window ? n + 1 - a->window : 0;
	const int end = n + 1 + looks_ahead + has_more;
	const float *q = a->queries + (size_t)(seq->row0 + row) * (size_t)a->ld_q + head * a->head_dim;
	float *out = a->out + (size_t)(seq->row0 + row) * (size_t)a->ld_out + head * a->head_dim;
	double most = -INFINITY, all = 0, sum[BB_MAX_HEAD_DIM] = { 0 };
	double *scores = malloc((size_t)(end - begin) * sizeof(*scores));
	struct stored s;
	for (int t = begin; t < end; t++) {
		double score = 0;
		if (t <= n + looks_ahead) {
			read_token(&s, a, kept, where->slab_offset, t);
			for (int c = 0; c < a->head_dim; c++) {
				score += (double)q[c] * (double)s.k[c];
			}
		}
		scores[t - begin] = score * (double)a->scale;
		most = times_seen(i, n, t) > 0 && scores[t - begin] > most ? scores[t - begin] : most;
	}
	for (int t = begin; t < end; t++) {
		/* in f32 e^-104 is 0, as kernels have it */
		const double p = times_seen(i, n, t) * (double)expf((float)(scores[t - begin] - most));
		all += p;
		if (p > 0 && t <= n + looks_ahead) {
			const bool is_others = now.fault.kind == FAULT_OTHERS_VALUE && i == 0 &&
				n >= now.fault.at && t == now.fault.at - 1;
			const struct bb_kept *of = is_others ? &a->seqs[1].groups[where->i_group] : kept;
			read_token(&s, a, of, where->slab_offset, t);
			for (int c = 0; c < a->head_dim; c++) {
				sum[c] += p * (double)s.v[c];
			}
		}
	}
	for (int c = 0; c < a->head_dim; c++) {
		out[c] = (float)(sum[c] / all);
	}
	free(scores);
}

static void attend_own(const struct bb_attention *a) {
	for (int i = 0; i < a->n_seqs; i++) {
		for (int row = 0; row < a->seqs[i].n_rows; row++) {
			for (int head = 0; head < a->n_heads; head++) {
				attend_row(a, i, row, head);
			}
		}
	}
}

/* The real kernel, with another page table for sequence 0. */
static void attend_pages(bb_queue *q, const struct bb_attention *a) {
	void *pages[BB_CHUNK];
	void *const *chunks[1] = { pages };
	struct bb_attention b = *a;
	struct bb_attention_seq *seqs = malloc((size_t)a->n_seqs * sizeof(*seqs));
	struct bb_kept kept = a->seqs[0].groups[0];
	const int page = (now.fault.at - 1) / BB_PAGE;
	assert(kept.n_before + a->seqs[0].n_rows <= BB_CHUNK * BB_PAGE);
	memcpy(pages, kept.chunks[0], sizeof(pages));
	if (now.fault.kind == FAULT_PAGE_TWICE) {
		pages[1] = kept.n_before >= BB_PAGE ? pages[0] : pages[1];
	} else if (kept.n_before >= now.fault.at && a->n_seqs > 1) {
		pages[page] = kept_page(&a->seqs[1].groups[0], page);
	}
	memcpy(seqs, a->seqs, (size_t)a->n_seqs * sizeof(*seqs));
	kept.chunks = chunks;
	seqs[0].groups = &kept;
	b.seqs = seqs;
	now.attention(q, &b);
	free(seqs);
}

static void attend(bb_queue *q, const struct bb_attention *a) {
	struct bb_attention b = *a;
	switch (now.fault.kind) {
	case FAULT_OTHERS_PAGE:
	case FAULT_PAGE_TWICE:
		attend_pages(q, a);
		return;
	case FAULT_WINDOW:
		b.window = (int)now.fault.amount;
		now.attention(q, &b);
		return;
	case FAULT_SCALE:
		b.scale *= (float)now.fault.amount;
		now.attention(q, &b);
		return;
	default:
		attend_own(a);
	}
}

/* ---- rotary embedding ---- */

static float to_bf16(double x) {
	return bf16_to_f32(f32_to_bf16((float)x));
}

static void turn_table(bb_queue *q, float *cs, const int32_t *pos, const double *inv_freq,
	int n_rows, int n_pairs, float scale) {
	const struct fault *f = &now.fault;
	int32_t *p = calloc((size_t)n_rows, sizeof(*p));
	double *w = calloc((size_t)n_pairs, sizeof(*w));
	for (int r = 0; r < n_rows; r++) {
		const bool is_victim = r == 0 && pos[r] >= f->at;
		p[r] = !is_victim ? pos[r] : f->kind == FAULT_POSITION_RESET ? pos[r] - f->at
			: f->kind == FAULT_POSITION_MOVED ? pos[r] + (int)f->amount : pos[r];
	}
	for (int i = 0; i < n_pairs; i++) {
		w[i] = f->kind == FAULT_FREQ_BASE ? inv_freq[i] * pow(f->amount / 1e4, -1.0 * i / n_pairs)
			: f->kind == FAULT_FREQ_SCALE ? inv_freq[i] * f->amount : inv_freq[i];
	}
	now.real.rope_table(q, cs, p, w, n_rows, n_pairs, scale);
	for (int r = 0; f->kind == FAULT_ANGLES_BF16 && r < n_rows; r++) {
		for (int i = 0; i < n_pairs; i++) {
			const double angle = (double)to_bf16((double)to_bf16(p[r]) * (double)to_bf16(w[i]));
			cs[2 * (r * n_pairs + i)] = (float)cos(angle);
			cs[2 * (r * n_pairs + i) + 1] = (float)sin(angle);
		}
	}
	free(p);
	free(w);
}

static void turn_nothing(bb_queue *q, float *x, int ld, const float *cs, int n_rows, int n_heads,
	int head_dim, int n_pairs) {
}

static void turn_neighbours(bb_queue *q, float *x, int ld, const float *cs, int n_rows, int n_heads,
	int head_dim, int n_pairs) {
	for (int i = 0; i < n_rows * n_heads * n_pairs; i++) {
		const int pair = i % n_pairs, head = i / n_pairs % n_heads, row = i / n_pairs / n_heads;
		float *at = x + (size_t)row * (size_t)ld + head * head_dim + 2 * pair;
		const float c = cs[2 * (row * n_pairs + pair)], s = cs[2 * (row * n_pairs + pair) + 1];
		const float a = at[0], b = at[1];
		at[0] = a * c - b * s;
		at[1] = a * s + b * c;
	}
}

void fault_install(struct bb_engine *e, const struct fault *f) {
	now.fault = *f;
	now.real = e->kernels;
	now.type = e->kv_type;
	now.attention = kernels_attention(&e->kernels, e->kv_type, &now.layout);
	if (f->kind >= FAULT_OWN_LOOP && f->kind <= FAULT_SCALE) {
		attention_fn **const of[] = { [KV_F32] = &e->kernels.attention_f32,
			[KV_F16] = &e->kernels.attention_f16, [KV_BF16] = &e->kernels.attention_bf16,
			[KV_INT8] = &e->kernels.attention_int8 };
		*of[e->kv_type] = attend;
	} else if (f->kind == FAULT_NO_ROPE) {
		e->kernels.rope = turn_nothing;
	} else if (f->kind == FAULT_PAIRS) {
		e->kernels.rope = turn_neighbours;
	} else if (f->kind >= FAULT_POSITION_RESET && f->kind <= FAULT_FREQ_SCALE) {
		e->kernels.rope_table = turn_table;
	}
}

/* ---- states ---- */

static bool is_meant(const struct fault *f, const struct plan_op *o, int i_layer) {
	switch (f->kind) {
	case FAULT_STATE_LOST:
	case FAULT_STATE_OTHERS:
		return i_layer == (int)f->amount;
	case FAULT_CONV_LOST:
		return o->kind == OP_CONV || o->kind == OP_CONV_SILU;
	case FAULT_SHIFT_LOST:
		return o->kind == OP_SHIFT;
	default:
		return true;
	}
}

static float changed(const struct fault *f, float x, float other) {
	switch (f->kind) {
	case FAULT_STATE_OTHERS:
		return other;
	case FAULT_STATE_BF16:
		return to_bf16((double)x);
	case FAULT_STATE_FLUSHED:
		return fpclassify(x) == FP_SUBNORMAL ? 0 : x;
	default:
		return 0;
	}
}

void fault_between(struct bb_context *victim, const struct bb_context *other,
	const struct fault *f) {
	const struct plan *p = &victim->engine->plan;
	const bool is_due = f->kind == FAULT_STATE_FLUSHED || bb_context_length(victim) == f->at;
	if (f->kind < FAULT_STATE_LOST || f->kind > FAULT_STATE_FLUSHED || !is_due ||
		victim->state == NULL) {
		return;
	}
	for (int i = 0; i < p->n_layers; i++) {
		for (int k = 0; k < p->layers[i].n; k++) {
			const struct plan_op *o = &p->layers[i].ops[k];
			for (size_t j = 0; o->state_floats > 0 && is_meant(f, o, i) && j < o->state_floats;
				j++) {
				float *x = &victim->state->data[o->state_at + j];
				*x = changed(f, *x, other->state->data[o->state_at + j]);
			}
		}
	}
}

/* ---- files ---- */

struct bytes {
	uint8_t *data;
	size_t n;
};

/* Where something of the file's, which a reader found, may be written. */
static void *writable(const struct bytes *b, const void *found) {
	const size_t at = (size_t)((const uint8_t *)found - b->data);
	assert(at < b->n);
	return b->data + at;
}

static void put_number(const struct bytes *b, const struct gguf *g, const char *key,
	const void *value) {
	const struct gguf_kv *kv = gguf_find(g, key);
	assert(kv != NULL && (kv->type == GGUF_F32 || kv->type == GGUF_U32));
	memcpy(writable(b, kv->data), value, 4);
}

/* The bytes of two stretches of tensors, n each, change places; or the second becomes the first. */
static void swap_bytes(const struct bytes *b, const void *x, const void *y, size_t n,
	bool keeps_first) {
	uint8_t *one = writable(b, x), *two = writable(b, y);
	for (size_t i = 0; i < n; i++) {
		const uint8_t first = one[i];
		one[i] = keeps_first ? first : two[i];
		two[i] = first;
	}
}

static void round_rows(const struct bytes *b, const struct bb_tensor *t) {
	float *x = writable(b, t->data);
	for (int64_t row = 0; t->n_dims == 2 && row < t->dims[0]; row++, x += t->dims[1]) {
		float most = 0;
		for (int64_t i = 0; i < t->dims[1]; i++) {
			most = fabsf(x[i]) > most ? fabsf(x[i]) : most;
		}
		for (int64_t i = 0; most > 0 && i < t->dims[1]; i++) {
			x[i] = nearbyintf(x[i] / most * 127) / 127 * most;
		}
	}
}

static void spoil(const struct bytes *b, const struct gguf *g, const struct fault *f) {
	const float amount = (float)f->amount;
	const uint32_t half = 32;
	const struct bb_tensor *v = gguf_tensor(g, "blk.0.attn_v.weight");
	const struct bb_tensor *gate = gguf_tensor(g, "blk.0.ffn_gate.weight");
	if (f->kind == FAULT_EPSILON) {
		put_number(b, g, gguf_find(g, "llama.attention.layer_norm_rms_epsilon") != NULL
			? "llama.attention.layer_norm_rms_epsilon" : "mamba.attention.layer_norm_rms_epsilon",
			&amount);
	} else if (f->kind == FAULT_ROPE_HALF) {
		put_number(b, g, "llama.rope.dimension_count", &half);
	} else if (f->kind == FAULT_RATES_END) {
		put_number(b, g, "rwkv7.attention.iclr_scale", &amount);
	} else if (f->kind == FAULT_GATE_UP) {
		swap_bytes(b, gate->data, gguf_tensor(g, "blk.0.ffn_up.weight")->data, gate->bytes, false);
	} else if (f->kind == FAULT_HEADS_SWAPPED || f->kind == FAULT_HEADS_SHARED) {
		const size_t n = 64 * (size_t)v->dims[1] * sizeof(float);
		assert(v->bytes >= 2 * n);
		swap_bytes(b, v->data, (const uint8_t *)v->data + n, n, f->kind == FAULT_HEADS_SHARED);
	} else {
		for (size_t i = 0; i < g->n_tensors; i++) {
			round_rows(b, &g->tensors[i]);
		}
	}
}

bool fault_write(const struct hand_model *m, const struct fault *f, struct bb_error *err) {
	struct base_file file;
	struct gguf g;
	if (f->kind < FAULT_EPSILON) {
		return true;
	}
	if (!base_file_open(&file, m->path, err)) {
		return false;
	}
	struct bytes b = { malloc(file.bytes), file.bytes };
	memcpy(b.data, file.data, b.n);
	base_file_close(&file);
	bool ok = gguf_open_memory(&g, b.data, b.n, err);
	if (ok) {
		spoil(&b, &g, f);
		FILE *out = fopen(m->path, "wb");
		ok = out != NULL && fwrite(b.data, 1, b.n, out) == b.n;
		ok = (out != NULL && fclose(out) == 0 && ok) ||
			base_fail(err, BB_ERR_IO, "%s couldn't be written", m->path);
		gguf_finish(&g);
	}
	free(b.data);
	return ok;
}
