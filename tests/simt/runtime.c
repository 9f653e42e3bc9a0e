/* SPDX-License-Identifier: Apache-2.0
 *
 * The stand-in of the CUDA runtime as C code sees it: memory, copies, streams, events, graphs, and
 * each way in which it can refuse or fail. */
#include "report.h"
#include "runtime_kernels.h"
#include "simt_test.h"

#include <string.h>

enum { N = 64 };

static const struct simt_device good = {1, CUDART_VERSION, 8, 0, 1 << 20};

/* The call gave this error, and the next cudaGetLastError gives it too. */
static void expect(cudaError_t got, cudaError_t want, const char *what) {
	const cudaError_t last = cudaGetLastError();
	verify(got == want, "%s: %s instead of %s", what, cudaGetErrorName(got),
		cudaGetErrorName(want));
	verify(last == want, "%s: the last error is %s", what, cudaGetErrorName(last));
}

/* What a launch left behind. */
static void expect_launch(cudaError_t want, const char *what) {
	const cudaError_t got = cudaGetLastError();
	verify(got == want, "%s: %s instead of %s", what, cudaGetErrorName(got),
		cudaGetErrorName(want));
}

static int *ints(int value) {
	void *p = NULL;
	int host[N];
	for (int i = 0; i < N; i++) {
		host[i] = value;
	}
	if (cudaMalloc(&p, sizeof(host)) == cudaSuccess) {
		cudaMemcpy(p, host, sizeof(host), cudaMemcpyHostToDevice);
	}
	return p;
}

static int value_at(const int *p, int i) {
	int host[N] = {0};
	cudaMemcpy(host, p, sizeof(host), cudaMemcpyDeviceToHost);
	return host[i];
}

static void test_device(void) {
	int n = -1, version = 0;
	struct cudaDeviceProp prop;
	verify(cudaGetDeviceCount(&n) == cudaSuccess && n == 1, "%d devices", n);
	verify(cudaGetDeviceProperties(&prop, 0) == cudaSuccess && prop.major == 8 &&
		prop.warpSize == 32 && prop.totalGlobalMem == good.total_bytes, "properties");
	verify(cudaDeviceGetAttribute(&n, cudaDevAttrMultiProcessorCount, 0) == cudaSuccess && n == 8,
		"an attribute");
	verify(cudaDriverGetVersion(&version) == cudaSuccess && version == CUDART_VERSION, "version");
	verify(strcmp(cudaGetErrorString(cudaErrorMemoryAllocation), "out of memory") == 0 &&
		strcmp(cudaGetErrorName((cudaError_t)12345), "cudaErrorUnknown") == 0, "sentences");
	expect(cudaSetDevice(1), cudaErrorInvalidDevice, "a second device");
	expect(cudaGetDeviceProperties(&prop, -1), cudaErrorInvalidDevice, "a device before the first");
}

/* What a block may have of shared memory follows the compute capability. */
static void test_shared_memory(void) {
	static const int kib[][2] = {{80, 163}, {86, 99}, {89, 99}, {90, 227}, {100, 227}, {120, 99}};
	int *p = ints(5);
	for (size_t i = 0; i < sizeof(kib) / sizeof(kib[0]); i++) {
		struct simt_device device = good;
		const size_t most = (size_t)kib[i][1] << 10;
		int got = 0;
		device.major = kib[i][0] / 10;
		device.minor = kib[i][0] % 10;
		simt_set_device(&device);
		cudaDeviceGetAttribute(&got, cudaDevAttrMaxSharedMemoryPerBlockOptin, 0);
		verify(got == (int)most, "%d bytes on %d", got, kib[i][0]);
		expect(allow_dyn(most + 1), cudaErrorInvalidValue, "more than a block may have");
		verify(allow_dyn(most) == cudaSuccess, "%zu bytes on %d", most, kib[i][0]);
		launch_dyn(p, most, NULL);
		expect_launch(cudaSuccess, "as much as a block may have");
	}
	struct simt_device device = good;
	device.major = 9;
	simt_set_device(&device);
	allow_dyn(200 << 10);
	simt_set_device(&good);
	launch_dyn(p, 200 << 10, NULL);
	expect_launch(cudaErrorInvalidValue, "what another device allowed");
	cudaFree(p);
}

