//! `bz-server doctor`.

use std::path::Path;

use anyhow::bail;
use bz_server::doctor::{Grade, examine};
use bz_server::seam::jwks::HttpJwks;
use bz_server::seam::{Clock as _, SystemClock};

use crate::{print, read};

/// Prints findings; fails when one of them is an error.
pub(crate) async fn run(settings: &Path, json: bool) -> anyhow::Result<()> {
    let config = read(settings)?;
    let ca = config.provider_ca.as_ref().and_then(|path| std::fs::read(path).ok());
    let jwks = HttpJwks::new(ca.as_deref())?;
    let found = examine(&config, &jwks, SystemClock::new().now().wall).await;
    if json {
        print(&format!("{}\n", serde_json::to_string_pretty(&found)?))?;
    } else {
        for finding in &found {
            let mark = match finding.grade {
                Grade::Ok => "ok     ",
                Grade::Warning => "warning",
                Grade::Error => "ERROR  ",
            };
            print(&format!("{mark}  {}: {}\n", finding.check, finding.says))?;
            if let Some(advice) = finding.advice {
                print(&format!("         → {advice}\n"))?;
            }
        }
    }
    let errors = found.iter().filter(|finding| finding.grade == Grade::Error).count();
    if errors > 0 {
        bail!("{errors} of {} checks found an error", found.len());
    }
    Ok(())
}
