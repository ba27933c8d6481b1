//! Draws one series as an SVG: what grows to the right by factors, what it costs upwards.

use crate::curves::{Curve, Series};
use crate::number::short;
use plotters::coord::ranged1d::{AsRangedCoord, Ranged, ValueFormatter};
use plotters::prelude::*;
use std::error::Error;
use std::ops::Range;
use std::path::Path;

const SIZE: (u32, u32) = (520, 300);
const LINE: RGBColor = RGBColor(0x1f, 0x5f, 0xa8);

/// Draws the points of a series.
pub(crate) fn draw(
    path: &Path,
    curve: &Curve,
    series: &Series,
    points: &[(f64, f64)],
) -> Result<(), Box<dyn Error>> {
    let known: Vec<_> = points
        .iter()
        .copied()
        .filter(|point| point.1.is_finite())
        .collect();
    let most = known
        .iter()
        .map(|point| point.1)
        .fold(f64::MIN_POSITIVE, f64::max);
    let least = known.iter().map(|point| point.1).fold(most, f64::min);
    if series.logarithmic {
        draw_on(
            path,
            curve,
            series,
            &known,
            (least / 2.0..most * 2.0).log_scale(),
        )
    } else {
        draw_on(path, curve, series, &known, 0.0..most * 1.15)
    }
}

fn draw_on<Y>(
    path: &Path,
    curve: &Curve,
    series: &Series,
    points: &[(f64, f64)],
    upwards: Y,
) -> Result<(), Box<dyn Error>>
where
    Y: AsRangedCoord<Value = f64>,
    Y::CoordDescType: Ranged<ValueType = f64> + ValueFormatter<f64>,
{
    let root = SVGBackend::new(path, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let (first, last) = (
        points.first().map_or(1.0, |it| it.0),
        points.last().map_or(10.0, |it| it.0),
    );
    let along: Range<f64> = first / 1.2..last * 1.2;
    let mut chart = ChartBuilder::on(&root)
        .caption(
            format!("{}: {}", curve.name, series.label),
            ("sans-serif", 15),
        )
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(64)
        .build_cartesian_2d(along.log_scale(), upwards)?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .x_desc(curve.along)
        .x_label_formatter(&|value| short(*value))
        .y_label_formatter(&|value| short(*value))
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
    root.present()?;
    Ok(())
}
