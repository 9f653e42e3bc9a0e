/* SPDX-License-Identifier: Apache-2.0
 *
 * How much memory the process may still take. */
#ifndef AVAILABLE_H
#define AVAILABLE_H

#include <stddef.h>

/* Bytes, the least of: what the machine has available, what each of the process's cgroups (v2 or
 * v1) has left, its address space's limit. Pages of files count as free, as the kernel has it. root
 * is "", or a folder to find proc and sys in. 0: nobody knows; 1: nothing is left. */
size_t available_memory(const char *root);

#endif
