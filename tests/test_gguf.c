/* SPDX-License-Identifier: Apache-2.0
 *
 * Tests of the GGUF reader on files made in memory: what well-formed files give, lookups, files on
 * disk, and that no spoiled file crashes it. The sentences of refusals: test_gguf_refused.c. */
#include "gguf_builder.h"

#include <criterion/criterion.h>

#include <malloc.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int __lsan_do_recoverable_leak_check(void) __attribute__((weak));

static struct gguf_builder builder;

static void start(void) {
	gguf_builder_init(&builder);
}

static void stop(void) {
	gguf_builder_finish(&builder);
	if (__lsan_do_recoverable_leak_check != NULL) {
		cr_assert_eq(__lsan_do_recoverable_leak_check(), 0);
	}
}

TestSuite(gguf, .init = start, .fini = stop, .timeout = 120);

/* The builder's file, opened; it must be good. */
static struct gguf open_built(void) {
	struct gguf g;
	struct bb_error err = { .code = BB_OK };
	size_t bytes;
	const uint8_t *data = gguf_builder_end(&builder, &bytes);
	cr_assert(gguf_open_memory(&g, data, bytes, &err), "%s", err.text);
	gguf_builder_visit(&g);
	return g;
}

/* ---- values ---- */

static void expect_int(enum gguf_type type, int64_t value) {
	gguf_builder_int(&builder, "k", type, value);
	struct gguf g = open_built();
	const struct gguf_kv *kv = gguf_find(&g, "k");
	cr_assert(kv != NULL && kv->type == type && kv->elem == type && kv->n == 1);
	cr_assert_null(kv->strings);
	cr_assert_eq(gguf_array_int(kv, 0), value);
	cr_assert_float_eq(gguf_array_float(kv, 0), (double)value, 0);
	struct bb_error err = { .code = BB_OK };
	int64_t got = 0;
	bool found = false;
	cr_assert(gguf_int(&g, "k", &got, &found, &err) == (type != GGUF_BOOL));
	cr_assert(found && (type == GGUF_BOOL || got == value));
	gguf_finish(&g);
}

Test(gguf, u8) {
	expect_int(GGUF_U8, 255);
}

Test(gguf, i8) {
	expect_int(GGUF_I8, -128);
}

Test(gguf, u16) {
	expect_int(GGUF_U16, 65535);
}

Test(gguf, i16) {
	expect_int(GGUF_I16, -32768);
}

Test(gguf, u32) {
	expect_int(GGUF_U32, UINT32_MAX);
}

Test(gguf, i32) {
	expect_int(GGUF_I32, INT32_MIN);
}

Test(gguf, u64) {
	expect_int(GGUF_U64, INT64_MAX);
}

Test(gguf, i64) {
	expect_int(GGUF_I64, INT64_MIN);
}

Test(gguf, bool_value) {
	expect_int(GGUF_BOOL, 1);
	gguf_builder_bool(&builder, "no", false);
	struct gguf g = open_built();
	struct bb_error err = { .code = BB_OK };
	bool yes = false, no = true, found = false;
	cr_assert(gguf_bool(&g, "k", &yes, &found, &err) && found && yes);
	cr_assert(gguf_bool(&g, "no", &no, &found, &err) && found && !no);
	gguf_finish(&g);
}

Test(gguf, f32_and_f64) {
	gguf_builder_float(&builder, "f", GGUF_F32, 0.1);
	gguf_builder_float(&builder, "d", GGUF_F64, 0.1);
	gguf_builder_int(&builder, "i", GGUF_I32, -7);
	struct gguf g = open_built();
	struct bb_error err = { .code = BB_OK };
	double f = 0, d = 0, i = 0;
	bool found = false;
	cr_assert(gguf_float(&g, "f", &f, &found, &err) && found && f == (double)0.1f);
	cr_assert(gguf_float(&g, "d", &d, &found, &err) && found && d == 0.1);
	cr_assert(gguf_float(&g, "i", &i, &found, &err) && found && i == -7);
	gguf_finish(&g);
}

