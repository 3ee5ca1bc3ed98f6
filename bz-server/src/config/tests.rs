//! Settings: the example reads, and each rule broken alone.

use super::*;

const NONE: [(String, String); 0] = [];

#[test]
fn the_example_reads_and_leaves_the_defaults_alone() {
    let config = Config::parse(Config::default_text(), NONE).unwrap();
    let mut small: toml::Table = toml::from_str(Config::default_text()).unwrap();
    small.retain(|key, _| ["organization", "data", "listen", "public_url", "tls", "provider"].contains(&key));
    assert_eq!(Config::parse(&small.to_string(), NONE).unwrap(), config, "the example differs from the defaults");
}

#[test]
fn every_key_is_explained_in_the_example() {
    let config = Config {
        metrics_listen: Some("127.0.0.1:1".parse().unwrap()),
        provider_ca: Some("x".into()),
        directories: vec![toml::from_str("issuer = \"x\"").unwrap()],
        logins: vec![ProviderLogin { issuer: "x".to_owned(), client_secret: None, scopes: Vec::new() }],
        ..Config::parse(Config::default_text(), NONE).unwrap()
    };
    for key in toml::Table::try_from(&config).unwrap().keys() {
        let named = [format!("\n{key} = "), format!("\n# {key} = "), format!("\n[[{key}]]"), format!("\n# [[{key}]]")];
        assert!(named.iter().any(|n| Config::default_text().contains(n)), "{key} is not in config/default.toml");
    }
}

#[test]
fn the_environment_wins() {
    let set = |key: &str, value: &str| {
        Config::parse(Config::default_text(), [(format!("{ENVIRONMENT}{key}"), value.to_owned())])
    };
    assert_eq!(set("LISTEN", "127.0.0.1:1").unwrap().listen, "127.0.0.1:1".parse().unwrap());
    assert_eq!(set("GRANT_SECONDS", "60").unwrap().grant_seconds, 60);
    assert_eq!(set("TRUSTED_PROXIES", "[\"10.0.0.1\"]").unwrap().trusted_proxies.len(), 1);
    assert!(matches!(set("LISTEM", "x"), Err(ConfigError::Malformed(why)) if why.contains("listem")));
}

#[test]
fn bad_values_are_named() {
    let check = |key: &str, value: &str, want: &'static str| {
        let got = Config::parse(Config::default_text(), [(format!("{ENVIRONMENT}{key}"), value.to_owned())]);
        assert!(matches!(got, Err(ConfigError::Value { key, .. }) if key == want), "{key} = {value}: {got:?}");
    };
    check("LISTEN", "0.0.0.0:1", "tls");
    check("METRICS_LISTEN", "0.0.0.0:1", "metrics_listen");
    check("PUBLIC_URL", "ftp://x", "public_url");
    check("GRANT_SECONDS", "901", "grant_seconds");
    check("OFFLINE_SECONDS", "1", "offline_seconds");
    check("LOGIN_MAX_HOURS", "0", "login_max_hours");
    check("SESSION_MAX_HOURS", "169", "session_max_hours");
    check("SHELL_IDLE_HOURS", "0", "shell_idle_hours");
    check("DRAIN_SECONDS", "301", "drain_seconds");
    check("SINKS_WAIT_DAYS", "366", "sinks_wait_days");
    check("ORGANIZATION", " ", "organization");
    check("NODE", "", "node");
    check("PROVIDER", "[]", "provider");
    let login = |rest: &str| format!("[{{ issuer = \"https://login.example.com\", {rest} }}]");
    check("LOGIN", "[{ issuer = \"https://another.example.com\" }]", "login");
    check("LOGIN", &login("client_secret = \"\""), "login");
    check("LOGIN", &login("client_secret = \"two\\nlines\""), "login");
    check("LOGIN", &login("scopes = [\"two words\"]"), "login");
    let anyone = Config::default_text().replace("claim = \"org\"", "claim = \"\"");
    assert!(matches!(Config::parse(&anyone, NONE), Err(ConfigError::Provider { .. })));
}

#[test]
fn a_client_secret_is_not_shown() {
    let value = "[{ issuer = \"https://login.example.com\", client_secret = \"GOCSPX-shown\", scopes = [\"more\"] }]";
    let environment = [(format!("{ENVIRONMENT}LOGIN"), value.to_owned())];
    let config = Config::parse(Config::default_text(), environment).unwrap();
    let shown = format!("{config:?}");
    assert!(shown.contains("more") && !shown.contains("GOCSPX"), "{shown}");
}
