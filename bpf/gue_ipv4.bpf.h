/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Encapsulation in outer IPv4: whole copies, fragments of copies, and super-packets. */
#ifndef GUE_IPV4_BPF_H
#define GUE_IPV4_BPF_H

#include "gue_outer.bpf.h"

enum {
	ENCAP_FLAGS = BPF_F_ADJ_ROOM_ENCAP_L3_IPV4 | BPF_F_ADJ_ROOM_ENCAP_L4_UDP,
	AF_INET = 2,
};

/* packed: there is no gap between the 14 bytes of Ethernet and IP; aligned: clang may access 2 bytes at once */
struct frame {
	struct ethhdr eth;
	struct iphdr ip;
} __attribute__((packed, aligned(2)));

struct encapsulated_frame {
	struct ethhdr eth;
	struct gue_outer outer;
} __attribute__((packed, aligned(2)));

/*
 * Makes room for the outer headers without marking the packet as encapsulated. The packet has to become an
 * IPv4 packet. To turn IPv6 into IPv4, the kernel removes 20 bytes of the header: save them and put them back.
 */
static __always_inline long make_unmarked_room(struct __sk_buff *skb)
{
	__u8 removed[IPV6_EXTRA_LEN];
	long err;

	if (!is_ipv6(skb))
		return bpf_skb_adjust_room(skb, sizeof(struct gue_outer), BPF_ADJ_ROOM_MAC, 0);
	err = bpf_skb_load_bytes(skb, ETH_HLEN, removed, sizeof(removed));
	if (!err)
		err = bpf_skb_change_proto(skb, bpf_htons(ETH_P_IP), 0);
	if (!err)
		err = bpf_skb_adjust_room(skb, sizeof(struct gue_outer) + sizeof(removed),
					  BPF_ADJ_ROOM_MAC, 0);
	if (!err)
		err = bpf_skb_store_bytes(skb, ETH_HLEN + sizeof(struct gue_outer), removed,
					  sizeof(removed), 0);
	return err;
}

static __always_inline long make_room(struct __sk_buff *skb, __u8 protocol)
{
	__u64 flags = ENCAP_FLAGS;
	long err;

	/* the segment size of a UDP super-packet says where its datagrams end, so it must not change */
	if (skb->gso_size && protocol != IPPROTO_TCP)
		flags |= BPF_F_ADJ_ROOM_FIXED_GSO;
	err = bpf_skb_adjust_room(skb, sizeof(struct gue_outer), BPF_ADJ_ROOM_MAC, flags);
	/* a packet that is in a tunnel already (VXLAN, say) cannot be marked as encapsulated again */
	if (err && !skb->gso_size)
		err = make_unmarked_room(skb);
	return err;
}

/* Redirects the encapsulated frame to the NIC. The kernel fills in the Ethernet addresses. */
static __always_inline int redirect_ipv4(const struct gue_template *template)
{
	struct bpf_redir_neigh next_hop;

	if (!template->next_hop[0])
		return bpf_redirect_neigh(template->ifindex, NULL, 0, 0);
	/* member by member: an initializer would be put into a .rodata map */
	__builtin_memset(&next_hop, 0, sizeof(next_hop));
	next_hop.nh_family = AF_INET;
	next_hop.ipv4_nh = template->next_hop[0];
	return bpf_redirect_neigh(template->ifindex, &next_hop, sizeof(next_hop), 0);
}

/*
 * Writes the outer Ethernet and IPv4 headers, and those that follow them in the template: `headers_len` bytes
 * in all. `len` goes into the total length of the IPv4 header.
 */
static __always_inline void write_outer_ip(const struct gue_template *template, struct frame *out,
					   __u32 headers_len, __u32 len, __be16 id, __be16 frag_off)
{
	__builtin_memset(&out->eth, 0, offsetof(struct ethhdr, h_proto));
	out->eth.h_proto = bpf_htons(ETH_P_IP);
	/* word by word: the kernel aligns IP headers to 4 bytes where that matters (NET_IP_ALIGN) */
	__builtin_memcpy(__builtin_assume_aligned((__u8 *)out + offsetof(struct frame, ip), 4),
			 __builtin_assume_aligned(template->outer, 4), headers_len - ETH_HLEN);
	/* of a super-packet, the kernel sets both lengths again for each segment */
	out->ip.tot_len = bpf_htons(len);
	out->ip.id = id;
	out->ip.frag_off = frag_off;
	out->ip.check = csum_fold(template->sum + out->ip.tot_len + id + frag_off);
}

