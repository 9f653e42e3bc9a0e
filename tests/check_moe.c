/* SPDX-License-Identifier: Apache-2.0
 *
 * Checks of mixtures of experts. Routing and joining have the bits of the reference everywhere, and
 * are held against double here; grouped products are held against the plain product of each row
 * alone, to the bit, on a device or on every ISA level of this CPU. */
#include "check_weights.h"

#include <math.h>
#include <string.h>

/* ---- moe_route ---- */

enum logits_kind { ORDINARY, TIED, SIGNED_ZEROS, WIDE, WITH_NAN, N_KINDS };

static float draw_logit(struct check *c, float x, enum logits_kind kind) {
	switch (kind) {
	case TIED:
		return (float)check_rand(c, -1, 1);
	case SIGNED_ZEROS:
		return check_rand(c, 0, 1) ? 0.0f : -0.0f;
	case WIDE:
		return check_rand(c, 0, 9) == 0 ? -INFINITY : x * 60;
	case WITH_NAN:
		return check_rand(c, 0, 1) ? NAN : x;
	default:
		return x * 2;
	}
}

/* An expert's score in double. */
static double score_in_double(const struct bb_moe_route *a, const float *x, int expert) {
	double sum = 0;
	if (a->score == MOE_SIGMOID) {
		return 1 / (1 + exp(-(double)x[expert]));
	}
	if (x[expert] == -INFINITY) {
		return 0;
	}
	for (int i = 0; i < a->n_experts; i++) {
		sum += exp((double)x[i] - (double)x[expert]);
	}
	return 1 / sum;
}

/* A NaN is chosen when nothing else is left, in the order of experts. */
static void check_nans_last(struct check *c, const struct bb_moe_route *a, int row) {
	const float *x = a->logits + (size_t)row * (size_t)a->ld;
	const int32_t *chosen = a->experts + (size_t)row * (size_t)a->n_used;
	int n_numbers = 0;
	for (int e = 0; e < a->n_experts; e++) {
		n_numbers += !isnan(x[e]);
	}
	for (int s = 0; s < a->n_used; s++) {
		const bool is_nan = isnan(x[chosen[s]]);
		if (is_nan != (s >= n_numbers) ||
				(is_nan && s > n_numbers && chosen[s] < chosen[s - 1])) {
			check_fail(c, "row %d, slot %d: expert %d, where %d logits are numbers", row, s,
				chosen[s], n_numbers);
		}
	}
}

/* Slots in falling order, none of the others before the last one; weights by their formula. With a
 * bias the order is of scores that f32 rounded. */
static void check_choice(struct check *c, const struct bb_moe_route *a, int row) {
	const float *x = a->logits + (size_t)row * a->ld;
	const int32_t *chosen = a->experts + (size_t)row * a->n_used;
	double keys[BB_MOE_EXPERTS], weights[BB_MOE_USED], sum = 0, chosen_sum = 0;
	bool is_chosen[BB_MOE_EXPERTS] = { false };
	for (int i = 0; i < a->n_experts; i++) {
		keys[i] = a->bias != NULL ? score_in_double(a, x, i) + (double)a->bias[i] : (double)x[i];
	}
	const double slack = a->bias != NULL ? 2e-6 : 0;
	for (int s = 0; s < a->n_used; s++) {
		const int e = chosen[s], before = s > 0 ? chosen[s - 1] : -1;
		if (e < 0 || e >= a->n_experts || is_chosen[e]) {
			check_fail(c, "row %d: slot %d has expert %d, out of range or twice", row, s, e);
			return;
		}
		if (s > 0 && (keys[e] > keys[before] + slack
			|| (a->bias == NULL && keys[e] == keys[before] && e < before))) {
			check_fail(c, "row %d: slot %d comes before slot %d", row, s, s - 1);
		}
		is_chosen[e] = true;
		weights[s] = score_in_double(a, x, e);
		chosen_sum += exp((double)x[e] - (double)x[chosen[0]]);
	}
	const int last = chosen[a->n_used - 1];
	for (int i = 0; i < a->n_experts; i++) {
		if (!is_chosen[i] && (keys[i] > keys[last] + slack
			|| (a->bias == NULL && keys[i] == keys[last] && i < last))) {
			check_fail(c, "row %d: expert %d was passed over", row, i);
		}
	}
	for (int s = 0; s < a->n_used; s++) {
		if (a->score == MOE_SOFTMAX_CHOSEN) {
			weights[s] = exp((double)x[chosen[s]] - (double)x[chosen[0]]) / chosen_sum;
		}
		sum += weights[s];
	}
	for (int s = 0; s < a->n_used; s++) {
		const double want = (double)a->scale
			* (a->is_normalised ? weights[s] / (sum + 1e-20) : weights[s]);
		const double got = (double)a->weights[(size_t)row * a->n_used + s];
		/* what e^(x - max) has of the rounding of x - max */
		const double below = fmin((double)x[chosen[0]] - (double)x[chosen[s]], 1000);
		if (!(fabs(got - want) <= (2e-6 + 1e-7 * below) * want + 1e-37)) {
			check_fail(c, "row %d: weight %d is %g, in double %g", row, s, got, want);
		}
	}
}

