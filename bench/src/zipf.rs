//! Keys as they are asked for: few often, many seldom.

use rand::{RngExt, SeedableRng, rngs::SmallRng};
use rand_distr::{Distribution, Zipf};

use crate::Result;

/// The exponent of YCSB (Cooper et al., 2010).
pub const EXPONENT: f64 = 0.99;

/// Places below a count, Zipf-distributed: the first is the most frequent.
#[derive(Debug)]
pub struct Places {
    places: Zipf<f64>,
    random: SmallRng,
}

impl Places {
    /// Below `count`, which is at least one.
    ///
    /// # Errors
    ///
    /// `count` is zero.
    pub fn below(count: usize) -> Result<Self> {
        Ok(Self {
            places: Zipf::new(count as f64, EXPONENT)?,
            random: SmallRng::seed_from_u64(fastrand::u64(..)),
        })
    }

    /// The next.
    pub fn place(&mut self) -> usize {
        self.places.sample(&mut self.random) as usize - 1
    }

    /// Whether what happens with this probability does.
    pub fn chance(&mut self, probability: f64) -> bool {
        self.random.random_bool(probability)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_the_most_frequent_and_none_is_out_of_bounds() {
        const COUNT: usize = 100_000;
        let mut places = Places::below(COUNT).unwrap();
        let mut seen = vec![0_u32; COUNT];
        for _ in 0..200_000 {
            seen[places.place()] += 1;
        }
        // 1 / sum(n^-0.99) for 100,000 is 0.078: 15,600 are expected, with a deviation of 120.
        assert!((14_000..17_200).contains(&seen[0]), "{}", seen[0]);
        assert!(seen[0] > seen[9] && seen[9] > seen[99]);
        assert!(Places::below(0).is_err());
    }
}
