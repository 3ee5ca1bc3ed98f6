//! Jobs that ask an issuer for a token of an audience they choose: of CI, of clouds, of clusters.
//!
//! Such an issuer serves everybody, or everybody of one owner, so what a job is stands in claims. Which ones may act is
//! pinned in the trust bundle, as rows of claims and the one value that each must have. A job is the row that it fits:
//! the row is its subject, made of ids that are never given away again, and not of names as the issuer's own subject is.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::oidc::provider::{OrganizationClaim, ProviderKind};

/// The most rows of one issuer.
pub const MAX_WORKLOADS: usize = 64;
/// The most claims of a row.
pub const MAX_CLAIMS: usize = 8;
/// The most bytes of a row as a subject.
pub const MAX_SUBJECT: usize = 512;

/// GitHub's claim of the account that owns the repository, whatever that is called now.
pub const GITHUB_OWNER: &str = "repository_owner_id";
const GITHUB_REPOSITORY: &str = "repository_id";
/// What keeps jobs out that anybody can start who may propose a change.
const GITHUB_PLACES: [&str; 4] = ["environment", "ref", "job_workflow_ref", "event_name"];
const GITHUB_EVENT: &str = "event_name";
/// What runs for a proposed change, from a fork as well.
const PROPOSED: [&str; 2] = ["pull_request", "pull_request_target"];
const CIRCLECI_PROJECT: &str = "oidc.circleci.com/project-id";
/// Somebody is logged in to the job.
const CIRCLECI_SSH: &str = "oidc.circleci.com/ssh-rerun";
const SUBJECT: &str = "sub";
/// The most values of a claim that is a list.
const MAX_VALUES: usize = 64;

/// Which jobs may act: claims and the value that each must have.
#[derive(
    Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, bincode::Encode, bincode::Decode,
)]
#[serde(transparent)]
pub struct Workload(pub BTreeMap<String, String>);

/// Why a row cannot be pinned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WorkloadError {
    /// No row, or too many.
    #[error("name 1 to 64 workloads: without one nobody is meant")]
    Rows,
    /// A row without claims, or with odd ones.
    #[error("a workload is 1 to 8 claims with values without comma, together at most 512 bytes")]
    Claims,
    /// It would mean jobs of others, or that others can start.
    #[error("{0}")]
    Anyone(&'static str),
    /// It says what only logins of people have.
    #[error("with commitment = \"audience\" there are no `audiences` and no `domains`")]
    People,
    /// Rows where people log in.
    #[error("workloads need commitment = \"audience\"")]
    Commitment,
}

impl Workload {
    /// Whether the row means jobs of this owner alone, and none that a stranger can start.
    ///
    /// # Errors
    /// [`WorkloadError`].
    pub fn check(&self, kind: ProviderKind, owner: Option<&OrganizationClaim>) -> Result<(), WorkloadError> {
        let plain = |text: &str| !text.trim().is_empty() && !text.contains(',') && !text.chars().any(char::is_control);
        let good = |(claim, value): (&String, &String)| plain(claim) && plain(value) && !claim.contains('=');
        if !(1..=MAX_CLAIMS).contains(&self.0.len())
            || !self.0.iter().all(good)
            || self.subject(owner).len() > MAX_SUBJECT
            || owner.is_some_and(|owner| self.0.contains_key(&owner.claim))
        {
            return Err(WorkloadError::Claims);
        }
        let err = |why| Err(WorkloadError::Anyone(why));
        let has = |claim: &str| self.0.contains_key(claim);
        match kind {
            ProviderKind::Github if !has(GITHUB_REPOSITORY) => err("a workload of GitHub needs repository_id"),
            ProviderKind::Github if !GITHUB_PLACES.iter().any(|claim| has(claim)) => {
                err("a workload of GitHub needs one of environment, ref, job_workflow_ref and event_name")
            }
            ProviderKind::Circleci if !has(CIRCLECI_PROJECT) => {
                err("a workload of CircleCI needs oidc.circleci.com/project-id")
            }
            ProviderKind::Google if !has(SUBJECT) => err("a workload of Google needs sub, the account's unique id"),
            ProviderKind::Google
            | ProviderKind::Microsoft
            | ProviderKind::Okta
            | ProviderKind::Onelogin
            | ProviderKind::Keycloak
            | ProviderKind::Oidc
            | ProviderKind::Github
            | ProviderKind::Circleci => Ok(()),
        }
    }

