/* SPDX-License-Identifier: Apache-2.0
 *
 * Snapshots: a context in one file, with its tokens, segments, pages, state and checkpoints. All
 * numbers are little-endian; the last 8 bytes are XXH3-64 of what is before them. Pages lie as the
 * engine that wrote them had them, so that one like it only copies: the file names their layout,
 * and another engine stores their values anew. Slots without a token are zero: what another
 * context left in a page's memory isn't written. */
#include "aside.h"
#include "engine.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "numbers go to files as they are");

static const char magic[8] = "BBSNAP\r\n";
enum { VERSION = 1, HASH_BYTES = sizeof(XXH64_hash_t), VECTOR = -2 };

/* The beginning of the file. Then: vectors [n_vectors, width] f32, ids [n_tokens] i32, in which a
 * VECTOR stands for the next vector, segments, checkpoints, states [n_states],
 * the pages of each kind of layer, the hash. State i is that of checkpoint i; the context's own,
 * own_state, is the last one, which may be a checkpoint's too; -1: it has none. */
struct head {
	char magic[8];
	uint32_t version, kv_type, kv_group, n_tokens, n_segments, n_checkpoints, n_states, n_kinds;
	int32_t own_state;
	uint32_t n_vectors;
	uint64_t model, state_bytes;
	char layout[16];       /* of pages */
	char made_by[112];     /* what has to be the same for the same bits */
	struct {
		uint32_t first_page, n_pages;
		uint64_t page_bytes;
	} kinds[MAX_LAYER_KINDS];
};
static_assert(sizeof(struct head) == 256, "the head of a snapshot has no padding");

struct stored_segment {
	uint32_t role, first;
};

struct stored_checkpoint {
	uint32_t n_tokens, kind;
};

/* ---- which model, and by what ---- */

/* Of a tensor its name, type and shape, and of its data the first, the middle and the last bytes:
 * all of it would be read from the disk again. */
static void hash_tensor(XXH3_state_t *h, const struct bb_tensor *t) {
	enum { PART = 4096 };
	const int32_t type = t->type;
	const size_t part = t->bytes < PART ? t->bytes : PART;
	const uint8_t *data = t->data;
	XXH3_64bits_update(h, t->name, strlen(t->name) + 1);
	XXH3_64bits_update(h, &type, sizeof(type));
	XXH3_64bits_update(h, t->dims, sizeof(t->dims));
	XXH3_64bits_update(h, data, part);
	XXH3_64bits_update(h, data + (t->bytes - part) / 2, part);
	XXH3_64bits_update(h, data + t->bytes - part, part);
}

/* Of the tensors, of the numbers that the file gives or that were asked for instead, and of what
 * kinds the layers are. */
static uint64_t hash_model(const struct bb_engine *e) {
	const struct bb_hparams *hp = &e->plan.hp;
	XXH3_state_t h;
	XXH3_64bits_reset(&h);
	XXH3_64bits_update(&h, e->model->name, strlen(e->model->name) + 1);
	for (size_t i = 0; i < e->file.n_tensors; i++) {
		hash_tensor(&h, &e->file.tensors[i]);
	}
	for (int i = 0; i < H_COUNT; i++) {
		if (hp->given[i]) {
			XXH3_64bits_update(&h, hparam_name(i), strlen(hparam_name(i)) + 1);
			XXH3_64bits_update(&h, &hp->v[i], sizeof(hp->v[i]));
		}
	}
	const int32_t scaling = hp->rope_scaling;
	XXH3_64bits_update(&h, &scaling, sizeof(scaling));
	XXH3_64bits_update(&h, e->plan.layer_kind, (size_t)e->plan.n_layers * sizeof(int));
	for (int i = 0; i < e->plan.n_paged; i++) {
		const int32_t window = e->plan.kinds[i].window;
		XXH3_64bits_update(&h, &window, sizeof(window));
	}
	return XXH3_64bits_digest(&h);
}

