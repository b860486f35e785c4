//! A frame, or a packet from its IP header on, as hex digits.

use anyhow::{Context, Result, ensure};

const ETH_P_IP: u16 = 0x0800;
const ETH_P_IPV6: u16 = 0x86dd;
/// Of any Ethernet frame that the tc programs look at (IEEE 802.3, 802.1Q, 802.1ad).
const ETHERTYPES: [u16; 6] = [ETH_P_IP, ETH_P_IPV6, 0x8100, 0x88a8, 0x9100, 0x0806];
const ETH_HLEN: usize = 14;
/// More than any device carries.
const MAX_LEN: usize = 65_535;

/// Whether a line begins as tcpdump's hex does: `0x0010:`.
pub fn is_dump(text: &str) -> bool {
    text.lines().any(|line| offset_and_rest(line).is_some())
}

pub fn frame(text: &str) -> Result<Vec<u8>> {
    let bytes = bytes(text)?;
    ensure!(bytes.len() <= MAX_LEN, "there are {} bytes, more than a packet has", bytes.len());
    if let Some(ethertype) = ip_version(&bytes) {
        return Ok([&ETHERNET_ADDRESSES[..], &ethertype.to_be_bytes(), &bytes].concat());
    }
    let ethertype = bytes.get(12..ETH_HLEN).map(|word| u16::from_be_bytes([word[0], word[1]]));
    ensure!(
        ethertype.is_some_and(|ethertype| ETHERTYPES.contains(&ethertype)),
        "the {} bytes are neither an IP packet of that length nor an Ethernet frame with one",
        bytes.len()
    );
    // a kernel may refuse a shorter frame for a test run
    let header = if ethertype == Some(ETH_P_IPV6) { 40 } else { 20 };
    ensure!(
        bytes.len() >= ETH_HLEN + header,
        "the {} bytes end within the IP header; give a whole packet",
        bytes.len()
    );
    Ok(bytes)
}

/// Locally administered ones.
pub const ETHERNET_ADDRESSES: [u8; 12] = [2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];

/// The EtherType of an IP packet, which is recognised by its version and length.
fn ip_version(bytes: &[u8]) -> Option<u16> {
    let word =
        |at: usize| Some(usize::from(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?])));
    match bytes.first()? {
        // padding may follow
        0x45..=0x4f if (20..=bytes.len()).contains(&word(2)?) => Some(ETH_P_IP),
        // an Ethernet address may begin like that
        0x60..=0x6f if 40 + word(4)? == bytes.len() => Some(ETH_P_IPV6),
        _ => None,
    }
}

/// Digits, with spaces or colons in between; or lines of tcpdump's -x, -xx, -X or -XX.
fn bytes(text: &str) -> Result<Vec<u8>> {
    let mut digits = Vec::new();
    let dump = is_dump(text);
    for line in text.lines() {
        let line = match offset_and_rest(line) {
            Some(rest) => without_letters(rest),
            // the line in words above the hex
            None if dump => continue,
            None => line.trim().strip_prefix("0x").unwrap_or(line),
        };
        for letter in line.chars().filter(|letter| !letter.is_whitespace() && *letter != ':') {
            let digit = letter.to_digit(16).with_context(|| {
                format!(
                    "{letter:?} is no hex digit; give a packet as hex, or in words such as \
                     \"10.0.0.1:1234 > 192.0.2.5:443 tcp syn\""
                )
            })?;
            digits.push(digit as u8);
        }
    }
    ensure!(digits.len() % 2 == 0, "there is an odd number of hex digits");
    ensure!(!digits.is_empty(), "there is no packet");
    Ok(digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

fn offset_and_rest(line: &str) -> Option<&str> {
    let (offset, rest) = line.trim_start().strip_prefix("0x")?.split_once(':')?;
    let is_offset = offset.len() >= 4 && offset.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_offset.then_some(rest)
}

/// -X prints the bytes as letters behind the hex, after two or more spaces.
fn without_letters(rest: &str) -> &str {
    let hex = rest.trim_start();
    hex.split_once("  ").map_or(hex, |(hex, _)| hex)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A SYN from 10.0.0.1:1234 to 10.1.2.3:80.
    const IP: &str = "4500 0028 0001 0000 4006 0000 0a00 0001 0a01 0203 \
                      04d2 0050 0000 0000 0000 0000 5002 0000 0000 0000";
    const ETHERNET: &str = "02000000000202000000000108 00";

    fn error(text: &str) -> String {
        frame(text).unwrap_err().to_string()
    }

    #[test]
    fn digits_may_be_spaced_in_any_way() {
        let expected = frame(IP).unwrap();
        assert_eq!(expected.len(), 14 + 40);
        let plain = IP.replace(' ', "");
        let colons: Vec<String> =
            plain.as_bytes().chunks(2).map(|pair| String::from_utf8_lossy(pair).into()).collect();
        for text in [
            &plain,
            &colons.join(":"),
            &colons.join("\n"),
            &plain.to_uppercase(),
            &format!("0x{plain}"),
        ] {
            assert_eq!(frame(text).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn frames_and_ip_packets_are_told_apart() {
        let with_header = format!("{ETHERNET} {IP}");
        assert_eq!(frame(&with_header).unwrap(), frame(IP).unwrap());
        // the address of the frame begins as IPv6 does
        let frame_60 = format!("60{} {IP}", &ETHERNET[2..]);
        assert_eq!(frame(&frame_60).unwrap()[0], 0x60);
        let ipv6 = format!("6000 0000 0000 3b40 {}", "00".repeat(32));
        assert_eq!(frame(&ipv6).unwrap()[12..15], [0x86, 0xdd, 0x60]);
        let tagged = format!("{} 8100 0064 0800 {IP}", &ETHERNET[..24]);
        assert_eq!(frame(&tagged).unwrap().len(), 18 + 40);
    }

    #[test]
    fn dumps_of_tcpdump_are_read() {
        let dump = "12:00:00.000000 IP 10.0.0.1.1234 > 10.1.2.3.80: Flags [S], seq 0, length 0\n\
                    \t0x0000:  4500 0028 0001 0000 4006 0000 0a00 0001  E..(....@.......\n\
                    \t0x0010:  0a01 0203 04d2 0050 0000 0000 0000 0000  .......P.......>\n\
                    \t0x0020:  5002 0000 0000 0000                      P.......\n";
        assert_eq!(frame(dump).unwrap(), frame(IP).unwrap());
        let without_letters: String = dump
            .lines()
            .skip(1)
            .map(|line| line.rsplit_once("  ").unwrap().0.to_owned() + "\n")
            .collect();
        assert_eq!(frame(&without_letters).unwrap(), frame(IP).unwrap());
    }

    #[test]
    fn what_is_no_packet_is_refused() {
        assert!(error("45 xy").starts_with("'x' is no hex digit; "));
        assert_eq!(error("450"), "there is an odd number of hex digits");
        assert_eq!(error(""), "there is no packet");
        assert!(error("4500 0028").starts_with("the 2 bytes".replace('2', "4").as_str()));
        assert!(error(&"00".repeat(65_536)).starts_with("there are 65536 bytes"));
    }
}
