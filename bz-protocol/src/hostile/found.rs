//! What a player finds out, judged session by session and attempt by attempt.

use std::collections::BTreeSet;

use crate::hostile::field::Told;
use crate::hostile::relay::Rule;
use crate::hostile::scenario::{Came, Expect, Who};
use crate::session::End;

/// The most unexpected things that are told.
const MAX_TOLD: usize = 5;

#[derive(Debug)]
pub(super) struct Found {
    /// What must come of what comes next.
    expect: Expect,
    pub(super) noticed: BTreeSet<Who>,
    pub(super) came: BTreeSet<Came>,
    pub(super) saw: String,
    pub(super) harm: Option<String>,
    unexpected: Vec<String>,
}

impl Found {
    pub(super) const fn new(expect: Expect) -> Self {
        Self {
            expect,
            noticed: BTreeSet::new(),
            came: BTreeSet::new(),
            saw: String::new(),
            harm: None,
            unexpected: vec![],
        }
    }

    pub(super) const fn expect(&mut self, came: &'static [Came], who: &'static [Who]) {
        self.expect = Expect { came, who };
    }

    /// This session or attempt came to this, and these noticed something.
    pub(super) fn takes(&mut self, came: Came, who: &[Who], what: &str) {
        self.noticed.extend(who);
        self.came.insert(came);
        let expect = self.expect;
        // Where all is well in the end, nobody need have noticed.
        let needs = !expect.who.is_empty() && matches!(came, Came::Refused | Came::Ended);
        if !expect.came.contains(&came) {
            self.wrong(format!("{}: came to be {}", what.trim(), came.name()));
        } else if needs && !expect.who.iter().any(|wanted| who.contains(wanted)) {
            self.wrong(format!("{}: nobody noticed who should", what.trim()));
        }
    }

    pub(super) fn wrong(&mut self, what: String) {
        self.unexpected.push(what);
    }

    /// What of the scenario never happened, so that its end shows nothing.
    pub(super) fn did_not_happen(&mut self, rules: &[Rule]) {
        for Rule { to, sort, how, .. } in rules {
            self.wrong(format!("did not happen: {how:?} of {sort:?} {to:?}"));
        }
    }

    pub(super) fn unexpected(&self) -> Option<String> {
        let told = self.unexpected.get(..MAX_TOLD.min(self.unexpected.len())).unwrap_or_default().join("; ");
        let more = self.unexpected.len().saturating_sub(MAX_TOLD);
        let more = if more == 0 { String::new() } else { format!("; and {more} more") };
        (!told.is_empty()).then(|| told + &more)
    }
}

/// What a session came to, and who noticed.
pub(super) fn came(told: &Told, agent_left: bool) -> (Came, Vec<Who>) {
    let agent = agent_left.then_some(Who::Agent);
    match &told.end {
        Some(End::Completed(_)) if told.early => (Came::Ended, vec![Who::Agent]),
        Some(End::Completed(_)) => (Came::Complete, vec![]),
        None => (Came::Refused, vec![Who::Client]),
        Some(End::Reported(_)) => (Came::Refused, agent.into_iter().collect()),
        Some(End::Refused(_) | End::Expired | End::Forgotten) => (Came::Ended, vec![Who::Agent]),
        Some(End::Misbehavior(_) | End::Truncated) => (Came::Ended, agent.into_iter().chain([Who::Client]).collect()),
        Some(End::Lost | End::Timeout) => (Came::Ended, agent.into_iter().collect()),
    }
}
