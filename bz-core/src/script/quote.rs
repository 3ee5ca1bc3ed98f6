//! Values as literals of the languages that scripts are in, so that none can be more than a value.

/// A word of the shell.
pub(super) fn shell(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// A verbatim string of PowerShell, to which four more characters are quotes.
pub(super) fn powershell(text: &str) -> String {
    let doubled = text.chars().flat_map(|c| {
        let quote = matches!(c, '\'' | '\u{2018}'..='\u{201b}');
        std::iter::once(c).chain(quote.then_some(c))
    });
    format!("'{}'", doubled.collect::<String>())
}

/// A double-quoted scalar of YAML, all of it visible ASCII.
pub(super) fn yaml(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            ' '..='~' => quoted.push(c),
            _ if u32::from(c) <= 0xffff => quoted.push_str(&format!("\\u{:04x}", u32::from(c))),
            _ => quoted.push_str(&format!("\\U{:08x}", u32::from(c))),
        }
    }
    quoted.push('"');
    quoted
}

/// A block scalar of YAML for what people shall be able to read, each line `indent` deep; a quoted one where a line would
/// not be a line to every reader.
pub(super) fn block(text: &str, indent: usize) -> String {
    let plain = text.ends_with('\n') && !text.ends_with("\n\n") && !text.starts_with([' ', '\n']);
    if !plain || !text.chars().all(|c| matches!(c, '\n' | ' '..='~')) {
        return yaml(text);
    }
    let space = " ".repeat(indent);
    let lines = text.lines().map(|line| if line.is_empty() { String::new() } else { format!("{space}{line}") });
    format!("|\n{}", lines.collect::<Vec<_>>().join("\n"))
}

/// A template with values in the places of their names, in one pass: a value is never looked at for names.
pub(super) fn fill(template: &str, values: &[(&str, String)]) -> String {
    let mut parts = template.split("@@");
    let mut filled = parts.next().unwrap_or_default().to_owned();
    while let (Some(name), Some(rest)) = (parts.next(), parts.next()) {
        let value = values.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str());
        filled.push_str(value.unwrap_or_default());
        filled.push_str(rest);
    }
    filled
}
