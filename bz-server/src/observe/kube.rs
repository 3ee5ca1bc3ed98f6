//! What a request to the Kubernetes API asks for, read from its method and path as the API server reads them.
//!
//! **Absent:** bodies.

pub mod typed;

use bz_core::api::record::KubeAction;

use crate::observe::Exchange;
use crate::observe::http::escaped;

/// A longer command is cut in the log.
const LONGEST: usize = 8 << 10;

/// What it asks for.
#[must_use]
pub fn action(exchange: &Exchange) -> KubeAction {
    let (path, query) = exchange.target.split_once('?').unwrap_or((&exchange.target, ""));
    let decoded = |part: &str| {
        // What a form calls a space is none in a path.
        let pair = format!("={}", part.replace('+', "%2B"));
        url::form_urlencoded::parse(pair.as_bytes()).next().map(|(_, value)| escaped(&value)).unwrap_or_default()
    };
    let parts: Vec<String> = path.split('/').filter(|part| !part.is_empty()).map(decoded).collect();
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let rest = match parts.as_slice() {
        ["api", _, rest @ ..] | ["apis", _, _, rest @ ..] => rest,
        _ => &[],
    };
    let (watched, rest) = match rest {
        ["watch", rest @ ..] => (true, rest),
        rest => (false, rest),
    };
    let mut action = KubeAction { command: command(query), ..KubeAction::default() };
    let named = match rest {
        [] => {
            action.verb = exchange.method.to_ascii_lowercase();
            return action;
        }
        ["namespaces", namespace, resource, rest @ ..] if !["status", "finalize"].contains(resource) => {
            action.namespace = Some((*namespace).to_owned());
            (*resource, rest)
        }
        [resource, rest @ ..] => (*resource, rest),
    };
    let (resource, rest) = named;
    action.name = rest.first().map(|name| (*name).to_owned());
    if resource == "namespaces" {
        action.namespace.clone_from(&action.name);
    }
    action.resource = match rest.get(1..).unwrap_or_default() {
        [] => resource.to_owned(),
        below => format!("{resource}/{}", below.join("/")),
    };
    let watches = url::form_urlencoded::parse(query.as_bytes()).any(|(n, v)| n == "watch" && (v == "true" || v == "1"));
    action.verb = verb(&exchange.method, action.name.is_some(), watched || watches).to_owned();
    action
}

/// Whether somebody sits at a terminal of a container.
#[must_use]
pub fn is_terminal(target: &str) -> bool {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let set = |wanted: &str| {
        let mut pairs = url::form_urlencoded::parse(query.as_bytes());
        pairs.any(|(name, value)| name == wanted && (value == "true" || value == "1"))
    };
    (path.ends_with("/exec") || path.ends_with("/attach")) && set("tty") && set("stdin")
}

/// The verb that the cluster's own policy names.
fn verb(method: &str, named: bool, watches: bool) -> &str {
    match (method, named) {
        ("GET" | "HEAD", _) if watches => "watch",
        ("GET" | "HEAD", true) => "get",
        ("GET" | "HEAD", false) => "list",
        ("POST", _) => "create",
        ("PUT", _) => "update",
        ("PATCH", _) => "patch",
        ("DELETE", true) => "delete",
        ("DELETE", false) => "deletecollection",
        (other, _) => other,
    }
}

/// The command line of an `exec`, as a shell would be given it.
fn command(query: &str) -> Option<String> {
    let words = url::form_urlencoded::parse(query.as_bytes()).filter(|(name, _)| name == "command");
    let words: Vec<String> = words.map(|(_, word)| quoted(&word)).collect();
    let mut line = words.join(" ");
    if line.len() > LONGEST {
        let end = (0..=LONGEST).rev().find(|end| line.is_char_boundary(*end)).unwrap_or_default();
        line.truncate(end);
        line.push('…');
    }
    (!line.is_empty()).then_some(line)
}

fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@%+,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", escaped(word).replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bz_core::api::record::WebOutcome;
    use bz_core::time::UnixTime;

    fn check(request: &str, verb: &str, resource: &str, (namespace, name): (Option<&str>, Option<&str>)) -> KubeAction {
        let (method, target) = request.split_once(' ').unwrap();
        let at = UnixTime::from_millis(0);
        let exchange = Exchange {
            method: method.to_owned(),
            target: target.to_owned(),
            wanted: None,
            status: None,
            sent: 0,
            received: 0,
            began: at,
            ended: at,
            outcome: WebOutcome::Answered,
        };
        let got = action(&exchange);
        let shown = (got.verb.as_str(), got.resource.as_str(), got.namespace.as_deref(), got.name.as_deref());
        assert_eq!(shown, (verb, resource, namespace, name), "{request}");
        got
    }

    #[test]
    fn a_request_is_read_as_the_api_server_reads_it() {
        let (shop, web) = (Some("shop"), Some("web-0"));
        check("GET /api/v1/namespaces/shop/pods", "list", "pods", (shop, None));
        check("GET /api/v1/namespaces/shop/pods?watch=true&a=b", "watch", "pods", (shop, None));
        check("GET /api/v1/watch/namespaces/shop/pods", "watch", "pods", (shop, None));
        check("GET /api/v1/namespaces/shop/pods/web-0", "get", "pods", (shop, web));
        check("GET /api/v1/namespaces/shop/pods/web-0/log?follow=true", "get", "pods/log", (shop, web));
        check("GET /api/v1/pods", "list", "pods", (None, None));
        check("GET /api/v1/namespaces", "list", "namespaces", (None, None));
        check("GET /api/v1/namespaces/shop", "get", "namespaces", (shop, shop));
        check("PUT /api/v1/namespaces/shop/finalize", "update", "namespaces/finalize", (shop, shop));
        check(
            "PATCH /apis/apps/v1/namespaces/shop/deployments/web-0?fieldManager=x",
            "patch",
            "deployments",
            (shop, web),
        );
        check("DELETE /apis/apps/v1/namespaces/shop/deployments", "deletecollection", "deployments", (shop, None));
        check("DELETE /api/v1/nodes/web-0", "delete", "nodes", (None, web));
        check(
            "POST /apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
            "create",
            "selfsubjectaccessreviews",
            (None, None),
        );
        check("GET /version", "get", "", (None, None));
        check("GET /apis/apps/v1", "get", "", (None, None));
        check("GET /api/v1/namespaces/a%0ab/pods", "list", "pods", (Some("a\\x0ab"), None));
    }

    #[test]
    fn what_an_exec_runs_is_a_command_line() {
        let exec =
            "POST /api/v1/namespaces/shop/pods/web-0/exec?command=sh&command=-c&command=echo%20it%27s&stdin=true";
        let got = check(exec, "create", "pods/exec", (Some("shop"), Some("web-0")));
        assert_eq!(got.command.as_deref(), Some(r"sh -c 'echo it'\''s'"));
    }
}