Test(gguf, string_with_nul) {
	gguf_builder_bytes_str(&builder, "k", "a\0b", 3);
	gguf_builder_str(&builder, "empty", "");
	struct gguf g = open_built();
	struct bb_error err = { .code = BB_OK };
	struct gguf_string s = { .bytes = 9 };
	bool found = false;
	cr_assert(gguf_str(&g, "k", &s, &found, &err) && found);
	cr_assert(s.bytes == 3 && memcmp(s.data, "a\0b", 3) == 0);
	cr_assert(gguf_str(&g, "empty", &s, &found, &err) && found && s.bytes == 0);
	gguf_finish(&g);
}

Test(gguf, arrays_of_every_number) {
	static const struct {
		const char *key;
		enum gguf_type type;
		size_t bytes; /* of an element */
	} rows[] = {
		{ "u8", GGUF_U8, 1 },
		{ "i8", GGUF_I8, 1 },
		{ "bool", GGUF_BOOL, 1 },
		{ "u16", GGUF_U16, 2 },
		{ "i16", GGUF_I16, 2 },
		{ "u32", GGUF_U32, 4 },
		{ "i32", GGUF_I32, 4 },
		{ "u64", GGUF_U64, 8 },
		{ "i64", GGUF_I64, 8 },
	};
	for (size_t i = 0; i < COUNT(rows); i++) {
		uint8_t data[24] = { 0 };
		data[0] = 1; /* the elements 1, 0, 1 */
		data[2 * rows[i].bytes] = 1;
		gguf_builder_array(&builder, rows[i].key, rows[i].type, 3, data);
	}
	struct gguf g = open_built();
	for (size_t i = 0; i < COUNT(rows); i++) {
		const struct gguf_kv *kv = gguf_find(&g, rows[i].key);
		cr_assert(kv != NULL && kv->type == GGUF_ARRAY && kv->elem == rows[i].type && kv->n == 3);
		for (uint64_t j = 0; j < 3; j++) {
			cr_assert_eq(gguf_array_int(kv, j), j != 1, "%s", rows[i].key);
			cr_assert_float_eq(gguf_array_float(kv, j), j != 1, 0);
		}
	}
	gguf_finish(&g);
}

Test(gguf, integers_saturate) {
	const double d[] = { 1e300, -1e300, NAN, -2.9, INFINITY, -0x1p63, 0x1p63 };
	const uint64_t u[] = { UINT64_MAX };
	const int64_t want[] = { INT64_MAX, INT64_MIN, 0, -2, INT64_MAX, INT64_MIN,
		INT64_MAX };
	gguf_builder_array(&builder, "d", GGUF_F64, COUNT(d), d);
	gguf_builder_array(&builder, "u", GGUF_U64, COUNT(u), u);
	struct gguf g = open_built();
	for (size_t i = 0; i < COUNT(d); i++) {
		cr_assert_eq(gguf_array_int(gguf_find(&g, "d"), i), want[i]);
	}
	cr_assert_eq(gguf_array_int(gguf_find(&g, "u"), 0), INT64_MAX);
	cr_assert_float_eq(gguf_array_float(gguf_find(&g, "u"), 0), 0x1p64, 0);
	gguf_finish(&g);
}

Test(gguf, array_of_strings) {
	const char *const texts[] = { "one", "", "three" };
	gguf_builder_strs(&builder, "k", COUNT(texts), texts);
	const struct gguf_string views[] = { { "\0", 1 }, { "ab", 2 } };
	gguf_builder_views(&builder, "views", COUNT(views), views);
	struct gguf g = open_built();
	const struct gguf_kv *kv = gguf_find(&g, "k");
	cr_assert(kv->type == GGUF_ARRAY && kv->elem == GGUF_STRING && kv->n == 3);
	for (size_t i = 0; i < COUNT(texts); i++) {
		cr_assert_eq(kv->strings[i].bytes, strlen(texts[i]));
		cr_assert(memcmp(kv->strings[i].data, texts[i], strlen(texts[i])) == 0);
	}
	cr_assert(gguf_find(&g, "views")->strings[0].bytes == 1);
	gguf_finish(&g);
}

