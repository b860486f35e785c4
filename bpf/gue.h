/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What the programs of the built-in tunnel and user space share. */
#ifndef GUE_H
#define GUE_H

#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/types.h>
#include <linux/udp.h>

/* GUE, version 0, data message, no extensions (draft-ietf-intarea-gue, section 3.1). */
struct gue_header {
	__u8 version_control_hlen; /* 0 */
	__u8 protocol; /* of the payload: IPPROTO_IPIP for an IPv4 packet, IPPROTO_IPV6 for an IPv6 one */
	__be16 flags; /* 0 */
};

/* The outer headers of every copy to a collector over IPv4, in network byte order. */
struct gue_outer {
	struct iphdr ip;
	struct udphdr udp; /* its checksum stays 0, which means none (RFC 768) */
	struct gue_header gue;
} __attribute__((packed, aligned(2)));

/* The same over IPv6. */
struct gue_outer6 {
	struct ipv6hdr ip;
	struct udphdr udp; /* its checksum is mandatory (RFC 8200, 8.1) */
	struct gue_header gue;
} __attribute__((packed, aligned(2)));

enum gue_size {
	/* the outer headers behind IP, which only the first fragment has */
	GUE_HEADERS_LEN = sizeof(struct udphdr) + sizeof(struct gue_header),
	GUE_LONGEST_PIECE = 8976, /* payload of the longest outer fragment, for an MTU of 9000 */
};

/* gue_template, one entry. */
struct gue_template {
	/*
	 * a struct gue_outer, or with is_ipv6 a struct gue_outer6. The program sets the lengths, ip.id,
	 * checksums and gue.protocol. If udp.source is 0, it sets that from the flow's hash.
	 */
	__u8 outer[sizeof(struct gue_outer6)];
	/*
	 * a sum of 16-bit words, not folded (RFC 1071). Over IPv4: of the IP header as it stands here.
	 * Over IPv6: of what the UDP checksum covers and all copies have in common, without the source port.
	 */
	__u32 sum;
	__u32 ifindex; /* the NIC that the copies leave by */
	__be32 next_hop
		[4]; /* an IPv4 address is in the first word; 0: the kernel's routes choose for each copy */
	__u32 is_ipv6;
	__u32 tunnel_ifindex; /* the tunnel device */
	__u32 mtu; /* of the NIC; over IPv6, of the route */
	__u32 whole_len; /* longest copy that fits one outer packet, bytes from its IP header on */
	__u32 piece_len; /* payload of each outer fragment of a longer copy, except the last fragment */
} __attribute__((aligned(8)));

/* gue_piece, per CPU: a buffer to move bytes within a packet. */
struct gue_piece {
	__u8 bytes[GUE_LONGEST_PIECE];
} __attribute__((aligned(8)));

/*
 * gue_counters, per CPU, since the device was made. These sums hold:
 *
 * copies        = sent_whole + via_veth + not_ip + unreadable + encap_failed + nested_tunnel_too_long +
 *                 next_hop_unresolved
 * veth_packets  = veth_received + what the pair lost
 * veth_received = sent_whole_via_veth + sent_fragmented + truncate_failed + checksum_failed +
 *                 fragment_send_failed
 *
 * The device refuses the copies that it counts from not_ip to next_hop_unresolved: the instance counts them
 * as failed. The instance counts all other copies as sent.
 */
struct gue_counters {
	__u64 not_a_copy; /* other packets on the device, dropped; not part of any other count */
	__u64 copies; /* from all instances that share the device */
	__u64 sent_whole; /* to the NIC in one outer packet each, without crossing the veth pair */
	__u64 via_veth; /* sent through the veth pair: too long, or to a collector over IPv6 */
	__u64 veth_packets; /* packets that these became, after the kernel has segmented super-packets */
	__u64 not_ip;
	__u64 unreadable; /* too short, too many VLAN tags, or no memory to read or trim it */
	__u64 encap_failed; /* the kernel refused to make room for the outer headers */
	__u64 nested_tunnel_too_long; /* does not fit, and cannot be cut: this host put it into another tunnel */
	__u64 next_hop_unresolved; /* the kernel does not know the next hop's link-layer address yet, or any more */
	__u64 veth_received; /* packets that arrived at the far end of the pair */
	__u64 sent_whole_via_veth; /* of these, to the NIC in one outer packet each */
	__u64 sent_fragmented; /* of these, to the NIC in several outer fragments each */
	__u64 fragments; /* outer fragments sent */
	__u64 truncate_failed; /* could not be truncated to what fits */
	__u64 checksum_failed; /* could not be read for the outer UDP checksum */
	__u64 fragment_send_failed; /* a fragment was refused, which makes the others useless */
};

/*
 * What gue_cut tells gue_encapsulate about a copy, in skb->cb[2], beside or instead of enum
 * mirroring_oversize.
 */
enum gue_mark {
	/*
	 * Send one outer fragment: the low 16 bits are its iphdr.frag_off, cb[3] is its id, and to a collector
	 * over IPv6 cb[4] is the checksum of the copy.
	 */
	GUE_PIECE = 0x10000,
	/* Only for packet sockets on the device: the far end drops it. Over the pair, this is in skb->mark. */
	GUE_TAP_COPY = 0x20000,
	/* In skb->mark, over the pair: a copy that the far end is to send, with its enum mirroring_oversize. */
	GUE_TO_FAR_END = 0x40000,
};

#endif /* GUE_H */
