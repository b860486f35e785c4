/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* From frame to the fields that rules speak of. Reads only. */
#ifndef PARSE_H
#define PARSE_H

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <stdbool.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

enum {
	IP_OFFSET_MASK = 0x1fff, /* fragment offset in iphdr.frag_off (RFC 791) */
	IP_MIN_IHL = 5, /* 32-bit words */
};

enum ports {
	PORTS_KNOWN,
	PORTS_NONE, /* the protocol has none */
	PORTS_UNKNOWN, /* a later fragment */
};

struct packet {
	__u32 src_address; /* host byte order, as are the ports */
	__u32 dst_address;
	__u32 src_port;
	__u32 dst_port;
	__u32 l4_offset; /* bytes from the start of the frame */
	__u8 protocol; /* IPPROTO_* */
	enum ports ports;
};

/*
 * `len` bytes at `offset`, in place where they lie in the linear part of the buffer, else copied
 * to `copy`; NULL where the frame is shorter.
 */
static __always_inline const void *header(struct __sk_buff *skb, __u32 offset, void *copy,
					  __u32 len)
{
	void *data = (void *)(long)skb->data;
	void *data_end = (void *)(long)skb->data_end;

	if (data + offset + len <= data_end)
		return data + offset;
	return bpf_skb_load_bytes(skb, offset, copy, len) ? NULL : copy;
}

static __always_inline bool has_ports(__u8 protocol)
{
	return protocol == IPPROTO_TCP || protocol == IPPROTO_UDP || protocol == IPPROTO_SCTP ||
	       protocol == IPPROTO_UDPLITE || protocol == IPPROTO_DCCP;
}

/* Source and destination port lead the header of every protocol that has them. */
struct port_pair {
	__be16 src;
	__be16 dst;
};

/* False for what no rule can match: not IPv4, VLAN-tagged, malformed, cut short. */
static __always_inline bool parse(struct __sk_buff *skb, struct packet *packet)
{
	struct iphdr ip_copy;
	const struct iphdr *ip;
	__u32 header_len, total_len;

	if (skb->protocol != bpf_htons(ETH_P_IP) || skb->vlan_present)
		return false;
	ip = header(skb, ETH_HLEN, &ip_copy, sizeof(ip_copy));
	if (!ip || ip->version != IPVERSION || ip->ihl < IP_MIN_IHL)
		return false;
	header_len = ip->ihl * 4;
	total_len = bpf_ntohs(ip->tot_len);
	/* a super-packet of more than 64 KiB says 0 (BIG TCP) */
	if (!total_len && skb->gso_size)
		total_len = skb->len - ETH_HLEN;
	if (total_len < header_len || skb->len < ETH_HLEN + header_len)
		return false;

	packet->src_address = bpf_ntohl(ip->saddr);
	packet->dst_address = bpf_ntohl(ip->daddr);
	packet->protocol = ip->protocol;
	packet->l4_offset = ETH_HLEN + header_len;
	packet->src_port = 0;
	packet->dst_port = 0;

	if (!has_ports(packet->protocol)) {
		packet->ports = PORTS_NONE;
	} else if (ip->frag_off & bpf_htons(IP_OFFSET_MASK)) {
		packet->ports = PORTS_UNKNOWN;
	} else {
		struct port_pair ports_copy;
		const struct port_pair *ports;

		/* what lies behind the packet is padding */
		if (total_len < header_len + sizeof(*ports))
			return false;
		ports = header(skb, packet->l4_offset, &ports_copy, sizeof(ports_copy));
		if (!ports)
			return false;
		packet->src_port = bpf_ntohs(ports->src);
		packet->dst_port = bpf_ntohs(ports->dst);
		packet->ports = PORTS_KNOWN;
	}
	return true;
}

#endif /* PARSE_H */
