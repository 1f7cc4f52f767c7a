//! What all pages share.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use session_http::CsrfToken;

use super::Notice;
use crate::{preferences::Theme, visitor::Visitor};

/// A page for a visitor whose session could be read, or for one who is not known while the store is down.
pub(super) fn page(visitor: &Visitor, title: &str, notice: Option<Notice>, main: &Markup) -> Markup {
    if visitor.is_unknown {
        return bare(
            visitor.theme,
            title,
            "/",
            &html! {},
            &html! {
                p.notice role="status" {
                    "We cannot reach your session right now. Your cart is kept; please try again in a moment."
                }
                (main)
            },
        );
    }
    let pieces = visitor.cart.pieces();
    let navigation = html! {
        nav aria-label="Shop" {
            a href=(visitor.url("/preferences")) { "Preferences" }
            a href=(visitor.url("/session")) { "Session" }
            a href=(visitor.url("/cart")) {
                "Cart"
                @if pieces > 0 {
                    " " span.count { (pieces) span.unseen { @if pieces == 1 { " piece" } @else { " pieces" } } }
                }
            }
            @if let Some(user) = visitor.user {
                form.inline method="post" action=(visitor.url("/logout")) {
                    (token(visitor))
                    span.user { (user.name) }
                    button.plain { "Log out" }
                }
            } @else {
                a href=(visitor.url("/login")) { "Log in" }
            }
        }
    };
    let content = html! {
        @if let Some(notice) = notice {
            p.notice role="status" { (notice.text()) }
        }
        (main)
    };
    bare(visitor.theme, title, &visitor.url("/"), &navigation, &content)
}

/// What tells a form of this visitor from a forged one: a hidden field in every form, once somebody is logged in.
pub(super) fn token(visitor: &Visitor) -> Markup {
    let field = visitor.token.as_ref().map(CsrfToken::hidden_field);
    PreEscaped(field.unwrap_or_default())
}

/// A page that needs no session; `home` leads to the list.
pub(super) fn bare(theme: Theme, title: &str, home: &str, navigation: &Markup, content: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" data-theme=(theme.value()) {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content=(match theme {
                    Theme::Auto => "light dark",
                    Theme::Light => "light",
                    Theme::Dark => "dark",
                });
                title { (title) " – Corner Shop" }
                link rel="icon" href="/icon.svg" type="image/svg+xml";
                link rel="stylesheet" href="/style.css";
            }
            body {
                a.skip href="#main" { "Skip to the content" }
                header {
                    a.brand href=(home) { "Corner Shop" }
                    (navigation)
                }
                main id="main" { (content) }
                footer {
                    p { "An example: nothing here is really sold, and no card is charged." }
                }
            }
        }
    }
}
