/* SPDX-License-Identifier: Apache-2.0
 *
 * The same numbers in a Hugging Face folder and in a GGUF file, in each type that folders have: the
 * same bits come out, on every ISA level; also where the folder's data lies unaligned. And loading
 * a folder when memory fails. */
#include "gguf_builder.h"
#include "graph.h"
#include "made_folder.h"
#include "models.h"

enum { VOCAB = 199, LENGTH = 70 };

static char gguf_path[64];

static void stop(void) {
	unlink(gguf_path);
	remove_made();
}

TestSuite(folder_types, .fini = stop, .timeout = 120);

static void write_config(void) {
	char path[128];
	snprintf(path, sizeof(path), "%s/config.json", made);
	FILE *f = fopen(path, "wb");
	cr_assert_not_null(f);
	fprintf(f, "{\"architectures\": [\"Qwen2ForCausalLM\"], \"hidden_size\": 60, "
		"\"intermediate_size\": 88, \"num_hidden_layers\": 3, \"num_attention_heads\": 5, "
		"\"num_key_value_heads\": 5, \"tie_word_embeddings\": true, \"hidden_act\": \"silu\", "
		"\"max_position_embeddings\": 512, \"rms_norm_eps\": 1e-6, \"rope_theta\": 1000000.0, "
		"\"vocab_size\": %d, \"use_sliding_window\": false, \"sliding_window\": 32768, "
		"\"max_window_layers\": 21}", VOCAB);
	cr_assert_eq(fclose(f), 0);
}

/* The upper bits of a float as a number of the type; returns its bytes. */
static size_t encode(enum bb_dtype type, float value, uint8_t *out) {
	uint32_t bits;
	memcpy(&bits, &value, sizeof(bits));
	const int exponent = (int)(bits >> 23 & 255) - 127 + 15; /* of an f16; no value is that large */
	const uint16_t f16 = (uint16_t)(exponent <= 0 ? 0
		: (bits >> 16 & 0x8000) | (uint32_t)exponent << 10 | (bits >> 13 & 0x3FF));
	const uint16_t bf16 = (uint16_t)(bits >> 16);
	if (type == BB_F32) {
		memcpy(out, &bits, sizeof(bits));
		return sizeof(bits);
	}
	memcpy(out, type == BB_F16 ? &f16 : &bf16, 2);
	return 2;
}

/* A GGUF file and the data and header of a safetensors file, as they grow. */
struct pair {
	struct gguf_builder gguf;
	enum bb_dtype type;
	bool has_ones; /* the folder's tensors have a dimension of 1 more */
	struct bb_text header, data;
};

static void add_text(struct bb_text *t, const char *text) {
	cr_assert(base_append(t, text, strlen(text), NULL));
}

/* One tensor of the golden GGUF file, rounded to the type, to both. */
static void add_tensor(struct pair *p, const struct bb_tensor *t, const char *hf_name) {
	const bool is_matrix = t->n_dims == 2;
	const size_t n = (size_t)(t->dims[0] * t->dims[1]);
	uint8_t *bytes = malloc(n * sizeof(float));
	size_t n_bytes = 0;
	for (size_t i = 0; i < n; i++) {
		n_bytes += encode(p->type, ((const float *)t->data)[i], bytes + n_bytes);
	}
	if (is_matrix) {
		gguf_builder_tensor(&p->gguf, t->name, p->type, 2, t->dims, bytes);
	} else {
		float *values = malloc(n * sizeof(*values));
		dtype_decode(values, bytes, p->type, (int64_t)n);
		gguf_builder_f32(&p->gguf, t->name, 1, t->dims, values);
		free(values);
	}
	char entry[256], shape[96];
	tensor_shape_text(t, shape, sizeof(shape));
	snprintf(entry, sizeof(entry), "%s\"%s\":{\"dtype\":\"%s\",\"shape\":[%s%s,\"data_offsets\":"
		"[%zu,%zu]}", p->header.bytes > 1 ? "," : "", hf_name, tensor_type_name(p->type),
		p->has_ones ? "1," : "", shape + 1, p->data.bytes, p->data.bytes + n_bytes);
	add_text(&p->header, entry);
	cr_assert(base_append(&p->data, bytes, n_bytes, NULL));
	free(bytes);
}

static void add_tensors(struct pair *p, const struct gguf *g) {
	const struct bb_model *const *m = bb_models;
	while (strcmp((*m)->name, "qwen2") != 0) {
		m++;
	}
	for (const struct bb_weight *w = (*m)->weights; w->slot != W_NONE; w++) {
		for (int i = 0; i < ((w->flags & PER_LAYER) != 0 ? 3 : 1); i++) {
			char name[64], hf_name[64];
			snprintf(name, sizeof(name), w->gguf.name, i);
			snprintf(hf_name, sizeof(hf_name), w->hf.name, i);
			const struct bb_tensor *t = gguf_tensor(g, name);
			if (t != NULL) {
				add_tensor(p, t, hf_name);
			}
		}
	}
}

