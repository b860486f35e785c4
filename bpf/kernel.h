/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The kernel's and libbpf's headers for BPF programs.
 *
 * The verifier accepts a read of a context only if the offset is part of the load instruction. clang 18 and later may
 * add the offset to the pointer first, which the verifier refuses ("dereference of modified ctx ptr"). The attribute
 * preserve_static_offset on the structs of linux/bpf.h prevents that. Older versions of clang neither need nor know it.
 */
#ifndef KERNEL_H
#define KERNEL_H

#if __has_attribute(preserve_static_offset)
#pragma clang attribute push(__attribute__((preserve_static_offset)), apply_to = record)
#endif
#include <linux/bpf.h>
#if __has_attribute(preserve_static_offset)
#pragma clang attribute pop
#endif

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#endif /* KERNEL_H */
