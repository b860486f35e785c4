/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What is never mirrored: packets of the tunnels of this host's instances. */
#ifndef GUARD_BPF_H
#define GUARD_BPF_H

#include "mirroring.h"
#include "mirroring_maps.bpf.h"
#include "parse.h"

/* Where a packet goes or, of an ICMP error, the packet that it is about. */
struct destination {
	__be32 address;
	__be16 port;
	__u8 protocol; /* IPPROTO_* */
	bool any_port; /* the port is not known */
};

/* The protocols of the outer headers that tunnel devices make: others lead to no endpoint. */
static __always_inline bool is_tunnels(__u8 protocol)
{
	return protocol == IPPROTO_UDP || protocol == IPPROTO_GRE || protocol == IPPROTO_IPIP ||
	       protocol == IPPROTO_IPV6;
}

/* False where the packet is no ICMP error, or does not say what it is about. */
static __always_inline bool error_about(struct __sk_buff *skb, const struct packet *packet,
					struct destination *about)
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

/*
 * Whether the packet is a copy on its way, or an ICMP error about one, whoever sends that: mirroring
 * it would make the next one, without end.
 */
static __always_inline bool guarded(struct __sk_buff *skb, const struct packet *packet)
{
	struct destination to = {
		.address = packet->dst[0],
		.port = bpf_htons(packet->dst_port),
		.protocol = packet->protocol,
		/* a later fragment to a collector may be a copy's: take it for one */
		.any_port = packet->ports == PORTS_UNKNOWN,
	};

	if (skb->cb[0] == MIRRORING_MARK_0 && skb->cb[1] == MIRRORING_MARK_1)
		return true;
	/* every far end of a tunnel has an IPv4 address */
	if (packet->is_ipv6)
		return false;
	if (packet->protocol == IPPROTO_ICMP && !error_about(skb, packet, &to))
		return false;
	if (!is_tunnels(to.protocol))
		return false;
	for (__u32 i = 0; i < MIRRORING_ENDPOINTS; i++) {
		__u32 key = i;
		const struct mirroring_endpoint *endpoint =
			bpf_map_lookup_elem(&MAP(endpoints), &key);

		if (!endpoint || !endpoint->protocol)
			return false;
		if (endpoint->address == to.address && endpoint->protocol == to.protocol &&
		    (to.protocol != IPPROTO_UDP || to.any_port || endpoint->port == to.port))
			return true;
	}
	return false;
}

#endif /* GUARD_BPF_H */
