/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The mirroring program, for the direction that DIRECTION names: parse, classify, guard, clone,
 * next. What becomes of the copy never touches the packet, its verdict or its chain.
 *
 * A packet that no rule matches costs array look-ups, which the verifier inlines, and no helper
 * call; a trie is asked only about an address whose /16 some rule could match.
 */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "mirroring.h"
#include "mirroring_maps.bpf.h"
#include "parse.h"

/* The entry of a map that has one. (A constant key would make a .rodata map.) */
static __always_inline void *only_entry(void *map)
{
	__u32 key = 0;

	return bpf_map_lookup_elem(map, &key);
}

/* The mask of an open field, and of the rules that name the value. */
static __always_inline __u64 accepting(__u64 any, void *table, __u32 value)
{
	const __u64 *mask = bpf_map_lookup_elem(table, &value);

	return mask ? any | *mask : any;
}

static __always_inline __u64 accepting_address(__u64 any, void *prefixes, __u32 address)
{
	struct mirroring_prefix key = {.len = 32, .address = bpf_htonl(address)};
	const __u64 *mask = bpf_map_lookup_elem(prefixes, &key);

	return mask ? any | *mask : any;
}

/* The rules that match, of those in force when it was called. Cheap fields come first. */
static __always_inline __u64 classify(const struct mirroring_config *config,
				      const struct packet *packet)
{
	__u64 rules = *(const volatile __u64 *)&config->live;

	rules &= accepting(config->any_protocol, &MAP(protocol), packet->protocol);
	if (!rules)
		return 0;

	if (packet->ports == PORTS_KNOWN) {
		rules &= accepting(config->any_dst_port, &MAP(dst_port), packet->dst_port);
		if (!rules)
			return 0;
		rules &= accepting(config->any_src_port, &MAP(src_port), packet->src_port);
	} else if (packet->ports == PORTS_NONE) {
		rules &= config->portless;
	} else {
		rules &= config->any_dst_port & config->any_src_port;
	}
	if (!rules)
		return 0;

	if (rules & ~config->any_dst_address) {
		rules &= accepting(config->any_dst_address, &MAP(dst_net),
				   packet->dst_address >> 16);
		if (!rules)
			return 0;
	}
	if (rules & ~config->any_src_address) {
		rules &= accepting(config->any_src_address, &MAP(src_net),
				   packet->src_address >> 16);
		if (!rules)
			return 0;
	}
	if (rules & ~config->any_dst_address)
		rules &= accepting_address(config->any_dst_address, &MAP(dst_prefix),
					   packet->dst_address);
	if (rules & ~config->any_src_address)
		rules &= accepting_address(config->any_src_address, &MAP(src_prefix),
					   packet->src_address);
	return rules;
}

/* A packet on its way to the collector's end of the tunnel. */
static __always_inline bool to_collector(const struct mirroring_tunnel *tunnel, __be32 address,
					 __u8 protocol, __be16 port)
{
	return address == tunnel->collector && protocol == tunnel->protocol &&
	       (protocol != IPPROTO_UDP || port == tunnel->port);
}

/* An ICMP error about a packet to the collector: whoever sends it, mirroring it makes the next. */
static __always_inline bool error_about_tunnel(struct __sk_buff *skb,
					       const struct mirroring_tunnel *tunnel,
					       const struct packet *packet)
{
	struct {
		__u8 icmp[8];
		struct iphdr ip;
	} copy;
	struct port_pair ports_copy;
	const struct port_pair *ports;
	const struct iphdr *ip;
	const __u8 *icmp;
	__u32 about_len;

	if (packet->protocol != IPPROTO_ICMP)
		return false;
	icmp = header(skb, packet->l4_offset, &copy, sizeof(copy));
	if (!icmp)
		return false;
	switch (icmp[0]) {
	case 3: /* destination unreachable (RFC 792, as those below) */
	case 4: /* source quench */
	case 5: /* redirect */
	case 11: /* time exceeded */
	case 12: /* parameter problem */
		break;
	default:
		return false;
	}
	ip = (const struct iphdr *)(icmp + sizeof(copy.icmp));
	about_len = ip->ihl * 4;
	if (ip->daddr != tunnel->collector || ip->protocol != tunnel->protocol)
		return false;
	if (ip->protocol != IPPROTO_UDP)
		return true;
	ports = header(skb, packet->l4_offset + sizeof(copy.icmp) + about_len, &ports_copy,
		       sizeof(ports_copy));
	return ports && ports->dst == tunnel->port;
}