static void test_no_driver(void) {
	static const struct {
		const char *name;
		int n_devices, driver;
		cudaError_t want;
	} cases[] = {
		{"no driver", 0, 0, cudaErrorInsufficientDriver},
		{"an old driver", 1, 12040, cudaErrorInsufficientDriver},
		{"no device", 0, CUDART_VERSION, cudaErrorNoDevice},
	};
	for (int i = 0; i < 3; i++) {
		struct simt_device device = good;
		int n, version;
		void *p = NULL;
		cudaStream_t stream;
		device.n_devices = cases[i].n_devices;
		device.driver_version = cases[i].driver;
		simt_set_device(&device);
		expect(cudaGetDeviceCount(&n), cases[i].want, cases[i].name);
		expect(cudaMalloc(&p, 16), cases[i].want, cases[i].name);
		expect(cudaStreamCreate(&stream), cases[i].want, cases[i].name);
		launch_add(NULL, 1, N, NULL);
		expect_launch(cases[i].want, cases[i].name);
		verify(cudaDriverGetVersion(&version) == cudaSuccess && version == cases[i].driver,
			"%s: version %d", cases[i].name, version);
		simt_set_device(&good);
	}
	int *p = ints(1);
	simt_no_image(true);
	launch_add(p, 1, N, NULL);
	expect_launch(cudaErrorNoKernelImageForDevice, "a wrong architecture");
	expect(allow_dyn(1000), cudaErrorNoKernelImageForDevice, "a wrong architecture");
	simt_no_image(false);
	launch_add(p, 1, N, NULL);
	verify(value_at(p, 3) == 2, "the right architecture");
	cudaFree(p);
}

static void test_memory(void) {
	void *p = NULL, *q = NULL, *pinned = NULL;
	size_t free_bytes, total;
	int host[N];
	memset(host, 7, sizeof(host));
	verify(cudaMalloc(&p, 0) == cudaSuccess && p == NULL, "no bytes");
	expect(cudaMalloc(&p, (1 << 20) + 1), cudaErrorMemoryAllocation, "more than there is");
	verify(cudaMalloc(&p, 1 << 19) == cudaSuccess, "half of it");
	verify(cudaMemGetInfo(&free_bytes, &total) == cudaSuccess && free_bytes == 1 << 19 &&
		total == 1 << 20, "free %zu of %zu", free_bytes, total);
	expect(cudaMalloc(&q, (1 << 19) + 1), cudaErrorMemoryAllocation, "more than is left");
	for (int n = 1; n <= 3; n++) {
		simt_fail_malloc(n);
		for (int i = 1; i <= 3; i++) {
			const cudaError_t error = cudaMalloc(&q, 64);
			verify(error == (i == n ? cudaErrorMemoryAllocation : cudaSuccess),
				"call %d of %d: %s", i, n, cudaGetErrorName(error));
			cudaFree(q);
		}
		cudaGetLastError();
	}
	simt_fail_host_alloc(1);
	expect(cudaHostAlloc(&pinned, 64, cudaHostAllocDefault), cudaErrorMemoryAllocation, "pinned");
	verify(cudaHostAlloc(&pinned, sizeof(host), 0) == cudaSuccess && pinned != NULL, "pinned");
	expect(cudaFree(pinned), cudaErrorInvalidValue, "pinned memory to cudaFree");
	expect(cudaFree(host), cudaErrorInvalidValue, "a stray pointer to cudaFree");
	expect(cudaMemcpy(p, host, (1 << 19) + 1, cudaMemcpyHostToDevice), cudaErrorInvalidValue,
		"a copy past the end");
	expect(cudaMemcpy(host, p, 4, cudaMemcpyHostToDevice), cudaErrorInvalidValue,
		"a copy the wrong way");
	expect(cudaMemcpy(pinned, host, 4, cudaMemcpyDeviceToDevice), cudaErrorInvalidValue,
		"a copy between hosts that says device");
	expect(cudaMemset(host, 0, 4), cudaErrorInvalidValue, "memset of host memory");
	verify(cudaMemcpy(p, host, sizeof(host), cudaMemcpyHostToDevice) == cudaSuccess &&
		cudaMemset((char *)p + 4, 1, 4) == cudaSuccess &&
		cudaMemcpy(pinned, p, sizeof(host), cudaMemcpyDefault) == cudaSuccess &&
		((int *)pinned)[0] == 0x07070707 && ((int *)pinned)[1] == 0x01010101, "copies");
	verify(cudaHostRegister(host, sizeof(host), 0) == cudaSuccess, "registered memory");
	expect(cudaHostRegister(host, sizeof(host), 0), cudaErrorInvalidValue, "registered twice");
	verify(cudaHostUnregister(host) == cudaSuccess, "unregistered memory");
	verify(cudaFreeHost(pinned) == cudaSuccess && cudaFree(p) == cudaSuccess &&
		cudaFree(NULL) == cudaSuccess, "frees");
}

