/* SPDX-License-Identifier: Apache-2.0
 *
 * bobbin taps: what ops compute on the way, what heads look at, what layers keep, as NumPy
 * files. */
#include "commands.h"

#include "edits.h"
#include "input.h"
#include "npy.h"
#include "open.h"
#include "prompt.h"
#include "terminal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* Of unembed every row is wanted, and so the logits of all: fewer rows, less memory. */
enum { CHUNK = 512, CHUNK_LOGITS = 32 };

struct options {
	struct open_options open;
	struct edit_options edits;
	const char *prompt, *tokens, *rows, *output;
	struct arg_texts at, attention, kv, state;
	bool list;
};

#define OPT(member) offsetof(struct options, member)

static const struct arg_option own[] = {
	{ "-p,--prompt", "TEXT", "the text that the model reads, as it is; - reads stdin", ARG_TEXT,
		OPT(prompt) },
	{ "--tokens", "FILE", "a JSON array of token ids instead; - reads stdin", ARG_TEXT,
		OPT(tokens) },
	{ "-o,--output", "PATH", "a folder for the files, made if need be; or, for one array, a file "
		"whose name ends with .npy, or -", ARG_TEXT, OPT(output) },
	{ "--list", NULL, "print the names of all sites with their shapes, and what else layers have",
		ARG_FLAG, OPT(list) },
	{ "--at", "SITES", "what ops compute: LAYER:NAME, joined by commas, as 3:q,0-5:att,*:x,"
		"unembed:logits; float32 [tokens, width]", ARG_TEXTS, OPT(at) },
	{ "--attention", "LAYERS", "the weights of attention, float32 [heads, tokens, tokens]; of one "
		"head, as in 5:2, [tokens, tokens]; LAYERS as 3, 0-5, *, joined by commas", ARG_TEXTS,
		OPT(attention) },
	{ "--kv", "LAYERS", "keys and values as they are kept, float32 [heads, tokens, head_dim] each",
		ARG_TEXTS, OPT(kv) },
	{ "--state", "LAYERS", "what recurrent layers remember behind the last token", ARG_TEXTS,
		OPT(state) },
	{ "--rows", "A-B", "of tokens A to B alone, counted from 0, as 12 or 3-7 (not of --state)",
		ARG_TEXT, OPT(rows) },
	{ 0 },
};

static const struct arg_group groups[] = {
	{ "what to look at", own, 0 },
	{ "what to change", edit_table, OPT(edits) },
	{ "model", open_engine, OPT(open) },
	{ "context", open_context, OPT(open) },
	{ 0 },
};

const struct arg_command cmd_taps = {
	.name = "taps",
	.usage = "MODEL (-p TEXT | --tokens FILE.json) --at SITES -o FOLDER [options]",
	.summary = "Writes what a model computes on the way to NumPy files.\n"
		"A site is LAYER:NAME, its names are those of `bobbin inspect`, and --list has them all; a "
		"name without its number means the last of the layer. What to look at may be given again "
		"and again. Says the shape of each file on stderr.",
	.groups = groups,
	.positional = "MODEL",
	.positional_at = OPT(open.path),
	.later = OPEN_LATER,
	.main = taps_main,
};

/* What an array holds: what callbacks bring, or what is read behind the last step. */
enum content { TAPPED, KEYS, VALUES, STATE };

/* An array that will be a file. */
struct slot {
	struct job *job;
	char name[64];
	struct npy_array array;
	enum content content;
	int head;        /* of attention; -1: all */
	int layer, part; /* of what is read */
};

struct job { /* finish_job frees it */
	struct bb_engine *engine;
	struct bb_engine_info info;
	struct bb_tokens tokens;
	struct bb_context *context;
	struct edits edits;
	struct slot **slots;           /* [n_slots] */
	int n_slots;
	struct bb_tap *taps;           /* [n_taps] */
	char **names;                  /* [n_taps]: what they are at */
	struct bb_attention_tap *attention; /* [n_attention] */
	int n_taps, n_attention;
	bool wants_unembed;            /* is it looked at? then all logits are asked for */
	int first, n;                  /* tokens to look at */
	float *logits;                 /* [CHUNK_LOGITS, n_vocab], or NULL */
};

