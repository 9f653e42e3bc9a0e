/* SPDX-License-Identifier: Apache-2.0
 *
 * What torch.save writes, read within its bounds: the archive's directory (PKWARE's APPNOTE, 4.3),
 * stored members only; the opcodes of the pickle (Python's pickletools), as one fixed sentence. */
#include "torch.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static bool fail(struct bb_error *err, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

static bool fail(struct bb_error *err, const char *format, ...) {
	va_list args;
	va_start(args, format);
	err->code = BB_ERR_INPUT;
	vsnprintf(err->text, sizeof(err->text), format, args);
	va_end(args);
	return false;
}

/* ---- the archive ---- */

struct part {
	const uint8_t *data;
	size_t bytes;
};

static uint32_t u16(const uint8_t *p) {
	return (uint32_t)p[0] | (uint32_t)p[1] << 8;
}

static uint32_t u32(const uint8_t *p) {
	return u16(p) | u16(p + 2) << 16;
}

enum { END_BYTES = 22, ENTRY_BYTES = 46, LOCAL_BYTES = 30 };

struct archive {
	struct part file;
	struct part directory;
	int n_entries;
};

/* The record of the directory's place ends the file: torch writes no comment behind it. */
static bool archive_open(struct archive *a, const uint8_t *file, size_t bytes) {
	const size_t before = bytes >= END_BYTES ? bytes - END_BYTES : 0;
	const uint8_t *end = file + before;
	if (bytes < END_BYTES || memcmp(end, "PK\5\6", 4) != 0) {
		return false;
	}
	const size_t n = u32(end + 12), at = u32(end + 16);
	if (at > before || n > before - at) {
		return false;
	}
	*a = (struct archive){ { file, bytes }, { file + at, n }, (int)u16(end + 10) };
	return true;
}

/* The bytes of an entry of the directory. */
static bool archive_part(const struct archive *a, const uint8_t *entry, struct part *out) {
	const uint32_t flags = u16(entry + 8), method = u16(entry + 10), at = u32(entry + 42);
	const size_t n = u32(entry + 20);
	if ((flags & 1) != 0 || method != 0 || n != u32(entry + 24) ||
		at > a->file.bytes || a->file.bytes - at < LOCAL_BYTES) {
		return false;
	}
	const uint8_t *local = a->file.data + at;
	const size_t left = a->file.bytes - at - LOCAL_BYTES;
	const size_t skip = (size_t)u16(local + 26) + u16(local + 28);
	if (memcmp(local, "PK\3\4", 4) != 0 || skip > left || n > left - skip) {
		return false;
	}
	*out = (struct part){ local + LOCAL_BYTES + skip, n };
	return true;
}

/* The entry of a name that ends with `ending`, behind `root` and nothing else where that is known;
 * its own root is told. False: there is none, or it isn't stored as it is. */
static bool archive_find(const struct archive *a, struct part *root, const char *ending,
	struct part *out) {
	size_t at = 0;
	for (int i = 0; i < a->n_entries && a->directory.bytes - at >= ENTRY_BYTES; i++) {
		const uint8_t *entry = a->directory.data + at;
		const size_t n_name = u16(entry + 28);
		const size_t all = ENTRY_BYTES + n_name + u16(entry + 30) + u16(entry + 32);
		const size_t n_ending = strlen(ending);
		const uint8_t *name = entry + ENTRY_BYTES;
		if (memcmp(entry, "PK\1\2", 4) != 0 || all > a->directory.bytes - at) {
			return false;
		}
		const size_t n_root = n_name >= n_ending ? n_name - n_ending : 0;
		const bool is_root = root->data == NULL || (root->bytes == n_root &&
			memcmp(name, root->data, n_root) == 0);
		if (n_name >= n_ending && memcmp(name + n_root, ending, n_ending) == 0 && is_root) {
			*root = (struct part){ name, n_root };
			return archive_part(a, entry, out);
		}
		at += all;
	}
	return false;
}

/* ---- the pickle ---- */

struct pickle {
	const uint8_t *at, *end;
	bool ok;
};

static bool has(struct pickle *p, size_t n) {
	p->ok = p->ok && (size_t)(p->end - p->at) >= n;
	return p->ok;
}

