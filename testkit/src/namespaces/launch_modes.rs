//! The three ways to launch the program, for tests that expect the same from each.

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

/// Launches instances in one of these ways.
pub struct Launcher<'a> {
    net: &'a Topology,
    pub mode: Mode,
    roots: Vec<Root>,
}

impl Launcher<'_> {
    /// Starts an instance on `eth0`, and returns when it mirrors. `None`: l3afd has loaded the program, so there is no
    /// process.
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

    /// Mirrors both directions of `eth0`. Ingress gets the first file of rules, egress the second.
    pub fn start_both(&self, rules: &[String; 2]) -> [Option<Daemon>; 2] {
        [0, 1].map(|n| {
            let file = rules_file(&format!("rules-{n}"), &rules[n]);
            self.start(Way::ALL[n], &[&file])
        })
    }
}

/// Runs the test in each of these ways, in a topology of its own. Repeats it if traffic of other tests has made the
/// kernel lose packets.
pub fn in_every_launch_mode(test: impl Fn(&Topology, &Launcher) + Sync) {
    in_launch_modes(&[Mode::Standalone, Mode::Chained, Mode::L3afd], test);
}

/// The same for the two ways in which `mirroring` loads the program itself.
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
