//! How the visitor likes the shop: three attributes, so that two tabs which change two of them both succeed.

use serde::{Deserialize, Serialize};

/// Characters that a note has at most.
pub(crate) const LONGEST_NOTE: usize = 200;

/// The colours of the pages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Theme {
    /// As the browser asks.
    #[default]
    Auto,
    /// Dark on light.
    Light,
    /// Light on dark.
    Dark,
}

impl Theme {
    /// All of them, in the order of the form.
    pub(crate) const ALL: [Self; 3] = [Self::Auto, Self::Light, Self::Dark];

    /// The value in forms and in the style sheet.
    pub(crate) fn value(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Light => "light",
            Self::Dark => "dark",
        }
    }

    /// The name on the pages.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Auto => "As the browser asks",
            Self::Light => "Light",
            Self::Dark => "Dark",
        }
    }
}

/// A note as the visitor typed it, fit to be kept: without blanks around it and with newlines as one character.
/// `None` if it is longer than [`LONGEST_NOTE`] characters.
pub(crate) fn note(typed: &str) -> Option<String> {
    let note = typed.trim().replace("\r\n", "\n");
    (note.chars().count() <= LONGEST_NOTE).then_some(note)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_are_trimmed_and_bounded_in_characters() {
        assert_eq!(
            note(" ring twice\r\nplease \n").as_deref(),
            Some("ring twice\nplease")
        );
        assert!(note(&"é".repeat(LONGEST_NOTE)).is_some());
        assert!(note(&"é".repeat(LONGEST_NOTE + 1)).is_none());
    }
}
