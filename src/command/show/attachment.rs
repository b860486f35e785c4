//! Which programs see the packets before and after ours, in the chain or on the interface.

use super::report::{By, Neighbour, Program};
use crate::attach::chain::Slot;
use crate::attach::tcx;
use crate::bpf::loaded_programs;
use crate::model::Direction;
use crate::netlink::Netlink;

/// The programs that are loaded at one moment.
pub struct Programs {
    all: Vec<Loaded>,
    slots: Vec<TailCall>,
}

struct Loaded {
    program: Program,
    map_ids: Vec<u32>,
}

/// A PROG_ARRAY, and the program at its index 0.
struct TailCall {
    map: u32,
    to: u32,
}

impl Programs {
    pub fn look() -> Self {
        let all = loaded_programs::all().map(|it| Loaded {
            program: Program { id: it.id, name: it.name.to_string_lossy().into_owned() },
            map_ids: it.map_ids,
        });
        // what goes away meanwhile leads nowhere
        let slots = Slot::all().filter_map(|slot| {
            Some(TailCall { map: slot.map_id().ok()?, to: slot.program().ok()?? })
        });
        Self { all: all.collect(), slots: slots.collect() }
    }

    /// The program with this id; without a name if it has just gone.
    pub fn program(&self, id: u32) -> Program {
        let loaded = self.all.iter().find(|it| it.program.id == id);
        loaded.map_or_else(|| Program { id, name: String::new() }, |it| it.program.clone())
    }

    fn neighbour(&self, by: By, id: u32) -> Neighbour {
        let Program { id, name } = self.program(id);
        Neighbour { by, id: Some(id), name }
    }

    /// The programs that make a tail call to a program.
    fn leading_to(&self, id: u32) -> Vec<Neighbour> {
        let maps: Vec<u32> = self.slots.iter().filter(|it| it.to == id).map(|it| it.map).collect();
        let callers = self.all.iter().filter(|it| it.map_ids.iter().any(|id| maps.contains(id)));
        callers.map(|it| self.neighbour(By::TailCall, it.program.id)).collect()
    }
}

/// The programs in front of a program and behind it.
pub struct Place {
    /// The program is in another program's PROG_ARRAY, or on the interface.
    pub found: bool,
    pub previous: Vec<Neighbour>,
    pub next: Vec<Neighbour>,
}

impl Place {
    /// `slot` holds the next program in the chain; `interface` is where the program would be attached.
    pub fn of(
        program: u32,
        slot: &Slot,
        interface: Option<u32>,
        direction: Direction,
        programs: &Programs,
        netlink: &mut Netlink,
    ) -> Self {
        let mut previous = programs.leading_to(program);
        let next = slot.program().ok().flatten();
        let mut next: Vec<_> =
            next.map(|id| programs.neighbour(By::TailCall, id)).into_iter().collect();
        let mut found = !previous.is_empty();
        let mut hook = interface
            .map_or_else(Vec::new, |ifindex| on_hook(ifindex, direction, programs, netlink));
        if let Some(at) = hook.iter().position(|it| it.id == Some(program)) {
            found = true;
            next.extend(hook.drain(at..).skip(1));
            previous.extend(hook);
        }
        Self { found, previous, next }
    }
}

/// The programs and filters on an interface, in the order in which they run: TCX before clsact.
fn on_hook(
    ifindex: u32,
    direction: Direction,
    programs: &Programs,
    netlink: &mut Netlink,
) -> Vec<Neighbour> {
    let by_tcx = tcx::programs(ifindex, direction).into_iter();
    let by_tcx = by_tcx.map(|id| programs.neighbour(By::Tcx, id));
    // the interface may be gone meanwhile
    let filters = netlink.filters(ifindex, direction).unwrap_or_default().into_iter();
    let filters = filters.map(|filter| match filter.program {
        Some(id) => programs.neighbour(By::Clsact, id),
        None => Neighbour { by: By::Clsact, id: None, name: filter.kind },
    });
    by_tcx.chain(filters).collect()
}