/* Once: its tensors lie all over the file. */
static uint64_t model_hash(struct bb_engine *e) {
	e->model_hash = e->model_hash != 0 ? e->model_hash : hash_model(e);
	return e->model_hash;
}

static const struct bb_kv_layout *find_layout(const char *name) {
	static const struct bb_kv_layout *const all[] = {
		&layout_kv_rows, &layout_kv_lanes, &layout_kv_pairs, &layout_kv_padded_rows,
	};
	for (size_t i = 0; i < COUNT(all); i++) {
		if (strcmp(all[i]->name, name) == 0) {
			return all[i];
		}
	}
	return NULL;
}

/* Slabs that make a page of a kind of layer, one for each layer and kv head. */
static int n_slabs(const struct bb_engine *e, int i_kind) {
	return e->plan.kinds[i_kind].n_layers * hparam_int(&e->plan.hp, H_KV_HEADS);
}

static uint32_t n_pages_of(uint32_t n_tokens) {
	return n_tokens / BB_PAGE + (n_tokens % BB_PAGE != 0);
}

/* The head of what c would be stored as, complete but for counts of segments and checkpoints. */
static void head_init(struct head *h, const struct bb_context *c) {
	struct bb_engine *e = c->engine;
	memset(h, 0, sizeof(*h));
	memcpy(h->magic, magic, sizeof(magic));
	h->version = VERSION;
	h->kv_type = c->kv_type;
	h->kv_group = (uint32_t)e->kv_group;
	h->n_tokens = (uint32_t)bb_context_length(c);
	h->n_vectors = (uint32_t)vectors_count(bb_context_tokens(c), (size_t)h->n_tokens);
	h->n_kinds = (uint32_t)e->plan.n_paged;
	h->own_state = -1;
	h->model = model_hash(e);
	h->state_bytes = e->states.bytes;
	snprintf(h->layout, sizeof(h->layout), "%s",
		e->plan.n_paged > 0 ? engine_kv_layout(e, c->kv_type)->name : "");
	snprintf(h->made_by, sizeof(h->made_by), "bobbin %s, %.8s, %.64s, %s%s", BB_VERSION,
		device_kind(&e->memory.device), e->memory.device.module != NULL ? e->device.name : e->isa,
		e->is_fast ? "fast" : e->is_wgmma ? "wgmma" : "exact",
		e->kept_states == &e->states ? "" : ", int8");
	for (int i = 0; i < e->plan.n_paged; i++) {
		if (n_slabs(e, i) > 0) {
			h->kinds[i].first_page = (uint32_t)c->tables[i].first_page;
			h->kinds[i].n_pages = n_pages_of(h->n_tokens) - h->kinds[i].first_page;
			h->kinds[i].page_bytes = c->tables[i].pool->page_bytes;
		}
	}
}

/* ---- writing ---- */

struct sink {
	struct aside file;
	XXH3_state_t hash;
	struct bb_error *err;
};

static bool put(struct sink *s, const void *data, size_t bytes) {
	XXH3_64bits_update(&s->hash, data, bytes);
	return aside_write(&s->file, data, bytes);
}

/* `data` is where steps compute; `room` [bytes] is for a device's. */
static bool put_from(struct sink *s, const struct memory *m, const void *data, size_t bytes,
	void *room) {
	if (memory_is_host(m)) {
		return put(s, data, bytes);
	}
	memory_out(m, room, data, bytes);
	return memory_wait(m, s->err) && put(s, room, bytes);
}

