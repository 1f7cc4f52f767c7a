//! The table of guarantees and backends, made of results alone: what `examples/matrix.rs` writes.

use std::{collections::BTreeMap, fmt::Write, fs, path::Path};

use crate::{BoxError, Group, Outcome, Report};

/// The line before the table.
pub const BEGIN: &str = "<!-- matrix:begin -->";

/// The line after the table.
pub const END: &str = "<!-- matrix:end -->";

/// Reads the results in a directory that was `CONFORMANCE_REPORT_DIR`.
///
/// # Errors
///
/// The directory cannot be read, holds no result, or holds a `.json` file that is none.
pub fn read(dir: &Path) -> Result<Vec<Report>, BoxError> {
    let at = |error: &dyn std::fmt::Display| format!("{}: {error}", dir.display());
    let mut reports = Vec::new();
    for entry in fs::read_dir(dir).map_err(|error| at(&error))? {
        let path = entry.map_err(|error| at(&error))?.path();
        if path.extension().is_some_and(|extension| extension == "json") {
            let text = fs::read_to_string(&path)?;
            let report = serde_json::from_str(&text);
            reports.push(
                report.map_err(|error| format!("{}: no result of the suite: {error}", path.display()))?,
            );
        }
    }
    if reports.is_empty() {
        return Err(
            at(&"no results: run the suites with CONFORMANCE_REPORT_DIR set to this directory").into(),
        );
    }
    Ok(reports)
}

/// The table of `reports`, in the order of `groups`, with a legend and the reasons beneath. The same results make the
/// same text: it holds neither dates nor times nor minor versions of servers.
///
/// # Errors
///
/// A backend lacks the result of a guarantee, or has one of a guarantee that is not in `groups`: its whole suite must
/// run, in this version.
pub fn render(groups: &[Group], reports: &[Report]) -> Result<String, BoxError> {
    let mut columns: BTreeMap<(&str, &str), Vec<&Report>> = BTreeMap::new();
    for report in reports {
        if !groups
            .iter()
            .flat_map(|group| group.guarantees)
            .any(|guarantee| guarantee.name == report.guarantee)
        {
            return Err(format!(
                "{}: there is no guarantee {}: empty the directory and run the suites again",
                report.backend, report.guarantee
            )
            .into());
        }
        columns
            .entry((&report.backend, &report.server))
            .or_default()
            .push(report);
    }
    let alone = |backend: &str| columns.keys().filter(|(of, _)| *of == backend).count() == 1;
    let mut notes = Vec::new();
    let mut table = String::from("| guarantee |");
    for (backend, server) in columns.keys() {
        match alone(backend) {
            true => write!(table, " {backend} |")?,
            false => write!(table, " {backend} ({server}) |")?,
        }
    }
    write!(table, "\n|---|{}\n", ":-:|".repeat(columns.len()))?;
    for group in groups {
        writeln!(table, "| **{}** |{}", group.name, " |".repeat(columns.len()))?;
        for guarantee in group.guarantees {
            let provisional = if guarantee.provisional {
                " (provisional)"
            } else {
                ""
            };
            write!(table, "| {}{provisional} |", sentence(guarantee.name))?;
            for ((backend, _), of) in &columns {
                let report = of
                    .iter()
                    .find(|report| report.guarantee == guarantee.name)
                    .ok_or_else(|| {
                        format!("{backend}: no result for {}: run its whole suite", guarantee.name)
                    })?;
                write!(table, " {} |", cell(report, &mut notes))?;
            }
            table.push('\n');
        }
    }
    table.push_str(
        "\n✓ kept · ✗ broken · – not claimed by the store · ? untested, with the reason's number\n\n",
    );
    for (number, note) in notes.iter().enumerate() {
        writeln!(table, "{}. {note}", number + 1)?;
    }
    if !notes.is_empty() {
        table.push('\n');
    }
    for ((backend, server), of) in &columns {
        let (version, major) = of.first().map_or(("", ""), |report| {
            (
                report.backend_version.as_str(),
                report.server_version.split('.').next().unwrap_or(""),
            )
        });
        let server = format!("{server} {major}");
        writeln!(table, "- {backend} {version} on {}", server.trim_end())?;
    }
    Ok(table)
}

/// `readme` with `table` between its marks.
///
/// # Errors
///
/// A mark is missing, comes twice, or the end comes first.
pub fn splice(readme: &str, table: &str) -> Result<String, BoxError> {
    for mark in [BEGIN, END] {
        let count = readme.matches(mark).count();
        if count != 1 {
            return Err(format!("the mark {mark} is there {count} times; once is needed").into());
        }
    }
    let (before, rest) = readme.split_once(BEGIN).unwrap_or_default();
    let (_, after) = rest
        .split_once(END)
        .ok_or_else(|| format!("{END} stands before {BEGIN}"))?;
    Ok(format!("{before}{BEGIN}\n\n{table}\n{END}{after}"))
}

