/* SPDX-License-Identifier: Apache-2.0
 *
 * The prefix cache: the tree, the search for the best context in it, what goes first. A path from
 * a root spells a timeline; edges are stretches of tokens, which lie in the timeline of a kept
 * context below. Children are found by their first token in one hash table, whose chains may grow
 * long where it has no memory, and tokens are always compared. */
#include "prefix.h"

#include "swap.h"

#include <assert.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

struct node {
	struct node *parent;         /* NULL: a root */
	struct node *next;           /* in the bucket */
	struct node *child;          /* the one used last */
	struct node *before, *after; /* siblings */
	struct entry *entry;         /* whose timeline ends here, or NULL */
	struct entry *witness;       /* one that ends here or below: its tokens are those of the edge */
	int end;                     /* tokens from the root to here */
	int32_t first;               /* token of the edge */
	char *salt;                  /* of a root */
};

/* A kept context. */
struct entry {
	struct bb_context *context;
	struct node *node;
	struct node *root;
	char *conversation;           /* or NULL */
	struct entry *next;           /* in the bucket of its conversation */
	struct entry *newer, *older;  /* in its list */
	struct swapped copy;          /* where is_aside, its pages and state */
	bool is_superseded, is_aside;
};

/* By use. */
struct list {
	struct entry *newest, *oldest;
};

struct prefix {
	struct bb_engine *engine;
	size_t max_bytes;
	struct swap_space *space;   /* or NULL */
	struct entry *copied;       /* its copy is being read; or NULL */
	uint64_t seed;              /* of hashes: nobody outside can know what falls together */
	struct node **buckets;      /* [n_buckets] */
	struct entry **conversations; /* [n_buckets] */
	size_t n_buckets, n_nodes;  /* a power of 2 */
	struct list live, superseded;
	struct prefix_stats stats;
};

enum { FIRST_BUCKETS = 64 };

/* ---- hashing ---- */

static uint64_t hash_text(const struct prefix *p, const char *text) {
	return XXH3_64bits_withSeed(text, strlen(text), p->seed);
}

static size_t bucket_of(const struct prefix *p, const struct node *parent, int32_t first) {
	struct { uint64_t parent, first; } key = { (uintptr_t)parent, (uint32_t)first };
	return XXH3_64bits_withSeed(&key, sizeof(key), p->seed) & (p->n_buckets - 1);
}

/* Roots are children of nobody, told apart by their salts. */
static size_t bucket_of_node(const struct prefix *p, const struct node *n) {
	return n->salt != NULL ? hash_text(p, n->salt) & (p->n_buckets - 1)
		: bucket_of(p, n->parent, n->first);
}

static size_t bucket_of_entry(const struct prefix *p, const struct entry *e) {
	return hash_text(p, e->conversation) & (p->n_buckets - 1);
}

static void hash_node(struct prefix *p, struct node *n) {
	struct node **bucket = &p->buckets[bucket_of_node(p, n)];
	n->next = *bucket;
	*bucket = n;
}

static void unhash_node(struct prefix *p, struct node *n) {
	struct node **link = &p->buckets[bucket_of_node(p, n)];
	while (*link != n) {
		link = &(*link)->next;
	}
	*link = n->next;
}

static void hash_entry(struct prefix *p, struct entry *e) {
	struct entry **bucket = &p->conversations[bucket_of_entry(p, e)];
	e->next = *bucket;
	*bucket = e;
}

static void unhash_entry(struct prefix *p, struct entry *e) {
	struct entry **link = &p->conversations[bucket_of_entry(p, e)];
	while (*link != e) {
		link = &(*link)->next;
	}
	*link = e->next;
}

static bool alloc_buckets(struct prefix *p, size_t n) {
	struct node **nodes = base_alloc(n, sizeof(*nodes));
	struct entry **entries = base_alloc(n, sizeof(*entries));
	if (nodes == NULL || entries == NULL) {
		base_free(nodes);
		base_free(entries);
		return false;
	}
	base_free(p->buckets);
	base_free(p->conversations);
	p->buckets = nodes;
	p->conversations = entries;
	p->n_buckets = n;
	return true;
}