Test(gguf, empty_arrays) {
	gguf_builder_strs(&builder, "strings", 0, NULL);
	gguf_builder_array(&builder, "numbers", GGUF_F32, 0, NULL);
	struct gguf g = open_built();
	cr_assert_eq(gguf_find(&g, "strings")->n, 0);
	cr_assert_not_null(gguf_find(&g, "strings")->strings);
	cr_assert_eq(gguf_find(&g, "numbers")->n, 0);
	gguf_finish(&g);
}

Test(gguf, absent_key_is_not_an_error) {
	gguf_builder_str(&builder, "k", "v");
	struct gguf g = open_built();
	struct bb_error err = { .code = BB_OK };
	int64_t i = 5;
	double d = 5;
	bool flag = true, found = true;
	struct gguf_string s = { .bytes = 5 };
	cr_assert(gguf_int(&g, "x", &i, &found, &err) && !found && i == 5);
	cr_assert(gguf_float(&g, "x", &d, &found, &err) && !found && d == 5);
	cr_assert(gguf_bool(&g, "x", &flag, &found, &err) && !found && flag);
	cr_assert(gguf_str(&g, "x", &s, &found, &err) && !found && s.bytes == 5);
	cr_assert(gguf_find(&g, "") == NULL && gguf_find(&g, "kk") == NULL);
	gguf_finish(&g);
}

static void expect_wrong(struct bb_error *err, const char *sentence) {
	cr_assert_eq(err->code, BB_ERR_FORMAT);
	cr_assert_str_eq(err->text, sentence);
	err->code = BB_OK;
}

Test(gguf, wrong_types_are_named) {
	gguf_builder_str(&builder, "s", "v");
	gguf_builder_int(&builder, "big", GGUF_U64, -1);
	gguf_builder_array(&builder, "a", GGUF_U8, 2, "ab");
	gguf_builder_float(&builder, "f", GGUF_F32, 1);
	struct gguf g = open_built();
	struct bb_error err = { .code = BB_OK };
	int64_t i;
	double d;
	bool flag, found;
	struct gguf_string s;
	cr_assert(!gguf_int(&g, "s", &i, &found, &err) && found);
	expect_wrong(&err, "key 's' is of type string, expected an integer");
	cr_assert(!gguf_int(&g, "f", &i, &found, &err));
	expect_wrong(&err, "key 'f' is of type f32, expected an integer");
	cr_assert(!gguf_int(&g, "big", &i, &found, &err));
	expect_wrong(&err, "key 'big' is 18446744073709551615, expected at most 9223372036854775807");
	cr_assert(!gguf_float(&g, "a", &d, &found, &err));
	expect_wrong(&err, "key 'a' is an array of 2 u8, expected a number");
	cr_assert(!gguf_bool(&g, "f", &flag, &found, &err));
	expect_wrong(&err, "key 'f' is of type f32, expected a bool");
	cr_assert(!gguf_str(&g, "a", &s, &found, &err));
	expect_wrong(&err, "key 'a' is an array of 2 u8, expected a string");
	gguf_finish(&g);
}

Test(gguf, type_names) {
	cr_assert_str_eq(gguf_type_name(GGUF_F64), "f64");
	cr_assert_str_eq(gguf_type_name(GGUF_ARRAY), "array");
	cr_assert_str_eq(gguf_type_name((enum gguf_type)13), "?");
}

/* ---- tensors ---- */