/* Whether the packet is the tunnel's own: mirroring it would make the next one, without end. */
static __always_inline bool guarded(struct __sk_buff *skb, const struct mirroring_tunnel *tunnel,
				    const struct packet *packet)
{
	__be32 dst = bpf_htonl(packet->dst_address);
	/* a later fragment to the collector may be the tunnel's: take it for one */
	__be16 port = packet->ports == PORTS_UNKNOWN ? tunnel->port : bpf_htons(packet->dst_port);

	if (skb->cb[0] == MIRRORING_MARK_0 && skb->cb[1] == MIRRORING_MARK_1)
		return true;
	return to_collector(tunnel, dst, packet->protocol, port) ||
	       error_about_tunnel(skb, tunnel, packet);
}

/* Bytes of a TCP or UDP header. */
static __always_inline __u32 l4_header_len(struct __sk_buff *skb, const struct packet *packet)
{
	enum { TCP_DATA_OFFSET = 12 }; /* the upper half of this byte, in 32-bit words (RFC 9293) */
	__u8 copy;
	const __u8 *words;

	if (packet->protocol != IPPROTO_TCP)
		return sizeof(struct port_pair) * 2;
	words = header(skb, packet->l4_offset + TCP_DATA_OFFSET, &copy, sizeof(copy));
	return words ? (*words >> 4) * 4 : 0;
}

/* Whether the tunnel cannot carry the packet, or a segment of the super-packet. */
static __always_inline bool oversize(struct __sk_buff *skb, const struct mirroring_tunnel *tunnel,
				     const struct packet *packet)
{
	__u32 max_len = tunnel->max_len;
	__u32 len = skb->len - ETH_HLEN;

	if (skb->gso_size) {
		if (packet->protocol == IPPROTO_TCP)
			max_len = tunnel->max_segment_len;
		len = packet->l4_offset - ETH_HLEN + skb->gso_size;
		if (max_len)
			len += l4_header_len(skb, packet);
	}
	return max_len && len > max_len;
}

/* Sends a copy to the tunnel device, and counts what came of it. */
static __always_inline void mirror(struct __sk_buff *skb, const struct packet *packet, __u64 rules)
{
	/* the lower half of the mask is generation 0 */
	__u32 generation = (__u32)rules ? 0 : 1;
	const struct mirroring_tunnel *tunnel = bpf_map_lookup_elem(&MAP(tunnel), &generation);
	struct mirroring_outcomes *outcomes = only_entry(&MAP(outcomes));

	if (!tunnel || !outcomes)
		return;
	outcomes->matched++;
	if (guarded(skb, tunnel, packet)) {
		outcomes->guarded++;
	} else if (oversize(skb, tunnel, packet)) {
		outcomes->oversize++;
	} else {
		__u32 cb_0 = skb->cb[0], cb_1 = skb->cb[1], cb_2 = skb->cb[2];
		long refused;

		skb->cb[0] = MIRRORING_MARK_0;
		skb->cb[1] = MIRRORING_MARK_1;
		skb->cb[2] = tunnel->oversize;
		refused = bpf_clone_redirect(skb, tunnel->ifindex, 0);
		skb->cb[0] = cb_0;
		skb->cb[1] = cb_1;
		skb->cb[2] = cb_2;
		if (refused)
			outcomes->failed++;
		else
			outcomes->sent++;
	}
}

SEC("tc")
int ENTRY(struct __sk_buff *skb)
{
	const struct mirroring_config *config = only_entry(&MAP(config));
	struct packet packet;
	int verdict;

	if (!config)
		return TC_ACT_OK;
	verdict = config->verdict;
	if (parse(skb, &packet)) {
		__u64 rules = classify(config, &packet);

		if (rules)
			mirror(skb, &packet, rules);
	}
	bpf_tail_call(skb, &JMP_TABLE, 0);
	return verdict;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
