/* SPDX-License-Identifier: Apache-2.0
 *
 * The planner from inside: which variants a plan may use, what the form lets a model say and
 * what it refuses. Models are made here from tiny llama's tables with one thing changed. */
#include "models.h"

#include "gguf_builder.h"
#include "plan.h"

enum { ALL_FLAGS = BB_AVX2 | BB_AVX_VNNI | BB_AVX512 | BB_AVX512_VNNI | BB_AVX512_BF16 };

static const struct memory host;

/* ---- files ---- */

static const struct bb_model *model_named(const char *name) {
	const struct bb_model *const *m = bb_models;
	while (strcmp((*m)->name, name) != 0) {
		m++;
	}
	return *m;
}

static struct gguf tiny(const char *name) {
	struct gguf g;
	struct bb_error err = { 0 };
	cr_assert(gguf_open(&g, tiny_path(name), &err), "%s", err.text);
	return g;
}

/* g as what plans are made from; borrowed. */
static struct model_file as_file(const struct gguf *g) {
	return (struct model_file){ .gguf = *g, .tensors = g->tensors, .n_tensors = g->n_tensors };
}

/* A builder with the numbers and tensors of a file, its matrices as bf16. */
static void copy_as_bf16(struct gguf_builder *b, const struct gguf *g) {
	gguf_builder_init(b);
	for (size_t i = 0; i < g->n_kvs; i++) {
		const struct gguf_kv *kv = &g->kvs[i];
		if (kv->type == GGUF_U32 || kv->type == GGUF_F32) {
			gguf_builder_raw(b, kv->key, kv->type, kv->data, 4);
		}
	}
	for (size_t i = 0; i < g->n_tensors; i++) {
		const struct bb_tensor *t = &g->tensors[i];
		const bool is_matrix = t->n_dims == 2;
		gguf_builder_tensor(b, t->name, is_matrix ? BB_BF16 : t->type, t->n_dims, t->dims, NULL);
	}
}

/* ---- variants ---- */

static bool is_bf16_variant(void (*fn)(void)) {
	for (const struct bb_variant *v = bb_variants; v->kernel != NULL; v++) {
		if (v->fn == fn) {
			return strcmp(v->tag, "avx512_bf16") == 0;
		}
	}
	cr_assert_fail("a function that isn't in the table of variants");
	return false;
}

/* Products and attentions that a machine with every ISA level would run as avx512_bf16. Nothing
 * runs, so any machine can say. */
static void count_bf16(const struct gguf *g, int *n_products, int *n_attentions) {
	struct bb_kernels k;
	struct plan p;
	struct bb_error err = { 0 };
	bb_kernels_cpu(&k, ALL_FLAGS);
	const struct model_file f = as_file(g);
	cr_assert(plan_create(&p, model_named("llama"), &f, &k, &host, 199, 8, 0, &err), "%s",
		err.text);
	bb_kernels_cpu(&k, plan_flags(&p, ALL_FLAGS));
	*n_products = *n_attentions = 0;
	for (int i = 0; i < p.n_matrices; i++) {
		*n_products += is_bf16_variant((void (*)(void))p.matrices[i].fn);
	}
	for (enum bb_kv_dtype type = KV_F32; type <= KV_INT8; type++) {
		const struct bb_kv_layout *layout;
		*n_attentions += is_bf16_variant((void (*)(void))kernels_attention(&k, type, &layout));
	}
	cr_assert_gt(p.n_matrices, 5);
	plan_finish(&p);
}

Test(plan, f32_checkpoint_takes_no_bf16_path) {
	struct gguf g = tiny("llama");
	int n_products, n_attentions;
	count_bf16(&g, &n_products, &n_attentions);
	cr_assert_eq(n_products, 0);
	cr_assert_eq(n_attentions, 0);
	gguf_finish(&g);
}

/* Its norms are f32 as ever. */
Test(plan, bf16_checkpoint_takes_the_bf16_path) {
	struct gguf f32 = tiny("llama"), g;
	struct gguf_builder b;
	struct bb_error err = { 0 };
	size_t bytes;
	copy_as_bf16(&b, &f32);
	const uint8_t *data = gguf_builder_end(&b, &bytes);
	cr_assert(gguf_open_memory(&g, data, bytes, &err), "%s", err.text);
	int n_products, n_attentions;
	count_bf16(&g, &n_products, &n_attentions);
	cr_assert_gt(n_products, 5);
	cr_assert_eq(n_attentions, 2); /* f16 and bf16 pages */
	gguf_finish(&g);
	gguf_finish(&f32);
	gguf_builder_finish(&b);
}

