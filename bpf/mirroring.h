/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What the tc programs and user space share. User space takes these types from the BTF of the
 * compiled objects, so the two sides cannot drift apart.
 *
 * A rule is a bit. Each field of a packet has a table from value to the mask of the rules that
 * accept the value; the AND of the masks is the set of rules that the packet matches.
 *
 * Rules 0 to 31 are generation 0, rules 32 to 63 generation 1. One generation is in force at a
 * time: an update fills in the other one and then changes `live` with a single 8-byte store.
 *
 * An instance may outlive the version that started it. So that every other version can tell its state,
 * end it and take its place, some things are and stay the same in all of them: the names of maps
 * named here; `live` and `loader` in <direction>_config; <direction>_instance, which grows only at the
 * end; <direction>_endpoints as it is; the jump table; and what copies carry (enum mirroring_mark),
 * since instances share a tunnel. Of maps, the config is pinned first and the jump table last. Another
 * version's maps are used again where they have the same sizes: who gives a word another meaning in one
 * that has been released changes its size, too.
 */
#ifndef MIRRORING_H
#define MIRRORING_H

#include <linux/types.h>

#include "kernel.h"

enum mirroring_size {
	MIRRORING_GENERATIONS = 2,
	MIRRORING_RULES = 64, /* bits of a mask: 32 rules in each generation */
	MIRRORING_RETIRED = MIRRORING_RULES, /* place of the outcomes of rules that have gone */
	MIRRORING_PROTOCOLS = 256, /* values of IPv4's protocol and IPv6's next header */
	MIRRORING_PORTS = 65536, /* values of a port */
	MIRRORING_NETS = 65536, /* places of addresses in the arrays of networks */
	MIRRORING_PREFIXES = 1 << 18, /* 100,000 prefixes, in two generations, with room */
	MIRRORING_ENDPOINTS = 32, /* far ends of the tunnels of all instances */
	MIRRORING_DSCPS = 64, /* values of a DSCP (RFC 2474) */
	MIRRORING_UNTAGGED = 4096, /* where a VLAN ID would stand */
	MIRRORING_VLANS = MIRRORING_UNTAGGED + 1,
	MIRRORING_LENGTHS = 65536, /* of IP packets; longer super-packets count as the longest */
	MIRRORING_TCP_FLAGS = 256, /* values of the byte in a TCP header (RFC 9293) */
	MIRRORING_ICMPV6 = 256, /* what stands before a type of ICMPv6 */
	MIRRORING_ICMP_TYPES = 2 * MIRRORING_ICMPV6,
	MIRRORING_NAME = 64, /* bytes of a rule's name */
	MIRRORING_DATAGRAMS = 8192, /* fragmented datagrams that are remembered */
	MIRRORING_METRICS = 9, /* counters in struct mirroring_outcomes */
};

/* Who loaded the program and so owns its pins. l3afd's fresh maps are zero, hence its value. */
enum mirroring_loader {
	MIRRORING_LOADER_L3AFD = 0,
	MIRRORING_LOADER_SELF = 1,
};

/*
 * <direction>_config, one entry. Masks hold the bits of both generations. The first cache line is
 * all that most packets need.
 */
struct mirroring_config {
	__u64 live; /* the rules in force; the only word an update flips; here in every version */
	__u64 any_protocol; /* the rules that leave the field open */
	__u64 any_dst_port;
	__u64 any_src_port;
	__u64 any_dst_v4; /* the rules that accept every IPv4 address */
	__u64 any_src_v4;
	/* the rules that leave all of the last five fields open, and mirror every packet, whole */
	__u64 unconditional;
	enum mirroring_loader loader; /* here in every version */
	__s32 verdict; /* TC_ACT_*, where no program follows in the chain */
	__u64 any_more; /* the rules that leave all of the last five fields open */
	__u64 portless; /* the rules that accept packets of protocols without ports */
	__u64 any_dst_v6;
	__u64 any_src_v6;
	__u64 any_dscp;
	__u64 any_vlan;
	__u64 any_length;
	__u64 any_tcp_flags;
	__u64 any_icmp_type;
	__u64 zero; /* is 0, which the verifier cannot know */
} __attribute__((aligned(64)));

/* What a packet gets that meets a rule first. */
enum mirroring_action {
	MIRRORING_MIRROR = 0,
	MIRRORING_EXCLUDE = 1,
};

/* What a draw is made for, where not every packet is mirrored. */
enum mirroring_sample_by {
	MIRRORING_BY_PACKET = 0,
	MIRRORING_BY_FLOW = 1,
};

enum {
	MIRRORING_EVERY = 0xffffffff, /* draw, that is: no sampling */
};

/* In place of a number of bytes. */
enum mirroring_snaplen {
	MIRRORING_WHOLE = 0,
	MIRRORING_HEADERS = 0xffff, /* up to and including the upper-layer header */
};

/* <direction>_rule, an entry for each bit of a mask. */
struct mirroring_rule {
	__u64 installed; /* a number that no other rule had in this place */
	enum mirroring_action action;
	enum mirroring_sample_by sample_by;
	__u32 sample_below; /* draws of 32 bits that are mirrored: up to and including this one */
	__u32 snaplen; /* bytes of the packet that are copied, or enum mirroring_snaplen */
	__u8 name[MIRRORING_NAME]; /* ends with the first 0, or the last byte */
};

/* What the built-in tunnel makes of a copy that does not fit one outer packet. */
enum mirroring_oversize {
	MIRRORING_FRAGMENT = 0, /* several outer fragments */
	MIRRORING_TRUNCATE = 1, /* as much of its beginning as fits */
};

