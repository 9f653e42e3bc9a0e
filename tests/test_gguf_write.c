/* SPDX-License-Identifier: Apache-2.0
 *
 * Files of the GGUF writer, read back by the reader: every kind of value and tensor; and failures
 * of memory and disk, which leave what stood there. */
#include "gguf_write.h"

#include "gguf.h"

#include <criterion/criterion.h>

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

enum { ROWS = 7, COLUMNS = 5, LONG = 40000 };

static const char *const names[] = { "a", "", "three four" };

static char path[64];

static void name_file(void) {
	snprintf(path, sizeof(path), "/tmp/bobbin-gguf-write-%d", (int)getpid());
}

static void remove_file(void) {
	unlink(path);
}

TestSuite(gguf_write, .init = name_file, .fini = remove_file, .timeout = 60);

/* The i-th value of a tensor. Those below 64 have few bits, so that every type holds them; 1 + 2^-9
 * is a tie of bf16 and none of f16, and is odd above. */
static float value(size_t i) {
	return i == 64 ? 1.001953125f : (float)(int)(i % 64) / 8 - 3;
}

static void fill(float *values, size_t n) {
	for (size_t i = 0; values != NULL && i < n; i++) {
		values[i] = value(i);
	}
}

static void write_keys(struct gguf_writer *w) {
	gguf_writer_string(w, "general.architecture", "none");
	gguf_writer_u32(w, "u", 4000000000u);
	gguf_writer_f32(w, "f", -0.5f);
	gguf_writer_bool(w, "yes", true);
	gguf_writer_bool(w, "no", false);
	gguf_writer_strings(w, "names", names, COUNT(names));
	gguf_writer_strings(w, "nobody", names, 0);
}

/* Between and behind tensors too: the order of calls is the caller's. */
static bool write_file(struct bb_error *err) {
	struct gguf_writer *w;
	if (!gguf_writer_create(&w, err)) {
		cr_assert_null(w);
		return false;
	}
	fill(gguf_writer_tensor(w, "f32", GGUF_WRITE_F32, ROWS, COLUMNS), ROWS * COLUMNS);
	write_keys(w);
	fill(gguf_writer_tensor(w, "f16", GGUF_WRITE_F16, COLUMNS, ROWS), ROWS * COLUMNS);
	fill(gguf_writer_tensor(w, "bf16", GGUF_WRITE_BF16, LONG, 0), LONG);
	gguf_writer_tensor(w, "zeros", GGUF_WRITE_F32, 3, 0);
	const bool ok = gguf_writer_save(w, path, err);
	gguf_writer_destroy(w);
	return ok;
}

static void expect_tensor(const struct gguf *g, const char *name, enum bb_dtype type, int n_dims,
	int64_t n0, int64_t n1) {
	const struct bb_tensor *t = gguf_tensor(g, name);
	cr_assert_not_null(t, "%s", name);
	cr_assert(t->type == type && t->n_dims == n_dims && t->dims[0] == n0 && t->dims[1] == n1,
		"%s", name);
	for (size_t i = 0; i < (size_t)(n0 * n1); i++) {
		const uint16_t *half = (const uint16_t *)t->data;
		const float got = type == BB_F32 ? ((const float *)t->data)[i]
			: type == BB_F16 ? f16_to_f32(half[i]) : bf16_to_f32(half[i]);
		const float want = type == BB_BF16 && i == 64 ? 1 : value(i);
		cr_assert(got == want, "%s: element %zu is %.9g, want %.9g", name, i, (double)got,
			(double)want);
	}
}

static void expect_keys(const struct gguf *g) {
	int64_t u = 0;
	double f = 0;
	bool yes = false, no = true, found = false;
	struct gguf_string arch;
	struct bb_error err = { 0 };
	cr_assert(gguf_int(g, "u", &u, &found, &err) && found && u == 4000000000);
	cr_assert_eq(gguf_find(g, "u")->type, GGUF_U32);
	cr_assert(gguf_float(g, "f", &f, &found, &err) && found && f == -0.5);
	cr_assert_eq(gguf_find(g, "f")->type, GGUF_F32);
	cr_assert(gguf_bool(g, "yes", &yes, &found, &err) && gguf_bool(g, "no", &no, &found, &err));
	cr_assert(yes && !no);
	cr_assert(gguf_str(g, "general.architecture", &arch, &found, &err) && found);
	cr_assert(arch.bytes == 4 && memcmp(arch.data, "none", 4) == 0);
	const struct gguf_kv *all = gguf_find(g, "names"), *none = gguf_find(g, "nobody");
	cr_assert(all->n == COUNT(names) && none->n == 0 && none->elem == GGUF_STRING);
	for (size_t i = 0; i < COUNT(names); i++) {
		cr_assert(all->strings[i].bytes == strlen(names[i]) &&
			memcmp(all->strings[i].data, names[i], strlen(names[i])) == 0);
	}
}

