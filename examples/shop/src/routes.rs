//! What the shop answers to.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use axum::{
    Router,
    extract::{Form, FromRequest, Request},
    http::{StatusCode, Uri, header},
    response::{IntoResponse, Redirect, Response},
    routing::{get, post},
};
use maud::Markup;
use serde::{Deserialize, de::DeserializeOwned};
use session_core::{ErrorKind, Lengths, SessionError, Timestamp};
use session_http::{CSRF_ATTRIBUTE, Outage, OutageLayer, Session};
use tracing::info;

use crate::{
    cart::{Cart, Orders},
    catalogue::{Currency, Product, product},
    failure::Failure,
    pages::{self, Facts, Login, Notice, Others},
    preferences::{Theme, note},
    users,
    visitor::{Visitor, attribute},
};

/// The lengths of a session that is to be remembered: a week without a visit, a month in all (the longest that
/// NIST SP 800-63B-4 has for this level).
fn remembered() -> Lengths {
    const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    Lengths::new(7 * DAY, 30 * DAY)
}

/// Every address of the shop.
pub(crate) fn routes() -> Router {
    Router::new()
        // A shop window needs no visitor: it stays open while the store is down. All else fails closed.
        .route("/", get(list).layer(OutageLayer::new(Outage::ReadOnly)))
        .route("/cart", get(cart))
        .route("/cart/add", post(add))
        .route("/cart/set", post(set))
        .route("/cart/remove", post(remove))
        .route("/checkout", get(checkout).post(order))
        .route("/orders", get(orders))
        .route("/preferences", get(preferences).post(prefer))
        .route("/login", get(login).post(log_in))
        .route("/logout", post(log_out))
        .route("/logout/elsewhere", post(log_out_elsewhere))
        .route("/logout/everywhere", post(log_out_everywhere))
        .route("/session", get(session))
        .route("/session/renew", post(renew))
        .route("/style.css", get(|| asset("text/css", include_str!("style.css"))))
        .route(
            "/icon.svg",
            get(|| asset("image/svg+xml", include_str!("icon.svg"))),
        )
        .fallback(|| async { Failure::NoSuchPage })
        .method_not_allowed_fallback(|| async { Failure::WrongMethod })
}

async fn list(visit: Session, uri: Uri) -> Result<Markup, Failure> {
    let visitor = Visitor::of(&visit).await?;
    Ok(pages::list(&visitor, Notice::of(uri.query())))
}

async fn cart(visit: Session, uri: Uri) -> Result<Markup, Failure> {
    let visitor = Visitor::of(&visit).await?;
    Ok(pages::cart(&visitor, Notice::of(uri.query())))
}

#[derive(Debug, Deserialize)]
struct Piece {
    product: String,
    #[serde(default = "one")]
    pieces: u32,
}

fn one() -> u32 {
    1
}

async fn add(visit: Session, Posted(form): Posted<Piece>) -> Result<Redirect, Failure> {
    change_cart(&visit, &form.product, move |cart, product| {
        cart.with(product, form.pieces)
    })
    .await?;
    Ok(to("/", Notice::Added))
}

async fn set(visit: Session, Posted(form): Posted<Piece>) -> Result<Redirect, Failure> {
    change_cart(&visit, &form.product, move |cart, product| {
        cart.with_exactly(product, form.pieces)
    })
    .await?;
    Ok(to("/cart", Notice::CartChanged))
}

async fn remove(visit: Session, Posted(form): Posted<Piece>) -> Result<Redirect, Failure> {
    change_cart(&visit, &form.product, |cart, product| {
        cart.with_exactly(product, 0)
    })
    .await?;
    Ok(to("/cart", Notice::CartChanged))
}

