/* SPDX-License-Identifier: Apache-2.0
 *
 * A grid over host threads. Blocks are dealt by a counter; which worker takes which is not defined,
 * and no result may depend on it. The caller is a worker too; the others sleep between launches. */
#include "memory.hpp"
#include "state.hpp"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <stdio.h>
#include <thread>
#include <vector>

namespace simt {

namespace {

struct Job {
	const Call *call;
	Shape shape;
	uint32_t n_blocks;
	std::atomic<uint32_t> next{0};
	std::atomic<bool> failed{false}, fault{false};
};

/* Never destroyed: threads that sleep in it may outlive every destructor. */
struct Pool {
	std::mutex launching; /* one kernel at a time */
	std::mutex lock;
	std::condition_variable wake, idle;
	std::vector<Block *> blocks; /* one per worker; 0 is the caller's */
	uint64_t generation = 0;
	int n_wanted = 0, n_busy = 0;
	Job *job = nullptr;
};

} // namespace

static Pool &pool(void) {
	static Pool *one = new Pool();
	return *one;
}

static struct simt_options current = {0, SIMT_FORWARD, 1, false, false};
static struct simt_traffic total;

static std::vector<simt_launch> launches; /* the first KEPT since they were forgotten */
static size_t n_launches;
enum { KEPT = 4096 };

const struct simt_options &options(void) {
	return current;
}

struct simt_traffic &host_traffic(void) {
	return total;
}

static void work(Job *job, Block *b) {
	fault_install();
	for (uint32_t i; !job->failed && (i = job->next++) < job->n_blocks;) {
		const uint32_t index = options().order == SIMT_REVERSE ? job->n_blocks - 1 - i : i;
		if (!block_run(b, job->shape, *job->call, index)) {
			job->fault = job->fault || b->fault;
			job->failed = true;
		}
	}
}

static void sleeper(int i) {
	Pool &p = pool();
	uint64_t seen = 0;
	for (;;) {
		std::unique_lock<std::mutex> hold(p.lock);
		p.wake.wait(hold, [&] { return p.generation != seen && p.job != nullptr; });
		seen = p.generation;
		if (i >= p.n_wanted) {
			continue;
		}
		p.n_busy++;
		Job *job = p.job;
		hold.unlock();
		work(job, p.blocks[i]);
		hold.lock();
		if (--p.n_busy == 0) {
			p.idle.notify_all();
		}
	}
}

static void add_up(struct simt_traffic *to, struct simt_traffic *from) {
	uint64_t *t = reinterpret_cast<uint64_t *>(to), *f = reinterpret_cast<uint64_t *>(from);
	for (size_t i = 0; i < sizeof(*to) / sizeof(uint64_t); i++) {
		t[i] += f[i];
		f[i] = 0;
	}
}

static void keep_launch(const Call &call, const Shape &shape, const struct simt_traffic &traffic) {
	if (n_launches++ >= KEPT) {
		return;
	}
	simt_launch one = {};
	snprintf(one.kernel, sizeof(one.kernel), "%s", call.name);
	const dim3 sizes[] = {shape.grid, shape.block};
	unsigned *const to[] = {one.grid, one.block};
	for (int i = 0; i < 2; i++) {
		to[i][0] = sizes[i].x;
		to[i][1] = sizes[i].y;
		to[i][2] = sizes[i].z;
	}
	one.shared_bytes = (unsigned)shape.smem;
	one.graph_launch = call.is_captured ? total.graph_launches : 0;
	one.traffic = traffic;
	launches.push_back(one);
}

static int n_workers(uint32_t n_blocks) {
	int n = current.n_workers > 0 ? current.n_workers : (int)std::thread::hardware_concurrency();
	if (checking || n < 1) {
		n = 1; /* what the checker remembers of memory has one owner */
	}
	return (int)std::min((uint32_t)n, n_blocks);
}

bool run_kernel(const Call &call, const Shape &shape, bool *fault) {
	Pool &p = pool();
	std::lock_guard<std::mutex> one(p.launching);
	Job job;
	job.call = &call;
	job.shape = shape;
	job.n_blocks = shape.grid.x * shape.grid.y * shape.grid.z;
	const int n = n_workers(job.n_blocks);
	if (checking) {
		check_launch_starts(shape);
		traffic_launch_starts();
	}
	{
		std::lock_guard<std::mutex> hold(p.lock);
		while ((int)p.blocks.size() < n) {
			const int i = (int)p.blocks.size();
			p.blocks.push_back(block_create());
			if (i > 0) {
				std::thread(sleeper, i).detach();
			}
		}
		p.n_wanted = n;
		p.job = &job;
		p.generation++;
	}
	if (n > 1) {
		p.wake.notify_all();
	}
	work(&job, p.blocks[0]);
	std::unique_lock<std::mutex> hold(p.lock);
	p.job = nullptr; /* who wakes up now comes too late */
	p.idle.wait(hold, [&] { return p.n_busy == 0; });
	struct simt_traffic here = {};
	for (Block *b : p.blocks) {
		add_up(&here, &b->traffic);
	}
	keep_launch(call, shape, here);
	add_up(&total, &here);
	if (checking && !job.failed) {
		check_launch_ends(call, shape);
	}
	*fault = job.fault;
	return !job.failed;
}

} // namespace simt

void simt_set(const struct simt_options *wanted) {
	simt::work_reseed(wanted->seed); /* in the schedule that was */
	simt::current = *wanted;
}

bool simt_checks(void) {
	return simt::checking;
}

void simt_get_traffic(struct simt_traffic *out) {
	*out = simt::total;
}

void simt_forget_traffic(void) {
	simt::total = {};
	simt::launches.clear();
	simt::n_launches = 0;
	simt::traffic_forget();
}

int simt_get_launches(struct simt_launch *out, int max) {
	for (int i = 0; i < max && i < (int)simt::launches.size(); i++) {
		out[i] = simt::launches[(size_t)i];
	}
	return (int)simt::n_launches;
}