/* Doubles the table where it's full, and memory for it can be had. */
static void grow(struct prefix *p) {
	if (p->n_nodes <= p->n_buckets) {
		return;
	}
	struct node *nodes = NULL;
	struct entry *entries = NULL;
	for (size_t i = 0; i < p->n_buckets; i++) { /* one list of all */
		for (struct node *n = p->buckets[i], *next; n != NULL; n = next) {
			next = n->next;
			n->next = nodes;
			nodes = n;
		}
		for (struct entry *e = p->conversations[i], *next; e != NULL; e = next) {
			next = e->next;
			e->next = entries;
			entries = e;
		}
	}
	if (!alloc_buckets(p, 2 * p->n_buckets)) {
		memset(p->buckets, 0, p->n_buckets * sizeof(struct node *));
		memset(p->conversations, 0, p->n_buckets * sizeof(struct entry *));
	}
	for (struct node *n = nodes, *next; n != NULL; n = next) {
		next = n->next;
		hash_node(p, n);
	}
	for (struct entry *e = entries, *next; e != NULL; e = next) {
		next = e->next;
		hash_entry(p, e);
	}
}

static struct node *root_of(const struct prefix *p, const char *salt) {
	struct node *n = p->buckets[hash_text(p, salt) & (p->n_buckets - 1)];
	while (n != NULL && (n->salt == NULL || strcmp(n->salt, salt) != 0)) {
		n = n->next;
	}
	return n;
}

static struct node *child_of(const struct prefix *p, const struct node *parent, int32_t first) {
	struct node *n = p->buckets[bucket_of(p, parent, first)];
	while (n != NULL && (n->parent != parent || n->first != first)) {
		n = n->next;
	}
	return n;
}

/* ---- lists ---- */

static struct list *list_of(struct prefix *p, const struct entry *e) {
	return e->is_superseded ? &p->superseded : &p->live;
}

static void list_add(struct prefix *p, struct entry *e) {
	struct list *l = list_of(p, e);
	e->newer = NULL;
	e->older = l->newest;
	*(l->newest != NULL ? &l->newest->newer : &l->oldest) = e;
	l->newest = e;
	p->stats.n_superseded += e->is_superseded;
}

static void list_remove(struct prefix *p, struct entry *e) {
	struct list *l = list_of(p, e);
	*(e->newer != NULL ? &e->newer->older : &l->newest) = e->older;
	*(e->older != NULL ? &e->older->newer : &l->oldest) = e->newer;
	p->stats.n_superseded -= e->is_superseded;
}

/* It becomes the newest of its list. */
static void list_move(struct prefix *p, struct entry *e, bool is_superseded) {
	list_remove(p, e);
	e->is_superseded = is_superseded;
	list_add(p, e);
}

/* ---- the tree ---- */

static void add_child(struct node *parent, struct node *n) {
	n->parent = parent;
	n->before = NULL;
	n->after = parent->child;
	if (n->after != NULL) {
		n->after->before = n;
	}
	parent->child = n;
}

static void remove_child(struct node *n) {
	*(n->before != NULL ? &n->before->after : &n->parent->child) = n->after;
	if (n->after != NULL) {
		n->after->before = n->before;
	}
}

/* On the way to a root every node becomes the first of its siblings. */
static void use(struct node *n) {
	for (; n->parent != NULL; n = n->parent) {
		if (n->before != NULL) {
			remove_child(n);
			add_child(n->parent, n);
		}
	}
}

/* The deepest node whose edge has some of ids [n] behind its parent's, or the root; *n_common: how
 * far they agree. */
static struct node *descend(const struct prefix *p, struct node *root, const int32_t *ids, int n,
	int *n_common) {
	struct node *at = root;
	int m = 0;
	while (m < n && m == at->end) {
		struct node *child = child_of(p, at, ids[m]);
		if (child == NULL) {
			break;
		}
		const int32_t *edge = bb_context_tokens(child->witness->context);
		const int end = child->end < n ? child->end : n;
		while (m < end && edge[m] == ids[m]) {
			m++;
		}
		at = child;
	}
	*n_common = m;
	return at;
}

/* The node behind n in the tree below top, parents first, what was used last before the rest;
 * without `skip` and what is below it. NULL: there is none. */
static struct node *next_below(struct node *n, const struct node *top, const struct node *skip) {
	struct node *at = n->child;
	at = at != NULL && at == skip ? at->after : at;
	while (at == NULL && n != top) {
		at = n->after;
		at = at != NULL && at == skip ? at->after : at;
		n = n->parent;
	}
	return at;
}

static void free_node(struct prefix *p, struct node *n) {
	base_free(n->salt);
	base_free(n);
	p->n_nodes--;
}

