/* SPDX-License-Identifier: Apache-2.0
 *
 * The answers of bench/tasks: what stands behind "Answer:" to the end of the word or number. */
#ifndef PATTERN_H
#define PATTERN_H

#define ANSWER_PATTERN "(?i)answer:?[\\s*$\\\\({]*(-?[\\w.,]*\\w)"

#endif
