/* SPDX-License-Identifier: Apache-2.0
 *
 * The process's edges: results to stdout with every write checked, one-sentence messages and
 * progress to stderr, Ctrl-C as a flag. */
#ifndef TERMINAL_H
#define TERMINAL_H

#include "bobbin.h"

#include <jansson.h>

#define PRINTF(a, b) __attribute__((format(printf, a, b)))

enum { STATUS_OK = 0, STATUS_FAILED = 1, STATUS_USAGE = 2, STATUS_INTERRUPTED = 130 };

/* Before anything else: file descriptors 0 to 2 are open, SIGPIPE is ignored, SIGINT sets a
 * flag. */
void terminal_start(void);
/* What messages begin with. */
void terminal_command(const char *name);
/* Flushes stdout, reports what could not be written, and returns the final exit status. */
int terminal_end(int status);

/* Ctrl-C was pressed since the flag was cleared. A second Ctrl-C while it is set ends the
 * process. */
bool interrupted(void);
void interrupt_clear(void);
/* Whether Ctrl-C ends a read of input that waits; writes always go on. Off until asked for. */
void interrupt_ends_reads(bool ends);
/* Waits until fd can be read. False with EINTR once Ctrl-C was pressed, be it before or while it
 * waits. */
bool interrupt_wait(int fd);
/* A file to remove should a second Ctrl-C end the process; NULL = none. Borrowed. */
void interrupt_removes(const char *path);

/* ---- stderr ---- */

/* "bobbin run: sentence"; returns the exit status that its name says. */
int failure(const char *format, ...) PRINTF(1, 2);
int usage_error(const char *format, ...) PRINTF(1, 2);
/* Reports err, and returns the exit status that its code means. */
int failure_of(const struct bb_error *err);
void notice(const char *format, ...) PRINTF(1, 2);

/* A bar, only on a terminal and only for what takes longer than a blink. Returns false once Ctrl-C
 * was pressed, so it serves as the engine's progress callback. */
bool progress_show(void *user, const char *what, double done, double total);
void progress_clear(void);

/* ---- stdout ---- */

/* All return false once a write has failed; terminal_end reports it. */
bool out_write(const void *data, size_t bytes);
bool out_print(const char *format, ...) PRINTF(1, 2);
bool out_flush(void);
/* Prints the value with a newline and drops the reference to it; NULL = there was no memory. */
bool out_json_take(json_t *value, size_t flags);
bool out_is_terminal(void);
/* Whether people see what is on stdout above what is on stderr: on a terminal, or in one file. */
bool out_meets_stderr(void);
/* What print writes to its FILE goes to stdout, if it succeeds; for the engine's own reports. */
bool out_capture(bool (*print)(FILE *out, const void *user, struct bb_error *err), const void *user,
	struct bb_error *err);

/* ---- helpers ---- */

/* A JSON string of any bytes: what isn't UTF-8 becomes U+FFFD. */
json_t *json_bytes(const char *data, size_t bytes);
/* A file's text as a terminal may have it: controls, and what isn't UTF-8, become '?'; the rest is
 * cut where buf[bytes] ends. */
void show(const char *text, char *buf, size_t bytes);
double seconds_now(void);

#endif
