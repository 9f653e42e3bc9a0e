/* SPDX-License-Identifier: Apache-2.0
 *
 * /proc and /sys/fs/cgroup, as proc(5) and the kernel's cgroup-v2.rst describe them. */
#include "available.h"

#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

static const size_t NONE = SIZE_MAX; /* no limit */

static size_t least(size_t a, size_t b) {
	return a < b ? a : b;
}

static FILE *open_at(const char *root, const char *path, const char *name) {
	char whole[PATH_MAX];
	const int n = snprintf(whole, sizeof(whole), "%s%s%s", root, path, name);
	return n > 0 && (size_t)n < sizeof(whole) ? fopen(whole, "re") : NULL;
}

/* The number behind a key at a line's beginning; "": the file's first. `none` where it isn't there,
 * and for "max". */
static size_t number(const char *root, const char *path, const char *name, const char *key,
	size_t none) {
	FILE *f = open_at(root, path, name);
	char line[256];
	size_t found = none;
	const size_t n = strlen(key);
	while (f != NULL && found == none && fgets(line, sizeof(line), f) != NULL) {
		char *end;
		const unsigned long long v = strncmp(line, key, n) == 0 ? strtoull(line + n, &end, 10) : 0;
		if (strncmp(line, key, n) == 0 && end != line + n) {
			found = (size_t)v;
		}
	}
	if (f != NULL) {
		fclose(f);
	}
	return found;
}

struct names { /* of one version's files */
	const char *mount, *limit, *used, *inactive, *active;
};
static const struct names v2 = { "/sys/fs/cgroup", "/memory.max", "/memory.current",
	"inactive_file ", "active_file " };
static const struct names v1 = { "/sys/fs/cgroup/memory", "/memory.limit_in_bytes",
	"/memory.usage_in_bytes", "total_inactive_file ", "total_active_file " };

/* What the group and those above it leave; in a container its own path may not be there, but what
 * it is called from outside. */
static size_t left_in_groups(const char *root, const struct names *n, char *path) {
	size_t left = NONE;
	for (;;) {
		char folder[PATH_MAX];
		const int written = snprintf(folder, sizeof(folder), "%s%s", n->mount, path);
		if (written > 0 && (size_t)written < sizeof(folder)) {
			const size_t limit = number(root, folder, n->limit, "", NONE);
			const size_t all = number(root, folder, n->used, "", 0);
			const size_t files = number(root, folder, "/memory.stat", n->inactive, 0) +
				number(root, folder, "/memory.stat", n->active, 0);
			const size_t used = all > files ? all - files : 0;
			left = limit == NONE ? left : least(left, limit > used ? limit - used : 0);
		}
		char *slash = strrchr(path, '/');
		if (slash == NULL) {
			return left;
		}
		*slash = '\0';
	}
}

/* Lines of /proc/self/cgroup: "0::/path", "4:memory:/path". */
static size_t left_by_cgroups(const char *root) {
	FILE *f = open_at(root, "/proc/self/cgroup", "");
	char line[PATH_MAX];
	size_t left = NONE;
	while (f != NULL && fgets(line, sizeof(line), f) != NULL) {
		line[strcspn(line, "\n")] = '\0';
		char *controllers = strchr(line, ':');
		char *path = controllers != NULL ? strchr(controllers + 1, ':') : NULL;
		if (path == NULL) {
			continue;
		}
		*path++ = '\0';
		const size_t n = strlen(path);
		if (n > 0 && path[n - 1] == '/') {
			path[n - 1] = '\0';
		}
		if (controllers[1] == '\0') {
			left = least(left, left_in_groups(root, &v2, path));
		} else if (strstr(controllers, "memory") != NULL) {
			left = least(left, left_in_groups(root, &v1, path));
		}
	}
	if (f != NULL) {
		fclose(f);
	}
	return left;
}

static size_t left_by_limit(const char *root) {
	struct rlimit limit;
	if (getrlimit(RLIMIT_AS, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) {
		return NONE;
	}
	const size_t used = number(root, "/proc/self/statm", "", "", 0) *
		(size_t)sysconf(_SC_PAGESIZE);
	return limit.rlim_cur > used ? (size_t)limit.rlim_cur - used : 0;
}

size_t available_memory(const char *root) {
	const size_t kib = number(root, "/proc/meminfo", "", "MemAvailable:", NONE);
	const size_t left = least(left_by_limit(root), left_by_cgroups(root));
	const size_t all = least(left, kib == NONE ? NONE : kib << 10);
	return all == NONE ? 0 : all > 0 ? all : 1;
}
