/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The built-in tunnel: two programs on its own device, a veth pair that carries nothing but copies.
 *
 * On the egress hook, gue_encapsulate puts outer IPv4, UDP and GUE headers in front of a copy and
 * hands it to the NIC. A copy that does not fit one outer packet, or that goes to a collector over IPv6,
 * falls through to the far end: on the way the kernel makes what a wire would carry of it, cuts
 * super-packets into segments and fills in checksums, as the device has none of the offloads for that.
 * There, on the ingress hook, gue_cut sends it back as often as it takes pieces, the last time itself, and
 * gue_encapsulate makes of each the fragment of one outer packet that its mark says.
 *
 * Everything that becomes of a copy here is counted (struct gue_counters).
 */
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/in.h>
#include <linux/pkt_cls.h>
#include <linux/tcp.h>
#include <stdbool.h>
#include <stddef.h>

#include "gue.h"
#include "gue_ipv4.bpf.h"
#include "gue_ipv6.bpf.h"
#include "kernel.h"
#include "mark.h"
#include "mirroring.h"
#include "parse.h"
#include "taps.bpf.h"

enum {
	ENOTSUPP = 524, /* include/linux/errno.h of the kernel */
	/* outer fragments of 65,535 bytes over an MTU of 576: those of a smaller one are not asked for */
	MAX_PIECES = 128,
};

/*
 * In the third word of skb->cb: a piece of a copy, with its iphdr.frag_off. A fourth is its id, a fifth, to a
 * collector over IPv6, the sum of the copy.
 */
enum { PIECE = 0x10000 };

/* In the same word, and over the pair in skb->mark: for who listens on the device, and nobody else. */
enum { SHOWN = 0x20000 };

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
	__type(value, struct gue_counters);
} gue_counters SEC(".maps");

/* A copy, as its IP header has it. */
struct inner {
	__u32 ip_hlen;
	__u32 len; /* of the packet; 0: not told */
	__u8 protocol; /* of IPv6, what follows the fixed header */
};

