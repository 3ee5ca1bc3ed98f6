//! What is wrong with a server, as far as can be seen from its host: each finding with what to do about it.
//!
//! Absent: what is wrong between a client and a server, which is `bz doctor`'s.

use std::path::Path;
use std::time::Duration;

use bz_core::time::UnixTime;
use nix::sys::statvfs::statvfs;
use serde::Serialize;

use crate::config::{Config, Tls};
use crate::init::BUNDLE;
use crate::keys;
use crate::seam::jwks::JwksSource;
use crate::store::operation::Done;
use crate::store::{self, Store, copy};
use crate::{acme, app, tls};

/// Less free room than this is a warning, and a tenth of it an error.
const ROOM: u64 = 10 << 30;
/// A certificate that ends within these is a warning, and an error.
const CERTIFICATE: [Duration; 2] = [Duration::from_secs(21 * 24 * 3600), Duration::from_secs(7 * 24 * 3600)];
/// A backup that is older is a warning.
const BACKUP: Duration = Duration::from_secs(7 * 24 * 3600);
/// No clock that is right shows less: when this was written.
const WRITTEN: UnixTime = UnixTime::from_secs(1_795_000_000);

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Grade {
    /// As it should be.
    Ok,
    /// It works, and should not stay so.
    Warning,
    /// It does not work, or will soon not.
    Error,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What.
    pub check: &'static str,
    /// How it is.
    pub grade: Grade,
    /// What was seen.
    pub says: String,
    /// What to do; nothing when all is well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<&'static str>,
}

fn ok(check: &'static str, says: impl Into<String>) -> Finding {
    Finding { check, grade: Grade::Ok, says: says.into(), advice: None }
}

fn bad(check: &'static str, grade: Grade, says: impl Into<String>, advice: &'static str) -> Finding {
    Finding { check, grade, says: says.into(), advice: Some(advice) }
}

/// Looks at everything, with a running server or without one; changes nothing.
pub async fn examine(config: &Config, jwks: &dyn JwksSource, now: UnixTime) -> Vec<Finding> {
    let mut all = vec![folder(&config.data), room(&config.data), root(&config.data), clock(now)];
    all.extend(secrets(&config.data));
    all.push(certificate(config, now));
    all.extend(database(config, now).await);
    for provider in &config.providers {
        all.push(match jwks.fetch(provider).await {
            Ok(_) => ok("identity provider", format!("{} answers with its keys", provider.issuer)),
            Err(error) => bad(
                "identity provider",
                Grade::Error,
                error.to_string(),
                "nobody can log in without it: is the address right, and does this host reach it (DNS, proxy, roots)?",
            ),
        });
    }
    all
}

fn folder(data: &Path) -> Finding {
    const CHECK: &str = "data folder";
    if !data.is_dir() {
        return bad(
            CHECK,
            Grade::Error,
            format!("{} is no folder", data.display()),
            "run `bz-server init`, or restore",
        );
    }
    match keys::private_folder(data) {
        Ok(()) => ok(CHECK, format!("{} is its owner's alone", data.display())),
        Err(error) => bad(CHECK, Grade::Error, error.to_string(), "chmod 0700 it, as the user that runs the server"),
    }
}

fn room(data: &Path) -> Finding {
    const CHECK: &str = "disk";
    const ADVICE: &str = "make room, or bound what is kept (events_keep_days): on a full disk no call is answered";
    let Some((free, _)) = free(data) else {
        return bad(CHECK, Grade::Error, "its free room cannot be read", ADVICE);
    };
    let says = format!("{} MiB are free", free >> 20);
    match free {
        0..=1_073_741_823 => bad(CHECK, Grade::Error, says, ADVICE),
        _ if free < ROOM => bad(CHECK, Grade::Warning, says, ADVICE),
        _ => ok(CHECK, says),
    }
}

/// The free and all bytes of the disk that a folder is on.
pub(crate) fn free(folder: &Path) -> Option<(u64, u64)> {
    let found = statvfs(folder).ok()?;
    let unit = found.fragment_size();
    Some((found.blocks_available().saturating_mul(unit), found.blocks().saturating_mul(unit)))
}

fn root(data: &Path) -> Finding {
    match keys::read_root(data) {
        Ok(key) => ok("root key", format!("its public key is {}", key.public())),
        Err(error) => bad(
            "root key",
            Grade::Error,
            error.to_string(),
            "no server starts without it, and agents believe no other: restore it from a backup",
        ),
    }
}

fn secrets(data: &Path) -> Vec<Finding> {
    let check = |file: &'static str| match keys::is_secret_key(data, file) {
        Ok(true) => ok(file, "is there, and its owner's alone"),
        Ok(false) => {
            bad(file, Grade::Warning, "is not there", "the next start makes it; what an older one kept is lost")
        }
        Err(error) => bad(file, Grade::Error, error.to_string(), "restore it from a backup: stored secrets need it"),
    };
    [keys::TOKENS, keys::MFA].map(check).into()
}

