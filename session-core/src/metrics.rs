//! The metrics, and what they mean.

#[cfg(test)]
pub(crate) mod recorded;

use metrics::{Key, KeyName, Level, Metadata, SharedString, Unit, with_recorder};

/// Counts the [`EVENTS`](crate::EVENTS).
pub(crate) const EVENTS_TOTAL: &str = "session_events_total";

/// What a [`MeteredStore`](crate::MeteredStore) measures.
pub(crate) const STORE_SECONDS: &str = "session_store_seconds";

/// A metric that a crate of this workspace records: for documentation and dashboards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct MetricInfo {
    /// Its name. Names are kept.
    pub name: &'static str,
    /// What is recorded.
    pub kind: MetricKind,
    /// The names of its labels. A series may lack some of them.
    pub labels: &'static [&'static str],
    /// What it tells, in a line.
    pub meaning: &'static str,
}

/// What a metric records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum MetricKind {
    /// A number that only grows.
    Counter,
    /// Seconds, each one that was measured.
    Histogram,
}

/// Every metric of this crate.
pub const METRICS: &[MetricInfo] = &[
    MetricInfo::new(
        EVENTS_TOTAL,
        MetricKind::Counter,
        &["event", "reason"],
        "events of sessions, by name",
    ),
    MetricInfo::new(
        STORE_SECONDS,
        MetricKind::Histogram,
        &["store", "call", "outcome"],
        "how long the store's calls took, by what came of them",
    ),
];

impl MetricInfo {
    /// A metric of a crate on top of this one.
    #[must_use]
    pub const fn new(
        name: &'static str,
        kind: MetricKind,
        labels: &'static [&'static str],
        meaning: &'static str,
    ) -> Self {
        Self {
            name,
            kind,
            labels,
            meaning,
        }
    }

    /// Tells the recorder that is installed what this metric means and in which unit it is. To be called once, after the
    /// application has installed its recorder; without that, metrics are recorded all the same.
    pub fn describe(&self) {
        with_recorder(|recorder| {
            let (name, meaning) = (KeyName::from(self.name), SharedString::from(self.meaning));
            match self.kind {
                MetricKind::Counter => recorder.describe_counter(name, Some(Unit::Count), meaning),
                MetricKind::Histogram => recorder.describe_histogram(name, Some(Unit::Seconds), meaning),
            }
        });
    }
}

/// Adds to a counter.
pub(crate) fn add(key: &Key, times: u64) {
    static METADATA: Metadata<'static> = Metadata::new("session", Level::INFO, Some(module_path!()));
    with_recorder(|recorder| recorder.register_counter(key, &METADATA).increment(times));
}

/// Adds to a histogram.
pub(crate) fn measured(key: &Key, seconds: f64) {
    static METADATA: Metadata<'static> = Metadata::new("session", Level::INFO, Some(module_path!()));
    with_recorder(|recorder| recorder.register_histogram(key, &METADATA).record(seconds));
}