/* ---- keys that nobody reads ---- */

/* Tiny llama with one more number in its metadata. */
static struct bb_error plan_with_key(const char *key, enum gguf_type type, double value) {
	struct gguf llama = tiny("llama"), g;
	struct gguf_builder b;
	struct bb_kernels k;
	struct plan p;
	struct bb_error err = { 0 };
	size_t bytes;
	copy_as_bf16(&b, &llama);
	if (type == GGUF_F32) {
		gguf_builder_float(&b, key, type, value);
	} else {
		gguf_builder_int(&b, key, type, (int64_t)value);
	}
	const uint8_t *data = gguf_builder_end(&b, &bytes);
	cr_assert(gguf_open_memory(&g, data, bytes, &err), "%s", err.text);
	bb_kernels_cpu(&k, 0);
	const struct model_file f = as_file(&g);
	cr_assert_eq(plan_create(&p, model_named("llama"), &f, &k, &host, 199, 8, 0, &err),
		err.code == BB_OK);
	plan_finish(&p);
	gguf_finish(&g);
	gguf_finish(&llama);
	gguf_builder_finish(&b);
	return err;
}

static const struct {
	const char *key;
	enum gguf_type type;
	double effect, neutral;
} unread[] = {
	{ "llama.final_logit_softcapping", GGUF_F32, 30, 0 },
	{ "llama.attn_logit_softcapping", GGUF_F32, 50, 0 },
	{ "llama.logit_scale", GGUF_F32, 0.0625, 1 },
	{ "llama.residual_scale", GGUF_F32, 0.22, 1 },
	{ "llama.attention.iclr_scale", GGUF_F32, 2, 1 },
	{ "llama.embedding_scale", GGUF_F32, 12, 1 },
	{ "llama.attention.clamp_kqv", GGUF_F32, 8, 0 },
	{ "llama.attention.max_alibi_bias", GGUF_F32, 8, 0 },
	{ "llama.attention.causal", GGUF_BOOL, 0, 1 },
	{ "llama.expert_count", GGUF_U32, 8, 0 },
	{ "llama.expert_used_count", GGUF_U32, 2, 0 },
	{ "llama.ssm.state_size", GGUF_U32, 16, 0 },
	{ "llama.use_parallel_residual", GGUF_BOOL, 1, 0 },
	{ "llama.rope.scaling.yarn_log_multiplier", GGUF_F32, 0.1, 0 },
};

Test(plan, keys_that_change_the_arithmetic_are_refused) {
	for (size_t i = 0; i < COUNT(unread); i++) {
		const struct bb_error err = plan_with_key(unread[i].key, unread[i].type, unread[i].effect);
		cr_assert_eq(err.code, BB_ERR_UNSUPPORTED, "%s is ignored", unread[i].key);
		cr_assert_not_null(strstr(err.text, unread[i].key), "%s", err.text);
		cr_assert_not_null(strstr(err.text, "expected"), "%s", err.text);
	}
}

Test(plan, neutral_values_and_other_keys_are_taken) {
	for (size_t i = 0; i < COUNT(unread); i++) {
		const struct bb_error err = plan_with_key(unread[i].key, unread[i].type, unread[i].neutral);
		cr_assert_eq(err.code, BB_OK, "%s", err.text);
	}
	cr_assert_eq(plan_with_key("llama.note", GGUF_U32, 1).code, BB_OK);
	cr_assert_eq(plan_with_key("llamas.expert_count", GGUF_U32, 8).code, BB_OK);
	cr_assert_eq(plan_with_key("gemma3.final_logit_softcapping", GGUF_F32, 30).code, BB_OK);
	cr_assert_eq(plan_with_key("llama.attention.scale", GGUF_F32, 0.3).code, BB_OK); /* is read */
	cr_assert_eq(plan_with_key("llama.attention.key_length_swa", GGUF_U32, 1).code,
		BB_ERR_UNSUPPORTED);
}

/* ---- what the form refuses ---- */

enum { MAX_OPS = 32 };

static struct bb_op ops[MAX_OPS];
static struct bb_weight weights[64];

