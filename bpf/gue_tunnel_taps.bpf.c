/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The built-in tunnel for kernels with BTF: tcpdump on its device shows the copies. */
#define WITH_TAPS
#include "gue_tunnel.bpf.c"
