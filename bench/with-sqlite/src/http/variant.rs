//! What is measured.

/// How a server keeps sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Variant {
    None,
    Ours(Place),
    Peer(Place, Idle),
}

/// Where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Memory,
    Redis,
    Sqlite,
}

/// What tower-sessions does for the life of a session that is only read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Idle {
    /// Nothing: these are its defaults.
    Ignored,
    /// It is saved at each request, and its life begins anew: `Expiry::OnInactivity` and `with_always_save`.
    Kept,
}

impl Variant {
    /// The first is what others are compared with.
    pub(crate) const ALL: [Self; 8] = [
        Self::None,
        Self::Ours(Place::Memory),
        Self::Ours(Place::Sqlite),
        Self::Ours(Place::Redis),
        Self::Peer(Place::Memory, Idle::Ignored),
        Self::Peer(Place::Memory, Idle::Kept),
        Self::Peer(Place::Redis, Idle::Ignored),
        Self::Peer(Place::Redis, Idle::Kept),
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Ours(Place::Memory) => "session-http/memory",
            Self::Ours(Place::Redis) => "session-http/redis",
            Self::Ours(Place::Sqlite) => "session-http/sqlite",
            Self::Peer(Place::Memory, Idle::Ignored) => "tower-sessions/memory",
            Self::Peer(Place::Memory, Idle::Kept) => "tower-sessions/memory/idle",
            Self::Peer(Place::Redis, Idle::Ignored) => "tower-sessions/redis",
            Self::Peer(Place::Redis, Idle::Kept) => "tower-sessions/redis/idle",
            Self::Peer(Place::Sqlite, _) => "tower-sessions/sqlite",
        }
    }

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|variant| variant.name() == name)
    }

    pub(crate) fn is_in(self, place: Place) -> bool {
        match self {
            Self::None => false,
            Self::Ours(own) | Self::Peer(own, _) => own == place,
        }
    }
}