Test(gguf, dims_are_outermost_first) {
	gguf_builder_sample(&builder);
	struct gguf g = open_built();
	char text[64];
	cr_assert_eq(g.n_tensors, 4);
	static const struct {
		const char *name, *shape;
		int n_dims;
		size_t bytes;
	} rows[] = {
		{ "one.weight", "[5]", 1, 20 },
		{ "two.weight", "[3, 64]", 2, 3 * 2 * 20 },
		{ "three.weight", "[2, 3, 4]", 3, 48 },
		{ "four.weight", "[1, 2, 1, 32]", 4, 2 * 34 },
	};
	for (size_t i = 0; i < COUNT(rows); i++) {
		const struct bb_tensor *t = gguf_tensor(&g, rows[i].name);
		cr_assert_not_null(t);
		cr_assert_str_eq(tensor_shape_text(t, text, sizeof(text)), rows[i].shape);
		cr_assert(t->n_dims == rows[i].n_dims && t->bytes == rows[i].bytes);
		for (int j = t->n_dims; j < 4; j++) {
			cr_assert_eq(t->dims[j], 1);
		}
	}
	gguf_finish(&g);
}

Test(gguf, every_type_with_kernels) {
	static const enum bb_dtype types[] = { BB_F32, BB_F16, BB_BF16, BB_Q4_0, BB_Q4_1, BB_Q5_0,
		BB_Q5_1, BB_Q8_0, BB_Q4_K, BB_Q5_K, BB_Q6_K };
	for (size_t i = 0; i < COUNT(types); i++) {
		gguf_builder_tensor(&builder, tensor_type_name(types[i]), types[i], 2,
			(const int64_t[]){ 3, 512 }, NULL);
	}
	struct gguf g = open_built();
	for (size_t i = 0; i < COUNT(types); i++) {
		const struct bb_tensor *t = gguf_tensor(&g, tensor_type_name(types[i]));
		cr_assert(t != NULL && t->type == types[i]);
		cr_assert_eq(t->bytes,
			3 * 512 / (size_t)tensor_block_elems(t->type) * (size_t)tensor_block_bytes(t->type));
	}
	gguf_finish(&g);
}

Test(gguf, data_is_a_view_of_the_file) {
	const float values[] = { 1, 2, 3, 4, 5, 6 };
	gguf_builder_f32(&builder, "a", 2, (const int64_t[]){ 2, 3 }, values);
	gguf_builder_f32(&builder, "b", 1, (const int64_t[]){ 6 }, values);
	struct gguf g = open_built();
	const uint8_t *data = builder.image.data;
	cr_assert(gguf_tensor(&g, "a")->data == data + gguf_builder_at_data(&builder));
	cr_assert(gguf_tensor(&g, "b")->data == data + gguf_builder_at_data(&builder) + 32);
	cr_assert(memcmp(gguf_tensor(&g, "b")->data, values, sizeof(values)) == 0);
	gguf_finish(&g);
}

Test(gguf, tensor_order_is_free) {
	gguf_builder_f32(&builder, "a", 1, (const int64_t[]){ 8 }, NULL);
	gguf_builder_f32(&builder, "b", 1, (const int64_t[]){ 8 }, NULL);
	size_t bytes;
	gguf_builder_end(&builder, &bytes);
	gguf_builder_poke_u64(&builder, gguf_builder_at_shape(&builder, "a") + 16, 32);
	gguf_builder_poke_u64(&builder, gguf_builder_at_shape(&builder, "b") + 16, 0);
	struct gguf g;
	struct bb_error err = { .code = BB_OK };
	cr_assert(gguf_open_memory(&g, builder.image.data, bytes, &err), "%s", err.text);
	cr_assert((const uint8_t *)gguf_tensor(&g, "a")->data
		== (const uint8_t *)gguf_tensor(&g, "b")->data + 32);
	gguf_finish(&g);
}

