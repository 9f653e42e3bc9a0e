/* SPDX-License-Identifier: Apache-2.0
 *
 * The meaning of each word of device code, against plain loops: shuffles, votes, reductions,
 * ldmatrix, mma, wgmma, dp4a, async copies, atomics, conversions. The same file under nvcc asks a
 * GPU. */
#include "device.cuh"

#include <string.h>

#include "simt_test.h"

enum { N = 4096 }; /* words of device memory for inputs, and for outputs */

static uint32_t *in, *out, host[N], got[N];
static uint32_t seed = 1;

static uint32_t draw(void) {
	seed = seed * 1664525u + 1013904223u;
	return seed >> 8 ^ seed << 16;
}

static void send(void) {
	cudaMemcpy(in, host, sizeof(host), cudaMemcpyHostToDevice);
	cudaMemset(out, 0, sizeof(got));
}

/* The kernel's output, or nothing when it failed. */
static bool receive(const char *name) {
	const cudaError_t error = cudaDeviceSynchronize();
	const cudaError_t launch = cudaGetLastError();
	if (!verify(error == cudaSuccess && launch == cudaSuccess, "%s: %s", name,
			cudaGetErrorString(error != cudaSuccess ? error : launch))) {
		return false;
	}
	cudaMemcpy(got, out, sizeof(got), cudaMemcpyDeviceToHost);
	return true;
}

__global__ void shuffle_kernel(const uint32_t *a, uint32_t *y) {
	const unsigned t = threadIdx.x;
	const uint32_t v = a[t];
	y[t] = __shfl_sync(ALL_LANES, v, (int)(t * 7 + 3));
	y[t + 64] = __shfl_xor_sync(ALL_LANES, v, 5);
	y[t + 128] = __shfl_up_sync(ALL_LANES, v, 3);
	y[t + 192] = __shfl_down_sync(ALL_LANES, v, 9);
	y[t + 256] = __shfl_sync(ALL_LANES, v, 2, 8);
	y[t + 320] = __shfl_up_sync(ALL_LANES, v, 3, 16);
	y[t + 384] = __shfl_down_sync(ALL_LANES, v, 3, 16);
	y[t + 448] = __shfl_xor_sync(ALL_LANES, v, 16, 16);
	/* half a warp each, at its own time */
	const unsigned half = t & 16 ? 0xffff0000u : 0x0000ffffu;
	for (unsigned i = 0; i < (t & 16 ? 3 : 1); i++) {
		y[t + 512] = __shfl_xor_sync(half, v, 1);
	}
	const unsigned long long wide = (unsigned long long)v << 32 | t;
	y[t + 576] = (uint32_t)(__shfl_xor_sync(ALL_LANES, wide, 2) >> 32);
}

static uint32_t shuffled(int what, int t) {
	const int l = t & 31, w = t & 32;
	switch (what) {
	case 0:
		return host[w | ((t * 7 + 3) & 31)];
	case 1:
		return host[t ^ 5];
	case 2:
		return host[l < 3 ? t : t - 3];
	case 3:
		return host[l + 9 > 31 ? t : t + 9];
	case 4:
		return host[(t & ~7) | 2];
	case 5:
		return host[(t & 15) < 3 ? t : t - 3];
	case 6:
		return host[(t & 15) + 3 > 15 ? t : t + 3];
	case 7:
		return host[l < 16 ? t : t ^ 16]; /* up is beyond the segment, down is not */
	case 8:
		return host[t ^ 1];
	default:
		return host[t ^ 2];
	}
}

static void test_shuffles(void) {
	send();
	LAUNCH(shuffle_kernel, dim3(1), dim3(64), 0, nullptr, in, out);
	if (!receive("shuffles")) {
		return;
	}
	for (int what = 0; what < 10; what++) {
		bool same = true;
		for (int t = 0; t < 64; t++) {
			same = same && got[what * 64 + t] == shuffled(what, t);
		}
		verify(same, "shuffle %d", what);
	}
}

