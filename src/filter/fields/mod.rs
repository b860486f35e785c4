//! The fields of rules, one list of them. A field has a file, with all that this program knows of it; where a packet
//! has it is known to the BPF programs alone.
//!
//! docs/CONTRIBUTING.md says how to add one.

use anyhow::Result;
use enum_map::Enum;

use super::entries::Entries;
use super::rule::Rule;
use super::tables::Tables;

pub mod addresses;
pub mod dscp;
pub mod icmp_type;
pub mod length;
mod number_ranges;
pub mod ports;
pub mod protocol;
pub mod tcp_flags;
mod values;
pub mod vlan;

/// The fields, in the order in which they are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
pub enum Field {
    /// IPv4's protocol field, or the protocol behind IPv6's extension headers.
    Protocol,
    /// Source address, of either family.
    Src,
    /// Destination address, of either family.
    Dst,
    /// Source port of TCP, UDP, UDP-Lite, SCTP and DCCP.
    SrcPort,
    /// Destination port of the same protocols.
    DstPort,
    /// The byte of flags in the TCP header (RFC 9293, section 3.1).
    TcpFlags,
    /// VLAN ID of the outermost tag, or that there is no tag.
    Vlan,
    /// Type of an ICMP message in IPv4, or of an ICMPv6 message in IPv6.
    IcmpType,
    /// Differentiated services code point (RFC 2474).
    Dscp,
    /// Length of the IP packet in bytes, with its IP header.
    Length,
}

impl Field {
    /// Every field once, in the order in which they are shown.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..Self::LENGTH).map(Self::from_usize)
    }

    /// What is known of the field.
    pub fn spec(self) -> &'static dyn FieldSpec {
        match self {
            Self::Protocol => &protocol::PROTOCOL,
            Self::Src => &addresses::SRC,
            Self::Dst => &addresses::DST,
            Self::SrcPort => &ports::SRC_PORT,
            Self::DstPort => &ports::DST_PORT,
            Self::TcpFlags => &tcp_flags::TCP_FLAGS,
            Self::Vlan => &vlan::VLAN,
            Self::IcmpType => &icmp_type::ICMP_TYPE,
            Self::Dscp => &dscp::DSCP,
            Self::Length => &length::LENGTH,
        }
    }
}

/// A field whose entries are `T`.
struct Spec<T: 'static> {
    /// Name of the field in a file of rules.
    key: &'static str,
    flag: &'static str,
    entries: fn(&Rule) -> &Entries<T>,
    entries_mut: fn(&mut Rule) -> &mut Entries<T>,
    /// From the text of an entry to its value; `None` for one that means any.
    parse: fn(&str) -> Result<Option<T>>,
    /// And back.
    text: fn(&T) -> String,
    tables: &'static (dyn InTables<T> + Sync),
}

/// From the entries of all rules to tables, and back.
trait InTables<T> {
    fn compile(&self, rules: &[&Entries<T>], tables: &mut Tables);

    /// The entries of each of so many rules. They accept the same values as those that were compiled, but may be
    /// written differently.
    fn decompile(&self, tables: &Tables, rules: usize) -> Vec<Entries<T>>;
}

/// What can be done with any field, whatever its entries are.
pub trait FieldSpec {
    /// Name of the field in a file of rules, such as `src_port`.
    fn key(&self) -> &'static str;

    /// The flag that gives the field, with its dashes: `--src-port`.
    fn flag(&self) -> &'static str;

    /// Whether a rule leaves it open.
    fn is_any(&self, rule: &Rule) -> bool;

    /// The entries of a rule as texts; none where it leaves the field open.
    fn texts(&self, rule: &Rule) -> Vec<String>;

    /// Gives a rule the entries with these texts.
    fn parse(&self, rule: &mut Rule, texts: &[&str]) -> Result<()>;

    /// Gives a rule the entries of another one.
    fn copy(&self, from: &Rule, to: &mut Rule);

    /// Fills in the field's part of the tables. Rule i of the slice is bit i of the masks.
    fn compile(&self, rules: &[Rule], tables: &mut Tables);

    /// Gives each rule the entries that the tables hold for it.
    fn decompile(&self, tables: &Tables, rules: &mut [Rule]);
}

impl<T: Clone> FieldSpec for Spec<T> {
    fn key(&self) -> &'static str {
        self.key
    }

    fn flag(&self) -> &'static str {
        self.flag
    }

    fn is_any(&self, rule: &Rule) -> bool {
        (self.entries)(rule).is_any()
    }

    fn texts(&self, rule: &Rule) -> Vec<String> {
        (self.entries)(rule).texts(self.text)
    }

    fn parse(&self, rule: &mut Rule, texts: &[&str]) -> Result<()> {
        *(self.entries_mut)(rule) = Entries::parse(texts, self.parse)?;
        Ok(())
    }

    fn copy(&self, from: &Rule, to: &mut Rule) {
        *(self.entries_mut)(to) = (self.entries)(from).clone();
    }

    fn compile(&self, rules: &[Rule], tables: &mut Tables) {
        let entries: Vec<_> = rules.iter().map(self.entries).collect();
        self.tables.compile(&entries, tables);
    }

    fn decompile(&self, tables: &Tables, rules: &mut [Rule]) {
        let entries = self.tables.decompile(tables, rules.len());
        for (rule, entries) in rules.iter_mut().zip(entries) {
            *(self.entries_mut)(rule) = entries;
        }
    }
}

/// The entries of a comma list.
#[cfg(test)]
fn parsed<T>(text: &str, parse: impl Fn(&str) -> Result<Option<T>>) -> Result<Entries<T>> {
    Entries::parse(&super::entries::comma_list(text)?, parse)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_flags_are_those_of_one_field() {
        for (nth, field) in Field::all().enumerate() {
            let others = || Field::all().skip(nth + 1).map(Field::spec);
            let (key, flag) = (field.spec().key(), field.spec().flag());
            assert!(others().all(|other| other.key() != key && other.flag() != flag), "{key}");
        }
    }

    /// A spec may have been copied from another one, and still lead to its member or its table.
    #[test]
    fn each_field_has_entries_of_its_own() {
        for field in Field::all() {
            let entries = ["10.0.0.1", "echo-request", "syn", "7"];
            let mut rule = Rule::default();
            let parses =
                |entry: &&&str| field.spec().parse(&mut Rule::default(), &[**entry]).is_ok();
            let entry = entries.iter().find(parses).unwrap();
            field.spec().parse(&mut rule, &[*entry]).unwrap();
            let closed: Vec<_> = Field::all().filter(|it| !it.spec().is_any(&rule)).collect();
            assert_eq!(closed, [field]);

            let mut copy = Rule::default();
            field.spec().copy(&rule, &mut copy);
            assert_eq!(copy, rule);
            let mut tables = Tables::default();
            field.spec().compile(std::slice::from_ref(&rule), &mut tables);
            let mut back = [Rule::default()];
            field.spec().decompile(&tables, &mut back);
            assert_eq!(back, [rule]);
        }
    }
}
