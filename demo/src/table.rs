//! What was sent and what arrived, side by side.

use std::env;
use std::io::{self, IsTerminal};
use std::net::SocketAddrV4;

use crate::Sent;
use crate::packet::{Direction, Packet};

const GREEN: &str = "32";
const RED: &str = "31;1";
const DIM: &str = "2";
const BOLD: &str = "1";

pub struct Table {
    rows: Vec<Row>,
    /// Copies of packets that were not seen on the interface.
    strays: Vec<Packet>,
}

struct Row {
    sent: Sent,
    asked: bool,
    copy: Option<Packet>,
}

impl Table {
    /// Finds the copy of each packet. Each copy is used once.
    pub fn compare(
        sent: Vec<Sent>,
        mut arrived: Vec<Packet>,
        asked: impl Fn(&Packet, Direction) -> bool,
    ) -> Self {
        let rows = sent
            .into_iter()
            .map(|sent| {
                let bytes = sent.packet.comparable();
                let copy = arrived.iter().position(|copy| copy.comparable() == bytes);
                let copy = copy.map(|at| arrived.remove(at));
                Row { asked: asked(&sent.packet, sent.direction), sent, copy }
            })
            .collect();
        Self { rows, strays: arrived }
    }

    /// Whether exactly the requested packets have arrived, and at least one in each direction.
    pub fn is_as_asked(&self) -> bool {
        let some =
            |direction| self.rows.iter().any(|row| row.asked && row.sent.direction == direction);
        some(Direction::In)
            && some(Direction::Out)
            && self.strays.is_empty()
            && self.rows.iter().all(|row| row.asked == row.copy.is_some())
    }

    /// Prints at most 100 columns, or slightly more for packets of 1000 bytes and longer.
    pub fn print(&self, iface: &str, tunnel: SocketAddrV4) {
        let (left, right) = (
            format!("  ms on {iface} of the host"),
            format!("at the collector, in GUE from {tunnel}"),
        );
        println!("{}", paint(BOLD, &format!("{left:<53} | {right}")));
        for row in &self.rows {
            let way = match row.sent.direction {
                Direction::In => "in",
                Direction::Out => "out",
            };
            let sent = format!("{:>4} {way:<3} {}", row.sent.at.as_millis(), row.sent.packet);
            match (&row.copy, row.asked) {
                (Some(copy), true) => println!("{sent} {} {}", paint(GREEN, "="), copy),
                (None, false) => println!("{}", paint(DIM, &format!("{sent} | not asked for"))),
                (None, true) => println!("{sent} | {}", paint(RED, "MISSING")),
                (Some(copy), false) => {
                    println!("{sent} | {}", paint(RED, &format!("{copy} NOT ASKED FOR")))
                }
            }
        }
        for stray in &self.strays {
            println!("{:<53} | {}", "", paint(RED, &format!("{stray} STRAY")));
        }

        let count = |asked, arrived| {
            let is = |row: &&Row| row.asked == asked && row.copy.is_some() == arrived;
            self.rows.iter().filter(is).count()
        };
        let colour = if self.is_as_asked() { GREEN } else { RED };
        let sum = format!(
            "{} packets asked for: {} arrived unchanged, {} missing; {} not asked for: {} arrived",
            count(true, true) + count(true, false),
            count(true, true),
            count(true, false),
            count(false, true) + count(false, false),
            count(false, true) + self.strays.len(),
        );
        println!("\n{}", paint(colour, &sum));
    }
}

/// Colours for a terminal, unless NO_COLOR is set (no-color.org).
fn paint(code: &str, text: &str) -> String {
    let plain = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    if plain || !io::stdout().is_terminal() {
        return text.to_owned();
    }
    format!("\x1b[{code}m{text}\x1b[0m")
}
