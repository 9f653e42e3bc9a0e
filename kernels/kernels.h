/* SPDX-License-Identifier: Apache-2.0
 *
 * The kernels: pure arithmetic on caller's memory. No kernel allocates, does I/O or knows a model.
 * All arrays are row-major, outermost dimension first; `ld_*` is the distance between rows in
 * elements. A kernel can't fail. Each result row depends on its own input row alone, through one
 * arithmetic per kernel and variant, whatever n_rows and the number of threads are. */
#ifndef KERNELS_H
#define KERNELS_H

#include "queue.h"
#include "recurrent.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus /* the device modules */
extern "C" {
#endif

/* Element types, numbered as GGUF numbers them. */
enum bb_dtype {
	BB_F32 = 0,
	BB_F16 = 1,
	BB_Q4_0 = 2,
	BB_Q4_1 = 3,
	BB_Q5_0 = 6,
	BB_Q5_1 = 7,
	BB_Q8_0 = 8,
	BB_Q4_K = 12,
	BB_Q5_K = 13,
	BB_Q6_K = 14,
	BB_BF16 = 30,
	BB_DTYPE_LIMIT = 64, /* above every type number that may be asked about */
};

/* What a CPU can do; a variant states what it needs. */
enum bb_cpu_flag {
	BB_AVX2 = 1 << 0,         /* AVX2, FMA and F16C */
	BB_AVX_VNNI = 1 << 1,
	BB_AVX512 = 1 << 2,       /* F, BW, DQ, VL */
	BB_AVX512_VNNI = 1 << 3,
	BB_AVX512_BF16 = 1 << 4,
};

/* What a GPU variant needs: a compute capability times ten; with BB_ONLY no newer one will do, with
 * BB_LT cuBLASLt must be open (--gemm fast), which takes products of so many rows and more; with
 * BB_WGMMA gemm_wgmma must have been called (--gemm wgmma), the same of its products. */
enum { BB_ONLY = 1 << 16, BB_LT = 1 << 17, BB_WGMMA = 1 << 18, BB_LT_ROWS = 64,
	BB_WGMMA_ROWS = 64 };

/* ---- block types: geometry and exact meaning ---- */

/* Elements and bytes of a block; 0 for a type that has no kernels here. */
int dtype_block_elems(enum bb_dtype type);
int dtype_block_bytes(enum bb_dtype type);
const char *dtype_name(enum bb_dtype type); /* "Q4_1"; NULL when unknown */
/* Bytes of a row of n elements (n a multiple of the block). */
size_t dtype_row_bytes(enum bb_dtype type, int64_t n);
/* y[n] = the values of one stored row, in f32 (exact for every type but f64). */
void dtype_decode(float *y, const void *row, enum bb_dtype type, int64_t n);
float f16_to_f32(uint16_t h);
uint16_t f32_to_f16(float f);   /* round to nearest even */
float bf16_to_f32(uint16_t h);
uint16_t f32_to_bf16(float f);  /* round to nearest even, NaN kept */

/* ---- layouts ---- */

/* What computes the x of a product. */
enum bb_fusion { BB_FUSE_RMSNORM, BB_FUSE_SILU_MUL, BB_FUSE_GELU_MUL };
struct bb_fused_x {
	enum bb_fusion kind;
	const float *x, *up; /* [n_rows, ld] each; up: of the gated activations, whose gate is x */
	int ld;
	const float *w;      /* [k], of rmsnorm; NULL = ones */
	float eps;
};

/* A product of packed weights w [n, k] and rows of x that are computed on the way. Its result is y;
 * or it is the gate and, in the columns from n / 2 on, the up of a gated activation, whose prepared
 * form for a product of a block type is left in `gated`, while y is scratch. n / 2 is a multiple of
 * 32 then, as blocks of such types are. */
struct bb_fused_product {
	enum bb_dtype type;
	const void *w;
	const float *bias;   /* [n] or NULL */
	float *y;            /* [n_rows, ld_y]; no part of x.x */
	int ld_y, n_rows, n, k;
	bool accumulate;
	struct bb_fused_x x; /* BB_FUSE_RMSNORM */
	void *prepared;      /* [prep_bytes] room for x */
	bool is_prepared;    /* the product before was of this x, k and n_rows, and left x there if it
	                      * didn't keep it to itself */
	void *gated;         /* [prep_bytes of n_rows, n / 2] or NULL; may be `prepared` */
	enum bb_fusion gate; /* BB_FUSE_SILU_MUL or BB_FUSE_GELU_MUL, where gated isn't NULL */
};

/* How a matmul variant wants its weights and its input. A layout is chosen by the winning
 * variant. On a device, all pointers of pack and prep are to its memory, and unpack_row works on a
 * copy of the packed bytes in the host's. */
struct bb_layout {
	const char *name;
	/* Bytes of a packed [n, k] matrix of `type`. */
	size_t (*weight_bytes)(enum bb_dtype type, int n, int k);
	/* Packs rows of the file format: row first + i of the packed matrix, i < n_rows, is source row
	 * map[i] (map NULL: i). Several sources may so be packed one below the other. */
	void (*pack)(bb_queue *q, void *dst, enum bb_dtype type, int n, int k, const void *src,
		int first, int n_rows, const int32_t *map);
	/* The inverse, for one row: dst gets the row in the file format, bit for bit, or (where the
	 * layout keeps the values but not the encoding) the same values. */
	void (*unpack_row)(void *dst, const void *packed, enum bb_dtype type, int n, int k, int row);
	/* Bytes of the prepared form of x[n_rows, k], and the preparation: quantisation to int8 per
	 * block of 32 with an f32 scale for block types, a copy or tiling for float types.
	 * Row-local; where a layout has another form for many rows (panels_lt from BB_LT_ROWS on,
	 * panels_wgmma from BB_WGMMA_ROWS on), prep and product are given the same n_rows. */
	size_t (*prep_bytes)(enum bb_dtype type, int n_rows, int k);
	void (*prep)(bb_queue *q, void *dst, enum bb_dtype type, const float *x, int ld_x, int n_rows,
		int k);
	/* The same of an x that is computed on the way, with the bits of the two one after the other:
	 * one launch less on a device. NULL: for no type; else `fuses` says for which. These types have
	 * one prepared form. */
	bool (*fuses)(enum bb_dtype type);
	void (*prep_fused)(bb_queue *q, void *dst, enum bb_dtype type, const struct bb_fused_x *x,
		int n_rows, int k);
	/* A product with what comes before and behind it, with the bits of the parts one after the
	 * other, for types that `fuses` names. NULL: there is none. */
	void (*product)(bb_queue *q, const struct bb_fused_product *p);
};

/* A page holds 64 tokens. The slab of one (page, layer, kv head) is a K plane and a V plane, each
 * in the order that the attention variant wants, each 64-byte aligned. */
enum { BB_PAGE = 64, BB_SPLIT = 256 };
/* Channels of a head at most. */
enum { BB_MAX_HEAD_DIM = 512 };

/* Page tables are lists of chunks of 64 page addresses, so that contexts can share all but the
 * chunks in which they differ. 64 make 4096 tokens and 512 bytes: the list of a million tokens
 * is 2 KB, changing a chunk copies 8 lines of cache, and a device can keep its own copy of each
 * chunk, made once it's full. */
enum { BB_CHUNK = 64 };

enum bb_kv_dtype { KV_F32, KV_F16, KV_BF16, KV_INT8 };

struct bb_kv_append;
struct bb_kv_layout {
	const char *name;
	/* Bytes of a slab: a multiple of 64. `group`: the channels of K that share an int8 scale, a
	 * multiple of 4 (the last group may be narrower); 0 = all of the head. V has one scale per
	 * token: it has no outlier channels as K has them. The other types ignore it. */
	size_t (*slab_bytes)(enum bb_kv_dtype type, int head_dim, int group);
	/* Stores k[head_dim], v[head_dim] as token `slot` (0..63) of a slab; quantises as the type says
	 * (int8: one f32 scale per token and group of K, one per token for V, s = max|x| / 127; the
	 * integer is x * (127 / max|x|) rounded to nearest even; the same numbers in every layout).
	 * Where k or v is NULL, that plane stays as it is. */
	void (*append)(void *slab, enum bb_kv_dtype type, int head_dim, int group, int slot,
		const float *k, const float *v);
	/* The inverse: the stored values of token `slot`; of K or V alone where the other is NULL. */
	void (*read)(const void *slab, enum bb_kv_dtype type, int head_dim, int group, int slot,
		float *k, float *v);
	/* All of kv_append at once; NULL: row by row with append. On a device slabs are in its memory,
	 * and append and read work on copies in the host's. */
	void (*append_rows)(bb_queue *q, const struct bb_kv_append *a);
	bool turns; /* append_rows can apply RoPE on the way, with rope's bits: a launch less */
	/* Not NULL: attention can leave its rows prepared as this layout wants them for block types. */
	const struct bb_layout *prepares;
	/* Bytes of scratch for attention over this layout; NULL: attention_scratch_bytes. */
	size_t (*scratch_bytes)(int n_rows, int max_kept, int n_heads, int head_dim);
	/* Token from_slot of one slab becomes token to_slot of another (or of the same, at another
	 * slot) of the same type, head_dim and group, bit for bit, with scales and padding. On a device
	 * for copies in the host's memory, as append and read. */
	void (*copy)(void *to, int to_slot, const void *from, int from_slot, enum bb_kv_dtype type,
		int head_dim, int group);
};

/* ---- attention ---- */

/* What the heads of one head group keep of a sequence, in the order of its timeline: kept token
 * t, counted from 0, lies in page t / 64, slot t % 64. Where nothing was dropped t is the
 * token's position. */
struct bb_kept {
	/* [ceil((n_before + n_rows) / 4096)][64] addresses; a page that no window reaches may be
	 * NULL, and a chunk whose pages all are */
	void *const *const *chunks;
	int n_before; /* tokens kept of those before this step */
};

static inline void *kept_page(const struct bb_kept *kept, int i_page) {
	return kept->chunks[i_page / BB_CHUNK][i_page % BB_CHUNK];
}

/* New rows of one sequence. For a head of group g, row i is kept token groups[g].n_before + i
 * and sees that one and those before it, at most `window` in all. Its K and V are in the pages
 * when attention runs. */
struct bb_attention_seq {
	const struct bb_kept *groups; /* [n_groups] */
	int row0;                     /* first row of this sequence in q and out */
	int n_rows;
	int n_shared;                 /* kept tokens that bb_attention.shares has for it */
	int n_common;                 /* of a share, see there */
};

/* Where a kv head's state lies: in the pages of a group, this far from a page's address. Heads
 * of one layer may keep different tokens, and groups may span layers: kernels look only here. */
struct bb_kv_head {
	int i_group;
	size_t slab_offset;
};

/* out[row, head] = sum_t softmax_t(scale * q[row, head] . k[t, kv(head)]) v[t, kv(head)], with
 * kv(head) = head / (n_heads / n_kv_heads).
 *
 * One definition for every shape (arXiv:2205.14135, split as Flash-Decoding): tokens are walked in
 * splits of 256 from position 0. Inside a split m = max of the visible scores, p = exp(score - m),
 * l = sum of p, o = sum of p v, each summed in a fixed order; splits are joined in index order by
 * M' = max(M, m); L = L e^(M-M') + l e^(m-M'); O = O e^(M-M') + o e^(m-M'); the result is O / L.
 * Splits without a visible token are skipped. */
struct bb_attention {
	float *out;            /* [rows, ld_out], head h at column h * head_dim */
	const float *queries;  /* [rows, ld_q], RoPE applied, head h at column h * head_dim */
	int ld_out, ld_q;
	const struct bb_attention_seq *seqs;
	int n_seqs;
	const struct bb_kv_head *kv_heads; /* [n_kv_heads] */
	int n_heads, n_kv_heads, head_dim;
	int kv_group;          /* channels of K per int8 scale; 0 = head_dim */
	int window;            /* tokens a row sees, itself included; 0 = all */
	float scale;
	/* > 0: a score s becomes softcap * tanh(s / softcap) (Gemma 2, arXiv:2408.00118, section 2) */
	float softcap;
	/* [n_heads] or NULL: a head's score of a token without a value, which every row sees beside its
	 * own: L + e^(sink - M) divides (gpt-oss, arXiv:2508.10925, section 2.2) */
	const float *sinks;
	void *scratch;         /* [attention_scratch_bytes], 64-byte aligned */
	size_t scratch_bytes;
	/* What a device, in whose memory all arrays are, has to know for its grids: rows of all
	 * sequences, and at least the most tokens that any group keeps, those of this step included. */
	int n_rows, max_kept;
	/* Sequences whose first kept tokens, whole splits of them, lie in the same pages: these are
	 * read once for several, with the same bits. A share is sequences of one row each that follow
	 * one another: groups are the first's, row0 its index, n_rows how many they are (at least 2),
	 * n_shared the tokens; each of them has n_shared too. n_common: the tokens, whole pages, in
	 * which their pages are the same, less than a split more. Listed by row0. On a device only
	 * where every sequence has one row, and sequence i row i. n_shared_rows: of all shares. NULL
	 * and 0: none. Not looked at with a window. */
	const struct bb_attention_seq *shares;
	int n_shares, n_shared_rows;
	/* Where kv layout->prepares: the rows go here as the prepared x of a product of a block type,
	 * and `out` is scratch then. NULL: to `out`. */
	void *prepared;
};
/* Enough scratch for any step of at most n_rows rows, whatever the lengths of their contexts: the
 * planner passes its limits once, at load. n_heads counts query heads. */
size_t attention_scratch_bytes(int n_rows, int n_threads, int n_heads, int head_dim);
/* For how many sequences of a share the CPU's variants, but for the references, read its pages
 * once. */
int attention_share_rows(int n_heads, int n_kv_heads, int head_dim);

/* Appends k, v of the rows of a step: seq as above; k, v: [rows, ld], kv head h at column
 * h * head_dim. Rows of different sequences go to different pages. */
struct bb_kv_append {
	const float *k, *v;
	int ld;
	const struct bb_attention_seq *seqs;
	int n_seqs;
	const struct bb_kv_head *kv_heads; /* [n_kv_heads] */
	int n_kv_heads, head_dim, kv_group;
	enum bb_kv_dtype type;
	const struct bb_kv_layout *layout;
	int n_rows;            /* of all sequences; for a device, as in bb_attention */
	/* Where layout->turns: RoPE as rope does it to q [rows, ld], n_heads heads, and to k on its way
	 * into the pages (k itself stays as it is). NULL: k comes turned. */
	const float *cs;       /* [rows, n_pairs, 2] */
	float *q;
	int n_pairs, n_heads;
};
void kv_append(bb_queue *q, const struct bb_kv_append *a);

/* ---- pages of contexts that are forked or compressed ---- */

/* Kept tokens [kept.n_before, kept.n_before + n_tokens) of one sequence in the pages of one head
 * group. */
struct bb_kv_run {
	struct bb_kept kept;
	int n_tokens;
	int row0; /* the first one's row in what a kernel has for every token; the others follow */
};

/* Runs of several sequences, and which heads' slabs are meant. On a device all arrays are in its
 * memory. */
struct bb_kv_runs {
	const struct bb_kv_run *runs;      /* [n_seqs, n_groups] */
	const struct bb_kv_head *kv_heads; /* [n_kv_heads], of one layer or of several */
	int n_seqs, n_groups, n_kv_heads, head_dim;
	int kv_group;                      /* channels of K per int8 scale; 0 = head_dim */
	enum bb_kv_dtype type;
	const struct bb_kv_layout *layout; /* a device has but one and doesn't look */
	int max_tokens;                    /* for a device's grids: at least every run's n_tokens */
};

/* Where a run's tokens come from: its token i was kept token tokens[i] of `chunks`. */
struct bb_kv_source {
	void *const *const *chunks; /* as in bb_kept */
	const int32_t *tokens;      /* [n_tokens of the run] ascending; NULL: token i was token i */
};

/* A slab that is written from another one, of which the first n_tokens slots hold something. */
struct bb_kv_slab {
	void *to;
	const void *from;
	int n_tokens;
};

struct bb_kv_quantise {
	const struct bb_kv_slab *slabs; /* [n_slabs]; none is both written and read */
	int n_slabs, head_dim;
	int kv_group;                   /* of an int8 `to` */
	enum bb_kv_dtype to, from;      /* from: not KV_INT8, which nothing quantises again */
	const struct bb_kv_layout *to_layout, *from_layout; /* a device doesn't look */
};

/* Which queries score pages, and where the scores go. */
struct bb_kv_query {
	float *scores;        /* [n_seqs, n_kv_heads, ld_scores]: page i of a run's table in column i */
	const float *queries; /* [rows, ld_q], RoPE applied, head h at column h * head_dim */
	const int32_t *rows;  /* [n_seqs] the row of each sequence; NULL: sequence i has row i */
	int ld_scores, ld_q, n_heads;
};

/* The bounds of a head in a page: f32 [2][head_dim rounded up to 16], first the least, then the
 * largest value of each channel of K; zeros beyond head_dim. */
size_t kv_bounds_bytes(int head_dim);

/* ---- sampling ---- */

enum {
	BB_SAMPLE_TOP = 20,        /* most alternatives that can be asked for */
	BB_SAMPLE_VOCAB = 1 << 19, /* largest n_vocab */
	BB_SAMPLE_BELOW = 1 << 24, /* certainty: most that a logit may lie under the best */
	BB_SAMPLE_ID_NONE = -1,    /* the token of a row in which a logit is NaN or infinite */
};

/* A token of the prompt or the output, each once in a list. */
struct bb_token_count {
	int32_t id, n_output; /* n_output 0: it is in the prompt only */
};

struct bb_token_bias {
	int32_t id;
	float bias; /* finite, or -INFINITY: the token can't be drawn */
};

/* How one row is sampled; ranges as struct bb_sampling has them. */
struct bb_sample_params {
	float temperature; /* 0: greedy */
	int top_k;         /* none when <= 0 or >= n_vocab */
	float top_p;       /* none when 1 */
	float min_p;       /* none when 0 */
	float repetition_penalty, presence_penalty, frequency_penalty;
	int n_counts, n_bias;
	const struct bb_token_count *counts; /* [n_counts] */
	const struct bb_token_bias *bias;    /* [n_bias] in the order of ids; of one id in list order */
	/* [(n_vocab + 31) / 32]: bit id % 32 of word id / 32 says that a token may be drawn; NULL: all
	 * may */
	const uint32_t *mask;
	uint64_t key;         /* of Philox: a hash of seed and branch */
	uint32_t token_index; /* its counter: where the token will stand in its timeline */
	int n_top;            /* alternatives to report, 0..BB_SAMPLE_TOP */
	int n_confidence;     /* of how many alternatives confidence is the mean, 0..BB_SAMPLE_TOP */
};

/* Draws a token from each row of logits. All arrays are where the kernel runs, the lists of the
 * params too; rows don't know of each other.
 *
 * x = the logits after penalties (of counted tokens: x > 0 ? x / repetition : x * repetition, then
 * x -= presence + frequency * n_output for n_output > 0; CTRL, arXiv:1909.05858, and the OpenAI
 * API) and then bias, in f32, every operation rounded, and -INFINITY where the mask lacks a token.
 * best = the largest x, the lowest id of equals. When 1 / temperature, best or best / temperature
 * is not finite, best is taken. Else a token weighs w = e^(scale (x - best)), scale = 1 /
 * temperature in f32, and 0 when w < min_p (arXiv:2407.01082). Without top_k, top_p and min_p the
 * order is that of ids, else of falling x, equals by id. top_k keeps the first k; top_p
 * (arXiv:1904.09751) of these the fewest whose w reach top_p of the sum. With u in [0, 1) of 53
 * bits, philox_unit(key, token_index), the token is the first at which the running sum of w exceeds
 * u times the sum of what is kept.
 *
 * Of the unmodified logits l, natural logarithms: logprob = l[id] - log sum e^l; entropy = -sum p
 * log p; confidence = -mean of the log-probabilities of the n_confidence most likely (token
 * confidence, arXiv:2508.15260); certainty = KL(uniform || p) = -mean of all log-probabilities -
 * log n_vocab (self-certainty, arXiv:2502.18581), where what lies BB_SAMPLE_BELOW and more under
 * the largest l counts as that far under it; both 0 when n_confidence is 0; alternatives in the
 * order of falling l, equals by id. All are finite: what is below -FLT_MAX is -FLT_MAX.
 *
 * c sums in double. The device computes w with f32's exp, rounds it to a multiple of 2^-44 and sums
 * whole numbers: no order of summing can change a bit, so a row's token is the same in any batch
 * and by any path, and tokens 31 nats below the best can't be drawn. The two choose differently
 * only where u or top_p come within about 1e-6 of a running sum's share, or min_p within 1e-6 w of
 * a w. So does engine/sample.c, which has w and sums from the softmax of its ISA level, and sorts
 * by p: tokens whose x differ while their p in f32 don't are in the order of ids there. */
struct bb_sample {
	int32_t *ids;          /* [n_rows]; BB_SAMPLE_ID_NONE: other results of the row are 0 then */
	float *logprobs, *entropies, *confidences, *certainties; /* [n_rows] */
	int32_t *top_ids;      /* [n_rows, BB_SAMPLE_TOP]: min(n_top, n_vocab) ids, then -1 */
	float *top_logprobs;   /* [n_rows, BB_SAMPLE_TOP]; then 0 */
	const float *logits;   /* [n_rows, ld] */
	int ld, n_rows, n_vocab;
	const struct bb_sample_params *params; /* [n_rows] */
	float *scratch;        /* [sample_scratch_bytes], 16-byte aligned */
};
size_t sample_scratch_bytes(int n_rows, int n_vocab);

/* Philox4x32-10 (Salmon et al., SC 2011): four words for a counter and a key. */
void philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]);
/* A number in [0, 1) with 53 random bits: of the words w0, w1 for counter (index, 0, 0, 0) and
 * key (low, high), (w0 << 21 ^ w1 >> 11) / 2^53. */