/* A node with neither a context nor two children is none. */
static void prune(struct prefix *p, struct node *n) {
	while (n->entry == NULL && n->child == NULL) {
		struct node *parent = n->parent;
		unhash_node(p, n);
		if (parent == NULL) {
			free_node(p, n);
			return;
		}
		remove_child(n);
		free_node(p, n);
		n = parent;
	}
	struct node *only = n->child;
	if (n->parent == NULL || n->entry != NULL || only == NULL || only->after != NULL) {
		return;
	}
	unhash_node(p, only);
	unhash_node(p, n);
	only->first = n->first;
	remove_child(n);
	add_child(n->parent, only);
	hash_node(p, only);
	free_node(p, n);
}

static void free_entry(struct entry *e) {
	if (e != NULL) {
		base_free(e->conversation);
		base_free(e);
	}
}

/* A context that ends at n or below. The child that was used last may be the one that is being
 * emptied, and has none then. */
static struct entry *witness_of(const struct node *n) {
	const struct node *child = n->child;
	if (n->entry != NULL) {
		return n->entry;
	}
	while (child != NULL && child->witness == NULL) {
		child = child->after;
	}
	return child != NULL ? child->witness : NULL;
}

/* Forgets e and destroys its context. */
static void evict(struct prefix *p, struct entry *e) {
	list_remove(p, e);
	if (e->conversation != NULL) {
		unhash_entry(p, e);
	}
	if (e->node->entry == e) {
		e->node->entry = NULL;
	}
	for (struct node *n = e->node; n->parent != NULL; n = n->parent) {
		if (n->witness == e) {
			n->witness = witness_of(n);
		}
	}
	prune(p, e->node);
	swap_drop(&e->copy);
	p->stats.n_aside -= e->is_aside;
	bb_context_destroy(e->context);
	free_entry(e);
	p->stats.n_contexts--;
}

/* ---- finding ---- */

struct search {
	int n_tries;   /* contexts that may still be looked at */
	int reach;     /* tokens of the best one that can be used */
	struct entry *best;
};

/* What can be used of a context that has n tokens in common with what is wanted. */
static int reach_of(const struct entry *e, int n) {
	const int reach = context_state_reach(e->context, n);
	const bool holds = e->is_aside ? swap_holds(e->context, &e->copy, reach)
		: context_holds(e->context, reach);
	return holds ? reach : 0;
}

/* Looks at contexts at `top` and below that have n tokens in common with what is wanted. */
static void look(struct search *s, struct node *top, const struct node *skip, int n) {
	for (struct node *at = top; at != NULL && s->reach < n && s->n_tries > 0;
		at = next_below(at, top, skip)) {
		const int reach = at->entry != NULL ? reach_of(at->entry, n) : 0;
		if (reach > s->reach) {
			s->reach = reach;
			s->best = at->entry;
		}
		s->n_tries--;
	}
}

/* Where the layers are such that a rewind can go anywhere, the first context that is looked at is
 * the best. Else all that leave the path of ids may have to be tried, from the deepest on: as many
 * as ids are long, so that the time depends on nothing else, those used last before the others. */
static struct search search(const struct node *root, struct node *deepest, int n_common, int n) {
	struct search s = { .n_tries = n + 64 };
	const struct node *done = NULL;
	for (struct node *at = deepest; at != root; at = at->parent) {
		const int common = at == deepest ? n_common : at->end;
		if (common <= s.reach) {
			break;
		}
		look(&s, at, done, common);
		done = at;
	}
	return s;
}

/* What of the cache serves ids best, and how many of them some timeline begins with. */
static struct search search_ids(const struct prefix *p, const char *salt, const int32_t *ids,
	int n, int *n_common) {
	struct node *root = root_of(p, salt != NULL ? salt : "");
	*n_common = 0;
	if (root == NULL) {
		return (struct search){ 0 };
	}
	struct node *deepest = descend(p, root, ids, n, n_common);
	return search(root, deepest, *n_common, n);
}

static struct bb_context *fork_at(struct prefix *p, struct entry *e, int n) {
	struct bb_context *fork, *c = e->context;
	struct bb_error ignored = { 0 };
	if (e->is_aside) {
		p->copied = e;
		prefix_make_room(p, swap_fork_bytes(c, &e->copy, n));
		p->copied = NULL;
		return swap_fork(&fork, c, &e->copy, n, &ignored) ? fork : NULL;
	}
	if (!bb_context_fork(&fork, c, &ignored)) {
		return NULL;
	}
	if (!bb_context_rewind(fork, n, &ignored)) {
		bb_context_destroy(fork);
		return NULL;
	}
	return fork;
}

