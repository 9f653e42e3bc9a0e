/* SPDX-License-Identifier: Apache-2.0
 *
 * What other threads see of requests and of the scheduler, as it is after each step. */
#include "requests.h"

static void fill_info(const struct bb_scheduler *s, const struct bb_request *r, double now,
	struct bb_request_info *out) {
	*out = (struct bb_request_info){
		.id = r->id, .priority = r->params.priority, .n_branches = r->params.n,
		.n_prompt = (int)r->params.n_prompt, .n_cached = r->usage.n_cached,
		.n_output = r->usage.n_output, .age_s = now - r->arrived,
	};
	bool is_any_in = false;
	int n_rows = 0;
	for (int i = 0; i < r->n_all; i++) {
		const struct branch *b = &r->branches[i];
		if (turns_is_in(b)) {
			is_any_in = true;
			out->kv_bytes += swap_bytes(b->context);
		}
		out->n_read = b->n_seen > out->n_read ? b->n_seen : out->n_read;
	}
	out->n_read = out->n_read < out->n_prompt ? out->n_read : out->n_prompt;
	for (int i = 0; r->is_started && i < s->n_items; i++) {
		n_rows += s->of_item[i]->request == r ? s->items[i].n_tokens : 0;
	}
	out->share = s->now.step_rows > 0 ? n_rows / (double)s->now.step_rows : 0;
	out->tokens_per_s = r->last > r->first ? (r->usage.n_output - 1) / (r->last - r->first) : 0;
	out->state = !r->is_started ? BB_REQUEST_WAITING : !is_any_in ? BB_REQUEST_ASIDE
		: r->first > 0 ? BB_REQUEST_WRITING : BB_REQUEST_READING;
}

struct branch_view infos_view(const struct branch *b) {
	const struct effort_branch *eb = b->effort;
	struct branch_view v = { .has_begun = b->has_begun, .may_think = eb != NULL &&
		effort_may_think(eb), .info = { .index = b->index, .n_output = b->n_output,
		.is_live = b->is_live, .max_thinking = -1, .finish = b->finish } };
	v.info.mean_logprob = b->n_output > 0 ? b->logprob / b->n_output : 0;
	if (eb != NULL) {
		v.info.is_thinking = b->is_live && effort_is_thinking(eb);
		v.info.n_thinking = eb->n_thinking;
		v.info.n_cot_steps = eb->n_cot_steps;
		v.info.max_thinking = eb->max_thinking;
		v.info.confidence = confidence_now(&eb->group);
	}
	return v;
}

void infos_publish(struct bb_scheduler *s) {
	struct bb_scheduler_stats *now = &s->now;
	const double time = requests_now(s);
	pthread_mutex_lock(&s->lock);
	s->held_for_s = s->hold_s;
	if (s->n_open > s->max_infos) {
		void *grown = base_realloc(s->infos, (size_t)s->n_open * 2, sizeof(*s->infos));
		s->infos = grown != NULL ? grown : s->infos;
		s->max_infos = grown != NULL ? s->n_open * 2 : s->max_infos;
	}
	s->n_infos = s->n_paused = 0;
	now->n_running = now->n_aside = 0;
	for (const struct bb_request *r = s->requests; r != NULL; r = r->next) {
		struct bb_request_info info;
		fill_info(s, r, time, &info);
		for (int i = 0; i < r->params.n; i++) {
			r->views[i] = infos_view(&r->branches[i]);
		}
		now->n_running += info.state == BB_REQUEST_READING || info.state == BB_REQUEST_WRITING;
		now->n_aside += info.state == BB_REQUEST_ASIDE;
		s->n_paused += atomic_load(&r->is_paused);
		if (s->n_infos < s->max_infos) {
			s->infos[s->n_infos++] = info;
		}
	}
	now->n_requests = s->last_id;
	now->n_refused = s->stats.n_refused;
	now->kv_bytes = engine_used_bytes(s->engine).live;
	now->max_kv_bytes = s->engine->budget.max_bytes;
	now->swap_bytes = s->space.used_bytes;
	now->prefix_bytes = s->prefix != NULL ? engine_kept_bytes(s->engine).all : 0;
	s->stats = *now;
	pthread_mutex_unlock(&s->lock);
}