double philox_unit(uint64_t key, uint32_t index);

/* Leaves the k first of order[n], by falling x, equals by id, in its first k places, sorted;
 * returns k, or n if that is less. x has no NaN. */
int sample_top(int32_t *order, int n, int k, const float *x);
/* The choice of sample_c for a given u. x: [n] adjusted logits; order: room for [n]. */
int32_t sample_choose(const float *x, int n, const struct bb_sample_params *p, double u,
	int32_t *order);
/* y[n] = x after penalties and bias. */
void sample_adjust(float *y, const float *x, int n, const struct bb_sample_params *p);

/* ---- mixtures of experts ---- */

enum {
	BB_MOE_EXPERTS = 1024, /* most experts of a layer */
	BB_MOE_USED = 32,      /* most that a row uses */
};

enum bb_moe_score {
	MOE_SOFTMAX,        /* over all experts: Mixtral (arXiv:2401.04088), Qwen3 */
	MOE_SOFTMAX_CHOSEN, /* over the chosen ones: gpt-oss */
	MOE_SIGMOID,        /* of each by itself: DeepSeek-V3 (arXiv:2412.19437) */
};

/* Chooses experts for each row, and lists the rows of each expert. A pair is a row and one of its
 * slots, numbered row * n_used + slot.
 *
 * Chosen are the n_used experts with the largest logit, or, with a bias (arXiv:2408.15664), those
 * with the largest score + bias; slots are in falling order, equals by lower index, +0 and -0 are
 * equals, NaN comes last. The weight is the score without bias; then, where it is normalised, w /
 * (sum of the row's w in slot order + 1e-20); then w * scale. Groups of experts, of which a few are
 * taken first (n_group of DeepSeek-V3), aren't covered.
 *
 * Here a rounding could send a row elsewhere, so this is defined to the bit, in f32, and every
 * variant gives these bits: score = e^(x - max) / sum or 1 / (1 + e^-x), as e / (1 + e) with e =
 * e^-|x| for x < 0. The sum over all experts is 32 sums, of experts i, i + 32, ... in order, joined
 * as i with i + 16, then 8, 4, 2, 1; over the chosen ones it is in slot order. e^x: x = n ln 2 + r,
 * Taylor's series of r up to r^7 / 7! by fmaf, see kernels/moe.c. A row's results depend on its own
 * logits alone. */
