/* SPDX-License-Identifier: Apache-2.0
 *
 * Tests of base.c: errors, the allocator that fails on request, size arithmetic, mapped files. */
#include "base.h"

#include <criterion/criterion.h>

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

Test(base, fail_fills_and_returns_false) {
	struct bb_error err = { .code = BB_OK };
	cr_assert(!base_fail(&err, BB_ERR_FORMAT, "want %d, have %d", 3, 4));
	cr_assert_eq(err.code, BB_ERR_FORMAT);
	cr_assert_str_eq(err.text, "want 3, have 4");
}

Test(base, first_error_stays) {
	struct bb_error err = { .code = BB_OK };
	base_fail(&err, BB_ERR_IO, "first");
	base_fail(&err, BB_ERR_MEMORY, "second");
	cr_assert_eq(err.code, BB_ERR_IO);
	cr_assert_str_eq(err.text, "first");
}

Test(base, fail_takes_null) {
	cr_assert(!base_fail(NULL, BB_ERR_IO, "nobody asks"));
}

Test(base, long_error_is_cut) {
	struct bb_error err = { .code = BB_OK };
	char longer[2 * sizeof(err.text)];
	memset(longer, 'x', sizeof(longer) - 1);
	longer[sizeof(longer) - 1] = '\0';
	base_fail(&err, BB_ERR_INPUT, "%s", longer);
	cr_assert_eq(strlen(err.text), sizeof(err.text) - 1);
}

Test(base, no_memory_names_what_and_how_much) {
	struct bb_error err = { .code = BB_OK };
	cr_assert(!base_no_memory(&err, "pages", 4096));
	cr_assert_eq(err.code, BB_ERR_MEMORY);
	cr_assert_str_eq(err.text, "pages: 4096 bytes of memory could not be allocated");
}

Test(base, alloc_is_zeroed) {
	uint8_t *p = base_alloc(1000, 3);
	cr_assert_not_null(p);
	for (int i = 0; i < 3000; i++) {
		cr_assert_eq(p[i], 0);
	}
	base_free(p);
}

Test(base, alloc_of_nothing_is_a_pointer) {
	void *p = base_alloc(0, 8), *q = base_alloc(8, 0);
	cr_assert(p != NULL && q != NULL && p != q);
	base_free(p);
	base_free(q);
}

Test(base, alloc_refuses_overflow) {
	cr_assert_null(base_alloc(SIZE_MAX / 2, 3));
	cr_assert_null(base_realloc(NULL, SIZE_MAX / 2, 3));
}

Test(base, realloc_keeps_content) {
	char *p = base_strdup("abc");
	p = base_realloc(p, 1 << 20, 1);
	cr_assert_not_null(p);
	cr_assert_str_eq(p, "abc");
	base_free(p);
}

Test(base, strndup_copies_n_bytes) {
	char *p = base_strndup("ab\0cd", 5);
	cr_assert(memcmp(p, "ab\0cd", 6) == 0);
	base_free(p);
}

static void expect_shown(const char *bytes, size_t n, size_t cap, const char *want) {
	char buf[BASE_SHOWN];
	cr_assert_str_eq(base_show(bytes, n, buf, cap), want);
}

Test(base, show_lets_only_printing_characters_through) {
	expect_shown("plain", 5, BASE_SHOWN, "plain");
	expect_shown("a\n\33[2J\0b\177", 9, BASE_SHOWN, "a??[2J?b?");
	expect_shown("\xC3\xA9\xFF\xC0\x80", 5, BASE_SHOWN, "\xC3\xA9???");
	expect_shown("\xC2\x9B" "1m\xC2\xA0", 6, BASE_SHOWN, "??1m\xC2\xA0"); /* CSI in one character */
	expect_shown("", 0, BASE_SHOWN, "");
}

Test(base, show_cuts_between_characters) {
	expect_shown("12345", 5, 4, "123");
	expect_shown("12\xC3\xA9", 4, 4, "12");
	expect_shown("1\xC3\xA9", 3, 4, "1\xC3\xA9");
	expect_shown("123", 3, 1, "");
}

Test(base, nth_allocation_fails_once) {
	base_fail_alloc_at(2);
	void *a = base_alloc(1, 1), *b = base_alloc(1, 1), *c = base_alloc(1, 1);
	cr_assert(a != NULL && b == NULL && c != NULL);
	base_free(a);
	base_free(c);
}

Test(base, failed_realloc_keeps_the_block) {
	char *p = base_strdup("still here");
	base_fail_alloc_at(1);
	cr_assert_null(base_realloc(p, 100, 1));
	cr_assert_str_eq(p, "still here");
	base_free(p);
}

Test(base, failure_can_be_called_off) {
	base_fail_alloc_at(1);
	base_fail_alloc_at(0);
	void *p = base_alloc(1, 1);
	cr_assert_not_null(p);
	base_free(p);
}

Test(base, allocations_are_counted) {
	const long before = base_count_allocs();
	base_free(base_alloc(1, 1));
	base_free(base_strdup("x"));
	base_unmap(base_map(4096), 4096);
	cr_assert_eq(base_count_allocs() - before, 3);
}

Test(base, forbidden_allocation_aborts, .signal = SIGABRT) {
	fclose(stderr);
	base_forbid_alloc(true);
	base_alloc(1, 1);
}

