/* SPDX-License-Identifier: Apache-2.0
 *
 * Device words under the host compiler: what CUDA has as language (threadIdx, shuffles, barriers)
 * is a call of the emulator here, with the place in the source where it stands. The meaning of the
 * words is in cuda/device.cuh, which includes this file; nothing else should. */
#pragma once

#include "runtime.h"

#include <math.h>
#include <string.h>
#include <tuple>
#include <utility>

#if defined(__SANITIZE_THREAD__)
#define SIMT_CHECK 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define SIMT_CHECK 1
#endif
#endif
#ifndef SIMT_CHECK
#define SIMT_CHECK 0
#endif

#define SIMT_INLINE inline __attribute__((always_inline))
/* Not instrumented: what it touches is the emulator's, or is reported as one access by hand. */
#define SIMT_QUIET __attribute__((noinline, no_sanitize("thread")))

#define __global__ __attribute__((noinline))
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define DEVICE_ARCH 0
#define __align__(n) alignas(n)
#define __constant__ static
static constexpr int warpSize = 32;

struct uint3 {
	unsigned x, y, z;
};

#define SIMT_VECTOR(name, T, align2, align4)                                                       \
	struct alignas(align2) name##2 {                                                               \
		T x, y;                                                                                    \
	};                                                                                             \
	struct alignas(align4) name##4 {                                                               \
		T x, y, z, w;                                                                              \
	};                                                                                             \
	static SIMT_INLINE name##2 make_##name##2(T x, T y) {                                          \
		return name##2{x, y};                                                                      \
	}                                                                                              \
	static SIMT_INLINE name##4 make_##name##4(T x, T y, T z, T w) {                                \
		return name##4{x, y, z, w};                                                                \
	}
SIMT_VECTOR(float, float, 8, 16)
SIMT_VECTOR(int, int, 8, 16)
SIMT_VECTOR(uint, unsigned, 8, 16)
#undef SIMT_VECTOR

