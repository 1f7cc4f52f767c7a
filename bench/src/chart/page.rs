//! Text between marks.

use std::path::Path;

use session_bench::Result;

/// The line before the text, and the line after it.
pub(super) type Marks = (&'static str, &'static str);

/// Around the chart and its tables.
pub(super) const BENCH: Marks = ("<!-- bench:begin -->", "<!-- bench:end -->");

/// Around what is calculated.
pub(super) const SCALE: Marks = ("<!-- scale:begin -->", "<!-- scale:end -->");

/// `page` with `text` between its marks.
pub(super) fn splice(page: &str, (begin, end): Marks, text: &str) -> Result<String> {
    for mark in [begin, end] {
        let count = page.matches(mark).count();
        if count != 1 {
            return Err(format!("the mark {mark} is there {count} times; once is needed").into());
        }
    }
    let (before, rest) = page.split_once(begin).unwrap_or_default();
    let (_, after) = rest
        .split_once(end)
        .ok_or_else(|| format!("{end} stands before {begin}"))?;
    Ok(format!("{before}{begin}\n\n{}\n\n{end}{after}", text.trim()))
}

/// How `page` names `file`, which is in its folder or below.
pub(super) fn from(page: &Path, file: &Path) -> String {
    let folder = page.parent().unwrap_or(Path::new(""));
    file.strip_prefix(folder).unwrap_or(file).display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_between_the_marks_is_replaced() {
        let page = "a\n<!-- bench:begin -->\nold\n<!-- bench:end -->\nb\n";
        let new = splice(page, BENCH, "new\n").unwrap();
        assert_eq!(new, "a\n<!-- bench:begin -->\n\nnew\n\n<!-- bench:end -->\nb\n");
        assert_eq!(splice(&new, BENCH, "new").unwrap(), new);
    }

    #[test]
    fn marks_that_are_missing_or_twice_or_in_disorder_are_errors() {
        assert!(splice("", BENCH, "").is_err());
        assert!(splice("<!-- bench:end --><!-- bench:begin -->", BENCH, "").is_err());
        let twice = "<!-- bench:begin --><!-- bench:end --><!-- bench:end -->";
        assert!(splice(twice, BENCH, "").is_err());
    }

    #[test]
    fn a_page_names_what_is_below_it() {
        let file = Path::new("bench/results/chart.svg");
        assert_eq!(from(Path::new("README.md"), file), "bench/results/chart.svg");
        assert_eq!(from(Path::new("bench/README.md"), file), "results/chart.svg");
    }
}
