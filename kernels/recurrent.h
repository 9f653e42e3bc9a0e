/* SPDX-License-Identifier: Apache-2.0
 *
 * Operands of recurrent kernels: layers that remember a state of fixed size, not every token. A
 * state is an array of f32 that holds what all layers of a context remember, one after the other;
 * a kernel reads and writes its layer's part. Rows of a sequence are taken one after the other, in
 * one arithmetic: a row and the state behind it have the same bits however a sequence was cut into
 * steps. States lie at multiples of 64 bytes, layers' parts at multiples of BB_STATE_ALIGN
 * floats. */
#ifndef RECURRENT_H
#define RECURRENT_H

#include <stdbool.h>
#include <stddef.h>

enum { BB_STATE_ALIGN = 16, BB_STATE_BLOCK = 32 };

/* Where to keep the state as it is after a number of rows of a sequence, fewer than all. */
struct bb_state_save {
	int n_rows;
	float *to;
};

/* New rows of one sequence. No two states that are written overlap, and none is read as another
 * sequence's. */
struct bb_state_seq {
	const float *from;  /* the state before row0; NULL: all zero */
	float *to;          /* the state after the last row; may be `from` */
	const struct bb_state_save *saves; /* [n_saves], in order of their rows */
	int n_saves;
	int row0, n_rows;   /* n_rows >= 1 */
};

/* Rows of a sequence after which the state is written, with the one that they begin with. */
struct bb_stretch {
	const float *from;
	float *to;
	int row0, n_rows;
};

/* Stretch i <= n_saves of a sequence, of the layer whose part begins at `at`. */
#ifdef __CUDACC__
__host__ __device__
#endif
static inline struct bb_stretch state_stretch(const struct bb_state_seq *s, int i, size_t at) {
	const int begin = i > 0 ? s->saves[i - 1].n_rows : 0;
	const int end = i < s->n_saves ? s->saves[i].n_rows : s->n_rows;
	const float *from = i > 0 ? s->saves[i - 1].to : s->from;
	float *to = i < s->n_saves ? s->saves[i].to : s->to;
	return (struct bb_stretch){ from != NULL ? from + at : NULL, to + at, s->row0 + begin,
		end - begin };
}

/* Rows of an average sequence, for the grain of units that take a whole one. */
static inline size_t state_mean_rows(const struct bb_state_seq *seqs, int n_seqs) {
	size_t n = 0;
	for (int i = 0; i < n_seqs; i++) {
		n += (size_t)seqs[i].n_rows;
	}
	return n_seqs > 0 ? n / (size_t)n_seqs : 0;
}

/* Causal depthwise convolution. Row t, channel c:
 *   y = act(bias[c] + sum over j < width of w[j, c] x[t - width + 1 + j, c])
 * with x before row 0 from the state [width - 1, dim], oldest first. */
enum { BB_CONV_WIDTH = 8 }; /* at most */
struct bb_conv {
	float *y;            /* [n_rows, ld_y]; may be x */
	const float *x;      /* [n_rows, ld_x] */
	int ld_y, ld_x;
	const float *w;      /* [width, dim] */
	const float *bias;   /* [dim] or NULL */
	int dim, width;      /* 2 <= width <= BB_CONV_WIDTH */
	bool silu;           /* act: silu, else none */
	const struct bb_state_seq *seqs;
	int n_seqs;
	size_t state_at;     /* floats */
};

/* Selective scan of Mamba (arXiv:2312.00752, section 3.2, with its zero-order hold for A alone).
 * Row t, channel c, with d = softplus(dt[t, c] + dt_bias[c]):
 *   S[n, c] = exp(d a[n, c]) S[n, c] + d x[t, c] b[t, n]
 *   y[t, c] = sum over n of S[n, c] c[t, n] + skip[c] x[t, c]
 * State: S [n_state, dim]. */
