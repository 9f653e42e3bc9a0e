/* SPDX-License-Identifier: Apache-2.0
 *
 * Each way in which a GGUF file can be wrong, with the code and the sentence that it gets. One test
 * spoils one thing of a small good file. */
#include "gguf_builder.h"

#include <criterion/criterion.h>

#include <string.h>

/* The small file: key "k" = "value", key "a" = [1, 2] (u32), key "f" = true, then the tensors "t"
 * of Q8_0 [2, 32] at offset 0 and "u" of F32 [8] at offset 96. */
static struct gguf_builder b;
static size_t n_bytes;

static void start(void) {
	gguf_builder_init(&b);
	gguf_builder_str(&b, "k", "value");
	gguf_builder_array(&b, "a", GGUF_U32, 2, (const uint32_t[]){ 1, 2 });
	gguf_builder_bool(&b, "f", true);
	gguf_builder_tensor(&b, "t", BB_Q8_0, 2, (const int64_t[]){ 2, 32 }, NULL);
	gguf_builder_tensor(&b, "u", BB_F32, 1, (const int64_t[]){ 8 }, NULL);
	gguf_builder_end(&b, &n_bytes);
}

static void stop(void) {
	gguf_builder_finish(&b);
}

TestSuite(refused, .init = start, .fini = stop, .timeout = 60);

static void expect(enum bb_code code, const char *sentence) {
	struct gguf g;
	struct bb_error err = { .code = BB_OK };
	cr_assert(!gguf_open_memory(&g, b.image.data, n_bytes, &err), "was not refused");
	cr_assert_str_eq(err.text, sentence);
	cr_assert_eq(err.code, code);
	cr_assert(g.kvs == NULL && g.tensors == NULL);
}

/* Places inside the entries of "t" and "u". */
static size_t at_type(const char *tensor, int n_dims) {
	return gguf_builder_at_shape(&b, tensor) + 4 + 8 * (size_t)n_dims;
}

static size_t at_offset(const char *tensor, int n_dims) {
	return at_type(tensor, n_dims) + 4;
}

Test(refused, nothing_in_the_good_file) {
	struct gguf g;
	struct bb_error err = { .code = BB_OK };
	cr_assert(gguf_open_memory(&g, b.image.data, n_bytes, &err), "%s", err.text);
	gguf_finish(&g);
}

/* ---- header ---- */

Test(refused, magic) {
	memcpy(b.image.data, "ggjt", 4);
	expect(BB_ERR_FORMAT,
		"the header begins with bytes 67 67 6a 74, expected 47 47 55 46 (GGUF)");
}

Test(refused, no_bytes) {
	n_bytes = 0;
	expect(BB_ERR_FORMAT, "the header needs bytes 0..4 but the file ends at 0 (truncated?)");
}

Test(refused, cut_header) {
	n_bytes = 20;
	expect(BB_ERR_FORMAT, "the header needs bytes 16..24 but the file ends at 20 (truncated?)");
}

Test(refused, version_1) {
	gguf_builder_poke_u32(&b, GGUF_AT_VERSION, 1);
	expect(BB_ERR_UNSUPPORTED, "the header says GGUF version 1, expected 2 or 3");
}

Test(refused, version_4) {
	gguf_builder_poke_u32(&b, GGUF_AT_VERSION, 4);
	expect(BB_ERR_UNSUPPORTED, "the header says GGUF version 4, expected 2 or 3");
}

Test(refused, big_endian) {
	gguf_builder_poke_u32(&b, GGUF_AT_VERSION, 0x03000000);
	expect(BB_ERR_UNSUPPORTED,
		"the header says GGUF version 3 in big-endian order, expected a little-endian file");
}

Test(refused, more_keys_than_bytes) {
	gguf_builder_poke_u64(&b, GGUF_AT_N_KVS, 1000);
	expect(BB_ERR_FORMAT, "the header counts 1000 keys of 14 or more bytes each, but only 296 "
		"bytes are left in the file (truncated?)");
}

Test(refused, absurd_number_of_keys) {
	gguf_builder_poke_u64(&b, GGUF_AT_N_KVS, UINT64_MAX);
	expect(BB_ERR_FORMAT,
		"the header counts 18446744073709551615 keys, expected at most 16777216");
}

Test(refused, more_tensors_than_bytes) {
	gguf_builder_poke_u64(&b, GGUF_AT_N_TENSORS, 1000);
	expect(BB_ERR_FORMAT, "the header counts 1000 tensors of 33 or more bytes each, but only 223 "
		"bytes are left in the file (truncated?)");
}

Test(refused, absurd_number_of_tensors) {
	gguf_builder_poke_u64(&b, GGUF_AT_N_TENSORS, UINT64_C(1) << 63);
	expect(BB_ERR_FORMAT,
		"the header counts 9223372036854775808 tensors, expected at most 16777216");
}

