/* SPDX-License-Identifier: Apache-2.0
 *
 * Shared memory, async copies into it, and atomics. A block's arrays lie in its worker's arena with
 * gaps between them. An async copy is done at its wait, not before: who forgets it reads NaN. */
#include "state.hpp"

#include <stdlib.h>

namespace simt {

static constexpr size_t GAP_BYTES = 64;

void *dyn_shared(void) {
	return block->arena;
}

void *static_shared(const void *tag, size_t n_bytes, const char *name) {
	Block *b = block;
	for (const SharedArray &array : b->arrays) {
		if (array.tag == tag) {
			return b->arena + array.offset;
		}
	}
	const size_t offset = (b->used_bytes + GAP_BYTES + 127) / 128 * 128;
	size_t total = b->dyn_bytes + n_bytes;
	for (const SharedArray &array : b->arrays) {
		total += array.n_bytes;
	}
	if (offset + n_bytes > ARENA_BYTES || !smem_is_allowed(b->call->kernel, total)) {
		const Site site = Site{name, 0};
		report("shared-bounds", 0, &site, "%zu bytes of shared memory are too many", total);
		abandon_block();
	}
	b->used_bytes = offset + n_bytes;
	b->arrays.push_back({tag, offset, n_bytes, name});
	memset(b->arena + offset, 0xff, n_bytes);
	return b->arena + offset;
}

void cp_async(void *s, const void *g, int n_bytes, int n_from, Site site) {
	Thread *me = running();
	if ((((uintptr_t)s | (uintptr_t)g) & (uintptr_t)(n_bytes - 1)) != 0) {
		report("misaligned", 0, &site, "an async copy of %d bytes is not at a multiple of it",
			n_bytes);
	}
	me->copies.push_back({s, g, n_bytes, n_from, me->n_groups, site});
	if (checking) {
		check_copy_issued(me->copies.back(), (uintptr_t)__builtin_return_address(0));
	}
}

void cp_commit(void) {
	running()->n_groups++;
}

void cp_wait(int n, Site site) {
	(void)site;
	Thread *me = running();
	size_t left = 0;
	for (const AsyncCopy &copy : me->copies) {
		if (copy.group >= me->n_groups - n) {
			me->copies[left++] = copy;
			continue;
		}
		if (checking) {
			check_copy_arrived(copy);
		}
		memcpy(copy.s, copy.g, (size_t)copy.n_from);
		memset(static_cast<char *>(copy.s) + copy.n_from, 0, (size_t)(copy.n_bytes - copy.n_from));
	}
	me->copies.resize(left);
}

/* ---- atomics ---- */

static void check_atomic(const void *p, int n_bytes, uintptr_t pc, const Site &site) {
	check_access((uintptr_t)p, n_bytes, true, true, pc, &site);
}

static uint32_t applied(Atomic how, uint32_t old, uint32_t v) {
	switch (how) {
	case Atomic::add:
		return old + v;
	case Atomic::min_s32:
		return (int32_t)v < (int32_t)old ? v : old;
	case Atomic::max_s32:
		return (int32_t)v > (int32_t)old ? v : old;
	case Atomic::min_u32:
		return v < old ? v : old;
	case Atomic::max_u32:
		return v > old ? v : old;
	case Atomic::bit_or:
		return old | v;
	case Atomic::bit_and:
		return old & v;
	case Atomic::exchange:
		return v;
	}
	return old;
}

uint32_t atomic_word(Atomic how, uint32_t *p, uint32_t v, Site site) {
	if (checking) {
		check_atomic(p, 4, (uintptr_t)__builtin_return_address(0), site);
	}
	uint32_t old = __atomic_load_n(p, __ATOMIC_RELAXED);
	while (!__atomic_compare_exchange_n(
		p, &old, applied(how, old, v), true, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
	}
	return old;
}

uint64_t atomic_add64(uint64_t *p, uint64_t v, Site site) {
	if (checking) {
		check_atomic(p, 8, (uintptr_t)__builtin_return_address(0), site);
	}
	return __atomic_fetch_add(p, v, __ATOMIC_RELAXED);
}

uint32_t atomic_cas(uint32_t *p, uint32_t expected, uint32_t v, Site site) {
	if (checking) {
		check_atomic(p, 4, (uintptr_t)__builtin_return_address(0), site);
	}
	__atomic_compare_exchange_n(p, &expected, v, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
	return expected;
}

uint64_t atomic_cas64(uint64_t *p, uint64_t expected, uint64_t v, Site site) {
	if (checking) {
		check_atomic(p, 8, (uintptr_t)__builtin_return_address(0), site);
	}
	__atomic_compare_exchange_n(p, &expected, v, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
	return expected;
}

bool arrives_last(uint32_t *count, uint32_t n, Site site) {
	barrier(site);
	if (running()->index == 0) {
		if (checking) {
			check_atomic(count, 4, (uintptr_t)__builtin_return_address(0), site);
		}
		uint32_t old = __atomic_load_n(count, __ATOMIC_RELAXED);
		while (!__atomic_compare_exchange_n(count, &old, old + 1 == n ? 0 : old + 1, true,
			__ATOMIC_ACQ_REL, __ATOMIC_RELAXED)) {
		}
		block->is_last = old + 1 == n;
		if (checking) {
			check_arrival(count, block->is_last);
		}
	}
	barrier(site);
	return block->is_last;
}

/* ---- 16-bit floats on a CPU without F16C ---- */

float f32_of_f16_slow(uint16_t h) {
	const uint32_t sign = (uint32_t)(h & 0x8000) << 16, exponent = h >> 10 & 31, m = h & 1023;
	if (exponent == 31) {
		return __uint_as_float(sign | 0x7f800000u | m << 13 | (m != 0 ? 0x400000u : 0));
	}
	if (exponent == 0) {
		return __builtin_copysignf((float)m * 0x1p-24f, sign != 0 ? -1.0f : 1.0f);
	}
	return __uint_as_float(sign | (exponent + 112) << 23 | m << 13);
}

uint16_t f16_of_slow(float f) {
	const uint32_t u = __float_as_uint(f), sign = u >> 16 & 0x8000, size = u & 0x7fffffffu;
	if (f != f) {
		return 0x7fff;
	}
	if (size >= 0x477ff000u) { /* 65520, halfway to 2^16 */
		return (uint16_t)(sign | 0x7c00);
	}
	if (size < 0x38800000u) {
		/* below 2^-14 the unit is 2^-24, which is the unit of numbers near 0.5 */
		const uint32_t sum = __float_as_uint(__uint_as_float(size) + 0.5f);
		return (uint16_t)(sign | (sum - 0x3f000000u));
	}
	return (uint16_t)(sign | ((size - 0x38000000u + 0xfff + (size >> 13 & 1)) >> 13));
}

} // namespace simt
