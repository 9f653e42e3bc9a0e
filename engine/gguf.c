/* SPDX-License-Identifier: Apache-2.0
 *
 * Reading GGUF: header, metadata, tensor table, placement of tensor data. The file is hostile until
 * shown otherwise: no count is believed before the bytes that it needs are there, and no choice of
 * keys, however many, makes reading slower than the file is long. Typed access to what was read is
 * in gguf_get.c. */
#include "gguf.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

_Static_assert(sizeof(size_t) == sizeof(uint64_t), "offsets of the file must fit in size_t");

enum {
	MAX_KEY_BYTES = 65535,   /* the specification's limits */
	MAX_NAME_BYTES = 64,
	MAX_ENTRIES = 1 << 24,   /* keys or tensors */
	MIN_KEY_ENTRY = 8 + 1 + 4 + 1,          /* shortest key, type, value */
	MIN_TENSOR_ENTRY = 8 + 1 + 4 + 8 + 4 + 8, /* shortest name, n_dims, one dim, type, offset */
	DEFAULT_ALIGNMENT = 32,
	MIN_ALIGNMENT = 8,
	MAX_ALIGNMENT = 1 << 20,
};

/* Where reading is, and of what, for the sentence of an error. */
struct reader {
	const uint8_t *data; /* [bytes] */
	uint64_t bytes, pos;
	const char *kind;    /* "key", "tensor"; NULL in the header */
	uint64_t i, n;       /* the i-th (from 0) of n such */
	const char *name;    /* of it, once known */
	struct bb_error *err;
};

static const struct {
	const char *name;
	int bytes; /* of one value; 0: it depends */
} value_types[] = {
	[GGUF_U8] = { "u8", 1 },
	[GGUF_I8] = { "i8", 1 },
	[GGUF_U16] = { "u16", 2 },
	[GGUF_I16] = { "i16", 2 },
	[GGUF_U32] = { "u32", 4 },
	[GGUF_I32] = { "i32", 4 },
	[GGUF_F32] = { "f32", 4 },
	[GGUF_BOOL] = { "bool", 1 },
	[GGUF_STRING] = { "string", 0 },
	[GGUF_ARRAY] = { "array", 0 },
	[GGUF_U64] = { "u64", 8 },
	[GGUF_I64] = { "i64", 8 },
	[GGUF_F64] = { "f64", 8 },
};

/* Types of ggml that have no kernels here, by number; those that GGUF dropped are among them. */
static const char *const foreign_types[] = {
	[4] = "Q4_2", [5] = "Q4_3", [9] = "Q8_1", [10] = "Q2_K", [11] = "Q3_K", [15] = "Q8_K",
	[16] = "IQ2_XXS", [17] = "IQ2_XS", [18] = "IQ3_XXS", [19] = "IQ1_S", [20] = "IQ4_NL",
	[21] = "IQ3_S", [22] = "IQ2_S", [23] = "IQ4_XS", [24] = "I8", [25] = "I16", [26] = "I32",
	[27] = "I64", [28] = "F64", [29] = "IQ1_M", [31] = "Q4_0_4_4", [32] = "Q4_0_4_8",
	[33] = "Q4_0_8_8", [34] = "TQ1_0", [35] = "TQ2_0", [36] = "IQ4_NL_4_4", [37] = "IQ4_NL_4_8",
	[38] = "IQ4_NL_8_8", [39] = "MXFP4", [40] = "NVFP4", [41] = "Q1_0", [42] = "Q2_0",
};

const char *gguf_type_name(enum gguf_type type) {
	return (unsigned)type < COUNT(value_types) ? value_types[type].name : "?";
}

/* ---- reading ---- */

