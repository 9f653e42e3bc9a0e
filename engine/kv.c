/* SPDX-License-Identifier: Apache-2.0
 *
 * Page pools and page tables. What is known of a page lies in the host's memory, apart from its
 * data, which may be a device's; what is known of a chunk lies behind its list of addresses, so
 * that a table is plain arrays of addresses, which is what the attention kernels read. */
#include "kv.h"

#include <assert.h>
#include <string.h>

struct kv_page {
	void *data; /* [page_bytes] */
	int n_refs;
	unsigned mark; /* of the last tally that found it */
	struct kv_page *next_free;
	struct kv_block *block;
};

struct kv_block {
	struct kv_block *next;
	void *memory;
	size_t bytes;
	size_t n_used; /* pages that somebody refers to */
	struct kv_page pages[];
};

enum { BLOCK_BYTES = 16 << 20 };

/* Of a limit no more than this part goes to a pool at once: others share it. */
enum { BLOCKS_OF_LIMIT = 32 };

void kv_pool_init(struct kv_pool *p, size_t page_bytes, const struct memory *memory,
	struct kv_budget *budget) {
	assert(page_bytes % 64 == 0);
	memset(p, 0, sizeof(*p));
	p->page_bytes = page_bytes;
	p->memory = memory;
	p->budget = budget;
	p->next = budget->pools;
	budget->pools = p;
}

static void drop_block(struct kv_pool *p, struct kv_block *b) {
	p->budget->used_bytes -= b->bytes;
	memory_unmap(p->memory, b->memory, b->bytes);
	base_free(b);
}

void kv_pool_finish(struct kv_pool *p) {
	while (p->blocks != NULL) {
		struct kv_block *b = p->blocks;
		p->blocks = b->next;
		drop_block(p, b);
	}
	p->free = NULL;
	for (struct kv_pool **link = p->budget != NULL ? &p->budget->pools : NULL;
		link != NULL && *link != NULL; link = &(*link)->next) {
		if (*link == p) {
			*link = p->next;
			break;
		}
	}
}

size_t kv_pool_trim(struct kv_pool *p) {
	size_t bytes = 0;
	for (struct kv_page **link = &p->free; *link != NULL;) {
		if ((*link)->block->n_used == 0) {
			*link = (*link)->next_free;
		} else {
			link = &(*link)->next_free;
		}
	}
	for (struct kv_block **link = &p->blocks; *link != NULL;) {
		struct kv_block *b = *link;
		if (b->n_used == 0) {
			*link = b->next;
			bytes += b->bytes;
			drop_block(p, b);
		} else {
			link = &b->next;
		}
	}
	return bytes;
}

static size_t left_of(const struct kv_budget *b) {
	return b->max_bytes > b->used_bytes ? b->max_bytes - b->used_bytes : 0;
}

/* Adds a block of pages to the free list. */
static bool grow(struct kv_pool *p, struct bb_error *err) {
	size_t n = BLOCK_BYTES / p->page_bytes > 0 ? BLOCK_BYTES / p->page_bytes : 1;
	struct kv_budget *budget = p->budget;
	if (budget->max_bytes > 0) {
		for (struct kv_pool *o = budget->pools; o != NULL && left_of(budget) < p->page_bytes;
			o = o->next) {
			if (o != p) {
				kv_pool_trim(o);
			}
		}
		const size_t left = left_of(budget) / p->page_bytes;
		const size_t part = budget->max_bytes / BLOCKS_OF_LIMIT / p->page_bytes;
		n = part < n ? (part > 0 ? part : 1) : n;
		n = left < n ? left : n;
	}
	if (n == 0) {
		return base_fail(err, BB_ERR_MEMORY,
			"KV cache: a page needs %zu bytes, %zu of the limit of %zu are in use",
			p->page_bytes, budget->used_bytes, budget->max_bytes);
	}
	struct kv_block *b = base_alloc(1, sizeof(*b) + n * sizeof(b->pages[0]));
	if (b == NULL) {
		return base_no_memory(err, "KV cache", sizeof(*b) + n * sizeof(b->pages[0]));
	}
	struct bb_error why;
	do { /* what is left may still hold some pages */
		why = (struct bb_error){ 0 };
		b->bytes = n * p->page_bytes;
		b->memory = memory_map(p->memory, b->bytes, "KV cache", &why);
	} while (b->memory == NULL && (n /= 2) > 0);
	if (b->memory == NULL) {
		base_free(b);
		return base_fail(err, why.code, "%s", why.text);
	}
	b->next = p->blocks;
	p->blocks = b;
	budget->used_bytes += b->bytes;
	for (size_t i = n; i-- > 0;) {
		b->pages[i].data = (uint8_t *)b->memory + i * p->page_bytes;
		b->pages[i].block = b;
		b->pages[i].next_free = p->free;
		p->free = &b->pages[i];
	}
	return true;
}

