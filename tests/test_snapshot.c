/* SPDX-License-Identifier: Apache-2.0
 *
 * Contexts in files: what is loaded goes on with the bits of what was saved, computes nothing
 * again, and is saved as the same bytes; and damage of any kind is refused, with nothing lost. */
#include "models.h"

#include <math.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "engine.h"

enum { N_TOKENS = 1300, N_MORE = 70 };

static struct bb_engine *open_as(const char *name, const char *device, const char *isa,
	enum bb_kv_type kv_type, int window) {
	const struct bb_engine_params params = { .path = tiny_path(name), .device = device, .isa = isa,
		.n_threads = 1, .kv_type = kv_type, .max_model_len = 2000, .window = window };
	struct bb_engine *e;
	struct bb_error err = { 0 };
	if (!bb_engine_open(&e, bb_models, &params, &err)) {
		cr_skip_test("%s", err.text);
	}
	return e;
}

static const char *file_name(int i) {
	static char names[3][64];
	snprintf(names[i], sizeof(names[i]), "/tmp/bobbin-snapshot-%d-%d", (int)getpid(), i);
	return names[i];
}

static void save(struct bb_context *c, const char *path) {
	struct bb_error err = { 0 };
	cr_assert(bb_context_save(c, path, &err), "%s", err.text);
}

static struct bb_context *load(struct bb_engine *e, const char *path, bool same_bits) {
	struct bb_context *c;
	struct bb_error err = { 0 };
	bool is_same = !same_bits;
	cr_assert(bb_context_load(&c, e, path, &is_same, &err), "%s", err.text);
	cr_assert_eq(is_same, same_bits);
	return c;
}

static uint8_t *bytes_of(const char *path, size_t *n) {
	struct base_file f;
	struct bb_error err = { 0 };
	cr_assert(base_file_open(&f, path, &err), "%s", err.text);
	uint8_t *bytes = malloc(f.bytes);
	memcpy(bytes, f.data, f.bytes);
	*n = f.bytes;
	base_file_close(&f);
	return bytes;
}

static void expect_same_files(const char *one, const char *other) {
	size_t n, n_other;
	uint8_t *a = bytes_of(one, &n), *b = bytes_of(other, &n_other);
	cr_assert_eq(n, n_other);
	cr_assert_eq(memcmp(a, b, n), 0);
	free(a);
	free(b);
}

/* Two segments, read in pieces that end within pages. */
static struct bb_context *fill(struct bb_engine *e, int n_tokens) {
	struct bb_context *c = new_context(e);
	struct bb_error err = { 0 };
	int32_t ids[N_TOKENS];
	const int first = n_tokens / 3, second = n_tokens / 2;
	make_ids(ids, n_tokens, vocab_of(e), 3);
	cr_assert(bb_prefill(c, ids, (size_t)first, NULL, NULL, NULL, &err), "%s", err.text);
	cr_assert(bb_context_begin_segment(c, first, BB_ROLE_USER, &err), "%s", err.text);
	cr_assert(bb_prefill(c, ids + first, (size_t)(second - first), NULL, NULL, NULL, &err));
	cr_assert(bb_context_begin_segment(c, second, BB_ROLE_ASSISTANT, &err), "%s", err.text);
	cr_assert(bb_prefill(c, ids + second, (size_t)(n_tokens - second), NULL, NULL, NULL, &err));
	return c;
}

/* Logits after each of N_MORE more tokens, of which the last are read one by one. */
static float *go_on(struct bb_context *c, struct bb_engine *e) {
	int32_t ids[N_MORE];
	float *logits = malloc((size_t)N_MORE * (size_t)vocab_of(e) * sizeof(*logits));
	make_ids(ids, N_MORE, vocab_of(e), 4);
	feed(c, e, ids, N_MORE - 3, logits);
	for (int i = N_MORE - 3; i < N_MORE; i++) {
		feed(c, e, ids + i, 1, logits + (size_t)i * (size_t)vocab_of(e));
	}
	return logits;
}

static void expect_alike(struct bb_context *a, struct bb_context *b) {
	const int n = bb_context_length(a);
	cr_assert_eq(bb_context_length(b), n);
	cr_assert_eq(memcmp(bb_context_tokens(a), bb_context_tokens(b), (size_t)n * sizeof(int32_t)),
		0);
	cr_assert_eq(bb_context_n_segments(a), bb_context_n_segments(b));
	for (int i = 0; i < bb_context_n_segments(a); i++) {
		const struct bb_segment s = bb_context_segment(a, i), t = bb_context_segment(b, i);
		cr_assert(s.role == t.role && s.first == t.first && s.n_tokens == t.n_tokens);
	}
}