/* ---- keys ---- */

Test(refused, empty_key) {
	gguf_builder_poke_u64(&b, gguf_builder_at_key(&b, "a"), 0);
	expect(BB_ERR_FORMAT, "key 2 of 3 has a name of 0 bytes, expected 1..65535");
}

Test(refused, long_key) {
	gguf_builder_poke_u64(&b, gguf_builder_at_key(&b, "k"), 65536);
	expect(BB_ERR_FORMAT, "key 1 of 3 has a name of 65536 bytes, expected 1..65535");
}

Test(refused, key_beyond_the_end) {
	gguf_builder_poke_u64(&b, gguf_builder_at_key(&b, "k"), 4000);
	expect(BB_ERR_FORMAT, "key 1 of 3 needs bytes 32..4032 but the file ends at 320 (truncated?)");
}

Test(refused, key_with_nul) {
	gguf_builder_poke_u8(&b, gguf_builder_at_key(&b, "f") + 8, 0);
	expect(BB_ERR_FORMAT,
		"key 3 of 3 has byte 0x00 at place 0 of its name, expected printable ASCII");
}

Test(refused, key_with_newline) {
	gguf_builder_poke_u8(&b, gguf_builder_at_key(&b, "f") + 8, '\n');
	expect(BB_ERR_FORMAT,
		"key 3 of 3 has byte 0x0a at place 0 of its name, expected printable ASCII");
}

Test(refused, key_with_utf8) {
	gguf_builder_poke_u8(&b, gguf_builder_at_key(&b, "f") + 8, 0xe2);
	expect(BB_ERR_FORMAT,
		"key 3 of 3 has byte 0xe2 at place 0 of its name, expected printable ASCII");
}

Test(refused, key_twice) {
	gguf_builder_poke_u8(&b, gguf_builder_at_key(&b, "f") + 8, 'k');
	expect(BB_ERR_FORMAT, "key 'k' is there twice, as number 1 and number 3 of 3");
}

Test(refused, unknown_value_type) {
	gguf_builder_poke_u32(&b, gguf_builder_at_type(&b, "f"), 13);
	expect(BB_ERR_FORMAT, "key 'f' has the value type 13, expected 0..12");
}

Test(refused, unknown_element_type) {
	gguf_builder_poke_u32(&b, gguf_builder_at_type(&b, "a") + 4, 255);
	expect(BB_ERR_FORMAT, "key 'a' has the element type 255, expected 0..12");
}

Test(refused, nested_array) {
	gguf_builder_poke_u32(&b, gguf_builder_at_type(&b, "a") + 4, GGUF_ARRAY);
	expect(BB_ERR_UNSUPPORTED, "key 'a' is an array of arrays, expected one of plain values");
}

Test(refused, string_beyond_the_end) {
	gguf_builder_poke_u64(&b, gguf_builder_at_type(&b, "k") + 4, 999);
	expect(BB_ERR_FORMAT, "key 'k' needs bytes 45..1044 but the file ends at 320 (truncated?)");
}

Test(refused, string_of_2_to_the_64) {
	gguf_builder_poke_u64(&b, gguf_builder_at_type(&b, "k") + 4, UINT64_MAX);
	expect(BB_ERR_FORMAT,
		"key 'k' needs bytes 45..18446744073709551615 but the file ends at 320 (truncated?)");
}

Test(refused, array_beyond_the_end) {
	gguf_builder_poke_u64(&b, gguf_builder_at_type(&b, "a") + 8, 100);
	expect(BB_ERR_FORMAT, "key 'a' needs bytes 75..475 but the file ends at 320 (truncated?)");
}

Test(refused, array_whose_bytes_overflow) {
	gguf_builder_poke_u64(&b, gguf_builder_at_type(&b, "a") + 8, UINT64_C(1) << 62);
	expect(BB_ERR_FORMAT,
		"key 'a' needs bytes 75..18446744073709551615 but the file ends at 320 (truncated?)");
}

Test(refused, more_strings_than_bytes) {
	gguf_builder_poke_u32(&b, gguf_builder_at_type(&b, "a") + 4, GGUF_STRING);
	gguf_builder_poke_u64(&b, gguf_builder_at_type(&b, "a") + 8, UINT64_C(1) << 40);
	expect(BB_ERR_FORMAT, "key 'a' holds 1099511627776 strings of 8 or more bytes each, but only "
		"245 bytes are left in the file (truncated?)");
}

Test(refused, one_string_more_than_bytes) {
	gguf_builder_poke_u32(&b, gguf_builder_at_type(&b, "a") + 4, GGUF_STRING);
	gguf_builder_poke_u64(&b, gguf_builder_at_type(&b, "a") + 8, 245 / 8 + 1);
	expect(BB_ERR_FORMAT, "key 'a' holds 31 strings of 8 or more bytes each, but only 245 bytes "
		"are left in the file (truncated?)");
}