static struct kv_page *page_get(struct kv_pool *p, struct bb_error *err) {
	if (p->free == NULL && !grow(p, err)) {
		return NULL;
	}
	struct kv_page *page = p->free;
	p->free = page->next_free;
	page->next_free = NULL;
	page->n_refs = 1;
	page->block->n_used++;
	p->n_used++;
	return page;
}

static void page_unref(struct kv_pool *p, struct kv_page *page) {
	assert(page->n_refs > 0);
	p->n_changes += page->n_refs > 1;
	if (--page->n_refs == 0) {
		page->next_free = p->free;
		p->free = page;
		page->block->n_used--;
		p->n_used--;
	}
}

/* ---- chunks ---- */

struct kv_chunk {
	void *data[BB_CHUNK]; /* addresses of pages; first: tables hold its address */
	struct kv_page *pages[BB_CHUNK];
	int n_refs;
	unsigned mark; /* as a page's */
};

static struct kv_chunk *chunk_of(void **data) {
	return (struct kv_chunk *)(void *)data;
}

static void **chunk_create(struct bb_error *err) {
	struct kv_chunk *chunk = base_alloc(1, sizeof(*chunk));
	if (chunk == NULL) {
		base_no_memory(err, "page table", sizeof(*chunk));
		return NULL;
	}
	chunk->n_refs = 1;
	return chunk->data;
}

static void chunk_unref(struct kv_pool *p, void **data) {
	struct kv_chunk *chunk = chunk_of(data);
	assert(chunk->n_refs > 0);
	if (--chunk->n_refs > 0) {
		p->n_changes++;
		return;
	}
	for (int i = 0; i < BB_CHUNK; i++) {
		if (chunk->pages[i] != NULL) {
			page_unref(p, chunk->pages[i]);
		}
	}
	base_free(chunk);
}

static bool chunk_is_shared(void **data) {
	return data != NULL && chunk_of(data)->n_refs > 1;
}

static void chunk_set(void **data, int i, struct kv_page *page) {
	chunk_of(data)->pages[i] = page;
	data[i] = page != NULL ? page->data : NULL;
}

/* *data becomes this table's own list of the same pages. */
static bool chunk_own(struct kv_pool *p, void ***data, struct bb_error *err) {
	if (!chunk_is_shared(*data)) {
		return true;
	}
	void **copy = chunk_create(err);
	if (copy == NULL) {
		return false;
	}
	for (int i = 0; i < BB_CHUNK; i++) {
		struct kv_page *page = chunk_of(*data)->pages[i];
		chunk_set(copy, i, page);
		if (page != NULL) {
			page->n_refs++;
		}
	}
	chunk_of(*data)->n_refs--;
	p->n_changes++;
	*data = copy;
	return true;
}

/* ---- tables ---- */

static int divide_up(int64_t n, int unit) {
	return (int)((n + unit - 1) / unit);
}

bool kv_table_init(struct kv_table *t, struct kv_pool *pool, int max_tokens, struct bb_error *err) {
	const int max_chunks = divide_up(max_tokens, BB_CHUNK * BB_PAGE);
	*t = (struct kv_table){ .pool = pool, .max_chunks = max_chunks };
	t->chunks = base_alloc((size_t)max_chunks, sizeof(*t->chunks));
	return t->chunks != NULL ||
		base_no_memory(err, "page table", (size_t)max_chunks * sizeof(*t->chunks));
}

void kv_table_finish(struct kv_table *t) {
	if (t->chunks != NULL) {
		kv_truncate(t, 0);
		base_free(t->chunks);
	}
	memset(t, 0, sizeof(*t));
}

