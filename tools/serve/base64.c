/* SPDX-License-Identifier: Apache-2.0
 *
 * Three bytes are four letters. */
#include "base64.h"

#include <stdint.h>

static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void base64_encode(struct buf *out, const void *data, size_t bytes) {
	const unsigned char *in = data;
	for (size_t i = 0; i < bytes; i += 3) {
		const unsigned b = (unsigned)in[i] << 16 | (i + 1 < bytes ? (unsigned)in[i + 1] : 0) << 8 |
			(i + 2 < bytes ? in[i + 2] : 0);
		const char four[4] = { letters[b >> 18], letters[b >> 12 & 63],
			i + 1 < bytes ? letters[b >> 6 & 63] : '=', i + 2 < bytes ? letters[b & 63] : '=' };
		buf_add(out, four, 4);
	}
}

static int value_of(char c) {
	return c >= 'A' && c <= 'Z' ? c - 'A' : c >= 'a' && c <= 'z' ? c - 'a' + 26
		: c >= '0' && c <= '9' ? c - '0' + 52 : c == '+' ? 62 : c == '/' ? 63 : -1;
}

bool base64_decode(struct buf *out, const char *text, size_t n) {
	const size_t n_pad = n >= 2 && text[n - 1] == '=' ? 1 + (text[n - 2] == '=') : 0;
	if (n % 4 != 0) {
		return false;
	}
	for (size_t i = 0; i < n; i += 4) {
		const size_t n_here = i + 4 == n ? 4 - n_pad : 4;
		uint32_t b = 0;
		for (size_t k = 0; k < 4; k++) {
			const int v = k < n_here ? value_of(text[i + k]) : 0;
			if (v < 0) {
				return false;
			}
			b = b << 6 | (uint32_t)v;
		}
		const char three[3] = { (char)(b >> 16), (char)(b >> 8), (char)b };
		buf_add(out, three, n_here - 1);
	}
	return true;
}
