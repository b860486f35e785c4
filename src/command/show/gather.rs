//! Reads what runs on this host from pinned maps and from the kernel. It changes nothing.

use std::time::Instant;

use anyhow::{Context, Result};

use super::attachment::{Place, Programs};
use super::report::{Entry, Instance, LaunchMode, Process, RuleReport, State};
use super::tunnel;
use crate::attach::chain::Slot;
use crate::attach::clsact::ClsactFilter;
use crate::filter;
use crate::instance;
use crate::instance::host::Host;
use crate::maps::Maps;
use crate::model::{InstanceId, Selection};
use crate::netlink::{Link, Netlink};

/// The selected instances, sorted by name.
pub fn gather(host: &Host, selection: &Selection) -> Result<Vec<Entry>> {
    // while we read, nobody writes
    let lock = host.lock()?;
    let mut netlink = Netlink::open()?;
    let links = netlink.links()?;
    let mut reader = Reader { netlink, links, programs: Programs::look() };
    let mut entries = Vec::new();
    for pins in lock.pins() {
        let found = lock.instance(&pins).and_then(|instance| {
            instance.context(
                "a start or a stop was cut short, and this is what it left; --cmd=stop clears it away",
            )
        });
        let id = pins.id;
        let instance = found.as_deref().ok();
        if selection.includes(&id) || reader.is_now(instance, &id, selection) {
            let found = found.and_then(|it| reader.show(&it)).map_err(|error| format!("{error:#}"));
            entries.push(Entry { id, found });
        }
    }
    Ok(entries)
}

struct Reader {
    netlink: Netlink,
    links: Vec<Link>,
    programs: Programs,
}

impl Reader {
    /// The mirrored interface, whatever its name is by now.
    fn interface(&self, instance: &instance::Instance) -> Option<&Link> {
        let (index, name) = (instance.record().ifindex, instance.pins.id.interface.as_str());
        // l3afd may have loaded a program that nobody has started
        let is_it = |link: &&Link| if index == 0 { link.name == name } else { link.index == index };
        self.links.iter().find(is_it)
    }

    /// Whether an instance is selected by what its interface is called now.
    fn is_now(
        &self,
        instance: Option<&instance::Instance>,
        id: &InstanceId,
        selection: &Selection,
    ) -> bool {
        let now = instance.and_then(|instance| self.interface(instance));
        let interface = now.and_then(|link| link.name.parse().ok());
        interface
            .is_some_and(|interface| selection.includes(&InstanceId { interface, ..id.clone() }))
    }

    fn show(&mut self, it: &instance::Instance) -> Result<Instance> {
        let maps = it.maps()?;
        let direction = it.pins.id.direction;
        let interface = self.interface(it).map(|link| (link.index, link.name.clone()));
        let slot = Slot::of_jmp_table(&maps.common.jmp_table)?;
        let program = it.program();
        let ifindex = interface.as_ref().map(|(index, _)| *index);
        let place = program
            .map(|id| Place::of(id, &slot, ifindex, direction, &self.programs, &mut self.netlink));
        let tunnel = maps.tunnel();
        let process = it.process();
        let read_at = Instant::now();
        Ok(Instance {
            state: match (it.is_running(), it.is_live() && interface.is_some()) {
                (true, _) => State::Running,
                (false, true) => State::Unattended,
                (false, false) => State::Stopped,
            },
            interface: interface.map(|(_, name)| name),
            process: (process.pid != 0)
                .then(|| Process { pid: process.pid, alive: process.is_alive() }),
            launch_mode: launch_mode(it),
            program: program.map(|id| self.programs.program(id)),
            attached: place.as_ref().is_some_and(|place| place.found),
            previous: place.as_ref().map_or_else(Vec::new, |place| place.previous.clone()),
            next: place.map_or_else(Vec::new, |place| place.next),
            rules: rules(&maps)?,
            retired: maps.outcomes_of_former_rules()?.into(),
            rates: None,
            tunnel: tunnel
                .map(|tunnel| tunnel::of(&tunnel, &self.links, &mut self.netlink))
                .transpose()?,
            read_at,
            installation: maps.installation(),
        })
    }
}

fn launch_mode(it: &instance::Instance) -> LaunchMode {
    let record = it.record();
    if !it.is_self_loaded() {
        LaunchMode::L3afd
    } else if record.previous_map != 0 {
        LaunchMode::Chain
    } else if ClsactFilter::of(&record, it.pins.id.direction).is_some() {
        LaunchMode::Clsact
    } else {
        LaunchMode::Tcx
    }
}

/// The rules in force, with their counters.
fn rules(maps: &Maps) -> Result<Vec<RuleReport>> {
    if !maps.common.config.is_live() {
        return Ok(Vec::new());
    }
    let rules = filter::decompile(&maps.rules_in_force()?);
    let rules = (0..).zip(rules).map(|(number, rule)| {
        let outcomes = maps.outcomes_of(number)?.into();
        Ok(RuleReport { rule, outcomes, rates: None })
    });
    rules.collect()
}
