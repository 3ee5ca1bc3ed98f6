//! Conversations in PostgreSQL's protocol.

use super::*;

/// One message: its kind, then its length and content.
fn m(kind: u8, body: impl AsRef<[u8]>) -> Vec<u8> {
    let length = u32::try_from(body.as_ref().len() + 4).unwrap();
    [&[kind], length.to_be_bytes().as_slice(), body.as_ref()].concat()
}

fn first(code: u32, rest: &[u8]) -> Vec<u8> {
    let length = u32::try_from(rest.len() + 8).unwrap();
    [length.to_be_bytes().as_slice(), &code.to_be_bytes(), rest].concat()
}

fn q(text: &str) -> Said {
    client(m(b'Q', format!("{text}\0")))
}

fn tag(text: &str) -> Vec<u8> {
    m(b'C', format!("{text}\0"))
}

fn error(code: &str, text: &str) -> Vec<u8> {
    m(b'E', format!("SERROR\0VERROR\0C{code}\0M{text}\0Dsecret detail\0\0"))
}

fn ready() -> Vec<u8> {
    m(b'Z', b"I")
}

fn parse(name: &str, text: &str, types: &[u32]) -> Vec<u8> {
    let count = u16::try_from(types.len()).unwrap().to_be_bytes();
    let types: Vec<u8> = types.iter().flat_map(|oid| oid.to_be_bytes()).collect();
    m(b'P', [format!("{name}\0{text}\0").as_bytes(), &count, &types].concat())
}

fn bind(portal: &str, name: &str, values: &[(bool, Option<&[u8]>)]) -> Vec<u8> {
    let count = u16::try_from(values.len()).unwrap().to_be_bytes();
    let mut body = [format!("{portal}\0{name}\0").as_bytes(), &count].concat();
    values.iter().for_each(|(binary, _)| body.extend(u16::from(*binary).to_be_bytes()));
    body.extend(count);
    for (_, value) in values {
        let length = value.map_or(-1, |value| i32::try_from(value.len()).unwrap());
        body.extend(length.to_be_bytes());
        body.extend(value.unwrap_or_default());
    }
    body.extend([0, 0]);
    m(b'B', body)
}

fn execute(portal: &str) -> Vec<u8> {
    m(b'E', [format!("{portal}\0").as_bytes(), &[0; 4]].concat())
}

fn describe(name: &str) -> Vec<u8> {
    m(b'D', format!("S{name}\0"))
}

fn rows(count: usize) -> Vec<u8> {
    m(b'D', [0, 1, 0, 0, 0, 1, b'x']).repeat(count)
}

pub(super) fn login() -> Vec<Said> {
    vec![
        client(first(80_877_104, b"")),
        server("N"),
        client(first(80_877_103, b"")),
        server("N"),
        client(first(196_608, b"user\0bob\0database\0shop\0application_name\0psql\0\0")),
        server(m(b'R', [0, 0, 0, 5, 1, 2, 3, 4])),
        client(m(b'p', "hush\0")),
        server([m(b'R', [0; 4]), m(b'S', "standard_conforming_strings\0on\0"), m(b'K', [0; 8]), ready()].concat()),
    ]
}

pub(super) fn conversation() -> Vec<Said> {
    let mut said = login();
    let batch = [parse("s", "select $1", &[23]), bind("", "s", &[(true, Some(&[0, 0, 0, 7]))]), execute("")];
    said.extend([
        q("select 'x'; select 2"),
        server([m(b'T', [0; 2]), rows(1), tag("SELECT 1"), rows(2), tag("SELECT 2"), ready()].concat()),
        client([batch.concat(), m(b'S', "")].concat()),
        server([m(b'1', ""), m(b'2', ""), rows(1), tag("SELECT 1"), ready()].concat()),
        client(m(b'X', "")),
    ]);
    said
}