static void test_launches(void) {
	int *p = ints(5);
	launch_add(p, 1, 2000, NULL);
	expect_launch(cudaErrorInvalidConfiguration, "2000 threads");
	launch_add(p, 1, 0, NULL);
	expect_launch(cudaErrorInvalidConfiguration, "no threads");
	launch_dyn(p, 60000, NULL);
	expect_launch(cudaErrorInvalidValue, "60000 bytes of shared memory");
	expect(allow_dyn(300000), cudaErrorInvalidValue, "300000 bytes of shared memory");
	verify(allow_dyn(60000) == cudaSuccess, "allowing 60000 bytes");
	launch_dyn(p, 60000, NULL);
	verify(value_at(p, 31) == 1 && value_at(p, 32) == 5, "60000 bytes that were allowed");
	launch_add(p, 1, N, (cudaStream_t)p);
	expect_launch(cudaErrorInvalidResourceHandle, "a stray stream");
	cudaFree(p);
}

/* After a sticky error every call fails the same way, until the device is reset. */
static void expect_sticky(cudaError_t want, const char *what) {
	void *p = NULL;
	cudaStream_t stream;
	verify(cudaGetLastError() == want && cudaGetLastError() == want, "%s: is not sticky", what);
	verify(cudaMalloc(&p, 16) == want && cudaDeviceSynchronize() == want &&
		cudaStreamCreate(&stream) == want && cudaMemset(NULL, 0, 0) == want,
		"%s: other calls work", what);
	verify(cudaDeviceReset() == cudaSuccess && cudaGetLastError() == cudaSuccess,
		"%s: stays after a reset", what);
	int *ok = ints(1);
	launch_add(ok, 1, N, NULL);
	verify(value_at(ok, 0) == 2, "%s: no launch after a reset", what);
	cudaFree(ok);
}

static void test_sticky(void) {
	const struct simt_options quiet = {0, SIMT_FORWARD, 1, true};
	simt_set(&quiet);
	int *p = ints(1);
	simt_fail_launch(2);
	launch_add(p, 1, N, NULL);
	verify(cudaGetLastError() == cudaSuccess && value_at(p, 0) == 2, "the launch before");
	launch_add(p, 1, N, NULL);
	expect_sticky(cudaErrorLaunchFailure, "a failed launch");
	p = ints(1);
	launch_stray(p, NULL);
	expect_sticky(cudaErrorIllegalAddress, "a stray write");
	p = ints(1);
	simt_fail_copy(1);
	cudaMemcpyAsync(p, p, 4, cudaMemcpyDeviceToDevice, NULL);
	expect_sticky(cudaErrorIllegalAddress, "a failed copy");
	p = ints(1);
	simt_fail_memset(1);
	cudaMemsetAsync(p, 0, 4, NULL);
	expect_sticky(cudaErrorIllegalAddress, "a failed memset");
}

/* ---- deferred work ---- */

enum { N_STREAMS = 3 };

static void defer(unsigned seed) {
	const struct simt_options options = {0, SIMT_FORWARD, seed, true, seed != 0};
	simt_set(&options);
}

/* Pinned memory is read when the copy is done, pageable memory when it is handed over; a copy to
 * pageable memory returns when it is done. */
