/* SPDX-License-Identifier: Apache-2.0
 *
 * What memory had to do: the accesses that the lanes of a warp made at one instruction for the n-th
 * time are one request. Global memory moves sectors of 32 bytes; shared memory has 32 banks of four
 * bytes and needs a wavefront for each word that falls on a bank again. */
#include "state.hpp"

#include <algorithm>
#include <map>
#include <memory>
#include <stdio.h>
#include <tuple>
#include <unordered_map>

namespace simt {

namespace {

constexpr int SECTOR_BYTES = 32, N_BANKS = 32, BANK_BYTES = 4;

struct Sums {
	uint64_t requests, bytes, parts, ideal;
	int widest;
};

struct Key {
	uintptr_t pc;
	bool is_write, is_shared;
	bool operator<(const Key &other) const {
		return std::make_tuple(pc, is_write, is_shared) <
			std::make_tuple(other.pc, other.is_write, other.is_shared);
	}
};

using Iterator = std::vector<Access>::const_iterator;

} // namespace

static std::map<Key, Sums> sums;

/* ---- sectors that a launch touches for the first time ---- */

/* The number of the launch that last read, and last wrote, each sector of a stretch of memory. */
constexpr int STRETCH_SECTORS = 1 << 16;
struct Stretch {
	uint32_t launch[2][STRETCH_SECTORS];
};
static std::unordered_map<uintptr_t, std::unique_ptr<Stretch>> stretches;
static uint32_t launch_number;

void traffic_launch_starts(void) {
	launch_number++;
}

static bool is_new(uintptr_t sector, bool is_write) {
	static uintptr_t last_index;
	static Stretch *last;
	const uintptr_t index = sector / STRETCH_SECTORS;
	if (last == nullptr || index != last_index) {
		std::unique_ptr<Stretch> &found = stretches[index];
		if (found == nullptr) {
			found = std::make_unique<Stretch>();
		}
		last = found.get();
		last_index = index;
	}
	uint32_t *seen = &last->launch[is_write][sector % STRETCH_SECTORS];
	/* what the launch has written is in its cache */
	const bool was_written = last->launch[true][sector % STRETCH_SECTORS] == launch_number;
	const bool first = *seen != launch_number && !was_written;
	*seen = launch_number;
	return first;
}

static size_t n_distinct(std::vector<uintptr_t> *all) {
	std::sort(all->begin(), all->end());
	return (size_t)(std::unique(all->begin(), all->end()) - all->begin());
}

static void add_global(Iterator begin, Iterator end, Sums *to, uint64_t *n_new) {
	static std::vector<uintptr_t> sectors, bytes_at;
	sectors.clear();
	uint64_t distinct = 0;
	bytes_at.clear();
	for (Iterator a = begin; a != end; a++) {
		for (uintptr_t s = a->address / SECTOR_BYTES;
			s <= (a->address + a->n_bytes - 1) / SECTOR_BYTES; s++) {
			sectors.push_back(s);
		}
		bytes_at.push_back(a->address); /* lanes that read the same are served at once */
	}
	distinct = n_distinct(&bytes_at) * begin->n_bytes;
	const size_t n = n_distinct(&sectors);
	for (size_t i = 0; i < n; i++) {
		*n_new += is_new(sectors[i], begin->is_write);
	}
	to->parts += n;
	to->ideal += std::min((uint64_t)n, (distinct + SECTOR_BYTES - 1) / SECTOR_BYTES);
}

/* A wavefront serves 128 bytes, so wide accesses go by half or quarter warps. */
static void add_shared(Iterator begin, Iterator end, Sums *to) {
	const int lanes_at_once = begin->n_bytes <= 4 ? 32 : begin->n_bytes == 8 ? 16 : 8;
	std::vector<uintptr_t> words;
	for (int first = 0; first < LANES; first += lanes_at_once) {
		words.clear();
		for (Iterator a = begin; a != end; a++) {
			if (a->lane < first || a->lane >= first + lanes_at_once) {
				continue;
			}
			for (uintptr_t w = a->address / BANK_BYTES;
				w <= (a->address + a->n_bytes - 1) / BANK_BYTES; w++) {
				words.push_back(w);
			}
		}
		const size_t n = n_distinct(&words);
		uint64_t per_bank[N_BANKS] = {0}, most = 0;
		for (size_t i = 0; i < n; i++) {
			most = std::max(most, ++per_bank[words[i] % N_BANKS]);
		}
		to->parts += most;
		to->ideal += (n + N_BANKS - 1) / N_BANKS;
	}
}

static void add_request(Block *b, Iterator begin, Iterator end) {
	Sums one = {1, 0, 0, 0, 0};
	for (Iterator a = begin; a != end; a++) {
		one.bytes += a->n_bytes;
		one.widest = std::max(one.widest, (int)a->n_bytes);
	}
	struct simt_traffic *t = &b->traffic;
	if (begin->is_shared) {
		add_shared(begin, end, &one);
		t->shared_requests++;
		t->shared_bytes += one.bytes;
		t->wavefronts += one.parts;
		t->ideal_wavefronts += one.ideal;
	} else {
		add_global(begin, end, &one,
			begin->is_write ? &t->new_written_sectors : &t->new_read_sectors);
		t->global_requests++;
		t->global_bytes += one.bytes;
		t->global_sectors += one.parts;
		t->ideal_sectors += one.ideal;
		(begin->is_write ? t->global_written_sectors : t->global_read_sectors) += one.parts;
	}
	Sums *line = &sums[{begin->pc, begin->is_write, begin->is_shared}];
	line->requests++;
	line->bytes += one.bytes;
	line->parts += one.parts;
	line->ideal += one.ideal;
	line->widest = std::max(line->widest, one.widest);
}

static bool is_same_request(const Access &a, const Access &b) {
	return a.pc == b.pc && a.occurrence == b.occurrence && a.is_write == b.is_write &&
		a.is_shared == b.is_shared;
}

void traffic_flush(Block *b) {
	static std::vector<Access> all;
	static std::unordered_map<uintptr_t, uint32_t> seen;
	for (int w = 0; w < b->n_warps; w++) {
		all.clear();
		const int n_lanes = std::min(LANES, b->n_threads - w * LANES);
		for (int l = 0; l < n_lanes; l++) {
			Thread *t = &b->threads[w * LANES + l];
			seen.clear();
			for (Access &a : t->log) {
				/* one instruction may both read and write (x += y) */
				a.occurrence = seen[a.pc * 4 + a.is_write * 2 + a.is_shared]++;
				all.push_back(a);
			}
			t->log.clear();
		}
		std::sort(all.begin(), all.end(), [](const Access &x, const Access &y) {
			return std::make_tuple(x.pc, x.is_write, x.is_shared, x.occurrence, x.lane) <
				std::make_tuple(y.pc, y.is_write, y.is_shared, y.occurrence, y.lane);
		});
		for (Iterator begin = all.begin(), end; begin != all.end(); begin = end) {
			for (end = begin; end != all.end() && is_same_request(*begin, *end); end++) {
			}
			add_request(b, begin, end);
		}
	}
}

void traffic_forget(void) {
	sums.clear();
}

} // namespace simt

