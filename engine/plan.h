/* SPDX-License-Identifier: Apache-2.0
 *
 * A model bound to one file and one machine: hyper-parameters, packed weights, planned operations
 * and the memory they run in. Made once, at load, by plan_create; immutable while steps run. */
#ifndef PLAN_H
#define PLAN_H

#include "file.h"
#include "graph.h"
#include "memory.h"

/* The tensors of a file by slot and layer. */
struct weight_set {
	int *kinds;                         /* [n_layers]: which kind each layer is */
	const struct bb_tensor **global;    /* [W_COUNT] */
	const struct bb_tensor **per_layer; /* [n_layers, W_COUNT]; of experts the first */
	/* of stacks that a file has as a tensor per expert [n_layers, stack], else NULL */
	const struct bb_tensor **experts[W_COUNT];
	struct bb_tensor *made;             /* [n_made]: weights that are no tensor of the file */
	void **joined;                      /* [n_joined]: bytes of those made of several */
	int n_made, n_joined;
	const struct bb_weight *rows[W_COUNT]; /* the description a slot came from */
	const struct bb_weight_name *names[W_COUNT]; /* of the file's format */
};
/* Reads every key of the model and derives the rest. */
bool hparams_read(struct bb_hparams *hp, const struct bb_model *m, const struct model_file *f,
	int n_vocab, struct bb_error *err);
/* Refuses a GGUF file with a key that changes the arithmetic and that the model doesn't read. */
bool unread_check(const struct bb_model *m, const struct bb_hparams *hp, const struct gguf *g,
	struct bb_error *err);
/* Finds every weight; one error names the first mismatch and counts the others. A tensor of the
 * file that the model doesn't know is an error too: its effect would silently be missing. */
bool weights_bind(struct weight_set *set, const struct bb_model *m, const struct bb_hparams *hp,
	const struct model_file *f, struct bb_error *err);
void weight_set_finish(struct weight_set *set);

/* One packed matrix [n, k]: one tensor, or several stacked whose products share their input. Or of
 * a mixture's experts one each, one after another. */
enum { MAX_STACK = 5 };
/* A tensor of the file whose rows become rows `first` and on of a matrix. */
struct plan_source {
	const struct bb_tensor *w, *bias;
	const struct bb_weight_name *name; /* w's in the file's format */
	double factor;             /* of w's numbers */
	const struct bb_tensor *const *experts; /* of a stack: [n_stack], or NULL: w has them all */
	int first, n_rows;
};

struct plan_matrix {
	matmul_fn *fn;
	const struct bb_layout *layout;
	enum bb_dtype type;
	int n, k;
	int n_stack;               /* experts; 0: it's one matrix */
	void *packed;
	size_t bytes;              /* of all */
	float *bias;               /* [n], NULL = none */
	int n_uses;                /* products with it: layers may share it */
	int n_sources;
	struct plan_source sources[MAX_STACK];
};

struct plan_op {
	enum bb_op_kind kind;
	enum bb_act out_act, in_act, in2_act;
	float *out, *in, *in2;      /* [max_rows, ld_*] */
	int ld_out, ld_in;
	int n_groups, dim;          /* columns: n_groups * dim */
	int n_rows;                 /* of out per row of the step: 1, or the experts used */
	int n_parts;                /* of a norm: groups in w, each with its part; else 0 or 1 */
	float *w;                   /* small weights, f32: [dim]; of recurrent ops [·, channels] */
	float *bias, *skip;         /* of those, [channels] or [heads]; NULL = none */
	size_t state_at;            /* floats of a context's state before what the op keeps */
	size_t state_floats;        /* of what it keeps, with padding */
	size_t state_rounds;        /* the first so many of them may be kept in int8 */
	const struct bb_tensor *table; /* OP_EMBED, and its bytes where kernels read them */
	void *table_data;
	float scalar[MAX_SCALARS];
	enum bb_hparam scalar_of[MAX_SCALARS], when; /* as the row says, for those who read the plan */
	struct plan_matrix *matrix;
	bool prepare;               /* the prepared form of `in` isn't in the buffer yet */
	/* What a device does in one launch, else NULL and false: */
	const struct plan_op *fused; /* the op before, or before the one whose x this one shares */
	const struct plan_op *gives; /* the product whose x this op leaves prepared as its result */
	bool takes;                  /* a product that finds its x so */
	bool normalises;             /* a product whose launch computes `fused` */
	int i_rope;
};

