/* SPDX-License-Identifier: Apache-2.0
 *
 * GET / and /web/...: the page for people. It asks this server for the rest, with the key that its
 * user gives, so it is open itself. */
#include "page.h"

#include "exchange.h"
#include "routes.h"

#include <string.h>

/* Only what comes from here, no script or style in the markup, in nobody's frame. */
static const char policy[] = "default-src 'none'; script-src 'self'; style-src 'self'; "
	"img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
	"frame-ancestors 'none'";

static const struct {
	const char *path, *type, *text;
} assets[] = {
	{ "/", "text/html; charset=utf-8", web_index_html },
	{ "/web/style.css", "text/css; charset=utf-8", web_style_css },
	{ "/web/icon.svg", "image/svg+xml", web_icon_svg },
	/* what browsers ask for beside other replies */
	{ "/favicon.ico", "image/svg+xml", web_icon_svg },
	{ "/web/theme.js", "text/javascript; charset=utf-8", web_theme_js },
	{ "/web/api.js", "text/javascript; charset=utf-8", web_api_js },
	{ "/web/chat.js", "text/javascript; charset=utf-8", web_chat_js },
	{ "/web/effort.js", "text/javascript; charset=utf-8", web_effort_js },
	{ "/web/loads.js", "text/javascript; charset=utf-8", web_loads_js },
	{ "/web/main.js", "text/javascript; charset=utf-8", web_main_js },
	{ "/web/markdown.js", "text/javascript; charset=utf-8", web_markdown_js },
};

void page_handle(struct exchange *x) {
	for (size_t i = 0; i < sizeof(assets) / sizeof(assets[0]); i++) {
		if (strcmp(x->path, assets[i].path) == 0) {
			reply_text(x, 200, assets[i].type, assets[i].text);
			x->policy = policy;
			return;
		}
	}
	reply_error(x, 404, NULL, "not_found", "there is nothing at '%.200s'", x->path);
}
