/* SPDX-License-Identifier: Apache-2.0
 *
 * Device memory: every allocation has a mapping of its own that ends at a guard page and begins
 * behind one, filled with NaN. Hitting a guard, or a fiber's end of stack, ends the block, as an
 * illegal access does on a GPU, and is named. Pinned host memory is listed here too. */
#include "memory.hpp"

#include <algorithm>
#include <atomic>
#include <mutex>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <ucontext.h>

namespace simt {

/* Of a large arena only the head is filled: the rest would cost the machine its memory. */
static constexpr size_t POISON_BYTES = 64 << 20;

static std::vector<Allocation *> allocations; /* by start */
static std::mutex lock;
/* Of the list: while it stays, a thread may believe what it found last, without the lock. */
static std::atomic<uint64_t> version;
static size_t device_bytes;

static bool starts_before(const Allocation *a, uintptr_t address) {
	return a->start < address;
}

static size_t pages(size_t n_bytes) {
	return (n_bytes + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES;
}

void *memory_map(size_t n_bytes, bool is_host) {
	const size_t body = (n_bytes + 15) / 16 * 16, inner = pages(body);
	const size_t map_bytes = inner + 2 * PAGE_BYTES;
	void *map = mmap(nullptr, map_bytes, PROT_NONE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (map == MAP_FAILED) {
		return nullptr;
	}
	char *base = static_cast<char *>(map);
	mprotect(base + PAGE_BYTES, inner, PROT_READ | PROT_WRITE);
	/* flush against the guard behind; aligned to 256 bytes where the size is too */
	const size_t align = is_host || body % 256 != 0 ? 16 : 256;
	char *p = base + PAGE_BYTES + (inner - body) / align * align;
	memset(base + PAGE_BYTES, 0xff, std::min(inner, POISON_BYTES));
	std::lock_guard<std::mutex> hold(lock);
	const uintptr_t start = reinterpret_cast<uintptr_t>(p);
	allocations.insert(
		std::lower_bound(allocations.begin(), allocations.end(), start, starts_before),
		new Allocation{start, n_bytes, base, map_bytes, is_host, nullptr});
	version++;
	device_bytes += is_host ? 0 : n_bytes;
	return p;
}

static void unmap(Allocation *a) {
	device_bytes -= a->is_host ? 0 : a->n_bytes;
	if (a->map != nullptr) {
		munmap(a->map, a->map_bytes);
	}
	free(a->cells);
	delete a;
}

bool memory_unmap(void *p, bool is_host) {
	std::lock_guard<std::mutex> hold(lock);
	for (size_t i = 0; i < allocations.size(); i++) {
		if (allocations[i]->start == reinterpret_cast<uintptr_t>(p) &&
			allocations[i]->is_host == is_host) {
			unmap(allocations[i]);
			allocations.erase(allocations.begin() + (ptrdiff_t)i);
			version++;
			return true;
		}
	}
	return false;
}

/* Memory of the caller's that the device may see from now on. */
void memory_list_host(void *p, size_t n_bytes) {
	std::lock_guard<std::mutex> hold(lock);
	const uintptr_t start = reinterpret_cast<uintptr_t>(p);
	allocations.insert(
		std::lower_bound(allocations.begin(), allocations.end(), start, starts_before),
		new Allocation{start, n_bytes, nullptr, 0, true, nullptr});
	version++;
}

void memory_clear(void) {
	std::lock_guard<std::mutex> hold(lock);
	std::vector<Allocation *> kept;
	for (Allocation *a : allocations) {
		if (a->is_host) {
			kept.push_back(a);
		} else {
			unmap(a);
		}
	}
	allocations = kept;
	version++;
}

size_t memory_used(void) {
	std::lock_guard<std::mutex> hold(lock);
	return device_bytes;
}

static bool holds(const Allocation *a, uintptr_t address) {
	if (a->map == nullptr) {
		return address >= a->start && address < a->start + a->n_bytes;
	}
	const uintptr_t map = reinterpret_cast<uintptr_t>(a->map);
	return address >= map && address < map + a->map_bytes;
}

Allocation *allocation_of(uintptr_t address) {
	enum { N_RECENT = 16 };
	static thread_local Allocation *recent[N_RECENT]; /* by page */
	static thread_local uint64_t recent_version = ~(uint64_t)0;
	Allocation **last = &recent[address / PAGE_BYTES % N_RECENT];
	if (recent_version == version && *last != nullptr && holds(*last, address)) {
		return *last;
	}
	std::lock_guard<std::mutex> hold(lock);
	if (recent_version != version) {
		memset(recent, 0, sizeof(recent));
		recent_version = version;
	}
	/* Starts and mappings have the same order, and a mapping reaches before its start. */
	auto at = std::lower_bound(allocations.begin(), allocations.end(), address, starts_before);
	Allocation *found = nullptr;
	if (at != allocations.end() && holds(*at, address)) {
		found = *at;
	} else if (at != allocations.begin() && holds(*(at - 1), address)) {
		found = *(at - 1);
	}
	*last = found;
	return found;
}

/* ---- faults ---- */

static struct sigaction before_us;

static void describe(char *to, size_t n, uintptr_t address) {
	const Allocation *a = allocation_of(address);
	const uintptr_t stacks = reinterpret_cast<uintptr_t>(block->stacks);
	if (a != nullptr) {
		snprintf(to, n, "an access at byte %td of an allocation of %zu",
			(ptrdiff_t)(address - a->start), a->n_bytes);
	} else if (address - stacks < STACK_BYTES * MAX_THREADS) {
		snprintf(to, n, "the thread needs more than %zu bytes of stack", STACK_BYTES);
	} else if (address == 0) {
		snprintf(to, n, "an access at NULL or at an address that is not aligned to its size");
	} else {
		snprintf(to, n, "an access at %#zx, where nothing is allocated", (size_t)address);
	}
}

static void on_fault(int number, siginfo_t *info, void *context) {
	if (self == nullptr || block == nullptr) {
		/* not ours: as if this handler had never been there, the access happens again */
		sigaction(number, &before_us, nullptr);
		return;
	}
	char text[160];
	const ucontext_t *at = static_cast<const ucontext_t *>(context);
	describe(text, sizeof(text), reinterpret_cast<uintptr_t>(info->si_addr));
	report("fault", (uintptr_t)at->uc_mcontext.gregs[REG_RIP] + 1, nullptr, "%s", text);
	block->fault = true;
	abandon_block(); /* leaves the signal's stack for the scheduler's; SA_NODEFER lets it return */
}

void fault_install(void) {
	static thread_local bool has_stack;
	static std::once_flag once;
	if (!has_stack) {
		stack_t old;
		if (sigaltstack(nullptr, &old) == 0 && (old.ss_flags & SS_DISABLE) != 0) {
			stack_t mine = {};
			mine.ss_size = 64 << 10;
			mine.ss_sp = malloc(mine.ss_size);
			sigaltstack(&mine, nullptr);
		}
		has_stack = true;
	}
	std::call_once(once, [] {
		struct sigaction ours = {};
		ours.sa_sigaction = on_fault;
		ours.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
		sigaction(SIGBUS, &ours, nullptr);
		sigaction(SIGSEGV, &ours, &before_us);
	});
}

} // namespace simt
