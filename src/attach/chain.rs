//! Chains of programs: each program calls the next one through a slot of its PROG_ARRAY.

use std::collections::HashSet;
use std::iter;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use libbpf_rs::query::ProgramInfo;
use libbpf_rs::{MapCore, MapFlags, MapHandle, MapType, ProgramHandle, ProgramType};
use nix::sys::statfs::statfs;

use crate::bpf::{bpffs, loaded_programs};

/// Key 0, the only one that l3afd's chains use.
const KEY: [u8; 4] = 0_u32.to_ne_bytes();

/// The entry of a PROG_ARRAY that leads to the next program of its chain.
#[derive(Debug)]
pub struct Slot {
    map: MapHandle,
}

impl Slot {
    /// The slot in the map that is pinned at `path`. That has to be a PROG_ARRAY, and below `bpffs` also after
    /// following symbolic links.
    pub fn pinned(path: &Path, bpffs: &Path) -> Result<Self> {
        let shown = path.display();
        let real = path.canonicalize().with_context(|| {
            format!("--map-name: there is no map pinned at {shown}; start the previous program of the chain first")
        })?;
        let bpffs = bpffs
            .canonicalize()
            .with_context(|| format!("--bpffs: cannot look at {}", bpffs.display()))?;
        ensure!(
            real.starts_with(&bpffs) && statfs(&real).is_ok_and(|fs| bpffs::is_bpffs(&fs)),
            "--map-name: {shown} is outside the BPF file system at {}",
            bpffs.display()
        );
        let map = MapHandle::from_pinned_path(&real)
            .ok()
            .filter(|map| map.map_type() == MapType::ProgArray)
            .with_context(|| {
                format!("--map-name: {shown} is no PROG_ARRAY; give the map that the previous program makes its tail call through")
            })?;
        Ok(Self { map })
    }

    /// The slot in the map with this id; `None` where the map is gone or not a PROG_ARRAY.
    fn of_map(id: u32) -> Option<Self> {
        let map = MapHandle::from_map_id(id).ok()?;
        (map.map_type() == MapType::ProgArray).then_some(Self { map })
    }

    /// The slots of all PROG_ARRAYs of this host.
    pub fn all() -> impl Iterator<Item = Self> {
        map_ids().filter_map(Self::of_map)
    }

    /// All slots of this host that hold one of our programs.
    ///
    /// It is not enough to look at the slot that we took (`noted`, by the id of its map): another program may have taken
    /// it since, and moved ours to a slot of its own. So all maps of the loaded programs are looked at. A program that
    /// uses one of the `jump_tables` of instances has no other PROG_ARRAY, so its other maps are skipped.
    pub fn all_of(
        is_ours: impl Fn(u32) -> bool,
        noted: u32,
        loaded: &[ProgramInfo],
        jump_tables: &HashSet<u32>,
    ) -> Vec<Self> {
        let mut maps = jump_tables.clone();
        maps.extend((noted != 0).then_some(noted));
        // programs of other types cannot tail-call ours
        for program in loaded.iter().filter(|it| it.ty == ProgramType::SchedCls) {
            if jump_tables.is_disjoint(&program.map_ids.iter().copied().collect()) {
                maps.extend(&program.map_ids);
            }
        }
        let slots = maps.into_iter().filter_map(Self::of_map);
        slots.filter(|slot| slot.holds(&is_ours)).collect()
    }

    /// Follows the chain that begins with this slot to the slot that holds one of our programs.
    pub fn place_of(&self, is_ours: impl Fn(u32) -> bool) -> Result<Option<Self>> {
        let mut maps = vec![self.map_id()?];
        let mut seen = HashSet::new();
        while let Some(id) = maps.pop() {
            if !seen.insert(id) {
                continue;
            }
            let Some(slot) = Self::of_map(id) else { continue };
            if slot.holds(&is_ours) {
                return Ok(Some(slot));
            }
            // a foreign PROG_ARRAY may be unreadable
            maps.extend(slot.program().ok().flatten().map_or(Vec::new(), loaded_programs::maps_of));
        }
        Ok(None)
    }

    fn holds(&self, is_ours: impl Fn(u32) -> bool) -> bool {
        self.program().is_ok_and(|program| program.is_some_and(is_ours))
    }

    /// The slot that leads on from our own program.
    pub fn of_jmp_table(jmp_table: &MapHandle) -> Result<Self> {
        let map = MapHandle::try_from(jmp_table).context("cannot open the jump table")?;
        Ok(Self { map })
    }

    /// Id of the PROG_ARRAY that the slot is an entry of. Ids are the kernel's and hold for the whole host.
    pub fn map_id(&self) -> Result<u32> {
        let info = self.map.info().context("cannot ask about the PROG_ARRAY")?;
        Ok(info.info.id)
    }

    /// Id of the program in the slot.
    pub fn program(&self) -> Result<Option<u32>> {
        let id = self.map.lookup(&KEY, MapFlags::ANY).context("cannot read the chain's slot")?;
        id.map(|id| Ok(u32::from_ne_bytes(id.as_slice().try_into()?))).transpose()
    }

    /// Puts a program into the slot, replacing the one that is there atomically.
    pub fn put(&self, program: BorrowedFd<'_>) -> Result<()> {
        self.map
            .update(&KEY, &program.as_raw_fd().to_ne_bytes(), MapFlags::ANY)
            .context("the previous program's PROG_ARRAY refuses the program")
    }

    /// Takes our program out of the slot. The program after it, if any, takes its place, so that the chain stays linked.
    pub fn leave(&self, next: &Self) -> Result<()> {
        match next.program()?.map(ProgramHandle::from_prog_id) {
            Some(Ok(successor)) => self.put(successor.as_fd()),
            _ => self.map.delete(&KEY).context("cannot clear the chain's slot"),
        }
    }
}

/// The ids of all maps of this host, also of those that we cannot open.
fn map_ids() -> impl Iterator<Item = u32> {
    let mut id = 0;
    iter::from_fn(move || {
        // SAFETY: an integer to write to, which lives until the call returns
        let result = unsafe { libbpf_sys::bpf_map_get_next_id(id, &mut id) };
        (result == 0).then_some(id)
    })
}
