//! A stranger's words, made fit to be shown.

const MAX: usize = 300;

/// The text, short and without control characters, so that it cannot steer a terminal.
pub(crate) fn shown(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX).collect()
}
