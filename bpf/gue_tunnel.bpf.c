/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The built-in tunnel: two programs on its own device, a veth pair that carries nothing but copies.
 *
 * On the egress hook, gue_encapsulate puts outer IPv4, UDP and GUE headers in front of a copy and
 * hands it to the NIC. A copy that does not fit one outer packet falls through to the far end: on
 * the way the kernel makes what a wire would carry of it, cuts super-packets into segments and fills
 * in checksums, as the device has none of the offloads for that. There, on the ingress hook, gue_cut
 * sends it back as often as it takes pieces, and gue_encapsulate makes of each the fragment of one
 * outer packet that its mark says.
 *
 * Everything that becomes of a copy here is counted (struct gue_counters).
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

#include "flow_hash.h"
#include "gue.h"
#include "mirroring.h"
#include "parse.h"

enum {
	ENCAPSULATION = BPF_F_ADJ_ROOM_ENCAP_L3_IPV4 | BPF_F_ADJ_ROOM_ENCAP_L4_UDP,
	AF_INET = 2,
	ENOTSUPP = 524, /* include/linux/errno.h of the kernel */
};

enum {
	/* outer fragments of 65,535 bytes over an MTU of 576: those of a smaller one are not asked for */
	MAX_PIECES = 128,
	/* of the outer headers, what only the first fragment has: UDP and GUE */
	FIRST_HEADERS = sizeof(struct gue_outer) - sizeof(struct iphdr),
	/* bpf_skb_change_tail does not cut into where it takes the copy's own headers to be */
	LEAST_LEN = ETH_HLEN + 60,
};

/* In the third word of skb->cb: a piece of a copy, with its iphdr.frag_off. A fourth is its id. */
enum { PIECE = 0x10000 };

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct gue_template);
} gue_template SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct gue_piece);
} gue_piece SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct gue_counters);
} gue_counters SEC(".maps");

/* packed: the IP header follows the 14 bytes of Ethernet without a gap */
struct frame {
	struct ethhdr eth;
	struct iphdr ip;
} __attribute__((packed));

struct encapsulated_frame {
	struct ethhdr eth;
	struct gue_outer outer;
} __attribute__((packed));

/* A copy, as its IP header has it. */
struct inner {
	__u32 ip_hlen;
	__u32 len; /* of the packet; 0: not told */
	__u8 protocol; /* of IPv6, what follows the fixed header */
};

/* The packets of a VLAN have no tag in the tunnel, which carries no frames. */
static __always_inline long pop_tags(struct __sk_buff *skb)
{
	for (int i = 0; i < MAX_VLAN_TAGS; i++) {
		if (!skb->vlan_present && !is_vlan(skb->protocol))
			return 0;
		if (bpf_skb_vlan_pop(skb))
			return -1;
	}
	/* one more, or one of a kind that the kernel does not take off */
	return skb->vlan_present || is_vlan(skb->protocol) ? -1 : 0;
}

static __always_inline bool look(struct __sk_buff *skb, struct inner *inner)
{
	if (skb->protocol == bpf_htons(ETH_P_IPV6)) {
		struct ipv6hdr ip;

		if (bpf_skb_load_bytes(skb, ETH_HLEN, &ip, sizeof(ip)))
			return false;
		inner->ip_hlen = sizeof(ip);
		inner->len = ip.payload_len ? sizeof(ip) + bpf_ntohs(ip.payload_len) : 0;
		inner->protocol = ip.nexthdr;
	} else {
		const struct frame *in;

		if (bpf_skb_pull_data(skb, sizeof(*in)))
			return false;
		in = (const struct frame *)(long)skb->data;
		if ((const void *)(in + 1) > (const void *)(long)skb->data_end)
			return false;
		inner->ip_hlen = in->ip.ihl * 4;
		inner->len = bpf_ntohs(in->ip.tot_len);
		inner->protocol = in->ip.protocol;
	}
	return true;
}

