/* SPDX-License-Identifier: Apache-2.0
 *
 * The device of the stand-in runtime: what it says of itself, its memory, and its errors. A sticky
 * error answers every call until the device is reset; the sentences are CUDA's. */
#include "memory.hpp"
#include "stream.hpp"

#include <algorithm>
#include <map>
#include <mutex>
#include <stdio.h>

namespace simt {

/* 9.0: Hopper's own kernels are played too, and want its shared memory. */
static struct simt_device device = {1, CUDART_VERSION, 9, 0, (size_t)64 << 30};
static cudaError_t last, sticky;
static int countdown[(int)Failure::n];
static bool no_image;
static std::map<const void *, int> allowed_smem; /* what ALLOW_SMEM has said, by kernel */
static std::mutex lock;

cudaError_t fail_with(cudaError_t error) {
	if (error != cudaSuccess) {
		last = error;
	}
	return error;
}

cudaError_t fail_for_good(cudaError_t error) {
	sticky = error;
	return fail_with(error);
}

cudaError_t device_state(void) {
	if (device.driver_version < CUDART_VERSION / 1000 * 1000) {
		return cudaErrorInsufficientDriver;
	}
	return device.n_devices == 0 ? cudaErrorNoDevice : sticky;
}

bool failure_due(Failure which) {
	int *n = &countdown[(int)which];
	return *n > 0 && --*n == 0;
}

/* Of a block that asks for it: "maximum amount of shared memory per thread block" in the table of
 * technical specifications per compute capability, CUDA C++ Programming Guide. */
static size_t most_smem(void) {
	switch (device.major * 10 + device.minor) {
	case 80:
	case 87:
		return 163 << 10;
	case 86:
	case 89:
	case 120:
	case 121:
		return 99 << 10;
	default:
		return MAX_SMEM_BYTES;
	}
}

cudaError_t launch_refused(const Call &call, const Shape &shape) {
	const dim3 g = shape.grid, b = shape.block;
	if (device_state() != cudaSuccess) {
		return device_state();
	}
	if (no_image) {
		return cudaErrorNoKernelImageForDevice;
	}
	if (g.x == 0 || g.y == 0 || g.z == 0 || b.x == 0 || b.y == 0 || b.z == 0 ||
		g.x > INT32_MAX || g.y > 65535 || g.z > 65535 || b.z > 64 ||
		(uint64_t)b.x * b.y * b.z > MAX_THREADS) {
		return cudaErrorInvalidConfiguration;
	}
	std::lock_guard<std::mutex> hold(lock);
	const auto allowed = allowed_smem.find(call.kernel);
	const size_t most = allowed != allowed_smem.end() ? (size_t)allowed->second : PLAIN_SMEM_BYTES;
	return shape.smem > std::min(most, most_smem()) ? cudaErrorInvalidValue : cudaSuccess;
}

bool smem_is_allowed(const void *kernel, size_t n_bytes) {
	std::lock_guard<std::mutex> hold(lock);
	return n_bytes <= PLAIN_SMEM_BYTES ||
		(allowed_smem.count(kernel) != 0 && n_bytes <= most_smem());
}

static cudaError_t allocate(void **p, size_t n_bytes, bool is_host) {
	host_traffic().creations++;
	const cudaError_t state = device_state();
	if (p == nullptr || state != cudaSuccess) {
		return fail_with(state != cudaSuccess ? state : cudaErrorInvalidValue);
	}
	*p = nullptr;
	if (!is_host && capture_forbids()) {
		return fail_with(cudaErrorStreamCaptureUnsupported);
	}
	if (failure_due(is_host ? Failure::host_alloc : Failure::malloc)) {
		return fail_with(cudaErrorMemoryAllocation);
	}
	if (n_bytes == 0) {
		return cudaSuccess;
	}
	if (!is_host && n_bytes > device.total_bytes - std::min(memory_used(), device.total_bytes)) {
		return fail_with(cudaErrorMemoryAllocation);
	}
	*p = memory_map(n_bytes, is_host);
	return *p != nullptr ? cudaSuccess : fail_with(cudaErrorMemoryAllocation);
}

static cudaError_t release(void *p, bool is_host) {
	if (device_state() != cudaSuccess) {
		return fail_with(device_state());
	}
	if (p == nullptr) {
		return cudaSuccess;
	}
	if (capture_forbids()) {
		return fail_with(cudaErrorStreamCaptureUnsupported);
	}
	work_finish_all(); /* what is under way may use it */
	return memory_unmap(p, is_host) ? cudaSuccess : fail_with(cudaErrorInvalidValue);
}

static cudaError_t known(int id) {
	const cudaError_t state = device_state();
	if (state != cudaSuccess && state != sticky) {
		return state;
	}
	return id < 0 || id >= device.n_devices ? cudaErrorInvalidDevice : cudaSuccess;
}

struct Sentence {
	cudaError_t error;
	const char *name, *text;
};
static const Sentence sentences[] = {
	{cudaSuccess, "cudaSuccess", "no error"},
	{cudaErrorInvalidValue, "cudaErrorInvalidValue", "invalid argument"},
	{cudaErrorMemoryAllocation, "cudaErrorMemoryAllocation", "out of memory"},
	{cudaErrorInvalidConfiguration, "cudaErrorInvalidConfiguration",
		"invalid configuration argument"},
	{cudaErrorInsufficientDriver, "cudaErrorInsufficientDriver",
		"CUDA driver version is insufficient for CUDA runtime version"},
	{cudaErrorInvalidDeviceFunction, "cudaErrorInvalidDeviceFunction", "invalid device function"},
	{cudaErrorNoDevice, "cudaErrorNoDevice", "no CUDA-capable device is detected"},
	{cudaErrorInvalidDevice, "cudaErrorInvalidDevice", "invalid device ordinal"},
	{cudaErrorNoKernelImageForDevice, "cudaErrorNoKernelImageForDevice",
		"no kernel image is available for execution on the device"},
	{cudaErrorInvalidResourceHandle, "cudaErrorInvalidResourceHandle", "invalid resource handle"},
	{cudaErrorNotReady, "cudaErrorNotReady", "device not ready"},
	{cudaErrorIllegalAddress, "cudaErrorIllegalAddress",
		"an illegal memory access was encountered"},
	{cudaErrorLaunchFailure, "cudaErrorLaunchFailure", "unspecified launch failure"},
	{cudaErrorStreamCaptureUnsupported, "cudaErrorStreamCaptureUnsupported",
		"operation not permitted when stream is capturing"},
	{cudaErrorStreamCaptureInvalidated, "cudaErrorStreamCaptureInvalidated",
		"operation failed due to a previous error during capture"},
	{cudaErrorStreamCaptureUnjoined, "cudaErrorStreamCaptureUnjoined",
		"capturing stream has unjoined work"},
	{cudaErrorStreamCaptureImplicit, "cudaErrorStreamCaptureImplicit",
		"operation would make the legacy stream depend on a capturing blocking stream"},
	{cudaErrorIllegalState, "cudaErrorIllegalState",
		"the operation cannot be performed in the present state"},
	{cudaErrorUnknown, "cudaErrorUnknown", "unknown error"},
};

static const Sentence &sentence(cudaError_t error) {
	for (const Sentence &s : sentences) {
		if (s.error == error) {
			return s;
		}
	}
	return sentence(cudaErrorUnknown);
}

} // namespace simt

