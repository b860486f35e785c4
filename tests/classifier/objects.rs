//! What the compiled objects contain, held against what l3afd and user space expect. Loads nothing,
//! and needs no privileges.

use libbpf_rs::{AsRawLibbpf, ObjectBuilder, OpenObject};
use traffic_mirroring::bpf;
use traffic_mirroring::bpf::pins;
use traffic_mirroring::model::Direction;

fn open(bytes: &[u8]) -> OpenObject {
    ObjectBuilder::default().open_memory(bytes).unwrap()
}

fn map_names(object: &OpenObject) -> Vec<String> {
    let mut names: Vec<_> =
        object.maps().map(|map| map.name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// Each object, and its programs.
fn objects() -> [(&'static [u8], Vec<String>); 3] {
    let mirroring = |direction| (bpf::object_bytes(direction), vec![pins::program_name(direction)]);
    [
        mirroring(Direction::Ingress),
        mirroring(Direction::Egress),
        (bpf::gue_tunnel_bytes(), ["gue_encapsulate", "gue_cut"].map(String::from).into()),
    ]
}

#[test]
fn the_maps_of_an_object_are_those_that_user_space_pins() {
    for direction in Direction::ALL {
        let mut expected = pins::map_names(direction);
        expected.sort();
        assert_eq!(map_names(&open(bpf::object_bytes(direction))), expected);
    }
    let of_tunnel = ["gue_counters", "gue_piece", "gue_template"];
    assert_eq!(map_names(&open(bpf::gue_tunnel_bytes())), of_tunnel);
}

/// l3afd pins every map of an object but `.bss`, and the BPF file system refuses names with a dot.
#[test]
fn no_object_has_a_map_of_the_compilers() {
    for (bytes, _) in objects() {
        let names = map_names(&open(bytes));
        assert!(names.iter().all(|name| !name.contains('.')), "{names:?}");
    }
}

/// A prog array takes only programs with the expected attach type of its owner, and l3afd's root
/// has none.
#[test]
fn the_programs_of_an_object_fit_any_tc_chain() {
    for (bytes, names) in objects() {
        let object = open(bytes);
        let programs: Vec<_> = object.progs().collect();
        let found: Vec<_> = programs.iter().map(|program| program.name()).collect();
        assert_eq!(found, names.iter().map(std::ffi::OsStr::new).collect::<Vec<_>>());
        for program in programs {
            assert_eq!(program.section(), "tc");
            let program = program.as_libbpf_object();
            // SAFETY: a program of an object that is open
            let (kind, attach_type) = unsafe {
                (
                    libbpf_sys::bpf_program__type(program.as_ptr()),
                    libbpf_sys::bpf_program__expected_attach_type(program.as_ptr()),
                )
            };
            assert_eq!((kind, attach_type), (libbpf_sys::BPF_PROG_TYPE_SCHED_CLS, 0));
        }
    }
}
