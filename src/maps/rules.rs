//! The entry of a rule, as the programs read it: what to do with packets that match it.

use std::num::NonZeroU32;

use crate::filter::{Action, CompiledRule, Sample, SampleBy, Snaplen};
use crate::{abi, bpf};

const EVERY: u32 = abi::SampleBelow::MIRRORING_EVERY.0;
const WHOLE: u32 = abi::Snaplen::MIRRORING_WHOLE.0;
const HEADERS: u32 = abi::Snaplen::MIRRORING_HEADERS.0;

/// The entry of a rule. `installed` numbers the updates.
pub fn entry(rule: &CompiledRule, installed: u64) -> bpf::RuleEntry {
    let mut entry = bpf::RuleEntry { installed, sample_below: EVERY, ..Default::default() };
    match rule.action {
        Action::Exclude => entry.action = bpf::Action::MIRRORING_EXCLUDE,
        Action::Mirror { sample, snaplen } => {
            entry.action = bpf::Action::MIRRORING_MIRROR;
            if let Some(sample) = sample {
                // one_in is 1 at least
                entry.sample_below = ((1_u64 << 32) / u64::from(sample.one_in.get()) - 1) as u32;
                entry.sample_by = match sample.by {
                    SampleBy::Packet => bpf::SampleBy::MIRRORING_BY_PACKET,
                    SampleBy::Flow => bpf::SampleBy::MIRRORING_BY_FLOW,
                };
            }
            entry.snaplen = match snaplen {
                None => WHOLE,
                Some(Snaplen::Bytes(bytes)) => bytes.into(),
                Some(Snaplen::Headers) => HEADERS,
            };
        }
    }
    let name = rule.name.as_bytes();
    let len = name.len().min(entry.name.len());
    entry.name[..len].copy_from_slice(&name[..len]);
    entry
}

/// What [`entry`] was made from.
pub fn parse(entry: &bpf::RuleEntry) -> CompiledRule {
    let name = entry.name.split(|byte| *byte == 0).next().unwrap_or_default();
    let sample = (entry.sample_below != EVERY).then(|| Sample {
        // from a bound that was rounded down, the nearest divisor
        one_in: u32::try_from((1_u64 << 32) / (u64::from(entry.sample_below) + 1))
            .ok()
            .and_then(NonZeroU32::new)
            .unwrap_or(NonZeroU32::MAX),
        by: match entry.sample_by {
            bpf::SampleBy::MIRRORING_BY_FLOW => SampleBy::Flow,
            _ => SampleBy::Packet,
        },
    });
    let snaplen = match entry.snaplen {
        WHOLE => None,
        HEADERS => Some(Snaplen::Headers),
        bytes => Some(Snaplen::Bytes(bytes as u16)),
    };
    CompiledRule {
        name: String::from_utf8_lossy(name).into_owned(),
        action: match entry.action {
            bpf::Action::MIRRORING_EXCLUDE => Action::Exclude,
            _ => Action::Mirror { sample, snaplen },
        },
    }
}
