/* SPDX-License-Identifier: Apache-2.0
 *
 * Packs a plan's weights: on the host from the mapped file, for a device through its upload lanes,
 * where it packs one piece while the next is read. */
#include "form.h"
#include "plan.h"
#include "upload.h"

#include <assert.h>
#include <string.h>

/* Row r of a head-wise matrix whose pairs are adjacent in the file: where it comes from. */
static int halves_source(const struct bb_hparams *hp, int r, int n_pairs) {
	const int head_dim = hparam_int(hp, H_HEAD);
	const int head = r / head_dim, d = r % head_dim;
	if (d >= 2 * n_pairs) {
		return r;
	}
	return head * head_dim + (d < n_pairs ? 2 * d : 2 * (d - n_pairs) + 1);
}

/* Row r of what a source gives to a matrix: where it comes from in the file. */
static int source_row(const struct plan *p, const struct plan_source *from, int r) {
	const int head_dim = hparam_int(&p->hp, H_HEAD);
	switch (from->name->transform) {
	case T_ROPE_HALVES:
		return halves_source(&p->hp, r, hparam_int(&p->hp, H_ROPE_PAIRS));
	case T_HEAD_HALVES:
		return halves_source(&p->hp, r, head_dim / 2);
	case T_PART:
		return form_part_row(&p->hp, from->name, r, from->n_rows);
	case T_SWAP_HALVES:
		return (r + from->n_rows / 2) % from->n_rows;
	default:
		return r;
	}
}

/* Matrices that are packed one after another. */
static int parts(const struct plan_matrix *m) {
	return m->n_stack > 0 ? m->n_stack : 1;
}

static bool is_transposed(const struct plan_source *from) {
	return from->name->transform == T_TRANSPOSED;
}

static bool moves_rows(const struct plan_source *from) {
	return from->name->transform != T_NONE;
}

/* n numbers of a float type times the source's factor, in place. */
static void multiply(const struct plan_source *from, enum bb_dtype type, uint8_t *data, size_t n) {
	for (size_t i = 0; i < n; i++) {
		float x;
		uint8_t *at = data + i * (size_t)dtype_block_bytes(type);
		dtype_decode(&x, at, type, 1);
		x = (float)((double)x * from->factor);
		const uint16_t half = type == BB_F16 ? f32_to_f16(x) : f32_to_bf16(x);
		memcpy(at, type == BB_F32 ? (const void *)&x : (const void *)&half,
			(size_t)dtype_block_bytes(type));
	}
}

/* A matrix, or one of a stack: where it goes, and where a source of it begins in the file. */
static void *packed_part(const struct plan_matrix *m, int i_stack) {
	return (uint8_t *)m->packed + m->bytes / (size_t)parts(m) * (size_t)i_stack;
}

static const uint8_t *source_part(const struct plan *p, const struct plan_matrix *m,
	const struct plan_source *from, int i_stack) {
	if (from->experts != NULL) {
		return from->experts[i_stack]->data;
	}
	const int rows = from->name->transform == T_PART ? form_file_rows(&p->hp, from->name)
		: from->n_rows;
	return (const uint8_t *)from->w->data +
		(size_t)i_stack * (size_t)rows * dtype_row_bytes(m->type, m->k);
}

static bool pack_bias(struct plan *p, struct plan_matrix *m, struct bb_error *err) {
	bool any = false;
	for (int i = 0; i < m->n_sources; i++) {
		any = any || m->sources[i].bias != NULL;
	}
	if (!any) {
		return true;
	}
	const size_t bytes = (size_t)m->n * sizeof(float);
	float *file = base_alloc((size_t)m->n, sizeof(float));
	float *bias = base_alloc((size_t)m->n, sizeof(float));
	if (file == NULL || bias == NULL) {
		base_free(file);
		base_free(bias);
		return base_no_memory(err, "bias", bytes);
	}
	for (int i = 0; i < m->n_sources; i++) {
		const struct bb_tensor *t = m->sources[i].bias;
		if (t == NULL) {
			continue;
		}
		const int n_rows = m->sources[i].n_rows;
		dtype_decode(file, t->data, t->type, n_rows);
		for (int r = 0; r < n_rows; r++) {
			bias[m->sources[i].first + r] = file[source_row(p, &m->sources[i], r)];
		}
	}
	base_free(file);
	m->bias = memory_take(p->where, bias, bytes, "bias", err);
	return m->bias != NULL;
}

/* Rows [first, first + n) of a source, which are columns of its data [k, n_rows]. */
static void read_columns(const struct plan_source *from, const struct plan_matrix *m,
	const uint8_t *data, int first, int n, uint8_t *out) {
	const size_t bytes = (size_t)dtype_block_bytes(m->type), k = (size_t)m->k;
	for (size_t r = 0; r < (size_t)n; r++) {
		for (size_t c = 0; c < k; c++) {
			memcpy(out + (r * k + c) * bytes,
				data + (c * (size_t)from->n_rows + (size_t)first + r) * bytes, bytes);
		}
	}
}

