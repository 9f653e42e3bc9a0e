/* SPDX-License-Identifier: Apache-2.0
 *
 * Pages of growing state: pools that hand out reference-counted pages, and the page table of one
 * context for one kind of layer. Knows bytes and token indices, not what is in a page. */
#ifndef KV_H
#define KV_H

#include "base.h"
#include "kernels.h"

/* Shared by all pools of an engine: the account and its limit. */
struct kv_budget {
	size_t used_bytes, max_bytes; /* max 0 = no limit */
};

/* Hands out pages of one size. A page holds BB_PAGE tokens of every layer of one kind. */
struct kv_pool {
	size_t page_bytes;
	struct kv_budget *budget;
	struct kv_page *free;       /* intrusive list of pages that nobody refers to */
	struct kv_block *blocks;    /* memory the pages were cut from */
};
void kv_pool_init(struct kv_pool *p, size_t page_bytes, struct kv_budget *budget);
void kv_pool_finish(struct kv_pool *p);

/* Pages of tokens [0, n_pages * BB_PAGE); those before first_page were freed behind a window. */
struct kv_table {
	struct kv_pool *pool;
	void **pages; /* [n_pages], NULL below first_page */
	int n_pages, cap, first_page;
};
void kv_table_finish(struct kv_table *t);
/* Makes the pages of tokens [n_tokens, n_tokens + n_new) exist and belong to this table alone: a
 * partly filled page that is shared is copied. On failure the table still holds its n_tokens. */
bool kv_reserve(struct kv_table *t, int n_tokens, int n_new, struct bb_error *err);
/* Drops the pages that hold no token below n_tokens. */
void kv_truncate(struct kv_table *t, int n_tokens);
/* Drops the pages that hold no token from first_token on. */
void kv_release_before(struct kv_table *t, int first_token);
/* dst (zeroed) refers to the same pages as src; no page is copied. */
bool kv_fork(struct kv_table *dst, const struct kv_table *src, struct bb_error *err);
/* Pages of this table that exist. */
int kv_count(const struct kv_table *t);

#endif
