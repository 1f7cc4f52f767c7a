//! What a session takes where it is kept.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::{
    Result,
    arena::Arena,
    contest::Contestant,
    report::{Progress, aligned, write},
};

/// Sessions of these sizes, in bytes.
pub const SIZES: [usize; 3] = [100, 1024, 32 * 1024];

/// What all sessions of a size hold together: enough that what a server takes for itself is nothing beside it.
const TOGETHER: usize = 64 << 20;

/// So many sessions at most, and at least.
const COUNTS: (usize, usize) = (1_000, 20_000);

/// Callers that make sessions.
const CALLERS: usize = 64;

/// Sessions of a size that are made.
pub fn count(size: usize) -> usize {
    (TOGETHER / size.max(1)).clamp(COUNTS.0, COUNTS.1)
}

/// What a session of each contestant takes.
#[derive(Debug)]
pub struct Taken {
    pub size: usize,
    pub count: usize,
    /// Contestants, and the bytes of one session.
    pub each: Vec<(String, f64)>,
}

/// Bytes for one session of a contestant, who is alone there.
///
/// # Errors
///
/// The ground does not tell what it takes, or a session cannot be made.
pub async fn measure(arena: &Arena, contestant: usize, count: usize, progress: &mut Progress) -> Result<f64> {
    let contestant = arena.contestants.get(contestant).ok_or("no such contestant")?;
    // What a first call brings about is not the sessions'.
    fill(contestant, CALLERS).await?;
    arena.ground.settle().await?;
    let before = arena.ground.taken().await?;
    progress.tell(&format!("{count} sessions of {}", contestant.name()));
    fill(contestant, count).await?;
    arena.ground.settle().await?;
    let taken = arena.ground.taken().await?.saturating_sub(before);
    Ok(taken as f64 / count as f64)
}

async fn fill(contestant: &Arc<dyn Contestant>, count: usize) -> Result<()> {
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS {
        let contestant = Arc::clone(contestant);
        let own = count / CALLERS + usize::from(caller < count % CALLERS);
        callers.spawn(async move {
            for _ in 0..own {
                contestant.create().await?;
            }
            Result::Ok(())
        });
    }
    while let Some(ended) = callers.join_next().await {
        ended??;
    }
    Ok(())
}

/// Prints what was found, and writes it where it is wanted. `is`: whose bytes these are.
///
/// # Errors
///
/// The file cannot be written.
pub fn conclude(
    server: &str,
    who: &str,
    is: &str,
    all: &[Taken],
    json: Option<&std::path::Path>,
) -> Result<()> {
    let mut lines = vec![vec!["bytes of data".to_owned(), "sessions".to_owned()]];
    if let Some(first) = all.first() {
        lines[0].extend(first.each.iter().map(|(name, _)| name.clone()));
    }
    for taken in all {
        let mut line = vec![taken.size.to_string(), taken.count.to_string()];
        line.extend(taken.each.iter().map(|(_, bytes)| format!("{bytes:.0}")));
        lines.push(line);
    }
    println!(
        "{server}\n{who}\n\nBytes that one session takes: {is}\n\n{}",
        aligned(&lines)
    );
    let of = |taken: &Taken| {
        let each = taken.each.iter();
        let each = each.map(|(name, bytes)| json!({ "contestant": name, "bytes_each": bytes }));
        json!({
            "bytes": taken.size,
            "sessions": taken.count,
            "contestants": each.collect::<Vec<Value>>(),
        })
    };
    write(
        json,
        &json!({
            "server": server,
            "contestants": who,
            "is": is,
            "footprint": all.iter().map(of).collect::<Vec<_>>(),
        }),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_sessions_are_many_and_large_ones_enough() {
        assert_eq!(SIZES.map(count), [20_000, 20_000, 2_048]);
        assert_eq!(count(0), 20_000);
        assert_eq!(count(1 << 30), 1_000);
    }
}
