//! What `/metrics` shows to Prometheus, on a listener of its own: what is counted is nobody's business but the operator's.
//!
//! A recorder of a hundred lines, because the labels are few and known; the crate that does more brings a random number
//! generator that `deny.toml` does not let in.

use std::{
    collections::BTreeMap,
    fmt::Write,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use axum::{Router, http::header, response::IntoResponse, routing::get};
use metrics::{
    Counter, CounterFn, Gauge, Histogram, HistogramFn, Key, KeyName, Metadata, SetRecorderError,
    SharedString, Unit,
};

/// Upper ends of the buckets in seconds: from a store in memory to one that runs into its deadline.
const BUCKETS: [f64; 11] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0,
];

/// Everything that was recorded. Clones are one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Recorder {
    all: Arc<All>,
}

#[derive(Debug, Default)]
struct All {
    described: Mutex<BTreeMap<String, String>>,
    counters: Mutex<BTreeMap<Key, Arc<Count>>>,
    histograms: Mutex<BTreeMap<Key, Arc<Times>>>,
}

impl Recorder {
    /// Records what this process counts from now on.
    ///
    /// # Errors
    ///
    /// [`SetRecorderError`] if another recorder does so already.
    pub(crate) fn install() -> Result<Self, SetRecorderError<Self>> {
        let recorder = Self::default();
        metrics::set_global_recorder(recorder.clone())?;
        for metric in session_core::METRICS.iter().chain(session_http::METRICS) {
            metric.describe();
        }
        Ok(recorder)
    }

    /// `/metrics`, and nothing else.
    pub(crate) fn routes(&self) -> Router {
        const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
        let recorder = self.clone();
        let show = move || async move { ([(header::CONTENT_TYPE, TEXT)], recorder.render()).into_response() };
        Router::new().route("/metrics", get(show))
    }

    /// Prometheus's text format, version 0.0.4.
    fn render(&self) -> String {
        let mut text = String::new();
        let mut before = None;
        for (key, count) in &*lock(&self.all.counters) {
            self.head(&mut text, &mut before, key.name(), "counter");
            line(&mut text, key.name(), &labels(key, None), count.0.load(Relaxed));
        }
        for (key, times) in &*lock(&self.all.histograms) {
            self.head(&mut text, &mut before, key.name(), "histogram");
            let (buckets, sum) = times.read();
            let mut count = 0;
            for (at, bucket) in buckets.iter().enumerate() {
                count += bucket;
                let end = BUCKETS.get(at).map_or("+Inf".to_owned(), f64::to_string);
                line(
                    &mut text,
                    &format!("{}_bucket", key.name()),
                    &labels(key, Some(&end)),
                    count,
                );
            }
            line(&mut text, &format!("{}_sum", key.name()), &labels(key, None), sum);
            line(
                &mut text,
                &format!("{}_count", key.name()),
                &labels(key, None),
                count,
            );
        }
        text
    }

    /// What stands once above all series of a metric.
    fn head(&self, text: &mut String, before: &mut Option<String>, name: &str, kind: &str) {
        if before.as_deref() == Some(name) {
            return;
        }
        if let Some(meaning) = lock(&self.all.described).get(name) {
            line(text, "# HELP", &format!(" {name}"), meaning);
        }
        line(text, "# TYPE", &format!(" {name}"), kind);
        *before = Some(name.to_owned());
    }
}

impl metrics::Recorder for Recorder {
    fn describe_counter(&self, name: KeyName, _: Option<Unit>, meaning: SharedString) {
        lock(&self.all.described).insert(name.as_str().to_owned(), meaning.to_string());
    }

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_histogram(&self, name: KeyName, unit: Option<Unit>, meaning: SharedString) {
        self.describe_counter(name, unit, meaning);
    }

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(Arc::clone(find(&mut lock(&self.all.counters), key)))
    }

    /// The shop has none.
    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(Arc::clone(find(&mut lock(&self.all.histograms), key)))
    }
}