/* The n tokens of n_parts slabs in `page`, in layout `from`, into the same slots of `to`. */
static void move_slots(uint8_t *to, const struct bb_kv_layout *to_layout, int to_group,
	const uint8_t *page, const struct bb_kv_layout *from, int from_group, enum bb_kv_dtype type,
	int head_dim, int n_parts, int n) {
	const size_t to_bytes = to_layout->slab_bytes(type, head_dim, to_group);
	const size_t from_bytes = from->slab_bytes(type, head_dim, from_group);
	float k[BB_MAX_HEAD_DIM], v[BB_MAX_HEAD_DIM];
	for (int i = 0; i < n_parts * n; i++) {
		uint8_t *dst = to + (size_t)(i / n) * to_bytes;
		const uint8_t *src = page + (size_t)(i / n) * from_bytes;
		if (strcmp(to_layout->name, from->name) == 0 && to_group == from_group) {
			from->copy(dst, i % n, src, i % n, type, head_dim, to_group);
		} else {
			from->read(src, type, head_dim, from_group, i % n, k, v);
			to_layout->append(dst, type, head_dim, to_group, i % n, k, v);
		}
	}
}

static bool put_pages(struct sink *s, const struct bb_context *c, int i_kind, uint8_t *room) {
	const struct bb_engine *e = c->engine;
	const struct kv_table *t = &c->tables[i_kind];
	const size_t bytes = t->pool->page_bytes;
	const int n_full = bb_context_length(c) / BB_PAGE, rest = bb_context_length(c) % BB_PAGE;
	bool ok = true;
	if (bytes == 0) { /* no layer is of this kind */
		return true;
	}
	for (int i = t->first_page; ok && i < n_full; i++) {
		ok = put_from(s, &e->memory, kv_page(t, i), bytes, room);
	}
	if (!ok || rest == 0) {
		return ok;
	}
	uint8_t *const last = room + bytes;
	memory_out(&e->memory, room, kv_page(t, n_full), bytes);
	if (!memory_wait(&e->memory, s->err)) {
		return false;
	}
	memset(last, 0, bytes);
	const struct bb_kv_layout *layout = engine_kv_layout(e, c->kv_type);
	move_slots(last, layout, e->kv_group, room, layout, e->kv_group, c->kv_type,
		hparam_int(&e->plan.hp, H_HEAD), n_slabs(e, i_kind), rest);
	return put(s, last, bytes);
}

/* Segments that were begun: tokens before the first of them are one that nobody began. */
static int first_begun(const struct bb_context *c) {
	return bb_context_n_segments(c) > 0 && bb_context_segment(c, 0).role == BB_ROLE_NONE;
}

static size_t vector_bytes(const struct bb_engine *e) {
	return (size_t)hparam_int(&e->plan.hp, H_EMBD) * sizeof(float);
}

/* Vectors, then ids. `room`: for a vector. */
static bool put_ids(struct sink *s, const struct bb_context *c, void *room) {
	const int32_t *ids = bb_context_tokens(c);
	const int n = bb_context_length(c);
	bool ok = true;
	for (int i = 0; ok && i < n; i++) {
		if (vectors_is(ids[i])) {
			vectors_read(c->engine->vectors, &ids[i], 1, room);
			ok = put(s, room, vector_bytes(c->engine));
		}
	}
	for (int i = 0, end; ok && i < n; i = end) {
		const int32_t vector = VECTOR;
		for (end = i; end < n && !vectors_is(ids[end]); end++) {
		}
		ok = put(s, ids + i, (size_t)(end - i) * sizeof(*ids));
		if (ok && end < n) {
			ok = put(s, &vector, sizeof(vector));
			end++;
		}
	}
	return ok;
}

static bool put_timeline(struct sink *s, const struct bb_context *c, void *room) {
	bool ok = put_ids(s, c, room);
	for (int i = first_begun(c); ok && i < bb_context_n_segments(c); i++) {
		const struct bb_segment segment = bb_context_segment(c, i);
		const struct stored_segment stored = { segment.role, (uint32_t)segment.first };
		ok = put(s, &stored, sizeof(stored));
	}
	for (int i = 0; ok && i < c->checkpoints.n; i++) {
		const struct checkpoint *k = &c->checkpoints.items[i];
		const struct stored_checkpoint stored = { (uint32_t)k->n_tokens, k->kind };
		ok = put(s, &stored, sizeof(stored));
	}
	return ok;
}

