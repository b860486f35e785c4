//! Types that several rooms share. They are pure: they ask nothing of the machine.

mod id;
pub mod rate;
mod selection;
pub mod tunnel;

pub use id::{Direction, InstanceId, InterfaceName, Version};
pub use rate::Rate;
pub use selection::Selection;
pub use tunnel::{LocalPort, Oversize, Tunnel};
