/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Sampling: a rule may mirror only one in N packets, or one in N flows. */
#ifndef SAMPLE_BPF_H
#define SAMPLE_BPF_H

#include "flow_hash.h"
#include "mirroring.h"
#include "parse.h"

/* Whether the rule's sample includes the packet. All fragments of a datagram share one draw. */
static __always_inline bool in_sample(const struct mirroring_rule *rule, struct packet *packet)
{
	if (rule->sample_below == MIRRORING_EVERY)
		return true;
	if (packet->is_drawn)
		return packet->draw <= rule->sample_below;
	if (rule->sample_by == MIRRORING_BY_FLOW) {
		__u32 src = packet->src[0], dst = packet->dst[0];

		if (packet->is_ipv6) {
			src = fold_ipv6(packet->src);
			dst = fold_ipv6(packet->dst);
		}
		packet->draw = flow_hash(src, dst, bpf_htons(packet->src_port),
					 bpf_htons(packet->dst_port), packet->protocol);
	} else {
		packet->draw = bpf_get_prandom_u32();
	}
	return packet->draw <= rule->sample_below;
}

#endif /* SAMPLE_BPF_H */