/* Room for two pages of any kind, for a state, and for a vector. */
static size_t room_bytes(const struct bb_engine *e, const struct head *h) {
	size_t most = h->state_bytes > vector_bytes(e) ? h->state_bytes : vector_bytes(e);
	for (uint32_t i = 0; i < h->n_kinds; i++) {
		most = 2 * h->kinds[i].page_bytes > most ? 2 * h->kinds[i].page_bytes : most;
	}
	return most;
}

/* As a state of f32, whatever it's kept in. */
static bool put_checkpoint(struct sink *s, struct bb_context *c, struct state *kept, void *room) {
	struct bb_engine *e = c->engine;
	if (e->kept_states == &e->states) {
		return put_from(s, &e->memory, kept->data, e->states.bytes, room);
	}
	struct state *state = state_take(&e->states, false, s->err);
	if (state == NULL) {
		return false;
	}
	engine_unpack_state(e, state, kept);
	const bool ok = put_from(s, &e->memory, state->data, e->states.bytes, room);
	state_unref(&e->states, state);
	return ok;
}

static bool put_all(struct sink *s, struct bb_context *c) {
	const struct bb_engine *e = c->engine;
	const struct checkpoints *k = &c->checkpoints;
	struct head h;
	head_init(&h, c);
	h.n_segments = (uint32_t)(bb_context_n_segments(c) - first_begun(c));
	h.n_checkpoints = (uint32_t)k->n;
	const bool is_kept = k->n > 0 && k->items[k->n - 1].state == c->state;
	h.n_states = h.n_checkpoints + (c->state != NULL && !is_kept);
	h.own_state = c->state != NULL ? (int32_t)h.n_states - 1 : -1;
	uint8_t *room = base_alloc(room_bytes(e, &h), 1);
	if (room == NULL) {
		return base_no_memory(s->err, "snapshot", room_bytes(e, &h));
	}
	XXH3_64bits_reset(&s->hash);
	bool ok = put(s, &h, sizeof(h)) && put_timeline(s, c, room);
	for (uint32_t i = 0; ok && i < h.n_states; i++) {
		ok = i < h.n_checkpoints ? put_checkpoint(s, c, k->items[i].state, room)
			: put_from(s, &e->memory, c->state->data, h.state_bytes, room);
	}
	for (int i = 0; ok && i < e->plan.n_paged; i++) {
		ok = put_pages(s, c, i, room);
	}
	base_free(room);
	const XXH64_hash_t hash = XXH3_64bits_digest(&s->hash);
	return ok && put(s, &hash, sizeof(hash));
}

bool bb_context_save(struct bb_context *c, const char *path, struct bb_error *err) {
	struct sink s = { .err = err };
	context_drop_ahead(c);
	return context_state_check(c, err) && aside_open(&s.file, path, 0600, err) &&
		aside_close(&s.file, put_all(&s, c));
}

/* ---- reading ---- */

struct source {
	int fd;
	const char *path;
	struct bb_error *err;
};

static bool damaged(const struct source *s, const char *what) {
	return base_fail(s->err, BB_ERR_FORMAT, "%.150s: a damaged snapshot: %s", s->path, what);
}

static bool get(struct source *s, void *data, size_t bytes) {
	uint8_t *p = data;
	for (size_t left = bytes; left > 0;) {
		const ssize_t n = read(s->fd, p, left);
		if (n < 0 && errno != EINTR) {
			return base_fail(s->err, BB_ERR_IO, "%.150s: can't be read: %s", s->path,
				strerror(errno));
		}
		if (n == 0) {
			return damaged(s, "it ends early");
		}
		p += n > 0 ? n : 0;
		left -= n > 0 ? (size_t)n : 0;
	}
	return true;
}

