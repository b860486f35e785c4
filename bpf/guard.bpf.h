/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What is never mirrored: packets of the tunnels of this host's instances. */
#ifndef GUARD_BPF_H
#define GUARD_BPF_H

#include "mirroring.h"
#include "mirroring_maps.bpf.h"
#include "parse.h"

/* The protocols of the outer headers that tunnel devices make: others lead to no endpoint. */
static __always_inline bool is_tunnels(__u8 protocol)
{
	return protocol == IPPROTO_UDP || protocol == IPPROTO_GRE || protocol == IPPROTO_IPIP ||
	       protocol == IPPROTO_IPV6;
}

/* Where the packet that an ICMP error is about went; false where the packet is none, or does not say. */
static __always_inline bool error_about(struct __sk_buff *skb, const struct packet *packet,
					struct mirroring_endpoint *about)
{
	struct {
		__u8 icmp[8];
		struct iphdr ip;
	} copy;
	struct port_pair ports_copy;
	const struct port_pair *ports;
	const struct iphdr *ip;
	const __u8 *icmp;
	__u32 about_len;

	icmp = header(skb, packet->l4_offset, &copy, sizeof(copy));
	if (!icmp)
		return false;
	switch (icmp[0]) {
	case 3: /* destination unreachable (RFC 792, as those below) */
	case 4: /* source quench */
	case 5: /* redirect */
	case 11: /* time exceeded */
	case 12: /* parameter problem */
		break;
	default:
		return false;
	}
	ip = (const struct iphdr *)(icmp + sizeof(copy.icmp));
	about_len = ip->ihl * 4;
	about->address = ip->daddr;
	about->protocol = ip->protocol;
	if (ip->protocol != IPPROTO_UDP)
		return true;
	ports = header(skb, packet->l4_offset + sizeof(copy.icmp) + about_len, &ports_copy,
		       sizeof(ports_copy));
	if (!ports)
		return false;
	about->port = ports->dst;
	return true;
}

/* Whether it is in the list; with a port of 0, which is no tunnel's, on whatever port. */
static __always_inline bool is_endpoint(const struct mirroring_endpoint *to)
{
	const struct mirroring_endpoints *endpoints = only_entry(&MAP(endpoints));
	struct mirroring_endpoint what = {.address = -1, .protocol = -1};
	__u64 wanted, mask;

	if (!endpoints)
		return false;
	if (to->port)
		what.port = -1;
	__builtin_memcpy(&wanted, to, sizeof(wanted));
	__builtin_memcpy(&mask, &what, sizeof(mask));
	for (int i = 0; i < MIRRORING_ENDPOINTS; i++) {
		__u64 endpoint = *(const __u64 *)&endpoints->list[i];

		if (!endpoint)
			return false;
		if (!((endpoint ^ wanted) & mask))
			return true;
	}
	return false;
}

/*
 * Whether the packet is a copy on its way, or an ICMP error about one, whoever sends that: mirroring
 * it would make the next one, without end. A later fragment to a collector, whose port nobody knows,
 * may be a copy's: it is taken for one.
 */
static __always_inline bool guarded(struct __sk_buff *skb, const struct packet *packet)
{
	struct mirroring_endpoint to = {.address = packet->dst[0], .protocol = packet->protocol};

	if (skb->cb[0] == MIRRORING_MARK_0 && skb->cb[1] == MIRRORING_MARK_1)
		return true;
	/* every far end of a tunnel has an IPv4 address */
	if (packet->is_ipv6)
		return false;
	if (packet->protocol == IPPROTO_UDP)
		to.port = bpf_htons(packet->dst_port);
	else if (packet->protocol == IPPROTO_ICMP && !error_about(skb, packet, &to))
		return false;
	return is_tunnels(to.protocol) && is_endpoint(&to);
}

#endif /* GUARD_BPF_H */
