/* SPDX-License-Identifier: Apache-2.0
 *
 * One block from start to end: whose turn it is, barriers, exits, deadlocks. A fiber is started at
 * its first turn, on a stack that the worker keeps, so a thread that never waits costs one switch
 * in and none back. */
#include "state.hpp"

#include <stdlib.h>
#include <sys/mman.h>

namespace simt {

__thread Place *self;
__thread Block *block;

static uint32_t draw(Block *b) {
	b->random = b->random * 1664525u + 1013904223u;
	return b->random >> 8;
}

/* The next lane of a set, in the schedule's order, after `lane`; it wraps. */
static int pick_lane(Block *b, uint32_t lanes, int lane) {
	if (b->order == SIMT_FORWARD) {
		const uint32_t above = lane < 31 ? lanes & (~0u << (lane + 1)) : 0;
		return __builtin_ctz(above != 0 ? above : lanes);
	}
	if (b->order == SIMT_REVERSE) {
		const uint32_t below = lane < LANES ? lanes & ((1u << lane) - 1) : lanes;
		return 31 - __builtin_clz(below != 0 ? below : lanes);
	}
	for (int n = draw(b) % __builtin_popcount(lanes); n > 0; n--) {
		lanes &= lanes - 1;
	}
	return __builtin_ctz(lanes);
}

static Thread *pick(Block *b, int warp, int lane) {
	if (b->order != SIMT_RANDOM && b->warps[warp].ready != 0) {
		return &b->threads[warp * LANES + pick_lane(b, b->warps[warp].ready, lane)];
	}
	const int from = b->order == SIMT_RANDOM ? (int)(draw(b) % b->n_warps) : warp;
	const int step = b->order == SIMT_REVERSE ? b->n_warps - 1 : 1;
	for (int i = 0, w = from; i < b->n_warps; i++, w = (w + step) % b->n_warps) {
		if (b->warps[w].ready != 0) {
			/* a warp that is entered anew begins at its first lane in order */
			const int before = b->order == SIMT_REVERSE ? LANES : LANES - 1;
			return &b->threads[w * LANES + pick_lane(b, b->warps[w].ready, before)];
		}
	}
	return nullptr;
}

static void thread_main(void);

static void prepare(Block *b, Thread *t) {
	/* Tops are spread over cache sets: at equal offsets in pages all stacks would share a few. */
	char *top = b->stacks + (size_t)(t->index + 1) * STACK_BYTES - 64 * (t->index % LANES);
	t->sp = fiber_prepare(top, thread_main);
	t->started = true;
}

void yield_thread(Thread *me) {
	Block *b = block;
	Thread *next = pick(b, me->warp, (int)me->lane);
	if (next == me) {
		return;
	}
	b->traffic.switches++;
	self = next;
	if (next == nullptr) {
		simt_switch(&me->sp, b->scheduler); /* all are done, or none can go on */
		return;
	}
	if (!next->started) {
		prepare(b, next);
	}
	simt_switch(&me->sp, next->sp);
}

void abandon_block(void) {
	void *nowhere;
	block->failed = true;
	self = nullptr;
	simt_switch(&nowhere, block->scheduler);
	abort();
}

static void release_barrier(Block *b) {
	if (b->n_live < b->n_threads) {
		report("barrier", 0, &b->barrier_site,
			"%d of %d threads wait here, the others have exited without", b->n_live,
			b->n_threads);
	}
	b->traffic.barriers++;
	b->n_at_barrier = 0;
	if (checking) {
		traffic_flush(b);
		check_barrier();
	}
	for (int w = 0; w < b->n_warps; w++) {
		for (uint32_t m = b->warps[w].live; m != 0; m &= m - 1) {
			b->threads[w * LANES + __builtin_ctz(m)].state = State::ready;
		}
		b->warps[w].ready = b->warps[w].live;
	}
}

void barrier(Site site) {
	Block *b = block;
	Thread *me = running();
	if (b->n_at_barrier == 0) {
		b->barrier_site = site;
		b->barrier_first = me->index;
	} else if (site.line != b->barrier_site.line || site.file != b->barrier_site.file) {
		report("barrier", 0, &site, "thread %d waits here while thread %d waits in line %d",
			me->index, b->barrier_first, b->barrier_site.line);
		report("barrier", 0, &b->barrier_site,
			"thread %d waits here while thread %d waits in line %d", b->barrier_first, me->index,
			site.line);
	}
	me->site = site;
	me->state = State::at_barrier;
	b->warps[me->warp].ready &= ~(1u << me->lane);
	if (++b->n_at_barrier == b->n_live) {
		release_barrier(b);
	}
	if (me->state != State::ready || b->order != SIMT_FORWARD) {
		yield_thread(me);
	}
}

/* Lanes that wait for one which exits would wait for ever. */
static void check_exit(Block *b, const Thread *me) {
	const Warp *w = &b->warps[me->warp];
	for (uint32_t m = w->arrived; m != 0; m &= m - 1) {
		Thread *t = &b->threads[me->warp * LANES + __builtin_ctz(m)];
		if ((t->ask.mask >> me->lane & 1) != 0) {
			self = t;
			report("warp", 0, &t->ask.site, "mask %08x names lane %u, which has exited",
				t->ask.mask, me->lane);
			abandon_block();
		}
	}
}

/* The first frame of every fiber. It never returns: its last turn ends in a switch. */
static void thread_main(void) {
	Block *b = block;
	b->call->run(b->call->args);
	Thread *me = running();
	if (!me->copies.empty()) {
		report("async", 0, &me->copies[0].site, "the thread exits without waiting for this copy");
		me->copies.clear();
	}
	if (!me->wgmmas.empty()) {
		report("async", 0, &me->wgmmas[0].site, "the thread exits without waiting for this wgmma");
		me->wgmmas.clear();
	}
	Warp *w = &b->warps[me->warp];
	if (w->arrived != 0) {
		check_exit(b, me);
	}
	me->state = State::done;
	w->ready &= ~(1u << me->lane);
	w->live &= ~(1u << me->lane);
	b->n_live--;
	if (b->n_live > 0 && b->n_at_barrier == b->n_live) {
		self = &b->threads[b->barrier_first];
		release_barrier(b);
	}
	yield_thread(me);
	abort();
}

static void report_deadlock(Block *b) {
	std::string where;
	const Thread *first = nullptr;
	const Site *last = nullptr;
	for (int i = 0, shown = 0; i < b->n_threads && shown < 4; i++) {
		const Thread *t = &b->threads[i];
		if (t->state == State::done) {
			continue;
		}
		const Site *site = t->state == State::at_barrier ? &t->site : &t->ask.site;
		if (last != nullptr && site->line == last->line && site->file == last->file) {
			continue;
		}
		where += std::string(shown > 0 ? ", " : "") + "thread " + std::to_string(i) + " at " +
			(t->state == State::at_barrier ? "a barrier" : "a warp's word") + " in line " +
			std::to_string(site->line);
		first = first == nullptr ? t : first;
		last = site;
		shown++;
	}
	self = const_cast<Thread *>(first);
	report("deadlock", 0, first->state == State::at_barrier ? &first->site : &first->ask.site,
		"%d threads wait for ever: %s", b->n_live, where.c_str());
	self = nullptr;
}

Block *block_create(void) {
	Block *b = new Block();
	const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
	void *stacks = mmap(nullptr, STACK_BYTES * MAX_THREADS, PROT_READ | PROT_WRITE, flags, -1, 0);
	void *arena = mmap(nullptr, ARENA_BYTES, PROT_READ | PROT_WRITE, flags, -1, 0);
	if (stacks == MAP_FAILED || arena == MAP_FAILED) {
		abort();
	}
	b->stacks = static_cast<char *>(stacks);
	b->arena = static_cast<char *>(arena);
	for (int i = 0; i < MAX_THREADS; i++) {
		mprotect(b->stacks + i * STACK_BYTES, PAGE_BYTES, PROT_NONE);
	}
	return b;
}

static void reset(Block *b, const Shape &shape, uint32_t index) {
	const dim3 n = shape.block, g = shape.grid;
	b->n_threads = b->n_live = (int)(n.x * n.y * n.z);
	b->n_warps = (b->n_threads + LANES - 1) / LANES;
	b->n_at_barrier = 0;
	b->failed = b->fault = false;
	b->index = index;
	b->random = options().seed * 2654435761u + index;
	b->order = options().order;
	b->dyn_bytes = b->used_bytes = shape.smem;
	b->arrays.clear();
	memset(b->arena, 0xff, shape.smem); /* NaN in every float type */
	b->traffic.blocks++;
	b->traffic.threads += (uint64_t)b->n_threads;
	for (int w = 0; w < b->n_warps; w++) {
		const int lanes = b->n_threads - w * LANES;
		const uint32_t existing = lanes >= LANES ? ~0u : (1u << lanes) - 1;
		b->warps[w] = {existing, existing, 0, existing};
	}
	const uint3 bid = {index % g.x, index / g.x % g.y, index / (g.x * g.y)};
	uint3 tid = {0, 0, 0};
	for (int i = 0; i < b->n_threads; i++) {
		Thread *t = &b->threads[i];
		static_cast<Place &>(*t) = {tid, bid, n, g, (unsigned)i % LANES};
		t->index = i;
		t->warp = i / LANES;
		t->state = State::ready;
		t->started = t->has_awaited = t->is_nc = false;
		t->n_groups = 0;
		t->copies.clear();
		t->n_wgmma_groups = 0;
		t->may_wgmma = false;
		t->wgmmas.clear();
		t->wgmma_sums.clear();
		t->log.clear();
		if (++tid.x == n.x) {
			tid.x = 0;
			if (++tid.y == n.y) {
				tid.y = 0;
				tid.z++;
			}
		}
	}
}

bool block_run(Block *b, const Shape &shape, const Call &call, uint32_t index) {
	block = b;
	b->call = &call;
	reset(b, shape, index);
	if (checking) {
		check_block_starts(shape);
	}
	const int last = b->order == SIMT_REVERSE ? b->n_warps - 1 : 0;
	Thread *first = pick(b, last, b->order == SIMT_REVERSE ? LANES : LANES - 1);
	prepare(b, first);
	self = first;
	simt_switch(&b->scheduler, first->sp);
	self = nullptr;
	if (b->n_live > 0 && !b->failed) {
		report_deadlock(b);
		b->failed = true;
	}
	if (checking) {
		traffic_flush(b);
	}
	block = nullptr;
	return !b->failed;
}

} // namespace simt
