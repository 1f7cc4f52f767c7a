//! Logging in.

use maud::{Markup, html};

use super::layout;
use crate::{users::USERS, visitor::Visitor};

/// What the login page shows.
#[derive(Debug, Default)]
pub(crate) struct Login<'a> {
    /// The name that was typed before, if the password did not fit it.
    pub(crate) refused: Option<&'a str>,
    /// Whether the way leads on to the checkout.
    pub(crate) to_checkout: bool,
}

/// The login form, and whom it lets in.
pub(crate) fn login(visitor: &Visitor, login: &Login<'_>) -> Markup {
    let main = html! {
        div.columns {
            section {
                h1 { "Log in" }
                @if let Some(user) = visitor.user {
                    p { "You are logged in as " strong { (user.name) } ". Logging in as somebody else empties the cart." }
                } @else if login.to_checkout {
                    p { "Please log in to order. Your cart comes along." }
                }
                @if login.refused.is_some() {
                    p.wrong id="wrong" role="alert" { "Name and password do not fit. Please try again." }
                }
                form.fields method="post" action=(visitor.url("/login")) {
                    (layout::token(visitor))
                    @if login.to_checkout { input type="hidden" name="next" value="checkout"; }
                    label {
                        "Name"
                        input type="text" name="name" value=[login.refused] required maxlength="64" autocomplete="username"
                            autocapitalize="none" spellcheck="false" aria-describedby=[login.refused.map(|_| "wrong")];
                    }
                    label {
                        "Password"
                        input type="password" name="password" required maxlength="256" autocomplete="current-password";
                    }
                    label.check {
                        input type="checkbox" name="remember" value="yes";
                        span { "Remember me for 30 days, 7 days of them without a visit" }
                    }
                    button { "Log in" }
                }
            }
            section.panel {
                h2 { "Who may log in" }
                table {
                    thead { tr { th scope="col" { "Name" } th scope="col" { "Password" } } }
                    tbody {
                        @for user in &USERS {
                            tr { td { code { (user.login) } } td { code { (user.password) } } }
                        }
                    }
                }
            }
        }
    };
    layout::page(visitor, "Log in", None, &main)
}
