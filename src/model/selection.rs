//! Which instances a command is about.

use std::fmt;

use super::{Direction, InstanceId, InterfaceName, Version};

/// The instances that match everything that is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection {
    /// `None`: of any interface.
    pub interface: Option<InterfaceName>,
    /// `None`: of either direction.
    pub direction: Option<Direction>,
    /// `None`: of any version.
    pub version: Option<Version>,
}

impl Selection {
    /// A version goes by what is shown of it.
    pub fn includes(&self, id: &InstanceId) -> bool {
        fn agrees<T: PartialEq>(wanted: Option<&T>, found: &T) -> bool {
            wanted.is_none_or(|wanted| wanted == found)
        }
        agrees(self.interface.as_ref(), &id.interface)
            && agrees(self.direction.as_ref(), &id.direction)
            && agrees(self.version.as_ref().map(Version::as_str).as_ref(), &id.version.as_str())
    }
}

/// What is given of interface and direction: `eth0`, `eth0 egress`, or nothing.
impl fmt::Display for Selection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let interface = self.interface.as_ref().map(InterfaceName::as_str);
        let parts = [interface, self.direction.map(Direction::as_str)];
        f.write_str(&parts.into_iter().flatten().collect::<Vec<_>>().join(" "))
    }
}