static void test_late_copies(void) {
	cudaStream_t stream;
	int *p = ints(0), *q = ints(0), *pinned = NULL, pageable[N] = {1}, back[N];
	cudaMallocHost((void **)&pinned, sizeof(back));
	cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
	defer(1);
	pinned[0] = 1;
	cudaMemcpyAsync(p, pinned, 4, cudaMemcpyHostToDevice, stream);
	cudaMemcpyAsync(q, pageable, 4, cudaMemcpyHostToDevice, stream);
	launch_add(q, 10, 1, stream);
	verify(*p == 0 && *q == 0, "deferred work is done when it is handed over");
	verify(cudaStreamQuery(stream) == cudaErrorNotReady, "work is done that nobody waited for");
	pageable[0] = 2;
	defer(2); /* does what there is */
	verify(*p == 1 && *q == 11, "another schedule leaves work behind: %d, %d", *p, *q);
	cudaMemcpyAsync(p, pinned, 4, cudaMemcpyHostToDevice, stream);
	cudaMemcpyAsync(q, pageable, 4, cudaMemcpyHostToDevice, stream);
	launch_add(q, 10, 1, stream);
	pinned[0] = 5;
	pageable[0] = 5;
	verify(cudaStreamSynchronize(stream) == cudaSuccess && *p == 5 && *q == 12,
		"pinned %d, pageable %d", *p, *q);
	cudaMemcpyAsync(pinned, q, 4, cudaMemcpyDeviceToHost, stream);
	verify(pinned[0] == 5, "a copy to pinned memory is early");
	cudaMemcpyAsync(back, q, 4, cudaMemcpyDeviceToHost, stream);
	verify(back[0] == 12 && pinned[0] == 12, "a copy to pageable memory is late");
	launch_add(q, 1, 1, stream);
	verify(cudaFree(p) == cudaSuccess && *q == 13, "memory goes while work is under way");
	launch_add(q, 1, 1, stream);
	cudaStreamDestroy(stream);
	verify(*q == 14, "a stream goes before its work is done");
	cudaFreeHost(pinned);
	cudaFree(q);
	defer(0);
}

/* Appends its digit to *p as streams have their turns. */
static int order_of(unsigned seed, bool is_ordered) {
	cudaStream_t streams[N_STREAMS];
	cudaEvent_t event;
	int *p = ints(0), digits = 0;
	unsigned char *places;
	cudaMalloc((void **)&places, 2 * N_STREAMS);
	cudaMemset(places, 0, 2 * N_STREAMS);
	cudaEventCreate(&event);
	defer(seed);
	for (int i = 0; i < N_STREAMS; i++) {
		cudaStreamCreateWithFlags(&streams[i], cudaStreamNonBlocking);
		if (is_ordered && i > 0) {
			cudaStreamWaitEvent(streams[i], event, 0);
		}
		for (int j = 0; j < 2; j++) { /* the number of adds so far, and a one more */
			cudaMemcpyAsync(places + 2 * i + j, p, 1, cudaMemcpyDeviceToDevice, streams[i]);
			launch_add(p, 1, 1, streams[i]);
		}
		cudaEventRecord(event, streams[i]);
	}
	verify(cudaEventQuery(event) == cudaErrorNotReady, "an event is early");
	verify(cudaEventSynchronize(event) == cudaSuccess && cudaEventQuery(event) == cudaSuccess &&
		places[2 * N_STREAMS - 1] >= 1, "an event is late");
	verify(cudaDeviceSynchronize() == cudaSuccess && *p > 0, "work is left");
	for (int i = 0; i < 2 * N_STREAMS; i++) {
		digits = digits * 10 + places[i];
	}
	for (int i = 0; i < N_STREAMS; i++) {
		cudaStreamDestroy(streams[i]);
	}
	cudaEventDestroy(event);
	cudaFree(places);
	cudaFree(p);
	defer(0);
	return digits;
}

static void test_turns(void) {
	int first = order_of(1, false), n_others = 0;
	verify(first == order_of(1, false), "a seed doesn't replay");
	for (unsigned seed = 2; seed < 10; seed++) {
		n_others += order_of(seed, false) != first;
		const int ordered = order_of(seed, true);
		verify(ordered == 12345, "seed %u: events give the order %06d", seed, ordered);
	}
	verify(n_others >= 4, "only %d of 8 seeds give other turns", n_others);
}

