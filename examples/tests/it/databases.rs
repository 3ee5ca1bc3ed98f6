//! Databases through real parts: people's own clients, a local port, the agent, and PostgreSQL and MariaDB themselves.

pub(crate) mod servers;
mod wire;

use std::net::SocketAddr;
use std::process::{Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bz_agent::agent::{Agent, Running};
use bz_agent::helper::Helper;
use bz_agent::jwks::IssuerKeys;
use bz_agent::user::User;
use bz_client::client::{AskError, EventFilter};
use bz_client::database::{Database as Way_, DatabaseError};
use bz_core::access::Verb;
use bz_core::api::error::Code;
use bz_core::api::policy::{PolicyTarget, ProxyContent, Subject, SubjectType};
use bz_core::api::record::{ConnectionEventType, QueryEvent, QueryOutcome};
use bz_core::api::target::{TargetKind, TargetUserName};
use bz_core::api::virtual_target::{DatabaseAuthentication, NewVirtualTarget, Port};
use bz_core::id::{ConnectionId, TargetId};
use bz_core::target::UserRule;
use bz_examples::world::{Way, World};
use bz_protocol::driver::OpenError;
use bz_protocol::stream::Why;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::session::{files_with, until};
use servers::{Authority, Database, Flaw, Kind, PASSWORD, postgres_program};

/// The host that databases are behind.
const HOST: &str = "db-host";

/// F-020, F-021, F-022~, F-215, F-232~: `psql` at a local port, the log of every statement, and no password in it.
#[tokio::test(flavor = "multi_thread")]
async fn psql_works_and_its_statements_are_in_the_log() {
    let authority = Authority::new();
    let Some(server) = Database::start(Kind::Postgres, Some((&authority, Flaw::None))) else { return };
    for way in [Way::Ws, Way::Quic] {
        let room = Room::new(way, &authority).await;
        let name = room.database(Kind::Postgres, ("localhost", server.port), true).await;
        room.allow(&name, &[], false).await;
        let open = room.open(&name).await;
        let psql = async |statement: &str| open.run(Kind::Postgres, "alice", statement).await;

        assert_eq!(said(&psql("select 'through', 4+2").await), "through|6\n");
        let prepared = "prepare p(int) as select $1 * 7; execute p(6); deallocate p";
        assert_eq!(said(&psql(prepared).await), "PREPARE\n42\nDEALLOCATE\n");
        let failed = psql("select * from nowhere").await;
        assert_eq!(failed.status.code(), Some(1), "{failed:?}");
        psql(&format!("alter role alice password '{PASSWORD}'")).await;
        let denied = open.run(Kind::Postgres, "nobody", "select 1").await;
        assert!(!denied.status.success() && complaint(&denied).contains("password authentication failed"));

        let log = room.log(open.connection(), |log| log.iter().any(|row| row.database_user == "nobody")).await;
        let rows: Vec<_> = log.iter().filter(|row| row.kind != "LOGIN").map(short).collect();
        let want = [
            "done SELECT: select 'through', 4+2 1 rows",
            "done PREPARE: prepare p(int) as select $1 * 7",
            "done SELECT: execute p(6) 1 rows",
            "done DEALLOCATE: deallocate p",
            "failed SELECT: select * from nowhere 42P01 relation \"nowhere\" does not exist",
            "done ALTER ROLE: alter role alice password '***'",
        ];
        assert_eq!(rows, want, "{way:?}");
        let logins: Vec<_> = log.iter().filter(|row| row.kind == "LOGIN").collect();
        assert_eq!(logins.len(), 5);
        assert!(
            logins
                .iter()
                .take(4)
                .all(|row| (row.database_user.as_str(), row.database.as_str()) == ("alice", "postgres")
                    && row.outcome == QueryOutcome::Done)
        );
        assert!(log.iter().all(|row| row.confirmed && row.place.target_name == name), "{log:#?}");
        let at_rest = files_with(&room.world.folder.join("server"), PASSWORD);
        assert!(at_rest.is_empty(), "{at_rest:?}");
        room.stop().await;
    }
}

/// F-021, F-178~: the parameters of statements that a program prepares, COPY, and many at once.
#[tokio::test(flavor = "multi_thread")]
async fn pgbench_prepares_and_its_parameters_are_in_the_log() {
    let authority = Authority::new();
    let Some(server) = Database::start(Kind::Postgres, None) else { return };
    let room = Room::new(Way::Ws, &authority).await;
    let name = room.database(Kind::Postgres, ("localhost", server.port), false).await;
    room.allow(&name, &[], false).await;
    let open = room.open(&name).await;
    let pgbench = async |arguments: &[&str]| {
        let mut command = tokio::process::Command::new(postgres_program("pgbench"));
        command.args(["-h", "127.0.0.1", "-p", &open.port.port().to_string(), "-U", "alice"]);
        let output = command.args(arguments).arg("postgres").env("PGPASSWORD", PASSWORD).output().await.unwrap();
        assert!(output.status.success(), "{output:?}");
        output
    };
    pgbench(&["-i", "-s", "1", "-q"]).await;
    let script = open.folder.path().join("script.sql");
    std::fs::write(&script, "\\set x 40 + 2\nselect :x, :y;\n").unwrap();
    let script = script.display().to_string();
    pgbench(&["-n", "-M", "prepared", "-t", "3", "-D", "y=it''s", "-f", &script]).await;
    pgbench(&["-n", "-M", "extended", "-S", "-c", "4", "-j", "2", "-t", "50"]).await;

    let selects = |log: &[QueryEvent]| log.iter().filter(|row| row.statement.starts_with("SELECT abalance")).count();
    let log = room.log(open.connection(), |log| selects(log) >= 200).await;
    let copied = log.iter().find(|row| row.kind == "COPY").expect("pgbench copies its rows");
    assert_eq!((copied.rows, copied.outcome), (Some(100_000), QueryOutcome::Done));
    let prepared: Vec<_> = log.iter().filter(|row| row.statement == "select $1, $2;").collect();
    assert_eq!(prepared.len(), 3, "{log:#?}");
    let want = [Some("42".to_owned()), Some("it''s".to_owned())];
    assert!(prepared.iter().all(|row| row.parameters == want && row.rows == Some(1)), "{prepared:#?}");
    let one = log.iter().find(|row| row.statement.starts_with("SELECT abalance")).unwrap();
    assert!(one.statement.ends_with("WHERE aid = $1;") && one.parameters.len() == 1, "{one:#?}");
    assert!(log.iter().all(|row| row.outcome == QueryOutcome::Done), "{log:#?}");
    room.stop().await;
}

/// F-020, F-021, F-215: `mariadb` at a local port, whose server speaks first, and a statement prepared in the binary
/// protocol.
#[tokio::test(flavor = "multi_thread")]
async fn mariadb_works_and_its_statements_are_in_the_log() {
    let authority = Authority::new();
    let Some(server) = Database::start(Kind::MariaDb, Some((&authority, Flaw::None))) else { return };
    server.direct("create table shop.t (a int, b varchar(20))");
    for way in [Way::Ws, Way::Quic] {
        let room = Room::new(way, &authority).await;
        let name = room.database(Kind::MariaDb, ("localhost", server.port), true).await;
        room.allow(&name, &[], false).await;
        let open = room.open(&name).await;
        let mariadb = async |statement: &str| open.run(Kind::MariaDb, "alice", statement).await;

        assert_eq!(
            said(&mariadb("select 'through', 4+2; select @@ssl_cipher").await).lines().next(),
            Some("through\t6")
        );
        assert_eq!(said(&mariadb("prepare p from 'select ? * 7'; set @x = 6; execute p using @x").await), "42\n");
        let failed = mariadb("select * from nowhere").await;
        assert_eq!(failed.status.code(), Some(1), "{failed:?}");
        mariadb(&format!("set password = password('{PASSWORD}')")).await;
        let file = open.folder.path().join("rows");
        std::fs::write(&file, "1\tone\n2\ttwo\n").unwrap();
        let load = format!("delete from t; load data local infile '{}' into table t", file.display());
        assert_eq!(said(&mariadb(&load).await), "");
        let (connection, bound) = (open.connection(), open.port);
        let rows = tokio::task::spawn_blocking(move || wire::prepared(bound, "alice", PASSWORD)).await.unwrap();
        assert_eq!(rows, 1, "one row has a = 2");

        let last = "select b from t where a = ? and b <> ?";
        let log = room.log(connection, |log| log.iter().any(|row| row.statement == last)).await;
        let rows: Vec<_> = log.iter().filter(|row| row.kind != "LOGIN").map(short).collect();
        let want = [
            "done SELECT: select 'through', 4+2 1 rows".to_owned(),
            "done SELECT: select @@ssl_cipher 1 rows".to_owned(),
            "done PREPARE: prepare p from 'select ? * 7' 0 rows".to_owned(),
            "done SET: set @x = 6 0 rows".to_owned(),
            "done EXECUTE: execute p using @x 1 rows".to_owned(),
            "failed SELECT: select * from nowhere 42S02 Table 'shop.nowhere' doesn't exist".to_owned(),
            "done SET: set password = password('***') 0 rows".to_owned(),
        ];
        let shown: Vec<_> = rows.iter().filter(|row| want.contains(row)).cloned().collect();
        assert_eq!(shown, want, "{way:?}: {rows:#?}");
        let loaded = log.iter().find(|row| row.kind == "LOAD").unwrap();
        assert_eq!((loaded.rows, loaded.database_user.as_str(), loaded.database.as_str()), (Some(2), "alice", "shop"));
        let infile = log.iter().find(|row| row.kind == "LOCAL INFILE").unwrap();
        assert_eq!(infile.statement, file.display().to_string());
        let prepared = log.iter().find(|row| row.statement == last).unwrap();
        assert_eq!(prepared.parameters, [Some("2".to_owned()), Some("it's".to_owned())]);
        assert_eq!((prepared.rows, prepared.outcome), (Some(1), QueryOutcome::Done));
        assert!(log.iter().all(|row| row.confirmed), "{log:#?}");
        assert!(!format!("{log:?}").contains(PASSWORD));
        room.stop().await;
    }
}

/// What a policy says of literals: they are in the statement that the database gets, and in no row of the log.
#[tokio::test(flavor = "multi_thread")]
async fn a_policy_keeps_literals_out_of_the_log() {
    let authority = Authority::new();
    let Some(server) = Database::start(Kind::Postgres, None) else { return };
    let room = Room::new(Way::Ws, &authority).await;
    let name = room.database(Kind::Postgres, ("localhost", server.port), false).await;
    room.allow(&name, &[], true).await;
    let open = room.open(&name).await;
    let psql = async |statement: &str| open.run(Kind::Postgres, "alice", statement).await;
    assert_eq!(said(&psql("select 'card 4711', $$4712$$, 4713 -- 4714").await), "card 4711|4712|4713\n");
    assert!(!psql("select 'card 4715'::int").await.status.success());
    let log = room.log(open.connection(), |log| log.iter().any(|row| row.outcome == QueryOutcome::Failed)).await;
    let rows: Vec<_> = log.iter().filter(|row| row.kind != "LOGIN").map(short).collect();
    let want = [
        "done SELECT: select ?, ?, ? 1 rows",
        "failed SELECT: select ?::int 22P02 invalid input syntax for type integer: ?",
    ];
    assert_eq!(rows, want);
    assert!(!format!("{log:?}").contains("471"));
    room.stop().await;
}

/// TLS from the agent to the database: the right authority alone, and each thing that is wrong with it is said as it is.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_proves_nothing_is_not_logged_in_to() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    for kind in [Kind::Postgres, Kind::MariaDb] {
        let Some(mut server) = Database::start(kind, Some((&authority, Flaw::None))) else { return };
        let room = Room::new(Way::Ws, &authority).await;
        let name = room.database(kind, ("localhost", server.port), true).await;
        room.allow(&name, &[], false).await;
        let open = room.open(&name).await;
        let shows_tls = match kind {
            Kind::Postgres => "select ssl from pg_stat_ssl where pid = pg_backend_pid()",
            Kind::MariaDb => {
                "select variable_value <> '' from information_schema.session_status \
                              where variable_name = 'ssl_cipher'"
            }
        };
        let output = open.run(kind, "alice", shows_tls).await;
        assert!(["t\n", "1\n"].contains(&said(&output).as_str()), "{output:?}");
        for (certificate, why, kept) in [
            (
                Some((&stranger, Flaw::None)),
                "signed by an authority that the target's host does not know",
                Why::UnknownAuthority,
            ),
            (Some((&authority, Flaw::Expired)), "its certificate has expired", Why::CertificateExpired),
            (Some((&authority, Flaw::OtherName)), "its certificate is for another name", Why::WrongName),
            // MariaDB of today makes itself a certificate where it is given none.
            (None, "no TLS is spoken there", Why::NoTls),
        ] {
            server.restart_with(certificate);
            if kind == Kind::MariaDb && certificate.is_none() {
                let offers = server.direct("select @@have_ssl");
                if offers.trim() == "YES" {
                    continue;
                }
            }
            open.complaints.lock().unwrap().clear();
            let output = open.run(kind, "alice", "select 1").await;
            assert!(!output.status.success(), "{kind:?}, {why}: {output:?}");
            let heard = async || format!("{}{:?}", complaint(&output), open.complaints.lock().unwrap());
            until(heard, |heard| heard.contains(why)).await;
            // Also where the client was told in its own protocol, whoever opens the next one is told before.
            assert_eq!(open.way.dial().await.map(drop), Err(OpenError::Refused(kept)), "{kind:?}");
        }
        server.restart_with(Some((&authority, Flaw::None)));
        assert_eq!(said(&open.run(kind, "alice", "select 1").await), "1\n", "{kind:?} is mended");
        room.stop().await;
    }
}

