//! A network namespace, in which closures and commands can run.

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

/// A network namespace of a [`Topology`](super::Topology). ip(8) finds it at `/run/netns/<name>`.
pub struct Ns {
    address: Ipv4Addr,
    file: Arc<File>,
}

impl Ns {
    /// The namespace that the calling thread is in, under this name.
    pub(super) fn of_this_thread(name: &str, address: Ipv4Addr) -> Ns {
        let path = format!("/run/netns/{name}");
        File::create_new(&path).expect("a name for the namespace");
        let this = "/proc/thread-self/ns/net";
        mount(Some(this), path.as_str(), None::<&str>, MsFlags::MS_BIND, None::<&str>)
            .expect("the namespace under its name");
        Ns { address, file: Arc::new(File::open(&path).expect("the namespace")) }
    }

    /// Creates a namespace.
    pub(super) fn create(name: &str, address: Ipv4Addr) -> Ns {
        on_a_thread(|| {
            unshare(CloneFlags::CLONE_NEWNET).expect("a new network namespace");
            Ns::of_this_thread(name, address)
        })
    }

    /// The address by which the other namespaces reach this one: see the picture in [`super`].
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// Runs `f` on a thread in this namespace. A socket stays in the namespace in which it was made, so a socket that
    /// `f` returns can be used anywhere.
    pub fn run<T: Send>(&self, f: impl FnOnce() -> T + Send) -> T {
        on_a_thread(|| {
            enter(&self.file).expect("the namespace to enter");
            f()
        })
    }

    /// A command that runs in this namespace and is killed when the thread ends that spawns it. So spawn it from the
    /// test's thread, not inside [`Ns::run`].
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let file = self.file.clone();
        let prepare = move || {
            // nohup ignores SIGHUP, and children would inherit that
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

    /// Turns off the offloads with which an interface takes packets without checksums, or before segmentation. From now
    /// on, it sends packets as they would be on a wire.
    pub fn without_offloads(&self, ifname: &str) {
        self.run(|| socket::offloads_off(ifname));
    }

    /// Makes an interface carry VLAN tags as bytes of its frames, not as metadata beside them.
    pub fn without_tag_offloads(&self, ifname: &str) {
        self.run(|| socket::tag_offloads_off(ifname));
    }
}

fn enter(ns: &File) -> io::Result<()> {
    Ok(setns(ns, CloneFlags::CLONE_NEWNET)?)
}

/// Runs `f` on a thread of its own, which may change its namespaces.
fn on_a_thread<T: Send>(f: impl FnOnce() -> T + Send) -> T {
    let result = thread::scope(|scope| scope.spawn(f).join());
    result.unwrap_or_else(|panic| panic::resume_unwind(panic))
}
