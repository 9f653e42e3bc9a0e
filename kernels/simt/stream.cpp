/* SPDX-License-Identifier: Apache-2.0
 *
 * Streams, events, copies and graphs of the stand-in runtime. Work goes to work.cpp; while a stream
 * is captured it becomes nodes of a graph instead. Other streams join a capture by waiting for its
 * events, and must be waited for. */
#include "stream.hpp"

#include "memory.hpp"

#include <set>
#include <stdlib.h>

using namespace simt;

struct CUgraph_st {
	std::vector<Node> nodes;
	bool is_broken = false;
	int n_streams = 0; /* that are captured into it at present */
};

struct CUgraphExec_st {
	std::vector<Node> nodes;
};

struct CUevent_st {
	bool has_time = true;
	std::shared_ptr<Record> record; /* the last one, outside captures */
	CUgraph_st *graph = nullptr; /* recorded in this capture … */
	CUstream_st *stream = nullptr; /* … by this stream */
};

static CUstream_st legacy;
static std::set<CUstream_st *> streams;
static std::set<CUevent_st *> events;
static std::set<CUgraph_st *> graphs;
static std::set<CUgraphExec_st *> execs;

template <class T> static bool lives(const std::set<T *> &all, T *one) {
	return all.find(one) != all.end();
}

/* The stream that a handle means, NULL for one that isn't there. */
static CUstream_st *stream_of(cudaStream_t handle) {
	if (handle == nullptr) {
		return &legacy;
	}
	return lives(streams, handle) ? handle : nullptr;
}

static bool capturing(bool blocking_only) {
	bool found = false;
	for (CUstream_st *s : streams) {
		found = found || (s->graph != nullptr && (!blocking_only || s->is_blocking));
	}
	return found;
}

static void break_captures(void) {
	for (CUstream_st *s : streams) {
		if (s->graph != nullptr) {
			s->graph->is_broken = true;
		}
	}
}

namespace simt {

bool capture_forbids(void) {
	for (CUstream_st *s : streams) {
		if (s->graph != nullptr && s->is_origin && s->mode != cudaStreamCaptureModeRelaxed) {
			break_captures();
			return true;
		}
	}
	return false;
}

void streams_clear(void) {
	work_forget();
	for (CUstream_st *s : streams) {
		delete s;
	}
	for (CUevent_st *e : events) {
		delete e;
	}
	streams.clear();
	events.clear();
}

} // namespace simt

/* ---- work ---- */

/* Runs the node, or adds it to the graph into which its stream is captured. */
static cudaError_t hand_over(cudaStream_t handle, Node node) {
	CUstream_st *stream = stream_of(handle);
	if (device_state() != cudaSuccess) {
		return fail_with(device_state());
	}
	if (stream == nullptr) {
		return fail_with(cudaErrorInvalidResourceHandle);
	}
	if (stream == &legacy && capturing(true)) {
		break_captures();
		return fail_with(cudaErrorStreamCaptureImplicit);
	}
	node.shape.stream = handle;
	if (stream->graph == nullptr) {
		return work_add(stream, stream == &legacy, {Task::node, node, nullptr});
	}
	if (stream->graph->is_broken) {
		return fail_with(cudaErrorStreamCaptureInvalidated);
	}
	node_own(&node);
	node.call.is_captured = node.kind == SIMT_NODE_KERNEL;
	stream->has_unjoined = true;
	stream->graph->nodes.push_back(node);
	return cudaSuccess;
}

namespace simt {

void launch(const Call &call, const Shape &shape) {
	const cudaError_t refused = launch_refused(call, shape);
	if (refused != cudaSuccess) {
		fail_with(refused);
		return;
	}
	Node node = {};
	node.kind = SIMT_NODE_KERNEL;
	node.call = call;
	node.shape = shape;
	node.n_bytes = shape.smem;
	hand_over(shape.stream, node);
}

} // namespace simt

