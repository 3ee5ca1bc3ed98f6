//! A certificate's validity: the one field of X.509 that this server reads itself, in order to renew or to warn before
//! its end.
//!
//! Absent: everything about whether a certificate is good, which is rustls' at the other end.

use bz_core::time::UnixTime;
use jiff::civil::DateTime;

const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// `notBefore` and `notAfter` of a certificate (RFC 5280, section 4.1).
pub(super) fn validity(certificate: &[u8]) -> Option<(UnixTime, UnixTime)> {
    let (SEQUENCE, certificate, _) = element(certificate)? else { return None };
    let (SEQUENCE, mut fields, _) = element(certificate)? else { return None };
    if let (VERSION, _, rest) = element(fields)? {
        fields = rest;
    }
    // Serial number, signature, issuer.
    for _ in 0..3 {
        (_, _, fields) = element(fields)?;
    }
    let (SEQUENCE, times, _) = element(fields)? else { return None };
    let (kind, text, rest) = element(times)?;
    let begins = time(kind, std::str::from_utf8(text).ok()?)?;
    let (kind, text, _) = element(rest)?;
    Some((begins, time(kind, std::str::from_utf8(text).ok()?)?))
}

fn time(kind: u8, text: &str) -> Option<UnixTime> {
    let digits = text.strip_suffix('Z')?;
    let full = match kind {
        // Two digits stand for 1950 to 2049.
        UTC_TIME if digits.get(..2)? < "50" => format!("20{digits}"),
        UTC_TIME => format!("19{digits}"),
        GENERALIZED_TIME => digits.to_owned(),
        _ => return None,
    };
    let at = DateTime::strptime("%Y%m%d%H%M%S", full).ok()?.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
    Some(UnixTime::from_secs(u64::try_from(at.timestamp().as_second()).ok()?))
}

/// The first element's tag and content, and what follows it.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (tag, rest) = bytes.split_first()?;
    let (length, rest) = rest.split_first()?;
    let (length, rest) = match *length {
        short @ 0..=0x7f => (usize::from(short), rest),
        long @ 0x81..=0x84 => {
            let (length, rest) = rest.split_at_checked(usize::from(long & 0x7f))?;
            (length.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((*tag, content, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_both_forms() {
        for (year, want) in [(2030, 1_893_456_000), (2049, 2_493_072_000), (2050, 2_524_608_000)] {
            let mut params = rcgen::CertificateParams::new(vec!["x".to_owned()]).unwrap();
            params.not_before = rcgen::date_time_ymd(year - 1, 1, 1);
            params.not_after = rcgen::date_time_ymd(year, 1, 1);
            let made = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
            let (begins, ends) = validity(made.der()).unwrap();
            assert_eq!(ends, UnixTime::from_secs(want), "{year}");
            assert!([365, 366].contains(&(ends.since(begins).as_secs() / 86_400)), "{year}: {begins}");
            for cut in 0..made.der().len().min(200) {
                assert_eq!(validity(&made.der()[..cut]), None, "cut to {cut} bytes");
            }
        }
    }

    #[test]
    fn what_is_no_certificate_has_no_times() {
        for bytes in [&b""[..], b"0", b"0\x80", b"0\x84\xff\xff\xff\xff", &[0x30; 64]] {
            assert_eq!(validity(bytes), None, "{bytes:02x?}");
        }
    }
}
