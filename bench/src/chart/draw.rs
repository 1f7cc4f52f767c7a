//! The figures as a picture.

use std::path::Path;

use plotters::{
    coord::Shift,
    prelude::*,
    style::text_anchor::{HPos, Pos, VPos},
};
use session_bench::Result;

use super::saved::{Row, Saved};

/// What is drawn: the tables have more.
const OPERATIONS: [&str; 7] = [
    "load",
    "update",
    "create",
    "read-only",
    "changed",
    "/read",
    "/change",
];

/// Of a session, where there are several sizes.
const BYTES: u64 = 1024;

const WIDTH: i32 = 900;
const LINE: i32 = 18;
const TITLE: i32 = 30;
/// Above the first line: the picture's own title, and the axis.
const HEAD: i32 = 70;
/// Where bars may begin and end.
const BARS: (i32, i32) = (340, 820);
/// Where operations and others are named, right-aligned.
const NAMES: (i32, i32) = (130, 330);

const BETTER: RGBColor = RGBColor(31, 119, 180);
const WORSE: RGBColor = RGBColor(214, 96, 28);
const GRID: RGBColor = RGBColor(221, 221, 221);
const INK: RGBColor = RGBColor(34, 34, 34);

/// A bar.
#[derive(Debug, PartialEq)]
struct Bar {
    operation: String,
    other: String,
    ratio: f64,
}

/// One of ours, and its bars.
type Group<'a> = (&'a str, Vec<Bar>);

/// Draws the chart into a file.
pub(super) fn draw(saved: &Saved, file: &Path) -> Result<()> {
    let groups = groups(saved);
    let bars: usize = groups.iter().map(|(_, bars)| bars.len()).sum();
    let ratios = groups.iter().flat_map(|(_, bars)| bars).map(|bar| bar.ratio);
    let Some(axis) = Axis::over(ratios) else {
        return Err("no figures of two contestants are there: nothing can be compared".into());
    };
    let height = HEAD + TITLE * i32::try_from(groups.len())? + LINE * i32::try_from(bars)? + 20;
    // White, so that it is readable where the page around it is dark.
    let area = SVGBackend::new(file, (WIDTH as u32, height as u32)).into_drawing_area();
    area.fill(&WHITE)?;
    let middle = (BARS.0 + BARS.1) / 2;
    write(
        &area,
        "Operations per second of ours, divided by theirs",
        (middle, 16),
        HPos::Center,
        (15, INK),
    )?;
    write(
        &area,
        "1 is as fast; to the right ours is faster. Sessions of 1 KiB, many callers; log scale",
        (middle, 34),
        HPos::Center,
        (12, INK),
    )?;
    for tick in axis.ticks() {
        let at = axis.place(tick);
        let (color, width) = if tick == 1.0 { (INK, 2) } else { (GRID, 1) };
        area.draw(&PathElement::new(
            vec![(at, HEAD - 10), (at, height - 12)],
            color.stroke_width(width),
        ))?;
        write(
            &area,
            &format!("{tick}"),
            (at, HEAD - 18),
            HPos::Center,
            (12, INK),
        )?;
    }
    let mut y = HEAD;
    for (ours, bars) in &groups {
        write(&area, ours, (12, y + TITLE / 2 + 2), HPos::Left, (14, INK))?;
        y += TITLE;
        let mut last = "";
        for bar in bars {
            line(&area, &axis, bar, last != bar.operation, y)?;
            last = &bar.operation;
            y += LINE;
        }
    }
    area.present()?;
    Ok(())
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

fn line(area: &Area<'_>, axis: &Axis, bar: &Bar, is_first: bool, y: i32) -> Result<()> {
    let middle = y + LINE / 2;
    if is_first {
        write(area, &bar.operation, (NAMES.0, middle), HPos::Right, (12, INK))?;
    }
    write(area, &bar.other, (NAMES.1, middle), HPos::Right, (12, INK))?;
    let (from, to) = (axis.place(1.0), axis.place(bar.ratio));
    let (color, at, side) = match bar.ratio >= 1.0 {
        true => (BETTER, to + 5, HPos::Left),
        false => (WORSE, to - 5, HPos::Right),
    };
    area.draw(&Rectangle::new(
        [(from.min(to), y + 3), (from.max(to), y + LINE - 3)],
        color.filled(),
    ))?;
    write(area, &short(bar.ratio), (at, middle), side, (12, INK))
}

fn write(
    area: &Area<'_>,
    text: &str,
    at: (i32, i32),
    side: HPos,
    (size, color): (i32, RGBColor),
) -> Result<()> {
    let style = ("sans-serif", size).into_font().color(&color);
    let style = style.pos(Pos::new(side, VPos::Center));
    Ok(area.draw(&Text::new(text.to_owned(), at, style))?)
}

/// With the places that matter.
fn short(ratio: f64) -> String {
    match ratio {
        _ if ratio < 9.95 => format!("{ratio:.2}"),
        _ => format!("{ratio:.0}"),
    }
}

fn groups(saved: &Saved) -> Vec<Group<'_>> {
    let of = |ours| {
        let rows = saved.rows.iter().filter(|row| row.ours() == ours);
        let drawn = |row: &&Row| {
            let known = OPERATIONS.contains(&row.operation.as_str());
            row.callers != 1 && row.bytes == BYTES && known
        };
        let bars = rows.filter(drawn).flat_map(|row| {
            let bar = |other: &super::saved::Figure| {
                Some(Bar {
                    operation: row.operation.clone(),
                    other: other.name.clone(),
                    ratio: row.ratio(other)?,
                })
            };
            row.figures.iter().skip(1).filter_map(bar)
        });
        (ours, bars.collect::<Vec<_>>())
    };
    let all = saved.ours().into_iter().map(of);
    all.filter(|(_, bars)| !bars.is_empty()).collect()
}

