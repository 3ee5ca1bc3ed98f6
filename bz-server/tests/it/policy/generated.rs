//! Organizations made up from a number: the same number, the same policies and questions. Shared with the benchmark, and
//! with the test that asks another implementation of Rego.

use bz_core::access::{Mode, Verb};
use bz_core::api::access::Cluster;
use bz_core::api::policy::SubjectType;
use bz_core::api::target::TargetKind;
use bz_core::id::{EnvironmentId, PolicyId, TargetId, UserId};
use bz_core::label::Labels;
use bz_core::time::UnixTime;
use bz_server::policy::{AccessQuestion, PersonInput, TargetInput};
use bz_server::store::policy::{Policy, PolicyKind};
use serde_json::{Value, json};

/// When every question is asked.
pub(crate) const NOW: u64 = 1_800_000_000_000;

/// Numbers that look like chance.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % end.max(1)
    }

    fn one_in(&mut self, many: u64) -> bool {
        self.below(many) == 0
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[usize::try_from(self.below(u64::try_from(all.len()).unwrap())).unwrap()]
    }
}

/// How many of each there are.
#[derive(Clone, Copy)]
pub(crate) struct Size {
    pub(crate) people: u64,
    pub(crate) groups: u64,
    pub(crate) targets: u64,
    pub(crate) environments: u64,
    pub(crate) policies: u64,
    /// How many entries each list of a policy has at most.
    pub(crate) entries: u64,
}

/// So few that everything meets.
pub(crate) const SMALL: Size = Size { people: 5, groups: 4, targets: 8, environments: 3, policies: 14, entries: 3 };

const KINDS: [TargetKind; 4] = [TargetKind::Bzero, TargetKind::Db, TargetKind::Web, TargetKind::Cluster];
const POLICY_KINDS: [PolicyKind; 6] = [
    PolicyKind::TargetConnect,
    PolicyKind::TargetConnect,
    PolicyKind::TargetConnect,
    PolicyKind::Proxy,
    PolicyKind::Kubernetes,
    PolicyKind::SessionRecording,
];
const NAMES: [&str; 4] = ["root", "deploy", "alice", "{username}"];
const SUBJECTS: [&str; 6] = ["User", "User", "User", "User", "ServiceAccount", "ApiKey"];
const KEYS: [&str; 3] = ["role", "tier", "site"];
const VALUES: [&str; 3] = ["a", "b", "c"];

fn bytes(kind: u8, number: u64) -> [u8; 16] {
    let mut bytes = [kind; 16];
    bytes[8..].copy_from_slice(&number.to_be_bytes());
    bytes
}

fn target_id(number: u64) -> TargetId {
    TargetId::from_bytes(bytes(2, number))
}

fn environment_id(number: u64) -> EnvironmentId {
    EnvironmentId::from_bytes(bytes(3, number))
}

fn user_id(number: u64) -> UserId {
    UserId::from_bytes(bytes(1, number))
}

/// The policies of an organization.
pub(crate) fn policies(dice: &mut Dice, size: Size) -> Vec<Policy> {
    (0..size.policies).map(|number| policy(dice, size, number)).collect()
}