/* Device memory has an end that a copy must not pass; of the host's only pinned has a known one. */
static bool side_is_valid(const void *p, size_t n_bytes, bool must_be_device) {
	const Allocation *a = allocation_of((uintptr_t)p);
	if (a == nullptr) {
		return !must_be_device && p != nullptr;
	}
	const uintptr_t at = (uintptr_t)p - a->start;
	if (must_be_device && a->is_host) {
		return false;
	}
	return at <= a->n_bytes && n_bytes <= a->n_bytes - at;
}

static bool is_device(const void *p) {
	const Allocation *a = allocation_of((uintptr_t)p);
	return a != nullptr && !a->is_host;
}

static cudaError_t copy_valid(const void *to, const void *from, size_t n_bytes, int kind) {
	if (n_bytes == 0) {
		return cudaSuccess;
	}
	const bool to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
	const bool from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
	const bool crosses = (kind != cudaMemcpyDefault && !to_device && is_device(to)) ||
		(kind != cudaMemcpyDefault && !from_device && is_device(from));
	if (crosses || kind < cudaMemcpyHostToHost || kind > cudaMemcpyDefault ||
		!side_is_valid(to, n_bytes, to_device) || !side_is_valid(from, n_bytes, from_device)) {
		return cudaErrorInvalidValue;
	}
	return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(
	void *to, const void *from, size_t n_bytes, enum cudaMemcpyKind kind, cudaStream_t stream) {
	if (device_state() != cudaSuccess || copy_valid(to, from, n_bytes, kind) != cudaSuccess) {
		return fail_with(device_state() != cudaSuccess ? device_state() : cudaErrorInvalidValue);
	}
	Node node = {};
	node.kind = SIMT_NODE_COPY;
	node.to = to;
	node.from = from;
	node.n_bytes = n_bytes;
	const bool is_captured = lives(streams, stream) && stream->graph != nullptr;
	const bool from_pageable = allocation_of((uintptr_t)from) == nullptr;
	if (options().defers && from_pageable && !is_captured && n_bytes > 0) {
		/* CUDA has taken it when the call returns */
		node.owned = std::shared_ptr<void>(malloc(n_bytes), free);
		node.from = memcpy(node.owned.get(), from, n_bytes);
	}
	const cudaError_t error = hand_over(stream, node);
	const bool to_pageable = allocation_of((uintptr_t)to) == nullptr;
	if (error == cudaSuccess && !is_captured && lives(streams, stream) &&
		(to_pageable || (!is_device(to) && !is_device(from)))) {
		work_finish(stream); /* such a copy returns when it is done */
		return fail_with(device_state());
	}
	return error;
}

cudaError_t cudaMemcpy(void *to, const void *from, size_t n_bytes, enum cudaMemcpyKind kind) {
	return cudaMemcpyAsync(to, from, n_bytes, kind, nullptr);
}

cudaError_t cudaMemsetAsync(void *p, int value, size_t n_bytes, cudaStream_t stream) {
	if (device_state() != cudaSuccess || (n_bytes > 0 && !side_is_valid(p, n_bytes, true))) {
		return fail_with(device_state() != cudaSuccess ? device_state() : cudaErrorInvalidValue);
	}
	Node node = {};
	node.kind = SIMT_NODE_MEMSET;
	node.to = p;
	node.value = value;
	node.n_bytes = n_bytes;
	return hand_over(stream, node);
}

cudaError_t cudaMemset(void *p, int value, size_t n_bytes) {
	return cudaMemsetAsync(p, value, n_bytes, nullptr);
}

/* ---- streams ---- */

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned flags) {
	host_traffic().creations++;
	if (device_state() != cudaSuccess) {
		return fail_with(device_state());
	}
	if (failure_due(Failure::stream)) {
		return fail_with(cudaErrorMemoryAllocation);
	}
	*stream = new CUstream_st();
	(*stream)->is_blocking = (flags & cudaStreamNonBlocking) == 0;
	streams.insert(*stream);
	return cudaSuccess;
}

