//! `--cmd=explain`: which rule applies to a packet, and why. The BPF program itself decides: it is loaded once more,
//! with maps of its own. Running instances are only read.

use std::io::{self, Write};
use std::path::Path;

use anyhow::{Context, Result};

use crate::bpf::bpffs;
use crate::filter::explanation::{self, Explanation};
use crate::filter::{self, Action, CompiledRules, MAX_RULES, Rule, SampleBy};
use crate::instance::host::Host;
use crate::model::{Direction, InstanceId};
use crate::packet;
use crate::request::{Explain, RuleSource};
use crate::tunnel;

mod test_run;

use test_run::TestRun;

/// Prints the packet, what each rule makes of it, and the result.
pub fn explain(bpffs: &Path, explain: &Explain) -> Result<()> {
    bpffs::check_privileges()?;
    let frame = &explain.frame;
    let (rules, explanation) = match &explain.by {
        RuleSource::Given(direction, rules) => (rules.clone(), by_rules(*direction, rules, frame)?),
        RuleSource::InForce(id) => by_instance(bpffs, id, frame)?,
    };
    let mut text = packet::text(frame) + "\n";
    if let RuleSource::InForce(id) = &explain.by {
        text += &format!("by the rules in force on {id}\n");
    }
    text += &format!("\n{}", explanation.text(&rules));
    if packet::is_later_fragment(frame) {
        text +=
            "Beside its first fragment it meets the rule that that one met; here it is alone.\n";
    }
    if frame.len() > test_run::LONGEST {
        text += &format!("Of its frame, the first {} bytes were tried.\n", test_run::LONGEST);
    }
    io::stdout().write_all(text.as_bytes()).context("cannot print the explanation")
}

/// Explains by given rules, which need not be in force, with a tunnel that carries everything.
pub fn by_rules(direction: Direction, rules: &[Rule], frame: &[u8]) -> Result<Explanation> {
    let program = TestRun::new(direction)?;
    program.apply(&without_luck(filter::compile(rules)?), test_run::any_tunnel())?;
    explained(&program, rules, frame)
}

/// Explains by the rules and the tunnel of a running instance. Also returns the rules.
fn by_instance(bpffs: &Path, id: &InstanceId, frame: &[u8]) -> Result<(Vec<Rule>, Explanation)> {
    let not_running = || {
        format!(
            "{id} is not mirrored, so no rules are in force; start it first, or give rules to try \
             (filter flags, --rules-file)"
        )
    };
    let program = TestRun::new(id.direction)?;
    let host = Host::open(bpffs)?;
    let is_mounted = host.is_mounted()?;
    let rules = {
        // while we read, nobody writes
        let lock = is_mounted.then(|| host.lock()).transpose()?.with_context(not_running)?;
        let instance = lock.find(id)?.with_context(not_running)?;
        let maps = instance.maps()?;
        let tunnel = maps.tunnel().with_context(not_running)?;
        let in_force = maps.rules_in_force()?;
        let mut rules = filter::decompile(&in_force);
        if !tunnel::cuts(&tunnel) {
            rules.iter_mut().for_each(Rule::leave_whole);
        }
        program.apply(&without_luck(in_force), tunnel)?;
        program.guard_as(&maps);
        rules
    };
    let explanation = explained(&program, &rules, frame)?;
    Ok((rules, explanation))
}

/// Removes random sampling of packets, so that the answer does not depend on luck. Sampling by flow stays: it always
/// gives the same answer for a flow.
fn without_luck(mut rules: CompiledRules) -> CompiledRules {
    for rule in &mut rules.rules {
        if let Action::Mirror { sample, .. } = &mut rule.action {
            *sample = sample.filter(|sample| sample.by == SampleBy::Flow);
        }
    }
    rules
}

/// What the installed `rules` do with a frame, and why.
fn explained(program: &TestRun, rules: &[Rule], frame: &[u8]) -> Result<Explanation> {
    let met = program.met(rules.len(), frame)?;
    let in_front = met.map_or(rules.len(), |(index, _)| index);

    // tried together: a rule that accepts everything, then one rule for each field of each refusing rule
    let mut questions = vec![(None, Rule::default())];
    for (index, rule) in rules.iter().enumerate().take(in_front) {
        let fields = explanation::by_field(rule).into_iter();
        questions.extend(fields.map(|(key, rule)| (Some((index, key)), rule)));
    }
    let mut is_looked_at = true;
    let mut refused = vec![Vec::new(); in_front];
    for questions in questions.chunks(MAX_RULES) {
        let rules: Vec<Rule> = questions.iter().map(|(_, rule)| rule.clone()).collect();
        program.apply(&filter::compile(&rules)?, test_run::any_tunnel())?;
        for (number, (about, _)) in (0..).zip(questions) {
            match (program.accepts(number, frame)?, about) {
                (true, _) => {}
                (false, None) => is_looked_at = false,
                (false, Some((index, key))) => refused[*index].push(*key),
            }
        }
    }
    Ok(Explanation { is_looked_at, met, refused })
}
