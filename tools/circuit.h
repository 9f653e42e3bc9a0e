/* SPDX-License-Identifier: Apache-2.0
 *
 * Prompts for models of the kind circuit. */
#ifndef CIRCUIT_H
#define CIRCUIT_H

#include "bobbin.h"

/* Prints the ids that ask a model of so many bits for the gates of the circuit in the JSON file
 * `path`, with a digit 0 or 1 for each input in `values`; to stderr what the answer's ids mean, and
 * which models it is for. */
bool circuit_print(const char *path, const char *values, int bits, struct bb_error *err);

#endif
