//! `make bench`: the cost of mirroring. Each figure is compared with a reference that is measured
//! in the same rounds, because the load of the machine changes.

mod figure;
mod hit;
mod miss;
mod path;
mod plot;
mod process;
mod programs;
mod run;
mod spread;
mod table;
mod testbed;

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Parser;

use figure::Figure;

/// Measures what mirroring costs
#[derive(Parser)]
struct Cli {
    /// A few rounds of each measurement, to see that all of them run
    #[arg(long)]
    quick: bool,

    /// Write the figures to this file, as JSON
    #[arg(long, value_name = "PATH")]
    json: Option<PathBuf>,

    /// Draw the figures into this file, as SVG
    #[arg(long, value_name = "PATH")]
    plot: Option<PathBuf>,

    /// Passed by cargo bench
    #[arg(long, hide = true)]
    bench: bool,
}

/// How many rounds are measured.
#[derive(Clone, Copy)]
pub struct Effort {
    quick: bool,
}

impl Effort {
    pub fn rounds(self, thorough: usize) -> usize {
        self.of(thorough, 3)
    }

    pub fn of<T>(self, thorough: T, quick: T) -> T {
        if self.quick { quick } else { thorough }
    }
}

fn main() -> Result<()> {
    let cli = Cli::parse();
    let effort = Effort { quick: cli.quick };
    let mut figures: Vec<Figure> = Vec::new();
    for (what, measure) in [
        ("packets that no rule matches", miss::measure as fn(Effort) -> Vec<Figure>),
        ("packets that are mirrored", hit::measure),
        ("all the way to the collector", path::measure),
        ("the process", process::measure),
    ] {
        eprintln!("measuring {what}");
        figures.extend(measure(effort));
    }
    print!("{}", table::table(&figures));
    if let Some(path) = cli.json {
        let json = serde_json::to_string_pretty(&figures)?;
        fs::write(&path, json + "\n")
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    if let Some(path) = cli.plot {
        plot::plot(&figures, &path)?;
    }
    Ok(())
}