struct bb_scan {
	float *y;               /* [n_rows, ld_y]; may be x */
	const float *x, *dt;    /* [n_rows, ld_x], [n_rows, ld_dt] */
	const float *b, *c;     /* [n_rows, ld_bc] each, n_state columns */
	int ld_y, ld_x, ld_dt, ld_bc;
	const float *a;         /* [n_state, dim], below zero */
	const float *dt_bias;   /* [dim] or NULL */
	const float *skip;      /* [dim] or NULL */
	int dim, n_state;
	const struct bb_state_seq *seqs;
	int n_seqs;
	size_t state_at;
};

/* State-space duality of Mamba-2 (arXiv:2405.21060, section 7), in its recurrent form. Row t, head
 * h of group g = h / (n_heads / n_groups), with d = softplus(dt[t, h] + dt_bias[h]) held to
 * [dt_min, dt_max]:
 *   S[n, p] = exp(d a[h]) S[n, p] + d x[t, h, p] b[t, g, n]
 *   y[t, h, p] = sum over n of S[n, p] c[t, g, n] + skip[h] x[t, h, p]
 * State: S [n_heads, n_state, head_dim]. */
struct bb_ssd {
	float *y;               /* [n_rows, ld_y]: n_heads, head_dim; may be x */
	const float *x, *dt;    /* [n_rows, ld_x]: n_heads, head_dim; [n_rows, ld_dt]: n_heads */
	const float *b, *c;     /* [n_rows, ld_bc] each: n_groups, n_state */
	int ld_y, ld_x, ld_dt, ld_bc;
	const float *a;         /* [n_heads], below zero */
	const float *dt_bias, *skip; /* [n_heads] each, or NULL */
	float dt_min, dt_max;
	int n_heads, head_dim, n_groups, n_state;
	const struct bb_state_seq *seqs;
	int n_seqs;
	size_t state_at;
};

/* The mLSTM cell of xLSTM (arXiv:2405.04517, section 2.3; arXiv:2503.13427, sections 2 and 3.1 for
 * the caps), in its recurrent form. Row t, head h, with G = cap tanh(g / cap) of gates g (G = g
 * without a cap), i = G of gate_i, f = -softplus(-G of gate_f), and s = 1 / sqrt(dim_k):
 *   m' = max(f + m, i), keep = exp(f + m - m'), u = exp(i - m'), m = m'
 *   C[a, b] = keep C[a, b] + u k[t, h, a] v[t, h, b], n[a] = keep n[a] + u k[t, h, a]
 *   y[t, h, b] = s (sum over a of C[a, b] q[t, h, a])
 *                / (max(|s (sum over a of n[a] q[t, h, a])|, exp(-m)) + eps)
 * The shift m is the largest gate so far, less what has been forgotten, and no less than the newest
 * input gate. eps is added as transformers' xLSTM adds it.
 * State: C [n_heads, dim_k, dim_v], n [n_heads, dim_k], m [n_heads]; a new one has m = 0. */
enum { BB_MLSTM_KEYS = 256 }; /* dim_k, at most */
struct bb_mlstm {
	float *y;               /* [n_rows, ld_y]: n_heads, dim_v; may be v */
	const float *q, *k;     /* [n_rows, ld_qk] each: n_heads, dim_k */
	const float *v;         /* [n_rows, ld_v]: n_heads, dim_v */
	const float *gate_i, *gate_f; /* [n_rows, ld_gate] each: n_heads */
	int ld_y, ld_qk, ld_v, ld_gate;
	int n_heads, dim_k, dim_v;
	float cap, eps;         /* cap 0: none */
	const struct bb_state_seq *seqs;
	int n_seqs;
	size_t state_at;
};