cudaError_t cudaStreamCreate(cudaStream_t *stream) {
	return cudaStreamCreateWithFlags(stream, cudaStreamDefault);
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
	if (!lives(streams, stream)) {
		return fail_with(cudaErrorInvalidResourceHandle);
	}
	if (stream->graph != nullptr) {
		stream->graph->is_broken = true;
		if (--stream->graph->n_streams == 0) {
			delete stream->graph;
		}
	}
	work_finish(stream);
	streams.erase(stream);
	delete stream;
	return fail_with(device_state());
}

/* Waiting for what is being captured can't end: the capture is broken, as with CUDA. */
static cudaError_t wait_for(CUstream_st *stream) {
	if (device_state() != cudaSuccess) {
		return fail_with(device_state());
	}
	if (stream == nullptr) {
		return fail_with(cudaErrorInvalidResourceHandle);
	}
	if (stream->graph != nullptr || (stream == &legacy && capturing(true))) {
		break_captures();
		return fail_with(cudaErrorStreamCaptureUnsupported);
	}
	return cudaSuccess;
}

static void finish(CUstream_st *stream) {
	if (stream == &legacy) {
		work_finish_blocking();
	} else {
		work_finish(stream);
	}
	if (checking) {
		check_stream_waits(stream == &legacy ? nullptr : stream);
	}
}

cudaError_t cudaStreamSynchronize(cudaStream_t handle) {
	const cudaError_t error = wait_for(stream_of(handle));
	if (error != cudaSuccess) {
		return error;
	}
	finish(stream_of(handle));
	return fail_with(device_state());
}

/* Who asks again and again waits. */
cudaError_t cudaStreamQuery(cudaStream_t handle) {
	CUstream_st *stream = stream_of(handle);
	const cudaError_t error = wait_for(stream);
	if (error != cudaSuccess || stream->work.empty()) {
		return error;
	}
	work_step();
	return device_state() != cudaSuccess ? fail_with(device_state()) : cudaErrorNotReady;
}

cudaError_t cudaDeviceSynchronize(void) {
	if (device_state() != cudaSuccess) {
		return fail_with(device_state());
	}
	if (capturing(false)) {
		break_captures();
		return fail_with(cudaErrorStreamCaptureUnsupported);
	}
	work_finish_all();
	if (checking) {
		check_all_streams_wait();
	}
	return fail_with(device_state());
}

/* ---- events ---- */

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned flags) {
	host_traffic().creations++;
	if (device_state() != cudaSuccess) {
		return fail_with(device_state());
	}
	if (failure_due(Failure::event)) {
		return fail_with(cudaErrorMemoryAllocation);
	}
	*event = new CUevent_st();
	(*event)->has_time = (flags & cudaEventDisableTiming) == 0;
	events.insert(*event);
	return cudaSuccess;
}

cudaError_t cudaEventCreate(cudaEvent_t *event) {
	return cudaEventCreateWithFlags(event, cudaEventDefault);
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
	if (events.erase(event) == 0) {
		return fail_with(cudaErrorInvalidResourceHandle);
	}
	delete event;
	return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t handle) {
	CUstream_st *stream = stream_of(handle);
	if (device_state() != cudaSuccess) {
		return fail_with(device_state());
	}
	if (!lives(events, event) || stream == nullptr) {
		return fail_with(cudaErrorInvalidResourceHandle);
	}
	event->graph = stream->graph;
	event->stream = stream;
	event->record = nullptr;
	if (stream->graph != nullptr) {
		return cudaSuccess;
	}
	event->record = std::make_shared<Record>();
	return work_add(stream, stream == &legacy, {Task::record, {}, event->record});
}

