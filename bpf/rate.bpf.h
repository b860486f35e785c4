/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The cap on what an instance sends: one bucket of bytes, filled at the rate of the cap, for all
 * CPUs. So that not every copy writes to the bucket, a CPU draws credit for several at once.
 *
 * Credit that a CPU has not used goes back into the bucket with its next draw, and is void after
 * CREDIT_NS until then. So however many CPUs there are, more than the rate leaves only for
 * the length of two bursts: what was in the bucket, and what had been drawn from it before.
 *
 * (A lock, since Linux 5.10 has no atomic operation that returns a value.)
 */
#ifndef RATE_BPF_H
#define RATE_BPF_H

#include "mirroring.h"
#include "mirroring_maps.bpf.h"

enum {
	CREDIT_NS = 10 * 1000 * 1000, /* for so long a CPU's credit is good */
	RETRY_NS = 1000 * 1000, /* a CPU that got none leaves the bucket alone for so long */
	SHARE = 4, /* a draw takes one in so many of the bytes that there are */
};

/* The unit of the bucket's level, in which no fraction of a byte gets lost: 10^-9 bytes. */
#define PER_BYTE 1000000000ULL

/* Draws `bytes` from the bucket and more, if they are there; returns how many. */
static __always_inline __u64 draw(struct mirroring_bucket *bucket,
				  const struct mirroring_tunnel *tunnel, __u64 now, __u64 bytes,
				  __u64 returned)
{
	__s64 full = tunnel->burst * PER_BYTE;
	__u64 fill_time = full / tunnel->rate;
	/* what is longer than the bucket leaves when that is full, and is owed */
	__s64 least = (bytes < tunnel->burst ? bytes : tunnel->burst) * PER_BYTE;
	__u64 drawn = 0;

	bpf_spin_lock(&bucket->lock);
	/* another CPU may have come with a later time */
	if (now > bucket->filled_at) {
		__u64 elapsed = now - bucket->filled_at;

		/* at first it is full, however short ago the kernel booted */
		if (elapsed > fill_time || !bucket->filled_at)
			elapsed = fill_time;
		bucket->level += elapsed * tunnel->rate;
		bucket->filled_at = now;
	}
	bucket->level += returned * PER_BYTE;
	if (bucket->level > full)
		bucket->level = full;
	if (bucket->level >= least) {
		drawn = (__u64)bucket->level / (PER_BYTE * SHARE);
		if (drawn < bytes)
			drawn = bytes;
		bucket->level -= drawn * PER_BYTE;
	}
	bpf_spin_unlock(&bucket->lock);
	return drawn;
}

/* Whether the cap leaves room for a copy of so many bytes; if so, they are taken. */
static __always_inline bool within_rate(const struct mirroring_tunnel *tunnel, __u64 bytes)
{
	struct mirroring_credit *credit = only_entry(&MAP(credit));
	struct mirroring_bucket *bucket = only_entry(&MAP(bucket));
	__u64 now = bpf_ktime_get_ns();
	__u64 drawn;

	if (!credit || !bucket)
		return false;
	if (credit->bytes >= bytes && now - credit->drawn_at < CREDIT_NS) {
		credit->bytes -= bytes;
		return true;
	}
	if (now - credit->refused_at < RETRY_NS)
		return false;
	drawn = draw(bucket, tunnel, now, bytes, credit->bytes);
	if (!drawn) {
		credit->bytes = 0;
		credit->refused_at = now;
		return false;
	}
	credit->bytes = drawn - bytes;
	credit->drawn_at = now;
	return true;
}

#endif /* RATE_BPF_H */