namespace simt {

/* Where a word stands in the source. As a default argument it is the caller's place. */
struct Site {
	const char *file;
	int line;
	static constexpr Site here(
		const char *file = __builtin_FILE(), int line = __builtin_LINE()) {
		return Site{file, line};
	}
};

/* What a thread can ask about itself: the head of the emulator's own record. */
struct Place {
	uint3 tid, bid;
	dim3 bdim, gdim;
	unsigned lane;
};

extern __thread Place *self; /* the running thread; NULL in host code */

/* ---- launches ---- */
struct Shape {
	dim3 grid, block;
	size_t smem;
	cudaStream_t stream;
	Site early = {nullptr, 0}; /* of LAUNCH_EARLY */
};
/* A kernel with its arguments, copied at the launch as CUDA does. */
struct Call {
	const char *name;
	const void *kernel; /* what ALLOW_SMEM named */
	void (*run)(const void *args);
	void *(*copy)(const void *args);
	void (*destroy)(void *args);
	const void *args;
	size_t args_bytes;
	bool is_captured = false; /* it is a node of a graph */
};
void launch(const Call &call, const Shape &shape);
void awaited(void); /* the checker's: the thread has waited for the launches before */

template <class... P> struct Bound {
	void (*kernel)(P...);
	std::tuple<P...> args;

	template <size_t... i>
	SIMT_INLINE void call(std::index_sequence<i...>) const {
		kernel(std::get<i>(args)...);
	}
	static void run(const void *bound) {
		static_cast<const Bound *>(bound)->call(std::index_sequence_for<P...>());
	}
	static void *copy(const void *bound) {
		return new Bound(*static_cast<const Bound *>(bound));
	}
	static void destroy(void *bound) {
		delete static_cast<Bound *>(bound);
	}
};

template <class... P, class... A>
void launch(const char *name, void (*kernel)(P...), const Shape &shape, A &&...args) {
	static_assert(sizeof...(P) == sizeof...(A), "a kernel's arguments");
	const Bound<P...> bound = {kernel, std::tuple<P...>(static_cast<P>(args)...)};
	launch({name, reinterpret_cast<const void *>(kernel), Bound<P...>::run, Bound<P...>::copy,
			   Bound<P...>::destroy, &bound, sizeof(bound)},
		shape);
}

/* ---- memory ---- */
void *dyn_shared(void);
void *static_shared(const void *tag, size_t n_bytes, const char *name);
void note(const void *p, int n_bytes, bool is_write, const void *pc);
void note_nc(const void *p, int n_bytes, const void *pc); /* a read that may be moved ahead */
void cp_async(void *s, const void *g, int n_bytes, int n_from, Site site);
void cp_commit(void);
void cp_wait(int n, Site site);

/* ---- barriers, warps ---- */
void barrier(Site site);
bool arrives_last(uint32_t *count, uint32_t n, Site site);
void sync_warp(uint32_t mask, Site site);
/* n_words of in go to out of the lanes that name this one as their source. */
void shuffle(uint32_t mask, const void *in, void *out, int n_words, int source, Site site);
uint32_t ballot(uint32_t mask, bool value, Site site);
enum class Reduce { add, min_s32, max_s32, min_u32, max_u32, bit_and, bit_or, bit_xor };
uint32_t reduce(uint32_t mask, uint32_t value, Reduce how, Site site);
void ldmatrix(uint32_t *r, const void *s, int n, bool is_transposed, Site site);
enum class Mma { f16, bf16, s8 };
void mma(Mma type, void *d, const uint32_t *a, const uint32_t *b, Site site);
constexpr int WGMMA_SUMS = 64; /* of a lane */
uint32_t shared_address(const void *s);
void proxy_fence(void);
void wgmma_begin(void);
void wgmma(Mma type, float *d, const uint32_t *a, uint64_t b, Site site);
void wgmma_commit(void);
void wgmma_wait(int n, Site site);
/* A lane's part of what tensor cores and dp4a did; a multiplication and an addition are two. Called
 * in the checker build alone. */
enum class Unit { mma, dp4a };
void operations(Unit unit, int n);

/* ---- atomics ---- */
enum class Atomic { add, min_s32, max_s32, min_u32, max_u32, bit_or, bit_and, exchange };
uint32_t atomic_word(Atomic how, uint32_t *p, uint32_t v, Site site);
uint64_t atomic_add64(uint64_t *p, uint64_t v, Site site);
uint32_t atomic_cas(uint32_t *p, uint32_t expected, uint32_t v, Site site);
uint64_t atomic_cas64(uint64_t *p, uint64_t expected, uint64_t v, Site site);

/* ---- numbers ---- */
uint16_t f16_of_slow(float f);
float f32_of_f16_slow(uint16_t h);

#if SIMT_CHECK
/* Out of line, so that reads of the emulator's records aren't reported as the kernel's. */
SIMT_QUIET static inline const Place *me(void) {
	return self;
}
SIMT_QUIET static inline uint3 tid(void) {
	return self->tid;
}
SIMT_QUIET static inline uint3 bid(void) {
	return self->bid;
}
SIMT_QUIET static inline dim3 bdim(void) {
	return self->bdim;
}
SIMT_QUIET static inline dim3 gdim(void) {
	return self->gdim;
}
SIMT_QUIET static inline unsigned lane(void) {
	return self->lane;
}
#else
static SIMT_INLINE const uint3 &tid(void) {
	return self->tid;
}
static SIMT_INLINE const uint3 &bid(void) {
	return self->bid;
}
static SIMT_INLINE const dim3 &bdim(void) {
	return self->bdim;
}
static SIMT_INLINE const dim3 &gdim(void) {
	return self->gdim;
}
static SIMT_INLINE unsigned lane(void) {
	return self->lane;
}
#endif

template <class T> SIMT_INLINE T shuffled(uint32_t mask, T v, int source, Site site) {
	static_assert(sizeof(T) == 4 || sizeof(T) == 8, "shuffles move 4 or 8 bytes");
	T out;
	shuffle(mask, &v, &out, sizeof(T) / 4, source, site);
	return out;
}

} // namespace simt

