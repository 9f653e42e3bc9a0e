/* SPDX-License-Identifier: Apache-2.0
 *
 * The words in which device code is written, and no others: under nvcc they are CUDA or inline PTX
 * for sm_80 and newer, under the host compiler they are the emulator's (simt/words.hpp). Owns no
 * kernel. CUDA's own names are kept where they exist and mean the same in both: __global__,
 * __device__, __launch_bounds__, threadIdx and its like, __syncthreads, __syncwarp, __shfl_*_sync,
 * __ballot_sync, __any_sync, __all_sync, __reduce_*_sync on int and unsigned, atomicAdd, Min, Max,
 * Or, CAS and Exch on integers, __float_as_uint, __popc, __ffs, __clz, __byte_perm, __umulhi,
 * __float2int_rn, fmaf, min, max, float4, make_float4 and their like. Not to be used: raw
 * __shared__ (the emulator can't watch it), atomics on floats (no fixed order), half2.
 *
 * The others, with the same meaning on both sides:
 *
 *   LAUNCH(kernel, grid, block, smem, stream, args...)   a template in parentheses: (k<1, 2>)
 *   LAUNCH_EARLY(...)                   the same, but blocks may begin while the launch before is
 *                                       still at work. A thread of the kernel calls
 *   await_launches()                    before it reads what that launch writes, or writes what it
 *                                       reads or writes; by ld_nc, which may be moved before it, it
 *                                       reads nothing of that at all. A thread that does neither
 *                                       may return without the call, but not all of a grid: the
 *                                       launch after it would not wait for the one before it
 *   ALLOW_SMEM(kernel, bytes)           before a launch with more than PLAIN_SMEM of dynamic memory
 *   SHARED(T, name, [n]);  SHARED(T, name, [m][n]);      aligned to 16 bytes
 *   DYN_SHARED(T, name);                T *name to the launch's smem bytes, aligned to 16
 *   ld_nc(p)  ld_vec(p)  st_vec(p, v)   one access of 4, 8 or 16 bytes; nc: not written meanwhile
 *   cp_async16(s, g)  cp_async16_zfill(s, g, n)  cp_async4(s, g)  cp_async_commit()
 *   cp_async_wait<n>()                  all but this thread's n newest groups have arrived
 *   arrives_last(count, n)              true in the last of n blocks whose threads all call it:
 *                                       what these wrote before is seen behind it; *count is
 *                                       0 before and after
 *   ldmatrix_x1(r, s) .._x2 .._x4, ldmatrix_x4_trans(r, s)
 *   mma_f16(d, a, b)  mma_bf16(d, a, b)      m16n8k16, f32 d[4] += a[4] b[2]
 *   mma_s8_from(d, c, a, b)                  m16n8k32, s32 d[4] = c + a[4] b[2] with one c: a
 *                                            constant isn't moved to d first
 *   mma_s8_half_from(d, c, a, b)             its half, m16n8k16: a[2], a word b
 *   DYN_SHARED_TILES(T, name);          as DYN_SHARED, aligned to 1024
 *   wgmma_tile(s)                       what wgmma is told of b: 128 columns of b from s on, 128
 *                                       bytes each of which it takes 32, where unit u of 16 bytes
 *                                       of column c is at wgmma_unit(c, u). s is a multiple of
 *                                       1024, and up to 3 times 32 more for what follows along k
 *   wgmma_f16(d, a, b) wgmma_bf16(d, a, b)   m64n128k16 of four warps, 16 rows each: f32 d[64] +=
 *                                       a[4] b; d[4 j to 4 j + 3] as an mma has columns 8 j to 8 j
 *                                       + 7, a as an mma's. Where HAS_WGMMA alone, and with these:
 *   async_proxy_fence()                 by who has written what wgmma will read, before the barrier
 *   wgmma_begin() .. wgmma_commit() .. wgmma_wait<n>()   before the first wgmma and whenever a or d
 *                                       were touched; behind the last one of a group; until all but
 *                                       the n newest groups are done, and not before, d is valid
 *   wgmma_fence_sums(d)                 between what touches d and the wgmmas, on both sides
 *   dp4a_s8(a, b, c)                         c + four products of bytes of a and b
 *   f16_of(f) f32_of_f16(h) bf16_of(f) f32_of_bf16(h)   round to nearest even; a NaN becomes 0x7fff
 *   f16x2_of(lo, hi) bf16x2_of(lo, hi), f16_lo(w) f16_hi(w) bf16_lo(w) bf16_hi(w)   two in a word
 *   afresh(x)                           x, a number or an address, but what is computed from it is
 *                                       computed here: not before a loop, to be kept in registers
 *   DEVICE_ARCH                         what this code is for: 800, 860, ..; 0 on the host. It may
 *                                       say what registers hold, never what is computed
 *   exp2_approx rcp_approx              the special-function unit; subnormals are 0
 */