#[track_caller]
fn check_after_login(said: Vec<Said>, want: &[&str]) {
    let all: Vec<Said> = login().into_iter().chain(said).collect();
    let want: Vec<&str> = ["LOGIN: "].into_iter().chain(want.iter().copied()).collect();
    check(Wire::Postgres, &all, &want);
}

#[test]
fn a_login_names_user_and_database_and_no_password() {
    let lines = read(Wire::Postgres, false, &conversation(), usize::MAX);
    assert!(lines.iter().all(|line| (line.user.as_str(), line.database.as_str()) == ("bob", "shop")));
    assert!(!format!("{lines:?}").contains("hush"));
    let millis: Vec<_> = lines.iter().map(|line| (line.at, line.millis)).collect();
    // The second statement of a text begins where the first ended.
    assert_eq!(millis, [(1004, Some(3)), (1008, Some(1)), (1009, Some(0)), (1010, Some(1))]);
    let alone = [client(first(196_610, b"user\0bob\0\0")), server(error("28P01", "password authentication failed"))];
    check(Wire::Postgres, &alone, &["failed LOGIN:  28P01 password authentication failed"]);
    assert_eq!(read(Wire::Postgres, false, &alone, 9)[0].database, "bob");
    check(Wire::Postgres, &alone[..1], &["unanswered LOGIN: "]);
    check(Wire::Postgres, &[client(first(80_877_102, &[0; 8]))], &["CANCEL: "]);
}

#[test]
fn statements_of_one_text_are_lines_of_their_own() {
    check_after_login(
        vec![
            q("select 1"),
            server([m(b'T', [0; 2]), rows(1), tag("SELECT 1"), ready()].concat()),
            q("begin; insert into t values (1),(2); selec; commit"),
            server([tag("BEGIN"), tag("INSERT 0 2"), error("42601", "syntax error"), ready()].concat()),
            q(""),
            server([m(b'I', ""), ready()].concat()),
            q("create table t\n(a int)"),
            server([m(b'N', "SNOTICE\0\0"), m(b'A', "\0\0\0\x05c\0p\0"), tag("CREATE TABLE"), ready()].concat()),
            q("select 1; select 2"),
            server([tag("SELECT 1"), ready()].concat()),
            q("select pg_sleep(9)"),
        ],
        &[
            "SELECT: select 1 1 rows",
            "BEGIN: begin",
            "INSERT: insert into t values (1),(2) 2 rows",
            "failed SELEC: selec 42601 syntax error",
            "skipped COMMIT: commit",
            ": ",
            r"CREATE TABLE: create table t\x0a(a int)",
            "SELECT: select 1 1 rows",
            "unanswered SELECT: select 2",
            "unanswered SELECT: select pg_sleep(9)",
        ],
    );
}

#[test]
fn prepared_statements_show_their_parameters() {
    let values: [(bool, Option<&[u8]>); 3] = [(true, Some(&[0, 0, 0, 7])), (false, Some(b"it's")), (false, None)];
    let sync = m(b'S', "");
    check_after_login(
        vec![
            client([parse("s", "select $1, $2, $3", &[23, 25, 25]), sync.clone()].concat()),
            server([m(b'1', ""), ready()].concat()),
            client([bind("", "s", &values), m(b'D', "P\0"), execute(""), sync.clone()].concat()),
            server([m(b'2', ""), m(b'T', [0; 2]), rows(3), tag("SELECT 3"), ready()].concat()),
            // The types are the server's word.
            client([parse("u", "select $1", &[]), describe("u"), sync.clone()].concat()),
            server([m(b'1', ""), m(b't', [0, 1, 0, 0, 0, 16]), m(b'T', [0; 2]), ready()].concat()),
            client([bind("p", "u", &[(true, Some(&[1]))]), execute("p"), execute("p"), sync.clone()].concat()),
            server([m(b'2', ""), rows(2), m(b's', ""), rows(1), tag("SELECT 1"), ready()].concat()),
            client([m(b'C', "Su\0"), bind("", "u", &[]), execute(""), sync].concat()),
            server([m(b'3', ""), error("26000", "prepared statement \"u\" does not exist"), ready()].concat()),
        ],
        &[
            "SELECT: select $1, $2, $3 [7, it's, NULL] 3 rows",
            "SELECT: select $1 [true] 2 rows",
            "SELECT: select $1 [true] 1 rows",
            "failed : (a prepared statement that is not known) 26000 prepared statement \"u\" does not exist",
            "skipped : (a prepared statement that is not known)",
        ],
    );
}

