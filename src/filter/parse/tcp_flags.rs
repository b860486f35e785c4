//! Sets of TCP flags.

use anyhow::{Context, Result};

use crate::filter::rule::TcpFlags;

/// From the lowest bit on (RFC 9293, section 3.1).
const NAMES: [&str; 8] = ["fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr"];

/// `syn`, or `syn+ack` for packets with both.
pub fn tcp_flags(entry: &str) -> Result<Option<TcpFlags>> {
    let mut set = 0;
    for name in entry.split('+') {
        let bit = NAMES.iter().position(|known| known.eq_ignore_ascii_case(name.trim()));
        let bit = bit.with_context(|| {
            format!(
                "{entry:?} is not a set of TCP flags such as syn or syn+ack; the flags are {}",
                NAMES.join(", ")
            )
        })?;
        set |= 1 << bit;
    }
    Ok(Some(TcpFlags(set)))
}

pub fn tcp_flags_text(flags: &TcpFlags) -> String {
    let names = NAMES.iter().enumerate().filter(|(bit, _)| flags.0 >> bit & 1 == 1);
    names.map(|(_, name)| *name).collect::<Vec<_>>().join("+")
}

#[cfg(test)]
mod tests {
    use super::super::tcp_flags as list;
    use super::*;
    use crate::filter::Field;

    #[test]
    fn flags_are_bits_of_the_header() {
        assert_eq!(
            list("fin,SYN,rst,psh,ack,urg,ece,cwr").unwrap(),
            Field::only([0, 1, 2, 3, 4, 5, 6, 7].map(|bit| TcpFlags(1 << bit)))
        );
        assert_eq!(list("syn+ack, fin + ack").unwrap(), Field::only([TcpFlags(18), TcpFlags(17)]));
        assert_eq!(
            list("syn,not ack").unwrap(),
            Field { only: vec![TcpFlags(2)], not: vec![TcpFlags(16)] }
        );
    }

    #[test]
    fn unknown_flags_are_named() {
        for entry in ["sin", "syn+", "+", "syn ack", "2", "syn+syn+x"] {
            let error = list(entry).unwrap_err().to_string();
            assert!(error.starts_with(&format!("{entry:?} is not a set of TCP flags ")), "{error}");
        }
    }
}