struct plan_ops {
	struct plan_op *ops; /* [n] */
	int n;
};
/* Whether the op behind does op i in its own launch. */
static inline bool plan_is_fused(const struct plan_ops *list, int i) {
	return i + 1 < list->n && list->ops[i + 1].fused == &list->ops[i];
}

/* One set of rotation angles; layers of one kind share it. */
struct plan_rope {
	double *inv_freq; /* [n_pairs]; NULL: the kind doesn't turn its heads */
	float scale;
	float *table;     /* [max_rows, n_pairs, 2], filled once per step */
};

/* What attention needs to know of a kind of layer. */
struct plan_kind {
	int n_layers;
	int window; /* 0 = all */
};

/* The last choice of experts, as in struct bb_moe_route. */
struct plan_choice {
	int32_t *experts, *pairs;   /* [max_rows, experts used] */
	int32_t *offsets;           /* [n_experts + 1] */
};

/* Rows of logits on their way to scattered arrays, or from a device: enough for the head's product
 * to be bound by arithmetic, no longer by its weights' way from memory. */
enum { LOGITS_ROWS = 16, LOGITS_ROWS_DEVICE = 64 };

struct plan {
	const struct bb_model *model;
	struct bb_hparams hp;
	struct weight_set weights;
	const struct bb_kernels *kernels;
	const struct memory *where; /* all arrays of floats and packed weights are of it */
	int max_rows, n_layers, n_kinds;
	int n_paged;                /* kinds that keep tokens: the first so many */
	size_t state_floats;        /* of a context's fixed state; 0: it has none */
	struct plan_kind kinds[MAX_LAYER_KINDS];
	struct plan_rope ropes[MAX_LAYER_KINDS]; /* by kind */
	const int *layer_kind;      /* [n_layers], of `weights` */
	int *layer_index;           /* [n_layers]: how many layers of its kind come before it */
	struct plan_ops embed, unembed;
	struct plan_ops *layers;    /* [n_layers] */
	struct plan_matrix *matrices; /* [n_matrices] */
	int n_matrices, max_matrices;
	float *acts[ACT_COUNT];     /* [max_rows, act_ld] in `memory`; LOGITS: [logits_rows, n_vocab] */
	int act_ld[ACT_COUNT], logits_rows;
	float *out_rows;            /* [max_rows, ld of X]: rows whose logits are wanted */
	struct plan_choice choice;
	void *prepared;
	void *memory, *packed_memory;
	size_t memory_bytes, packed_bytes;
	void *gemm_memory;          /* in which a device's fast products work; NULL: it has none */
	size_t gemm_bytes;
};

/* Plans everything; packs nothing yet. window > 0 limits every kind. */
bool plan_create(struct plan *p, const struct bb_model *m, const struct model_file *f,
	const struct bb_kernels *k, const struct memory *where, int n_vocab, int max_rows, int window,
	struct bb_error *err);
/* Packs the weights into memory of their own, on the queue. */
bool plan_pack(struct plan *p, bb_progress_fn *progress, void *user, struct bb_error *err);
/* Of a device that is to multiply fast: room and algorithms for its largest products. */
bool plan_gemm(struct plan *p, struct bb_error *err);
/* Bytes that plan_pack takes: packed weights and the prepared input. */
size_t plan_packed_bytes(const struct plan *p);
/* Marks what a device does in one launch, see struct plan_op. */
void plan_fuse(const struct plan *p, struct plan_ops *list);
/* Takes all marks off again: each op is a launch of its own. */
void plan_part(struct plan *p);
void plan_finish(struct plan *p); /* zeroed is fine */
/* What of these CPU flags the plan's kernels may use: an f32 checkpoint takes no bf16 path, in
 * attention neither, for its user asked for f32. */
unsigned plan_flags(const struct plan *p, unsigned flags);
/* What vectors are multiplied by where a token's embedding is. */
float plan_vector_scale(const struct plan *p);
/* Weight bytes that a step of one row reads. */
size_t plan_step_bytes(const struct plan *p);

#endif
