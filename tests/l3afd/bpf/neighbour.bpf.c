/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* A program of a chain that counts the packets which come by. */
#include "chain.h"

#define TABLE CONCAT(neighbour_, DIRECTION, _jmp_table)
#define COUNT CONCAT(neighbour_, DIRECTION, _count)

JMP_TABLE(TABLE);

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
	__uint(pinning, PIN_BY_NAME);
} COUNT SEC(".maps");

SEC("tc")
int CONCAT(neighbour_, DIRECTION, _pass)(struct __sk_buff *skb)
{
	__u32 key = 0;
	__u64 *count = bpf_map_lookup_elem(&COUNT, &key);

	if (count)
		__sync_fetch_and_add(count, 1);
	bpf_tail_call(skb, &TABLE, 0);
	return TC_ACT_OK;
}