/* "<what is being read> <sentence>"; returns false. */
static bool refuse(struct reader *r, enum bb_code code, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

static bool refuse(struct reader *r, enum bb_code code, const char *fmt, ...) {
	char text[320];
	va_list args;
	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	if (r->kind == NULL) {
		return base_fail(r->err, code, "the header %s", text);
	}
	if (r->name == NULL) {
		return base_fail(r->err, code, "%s %" PRIu64 " of %" PRIu64 " %s", r->kind, r->i + 1, r->n,
			text);
	}
	return base_fail(r->err, code, "%s '%.100s' %s", r->kind, r->name, text);
}

static uint64_t bytes_left(const struct reader *r) {
	return r->bytes - r->pos;
}

static bool refuse_cut(struct reader *r, uint64_t start, uint64_t bytes) {
	const uint64_t end = bytes > UINT64_MAX - start ? UINT64_MAX : start + bytes;
	return refuse(r, BB_ERR_FORMAT,
		"needs bytes %" PRIu64 "..%" PRIu64 " but the file ends at %" PRIu64 " (truncated?)", start,
		end, r->bytes);
}

/* The next n bytes, or NULL. */
static const uint8_t *take(struct reader *r, uint64_t n) {
	if (n > bytes_left(r)) {
		refuse_cut(r, r->pos, n);
		return NULL;
	}
	const uint8_t *p = r->data + r->pos;
	r->pos += n;
	return p;
}

static bool read_uint(struct reader *r, int bytes, uint64_t *out) {
	const uint8_t *p = take(r, (uint64_t)bytes);
	*out = 0;
	for (int i = bytes - 1; p != NULL && i >= 0; i--) {
		*out = *out << 8 | p[i];
	}
	return p != NULL;
}

/* A key or tensor name: printable ASCII, so that it can stand in a sentence and in JSON. */
static bool read_name(struct reader *r, uint64_t max_bytes, char **out) {
	uint64_t bytes;
	if (!read_uint(r, 8, &bytes)) {
		return false;
	}
	if (bytes == 0 || bytes > max_bytes) {
		return refuse(r, BB_ERR_FORMAT, "has a name of %" PRIu64 " bytes, expected 1..%" PRIu64,
			bytes, max_bytes);
	}
	const uint8_t *p = take(r, bytes);
	if (p == NULL) {
		return false;
	}
	for (uint64_t i = 0; i < bytes; i++) {
		if (p[i] < 0x20 || p[i] > 0x7e) {
			return refuse(r, BB_ERR_FORMAT,
				"has byte 0x%02x at place %" PRIu64 " of its name, expected printable ASCII", p[i],
				i);
		}
	}
	*out = base_strndup((const char *)p, bytes);
	return *out != NULL || base_no_memory(r->err, "a name in the file", bytes + 1);
}

/* ---- finding by name ---- */

typedef const char *name_fn(const struct gguf *g, size_t i);

static const char *key_of(const struct gguf *g, size_t i) {
	return g->kvs[i].key;
}

static const char *tensor_name_of(const struct gguf *g, size_t i) {
	return g->tensors[i].name;
}

/* The bytes as coefficients of a polynomial modulo 2^61 - 1, at a secret random point (Carter and
 * Wegman, 1979): keys that collide can't be prepared. */
static uint64_t hash(uint64_t seed, const char *s) {
	const uint64_t prime = (UINT64_C(1) << 61) - 1, x = seed >> 4 | UINT64_C(1) << 60;
	uint64_t h = 0;
	for (; *s != '\0'; s++) {
		const unsigned __int128 product = (unsigned __int128)(h + (uint8_t)*s) * x;
		h = (uint64_t)(product & prime) + (uint64_t)(product >> 61);
		h = h >= prime ? h - prime : h;
	}
	return h ^ h >> 32;
}

/* The slot that holds name, or the free one where it belongs. */
static uint32_t *slot_of(const struct gguf *g, const struct gguf_index *x, name_fn *name_of,
		const char *name) {
	const size_t mask = x->n_slots - 1;
	size_t i = hash(g->hash_seed, name) & mask;
	while (x->slots[i] != 0 && strcmp(name_of(g, x->slots[i] - 1), name) != 0) {
		i = (i + 1) & mask;
	}
	return &x->slots[i];
}

static bool index_create(struct gguf_index *x, uint64_t n, struct bb_error *err) {
	size_t n_slots = 2;
	while (n_slots < 2 * n) {
		n_slots *= 2;
	}
	x->slots = base_alloc(n_slots, sizeof(*x->slots));
	if (x->slots == NULL) {
		return base_no_memory(err, "index of names", n_slots * sizeof(*x->slots));
	}
	x->n_slots = n_slots;
	return true;
}

/* Enters the i-th key or tensor, or refuses it when its name is there already. */
static bool index_add(struct gguf *g, struct gguf_index *x, name_fn *name_of, size_t i,
		struct reader *r) {
	uint32_t *slot = slot_of(g, x, name_of, r->name);
	if (*slot != 0) {
		return refuse(r, BB_ERR_FORMAT,
			"is there twice, as number %" PRIu32 " and number %zu of %" PRIu64, *slot, i + 1, r->n);
	}
	*slot = (uint32_t)i + 1;
	return true;
}

const struct gguf_kv *gguf_find(const struct gguf *g, const char *key) {
	const uint32_t found = g->n_kvs > 0 ? *slot_of(g, &g->key_index, key_of, key) : 0;
	return found > 0 ? &g->kvs[found - 1] : NULL;
}

const struct bb_tensor *gguf_tensor(const struct gguf *g, const char *name) {
	const uint32_t found = g->n_tensors > 0 ? *slot_of(g, &g->name_index, tensor_name_of, name) : 0;
	return found > 0 ? &g->tensors[found - 1] : NULL;
}

/* ---- metadata ---- */

static bool read_strings(struct reader *r, struct gguf_kv *kv) {
	if (kv->n > bytes_left(r) / 8) {
		return refuse(r, BB_ERR_FORMAT,
			"holds %" PRIu64 " strings of 8 or more bytes each, but only %" PRIu64
			" bytes are left in the file (truncated?)", kv->n, bytes_left(r));
	}
	kv->strings = base_alloc(kv->n, sizeof(*kv->strings));
	if (kv->strings == NULL) {
		return base_no_memory(r->err, kv->key, kv->n * sizeof(*kv->strings));
	}
	for (uint64_t i = 0; i < kv->n; i++) {
		uint64_t bytes;
		const uint8_t *p = read_uint(r, 8, &bytes) ? take(r, bytes) : NULL;
		if (p == NULL) {
			return false;
		}
		kv->strings[i] = (struct gguf_string){ .data = (const char *)p, .bytes = bytes };
	}
	return true;
}

/* kv->n values of type kv->elem. */
static bool read_values(struct reader *r, struct gguf_kv *kv) {
	kv->data = r->data + r->pos;
	if (kv->elem == GGUF_STRING) {
		return read_strings(r, kv);
	}
	size_t bytes;
	if (!base_mul(kv->n, (size_t)value_types[kv->elem].bytes, &bytes)) {
		bytes = SIZE_MAX;
	}
	if (take(r, bytes) == NULL) {
		return false;
	}
	for (uint64_t i = 0; kv->elem == GGUF_BOOL && i < kv->n; i++) {
		if (kv->data[i] > 1) {
			return refuse(r, BB_ERR_FORMAT, "has the bool %d, expected 0 or 1", kv->data[i]);
		}
	}
	return true;
}

static bool read_type(struct reader *r, const char *what, enum gguf_type *out) {
	uint64_t type;
	if (!read_uint(r, 4, &type)) {
		return false;
	}
	if (type >= COUNT(value_types)) {
		return refuse(r, BB_ERR_FORMAT, "has the %s type %" PRIu64 ", expected 0..%zu", what, type,
			COUNT(value_types) - 1);
	}
	*out = (enum gguf_type)type;
	return true;
}

static bool read_kv(struct gguf *g, struct reader *r) {
	struct gguf_kv *kv = &g->kvs[g->n_kvs];
	r->name = NULL;
	if (!read_name(r, MAX_KEY_BYTES, &kv->key)) {
		return false;
	}
	r->name = kv->key;
	const size_t i = g->n_kvs++;
	if (!index_add(g, &g->key_index, key_of, i, r) || !read_type(r, "value", &kv->type)) {
		return false;
	}
	kv->elem = kv->type;
	kv->n = 1;
	if (kv->type == GGUF_ARRAY) {
		if (!read_type(r, "element", &kv->elem)) {
			return false;
		}
		if (kv->elem == GGUF_ARRAY) {
			return refuse(r, BB_ERR_UNSUPPORTED,
				"is an array of arrays, expected one of plain values");
		}
		if (!read_uint(r, 8, &kv->n)) {
			return false;
		}
	}
	return read_values(r, kv);
}

/* Are n entries of at least min_bytes possible in what is left? */
static bool check_count(struct reader *r, const char *what, uint64_t n, uint64_t min_bytes) {
	if (n > MAX_ENTRIES) {
		return refuse(r, BB_ERR_FORMAT, "counts %" PRIu64 " %s, expected at most %d", n, what,
			MAX_ENTRIES);
	}
	if (n > bytes_left(r) / min_bytes) {
		return refuse(r, BB_ERR_FORMAT,
			"counts %" PRIu64 " %s of %" PRIu64 " or more bytes each, but only %" PRIu64
			" bytes are left in the file (truncated?)", n, what, min_bytes, bytes_left(r));
	}
	return true;
}

static bool read_kvs(struct gguf *g, struct reader *r, uint64_t n) {
	if (!check_count(r, "keys", n, MIN_KEY_ENTRY) || !index_create(&g->key_index, n, r->err)) {
		return false;
	}
	g->kvs = base_alloc(n, sizeof(*g->kvs));
	if (g->kvs == NULL) {
		return base_no_memory(r->err, "metadata", n * sizeof(*g->kvs));
	}
	r->kind = "key";
	r->n = n;
	for (r->i = 0; r->i < n; r->i++) {
		if (!read_kv(g, r)) {
			return false;
		}
	}
	return true;
}

static bool read_alignment(struct gguf *g, struct bb_error *err) {
	int64_t alignment = DEFAULT_ALIGNMENT;
	bool found;
	if (!gguf_int(g, "general.alignment", &alignment, &found, err)) {
		return false;
	}
	if (alignment < MIN_ALIGNMENT || alignment > MAX_ALIGNMENT
			|| (alignment & (alignment - 1)) != 0) {
		return base_fail(err, BB_ERR_FORMAT,
			"key 'general.alignment' is %" PRId64 ", expected a power of two in %d..%d", alignment,
			MIN_ALIGNMENT, MAX_ALIGNMENT);
	}
	g->alignment = (uint64_t)alignment;
	return true;
}

/* ---- tensors ---- */

/* Where a tensor's data is: from the data section while the table is read, then from the file's
 * beginning. */
struct span {
	uint64_t start, end;
	size_t i_tensor;
};

static bool read_shape(struct reader *r, struct bb_tensor *t) {
	uint64_t n_dims;
	if (!read_uint(r, 4, &n_dims)) {
		return false;
	}
	if (n_dims < 1 || n_dims > COUNT(t->dims)) {
		return refuse(r, BB_ERR_FORMAT, "has %" PRIu64 " dimensions, expected 1..%zu", n_dims,
			COUNT(t->dims));
	}
	t->n_dims = (int)n_dims;
	int64_t n_elems = 1;
	for (int i = 0; i < (int)COUNT(t->dims); i++) {
		t->dims[i] = 1;
	}
	for (int i = t->n_dims - 1; i >= 0; i--) { /* the file has the innermost first */
		uint64_t dim;
		if (!read_uint(r, 8, &dim)) {
			return false;
		}
		if (dim == 0 || dim > INT64_MAX) {
			return refuse(r, BB_ERR_FORMAT, "has a dimension of %" PRIu64 ", expected 1..%" PRId64,
				dim, INT64_MAX);
		}
		t->dims[i] = (int64_t)dim;
		if (__builtin_mul_overflow(n_elems, t->dims[i], &n_elems)) {
			return refuse(r, BB_ERR_FORMAT, "has more elements than 2^63 - 1");
		}
	}
	return true;
}

static bool read_dtype(struct reader *r, struct bb_tensor *t) {
	uint64_t type;
	if (!read_uint(r, 4, &type)) {
		return false;
	}
	if (type < BB_DTYPE_LIMIT && tensor_block_elems((enum bb_dtype)type) > 0) {
		t->type = (enum bb_dtype)type;
		return true;
	}
	if (type < COUNT(foreign_types) && foreign_types[type] != NULL) {
		return refuse(r, BB_ERR_UNSUPPORTED, "has type %s (%" PRIu64 "), which has no kernels here",
			foreign_types[type], type);
	}
	return refuse(r, BB_ERR_FORMAT, "has the unknown type number %" PRIu64, type);
}

static bool set_bytes(struct reader *r, struct bb_tensor *t) {
	const int64_t block = tensor_block_elems(t->type), n_cols = t->dims[t->n_dims - 1];
	if (n_cols % block != 0) {
		return refuse(r, BB_ERR_FORMAT,
			"has rows of %" PRId64 " elements, expected a multiple of %s's block of %" PRId64,
			n_cols, tensor_type_name(t->type), block);
	}
	size_t bytes = (size_t)(n_cols / block);
	for (int i = 0; i < t->n_dims - 1; i++) {
		bytes *= (size_t)t->dims[i]; /* below 2^63: read_shape saw to it */
	}
	if (!base_mul(bytes, (size_t)tensor_block_bytes(t->type), &t->bytes)) {
		return refuse(r, BB_ERR_FORMAT, "has more bytes than 2^64 - 1");
	}
	return true;
}

static bool read_tensor(struct gguf *g, struct reader *r, struct span *span) {
	struct bb_tensor *t = &g->tensors[g->n_tensors];
	char *name = NULL;
	r->name = NULL;
	if (!read_name(r, MAX_NAME_BYTES, &name)) {
		return false;
	}
	r->name = t->name = name;
	const size_t i = g->n_tensors++;
	if (!index_add(g, &g->name_index, tensor_name_of, i, r) || !read_shape(r, t)
			|| !read_dtype(r, t) || !set_bytes(r, t) || !read_uint(r, 8, &span->start)) {
		return false;
	}
	span->i_tensor = i;
	if (span->start % g->alignment != 0) {
		return refuse(r, BB_ERR_FORMAT,
			"is at offset %" PRIu64 ", expected a multiple of the alignment %" PRIu64, span->start,
			g->alignment);
	}
	return true;
}

static int by_start(const void *a, const void *b) {
	const struct span *x = a, *y = b;
	if (x->start != y->start) {
		return x->start < y->start ? -1 : 1;
	}
	return (x->i_tensor > y->i_tensor) - (x->i_tensor < y->i_tensor);
}

/* Turns offsets into views of the file; refuses data beyond its end and data that overlaps. */
static bool place(struct gguf *g, struct reader *r, struct span *spans) {
	const uint64_t base = (r->pos + g->alignment - 1) / g->alignment * g->alignment;
	for (size_t i = 0; i < g->n_tensors; i++) {
		struct bb_tensor *t = &g->tensors[i];
		struct span *s = &spans[i];
		r->name = t->name;
		if (s->start > UINT64_MAX - base) {
			return refuse(r, BB_ERR_FORMAT, "is at offset %" PRIu64 ", beyond 2^64", s->start);
		}
		s->start += base;
		if (!base_add(s->start, t->bytes, &s->end) || s->end > r->bytes) {
			return refuse_cut(r, s->start, t->bytes);
		}
		t->data = r->data + s->start;
	}
	qsort(spans, g->n_tensors, sizeof(*spans), by_start);
	for (size_t i = 1; i < g->n_tensors; i++) {
		const struct span *a = &spans[i - 1], *b = &spans[i];
		if (b->start < a->end) {
			r->name = g->tensors[b->i_tensor].name;
			return refuse(r, BB_ERR_FORMAT,
				"begins at byte %" PRIu64 ", inside tensor '%s' of bytes %" PRIu64 "..%" PRIu64,
				b->start, g->tensors[a->i_tensor].name, a->start, a->end);
		}
	}
	return true;
}

static bool read_tensors(struct gguf *g, struct reader *r, uint64_t n) {
	r->kind = NULL;
	if (!check_count(r, "tensors", n, MIN_TENSOR_ENTRY)
			|| !index_create(&g->name_index, n, r->err)) {
		return false;
	}
	g->tensors = base_alloc(n, sizeof(*g->tensors));
	struct span *spans = g->tensors != NULL ? base_alloc(n, sizeof(*spans)) : NULL;
	if (spans == NULL) {
		return base_no_memory(r->err, "tensor table",
			n * (sizeof(*g->tensors) + sizeof(*spans)));
	}
	r->kind = "tensor";
	r->n = n;
	bool ok = true;
	for (r->i = 0; ok && r->i < n; r->i++) {
		ok = read_tensor(g, r, &spans[r->i]);
	}
	ok = ok && place(g, r, spans);
	base_free(spans);
	return ok;
}

/* ---- the whole file ---- */

static bool read_header(struct gguf *g, struct reader *r, uint64_t *n_tensors, uint64_t *n_kvs) {
	const uint8_t *magic = take(r, 4);
	if (magic == NULL) {
		return false;
	}
	if (memcmp(magic, "GGUF", 4) != 0) {
		return refuse(r, BB_ERR_FORMAT,
			"begins with bytes %02x %02x %02x %02x, expected 47 47 55 46 (GGUF)", magic[0],
			magic[1], magic[2], magic[3]);
	}
	uint64_t version;
	if (!read_uint(r, 4, &version)) {
		return false;
	}
	const uint32_t swapped = __builtin_bswap32((uint32_t)version);
	if (swapped >= 1 && swapped <= 3) {
		return refuse(r, BB_ERR_UNSUPPORTED,
			"says GGUF version %" PRIu32 " in big-endian order, expected a little-endian file",
			swapped);
	}
	if (version < 2 || version > 3) {
		return refuse(r, BB_ERR_UNSUPPORTED, "says GGUF version %" PRIu64 ", expected 2 or 3",
			version);
	}
	g->version = (uint32_t)version;
	return read_uint(r, 8, n_tensors) && read_uint(r, 8, n_kvs);
}

static uint64_t random_seed(void) {
	uint64_t seed;
	if (getrandom(&seed, sizeof(seed), GRND_NONBLOCK) != (ssize_t)sizeof(seed)) {
		seed = (uint64_t)(base_seconds() * 1e9) * UINT64_C(0x9e3779b97f4a7c15);
	}
	return seed;
}

static bool read_file(struct gguf *g, const void *data, size_t bytes, struct bb_error *err) {
	struct reader r = { .data = data, .bytes = bytes, .err = err };
	uint64_t n_tensors = 0, n_kvs = 0;
	g->hash_seed = random_seed();
	return read_header(g, &r, &n_tensors, &n_kvs) && read_kvs(g, &r, n_kvs)
		&& read_alignment(g, err) && read_tensors(g, &r, n_tensors);
}

bool gguf_open_memory(struct gguf *g, const void *data, size_t bytes, struct bb_error *err) {
	memset(g, 0, sizeof(*g));
	if (!read_file(g, data, bytes, err)) {
		gguf_finish(g);
		return false;
	}
	return true;
}

bool gguf_open(struct gguf *g, const char *path, struct bb_error *err) {
	memset(g, 0, sizeof(*g));
	struct bb_error inner = { .code = BB_OK };
	if (!base_file_open(&g->file, path, err)) {
		return false;
	}
	if (!read_file(g, g->file.data, g->file.bytes, &inner)) {
		gguf_finish(g);
		return base_fail(err, inner.code, "%.150s: %.350s", path, inner.text);
	}
	return true;
}

void gguf_finish(struct gguf *g) {
	if (g == NULL) {
		return;
	}
	for (size_t i = 0; i < g->n_kvs; i++) {
		base_free(g->kvs[i].key);
		base_free(g->kvs[i].strings);
	}
	for (size_t i = 0; i < g->n_tensors; i++) {
		base_free((char *)(uintptr_t)g->tensors[i].name);
	}
	base_free(g->kvs);
	base_free(g->tensors);
	base_free(g->key_index.slots);
	base_free(g->name_index.slots);
	base_file_close(&g->file);
	memset(g, 0, sizeof(*g));
}
