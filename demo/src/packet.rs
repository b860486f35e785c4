//! IPv4 packets, decoded as far as the demo shows them.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use anyhow::{Context, Result, bail};
use etherparse::{Icmpv4Type, IpNumber, SlicedPacket, TcpSlice, TransportSlice};

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    In,
    Out,
}

/// A packet from the IP header on.
pub struct Packet {
    bytes: Vec<u8>,
    protocol: IpNumber,
    addresses: [Ipv4Addr; 2],
    /// source and destination
    ports: Option<[u16; 2]>,
    what: String,
}

impl Packet {
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let sliced = SlicedPacket::from_ip(bytes).context("no IP packet")?;
        let ip = sliced.net.as_ref().and_then(|net| net.ipv4_ref()).context("no IPv4 packet")?;
        let protocol = ip.header().protocol();
        let addresses = [ip.header().source_addr(), ip.header().destination_addr()];
        let (ports, what) = match &sliced.transport {
            Some(TransportSlice::Icmpv4(icmp)) => match icmp.icmp_type() {
                Icmpv4Type::EchoRequest(echo) => (None, format!("ICMP echo {}", echo.seq)),
                Icmpv4Type::EchoReply(echo) => (None, format!("ICMP reply {}", echo.seq)),
                _ => (None, format!("ICMP type {}", icmp.type_u8())),
            },
            Some(TransportSlice::Tcp(tcp)) => {
                (Some([tcp.source_port(), tcp.destination_port()]), format!("TCP{}", flags(tcp)))
            }
            Some(TransportSlice::Udp(udp)) => {
                (Some([udp.source_port(), udp.destination_port()]), "UDP".into())
            }
            _ => (None, format!("protocol {}", protocol.0)),
        };
        Ok(Self { protocol, addresses, ports, what, bytes: bytes.to_vec() })
    }

    /// The packet without its TCP or UDP checksum. The kernel leaves this checksum to the network
    /// card, so a captured packet may lack it.
    pub fn comparable(&self) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        let header_len = usize::from(bytes[0] & 0xf) * 4;
        let checksum = match (self.protocol, self.ports) {
            (IpNumber::TCP, Some(_)) => header_len + 16,
            (IpNumber::UDP, Some(_)) => header_len + 6,
            _ => return bytes,
        };
        bytes[checksum..checksum + 2].fill(0);
        bytes
    }

    fn end(&self, end: usize) -> String {
        let address = self.addresses[end];
        self.ports.map_or(address.to_string(), |ports| format!("{address}:{}", ports[end]))
    }
}

/// The flags that are set, each with a space in front.
fn flags(tcp: &TcpSlice) -> String {
    let flags = [
        (" SYN", tcp.syn()),
        (" FIN", tcp.fin()),
        (" RST", tcp.rst()),
        (" PSH", tcp.psh()),
        (" ACK", tcp.ack()),
    ];
    flags.iter().filter(|(_, set)| *set).map(|(name, _)| *name).collect()
}

/// Source, destination, kind, and length in bytes.
impl fmt::Display for Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ends = format!("{} > {}", self.end(0), self.end(1));
        write!(f, "{ends:<28} {:<12}{:>3}", self.what, self.bytes.len())
    }
}

/// A filter of the demo: a protocol, or one port of the server in it.
#[derive(Clone)]
pub struct Asked {
    protocol: IpNumber,
    port: Option<u16>,
}

impl Asked {
    pub fn includes(&self, packet: &Packet, direction: Direction) -> bool {
        let server = match direction {
            Direction::In => 1,
            Direction::Out => 0,
        };
        let port = packet.ports.map(|ports| ports[server]);
        self.protocol == packet.protocol && self.port.is_none_or(|asked| port == Some(asked))
    }
}

/// Parses `icmp` or `tcp/80`.
impl FromStr for Asked {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (protocol, port) = match text.split_once('/') {
            Some((protocol, port)) => (protocol, Some(port.parse()?)),
            None => (text, None),
        };
        let protocol = match protocol {
            "icmp" => IpNumber::ICMP,
            "tcp" => IpNumber::TCP,
            "udp" => IpNumber::UDP,
            _ => bail!("no protocol of the demo: {protocol:?}"),
        };
        Ok(Self { protocol, port })
    }
}
