/* SPDX-License-Identifier: Apache-2.0
 *
 * The access log. No prompt and no answer goes into it. */
#include "access.h"

#include "server.h"
#include "terminal.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static void put_time(struct buf *line) {
	struct timespec now;
	struct tm parts;
	char text[40];
	clock_gettime(CLOCK_REALTIME, &now);
	gmtime_r(&now.tv_sec, &parts);
	strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &parts);
	buf_print(line, "{\"time\":\"%s.%03ldZ\"", text, now.tv_nsec / 1000000);
}

static double ms(double seconds) {
	return round(seconds * 1e6) / 1e3;
}

void access_log(const struct exchange *x, bool is_whole) {
	const enum log_level level = x->status >= 500 || x->status == 0 ? LOG_ERROR
		: x->status >= 400 ? LOG_WARN : LOG_INFO;
	static const char *const names[] = { "off", "error", "warn", "info", "debug" };
	if (level > x->server->options.log_level) {
		return;
	}
	struct buf line = { 0 };
	put_time(&line);
	buf_print(&line, ",\"level\":\"%s\",\"id\":\"%s\",\"method\":", names[level], x->id);
	buf_json_take(&line, json_bytes(x->method, strnlen(x->method, 16)));
	buf_text(&line, ",\"path\":");
	buf_json_take(&line, json_bytes(x->path, strnlen(x->path, 200)));
	buf_print(&line, ",\"status\":%d,\"ms\":%.3f", x->status, ms(seconds_now() - x->start));
	if (x->n_prompt > 0) {
		buf_print(&line, ",\"prompt_tokens\":%d,\"cached_tokens\":%d,\"output_tokens\":%d",
			x->n_prompt, x->n_cached, x->n_output);
	}
	if (x->first_s >= 0) {
		buf_print(&line, ",\"first_token_ms\":%.3f", ms(x->first_s));
	}
	if (x->error != NULL) {
		buf_print(&line, ",\"error\":\"%s\"", x->error);
	}
	buf_text(&line, is_whole ? "}\n" : ",\"cut_off\":true}\n");
	/* One write, so that lines of threads don't mix. */
	if (!line.has_failed) {
		const ssize_t written = write(STDERR_FILENO, line.data, line.bytes);
		(void)written; /* nobody is left to tell */
	}
	buf_finish(&line);
}
