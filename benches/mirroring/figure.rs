//! The measured figures, as tables and plots show them.

use serde::Serialize;

use crate::spread::Spread;

/// One line of the table.
#[derive(Debug, Serialize)]
pub struct Figure {
    pub part: Part,
    pub what: String,
    pub value: Spread,
    pub unit: &'static str,
    /// The name of the reference, measured in the same rounds. Empty if there is none.
    pub against: &'static str,
    pub ratio: Option<Spread>,
    pub reach: Option<Reach>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    Miss,
    Hit,
    Path,
    FromWire,
    Throughput,
    Process,
}

impl Part {
    pub const ALL: [Self; 6] =
        [Self::Miss, Self::Hit, Self::Path, Self::FromWire, Self::Throughput, Self::Process];

    pub fn title(self) -> &'static str {
        match self {
            Self::Miss => "A packet that no rule matches (test runs)",
            Self::Hit => "A packet that is mirrored, as far as the device (test runs)",
            Self::Path => "A packet that is mirrored, all the way to the collector (veth)",
            Self::FromWire => {
                "The same for a packet with headroom, as one from a wire has it (test runs)"
            }
            Self::Throughput => "What production keeps, and what arrives (veth)",
            Self::Process => "The process",
        }
    }
}

/// The target of a figure.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reach {
    ValueAtMost(f64),
    RatioAtMost(f64),
    RatioAtLeast(f64),
}

impl Figure {
    pub fn new(part: Part, what: impl Into<String>, value: Spread, unit: &'static str) -> Self {
        Self { part, what: what.into(), value, unit, against: "", ratio: None, reach: None }
    }

    pub fn against(mut self, against: &'static str, ratio: Spread) -> Self {
        (self.against, self.ratio) = (against, Some(ratio));
        self
    }

    pub fn reach(mut self, reach: Reach) -> Self {
        self.reach = Some(reach);
        self
    }

    /// Whether the median meets the target; `None` without a target.
    pub fn is_reached(&self) -> Option<bool> {
        let ratio = || self.ratio.map_or(f64::NAN, |ratio| ratio.median);
        Some(match self.reach? {
            Reach::ValueAtMost(most) => self.value.median <= most,
            Reach::RatioAtMost(most) => ratio() <= most,
            Reach::RatioAtLeast(least) => ratio() >= least,
        })
    }
}
