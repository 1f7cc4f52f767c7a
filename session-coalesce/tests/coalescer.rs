//! What the front page promises, with time that stands still unless everybody waits.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use proptest::prelude::*;
use session_coalesce::{Carrier, Coalescer, Failure, Limits};
use tokio::{
    sync::Semaphore,
    task::JoinHandle,
    time::{Instant, sleep},
};

const SOON: Duration = Duration::from_secs(10);

/// A call: its number, its key, and whether the batch that has it panics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Call {
    number: u32,
    key: Option<u8>,
    weight: usize,
    panics: bool,
}

fn call(number: u32) -> Call {
    Call {
        number,
        key: None,
        weight: 1,
        panics: false,
    }
}

fn keyed(number: u32, key: u8) -> Call {
    Call {
        key: Some(key),
        ..call(number)
    }
}

/// What was carried, and how.
#[derive(Default)]
struct Seen {
    batches: Mutex<Vec<Vec<Call>>>,
    /// Keys under way.
    keys: Mutex<HashSet<u8>>,
    /// Who carried each batch.
    tasks: Mutex<Vec<Option<tokio::task::Id>>>,
    under_way: AtomicUsize,
    most_under_way: AtomicUsize,
    wrong: AtomicBool,
}

/// Echoes each call's number after a while.
#[derive(Clone)]
struct Echo {
    seen: Arc<Seen>,
    takes: Duration,
    lanes: Arc<Semaphore>,
    no_lane: Arc<AtomicBool>,
    short: Arc<AtomicBool>,
}

impl Echo {
    fn new(takes: Duration) -> Self {
        Self {
            seen: Arc::default(),
            takes,
            lanes: Arc::new(Semaphore::new(1000)),
            no_lane: Arc::default(),
            short: Arc::default(),
        }
    }

    fn batches(&self) -> Vec<Vec<u32>> {
        let batches = self.seen.batches.lock().unwrap();
        batches
            .iter()
            .map(|batch| batch.iter().map(|call| call.number).collect())
            .collect()
    }
}

/// A batch that is under way, however it ends.
struct UnderWay<'a>(&'a Seen, Vec<u8>);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::SeqCst);
        let mut keys = self.0.keys.lock().unwrap();
        for key in &self.1 {
            keys.remove(key);
        }
    }
}

impl Carrier for Echo {
    type Call = Call;
    type Answer = u32;
    type Key = u8;
    type Lane = ();
    type Error = &'static str;

    fn key(call: &Call) -> Option<u8> {
        call.key
    }

    fn weight(call: &Call) -> usize {
        call.weight
    }

    async fn lane(&self) -> Result<(), &'static str> {
        self.lanes.acquire().await.unwrap().forget();
        match self.no_lane.load(Ordering::SeqCst) {
            true => Err("no lane"),
            false => Ok(()),
        }
    }

    async fn carry(&self, (): (), calls: Vec<Call>) -> Vec<u32> {
        self.lanes.add_permits(1);
        let now = self.seen.under_way.fetch_add(1, Ordering::SeqCst) + 1;
        self.seen.most_under_way.fetch_max(now, Ordering::SeqCst);
        let keys: Vec<u8> = calls.iter().filter_map(|call| call.key).collect();
        for key in &keys {
            if !self.seen.keys.lock().unwrap().insert(*key) {
                self.seen.wrong.store(true, Ordering::SeqCst);
            }
        }
        let _under_way = UnderWay(&self.seen, keys);
        self.seen.batches.lock().unwrap().push(calls.clone());
        self.seen.tasks.lock().unwrap().push(tokio::task::try_id());
        sleep(self.takes).await;
        assert!(!calls.iter().any(|call| call.panics), "on purpose");
        let skipped = usize::from(self.short.load(Ordering::SeqCst));
        calls.iter().skip(skipped).map(|call| call.number).collect()
    }
}

type Answer = Result<u32, Failure<&'static str>>;

struct Test {
    echo: Echo,
    coalescer: Arc<Coalescer<Echo>>,
}

impl Test {
    fn new(takes: Duration, limits: Limits) -> Self {
        let echo = Echo::new(takes);
        let coalescer = Arc::new(Coalescer::new(echo.clone(), limits));
        Self { echo, coalescer }
    }