#[test]
fn a_failed_batch_is_skipped_to_its_sync() {
    let one = |name: &str, text: &str| [parse(name, text, &[]), bind("", name, &[]), execute("")].concat();
    let sync = m(b'S', "");
    check_after_login(
        vec![
            client([one("", "select 1"), one("", "select 1/0"), one("", "select 3"), sync.clone()].concat()),
            client([one("", "select 4"), sync.clone()].concat()),
            server([m(b'1', ""), m(b'2', ""), tag("SELECT 1"), m(b'1', ""), m(b'2', "")].concat()),
            server([error("22012", "division by zero"), ready()].concat()),
            server([m(b'1', ""), m(b'2', ""), tag("SELECT 1"), ready()].concat()),
            // The error is there before the rest of the batch.
            client(parse("", "selec", &[])),
            server(error("42601", "syntax error at or near \"selec\"")),
            client(one("", "select 5")),
            client(sync.clone()),
            server(ready()),
            client([one("", "insert into t values (1)"), sync].concat()),
            server([m(b'1', ""), m(b'2', ""), tag("INSERT 0 1"), error("23503", "violates"), ready()].concat()),
            q("select 6"),
            server([tag("SELECT 1"), ready()].concat()),
        ],
        &[
            "SELECT: select 1 1 rows",
            "failed SELECT: select 1/0 22012 division by zero",
            "skipped SELECT: select 3",
            "SELECT: select 4 1 rows",
            "failed SELEC: selec 42601 syntax error at or near \"selec\"",
            "skipped SELECT: select 5",
            "INSERT: insert into t values (1) 1 rows",
            "failed COMMIT:  23503 violates",
            "SELECT: select 6 1 rows",
        ],
    );
}

#[test]
fn the_content_of_a_copy_is_skipped_and_its_rows_are_counted() {
    let data = m(b'd', "Q\0\0\0\x08drop table t\n");
    let sync = m(b'S', "");
    check_after_login(
        vec![
            q("copy t from stdin"),
            server(m(b'G', [0, 0, 0])),
            client([data.repeat(3), m(b'c', "")].concat()),
            server([tag("COPY 3"), ready()].concat()),
            q("copy t to stdout; select 1"),
            server([m(b'H', [0, 0, 0]), data.repeat(2), m(b'c', ""), tag("COPY 2"), tag("SELECT 1"), ready()].concat()),
            // With the extended protocol the server ignores the first Sync.
            client([parse("", "copy t from stdin", &[]), bind("", "", &[]), execute(""), sync.clone()].concat()),
            server([m(b'1', ""), m(b'2', ""), m(b'G', [0, 0, 0])].concat()),
            client([data.clone(), sync.clone(), m(b'c', ""), sync].concat()),
            server([tag("COPY 1"), ready()].concat()),
            q("copy t from stdin"),
            server(m(b'G', [0, 0, 0])),
            client([data, m(b'f', "stopped\0")].concat()),
            server([error("57014", "COPY from stdin failed: stopped"), ready()].concat()),
            q("select 1"),
            server([tag("SELECT 1"), ready()].concat()),
        ],
        &[
            "COPY: copy t from stdin 3 rows",
            "COPY: copy t to stdout 2 rows",
            "SELECT: select 1 1 rows",
            "COPY: copy t from stdin 1 rows",
            "failed COPY: copy t from stdin 57014 COPY from stdin failed: stopped",
            "SELECT: select 1 1 rows",
        ],
    );
}

