//! Conversations in MySQL's protocol.

use super::*;
use crate::observe::query::mysql::can;

const BASE: u64 = can::LONG_PASSWORD
    | can::CONNECT_WITH_DB
    | can::PROTOCOL_41
    | can::SECURE_CONNECTION
    | can::MULTI_STATEMENTS
    | can::AUTH_LENGTH_ENCODED;

/// One packet.
fn p(number: u8, body: impl AsRef<[u8]>) -> Vec<u8> {
    let [a, b, c, _] = u32::try_from(body.as_ref().len()).unwrap().to_le_bytes();
    [&[a, b, c, number], body.as_ref()].concat()
}

/// Packets of an answer, numbered.
fn answer(bodies: &[&[u8]]) -> Said {
    server((1..).zip(bodies).flat_map(|(number, body)| p(number, body)).collect::<Vec<u8>>())
}

fn command(code: u8, rest: impl AsRef<[u8]>) -> Said {
    client(p(0, [&[code], rest.as_ref()].concat()))
}

fn q(text: &str) -> Said {
    command(3, text)
}

fn ok(rows: u8, status: u16) -> Vec<u8> {
    [&[0, rows, 0], status.to_le_bytes().as_slice(), &[0, 0]].concat()
}

fn eof(status: u16) -> Vec<u8> {
    [&[0xfe, 0, 0], status.to_le_bytes().as_slice()].concat()
}

/// The end of rows in the new form.
fn end(status: u16) -> Vec<u8> {
    [&[0xfe, 0, 0], status.to_le_bytes().as_slice(), &[0, 0]].concat()
}

fn error(number: u16, state: &str, text: &str) -> Vec<u8> {
    [&[0xff], number.to_le_bytes().as_slice(), b"#", state.as_bytes(), text.as_bytes()].concat()
}

fn greeting(can: u64) -> Vec<u8> {
    let (low, high) = (can.to_le_bytes(), (can >> 32).to_le_bytes());
    let parts: [&[u8]; 9] = [
        b"\x0a10.11.19-MariaDB\0",
        &[1, 0, 0, 0],
        b"12345678\0",
        &low[..2],
        &[45, 2, 0],
        &low[2..4],
        &[21, 0, 0, 0, 0, 0, 0],
        &high[..4],
        b"123456789012\0mysql_native_password\0",
    ];
    p(0, parts.concat())
}

fn response(can: u64) -> Vec<u8> {
    let (low, high) = (can.to_le_bytes(), (can >> 32).to_le_bytes());
    let parts: [&[u8]; 6] =
        [&low[..4], &[0, 0, 0, 1, 45], &[0; 19], &high[..4], b"bob\0\x04hush", b"shop\0mysql_native_password\0"];
    p(1, parts.concat())
}

fn login_with(more: u64) -> Vec<Said> {
    let can = BASE | more;
    // MariaDB's own way to say what it can begins where MySQL says what every client can.
    let server_can = if more >> 32 == 0 { can | can::TLS } else { (can | can::TLS) & !can::LONG_PASSWORD };
    let client_can = if more >> 32 == 0 { can } else { can & !can::LONG_PASSWORD };
    vec![
        server(greeting(server_can)),
        client(response(client_can)),
        server(p(2, b"\xfemysql_native_password\x0012345678901234567890\0")),
        client(p(3, b"hushhushhushhushhush")),
        server(p(4, ok(0, 2))),
    ]
}

pub(super) fn login() -> Vec<Said> {
    login_with(0)
}

/// One column, its description not read.
const COLUMN: &[u8] = b"\x03def\0\0\0\x01x\0\x0c\x3f\0\x01\0\0\0\x03\x81\0\0\0\0";

/// A set of rows in the old form.
fn set(rows: usize, status: u16) -> Vec<Vec<u8>> {
    let mut bodies = vec![vec![1], COLUMN.to_vec(), eof(2)];
    bodies.extend(vec![b"\x011".to_vec(); rows]);
    bodies.push(eof(status));
    bodies
}

fn answers(bodies: &[Vec<u8>]) -> Said {
    answer(&bodies.iter().map(Vec::as_slice).collect::<Vec<_>>())
}