    /// Begins a call, and lets everything go on that can.
    async fn begin(&self, call: Call, length: Duration) -> JoinHandle<Answer> {
        let coalescer = Arc::clone(&self.coalescer);
        let task = tokio::spawn(async move { coalescer.call(call, Instant::now() + length).await });
        settle().await;
        task
    }

    async fn is_idle(&self) -> bool {
        settle().await;
        format!("{:?}", self.coalescer).contains("waiting: 0, lanes: 0")
    }
}

/// Everything that can go on without time has gone on.
async fn settle() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

fn current_thread() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_time().build().unwrap()
}

fn one_lane() -> Limits {
    Limits::default().with_lanes(1)
}

const WHILE: Duration = Duration::from_millis(100);

#[tokio::test(start_paused = true)]
async fn call_that_finds_a_free_lane_goes_at_once_and_others_go_together_afterwards() {
    let test = Test::new(WHILE, one_lane());
    let mut tasks = Vec::new();
    for number in 0..5 {
        tasks.push(test.begin(call(number), SOON).await);
        assert_eq!(test.echo.batches().len(), 1);
    }
    for (task, number) in tasks.into_iter().zip(0..) {
        assert_eq!(task.await.unwrap(), Ok(number));
    }
    assert_eq!(test.echo.batches(), [vec![0], vec![1, 2, 3, 4]]);
    assert!(test.is_idle().await);
}

