//! What is sent, and what may become of it.

use redis::{
    Cmd, ErrorKind, Pipeline, RedisError, RedisResult, ServerErrorKind, Value, aio::MultiplexedConnection,
};

/// Commands that travel together.
#[derive(Clone, Copy)]
pub(crate) struct Request<'a> {
    commands: Commands<'a>,
    /// Something may have changed once it has been sent.
    pub(crate) writes: bool,
    /// It may be sent again when the connection broke before its reply: its second effect is its first.
    pub(crate) repeatable: bool,
    asking: bool,
}

#[derive(Clone, Copy)]
enum Commands<'a> {
    /// One command and one reply, whose error is the request's.
    One(&'a Cmd),
    /// As many replies as commands, in an array; one command's error is not the others'.
    Many(&'a Pipeline),
}

impl<'a> Request<'a> {
    pub(crate) fn read(command: &'a Cmd) -> Self {
        Self::of(Commands::One(command), false)
    }

    pub(crate) fn read_many(commands: &'a Pipeline) -> Self {
        Self::many(commands, false)
    }

    /// A write whose second effect is its first.
    pub(crate) fn write(command: &'a Cmd) -> Self {
        Self::of(Commands::One(command), true)
    }

    /// Commands of which some write, and whose second effect is their first; or that only read.
    pub(crate) fn many(commands: &'a Pipeline, writes: bool) -> Self {
        Self::of(Commands::Many(commands), writes)
    }

    /// A write that is never sent twice: should the first of two arrive last, it would undo what came in between.
    pub(crate) fn write_once(command: &'a Cmd) -> Self {
        Self {
            repeatable: false,
            ..Self::write(command)
        }
    }

    /// The same, on the node of a Cluster to which the slot is on its way.
    pub(crate) fn asking(self) -> Self {
        Self { asking: true, ..self }
    }

    fn of(commands: Commands<'a>, writes: bool) -> Self {
        Self {
            commands,
            writes,
            repeatable: true,
            asking: false,
        }
    }

    /// Whether a replica answered one of several commands: its error is a reply.
    pub(crate) fn is_refused_by_replica(self, replies: &Value) -> bool {
        let is_refusal =
            |reply: &Value| matches!(reply, Value::ServerError(error) if error.code() == "READONLY");
        self.writes && matches!(replies, Value::Array(replies) if replies.iter().any(is_refusal))
    }

    pub(crate) async fn send(self, connection: &mut MultiplexedConnection) -> RedisResult<Value> {
        match (self.commands, self.asking) {
            (Commands::One(command), false) => whole(connection.send_packed_command(command).await?),
            (Commands::One(command), true) => {
                let mut replies = asked(connection, [command].into_iter()).await?;
                match replies.pop() {
                    Some(reply) => whole(reply),
                    None => Err(RedisError::from((ErrorKind::UnexpectedReturnType, "no reply"))),
                }
            }
            (Commands::Many(commands), false) => connection
                .send_packed_commands(commands, 0, commands.len())
                .await
                .map(Value::Array),
            (Commands::Many(commands), true) => {
                asked(connection, commands.cmd_iter()).await.map(Value::Array)
            }
        }
    }
}

/// An error within a reply is that of one record among several; the client's `extract_error` would make it that of all.
fn whole(reply: Value) -> RedisResult<Value> {
    match reply {
        Value::ServerError(error) => Err(error.into()),
        reply => Ok(reply),
    }
}

/// `ASKING` counts for the next command alone, so each has its own.
async fn asked<'a>(
    connection: &mut MultiplexedConnection,
    commands: impl Iterator<Item = &'a Cmd>,
) -> RedisResult<Vec<Value>> {
    let mut pipeline = Pipeline::new();
    for command in commands {
        pipeline.cmd("ASKING").add_command(command.clone());
    }
    let replies = connection
        .send_packed_commands(&pipeline, 0, pipeline.len())
        .await?;
    Ok(replies.into_iter().skip(1).step_by(2).collect())
}

/// Where a node of a Cluster sends a caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Redirect {
    pub(crate) slot: u16,
    /// `HOST:PORT`; without a host, the one that answered.
    pub(crate) to: String,
    /// For this request alone: the slot is still on its way.
    pub(crate) ask: bool,
}

impl Redirect {
    /// The redirect in an error, if it is one.
    pub(crate) fn of(error: &RedisError) -> Option<Self> {
        let ask = error.kind() == ErrorKind::Server(ServerErrorKind::Ask);
        let (to, slot) = error.redirect_node()?;
        Some(Self {
            slot,
            to: to.to_owned(),
            ask,
        })
    }

    /// The first redirect among the replies to several commands on one key: they belong together, and go on together.
    pub(crate) fn among(replies: &Value) -> Option<Self> {
        let Value::Array(replies) = replies else {
            return None;
        };
        replies.iter().find_map(|reply| match reply {
            Value::ServerError(error) => Self::of(&RedisError::from(error.clone())),
            _ => None,
        })
    }
}
