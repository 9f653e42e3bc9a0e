/* SPDX-License-Identifier: Apache-2.0
 *
 * What `bobbin inspect` and `bobbin kernels` print: built once as JSON, shown as JSON or as
 * text. */
#include "engine.h"
#include "form.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- collecting ---- */

static json_t *metadata_element_value(const struct gguf_kv *kv, uint64_t i) {
	if (kv->elem == GGUF_STRING) {
		return engine_json_text(kv->strings[i].data, kv->strings[i].bytes);
	}
	if (kv->elem == GGUF_BOOL) {
		return json_boolean(gguf_array_int(kv, i) != 0);
	}
	if (kv->elem == GGUF_F32 || kv->elem == GGUF_F64) {
		json_t *number = json_real(gguf_array_float(kv, i));
		return number != NULL ? number : json_string("(not a finite number)");
	}
	return json_integer(gguf_array_int(kv, i));
}

/* Of a long array, as a vocabulary is, only how long. */
static json_t *metadata_value(const struct gguf_kv *kv) {
	enum { MAX_ELEMENTS = 1024 };
	if (kv->type != GGUF_ARRAY) {
		return metadata_element_value(kv, 0);
	}
	if (kv->n > MAX_ELEMENTS) {
		char text[64];
		snprintf(text, sizeof(text), "[%" PRIu64 " elements]", kv->n);
		return json_string(text);
	}
	json_t *list = json_array();
	for (uint64_t i = 0; i < kv->n; i++) {
		json_array_append_new(list, metadata_element_value(kv, i));
	}
	return list;
}

static json_t *metadata(const struct model_file *f) {
	if (f->is_folder) {
		return json_deep_copy(f->folder.config);
	}
	const struct gguf *g = &f->gguf;
	json_t *out = json_object();
	for (size_t i = 0; i < g->n_kvs; i++) {
		json_object_set_new(out, g->kvs[i].key, metadata_value(&g->kvs[i]));
	}
	return out;
}

static json_t *tensors(const struct model_file *f) {
	json_t *out = json_array();
	for (size_t i = 0; i < f->n_tensors; i++) {
		const struct bb_tensor *t = &f->tensors[i];
		char shape[96];
		json_array_append_new(out, json_pack("{s:s, s:s, s:s, s:I}", "name", t->name, "type",
			tensor_type_name(t->type), "shape", tensor_shape_text(t, shape, sizeof(shape)), "bytes",
			(json_int_t)t->bytes));
	}
	return out;
}

static json_t *hparams(const struct bb_hparams *hp) {
	json_t *out = json_object();
	for (int h = H_NONE + 1; h < H_COUNT; h++) {
		if (hp->v[h] != 0) {
			json_object_set_new(out, hparam_name(h), hparam_is_int(h)
				? json_integer((json_int_t)hp->v[h]) : hp->v[h] == INFINITY
				? json_string("(infinite)") : json_real(hp->v[h]));
		}
	}
	return out;
}

