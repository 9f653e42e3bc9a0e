// SPDX-License-Identifier: Apache-2.0
// The conversation: its messages, the answer that is coming in, and what can be done to them.
import { ask, eventsOf, reasonOf } from "./api.js";
import { decisionItem } from "./effort.js";
import { copyText, make, render } from "./markdown.js";

const KEPT = "bobbin.conversation", MANY = 40, NEAR = 48; // messages; pixels from the end that count as there
const $ = (id) => document.getElementById(id);

/* {role, text, thinking, figures, decisions, error, stopped} */
export class Chat {
	messages = [];
	#views = new Map();  // message -> {node, ...}
	#running = null;     // {message, stop: AbortController}
	#settings;
	#onKeyWanted;
	#isAtEnd = true;

	constructor(settings, onKeyWanted) {
		this.#settings = settings;
		this.#onKeyWanted = onKeyWanted;
		this.#load();
		$("scroll").addEventListener("scroll", () => this.#noteScroll(), { passive: true });
		new ResizeObserver(() => this.#follow()).observe($("messages"));
		$("down").addEventListener("click", () => {
			this.#isAtEnd = true;
			this.#follow();
			$("prompt").focus();
		});
		this.draw();
	}

	get isRunning() {
		return this.#running !== null;
	}

	/* ---- keeping ---- */

	#load() {
		try {
			const kept = JSON.parse(localStorage.getItem(KEPT) ?? "null");
			this.messages = Array.isArray(kept?.messages)
				? kept.messages.filter((m) => ["user", "assistant"].includes(m?.role) && typeof m.text === "string") : [];
		} catch { /* nothing kept that can be read */ }
	}

	save() {
		try {
			localStorage.setItem(KEPT, JSON.stringify({ messages: this.messages }));
		} catch {
			say("This conversation is too long to be kept in the browser");
		}
	}

	clear() {
		this.stop();
		this.messages = [];
		this.save();
		this.draw();
	}

	/* ---- asking ---- */

	send(text) {
		if (this.isRunning || text.trim() === "") {
			return false;
		}
		this.messages.push({ role: "user", text });
		this.#answer();
		return true;
	}

	stop() {
		this.#running?.stop.abort();
	}

	/* Throws away what follows the last message of the user, and asks again. */
	regenerate(message) {
		if (this.isRunning) {
			return;
		}
		const i = this.messages.indexOf(message);
		this.messages.length = message.role === "assistant" ? i : i + 1;
		this.#answer();
	}

	#request() {
		const s = this.#settings.read(), messages = [];
		if (s.system !== "") {
			messages.push({ role: "system", content: s.system });
		}
		for (const m of this.messages.slice(0, -1)) {
			if (m.role === "user" || m.text !== "" || m.thinking) {
				messages.push({ role: m.role, content: m.text, ...(m.thinking ? { reasoning_content: m.thinking } : {}) });
			}
		}
		return { messages, stream: true, stream_options: { include_usage: true }, ...s.sampling };
	}

	async #answer() {
		const message = { role: "assistant", text: "", thinking: "" }, run = { message, stop: new AbortController() };
		this.messages.push(message);
		this.#running = run;
		this.#isAtEnd = true;
		this.#setBusy(true);
		this.save();
		this.draw();
		try {
			const answer = await ask("/v1/chat/completions", this.#request(), run.stop.signal);
			if (!answer.ok) {
				if (answer.status === 401) {
					this.#onKeyWanted();
				}
				throw new Error(await reasonOf(answer));
			}
			for await (const event of eventsOf(answer)) {
				this.#take(message, event);
			}
		} catch (error) {
			message[run.stop.signal.aborted ? "stopped" : "error"] = run.stop.signal.aborted ? true
				: `${error.message}`;
		}
		this.#running = this.#running === run ? null : this.#running;
		this.#setBusy(this.isRunning);
		say(message.error ? "The answer failed" : message.stopped ? "Stopped" : "The answer is complete");
		if (this.#views.has(message)) {
			this.#fill(message);
			this.#enableAll();
			this.#follow();
			this.save();
		}
	}