cudaError_t cudaStreamWaitEvent(cudaStream_t handle, cudaEvent_t event, unsigned flags) {
	CUstream_st *stream = stream_of(handle);
	if (device_state() != cudaSuccess) {
		return fail_with(device_state());
	}
	if (!lives(events, event) || stream == nullptr) {
		return fail_with(cudaErrorInvalidResourceHandle);
	}
	if (flags != 0) {
		return fail_with(cudaErrorInvalidValue);
	}
	if (event->graph == nullptr) {
		if (event->record == nullptr || stream->graph != nullptr) {
			return cudaSuccess;
		}
		if (stream == &legacy) {
			work_finish_record(event->record.get());
		}
		return work_add(stream, stream == &legacy, {Task::wait, {}, event->record});
	}
	if (stream == &legacy) {
		break_captures();
		return fail_with(cudaErrorStreamCaptureImplicit);
	}
	if (stream->graph == nullptr) {
		stream->graph = event->graph;
		stream->graph->n_streams++;
	}
	if (event->stream != stream) {
		event->stream->has_unjoined = false;
		stream->has_unjoined = true;
	}
	return cudaSuccess;
}

static cudaError_t event_ready(cudaEvent_t event) {
	if (device_state() != cudaSuccess) {
		return fail_with(device_state());
	}
	if (!lives(events, event)) {
		return fail_with(cudaErrorInvalidResourceHandle);
	}
	if (event->graph != nullptr) {
		break_captures();
		return fail_with(cudaErrorStreamCaptureUnsupported);
	}
	return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
	const cudaError_t error = event_ready(event);
	if (error != cudaSuccess || event->record == nullptr) {
		return error;
	}
	work_finish_record(event->record.get());
	return fail_with(device_state());
}

cudaError_t cudaEventQuery(cudaEvent_t event) {
	const cudaError_t error = event_ready(event);
	if (error != cudaSuccess || event->record == nullptr || event->record->is_done) {
		return error;
	}
	work_step();
	return device_state() != cudaSuccess ? fail_with(device_state()) : cudaErrorNotReady;
}

cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t start, cudaEvent_t end) {
	if (device_state() != cudaSuccess) {
		return fail_with(device_state());
	}
	if (!lives(events, start) || !lives(events, end) || !start->has_time || !end->has_time ||
		start->record == nullptr || end->record == nullptr) {
		return fail_with(cudaErrorInvalidResourceHandle);
	}
	if (!start->record->is_done || !end->record->is_done) {
		return cudaErrorNotReady;
	}
	const Clock::duration taken = end->record->when - start->record->when;
	*ms = std::chrono::duration<float, std::milli>(taken).count();
	return cudaSuccess;
}

/* ---- graphs ---- */

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, enum cudaStreamCaptureMode mode) {
	if (device_state() != cudaSuccess) {
		return fail_with(device_state());
	}
	if (stream == nullptr) {
		return fail_with(cudaErrorStreamCaptureUnsupported);
	}
	if (!lives(streams, stream)) {
		return fail_with(cudaErrorInvalidResourceHandle);
	}
	if (stream->graph != nullptr) {
		return fail_with(cudaErrorIllegalState);
	}
	stream->graph = new CUgraph_st();
	stream->graph->n_streams = 1;
	stream->is_origin = true;
	stream->has_unjoined = false;
	stream->mode = mode;
	return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph) {
	*graph = nullptr;
	if (!lives(streams, stream)) {
		return fail_with(cudaErrorInvalidResourceHandle);
	}
	if (stream->graph == nullptr || !stream->is_origin) {
		return fail_with(cudaErrorIllegalState);
	}
	CUgraph_st *captured = stream->graph;
	bool is_unjoined = false;
	host_traffic().creations++;
	captured->is_broken = captured->is_broken || failure_due(Failure::capture);
	for (CUstream_st *s : streams) {
		if (s->graph == captured) {
			is_unjoined = is_unjoined || (s != stream && s->has_unjoined);
			s->graph = nullptr;
			s->is_origin = s->has_unjoined = false;
		}
	}
	for (CUevent_st *e : events) {
		if (e->graph == captured) {
			e->graph = nullptr;
		}
	}
	if (captured->is_broken || is_unjoined) {
		const bool is_broken = captured->is_broken;
		delete captured;
		return fail_with(is_broken ? cudaErrorStreamCaptureInvalidated
								   : cudaErrorStreamCaptureUnjoined);
	}
	captured->n_streams = 0;
	graphs.insert(captured);
	*graph = captured;
	return cudaSuccess;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t handle, enum cudaStreamCaptureStatus *status) {
	const CUstream_st *stream = stream_of(handle);
	if (stream == nullptr) {
		return fail_with(cudaErrorInvalidResourceHandle);
	}
	*status = stream->graph == nullptr ? cudaStreamCaptureStatusNone
		: stream->graph->is_broken     ? cudaStreamCaptureStatusInvalidated
									   : cudaStreamCaptureStatusActive;
	return cudaSuccess;
}

cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t *nodes, size_t *n_nodes) {
	if (!lives(graphs, graph)) {
		return fail_with(cudaErrorInvalidResourceHandle);
	}
	if (nodes != nullptr) {
		for (size_t i = 0; i < *n_nodes && i < graph->nodes.size(); i++) {
			nodes[i] = reinterpret_cast<cudaGraphNode_t>(&graph->nodes[i]);
		}
	}
	*n_nodes = graph->nodes.size();
	return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(
	cudaGraphExec_t *exec, cudaGraph_t graph, unsigned long long flags) {
	(void)flags;
	host_traffic().creations++;
	if (device_state() != cudaSuccess) {
		return fail_with(device_state());
	}
	if (!lives(graphs, graph)) {
		return fail_with(cudaErrorInvalidResourceHandle);
	}
	if (failure_due(Failure::instantiate)) {
		return fail_with(cudaErrorMemoryAllocation);
	}
	*exec = new CUgraphExec_st{graph->nodes};
	execs.insert(*exec);
	return cudaSuccess;
}

/* No launch begins early across a graph's borders. */
static cudaError_t add_borders(
	CUstream_st *stream, cudaStream_t handle, const std::vector<Node> &nodes) {
	std::set<cudaStream_t> all = {handle};
	for (const Node &node : nodes) {
		all.insert(node.shape.stream);
	}
	for (const cudaStream_t one : all) {
		Work border = {Task::border, {}, nullptr};
		border.node.kind = SIMT_NODE_EVENT;
		border.node.shape.stream = one;
		work_add(stream, stream == &legacy, border);
	}
	return device_state();
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t handle) {
	CUstream_st *stream = stream_of(handle);
	if (device_state() != cudaSuccess) {
		return fail_with(device_state());
	}
	if (!lives(execs, exec) || stream == nullptr) {
		return fail_with(cudaErrorInvalidResourceHandle);
	}
	if (stream->graph != nullptr) {
		break_captures(); /* CUDA would make it a child node: we never want that */
		return fail_with(cudaErrorStreamCaptureUnsupported);
	}
	host_traffic().graph_launches++;
	add_borders(stream, handle, exec->nodes);
	for (const Node &node : exec->nodes) {
		const cudaError_t error =
			work_add(stream, stream == &legacy, {Task::node, node, nullptr});
		if (error != cudaSuccess) {
			return error;
		}
	}
	return add_borders(stream, handle, exec->nodes);
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) {
	if (execs.erase(exec) == 0) {
		return fail_with(cudaErrorInvalidResourceHandle);
	}
	delete exec;
	return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
	if (graphs.erase(graph) == 0) {
		return fail_with(cudaErrorInvalidResourceHandle);
	}
	delete graph;
	return cudaSuccess;
}

bool simt_get_node(const struct CUgraph_st *graph, size_t i, struct simt_node *out) {
	if (i >= graph->nodes.size()) {
		return false;
	}
	const Node &node = graph->nodes[i];
	const dim3 g = node.shape.grid, b = node.shape.block;
	*out = {node.kind, node.kind == SIMT_NODE_KERNEL ? node.call.name : "", {g.x, g.y, g.z},
		{b.x, b.y, b.z}, node.n_bytes};
	return true;
}