#define threadIdx (simt::tid())
#define blockIdx (simt::bid())
#define blockDim (simt::bdim())
#define gridDim (simt::gdim())

#define LAUNCH(kernel, grid, block, smem, stream, ...)                                             \
	simt::launch(                                                                                  \
		#kernel, kernel, simt::Shape{(grid), (block), (size_t)(smem), (stream)}, __VA_ARGS__)
#define LAUNCH_EARLY(kernel, grid, block, smem, stream, ...)                                       \
	simt::launch(#kernel, kernel,                                                                  \
		simt::Shape{(grid), (block), (size_t)(smem), (stream), simt::Site::here()}, __VA_ARGS__)
static inline void await_launches(void) {
#if SIMT_CHECK
	simt::awaited();
#endif
}
#define ALLOW_SMEM(kernel, bytes)                                                                  \
	cudaFuncSetAttribute((const void *)(kernel), cudaFuncAttributeMaxDynamicSharedMemorySize,      \
		(int)(bytes))
#define SHARED(T, name, ...)                                                                       \
	static const char simt_tag_##name = 0;                                                         \
	typedef T simt_type_##name __VA_ARGS__;                                                        \
	simt_type_##name &name = *static_cast<simt_type_##name *>(                                     \
		simt::static_shared(&simt_tag_##name, sizeof(simt_type_##name), #name))
#define DYN_SHARED(T, name) T *const name = static_cast<T *>(simt::dyn_shared())
#define DYN_SHARED_TILES(T, name) DYN_SHARED(T, name)

/* ---- memory ---- */

#if SIMT_CHECK
/* ld_nc doesn't call ld_vec: a finding is named by the return address, which would then be here. */
template <class T> SIMT_QUIET T ld_vec(const T *p) {
	static_assert(sizeof(T) == 4 || sizeof(T) == 8 || sizeof(T) == 16, "one access");
	simt::note(p, sizeof(T), false, __builtin_return_address(0));
	T v;
	memcpy(&v, p, sizeof(T));
	return v;
}
template <class T> SIMT_QUIET T ld_nc(const T *p) {
	static_assert(sizeof(T) == 4 || sizeof(T) == 8 || sizeof(T) == 16, "one access");
	simt::note_nc(p, sizeof(T), __builtin_return_address(0));
	T v;
	memcpy(&v, p, sizeof(T));
	return v;
}
template <class T> SIMT_QUIET void st_vec(T *p, T v) {
	static_assert(sizeof(T) == 4 || sizeof(T) == 8 || sizeof(T) == 16, "one access");
	simt::note(p, sizeof(T), true, __builtin_return_address(0));
	memcpy(p, &v, sizeof(T));
}
#else
template <class T> SIMT_INLINE T ld_vec(const T *p) {
	static_assert(sizeof(T) == 4 || sizeof(T) == 8 || sizeof(T) == 16, "one access");
	return *p;
}
template <class T> SIMT_INLINE T ld_nc(const T *p) {
	static_assert(sizeof(T) == 4 || sizeof(T) == 8 || sizeof(T) == 16, "one access");
	return *p;
}
template <class T> SIMT_INLINE void st_vec(T *p, T v) {
	static_assert(sizeof(T) == 4 || sizeof(T) == 8 || sizeof(T) == 16, "one access");
	*p = v;
}
#endif

static SIMT_INLINE void cp_async16(
	void *s, const void *g, simt::Site site = simt::Site::here()) {
	simt::cp_async(s, g, 16, 16, site);
}
static SIMT_INLINE void cp_async16_zfill(
	void *s, const void *g, int n_bytes, simt::Site site = simt::Site::here()) {
	simt::cp_async(s, g, 16, n_bytes, site);
}
static SIMT_INLINE void cp_async4(void *s, const void *g, simt::Site site = simt::Site::here()) {
	simt::cp_async(s, g, 4, 4, site);
}
static SIMT_INLINE void cp_async_commit(void) {
	simt::cp_commit();
}
template <int n> SIMT_INLINE void cp_async_wait(simt::Site site = simt::Site::here()) {
	simt::cp_wait(n, site);
}

/* ---- registers ---- */

template <class T> SIMT_INLINE T afresh(T x) {
	return x;
}

/* ---- barriers, warps ---- */

static SIMT_INLINE void __syncthreads(simt::Site site = simt::Site::here()) {
	simt::barrier(site);
}
static SIMT_INLINE bool arrives_last(
	unsigned *count, unsigned n, simt::Site site = simt::Site::here()) {
	return simt::arrives_last(count, n, site);
}
static SIMT_INLINE void __syncwarp(
	unsigned mask = 0xffffffffu, simt::Site site = simt::Site::here()) {
	simt::sync_warp(mask, site);
}
template <class T>
SIMT_INLINE T __shfl_sync(unsigned mask, T v, int source, int width = 32,
	simt::Site site = simt::Site::here()) {
	const int lane = (int)simt::lane();
	return simt::shuffled(mask, v, (lane & -width) | (source & (width - 1)), site);
}
template <class T>
SIMT_INLINE T __shfl_xor_sync(unsigned mask, T v, int bits, int width = 32,
	simt::Site site = simt::Site::here()) {
	const int lane = (int)simt::lane(), source = lane ^ bits;
	/* A source beyond the segment gives the own value, one before it is allowed. */
	return simt::shuffled(mask, v, source > (lane | (width - 1)) ? lane : source, site);
}
template <class T>
SIMT_INLINE T __shfl_up_sync(unsigned mask, T v, unsigned delta, int width = 32,
	simt::Site site = simt::Site::here()) {
	const int lane = (int)simt::lane(), source = lane - (int)delta;
	return simt::shuffled(mask, v, source < (lane & -width) ? lane : source, site);
}
template <class T>
SIMT_INLINE T __shfl_down_sync(unsigned mask, T v, unsigned delta, int width = 32,
	simt::Site site = simt::Site::here()) {
	const int lane = (int)simt::lane(), source = lane + (int)delta;
	return simt::shuffled(mask, v, source > (lane | (width - 1)) ? lane : source, site);
}
static SIMT_INLINE unsigned __ballot_sync(
	unsigned mask, int value, simt::Site site = simt::Site::here()) {
	return simt::ballot(mask, value != 0, site);
}
static SIMT_INLINE int __any_sync(
	unsigned mask, int value, simt::Site site = simt::Site::here()) {
	return simt::ballot(mask, value != 0, site) != 0;
}
static SIMT_INLINE int __all_sync(
	unsigned mask, int value, simt::Site site = simt::Site::here()) {
	return simt::ballot(mask, value == 0, site) == 0;
}

#define SIMT_REDUCE(name, T, how)                                                                  \
	static SIMT_INLINE T name(unsigned mask, T v, simt::Site site = simt::Site::here()) {          \
		return (T)simt::reduce(mask, (uint32_t)v, simt::Reduce::how, site);                        \
	}
SIMT_REDUCE(__reduce_add_sync, int, add)
SIMT_REDUCE(__reduce_add_sync, unsigned, add)
SIMT_REDUCE(__reduce_min_sync, int, min_s32)
SIMT_REDUCE(__reduce_min_sync, unsigned, min_u32)
SIMT_REDUCE(__reduce_max_sync, int, max_s32)
SIMT_REDUCE(__reduce_max_sync, unsigned, max_u32)
SIMT_REDUCE(__reduce_and_sync, unsigned, bit_and)
SIMT_REDUCE(__reduce_or_sync, unsigned, bit_or)
SIMT_REDUCE(__reduce_xor_sync, unsigned, bit_xor)
#undef SIMT_REDUCE

/* ---- tensor cores ---- */

static SIMT_INLINE void simt_count(simt::Unit unit, int n) {
	if (SIMT_CHECK) {
		simt::operations(unit, n);
	}
}

#define SIMT_LDMATRIX(n)                                                                           \
	static SIMT_INLINE void ldmatrix_x##n(                                                         \
		uint32_t r[n], const void *s, simt::Site site = simt::Site::here()) {                      \
		simt::ldmatrix(r, s, n, false, site);                                                      \
	}
SIMT_LDMATRIX(1)
SIMT_LDMATRIX(2)
SIMT_LDMATRIX(4)
#undef SIMT_LDMATRIX
static SIMT_INLINE void ldmatrix_x4_trans(
	uint32_t r[4], const void *s, simt::Site site = simt::Site::here()) {
	simt::ldmatrix(r, s, 4, true, site);
}

#define SIMT_MMA(type)                                                                             \
	static SIMT_INLINE void mma_##type(float d[4], const uint32_t a[4], const uint32_t b[2],       \
		simt::Site site = simt::Site::here()) {                                                    \
		simt_count(simt::Unit::mma, 2 * 16 * 8 * 16 / 32);                                         \
		simt::mma(simt::Mma::type, d, a, b, site);                                                 \
	}
