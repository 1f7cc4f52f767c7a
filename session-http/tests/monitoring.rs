//! The table of `docs/monitoring.md` is that of the code, the sums agree, and nothing of a visitor is in a label.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use axum::{
    Router,
    body::Body,
    http::{Request, Response, StatusCode},
    routing::get,
};
use metrics::{
    Counter, CounterFn, Gauge, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString, Unit,
};
use session_core::{
    EventInfo, MemoryStore, MeteredStore, MetricInfo, MetricKind, SessionId, Sessions, Subject,
};
use session_http::{CsrfLayer, Error, Session, SessionLayer, SessionManager};
use tokio::sync::Barrier;
use tower::ServiceExt;

const FIREFOX: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0";

fn events() -> Vec<EventInfo> {
    [session_core::EVENTS, session_http::EVENTS].concat()
}

fn metrics_of_all() -> Vec<MetricInfo> {
    [session_core::METRICS, session_http::METRICS].concat()
}

/// The cells of the table under a heading, without its first two lines.
fn table(heading: &str) -> Vec<Vec<String>> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/monitoring.md");
    let page = fs::read_to_string(page).unwrap();
    let (_, section) = page.split_once(&format!("\n## {heading}\n")).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let rows = section.lines().filter(|line| line.starts_with('|')).skip(2);
    rows.map(|row| {
        let cells = row
            .trim_start_matches('|')
            .split('|')
            .map(|cell| cell.trim().to_owned());
        cells.collect()
    })
    .collect()
}

#[test]
fn tables_of_events_are_those_of_the_code() {
    for (heading, events) in [
        ("Events of sessions", session_core::EVENTS),
        ("Events of HTTP sessions", session_http::EVENTS),
    ] {
        let documented: Vec<_> = table(heading).iter().map(|row| row[..3].join(" | ")).collect();
        let declared: Vec<_> = events
            .iter()
            .map(|event| format!("`{}` | {} | {}", event.name, event.level, event.meaning))
            .collect();
        assert_eq!(documented, declared);
    }
    let names: BTreeSet<_> = events().iter().map(|event| event.name).collect();
    assert_eq!(names.len(), events().len(), "a name stands for one event");
}

#[test]
fn table_of_metrics_is_that_of_the_code() {
    let documented: Vec<_> = table("Metrics").iter().map(|row| row[..4].join(" | ")).collect();
    let declared: Vec<_> = metrics_of_all()
        .iter()
        .map(|metric| {
            let kind = match metric.kind {
                MetricKind::Histogram => "histogram",
                _ => "counter",
            };
            let labels: Vec<_> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
            format!(
                "`{}` | {kind} | {} | {}",
                metric.name,
                labels.join(", "),
                metric.meaning
            )
        })
        .collect();
    assert_eq!(documented, declared);
}

/// What a rule asks for is there to be found.
#[test]
fn rules_for_prometheus_name_what_there_is() {
    let rules = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/prometheus/alerts.yml");
    let rules = fs::read_to_string(rules).unwrap();
    let words: BTreeSet<_> = rules
        .split(|char: char| !char.is_ascii_alphanumeric() && char != '_')
        .filter(|word| word.starts_with("session_"))
        .map(|word| word.trim_end_matches("_count").trim_end_matches("_bucket"))
        .collect();
    assert_eq!(
        words,
        BTreeSet::from(["session_events_total", "session_store_seconds"])
    );
    let asked: Vec<_> = rules
        .split("{event=\"")
        .skip(1)
        .map(|rest| rest.split('"').next().unwrap())
        .collect();
    assert!(asked.len() > 4, "{asked:?}");
    for name in asked {
        assert!(events().iter().any(|event| event.name == name), "{name}");
    }
}

/// Everything that is recorded.
#[derive(Default)]
struct Recorded {
    series: Mutex<BTreeMap<Key, Arc<Series>>>,
    described: Mutex<BTreeMap<String, (Option<Unit>, String)>>,
}

#[derive(Default)]
struct Series(AtomicU64);

impl Recorded {
    fn series(&self, key: &Key) -> Arc<Series> {
        self.series
            .lock()
            .unwrap()
            .entry(key.clone())
            .or_default()
            .clone()
    }

    fn describe(&self, name: &KeyName, unit: Option<Unit>, text: &SharedString) {
        let described = (unit, text.to_string());
        self.described
            .lock()
            .unwrap()
            .insert(name.as_str().to_owned(), described);
    }

