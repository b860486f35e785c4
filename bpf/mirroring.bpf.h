/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The mirroring program, for the direction that DIRECTION names: parse, classify, guard, sample,
 * limit, clone, next. What becomes of the copy never touches the packet, its verdict or its chain.
 *
 * A packet that no rule matches costs array look-ups, which the verifier inlines, and no helper
 * call; a trie is asked only about an address whose /16 some rule could match. Packets as most are go a
 * short way (plain.bpf.h).
 */
#include <linux/pkt_cls.h>

#include "kernel.h"
#include "mark.h"
#include "mirroring.h"
#include "mirroring_maps.bpf.h"
#include "parse.h"

#include "classify.bpf.h"
#include "fragments.bpf.h"
#include "guard.bpf.h"
#include "length.bpf.h"
#include "plain.bpf.h"
#include "rate.bpf.h"
#include "sample.bpf.h"

/*
 * Of a mask that is not 0. Counts the bits below, in parallel: with a branch for each step the verifier
 * would follow 64 ways. (clang 14 crashes on the builtin.)
 */
static __always_inline __u32 lowest_bit(__u64 mask)
{
	__u64 below;

	/* most often it is a generation's first rule */
	if (mask & 1)
		return 0;
	if (mask & 1ULL << 32 && !(__u32)mask)
		return 32;
	below = ~mask & (mask - 1);
	below -= below >> 1 & 0x5555555555555555;
	/*
	 * Hides from clang what is counted: 17 and 18 would crash on it, and later ones look it up in a table,
	 * which makes a .rodata map. (Not volatile, as barrier_var is: that costs two instructions more.)
	 */
	asm("" : "+r"(below));
	below = (below & 0x3333333333333333) + (below >> 2 & 0x3333333333333333);
	below = (below + (below >> 4)) & 0x0f0f0f0f0f0f0f0f;
	return below * 0x0101010101010101 >> 56 & (MIRRORING_RULES - 1);
}

static __always_inline bool is_carried(struct __sk_buff *skb, const struct mirroring_tunnel *tunnel,
				       const struct packet *packet)
{
	bool tagged = skb->vlan_present || packet->l3_offset != ETH_HLEN;

	return (!packet->is_ipv6 || tunnel->carries & MIRRORING_CARRIES_IPV6) &&
	       (!tagged || tunnel->carries & MIRRORING_CARRIES_TAGS);
}

/* Hands a copy, or the first `cut` bytes of one, to the tunnel device. */
static __always_inline long clone(struct __sk_buff *skb, const struct mirroring_tunnel *tunnel,
				  __u32 cut)
{
	__u32 cb_0 = skb->cb[0], cb_1 = skb->cb[1], cb_2 = skb->cb[2], cb_3 = skb->cb[3];
	long refused = 0;

	mark(skb);
	skb->cb[2] = tunnel->oversize;
	skb->cb[3] = cut;
	/*
	 * A packet socket may hold the same bytes, and of devices that others made, the kernel's GUE
	 * writes into them in front of the IP header: leave these bytes to it, and go on with others.
	 */
	if (!(tunnel->carries & MIRRORING_CARRIES_CUT))
		refused = bpf_skb_pull_data(skb, ETH_HLEN);
	if (!refused)
		refused = bpf_clone_redirect(skb, tunnel->ifindex, 0);
	skb->cb[0] = cb_0;
	skb->cb[1] = cb_1;
	skb->cb[2] = cb_2;
	skb->cb[3] = cb_3;
	return refused;
}

/* The generation that a rule is of. */
static __always_inline __u32 generation(__u32 bit)
{
	return bit / (MIRRORING_RULES / MIRRORING_GENERATIONS);
}

/* Does what the first of the rules says, and counts what came of it. */
static __always_inline void meet(struct __sk_buff *skb, struct packet *packet, __u64 rules)
{
	__u32 bit = lowest_bit(rules), in = generation(bit);
	const struct mirroring_rule *rule = bpf_map_lookup_elem(&MAP(rule), &bit);
	const struct mirroring_tunnel *tunnel = bpf_map_lookup_elem(&MAP(tunnel), &in);
	struct mirroring_outcomes *outcomes = bpf_map_lookup_elem(&MAP(outcomes), &bit);
	bool sampled;
	__u32 cut;

	if (!rule || !tunnel || !outcomes)
		return;
	outcomes->matched++;
	sampled = in_sample(rule, packet);
	if (packet->fragment == FRAGMENT_FIRST)
		remember(packet, bit, rule);
	if (rule->action == MIRRORING_EXCLUDE) {
		outcomes->excluded++;
		return;
	}
	if (guarded(skb, packet)) {
		outcomes->guarded++;
		return;
	}
	if (!sampled) {
		outcomes->not_sampled++;
		return;
	}
	if (!is_carried(skb, tunnel, packet)) {
		outcomes->unsupported++;
		return;
	}
	cut = cut_by_rule(skb, packet, rule, tunnel);
	if (oversize(skb, tunnel, packet, cut))
		outcomes->oversize++;
	else if (tunnel->rate && !within_rate(tunnel, outer_len(skb, tunnel, packet, cut)))
		outcomes->over_rate++;
	else if (clone(skb, tunnel, cut))
		outcomes->failed++;
	else
		outcomes->sent++;
}

