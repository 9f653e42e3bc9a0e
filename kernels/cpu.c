/* SPDX-License-Identifier: Apache-2.0
 *
 * What this CPU can do, what it is called, how many there are, and how fast they read memory.
 * The only file that asks the hardware; which variant runs is decided in kernels.c from the
 * flags alone. */
#include "kernels.h"

#include <cpuid.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

const struct bb_isa bb_isas[] = {
#define X(name, flags) { #name, flags },
	BB_ISAS(X)
#undef X
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

/* Not what is installed: a container or taskset may leave less, and threads beyond it would wait
 * for each other at every kernel. */
int cpu_count(void) {
	cpu_set_t allowed;
	if (sched_getaffinity(0, sizeof(allowed), &allowed) == 0) {
		return CPU_COUNT(&allowed);
	}
	const long n_online = sysconf(_SC_NPROCESSORS_ONLN); /* more CPUs than a cpu_set_t holds */
	return n_online > 0 ? (int)n_online : 1;
}

/* ---- read bandwidth ---- */

enum { PIECE = 1 << 20 }; /* bytes of a unit of work */

struct read_job {
	uint8_t *memory; /* [n pieces, PIECE] */
	uint64_t *sums;  /* [n pieces], so that the reads have a use */
};

static void touch_pieces(const void *arg, int begin, int end) {
	const struct read_job *job = arg;
	memset(job->memory + (size_t)begin * PIECE, 1, (size_t)(end - begin) * PIECE);
}

static void read_pieces(const void *arg, int begin, int end) {
	const struct read_job *job = arg;
	for (int i = begin; i < end; i++) {
		const uint64_t *words = (const uint64_t *)(const void *)(job->memory + (size_t)i * PIECE);
		uint64_t sums[8] = { 0 };
		for (size_t j = 0; j < PIECE / sizeof(*words); j += 8) {
			for (size_t lane = 0; lane < 8; lane++) {
				sums[lane] += words[j + lane];
			}
		}
		uint64_t sum = 0;
		for (size_t lane = 0; lane < 8; lane++) {
			sum += sums[lane];
		}
		job->sums[i] = sum;
	}
}

static double seconds(void) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

double cpu_read_bandwidth(bb_queue *q, size_t bytes) {
	const int n_pieces = (int)(bytes / PIECE);
	const size_t map_bytes = (size_t)n_pieces * (PIECE + sizeof(uint64_t));
	uint8_t *map = mmap(NULL, map_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
		0);
	if (map == MAP_FAILED || n_pieces == 0) {
		return 0;
	}
	madvise(map, map_bytes, MADV_HUGEPAGE);
	const struct read_job job = { map, (uint64_t *)(void *)(map + (size_t)n_pieces * PIECE) };
	queue_run(q, touch_pieces, &job, n_pieces, 4);
	double best = 0;
	for (int i = 0; i < 8; i++) {
		const double start = seconds();
		queue_run(q, read_pieces, &job, n_pieces, 2);
		const double rate = (double)n_pieces * PIECE / (seconds() - start);
		best = rate > best ? rate : best;
	}
	munmap(map, map_bytes);
	return best;
}
