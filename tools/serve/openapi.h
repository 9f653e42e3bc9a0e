/* SPDX-License-Identifier: Apache-2.0
 *
 * tools/serve/openapi.json, made a part of the program by the build. */
#ifndef OPENAPI_H
#define OPENAPI_H

extern const char openapi_text[];

#endif
