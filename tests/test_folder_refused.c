/* SPDX-License-Identifier: Apache-2.0
 *
 * Hugging Face folders that are wrong in one way each, with the sentence that they get: what stands
 * in config.json, which files the index names. What can be wrong inside of a safetensors file is in
 * test_safetensors. */
#include "made_folder.h"
#include "models.h"

#include <jansson.h>

static json_t *config; /* of the folder that is made */

static void start(void) {
	make_folder("llama");
}

static void stop(void) {
	json_decref(config);
	remove_made();
}

TestSuite(folder_refused, .init = start, .fini = stop, .timeout = 60);

static void write_file(const char *name, const char *text) {
	char path[128];
	snprintf(path, sizeof(path), "%s/%s", made, name);
	unlink(path); /* it may be a link to a golden's */
	FILE *f = fopen(path, "wb");
	cr_assert_not_null(f);
	cr_assert_geq(fputs(text, f), 0);
	cr_assert_eq(fclose(f), 0);
}

static json_t *golden_json(const char *folder, const char *name) {
	char path[1024];
	snprintf(path, sizeof(path), "%s/goldens/hf/%s/%s", BOBBIN_TESTS, folder, name);
	json_t *root = json_load_file(path, 0, NULL);
	cr_assert_not_null(root);
	return root;
}

static void write_json(const char *name, const json_t *root) {
	char *text = json_dumps(root, 0);
	write_file(name, text);
	free(text);
}

/* The configuration of a golden folder with the entries of `changes`, a JSON object; null in it
 * takes an entry away. */
static void configure(const char *golden, const char *changes) {
	config = golden_json(golden, "config.json");
	json_t *more = json_loads(changes, 0, NULL);
	cr_assert_not_null(more, "%s", changes);
	const char *key;
	json_t *value;
	json_object_foreach(more, key, value) {
		if (json_is_null(value)) {
			json_object_del(config, key);
		} else {
			json_object_set(config, key, value);
		}
	}
	json_decref(more);
	write_json("config.json", config);
}

static void expect(enum bb_code code, const char *part) {
	const struct bb_engine_params params = { .path = made, .n_threads = 1, .inspect_only = true };
	struct bb_engine *e = NULL;
	struct bb_error err = { 0 };
	const bool ok = bb_engine_open(&e, bb_models, &params, &err);
	bb_engine_destroy(e);
	if (code == BB_OK) {
		cr_assert(ok, "%s", err.text);
		return;
	}
	cr_assert(!ok, "was not refused");
	cr_assert_not_null(strstr(err.text, part), "'%s' doesn't say '%s'", err.text, part);
	cr_assert_eq(err.code, code, "code %d: %s", err.code, err.text);
	cr_assert_eq(strncmp(err.text, made, strlen(made)), 0, "'%s' doesn't name the folder",
		err.text);
	for (const char *p = err.text; *p != '\0'; p++) {
		cr_assert_geq(*p, ' ', "byte %d in an error sentence", *p);
	}
}

static void expect_config(const char *changes, enum bb_code code, const char *part) {
	configure("llama", changes);
	expect(code, part);
}

Test(folder_refused, nothing_in_the_good_folder) {
	expect_config("{}", BB_OK, NULL);
}

/* ---- config.json ---- */

Test(folder_refused, no_config) {
	expect(BB_ERR_IO, "the folder has no config.json");
}

Test(folder_refused, empty_config) {
	write_file("config.json", "");
	expect(BB_ERR_FORMAT, "config.json: the file is empty");
}

Test(folder_refused, config_that_is_no_json) {
	write_file("config.json", "{\"a\": \33[2J}");
	expect(BB_ERR_FORMAT, "config.json isn't JSON: line 1, column");
}

Test(folder_refused, config_that_is_no_object) {
	write_file("config.json", "[1]");
	expect(BB_ERR_FORMAT, "config.json isn't a JSON object");
}

Test(folder_refused, config_nested_without_end) {
	char *text = malloc(100001);
	memset(text, '[', 100000);
	text[100000] = '\0';
	write_file("config.json", text);
	free(text);
	expect(BB_ERR_FORMAT, "config.json isn't JSON");
}

Test(folder_refused, key_twice) {
	write_file("config.json", "{\"vocab_size\": 1, \"vocab_size\": 2}");
	expect(BB_ERR_FORMAT, "duplicate object key");
}

Test(folder_refused, no_architecture) {
	expect_config("{\"architectures\": null}", BB_ERR_FORMAT,
		"config.json: expected 'architectures', a list of one name");
}

