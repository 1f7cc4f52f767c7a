//! The figures as Markdown.

use std::fmt::Write;

use session_bench::Result;

use super::saved::{Figure, Row, Saved};

/// All tables, and what they are of.
pub(super) fn render(saved: &Saved) -> Result<String> {
    let mut text = format!(
        "Operations per second of ours with many callers, and how many times those of each other (in brackets, with one caller: the \
         latency of ours divided by theirs, where less is better). Made by `scripts/bench` at commit {} on {}: {}, {} cores, {} of \
         memory, {}; servers, clients and callers share the cores. [What one operation is](bench/README.md).\n",
        saved.run("/commit"),
        saved.run("/date"),
        saved.run("/machine/cpu"),
        saved.run("/machine/cores"),
        saved.run("/machine/memory"),
        saved.run("/machine/kernel"),
    );
    for ours in saved.ours() {
        let all: Vec<&Row> = saved.rows.iter().filter(|row| row.ours() == ours).collect();
        contest(&mut text, ours, &all)?;
    }
    contended(&mut text, saved)?;
    workload(&mut text, saved)?;
    Ok(text)
}

fn contest(text: &mut String, ours: &str, all: &[&Row]) -> Result<()> {
    let mut others: Vec<&str> = Vec::new();
    for other in all.iter().flat_map(|row| row.figures.iter().skip(1)) {
        if !others.contains(&other.name.as_str()) {
            others.push(&other.name);
        }
    }
    write!(text, "\n| {ours} | per second |")?;
    for other in &others {
        write!(text, " to {other} |")?;
    }
    write!(text, "\n|---|--:|{}\n", "--:|".repeat(others.len()))?;
    let many = |row: &&&Row| row.callers != 1 && row.figures[0].lost.is_none();
    for row in all.iter().filter(many) {
        let one = all
            .iter()
            .find(|one| one.callers == 1 && one.operation == row.operation && one.bytes == row.bytes);
        write!(
            text,
            "| {}{} | {:.0} |",
            row.operation,
            size(row.bytes),
            row.figures[0].per_second
        )?;
        for name in &others {
            let of = |row: &Row| row.figures.iter().find(|one| one.name == *name).cloned();
            match of(row).and_then(|other| row.ratio(&other)) {
                Some(ratio) => write!(text, " {ratio:.2}{} |", latency(one.copied(), name))?,
                None => text.push_str(" |"),
            }
        }
        text.push('\n');
    }
    Ok(())
}

/// Of one caller: ours to another.
fn latency(row: Option<&Row>, name: &str) -> String {
    let ratio = row.and_then(|row| {
        let other = row.figures.iter().find(|one| one.name == name)?;
        let ratio = row.figures.first()?.p50 / other.p50;
        (ratio.is_finite() && ratio > 0.0).then_some(ratio)
    });
    ratio.map(|ratio| format!(" ({ratio:.2})")).unwrap_or_default()
}

/// Nothing where it is the usual one.
fn size(bytes: u64) -> String {
    match bytes {
        0 | 1024 => String::new(),
        _ if bytes.is_multiple_of(1024) => format!(", {} KiB", bytes / 1024),
        _ => format!(", {bytes} B"),
    }
}

fn contended(text: &mut String, saved: &Saved) -> Result<()> {
    let rows = || saved.rows.iter().filter(|row| row.figures[0].lost.is_some());
    if let Some(first) = rows().next() {
        write!(
            text,
            "\n| {} callers count up one attribute of one session | acknowledged per second | of those acknowledged, lost |\n|---|--:|--:|\n",
            first.callers
        )?;
    }
    for row in rows() {
        for one in &row.figures {
            let Figure {
                name,
                per_second,
                lost: Some((acknowledged, lost)),
                ..
            } = one
            else {
                continue;
            };
            let on = match name == row.ours() {
                true => String::new(),
                false => format!(" (beside {})", row.ours()),
            };
            writeln!(
                text,
                "| {name}{on} | {per_second:.0} | {lost} of {acknowledged} |"
            )?;
        }
    }
    Ok(())
}

fn workload(text: &mut String, saved: &Saved) -> Result<()> {
    let mut begun = false;
    for file in &saved.files {
        let contestants = file["workload"].as_array().into_iter().flatten();
        let names: Vec<&str> = contestants
            .clone()
            .filter_map(|one| one["contestant"].as_str())
            .collect();
        for one in contestants {
            if !begun {
                text.push_str(
                    "\n| 80 % loads, 20 % updates, Zipf-distributed | most calls per second it kept up with | p50, p99, p99.9 there, us |\n|---|--:|--:|\n",
                );
                begun = true;
            }
            let name = one["contestant"].as_str().unwrap_or_default();
            let on = match names.first() {
                Some(first) if *first != name => format!(" (beside {first})"),
                _ => String::new(),
            };
            let steps = one["steps"].as_array().into_iter().flatten();
            match steps.rev().find(|step| step["keeps_up"] == true) {
                Some(step) => {
                    let of = |key: &str| step[key].as_f64().unwrap_or_default();
                    writeln!(
                        text,
                        "| {name}{on} | {:.0} | {:.0}, {:.0}, {:.0} |",
                        of("offered_per_second"),
                        of("p50_us"),
                        of("p99_us"),
                        of("p999_us")
                    )?;
                }
                None => writeln!(text, "| {name}{on} | none of those offered | |")?,
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(name: &str, per_second: f64, p50: f64) -> Figure {
        Figure {
            name: name.to_owned(),
            per_second,
            p50,
            lost: None,
        }
    }

    #[test]
    fn a_row_has_both_ratios() {
        let row = |callers| Row {
            operation: "load".to_owned(),
            bytes: 100,
            callers,
            figures: vec![figure("ours", 300.0, 20.0), figure("other", 100.0, 40.0)],
        };
        let saved = Saved {
            rows: vec![row(64), row(1)],
            ..Saved::default()
        };
        let text = render(&saved).unwrap();
        assert!(
            text.contains(
                "| ours | per second | to other |\n|---|--:|--:|\n| load, 100 B | 300 | 3.00 (0.50) |\n"
            ),
            "{text}"
        );
    }

    #[test]
    fn sizes_are_told_but_for_the_usual_one() {
        assert_eq!([100, 1024, 32_768].map(size), [", 100 B", "", ", 32 KiB"]);
    }
}
