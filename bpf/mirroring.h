/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What the mirroring programs and user space share.
 *
 * A rule is one bit of a 64-bit mask. Each field of a packet has a table that maps a value to the mask of
 * the rules that accept it. The AND of these masks is the set of rules that match the packet.
 *
 * Rules 0 to 31 are generation 0, rules 32 to 63 are generation 1. One generation is live at a time: an
 * update fills in the other one, then changes `live` with a single 8-byte store.
 *
 * An instance may outlive the version that started it. Every other version must be able to read its state,
 * stop it and take its place. So these things must stay as they are in all versions:
 * - the names of the maps that are named here
 * - `live` and `loader` in <direction>_config
 * - <direction>_instance, which may only grow at the end
 * - <direction>_endpoints and the jump table
 * - what copies carry (enum mirroring_mark), since instances share a tunnel
 * - the order in which maps are pinned: the config first, the jump table last
 *
 * A version reuses the maps of another version if their sizes are the same. If you change the meaning of a
 * field of a released map, change the map's size as well, so that other versions refuse it.
 */
#ifndef MIRRORING_H
#define MIRRORING_H

#include <linux/types.h>

#include "kernel.h"

enum mirroring_size {
	MIRRORING_GENERATIONS = 2,
	MIRRORING_RULES = 64, /* bits of a mask: 32 rules in each generation */
	MIRRORING_RETIRED = MIRRORING_RULES, /* index of the outcomes of former rules */
	MIRRORING_PROTOCOLS = 256, /* values of IPv4's protocol and IPv6's next header */
	MIRRORING_PORTS = 65536, /* values of a port */
	MIRRORING_NETS = 65536, /* entries in an array of networks */
	MIRRORING_PREFIXES = 1 << 18, /* room for 100,000 prefixes in each of two generations */
	MIRRORING_ENDPOINTS = 32, /* far ends of the tunnels of all instances */
	MIRRORING_DSCPS = 64, /* values of a DSCP (RFC 2474) */
	MIRRORING_UNTAGGED = 4096, /* index of packets without a VLAN tag, behind all VLAN IDs */
	MIRRORING_VLANS = MIRRORING_UNTAGGED + 1,
	MIRRORING_LENGTHS =
		65536, /* lengths of IP packets; longer super-packets count as the longest */
	MIRRORING_TCP_FLAGS = 256, /* values of the byte of flags in a TCP header (RFC 9293) */
	MIRRORING_ICMPV6 = 256, /* index of the first ICMPv6 type, behind all ICMP types */
	MIRRORING_ICMP_TYPES = 2 * MIRRORING_ICMPV6,
	MIRRORING_NAME = 64, /* bytes of a rule's name */
	MIRRORING_DATAGRAMS = 8192, /* fragmented datagrams that are remembered */
};

/* Who loaded the program, and therefore owns its pins. Maps that l3afd has just made are all 0. */
enum mirroring_loader {
	MIRRORING_LOADER_L3AFD = 0,
	MIRRORING_LOADER_SELF = 1,
};

/*
 * <direction>_config, one entry. Masks hold the bits of both generations. Most packets need only the
 * first cache line.
 */
struct mirroring_config {
	__u64 live; /* the rules in force; an update switches to others by this word; stable */
	__u64 any_protocol; /* the rules that leave the protocol open; likewise below */
	__u64 any_dst_port;
	__u64 any_src_port;
	__u64 any_dst_v4; /* the rules that accept every IPv4 address */
	__u64 any_src_v4;
	/* the rules that leave the last five fields open, and mirror every packet in full length */
	__u64 unconditional;
	enum mirroring_loader loader; /* stable */
	__s32 verdict; /* TC_ACT_*, if no program follows in the chain */
	__u64 any_more; /* the rules that leave all of the last five fields (DSCP to ICMP type) open */
	__u64 portless; /* the rules that accept packets of protocols without ports */
	__u64 any_dst_v6;
	__u64 any_src_v6;
	__u64 any_dscp;
	__u64 any_vlan;
	__u64 any_length;
	__u64 any_tcp_flags;
	__u64 any_icmp_type;
	__u64 zero; /* always 0, but the verifier does not know that */
} __attribute__((aligned(64)));

/* What a rule does with the packets that match it first. */
enum mirroring_action {
	MIRRORING_MIRROR = 0,
	MIRRORING_EXCLUDE = 1,
};