Test(folder_refused, architecture_that_is_no_name) {
	expect_config("{\"architectures\": [\"a\\u001bb\"]}", BB_ERR_FORMAT,
		"expected printable ASCII as name in 'architectures'");
}

Test(folder_refused, unknown_architecture) {
	expect_config("{\"architectures\": [\"GizmoForCausalLM\"]}", BB_ERR_UNSUPPORTED,
		"architecture 'GizmoForCausalLM' isn't one that this build runs (BambaForCausalLM, "
		"FalconH1");
}

Test(folder_refused, architecture_by_its_gguf_name) {
	expect_config("{\"architectures\": [\"llama\"]}", BB_ERR_UNSUPPORTED, "'llama' isn't one");
}

Test(folder_refused, missing_number) {
	expect_config("{\"num_hidden_layers\": null}", BB_ERR_FORMAT,
		"config.json: 'num_hidden_layers' is missing; architecture llama needs it");
}

Test(folder_refused, number_that_is_a_string) {
	expect_config("{\"hidden_size\": \"48\"}", BB_ERR_FORMAT,
		"config.json: 'hidden_size' is a string, expected a number");
}

Test(folder_refused, number_that_is_a_list) {
	expect_config("{\"num_key_value_heads\": [1, 1, 1]}", BB_ERR_FORMAT,
		"config.json: 'num_key_value_heads' is an array, expected a number");
}

Test(folder_refused, number_out_of_range) {
	expect_config("{\"num_hidden_layers\": 0}", BB_ERR_FORMAT,
		"config.json: 'num_hidden_layers' is 0, expected 1 to 4096");
}

Test(folder_refused, number_that_is_not_whole) {
	expect_config("{\"num_hidden_layers\": 2.5}", BB_ERR_FORMAT,
		"config.json: 'num_hidden_layers' is 2.5, expected a whole number");
}

Test(folder_refused, infinity) {
	configure("llama", "{}");
	char *text = json_dumps(config, 0), *at = strstr(text, "512");
	cr_assert_not_null(at);
	char changed[4096];
	snprintf(changed, sizeof(changed), "%.*sInfinity%s", (int)(at - text), text, at + 3);
	write_file("config.json", changed);
	free(text);
	expect(BB_ERR_FORMAT, "'max_position_embeddings' is inf, expected 1 to");
}

Test(folder_refused, no_vocab_size) {
	expect_config("{\"vocab_size\": null}", BB_ERR_FORMAT,
		"config.json: 'vocab_size' is missing, expected 1 to 16777216");
}

Test(folder_refused, fewer_layers_than_tensors) {
	expect_config("{\"num_hidden_layers\": 2}", BB_ERR_UNSUPPORTED,
		"tensor 'model.layers.2.input_layernorm.weight' isn't part of architecture llama");
}

Test(folder_refused, more_layers_than_tensors) {
	expect_config("{\"num_hidden_layers\": 4}", BB_ERR_FORMAT,
		"tensor 'model.layers.3.input_layernorm.weight' is missing");
}

Test(folder_refused, other_widths) {
	expect_config("{\"intermediate_size\": 105}", BB_ERR_FORMAT,
		"tensor 'model.layers.0.mlp.gate_proj.weight': expected shape [105, 48], the file has "
		"[104, 48]");
}

/* ---- entries that change what is computed ---- */

Test(folder_refused, entry_that_nobody_knows) {
	expect_config("{\"gizmo\": {\"factor\": 3}}", BB_ERR_UNSUPPORTED, "config.json: 'gizmo.factor' "
		"is 3, an entry that this build's llama doesn't know, so it may change what is computed");
}

Test(folder_refused, entry_without_a_name) {
	expect_config("{\"\": true}", BB_ERR_UNSUPPORTED, "'' is true, an entry that this build's");
}

Test(folder_refused, entry_that_does_not_print) {
	expect_config("{\"gi\\u001bzmo\": \"\\u009b2J\"}", BB_ERR_UNSUPPORTED, "config.json: 'gi?zmo'");
}

/* What is off changes nothing, whatever it is. */
Test(folder_refused, nothing_that_is_off) {
	expect_config("{\"gizmo\": false, \"gizmos\": [], \"gizmology\": {}, \"gizmologist\": \"\"}",
		BB_OK, NULL);
}

