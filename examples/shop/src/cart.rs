//! The attributes that the shop keeps in a session, beside the preferences: the cart and what was ordered.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::catalogue::{Currency, Money, Product, product};

/// Pieces of one product that a cart holds at most.
pub(crate) const MOST_PIECES: u32 = 99;

/// Orders that a session remembers; older ones make room.
const MOST_ORDERS: usize = 5;

/// What the visitor is about to buy: pieces by product. At most one line per product of the catalogue, so its size in
/// the session is bounded.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Cart {
    pieces: BTreeMap<String, u32>,
}

impl Cart {
    /// The cart with `more` pieces of a product added, up to [`MOST_PIECES`].
    #[must_use]
    pub(crate) fn with(self, product: &Product, more: u32) -> Self {
        let pieces = self.pieces.get(product.slug).copied().unwrap_or_default();
        self.with_exactly(product, pieces.saturating_add(more))
    }

    /// The cart with that many pieces of a product, up to [`MOST_PIECES`]; without the product if there are none.
    #[must_use]
    pub(crate) fn with_exactly(mut self, product: &Product, pieces: u32) -> Self {
        match pieces {
            0 => self.pieces.remove(product.slug),
            pieces => self
                .pieces
                .insert(product.slug.to_owned(), pieces.min(MOST_PIECES)),
        };
        self
    }

    /// Products and pieces, in a steady order. A product that is no longer sold is left out.
    pub(crate) fn lines(&self) -> impl Iterator<Item = (&'static Product, u32)> {
        self.pieces
            .iter()
            .filter_map(|(slug, pieces)| Some((product(slug)?, *pieces)))
    }

    /// All pieces.
    pub(crate) fn pieces(&self) -> u32 {
        self.lines().map(|(_, pieces)| pieces).sum()
    }

    /// What it costs.
    pub(crate) fn total(&self, currency: Currency) -> Money {
        let amounts = self
            .lines()
            .map(|(product, pieces)| currency.price(product.cents).times(pieces));
        Money::sum(currency, amounts)
    }

    /// Whether there is nothing to buy.
    pub(crate) fn is_empty(&self) -> bool {
        self.lines().next().is_none()
    }
}

/// The orders of this session, the newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Orders {
    /// How many were ever placed in this session.
    pub(crate) placed: u32,
    /// The newest of them.
    pub(crate) newest: Vec<Order>,
}

impl Orders {
    /// The orders with one more. An empty cart is no order.
    #[must_use]
    pub(crate) fn with(mut self, cart: Cart, currency: Currency) -> Self {
        if !cart.is_empty() {
            self.placed = self.placed.saturating_add(1);
            self.newest.insert(
                0,
                Order {
                    number: self.placed,
                    cart,
                    currency,
                },
            );
            self.newest.truncate(MOST_ORDERS);
        }
        self
    }
}

/// What was bought.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Order {
    /// The first order of a session is number 1.
    pub(crate) number: u32,
    /// What was in the cart.
    pub(crate) cart: Cart,
    /// What it was paid in.
    pub(crate) currency: Currency,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::PRODUCTS;

    #[test]
    fn pieces_add_up_and_are_bounded() {
        let cart = Cart::default().with(&PRODUCTS[0], 2).with(&PRODUCTS[0], 3);
        assert_eq!(cart.pieces(), 5);
        assert_eq!(cart.clone().with(&PRODUCTS[0], u32::MAX).pieces(), MOST_PIECES);
        assert_eq!(
            cart.clone().with_exactly(&PRODUCTS[0], u32::MAX).pieces(),
            MOST_PIECES
        );
        assert_eq!(cart.total(Currency::Eur).to_string(), "€72.50");
        assert!(cart.with_exactly(&PRODUCTS[0], 0).is_empty());
        assert_eq!(Cart::default().with(&PRODUCTS[0], 0), Cart::default());
    }

    #[test]
    fn product_that_is_no_longer_sold_is_left_out() {
        let cart = Cart {
            pieces: BTreeMap::from([("vinyl".to_owned(), 2), ("mug".to_owned(), 1)]),
        };
        assert_eq!(cart.pieces(), 1);
        assert_eq!(cart.lines().count(), 1);
    }

    #[test]
    fn orders_are_bounded_and_an_empty_cart_is_none() {
        let orders = (0..7).fold(Orders::default(), |orders, _| {
            orders.with(Cart::default().with(&PRODUCTS[0], 1), Currency::Eur)
        });
        assert_eq!((orders.placed, orders.newest.len()), (7, MOST_ORDERS));
        assert_eq!(orders.newest[0].number, 7);
        assert_eq!(orders.clone().with(Cart::default(), Currency::Eur), orders);
    }
}
