/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* By what a copy is known on its way: enum mirroring_mark, in skb->cb. */
#ifndef MARK_H
#define MARK_H

#include <stdbool.h>

#include "kernel.h"
#include "mirroring.h"

static __always_inline bool is_copy(const struct __sk_buff *skb)
{
	return skb->cb[0] == MIRRORING_MARK_0 && skb->cb[1] == MIRRORING_MARK_1;
}

/* Whatever is cloned of the packet from here on is a copy. */
static __always_inline void mark(struct __sk_buff *skb)
{
	skb->cb[0] = MIRRORING_MARK_0;
	skb->cb[1] = MIRRORING_MARK_1;
}

#endif /* MARK_H */