/// Ratios, equally far where one is as many times the other.
#[derive(Debug)]
struct Axis {
    low: f64,
    high: f64,
}

/// Where lines are drawn, if they are within.
const TICKS: [f64; 14] = [
    0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0,
];

impl Axis {
    /// From a tick below all ratios, and 1, to one above. `None` if there are no ratios.
    fn over(ratios: impl Iterator<Item = f64>) -> Option<Self> {
        let (low, high) = ratios
            .map(|ratio| (ratio, ratio))
            .reduce(|one, other| (one.0.min(other.0), one.1.max(other.1)))?;
        // Room for the figure at the end of a bar.
        let below = TICKS.iter().rev().find(|tick| **tick <= low.min(1.0) * 0.8);
        let above = TICKS.iter().find(|tick| **tick >= high.max(1.0) * 1.1);
        Some(Self {
            low: below.copied().unwrap_or(low),
            high: above.copied().unwrap_or(high),
        })
    }

    fn place(&self, ratio: f64) -> i32 {
        let part = (ratio / self.low).ln() / (self.high / self.low).ln();
        BARS.0 + (part.clamp(0.0, 1.0) * f64::from(BARS.1 - BARS.0)).round() as i32
    }

    fn ticks(&self) -> impl Iterator<Item = f64> {
        let (low, high) = (self.low, self.high);
        TICKS.into_iter().filter(move |tick| (low..=high).contains(tick))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_ratios_are_equally_far() {
        let axis = Axis::over([0.6, 9.0].into_iter()).unwrap();
        assert_eq!((axis.low, axis.high), (0.2, 10.0));
        let step = |from, to| axis.place(to) - axis.place(from);
        assert!((step(1.0, 2.0) - step(2.0, 4.0)).abs() <= 1);
        assert_eq!((axis.place(0.2), axis.place(10.0)), BARS);
        // Never outside.
        assert_eq!((axis.place(0.001), axis.place(1e9)), BARS);
        assert_eq!(axis.ticks().collect::<Vec<_>>(), [0.2, 0.5, 1.0, 2.0, 5.0, 10.0]);
        assert!(Axis::over([].into_iter()).is_none());
    }

    #[test]
    fn the_axis_has_one_even_where_all_are_faster() {
        let axis = Axis::over([3.0, 4.0].into_iter()).unwrap();
        assert!(axis.low < 1.0 && axis.high >= 4.0);
    }
}