/* The kernel that an op calls. */
static void (*kernel_of(const struct bb_engine *e, const struct plan_op *o))(void) {
	const struct bb_kernels *k = &e->kernels;
	const struct bb_kv_layout *layout;
	switch (o->kind) {
	case OP_EMBED:
		return (void (*)(void))k->embed;
	case OP_RMSNORM:
		return (void (*)(void))k->rmsnorm;
	case OP_LAYERNORM:
		return (void (*)(void))k->layernorm;
	case OP_MATMUL:
	case OP_ADD_MATMUL:
		return (void (*)(void))o->matrix->fn;
	case OP_ROPE:
		return (void (*)(void))k->rope;
	case OP_ATTENTION:
		return (void (*)(void))kernels_attention(k, e->kv_type, &layout);
	case OP_SILU_MUL:
		return (void (*)(void))k->silu_mul;
	case OP_GELU_MUL:
		return (void (*)(void))k->gelu_mul;
	case OP_GELU_ERF_MUL:
		return (void (*)(void))k->gelu_erf_mul;
	case OP_SIGMOID_MUL:
		return (void (*)(void))k->sigmoid_mul;
	case OP_MUL:
		return (void (*)(void))k->mul;
	case OP_ADD:
		return (void (*)(void))k->add;
	case OP_CONV:
	case OP_CONV_SILU:
		return (void (*)(void))k->conv;
	case OP_SCAN:
		return (void (*)(void))k->scan;
	case OP_SSD:
		return (void (*)(void))k->ssd;
	case OP_MLSTM:
		return (void (*)(void))k->mlstm;
	case OP_HEADS_MATMUL:
		return (void (*)(void))k->heads_matmul;
	case OP_RG_LRU:
		return (void (*)(void))k->rg_lru;
	case OP_COPY:
	case OP_PLACE:
	case OP_TANH:
	case OP_SIGMOID:
	case OP_SILU:
	case OP_HALF:
	case OP_RELU2:
	case OP_DECAY6:
	case OP_DECAY7:
		return (void (*)(void))k->map;
	case OP_LERP:
		return (void (*)(void))k->lerp;
	case OP_SHIFT:
		return (void (*)(void))k->shift;
	case OP_WKV7_KEYS:
		return (void (*)(void))k->wkv7_keys;
	case OP_WKV6:
		return (void (*)(void))k->wkv6;
	case OP_WKV7:
		return (void (*)(void))k->wkv7;
	case OP_WKV_OUT:
		return (void (*)(void))k->wkv_out;
	case OP_DELTA:
		return (void (*)(void))k->delta;
	case OP_ROUTE:
	case OP_ROUTE_CHOSEN:
	case OP_ROUTE_SIGMOID:
		return (void (*)(void))k->moe_route;
	case OP_COMBINE:
		return (void (*)(void))k->moe_combine;
	case OP_END:
	case OP_COUNT:
		break;
	}
	return NULL;
}

static const struct bb_variant *variant_of(const struct bb_engine *e, const struct plan_op *o) {
	void (*const fn)(void) = kernel_of(e, o);
	const struct bb_variant *v = memory_is_host(&e->memory) ? bb_variants
		: e->memory.device.module->variants;
	while (v->kernel != NULL && v->fn != fn) {
		v++;
	}
	assert(v->kernel != NULL); /* whatever runs stands in the table */
	return v;
}

static void product_text(const struct plan_matrix *m, char *buf, size_t bytes) {
	char names[192] = "";
	for (int i = 0; i < m->n_sources; i++) {
		snprintf(names + strlen(names), sizeof(names) - strlen(names), "%s%s", i > 0 ? " + " : "",
			m->sources[i].w->name);
	}
	char experts[48] = "";
	if (m->n_stack > 0) {
		snprintf(experts, sizeof(experts), ", of %d experts those chosen", m->n_stack);
	}
	snprintf(buf, bytes, "%s %s [%d, %d], layout %s%s", names, tensor_type_name(m->type), m->n,
		m->k, m->layout->name, experts);
}

static void op_text(const struct bb_engine *e, const struct plan_op *o, const struct bb_variant *v,
	char *buf, size_t bytes) {
	buf[0] = '\0';
	if (o->matrix != NULL) {
		product_text(o->matrix, buf, bytes);
	} else if (o->table != NULL) {
		snprintf(buf, bytes, "%s %s", o->table->name, tensor_type_name(o->table->type));
	} else if (o->kind == OP_ATTENTION) {
		snprintf(buf, bytes, "appends K, V and reads them as %s, layout %s",
			engine_kv_name(e->kv_type), v->layout_name);
	} else if (o->n_groups > 1) {
		snprintf(buf, bytes, "%d groups of %d", o->n_groups, o->dim);
	}
	for (int i = 0; i < MAX_SCALARS; i++) {
		if (o->scalar_of[i] != H_NONE) {
			snprintf(buf + strlen(buf), bytes - strlen(buf), "%s%s %.9g", buf[0] ? ", " : "",
				hparam_name(o->scalar_of[i]), (double)o->scalar[i]);
		}
	}
	if (o->when != H_NONE) {
		snprintf(buf + strlen(buf), bytes - strlen(buf), "%swhen %s", buf[0] ? ", " : "",
			hparam_name(o->when));
	}
}

