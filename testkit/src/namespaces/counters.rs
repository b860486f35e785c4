//! The kernel's network counters of a namespace (/proc/net/snmp and others; see nstat(8)).

use std::collections::BTreeMap;
use std::fs;

use super::Ns;

/// The counters by their names in nstat, such as `TcpRetransSegs`.
#[derive(Clone, Debug)]
pub struct Counters(BTreeMap<String, i64>);

impl Counters {
    pub fn of(ns: &Ns) -> Self {
        let text = ns.run(|| {
            ["snmp", "netstat"].map(|file| {
                fs::read_to_string(format!("/proc/thread-self/net/{file}")).expect("counters")
            })
        });
        let text = text.concat();
        let lines: Vec<_> = text.lines().collect();
        let mut counters = BTreeMap::new();
        // one line has the names, the next one the values
        for pair in lines.chunks_exact(2) {
            let mut columns = pair[0].split_whitespace().zip(pair[1].split_whitespace());
            let (group, _) = columns.next().expect("a group");
            for (name, value) in columns {
                let name = format!("{}{name}", group.trim_end_matches(':'));
                counters.insert(name, value.parse().expect("a number"));
            }
        }
        Self(counters)
    }

    pub fn get(&self, name: &str) -> i64 {
        // some counters appear in the list only once they count
        self.0.get(name).copied().unwrap_or(0)
    }

    /// How much the counters with `wanted` names have grown. Those that have not are left out.
    pub fn since(&self, before: &Self, wanted: impl Fn(&str) -> bool) -> BTreeMap<String, i64> {
        let more = |name: &String| self.get(name) - before.get(name);
        let wanted = self.0.keys().filter(|name| wanted(name));
        wanted.map(|name| (name.clone(), more(name))).filter(|(_, more)| *more != 0).collect()
    }
}
