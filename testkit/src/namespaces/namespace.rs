//! A network namespace: run closures and commands in it.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::net::Ipv4Addr;
use std::os::unix::process::CommandExt;
use std::panic;
use std::process::Command;
use std::sync::Arc;
use std::thread;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::prctl;
use nix::sys::signal::{SigHandler, Signal, signal};

use super::socket;

/// A network namespace of a [`Topology`](super::Topology), also at `/run/netns/<name>`.
pub struct Ns {
    address: Ipv4Addr,
    file: Arc<File>,
}

impl Ns {
    /// Names the calling thread's namespace.
    pub(super) fn of_this_thread(name: &str, address: Ipv4Addr) -> Ns {
        let path = format!("/run/netns/{name}");
        File::create_new(&path).expect("a name for the namespace");
        let this = "/proc/thread-self/ns/net";
        mount(Some(this), path.as_str(), None::<&str>, MsFlags::MS_BIND, None::<&str>)
            .expect("the namespace under its name");
        Ns { address, file: Arc::new(File::open(&path).expect("the namespace")) }
    }

    /// Makes a namespace.
    pub(super) fn create(name: &str, address: Ipv4Addr) -> Ns {
        on_a_thread(|| {
            unshare(CloneFlags::CLONE_NEWNET).expect("a new network namespace");
            Ns::of_this_thread(name, address)
        })
    }

    /// Where the others reach this one: see the picture in [`super`].
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// Runs `f` on a thread in this namespace. A socket stays in the namespace where it was made:
    /// make it here, use it anywhere.
    pub fn run<T: Send>(&self, f: impl FnOnce() -> T + Send) -> T {
        on_a_thread(|| {
            enter(&self.file).expect("the namespace to enter");
            f()
        })
    }

    /// A command that will run in this namespace, and be killed with the thread that spawns it. So
    /// spawn it from the test's thread, not inside [`Ns::run`].
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let file = self.file.clone();
        let prepare = move || {
            // whoever runs the tests may have it ignored, as nohup does, and that is inherited
            // SAFETY: the default is no handler
            unsafe { signal(Signal::SIGHUP, SigHandler::SigDfl)? };
            enter(&file)?;
            prctl::set_pdeathsig(Signal::SIGKILL)?;
            Ok(())
        };
        let mut command = Command::new(program);
        // SAFETY: between fork and exec, `prepare` makes three system calls and does not allocate
        unsafe { command.pre_exec(prepare) };
        command
    }

    /// Runs a shell script that must succeed, and returns what it printed to stdout.
    pub fn sh(&self, script: &str) -> String {
        let output = self.command("sh").args(["-ec", script]).output().expect("sh");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{script}: {}: {stderr}", output.status);
        String::from_utf8(output.stdout).expect("text")
    }

    /// Turns off what lets an interface pass on packets that are not finished: checksums left to
    /// the hardware and segments not yet cut. What it sends from now on is what a wire would see.
    pub fn without_offloads(&self, ifname: &str) {
        self.run(|| socket::offloads_off(ifname));
    }

    /// Has an interface carry VLAN tags as bytes of its frames, and not beside them.
    pub fn without_tag_offloads(&self, ifname: &str) {
        self.run(|| socket::tag_offloads_off(ifname));
    }
}

fn enter(ns: &File) -> io::Result<()> {
    Ok(setns(ns, CloneFlags::CLONE_NEWNET)?)
}

/// Runs `f` on a thread, whose namespaces are its own to change.
fn on_a_thread<T: Send>(f: impl FnOnce() -> T + Send) -> T {
    let result = thread::scope(|scope| scope.spawn(f).join());
    result.unwrap_or_else(|panic| panic::resume_unwind(panic))
}