static __always_inline bool is_ip(const struct __sk_buff *skb)
{
	return skb->protocol == bpf_htons(ETH_P_IP) || is_ipv6(skb);
}

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
	if (is_ipv6(skb)) {
		struct ipv6hdr ip;

		if (bpf_skb_load_bytes(skb, ETH_HLEN, &ip, sizeof(ip)))
			return false;
		inner->ip_hlen = sizeof(ip);
		inner->len = ip.payload_len ? sizeof(ip) + bpf_ntohs(ip.payload_len) : 0;
		inner->protocol = ip.nexthdr;
	} else {
		struct iphdr copy;
		const struct iphdr *ip = header(skb, ETH_HLEN, &copy, sizeof(copy));

		if (!ip)
			return false;
		inner->ip_hlen = ip->ihl * 4;
		inner->len = bpf_ntohs(ip->tot_len);
		inner->protocol = ip->protocol;
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

/* From gue_cut: a whole copy, and in its mark which piece of it to send. */
static __always_inline int send_piece(struct __sk_buff *skb, const struct gue_template *template,
				      struct gue_counters *counters)
{
	__u32 frag_off = skb->cb[2] & 0xffff, id = skb->cb[3];
	bool last = !(frag_off & IP_MORE_FRAGMENTS);
	int verdict;

	if (template->is_ipv6)
		verdict = frag_off & IP_OFFSET_MASK
				  ? send_later_ipv6(skb, template, id, frag_off)
				  : send_first_ipv6(skb, template, id, frag_off, skb->cb[4]);
	else
		verdict = frag_off & IP_OFFSET_MASK ? send_later_ipv4(skb, template, id, frag_off)
						    : send_first_ipv4(skb, template, id, frag_off);
	if (verdict == TC_ACT_SHOT) {
		/* of another piece, gue_cut learns that it was refused */
		if (last)
			counters->torn++;
		return verdict;
	}
	if (frag_off)
		counters->fragments++;
	if (last && frag_off)
		counters->cut++;
	else if (last)
		counters->fitting++;
	return verdict;
}

static __always_inline int drop(__u64 *counter)
{
	(*counter)++;
	return TC_ACT_SHOT;
}

/*
 * The id of an outer packet that nobody has cut yet: a router may do that. Each CPU's are in a row, since
 * the same one so soon again would mix two packets up, and those of different CPUs in different places.
 */
static __always_inline __u16 outer_id(const struct gue_counters *counters)
{
	enum { APART = 0x9e37 }; /* 2^16 over the golden ratio: far from each other, however many */

	return counters->copies + bpf_get_smp_processor_id() * APART;
}

/*
 * Packet sockets on the device (tcpdump) get what is transmitted, and a copy that fits leaves before that. So where
 * there are some, one more goes on to the far end, which drops it.
 */
static __always_inline void show(struct __sk_buff *skb)
{
	__u32 oversize = skb->cb[2];

	skb->cb[2] = SHOWN;
	bpf_clone_redirect(skb, skb->ifindex, 0);
	skb->cb[2] = oversize;
}

/* Sends a copy over IPv4 that fits. */
static __always_inline int send_whole(struct __sk_buff *skb, const struct gue_template *template,
				      struct gue_counters *counters, __u8 inner_protocol)
{
	const struct gue_outer *outer = (const struct gue_outer *)template->outer;
	__be16 source = source_port(skb, outer->udp.source);
	__u8 protocol = gue_protocol(skb);
	int verdict;

	if (is_tapped(skb))
		show(skb);
	if (make_room(skb, inner_protocol))
		return drop(&counters->no_room);
	verdict = put_outer(skb, template, source, protocol,
			    skb->len - sizeof(struct encapsulated_frame), outer_id(counters), 0);
	if (verdict == TC_ACT_SHOT)
		return drop(&counters->no_room);
	counters->whole++;
	return verdict;
}

/*
 * Makes the segments of a TCP super-packet so much shorter that they fit with the outer headers: that is
 * what room in front of it does, and what is left when it is taken away again.
 */
static __always_inline long shorten_segments(struct __sk_buff *skb)
{
	__s32 room = sizeof(struct gue_outer6);

	return bpf_skb_adjust_room(skb, room, BPF_ADJ_ROOM_MAC, 0)
		       ?: bpf_skb_adjust_room(skb, -room, BPF_ADJ_ROOM_MAC,
					      BPF_F_ADJ_ROOM_FIXED_GSO);
}

/* On the device's egress hook. */
SEC("tc")
int gue_encapsulate(struct __sk_buff *skb)
{
	__u32 key = 0, headers = 0, gso_size;
	const struct gue_template *template = bpf_map_lookup_elem(&gue_template, &key);
	struct gue_counters *counters = bpf_map_lookup_elem(&gue_counters, &key);
	struct inner inner;
	bool fitting;

	if (!template || !counters)
		return TC_ACT_SHOT;
	if (!is_copy(skb))
		return drop(&counters->foreign);
	if (skb->cb[2] & (PIECE | SHOWN)) {
		if (skb->cb[2] & PIECE)
			return send_piece(skb, template, counters);
		skb->mark = SHOWN;
		return TC_ACT_OK;
	}
	counters->copies++;
	if ((skb->vlan_present || !is_ip(skb)) && pop_tags(skb))
		return drop(&counters->unreadable);
	if (!is_ip(skb))
		return drop(&counters->not_ip);
	if (!look(skb, &inner) || trim(skb, &inner, skb->cb[3]))
		return drop(&counters->unreadable);
	gso_size = skb->gso_size;
	/* read once: the verifier refuses what clang makes of two reads */
	barrier_var(gso_size);
	if (gso_size)
		headers = headers_len(skb, &inner);
	fitting = fits(skb, template, gso_size, inner.protocol, headers);
	if (fitting && !template->is_ipv6)
		return send_whole(skb, template, counters, inner.protocol);
	if (fitting && gso_size && inner.protocol == IPPROTO_TCP &&
	    headers + gso_size > template->whole_len && shorten_segments(skb))
		return drop(&counters->no_room);
	/* a packet that this host itself put into a tunnel cannot be cut: ask while it counts */
	if (!fitting && !skb->gso_size && bpf_skb_change_tail(skb, skb->len, 0) == -ENOTSUPP)
		return drop(&counters->uncuttable);
	counters->paired++;
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
	__u32 offset = 0, sum, len, whole_len, piece_len;

	if (!template || !counters)
		return TC_ACT_SHOT;
	if (skb->mark == SHOWN)
		return TC_ACT_SHOT;
	whole_len = template->whole_len;
	piece_len = template->piece_len;
	counters->arrived++;
	if (skb->mark == MIRRORING_TRUNCATE && skb->len - ETH_HLEN > whole_len &&
	    bpf_skb_change_tail(skb, ETH_HLEN + whole_len, 0))
		return drop(&counters->untrimmed);
	if (template->is_ipv6) {
		if (!sum_up(skb, &sum))
			return drop(&counters->unsummed);
		skb->cb[4] = sum;
	}

	/* the far end takes it for another host's, and the loopback device leaves it at that */
	bpf_skb_change_type(skb, PACKET_HOST);
	skb->mark = 0;
	mark(skb);
	/* of IPv4, half of the id is used */
	skb->cb[3] = bpf_get_prandom_u32();
	len = skb->len - ETH_HLEN;
	for (int i = 0; i < MAX_PIECES; i++) {
		bool last = len <= whole_len || offset + piece_len >= len + FIRST_HEADERS;

		skb->cb[2] = PIECE | offset / 8 | (last ? 0 : IP_MORE_FRAGMENTS);
		/* (TC_ACT_STOLEN would not end it: to TCX that is no verdict, and the stack would take the packet.) */
		if (last)
			return bpf_redirect(template->tunnel_ifindex, 0);
		if (bpf_clone_redirect(skb, template->tunnel_ifindex, 0))
			break;
		offset += piece_len;
	}
	return drop(&counters->torn);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
