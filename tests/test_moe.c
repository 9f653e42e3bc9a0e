/* SPDX-License-Identifier: Apache-2.0
 *
 * Mixtures of experts on the emulator: what a grouped product reads, counted by the checker, and
 * that a captured layer follows its routing. The bits are checkkernels' matter. */
#include "device.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { N_EXPERTS = 24, N_USED = 3, MAX_ROWS = 40, N = 96, K = 512, SECTOR = 32 };

static struct device device;
static const struct bb_module *m;
static bb_queue *q;
static struct bb_kernels kernels;
static char text[512];

static void setup(void) {
	cr_assert(device_open(&device, "simt_check", 0, text, sizeof(text)), "%s", text);
	m = device.module;
	q = m->queue_create(device.d);
	m->kernels(device.d, &kernels);
}

static void teardown(void) {
	cr_expect_eq(m->findings(text, sizeof(text)), 0, "%s", text);
	m->queue_destroy(q);
	device_close(&device);
}

static void *device_bytes(size_t bytes) {
	void *p = m->alloc(device.d, bytes, text, sizeof(text));
	cr_assert_not_null(p, "%s", text);
	return p;
}

static void *copied_in(const void *host, size_t bytes) {
	void *p = device_bytes(bytes);
	m->copy_in(q, p, host, bytes);
	return p;
}

static void wait_for_device(void) {
	cr_assert(m->wait(q, text, sizeof(text)), "%s", text);
}

/* Numbers in [-1, 1) that differ from place to place. */
static float number(uint32_t i) {
	return (float)((i * 2654435761u) >> 8) * 0x1p-23f - 1;
}

/* A layer's product of zeros, and its routing. */
struct layer {
	struct bb_grouped a;
	int32_t experts[MAX_ROWS * N_USED], pairs[MAX_ROWS * N_USED], offsets[N_EXPERTS + 1];
	size_t expert_bytes, x_row_bytes;
	int n_used_experts;
};

/* Rows never choose the experts from half of them on: their weights aren't even written. */
static void route_on_host(struct layer *l, int n_rows) {
	float logits[MAX_ROWS * N_EXPERTS], weights[MAX_ROWS * N_USED];
	for (int i = 0; i < n_rows * N_EXPERTS; i++) {
		logits[i] = i % N_EXPERTS < N_EXPERTS / 2 ? number((uint32_t)i) : -9;
	}
	const struct bb_moe_route route = { l->experts, weights, l->pairs, l->offsets, logits, NULL,
		N_EXPERTS, n_rows, N_EXPERTS, N_USED, MOE_SOFTMAX, false, 1 };
	moe_route_c(NULL, &route);
}

static void make_layer(struct layer *l, enum bb_dtype type, int n_rows) {
	memset(l, 0, sizeof(*l));
	struct bb_grouped *a = &l->a;
	*a = (struct bb_grouped){ .ld_y = N, .ld_x = K, .n_rows = n_rows, .n_used = N_USED,
		.n_experts = N_EXPERTS, .n = N, .k = K, .type = type };
	a->matmul = kernels_matmul(&kernels, type, &a->layout);
	l->expert_bytes = a->layout->weight_bytes(type, N, K);
	l->x_row_bytes = a->layout->prep_bytes(type, 1, K);
	route_on_host(l, n_rows);
	uint8_t *w = device_bytes(l->expert_bytes * N_EXPERTS);
	for (int e = 0; e < N_EXPERTS; e++) {
		if (l->offsets[e + 1] > l->offsets[e]) {
			m->fill(q, w + (size_t)e * l->expert_bytes, 0, l->expert_bytes);
			l->n_used_experts++;
		}
	}
	float *x = device_bytes((size_t)n_rows * K * sizeof(float));
	m->fill(q, x, 0, (size_t)n_rows * K * sizeof(float));
	a->w = w;
	a->x = x;
	a->y = device_bytes((size_t)n_rows * N_USED * N * sizeof(float));
	a->experts = copied_in(l->experts, sizeof(l->experts));
	a->pairs = copied_in(l->pairs, sizeof(l->pairs));
	a->offsets = copied_in(l->offsets, sizeof(l->offsets));
	a->scratch = device_bytes(matmul_grouped_scratch_bytes(a));
}

