//! What there is to buy.

use maud::{Markup, PreEscaped, html};

use super::{Notice, layout};
use crate::{
    catalogue::{PRODUCTS, Product},
    visitor::Visitor,
};

/// The list of products.
pub(crate) fn list(visitor: &Visitor, notice: Option<Notice>) -> Markup {
    let main = html! {
        h1 { "Things that last" }
        ul.products {
            @for product in &PRODUCTS {
                li {
                    (picture(product))
                    div.about {
                        h2 { (product.name) }
                        p { (product.about) }
                    }
                    form.buy method="post" action=(visitor.url("/cart/add")) {
                        (layout::token(visitor))
                        input type="hidden" name="product" value=(product.slug);
                        strong.price { (visitor.currency.price(product.cents)) }
                        button aria-label={ "Add to the cart: " (product.name) } { "Add to cart" }
                    }
                }
            }
        }
    };
    layout::page(visitor, "Things that last", notice, &main)
}

/// The picture of a product. It says nothing that the name beside it does not.
pub(super) fn picture(product: &Product) -> Markup {
    html! {
        svg.picture viewBox="0 0 96 96" aria-hidden="true" { (PreEscaped(product.picture)) }
    }
}