int prefix_find(struct prefix *p, const char *salt, const int32_t *ids, int n,
	struct bb_context **out) {
	int n_common;
	const struct search s = search_ids(p, salt, ids, n, &n_common);
	*out = NULL;
	p->stats.n_finds++;
	p->stats.n_wanted_tokens += (uint64_t)n;
	if (s.best == NULL) {
		return 0;
	}
	list_move(p, s.best, false); /* room is made at others' cost */
	*out = fork_at(p, s.best, s.reach);
	if (*out == NULL) {
		return 0;
	}
	(*out)->wanted = n_common > s.reach ? n_common : 0;
	use(s.best->node);
	p->stats.n_hits++;
	p->stats.n_found_tokens += (uint64_t)s.reach;
	return s.reach;
}

size_t prefix_apart_bytes(const struct prefix *p, const char *salt, const int32_t *ids, int n) {
	int n_common;
	if (p->stats.n_aside == 0) {
		return 0;
	}
	const struct search s = search_ids(p, salt, ids, n, &n_common);
	return s.best != NULL && s.best->is_aside
		? swap_fork_bytes(s.best->context, &s.best->copy, s.reach) : 0;
}

uint64_t prefix_epoch(const struct prefix *p) {
	return 1 + p->stats.n_kept + p->stats.n_evicted + p->stats.n_put_aside;
}

/* ---- keeping ---- */

void prefix_enter(const struct prefix *p, const char *salt, struct bb_context *c) {
	c->domain = hash_text(p, salt != NULL ? salt : "");
}

/* What it takes to keep a context, had before anything changes. */
struct parts {
	struct entry *entry;
	struct node *root, *leaf, *fork;
};

static void free_parts(struct parts *m) {
	free_entry(m->entry);
	if (m->root != NULL) {
		base_free(m->root->salt);
	}
	base_free(m->root);
	base_free(m->leaf);
	base_free(m->fork);
}

static bool make_parts(struct parts *m, const char *salt, const char *conversation) {
	*m = (struct parts){ base_alloc(1, sizeof(*m->entry)), base_alloc(1, sizeof(*m->root)),
		base_alloc(1, sizeof(*m->leaf)), base_alloc(1, sizeof(*m->fork)) };
	if (m->entry == NULL || m->root == NULL || m->leaf == NULL || m->fork == NULL) {
		return false;
	}
	m->root->salt = base_strdup(salt);
	m->entry->conversation = conversation != NULL ? base_strdup(conversation) : NULL;
	return m->root->salt != NULL && (conversation == NULL || m->entry->conversation != NULL);
}

/* A part goes into the tree. */
static struct node *take(struct prefix *p, struct node **part) {
	struct node *n = *part;
	*part = NULL;
	p->n_nodes++;
	return n;
}

/* The edge to n is cut behind token `at`; returns the node there. */
static struct node *split(struct prefix *p, struct parts *m, struct node *n, int at) {
	struct node *fork = take(p, &m->fork);
	unhash_node(p, n);
	fork->first = n->first;
	fork->end = at;
	fork->witness = n->witness;
	n->first = bb_context_tokens(n->witness->context)[at];
	add_child(n->parent, fork);
	remove_child(n);
	add_child(fork, n);
	hash_node(p, fork);
	hash_node(p, n);
	return fork;
}

/* The node at which the timeline of m->entry ends. */
static struct node *place(struct prefix *p, struct parts *m, struct node *root) {
	const int32_t *ids = bb_context_tokens(m->entry->context);
	const int n = bb_context_length(m->entry->context);
	int n_common;
	struct node *at = descend(p, root, ids, n, &n_common);
	if (n_common < at->end) {
		at = split(p, m, at, n_common);
	}
	if (n_common < n) {
		struct node *leaf = take(p, &m->leaf);
		leaf->first = ids[n_common];
		leaf->end = n;
		add_child(at, leaf);
		hash_node(p, leaf);
		at = leaf;
	}
	return at;
}

/* ---- supersession ---- */

/* The token at which its last turn begins: the last segment with tokens, or those that the model
 * wrote one behind the other. 0: it can't be told. */
