/* SPDX-License-Identifier: Apache-2.0
 *
 * Reading lines with libedit, or with getline where stdin is no terminal. */
#include "line.h"

#include "terminal.h"

#include <errno.h>
#include <histedit.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <wchar.h>

struct line_reader {
	EditLine *edit; /* NULL: stdin is no terminal */
	History *history;
	bool is_continued;
	char *text; /* [cap] */
	size_t cap;
};

static char *prompt(EditLine *edit) {
	static char first[] = "> ", more[] = "… ";
	struct line_reader *r;
	el_get(edit, EL_CLIENTDATA, &r);
	return r->is_continued ? more : first;
}

/* libedit's own reader tries again after a signal; this one gives the line up on Ctrl-C. */
static int read_character(EditLine *edit, wchar_t *out) {
	mbstate_t state = { 0 };
	for (;;) {
		char byte;
		/* The prompt is shown before the terminal is ready: Ctrl-C may have come already. */
		const ssize_t n = interrupt_wait(STDIN_FILENO) ? read(STDIN_FILENO, &byte, 1) : -1;
		if (n < 0 && errno == EINTR && !interrupted()) {
			el_resize(edit);
			continue;
		}
		if (n <= 0) {
			return (int)n;
		}
		const size_t used = mbrtowc(out, &byte, 1, &state);
		if (used == (size_t)-1) { /* not of this locale: shown as U+FFFD */
			*out = 0xFFFD;
			return 1;
		}
		if (used != (size_t)-2) {
			return 1;
		}
	}
}

static void open_editor(struct line_reader *r) {
	r->edit = el_init("bobbin", stdin, stdout, stderr);
	if (r->edit == NULL) {
		return;
	}
	r->history = history_init();
	HistEvent event;
	history(r->history, &event, H_SETSIZE, 1000);
	history(r->history, &event, H_SETUNIQUE, 1);
	el_set(r->edit, EL_CLIENTDATA, r);
	el_set(r->edit, EL_PROMPT, prompt);
	el_set(r->edit, EL_EDITOR, "emacs");
	el_set(r->edit, EL_HIST, history, r->history);
	el_set(r->edit, EL_GETCFN, read_character);
	el_source(r->edit, NULL);
}

struct line_reader *line_create(void) {
	struct line_reader *r = calloc(1, sizeof(*r));
	if (r != NULL && isatty(STDIN_FILENO) && isatty(STDOUT_FILENO)) {
		open_editor(r);
	}
	return r;
}

void line_destroy(struct line_reader *r) {
	if (r == NULL) {
		return;
	}
	if (r->edit != NULL) {
		el_end(r->edit);
		history_end(r->history);
	}
	free(r->text);
	free(r);
}

bool line_is_edited(const struct line_reader *r) {
	return r->edit != NULL;
}

static enum line_outcome read_plain(struct line_reader *r, const char **text) {
	errno = 0;
	interrupt_ends_reads(true);
	/* One pressed before would not end the read. */
	const ssize_t n = interrupted() ? -1 : getline(&r->text, &r->cap, stdin);
	interrupt_ends_reads(false);
	if (n < 0) {
		return interrupted() ? LINE_INTERRUPTED : ferror(stdin) ? LINE_ERROR : LINE_END;
	}
	r->text[strcspn(r->text, "\n")] = '\0';
	*text = r->text;
	return LINE_TEXT;
}

/* Appends n bytes of a part to the text so far. */
static bool append(struct line_reader *r, const char *part, size_t n) {
	const size_t have = r->text != NULL ? strlen(r->text) : 0;
	if (have + n + 1 > r->cap) {
		char *grown = realloc(r->text, (have + n + 1) * 2);
		if (grown == NULL) {
			return false;
		}
		r->text = grown;
		r->cap = (have + n + 1) * 2;
	}
	memcpy(r->text + have, part, n);
	r->text[have + n] = '\0';
	return true;
}

static enum line_outcome read_edited(struct line_reader *r, const char **text) {
	r->is_continued = false;
	if (r->text != NULL) {
		r->text[0] = '\0';
	}
	for (;;) {
		int count = 0;
		interrupt_ends_reads(true);
		const char *part = el_gets(r->edit, &count);
		interrupt_ends_reads(false);
		if (interrupted()) {
			out_write("\n", 1);
			return LINE_INTERRUPTED;
		}
		if (part == NULL || count <= 0) {
			out_write("\n", 1);
			return count < 0 ? LINE_ERROR : LINE_END;
		}
		size_t n = strcspn(part, "\n");
		r->is_continued = n > 0 && part[n - 1] == '\\';
		const bool ok = append(r, part, r->is_continued ? n - 1 : n) &&
			(!r->is_continued || append(r, "\n", 1));
		if (!ok) {
			errno = ENOMEM;
			return LINE_ERROR;
		}
		if (!r->is_continued) {
			break;
		}
	}
	if (r->text[strspn(r->text, " \t\n")] != '\0') {
		HistEvent event;
		history(r->history, &event, H_ENTER, r->text);
	}
	*text = r->text;
	return LINE_TEXT;
}

enum line_outcome line_read(struct line_reader *r, const char **text) {
	return r->edit != NULL ? read_edited(r, text) : read_plain(r, text);
}
