/* SPDX-License-Identifier: Apache-2.0
 *
 * cuBLASLt: opened at run time, since it is over 500 MB and few want it; what its calls are given;
 * and its algorithms, which the library's heuristic chooses once for each shape. */
#include "matmul_lt.h"
#include "matmul_panel.h"

#if defined(__CUDACC__) && defined(__has_include)
#if __has_include(<cublasLt.h>)
#include <cublasLt.h>
#define HAS_HEADER
#endif
#endif
#ifndef HAS_HEADER
#include "../simt/cublaslt.h"
#endif
#ifndef __CUDACC__
#include "../simt/report.h"
#endif

#include <assert.h>
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Both headers, whichever is there, mean this by their names. */
static_assert(CUBLAS_COMPUTE_32F == 68 && CUDA_R_16BF == 14 && CUDA_R_32F == 0
	&& CUBLASLT_MATMUL_DESC_TRANSA == 3 && CUBLAS_OP_T == 1, "products");
static_assert(CUBLASLT_MATRIX_LAYOUT_ROWS == 2 && CUBLASLT_MATRIX_LAYOUT_COLS == 3
	&& CUBLASLT_MATRIX_LAYOUT_LD == 4, "layouts");
static_assert(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES == 1
	&& CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK == 3
	&& CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES == 5
	&& CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES == 8, "preferences");
static_assert(sizeof(cublasLtMatmulAlgo_t) == 64 && sizeof(cublasLtMatmulHeuristicResult_t) == 96,
	"results");

#define LT_CALLS(X) \
	X(cublasLtCreate) \
	X(cublasLtDestroy) \
	X(cublasLtGetStatusName) \
	X(cublasLtMatmulDescCreate) \
	X(cublasLtMatmulDescDestroy) \
	X(cublasLtMatmulDescSetAttribute) \
	X(cublasLtMatrixLayoutCreate) \
	X(cublasLtMatrixLayoutDestroy) \
	X(cublasLtMatrixLayoutSetAttribute) \
	X(cublasLtMatmulPreferenceCreate) \
	X(cublasLtMatmulPreferenceDestroy) \
	X(cublasLtMatmulPreferenceSetAttribute) \
	X(cublasLtMatmulAlgoGetHeuristic) \
	X(cublasLtMatmul)

struct lt_calls {
#define X(name) decltype(&::name) name;
	LT_CALLS(X)
#undef X
};

#ifdef __CUDACC__
/* Scratch: a matrix of 4096 x 14336 whole. Workspace: what NVIDIA advises for Hopper. */
enum { SCRATCH_BYTES = 128 << 20, WORKSPACE_BYTES = 32 << 20 };
#else
/* So that small matrices too are written out in pieces. */
enum { SCRATCH_BYTES = 32 << 10, WORKSPACE_BYTES = 64 << 10 };
#endif

/* What an algorithm is chosen for. Rows: a power of two times BB_LT_ROWS, and those below it down
 * to the one before. */
struct lt_shape {
	int rows, n, k, ld_y;
	uint32_t aligned; /* bytes: y */
};

struct lt_algo {
	struct lt_shape shape;
	cublasLtMatmulAlgo_t algo;
};

struct lt {
	struct lt_calls call;
	cublasLtHandle_t handle;
	cublasLtMatmulDesc_t product;
	cublasLtMatrixLayout_t w, x, y; /* their sizes are set before each use */
	cublasLtMatmulPreference_t preference;
	struct lt_algo *algos; /* [n_algos] */
	int n_algos, capacity;
	uint8_t *memory; /* the library's workspace, then the scratch */
	char what[160]; /* the product that failed */
};

/* ---- the library ---- */

