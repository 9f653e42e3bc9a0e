/* SPDX-License-Identifier: Apache-2.0
 *
 * Finds and opens the modules of devices. The binary links none of them, and so starts on a machine
 * without a driver. */
#include "device.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { MAX_PATH = 4096 };

/* The folder of the running executable, with the slash; "" when it can't be known. */
static void own_folder(char *buf, size_t bytes) {
	const ssize_t n = readlink("/proc/self/exe", buf, bytes - 1);
	buf[n > 0 ? n : 0] = '\0';
	char *slash = strrchr(buf, '/');
	buf[slash != NULL ? slash - buf + 1 : 0] = '\0';
}

/* The path of libbobbin_<name>.so; false when there is none. */
static bool find_module(const char *name, char *path, size_t bytes) {
	static const char *const places[] = { "", "../kernels/cuda/", "../lib/bobbin/" };
	char own[MAX_PATH];
	own_folder(own, sizeof(own));
	for (size_t i = 0; own[0] != '\0' && i < sizeof(places) / sizeof(places[0]); i++) {
		snprintf(path, bytes, "%s%slibbobbin_%s.so", own, places[i], name);
		if (access(path, F_OK) == 0) {
			return true;
		}
	}
	snprintf(path, bytes, "%s/libbobbin_%s.so", BOBBIN_MODULES, name);
	return access(path, F_OK) == 0;
}

static bool open_module(struct device *out, const char *name, size_t max_bytes, char *text,
	size_t bytes) {
	char path[MAX_PATH + 64];
	if (!find_module(name, path, sizeof(path))) {
		snprintf(text, bytes, "device %s: its module libbobbin_%s.so isn't there; 'ninja' in the "
			"build folder makes it unless Meson was given -D%s=disabled%s", name, name, name,
			strcmp(name, "cuda") == 0 ? " (it needs nvcc)" : "");
		return false;
	}
	out->library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	if (out->library == NULL) {
		snprintf(text, bytes, "device %s: %s", name, dlerror());
		return false;
	}
	bb_module_fn *module = NULL;
	*(void **)&module = dlsym(out->library, BB_MODULE_SYMBOL);
	if (module == NULL || module()->abi != BB_MODULE_ABI) {
		snprintf(text, bytes, "device %s: %s is of another version of bobbin", name, path);
		return false;
	}
	out->module = module();
	char why[512];
	out->d = out->module->open(max_bytes, why, sizeof(why));
	if (out->d == NULL) {
		snprintf(text, bytes, "device %s: %s", name, why);
		return false;
	}
	return true;
}

bool device_is_known(const char *name) {
	static const char *const names[] = { "auto", "cpu", "cuda", "simt", "simt_check" };
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (strcmp(name, names[i]) == 0) {
			return true;
		}
	}
	return false;
}

bool device_open(struct device *out, const char *name, size_t max_bytes, char *text, size_t bytes) {
	memset(out, 0, sizeof(*out));
	text[0] = '\0';
	const bool is_auto = strcmp(name, "auto") == 0;
	if (strcmp(name, "cpu") == 0) {
		return true;
	}
	if (!device_is_known(name)) {
		snprintf(text, bytes, "device %s: unknown; there are auto, cpu, cuda and simt", name);
		return false;
	}
	if (open_module(out, is_auto ? "cuda" : name, max_bytes, text, bytes)) {
		return true;
	}
	device_close(out);
	if (is_auto && access("/proc/driver/nvidia/version", F_OK) != 0) {
		text[0] = '\0'; /* most machines have no GPU: nothing to tell */
	}
	return is_auto;
}

/* The library stays loaded: a CUDA runtime that was used can't be unloaded safely. */
void device_close(struct device *d) {
	if (d->d != NULL) {
		d->module->close(d->d);
	} else if (d->library != NULL) {
		dlclose(d->library);
	}
	memset(d, 0, sizeof(*d));
}

const char *device_kind(const struct device *d) {
	return d->module != NULL ? d->module->name : "cpu";
}
