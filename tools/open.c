/* SPDX-License-Identifier: Apache-2.0
 *
 * Opening models for commands: options, refusals, notices, the progress bar of loading. */
#include "open.h"

#include "terminal.h"

#include <dirent.h>
#include <limits.h>
#include <string.h>

#define AT(member) offsetof(struct open_options, member)
#define MODEL_ROW \
	{ "-m,--model", "MODEL", "a GGUF file or a Hugging Face folder, as the plain argument", \
		ARG_TEXT, AT(path) }

const struct arg_option open_model_only[] = {
	MODEL_ROW,
	{ 0 },
};

const struct arg_option open_engine[] = {
	MODEL_ROW,
	{ "-t,--threads", "N", "threads; 0 = one per CPU that the process may use (default)",
		ARG_INT, AT(n_threads), 0, 1024 },
	{ "--device", "NAME", "cpu (default), cuda, auto (a GPU where there is one) or simt (the "
		"CUDA kernels, emulated)", ARG_TEXT, AT(device), 0, 0, "cpu|cuda|auto|simt" },
	{ "--device-memory-bytes", "N", "limit on what a GPU may hold, as 20G; 0 = nine tenths "
		"of what is free (default)", ARG_BYTES, AT(max_device_bytes) },
	{ "--isa", "LEVEL", "force a lower ISA level: c, avx2, avx_vnni, avx512, "
		"avx512_vnni, avx512_bf16", ARG_TEXT, AT(isa), 0, 0,
		"c|avx2|avx_vnni|avx512|avx512_vnni|avx512_bf16" },
	{ "--gemm", "KIND", "exact (default): the same bits however work is batched; fast: cuBLASLt "
		"for prompts on a GPU, without that promise", ARG_TEXT, AT(gemm), 0, 0, "exact|fast",
		"wgmma" },
	{ "--kv-cache-dtype", "TYPE", "auto (default, f16), f32, f16, bf16 or int8", ARG_TEXT,
		AT(kv_type) },
	{ "--kv-cache-bytes,--kv-cache-memory-bytes", "N", "limit on the KV cache of all contexts, as "
		"512M or 2G; 0 = none (default; of serve on the CPU half of the memory that is free)",
		ARG_LIMIT, AT(max_kv_bytes) },
	{ "--state-cache-bytes", "N", "limit on the checkpoints of recurrent layers, which spare a "
		"rewind computing again; 0 keeps none (default 1G)", ARG_LIMIT, AT(state_cache_bytes) },
	{ "--state-cache-type", "TYPE", "of checkpoints: f32 (default), or int8, which holds up to "
		"3.5 times as many, rounded", ARG_TEXT, AT(state_cache_type), 0, 0, "f32|int8" },
	{ "--window", "N", "attend to the last N tokens only; 0 = as the model says (default)", ARG_INT,
		AT(window), 0, 1 << 30 },
	{ "--deterministic,--enable-deterministic-inference", NULL, "accepted: on anyway, but refused "
		"with another --gemm than exact and with --state-cache-type int8", ARG_FLAG,
		AT(deterministic) },
	{ 0 },
};

const struct arg_option open_context[] = {
	{ "-c,--max-model-len,--ctx-size", "N",
		"tokens a context holds; 0 = as the model says (default)",
		ARG_INT, AT(max_len), 0, 1 << 30 },
	{ 0 },
};

/* Types that users know from elsewhere, so the refusal can say that the name was understood. */
static bool is_later_type(const char *name) {
	static const char *const names[] = { "int4", "q4_0", "fp8", "fp8_e4m3", "fp8_e5m2" };
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (strcmp(name, names[i]) == 0) {
			return true;
		}
	}
	return false;
}

static int kv_type(const char *name, enum bb_kv_type *out) {
	*out = BB_KV_AUTO;
	if (name == NULL || bb_kv_type_parse(name, out)) {
		return -1;
	}
	if (is_later_type(name)) {
		return failure("KV type '%s' isn't in this build; expected auto, f32, f16, bf16 or int8",
			name);
	}
	return usage_error("option '--kv-cache-dtype' is '%s', expected auto, f32, f16, bf16 or int8",
		name);
}

static bool has_ending(const char *name, const char *ending) {
	const size_t n = strlen(name), n_ending = strlen(ending);
	return n > n_ending && strcmp(name + n - n_ending, ending) == 0;
}

/* A folder with config.json and *.safetensors can be opened (-1), and one with config.json may say
 * itself what it lacks; of others this says what to give instead. */
