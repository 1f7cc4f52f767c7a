//! What contestants do.

/// One of the things that contestants do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    Load,
    Create,
    Update,
    Touch,
    Visit,
    Delete,
    /// A whole request, through a session object.
    ReadOnly,
    /// A whole request, through a session object.
    Changed,
}

impl Operation {
    /// Of a store, in the order in which a round calls them: what was created is there to be deleted.
    pub const ALL: [Self; 6] = [
        Self::Load,
        Self::Update,
        Self::Touch,
        Self::Visit,
        Self::Create,
        Self::Delete,
    ];

    /// Of a session object.
    pub const REQUESTS: [Self; 2] = [Self::ReadOnly, Self::Changed];

    /// What it is called, on the command line too.
    pub fn name(self) -> &'static str {
        match self {
            Self::Load => "load",
            Self::Create => "create",
            Self::Update => "update",
            Self::Touch => "touch",
            Self::Visit => "visit",
            Self::Delete => "delete",
            Self::ReadOnly => "read-only",
            Self::Changed => "changed",
        }
    }

    /// What one of it is.
    pub fn what(self) -> &'static str {
        match self {
            Self::Load => "a live session, chosen at random, is read",
            Self::Create => "a new session is written",
            Self::Update => {
                "a session is replaced, if it has the version that the caller knows (tower-sessions: in any case)"
            }
            Self::Touch => "a session's life begins anew (tower-sessions: the session is saved)",
            Self::Visit => {
                "a live session is read, and lives on (ours touches at most once a minute: here once in 60 visits, and so does the bare client; peers each time)"
            }
            Self::Delete => "a live session is removed",
            Self::ReadOnly => {
                "a session is opened by its id, one attribute of 8 is read, and it lives on (ours touches at most once a minute: \
                 here once in 60 requests; others each time)"
            }
            Self::Changed => {
                "a session is opened by its id, one attribute of 8 is replaced, and the session is committed"
            }
        }
    }
}
