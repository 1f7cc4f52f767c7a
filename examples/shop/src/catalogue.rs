//! What the shop sells, and what it costs in each currency.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One thing that the shop sells.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Product {
    /// Its name in forms and in the cart. Never changes.
    pub(crate) slug: &'static str,
    /// Its name on the pages.
    pub(crate) name: &'static str,
    /// One sentence about it.
    pub(crate) about: &'static str,
    /// Its price in cents of a euro.
    pub(crate) cents: u64,
    /// The inside of its picture: SVG in a box of 96 × 96, coloured by the style sheet's classes.
    pub(crate) picture: &'static str,
}

/// Everything that the shop sells, in the order of the list.
pub(crate) static PRODUCTS: [Product; 8] = [
    Product {
        slug: "mug",
        name: "Stoneware mug",
        about: "Holds a third of a litre, and the warmth of it for a while.",
        cents: 1450,
        picture: r#"<path class="b" d="M66 40h8a10 10 0 0 1 0 24h-8v-7h7a4 4 0 0 0 0-10h-7z"/><path class="a" d="M24 32h44v34a12 12 0 0 1-12 12H36a12 12 0 0 1-12-12z"/><path class="c" d="M24 32h44v8H24z"/>"#,
    },
    Product {
        slug: "notebook",
        name: "Dotted notebook",
        about: "Two hundred pages that lie flat, and a ribbon to find yours again.",
        cents: 1200,
        picture: r#"<rect class="a" x="24" y="16" width="50" height="64" rx="5"/><path class="b" d="M24 21a5 5 0 0 1 5-5h5v64h-5a5 5 0 0 1-5-5z"/><path class="c" d="M44 30h20v5H44zM44 40h14v5H44zM60 62h6v22l-3-4-3 4z"/>"#,
    },
    Product {
        slug: "pencils",
        name: "Twelve pencils",
        about: "Cedar, from 4H to 6B, in a tin that survives a satchel.",
        cents: 1890,
        picture: r#"<path class="a" d="M26 34l7-16 7 16v44H26z"/><path class="b" d="M41 34l7-16 7 16v44H41z"/><path class="a" d="M56 34l7-16 7 16v44H56z"/><path class="c" d="M22 54h52v26H22z"/>"#,
    },
    Product {
        slug: "lamp",
        name: "Desk lamp",
        about: "Bends where you read and stays there.",
        cents: 5900,
        picture: r#"<path class="b" d="M30 72l12-30 16-14 4 5-14 13-11 27z"/><path class="a" d="M54 22l22 20-8 10a18 18 0 0 1-22-20z"/><path class="c" d="M20 72h36v8H20zM58 46l10 9a8 8 0 0 1-10-9z"/>"#,
    },
    Product {
        slug: "kettle",
        name: "Enamel kettle",
        about: "One and a half litres, and a whistle that can be heard in the garden.",
        cents: 4200,
        picture: r#"<path class="b" d="M34 36a14 16 0 0 1 28 0h-6a8 10 0 0 0-16 0zM64 46l16-8 3 6-17 12z"/><path class="a" d="M30 38h36l6 32a8 8 0 0 1-8 10H32a8 8 0 0 1-8-10z"/><path class="c" d="M26 58h44l1 8H25zM44 32h8v6h-8z"/>"#,
    },
    Product {
        slug: "plant",
        name: "Rubber plant",
        about: "Asks for water on Sundays and for nothing else.",
        cents: 2750,
        picture: r#"<path class="b" d="M45 54V30h6v24z"/><path class="a" d="M48 44c-16 2-24-8-24-20 14-2 24 6 24 20zM48 36c0-12 8-20 22-20 2 12-6 22-22 20z"/><path class="c" d="M28 54h40l-5 26H33z"/>"#,
    },
    Product {
        slug: "blanket",
        name: "Wool blanket",
        about: "Large enough for two, or for one and a dog.",
        cents: 7900,
        picture: r#"<rect class="a" x="18" y="30" width="60" height="44" rx="8"/><path class="b" d="M18 44h60v7H18zM18 58h60v4H18z"/><path class="c" d="M20 74h4v8h-4zM32 74h4v8h-4zM46 74h4v8h-4zM60 74h4v8h-4zM72 74h4v8h-4z"/>"#,
    },
    Product {
        slug: "tote",
        name: "Canvas bag",
        about: "Carries all of the above, one after the other.",
        cents: 1650,
        picture: r#"<path class="b" d="M34 42V30a14 14 0 0 1 28 0v12h-6V30a8 8 0 0 0-16 0v12z"/><path class="a" d="M22 38h52l4 42H18z"/><path class="c" d="M48 52l3 7 8 1-6 5 2 8-7-4-7 4 2-8-6-5 8-1z"/>"#,
    },
];