#[test]
fn secrets_are_neither_in_statements_nor_in_messages() {
    let said: Vec<Said> = login()
        .into_iter()
        .chain([
            q("alter role bob password 'hush'"),
            server([error("42601", "syntax error at or near \"'hush'\""), ready()].concat()),
            client([parse("", "select 'hush', $1", &[]), bind("", "", &[(false, Some(b"hush"))])].concat()),
            client([execute(""), m(b'S', "")].concat()),
            server([m(b'1', ""), m(b'2', ""), error("22P02", "invalid input: \"hush\""), ready()].concat()),
        ])
        .collect();
    let shown = |redact| read(Wire::Postgres, redact, &said, usize::MAX).iter().map(short).collect::<Vec<_>>();
    let secret = "failed ALTER: alter role bob password '***' 42601 syntax error at or near ?";
    assert_eq!(shown(false)[1], secret);
    assert_eq!(shown(false)[2], "failed SELECT: select 'hush', $1 [hush] 22P02 invalid input: \"hush\"");
    assert_eq!(shown(true)[2], "failed SELECT: select ?, $1 [?] 22P02 invalid input: ?");
    assert!(!shown(true).concat().contains("hush"));
}

#[test]
fn what_cannot_be_read_is_said_once() {
    let tls = [client(first(80_877_103, b"")), server("S"), client([0x16, 3, 1, 2, 0])];
    let why = "the connection is encrypted within the stream, which cannot be read";
    check(Wire::Postgres, &tls, &[&format!("unparsed :   {why}")]);
    let direct = [client([0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc])];
    check(Wire::Postgres, &direct, &["unparsed :   these bytes are not PostgreSQL's protocol"]);
    check_after_login(
        vec![client(b"?\0\0\0\x04"), q("select 1")],
        &["unparsed :   these bytes are not PostgreSQL's protocol"],
    );
}

#[test]
fn a_long_message_is_read_as_far_as_it_is_kept() {
    let long = format!("select '{}'", "x".repeat(3 * MOST_OF_A_MESSAGE));
    let value = vec![b'y'; 3 * MOST_OF_A_MESSAGE];
    let batch = [parse("", "select $1, $2", &[]), bind("", "", &[(false, Some(&value)), (false, Some(b"z"))])].concat();
    let said: Vec<Said> = login()
        .into_iter()
        .chain([
            q(&long),
            server([tag("SELECT 1"), ready()].concat()),
            client([batch, execute(""), m(b'S', "")].concat()),
            server([m(b'1', ""), m(b'2', ""), tag("SELECT 1"), ready()].concat()),
            q("select 2"),
            server([tag("SELECT 1"), ready()].concat()),
        ])
        .collect();
    let lines = read(Wire::Postgres, false, &said, 4096);
    assert!(lines[1].statement.starts_with("select 'xxx"));
    let cut = format!("{}…", "y".repeat(LONGEST_NAME));
    assert_eq!(lines[2].parameters, [Some(cut), Some("…".to_owned())]);
    assert_eq!(short(&lines[3]), "SELECT: select 2 1 rows");
}

#[test]
fn a_server_that_ends_the_session_is_heard() {
    let end = error("57P01", "terminating connection due to administrator command");
    check_after_login(
        vec![q("select pg_sleep(9)"), server(end.clone())],
        &["failed SELECT: select pg_sleep(9) 57P01 terminating connection due to administrator command"],
    );
    check_after_login(
        vec![server(end)],
        &["failed SESSION:  57P01 terminating connection due to administrator command"],
    );
}

#[test]
fn a_client_that_asks_too_much_at_once_is_read_no_longer() {
    let text = format!("select '{}'", "x".repeat(30_000));
    let said: Vec<Said> = login().into_iter().chain((0..200).map(|_| client(parse("", &text, &[])))).collect();
    let lines = read(Wire::Postgres, false, &said, usize::MAX);
    assert_eq!(lines.last().map(|line| line.outcome), Some(QueryOutcome::Unparsed));
}