__global__ void vote_kernel(const uint32_t *a, uint32_t *y) {
	const unsigned t = threadIdx.x;
	const uint32_t v = a[t];
	y[t] = __ballot_sync(ALL_LANES, v & 1);
	y[t + 32] = (uint32_t)(__any_sync(ALL_LANES, (v & 0xff) == 7) << 1 |
		__all_sync(ALL_LANES, v < 0xffffffffu));
	y[t + 64] = __reduce_add_sync(ALL_LANES, v);
	y[t + 96] = (uint32_t)__reduce_min_sync(ALL_LANES, (int)v);
	y[t + 128] = __reduce_max_sync(ALL_LANES, v);
	y[t + 160] = __reduce_or_sync(ALL_LANES, v & t);
}

static void test_votes(void) {
	host[5] = 7;
	send();
	LAUNCH(vote_kernel, dim3(1), dim3(32), 0, nullptr, in, out);
	if (!receive("votes")) {
		return;
	}
	uint32_t votes = 0, sum = 0, most = 0, bits = 0;
	int32_t least = INT32_MAX;
	for (unsigned t = 0; t < 32; t++) {
		votes |= (host[t] & 1) << t;
		sum += host[t];
		least = (int32_t)host[t] < least ? (int32_t)host[t] : least;
		most = host[t] > most ? host[t] : most;
		bits |= host[t] & t;
	}
	const uint32_t want[] = {votes, 3, sum, (uint32_t)least, most, bits};
	for (int i = 0; i < 6; i++) {
		verify(got[i * 32] == want[i] && got[i * 32 + 31] == want[i], "vote or reduction %d", i);
	}
}

__global__ void ldmatrix_kernel(const uint32_t *a, uint32_t *y) {
	SHARED(uint32_t, tile, [512]);
	const unsigned t = threadIdx.x;
	for (unsigned i = t; i < 512; i += 32) {
		tile[i] = a[i];
	}
	__syncthreads();
	uint32_t r[4];
	ldmatrix_x4(r, &tile[t * 12]); /* rows of 16 bytes, 48 apart */
	st_vec((uint4 *)y + t, make_uint4(r[0], r[1], r[2], r[3]));
	ldmatrix_x4_trans(r, &tile[t * 12]);
	st_vec((uint4 *)y + 32 + t, make_uint4(r[0], r[1], r[2], r[3]));
	ldmatrix_x2(r, &tile[t % 16 * 12]);
	st_vec((uint2 *)y + 128 + t, make_uint2(r[0], r[1]));
	ldmatrix_x1(r, &tile[t % 8 * 12]);
	y[320 + t] = r[0];
}

/* Element [row, column] of matrix i. */
static uint32_t half_at(int i, int row, int column) {
	return host[(i * 8 + row) * 12 + column / 2] >> (column & 1) * 16 & 0xffff;
}

static uint32_t fragment(int i, int lane, bool is_transposed) {
	const int row = lane / 4, column = lane % 4 * 2;
	return is_transposed ? half_at(i, column, row) | half_at(i, column + 1, row) << 16
						 : half_at(i, row, column) | half_at(i, row, column + 1) << 16;
}

static void test_ldmatrix(void) {
	send();
	LAUNCH(ldmatrix_kernel, dim3(1), dim3(32), 0, nullptr, in, out);
	if (!receive("ldmatrix")) {
		return;
	}
	bool same[4] = {true, true, true, true};
	for (int l = 0; l < 32; l++) {
		for (int i = 0; i < 4; i++) {
			same[0] = same[0] && got[l * 4 + i] == fragment(i, l, false);
			same[1] = same[1] && got[128 + l * 4 + i] == fragment(i, l, true);
			same[2] = same[2] && (i >= 2 || got[256 + l * 2 + i] == fragment(i, l, false));
		}
		same[3] = same[3] && got[320 + l] == fragment(0, l, false);
	}
	for (int i = 0; i < 4; i++) {
		verify(same[i], "ldmatrix %d", i);
	}
}

enum { MMA_FROM = -77777 };

__global__ void mma_kernel(const uint32_t *a, uint32_t *y, int type) {
	const unsigned t = threadIdx.x;
	uint32_t fa[4], fb[2];
	int32_t s[4];
	float f[4];
	for (int i = 0; i < 4; i++) {
		fa[i] = a[t * 10 + i];
		s[i] = (int32_t)a[t * 10 + 6 + i];
		f[i] = (float)(s[i] % 1000);
	}
	for (int i = 0; i < 2; i++) {
		fb[i] = a[t * 10 + 4 + i];
	}
	if (type == 0) {
		mma_f16(f, fa, fb);
	} else if (type == 1) {
		mma_bf16(f, fa, fb);
	} else if (type == 2) {
		mma_s8_from(s, MMA_FROM, fa, fb);
	} else {
		mma_s8_half_from(s, MMA_FROM, fa, fb[0]);
	}
	for (int i = 0; i < 4; i++) {
		y[t * 4 + i] = type < 2 ? __float_as_uint(f[i]) : (uint32_t)s[i];
	}
}

