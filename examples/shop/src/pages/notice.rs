//! What the page after a form says. The address carries one of these words, so nobody can put text on our pages.

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Notice {
    Added,
    CartChanged,
    LoggedIn,
    LoggedOut,
    LoggedOutEverywhere,
    LoggedOutElsewhere,
    Ordered,
    Saved,
    Renewed,
}

impl Notice {
    const ALL: [Self; 9] = [
        Self::Added,
        Self::CartChanged,
        Self::LoggedIn,
        Self::LoggedOut,
        Self::LoggedOutEverywhere,
        Self::LoggedOutElsewhere,
        Self::Ordered,
        Self::Saved,
        Self::Renewed,
    ];

    /// The notice that an address asks for. Anything else is none.
    pub(crate) fn of(query: Option<&str>) -> Option<Self> {
        let word = query?.strip_prefix("done=")?;
        Self::ALL.into_iter().find(|notice| notice.word() == word)
    }

    /// The word in the address.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::CartChanged => "cart",
            Self::LoggedIn => "login",
            Self::LoggedOut => "logout",
            Self::LoggedOutEverywhere => "everywhere",
            Self::LoggedOutElsewhere => "elsewhere",
            Self::Ordered => "ordered",
            Self::Saved => "saved",
            Self::Renewed => "renewed",
        }
    }

    /// What the page says.
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Added => "Added to your cart.",
            Self::CartChanged => "Your cart is changed.",
            Self::LoggedIn => "You are logged in. Your cart came along.",
            Self::LoggedOut => "You are logged out.",
            Self::LoggedOutEverywhere => "You are logged out everywhere.",
            Self::LoggedOutElsewhere => "You are logged out everywhere else.",
            Self::Ordered => "Thank you. Your order is placed.",
            Self::Saved => "Your preferences are saved.",
            Self::Renewed => "Your session has a new id. The old one is worth nothing now.",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_found_and_nothing_else_is() {
        for notice in Notice::ALL {
            assert_eq!(Notice::of(Some(&format!("done={}", notice.word()))), Some(notice));
        }
        for query in ["", "done", "done=", "done=added&x", "done=<b>", "x=added"] {
            assert_eq!(Notice::of(Some(query)), None, "{query}");
        }
        assert_eq!(Notice::of(None), None);
    }
}