/* Before anything is made of it: a damaged file costs no other context its checkpoints. */
static bool check_hash(struct source *s, uint64_t size) {
	enum { PIECE = 1 << 16 };
	XXH64_hash_t stored;
	XXH3_state_t hash;
	uint8_t *piece = base_alloc(PIECE, 1);
	if (piece == NULL) {
		return base_no_memory(s->err, "snapshot", PIECE);
	}
	XXH3_64bits_reset(&hash);
	bool ok = true;
	for (uint64_t left = size - HASH_BYTES; ok && left > 0;) {
		const size_t n = left < PIECE ? (size_t)left : PIECE;
		ok = get(s, piece, n);
		XXH3_64bits_update(&hash, piece, n);
		left -= n;
	}
	base_free(piece);
	ok = ok && get(s, &stored, sizeof(stored));
	if (ok && stored != XXH3_64bits_digest(&hash)) {
		return damaged(s, "its checksum isn't that of its bytes");
	}
	return ok && (lseek(s->fd, 0, SEEK_SET) == 0 || base_fail(s->err, BB_ERR_IO,
		"%.150s: can't be read: %s", s->path, strerror(errno)));
}

/* As get, to where steps compute; `room` [bytes] is for a device's. */
static bool get_to(struct source *s, const struct memory *m, void *data, size_t bytes, void *room) {
	if (memory_is_host(m)) {
		return get(s, data, bytes);
	}
	if (!get(s, room, bytes)) {
		return false;
	}
	memory_in(m, data, room, bytes);
	return memory_wait(m, s->err); /* room is used again */
}

/* Whether the parts that the head tells of make the file's size. None is believed before. */
static bool is_size(const struct bb_engine *e, const struct head *h, uint64_t size) {
	uint64_t want = sizeof(*h) + HASH_BYTES + (uint64_t)h->n_tokens * sizeof(int32_t) +
		(uint64_t)h->n_segments * sizeof(struct stored_segment) +
		(uint64_t)h->n_checkpoints * sizeof(struct stored_checkpoint);
	uint64_t bytes = 0;
	if (__builtin_mul_overflow((uint64_t)h->n_vectors, vector_bytes(e), &bytes) ||
		__builtin_add_overflow(want, bytes, &want) ||
		__builtin_mul_overflow((uint64_t)h->n_states, h->state_bytes, &bytes) ||
		__builtin_add_overflow(want, bytes, &want)) {
		return false;
	}
	for (uint32_t i = 0; i < h->n_kinds; i++) {
		if (__builtin_mul_overflow((uint64_t)h->kinds[i].n_pages, h->kinds[i].page_bytes, &bytes) ||
			__builtin_add_overflow(want, bytes, &want)) {
			return false;
		}
	}
	return want == size;
}

