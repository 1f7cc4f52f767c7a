//! What the shop keeps about this visitor.

use std::time::{Duration, SystemTime};

use maud::{Markup, html};
use session_core::{SessionInfo, Timestamp};

use super::{Notice, layout};
use crate::visitor::Visitor;

/// What the page shows. The id is not among it: it never leaves the cookie.
#[derive(Debug)]
pub(crate) struct Facts {
    /// Times and lengths; `None` if nothing is stored for this visitor.
    pub(crate) info: Option<SessionInfo>,
    /// Names of the attributes and their values in words.
    pub(crate) attributes: Vec<(String, String)>,
    /// What is known of the user's sessions; nothing without a user.
    pub(crate) sessions: Others,
    /// The store's name.
    pub(crate) store: &'static str,
    /// Whether the browser has the session itself.
    pub(crate) is_carried: bool,
    /// The time of this request.
    pub(crate) now: Timestamp,
}

/// What is known of a user's sessions.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Others {
    /// So many live ones, this one included.
    Counted(usize),
    /// They can be ended, but nobody has a list of them.
    Uncounted,
    /// The store does not index them.
    Unknown,
}

/// The visitor's session, in full but for its id.
pub(crate) fn session(visitor: &Visitor, facts: &Facts, notice: Option<Notice>) -> Markup {
    let main = html! {
        h1 { "Your session" }
        @match &facts.info {
            None => p { "Nothing is stored about you. A session begins when there is something to keep: put something in the cart, or log in." },
            Some(info) => {
                div.columns {
                    section {
                        h2 { "Attributes" }
                        (attributes(&facts.attributes))
                        @if visitor.user.is_some() { (logouts(visitor, facts.sessions)) }
                    }
                    section.panel {
                        h2 { "Life" }
                        (life(info, facts, visitor))
                        form method="post" action=(visitor.url("/session/renew")) { (layout::token(visitor)) button.quiet { "Renew the id now" } }
                    }
                }
            }
        }
        p.aside {
            @if facts.is_carried { "Your browser keeps all of this in a cookie. No page, log or store shows that." }
            @else { "The id is the secret that your browser keeps in a cookie. No page, log or store shows it." }
        }
    };
    layout::page(visitor, "Your session", notice, &main)
}

fn attributes(attributes: &[(String, String)]) -> Markup {
    html! {
        @if attributes.is_empty() {
            p { "None." }
        } @else {
            table.facts {
                thead { tr { th scope="col" { "Name" } th scope="col" { "Value" } } }
                tbody {
                    @for (name, value) in attributes {
                        tr { th scope="row" { code { (name) } } td.note { (value) } }
                    }
                }
            }
        }
    }
}

fn logouts(visitor: &Visitor, sessions: Others) -> Markup {
    html! {
        h2 { "Your other sessions" }
        @match sessions {
            Others::Unknown => p { "This store keeps no index of users: other sessions cannot be found." },
            _ => {
                p {
                    @match sessions {
                        Others::Counted(0 | 1) => "This is your only one.",
                        Others::Counted(sessions) => { "You have " (sessions) ", this one included." },
                        _ => "Each browser keeps its own: nobody knows how many there are.",
                    }
                }
                div.actions {
                    form method="post" action=(visitor.url("/logout/elsewhere")) { (layout::token(visitor)) button.quiet { "Log out everywhere else" } }
                    form method="post" action=(visitor.url("/logout/everywhere")) { (layout::token(visitor)) button.quiet { "Log out everywhere" } }
                }
            }
        }
    }
}

fn life(info: &SessionInfo, facts: &Facts, visitor: &Visitor) -> Markup {
    html! {
        dl {
            dt { "User" }
            dd { @match visitor.user { Some(user) => (user.name), None => "nobody" } }
            dt { "Created" }
            dd { (past(info.created_at, facts.now)) }
            dt { "Logged in" }
            dd { @match info.authenticated_at { Some(at) => (past(at, facts.now)), None => "not yet" } }
            dt { "Id renewed" }
            dd {
                @if info.renewals == 1 { "once" } @else { (info.renewals) " times" }
                ", " (past(info.renewed_at, facts.now))
            }
            dt { "Ends without a visit" }
            dd { "in " (words(info.remaining)) " (" (words(info.lengths.idle())) " after a visit)" }
            dt { "Ends for good" }
            dd {
                "in " (words(info.deadline.since(facts.now))) " (" (words(info.lengths.absolute())) " after the login or the beginning)"
            }
            dt { "Kept by" }
            dd { @if facts.is_carried { "your browser; log-outs by " } (facts.store) }
        }
    }
}

fn past(at: Timestamp, now: Timestamp) -> Markup {
    html! {
        (words(now.since(at))) " ago"
        span.when { (date(at)) }
    }
}

/// A point in time as HTTP writes it.
fn date(at: Timestamp) -> String {
    /// 9999-12-31T23:59:59Z, the last that the format can write.
    const LAST: Timestamp = Timestamp::from_millis(253_402_300_799_000);
    httpdate::fmt_http_date(SystemTime::from(at.min(LAST)))
}

/// A length in its two largest units.
fn words(length: Duration) -> String {
    const UNITS: [(u64, &str); 4] = [(86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")];
    let mut rest = length.as_secs();
    let mut words = Vec::new();
    for (seconds, unit) in UNITS {
        let count = rest / seconds;
        rest %= seconds;
        if count > 0 {
            words.push(format!("{count} {unit}"));
        } else if !words.is_empty() {
            break;
        }
        if words.len() == 2 {
            break;
        }
    }
    if words.is_empty() {
        "0 s".to_owned()
    } else {
        words.join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_told_in_two_units() {
        for (seconds, text) in [
            (0, "0 s"),
            (59, "59 s"),
            (60, "1 min"),
            (3_599, "59 min 59 s"),
            (3_601, "1 h"),
            (8 * 3_600 - 61, "7 h 58 min"),
            (30 * 86_400, "30 d"),
            (u64::MAX, "213503982334601 d 7 h"),
        ] {
            assert_eq!(words(Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn dates_are_told_to_the_end_of_the_format() {
        assert_eq!(
            date(Timestamp::from_millis(784_111_777_999)),
            "Sun, 06 Nov 1994 08:49:37 GMT"
        );
        assert_eq!(
            date(Timestamp::from_millis(u64::MAX)),
            "Fri, 31 Dec 9999 23:59:59 GMT"
        );
    }
}
