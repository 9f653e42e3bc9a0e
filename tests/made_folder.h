/* SPDX-License-Identifier: Apache-2.0
 *
 * A Hugging Face folder of the test's own process, whose files are those of a folder of
 * tests/goldens/hf or others. */
#ifndef TESTS_MADE_FOLDER_H
#define TESTS_MADE_FOLDER_H

#include <criterion/criterion.h>

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char made[64]; /* its path */

/* Puts the file `name` of the golden folder `of` here, as `as`; nothing, where there is none. */
static inline void link_to(const char *of, const char *name, const char *as) {
	char from[1024], to[1024];
	snprintf(from, sizeof(from), "%s/goldens/hf/%s/%s", BOBBIN_TESTS, of, name);
	snprintf(to, sizeof(to), "%s/%s", made, as);
	unlink(to);
	if (access(from, R_OK) == 0) {
		cr_assert_eq(symlink(from, to), 0);
	}
}

static inline void remove_made(void) {
	static const char *const names[] = { "config.json", "model.safetensors",
		"model.safetensors.index.json", "model-00001-of-00003.safetensors",
		"model-00002-of-00003.safetensors", "model-00003-of-00003.safetensors" };
	char path[128];
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		snprintf(path, sizeof(path), "%s/%s", made, names[i]);
		unlink(path);
	}
	rmdir(made);
}

/* With the weights of a golden folder, and no config.json yet. */
static inline void make_folder(const char *weights) {
	snprintf(made, sizeof(made), "/tmp/bobbin-test-folder-%d", (int)getpid());
	cr_assert_eq(mkdir(made, 0700), 0);
	link_to(weights, "model.safetensors", "model.safetensors");
	link_to(weights, "model.safetensors.index.json", "model.safetensors.index.json");
	for (int i = 1; i <= 3; i++) {
		char name[64];
		snprintf(name, sizeof(name), "model-0000%d-of-00003.safetensors", i);
		link_to(weights, name, name);
	}
}

#endif