/* What must be as this engine has it, and what follows from other numbers of the head. */
static bool check_head(const struct source *s, struct bb_engine *e, const struct head *h,
	uint64_t size) {
	if (memcmp(h->magic, magic, sizeof(magic)) != 0) {
		return base_fail(s->err, BB_ERR_FORMAT, "%.150s: not a snapshot of a context", s->path);
	}
	if (h->version != VERSION) {
		return base_fail(s->err, BB_ERR_UNSUPPORTED, "%.150s: a snapshot of version %u; this build "
			"reads version %d", s->path, (unsigned)h->version, VERSION);
	}
	if (h->model != model_hash(e)) {
		return base_fail(s->err, BB_ERR_UNSUPPORTED, "%.150s: a context of another model, or of "
			"this one with another window", s->path);
	}
	const bool is_pages = h->n_kinds == (uint32_t)e->plan.n_paged && h->kv_type < N_KV_TYPES &&
		h->kv_group <= BB_MAX_HEAD_DIM && memchr(h->layout, 0, sizeof(h->layout)) != NULL &&
		memchr(h->made_by, 0, sizeof(h->made_by)) != NULL;
	if (!is_pages || !is_size(e, h, size) || h->n_vectors > h->n_tokens) {
		return damaged(s, "its size isn't that of what it tells of");
	}
	if (h->n_tokens > (uint32_t)e->max_len) {
		return base_fail(s->err, BB_ERR_CONTEXT, "%.150s: %u tokens, and contexts hold at most %d "
			"here", s->path, (unsigned)h->n_tokens, e->max_len);
	}
	const struct bb_kv_layout *layout = find_layout(h->layout);
	if (h->n_kinds > 0 && layout == NULL) {
		return base_fail(s->err, BB_ERR_UNSUPPORTED, "%.150s: its pages are laid out in a way that "
			"this build doesn't know", s->path);
	}
	for (int i = 0; i < e->plan.n_paged; i++) {
		const size_t slab = layout->slab_bytes((enum bb_kv_dtype)h->kv_type,
			hparam_int(&e->plan.hp, H_HEAD), (int)h->kv_group);
		const uint32_t n_pages = n_slabs(e, i) > 0 ? n_pages_of(h->n_tokens) : 0;
		if (h->kinds[i].page_bytes != (size_t)n_slabs(e, i) * slab ||
			h->kinds[i].first_page > n_pages ||
			h->kinds[i].n_pages != n_pages - h->kinds[i].first_page) {
			return damaged(s, "its pages don't fit its tokens");
		}
	}
	/* every checkpoint has a state, and the last token */
	const bool has_state = e->states.bytes > 0 && h->n_tokens > 0;
	const uint32_t n_others = has_state && h->n_states > 0 ? h->n_states - 1 : 0;
	const bool is_states = h->state_bytes == e->states.bytes && n_others <= h->n_tokens &&
		h->own_state == (has_state ? (int32_t)n_others : -1) &&
		h->n_states == n_others + has_state &&
		(h->n_checkpoints == n_others || h->n_checkpoints == h->n_states);
	return is_states || damaged(s, "its states don't fit its tokens");
}

/* Ids of the file's vectors, in its order, to ids [n_vectors], each with a reference; *n: how many
 * have one. `room`: for a vector. */
static bool get_vectors(struct source *s, struct bb_engine *e, const struct head *h, void *room,
	int32_t *ids, uint32_t *n) {
	for (*n = 0; *n < h->n_vectors; (*n)++) {
		if (!get(s, room, vector_bytes(e)) ||
			!vectors_take(e->vectors, room, 1, &ids[*n], s->err)) {
			return false;
		}
	}
	return true;
}

/* Ids of the file, in which the vectors come in their order. */
static bool get_ids(struct source *s, struct bb_context *c, const struct head *h,
	const int32_t *vectors) {
	enum { PIECE = 1024 };
	int32_t ids[PIECE];
	uint32_t n_found = 0;
	for (uint32_t i = 0, n; i < h->n_tokens; i += n) {
		n = h->n_tokens - i < PIECE ? h->n_tokens - i : PIECE;
		struct bb_error ignored = { 0 };
		if (!get(s, ids, n * sizeof(*ids))) {
			return false;
		}
		for (uint32_t k = 0; k < n; k++) {
			const bool is_vector = ids[k] == VECTOR && n_found < h->n_vectors;
			if (vectors_is(ids[k]) && !is_vector) {
				return damaged(s, "its vectors don't fit its tokens");
			}
			ids[k] = is_vector ? vectors[n_found++] : ids[k];
		}
		if (!engine_check_ids(c->engine, ids, n, &ignored)) {
			return damaged(s, "a token isn't of the vocabulary");
		}
		if (!timeline_reserve_vectors(&c->timeline, ids, (int)n, s->err)) {
			return false;
		}
		timeline_append(&c->timeline, ids, (int)n);
	}
	return n_found == h->n_vectors || damaged(s, "its vectors don't fit its tokens");
}

