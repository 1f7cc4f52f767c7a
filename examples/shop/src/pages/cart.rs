//! The cart, the checkout and what was ordered.

use maud::{Markup, html};

use super::{Notice, layout, list::picture};
use crate::{
    cart::{Cart, MOST_PIECES, Orders},
    catalogue::Currency,
    visitor::Visitor,
};

/// What is in the cart, to change.
pub(crate) fn cart(visitor: &Visitor, notice: Option<Notice>) -> Markup {
    let main = html! {
        h1 { "Your cart" }
        @if visitor.cart.is_empty() {
            p { "It is empty." }
            p { a.button href=(visitor.url("/")) { "To the list" } }
        } @else {
            ul.lines {
                @for (product, pieces) in visitor.cart.lines() {
                    @let price = visitor.currency.price(product.cents);
                    li {
                        (picture(product))
                        div.about {
                            h2 { (product.name) }
                            p { (price) " each" }
                        }
                        form.pieces method="post" action=(visitor.url("/cart/set")) {
                            (layout::token(visitor))
                            input type="hidden" name="product" value=(product.slug);
                            label {
                                span.unseen { "Pieces of " (product.name) }
                                input type="number" name="pieces" value=(pieces) min="0" max=(MOST_PIECES) required;
                            }
                            button.quiet aria-label={ "Change the pieces: " (product.name) } { "Change" }
                        }
                        form.remove method="post" action=(visitor.url("/cart/remove")) {
                            (layout::token(visitor))
                            input type="hidden" name="product" value=(product.slug);
                            button.plain aria-label={ "Remove: " (product.name) } { "Remove" }
                        }
                        strong.price { (price.times(pieces)) }
                    }
                }
            }
            p.total { "Total " strong { (visitor.cart.total(visitor.currency)) } }
            p.actions {
                a href=(visitor.url("/")) { "Go on shopping" }
                a.button href=(visitor.url("/checkout")) { "To the checkout" }
            }
        }
        p.aside { a href=(visitor.url("/orders")) { "What you ordered" } }
    };
    layout::page(visitor, "Your cart", notice, &main)
}

/// What is about to be ordered, for a user.
pub(crate) fn checkout(visitor: &Visitor) -> Markup {
    let main = html! {
        section.narrow {
            h1 { "Checkout" }
            @if visitor.cart.is_empty() {
                p { "There is nothing to order: your cart is empty." }
                p { a.button href=(visitor.url("/")) { "To the list" } }
            } @else {
                (table(&visitor.cart, visitor.currency))
                @if !visitor.note.is_empty() {
                    h2 { "Your note for the courier" }
                    p.note { (visitor.note) }
                }
                p { a href=(visitor.url("/preferences")) { "Change the currency or the note for the courier" } }
                form method="post" action=(visitor.url("/checkout")) {
                    (layout::token(visitor))
                    button { "Place the order" }
                }
            }
        }
    };
    layout::page(visitor, "Checkout", None, &main)
}

/// What was ordered in this session.
pub(crate) fn orders(visitor: &Visitor, orders: &Orders, notice: Option<Notice>) -> Markup {
    let main = html! {
        section.narrow {
            h1 { "Your orders" }
            @if orders.newest.is_empty() {
                p { "None in this session." }
            }
            @for order in &orders.newest {
                h2 { "Order " (order.number) }
                (table(&order.cart, order.currency))
            }
            p { a.button href=(visitor.url("/")) { "To the list" } }
        }
    };
    layout::page(visitor, "Your orders", notice, &main)
}

fn table(cart: &Cart, currency: Currency) -> Markup {
    html! {
        table {
            thead { tr { th scope="col" { "Product" } th.number scope="col" { "Pieces" } th.number scope="col" { "Price" } } }
            tbody {
                @for (product, pieces) in cart.lines() {
                    tr {
                        td { (product.name) }
                        td.number { (pieces) }
                        td.number { (currency.price(product.cents).times(pieces)) }
                    }
                }
            }
            tfoot {
                tr { th scope="row" { "Total" } td.number { (cart.pieces()) } td.number { (cart.total(currency)) } }
            }
        }
    }
}
