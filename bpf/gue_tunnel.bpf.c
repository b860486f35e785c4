/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The built-in tunnel, on the egress hook of its own device: puts outer IPv4, UDP and GUE headers
 * in front of a copy and hands it to the NIC. The device carries nothing else.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/pkt_cls.h>
#include <stddef.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "gue.h"
#include "mirroring.h"

enum {
	ENCAPSULATION = BPF_F_ADJ_ROOM_ENCAP_L3_IPV4 | BPF_F_ADJ_ROOM_ENCAP_L4_UDP,
	AF_INET = 2,
};

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

SEC("tc")
int gue_encapsulate(struct __sk_buff *skb)
{
	__u32 key = 0;
	const struct gue_template *template = bpf_map_lookup_elem(&gue_template, &key);
	struct bpf_redir_neigh next_hop;
	struct encapsulated_frame *out;
	const struct frame *in;
	__u8 protocol;
	__u32 len;

	if (!template || skb->cb[0] != MIRRORING_MARK_0 || skb->cb[1] != MIRRORING_MARK_1 ||
	    skb->protocol != bpf_htons(ETH_P_IP))
		return TC_ACT_SHOT;
	if (bpf_skb_pull_data(skb, sizeof(*in)))
		return TC_ACT_SHOT;
	in = (const struct frame *)(long)skb->data;
	if ((const void *)(in + 1) > (const void *)(long)skb->data_end)
		return TC_ACT_SHOT;
	protocol = in->ip.protocol;
	if (trim(skb, bpf_ntohs(in->ip.tot_len)) || make_room(skb, protocol))
		return TC_ACT_SHOT;

	out = (struct encapsulated_frame *)(long)skb->data;
	if ((void *)(out + 1) > (void *)(long)skb->data_end)
		return TC_ACT_SHOT;
	len = skb->len - ETH_HLEN;
	__builtin_memset(&out->eth, 0, offsetof(struct ethhdr, h_proto));
	out->eth.h_proto = bpf_htons(ETH_P_IP);
	__builtin_memcpy(&out->outer, template->outer, sizeof(out->outer));
	/* of a super-packet, the kernel sets both lengths again in each segment */
	out->outer.ip.tot_len = bpf_htons(len);
	out->outer.ip.id = bpf_get_prandom_u32();
	out->outer.ip.check = fold(template->ip_sum + out->outer.ip.tot_len + out->outer.ip.id);
	out->outer.udp.len = bpf_htons(len - sizeof(struct iphdr));

	if (!template->next_hop)
		return bpf_redirect_neigh(template->ifindex, NULL, 0, 0);
	/* piece by piece: an initializer would make a .rodata map */
	__builtin_memset(&next_hop, 0, sizeof(next_hop));
	next_hop.nh_family = AF_INET;
	next_hop.ipv4_nh = template->next_hop;
	return bpf_redirect_neigh(template->ifindex, &next_hop, sizeof(next_hop), 0);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
