/* SPDX-License-Identifier: Apache-2.0
 *
 * Prints what a captured step of decoding, each context of which draws its next token, launches,
 * moves and multiplies on the emulator, as JSON: the figures of bench/roofline. The model has one
 * layer of the shape asked for, weights of zeros and a small vocabulary; its contexts hold tokens
 * that nobody computed: neither changes what is moved.
 *
 * count_step DEVICE EMBD FF HEADS KV_HEADS HEAD_DIM VOCAB WEIGHT_TYPE KV_TYPE BATCH DEPTH */
#include "engine.h"
#include "gguf_builder.h"
#include "sample.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_LAUNCHES = 512, MAX_LINES = 1024, MAX_BATCH = 64 };

struct shape {
	int embd, ff, heads, kv_heads, head_dim, vocab, batch, depth;
	enum bb_dtype weight_type;
	enum bb_kv_type kv_type;
};

/* What the emulator counted of a step. */
struct counted {
	struct bb_launch launches[MAX_LAUNCHES];
	struct bb_line lines[MAX_LINES];
	int n_launches, n_lines;
};

static void fail(const char *text) {
	fprintf(stderr, "count_step: %s\n", text);
	exit(1);
}

/* ---- the model ---- */

static void add_tensor(struct gguf_builder *b, const char *name, enum bb_dtype type, int rows,
	int cols) {
	const int64_t dims[2] = { cols > 0 ? rows : 0, cols };
	const size_t bytes = cols > 0 ? (size_t)rows * dtype_row_bytes(type, cols)
		: dtype_row_bytes(type, rows);
	void *zeros = calloc(bytes, 1);
	if (zeros == NULL) {
		fail("no memory for a tensor");
	}
	const int64_t length = rows;
	gguf_builder_tensor(b, name, type, cols > 0 ? 2 : 1, cols > 0 ? dims : &length, zeros);
	free(zeros);
}

static void write_model(const struct shape *s, const char *path) {
	struct gguf_builder b;
	const int q = s->heads * s->head_dim, kv = s->kv_heads * s->head_dim;
	gguf_builder_init(&b);
	gguf_builder_str(&b, "general.architecture", "llama");
	gguf_builder_str(&b, "tokenizer.ggml.model", "no_vocab");
	const struct {
		const char *key;
		int value;
	} ints[] = {
		{ "block_count", 1 }, { "context_length", s->depth + 64 }, { "embedding_length", s->embd },
		{ "feed_forward_length", s->ff }, { "attention.head_count", s->heads },
		{ "attention.head_count_kv", s->kv_heads }, { "attention.key_length", s->head_dim },
		{ "attention.value_length", s->head_dim }, { "rope.dimension_count", s->head_dim },
		{ "vocab_size", s->vocab },
	};
	for (size_t i = 0; i < COUNT(ints); i++) {
		char key[64];
		snprintf(key, sizeof(key), "llama.%s", ints[i].key);
		gguf_builder_int(&b, key, GGUF_U32, ints[i].value);
	}
	gguf_builder_float(&b, "llama.attention.layer_norm_rms_epsilon", GGUF_F32, 1e-5);
	gguf_builder_float(&b, "llama.rope.freq_base", GGUF_F32, 500000);
	add_tensor(&b, "token_embd.weight", s->weight_type, s->vocab, s->embd);
	add_tensor(&b, "output.weight", s->weight_type, s->vocab, s->embd);
	add_tensor(&b, "output_norm.weight", BB_F32, s->embd, 0);
	add_tensor(&b, "blk.0.attn_norm.weight", BB_F32, s->embd, 0);
	add_tensor(&b, "blk.0.attn_q.weight", s->weight_type, q, s->embd);
	add_tensor(&b, "blk.0.attn_k.weight", s->weight_type, kv, s->embd);
	add_tensor(&b, "blk.0.attn_v.weight", s->weight_type, kv, s->embd);
	add_tensor(&b, "blk.0.attn_output.weight", s->weight_type, s->embd, q);
	add_tensor(&b, "blk.0.ffn_norm.weight", BB_F32, s->embd, 0);
	add_tensor(&b, "blk.0.ffn_gate.weight", s->weight_type, s->ff, s->embd);
	add_tensor(&b, "blk.0.ffn_up.weight", s->weight_type, s->ff, s->embd);
	add_tensor(&b, "blk.0.ffn_down.weight", s->weight_type, s->embd, s->ff);
	if (!gguf_builder_write(&b, path)) {
		fail("the model could not be written to TMPDIR or /tmp");
	}
	gguf_builder_finish(&b);
}

