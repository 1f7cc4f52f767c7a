//! What the crates of this workspace say of an event.

/// An event that is reported through `tracing`, and counted with the feature `metrics`: for documentation and dashboards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct EventInfo {
    /// Its name: the field `event` of the `tracing` event, and the label `event` of the counter. Names are kept.
    pub name: &'static str,
    /// Its level, as `tracing` writes it.
    pub level: &'static str,
    /// What has happened, in a line.
    pub meaning: &'static str,
}

impl EventInfo {
    /// An event of a crate on top of this one.
    #[must_use]
    pub const fn new(name: &'static str, level: &'static str, meaning: &'static str) -> Self {
        Self { name, level, meaning }
    }
}

/// Counts an event. Without labels of its own it allocates nothing.
#[cfg(feature = "metrics")]
macro_rules! counted {
    ($metric:expr, $name:ident, $times:expr) => {{
        static LABELS: [::metrics::Label; 1] =
            [::metrics::Label::from_static_parts("event", stringify!($name))];
        static KEY: ::metrics::Key = ::metrics::Key::from_static_parts($metric, &LABELS);
        crate::metrics::add(&KEY, $times);
    }};
    ($metric:expr, $name:ident, $times:expr, $label:literal => $value:expr) => {{
        let labels = vec![
            ::metrics::Label::from_static_parts("event", stringify!($name)),
            ::metrics::Label::from_static_parts($label, $value),
        ];
        crate::metrics::add(&::metrics::Key::from_parts($metric, labels), $times);
    }};
}
#[cfg(feature = "metrics")]
pub(crate) use counted;
