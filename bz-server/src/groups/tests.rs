//! What holds for the settings of directories and for challenges, and each way it must not.

use std::os::unix::fs::PermissionsExt as _;

use bz_core::oidc::provider::ProviderKind;

use super::hook::challenge;
use super::source::DirectoryConfig;
use crate::config::Config;

fn config(rest: &str) -> DirectoryConfig {
    toml::from_str(&format!("issuer = \"https://login.example.com\"\n{rest}")).unwrap()
}

/// What cannot be asked, or would send a secret where others read it, is refused with what is wrong.
#[test]
fn wrong_settings_are_named() {
    let provider = &Config::parse(Config::default_text(), []).unwrap().providers[0];
    let of = |kind, text: &str| {
        let provider = bz_core::oidc::provider::Provider { kind, ..provider.clone() };
        config(text).check(&provider).err().unwrap_or_default()
    };
    let okta = |text: &str| of(ProviderKind::Okta, text);
    assert_eq!(okta("secret_file = \"x\""), "");
    assert_eq!(of(ProviderKind::Oidc, "kind = \"keycloak\"\nclient_id = \"x\"\nsecret_file = \"x\""), "");
    for (kind, text, want) in [
        (ProviderKind::Oidc, "secret_file = \"x\"", "needs a kind"),
        (ProviderKind::Oidc, "kind = \"microsoft\"\nsecret_file = \"x\"", "other ids"),
        (ProviderKind::Google, "kind = \"okta\"\nsecret_file = \"x\"", "other ids"),
        (ProviderKind::Google, "secret_file = \"x\"", "subject"),
        (ProviderKind::Microsoft, "secret_file = \"x\"", "client_id"),
        (ProviderKind::Onelogin, "secret_file = \"x\"", "client_id"),
        (ProviderKind::Keycloak, "secret_file = \"x\"", "client_id"),
        (ProviderKind::Okta, "", "secret_file or secret_env"),
        (ProviderKind::Okta, "secret_file = \"x\"\nsecret_env = \"Y\"", "secret_file or secret_env"),
        (ProviderKind::Okta, "secret_env = \"BZ_SERVER_SECRET\"", "BZ_SERVER_"),
        (ProviderKind::Okta, "secret_file = \"x\"\napi = \"http://okta.example\"", "https"),
        (ProviderKind::Okta, "secret_file = \"x\"\ntoken_url = \"https://me@okta.example\"", "https"),
        (ProviderKind::Okta, "secret_file = \"x\"\nhook_secret_file = \"y\"\nhook_secret_env = \"Z\"", "not both"),
        (ProviderKind::Google, "subject = \"s\"\nsecret_file = \"x\"\nhook_secret_file = \"y\"", "okta alone"),
    ] {
        let said = of(kind, text);
        assert!(said.contains(want), "{kind:?} {text:?}: {said:?}");
    }
}

/// A secret that others can read, that is missing, or that is easily guessed is none, and no message has it.
#[test]
fn secrets_are_read_from_private_files() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("secret");
    let put = |text: &str, mode| {
        std::fs::write(&file, text).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    let settings = config(&format!("secret_file = {file:?}\nhook_secret_file = {file:?}"));
    let refused = |want: &str| {
        let said = settings.secret().unwrap_err().to_string();
        assert!(said.contains(want) && said.contains("login.example.com") && !said.contains("hunter"), "{said}");
    };
    refused("No such file");
    put("hunter2", 0o640);
    refused("can be read by others");
    put("  \n", 0o600);
    refused("1 byte to 16 KiB");
    put("hunter2\n", 0o600);
    assert_eq!(settings.secret().unwrap().as_str(), "hunter2");
    let said = settings.hook_secret().unwrap_err().to_string();
    assert!(said.contains("at least 20 characters") && !said.contains("hunter"), "{said}");
    let unset = config("secret_env = \"BZ_TEST_OF_NOTHING\"").secret().unwrap_err().to_string();
    assert!(unset.contains("BZ_TEST_OF_NOTHING is not set"), "{unset}");
}

#[test]
fn a_challenge_is_short_and_visible() {
    assert_eq!(challenge(Some("abc-1")), Some("abc-1".to_owned()));
    for bad in [None, Some(""), Some("\u{7f}"), Some("ä"), Some(&*"x".repeat(513))] {
        assert_eq!(challenge(bad), None, "{bad:?}");
    }
}

/// F-234~: each example of the page about groups is one that a server takes, for the provider that it is about.
#[test]
fn the_pages_settings_are_good_ones() {
    let page = include_str!("../../../docs/admin/groups.md");
    let provider = &Config::parse(Config::default_text(), []).unwrap().providers[0];
    let blocks: Vec<_> = page.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert_eq!(blocks.len(), 5);
    for block in blocks {
        let (name, kind) = [
            ("# Google", ProviderKind::Google),
            ("# Microsoft", ProviderKind::Microsoft),
            ("# Okta", ProviderKind::Okta),
            ("# OneLogin", ProviderKind::Onelogin),
            ("# Keycloak", ProviderKind::Keycloak),
        ]
        .into_iter()
        .find(|(name, _)| block.starts_with(name))
        .unwrap();
        let settings = config(block.split_once("issuer = ").unwrap().1.split_once('\n').unwrap().1);
        let provider = bz_core::oidc::provider::Provider { kind, ..provider.clone() };
        assert_eq!(settings.check(&provider), Ok(()), "{name}");
    }
}