/// An execution of statement 1 with values of these types.
fn execute(types: &[[u8; 2]], values: &[u8], nulls: u8) -> Said {
    let types: Vec<u8> = types.concat();
    command(0x17, [&[1, 0, 0, 0, 0, 1, 0, 0, 0, nulls, 1], types.as_slice(), values].concat())
}

fn prepared(parameters: u8) -> Vec<Vec<u8>> {
    let mut bodies = vec![vec![0, 1, 0, 0, 0, 1, 0, parameters, 0, 0, 0, 0]];
    bodies.extend(vec![COLUMN.to_vec(); usize::from(parameters)]);
    bodies.extend([eof(2), COLUMN.to_vec(), eof(2)]);
    bodies
}

pub(super) fn conversation() -> Vec<Said> {
    let mut said = login();
    said.extend([
        q("select 'x'; update t set a = 1"),
        answers(&[set(2, 8), vec![ok(3, 2)]].concat()),
        command(0x16, "select ?"),
        answers(&prepared(1)),
        execute(&[[3, 0]], &[7, 0, 0, 0], 0),
        answers(&set(1, 2)),
        command(1, ""),
    ]);
    said
}

#[track_caller]
fn check_after(login: Vec<Said>, said: Vec<Said>, want: &[&str]) {
    let all: Vec<Said> = login.into_iter().chain(said).collect();
    let want: Vec<&str> = ["LOGIN: "].into_iter().chain(want.iter().copied()).collect();
    check(Wire::Mysql, &all, &want);
}

#[test]
fn a_login_names_user_and_database_and_no_password() {
    let lines = read(Wire::Mysql, false, &conversation(), usize::MAX);
    assert!(lines.iter().all(|line| (line.user.as_str(), line.database.as_str()) == ("bob", "shop")));
    assert!(!format!("{lines:?}").contains("hush"));
    let want =
        ["LOGIN: ", "SELECT: select 'x' 2 rows", "UPDATE:  update t set a = 1 3 rows", "SELECT: select ? [7] 1 rows"];
    assert_eq!(lines.iter().map(short).collect::<Vec<_>>(), want.map(|line| line.replace(":  ", ": ")));
    let refused = [
        server(greeting(BASE)),
        client(response(BASE)),
        server(p(2, error(1045, "28000", "Access denied for user 'bob'"))),
    ];
    check(Wire::Mysql, &refused, &["failed LOGIN:  28000 Access denied for user 'bob'"]);
    check(Wire::Mysql, &[server(p(0, b"\xff\x10\x04Too many connections"))], &["failed LOGIN:   Too many connections"]);
}

#[test]
fn statements_and_their_answers() {
    check_after(
        login(),
        vec![
            q("select 1"),
            answers(&set(1, 2)),
            q("insert into t values (1)"),
            answer(&[&ok(1, 2)]),
            q("selec"),
            answer(&[&error(1064, "42000", "syntax error")]),
            q("select 1; selec; select 3"),
            answers(&[set(1, 8), vec![error(1064, "42000", "syntax error")]].concat()),
            // A procedure gives several sets and then its end.
            q("call f(); select 2"),
            answers(&[set(1, 8), set(2, 8), vec![ok(0, 8)], set(1, 2)].concat()),
            q("call f()"),
            answers(&[set(1, 8), vec![ok(0, 2)]].concat()),
            // Semicolons within one statement.
            q("create procedure f() begin select 1; select 2; end"),
            answer(&[&ok(0, 2)]),
            command(2, "other"),
            answer(&[&ok(0, 2)]),
            q("use `third`"),
            answer(&[&ok(0, 2)]),
            command(0x0e, ""),
            answer(&[&ok(0, 2)]),
            q("alter table t add a int"),
            // Word of progress, in the place of an error.
            answer(&[b"\xff\xff\xff\x01\x01\x01\0\0\0\x00", &ok(0, 2)]),
            q("select sleep(9)"),
        ],
        &[
            "SELECT: select 1 1 rows",
            "INSERT: insert into t values (1) 1 rows",
            "failed SELEC: selec 42000 syntax error",
            "SELECT: select 1 1 rows",
            "failed SELEC: selec 42000 syntax error",
            "skipped SELECT: select 3",
            "CALL: call f() 3 rows",
            "SELECT: select 2 1 rows",
            "CALL: call f() 1 rows",
            "CREATE: create procedure f() begin select 1; select 2; end 0 rows",
            "USE: use other",
            "USE: use `third` 0 rows",
            "ALTER: alter table t add a int 0 rows",
            "unanswered SELECT: select sleep(9)",
        ],
    );
}