/* Writes all outer headers into the room made for them, and sends. `len` is that of the copy. */
static __always_inline int send_encapsulated(struct __sk_buff *skb,
					     const struct gue_template *template, __be16 source,
					     __u8 protocol, __u32 len, __be16 id, __be16 frag_off)
{
	struct encapsulated_frame *out = (struct encapsulated_frame *)(long)skb->data;

	if ((void *)(out + 1) > (void *)(long)skb->data_end)
		return TC_ACT_SHOT;
	write_outer_ip(template, (struct frame *)out, sizeof(*out), skb->len - ETH_HLEN, id,
		       frag_off);
	out->outer.udp.source = source;
	out->outer.gue.protocol = protocol;
	out->outer.udp.len = bpf_htons(len + GUE_HEADERS_LEN);
	return redirect_ipv4(template);
}

/* Sends the first fragment of a copy, or a whole copy (frag_off 0). */
static __always_inline int send_first_ipv4(struct __sk_buff *skb,
					   const struct gue_template *template, __be16 id,
					   __u32 frag_off)
{
	const struct gue_outer *outer = (const struct gue_outer *)template->outer;
	__be16 source = source_port(skb, outer->udp.source);
	__u8 protocol = gue_protocol(skb);
	__u32 len = skb->len - ETH_HLEN;

	if (frag_off &&
	    bpf_skb_change_tail(skb, ETH_HLEN + template->piece_len - GUE_HEADERS_LEN, 0))
		return TC_ACT_SHOT;
	if (make_room(skb, 0))
		return TC_ACT_SHOT;
	return send_encapsulated(skb, template, source, protocol, len, id, bpf_htons(frag_off));
}

/*
 * Sends a later fragment. Its bytes are moved to the front of the packet, and the rest is cut off. To remove
 * the bytes in front of them would be simpler, but older kernels then refuse to cut the packet: they believe
 * that its transport header, which is gone, lies beyond the end.
 */
static __always_inline int send_later_ipv4(struct __sk_buff *skb,
					   const struct gue_template *template, __be16 id,
					   __u32 frag_off)
{
	__u32 from = piece_start(frag_off);
	__s64 len = frag_off & IP_MF ? template->piece_len : skb->len - from;
	/* an IPv6 packet becomes an IPv4 packet, whose header is shorter */
	__u32 extra_len = is_ipv6(skb) ? IPV6_EXTRA_LEN : 0;
	__u32 key = 0, frame_len;
	struct gue_piece *piece = bpf_map_lookup_elem(&gue_piece, &key);
	struct frame *out;

	if (!piece || load_piece(skb, from, piece, len))
		return TC_ACT_SHOT;
	/* a frame that is shorter than the kernel can cut to is padded, as any short Ethernet frame */
	frame_len = sizeof(*out) + len;
	if (frame_len < MIN_CUT_LEN)
		frame_len = MIN_CUT_LEN;
	if (bpf_skb_change_tail(skb, frame_len + extra_len, 0))
		return TC_ACT_SHOT;
	if (extra_len && bpf_skb_change_proto(skb, bpf_htons(ETH_P_IP), 0))
		return TC_ACT_SHOT;
	if (store_piece(skb, sizeof(*out), piece, len))
		return TC_ACT_SHOT;
	out = (struct frame *)(long)skb->data;
	if ((void *)(out + 1) > (void *)(long)skb->data_end)
		return TC_ACT_SHOT;
	write_outer_ip(template, out, sizeof(*out), sizeof(struct iphdr) + len, id,
		       bpf_htons(frag_off));
	return redirect_ipv4(template);
}

#endif /* GUE_IPV4_BPF_H */
