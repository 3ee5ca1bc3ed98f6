//! Names as people type them.

use bz_client::target_name::{ParseTargetNameError, TargetName, TargetRef};

const ID: &str = "0192f0c1-6d2e-4c3a-9b1d-3c8f4f0a2b11";

fn check(text: &str, want: Result<(Option<&str>, &str, Option<&str>), ParseTargetNameError>) {
    let got = text.parse::<TargetName>().map(|name| {
        assert_eq!(name.to_string(), text.to_lowercase().replace(&ID.to_uppercase(), ID), "{text}");
        let user = name.user.map(|user| user.to_string());
        match name.target {
            TargetRef::Id(id) => (user, id.to_string(), None),
            TargetRef::Name { name, environment } => (user, name, environment),
        }
    });
    let owned = |(user, name, environment): (Option<&str>, &str, Option<&str>)| {
        (user.map(str::to_owned), name.to_owned(), environment.map(str::to_owned))
    };
    assert_eq!(got, want.map(owned), "{text:?}");
}

/// The last `@` ends the user, the first `.` begins the environment, a GUID is an id.
#[test]
fn targets_are_named_as_zli_names_them() {
    check("web", Ok((None, "web", None)));
    check("web.prod", Ok((None, "web", Some("prod"))));
    check("web.prod.eu", Ok((None, "web", Some("prod.eu"))));
    check("deploy@web.prod", Ok((Some("deploy"), "web", Some("prod"))));
    check("a.b@web", Ok((Some("a.b"), "web", None)));
    check("web 1.my servers", Ok((None, "web 1", Some("my servers"))));
    check(ID, Ok((None, ID, None)));
    check(&ID.to_uppercase(), Ok((None, ID, None)));
    check(&format!("root@{ID}"), Ok((Some("root"), ID, None)));
    check(&ID.replace('-', ""), Ok((None, &ID.replace('-', ""), None)));
    for no_user in ["@web", "a b@web", "alice@example.com@web", "-x@web"] {
        check(no_user, Err(ParseTargetNameError::User));
    }
    for no_name in ["", "a@", ".prod", "web.", "a@.prod", "we\u{1b}b", " ", &"x".repeat(256)] {
        check(no_name, Err(ParseTargetNameError::Name));
    }
}