/* Makes the chunks of pages [first, end) this table's own, where they exist. */
static bool own_chunks(struct kv_table *t, int first, int end, struct bb_error *err) {
	const int n_chunks = divide_up(end < t->n_pages ? end : t->n_pages, BB_CHUNK);
	for (int i = first / BB_CHUNK; first < end && i < n_chunks; i++) {
		if (!chunk_own(t->pool, &t->chunks[i], err)) {
			return false;
		}
	}
	return true;
}

static struct kv_page *page_at(const struct kv_table *t, int i_page) {
	return chunk_of(t->chunks[i_page / BB_CHUNK])->pages[i_page % BB_CHUNK];
}

static void set_page(const struct kv_table *t, int i_page, struct kv_page *page) {
	assert(!chunk_is_shared(t->chunks[i_page / BB_CHUNK]));
	chunk_set(t->chunks[i_page / BB_CHUNK], i_page % BB_CHUNK, page);
}

static void drop_page(struct kv_table *t, int i_page) {
	page_unref(t->pool, page_at(t, i_page));
	set_page(t, i_page, NULL);
}

/* A partly filled last page that others read too is replaced by a copy. */
static bool own_last_page(struct kv_table *t, int n_tokens, struct bb_error *err) {
	if (n_tokens % BB_PAGE == 0) {
		return true;
	}
	struct kv_page *last = page_at(t, n_tokens / BB_PAGE);
	if (last->n_refs == 1) {
		return true;
	}
	struct kv_page *copy = page_get(t->pool, err);
	if (copy == NULL) {
		return false;
	}
	memory_copy(t->pool->memory, copy->data, last->data, t->pool->page_bytes);
	t->pool->budget->copied_bytes += t->pool->page_bytes;
	page_unref(t->pool, last);
	set_page(t, n_tokens / BB_PAGE, copy);
	return true;
}

static bool add_page(struct kv_table *t, struct bb_error *err) {
	struct kv_page *page = page_get(t->pool, err);
	if (page == NULL) {
		return false;
	}
	void ***chunk = &t->chunks[t->n_pages / BB_CHUNK];
	if (*chunk == NULL) {
		*chunk = chunk_create(err);
	}
	if (*chunk == NULL) {
		page_unref(t->pool, page);
		return false;
	}
	set_page(t, t->n_pages++, page);
	return true;
}

static void drop_chunk(struct kv_table *t, int i) {
	if (t->chunks[i] != NULL) {
		chunk_unref(t->pool, t->chunks[i]);
		t->chunks[i] = NULL;
	}
}

/* Drops pages from index `keep` on: whole chunks with one reference each, then the rest of one. */
static void drop_pages(struct kv_table *t, int keep) {
	const int whole = divide_up(keep, BB_CHUNK);
	for (int i = divide_up(t->n_pages, BB_CHUNK); i-- > whole;) {
		drop_chunk(t, i);
	}
	const int first = keep > t->first_page ? keep : t->first_page;
	for (int i = whole * BB_CHUNK < t->n_pages ? whole * BB_CHUNK : t->n_pages; i-- > first;) {
		drop_page(t, i);
	}
	t->n_pages = keep < t->n_pages ? keep : t->n_pages;
	t->first_page = t->first_page < t->n_pages ? t->first_page : t->n_pages;
}

bool kv_reserve(struct kv_table *t, int n_tokens, int n_new, int first_token,
	struct bb_error *err) {
	const int before = t->n_pages, want = divide_up((int64_t)n_tokens + n_new, BB_PAGE);
	if (t->pool->page_bytes == 0) {
		return true;
	}
	assert(divide_up(want, BB_CHUNK) <= t->max_chunks);
	if (!own_chunks(t, t->first_page, first_token / BB_PAGE, err) ||
		!own_chunks(t, n_tokens / BB_PAGE, want, err) || !own_last_page(t, n_tokens, err)) {
		return false;
	}
	while (t->n_pages < want) {
		if (!add_page(t, err)) {
			drop_pages(t, before);
			return false;
		}
	}
	return true;
}

