/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The mark in skb->cb (enum mirroring_mark) that tells a copy from any other packet. */
#ifndef MARK_H
#define MARK_H

#include <stdbool.h>

#include "kernel.h"
#include "mirroring.h"

static __always_inline bool is_copy(const struct __sk_buff *skb)
{
	return skb->cb[0] == MIRRORING_MARK_0 && skb->cb[1] == MIRRORING_MARK_1;
}

/* Clones made of the packet from here on carry the mark. */
static __always_inline void mark(struct __sk_buff *skb)
{
	skb->cb[0] = MIRRORING_MARK_0;
	skb->cb[1] = MIRRORING_MARK_1;
}

#endif /* MARK_H */