/* A graph's nodes are done late too, each once a launch; and a failure shows at the wait. */
static void test_late_graphs(void) {
	cudaStream_t stream;
	cudaGraph_t graph;
	cudaGraphExec_t exec;
	int *p = ints(0), v = 3;
	cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
	defer(3);
	cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal);
	launch_add(p, v, N, stream);
	launch_add(p, v, N, stream);
	cudaStreamEndCapture(stream, &graph);
	cudaGraphInstantiate(&exec, graph, 0);
	cudaGraphDestroy(graph);
	cudaGraphLaunch(exec, stream);
	cudaGraphLaunch(exec, stream);
	cudaGraphExecDestroy(exec);
	verify(*p == 0, "a graph is early");
	verify(cudaStreamSynchronize(stream) == cudaSuccess && *p == 12, "two launches give %d", *p);
	simt_fail_launch(2);
	launch_add(p, 1, N, stream);
	launch_add(p, 1, N, stream);
	launch_add(p, 1, N, stream);
	verify(cudaPeekAtLastError() == cudaSuccess, "a failure shows before its work is done");
	verify(cudaStreamSynchronize(stream) == cudaErrorLaunchFailure && *p == 13,
		"a failure doesn't end the work: %d", *p);
	expect_sticky(cudaErrorLaunchFailure, "a deferred launch that failed");
	defer(0);
}

/* ---- what is asked of the driver ---- */

static uint64_t n_creations(void) {
	struct simt_traffic t;
	simt_get_traffic(&t);
	return t.creations;
}

static void test_creations(void) {
	cudaStream_t stream;
	cudaEvent_t event;
	cudaGraph_t graph;
	cudaGraphExec_t exec;
	void *p, *pinned;
	uint64_t before = n_creations();
	cudaStreamCreate(&stream);
	cudaEventCreate(&event);
	cudaMalloc(&p, N * 4);
	cudaMallocHost(&pinned, 64);
	verify(n_creations() == before + 4, "four things made are counted as %d",
		(int)(n_creations() - before));
	cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal);
	launch_add(p, 1, N, stream);
	cudaStreamEndCapture(stream, &graph);
	cudaGraphInstantiate(&exec, graph, 0);
	verify(n_creations() == before + 6, "a graph isn't counted");
	before = n_creations();
	cudaMemsetAsync(p, 0, N * 4, stream);
	cudaGraphLaunch(exec, stream);
	launch_add(p, 1, N, stream);
	cudaMemcpyAsync(pinned, p, 64, cudaMemcpyDeviceToHost, stream);
	cudaEventRecord(event, stream);
	cudaStreamSynchronize(stream);
	verify(n_creations() == before, "work is counted as making something");
	simt_fail_stream(1);
	expect(cudaStreamCreate(&stream), cudaErrorMemoryAllocation, "a stream that can't be had");
	simt_fail_event(1);
	expect(cudaEventCreate(&event), cudaErrorMemoryAllocation, "an event that can't be had");
	simt_fail_instantiate(1);
	cudaGraphExec_t none;
	expect(cudaGraphInstantiate(&none, graph, 0), cudaErrorMemoryAllocation,
		"a graph that can't be had");
	simt_fail_capture(1);
	cudaStreamCreate(&stream);
	cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal);
	expect(cudaStreamEndCapture(stream, &graph), cudaErrorStreamCaptureInvalidated,
		"a capture that fails");
	verify(graph == NULL, "a capture that fails gives a graph");
	cudaGraphExecDestroy(exec);
	cudaFreeHost(pinned);
	cudaDeviceReset();
}

