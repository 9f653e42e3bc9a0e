/* SPDX-License-Identifier: Apache-2.0
 *
 * The safetensors reader: what a good file gives, and each way in which a file can be wrong, with
 * its sentence. */
#include "safetensors.h"

#include <criterion/criterion.h>

#include <stdlib.h>
#include <string.h>

/* A file of this process: length, header, data. */
static struct {
	uint8_t *data; /* [bytes] */
	size_t bytes;
} file;

static void stop(void) {
	free(file.data);
	file.data = NULL;
}

TestSuite(safetensors, .fini = stop, .timeout = 60);

/* The header followed by n bytes of data that count up. */
static void start(const char *header, size_t n) {
	const uint64_t length = strlen(header);
	file.bytes = sizeof(length) + length + n;
	free(file.data);
	file.data = malloc(file.bytes);
	memcpy(file.data, &length, sizeof(length));
	memcpy(file.data + sizeof(length), header, length);
	for (size_t i = 0; i < n; i++) {
		file.data[sizeof(length) + length + i] = (uint8_t)i;
	}
}

static void expect(enum bb_code code, const char *sentence) {
	struct safetensors s;
	struct bb_error err = { .code = BB_OK };
	cr_assert(!safetensors_open_memory(&s, file.data, file.bytes, &err), "was not refused");
	cr_assert_str_eq(err.text, sentence);
	cr_assert_eq(err.code, code);
	cr_assert(s.tensors == NULL && s.copies == NULL);
}

/* A header of one tensor "t", whose entry is given. */
static void start_one(const char *entry, size_t n) {
	char header[1024];
	snprintf(header, sizeof(header), "{\"t\":%s}", entry);
	start(header, n);
}

#define TWO_F32 "{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}"

/* ---- good files ---- */

static const char good[] = "{\"__metadata__\":{\"format\":\"pt\"},"
	"\"b\":{\"dtype\":\"BF16\",\"shape\":[3,1,2],\"data_offsets\":[12,24]},"
	"\"a\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,4]},"
	"\"c\":{\"dtype\":\"F16\",\"shape\":[4],\"data_offsets\":[4,12]}}   ";

static void check_good(void) {
	struct safetensors s;
	struct bb_error err = { .code = BB_OK };
	cr_assert(safetensors_open_memory(&s, file.data, file.bytes, &err), "%s", err.text);
	cr_assert_eq(s.n_tensors, 3);
	const struct {
		const char *name;
		enum bb_dtype type;
		int n_dims;
		int64_t dims[4];
		size_t bytes;
		uint8_t first;
	} want[] = {
		{ "b", BB_BF16, 3, { 3, 1, 2, 1 }, 12, 12 },
		{ "a", BB_F32, 1, { 1, 1, 1, 1 }, 4, 0 },
		{ "c", BB_F16, 1, { 4, 1, 1, 1 }, 8, 4 },
	};
	for (size_t i = 0; i < 3; i++) {
		const struct bb_tensor *t = &s.tensors[i];
		cr_assert_str_eq(t->name, want[i].name);
		cr_assert_eq(t->type, want[i].type);
		cr_assert_eq(t->n_dims, want[i].n_dims);
		cr_assert(memcmp(t->dims, want[i].dims, sizeof(t->dims)) == 0);
		cr_assert_eq(t->bytes, want[i].bytes);
		cr_assert_eq(((const uint8_t *)t->data)[0], want[i].first);
		cr_assert_eq(((const uint8_t *)t->data)[t->bytes - 1], want[i].first + t->bytes - 1);
		cr_assert_eq((uintptr_t)t->data % (size_t)tensor_block_bytes(t->type), 0);
	}
	safetensors_finish(&s);
}

Test(safetensors, good_file) {
	start(good, 24);
	check_good();
}

/* Headers needn't end where an element may begin. */
Test(safetensors, unaligned_data_is_copied) {
	char header[sizeof(good) + 8];
	for (int n_spaces = 0; n_spaces < 8; n_spaces++) {
		snprintf(header, sizeof(header), "%s%*s", good, n_spaces, "");
		start(header, 24);
		check_good();
	}
}

