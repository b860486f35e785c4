/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Outer IPv4, on copies, pieces of copies and super-packets. */
#ifndef GUE_IPV4_BPF_H
#define GUE_IPV4_BPF_H

#include "gue_outer.bpf.h"

enum {
	ENCAPSULATION = BPF_F_ADJ_ROOM_ENCAP_L3_IPV4 | BPF_F_ADJ_ROOM_ENCAP_L4_UDP,
	AF_INET = 2,
};

/* packed: the IP header follows the 14 bytes of Ethernet without a gap; aligned: bytes go in pairs */
struct frame {
	struct ethhdr eth;
	struct iphdr ip;
} __attribute__((packed, aligned(2)));

struct encapsulated_frame {
	struct ethhdr eth;
	struct gue_outer outer;
} __attribute__((packed, aligned(2)));

/*
 * Room without a mark, in front of a packet that is to count as one of IPv4: of IPv6, the kernel takes
 * some of the header away with that, which is put back.
 */
static __always_inline long make_unmarked_room(struct __sk_buff *skb)
{
	__u8 taken[LONGER_BY];
	long err;

	if (!is_ipv6(skb))
		return bpf_skb_adjust_room(skb, sizeof(struct gue_outer), BPF_ADJ_ROOM_MAC, 0);
	err = bpf_skb_load_bytes(skb, ETH_HLEN, taken, sizeof(taken));
	if (!err)
		err = bpf_skb_change_proto(skb, bpf_htons(ETH_P_IP), 0);
	if (!err)
		err = bpf_skb_adjust_room(skb, sizeof(struct gue_outer) + sizeof(taken),
					  BPF_ADJ_ROOM_MAC, 0);
	if (!err)
		err = bpf_skb_store_bytes(skb, ETH_HLEN + sizeof(struct gue_outer), taken,
					  sizeof(taken), 0);
	return err;
}

static __always_inline long make_room(struct __sk_buff *skb, __u8 protocol)
{
	__u64 flags = ENCAPSULATION;
	long err;

	/* a UDP super-packet's segment size says where datagrams end: keep it */
	if (skb->gso_size && protocol != IPPROTO_TCP)
		flags |= BPF_F_ADJ_ROOM_FIXED_GSO;
	err = bpf_skb_adjust_room(skb, sizeof(struct gue_outer), BPF_ADJ_ROOM_MAC, flags);
	/* a packet that is a tunnel's already (VXLAN, say) cannot be marked as one again */
	if (err && !skb->gso_size)
		err = make_unmarked_room(skb);
	return err;
}

/* Sends the frame, which begins with outer headers but for their Ethernet addresses, to the NIC. */
static __always_inline int leave_ipv4(const struct gue_template *template)
{
	struct bpf_redir_neigh next_hop;

	if (!template->next_hop[0])
		return bpf_redirect_neigh(template->ifindex, NULL, 0, 0);
	/* piece by piece: an initializer would make a .rodata map */
	__builtin_memset(&next_hop, 0, sizeof(next_hop));
	next_hop.nh_family = AF_INET;
	next_hop.ipv4_nh = template->next_hop[0];
	return bpf_redirect_neigh(template->ifindex, &next_hop, sizeof(next_hop), 0);
}

/*
 * Fills in the outer Ethernet and IPv4 header, and what the template has of those behind them, `headers_len`
 * bytes in all. `len` is what the IPv4 header says.
 */
static __always_inline void put_headers(const struct gue_template *template, struct frame *out,
					__u32 headers_len, __u32 len, __be16 id, __be16 frag_off)
{
	__builtin_memset(&out->eth, 0, offsetof(struct ethhdr, h_proto));
	out->eth.h_proto = bpf_htons(ETH_P_IP);
	/* in words: that is how the kernel aligns an IP header, where it has to (NET_IP_ALIGN) */
	__builtin_memcpy(__builtin_assume_aligned((__u8 *)out + offsetof(struct frame, ip), 4),
			 __builtin_assume_aligned(template->outer, 4), headers_len - ETH_HLEN);
	/* of a super-packet, the kernel sets both lengths again in each segment */
	out->ip.tot_len = bpf_htons(len);
	out->ip.id = id;
	out->ip.frag_off = frag_off;
	out->ip.check = fold(template->sum + out->ip.tot_len + id + frag_off);
}

