/* SPDX-License-Identifier: Apache-2.0
 *
 * Counting in the emulator's tests: a line for what fails, and the closing line of every suite. */
#ifndef SIMT_TEST_H
#define SIMT_TEST_H

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>

static int n_passed, n_failed;

/* One test: passes when `holds`; else the sentence says what came instead. */
__attribute__((format(printf, 2, 3), unused)) static bool verify(
	bool holds, const char *format, ...) {
	if (holds) {
		n_passed++;
		return true;
	}
	n_failed++;
	va_list args;
	va_start(args, format);
	printf("failed: ");
	vprintf(format, args);
	printf("\n");
	va_end(args);
	return false;
}

__attribute__((unused)) static int close_tests(void) {
	printf("%d passed, %d failed, 0 skipped\n", n_passed, n_failed);
	return n_failed > 0;
}

#endif