SIMT_MMA(f16)
SIMT_MMA(bf16)
#undef SIMT_MMA

static SIMT_INLINE void mma_s8_from(int32_t d[4], int32_t c, const uint32_t a[4],
	const uint32_t b[2], simt::Site site = simt::Site::here()) {
	d[0] = d[1] = d[2] = d[3] = c;
	simt_count(simt::Unit::mma, 2 * 16 * 8 * 32 / 32);
	simt::mma(simt::Mma::s8, d, a, b, site);
}
static SIMT_INLINE void mma_s8_half_from(int32_t d[4], int32_t c, const uint32_t a[2], uint32_t b,
	simt::Site site = simt::Site::here()) {
	const uint32_t half_a[4] = {a[0], a[1], 0, 0}, half_b[2] = {b, 0};
	d[0] = d[1] = d[2] = d[3] = c;
	simt_count(simt::Unit::mma, 2 * 16 * 8 * 16 / 32);
	simt::mma(simt::Mma::s8, d, half_a, half_b, site);
}

static SIMT_INLINE uint32_t shared_address(const void *s) {
	return simt::shared_address(s);
}
static SIMT_INLINE void async_proxy_fence(void) {
	simt::proxy_fence();
}
static SIMT_INLINE void wgmma_begin(void) {
	simt::wgmma_begin();
}
static SIMT_INLINE void wgmma_fence_sums(float *) {
}
static SIMT_INLINE void wgmma_f16(
	float d[64], const uint32_t a[4], uint64_t b, simt::Site site = simt::Site::here()) {
	simt_count(simt::Unit::mma, 2 * 16 * simt::WGMMA_SUMS);
	simt::wgmma(simt::Mma::f16, d, a, b, site);
}
static SIMT_INLINE void wgmma_bf16(
	float d[64], const uint32_t a[4], uint64_t b, simt::Site site = simt::Site::here()) {
	simt_count(simt::Unit::mma, 2 * 16 * simt::WGMMA_SUMS);
	simt::wgmma(simt::Mma::bf16, d, a, b, site);
}
static SIMT_INLINE void wgmma_commit(void) {
	simt::wgmma_commit();
}
template <int n> SIMT_INLINE void wgmma_wait(simt::Site site = simt::Site::here()) {
	simt::wgmma_wait(n, site);
}