#pragma once

#include <math.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __CUDACC__

#include <cuda_runtime.h>

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
#error "device code needs compute capability 8.0: cp.async, bf16 and int8 m16n8k32"
#endif

#define LAUNCH(kernel, grid, block, smem, stream, ...)                                             \
	kernel<<<(grid), (block), (smem), (stream)>>>(__VA_ARGS__)
#define LAUNCH_EARLY(kernel, grid, block, smem, stream, ...)                                       \
	launch_early(kernel, grid, block, smem, stream, __VA_ARGS__)
#define ALLOW_SMEM(kernel, bytes)                                                                  \
	cudaFuncSetAttribute((const void *)(kernel), cudaFuncAttributeMaxDynamicSharedMemorySize,      \
		(int)(bytes))
#define SHARED(T, name, ...) __shared__ __align__(16) T name __VA_ARGS__
#define DYN_SHARED(T, name)                                                                        \
	extern __shared__ __align__(16) unsigned char dyn_shared_bytes[];                              \
	T *const name = reinterpret_cast<T *>(dyn_shared_bytes)

#define DYN_SHARED_TILES(T, name)                                                                  \
	extern __shared__ __align__(1024) unsigned char dyn_shared_tiles[];                            \
	T *const name = reinterpret_cast<T *>(dyn_shared_tiles)

/* Whether this pass of the compiler is for Hopper's own instructions. */
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
#define HAS_WGMMA 1
#else
#define HAS_WGMMA 0
#endif

#define DEVICE static __device__ __forceinline__
#ifdef __CUDA_ARCH__
#define DEVICE_ARCH __CUDA_ARCH__
#else
#define DEVICE_ARCH 0
#endif

/* ---- launches ---- */

/* Whether this device's code is for 9.0 or newer, where await_launches is more than nothing: set
 * when the device is opened (module.cu). */
extern bool has_early_launches;

template <class... params, class... args>
static inline void launch_early(void (*kernel)(params...), dim3 grid, dim3 block, size_t smem,
	cudaStream_t stream, args... a) {
	cudaLaunchAttribute early = {};
	early.id = cudaLaunchAttributeProgrammaticStreamSerialization;
	early.val.programmaticStreamSerializationAllowed = 1;
	cudaLaunchConfig_t config = {};
	config.gridDim = grid;
	config.blockDim = block;
	config.dynamicSmemBytes = smem;
	config.stream = stream;
	config.attrs = &early;
	config.numAttrs = has_early_launches ? 1 : 0;
	cudaLaunchKernelEx(&config, kernel, params(a)...);
}

/* The launch after this one may begin from here on: what this one waited for is done then, so that
 * the next may read, before it waits, what no launch since the one before this one has written. */
DEVICE void await_launches(void) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
	asm volatile("griddepcontrol.wait;" ::: "memory");
	asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

/* ---- memory ---- */

template <class T> DEVICE T ld_nc(const T *p) {
	static_assert(sizeof(T) == 4 || sizeof(T) == 8 || sizeof(T) == 16, "one access");
	return __ldg(p);
}

template <class T> DEVICE T ld_vec(const T *p) {
	static_assert(sizeof(T) == 4 || sizeof(T) == 8 || sizeof(T) == 16, "one access");
	return *p;
}

template <class T> DEVICE void st_vec(T *p, T v) {
	static_assert(sizeof(T) == 4 || sizeof(T) == 8 || sizeof(T) == 16, "one access");
	*p = v;
}

DEVICE uint32_t shared_address(const void *s) {
	return (uint32_t)__cvta_generic_to_shared(s);
}

/* .cg: past L1, for what a block reads once. */
DEVICE void cp_async16(void *s, const void *g) {
	asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared_address(s)), "l"(g)
				 : "memory");
}

/* The first n_bytes (0 to 16) come from g, the rest is zero; with 0, g is not read. */
DEVICE void cp_async16_zfill(void *s, const void *g, int n_bytes) {
	asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(s)), "l"(g),
				 "r"(n_bytes)
				 : "memory");
}