static bool get_tokens(struct source *s, struct bb_context *c, const struct head *h, void *room) {
	struct bb_engine *e = c->engine;
	uint32_t n = 0;
	int32_t *vectors = base_alloc(h->n_vectors, sizeof(*vectors));
	if (vectors == NULL) {
		return base_no_memory(s->err, "vectors", h->n_vectors * sizeof(*vectors));
	}
	const bool ok = timeline_reserve(&c->timeline, (int)h->n_tokens, s->err) &&
		get_vectors(s, e, h, room, vectors, &n) && get_ids(s, c, h, vectors);
	vectors_unref(e->vectors, vectors, n);
	base_free(vectors);
	return ok;
}

static bool get_timeline(struct source *s, struct bb_context *c, const struct head *h,
	void *room) {
	if (!get_tokens(s, c, h, room)) {
		return false;
	}
	int64_t before = -1;
	for (uint32_t i = 0; i < h->n_segments; i++) {
		struct stored_segment segment;
		if (!get(s, &segment, sizeof(segment))) {
			return false;
		}
		if (segment.role > BB_ROLE_TOOL || segment.first > h->n_tokens || segment.first <= before) {
			return damaged(s, "its segments don't fit its tokens");
		}
		before = segment.first;
		if (!timeline_begin(&c->timeline, (int)segment.first, (enum bb_role)segment.role, s->err)) {
			return false;
		}
	}
	return true;
}

static bool get_states(struct source *s, struct bb_context *c, const struct head *h,
	const struct stored_checkpoint *k, void *room) {
	const struct memory *m = &c->engine->memory;
	for (uint32_t i = 0; i < h->n_states; i++) {
		struct state *state = state_take(&c->engine->states, false, s->err);
		if (state == NULL) {
			return false;
		}
		bool ok = get_to(s, m, state->data, h->state_bytes, room) && (i >= h->n_checkpoints ||
			context_state_keep(c, (int)k[i].n_tokens, (enum checkpoint_kind)k[i].kind, state,
				s->err));
		if (ok && (int32_t)i == h->own_state) {
			c->state = state; /* with this reference */
		} else {
			state_unref(&c->engine->states, state);
		}
		if (!ok) {
			return false;
		}
	}
	return true;
}

/* The records of checkpoints, then all states. */
static bool get_checkpoints(struct source *s, struct bb_context *c, const struct head *h,
	void *room) {
	struct stored_checkpoint *k = base_alloc(h->n_checkpoints, sizeof(*k));
	if (k == NULL) {
		return base_no_memory(s->err, "checkpoints", h->n_checkpoints * sizeof(*k));
	}
	bool ok = get(s, k, h->n_checkpoints * sizeof(*k));
	uint32_t before = 0;
	for (uint32_t i = 0; ok && i < h->n_checkpoints; i++) {
		if (k[i].n_tokens <= before || k[i].n_tokens > h->n_tokens ||
			k[i].kind >= N_CHECKPOINT_KINDS) {
			ok = damaged(s, "its checkpoints don't fit its tokens");
		}
		before = k[i].n_tokens;
	}
	const bool is_last = h->n_checkpoints > 0 && before == h->n_tokens;
	if (ok && h->own_state >= 0 && h->n_states == h->n_checkpoints && !is_last) {
		ok = damaged(s, "its states don't fit its checkpoints");
	}
	ok = ok && get_states(s, c, h, k, room);
	base_free(k);
	return ok;
}

