/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * For the programs of a chain of l3afd's beside ours. DIRECTION is ingress or egress.
 *
 * The few things of libbpf's bpf_helpers.h that they need are here, so that it need not be installed.
 */
#ifndef CHAIN_H
#define CHAIN_H

#include <linux/bpf.h>
#include <linux/pkt_cls.h>

#define SEC(name) __attribute__((section(name), used))
#define __uint(name, value) int(*name)[value]
#define __type(name, value) typeof(value) *name

#define NAMED_(whose, direction, what) whose##_##direction##_##what
#define NAMED(whose, direction, what) NAMED_(whose, direction, what)

/* a map pinned already is taken up: who was killed finds the chain as it was */
#define PIN_BY_NAME 1

#define JMP_TABLE(name)                                \
	struct {                                       \
		__uint(type, BPF_MAP_TYPE_PROG_ARRAY); \
		__uint(max_entries, 1);                \
		__type(key, __u32);                    \
		__type(value, __u32);                  \
		__uint(pinning, PIN_BY_NAME);          \
	} name SEC(".maps")

static long (*const bpf_tail_call)(void *ctx, void *map, __u32 key) = (void *)BPF_FUNC_tail_call;
static void *(*const bpf_map_lookup_elem)(void *map,
					  const void *key) = (void *)BPF_FUNC_map_lookup_elem;

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#endif /* CHAIN_H */