/* What a tunnel device takes beside plain IPv4 packets. */
enum mirroring_carries {
	MIRRORING_CARRIES_IPV6 = 1,
	MIRRORING_CARRIES_TAGS = 2, /* VLAN tags */
	MIRRORING_CARRIES_CUT = 4, /* copies that it has yet to cut, as their rules say */
	MIRRORING_CARRIES_FRAMES = 8, /* in which tags count as part of a packet's length */
};

/* <direction>_tunnel, one entry per generation, one cache line each: where the copies go. */
struct mirroring_tunnel {
	__u32 ifindex; /* the tunnel device */
	__be32 collector[4]; /* outer destination address, as in struct mirroring_endpoint */
	__be16 port; /* outer UDP destination port */
	__u8 protocol; /* outer protocol (IPPROTO_*); 0: where it leads is not known */
	__u8 carries; /* enum mirroring_carries */
	__u32 max_len; /* longest packet that fits, bytes from the IP header on; 0: any */
	__u32 max_segment_len; /* the same, for a segment of a TCP super-packet */
	__u32 cut_len; /* longer copies are cut to so many bytes; 0: none is */
	__u32 overhead; /* bytes that the tunnel puts in front of a copy */
	__u32 unasked_len; /* longest packet that certainly fits, under no cap and with any tag; 0: none */
	enum mirroring_oversize oversize; /* for the built-in tunnel */
	__u64 rate; /* cap on what leaves, bytes a second; 0: none */
	__u64 burst; /* bytes that may leave at once under the cap */
} __attribute__((aligned(64)));

struct mirroring_endpoint {
	__be32 address[4]; /* of IPv4, as ::ffff:a.b.c.d (RFC 4291, 2.5.5.2) */
	__be16 port; /* of UDP */
	__u8 protocol; /* outer protocol (IPPROTO_*); 0: the entry is empty */
	__u8 reserved[5];
} __attribute__((aligned(8)));

/*
 * <direction>_endpoints, one entry: the far ends of the tunnels of all instances that share a BPF file
 * system, the own one first. An empty one ends them. One may be there twice. One that takes another's
 * place is never taken for empty: its last 8 bytes, stored last and at once, tell.
 */
struct mirroring_endpoints {
	struct mirroring_endpoint list[MIRRORING_ENDPOINTS];
};

/* <direction>_*_prefix maps: LPM key and, as its value, a mask. */
struct mirroring_prefix {
	__u32 len; /* bits */
	__be32 address;
};

/* <direction>_*_prefix6 maps: the same for IPv6. */
struct mirroring_prefix6 {
	__u32 len;
	__be32 address[4];
};

/* <direction>_datagram: a datagram that came in fragments. */
struct mirroring_datagram {
	__be32 src[4]; /* of IPv4, only the first word is not 0 */
	__be32 dst[4];
	__u32 id;
	__u8 protocol;
	__u8 is_ipv6;
	__u16 reserved;
};

/* What its first fragment met. */
struct mirroring_remembered {
	__u64 installed; /* as in the rule then */
	__u32 rule; /* its bit */
	__u32 draw; /* where the rule samples */
};

/*
 * <direction>_outcomes, per CPU, an entry for each bit of a mask: packets that met the rule first.
 * One more entry has those of rules that are no longer there. User space adds them all up into
 * <direction>_metrics, an entry for each counter, in this order.
 * matched = excluded + guarded + not_sampled + unsupported + oversize + over_rate + failed + sent
 */
struct mirroring_outcomes {
	__u64 matched;
	__u64 sent; /* handed to the tunnel device */
	__u64 excluded; /* the rule says so */
	__u64 guarded; /* the tunnels' own: never mirrored */
	__u64 not_sampled; /* left out by the rule's sampling */
	__u64 unsupported; /* IPv6 or VLAN tags, which the tunnel device does not carry */
	__u64 oversize; /* longer than the tunnel carries */
	__u64 over_rate; /* more than the cap on the rate lets out */
	__u64 failed; /* refused by the tunnel device or for lack of memory */
};

/* <direction>_bucket, one entry: what all CPUs together may send under the cap. */
struct mirroring_bucket {
	struct bpf_spin_lock lock;
	__u32 reserved;
	__s64 level; /* 10^-9 bytes; below 0, they are owed */
	__u64 filled_at; /* ns since boot (bpf_ktime_get_ns) */
};

/* <direction>_credit, per CPU: what this one has drawn from the bucket. */
struct mirroring_credit {
	__u64 bytes;
	__u64 drawn_at; /* ns since boot */
	__u64 refused_at; /* when the bucket had too little */
};

/*
 * <direction>_instance, one entry, for user space alone: what a later command has to know of an
 * instance whose process is gone, be it of another version. What that did not know yet is 0.
 */
struct mirroring_instance {
	__u64 start_time; /* of the process: clock ticks since boot (proc_pid_stat(5), field 22) */
	__u32 program; /* id of the program that we loaded; 0: l3afd loaded it */
	__u32 pid; /* of the process that stays with the program; 0: none */
	__u32 ifindex; /* of the mirrored interface */
	__u32 previous_map; /* id of the PROG_ARRAY whose key 0 is our slot; 0: not chained */
	__u32 filter_handle; /* of our clsact filter; 0: there is none */
	__u32 filter_priority;
	__u32 made_clsact; /* 1: the interface's clsact qdisc is our work */
	__u32 reserved;
};

/*
 * Put into skb->cb of a copy, so that the tunnel takes nothing else, and no instance mirrors it
 * when it leaves by a mirrored interface. Two words at random: a stray match is 1 in 2^64. A third
 * word is the copy's enum mirroring_oversize, a fourth the bytes that are left of it (0: all).
 */
enum mirroring_mark {
	MIRRORING_MARK_0 = 0x4d697272,
	MIRRORING_MARK_1 = 0x6f72e8a7,
};

#endif /* MIRRORING_H */
