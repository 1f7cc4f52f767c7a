use std::{
    io::ErrorKind,
    sync::atomic::{AtomicUsize, Ordering},
};

use tokio::io::{AsyncBufReadExt, BufReader};

use super::{
    fault::{Faults, Of},
    *,
};

/// A server that says each line back, and how many it has heard.
async fn server() -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, heard) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
    let count = Arc::clone(&heard);
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let count = Arc::clone(&count);
            tokio::spawn(async move {
                let mut client = BufReader::new(client);
                let mut line = String::new();
                while client.read_line(&mut line).await.is_ok_and(|length| length > 0) {
                    count.fetch_add(1, Ordering::SeqCst);
                    client.write_all(line.as_bytes()).await.unwrap();
                    line.clear();
                }
            });
        }
    });
    (address, heard)
}

fn line(bytes: &[u8]) -> Option<usize> {
    bytes.iter().position(|byte| *byte == b'\n').map(|at| at + 1)
}

/// Proxy, client and server.
struct Scene {
    proxy: Proxy,
    client: BufReader<TcpStream>,
    heard: Arc<AtomicUsize>,
}

impl Scene {
    async fn new() -> Self {
        let (address, heard) = server().await;
        let proxy = Proxy::start(&[address], line, 7).await.unwrap();
        let client = connect(&proxy).await;
        let mut scene = Self { proxy, client, heard };
        assert_eq!(scene.ask("first\n").await, "first\n");
        scene
    }

    async fn say(&mut self, text: &str) {
        self.client.write_all(text.as_bytes()).await.unwrap();
    }

    async fn hear(&mut self) -> String {
        let mut reply = String::new();
        self.client.read_line(&mut reply).await.unwrap();
        reply
    }

    async fn ask(&mut self, text: &str) -> String {
        self.say(text).await;
        self.hear().await
    }

    /// The connection ends in a reset.
    async fn is_reset(&mut self) {
        let end = self.client.read_line(&mut String::new()).await;
        assert_eq!(end.unwrap_err().kind(), ErrorKind::ConnectionReset);
    }

    fn heard(&self) -> usize {
        self.heard.load(Ordering::SeqCst)
    }

