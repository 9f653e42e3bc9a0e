// SPDX-License-Identifier: Apache-2.0
// The page's frame: views, settings, theme, keys.
import { ask, key } from "./api.js";
import { Chat } from "./chat.js";
import { Loads } from "./loads.js";

const $ = (id) => document.getElementById(id);
const keep = (name, value) => {
	try {
		localStorage.setItem(`bobbin.${name}`, value);
	} catch { /* then it lasts as long as the page */ }
};

/* ---- settings ---- */

const NUMBERS = ["temperature", "top_p", "top_k", "min_p", "repetition_penalty", "presence_penalty",
	"frequency_penalty", "seed", "max_tokens", "thinking_token_budget", "min_thinking_tokens"];
const SETTLED = 0.95; // the probability at which a vote is
const form = $("settings-form");

/* What the settings of effort are as fields of a request. */
function readEffort(fields) {
	const named = (name) => form.elements[name].value.trim(), effort = {}, answers = form.elements.best_of;
	if (named("reasoning_effort") !== "") {
		fields.reasoning_effort = named("reasoning_effort");
	}
	if (named("think_end") !== "") {
		effort.think_end = named("think_end");
	}
	if (answers.valueAsNumber > 1 && answers.validity.valid) {
		const choice = named("choice");
		fields.best_of = answers.valueAsNumber;
		effort.choice = choice === "consensus" ? "vote" : choice;
		if (choice === "consensus") {
			effort.consensus = SETTLED;
		}
		if (choice !== "certainty" || named("answer_pattern") !== "") {
			effort.answer_pattern = named("answer_pattern") || "line";
		}
	}
	if (Object.keys(effort).length > 0) {
		fields.effort = effort;
	}
}

const settings = {
	read() {
		const sampling = {};
		for (const name of NUMBERS) {
			const input = form.elements[name];
			if (input.value !== "" && input.validity.valid) {
				sampling[name] = input.valueAsNumber;
			}
		}
		if (form.elements.thinking.value !== "") {
			sampling.chat_template_kwargs = { enable_thinking: form.elements.thinking.value === "on" };
		}
		readEffort(sampling);
		return { sampling, system: $("system").value.trim(), markdown: form.elements.markdown.checked,
			showThinking: form.elements.show_thinking.checked };
	},
	load() {
		try {
			const kept = JSON.parse(localStorage.getItem("bobbin.settings") ?? "{}");
			for (const input of form.elements) {
				const value = kept[input.name || input.id];
				if (input.type === "checkbox" && typeof value === "boolean") {
					input.checked = value;
				} else if (input.type !== "checkbox" && input.id !== "key" && typeof value === "string") {
					input.value = value;
				}
			}
		} catch { /* as they are */ }
		$("key").value = key.get();
	},
	save() {
		const all = {};
		for (const input of form.elements) {
			if (input.id !== "key" && (input.name || input.id)) {
				all[input.name || input.id] = input.type === "checkbox" ? input.checked : input.value;
			}
		}
		keep("settings", JSON.stringify(all));
	},
};

function showSettings(isShown, focus) {
	$("settings").hidden = !isShown;
	$("open-settings").setAttribute("aria-expanded", String(isShown));
	(isShown ? focus ?? $("system") : $("open-settings")).focus();
}

/* ---- theme ---- */

const THEMES = ["auto", "light", "dark"];

function setTheme(theme) {
	if (theme === "auto") {
		delete document.documentElement.dataset.theme;
	} else {
		document.documentElement.dataset.theme = theme;
	}
	$("theme").textContent = { auto: "Auto", light: "Light", dark: "Dark" }[theme];
	$("theme").setAttribute("aria-label", `Colours: ${theme}`);
	keep("theme", theme);
}

function nextTheme() {
	const now = document.documentElement.dataset.theme ?? "auto";
	setTheme(THEMES[(THEMES.indexOf(now) + 1) % THEMES.length]);
}

/* ---- views ---- */

const loads = new Loads();

function showView(name) {
	for (const tab of $("tabs").children) {
		const isIt = tab.id === `tab-${name}`;
		tab.setAttribute("aria-selected", String(isIt));
		tab.tabIndex = isIt ? 0 : -1;
		$(tab.getAttribute("aria-controls")).hidden = !isIt;
	}
	if (name === "loads") {
		loads.show();
	} else {
		loads.hide();
	}
}

$("tabs").addEventListener("click", (e) => {
	const tab = e.target.closest("[role=tab]");
	if (tab) {
		showView(tab.id.slice(4));
	}
});
$("tabs").addEventListener("keydown", (e) => {
	if (["ArrowLeft", "ArrowRight", "Home", "End"].includes(e.key)) {
		e.preventDefault();
		const other = [...$("tabs").children].find((tab) => tab.tabIndex !== 0);
		showView(other.id.slice(4));
		other.focus();
	}
});

/* ---- the model's name ---- */

async function showModel() {
	try {
		const answer = await ask("/v1/models");
		if (answer.status === 401) {
			wantKey();
			return;
		}
		const model = (await answer.json()).data[0];
		$("model").textContent = `${model.id} · ${model.max_model_len.toLocaleString("en")} tokens`;
		document.title = `${model.id} · bobbin`;
	} catch {
		$("model").textContent = "The server can't be reached";
	}
}

function wantKey() {
	$("model").textContent = key.get() === "" ? "This server wants a key" : "This key was not accepted";
	showSettings(true, $("key"));
}

/* ---- the message ---- */

settings.load();
setTheme(document.documentElement.dataset.theme ?? "auto");
const chat = new Chat(settings, wantKey), prompt = $("prompt");

function fitPrompt() {
	prompt.style.height = "auto";
	prompt.style.height = `${prompt.scrollHeight + 2}px`;
}

function send() {
	if (chat.send(prompt.value)) {
		prompt.value = "";
		fitPrompt();
	}
}

prompt.addEventListener("input", fitPrompt);
prompt.addEventListener("keydown", (e) => {
	if (e.key === "Enter" && !e.shiftKey && !e.isComposing) {
		e.preventDefault();
		send();
	}
});
$("composer").addEventListener("submit", (e) => {
	e.preventDefault();
	send();
	prompt.focus();
});
$("stop").addEventListener("click", () => {
	chat.stop();
	prompt.focus();
});
document.addEventListener("keydown", (e) => {
	if (e.key !== "Escape") {
		return;
	}
	if (chat.isRunning) {
		chat.stop();
		prompt.focus();
	} else if (!$("settings").hidden) {
		showSettings(false);
	}
});
$("new").addEventListener("click", () => {
	if (chat.messages.length === 0 || confirm("Forget this conversation?")) {
		chat.clear();
		showView("chat");
		prompt.focus();
	}
});
$("theme").addEventListener("click", nextTheme);
$("open-settings").addEventListener("click", () => showSettings($("settings").hidden));
$("close-settings").addEventListener("click", () => showSettings(false));
form.addEventListener("submit", (e) => e.preventDefault());
form.addEventListener("change", (e) => {
	settings.save();
	if (e.target.id === "key") {
		key.set(e.target.value);
		showModel();
	} else if (e.target.name === "markdown") {
		chat.redraw();
	}
});
addEventListener("beforeunload", () => {
	chat.stop();
	chat.save();
});
showModel();
if (matchMedia("(min-width: 46rem)").matches) {
	prompt.focus(); // a phone's keyboard would cover the page
}