/* Goes back to n_tokens; returns how many it computed again. */
static uint64_t go_back(struct bb_context *c, struct bb_engine *e, int n_tokens) {
	struct bb_engine_stats before, after;
	struct bb_error err = { 0 };
	bb_engine_stats(e, &before);
	cr_assert(bb_context_rewind(c, n_tokens, &err), "%s", err.text);
	bb_engine_stats(e, &after);
	return after.n_rows - before.n_rows;
}

/* The largest difference of n numbers. */
static float distance(const float *a, const float *b, size_t n) {
	float most = 0;
	for (size_t i = 0; i < n; i++) {
		most = !(fabsf(a[i] - b[i]) <= most) ? fabsf(a[i] - b[i]) : most;
	}
	return most;
}

/* Through a file into an engine that was opened alike. */
static void come_back(const char *name, const char *device, enum bb_kv_type kv_type, int window,
	int n_tokens) {
	struct bb_engine *e = open_as(name, device, NULL, kv_type, window);
	struct bb_engine *other = open_as(name, device, NULL, kv_type, window);
	struct bb_context *c = fill(e, n_tokens);
	save(c, file_name(0));
	struct bb_context *loaded = load(other, file_name(0), true);
	save(loaded, file_name(1));
	expect_same_files(file_name(0), file_name(1));
	expect_alike(c, loaded);
	float *want = go_on(c, e), *got = go_on(loaded, other);
	cr_assert_eq(memcmp(got, want, (size_t)N_MORE * (size_t)vocab_of(e) * sizeof(*got)), 0,
		"%s goes on otherwise", name);
	const int back = n_tokens - 17; /* not beyond what windows keep */
	const uint64_t n_again = go_back(c, e, back);
	cr_assert_eq(go_back(loaded, other, back), n_again);
	expect_alike(c, loaded);
	free(want);
	free(got);
	want = go_on(c, e);
	got = go_on(loaded, other);
	cr_assert_eq(memcmp(got, want, (size_t)N_MORE * (size_t)vocab_of(e) * sizeof(*got)), 0);
	free(want);
	free(got);
	bb_context_destroy(loaded);
	bb_context_destroy(c);
	bb_engine_destroy(other);
	bb_engine_destroy(e);
	unlink(file_name(0));
	unlink(file_name(1));
}

Test(snapshot, contexts_come_back) {
	static const char *const names[] = {
		"llama", "gemma3", "mamba", "mamba2", "falcon-h1", "lfm2", "xlstm", "rwkv6", "rwkv7",
		"granitehybrid", "bamba", "jamba", "qwen3next", "nemotron_h", "recurrent_gemma", "zamba2",
		"jamba-dense", /* one of its kinds of layers has no layer */
	};
	for (size_t i = 0; i < COUNT(names); i++) {
		come_back(names[i], "cpu", BB_KV_AUTO, 0, N_TOKENS);
	}
}

Test(snapshot, every_type_of_keys_and_values_comes_back) {
	for (enum bb_kv_type type = BB_KV_F32; type <= BB_KV_INT8; type++) {
		come_back("llama", "cpu", type, 0, 200);
		come_back("gemma3", "cpu", type, 33, N_TOKENS);
	}
}

Test(snapshot, contexts_come_back_on_the_emulator, .timeout = 200) {
	come_back("falcon-h1", test_device(), BB_KV_INT8, 0, 200);
	come_back("gemma3", test_device(), BB_KV_F16, 0, 200);
}

Test(snapshot, short_contexts_come_back) {
	static const int lengths[] = { 1, 2, 63, 64, 65, 512 };
	for (size_t i = 0; i < COUNT(lengths); i++) {
		struct bb_engine *e = open_as("falcon-h1", "cpu", NULL, BB_KV_AUTO, 0);
		struct bb_context *c = new_context(e), *loaded;
		int32_t ids[512];
		make_ids(ids, lengths[i], vocab_of(e), 1);
		feed(c, e, ids, lengths[i], NULL);
		save(c, file_name(0));
		loaded = load(e, file_name(0), true);
		expect_alike(c, loaded);
		float *want = go_on(c, e), *got = go_on(loaded, e);
		cr_assert_eq(memcmp(got, want, (size_t)N_MORE * (size_t)vocab_of(e) * sizeof(*got)), 0);
		free(want);
		free(got);
		bb_context_destroy(loaded);
		bb_context_destroy(c);
		bb_engine_destroy(e);
	}
	unlink(file_name(0));
}

