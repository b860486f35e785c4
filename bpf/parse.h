/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Parses a frame into the fields that rules can name. It never writes to the frame. */
#ifndef PARSE_H
#define PARSE_H

#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/in6.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <stdbool.h>

#include "kernel.h"
#include "mirroring.h"

/* By the names that the kernel has for them in headers that are not exported (net/ip.h, net/ipv6.h). */
enum {
	IP_MF = 0x2000, /* "more fragments" in iphdr.frag_off (RFC 791) */
	IP_OFFSET = 0x1fff, /* fragment offset there, in units of 8 bytes */
	IP6_MF = 0x0001, /* "more fragments" in extension_header.offset_and_more (RFC 8200, 4.5) */
	IP6_OFFSET = 0xfff8, /* fragment offset there, in bytes */
};

enum {
	IP_MIN_IHL = 5, /* 32-bit words */
	VLAN_ID_MASK = 0x0fff, /* in a tag's TCI (IEEE 802.1Q) */
};

/* A packet with more than these matches no rule. */
enum {
	MAX_VLAN_TAGS = 2,
	MAX_EXTENSION_HEADERS = 8,
};

enum ports {
	PORTS_KNOWN,
	PORTS_NONE, /* the protocol has no ports */
	PORTS_UNKNOWN, /* a later fragment: its ports are in the first one */
};

enum fragment {
	FRAGMENT_NONE, /* a whole packet */
	FRAGMENT_FIRST,
	FRAGMENT_LATER,
};

struct packet {
	__be32 src[4]; /* of IPv4, only the first word is set */
	__be32 dst[4];
	__u32 src_port; /* host byte order */
	__u32 dst_port;
	__u32 l3_offset; /* bytes from the start of the frame */
	__u32 l4_offset;
	__u32 length; /* of the IP packet, bytes */
	__u32 fragment_id; /* of a fragment, in network byte order */
	enum ports ports;
	enum fragment fragment;
	__u8 protocol; /* IPPROTO_*; of IPv6, the upper-layer header behind the extension headers */
	__u8 traffic_class; /* of IPv4, the type of service */
	__u32 is_ipv6;
	__u32 is_drawn; /* whether `draw` is set */
	__u32 draw; /* a rule samples by this number; all fragments of a datagram have the same */
};

/* What follows a TPID in a tagged frame (IEEE 802.1Q). */
struct vlan_tag {
	__be16 tci;
	__be16 ethertype;
};

/* How every extension header begins (RFC 8200, section 4; RFC 4302 for the authentication header). */
struct extension_header {
	__u8 next;
	__u8 len; /* in units that depend on the kind of header */
	__be16 offset_and_more; /* in a fragment header */
	__be32 fragment_id; /* in a fragment header */
};

/* Every protocol that has ports has them at the beginning of its header. */
struct port_pair {
	__be16 src;
	__be16 dst;
};

/*
 * Returns `len` bytes at `offset`: in place if they are in the linear part of the buffer, otherwise copied to
 * `copy`. NULL if the frame is shorter.
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

/*
 * Returns `value`, but all that the verifier knows about it is the range 0 to `mask`. It then has one state to
 * follow instead of one for each path that led here. (It gives up after a million instructions, and each one
 * makes a start slower.)
 */
static __always_inline __u32 verifier_opaque(const struct mirroring_config *config, __u32 value,
					     __u32 mask)
{
	return (value + config->zero) & mask;
}

/* Sets what not every packet has to 0, a 0 that is opaque to the verifier. */
static __always_inline void clear_packet(const struct mirroring_config *config,
					 struct packet *packet)
{
	packet->src[1] = packet->src[2] = packet->src[3] = config->zero;
	packet->dst[1] = packet->dst[2] = packet->dst[3] = config->zero;
	packet->src_port = packet->dst_port = config->zero;
	packet->fragment_id = config->zero;
	packet->draw = packet->is_drawn = config->zero;
}