/* The sLSTM cell of xLSTM (arXiv:2405.04517, section 2.2, with the shift of its appendix A), whose
 * forget gates are sigmoids. Row t, channel c of head h, with G = gate_g[t, h, c] + bias[g, h, c]
 * + sum over j of H[h, j] w[h, j, g, c] of each gate g = i, f, z, o, in this order of bias and w,
 * where H is that before the row:
 *   f = m - softplus(-G of f), m' = max(f, G of i), keep = exp(f - m'), u = exp(G of i - m'),
 *   m = m', C = keep C + u tanh(G of z), n = keep n + u
 *   y[t, h, c] = H = sigmoid(G of o) C / n
 * but a channel with n = 0, to which nothing has come yet, takes m' = G of i and keep = 0, as
 * NX-AI's xlstm has it; n is 1 behind that, and never less from there on.
 * State: H, C, n, m [n_heads, head_dim] each. */
enum { BB_SLSTM_HEAD = 1024 }; /* head_dim, at most */
struct bb_slstm {
	float *y;               /* [n_rows, ld_y]: n_heads, head_dim; may be one of the gates */
	const float *gate_i, *gate_f, *gate_z, *gate_o; /* [n_rows, ld_gate] each: n_heads, head_dim */
	int ld_y, ld_gate;
	const float *w;         /* [n_heads, head_dim, 4, head_dim] */
	const float *bias;      /* [4, n_heads, head_dim] or NULL */
	int n_heads, head_dim;
	const struct bb_state_seq *seqs;
	int n_seqs;
	size_t state_at;
};

/* The real-gated linear recurrent unit of Griffin (arXiv:2402.19427, section 2.4). Row t, channel
 * c, with r = sigmoid(gate_r[t, c]), i = sigmoid(gate_i[t, c]), a = exp(r log_a[c]):
 *   S[c] = a S[c] + sqrt(1 - a^2) i x[t, c], but S[c] = i x[t, c] in the first row of a sequence
 *          that begins with no state, as transformers has it
 *   y[t, c] = S[c]
 * State: S [dim]. */
struct bb_rg_lru {
	float *y;               /* [n_rows, ld_y]; may be x */
	const float *x;         /* [n_rows, ld_x] */
	const float *gate_r, *gate_i; /* [n_rows, ld_gate] each */
	int ld_y, ld_x, ld_gate;
	const float *log_a;     /* [dim], below zero: -8 softplus(Lambda) */
	int dim;
	const struct bb_state_seq *seqs;
	int n_seqs;
	size_t state_at;
};

/* The gated delta rule (arXiv:2412.06464, equation 10), as qwen3-next gates and normalises it. Row
 * t, head h, whose keys are of head g = h / (n_heads / n_key_heads); with q' = q[t, g] / (|q[t,
 * g]| sqrt(dim_k)) and k' = k[t, g] / |k[t, g]|, where |x| = sqrt(sum of x^2 + 1e-6), keep =
 * exp(a[h] softplus(dt[t, h] + dt_bias[h])), beta = sigmoid(gate_b[t, h]):
 *   e[b] = beta (v[t, h, b] - keep (sum over j of S[j, b] k'[j]))
 *   S[j, b] = keep S[j, b] + k'[j] e[b]
 *   y[t, h, b] = sum over j of S[j, b] q'[j]
 * State: S [n_heads, dim_k, dim_v]. */
enum { BB_DELTA_KEYS = 256 }; /* dim_k, at most */
struct bb_delta {
	float *y;               /* [n_rows, ld_y]: n_heads, dim_v; may be v */
	const float *q, *k;     /* [n_rows, ld_qk] each: n_key_heads, dim_k */
	const float *v;         /* [n_rows, ld_v]: n_heads, dim_v */
	const float *dt, *gate_b; /* [n_rows, ld_gate] each: n_heads */
	int ld_y, ld_qk, ld_v, ld_gate;
	const float *a;         /* [n_heads], below zero */
	const float *dt_bias;   /* [n_heads] or NULL */
	int n_heads, n_key_heads, dim_k, dim_v;
	const struct bb_state_seq *seqs;
	int n_seqs;
	size_t state_at;
};

