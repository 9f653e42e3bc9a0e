// SPDX-License-Identifier: Apache-2.0
// What the page asks its own server, and nobody else: with the key where there is one.

export const key = {
	get: () => sessionStorage.getItem("bobbin.key") ?? "",
	set: (value) => sessionStorage.setItem("bobbin.key", value),
};

/** Asks a path of this server; a body makes it a POST. */
export function ask(path, body, signal) {
	const headers = {};
	if (key.get() !== "") {
		headers.Authorization = `Bearer ${key.get()}`;
	}
	if (body !== undefined) {
		headers["Content-Type"] = "application/json";
	}
	return fetch(path, { method: body === undefined ? "GET" : "POST", headers, signal,
		body: body === undefined ? undefined : JSON.stringify(body), credentials: "omit", redirect: "error" });
}

/** Why a reply is a refusal, as one sentence. */
export async function reasonOf(answer) {
	const text = await answer.text();
	try {
		return JSON.parse(text).error.message;
	} catch {
		return text.slice(0, 400) || `status ${answer.status}`;
	}
}

/** The objects of a stream of server-sent events, up to its [DONE]. */
export async function* eventsOf(answer) {
	const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
	let held = "";
	try {
		for (;;) {
			const { done, value } = await reader.read();
			if (done) {
				throw new Error("the answer was cut off");
			}
			held += value;
			const lines = held.split(/\r?\n/);
			held = lines.pop();
			for (const line of lines) {
				const data = /^data: ?(.*)$/.exec(line);
				if (data && data[1] === "[DONE]") {
					return;
				}
				if (data) {
					yield JSON.parse(data[1]);
				}
			}
		}
	} finally {
		reader.cancel().catch(() => {}); // the server sees that nobody reads on
	}
}
