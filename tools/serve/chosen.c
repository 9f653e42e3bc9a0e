/* SPDX-License-Identifier: Apache-2.0
 *
 * Choosing by the engine's decisions, and telling an answer as if it came just now. */
#include "chosen.h"

void chosen_find(struct talk *t) {
	struct decisions *d = turn_decisions(t->turn, 0);
	int n = 0;
	for (int branch; n < t->asked.n_given; n++) {
		branch = decisions_given(d, n, t->asked.n);
		int at = n;
		while (at < t->asked.n && t->answers[at].branch != branch) {
			at++;
		}
		if (branch < 0 || at == t->asked.n) {
			break;
		}
		const struct answer_text other = t->answers[n];
		t->answers[n] = t->answers[at];
		t->answers[at] = other;
	}
	t->n_answers = n;
}

/* What a stream would have said of an answer as it came. */
static void tell(struct talk *t, int i) {
	struct answer_text *a = &t->answers[i];
	const size_t n_tokens = json_array_size(a->logprobs) > json_array_size(a->ids)
		? json_array_size(a->logprobs) : json_array_size(a->ids);
	for (size_t k = 0; t->shape->token != NULL && k < n_tokens; k++) {
		t->entry = json_incref(json_array_get(a->logprobs, k));
		t->token_id = json_incref(json_array_get(a->ids, k));
		t->shape->token(t, i, t->out);
		json_decref(t->entry);
		json_decref(t->token_id);
		t->entry = NULL;
		t->token_id = NULL;
	}
	const struct buf *texts[] = { [PART_REASONING] = &a->reasoning, [PART_CONTENT] = &a->content };
	for (int kind = PART_REASONING; kind <= PART_CONTENT; kind++) {
		if (texts[kind]->bytes > 0 && t->shape->part != NULL) {
			t->shape->part(t, i, &(struct part){ (enum part_kind)kind, texts[kind]->data,
				texts[kind]->bytes, NULL }, t->out);
		}
	}
	json_t *calls = a->calls; /* shapes tell the last one */
	a->calls = json_array();
	size_t k;
	json_t *call;
	json_array_foreach(calls, k, call) {
		const json_t *text = json_object_get(call, "arguments");
		json_array_append(a->calls, call);
		if (t->shape->part != NULL) {
			t->shape->part(t, i, &(struct part){ PART_CALL, json_string_value(text),
				json_string_length(text), json_string_value(json_object_get(call, "name")) },
				t->out);
		}
	}
	json_decref(calls);
	if (t->shape->finish != NULL) {
		t->shape->finish(t, i, t->out);
	}
}

void chosen_tell(struct talk *t, struct buf *out) {
	t->out = out;
	for (int i = 0; i < t->n_answers; i++) {
		tell(t, i);
	}
	t->out = NULL;
}
