/* SPDX-License-Identifier: Apache-2.0
 *
 * Looked for once, when an answer has ended. */
#include "stops.h"

#include "ration.h"

#include <stdlib.h>
#include <string.h>

enum { TAIL_BYTES = 4096 };

bool stops_copy(struct stops *s, const struct bb_generation_params *g) {
	for (int i = 0; i < g->n_stop; i++) {
		s->v[i] = strdup(g->stop[i]);
		if (s->v[i] == NULL) {
			return false;
		}
		s->n++;
	}
	return true;
}

void stops_finish(struct stops *s) {
	for (int i = 0; i < s->n; i++) {
		free(s->v[i]);
	}
	s->n = 0;
}

void stops_add(const struct stops *s, const struct bb_engine *e, int32_t id, struct buf *tail) {
	struct bb_text piece = { 0 };
	struct bb_error err = { 0 };
	if (s->n > 0 && !bb_detokenize(e, &id, 1, &piece, &err)) {
		ration_lose_by(&err);
	} else if (s->n > 0) {
		buf_add(tail, piece.data, piece.bytes);
		buf_drop(tail, tail->bytes > TAIL_BYTES ? tail->bytes - TAIL_BYTES : 0);
	}
	bb_text_finish(&piece);
}

const char *stops_found(const struct stops *s, const struct bb_engine *e, enum bb_finish finish,
	int32_t last_id, const struct buf *tail) {
	const char *first = NULL, *best = NULL;
	const bool is_text = finish == BB_FINISH_STOP && tail->bytes > 0 &&
		!bb_token_is_end(e, last_id);
	/* The first one to be there is the one: others would have ended it before. */
	for (int k = 0; is_text && k < s->n; k++) {
		const char *at = memmem(tail->data, tail->bytes, s->v[k], strlen(s->v[k]));
		if (at != NULL && (best == NULL || at < first)) {
			first = at;
			best = s->v[k];
		}
	}
	return best;
}
