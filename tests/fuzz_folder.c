/* SPDX-License-Identifier: Apache-2.0
 *
 * libFuzzer target for a Hugging Face folder's JSON: bytes as config.json, planned as every
 * architecture, or, where the first byte is odd, as tokenizer.json. They are refused with one
 * sentence or usable, also when an allocation fails on the way. Given a corpus folder, it first
 * writes good ones there. Run by tests/fuzz. */
#include "engine.h"
#include "folder_tokens.h"
#include "token/token.h"

#include <assert.h>
#include <string.h>

int LLVMFuzzerInitialize(int *n_args, char ***args);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

/* Text into the corpus, behind the byte that says what it is. */
static void write_text(const char *folder, const char *name, char kind, const void *text,
	size_t bytes) {
	char path[4096];
	snprintf(path, sizeof(path), "%s/%s", folder, name);
	FILE *f = fopen(path, "wb");
	bool ok = f != NULL && fputc(kind, f) != EOF && fwrite(text, 1, bytes, f) == bytes;
	ok = f != NULL && fclose(f) == 0 && ok;
	if (!ok) {
		fprintf(stderr, "%s: can't be written\n", path);
	}
}

static void write_config(const char *folder, const char *name, const char *from) {
	char path[4096];
	struct base_file file;
	snprintf(path, sizeof(path), "%s/goldens/hf/%s", BOBBIN_TESTS, from);
	if (!base_file_open(&file, path, NULL)) {
		fprintf(stderr, "%s: can't be read\n", path);
		return;
	}
	write_text(folder, name, '0', file.data, file.bytes);
	base_file_close(&file);
}

static const char tokenizer[] =
	"{\"added_tokens\":[{\"id\":0,\"content\":\"<s>\",\"special\":true},"
	"{\"id\":6,\"content\":\"<t>\",\"special\":false}],\"normalizer\":{\"type\":\"NFC\"},"
	"\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Digits\","
	"\"individual_digits\":true},{\"type\":\"ByteLevel\",\"add_prefix_space\":false}]},"
	"\"post_processor\":{\"type\":\"Sequence\",\"processors\":[{\"type\":\"TemplateProcessing\","
	"\"single\":[{\"SpecialToken\":{\"id\":\"<s>\"}},{\"Sequence\":{\"id\":\"A\"}}],"
	"\"special_tokens\":{\"<s>\":{\"ids\":[0]}}}]},\"model\":{\"type\":\"BPE\",\"dropout\":null,"
	"\"vocab\":{\"<s>\":0,\"a\":1,\"b\":2,\"ab\":3,\"\\u0120\":4,\"\\u0120ab\":5},"
	"\"merges\":[[\"a\",\"b\"],\"\\u0120 ab\"]}}";

int LLVMFuzzerInitialize(int *n_args, char ***args) {
	const char *folder = NULL;
	for (int i = 1; i < *n_args && folder == NULL; i++) {
		folder = (*args)[i][0] != '-' ? (*args)[i] : NULL;
	}
	if (folder != NULL) {
		write_config(folder, "seed-llama", "llama/config.json");
		write_config(folder, "seed-llama-yarn", "llama-yarn/config-4.json");
		write_config(folder, "seed-gemma3", "gemma3-linear/config.json");
		write_config(folder, "seed-mamba2", "mamba2/config-4.json");
		write_config(folder, "seed-falcon-mamba", "falcon-mamba/config.json");
		write_config(folder, "seed-rwkv7", "rwkv7-folder/config.json");
		write_text(folder, "seed-tokenizer", '1', tokenizer, sizeof(tokenizer) - 1);
	}
	return 0;
}

/* No folder is without tensors, so planning ends with the first that is missing, at the latest. */
static void plan_all(json_t *config, struct bb_error *err) {
	static const struct memory host = { 0 };
	struct model_file f = { .is_folder = true, .folder.config = config };
	struct bb_kernels k;
	bb_kernels_cpu(&k, 0);
	for (const struct bb_model *const *m = bb_models; *m != NULL; m++) {
		struct plan p;
		*err = (struct bb_error){ .code = BB_OK };
		const bool ok = plan_create(&p, *m, &f, &k, &host, 0, 1, 0, err);
		assert(!ok && err->code != BB_OK && strchr(err->text, '\n') == NULL);
		plan_finish(&p);
	}
}

static void tokens_of(const json_t *root, struct bb_error *err) {
	struct metadata m;
	struct bb_text text = { 0 };
	struct gguf g = { 0 };
	struct tokenizer *t = NULL;
	int32_t bos;
	const char *why;
	metadata_begin(&m, &text, err);
	bool ok = folder_tokens(&m, root, &bos, &why, err) && metadata_end(&m);
	ok = ok && gguf_open_memory(&g, text.data, text.bytes, err) && why == NULL &&
		tokenizer_create(&t, &g, err);
	assert(ok || why != NULL || (err->code != BB_OK && strchr(err->text, '\n') == NULL));
	tokenizer_destroy(t);
	gguf_finish(&g);
	bb_text_finish(&text);
}

static void read_once(const uint8_t *data, size_t bytes) {
	struct bb_error err = { .code = BB_OK };
	json_t *root = json_read("the file", data + 1, bytes - 1, &err);
	assert(root != NULL || (err.code != BB_OK && strchr(err.text, '\n') == NULL));
	if (root != NULL && data[0] % 2 == 0) {
		plan_all(root, &err);
	} else if (root != NULL) {
		tokens_of(root, &err);
	}
	json_decref(root);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
	if (bytes == 0) {
		return 0;
	}
	read_once(data, bytes);
	base_fail_alloc_at(1 + data[bytes - 1] % 32);
	read_once(data, bytes);
	base_fail_alloc_at(0);
	return 0;
}