bool kv_restore(struct kv_table *t, int first_page, int n_pages, struct bb_error *err) {
	assert(t->n_pages == 0 && first_page <= n_pages);
	t->first_page = t->n_pages = first_page;
	while (t->n_pages < n_pages) {
		if (!add_page(t, err)) {
			drop_pages(t, 0);
			return false;
		}
	}
	return true;
}

bool kv_own_cut(struct kv_table *t, int n_tokens, struct bb_error *err) {
	const int keep = divide_up(n_tokens, BB_PAGE);
	return keep >= t->n_pages || keep % BB_CHUNK == 0 ||
		chunk_own(t->pool, &t->chunks[keep / BB_CHUNK], err);
}

void kv_truncate(struct kv_table *t, int n_tokens) {
	drop_pages(t, divide_up(n_tokens, BB_PAGE));
}

void kv_release_before(struct kv_table *t, int first_token) {
	const int first_page = first_token / BB_PAGE;
	while (t->first_page < first_page && t->first_page < t->n_pages) {
		drop_page(t, t->first_page);
		if (++t->first_page % BB_CHUNK == 0) {
			drop_chunk(t, t->first_page / BB_CHUNK - 1);
		}
	}
}

void kv_fork(struct kv_table *dst, struct kv_table *src, int n_tokens) {
	assert(dst->n_pages == 0 && dst->max_chunks == src->max_chunks);
	kv_truncate(src, n_tokens);
	dst->n_pages = src->n_pages;
	dst->first_page = src->first_page;
	src->pool->n_changes++;
	for (int i = src->first_page / BB_CHUNK; i * BB_CHUNK < src->n_pages; i++) {
		dst->chunks[i] = src->chunks[i];
		if (src->chunks[i] != NULL) {
			chunk_of(src->chunks[i])->n_refs++;
		}
	}
}

int kv_count(const struct kv_table *t) {
	return t->n_pages - t->first_page;
}

int kv_wants(const struct kv_table *t, int n_tokens, int n_new) {
	const int want = divide_up((int64_t)n_tokens + n_new, BB_PAGE) - t->n_pages;
	if (t->pool->page_bytes == 0) {
		return 0;
	}
	const bool is_partly = n_tokens % BB_PAGE != 0 && n_tokens / BB_PAGE < t->n_pages;
	const bool copies = is_partly && (chunk_is_shared(t->chunks[n_tokens / BB_PAGE / BB_CHUNK]) ||
		page_at(t, n_tokens / BB_PAGE)->n_refs > 1);
	return (want > 0 ? want : 0) + copies;
}

double kv_share(struct kv_table *t) {
	const int n_pages = kv_count(t);
	if (t->last.n_changes == t->pool->n_changes) { /* what came or went since is its own */
		t->last.share += n_pages - t->last.n_pages;
		t->last.n_pages = n_pages;
		return t->last.share;
	}
	double n = 0;
	for (int i = t->first_page; i < t->n_pages; i++) {
		const struct kv_chunk *chunk = chunk_of(t->chunks[i / BB_CHUNK]);
		/* a page's references are of chunks, which tables refer to */
		n += 1.0 / ((double)chunk->n_refs * chunk->pages[i % BB_CHUNK]->n_refs);
	}
	t->last.n_changes = t->pool->n_changes;
	t->last.n_pages = n_pages;
	t->last.share = n;
	return n;
}

int kv_count_alone(const struct kv_table *t) {
	int n = 0;
	for (int i = t->first_page; i < t->n_pages; i++) {
		n += !chunk_is_shared(t->chunks[i / BB_CHUNK]) && page_at(t, i)->n_refs == 1;
	}
	return n;
}

int kv_tally(const struct kv_table *t, unsigned mark) {
	int n = 0;
	for (int i = t->first_page / BB_CHUNK; i * BB_CHUNK < t->n_pages; i++) {
		struct kv_chunk *chunk = t->chunks[i] != NULL ? chunk_of(t->chunks[i]) : NULL;
		for (int k = 0; chunk != NULL && chunk->mark != mark && k < BB_CHUNK; k++) {
			struct kv_page *page = chunk->pages[k];
			if (page != NULL && page->mark != mark) {
				page->mark = mark;
				n++;
			}
		}
		if (chunk != NULL) {
			chunk->mark = mark;
		}
	}
	return n;
}
