/* SPDX-License-Identifier: Apache-2.0
 *
 * Device memory and pinned memory as the rest of the emulator sees them. */
#pragma once

#include "state.hpp"

namespace simt {

struct Cell; /* the checker's memory of one byte */

struct Allocation {
	uintptr_t start;
	size_t n_bytes;
	char *map; /* with the guards; NULL where the memory is the caller's */
	size_t map_bytes;
	bool is_host;
	Cell *cells; /* [n_bytes], NULL until the checker needs them */
};

/* The allocation whose mapping, guards included, holds the address; NULL if there is none. */
Allocation *allocation_of(uintptr_t address);

void *memory_map(size_t n_bytes, bool is_host); /* NULL when the machine has no more */
bool memory_unmap(void *p, bool is_host); /* false when that is no allocation's start */
void memory_list_host(void *p, size_t n_bytes);
void memory_clear(void); /* all device memory is gone */
size_t memory_used(void); /* device bytes */

void fault_install(void); /* for the calling thread; again is fine */

} // namespace simt
