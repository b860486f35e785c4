/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* A program of a chain that counts its packets. NAME must be unique, because l3afd up to 2.1.0 pins the maps of
 * all programs of an interface in one directory. */
#include "chain.h"

#define TABLE NAMED(NAME, DIRECTION, jmp_table)
#define COUNT NAMED(NAME, DIRECTION, count)

JMP_TABLE(TABLE);

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
	__uint(pinning, PIN_BY_NAME);
} COUNT SEC(".maps");

SEC("tc")
int NAMED(NAME, DIRECTION, pass)(struct __sk_buff *skb)
{
	__u32 key = 0;
	__u64 *count = bpf_map_lookup_elem(&COUNT, &key);

	if (count)
		__sync_fetch_and_add(count, 1);
	bpf_tail_call(skb, &TABLE, 0);
	return TC_ACT_OK;
}
