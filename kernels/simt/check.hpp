/* SPDX-License-Identifier: Apache-2.0
 *
 * What the checker remembers of one byte, of shared memory or global: who wrote it last and the two
 * that read it last, each with the time. Times of a launch are counted in epochs, one per barrier
 * interval of a block, and within one by the thread's own clock, which __syncwarp advances. */
#pragma once

#include "state.hpp"

namespace simt {

constexpr uint32_t EPOCH_NEVER = 0, EPOCH_HOST = 1; /* not written; written by a copy or memset */

struct Mark {
	uint32_t epoch;
	uint16_t thread, clock;
};

constexpr uint64_t CELL_ATOMIC = 1, CELL_IN_FLIGHT = 2;

struct Cell {
	Mark written, read, read_before; /* the two readers are different threads */
	uint64_t flags; /* as wide as a mark: cells are compared and copied whole */
};

} // namespace simt
