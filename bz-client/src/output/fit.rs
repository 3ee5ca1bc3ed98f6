//! Tables that fit the terminal: what is too long for it is cut, and ends in `…`.
//!
//! Ids are cut last, because people copy them. What goes to a file or another program is never cut.

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

/// The least that a column is cut to, unless its heading is longer.
const LEAST: usize = 8;
/// What stands between two columns.
const GAP: usize = 2;
/// The length of an id as text.
const ID: usize = 36;

/// Cuts fields so that no line is wider than `room`, where that can be.
pub(super) fn fit(headings: &[&str], rows: &mut [Vec<String>], room: usize) {
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let heading = |column: usize| headings.get(column).map_or(0, |text| text.width());
    let mut widths: Vec<usize> = (0..columns)
        .map(|column| rows.iter().filter_map(|row| row.get(column)).map(|text| text.width()).max().unwrap_or_default())
        .enumerate()
        .map(|(column, width)| width.max(heading(column)))
        .collect();
    let ids: Vec<bool> = (0..columns).map(|column| is_of_ids(rows, column)).collect();
    for also_ids in [false, true] {
        while widths.iter().sum::<usize>() + GAP * columns.saturating_sub(1) > room {
            let may = |(column, width): &(usize, &mut usize)| {
                **width > LEAST.max(heading(*column)) && (also_ids || ids.get(*column) == Some(&false))
            };
            let Some((_, widest)) = widths.iter_mut().enumerate().filter(may).max_by_key(|(_, width)| **width) else {
                break;
            };
            *widest -= 1;
        }
    }
    for row in rows {
        for (field, width) in row.iter_mut().zip(&widths) {
            cut(field, *width);
        }
    }
}

fn is_of_ids(rows: &[Vec<String>], column: usize) -> bool {
    let is_id = |text: &String| {
        text.len() == ID && text.chars().all(|c| c == '-' || c.is_ascii_hexdigit()) && text.matches('-').count() == 4
    };
    rows.iter().filter_map(|row| row.get(column)).all(is_id)
}

fn cut(text: &mut String, width: usize) {
    if text.width() <= width {
        return;
    }
    let mut left = width.saturating_sub(1);
    let mut kept = String::new();
    for c in text.chars() {
        let Some(rest) = left.checked_sub(c.width().unwrap_or(0)) else { break };
        left = rest;
        kept.push(c);
    }
    kept.push('…');
    *text = kept;
}

#[cfg(test)]
mod tests {
    use super::*;

    const AN_ID: &str = "00000000-0000-4000-8000-000000000001";

    #[track_caller]
    fn check(headings: &[&str], row: &[&str], room: usize, want: &[&str]) {
        let mut rows = vec![row.iter().map(ToString::to_string).collect::<Vec<_>>()];
        fit(headings, &mut rows, room);
        assert_eq!(rows, [want]);
    }

    #[test]
    fn the_widest_is_cut_first_and_ids_last() {
        check(&["A", "B"], &["short", "also short"], 80, &["short", "also short"]);
        check(&["A", "B"], &["short", "a long command line"], 22, &["short", "a long command…"]);
        check(&["Id", "B"], &[AN_ID, "a long command line"], 50, &[AN_ID, "a long comm…"]);
        check(&["Id", "B"], &[AN_ID, "a long command line"], 30, &["00000000-0000-4000-…", "a long …"]);
        check(&["A very long heading", "B"], &["abc", "abcdefghijkl"], 10, &["abc", "abcdefg…"]);
        check(&[], &["a long command line", "abc"], 16, &["a long com…", "abc"]);
    }

    #[test]
    fn wide_letters_count_as_they_are_shown() {
        check(&["A"], &["日本語日本語日本語"], 9, &["日本語日…"]);
        check(&["A"], &["日本語日本語日本語"], 10, &["日本語日…"]);
        check(&["A"], &["日本語日本語日本語"], 18, &["日本語日本語日本語"]);
    }

    #[test]
    fn no_line_is_wider_than_the_room() {
        for room in 30..200 {
            let mut rows = vec![vec![AN_ID.to_owned(), "x".repeat(90), "y".repeat(room)], vec![AN_ID.to_owned()]];
            fit(&["Connection", "Command", "Why"], &mut rows, room);
            for row in &rows {
                let wide = row.iter().map(|text| text.width()).sum::<usize>() + GAP * (row.len() - 1);
                assert!(wide <= room, "{wide} > {room}: {row:?}");
            }
        }
    }
}