fn policy(dice: &mut Dice, size: Size, number: u64) -> Policy {
    let kind = dice.of(&POLICY_KINDS);
    let mut content = json!({
        "name": format!("policy {number}"),
        "subjects": list(dice, size.entries, |dice| json!({"id": user_id(dice.below(size.people)), "type": dice.of(&SUBJECTS)})),
        "groups": list(dice, size.entries, |dice| {
            let group = format!("g{}", dice.below(size.groups));
            json!({"id": group, "name": group})
        }),
        "enabled": !dice.one_in(8),
    });
    let object = content.as_object_mut().unwrap();
    let more = match kind {
        PolicyKind::TargetConnect => json!({
            "targetUsers": list(dice, 3, |dice| json!({"userName": dice.of(&NAMES)})),
            "verbs": list(dice, 3, |dice| json!(verb(dice, TargetKind::Bzero))),
        }),
        PolicyKind::Proxy => json!({
            "targetUsers": list(dice, 2, |dice| json!({"userName": dice.of(&NAMES)})),
            "verbs": list(dice, 2, |dice| json!(dice.of(&[TargetKind::Db, TargetKind::Web]).to_string()).as_str().map(|kind| {
                json!({"type": if kind == "Db" { "Database" } else { "Web" }})
            }).unwrap()),
            "redactQueries": dice.one_in(3),
        }),
        PolicyKind::Kubernetes => json!({
            "clusterUsers": list(dice, 3, |dice| json!({"name": dice.of(&NAMES[..3])})),
            "clusterGroups": list(dice, 3, |dice| json!({"name": dice.of(&VALUES)})),
        }),
        PolicyKind::SessionRecording | PolicyKind::OrganizationControls => {
            json!({"recordInput": dice.one_in(2), "required": dice.one_in(3)})
        }
    };
    object.extend(more.as_object().unwrap().clone());
    if kind != PolicyKind::SessionRecording {
        let field = if kind == PolicyKind::Kubernetes { "clusters" } else { "targets" };
        let (name, places) = match dice.below(3) {
            0 => ("environments", list(dice, 2, |dice| json!({"id": environment_id(dice.below(size.environments))}))),
            1 => (
                field,
                list(
                    dice,
                    3 * size.entries,
                    |dice| json!({"id": target_id(dice.below(size.targets)), "type": "Bzero"}),
                ),
            ),
            _ => ("targetLabels", list(dice, 2, need)),
        };
        for empty in ["environments", field] {
            object.insert(empty.to_owned(), json!([]));
        }
        object.insert(name.to_owned(), places);
    }
    let expires = dice.one_in(6).then(|| UnixTime::from_millis(NOW - 1 + dice.below(3)));
    Policy {
        id: PolicyId::from_bytes(bytes(4, number)),
        kind,
        name: format!("policy {number}"),
        content,
        expires,
        version: 1,
    }
}

fn list(dice: &mut Dice, most: u64, mut one: impl FnMut(&mut Dice) -> Value) -> Value {
    (0..dice.below(most + 1)).map(|_| one(dice)).collect()
}

fn need(dice: &mut Dice) -> Value {
    let key = dice.of(&KEYS);
    match dice.below(3) {
        0 => json!({"key": key, "operator": "Exists", "values": []}),
        1 => json!({"key": key, "operator": "NotIn", "values": [dice.of(&VALUES)]}),
        _ => json!({"key": key, "operator": "In", "values": [dice.of(&VALUES), dice.of(&VALUES)]}),
    }
}

fn verb(dice: &mut Dice, kind: TargetKind) -> Verb {
    match kind {
        TargetKind::Bzero => match dice.below(5) {
            0 | 1 => Verb::Shell,
            2 => Verb::FileTransfer,
            3 => Verb::Tunnel,
            _ => Verb::Handler { name: dice.of(&["debug", "admin"]).to_owned() },
        },
        TargetKind::Db => Verb::Database,
        TargetKind::Web => Verb::Web,
        TargetKind::Cluster => Verb::Kubernetes,
    }
}

/// A question about one of its people and targets.
pub(crate) fn question(dice: &mut Dice, size: Size) -> AccessQuestion {
    let (who, place) = (dice.below(size.people), dice.below(size.targets));
    let kind = KINDS[usize::try_from(place % 4).unwrap()];
    // Now and then something that this kind of target does not have.
    let of = if dice.one_in(12) { dice.of(&KINDS) } else { kind };
    let cluster = || Cluster { user: "root".to_owned(), groups: vec!["a".to_owned()] };
    AccessQuestion {
        person: person(who, size),
        target: TargetInput {
            id: target_id(place),
            environment: environment_id(place % size.environments),
            kind,
            labels: labels(place),
        },
        verb: verb(dice, of),
        user: dice.one_in(2).then(|| dice.of(&NAMES[..3]).parse().unwrap()),
        cluster: (kind == TargetKind::Cluster && dice.one_in(2)).then(cluster),
        mode: if dice.one_in(4) { Mode::Sealed } else { Mode::Inspected },
        now: NOW,
        policies: Vec::new(),
        recording: Vec::new(),
    }
}

/// Everybody is always the same.
fn person(number: u64, size: Size) -> PersonInput {
    let mut dice = Dice::new(number + 1);
    PersonInput {
        id: user_id(number),
        kind: if number % 5 == 4 { SubjectType::ServiceAccount } else { SubjectType::User },
        username: (number % 3 != 2).then(|| "alice".parse().unwrap()),
        groups: (0..dice.below(4)).map(|_| format!("g{}", dice.below(size.groups))).collect(),
    }
}

fn labels(number: u64) -> Labels {
    let mut dice = Dice::new(number + 1000);
    (0..dice.below(3)).map(|_| (dice.of(&KEYS).to_owned(), dice.of(&VALUES).to_owned())).collect()
}