/*
 * Cuts what is to be left out of a copy, of which a super-packet becomes a packet, and the padding of a
 * short Ethernet frame, which is no part of the packet.
 */
static __always_inline long trim(struct __sk_buff *skb, const struct inner *inner, __u32 cut)
{
	__u32 len = skb->len - ETH_HLEN;

	if (cut && cut < len)
		return bpf_skb_change_tail(skb, ETH_HLEN + cut, 0);
	if (skb->gso_size || inner->len < inner->ip_hlen || len <= inner->len)
		return 0;
	return bpf_skb_change_tail(skb, ETH_HLEN + inner->len, 0);
}

/*
 * Room without a mark, in front of a packet that is to count as one of IPv4: of IPv6, the kernel takes
 * some of the header away with that, which is put back.
 */
static __always_inline long make_unmarked_room(struct __sk_buff *skb)
{
	__u8 taken[sizeof(struct ipv6hdr) - sizeof(struct iphdr)];
	long err;

	if (skb->protocol != bpf_htons(ETH_P_IPV6))
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

static __always_inline __sum16 fold(__u32 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

/* Bytes of the IP and the TCP or UDP header of a super-packet; 0 where they are not to be found. */
static __always_inline __u32 headers_len(struct __sk_buff *skb, const struct inner *inner)
{
	struct tcphdr tcp;

	if (inner->protocol == IPPROTO_UDP)
		return inner->ip_hlen + sizeof(struct udphdr);
	if (inner->protocol != IPPROTO_TCP ||
	    bpf_skb_load_bytes(skb, ETH_HLEN + inner->ip_hlen, &tcp, sizeof(tcp)))
		return 0;
	return inner->ip_hlen + tcp.doff * 4;
}

/*
 * Whether the copy, or each segment of it, fits one outer packet. The segments of a TCP super-packet
 * make room for the outer headers.
 */
static __always_inline bool fits(struct __sk_buff *skb, const struct gue_template *template,
				 __u32 gso_size, __u8 protocol, __u32 headers)
{
	if (!gso_size)
		return skb->len - ETH_HLEN <= template->whole_len;
	if (!headers)
		return false;
	if (protocol != IPPROTO_TCP)
		headers += sizeof(struct gue_outer);
	return headers + gso_size <= template->mtu;
}

/* What the kernel makes of a copy on its way through the pair. */
static __always_inline __u32 packets_of(struct __sk_buff *skb, __u32 headers)
{
	__u32 size = skb->gso_size, len = skb->len - ETH_HLEN;

	if (!size)
		return 1;
	/* a virtual machine's are counted by the one who cuts them */
	if (skb->gso_segs || len <= headers)
		return skb->gso_segs;
	return (len - headers + size - 1) / size;
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

/* Fills in the outer Ethernet and IPv4 header. `len` is what the latter says. */
static __always_inline void put_headers(const struct gue_template *template, struct frame *out,
					__u32 len, __be16 id, __be16 frag_off)
{
	__builtin_memset(&out->eth, 0, offsetof(struct ethhdr, h_proto));
	out->eth.h_proto = bpf_htons(ETH_P_IP);
	__builtin_memcpy(&out->ip, template->outer, sizeof(out->ip));
	/* of a super-packet, the kernel sets both lengths again in each segment */
	out->ip.tot_len = bpf_htons(len);
	out->ip.id = id;
	out->ip.frag_off = frag_off;
	out->ip.check = fold(template->ip_sum + out->ip.tot_len + id + frag_off);
}

/* All of the outer headers, for which there is room. `len` and `protocol` are those of the copy. */
static __always_inline int put_outer(struct __sk_buff *skb, const struct gue_template *template,
				     __be16 source, __u8 protocol, __u32 len, __be16 id,
				     __be16 frag_off)
{
	struct encapsulated_frame *out = (struct encapsulated_frame *)(long)skb->data;
	const struct gue_outer *outer = (const struct gue_outer *)template->outer;

	if ((void *)(out + 1) > (void *)(long)skb->data_end)
		return TC_ACT_SHOT;
	put_headers(template, (struct frame *)out, skb->len - ETH_HLEN, id, frag_off);
	__builtin_memcpy(&out->outer.udp, &outer->udp, FIRST_HEADERS);
	out->outer.udp.source = source;
	out->outer.gue.protocol = protocol;
	out->outer.udp.len = bpf_htons(len + FIRST_HEADERS);
	return leave(template);
}

/* What the GUE header says of a copy. */
static __always_inline __u8 gue_protocol(const struct __sk_buff *skb)
{
	return skb->protocol == bpf_htons(ETH_P_IPV6) ? IPPROTO_IPV6 : IPPROTO_IPIP;
}

/* The outer source port: the template's, or the flow's. */
static __always_inline __be16 source_port(struct __sk_buff *skb,
					  const struct gue_template *template)
{
	__be16 source = ((const struct gue_outer *)template->outer)->udp.source;

	return source ? source : flow_port(skb);
}

/* The first piece of a copy, or all of it. */
static __always_inline int send_first(struct __sk_buff *skb, const struct gue_template *template,
				      __be16 id, __u32 frag_off)
{
	__be16 source = source_port(skb, template);
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
static __always_inline int send_later(struct __sk_buff *skb, const struct gue_template *template,
				      __be16 id, __u32 frag_off)
{
	__u32 from = ETH_HLEN + (frag_off & IP_OFFSET_MASK) * 8 - FIRST_HEADERS;
	__s64 len = frag_off & IP_MORE_FRAGMENTS ? template->piece_len : skb->len - from;
	/* of IPv6, an IPv4 packet is made, whose header is shorter */
	__u32 shortened = skb->protocol == bpf_htons(ETH_P_IPV6)
				  ? sizeof(struct ipv6hdr) - sizeof(struct iphdr)
				  : 0;
	__u32 key = 0, frame_len;
	struct gue_piece *piece = bpf_map_lookup_elem(&gue_piece, &key);
	struct frame *out;

	/* one bound at a time, of 64 bits, is what the verifier of Linux 5.10 understands */
	asm volatile("" : "+r"(len));
	if (!piece || len < 1)
		return TC_ACT_SHOT;
	asm volatile("" : "+r"(len));
	if (len > (__s64)sizeof(piece->bytes))
		return TC_ACT_SHOT;
	if (bpf_skb_load_bytes(skb, from, piece->bytes, len))
		return TC_ACT_SHOT;
	/* a short piece has padding behind it, as any short frame */
	frame_len = sizeof(*out) + len;
	if (frame_len < LEAST_LEN)
		frame_len = LEAST_LEN;
	if (bpf_skb_change_tail(skb, frame_len + shortened, 0))
		return TC_ACT_SHOT;
	if (shortened && bpf_skb_change_proto(skb, bpf_htons(ETH_P_IP), 0))
		return TC_ACT_SHOT;
	if (bpf_skb_store_bytes(skb, sizeof(*out), piece->bytes, len, 0))
		return TC_ACT_SHOT;
	out = (struct frame *)(long)skb->data;
	if ((void *)(out + 1) > (void *)(long)skb->data_end)
		return TC_ACT_SHOT;
	put_headers(template, out, sizeof(struct iphdr) + len, id, bpf_htons(frag_off));
	return leave(template);
}

/* From gue_cut: a whole copy, and in its mark which piece of it to send. */
static __always_inline int send_piece(struct __sk_buff *skb, const struct gue_template *template,
				      struct gue_counters *counters)
{
	__u32 frag_off = skb->cb[2] & 0xffff, id = skb->cb[3];
	int verdict;

	if (frag_off & IP_OFFSET_MASK)
		verdict = send_later(skb, template, id, frag_off);
	else
		verdict = send_first(skb, template, id, frag_off);
	if (frag_off && verdict != TC_ACT_SHOT)
		counters->fragments++;
	return verdict;
}

static __always_inline int drop(__u64 *counter)
{
	(*counter)++;
	return TC_ACT_SHOT;
}

/* On the device's egress hook. */
SEC("tc")
int gue_encapsulate(struct __sk_buff *skb)
{
	__u32 key = 0, headers = 0, gso_size;
	const struct gue_template *template = bpf_map_lookup_elem(&gue_template, &key);
	struct gue_counters *counters = bpf_map_lookup_elem(&gue_counters, &key);
	struct inner inner;
	__be16 source;
	__u8 protocol;
	int verdict;

	if (!template || !counters)
		return TC_ACT_SHOT;
	if (skb->cb[0] != MIRRORING_MARK_0 || skb->cb[1] != MIRRORING_MARK_1)
		return drop(&counters->foreign);
	if (skb->cb[2] & PIECE)
		return send_piece(skb, template, counters);
	counters->copies++;
	if (pop_tags(skb))
		return drop(&counters->unreadable);
	if (skb->protocol != bpf_htons(ETH_P_IP) && skb->protocol != bpf_htons(ETH_P_IPV6))
		return drop(&counters->not_ip);
	if (!look(skb, &inner) || trim(skb, &inner, skb->cb[3]))
		return drop(&counters->unreadable);
	gso_size = skb->gso_size;
	/* read once: the verifier refuses what clang makes of two reads */
	asm volatile("" : "+r"(gso_size));
	if (gso_size)
		headers = headers_len(skb, &inner);
	if (fits(skb, template, gso_size, inner.protocol, headers)) {
		source = source_port(skb, template);
		protocol = gue_protocol(skb);
		if (make_room(skb, inner.protocol))
			return drop(&counters->no_room);
		verdict = put_outer(skb, template, source, protocol,
				    skb->len - sizeof(struct encapsulated_frame),
				    bpf_get_prandom_u32(), 0);
		if (verdict == TC_ACT_SHOT)
			return drop(&counters->no_room);
		counters->whole++;
		return verdict;
	}
	/* a packet that this host itself put into a tunnel cannot be cut: ask while it counts */
	if (!skb->gso_size && bpf_skb_change_tail(skb, skb->len, 0) == -ENOTSUPP)
		return drop(&counters->uncuttable);
	counters->long_copies++;
	counters->packets += packets_of(skb, headers);
	skb->mark = skb->cb[2];
	return TC_ACT_OK;
}

/* On the ingress hook of the device's far end. */
SEC("tc")
int gue_cut(struct __sk_buff *skb)
{
	__u32 key = 0;
	const struct gue_template *template = bpf_map_lookup_elem(&gue_template, &key);
	struct gue_counters *counters = bpf_map_lookup_elem(&gue_counters, &key);
	__u32 offset = 0, len, whole_len, piece_len;

	if (!template || !counters)
		return TC_ACT_SHOT;
	whole_len = template->whole_len;
	piece_len = template->piece_len;
	counters->arrived++;
	if (skb->mark == MIRRORING_TRUNCATE && skb->len - ETH_HLEN > whole_len &&
	    bpf_skb_change_tail(skb, ETH_HLEN + whole_len, 0))
		return drop(&counters->untrimmed);

	skb->mark = 0;
	skb->cb[0] = MIRRORING_MARK_0;
	skb->cb[1] = MIRRORING_MARK_1;
	skb->cb[3] = bpf_get_prandom_u32() & 0xffff;
	len = skb->len - ETH_HLEN;
	for (int i = 0; i < MAX_PIECES; i++) {
		bool last = len <= whole_len || offset + piece_len >= len + FIRST_HEADERS;

		skb->cb[2] = PIECE | offset / 8 | (last ? 0 : IP_MORE_FRAGMENTS);
		if (bpf_clone_redirect(skb, template->tunnel_ifindex, 0))
			break;
		if (last) {
			if (offset)
				counters->cut++;
			else
				counters->fitting++;
			return TC_ACT_STOLEN;
		}
		offset += piece_len;
	}
	return drop(&counters->torn);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