/// F-103, F-104: the accounts that policies list, a choice among several, and a login as nobody else.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_logs_in_as_somebody_else_than_the_granted_user() {
    let authority = Authority::new();
    for kind in [Kind::Postgres, Kind::MariaDb] {
        let Some(server) = Database::start(kind, None) else { return };
        let room = Room::new(Way::Ws, &authority).await;
        let name = room.database(kind, ("localhost", server.port), false).await;
        room.allow(&name, &["alice"], false).await;
        let open = room.open(&name).await;
        assert_eq!(said(&open.run(kind, "alice", "select 1").await), "1\n");
        let other = open.run(kind, "bob", "select 1").await;
        let words = "this connection is for the database user alice alone: log in as alice, or ask for another one";
        assert!(!other.status.success() && complaint(&other).contains(words), "{kind:?}: {other:?}");
        if kind == Kind::MariaDb {
            let port = open.port;
            let changed = tokio::task::spawn_blocking(move || wire::change_user(port, ("alice", PASSWORD), "bob"));
            let denied = changed.await.unwrap();
            assert!(denied.contains(words), "{denied}");
        }
        // A second policy lists another one: now somebody has to choose.
        room.allow(&name, &["bob"], false).await;
        let several = room.world.client.database(&name.parse().unwrap()).await.unwrap_err();
        let DatabaseError::Ask(AskError::Rest(rest)) = &several else { panic!("{several}") };
        assert_eq!(rest.code(), Some(Code::TargetUserNeeded), "{several}");
        let bob = room.open(&format!("bob@{name}")).await;
        assert_eq!(said(&bob.run(kind, "bob", "select 2").await), "2\n");
        let log = room.log(bob.connection(), |log| log.iter().any(|row| row.statement == "select 2")).await;
        assert!(log.iter().all(|row| row.place.target_user == "bob" && row.database_user == "bob"), "{log:#?}");
        assert!(room.world.client.database(&format!("eve@{name}").parse().unwrap()).await.is_err());
        room.stop().await;
    }
}

