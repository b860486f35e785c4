/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Finds the rules that match a packet. A rule is one bit of a 64-bit mask. Each field has a table that
 * maps a value to the mask of the rules that accept it. The AND of these masks is the set of matching
 * rules. Cheap fields are looked up first, and an empty mask ends the search.
 *
 * The verifier inlines array lookups. A prefix trie is searched only if the array of networks says that
 * some rule could accept the address.
 */
#ifndef CLASSIFY_BPF_H
#define CLASSIFY_BPF_H

#include "fragments.bpf.h"
#include "mirroring.h"
#include "mirroring_maps.bpf.h"
#include "parse.h"

/* The rules that accept `value`: those that leave the field open (`any`) and those that name the value. */
static __always_inline __u64 rules_accepting(__u64 any, void *table, __u32 value)
{
	const __u64 *mask = bpf_map_lookup_elem(table, &value);

	return mask ? any | *mask : any;
}

static __always_inline __u64 rules_accepting_ipv4(__u64 any, void *prefixes, __be32 address)
{
	struct mirroring_prefix key = {.len = 32, .address = address};
	const __u64 *mask = bpf_map_lookup_elem(prefixes, &key);

	return mask ? any | *mask : any;
}

static __always_inline __u64 rules_accepting_ipv6(__u64 any, void *prefixes, const __be32 *address)
{
	struct mirroring_prefix6 key;
	const __u64 *mask;

	key.len = 128;
	__builtin_memcpy(key.address, address, sizeof(key.address));
	mask = bpf_map_lookup_elem(prefixes, &key);
	return mask ? any | *mask : any;
}

/* Index of an IPv4 address in the arrays of networks: its upper 16 bits. */
static __always_inline __u32 net_index(__be32 address)
{
	return bpf_ntohl(address) >> 16;
}

/* Index of an IPv6 address there: its first 16 bits XOR the next 16. `address` is its first word. */
static __always_inline __u32 net6_index(__be32 address)
{
	__u32 upper = bpf_ntohl(address);

	return (upper >> 16 ^ upper) & 0xffff;
}

static __always_inline __u64 classify_ipv4(const struct mirroring_config *config, __be32 src,
					   __be32 dst, __u64 rules)
{
	if (rules & ~config->any_dst_v4) {
		rules &= rules_accepting(config->any_dst_v4, &MAP(dst_net), net_index(dst));
		if (!rules)
			return 0;
	}
	if (rules & ~config->any_src_v4) {
		rules &= rules_accepting(config->any_src_v4, &MAP(src_net), net_index(src));
		if (!rules)
			return 0;
	}
	if (rules & ~config->any_dst_v4)
		rules &= rules_accepting_ipv4(config->any_dst_v4, &MAP(dst_prefix), dst);
	if (rules & ~config->any_src_v4)
		rules &= rules_accepting_ipv4(config->any_src_v4, &MAP(src_prefix), src);
	return rules;
}

static __always_inline __u64 classify_ipv6(const struct mirroring_config *config, const __be32 *src,
					   const __be32 *dst, __u64 rules)
{
	if (rules & ~config->any_dst_v6) {
		rules &= rules_accepting(config->any_dst_v6, &MAP(dst_net6), net6_index(dst[0]));
		if (!rules)
			return 0;
	}
	if (rules & ~config->any_src_v6) {
		rules &= rules_accepting(config->any_src_v6, &MAP(src_net6), net6_index(src[0]));
		if (!rules)
			return 0;
	}
	if (rules & ~config->any_dst_v6)
		rules &= rules_accepting_ipv6(config->any_dst_v6, &MAP(dst_prefix6), dst);
	if (rules & ~config->any_src_v6)
		rules &= rules_accepting_ipv6(config->any_src_v6, &MAP(src_prefix6), src);
	return rules;
}

/* The ID of the outermost VLAN tag, or MIRRORING_UNTAGGED. */
static __always_inline __u32 vlan_id(struct __sk_buff *skb, const struct packet *packet)
{
	struct vlan_tag tag;

	if (skb->vlan_present)
		return skb->vlan_tci & VLAN_ID_MASK;
	if (packet->l3_offset == ETH_HLEN)
		return MIRRORING_UNTAGGED;
	if (bpf_skb_load_bytes(skb, ETH_HLEN, &tag, sizeof(tag)))
		return MIRRORING_UNTAGGED;
	return bpf_ntohs(tag.tci) & VLAN_ID_MASK;
}

