/* SPDX-License-Identifier: Apache-2.0
 *
 * The smallest program that uses bobbin: continues a text. Usage: first MODEL.gguf "Once upon a
 * time" */
#include <bobbin.h>

int main(int argc, char **argv) {
	struct bb_error err = { 0 };
	struct bb_engine *engine = NULL;
	struct bb_context *context = NULL;
	struct bb_generation *generation = NULL;
	struct bb_tokens prompt = { 0 };
	struct bb_generation_params params = { .max_tokens = 64 };
	const struct bb_engine_params open = { .path = argc > 1 ? argv[1] : "model.gguf" };
	const char *text = argc > 2 ? argv[2] : "Once upon a time";
	size_t bytes = 0;
	while (text[bytes] != '\0') {
		bytes++;
	}
	bool ok = bb_engine_open(&engine, bb_models, &open, &err) &&
		bb_tokenize(engine, text, bytes, true, true, &prompt, &err) &&
		bb_context_create(&context, engine, NULL, &err);
	if (ok && prompt.n == 0) {
		ok = false;
		snprintf(err.text, sizeof(err.text), "the prompt is empty");
	}
	if (ok) {
		bb_sampling_default(engine, &params.sampling); /* seed 0: the same text each time */
		ok = bb_generation_create(&generation, context, &params, prompt.ids, prompt.n, NULL, NULL,
			&err);
	}
	enum bb_finish finish = BB_FINISH_NONE;
	while (ok && finish == BB_FINISH_NONE) {
		struct bb_sampled token;
		ok = bb_generation_next(generation, &token, &text, &bytes, &finish, &err);
		fwrite(text, 1, ok ? bytes : 0, stdout);
		fflush(stdout);
	}
	fprintf(stderr, "%s%s", ok ? "" : err.text, ok ? "" : "\n");
	bb_generation_destroy(generation);
	bb_context_destroy(context);
	bb_tokens_finish(&prompt);
	bb_engine_destroy(engine);
	return ok ? 0 : 1;
}
