/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What is never mirrored: packets of the tunnels of this host's instances. */
#ifndef GUARD_BPF_H
#define GUARD_BPF_H

#include "mark.h"
#include "mirroring.h"
#include "mirroring_maps.bpf.h"
#include "parse.h"

/* The protocols of the outer headers that tunnel devices make: others lead to no endpoint. */
static __always_inline bool is_tunnels(__u8 protocol)
{
	return protocol == IPPROTO_UDP || protocol == IPPROTO_GRE || protocol == IPPROTO_IPIP ||
	       protocol == IPPROTO_IPV6;
}

/* As endpoints have it, of which IPv4 addresses are a part. */
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

/* Sets the port of a packet whose UDP header is at `offset`; false where it is cut short. */
static __always_inline bool set_port(struct __sk_buff *skb, __u32 offset,
				     struct mirroring_endpoint *to)
{
	struct port_pair ports;

	if (bpf_skb_load_bytes(skb, offset, &ports, sizeof(ports)))
		return false;
	to->port = ports.dst;
	return true;
}

/* Where the packet that an ICMP error is about went; false where the packet is none, or does not say. */
static __always_inline bool error_about(struct __sk_buff *skb, const struct packet *packet,
					struct mirroring_endpoint *about)
{
	struct {
		__u8 icmp[8];
		struct iphdr ip;
	} error;

	if (bpf_skb_load_bytes(skb, packet->l4_offset, &error, sizeof(error)))
		return false;
	switch (error.icmp[0]) {
	case 3: /* destination unreachable (RFC 792, as those below) */
	case 4: /* source quench */
	case 5: /* redirect */
	case 11: /* time exceeded */
	case 12: /* parameter problem */
		break;
	default:
		return false;
	}
	set_address(about, &error.ip.daddr, false);
	about->protocol = error.ip.protocol;
	if (about->protocol != IPPROTO_UDP)
		return true;
	return set_port(skb, packet->l4_offset + sizeof(error.icmp) + error.ip.ihl * 4, about);
}

/* The same of an ICMPv6 error, which may be about any fragment; of a later one, the port is not known. */
static __always_inline bool error6_about(struct __sk_buff *skb, const struct packet *packet,
					 struct mirroring_endpoint *about)
{
	struct {
		__u8 icmp[8];
		struct ipv6hdr ip;
	} error;
	__u32 offset = packet->l4_offset + sizeof(error);

	if (bpf_skb_load_bytes(skb, packet->l4_offset, &error, sizeof(error)))
		return false;
	/* destination unreachable, packet too big, time exceeded, parameter problem (RFC 4443) */
	if (error.icmp[0] < 1 || error.icmp[0] > 4)
		return false;
	set_address(about, error.ip.daddr.in6_u.u6_addr32, true);
	about->protocol = error.ip.nexthdr;
	/* a fragment, or a device's limit on tunnels in tunnels (RFC 2473), or both */
	for (int i = 0; i < 2; i++) {
		struct extension_header extension;
		bool is_fragment = about->protocol == IPPROTO_FRAGMENT;

		if (!is_fragment && about->protocol != IPPROTO_DSTOPTS)
			break;
		if (bpf_skb_load_bytes(skb, offset, &extension, sizeof(extension)))
			return false;
		about->protocol = extension.next;
		if (is_fragment && extension.offset_and_more & bpf_htons(IP6_OFFSET_MASK))
			return true;
		offset += is_fragment ? sizeof(extension) : (extension.len + 1) * 8;
	}
	return about->protocol != IPPROTO_UDP || set_port(skb, offset, about);
}

/* Whether it is in the list; with a port of 0, which is no tunnel's, on whatever port. */
static __always_inline bool is_endpoint(const struct mirroring_endpoint *to)
{
	const struct mirroring_endpoints *endpoints = only_entry(&MAP(endpoints));
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
 * Whether the packet is a copy on its way, or an ICMP error about one, whoever sends that: mirroring
 * it would make the next one, without end. A later fragment to a collector, whose port nobody knows,
 * may be a copy's: it is taken for one.
 */
static __always_inline bool guarded(struct __sk_buff *skb, const struct packet *packet)
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
	else if (packet->is_ipv6 ? protocol == IPPROTO_ICMPV6 && !error6_about(skb, packet, &to)
				 : protocol == IPPROTO_ICMP && !error_about(skb, packet, &to))
		return false;
	/* a device over IPv6 sends packets of both versions by default (ip6tnl(8)'s mode any) */
	if (packet->is_ipv6 && to.protocol == IPPROTO_IPIP)
		to.protocol = IPPROTO_IPV6;
	return is_tunnels(to.protocol) && is_endpoint(&to);
}

#endif /* GUARD_BPF_H */
