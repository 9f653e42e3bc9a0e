/* SPDX-License-Identifier: Apache-2.0
 *
 * What there is: models, version, health, the description of the API, the live view of requests. */
#include "exchange.h"
#include "fields.h"
#include "listing.h"
#include "openapi.h"
#include "routes.h"
#include "server.h"

#include <string.h>
#include <time.h>

static json_t *model_object(const struct server *s, const char *name) {
	return json_pack("{s:s, s:s, s:I, s:s, s:s, s:n, s:i, s:[]}", "id", name, "object", "model",
		"created", (json_int_t)s->created, "owned_by", "bobbin", "root", s->names[0], "parent",
		"max_model_len", s->info.max_len, "permission");
}

/* As Anthropic's clients know it. */
static json_t *model_info(const struct server *s, const char *name) {
	char date[32] = "";
	const time_t created = (time_t)s->created;
	struct tm utc;
	if (gmtime_r(&created, &utc) != NULL) {
		strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%SZ", &utc);
	}
	return json_pack("{s:s, s:s, s:s, s:s, s:s, s:i, s:i, s:n, s:n, s:n, s:n}", "type", "model",
		"id", name, "display_name", name, "created_at", date, "lifecycle", "active",
		"max_input_tokens", s->info.max_len, "max_tokens", s->info.max_len, "capabilities", "line",
		"deprecated_at", "retires_at");
}

static json_t *model_of(const struct exchange *x, const char *name) {
	return x->dialect == DIALECT_ANTHROPIC ? model_info(x->server, name)
		: model_object(x->server, name);
}

void info_models(struct exchange *x) {
	static const struct listing pages = { "after_id", "before_id", 1000, NULL };
	const struct server *s = x->server;
	json_t *list = json_array();
	for (int i = 0; i < s->n_names; i++) {
		json_array_append_new(list, model_of(x, s->names[i]));
	}
	if (x->dialect == DIALECT_ANTHROPIC) {
		listing_reply(x, &pages, list);
	} else {
		reply_json_take(x, 200, json_pack("{s:s, s:o}", "object", "list", "data", list));
	}
}

void info_model(struct exchange *x) {
	const char *name = exchange_rest(x, "/v1/models/");
	if (!server_has_model(x->server, name)) {
		reply_no_model(x, name);
		return;
	}
	reply_json_take(x, 200, model_of(x, name));
}

/* What clients can ask for and this server never has, said as what isn't found. */
void info_unknown(struct exchange *x) {
	const bool is_chat = strncmp(x->path, "/v1/chat/", 9) == 0;
	reply_error(x, 404, NULL, "not_found", "%s", is_chat ? "chat completions aren't kept here"
		: strncmp(x->path, "/v1/models/", 11) == 0 ? "models can't be deleted here"
		: "responses can't be compacted here");
}

void info_health(struct exchange *x) {
	struct server *s = x->server;
	const bool is_well = !atomic_load(&s->is_broken) && !atomic_load(&s->is_draining);
	reply_json_take(x, is_well ? 200 : 503, json_pack("{s:s}", "status",
		is_well ? "ok" : atomic_load(&s->is_broken) ? "broken" : "shutting down"));
}

void info_ping(struct exchange *x) {
	info_health(x);
}

void info_version(struct exchange *x) {
	const struct bb_engine_info *i = &x->server->info;
	reply_json_take(x, 200, json_pack("{s:s, s:s, s:s, s:s, s:s}", "version", BB_VERSION, "arch",
		i->arch, "device", i->device, "isa", i->isa, "kv_cache_dtype", i->kv_type));
}

void info_openapi(struct exchange *x) {
	reply_text(x, 200, NULL, openapi_text);
}

/* ---- the live view ---- */

enum { MOST_SHOWN = 256 };

static json_t *request_object(const struct bb_request_info *r) {
	static const char *const states[] = { "waiting", "reading", "writing", "aside" };
	return json_pack("{s:I, s:s, s:i, s:i, s:i, s:i, s:i, s:i, s:f, s:f, s:I, s:f}", "id",
		(json_int_t)r->id, "state", states[r->state], "priority", r->priority, "branches",
		r->n_branches, "prompt_tokens", r->n_prompt, "read_tokens", r->n_read, "cached_tokens",
		r->n_cached, "output_tokens", r->n_output, "age_s", r->age_s, "tokens_per_second",
		r->tokens_per_s, "kv_bytes", (json_int_t)r->kv_bytes, "share", r->share);
}

void loads_handle(struct exchange *x) {
	struct bb_request_info list[MOST_SHOWN];
	struct bb_scheduler_stats st;
	bb_scheduler_stats(x->server->scheduler, &st);
	const int n = bb_scheduler_requests(x->server->scheduler, list, MOST_SHOWN);
	json_t *requests = json_array();
	for (int i = 0; i < n && i < MOST_SHOWN; i++) {
		json_array_append_new(requests, request_object(&list[i]));
	}
	reply_json_take(x, 200, json_pack(
		"{s:s, s:i, s:i, s:i, s:i, s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:I, s:i, s:o}", "model",
		x->server->names[0], "running", st.n_running, "waiting", st.n_waiting, "aside", st.n_aside,
		"max_model_len", x->server->info.max_len, "kv_bytes", (json_int_t)st.kv_bytes,
		"max_kv_bytes", (json_int_t)st.max_kv_bytes, "prefix_bytes", (json_int_t)st.prefix_bytes,
		"prompt_tokens", (json_int_t)(st.n_prompt_tokens + st.n_cached_tokens), "cached_tokens",
		(json_int_t)st.n_cached_tokens, "output_tokens", (json_int_t)st.n_output_tokens, "step_ms",
		st.step_s * 1e3, "step_rows", (json_int_t)st.step_rows, "n_requests", n, "requests",
		requests));
}
