/* SPDX-License-Identifier: Apache-2.0
 *
 * Work on streams. It is done when it is handed over; or, where a schedule defers it, when
 * something waits for it, and streams take turns that the schedule's seed draws: as late as a GPU
 * may be, so that a missing wait shows. Whatever is done is done whole, one thing at a time. */
#include "stream.hpp"

#include <algorithm>
#include <stdlib.h>

namespace simt {

/* Streams that have work, in the order in which they got it: by address no seed would replay. */
static std::vector<CUstream_st *> busy;
static uint32_t random_state = 1;

/* ---- one node ---- */

void node_own(Node *node) {
	if (node->kind == SIMT_NODE_KERNEL && node->owned == nullptr) {
		void *args = node->call.copy(node->call.args);
		node->owned = std::shared_ptr<void>(args, node->call.destroy);
		node->call.args = args;
	}
}

static cudaError_t run_kernel_node(const Node &node) {
	bool fault = false;
	host_traffic().launches++;
	if (failure_due(Failure::launch)) {
		return fail_for_good(cudaErrorLaunchFailure);
	}
	if (!run_kernel(node.call, node.shape, &fault)) {
		return fail_for_good(fault ? cudaErrorIllegalAddress : cudaErrorLaunchFailure);
	}
	return cudaSuccess;
}

static cudaError_t run_copy(const Node &node) {
	host_traffic().copies++;
	if (failure_due(Failure::copy)) {
		return fail_for_good(cudaErrorIllegalAddress);
	}
	memmove(node.to, node.from, node.n_bytes);
	if (checking) {
		check_stream_waits(node.shape.stream);
		check_host_copied(node.to, node.from, node.n_bytes);
	}
	return cudaSuccess;
}

static cudaError_t run_memset(const Node &node) {
	host_traffic().memsets++;
	if (failure_due(Failure::memset)) {
		return fail_for_good(cudaErrorIllegalAddress);
	}
	memset(node.to, node.value, node.n_bytes);
	if (checking) {
		check_stream_waits(node.shape.stream);
		check_host_wrote(node.to, node.n_bytes);
	}
	return cudaSuccess;
}

static cudaError_t run_node(const Node &node) {
	switch (node.kind) {
	case SIMT_NODE_KERNEL:
		return run_kernel_node(node);
	case SIMT_NODE_COPY:
		return run_copy(node);
	case SIMT_NODE_MEMSET:
		return run_memset(node);
	case SIMT_NODE_EVENT:
		return cudaSuccess;
	}
	return cudaErrorUnknown;
}

static cudaError_t run(const Work &work) {
	switch (work.task) {
	case Task::node:
		return run_node(work.node);
	case Task::record:
		work.record->is_done = true;
		work.record->when = Clock::now();
		return cudaSuccess;
	case Task::border:
		if (checking) {
			check_stream_waits(work.node.shape.stream);
		}
		return cudaSuccess;
	case Task::wait:
		return cudaSuccess;
	}
	return cudaErrorUnknown;
}

/* ---- whose turn it is ---- */

static bool can_run(const CUstream_st *stream) {
	const Work &next = stream->work.front();
	return next.task != Task::wait || next.record->is_done;
}

/* There always is one while streams are busy: each waits for what was recorded before. */
static CUstream_st *pick(void) {
	std::vector<CUstream_st *> ready;
	std::copy_if(busy.begin(), busy.end(), std::back_inserter(ready), can_run);
	random_state ^= random_state << 13;
	random_state ^= random_state >> 17;
	random_state ^= random_state << 5;
	if (ready.empty()) {
		abort();
	}
	return ready[random_state % ready.size()];
}

void work_step(void) {
	CUstream_st *stream = pick();
	const Work work = std::move(stream->work.front());
	stream->work.pop_front();
	if (stream->work.empty()) {
		busy.erase(std::find(busy.begin(), busy.end(), stream));
	}
	if (run(work) != cudaSuccess) {
		work_forget(); /* the device does nothing more */
	}
}

void work_forget(void) {
	for (CUstream_st *stream : busy) {
		stream->work.clear();
	}
	busy.clear();
}

void work_finish(CUstream_st *stream) {
	while (!stream->work.empty()) {
		work_step();
	}
}

void work_finish_record(const Record *record) {
	while (!record->is_done && !busy.empty()) {
		work_step();
	}
}

void work_finish_blocking(void) {
	while (std::any_of(busy.begin(), busy.end(),
		[](const CUstream_st *stream) { return stream->is_blocking; })) {
		work_step();
	}
}

void work_finish_all(void) {
	while (!busy.empty()) {
		work_step();
	}
}

cudaError_t work_add(CUstream_st *stream, bool is_legacy, Work work) {
	if (is_legacy) {
		work_finish_blocking();
	}
	if (is_legacy || !options().defers) {
		return device_state() == cudaSuccess ? run(work) : device_state();
	}
	if (work.task == Task::node) {
		node_own(&work.node);
	}
	if (stream->work.empty()) {
		busy.push_back(stream);
	}
	stream->work.push_back(std::move(work));
	return cudaSuccess;
}

void work_reseed(uint32_t seed) {
	work_finish_all();
	random_state = seed * 2654435761u | 1;
}

} // namespace simt