struct bb_moe_route {
	int32_t *experts;    /* [n_rows, n_used] */
	float *weights;      /* [n_rows, n_used] */
	int32_t *pairs;      /* [n_rows * n_used] by expert; those of one in rising order */
	int32_t *offsets;    /* [n_experts + 1]: pairs of expert e begin at offsets[e] */
	const float *logits; /* [n_rows, ld] */
	const float *bias;   /* [n_experts], or NULL; not with MOE_SOFTMAX_CHOSEN */
	int ld, n_rows, n_experts, n_used;
	enum bb_moe_score score;
	bool is_normalised;
	float scale;
};

/* A product in which each row of x meets the matrices of its experts; defined below. */
struct bb_grouped;

/* Functions of one number. */
enum bb_map {
	BB_MAP_COPY,
	BB_MAP_TANH,
	BB_MAP_SIGMOID,  /* 1 / (1 + e^-x) */
	BB_MAP_RELU2,    /* max(x, 0)^2 */
	BB_MAP_SILU,     /* x / (1 + e^-x) */
	BB_MAP_HALF,     /* x / 2 */
	BB_MAP_DECAY6,   /* exp(-e^x), RWKV-6's (arXiv:2404.05892, section 4) */
	BB_MAP_DECAY7,   /* exp(-e^-0.5 sigmoid(x)), RWKV-7's (arXiv:2503.14456, section 4) */
	BB_N_MAPS,
};

