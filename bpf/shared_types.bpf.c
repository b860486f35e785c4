/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Never loaded. build.rs makes the Rust types and constants of src/abi.rs from the BTF of this object: it
 * describes each type that has a variable, and enums that no struct of the programs contains as well.
 */
#include "gue.h"
#include "mirroring.h"

struct {
	enum mirroring_size size;
	enum mirroring_sample sample;
	enum mirroring_snaplen snaplen;
	enum mirroring_carries carries;
	enum mirroring_mark mark;
	struct mirroring_config config;
	struct mirroring_rule rule;
	struct mirroring_tunnel tunnel;
	struct mirroring_endpoints endpoints;
	struct mirroring_prefix prefix;
	struct mirroring_prefix6 prefix6;
	struct mirroring_outcomes outcomes;
	struct mirroring_instance instance;
	enum gue_size gue_size;
	enum gue_mark gue_mark;
	struct gue_template gue_template;
	struct gue_piece gue_piece;
	struct gue_counters gue_counters;
} shared_types;
