// SPDX-License-Identifier: Apache-2.0
// How much thought a request gets, as it happens: what of its budget is used, its branches, what was
// decided and why, and what can be done about it.
import { make } from "./markdown.js";
import { ask, reasonOf } from "./api.js";

const MOST_DECISIONS = 50; // of the last ones, in a list
const MORE = 256;          // tokens of thinking that one press asks for
const number = (n, digits = 0) => n.toLocaleString("en", { maximumFractionDigits: digits, minimumFractionDigits: digits });

/** Where a decision was made: of one branch at a token, or of all. */
function placeOf(d) {
	return d.branch < 0 ? "all answers" : `answer ${d.branch + 1}, token ${number(d.token)}`;
}

/** A list item: its kind, where, by whom, and why. */
export function decisionItem(d) {
	const item = make("li", {}, make("b", { className: `kind ${d.kind}`, textContent: d.kind }), ` ${placeOf(d)} `,
		make("i", { textContent: d.policy }), d.why ? `: ${d.why}` : "");
	if (d.load_dependent) {
		item.title = "Depends on the clock, on others or on a person: replayed from its record";
	}
	return item;
}

/** Whether there is something to see beside the row of the request itself. */
export function hasEffort(request) {
	return request.n_branches > 1 || request.budget !== null || request.decisions.length > 0 ||
		request.branches.some((b) => b.thinking || b.thinking_tokens > 0);
}

/** What is shown below the row of a request. */
export class Effort {
	#id;            // by which the server knows the request
	#onDone;        // something was asked for: look again
	#branches = new Map();
	#nDecisions = 0;

	constructor(id, onDone) {
		this.#id = id;
		this.#onDone = onDone;
		this.note = make("span", { className: "note" });
		this.note.setAttribute("role", "status");
		this.finish = this.#button("Finish", "Begin no more answers, and drop those that aren't whole", { action: "finish" });
		this.rows = make("tbody");
		this.list = make("ol", { className: "decisions" });
		this.list.setAttribute("aria-label", "Decisions");
		const head = (name) => Object.assign(make("th", { textContent: name }), { scope: "col" });
		const last = Object.assign(make("th", {}, make("span", { className: "unseen", textContent: "Steer" })), { scope: "col" });
		const table = make("table", {}, make("thead", {}, make("tr", {},
			...["Answer", "State", "Tokens", "Thinking", "Steps", "Confidence"].map(head), last)), this.rows);
		this.controls = make("p", { className: "controls" }, this.finish, this.note);
		this.node = make("div", { className: "effort" }, table, this.controls, this.list);
	}

	/* body: what is asked for, or what says it when the button is pressed. */
	#button(name, title, body) {
		const button = make("button", { type: "button", textContent: name, title });
		button.addEventListener("click", () => this.#control(button, typeof body === "function" ? body() : body));
		return button;
	}

	async #control(button, body) {
		button.disabled = true;
		try {
			const answer = await ask(`/v1/requests/${encodeURIComponent(this.#id)}/control`, body);
			this.note.textContent = answer.ok ? "" : await reasonOf(answer);
		} catch (error) {
			this.note.textContent = `The server can't be asked: ${error.message}`;
		}
		button.disabled = false;
		this.#onDone();
	}

	fill(request) {
		for (const b of request.branches) {
			if (!this.#branches.has(b.index)) {
				this.#branches.set(b.index, this.#newBranch(b.index));
				this.rows.append(this.#branches.get(b.index).row);
			}
			fillBranch(this.#branches.get(b.index), b, request.branches);
		}
		const isWhole = (b) => b.finish_reason && b.finish_reason !== "dropped";
		this.finish.hidden = request.branches.every(isEnded) || !request.branches.some(isWhole);
		this.controls.hidden = this.finish.hidden && this.note.textContent === "";
		this.#fillDecisions(request.decisions);
	}

	/* The last ones first. They only ever become more, but what comes may belong between others: they are ordered by
	 * their tokens. */
	#fillDecisions(decisions) {
		if (decisions.length !== this.#nDecisions) {
			this.#nDecisions = decisions.length;
			this.list.replaceChildren(...decisions.slice(-MOST_DECISIONS).reverse().map(decisionItem));
		}
	}

	#newBranch(index) {
		const of = `answer ${index + 1}`, view = {
			name: make("th", { textContent: String(index + 1) }),
			state: make("span", { className: "state" }), tokens: make("td"), used: make("span"), steps: make("td"),
			confidence: make("td"), bar: make("progress", { max: 1, value: 0 }),
			close: this.#button("End thinking", `End the thinking of ${of} now`, { action: "close", branch: index }),
			extend: this.#button("Think on", `Let ${of} think ${MORE} tokens longer, at least`,
				{ action: "extend", branch: index, tokens: MORE }),
			more: this.#button(`+ ${MORE}`, `Let ${of} think up to ${MORE} tokens more than its budget`,
				() => ({ action: "budget", branch: index, tokens: view.budget + MORE })),
			drop: this.#button("Drop", `Drop ${of}`, { action: "drop", branch: index }),
		};
		view.name.scope = "row";
		view.bar.setAttribute("aria-label", `Used of the thinking budget of ${of}`);
		view.row = make("tr", {}, view.name, make("td", {}, view.state), view.tokens, make("td", {}, view.bar, view.used),
			view.steps, view.confidence, make("td", { className: "do" }, view.close, view.extend, view.more,
				view.drop));
		["", "State", "Tokens", "Thinking", "Steps", "Confidence", ""].forEach((name, i) => {
			view.row.children[i].dataset.name = name;
		});
		return view;
	}
}

/* In words, and the class of the mark before them. */
function stateOf(b) {
	return b.finish_reason === "dropped" ? ["dropped", "state aside"]
		: b.finish_reason ? [`ended (${b.finish_reason})`, "state"] : b.thinking ? ["thinking", "state reading"]
		: b.output_tokens > 0 ? ["answering", "state writing"] : ["waiting", "state"];
}

function isEnded(branch) {
	return Boolean(branch.finish_reason);
}

/* Of a request's branches the last one can't be dropped. */
function fillBranch(view, b, branches) {
	const thinks = b.thinking && !isEnded(b);
	[view.state.textContent, view.state.className] = stateOf(b);
	view.tokens.textContent = number(b.output_tokens);
	view.bar.hidden = b.budget === null;
	view.bar.value = b.budget > 0 ? Math.min(1, b.thinking_tokens / b.budget) : 1;
	view.used.textContent = b.budget !== null ? `${number(b.thinking_tokens)} of ${number(b.budget)}`
		: b.thinking_tokens > 0 ? number(b.thinking_tokens) : "–";
	view.steps.textContent = number(b.cot_steps);
	view.confidence.textContent = b.confidence > 0 ? number(b.confidence, 2) : "–";
	view.budget = b.budget;
	view.close.hidden = view.extend.hidden = !thinks;
	view.more.hidden = !thinks || b.budget === null;
	view.drop.hidden = isEnded(b) || branches.every((other) => other === b || isEnded(other));
}