/* The byte at `offset` of the upper-layer header; -1 if the packet does not have that byte. */
static __always_inline int l4_byte(struct __sk_buff *skb, const struct packet *packet, __u32 offset)
{
	__u32 at = packet->l4_offset + offset;
	__u8 byte;

	if (packet->fragment == FRAGMENT_LATER || at >= packet->l3_offset + packet->length)
		return -1;
	return bpf_skb_load_bytes(skb, at, &byte, sizeof(byte)) ? -1 : byte;
}

/* Narrows `rules` by the last five fields, which few rules name. */
static __always_inline __u64 classify_more(struct __sk_buff *skb,
					   const struct mirroring_config *config,
					   const struct packet *packet, __u64 rules)
{
	/* byte offsets in the headers (RFC 9293, RFC 792, RFC 4443) */
	enum { TCP_FLAGS = 13, ICMP_TYPE = 0 };

	if (rules & ~config->any_dscp)
		rules &= rules_accepting(config->any_dscp, &MAP(dscp), packet->traffic_class >> 2);
	if (rules & ~config->any_vlan)
		rules &= rules_accepting(config->any_vlan, &MAP(vlan), vlan_id(skb, packet));
	if (rules & ~config->any_length) {
		__u32 length = packet->length;

		if (length > MIRRORING_LENGTHS - 1)
			length = MIRRORING_LENGTHS - 1;
		rules &= rules_accepting(config->any_length, &MAP(length), length);
	}
	if (rules & ~config->any_tcp_flags) {
		int flags = packet->protocol == IPPROTO_TCP ? l4_byte(skb, packet, TCP_FLAGS) : -1;

		rules &= flags < 0 ? config->any_tcp_flags
				   : rules_accepting(config->any_tcp_flags, &MAP(tcp_flags), flags);
	}
	if (rules & ~config->any_icmp_type) {
		__u8 icmp = packet->is_ipv6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP;
		int type = packet->protocol == icmp ? l4_byte(skb, packet, ICMP_TYPE) : -1;

		if (type >= 0 && packet->is_ipv6)
			type += MIRRORING_ICMPV6;
		rules &= type < 0 ? config->any_icmp_type
				  : rules_accepting(config->any_icmp_type, &MAP(icmp_type), type);
	}
	return rules;
}

/* Narrows `rules` by the protocol (IPv4) or the upper-layer header (IPv6). */
static __always_inline __u64 classify_protocol(const struct mirroring_config *config, __u64 rules,
					       __u8 protocol)
{
	if (rules & ~config->any_protocol)
		rules &= rules_accepting(config->any_protocol, &MAP(protocol), protocol);
	return rules;
}

/* Narrows `rules` by the ports of a packet that has ports. */
static __always_inline __u64 classify_ports(const struct mirroring_config *config, __u64 rules,
					    __u32 src_port, __u32 dst_port)
{
	if (rules & ~config->any_dst_port) {
		rules &= rules_accepting(config->any_dst_port, &MAP(dst_port), dst_port);
		if (!rules)
			return 0;
	}
	if (rules & ~config->any_src_port)
		rules &= rules_accepting(config->any_src_port, &MAP(src_port), src_port);
	return rules;
}

/* The rules that match, among those in force when this function reads `live`. */
static __always_inline __u64 classify(struct __sk_buff *skb, const struct mirroring_config *config,
				      struct packet *packet)
{
	__u64 rules = *(const volatile __u64 *)&config->live;

	if (packet->fragment == FRAGMENT_LATER) {
		__u64 rule = rule_of_datagram(packet, rules);

		if (rule)
			return rule;
	}
	rules = classify_protocol(config, rules, packet->protocol);
	if (!rules)
		return 0;
	if (packet->ports == PORTS_KNOWN) {
		rules = classify_ports(config, rules, packet->src_port, packet->dst_port);
	} else if (packet->ports == PORTS_NONE) {
		rules &= config->portless;
	} else {
		rules &= config->any_dst_port & config->any_src_port;
	}
	if (!rules)
		return 0;
	rules = packet->is_ipv6 ? classify_ipv6(config, packet->src, packet->dst, rules)
				: classify_ipv4(config, packet->src[0], packet->dst[0], rules);
	if (rules & ~config->any_more)
		rules = classify_more(skb, config, packet, rules);
	return rules;
}

#endif /* CLASSIFY_BPF_H */
