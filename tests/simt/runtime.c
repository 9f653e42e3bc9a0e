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
	verify(cudaDeviceGetAttribute(&n, cudaDevAttrMaxSharedMemoryPerBlockOptin, 0) == cudaSuccess &&
		n == 227 * 1024, "an attribute");
	verify(cudaDriverGetVersion(&version) == cudaSuccess && version == CUDART_VERSION, "version");
	verify(strcmp(cudaGetErrorString(cudaErrorMemoryAllocation), "out of memory") == 0 &&
		strcmp(cudaGetErrorName((cudaError_t)12345), "cudaErrorUnknown") == 0, "sentences");
	expect(cudaSetDevice(1), cudaErrorInvalidDevice, "a second device");
	expect(cudaGetDeviceProperties(&prop, -1), cudaErrorInvalidDevice, "a device before the first");
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
}

static void test_streams(void) {
	cudaStream_t a, b;
	cudaEvent_t start, end, bare;
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
	test_streams();
	test_sticky();
	test_graph();
	test_broken_captures();
	return close_tests();
}
