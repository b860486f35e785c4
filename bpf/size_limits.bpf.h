/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Whether a copy fits the tunnel, how much a rule keeps of it, and how long it is with outer headers. */
#ifndef SIZE_LIMITS_BPF_H
#define SIZE_LIMITS_BPF_H

#include "mirroring.h"
#include "parse.h"

/* Length of the upper-layer header: TCP says it, all others count as 8 bytes, like UDP and ICMP. */
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
 * How many bytes from the IP header on the rule keeps of a copy; 0 if it keeps all of them, or if the
 * tunnel device cannot truncate copies.
 */
static __always_inline __u32 snap_length(struct __sk_buff *skb, const struct packet *packet,
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
 * Whether the packet, or a segment of a super-packet, is too long for the tunnel. `cut` is what
 * snap_length() returned.
 */
static __always_inline bool exceeds_tunnel(struct __sk_buff *skb,
					   const struct mirroring_tunnel *tunnel,
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
	/* to a device that carries whole frames, VLAN tags are part of the length */
	if (tunnel->carries & MIRRORING_CARRIES_FRAMES)
		len += packet->l3_offset - ETH_HLEN +
		       (skb->vlan_present ? sizeof(struct vlan_tag) : 0);
	return max_len && len > max_len;
}

/*
 * How many bytes leave the host for this copy, outer headers included. A super-packet leaves as segments,
 * each with its own headers. `cut` is what snap_length() returned.
 */
static __always_inline __u32 outer_len(struct __sk_buff *skb, const struct mirroring_tunnel *tunnel,
				       const struct packet *packet, __u32 cut)
{
	__u32 gso_size = skb->gso_size, longest = tunnel->cut_len;
	__u32 len, segments = 1;

	if (cut) {
		len = cut;
	} else if (!gso_size) {
		/* the padding of a short Ethernet frame is not part of the copy */
		len = skb->len - packet->l3_offset;
		if (packet->length < len)
			len = packet->length;
	} else {
		len = skb->len - packet->l3_offset;
		/* gso_segs is 0 for super-packets that come from a virtual machine */
		segments = skb->gso_segs ?: (len + gso_size - 1) / gso_size;
		len += (segments - 1) *
		       (packet->l4_offset - packet->l3_offset + l4_header_len(skb, packet));
		/* the segment size of TCP is reduced to fit, so nothing is truncated */
		if (packet->protocol == IPPROTO_TCP)
			longest = 0;
	}
	if (longest && len > segments * longest)
		len = segments * longest;
	return len + segments * tunnel->overhead;
}

#endif /* SIZE_LIMITS_BPF_H */
