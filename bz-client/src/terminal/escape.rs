//! The way out of a raw terminal: Enter, `~`, `.`, as with `ssh`; `~~` types one `~`.

/// What typed bytes mean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Typed {
    /// Bytes for the shell.
    Bytes(Vec<u8>),
    /// The person leaves.
    Detach,
}

/// Follows what is typed, over any cut into pieces.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Escape {
    /// At the beginning of a line.
    #[default]
    Begin,
    /// After a `~` there.
    Tilde,
    /// Within a line.
    Within,
}

impl Escape {
    pub(super) fn typed(&mut self, bytes: &[u8]) -> Typed {
        let mut out = Vec::with_capacity(bytes.len());
        for byte in bytes {
            match (*self, *byte) {
                (Self::Tilde, b'.') => return Typed::Detach,
                (Self::Begin, b'~') => *self = Self::Tilde,
                (before, byte) => {
                    if before == Self::Tilde && byte != b'~' {
                        out.push(b'~');
                    }
                    out.push(byte);
                    *self = if matches!(byte, b'\r' | b'\n') { Self::Begin } else { Self::Within };
                }
            }
        }
        Typed::Bytes(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pieces: &[&str], want: &[Typed]) {
        let mut escape = Escape::default();
        let got: Vec<Typed> = pieces.iter().map(|p| escape.typed(p.as_bytes())).collect();
        assert_eq!(got, want, "{pieces:?}");
    }

    fn bytes(text: &str) -> Typed {
        Typed::Bytes(text.as_bytes().to_vec())
    }

    #[test]
    fn the_way_out_is_at_the_beginning_of_a_line() {
        check(&["ls ~.\r"], &[bytes("ls ~.\r")]);
        check(&["~."], &[Typed::Detach]);
        check(&["ls\r~."], &[Typed::Detach]);
        check(&["ls\r", "~", "."], &[bytes("ls\r"), bytes(""), Typed::Detach]);
        check(&["~~."], &[bytes("~.")]);
        check(&["~a"], &[bytes("~a")]);
        check(&["x~\r~."], &[Typed::Detach]);
    }
}
