/* SPDX-License-Identifier: Apache-2.0
 *
 * stdout, stderr, signals and the progress bar of the command line. */
#include "terminal.h"

#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static const char *command_name = "bobbin";
static volatile sig_atomic_t n_interrupts;
static int wake[2] = { -1, -1 };  /* a pipe that holds a byte while the flag is set */
static const char *volatile doomed; /* file to remove when a second Ctrl-C ends the process */
static int out_errno; /* of the first write to stdout that failed; 0 = none */
static bool lacks_json; /* memory for a JSON value was missing */
static struct {
	bool is_shown;
	double start; /* 0 = no bar is running */
	double last;
} bar;

/* ---- start and end ---- */

static void on_interrupt(int number) {
	if (n_interrupts++ > 0) {
		if (doomed != NULL) {
			unlink(doomed);
		}
		signal(number, SIG_DFL);
		raise(number);
	}
	const int before = errno;
	if (write(wake[1], "", 1) < 0) {
		errno = before; /* full or not there: the flag is set all the same */
	}
}

void terminal_start(void) {
	/* A file opened later must not become stdout by accident. Read-only, so that writes fail. */
	for (int fd = 0; fd <= 2; fd++) {
		if (fcntl(fd, F_GETFD) == -1 && errno == EBADF) {
			open("/dev/null", fd == 2 ? O_RDWR : O_RDONLY);
		}
	}
	setlocale(LC_CTYPE, "");
	if (pipe2(wake, O_CLOEXEC | O_NONBLOCK) != 0) {
		wake[0] = wake[1] = -1;
	}
	signal(SIGPIPE, SIG_IGN);
	interrupt_ends_reads(false);
}

void interrupt_ends_reads(bool ends) {
	/* A parent that ignores SIGINT for us (nohup) is obeyed. */
	struct sigaction old,
		action = { .sa_handler = on_interrupt, .sa_flags = ends ? 0 : SA_RESTART };
	sigemptyset(&action.sa_mask);
	if (sigaction(SIGINT, NULL, &old) == 0 && old.sa_handler != SIG_IGN) {
		sigaction(SIGINT, &action, NULL);
	}
}

void terminal_command(const char *name) {
	command_name = name;
}

int terminal_end(int status) {
	progress_clear();
	out_flush();
	if (fclose(stdout) != 0 && out_errno == 0) {
		out_errno = errno;
	}
	if (out_errno == 0 && !lacks_json) {
		return status;
	}
	if (lacks_json) {
		failure("no memory for the JSON output");
	} else if (out_errno != EPIPE) { /* whoever closed the pipe knows, as `head` does */
		failure("stdout could not be written: %s", strerror(out_errno));
	}
	return status == STATUS_OK ? STATUS_FAILED : status;
}

bool interrupted(void) {
	return n_interrupts > 0;
}

bool interrupt_wait(int fd) {
	struct pollfd waits[] = { { .fd = fd, .events = POLLIN }, { .fd = wake[0], .events = POLLIN } };
	if (poll(waits, 2, -1) < 0) {
		return false;
	}
	errno = EINTR;
	return !interrupted();
}

void interrupt_removes(const char *path) {
	doomed = path;
}

void interrupt_clear(void) {
	char bytes[16];
	n_interrupts = 0;
	while (read(wake[0], bytes, sizeof(bytes)) > 0) {
	}
}

/* ---- stderr ---- */

static void message(const char *format, va_list args) {
	progress_clear();
	fprintf(stderr, "%s: ", command_name);
	vfprintf(stderr, format, args);
	fputc('\n', stderr);
}

int failure(const char *format, ...) {
	va_list args;
	va_start(args, format);
	message(format, args);
	va_end(args);
	return STATUS_FAILED;
}

int usage_error(const char *format, ...) {
	va_list args;
	va_start(args, format);
	message(format, args);
	va_end(args);
	return STATUS_USAGE;
}

int failure_of(const struct bb_error *err) {
	failure("%s", err->text);
	if (err->code == BB_ERR_CANCELLED) {
		return STATUS_INTERRUPTED;
	}
	return err->code == BB_ERR_USAGE ? STATUS_USAGE : STATUS_FAILED;
}

void notice(const char *format, ...) {
	va_list args;
	va_start(args, format);
	message(format, args);
	va_end(args);
}

static bool can_show(void) {
	const char *term = getenv("TERM");
	return isatty(STDERR_FILENO) && term != NULL && strcmp(term, "dumb") != 0;
}

bool progress_show(void *user, const char *what, double done, double total) {
	enum { WIDTH = 30 };
	const double now = seconds_now();
	if (bar.start == 0) {
		bar.start = now;
	}
	if (interrupted()) {
		return false;
	}
	const bool is_due = now - bar.start > 0.3 && now - bar.last > 0.05;
	if (is_due && can_show()) {
		const double part = total > 0 && done < total ? done / total : 1;
		fprintf(stderr, "\r%s [%-*.*s] %3.0f%%\033[K", what, WIDTH, (int)(part * WIDTH),
			"##############################", part * 100);
		fflush(stderr);
		bar.last = now;
		bar.is_shown = true;
	}
	if (done >= total) {
		progress_clear();
	}
	return true;
}

