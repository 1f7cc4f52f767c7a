//! What every page knows of whom it is for.

use std::borrow::Cow;

use session_http::{CsrfToken, Error, Session, UrlEncoder};

use crate::{cart::Cart, catalogue::Currency, preferences::Theme, users::User};

/// The names of the attributes.
pub(crate) mod attribute {
    pub(crate) const CART: &str = "cart";
    pub(crate) const CURRENCY: &str = "currency";
    pub(crate) const NOTE: &str = "note";
    pub(crate) const ORDERS: &str = "orders";
    pub(crate) const THEME: &str = "theme";
}

/// The visitor, as the session tells. One round trip to the store, however much is asked.
#[derive(Debug)]
pub(crate) struct Visitor {
    pub(crate) user: Option<&'static User>,
    pub(crate) cart: Cart,
    pub(crate) currency: Currency,
    pub(crate) theme: Theme,
    pub(crate) note: String,
    /// Whether the store could not be reached, and the page is one that is shown all the same: nothing of the above is known.
    pub(crate) is_unknown: bool,
    /// What the forms of this page carry, once somebody is logged in.
    pub(crate) token: Option<CsrfToken>,
    /// What a browser without cookies needs in the links of this page.
    urls: UrlEncoder,
}

impl Visitor {
    /// Whose session this is.
    ///
    /// # Errors
    ///
    /// [`Error`] if the session cannot be read: never a visitor without a session instead, but on a route that tolerates
    /// it, and then it says so.
    pub(crate) async fn of(session: &Session) -> Result<Self, Error> {
        let subject = session.subject().await?;
        Ok(Self {
            user: subject.as_ref().and_then(User::of),
            cart: session.get(attribute::CART).await?.unwrap_or_default(),
            currency: session.get(attribute::CURRENCY).await?.unwrap_or_default(),
            theme: session.get(attribute::THEME).await?.unwrap_or_default(),
            note: session.get(attribute::NOTE).await?.unwrap_or_default(),
            is_unknown: session.is_degraded(),
            token: session.csrf_token().await?,
            urls: session.urls().await?,
        })
    }

    /// The URL as this visitor needs it in a page.
    pub(crate) fn url<'u>(&self, url: &'u str) -> Cow<'u, str> {
        self.urls.encode(url)
    }
}
