//! Refreshes text in place on a terminal.

use std::io::{self, IsTerminal, Write};

use rustix::termios::tcgetwinsize;

/// The terminal's alternate screen, with lines cut at its edge. Dropping this restores what was shown before.
pub struct Screen(());

const ENTER: &str = "\x1b[?1049h\x1b[?7l\x1b[?25l";
const LEAVE: &str = "\x1b[?25h\x1b[?7h\x1b[?1049l";

impl Screen {
    /// `None` if stdout is not a terminal.
    pub fn enter() -> io::Result<Option<Self>> {
        if !io::stdout().is_terminal() {
            return Ok(None);
        }
        write(ENTER)?;
        Ok(Some(Self(())))
    }

    /// Replaces the text on the screen.
    pub fn show(&self, text: &str) -> io::Result<()> {
        write(&redrawn(text, rows()))
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // a terminal that is gone needs no restoring
        let _ = write(LEAVE);
    }
}

fn write(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

/// How many lines fit.
fn rows() -> usize {
    let rows = tcgetwinsize(io::stdout()).map_or(0, |size| size.ws_row);
    // one that does not say how large it is takes everything
    if rows > 0 { rows.into() } else { usize::MAX }
}

/// From the upper left corner on, over what was there: without a moment at which nothing is.
fn redrawn(text: &str, rows: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let mut shown: Vec<String> = lines.iter().take(rows).map(|line| (*line).to_owned()).collect();
    if let Some(last) = shown.last_mut().filter(|_| lines.len() > rows) {
        *last = format!("({} more lines; a larger terminal shows them)", lines.len() - rows + 1);
    }
    format!("\x1b[H{}\x1b[K\x1b[J", shown.join("\x1b[K\r\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_takes_the_place_of_another() {
        assert_eq!(redrawn("a\nb\n", 10), "\x1b[Ha\x1b[K\r\nb\x1b[K\x1b[J");
    }

    #[test]
    fn what_does_not_fit_is_counted() {
        assert_eq!(redrawn("a\nb\nc\n", 3), "\x1b[Ha\x1b[K\r\nb\x1b[K\r\nc\x1b[K\x1b[J");
        let cut = redrawn("a\nb\nc\nd\n", 3);
        assert!(cut.contains("b\x1b[K\r\n(2 more lines; ") && !cut.contains('c'), "{cut:?}");
    }
}
