// SPDX-License-Identifier: Apache-2.0
// Before anything is drawn: the colours that were chosen last time.
"use strict";
try {
	const theme = localStorage.getItem("bobbin.theme");
	if (theme === "light" || theme === "dark") {
		document.documentElement.dataset.theme = theme;
	}
} catch { /* a browser that keeps nothing: as the system has it */ }