static void test_streams(void) {
	cudaStream_t a = NULL, b = NULL;
	cudaEvent_t start = NULL, end = NULL, bare = NULL;
	float ms = -1.0f;
	int *p = ints(0);
	verify(cudaStreamCreate(&a) == cudaSuccess &&
		cudaStreamCreateWithFlags(&b, cudaStreamNonBlocking) == cudaSuccess &&
		cudaEventCreate(&start) == cudaSuccess && cudaEventCreate(&end) == cudaSuccess &&
		cudaEventCreateWithFlags(&bare, cudaEventDisableTiming) == cudaSuccess, "creation");
	expect(cudaEventElapsedTime(&ms, start, end), cudaErrorInvalidResourceHandle,
		"the time of events that were not recorded");
	cudaEventRecord(start, a);
	launch_add(p, 1, N, a);
	cudaEventRecord(end, a);
	verify(cudaStreamWaitEvent(b, end, 0) == cudaSuccess, "one stream waits for another");
	launch_add(p, 1, N, b);
	verify(cudaStreamSynchronize(b) == cudaSuccess && cudaEventSynchronize(end) == cudaSuccess &&
		cudaStreamQuery(a) == cudaSuccess && cudaEventQuery(end) == cudaSuccess, "waits");
	verify(value_at(p, 1) == 2, "work on two streams");
	verify(cudaEventElapsedTime(&ms, start, end) == cudaSuccess && ms >= 0.0f, "%g ms", ms);
	cudaEventRecord(bare, a);
	expect(cudaEventElapsedTime(&ms, start, bare), cudaErrorInvalidResourceHandle,
		"the time of an event without");
	verify(cudaStreamDestroy(b) == cudaSuccess && cudaEventDestroy(bare) == cudaSuccess, "ends");
	expect(cudaStreamSynchronize(b), cudaErrorInvalidResourceHandle, "a stream that is gone");
	expect(cudaEventRecord(bare, a), cudaErrorInvalidResourceHandle, "an event that is gone");
	expect(cudaEventDestroy(bare), cudaErrorInvalidResourceHandle, "an event that is gone");
	expect(cudaStreamDestroy(b), cudaErrorInvalidResourceHandle, "a stream that is gone");
	cudaStreamDestroy(a);
	cudaEventDestroy(start);
	cudaEventDestroy(end);
	cudaFree(p);
}

static void test_graph(void) {
	cudaStream_t main_stream, side;
	cudaEvent_t fork, join;
	cudaGraph_t graph;
	cudaGraphExec_t exec;
	enum cudaStreamCaptureStatus status;
	size_t n = 0;
	struct simt_node node;
	struct simt_traffic before, after;
	int *p = ints(0), *q = ints(0), v = 3;
	cudaStreamCreateWithFlags(&main_stream, cudaStreamNonBlocking);
	cudaStreamCreateWithFlags(&side, cudaStreamNonBlocking);
	cudaEventCreate(&fork);
	cudaEventCreate(&join);
	cudaStreamBeginCapture(main_stream, cudaStreamCaptureModeThreadLocal);
	verify(cudaStreamIsCapturing(main_stream, &status) == cudaSuccess &&
		status == cudaStreamCaptureStatusActive, "a capture that has begun");
	launch_add(p, v, N, main_stream);
	v = 100; /* arguments are those of the launch */
	cudaEventRecord(fork, main_stream);
	cudaStreamWaitEvent(side, fork, 0);
	launch_add(q, 5, 32, side);
	cudaEventRecord(join, side);
	cudaStreamWaitEvent(main_stream, join, 0);
	cudaMemcpyAsync(q + 32, p, 128, cudaMemcpyDeviceToDevice, main_stream);
	cudaMemsetAsync(q, 1, 4, main_stream);
	verify(cudaStreamEndCapture(main_stream, &graph) == cudaSuccess, "the end of a capture");
	verify(value_at(p, 0) == 0 && value_at(q, 0) == 0, "a capture that runs");
	verify(cudaGraphGetNodes(graph, NULL, &n) == cudaSuccess && n == 4, "%zu nodes", n);
	verify(simt_get_node(graph, 0, &node) && node.kind == SIMT_NODE_KERNEL &&
		strcmp(node.kernel, "add_kernel") == 0 && node.block[0] == N && node.grid[2] == 1,
		"the first node");
	verify(simt_get_node(graph, 2, &node) && node.kind == SIMT_NODE_COPY && node.bytes == 128 &&
		!simt_get_node(graph, 4, &node), "the other nodes");
	verify(cudaGraphInstantiate(&exec, graph, 0) == cudaSuccess &&
		cudaGraphDestroy(graph) == cudaSuccess, "a graph without its source");
	simt_get_traffic(&before);
	for (int i = 1; i <= 3; i++) {
		verify(cudaGraphLaunch(exec, main_stream) == cudaSuccess && value_at(p, 9) == 3 * i &&
			value_at(q, 9) == 5 * i && value_at(q, 40) == 3 * i && value_at(q, 0) == 0x01010101,
			"run %d of the graph", i);
	}
	simt_get_traffic(&after);
	verify(after.graph_launches - before.graph_launches == 3 &&
		after.launches - before.launches == 6, "launches are counted");
	simt_fail_launch(2);
	verify(cudaGraphLaunch(exec, side) == cudaErrorLaunchFailure, "a node that fails");
	verify(cudaGraphLaunch(exec, side) == cudaErrorLaunchFailure, "it is sticky");
	cudaDeviceReset();
	verify(cudaGraphExecDestroy(exec) == cudaSuccess, "the end of a graph");
	expect(cudaGraphExecDestroy(exec), cudaErrorInvalidResourceHandle, "a graph that is gone");
	expect(cudaGraphDestroy(graph), cudaErrorInvalidResourceHandle, "a graph that is gone");
	expect(cudaGraphInstantiate(&exec, graph, 0), cudaErrorInvalidResourceHandle,
		"a graph that is gone");
}