static float narrow_float(uint16_t h) {
	const uint32_t u = (uint32_t)h << 16;
	float f;
	memcpy(&f, &u, sizeof(f));
	return f;
}

/* Element k of row `row` of a [16, 16 or 32], or of column `row` of b: in which lane and word. */
static double element(int type, bool is_b, int row, int k) {
	const int per_word = type < 2 ? 2 : 4, half = 4 * per_word;
	const int lane = row % 8 * 4 + k % half / per_word;
	const int word = is_b ? 4 + k / half : row / 8 + k / half * 2;
	const uint32_t w = host[lane * 10 + word] >> (k % per_word) * (type < 2 ? 16 : 8);
	if (type == 0) {
		const uint16_t bits = (uint16_t)w;
		_Float16 half_float;
		memcpy(&half_float, &bits, sizeof(bits));
		return (double)half_float;
	}
	if (type == 1) {
		return (double)narrow_float((uint16_t)w);
	}
	return (double)(int8_t)w;
}

static void test_mma(void) {
	static const char *const names[] = {"f16", "bf16", "s8 from", "s8 half from"};
	for (int type = 0; type < 4; type++) {
		for (int i = 0; i < 320; i++) {
			/* finite halves near 1, so that an error in the layout can't hide */
			const uint32_t one = type == 0 ? 0x3c003c00u : 0x3f803f80u;
			const uint32_t bits = type == 0 ? 0x83ff83ffu : 0x807f807fu;
			host[i] = type < 2 && i % 10 < 6 ? one ^ (draw() & bits) : draw();
		}
		send();
		LAUNCH(mma_kernel, dim3(1), dim3(32), 0, nullptr, in, out, type);
		if (!receive(names[type])) {
			continue;
		}
		double worst = 0.0;
		for (int m = 0; m < 16; m++) {
			for (int n = 0; n < 8; n++) {
				const int lane = m % 8 * 4 + n / 2, word = m / 8 * 2 + n % 2;
				const int32_t start = (int32_t)host[lane * 10 + 6 + word];
				double want = type < 2 ? start % 1000 : MMA_FROM;
				for (int k = 0; k < (type == 2 ? 32 : 16); k++) {
					want += element(type, false, m, k) * element(type, true, n, k);
				}
				float f;
				memcpy(&f, &got[lane * 4 + word], 4);
				const double have = type < 2 ? f : (double)(int32_t)got[lane * 4 + word];
				worst = fabs(have - want) > worst ? fabs(have - want) : worst;
			}
		}
		verify(worst <= (type < 2 ? 1e-3 : 0.0), "mma %s is off by %g", names[type], worst);
	}
}

/* Shared memory is the whole input, from its start on; two groups, of which the second is waited
 * for later. Of a thread's 64 sums, or of the other group's, 32 go out. */
__global__ void wgmma_kernel(const uint32_t *a, uint32_t *y, int type, int step, int part) {
#if HAS_WGMMA
	DYN_SHARED_TILES(uint32_t, tile);
	const unsigned t = threadIdx.x;
	float d[2][64];
	for (unsigned i = t; i < N; i += 128) {
		tile[i] = a[i];
	}
	for (int i = 0; i < 128; i++) {
		d[i / 64][i % 64] = (float)(t * 5 + i * 3) - 300.0f;
	}
	const uint32_t fragment[4] = {a[t * 4], a[t * 4 + 1], a[t * 4 + 2], a[t * 4 + 3]};
	async_proxy_fence();
	__syncthreads();
	wgmma_fence_sums(d[0]);
	wgmma_fence_sums(d[1]);
	wgmma_begin();
	for (int i = 0; i < 2; i++) {
		const uint64_t b = wgmma_tile(tile + (step ^ i) * 8);
		if (type == 0) {
			wgmma_f16(d[i], fragment, b);
		} else {
			wgmma_bf16(d[i], fragment, b);
		}
		wgmma_commit();
	}
	wgmma_wait<1>();
	wgmma_fence_sums(d[0]);
	for (int i = 0; part < 2 && i < 32; i++) {
		y[t * 32 + i] = __float_as_uint(d[0][part * 32 + i]);
	}
	wgmma_wait<0>();
	wgmma_fence_sums(d[1]);
	for (int i = 0; part >= 2 && i < 32; i++) {
		y[t * 32 + i] = __float_as_uint(d[1][part % 2 * 32 + i]);
	}
#endif
}

