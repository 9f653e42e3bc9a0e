/* SPDX-License-Identifier: Apache-2.0
 *
 * Pages of OpenAI's and Anthropic's lists: {data, first_id, last_id, has_more}. */
#include "listing.h"

#include <stdlib.h>
#include <string.h>

enum { USUAL_LIMIT = 20 };

static bool read_limit(struct exchange *x, int max, int *out) {
	const char *text = exchange_query(x, "limit");
	char *end;
	*out = USUAL_LIMIT;
	if (text == NULL) {
		return true;
	}
	const long n = strtol(text, &end, 10);
	*out = (int)n;
	return (end != text && *end == '\0' && n >= 1 && n <= max) || reply_error(x, 400, "limit",
		"invalid_value", "'limit' is '%.40s', expected a number from 1 to %d", text, max);
}

/* Where the item of an id in the query stands; *out stays where none is asked for. */
static bool find(struct exchange *x, const char *name, const json_t *all, size_t *out) {
	const char *id = name != NULL ? exchange_query(x, name) : NULL;
	size_t i;
	const json_t *item;
	if (id == NULL) {
		return true;
	}
	json_array_foreach(all, i, item) {
		if (strcmp(json_string_value(json_object_get(item, "id")), id) == 0) {
			*out = i;
			return true;
		}
	}
	return reply_error(x, 400, name, "invalid_value", "there is no '%.100s' in the list", id);
}

static json_t *id_at(const json_t *data, size_t i) {
	json_t *id = json_object_get(json_array_get(data, i), "id");
	return id != NULL ? json_incref(id) : json_null();
}

void listing_reply(struct exchange *x, const struct listing *l, json_t *all) {
	const size_t n = json_array_size(all), none = (size_t)-1;
	size_t after = none, before = none;
	int limit;
	if (all == NULL) {
		reply_no_memory(x);
		return;
	}
	if (!read_limit(x, l->max_limit, &limit) || !find(x, l->after, all, &after) ||
		!find(x, l->before, all, &before)) {
		json_decref(all);
		return;
	}
	size_t first = after != none ? after + 1 : 0, end = before != none ? before : n;
	first = first < end ? first : end;
	const bool is_more = end - first > (size_t)limit;
	if (is_more && before != none) { /* the page that ends there */
		first = end - (size_t)limit;
	} else if (is_more) {
		end = first + (size_t)limit;
	}
	json_t *data = json_array();
	for (size_t i = first; i < end; i++) {
		json_array_append(data, json_array_get(all, i));
	}
	json_t *page = json_pack("{s:O, s:o, s:o, s:b}", "data", data, "first_id", id_at(data, 0),
		"last_id", id_at(data, json_array_size(data) - 1), "has_more", is_more);
	if (l->object != NULL) {
		json_object_set_new(page, "object", json_string(l->object));
	}
	json_decref(data);
	json_decref(all);
	reply_json_take(x, 200, page);
}
