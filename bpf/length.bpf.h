/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* How long a packet is for the tunnel, and how long its copy is behind it. */
#ifndef LENGTH_BPF_H
#define LENGTH_BPF_H

#include "mirroring.h"
#include "parse.h"

/* Bytes of the upper-layer header: those of TCP, or else 8, as UDP and ICMP have. */
static __always_inline __u32 l4_header_len(struct __sk_buff *skb, const struct packet *packet)
{
	enum { TCP_DATA_OFFSET = 12 }; /* the upper half of this byte, in 32-bit words (RFC 9293) */
	__u8 words;

	if (packet->fragment == FRAGMENT_LATER)
		return 0;
	if (packet->protocol != IPPROTO_TCP)
		return 8;
	if (bpf_skb_load_bytes(skb, packet->l4_offset + TCP_DATA_OFFSET, &words, sizeof(words)))
		return 0;
	return (words >> 4) * 4;
}

/*
 * Bytes from the IP header on that a rule leaves of a copy; 0 where it leaves all that there are, or the
 * tunnel device cuts nothing.
 */
static __always_inline __u32 cut_by_rule(struct __sk_buff *skb, const struct packet *packet,
					 const struct mirroring_rule *rule,
					 const struct mirroring_tunnel *tunnel)
{
	__u32 snaplen = rule->snaplen;

	if (snaplen == MIRRORING_WHOLE || !(tunnel->carries & MIRRORING_CARRIES_CUT))
		return 0;
	if (snaplen == MIRRORING_HEADERS)
		snaplen = packet->l4_offset - packet->l3_offset + l4_header_len(skb, packet);
	return snaplen < skb->len - packet->l3_offset ? snaplen : 0;
}

/*
 * Whether the tunnel cannot carry the packet, or a segment of the super-packet. `cut` is what a rule
 * leaves of it, or 0.
 */
static __always_inline bool oversize(struct __sk_buff *skb, const struct mirroring_tunnel *tunnel,
				     const struct packet *packet, __u32 cut)
{
	__u32 max_len = tunnel->max_len;
	__u32 len;

	if (!(max_len | tunnel->max_segment_len))
		return false;
	len = skb->len - packet->l3_offset;
	if (cut) {
		len = cut;
	} else if (skb->gso_size) {
		if (packet->protocol == IPPROTO_TCP)
			max_len = tunnel->max_segment_len;
		len = packet->l4_offset - packet->l3_offset + skb->gso_size;
		if (max_len)
			len += l4_header_len(skb, packet);
	}
	/* a device that takes frames carries the tags, too */
	if (tunnel->carries & MIRRORING_CARRIES_FRAMES)
		len += packet->l3_offset - ETH_HLEN +
		       (skb->vlan_present ? sizeof(struct vlan_tag) : 0);
	return max_len && len > max_len;
}

/*
 * Bytes that leave with the tunnel's headers, for the copy of a super-packet in its segments. `cut` is
 * what a rule leaves of the packet, or 0.
 */
static __always_inline __u32 outer_len(struct __sk_buff *skb, const struct mirroring_tunnel *tunnel,
				       const struct packet *packet, __u32 cut)
{
	__u32 gso_size = skb->gso_size, longest = tunnel->cut_len;
	__u32 len, segments = 1;

	if (cut) {
		len = cut;
	} else if (!gso_size) {
		/* a short Ethernet frame is padded */
		len = skb->len - packet->l3_offset;
		if (packet->length < len)
			len = packet->length;
	} else {
		len = skb->len - packet->l3_offset;
		/* not known (0) of what came from a guest and was not cut before */
		segments = skb->gso_segs ?: (len + gso_size - 1) / gso_size;
		len += (segments - 1) *
		       (packet->l4_offset - packet->l3_offset + l4_header_len(skb, packet));
		/* these are made to fit */
		if (packet->protocol == IPPROTO_TCP)
			longest = 0;
	}
	if (longest && len > segments * longest)
		len = segments * longest;
	return len + segments * tunnel->overhead;
}

#endif /* LENGTH_BPF_H */
