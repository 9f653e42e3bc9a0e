/* SPDX-License-Identifier: Apache-2.0
 *
 * What the body of a kernel check may use. A body is written once per row KERNEL of kernels.def and
 * played several times with the same random numbers: by the reference (the first variant), whose
 * outputs are recorded, and by every variant, whose outputs are compared with the record.
 *
 *   CHECK(add) {
 *           const int n = check_rand(c, 1, 5000);
 *           const float *x = check_in(c, n);
 *           float *y = check_inout(c, "y", n, (struct tol){ 0 });
 *           while (check_next(c, 12.0 * n, "n=%d", n)) {
 *                   fn(check_queue(c), y, x, n);
 *           }
 *   }
 *
 * On a device the buffers are memory that both sides reach. The kernel may run on when it returns:
 * check_next and check_same wait for it, and a body that looks at memory itself, or lets a host
 * function do so, calls check_wait first. What a kernel reads and writes must be a buffer, never
 * the body's own stack; only a struct that is passed by its address may be there.
 *
 * Each variant is played three times: buffers ending flush against a page that can't be touched,
 * buffers starting flush after one, and with a thread pool. The three must give the same bits. A
 * body must draw the same numbers and make the same cases whatever the variant is; only the layout
 * may differ. Buffers live until the loop of the next case begins. */
#ifndef CHECK_H
#define CHECK_H

#include "kernels.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

struct check;

/* got passes when it has the bits of want, when both are NaN, or when |got - want| <= abs + rel
 * |want|. */
struct tol {
	float rel, abs;
};

#define CHECK(name) \
	void check_##name(struct check *c, name##_fn *fn); \
	void check_##name(struct check *c, name##_fn *fn)

/* The queue to pass to the kernel: NULL in the plays at guard pages, but on a device its queue. */
bb_queue *check_queue(struct check *c);
/* NULL, but on a device its queue: for calls that no thread of a pool should help with. */
bb_queue *check_queue_alone(struct check *c);
/* Waits until the device has done what it was given. */
void check_wait(struct check *c);
/* The layout of the variant that plays; the other kind, or a variant without one, gives garbage or
 * NULL. Use it to pack operands into check_scratch memory. */
const struct bb_layout *check_layout(struct check *c);
const struct bb_kv_layout *check_kv_layout(struct check *c);
/* The kernels of a device that plays; on the CPU those that `flags` allow. */
void check_kernels(struct check *c, struct bb_kernels *k, unsigned flags);
/* True under --bench: make few, large cases, as the models do. */
bool check_is_bench(struct check *c);
/* True under --small: make few, small cases, which the emulator's checker plays in seconds. */
bool check_is_small(struct check *c);
/* True under --least, which is small too: of those cases the ones that reach each path of the
 * kernels of a device once. */
bool check_is_least(struct check *c);
/* True under --bench on a device: make the cases of an 8B model. */
bool check_is_device_bench(struct check *c);
/* A size of such a case: n; on the emulator, which is only to play it, a 64th of n, at least 1. */
int check_shrunk(struct check *c, int n);

/* Random numbers, the same for every variant. */
int check_rand(struct check *c, int lowest, int highest); /* both included */
float check_normal(struct check *c);                      /* mean 0, deviation about 1 */

/* Inputs. The body may change them before the loop; inside it they can't be written. */
float *check_in(struct check *c, size_t n);                      /* [n] of check_normal */
void *check_in_bytes(struct check *c, size_t bytes, size_t align); /* [bytes] random bytes */

/* Outputs, compared when the loop ends. Prefilled with random bits, the same in each play, so that
 * an element is compared whether the kernel should write it or leave it alone. */
float *check_out(struct check *c, const char *name, size_t n, struct tol tol);
int32_t *check_out_i32(struct check *c, const char *name, size_t n);
/* Must agree exactly. */
void *check_out_bytes(struct check *c, const char *name, size_t bytes, size_t align);
/* As check_out, starting as normal numbers or as what the body stores before the loop; these
 * contents are there again at every round of the loop. */
float *check_inout(struct check *c, const char *name, size_t n, struct tol tol);

/* Memory that is neither drawn from the random numbers nor compared: packed operands, workspaces.
 * Filled with garbage; guarded like the others. */
void *check_scratch(struct check *c, size_t bytes, size_t align);

/* Whether to run the kernel (again): once to check, many times to bench, with cold caches. `bytes`:
 * what the kernel has to read and write at least; the text names the case. In a bench the loop may
 * read nothing that check_in, check_out or check_scratch gave: pages that the host reads leave the
 * GPU, and the next run waits until they are back. */
bool check_next(struct check *c, double bytes, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* Operations of the case that comes, for the column of Gop/s. */
void check_ops(struct check *c, double ops);

/* What a body finds out by itself. */
void check_fail(struct check *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Fails with the first byte that differs. */
void check_same(struct check *c, const char *what, const void *got, const void *want, size_t bytes);
/* The same of a row alone and among others. Only rows that a GPU computes by a variant that needs
 * BB_WGMMA don't fail: there it is to be found out, and the report counts those that differ. */
void check_same_row(struct check *c, const char *what, const void *got, const void *want,
	size_t bytes);

#endif