/* ---- the table ----
 *
 * embed       y[r, :] = scale * w[ids[r], :], w in its file format [n_vocab, n_cols]
 * rmsnorm     y = x / sqrt(mean(x^2) + eps) * w over each of n_groups groups of dim columns (group
 *             g of a row starts at column g * dim in x and y), arXiv:1910.07467; w [dim], NULL =
 *             ones; y may be x
 * layernorm   y = (x - mean(x)) / sqrt(mean((x - mean(x))^2) + eps) * w + b over groups as in
 *             rmsnorm, arXiv:1607.06450; w, b [dim], NULL = ones, zeros; y may be x
 * rope_table  cs[r, i, 0..1] = scale * (cos, sin)(pos[r] * inv_freq[i]), the angle in f64
 * rope        for each head, i < n_pairs: (a, b) = (x[i], x[i + n_pairs]) turned by cs[r, i]:
 *             a cos - b sin, a sin + b cos (arXiv:2104.09864, halves split); columns from
 *             2 n_pairs on are left alone
 * silu_mul    y = g / (1 + e^-g) * u (SwiGLU, arXiv:2002.05202)
 * gelu_mul    y = 0.5 g (1 + tanh(sqrt(2/pi) (g + 0.044715 g^3))) * u (GeGLU)
 * gelu_erf_mul y = 0.5 g (1 + erf(g / sqrt(2))) * u (arXiv:1606.08415)
 * sigmoid_mul y = u / (1 + e^-g) (output gates of LSTM cells, arXiv:2405.04517)
 * softcap     y = cap tanh(y / cap), cap above 0 (arXiv:2408.00118)
 * mul         y = a * b
 * add         y += scale * x, both rounded
 * map         y = f(x), f of enum bb_map; y may be x
 * lerp        y = from + (to - from) * by, y may be each of them; ld_by 0: one row for all
 * argmax      lowest index of the largest element; NaNs never win; index 0 when all are NaN
 * softmax     p[i] = exp(scale * (x[i] - max)) / sum, log_sum = log(sum of exp(scale * (x - max)));
 *             p may be NULL (only log_sum is wanted), p may be x
 * sample      as above
 * matmul_*    y[r, j] (+)= sum_k x[r, k] w[j, k] (+ bias[j]): float types in f32 along k in index
 *             order; block types int32-exact per scale group (32; Q6_K 16) of w and of the int8 x,
 *             then acc = fmaf(int, d_w * d_x, acc) [, acc = fmaf(min_w, sum_x, acc)] in block order
 *             (variants that need BB_LT: see gemm_fast in device.h)
 * attention_* as above
 * heads_matmul y[r, h, j] = bias[h, j] + sum_i x[r, h, i] w[h, i, j]: the dim columns of each head
 *             by a matrix of its own; w [n_heads, dim, dim], bias [n_heads, dim] or NULL; y isn't x
 *             (the gates of RG-LRU, arXiv:2402.19427, appendix A)
 * moe_route   as above
 * matmul_grouped as struct bb_grouped says
 * moe_combine y[r, i] (+)= sum_s weights[r, s] x[r * n_used + s, i], in slot order, every operation
 *             rounded; then + the old y
 *
 * state_pack  blocks of 32 floats in int8: scale = max|x| / 127, q = x * (127 / max|x|) rounded to
 *             nearest even; a block with what isn't finite gets a NaN as its scale. x lies at a
 *             multiple of 64 bytes
 * state_unpack x = q * scale
 *
 * On pages (struct bb_kv_runs and what stands by it). What is written lies in no page that is read,
 * unless said otherwise; slots and pages outside the runs are neither read nor written. No slab and
 * no bounds are written by two runs: pages that forks share are named once (kv_bounds), or copied
 * first (kv_rerotate).
 *
 * kv_copy     to[i][0..bytes) = from[i][0..bytes), i < n: pages or slabs, addresses and bytes
 *             multiples of 16
 * kv_quantise the values of the first n_tokens slots of slabs, appended to slabs of another type:
 *             what is stored has the bits that layout->append gives
 * kv_compact  token n_before + i of a run has the bits of token tokens[i] of its source;
 *             from_offsets[h]: where the slab of kv head h lies in the source's pages
 * kv_rerotate K of the runs' tokens turned in place as rope turns heads, token i by row row0 + i of
 *             cs [rows, n_pairs, 2], then stored anew. With cs from rope_table of scale 1 at new
 *             position - old position it is K at the new position: rotations of one plane add up
 *             (arXiv:2104.09864), and a scale on attention is in K already. What is
 *             turned are the stored values, and what comes out is rounded to the KV type once more:
 *             half a unit of the last place for floats; for int8, whose values are dequantised in
 *             f32, the group gets a new scale and each value an error of half of it at most
 * kv_bounds   the bounds of every page that holds a token of a run, over all its slots up to the
 *             run's end, at bounds[h] (a multiple of 16) from the page's address, of the stored
 *             values (int8: u * scale in f32). Exact: every variant gives the same bits, zeros are
 *             +0, and a channel with a NaN in it has two NaNs
 * kv_score    for each page that holds a token of a run and each kv head: the largest over its
 *             query heads of sum_c max(q[c] least[c], q[c] largest[c]), which no q . k of the page
 *             exceeds but by rounding (Quest, arXiv:2406.10774; the largest of a group's heads, as
 *             they share pages). Where a sum is NaN it counts as INFINITY: scores can be ordered,
 *             and what is damaged is looked at. kv_heads are of one layer: head h looks at kv head
 *             h / (n_heads / n_kv_heads)
 * kv_norms    k_norms[h, row0 + i] = sqrt(sum_c k[c]^2) of token i of a run, v_norms likewise, in
 *             arrays [n_kv_heads, ld], either of which may be NULL; a NaN counts as INFINITY. Small
 *             norms of K are kept by arXiv:2406.11430. A device sums in f32, where norms above 2^64
 *             are INFINITY and those below 2^-75 may be 0 */

