//! One connection.

use std::{io, net::SocketAddr, sync::Arc, sync::PoisonError, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    time::Instant,
};

use super::{
    Fault, Held, ReplyLen, Shared,
    fault::{Faults, Of},
};

/// How a connection ends.
enum End {
    Closed,
    Reset,
    Held(Vec<u8>),
}

/// An error of either side closes both.
impl From<io::Error> for End {
    fn from(_: io::Error) -> Self {
        Self::Closed
    }
}

/// Passes what comes, until one side closes the connection or a fault ends it.
pub(super) async fn serve(mut client: TcpStream, server: SocketAddr, shared: Arc<Shared>) {
    let mut server = match TcpStream::connect(server).await {
        Ok(server) => server,
        Err(_) => return reset(&client),
    };
    let end = {
        let ((asks, hears), (says, listens)) = (client.split(), server.split());
        tokio::select! {
            Err(end) = requests(asks, listens, &shared.faults) => end,
            Err(end) = replies(says, hears, &shared) => end,
            () = shared.faults.refused() => End::Reset,
            else => End::Closed,
        }
    };
    match end {
        End::Closed => {}
        End::Reset => reset(&client),
        End::Held(request) => {
            shared
                .held
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(Held { server, request });
            reset(&client);
        }
    }
}

/// The connection will end in a reset when it is dropped, which is at once.
pub(super) fn reset(client: &TcpStream) {
    // Without it, it ends in a plain close.
    let _ = client.set_zero_linger();
}

enum Never {}

async fn requests(mut asks: ReadHalf<'_>, mut listens: WriteHalf<'_>, faults: &Faults) -> Result<Never, End> {
    let _ = listens.as_ref().set_nodelay(true);
    loop {
        let mut request = Vec::with_capacity(64 * 1024);
        if asks.read_buf(&mut request).await? == 0 {
            return Err(End::Closed);
        }
        match befall(faults, Of::Request).await {
            Some(Fault::Refuse | Fault::LoseRequest) => return Err(End::Reset),
            Some(Fault::HoldRequest) => return Err(End::Held(request)),
            Some(Fault::SlowRequest { most }) => tokio::time::sleep(faults.delay(most)).await,
            _ => {}
        }
        listens.write_all(&request).await?;
    }
}

async fn replies(mut says: ReadHalf<'_>, mut hears: WriteHalf<'_>, shared: &Shared) -> Result<Never, End> {
    let (faults, mut bytes, mut passed_over) = (&shared.faults, Vec::new(), None::<Vec<u8>>);
    let _ = hears.as_ref().set_nodelay(true);
    loop {
        if says.read_buf(&mut bytes).await? == 0 {
            hears.write_all(&bytes).await?;
            return Err(End::Closed);
        }
        let arrived = Instant::now();
        while let Some(reply) = first(&mut bytes, &*shared.reply_len) {
            match befall(faults, Of::Reply).await {
                Some(Fault::Refuse | Fault::LoseReply) => return Err(End::Reset),
                Some(Fault::CutReply { permille }) => {
                    let length = (reply.len() * usize::from(permille) / 1000).min(reply.len() - 1);
                    hears.write_all(&reply[..length]).await?;
                    // A close, not a reset, which would take along what has just been sent.
                    hears.shutdown().await?;
                    return Err(End::Closed);
                }
                Some(Fault::DropReply) => continue,
                Some(Fault::SwapReplies) if passed_over.is_none() => {
                    passed_over = Some(reply);
                    continue;
                }
                Some(Fault::ByteByByte) => one_by_one(&mut hears, &reply).await?,
                Some(Fault::RepeatReply) => hears.write_all(&reply.repeat(2)).await?,
                Some(Fault::SlowReply { most }) => {
                    // Counted from its arrival: what came together is late together.
                    tokio::time::sleep_until(arrived + faults.delay(most)).await;
                    hears.write_all(&reply).await?;
                }
                _ => hears.write_all(&reply).await?,
            }
            if let Some(reply) = passed_over.take() {
                faults.took_place();
                hears.write_all(&reply).await?;
            }
        }
    }
}

/// What happens to it, once it need not wait any more.
async fn befall(faults: &Faults, of: Of) -> Option<Fault> {
    let mut changes = faults.changes();
    loop {
        match faults.befall(of) {
            Some(fault) if fault.waits() => {}
            fault => return fault,
        }
        // The sender is in `faults`.
        let _ = changes.changed().await;
    }
}

/// Takes the first whole reply.
fn first(bytes: &mut Vec<u8>, reply_len: &ReplyLen) -> Option<Vec<u8>> {
    let length = reply_len(bytes)?;
    // An empty reply would never end, and one that is longer than what came is not whole.
    (1..=bytes.len())
        .contains(&length)
        .then(|| bytes.drain(..length).collect())
}

/// The first bytes with a pause in which the reader has its turn: there the lengths are. The others as they go.
async fn one_by_one(hears: &mut WriteHalf<'_>, reply: &[u8]) -> io::Result<()> {
    const PAUSED: usize = 8;
    for (at, byte) in reply.iter().enumerate() {
        hears.write_all(&[*byte]).await?;
        hears.flush().await?;
        if at < PAUSED {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    Ok(())
}