/// Changes the cart by a closure, which runs again on the newer cart if another request was faster: of two additions
/// at the same time, none is lost.
async fn change_cart(
    visit: &Session,
    slug: &str,
    change: impl Fn(Cart, &'static Product) -> Cart + Send + Sync + 'static,
) -> Result<(), Failure> {
    let product = product(slug).ok_or(Failure::NoSuchProduct)?;
    let change = move |cart: Option<Cart>| change(cart.unwrap_or_default(), product);
    visit.update(attribute::CART, change).await?;
    Ok(())
}

async fn checkout(visit: Session) -> Result<Response, Failure> {
    let visitor = Visitor::of(&visit).await?;
    Ok(match visitor.user {
        Some(_) => pages::checkout(&visitor).into_response(),
        None => Redirect::to("/login?next=checkout").into_response(),
    })
}

async fn order(visit: Session) -> Result<Redirect, Failure> {
    let visitor = Visitor::of(&visit).await?;
    if visitor.user.is_none() {
        return Ok(Redirect::to("/login?next=checkout"));
    }
    if visitor.cart.is_empty() {
        return Ok(Redirect::to("/cart"));
    }
    // Both changes run again, in this order, if another request was faster: what is ordered is what the commit that
    // succeeds takes out of the cart, and two orders at the same time share nothing.
    let taken = Arc::new(Mutex::new(Cart::default()));
    let ordered = Arc::clone(&taken);
    let empty = move |cart: Option<Cart>| {
        *taken.lock().unwrap_or_else(PoisonError::into_inner) = cart.unwrap_or_default();
        Cart::default()
    };
    visit.update(attribute::CART, empty).await?;
    let add = move |orders: Option<Orders>| {
        let cart = ordered.lock().unwrap_or_else(PoisonError::into_inner).clone();
        orders.unwrap_or_default().with(cart, visitor.currency)
    };
    visit.update(attribute::ORDERS, add).await?;
    Ok(to("/orders", Notice::Ordered))
}

async fn orders(visit: Session, uri: Uri) -> Result<Markup, Failure> {
    let visitor = Visitor::of(&visit).await?;
    let orders = visit.get(attribute::ORDERS).await?.unwrap_or_default();
    Ok(pages::orders(&visitor, &orders, Notice::of(uri.query())))
}

async fn preferences(visit: Session, uri: Uri) -> Result<Markup, Failure> {
    let visitor = Visitor::of(&visit).await?;
    Ok(pages::preferences(&visitor, Notice::of(uri.query())))
}

#[derive(Debug, Deserialize)]
struct Preferences {
    theme: Theme,
    currency: Currency,
    note: String,
}

async fn prefer(visit: Session, Posted(form): Posted<Preferences>) -> Result<Redirect, Failure> {
    let note = note(&form.note).ok_or(Failure::LongNote)?;
    let visitor = Visitor::of(&visit).await?;
    // Only what differs is written, so that another tab's change of another preference stays.
    if form.theme != visitor.theme {
        visit.insert(attribute::THEME, &form.theme).await?;
    }
    if form.currency != visitor.currency {
        visit.insert(attribute::CURRENCY, &form.currency).await?;
    }
    if note != visitor.note {
        if note.is_empty() {
            visit.remove(attribute::NOTE).await?;
        } else {
            visit.insert(attribute::NOTE, &note).await?;
        }
    }
    Ok(to("/preferences", Notice::Saved))
}

async fn login(visit: Session, uri: Uri) -> Result<Markup, Failure> {
    let visitor = Visitor::of(&visit).await?;
    let login = Login {
        refused: None,
        to_checkout: uri.query() == Some("next=checkout"),
    };
    Ok(pages::login(&visitor, &login))
}

#[derive(Deserialize)]
struct Credentials {
    name: String,
    password: String,
    remember: Option<String>,
    next: Option<String>,
}

async fn log_in(visit: Session, Posted(form): Posted<Credentials>) -> Result<Response, Failure> {
    let visitor = Visitor::of(&visit).await?;
    let to_checkout = form.next.as_deref() == Some("checkout");
    let Some(user) = users::check(&form.name, form.password).await else {
        info!("a login was refused");
        let refused = Login {
            refused: Some(&form.name),
            to_checkout,
        };
        return Ok((StatusCode::FORBIDDEN, pages::login(&visitor, &refused)).into_response());
    };
    // What an anonymous visitor put in the cart comes along; what belongs to another user does not.
    if visitor.user.is_some_and(|before| before.login != user.login) {
        visit.clear().await?;
    }
    let subject = user.subject().map_err(|_| Failure::NoSuchPage)?;
    match form.remember {
        Some(_) => visit.log_in_for(subject, remembered()).await?,
        None => visit.log_in(subject).await?,
    }
    Ok(if to_checkout {
        Redirect::to("/checkout").into_response()
    } else {
        to("/", Notice::LoggedIn).into_response()
    })
}

async fn log_out(visit: Session) -> Result<Redirect, Failure> {
    visit.log_out().await?;
    Ok(to("/", Notice::LoggedOut))
}

async fn log_out_elsewhere(visit: Session) -> Result<Redirect, Failure> {
    if visit.subject().await?.is_none() {
        return Ok(Redirect::to("/login"));
    }
    visit.log_out_elsewhere().await?;
    Ok(to("/session", Notice::LoggedOutElsewhere))
}

async fn log_out_everywhere(visit: Session) -> Result<Redirect, Failure> {
    if visit.subject().await?.is_none() {
        return Ok(Redirect::to("/login"));
    }
    visit.log_out_everywhere().await?;
    Ok(to("/", Notice::LoggedOutEverywhere))
}

async fn session(visit: Session, uri: Uri) -> Result<Markup, Failure> {
    let visitor = Visitor::of(&visit).await?;
    let mut attributes = Vec::new();
    for name in visit.names().await? {
        let value = value(&visit, &visitor, &name).await?;
        attributes.push((name, value));
    }
    let facts = Facts {
        info: visit.info().await?,
        attributes,
        sessions: match visitor.user {
            Some(_) => sessions(&visit).await?,
            None => Others::Unknown,
        },
        store: visit.manager().sessions().store().profile().name,
        is_carried: visit.manager().is_stateless(),
        now: Timestamp::from(SystemTime::now()),
    };
    Ok(pages::session(&visitor, &facts, Notice::of(uri.query())))
}

/// An attribute's value in words.
async fn value(visit: &Session, visitor: &Visitor, name: &str) -> Result<String, SessionError> {
    Ok(match name {
        attribute::CART => contents(&visitor.cart),
        attribute::CURRENCY => visitor.currency.name().to_owned(),
        attribute::NOTE => visitor.note.clone(),
        attribute::THEME => visitor.theme.name().to_owned(),
        attribute::ORDERS => {
            let orders: Orders = visit.get(name).await?.unwrap_or_default();
            let newest = orders.newest.first().map(|order| contents(&order.cart));
            format!(
                "{} placed; the newest: {}",
                orders.placed,
                newest.unwrap_or_default()
            )
        }
        CSRF_ATTRIBUTE => "what tells your forms from forged ones".to_owned(),
        _ => "not one of this version of the shop".to_owned(),
    })
}

fn contents(cart: &Cart) -> String {
    if cart.is_empty() {
        return "nothing".to_owned();
    }
    let lines = cart
        .lines()
        .map(|(product, pieces)| format!("{pieces} × {}", product.name));
    lines.collect::<Vec<_>>().join(", ")
}

/// What is known of the user's sessions.
async fn sessions(visit: &Session) -> Result<Others, SessionError> {
    match visit.sessions_of_subject().await {
        Ok(count) => Ok(Others::Counted(count)),
        Err(error) if error.store_kind() == Some(ErrorKind::Unsupported) => {
            match visit.manager().is_stateless() {
                true => Ok(Others::Uncounted),
                false => Ok(Others::Unknown),
            }
        }
        Err(error) => Err(error),
    }
}

async fn renew(visit: Session) -> Result<Redirect, Failure> {
    if visit.info().await?.is_some() {
        visit.renew().await?;
    }
    Ok(to("/session", Notice::Renewed))
}

async fn asset(kind: &'static str, text: &'static str) -> impl IntoResponse {
    (
        [
            (header::CONTENT_TYPE, kind),
            (header::CACHE_CONTROL, "public, max-age=300"),
        ],
        text,
    )
}

fn to(path: &str, notice: Notice) -> Redirect {
    Redirect::to(&format!("{path}?done={}", notice.word()))
}

/// A form of ours; anything else gets a page that says so.
struct Posted<T>(T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Posted<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, state: &S) -> Result<Self, Failure> {
        match Form::from_request(request, state).await {
            Ok(Form(form)) => Ok(Self(form)),
            Err(refused) => Err(Failure::Form(refused.into_response().status())),
        }
    }
}
