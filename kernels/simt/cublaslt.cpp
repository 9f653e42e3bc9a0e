/* SPDX-License-Identifier: Apache-2.0
 *
 * The stand-in of cuBLASLt, compiled with the kernels of a module so that the checker sees its
 * product too. Every call but destroying and naming can be made to fail (report.h). */
#include "cublaslt.h"
#include "state.hpp"

#define threadIdx (simt::tid())
#define blockIdx (simt::bid())

using namespace simt;

struct cublasLtContext {
	int unused;
};

struct simt_lt_product {
	bool is_transposed;
};

struct simt_lt_layout {
	cudaDataType type;
	uint64_t rows, cols;
	int64_t ld;
};

struct simt_lt_preference {
	uint64_t workspace_bytes;
	uint32_t reductions, aligned[4]; /* bytes: of A, B, C and D */
};

namespace {

enum { UNIT = 8, BLOCK = 32, COLUMNS = 16, MANY = 128 };
constexpr uint64_t OURS = 0x62626c74, WORKSPACE = 4096;

/* What an algorithm's words are. */
enum { WORD_OURS, WORD_ROWS, WORD_COLS, WORD_WORKSPACE, WORD_ALIGNED, WORD_CHAINS };

struct product_args {
	const uint16_t *a, *b;
	const float *c;
	float *d, *workspace;
	int64_t ld_a, ld_b, ld_c, ld_d;
	int n, m, k; /* A [k, n], B [k, m], columns one after the other */
	float alpha, beta;
};

bool due(void) {
	return failure_due(Failure::cublaslt);
}

} // namespace

/* Chains that take elements in turn, joined in order. A thread has a column of B and some of A. */
template <int chains> static void lt_product(product_args p) {
	const int col_b = (int)(blockIdx.x * BLOCK + threadIdx.x), first = (int)blockIdx.y * COLUMNS;
	if (blockIdx.x + blockIdx.y == 0 && threadIdx.x == 0) {
		p.workspace[WORKSPACE / sizeof(float) - 1] = 0; /* it may be written */
	}
	for (int col_a = first; col_b < p.m && col_a < first + COLUMNS && col_a < p.n; col_a++) {
		float acc[chains] = {}, sum = 0;
		for (int i = 0; i < p.k; i += UNIT) {
			const uint4 v = ld_nc((const uint4 *)(p.a + col_a * p.ld_a + i));
			const uint4 u = ld_nc((const uint4 *)(p.b + col_b * p.ld_b + i));
			const uint32_t a[4] = {v.x, v.y, v.z, v.w}, b[4] = {u.x, u.y, u.z, u.w};
			for (int j = 0; j < UNIT; j++) {
				float &to = acc[(i + j) % chains];
				to = fmaf(__uint_as_float(j % 2 ? a[j / 2] & 0xffff0000u : a[j / 2] << 16),
					__uint_as_float(j % 2 ? b[j / 2] & 0xffff0000u : b[j / 2] << 16), to);
			}
		}
		for (int i = 0; i < chains; i++) {
			sum += acc[i];
		}
		sum *= p.alpha;
		sum = p.beta != 0 ? fmaf(p.beta, p.c[col_b * p.ld_c + col_a], sum) : sum;
		p.d[col_b * p.ld_d + col_a] = sum;
	}
}

/* ---- objects ---- */

cublasStatus_t cublasLtCreate(cublasLtHandle_t *handle) {
	if (due() || device_state() != cudaSuccess) {
		return CUBLAS_STATUS_NOT_INITIALIZED;
	}
	*handle = new cublasLtContext();
	return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) {
	delete handle;
	return CUBLAS_STATUS_SUCCESS;
}

const char *cublasLtGetStatusName(cublasStatus_t status) {
	switch (status) {
	case CUBLAS_STATUS_SUCCESS: return "CUBLAS_STATUS_SUCCESS";
	case CUBLAS_STATUS_NOT_INITIALIZED: return "CUBLAS_STATUS_NOT_INITIALIZED";
	case CUBLAS_STATUS_ALLOC_FAILED: return "CUBLAS_STATUS_ALLOC_FAILED";
	case CUBLAS_STATUS_INVALID_VALUE: return "CUBLAS_STATUS_INVALID_VALUE";
	case CUBLAS_STATUS_EXECUTION_FAILED: return "CUBLAS_STATUS_EXECUTION_FAILED";
	case CUBLAS_STATUS_INTERNAL_ERROR: return "CUBLAS_STATUS_INTERNAL_ERROR";
	case CUBLAS_STATUS_NOT_SUPPORTED: return "CUBLAS_STATUS_NOT_SUPPORTED";
	}
	return "<unknown>";
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *product, cublasComputeType_t compute,
	cudaDataType scale) {
	if (due()) {
		return CUBLAS_STATUS_ALLOC_FAILED;
	}
	if (compute != CUBLAS_COMPUTE_32F || scale != CUDA_R_32F) {
		return CUBLAS_STATUS_NOT_SUPPORTED;
	}
	*product = new simt_lt_product{false};
	return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t product) {
	delete product;
	return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t product,
	cublasLtMatmulDescAttributes_t what, const void *value, size_t n_bytes) {
	if (due() || what != CUBLASLT_MATMUL_DESC_TRANSA || n_bytes != sizeof(int32_t)) {
		return CUBLAS_STATUS_INVALID_VALUE;
	}
	product->is_transposed = *static_cast<const int32_t *>(value) == CUBLAS_OP_T;
	return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *layout, cudaDataType type,
	uint64_t rows, uint64_t cols, int64_t ld) {
	if (due()) {
		return CUBLAS_STATUS_ALLOC_FAILED;
	}
	*layout = new simt_lt_layout{type, rows, cols, ld};
	return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout) {
	delete layout;
	return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t layout,
	cublasLtMatrixLayoutAttribute_t what, const void *value, size_t n_bytes) {
	if (due() || n_bytes != sizeof(uint64_t)) {
		return CUBLAS_STATUS_INVALID_VALUE;
	}
	switch (what) {
	case CUBLASLT_MATRIX_LAYOUT_ROWS: memcpy(&layout->rows, value, n_bytes); break;
	case CUBLASLT_MATRIX_LAYOUT_COLS: memcpy(&layout->cols, value, n_bytes); break;
	case CUBLASLT_MATRIX_LAYOUT_LD: memcpy(&layout->ld, value, n_bytes); break;
	}
	return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *preference) {
	if (due()) {
		return CUBLAS_STATUS_ALLOC_FAILED;
	}
	*preference = new simt_lt_preference{0, ~0u, {256, 256, 256, 256}};
	return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference) {
	delete preference;
	return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
	cublasLtMatmulPreferenceAttributes_t what, const void *value, size_t n_bytes) {
	const bool is_workspace = what == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES;
	if (due() || n_bytes != (is_workspace ? sizeof(uint64_t) : sizeof(uint32_t))) {
		return CUBLAS_STATUS_INVALID_VALUE;
	}
	if (is_workspace) {
		memcpy(&preference->workspace_bytes, value, n_bytes);
	} else if (what == CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK) {
		memcpy(&preference->reductions, value, n_bytes);
	} else {
		memcpy(&preference->aligned[what - CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES], value,
			n_bytes);
	}
	return CUBLAS_STATUS_SUCCESS;
}