/* Rows [first, first + n) of a source's data, in the order in which they are packed. */
static void read_rows(const struct plan *p, const struct plan_source *from,
	const struct plan_matrix *m, const uint8_t *data, int first, int n, uint8_t *out) {
	const size_t row_bytes = dtype_row_bytes(m->type, m->k);
	if (is_transposed(from)) {
		read_columns(from, m, data, first, n, out);
	} else if (!moves_rows(from)) {
		memcpy(out, data + (size_t)first * row_bytes, (size_t)n * row_bytes);
	} else {
		for (int r = 0; r < n; r++) {
			memcpy(out + (size_t)r * row_bytes,
				data + (size_t)source_row(p, from, first + r) * row_bytes, row_bytes);
		}
	}
	if (from->factor != 1) {
		multiply(from, m->type, out, (size_t)n * (size_t)m->k);
	}
}

/* ---- on the host ---- */

/* Rows that aren't the file's: in pieces through memory of their own. */
static bool pack_read(const struct plan *p, const struct plan_matrix *m,
	const struct plan_source *from, struct bb_error *err) {
	enum { PIECE = 256 };
	const size_t bytes = PIECE * dtype_row_bytes(m->type, m->k);
	uint8_t *piece = base_alloc(bytes, 1);
	if (piece == NULL) {
		return base_no_memory(err, from->w->name, bytes);
	}
	for (int i = 0; i < parts(m); i++) {
		for (int first = 0, n; first < from->n_rows; first += n) {
			n = from->n_rows - first < PIECE ? from->n_rows - first : PIECE;
			read_rows(p, from, m, source_part(p, m, from, i), first, n, piece);
			m->layout->pack(p->where->queue, packed_part(m, i), m->type, m->n, m->k, piece,
				from->first + first, n, NULL);
		}
	}
	base_free(piece);
	return true;
}

static bool pack_mapped(const struct plan *p, const struct plan_matrix *m,
	const struct plan_source *from, struct bb_error *err) {
	int32_t *map = NULL;
	if (from->factor != 1 || is_transposed(from)) {
		return pack_read(p, m, from, err);
	}
	if (moves_rows(from)) {
		map = base_alloc((size_t)from->n_rows, sizeof(*map));
		if (map == NULL) {
			return base_no_memory(err, "row map", (size_t)from->n_rows * sizeof(*map));
		}
		for (int r = 0; r < from->n_rows; r++) {
			map[r] = source_row(p, from, r);
		}
	}
	for (int i = 0; i < parts(m); i++) {
		m->layout->pack(p->where->queue, packed_part(m, i), m->type, m->n, m->k,
			source_part(p, m, from, i), from->first, from->n_rows, map);
	}
	base_free(map);
	return true;
}

/* ---- for a device ---- */

static bool pack_uploaded(const struct plan *p, const struct plan_matrix *m,
	const struct plan_source *from, int i_stack, struct upload *u, struct bb_error *err) {
	const uint8_t *data = source_part(p, m, from, i_stack);
	const size_t row_bytes = dtype_row_bytes(m->type, m->k);
	for (int first = 0, n; first < from->n_rows; first += n) {
		struct upload_lane *lane = upload_next(u, err);
		if (lane == NULL) {
			return false;
		}
		const size_t fit = u->piece_bytes / row_bytes;
		const int left = from->n_rows - first;
		n = (size_t)left < fit ? left : (int)fit;
		read_rows(p, from, m, data, first, n, lane->host);
		upload_send(u, lane, lane->there, (size_t)n * row_bytes);
		m->layout->pack(lane->queue, packed_part(m, i_stack), m->type, m->n, m->k, lane->there,
			from->first + first, n, NULL);
	}
	return true;
}

static bool upload_table(const struct plan *p, struct plan_op *o, struct upload *u,
	struct bb_error *err) {
	const size_t bytes = o->table->bytes;
	o->table_data = memory_map(p->where, bytes, o->table->name, err);
	if (o->table_data == NULL) {
		return false;
	}
	for (size_t at = 0, n; at < bytes; at += n) {
		struct upload_lane *lane = upload_next(u, err);
		if (lane == NULL) {
			return false;
		}
		n = bytes - at < u->piece_bytes ? bytes - at : u->piece_bytes;
		memcpy(lane->host, (const uint8_t *)o->table->data + at, n);
		upload_send(u, lane, (uint8_t *)o->table_data + at, n);
	}
	return true;
}

/* ---- both ---- */

static bool pack_matrix(struct plan *p, struct plan_matrix *m, struct upload *u,
	struct bb_error *err) {
	for (int i = 0; i < m->n_sources; i++) {
		const struct plan_source *from = &m->sources[i];
		if (u == NULL && !pack_mapped(p, m, from, err)) {
			return false;
		}
		for (int j = 0; u != NULL && j < parts(m); j++) {
			if (!pack_uploaded(p, m, from, j, u, err)) {
				return false;
			}
		}
	}
	return pack_bias(p, m, err);
}

static bool place_table(struct plan *p, struct plan_op *o, struct upload *u,
	struct bb_error *err) {
	if (u != NULL) {
		return upload_table(p, o, u, err);
	}
	o->table_data = (void *)(uintptr_t)o->table->data;
	return true;
}