#[test]
fn rows_end_in_the_new_form_too() {
    let bodies = vec![vec![1], COLUMN.to_vec(), b"\x011".to_vec(), b"\x00".to_vec(), end(8)];
    let second = vec![vec![1], COLUMN.to_vec(), end(2)];
    let said = vec![
        q("select 1; select 2"),
        answers(&[bodies, second].concat()),
        command(0x16, "select ?"),
        answer(&[&[0, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0], COLUMN, COLUMN]),
        execute(&[[0xfd, 0]], b"\x02hi", 0),
        answers(&[vec![1], COLUMN.to_vec(), b"\0\0\x011".to_vec(), end(2)]),
    ];
    check_after(
        login_with(can::DEPRECATE_EOF),
        said,
        &["SELECT: select 1 2 rows", "SELECT: select 2 0 rows", "SELECT: select ? [hi] 1 rows"],
    );
}

#[test]
fn columns_that_are_known_already_are_not_described() {
    let more = can::DEPRECATE_EOF | can::MARIADB_CACHED_METADATA;
    let said = vec![q("select 1"), answers(&[vec![1, 0], b"\x011".to_vec(), end(2)])];
    check_after(login_with(more), said, &["SELECT: select 1 1 rows"]);
    let more = can::DEPRECATE_EOF | can::OPTIONAL_METADATA;
    let said = vec![q("select 1"), answers(&[vec![1, 1], COLUMN.to_vec(), b"\x011".to_vec(), end(2)])];
    check_after(login_with(more), said, &["SELECT: select 1 1 rows"]);
}

#[test]
fn prepared_statements_show_their_parameters() {
    let types = [[3, 0], [8, 0x80], [5, 0], [0xfd, 0], [0x0c, 0], [6, 0]];
    let values = [
        &(-7_i32).to_le_bytes()[..],
        &u64::MAX.to_le_bytes(),
        &0.5_f64.to_le_bytes(),
        b"\x04it's",
        &[4, 0xea, 7, 11, 20],
    ]
    .concat();
    let mut long = login();
    long.extend([
        command(0x16, "insert into t values (?, ?, ?, ?, ?, ?)"),
        answers(&[vec![vec![0, 1, 0, 0, 0, 0, 0, 6, 0, 0, 0, 0]], vec![COLUMN.to_vec(); 6], vec![eof(2)]].concat()),
    ]);
    check_after(
        long,
        vec![
            execute(&types, &values, 0b10_0000),
            answer(&[&ok(1, 2)]),
            // Types are said once; the fourth is sent ahead.
            command(0x18, [&[1, 0, 0, 0, 3, 0], b"long ".as_slice()].concat()),
            command(0x18, [&[1, 0, 0, 0, 3, 0], b"data".as_slice()].concat()),
            command(0x17, [&[1, 0, 0, 0, 0, 1, 0, 0, 0, 0b11_0110, 0], &5_i32.to_le_bytes()[..]].concat()),
            answer(&[&error(1062, "23000", "Duplicate entry '5'")]),
            command(0x19, [1, 0, 0, 0]),
            execute(&types, &values, 0),
            answer(&[&error(1243, "HY000", "Unknown prepared statement handler")]),
            command(0x16, "selec ?"),
            answer(&[&error(1064, "42000", "syntax error")]),
        ],
        &[
            "INSERT: insert into t values (?, ?, ?, ?, ?, ?) \
             [-7, 18446744073709551615, 0.5, it's, 2026-11-20, NULL] 1 rows",
            "failed INSERT: insert into t values (?, ?, ?, ?, ?, ?) [5, NULL, NULL, long data, NULL, NULL] \
             23000 Duplicate entry '5'",
            "failed : (a prepared statement that is not known) HY000 Unknown prepared statement handler",
            "failed SELEC: selec ? 42000 syntax error",
        ],
    );
}