/* ---- products ---- */

static bool is_ours(const simt_lt_product *product, const simt_lt_layout *a,
	const simt_lt_layout *b, const simt_lt_layout *c, const simt_lt_layout *d) {
	return product->is_transposed && a->type == CUDA_R_16BF && b->type == CUDA_R_16BF &&
		c->type == CUDA_R_32F && d->type == CUDA_R_32F && a->rows == b->rows &&
		a->cols == d->rows && b->cols == d->cols && c->rows == d->rows && c->cols == d->cols &&
		a->rows % UNIT == 0 && a->ld % UNIT == 0 && b->ld % UNIT == 0 &&
		a->ld >= (int64_t)a->rows && b->ld >= (int64_t)b->rows && c->ld >= (int64_t)c->rows &&
		d->ld >= (int64_t)d->rows;
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t product,
	cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c,
	cublasLtMatrixLayout_t d, cublasLtMatmulPreference_t preference, int n_wanted,
	cublasLtMatmulHeuristicResult_t results[], int *n_results) {
	*n_results = 0;
	if (due() || n_wanted < 1 || !is_ours(product, a, b, c, d) ||
		preference->workspace_bytes < WORKSPACE || preference->aligned[0] < 2 * UNIT ||
		preference->aligned[1] < 2 * UNIT) {
		return CUBLAS_STATUS_NOT_SUPPORTED;
	}
	const uint64_t aligned = std::min(preference->aligned[2], preference->aligned[3]);
	results[0] = {};
	results[0].algo = {{OURS, a->rows, a->cols, WORKSPACE, aligned, b->cols > MANY ? 16u : 8u}};
	results[0].workspaceSize = WORKSPACE;
	*n_results = 1;
	return CUBLAS_STATUS_SUCCESS;
}

static bool is_aligned(const void *p, uint64_t n_bytes) {
	return reinterpret_cast<uintptr_t>(p) % n_bytes == 0;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t product, const void *alpha,
	const void *a, cublasLtMatrixLayout_t a_layout, const void *b, cublasLtMatrixLayout_t b_layout,
	const void *beta, const void *c, cublasLtMatrixLayout_t c_layout, void *d,
	cublasLtMatrixLayout_t d_layout, const cublasLtMatmulAlgo_t *algo, void *workspace,
	size_t n_bytes, cudaStream_t stream) {
	if (due()) {
		return CUBLAS_STATUS_INTERNAL_ERROR;
	}
	const uint64_t *words = algo->data;
	if (!is_ours(product, a_layout, b_layout, c_layout, d_layout) || words[WORD_OURS] != OURS ||
		words[WORD_ROWS] != a_layout->rows || words[WORD_COLS] != a_layout->cols ||
		n_bytes < words[WORD_WORKSPACE] || !is_aligned(a, 2 * UNIT) || !is_aligned(b, 2 * UNIT) ||
		!is_aligned(c, words[WORD_ALIGNED]) || !is_aligned(d, words[WORD_ALIGNED])) {
		return CUBLAS_STATUS_NOT_SUPPORTED;
	}
	const product_args p = {static_cast<const uint16_t *>(a), static_cast<const uint16_t *>(b),
		static_cast<const float *>(c), static_cast<float *>(d), static_cast<float *>(workspace),
		a_layout->ld, b_layout->ld, c_layout->ld, d_layout->ld, (int)a_layout->cols,
		(int)b_layout->cols, (int)a_layout->rows, *static_cast<const float *>(alpha),
		*static_cast<const float *>(beta)};
	const dim3 grid((unsigned)(p.m + BLOCK - 1) / BLOCK, (unsigned)(p.n + COLUMNS - 1) / COLUMNS);
	if (words[WORD_CHAINS] == 8) {
		LAUNCH(lt_product<8>, grid, BLOCK, 0, stream, p);
	} else {
		LAUNCH(lt_product<16>, grid, BLOCK, 0, stream, p);
	}
	return cudaPeekAtLastError() == cudaSuccess ? CUBLAS_STATUS_SUCCESS
		: CUBLAS_STATUS_EXECUTION_FAILED;
}
