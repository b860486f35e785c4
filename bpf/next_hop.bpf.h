/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Whether the link-layer address of the next hop is known.
 *
 * While it is not, the kernel keeps packets to that next hop in one short queue (net.ipv4.neigh.*.unres_qlen_bytes).
 * When the queue is full, the kernel drops the oldest packet. Production packets may have the same next hop, so copies
 * must not fill the queue.
 */
#ifndef NEXT_HOP_BPF_H
#define NEXT_HOP_BPF_H

#include <stdbool.h>

#include "gue.h"
#include "kernel.h"

enum {
	FAMILY_IPV4 = 2, /* AF_INET */
	FAMILY_IPV6 = 10, /* AF_INET6 */
	NSEC_PER_SEC = 1000000000,
	/* longest copy that may ask, from Ethernet on: the queue counts bytes */
	LONGEST_ASKING = 2048,
};

/* When the last copy was sent to an unresolved next hop: ns since boot (bpf_ktime_get_ns). */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} gue_asked SEC(".maps");

/*
 * Looks up the route as for a packet that came in by the tunnel device. This needs forwarding to be enabled on that
 * device, and on no other. If the look-up does not find this next hop at this NIC (forwarding is off, or the routes
 * lead elsewhere), the next hop counts as resolved.
 */
static __always_inline bool is_unresolved(struct __sk_buff *skb,
					  const struct gue_template *template)
{
	const __be32 *hop = template->next_hop;
	struct bpf_fib_lookup lookup;

	__builtin_memset(&lookup, 0, sizeof(lookup));
	lookup.ifindex = template->tunnel_ifindex;
	if (template->is_ipv6) {
		const struct gue_outer6 *outer = (const struct gue_outer6 *)template->outer;

		lookup.family = FAMILY_IPV6;
		__builtin_memcpy(lookup.ipv6_src, &outer->ip.saddr, sizeof(lookup.ipv6_src));
		/* not the next hop: a link-local address does not say on which link it is */
		__builtin_memcpy(lookup.ipv6_dst, &outer->ip.daddr, sizeof(lookup.ipv6_dst));
	} else {
		const struct gue_outer *outer = (const struct gue_outer *)template->outer;

		lookup.family = FAMILY_IPV4;
		lookup.ipv4_src = outer->ip.saddr;
		lookup.ipv4_dst = hop[0];
	}
	if (bpf_fib_lookup(skb, &lookup, sizeof(lookup), 0) != BPF_FIB_LKUP_RET_NO_NEIGH)
		return false;
	/* before Linux 5.12 the kernel leaves the index as it was in the request */
	if (lookup.ifindex != template->ifindex && lookup.ifindex != template->tunnel_ifindex)
		return false;
	return lookup.ipv6_dst[0] == hop[0] &&
	       (!template->is_ipv6 ||
		(lookup.ipv6_dst[1] == hop[1] && lookup.ipv6_dst[2] == hop[2] &&
		 lookup.ipv6_dst[3] == hop[3]));
}

/*
 * Whether a copy may be sent although the next hop is unresolved. One copy a second may, so that the kernel asks for
 * the link-layer address even if nobody else sends there. It is one of ordinary size, which takes little of the queue.
 */
static __always_inline bool may_ask(const struct __sk_buff *skb)
{
	__u64 now = bpf_ktime_get_ns(), *asked;
	__u32 key = 0;

	if (skb->gso_size || skb->len > LONGEST_ASKING)
		return false;
	asked = bpf_map_lookup_elem(&gue_asked, &key);
	if (!asked || now - *asked < NSEC_PER_SEC)
		return false;
	*asked = now;
	return true;
}

static __always_inline bool has_to_wait(struct __sk_buff *skb, const struct gue_template *template)
{
	/* over the loopback device there is no next hop, and nothing to resolve */
	return template->next_hop[0] && is_unresolved(skb, template) && !may_ask(skb);
}

#endif /* NEXT_HOP_BPF_H */