Test(folder_refused, other_activation) {
	expect_config("{\"hidden_act\": \"gelu\"}", BB_ERR_UNSUPPORTED, "config.json: 'hidden_act' is "
		"\"gelu\", and this build's llama doesn't compute that; expected silu|swish");
}

Test(folder_refused, softcap_of_logits) {
	configure("gemma3-linear", "{\"final_logit_softcapping\": 30.0}");
	expect(BB_ERR_UNSUPPORTED, "config.json: 'final_logit_softcapping' is 30.0");
}

Test(folder_refused, part_of_the_head_turned) {
	expect_config("{\"partial_rotary_factor\": 0.5}", BB_ERR_UNSUPPORTED,
		"'partial_rotary_factor' is 0.5, and this build's llama doesn't compute that");
}

Test(folder_refused, whole_head_turned_is_not) {
	expect_config("{\"partial_rotary_factor\": 1.0}", BB_OK, NULL);
}

Test(folder_refused, other_rope) {
	expect_config("{\"rope_parameters\": {\"rope_type\": \"dynamic\", \"factor\": 2.0, "
		"\"rope_theta\": 1e4}}", BB_ERR_UNSUPPORTED,
		"config.json: the rope_type is 'dynamic', expected default, linear, yarn or llama3");
}

Test(folder_refused, rope_that_is_no_name) {
	expect_config("{\"rope_parameters\": {\"rope_type\": 1}}", BB_ERR_FORMAT,
		"config.json: the rope_type isn't a string");
}

Test(folder_refused, llama3_rope_without_its_numbers) {
	expect_config("{\"rope_parameters\": {\"rope_type\": \"llama3\", \"factor\": 8.0, "
		"\"rope_theta\": 1e4, \"low_freq_factor\": 4.0, \"high_freq_factor\": 4.0}}", BB_ERR_FORMAT,
		"the rope_type is llama3, expected a factor, a low_freq_factor, a higher");
}

Test(folder_refused, scaled_rope_without_a_factor) {
	expect_config("{\"rope_parameters\": {\"rope_type\": \"yarn\", \"rope_theta\": 1e4}}",
		BB_ERR_FORMAT, "the rope_type scales, expected a factor beside it");
}

Test(folder_refused, rope_said_twice) {
	expect_config("{\"rope_scaling\": {\"type\": \"yarn\", \"factor\": 4.0}}",
		BB_ERR_UNSUPPORTED, "config.json has both 'rope_parameters' and 'rope_scaling'");
}

Test(folder_refused, widths_beyond_all_measure) {
	configure("mamba2", "{\"num_heads\": 65536, \"head_dim\": 16, \"n_groups\": 65536, "
		"\"state_size\": 65536}");
	expect(BB_ERR_UNSUPPORTED, "expected at most");
}

/* As the published ones have them: what says again, and what only began the weights. */
Test(folder_refused, entries_of_published_lfm2_are_not) {
	configure("lfm2", "{\"block_dim\": 40, \"conv_dim\": 40, \"conv_dim_out\": 40, "
		"\"block_use_swiglu\": true, \"block_use_xavier_init\": true, \"use_pos_enc\": true, "
		"\"block_mlp_init_scale\": 1.0, \"block_out_init_scale\": 1.0, "
		"\"conv_use_xavier_init\": true}");
	/* of the tensors, which are another model's */
	expect(BB_ERR_FORMAT, "tensor 'model.embed_tokens.weight': expected shape");
}

Test(folder_refused, other_rwkv7) {
	configure("rwkv7-folder", "{\"value_dim\": [64, 32]}");
	expect(BB_ERR_UNSUPPORTED, "'value_dim' is [64,32]");
	configure("rwkv7-folder", "{\"norm_first\": false}");
	expect(BB_ERR_UNSUPPORTED, "'norm_first' is false");
	configure("rwkv7-folder", "{\"norm_bias\": false}");
	expect(BB_ERR_UNSUPPORTED, "'norm_bias' is false");
	configure("rwkv7-folder", "{\"hidden_act\": \"silu\"}");
	expect(BB_ERR_UNSUPPORTED, "expected sqrelu");
	configure("rwkv7-folder", "{\"attn\": {\"layers\": [1], \"num_heads\": 1}}");
	expect(BB_ERR_UNSUPPORTED, "'attn");
}

