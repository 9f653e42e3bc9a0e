/* SPDX-License-Identifier: Apache-2.0
 *
 * Memory of the merge loop; the loop itself is inlined from merge.h into BPE and SPM. */
#include "merge.h"

void merge_finish(struct merge_work *w) {
	base_free(w->symbols);
	base_free(w->heap.entries);
	*w = (struct merge_work){ 0 };
}

bool merge_heap_reserve(struct merge_heap *h, size_t n, struct bb_error *err) {
	if (n > h->cap) {
		const size_t cap = n + h->cap;
		struct merge_entry *grown = base_realloc(h->entries, cap, sizeof(*grown));
		if (grown == NULL) {
			return base_no_memory(err, "tokenizer", cap * sizeof(*grown));
		}
		h->entries = grown;
		h->cap = cap;
	}
	return true;
}

bool merge_reserve(struct merge_work *w, size_t n, struct bb_error *err) {
	if (n > w->cap) {
		const size_t cap = n > 256 ? n + n / 4 : 256;
		struct merge_symbol *grown = base_realloc(w->symbols, cap, sizeof(*grown));
		if (grown == NULL) {
			return base_no_memory(err, "tokenizer", cap * sizeof(*grown));
		}
		w->symbols = grown;
		if (!merge_heap_reserve(&w->heap, 2 * cap, err)) {
			return false;
		}
		w->cap = cap;
	}
	w->n = 0;
	return true;
}
