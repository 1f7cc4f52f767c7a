//! The page for what went wrong. It needs no session: it is also shown when the store is down.

use axum::{
    body::Bytes,
    http::{HeaderValue, Response, StatusCode, header},
};
use maud::html;

use super::layout;
use crate::preferences::Theme;

/// The way on from here.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Way {
    Again,
    List,
    Login,
    Preferences,
    Session,
}

impl Way {
    fn address(self) -> &'static str {
        match self {
            Self::Again | Self::List => "/",
            Self::Login => "/login",
            Self::Preferences => "/preferences",
            Self::Session => "/session",
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::Again => "Try again",
            Self::List => "To the list",
            Self::Login => "Log in again",
            Self::Preferences => "To the preferences",
            Self::Session => "To your session",
        }
    }
}

/// A page that says what went wrong and shows a way on.
pub(crate) fn page(status: StatusCode, title: &str, text: &str, way: Way) -> Response<Bytes> {
    let content = html! {
        section.narrow {
            p.status { (status.as_u16()) }
            h1 { (title) }
            p { (text) }
            p { a.button href=(way.address()) { (way.text()) } }
        }
    };
    let page = layout::bare(Theme::Auto, title, "/", &html! {}, &content);
    let mut response = Response::new(Bytes::from(page.into_string()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/html; charset=utf-8"),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
