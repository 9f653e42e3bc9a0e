// SPDX-License-Identifier: Apache-2.0
// Markdown to nodes. What a model writes only ever becomes text nodes and a few attributes that are
// set here, so it can't become markup. Images are links, since nothing is loaded from elsewhere.

/** A new element: `props` are its properties, `children` nodes or strings. */
export function make(tag, props = {}, ...children) {
	const node = Object.assign(document.createElement(tag), props);
	node.append(...children);
	return node;
}

// Each takes a time linear in the line's length: no two parts of one that follow each other can match the same.
const FENCE = /^( {0,3})(`{3,}(?!`)|~{3,}(?!~))([^`]*)$/;
const HEADING = /^ {0,3}(#{1,6})\s(.*)$/s;
const RULE = /^ {0,3}([-*_])(?:\s*\1){2,}\s*$/;
const ITEM = /^(\s*)([-*+]|\d{1,9}[.)])\s+(.*)$/;
const TABLE_RULE = /^(?:\|\s*)?:?-+:?\s*(?:\|\s*:?-+:?\s*)*\|?$/; // of a line that is trimmed
const MOST_DEPTH = 12; // of quotes and lists in each other

/** Cuts a text into blocks: {kind, lines, ...}. A block depends only on lines up to its end. */
export function blocksOf(text) {
	const lines = text.split("\n"), blocks = [];
	for (let i = 0; i < lines.length;) {
		const from = i, fence = FENCE.exec(lines[i]);
		if (lines[i].trim() === "") {
			i++;
			continue;
		}
		if (fence) {
			const end = new RegExp(`^ {0,3}${fence[2][0] === "`" ? "`" : "~"}{${fence[2].length},}\\s*$`);
			for (i++; i < lines.length && !end.test(lines[i]); i++);
			blocks.push({ kind: "code", language: fence[3].trim().split(/\s/)[0],
				lines: lines.slice(from + 1, i), isOpen: i === lines.length });
			i++;
		} else if (HEADING.test(lines[i]) || RULE.test(lines[i])) {
			blocks.push({ kind: RULE.test(lines[i]) ? "rule" : "heading", lines: [lines[i++]] });
		} else if (/^ {0,3}>/.test(lines[i])) {
			for (; i < lines.length && /^ {0,3}>/.test(lines[i]); i++);
			blocks.push({ kind: "quote", lines: lines.slice(from, i).map((l) => l.replace(/^ {0,3}> ?/, "")) });
		} else if (ITEM.test(lines[i])) {
			i = endOfList(lines, i);
			blocks.push({ kind: "list", lines: lines.slice(from, i) });
		} else if (lines[i].includes("|") && TABLE_RULE.test(lines[i + 1]?.trim() ?? "")) {
			for (i += 2; i < lines.length && lines[i].includes("|"); i++);
			blocks.push({ kind: "table", lines: lines.slice(from, i) });
		} else {
			for (i++; i < lines.length && !startsBlock(lines, i); i++);
			blocks.push({ kind: "paragraph", lines: lines.slice(from, i) });
		}
	}
	return blocks;
}

/* A heading's text without the #s that may close it. */
function withoutMarks(text) {
	let end = text.trimEnd().length;
	while (end > 0 && text[end - 1] === "#") {
		end--;
	}
	return text.slice(0, end).trim();
}

function startsBlock(lines, i) {
	return lines[i].trim() === "" || FENCE.test(lines[i]) || HEADING.test(lines[i]) || RULE.test(lines[i]) ||
		/^ {0,3}>/.test(lines[i]) || ITEM.test(lines[i]);
}

/* Items, what is indented below them, and empty lines between these. */
function endOfList(lines, i) {
	let end = i + 1, fence = null;
	for (i++; i < lines.length; i++) {
		const mark = /^\s*(`{3,}|~{3,})/.exec(lines[i]);
		if (mark && (fence === null || mark[1].startsWith(fence))) {
			fence = fence === null ? mark[1] : null;
		}
		const isEmpty = lines[i].trim() === "";
		const goesOn = fence !== null || mark || ITEM.test(lines[i]) || /^\s{2,}\S/.test(lines[i]) ||
			(!isEmpty && lines[i - 1].trim() !== "" && !startsBlock(lines, i));
		if (!isEmpty && !goesOn) {
			break;
		}
		end = isEmpty && fence === null ? end : i + 1;
	}
	return end;
}

