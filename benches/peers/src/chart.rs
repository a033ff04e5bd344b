//! The bar chart in BENCHMARKS.md.

use std::fmt::Write;

use crate::{Row, contestants::OURS};

const LEFT: f64 = 250.0;
const WIDTH: f64 = 400.0;
const STEP: f64 = 30.0;

/// Draws horizontal bars on a logarithmic scale from 0.1 µs.
pub fn svg(rows: &[Row]) -> String {
    let longest = rows.iter().map(|row| row.added).fold(1e3, f64::max);
    let decades = (longest / 100.0).log10();
    let height = 60.0 + STEP * rows.len() as f64;
    let mut svg = format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 760 {height}" font-family="sans-serif" font-size="14">
<title>What authentication adds to a request, by library</title>
<rect width="760" height="{height}" fill="#ffffff"/>
<text x="10" y="22" font-weight="bold" fill="#1a1a1a">Added to a request by authenticating a known caller (logarithmic scale)</text>
"##
    );
    for (position, row) in rows.iter().enumerate() {
        let (top, length) = (
            40.0 + STEP * position as f64,
            WIDTH * ((row.added / 100.0).log10() / decades).max(0.01),
        );
        let colour = if row.name == OURS { "#1f6feb" } else { "#8b949e" };
        let (text, end, micros) = (top + 15.0, LEFT + length + 8.0, row.added / 1e3);
        let _ = write!(
            svg,
            r##"<text x="{label}" y="{text}" text-anchor="end" fill="#1a1a1a">{name}</text>
<rect x="{LEFT}" y="{top}" width="{length:.1}" height="20" fill="{colour}"/>
<text x="{end:.1}" y="{text}" fill="#1a1a1a">{micros:.2} µs</text>
"##,
            label = LEFT - 8.0,
            name = row.name,
        );
    }
    svg + "</svg>\n"
}