/* A model with a list of its own, to be changed: a copy of its first kind of layer's. */
static struct bb_model changed(const char *name) {
	struct bb_model m = *model_named(name);
	int n = 0;
	for (; m.kinds[0].ops[n].kind != OP_END; n++) {
		ops[n] = m.kinds[0].ops[n];
	}
	ops[n] = (struct bb_op){ 0 };
	for (n = 0; m.weights[n].slot != W_NONE; n++) {
		weights[n] = m.weights[n];
	}
	weights[n] = (struct bb_weight){ 0 };
	m.kinds[0].ops = ops;
	m.weights = weights;
	return m;
}

static struct bb_model changed_llama(void) {
	return changed("llama");
}

static int index_of(enum bb_op_kind kind) {
	int i = 0;
	while (ops[i].kind != kind) {
		i++;
	}
	return i;
}

/* The product of layer i that gives ACT_Q. */
static const struct plan_matrix *query_matrix(const struct plan *p, int i_layer) {
	const struct plan_op *o = p->layers[i_layer].ops;
	while (o->kind != OP_MATMUL || o->out_act != ACT_Q) {
		o++;
	}
	return o->matrix;
}

/* Two blocks, three turns: in layers 2, 5 and 6. */
Test(plan, what_layers_share_is_packed_once) {
	struct model_file f;
	struct bb_kernels k;
	struct plan p;
	struct bb_error err = { 0 };
	bb_kernels_cpu(&k, 0);
	cr_assert(file_open(&f, tiny_path("zamba2"), true, &err), "%s", err.text);
	cr_assert(plan_create(&p, model_named("zamba2"), &f, &k, &host, 199, 8, 0, &err), "%s",
		err.text);
	cr_assert_eq(query_matrix(&p, 2), query_matrix(&p, 6));
	cr_assert_neq(query_matrix(&p, 2), query_matrix(&p, 5));
	cr_assert_eq(query_matrix(&p, 2)->n_uses, 2);
	size_t bytes = 0;
	for (int i = 0; i < p.n_matrices; i++) {
		bytes += p.matrices[i].bytes;
	}
	cr_assert_gt(plan_step_bytes(&p), bytes);
	plan_finish(&p);
	file_finish(&f);
}

static struct bb_error plan_of(const struct bb_model *m, struct plan *p) {
	struct gguf g = tiny(m->name);
	struct bb_kernels k;
	struct bb_error err = { 0 };
	bb_kernels_cpu(&k, 0);
	const struct model_file f = as_file(&g);
	cr_assert_eq(plan_create(p, m, &f, &k, &host, 199, 8, 0, &err), err.code == BB_OK);
	gguf_finish(&g);
	return err;
}

static void expect_refused(const struct bb_model *m, const char *part) {
	struct plan p;
	const struct bb_error err = plan_of(m, &p);
	cr_assert_eq(err.code, BB_ERR_UNSUPPORTED, "a list that can't be right is planned; %s",
		err.text);
	cr_assert_not_null(strstr(err.text, part), "'%s' doesn't say '%s'", err.text, part);
	plan_finish(&p);
}

Test(plan, unchanged_llama_is_planned) {
	const struct bb_model m = changed_llama();
	struct plan p;
	const struct bb_error err = plan_of(&m, &p);
	cr_assert_eq(err.code, BB_OK, "%s", err.text);
	plan_finish(&p);
}

Test(plan, scalar_of_an_op_that_ignores_it_is_refused) {
	const enum bb_op_kind kinds[] = { OP_MATMUL, OP_ADD_MATMUL, OP_ROPE, OP_ATTENTION,
		OP_SILU_MUL };
	struct bb_model norm = changed_llama();
	ops[index_of(OP_RMSNORM)].scalar[0] = H_ATTN_SCALE; /* 0.25: so many groups can't be */
	expect_refused(&norm, "expected a width in groups of 0 columns");
	for (size_t i = 0; i < COUNT(kinds); i++) {
		const struct bb_model m = changed_llama();
		ops[index_of(kinds[i])].scalar[0] = H_ATTN_SCALE;
		expect_refused(&m, "expected no scalar, has attention_scale");
	}
}

Test(plan, second_scalar_of_an_op_that_takes_one_is_refused) {
	struct bb_model m = changed_llama();
	const struct bb_op embed[] = {
		{ OP_EMBED, ACT_X, 0, W_EMBED, .scalar = { H_ROPE_FACTOR, H_HEADS } },
		{ 0 },
	};
	m.embed = embed;
	expect_refused(&m, "list 'embed', op 1 (embed): expected at most 1 scalars, has heads");
}

