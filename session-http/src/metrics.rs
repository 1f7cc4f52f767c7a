//! The metrics, and what they mean.

use std::time::Instant;

use metrics::{Label, SharedString};
use session_core::{MetricInfo, MetricKind};

/// Counts the [`EVENTS`](crate::EVENTS).
const EVENTS_TOTAL: &str = "session_http_events_total";

/// What [`SessionManager`](crate::SessionManager) takes of a response's time.
const HTTP_SECONDS: &str = "session_http_seconds";

/// Every metric of this crate; [`session_core::METRICS`] are those of the one below. After the application has installed its
/// recorder, [`describe`](MetricInfo::describe) tells it what they mean.
pub const METRICS: &[MetricInfo] = &[
    MetricInfo::new(
        EVENTS_TOTAL,
        MetricKind::Counter,
        &["event", "reason", "status"],
        "events of HTTP sessions, by name",
    ),
    MetricInfo::new(
        HTTP_SECONDS,
        MetricKind::Histogram,
        &["stage", "outcome"],
        "how long a response waited for its session to be written",
    ),
];

/// Counts one event.
pub(crate) fn count(event: &'static str, label: Option<(&'static str, SharedString)>) {
    let mut labels = vec![Label::from_static_parts("event", event)];
    labels.extend(label.map(|(name, value)| Label::new(name, value)));
    metrics::counter!(EVENTS_TOTAL, labels).increment(1);
}

/// Measures a commit, from here until it is dropped.
pub(crate) struct Commit {
    begun: Instant,
    outcome: &'static str,
}

impl Commit {
    pub(crate) fn begin() -> Self {
        Self {
            begun: Instant::now(),
            outcome: "dropped",
        }
    }

    pub(crate) fn end(mut self, is_ok: bool) {
        self.outcome = if is_ok { "ok" } else { "failed" };
    }
}

impl Drop for Commit {
    fn drop(&mut self) {
        let seconds = self.begun.elapsed().as_secs_f64();
        metrics::histogram!(HTTP_SECONDS, "stage" => "commit", "outcome" => self.outcome).record(seconds);
    }
}