/* Whether a rule that samples chooses packets or whole flows. */
enum mirroring_sample_by {
	MIRRORING_BY_PACKET = 0,
	MIRRORING_BY_FLOW = 1,
};

/* Special value of mirroring_rule.sample_below. */
enum mirroring_sample {
	MIRRORING_EVERY = 0xffffffff, /* no sampling */
};

/* Special values of mirroring_rule.snaplen. */
enum mirroring_snaplen {
	MIRRORING_WHOLE = 0,
	MIRRORING_HEADERS =
		0xffffffff, /* up to and including the upper-layer header; no length of a packet */
};

/* <direction>_rule, one entry for each bit of a mask. */
struct mirroring_rule {
	__u64 installed; /* a number that no other rule with this index has had */
	enum mirroring_action action;
	enum mirroring_sample_by sample_by;
	__u32 sample_below; /* packets with a 32-bit draw up to this number are mirrored */
	__u32 snaplen; /* bytes of the packet that are copied, or enum mirroring_snaplen */
	__u8 name[MIRRORING_NAME]; /* ends at the first 0 or at the last byte */
};

/* What the built-in tunnel does with a copy that does not fit one outer packet. */
enum mirroring_oversize {
	MIRRORING_FRAGMENT = 0, /* sends it in several outer fragments */
	MIRRORING_TRUNCATE = 1, /* sends as much of its beginning as fits */
};

/* What a tunnel device carries beside untagged IPv4 packets. */
enum mirroring_carries {
	MIRRORING_CARRIES_IPV6 = 1,
	MIRRORING_CARRIES_TAGS = 2, /* packets with VLAN tags */
	MIRRORING_CARRIES_CUT = 4, /* copies that it truncates itself (the built-in tunnel) */
	MIRRORING_CARRIES_FRAMES = 8, /* whole frames, so that tags are part of the length */
};

/* <direction>_tunnel, one entry (and one cache line) for each generation: where the copies go. */
struct mirroring_tunnel {
	__u32 ifindex; /* the tunnel device */
	__be32 collector[4]; /* outer destination address, as in struct mirroring_endpoint */
	__be16 port; /* outer UDP destination port */
	__u8 protocol; /* outer protocol (IPPROTO_*); 0: the far end is not known */
	__u8 carries; /* enum mirroring_carries */
	__u32 max_len; /* longest packet that fits, bytes from the IP header on; 0: no limit */
	__u32 max_segment_len; /* the same for a segment of a TCP super-packet */
	__u32 cut_len; /* longer copies are truncated to so many bytes; 0: none is */
	__u32 overhead; /* bytes of outer headers for each copy */
	/* any packet up to this length fits, with any tags, and there is no cap; 0: check each packet */
	__u32 unasked_len;
	enum mirroring_oversize oversize; /* for the built-in tunnel */
	__u64 rate; /* cap on the rate, bytes a second, outer headers included; 0: none */
	__u64 burst; /* bytes that may leave at once under the cap */
} __attribute__((aligned(64)));

/* The far end of a tunnel. */
struct mirroring_endpoint {
	__be32 address[4]; /* an IPv4 address as ::ffff:a.b.c.d (RFC 4291, 2.5.5.2) */
	__be16 port; /* UDP port */
	__u8 protocol; /* outer protocol (IPPROTO_*); 0: the entry is empty */
	__u8 reserved[5];
} __attribute__((aligned(8)));

/*
 * <direction>_endpoints, one entry: the far ends of the tunnels of all instances that share a BPF file
 * system, that of the instance itself first. An empty entry ends the list. An endpoint may be listed
 * twice. Only the last 8 bytes of an entry say whether it is empty. They are stored last and at once, so
 * an entry that is being replaced never looks empty.
 */
struct mirroring_endpoints {
	struct mirroring_endpoint list[MIRRORING_ENDPOINTS];
};

/* Key of the <direction>_*_prefix maps. Their values are masks. */
struct mirroring_prefix {
	__u32 len; /* bits */
	__be32 address;
};

/* The same for the <direction>_*_prefix6 maps. */
struct mirroring_prefix6 {
	__u32 len;
	__be32 address[4];
};

/* Key of <direction>_datagram: a datagram that came in fragments. */
struct mirroring_datagram {
	__be32 src[4]; /* an IPv4 address is in the first word, the others are 0 */
	__be32 dst[4];
	__u32 id;
	__u8 protocol;
	__u8 is_ipv6;
	__u16 reserved;
};

