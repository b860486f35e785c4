/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Encapsulation in outer IPv6. The outer UDP checksum covers the whole copy, so the copy must be final when
 * the sum is made. Therefore all copies cross the veth pair: behind it, no checksum and no segmentation is
 * left to a NIC.
 */
#ifndef GUE_IPV6_BPF_H
#define GUE_IPV6_BPF_H

#include "gue_outer.bpf.h"

enum {
	AF_INET6 = 10,
	CSUM_CHUNK = 512, /* the most that bpf_csum_diff accepts */
	CSUM_MAX_CHUNKS = 128, /* in the longest copy, 64 KiB */
};

struct frame6 {
	struct ethhdr eth;
	struct ipv6hdr ip;
} __attribute__((packed, aligned(2)));

struct fragment_frame6 {
	struct frame6 frame;
	struct extension_header fragment;
} __attribute__((packed, aligned(2)));

static __always_inline int redirect_ipv6(const struct gue_template *template)
{
	const __be32 *hop = template->next_hop;
	struct bpf_redir_neigh next_hop;

	if (!(hop[0] | hop[1] | hop[2] | hop[3]))
		return bpf_redirect_neigh(template->ifindex, NULL, 0, 0);
	__builtin_memset(&next_hop, 0, sizeof(next_hop));
	next_hop.nh_family = AF_INET6;
	__builtin_memcpy(next_hop.ipv6_nh, hop, sizeof(next_hop.ipv6_nh));
	return bpf_redirect_neigh(template->ifindex, &next_hop, sizeof(next_hop), 0);
}

/* Sums up the 16-bit words of a copy, not folded (RFC 1071); false if it cannot be read. */
static __always_inline bool checksum_copy(struct __sk_buff *skb, __u32 *sum)
{
	__u32 key = 0, at = ETH_HLEN, end, last;
	struct gue_piece *piece = bpf_map_lookup_elem(&gue_piece, &key);

	if (!piece)
		return false;
	/*
	 * The last chunk may be shorter: sum it up first. Then all iterations of the loop are alike, and only the sum
	 * is live after it, which lets the verifier prune paths.
	 */
	last = ((skb->len - ETH_HLEN - 1) & (CSUM_CHUNK - 1)) + 1;
	end = skb->len - last;
	__builtin_memset(piece->bytes, 0, CSUM_CHUNK);
	if (bpf_skb_load_bytes(skb, end, piece->bytes, last))
		return false;
	*sum = bpf_csum_diff(NULL, 0, (__be32 *)piece->bytes, CSUM_CHUNK, 0);
	for (int i = 0; i < CSUM_MAX_CHUNKS; i++) {
		if (at >= end)
			return true;
		if (bpf_skb_load_bytes(skb, at, piece->bytes, CSUM_CHUNK))
			return false;
		*sum = bpf_csum_diff(NULL, 0, (__be32 *)piece->bytes, CSUM_CHUNK, *sum);
		at += CSUM_CHUNK;
	}
	return false;
}

/*
 * Writes the outer Ethernet and IPv6 headers, with a fragment header if there is a `frag_off`, and sends the
 * frame. `len` is the length of what follows these headers.
 */
static __always_inline int send_ipv6(struct __sk_buff *skb, const struct gue_template *template,
				     __u32 len, __u32 id, __u32 frag_off)
{
	struct fragment_frame6 out;
	__u32 out_len = sizeof(out.frame);

	__builtin_memset(&out, 0, sizeof(out));
	out.frame.eth.h_proto = bpf_htons(ETH_P_IPV6);
	__builtin_memcpy(&out.frame.ip, template->outer, sizeof(out.frame.ip));
	if (frag_off) {
		out.fragment.next = out.frame.ip.nexthdr;
		out.fragment.offset_and_more =
			bpf_htons((frag_off & IP_OFFSET) * 8 | (frag_off & IP_MF ? IP6_MF : 0));
		out.fragment.fragment_id = id;
		out.frame.ip.nexthdr = IPPROTO_FRAGMENT;
		len += sizeof(out.fragment);
		out_len = sizeof(out);
	}
	out.frame.ip.payload_len = bpf_htons(len);
	if (bpf_skb_store_bytes(skb, 0, &out, out_len, 0))
		return TC_ACT_SHOT;
	return redirect_ipv6(template);
}