static void write_folder(struct pair *p, int n_spaces) {
	char path[128], spaces[16];
	snprintf(path, sizeof(path), "%s/model.safetensors", made);
	snprintf(spaces, sizeof(spaces), "}%*s", n_spaces, "");
	add_text(&p->header, spaces);
	FILE *f = fopen(path, "wb");
	cr_assert_not_null(f);
	const uint64_t length = p->header.bytes;
	cr_assert_eq(fwrite(&length, sizeof(length), 1, f), 1);
	cr_assert_eq(fwrite(p->header.data, 1, length, f), length);
	cr_assert_eq(fwrite(p->data.data, 1, p->data.bytes, f), p->data.bytes);
	cr_assert_eq(fclose(f), 0);
}

/* Writes the golden qwen2 as both, in a type. */
static void write_both(enum bb_dtype type, int n_spaces, bool has_ones) {
	struct gguf g;
	struct bb_error err = { 0 };
	cr_assert(gguf_open(&g, tiny_path("qwen2"), &err), "%s", err.text);
	struct pair p = { .type = type, .has_ones = has_ones };
	gguf_builder_init(&p.gguf);
	for (size_t i = 0; i < g.n_kvs; i++) {
		const struct gguf_kv *kv = &g.kvs[i];
		if (kv->type == GGUF_U32 || kv->type == GGUF_F32) {
			gguf_builder_raw(&p.gguf, kv->key, kv->type, kv->data, 4);
		}
	}
	gguf_builder_str(&p.gguf, "general.architecture", "qwen2");
	gguf_builder_str(&p.gguf, "tokenizer.ggml.model", "no_vocab");
	add_text(&p.header, "{");
	add_tensors(&p, &g);
	make_folder("qwen2"); /* of which there is no golden: an empty one */
	write_config();
	write_folder(&p, n_spaces);
	snprintf(gguf_path, sizeof(gguf_path), "/tmp/bobbin-test-types-%d.gguf", (int)getpid());
	cr_assert(gguf_builder_write(&p.gguf, gguf_path));
	gguf_builder_finish(&p.gguf);
	bb_text_finish(&p.header);
	bb_text_finish(&p.data);
	gguf_finish(&g);
}

static void logits_of(const char *path, const char *isa, float *logits) {
	struct bb_engine *e = open_with(&(struct bb_engine_params){ .path = path, .isa = isa,
		.n_threads = 1 });
	struct bb_context *c = new_context(e);
	int32_t ids[LENGTH];
	make_ids(ids, LENGTH, VOCAB, 3);
	feed(c, e, ids, LENGTH, logits);
	bb_context_destroy(c);
	bb_engine_destroy(e);
}

static void play(enum bb_dtype type, int n_spaces, bool has_ones) {
	write_both(type, n_spaces, has_ones);
	static float a[LENGTH * VOCAB], b[LENGTH * VOCAB];
	for (const char *const *isa = bb_isa_names(); *isa != NULL; isa++) {
		if (bb_isa_is_available(*isa)) {
			logits_of(made, *isa, a);
			logits_of(gguf_path, *isa, b);
			cr_assert(memcmp(a, b, sizeof(a)) == 0, "%s", *isa);
			cr_assert_neq(a[0], a[1]);
		}
	}
	stop();
}

Test(folder_types, f32) { play(BB_F32, 0, false); }
Test(folder_types, f16) { play(BB_F16, 0, false); }
Test(folder_types, bf16) { play(BB_BF16, 0, false); }

Test(folder_types, dimensions_of_one) { play(BB_F32, 0, true); }

Test(folder_types, data_anywhere) {
	for (int n_spaces = 1; n_spaces < 4; n_spaces++) {
		play(BB_F32, n_spaces, false);
		play(BB_BF16, n_spaces, false);
	}
}

Test(folder_types, every_failed_allocation_at_load_is_a_clean_error) {
	char path[1024];
	snprintf(path, sizeof(path), "%s/goldens/hf/llama", BOBBIN_TESTS);
	const struct bb_engine_params params = { .path = path, .n_threads = 1, .max_batch_tokens = 8 };
	long n = 0;
	for (bool opened = false; !opened; n++) {
		struct bb_engine *e = NULL;
		struct bb_error err = { 0 };
		base_fail_alloc_at(n + 1);
		opened = bb_engine_open(&e, bb_models, &params, &err);
		base_fail_alloc_at(0);
		cr_assert(opened || (err.code == BB_ERR_MEMORY && e == NULL), "allocation %ld: %s", n + 1,
			err.text);
		bb_engine_destroy(e);
	}
	cr_assert_gt(n, 80);
}