DEVICE void cp_async4(void *s, const void *g) {
	asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"(shared_address(s)), "l"(g)
				 : "memory");
}

DEVICE void cp_async_commit(void) {
	asm volatile("cp.async.commit_group;" ::: "memory");
}

template <int n> DEVICE void cp_async_wait(void) {
	asm volatile("cp.async.wait_group %0;" ::"n"(n) : "memory");
}

/* ---- blocks ---- */

DEVICE bool arrives_last(unsigned *count, unsigned n) {
	__syncthreads();
	int is_last = 0;
	if (threadIdx.x == 0) {
		__threadfence(); /* behind the barrier: of all that the block has written */
		is_last = atomicInc(count, n - 1) == n - 1;
	}
	is_last = __syncthreads_or(is_last);
	__threadfence();
	return is_last != 0;
}

/* ---- registers ---- */

DEVICE unsigned afresh(unsigned i) {
	asm volatile("" : "+r"(i));
	return i;
}

DEVICE const uint8_t *afresh(const uint8_t *p) {
	asm volatile("" : "+l"(p));
	return p;
}

/* ---- tensor cores ---- */

DEVICE void ldmatrix_x1(uint32_t r[1], const void *s) {
	asm volatile("ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%0}, [%1];"
				 : "=r"(r[0]) : "r"(shared_address(s)) : "memory");
}

DEVICE void ldmatrix_x2(uint32_t r[2], const void *s) {
	asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0, %1}, [%2];"
				 : "=r"(r[0]), "=r"(r[1]) : "r"(shared_address(s)) : "memory");
}

DEVICE void ldmatrix_x4(uint32_t r[4], const void *s) {
	asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
				 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
				 : "r"(shared_address(s)) : "memory");
}

DEVICE void ldmatrix_x4_trans(uint32_t r[4], const void *s) {
	asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
				 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
				 : "r"(shared_address(s)) : "memory");
}

#define MMA_WORD(name, shape)                                                                      \
	DEVICE void name(float d[4], const uint32_t a[4], const uint32_t b[2]) {                       \
		asm volatile("mma.sync.aligned." shape                                                     \
					 " {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"            \
					 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])                              \
					 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));          \
	}
MMA_WORD(mma_f16, "m16n8k16.row.col.f32.f16.f16.f32")
MMA_WORD(mma_bf16, "m16n8k16.row.col.f32.bf16.bf16.f32")
#undef MMA_WORD

DEVICE void mma_s8_from(int32_t d[4], int32_t c, const uint32_t a[4], const uint32_t b[2]) {
	asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32"
		" {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%10, %10, %10, %10};"
		: "=r"(d[0]), "=r"(d[1]), "=r"(d[2]), "=r"(d[3])
		: "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]), "r"(c));
}

DEVICE void mma_s8_half_from(int32_t d[4], int32_t c, const uint32_t a[2], uint32_t b) {
	asm("mma.sync.aligned.m16n8k16.row.col.s32.s8.s8.s32"
		" {%0, %1, %2, %3}, {%4, %5}, {%6}, {%7, %7, %7, %7};"
		: "=r"(d[0]), "=r"(d[1]), "=r"(d[2]), "=r"(d[3])
		: "r"(a[0]), "r"(a[1]), "r"(b), "r"(c));
}

DEVICE int32_t dp4a_s8(uint32_t a, uint32_t b, int32_t c) {
	int32_t d;
	asm("dp4a.s32.s32 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
	return d;
}

/* ---- tensor cores, four warps at once ---- */

DEVICE void async_proxy_fence(void) {
	asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

DEVICE void wgmma_begin(void) {
	asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}

DEVICE void wgmma_commit(void) {
	asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}

template <int n> DEVICE void wgmma_wait(void) {
	asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(n) : "memory");
}

#define WGMMA_SUMS8(i)                                                                             \
	"+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]),    \
		"+f"(d[i + 6]), "+f"(d[i + 7])
#define WGMMA_SUMS                                                                                 \
	WGMMA_SUMS8(0), WGMMA_SUMS8(8), WGMMA_SUMS8(16), WGMMA_SUMS8(24), WGMMA_SUMS8(32),             \
		WGMMA_SUMS8(40), WGMMA_SUMS8(48), WGMMA_SUMS8(56)

/* What is computed of d, or sets it, stays on its side. */
DEVICE void wgmma_fence_sums(float d[64]) {
	asm volatile("" : WGMMA_SUMS::"memory");
}

#define WGMMA_WORD(name, types)                                                                    \
	DEVICE void name(float d[64], const uint32_t a[4], uint64_t b) {                               \
		asm volatile("{ .reg .pred p; setp.eq.u32 p, 0, 0; /* d isn't cleared */ "                 \
					 "wgmma.mma_async.sync.aligned.m64n128k16.f32." types " "                      \
					 "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, "          \
					 "%15, %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, " \
					 "%30, %31, %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, " \
					 "%45, %46, %47, %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, " \
					 "%60, %61, %62, %63}, "                                                       \
					 "{%64, %65, %66, %67}, %68, p, 1, 1, 0; }"                                    \
					 : WGMMA_SUMS : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));           \
	}
