/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The built-in tunnel: two programs on its own device, a veth pair that carries nothing but copies.
 *
 * On the egress hook, gue_encapsulate puts outer IPv4, UDP and GUE headers in front of a copy and
 * hands it to the NIC. A copy that does not fit one outer packet falls through to the far end: on
 * the way the kernel makes what a wire would carry of it, cuts super-packets into segments and fills
 * in checksums, as the device has none of the offloads for that. There, on the ingress hook, gue_cut
 * sends it back piece by piece, each as a fragment of one outer packet.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/pkt_cls.h>
#include <linux/tcp.h>
#include <stdbool.h>
#include <stddef.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "gue.h"
#include "mirroring.h"

enum {
	ENCAPSULATION = BPF_F_ADJ_ROOM_ENCAP_L3_IPV4 | BPF_F_ADJ_ROOM_ENCAP_L4_UDP,
	AF_INET = 2,
	ENOTSUPP = 524, /* include/linux/errno.h of the kernel */
	IP_MORE_FRAGMENTS = 0x2000, /* in iphdr.frag_off (RFC 791) */
	IP_OFFSET_MASK = 0x1fff, /* units of 8 bytes */
};

/* Outer fragments of 65,535 bytes over an MTU of 576: those of a smaller one are not asked for. */
enum { MAX_PIECES = 128 };

/* In the third word of skb->cb: a piece of a copy, with its iphdr.frag_off. A fourth is its id. */
enum { PIECE = 0x10000 };

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct gue_template);
} gue_template SEC(".maps");

/* packed: the IP header follows the 14 bytes of Ethernet without a gap */
struct frame {
	struct ethhdr eth;
	struct iphdr ip;
} __attribute__((packed));

struct encapsulated_frame {
	struct ethhdr eth;
	struct gue_outer outer;
} __attribute__((packed));

/* Cuts the padding of a short Ethernet frame: it is no part of the packet. */
static __always_inline long trim(struct __sk_buff *skb, __u32 ip_len)
{
	__u32 len = ETH_HLEN + ip_len;

	if (skb->gso_size || ip_len < sizeof(struct iphdr) || skb->len <= len)
		return 0;
	return bpf_skb_change_tail(skb, len, 0);
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
		err = bpf_skb_adjust_room(skb, sizeof(struct gue_outer), BPF_ADJ_ROOM_MAC, 0);
	return err;
}