static SIMT_INLINE int32_t dp4a_s8(uint32_t a, uint32_t b, int32_t c) {
	uint32_t sum = (uint32_t)c;
	simt_count(simt::Unit::dp4a, 2 * 4);
	for (int i = 0; i < 32; i += 8) {
		sum += (uint32_t)((int8_t)(a >> i) * (int8_t)(b >> i));
	}
	return (int32_t)sum;
}

/* ---- atomics ---- */

#define SIMT_ATOMIC(name, T, how)                                                                  \
	static SIMT_INLINE T name(T *p, T v, simt::Site site = simt::Site::here()) {                   \
		return (T)simt::atomic_word(                                                               \
			simt::Atomic::how, reinterpret_cast<uint32_t *>(p), (uint32_t)v, site);                \
	}
SIMT_ATOMIC(atomicAdd, int, add)
SIMT_ATOMIC(atomicAdd, unsigned, add)
SIMT_ATOMIC(atomicMin, int, min_s32)
SIMT_ATOMIC(atomicMin, unsigned, min_u32)
SIMT_ATOMIC(atomicMax, int, max_s32)
SIMT_ATOMIC(atomicMax, unsigned, max_u32)
SIMT_ATOMIC(atomicOr, int, bit_or)
SIMT_ATOMIC(atomicOr, unsigned, bit_or)
SIMT_ATOMIC(atomicAnd, int, bit_and)
SIMT_ATOMIC(atomicAnd, unsigned, bit_and)
SIMT_ATOMIC(atomicExch, int, exchange)
SIMT_ATOMIC(atomicExch, unsigned, exchange)
#undef SIMT_ATOMIC
static SIMT_INLINE unsigned long long atomicAdd(
	unsigned long long *p, unsigned long long v, simt::Site site = simt::Site::here()) {
	return simt::atomic_add64(reinterpret_cast<uint64_t *>(p), v, site);
}
static SIMT_INLINE int atomicCAS(
	int *p, int expected, int v, simt::Site site = simt::Site::here()) {
	return (int)simt::atomic_cas(
		reinterpret_cast<uint32_t *>(p), (uint32_t)expected, (uint32_t)v, site);
}
static SIMT_INLINE unsigned atomicCAS(
	unsigned *p, unsigned expected, unsigned v, simt::Site site = simt::Site::here()) {
	return simt::atomic_cas(p, expected, v, site);
}
static SIMT_INLINE unsigned long long atomicCAS(unsigned long long *p, unsigned long long expected,
	unsigned long long v, simt::Site site = simt::Site::here()) {
	return simt::atomic_cas64(reinterpret_cast<uint64_t *>(p), expected, v, site);
}