static __always_inline bool has_ports(__u8 protocol)
{
	return protocol == IPPROTO_TCP || protocol == IPPROTO_UDP || protocol == IPPROTO_SCTP ||
	       protocol == IPPROTO_UDPLITE || protocol == IPPROTO_DCCP;
}

static __always_inline bool is_vlan(__be16 ethertype)
{
	return ethertype == bpf_htons(ETH_P_8021Q) || ethertype == bpf_htons(ETH_P_8021AD) ||
	       ethertype == bpf_htons(ETH_P_QINQ1);
}

/*
 * Returns where the network header begins, and stores its EtherType; 0 if there are too many tags or the
 * frame ends within one.
 */
static __always_inline __u32 skip_vlan_tags(struct __sk_buff *skb, __be16 *ethertype)
{
	__u32 offset = ETH_HLEN, tags = skb->vlan_present ? 1 : 0;

	for (int i = 0; i < MAX_VLAN_TAGS; i++) {
		struct vlan_tag tag;

		if (!is_vlan(*ethertype))
			break;
		if (++tags > MAX_VLAN_TAGS || bpf_skb_load_bytes(skb, offset, &tag, sizeof(tag)))
			return 0;
		offset += sizeof(tag);
		*ethertype = tag.ethertype;
	}
	return offset;
}

static __always_inline bool parse_ipv4(struct __sk_buff *skb, const struct mirroring_config *config,
				       struct packet *packet)
{
	struct iphdr copy;
	const struct iphdr *ip = header(skb, packet->l3_offset, &copy, sizeof(copy));
	__u32 header_len, frag_off;

	if (!ip || ip->version != IPVERSION || ip->ihl < IP_MIN_IHL)
		return false;
	header_len = ip->ihl * 4;
	packet->length = bpf_ntohs(ip->tot_len);
	/* a super-packet of more than 64 KiB has a length of 0 in its header (BIG TCP) */
	if (!packet->length && skb->gso_size)
		packet->length = skb->len - packet->l3_offset;
	if (packet->length < header_len)
		return false;
	packet->is_ipv6 = config->zero;
	packet->src[0] = ip->saddr;
	packet->dst[0] = ip->daddr;
	packet->protocol = ip->protocol;
	packet->traffic_class = ip->tos;
	packet->l4_offset = packet->l3_offset + header_len;
	frag_off = bpf_ntohs(ip->frag_off);
	packet->fragment = frag_off & IP_OFFSET ? FRAGMENT_LATER
			   : frag_off & IP_MF	? FRAGMENT_FIRST
						: FRAGMENT_NONE;
	packet->fragment_id = ip->id;
	return true;
}

static __always_inline bool is_extension_header(__u8 protocol)
{
	const __u64 extension_headers = 1ULL << IPPROTO_HOPOPTS | 1ULL << IPPROTO_ROUTING |
					1ULL << IPPROTO_FRAGMENT | 1ULL << IPPROTO_AH |
					1ULL << IPPROTO_DSTOPTS;

	return protocol < 64 && extension_headers >> protocol & 1;
}

/* Skips the extension headers, up to the upper-layer header or the payload of a later fragment. */
static __always_inline bool skip_extension_headers(struct __sk_buff *skb,
						   const struct mirroring_config *config,
						   struct packet *packet)
{
	for (int i = 0; i <= MAX_EXTENSION_HEADERS; i++) {
		struct extension_header extension;
		enum fragment fragment = packet->fragment;
		__u32 len;

		if (!is_extension_header(packet->protocol) || fragment == FRAGMENT_LATER)
			return true;
		if (bpf_skb_load_bytes(skb, packet->l4_offset, &extension, sizeof(extension)))
			return false;
		if (packet->protocol == IPPROTO_FRAGMENT) {
			__u32 offset_and_more = bpf_ntohs(extension.offset_and_more);

			packet->fragment_id = extension.fragment_id;
			if (offset_and_more & IP6_OFFSET)
				fragment = FRAGMENT_LATER;
			else if (offset_and_more & IP6_MF)
				fragment = FRAGMENT_FIRST;
			len = sizeof(extension);
		} else if (packet->protocol == IPPROTO_AH) {
			len = (extension.len + 2) * 4;
		} else {
			len = (extension.len + 1) * 8;
		}
		packet->fragment = verifier_opaque(config, fragment, 3);
		packet->l4_offset = verifier_opaque(config, packet->l4_offset + len, 0x7fff);
		packet->protocol = extension.next;
	}
	return false;
}