static void finish_job(struct job *j) {
	for (int i = 0; i < j->n_slots; i++) {
		npy_array_finish(&j->slots[i]->array);
		free(j->slots[i]);
	}
	for (int i = 0; i < j->n_taps; i++) {
		free(j->names[i]);
	}
	free(j->slots);
	free(j->taps);
	free(j->names);
	free(j->attention);
	free(j->logits);
	edits_finish(&j->edits);
	bb_context_destroy(j->context);
	bb_tokens_finish(&j->tokens);
	bb_engine_destroy(j->engine);
}

static bool no_memory(struct bb_error *err) {
	return input_fail(err, BB_ERR_MEMORY, "no memory for what was asked for");
}

/* ---- --list ---- */

static void list_site(const struct bb_tap_site *s) {
	char shape[64], parts[32] = "";
	if (s->n_parts > 1) {
		snprintf(parts, sizeof(parts), "%d experts, ", s->n_parts);
	}
	if (s->n_heads > 0) {
		snprintf(shape, sizeof(shape), "[%s%d] = %d head%s of %d", parts, s->width, s->n_heads,
			s->n_heads == 1 ? "" : "s", s->width / s->n_heads);
	} else {
		snprintf(shape, sizeof(shape), "[%s%d]", parts, s->width);
	}
	out_print("%-24s %-14s %s\n", s->full, s->op, shape);
}

static void list_layer(const struct bb_engine *e, int layer) {
	struct bb_tap_site site;
	struct bb_state_part part;
	struct bb_attention_shape kv;
	for (int i = 0; bb_tap_site(e, layer, i, &site); i++) {
		list_site(&site);
	}
	if (layer >= 0 && bb_attention_shape(e, layer, &kv)) {
		char name[48];
		snprintf(name, sizeof(name), "blk.%d.attention", layer);
		out_print("%-24s %-14s [%d, tokens, tokens]\n", name, "--attention", kv.n_heads);
		for (int plane = 0; plane < 2; plane++) {
			snprintf(name, sizeof(name), "blk.%d.%s", layer, plane == 0 ? "keys" : "values");
			out_print("%-24s %-14s [%d, tokens, %d]\n", name, "--kv", kv.n_kv_heads, kv.head_dim);
		}
	}
	for (int i = 0; layer >= 0 && bb_state_part(e, layer, i, &part); i++) {
		out_print("%-24s %-14s [", part.full, "--state");
		for (int axis = 0; axis < part.n_axes; axis++) {
			out_print("%s%d", axis > 0 ? ", " : "", part.shape[axis]);
		}
		out_print("]\n");
	}
}

static int list(struct job *j) {
	bb_engine_info(j->engine, &j->info);
	list_layer(j->engine, BB_TAP_EMBED);
	for (int i = 0; i < j->info.n_layers; i++) {
		list_layer(j->engine, i);
	}
	list_layer(j->engine, BB_TAP_UNEMBED);
	return out_flush() ? STATUS_OK : STATUS_FAILED;
}

/* ---- what was asked for ---- */

/* A new array of zeros; the same name twice is one file: *is_new. NULL: no memory. */
static struct slot *add_slot(struct job *j, const char *name, const size_t *shape, int n_axes,
	bool *is_new, struct bb_error *err) {
	*is_new = false;
	for (int i = 0; i < j->n_slots; i++) {
		if (strcmp(j->slots[i]->name, name) == 0) {
			return j->slots[i];
		}
	}
	struct slot **more = realloc(j->slots, ((size_t)j->n_slots + 1) * sizeof(*more));
	struct slot *slot = more != NULL ? calloc(1, sizeof(*slot)) : NULL;
	j->slots = more != NULL ? more : j->slots;
	if (slot == NULL) {
		no_memory(err);
		return NULL;
	}
	j->slots[j->n_slots++] = slot;
	*is_new = true;
	slot->job = j;
	snprintf(slot->name, sizeof(slot->name), "%s", name);
	slot->array.n_axes = n_axes;
	slot->array.n = 1;
	for (int i = 0; i < n_axes; i++) {
		slot->array.shape[i] = shape[i];
		slot->array.n *= shape[i];
	}
	slot->array.data = calloc(slot->array.n, sizeof(float));
	if (slot->array.data == NULL) {
		no_memory(err);
		return NULL;
	}
	return slot;
}

static void take_rows(void *user, const struct bb_tap_rows *rows) {
	struct slot *s = user;
	const size_t width = (size_t)rows->site->n_parts * (size_t)rows->site->width;
	memcpy(s->array.data + (size_t)(rows->first - s->job->first) * width, rows->rows,
		(size_t)rows->n_rows * width * sizeof(float));
}