/* All of the outer headers, for which there is room. `len` and `protocol` are those of the copy. */
static __always_inline int put_outer(struct __sk_buff *skb, const struct gue_template *template,
				     __be16 source, __u8 protocol, __u32 len, __be16 id,
				     __be16 frag_off)
{
	struct encapsulated_frame *out = (struct encapsulated_frame *)(long)skb->data;

	if ((void *)(out + 1) > (void *)(long)skb->data_end)
		return TC_ACT_SHOT;
	put_headers(template, (struct frame *)out, sizeof(*out), skb->len - ETH_HLEN, id, frag_off);
	out->outer.udp.source = source;
	out->outer.gue.protocol = protocol;
	out->outer.udp.len = bpf_htons(len + FIRST_HEADERS);
	return leave_ipv4(template);
}

/* The first piece of a copy, or all of it. */
static __always_inline int send_first_ipv4(struct __sk_buff *skb,
					   const struct gue_template *template, __be16 id,
					   __u32 frag_off)
{
	const struct gue_outer *outer = (const struct gue_outer *)template->outer;
	__be16 source = source_port(skb, outer->udp.source);
	__u8 protocol = gue_protocol(skb);
	__u32 len = skb->len - ETH_HLEN;

	if (frag_off && bpf_skb_change_tail(skb, ETH_HLEN + template->piece_len - FIRST_HEADERS, 0))
		return TC_ACT_SHOT;
	if (make_room(skb, 0))
		return TC_ACT_SHOT;
	return put_outer(skb, template, source, protocol, len, id, bpf_htons(frag_off));
}

/*
 * Another piece. Its bytes are moved to the front, and what is behind them is cut off: to remove what
 * is in front of them would leave a packet that older kernels refuse to cut (they take its transport
 * header, which is gone, for one far behind).
 */
static __always_inline int send_later_ipv4(struct __sk_buff *skb,
					   const struct gue_template *template, __be16 id,
					   __u32 frag_off)
{
	__u32 from = piece_from(frag_off);
	__s64 len = frag_off & IP_MORE_FRAGMENTS ? template->piece_len : skb->len - from;
	/* of IPv6, an IPv4 packet is made, whose header is shorter */
	__u32 shortened = is_ipv6(skb) ? LONGER_BY : 0;
	__u32 key = 0, frame_len;
	struct gue_piece *piece = bpf_map_lookup_elem(&gue_piece, &key);
	struct frame *out;

	if (!piece || load_piece(skb, from, piece, len))
		return TC_ACT_SHOT;
	/* a short piece has padding behind it, as any short frame */
	frame_len = sizeof(*out) + len;
	if (frame_len < LEAST_LEN)
		frame_len = LEAST_LEN;
	if (bpf_skb_change_tail(skb, frame_len + shortened, 0))
		return TC_ACT_SHOT;
	if (shortened && bpf_skb_change_proto(skb, bpf_htons(ETH_P_IP), 0))
		return TC_ACT_SHOT;
	if (store_piece(skb, sizeof(*out), piece, len))
		return TC_ACT_SHOT;
	out = (struct frame *)(long)skb->data;
	if ((void *)(out + 1) > (void *)(long)skb->data_end)
		return TC_ACT_SHOT;
	put_headers(template, out, sizeof(*out), sizeof(struct iphdr) + len, id,
		    bpf_htons(frag_off));
	return leave_ipv4(template);
}

#endif /* GUE_IPV4_BPF_H */