/* The weights of the golden, with one text in the header changed to another that is as long. */
static void write_patched(const char *golden, const char *from, const char *to) {
	char path[1024];
	snprintf(path, sizeof(path), "%s/goldens/hf/%s/model.safetensors", BOBBIN_TESTS, golden);
	FILE *f = fopen(path, "rb");
	cr_assert_not_null(f);
	static char bytes[1 << 20];
	const size_t n = fread(bytes, 1, sizeof(bytes), f);
	fclose(f);
	char *at = memmem(bytes, n, from, strlen(from));
	cr_assert(n < sizeof(bytes) && at != NULL && strlen(from) == strlen(to));
	memcpy(at, to, strlen(to));
	snprintf(path, sizeof(path), "%s/model.safetensors", made);
	unlink(path);
	f = fopen(path, "wb");
	cr_assert(f != NULL && fwrite(bytes, 1, n, f) == n && fclose(f) == 0);
}

/* Six tensors are the rows of one weight. */
Test(folder_refused, rows_that_are_not_there_or_unlike) {
	remove_made();
	make_folder("rwkv7-folder");
	configure("rwkv7-folder", "{}");
	write_patched("rwkv7-folder", "layers.1.attn.x_a", "layers.1.attn.x_b");
	expect(BB_ERR_FORMAT, "tensor 'model.layers.1.attn.x_a' is missing");
	write_patched("rwkv7-folder", "attn.x_w\":{\"dtype\":\"F32\",\"shape\":[1,1,64]",
		"attn.x_w\":{\"dtype\":\"F16\",\"shape\":[2,1,64]");
	expect(BB_ERR_FORMAT, "attn.x_w': expected 256 bytes of F32 as 'model.layers.0.attn.x_r' has, "
		"the file has 256 of F16");
}

/* … and of Granite 4.0 and Bamba. */
Test(folder_refused, entries_of_published_granite_are_not) {
	configure("granitehybrid", "{\"init_method\": \"mup\", \"normalization_function\": "
		"\"rmsnorm\", \"position_embedding_type\": \"nope\"}");
	expect(BB_ERR_FORMAT, "tensor 'model.embed_tokens.weight': expected shape");
	configure("bamba", "{\"attn_rotary_emb\": 8}");
	expect(BB_ERR_FORMAT, "tensor 'model.final_layernorm.weight' is missing");
}

Test(folder_refused, scans_and_layers_that_are_not_clear) {
	configure("granitehybrid", "{\"mamba_n_groups\": 2}");
	expect(BB_ERR_FORMAT, "config.json: 'mamba_n_groups' is 2, expected 1 to 1");
	configure("bamba", "{\"attn_rotary_emb\": 16}");
	expect(BB_ERR_UNSUPPORTED, "'attn_rotary_emb' is 16");
	configure("bamba", "{\"attn_layer_indices\": [1, 4]}");
	expect(BB_ERR_FORMAT, "expected numbers of layers, 0 to 3, in 'attn_layer_indices'");
	configure("bamba", "{\"attn_layer_indices\": [\"1\"]}");
	expect(BB_ERR_FORMAT, "expected numbers of layers");
}

Test(folder_refused, what_no_qwen3_next_has) {
	configure("qwen3next", "{\"norm_topk_prob\": false}");
	expect(BB_ERR_FORMAT, "config.json: 'norm_topk_prob' is 0, expected 1 to 1");
	configure("qwen3next", "{\"decoder_sparse_step\": 2}");
	expect(BB_ERR_UNSUPPORTED, "'decoder_sparse_step' is 2");
	configure("qwen3next", "{\"mlp_only_layers\": [1]}");
	expect(BB_ERR_UNSUPPORTED, "'mlp_only_layers' is [1]");
	configure("qwen3next", "{\"linear_num_value_heads\": 5}");
	expect(BB_ERR_FORMAT, "values of 55 columns can't have 5 heads that share 2 key heads evenly");
}

Test(folder_refused, experts_that_are_not_there_or_unlike) {
	remove_made();
	make_folder("jamba");
	configure("jamba", "{}");
	write_patched("jamba", "1.feed_forward.experts.5.up", "1.feed_forward.experts.5.ap");
	expect(BB_ERR_FORMAT, "'model.layers.1.feed_forward.experts.5.up_proj.weight' is missing");
#define DOWN "1.feed_forward.experts.2.down_proj.weight\":{\"dtype\":"
	write_patched("jamba", DOWN "\"F32\",\"shape\":[36,40]", DOWN "\"F16\",\"shape\":[72,40]");
	expect(BB_ERR_FORMAT, "experts.2.down_proj.weight': expected shape [36, 40]");
	configure("jamba", "{\"num_experts\": 5}");
	write_patched("jamba", "layers.1.mamba.D", "layers.1.mamba.D");
	expect(BB_ERR_FORMAT, "layers.1.feed_forward.router.weight': expected shape [5, 36]");
}