static void take_attention(void *user, const struct bb_attention_row *row) {
	struct slot *s = user;
	const size_t n = (size_t)s->job->n, n_tokens = s->job->tokens.n;
	const size_t head = s->head < 0 ? (size_t)row->head : 0;
	const size_t i = head * n + (size_t)(row->token - s->job->first);
	memcpy(s->array.data + i * n_tokens + row->first, row->weights,
		(size_t)row->n_kept * sizeof(float));
}

static bool add_site(struct job *j, const struct bb_tap_site *site, struct bb_error *err) {
	const size_t parts[] = { (size_t)j->n, (size_t)site->n_parts, (size_t)site->width };
	const size_t plain[] = { (size_t)j->n, (size_t)site->width };
	bool is_new;
	struct slot *s = add_slot(j, site->full, site->n_parts > 1 ? parts : plain,
		site->n_parts > 1 ? 3 : 2, &is_new, err);
	if (s == NULL || !is_new) {
		return s != NULL;
	}
	struct bb_tap *taps = realloc(j->taps, ((size_t)j->n_taps + 1) * sizeof(*taps));
	j->taps = taps != NULL ? taps : j->taps;
	char **names = realloc(j->names, ((size_t)j->n_taps + 1) * sizeof(*names));
	j->names = names != NULL ? names : j->names;
	char *at = strdup(site->layer < 0 ? site->full : site->full + strlen("blk."));
	if (taps == NULL || names == NULL || at == NULL) {
		free(at);
		return no_memory(err);
	}
	j->taps[j->n_taps] = (struct bb_tap){ at, j->first, j->n, take_rows, s };
	j->names[j->n_taps++] = at;
	j->wants_unembed = j->wants_unembed || site->layer == BB_TAP_UNEMBED;
	return true;
}

/* One site of a list, or several. */
static bool add_at(struct job *j, const char *at, struct bb_error *err) {
	struct bb_tap_site first, site;
	int n;
	if (!bb_tap_find(j->engine, at, &first, &n, err)) {
		return false;
	}
	const char *name = strpbrk(at + (strncmp(at, "blk.", 4) == 0 ? 4 : 0), ":.");
	bool ok = add_site(j, &first, err);
	for (int i = first.layer + 1; ok && n > 1 && i < j->info.n_layers; i++) {
		char one[80];
		int n_here;
		struct bb_error ignored = { 0 };
		snprintf(one, sizeof(one), "%d:%.60s", i, name + 1);
		if (bb_tap_find(j->engine, one, &site, &n_here, &ignored)) {
			ok = add_site(j, &site, err);
			n--;
		}
	}
	return ok;
}

/* Items joined by commas, blanks round them left out. */
static bool add_list(struct job *j, const char *option, const char *text,
	bool (*add)(struct job *j, const char *item, struct bb_error *err), struct bb_error *err) {
	static const char blanks[] = " \t\n";
	for (const char *at = text, *end;; at = end + 1) {
		end = at + strcspn(at, ",");
		at += strspn(at, blanks);
		size_t n = (size_t)(end - at);
		while (n > 0 && strchr(blanks, at[n - 1]) != NULL) {
			n--;
		}
		if (n == 0) {
			return input_fail(err, BB_ERR_USAGE, "option '%s' is '%.60s', where one of what commas "
				"join is empty", option, text);
		}
		char *item = strndup(at, n);
		const bool ok = item != NULL ? add(j, item, err) : no_memory(err);
		free(item);
		if (!ok || *end == '\0') {
			return ok;
		}
	}
}

struct layers {
	int first, end;
	int head;    /* -1: all */
	bool is_one; /* then what was asked for must be there */
};

