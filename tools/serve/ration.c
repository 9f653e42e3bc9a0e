/* SPDX-License-Identifier: Apache-2.0
 *
 * Counts by thread, and one for the pool. */
#include "ration.h"

#include <jansson.h>

#include <malloc.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>

/* A part is never less, GRACE is for saying that there is no more, and after requests that took so
 * much from the pool what is free goes back to the system. */
enum { LEAST_PART = 32 << 10, GRACE = 16 << 10, WORTH_TRIMMING = 16 << 20 };

static size_t part = SIZE_MAX / 4, of_events = SIZE_MAX / 4, pool;
static atomic_size_t pooled;

struct account {
	/* Below zero where another thread made what this one gives back. */
	ptrdiff_t held;
	size_t from_pool, most_from_pool, graced;
	bool is_short, has_gap;
};
static _Thread_local struct account mine;

static size_t beyond_part(ptrdiff_t held) {
	return held > (ptrdiff_t)part ? (size_t)held - part : 0;
}

static bool draw(size_t bytes) {
	size_t now = atomic_load(&pooled);
	do {
		if (bytes > pool || now > pool - bytes) {
			return false;
		}
	} while (!atomic_compare_exchange_weak(&pooled, &now, now + bytes));
	return true;
}

static bool run_short(void) {
	mine.is_short = mine.has_gap = true;
	return false;
}

bool ration_take(size_t bytes) {
	if (bytes > PTRDIFF_MAX / 2) {
		return run_short();
	}
	const size_t beyond = beyond_part(mine.held + (ptrdiff_t)bytes);
	const size_t more = beyond > mine.from_pool ? beyond - mine.from_pool : 0;
	if (more > 0 && !draw(more)) {
		if (!mine.is_short || bytes > GRACE - mine.graced) {
			return run_short();
		}
		mine.graced += bytes;
	} else {
		mine.from_pool += more;
	}
	mine.most_from_pool = mine.from_pool > mine.most_from_pool ? mine.from_pool
		: mine.most_from_pool;
	mine.held += (ptrdiff_t)bytes;
	return true;
}

void ration_give(size_t bytes) {
	mine.held -= (ptrdiff_t)bytes;
	const size_t beyond = beyond_part(mine.held);
	if (beyond < mine.from_pool) {
		atomic_fetch_sub(&pooled, mine.from_pool - beyond);
		mine.from_pool = beyond;
	}
}

void ration_lose(void) {
	mine.has_gap = true;
}

void ration_lose_by(const struct bb_error *err) {
	mine.has_gap |= err->code == BB_ERR_MEMORY;
}

bool ration_has_gap(void) {
	return mine.has_gap;
}

bool ration_is_short(void) {
	return mine.is_short;
}

const char *ration_why(void) {
	return mine.is_short ? RATION_SHORT : RATION_LOST;
}

void ration_forget(void) {
	atomic_fetch_sub(&pooled, mine.from_pool);
	if (mine.most_from_pool >= WORTH_TRIMMING) {
		malloc_trim(0);
	}
	mine = (struct account){ 0 };
}

size_t ration_pooled(void) {
	return atomic_load(&pooled);
}

size_t ration_of_events(void) {
	return of_events;
}

/* ---- jansson's ---- */

static void *take_block(size_t bytes) {
	void *block = malloc(bytes);
	if (block == NULL) {
		ration_lose();
	} else if (!ration_take(malloc_usable_size(block))) {
		free(block);
		return NULL;
	}
	return block;
}

static void give_block(void *block) {
	if (block != NULL) {
		ration_give(malloc_usable_size(block));
		free(block);
	}
}

void ration_free_text(char *text) {
	give_block(text);
}

void ration_limit(size_t bytes, int connections) {
	const size_t share = bytes / 4 / (size_t)connections;
	part = of_events = share > LEAST_PART ? share : LEAST_PART;
	pool = bytes / 2;
	json_set_alloc_funcs(take_block, give_block);
}