/* ---- numbers ---- */

static SIMT_INLINE uint32_t __float_as_uint(float f) {
	uint32_t u;
	memcpy(&u, &f, sizeof(u));
	return u;
}
static SIMT_INLINE float __uint_as_float(uint32_t u) {
	float f;
	memcpy(&f, &u, sizeof(f));
	return f;
}
static SIMT_INLINE int __float_as_int(float f) {
	return (int)__float_as_uint(f);
}
static SIMT_INLINE float __int_as_float(int i) {
	return __uint_as_float((uint32_t)i);
}
static SIMT_INLINE int __popc(unsigned x) {
	return __builtin_popcount(x);
}
static SIMT_INLINE int __popcll(unsigned long long x) {
	return __builtin_popcountll(x);
}
static SIMT_INLINE int __ffs(int x) {
	return __builtin_ffs(x);
}
static SIMT_INLINE int __clz(int x) {
	return x == 0 ? 32 : __builtin_clz((unsigned)x);
}
static SIMT_INLINE int __clzll(long long x) {
	return x == 0 ? 64 : __builtin_clzll((unsigned long long)x);
}
static SIMT_INLINE unsigned __umulhi(unsigned a, unsigned b) {
	return (unsigned)((uint64_t)a * b >> 32);
}
/* Nibble i of the selector picks byte i of the result out of the eight of y:x; bit 3 spreads the
 * sign instead. */
