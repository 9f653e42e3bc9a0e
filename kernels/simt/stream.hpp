/* SPDX-License-Identifier: Apache-2.0
 *
 * What the device must know of streams: whether a capture is under way, and their end. */
#pragma once

#include "state.hpp"

namespace simt {

bool capture_forbids(void); /* then the capture is broken too, as with CUDA */
void streams_clear(void);

} // namespace simt