/* Each pair once, under its expert, in rising order. */
static void check_lists(struct check *c, const struct bb_moe_route *a) {
	const int n_pairs = a->n_rows * a->n_used;
	if (a->offsets[0] != 0 || a->offsets[a->n_experts] != n_pairs) {
		check_fail(c, "offsets go from %d to %d, not to %d", a->offsets[0],
			a->offsets[a->n_experts], n_pairs);
		return;
	}
	for (int e = 0; e < a->n_experts; e++) {
		const int begin = a->offsets[e], end = a->offsets[e + 1];
		if (begin > end || end > n_pairs) {
			check_fail(c, "expert %d: pairs %d to %d", e, begin, end);
			return;
		}
		for (int i = begin; i < end; i++) {
			const int pair = a->pairs[i];
			if (pair < 0 || pair >= n_pairs || a->experts[pair] != e
				|| (i > begin && pair <= a->pairs[i - 1])) {
				check_fail(c, "expert %d: pair %d at %d", e, pair, i);
				return;
			}
		}
	}
}

/* Each row alone must have the bits that it has among others. */
static void check_rows_alone(struct check *c, moe_route_fn *fn, const struct bb_moe_route *a) {
	struct bb_moe_route alone = *a;
	const size_t bytes = sizeof(float) * (size_t)a->n_used;
	alone.experts = check_scratch(c, bytes, 4);
	alone.weights = check_scratch(c, bytes, 4);
	alone.pairs = check_scratch(c, bytes, 4);
	alone.offsets = check_scratch(c, sizeof(int32_t) * ((size_t)a->n_experts + 1), 4);
	alone.n_rows = 1;
	for (int r = 0; r < a->n_rows; r += 1 + a->n_rows / 8) {
		alone.logits = a->logits + (size_t)r * a->ld;
		fn(check_queue_alone(c), &alone);
		check_same(c, "experts alone", alone.experts, a->experts + (size_t)r * a->n_used, bytes);
		check_same(c, "weights alone", alone.weights, a->weights + (size_t)r * a->n_used, bytes);
	}
}

