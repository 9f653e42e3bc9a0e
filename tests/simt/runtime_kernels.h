/* SPDX-License-Identifier: Apache-2.0
 *
 * Launchers of the stand-in runtime's test. */
#ifndef RUNTIME_KERNELS_H
#define RUNTIME_KERNELS_H

#include "../../kernels/simt/runtime.h"

#ifdef __cplusplus
extern "C" {
#endif
void launch_add(int *p, int v, int n, cudaStream_t stream); /* p[n] += v */
void launch_dyn(int *p, size_t smem, cudaStream_t stream);
cudaError_t allow_dyn(size_t smem);
void launch_stray(int *p, cudaStream_t stream);
#ifdef __cplusplus
}
#endif
#endif