/// Else the first of those who are answered would travel alone, and the others find its lane taken.
#[tokio::test(start_paused = true)]
async fn callers_who_call_again_share_the_lanes_evenly() {
    for (callers, lanes, least, share) in [
        (64, 2, 16, 32),
        (64, 1, 16, 64),
        (60, 4, 16, 16),
        (60, 4, 60, 60),
        (10, 2, 16, 10),
    ] {
        let limits = Limits::default().with_lanes(lanes).with_share(least);
        let test = Test::new(WHILE, limits);
        let tasks: Vec<_> = (0..callers)
            .map(|caller| {
                let coalescer = Arc::clone(&test.coalescer);
                tokio::spawn(async move {
                    for round in 0..10 {
                        let number = round * callers + caller;
                        let answer = coalescer.call(call(number), Instant::now() + SOON).await;
                        assert_eq!(answer, Ok(number));
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        let batches = test.echo.batches();
        let whole = batches.iter().filter(|batch| batch.len() == share).count();
        assert!(batches.iter().all(|batch| batch.len() <= share), "{batches:?}");
        assert!(whole * share >= 7 * callers as usize, "{batches:?}");
        assert!(test.is_idle().await);
    }
}

/// What it costs to wake another task is most of what a call costs on a server nearby.
#[tokio::test(start_paused = true)]
async fn lone_call_needs_no_task_of_its_own() {
    let test = Test::new(WHILE, Limits::default());
    let coalescer = Arc::clone(&test.coalescer);
    let length = Duration::from_secs(1);
    let task = tokio::spawn(async move {
        for number in 0..3 {
            assert_eq!(
                coalescer.call(call(number), Instant::now() + length).await,
                Ok(number)
            );
        }
        tokio::task::id()
    });
    let own = task.await.unwrap();
    let tasks = test.echo.seen.tasks.lock().unwrap().clone();
    assert_eq!(tasks, [Some(own); 3]);
}

/// A future may be kept, as `select!` does, and not polled while another one is awaited.
#[tokio::test(start_paused = true)]
async fn call_that_is_kept_and_not_polled_keeps_nobody_waiting() {
    let test = Test::new(WHILE, one_lane());
    let deadline = Instant::now() + Duration::from_secs(1);
    let mut kept = Box::pin(test.coalescer.call(keyed(1, 7), deadline));
    assert!(answered_at_once(&mut kept).await.is_none());
    assert_eq!(test.coalescer.call(keyed(2, 7), deadline).await, Ok(2));
    assert_eq!(test.coalescer.call(call(3), deadline).await, Ok(3));
    assert_eq!(kept.await, Ok(1));
    assert_eq!(test.echo.batches(), [vec![1], vec![2], vec![3]]);
}

/// What a future answers at once, if it does.
async fn answered_at_once<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    std::future::poll_fn(|context| {
        std::task::Poll::Ready(match std::pin::Pin::new(&mut *future).poll(context) {
            std::task::Poll::Ready(answer) => Some(answer),
            std::task::Poll::Pending => None,
        })
    })
    .await
}

/// Connecting goes on for those who come later.
#[tokio::test(start_paused = true)]
async fn lone_call_that_is_dropped_before_there_is_a_lane_is_not_sent_and_its_wait_goes_on() {
    let test = Test::new(WHILE, one_lane());
    test.echo.lanes.forget_permits(1000);
    let first = test.begin(call(1), Duration::from_secs(1)).await;
    first.abort();
    settle().await;
    assert!(!test.is_idle().await);
    let second = test.begin(call(2), Duration::from_secs(1)).await;
    // One for the wait that goes on, which gives its lane up.
    test.echo.lanes.add_permits(2);
    assert_eq!(second.await.unwrap(), Ok(2));
    assert!(test.is_idle().await);
    assert_eq!(test.echo.batches(), [vec![2]]);
}

#[tokio::test(start_paused = true)]
async fn lone_call_that_is_late_tells_whether_it_was_sent() {
    let test = Test::new(WHILE * 2, one_lane());
    let sent = test.begin(call(1), WHILE).await;
    assert_eq!(sent.await.unwrap(), Err(Failure::NotAnswered));
    sleep(WHILE * 2).await;
    assert!(test.is_idle().await);
    test.echo.lanes.forget_permits(1000);
    let waiting = test.begin(call(2), WHILE).await;
    assert_eq!(waiting.await.unwrap(), Err(Failure::NotSent));
    test.echo.lanes.add_permits(1);
    assert!(test.is_idle().await);
    assert_eq!(test.echo.batches(), [vec![1]]);
    test.echo.no_lane.store(true, Ordering::SeqCst);
    test.echo.lanes.add_permits(1);
    let refused = test.begin(call(3), WHILE).await;
    assert_eq!(refused.await.unwrap(), Err(Failure::NoLane("no lane")));
}

/// At the very moment of the deadline, too, a caller that is told so is right.
#[tokio::test(start_paused = true)]
async fn lone_call_whose_lane_comes_too_late_is_not_sent() {
    let test = Test::new(WHILE, one_lane());
    test.echo.lanes.forget_permits(1000);
    let lanes = Arc::clone(&test.echo.lanes);
    tokio::spawn(async move {
        sleep(WHILE).await;
        lanes.add_permits(1);
    });
    let late = test.begin(call(1), WHILE).await;
    assert_eq!(late.await.unwrap(), Err(Failure::NotSent));
    assert!(test.is_idle().await);
    assert!(test.echo.batches().is_empty());
}

#[tokio::test(start_paused = true)]
async fn calls_of_one_key_go_one_after_the_other_and_others_pass_them_by() {
    let test = Test::new(WHILE, Limits::default());
    let mut tasks = Vec::new();
    for (number, key) in [(0, 7), (1, 7), (2, 7), (3, 8)] {
        tasks.push(test.begin(keyed(number, key), SOON).await);
    }
    for (task, number) in tasks.into_iter().zip(0..) {
        assert_eq!(task.await.unwrap(), Ok(number));
    }
    assert_eq!(test.echo.batches(), [vec![0], vec![3], vec![1], vec![2]]);
    assert!(!test.echo.seen.wrong.load(Ordering::SeqCst));
}

#[tokio::test(start_paused = true)]
async fn batch_has_its_bounds_and_a_heavy_call_travels_alone() {
    let test = Test::new(WHILE, one_lane().with_batch(3).with_weight(10));
    let weights = [1, 1, 1, 1, 5, 6, 100, 1];
    let mut tasks = Vec::new();
    for (weight, number) in weights.into_iter().zip(0..) {
        tasks.push(
            test.begin(
                Call {
                    weight,
                    ..call(number)
                },
                SOON,
            )
            .await,
        );
    }
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    assert_eq!(
        test.echo.batches(),
        [vec![0], vec![1, 2, 3], vec![4], vec![5], vec![6], vec![7]]
    );
}

#[tokio::test(start_paused = true)]
async fn dropped_call_is_not_sent_and_the_next_of_its_key_takes_its_turn() {
    let test = Test::new(WHILE, one_lane());
    let first = test.begin(call(0), SOON).await;
    let dropped = test.begin(keyed(1, 7), SOON).await;
    let parked = test.begin(keyed(2, 7), SOON).await;
    let last = test.begin(keyed(3, 7), SOON).await;
    dropped.abort();
    parked.abort();
    settle().await;
    assert_eq!(first.await.unwrap(), Ok(0));
    assert_eq!(last.await.unwrap(), Ok(3));
    assert_eq!(test.echo.batches(), [vec![0], vec![3]]);
    assert!(test.is_idle().await);
}

#[tokio::test(start_paused = true)]
async fn call_that_is_dropped_after_it_was_sent_disturbs_nobody() {
    let test = Test::new(WHILE, one_lane());
    let first = test.begin(call(0), SOON).await;
    let (dropped, other) = (test.begin(call(1), SOON).await, test.begin(call(2), SOON).await);
    first.await.unwrap().unwrap();
    settle().await;
    dropped.abort();
    assert_eq!(other.await.unwrap(), Ok(2));
    assert_eq!(test.echo.batches(), [vec![0], vec![1, 2]]);
}

#[tokio::test(start_paused = true)]
async fn deadline_tells_whether_the_call_was_sent_and_frees_the_lane() {
    let test = Test::new(Duration::from_secs(1_000_000), one_lane());
    let sent = test.begin(keyed(0, 7), WHILE * 2).await;
    let waiting = test.begin(call(1), WHILE).await;
    let parked = test.begin(keyed(2, 7), WHILE).await;
    assert_eq!(waiting.await.unwrap(), Err(Failure::NotSent));
    assert_eq!(parked.await.unwrap(), Err(Failure::NotSent));
    let failure = sent.await.unwrap().unwrap_err();
    assert!(failure.may_have_arrived() && failure == Failure::NotAnswered);
    // The batch was dropped with its last caller.
    assert!(test.is_idle().await);
    let next = test.begin(keyed(3, 7), WHILE).await;
    assert_eq!(test.echo.batches(), [vec![0], vec![3]]);
    assert_eq!(next.await.unwrap(), Err(Failure::NotAnswered));
}

#[tokio::test(start_paused = true)]
async fn panic_and_missing_answers_are_lost_for_their_batch_alone() {
    let test = Test::new(WHILE, one_lane());
    let first = test.begin(keyed(0, 7), SOON).await;
    let bad = test
        .begin(
            Call {
                panics: true,
                ..keyed(1, 7)
            },
            SOON,
        )
        .await;
    let beside = test.begin(call(2), SOON).await;
    let later = test.begin(keyed(3, 7), SOON).await;
    assert_eq!(first.await.unwrap(), Ok(0));
    assert_eq!(beside.await.unwrap().unwrap_or(2), 2);
    assert_eq!(bad.await.unwrap(), Err(Failure::Lost));
    assert_eq!(later.await.unwrap(), Ok(3));

    test.echo.short.store(true, Ordering::SeqCst);
    assert_eq!(test.begin(call(4), SOON).await.await.unwrap(), Err(Failure::Lost));
    test.echo.short.store(false, Ordering::SeqCst);
    assert_eq!(test.begin(call(5), SOON).await.await.unwrap(), Ok(5));
    assert!(test.is_idle().await);
}

#[tokio::test(start_paused = true)]
async fn no_lane_fails_those_who_waited_for_it_and_not_those_who_came_later() {
    let test = Test::new(WHILE, one_lane());
    test.echo.lanes.forget_permits(1000);
    test.echo.no_lane.store(true, Ordering::SeqCst);
    let early = test.begin(keyed(0, 7), SOON).await;
    let late = test.begin(keyed(1, 7), SOON).await;
    test.echo.lanes.add_permits(1);
    assert_eq!(early.await.unwrap(), Err(Failure::NoLane("no lane")));
    test.echo.no_lane.store(false, Ordering::SeqCst);
    test.echo.lanes.add_permits(1);
    assert_eq!(late.await.unwrap(), Ok(1));
    assert!(test.is_idle().await);
}

#[tokio::test(start_paused = true)]
async fn only_so_many_wait() {
    let test = Test::new(WHILE, one_lane().with_waiting(2));
    let sent = test.begin(call(0), SOON).await;
    let waiting = [test.begin(call(1), SOON).await, test.begin(call(2), SOON).await];
    assert_eq!(test.begin(call(3), SOON).await.await.unwrap(), Err(Failure::Full));
    for task in waiting.into_iter().chain([sent]) {
        task.await.unwrap().unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn closing_waits_for_the_last_call_and_takes_no_other() {
    let test = Test::new(WHILE, one_lane());
    let tasks = [test.begin(call(0), SOON).await, test.begin(call(1), SOON).await];
    let coalescer = Arc::clone(&test.coalescer);
    let closing = tokio::spawn(async move { coalescer.close().await });
    settle().await;
    assert_eq!(
        test.begin(call(2), SOON).await.await.unwrap(),
        Err(Failure::Closed)
    );
    assert!(!closing.is_finished());
    for task in tasks {
        assert!(!closing.is_finished());
        task.await.unwrap().unwrap();
    }
    closing.await.unwrap();
    test.coalescer.close().await;
    assert_eq!(test.echo.batches(), [vec![0], vec![1]]);
}

#[tokio::test(start_paused = true)]
async fn flood_of_one_key_keeps_nobody_else_waiting() {
    let test = Test::new(WHILE, one_lane().with_batch(8));
    let mut flood = Vec::new();
    for number in 0..100 {
        flood.push(test.begin(keyed(number, 7), SOON * 10).await);
    }
    let other = test.begin(keyed(1000, 8), SOON).await;
    assert_eq!(other.await.unwrap(), Ok(1000));
    assert_eq!(test.echo.batches()[..2], [vec![0], vec![1, 1000]]);
    for task in flood {
        task.await.unwrap().unwrap();
    }
}

/// The batch ends with its runtime; who calls from another one goes on.
#[test]
fn runtime_that_ends_loses_its_batch_and_no_other() {
    let test = Test::new(Duration::from_millis(1), one_lane());
    let slow = Test::new(Duration::from_secs(3600), one_lane());
    let other = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    for test in [&slow, &test] {
        let ending = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        ending.block_on(async { drop(test.begin(call(0), SOON).await) });
        drop(ending);
    }
    let (echo, coalescer) = (slow.echo.clone(), Arc::clone(&slow.coalescer));
    let answer = other.block_on(async move { coalescer.call(call(1), Instant::now() + WHILE).await });
    // The lane of the batch that was lost is free again.
    assert_eq!(answer, Err(Failure::NotAnswered));
    assert_eq!(echo.batches(), [vec![0], vec![1]]);
    let coalescer = Arc::clone(&test.coalescer);
    let answer = other.block_on(async move { coalescer.call(call(2), Instant::now() + SOON).await });
    assert_eq!(answer, Ok(2));
}

/// As in a program that is not asynchronous itself, and waits for one answer after the other.
#[test]
fn runtime_that_is_not_driven_any_more_stops_nobody() {
    let test = Test::new(Duration::from_millis(1), one_lane());
    let together = async |count: u32| {
        let tasks: Vec<_> = (0..count)
            .map(|number| {
                let coalescer = Arc::clone(&test.coalescer);
                tokio::spawn(async move { coalescer.call(call(number), Instant::now() + SOON).await })
            })
            .collect();
        for (task, number) in tasks.into_iter().zip(0..) {
            assert_eq!(task.await.unwrap(), Ok(number));
        }
    };
    let (one, other) = (current_thread(), current_thread());
    for _ in 0..10 {
        one.block_on(together(5));
        other.block_on(together(1));
        one.block_on(together(5));
        other.block_on(together(5));
    }
    drop(one);
    other.block_on(together(5));
    other.block_on(test.coalescer.close());
}

/// A batch ends on a runtime that has nothing else to do: what waits elsewhere goes on there.
#[test]
fn batch_that_ends_on_a_runtime_that_stops_leaves_nobody_waiting() {
    for count in [2, 3] {
        let test = Test::new(Duration::from_millis(20), one_lane());
        let stops = current_thread();
        std::thread::scope(|scope| {
            let other = scope.spawn(|| {
                // The batch after the lone call is under way.
                while test.echo.batches().len() < 2 {
                    std::thread::yield_now();
                }
                current_thread().block_on(test.coalescer.call(call(9), Instant::now() + SOON))
            });
            // Not as tasks: the runtime stops as soon as the last is answered.
            let answers = stops.block_on(async {
                let [one, two, three] =
                    [0, 1, 2].map(|number| test.coalescer.call(call(number), Instant::now() + SOON));
                match count {
                    2 => Vec::from(<[_; 2]>::from(tokio::join!(one, two))),
                    _ => Vec::from(<[_; 3]>::from(tokio::join!(one, two, three))),
                }
            });
            assert!(answers.into_iter().eq((0..count).map(Ok)));
            assert_eq!(other.join().unwrap(), Ok(9), "{count}");
        });
        drop(stops);
    }
}

/// A task waits for a lane where nobody waits for a call any more, and nobody drives it.
#[test]
fn task_that_stands_still_is_replaced() {
    let test = Test::new(Duration::from_millis(1), Limits::default().with_lanes(2));
    test.echo.lanes.forget_permits(1000);
    let (stops, other) = (current_thread(), current_thread());
    let given_up = stops.block_on(async {
        let [one, two] = [0, 1].map(|number| test.coalescer.call(call(number), Instant::now() + SOON));
        tokio::time::timeout(Duration::from_millis(20), async { tokio::join!(one, two) }).await
    });
    assert!(given_up.is_err());
    // For each of the two that stand still, and for this one.
    test.echo.lanes.add_permits(3);
    let answer = other.block_on(test.coalescer.call(call(2), Instant::now() + SOON));
    assert_eq!(answer, Ok(2));
    // Those take nothing from anybody when they go on.
    stops.block_on(async {
        settle().await;
        let answer = test.coalescer.call(call(3), Instant::now() + SOON).await;
        assert_eq!(answer, Ok(3));
    });
    assert_eq!(test.echo.batches(), [vec![2], vec![3]]);
    other.block_on(test.coalescer.close());
}

/// Runtimes end under load, two at a time: what they had under way is `Lost`, and whoever calls from another one is answered.
#[test]
fn runtimes_that_end_under_load_stop_nobody() {
    let runtime = || {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap()
    };
    let (test, staying) = (
        Test::new(Duration::from_micros(100), Limits::default().with_batch(8)),
        runtime(),
    );
    let (ended, watched) = std::sync::mpsc::channel();
    let coalescer = Arc::clone(&test.coalescer);
    std::thread::spawn(move || {
        for round in 0..100_u32 {
            let leaving = [runtime(), runtime()];
            for (at, runtime) in (1_u32..).zip(&leaving) {
                for caller in 0..16 {
                    let coalescer = Arc::clone(&coalescer);
                    runtime.spawn(async move {
                        loop {
                            let _ = coalescer
                                .call(keyed(at * 100 + caller, caller as u8 % 8), Instant::now() + SOON)
                                .await;
                        }
                    });
                }
            }
            let all: Vec<_> = (0..200)
                .map(|number| {
                    let coalescer = Arc::clone(&coalescer);
                    staying.spawn(async move {
                        match coalescer.call(call(1000 + number), Instant::now() + SOON).await {
                            Ok(answer) => assert_eq!(answer, 1000 + number),
                            Err(failure) => assert_eq!(failure, Failure::Lost),
                        }
                    })
                })
                .collect();
            std::thread::sleep(Duration::from_micros(u64::from(round) * 20));
            leaving
                .into_iter()
                .for_each(tokio::runtime::Runtime::shutdown_background);
            staying.block_on(async {
                for task in all {
                    task.await.unwrap();
                }
            });
        }
        let _ = ended.send(());
    });
    watched
        .recv_timeout(Duration::from_secs(120))
        .expect("a caller waits for ever, or has failed");
}

/// Calls on several threads, some dropped, some late, some that panic: nobody is forgotten, nobody gets another's answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_is_lost_or_mixed_up_under_stress() {
    let test = Test::new(Duration::from_micros(200), Limits::default().with_batch(16));
    let mut tasks = Vec::new();
    for number in 0..10_000_u32 {
        let coalescer = Arc::clone(&test.coalescer);
        tasks.push(tokio::spawn(async move {
            let call = Call {
                panics: number % 997 == 0,
                key: (number % 3 == 0).then_some((number % 11) as u8),
                ..call(number)
            };
            let length = Duration::from_millis(if number % 5 == 0 { 5 } else { 60_000 });
            let calling = coalescer.call(call, Instant::now() + length);
            if number % 7 == 0 {
                let _ = tokio::time::timeout(Duration::from_micros(u64::from(number % 900)), calling).await;
                return;
            }
            match calling.await {
                Ok(answer) => assert_eq!(answer, number),
                Err(Failure::Lost) => {}
                Err(Failure::NotSent | Failure::NotAnswered) if number % 5 == 0 => {}
                Err(failure) => panic!("{number}: {failure}"),
            }
        }));
        if number % 64 == 0 {
            tokio::task::yield_now().await;
        }
    }
    for task in tasks {
        task.await.unwrap();
    }
    test.coalescer.close().await;
    assert!(test.is_idle().await);
    assert!(!test.echo.seen.wrong.load(Ordering::SeqCst));
    assert!(test.echo.seen.most_under_way.load(Ordering::SeqCst) <= 4);
    assert!(test.echo.seen.keys.lock().unwrap().is_empty());
}

#[derive(Debug, Clone)]
struct Planned {
    at: u64,
    key: Option<u8>,
    length: u64,
    drop_after: Option<u64>,
    weight: usize,
    panics: bool,
}

fn planned() -> impl Strategy<Value = Planned> {
    let key = prop_oneof![Just(None), (0..3_u8).prop_map(Some)];
    let drop_after = prop_oneof![4 => Just(None), 1 => (0..80_u64).prop_map(Some)];
    let panics = prop::bool::weighted(0.03);
    (0..100_u64, key, 1..200_u64, drop_after, 1..5_usize, panics).prop_map(
        |(at, key, length, drop_after, weight, panics)| Planned {
            at,
            key,
            length,
            drop_after,
            weight,
            panics,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_schedule_keeps_order_bounds_and_answers(
        mut plan in prop::collection::vec(planned(), 1..40),
        lanes in 1..4_usize,
        batch in 1..6_usize,
        takes in 1..30_u64,
    ) {
        plan.sort_by_key(|planned| planned.at);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let limits = Limits::default().with_lanes(lanes).with_batch(batch).with_weight(8);
            let test = Test::new(Duration::from_millis(takes), limits);
            let begun = Instant::now();
            let mut tasks = Vec::new();
            for (number, planned) in (0_u32..).zip(plan.clone()) {
                tokio::time::sleep_until(begun + Duration::from_millis(planned.at)).await;
                let coalescer = Arc::clone(&test.coalescer);
                tasks.push(tokio::spawn(async move {
                    let made = Call { number, key: planned.key, weight: planned.weight, panics: planned.panics };
                    let calling = coalescer.call(made, Instant::now() + Duration::from_millis(planned.length));
                    match planned.drop_after {
                        None => Some(calling.await),
                        Some(after) => tokio::time::timeout(Duration::from_millis(after), calling).await.ok(),
                    }
                }));
                settle().await;
            }
            let mut answers = Vec::new();
            for task in tasks {
                answers.push(task.await.unwrap());
            }
            // A batch goes on when its callers have gone.
            test.coalescer.close().await;
            assert!(test.is_idle().await, "{:?}", test.coalescer);
            let batches = test.echo.seen.batches.lock().unwrap().clone();
            let sent: Vec<Call> = batches.iter().flatten().copied().collect();
            assert!(!test.echo.seen.wrong.load(Ordering::SeqCst), "two calls of one key were under way");
            assert!(test.echo.seen.most_under_way.load(Ordering::SeqCst) <= lanes);
            for batch_of in &batches {
                assert!(batch_of.len() <= batch);
                assert!(batch_of.len() == 1 || batch_of.iter().map(|call| call.weight).sum::<usize>() <= 8);
                assert!(batch_of.is_sorted_by_key(|call| call.number));
            }
            // Each key's calls were sent in the order in which they came.
            for key in 0..3 {
                assert!(sent.iter().filter(|call| call.key == Some(key)).is_sorted_by_key(|call| call.number));
            }
            for (number, answer) in (0_u32..).zip(&answers) {
                let times = sent.iter().filter(|call| call.number == number).count();
                match answer {
                    Some(Ok(answer)) => assert_eq!((*answer, times), (number, 1)),
                    Some(Err(Failure::NotSent)) => assert_eq!(times, 0),
                    Some(Err(Failure::NotAnswered | Failure::Lost)) => assert_eq!(times, 1),
                    Some(Err(failure)) => panic!("{failure:?}"),
                    None => assert!(times <= 1),
                }
            }
        });
    }
}
