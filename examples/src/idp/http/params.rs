//! The parameters of a request, bounded, each at most once (RFC 6749, section 3.1).

use std::collections::BTreeMap;

use url::form_urlencoded;

pub(super) const MAX_PARAMS_BYTES: usize = 16 << 10;
const MAX_PARAMS: usize = 64;

#[derive(Default)]
pub(super) struct Params(BTreeMap<String, String>);

/// Why a request cannot be read at all.
#[derive(Debug, thiserror::Error)]
pub(super) enum Malformed {
    #[error("the request has too many parameters, or too long ones")]
    TooLarge,
    #[error("the parameter {0:?} appears twice")]
    Twice(String),
}

impl Params {
    pub(super) fn parse(form: &[u8]) -> Result<Self, Malformed> {
        if form.len() > MAX_PARAMS_BYTES {
            return Err(Malformed::TooLarge);
        }
        let mut params = BTreeMap::new();
        for (name, value) in form_urlencoded::parse(form) {
            if params.len() == MAX_PARAMS {
                return Err(Malformed::TooLarge);
            }
            if params.insert(name.to_string(), value.into_owned()).is_some() {
                return Err(Malformed::Twice(name.into_owned()));
            }
        }
        Ok(Self(params))
    }

    /// A parameter without a value counts as left out.
    pub(super) fn find(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// The words of a space-separated list.
    pub(super) fn words(&self, name: &str) -> impl Iterator<Item = &str> {
        self.find(name).unwrap_or_default().split(' ').filter(|word| !word.is_empty())
    }
}
