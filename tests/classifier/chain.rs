//! Whatever becomes of the copy, the packet gets the configured verdict or goes to the chain's next
//! program.

use std::ffi::CString;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use libbpf_rs::{MapCore, MapFlags};
use traffic_mirroring::model::Direction;

use crate::loop_guard::MARK;
use testkit::test_run::harness::{
    Context, Fate, Harness, TC_ACT_OK, TC_ACT_UNSPEC, in_namespace, rule, tunnel,
};
use testkit::test_run::packets::{tcp, udp};

/// Not a verdict of tc, so it can only come from the next program.
pub const NEXT: i32 = 42;

/// A tc program of two instructions: `r0 = NEXT; exit`.
pub fn next_program() -> OwnedFd {
    let instructions = [
        libbpf_sys::bpf_insn { code: 0xb7, imm: NEXT, ..Default::default() },
        libbpf_sys::bpf_insn { code: 0x95, ..Default::default() },
    ];
    let (name, license) = (CString::new("next").unwrap(), CString::new("GPL").unwrap());
    // SAFETY: the strings end in 0, the count of instructions is right, there are no options, and
    // nobody else owns the returned descriptor
    unsafe {
        let fd = libbpf_sys::bpf_prog_load(
            libbpf_sys::BPF_PROG_TYPE_SCHED_CLS,
            name.as_ptr(),
            license.as_ptr(),
            instructions.as_ptr(),
            instructions.len() as libbpf_sys::size_t,
            std::ptr::null_mut(),
        );
        assert!(fd >= 0, "the kernel refuses the next program: {fd}");
        OwnedFd::from_raw_fd(fd)
    }
}

/// Brings about every fate once. `fate_with` checks the verdict and the packet each time.
fn check_every_fate(harness: &Harness) {
    let matching = tcp("10.0.0.1:1000", "192.0.2.1:80").frame();
    let other = udp("10.0.0.1:1000", "192.0.2.1:80").frame();
    let marked = Context { cb: [MARK[0], MARK[1], 0, 0, 0], ..Context::default() };
    let rules = [rule("protocol=tcp")];

    harness.maps.disable();
    assert_eq!(harness.fate(&matching), Fate::NoMatch, "no rule is in force");
    harness.install_to(&rules, tunnel());
    assert_eq!(harness.fate(&matching), Fate::Sent);
    assert_eq!(harness.fate(&other), Fate::NoMatch);
    assert_eq!(harness.fate_with(&matching, marked), Fate::LoopGuard);
    let mut short = tunnel();
    short.max_len = 30;
    harness.install_to(&rules, short);
    assert_eq!(harness.fate(&matching), Fate::Oversize);
    harness.install(&rules);
    assert_eq!(harness.fate(&matching), Fate::Failed);
}

#[test]
fn needs_root_the_verdict_stays_whatever_the_copy_meets() {
    in_namespace(|| {
        for direction in Direction::ALL {
            for verdict in [TC_ACT_OK, TC_ACT_UNSPEC] {
                check_every_fate(&Harness::new(direction, verdict));
            }
        }
    });
}

#[test]
fn needs_root_the_next_program_runs_whatever_the_copy_meets() {
    let next = next_program();
    in_namespace(|| {
        Harness::each(|harness| {
            let alone = harness.verdict;
            let key = 0_u32.to_ne_bytes();
            let jmp_table = &harness.maps.common.jmp_table;
            jmp_table.update(&key, &next.as_raw_fd().to_ne_bytes(), MapFlags::ANY).unwrap();
            harness.verdict = NEXT;
            check_every_fate(harness);

            harness.maps.common.jmp_table.delete(&key).unwrap();
            harness.verdict = alone;
            check_every_fate(harness);
        });
    });
}

#[test]
fn needs_root_maps_as_l3afd_makes_them_pass_everything_on() {
    for direction in Direction::ALL {
        let mut harness = Harness::new(direction, TC_ACT_OK);
        harness.maps.common.config.write(0, Default::default());
        harness.verdict = TC_ACT_OK;
        assert_eq!(harness.fate(&tcp("10.0.0.1:1", "10.0.0.2:2").frame()), Fate::NoMatch);
    }
}