/// A database that ends in the middle of a statement: the client hears it, the log says it, and the next one works.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_may_be_started_again_under_a_statement() {
    let authority = Authority::new();
    for (kind, slow) in [(Kind::Postgres, "select pg_sleep(60)"), (Kind::MariaDb, "select sleep(60)")] {
        let Some(mut server) = Database::start(kind, None) else { return };
        let room = Room::new(Way::Ws, &authority).await;
        let name = room.database(kind, ("localhost", server.port), false).await;
        room.allow(&name, &[], false).await;
        let open = room.open(&name).await;
        let (running, ()) = tokio::join!(open.run(kind, "alice", slow), async {
            let seen = match kind {
                Kind::Postgres => "select count(*) from pg_stat_activity where query = 'select pg_sleep(60)'",
                Kind::MariaDb => "select count(*) from information_schema.processlist where info = 'select sleep(60)'",
            };
            until(async || server.direct(seen), |count| count.trim() == "1").await;
            server.restart();
        });
        assert!(!running.status.success(), "{running:?}");
        assert_eq!(said(&open.run(kind, "alice", "select 3").await), "3\n");
        let log = room.log(open.connection(), |log| log.iter().any(|row| row.statement == "select 3")).await;
        let cut = log.iter().find(|row| row.statement == slow).unwrap_or_else(|| panic!("{log:#?}"));
        assert!([QueryOutcome::Unanswered, QueryOutcome::Failed].contains(&cut.outcome), "{cut:#?}");
        room.stop().await;
    }
}

