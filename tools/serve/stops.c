/* SPDX-License-Identifier: Apache-2.0
 *
 * Looked for once, when an answer has ended. */
#include "stops.h"

#include "ration.h"

#include <stdlib.h>
#include <string.h>

enum { TOKEN_BYTES = 4096 };

bool stops_copy(struct stops *s, const struct bb_generation_params *g) {
	for (int i = 0; i < g->n_stop; i++) {
		s->v[i] = strdup(g->stop[i]);
		if (s->v[i] == NULL) {
			return false;
		}
		s->n++;
		const size_t bytes = strlen(s->v[i]) + TOKEN_BYTES;
		s->tail_bytes = bytes > s->tail_bytes ? bytes : s->tail_bytes;
	}
	return true;
}

void stops_finish(struct stops *s) {
	for (int i = 0; i < s->n; i++) {
		free(s->v[i]);
	}
	s->n = 0;
}

/* What a token writes; where there is no memory the answer has a gap. */
static bool piece_of(const struct bb_engine *e, int32_t id, struct bb_text *piece) {
	struct bb_error err = { 0 };
	const bool ok = bb_detokenize(e, &id, 1, piece, &err);
	if (!ok) {
		ration_lose_by(&err);
	}
	return ok;
}

void stops_add(const struct stops *s, const struct bb_engine *e, int32_t id, struct buf *tail) {
	struct bb_text piece = { 0 };
	if (s->n > 0 && piece_of(e, id, &piece)) {
		buf_add(tail, piece.data, piece.bytes);
		/* half of it at a time, so that few bytes move */
		buf_drop(tail, tail->bytes > 2 * s->tail_bytes ? tail->bytes - s->tail_bytes : 0);
	}
	bb_text_finish(&piece);
}

/* It ends within the last token: one that stands before didn't end the answer, for min_tokens. */
const char *stops_found(const struct stops *s, const struct bb_engine *e, enum bb_finish finish,
	int32_t last_id, const struct buf *tail) {
	const char *first = NULL, *best = NULL;
	struct bb_text piece = { 0 };
	const bool is_text = finish == BB_FINISH_STOP && tail->bytes > 0 &&
		!bb_token_is_end(e, last_id) && piece_of(e, last_id, &piece);
	for (int k = 0; is_text && k < s->n; k++) {
		const size_t n = strlen(s->v[k]), most = piece.bytes + n - 1;
		const size_t bytes = most < tail->bytes ? most : tail->bytes;
		const char *at = memmem(tail->data + tail->bytes - bytes, bytes, s->v[k], n);
		if (at != NULL && (best == NULL || at < first)) {
			first = at;
			best = s->v[k];
		}
	}
	bb_text_finish(&piece);
	return best;
}

json_t *stops_reason(const struct stops *s, const struct bb_engine *e, const struct bb_tokens *ids,
	enum bb_finish finish, int32_t last_id, const struct buf *tail) {
	const char *text = stops_found(s, e, finish, last_id, tail);
	if (text != NULL) {
		return json_string(text);
	}
	for (size_t i = 0; finish == BB_FINISH_STOP && i < ids->n; i++) {
		if (ids->ids[i] == last_id) {
			return json_integer(last_id);
		}
	}
	return json_null();
}
