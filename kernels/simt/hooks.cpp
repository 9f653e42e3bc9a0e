/* SPDX-License-Identifier: Apache-2.0
 *
 * What -fsanitize=thread makes the compiler call before every load and store of a kernel file. The
 * sanitizer's own library is not linked: these hooks go to the checker instead. */
#include "state.hpp"

using namespace simt;

static inline void seen(const void *p, size_t n_bytes, bool is_write, void *pc) {
	if (self != nullptr) {
		check_access((uintptr_t)p, (int)n_bytes, is_write, false, (uintptr_t)pc);
	}
}

extern "C" {

#define HOOK __attribute__((visibility("default"), used)) void

HOOK __tsan_init(void) {
	checking = true;
}
HOOK __tsan_func_entry(void *) {
}
HOOK __tsan_func_exit(void) {
}
HOOK __tsan_vptr_update(void **, void *) {
}
HOOK __tsan_vptr_read(void **) {
}

#define ACCESS_HOOKS(n)                                                                            \
	HOOK __tsan_read##n(void *p) {                                                                 \
		seen(p, n, false, __builtin_return_address(0));                                            \
	}                                                                                              \
	HOOK __tsan_write##n(void *p) {                                                                \
		seen(p, n, true, __builtin_return_address(0));                                             \
	}                                                                                              \
	HOOK __tsan_unaligned_read##n(void *p) {                                                       \
		seen(p, n, false, __builtin_return_address(0));                                            \
	}                                                                                              \
	HOOK __tsan_unaligned_write##n(void *p) {                                                      \
		seen(p, n, true, __builtin_return_address(0));                                             \
	}                                                                                              \
	HOOK __tsan_volatile_read##n(void *p) {                                                        \
		seen(p, n, false, __builtin_return_address(0));                                            \
	}                                                                                              \
	HOOK __tsan_volatile_write##n(void *p) {                                                       \
		seen(p, n, true, __builtin_return_address(0));                                             \
	}                                                                                              \
	/* clang's call for x += y; the read comes first, and a race with it is one with the write */  \
	HOOK __tsan_read_write##n(void *p) {                                                           \
		seen(p, n, false, __builtin_return_address(0));                                            \
		seen(p, n, true, __builtin_return_address(0));                                             \
	}                                                                                              \
	HOOK __tsan_unaligned_read_write##n(void *p) {                                                 \
		seen(p, n, false, __builtin_return_address(0));                                            \
		seen(p, n, true, __builtin_return_address(0));                                             \
	}
ACCESS_HOOKS(1)
ACCESS_HOOKS(2)
ACCESS_HOOKS(4)
ACCESS_HOOKS(8)
ACCESS_HOOKS(16)

HOOK __tsan_read_range(void *p, size_t n_bytes) {
	seen(p, n_bytes, false, __builtin_return_address(0));
}
HOOK __tsan_write_range(void *p, size_t n_bytes) {
	seen(p, n_bytes, true, __builtin_return_address(0));
}

#define COPY_HOOK __attribute__((visibility("default"), used)) void *

COPY_HOOK __tsan_memcpy(void *to, const void *from, size_t n_bytes) {
	seen(from, n_bytes, false, __builtin_return_address(0));
	seen(to, n_bytes, true, __builtin_return_address(0));
	return memcpy(to, from, n_bytes);
}
COPY_HOOK __tsan_memmove(void *to, const void *from, size_t n_bytes) {
	seen(from, n_bytes, false, __builtin_return_address(0));
	seen(to, n_bytes, true, __builtin_return_address(0));
	return memmove(to, from, n_bytes);
}
COPY_HOOK __tsan_memset(void *p, int value, size_t n_bytes) {
	seen(p, n_bytes, true, __builtin_return_address(0));
	return memset(p, value, n_bytes);
}
}
