//! What was measured, one row for each comparison.

use std::fmt::Write as _;

/// One comparison.
#[derive(Debug, Clone, serde::Serialize)]
pub(crate) struct Row {
    /// What was done.
    pub(crate) name: String,
    /// The unit of both figures.
    pub(crate) unit: &'static str,
    /// Our median.
    pub(crate) ours: f64,
    /// What did the same.
    pub(crate) peer: String,
    /// Its median.
    pub(crate) theirs: f64,
    /// How many times as good we are: above 1 we lead.
    pub(crate) ratio: f64,
    /// What the ratio shall be at least.
    pub(crate) goal: f64,
    /// Whether it is.
    pub(crate) reached: bool,
}

/// Which of two figures is the better one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Better {
    /// Seconds.
    Less,
    /// Work in a second.
    More,
}

impl Row {
    /// Of these medians.
    pub(crate) fn new(
        name: &str,
        (unit, better): (&'static str, Better),
        figures: (f64, &str, f64),
        goal: f64,
    ) -> Self {
        let (ours, peer, theirs) = figures;
        let ratio = match better {
            Better::Less => theirs / ours,
            Better::More => ours / theirs,
        };
        let peer = peer.to_owned();
        Self { name: name.to_owned(), unit, ours, peer, theirs, ratio, goal, reached: ratio >= goal }
    }
}

/// All rows, for people.
pub(crate) fn table(rows: &[Row]) -> String {
    let mut text = String::new();
    let head = ["what", "ours", "theirs", "peer", "times as good", "goal", ""].map(str::to_owned);
    let lines: Vec<[String; 7]> = std::iter::once(head).chain(rows.iter().map(cells)).collect();
    let widths: [usize; 7] = std::array::from_fn(|column| {
        lines.iter().filter_map(|line| line.get(column)).map(|cell| cell.chars().count()).max().unwrap_or_default()
    });
    for line in &lines {
        for (cell, width) in line.iter().zip(widths) {
            // Writing to a string does not fail.
            write!(text, "{cell:width$}  ").unwrap_or_default();
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    text
}

fn cells(row: &Row) -> [String; 7] {
    let figure =
        |value: f64| if value < 10.0 { format!("{value:.3} {}", row.unit) } else { format!("{value:.0} {}", row.unit) };
    let reached = if row.reached { "reached" } else { "not reached" };
    [
        row.name.clone(),
        figure(row.ours),
        figure(row.theirs),
        row.peer.clone(),
        format!("{:.2}", row.ratio),
        format!("{:.2}", row.goal),
        reached.to_owned(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_says_how_much_better_we_are() {
        let fast = Row::new("start", ("s", Better::Less), (0.1, "ssh -J", 1.0), 10.0);
        assert!((fast.ratio - 10.0).abs() < 1e-9 && fast.reached, "{fast:?}");
        let slow = Row::new("scp", ("MiB/s", Better::More), (50.0, "ssh -J", 100.0), 0.9);
        assert!((slow.ratio - 0.5).abs() < 1e-9 && !slow.reached, "{slow:?}");
        let shown = table(&[fast, slow]);
        assert!(shown.contains("start  0.100 s") && shown.contains("not reached"), "{shown}");
    }
}
