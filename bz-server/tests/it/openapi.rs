//! The API's description: what is served is what is checked in, whole and consistent, and the page that is read by people
//! is made from it.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use bz_server::api::OPERATIONS;
use expect_test::expect_file;
use serde_json::Value;

use crate::world::World;

/// F-253: `docs/api/openapi.json` and `docs/api/reference.md` are what the server says of itself; `UPDATE_EXPECT=1` writes
/// them anew.
#[tokio::test]
async fn the_document_is_checked_in() {
    let document = served().await;
    let text = serde_json::to_string_pretty(&document).unwrap() + "\n";
    expect_file!["../../../docs/api/openapi.json"].assert_eq(&text);
    expect_file!["../../../docs/api/reference.md"].assert_eq(&reference(&document));
}

/// Every operation of the table is in the document once, under a name of its own, with a sentence and its refusals.
#[tokio::test]
async fn every_operation_is_described() {
    let document = served().await;
    let mut ids = BTreeSet::new();
    for operation in OPERATIONS {
        let path = format!("/paths/~1api~1v2{}", operation.path.replace('/', "~1"));
        let described = document.pointer(&format!("{path}/{}", operation.method.as_str().to_lowercase()));
        let described = described.unwrap_or_else(|| panic!("{operation:?} is not in the document"));
        assert!(ids.insert(described["operationId"].as_str().unwrap().to_owned()), "{operation:?} has another's id");
        let summary = described["summary"].as_str().unwrap();
        assert!(summary.len() > 10 && summary.ends_with('.'), "{operation:?} has no sentence: {summary:?}");
        for status in ["400", "401", "403", "413", "429", "500"] {
            assert!(described["responses"][status].is_object(), "{operation:?} does not say that it answers {status}");
        }
        let callers = described["description"].as_str().unwrap();
        assert!(!callers.starts_with("Called by: ."), "{operation:?} is called by nobody: see policy/bz.rego");
    }
    let paths = document["paths"].as_object().unwrap();
    let described: usize = paths.values().map(|item| item.as_object().unwrap().len()).sum();
    assert_eq!(described, OPERATIONS.len(), "two rows have the same method and path");
}

/// What is referred to is there, what is there is referred to, and no text is left of the code's own links.
#[tokio::test]
async fn every_reference_leads_somewhere() {
    let document = served().await;
    let mut used = BTreeSet::new();
    walk(&document, &mut |key, value| match (key, value) {
        ("$ref", Value::String(to)) => {
            assert!(document.pointer(to.trim_start_matches('#')).is_some(), "{to} leads nowhere");
            used.insert(to.clone());
        }
        ("description", Value::String(text)) => {
            assert!(!text.contains("crate::") && !text.contains("[`"), "not for readers of the API: {text}");
        }
        _ => {}
    });
    for name in document["components"]["schemas"].as_object().unwrap().keys() {
        assert!(used.contains(&format!("#/components/schemas/{name}")), "nothing has the type {name}");
    }
}

async fn served() -> Value {
    let document = World::new().await.document().await;
    assert_eq!(document["openapi"], "3.1.0");
    document
}

fn walk(value: &Value, see: &mut impl FnMut(&str, &Value)) {
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                see(key, value);
                walk(value, see);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| walk(item, see)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// The page for people.
fn reference(document: &Value) -> String {
    let mut page = String::from("# The server's API\n\n");
    let about = document["info"]["description"].as_str().unwrap();
    writeln!(page, "<!-- Made from openapi.json by a test of bz-server; UPDATE_EXPECT=1 writes it anew. -->\n")
        .unwrap();
    writeln!(
        page,
        "{about}\n\nThe machine-readable form is [openapi.json](openapi.json), which a server also serves at"
    )
    .unwrap();
    writeln!(page, "`/api/v2/openapi.json`. Refusals have the body [ErrorBody](#errorbody).\n\n## Credentials\n")
        .unwrap();
    for (name, scheme) in document["components"]["securitySchemes"].as_object().unwrap() {
        writeln!(page, "- **{name}**: {}", scheme["description"].as_str().unwrap()).unwrap();
    }
    let mut tag = "";
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let own = operation["tags"][0].as_str().unwrap();
            if own != tag {
                tag = own;
                writeln!(page, "\n## {tag}").unwrap();
            }
            writeln!(page, "\n### `{} {path}`\n", method.to_uppercase()).unwrap();
            describe(operation, &mut page);
        }
    }
    writeln!(page, "\n## Types").unwrap();
    for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
        writeln!(page, "\n### {name}\n").unwrap();
        of_type(schema, &mut page);
    }
    page
}

