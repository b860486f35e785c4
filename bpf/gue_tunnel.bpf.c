/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The built-in tunnel: two programs on its device, a veth pair that carries nothing but copies.
 *
 * gue_encapsulate runs on the egress hook. It puts outer IPv4, UDP and GUE headers in front of a copy and
 * redirects it to the NIC. Two kinds of copies cross the veth pair first: those that do not fit one outer
 * packet, and all copies to a collector over IPv6. The device has no offloads, so on the way the kernel
 * segments super-packets and fills in checksums.
 *
 * gue_cut runs on the ingress hook of the far end. It sends a copy back to the device once for each fragment,
 * with a mark that says which one. gue_encapsulate makes that fragment of the outer packet and sends it.
 *
 * Every outcome is counted (struct gue_counters).
 */
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/in.h>
#include <linux/pkt_cls.h>
#include <linux/pkt_sched.h>
#include <linux/tcp.h>
#include <stdbool.h>
#include <stddef.h>

#include "gue.h"
#include "gue_ipv4.bpf.h"
#include "gue_ipv6.bpf.h"
#include "kernel.h"
#include "mark.h"
#include "mirroring.h"
#include "next_hop.bpf.h"
#include "parse.h"
#include "taps.bpf.h"

enum {
	ENOTSUPP = 524, /* the kernel's include/linux/errno.h, which is not exported */
	/* as many as 65,535 bytes need with an MTU of 576; with a smaller MTU, copies are not fragmented */
	MAX_PIECES = 128,
};

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

/* What the IP header of a copy says. */
struct inner {
	__u32 ip_hlen; /* of IPv6, without extension headers */
	__u32 len; /* of the packet; 0: the header does not say */
	__u8 protocol; /* of IPv6, what follows the fixed header */
};

static __always_inline bool is_ip(const struct __sk_buff *skb)
{
	return skb->protocol == bpf_htons(ETH_P_IP) || is_ipv6(skb);
}

/* Removes VLAN tags: the tunnel carries IP packets, not frames. */
static __always_inline long pop_tags(struct __sk_buff *skb)
{
	for (int i = 0; i < MAX_VLAN_TAGS; i++) {
		if (!skb->vlan_present && !is_vlan(skb->protocol))
			return 0;
		if (bpf_skb_vlan_pop(skb))
			return -1;
	}
	/* too many tags, or a kind of tag that the kernel does not remove */
	return skb->vlan_present || is_vlan(skb->protocol) ? -1 : 0;
}

static __always_inline bool read_inner(struct __sk_buff *skb, struct inner *inner)
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
 * Truncates a copy to `cut` bytes, if that is not 0; a truncated super-packet becomes an ordinary packet.
 * Otherwise removes the padding of a short Ethernet frame, which is not part of the packet.
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

/* Length of the IP and the TCP or UDP header of a super-packet; 0 if it has neither. */
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
 * Whether the copy, or each segment of it, fits one outer packet. The segments of a TCP super-packet get
 * shorter by the outer headers; those of UDP do not.
 */
static __always_inline bool fits_outer_packet(struct __sk_buff *skb,
					      const struct gue_template *template, __u32 gso_size,
					      __u8 protocol, __u32 headers)
{
	if (!gso_size)
		return skb->len - ETH_HLEN <= template->whole_len;
	if (!headers)
		return false;
	if (protocol != IPPROTO_TCP)
		headers += sizeof(struct gue_outer);
	return headers + gso_size <= template->mtu;
}

/* How many packets the kernel makes of a copy on its way through the pair. */
static __always_inline __u32 segment_count(struct __sk_buff *skb, __u32 headers)
{
	__u32 size = skb->gso_size, len = skb->len - ETH_HLEN;

	if (!size)
		return 1;
	/* gso_segs is 0 for super-packets that come from a virtual machine */
	if (skb->gso_segs || len <= headers)
		return skb->gso_segs;
	return (len - headers + size - 1) / size;
}

/* Sends one fragment of a copy from gue_cut, or all of it if it fits. */
static __always_inline int send_piece(struct __sk_buff *skb, const struct gue_template *template,
				      struct gue_counters *counters)
{
	__u32 frag_off = skb->cb[2] & 0xffff, id = skb->cb[3];
	bool last = !(frag_off & IP_MF);
	int verdict;

	if (template->is_ipv6)
		verdict = frag_off & IP_OFFSET
				  ? send_later_ipv6(skb, template, id, frag_off)
				  : send_first_ipv6(skb, template, id, frag_off, skb->cb[4]);
	else
		verdict = frag_off & IP_OFFSET ? send_later_ipv4(skb, template, id, frag_off)
					       : send_first_ipv4(skb, template, id, frag_off);
	if (verdict == TC_ACT_SHOT) {
		/* gue_cut notices a failure itself, except for the last fragment */
		if (last)
			counters->fragment_send_failed++;
		return verdict;
	}
	if (frag_off)
		counters->fragments++;
	if (last && frag_off)
		counters->sent_fragmented++;
	else if (last)
		counters->sent_whole_via_veth++;
	return verdict;
}

static __always_inline int drop(__u64 *counter)
{
	(*counter)++;
	return TC_ACT_SHOT;
}

/*
 * The id of an outer packet, which matters if a router fragments it. Ids must not repeat soon, or the
 * fragments of two packets would be mixed up. So each CPU counts, and each begins at another number.
 */
static __always_inline __u16 outer_id(const struct gue_counters *counters)
{
	/* 2^16 divided by the golden ratio spreads any number of CPUs well */
	enum { CPU_STRIDE = 0x9e37 };

	return counters->copies + bpf_get_smp_processor_id() * CPU_STRIDE;
}