/* A half of the input. */
static double half_value(int type, int at) {
	const uint16_t bits = (uint16_t)(host[at / 2] >> at % 2 * 16);
	_Float16 half_float;
	memcpy(&half_float, &bits, sizeof(bits));
	return type == 0 ? (double)half_float : (double)narrow_float(bits);
}

/* Which half of shared memory element k of column n of b is, for a tile that begins 32 * step bytes
 * into a row: the swizzle of 128 bytes, after the PTX ISA: rows of 8 units of 16 bytes, and unit u
 * of row r is at u ^ (r % 8). */
static int half_of_tile(int n, int k, int step) {
	const int unit = step * 2 + k / 8;
	return n * 64 + (unit ^ n % 8) * 8 + k % 8;
}

static double wgmma_off_by(int type, int step, int part) {
	double worst = 0.0;
	for (int m = 0; m < 64; m++) {
		for (int n = part % 2 * 64; n < part % 2 * 64 + 64; n++) {
			const int thread = m / 16 * 32 + m % 8 * 4 + n % 8 / 2;
			const int sum = n / 8 * 4 + m / 8 % 2 * 2 + n % 2;
			double want = thread * 5 + (part / 2 * 64 + sum) * 3 - 300.0;
			for (int k = 0; k < 16; k++) {
				const int lane = m / 16 * 32 + m % 8 * 4 + k % 8 / 2;
				const int at = (lane * 4 + m / 8 % 2 + k / 8 * 2) * 2 + k % 2;
				want += half_value(type, at)
					* half_value(type, half_of_tile(n, k, step ^ part / 2));
			}
			float f;
			memcpy(&f, &got[thread * 32 + sum % 32], 4);
			worst = fabs(f - want) <= worst ? worst : fabs(f - want);
		}
	}
	return worst;
}

static void test_wgmma(void) {
	int major = 9;
#ifdef __CUDACC__
	cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0);
#endif
	for (int type = 0; type < 2; type++) {
		for (int i = 0; i < N; i++) {
			host[i] = (type == 0 ? 0x3c003c00u : 0x3f803f80u)
				^ (draw() & (type == 0 ? 0x83ff83ffu : 0x807f807fu));
		}
		for (int i = 0; major == 9 && i < 16; i++) {
			send();
			LAUNCH(wgmma_kernel, dim3(1), dim3(128), N * 4, nullptr, in, out, type, i / 4, i % 4);
			if (receive("wgmma")) {
				const double worst = wgmma_off_by(type, i / 4, i % 4);
				verify(worst <= 1e-3, "wgmma %s, step %d, part %d is off by %g",
					type == 0 ? "f16" : "bf16", i / 4, i % 4, worst);
			}
		}
	}
}

__global__ void small_kernel(const uint32_t *a, uint32_t *y) {
	const unsigned t = threadIdx.x;
	const uint32_t v = a[t], w = a[t + 32];
	y[t] = (uint32_t)dp4a_s8(v, w, 5);
	y[t + 32] = __float_as_uint(rcp_approx((float)(t + 1)));
	y[t + 64] = __byte_perm(v, w, 0x7250);
	y[t + 96] = __umulhi(v, w);
	y[t + 128] = (uint32_t)__float2int_rn((float)(int)t - 15.5f);
	y[t + 160] = (uint32_t)(__popc(v) | __clz((int)t) << 8 | __ffs((int)t) << 16);
	y[t + 192] = __float_as_uint(exp2_approx((float)(int)t - 16.0f));
}

static float float_at(int i) {
	float f;
	memcpy(&f, &got[i], 4);
	return f;
}