    /// Whether these are claims of a job that the row means.
    fn fits(&self, kind: ProviderKind, claims: &Map<String, Value>) -> bool {
        let named = self.0.iter().all(|(claim, value)| claims.get(claim).is_some_and(|found| says(found, value)));
        let unasked = |claim: &str, values: &[&str]| {
            let said = |value: &&str| claims.get(claim).is_some_and(|found| says(found, value));
            !self.0.contains_key(claim) && values.iter().any(said)
        };
        let odd = match kind {
            ProviderKind::Github => unasked(GITHUB_EVENT, &PROPOSED),
            ProviderKind::Circleci => unasked(CIRCLECI_SSH, &["true"]),
            ProviderKind::Google
            | ProviderKind::Microsoft
            | ProviderKind::Okta
            | ProviderKind::Onelogin
            | ProviderKind::Keycloak
            | ProviderKind::Oidc => false,
        };
        named && !odd
    }

    /// The row as a subject: the owner's claim among its own, by name.
    #[must_use]
    pub fn subject(&self, owner: Option<&OrganizationClaim>) -> String {
        let mut all: BTreeMap<&str, &str> = self.0.iter().map(|(claim, value)| (&**claim, &**value)).collect();
        all.extend(owner.map(|owner| (&*owner.claim, &*owner.value)));
        let pairs: Vec<String> = all.iter().map(|(claim, value)| format!("{claim}={value}")).collect();
        pairs.join(",")
    }

    /// The row, owner included, that a subject says.
    #[must_use]
    pub fn of_subject(subject: &str) -> Option<Self> {
        let pair = |pair: &str| pair.split_once('=').map(|(claim, value)| (claim.to_owned(), value.to_owned()));
        let row = Self(subject.split(',').map(pair).collect::<Option<_>>()?);
        row.check(ProviderKind::Oidc, None).is_ok().then_some(row)
    }
}

/// The row that a job is, of those that mean it: the one that says most, and which of several does not hang on their
/// order.
pub(super) fn which<'a>(rows: &'a [Workload], kind: ProviderKind, claims: &Map<String, Value>) -> Option<&'a Workload> {
    let fitting = rows.iter().filter(|row| row.fits(kind, claims));
    fitting.max_by_key(|row| (row.0.len(), row.subject(None)))
}

/// Whether all rows can be pinned.
pub(super) fn check(
    rows: &[Workload],
    kind: ProviderKind,
    owner: Option<&OrganizationClaim>,
) -> Result<(), WorkloadError> {
    if !(1..=MAX_WORKLOADS).contains(&rows.len()) {
        return Err(WorkloadError::Rows);
    }
    rows.iter().try_for_each(|row| row.check(kind, owner))
}

/// Whether every row means one subject of the issuer, which is its owner's alone.
pub(super) fn are_subjects(rows: &[Workload]) -> bool {
    rows.iter().all(|row| row.0.contains_key(SUBJECT))
}

fn says(found: &Value, value: &str) -> bool {
    match found {
        Value::String(text) => text == value,
        Value::Bool(said) => value.parse() == Ok(*said),
        Value::Number(number) => number.to_string() == value,
        Value::Array(many) => many.len() <= MAX_VALUES && many.iter().any(|one| one.as_str() == Some(value)),
        Value::Null | Value::Object(_) => false,
    }
}