/* The launch of the product itself. */
static struct bb_launch count_product(const struct layer *l) {
	enum { MOST = 8 };
	static struct bb_launch launches[MOST];
	wait_for_device();
	m->launches(launches, 0); /* forget what came before */
	kernels.matmul_grouped(q, &l->a);
	wait_for_device();
	const int n = m->launches(launches, MOST);
	cr_assert_eq(n, 2, "the preparation of x and the product, not %d launches", n);
	cr_assert_not_null(strstr(launches[1].kernel, "matmul_grouped"), "%s", launches[1].kernel);
	return launches[1];
}

/* ---- what is read ---- */

static const struct {
	enum bb_dtype type;
	int n_rows;
} cases[] = { { BB_Q8_0, 1 }, { BB_Q8_0, 8 }, { BB_Q8_0, 40 }, { BB_Q4_K, 1 }, { BB_Q4_K, 7 },
	{ BB_Q6_K, 2 }, { BB_BF16, 1 }, { BB_BF16, 16 }, { BB_F32, 1 }, { BB_F32, 5 } };

Test(moe, only_experts_with_rows_are_read, .init = setup, .fini = teardown) {
	static struct layer l;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		make_layer(&l, cases[i].type, cases[i].n_rows);
		cr_assert(l.n_used_experts >= N_USED && l.n_used_experts <= N_EXPERTS / 2);
		const struct bb_launch launch = count_product(&l);
		const size_t weights = l.expert_bytes * (size_t)l.n_used_experts;
		const size_t x = l.x_row_bytes * (size_t)l.a.n_rows;
		const size_t lists = sizeof(l.experts) + sizeof(l.pairs) + sizeof(l.offsets) + 3 * SECTOR;
		cr_expect(launch.new_read_bytes >= weights + x
			&& launch.new_read_bytes <= weights + x + lists,
			"%s, %d rows: %llu bytes, want %zu of weights and %zu of x", dtype_name(l.a.type),
			l.a.n_rows, (unsigned long long)launch.new_read_bytes, weights, x);
		cr_expect_eq(m->findings(text, sizeof(text)), 0, "%s", text);
	}
}

/* Where an expert has no more rows than a tile, each of its bytes is asked for once: beside x,
 * which every block of columns asks for, and the lists. */
Test(moe, weights_are_read_once_for_up_to_8_rows, .init = setup, .fini = teardown) {
	static struct layer l;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		if (cases[i].n_rows > 8) {
			continue;
		}
		make_layer(&l, cases[i].type, cases[i].n_rows);
		const struct bb_launch launch = count_product(&l);
		const size_t weights = l.expert_bytes * (size_t)l.n_used_experts;
		/* rows of a tile; f32 asks for 16 bytes of a sector */
		const size_t rows = (l.a.n_rows == 1 ? 1 : 8) * (l.a.type == BB_F32 ? 2 : 1);
		const size_t x = (size_t)l.n_used_experts * N / 32 * rows * (l.x_row_bytes + 4 * SECTOR);
		/* each of 8 warps looks for itself */
		const size_t blocks = (size_t)launch.grid[0] * launch.grid[1];
		const size_t lists = blocks * 8 * (l.a.n_rows == 1 ? 4 * SECTOR : 14 * SECTOR);
		cr_expect(launch.read_bytes >= weights && launch.read_bytes <= weights + x + lists,
			"%s, %d rows: %llu bytes of requests, want %zu of weights, at most %zu of x and %zu of "
			"lists", dtype_name(l.a.type), l.a.n_rows, (unsigned long long)launch.read_bytes,
			weights, x, lists);
	}
}

/* ---- a captured layer ---- */

/* Router to sum, as a step would give it to a queue. */
struct captured {
	struct bb_moe_route route;
	struct bb_grouped product;
	float *sum; /* [n_rows, N] */
};

