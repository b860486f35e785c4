/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What outer headers of IPv4 and of IPv6 have in common. */
#ifndef GUE_OUTER_BPF_H
#define GUE_OUTER_BPF_H

#include <linux/if_ether.h>
#include <linux/in.h>

#include "flow_hash.h"
#include "gue.h"
#include "kernel.h"
#include "parse.h"

enum {
	/* of the outer headers, what only the first fragment has */
	FIRST_HEADERS = sizeof(struct udphdr) + sizeof(struct gue_header),
	/* bpf_skb_change_tail does not cut into where it takes the copy's own headers to be */
	LEAST_LEN = ETH_HLEN + 60,
	/* bytes that an IPv6 header is longer than one of IPv4 */
	LONGER_BY = sizeof(struct ipv6hdr) - sizeof(struct iphdr),
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct gue_piece);
} gue_piece SEC(".maps");

static __always_inline __sum16 fold(__u32 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

static __always_inline bool is_ipv6(const struct __sk_buff *skb)
{
	return skb->protocol == bpf_htons(ETH_P_IPV6);
}

/* What the GUE header says of a copy. */
static __always_inline __u8 gue_protocol(const struct __sk_buff *skb)
{
	return is_ipv6(skb) ? IPPROTO_IPV6 : IPPROTO_IPIP;
}

/* The outer source port: the template's, here `fixed`, or the flow's. */
static __always_inline __be16 source_port(struct __sk_buff *skb, __be16 fixed)
{
	return fixed ? fixed : flow_port(skb);
}

/* Where the bytes of another piece than the first begin in the copy. */
static __always_inline __u32 piece_from(__u32 frag_off)
{
	return ETH_HLEN + (frag_off & IP_OFFSET_MASK) * 8 - FIRST_HEADERS;
}

/*
 * Whether a piece has room for so many bytes, and there are any. One bound at a time, of 64 bits, is what the
 * verifier of Linux 5.10 understands.
 */
static __always_inline bool fits_piece(__s64 *len)
{
	barrier_var(*len);
	if (*len < 1)
		return false;
	barrier_var(*len);
	return *len <= GUE_LONGEST_PIECE;
}

/* Moves the bytes of a piece from the packet, or to it. */
static __always_inline long load_piece(struct __sk_buff *skb, __u32 from, struct gue_piece *piece,
				       __s64 len)
{
	return fits_piece(&len) ? bpf_skb_load_bytes(skb, from, piece->bytes, len) : -1;
}

static __always_inline long store_piece(struct __sk_buff *skb, __u32 to, struct gue_piece *piece,
					__s64 len)
{
	return fits_piece(&len) ? bpf_skb_store_bytes(skb, to, piece->bytes, len, 0) : -1;
}

#endif /* GUE_OUTER_BPF_H */
