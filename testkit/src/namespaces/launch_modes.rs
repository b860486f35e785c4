//! The three ways to be launched, for tests that want the same of each.

use traffic_mirroring::model::Direction as Way;

use super::{
    Daemon, Root, Topology, load_as_l3afd, rules_file, run_as_l3afd, start, start_chained,
    undisturbed,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Standalone,
    Chained,
    L3afd,
}

/// Starts instances in one of these ways.
pub struct Launcher<'a> {
    net: &'a Topology,
    pub mode: Mode,
    roots: Vec<Root>,
}

impl Launcher<'_> {
    /// Mirrors `eth0` from when it returns on; there is a process unless l3afd loads the program.
    pub fn start(&self, direction: Way, more: &[&str]) -> Option<Daemon> {
        let way = direction.to_string();
        let root = || &self.roots[usize::from(direction == Way::Egress)];
        match self.mode {
            Mode::Standalone => Some(start(self.net, &way, more)),
            Mode::Chained => Some(start_chained(self.net, &way, root(), more)),
            Mode::L3afd => {
                load_as_l3afd(direction, root());
                run_as_l3afd(self.net, &way, more);
                None
            }
        }
    }

    /// Mirrors both directions of `eth0`, ingress by the first file of rules, egress by the second.
    pub fn start_both(&self, rules: &[String; 2]) -> [Option<Daemon>; 2] {
        [0, 1].map(|n| {
            let file = rules_file(&format!("rules-{n}"), &rules[n]);
            self.start(Way::ALL[n], &[&file])
        })
    }
}

/// Runs the test in a topology of its own for each of them, and again where others' traffic has spoilt it.
pub fn in_every_launch_mode(test: impl Fn(&Topology, &Launcher) + Sync) {
    in_launch_modes(&[Mode::Standalone, Mode::Chained, Mode::L3afd], test);
}

/// The same for those in which we load the program ourselves.
pub fn in_self_loaded_modes(test: impl Fn(&Topology, &Launcher) + Sync) {
    in_launch_modes(&[Mode::Standalone, Mode::Chained], test);
}

fn in_launch_modes(modes: &[Mode], test: impl Fn(&Topology, &Launcher) + Sync) {
    for &mode in modes {
        undisturbed(|| {
            Topology::run(|net| {
                let ways = if mode == Mode::Standalone { &[][..] } else { &["ingress", "egress"] };
                let roots = ways.iter().map(|way| Root::attach(net.host(), way)).collect();
                println!("{mode:?}");
                test(net, &Launcher { net, mode, roots });
            });
        });
    }
}
