//! Files one after the other, in the part of POSIX `ustar` that a backup needs: whoever has the passphrase and no server
//! takes them out with `tar`.
//!
//! Absent: everything else that an archive may hold. Links, devices, folders and long names are refused when read.

use std::io::{self, Read, Write};

/// The unit of the format.
const BLOCK: usize = 512;
/// A file's name fits into one field.
pub(super) const MOST_NAME: usize = 100;
/// Sizes above are written in binary.
const MOST_OCTAL: u64 = (1 << 33) - 1;

/// Writes the head of a file of this size; its bytes and [`pad`] follow.
pub(super) fn head(out: &mut impl Write, name: &str, size: u64) -> io::Result<()> {
    if name.len() > MOST_NAME {
        return Err(io::Error::other(format!("{name}: the name is longer than {MOST_NAME} bytes")));
    }
    let mut block = [0; BLOCK];
    put(&mut block, 0, name.as_bytes());
    put(&mut block, 100, b"0000600\0");
    put(&mut block, 108, b"0000000\0");
    put(&mut block, 116, b"0000000\0");
    if size > MOST_OCTAL {
        put(&mut block, 124, &[0x80, 0, 0, 0]);
        put(&mut block, 128, &size.to_be_bytes());
    } else {
        put(&mut block, 124, format!("{size:011o}\0").as_bytes());
    }
    put(&mut block, 136, b"00000000000\0");
    put(&mut block, 156, b"0");
    put(&mut block, 257, b"ustar\x0000");
    let sum = sum(&block);
    put(&mut block, 148, format!("{sum:06o}\0 ").as_bytes());
    out.write_all(&block)
}

/// Fills the last block of a file of this size.
pub(super) fn pad(out: &mut impl Write, size: u64) -> io::Result<()> {
    out.write_all([0; BLOCK].get(..padding(size)).unwrap_or_default())
}

/// Ends the archive.
pub(super) fn end(out: &mut impl Write) -> io::Result<()> {
    out.write_all(&[0; 2 * BLOCK])
}

/// The next file's name and size; `None` at the end.
pub(super) fn next(from: &mut impl Read) -> io::Result<Option<(String, u64)>> {
    let mut block = [0; BLOCK];
    from.read_exact(&mut block)?;
    if block == [0; BLOCK] {
        from.read_exact(&mut block)?;
        return if block == [0; BLOCK] { Ok(None) } else { Err(odd("its end")) };
    }
    let stated = octal(get(&block, 148, 8)).ok_or_else(|| odd("a sum"))?;
    if u64::from(sum(&block)) != stated || get(&block, 257, 5) != b"ustar" {
        return Err(odd("the head of a file"));
    }
    if get(&block, 156, 1) != b"0" || get(&block, 345, 1) != [0] {
        return Err(odd("something that is no plain file"));
    }
    let name = get(&block, 0, MOST_NAME).split(|byte| *byte == 0).next().unwrap_or_default();
    let name = std::str::from_utf8(name).ok().filter(|name| is_inside(name)).ok_or_else(|| odd("a name"))?;
    let size = match get(&block, 124, 12) {
        [0x80, 0, 0, 0, rest @ ..] => rest.try_into().ok().map(u64::from_be_bytes),
        digits => octal(digits),
    };
    Ok(Some((name.to_owned(), size.ok_or_else(|| odd("a size"))?)))
}

/// Reads past what fills the last block of a file of this size.
pub(super) fn unpad(from: &mut impl Read, size: u64) -> io::Result<()> {
    let mut block = [0; BLOCK];
    match block.get_mut(..padding(size)) {
        Some(rest) => from.read_exact(rest),
        None => Ok(()),
    }
}

fn padding(size: u64) -> usize {
    let over = usize::try_from(size % BLOCK as u64).unwrap_or_default();
    if over == 0 { 0 } else { BLOCK - over }
}

/// Whether a name leads to a place in the folder, and nowhere else.
fn is_inside(name: &str) -> bool {
    let plain = |part: &str| !matches!(part, "" | "." | "..") && !part.contains(char::is_control);
    name.split('/').all(plain)
}

fn odd(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{what} is not as a backup has it"))
}

/// All bytes of a head together, its own sum taken as spaces.
fn sum(block: &[u8; BLOCK]) -> u32 {
    let bytes = block.iter().enumerate();
    bytes.map(|(at, byte)| if (148..156).contains(&at) { 32 } else { u32::from(*byte) }).sum()
}

fn octal(field: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(field).ok()?.trim_matches(['\0', ' ']);
    u64::from_str_radix(text, 8).ok()
}

fn get(block: &[u8; BLOCK], at: usize, length: usize) -> &[u8] {
    block.get(at..at.saturating_add(length)).unwrap_or_default()
}

fn put(block: &mut [u8; BLOCK], at: usize, bytes: &[u8]) {
    if let Some(place) = block.get_mut(at..at.saturating_add(bytes.len())) {
        place.copy_from_slice(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_come_out_as_they_went_in() {
        let mut bytes = Vec::new();
        for (name, size) in [("a", 0), ("b/c.txt", 511), ("d", 512), ("e", 513)] {
            head(&mut bytes, name, size).unwrap();
            bytes.extend(vec![7; usize::try_from(size).unwrap()]);
            pad(&mut bytes, size).unwrap();
        }
        end(&mut bytes).unwrap();
        let mut from = bytes.as_slice();
        let mut found = Vec::new();
        while let Some((name, size)) = next(&mut from).unwrap() {
            io::copy(&mut (&mut from).take(size), &mut io::sink()).unwrap();
            unpad(&mut from, size).unwrap();
            found.push((name, size));
        }
        let want = [("a", 0), ("b/c.txt", 511), ("d", 512), ("e", 513)];
        assert_eq!(found, want.map(|(name, size)| (name.to_owned(), size)));
        assert!(from.is_empty());
    }

    #[test]
    fn sizes_above_eight_gibibytes_are_binary() {
        for size in [MOST_OCTAL, MOST_OCTAL + 1, u64::MAX] {
            let mut bytes = Vec::new();
            head(&mut bytes, "db", size).unwrap();
            assert_eq!(next(&mut bytes.as_slice()).unwrap(), Some(("db".to_owned(), size)));
        }
    }

    #[test]
    fn no_name_leads_out_of_the_folder() {
        for name in ["../x", "/x", "a/../b", ".", "a//b", "", "a/\n"] {
            let mut bytes = Vec::new();
            head(&mut bytes, name, 0).unwrap();
            assert!(next(&mut bytes.as_slice()).is_err(), "{name:?}");
        }
        assert!(head(&mut Vec::new(), &"x".repeat(101), 0).is_err());
    }

    #[test]
    fn other_kinds_of_entries_are_refused() {
        for kind in [b'1', b'2', b'5', b'L', b'x'] {
            let mut bytes = Vec::new();
            head(&mut bytes, "name", 0).unwrap();
            bytes[156] = kind;
            let sum = sum(bytes.as_slice().try_into().unwrap());
            bytes[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
            let refused = next(&mut bytes.as_slice()).unwrap_err().to_string();
            assert!(refused.contains("no plain file"), "{}: {refused}", char::from(kind));
        }
    }
}