#define KERNEL(name, args) typedef void name##_fn args;
#define VARIANT(name, tag, needs, layout) name##_fn name##_##tag;
#define GPU_VARIANT VARIANT
#include "kernels.def"
#undef KERNEL
#undef VARIANT

typedef matmul_f32_fn matmul_fn;
typedef attention_f32_fn attention_fn;

/* y[p, j] = sum_k x[row, k] w[expert, j, k] (+ bias[expert, j]) for the pairs p of a routing, with
 * the bits that the plain product of the type gives that row alone. Experts without rows aren't
 * read. Any routing does whose experts are different ones in each row. cuBLASLt takes no part.
 *
 * On the CPU it is the plain product once for each expert, of rows that are gathered before and
 * dealt out after: one code for all ISA levels and types. Prepared rows stand in tiles there, so
 * that no choice of rows could be picked out of an x that was prepared whole; and an expert's
 * matrix is far larger than what the gathering moves. A device picks rows inside of one launch,
 * whose grid doesn't depend on the routing, so that it can be captured. */
struct bb_grouped {
	float *y;             /* [n_rows * n_used, ld_y] */
	const void *w;        /* [n_experts] matrices [n, k] in layout, weight_bytes each */
	const float *x;       /* [n_rows, ld_x]; with has_x_of_pairs [n_rows * n_used, ld_x] */
	/* on a device: the same by the layout's prep or prep_fused, less than BB_LT_ROWS rows at a time
	 * where the layout has another form for more (see prep); or NULL */
	const void *prepared;
	const float *bias;    /* [n_experts, n], or NULL */
	const int32_t *experts, *pairs, *offsets; /* as in bb_moe_route */
	int ld_y, ld_x, n_rows, n_used, n_experts, n, k;
	bool has_x_of_pairs;
	enum bb_dtype type;
	matmul_fn *matmul;    /* with its layout what kernels_matmul says of the type */
	const struct bb_layout *layout;
	void *scratch;        /* [matmul_grouped_scratch_bytes], 64-byte aligned */
};
/* Enough for any routing of at most a->n_rows rows, on the CPU and on a device. Reads a's sizes,
 * type and layout. */
