//! Reads the one form of a login page: where it goes, what it hides, and which field takes the name.
//!
//! Absent: HTML. It knows double-quoted attributes and numeric or basic named character references, which is what
//! both providers of this crate write.

/// A form with its values as the page gave them.
pub(super) struct Form {
    pub(super) action: String,
    hidden: Vec<(String, String)>,
    text: String,
}

impl Form {
    /// The first form of the page, if it has a text field.
    pub(super) fn find(page: &str) -> Option<Self> {
        let form = page.split_once("<form")?.1.split_once("</form>")?.0;
        let (opening, inner) = form.split_once('>')?;
        let (mut hidden, mut text) = (Vec::new(), None);
        for tag in inner.split("<input").skip(1) {
            let tag = tag.split_once('>').map_or(tag, |(tag, _)| tag);
            let name = attribute(tag, "name").unwrap_or_default();
            match attribute(tag, "type").as_deref() {
                Some("hidden") => hidden.push((name, attribute(tag, "value").unwrap_or_default())),
                Some("text") => text = text.or(Some(name)),
                Some(_) | None => {}
            }
        }
        Some(Self { action: attribute(opening, "action")?, hidden, text: text? })
    }

    pub(super) fn filled_with(self, user: &str) -> Vec<(String, String)> {
        let mut fields = self.hidden;
        fields.push((self.text, user.to_owned()));
        fields
    }
}

fn attribute(tag: &str, name: &str) -> Option<String> {
    let (_, value) = tag.split_once(&format!(" {name}=\""))?;
    Some(unescape(value.split_once('"')?.0))
}

fn unescape(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('&') {
        plain.push_str(before);
        let known = after.split_once(';').and_then(|(reference, tail)| Some((character(reference)?, tail)));
        let (found, tail) = known.unwrap_or(('&', after));
        plain.push(found);
        rest = tail;
    }
    plain + rest
}

fn character(reference: &str) -> Option<char> {
    match reference {
        "amp" => Some('&'),
        "lt" => Some('<'),
        "gt" => Some('>'),
        "quot" => Some('"'),
        numeric => char::from_u32(numeric.strip_prefix('#')?.parse().ok()?),
    }
}