static SIMT_INLINE unsigned __byte_perm(unsigned x, unsigned y, unsigned selector) {
	const uint64_t bytes = (uint64_t)y << 32 | x;
	unsigned out = 0;
	for (int i = 0; i < 4; i++) {
		const unsigned pick = selector >> 4 * i;
		unsigned byte = (unsigned)(bytes >> 8 * (pick & 7)) & 255;
		if ((pick & 8) != 0) {
			byte = (byte & 128) != 0 ? 255 : 0;
		}
		out |= byte << 8 * i;
	}
	return out;
}
/* To nearest even; out of range it saturates and a NaN is 0, as on the device. */
static SIMT_INLINE int __float2int_rn(float f) {
	if (!(f > -2147483648.0f)) {
		return f != f ? 0 : INT32_MIN;
	}
	return f >= 2147483648.0f ? INT32_MAX : (int)__builtin_rintf(f);
}

#ifdef __F16C__
typedef float simt_f32x4 __attribute__((vector_size(16)));
typedef short simt_i16x8 __attribute__((vector_size(16)));
static SIMT_INLINE float f32_of_f16(uint16_t h) {
	const simt_i16x8 v = {(short)h};
	const simt_f32x4 f = __builtin_ia32_vcvtph2ps(v);
	return f[0];
}
static SIMT_INLINE uint16_t f16_of(float f) {
	const simt_f32x4 v = {f};
	const simt_i16x8 h = (simt_i16x8)__builtin_ia32_vcvtps2ph(v, 0);
	return f != f ? 0x7fff : (uint16_t)h[0];
}
#else
static SIMT_INLINE float f32_of_f16(uint16_t h) {
	return simt::f32_of_f16_slow(h);
}
static SIMT_INLINE uint16_t f16_of(float f) {
	return simt::f16_of_slow(f);
}
#endif
static SIMT_INLINE uint16_t bf16_of(float f) {
	const uint32_t u = __float_as_uint(f);
	return f != f ? 0x7fff : (uint16_t)((u + 0x7fffu + (u >> 16 & 1)) >> 16);
}
static SIMT_INLINE uint32_t f16x2_of(float lo, float hi) {
	return f16_of(lo) | (uint32_t)f16_of(hi) << 16;
}
static SIMT_INLINE uint32_t bf16x2_of(float lo, float hi) {
	return bf16_of(lo) | (uint32_t)bf16_of(hi) << 16;
}

/* Subnormals count as zero, in and out; the last bits differ from the device's. */
static SIMT_INLINE float simt_flush(float x) {
	return __builtin_fabsf(x) < 0x1p-126f ? __builtin_copysignf(0.0f, x) : x;
}
static SIMT_INLINE float exp2_approx(float x) {
	return simt_flush(exp2f(x));
}
static SIMT_INLINE float rcp_approx(float x) {
	return simt_flush(1.0f / simt_flush(x));
}
static SIMT_INLINE float rsqrtf(float x) {
	return 1.0f / sqrtf(x);
}

#define SIMT_MINMAX(T)                                                                             \
	static SIMT_INLINE T min(T a, T b) {                                                           \
		return b < a ? b : a;                                                                      \
	}                                                                                              \
	static SIMT_INLINE T max(T a, T b) {                                                           \
		return a < b ? b : a;                                                                      \
	}
SIMT_MINMAX(int)
SIMT_MINMAX(unsigned)
SIMT_MINMAX(long)
SIMT_MINMAX(unsigned long)
SIMT_MINMAX(long long)
SIMT_MINMAX(unsigned long long)
#undef SIMT_MINMAX
static SIMT_INLINE float min(float a, float b) {
	return fminf(a, b);
}
static SIMT_INLINE float max(float a, float b) {
	return fmaxf(a, b);
}