size_t matmul_grouped_scratch_bytes(const struct bb_grouped *a);

/* Bytes of n floats of a state in int8: q [ceil(n / 32), 32], then scales [ceil(n / 32)] in f32;
 * a multiple of 64. */
size_t state_packed_bytes(size_t n);

struct bb_kernels {
#define KERNEL(name, args) \
	name##_fn *name; \
	const void *name##_layout; /* struct bb_layout or struct bb_kv_layout, or NULL */
#define VARIANT(name, tag, needs, layout)
#include "kernels.def"
#undef KERNEL
#undef VARIANT
	unsigned flags; /* of the CPU; of a device: its compute capability times ten */
};

struct bb_variant {
	const char *kernel, *tag;
	void (*fn)(void);
	unsigned needs;
	const char *layout_name; /* "none" when it has none */
	const void *layout;
};
extern const struct bb_variant bb_variants[]; /* ends with a NULL kernel */
/* Those of the device modules, by name: fn and layout are NULL here. Ends with a NULL kernel. */
extern const struct bb_variant bb_gpu_variants[];

/* The best variants that `flags` allow. */
void bb_kernels_cpu(struct bb_kernels *k, unsigned flags);
/* The matmul of a weight type with its layout; NULL for a type without one. */
matmul_fn *kernels_matmul(const struct bb_kernels *k, enum bb_dtype type,
	const struct bb_layout **layout);
