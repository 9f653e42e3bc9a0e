/* SPDX-License-Identifier: Apache-2.0
 *
 * What this CPU can do, what it is called, and how fast it reads memory. The only file that asks the
 * hardware; which variant runs is decided in kernels.c from the flags alone. */
#include "kernels.h"

#include <cpuid.h>
#include <stdio.h>
#include <string.h>

const struct bb_isa bb_isas[] = {
	{ "c", 0 },
	{ "avx2", BB_AVX2 },
	{ "avx_vnni", BB_AVX2 | BB_AVX_VNNI },
	{ "avx512", BB_AVX2 | BB_AVX512 },
	{ "avx512_vnni", BB_AVX2 | BB_AVX512 | BB_AVX512_VNNI },
	{ "avx512_bf16", BB_AVX2 | BB_AVX512 | BB_AVX512_VNNI | BB_AVX512_BF16 },
	{ 0 },
};

/* XCR0: which register files the operating system saves. */
static unsigned saved_registers(void) {
	unsigned eax, edx;
	__asm__ volatile("xgetbv" : "=a"(eax), "=d"(edx) : "c"(0));
	return eax;
}

unsigned cpu_flags(void) {
	unsigned a, b, c, d;
	if (!__get_cpuid(1, &a, &b, &c, &d)) {
		return 0;
	}
	const unsigned need1 = bit_OSXSAVE | bit_AVX | bit_FMA | bit_F16C;
	if ((c & need1) != need1) {
		return 0;
	}
	const unsigned saved = saved_registers();
	const unsigned ymm = 0x6, zmm = 0xe6; /* SSE, AVX; and opmask, ZMM low and high */
	unsigned b7, c7;
	if ((saved & ymm) != ymm || !__get_cpuid_count(7, 0, &a, &b7, &c7, &d) ||
		(b7 & bit_AVX2) == 0) {
		return 0;
	}
	unsigned a71 = 0;
	if (a >= 1) {
		__get_cpuid_count(7, 1, &a71, &b, &c, &d);
	}
	unsigned flags = BB_AVX2;
	if (a71 & 1u << 4) {
		flags |= BB_AVX_VNNI;
	}
	const unsigned need512 = bit_AVX512F | bit_AVX512BW | bit_AVX512DQ | bit_AVX512VL;
	if ((b7 & need512) != need512 || (saved & zmm) != zmm) {
		return flags;
	}
	flags |= BB_AVX512;
	if (c7 & bit_AVX512VNNI) {
		flags |= BB_AVX512_VNNI;
	}
	if (a71 & 1u << 5) {
		flags |= BB_AVX512_BF16;
	}
	return flags;
}

const char *cpu_name(char *buf, size_t bytes) {
	unsigned words[13] = { 0 }; /* 48 characters and a NUL */
	const char *text = "unknown CPU";
	if (__get_cpuid_max(0x80000000u, NULL) >= 0x80000004u) {
		for (unsigned i = 0; i < 3; i++) {
			unsigned *w = words + 4 * i;
			__get_cpuid(0x80000002u + i, w, w + 1, w + 2, w + 3);
		}
		text = (const char *)words;
		text += strspn(text, " ");
	}
	snprintf(buf, bytes, "%s", text);
	for (size_t n = strlen(buf); n > 0 && buf[n - 1] == ' '; n--) {
		buf[n - 1] = '\0';
	}
	return buf;
}
