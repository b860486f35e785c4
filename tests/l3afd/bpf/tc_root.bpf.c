/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The root of a chain, which calls the first program. */
#include "chain.h"

#define ARRAY NAMED(tc, DIRECTION, root_array)

JMP_TABLE(ARRAY);

SEC("tc")
int NAMED(tc, DIRECTION, root)(struct __sk_buff *skb)
{
	bpf_tail_call(skb, &ARRAY, 0);
	return TC_ACT_OK;
}