/// Ctrl-C in `psql`: its request to cancel comes over a connection of its own and reaches the statement, also where the
/// agent speaks TLS to the database and somebody may log in as one user alone. A client that begins with TLS at once
/// (`sslnegotiation=direct`) hears TLS's own refusal, and nothing of it goes further.
#[tokio::test(flavor = "multi_thread")]
async fn a_statement_is_canceled_by_its_client() {
    let authority = Authority::new();
    for certificate in [None, Some((&authority, Flaw::None))] {
        let Some(server) = Database::start(Kind::Postgres, certificate) else { return };
        let room = Room::new(Way::Ws, &authority).await;
        let name = room.database(Kind::Postgres, ("localhost", server.port), certificate.is_some()).await;
        room.allow(&name, &["alice"], false).await;
        let open = room.open(&name).await;
        let mut psql = tokio::process::Command::from(Kind::Postgres.client(("127.0.0.1", open.port.port()), "alice"));
        psql.arg("select pg_sleep(600)").stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let psql = psql.spawn().unwrap();
        let running = "select count(*) from pg_stat_activity where query = 'select pg_sleep(600)'";
        until(async || server.direct(running), |count| count.trim() == "1").await;
        let interrupt = std::process::Command::new("kill").args(["-INT", &psql.id().unwrap().to_string()]).status();
        assert!(interrupt.unwrap().success());
        let output = tokio::time::timeout(Duration::from_secs(60), psql.wait_with_output()).await;
        let output = output.expect("psql ends").unwrap();
        assert!(complaint(&output).contains("canceling statement due to user request"), "{output:?}");
        let is = |row: &QueryEvent| row.sql_state.as_deref() == Some("57014");
        room.log(open.connection(), |log| log.iter().any(is)).await;

        let mut direct = TcpStream::connect(open.port).await.unwrap();
        direct.write_all(&[0x16, 3, 1, 0, 4, 1, 0, 0, 0]).await.unwrap();
        let mut answer = Vec::new();
        // The rest of its first message is not waited for, so it may be cut.
        direct.read_to_end(&mut answer).await.map(drop).unwrap_or_default();
        assert_eq!(answer, [0x15, 3, 3, 0, 2, 2, 40], "a fatal alert");
        room.stop().await;
    }
}