function codeNode(block) {
	const code = make("code", { textContent: block.lines.join("\n") });
	const button = make("button", { type: "button", className: "copy", textContent: "Copy" });
	button.addEventListener("click", () => copyText(code.textContent, button));
	const pre = make("pre", { tabIndex: 0 }, code);
	pre.setAttribute("aria-label", `Code${block.language ? `, ${block.language}` : ""}`);
	return make("div", { className: "code" },
		make("div", { className: "bar" }, make("span", { textContent: block.language || "text" }), button), pre);
}

/** To the clipboard, by a selection where a page without TLS has no other way; the button says so. */
export async function copyText(text, button) {
	let done = true;
	try {
		await navigator.clipboard.writeText(text);
	} catch {
		const area = make("textarea", { value: text, className: "unseen" });
		document.body.append(area);
		area.select();
		done = document.execCommand("copy");
		area.remove();
		button.focus();
	}
	const label = button.textContent;
	button.textContent = done ? "Copied" : "Failed";
	button.disabled = true;
	setTimeout(() => {
		button.textContent = label;
		button.disabled = false;
	}, 1200);
}

function listNode(lines, depth) {
	const first = ITEM.exec(lines[0]), isOrdered = /\d/.test(first[2]);
	const list = make(isOrdered ? "ol" : "ul"), items = [];
	if (isOrdered && parseInt(first[2], 10) !== 1) {
		list.start = parseInt(first[2], 10);
	}
	let inset = 0, fence = false;
	for (const line of lines) {
		const item = ITEM.exec(line);
		if (item && !fence && item[1].length <= first[1].length + 1) {
			items.push([item[3]]);
			inset = line.length - item[3].length;
		} else {
			items.at(-1).push(line.slice(0, inset).trim() === "" ? line.slice(inset) : line.trimStart());
		}
		fence = /^\s*(`{3,}|~{3,})/.test(item ? item[3] : line) ? !fence : fence;
	}
	for (const rows of items) {
		const inner = blocksOf(rows.join("\n")), li = make("li");
		for (const block of inner) { // a tight item has no paragraph of its own
			li.append(...(block.kind === "paragraph" && !rows.includes("") ? inline(block.lines.join("\n"))
				: [nodeOf(block, depth + 1)]));
		}
		list.append(li);
	}
	return list;
}

function cellsOf(line) {
	const cells = [];
	let cell = "", inCode = false;
	for (const [i, c] of [...line.trim().replace(/^\||\|$/g, "")].entries()) {
		inCode = c === "`" ? !inCode : inCode;
		if (c === "|" && !inCode && line.trim().replace(/^\||\|$/g, "")[i - 1] !== "\\") {
			cells.push(cell);
			cell = "";
		} else {
			cell += c;
		}
	}
	return [...cells, cell].map((c) => c.replaceAll("\\|", "|").trim());
}

function tableNode(lines) {
	const head = cellsOf(lines[0]);
	const sides = cellsOf(lines[1]).map((c) => (/^:-+:$/.test(c) ? "center" : /-:$/.test(c) ? "right" : ""));
	const row = (tag, cells) => make("tr", {}, ...head.map((_, i) => {
		const cell = make(tag, { className: sides[i] ?? "" }, ...inline(cells[i] ?? ""));
		return cell;
	}));
	const table = make("table", {}, make("thead", {}, row("th", head)),
		make("tbody", {}, ...lines.slice(2).map((l) => row("td", cellsOf(l)))));
	return make("div", { className: "wide", tabIndex: 0 }, table);
}

export function nodeOf(block, depth = 0) {
	if (depth > MOST_DEPTH) {
		return make("p", { textContent: block.lines.join("\n") });
	}
	switch (block.kind) {
	case "code":
		return codeNode(block);
	case "rule":
		return make("hr");
	case "heading": { // the page has the first two levels
		const [, marks, text] = HEADING.exec(block.lines[0]);
		return make(`h${Math.min(marks.length + 2, 6)}`, {}, ...inline(withoutMarks(text)));
	}
	case "quote":
		return make("blockquote", {}, ...blocksOf(block.lines.join("\n")).map((b) => nodeOf(b, depth + 1)));
	case "list":
		return listNode(block.lines, depth);
	case "table":
		return tableNode(block.lines);
	default:
		return make("p", {}, ...inline(block.lines.join("\n")));
	}
}

/* One alternative a kind; each can't run over more than its paragraph. */
const INLINE = new RegExp([
	"\\\\([!-/:-@[-`{-~])",                                       // 1 an escaped mark
	"(`+)(?!`)(.+?)(?<!`)\\2(?!`)",                               // 2, 3 code
	"!?\\[([^\\[\\]\\n]*)\\]\\(<?([^\\s()<>]*(?:\\([^\\s()]*\\)[^\\s()<>]*)*)>?(?:\\s+\"[^\"]*\")?\\)", // 4, 5 link
	"(https?:\\/\\/[^\\s<>\"'`]*[^\\s<>\"'`.,;:!?)\\]}*_~])",     // 6 an address
	"(\\*\\*|__)(?=\\S)([^\\n]+?)(?<=\\S)\\7",                    // 7, 8 strong
	"~~(?=\\S)([^\\n]+?)(?<=\\S)~~",                              // 9 struck
	"\\*(?=[^\\s*])([^*\\n]*?[^\\s*])\\*",                        // 10 emphasis
	"(?<![\\p{L}\\p{N}_])_(?=[^\\s_])([^_\\n]*?[^\\s_])_(?![\\p{L}\\p{N}_])", // 11 emphasis
	"( {2,}|\\\\)\\n",                                            // 12 a line's end
].join("|"), "gu");
const MOST_INLINE = 5000; // characters of a paragraph in which marks are looked for

/** Nodes and strings of a paragraph. */
export function inline(text, depth = 0) {
	if (depth > MOST_DEPTH || text.length > MOST_INLINE) {
		return [text];
	}
	const out = [];
	let at = 0;
	for (const m of text.matchAll(INLINE)) {
		out.push(text.slice(at, m.index));
		at = m.index + m[0].length;
		if (m[1] !== undefined) {
			out.push(m[1]);
		} else if (m[3] !== undefined) {
			out.push(make("code", { textContent: m[3].replace(/^ (.*[^ ].*) $/, "$1") }));
		} else if (m[5] !== undefined) {
			out.push(linkNode(m[5], inline(m[4] || m[5], depth + 1)));
		} else if (m[6] !== undefined) {
			out.push(linkNode(m[6], [m[6]]));
		} else if (m[12] !== undefined) {
			out.push(make("br"));
		} else {
			const tag = m[8] !== undefined ? "strong" : m[9] !== undefined ? "del" : "em";
			out.push(make(tag, {}, ...inline(m[8] ?? m[9] ?? m[10] ?? m[11], depth + 1)));
		}
	}
	out.push(text.slice(at));
	return out.filter((part) => part !== "");
}

/* Only where a click is harmless; anything else is shown as its text. */
function linkNode(address, children) {
	let url;
	try {
		url = new URL(address);
	} catch {
		return make("span", {}, ...children);
	}
	if (!["http:", "https:", "mailto:"].includes(url.protocol)) {
		return make("span", {}, ...children);
	}
	return make("a", { href: url.href, target: "_blank", rel: "noopener noreferrer nofollow", title: url.href },
		...children);
}

/** Shows a text in `box`, and keeps the nodes of blocks that are as they were. */
export function render(box, text, asMarkdown) {
	const blocks = asMarkdown ? blocksOf(text) : [{ kind: "plain", lines: [text] }];
	const had = box.sources ?? [], sources = [];
	blocks.forEach((block, i) => {
		const source = `${block.kind} ${block.language ?? ""}\n${block.lines.join("\n")}`, old = box.children[i];
		sources.push(source);
		if (old && had[i] === source) {
			return;
		}
		if (block.kind === "plain" && old?.className === "plain") {
			grow(old, text);
			return;
		}
		const code = old?.querySelector(":scope > pre > code");
		if (block.kind === "code" && code && had[i].startsWith(`code ${block.language}\n`)) {
			grow(code, block.lines.join("\n"));
			return;
		}
		const node = block.kind === "plain" ? make("p", { className: "plain", textContent: text }) : nodeOf(block);
		if (old) {
			old.replaceWith(node);
		} else {
			box.append(node);
		}
	});
	while (box.children.length > blocks.length) {
		box.lastElementChild.remove();
	}
	box.sources = sources;
}

/* A selection in what is there already stays, and so does the place it is scrolled to. */
function grow(node, text) {
	const had = node.textContent;
	if (had !== "" && text.startsWith(had)) {
		node.lastChild.appendData(text.slice(had.length));
	} else {
		node.textContent = text;
	}
}
