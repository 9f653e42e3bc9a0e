/* SPDX-License-Identifier: Apache-2.0
 *
 * What the builders of hand-set models share: a GGUF file in the making, its matrices, names of
 * tokens, and the parts that models of one architecture have in common. Failures of memory are
 * kept by the writer, so that builders read as their construction does. */
#ifndef HANDSET_BUILD_H
#define HANDSET_BUILD_H

#include "gguf_write.h"
#include "handset.h"

#include <assert.h>

struct handset_build {
	const struct handset_kind *kind;
	struct gguf_writer *w;
	const char *arch;
	enum gguf_write_type type; /* of matrices */
	char **names;              /* [n_vocab], of tokens */
	int n_vocab;
	bool lacks_names;          /* there was no memory for one */
};

/* A matrix [rows, columns] of zeros; columns = 0: a vector. */
struct matrix {
	float *v; /* NULL when there was no memory: then setting does nothing */
	int rows, columns;
};

static inline void set(const struct matrix *m, int row, int column, float value) {
	assert(row >= 0 && row < m->rows && column >= 0 && column < (m->columns > 0 ? m->columns : 1));
	if (m->v != NULL) {
		m->v[(size_t)row * (size_t)(m->columns > 0 ? m->columns : 1) + (size_t)column] = value;
	}
}

/* Tensors of the file; printf-style names. Matrices have the type that was asked for, vectors and
 * what build_f32 makes (as llama.cpp wants it of some) are F32. */
struct matrix build_matrix(struct handset_build *b, int rows, int columns, const char *name, ...)
	__attribute__((format(printf, 4, 5)));
struct matrix build_f32(struct handset_build *b, int rows, int columns, const char *name, ...)
	__attribute__((format(printf, 4, 5)));
/* A vector, all of it `value`. */
struct matrix build_vector(struct handset_build *b, int n, float value, const char *name, ...)
	__attribute__((format(printf, 4, 5)));

/* "<arch>.<key>" */
void build_u32(struct handset_build *b, const char *key, uint32_t value);
void build_f32_key(struct handset_build *b, const char *key, float value);

/* The metadata that every kind has: architecture, context length, vocabulary without text. After it
 * tokens are named: those without a name are called by their ids. eos < 0: none. */
void build_begin(struct handset_build *b, const char *arch, int n_vocab, int context_length,
	int eos);
void build_name(struct handset_build *b, int id, const char *name, ...)
	__attribute__((format(printf, 3, 4)));

/* Appends a prompt that one token answers; returns what a kind's `example` does. */
int build_example(struct bb_tokens *prompt, const int32_t *ids, size_t n, struct bb_error *err);

/* The least power of 4 that is >= n and 64: rows of that width with a sum of squares of 4 are
 * divided by a power of two when they are normalised, 2 / sqrt(width), and all stay exact. */
int build_width(int n);

/* ---- arch llama ---- */

enum { HANDSET_HEAD = 64 }; /* width of heads */

struct decoder {
	int n_layers, width, n_ff, n_vocab, context_length, eos;
	float norm; /* weight of every RMSNorm: 2 / sqrt(width), or what the kind's rows need */
	int n_heads, head_dim; /* 0: as many of HANDSET_HEAD as make up the width */
};

struct decoder_layer {
	struct matrix q, k, v;       /* [n_heads * head_dim, width] */
	struct matrix o;             /* [width, n_heads * head_dim] */
	struct matrix gate, up;      /* [n_ff, width] */
	struct matrix down;          /* [width, n_ff] */
};

/* All metadata, and norms. */
void decoder_begin(struct handset_build *b, const struct decoder *d);
/* [n_vocab, width] each. */
void decoder_ends(struct handset_build *b, const struct decoder *d, struct matrix *embed,
	struct matrix *output);
struct decoder_layer decoder_layer(struct handset_build *b, const struct decoder *d, int i_layer);

/* The divisors of RoPE's frequencies, [head_dim / 2]: the first n pairs turn as they do in a head
 * of HANDSET_HEAD, and the others stay where they are. */
struct matrix decoder_divisors(struct handset_build *b, const struct decoder *d, int n);
/* What they divide: of pair j, in radians per token. */
double decoder_frequency(const struct decoder *d, int j);
/* Powers of 2 in columns column..column + n - 1 of a row, whose squares add up to `sum`. */
void decoder_fill(const struct matrix *m, int row, int column, int n, int sum);

/* Pairs first..first + n - 1 of head `head`: its score grows by P cos(w_j (distance - delta)) for
 * each pair j, P = 128, where feature `one` is 1 in every row. Its peak is exactly at `delta`
 * tokens back, by more than 104 nats, so that the weight there is 1.0 and all others 0. */
void decoder_look_back(const struct decoder_layer *l, int head, int one, int64_t delta, int first,
	int n);
/* The same of rows with feature `asks`. */
void decoder_look_back_if(const struct decoder_layer *l, int head, int asks, int one, int64_t delta,
	int first, int n);

/* ---- arch mamba ---- */

/* Of every layer; its inner width is twice the rows'. */
enum { SSM_STATE = 16, SSM_DT = 4, SSM_CONV = 4, SSM_B = SSM_DT, SSM_C = SSM_DT + SSM_STATE };

struct ssm {
	int n_layers, width, n_vocab, context_length, eos;
};

struct ssm_layer {
	struct matrix in;        /* [2 * inner, width]: x, then the gate z */
	struct matrix conv;      /* [inner, SSM_CONV]; at first the last tap, this token's, is 1 */
	struct matrix conv_bias; /* [inner] */
	struct matrix x;         /* [SSM_C + SSM_STATE, inner]: dt, B, C */
	struct matrix dt;        /* [inner, SSM_DT] */
	struct matrix a;         /* [inner, SSM_STATE]: at first what keeps a state for ever */
	struct matrix skip;      /* [inner] */
	struct matrix out;       /* [width, inner] */
};

/* All metadata, and norms. */
void ssm_begin(struct handset_build *b, const struct ssm *s);
void ssm_ends(struct handset_build *b, const struct ssm *s, struct matrix *embed,
	struct matrix *output);
struct ssm_layer ssm_layer(struct handset_build *b, const struct ssm *s, int i_layer);

#endif