/// A name as a sentence.
fn sentence(name: &str) -> String {
    name.replace('_', " ")
}

fn cell(report: &Report, notes: &mut Vec<String>) -> String {
    match report.outcome {
        Outcome::Kept => "✓".to_owned(),
        Outcome::Broken => "✗".to_owned(),
        Outcome::Unsupported => "–".to_owned(),
        Outcome::Untested => {
            let number = notes
                .iter()
                .position(|note| *note == report.reason)
                .unwrap_or_else(|| {
                    notes.push(report.reason.clone());
                    notes.len() - 1
                });
            format!("? {}", number + 1)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{Guarantee, Server};

    const GUARANTEES: &[Guarantee] = &[
        Guarantee::new("first", "it_holds", |_| Box::pin(async { Ok(()) })),
        Guarantee::new("first", "it_holds_too", |_| Box::pin(async { Ok(()) })),
    ];
    const GROUPS: &[Group] = &[Group {
        name: "first",
        guarantees: GUARANTEES,
    }];

    fn report(backend: &str, at: usize, outcome: Outcome, reason: &str) -> Report {
        let server = Server::new("Server", "8.1.2");
        let took = Duration::from_millis(at as u64);
        Report::new(
            (backend, "0.1.0"),
            server,
            &GUARANTEES[at],
            (outcome, reason.to_owned()),
            took,
        )
    }

    fn all() -> Vec<Report> {
        vec![
            report("b", 1, Outcome::Broken, "long story"),
            report("a", 0, Outcome::Kept, ""),
            report("b", 0, Outcome::Untested, "no hook"),
            report("a", 1, Outcome::Unsupported, "not claimed"),
        ]
    }

    #[test]
    fn table_depends_on_the_results_alone() {
        let table = render(GROUPS, &all()).unwrap();
        let rows: Vec<&str> = table.lines().collect();
        assert_eq!(
            rows[..5],
            [
                "| guarantee | a | b |",
                "|---|:-:|:-:|",
                "| **first** | | |",
                "| it holds | ✓ | ? 1 |",
                "| it holds too | – | ✗ |",
            ]
        );
        assert!(table.contains("\n1. no hook\n"), "{table}");
        assert!(table.contains("\n- a 0.1.0 on Server 8\n"), "{table}");
        let mut other = all();
        other.reverse();
        other.iter_mut().for_each(|report| report.milliseconds += 7);
        assert_eq!(render(GROUPS, &other).unwrap(), table);
    }

    #[test]
    fn missing_and_unknown_results_are_refused() {
        let error = render(GROUPS, &all()[1..]).unwrap_err().to_string();
        assert_eq!(error, "b: no result for it_holds_too: run its whole suite");
        let mut unknown = all();
        unknown[0].guarantee = "of_old".to_owned();
        let error = render(GROUPS, &unknown).unwrap_err().to_string();
        assert!(error.contains("there is no guarantee of_old"), "{error}");
    }

    #[test]
    fn marks_are_needed_once_and_in_order() {
        let readme = format!("# a\n{BEGIN}\nold\n{END}\nb\n");
        let once = splice(&readme, "new\n").unwrap();
        assert_eq!(once, format!("# a\n{BEGIN}\n\nnew\n\n{END}\nb\n"));
        assert_eq!(splice(&once, "new\n").unwrap(), once);
        assert!(
            splice("# a\n", "new")
                .unwrap_err()
                .to_string()
                .contains("0 times")
        );
        assert!(splice(&format!("{END}{BEGIN}"), "new").is_err());
        assert!(splice(&format!("{readme}{BEGIN}"), "new").is_err());
    }

    #[test]
    fn written_results_are_read_back_and_an_empty_directory_is_refused() {
        let dir = std::env::temp_dir().join(format!("session-conformance-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        for report in all() {
            report.write(&dir).unwrap();
        }
        let read_back = read(&dir).unwrap();
        assert_eq!(
            render(GROUPS, &read_back).unwrap(),
            render(GROUPS, &all()).unwrap()
        );
        fs::write(dir.join("other.json"), "{}").unwrap();
        assert!(
            read(&dir)
                .unwrap_err()
                .to_string()
                .contains("no result of the suite")
        );
        fs::remove_dir_all(&dir).unwrap();
        fs::create_dir(&dir).unwrap();
        assert!(
            read(&dir)
                .unwrap_err()
                .to_string()
                .contains("CONFORMANCE_REPORT_DIR")
        );
        fs::remove_dir(&dir).unwrap();
        assert!(read(&dir).is_err());
    }
}