/* "3", "0-5" or "*", and with `has_head` perhaps ":HEAD" behind it. */
static bool read_layers(const struct job *j, const char *option, const char *text, bool has_head,
	struct layers *out, struct bb_error *err) {
	char layers[32];
	const char *colon = has_head ? strchr(text, ':') : NULL;
	const size_t n = colon != NULL ? (size_t)(colon - text) : strlen(text);
	int n_named = j->info.n_layers, n_heads = 1;
	*out = (struct layers){ .head = -1 };
	snprintf(layers, sizeof(layers), "%.*s", (int)(n < sizeof(layers) ? n : sizeof(layers)), text);
	bool ok = n < sizeof(layers) &&
		(strcmp(layers, "*") == 0 || edits_range(layers, &out->first, &n_named)) &&
		out->first < j->info.n_layers && n_named <= j->info.n_layers - out->first;
	if (ok && colon != NULL && strcmp(colon, ":*") != 0) {
		ok = edits_range(colon + 1, &out->head, &n_heads) && n_heads == 1;
	}
	if (!ok) {
		return input_fail(err, BB_ERR_USAGE, "option '%s' is '%.40s', expected layers from 0 to "
			"%d, as 0, 0-%d or *%s", option, text, j->info.n_layers - 1, j->info.n_layers - 1,
			has_head ? ", and perhaps :HEAD" : "");
	}
	out->end = out->first + n_named;
	out->is_one = n_named == 1;
	return true;
}

/* Nothing was found in any of the layers. */
static bool refuse_layers(const struct job *j, const struct layers *l, const char *does,
	const char *lacks, struct bb_error *err) {
	if (l->is_one) {
		return input_fail(err, BB_ERR_USAGE, "layer %d %s", l->first, lacks);
	}
	if (l->end - l->first == j->info.n_layers) {
		return input_fail(err, BB_ERR_USAGE, "no layer of this model %s", does);
	}
	return input_fail(err, BB_ERR_USAGE, "none of layers %d to %d %s", l->first, l->end - 1, does);
}

static bool add_attention(struct job *j, const char *text, struct bb_error *err) {
	struct layers l;
	struct bb_attention_shape attends;
	int n_found = 0;
	if (!read_layers(j, "--attention", text, true, &l, err)) {
		return false;
	}
	struct bb_attention_tap *more = realloc(j->attention,
		(size_t)(j->n_attention + l.end - l.first) * sizeof(*more));
	if (more == NULL) {
		return no_memory(err);
	}
	j->attention = more;
	for (int i = l.first; i < l.end; i++) {
		char name[64], which[16] = "";
		if (!bb_attention_shape(j->engine, i, &attends)) {
			continue;
		}
		if (l.head >= 0) {
			snprintf(which, sizeof(which), ".%d", l.head);
		}
		snprintf(name, sizeof(name), "blk.%d.attention%s", i, which);
		const size_t shape[] = { (size_t)attends.n_heads, (size_t)j->n, j->tokens.n };
		const bool is_all = l.head < 0;
		bool is_new;
		struct slot *s = add_slot(j, name, is_all ? shape : shape + 1, is_all ? 3 : 2, &is_new,
			err);
		if (s == NULL) {
			return false;
		}
		s->head = l.head;
		j->attention[j->n_attention] = (struct bb_attention_tap){ i, l.head, j->first, j->n,
			take_attention, s };
		j->n_attention += is_new;
		n_found++;
	}
	return n_found > 0 || refuse_layers(j, &l, "attends", "doesn't attend", err);
}

/* An array for what is read behind the last step. */
static bool add_read(struct job *j, const char *name, const size_t *shape, int n_axes,
	struct slot like, struct bb_error *err) {
	bool is_new;
	struct slot *s = add_slot(j, name, shape, n_axes, &is_new, err);
	if (s == NULL) {
		return false;
	}
	s->content = like.content;
	s->layer = like.layer;
	s->part = like.part;
	return true;
}

static bool add_kv(struct job *j, const char *text, struct bb_error *err) {
	struct layers l;
	struct bb_attention_shape kv;
	int n_found = 0;
	if (!read_layers(j, "--kv", text, false, &l, err)) {
		return false;
	}
	for (int i = l.first; i < l.end; i++) {
		if (!bb_attention_shape(j->engine, i, &kv)) {
			continue;
		}
		const size_t shape[] = { (size_t)kv.n_kv_heads, (size_t)j->n, (size_t)kv.head_dim };
		for (enum content content = KEYS; content <= VALUES; content++, n_found++) {
			char name[64];
			snprintf(name, sizeof(name), "blk.%d.%s", i, content == KEYS ? "keys" : "values");
			if (!add_read(j, name, shape, 3, (struct slot){ .content = content, .layer = i },
				err)) {
				return false;
			}
		}
	}
	return n_found > 0 ||
		refuse_layers(j, &l, "keeps keys and values", "keeps no keys and values", err);
}

