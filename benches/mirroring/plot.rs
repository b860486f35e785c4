//! The figures as a picture: bars with quartiles and targets.

use std::path::Path;

use anyhow::{Context, Error, Result};
use plotters::backend::SVGBackend;
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::figure::{Figure, Part, Reach};

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// In pixels.
const WIDTH: u32 = 860;
const ROW: u32 = 22;
const TITLE: u32 = 44;
const SCALE: u32 = 34;
const LABELS: i32 = 300;

const FONT: &str = "sans-serif";
const OURS: RGBColor = RGBColor(0x1f, 0x77, 0xb4);
const OTHERS: RGBColor = RGBColor(0xb0, 0xb7, 0xbf);
const LIMIT: RGBColor = RGBColor(0xd6, 0x27, 0x28);

/// A chart: its name and its figures.
struct Chart<'a> {
    title: &'a str,
    figures: Vec<&'a Figure>,
}

impl Chart<'_> {
    fn height(&self) -> u32 {
        TITLE + ROW * self.figures.len() as u32 + SCALE
    }
}

pub fn plot(figures: &[Figure], path: &Path) -> Result<()> {
    let charts = [
        Chart {
            title: "What a packet costs that no rule matches: ns over an empty program",
            figures: of_part(figures, Part::Miss, |what| {
                what.starts_with("IPv4") && !what.contains("8 rules")
            }),
        },
        Chart {
            title: "What mirroring a packet of 64 bytes costs, all the way: ns over not mirroring it",
            figures: without_repetitions(of_part(figures, Part::Path, |what| {
                what.ends_with(" 64 bytes")
            })),
        },
        Chart {
            title: "The same of a packet that came from a wire, with room in front of it",
            figures: of_part(figures, Part::FromWire, |what| what.ends_with(" 64 bytes")),
        },
        Chart {
            title: "What a TCP stream keeps, with offloads: Gbit/s",
            figures: of_part(figures, Part::Throughput, |what| what.starts_with("a TCP stream")),
        },
    ];
    let height = charts.iter().map(Chart::height).sum();
    let mut rest = SVGBackend::new(path, (WIDTH, height)).into_drawing_area();
    let mut draw = || -> Result<(), Box<dyn std::error::Error>> {
        rest.fill(&WHITE)?;
        for chart in &charts {
            let (area, below) = rest.split_vertically(chart.height());
            draw_chart(&area, chart)?;
            rest = below;
        }
        rest.present()?;
        Ok(())
    };
    draw()
        .map_err(|error| Error::msg(error.to_string()))
        .with_context(|| format!("cannot draw {}", path.display()))
}

fn of_part(figures: &[Figure], part: Part, wanted: impl Fn(&str) -> bool) -> Vec<&Figure> {
    figures.iter().filter(|it| it.part == part && wanted(&it.what)).collect()
}

/// The first figure with a name.
fn without_repetitions(figures: Vec<&Figure>) -> Vec<&Figure> {
    let mut kept: Vec<&Figure> = Vec::new();
    for figure in figures {
        if kept.iter().all(|it| it.what != figure.what) {
            kept.push(figure);
        }
    }
    kept
}

fn draw_chart(area: &Area<'_>, chart: &Chart<'_>) -> Result<(), Box<dyn std::error::Error>> {
    let title = (FONT, 15).into_font().style(FontStyle::Bold).color(&BLACK);
    area.draw(&Text::new(chart.title, (12, 16), title))?;
    let rows = chart.figures.len();
    let longest = chart.figures.iter().map(|it| it.value.upper).fold(1.0, f64::max);
    let (_, below) = area.split_vertically(TITLE - 6);
    let mut context = ChartBuilder::on(&below)
        .margin_right(40)
        .set_label_area_size(LabelAreaPosition::Left, LABELS)
        .set_label_area_size(LabelAreaPosition::Bottom, SCALE - 6)
        .build_cartesian_2d(0.0..longest * 1.08, (rows as f64)..0.0)?;
    context
        .configure_mesh()
        .disable_y_mesh()
        .disable_y_axis()
        .light_line_style(WHITE)
        .bold_line_style(BLACK.mix(0.12))
        .label_style((FONT, 11))
        .x_labels(8)
        .draw()?;
    for (row, figure) in chart.figures.iter().enumerate() {
        let (top, middle, bottom) = (row as f64 + 0.15, row as f64 + 0.5, row as f64 + 0.85);
        let color = if is_ours(figure) { OURS } else { OTHERS };
        let value = figure.value;
        let line = |from, to| PathElement::new(vec![from, to], BLACK.stroke_width(1));
        context
            .draw_series([Rectangle::new([(0.0, top), (value.median, bottom)], color.filled())])?;
        context.draw_series([
            line((value.lower, middle), (value.upper, middle)),
            line((value.lower, middle - 0.15), (value.lower, middle + 0.15)),
            line((value.upper, middle - 0.15), (value.upper, middle + 0.15)),
        ])?;
        match figure.reach {
            Some(Reach::ValueAtMost(most)) if most < longest * 1.08 => {
                let limit = vec![(most, row as f64 + 0.02), (most, row as f64 + 0.98)];
                context.draw_series([PathElement::new(limit, LIMIT.stroke_width(2))])?;
            }
            _ => {}
        }
        let label = (FONT, 12).into_font().color(&BLACK).pos(Pos::new(HPos::Right, VPos::Center));
        let (_, y) = context.backend_coord(&(0.0, middle));
        let (_, origin) = below.get_base_pixel();
        below.draw(&Text::new(figure.what.clone(), (LABELS - 8, y - origin), label))?;
    }
    Ok(())
}

fn is_ours(figure: &Figure) -> bool {
    figure.part == Part::Miss || figure.what.contains("mirroring, built-in tunnel")
}
