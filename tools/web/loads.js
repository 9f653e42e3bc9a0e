// SPDX-License-Identifier: Apache-2.0
// The live view of requests: /v1/loads once a second while it is looked at.
import { make } from "./markdown.js";
import { ask, reasonOf } from "./api.js";
import { Effort, hasEffort } from "./effort.js";

const SECONDS = 120; // of the graph
const NAMES = ["Request", "State", "Context", "From cache", "Written", "Tokens/s", "Memory", "Share of the step", "Age"];
const $ = (id) => document.getElementById(id);
const number = (n, digits = 0) => n.toLocaleString("en", { maximumFractionDigits: digits, minimumFractionDigits: digits });

export function bytes(n) {
	const units = ["B", "KiB", "MiB", "GiB", "TiB"];
	let i = 0;
	for (; n >= 1024 && i < units.length - 1; i++) {
		n /= 1024;
	}
	return `${number(n, i > 0 && n < 100 ? 1 : 0)} ${units[i]}`;
}

export function age(seconds) {
	return seconds < 60 ? `${number(seconds, 1)} s`
		: `${Math.floor(seconds / 60)} min ${Math.floor(seconds % 60)} s`;
}

async function get(path) {
	const answer = await ask(path);
	if (!answer.ok) {
		throw new Error(await reasonOf(answer));
	}
	return answer.json();
}

export class Loads {
	#timer = 0;
	#last = null;   // the counts before, and when
	#rates = [];    // [{time, read, written}], tokens a second
	#efforts = new Map(); // id of a request -> {row, view}

	show() {
		this.#timer ||= setInterval(() => this.#poll(), 1000);
		return this.#poll();
	}

	hide() {
		clearInterval(this.#timer);
		this.#timer = 0;
	}

	async #poll() {
		if (document.hidden || this.isAsking) {
			return;
		}
		this.isAsking = true;
		try {
			this.#draw(await get("/v1/loads"));
			this.#drawEfforts((await get("/v1/requests")).data);
		} catch (error) {
			$("rows-note").textContent = `The server can't be asked: ${error.message}`;
		} finally {
			this.isAsking = false;
		}
	}

	#draw(now) {
		const time = performance.now() / 1000, last = this.#last, rate = { time, read: 0, written: 0 };
		if (last && time > last.time && now.output_tokens >= last.output_tokens) {
			const read = (v) => v.prompt_tokens - v.cached_tokens;
			rate.read = Math.max(0, (read(now) - read(last)) / (time - last.time));
			rate.written = (now.output_tokens - last.output_tokens) / (time - last.time);
		}
		this.#last = { ...now, time };
		this.#rates = [...this.#rates, rate].filter((r) => r.time > time - SECONDS);
		const queue = now.waiting + (now.aside ? ` + ${now.aside} aside` : "");
		const hits = now.prompt_tokens > 0 ? `${number(100 * now.cached_tokens / now.prompt_tokens, 1)} %` : "–";
		drawTotals([
			["Running", String(now.running)], ["Queue", String(queue)],
			["Written", `${number(rate.written, 1)}`, "tokens/s"], ["Read", `${number(rate.read, 1)}`, "tokens/s"],
			["Prompts from cache", hits],
			["Contexts", bytes(now.kv_bytes), now.max_kv_bytes ? `of ${bytes(now.max_kv_bytes)}` : ""],
			["Prefix cache", bytes(now.prefix_bytes)],
			["Last step", `${number(now.step_ms, 1)}`, `ms, ${now.step_rows} ${now.step_rows === 1 ? "row" : "rows"}`],
		]);
		this.#drawGraph(time);
		drawRows(now.requests, now.max_model_len);
		$("rows-note").textContent = now.n_requests === 0 ? "No requests now."
			: now.n_requests > now.requests.length ? `${now.requests.length} of ${now.n_requests} requests` : "";
	}

	/* Below the rows of requests that this key may see, where there is something about their effort. */
	#drawEfforts(list) {
		const gone = new Set(this.#efforts.keys());
		for (const r of list.filter(hasEffort)) {
			const above = $("rows").querySelector(`tr[data-id="${r.number}"]`);
			if (above === null) {
				continue;
			}
			gone.delete(r.number);
			if (!this.#efforts.has(r.number)) {
				const view = new Effort(r.number, () => this.#poll()), cell = make("td", { colSpan: NAMES.length }, view.node);
				this.#efforts.set(r.number, { view, row: make("tr", { className: "more" }, cell) });
			}
			const { view, row } = this.#efforts.get(r.number);
			if (above.nextSibling !== row) {
				above.after(row);
			}
			view.fill(r);
		}
		for (const number of gone) {
			this.#efforts.get(number).row.remove();
			this.#efforts.delete(number);
		}
	}

	#drawGraph(time) {
		const top = Math.max(1, ...this.#rates.map((r) => Math.max(r.read, r.written)));
		const points = (key) => this.#rates.map((r) =>
			`${(SECONDS - (time - r.time)).toFixed(2)},${(38 - 36 * r[key] / top).toFixed(2)}`).join(" ");
		$("graph").querySelector(".in").setAttribute("points", points("read"));
		$("graph").querySelector(".out").setAttribute("points", points("written"));
		$("peak").textContent = `top: ${number(top, top < 10 ? 1 : 0)}`;
	}
}