static void check_route(struct check *c, moe_route_fn *fn, int n_rows, int n_experts, int n_used,
	enum bb_moe_score score, enum logits_kind kind) {
	const bool has_bias = score != MOE_SOFTMAX_CHOSEN && kind == ORDINARY && check_rand(c, 0, 1);
	const int ld = n_experts + check_rand(c, 0, 3);
	float *logits = check_in(c, (size_t)n_rows * (size_t)ld);
	float *bias = has_bias ? check_in(c, (size_t)n_experts) : NULL;
	for (int i = 0; i < n_rows * ld; i++) {
		logits[i] = draw_logit(c, logits[i], kind);
	}
	for (int i = 0; i < n_rows && kind == WIDE; i++) {
		logits[i * ld] = 80; /* one of each row isn't -inf */
	}
	for (int i = 0; has_bias && i < n_experts; i++) {
		bias[i] *= 0.1f;
	}
	const size_t n_pairs = (size_t)n_rows * (size_t)n_used;
	const struct bb_moe_route a = {
		.experts = check_out_i32(c, "experts", n_pairs),
		.weights = check_out(c, "weights", n_pairs, (struct tol){ 0 }),
		.pairs = check_out_i32(c, "pairs", n_pairs),
		.offsets = check_out_i32(c, "offsets", (size_t)n_experts + 1),
		.logits = logits, .bias = bias, .ld = ld, .n_rows = n_rows, .n_experts = n_experts,
		.n_used = n_used, .score = score, .is_normalised = check_rand(c, 0, 1),
		.scale = check_rand(c, 0, 1) ? 1.0f : 2.5f,
	};
	while (check_next(c, 4.0 * n_rows * n_experts + 16.0 * (double)n_pairs,
		"rows=%d experts=%d used=%d score=%d logits=%d%s%s", n_rows, n_experts, n_used,
		(int)score, (int)kind, has_bias ? " bias" : "", a.is_normalised ? " normalised" : "")) {
		fn(check_queue(c), &a);
	}
	if (!check_is_bench(c)) {
		check_lists(c, &a);
		for (int r = 0; kind == WITH_NAN && r < n_rows; r++) {
			check_nans_last(c, &a, r);
		}
		for (int r = 0; r < n_rows && kind != WITH_NAN; r++) {
			check_choice(c, &a, r);
		}
		check_rows_alone(c, fn, &a);
	}
}

/* Qwen3-30B-A3B, and DeepSeek-V3 without its groups. */
static void bench_route(struct check *c, moe_route_fn *fn) {
	static const int counts[] = { 1, 8, 64, 512 };
	for (size_t i = 0; i < COUNT(counts); i++) {
		const int n_rows = check_shrunk(c, counts[i]);
		check_route(c, fn, n_rows, 128, 8, MOE_SOFTMAX, ORDINARY);
		check_route(c, fn, n_rows, 256, 8, MOE_SIGMOID, ORDINARY);
	}
}

CHECK(moe_route) {
	static const struct {
		int n_experts, n_used;
	} layers[] = { { 1, 1 }, { 8, 2 }, { 32, 4 }, { 60, 4 }, { 128, 8 }, { 33, 32 }, { 512, 10 },
		{ BB_MOE_EXPERTS, 22 } };
	static const int counts[] = { 1, 3, 8, 9, 40 };
	if (check_is_bench(c)) {
		bench_route(c, fn);
		return;
	}
	for (size_t i = 0; i < COUNT(layers); i++) {
		for (size_t j = 0; j < COUNT(counts); j += check_is_least(c) ? 2 : 1) {
			check_route(c, fn, counts[j], layers[i].n_experts, layers[i].n_used,
				(enum bb_moe_score)check_rand(c, 0, 2), (enum logits_kind)((i + j) % N_KINDS));
		}
	}
	check_route(c, fn, 700, 64, 6, MOE_SOFTMAX, ORDINARY); /* warps with stretches of their own */
}

/* ---- matmul_grouped ---- */

struct grouped_shape {
	int n_rows, n_experts, n_used, n, k;
	bool has_bias, has_x_of_pairs;
};

/* Experts for each row, a few of which most rows want, and lists of their rows. */
static void make_routing(struct check *c, struct bb_grouped *a, int32_t *experts, int32_t *pairs,
	int32_t *offsets) {
	const size_t n_logits = (size_t)a->n_rows * (size_t)a->n_experts;
	float *logits = check_in(c, n_logits);
	for (size_t i = 0; i < n_logits; i++) {
		logits[i] -= (float)(i % (size_t)a->n_experts) * 0.3f;
	}
	const struct bb_moe_route route = {
		.experts = experts, .pairs = pairs, .offsets = offsets,
		.weights = check_scratch(c, sizeof(float) * (size_t)a->n_rows * (size_t)a->n_used, 4),
		.logits = logits, .ld = a->n_experts, .n_rows = a->n_rows, .n_experts = a->n_experts,
		.n_used = a->n_used, .score = MOE_SOFTMAX, .scale = 1,
	};
	moe_route_c(NULL, &route);
	a->experts = experts;
	a->pairs = pairs;
	a->offsets = offsets;
}