/* Checkpoints of int8 go to the file as states of f32, and come back as what the engine keeps. */
Test(snapshot, checkpoints_of_any_type_come_back) {
	static const enum bb_kv_type types[] = { BB_KV_INT8, BB_KV_F32 };
	struct bb_engine_params params = { .path = tiny_path("mamba2"), .n_threads = 1,
		.max_model_len = 2000, .state_cache_type = BB_KV_INT8 };
	struct bb_engine *e = open_with(&params);
	struct bb_context *c = fill(e, N_TOKENS);
	const size_t n = (size_t)N_MORE * (size_t)vocab_of(e);
	save(c, file_name(0));
	float *want = go_on(c, e);
	cr_assert_eq(go_back(c, e, 1024), 0);
	float *behind = go_on(c, e);
	for (size_t i = 0; i < COUNT(types); i++) {
		params.state_cache_type = types[i];
		struct bb_engine *other = open_with(&params);
		struct bb_context *loaded = load(other, file_name(0), types[i] == BB_KV_INT8);
		float *got = go_on(loaded, other);
		cr_assert_eq(memcmp(got, want, n * sizeof(*got)), 0);
		free(got);
		cr_assert_eq(go_back(loaded, other, 1024), 0);
		got = go_on(loaded, other);
		/* packed again, a number may be off by the last bit of its scale */
		cr_assert_leq(distance(got, behind, n), 1e-4f);
		free(got);
		bb_context_destroy(loaded);
		bb_engine_destroy(other);
	}
	free(want);
	free(behind);
	bb_context_destroy(c);
	bb_engine_destroy(e);
	unlink(file_name(0));
}

/* A checkpoint at every token, and the state behind the last one. */
Test(snapshot, a_checkpoint_at_every_token_comes_back) {
	for (enum bb_kv_type type = BB_KV_F32; type <= BB_KV_INT8; type += BB_KV_INT8 - BB_KV_F32) {
		const struct bb_engine_params params = { .path = tiny_path("mamba2"), .n_threads = 1,
			.state_cache_type = type };
		struct bb_engine *e = open_with(&params);
		struct bb_context *c = new_context(e);
		struct bb_error err = { 0 };
		feed(c, e, (const int32_t[]){ 7 }, 1, NULL);
		cr_assert(bb_context_begin_segment(c, 1, BB_ROLE_USER, &err), "%s", err.text);
		save(c, file_name(0));
		struct bb_context *loaded = load(e, file_name(0), true);
		expect_alike(c, loaded);
		bb_context_destroy(loaded);
		bb_context_destroy(c);
		bb_engine_destroy(e);
	}
	unlink(file_name(0));
}

Test(snapshot, an_empty_context_comes_back) {
	struct bb_engine *e = open_as("mamba2", "cpu", NULL, BB_KV_AUTO, 0);
	struct bb_context *c = new_context(e);
	save(c, file_name(0));
	struct bb_context *loaded = load(e, file_name(0), true);
	cr_assert_eq(bb_context_length(loaded), 0);
	feed(loaded, e, (const int32_t[]){ 7 }, 1, NULL);
	bb_context_destroy(loaded);
	bb_context_destroy(c);
	bb_engine_destroy(e);
	unlink(file_name(0));
}

/* Nothing of what a page held before goes to the file. */
Test(snapshot, a_file_is_made_of_the_context_alone) {
	struct bb_engine *e = open_as("llama", "cpu", NULL, BB_KV_INT8, 0);
	int32_t ids[300], others[300];
	make_ids(ids, 300, vocab_of(e), 1);
	make_ids(others, 300, vocab_of(e), 2);
	struct bb_context *fresh = new_context(e), *used = new_context(e);
	feed(fresh, e, ids, 150, NULL);
	feed(used, e, ids, 100, NULL);
	feed(used, e, others, 200, NULL);
	go_back(used, e, 100);
	feed(used, e, ids + 100, 50, NULL);
	save(fresh, file_name(0));
	save(used, file_name(1));
	expect_same_files(file_name(0), file_name(1));
	bb_context_destroy(used);
	bb_context_destroy(fresh);
	bb_engine_destroy(e);
	unlink(file_name(0));
	unlink(file_name(1));
}

/* From one engine to another that lays pages out and computes otherwise: what goes on there is as
 * near to what would have gone on here as what it computes itself from the first token. */
