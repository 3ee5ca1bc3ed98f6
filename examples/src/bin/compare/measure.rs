//! Time and processor time of alternating work.

use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::{Context as _, Result};

/// The medians of one kind of work.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Median {
    /// Seconds by the clock.
    pub(crate) seconds: f64,
    /// Seconds of processors: of this process, in which server and agent are, and of every program that it started.
    pub(crate) cpu: f64,
}

/// Linux counts processor time in hundredths of a second for every program.
const TICKS: f64 = 100.0;

/// Does each kind of work once unmeasured, then all of them in turn, so many times.
///
/// # Errors
/// What fails first.
pub(crate) async fn alternate(
    runs: usize,
    work: &[(&'static str, &dyn Work)],
) -> Result<BTreeMap<&'static str, Median>> {
    let mut all: BTreeMap<&'static str, Vec<(f64, f64)>> = BTreeMap::new();
    for (name, work) in work {
        work.done().await.with_context(|| format!("{name} fails"))?;
    }
    for _ in 0..runs {
        for (name, work) in work {
            let cpu = processors()?;
            let began = Instant::now();
            work.done().await.with_context(|| format!("{name} fails"))?;
            let seconds = began.elapsed().as_secs_f64();
            all.entry(name).or_default().push((seconds, processors()? - cpu));
        }
    }
    let both = |samples: Vec<(f64, f64)>| Median {
        seconds: median(samples.iter().map(|sample| sample.0).collect()),
        cpu: median(samples.iter().map(|sample| sample.1).collect()),
    };
    Ok(all.into_iter().map(|(name, samples)| (name, both(samples))).collect())
}

/// Something that is done again and again.
pub(crate) trait Work {
    /// Does it once.
    fn done(&self) -> futures::future::LocalBoxFuture<'_, Result<()>>;
}

impl<F: AsyncFn() -> Result<()>> Work for F {
    fn done(&self) -> futures::future::LocalBoxFuture<'_, Result<()>> {
        Box::pin(self())
    }
}

/// The middle one.
pub(crate) fn median(mut samples: Vec<f64>) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples.get(samples.len() / 2).copied().unwrap_or(f64::NAN)
}

/// What this process, and all that it started and what those started, spent so far. Who ended is counted with its parent.
fn processors() -> Result<f64> {
    let mut all: BTreeMap<u32, (u32, f64)> = BTreeMap::new();
    for entry in std::fs::read_dir("/proc")? {
        let Some(process) = entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        // Others come and go.
        let Ok(text) = std::fs::read_to_string(format!("/proc/{process}/stat")) else { continue };
        all.insert(process, parent_and_seconds(&text).with_context(|| format!("the line of process {process}"))?);
    }
    let own = std::process::id();
    let is_ours = |mut process: u32| {
        while process != own {
            match all.get(&process) {
                Some((parent, _)) if *parent != 0 => process = *parent,
                _ => return false,
            }
        }
        true
    };
    Ok(all.iter().filter(|(process, _)| is_ours(**process)).map(|(_, (_, seconds))| seconds).sum())
}

/// A process' parent, and what it and those of its children that it waited for spent, in seconds.
fn parent_and_seconds(stat: &str) -> Result<(u32, f64)> {
    // The name may hold anything; what follows its parenthesis does not.
    let (_, rest) = stat.rsplit_once(')').context("no name")?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let parent = fields.get(1).context("no parent")?.parse()?;
    let ticks = fields.iter().skip(11).take(4).map(|field| field.parse::<f64>()).sum::<Result<f64, _>>()?;
    Ok((parent, ticks / TICKS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_proc_has_the_parent_and_four_times() {
        let line = "42 (a b) c) S 7 42 42 0 -1 4194560 1 2 3 4 100 50 25 25 20 0 1 0 9 8";
        assert_eq!(parent_and_seconds(line).unwrap(), (7, 2.0));
        assert!(parent_and_seconds("42 (a").is_err());
        let before = processors().unwrap();
        assert!(before >= 0.0 && processors().unwrap() >= before);
    }

    #[test]
    fn the_median_is_the_one_in_the_middle() {
        assert!((median(vec![3.0, 1.0, 2.0]) - 2.0).abs() < 1e-9);
        assert!(median(vec![]).is_nan());
    }
}
