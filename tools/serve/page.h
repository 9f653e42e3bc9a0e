/* SPDX-License-Identifier: Apache-2.0
 *
 * The files of tools/web, which are a part of the program. */
#ifndef PAGE_H
#define PAGE_H

extern const char web_index_html[], web_style_css[], web_icon_svg[], web_theme_js[], web_api_js[],
	web_chat_js[], web_effort_js[], web_loads_js[], web_main_js[], web_markdown_js[];

#endif
