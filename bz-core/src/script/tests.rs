//! Hostile values in every language, and what no script can hold.

use super::*;

/// What each language might take for more than a value.
pub(super) const HOSTILE: &[&str] = &[
    "",
    "plain",
    "it's",
    "'; touch pwned; '",
    "$(touch pwned)`touch pwned`${HOME}",
    "a\\\nb\n'\nEOF\nEND\n",
    "\"; rm -rf / #",
    "{{ lookup('pipe', 'touch pwned') }} {% raw %}",
    "\u{2019}; Remove-Item x; \u{2018}",
    "- key: value\n  other: |\n",
    "@@TOKEN@@ @@SERVER@@ @@",
    "%n%s !unsafe &anchor *alias",
    "tab\tnel\u{85}ls\u{2028}bom\u{feff}\u{1f600}",
];

#[test]
fn words_of_the_shell_stay_words() {
    for text in HOSTILE {
        let quoted = shell(text);
        let inner = quoted.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\'')).unwrap();
        assert_eq!(inner.replace(r"'\''", "'"), *text);
        assert!(!inner.replace(r"'\''", "").contains('\''), "{quoted}");
    }
}

#[test]
fn strings_of_powershell_stay_strings() {
    assert_eq!(powershell("it's"), "'it''s'");
    assert_eq!(powershell("\u{2019}; x"), "'\u{2019}\u{2019}; x'");
}

#[test]
fn scalars_of_yaml_are_ascii_and_read_back() {
    for text in HOSTILE {
        let quoted = yaml(text);
        assert!(quoted.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{quoted}");
        if text.chars().all(|c| u32::from(c) <= 0xffff) {
            assert_eq!(serde_json::from_str::<String>(&quoted).unwrap(), *text, "what JSON has in common with it");
        }
    }
    assert_eq!(yaml("\u{1f600}"), "\"\\U0001f600\"");
    assert_eq!(block("one\n\ntwo\n", 2), "|\n  one\n\n  two");
    for text in ["no end", " space first\n", "nel\u{85}\n", "two ends\n\n"] {
        assert!(block(text, 2).starts_with('"'), "{text:?}");
    }
}

#[test]
fn values_are_never_looked_at_for_names() {
    let values = [("A", "@@B@@".to_owned()), ("B", "b".to_owned())];
    assert_eq!(fill("1 @@A@@ 2 @@B@@ 3", &values), "1 @@B@@ 2 b 3");
    for template in [
        include_str!("agent.bash"),
        include_str!("agent.ps1"),
        include_str!("agent.playbook.yml"),
        include_str!("agent.compose.yml"),
        include_str!("agent.kube.yml"),
    ] {
        assert_eq!(template.split("@@").count() % 2, 1, "a name that does not end");
    }
}

#[test]
fn what_cannot_stand_in_a_script_is_refused() {
    let check = |what: &'static str, change: fn(&mut Script)| {
        let mut script = sample();
        change(&mut script);
        assert_eq!(script.render(Kind::Bash), Err(ScriptError(what)));
    };
    assert!(sample().render(Kind::Bash).is_ok());
    check("the server's address", |s| s.server = "https://x/\n".to_owned());
    check("the server's address", |s| s.server = "file:///etc".to_owned());
    check("the environment's name", |s| s.environment = Some("a\nb".to_owned()));
    check("the registration key", |s| s.key = Some("two words".to_owned()));
    check("the name", |s| s.naming = Naming::Given("-x".to_owned()));
    check("the name", |s| s.naming = Naming::Given(String::new()));
    check("a program of the server", |s| s.artifacts[0].name = "bz-agent-linux-x86_64'".to_owned());
    check("a program of the server", |s| s.artifacts[0].sha256 = "0".to_owned());
    check("the trust bundle or an authority", |s| s.pins.as_mut().unwrap().bundle.push('\0'));
    check("the image", |s| s.image = "a b".to_owned());
}

/// Whatever has a script has all that it needs, and no script of a cluster has the key where everybody reads.
#[test]
fn each_kind_holds_what_is_put_in() {
    for kind in [Kind::Bash, Kind::PowerShell, Kind::Ansible, Kind::Container, Kind::Kube] {
        let text = sample().render(kind).unwrap();
        for part in ["https://bz.example.com", "bzEnrollKeyX", "prod", "organization = "] {
            assert!(text.contains(part), "{kind:?} lacks {part}");
        }
        let system = if kind == Kind::PowerShell { "bz-agent-windows-x86_64.exe" } else { "bz-agent-linux-x86_64" };
        assert!(text.contains(system), "{kind:?}");
        assert!(!text.contains("@@"), "{kind:?} has a name that nothing was put for");
        let bare = Script { pins: None, key: None, ..sample() }.render(kind).unwrap();
        assert!(bare.contains("PINS") && bare.contains(NO_KEY) && !bare.contains("organization = "), "{kind:?}");
    }
    let kube = sample().render(Kind::Kube).unwrap();
    assert_eq!(kube.matches("bzEnrollKeyX").count(), 1, "in the Secret alone");
}

fn sample() -> Script {
    let artifact = |name: &str| Artifact { name: name.to_owned(), sha256: "0a".repeat(32), size: 1 };
    Script {
        server: "https://bz.example.com".to_owned(),
        pins: Some(Pins { bundle: "organization = \"x\"\n".to_owned(), server_ca: None, issuer_ca: None }),
        key: Some("bzEnrollKeyX".to_owned()),
        environment: Some("prod".to_owned()),
        naming: Naming::Host,
        artifacts: vec![artifact("bz-agent-linux-x86_64"), artifact("bz-agent-windows-x86_64.exe"), artifact("notes")],
        image: IMAGE.to_owned(),
    }
}
