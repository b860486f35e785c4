/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Whether packet sockets (tcpdump) listen on the device that a packet is on. The kernel's own structs say so. Reading
 * them needs the kernel's BTF, and Linux 6.2 or later for bpf_cast_to_kern_ctx.
 */
#ifndef TAPS_BPF_H
#define TAPS_BPF_H

#include <linux/bpf.h>
#include <stdbool.h>

#include <bpf/bpf_helpers.h>

#ifdef WITH_TAPS

/* The members of kernel structs that are read here. libbpf adjusts their offsets to the running kernel. */
struct list_head {
	struct list_head *next;
} __attribute__((preserve_access_index));

struct net_device {
	struct list_head ptype_all;
} __attribute__((preserve_access_index));

struct sk_buff {
	struct net_device *dev;
} __attribute__((preserve_access_index));

extern void *bpf_cast_to_kern_ctx(void *ctx) __ksym __weak;

static __always_inline bool is_tapped(struct __sk_buff *ctx)
{
	const struct list_head *sockets;
	const struct sk_buff *skb;

	if (!bpf_cast_to_kern_ctx)
		return false;
	skb = bpf_cast_to_kern_ctx(ctx);
	sockets = &skb->dev->ptype_all;
	return sockets->next != sockets;
}

#else

static __always_inline bool is_tapped(struct __sk_buff *ctx)
{
	(void)ctx;
	return false;
}

#endif

#endif /* TAPS_BPF_H */