static bool get_pages(struct source *s, struct bb_context *c, const struct head *h, int i_kind,
	uint8_t *room) {
	const struct bb_engine *e = c->engine;
	struct kv_table *t = &c->tables[i_kind];
	const struct bb_kv_layout *from = find_layout(h->layout), *to = engine_kv_layout(e, c->kv_type);
	const size_t bytes = h->kinds[i_kind].page_bytes;
	const int end = (int)(h->kinds[i_kind].first_page + h->kinds[i_kind].n_pages);
	if (!kv_restore(t, (int)h->kinds[i_kind].first_page, end, s->err)) {
		return false;
	}
	const bool is_same = strcmp(from->name, to->name) == 0 && (int)h->kv_group == e->kv_group;
	uint8_t *const moved = room + bytes;
	for (int i = t->first_page; i < end; i++) {
		if (!get_to(s, is_same ? &e->memory : &(struct memory){ 0 }, is_same ? kv_page(t, i) : room,
				bytes, room)) {
			return false;
		}
		if (!is_same) {
			const int rest = (int)h->n_tokens - i * BB_PAGE;
			memset(moved, 0, t->pool->page_bytes);
			move_slots(moved, to, e->kv_group, room, from, (int)h->kv_group, c->kv_type,
				hparam_int(&e->plan.hp, H_HEAD), n_slabs(e, i_kind),
				rest < BB_PAGE ? rest : BB_PAGE);
			memory_in(&e->memory, kv_page(t, i), moved, t->pool->page_bytes);
			if (!memory_wait(&e->memory, s->err)) {
				return false;
			}
		}
	}
	return true;
}

/* own: as the engine would have it. */
static bool get_all(struct source *s, struct bb_context *c, const struct head *h,
	const struct head *own) {
	const size_t bytes = room_bytes(c->engine, h) + room_bytes(c->engine, own);
	uint8_t *room = base_alloc(bytes, 1);
	if (room == NULL) {
		return base_no_memory(s->err, "snapshot", bytes);
	}
	bool ok = get_timeline(s, c, h, room) && get_checkpoints(s, c, h, room);
	for (int i = 0; ok && i < c->engine->plan.n_paged; i++) {
		ok = get_pages(s, c, h, i, room);
	}
	base_free(room);
	return ok && (context_holds(c, (int)h->n_tokens) ||
		damaged(s, "its windows lack pages"));
}

static bool load(struct source *s, struct bb_context **out, struct bb_engine *e, bool *same_bits) {
	struct head h, own;
	struct stat st;
	static const enum bb_kv_type types[N_KV_TYPES] = {
		[KV_F32] = BB_KV_F32, [KV_F16] = BB_KV_F16, [KV_BF16] = BB_KV_BF16, [KV_INT8] = BB_KV_INT8,
	};
	if (fstat(s->fd, &st) != 0 || !S_ISREG(st.st_mode) ||
		(uint64_t)st.st_size < sizeof(h) + HASH_BYTES) {
		return base_fail(s->err, BB_ERR_FORMAT, "%.150s: not a snapshot of a context", s->path);
	}
	if (!get(s, &h, sizeof(h)) || !check_head(s, e, &h, (uint64_t)st.st_size) ||
		lseek(s->fd, 0, SEEK_SET) != 0 || !check_hash(s, (uint64_t)st.st_size) ||
		!get(s, &h, sizeof(h))) {
		return false;
	}
	const struct bb_context_params params = { .kv_type = types[h.kv_type] };
	if (!bb_context_create(out, e, &params, s->err)) {
		return false;
	}
	head_init(&own, *out);
	if (!get_all(s, *out, &h, &own)) {
		bb_context_destroy(*out);
		*out = NULL;
		return false;
	}
	if (same_bits != NULL) {
		*same_bits = strcmp(own.made_by, h.made_by) == 0 && strcmp(own.layout, h.layout) == 0 &&
			own.kv_group == h.kv_group;
	}
	return true;
}

bool bb_context_load(struct bb_context **out, struct bb_engine *e, const char *path,
	bool *same_bits, struct bb_error *err) {
	struct source s = { .path = path, .err = err };
	*out = NULL;
	assert(e->is_packed);
	s.fd = open(path, O_RDONLY | O_CLOEXEC);
	if (s.fd < 0) {
		return base_fail(err, BB_ERR_IO, "%.150s: can't be opened: %s", path, strerror(errno));
	}
	const bool ok = load(&s, out, e, same_bits);
	close(s.fd);
	return ok;
}
