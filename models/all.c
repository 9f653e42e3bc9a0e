/* SPDX-License-Identifier: Apache-2.0
 *
 * Every architecture of this build, one line each, in alphabetical order. */
#include "graph.h"

#define MODELS(X) \
	X(bamba) \
	X(falcon_h1) \
	X(gemma3) \
	X(granite_hybrid) \
	X(jamba) \
	X(lfm2) \
	X(llama) \
	X(mamba) \
	X(mamba2) \
	X(nemotron_h) \
	X(qwen2) \
	X(qwen3_next) \
	X(recurrent_gemma) \
	X(rwkv6) \
	X(rwkv7) \
	X(xlstm) \
	X(zamba2)

#define X(name) extern const struct bb_model bb_model_##name;
MODELS(X)
#undef X

#define X(name) &bb_model_##name,
const struct bb_model *const bb_models[] = { MODELS(X) NULL };
#undef X
