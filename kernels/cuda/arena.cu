/* SPDX-License-Identifier: Apache-2.0
 *
 * The memory of a device: admitted by bytes, taken from the driver in large segments and handed out
 * first fit, so that a page more or less costs no call of the driver. Bookkeeping is in host
 * memory. */
#include "module.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const size_t UNIT = 256, SEGMENT = (size_t)64 << 20;

void arena_init(struct arena *a, size_t max_bytes) {
	memset(a, 0, sizeof(*a));
	a->max_bytes = max_bytes;
}

void arena_finish(struct arena *a) {
	for (int i = 0; i < a->n_blocks; i++) {
		if (a->blocks[i].is_first) {
			cudaFree(a->blocks[i].at);
		}
	}
	free(a->blocks);
	memset(a, 0, sizeof(*a));
}

/* Room for a block at index i; false without memory. */
static bool insert_block(struct arena *a, int i) {
	if (a->n_blocks == a->capacity) {
		const int capacity = a->capacity == 0 ? 64 : 2 * a->capacity;
		void *blocks = realloc(a->blocks, (size_t)capacity * sizeof(*a->blocks));
		if (blocks == NULL) {
			return false;
		}
		a->blocks = (struct arena_block *)blocks;
		a->capacity = capacity;
	}
	memmove(a->blocks + i + 1, a->blocks + i, (size_t)(a->n_blocks - i) * sizeof(*a->blocks));
	a->n_blocks++;
	return true;
}

static void remove_block(struct arena *a, int i) {
	a->n_blocks--;
	memmove(a->blocks + i, a->blocks + i + 1, (size_t)(a->n_blocks - i) * sizeof(*a->blocks));
}

/* Gives segments back in which nothing is used. */
static void drop_free_segments(struct arena *a) {
	for (int i = a->n_blocks - 1; i >= 0; i--) {
		const struct arena_block *b = &a->blocks[i];
		const bool is_last = i + 1 == a->n_blocks || a->blocks[i + 1].is_first;
		if (b->is_first && is_last && !b->is_used) {
			cudaFree(b->at);
			a->segment_bytes -= b->bytes;
			remove_block(a, i);
		}
	}
}

/* Takes a segment that holds n, for which free ones make room; -1 when it isn't allowed or isn't
 * there. */
static int add_segment(struct arena *a, size_t n) {
	if (n > a->max_bytes - a->segment_bytes) {
		drop_free_segments(a);
	}
	const size_t left = a->max_bytes - a->segment_bytes;
	const size_t bytes = n > SEGMENT ? n : left < SEGMENT ? left / UNIT * UNIT : SEGMENT;
	void *at = NULL;
	if (n > left || !insert_block(a, a->n_blocks)) {
		return -1;
	}
	if (cudaMalloc(&at, bytes) != cudaSuccess) {
		cudaGetLastError(); /* it isn't the next launch's */
		a->n_blocks--;
		return -1;
	}
	a->blocks[a->n_blocks - 1] = { (char *)at, bytes, false, true };
	a->segment_bytes += bytes;
	return a->n_blocks - 1;
}

static int find_free(const struct arena *a, size_t n) {
	for (int i = 0; i < a->n_blocks; i++) {
		if (!a->blocks[i].is_used && a->blocks[i].bytes >= n) {
			return i;
		}
	}
	return -1;
}

/* A number of bytes, as a person reads it. */
static const char *size_text(size_t n, char text[24]) {
	const double kib = 1 << 10, mib = 1 << 20;
	snprintf(text, 24, "%.1f %s", n < (size_t)mib ? (double)n / kib : (double)n / mib,
		n < (size_t)mib ? "KiB" : "MiB");
	return text;
}

/* Why n bytes were refused. */
static void say_why(const struct arena *a, size_t n, char *text, size_t bytes) {
	char asked[24], used[24], most[24], hole[24];
	const size_t left = a->max_bytes - a->segment_bytes;
	size_t largest = 0;
	for (int i = 0; i < a->n_blocks; i++) {
		const struct arena_block *b = &a->blocks[i];
		largest = !b->is_used && b->bytes > largest ? b->bytes : largest;
	}
	size_text(n, asked);
	size_text(a->used_bytes, used);
	size_text(a->max_bytes, most);
	if (n > a->max_bytes - a->used_bytes) {
		snprintf(text, bytes, "%s of device memory can't be had: %s of the %s that are allowed "
			"here are in use", asked, used, most);
	} else if (n > left) {
		snprintf(text, bytes, "%s of device memory can't be had: of the %s that are allowed here "
			"%s are in use, but no free part is larger than %s", asked, most, used,
			size_text(largest > left ? largest : left, hole));
	} else {
		snprintf(text, bytes, "%s of device memory can't be had: the driver refuses them; %s are "
			"in use here, where %s are allowed", asked, used, most);
	}
}

void *arena_alloc(struct arena *a, size_t n, char *text, size_t bytes) {
	n = n == 0 ? UNIT : (n + UNIT - 1) / UNIT * UNIT;
	int i = find_free(a, n);
	i = i < 0 ? add_segment(a, n) : i;
	if (i < 0 || (a->blocks[i].bytes > n && !insert_block(a, i + 1))) {
		say_why(a, n, text, bytes);
		return NULL;
	}
	struct arena_block *b = &a->blocks[i];
	if (b->bytes > n) {
		b[1] = { b->at + n, b->bytes - n, false, false };
		b->bytes = n;
	}
	b->is_used = true;
	a->used_bytes += n;
	return b->at;
}

void arena_free(struct arena *a, void *p) {
	int i = 0;
	while (i < a->n_blocks && a->blocks[i].at != p) {
		i++;
	}
	assert(i < a->n_blocks && a->blocks[i].is_used);
	a->used_bytes -= a->blocks[i].bytes;
	a->blocks[i].is_used = false;
	if (i + 1 < a->n_blocks && !a->blocks[i + 1].is_used && !a->blocks[i + 1].is_first) {
		a->blocks[i].bytes += a->blocks[i + 1].bytes;
		remove_block(a, i + 1);
	}
	if (i > 0 && !a->blocks[i - 1].is_used && !a->blocks[i].is_first) {
		a->blocks[i - 1].bytes += a->blocks[i].bytes;
		remove_block(a, i);
	}
}