/*
 * Packet sockets on the device (tcpdump) see only what the device transmits, and a copy that fits leaves before that.
 * So one more copy is transmitted for them, which the far end drops.
 */
static __always_inline void show_to_taps(struct __sk_buff *skb)
{
	__u32 oversize = skb->cb[2];

	skb->cb[2] = GUE_TAP_COPY;
	bpf_clone_redirect(skb, skb->ifindex, 0);
	skb->cb[2] = oversize;
}

/* Sends a copy that fits one outer IPv4 packet. */
static __always_inline int send_whole(struct __sk_buff *skb, const struct gue_template *template,
				      struct gue_counters *counters, __u8 inner_protocol)
{
	const struct gue_outer *outer = (const struct gue_outer *)template->outer;
	__be16 source = source_port(skb, outer->udp.source);
	__u8 protocol = gue_protocol(skb);
	int verdict;

	if (is_tapped(skb))
		show_to_taps(skb);
	if (make_room(skb, inner_protocol))
		return drop(&counters->encap_failed);
	verdict = send_encapsulated(skb, template, source, protocol,
				    skb->len - sizeof(struct encapsulated_frame),
				    outer_id(counters), 0);
	if (verdict == TC_ACT_SHOT)
		return drop(&counters->encap_failed);
	counters->sent_whole++;
	return verdict;
}

/*
 * Makes the segments of a TCP super-packet shorter by the outer headers. To make room in front of the packet
 * does that. To remove the room again, with BPF_F_ADJ_ROOM_FIXED_GSO, leaves the segments short.
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
		return drop(&counters->not_a_copy);
	if (skb->cb[2] & (GUE_PIECE | GUE_TAP_COPY)) {
		if (skb->cb[2] & GUE_PIECE)
			return send_piece(skb, template, counters);
		skb->mark = GUE_TAP_COPY;
		return TC_ACT_OK;
	}
	counters->copies++;
	if (has_to_wait(skb, template))
		return drop(&counters->next_hop_unresolved);
	if ((skb->vlan_present || !is_ip(skb)) && pop_tags(skb))
		return drop(&counters->unreadable);
	if (!is_ip(skb))
		return drop(&counters->not_ip);
	if (!read_inner(skb, &inner) || trim(skb, &inner, skb->cb[3]))
		return drop(&counters->unreadable);
	gso_size = skb->gso_size;
	/* read it only once: the verifier refuses the code that clang makes of two reads */
	barrier_var(gso_size);
	if (gso_size)
		headers = headers_len(skb, &inner);
	fitting = fits_outer_packet(skb, template, gso_size, inner.protocol, headers);
	if (fitting && !template->is_ipv6)
		return send_whole(skb, template, counters, inner.protocol);
	if (fitting && gso_size && inner.protocol == IPPROTO_TCP &&
	    headers + gso_size > template->whole_len && shorten_segments(skb))
		return drop(&counters->encap_failed);
	/* a packet that this host put into another tunnel cannot be cut; find out here, where it can be counted */
	if (!fitting && !skb->gso_size && bpf_skb_change_tail(skb, skb->len, 0) == -ENOTSUPP)
		return drop(&counters->nested_tunnel_too_long);
	counters->via_veth++;
	counters->veth_packets += segment_count(skb, headers);
	skb->mark = GUE_TO_FAR_END | skb->cb[2];
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
	if (skb->mark == GUE_TAP_COPY)
		return TC_ACT_SHOT;
	/* one that came past gue_encapsulate, which is no longer there, would go round for ever */
	if (!(skb->mark & GUE_TO_FAR_END))
		return drop(&counters->not_a_copy);
	whole_len = template->whole_len;
	piece_len = template->piece_len;
	counters->veth_received++;
	if (skb->mark == (GUE_TO_FAR_END | MIRRORING_TRUNCATE) && skb->len - ETH_HLEN > whole_len &&
	    bpf_skb_change_tail(skb, ETH_HLEN + whole_len, 0))
		return drop(&counters->truncate_failed);
	if (template->is_ipv6) {
		if (!checksum_copy(skb, &sum))
			return drop(&counters->checksum_failed);
		skb->cb[4] = sum;
	}

	/*
	 * To the far end the copy is another host's, by its Ethernet address. If it is then redirected to the
	 * loopback device, IP would drop it for that.
	 */
	bpf_skb_change_type(skb, PACKET_HOST);
	skb->mark = 0;
	mark(skb);
	/* the pair cleared it */
	skb->priority = TC_PRIO_FILLER;
	/* the id of the outer packet: IPv6 uses 32 bits, IPv4 16 of them */
	skb->cb[3] = bpf_get_prandom_u32();
	len = skb->len - ETH_HLEN;
	for (int i = 0; i < MAX_PIECES; i++) {
		bool last = len <= whole_len || offset + piece_len >= len + GUE_HEADERS_LEN;

		skb->cb[2] = GUE_PIECE | offset / 8 | (last ? 0 : IP_MF);
		/*
		 * The last redirect takes the copy away. TC_ACT_STOLEN would not: TCX does not know that verdict,
		 * and the host's stack would receive the copy as production traffic.
		 */
		if (last)
			return bpf_redirect(template->tunnel_ifindex, 0);
		if (bpf_clone_redirect(skb, template->tunnel_ifindex, 0))
			break;
		offset += piece_len;
	}
	return drop(&counters->fragment_send_failed);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
