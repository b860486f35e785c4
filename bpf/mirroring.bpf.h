/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The mirroring program, for the direction that DIRECTION names. Its steps: parse, classify, guard against
 * loops, sample, limit the rate, clone, run the next program. Whatever happens to the copy, the packet, its
 * verdict and the chain stay as they would be without it.
 *
 * A packet that no rule matches costs array lookups, which the verifier inlines, and no helper call. A
 * prefix trie is searched only for an address whose network (/16) some rule could match. Most packets
 * take a fast path (fast_path.bpf.h).
 */
#include <linux/pkt_cls.h>
#include <linux/pkt_sched.h>

#include "kernel.h"
#include "mark.h"
#include "mirroring.h"
#include "mirroring_maps.bpf.h"
#include "parse.h"

#include "classify.bpf.h"
#include "fragments.bpf.h"
#include "guard.bpf.h"
#include "size_limits.bpf.h"
#include "fast_path.bpf.h"
#include "rate.bpf.h"
#include "sample.bpf.h"

/*
 * Index of the lowest bit of a mask that is not 0. It counts the bits below that one without branches:
 * otherwise the verifier would follow 64 paths. (clang 14 crashes on __builtin_ctzll.)
 */
static __always_inline __u32 lowest_bit(__u64 mask)
{
	__u64 below;

	/* mostly it is the first rule of a generation */
	if (mask & 1)
		return 0;
	if (mask & 1ULL << 32 && !(__u32)mask)
		return 32;
	below = ~mask & (mask - 1);
	below -= below >> 1 & 0x5555555555555555;
	/*
	 * Keeps clang from recognising a bit count: 17 and 18 crash on it, and later versions make a lookup
	 * table of it, which would be a .rodata map. (barrier_var() is volatile and costs two more instructions.)
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

/*
 * Hands a copy to the tunnel device. `cut` tells the built-in tunnel how many bytes to keep (0: all). The
 * result, 0 if the device took the copy, must never become the packet's verdict.
 */
static __always_inline long clone_to_tunnel(struct __sk_buff *skb,
					    const struct mirroring_tunnel *tunnel, __u32 cut)
{
	__u32 cb_0 = skb->cb[0], cb_1 = skb->cb[1], cb_2 = skb->cb[2], cb_3 = skb->cb[3];
	__u32 priority = skb->priority;
	long refused = 0;

	mark(skb);
	/* a qdisc with bands sends everything else first */
	skb->priority = TC_PRIO_FILLER;
	skb->cb[2] = tunnel->oversize;
	skb->cb[3] = cut;
	/*
	 * On a device that somebody else made, the kernel's GUE writes its headers over the bytes in front of
	 * the IP header, which a packet socket (tcpdump) may share. This call gives the packet bytes of its own.
	 */
	if (!(tunnel->carries & MIRRORING_CARRIES_CUT))
		refused = bpf_skb_pull_data(skb, ETH_HLEN);
	if (!refused)
		refused = bpf_clone_redirect(skb, tunnel->ifindex, 0);
	skb->cb[0] = cb_0;
	skb->cb[1] = cb_1;
	skb->cb[2] = cb_2;
	skb->cb[3] = cb_3;
	skb->priority = priority;
	return refused;
}

/* The generation that a rule belongs to. */
static __always_inline __u32 generation_of(__u32 bit)
{
	return bit / (MIRRORING_RULES / MIRRORING_GENERATIONS);
}

/* Applies the first of the rules to the packet, and counts the outcome. */
static __always_inline void apply_rule(struct __sk_buff *skb, struct packet *packet, __u64 rules)
{
	__u32 bit = lowest_bit(rules), in = generation_of(bit);
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
		remember_datagram(packet, bit, rule);
	if (rule->action == MIRRORING_EXCLUDE) {
		outcomes->excluded++;
		return;
	}
	if (is_tunnel_traffic(skb, packet)) {
		outcomes->loop_guard++;
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
	cut = snap_length(skb, packet, rule, tunnel);
	if (exceeds_tunnel(skb, tunnel, packet, cut))
		outcomes->oversize++;
	else if (tunnel->rate && !within_rate(tunnel, outer_len(skb, tunnel, packet, cut)))
		outcomes->rate_limited++;
	else if (clone_to_tunnel(skb, tunnel, cut))
		outcomes->failed++;
	else
		outcomes->sent++;
}

/*
 * The same for a plain packet if only the loop guard is left to check: the rule is unconditional, and the
 * tunnel certainly carries a packet of that length. Otherwise returns false and does nothing.
 */
static __always_inline bool apply_rule_fast(struct __sk_buff *skb,
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
	in = generation_of(bit);
	tunnel = bpf_map_lookup_elem(&MAP(tunnel), &in);
	outcomes = bpf_map_lookup_elem(&MAP(outcomes), &bit);
	if (!tunnel || !outcomes || skb->len - ETH_HLEN > tunnel->unasked_len)
		return false;
	outcomes->matched++;
	if (is_copy(skb) || (protocol == IPPROTO_UDP && goes_to_endpoint(dst, is_ipv6, ports->dst)))
		outcomes->loop_guard++;
	else if (clone_to_tunnel(skb, tunnel, 0))
		outcomes->failed++;
	else
		outcomes->sent++;
	return true;
}

/* How far the fast path got. */
enum fast_path {
	FAST_MISS, /* not a plain packet: parse and classify it */
	FAST_DONE, /* no rule matches, or the rule has been applied */
	FAST_PARTIAL, /* `packet` is filled in, and `rules` are narrowed by all but the last five fields */
};

static __always_inline enum fast_path fast_path_ipv4(struct __sk_buff *skb,
						     const struct mirroring_config *config,
						     struct packet *packet, __u64 *rules)
{
	const struct plain_ipv4 *plain = network_header(skb);
	__u8 protocol;

	if (!is_linear(skb, plain + 1))
		return FAST_MISS;
	protocol = plain->ip.protocol;
	*rules = classify_protocol(config, *rules, protocol);
	if (!*rules)
		return FAST_DONE;
	if (!is_plain_ipv4(plain, protocol))
		return FAST_MISS;
	*rules = classify_ports(config, *rules, bpf_ntohs(plain->ports.src),
				bpf_ntohs(plain->ports.dst));
	if (!*rules)
		return FAST_DONE;
	*rules = classify_ipv4(config, plain->ip.saddr, plain->ip.daddr, *rules);
	if (!*rules ||
	    apply_rule_fast(skb, config, *rules, protocol, false, &plain->ip.daddr, &plain->ports))
		return FAST_DONE;
	fill_packet_ipv4(config, plain, packet);
	return FAST_PARTIAL;
}

static __always_inline enum fast_path fast_path_ipv6(struct __sk_buff *skb,
						     const struct mirroring_config *config,
						     struct packet *packet, __u64 *rules)
{
	const struct plain_ipv6 *plain = network_header(skb);
	const __be32 *src, *dst;

	if (!is_linear(skb, plain + 1) || !is_plain_ipv6(plain))
		return FAST_MISS;
	*rules = classify_protocol(config, *rules, plain->ip.nexthdr);
	if (!*rules)
		return FAST_DONE;
	*rules = classify_ports(config, *rules, bpf_ntohs(plain->ports.src),
				bpf_ntohs(plain->ports.dst));
	if (!*rules)
		return FAST_DONE;
	src = plain->ip.saddr.in6_u.u6_addr32;
	dst = plain->ip.daddr.in6_u.u6_addr32;
	*rules = classify_ipv6(config, src, dst, *rules);
	if (!*rules ||
	    apply_rule_fast(skb, config, *rules, plain->ip.nexthdr, true, dst, &plain->ports))
		return FAST_DONE;
	fill_packet_ipv6(config, plain, packet);
	return FAST_PARTIAL;
}

/* Mirrors the packet if the first rule that matches says so. */
static __always_inline void mirror(struct __sk_buff *skb, const struct mirroring_config *config)
{
	__u64 rules = *(const volatile __u64 *)&config->live;
	enum fast_path result = FAST_MISS;
	struct packet packet;

	if (skb->protocol == bpf_htons(ETH_P_IP))
		result = fast_path_ipv4(skb, config, &packet, &rules);
	else if (skb->protocol == bpf_htons(ETH_P_IPV6))
		result = fast_path_ipv6(skb, config, &packet, &rules);
	if (result == FAST_DONE)
		return;
	if (result == FAST_MISS) {
		if (!parse(skb, config, &packet))
			return;
		rules = classify(skb, config, &packet);
	} else if (rules & ~config->any_more) {
		rules = classify_more(skb, config, &packet, rules);
	}
	if (rules)
		apply_rule(skb, &packet, rules);
}

SEC("tc")
int ENTRY(struct __sk_buff *skb)
{
	const struct mirroring_config *config = lookup_single(&MAP(config));
	int verdict;

	if (!config)
		return TC_ACT_OK;
	verdict = config->verdict;
	mirror(skb, config);
	bpf_tail_call(skb, &JMP_TABLE, 0);
	return verdict;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
