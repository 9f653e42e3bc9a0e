/* SPDX-License-Identifier: Apache-2.0
 *
 * What the attention variants write alike: a body of each loop per number of rows, so that sums
 * stay in registers, and the tile that calls them. */
#ifndef ATTENTION_BODIES_H
#define ATTENTION_BODIES_H

#include "attention_walk.h"

/* `call` with R = n as a constant, n from 1 to TILE_ROWS. */
#define WITH_ROWS(r, call) { enum { R = r }; call; break; }
#define FOR_ROWS(n, call) \
	switch (n) { \
	case 1: WITH_ROWS(1, call) \
	case 2: WITH_ROWS(2, call) \
	case 3: WITH_ROWS(3, call) \
	case 4: WITH_ROWS(4, call) \
	case 5: WITH_ROWS(5, call) \
	default: WITH_ROWS(6, call) \
	}

/* tile_<suffix>: attn_tile of the file's score_page, softmax_row and value_columns, for planes that
 * hold `source`; unit as attn_values has it. */
#define ATTENTION_BODIES(source, suffix, unit) \
	static void scores_##suffix(const struct attn_tile *t, int page) { \
		FOR_ROWS(t->n_rows, score_page(t, page, R, source)) \
	} \
	static void values_##suffix(const struct attn_tile *t, int page, int row, int n_rows, \
		int from, int to) { \
		FOR_ROWS(n_rows, value_columns(t, page, row, from, to, R, source)) \
	} \
	static void tile_##suffix(const struct attn_tile *t) { \
		attn_tile(t, unit, scores_##suffix, largest_scores, softmax_row, values_##suffix); \
	}

/* As attn_tile, all rows of a page together: where integers are summed, a p of 0 is enough to keep
 * out what a row doesn't see. */
static inline void tile_of_integers(const struct attn_tile *t,
	void (*scores)(const struct attn_tile *t, int page),
	void (*largest_scores)(const struct attn_tile *t),
	void (*softmax_row)(const struct attn_tile *t, int row),
	void (*values)(const struct attn_tile *t, int page)) {
	attn_weigh(t, scores, largest_scores, softmax_row);
	for (int page = 0; page < SPLIT_PAGES; page++) {
		if (t->v[page] != NULL) {
			values(t, page);
		}
	}
}

#endif
