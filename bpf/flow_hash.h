/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A source port for the tunnel from the flow of a packet, so that a collector can spread copies over
 * its queues: both directions of a flow have the same. (The kernel's own hash, skb->hash, differs
 * between them where a NIC computes it.)
 */
#ifndef FLOW_HASH_H
#define FLOW_HASH_H

#include <linux/bpf.h>
#include <linux/ip.h>

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
 * The port of an IPv4 packet behind an Ethernet header. A fragment counts as one of a protocol without
 * ports, the first as well: so all of a datagram's are alike.
 */
static __always_inline __be16 flow_port(struct __sk_buff *skb)
{
	struct port_pair ports = {};
	struct iphdr ip;
	__u32 hash;

	if (bpf_skb_load_bytes(skb, ETH_HLEN, &ip, sizeof(ip)))
		return bpf_htons(FLOW_PORT_FIRST);
	if (has_ports(ip.protocol) && !(ip.frag_off & bpf_htons(IP_FRAGMENT_MASK)))
		/* cut short, it has none */
		bpf_skb_load_bytes(skb, ETH_HLEN + ip.ihl * 4, &ports, sizeof(ports));
	/* the sum of both ends is the same in both directions */
	hash = mix(mix(ip.saddr) ^ ports.src) + mix(mix(ip.daddr) ^ ports.dst);
	hash = mix(hash + ip.protocol);
	return bpf_htons(FLOW_PORT_FIRST + (hash >> (32 - FLOW_PORT_BITS)));
}

#endif /* FLOW_HASH_H */
