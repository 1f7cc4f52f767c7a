//! How the visitor likes the shop.

use maud::{Markup, html};

use super::{Notice, layout};
use crate::{
    catalogue::Currency,
    preferences::{LONGEST_NOTE, Theme},
    visitor::Visitor,
};

/// The form with the preferences.
pub(crate) fn preferences(visitor: &Visitor, notice: Option<Notice>) -> Markup {
    let main = html! {
        section.narrow {
            h1 { "Preferences" }
            form.fields method="post" action=(visitor.url("/preferences")) {
                (layout::token(visitor))
                fieldset {
                    legend { "Colours" }
                    @for theme in Theme::ALL {
                        label.check {
                            input type="radio" name="theme" value=(theme.value()) checked[theme == visitor.theme];
                            span { (theme.name()) }
                        }
                    }
                }
                label {
                    "Currency"
                    select name="currency" {
                        @for currency in Currency::ALL {
                            option value=(currency.value()) selected[currency == visitor.currency] { (currency.name()) }
                        }
                    }
                }
                label {
                    "Note for the courier"
                    textarea name="note" rows="3" maxlength=(LONGEST_NOTE) { "\n" (visitor.note) }
                }
                button { "Save" }
            }
        }
    };
    layout::page(visitor, "Preferences", notice, &main)
}