static int check_folder(const char *path) {
	DIR *folder = opendir(path);
	if (folder == NULL) {
		return -1;
	}
	bool has_config = false, has_weights = false;
	char first[NAME_MAX + 1] = ""; /* the first GGUF file in it, by name */
	const struct dirent *entry;
	while ((entry = readdir(folder)) != NULL) {
		has_config = has_config || strcmp(entry->d_name, "config.json") == 0;
		has_weights = has_weights || has_ending(entry->d_name, ".safetensors");
		if (has_ending(entry->d_name, ".gguf") && (!first[0] || strcmp(entry->d_name, first) < 0)) {
			snprintf(first, sizeof(first), "%s", entry->d_name);
		}
	}
	closedir(folder);
	if (has_config && (has_weights || first[0] == '\0')) {
		return -1;
	}
	const char *slash = path[strlen(path) - 1] == '/' ? "" : "/";
	const char *lacks = has_config ? "*.safetensors" : "config.json";
	if (first[0] != '\0') {
		return failure("'%s' is a folder without %s, expected a GGUF file, such as '%s%s%s'", path,
			lacks, path, slash, first);
	}
	return failure("'%s' is a folder without %s, expected a GGUF file or a Hugging Face folder",
		path, lacks);
}

int open_model(const struct open_options *o, enum open_what what, struct bb_engine **out) {
	*out = NULL;
	if (o->path == NULL) {
		return usage_error("no MODEL was given");
	}
	if (o->path[0] == '\0') {
		return usage_error("MODEL is empty, expected a GGUF file or a Hugging Face folder");
	}
	if (strcmp(o->path, "-") == 0) {
		return usage_error("MODEL is '-', but a model can't be read from stdin; "
			"expected a GGUF file or a Hugging Face folder");
	}
	if (o->deterministic && o->gemm != NULL && strcmp(o->gemm, "exact") != 0) {
		return usage_error("'--deterministic' and '--gemm %.20s' can't both be had: the bits of "
			"such products may depend on how work is batched", o->gemm);
	}
	const bool is_int8 = o->state_cache_type != NULL && strcmp(o->state_cache_type, "int8") == 0;
	if (o->deterministic && is_int8) {
		return usage_error("'--deterministic' and '--state-cache-type int8' can't both be had: a "
			"rewind to such a checkpoint changes bits");
	}
	struct bb_engine_params params = {
		.path = o->path, .device = o->device, .isa = o->isa, .gemm = o->gemm,
		.n_threads = o->n_threads,
		.max_model_len = o->max_len, .window = o->window, .max_batch_tokens = o->max_batch_tokens,
		.max_kv_bytes = o->max_kv_bytes.value, .max_device_bytes = o->max_device_bytes,
		.vocab_only = what == OPEN_VOCAB, .inspect_only = what == OPEN_INSPECT,
		.state_cache_bytes = !o->state_cache_bytes.is_set ? 0
			: o->state_cache_bytes.value > 0 ? o->state_cache_bytes.value : BB_STATE_CACHE_NONE,
		.state_cache_type = is_int8 ? BB_KV_INT8 : BB_KV_F32,
		.taps = o->taps, .progress = progress_show,
	};
	int status = kv_type(o->kv_type, &params.kv_type);
	status = status >= 0 ? status : check_folder(o->path);
	if (status >= 0) {
		return status;
	}
	struct bb_error err = { 0 };
	const bool ok = bb_engine_open(out, bb_models, &params, &err);
	progress_clear();
	if (!ok) {
		return failure_of(&err);
	}
	struct bb_engine_info info;
	bb_engine_info(*out, &info);
	if (what == OPEN_ALL && strcmp(info.device, "cpu") != 0) {
		notice("device %s: %s", info.device, info.device_name);
	} else if (what == OPEN_ALL && info.why_no_gpu[0] != '\0') {
		notice("%s; steps are computed on the CPU", info.why_no_gpu);
	}
	if (what == OPEN_ALL && strcmp(info.gemm, "exact") != 0) {
		notice("gemm %s: bits may depend on how work is batched", info.gemm);
	} else if (what == OPEN_ALL && o->gemm != NULL && strcmp(o->gemm, "fast") == 0) {
		notice("gemm fast changes nothing on the CPU, whose products are exact");
	}
	if (what == OPEN_ALL && info.trained_len > 0 && o->max_len > info.trained_len) {
		notice("contexts of %d tokens, though the model was made for %d", o->max_len,
			info.trained_len);
	}
	return -1;
}