/// What is no database's protocol passes all the same where the agent does not have to understand it, and the log says
/// once that it could not be read.
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_passes_and_is_said_once() {
    let authority = Authority::new();
    let room = Room::new(Way::Ws, &authority).await;
    for kind in [Kind::Postgres, Kind::MariaDb] {
        let (there, heard) = wire::odd_server(kind).await;
        let name = room.database(kind, ("127.0.0.1", there.port()), false).await;
        room.allow(&name, &[], false).await;
        let open = room.open(&name).await;
        let mut stream = TcpStream::connect(open.port).await.unwrap();
        wire::odd_client(&mut stream, kind).await;
        let log = room.log(open.connection(), |log| !log.is_empty()).await;
        let rows: Vec<_> = log.iter().map(|row| (row.outcome, row.problem.clone())).collect();
        let protocol = if kind == Kind::Postgres { "PostgreSQL" } else { "MySQL" };
        let why = format!("these bytes are not {protocol}'s protocol");
        let unparsed: Vec<_> = rows.iter().filter(|(outcome, _)| *outcome == QueryOutcome::Unparsed).collect();
        assert_eq!(unparsed, [&(QueryOutcome::Unparsed, Some(why))], "{rows:?}");
        drop(stream);
        assert_eq!(heard.await.unwrap(), wire::odd_bytes(), "what the database got");

        // What does not even begin as the protocol does is answered, and goes no further.
        let refused = wire::refused(open.port, kind).await;
        assert!(refused.contains("this is not how a client of"), "{kind:?}: {refused}");
    }
    room.stop().await;
}

