//! The format: what goes in comes out, every change and cut is noticed.

use super::*;

const PASSPHRASE: &[u8] = b"correct horse battery";

fn sealed(plain: &[u8]) -> Vec<u8> {
    let random = Random { key: Zeroizing::new([1; 16]), salt: [2; 16], nonce: [3; 16] };
    let mut sealer = Sealer::new(Vec::new(), (PASSPHRASE, 2), &random).unwrap();
    sealer.write_all(plain).unwrap();
    sealer.finish().unwrap()
}

fn opened(bytes: &[u8], passphrase: &[u8]) -> Result<Vec<u8>, AgeError> {
    let mut plain = Vec::new();
    Opener::new(bytes, passphrase)?.read_to_end(&mut plain)?;
    Ok(plain)
}

#[test]
fn what_goes_in_comes_out_at_every_length_around_a_piece() {
    for length in [0, 1, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE, 3 * PIECE + 17] {
        let plain: Vec<u8> = (0..=250).cycle().take(length).collect();
        assert!(opened(&sealed(&plain), PASSPHRASE).unwrap() == plain, "{length} bytes");
    }
}

#[test]
fn a_wrong_passphrase_and_every_cut_and_change_are_refused() {
    let good = sealed(&vec![7; PIECE + 100]);
    assert!(matches!(opened(&good, b"correct horse batterz"), Err(AgeError::Passphrase)));
    let payload = good.len() - (PIECE + 100 + 2 * TAG);
    for cut in [0, 10, 50, payload, payload + 1, payload + PIECE + TAG, good.len() - 1] {
        assert!(opened(&good[..cut], PASSPHRASE).is_err(), "cut to {cut} bytes");
    }
    for at in (0..good.len()).step_by(good.len() / 7).chain([20, 30, 60, 100, 150, payload - 1]) {
        let mut changed = good.clone();
        changed[at] ^= 1;
        assert!(opened(&changed, PASSPHRASE).is_err(), "byte {at} was changed");
    }
    assert!(opened(&[good.as_slice(), b"x"].concat(), PASSPHRASE).is_err(), "something follows");
}

/// A file may not ask for more work than a machine has memory for.
#[test]
fn work_is_bounded() {
    let good = sealed(b"x");
    let text = String::from_utf8_lossy(&good);
    let stanza = text.lines().nth(1).unwrap();
    let (words, _) = stanza.rsplit_once(' ').unwrap();
    for work in ["21", "63", "255", "99999", "+14", "014", ""] {
        let head = format!("{VERSION}\n{words} {work}\n");
        let at = VERSION.len() + 1 + stanza.len() + 1;
        let refused = opened(&[head.as_bytes(), &good[at..]].concat(), PASSPHRASE);
        assert!(matches!(refused, Err(AgeError::Malformed(_))), "{work:?}");
    }
}
