//! What of a statement is shown: passwords never, literals as the policy says.

use proptest::prelude::*;

use super::*;

const POSTGRES: Style = Style { dialect: Dialect::Postgres, backslash: false, redact: false };
const MYSQL: Style = Style { dialect: Dialect::MySql, backslash: true, redact: false };

#[test]
fn passwords_are_never_shown() {
    let check = |style, text: &str, want: &str| {
        let got = shown(text, style);
        assert_eq!((got.text.as_str(), got.secret), (want, true), "of {text}");
        assert!(!shown(text, Style { redact: true, ..style }).text.contains("hush"), "of {text}");
    };
    check(POSTGRES, "ALTER ROLE bob PASSWORD 'hush'", "ALTER ROLE bob PASSWORD '***'");
    check(POSTGRES, "create user bob encrypted password E'hu\\'sh'", "create user bob encrypted password '***'");
    check(POSTGRES, "alter user bob password $x$hush$x$", "alter user bob password '***'");
    check(POSTGRES, "alter user bob password U&'hush'\n'hush'", "alter user bob password '***'\n'***'");
    check(POSTGRES, "alter user bob valid until '1' password 'hush", "alter user bob valid until '1' password '***'");
    let mapping = "create user mapping for bob server s options (user 'bob', password 'hush')";
    check(POSTGRES, mapping, "create user mapping for bob server s options (user 'bob', password '***')");
    let subscription = "create subscription s connection 'host=h password=hush' publication p";
    check(POSTGRES, subscription, "create subscription s connection '***' publication p");
    check(POSTGRES, "select dblink('postgres://bob:hush@h/d')", "select dblink('***')");
    check(POSTGRES, "do $$ begin execute 'alter role bob password ''hush'''; end $$", "do '***'");
    check(
        POSTGRES,
        "update people set password = 'hush', name = 'bob'",
        "update people set password = '***', name = 'bob'",
    );
    check(POSTGRES, "select 1 where password = 12 and x = 'y'", "select 1 where password = '***' and x = 'y'");
    check(POSTGRES, "update people set password = $1", "update people set password = $1");
    check(MYSQL, "SET PASSWORD FOR 'bob'@'h' = PASSWORD(\"hush\")", "SET PASSWORD FOR '***'@'***' = PASSWORD('***')");
    check(MYSQL, "create user bob identified by 'hu\\'sh'", "create user bob identified by '***'");
    check(MYSQL, "alter user bob identified with p as 'hush'", "alter user bob identified with p as '***'");
    check(
        MYSQL,
        "grant all on x.* to bob identified by password 'hush'",
        "grant all on x.* to bob identified by password '***'",
    );
    check(
        MYSQL,
        "change master to master_user='r', MASTER_PASSWORD='hush'",
        "change master to master_user='r', MASTER_PASSWORD='***'",
    );
    check(MYSQL, "/*!50000 alter user bob identified by 'hush' */", "/*!50000 alter user bob identified by '***' */");
    check(MYSQL, "prepare s from 'set password = ''hush'''", "prepare s from '***'");
    check(MYSQL, "select 1 -- password = 'hush'", "select 1  ");
    check(MYSQL, "start slave user='r' password='hush'", "start slave user='r' password='***'");
}

#[test]
fn what_is_no_password_is_shown() {
    for text in [
        "select password from people where name = 'bob'",
        "select * from columns where name = 'password'",
        "set password_encryption = 'scram-sha-256'",
        "select '$$', $1, \"a'b\" from t where a$b = 'x' -- it's",
        "insert into t values ('it''s', 1e-5, 0x1f)",
    ] {
        let got = shown(text, POSTGRES);
        assert_eq!((got.text.as_str(), got.secret), (text, false));
    }
}

#[test]
fn literals_are_kept_out_where_the_policy_says() {
    let check = |style, text: &str, want: &str| {
        assert_eq!(shown(text, Style { redact: true, ..style }).text, want, "of {text}");
    };
    check(
        POSTGRES,
        "select 'a''b', E'a\\'b', B'01', x'1f', $$c$$, $t$ $$ d $t$ from t",
        "select ?, ?, ?, ?, ?, ? from t",
    );
    check(
        POSTGRES,
        "select 1, -2.5, .5, 1e-5, 1_000, 0x1F from t1 where c2 = $1",
        "select ?, -?, ?, ?, ?, ? from t1 where c2 = $1",
    );
    check(POSTGRES, "select 1 /* a /* b */ c */ + 2 -- d\n+3", "select ?   + ?  \n+?");
    check(POSTGRES, "select \"a'b\", 'c' from \"t\".\"u\"", "select \"a'b\", ? from \"t\".\"u\"");
    check(POSTGRES, "select 'a\\', 'b'", "select ?, ?");
    check(Style { backslash: true, ..POSTGRES }, "select 'a\\', ' || 'b'", "select ? || ?");
    check(POSTGRES, "select 'not ended", "select ?");
    check(POSTGRES, "select $$not ended", "select ?");
    check(POSTGRES, "select U&'d\\0061t' , U&\"n\", n'x'", "select ? , U&\"n\", ?");
    check(MYSQL, "select \"a\", 'b\\'c', x'1f', 0x1f, `d'e` # f 'g'\n, 'h'", "select ?, ?, ?, ?, `d'e`  \n, ?");
    check(MYSQL, "select 1--1, 'a' -- 'b'", "select ?--?, ?  ");
    check(MYSQL, "select /*!40101 'a', */ _utf8'b', @'c'", "select /*!40101 ?, */ _utf8?, @?");
    check(MYSQL, "select /* ' */ 'a' /* x */", "select   ?  ");
    check(Style { backslash: false, ..MYSQL }, "select 'a\\', 'b'", "select ?, ?");
}