static void expect_alignment(uint32_t alignment) {
	gguf_builder_alignment(&builder, alignment);
	gguf_builder_f32(&builder, "a", 1, (const int64_t[]){ 1 }, NULL);
	gguf_builder_f32(&builder, "b", 1, (const int64_t[]){ 1 }, NULL);
	struct gguf g = open_built();
	cr_assert_eq(g.alignment, alignment);
	cr_assert((const uint8_t *)gguf_tensor(&g, "b")->data
		== (const uint8_t *)gguf_tensor(&g, "a")->data + alignment);
	gguf_finish(&g);
}

Test(gguf, alignment_8) {
	expect_alignment(8);
}

Test(gguf, alignment_64) {
	expect_alignment(64);
}

Test(gguf, alignment_1_mib) {
	expect_alignment(1 << 20);
}

Test(gguf, default_alignment_is_32) {
	struct gguf g = open_built();
	cr_assert_eq(g.alignment, 32);
	gguf_finish(&g);
}

Test(gguf, nothing_but_a_header) {
	struct gguf g = open_built();
	cr_assert(g.n_kvs == 0 && g.n_tensors == 0 && g.version == 3);
	cr_assert(gguf_find(&g, "k") == NULL && gguf_tensor(&g, "t") == NULL);
	gguf_finish(&g);
}

Test(gguf, version_2) {
	builder.version = 2;
	gguf_builder_sample(&builder);
	struct gguf g = open_built();
	cr_assert_eq(g.version, 2);
	gguf_finish(&g);
}

Test(gguf, longest_names) {
	char key[65536], name[65];
	memset(key, 'k', sizeof(key));
	key[65535] = '\0';
	memset(name, 'n', sizeof(name));
	name[64] = '\0';
	gguf_builder_bool(&builder, key, true);
	gguf_builder_f32(&builder, name, 1, (const int64_t[]){ 1 }, NULL);
	struct gguf g = open_built();
	cr_assert(gguf_find(&g, key) != NULL && gguf_tensor(&g, name) != NULL);
	gguf_finish(&g);
}

Test(gguf, bytes_after_the_last_tensor_are_ignored) {
	gguf_builder_sample(&builder);
	size_t bytes;
	const uint8_t *data = gguf_builder_end(&builder, &bytes);
	uint8_t *longer = calloc(1, bytes + 100);
	memcpy(longer, data, bytes);
	struct gguf g;
	struct bb_error err = { .code = BB_OK };
	cr_assert(gguf_open_memory(&g, longer, bytes + 100, &err), "%s", err.text);
	gguf_finish(&g);
	free(longer);
}

/* ---- many ---- */

Test(gguf, thousand_tensors_are_found) {
	char name[32];
	for (int i = 0; i < 1000; i++) {
		snprintf(name, sizeof(name), "blk.%d.attn_q.weight", i);
		gguf_builder_f32(&builder, name, 1, (const int64_t[]){ 1 + i % 3 }, NULL);
	}
	struct gguf g = open_built();
	for (int i = 0; i < 1000; i++) {
		snprintf(name, sizeof(name), "blk.%d.attn_q.weight", i);
		cr_assert_eq(gguf_tensor(&g, name), &g.tensors[i]);
	}
	cr_assert_null(gguf_tensor(&g, "blk.1000.attn_q.weight"));
	gguf_finish(&g);
}

static void add_keys(int n) {
	char key[32];
	for (int i = 0; i < n; i++) {
		snprintf(key, sizeof(key), "key.%d", i);
		gguf_builder_bool(&builder, key, true);
	}
}

Test(gguf, million_keys_take_seconds) {
	add_keys(1000000);
	size_t bytes;
	const uint8_t *data = gguf_builder_end(&builder, &bytes);
	struct gguf g;
	struct bb_error err = { .code = BB_OK };
	const double before = base_seconds();
	cr_assert(gguf_open_memory(&g, data, bytes, &err), "%s", err.text);
	cr_assert_lt(base_seconds() - before, 30);
	cr_assert_not_null(gguf_find(&g, "key.999999"));
	gguf_finish(&g);
}