using namespace simt;

cudaError_t cudaDriverGetVersion(int *version) {
	*version = simt::device.driver_version;
	return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int *version) {
	*version = CUDART_VERSION;
	return cudaSuccess;
}

cudaError_t cudaGetDeviceCount(int *n) {
	const cudaError_t state = device_state();
	*n = 0;
	if (state != cudaSuccess && state != sticky) {
		return fail_with(state);
	}
	*n = simt::device.n_devices;
	return cudaSuccess;
}

cudaError_t cudaGetDevice(int *id) {
	*id = 0;
	return fail_with(known(0));
}

cudaError_t cudaSetDevice(int id) {
	return fail_with(known(id));
}

cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *out, int id) {
	if (known(id) != cudaSuccess) {
		return fail_with(known(id));
	}
	*out = {};
	snprintf(out->name, sizeof(out->name), "bobbin's emulator of CUDA kernels");
	out->totalGlobalMem = simt::device.total_bytes;
	out->sharedMemPerBlock = PLAIN_SMEM_BYTES;
	out->sharedMemPerBlockOptin = most_smem();
	out->sharedMemPerMultiprocessor = most_smem() + 1024; /* each block costs 1 KiB more */
	out->major = simt::device.major;
	out->minor = simt::device.minor;
	out->multiProcessorCount = 8;
	out->maxThreadsPerBlock = MAX_THREADS;
	out->maxThreadsPerMultiProcessor = 2048;
	out->regsPerMultiprocessor = 65536;
	out->warpSize = LANES;
	out->l2CacheSize = 32 << 20;
	out->memoryBusWidth = 64;
	return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr attribute, int id) {
	struct cudaDeviceProp all;
	const cudaError_t error = cudaGetDeviceProperties(&all, id);
	if (error != cudaSuccess) {
		return error;
	}
	switch (attribute) {
	case cudaDevAttrMaxThreadsPerBlock:
		*value = all.maxThreadsPerBlock;
		return cudaSuccess;
	case cudaDevAttrMultiProcessorCount:
		*value = all.multiProcessorCount;
		return cudaSuccess;
	case cudaDevAttrComputeCapabilityMajor:
		*value = all.major;
		return cudaSuccess;
	case cudaDevAttrComputeCapabilityMinor:
		*value = all.minor;
		return cudaSuccess;
	case cudaDevAttrMaxSharedMemoryPerBlockOptin:
		*value = (int)all.sharedMemPerBlockOptin;
		return cudaSuccess;
	}
	return fail_with(cudaErrorInvalidValue);
}

