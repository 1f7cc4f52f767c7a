//! Figures that were saved.

use std::{fs, path::Path};

use serde_json::Value;
use session_bench::Result;

/// What `--json` wrote, of all files of a directory.
#[derive(Debug, Default)]
pub(super) struct Saved {
    /// In the order of the files' names.
    pub(super) files: Vec<Value>,
    /// Of contests, whole requests and pages.
    pub(super) rows: Vec<Row>,
}

/// One operation, as several did it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Row {
    pub(super) operation: String,
    /// Of a session.
    pub(super) bytes: u64,
    pub(super) callers: u64,
    /// Ours is the first.
    pub(super) figures: Vec<Figure>,
}

/// How one did.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Figure {
    pub(super) name: String,
    pub(super) per_second: f64,
    /// In microseconds; zero if it was not measured.
    pub(super) p50: f64,
    /// Increments that were acknowledged, and of these lost.
    pub(super) lost: Option<(u64, u64)>,
}

impl Row {
    /// Who is ours.
    pub(super) fn ours(&self) -> &str {
        self.figures.first().map_or("", |figure| &figure.name)
    }

    /// Ours to another: of rates.
    pub(super) fn ratio(&self, other: &Figure) -> Option<f64> {
        let ratio = self.figures.first()?.per_second / other.per_second;
        (ratio.is_finite() && ratio > 0.0).then_some(ratio)
    }
}

impl Saved {
    /// Reads every `.json` file there.
    pub(super) fn read(results: &Path) -> Result<Self> {
        let at = |error: &dyn std::fmt::Display| format!("{}: {error}", results.display());
        let entries = fs::read_dir(results).map_err(|error| at(&error))?;
        let mut paths = Vec::new();
        for entry in entries {
            let path = entry.map_err(|error| at(&error))?.path();
            if path.extension().is_some_and(|extension| extension == "json") {
                paths.push(path);
            }
        }
        if paths.is_empty() {
            return Err(at(&"no figures are there: scripts/bench makes them").into());
        }
        // `redis` before `redis-100`.
        paths.sort_by_key(|path| path.file_stem().map(ToOwned::to_owned));
        let mut saved = Self::default();
        for path in paths {
            let text = fs::read_to_string(&path)?;
            let file: Value =
                serde_json::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?;
            saved
                .add(file)
                .map_err(|error| format!("{}: {error}", path.display()))?;
        }
        Ok(saved)
    }

    fn add(&mut self, file: Value) -> Result<()> {
        let machine = file["run"]["machine"].clone();
        if machine.is_null() {
            return Err("it does not say on which machine it was made".into());
        }
        if let Some(first) = self.files.first()
            && (first["run"]["machine"] != machine || first["run"]["commit"] != file["run"]["commit"])
        {
            return Err("it is of another machine or commit than the files before it: \
                        empty the directory, and measure again"
                .into());
        }
        let bytes = file["bytes"].as_u64().unwrap_or_default();
        for row in file["figures"].as_array().into_iter().flatten() {
            match row["variants"].as_array() {
                Some(variants) => {
                    let callers = file["connections"].as_u64().unwrap_or_default();
                    self.rows.extend(page(row, variants, bytes, callers));
                }
                None => self.rows.push(contest(row, bytes)),
            }
        }
        self.files.push(file);
        Ok(())
    }

    /// A field of the run that all files are of.
    pub(super) fn run(&self, pointer: &str) -> String {
        let first = self.files.first().and_then(|file| file["run"].pointer(pointer));
        match first {
            Some(Value::String(text)) => text.clone(),
            Some(value) if !value.is_null() => value.to_string(),
            _ => "unknown".to_owned(),
        }
    }

    /// Names of ours, each once, in their order.
    pub(super) fn ours(&self) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for row in &self.rows {
            if !names.contains(&row.ours()) {
                names.push(row.ours());
            }
        }
        names
    }
}

fn contest(row: &Value, bytes: u64) -> Row {
    let figures = row["contestants"].as_array().into_iter().flatten();
    Row {
        operation: text(&row["operation"]),
        bytes,
        callers: row["callers"].as_u64().unwrap_or_default(),
        figures: figures.map(|one| figure(one, text(&one["contestant"]))).collect(),
    }
}

/// A page as ours and others serve it: one row for each place where sessions are kept.
fn page(row: &Value, variants: &[Value], bytes: u64, callers: u64) -> Vec<Row> {
    let named = |one: &Value| figure(one, text(&one["variant"]));
    let all: Vec<Figure> = variants.iter().map(named).collect();
    let ours = all.iter().filter(|one| one.name.starts_with("session-http/"));
    let with_others = ours.map(|ours| {
        let (_, place) = ours.name.split_once('/').unwrap_or_default();
        let others = all.iter().filter(|one| {
            let parts: Vec<&str> = one.name.split('/').collect();
            one.name == "none" || (parts[0] != "session-http" && parts.get(1) == Some(&place))
        });
        Row {
            operation: text(&row["page"]),
            bytes,
            callers,
            figures: [ours].into_iter().chain(others).cloned().collect(),
        }
    });
    with_others.collect()
}

fn figure(one: &Value, name: String) -> Figure {
    let lost = one["acknowledged"].as_u64().zip(one["lost"].as_u64());
    Figure {
        name,
        per_second: one["per_second"].as_f64().unwrap_or_default(),
        p50: one["p50_us"].as_f64().unwrap_or_default(),
        lost,
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn files_of_two_commits_are_no_run() {
        let of = |commit: &str| json!({ "run": { "machine": { "cores": 2 }, "commit": commit } });
        let mut saved = Saved::default();
        saved.add(of("a")).unwrap();
        saved.add(of("a")).unwrap();
        assert!(saved.add(of("b")).is_err());
        assert!(saved.add(json!({})).is_err());
        assert_eq!(saved.run("/machine/cores"), "2");
        assert_eq!(saved.run("/machine/cpu"), "unknown");
    }

    #[test]
    fn a_page_is_compared_where_its_sessions_are_kept() {
        let one = |variant: &str, rate: f64| json!({ "variant": variant, "per_second": rate });
        let variants = [
            one("none", 4.0),
            one("session-http/memory", 3.0),
            one("session-http/redis", 2.0),
            one("tower-sessions/memory/idle", 1.0),
        ];
        let rows = page(&json!({ "page": "/read" }), &variants, 1024, 64);
        let names: Vec<_> = rows[0].figures.iter().map(|one| one.name.as_str()).collect();
        assert_eq!(
            names,
            ["session-http/memory", "none", "tower-sessions/memory/idle"]
        );
        assert_eq!(rows[1].figures.len(), 2);
        assert_eq!(rows[0].ratio(&rows[0].figures[2]), Some(3.0));
    }
}
