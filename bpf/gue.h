/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What the built-in tunnel's program and user space share. */
#ifndef GUE_H
#define GUE_H

#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/types.h>
#include <linux/udp.h>

/* GUE, version 0, data message, no extensions (draft-ietf-intarea-gue, section 3.1). */
struct gue_header {
	__u8 version_control_hlen; /* all 0 */
	__u8 protocol; /* of what follows: IPPROTO_IPIP for an IPv4 packet, IPPROTO_IPV6 for an IPv6 one */
	__be16 flags; /* 0 */
};

/* The headers in front of every copy, in network byte order. */
struct gue_outer {
	struct iphdr ip;
	struct udphdr udp; /* check stays 0: no checksum (RFC 768) */
	struct gue_header gue;
} __attribute__((packed, aligned(2)));

/* The same to a collector over IPv6. */
struct gue_outer6 {
	struct ipv6hdr ip;
	struct udphdr udp; /* its checksum is needed (RFC 8200, 8.1) */
	struct gue_header gue;
} __attribute__((packed, aligned(2)));

enum gue_size {
	GUE_LONGEST_PIECE = 8976, /* payload of an outer fragment: as much as fits an MTU of 9000 */
};

/* gue_template, one entry. */
struct gue_template {
	/*
	 * a struct gue_outer, or gue_outer6 where is_ipv6, of which the program sets lengths, ip.id,
	 * checksums and gue.protocol; and udp.source where it is 0: from the flow's hash
	 */
	__u8 outer[sizeof(struct gue_outer6)];
	/*
	 * of 16-bit words, not folded (RFC 1071): those of ip as it stands here; over IPv6 those under
	 * the UDP checksum that all copies have in common, but for the source port
	 */
	__u32 sum;
	__u32 ifindex; /* the NIC that the copies leave by */
	__be32 next_hop[4]; /* of IPv4, the first word; 0: ask the kernel's routes each time */
	__u32 is_ipv6;
	__u32 tunnel_ifindex; /* the tunnel device */
	__u32 mtu; /* of the NIC, or of the route over IPv6 */
	__u32 whole_len; /* longest copy that leaves in one outer packet, bytes from its IP header on */
	__u32 piece_len; /* of a longer one: payload of each outer fragment but the last */
} __attribute__((aligned(8)));

/* gue_piece, per CPU: what is on its way from one place in a packet to another. */
struct gue_piece {
	__u8 bytes[GUE_LONGEST_PIECE];
} __attribute__((aligned(8)));

/*
 * gue_counters, per CPU, since the device was made.
 *
 * copies  = whole + paired + not_ip + unreadable + no_room + uncuttable
 * packets = arrived + what the pair lost
 * arrived = fitting + cut + untrimmed + unsummed + torn
 *
 * A copy that the device refuses (not_ip to uncuttable) is one of its instance's failed; every
 * other one is one of its instance's sent.
 */
struct gue_counters {
	__u64 foreign; /* no copies, and dropped: they are in none of the other counts */
	__u64 copies; /* handed over by the instances that share the device */
	__u64 whole; /* went to the NIC at once, super-packets among them */
	__u64 paired; /* went through the pair: did not fit an outer packet, or to a collector over IPv6 */
	__u64 packets; /* as so many packets, after the kernel has cut super-packets */
	__u64 not_ip;
	__u64 unreadable; /* cut short, or no memory to look at it */
	__u64 no_room; /* could not be given outer headers */
	__u64 uncuttable; /* too long, and in another tunnel of this host already */
	__u64 arrived; /* packets that came to the far end */
	__u64 fitting; /* of these: went to the NIC in one outer packet */
	__u64 cut; /* went to the NIC in several */
	__u64 fragments; /* in so many */
	__u64 untrimmed; /* could not be truncated */
	__u64 unsummed; /* could not be read for the UDP checksum */
	__u64 torn; /* a piece was refused, so that the others are of no use */
};

#endif /* GUE_H */
