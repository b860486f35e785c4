//! The figures as text.

use std::fmt::Write;

use crate::figure::{Figure, Part, Reach};

/// One table with all parts.
pub fn table(figures: &[Figure]) -> String {
    let rows: Vec<(Part, [String; 4])> = figures.iter().map(|it| (it.part, row(it))).collect();
    let head = ["", "median (quartiles)", "in the same run", "reach"].map(str::to_owned);
    let all = || rows.iter().map(|(_, row)| row).chain([&head]);
    let widths =
        [0, 1, 2].map(|column| all().map(|row| row[column].chars().count()).max().expect("a head"));
    let line = |row: &[String; 4]| {
        let padded = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}  "));
        format!("{}{}", padded.collect::<String>(), row[3]).trim_end().to_owned()
    };
    let mut table = format!("{}\n", line(&head));
    for part in Part::ALL {
        let mut of_part = rows.iter().filter(|(of, _)| *of == part).peekable();
        if of_part.peek().is_some() {
            writeln!(table, "{}", part.title()).expect("a string takes all");
        }
        for (_, row) in of_part {
            writeln!(table, "{}", line(row)).expect("a string takes all");
        }
    }
    table
}

fn row(figure: &Figure) -> [String; 4] {
    // figures below 100 get one more digit
    let decimals = usize::from(figure.value.median.abs() < 100.0 && figure.unit != "bytes");
    let value = format!("{:.decimals$} {}", figure.value, figure.unit);
    let ratio = figure
        .ratio
        .map_or(String::new(), |ratio| format!("{:.2} × {}", ratio.median, figure.against));
    let reach = figure.reach.map_or(String::new(), |reach| {
        let said = match reach {
            Reach::ValueAtMost(most) => format!("≤ {most} {}", figure.unit),
            Reach::RatioAtMost(most) => format!("≤ {most} ×"),
            Reach::RatioAtLeast(least) => format!("≥ {least} ×"),
        };
        format!("{said}: {}", if figure.is_reached() == Some(true) { "yes" } else { "no" })
    });
    [format!("  {}", figure.what), value, ratio, reach]
}