/* The matrices of all experts, one packed behind the other. */
static void *pack_experts(struct check *c, const struct bb_grouped *a, const uint8_t *w) {
	const size_t packed_bytes = a->layout->weight_bytes(a->type, a->n, a->k);
	const size_t bytes = dtype_row_bytes(a->type, a->k) * (size_t)a->n;
	uint8_t *packed = check_scratch(c, packed_bytes * (size_t)a->n_experts, 64);
	for (int e = 0; e < a->n_experts; e++) {
		a->layout->pack(check_queue_alone(c), packed + (size_t)e * packed_bytes, a->type, a->n,
			a->k, w + (size_t)e * bytes, 0, a->n, NULL);
	}
	check_wait(c);
	return packed;
}

/* y against the plain product of each pair's row alone. */
static void check_pairs(struct check *c, const struct bb_grouped *a) {
	const size_t packed_bytes = a->layout->weight_bytes(a->type, a->n, a->k);
	void *prepared = check_scratch(c, a->layout->prep_bytes(a->type, 1, a->k), 4);
	float *alone = check_scratch(c, sizeof(float) * (size_t)a->n, 4);
	for (int p = 0; p < a->n_rows * a->n_used; p++) {
		const int row = a->has_x_of_pairs ? p : p / a->n_used, e = a->experts[p];
		a->layout->prep(check_queue_alone(c), prepared, a->type, a->x + (size_t)row * a->ld_x,
			a->ld_x, 1, a->k);
		a->matmul(check_queue_alone(c), alone, a->n,
			(const uint8_t *)a->w + (size_t)e * packed_bytes, prepared,
			a->bias != NULL ? a->bias + (size_t)e * a->n : NULL, 1, a->n, a->k, false);
		check_same(c, "row alone", a->y + (size_t)p * a->ld_y, alone,
			sizeof(float) * (size_t)a->n);
	}
}

/* The same product with all other kernels that this CPU has for the type. */
static void check_levels(struct check *c, matmul_grouped_fn *fn, const struct bb_grouped *want,
	const uint8_t *w) {
	struct bb_grouped a = *want;
	const size_t n_y = (size_t)a.n_rows * (size_t)a.n_used * (size_t)a.ld_y;
	a.y = check_scratch(c, n_y * sizeof(float), 4);
	for (const struct bb_isa *isa = bb_isas; isa->name != NULL; isa++) {
		struct bb_kernels k;
		check_kernels(c, &k, isa->flags & cpu_flags());
		matmul_fn *matmul = kernels_matmul(&k, a.type, &a.layout);
		if (matmul != a.matmul) {
			a.matmul = matmul;
			a.w = pack_experts(c, &a, w);
			a.scratch = check_scratch(c, matmul_grouped_scratch_bytes(&a), 64);
			fn(check_queue(c), &a);
			check_pairs(c, &a);
		}
	}
}

/* On a device: x prepared by the caller. */
static void check_prepared(struct check *c, matmul_grouped_fn *fn, const struct bb_grouped *want) {
	struct bb_grouped a = *want;
	const int n_x = a.has_x_of_pairs ? a.n_rows * a.n_used : a.n_rows;
	const size_t row_bytes = a.layout->prep_bytes(a.type, 1, a.k);
	uint8_t *prepared = check_scratch(c, row_bytes * (size_t)n_x, 16);
	const size_t n_y = (size_t)a.n_rows * (size_t)a.n_used * (size_t)a.ld_y;
	a.y = check_scratch(c, n_y * sizeof(float), 4);
	memcpy(a.y, want->y, n_y * sizeof(float));
	for (int p = 0; p < a.n_rows * a.n_used; p++) {
		memset(a.y + (size_t)p * a.ld_y, 0x5a, sizeof(float) * (size_t)a.n);
	}
	const bool has_two_forms = strcmp(a.layout->name, "panels_lt") == 0
		|| strncmp(a.layout->name, "panels_wgmma", 12) == 0;
	const int most = has_two_forms ? BB_LT_ROWS / 2 : n_x;
	for (int first = 0; first < n_x; first += most) {
		const int n = n_x - first < most ? n_x - first : most;
		a.layout->prep(check_queue(c), prepared + row_bytes * (size_t)first, a.type,
			a.x + (size_t)first * a.ld_x, a.ld_x, n, a.k);
	}
	a.prepared = prepared;
	a.x = NULL;
	a.scratch = NULL;
	fn(check_queue(c), &a);
	check_same(c, "y of a prepared x", a.y, want->y, n_y * sizeof(float));
}

