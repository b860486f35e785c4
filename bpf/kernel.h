/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What the kernel and libbpf give a BPF program.
 *
 * The records of linux/bpf.h are marked as what the verifier takes them for: a context is read only at offsets that
 * stand in the instruction. Without the mark, clang 18 and later may first add an offset to the pointer, and the
 * verifier refuses that ("dereference of modified ctx ptr"). Older ones neither do that nor know the mark.
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