Test(gguf, repeated_key_among_a_million) {
	add_keys(1000000);
	gguf_builder_bool(&builder, "key.77", true);
	size_t bytes;
	const uint8_t *data = gguf_builder_end(&builder, &bytes);
	struct gguf g;
	struct bb_error err = { .code = BB_OK };
	cr_assert(!gguf_open_memory(&g, data, bytes, &err));
	cr_assert_str_eq(err.text,
		"key 'key.77' is there twice, as number 78 and number 1000001 of 1000001");
}

/* ---- files ---- */

static void path_of_test(char *path, size_t bytes) {
	snprintf(path, bytes, "/tmp/bobbin-test-gguf-%d.gguf", (int)getpid());
}

Test(gguf, file_on_disk) {
	char path[64];
	path_of_test(path, sizeof(path));
	gguf_builder_sample(&builder);
	cr_assert(gguf_builder_write(&builder, path));
	struct gguf g;
	struct bb_error err = { .code = BB_OK };
	cr_assert(gguf_open(&g, path, &err), "%s", err.text);
	unlink(path);
	const uint64_t sum = gguf_builder_visit(&g);
	gguf_finish(&g);
	gguf_finish(&g);
	g = open_built();
	cr_assert_eq(gguf_builder_visit(&g), sum);
	gguf_finish(&g);
}

Test(gguf, error_begins_with_the_path) {
	char path[64], want[192];
	path_of_test(path, sizeof(path));
	FILE *f = fopen(path, "wb");
	cr_assert(f != NULL && fwrite("GGUF", 1, 4, f) == 4 && fclose(f) == 0);
	struct gguf g;
	struct bb_error err = { .code = BB_OK };
	cr_assert(!gguf_open(&g, path, &err));
	unlink(path);
	snprintf(want, sizeof(want),
		"%s: the header needs bytes 4..8 but the file ends at 4 (truncated?)", path);
	cr_assert_eq(err.code, BB_ERR_FORMAT);
	cr_assert_str_eq(err.text, want);
	cr_assert(g.file.data == NULL && g.kvs == NULL);
	cr_assert(!gguf_open(&g, "/nowhere/model.gguf", NULL));
}

Test(gguf, missing_file) {
	struct gguf g;
	struct bb_error err = { .code = BB_OK };
	cr_assert(!gguf_open(&g, "/nowhere/model.gguf", &err));
	cr_assert_eq(err.code, BB_ERR_IO);
	cr_assert_not_null(strstr(err.text, "/nowhere/model.gguf"));
	gguf_finish(&g);
}

Test(gguf, finish_takes_zeroed_and_null) {
	struct gguf g;
	memset(&g, 0, sizeof(g));
	gguf_finish(&g);
	gguf_finish(NULL);
}

/* ---- spoiled files ---- */

/* A copy that ends where an unreadable page begins. */
struct guarded {
	uint8_t *data; /* [bytes] */
	uint8_t *map;
	size_t map_bytes;
};

static struct guarded guard(const uint8_t *data, size_t bytes) {
	const size_t page = 4096, map_bytes = (bytes + page - 1) / page * page + page;
	uint8_t *map = mmap(NULL, map_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
		0);
	cr_assert(map != MAP_FAILED);
	cr_assert_eq(mprotect(map + map_bytes - page, page, PROT_NONE), 0);
	const struct guarded g = { .data = map + map_bytes - page - bytes, .map = map,
		.map_bytes = map_bytes };
	memcpy(g.data, data, bytes);
	return g;
}

/* Opens; uses what was read, or checks that there is one sentence. */
static bool open_spoiled(const uint8_t *data, size_t bytes, struct bb_error *err) {
	struct gguf g;
	err->code = BB_OK;
	const bool ok = gguf_open_memory(&g, data, bytes, err);
	if (ok) {
		gguf_builder_visit(&g);
		gguf_finish(&g);
	} else {
		cr_assert(err->code == BB_ERR_FORMAT || err->code == BB_ERR_UNSUPPORTED);
		cr_assert(err->text[0] != '\0' && strchr(err->text, '\n') == NULL);
		cr_assert(g.kvs == NULL && g.tensors == NULL);
	}
	return ok;
}