Test(base, allocation_may_be_allowed_again) {
	base_forbid_alloc(true);
	base_forbid_alloc(false);
	void *p = base_alloc(1, 1);
	cr_assert_not_null(p);
	base_free(p);
}

Test(base, map_is_zeroed_and_page_aligned) {
	const size_t bytes = (4 << 20) + 1;
	uint8_t *p = base_map(bytes);
	cr_assert_not_null(p);
	cr_assert_eq((uintptr_t)p % 4096, 0);
	cr_assert(p[0] == 0 && p[bytes - 1] == 0);
	base_unmap(p, bytes);
	base_unmap(NULL, bytes);
}

Test(base, map_can_fail) {
	cr_assert_null(base_map(0));
	cr_assert_null(base_map(SIZE_MAX / 2));
	base_fail_alloc_at(1);
	cr_assert_null(base_map(4096));
}

Test(base, mul_and_add_see_overflow) {
	size_t n = 0;
	cr_assert(base_mul(1 << 20, 1 << 20, &n) && n == (size_t)1 << 40);
	cr_assert(base_add(SIZE_MAX - 1, 1, &n) && n == SIZE_MAX);
	cr_assert(!base_mul((size_t)1 << 32, (size_t)1 << 32, &n));
	cr_assert(!base_add(SIZE_MAX, 1, &n));
}

Test(base, append_grows_and_terminates) {
	struct bb_text t = { 0 };
	struct bb_error err = { .code = BB_OK };
	for (int i = 0; i < 1000; i++) {
		cr_assert(base_append(&t, "abc", 3, &err));
	}
	cr_assert(base_append(&t, NULL, 0, &err));
	cr_assert(t.bytes == 3000 && strlen(t.data) == 3000 && t.data[2999] == 'c');
	bb_text_finish(&t);
	cr_assert_null(t.data);
	bb_text_finish(&t);
	bb_text_finish(NULL);
}

Test(base, append_reports_lack_of_memory) {
	struct bb_text t = { 0 };
	struct bb_error err = { .code = BB_OK };
	base_fail_alloc_at(1);
	cr_assert(!base_append(&t, "abc", 3, &err));
	cr_assert_eq(err.code, BB_ERR_MEMORY);
	err.code = BB_OK;
	t.bytes = SIZE_MAX - 1;
	cr_assert(!base_append(&t, "abc", 3, &err));
	cr_assert_eq(err.code, BB_ERR_MEMORY);
}

Test(base, token_ids_grow) {
	struct bb_tokens t = { 0 };
	struct bb_error err = { .code = BB_OK };
	for (int32_t i = 0; i < 1000; i++) {
		cr_assert(bb_tokens_push(&t, -i, &err));
	}
	cr_assert(t.n == 1000 && t.ids[999] == -999);
	t.n = t.cap;
	base_fail_alloc_at(1);
	cr_assert(!bb_tokens_push(&t, 1, &err));
	cr_assert_eq(err.code, BB_ERR_MEMORY);
	bb_tokens_finish(&t);
	bb_tokens_finish(NULL);
	cr_assert(t.ids == NULL && t.n == 0);
}

/* A file of this process alone; its path goes into `path`. */
static void write_file(char *path, size_t path_bytes, const char *data, size_t bytes) {
	snprintf(path, path_bytes, "/tmp/bobbin-test-base-%d", (int)getpid());
	FILE *f = fopen(path, "wb");
	cr_assert_not_null(f);
	cr_assert_eq(fwrite(data, 1, bytes, f), bytes);
	cr_assert_eq(fclose(f), 0);
}

static void expect_not_opened(const char *path, enum bb_code code, const char *words) {
	struct base_file f;
	struct bb_error err = { .code = BB_OK };
	cr_assert(!base_file_open(&f, path, &err));
	cr_assert_eq(err.code, code);
	cr_assert_not_null(strstr(err.text, path), "%s", err.text);
	cr_assert_not_null(strstr(err.text, words), "%s", err.text);
	cr_assert(f.data == NULL && f.bytes == 0);
	base_file_close(&f);
}

Test(base, missing_file_is_named) {
	expect_not_opened("/nowhere/model.gguf", BB_ERR_IO, "No such file");
}

Test(base, folder_is_not_a_file) {
	expect_not_opened("/", BB_ERR_IO, "regular file");
}

Test(base, empty_file_is_refused) {
	char path[64];
	write_file(path, sizeof(path), "", 0);
	expect_not_opened(path, BB_ERR_FORMAT, "empty");
	unlink(path);
}

Test(base, file_is_mapped_whole) {
	char path[64];
	write_file(path, sizeof(path), "hello", 5);
	struct base_file f;
	struct bb_error err = { .code = BB_OK };
	cr_assert(base_file_open(&f, path, &err), "%s", err.text);
	unlink(path);
	cr_assert(f.bytes == 5 && memcmp(f.data, "hello", 5) == 0);
	base_file_close(&f);
	cr_assert_null(f.data);
	base_file_close(&f);
}

Test(base, seconds_go_forward) {
	const double before = base_seconds();
	usleep(2000);
	cr_assert_gt(base_seconds(), before);
}
