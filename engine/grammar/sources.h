/* SPDX-License-Identifier: Apache-2.0
 *
 * What users write, to rules. */
#ifndef SOURCES_H
#define SOURCES_H

#include "rules.h"

enum { SOURCE_ONE_LINE = -1 }; /* an indentation: JSON isn't indented */

/* Fills r, which is empty, up to rules_finish. BB_ERR_INPUT for what isn't of its kind,
 * BB_ERR_UNSUPPORTED for what this build can't make of it, naming it. */
bool source_compile(struct rules *r, enum bb_grammar_kind kind, const char *source, size_t bytes,
	struct bb_error *err);
/* indent: of JSON, spaces a level, or SOURCE_ONE_LINE. */
bool source_compile_indented(struct rules *r, enum bb_grammar_kind kind, const char *source,
	size_t bytes, int indent, struct bb_error *err);

/* The parts of it: the node of the whole. */
bool gbnf_read(struct rules *r, const char *source, size_t bytes, uint32_t *root,
	struct bb_error *err);
bool schema_read(struct rules *r, const char *source, size_t bytes, int indent, uint32_t *root,
	struct bb_error *err);
bool structure_read(struct rules *r, const char *source, size_t bytes, uint32_t *root,
	struct bb_error *err);
/* Any JSON object. */
bool schema_any_object(struct rules *r, int indent, uint32_t *root, struct bb_error *err);

#endif
