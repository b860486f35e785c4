/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The cap on the rate of an instance: a token bucket that all CPUs share. A token is a byte, and the
 * bucket fills at the rate of the cap. A CPU draws credit for several copies at once, so that most copies
 * do not touch the shared bucket.
 *
 * Unused credit expires after CREDIT_NS, and the CPU's next draw returns it to the bucket. So with any number
 * of CPUs, an interval never sees more than the rate and two bursts: one from the bucket, and one that had
 * been drawn before.
 *
 * The bucket has a spin lock because Linux 5.10 has no atomic operation that returns a value.
 */
#ifndef RATE_BPF_H
#define RATE_BPF_H

#include "mirroring.h"
#include "mirroring_maps.bpf.h"

enum {
	CREDIT_NS = 10 * 1000 * 1000, /* lifetime of a CPU's credit */
	RETRY_NS = 1000 * 1000, /* pause of a CPU whose draw was refused */
	DRAW_FRACTION = 4, /* a draw takes 1/4 of the bytes in the bucket */
};

/* The bucket's level counts 10^-9 bytes, so that no fraction of a byte gets lost. */
#define LEVEL_PER_BYTE 1000000000ULL

/*
 * Gives back the `returned` bytes of unused credit, then draws at least `bytes`. Returns how many were drawn,
 * or 0 if the bucket has too little.
 */
static __always_inline __u64 draw_credit(struct mirroring_bucket *bucket,
					 const struct mirroring_tunnel *tunnel, __u64 now,
					 __u64 bytes, __u64 returned)
{
	/* each read once: an update may change them at any moment */
	__u64 rate = *(volatile const __u64 *)&tunnel->rate;
	__u64 burst = *(volatile const __u64 *)&tunnel->burst;
	__s64 full = burst * LEVEL_PER_BYTE;
	__u64 fill_time = rate ? full / rate : 0;
	/* a copy longer than the bucket leaves when the bucket is full; the level then is below 0 */
	__s64 least = (bytes < burst ? bytes : burst) * LEVEL_PER_BYTE;
	__u64 drawn = 0;

	bpf_spin_lock(&bucket->lock);
	/* another CPU may have filled the bucket with a later time */
	if (now > bucket->filled_at) {
		__u64 elapsed = now - bucket->filled_at;

		/* a new bucket is full, even just after boot */
		if (elapsed > fill_time || !bucket->filled_at)
			elapsed = fill_time;
		bucket->level += elapsed * rate;
		bucket->filled_at = now;
	}
	bucket->level += returned * LEVEL_PER_BYTE;
	if (bucket->level > full)
		bucket->level = full;
	if (bucket->level >= least) {
		drawn = (__u64)bucket->level / (LEVEL_PER_BYTE * DRAW_FRACTION);
		if (drawn < bytes)
			drawn = bytes;
		bucket->level -= drawn * LEVEL_PER_BYTE;
	}
	bpf_spin_unlock(&bucket->lock);
	return drawn;
}

/* Takes `bytes` from the credit of this CPU; false if the cap does not allow them. */
static __always_inline bool within_rate(const struct mirroring_tunnel *tunnel, __u64 bytes)
{
	struct mirroring_credit *credit = lookup_single(&MAP(credit));
	struct mirroring_bucket *bucket = lookup_single(&MAP(bucket));
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
	drawn = draw_credit(bucket, tunnel, now, bytes, credit->bytes);
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
