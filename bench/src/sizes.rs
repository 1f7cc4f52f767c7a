//! How large sessions are.

use std::iter;

use crate::options::Options;

/// So many sizes stand for all between the least and the most.
const STEPS: usize = 16;

/// The sizes of a contestant's sessions, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    least: usize,
    most: usize,
}

impl Sizes {
    /// From the least to the most.
    pub fn between(least: usize, most: usize) -> Self {
        Self {
            least,
            most: most.max(least),
        }
    }

    /// What all are at least.
    pub fn least(self) -> usize {
        self.least
    }

    /// Sizes that are equally far from each other; one, if all are the same.
    pub fn all(self) -> impl Iterator<Item = usize> {
        let steps = match self.most - self.least {
            0 => 1,
            _ => STEPS,
        };
        (0..steps).map(move |step| self.least + (self.most - self.least) * step / (steps - 1).max(1))
    }

    /// Random bytes of each size.
    pub fn bytes(self) -> Vec<Vec<u8>> {
        let random = |size| {
            let mut data = vec![0; size];
            fastrand::fill(&mut data);
            data
        };
        self.all().map(random).collect()
    }

    /// Texts of each size, in so many parts.
    pub fn texts(self, parts: usize) -> impl Iterator<Item = Vec<String>> {
        let text = move |size| {
            iter::repeat_with(fastrand::alphanumeric)
                .take(size / parts)
                .collect()
        };
        self.all()
            .map(move |size| (0..parts).map(|_| text(size)).collect())
    }
}

impl From<usize> for Sizes {
    fn from(size: usize) -> Self {
        Self::between(size, size)
    }
}

impl From<&Options> for Sizes {
    fn from(options: &Options) -> Self {
        options.sizes.unwrap_or(options.size.into())
    }
}

/// Any of several.
pub fn any<T>(of: &[T]) -> &T {
    &of[fastrand::usize(..of.len())]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn from_the_least_to_the_most() {
        let all: Vec<_> = Sizes::between(400, 600).all().collect();
        assert_eq!((all.len(), all[0], all[STEPS - 1]), (STEPS, 400, 600));
        assert_eq!(Sizes::from(1024).all().collect::<Vec<_>>(), [1024]);
        assert_eq!(Sizes::between(400, 600).bytes()[0].len(), 400);
    }
}