static int n_experts_with_rows(const struct bb_grouped *a) {
	int n = 0;
	for (int e = 0; e < a->n_experts; e++) {
		n += a->offsets[e + 1] > a->offsets[e];
	}
	return n;
}

static void check_grouped(struct check *c, matmul_grouped_fn *fn, enum bb_dtype type,
	struct grouped_shape s) {
	const bool is_bench = check_is_bench(c), is_float = dtype_block_elems(type) == 1;
	const int n_pairs = s.n_rows * s.n_used, n_x = s.has_x_of_pairs ? n_pairs : s.n_rows;
	struct bb_kernels k;
	struct bb_grouped a = { .ld_y = s.n + (is_bench ? 0 : 2), .ld_x = s.k + (is_bench ? 0 : 3),
		.n_rows = s.n_rows, .n_used = s.n_used, .n_experts = s.n_experts, .n = s.n, .k = s.k,
		.has_x_of_pairs = s.has_x_of_pairs, .type = type };
	check_kernels(c, &k, is_bench ? cpu_flags() : 0);
	a.matmul = kernels_matmul(&k, type, &a.layout);
	int32_t *experts = check_in_bytes(c, 4 * (size_t)n_pairs, 4);
	int32_t *pairs = check_in_bytes(c, 4 * (size_t)n_pairs, 4);
	int32_t *offsets = check_in_bytes(c, 4 * ((size_t)s.n_experts + 1), 4);
	make_routing(c, &a, experts, pairs, offsets);
	const uint8_t *w = check_weights(c, type, s.n_experts * s.n, s.k, false);
	a.x = check_x(c, n_x, a.ld_x, false);
	a.bias = s.has_bias ? check_in(c, (size_t)s.n_experts * (size_t)s.n) : NULL;
	const float rounding = type == BB_BF16 ? 0.02f : 1e-5f; /* as in check_matmul.c */
	const struct tol tol = { .rel = is_float ? rounding : 0.0f,
		.abs = is_float ? rounding * 1e4f * sqrtf((float)s.k) : 0.0f };
	a.y = check_out(c, "y", (size_t)n_pairs * (size_t)a.ld_y, tol);
	a.w = pack_experts(c, &a, w);
	a.scratch = check_scratch(c, matmul_grouped_scratch_bytes(&a), 64);
	check_ops(c, 2.0 * n_pairs * s.n * s.k);
	const double bytes = (double)a.layout->weight_bytes(type, s.n, s.k) * n_experts_with_rows(&a);
	while (check_next(c, bytes, "%s rows=%d experts=%d used=%d n=%d k=%d%s%s", dtype_name(type),
		s.n_rows, s.n_experts, s.n_used, s.n, s.k, s.has_bias ? " bias" : "",
		s.has_x_of_pairs ? " of pairs" : "")) {
		fn(check_queue(c), &a);
	}
	if (is_bench) {
		return;
	}
	check_pairs(c, &a);
	if (check_queue_alone(c) != NULL) {
		check_prepared(c, fn, &a);
	} else {
		check_levels(c, fn, &a, w);
	}
}

/* Gate and up at once, and down, of Qwen3-30B-A3B; the CPU gets a quarter of the experts. */
static void bench_grouped(struct check *c, matmul_grouped_fn *fn) {
	static const enum bb_dtype types[] = { BB_Q8_0, BB_Q4_K, BB_BF16 };
	static const int counts[] = { 1, 8, 64, 512 };
	const bool is_device = check_is_device_bench(c);
	const int n_experts = is_device ? check_shrunk(c, 128) : 32;
	const int n_used = n_experts < 8 ? n_experts : 8;
	for (size_t t = 0; t < COUNT(types); t++) {
		for (size_t i = 0; i < (is_device ? COUNT(counts) : 3); i++) {
			const int n_rows = check_shrunk(c, counts[i]);
			check_grouped(c, fn, types[t], (struct grouped_shape){ n_rows, n_experts, n_used,
				check_shrunk(c, 1536), (check_shrunk(c, 2048) + 255) / 256 * 256 });
			check_grouped(c, fn, types[t], (struct grouped_shape){ n_rows, n_experts, n_used,
				check_shrunk(c, 2048), (check_shrunk(c, 768) + 255) / 256 * 256,
				.has_x_of_pairs = true });
		}
	}
}