fn describe(operation: &Value, page: &mut String) {
    writeln!(page, "{}", operation["summary"].as_str().unwrap()).unwrap();
    writeln!(page, "{}\n", operation["description"].as_str().unwrap()).unwrap();
    for param in operation["parameters"].as_array().unwrap() {
        let about = param["description"].as_str().map(|about| format!(": {about}")).unwrap_or_default();
        let place = param["in"].as_str().unwrap();
        let name = param["name"].as_str().unwrap();
        writeln!(page, "- {place} `{name}` ({}){about}", shape(&param["schema"])).unwrap();
    }
    let json = |content: &Value| {
        let (media, content) = content.as_object().and_then(|content| content.iter().next())?;
        let plain = content["schema"].as_object().is_none_or(serde_json::Map::is_empty);
        Some(if plain { format!("`{media}`") } else { shape(&content["schema"]) })
    };
    if let Some(body) = json(&operation["requestBody"]["content"]) {
        writeln!(page, "- body: {body}").unwrap();
    }
    for (status, response) in operation["responses"].as_object().unwrap().iter().filter(|(s, _)| s.starts_with('2')) {
        let answer = json(&response["content"]).unwrap_or_else(|| "nothing".to_owned());
        writeln!(page, "- answer: {status}, {answer}").unwrap();
    }
}

fn of_type(schema: &Value, page: &mut String) {
    if let Some(about) = schema["description"].as_str() {
        writeln!(page, "{about}\n").unwrap();
    }
    let parts = ["allOf", "oneOf"].iter().find_map(|all| Some((*all, schema[*all].as_array()?)));
    match parts {
        Some(("allOf", parts)) => {
            for part in parts {
                if part["properties"].is_object() {
                    fields(part, page);
                } else {
                    writeln!(page, "- all of {}", shape(part)).unwrap();
                }
            }
        }
        Some((_, parts)) => {
            for part in parts {
                writeln!(page, "- {}", shape(part)).unwrap();
            }
        }
        None if schema["properties"].is_object() => fields(schema, page),
        None => writeln!(page, "- {}", shape(schema)).unwrap(),
    }
}

fn fields(schema: &Value, page: &mut String) {
    let needed = schema["required"].as_array().cloned().unwrap_or_default();
    for (name, field) in schema["properties"].as_object().unwrap() {
        let about = field["description"].as_str().or_else(|| field["oneOf"][0]["description"].as_str());
        let about = about.map(|about| format!(": {about}")).unwrap_or_default();
        let needed = if needed.iter().any(|n| n == name) { "" } else { ", may be absent" };
        writeln!(page, "- `{name}` ({}{needed}){about}", shape(field)).unwrap();
    }
}

/// A schema in a few words.
fn shape(schema: &Value) -> String {
    if let Some(to) = schema["$ref"].as_str() {
        let name = to.rsplit('/').next().unwrap();
        return format!("[{name}](#{})", name.to_lowercase());
    }
    for all in ["oneOf", "allOf"] {
        if let Some(parts) = schema[all].as_array() {
            return parts.iter().map(shape).collect::<Vec<_>>().join(if all == "oneOf" { " or " } else { " with " });
        }
    }
    if let Some(values) = schema["enum"].as_array() {
        return values.iter().map(|value| format!("`{}`", value.as_str().unwrap())).collect::<Vec<_>>().join(", ");
    }
    let kinds = schema["type"].as_array().map(|kinds| kinds.iter().map(|k| k.as_str().unwrap()).collect::<Vec<_>>());
    let kind = kinds.unwrap_or_else(|| vec![schema["type"].as_str().unwrap_or("anything")]).join(" or ");
    match (kind.as_str(), schema["format"].as_str(), schema["properties"].as_object()) {
        ("array", ..) => format!("array of {}", shape(&schema["items"])),
        ("object", _, Some(properties)) => {
            let named = properties.iter().map(|(name, field)| format!("`{name}`: {}", shape(field)));
            format!("object with {}", named.collect::<Vec<_>>().join(", "))
        }
        (_, Some(format), _) => format!("{kind}, {format}"),
        _ => kind,
    }
}