static json_t *op_list(const struct bb_engine *e, const struct plan_ops *list) {
	json_t *out = json_array();
	for (int i = 0; i < list->n; i++) {
		const struct plan_op *o = &list->ops[i];
		const struct bb_variant *v = variant_of(e, o);
		char detail[400];
		const bool is_fused = plan_is_fused(list, i);
		op_text(e, o, v, detail, sizeof(detail));
		json_array_append_new(out, json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s}", "op",
			op_name(o->kind), "out", act_name(o->out_act), "in", act_name(o->in_act), "in2",
			act_name(o->in2_act), "kernel", v->kernel, "variant",
			is_fused ? "with next" : v->tag, "detail", detail));
	}
	return out;
}

static json_t *activations(const struct plan *p) {
	json_t *out = json_array();
	for (enum bb_act act = ACT_NONE + 1; act < ACT_COUNT; act++) {
		json_array_append_new(out, json_pack("{s:s, s:i, s:s}", "name", act_name(act), "width",
			form_width(&p->hp, act), "group", act_name(form_group(act))));
	}
	return out;
}

static json_t *layers(const struct bb_engine *e) {
	const struct plan *p = &e->plan;
	json_t *out = json_array();
	json_array_append_new(out,
		json_pack("{s:s, s:o}", "layer", "embed", "ops", op_list(e, &p->embed)));
	for (int i = 0; i < p->n_layers; i++) {
		char name[32];
		snprintf(name, sizeof(name), "%d", i);
		const int kind = p->layer_kind[i];
		json_array_append_new(out, json_pack("{s:s, s:s, s:i, s:o}", "layer", name, "kind",
			p->model->kinds[kind].name, "window", p->kinds[kind].window, "ops",
			op_list(e, &p->layers[i])));
	}
	json_array_append_new(out,
		json_pack("{s:s, s:o}", "layer", "unembed", "ops", op_list(e, &p->unembed)));
	return out;
}

/* What checkpoints are worth, by the bytes that they may have. */
static json_t *checkpoints(const struct bb_engine *e) {
	json_t *out = json_array();
	const size_t each = e->kept_states->bytes, all = (size_t)e->kept_states->max_kept * each;
	for (int i = all > 0 ? 0 : 2; each > 0 && i < (all > 0 ? 4 : 3); i++) {
		const size_t bytes = i < 2 ? all >> (4 - 2 * i) : all << (2 * i - 4);
		const size_t n = bytes / each;
		struct bb_error ignored = { 0 };
		int reach = 0;
		if (checkpoints_reach(n < INT32_MAX ? (int)n : INT32_MAX, e->max_len, &reach, &ignored)) {
			json_array_append_new(out, json_pack("{s:I, s:I, s:i}", "bytes",
				(json_int_t)(n * each), "checkpoints", (json_int_t)n, "newest_tokens", reach));
		}
	}
	return out;
}