/* What was made is remembered; nothing of it is asked for again, but where `again` says so. */
static void skip_memo(struct pickle *p) {
	if (p->end - p->at >= 2 && p->at[0] == 'q') {
		p->at += 2;
	} else if (p->end - p->at >= 5 && p->at[0] == 'r') {
		p->at += 5;
	}
}

static void op(struct pickle *p, char code) {
	if (has(p, 1)) {
		p->ok = p->at[0] == (uint8_t)code;
		p->at++;
		skip_memo(p);
	}
}

static bool next_is(const struct pickle *p, char code) {
	return p->ok && p->at < p->end && p->at[0] == (uint8_t)code;
}

/* A name as "module\nname\n"; whether it's this one. */
static bool try_global(struct pickle *p, const char *name) {
	const size_t n = strlen(name);
	if (!next_is(p, 'c') || (size_t)(p->end - p->at) < 1 + n ||
		memcmp(p->at + 1, name, n) != 0) {
		return false;
	}
	p->at += 1 + n;
	skip_memo(p);
	return true;
}

static void global(struct pickle *p, const char *name) {
	p->ok = p->ok && try_global(p, name);
}

static struct part text(struct pickle *p) {
	struct part t = { 0 };
	if (!has(p, 5) || p->at[0] != 'X') {
		p->ok = false;
		return t;
	}
	t = (struct part){ p->at + 5, u32(p->at + 1) };
	p->at += 5;
	if (has(p, t.bytes)) {
		p->at += t.bytes;
		skip_memo(p);
	}
	return t;
}

/* Of one, two or four bytes; a whole number from 0 on. */
static int64_t number(struct pickle *p) {
	const char code = has(p, 1) ? (char)p->at[0] : 0;
	const size_t n = code == 'K' ? 1 : code == 'M' ? 2 : code == 'J' ? 4 : 0;
	if (n == 0 || !has(p, 1 + n)) {
		p->ok = false;
		return 0;
	}
	const uint32_t v = n == 1 ? p->at[1] : n == 2 ? u16(p->at + 1) : u32(p->at + 1);
	p->at += 1 + n;
	p->ok = p->ok && v <= INT32_MAX;
	return v;
}

/* One to three numbers; how many. */
static int numbers(struct pickle *p, int64_t *out) {
	int n = 0;
	while (n < TORCH_DIMS && (next_is(p, 'K') || next_is(p, 'M') || next_is(p, 'J'))) {
		out[n++] = number(p);
	}
	op(p, (char)(0x84 + n));
	p->ok = p->ok && n > 0;
	return n;
}

static void truth(struct pickle *p) {
	op(p, next_is(p, (char)0x88) ? (char)0x88 : (char)0x89);
}

/* An OrderedDict of nothing, made by a call; a second one may ask for its name again. */
static void no_hooks(struct pickle *p, bool again) {
	if (again && next_is(p, 'h') && has(p, 2)) {
		p->at += 2;
	} else {
		global(p, "collections\nOrderedDict\n");
	}
	op(p, ')');
	op(p, 'R');
}

struct described {
	enum torch_type type;
	bool has_type;
	struct part key;
	int64_t n;          /* elements that are stored */
	int n_strides;
};

static void storage(struct pickle *p, struct described *d) {
	static const struct {
		const char *name;
		enum torch_type type;
	} types[] = {
		{ "torch\nFloatStorage\n", TORCH_F32 }, { "torch\nHalfStorage\n", TORCH_F16 },
		{ "torch\nBFloat16Storage\n", TORCH_BF16 },
	};
	op(p, '(');
	const struct part word = text(p);
	p->ok = p->ok && word.bytes == 7 && memcmp(word.data, "storage", 7) == 0;
	for (size_t i = 0; p->ok && !d->has_type && i < sizeof(types) / sizeof(types[0]); i++) {
		d->has_type = try_global(p, types[i].name);
		d->type = types[i].type;
	}
	p->ok = p->ok && d->has_type;
	d->key = text(p);
	text(p); /* the device that it was on */
	d->n = number(p);
	op(p, 't');
	op(p, 'Q');
}

