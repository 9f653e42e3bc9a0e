/* SPDX-License-Identifier: Apache-2.0
 *
 * The memory that is left, by made-up files of /proc and /sys. */
#include "available.h"

#include <criterion/criterion.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

static char root[] = "/tmp/bobbin-available-XXXXXX";

static void set_up(void) {
	cr_assert_not_null(mkdtemp(root));
}

static void tear_down(void) {
	char command[100];
	snprintf(command, sizeof(command), "rm -r '%s'", root);
	cr_assert_eq(system(command), 0);
}

TestSuite(available, .init = set_up, .fini = tear_down);

/* With the folders that lead there. */
static void put(const char *path, const char *text) {
	char whole[200];
	snprintf(whole, sizeof(whole), "%s%s", root, path);
	for (char *slash = strchr(whole + strlen(root) + 1, '/'); slash != NULL;
		slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		mkdir(whole, 0700);
		*slash = '/';
	}
	FILE *f = fopen(whole, "w");
	cr_assert_not_null(f, "%s", whole);
	fputs(text, f);
	fclose(f);
}

static void put_machine(void) {
	put("/proc/meminfo", "MemTotal:       16000 kB\nMemFree:          10 kB\n"
		"MemAvailable:   8000 kB\n");
}

Test(available, nobody_knows) {
	cr_assert_eq(available_memory(root), 0);
}

Test(available, machine) {
	put_machine();
	cr_assert_eq(available_memory(root), (size_t)8000 << 10);
	put("/proc/self/cgroup", "0::/user.slice/a\n");
	put("/sys/fs/cgroup/user.slice/a/memory.max", "max\n");
	put("/sys/fs/cgroup/user.slice/a/memory.current", "12345\n");
	cr_assert_eq(available_memory(root), (size_t)8000 << 10);
}

Test(available, group) {
	put_machine();
	put("/proc/self/cgroup", "0::/user.slice/a\n");
	put("/sys/fs/cgroup/user.slice/a/memory.max", "3000000\n");
	put("/sys/fs/cgroup/user.slice/a/memory.current", "2000000\n");
	put("/sys/fs/cgroup/user.slice/a/memory.stat", "anon 900000\nfile 1100000\n"
		"inactive_anon 7\nactive_anon 8\ninactive_file 400000\nactive_file 200000\n");
	cr_assert_eq(available_memory(root), 1600000); /* pages of files can go */
	put("/sys/fs/cgroup/user.slice/memory.max", "2500000\n"); /* the one above has less */
	put("/sys/fs/cgroup/user.slice/memory.current", "1700000\n");
	cr_assert_eq(available_memory(root), 800000);
	put("/sys/fs/cgroup/user.slice/memory.current", "2600000\n"); /* or nothing */
	put("/sys/fs/cgroup/user.slice/memory.stat", "anon 2600000\n");
	cr_assert_eq(available_memory(root), 1);
}

/* A container sees its group as the root, whatever the machine calls it. */
Test(available, container) {
	put_machine();
	put("/proc/self/cgroup", "0::/docker/0123456789abcdef\n");
	put("/sys/fs/cgroup/memory.max", "4000000\n");
	put("/sys/fs/cgroup/memory.current", "1000000\n");
	cr_assert_eq(available_memory(root), 3000000);
	put("/proc/self/cgroup", "0::/\n");
	cr_assert_eq(available_memory(root), 3000000);
}

Test(available, first_version) {
	put_machine();
	put("/proc/self/cgroup", "12:cpu,cpuacct:/x\n4:memory:/docker/a\n0::/\n");
	put("/sys/fs/cgroup/memory/docker/a/memory.limit_in_bytes", "9223372036854771712\n");
	put("/sys/fs/cgroup/memory/docker/a/memory.usage_in_bytes", "1000\n");
	cr_assert_eq(available_memory(root), (size_t)8000 << 10);
	put("/sys/fs/cgroup/memory/docker/a/memory.limit_in_bytes", "5000000\n");
	put("/sys/fs/cgroup/memory/docker/a/memory.usage_in_bytes", "3000000\n");
	put("/sys/fs/cgroup/memory/docker/a/memory.stat", "inactive_file 1\n"
		"total_inactive_file 500000\ntotal_active_file 100000\n");
	cr_assert_eq(available_memory(root), 2600000);
}

Test(available, address_space) {
	put("/proc/self/statm", "1000 500 3 4 0 5 0\n");
	put("/proc/meminfo", "MemAvailable:   80000000000 kB\n");
	const struct rlimit limit = { (rlim_t)1 << 40, (rlim_t)1 << 40 };
	cr_assert_eq(setrlimit(RLIMIT_AS, &limit), 0);
	cr_assert_eq(available_memory(root), ((size_t)1 << 40) - 1000 * 4096);
}