void progress_clear(void) {
	if (bar.is_shown) {
		fputs("\r\033[K", stderr);
		fflush(stderr);
	}
	bar.is_shown = false;
	bar.start = bar.last = 0;
}

/* ---- stdout ---- */

static bool note(bool ok) {
	if (!ok && out_errno == 0) {
		out_errno = errno != 0 ? errno : EIO;
	}
	return out_errno == 0 && !lacks_json;
}

bool out_write(const void *data, size_t bytes) {
	return note(fwrite(data, 1, bytes, stdout) == bytes);
}

bool out_print(const char *format, ...) {
	va_list args;
	va_start(args, format);
	const bool ok = vprintf(format, args) >= 0;
	va_end(args);
	return note(ok);
}

bool out_flush(void) {
	return note(fflush(stdout) == 0);
}

static int dump(const char *data, size_t bytes, void *user) {
	return out_write(data, bytes) ? 0 : -1;
}

bool out_json_take(json_t *value, size_t flags) {
	/* A write that fails is noted by dump itself; what else fails here is memory. */
	const bool ok = value != NULL &&
		json_dump_callback(value, dump, NULL, flags | JSON_ENCODE_ANY) == 0;
	json_decref(value);
	lacks_json = lacks_json || (!ok && out_errno == 0);
	return ok && out_write("\n", 1);
}

bool out_capture(bool (*print)(FILE *out, const void *user, struct bb_error *err), const void *user,
	struct bb_error *err) {
	char *text = NULL;
	size_t bytes = 0;
	FILE *memory = open_memstream(&text, &bytes);
	bool ok = memory != NULL && print(memory, user, err);
	if (memory == NULL || (fclose(memory) != 0 && ok)) {
		err->code = BB_ERR_MEMORY;
		snprintf(err->text, sizeof(err->text), "no memory for the report: %s", strerror(errno));
		ok = false;
	}
	if (ok) {
		out_write(text, bytes);
	}
	free(text);
	return ok;
}

bool out_is_terminal(void) {
	return isatty(STDOUT_FILENO) != 0;
}

bool out_meets_stderr(void) {
	struct stat out, err;
	return out_is_terminal() || (fstat(STDOUT_FILENO, &out) == 0 &&
		fstat(STDERR_FILENO, &err) == 0 && S_ISREG(out.st_mode) && out.st_dev == err.st_dev &&
		out.st_ino == err.st_ino);
}

/* ---- helpers ---- */

/* Bytes of the UTF-8 character at s, 0 where there is none (RFC 3629). */
static size_t character_bytes(const unsigned char *s, size_t bytes) {
	const unsigned char c = s[0];
	const size_t n = c < 0x80 ? 1 : c >= 0xC2 && c < 0xE0 ? 2 : c >= 0xE0 && c < 0xF0 ? 3
		: c >= 0xF0 && c < 0xF5 ? 4 : 0;
	if (n == 0 || n > bytes) {
		return 0;
	}
	for (size_t i = 1; i < n; i++) {
		if ((s[i] & 0xC0) != 0x80) {
			return 0;
		}
	}
	const bool is_wrong = (c == 0xE0 && s[1] < 0xA0) || (c == 0xED && s[1] > 0x9F) ||
		(c == 0xF0 && s[1] < 0x90) || (c == 0xF4 && s[1] > 0x8F);
	return is_wrong ? 0 : n;
}

json_t *json_bytes(const char *data, size_t bytes) {
	json_t *exact = json_stringn(data, bytes);
	if (exact != NULL) {
		return exact;
	}
	char *clean = malloc(bytes * 3 + 1), *to = clean;
	if (clean == NULL) {
		return NULL;
	}
	for (size_t i = 0; i < bytes;) {
		const size_t n = character_bytes((const unsigned char *)data + i, bytes - i);
		memcpy(to, n > 0 ? data + i : "\xEF\xBF\xBD", n > 0 ? n : 3);
		to += n > 0 ? n : 3;
		i += n > 0 ? n : 1;
	}
	json_t *value = json_stringn(clean, (size_t)(to - clean));
	free(clean);
	return value;
}

void show(const char *text, char *buf, size_t bytes) {
	size_t n = 0;
	for (size_t left = strlen(text); left > 0 && n + 4 < bytes;) {
		const unsigned char *s = (const unsigned char *)text;
		const size_t step = character_bytes(s, left);
		const bool is_control = s[0] < 0x20 || s[0] == 0x7F || (s[0] == 0xC2 && s[1] < 0xA0);
		if (step == 0 || is_control) {
			buf[n++] = '?';
		} else {
			memcpy(buf + n, s, step);
			n += step;
		}
		text += step > 0 ? step : 1;
		left -= step > 0 ? step : 1;
	}
	buf[n] = '\0';
}

double seconds_now(void) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}