/// F-023, F-169~: a logout ends the connections to a database, and the log says why.
#[tokio::test(flavor = "multi_thread")]
async fn a_logout_ends_database_connections() {
    let authority = Authority::new();
    let Some(server) = Database::start(Kind::Postgres, None) else { return };
    let room = Room::new(Way::Ws, &authority).await;
    let name = room.database(Kind::Postgres, ("localhost", server.port), false).await;
    room.allow(&name, &[], false).await;
    let client = room.world.log_in(&room.person).await.unwrap();
    let open = Open::new(client.database(&name.parse().unwrap()).await.unwrap()).await;
    let (running, ()) = tokio::join!(open.run(Kind::Postgres, "alice", "select pg_sleep(60)"), async {
        let seen = "select count(*) from pg_stat_activity where query = 'select pg_sleep(60)'";
        until(async || server.direct(seen), |count| count.trim() == "1").await;
        client.logout().await.unwrap();
    });
    assert!(!running.status.success() && complaint(&running).contains("connection"), "{running:?}");
    let connection = open.connection();
    let look = async || {
        let mut events = room.world.client.connection_events(1000).await.unwrap();
        events.retain(|event| event.connection_id == connection);
        events
    };
    let closed = |event: &bz_core::api::record::ConnectionEvent| {
        event.connection_event_type == ConnectionEventType::Closed && event.reason.contains("logged out")
    };
    until(look, |events: &Vec<_>| events.iter().any(closed)).await;
    room.stop().await;
}

/// A world with one more host, whose agent believes an authority about databases.
struct Room {
    world: World,
    agent: Running,
    host: TargetId,
    person: String,
    _folder: tempfile::TempDir,
}