static void expect_file(void) {
	struct gguf g;
	struct bb_error err = { 0 };
	cr_assert(gguf_open(&g, path, &err), "%s", err.text);
	cr_assert(g.version == 3 && g.n_kvs == 7 && g.n_tensors == 4);
	expect_keys(&g);
	expect_tensor(&g, "f32", BB_F32, 2, ROWS, COLUMNS);
	expect_tensor(&g, "f16", BB_F16, 2, COLUMNS, ROWS);
	expect_tensor(&g, "bf16", BB_BF16, 1, LONG, 1);
	const struct bb_tensor *zeros = gguf_tensor(&g, "zeros");
	cr_assert(zeros != NULL && memcmp(zeros->data, (const float[3]){ 0 }, 12) == 0);
	gguf_finish(&g);
}

Test(gguf_write, is_read_back) {
	struct bb_error err = { 0 };
	cr_assert(write_file(&err), "%s", err.text);
	expect_file();
}

Test(gguf_write, empty_file) {
	struct gguf_writer *w;
	struct gguf g;
	struct bb_error err = { 0 };
	cr_assert(gguf_writer_create(&w, &err) && gguf_writer_save(w, path, &err), "%s", err.text);
	gguf_writer_destroy(w);
	cr_assert(gguf_open(&g, path, &err), "%s", err.text);
	cr_assert(g.n_kvs == 0 && g.n_tensors == 0);
	gguf_finish(&g);
	gguf_writer_destroy(NULL);
}

Test(gguf_write, saves_again_what_has_grown) {
	struct gguf_writer *w;
	struct gguf g;
	struct bb_error err = { 0 };
	cr_assert(gguf_writer_create(&w, &err));
	float *t = gguf_writer_tensor(w, "t", GGUF_WRITE_F32, 1, 0);
	t[0] = 3;
	cr_assert(gguf_writer_save(w, path, &err), "%s", err.text);
	t[0] = 5;
	gguf_writer_u32(w, "k", 1);
	cr_assert(gguf_writer_save(w, path, &err), "%s", err.text);
	gguf_writer_destroy(w);
	cr_assert(gguf_open(&g, path, &err), "%s", err.text);
	cr_assert(g.n_kvs == 1 && ((const float *)gguf_tensor(&g, "t")->data)[0] == 5);
	gguf_finish(&g);
}

Test(gguf_write, failed_allocations_change_nothing) {
	bool ok = false;
	struct bb_error err = { 0 };
	cr_assert(write_file(&err), "%s", err.text);
	int n_failed = 0;
	for (long n = 1; !ok; n++) {
		struct bb_error failure = { 0 };
		base_fail_alloc_at(n);
		ok = write_file(&failure);
		base_fail_alloc_at(0);
		cr_assert(ok || failure.code == BB_ERR_MEMORY, "%s", failure.text);
		n_failed += !ok;
		expect_file();
	}
	cr_assert_gt(n_failed, 10);
}

Test(gguf_write, too_large) {
	struct gguf_writer *w;
	struct bb_error err = { 0 };
	cr_assert(gguf_writer_create(&w, &err));
	cr_assert_null(gguf_writer_tensor(w, "t", GGUF_WRITE_F32, INT64_MAX, INT64_MAX));
	cr_assert(!gguf_writer_save(w, path, &err));
	cr_assert_eq(err.code, BB_ERR_MEMORY);
	cr_assert_neq(access(path, F_OK), 0);
	gguf_writer_destroy(w);
}

static void expect_no_part(void) {
	char part[128];
	snprintf(part, sizeof(part), "%s.%d.part", path, (int)getpid());
	cr_assert_neq(access(part, F_OK), 0, "what was begun is still there");
}

Test(gguf_write, full_disk_keeps_the_old_file) {
	const struct rlimit limit = { 20000, RLIM_INFINITY };
	const struct rlimit none = { RLIM_INFINITY, RLIM_INFINITY };
	struct bb_error err = { 0 }, full = { 0 };
	cr_assert(write_file(&err), "%s", err.text);
	signal(SIGXFSZ, SIG_IGN);
	cr_assert_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
	const bool ok = write_file(&full);
	setrlimit(RLIMIT_FSIZE, &none);
	cr_assert(!ok && full.code == BB_ERR_IO);
	cr_assert(strstr(full.text, "can't be written") != NULL, "%s", full.text);
	expect_file();
	expect_no_part();
}

Test(gguf_write, unwritable_path) {
	struct bb_error err = { 0 };
	snprintf(path, sizeof(path), "/tmp/no-such-folder-%d/x.gguf", (int)getpid());
	cr_assert(!write_file(&err));
	cr_assert(err.code == BB_ERR_IO && strstr(err.text, "can't be created") != NULL, "%s",
		err.text);
}

Test(gguf_write, keeps_what_is_no_file) {
	struct bb_error err = { 0 };
	cr_assert_eq(symlink("/nowhere", path), 0);
	cr_assert(!write_file(&err));
	cr_assert(err.code == BB_ERR_IO && strstr(err.text, "regular file") != NULL, "%s", err.text);
}
