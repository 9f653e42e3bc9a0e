/* SPDX-License-Identifier: Apache-2.0
 *
 * A table that only grows, within limits: what is given out is never moved or freed. */
#include "store.h"

#include <string.h>

enum {
	STORE_SLOTS = 1 << 13, MAX_ENTRIES = STORE_SLOTS / 2,
	MAX_BYTES = 64 << 20,
	MAX_LOOKS = 4000, MAX_DEPTH = 200, /* expressions that are looked at for one fingerprint */
};

bool store_create(struct store **out, struct bb_error *err) {
	struct store *s = base_alloc(1, sizeof(*s));
	*out = s;
	if (s == NULL || (s->slots = base_alloc(STORE_SLOTS, sizeof(*s->slots))) == NULL) {
		base_free(s);
		*out = NULL;
		return base_no_memory(err, "grammars", STORE_SLOTS * sizeof(*s->slots));
	}
	s->seed = (struct fingerprint){ bb_random_seed(), bb_random_seed() };
	pthread_mutex_init(&s->lock, NULL);
	return true;
}

static void free_head(struct head *h) {
	base_free(h->bits);
	base_free(h->ids);
	base_free(h->crossings);
}

void store_destroy(struct store *s) {
	if (s != NULL) {
		for (uint32_t i = 0; i < s->n; i++) {
			free_head(&s->entries[i].head);
			s->entries[i].family.is_stored = false;
			counts_destroy(&s->entries[i].family);
		}
		pthread_mutex_destroy(&s->lock);
		base_free(s->entries);
		base_free(s->slots);
		base_free(s);
	}
}

/* ---- fingerprints ---- */

struct print {
	const struct exprs *x;
	struct fingerprint seed;
	int n_looks, depth;
};

static uint64_t stir(uint64_t h, uint64_t word, uint64_t seed) {
	const unsigned __int128 product = (unsigned __int128)(h ^ word ^ seed) *
		(0x9E3779B97F4A7C15u ^ (seed << 1));
	return (uint64_t)product ^ (uint64_t)(product >> 64) ^ (h << 23 | h >> 41);
}

static void add_word(const struct print *p, struct fingerprint *f, uint64_t word) {
	f->a = stir(f->a, word, p->seed.a);
	f->b = stir(f->b, word, p->seed.b);
}

static struct fingerprint print_of(struct print *p, uint32_t a);

/* Elements of a list are in the order of numbers, which differs from grammar to grammar: they are
 * summed up. */
static void add_list(struct print *p, struct fingerprint *f, uint32_t a) {
	const enum expr_op op = p->x->all[a].op;
	struct fingerprint sum = { 0 };
	for (bool is_last = false; !is_last && p->n_looks <= MAX_LOOKS; a = p->x->all[a].b) {
		is_last = p->x->all[a].op != op;
		const struct fingerprint own = print_of(p, is_last ? a : p->x->all[a].a);
		sum.a += own.a;
		sum.b += own.b;
	}
	add_word(p, f, sum.a);
	add_word(p, f, sum.b);
}

static void add_print(struct print *p, struct fingerprint *f, uint32_t a) {
	const struct fingerprint own = print_of(p, a);
	add_word(p, f, own.a);
	add_word(p, f, own.b);
}

static struct fingerprint print_of(struct print *p, uint32_t a) {
	struct fingerprint f = { 0 };
	if (++p->n_looks > MAX_LOOKS || ++p->depth > MAX_DEPTH) {
		p->n_looks = MAX_LOOKS + 1;
		return f;
	}
	for (;; a = p->x->all[a].b) {
		const struct expr e = p->x->all[a];
		add_word(p, &f, e.op);
		switch (e.op) {
		case EXPR_OP_SET:
			for (int i = 0; i < 4; i++) {
				add_word(p, &f, p->x->sets[e.a].bits[i]);
			}
			break;
		case EXPR_OP_SEQ:
			add_print(p, &f, e.a);
			if (p->n_looks <= MAX_LOOKS) {
				continue;
			}
			break;
		case EXPR_OP_OR:
		case EXPR_OP_AND:
			add_list(p, &f, a);
			break;
		case EXPR_OP_NOT:
			add_print(p, &f, e.a);
			break;
		case EXPR_OP_REPEAT:
			add_print(p, &f, e.a);
			add_word(p, &f, (uint64_t)(uint32_t)e.min << 32 | (uint32_t)e.max);
			break;
		default:
			break;
		}
		p->depth--;
		return f;
	}
}

bool store_fingerprint(const struct store *s, const struct exprs *x, uint32_t expr, uint64_t salt,
	struct fingerprint *out) {
	struct print p = { .x = x, .seed = s->seed };
	*out = print_of(&p, expr);
	add_word(&p, out, salt);
	return p.n_looks <= MAX_LOOKS;
}

/* ---- the table ---- */

/* The slot of a key, or the free one where it would be. */
static uint32_t *slot_of(const struct store *s, struct fingerprint key) {
	uint32_t at = (uint32_t)key.a & (STORE_SLOTS - 1);
	while (s->slots[at] != 0 && (s->entries[s->slots[at] - 1].key.a != key.a ||
		s->entries[s->slots[at] - 1].key.b != key.b)) {
		at = (at + 1) & (STORE_SLOTS - 1);
	}
	return &s->slots[at];
}

static bool find(struct store *s, struct fingerprint key, struct store_entry *out) {
	pthread_mutex_lock(&s->lock);
	const uint32_t slot = *slot_of(s, key);
	if (slot != 0) {
		*out = s->entries[slot - 1];
	}
	pthread_mutex_unlock(&s->lock);
	return slot != 0;
}

bool store_find_head(struct store *s, struct fingerprint key, struct head *out) {
	struct store_entry found;
	if (!find(s, key, &found)) {
		return false;
	}
	*out = found.head;
	return true;
}

bool store_find_family(struct store *s, struct fingerprint key, struct count_family *out) {
	struct store_entry found;
	if (!find(s, key, &found)) {
		return false;
	}
	*out = found.family;
	return true;
}

/* Is there room? Without memory it isn't kept, which is no error. */
static bool add(struct store *s, const struct store_entry *e, size_t bytes) {
	pthread_mutex_lock(&s->lock);
	uint32_t *const slot = slot_of(s, e->key);
	bool ok = *slot == 0 && s->n < MAX_ENTRIES && s->bytes + bytes <= MAX_BYTES;
	if (ok && s->n == s->cap) {
		const uint32_t cap = 2 * s->cap + 64;
		struct store_entry *entries = base_realloc(s->entries, cap, sizeof(*entries));
		ok = entries != NULL;
		s->entries = ok ? entries : s->entries;
		s->cap = ok ? cap : s->cap;
	}
	if (ok) {
		s->entries[s->n++] = *e;
		*slot = s->n;
		s->bytes += bytes;
	}
	pthread_mutex_unlock(&s->lock);
	return ok;
}

void store_add_head(struct store *s, struct fingerprint key, struct head *head, size_t bytes) {
	struct store_entry e = { .key = key, .head = *head };
	e.head.is_stored = true;
	head->is_stored = add(s, &e, bytes);
}

void store_add_family(struct store *s, struct fingerprint key, struct count_family *family) {
	struct store_entry e = { .key = key, .family = *family };
	e.family.is_stored = true;
	family->is_stored = add(s, &e, family->bytes);
}
