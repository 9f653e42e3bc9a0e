/* SPDX-License-Identifier: Apache-2.0
 *
 * Bytes as text, RFC 4648, section 4. */
#ifndef BASE64_H
#define BASE64_H

#include "buf.h"

/* data [bytes], appended with padding. */
void base64_encode(struct buf *out, const void *data, size_t bytes);
/* The bytes of text [n], appended. False: it isn't base64 with padding and nothing else. */
bool base64_decode(struct buf *out, const char *text, size_t n);

#endif
