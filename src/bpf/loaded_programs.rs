//! The programs that the kernel has loaded, whoever did it, and the maps that they use.

use libbpf_rs::query::{ProgInfoIter, ProgInfoQueryOptions, ProgramInfo};

/// Each with the ids of the maps that it uses.
pub fn all() -> impl Iterator<Item = ProgramInfo> {
    ProgInfoIter::with_query_opts(ProgInfoQueryOptions::default().include_map_ids(true))
}

/// The ids of the maps that a program uses; none where it is gone.
pub fn maps_of(program: u32) -> Vec<u32> {
    all().find(|it| it.id == program).map_or(Vec::new(), |it| it.map_ids)
}

/// The ids of those that use a map.
pub fn using(programs: &[ProgramInfo], map: u32) -> impl Iterator<Item = u32> {
    programs.iter().filter(move |it| it.map_ids.contains(&map)).map(|it| it.id)
}