Test(safetensors, no_tensors) {
	start("{}", 0);
	struct safetensors s;
	struct bb_error err = { .code = BB_OK };
	cr_assert(safetensors_open_memory(&s, file.data, file.bytes, &err), "%s", err.text);
	cr_assert_eq(s.n_tensors, 0);
	safetensors_finish(&s);
}

Test(safetensors, every_cut_is_refused) {
	start(good, 24);
	for (size_t n = 0; n < file.bytes; n++) {
		uint8_t *cut = malloc(n > 0 ? n : 1); /* sanitizers see a read beyond it */
		memcpy(cut, file.data, n);
		struct safetensors s;
		struct bb_error err = { .code = BB_OK };
		cr_assert(!safetensors_open_memory(&s, cut, n, &err), "%zu of %zu bytes", n, file.bytes);
		cr_assert_eq(err.code, BB_ERR_FORMAT);
		cr_assert_not_null(strstr(err.text, "(truncated?)"), "%zu: %s", n, err.text);
		free(cut);
	}
}

/* Whatever one bit does: refused with a sentence, or still a file without holes. */
Test(safetensors, every_flipped_bit_is_read_or_refused) {
	start(good, 24);
	for (size_t i = 0; i < (file.bytes - 24) * 8; i++) {
		file.data[i / 8] ^= (uint8_t)(1 << i % 8);
		struct safetensors s;
		struct bb_error err = { .code = BB_OK };
		if (safetensors_open_memory(&s, file.data, file.bytes, &err)) {
			cr_assert_leq(s.n_tensors, 3);
			safetensors_finish(&s);
		} else {
			cr_assert(err.text[0] != '\0' && strchr(err.text, '\n') == NULL);
		}
		file.data[i / 8] ^= (uint8_t)(1 << i % 8);
	}
}

Test(safetensors, every_failed_allocation_is_an_error) {
	char header[sizeof(good) + 8];
	snprintf(header, sizeof(header), "%s ", good); /* something has to be copied */
	start(header, 24);
	for (long n = 1;; n++) {
		struct safetensors s;
		struct bb_error err = { .code = BB_OK };
		base_fail_alloc_at(n);
		const bool ok = safetensors_open_memory(&s, file.data, file.bytes, &err);
		base_fail_alloc_at(0);
		if (ok) {
			safetensors_finish(&s);
			cr_assert_gt(n, 5);
			return;
		}
		cr_assert_eq(err.code, BB_ERR_MEMORY, "%s", err.text);
	}
}

Test(safetensors, path_is_named) {
	struct safetensors s;
	struct bb_error err = { .code = BB_OK };
	cr_assert(!safetensors_open(&s, "/nowhere/model.safetensors", &err));
	cr_assert_eq(err.code, BB_ERR_IO);
	cr_assert_not_null(strstr(err.text, "/nowhere/model.safetensors"));
}

/* ---- the header ---- */

Test(safetensors, no_bytes) {
	start("{}", 0);
	file.bytes = 0;
	expect(BB_ERR_FORMAT, "the header needs bytes 0..8 but the file ends at 0 (truncated?)");
}

Test(safetensors, long_header) {
	start_one(TWO_F32, 8);
	memcpy(file.data, &(uint64_t){ UINT64_MAX }, 8);
	expect(BB_ERR_FORMAT, "the header has 18446744073709551615 bytes, expected 2..33554432 (is "
		"this a safetensors file?)");
}

Test(safetensors, short_header) {
	start_one(TWO_F32, 8);
	memcpy(file.data, &(uint64_t){ 1 }, 8);
	expect(BB_ERR_FORMAT,
		"the header has 1 bytes, expected 2..33554432 (is this a safetensors file?)");
}

