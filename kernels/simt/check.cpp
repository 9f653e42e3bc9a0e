/* SPDX-License-Identifier: Apache-2.0
 *
 * The checker: every load and store of a kernel comes here with its size and the address of its
 * instruction. Bounds and alignment are looked up; races are found by marks on bytes, so they show
 * whatever the schedule was. Barriers order the threads of a block, __syncwarp the lanes that it
 * names; shuffles and votes order nothing, as in CUDA's manual; blocks are ordered by arrives_last
 * alone. */
#include "check.hpp"
#include "memory.hpp"

#include <algorithm>
#include <immintrin.h>
#include <link.h>
#include <map>
#include <stdlib.h>

namespace simt {

bool checking;

/* The checker runs one worker, so it has one state. */
static uint32_t epoch = EPOCH_HOST, launch_epoch, block_epoch;
struct BlockStart {
	uint32_t epoch, index;
};
static std::vector<BlockStart> block_starts; /* of this launch */
/* A block's epochs up to where it arrived at a count. */
struct Arrival {
	const void *count;
	uint32_t begin, end;
};
static std::vector<Arrival> arrivals; /* of this launch */
static std::vector<Arrival> before_block; /* of those at whose count this block was the last */
struct Epochs {
	uint32_t begin, end;
};
/* What each stream ran last, where that was a launch: a launch after it may begin early. */
static std::map<cudaStream_t, Epochs> last_launches;
static Epochs launch_before; /* beside which this launch has begun; begin > end: beside none */
static bool has_begun_early, has_awaited; /* this launch, some thread of it */
static uint16_t clocks[MAX_WARPS][LANES][LANES]; /* [warp, lane, what it knows of lane] */
static uint32_t fenced[MAX_THREADS]; /* the epoch of a thread's last fence of the async proxy */
static Cell *shared_cells; /* [ARENA_BYTES]; other blocks' marks are forgotten when they are met */

void check_launch_starts(const Shape &shape) {
	launch_epoch = epoch + 1;
	block_starts.clear();
	arrivals.clear();
	const auto before = last_launches.find(shape.stream);
	has_begun_early = shape.early.file != nullptr && before != last_launches.end();
	has_awaited = false;
	launch_before = has_begun_early ? before->second : Epochs{1, 0};
}

void check_launch_ends(const Call &call, const Shape &shape) {
	last_launches[shape.stream] = {launch_epoch, epoch};
	if (has_begun_early && !has_awaited) {
		report("early-access", 0, &shape.early, "no thread of %s awaits the launch before: the one "
			"after this could begin while that is still at work", call.name);
	}
}

void check_stream_waits(cudaStream_t stream) {
	last_launches.erase(stream);
}

void check_all_streams_wait(void) {
	last_launches.clear();
}

void check_block_starts(const Shape &shape) {
	(void)shape;
	epoch++;
	block_epoch = epoch;
	block_starts.push_back({epoch, block->index});
	before_block.clear();
	memset(clocks, 0, (size_t)block->n_warps * sizeof(clocks[0]));
	for (int w = 0; w < block->n_warps; w++) {
		for (int l = 0; l < LANES; l++) {
			clocks[w][l][l] = 1;
		}
	}
	if (shared_cells == nullptr) {
		shared_cells = static_cast<Cell *>(calloc(ARENA_BYTES, sizeof(Cell)));
	}
}

void check_barrier(void) {
	epoch++;
}

void check_arrival(const void *count, bool is_last) {
	if (!is_last) {
		arrivals.push_back({count, block_epoch, epoch});
		return;
	}
	const auto here = std::stable_partition(arrivals.begin(), arrivals.end(),
		[count](const Arrival &a) { return a.count != count; });
	before_block.insert(before_block.end(), here, arrivals.end());
	arrivals.erase(here, arrivals.end()); /* the count begins anew */
}

void check_warp_joined(int warp, uint32_t lanes) {
	uint16_t known[LANES] = {0};
	for (uint32_t m = lanes; m != 0; m &= m - 1) {
		const uint16_t *mine = clocks[warp][__builtin_ctz(m)];
		for (int i = 0; i < LANES; i++) {
			known[i] = std::max(known[i], mine[i]);
		}
	}
	for (uint32_t m = lanes; m != 0; m &= m - 1) {
		const int lane = __builtin_ctz(m);
		memcpy(clocks[warp][lane], known, sizeof(known));
		clocks[warp][lane][lane]++;
	}
}

/* Did what left the mark happen before what t does now? */
static inline bool is_ordered(const Thread *t, const Mark &mark) {
	if (mark.epoch < launch_epoch) {
		return true;
	}
	if (mark.epoch < block_epoch) { /* another block */
		return std::any_of(before_block.begin(), before_block.end(), [&mark](const Arrival &a) {
			return mark.epoch >= a.begin && mark.epoch <= a.end;
		});
	}
	return mark.thread == t->index + 1 || mark.epoch != epoch ||
		((mark.thread - 1) / LANES == t->warp &&
			clocks[t->warp][t->lane][(mark.thread - 1) % LANES] >= mark.clock);
}

static Mark mark_of(const Thread *t) {
	return {epoch, (uint16_t)(t->index + 1), clocks[t->warp][t->lane][t->lane]};
}

static std::string who(const Mark &mark) {
	const auto next = std::upper_bound(block_starts.begin(), block_starts.end(), mark.epoch,
		[](uint32_t e, const BlockStart &b) { return e < b.epoch; });
	std::string text = "thread " + std::to_string(mark.thread - 1);
	if (mark.epoch < block_epoch && next != block_starts.begin()) {
		text += " of block " + std::to_string((next - 1)->index);
	}
	return text;
}

/* One access, as the reports need it. */
struct Seen {
	Thread *t;
	uintptr_t address, pc;
	int n_bytes;
	bool is_write, is_atomic, is_shared, is_copy; /* an async copy's write */
	bool is_host; /* pinned: the host writes it unseen */
	bool is_early; /* the launch before may be at work still, or may not have been waited for */
	const char *verb;
	const Site *site = nullptr; /* of a word that knows its place */
};

static void report_race(const Seen &seen, const Mark &other, bool other_wrote) {
	report(seen.is_shared ? "shared-race" : "global-race", seen.pc, seen.site,
		"thread %d %s what %s has %s, and nothing orders them", seen.t->index, seen.verb,
		who(other).c_str(), other_wrote ? "written" : "read");
}

/* Shared memory begins anew with each block. */
static void forget_other_blocks(const Seen &seen, Cell *c) {
	if (seen.is_shared && c->written.epoch < block_epoch && c->read.epoch < block_epoch) {
		*c = {};
	}
}

static bool is_of_launch_before(const Mark &mark) {
	return mark.epoch >= launch_before.begin && mark.epoch <= launch_before.end;
}

/* Of what the launch before has written nothing may be read or written, of what it has read nothing
 * written, until the thread has waited for it. */
static bool report_early(const Seen &seen, const Cell &c) {
	const bool was_written = is_of_launch_before(c.written);
	if (!was_written && (!seen.is_write ||
		(!is_of_launch_before(c.read) && !is_of_launch_before(c.read_before)))) {
		return false;
	}
	report("early-access", seen.pc, seen.site, "thread %d %s %s what the launch before has %s",
		seen.t->index, seen.verb, seen.t->has_awaited ? "by ld_nc" : "before await_launches",
		was_written ? "written" : "read");
	return true;
}

/* Looks at one byte and leaves the access's mark there; false when there was a finding. */
static bool mark_cell(const Seen &seen, const Mark &now, Cell *c) {
	bool is_clean = true;
	forget_other_blocks(seen, c);
	if (seen.is_early && report_early(seen, *c)) {
		is_clean = false;
	} else if ((c->flags & CELL_IN_FLIGHT) != 0 && !seen.is_copy) {
		report("async", seen.pc, seen.site,
			"thread %d %s bytes to which an async copy of %s is under way", seen.t->index,
			seen.verb, who(c->written).c_str());
		is_clean = false;
	} else if (!seen.is_write && !seen.is_host && c->written.epoch == EPOCH_NEVER) {
		report(seen.is_shared ? "shared-uninitialised" : "global-uninitialised", seen.pc, seen.site,
			"thread %d reads bytes that %s", seen.t->index,
			seen.is_shared ? "this block hasn't written" : "nobody has written");
		is_clean = false;
	}
	const bool both_atomic = seen.is_atomic && (c->flags & CELL_ATOMIC) != 0;
	if (is_clean && !both_atomic && !is_ordered(seen.t, c->written)) {
		report_race(seen, c->written, true);
		is_clean = false;
	}
	if (!seen.is_write) {
		if (c->read.thread != now.thread || c->read.epoch < block_epoch) {
			c->read_before = c->read;
		}
		c->read = now;
		return is_clean;
	}
	/* an atomic that met atomics only has no plain reader to fear but the marks' own */
	for (const Mark &reader : {c->read, c->read_before}) {
		if (is_clean && !is_ordered(seen.t, reader)) {
			report_race(seen, reader, false);
			is_clean = false;
		}
	}
	c->written = now;
	c->flags = (seen.is_atomic ? CELL_ATOMIC : 0) | (c->flags & CELL_IN_FLIGHT);
	return is_clean;
}

static __m256i load(const Cell *c) {
	static_assert(sizeof(Cell) == sizeof(__m256i), "marks and flags");
	return _mm256_loadu_si256(reinterpret_cast<const __m256i *>(c));
}

static bool is_same(__m256i a, __m256i b) {
	const __m256i differs = _mm256_xor_si256(a, b);
	return _mm256_testz_si256(differs, differs) != 0;
}

/* Bytes that go together had the same accesses before: what became of one becomes of the next. */
static void mark_cells(const Seen &seen, Cell *cells, size_t n) {
	const Mark now = mark_of(seen.t);
	__m256i before = {}, after = {};
	bool is_clean = true;
	for (size_t i = 0; i < n; i++) {
		const __m256i own = load(&cells[i]);
		if (!is_clean) {
			if (seen.is_write) { /* reported once; the other bytes have a value all the same */
				forget_other_blocks(seen, &cells[i]);
				cells[i].written = now;
			}
		} else if (i > 0 && is_same(own, before)) {
			_mm256_storeu_si256(reinterpret_cast<__m256i *>(&cells[i]), after);
		} else {
			is_clean = mark_cell(seen, now, &cells[i]);
			before = own;
			after = load(&cells[i]);
		}
	}
}

/* ---- where an address is ---- */

static Cell *cells_in_arena(const Seen &seen) {
	const size_t offset = seen.address - (uintptr_t)block->arena, n = (size_t)seen.n_bytes;
	if (offset + n <= block->dyn_bytes) {
		return &shared_cells[offset];
	}
	const SharedArray *nearest = nullptr;
	for (const SharedArray &array : block->arrays) {
		if (offset >= array.offset && offset + n <= array.offset + array.n_bytes) {
			return &shared_cells[offset];
		}
		if (array.offset <= offset + n) {
			nearest = &array;
		}
	}
	report("shared-bounds", seen.pc, seen.site,
		"thread %d %s %d bytes at byte %td of '%s', which has %zu",
		seen.t->index, seen.verb, seen.n_bytes,
		(ptrdiff_t)(offset - (nearest != nullptr ? nearest->offset : 0)),
		nearest != nullptr ? nearest->name : "dynamic shared memory",
		nearest != nullptr ? nearest->n_bytes : block->dyn_bytes);
	return nullptr;
}

static Cell *cells_of(Allocation *a) {
	if (a->cells == nullptr) {
		a->cells = static_cast<Cell *>(calloc(a->n_bytes, sizeof(Cell)));
		if (a->cells == nullptr) {
			abort();
		}
	}
	return a->cells;
}

static Cell *cells_in_memory(const Seen &seen, Allocation *a) {
	const uintptr_t at = seen.address - a->start;
	if (seen.address < a->start || at + (size_t)seen.n_bytes > a->n_bytes) {
		report("global-bounds", seen.pc, seen.site,
			"thread %d %s %d bytes at byte %td of an allocation of %zu", seen.t->index, seen.verb,
			seen.n_bytes, (ptrdiff_t)at, a->n_bytes);
		return nullptr;
	}
	return cells_of(a) + at;
}

struct Range {
	uintptr_t begin, end;
};

/* The parts of the program or library that an address belongs to. */
static std::vector<Range> ranges_with(uintptr_t address) {
	struct Search {
		uintptr_t address;
		std::vector<Range> found;
	} search = {address, {}};
	dl_iterate_phdr([](struct dl_phdr_info *info, size_t, void *to) {
		Search *s = static_cast<Search *>(to);
		std::vector<Range> all;
		bool has = false;
		for (int i = 0; i < info->dlpi_phnum; i++) {
			const auto &segment = info->dlpi_phdr[i];
			if (segment.p_type == PT_LOAD) {
				const uintptr_t begin = info->dlpi_addr + segment.p_vaddr;
				all.push_back({begin, begin + segment.p_memsz});
				has = has || (s->address >= begin && s->address < all.back().end);
			}
		}
		if (has) {
			s->found = all;
		}
		return (int)has;
	}, &search);
	return search.found;
}

/* Constants beside the kernel's code; there is no reason to read another library's. */
static bool is_constant(uintptr_t address) {
	static const void *kernel;
	static std::vector<Range> ranges;
	if (kernel != block->call->kernel) {
		kernel = block->call->kernel;
		ranges = ranges_with(reinterpret_cast<uintptr_t>(kernel));
	}
	return std::any_of(ranges.begin(), ranges.end(), [address](const Range &r) {
		return address >= r.begin && address < r.end;
	});
}

/* A thread's own variables and the launch's arguments. */
static bool is_private(const Thread *t, uintptr_t address) {
	const uintptr_t stack = (uintptr_t)block->stacks + (size_t)t->index * STACK_BYTES;
	return address - stack < STACK_BYTES ||
		address - (uintptr_t)block->call->args < block->call->args_bytes;
}

static void look(Seen seen) {
	Cell *cells = nullptr;
	if (seen.is_shared) {
		cells = cells_in_arena(seen);
	} else if (Allocation *a = allocation_of(seen.address)) {
		seen.is_host = a->is_host;
		cells = cells_in_memory(seen, a);
	} else if (seen.is_write || !is_constant(seen.address)) {
		report("no-memory", seen.pc, seen.site,
			"thread %d %s %d bytes at %#zx, which is no memory of the device",
			seen.t->index, seen.verb, seen.n_bytes, (size_t)seen.address);
	}
	if (cells == nullptr) {
		return;
	}
	if ((seen.address & (uintptr_t)(seen.n_bytes - 1)) != 0) {
		report("misaligned", seen.pc, seen.site,
			"thread %d %s %d bytes at an address that is not a multiple of it", seen.t->index,
			seen.verb, seen.n_bytes);
	}
	mark_cells(seen, cells, (size_t)seen.n_bytes);
	if (counting) {
		if (seen.site != nullptr) {
			traffic_is_at(seen.pc, *seen.site);
		}
		seen.t->log.push_back({seen.pc, seen.address, (uint8_t)seen.n_bytes,
			(uint8_t)seen.t->lane, seen.is_write, seen.is_shared});
	}
}

void check_lane_access(Thread *t, uintptr_t address, int n_bytes, bool is_write, bool is_atomic,
	uintptr_t pc, const Site *site) {
	const bool is_shared = address - (uintptr_t)block->arena < ARENA_BYTES;
	if (is_shared || !is_private(t, address)) {
		look({t, address, pc, n_bytes, is_write, is_atomic, is_shared, false, false,
			has_begun_early && !is_shared && (!t->has_awaited || t->is_nc),
			is_write ? "writes" : "reads", site});
	}
}

void check_access(uintptr_t address, int n_bytes, bool is_write, bool is_atomic, uintptr_t pc,
	const Site *site) {
	if (checking) {
		check_lane_access(running(), address, n_bytes, is_write, is_atomic, pc, site);
	}
}

void note(const void *p, int n_bytes, bool is_write, const void *pc) {
	if (self != nullptr) {
		check_access((uintptr_t)p, n_bytes, is_write, false, (uintptr_t)pc);
	}
}

void note_nc(const void *p, int n_bytes, const void *pc) {
	if (self != nullptr) {
		running()->is_nc = true;
		check_access((uintptr_t)p, n_bytes, false, false, (uintptr_t)pc);
		running()->is_nc = false;
	}
}

void awaited(void) {
	running()->has_awaited = true;
	has_awaited = true;
}

/* ---- operands in shared memory ---- */

void check_proxy_fence(void) {
	fenced[running()->index] = epoch;
}

/* Not a request of the warp's own, so the log doesn't get it. */
void check_operand(Thread *t, uintptr_t address, int n_bytes, const Site &site) {
	const Seen seen = {t, address, 0, n_bytes, false, false, true, false, false, false,
		"multiplies", &site};
	Cell *cells = cells_in_arena(seen);
	if (cells == nullptr) {
		return;
	}
	mark_cells(seen, cells, (size_t)n_bytes);
	const Mark written = cells->written;
	if (written.thread > 0 && fenced[written.thread - 1] < written.epoch) {
		report("async", 0, &site, "thread %d multiplies what thread %d has written, which hasn't "
			"fenced it for the async proxy", t->index, written.thread - 1);
	}
}

/* ---- async copies: they land somewhere between issue and wait, so both are looked at ---- */

static void mark_copy(const AsyncCopy &copy, bool is_arrival) {
	Thread *t = running();
	const uintptr_t to = (uintptr_t)copy.s;
	const Seen seen = {t, to, 0, copy.n_bytes, true, false, true, true, false, false,
		"copies to", &copy.site};
	if (to - (uintptr_t)block->arena >= ARENA_BYTES) {
		report("async", 0, &copy.site, "thread %d copies to what is not shared memory", t->index);
		return;
	}
	Cell *cells = cells_in_arena(seen);
	if (cells == nullptr) {
		return;
	}
	mark_cells(seen, cells, (size_t)copy.n_bytes);
	for (int i = 0; i < copy.n_bytes; i++) {
		cells[i].flags = is_arrival ? 0 : CELL_IN_FLIGHT;
	}
}

void check_copy_issued(const AsyncCopy &copy, uintptr_t pc) {
	if (copy.n_from > 0) {
		check_access((uintptr_t)copy.g, copy.n_from, false, false, pc, &copy.site);
	}
	mark_copy(copy, false);
	if (counting) {
		Thread *t = running();
		traffic_is_at(pc, copy.site);
		t->log.push_back(
			{pc, (uintptr_t)copy.s, (uint8_t)copy.n_bytes, (uint8_t)t->lane, true, true});
	}
}

void check_copy_arrived(const AsyncCopy &copy) {
	mark_copy(copy, true);
}

/* ---- what the host does to device memory ---- */

void check_host_wrote(const void *p, size_t n_bytes) {
	Allocation *a = n_bytes > 0 ? allocation_of((uintptr_t)p) : nullptr;
	if (a == nullptr) {
		return;
	}
	Cell *cells = cells_of(a) + ((uintptr_t)p - a->start);
	for (size_t i = 0; i < n_bytes; i++) {
		cells[i] = {{EPOCH_HOST, 0, 0}, {0, 0, 0}, {0, 0, 0}, 0};
	}
}

void check_host_copied(const void *to, const void *from, size_t n_bytes) {
	Allocation *a = n_bytes > 0 ? allocation_of((uintptr_t)from) : nullptr;
	Allocation *b = n_bytes > 0 ? allocation_of((uintptr_t)to) : nullptr;
	check_host_wrote(to, n_bytes);
	if (a == nullptr || b == nullptr || a->is_host || b->is_host) {
		return;
	}
	/* what was never written stays so where it is copied to */
	const Cell *source = cells_of(a) + ((uintptr_t)from - a->start);
	Cell *target = cells_of(b) + ((uintptr_t)to - b->start);
	for (size_t i = 0; i < n_bytes; i++) {
		if (source[i].written.epoch == EPOCH_NEVER) {
			target[i].written.epoch = EPOCH_NEVER;
		}
	}
}

} // namespace simt
