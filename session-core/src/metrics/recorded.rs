//! A recorder for tests.

use std::{
    collections::BTreeMap,
    pin::pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker},
};

use metrics::{
    Counter, CounterFn, Gauge, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString, Unit,
};

/// What is recorded while `work` runs, without a runtime: each metric with the values of its labels in their order, and how
/// often a counter counted or a time was measured.
pub(crate) fn recorded(work: impl Future<Output = ()>) -> BTreeMap<String, u64> {
    let all = All::default();
    metrics::with_local_recorder(&all, || run(work));
    let all = all.0.into_inner().unwrap();
    all.into_iter()
        .map(|(name, series)| (name, series.0.load(Relaxed)))
        .collect()
}

/// Polls until it is done.
pub(crate) fn run<T>(work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    loop {
        if let Poll::Ready(done) = work.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return done;
        }
    }
}

#[derive(Default)]
struct All(Mutex<BTreeMap<String, Arc<Series>>>);

#[derive(Default)]
struct Series(AtomicU64);

impl All {
    fn series(&self, key: &Key, labels: &[&str]) -> Arc<Series> {
        let mut name = key.name().to_owned();
        for label in key.labels() {
            assert!(labels.contains(&label.key()), "{key}");
            let value = label.value();
            // Nothing of a visitor's looks like this.
            let is_word = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
            assert!(value.len() < 24 && value.bytes().all(is_word), "{key}");
            name = format!("{name} {value}");
        }
        self.0.lock().unwrap().entry(name).or_default().clone()
    }
}

impl Recorder for All {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.series(key, &["event", "reason"]))
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        panic!("no gauge is recorded")
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(self.series(key, &["store", "call", "outcome"]))
    }
}

impl CounterFn for Series {
    fn increment(&self, value: u64) {
        self.0.fetch_add(value, Relaxed);
    }

    fn absolute(&self, _: u64) {
        panic!("counters are only added to")
    }
}

impl HistogramFn for Series {
    fn record(&self, seconds: f64) {
        assert!((0.0..60.0).contains(&seconds), "{seconds}");
        self.0.fetch_add(1, Relaxed);
    }
}
