/* SPDX-License-Identifier: Apache-2.0
 *
 * Words of a warp. A lane that reaches one parks with what it has and wants; the last lane that the
 * mask names does the work for all and lets them go. So a shuffle in one warp or half a warp never
 * waits for the rest of the block. What the tensor cores compute is in mma.cpp. */
#include "mma.hpp"
#include "state.hpp"

#include <algorithm>

namespace simt {

static Thread *lane_of(const Thread *me, int lane) {
	return &block->threads[me->warp * LANES + lane];
}

static void do_shuffle(const Thread *me, uint32_t lanes) {
	for (uint32_t m = lanes; m != 0; m &= m - 1) {
		Thread *t = lane_of(me, __builtin_ctz(m));
		const int source = t->ask.how & 31;
		if ((lanes >> source & 1) == 0) {
			report("warp", 0, &t->ask.site, "lane %u reads lane %d, which mask %08x leaves out",
				t->lane, source, t->ask.mask);
			memset(t->ask.out, 0xff, (size_t)t->ask.n * 4);
			continue;
		}
		memcpy(t->ask.out, lane_of(me, source)->ask.in, (size_t)t->ask.n * 4);
	}
}

static void do_ballot(const Thread *me, uint32_t lanes) {
	uint32_t votes = 0;
	for (uint32_t m = lanes; m != 0; m &= m - 1) {
		const Thread *t = lane_of(me, __builtin_ctz(m));
		votes |= (uint32_t)t->ask.how << t->lane;
	}
	for (uint32_t m = lanes; m != 0; m &= m - 1) {
		memcpy(lane_of(me, __builtin_ctz(m))->ask.out, &votes, sizeof(votes));
	}
}

static uint32_t reduced(Reduce how, uint32_t a, uint32_t b) {
	switch (how) {
	case Reduce::add:
		return a + b;
	case Reduce::min_s32:
		return (uint32_t)std::min((int32_t)a, (int32_t)b);
	case Reduce::max_s32:
		return (uint32_t)std::max((int32_t)a, (int32_t)b);
	case Reduce::min_u32:
		return std::min(a, b);
	case Reduce::max_u32:
		return std::max(a, b);
	case Reduce::bit_and:
		return a & b;
	case Reduce::bit_or:
		return a | b;
	case Reduce::bit_xor:
		return a ^ b;
	}
	return 0;
}

static void do_reduce(const Thread *me, uint32_t lanes) {
	uint32_t sum = 0, v;
	for (uint32_t m = lanes; m != 0; m &= m - 1) {
		memcpy(&v, lane_of(me, __builtin_ctz(m))->ask.in, sizeof(v));
		sum = m == lanes ? v : reduced((Reduce)me->ask.how, sum, v);
	}
	for (uint32_t m = lanes; m != 0; m &= m - 1) {
		memcpy(lane_of(me, __builtin_ctz(m))->ask.out, &sum, sizeof(sum));
	}
}

/* Lane 8 i + r gives the address of row r of matrix i: eight halves. Lane l receives the halves
 * 2 (l % 4) and the next of row l / 4, or of that column when transposed. */
static void do_ldmatrix(const Thread *me) {
	const bool is_transposed = me->ask.how != 0;
	const Thread *lanes = lane_of(me, 0);
	for (int i = 0; i < me->ask.n; i++) {
		uint16_t tile[8][8];
		for (int row = 0; row < 8; row++) {
			const Thread *t = &lanes[i * 8 + row];
			const uintptr_t address = (uintptr_t)t->ask.in;
			if ((address & 15) != 0) {
				report("misaligned", 0, &t->ask.site, "ldmatrix row of lane %u is not at a "
					"multiple of 16 bytes", t->lane);
			}
			if (checking) {
				check_lane_access(lane_of(me, i * 8 + row), address, 16, false, false, t->ask.pc,
					&t->ask.site);
			}
			memcpy(tile[row], t->ask.in, sizeof(tile[row]));
		}
		for (int l = 0; l < LANES; l++) {
			const int row = l / 4, column = l % 4 * 2;
			const uint32_t lo = is_transposed ? tile[column][row] : tile[row][column];
			const uint32_t hi = is_transposed ? tile[column + 1][row] : tile[row][column + 1];
			static_cast<uint32_t *>(lanes[l].ask.out)[i] = lo | hi << 16;
		}
	}
}

static void do_mma(const Thread *me) {
	MmaLane lanes[LANES];
	for (int l = 0; l < LANES; l++) {
		const Thread *t = lane_of(me, l);
		lanes[l] = *static_cast<const MmaLane *>(t->ask.in);
	}
	mma_compute((Mma)me->ask.how, lanes);
}

static void work(Thread *me, uint32_t lanes) {
	switch (me->ask.op) {
	case Op::sync:
		if (checking) {
			check_warp_joined(me->warp, lanes);
		}
		break;
	case Op::shuffle:
		do_shuffle(me, lanes);
		break;
	case Op::ballot:
		do_ballot(me, lanes);
		break;
	case Op::reduce:
		do_reduce(me, lanes);
		break;
	case Op::ldmatrix:
		do_ldmatrix(me);
		break;
	case Op::mma:
		do_mma(me);
		break;
	case Op::wgmma:
		wgmma_issue(lane_of(me, 0));
		break;
	case Op::wgmma_wait:
		wgmma_finish(lane_of(me, 0), me->ask.n);
		break;
	}
}

/* Lanes that met at different words can't be given a result. */
static void compare(Thread *me, uint32_t lanes) {
	const Ask *mine = &me->ask;
	for (uint32_t m = lanes; m != 0; m &= m - 1) {
		const Ask *other = &lane_of(me, __builtin_ctz(m))->ask;
		if (other->site.line != mine->site.line || other->site.file != mine->site.file ||
			other->op != mine->op || other->mask != mine->mask) {
			for (int i = 0; i < 2; i++) { /* a finding at each of the two places */
				report("warp", 0, i == 0 ? &mine->site : &other->site,
					"lane %u is in line %d with mask %08x, lane %d in line %d with mask %08x",
					me->lane, mine->site.line, mine->mask, __builtin_ctz(m), other->site.line,
					other->mask);
			}
			abandon_block();
		}
	}
}

static void meet(const Ask &ask) {
	Block *b = block;
	Thread *me = running();
	Warp *w = &b->warps[me->warp];
	const uint32_t bit = 1u << me->lane;
	me->ask = ask;
	/* A ragged last warp may be named whole; lanes that have exited may not. */
	uint32_t lanes = ask.mask & w->existing;
	if ((ask.mask & bit) == 0) {
		report("warp", 0, &ask.site, "lane %u calls with mask %08x, which leaves it out", me->lane,
			ask.mask);
		abandon_block();
	}
	if ((lanes & ~w->live) != 0) {
		report("warp", 0, &ask.site, "mask %08x names lanes that have exited: %08x", ask.mask,
			lanes & ~w->live);
		lanes &= w->live;
	}
	if (ask.op >= Op::ldmatrix && lanes != ~0u) {
		report("warp", 0, &ask.site, "the whole warp must come here; lanes are %08x", lanes);
		abandon_block();
	}
	w->arrived |= bit;
	if ((w->arrived & lanes) != lanes) {
		me->state = State::in_warp;
		w->ready &= ~bit;
		yield_thread(me);
		return;
	}
	compare(me, lanes);
	work(me, lanes);
	b->traffic.warp_ops++;
	w->arrived &= ~lanes;
	w->ready |= lanes;
	for (uint32_t m = lanes; m != 0; m &= m - 1) {
		lane_of(me, __builtin_ctz(m))->state = State::ready;
	}
	if (b->order != SIMT_FORWARD) {
		yield_thread(me); /* the others may go first */
	}
}

void sync_warp(uint32_t mask, Site site) {
	meet({Op::sync, mask, site, nullptr, nullptr, 0, 0, 0});
}

void shuffle(uint32_t mask, const void *in, void *out, int n_words, int source, Site site) {
	meet({Op::shuffle, mask, site, in, out, n_words, source, 0});
}

uint32_t ballot(uint32_t mask, bool value, Site site) {
	uint32_t out;
	meet({Op::ballot, mask, site, nullptr, &out, 1, value, 0});
	return out;
}

uint32_t reduce(uint32_t mask, uint32_t value, Reduce how, Site site) {
	uint32_t out;
	meet({Op::reduce, mask, site, &value, &out, 1, (int)how, 0});
	return out;
}

void ldmatrix(uint32_t *r, const void *s, int n, bool is_transposed, Site site) {
	meet({Op::ldmatrix, ~0u, site, s, r, n, is_transposed,
		(uintptr_t)__builtin_return_address(0)});
}

void mma(Mma type, void *d, const uint32_t *a, const uint32_t *b, Site site) {
	const MmaLane lane = {a, b, d};
	meet({Op::mma, ~0u, site, &lane, d, 4, (int)type, 0});
}

void wgmma(Mma type, float *d, const uint32_t *a, uint64_t b, Site site) {
	const Wgmma lane = {type, d, {a[0], a[1], a[2], a[3]}, b,
		running()->n_wgmma_groups, site};
	meet({Op::wgmma, ~0u, site, &lane, d, 0, (int)type, 0});
}

void wgmma_wait(int n, Site site) {
	meet({Op::wgmma_wait, ~0u, site, nullptr, nullptr, n, 0, 0});
}

void operations(Unit unit, int n) {
	if (self != nullptr) {
		struct simt_traffic *t = &block->traffic;
		(unit == Unit::mma ? t->mma_operations : t->dp4a_operations) += (uint64_t)n;
	}
}

} // namespace simt