static bool add_state(struct job *j, const char *text, struct bb_error *err) {
	struct layers l;
	struct bb_state_part part;
	int n_found = 0;
	if (!read_layers(j, "--state", text, false, &l, err)) {
		return false;
	}
	for (int i = l.first; i < l.end; i++) {
		for (int k = 0; bb_state_part(j->engine, i, k, &part); k++, n_found++) {
			const size_t shape[] = { (size_t)part.shape[0], (size_t)part.shape[1],
				(size_t)part.shape[2] };
			char name[64];
			snprintf(name, sizeof(name), "blk.%d.state.%s", i, part.name);
			if (!add_read(j, name, shape, part.n_axes,
				(struct slot){ .content = STATE, .layer = i, .part = k }, err)) {
				return false;
			}
		}
	}
	return n_found > 0 || refuse_layers(j, &l, "keeps a state of a fixed size",
		"keeps no state of a fixed size", err);
}

/* ---- the run ---- */

static bool read_rows(struct job *j, const struct options *o, struct bb_error *err) {
	j->n = (int)j->tokens.n;
	if (o->rows == NULL) {
		return true;
	}
	if (!edits_range(o->rows, &j->first, &j->n)) {
		return input_fail(err, BB_ERR_USAGE, "option '--rows' is '%.40s', expected tokens as 12 or "
			"3-7", o->rows);
	}
	return (j->first < (int)j->tokens.n && j->n <= (int)j->tokens.n - j->first) ||
		input_fail(err, BB_ERR_USAGE, "option '--rows' is '%.40s', but there are tokens 0 to %zu",
			o->rows, j->tokens.n - 1);
}

static bool is_one_file(const char *output) {
	const size_t n = strlen(output);
	return strcmp(output, "-") == 0 || (n > 4 && strcmp(output + n - 4, ".npy") == 0);
}

/* All that is asked for, before anything is computed. */
static bool add_all(struct job *j, const struct options *o, struct bb_error *err) {
	const struct {
		const char *option;
		const struct arg_texts *texts;
		bool (*add)(struct job *j, const char *item, struct bb_error *err);
	} all[] = { { "--at", &o->at, add_at }, { "--attention", &o->attention, add_attention },
		{ "--kv", &o->kv, add_kv }, { "--state", &o->state, add_state } };
	for (size_t k = 0; k < sizeof(all) / sizeof(*all); k++) {
		for (int i = 0; i < all[k].texts->n; i++) {
			if (!add_list(j, all[k].option, all[k].texts->v[i], all[k].add, err)) {
				return false;
			}
		}
	}
	return j->n_slots == 1 || !is_one_file(o->output) || input_fail(err, BB_ERR_USAGE,
		"%d arrays, but '%.150s' is one file; expected a folder", j->n_slots, o->output);
}

static bool attach(struct job *j, const struct options *o, struct bb_error *err) {
	if (!edits_read(&j->edits, &o->edits, err) ||
		!edits_check(&j->edits, (int)j->tokens.n, err) || !add_all(j, o, err)) {
		return false;
	}
	const struct bb_taps taps = { j->taps, j->n_taps, j->attention, j->n_attention, j->edits.items,
		j->edits.n, (int)j->tokens.n };
	if (!bb_taps_attach(j->engine, &taps, err)) {
		return false;
	}
	if (j->wants_unembed) {
		j->logits = malloc((size_t)CHUNK_LOGITS * (size_t)j->info.n_vocab * sizeof(float));
		return j->logits != NULL || no_memory(err);
	}
	return true;
}

static bool run(struct job *j, struct bb_error *err) {
	const size_t chunk = j->logits != NULL ? CHUNK_LOGITS : CHUNK;
	for (size_t done = 0; done < j->tokens.n; done += chunk) {
		const size_t left = j->tokens.n - done;
		const struct bb_step_item item = { .context = j->context, .tokens = j->tokens.ids + done,
			.n_tokens = (int)(left < chunk ? left : chunk), .logits = j->logits,
			.all_logits = j->logits != NULL };
		if (!bb_step(j->engine, &item, 1, err)) {
			return false;
		}
		if (!progress_show(NULL, "reading", (double)(done + (size_t)item.n_tokens),
			(double)j->tokens.n)) {
			return input_fail(err, BB_ERR_CANCELLED, "reading the tokens was stopped");
		}
	}
	return true;
}