Test(folder_refused, experts_that_a_folder_lacks) {
	configure("granitehybrid", "{\"num_experts_per_tok\": 8}");
	expect(BB_ERR_UNSUPPORTED, "(route_chosen): expected 1 to 7 chosen ones, has 8");
}

Test(folder_refused, rope_with_more_to_it) {
	expect_config("{\"rope_parameters\": {\"rope_type\": \"default\", \"rope_theta\": 1e4, "
		"\"mrope_section\": [2, 3, 3]}}", BB_ERR_UNSUPPORTED,
		"'rope_parameters.mrope_section' is [2,3,3]");
}

Test(folder_refused, scaled_rope_of_sliding_layers) {
	configure("gemma3-linear", "{\"rope_parameters\": {\"sliding_attention\": {\"rope_type\": "
		"\"linear\", \"rope_theta\": 1e4}, \"full_attention\": {\"rope_type\": \"default\", "
		"\"rope_theta\": 1e6}}}");
	expect(BB_ERR_UNSUPPORTED, "'rope_parameters.sliding_attention.rope_type' is \"linear\"");
}

Test(folder_refused, layers_of_another_kind) {
	expect_config("{\"layer_types\": [\"full_attention\", \"sliding_attention\", "
		"\"full_attention\"]}", BB_ERR_UNSUPPORTED, "'layer_types' is [\"full_attention\"");
}

Test(folder_refused, layers_of_the_only_kind_are_not) {
	expect_config("{\"layer_types\": [\"full_attention\", \"full_attention\", \"full_attention\"]}",
		BB_OK, NULL);
}

/* ---- weights ---- */

Test(folder_refused, no_weights) {
	remove_made();
	cr_assert_eq(mkdir(made, 0700), 0);
	expect_config("{}", BB_ERR_IO,
		"the folder has neither model.safetensors nor model.safetensors.index.json");
}

Test(folder_refused, missing_shard) {
	char path[128];
	snprintf(path, sizeof(path), "%s/model-00002-of-00003.safetensors", made);
	cr_assert_eq(unlink(path), 0);
	expect_config("{}", BB_ERR_IO, "model-00002-of-00003.safetensors: can't be opened");
}

/* The index with one entry changed; NULL: taken away. */
static void index_says(const char *tensor, const char *shard) {
	json_t *index = golden_json("llama", "model.safetensors.index.json");
	json_t *map = json_object_get(index, "weight_map");
	if (shard != NULL) {
		json_object_set_new(map, tensor, json_string(shard));
	} else {
		json_object_del(map, tensor);
	}
	write_json("model.safetensors.index.json", index);
	json_decref(index);
	configure("llama", "{}");
}

Test(folder_refused, index_that_leaves_the_folder) {
	index_says("lm_head.weight", "../../etc/x.safetensors");
	expect(BB_ERR_FORMAT, "puts tensor 'lm_head.weight' into '../../etc/x.safetensors', expected a "
		"file NAME.safetensors of the folder");
}

Test(folder_refused, index_of_another_format) {
	index_says("lm_head.weight", "pytorch_model.bin");
	expect(BB_ERR_FORMAT, "into 'pytorch_model.bin', expected a file NAME.safetensors");
}

Test(folder_refused, tensor_in_another_shard) {
	index_says("model.norm.weight", "model-00001-of-00003.safetensors");
	expect(BB_ERR_FORMAT, "'model.norm.weight' is in model-00002-of-00003.safetensors, "
		"but model.safetensors.index.json says model-00001-of-00003.safetensors");
}

Test(folder_refused, tensor_that_the_index_lacks) {
	index_says("model.norm.weight", NULL);
	expect(BB_ERR_FORMAT, ", but model.safetensors.index.json says nothing of it");
}

Test(folder_refused, tensor_that_the_shards_lack) {
	index_says("gizmo", "model-00003-of-00003.safetensors");
	expect(BB_ERR_FORMAT, "puts tensor 'gizmo' into model-00003-of-00003.safetensors, which hasn't "
		"got it");
}

Test(folder_refused, index_without_a_map) {
	write_file("model.safetensors.index.json", "{\"metadata\": {}}");
	expect_config("{}", BB_ERR_FORMAT,
		"model.safetensors.index.json has no weight_map with tensors");
}