static void test_small(void) {
	send();
	LAUNCH(small_kernel, dim3(1), dim3(32), 0, nullptr, in, out);
	if (!receive("small words")) {
		return;
	}
	bool same[7] = {true, true, true, true, true, true, true};
	for (int t = 0; t < 32; t++) {
		const uint32_t v = host[t], w = host[t + 32];
		int sum = 5;
		for (int i = 0; i < 32; i += 8) {
			sum += (int8_t)(v >> i) * (int8_t)(w >> i);
		}
		same[0] = same[0] && got[t] == (uint32_t)sum;
		same[1] = same[1] && fabs(float_at(t + 32) * (t + 1.0) - 1.0) < 1e-6;
		/* selector 7250: bytes 0 and 2 of v, 1 and 3 of w, lowest first 0, 5, 2, 7 */
		same[2] = same[2] &&
			got[t + 64] == ((v & 255) | (w >> 8 & 255) << 8 | (v >> 16 & 255) << 16 |
				(w >> 24) << 24);
		same[3] = same[3] && got[t + 96] == (uint32_t)((uint64_t)v * w >> 32);
		same[4] = same[4] && (int)got[t + 128] == (int)rint(t - 15.5);
		same[5] = same[5] &&
			got[t + 160] == (uint32_t)(__builtin_popcount(v) |
				(t == 0 ? 32 : __builtin_clz((unsigned)t)) << 8 | __builtin_ffs(t) << 16);
		same[6] = same[6] && fabs(float_at(t + 192) / exp2(t - 16.0) - 1.0) < 1e-6;
	}
	for (int i = 0; i < 7; i++) {
		verify(same[i], "small word %d", i);
	}
}

__global__ void convert_kernel(const uint32_t *a, uint32_t *y) {
	const unsigned t = threadIdx.x + blockIdx.x * blockDim.x;
	const float f = __uint_as_float(a[t]);
	y[t] = f16_of(f) | (uint32_t)bf16_of(f) << 16;
	y[t + 1024] = __float_as_uint(f32_of_f16((uint16_t)a[t]));
	y[t + 2048] = f16x2_of(f, 1.0f);
	y[t + 3072] = __float_as_uint(bf16_hi(bf16x2_of(1.0f, f)));
}

static void test_conversions(void) {
	static const uint32_t edges[] = {0, 0x80000000u, 0x7f800000u, 0xff800000u, 0x7fc00000u,
		0x477fefffu, 0x477ff000u, 0x38800000u, 0x387fffffu, 0x33000000u, 0x33000001u, 0x3f808000u,
		0x3f818000u, 0x7f7fffffu, 1, 0x3f801000u, 0x3f803000u};
	for (int i = 0; i < 1024; i++) {
		host[i] = i < 17 ? edges[i] : i % 2 ? draw() : 0x30000000u + (draw() & 0x1fffffffu);
	}
	send();
	LAUNCH(convert_kernel, dim3(4), dim3(256), 0, nullptr, in, out);
	if (!receive("conversions")) {
		return;
	}
	int wrong[4] = {0, 0, 0, 0};
	for (int i = 0; i < 1024; i++) {
		float f;
		memcpy(&f, &host[i], 4);
		const _Float16 h = (_Float16)f; /* the compiler's own rounding */
		uint16_t half, narrow;
		memcpy(&half, &h, 2);
		const double unit = isfinite(f) && f != 0.0f ? ldexp(1.0, ilogb(f) - 7) : 1.0;
		const float nearest = ilogb(f) < -126 ? 0.0f : (float)(rint(f / unit) * unit);
		narrow = (uint16_t)(got[i] >> 16);
		half = isnan(f) ? 0x7fff : half;
		wrong[0] += (uint16_t)got[i] != half;
		wrong[1] += isnan(f) ? narrow != 0x7fff
			: isfinite(f) && ilogb(f) >= -126 ? narrow_float(narrow) != nearest : 0;
		memcpy(&half, &host[i], 2);
		_Float16 wide;
		memcpy(&wide, &half, 2);
		wrong[2] += float_at(1024 + i) != (float)wide && !isnan((float)wide);
		wrong[3] += got[i + 2048] != (0x3c000000u | (got[i] & 0xffff)) ||
			got[i + 3072] >> 16 != got[i] >> 16;
	}
	for (int i = 0; i < 4; i++) {
		verify(wrong[i] == 0, "conversion %d: %d of 1024", i, wrong[i]);
	}
}