CHECK(matmul_grouped) {
	static const enum bb_dtype types[] = { BB_F32, BB_F16, BB_BF16, BB_Q8_0, BB_Q4_0, BB_Q4_1,
		BB_Q5_0, BB_Q5_1, BB_Q4_K, BB_Q5_K, BB_Q6_K };
	/* One row; up to 8; more than 8 rows with tiles of 8, 16, 32 and 64 rows; one expert. */
	static const struct grouped_shape shapes[] = {
		{ 1, 9, 3, 40, 0, true, false }, { 1, 40, 8, 33, 0, false, true },
		{ 2, 5, 2, 17, 0, false, false }, { 7, 70, 6, 31, 0, true, true },
		{ 20, 7, 2, 33, 0, true, false }, { 30, 5, 2, 50, 0, false, true },
		{ 40, 5, 2, 65, 0, true, false }, { 70, 3, 2, 70, 0, false, false },
		{ 9, 1, 1, 40, 0, false, true } };
	if (check_is_bench(c)) {
		bench_grouped(c, fn);
		return;
	}
	for (size_t t = 0; t < COUNT(types); t++) {
		const int unit = dtype_block_elems(types[t]) == 1 ? 9 : dtype_block_elems(types[t]);
		for (size_t i = 0; i < COUNT(shapes); i += check_is_small(c) ? 3 : 1) {
			struct grouped_shape s = shapes[i];
			s.k = unit * check_rand(c, 1, unit > 32 ? 3 : check_is_small(c) ? 2 : 12);
			check_grouped(c, fn, types[t], s);
		}
	}
}

/* ---- moe_combine ---- */

static void check_combine(struct check *c, moe_combine_fn *fn, int n_rows, int n_used, int dim,
	int padding) {
	const int ld_x = dim + padding, ld_y = dim + padding;
	const bool accumulates = check_rand(c, 0, 1);
	const float *x = check_in(c, (size_t)n_rows * (size_t)n_used * (size_t)ld_x);
	const float *weights = check_in(c, (size_t)n_rows * (size_t)n_used);
	float *y = check_inout(c, "y", (size_t)n_rows * (size_t)ld_y, (struct tol){ 0 });
	const float first = y[0];
	check_ops(c, 2.0 * n_rows * n_used * dim);
	while (check_next(c, 4.0 * n_rows * dim * (n_used + 1), "rows=%d used=%d dim=%d%s", n_rows,
		n_used, dim, accumulates ? " accumulate" : "")) {
		fn(check_queue(c), y, ld_y, x, ld_x, weights, n_rows, n_used, dim, accumulates);
	}
	double sum = 0, size = fabs((double)first);
	for (int s = 0; s < n_used; s++) {
		sum += (double)weights[s] * (double)x[(size_t)s * (size_t)ld_x];
		size += fabs((double)weights[s] * (double)x[(size_t)s * (size_t)ld_x]);
	}
	sum += accumulates ? (double)first : 0;
	check_wait(c);
	if (!check_is_bench(c) && !(fabs((double)y[0] - sum) <= 2e-6 * size)) {
		check_fail(c, "y[0] is %g, in double %g", (double)y[0], sum);
	}
}

CHECK(moe_combine) {
	static const int dims[] = { 1, 4, 7, 64, 513, 2048 };
	if (check_is_bench(c)) {
		for (int n_rows = 1; n_rows <= 512; n_rows *= 8) {
			check_combine(c, fn, check_shrunk(c, n_rows), 8, 2048, 0);
		}
		return;
	}
	for (size_t i = 0; i < COUNT(dims); i++) {
		for (int n_used = 1; n_used <= BB_MOE_USED; n_used = n_used * 2 + 1) {
			check_combine(c, fn, check_rand(c, 1, 9), n_used, dims[i], check_rand(c, 0, 3));
		}
	}
}
