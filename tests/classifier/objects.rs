//! What the compiled objects contain, compared with what l3afd and user space expect. The kernel
//! must load them. This suite tests the objects of the build. If `OBJECTS` names a directory, it
//! tests those in it (see harness).

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use libbpf_rs::{AsRawLibbpf, ObjectBuilder, OpenObject};
use traffic_mirroring::bpf;
use traffic_mirroring::bpf::pins;
use traffic_mirroring::model::Direction;

use testkit::test_run::harness::{object_bytes, tunnel_bytes};

fn open(bytes: &[u8]) -> OpenObject {
    ObjectBuilder::default().open_memory(bytes).unwrap()
}

fn map_names(object: &OpenObject) -> Vec<String> {
    let mut names: Vec<_> =
        object.maps().map(|map| map.name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// Each object and the programs in it.
fn objects() -> [(&'static [u8], Vec<String>); 3] {
    let of = |direction| (object_bytes(direction), vec![pins::program_name(direction)]);
    [
        of(Direction::Ingress),
        of(Direction::Egress),
        (tunnel_bytes(), ["gue_encapsulate", "gue_cut"].map(String::from).into()),
    ]
}

#[test]
fn the_maps_of_an_object_are_those_that_user_space_pins() {
    for direction in Direction::ALL {
        let mut expected = pins::map_names(direction);
        expected.sort();
        assert_eq!(map_names(&open(object_bytes(direction))), expected);
    }
    let of_tunnel = ["gue_asked", "gue_counters", "gue_piece", "gue_template"];
    assert_eq!(map_names(&open(tunnel_bytes())), of_tunnel);
}

/// l3afd pins every map of an object but `.bss`. The BPF file system refuses names with a dot.
#[test]
fn no_object_has_a_map_of_the_compilers() {
    for (bytes, _) in objects() {
        let names = map_names(&open(bytes));
        assert!(names.iter().all(|name| !name.contains('.')), "{names:?}");
    }
}

/// A prog array takes only programs that have its owner's expected attach type. l3afd's root has
/// none.
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
            // SAFETY: the program belongs to an open object
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

/// The number of instructions that the verifier processed. Linux before 5.16 does not tell: 0.
fn verifier_steps(program: BorrowedFd<'_>) -> u32 {
    let mut info = libbpf_sys::bpf_prog_info::default();
    let mut len = size_of_val(&info) as u32;
    // SAFETY: the length is that of the record, which outlives the call
    let result =
        unsafe { libbpf_sys::bpf_prog_get_info_by_fd(program.as_raw_fd(), &mut info, &mut len) };
    assert_eq!(result, 0);
    info.verified_insns
}

/// The kernel's verifier takes these steps at each load, and a start waits for it.
#[test]
fn needs_root_every_object_loads_well_below_the_verifiers_limit() {
    const LIMIT: u32 = 1_000_000; // BPF_COMPLEXITY_LIMIT_INSNS in linux/bpf.h
    for (bytes, _) in objects() {
        let object = bpf::load(bytes, &[]).unwrap_or_else(|error| panic!("{error:#}"));
        for program in object.progs() {
            let steps = verifier_steps(program.as_fd());
            println!("verifier steps: {} {steps}", program.name().to_string_lossy());
            assert!(steps < LIMIT / 4, "{}: {steps}", program.name().to_string_lossy());
        }
    }
}