static int last_turn(const struct bb_context *c) {
	int i = bb_context_n_segments(c) - 1;
	while (i > 0 && bb_context_segment(c, i).n_tokens == 0) {
		i--;
	}
	for (; i > 0; i--) {
		const enum bb_role role = bb_context_segment(c, i).role,
			before = bb_context_segment(c, i - 1).role;
		if (role != BB_ROLE_ASSISTANT || before != BB_ROLE_THINKING) {
			break;
		}
	}
	return i > 0 ? bb_context_segment(c, i).first : 0;
}

/* Whether a newer context that has n tokens in common with e, and goes on, takes its place. */
static bool replaces(const struct entry *newer, const struct entry *e, int n) {
	const int turn = last_turn(e->context);
	const bool may = newer->conversation == NULL || e->conversation == NULL;
	return may && (bb_context_length(e->context) == n || (turn > 0 && turn <= n));
}

/* Its checkpoints go at once: the one that took its place has those of what they share, and room
 * for checkpoints is scarce. */
static void step_back(struct prefix *p, struct entry *e) {
	context_state_forget(e->context);
	list_move(p, e, true);
}

static void supersede(struct prefix *p, struct entry *e) {
	if (e->conversation != NULL) {
		struct entry *o = p->conversations[bucket_of_entry(p, e)];
		for (; o != NULL; o = o->next) {
			if (o != e && o->root == e->root && !o->is_superseded &&
				strcmp(o->conversation, e->conversation) == 0) {
				step_back(p, o);
			}
		}
	}
	int n_tries = bb_context_length(e->context) + 64;
	const struct node *done = e->node;
	for (struct node *top = e->node->parent; top->parent != NULL && n_tries > 0;
		top = top->parent) {
		for (struct node *n = top; n != NULL && n_tries > 0; n = next_below(n, top, done)) {
			if (n->entry != NULL && !n->entry->is_superseded && replaces(e, n->entry, top->end)) {
				step_back(p, n->entry);
			}
			n_tries--;
		}
		done = top;
	}
}

/* ---- what is evicted ---- */

/* What evicting it gives back, of memory that the limit counts: of a copy the checkpoints alone,
 * which aren't copied. */
static size_t held_by(const struct entry *e) {
	return context_alone_bytes(e->context);
}

static size_t held_inside(const struct entry *e) {
	return e->is_aside ? 0 : held_by(e);
}

/* The host's memory too. */
static size_t bytes_of(const struct entry *e) {
	return held_by(e) + e->copy.bytes;
}

/* What others could have of it: of pages and of the state that it goes on from. */
static size_t live_of(const struct entry *e) {
	const struct state *s = e->context->state;
	return context_alone_page_bytes(e->context) +
		(s != NULL && state_n_live(s) == 1 ? e->context->engine->states.bytes : 0);
}

/* Of those that aren't superseded the one not used for the longest time such that something is
 * gained: what a running context shares would only be lost for others. NULL: there is none. */
static struct entry *oldest_with(const struct prefix *p, size_t (*gain)(const struct entry *e)) {
	struct entry *e = p->live.oldest;
	while (e != NULL && gain(e) == 0) {
		e = e->newer;
	}
	return e;
}

static void drop(struct prefix *p, struct entry *e) {
	evict(p, e);
	p->stats.n_evicted++;
}

size_t prefix_trim(struct prefix *p, size_t bytes) {
	size_t freed = 0;
	while (freed < bytes) {
		struct entry *e = p->superseded.oldest;
		e = e != NULL ? e : oldest_with(p, bytes_of);
		if (e == NULL) {
			break;
		}
		freed += bytes_of(e);
		drop(p, e);
	}
	return freed;
}

static struct entry *oldest_aside(const struct prefix *p, const struct list *l) {
	struct entry *e = l->oldest;
	while (e != NULL && (e->copy.bytes == 0 || e == p->copied)) {
		e = e->newer;
	}
	return e;
}

void prefix_make_space(struct prefix *p, size_t bytes) {
	if (p->space == NULL || bytes > p->space->max_bytes) {
		return; /* all would go, and for nothing */
	}
	while (bytes > p->space->max_bytes - p->space->used_bytes) {
		struct entry *e = oldest_aside(p, &p->superseded);
		e = e != NULL ? e : oldest_aside(p, &p->live);
		if (e == NULL) {
			return;
		}
		drop(p, e);
	}
}