/* WKV of RWKV-7 (arXiv:2503.14456, section 4: its generalised delta rule). Row t, head h, with key
 * channels j and value channels i of the head:
 *   u[i] = sum over j of S[j, i] a[t, h, j]
 *   S[j, i] = w[t, h, j] S[j, i] + u[i] b[t, h, j] + v[t, h, i] k[t, h, j]
 *   y[t, h, i] = sum over j of S[j, i] r[t, h, j]
 * State: S [n_heads, head_dim, head_dim]. */
enum { BB_WKV_HEAD = 128 }; /* head_dim, at most */
struct bb_wkv7 {
	float *y;               /* [n_rows, ld_y]: n_heads, head_dim; none of the others */
	const float *r, *w, *k, *v, *a, *b; /* [n_rows, ld] each: n_heads, head_dim; w in (0, 1] */
	int ld_y, ld;
	int n_heads, head_dim;
	const struct bb_state_seq *seqs;
	int n_seqs;
	size_t state_at;
};

/* WKV of RWKV-6 (arXiv:2404.05892, section 4). As that of RWKV-7, but
 *   y[t, h, i] = sum over j of (S[j, i] + u[h, j] k[t, h, j] v[t, h, i]) r[t, h, j]
 *   S[j, i] = w[t, h, j] S[j, i] + k[t, h, j] v[t, h, i], after that */
struct bb_wkv6 {
	float *y;               /* [n_rows, ld_y]: n_heads, head_dim; none of the others */
	const float *r, *w, *k, *v; /* [n_rows, ld] each: n_heads, head_dim; w in [0, 1] */
	const float *u;         /* [n_heads, head_dim] */
	int ld_y, ld;
	int n_heads, head_dim;
	const struct bb_state_seq *seqs;
	int n_seqs;
	size_t state_at;
};

/* Token shift of RWKV. Row t, with x before row 0 from the state [dim], of each of n_mixes:
 *   y[t, m, c] = x[t, c] + (x[t - 1, c] - x[t, c]) mix[m, c]
 * or without mix, of one: y[t, c] = x[t - 1, c] */
struct bb_shift {
	float *y;               /* [n_rows, ld_y]: n_mixes, dim; not x */
	const float *x;         /* [n_rows, ld_x] */
	int ld_y, ld_x;
	const float *mix;       /* [n_mixes, dim] or NULL */
	int dim, n_mixes;
	const struct bb_state_seq *seqs;
	int n_seqs;
	size_t state_at;
};

/* What RWKV-7 makes of its keys k and rates a before wkv7, which takes `down` as its a, a as its b
 * (arXiv:2503.14456, section 4). Row by row, with z = k * k_k divided by its length in each head,
 * or by 1e-12 where that is more, and s = scale * a:
 *   down = -z, k = k * (1 + (s - 1) * k_a), then a = z * s
 * With rates s above 1 columns of a state may change their sign (Grazzi et al.,
 * arXiv:2411.12537). */
struct bb_wkv7_keys {
	float *down, *k, *a;    /* [n_rows, ld] each: n_heads, head_dim */
	const float *k_k, *k_a; /* [n_heads, head_dim] */
	float scale;            /* 1 changes no bit */
	int ld, n_rows, n_heads, head_dim;
};

/* … and of y behind wkv7 and the norm of each head. Row by row:
 *   y = (y * w + bias + v * (sum over the head of r * k * r_k)) * gate
 * Without r_k, as RWKV-6 has it: y = (y * w + bias) * gate */
struct bb_wkv_out {
	float *y;               /* [n_rows, ld] as all: n_heads, head_dim */
	const float *r, *k, *v, *gate;
	const float *w, *bias, *r_k; /* [n_heads, head_dim] each; r_k may be NULL */
	int ld, n_rows, n_heads, head_dim;
};

#endif
