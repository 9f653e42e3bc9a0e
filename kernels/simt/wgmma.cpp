/* SPDX-License-Identifier: Apache-2.0
 *
 * Products of warpgroups, after the chapter "Asynchronous Warpgroup Level Matrix Instructions" of
 * the PTX ISA: a descriptor is taken apart and its swizzle undone here, so that what a kernel lays
 * down in shared memory is read as the hardware would. With a in registers the four warps of a
 * group are independent, so each computes its own 16 rows. A product is done at its wait, not
 * before, and its sums are NaN until then. */
#include "mma.hpp"
#include "state.hpp"

#include <math.h>

#include <memory>

namespace simt {

static constexpr int ROWS = 16, COLUMNS = 128, DEPTH = 16; /* of one warp's product */
static constexpr uint32_t ROW_BYTES = 128, GROUP_ROWS = 8;

uint32_t shared_address(const void *s) {
	return (uint32_t)(static_cast<const char *>(s) - block->arena);
}

void proxy_fence(void) {
	if (checking) {
		check_proxy_fence();
	}
}

void wgmma_begin(void) {
	running()->may_wgmma = true;
}

void wgmma_commit(void) {
	running()->n_wgmma_groups++;
}

/* The fields of a descriptor, in bytes. */
struct Tile {
	uint32_t start, stride, base_offset, swizzle;
};

static Tile tile_of(uint64_t descriptor) {
	return {(uint32_t)(descriptor & 0x3fff) << 4, (uint32_t)(descriptor >> 32 & 0x3fff) << 4,
		(uint32_t)(descriptor >> 49 & 7), (uint32_t)(descriptor >> 62)};
}

/* Where 16 bytes of a row begin: rows are 128 bytes apart, groups of eight a stride; then bits 4 to
 * 6 of the address are turned by bits 7 to 9, the row's number where a group begins at a multiple
 * of 1024. */
static uint32_t place_of(const Tile &tile, int row, int unit) {
	const uint32_t r = (uint32_t)row;
	const uint32_t address = tile.start + r / GROUP_ROWS * tile.stride
		+ r % GROUP_ROWS * ROW_BYTES + (uint32_t)unit * 16;
	return address ^ (address >> 7 & 7) << 4;
}

/* Whether a lane's operand is one that this device knows; else a finding. */
static bool is_known(const Thread *t, const Wgmma &w, uint64_t first_b) {
	const Tile tile = tile_of(w.b);
	const char *why = !t->may_wgmma ? "no wgmma_begin stands before it"
		: w.b != first_b ? "the lanes name different tiles"
		: tile.swizzle != 1 ? "the tile isn't swizzled by 128 bytes"
		: tile.base_offset != 0 || (tile.start >> 7 & 7) != 0 || tile.stride % 1024 != 0
			? "the tile's groups of rows aren't at multiples of 1024 bytes"
		: tile.start + (COLUMNS / GROUP_ROWS - 1) * tile.stride + GROUP_ROWS * ROW_BYTES
				> (uint32_t)block->used_bytes + tile.start % ROW_BYTES
			? "the tile is larger than the block's shared memory" : nullptr;
	if (why != nullptr) {
		report("wgmma", 0, &w.site, "thread %d: %s", t->index, why);
	}
	return why == nullptr;
}

/* What the tensor cores read of shared memory: a row and more a lane. */
static void check_tile(Thread *lanes, const Wgmma &w) {
	const Tile tile = tile_of(w.b);
	for (int i = 0; i < COLUMNS * 2; i++) {
		check_operand(&lanes[i / 2 % LANES],
			(uintptr_t)block->arena + place_of(tile, i / 2, i % 2), 16, w.site);
	}
}

static void keep_sums(Thread *t, float *d) {
	for (const WgmmaSums &sums : t->wgmma_sums) {
		if (sums.d == d) {
			return;
		}
	}
	t->wgmma_sums.emplace_back();
	WgmmaSums *sums = &t->wgmma_sums.back();
	sums->d = d;
	memcpy(sums->value, d, sizeof(sums->value));
	for (int i = 0; i < WGMMA_SUMS; i++) {
		d[i] = NAN;
	}
}

void wgmma_issue(Thread *lanes) {
	const Wgmma &first = *static_cast<const Wgmma *>(lanes[0].ask.in);
	for (int l = 0; l < LANES; l++) {
		const Wgmma &w = *static_cast<const Wgmma *>(lanes[l].ask.in);
		if (!is_known(&lanes[l], w, first.b)) {
			abandon_block();
		}
		keep_sums(&lanes[l], w.d);
		lanes[l].wgmmas.push_back(w);
	}
	if (checking) {
		check_tile(lanes, first);
	}
}

static float *sums_of(Thread *t, const float *d) {
	WgmmaSums *sums = t->wgmma_sums.data();
	while (sums->d != d) {
		sums++;
	}
	return sums->value;
}

static float widened(Mma type, uint32_t half) {
	return type == Mma::f16 ? f32_of_f16((uint16_t)half) : __uint_as_float(half << 16);
}

/* d[16, 128] += a[16, 16] b[128, 16]^T, by fmaf in order of k as in mma.cpp. Lane 4 g + t holds of
 * a the rows g and g + 8 at columns 2 t and 2 t + 8, of d the same rows at columns 8 j + 2 t. */
static void compute(Thread *lanes, size_t at) {
	const Wgmma &w = lanes[0].wgmmas[at];
	const Tile tile = tile_of(w.b);
	float a[ROWS][DEPTH];
	struct Operands {
		alignas(32) float b[DEPTH][COLUMNS], d[ROWS][COLUMNS];
	};
	/* not on a fiber's stack, nor in the little storage that threads have for a module */
	static thread_local std::unique_ptr<Operands> operands(new Operands);
	auto &b = operands->b;
	auto &d = operands->d;
	for (int n = 0; n < COLUMNS; n++) {
		uint16_t halves[DEPTH];
		memcpy(halves, block->arena + place_of(tile, n, 0), 16);
		memcpy(halves + 8, block->arena + place_of(tile, n, 1), 16);
		for (int k = 0; k < DEPTH; k++) {
			b[k][n] = widened(w.type, halves[k]);
		}
	}
	for (int l = 0; l < LANES; l++) {
		const int g = l / 4, t = l % 4 * 2;
		const Wgmma &own = lanes[l].wgmmas[at];
		const float *from = sums_of(&lanes[l], own.d);
		for (int i = 0; i < 8; i++) {
			a[g + i / 2 % 2 * 8][t + i / 4 * 8 + i % 2] =
				widened(w.type, own.a[i / 2] >> i % 2 * 16 & 0xffff);
		}
		for (int i = 0; i < WGMMA_SUMS; i++) {
			d[g + i / 2 % 2 * 8][i / 4 * 8 + t + i % 2] = from[i];
		}
	}
	for (int m = 0; m < ROWS; m++) {
		for (int k = 0; k < DEPTH; k++) {
			for (int n = 0; n < COLUMNS; n++) {
				d[m][n] = __builtin_fmaf(a[m][k], b[k][n], d[m][n]);
			}
		}
	}
	for (int l = 0; l < LANES; l++) {
		float *to = sums_of(&lanes[l], lanes[l].wgmmas[at].d);
		for (int i = 0; i < WGMMA_SUMS; i++) {
			to[i] = d[l / 4 + i / 2 % 2 * 8][i / 4 * 8 + l % 4 * 2 + i % 2];
		}
	}
}

/* Gives sums back that nothing is added to any more. */
static void release_sums(Thread *t) {
	size_t left = 0;
	for (size_t i = 0; i < t->wgmma_sums.size(); i++) {
		const WgmmaSums &sums = t->wgmma_sums[i];
		bool is_busy = false;
		for (const Wgmma &w : t->wgmmas) {
			is_busy = is_busy || w.d == sums.d;
		}
		if (is_busy) {
			t->wgmma_sums[left++] = sums;
		} else {
			memcpy(sums.d, sums.value, sizeof(sums.value));
		}
	}
	t->wgmma_sums.resize(left);
}

void wgmma_finish(Thread *lanes, int n) {
	size_t done = 0;
	while (done < lanes[0].wgmmas.size()
		&& lanes[0].wgmmas[done].group < lanes[0].n_wgmma_groups - n) {
		if (checking) {
			check_tile(lanes, lanes[0].wgmmas[done]);
		}
		compute(lanes, done++);
	}
	for (int l = 0; l < LANES; l++) {
		lanes[l].wgmmas.erase(lanes[l].wgmmas.begin(), lanes[l].wgmmas.begin() + (long)done);
		release_sums(&lanes[l]);
		lanes[l].may_wgmma = false;
	}
}

} // namespace simt
