/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A number from the flow of a packet, the same in both directions. (The kernel's own hash, skb->hash,
 * differs between them where a NIC computes it.) By it a rule samples flows, and the tunnel has a
 * source port for each, so that a collector can spread copies over its queues.
 */
#ifndef FLOW_HASH_H
#define FLOW_HASH_H

#include <linux/ip.h>

#include "kernel.h"
#include "parse.h"

enum {
	FLOW_PORT_FIRST = 49152, /* dynamic ports, up to 65535 (RFC 6335) */
	FLOW_PORT_BITS = 14,
	IP_FRAGMENT_MASK = 0x3fff, /* MF and offset in iphdr.frag_off (RFC 791) */
};

/* Each bit of the result depends on each of x: the finalizer of MurmurHash3 (Appleby). */
static __always_inline __u32 mix(__u32 x)
{
	x ^= x >> 16;
	x *= 0x85ebca6b;
	x ^= x >> 13;
	x *= 0xc2b2ae35;
	return x ^ x >> 16;
}

/*
 * The same for both directions of a flow: the sum of both ends is. Of protocols without ports, and of
 * fragments, ports are 0.
 */
static __always_inline __u32 flow_hash(__u32 src, __u32 dst, __u16 src_port, __u16 dst_port,
				       __u8 protocol)
{
	return mix(mix(mix(src) ^ src_port) + mix(mix(dst) ^ dst_port) + protocol);
}

static __always_inline __u32 fold_ipv6(const __be32 *address)
{
	return address[0] ^ address[1] ^ address[2] ^ address[3];
}

/*
 * The port of an IP packet behind an Ethernet header. A fragment counts as one of a protocol without
 * ports, the first as well: so all of a datagram's are alike.
 */
static __always_inline __be16 flow_port(struct __sk_buff *skb)
{
	struct port_pair ports = {};
	__u32 src, dst, l4_offset;
	__u8 protocol;
	bool whole;

	if (skb->protocol == bpf_htons(ETH_P_IPV6)) {
		struct ipv6hdr ip;

		if (bpf_skb_load_bytes(skb, ETH_HLEN, &ip, sizeof(ip)))
			return bpf_htons(FLOW_PORT_FIRST);
		src = fold_ipv6(ip.saddr.in6_u.u6_addr32);
		dst = fold_ipv6(ip.daddr.in6_u.u6_addr32);
		protocol = ip.nexthdr;
		l4_offset = ETH_HLEN + sizeof(ip);
		whole = true;
	} else {
		struct iphdr ip;

		if (bpf_skb_load_bytes(skb, ETH_HLEN, &ip, sizeof(ip)))
			return bpf_htons(FLOW_PORT_FIRST);
		src = ip.saddr;
		dst = ip.daddr;
		protocol = ip.protocol;
		l4_offset = ETH_HLEN + ip.ihl * 4;
		whole = !(ip.frag_off & bpf_htons(IP_FRAGMENT_MASK));
	}
	if (whole && has_ports(protocol))
		/* cut short, it has none */
		bpf_skb_load_bytes(skb, l4_offset, &ports, sizeof(ports));
	return bpf_htons(FLOW_PORT_FIRST + (flow_hash(src, dst, ports.src, ports.dst, protocol) >>
					    (32 - FLOW_PORT_BITS)));
}

#endif /* FLOW_HASH_H */