Test(plan, operands_that_are_ignored_or_lacking_are_refused) {
	struct bb_model m = changed_llama();
	ops[index_of(OP_RMSNORM)].in2 = ACT_K;
	expect_refused(&m, "expected no second input, has K");
	m = changed_llama();
	ops[index_of(OP_SILU_MUL)].in2 = ACT_NONE;
	expect_refused(&m, "expected one second input, has none");
	m = changed_llama();
	ops[index_of(OP_ROPE)].w = W_Q;
	expect_refused(&m, "expected no weight");
	m = changed_llama();
	ops[index_of(OP_RMSNORM)].bias = W_Q_BIAS;
	expect_refused(&m, "expected no bias");
	m = changed_llama();
	ops[index_of(OP_MATMUL)].w = W_Q_NORM;
	expect_refused(&m, "expected a weight of the table of weights");
	m = changed_llama();
	ops[index_of(OP_RMSNORM)] = (struct bb_op){ OP_LAYERNORM, ACT_H, ACT_X, .bias = W_ATTN_NORM };
	expect_refused(&m, "expected no bias without a weight, has blk.%d.attn_norm.weight");
	m = changed_llama();
	m.embed = ops;
	expect_refused(&m, "list 'embed', op 1 (rmsnorm): expected a weight of the whole model");
}

Test(plan, widths_that_do_not_meet_are_refused) {
	struct bb_model m = changed_llama();
	ops[index_of(OP_MATMUL)].out = ACT_GATE;
	expect_refused(&m, "list 'full', op 2 (matmul): expected an output of");
	m = changed_llama();
	ops[index_of(OP_MATMUL)].in = ACT_FF;
	expect_refused(&m, "op 2 (matmul): expected a weight of");
	m = changed_llama();
	ops[index_of(OP_MATMUL)].w = W_ATTN_NORM;
	expect_refused(&m, "expected a matrix, has blk.%d.attn_norm.weight");
	m = changed_llama();
	ops[index_of(OP_SILU_MUL)].in2 = ACT_FF;
	expect_refused(&m, "expected inputs side by side, has FF");
	m = changed_llama();
	ops[index_of(OP_ROPE)].out = ACT_ATT;
	expect_refused(&m, "expected its input as output, has ATT");
}

/* ---- what is there in some sizes only ---- */

Test(plan, op_is_there_when_its_number_is_not_zero) {
	struct bb_model m = changed_llama();
	const int i = index_of(OP_SILU_MUL);
	struct plan p;
	ops[i].when = H_FF;
	struct bb_error err = plan_of(&m, &p);
	cr_assert_eq(err.code, BB_OK, "%s", err.text);
	const int n_with = p.layers[0].n;
	plan_finish(&p);
	ops[i].when = H_WINDOW; /* tiny llama has none */
	err = plan_of(&m, &p);
	cr_assert_eq(err.code, BB_OK, "%s", err.text);
	cr_assert_eq(p.layers[0].n, n_with - 1);
	for (int j = 0; j < p.layers[0].n; j++) {
		cr_assert_neq(p.layers[0].ops[j].kind, OP_SILU_MUL);
	}
	plan_finish(&p);
}

/* K between Q and V is left out, and with it the file's attn_k. */
Test(plan, weight_goes_with_its_op) {
	struct bb_model m = changed_llama();
	for (int i = 0; ops[i].kind != OP_END; i++) {
		ops[i].when = ops[i].w == W_K ? H_WINDOW : H_NONE;
	}
	int k = 0;
	while (weights[k].slot != W_K) {
		k++;
	}
	weights[k].when = H_WINDOW;
	struct plan p;
	const struct bb_error err = plan_of(&m, &p);
	cr_assert_eq(err.code, BB_ERR_UNSUPPORTED);
	cr_assert_not_null(strstr(err.text, "attn_k.weight' isn't part of architecture llama"), "%s",
		err.text);
	plan_finish(&p);
	weights[k].when = H_FF; /* there, and needed as before */
	cr_assert_eq(plan_of(&m, &p).code, BB_OK);
	plan_finish(&p);
	ops[3].when = H_NONE; /* V needs its weight, which is said not to be there */
	while (weights[k].slot != W_V) {
		k++;
	}
	weights[k].when = H_WINDOW;
	expect_refused(&m, "expected a weight that is there when the op is, has blk.%d.attn_v.weight");
}