/* Begins a capture, does what breaks it, and looks at how it ends. */
static void expect_broken(int what, cudaError_t want, cudaError_t want_end, const char *name) {
	cudaStream_t stream, side, blocking;
	cudaEvent_t event;
	cudaGraph_t graph;
	cudaError_t got = cudaSuccess;
	void *p = NULL;
	cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
	cudaStreamCreateWithFlags(&side, cudaStreamNonBlocking);
	cudaStreamCreate(&blocking);
	cudaEventCreate(&event);
	int *q = ints(0);
	cudaStream_t origin = what == 4 ? blocking : stream;
	cudaStreamBeginCapture(origin, cudaStreamCaptureModeGlobal);
	launch_add(q, 1, N, origin);
	switch (what) {
	case 0:
		got = cudaMalloc(&p, 64);
		break;
	case 1:
		got = cudaStreamSynchronize(origin);
		break;
	case 2:
		got = cudaDeviceSynchronize();
		break;
	case 3:
		got = cudaFree(q);
		break;
	case 4:
		got = cudaMemset(q, 0, 4);
		break;
	case 5:
		cudaEventRecord(event, origin);
		got = cudaEventSynchronize(event);
		break;
	case 6:
		got = cudaStreamBeginCapture(origin, cudaStreamCaptureModeGlobal);
		break;
	case 7:
		cudaEventRecord(event, origin);
		cudaStreamWaitEvent(side, event, 0);
		launch_add(q, 1, N, side);
		break;
	default:
		got = cudaStreamEndCapture(side, &graph);
		break;
	}
	verify(got == want, "%s: %s", name, cudaGetErrorName(got));
	got = cudaStreamEndCapture(origin, &graph);
	verify(got == want_end && (graph == NULL) == (want_end != cudaSuccess), "%s: it ends with %s",
		name, cudaGetErrorName(got));
	cudaGraphDestroy(graph);
	cudaDeviceReset();
}

static void test_broken_captures(void) {
	const cudaError_t no = cudaErrorStreamCaptureUnsupported;
	const cudaError_t broken = cudaErrorStreamCaptureInvalidated;
	expect_broken(0, no, broken, "cudaMalloc");
	expect_broken(1, no, broken, "cudaStreamSynchronize");
	expect_broken(2, no, broken, "cudaDeviceSynchronize");
	expect_broken(3, no, broken, "cudaFree");
	expect_broken(4, cudaErrorStreamCaptureImplicit, broken, "the legacy stream");
	expect_broken(5, no, broken, "cudaEventSynchronize");
	expect_broken(6, cudaErrorIllegalState, cudaSuccess, "a capture in a capture");
	expect_broken(7, cudaSuccess, cudaErrorStreamCaptureUnjoined, "a stream that does not join");
	expect_broken(8, cudaErrorIllegalState, cudaSuccess, "the end of another's capture");
	expect(cudaStreamBeginCapture(NULL, cudaStreamCaptureModeGlobal), no, "the legacy stream");
}

int main(void) {
	simt_set_device(&good);
	test_device();
	test_no_driver();
	test_memory();
	test_launches();
	test_shared_memory();
	test_streams();
	test_sticky();
	test_graph();
	test_broken_captures();
	test_late_copies();
	test_turns();
	test_late_graphs();
	test_creations();
	return close_tests();
}
