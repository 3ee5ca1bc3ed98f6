//! Values of parameters as the log shows them: in the database's own usual form where the type is known, otherwise as
//! text if they are some, otherwise in hexadecimal.

use crate::observe::command::text;
use crate::observe::query::LONGEST_NAME;
use crate::observe::query::cut::Fields;

/// Where PostgreSQL begins to count days and microseconds, in seconds since 1970.
const EPOCH: i64 = 946_684_800;

/// A value that is text.
pub(super) fn text(bytes: &[u8]) -> String {
    let (kept, cut) = bounded(bytes);
    match std::str::from_utf8(kept) {
        Ok(valid) => finish(text::shown_whole(valid), cut),
        // The cut may be within a character.
        Err(error) if cut && error.error_len().is_none() => {
            finish(text::shown_whole(&String::from_utf8_lossy(kept.get(..error.valid_up_to()).unwrap_or(kept))), cut)
        }
        Err(_) => hexadecimal(bytes),
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    let (kept, cut) = bounded(bytes);
    finish(format!("\\x{}", hex::encode(kept)), cut)
}

fn bounded(bytes: &[u8]) -> (&[u8], bool) {
    bytes.get(..LONGEST_NAME).map_or((bytes, false), |kept| (kept, bytes.len() > LONGEST_NAME))
}

fn finish(mut text: String, cut: bool) -> String {
    if cut {
        text.push('…');
    }
    text
}

/// A value in PostgreSQL's binary form.
pub(super) fn postgres(oid: u32, bytes: &[u8]) -> String {
    let unknown = || if oid == 17 { hexadecimal(bytes) } else { text(bytes) };
    known(oid, bytes).unwrap_or_else(|| if readable(oid) { unknown() } else { hexadecimal(bytes) })
}

/// Types whose binary form is their text.
const fn readable(oid: u32) -> bool {
    // char, name, text, json, xml, unknown, bpchar, varchar
    matches!(oid, 18 | 19 | 25 | 114 | 142 | 705 | 1042 | 1043)
}

fn known(oid: u32, bytes: &[u8]) -> Option<String> {
    let mut fields = Fields(bytes);
    let shown = match oid {
        16 => (fields.byte()? != 0).to_string(),
        20 => i64::from_be_bytes(fields.array()?).to_string(),
        21 => i16::from_be_bytes(fields.array()?).to_string(),
        23 => i32::from_be_bytes(fields.array()?).to_string(),
        26 => u32::from_be_bytes(fields.array()?).to_string(),
        700 => f32::from_be_bytes(fields.array()?).to_string(),
        701 => f64::from_be_bytes(fields.array()?).to_string(),
        1082 => date(i32::from_be_bytes(fields.array()?))?,
        1083 => time(i64::from_be_bytes(fields.array()?))?,
        1114 => timestamp(i64::from_be_bytes(fields.array()?))?.trim_end_matches('Z').to_owned(),
        1184 => timestamp(i64::from_be_bytes(fields.array()?))?,
        1700 => return numeric(fields),
        2950 => uuid(fields.take(16)?),
        // Its version, then JSON.
        3802 if fields.byte()? == 1 => return Some(text(fields.0)),
        _ => return None,
    };
    fields.0.is_empty().then_some(shown)
}

fn uuid(bytes: &[u8]) -> String {
    let mut text = String::new();
    for (at, byte) in bytes.iter().enumerate() {
        text.push_str(if matches!(at, 4 | 6 | 8 | 10) { "-" } else { "" });
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

fn date(days: i32) -> Option<String> {
    match days {
        i32::MAX => Some("infinity".to_owned()),
        i32::MIN => Some("-infinity".to_owned()),
        _ => {
            let seconds = i64::from(days).checked_mul(86_400)?.checked_add(EPOCH)?;
            let at = jiff::Timestamp::from_second(seconds).ok()?;
            Some(at.to_zoned(jiff::tz::TimeZone::UTC).date().to_string())
        }
    }
}

fn time(micros: i64) -> Option<String> {
    let micros = u64::try_from(micros).ok()?;
    let (seconds, fraction) = (micros / 1_000_000, micros % 1_000_000);
    let text = format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
    Some(if fraction == 0 { text } else { format!("{text}.{fraction:06}") })
}

fn timestamp(micros: i64) -> Option<String> {
    match micros {
        i64::MAX => Some("infinity".to_owned()),
        i64::MIN => Some("-infinity".to_owned()),
        _ => jiff::Timestamp::from_microsecond(micros.checked_add(EPOCH.checked_mul(1_000_000)?)?)
            .ok()
            .map(|at| at.to_string()),
    }
}

/// Digits of base 10000: how many, where the point is, the sign, and how many decimal ones are shown behind the point.
fn numeric(mut fields: Fields<'_>) -> Option<String> {
    let count = u16::from_be_bytes(fields.array()?);
    let weight = i16::from_be_bytes(fields.array()?);
    let sign = u16::from_be_bytes(fields.array()?);
    let scale = usize::from(u16::from_be_bytes(fields.array()?));
    match sign {
        0 | 0x4000 => {}
        0xc000 => return Some("NaN".to_owned()),
        0xd000 => return Some("Infinity".to_owned()),
        0xf000 => return Some("-Infinity".to_owned()),
        _ => return None,
    }
    let mut digits = Vec::new();
    for _ in 0..count {
        digits.push(u16::from_be_bytes(fields.array()?));
    }
    if usize::from(weight.unsigned_abs()) > LONGEST_NAME || scale > LONGEST_NAME {
        return None;
    }
    let digit = |at: i32| usize::try_from(at).ok().and_then(|at| digits.get(at)).copied().unwrap_or(0);
    let weight = i32::from(weight);
    let whole: String = (0..=weight).map(|at| format!("{:04}", digit(at))).collect();
    let whole = whole.trim_start_matches('0');
    let mut text = if sign == 0x4000 { "-".to_owned() } else { String::new() };
    text.push_str(if whole.is_empty() { "0" } else { whole });
    if scale > 0 {
        let groups = i32::try_from(scale.div_ceil(4)).ok()?;
        let behind: String = (1..=groups).map(|at| format!("{:04}", digit(weight.saturating_add(at)))).collect();
        text.push('.');
        text.push_str(behind.get(..scale).unwrap_or(&behind));
    }
    Some(text)
}

/// A value in MySQL's binary form, which says where it ends. `None` when it is cut, or of no known type.
pub(super) fn mysql(kind: u8, unsigned: bool, fields: &mut Fields<'_>) -> Option<Option<String>> {
    let signed_or = |signed: String, plain: String| if unsigned { plain } else { signed };
    let shown = match kind {
        0x06 => return Some(None),
        0x01 => {
            let byte = fields.array()?;
            signed_or(i8::from_le_bytes(byte).to_string(), u8::from_le_bytes(byte).to_string())
        }
        0x02 | 0x0d => {
            let bytes = fields.array()?;
            signed_or(i16::from_le_bytes(bytes).to_string(), u16::from_le_bytes(bytes).to_string())
        }
        0x03 | 0x09 => {
            let bytes = fields.array()?;
            signed_or(i32::from_le_bytes(bytes).to_string(), u32::from_le_bytes(bytes).to_string())
        }
        0x08 => {
            let bytes = fields.array()?;
            signed_or(i64::from_le_bytes(bytes).to_string(), u64::from_le_bytes(bytes).to_string())
        }
        0x04 => f32::from_le_bytes(fields.array()?).to_string(),
        0x05 => f64::from_le_bytes(fields.array()?).to_string(),
        0x07 | 0x0a | 0x0c => moment(fields)?,
        0x0b => span(fields)?,
        0x00 | 0x0f | 0x10 | 0xf5..=0xff => text(length_encoded(fields)?),
        _ => return None,
    };
    Some(Some(shown))
}

/// A date, with a time where there is one.
fn moment(fields: &mut Fields<'_>) -> Option<String> {
    let length = fields.byte()?;
    let mut inner = Fields(fields.take(usize::from(length))?);
    if length == 0 {
        return Some("0000-00-00".to_owned());
    }
    let year = u16::from_le_bytes(inner.array()?);
    let [month, day] = inner.array()?;
    let mut text = format!("{year:04}-{month:02}-{day:02}");
    if let Some([hour, minute, second]) = inner.array() {
        text.push_str(&format!(" {hour:02}:{minute:02}:{second:02}"));
    }
    if let Some(micros) = inner.array() {
        text.push_str(&format!(".{:06}", u32::from_le_bytes(micros)));
    }
    Some(text)
}

/// A time, which may be longer than a day and negative.
fn span(fields: &mut Fields<'_>) -> Option<String> {
    let length = fields.byte()?;
    let mut inner = Fields(fields.take(usize::from(length))?);
    if length == 0 {
        return Some("00:00:00".to_owned());
    }
    let sign = if inner.byte()? == 0 { "" } else { "-" };
    let days = u64::from(u32::from_le_bytes(inner.array()?));
    let [hour, minute, second] = inner.array()?;
    let hours = days.saturating_mul(24).saturating_add(u64::from(hour));
    let mut text = format!("{sign}{hours:02}:{minute:02}:{second:02}");
    if let Some(micros) = inner.array() {
        text.push_str(&format!(".{:06}", u32::from_le_bytes(micros)));
    }
    Some(text)
}

/// A number whose first byte says how long it is; `None` for the NULL of a row, too.
pub(super) fn length_encoded_number(fields: &mut Fields<'_>) -> Option<u64> {
    match fields.byte()? {
        small @ 0..=0xfa => Some(u64::from(small)),
        0xfc => fields.array().map(|bytes| u64::from(u16::from_le_bytes(bytes))),
        0xfd => fields.array().map(|[a, b, c]: [u8; 3]| u64::from(u32::from_le_bytes([a, b, c, 0]))),
        0xfe => fields.array().map(u64::from_le_bytes),
        0xfb | 0xff => None,
    }
}

/// That many bytes, or those that were kept of them.
pub(super) fn length_encoded<'a>(fields: &mut Fields<'a>) -> Option<&'a [u8]> {
    let length = usize::try_from(length_encoded_number(fields)?).ok()?;
    let whole = fields.take(length);
    whole.or_else(|| Some(std::mem::take(&mut fields.0)).filter(|rest| rest.len() > LONGEST_NAME))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binary_values_show_as_the_database_would() {
        let check = |oid, bytes: &[u8], want: &str| assert_eq!(postgres(oid, bytes), want, "type {oid}, {bytes:?}");
        check(16, &[1], "true");
        check(20, &(-5_i64).to_be_bytes(), "-5");
        check(21, &7_i16.to_be_bytes(), "7");
        check(23, &i32::MIN.to_be_bytes(), "-2147483648");
        check(26, &u32::MAX.to_be_bytes(), "4294967295");
        check(701, &1.5_f64.to_be_bytes(), "1.5");
        check(25, b"it's\n", r"it's\x0a");
        check(25, b"\xff\xfe", r"\xfffe");
        check(17, b"abc", r"\x616263");
        check(1082, &0_i32.to_be_bytes(), "2000-01-01");
        check(1082, &(-10_957_i32).to_be_bytes(), "1970-01-01");
        check(1082, &i32::MAX.to_be_bytes(), "infinity");
        check(1083, &3_723_000_001_i64.to_be_bytes(), "01:02:03.000001");
        check(1114, &86_400_000_000_i64.to_be_bytes(), "2000-01-02T00:00:00");
        check(1184, &1_i64.to_be_bytes(), "2000-01-01T00:00:00.000001Z");
        check(1114, &(i64::MAX - 1).to_be_bytes(), r"\x7ffffffffffffffe");
        check(2950, &[0x11; 16], "11111111-1111-1111-1111-111111111111");
        check(3802, b"\x01{\"a\":1}", "{\"a\":1}");
        check(99_999, b"abc", r"\x616263");
        check(23, &[1], r"\x01");
        let numeric = |digits: &[u16], weight: i16, sign: u16, scale: u16| {
            let head = [u16::try_from(digits.len()).unwrap(), weight.cast_unsigned(), sign, scale];
            head.iter().chain(digits).flat_map(|word| word.to_be_bytes()).collect::<Vec<u8>>()
        };
        check(1700, &numeric(&[12, 3456, 7800], 1, 0, 2), "123456.78");
        check(1700, &numeric(&[50], -1, 0x4000, 3), "-0.005");
        check(1700, &numeric(&[], 0, 0, 0), "0");
        check(1700, &numeric(&[], 0, 0xc000, 0), "NaN");
        check(1700, &numeric(&[1], 2, 0, 0), "100000000");
    }

    #[test]
    fn mysql_values_end_where_they_say() {
        let check = |kind, unsigned, bytes: &[u8], want: Option<&str>| {
            let mut fields = Fields(bytes);
            let got = mysql(kind, unsigned, &mut fields).flatten();
            assert_eq!(got.as_deref(), want, "type {kind:#x}, {bytes:?}");
            assert!(want.is_none() || fields.0.is_empty(), "type {kind:#x} leaves {:?}", fields.0);
        };
        check(0x01, false, &[0xff], Some("-1"));
        check(0x01, true, &[0xff], Some("255"));
        check(0x03, false, &5_i32.to_le_bytes(), Some("5"));
        check(0x08, true, &u64::MAX.to_le_bytes(), Some("18446744073709551615"));
        check(0x05, false, &0.25_f64.to_le_bytes(), Some("0.25"));
        check(0xfd, false, b"\x03abc", Some("abc"));
        check(0xfc, false, b"\x02\xff\x00", Some(r"\xff00"));
        check(0x0c, false, &[7, 0xea, 7, 11, 20, 1, 2, 3], Some("2026-11-20 01:02:03"));
        check(0x0a, false, &[4, 0xea, 7, 11, 20], Some("2026-11-20"));
        check(0x0b, false, &[8, 1, 1, 0, 0, 0, 2, 3, 4], Some("-26:03:04"));
        check(0x06, false, &[], None);
        check(0x03, false, &[1], None);
        check(0xfd, false, b"\x09abc", None);
        check(0x20, false, &[0; 9], None);
    }
}
