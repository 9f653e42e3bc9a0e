/* SPDX-License-Identifier: Apache-2.0
 *
 * Checks of attention over paged KV. */
#include "check.h"

CHECK(attention_f32) {
}

CHECK(attention_f16) {
}

CHECK(attention_bf16) {
}

CHECK(attention_int8) {
}