Test(refused, bool_of_2) {
	gguf_builder_poke_u8(&b, gguf_builder_at_type(&b, "f") + 4, 2);
	expect(BB_ERR_FORMAT, "key 'f' has the bool 2, expected 0 or 1");
}

Test(refused, cut_key) {
	n_bytes = gguf_builder_at_type(&b, "f") + 2;
	gguf_builder_poke_u64(&b, GGUF_AT_N_TENSORS, 0);
	expect(BB_ERR_FORMAT, "key 'f' needs bytes 92..96 but the file ends at 94 (truncated?)");
}

static void refuse_alignment(uint32_t alignment, const char *sentence) {
	gguf_builder_int(&b, "general.alignment", GGUF_U32, alignment);
	gguf_builder_end(&b, &n_bytes);
	expect(BB_ERR_FORMAT, sentence);
}

Test(refused, alignment_0) {
	refuse_alignment(0, "key 'general.alignment' is 0, expected a power of two in 8..1048576");
}

Test(refused, alignment_4) {
	refuse_alignment(4, "key 'general.alignment' is 4, expected a power of two in 8..1048576");
}

Test(refused, alignment_24) {
	refuse_alignment(24, "key 'general.alignment' is 24, expected a power of two in 8..1048576");
}

Test(refused, alignment_2_mib) {
	refuse_alignment(2 << 20,
		"key 'general.alignment' is 2097152, expected a power of two in 8..1048576");
}

Test(refused, alignment_as_text) {
	gguf_builder_str(&b, "general.alignment", "32");
	gguf_builder_end(&b, &n_bytes);
	expect(BB_ERR_FORMAT, "key 'general.alignment' is of type string, expected an integer");
}

/* ---- tensors ---- */

Test(refused, empty_tensor_name) {
	gguf_builder_poke_u64(&b, gguf_builder_at_tensor(&b, "u"), 0);
	expect(BB_ERR_FORMAT, "tensor 2 of 2 has a name of 0 bytes, expected 1..64");
}

Test(refused, long_tensor_name) {
	gguf_builder_poke_u64(&b, gguf_builder_at_tensor(&b, "t"), 65);
	expect(BB_ERR_FORMAT, "tensor 1 of 2 has a name of 65 bytes, expected 1..64");
}

Test(refused, tensor_name_with_escape) {
	gguf_builder_poke_u8(&b, gguf_builder_at_tensor(&b, "t") + 8, 0x1b);
	expect(BB_ERR_FORMAT,
		"tensor 1 of 2 has byte 0x1b at place 0 of its name, expected printable ASCII");
}

Test(refused, tensor_twice) {
	gguf_builder_poke_u8(&b, gguf_builder_at_tensor(&b, "u") + 8, 't');
	expect(BB_ERR_FORMAT, "tensor 't' is there twice, as number 1 and number 2 of 2");
}

Test(refused, no_dimensions) {
	gguf_builder_poke_u32(&b, gguf_builder_at_shape(&b, "t"), 0);
	expect(BB_ERR_FORMAT, "tensor 't' has 0 dimensions, expected 1..4");
}

Test(refused, five_dimensions) {
	gguf_builder_poke_u32(&b, gguf_builder_at_shape(&b, "t"), 5);
	expect(BB_ERR_FORMAT, "tensor 't' has 5 dimensions, expected 1..4");
}

Test(refused, dimension_0) {
	gguf_builder_poke_u64(&b, gguf_builder_at_shape(&b, "t") + 12, 0);
	expect(BB_ERR_FORMAT, "tensor 't' has a dimension of 0, expected 1..9223372036854775807");
}

Test(refused, negative_dimension) {
	gguf_builder_poke_u64(&b, gguf_builder_at_shape(&b, "u") + 4, UINT64_MAX);
	expect(BB_ERR_FORMAT, "tensor 'u' has a dimension of 18446744073709551615, expected "
		"1..9223372036854775807");
}

Test(refused, product_of_dimensions_overflows) {
	gguf_builder_poke_u64(&b, gguf_builder_at_shape(&b, "t") + 4, UINT64_C(1) << 32);
	gguf_builder_poke_u64(&b, gguf_builder_at_shape(&b, "t") + 12, UINT64_C(1) << 31);
	expect(BB_ERR_FORMAT, "tensor 't' has more elements than 2^63 - 1");
}

Test(refused, bytes_overflow) {
	gguf_builder_poke_u64(&b, gguf_builder_at_shape(&b, "u") + 4, UINT64_C(1) << 62);
	expect(BB_ERR_FORMAT, "tensor 'u' has more bytes than 2^64 - 1");
}

