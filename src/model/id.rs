//! What identifies an instance. The names come from outside and become parts of paths, so a value of these types
//! exists only once it has been checked.

use std::fmt;
use std::str::FromStr;

use anyhow::{Error, Result, bail, ensure};

/// Packets that come in by an interface, or that go out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// Received by the interface.
    Ingress,
    /// Sent by it.
    Egress,
}

impl Direction {
    /// Both, in the order in which they are shown.
    pub const ALL: [Self; 2] = [Self::Ingress, Self::Egress];

    /// As in flags and in the names of maps and programs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
        }
    }
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Direction {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match Self::ALL.into_iter().find(|direction| direction.as_str() == text) {
            Some(direction) => Ok(direction),
            None => bail!("{text:?} is neither ingress nor egress"),
        }
    }
}

/// A valid name of a network interface, which need not exist.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InterfaceName(String);

impl InterfaceName {
    /// Bytes; the kernel's IFNAMSIZ without the terminator.
    pub const MAX_LEN: usize = 15;

    /// As the kernel has it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for InterfaceName {
    type Err = Error;

    /// The kernel's dev_valid_name(), and two things more: no control characters, and no `%`, which
    /// the kernel takes for a pattern (`gue%d` makes a device of another name).
    fn from_str(text: &str) -> Result<Self> {
        let forbidden =
            |c: char| matches!(c, '/' | ':' | '%') || c.is_whitespace() || c.is_control();
        ensure!(!text.is_empty(), "an interface name cannot be empty");
        ensure!(
            text.len() <= Self::MAX_LEN,
            "{text:?} is too long for the name of an interface; {} bytes is the longest",
            Self::MAX_LEN
        );
        ensure!(
            text != "." && text != ".." && !text.contains(forbidden),
            "{text:?} cannot be the name of an interface"
        );
        Ok(Self(text.to_owned()))
    }
}

impl AsRef<str> for InterfaceName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for InterfaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// A version of the package as it stands in paths. Dots have turned to underscores, as l3afd does
/// it: the BPF file system takes no dots. So `1.2` and `1_2` are one version.
///
/// l3afd 2.0 and 2.1 name none, neither to us nor in paths.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(Option<String>);

impl Version {
    /// Bytes.
    pub const MAX_LEN: usize = 64;

    /// That of instances which l3afd 2.0 or 2.1 has loaded.
    pub const UNNAMED: Self = Self(None);

    /// What is called so where none is named.
    const LATEST: &str = "latest";

    /// The name in paths; `None` for [`UNNAMED`](Self::UNNAMED).
    pub fn name(&self) -> Option<&str> {
        self.0.as_deref()
    }

    /// The name, or what is shown in its place.
    pub fn as_str(&self) -> &str {
        self.name().unwrap_or(Self::LATEST)
    }
}

impl Default for Version {
    fn default() -> Self {
        Self(Some(Self::LATEST.to_owned()))
    }
}

impl FromStr for Version {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "._+~-".contains(c);
        ensure!(
            (1..=Self::MAX_LEN).contains(&text.len())
                && text.chars().all(allowed)
                && text != "."
                && text != "..",
            "{text:?} cannot be a version; give 1 to {} letters, digits and \"._+~-\", e.g. 1.2",
            Self::MAX_LEN
        );
        Ok(Self(Some(text.replace('.', "_"))))
    }
}

impl AsRef<str> for Version {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// One instance: an interface has one for each direction and version.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InstanceId {
    /// The mirrored interface, by the name that it had at the start.
    pub interface: InterfaceName,
    /// Which of its packets are mirrored.
    pub direction: Direction,
    /// That of the package which the instance was started from.
    pub version: Version,
}

impl InstanceId {
    /// What lines of the log call it: `eth0 ingress`.
    pub fn subject(&self) -> String {
        format!("{} {}", self.interface, self.direction)
    }

    /// The same interface and version, in the other or the same direction.
    pub fn towards(&self, direction: Direction) -> Self {
        Self { direction, ..self.clone() }
    }

    /// Whether a command about the one is about the other: named or not, it is the same version.
    pub fn is_same_as(&self, other: &Self) -> bool {
        (&self.interface, self.direction, self.version.as_str())
            == (&other.interface, other.direction, other.version.as_str())
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} ({})", self.interface, self.direction, self.version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interface_names_are_what_the_kernel_allows() {
        for name in ["eth0", "lo", "eth0.100", "veth-1", "fifteen_bytes_x", "...", "@x", "-a", "ü"]
        {
            assert_eq!(name.parse::<InterfaceName>().unwrap().as_str(), name);
        }
        let hostile = [
            "",
            ".",
            "..",
            "a/b",
            "../x",
            "/",
            "eth0:1",
            "a b",
            "a\t",
            "a\n",
            "a\0",
            "a\u{a0}b",
            "\u{7f}",
            "gue%d",
            "sixteen_bytes_xy",
            "üüüüüüüü",
        ];
        for name in hostile {
            assert!(name.parse::<InterfaceName>().is_err(), "{name:?}");
        }
    }

    #[test]
    fn versions_are_one_component_of_a_path() {
        for version in ["latest", "1_2", "v1-rc~2+b"] {
            assert_eq!(version.parse::<Version>().unwrap().as_str(), version);
        }
        let longest = "x".repeat(64);
        assert_eq!(longest.parse::<Version>().unwrap().as_str(), longest);
        for version in ["", ".", "..", "../x", "a/b", "a b", "a\0", "1:2", "ü", &"x".repeat(65)] {
            assert!(version.parse::<Version>().is_err(), "{version:?}");
        }
    }

    #[test]
    fn dots_in_versions_turn_to_underscores() {
        assert_eq!("1.2.3".parse::<Version>().unwrap(), "1_2_3".parse().unwrap());
        assert_eq!("...".parse::<Version>().unwrap().as_str(), "___");
    }

    #[test]
    fn without_a_version_the_name_is_latest_and_pins_have_none() {
        assert_eq!(Version::UNNAMED.to_string(), "latest");
        assert_ne!(Version::UNNAMED, Version::default());
        assert_eq!("latest".parse::<Version>().unwrap(), Version::default());
    }

    #[test]
    fn an_instance_says_who_it_is() {
        let id = InstanceId {
            interface: "eth0".parse().unwrap(),
            direction: "egress".parse().unwrap(),
            version: Version::default(),
        };
        assert_eq!(id.to_string(), "eth0 egress (latest)");
    }

    #[test]
    fn directions_read_what_they_print() {
        for direction in Direction::ALL {
            assert_eq!(direction.to_string().parse::<Direction>().unwrap(), direction);
        }
        assert_eq!(
            "in".parse::<Direction>().unwrap_err().to_string(),
            r#""in" is neither ingress nor egress"#
        );
    }
}