/* Nodes stay where they are: only their texts change. */
function drawTotals(list) {
	const box = $("totals");
	if (box.children.length !== list.length) {
		box.replaceChildren(...list.map(([name]) => make("div", {}, make("dt", { textContent: name }), make("dd"))));
	}
	list.forEach(([, value, unit], i) => {
		box.children[i].lastChild.replaceChildren(value, ...(unit ? [" ", make("small", { textContent: unit })] : []));
	});
}

function drawRows(list, maxLen) {
	const box = $("rows"), rows = new Map([...box.querySelectorAll("tr[data-id]")].map((row) => [row.dataset.id, row]));
	for (const r of list) {
		const row = rows.get(String(r.id)) ?? newRow(r.id);
		rows.delete(String(r.id));
		if (!row.isConnected) {
			box.append(row);
		}
		fillRow(row, r, maxLen);
	}
	for (const row of rows.values()) {
		row.remove();
	}
}

function newRow(id) {
	const row = make("tr", {}, ...NAMES.map((name) => {
		const cell = make("td");
		cell.dataset.name = name;
		return cell;
	}));
	row.dataset.id = id;
	for (const i of [2, 7]) {
		const bar = make("progress", { max: 1, value: 0 });
		bar.setAttribute("aria-label", i === 2 ? "Share of the longest context" : "Share of the last step");
		row.children[i].append(bar, make("span"));
	}
	row.children[1].append(make("span"));
	return row;
}

function fillRow(row, r, maxLen) {
	const cells = row.children, state = cells[1].firstChild;
	const context = r.read_tokens + r.output_tokens;
	cells[0].textContent = `${r.id}${r.branches > 1 ? ` × ${r.branches}` : ""}` +
		(r.priority ? `, priority ${r.priority}` : "");
	state.textContent = r.state;
	state.className = `state ${r.state}`;
	cells[2].firstChild.value = Math.min(1, context / maxLen);
	cells[2].title = `A context holds ${number(maxLen)} tokens`;
	cells[2].lastChild.textContent = r.state === "reading" || r.state === "waiting"
		? `${number(r.read_tokens)} of ${number(r.prompt_tokens)} read` : number(context);
	cells[3].textContent = r.prompt_tokens > 0
		? `${number(r.cached_tokens)} (${number(100 * r.cached_tokens / r.prompt_tokens)} %)` : "–";
	cells[4].textContent = number(r.output_tokens);
	cells[5].textContent = number(r.tokens_per_second, 1);
	cells[6].textContent = bytes(r.kv_bytes);
	cells[7].firstChild.value = r.share;
	cells[7].lastChild.textContent = `${number(100 * r.share)} %`;
	cells[8].textContent = age(r.age_s);
}