    /// The sum of what the series of this metric counted that have all these labels.
    fn sum(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        let has = |key: &Key, (name, value): (&str, &str)| {
            key.labels()
                .any(|label| label.key() == name && label.value() == value)
        };
        let series = self.series.lock().unwrap();
        let matching = series
            .iter()
            .filter(|(key, _)| key.name() == name && labels.iter().all(|label| has(key, *label)));
        matching.map(|(_, series)| series.0.load(Relaxed)).sum()
    }

    fn event(&self, name: &str) -> u64 {
        self.sum("session_events_total", &[("event", name)]) + self.http(name)
    }

    fn http(&self, name: &str) -> u64 {
        self.sum("session_http_events_total", &[("event", name)])
    }
}

impl Recorder for Recorded {
    fn describe_counter(&self, name: KeyName, unit: Option<Unit>, text: SharedString) {
        self.describe(&name, unit, &text);
    }

    fn describe_gauge(&self, name: KeyName, _: Option<Unit>, _: SharedString) {
        panic!("{name:?}");
    }

    fn describe_histogram(&self, name: KeyName, unit: Option<Unit>, text: SharedString) {
        self.describe(&name, unit, &text);
    }

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.series(key))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        panic!("{key}")
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(self.series(key))
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
        assert!((0.0..60.0).contains(&seconds));
        self.0.fetch_add(1, Relaxed);
    }
}

/// What is recorded while `work` runs: on one thread, with all the tasks that it starts.
fn recorded<T>(work: impl Future<Output = T>) -> (Recorded, T) {
    let recorded = Recorded::default();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let done = metrics::with_local_recorder(&recorded, || runtime.block_on(work));
    (recorded, done)
}

fn site() -> Router {
    async fn write(session: Session) -> Result<&'static str, Error> {
        session.insert("wish", &"a very private wish".to_owned()).await?;
        Ok("written")
    }
    async fn log_in(session: Session) -> Result<&'static str, Error> {
        session.log_in(Subject::new("zoe@example.org").unwrap()).await?;
        Ok("in")
    }
    async fn log_out(session: Session) -> Result<&'static str, Error> {
        session.log_out().await?;
        Ok("out")
    }
    async fn read(session: Session) -> Result<String, Error> {
        Ok(session.client_changed().await?.to_string())
    }
    async fn wrong(session: Session) -> Result<&'static str, Error> {
        session.get::<u64>("wish").await?;
        Ok("?")
    }
    let both = Arc::new(Barrier::new(2));
    let count = move |session: Session| async move {
        session
            .update("count", |count: Option<u32>| count.unwrap_or(0) + 1)
            .await?;
        both.wait().await;
        Ok::<_, Error>("counted")
    };
    let store = MeteredStore::new(MemoryStore::new());
    let sessions = Sessions::builder(Arc::new(store))
        .unknown_ids_burst(3)
        .build()
        .unwrap();
    Router::new()
        .route("/write", get(write))
        .route("/count", get(count))
        .route("/login", get(log_in).post(log_in))
        .route("/logout", get(log_out))
        .route("/read", get(read))
        .route("/wrong", get(wrong))
        .layer(CsrfLayer::new())
        .layer(SessionLayer::new(SessionManager::new(sessions)))
}

async fn send(site: &Router, method: &str, path: &str, cookie: &str, agent: &str) -> Response<Body> {
    let request = Request::builder().method(method).uri(path);
    let request = request.header("cookie", cookie).header("user-agent", agent);
    let request = request.body(Body::empty()).unwrap();
    site.clone().oneshot(request).await.unwrap()
}

async fn ask(site: &Router, path: &str, id: &str) -> Response<Body> {
    send(site, "GET", path, &format!("__Host-session={id}"), FIREFOX).await
}

fn new_id(response: &Response<Body>) -> String {
    let cookie = response.headers()["set-cookie"].to_str().unwrap();
    cookie.strip_prefix("__Host-session=").unwrap()[..43].to_owned()
}