/// The product of that name, if the shop sells it.
pub(crate) fn product(slug: &str) -> Option<&'static Product> {
    PRODUCTS.iter().find(|product| product.slug == slug)
}

/// What prices are shown in. The rates are the shop's own and do not move.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Currency {
    /// Euros.
    #[default]
    Eur,
    /// United States dollars.
    Usd,
    /// Pounds sterling.
    Gbp,
    /// Yen, which have no hundredths.
    Jpy,
}

impl Currency {
    /// All of them, in the order of the form.
    pub(crate) const ALL: [Self; 4] = [Self::Eur, Self::Usd, Self::Gbp, Self::Jpy];

    /// The value in forms.
    pub(crate) fn value(self) -> &'static str {
        match self {
            Self::Eur => "eur",
            Self::Usd => "usd",
            Self::Gbp => "gbp",
            Self::Jpy => "jpy",
        }
    }

    /// The name on the pages.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Eur => "Euro (€)",
            Self::Usd => "US dollar ($)",
            Self::Gbp => "Pound sterling (£)",
            Self::Jpy => "Yen (¥)",
        }
    }

    /// A price in this currency, rounded half up to its smallest coin.
    pub(crate) fn price(self, cents: u64) -> Money {
        let hundredths_of_the_rate = match self {
            Self::Eur => 100,
            Self::Usd => 110,
            Self::Gbp => 85,
            Self::Jpy => 160,
        };
        Money {
            coins: (cents * hundredths_of_the_rate + 50) / 100,
            currency: self,
        }
    }
}

/// An amount, in the smallest coin of its currency.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Money {
    coins: u64,
    currency: Currency,
}

impl Money {
    /// The amount, that many times. Prices are rounded once, one piece: what a page shows adds up.
    pub(crate) fn times(self, quantity: u32) -> Self {
        Self {
            coins: self.coins * u64::from(quantity),
            ..self
        }
    }

    /// The sum of amounts in `currency`.
    pub(crate) fn sum(currency: Currency, amounts: impl Iterator<Item = Self>) -> Self {
        Self {
            coins: amounts.map(|amount| amount.coins).sum(),
            currency,
        }
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, part) = (self.coins / 100, self.coins % 100);
        match self.currency {
            Currency::Eur => write!(f, "€{whole}.{part:02}"),
            Currency::Usd => write!(f, "${whole}.{part:02}"),
            Currency::Gbp => write!(f, "£{whole}.{part:02}"),
            Currency::Jpy => write!(f, "¥{}", self.coins),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slugs_are_unique_and_found() {
        for (at, one) in PRODUCTS.iter().enumerate() {
            assert_eq!(PRODUCTS.iter().position(|other| other.slug == one.slug), Some(at));
            assert_eq!(product(one.slug), Some(one));
        }
        assert_eq!(product("../mug"), None);
    }

    #[test]
    fn prices_are_rounded_once_and_written_as_the_currency_is() {
        assert_eq!(Currency::Eur.price(1450).to_string(), "€14.50");
        assert_eq!(Currency::Usd.price(1890).to_string(), "$20.79");
        assert_eq!(Currency::Gbp.price(1450).to_string(), "£12.33");
        assert_eq!(Currency::Gbp.price(1450).times(3).to_string(), "£36.99");
        assert_eq!(Currency::Jpy.price(1450).to_string(), "¥2320");
        assert_eq!(Currency::Eur.price(5).to_string(), "€0.05");
    }
}
