//! Keeps an instance working while the host changes around it.
//!
//! Each reconciliation plans as a start does, and acts on differences only. It changes routes and devices of
//! our own, and nobody else's.

use anyhow::{Context, Result, bail};

use crate::bpf::pins::{self, Pins};
use crate::instance::host::{Host, HostLock};
use crate::instance::process::Process;
use crate::instance::{Instance, attachment};
use crate::loop_guard;
use crate::maps::endpoints::Endpoint;
use crate::netlink::{Answer, Event, Link, Netlink};
use crate::request;
use crate::tunnel::{self, Plan};

/// What the process that stays knows of its instance.
pub struct Monitor<'a> {
    host: &'a Host,
    start: &'a request::Start,
    /// the mirrored interface, as it was last seen
    mirrored: Link,
    plan: Plan,
    /// the next hop does not answer ARP or NDP
    silent: bool,
    /// those that were logged and are not over yet
    problems: Vec<String>,
}

impl<'a> Monitor<'a> {
    /// `mirrored` and `plan` are what the start found and did, `problems` what it has logged already.
    pub fn new(
        host: &'a Host,
        start: &'a request::Start,
        mirrored: Link,
        plan: Plan,
        problems: Vec<String>,
    ) -> Self {
        let silent = unresolved_next_hop(&plan).is_some_and(|silence| problems.contains(&silence));
        Self { host, start, mirrored, plan, silent, problems }
    }

    /// Whether an event may call for something to be done.
    pub fn is_concerned(&self, event: &Event) -> bool {
        match *event {
            Event::Device | Event::Lost => true,
            Event::Route(destination) => {
                self.plan.collector().is_some_and(|collector| destination.contains(collector))
            }
            Event::Neighbour { ifindex, address, answers } => {
                self.plan.next_hop() == Some((ifindex, address)) && answers == self.silent
            }
        }
    }

    /// Adapts the instance to the host as it is now, repairs what can be repaired, and logs which problems are
    /// new and which are over. Returns whether none is left that time may solve.
    pub fn reconcile(&mut self) -> bool {
        log::debug!("reconciling {} with the host", self.start.id);
        let problems = self.repair().unwrap_or_else(|error| vec![format!("{error:#}")]);
        for problem in problems.iter().filter(|it| !self.problems.contains(it)) {
            log::warn!("{problem}");
        }
        for problem in self.problems.iter().filter(|it| !problems.contains(it)) {
            log::info!("resolved: {problem}");
        }
        self.problems = problems;
        self.problems.iter().all(|problem| self.plan.is_limit(problem))
    }

    /// Returns the problems that are left.
    fn repair(&mut self) -> Result<Vec<String>> {
        let lock = self.host.lock()?;
        let id = &self.start.id;
        let instance = lock.instance(&Pins::new(self.host.bpffs(), id))?;
        let instance = instance.with_context(|| {
            format!("the pins of {id} are gone; stop this process and start it again")
        })?;
        // a stop waits for this process to end
        if instance.process() != Process::current()? {
            bail!("another process has taken over {id}; this one has nothing left to do");
        }
        let mut netlink = Netlink::open()?;
        let mut problems = Vec::new();
        problems.extend(self.follow_interface(&instance, &mut netlink)?);
        match self.follow_tunnel(&instance, &mut netlink, &lock) {
            Ok(more) => problems.extend(more),
            Err(error) => problems.push(format!("copies may be lost: {error:#}")),
        }
        Ok(problems)
    }

    fn follow_interface(
        &mut self,
        instance: &Instance,
        netlink: &mut Netlink,
    ) -> Result<Option<String>> {
        let id = &self.start.id;
        let links = netlink.links()?;
        let there = links.iter().find(|link| link.index == self.mirrored.index);
        let named = netlink.link(id.interface.as_str())?;
        match Interface::of(there, named.as_ref()) {
            Interface::There { link, other_has_name } => {
                if link.name != self.mirrored.name {
                    log::info!(
                        "the interface \"{}\" was renamed to \"{}\" and is still mirrored; for \
                         --cmd={{stop,status,update}} it remains {id}",
                        self.mirrored.name,
                        link.name
                    );
                }
                self.mirrored = link.clone();
                Ok(other_has_name.then(|| {
                    format!(
                        "\"{}\" is the name of another interface now, which is not mirrored; {id} \
                         mirrors \"{}\", which had that name when it was started",
                        id.interface, link.name
                    )
                }))
            }
            Interface::Gone => {
                // wherever it went, to another namespace say, our program does not go with it
                pins::remove(&instance.pins.link())?;
                let next = match instance.is_attached_by_us() {
                    true => "packets are mirrored again once it is back",
                    false => "whoever loads the chain has to attach it once it is back",
                };
                Ok(Some(format!("the interface \"{}\" is gone; {next}", self.mirrored.name)))
            }
            Interface::Back(link) => {
                if instance.is_attached_by_us() {
                    attachment::attach_again(instance, link.index, netlink)?;
                    log::info!("the interface \"{}\" is back and mirrored again", link.name);
                } else {
                    log::warn!(
                        "the interface \"{}\" was created again; its packets do not reach {id} until \
                         the chain is attached to it, which l3afd does",
                        link.name
                    );
                }
                let mut record = instance.record();
                record.ifindex = link.index;
                instance.common.instance.write(0, record);
                self.mirrored = link.clone();
                Ok(None)
            }
        }
    }

