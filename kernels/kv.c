/* SPDX-License-Identifier: Apache-2.0
 *
 * Keys and values on their way into pages: the loop over the rows of a step. */
#include "kernels.h"

#include <assert.h>

/* rows a thread takes at once: the tokens that share lines in kv_lanes */
enum { APPEND_GRAIN = 16 };

static void append_rows(const void *arg, int begin, int end) {
	const struct bb_kv_append *a = arg;
	const struct bb_attention_seq *seq = a->seqs;
	int first = 0; /* of this sequence, counting the rows of the sequences in order */
	for (int i = begin; i < end; i++) {
		while (i - first >= seq->n_rows) {
			first += seq->n_rows;
			seq++;
		}
		const int row = seq->row0 + i - first;
		for (int h = 0; h < a->n_kv_heads; h++) {
			const struct bb_kept *kept = &seq->groups[a->kv_heads[h].i_group];
			const int t = kept->n_before + i - first;
			uint8_t *slab = (uint8_t *)kept_page(kept, t / BB_PAGE) + a->kv_heads[h].slab_offset;
			const size_t x = (size_t)row * a->ld + (size_t)h * a->head_dim;
			a->layout->append(slab, a->type, a->head_dim, a->kv_group, t % BB_PAGE, a->k + x,
				a->v + x);
		}
	}
}

void kv_append(bb_queue *q, const struct bb_kv_append *a) {
	if (a->layout->append_rows != NULL) {
		a->layout->append_rows(q, a);
		return;
	}
	int n_rows = 0;
	for (int i = 0; i < a->n_seqs; i++) {
		n_rows += a->seqs[i].n_rows;
	}
	assert(a->kv_group % 4 == 0 && a->cs == NULL);
	queue_run(q, append_rows, a, n_rows, APPEND_GRAIN);
}