/// The series of a key, new if there is none yet.
fn find<'s, S: Default>(series: &'s mut BTreeMap<Key, Arc<S>>, key: &Key) -> &'s Arc<S> {
    if !series.contains_key(key) {
        series.insert(key.clone(), Arc::default());
    }
    &series[key]
}

#[derive(Debug, Default)]
struct Count(AtomicU64);

impl CounterFn for Count {
    fn increment(&self, value: u64) {
        self.0.fetch_add(value, Relaxed);
    }

    fn absolute(&self, value: u64) {
        self.0.fetch_max(value, Relaxed);
    }
}

/// How many there were in each bucket, the last without end, and their sum.
#[derive(Debug, Default)]
struct Times(Mutex<([u64; BUCKETS.len() + 1], f64)>);

impl Times {
    fn read(&self) -> ([u64; BUCKETS.len() + 1], f64) {
        *lock(&self.0)
    }
}

impl HistogramFn for Times {
    fn record(&self, seconds: f64) {
        let at = BUCKETS.partition_point(|end| *end < seconds);
        let (buckets, sum) = &mut *lock(&self.0);
        buckets[at] += 1;
        *sum += seconds;
    }
}

/// The labels in braces, and the upper end of a bucket among them.
fn labels(key: &Key, end: Option<&str>) -> String {
    let labels = key.labels().map(|label| (label.key(), label.value()));
    let all: Vec<_> = labels
        .chain(end.map(|end| ("le", end)))
        .map(|(name, value)| format!("{name}=\"{}\"", escaped(value)))
        .collect();
    match all.is_empty() {
        true => String::new(),
        false => format!("{{{}}}", all.join(",")),
    }
}

fn escaped(value: &str) -> String {
    value
        .replace('\\', r"\\")
        .replace('"', "\\\"")
        .replace('\n', r"\n")
}

fn line(text: &mut String, name: &str, labels: &str, value: impl std::fmt::Display) {
    // A `String` takes whatever is written.
    let _ = writeln!(text, "{name}{labels} {value}");
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_what_prometheus_reads() {
        let recorder = Recorder::default();
        metrics::with_local_recorder(&recorder, || {
            metrics::describe_counter!("visits_total", "visits so far");
            metrics::counter!("visits_total", "page" => "list").increment(2);
            metrics::counter!("visits_total", "page" => "list").increment(1);
            metrics::counter!("visits_total", "page" => "a \"b\" \\ c\nd").increment(1);
            metrics::counter!("plain_total").increment(7);
            for seconds in [0.0005, 0.0006, 0.75, 3.0] {
                metrics::histogram!("visit_seconds", "page" => "list").record(seconds);
            }
        });
        let text = recorder.render();
        let expected = r##"# TYPE plain_total counter
plain_total 7
# HELP visits_total visits so far
# TYPE visits_total counter
visits_total{page="a \"b\" \\ c\nd"} 1
visits_total{page="list"} 3
# TYPE visit_seconds histogram
visit_seconds_bucket{page="list",le="0.0005"} 1
visit_seconds_bucket{page="list",le="0.001"} 2
visit_seconds_bucket{page="list",le="0.0025"} 2
visit_seconds_bucket{page="list",le="0.005"} 2
visit_seconds_bucket{page="list",le="0.01"} 2
visit_seconds_bucket{page="list",le="0.025"} 2
visit_seconds_bucket{page="list",le="0.05"} 2
visit_seconds_bucket{page="list",le="0.1"} 2
visit_seconds_bucket{page="list",le="0.25"} 2
visit_seconds_bucket{page="list",le="0.5"} 2
visit_seconds_bucket{page="list",le="1"} 3
visit_seconds_bucket{page="list",le="+Inf"} 4
visit_seconds_sum{page="list"} 3.7511
visit_seconds_count{page="list"} 4
"##;
        assert_eq!(text, expected);
    }
}