static json_t *memory(const struct bb_engine *e) {
	struct bb_engine_info info;
	bb_engine_info(e, &info);
	json_t *contexts = json_array();
	for (int n = 1024; n > 0 && n < info.max_len; n = n > INT32_MAX / 4 ? 0 : n * 4) {
		json_array_append_new(contexts, json_pack("{s:i, s:I}", "tokens", n, "kv_bytes",
			(json_int_t)engine_kv_bytes(e, n)));
	}
	json_array_append_new(contexts, json_pack("{s:i, s:I}", "tokens", info.max_len, "kv_bytes",
		(json_int_t)engine_kv_bytes(e, info.max_len)));
	return json_pack("{s:I, s:I, s:I, s:I, s:s, s:i, s:I, s:I, s:I, s:o, s:o}", "tensor_bytes",
		(json_int_t)info.file_bytes, "packed_bytes", (json_int_t)info.weight_bytes,
		"step_weight_bytes", (json_int_t)info.step_weight_bytes, "activation_bytes",
		(json_int_t)info.activation_bytes, "kv_type", info.kv_type, "int8_k_channels_per_scale",
		e->kv_group, "kv_bytes_per_token", (json_int_t)info.kv_bytes_per_token, "state_bytes",
		(json_int_t)e->states.bytes, "checkpoint_bytes", (json_int_t)e->kept_states->bytes,
		"contexts", contexts, "checkpoints", checkpoints(e));
}

static json_t *collect(const struct bb_engine *e) {
	struct bb_engine_info info;
	bb_engine_info(e, &info);
	json_t *root = json_pack("{s:o, s:s, s:s, s:s, s:s, s:s, s:I, s:i, s:o, s:o}", "name",
		engine_json_text(info.name, strlen(info.name)), "arch", info.arch, "tokenizer",
		info.tokenizer, "device", info.device, "isa", info.isa, "gemm", info.gemm, "n_params",
		(json_int_t)info.n_params, "n_vocab", info.n_vocab, "metadata",
		metadata(&e->file), "tensors", tensors(&e->file));
	if (root != NULL && e->is_planned) {
		json_object_set_new(root, "hparams", hparams(&e->plan.hp));
		json_object_set_new(root, "activations", activations(&e->plan));
		json_object_set_new(root, "layers", layers(e));
		json_object_set_new(root, "memory", memory(e));
	}
	return root;
}

/* ---- showing ---- */

static bool print_json(FILE *out, json_t *root, struct bb_error *err) {
	const bool ok = json_dumpf(root, out, JSON_INDENT(2)) == 0 && fputc('\n', out) != EOF;
	return ok || base_fail(err, BB_ERR_IO, "the output could not be written");
}

static void print_object(FILE *out, const char *title, const json_t *object) {
	const char *key;
	json_t *value;
	fprintf(out, "\n%s\n", title);
	json_object_foreach((json_t *)(uintptr_t)object, key, value) {
		char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_REAL_PRECISION(9));
		const size_t bytes = text != NULL ? strlen(text) : 0;
		fprintf(out, "  %-44s %.80s%s\n", key, text != NULL ? text : "", bytes > 80 ? "…" : "");
		free(text);
	}
}

static const char *text_of(const json_t *object, const char *key) {
	const char *s = json_string_value(json_object_get(object, key));
	return s != NULL ? s : "";
}

/* Groups in a line each: what lies side by side. */
static void print_activations(FILE *out, const json_t *list) {
	fprintf(out, "\nactivations");
	const char *group = "";
	for (size_t i = 0; i < json_array_size(list); i++) {
		const json_t *a = json_array_get(list, i);
		const bool goes_on = *group != '\0' && strcmp(group, text_of(a, "group")) == 0;
		group = text_of(a, "group");
		fprintf(out, "%s%s [rows, %" JSON_INTEGER_FORMAT "]", goes_on ? " | " : "\n  ",
			text_of(a, "name"), json_integer_value(json_object_get(a, "width")));
	}
	fputc('\n', out);
}

static void print_layers(FILE *out, const json_t *list) {
	for (size_t i = 0; i < json_array_size(list); i++) {
		const json_t *layer = json_array_get(list, i);
		const json_t *ops = json_object_get(layer, "ops");
		const char *kind = text_of(layer, "kind");
		fprintf(out, "\nlayer %s%s%s", text_of(layer, "layer"), *kind ? ", " : "", kind);
		const json_int_t window = json_integer_value(json_object_get(layer, "window"));
		if (window > 0) {
			fprintf(out, ", window %" JSON_INTEGER_FORMAT, window);
		}
		fputc('\n', out);
		for (size_t j = 0; j < json_array_size(ops); j++) {
			const json_t *o = json_array_get(ops, j);
			const char *in2 = text_of(o, "in2"), *detail = text_of(o, "detail");
			fprintf(out, "  %-12s %-7s <- %-6s%s%-6s %*s%s%s\n", text_of(o, "op"),
				text_of(o, "out"), text_of(o, "in"), *in2 ? ", " : "  ", in2, *detail ? -12 : 0,
				text_of(o, "variant"), *detail ? " " : "", detail);
		}
	}
}

