/* SPDX-License-Identifier: Apache-2.0
 *
 * The table of endpoints, in the order in which people look for them. */
#include "routes.h"

#include <stdio.h>
#include <string.h>

enum { OPEN = 1, BODY = 2, WORK = 4 };
#define ROW(method, path, handle, dialect, flags) \
	{ method, path, handle, dialect, ((flags)&OPEN) != 0, ((flags)&BODY) != 0, \
		((flags)&WORK) != 0 }
#define GET(path, handle, flags) ROW("GET", path, handle, DIALECT_OPENAI, flags)
#define POST(path, handle, flags) ROW("POST", path, handle, DIALECT_OPENAI, (flags) | BODY)

static const struct route routes[] = {
	POST("/v1/chat/completions", chat_handle, WORK),
	POST("/v1/completions", completions_handle, WORK),
	POST("/v1/responses", responses_handle, WORK),
	POST("/v1/responses/input_tokens", responses_count, 0),
	ROW("POST", "/v1/responses/compact", info_unknown, DIALECT_OPENAI, 0),
	ROW("POST", "/v1/responses/*", responses_cancel, DIALECT_OPENAI, 0),
	GET("/v1/responses/*", responses_get, 0),
	ROW("DELETE", "/v1/responses/*", responses_delete, DIALECT_OPENAI, 0),
	POST("/v1/embeddings", embeddings_handle, WORK),
	ROW("POST", "/v1/messages", anthropic_handle, DIALECT_ANTHROPIC, BODY | WORK),
	ROW("POST", "/v1/messages/count_tokens", anthropic_count, DIALECT_ANTHROPIC, BODY),
	GET("/v1/models", info_models, 0),
	GET("/v1/models/*", info_model, 0),
	POST("/completion", llama_completion, WORK),
	POST("/completions", llama_completion, WORK), /* as there, where only /v1's is OpenAI's */
	POST("/chat/completions", chat_handle, WORK),
	POST("/responses", responses_handle, WORK),
	GET("/models", info_models, 0),
	GET("/props", llama_props, 0),
	GET("/slots", llama_slots, 0),
	POST("/generate", sglang_generate, WORK),
	POST("/tokenize", tokens_tokenize, 0),
	POST("/detokenize", tokens_detokenize, 0),
	POST("/apply-template", tokens_render, 0),
	POST("/v1/chat/completions/render", tokens_render, 0),
	POST("/v1/chat/completions/control", llama_control, 0),
	GET("/v1/requests", live_list, 0),
	POST("/v1/requests/*", live_control, 0),
	GET("/v1/requests/*", live_get, 0),
	GET("/v1/chat/completions", info_unknown, 0),
	GET("/v1/chat/completions/*", info_unknown, 0),
	ROW("POST", "/v1/chat/completions/*", info_unknown, DIALECT_OPENAI, 0),
	ROW("DELETE", "/v1/chat/completions/*", info_unknown, DIALECT_OPENAI, 0),
	ROW("DELETE", "/v1/models/*", info_unknown, DIALECT_OPENAI, 0),
	GET("/health", info_health, OPEN),
	GET("/v1/health", info_health, OPEN),
	GET("/ping", info_ping, OPEN),
	ROW("POST", "/ping", info_ping, DIALECT_OPENAI, OPEN),
	GET("/version", info_version, 0),
	GET("/openapi.json", info_openapi, 0),
	GET("/metrics", metrics_handle, 0),
	GET("/v1/loads", loads_handle, 0),
	GET("/", page_handle, OPEN),
	GET("/web/*", page_handle, OPEN),
	GET("/favicon.ico", page_handle, OPEN),
};
enum { N_ROUTES = sizeof(routes) / sizeof(routes[0]) };

static bool matches(const struct route *r, const char *path) {
	const size_t n = strlen(r->path) - 1;
	if (r->path[n] == '*') {
		return strncmp(r->path, path, n) == 0 && path[n] != '\0';
	}
	return strcmp(r->path, path) == 0;
}

static void add_method(char *list, const char *method) {
	if (strstr(list, method) == NULL) {
		const size_t n = strlen(list);
		snprintf(list + n, ROUTE_METHODS_BYTES - n, "%s%s%s", n > 0 ? ", " : "", method,
			strcmp(method, "GET") == 0 ? ", HEAD" : "");
	}
}

const struct route *route_find(const char *method, const char *path,
	char methods[ROUTE_METHODS_BYTES]) {
	methods[0] = '\0';
	/* HEAD is GET without the body, which the library leaves out. */
	const char *wanted = strcmp(method, "HEAD") == 0 ? "GET" : method;
	for (int i = 0; i < N_ROUTES; i++) {
		if (matches(&routes[i], path)) {
			if (strcmp(routes[i].method, wanted) == 0) {
				return &routes[i];
			}
			add_method(methods, routes[i].method);
		}
	}
	return NULL;
}

enum dialect route_dialect(const char *path) {
	return strncmp(path, "/v1/messages", 12) == 0 ? DIALECT_ANTHROPIC : DIALECT_OPENAI;
}
