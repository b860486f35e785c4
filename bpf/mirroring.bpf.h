/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The mirroring program, for the direction that DIRECTION names: parse, classify, guard, limit,
 * clone, next. What becomes of the copy never touches the packet, its verdict or its chain.
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

#include "guard.bpf.h"
#include "length.bpf.h"
#include "rate.bpf.h"

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
	if (guarded(skb, packet)) {
		outcomes->guarded++;
	} else if (oversize(skb, tunnel, packet)) {
		outcomes->oversize++;
	} else if (tunnel->rate && !within_rate(tunnel, outer_len(skb, tunnel, packet))) {
		outcomes->over_rate++;
	} else {
		__u32 cb_0 = skb->cb[0], cb_1 = skb->cb[1], cb_2 = skb->cb[2];
		long refused;

		skb->cb[0] = MIRRORING_MARK_0;
		skb->cb[1] = MIRRORING_MARK_1;
		skb->cb[2] = tunnel->oversize;
		/* A packet socket may hold the same bytes, and the kernel's GUE device writes into
		 * them in front of the IP header: leave these bytes to it, and go on with others.
		 */
		refused = bpf_skb_pull_data(skb, ETH_HLEN);
		if (!refused)
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