Test(gguf, cut_at_every_byte) {
	gguf_builder_sample(&builder);
	size_t bytes;
	const uint8_t *data = gguf_builder_end(&builder, &bytes);
	for (size_t n = 0; n < bytes; n++) {
		struct bb_error err;
		const struct guarded cut = guard(data, n);
		cr_assert(!open_spoiled(cut.data, n, &err), "cut at %zu of %zu", n, bytes);
		cr_assert_eq(err.code, BB_ERR_FORMAT);
		cr_assert_not_null(strstr(err.text, "(truncated?)"), "cut at %zu: %s", n, err.text);
		munmap(cut.map, cut.map_bytes);
	}
	struct bb_error err;
	cr_assert(open_spoiled(data, bytes, &err), "%s", err.text);
}

static uint32_t next_random(uint64_t *state) {
	*state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (uint32_t)(*state >> 32);
}

/* Spoils 1 to 4 places, bits or whole bytes, of the first `limit` bytes. */
static void flip(uint8_t *data, size_t limit, uint64_t *state) {
	static const uint8_t bytes[] = { 0, 1, 0x7f, 0x80, 0xff };
	const uint32_t n = 1 + next_random(state) % 4;
	for (uint32_t i = 0; i < n; i++) {
		uint8_t *p = &data[next_random(state) % limit];
		if (next_random(state) % 2 == 0) {
			*p ^= (uint8_t)(1u << next_random(state) % 8);
		} else {
			*p = bytes[next_random(state) % COUNT(bytes)];
		}
	}
}

Test(gguf, random_damage_never_crashes) {
	gguf_builder_sample(&builder);
	size_t bytes;
	const uint8_t *data = gguf_builder_end(&builder, &bytes);
	const struct guarded copy = guard(data, bytes);
	uint64_t state = 1;
	int n_refused = 0;
	for (int i = 0; i < 20000; i++) {
		struct bb_error err;
		memcpy(copy.data, data, bytes);
		flip(copy.data, gguf_builder_at_data(&builder), &state);
		n_refused += !open_spoiled(copy.data, bytes, &err);
	}
	cr_assert(n_refused > 5000 && n_refused < 20000, "%d refused", n_refused);
	munmap(copy.map, copy.map_bytes);
}

Test(gguf, random_bytes_after_a_header) {
	uint8_t data[512];
	uint64_t state = 2;
	for (int i = 0; i < 20000; i++) {
		struct bb_error err;
		const size_t bytes = 24 + next_random(&state) % 488;
		for (size_t j = 0; j < bytes; j++) {
			data[j] = (uint8_t)(next_random(&state) % 4 == 0 ? next_random(&state) : 0);
		}
		memcpy(data, "GGUF\3\0\0\0", 8);
		memset(data + 9, 0, 7);
		memset(data + 17, 0, 7);
		open_spoiled(data, bytes, &err);
	}
}

/* ---- failing allocations ---- */

/* Fails allocation 1, 2, … until opening succeeds; returns how many there were. */
static int fail_each_allocation(const uint8_t *data, size_t bytes) {
	for (int n = 1;; n++) {
		struct gguf g;
		struct bb_error err = { .code = BB_OK };
		base_fail_alloc_at(n);
		const bool ok = gguf_open_memory(&g, data, bytes, &err);
		base_fail_alloc_at(0);
		if (ok) {
			gguf_finish(&g);
			return n - 1;
		}
		cr_assert_eq(err.code, BB_ERR_MEMORY, "allocation %d: %s", n, err.text);
		cr_assert(g.kvs == NULL && g.tensors == NULL && g.key_index.slots == NULL);
	}
}