Test(refused, row_not_whole_blocks) {
	gguf_builder_poke_u64(&b, gguf_builder_at_shape(&b, "t") + 4, 48);
	expect(BB_ERR_FORMAT,
		"tensor 't' has rows of 48 elements, expected a multiple of Q8_0's block of 32");
}

Test(refused, unknown_type) {
	gguf_builder_poke_u32(&b, at_type("t", 2), 4711);
	expect(BB_ERR_FORMAT, "tensor 't' has the unknown type number 4711");
}

Test(refused, type_beyond_the_known) {
	gguf_builder_poke_u32(&b, at_type("t", 2), 63);
	expect(BB_ERR_FORMAT, "tensor 't' has the unknown type number 63");
}

Test(refused, types_without_kernels) {
	static const struct {
		uint32_t number;
		const char *name;
	} rows[] = {
		{ 4, "Q4_2" }, { 5, "Q4_3" }, { 9, "Q8_1" }, { 10, "Q2_K" }, { 11, "Q3_K" }, { 15, "Q8_K" },
		{ 16, "IQ2_XXS" }, { 17, "IQ2_XS" }, { 18, "IQ3_XXS" }, { 19, "IQ1_S" }, { 20, "IQ4_NL" },
		{ 21, "IQ3_S" }, { 22, "IQ2_S" }, { 23, "IQ4_XS" }, { 24, "I8" }, { 25, "I16" },
		{ 26, "I32" }, { 27, "I64" }, { 28, "F64" }, { 29, "IQ1_M" }, { 31, "Q4_0_4_4" },
		{ 34, "TQ1_0" }, { 35, "TQ2_0" }, { 38, "IQ4_NL_8_8" }, { 39, "MXFP4" }, { 40, "NVFP4" },
	};
	for (size_t i = 0; i < COUNT(rows); i++) {
		char sentence[128];
		gguf_builder_poke_u32(&b, at_type("t", 2), rows[i].number);
		snprintf(sentence, sizeof(sentence),
			"tensor 't' has type %s (%u), which has no kernels here", rows[i].name, rows[i].number);
		expect(BB_ERR_UNSUPPORTED, sentence);
	}
}

Test(refused, misaligned_offset) {
	gguf_builder_poke_u64(&b, at_offset("u", 1), 100);
	expect(BB_ERR_FORMAT, "tensor 'u' is at offset 100, expected a multiple of the alignment 32");
}

Test(refused, data_beyond_the_end) {
	gguf_builder_poke_u64(&b, at_offset("u", 1), 3200);
	expect(BB_ERR_FORMAT,
		"tensor 'u' needs bytes 3392..3424 but the file ends at 320 (truncated?)");
}

Test(refused, offset_that_overflows) {
	gguf_builder_poke_u64(&b, at_offset("u", 1), UINT64_MAX - 31);
	expect(BB_ERR_FORMAT, "tensor 'u' is at offset 18446744073709551584, beyond 2^64");
}

Test(refused, data_that_overflows) {
	gguf_builder_poke_u64(&b, gguf_builder_at_shape(&b, "u") + 4, UINT64_C(1) << 61);
	gguf_builder_poke_u64(&b, at_offset("u", 1), UINT64_C(1) << 63);
	expect(BB_ERR_FORMAT, "tensor 'u' needs bytes 9223372036854776000..18446744073709551615 but "
		"the file ends at 320 (truncated?)");
}

Test(refused, cut_data) {
	n_bytes -= 1;
	expect(BB_ERR_FORMAT, "tensor 'u' needs bytes 288..320 but the file ends at 319 (truncated?)");
}

Test(refused, cut_tensor_entry) {
	n_bytes = at_offset("t", 2) + 4;
	gguf_builder_poke_u64(&b, GGUF_AT_N_TENSORS, 1);
	expect(BB_ERR_FORMAT, "tensor 't' needs bytes 130..138 but the file ends at 134 (truncated?)");
}

Test(refused, overlapping_tensors) {
	gguf_builder_poke_u64(&b, at_offset("u", 1), 64);
	expect(BB_ERR_FORMAT,
		"tensor 'u' begins at byte 256, inside tensor 't' of bytes 192..260");
}

Test(refused, same_place_twice) {
	gguf_builder_poke_u64(&b, at_offset("u", 1), 0);
	expect(BB_ERR_FORMAT,
		"tensor 'u' begins at byte 192, inside tensor 't' of bytes 192..260");
}

Test(refused, overlap_in_another_order) {
	gguf_builder_poke_u64(&b, at_offset("t", 2), 32);
	gguf_builder_poke_u64(&b, at_offset("u", 1), 0);
	gguf_builder_poke_u64(&b, gguf_builder_at_shape(&b, "u") + 4, 16);
	expect(BB_ERR_FORMAT, "tensor 't' begins at byte 224, inside tensor 'u' of bytes 192..256");
}
