/* SPDX-License-Identifier: Apache-2.0
 *
 * Pages of growing state: pools that hand out reference-counted pages, and the page table of one
 * context for one kind of layer, shared copy-on-write in chunks. Knows bytes and token indices, not
 * what is in a page. */
#ifndef KV_H
#define KV_H

#include "memory.h"

/* Shared by all pools of an engine: the account and its limit. */
struct kv_budget {
	size_t used_bytes, max_bytes; /* max 0 = no limit */
	uint64_t copied_bytes;        /* of pages that were copied, ever: see kv_reserve */
	struct kv_pool *pools;        /* list of those that were initialised */
};

/* Hands out pages of one size. A page holds BB_PAGE tokens of every layer of one kind. */
struct kv_pool {
	size_t page_bytes;           /* 0: no layer is of the kind, and its tables stay empty */
	const struct memory *memory; /* which the pages are of */
	struct kv_budget *budget;
	struct kv_page *free;       /* list of pages that nobody refers to */
	struct kv_block *blocks;    /* memory the pages were cut from */
	size_t n_used;              /* pages that somebody refers to */
	uint64_t n_changes;         /* how often it changed who shares a page with whom */
	struct kv_pool *next;       /* of the budget */
};
void kv_pool_init(struct kv_pool *p, size_t page_bytes, const struct memory *memory,
	struct kv_budget *budget);
void kv_pool_finish(struct kv_pool *p);
/* Gives back the memory of which no page is used; how many bytes. */
size_t kv_pool_trim(struct kv_pool *p);

/* Pages [first_page, n_pages) of a context's tokens; those before were freed behind a window.
 * Pages are listed in chunks (kernels.h says why that size), and tables share chunks: a fork
 * takes a reference to each, whatever their pages weigh. A shared chunk lists exactly the pages
 * that each of its tables has, and never changes: a table that adds, replaces or drops one of
 * its pages has a copy of the chunk first, and only then do the chunk's pages get one more
 * reference. */
struct kv_table {
	struct kv_pool *pool;
	void ***chunks; /* [max_chunks][BB_CHUNK] page addresses; NULL where there is no page */
	int max_chunks, n_pages, first_page;
	struct { /* what kv_share found last */
		uint64_t n_changes;
		int n_pages;
		double share;
	} last;
};
/* The list of chunks is as long as max_tokens may want (8 bytes per 4096 tokens), so that it
 * never moves and a fork has nothing to grow. */
bool kv_table_init(struct kv_table *t, struct kv_pool *pool, int max_tokens, struct bb_error *err);
void kv_table_finish(struct kv_table *t);
/* Makes the pages of tokens [n_tokens, n_tokens + n_new) exist and belong to this table alone, a
 * partly filled page that is shared being copied; and makes it free to release what lies before
 * first_token. On a failure the table has the pages that it had. */
bool kv_reserve(struct kv_table *t, int n_tokens, int n_new, int first_token, struct bb_error *err);
/* Drops the pages that hold no token below n_tokens. Where that parts the pages of a shared chunk,
 * kv_own_cut must have come before. */
void kv_truncate(struct kv_table *t, int n_tokens);
bool kv_own_cut(struct kv_table *t, int n_tokens, struct bb_error *err);
/* Drops the pages that hold no token from first_token on, as announced to kv_reserve. */
void kv_release_before(struct kv_table *t, int first_token);
/* dst (fresh, as long as src) shares the pages of src's n_tokens; src drops those beyond. */
void kv_fork(struct kv_table *dst, struct kv_table *src, int n_tokens);
/* A fresh table gets pages [first_page, n_pages), their content undefined. */
bool kv_restore(struct kv_table *t, int first_page, int n_pages, struct bb_error *err);
/* Where page i, which exists, lies. */
static inline void *kv_page(const struct kv_table *t, int i) {
	return t->chunks[i / BB_CHUNK][i % BB_CHUNK];
}
/* Pages of this table that exist. */
int kv_count(const struct kv_table *t);
/* Pages that kv_reserve would take from the pool. */
int kv_wants(const struct kv_table *t, int n_tokens, int n_new);
/* The same pages as kv_count's, each divided by the number of tables that have it: of all tables
 * together, the pages that there are. Looks at the pages only where the pool's n_changes has grown
 * since it last did. */
double kv_share(struct kv_table *t);
/* Those among them that kv_table_finish would give back, for no other table has them. */
int kv_count_alone(const struct kv_table *t);
/* Those that no table has been asked for since `mark`, new for each tally, came up. */
int kv_tally(const struct kv_table *t, unsigned mark);

#endif