/* What a product with a stack works in. */
static size_t grouped_bytes(const struct plan *p, const struct plan_matrix *m) {
	const struct bb_grouped a = { .n_rows = p->max_rows, .n_experts = m->n_stack, .n = m->n,
		.k = m->k, .n_used = hparam_int(&p->hp, H_EXPERTS_USED), .has_x_of_pairs = true,
		.type = m->type, .layout = m->layout };
	return matmul_grouped_scratch_bytes(&a);
}

static size_t prepared_bytes(const struct plan *p) {
	size_t most = 0;
	for (int i = 0; i < p->n_matrices; i++) {
		const struct plan_matrix *m = &p->matrices[i];
		const size_t bytes = m->n_stack > 0 ? grouped_bytes(p, m)
			: m->layout->prep_bytes(m->type, p->max_rows, m->k);
		most = bytes > most ? bytes : most;
	}
	return most;
}

static const size_t pack_align = 4096;

static size_t aligned(size_t bytes) {
	return (bytes + pack_align - 1) / pack_align * pack_align;
}

size_t plan_packed_bytes(const struct plan *p) {
	size_t total = aligned(prepared_bytes(p));
	for (int i = 0; i < p->n_matrices; i++) {
		total += aligned(p->matrices[i].bytes);
	}
	return total;
}

static bool pack_all(struct plan *p, struct upload *u, bb_progress_fn *progress, void *user,
	struct bb_error *err) {
	for (int i = 0; i < p->embed.n; i++) {
		if (p->embed.ops[i].table != NULL && !place_table(p, &p->embed.ops[i], u, err)) {
			return false;
		}
	}
	p->prepared = p->packed_memory;
	size_t offset = aligned(prepared_bytes(p));
	for (int i = 0; i < p->n_matrices; i++) {
		struct plan_matrix *m = &p->matrices[i];
		m->packed = (uint8_t *)p->packed_memory + offset;
		offset += aligned(m->bytes);
		if (!pack_matrix(p, m, u, err)) {
			return false;
		}
		if (progress != NULL && !progress(user, "loading", (double)offset,
			(double)p->packed_bytes)) {
			return base_fail(err, BB_ERR_CANCELLED, "loading was stopped");
		}
	}
	return true;
}

/* Of what is uploaded at once: long enough to make the cost of a copy's start small. Pieces lie
 * where activations will, of which a row holds two rows of f32 for every width that products
 * have. */
static size_t piece_bytes(const struct plan *p) {
	const size_t enough = 16 << 20, room = p->memory_bytes / UPLOAD_LANES / 256 * 256;
	for (int i = 0; i < p->n_matrices; i++) {
		assert(dtype_row_bytes(p->matrices[i].type, p->matrices[i].k) <= room);
	}
	return room < enough ? room : enough;
}

bool plan_pack(struct plan *p, bb_progress_fn *progress, void *user, struct bb_error *err) {
	const size_t total = plan_packed_bytes(p);
	p->packed_memory = memory_map(p->where, total, "packed weights", err);
	if (p->packed_memory == NULL) {
		return false;
	}
	p->packed_bytes = total;
	if (memory_is_host(p->where)) {
		return pack_all(p, NULL, progress, user, err);
	}
	struct upload u;
	const bool ok = upload_create(&u, p->where, p->memory, piece_bytes(p), err) &&
		pack_all(p, &u, progress, user, err) && upload_finish(&u, err);
	upload_destroy(&u);
	return ok;
}

static bool gemm_list(struct plan *p, const struct plan_ops *list, struct bb_error *err) {
	const struct device *d = &p->where->device;
	char why[256];
	for (int i = 0; i < list->n; i++) {
		const struct plan_op *o = &list->ops[i];
		const struct plan_matrix *m = o->matrix;
		const bool is_head = o->out_act == ACT_LOGITS;
		if (m != NULL && m->n_stack == 0 && !d->module->gemm_plan(d->d, o->out,
			is_head ? m->n : o->ld_out, m->n, m->k, is_head ? p->logits_rows : p->max_rows, why,
			sizeof(why))) {
			return base_fail(err, BB_ERR_UNSUPPORTED, "gemm fast, tensor '%s': %s",
				m->sources[0].w->name, why);
		}
	}
	return true;
}

bool plan_gemm(struct plan *p, struct bb_error *err) {
	const struct device *d = &p->where->device;
	for (int i = 0; i < p->n_matrices; i++) {
		const size_t bytes = d->module->gemm_bytes(p->matrices[i].n, p->matrices[i].k);
		p->gemm_bytes = bytes > p->gemm_bytes ? bytes : p->gemm_bytes;
	}
	p->gemm_memory = memory_map(p->where, p->gemm_bytes, "gemm fast", err);
	if (p->gemm_memory == NULL) {
		return false;
	}
	d->module->gemm_memory(d->d, p->gemm_memory);
	for (int i = 0; i < p->n_layers; i++) {
		if (!gemm_list(p, &p->layers[i], err)) {
			return false;
		}
	}
	return gemm_list(p, &p->embed, err) && gemm_list(p, &p->unembed, err);
}
