/* SPDX-License-Identifier: Apache-2.0
 *
 * What the 32 lanes bring to one mma: fragments in registers, in PTX's layouts. */
#pragma once

#include "words.hpp"

namespace simt {

struct MmaLane {
	const uint32_t *a, *b; /* [4], [2] */
	void *d; /* float or int32_t [4], added to */
};

void mma_compute(Mma type, const MmaLane lanes[32]);

} // namespace simt