    fn follow_tunnel(
        &mut self,
        instance: &Instance,
        netlink: &mut Netlink,
        lock: &HostLock<'_>,
    ) -> Result<Vec<String>> {
        let wanted = &self.start.tunnel;
        // its owner builds it again: a device of ours would be in the way
        if matches!(self.plan, Plan::Existing(_)) && netlink.link(wanted.name.as_str())?.is_none() {
            let gone = format!("the tunnel interface \"{}\" is gone: no copy leaves", wanted.name);
            return Ok(vec![gone]);
        }
        let plan = Plan::new(netlink, wanted, &self.mirrored, lock)?;
        let tunnel = plan.carry_out(netlink, Some(&self.plan))?;
        let in_force = instance.tunnel()?;
        let redirected = in_force.and_then(|in_force| tunnel::redirected(in_force, tunnel));
        if let Some(tunnel) = redirected {
            // before the first copy leaves for there
            loop_guard::register(lock, Endpoint::of(&tunnel))?;
            lock.set_tunnel(&instance.maps()?, tunnel)?;
        }
        if redirected.is_some() || !plan.leads_as(&self.plan) {
            log::info!("the tunnel has changed: {}", plan.way());
        }
        self.plan = plan;

        let mut problems = self.plan.warnings();
        if let Some((ifindex, hop)) = self.plan.next_hop() {
            match netlink.ask(ifindex, hop)? {
                Answer::Known => self.silent = false,
                Answer::Awaited => {}
                Answer::None => self.silent = true,
            }
            problems.extend(unresolved_next_hop(&self.plan).filter(|_| self.silent));
        }
        Ok(problems)
    }
}

/// What to say where the next hop does not answer.
pub fn unresolved_next_hop(plan: &Plan) -> Option<String> {
    let (_, hop) = plan.next_hop()?;
    let collector = plan.collector()?;
    let what = if hop.is_ipv4() { "ARP" } else { "NDP" };
    Some(format!(
        "the next hop {hop} towards the collector {collector} does not answer {what}; copies are \
         lost until it does"
    ))
}

/// What became of the mirrored interface.
#[derive(Debug, PartialEq, Eq)]
enum Interface<'a> {
    /// It is there, by whatever name.
    There {
        link: &'a Link,
        other_has_name: bool,
    },
    Gone,
    /// Another one is there by the name that is to be mirrored.
    Back(&'a Link),
}

impl<'a> Interface<'a> {
    /// `there` has the index of the one that was mirrored, `named` the name.
    fn of(there: Option<&'a Link>, named: Option<&'a Link>) -> Self {
        match (there, named) {
            (Some(link), named) => {
                let other_has_name = named.is_some_and(|named| named.index != link.index);
                Self::There { link, other_has_name }
            }
            (None, Some(named)) => Self::Back(named),
            (None, None) => Self::Gone,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(index: u32, name: &str) -> Link {
        Link {
            index,
            name: name.to_owned(),
            mtu: 1500,
            ethernet: true,
            up: true,
            carrier: true,
            loopback: false,
            address: None,
            alias: None,
            kind: None,
            remote: None,
        }
    }

    #[test]
    fn a_deleted_interface_is_looked_up_again_by_its_name() {
        let (eth0, eth9) = (link(2, "eth0"), link(2, "eth9"));
        let another = link(5, "eth0");
        let there = |link, other_has_name| Interface::There { link, other_has_name };
        assert_eq!(Interface::of(Some(&eth0), Some(&eth0)), there(&eth0, false));
        // by an alternative name
        assert_eq!(Interface::of(Some(&eth9), Some(&eth9)), there(&eth9, false));
        assert_eq!(Interface::of(Some(&eth9), None), there(&eth9, false));
        assert_eq!(Interface::of(Some(&eth9), Some(&another)), there(&eth9, true));
        assert_eq!(Interface::of(None, Some(&another)), Interface::Back(&another));
        assert_eq!(Interface::of(None, None), Interface::Gone);
    }
}