__global__ void async_kernel(const uint32_t *a, uint32_t *y) {
	SHARED(uint32_t, stage, [3][128]);
	const unsigned t = threadIdx.x;
	for (int i = 0; i < 2; i++) {
		cp_async16(&stage[i][t * 4], a + i * 128 + t * 4);
		cp_async_commit();
	}
	cp_async_wait<1>();
	__syncwarp();
	y[t] = stage[0][127 - t];
	cp_async16_zfill(&stage[2][t * 4], a + t * 4, t % 4 * 4);
	cp_async_commit();
	cp_async_wait<0>();
	__syncwarp();
	y[t + 32] = stage[1][127 - t];
	for (unsigned i = 0; i < 4; i++) {
		y[64 + t * 4 + i] = stage[2][t * 4 + i];
	}
	__syncwarp();
	cp_async4(&stage[0][t], a + t + 5);
	cp_async_commit();
	cp_async_wait<0>();
	y[192 + t] = stage[0][t];
}

static void test_async(void) {
	send();
	LAUNCH(async_kernel, dim3(1), dim3(32), 0, nullptr, in, out);
	if (!receive("async copies")) {
		return;
	}
	bool same[4] = {true, true, true, true};
	for (int t = 0; t < 32; t++) {
		same[0] = same[0] && got[t] == host[127 - t];
		same[1] = same[1] && got[t + 32] == host[255 - t];
		for (int i = 0; i < 4; i++) {
			same[2] = same[2] && got[64 + t * 4 + i] == (i < t % 4 ? host[t * 4 + i] : 0);
		}
		same[3] = same[3] && got[192 + t] == host[t + 5];
	}
	for (int i = 0; i < 4; i++) {
		verify(same[i], "async copy %d", i);
	}
}

__global__ void atomic_kernel(uint32_t *y) {
	const unsigned t = threadIdx.x + blockIdx.x * blockDim.x;
	atomicAdd(&y[0], t);
	atomicAdd((int *)&y[1], -1);
	atomicMax((int *)&y[2], (int)t - 1000);
	atomicMax(&y[3], t);
	atomicMin((int *)&y[4], -(int)t);
	atomicOr(&y[5], 1u << t % 32);
	unsigned old = atomicCAS(&y[6], 0, t + 1);
	if (old == 0) {
		atomicAdd(&y[7], 1u);
	}
	if (atomicExch(&y[8], 1u) == 0) {
		atomicAdd(&y[9], 1u);
	}
	atomicAdd((unsigned long long *)&y[10], 1ull << 31);
}

static void test_atomics(void) {
	send();
	LAUNCH(atomic_kernel, dim3(8), dim3(64), 0, nullptr, out);
	if (!receive("atomics")) {
		return;
	}
	const uint32_t want[] = {511 * 512 / 2, (uint32_t)-512, 0, 511, (uint32_t)-511, ~0u, 0, 1, 1, 1,
		0, 256};
	for (int i = 0; i < 12; i++) {
		verify(i == 6 ? got[i] - 1 < 512 : got[i] == want[i], "atomic %d: %u", i, got[i]);
	}
}

__global__ void shape_kernel(uint32_t *y) {
	DYN_SHARED(uint32_t, all);
	const unsigned t = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
	const unsigned b = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
	all[t] = b * 1000 + t;
	__syncthreads();
	y[b * 24 + t] = all[23 - t];
}

static void test_shapes(void) {
	send();
	LAUNCH(shape_kernel, dim3(3, 2, 2), dim3(4, 3, 2), 96, nullptr, out);
	if (!receive("shapes")) {
		return;
	}
	bool same = true;
	for (int i = 0; i < 12 * 24; i++) {
		same = same && got[i] == (uint32_t)(i / 24 * 1000 + 23 - i % 24);
	}
	verify(same, "indices of threads and blocks");
}

int main(void) {
	if (cudaMalloc(&in, sizeof(host)) != cudaSuccess ||
		cudaMalloc(&out, sizeof(got)) != cudaSuccess) {
		verify(false, "no device memory");
		return close_tests();
	}
	for (int i = 0; i < N; i++) {
		host[i] = draw();
	}
	test_shuffles();
	test_votes();
	test_ldmatrix();
	test_small();
	test_async();
	test_atomics();
	test_shapes();
	test_mma();
	test_wgmma();
	test_conversions();
	return close_tests();
}