static void move_between(const char *name, enum bb_kv_type type, const char *from_device,
	const char *from_isa, const char *to_device, const char *to_isa, int n_tokens) {
	struct bb_engine *from = open_as(name, from_device, from_isa, type, 0);
	struct bb_engine *to = open_as(name, to_device, to_isa, type, 0);
	struct bb_context *c = fill(from, n_tokens), *own = fill(to, n_tokens);
	save(c, file_name(0));
	struct bb_context *loaded = load(to, file_name(0), false);
	expect_alike(c, loaded);
	const size_t n = (size_t)N_MORE * (size_t)vocab_of(from);
	float *want = go_on(c, from), *got = go_on(loaded, to), *alone = go_on(own, to);
	const float error = distance(got, want, n), usual = distance(alone, want, n);
	cr_assert(error <= 2 * usual + 1e-3f, "%s, %s: %g, usually %g", name, bb_kv_type_name(type),
		(double)error, (double)usual);
	free(alone);
	free(want);
	free(got);
	bb_context_destroy(loaded);
	bb_context_destroy(own);
	bb_context_destroy(c);
	bb_engine_destroy(to);
	bb_engine_destroy(from);
	unlink(file_name(0));
}

Test(snapshot, another_isa_level_goes_on) {
	for (enum bb_kv_type type = BB_KV_F32; type <= BB_KV_INT8; type++) {
		move_between("falcon-h1", type, "cpu", "c", "cpu", NULL, 200);
		move_between("llama", type, "cpu", NULL, "cpu", "c", 200);
	}
}

Test(snapshot, another_device_goes_on, .timeout = 200) {
	for (enum bb_kv_type type = BB_KV_F32; type <= BB_KV_INT8; type++) {
		move_between("falcon-h1", type, "cpu", NULL, test_device(), NULL, 130);
		move_between("falcon-h1", type, test_device(), NULL, "cpu", NULL, 130);
	}
}

/* ---- what can't be loaded ---- */

static void write_bytes(const char *path, const uint8_t *bytes, size_t n) {
	FILE *f = fopen(path, "wb");
	cr_assert(f != NULL && fwrite(bytes, 1, n, f) == n && fclose(f) == 0);
}

static void expect_refused(struct bb_engine *e, const char *path, enum bb_code code,
	const char *part) {
	struct bb_context *c = (struct bb_context *)1;
	struct bb_error err = { 0 };
	cr_assert_not(bb_context_load(&c, e, path, NULL, &err));
	cr_assert_null(c);
	cr_assert_eq(err.code, code, "%s", err.text);
	cr_assert_not_null(strstr(err.text, part), "'%s' doesn't say '%s'", err.text, part);
	cr_assert_not_null(strstr(err.text, path), "%s", err.text);
}

Test(snapshot, damage_is_refused, .timeout = 100) {
	struct bb_engine *e = open_as("falcon-h1", "cpu", NULL, BB_KV_AUTO, 0);
	struct bb_context *c = fill(e, 20);
	size_t n;
	save(c, file_name(0));
	uint8_t *bytes = bytes_of(file_name(0), &n);
	for (size_t i = 0; i < n; i += i < 600 ? 1 : 997) { /* a byte, and the file cut there */
		bytes[i] ^= 0x41;
		write_bytes(file_name(1), bytes, n);
		struct bb_context *loaded = (struct bb_context *)1;
		struct bb_error err = { 0 };
		cr_assert_not(bb_context_load(&loaded, e, file_name(1), NULL, &err), "byte %zu", i);
		cr_assert(loaded == NULL && err.text[0] != '\0');
		bytes[i] ^= 0x41;
		write_bytes(file_name(1), bytes, i);
		expect_refused(e, file_name(1), BB_ERR_FORMAT, "snapshot");
	}
	write_bytes(file_name(1), bytes, n - 1);
	expect_refused(e, file_name(1), BB_ERR_FORMAT, "damaged");
	bytes[n - 1] ^= 1;
	write_bytes(file_name(1), bytes, n);
	expect_refused(e, file_name(1), BB_ERR_FORMAT, "checksum");
	bytes[8] = 9;
	write_bytes(file_name(1), bytes, n);
	expect_refused(e, file_name(1), BB_ERR_UNSUPPORTED, "version 9");
	expect_refused(e, tiny_path("llama"), BB_ERR_FORMAT, "not a snapshot");
	expect_refused(e, "/tmp", BB_ERR_FORMAT, "not a snapshot");
	expect_refused(e, "/nowhere/at/all", BB_ERR_IO, "can't be opened");
	free(bytes);
	bb_context_destroy(c);
	bb_engine_destroy(e);
	unlink(file_name(0));
	unlink(file_name(1));
}

