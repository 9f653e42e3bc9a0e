/* SPDX-License-Identifier: Apache-2.0
 *
 * Which endpoint answers what. */
#ifndef ROUTES_H
#define ROUTES_H

#include "exchange.h"

struct route {
	const char *method;
	const char *path;        /* ending in "*": whatever follows */
	void (*handle)(struct exchange *x);
	enum dialect dialect;
	bool is_open;            /* needs no key */
	bool has_body;           /* a JSON object, read into x->in */
	bool is_work;            /* refused while the server drains */
};

enum { ROUTE_METHODS_BYTES = 40 };
/* NULL where there is none; methods: for which the path is there, as "GET, HEAD"; "": for none. */
const struct route *route_find(const char *method, const char *path,
	char methods[ROUTE_METHODS_BYTES]);
enum dialect route_dialect(const char *path);

/* ---- the endpoints ---- */
void chat_handle(struct exchange *x);
void completions_handle(struct exchange *x);
void responses_handle(struct exchange *x);
void responses_get(struct exchange *x);
void responses_delete(struct exchange *x);
void responses_cancel(struct exchange *x);
void responses_count(struct exchange *x);
void embeddings_handle(struct exchange *x);
void anthropic_handle(struct exchange *x);
void anthropic_count(struct exchange *x);
void llama_completion(struct exchange *x);
void llama_props(struct exchange *x);
void llama_slots(struct exchange *x);
void sglang_generate(struct exchange *x);
void tokens_tokenize(struct exchange *x);
void tokens_detokenize(struct exchange *x);
void tokens_render(struct exchange *x);
void info_models(struct exchange *x);
void info_model(struct exchange *x);
void info_unknown(struct exchange *x);
void info_health(struct exchange *x);
void info_ping(struct exchange *x);
void info_version(struct exchange *x);
void info_openapi(struct exchange *x);
void metrics_handle(struct exchange *x);
void loads_handle(struct exchange *x);
void live_list(struct exchange *x);
void live_get(struct exchange *x);
void live_control(struct exchange *x);
void llama_control(struct exchange *x);
void page_handle(struct exchange *x);

#endif