	#take(message, event) {
		if (event.error) {
			throw new Error(event.error.message);
		}
		const choice = event.choices?.[0], delta = choice?.delta ?? {};
		message.thinking += delta.reasoning_content ?? "";
		message.text += delta.content ?? "";
		for (const call of delta.tool_calls ?? []) { // nobody here runs them: they are shown
			message.text += `${call.function?.name ? `\n\n${call.function.name} ` : ""}${call.function?.arguments ?? ""}`;
		}
		message.finish = choice?.finish_reason ?? message.finish;
		if (event.usage) {
			message.figures = figuresOf(event);
		}
		message.decisions = event.decisions ?? message.decisions;
		const view = this.#views.get(message);
		if (view && !view.isDue) { // once a frame, however many tokens came
			view.isDue = true;
			requestAnimationFrame(() => {
				view.isDue = false;
				this.#fill(message);
				this.#follow();
			});
		}
	}

	#setBusy(isBusy) {
		$("send").hidden = isBusy;
		$("stop").hidden = !isBusy;
		$("messages").setAttribute("aria-busy", String(isBusy));
	}

	/* ---- showing ---- */

	draw() {
		const box = $("messages"), wanted = new Set(this.messages);
		for (const [message, view] of this.#views) {
			if (!wanted.has(message)) {
				view.node.remove();
				this.#views.delete(message);
			}
		}
		for (const message of this.messages) {
			if (!this.#views.has(message)) {
				this.#views.set(message, this.#newView(message));
				box.append(this.#views.get(message).node);
			}
			this.#fill(message);
		}
		box.classList.toggle("many", this.messages.length > MANY);
		$("empty").hidden = this.messages.length > 0;
		this.#follow();
	}

	#newView(message) {
		const isMine = message.role === "user", view = {};
		view.content = make("div", { className: "content" });
		view.actions = make("div", { className: "actions" });
		view.figures = make("span", { className: "figures" });
		view.node = make("article", { className: `message ${message.role}` },
			make("div", { className: "who", textContent: isMine ? "You" : "Model" }));
		if (!isMine) {
			view.summary = make("summary", { textContent: "Thinking" });
			view.thought = make("div", { className: "content", tabIndex: 0 });
			view.thought.setAttribute("aria-label", "Thinking");
			view.thinking = make("details", { className: "thinking", hidden: true,
				open: this.#settings.read().showThinking }, view.summary, view.thought);
			view.decided = make("summary");
			view.list = make("ol", { className: "decisions" });
			view.decisions = make("details", { className: "thinking", hidden: true }, view.decided, view.list);
			view.error = make("div", { className: "error", hidden: true });
			view.error.setAttribute("role", "alert");
			view.node.append(view.thinking, view.content, view.decisions, view.error);
		}
		view.node.append(...(isMine ? [view.content] : []), view.actions);
		const button = (name, act) => {
			const b = make("button", { type: "button", textContent: name });
			b.addEventListener("click", () => act(b));
			view.actions.append(b);
		};
		button("Copy", (b) => copyText(message.text, b));
		button("Edit", () => this.#edit(message));
		button(isMine ? "Ask again" : "Regenerate", () => this.regenerate(message));
		view.actions.append(view.figures);
		return view;
	}

	#fill(message) {
		const view = this.#views.get(message), s = this.#settings.read();
		if (!view || view.isEdited) {
			return;
		}
		const isLive = this.#running?.message === message, isMine = message.role === "user";
		view.node.classList.toggle("live", isLive);
		render(view.content, message.text, s.markdown && !isMine);
		if (!isMine) {
			const isAtEnd = isNearEnd(view.thought);
			view.thinking.hidden = !message.thinking;
			render(view.thought, message.thinking ?? "", false);
			view.summary.textContent = isLive && message.text === "" ? "Thinking…" : "Thought";
			const decisions = message.decisions ?? [];
			view.decisions.hidden = decisions.length === 0;
			view.decided.textContent = `${decisions.length} ${decisions.length === 1 ? "decision" : "decisions"}`;
			if (view.list.children.length !== decisions.length) {
				view.list.replaceChildren(...decisions.map(decisionItem));
			}
			view.error.hidden = !message.error;
			view.error.textContent = message.error ?? "";
			if (isLive && isAtEnd) {
				view.thought.scrollTop = view.thought.scrollHeight;
			}
		}
		for (const button of view.actions.querySelectorAll("button")) {
			button.disabled = this.isRunning && (isLive || button.textContent !== "Copy");
		}
		view.figures.textContent = [message.figures, message.stopped ? "stopped"
			: message.finish === "length" ? "ended at the most tokens" : ""].filter(Boolean).join(" · ");
	}

	#enableAll() {
		for (const b of $("messages").querySelectorAll(".actions button:disabled")) {
			b.disabled = b.textContent === "Copied" || b.textContent === "Failed";
		}
	}

	redraw() {
		for (const message of this.messages) {
			this.#views.get(message).content.sources = null;
			this.#views.get(message).content.replaceChildren();
			this.#fill(message);
		}
	}

	/* Of the user: what followed is dropped, and it is asked anew. Of the model: what it said is
	 * taken to have been this. */
	#edit(message) {
		const view = this.#views.get(message), isMine = message.role === "user";
		if (this.isRunning || view.isEdited) {
			return;
		}
		view.isEdited = true;
		const area = make("textarea", { value: message.text, rows: Math.min(20, message.text.split("\n").length + 1) });
		area.setAttribute("aria-label", isMine ? "Your message" : "The model's message");
		const save = make("button", { type: "submit", textContent: isMine ? "Send" : "Keep" });
		const cancel = make("button", { type: "button", textContent: "Cancel" });
		const form = make("form", { className: "edit" }, area, make("div", { className: "actions" }, save, cancel));
		const end = (text) => {
			view.isEdited = false;
			form.replaceWith(view.content);
			view.actions.hidden = false;
			if (text !== null && text !== message.text) {
				message.text = text;
				delete message.figures;
				delete message.decisions;
			}
			this.#fill(message);
			this.save();
			if (text !== null && isMine) {
				this.regenerate(message);
			}
			$("prompt").focus();
		};
		form.addEventListener("submit", (e) => {
			e.preventDefault();
			if (!isMine || (area.value.trim() !== "" && !this.isRunning)) {
				end(area.value);
			}
		});
		form.addEventListener("keydown", (e) => {
			if (e.key === "Escape") {
				e.stopPropagation();
				end(null);
			} else if (e.key === "Enter" && !e.shiftKey && !e.isComposing && e.target === area) {
				e.preventDefault();
				form.requestSubmit();
			}
		});
		cancel.addEventListener("click", () => end(null));
		view.content.replaceWith(form);
		view.actions.hidden = true;
		area.focus();
	}

	/* ---- scrolling: at the end it stays there, elsewhere it is left alone ---- */

	#noteScroll() {
		this.#isAtEnd = isNearEnd($("scroll"));
		$("down").hidden = this.#isAtEnd;
	}

	#follow() {
		if (this.#isAtEnd) {
			$("scroll").scrollTop = $("scroll").scrollHeight;
		}
		$("down").hidden = this.#isAtEnd || isNearEnd($("scroll"));
	}
}

function isNearEnd(box) {
	return box.scrollHeight - box.scrollTop - box.clientHeight < NEAR;
}

function figuresOf({ usage, timings }) {
	const cached = usage.prompt_tokens_details?.cached_tokens ?? 0, rate = timings?.predicted_per_second ?? 0;
	const thought = usage.completion_tokens_details?.reasoning_tokens ?? 0, drawn = usage.branches ?? 1;
	return [`${usage.completion_tokens} tokens`, thought > 0 ? `${thought} of thinking` : "",
		drawn > 1 ? `${drawn} answers drawn` : "", rate > 0 ? `${rate.toFixed(1)} tokens/s` : "",
		`prompt ${usage.prompt_tokens}${cached ? `, ${cached} from cache` : ""}`].filter(Boolean).join(" · ");
}

function say(text) {
	$("status").textContent = text;
}
