/* SPDX-License-Identifier: Apache-2.0
 *
 * What a model is read from, a GGUF file or a Hugging Face folder, behind one set of questions. A
 * description's rows have a column for each; here is who chooses. */
#ifndef FILE_H
#define FILE_H

#include "folder.h"
#include "gguf.h"
#include "graph.h"

struct model_file {
	/* The GGUF file. Of a folder: what it says of its name, its tokens and its sampling, as a GGUF
	 * file would say it, without tensors; general.architecture is the first of "architectures". */
	struct gguf gguf;
	bool is_folder;
	struct folder folder;            /* zeroed of a file */
	struct bb_text text;             /* the bytes of a folder's gguf */
	const char *no_tokenizer;        /* why text means ids; NULL: it doesn't, or a file says so */
	const struct bb_tensor *tensors; /* [n_tensors] */
	size_t n_tensors;
};

/* init on caller's memory; finish accepts zeroed memory. On a failure *f is zeroed. Where no
 * weights are needed, a folder may have none. */
bool file_open(struct model_file *f, const char *path, bool needs_weights, struct bb_error *err);
void file_finish(struct model_file *f);

/* Does the file name the model's architecture? */
bool file_is_of(const struct model_file *f, const struct bb_model *m);
/* What the architecture is called in such a file. */
const char *file_arch_name(const struct model_file *f, const struct bb_model *m);
const struct bb_tensor *file_tensor(const struct model_file *f, const char *name);
/* The column of a row of weights. A name of NULL: such a file never has it. */
const struct bb_weight_name *file_column(const struct model_file *f, const struct bb_weight *w);
/* Reads the number of a key; `name` [bytes] is what sentences call it: "metadata key 'llama.…'".
 * *found is false when it is absent, or such a file never has it. */
bool file_number(const struct model_file *f, const struct bb_model *m, const struct bb_key *k,
	double *value, bool *found, char *name, size_t bytes, struct bb_error *err);
/* The type of RoPE scaling as the file calls it; *found as above. */
bool file_rope_type(const struct model_file *f, const struct bb_model *m, struct gguf_string *type,
	bool *found, char *name, size_t bytes, struct bb_error *err);
/* Which kind layer i of n is, where the file lists that or the model picks it. */
bool file_layer_kind(const struct model_file *f, const struct bb_model *m,
	const struct bb_hparams *hp, int i_layer, int *kind, struct bb_error *err);
/* Refuses a file with an entry that changes the arithmetic and that the model doesn't read. */
bool file_unread_check(const struct model_file *f, const struct bb_model *m,
	const struct bb_hparams *hp, struct bb_error *err);
/* Refuses a folder whose output matrix and embedding aren't what it says of their being one.
 * `embed` and `output`: the tensors, NULL where there is none. */
bool file_check_tie(const struct model_file *f, const struct bb_tensor *embed,
	const struct bb_tensor *output, struct bb_error *err);
/* Whether the name is one that files have and that no model uses. */
bool file_is_ballast(const struct model_file *f, const char *name);

#endif