Test(snapshot, other_models_and_longer_contexts_are_refused) {
	struct bb_engine *e = open_as("llama", "cpu", NULL, BB_KV_AUTO, 0);
	struct bb_context *c = fill(e, 200);
	save(c, file_name(0));
	struct bb_engine *other = open_as("llama-linear", "cpu", NULL, BB_KV_AUTO, 0);
	expect_refused(other, file_name(0), BB_ERR_UNSUPPORTED, "another model");
	bb_engine_destroy(other);
	/* the same weights, with positions scaled in another way, or with another kind of layer */
	other = open_as("llama", "cpu", NULL, BB_KV_AUTO, 0);
	other->plan.hp.rope_scaling = ROPE_SCALING_YARN;
	expect_refused(other, file_name(0), BB_ERR_UNSUPPORTED, "another model");
	bb_engine_destroy(other);
	other = open_as("llama", "cpu", NULL, BB_KV_AUTO, 0);
	other->plan.weights.kinds[0]++;
	expect_refused(other, file_name(0), BB_ERR_UNSUPPORTED, "another model");
	bb_engine_destroy(other);
	other = open_as("llama", "cpu", NULL, BB_KV_AUTO, 40);
	expect_refused(other, file_name(0), BB_ERR_UNSUPPORTED, "another window");
	bb_engine_destroy(other);
	const struct bb_engine_params params = { .path = tiny_path("llama"), .n_threads = 1,
		.max_model_len = 199 };
	other = open_with(&params);
	expect_refused(other, file_name(0), BB_ERR_CONTEXT, "200 tokens");
	bb_engine_destroy(other);
	bb_context_destroy(c);
	bb_engine_destroy(e);
	unlink(file_name(0));
}

/* ---- what can't be saved ---- */

Test(snapshot, a_full_disk_leaves_the_file_of_before) {
	struct bb_engine *e = open_as("falcon-h1", "cpu", NULL, BB_KV_AUTO, 0);
	struct bb_context *c = fill(e, 100);
	struct bb_error err = { 0 };
	char part[96];
	save(c, file_name(0));
	save(c, file_name(1));
	feed(c, e, (const int32_t[]){ 3 }, 1, NULL);
	const struct rlimit limit = { 1000, RLIM_INFINITY }, none = { RLIM_INFINITY, RLIM_INFINITY };
	signal(SIGXFSZ, SIG_IGN);
	cr_assert_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
	const bool ok = bb_context_save(c, file_name(0), &err);
	setrlimit(RLIMIT_FSIZE, &none);
	cr_assert_not(ok);
	cr_assert_eq(err.code, BB_ERR_IO, "%s", err.text);
	cr_assert_not_null(strstr(err.text, file_name(0)), "%s", err.text);
	expect_same_files(file_name(0), file_name(1));
	snprintf(part, sizeof(part), "%s.%d.part", file_name(0), (int)getpid());
	cr_assert_neq(access(part, F_OK), 0, "what was begun is still there");
	err = (struct bb_error){ 0 };
	cr_assert_not(bb_context_save(c, "/dev/null", &err));
	cr_assert_not_null(strstr(err.text, "regular file"), "%s", err.text);
	err = (struct bb_error){ 0 };
	cr_assert_not(bb_context_save(c, "/nowhere/at/all", &err));
	cr_assert_eq(err.code, BB_ERR_IO, "%s", err.text);
	bb_context_destroy(c);
	bb_engine_destroy(e);
	unlink(file_name(0));
	unlink(file_name(1));
}

Test(snapshot, failed_allocations_lose_nothing) {
	struct bb_engine *e = open_as("falcon-h1", "cpu", NULL, BB_KV_AUTO, 0);
	struct bb_context *c = fill(e, 600), *loaded = NULL;
	bool ok = false;
	for (long n = 1; !ok; n++) {
		struct bb_error err = { 0 };
		base_fail_alloc_at(n);
		ok = bb_context_save(c, file_name(0), &err);
		base_fail_alloc_at(0);
		cr_assert(ok || err.code == BB_ERR_MEMORY, "%s", err.text);
	}
	for (long n = 1; loaded == NULL; n++) {
		struct bb_error err = { 0 };
		base_fail_alloc_at(n);
		ok = bb_context_load(&loaded, e, file_name(0), NULL, &err);
		base_fail_alloc_at(0);
		cr_assert(ok || err.code == BB_ERR_MEMORY, "%s", err.text);
	}
	expect_alike(c, loaded);
	bb_context_destroy(loaded);
	bb_context_destroy(c);
	bb_engine_destroy(e);
	unlink(file_name(0));
}