/* It stays loaded, as the CUDA runtime that it has inside can't be unloaded safely. */
static bool open_library(struct lt_calls *call, char *text, size_t bytes) {
	char name[32];
	snprintf(name, sizeof(name), "libcublasLt.so.%d", CUDART_VERSION / 1000);
	const char *missing = "";
#ifdef __CUDACC__
	void *library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
	if (library == NULL) {
		char path[64];
		snprintf(path, sizeof(path), "/usr/local/cuda/lib64/%s", name);
		library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	}
#define X(f) \
	if (library != NULL && (*(void **)&call->f = dlsym(library, #f)) == NULL) { \
		missing = #f; \
	}
#else
	const bool library = simt_has_cublaslt();
#define X(f) call->f = ::f;
#endif
	LT_CALLS(X)
#undef X
	if (!library) {
		snprintf(text, bytes, "%s can't be opened; install cuBLAS of CUDA %d, or add its folder "
			"to LD_LIBRARY_PATH", name, CUDART_VERSION / 1000);
		return false;
	}
	if (*missing != '\0') {
		snprintf(text, bytes, "%s lacks %s; expected cuBLAS of CUDA %d", name, missing,
			CUDART_VERSION / 1000);
		return false;
	}
	return true;
}

/* The first call that fails is told, and those after it aren't made. */
struct lt_trial {
	cublasStatus_t status;
	const char *call;
};

#define TRY(trial, t, name, ...) \
	do { \
		if ((trial)->status == CUBLAS_STATUS_SUCCESS) { \
			(trial)->status = (t)->call.name(__VA_ARGS__); \
			(trial)->call = #name; \
		} \
	} while (0)

static bool succeeded(const struct lt *t, const struct lt_trial *trial, char *text,
	size_t bytes) {
	if (trial->status == CUBLAS_STATUS_SUCCESS) {
		return true;
	}
	snprintf(text, bytes, "cuBLASLt: %s gave %s", trial->call,
		t->call.cublasLtGetStatusName(trial->status));
	return false;
}

static bool create_objects(struct lt *t, char *text, size_t bytes) {
	struct lt_trial trial = { CUBLAS_STATUS_SUCCESS, "" };
	const int32_t transposed = CUBLAS_OP_T;
	const uint64_t workspace_bytes = WORKSPACE_BYTES;
	/* Sums along k are one chain, so a shape's bits don't depend on what else runs. */
	const uint32_t reductions = CUBLASLT_REDUCTION_SCHEME_NONE, aligned = 16;
	TRY(&trial, t, cublasLtCreate, &t->handle);
	TRY(&trial, t, cublasLtMatmulDescCreate, &t->product, CUBLAS_COMPUTE_32F, CUDA_R_32F);
	TRY(&trial, t, cublasLtMatmulDescSetAttribute, t->product, CUBLASLT_MATMUL_DESC_TRANSA,
		&transposed, sizeof(transposed));
	TRY(&trial, t, cublasLtMatrixLayoutCreate, &t->w, CUDA_R_16BF, 32, 32, 32);
	TRY(&trial, t, cublasLtMatrixLayoutCreate, &t->x, CUDA_R_16BF, 32, 32, 32);
	TRY(&trial, t, cublasLtMatrixLayoutCreate, &t->y, CUDA_R_32F, 32, 32, 32);
	TRY(&trial, t, cublasLtMatmulPreferenceCreate, &t->preference);
	TRY(&trial, t, cublasLtMatmulPreferenceSetAttribute, t->preference,
		CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace_bytes, sizeof(workspace_bytes));
	TRY(&trial, t, cublasLtMatmulPreferenceSetAttribute, t->preference,
		CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &reductions, sizeof(reductions));
	TRY(&trial, t, cublasLtMatmulPreferenceSetAttribute, t->preference,
		CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, &aligned, sizeof(aligned));
	return succeeded(t, &trial, text, bytes);
}

struct lt *lt_open(char *text, size_t bytes) {
	struct lt *t = (struct lt *)calloc(1, sizeof(*t));
	if (t == NULL) {
		snprintf(text, bytes, "out of memory");
		return NULL;
	}
	if (!open_library(&t->call, text, bytes) || !create_objects(t, text, bytes)) {
		lt_close(t);
		return NULL;
	}
	return t;
}

void lt_close(struct lt *t) {
	if (t == NULL) {
		return;
	}
	if (t->preference != NULL) {
		t->call.cublasLtMatmulPreferenceDestroy(t->preference);
	}
	const cublasLtMatrixLayout_t layouts[] = { t->w, t->x, t->y };
	for (int i = 0; i < 3; i++) {
		if (layouts[i] != NULL) {
			t->call.cublasLtMatrixLayoutDestroy(layouts[i]);
		}
	}
	if (t->product != NULL) {
		t->call.cublasLtMatmulDescDestroy(t->product);
	}
	if (t->handle != NULL) {
		t->call.cublasLtDestroy(t->handle);
	}
	free(t->algos);
	free(t);
}

/* ---- shapes ---- */

int lt_columns(int n, int k) {
	const size_t row_bytes = (size_t)panel_x_elems(k) * 2;
	const int room = (int)(SCRATCH_BYTES / row_bytes);
	/* 256: the widest tiles come out even */
	const int most = room >= 256 ? room / 256 * 256 : room >= PANEL ? room / PANEL * PANEL : PANEL;
	const int all = n_panels(n) * PANEL;
	return all < most ? all : most;
}

size_t lt_bytes(int n, int k) {
	return WORKSPACE_BYTES + (size_t)lt_columns(n, k) * (size_t)panel_x_elems(k) * 2;
}

void lt_work_in(struct lt *t, void *memory) {
	t->memory = (uint8_t *)memory;
}

void *lt_scratch(const struct lt *t) {
	return t->memory + WORKSPACE_BYTES;
}

static int bucket_of(int n_rows) {
	int rows = BB_LT_ROWS;
	while (rows < n_rows) {
		rows *= 2;
	}
	return rows;
}

/* Where y begins, and its rows. */
static uint32_t alignment_of(const float *y, int ld_y) {
	return (uintptr_t)y % 16 == 0 && ld_y % 4 == 0 ? 16 : 4;
}

static void set_layout(struct lt_trial *trial, const struct lt *t, cublasLtMatrixLayout_t layout,
	uint64_t rows, uint64_t cols, int64_t ld) {
	TRY(trial, t, cublasLtMatrixLayoutSetAttribute, layout, CUBLASLT_MATRIX_LAYOUT_ROWS, &rows,
		sizeof(rows));
	TRY(trial, t, cublasLtMatrixLayoutSetAttribute, layout, CUBLASLT_MATRIX_LAYOUT_COLS, &cols,
		sizeof(cols));
	TRY(trial, t, cublasLtMatrixLayoutSetAttribute, layout, CUBLASLT_MATRIX_LAYOUT_LD, &ld,
		sizeof(ld));
}

/* The library counts columns outermost: y^T [n, rows] = w^T [k, n]^T x^T [k, rows]. */
static void set_shape(struct lt_trial *trial, const struct lt *t, const struct lt_shape *s,
	int n_rows) {
	set_layout(trial, t, t->w, (uint64_t)s->k, (uint64_t)s->n, s->k);
	set_layout(trial, t, t->x, (uint64_t)s->k, (uint64_t)n_rows, s->k);
	set_layout(trial, t, t->y, (uint64_t)s->n, (uint64_t)n_rows, s->ld_y);
}

static struct lt_algo *find_algo(const struct lt *t, const struct lt_shape *s) {
	for (int i = 0; i < t->n_algos; i++) {
		if (memcmp(&t->algos[i].shape, s, sizeof(*s)) == 0) {
			return &t->algos[i];
		}
	}
	return NULL;
}

/* The algorithm of a shape, chosen when it is asked for first. NULL with the call that failed; of
 * the host's memory, that is malloc. */
static struct lt_algo *choose_algo(struct lt_trial *trial, struct lt *t,
	const struct lt_shape *s) {
	cublasLtMatmulHeuristicResult_t result;
	int n_results = 0;
	if (t->n_algos == t->capacity) {
		const int capacity = t->capacity == 0 ? 64 : 2 * t->capacity;
		void *algos = realloc(t->algos, (size_t)capacity * sizeof(*t->algos));
		if (algos == NULL) {
			*trial = { CUBLAS_STATUS_ALLOC_FAILED, "malloc" };
			return NULL;
		}
		t->algos = (struct lt_algo *)algos;
		t->capacity = capacity;
	}
	set_shape(trial, t, s, s->rows);
	TRY(trial, t, cublasLtMatmulPreferenceSetAttribute, t->preference,
		CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, &s->aligned, sizeof(s->aligned));
	TRY(trial, t, cublasLtMatmulPreferenceSetAttribute, t->preference,
		CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, &s->aligned, sizeof(s->aligned));
	TRY(trial, t, cublasLtMatmulAlgoGetHeuristic, t->handle, t->product, t->w, t->x, t->y, t->y,
		t->preference, 1, &result, &n_results);
	if (trial->status == CUBLAS_STATUS_SUCCESS && n_results == 0) {
		trial->status = CUBLAS_STATUS_NOT_SUPPORTED;
	}
	if (trial->status != CUBLAS_STATUS_SUCCESS) {
		return NULL;
	}
	struct lt_algo *a = &t->algos[t->n_algos++];
	a->shape = *s;
	a->algo = result.algo;
	return a;
}

static bool plan_columns(struct lt *t, const float *y, int ld_y, int n, int k, int max_rows,
	char *text, size_t bytes) {
	struct lt_trial trial = { CUBLAS_STATUS_SUCCESS, "" };
	for (int rows = BB_LT_ROWS; rows <= bucket_of(max_rows); rows *= 2) {
		const struct lt_shape s = { rows, n, panel_x_elems(k), ld_y, alignment_of(y, ld_y) };
		if (find_algo(t, &s) == NULL && choose_algo(&trial, t, &s) == NULL) {
			char why[128];
			succeeded(t, &trial, why, sizeof(why));
			snprintf(text, bytes, "%s for a product of %d x %d x %d", why, rows, k, n);
			return false;
		}
	}
	return true;
}

bool lt_plan(struct lt *t, const float *y, int ld_y, int n, int k, int max_rows, char *text,
	size_t bytes) {
	if (max_rows < BB_LT_ROWS) {
		return true;
	}
	const int columns = lt_columns(n, k), last = n % columns;
	return (n < columns || plan_columns(t, y, ld_y, columns, k, max_rows, text, bytes))
		&& (last == 0 || plan_columns(t, y, ld_y, last, k, max_rows, text, bytes));
}

void lt_product(struct lt *t, bb_queue *q, float *y, int ld_y, const void *x, int n_rows, int n,
	int k, bool is_added) {
	const float alpha = 1.0f, beta = is_added ? 1.0f : 0.0f;
	const struct lt_shape s = { bucket_of(n_rows), n, k, ld_y, alignment_of(y, ld_y) };
	struct lt_trial trial = { CUBLAS_STATUS_SUCCESS, "" };
	assert(t->memory != NULL);
	const struct lt_algo *a = find_algo(t, &s);
	a = a != NULL ? a : choose_algo(&trial, t, &s);
	set_shape(&trial, t, &s, n_rows);
	if (a != NULL) {
		TRY(&trial, t, cublasLtMatmul, t->handle, t->product, &alpha, lt_scratch(t), t->w, x, t->x,
			&beta, y, t->y, y, t->y, &a->algo, t->memory, (size_t)WORKSPACE_BYTES, q->stream);
	}
	char why[128];
	if (!succeeded(t, &trial, why, sizeof(why)) && q->error == cudaSuccess) {
		const cudaError_t error = cudaGetLastError(); /* of work before it, perhaps */
		snprintf(t->what, sizeof(t->what), "%s", why);
		queue_note(q, error != cudaSuccess ? error : cudaErrorUnknown, t->what);
	}
	queue_launched(q, "cublasLtMatmul");
}