Test(folder_refused, shard_that_is_wrong) {
	write_file("model-00003-of-00003.safetensors", "hello");
	expect_config("{}", BB_ERR_FORMAT, "model-00003-of-00003.safetensors: the header needs bytes");
}

Test(folder_refused, matrices_said_to_be_one) {
	expect_config("{\"tie_word_embeddings\": true}", BB_ERR_FORMAT, "config.json says that "
		"tie_word_embeddings is true, but 'lm_head.weight' and 'model.embed_tokens.weight' differ");
}

Test(folder_refused, output_matrix_that_is_missing) {
	remove_made();
	make_folder("mamba2");
	configure("mamba2", "{\"tie_word_embeddings\": false}");
	expect(BB_ERR_FORMAT, "config.json says that tie_word_embeddings is false, but there is no "
		"output matrix beside 'backbone.embeddings.weight'");
}

Test(folder_refused, kinds_of_layers_that_do_not_count) {
	remove_made();
	make_folder("gemma3-linear");
	configure("gemma3-linear", "{\"layer_types\": [\"full_attention\"]}");
	expect(BB_ERR_FORMAT, "config.json: expected a list of 4 strings, one per layer, in "
		"'layer_types', has 1 elements");
}

Test(folder_refused, kind_of_layer_that_is_unknown) {
	remove_made();
	make_folder("gemma3-linear");
	configure("gemma3-linear", "{\"layer_types\": [\"full_attention\", \"full_attention\", "
		"\"gizmo_attention\", \"full_attention\"]}");
	expect(BB_ERR_UNSUPPORTED,
		"config.json: layer 2 is of type 'gizmo_attention', which this build's gemma3 hasn't");
}

Test(folder_refused, letters_of_layers_that_do_not_count) {
	remove_made();
	make_folder("nemotron_h");
	configure("nemotron_h", "{\"hybrid_override_pattern\": \"M-*M\"}");
	expect(BB_ERR_FORMAT, "config.json: expected a list of 5 strings, one per layer, in "
		"'hybrid_override_pattern|layers_block_type', has 4 elements");
}

Test(folder_refused, letter_of_a_layer_that_is_unknown) {
	remove_made();
	make_folder("nemotron_h");
	configure("nemotron_h", "{\"hybrid_override_pattern\": \"M-*ME\"}");
	expect(BB_ERR_UNSUPPORTED,
		"config.json: layer 4 is of type 'E', which this build's nemotron_h hasn't");
}

/* As transformers names the letters since it has the architecture. */
Test(folder_refused, layers_of_nemotron_by_name_are_not) {
	remove_made();
	make_folder("nemotron_h");
	configure("nemotron_h", "{\"hybrid_override_pattern\": null, \"layers_block_type\": "
		"[\"mamba\", \"mlp\", \"attention\", \"mamba\", \"mlp\"]}");
	expect(BB_OK, NULL);
}

Test(folder_refused, another_activation_of_a_feed_forward) {
	configure("nemotron_h", "{\"mlp_hidden_act\": \"silu\"}");
	expect(BB_ERR_UNSUPPORTED, "'mlp_hidden_act' is \"silu\"");
}

/* As the published ones have them. */
Test(folder_refused, entries_of_published_recurrent_gemma_are_not) {
	remove_made();
	make_folder("recurrent_gemma");
	configure("recurrent_gemma", "{\"embeddings_scale_by_sqrt_dim\": true, "
		"\"_block_types\": [\"recurrent\", \"recurrent\", \"attention\"]}");
	expect(BB_OK, NULL);
	configure("recurrent_gemma", "{\"embeddings_scale_by_sqrt_dim\": false}");
	expect(BB_ERR_UNSUPPORTED, "'embeddings_scale_by_sqrt_dim' is false");
}

Test(folder_refused, gates_that_heads_do_not_divide) {
	configure("recurrent_gemma", "{\"lru_width\": 61}");
	expect(BB_ERR_UNSUPPORTED, "expected a width in heads of 12 columns, has 61");
}

Test(folder_refused, low_rank_matrices_that_are_missing) {
	remove_made();
	make_folder("zamba2-plain");
	configure("zamba2-plain", "{\"use_shared_attention_adapter\": true}");
	expect(BB_ERR_FORMAT, "'model.layers.0.shared_transformer.self_attn.linear_q_adapter_list.0.0."
		"weight' is missing");
	configure("zamba2-plain", "{\"hidden_act\": \"silu\"}");
	expect(BB_ERR_UNSUPPORTED, "'hidden_act' is \"silu\"");
}
