//! Parses a packet in words: `10.0.0.1:1234 > 192.0.2.5:443 tcp syn`, or a line of tcpdump's output.

use std::net::{IpAddr, Ipv6Addr};
use std::ops::RangeInclusive;

use anyhow::{Context, Result, bail, ensure};

use crate::filter::IcmpType;
use crate::filter::fields::{dscp, icmp_type, length, protocol, tcp_flags, vlan};
use crate::model::number;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// IDs of tags, the outermost one first.
    pub vlans: Vec<u16>,
    pub src: IpAddr,
    pub dst: IpAddr,
    pub ports: Option<(u16, u16)>,
    pub protocol: u8,
    pub tcp_flags: Option<u8>,
    pub icmp_type: Option<u8>,
    pub dscp: u8,
    pub length: Option<Length>,
}

/// In bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Length {
    /// Of the IP packet.
    Packet(u16),
    /// Of what lies behind the last header, as tcpdump has it; of ICMP, with its header.
    Payload(u16),
}

const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;
/// In a line of tcpdump's, between brackets (`tcp(1)`, `print-tcp.c`).
const FLAG_LETTERS: [(char, u8); 8] =
    [('F', 1), ('S', 2), ('R', 4), ('P', 8), ('.', 16), ('U', 32), ('E', 64), ('W', 128)];

/// An address, and a port if there is one.
type End = (IpAddr, Option<u16>);

/// What the words behind the addresses say.
#[derive(Debug, Default)]
struct Words {
    vlans: Vec<u16>,
    protocol: Option<u8>,
    tcp_flags: Option<u8>,
    icmp_type: Option<IcmpType>,
    dscp: u8,
    length: Option<Length>,
}