/// A visit with everything in it; the ids that there were.
async fn visit() -> Vec<String> {
    let site = site();
    let mut ids = vec![new_id(&send(&site, "GET", "/write", "", FIREFOX).await)];
    let (one, two) = tokio::join!(ask(&site, "/count", &ids[0]), ask(&site, "/count", &ids[0]));
    assert_eq!((one.status(), two.status()), (StatusCode::OK, StatusCode::OK));
    ids.push(new_id(&ask(&site, "/login", &ids[0]).await));
    // The id from before the log-in; another browser; a value of another type; a form without its token.
    ask(&site, "/read", &ids[0]).await;
    let cookie = format!("__Host-session={}", ids[1]);
    send(&site, "GET", "/read", &cookie, "curl/8.14.1").await;
    assert_eq!(
        ask(&site, "/wrong", &ids[1]).await.status(),
        StatusCode::INTERNAL_SERVER_ERROR
    );
    let forged = send(&site, "POST", "/login", &cookie, FIREFOX).await;
    assert_eq!(forged.status(), StatusCode::FORBIDDEN);
    // No id; two ids; made-up ones, more than usual.
    ask(&site, "/read", "zoe@example.org").await;
    send(
        &site,
        "GET",
        "/read",
        &format!("{cookie}; __Host-session={}", ids[0]),
        FIREFOX,
    )
    .await;
    for _ in 0..5 {
        ids.push(SessionId::random().unwrap().expose().to_string());
        ask(&site, "/read", ids.last().unwrap()).await;
    }
    ask(&site, "/logout", &ids[1]).await;
    ask(&site, "/write", &ids[1]).await;
    ids
}

#[test]
fn counts_of_a_visit_add_up() {
    let (recorded, _) = recorded(visit());
    let counts: Vec<_> = events()
        .iter()
        .map(|event| (event.name, recorded.event(event.name)))
        .filter(|(_, count)| *count > 0)
        .collect();
    assert_eq!(
        counts,
        [
            ("created", 2),
            ("loaded", 7),
            ("renewed", 1),
            ("destroyed", 1),
            ("conflict", 1),
            ("merged", 1),
            ("unknown_id", 6),
            ("retired_id", 1),
            ("client_changed", 1),
            ("unknown_ids_burst", 1),
            ("credential_malformed", 1),
            ("credential_repeated", 1),
            ("csrf_refused", 1),
            ("session_failed", 1),
        ]
    );
    let store = |call: &str, outcome: &str| {
        recorded.sum(
            "session_store_seconds",
            &[("store", "memory"), ("call", call), ("outcome", outcome)],
        )
    };
    // Two sessions, and a record for the new id; the conflict is the one of above.
    assert_eq!(store("create", "ok"), 3);
    assert_eq!(store("update", "conflict"), recorded.event("conflict"));
    assert_eq!(store("delete", "ok"), recorded.event("destroyed"));
    assert_eq!(store("load", "absent"), recorded.event("unknown_id"));
    let reason = recorded.sum(
        "session_events_total",
        &[("event", "destroyed"), ("reason", "logout")],
    );
    assert_eq!(reason, recorded.event("destroyed"));
    assert_eq!(recorded.sum("session_http_events_total", &[("status", "500")]), 1);
    assert_eq!(
        recorded.sum("session_http_events_total", &[("reason", "token_missing")]),
        1
    );
    // One for each response whose session was used and not given up.
    assert_eq!(recorded.sum("session_http_seconds", &[("outcome", "ok")]), 15);
}

#[test]
fn no_label_has_anything_of_a_visitor() {
    let (recorded, ids) = recorded(visit());
    let mut secrets = vec![
        "zoe".to_owned(),
        "wish".to_owned(),
        "cookie".to_owned(),
        "curl".to_owned(),
        "Mozilla".to_owned(),
    ];
    for id in ids {
        let key = id.parse::<SessionId>().unwrap().key("session");
        let hex: String = key.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        // A part is too much.
        secrets.extend([
            id[..6].to_owned(),
            key.to_string()[..6].to_owned(),
            hex[..8].to_owned(),
        ]);
    }
    let series = recorded.series.lock().unwrap();
    assert!(series.len() > 20, "{}", series.len());
    for key in series.keys() {
        let metric = metrics_of_all()
            .into_iter()
            .find(|metric| metric.name == key.name());
        let metric = metric.unwrap_or_else(|| panic!("{key} is documented nowhere"));
        for label in key.labels() {
            assert!(metric.labels.contains(&label.key()), "{key}");
            let value = label.value();
            assert!(
                value.len() < 24
                    && value
                        .bytes()
                        .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'),
                "{key}"
            );
            for secret in &secrets {
                assert!(!value.contains(secret.as_str()), "{key}");
            }
            if label.key() == "event" {
                assert!(events().iter().any(|event| event.name == value), "{key}");
            }
        }
    }
}

#[test]
fn recorder_is_told_what_each_metric_means() {
    let (recorded, ()) = recorded(async { metrics_of_all().iter().for_each(MetricInfo::describe) });
    let described = recorded.described.lock().unwrap();
    for metric in metrics_of_all() {
        let unit = match metric.kind {
            MetricKind::Histogram => Unit::Seconds,
            _ => Unit::Count,
        };
        assert_eq!(described[metric.name], (Some(unit), metric.meaning.to_owned()));
    }
}