#[test]
fn the_content_of_a_local_file_is_skipped() {
    let content = |number, text: &str| client(p(number, text));
    check_after(
        login(),
        vec![
            q("load data local infile '/tmp/x' into table t"),
            answer(&[b"\xfb/tmp/x"]),
            content(2, "1\n2\n"),
            // The number wraps, and it is no command.
            content(0, "\x03drop table t"),
            content(1, ""),
            answer(&[&ok(2, 2)]),
            q("select 1"),
            answers(&set(1, 2)),
        ],
        &[
            "LOCAL INFILE: /tmp/x",
            "LOAD: load data local infile '/tmp/x' into table t 2 rows",
            "SELECT: select 1 1 rows",
        ],
    );
}

#[test]
fn a_change_of_user_is_a_login() {
    let change = |user: &str| command(0x11, format!("{user}\0\x04hushother\0\x2d\0mysql_native_password\0"));
    let said = login().into_iter().chain([
        change("eve"),
        answer(&[b"\xfemysql_native_password\x0012345678901234567890\0"]),
        client(p(3, "hush")),
        server(p(4, ok(0, 2))),
        q("select 1"),
        answers(&set(1, 2)),
        change("root"),
        answer(&[&error(1045, "28000", "Access denied")]),
    ]);
    let lines = read(Wire::Mysql, false, &said.collect::<Vec<_>>(), usize::MAX);
    let seen: Vec<_> = lines.iter().map(|line| (short(line), line.user.as_str(), line.database.as_str())).collect();
    let want = [
        ("LOGIN: ", "bob", "shop"),
        ("LOGIN: ", "eve", "other"),
        ("SELECT: select 1 1 rows", "eve", "other"),
        ("failed LOGIN:  28000 Access denied", "eve", "other"),
    ];
    assert_eq!(seen, want.map(|(line, user, database)| (line.to_owned(), user, database)));
}

#[test]
fn attributes_before_a_statement_are_skipped() {
    let with = |attributes: &[u8], text: &str| command(3, [attributes, text.as_bytes()].concat());
    check_after(
        login_with(can::QUERY_ATTRIBUTES),
        vec![
            with(&[0, 1], "select 1"),
            answers(&set(1, 2)),
            with(b"\x01\x01\x00\x01\xfd\x00\x01n\x02vv", "select 2"),
            answers(&set(1, 2)),
        ],
        &["SELECT: select 1 1 rows", "SELECT: select 2 1 rows"],
    );
}

#[test]
fn what_cannot_be_read_is_said_once() {
    let tls =
        [server(greeting(BASE | can::TLS)), client(p(1, &response(BASE | can::TLS)[4..36])), client([0x16, 3, 1])];
    check(Wire::Mysql, &tls, &["unparsed :   the connection is encrypted within the stream, which cannot be read"]);
    check_after(
        login_with(can::COMPRESS),
        vec![client([9; 99])],
        &["unparsed :   the connection is compressed, which is not read"],
    );
    check_after(login(), vec![command(0x77, ""), q("x")], &["unparsed :   these bytes are not MySQL's protocol"]);
}

#[test]
fn a_packet_that_goes_on_is_one_statement() {
    let text = format!("\x03select '{}'", "x".repeat(0xff_ffff - 9));
    let first = p(0, &text.as_bytes()[..0xff_ffff]);
    let rest = p(1, &text.as_bytes()[0xff_ffff..]);
    let said = login().into_iter().chain([client([first, rest].concat()), answers(&set(1, 2)), q("select 2")]);
    let lines = read(Wire::Mysql, false, &said.collect::<Vec<_>>(), 1 << 16);
    assert!(lines[1].statement.starts_with("select 'xxx"), "{}", short(&lines[1]));
    assert_eq!((lines[1].rows, short(&lines[2])), (Some(1), "unanswered SELECT: select 2".to_owned()));
}

#[test]
fn a_plain_backslash_is_one_when_the_server_says_so() {
    let said = login().into_iter().chain([
        q("set sql_mode = 'NO_BACKSLASH_ESCAPES'"),
        answer(&[&ok(0, 0x0202)]),
        q(r"select 'a\', 'b'"),
        answers(&set(1, 2)),
    ]);
    let lines = read(Wire::Mysql, true, &said.collect::<Vec<_>>(), usize::MAX);
    assert_eq!(lines[2].statement, "select ?, ?");
}