Test(safetensors, header_beyond_the_file) {
	start("{}", 0);
	memcpy(file.data, &(uint64_t){ 3 }, 8);
	expect(BB_ERR_FORMAT, "the header needs bytes 8..11 but the file ends at 10 (truncated?)");
}

Test(safetensors, header_of_something_else) {
	start("[1]", 0);
	expect(BB_ERR_FORMAT, "the header begins with byte 0x5b, expected 0x7b ('{')");
}

Test(safetensors, no_json) {
	start("{\"t\":}", 0);
	expect(BB_ERR_FORMAT, "the header isn't JSON: line 1, column 6: unexpected token near '}'");
}

Test(safetensors, text_that_would_steer_a_terminal) {
	start("{\"t\":\33[2J}", 0);
	struct safetensors s;
	struct bb_error err = { .code = BB_OK };
	cr_assert(!safetensors_open_memory(&s, file.data, file.bytes, &err));
	cr_assert_null(strchr(err.text, '\33'), "%s", err.text);
}

Test(safetensors, name_twice) {
	start("{\"t\":" TWO_F32 ",\"t\":" TWO_F32 "}", 8);
	expect(BB_ERR_FORMAT,
		"the header isn't JSON: line 1, column 57: duplicate object key near '\"t\"'");
}

Test(safetensors, metadata_that_is_no_object) {
	start("{\"__metadata__\":1}", 0);
	expect(BB_ERR_FORMAT, "the header's __metadata__ isn't an object of strings");
}

Test(safetensors, metadata_with_a_number) {
	start("{\"__metadata__\":{\"a\":1}}", 0);
	expect(BB_ERR_FORMAT, "the header's __metadata__ isn't an object of strings");
}

/* ---- a tensor's entry ---- */

Test(safetensors, name_that_does_not_print) {
	start("{\"t\\u001b\":" TWO_F32 "}", 8);
	expect(BB_ERR_FORMAT,
		"tensor 't?' has byte 0x1b at place 1 of its name, expected printable ASCII");
}

Test(safetensors, empty_name) {
	start("{\"\":" TWO_F32 "}", 8);
	expect(BB_ERR_FORMAT, "tensor '' has a name of 0 bytes, expected 1..255");
}

Test(safetensors, long_name) {
	char header[512];
	snprintf(header, sizeof(header), "{\"%0256d\":" TWO_F32 "}", 0);
	start(header, 8);
	expect(BB_ERR_FORMAT, "tensor '00000000000000000000000000000000000000000000000' has a name of "
		"256 bytes, expected 1..255");
}

Test(safetensors, entry_that_is_no_object) {
	start_one("[]", 0);
	expect(BB_ERR_FORMAT, "tensor 't' has other fields than dtype, shape and data_offsets");
}

Test(safetensors, missing_field) {
	start_one("{\"dtype\":\"F32\",\"shape\":[2]}", 8);
	expect(BB_ERR_FORMAT, "tensor 't' has other fields than dtype, shape and data_offsets");
}

Test(safetensors, field_too_many) {
	start_one("{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8],\"x\":0}", 8);
	expect(BB_ERR_FORMAT, "tensor 't' has other fields than dtype, shape and data_offsets");
}

Test(safetensors, dtype_that_is_no_string) {
	start_one("{\"dtype\":1,\"shape\":[2],\"data_offsets\":[0,8]}", 8);
	expect(BB_ERR_FORMAT, "tensor 't' has no string as dtype");
}

Test(safetensors, dtype_without_kernels) {
	start_one("{\"dtype\":\"F8_E4M3\",\"shape\":[8],\"data_offsets\":[0,8]}", 8);
	expect(BB_ERR_UNSUPPORTED, "tensor 't' has dtype F8_E4M3, expected F32, F16 or BF16");
}

Test(safetensors, unknown_dtype) {
	start_one("{\"dtype\":\"F\\u001b7\",\"shape\":[8],\"data_offsets\":[0,8]}", 8);
	expect(BB_ERR_FORMAT, "tensor 't' has the unknown dtype 'F?7'");
}