/* Of two kinds, of which no layer is of the second. */
Test(plan, weight_is_of_some_kinds_of_layer) {
	struct bb_model m = changed_llama();
	int k = 0;
	while (weights[k].slot != W_K) {
		k++;
	}
	struct plan p;
	weights[k].kinds = 1 << 0;
	cr_assert_eq(plan_of(&m, &p).code, BB_OK);
	plan_finish(&p);
	m.kinds[1] = m.kinds[0];
	expect_refused(&m, "expected a weight of this kind of layer, has blk.%d.attn_k.weight");
	weights[k].kinds = 1 << 1;
	m.kinds[0].ops = model_named("mamba")->unembed; /* nothing of K */
	expect_refused(&m, "attn_k.weight' isn't part of architecture llama");
}

/* ---- mixtures of experts ---- */

static int index_of_weight(enum bb_slot slot) {
	int i = 0;
	while (ops[i].w != slot) {
		i++;
	}
	return i;
}

static struct bb_weight *row_of(enum bb_slot slot) {
	int i = 0;
	while (weights[i].slot != slot) {
		i++;
	}
	return &weights[i];
}

Test(plan, rows_of_experts_are_refused_where_rows_are_wanted) {
	struct bb_model m = changed("granitehybrid");
	ops[index_of_weight(W_E_DOWN)].out = ACT_H;
	expect_refused(&m, "(matmul): expected one of experts, has H");
	m = changed("granitehybrid");
	ops[index_of_weight(W_O)].out = ACT_E_OUT;
	expect_refused(&m, "(matmul): expected an output that isn't of experts, has E_OUT");
	m = changed("granitehybrid");
	ops[index_of_weight(W_DOWN)].in = ACT_E_FF;
	expect_refused(&m, "(matmul): expected an input that isn't of experts, has E_FF");
	m = changed("granitehybrid");
	ops[index_of_weight(W_E_DOWN)].kind = OP_ADD_MATMUL;
	expect_refused(&m, "(add_matmul): expected no stack");
	m = changed("granitehybrid");
	row_of(W_E_UP)->stack = H_NONE;
	expect_refused(&m, "(matmul): expected an output that isn't of experts, has E_UP");
}

Test(plan, choices_that_do_not_meet_are_refused) {
	struct bb_model m = changed("granitehybrid");
	ops[index_of(OP_COMBINE)].in2 = ACT_ROUTER;
	expect_refused(&m, "(combine): expected a second input of 3 columns, has 7");
	m = changed("granitehybrid");
	ops[index_of(OP_ROUTE_CHOSEN)].out = ACT_GATE;
	expect_refused(&m, "(route_chosen): expected output CHOICE, has GATE");
	m = changed("granitehybrid");
	ops[index_of(OP_ROUTE_CHOSEN)].in = ACT_CHOICE;
	ops[index_of(OP_ROUTE_CHOSEN)].out = ACT_X;
	expect_refused(&m, "(route_chosen): expected 1 to 3 chosen ones, has 36");
}

/* Of 7 experts a row reads 3; gate and up are two products, as 24 rows are no whole panels. */
Test(plan, step_reads_the_experts_used) {
	struct bb_model m = changed("granitehybrid");
	struct plan p;
	cr_assert_eq(plan_of(&m, &p).code, BB_OK);
	size_t all = 0;
	int n_stacks = 0;
	for (int i = 0; i < p.n_matrices; i++) {
		all += p.matrices[i].bytes;
		n_stacks += p.matrices[i].n_stack == 7;
	}
	cr_assert_eq(n_stacks, 3 * 4);
	const size_t expert = 3 * 24 * 36 * sizeof(float);
	cr_assert_eq(all - plan_step_bytes(&p), 4 * 4 * expert);
	plan_finish(&p);
}

Test(plan, groups_lie_side_by_side) {
	const struct bb_model m = changed_llama();
	struct plan p;
	cr_assert_eq(plan_of(&m, &p).code, BB_OK);
	const int q = hparam_int(&p.hp, H_Q_WIDTH), kv = hparam_int(&p.hp, H_KV_WIDTH);
	cr_assert_eq(p.acts[ACT_K], p.acts[ACT_Q] + q);
	cr_assert_eq(p.acts[ACT_V], p.acts[ACT_K] + kv);
	cr_assert_eq(p.act_ld[ACT_V], p.act_ld[ACT_Q]);
	cr_assert_geq(p.act_ld[ACT_Q], q + 2 * kv);
	cr_assert_eq(p.acts[ACT_UP], p.acts[ACT_GATE] + hparam_int(&p.hp, H_FF));
	plan_finish(&p);
}