#[test]
fn messages_without_what_they_quote() {
    for (text, want) in [
        ("relation \"x\" does not exist", "relation ? does not exist"),
        ("... near 'O'Brien' at line 1", "... near ? at line ?"),
        ("value 12345 is out of range", "value ? is out of range"),
        ("canceled", "canceled"),
        ("«é» ja", "? ja"),
        ("one ' only", "one ? only"),
    ] {
        assert_eq!(message(text), want);
    }
}

#[test]
fn statements_are_parted_at_their_semicolons() {
    let check = |style, text: &str, want: &[&str]| {
        let got: Vec<&str> = split(text, style, 100).into_iter().map(|piece| text[piece].trim()).collect();
        assert_eq!(got, want, "of {text}");
    };
    check(POSTGRES, "select 1; select ';' ; -- ;\n", &["select 1", "select ';'"]);
    check(POSTGRES, ";; select $$;$$;;", &["select $$;$$"]);
    check(POSTGRES, "begin; select 1; end; select 2", &["begin", "select 1", "end", "select 2"]);
    let function =
        "create or replace function f() returns int begin atomic select case when true then 1 end; select 2; end";
    check(POSTGRES, &format!("{function}; select 3"), &[function, "select 3"]);
    check(MYSQL, "select 'a\\';b'; select `;`", &["select 'a\\';b'", "select `;`"]);
    check(POSTGRES, " \n -- x", &[]);
    assert_eq!(split("a;b;c;d", POSTGRES, 2), vec![0..1, 2..7]);
}

#[test]
fn a_statement_s_kind_is_its_first_word() {
    for (text, kind) in [("  /* x */ (select 1)", "SELECT"), ("'x'", ""), ("", ""), ("with x as (select 1) y", "WITH")]
    {
        assert_eq!(shown(text, POSTGRES).kind, kind, "of {text}");
    }
}

/// Pieces of which statements are made, and of which traps are.
fn sql() -> impl Strategy<Value = String> {
    let pieces = prop::sample::select(vec![
        "select ",
        "'",
        "''",
        "\"",
        "\\",
        "$$",
        "$a$",
        "$1",
        "/*",
        "*/",
        "/*!",
        "--",
        "\n",
        "#",
        ";",
        "`",
        "0x",
        "1e",
        "E'",
        "U&'",
        "x",
        "é",
        "password ",
        "identified by ",
        "?",
        ".",
        "5",
        "begin ",
        "end ",
        "create function ",
    ]);
    prop::collection::vec(pieces, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn any_text_is_read_to_its_end(text in sql(), backslash: bool, mysql: bool) {
        let dialect = if mysql { Dialect::MySql } else { Dialect::Postgres };
        let style = Style { dialect, backslash, redact: false };
        let together: String = tokens(&text, style).map(|(_, piece)| piece).collect();
        prop_assert_eq!(&together, &text);
        let pieces = split(&text, style, 5);
        prop_assert!(pieces.len() <= 5 && pieces.iter().all(|piece| text.get(piece.clone()).is_some()));
        let redacted = shown(&text, Style { redact: true, ..style }).text;
        // Only a quoted name may hold one.
        prop_assert!(!redacted.contains('\'') || text.contains(['"', '`']), "{}", redacted);
    }

    /// Whatever stands in a literal does not come out of it.
    #[test]
    fn no_literal_shows_when_redacted(inside in "[a-z '\"$#/*\\-;]{0,20}", mysql: bool) {
        let dialect = if mysql { Dialect::MySql } else { Dialect::Postgres };
        let style = Style { dialect, backslash: mysql, redact: true };
        let inside = format!("{inside}SECRET");
        let text = format!("select '{}', 2", inside.replace('\'', "''"));
        prop_assert_eq!(shown(&text, style).text, "select ?, ?");
    }
}
