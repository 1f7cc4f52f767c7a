//! A server that says what it is told to say.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use session_core::{ErrorKind, Record, SessionStore};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use crate::support::{HOUR, key, kind, patient};

const SETTINGS: &str = "STAT cas_enabled yes\r\nSTAT item_size_max 1048576\r\nEND\r\n";

/// Answers a command line with what is sent back; `None`: as a server does.
type Script = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

type Items = Arc<Mutex<HashMap<String, (u64, Vec<u8>)>>>;

/// The address of a server that follows a script.
async fn serve(script: impl Fn(&str) -> Option<String> + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (script, items): (Script, Items) = (Arc::new(script), Arc::default());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(talk(stream, Arc::clone(&script), Arc::clone(&items)));
        }
    });
    address
}

async fn talk(stream: TcpStream, script: Script, items: Items) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        let line = line.trim_end();
        let words: Vec<&str> = line.split(' ').collect();
        let mut value = Vec::new();
        if words[0] == "ms" {
            value = vec![0; words[2].parse::<usize>().unwrap() + 2];
            stream.read_exact(&mut value).await?;
            value.truncate(value.len() - 2);
        }
        let reply = match script(line) {
            Some(reply) => reply.into_bytes(),
            None => answer(&words, value, &mut items.lock().unwrap()),
        };
        stream.get_mut().write_all(&reply).await?;
    }
}

/// As much of a server as these tests need.
fn answer(words: &[&str], value: Vec<u8>, items: &mut HashMap<String, (u64, Vec<u8>)>) -> Vec<u8> {
    let flag = |letter: char| words.iter().skip(2).find(|word| word.starts_with(letter));
    let opaque = flag('O').map_or(String::new(), |word| format!(" {word}"));
    let count = items.len() as u64;
    match words {
        ["stats", ..] => SETTINGS.as_bytes().to_vec(),
        ["mn"] => b"MN\r\n".to_vec(),
        ["mg", name, ..] => match items.get(*name) {
            Some((cas, value)) => {
                let mut reply = format!("VA {} f0 c{cas} t60{opaque}\r\n", value.len()).into_bytes();
                reply.extend_from_slice(value);
                reply.extend_from_slice(b"\r\n");
                reply
            }
            None => format!("EN{opaque}\r\n").into_bytes(),
        },
        ["ms", name, ..] => {
            items.insert((*name).to_owned(), (count + 1, value));
            format!("HD c{}{opaque}\r\n", count + 1).into_bytes()
        }
        _ => b"ERROR\r\n".to_vec(),
    }
}

/// The client gives the whole batch up. Those after the refused one may have been written, and are looked for.
#[tokio::test(flavor = "multi_thread")]
async fn refusal_of_one_create_in_a_batch_is_no_refusal_of_the_others() {
    let bad = key();
    let refused = bad.to_string();
    let address = serve(move |line| {
        (line.starts_with("ms") && line.contains(&refused))
            .then(|| "SERVER_ERROR out of memory storing object\r\n".to_owned())
    })
    .await;
    let store = Arc::new(patient(address).build().unwrap());
    let mut calls = JoinSet::new();
    for at in 0..64 {
        let (store, key) = (Arc::clone(&store), if at == 20 { bad } else { key() });
        calls.spawn(async move { (at, store.create(&key, &Record::new("a mug"), HOUR).await) });
    }
    while let Some(call) = calls.join_next().await {
        let (at, answer) = call.unwrap();
        match at {
            20 => assert_eq!(kind(answer), ErrorKind::Full),
            // It was sent with the refused one, and its connection was gone before it was written: nobody knows.
            _ => assert!(answer.is_ok() || kind(answer) == ErrorKind::Unavailable),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_memcached_is_told_as_such() {
    for (reply, says) in [
        ("ERROR\r\n", "no memcached"),
        ("-ERR unknown command 'stats'\r\n", "no memcached"),
        ("HTTP/1.1 400 Bad Request\r\n\r\n", "no memcached"),
        ("CLIENT_ERROR unauthenticated\r\n", "wants authentication"),
        (
            "STAT cas_enabled no\r\nSTAT item_size_max 1048576\r\nEND\r\n",
            "-C",
        ),
        ("STAT cas_enabled yes\r\nEND\r\n", "item_size_max"),
    ] {
        let address = serve(move |line| line.starts_with("stats").then(|| reply.to_owned())).await;
        let text = patient(address.as_str()).connect().await.unwrap_err().to_string();
        assert!(text.contains(says) && text.contains(&address), "{text}");
    }
}

/// memcached before 1.6 has no meta commands.
#[tokio::test(flavor = "multi_thread")]
async fn server_that_is_too_old_is_told_as_such() {
    let address = serve(|line| line.starts_with('m').then(|| "ERROR\r\n".to_owned())).await;
    let text = patient(address).connect().await.unwrap_err().to_string();
    assert!(text.contains("memcached 1.6 is needed"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_is_unavailable_and_never_a_session() {
    for reply in [
        "\r\n",
        "XX\r\n",
        "VA\r\n",
        "VA -1 f0 c1 t1 O0\r\n",
        "VA 99999999999 f0 c1 t1 O0\r\n",
        "VA 3 f0 c1 t1 O0\r\nabcde\r\n",
        "VA 3 f0 c1 t1 O7\r\nabc\r\n",
        "VA 3 f0 t1 O0\r\nabc\r\n",
        "VA 3 f0 c1 O0\r\nabc\r\n",
        "HD O0\r\n",
        "NS O0\r\n",
        "MN\r\n",
        "SERVER_ERROR out of luck\r\n",
        "CLIENT_ERROR bad command line format\r\n",
    ] {
        let address = serve(move |line| line.starts_with("mg").then(|| reply.to_owned())).await;
        let store = patient(address).build().unwrap();
        let error = store.load(&key()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{reply:?}: {error}");
    }
}

/// An item of another program, which a third one is to fill: it is no session, and no absent one.
#[tokio::test(flavor = "multi_thread")]
async fn placeholder_of_another_program_is_corrupt() {
    let address = serve(|line| {
        line.starts_with("mg")
            .then(|| "VA 0 f0 c7 t30 Z O0\r\n\r\n".to_owned())
    })
    .await;
    let store = patient(address).build().unwrap();
    assert_eq!(kind(store.load(&key()).await), ErrorKind::Corrupt);
}