impl Room {
    async fn new(way: Way, authority: &Authority) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let person = User::current().unwrap().name;
        let helper = Helper::at(env!("CARGO_BIN_EXE_helper"));
        let world = World::start(folder.path(), helper, &person, way).await.unwrap();
        let identity = world.enroll(HOST).await.unwrap();
        let host = identity.target;
        let keys = IssuerKeys::ThroughLink(Arc::clone(&world.tls));
        let agent = Agent::new(identity, world.bundle.clone(), world.carrier.clone(), keys);
        let agent = agent.tunnels().upstream_tls(authority.config()).start().unwrap();
        agent.online().await;
        Self { world, agent, host, person, _folder: folder }
    }

    /// Makes a target for a database; its name.
    async fn database(&self, kind: Kind, (host, port): (&str, u16), tls: bool) -> String {
        let (name, database) = match kind {
            Kind::Postgres => ("orders", "Postgres"),
            Kind::MariaDb => ("shop", "MySQL"),
        };
        let config =
            DatabaseAuthentication { database: Some(database.to_owned()), ..DatabaseAuthentication::default() };
        let new = NewVirtualTarget {
            target_name: name.to_owned(),
            proxy_target_id: Some(self.host),
            remote_host: Some(host.to_owned()),
            remote_port: Some(Port { value: Some(port) }),
            database_authentication_config: Some(config),
            upstream_tls: Some(tls),
            ..NewVirtualTarget::default()
        };
        self.world.client.create_virtual_target(TargetKind::Db, &new).await.unwrap();
        name.to_owned()
    }

    /// A policy for it, with these accounts or any.
    async fn allow(&self, name: &str, users: &[&str], redact_queries: bool) {
        let client = &self.world.client;
        let targets: Vec<bz_core::api::virtual_target::DatabaseTarget> = client.virtual_targets().await.unwrap();
        let target = targets.into_iter().find(|target| target.base.name == name).unwrap();
        let user = |user: &&str| TargetUserName { user_name: UserRule::Literal(user.parse().unwrap()) };
        let policy = ProxyContent {
            name: format!("{name} for {users:?}"),
            subjects: vec![Subject { id: client.me().await.unwrap().id, kind: SubjectType::User }],
            targets: vec![PolicyTarget { id: target.base.id, kind: "Db".to_owned() }],
            target_users: users.iter().map(user).collect(),
            verbs: vec![Verb::Database],
            redact_queries,
            ..ProxyContent::default()
        };
        client.create_proxy_policy(&policy).await.unwrap();
    }

    async fn open(&self, name: &str) -> Open {
        Open::new(self.world.client.database(&name.parse().unwrap()).await.unwrap()).await
    }

    /// The log of statements of one connection, oldest first, once it holds.
    async fn log(&self, connection: ConnectionId, holds: impl Fn(&[QueryEvent]) -> bool) -> Vec<QueryEvent> {
        let filter = EventFilter { count: 1000, connections: vec![connection], ..EventFilter::default() };
        let look = async || {
            let mut log = self.world.client.query_events_where(&filter).await.unwrap();
            log.reverse();
            log
        };
        until(look, |log: &Vec<QueryEvent>| holds(log)).await
    }

    async fn stop(self) {
        self.agent.stop().await;
        self.world.stop().await;
    }
}

/// A local port that leads to a database.
struct Open {
    way: Way_,
    port: SocketAddr,
    complaints: Arc<Mutex<Vec<String>>>,
    folder: tempfile::TempDir,
    _serving: JoinSet<()>,
}

impl Open {
    async fn new(way: Way_) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap();
        let complaints = Arc::new(Mutex::new(Vec::new()));
        let hears = Arc::clone(&complaints);
        let mut serving = JoinSet::new();
        serving.spawn(way.serve(listener, Arc::new(move |error| hears.lock().unwrap().push(format!("{error:#}")))));
        Self { way, port, complaints, folder: tempfile::tempdir().unwrap(), _serving: serving }
    }

    fn connection(&self) -> ConnectionId {
        self.way.tunnel().connection()
    }

    /// People's own client, with a statement.
    async fn run(&self, kind: Kind, user: &str, statement: &str) -> Output {
        let mut command = tokio::process::Command::from(kind.client(("127.0.0.1", self.port.port()), user));
        let run = command.arg(statement).kill_on_drop(true).output();
        tokio::time::timeout(Duration::from_secs(60), run).await.expect("the client ends").unwrap()
    }
}

fn said(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn complaint(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A row in short.
fn short(row: &QueryEvent) -> String {
    let outcome = format!("{:?}", row.outcome).to_lowercase();
    let rows = row.rows.map(|rows| format!(" {rows} rows")).unwrap_or_default();
    let (code, problem) = (row.sql_state.as_deref(), row.problem.as_deref());
    let problem = code.zip(problem).map(|(code, problem)| format!(" {code} {problem}")).unwrap_or_default();
    format!("{outcome} {}: {}{rows}{problem}", row.kind, row.statement)
}