/*
 * The same for a plain packet, where nothing but the guard is left to ask: false where more is. `dst` is its
 * destination address, `ports` are its ports.
 */
static __always_inline bool meet_at_once(struct __sk_buff *skb,
					 const struct mirroring_config *config, __u64 rules,
					 __u8 protocol, bool is_ipv6, const __be32 *dst,
					 const struct port_pair *ports)
{
	__u32 bit, in;
	const struct mirroring_tunnel *tunnel;
	struct mirroring_outcomes *outcomes;

	if (!(rules & -rules & config->unconditional))
		return false;
	bit = lowest_bit(rules);
	in = generation(bit);
	tunnel = bpf_map_lookup_elem(&MAP(tunnel), &in);
	outcomes = bpf_map_lookup_elem(&MAP(outcomes), &bit);
	if (!tunnel || !outcomes || skb->len - ETH_HLEN > tunnel->unasked_len)
		return false;
	outcomes->matched++;
	if (is_copy(skb) || (protocol == IPPROTO_UDP && goes_to_endpoint(dst, is_ipv6, ports->dst)))
		outcomes->guarded++;
	else if (clone(skb, tunnel, 0))
		outcomes->failed++;
	else
		outcomes->sent++;
	return true;
}

/* How far the short way leads. */
enum short_way {
	NOT_PLAIN, /* nowhere */
	SETTLED, /* to the end: no rule matches, or the packet has met it */
	UNSETTLED, /* to what is in `packet`, and the rules that accept all but the last five fields */
};

static __always_inline enum short_way go_ipv4(struct __sk_buff *skb,
					      const struct mirroring_config *config,
					      struct packet *packet, __u64 *rules)
{
	const struct plain_ipv4 *plain = network_header(skb);
	__u8 protocol;

	if (!is_linear(skb, plain + 1))
		return NOT_PLAIN;
	protocol = plain->ip.protocol;
	*rules = classify_protocol(config, *rules, protocol);
	if (!*rules)
		return SETTLED;
	if (!is_plain_ipv4(plain, protocol))
		return NOT_PLAIN;
	*rules = classify_ports(config, *rules, bpf_ntohs(plain->ports.src),
				bpf_ntohs(plain->ports.dst));
	if (!*rules)
		return SETTLED;
	*rules = classify_ipv4(config, plain->ip.saddr, plain->ip.daddr, *rules);
	if (!*rules ||
	    meet_at_once(skb, config, *rules, protocol, false, &plain->ip.daddr, &plain->ports))
		return SETTLED;
	parse_plain_ipv4(config, plain, packet);
	return UNSETTLED;
}

static __always_inline enum short_way go_ipv6(struct __sk_buff *skb,
					      const struct mirroring_config *config,
					      struct packet *packet, __u64 *rules)
{
	const struct plain_ipv6 *plain = network_header(skb);
	const __be32 *src, *dst;

	if (!is_linear(skb, plain + 1) || !is_plain_ipv6(plain))
		return NOT_PLAIN;
	*rules = classify_protocol(config, *rules, plain->ip.nexthdr);
	if (!*rules)
		return SETTLED;
	*rules = classify_ports(config, *rules, bpf_ntohs(plain->ports.src),
				bpf_ntohs(plain->ports.dst));
	if (!*rules)
		return SETTLED;
	src = plain->ip.saddr.in6_u.u6_addr32;
	dst = plain->ip.daddr.in6_u.u6_addr32;
	*rules = classify_ipv6(config, src, dst, *rules);
	if (!*rules ||
	    meet_at_once(skb, config, *rules, plain->ip.nexthdr, true, dst, &plain->ports))
		return SETTLED;
	parse_plain_ipv6(config, plain, packet);
	return UNSETTLED;
}

/* Mirrors the packet, if the first rule that it meets says so. */
static __always_inline void mirror(struct __sk_buff *skb, const struct mirroring_config *config)
{
	__u64 rules = *(const volatile __u64 *)&config->live;
	enum short_way way = NOT_PLAIN;
	struct packet packet;

	if (skb->protocol == bpf_htons(ETH_P_IP))
		way = go_ipv4(skb, config, &packet, &rules);
	else if (skb->protocol == bpf_htons(ETH_P_IPV6))
		way = go_ipv6(skb, config, &packet, &rules);
	if (way == SETTLED)
		return;
	if (way == NOT_PLAIN) {
		if (!parse(skb, config, &packet))
			return;
		rules = classify(skb, config, &packet);
	} else if (rules & ~config->any_more) {
		rules = classify_more(skb, config, &packet, rules);
	}
	if (rules)
		meet(skb, &packet, rules);
}

SEC("tc")
int ENTRY(struct __sk_buff *skb)
{
	const struct mirroring_config *config = only_entry(&MAP(config));
	int verdict;

	if (!config)
		return TC_ACT_OK;
	verdict = config->verdict;
	mirror(skb, config);
	bpf_tail_call(skb, &JMP_TABLE, 0);
	return verdict;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