static __always_inline __sum16 fold(__u32 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

/*
 * Whether the copy, or each segment of it, fits one outer packet. The segments of a TCP super-packet
 * make room for the outer headers.
 */
static __always_inline bool fits(struct __sk_buff *skb, const struct gue_template *template,
				 const struct frame *in)
{
	__u32 ip_hlen = in->ip.ihl * 4;
	struct tcphdr tcp;

	if (!skb->gso_size)
		return skb->len - ETH_HLEN <= template->whole_len;
	if (in->ip.protocol != IPPROTO_TCP)
		return ip_hlen + sizeof(struct udphdr) + skb->gso_size + sizeof(struct gue_outer) <=
		       template->mtu;
	if (bpf_skb_load_bytes(skb, ETH_HLEN + ip_hlen, &tcp, sizeof(tcp)))
		return false;
	return ip_hlen + tcp.doff * 4 + skb->gso_size <= template->mtu;
}

/* Sends the frame, which begins with outer headers but for their Ethernet addresses, to the NIC. */
static __always_inline int leave(const struct gue_template *template)
{
	struct bpf_redir_neigh next_hop;

	if (!template->next_hop)
		return bpf_redirect_neigh(template->ifindex, NULL, 0, 0);
	/* piece by piece: an initializer would make a .rodata map */
	__builtin_memset(&next_hop, 0, sizeof(next_hop));
	next_hop.nh_family = AF_INET;
	next_hop.ipv4_nh = template->next_hop;
	return bpf_redirect_neigh(template->ifindex, &next_hop, sizeof(next_hop), 0);
}

/* Fills in the outer Ethernet and IPv4 header. */
static __always_inline void put_headers(struct __sk_buff *skb, const struct gue_template *template,
					struct frame *out, __be16 id, __be16 frag_off)
{
	__builtin_memset(&out->eth, 0, offsetof(struct ethhdr, h_proto));
	out->eth.h_proto = bpf_htons(ETH_P_IP);
	__builtin_memcpy(&out->ip, template->outer, sizeof(out->ip));
	/* of a super-packet, the kernel sets both lengths again in each segment */
	out->ip.tot_len = bpf_htons(skb->len - ETH_HLEN);
	out->ip.id = id;
	out->ip.frag_off = frag_off;
	out->ip.check = fold(template->ip_sum + out->ip.tot_len + id + frag_off);
}

/* All of the outer headers, for which there is room. `len` is that of the copy. */
static __always_inline int put_outer(struct __sk_buff *skb, const struct gue_template *template,
				     __u32 len, __be16 id, __be16 frag_off)
{
	struct encapsulated_frame *out = (struct encapsulated_frame *)(long)skb->data;
	const struct gue_outer *outer = (const struct gue_outer *)template->outer;

	if ((void *)(out + 1) > (void *)(long)skb->data_end)
		return TC_ACT_SHOT;
	put_headers(skb, template, (struct frame *)out, id, frag_off);
	__builtin_memcpy(&out->outer.udp, &outer->udp,
			 sizeof(struct gue_outer) - sizeof(struct iphdr));
	out->outer.udp.len = bpf_htons(len + sizeof(struct gue_outer) - sizeof(struct iphdr));
	return leave(template);
}

/*
 * A piece of a copy from gue_cut. The first begins with the copy's IP header, all others with as many
 * bytes that have been sent already: their place is for the outer one. All but the last have more
 * behind them than is theirs.
 */
static __always_inline int send_piece(struct __sk_buff *skb, const struct gue_template *template)
{
	__u32 frag_off = skb->cb[2] & 0xffff, id = skb->cb[3], len = skb->len - ETH_HLEN;
	__u32 piece_len = ETH_HLEN + sizeof(struct iphdr) + template->piece_len;
	bool first = !(frag_off & IP_OFFSET_MASK);
	struct frame *out;

	if (first)
		piece_len -= sizeof(struct gue_outer);
	if (frag_off & IP_MORE_FRAGMENTS && bpf_skb_change_tail(skb, piece_len, 0))
		return TC_ACT_SHOT;
	if (first) {
		if (make_room(skb, 0))
			return TC_ACT_SHOT;
		return put_outer(skb, template, len, id, bpf_htons(frag_off));
	}
	if (bpf_skb_pull_data(skb, sizeof(*out)))
		return TC_ACT_SHOT;
	out = (struct frame *)(long)skb->data;
	if ((void *)(out + 1) > (void *)(long)skb->data_end)
		return TC_ACT_SHOT;
	put_headers(skb, template, out, id, bpf_htons(frag_off));
	return leave(template);
}

/* On the device's egress hook. */
SEC("tc")
int gue_encapsulate(struct __sk_buff *skb)
{
	__u32 key = 0;
	const struct gue_template *template = bpf_map_lookup_elem(&gue_template, &key);
	const struct frame *in;
	__u8 protocol;

	if (!template || skb->cb[0] != MIRRORING_MARK_0 || skb->cb[1] != MIRRORING_MARK_1 ||
	    skb->protocol != bpf_htons(ETH_P_IP))
		return TC_ACT_SHOT;
	if (skb->cb[2] & PIECE)
		return send_piece(skb, template);
	if (bpf_skb_pull_data(skb, sizeof(*in)))
		return TC_ACT_SHOT;
	in = (const struct frame *)(long)skb->data;
	if ((const void *)(in + 1) > (const void *)(long)skb->data_end)
		return TC_ACT_SHOT;
	protocol = in->ip.protocol;
	if (trim(skb, bpf_ntohs(in->ip.tot_len)))
		return TC_ACT_SHOT;
	in = (const struct frame *)(long)skb->data;
	if ((const void *)(in + 1) > (const void *)(long)skb->data_end)
		return TC_ACT_SHOT;
	if (fits(skb, template, in)) {
		if (make_room(skb, protocol))
			return TC_ACT_SHOT;
		return put_outer(skb, template, skb->len - sizeof(struct encapsulated_frame),
				 bpf_get_prandom_u32(), 0);
	}
	/* a packet that this host itself put into a tunnel cannot be cut: ask while it counts */
	if (!skb->gso_size && bpf_skb_change_tail(skb, skb->len, 0) == -ENOTSUPP)
		return TC_ACT_SHOT;
	skb->mark = skb->cb[2];
	return TC_ACT_OK;
}

/* On the ingress hook of the device's far end. */
SEC("tc")
int gue_cut(struct __sk_buff *skb)
{
	__u32 key = 0;
	const struct gue_template *template = bpf_map_lookup_elem(&gue_template, &key);
	/* bytes in front of those yet to be sent; bytes that UDP and GUE take up in the first piece */
	__u32 sent = 0, headers = sizeof(struct gue_outer) - sizeof(struct iphdr);
	__u32 offset = 0, whole_len, piece_len;

	if (!template || skb->len < sizeof(struct frame))
		return TC_ACT_SHOT;
	whole_len = template->whole_len;
	piece_len = template->piece_len;
	if (skb->mark == MIRRORING_TRUNCATE && skb->len - ETH_HLEN > whole_len &&
	    bpf_skb_change_tail(skb, ETH_HLEN + whole_len, 0))
		return TC_ACT_SHOT;

	skb->mark = 0;
	skb->cb[0] = MIRRORING_MARK_0;
	skb->cb[1] = MIRRORING_MARK_1;
	skb->cb[3] = bpf_get_prandom_u32() & 0xffff;
	for (int i = 0; i < MAX_PIECES; i++) {
		__u32 left = skb->len - ETH_HLEN - sent;
		bool last = sent ? left <= piece_len : left <= whole_len;

		skb->cb[2] = PIECE | offset / 8 | (last ? 0 : IP_MORE_FRAGMENTS);
		/* without one of them the others are of no use */
		if (bpf_clone_redirect(skb, template->tunnel_ifindex, 0))
			return TC_ACT_SHOT;
		if (last)
			return TC_ACT_STOLEN;
		/* of what has been sent, the place of an IP header stays */
		if (bpf_skb_adjust_room(skb,
					-(__s32)(piece_len - headers + sent - sizeof(struct iphdr)),
					BPF_ADJ_ROOM_MAC, 0))
			return TC_ACT_SHOT;
		sent = sizeof(struct iphdr);
		headers = 0;
		offset += piece_len;
	}
	return TC_ACT_SHOT;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