attention_fn *kernels_attention(const struct bb_kernels *k, enum bb_kv_dtype type,
	const struct bb_kv_layout **layout);

/* What this CPU has. */
unsigned cpu_flags(void);
/* Named ISA levels, lowest first. */
#define BB_ISAS(X) \
	X(c, 0) \
	X(avx2, BB_AVX2) \
	X(avx_vnni, BB_AVX2 | BB_AVX_VNNI) \
	X(avx512, BB_AVX2 | BB_AVX512) \
	X(avx512_vnni, BB_AVX2 | BB_AVX512 | BB_AVX512_VNNI) \
	X(avx512_bf16, BB_AVX2 | BB_AVX512 | BB_AVX512_VNNI | BB_AVX512_BF16)
struct bb_isa {
	const char *name;
	unsigned flags; /* everything a variant may use at this level */
};
extern const struct bb_isa bb_isas[]; /* ends with a NULL name */
const char *cpu_name(char *buf, size_t bytes);
/* CPUs that this process may run on; at least 1. */
int cpu_count(void);
/* Bytes per second that the queue's threads read from a buffer of `bytes` (larger than the caches:
 * from memory), the best of several passes; 0 when there is no such buffer. Takes about a
 * second. */
double cpu_read_bandwidth(bb_queue *q, size_t bytes);

/* "none", and the layouts; a new one is a line here and a definition beside its kernels. */
extern const struct bb_layout layout_rows, layout_rows_q8, layout_p16_avx2, layout_p16_avx512,
	layout_p16_pairs;
extern const struct bb_kv_layout layout_kv_rows, layout_kv_lanes, layout_kv_pairs;
/* A device's, on copies in the host's memory. */
extern const struct bb_kv_layout layout_kv_padded_rows;

#ifdef __cplusplus
}
#endif

#endif
