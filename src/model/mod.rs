//! Types that several rooms share. They are pure: they ask nothing of the machine.

mod id;
mod number;
pub mod rate;
mod selection;
pub mod tunnel;

pub use id::{Direction, InstanceId, InterfaceName, Version};
pub use number::number;
pub use rate::Rate;
pub use selection::Selection;
pub use tunnel::{LocalPort, Oversize, Tunnel};