static bool read_pickle(struct part pickle, struct torch_tensor *t, struct described *d) {
	struct pickle p = { pickle.data, pickle.data + pickle.bytes, true };
	p.ok = pickle.bytes >= 2 && p.at[0] == 0x80 && p.at[1] == 2;
	p.at += p.ok ? 2 : 0;
	const bool is_parameter = try_global(&p, "torch._utils\n_rebuild_parameter\n");
	global(&p, "torch._utils\n_rebuild_tensor_v2\n");
	op(&p, '(');
	storage(&p, d);
	t->first = number(&p);
	t->n_dims = numbers(&p, t->shape);
	d->n_strides = numbers(&p, t->stride);
	truth(&p);
	no_hooks(&p, false);
	op(&p, 't');
	op(&p, 'R');
	if (is_parameter) {
		truth(&p);
		no_hooks(&p, true);
		op(&p, (char)0x87);
		op(&p, 'R');
	}
	op(&p, '.');
	t->type = d->type;
	return p.ok && p.at == p.end;
}

/* ---- all of it ---- */

static bool check_bounds(const struct torch_tensor *t, const struct described *d, struct part data,
	struct bb_error *err) {
	const size_t each = t->type == TORCH_F32 ? 4 : 2;
	int64_t last = t->first, n = 1;
	for (int i = 0; i < t->n_dims && last < d->n && n <= d->n; i++) { /* all of 31 bits */
		if (t->shape[i] < 1) {
			return fail(err, "a dimension is %lld, expected at least 1", (long long)t->shape[i]);
		}
		last += (t->shape[i] - 1) * t->stride[i];
		n *= t->shape[i];
	}
	if (d->n_strides != t->n_dims || last >= d->n || n > d->n) {
		return fail(err, "its shape reaches beyond the %lld elements that it stores",
			(long long)d->n);
	}
	if ((size_t)d->n > data.bytes / each) {
		return fail(err, "%lld elements of %zu bytes are expected, and %zu bytes are there",
			(long long)d->n, each, data.bytes);
	}
	return true;
}

bool torch_read(struct torch_tensor *t, const uint8_t *file, size_t bytes, struct bb_error *err) {
	struct archive a;
	struct part root = { 0 }, pickle, data, order;
	struct described d = { 0 };
	char ending[64];
	*t = (struct torch_tensor){ 0 };
	if (!archive_open(&a, file, bytes)) {
		return fail(err, "expected a file of torch.save, %zu bytes of something else came", bytes);
	}
	if (!archive_find(&a, &root, "data.pkl", &pickle)) {
		return fail(err, "expected a file of torch.save, its archive has no stored data.pkl");
	}
	if (!read_pickle(pickle, t, &d) || d.key.bytes > 20 ||
		memchr(d.key.data, 0, d.key.bytes) != NULL) {
		return fail(err, "expected one dense tensor of float32, float16 or bfloat16 with 1 to %d "
			"dimensions, its pickle has something else", TORCH_DIMS);
	}
	if (archive_find(&a, &root, "byteorder", &order) &&
		(order.bytes != 6 || memcmp(order.data, "little", 6) != 0)) {
		return fail(err, "its byteorder isn't little");
	}
	snprintf(ending, sizeof(ending), "data/%.*s", (int)d.key.bytes, (const char *)d.key.data);
	if (!archive_find(&a, &root, ending, &data)) {
		return fail(err, "its archive has no stored member with the tensor's data");
	}
	t->data = data.data;
	return check_bounds(t, &d, data, err);
}

static float of_bits(uint32_t bits) {
	float f;
	memcpy(&f, &bits, sizeof(f));
	return f;
}

/* IEEE 754 binary16. */
static float of_f16(uint32_t h) {
	const uint32_t sign = (h & 0x8000) << 16, exponent = h >> 10 & 31, fraction = h & 0x3FF;
	if (exponent == 0) { /* fraction 2^-24 */
		const float f = (float)fraction * 0x1p-24f;
		return sign != 0 ? -f : f;
	}
	return of_bits(sign | (exponent == 31 ? 255 : exponent + 112) << 23 | fraction << 13);
}

float torch_at(const struct torch_tensor *t, int64_t i, int64_t j) {
	int64_t at = t->first + j * t->stride[t->n_dims - 1];
	for (int k = t->n_dims - 2; k >= 0; k--) {
		at += i % t->shape[k] * t->stride[k];
		i /= t->shape[k];
	}
	const uint8_t *p = t->data + (size_t)at * (t->type == TORCH_F32 ? 4 : 2);
	return t->type == TORCH_F32 ? of_bits(u32(p))
		: t->type == TORCH_F16 ? of_f16(u16(p)) : of_bits(u16(p) << 16);
}