Test(gguf, every_failing_allocation_is_reported) {
	gguf_builder_sample(&builder);
	size_t bytes;
	const uint8_t *data = gguf_builder_end(&builder, &bytes);
	const long before = base_count_allocs();
	struct gguf g = open_built();
	const long n_allocs = base_count_allocs() - before;
	gguf_finish(&g);
	cr_assert_eq(fail_each_allocation(data, bytes), n_allocs);
	const size_t in_use = mallinfo2().uordblks;
	fail_each_allocation(data, bytes);
	cr_assert_eq(mallinfo2().uordblks, in_use);
}

Test(gguf, refused_files_leak_nothing) {
	gguf_builder_sample(&builder);
	size_t bytes, in_use[2];
	const uint8_t *data = gguf_builder_end(&builder, &bytes);
	for (int i = 0; i < 2; i++) { /* the first pass fills malloc's caches */
		struct bb_error err;
		for (size_t n = 0; n <= bytes; n++) {
			open_spoiled(data, n, &err);
		}
		in_use[i] = mallinfo2().uordblks;
	}
	cr_assert_eq(in_use[1], in_use[0]);
}

Test(gguf, hostile_counts_allocate_nothing_large) {
	gguf_builder_strs(&builder, "k", 1, (const char *const[]){ "v" });
	gguf_builder_f32(&builder, "t", 1, (const int64_t[]){ 1 }, NULL);
	size_t bytes;
	gguf_builder_end(&builder, &bytes);
	const size_t places[] = { GGUF_AT_N_TENSORS, GGUF_AT_N_KVS, GGUF_AT_KVS,
		gguf_builder_at_type(&builder, "k") + 8, gguf_builder_at_type(&builder, "k") + 16,
		gguf_builder_at_tensor(&builder, "t"), gguf_builder_at_shape(&builder, "t") + 4,
		gguf_builder_at_shape(&builder, "t") + 16 };
	const uint64_t values[] = { 1 << 20, UINT32_MAX, INT64_MAX, UINT64_MAX, UINT64_MAX / 2 - 31,
		UINT64_MAX / 16 + 1, UINT64_MAX - 31 };
	for (size_t i = 0; i < COUNT(places) * COUNT(values); i++) {
		struct bb_error err;
		gguf_builder_end(&builder, &bytes);
		gguf_builder_poke_u64(&builder, places[i / COUNT(values)], values[i % COUNT(values)]);
		cr_assert(!open_spoiled(builder.image.data, bytes, &err), "place %zu, value %zu",
			i / COUNT(values), i % COUNT(values));
	}
}

/* ---- names of types ---- */

Test(tensor, type_names) {
	cr_assert_str_eq(tensor_type_name(BB_Q4_1), "Q4_1");
	cr_assert_str_eq(tensor_type_name((enum bb_dtype)5), "?");
	cr_assert_str_eq(tensor_type_name((enum bb_dtype)1000000), "?");
}

Test(tensor, blocks) {
	cr_assert(tensor_block_elems(BB_Q4_1) == 32 && tensor_block_bytes(BB_Q4_1) == 20);
	cr_assert(tensor_block_elems(BB_F32) == 1 && tensor_block_bytes(BB_F32) == 4);
	cr_assert(tensor_block_elems(BB_Q6_K) == 256 && tensor_block_bytes(BB_Q6_K) == 210);
	cr_assert_eq(tensor_block_elems((enum bb_dtype)10), 0);
}

Test(tensor, shape_text_is_cut_to_the_buffer) {
	const struct bb_tensor t = { .n_dims = 2, .dims = { 49152, 576, 1, 1 } };
	char text[32];
	cr_assert_str_eq(tensor_shape_text(&t, text, sizeof(text)), "[49152, 576]");
	cr_assert_str_eq(tensor_shape_text(&t, text, 8), "[49152,");
	cr_assert_str_eq(tensor_shape_text(&t, text, 3), "[4");
}