cudaError_t cudaDeviceReset(void) {
	last = sticky = cudaSuccess;
	if (device_state() != cudaSuccess) {
		return fail_with(device_state());
	}
	memory_clear();
	streams_clear();
	return cudaSuccess;
}

cudaError_t cudaGetLastError(void) {
	const cudaError_t error = sticky != cudaSuccess ? sticky : last;
	last = cudaSuccess;
	return error;
}

cudaError_t cudaPeekAtLastError(void) {
	return sticky != cudaSuccess ? sticky : last;
}

const char *cudaGetErrorName(cudaError_t error) {
	return sentence(error).name;
}

const char *cudaGetErrorString(cudaError_t error) {
	return sentence(error).text;
}

cudaError_t cudaFuncSetAttribute(const void *kernel, enum cudaFuncAttribute attribute, int value) {
	if (device_state() != cudaSuccess) {
		return fail_with(device_state());
	}
	if (no_image) {
		return fail_with(cudaErrorNoKernelImageForDevice);
	}
	if (attribute == cudaFuncAttributeMaxDynamicSharedMemorySize) {
		if (value < 0 || (size_t)value > most_smem()) {
			return fail_with(cudaErrorInvalidValue);
		}
		std::lock_guard<std::mutex> hold(simt::lock);
		allowed_smem[kernel] = value;
	}
	return cudaSuccess;
}

/* ---- memory ---- */

cudaError_t cudaMalloc(void **p, size_t n_bytes) {
	return allocate(p, n_bytes, false);
}

cudaError_t cudaFree(void *p) {
	return release(p, false);
}

cudaError_t cudaHostAlloc(void **p, size_t n_bytes, unsigned flags) {
	(void)flags;
	return allocate(p, n_bytes, true);
}

cudaError_t cudaMallocHost(void **p, size_t n_bytes) {
	return allocate(p, n_bytes, true);
}

cudaError_t cudaFreeHost(void *p) {
	return release(p, true);
}

cudaError_t cudaHostRegister(void *p, size_t n_bytes, unsigned flags) {
	(void)flags;
	host_traffic().creations++;
	if (device_state() != cudaSuccess) {
		return fail_with(device_state());
	}
	if (p == nullptr || n_bytes == 0 || allocation_of((uintptr_t)p) != nullptr) {
		return fail_with(cudaErrorInvalidValue);
	}
	memory_list_host(p, n_bytes);
	return cudaSuccess;
}

cudaError_t cudaHostUnregister(void *p) {
	return release(p, true);
}

cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total_bytes) {
	if (device_state() != cudaSuccess) {
		return fail_with(device_state());
	}
	*total_bytes = simt::device.total_bytes;
	*free_bytes = *total_bytes - std::min(memory_used(), *total_bytes);
	return cudaSuccess;
}

/* ---- what tests ask for ---- */

void simt_get_device(struct simt_device *out) {
	*out = simt::device;
}

void simt_set_device(const struct simt_device *wanted) {
	simt::device = *wanted;
}

void simt_fail_malloc(int n) {
	countdown[(int)Failure::malloc] = n;
}

void simt_fail_host_alloc(int n) {
	countdown[(int)Failure::host_alloc] = n;
}

void simt_fail_launch(int n) {
	countdown[(int)Failure::launch] = n;
}

void simt_fail_copy(int n) {
	countdown[(int)Failure::copy] = n;
}

void simt_fail_memset(int n) {
	countdown[(int)Failure::memset] = n;
}

void simt_fail_stream(int n) {
	countdown[(int)Failure::stream] = n;
}

void simt_fail_event(int n) {
	countdown[(int)Failure::event] = n;
}

void simt_fail_capture(int n) {
	countdown[(int)Failure::capture] = n;
}

void simt_fail_instantiate(int n) {
	countdown[(int)Failure::instantiate] = n;
}

void simt_fail_cublaslt(int n) {
	countdown[(int)Failure::cublaslt] = n;
}

bool simt_has_cublaslt(void) {
	return !failure_due(Failure::cublaslt);
}

void simt_no_image(bool is_missing) {
	no_image = is_missing;
}
