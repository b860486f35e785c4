/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* How long a packet is for the tunnel, and how long its copy is behind it. */
#ifndef LENGTH_BPF_H
#define LENGTH_BPF_H

#include "mirroring.h"
#include "parse.h"

/* Bytes of a TCP or UDP header. */
static __always_inline __u32 l4_header_len(struct __sk_buff *skb, const struct packet *packet)
{
	enum { TCP_DATA_OFFSET = 12 }; /* the upper half of this byte, in 32-bit words (RFC 9293) */
	__u8 copy;
	const __u8 *words;

	if (packet->protocol != IPPROTO_TCP)
		return sizeof(struct port_pair) * 2;
	words = header(skb, packet->l4_offset + TCP_DATA_OFFSET, &copy, sizeof(copy));
	return words ? (*words >> 4) * 4 : 0;
}

/* Whether the tunnel cannot carry the packet, or a segment of the super-packet. */
static __always_inline bool oversize(struct __sk_buff *skb, const struct mirroring_tunnel *tunnel,
				     const struct packet *packet)
{
	__u32 max_len = tunnel->max_len;
	__u32 len = skb->len - ETH_HLEN;

	if (skb->gso_size) {
		if (packet->protocol == IPPROTO_TCP)
			max_len = tunnel->max_segment_len;
		len = packet->l4_offset - ETH_HLEN + skb->gso_size;
		if (max_len)
			len += l4_header_len(skb, packet);
	}
	return max_len && len > max_len;
}

/* Bytes of an IP packet, without the padding of a short Ethernet frame. */
static __always_inline __u32 ip_len(struct __sk_buff *skb)
{
	__u32 len = skb->len - ETH_HLEN;
	struct iphdr copy;
	const struct iphdr *ip = header(skb, ETH_HLEN, &copy, sizeof(copy));

	return ip && bpf_ntohs(ip->tot_len) < len ? bpf_ntohs(ip->tot_len) : len;
}

/* Bytes that leave with the tunnel's headers, for the copy of a super-packet in its segments. */
static __always_inline __u32 outer_len(struct __sk_buff *skb, const struct mirroring_tunnel *tunnel,
				       const struct packet *packet)
{
	__u32 gso_size = skb->gso_size, longest = tunnel->cut_len;
	__u32 len, segments = 1;

	if (!gso_size) {
		len = ip_len(skb);
	} else {
		len = skb->len - ETH_HLEN;
		/* not known (0) of what came from a guest and was not cut before */
		segments = skb->gso_segs ?: (len + gso_size - 1) / gso_size;
		len += (segments - 1) * (packet->l4_offset - ETH_HLEN + l4_header_len(skb, packet));
		/* these are made to fit */
		if (packet->protocol == IPPROTO_TCP)
			longest = 0;
	}
	if (longest && len > segments * longest)
		len = segments * longest;
	return len + segments * tunnel->overhead;
}

#endif /* LENGTH_BPF_H */