/* e gives back its pages and state, for a copy of which there may be room, else all that it has. */
static void set_aside(struct prefix *p, struct entry *e) {
	struct bb_error ignored = { 0 };
	const size_t bytes = swap_bytes(e->context);
	prefix_make_space(p, bytes);
	if (p->space == NULL || bytes > p->space->max_bytes - p->space->used_bytes ||
		!swap_out(e->context, p->space, &e->copy, &ignored)) {
		drop(p, e);
		return;
	}
	e->is_aside = true;
	p->stats.n_aside++;
	p->stats.n_put_aside++;
}

void prefix_make_room(struct prefix *p, size_t bytes) {
	const size_t max = p->engine->budget.max_bytes;
	while (max > 0 && engine_used_bytes(p->engine).live + bytes > max) {
		struct entry *e = p->superseded.oldest;
		if (e != NULL) {
			drop(p, e);
		} else if ((e = oldest_with(p, live_of)) != NULL) {
			set_aside(p, e);
		} else {
			return;
		}
	}
}

/* Gives back what is over the limit: checkpoints, which aren't put aside, last. */
static void fit(struct prefix *p) {
	while (engine_kept_bytes(p->engine).all > p->max_bytes) {
		struct entry *e = p->superseded.oldest;
		if (e == NULL && (e = oldest_with(p, held_inside)) != NULL) {
			set_aside(p, e);
		} else if (e != NULL || (e = oldest_with(p, held_by)) != NULL) {
			drop(p, e);
		} else {
			return;
		}
	}
}

/* What the context held for its next steps is given back; false where it's none to keep. */
static bool settle(struct prefix *p, struct bb_context *c) {
	struct bb_error ignored = { 0 };
	const struct bb_engine *e = p->engine;
	const int n = bb_context_length(c);
	return n > 0 && c->kv_type == e->kv_type && c->max_len == e->max_len && !c->is_lost &&
		bb_context_rewind(c, n, &ignored);
}

void prefix_keep(struct prefix *p, const char *salt, const char *conversation,
	struct bb_context *c) {
	struct parts m = { 0 };
	assert(c->engine == p->engine && !c->is_kept);
	salt = salt != NULL ? salt : "";
	if (!settle(p, c) || !make_parts(&m, salt, conversation)) {
		free_parts(&m);
		bb_context_destroy(c);
		return;
	}
	struct entry *e = m.entry;
	struct node *root = root_of(p, salt);
	if (root == NULL) {
		root = take(p, &m.root);
		hash_node(p, root);
	}
	e->context = c;
	e->root = root;
	e->node = place(p, &m, root);
	m.entry = NULL;
	context_keep(c);
	c->wanted = 0;
	prefix_enter(p, salt, c);
	struct entry *same = e->node->entry;
	e->node->entry = e;
	e->node->witness = e;
	list_add(p, e);
	if (conversation != NULL) {
		hash_entry(p, e);
	}
	p->stats.n_contexts++;
	p->stats.n_kept++;
	free_parts(&m);
	if (same != NULL) {
		evict(p, same);
	}
	grow(p);
	use(e->node);
	supersede(p, e);
	fit(p);
}

/* ---- the cache ---- */

bool prefix_create(struct prefix **out, struct bb_engine *e, size_t max_bytes,
	struct swap_space *space, struct bb_error *err) {
	struct prefix *p = base_alloc(1, sizeof(*p));
	*out = NULL;
	if (p == NULL || !alloc_buckets(p, FIRST_BUCKETS)) {
		base_free(p);
		return base_no_memory(err, "prefix cache", sizeof(*p));
	}
	p->engine = e;
	p->max_bytes = max_bytes;
	p->space = space;
	p->seed = bb_random_seed();
	*out = p;
	return true;
}

void prefix_destroy(struct prefix *p) {
	if (p == NULL) {
		return;
	}
	while (p->superseded.oldest != NULL || p->live.oldest != NULL) {
		evict(p, p->superseded.oldest != NULL ? p->superseded.oldest : p->live.oldest);
	}
	base_free(p->buckets);
	base_free(p->conversations);
	base_free(p);
}

void prefix_stats(const struct prefix *p, struct prefix_stats *out) {
	*out = p->stats;
	out->bytes = engine_kept_bytes(p->engine).all;
	out->max_bytes = p->max_bytes;
}