WGMMA_WORD(wgmma_f16, "f16.f16")
WGMMA_WORD(wgmma_bf16, "bf16.bf16")
#undef WGMMA_WORD
#undef WGMMA_SUMS
#undef WGMMA_SUMS8

/* ---- numbers ---- */

DEVICE uint16_t f16_of(float f) {
	uint16_t h;
	asm("cvt.rn.f16.f32 %0, %1;" : "=h"(h) : "f"(f));
	return h;
}

DEVICE float f32_of_f16(uint16_t h) {
	float f;
	asm("cvt.f32.f16 %0, %1;" : "=f"(f) : "h"(h));
	return f;
}

DEVICE uint16_t bf16_of(float f) {
	uint16_t h;
	asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(h) : "f"(f));
	return h;
}

DEVICE uint32_t f16x2_of(float lo, float hi) {
	uint32_t w;
	asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(w) : "f"(hi), "f"(lo));
	return w;
}

DEVICE uint32_t bf16x2_of(float lo, float hi) {
	uint32_t w;
	asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(w) : "f"(hi), "f"(lo));
	return w;
}

#define APPROX_WORD(name, instruction)                                                             \
	DEVICE float name(float x) {                                                                   \
		float y;                                                                                   \
		asm(instruction " %0, %1;" : "=f"(y) : "f"(x));                                            \
		return y;                                                                                  \
	}
APPROX_WORD(exp2_approx, "ex2.approx.ftz.f32")
APPROX_WORD(rcp_approx, "rcp.approx.ftz.f32")
#undef APPROX_WORD

#else

#include "../simt/words.hpp"

#define HAS_WGMMA 1

#define DEVICE static inline __attribute__((always_inline, unused))

#endif

/* ---- what both spell alike ---- */

/* Before a loop. The host's compiler decides by itself. */
#ifdef __CUDACC__
#define UNROLL _Pragma("unroll")
#define UNROLL_BY(n) UNROLL_BY_TEXT(unroll n)
#define UNROLL_BY_TEXT(text) _Pragma(#text)
#else
#define UNROLL
#define UNROLL_BY(n)
#endif

enum {
	WARP = 32,
	/* Dynamic memory that a launch may take unasked: 48 KiB less SHARED arrays, of which a kernel
	 * that has both has no more than 1 KiB. */
	PLAIN_SMEM = 47 * 1024,
};
#define ALL_LANES 0xffffffffu

/* A descriptor of the PTX ISA: the address and, from bit 32 on, the distance of groups of eight
 * columns, in units of 16 bytes; from bit 62 on 1, a swizzle of 128 bytes. The other distance, from
 * bit 16 on, isn't used where a step is narrower than the swizzle; 1 stands for that. */
DEVICE uint64_t wgmma_tile(const void *s) {
	return (shared_address(s) & 0x3ffff) >> 4 | (uint64_t)1 << 16 | (uint64_t)(1024 >> 4) << 32
		| (uint64_t)1 << 62;
}

DEVICE int wgmma_unit(int column, int unit) {
	return column * 128 + (unit ^ column % 8) * 16;
}

DEVICE float f32_of_bf16(uint16_t h) {
	return __uint_as_float((uint32_t)h << 16);
}

DEVICE float bf16_lo(uint32_t w) {
	return __uint_as_float(w << 16);
}

DEVICE float bf16_hi(uint32_t w) {
	return __uint_as_float(w & 0xffff0000u);
}

DEVICE float f16_lo(uint32_t w) {
	return f32_of_f16((uint16_t)w);
}

DEVICE float f16_hi(uint32_t w) {
	return f32_of_f16((uint16_t)(w >> 16));
}
