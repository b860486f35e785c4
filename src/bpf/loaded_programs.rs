//! All BPF programs that are loaded in the kernel, and the maps that they use.

use libbpf_rs::query::{ProgInfoIter, ProgInfoQueryOptions, ProgramInfo};

/// All loaded programs, with the ids of their maps.
pub fn all() -> impl Iterator<Item = ProgramInfo> {
    ProgInfoIter::with_query_opts(ProgInfoQueryOptions::default().include_map_ids(true))
}

/// The ids of a program's maps; none where the program is gone.
pub fn maps_of(program: u32) -> Vec<u32> {
    all().find(|it| it.id == program).map_or(Vec::new(), |it| it.map_ids)
}

/// The ids of the programs that use a map.
pub fn using(programs: &[ProgramInfo], map: u32) -> impl Iterator<Item = u32> {
    programs.iter().filter(move |it| it.map_ids.contains(&map)).map(|it| it.id)
}