static struct bb_engine *open_model(const struct shape *s, const char *device) {
	const char *folder = getenv("TMPDIR");
	char path[512];
	snprintf(path, sizeof(path), "%s/bobbin-shape-%d.gguf", folder != NULL ? folder : "/tmp",
		(int)getpid());
	write_model(s, path);
	const struct bb_engine_params params = { .path = path, .device = device,
		.kv_type = s->kv_type, .n_threads = 1, .max_batch_tokens = s->batch };
	struct bb_engine *e = NULL;
	struct bb_error err = { 0 };
	const bool ok = bb_engine_open(&e, bb_models, &params, &err);
	unlink(path);
	if (!ok) {
		fail(err.text);
	}
	return e;
}

/* ---- the step ---- */

/* A context of depth tokens whose pages hold zeros. */
static struct bb_context *filled_context(struct bb_engine *e, int depth) {
	struct bb_context *c = NULL;
	struct bb_error err = { 0 };
	int32_t *ids = calloc((size_t)depth + 1, sizeof(*ids));
	if (ids == NULL || !bb_context_create(&c, e, NULL, &err) ||
		(depth > 0 && !context_reserve(c, depth, 0, &err))) {
		fail(err.text);
	}
	if (depth > 0) {
		context_commit(c, ids, depth, (struct ahead){ 0 });
	}
	const struct kv_table *t = &c->tables[0];
	for (int i = 0; i < t->n_pages; i++) {
		e->memory.device.module->fill(e->memory.queue, t->chunks[i / BB_CHUNK][i % BB_CHUNK], 0,
			t->pool->page_bytes);
	}
	free(ids);
	return c;
}

/* With the sampling of every command, from logits that stay on the device. */
static void run_step(struct bb_engine *e, const struct shape *s, struct counted *out) {
	const struct bb_module *module = e->memory.device.module;
	const int32_t id = 0;
	struct bb_step_item items[MAX_BATCH];
	struct bb_sampled drawn[MAX_BATCH];
	struct bb_sampler samplers[MAX_BATCH];
	struct bb_sampling sampling;
	struct bb_error err = { 0 };
	bb_sampling_default(e, &sampling);
	for (int i = 0; i < s->batch; i++) {
		if (!sampler_init(&samplers[i], e, &sampling, &err)) {
			fail(err.text);
		}
		items[i] = (struct bb_step_item){
			.context = filled_context(e, s->depth), .tokens = &id, .n_tokens = 1,
			.sampler = &samplers[i], .sampled = &drawn[i],
		};
	}
	module->launches(out->launches, 0); /* forget what loading did */
	if (!bb_step(e, items, s->batch, &err)) {
		fail(err.text);
	}
	out->n_lines = module->lines(out->lines, MAX_LINES);
	out->n_launches = module->launches(out->launches, MAX_LAUNCHES);
	if (out->n_lines > MAX_LINES || out->n_launches > MAX_LAUNCHES) {
		fail("the step has more launches or lines than there is room for");
	}
	for (int i = 0; i < s->batch; i++) {
		bb_context_destroy(items[i].context);
		sampler_finish(&samplers[i]);
	}
}

static int n_graph_nodes(const struct bb_engine *e) {
	for (int i = 0; i < MAX_CAPTURES; i++) {
		if (e->captures.entries[i].graph != NULL) {
			return e->memory.device.module->graph_nodes(e->captures.entries[i].graph);
		}
	}
	return 0;
}

/* ---- printing ---- */