    async fn happens(&self, times: usize) {
        while self.proxy.happened() < times {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

async fn connect(proxy: &Proxy) -> BufReader<TcpStream> {
    BufReader::new(TcpStream::connect(proxy.addresses()[0]).await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn refuses_those_that_are_there_and_those_that_come() {
    let mut scene = Scene::new().await;
    scene.proxy.always(Fault::Refuse);
    scene.is_reset().await;
    // The system may tell it at once, or at the first byte.
    if let Ok(mut refused) = TcpStream::connect(scene.proxy.addresses()[0]).await {
        assert!(matches!(refused.read(&mut [0]).await, Ok(0) | Err(_)));
    }
    scene.happens(2).await;
    scene.proxy.lift();
    scene.client = connect(&scene.proxy).await;
    assert_eq!(scene.ask("back\n").await, "back\n");
    assert_eq!(scene.proxy.connections(), 3);
}

/// Its task may find a request, or a reply, before it hears that it is to end.
#[test]
fn nothing_passes_on_a_connection_that_is_about_to_be_refused() {
    let faults = Faults::new(7);
    faults.arm(Fault::Refuse, 0..usize::MAX, None);
    for of in [Of::Request, Of::Reply] {
        assert_eq!(faults.befall(of), Some(Fault::Refuse));
    }
    faults.lift();
    assert_eq!(faults.befall(Of::Request), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn hangs_and_is_late() {
    let mut scene = Scene::new().await;
    scene.proxy.always(Fault::Hang);
    scene.say("late\n").await;
    scene.happens(1).await;
    assert_eq!(scene.heard(), 1);
    scene.proxy.lift();
    assert_eq!(scene.hear().await, "late\n");

    scene.proxy.always(Fault::Mute);
    scene.say("later\n").await;
    scene.happens(1).await;
    assert_eq!(scene.heard(), 3);
    scene.proxy.lift();
    assert_eq!(scene.hear().await, "later\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_request_was_never_heard_and_lost_reply_was() {
    let mut scene = Scene::new().await;
    scene.proxy.arm(Fault::LoseRequest, 0..1);
    scene.say("lost\n").await;
    scene.is_reset().await;
    assert_eq!((scene.proxy.happened(), scene.heard()), (1, 1));

    scene.client = connect(&scene.proxy).await;
    scene.proxy.arm(Fault::LoseReply, 1..2);
    assert_eq!(scene.ask("one\n").await, "one\n");
    assert_eq!(scene.proxy.happened(), 0);
    scene.say("two\n").await;
    scene.is_reset().await;
    assert_eq!((scene.proxy.happened(), scene.heard()), (1, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn held_request_is_heard_when_it_is_delivered() {
    let mut scene = Scene::new().await;
    scene.proxy.arm(Fault::HoldRequest, 0..1);
    scene.say("held\n").await;
    scene.is_reset().await;
    assert_eq!(scene.heard(), 1);
    assert_eq!(scene.proxy.deliver().await, 1);
    assert_eq!(scene.heard(), 2);
    assert_eq!(scene.proxy.deliver().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn cut_reply_ends_with_the_connection() {
    for (permille, left) in [(0, ""), (500, "01234"), (1000, "012345678")] {
        let mut scene = Scene::new().await;
        scene.proxy.arm(Fault::CutReply { permille }, 0..1);
        assert_eq!(scene.ask("012345678\n").await, left);
        assert_eq!(scene.hear().await, "");
        assert_eq!(scene.proxy.happened(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_come_one_by_one() {
    let mut scene = Scene::new().await;
    scene.proxy.always(Fault::ByteByByte);
    // A reader that comes late finds all of them.
    for _ in 0..100 {
        scene.say("0123\n").await;
        let mut reads: Vec<Vec<u8>> = Vec::new();
        while !reads.concat().ends_with(b"\n") {
            let mut some = vec![0; 64];
            let length = scene.client.get_mut().read(&mut some).await.unwrap();
            some.truncate(length);
            reads.push(some);
        }
        assert_eq!(reads.concat(), b"0123\n");
        if reads.len() > 1 {
            return;
        }
    }
    panic!("they came together, each time");
}

#[tokio::test(flavor = "multi_thread")]
async fn replies_get_out_of_step() {
    for (fault, expected) in [
        (Fault::DropReply, ["two\n", "three\n"].as_slice()),
        (Fault::RepeatReply, &["one\n", "one\n", "two\n", "three\n"]),
        (Fault::SwapReplies, &["two\n", "one\n", "three\n"]),
    ] {
        let mut scene = Scene::new().await;
        scene.proxy.arm(fault, 0..1);
        scene.say("one\ntwo\nthree\n").await;
        for reply in expected {
            assert_eq!(scene.hear().await, *reply);
        }
        assert_eq!(scene.proxy.happened(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_ones_arrive_and_the_seed_repeats_their_delays() {
    let mut scene = Scene::new().await;
    let most = Duration::from_millis(5);
    for fault in [Fault::SlowRequest { most }, Fault::SlowReply { most }] {
        scene.proxy.always(fault);
        assert_eq!(scene.ask("slow\n").await, "slow\n");
        assert_eq!(scene.proxy.happened(), 1);
    }
    let delays = |seed| {
        let faults = Faults::new(seed);
        std::array::from_fn::<_, 20, _>(|_| faults.delay(most))
    };
    assert_eq!(delays(3), delays(3));
    assert_ne!(delays(3), delays(4));
    assert!(delays(3).iter().all(|delay| *delay <= most));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_fault_follows_another() {
    let mut scene = Scene::new().await;
    scene.proxy.arm_then(Fault::DropReply, 0..1, Fault::Hang);
    scene.say("dropped\n").await;
    scene.happens(1).await;
    scene.say("hangs\n").await;
    scene.happens(2).await;
    assert_eq!(scene.heard(), 2);
    scene.proxy.lift();
    assert_eq!(scene.hear().await, "hangs\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_server_has_its_address() {
    let ((one, heard_one), (two, heard_two)) = (server().await, server().await);
    let proxy = Proxy::start(&[one, two], line, 7).await.unwrap();
    assert_eq!(proxy.addresses().len(), 2);
    let mut client = BufReader::new(TcpStream::connect(proxy.addresses()[1]).await.unwrap());
    client.write_all(b"two\n").await.unwrap();
    let mut reply = String::new();
    client.read_line(&mut reply).await.unwrap();
    let heard = [heard_one, heard_two].map(|heard| heard.load(Ordering::SeqCst));
    assert_eq!((reply.as_str(), heard), ("two\n", [0, 1]));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_left_when_it_is_dropped() {
    let scene = Scene::new().await;
    scene.proxy.always(Fault::Hang);
    let (address, shared) = (scene.proxy.addresses()[0], Arc::downgrade(&scene.proxy.shared));
    let mut client = scene.client;
    drop(scene.proxy);
    assert!(matches!(
        client.read_line(&mut String::new()).await,
        Ok(0) | Err(_)
    ));
    // Its tasks end a moment later.
    while shared.strong_count() > 0 || TcpStream::connect(address).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
