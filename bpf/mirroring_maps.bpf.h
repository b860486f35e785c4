/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The maps, named after DIRECTION: l3afd pins the maps of both objects into one directory, and
 * skips a name that is there already.
 *
 * Pinning by name makes l3afd's loader (cilium/ebpf) take up maps that are pinned already, as after
 * a crash of l3afd: those are the ones that user space goes on to fill in.
 *
 * Arrays can be mapped into memory (Linux 5.5): user space fills in a table, and changes the
 * generation in force, by plain stores. (Not one with a lock in it: the kernel refuses that.)
 */
#ifndef MIRRORING_MAPS_BPF_H
#define MIRRORING_MAPS_BPF_H

#include "kernel.h"
#include "mirroring.h"

#define CONCAT_(a, b, c) a##b##c
#define CONCAT(a, b, c) CONCAT_(a, b, c)
#define MAP(name) CONCAT(DIRECTION, _, name)
#define JMP_TABLE CONCAT(mirroring_, DIRECTION, _jmp_table)
#define ENTRY CONCAT(_, DIRECTION, _redirect)

#define ARRAY(name, entry_type, entries)             \
	struct {                                     \
		__uint(type, BPF_MAP_TYPE_ARRAY);    \
		__uint(map_flags, BPF_F_MMAPABLE);   \
		__uint(max_entries, entries);        \
		__type(key, __u32);                  \
		__type(value, entry_type);           \
		__uint(pinning, LIBBPF_PIN_BY_NAME); \
	} MAP(name) SEC(".maps")

#define PREFIXES(name, prefix)                           \
	struct {                                         \
		__uint(type, BPF_MAP_TYPE_LPM_TRIE);     \
		__uint(map_flags, BPF_F_NO_PREALLOC);    \
		__uint(max_entries, MIRRORING_PREFIXES); \
		__type(key, struct prefix);              \
		__type(value, __u64);                    \
		__uint(pinning, LIBBPF_PIN_BY_NAME);     \
	} MAP(name) SEC(".maps")

#define PER_CPU(name, entry_type, entries)               \
	struct {                                         \
		__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY); \
		__uint(max_entries, entries);            \
		__type(key, __u32);                      \
		__type(value, entry_type);               \
		__uint(pinning, LIBBPF_PIN_BY_NAME);     \
	} MAP(name) SEC(".maps")

ARRAY(config, struct mirroring_config, 1);
ARRAY(tunnel, struct mirroring_tunnel, MIRRORING_GENERATIONS);
ARRAY(instance, struct mirroring_instance, 1);
ARRAY(endpoints, struct mirroring_endpoints, 1);

ARRAY(rule, struct mirroring_rule, MIRRORING_RULES);

/* from a field's value to the rules that accept it */
ARRAY(protocol, __u64, MIRRORING_PROTOCOLS);
ARRAY(src_port, __u64, MIRRORING_PORTS);
ARRAY(dst_port, __u64, MIRRORING_PORTS);
ARRAY(dscp, __u64, MIRRORING_DSCPS);
ARRAY(vlan, __u64, MIRRORING_VLANS);
ARRAY(length, __u64, MIRRORING_LENGTHS);
ARRAY(tcp_flags, __u64, MIRRORING_TCP_FLAGS);
ARRAY(icmp_type, __u64, MIRRORING_ICMP_TYPES);

/*
 * from a place of addresses to the rules that accept some address there: of IPv4, their upper 16
 * bits; of IPv6, their first 16 bits XOR the next 16
 */
ARRAY(src_net, __u64, MIRRORING_NETS);
ARRAY(dst_net, __u64, MIRRORING_NETS);
ARRAY(src_net6, __u64, MIRRORING_NETS);
ARRAY(dst_net6, __u64, MIRRORING_NETS);

/* the longest prefix holds the rules of all the shorter ones that cover it */
PREFIXES(src_prefix, mirroring_prefix);
PREFIXES(dst_prefix, mirroring_prefix);
PREFIXES(src_prefix6, mirroring_prefix6);
PREFIXES(dst_prefix6, mirroring_prefix6);

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, MIRRORING_DATAGRAMS);
	__type(key, struct mirroring_datagram);
	__type(value, struct mirroring_remembered);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} MAP(datagram) SEC(".maps");

PER_CPU(outcomes, struct mirroring_outcomes, MIRRORING_RETIRED + 1);

/* their sums, where whoever watches (l3afd's monitor_maps) reads them: no program touches these */
ARRAY(metrics, __u64, MIRRORING_METRICS);

/* what each CPU may send, and what all of them share, under a cap on the rate */
PER_CPU(credit, struct mirroring_credit, 1);
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct mirroring_bucket);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} MAP(bucket) SEC(".maps");

/* the next program of the chain */
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} JMP_TABLE SEC(".maps");

/* The entry of a map that has one. (A constant key would make a .rodata map.) */
static __always_inline void *only_entry(void *map)
{
	__u32 key = 0;

	return bpf_map_lookup_elem(map, &key);
}

#endif /* MIRRORING_MAPS_BPF_H */