Test(safetensors, shape_that_is_no_array) {
	start_one("{\"dtype\":\"F32\",\"shape\":2,\"data_offsets\":[0,8]}", 8);
	expect(BB_ERR_FORMAT, "tensor 't' has no array of 0 to 4 dimensions as shape");
}

Test(safetensors, too_many_dimensions) {
	start_one("{\"dtype\":\"F32\",\"shape\":[1,1,1,1,2],\"data_offsets\":[0,8]}", 8);
	expect(BB_ERR_FORMAT, "tensor 't' has no array of 0 to 4 dimensions as shape");
}

Test(safetensors, dimension_of_zero) {
	start_one("{\"dtype\":\"F32\",\"shape\":[2,0],\"data_offsets\":[0,0]}", 0);
	expect(BB_ERR_FORMAT,
		"tensor 't' has something else than a number from 1 on as dimension 2");
}

Test(safetensors, dimension_that_is_no_integer) {
	start_one("{\"dtype\":\"F32\",\"shape\":[2.0],\"data_offsets\":[0,8]}", 8);
	expect(BB_ERR_FORMAT,
		"tensor 't' has something else than a number from 1 on as dimension 1");
}

Test(safetensors, too_many_elements) {
	start_one("{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,8]}", 8);
	expect(BB_ERR_FORMAT, "tensor 't' has more elements than 2^63 - 1");
}

Test(safetensors, too_many_bytes) {
	start_one("{\"dtype\":\"F32\",\"shape\":[9223372036854775807],\"data_offsets\":[0,8]}", 8);
	expect(BB_ERR_FORMAT, "tensor 't' has more bytes than 2^64 - 1");
}

Test(safetensors, offsets_in_the_wrong_order) {
	start_one("{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,0]}", 8);
	expect(BB_ERR_FORMAT, "tensor 't' has no two data_offsets, the first not above the second");
}

Test(safetensors, negative_offset) {
	start_one("{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[-8,0]}", 8);
	expect(BB_ERR_FORMAT, "tensor 't' has no two data_offsets, the first not above the second");
}

Test(safetensors, one_offset) {
	start_one("{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0]}", 8);
	expect(BB_ERR_FORMAT, "tensor 't' has no two data_offsets, the first not above the second");
}

Test(safetensors, offsets_beyond_the_data) {
	start_one(TWO_F32, 7);
	expect(BB_ERR_FORMAT,
		"tensor 't' needs bytes 0..8 of the data but it ends at 7 (truncated?)");
}

Test(safetensors, offsets_of_another_size) {
	start_one("{\"dtype\":\"F32\",\"shape\":[1,3],\"data_offsets\":[0,8]}", 8);
	expect(BB_ERR_FORMAT, "tensor 't' has data_offsets of 8 bytes, but F32 [1, 3] has 12");
}

/* ---- where tensors lie ---- */

Test(safetensors, overlap) {
	start("{\"t\":" TWO_F32
		",\"u\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[4,12]}}", 12);
	expect(BB_ERR_FORMAT,
		"tensor 'u' begins at byte 4 of the data, inside tensor 't' of bytes 0..8");
}

Test(safetensors, same_bytes) {
	start("{\"t\":" TWO_F32 ",\"u\":" TWO_F32 "}", 8);
	expect(BB_ERR_FORMAT,
		"tensor 'u' begins at byte 0 of the data, inside tensor 't' of bytes 0..8");
}

Test(safetensors, hole_at_the_beginning) {
	start_one("{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}", 8);
	expect(BB_ERR_FORMAT, "bytes 0..4 of the data belong to no tensor");
}

Test(safetensors, hole_between) {
	start("{\"t\":" TWO_F32
		",\"u\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[9,17]}}", 17);
	expect(BB_ERR_FORMAT, "bytes 8..9 of the data belong to no tensor");
}

Test(safetensors, bytes_at_the_end) {
	start_one(TWO_F32, 10);
	expect(BB_ERR_FORMAT, "bytes 8..10 of the data belong to no tensor");
}