using namespace simt;

int simt_get_lines(struct simt_line *out, int max) {
	std::vector<uintptr_t> pcs;
	for (const auto &one : sums) {
		pcs.push_back(one.first.pc);
	}
	const std::vector<Line> places = lines_of(pcs);
	std::map<std::tuple<std::string, int, bool, bool>, Sums> by_line;
	size_t i = 0;
	for (const auto &one : sums) {
		const Line &place = places[i++];
		Sums *to = &by_line[{place.file, place.line, one.first.is_shared, one.first.is_write}];
		to->requests += one.second.requests;
		to->bytes += one.second.bytes;
		to->parts += one.second.parts;
		to->ideal += one.second.ideal;
		to->widest = std::max(to->widest, one.second.widest);
	}
	int n = 0;
	for (const auto &one : by_line) {
		if (n < max) {
			struct simt_line *to = &out[n];
			*to = {};
			snprintf(to->file, sizeof(to->file), "%s", std::get<0>(one.first).c_str());
			to->line = std::get<1>(one.first);
			to->is_shared = std::get<2>(one.first);
			to->is_write = std::get<3>(one.first);
			to->bytes_per_lane = one.second.widest;
			to->requests = one.second.requests;
			to->bytes = one.second.bytes;
			to->parts = one.second.parts;
			to->ideal = one.second.ideal;
		}
		n++;
	}
	return n;
}