static __always_inline bool parse_ipv6(struct __sk_buff *skb, const struct mirroring_config *config,
				       struct packet *packet)
{
	struct ipv6hdr copy;
	const struct ipv6hdr *ip = header(skb, packet->l3_offset, &copy, sizeof(copy));

	if (!ip || ip->version != 6)
		return false;
	packet->length = bpf_ntohs(ip->payload_len);
	/* BIG TCP, as with IPv4; a jumbogram (RFC 2675) from the network is not supported and ends here */
	if (!packet->length && skb->gso_size)
		packet->length = skb->len - packet->l3_offset;
	else
		packet->length += sizeof(*ip);
	packet->is_ipv6 = 1 + config->zero;
	__builtin_memcpy(packet->src, &ip->saddr, sizeof(packet->src));
	__builtin_memcpy(packet->dst, &ip->daddr, sizeof(packet->dst));
	packet->protocol = ip->nexthdr;
	packet->traffic_class = ip->priority << 4 | ip->flow_lbl[0] >> 4;
	packet->l4_offset = packet->l3_offset + sizeof(*ip);
	packet->fragment = FRAGMENT_NONE;
	return skip_extension_headers(skb, config, packet);
}

static __always_inline bool parse_ports(struct __sk_buff *skb, struct packet *packet)
{
	struct port_pair copy;
	const struct port_pair *ports;

	if (!has_ports(packet->protocol)) {
		packet->ports = PORTS_NONE;
		return true;
	}
	if (packet->fragment == FRAGMENT_LATER) {
		packet->ports = PORTS_UNKNOWN;
		return true;
	}
	/* bytes behind the end of the packet are padding, not ports */
	if (packet->l3_offset + packet->length < packet->l4_offset + sizeof(*ports))
		return false;
	ports = header(skb, packet->l4_offset, &copy, sizeof(copy));
	if (!ports)
		return false;
	packet->src_port = bpf_ntohs(ports->src);
	packet->dst_port = bpf_ntohs(ports->dst);
	packet->ports = PORTS_KNOWN;
	return true;
}

/* False if no rule can match the frame: it is not IP, malformed, or too short. */
static __always_inline bool parse(struct __sk_buff *skb, const struct mirroring_config *config,
				  struct packet *packet)
{
	__be16 ethertype = skb->protocol;
	__u32 l3_offset;

	clear_packet(config, packet);
	l3_offset = skip_vlan_tags(skb, &ethertype);
	if (!l3_offset)
		return false;
	packet->l3_offset = verifier_opaque(config, l3_offset, 31);
	if (ethertype == bpf_htons(ETH_P_IP)) {
		if (!parse_ipv4(skb, config, packet))
			return false;
	} else if (ethertype == bpf_htons(ETH_P_IPV6)) {
		if (!parse_ipv6(skb, config, packet))
			return false;
	} else {
		return false;
	}
	packet->l4_offset = verifier_opaque(config, packet->l4_offset, 0x7fff);
	packet->fragment = verifier_opaque(config, packet->fragment, 3);
	if (packet->l3_offset + packet->length < packet->l4_offset || skb->len < packet->l4_offset)
		return false;
	if (!parse_ports(skb, packet))
		return false;
	packet->protocol = verifier_opaque(config, packet->protocol, 0xff);
	packet->ports = verifier_opaque(config, packet->ports, 3);
	packet->length = verifier_opaque(config, packet->length, 0xffffffff);
	return true;
}

#endif /* PARSE_H */
