/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A hash of a packet's flow that is the same in both directions. (skb->hash is not: a NIC may compute a
 * different value for each direction.) Rules use it to sample flows. The tunnel uses it to choose an
 * outer source port for each flow, so that a collector can spread copies over its receive queues.
 */
#ifndef FLOW_HASH_H
#define FLOW_HASH_H

#include <linux/ip.h>

#include "kernel.h"
#include "parse.h"

enum {
	FLOW_PORT_FIRST = 49152, /* dynamic ports, up to 65535 (RFC 6335) */
	FLOW_PORT_BITS = 14,
};

/* Every bit of the result depends on every bit of x: the finalizer of MurmurHash3 (Appleby). */
static __always_inline __u32 hash_mix(__u32 x)
{
	x ^= x >> 16;
	x *= 0x85ebca6b;
	x ^= x >> 13;
	x *= 0xc2b2ae35;
	return x ^ x >> 16;
}

/*
 * Both ends are hashed and then added, and a sum does not depend on the order: so both directions have
 * the same hash. Pass ports of 0 for fragments and for protocols without ports.
 */
static __always_inline __u32 flow_hash(__u32 src, __u32 dst, __u16 src_port, __u16 dst_port,
				       __u8 protocol)
{
	return hash_mix(hash_mix(hash_mix(src) ^ src_port) + hash_mix(hash_mix(dst) ^ dst_port) +
			protocol);
}

static __always_inline __u32 fold_ipv6(const __be32 *address)
{
	return address[0] ^ address[1] ^ address[2] ^ address[3];
}

/*
 * The outer source port for an IP packet behind an Ethernet header. Every fragment is hashed without
 * ports, also the first one, so that all fragments of a datagram get the same outer port.
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
		whole = !(ip.frag_off & bpf_htons(IP_MF | IP_OFFSET));
	}
	if (whole && has_ports(protocol))
		/* a failed read leaves the ports 0 */
		bpf_skb_load_bytes(skb, l4_offset, &ports, sizeof(ports));
	return bpf_htons(FLOW_PORT_FIRST + (flow_hash(src, dst, ports.src, ports.dst, protocol) >>
					    (32 - FLOW_PORT_BITS)));
}

#endif /* FLOW_HASH_H */