pub fn packet(text: &str) -> Result<Description> {
    let spaced = text.replace('>', " > ").replace(',', " ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let (at, (src, src_port), (dst, dst_port)) = ends(&words)?;
    ensure!(
        src.is_ipv4() == dst.is_ipv4(),
        "{src} and {dst} are not of one family; a packet goes from IPv4 to IPv4 or from IPv6 to IPv6"
    );
    let (before, after) = (&words[..at - 1], &words[at + 2..]);
    let is_tcpdump = before.iter().any(|word| ["IP", "IP6"].contains(word))
        || after.first().is_some_and(|word| *word == "Flags")
        || words.contains(&"ethertype");
    let said = if is_tcpdump { tcpdump(before, after)? } else { own(before, after)? };

    let icmp = if src.is_ipv4() { ICMP } else { ICMPV6 };
    let guessed = if said.tcp_flags.is_some() {
        Some(TCP)
    } else if said.icmp_type.is_some() {
        Some(icmp)
    } else {
        // tcpdump leaves "UDP" out where it knows the protocol inside
        (is_tcpdump && src_port.is_some()).then_some(UDP)
    };
    let protocol = said.protocol.or(guessed);
    let protocol = protocol
        .context("which protocol it is of is not said; add one, such as tcp, udp or icmp")?;
    let name = protocol::text(&protocol);
    ensure!(
        ![ICMP, ICMPV6].contains(&protocol) || protocol == icmp,
        "{name} goes with the other family; between {src} and {dst} it is {}",
        protocol::text(&icmp)
    );
    ensure!(said.tcp_flags.is_none() || protocol == TCP, "{name} has no flags of TCP");
    ensure!(said.icmp_type.is_none() || protocol == icmp, "{name} has no type of ICMP");
    let ports = match (src_port, dst_port, has_ports(protocol)) {
        (Some(src), Some(dst), true) => Some((src, dst)),
        (None, None, false) => None,
        (_, _, true) => {
            bail!("{name} has ports; give both, as in 10.0.0.1:1234 > 192.0.2.5:443")
        }
        (_, _, false) => bail!("{name} has no ports; leave them out"),
    };
    let icmp_type = said.icmp_type.map(|kind| {
        let number = if src.is_ipv4() { kind.v4 } else { kind.v6 };
        number.with_context(|| format!("there is no {} in {name}", icmp_type::text(&kind)))
    });
    Ok(Description {
        vlans: said.vlans,
        src,
        dst,
        ports,
        protocol,
        tcp_flags: said.tcp_flags,
        icmp_type: icmp_type.transpose()?,
        dscp: said.dscp,
        length: said.length,
    })
}

/// The two ends, and where the `>` between them is. With -e, tcpdump has MAC addresses first.
fn ends(words: &[&str]) -> Result<(usize, End, End)> {
    let mut wrong = None;
    for at in (1..words.len()).filter(|&at| words[at] == ">") {
        let (src, dst) = (words[at - 1], words.get(at + 1).copied().unwrap_or_default());
        match (end(src), end(dst)) {
            (Some(src), Some(dst)) => return Ok((at, src, dst)),
            (None, _) => wrong = Some(src),
            (_, None) => wrong = Some(dst),
        }
    }
    let wrong = wrong.context("there is no \"source > destination\"")?;
    bail!(
        "{wrong:?} is not an address with or without a port, such as 10.0.0.1:1234, 192.0.2.5 or \
         [2001:db8::1]:53 (tcpdump -n prints numbers)"
    )
}

/// `192.0.2.5`, `192.0.2.5:443`, `[2001:db8::1]:53`, and with tcpdump's dot before the port.
fn end(word: &str) -> Option<End> {
    let of = |address: &str, port: &str| Some((address.parse().ok()?, Some(number(port)?)));
    let without_colon = word.strip_suffix(':');
    [Some(word), without_colon].into_iter().flatten().find_map(|word| {
        if let Ok(address) = word.parse() {
            return Some((address, None));
        }
        if let Some((address, rest)) = word.strip_prefix('[').and_then(|rest| rest.split_once(']'))
        {
            let address: Ipv6Addr = address.parse().ok()?;
            return match rest.strip_prefix(':') {
                Some(port) => Some((address.into(), Some(number(port)?))),
                None => rest.is_empty().then_some((address.into(), None)),
            };
        }
        let by_dot = word.rsplit_once('.').and_then(|(address, port)| of(address, port));
        by_dot.or_else(|| {
            let (address, port) = word.rsplit_once(':')?;
            of(address, port).filter(|(address, _): &End| address.is_ipv4())
        })
    })
}

/// Words that are not tcpdump's: each must be known.
fn own(before: &[&str], after: &[&str]) -> Result<Words> {
    let mut said = Words::default();
    let mut words = before.iter().chain(after).copied();
    while let Some(word) = words.next() {
        let mut value =
            || words.next().with_context(|| format!("what follows {word:?} is missing"));
        match word.to_ascii_lowercase().as_str() {
            "vlan" => said.vlans.push(vlan(value()?)?),
            "dscp" => said.dscp = one(dscp::parse(value()?)?, "dscp")?,
            "length" => said.length = Some(Length::Packet(single(value()?)?)),
            "proto" | "protocol" => {
                said.protocol = Some(one(protocol::parse(value()?)?, "protocol")?);
            }
            "type" => said.icmp_type = icmp_type::parse(value()?)?,
            "flags" => said.tcp_flags = tcp_flags::parse(value()?)?.map(|flags| flags.0),
            _ => understand(&mut said, word)?,
        }
    }
    ensure!(said.vlans.len() <= 2, "there are {} VLAN tags; two are the most", said.vlans.len());
    Ok(said)
}

/// A word that needs no keyword in front.
fn understand(said: &mut Words, word: &str) -> Result<()> {
    if let (Ok(Some(protocol)), None) = (protocol::parse(word), number::<u8>(word)) {
        said.protocol = Some(protocol);
    } else if let Ok(Some(flags)) = tcp_flags::parse(word) {
        said.tcp_flags = Some(said.tcp_flags.unwrap_or(0) | flags.0);
    } else if let (Ok(kind), None) = (icmp_type::parse(word), number::<u8>(word)) {
        said.icmp_type = kind;
    } else {
        bail!(
            "{word:?} is not known; behind the addresses come a protocol (tcp), TCP flags (syn+ack), \
             a type of ICMP (echo-request), vlan N, dscp N, length N"
        );
    }
    Ok(())
}

/// tcpdump's output: takes the words that a rule could be about, and ignores the rest.
fn tcpdump(before: &[&str], after: &[&str]) -> Result<Words> {
    let mut said = Words::default();
    let all = [before, after].concat();
    for (at, &word) in all.iter().enumerate() {
        let next = all.get(at + 1).copied().unwrap_or_default();
        let plain = next.trim_end_matches([')', ':']);
        match word.trim_start_matches('(') {
            "vlan" => said.vlans.push(vlan(plain)?),
            "tos" | "class" => said.dscp = hex_byte(plain)? >> 2,
            // -v: of the packet, in the parentheses in front
            "length" if at < before.len() && next.ends_with(')') => {
                said.length = Some(Length::Packet(single(plain)?));
            }
            "length" if at >= before.len() && said.length.is_none() => {
                said.length = Some(Length::Payload(single(plain)?));
            }
            "Flags" => {
                said.tcp_flags = Some(flag_letters(next)?);
                said.protocol = Some(TCP);
            }
            "UDP" => said.protocol = Some(UDP),
            "ICMP" | "ICMP6" if at >= before.len() => {
                said.icmp_type = icmp_words(&all[at + 1..])?;
            }
            _ => {}
        }
    }
    Ok(said)
}

fn icmp_words(words: &[&str]) -> Result<Option<IcmpType>> {
    let has = |wanted: &str| words.contains(&wanted);
    let name = if has("echo") {
        if has("reply") { "echo-reply" } else { "echo-request" }
    } else if has("unreachable") {
        "destination-unreachable"
    } else if has("exceeded") {
        "time-exceeded"
    } else if words.starts_with(&["neighbor"]) {
        if has("solicitation") { "neighbor-solicitation" } else { "neighbor-advertisement" }
    } else if words.starts_with(&["router"]) {
        if has("solicitation") { "router-solicitation" } else { "router-advertisement" }
    } else {
        bail!("the type of the ICMP message is not understood; give the packet as hex (tcpdump -x)")
    };
    icmp_type::parse(name)
}

/// `[S.]`
fn flag_letters(word: &str) -> Result<u8> {
    let letters = word.strip_prefix('[').and_then(|rest| rest.split_once(']'));
    let (letters, _) = letters.with_context(|| format!("{word:?} are no flags such as [S.]"))?;
    if letters == "none" {
        return Ok(0);
    }
    letters.chars().try_fold(0, |flags, letter| {
        let known = FLAG_LETTERS.iter().find(|(known, _)| *known == letter);
        let (_, bit) = known.with_context(|| format!("{letter:?} in {word:?} is no TCP flag"))?;
        Ok(flags | bit)
    })
}

fn hex_byte(word: &str) -> Result<u8> {
    let digits = word.strip_prefix("0x").unwrap_or(word);
    u8::from_str_radix(digits, 16).ok().with_context(|| format!("{word:?} is no byte in hex"))
}

fn vlan(word: &str) -> Result<u16> {
    let ids = one(vlan::parse(word)?, "vlan")?;
    alone(ids).filter(|&id| id < 4096).with_context(|| format!("{word:?} is not one VLAN ID"))
}

fn single(word: &str) -> Result<u16> {
    let lengths = one(length::parse(word)?, "length")?;
    alone(lengths).with_context(|| format!("{word:?} is not one length"))
}

fn alone(range: RangeInclusive<u16>) -> Option<u16> {
    (range.start() == range.end()).then_some(*range.start())
}

fn one<T>(value: Option<T>, what: &str) -> Result<T> {
    value.with_context(|| format!("{what}: one value is needed"))
}

pub fn has_ports(protocol: u8) -> bool {
    // TCP, UDP, DCCP, SCTP, UDP-Lite
    [6, 17, 33, 132, 136].contains(&protocol)
}