/* Sends the first fragment of a copy, or a whole copy (frag_off 0). `copy_sum` is the sum of the whole copy. */
static __always_inline int send_first_ipv6(struct __sk_buff *skb,
					   const struct gue_template *template, __u32 id,
					   __u32 frag_off, __u32 copy_sum)
{
	const struct gue_outer6 *outer = (const struct gue_outer6 *)template->outer;
	__u32 len = skb->len - ETH_HLEN + GUE_HEADERS_LEN;
	__u32 extra_len = is_ipv6(skb) ? 0 : IPV6_EXTRA_LEN;
	__u32 at = frag_off ? sizeof(struct fragment_frame6) : sizeof(struct frame6);
	__u32 sum;
	struct {
		struct udphdr udp;
		struct gue_header gue;
	} first;

	__builtin_memcpy(&first, &outer->udp, sizeof(first));
	first.udp.source = source_port(skb, outer->udp.source);
	first.udp.len = bpf_htons(len);
	first.gue.protocol = gue_protocol(skb);
	/* the length counts twice: it is in the pseudo-header, too (RFC 8200, 8.1) */
	sum = template->sum + first.udp.source + 2 * first.udp.len + bpf_htons(first.gue.protocol) +
	      (copy_sum & 0xffff) + (copy_sum >> 16);
	/* a checksum of 0 would mean that there is none */
	first.udp.check = csum_fold(sum) ?: 0xffff;
	if (frag_off) {
		len = template->piece_len;
		if (bpf_skb_change_tail(skb, ETH_HLEN + len - GUE_HEADERS_LEN, 0))
			return TC_ACT_SHOT;
	}
	/* not marked as encapsulated: the kernel has nothing left to do for the inner packet */
	if (extra_len && bpf_skb_change_proto(skb, bpf_htons(ETH_P_IPV6), 0))
		return TC_ACT_SHOT;
	if (bpf_skb_adjust_room(skb, at - ETH_HLEN + sizeof(first) - extra_len, BPF_ADJ_ROOM_MAC,
				0))
		return TC_ACT_SHOT;
	if (bpf_skb_store_bytes(skb, at, &first, sizeof(first), 0))
		return TC_ACT_SHOT;
	return send_ipv6(skb, template, len, id, frag_off);
}

/* Sends a later fragment. Its bytes are moved to the front, as in send_later_ipv4(). */
static __always_inline int send_later_ipv6(struct __sk_buff *skb,
					   const struct gue_template *template, __u32 id,
					   __u32 frag_off)
{
	__u32 from = piece_start(frag_off);
	__s64 len = frag_off & IP_MF ? template->piece_len : skb->len - from;
	__u32 extra_len = is_ipv6(skb) ? 0 : IPV6_EXTRA_LEN;
	__u32 key = 0, frame_len;
	struct gue_piece *piece = bpf_map_lookup_elem(&gue_piece, &key);

	if (!piece || load_piece(skb, from, piece, len))
		return TC_ACT_SHOT;
	frame_len = sizeof(struct fragment_frame6) + len - extra_len;
	if (frame_len < MIN_CUT_LEN)
		frame_len = MIN_CUT_LEN;
	if (bpf_skb_change_tail(skb, frame_len, 0))
		return TC_ACT_SHOT;
	if (extra_len && bpf_skb_change_proto(skb, bpf_htons(ETH_P_IPV6), 0))
		return TC_ACT_SHOT;
	if (store_piece(skb, sizeof(struct fragment_frame6), piece, len))
		return TC_ACT_SHOT;
	return send_ipv6(skb, template, len, id, frag_off);
}

#endif /* GUE_IPV6_BPF_H */
