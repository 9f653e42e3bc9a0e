/* SPDX-License-Identifier: Apache-2.0
 *
 * Comparing keys in constant time. */
#include "auth.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* Walks all of what came; its length and the key's may show in the time, its letters not. */
static unsigned differs(const char *key, const char *came) {
	const size_t n_key = strlen(key), n_came = strlen(came);
	volatile unsigned difference = n_key != n_came;
	for (size_t i = 0; i < n_came; i++) {
		difference |= (unsigned char)(came[i] ^ key[n_key > 0 ? i % n_key : 0]);
	}
	return difference;
}

int auth_key(const struct arg_texts *keys, const char *authorization, const char *api_key) {
	if (keys->n == 0) {
		return 0;
	}
	const char *came = api_key;
	if (authorization != NULL && strncasecmp(authorization, "bearer ", 7) == 0) {
		came = authorization + 7;
		came += strspn(came, " ");
	}
	int found = 0; /* one more than its index */
	for (int i = 0; came != NULL && i < keys->n; i++) {
		const int is_it = differs(keys->v[i], came) == 0;
		found += is_it * (i + 1 - found);
	}
	return found - 1;
}

bool auth_cut_weight(char *line, double *weight) {
	static const char name[] = "weight=";
	char *last = line + strlen(line), *end;
	while (last > line && last[-1] != ' ' && last[-1] != '\t') {
		last--;
	}
	*weight = 0;
	if (last == line || strncmp(last, name, sizeof(name) - 1) != 0) {
		return true;
	}
	*weight = strtod(last + sizeof(name) - 1, &end);
	if (*end != '\0' || !(*weight > 0) || !isfinite(*weight)) {
		return false;
	}
	while (last > line && (last[-1] == ' ' || last[-1] == '\t')) {
		last--;
	}
	*last = '\0';
	return true;
}
