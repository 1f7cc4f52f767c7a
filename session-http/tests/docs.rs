//! The pages under `docs/` name tests: each of them is there.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The names of all functions in the workspace's own Rust files.
fn functions() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut folders = vec![workspace()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if path.is_dir() {
                if name != "target" && !name.starts_with('.') {
                    folders.push(path);
                }
            } else if name.ends_with(".rs") {
                names.extend(declared(&fs::read_to_string(&path).unwrap()));
            }
        }
    }
    names
}

/// The functions that a file declares, outside its comments.
fn declared(source: &str) -> impl Iterator<Item = String> {
    let code = source
        .lines()
        .map(str::trim_start)
        .filter(|line| !line.starts_with("//"));
    code.filter_map(|line| {
        let (_, name) = line.split_once("fn ")?;
        let name = name.split(['(', '<']).next()?;
        Some(name.to_owned())
    })
}

/// What looks like a test's name: lower case, several words, in backticks.
fn named(page: &str) -> Vec<&str> {
    let quoted = page.split('`').skip(1).step_by(2);
    quoted
        .filter(|text| text.matches('_').count() >= 3)
        .filter(|text| text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'))
        .collect()
}

#[test]
fn every_test_that_a_page_names_exists() {
    let functions = functions();
    assert!(functions.contains("every_test_that_a_page_names_exists"));
    for page in ["failures.md", "monitoring.md", "security.md"] {
        let text = fs::read_to_string(workspace().join("docs").join(page)).unwrap();
        let named = named(&text);
        assert!(named.len() > 3, "{page}: {named:?}");
        // A metric looks like a test.
        for name in named.into_iter().filter(|name| !name.ends_with("_total")) {
            assert!(
                functions.contains(name),
                "docs/{page} names {name}, which is nowhere"
            );
        }
    }
}

#[test]
fn every_row_of_the_requirements_has_a_test_and_a_word() {
    let text = fs::read_to_string(workspace().join("docs/security.md")).unwrap();
    let rows: Vec<_> = text.lines().filter(|line| line.starts_with("| ")).collect();
    let of_v7 = rows.iter().filter(|row| row.starts_with("| 7.")).count();
    // 7.1.1 to 7.6.2: 3 + 4 + 2 + 5 + 3 + 2.
    assert_eq!(of_v7, 19, "ASVS 5.0, chapter V7, has 19 requirements");
    for row in rows
        .iter()
        .filter(|row| row.starts_with("| 7.") || row.contains("CVE-"))
    {
        let cells: Vec<_> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        assert!(cells.iter().all(|cell| !cell.is_empty()), "an empty cell: {row}");
        assert!(!named(cells[cells.len() - 1]).is_empty(), "no test: {row}");
    }
}

#[test]
fn links_of_the_pages_lead_somewhere() {
    let docs = workspace().join("docs");
    for page in fs::read_dir(&docs).unwrap() {
        let page = page.unwrap().path();
        if page.is_dir() {
            continue;
        }
        let text = fs::read_to_string(&page).unwrap();
        let links = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for link in links.filter(|link| !link.starts_with("http")) {
            let file = link.split('#').next().unwrap();
            assert!(docs.join(file).exists(), "{}: {link}", page.display());
        }
    }
}
