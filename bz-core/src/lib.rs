//! Nouns and evidence.
