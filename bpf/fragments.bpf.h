/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Later fragments have no ports, TCP flags or ICMP type. They get the rule that the first fragment of
 * their datagram matched. That rule is remembered in an LRU map: the least recently used datagram is
 * forgotten first.
 */
#ifndef FRAGMENTS_BPF_H
#define FRAGMENTS_BPF_H

#include "mirroring.h"
#include "mirroring_maps.bpf.h"
#include "parse.h"

static __always_inline void set_datagram_key(const struct packet *packet,
					     struct mirroring_datagram *key)
{
	__builtin_memset(key, 0, sizeof(*key));
	__builtin_memcpy(key->src, packet->src, sizeof(key->src));
	__builtin_memcpy(key->dst, packet->dst, sizeof(key->dst));
	key->id = packet->fragment_id;
	/* the protocol of an IPv6 fragment is no part of its datagram's identity (RFC 8200, 4.5) */
	key->protocol = packet->is_ipv6 ? IPPROTO_FRAGMENT : packet->protocol;
	key->is_ipv6 = packet->is_ipv6;
}

/* The mask of the rule that the first fragment matched; 0 if it is not known or no longer in force. */
static __always_inline __u64 rule_of_datagram(struct packet *packet, __u64 live)
{
	struct mirroring_datagram key;
	const struct mirroring_remembered *remembered;
	const struct mirroring_rule *rule;
	__u32 index;

	if (!live)
		return 0;
	set_datagram_key(packet, &key);
	remembered = bpf_map_lookup_elem(&MAP(datagram), &key);
	if (!remembered)
		return 0;
	index = remembered->rule;
	rule = bpf_map_lookup_elem(&MAP(rule), &index);
	/* an update may have given this bit to another rule since */
	if (!rule || rule->installed != remembered->installed)
		return 0;
	packet->draw = remembered->draw;
	packet->is_drawn = true;
	return live & 1ULL << (index & 63);
}

static __always_inline void remember_datagram(const struct packet *packet, __u32 index,
					      const struct mirroring_rule *rule)
{
	struct mirroring_datagram key;
	struct mirroring_remembered value;

	set_datagram_key(packet, &key);
	__builtin_memset(&value, 0, sizeof(value));
	value.rule = index;
	value.installed = rule->installed;
	value.draw = packet->draw;
	bpf_map_update_elem(&MAP(datagram), &key, &value, BPF_ANY);
}

#endif /* FRAGMENTS_BPF_H */