fn clock(now: UnixTime) -> Finding {
    if now < WRITTEN {
        let says = format!("it shows {now}, before this program was made");
        return bad("clock", Grade::Error, says, "set it: logins, grants and certificates are refused by it");
    }
    ok("clock", format!("it shows {now}"))
}

fn certificate(config: &Config, now: UnixTime) -> Finding {
    const CHECK: &str = "TLS certificate";
    const ADVICE: &str = "renew it: the running server shows the new one as soon as its files changed";
    let files = match &config.tls {
        Tls::Off(_) => return ok(CHECK, "none: TLS is off, on loopback"),
        Tls::Files(files) => files.clone(),
        Tls::Acme(_) => {
            if let Some(acme::Failure { at, why }) = acme::last_failure(&config.data) {
                let grade = match tls::ends(&acme::files(&config.data)) {
                    Ok(Some(end)) if end.since(now) > CERTIFICATE[1] => Grade::Warning,
                    _ => Grade::Error,
                };
                let advice = "see the message; the running server tries again by itself, after four hours at most";
                return bad(CHECK, grade, format!("no new one at {at}: {why}"), advice);
            }
            acme::files(&config.data)
        }
    };
    match tls::ends(&files) {
        Err(error) => bad(CHECK, Grade::Error, error.to_string(), "give a chain and its key as PEM files"),
        Ok(None) => bad(CHECK, Grade::Warning, "its end cannot be read", ADVICE),
        Ok(Some(end)) => {
            let left = end.since(now);
            let says = format!("it ends at {end}, in {} days", left.as_secs() / 86_400);
            match CERTIFICATE {
                [_, soon] if left <= soon => bad(CHECK, Grade::Error, says, ADVICE),
                [near, _] if left <= near => bad(CHECK, Grade::Warning, says, ADVICE),
                _ => ok(CHECK, says),
            }
        }
    }
}

async fn database(config: &Config, now: UnixTime) -> Vec<Finding> {
    const CHECK: &str = "database";
    let opened = Store::inspect(&config.data);
    let store = match opened {
        Ok(store) => store,
        Err(error) => {
            let advice = "see the message; where the file is damaged, restore a backup into an empty folder";
            return vec![bad(CHECK, Grade::Error, error.to_string(), advice)];
        }
    };
    let damaged = copy::damage(&config.data).await;
    let mut all = vec![match damaged {
        Ok(None) => ok(CHECK, format!("version {}, whole", store::newest_version())),
        Ok(Some(what)) => bad(CHECK, Grade::Error, what, "restore a backup into an empty folder"),
        Err(error) => bad(CHECK, Grade::Error, error.to_string(), "restore a backup into an empty folder"),
    }];
    all.push(match store.event_head().await {
        Ok(head) => ok("logs", format!("head {head}")),
        Err(error) => {
            bad("logs", Grade::Error, error.to_string(), "`bz-server audit verify` says where they do not hold")
        }
    });
    all.push(bundle(config, &store).await);
    all.push(match store.last_done(Done::Backup).await {
        Ok(Some(at)) if now.since(at) <= BACKUP => ok("backup", format!("the last one is of {at}")),
        Ok(Some(at)) => {
            bad("backup", Grade::Warning, format!("the last one is of {at}"), "run `bz-server backup` each day")
        }
        Ok(None) => bad("backup", Grade::Warning, "there was none yet", "run `bz-server backup` each day"),
        Err(error) => bad("backup", Grade::Error, error.to_string(), "see the message"),
    });
    all
}

/// Whether the bundle that people hand out is the one that settings and key give.
async fn bundle(config: &Config, store: &Store) -> Finding {
    const CHECK: &str = "trust bundle";
    const ADVICE: &str = "write it anew with `bz-server bundle`, and give it to agents and people";
    let path = config.data.join(BUNDLE);
    let organization = match store.organization_now().await {
        Ok(Some(organization)) => organization.id,
        Ok(None) => return bad(CHECK, Grade::Error, "there is no organization", "run `bz-server init`"),
        Err(error) => return bad(CHECK, Grade::Error, error.to_string(), "see the message"),
    };
    let Ok(root) = keys::read_root(&config.data) else {
        return bad(CHECK, Grade::Error, "there is no root key to compare it with", "restore it from a backup");
    };
    let now = app::bundle(config, organization, &root);
    match std::fs::read_to_string(&path).ok().and_then(|text| bz_core::trust::TrustBundle::parse(&text).ok()) {
        Some(found) if found == now => ok(CHECK, format!("{} is what settings and root key give", path.display())),
        Some(_) => bad(CHECK, Grade::Warning, format!("{} is of other settings", path.display()), ADVICE),
        None => bad(CHECK, Grade::Warning, format!("{} cannot be read", path.display()), ADVICE),
    }
}