static void launch_layer(const struct captured *c) {
	kernels.moe_route(q, &c->route);
	kernels.matmul_grouped(q, &c->product);
	kernels.moe_combine(q, c->sum, N, c->product.y, N, c->route.weights, c->route.n_rows, N_USED,
		N, false);
}

static void make_captured(struct captured *c, int n_rows) {
	const size_t n_pairs = (size_t)n_rows * N_USED;
	static float x[MAX_ROWS * K], w[N_EXPERTS * N * K];
	for (int i = 0; i < n_rows * K; i++) {
		x[i] = number((uint32_t)i);
	}
	for (int i = 0; i < N_EXPERTS * N * K; i++) {
		w[i] = number((uint32_t)i + 7);
	}
	struct bb_grouped *a = &c->product;
	*a = (struct bb_grouped){ .ld_y = N, .ld_x = K, .n_rows = n_rows, .n_used = N_USED,
		.n_experts = N_EXPERTS, .n = N, .k = K, .type = BB_F32 };
	a->matmul = kernels_matmul(&kernels, BB_F32, &a->layout);
	const size_t expert_bytes = a->layout->weight_bytes(BB_F32, N, K);
	uint8_t *packed = device_bytes(expert_bytes * N_EXPERTS);
	const float *source = copied_in(w, sizeof(w));
	for (int e = 0; e < N_EXPERTS; e++) {
		a->layout->pack(q, packed + (size_t)e * expert_bytes, BB_F32, N, K,
			source + (size_t)e * N * K, 0, N, NULL);
	}
	a->w = packed;
	a->x = copied_in(x, sizeof(x));
	a->y = device_bytes(n_pairs * N * sizeof(float));
	a->scratch = device_bytes(matmul_grouped_scratch_bytes(a));
	c->sum = device_bytes((size_t)n_rows * N * sizeof(float));
	c->route = (struct bb_moe_route){ device_bytes(n_pairs * 4), device_bytes(n_pairs * 4),
		device_bytes(n_pairs * 4), device_bytes((N_EXPERTS + 1) * 4),
		device_bytes((size_t)n_rows * N_EXPERTS * 4), NULL, N_EXPERTS, n_rows, N_EXPERTS, N_USED,
		MOE_SOFTMAX, true, 1 };
	a->experts = c->route.experts;
	a->pairs = c->route.pairs;
	a->offsets = c->route.offsets;
}

/* Logits by which rows go to experts that depend on `which`. */
static void set_logits(const struct captured *c, int which) {
	static float logits[MAX_ROWS * N_EXPERTS];
	const int n = c->route.n_rows * N_EXPERTS;
	for (int i = 0; i < n; i++) {
		logits[i] = which == 0 ? (float)-(i % N_EXPERTS) : number((uint32_t)(i + which));
	}
	m->copy_in(q, (void *)(uintptr_t)c->route.logits, logits, sizeof(float) * (size_t)n);
	wait_for_device();
}

Test(moe, a_captured_layer_follows_its_routing, .init = setup, .fini = teardown) {
	static const int counts[] = { 1, 5, 12 };
	static float direct[MAX_ROWS * N], replayed[MAX_ROWS * N];
	for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
		struct captured c;
		const size_t bytes = (size_t)counts[i] * N * sizeof(float);
		make_captured(&c, counts[i]);
		set_logits(&c, 0); /* all rows choose the same three */
		m->capture_begin(q);
		launch_layer(&c);
		bb_graph *g = m->capture_end(q, text, sizeof(text));
		cr_assert_not_null(g, "%s", text);
		for (int which = 0; which < 3; which++) {
			set_logits(&c, which);
			launch_layer(&c);
			m->copy_out(q, direct, c.sum, bytes);
			m->fill(q, c.sum, 0x5a, bytes);
			m->fill(q, c.product.y, 0x5a, bytes * N_USED);
			m->graph_launch(q, g);
			m->copy_out(q, replayed, c.sum, bytes);
			wait_for_device();
			cr_expect_eq(memcmp(direct, replayed, bytes), 0, "%d rows, routing %d", counts[i],
				which);
		}
		m->graph_destroy(g);
	}
}
