/* SPDX-License-Identifier: Apache-2.0
 *
 * Streams and the work on them, as stream.cpp hands it over and work.cpp does it: at once, or,
 * where a schedule defers it, when something waits for it. */
#pragma once

#include "state.hpp"

#include <chrono>
#include <deque>
#include <memory>

namespace simt {

using Clock = std::chrono::steady_clock;

struct Node {
	enum simt_node_kind kind;
	Call call;
	std::shared_ptr<void> owned; /* copied arguments of the call, or bytes of pageable memory */
	Shape shape; /* the stream of every kind of node */
	void *to;
	const void *from;
	int value;
	size_t n_bytes;
};

/* One record of an event. */
struct Record {
	bool is_done;
	Clock::time_point when;
};

/* What a stream is given, in order. A border is where a graph begins or ends. */
enum class Task { node, record, wait, border };
struct Work {
	Task task;
	Node node;
	std::shared_ptr<Record> record; /* to be done, or waited for */
};

} // namespace simt

struct CUstream_st {
	bool is_blocking = true; /* waits for the legacy stream */
	CUgraph_st *graph = nullptr; /* while it is captured */
	bool is_origin = false, has_unjoined = false;
	enum cudaStreamCaptureMode mode = cudaStreamCaptureModeGlobal;
	std::deque<simt::Work> work; /* handed over and not done */
};

namespace simt {

/* ---- stream.cpp ---- */
bool capture_forbids(void); /* then the capture is broken too, as with CUDA */
void streams_clear(void);

/* ---- work.cpp ---- */
void node_own(Node *node); /* copies a call's arguments, for work that is done later */
/* Does it, or defers it; a failure is the device's, and sticky. The legacy stream (is_legacy) never
 * defers: it begins when all blocking streams are done. */
cudaError_t work_add(CUstream_st *stream, bool is_legacy, Work work);
void work_finish(CUstream_st *stream); /* does all that the stream was given */
void work_finish_record(const Record *record);
void work_finish_blocking(void); /* all that blocking streams were given */
void work_finish_all(void);
void work_step(void); /* does one thing of any stream, of which one must have work */
void work_forget(void); /* streams are gone, or the device has failed */

} // namespace simt