/* What contexts keep, behind the last step. */
static bool read_kept(const struct job *j, struct bb_error *err) {
	for (int i = 0; i < j->n_slots; i++) {
		const struct slot *s = j->slots[i];
		float *data = s->array.data;
		const bool is_kv = s->content == KEYS || s->content == VALUES;
		if (is_kv && !bb_context_kv(j->context, s->layer, j->first, j->n,
			s->content == KEYS ? data : NULL, s->content == VALUES ? data : NULL, err)) {
			return false;
		}
		if (s->content == STATE && !bb_context_state(j->context, s->layer, s->part, data, err)) {
			return false;
		}
	}
	return true;
}

static bool save(const struct job *j, const char *output, struct bb_error *err) {
	const size_t n = strlen(output);
	const bool is_file = is_one_file(output);
	if (!is_file && mkdir(output, 0777) != 0 && errno != EEXIST) {
		return input_fail(err, BB_ERR_IO, "'%.150s' can't be made: %s", output, strerror(errno));
	}
	for (int i = 0; i < j->n_slots; i++) {
		const struct npy_array *a = &j->slots[i]->array;
		char *path = NULL;
		if (!is_file && asprintf(&path, "%s%s%s.npy", output, output[n - 1] == '/' ? "" : "/",
			j->slots[i]->name) < 0) {
			return no_memory(err);
		}
		const char *name = is_file ? output : path;
		const bool ok = npy_save(a, name, err);
		if (ok) {
			fprintf(stderr, "%s: %s [", name, j->slots[i]->name);
			for (int axis = 0; axis < a->n_axes; axis++) {
				fprintf(stderr, "%s%zu", axis > 0 ? ", " : "", a->shape[axis]);
			}
			fputs("]\n", stderr);
		}
		free(path);
		if (!ok) {
			return false;
		}
	}
	return true;
}

static bool read_tokens(struct job *j, const struct options *o, struct bb_error *err) {
	struct input in = { 0 };
	const bool is_stdin = o->prompt != NULL && strcmp(o->prompt, "-") == 0;
	bool ok = true;
	if (o->tokens != NULL) {
		ok = input_read(o->tokens, &in, err) &&
			input_ids(&in, input_name(o->tokens), &j->tokens, err);
	} else {
		ok = (!is_stdin || input_read("-", &in, err)) && prompt_raw(j->engine,
			is_stdin ? in.data : o->prompt, is_stdin ? in.bytes : strlen(o->prompt), &j->tokens,
			err);
	}
	input_finish(&in);
	return ok && prompt_check(&j->tokens, j->info.max_len, err);
}

static int work(struct job *j, const struct options *o) {
	struct bb_error err = { 0 };
	bb_engine_info(j->engine, &j->info);
	bool ok = read_tokens(j, o, &err) && read_rows(j, o, &err) && attach(j, o, &err) &&
		bb_context_create(&j->context, j->engine, NULL, &err) && run(j, &err);
	progress_clear();
	ok = ok && read_kept(j, &err) && save(j, o->output, &err);
	if (!out_flush()) {
		return STATUS_FAILED; /* which the end of the program says */
	}
	if (!ok) {
		return failure_of(&err);
	}
	edits_note_unused(&j->edits, j->engine, (int)j->tokens.n);
	return STATUS_OK;
}

static int check_options(const struct options *o) {
	if (o->open.path == NULL) {
		return usage_error("no MODEL was given");
	}
	if (o->list) {
		return -1;
	}
	if ((o->prompt == NULL) == (o->tokens == NULL)) {
		return usage_error("expected one of -p and --tokens, or --list");
	}
	if (o->at.n + o->attention.n + o->kv.n + o->state.n == 0) {
		return usage_error("nothing to look at was given; expected --at, --attention, --kv, "
			"--state or --list");
	}
	return o->output != NULL ? -1 : usage_error("no -o was given");
}

int taps_main(int argc, char **argv) {
	struct options o = { 0 };
	int status = args_parse(&cmd_taps, argc, argv, &o);
	status = status < 0 ? check_options(&o) : status;
	if (status >= 0) {
		return status;
	}
	static struct job j;
	o.open.taps = true;
	o.open.max_batch_tokens = CHUNK;
	status = open_model(&o.open, o.list ? OPEN_INSPECT : OPEN_ALL, &j.engine);
	status = status < 0 ? (o.list ? list(&j) : work(&j, &o)) : status;
	finish_job(&j);
	return status;
}
