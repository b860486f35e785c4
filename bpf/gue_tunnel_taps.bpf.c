/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The built-in tunnel, for kernels that describe themselves: copies can be seen on its device. */
#define WITH_TAPS
#include "gue_tunnel.bpf.c"
