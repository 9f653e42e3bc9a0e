/* SPDX-License-Identifier: Apache-2.0
 *
 * Page pools and page tables. A page's reference count lies behind its data, so that a table is a
 * plain array of addresses, which is what the attention kernels read. */
#include "kv.h"

#include <assert.h>
#include <string.h>

struct kv_page { /* behind the page's data */
	int n_refs;
	struct kv_page *next_free;
};

struct kv_block {
	struct kv_block *next;
	void *memory;
	size_t bytes;
};

enum { BLOCK_BYTES = 16 << 20, HEADER_BYTES = 64 };

static struct kv_page *page_header(const struct kv_pool *p, void *data) {
	return (struct kv_page *)((uint8_t *)data + p->page_bytes);
}

static void *page_data(const struct kv_pool *p, struct kv_page *page) {
	return (uint8_t *)page - p->page_bytes;
}

void kv_pool_init(struct kv_pool *p, size_t page_bytes, struct kv_budget *budget) {
	assert(page_bytes % 64 == 0);
	memset(p, 0, sizeof(*p));
	p->page_bytes = page_bytes;
	p->budget = budget;
}

void kv_pool_finish(struct kv_pool *p) {
	while (p->blocks != NULL) {
		struct kv_block *b = p->blocks;
		p->blocks = b->next;
		p->budget->used_bytes -= b->bytes;
		base_unmap(b->memory, b->bytes);
		base_free(b);
	}
	p->free = NULL;
}

/* Adds a block of pages to the free list. */
static bool grow(struct kv_pool *p, struct bb_error *err) {
	const size_t stride = p->page_bytes + HEADER_BYTES;
	size_t n = BLOCK_BYTES / stride > 0 ? BLOCK_BYTES / stride : 1;
	struct kv_budget *budget = p->budget;
	if (budget->max_bytes > 0) {
		const size_t left = (budget->max_bytes - budget->used_bytes) / stride;
		n = left < n ? left : n;
	}
	if (n == 0) {
		return base_fail(err, BB_ERR_MEMORY,
			"KV cache: a page needs %zu bytes, %zu of the limit of %zu are in use", stride,
			budget->used_bytes, budget->max_bytes);
	}
	struct kv_block *b = base_alloc(1, sizeof(*b));
	void *memory = b != NULL ? base_map(n * stride) : NULL;
	if (memory == NULL) {
		base_free(b);
		return base_no_memory(err, "KV cache", n * stride);
	}
	*b = (struct kv_block){ p->blocks, memory, n * stride };
	p->blocks = b;
	budget->used_bytes += b->bytes;
	for (size_t i = n; i-- > 0;) {
		struct kv_page *page = page_header(p, (uint8_t *)memory + i * stride);
		page->next_free = p->free;
		p->free = page;
	}
	return true;
}

static void *page_get(struct kv_pool *p, struct bb_error *err) {
	if (p->free == NULL && !grow(p, err)) {
		return NULL;
	}
	struct kv_page *page = p->free;
	p->free = page->next_free;
	page->next_free = NULL;
	page->n_refs = 1;
	return page_data(p, page);
}

static void page_unref(struct kv_pool *p, void *data) {
	struct kv_page *page = page_header(p, data);
	assert(page->n_refs > 0);
	if (--page->n_refs == 0) {
		page->next_free = p->free;
		p->free = page;
	}
}

/* ---- tables ---- */

static int pages_for(int n_tokens) {
	return (int)(((int64_t)n_tokens + BB_PAGE - 1) / BB_PAGE);
}

void kv_table_finish(struct kv_table *t) {
	if (t->pages != NULL) {
		kv_truncate(t, 0);
		base_free(t->pages);
	}
	memset(t, 0, sizeof(*t));
}

static bool ensure_cap(struct kv_table *t, int n_pages, struct bb_error *err) {
	if (n_pages <= t->cap) {
		return true;
	}
	const int cap = n_pages + n_pages / 2 + 8;
	void **grown = base_realloc(t->pages, (size_t)cap, sizeof(*grown));
	if (grown == NULL) {
		return base_no_memory(err, "page table", (size_t)cap * sizeof(*grown));
	}
	t->pages = grown;
	t->cap = cap;
	return true;
}

/* A partly filled last page that others read too is replaced by a copy. */
static bool own_last_page(struct kv_table *t, int n_tokens, struct bb_error *err) {
	if (n_tokens % BB_PAGE == 0) {
		return true;
	}
	void **last = &t->pages[n_tokens / BB_PAGE];
	if (page_header(t->pool, *last)->n_refs == 1) {
		return true;
	}
	void *copy = page_get(t->pool, err);
	if (copy == NULL) {
		return false;
	}
	memcpy(copy, *last, t->pool->page_bytes);
	page_unref(t->pool, *last);
	*last = copy;
	return true;
}

bool kv_reserve(struct kv_table *t, int n_tokens, int n_new, struct bb_error *err) {
	const int want = pages_for(n_tokens + n_new);
	if (!ensure_cap(t, want, err) || !own_last_page(t, n_tokens, err)) {
		return false;
	}
	while (t->n_pages < want) {
		void *page = page_get(t->pool, err);
		if (page == NULL) {
			kv_truncate(t, n_tokens);
			return false;
		}
		t->pages[t->n_pages++] = page;
	}
	return true;
}

void kv_truncate(struct kv_table *t, int n_tokens) {
	const int keep = pages_for(n_tokens);
	while (t->n_pages > keep) {
		void *page = t->pages[--t->n_pages];
		if (page != NULL) {
			page_unref(t->pool, page);
		}
	}
	if (t->first_page > t->n_pages) {
		t->first_page = t->n_pages;
	}
}

void kv_release_before(struct kv_table *t, int first_token) {
	const int first_page = first_token / BB_PAGE;
	for (; t->first_page < first_page && t->first_page < t->n_pages; t->first_page++) {
		page_unref(t->pool, t->pages[t->first_page]);
		t->pages[t->first_page] = NULL;
	}
}

bool kv_fork(struct kv_table *dst, const struct kv_table *src, struct bb_error *err) {
	assert(dst->pages == NULL);
	if (!ensure_cap(dst, src->n_pages, err)) {
		return false;
	}
	dst->pool = src->pool;
	dst->n_pages = src->n_pages;
	dst->first_page = src->first_page;
	for (int i = 0; i < src->n_pages; i++) {
		dst->pages[i] = src->pages[i];
		if (src->pages[i] != NULL) {
			page_header(src->pool, src->pages[i])->n_refs++;
		}
	}
	return true;
}

int kv_count(const struct kv_table *t) {
	return t->n_pages - t->first_page;
}
