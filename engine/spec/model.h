/* SPDX-License-Identifier: Apache-2.0
 *
 * Drafts by a smaller model of the same vocabulary (arXiv:2211.17192, arXiv:2302.01318). It draws
 * with the request's own sampling and random numbers, which a token's place gives: so it is right
 * more often than one that drew by itself would be. Its contexts follow the branches. */
#ifndef SPEC_MODEL_H
#define SPEC_MODEL_H

#include "engine.h"

struct spec_follower; /* of a branch: what the model has read of it */
enum { SPEC_MODEL_ITEMS = 64 }; /* at once */

/* BB_ERR_USAGE where the vocabularies differ: by what. */
bool spec_model_check(const struct bb_engine *e, const struct bb_engine *draft,
	struct bb_error *err);
void spec_follower_destroy(struct spec_follower *f); /* NULL is fine */

/* What is wanted for one branch. */
struct spec_wish {
	struct spec_follower **follower; /* the branch's; made where there is none */
	const int32_t *ids;              /* [n]: its timeline */
	size_t n;
	const struct bb_sampling *sampling;
	int32_t *drafts;                 /* [most], 1 at least: filled */
	int most, n_drafts;              /* drafts that are there: none where it has yet to read */
};
/* Drafts for n wishes, in steps for all of them: ids below n_vocab, none of which ends a text.
 * Where there is no memory, or logits aren't finite, there are none, and no reason is told. Returns
 * how many steps that took; 0 where some of them read prompts: they aren't like others. */
int spec_model_draft(struct bb_engine *draft, int n_vocab, struct spec_wish *wishes, int n);

#endif