/* Its value: the rule that the first fragment matched. */
struct mirroring_remembered {
	__u64 installed; /* of the rule at that time */
	__u32 rule; /* its index */
	__u32 draw; /* if the rule samples */
};

/*
 * <direction>_outcomes, per CPU, one entry for each rule: what became of the packets that matched it
 * first. One more entry has the counts of former rules. User space adds all of them up into
 * <direction>_metrics, one entry for each counter, in this order.
 * matched = excluded + loop_guard + not_sampled + unsupported + oversize + rate_limited + failed + sent
 */
struct mirroring_outcomes {
	__u64 matched;
	__u64 sent; /* handed to the tunnel device */
	__u64 excluded; /* by the rule's action */
	__u64 loop_guard; /* tunnel traffic, which is never mirrored */
	__u64 not_sampled; /* left out by the rule's sampling */
	__u64 unsupported; /* IPv6 or VLAN tags, which the tunnel device does not carry */
	__u64 oversize; /* longer than the tunnel device carries */
	__u64 rate_limited; /* above the cap on the rate */
	__u64 failed; /* refused by the tunnel device, or out of memory */
};

/* <direction>_bucket, one entry: what all CPUs together may send under the cap on the rate. */
struct mirroring_bucket {
	struct bpf_spin_lock lock;
	__u32 reserved;
	__s64 level; /* in 10^-9 bytes; below 0 after a copy longer than the bucket */
	__u64 filled_at; /* ns since boot (bpf_ktime_get_ns); 0: never */
};

/* <direction>_credit, per CPU: what this one has drawn from the bucket. */
struct mirroring_credit {
	__u64 bytes;
	__u64 drawn_at; /* ns since boot */
	__u64 refused_at; /* when the bucket had too little, ns since boot */
};

/*
 * <direction>_instance, one entry, only for user space: what later commands, also of other versions, have
 * to know about an instance whose process is gone. Members that an older version does not know are 0.
 */
struct mirroring_instance {
	__u64 start_time; /* of the process: clock ticks since boot (proc_pid_stat(5), field 22) */
	__u32 program; /* id of the program, if we loaded it; 0: l3afd loaded it */
	__u32 pid; /* of the process that stays with the program; 0: none */
	__u32 ifindex; /* of the mirrored interface */
	__u32 previous_map; /* id of the PROG_ARRAY whose entry 0 is our slot; 0: not chained */
	__u32 filter_handle; /* of our clsact filter; 0: there is none */
	__u32 filter_priority;
	__u32 made_clsact; /* 1: we added the interface's clsact qdisc */
	__u32 reserved;
};

/*
 * The first two words of skb->cb of a copy. The tunnel accepts only packets with this mark, and no instance
 * mirrors them again. The words are random: other data has the same value once in 2^64. The third word is
 * enum mirroring_oversize, the fourth is the number of bytes to keep of the copy (0: all).
 */
enum mirroring_mark {
	MIRRORING_MARK_0 = 0x4d697272,
	MIRRORING_MARK_1 = 0x6f72e8a7,
};

/* Every other version relies on these places. Never change an assertion: add new members behind them. */
#define STABLE(type, member, offset)                                        \
	_Static_assert(__builtin_offsetof(struct type, member) == (offset), \
		       "versions share " #type "." #member)
STABLE(mirroring_config, live, 0);
STABLE(mirroring_config, loader, 56);
STABLE(mirroring_instance, start_time, 0);
STABLE(mirroring_instance, program, 8);
STABLE(mirroring_instance, pid, 12);
STABLE(mirroring_instance, ifindex, 16);
STABLE(mirroring_instance, previous_map, 20);
STABLE(mirroring_instance, filter_handle, 24);
STABLE(mirroring_instance, filter_priority, 28);
STABLE(mirroring_instance, made_clsact, 32);
STABLE(mirroring_endpoint, address, 0);
STABLE(mirroring_endpoint, port, 16);
STABLE(mirroring_endpoint, protocol, 18);
_Static_assert(sizeof(struct mirroring_endpoint) == 24, "versions share the list of endpoints");
_Static_assert(sizeof(struct mirroring_endpoints) == 32 * 24,
	       "versions share the list of endpoints");
#undef STABLE

#endif /* MIRRORING_H */
