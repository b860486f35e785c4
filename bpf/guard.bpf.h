/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Prevents mirroring loops: the packets of this host's tunnels are never mirrored. */
#ifndef GUARD_BPF_H
#define GUARD_BPF_H

#include <linux/icmpv6.h>

#include "mark.h"
#include "mirroring.h"
#include "mirroring_maps.bpf.h"
#include "parse.h"

/* Whether tunnel devices send packets of this protocol. Other packets are not looked up in the list. */
static __always_inline bool is_tunnel_protocol(__u8 protocol)
{
	return protocol == IPPROTO_UDP || protocol == IPPROTO_GRE || protocol == IPPROTO_IPIP ||
	       protocol == IPPROTO_IPV6;
}

/* Stores an address as endpoints hold it: an IPv4 address as ::ffff:a.b.c.d. */
static __always_inline void set_address(struct mirroring_endpoint *to, const __be32 *address,
					bool is_ipv6)
{
	if (is_ipv6) {
		__builtin_memcpy(to->address, address, sizeof(to->address));
	} else {
		to->address[2] = bpf_htonl(0xffff);
		to->address[3] = address[0];
	}
}

/* Reads the destination port of the UDP header at `offset`; false if the frame ends before it. */
static __always_inline bool set_port(struct __sk_buff *skb, __u32 offset,
				     struct mirroring_endpoint *to)
{
	struct port_pair ports;

	if (bpf_skb_load_bytes(skb, offset, &ports, sizeof(ports)))
		return false;
	to->port = ports.dst;
	return true;
}

/*
 * linux/icmp.h cannot be included here: it needs sys/socket.h. The names are its names, the values are those
 * of RFC 792.
 */
enum {
	ICMP_DEST_UNREACH = 3,
	ICMP_SOURCE_QUENCH = 4,
	ICMP_REDIRECT = 5,
	ICMP_TIME_EXCEEDED = 11,
	ICMP_PARAMETERPROB = 12,
};

/*
 * An ICMP error quotes the packet that it is about. Stores where that packet went in `target`; false if
 * this is not an ICMP error, or if it quotes too little.
 */
static __always_inline bool icmp_error_target(struct __sk_buff *skb, const struct packet *packet,
					      struct mirroring_endpoint *target)
{
	struct {
		__u8 icmp[8];
		struct iphdr ip;
	} error;

	if (bpf_skb_load_bytes(skb, packet->l4_offset, &error, sizeof(error)))
		return false;
	switch (error.icmp[0]) {
	case ICMP_DEST_UNREACH:
	case ICMP_SOURCE_QUENCH:
	case ICMP_REDIRECT:
	case ICMP_TIME_EXCEEDED:
	case ICMP_PARAMETERPROB:
		break;
	default:
		return false;
	}
	set_address(target, &error.ip.daddr, false);
	target->protocol = error.ip.protocol;
	if (target->protocol != IPPROTO_UDP)
		return true;
	return set_port(skb, packet->l4_offset + sizeof(error.icmp) + error.ip.ihl * 4, target);
}

/*
 * The same for ICMPv6. The quoted packet may be a later fragment, which has no ports: then the port
 * stays 0.
 */
static __always_inline bool icmp6_error_target(struct __sk_buff *skb, const struct packet *packet,
					       struct mirroring_endpoint *target)
{
	struct {
		__u8 icmp[8];
		struct ipv6hdr ip;
	} error;
	__u32 offset = packet->l4_offset + sizeof(error);

	if (bpf_skb_load_bytes(skb, packet->l4_offset, &error, sizeof(error)))
		return false;
	if (error.icmp[0] < ICMPV6_DEST_UNREACH || error.icmp[0] > ICMPV6_PARAMPROB)
		return false;
	set_address(target, error.ip.daddr.in6_u.u6_addr32, true);
	target->protocol = error.ip.nexthdr;
	/* skip a fragment header and the destination option that limits nested tunnels (RFC 2473), or both */
	for (int i = 0; i < 2; i++) {
		struct extension_header extension;
		bool is_fragment = target->protocol == IPPROTO_FRAGMENT;

		if (!is_fragment && target->protocol != IPPROTO_DSTOPTS)
			break;
		if (bpf_skb_load_bytes(skb, offset, &extension, sizeof(extension)))
			return false;
		target->protocol = extension.next;
		if (is_fragment && extension.offset_and_more & bpf_htons(IP6_OFFSET))
			return true;
		offset += is_fragment ? sizeof(extension) : (extension.len + 1) * 8;
	}
	return target->protocol != IPPROTO_UDP || set_port(skb, offset, target);
}

/* Whether an endpoint is in the list. A port of 0, which no tunnel has, stands for any port. */
static __always_inline bool is_endpoint(const struct mirroring_endpoint *to)
{
	const struct mirroring_endpoints *endpoints = lookup_single(&MAP(endpoints));
	struct mirroring_endpoint what;
	__u64 wanted[3], mask;

	if (!endpoints)
		return false;
	__builtin_memset(&what, 0, sizeof(what));
	what.protocol = -1;
	if (to->port)
		what.port = -1;
	__builtin_memcpy(&wanted, to, sizeof(wanted));
	mask = ((const __u64 *)&what)[2];
	for (int i = 0; i < MIRRORING_ENDPOINTS; i++) {
		const __u64 *endpoint = (const __u64 *)&endpoints->list[i];

		if (!endpoint[2])
			return false;
		if (!((endpoint[0] ^ wanted[0]) | (endpoint[1] ^ wanted[1]) |
		      ((endpoint[2] ^ wanted[2]) & mask)))
			return true;
	}
	return false;
}

/* Whether a UDP datagram goes to the far end of a tunnel. */
static __always_inline bool goes_to_endpoint(const __be32 *address, bool is_ipv6, __be16 port)
{
	struct mirroring_endpoint to;

	__builtin_memset(&to, 0, sizeof(to));
	set_address(&to, address, is_ipv6);
	to.protocol = IPPROTO_UDP;
	to.port = port;
	return is_endpoint(&to);
}

/*
 * Whether the packet is a copy on its way to a collector, or an ICMP error about one. To mirror it would
 * make another copy, and so on without end. A later fragment to a collector has no port to check, so it
 * counts as tunnel traffic, too.
 */
static __always_inline bool is_tunnel_traffic(struct __sk_buff *skb, const struct packet *packet)
{
	struct mirroring_endpoint to;
	__u8 protocol = packet->protocol;

	if (is_copy(skb))
		return true;
	if (protocol == IPPROTO_TCP)
		return false;
	__builtin_memset(&to, 0, sizeof(to));
	set_address(&to, packet->dst, packet->is_ipv6);
	to.protocol = protocol;
	if (protocol == IPPROTO_UDP)
		to.port = bpf_htons(packet->dst_port);
	else if (packet->is_ipv6
			 ? protocol == IPPROTO_ICMPV6 && !icmp6_error_target(skb, packet, &to)
			 : protocol == IPPROTO_ICMP && !icmp_error_target(skb, packet, &to))
		return false;
	/* an ip6tnl device carries IPv4 and IPv6 by default (mode any) and is listed as IPPROTO_IPV6 */
	if (packet->is_ipv6 && to.protocol == IPPROTO_IPIP)
		to.protocol = IPPROTO_IPV6;
	return is_tunnel_protocol(to.protocol) && is_endpoint(&to);
}

#endif /* GUARD_BPF_H */
