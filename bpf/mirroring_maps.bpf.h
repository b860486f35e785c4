/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The maps. Their names begin with the direction, because l3afd pins the maps of both objects into one
 * directory and skips a name that is already there.
 *
 * LIBBPF_PIN_BY_NAME is for l3afd's loader (cilium/ebpf): it reuses only pinned maps that say so. After a
 * crash of l3afd, the maps that it reuses are those that user space goes on writing to.
 *
 * Arrays are memory-mapped (Linux 5.5), so that user space can fill in tables, and change the live
 * generation, with plain stores. The kernel refuses that for a map with a spin lock.
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

/* from the value of a field to the mask of the rules that accept it */
ARRAY(protocol, __u64, MIRRORING_PROTOCOLS);
ARRAY(src_port, __u64, MIRRORING_PORTS);
ARRAY(dst_port, __u64, MIRRORING_PORTS);
ARRAY(dscp, __u64, MIRRORING_DSCPS);
ARRAY(vlan, __u64, MIRRORING_VLANS);
ARRAY(length, __u64, MIRRORING_LENGTHS);
ARRAY(tcp_flags, __u64, MIRRORING_TCP_FLAGS);
ARRAY(icmp_type, __u64, MIRRORING_ICMP_TYPES);

/* from the index of a network (see classify.bpf.h) to the rules that accept some address in it */
ARRAY(src_net, __u64, MIRRORING_NETS);
ARRAY(dst_net, __u64, MIRRORING_NETS);
ARRAY(src_net6, __u64, MIRRORING_NETS);
ARRAY(dst_net6, __u64, MIRRORING_NETS);

/* each prefix holds the rules of all shorter prefixes that cover it, too */
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

/* sums over all CPUs and rules, written by user space, read by l3afd's monitor_maps */
ARRAY(metrics, __u64, sizeof(struct mirroring_outcomes) / sizeof(__u64));

/* the cap on the rate: each CPU's credit, and the bucket that all CPUs share */
PER_CPU(credit, struct mirroring_credit, 1);
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct mirroring_bucket);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} MAP(bucket) SEC(".maps");

/* the next program in the chain */
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} JMP_TABLE SEC(".maps");

/* The entry of a map that has only one. (A constant key would be put into a .rodata map.) */
static __always_inline void *lookup_single(void *map)
{
	__u32 key = 0;

	return bpf_map_lookup_elem(map, &key);
}

#endif /* MIRRORING_MAPS_BPF_H */