static void print_memory(FILE *out, const json_t *memory_plan) {
	fprintf(out, "\nmemory\n");
	const char *const keys[] = { "tensor_bytes", "packed_bytes", "step_weight_bytes",
		"activation_bytes", "int8_k_channels_per_scale", "kv_bytes_per_token", "state_bytes",
		"checkpoint_bytes" };
	for (size_t i = 0; i < COUNT(keys); i++) {
		fprintf(out, "  %-25s %14" JSON_INTEGER_FORMAT "\n", keys[i],
			json_integer_value(json_object_get(memory_plan, keys[i])));
	}
	const json_t *contexts = json_object_get(memory_plan, "contexts");
	for (size_t i = 0; i < json_array_size(contexts); i++) {
		const json_t *c = json_array_get(contexts, i);
		fprintf(out, "  KV (%s) of %9" JSON_INTEGER_FORMAT " tokens %14" JSON_INTEGER_FORMAT
			" bytes\n", text_of(memory_plan, "kv_type"),
			json_integer_value(json_object_get(c, "tokens")),
			json_integer_value(json_object_get(c, "kv_bytes")));
	}
	const json_t *kept = json_object_get(memory_plan, "checkpoints");
	for (size_t i = 0; i < json_array_size(kept); i++) {
		const json_t *c = json_array_get(kept, i);
		const char *which = i == 2 || json_array_size(kept) == 1 ? " (--state-cache-bytes)" : "";
		const json_int_t bytes = json_integer_value(json_object_get(c, "bytes"));
		if (bytes == 0) {
			fprintf(out, "  no checkpoints%s: a rewind computes all tokens again\n", which);
			continue;
		}
		fprintf(out, "  %" JSON_INTEGER_FORMAT " bytes of checkpoints%s: a rewind by up to %"
			JSON_INTEGER_FORMAT " tokens computes at most %d again\n", bytes, which,
			json_integer_value(json_object_get(c, "newest_tokens")), STATE_EVERY);
	}
}

static void print_tensors(FILE *out, const json_t *list) {
	int width = 36;
	for (size_t i = 0; i < json_array_size(list); i++) {
		const int n = (int)strlen(text_of(json_array_get(list, i), "name"));
		width = n > width ? n : width;
	}
	fprintf(out, "\ntensors\n");
	for (size_t i = 0; i < json_array_size(list); i++) {
		const json_t *t = json_array_get(list, i);
		fprintf(out, "  %-*s %-6s %-18s %12" JSON_INTEGER_FORMAT "\n", width, text_of(t, "name"),
			text_of(t, "type"), text_of(t, "shape"),
			json_integer_value(json_object_get(t, "bytes")));
	}
}

static void print_text(FILE *out, const json_t *root) {
	const char *text = text_of(root, "name");
	char name[96];
	const bool is_cpu = strcmp(text_of(root, "device"), "cpu") == 0;
	const char *gemm = text_of(root, "gemm");
	const bool is_exact = strcmp(gemm, "exact") == 0;
	fprintf(out, "%s: %s, tokenizer %s, %" JSON_INTEGER_FORMAT " parameters, %s %s%s%s%s\n",
		base_show(text, strlen(text), name, sizeof(name)), text_of(root, "arch"),
		text_of(root, "tokenizer"),
		json_integer_value(json_object_get(root, "n_params")),
		is_cpu ? "ISA level" : "device", text_of(root, is_cpu ? "isa" : "device"),
		is_exact ? "" : ", gemm ", is_exact ? "" : gemm,
		is_exact ? "" : ": bits may depend on how work is batched");
	print_object(out, "metadata", json_object_get(root, "metadata"));
	print_tensors(out, json_object_get(root, "tensors"));
	if (json_object_get(root, "layers") != NULL) {
		print_object(out, "hyper-parameters", json_object_get(root, "hparams"));
		print_activations(out, json_object_get(root, "activations"));
		print_layers(out, json_object_get(root, "layers"));
		print_memory(out, json_object_get(root, "memory"));
	}
}

