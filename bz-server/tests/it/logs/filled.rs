//! Events in all logs, made up.

use bz_core::api::policy::SubjectType;
use bz_core::api::record::{
    Actor, CommandEvent, CommandSource, ConnectionEvent, ConnectionEventType, KubeAction, KubeEvent, Place, QueryEvent,
    QueryOutcome, UserEvent, WebEvent, WebOutcome,
};
use bz_core::id::{ConnectionId, EnvironmentId, EventId, OrganizationId, TargetId, UserId};
use bz_core::time::UnixTime;

use crate::world::{START, World};

/// Three events in each log, one each second from this one on: of one, two and one again, on the hosts 1, 2 and 1.
pub(super) async fn from(world: &World, seconds: u64) {
    let (store, organization) = (&world.app.store, world.app.organization);
    for number in 1..=3_u8 {
        let at = UnixTime::from_secs(START + seconds + u64::from(number));
        let of = Of { number, organization, at };
        store.add_events(vec![(of.connection(), at)]).await.unwrap();
        store.add_events(vec![(of.command(), at)]).await.unwrap();
        store.add_events(vec![(of.query(), at)]).await.unwrap();
        store.add_events(vec![(of.web(), at)]).await.unwrap();
        store.add_events(vec![(of.kube(), at)]).await.unwrap();
    }
    let at = UnixTime::from_secs(START);
    let call = Of { number: 1, organization, at }.call();
    let (about, ip_address) = (ConnectionId::from_bytes([2; 16]), "192.0.2.9".to_owned());
    let connect = UserEvent {
        service_action: "connectionservice:connect".to_owned(),
        evaluation: true,
        context: serde_json::json!({ "about": about }).to_string(),
        ip_address,
        ..call.clone()
    };
    store.add_events(vec![(call, at), (connect, at)]).await.unwrap();
}

/// As many commands at once.
pub(super) async fn commands(world: &World, count: u64) {
    let event = |number: u64| {
        let at = UnixTime::from_secs(START + number);
        (Of { number: 1, organization: world.app.organization, at }.command(), at)
    };
    world.app.store.add_events((0..count).map(event).collect()).await.unwrap();
}

struct Of {
    number: u8,
    organization: OrganizationId,
    at: UnixTime,
}

impl Of {
    fn is_second(&self) -> bool {
        self.number == 2
    }

    fn byte(&self) -> u8 {
        if self.is_second() { 2 } else { 1 }
    }

    fn of<T>(&self, of: [T; 3]) -> T {
        of.into_iter().nth(usize::from(self.number) - 1).unwrap()
    }

    fn id(&self) -> EventId {
        EventId::from_bytes([self.number; 16])
    }

    fn actor(&self) -> Actor {
        Actor {
            subject_id: Some(UserId::from_bytes([self.byte(); 16])),
            subject_type: if self.is_second() { SubjectType::ServiceAccount } else { SubjectType::User },
            subject_name: if self.is_second() { "two@example.com" } else { "one@example.com" }.to_owned(),
            is_admin: self.is_second(),
        }
    }

    fn place(&self) -> Place {
        Place {
            target_id: TargetId::from_bytes([self.byte(); 16]),
            target_name: format!("host{}", self.byte()),
            target_type: if self.is_second() { "Db" } else { "Bzero" }.to_owned(),
            target_user: self.of(["root", "", "app"]).to_owned(),
            target_groups: vec![],
            environment_id: EnvironmentId::from_bytes([self.byte(); 16]),
            environment_name: if self.is_second() { "test" } else { "prod" }.to_owned(),
        }
    }

    fn connection(&self) -> ConnectionEvent {
        ConnectionEvent {
            id: self.id(),
            connection_id: ConnectionId::from_bytes([self.number; 16]),
            organization_id: self.organization,
            actor: self.actor(),
            place: self.place(),
            session_name: String::new(),
            connection_event_type: self.of([
                ConnectionEventType::Created,
                ConnectionEventType::Closed,
                ConnectionEventType::ClientConnect,
            ]),
            reason: String::new(),
            timestamp: self.at.to_string(),
            connection_node_id: "main".to_owned(),
        }
    }

    fn command(&self) -> CommandEvent {
        CommandEvent {
            id: self.id(),
            connection_id: ConnectionId::from_bytes([self.number; 16]),
            organization_id: self.organization,
            actor: self.actor(),
            place: self.place(),
            command: self.of(["ls -l", "cat /etc/passwd", "id"]).to_owned(),
            source: CommandSource::Marks,
            confirmed: true,
            timestamp: self.at.to_string(),
        }
    }

    fn query(&self) -> QueryEvent {
        QueryEvent {
            id: self.id(),
            connection_id: ConnectionId::from_bytes([self.number; 16]),
            stream: 0,
            organization_id: self.organization,
            actor: self.actor(),
            place: self.place(),
            database_user: "app".to_owned(),
            database: "shop".to_owned(),
            kind: "SELECT".to_owned(),
            statement: self.of(["SELECT * FROM users", "UPDATE users", "SELECT id FROM users"]).to_owned(),
            parameters: vec![],
            outcome: QueryOutcome::Done,
            rows: None,
            duration_millis: None,
            sql_state: None,
            problem: None,
            confirmed: true,
            timestamp: self.at.to_string(),
        }
    }

    fn web(&self) -> WebEvent {
        WebEvent {
            id: self.id(),
            connection_id: ConnectionId::from_bytes([self.number; 16]),
            organization_id: self.organization,
            actor: self.actor(),
            place: self.place(),
            method: "POST".to_owned(),
            path: "/api/v1/pods".to_owned(),
            status: Some(200),
            request_bytes: 1,
            response_bytes: 1,
            duration_millis: 1,
            outcome: WebOutcome::Answered,
            confirmed: true,
            timestamp: self.at.to_string(),
        }
    }

    fn kube(&self) -> KubeEvent {
        let mut request = self.web();
        request.place.target_groups = vec!["ops".to_owned()];
        let command = Some("sh -c id".to_owned());
        let action = KubeAction { verb: "create".to_owned(), command, ..KubeAction::default() };
        KubeEvent { request, action, kubectl: Some("kubectl exec x -- sh -c id".to_owned()) }
    }

    fn call(&self) -> UserEvent {
        UserEvent {
            id: EventId::from_bytes([9; 16]),
            organization_id: self.organization,
            actor: self.actor(),
            service_action: "policymanagementservice:add".to_owned(),
            resource: String::new(),
            evaluation: false,
            timestamp: self.at.to_string(),
            ip_address: "192.0.2.7".to_owned(),
            context: String::new(),
        }
    }
}
