//! Draws a curve as an SVG: a panel for each number that is read off, with what grows to the right, by factors.

use crate::curves::Curve;
use crate::number::short;
use plotters::coord::Shift;
use plotters::coord::ranged1d::{AsRangedCoord, Ranged, ValueFormatter};
use plotters::prelude::*;
use std::error::Error;
use std::path::Path;

/// A point: what grows, and what is read off.
type Point = (f64, f64);
type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

const PANEL: (u32, u32) = (380, 250);
const PANELS_PER_ROW: usize = 2;
const HEAD_HEIGHT: u32 = 32;
const LINE: RGBColor = RGBColor(0x1f, 0x5f, 0xa8);
const GRID: RGBColor = RGBColor(0xe2, 0xe2, 0xe2);
/// An axis grows by factors when its most is so many times its least.
const FACTOR_MIN: f64 = 15.0;

/// Draws all series of a curve.
pub(crate) fn draw(path: &Path, curve: &Curve, lines: &[Vec<Point>]) -> Result<(), Box<dyn Error>> {
    let rows = lines.len().div_ceil(PANELS_PER_ROW);
    let width = PANEL.0 * PANELS_PER_ROW as u32;
    let size = (width, HEAD_HEIGHT + PANEL.1 * rows as u32);
    let root = SVGBackend::new(path, size).into_drawing_area();
    root.fill(&WHITE)?;
    let (head, body) = root.split_vertically(HEAD_HEIGHT);
    let style = ("sans-serif", 14).into_font().color(&BLACK);
    head.draw_text(curve.what, &style, (12, 12))?;
    let panels = body.split_evenly((rows, PANELS_PER_ROW));
    for ((panel, label), line) in panels.iter().zip(curve.labels()).zip(lines) {
        let known: Vec<Point> = line
            .iter()
            .copied()
            .filter(|point| point.1.is_finite())
            .collect();
        draw_panel(panel, (curve.along, label), &known)?;
    }
    root.present()?;
    Ok(())
}

fn draw_panel(
    panel: &Area<'_>,
    labels: Labels<'_>,
    points: &[Point],
) -> Result<(), Box<dyn Error>> {
    let most = points
        .iter()
        .map(|point| point.1)
        .fold(f64::MIN_POSITIVE, f64::max);
    let least = points.iter().map(|point| point.1).fold(most, f64::min);
    if least > 0.0 && most / least > FACTOR_MIN {
        // Whole powers of ten at both ends, so that there are always numbers on the axis.
        let bounds = 10_f64.powf(least.log10().floor())..10_f64.powf(most.log10().ceil());
        draw_on(panel, labels, points, bounds.log_scale())
    } else {
        draw_on(panel, labels, points, 0.0..most * 1.15)
    }
}

/// What grows, and what is read off.
type Labels<'a> = (&'a str, &'a str);

fn draw_on<Y>(
    panel: &Area<'_>,
    (along, label): Labels<'_>,
    points: &[Point],
    upwards: Y,
) -> Result<(), Box<dyn Error>>
where
    Y: AsRangedCoord<Value = f64>,
    Y::CoordDescType: Ranged<ValueType = f64> + ValueFormatter<f64>,
{
    let (first, last) = (
        points.first().map_or(1.0, |it| it.0),
        points.last().map_or(10.0, |it| it.0),
    );
    let mut chart = ChartBuilder::on(panel)
        .caption(label, ("sans-serif", 14))
        .margin(10)
        .margin_right(24)
        .x_label_area_size(38)
        .y_label_area_size(52)
        .build_cartesian_2d((first / 1.3..last * 1.3).log_scale(), upwards)?;
    chart
        .configure_mesh()
        .bold_line_style(GRID)
        .light_line_style(TRANSPARENT)
        .x_desc(along)
        .x_label_formatter(&|value| short(*value))
        .y_label_formatter(&|value| short(*value))
        .y_labels(6)
        .draw()?;
    chart.draw_series(LineSeries::new(
        points.iter().copied(),
        LINE.stroke_width(2),
    ))?;
    chart.draw_series(
        points
            .iter()
            .map(|point| Circle::new(*point, 3, LINE.filled())),
    )?;
    Ok(())
}
