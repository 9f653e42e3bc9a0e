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

using Lanes = std::vector<Access>; /* of one request, by lane */

/* One instruction's reads or writes, of one kind of memory; one may do both (x += y). */
struct Instruction {
	Access kind; /* as every access of it, but for address and lane */
	Sums sums;
	std::vector<Lanes> requests; /* of the warp at hand: the lanes' n-th accesses are one */
	size_t n_requests;
	uint64_t lane; /* that came last, numbered from the start */
	size_t n_of_lane;
};

} // namespace

bool counting;

static std::unordered_map<uintptr_t, Instruction> instructions;
static std::unordered_map<uintptr_t, Site> sites; /* of instructions that are the emulator's */

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
	if (!std::is_sorted(all->begin(), all->end())) {
		std::sort(all->begin(), all->end());
	}
	return (size_t)(std::unique(all->begin(), all->end()) - all->begin());
}

static void add_global(const Lanes &lanes, Sums *to, uint64_t *n_new) {
	static std::vector<uintptr_t> sectors, bytes_at;
	sectors.clear();
	uint64_t distinct = 0;
	bytes_at.clear();
	for (const Access &a : lanes) {
		for (uintptr_t s = a.address / SECTOR_BYTES;
			s <= (a.address + a.n_bytes - 1) / SECTOR_BYTES; s++) {
			if (sectors.empty() || sectors.back() != s) {
				sectors.push_back(s);
			}
		}
		bytes_at.push_back(a.address); /* lanes that read the same are served at once */
	}
	distinct = n_distinct(&bytes_at) * lanes[0].n_bytes;
	const size_t n = n_distinct(&sectors);
	for (size_t i = 0; i < n; i++) {
		*n_new += is_new(sectors[i], lanes[0].is_write);
	}
	to->parts += n;
	to->ideal += std::min((uint64_t)n, (distinct + SECTOR_BYTES - 1) / SECTOR_BYTES);
}

/* A wavefront serves 128 bytes, so wide accesses go by half or quarter warps. */
static void add_shared(const Lanes &lanes, Sums *to) {
	const int lanes_at_once = lanes[0].n_bytes <= 4 ? 32 : lanes[0].n_bytes == 8 ? 16 : 8;
	static std::vector<uintptr_t> words;
	for (int first = 0; first < LANES; first += lanes_at_once) {
		words.clear();
		for (const Access &a : lanes) {
			if (a.lane < first || a.lane >= first + lanes_at_once) {
				continue;
			}
			for (uintptr_t w = a.address / BANK_BYTES;
				w <= (a.address + a.n_bytes - 1) / BANK_BYTES; w++) {
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

static void add_request(Block *b, const Lanes &lanes, Sums *to) {
	Sums one = {1, 0, 0, 0, 0};
	for (const Access &a : lanes) {
		one.bytes += a.n_bytes;
		one.widest = std::max(one.widest, (int)a.n_bytes);
	}
	struct simt_traffic *t = &b->traffic;
	const bool is_write = lanes[0].is_write;
	if (lanes[0].is_shared) {
		add_shared(lanes, &one);
		t->shared_requests++;
		t->shared_bytes += one.bytes;
		t->wavefronts += one.parts;
		t->ideal_wavefronts += one.ideal;
	} else {
		add_global(lanes, &one, is_write ? &t->new_written_sectors : &t->new_read_sectors);
		t->global_requests++;
		t->global_bytes += one.bytes;
		t->global_sectors += one.parts;
		t->ideal_sectors += one.ideal;
		(is_write ? t->global_written_sectors : t->global_read_sectors) += one.parts;
	}
	to->requests++;
	to->bytes += one.bytes;
	to->parts += one.parts;
	to->ideal += one.ideal;
	to->widest = std::max(to->widest, one.widest);
}

/* Puts a lane's accesses since the last barrier to those of the lanes before it. */
static void add_lane(Thread *t, uint64_t lane, std::vector<Instruction *> *touched) {
	for (const Access &a : t->log) {
		Instruction *i = &instructions[a.pc * 4 + a.is_write * 2 + a.is_shared];
		if (i->lane != lane) {
			i->lane = lane;
			i->n_of_lane = 0;
		}
		if (i->n_requests == 0) {
			i->kind = a;
			touched->push_back(i);
		}
		const size_t n = i->n_of_lane++;
		if (n == i->n_requests) {
			i->n_requests++;
			if (n == i->requests.size()) {
				i->requests.emplace_back();
			}
			i->requests[n].clear();
		}
		i->requests[n].push_back(a);
	}
	t->log.clear();
}

void traffic_flush(Block *b) {
	static std::vector<Instruction *> touched;
	static uint64_t n_lanes;
	if (!counting) {
		return;
	}
	for (int w = 0; w < b->n_warps; w++) {
		touched.clear();
		for (int l = 0; l < std::min(LANES, b->n_threads - w * LANES); l++) {
			add_lane(&b->threads[w * LANES + l], ++n_lanes, &touched);
		}
		for (Instruction *i : touched) {
			for (size_t n = 0; n < i->n_requests; n++) {
				add_request(b, i->requests[n], &i->sums);
			}
			i->n_requests = 0;
		}
	}
}

void traffic_is_at(uintptr_t pc, const Site &site) {
	sites.emplace(pc, site);
}

void traffic_forget(void) {
	instructions.clear();
	sites.clear();
	counting = true;
}

/* In the order of the map. */
static std::vector<Line> places_of_instructions(void) {
	std::vector<uintptr_t> pcs;
	for (const auto &one : instructions) {
		pcs.push_back(one.second.kind.pc);
	}
	std::vector<Line> places = lines_of(pcs);
	for (size_t i = 0; i < pcs.size(); i++) {
		const auto known = sites.find(pcs[i]);
		if (known != sites.end()) {
			places[i] = {known->second.file, known->second.line};
		}
	}
	return places;
}

} // namespace simt

using namespace simt;

int simt_get_lines(struct simt_line *out, int max) {
	const std::vector<Line> places = places_of_instructions();
	std::map<std::tuple<std::string, int, bool, bool>, Sums> by_line;
	size_t i = 0;
	for (const auto &one : instructions) {
		const Line &place = places[i++];
		const Access &kind = one.second.kind;
		const Sums &sums = one.second.sums;
		Sums *to = &by_line[{place.file, place.line, kind.is_shared, kind.is_write}];
		to->requests += sums.requests;
		to->bytes += sums.bytes;
		to->parts += sums.parts;
		to->ideal += sums.ideal;
		to->widest = std::max(to->widest, sums.widest);
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
