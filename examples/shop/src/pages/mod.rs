//! The pages. Everything that a visitor or a store can influence passes through `maud`, which escapes it.

mod cart;
pub(crate) mod error;
mod layout;
mod list;
mod login;
mod notice;
mod preferences;
mod session;

pub(crate) use self::{
    cart::{cart, checkout, orders},
    list::list,
    login::{Login, login},
    notice::Notice,
    preferences::preferences,
    session::{Facts, Others, session},
};
