/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What encapsulation in IPv4 and in IPv6 have in common. */
#ifndef GUE_OUTER_BPF_H
#define GUE_OUTER_BPF_H

#include <linux/if_ether.h>
#include <linux/in.h>

#include "flow_hash.h"
#include "gue.h"
#include "kernel.h"
#include "parse.h"

enum {
	/* bpf_skb_change_tail does not cut into the IP header, which is 60 bytes at most */
	MIN_CUT_LEN = ETH_HLEN + 60,
	/* how much longer an IPv6 header is than one of IPv4 */
	IPV6_EXTRA_LEN = sizeof(struct ipv6hdr) - sizeof(struct iphdr),
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct gue_piece);
} gue_piece SEC(".maps");

static __always_inline __sum16 csum_fold(__u32 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

static __always_inline bool is_ipv6(const struct __sk_buff *skb)
{
	return skb->protocol == bpf_htons(ETH_P_IPV6);
}

/* The protocol number in the GUE header of a copy. */
static __always_inline __u8 gue_protocol(const struct __sk_buff *skb)
{
	return is_ipv6(skb) ? IPPROTO_IPV6 : IPPROTO_IPIP;
}

/* The outer source port: `fixed`, from the template, or if that is 0, one that depends on the flow. */
static __always_inline __be16 source_port(struct __sk_buff *skb, __be16 fixed)
{
	return fixed ? fixed : flow_port(skb);
}

/* Where the bytes of a later fragment begin in the copy. */
static __always_inline __u32 piece_start(__u32 frag_off)
{
	return ETH_HLEN + (frag_off & IP_OFFSET) * 8 - GUE_HEADERS_LEN;
}

/*
 * Whether `len` is from 1 to the size of the buffer. Two separate checks of a 64-bit value are what the
 * verifier of Linux 5.10 can follow.
 */
static __always_inline bool fits_piece(__s64 *len)
{
	barrier_var(*len);
	if (*len < 1)
		return false;
	barrier_var(*len);
	return *len <= GUE_LONGEST_PIECE;
}

/* These two move the bytes of a fragment from the packet to the buffer, and back. */
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
