/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What the built-in tunnel's program and user space share. */
#ifndef GUE_H
#define GUE_H

#include <linux/ip.h>
#include <linux/types.h>
#include <linux/udp.h>

/* GUE, version 0, data message, no extensions (draft-ietf-intarea-gue, section 3.1). */
struct gue_header {
	__u8 version_control_hlen; /* all 0 */
	__u8 protocol; /* of what follows: IPPROTO_IPIP for an IPv4 packet */
	__be16 flags; /* 0 */
};

/* The headers in front of every copy, in network byte order. */
struct gue_outer {
	struct iphdr ip;
	struct udphdr udp; /* check stays 0: no checksum (RFC 768) */
	struct gue_header gue;
} __attribute__((packed));

/* gue_template, one entry. */
struct gue_template {
	/* a struct gue_outer, of which the program sets ip.tot_len, ip.id, ip.check and udp.len */
	__u8 outer[sizeof(struct gue_outer)];
	__u32 ip_sum; /* of the 16-bit words of ip as it stands here, not folded (RFC 1071) */
	__u32 ifindex; /* the NIC that the copies leave by */
	__be32 next_hop; /* 0: ask the kernel's routes for each copy */
	__u32 tunnel_ifindex; /* the tunnel device */
	__u32 mtu; /* of the NIC */
	__u32 whole_len; /* longest copy that leaves in one outer packet, bytes from its IP header on */
	__u32 piece_len; /* of a longer one: payload of each outer fragment but the last */
} __attribute__((aligned(8)));

#endif /* GUE_H */