bool bb_engine_inspect(const struct bb_engine *e, FILE *out, bool as_json, struct bb_error *err) {
	json_t *root = collect(e);
	if (root == NULL) {
		return base_no_memory(err, "inspection", 0);
	}
	bool ok = true;
	if (as_json) {
		ok = print_json(out, root, err);
	} else {
		print_text(out, root);
		ok = ferror(out) == 0 || base_fail(err, BB_ERR_IO, "the output could not be written");
	}
	json_decref(root);
	return ok;
}

/* ---- kernels ---- */

static bool is_winner(const struct bb_variant *v, unsigned flags) {
	const struct bb_variant *best = NULL;
	for (const struct bb_variant *o = bb_variants; o->kernel != NULL; o++) {
		if (strcmp(o->kernel, v->kernel) == 0 && (o->needs & ~flags) == 0) {
			best = o;
		}
	}
	return best == v;
}

static void needs_text(unsigned needs, char *buf, size_t bytes) {
	static const char *const names[] = { "avx2", "avx_vnni", "avx512", "avx512_vnni",
		"avx512_bf16" };
	buf[0] = '\0';
	for (size_t i = 0; i < COUNT(names); i++) {
		if ((needs >> i & 1) != 0) {
			snprintf(buf + strlen(buf), bytes - strlen(buf), "%s%s", buf[0] ? "+" : "", names[i]);
		}
	}
}

bool bb_kernels_print(FILE *out, const char *isa, bool as_json, struct bb_error *err) {
	struct bb_kernels k;
	const char *used;
	if (!engine_isa(isa, &k, &used, err)) {
		return false;
	}
	char cpu[96];
	json_t *rows = json_array();
	for (const struct bb_variant *v = bb_variants; v->kernel != NULL; v++) {
		char needs[80];
		needs_text(v->needs, needs, sizeof(needs));
		const char *status = is_winner(v, k.flags) ? "chosen"
			: (v->needs & ~cpu_flags()) != 0 ? "this CPU lacks it"
			: (v->needs & ~k.flags) != 0 ? "above the ISA level" : "slower";
		json_array_append_new(rows,
			json_pack("{s:s, s:s, s:s, s:s, s:s}", "kernel", v->kernel, "variant",
			v->tag, "needs", needs, "layout", v->layout_name, "status", status));
	}
	json_t *root = json_pack("{s:s, s:s, s:o}", "cpu", cpu_name(cpu, sizeof(cpu)), "isa", used,
		"variants", rows);
	if (root == NULL) {
		return base_no_memory(err, "kernel table", 0);
	}
	bool ok = true;
	if (as_json) {
		ok = print_json(out, root, err);
	} else {
		fprintf(out, "%s, ISA level %s\n%-16s %-12s %-24s %-12s %s\n", text_of(root, "cpu"), used,
			"kernel", "variant", "needs", "layout", "status");
		for (size_t i = 0; i < json_array_size(rows); i++) {
			const json_t *r = json_array_get(rows, i);
			fprintf(out, "%-16s %-12s %-24s %-12s %s\n", text_of(r, "kernel"),
				text_of(r, "variant"), text_of(r, "needs"), text_of(r, "layout"),
				text_of(r, "status"));
		}
		ok = ferror(out) == 0 || base_fail(err, BB_ERR_IO, "the output could not be written");
	}
	json_decref(root);
	return ok;
}