static json_t *launch_json(const struct bb_launch *l) {
	return json_pack("{s:s, s:[i,i,i], s:i, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "kernel",
		l->kernel, "grid", (int)l->grid[0], (int)l->grid[1], (int)l->grid[2], "threads",
		(int)(l->block[0] * l->block[1] * l->block[2]), "graph_launch",
		(json_int_t)l->graph_launch, "read_bytes", (json_int_t)l->read_bytes, "written_bytes",
		(json_int_t)l->written_bytes, "new_read_bytes", (json_int_t)l->new_read_bytes,
		"new_written_bytes", (json_int_t)l->new_written_bytes, "wavefronts",
		(json_int_t)l->wavefronts, "ideal_wavefronts", (json_int_t)l->ideal_wavefronts,
		"mma_operations", (json_int_t)l->mma_operations, "dp4a_operations",
		(json_int_t)l->dp4a_operations);
}

static json_t *line_json(const struct bb_line *l) {
	return json_pack("{s:s, s:i, s:b, s:b, s:i, s:I, s:I, s:I, s:I}", "file", l->file, "line",
		l->line, "is_shared", l->is_shared, "is_write", l->is_write, "bytes_per_lane",
		l->bytes_per_lane, "requests", (json_int_t)l->requests, "bytes", (json_int_t)l->bytes,
		"parts", (json_int_t)l->parts, "ideal_parts", (json_int_t)l->ideal_parts);
}

static void print(const struct bb_engine *e, const struct shape *s, const struct counted *step) {
	struct bb_engine_info info;
	json_t *launches = json_array(), *lines = json_array();
	for (int i = 0; i < step->n_launches; i++) {
		json_array_append_new(launches, launch_json(&step->launches[i]));
	}
	for (int i = 0; i < step->n_lines; i++) {
		json_array_append_new(lines, line_json(&step->lines[i]));
	}
	bb_engine_info(e, &info);
	json_t *root = json_pack("{s:i, s:I, s:I, s:o, s:o}", "graph_nodes", n_graph_nodes(e),
		"weight_bytes", (json_int_t)info.step_weight_bytes, "kv_bytes",
		(json_int_t)bb_engine_kv_read_bytes(e, s->depth + 1) * s->batch, "launches", launches,
		"lines", lines);
	json_dumpf(root, stdout, JSON_INDENT(1));
	putchar('\n');
	json_decref(root);
}

int main(int argc, char **argv) {
	static struct counted step;
	if (argc != 12) {
		fail("expected DEVICE EMBD FF HEADS KV_HEADS HEAD_DIM VOCAB WEIGHT_TYPE KV_TYPE BATCH "
			"DEPTH");
	}
	struct shape s = { atoi(argv[2]), atoi(argv[3]), atoi(argv[4]), atoi(argv[5]), atoi(argv[6]),
		atoi(argv[7]), atoi(argv[10]), atoi(argv[11]), BB_DTYPE_LIMIT, BB_KV_AUTO };
	for (int t = 0; t < BB_DTYPE_LIMIT; t++) {
		const char *name = dtype_name((enum bb_dtype)t);
		if (name != NULL && strcmp(name, argv[8]) == 0) {
			s.weight_type = (enum bb_dtype)t;
		}
	}
	if (s.weight_type == BB_DTYPE_LIMIT || !bb_kv_type_parse(argv[9], &s.kv_type) || s.batch < 1 ||
		s.batch > MAX_BATCH || s.depth < 0) {
		fail("unknown WEIGHT_TYPE or KV_TYPE, or BATCH not in 1 to 64");
	}
	struct bb_engine *e = open_model(&s, argv[1]);
	if (memory_is_host(&e->memory) || e->memory.device.module->launches == NULL) {
		fail("expected simt or simt_check as DEVICE");
	}
	run_step(e, &s, &step);
	char found[400];
	if (e->memory.device.module->findings(found, sizeof(found)) > 0) {
		fail(found);
	}
	print(e, &s, &step);
	bb_engine_destroy(e);
	return 0;
}
