/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Shared by the other programs of an l3afd chain. DIRECTION is ingress or egress.
 *
 * It has the few definitions of libbpf's bpf_helpers.h that they need, so that libbpf need not be installed.
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

/* LIBBPF_PIN_BY_NAME: a map that is pinned already is reused, so a restarted launcher finds its chain */
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
