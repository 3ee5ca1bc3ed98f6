//! How people name a target: `[user@]target[.environment]`, or its id.

use std::fmt;
use std::str::FromStr;

use bz_core::id::TargetId;
use bz_core::target::TargetUser;

/// The most bytes of a target's or environment's name.
const MAX_NAME: usize = 255;

/// A target as typed: the last `@` ends the user, the first `.` begins the environment, a GUID is an id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetName {
    /// As whom.
    pub user: Option<TargetUser>,
    /// Which.
    pub target: TargetRef,
}

/// A target without a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TargetRef {
    /// By id.
    Id(TargetId),
    /// By name.
    Name {
        /// The target's name.
        name: String,
        /// In this environment.
        environment: Option<String>,
    },
}

/// Why a text names no target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParseTargetNameError {
    /// The part before the last `@` is no user.
    #[error("what stands before the @ is no user name: 1 to 32 letters, digits, '_', '-' or '.'")]
    User,
    /// Nothing where a name belongs, or a name too long or with control characters.
    #[error("not a target: write [user@]target[.environment], or the target's id")]
    Name,
}

impl FromStr for TargetName {
    type Err = ParseTargetNameError;

    fn from_str(text: &str) -> Result<Self, ParseTargetNameError> {
        let (user, target) = match text.rsplit_once('@') {
            Some((user, target)) => (Some(user.parse().map_err(|_| ParseTargetNameError::User)?), target),
            None => (None, text),
        };
        Ok(Self { user, target: target.parse()? })
    }
}

impl FromStr for TargetRef {
    type Err = ParseTargetNameError;

    fn from_str(text: &str) -> Result<Self, ParseTargetNameError> {
        // Only the hyphenated form is an id: 32 hexadecimal digits may well be somebody's target name.
        if text.len() == 36
            && let Ok(id) = text.parse()
        {
            return Ok(Self::Id(id));
        }
        let (name, environment) = match text.split_once('.') {
            Some((name, environment)) => (name, Some(environment)),
            None => (text, None),
        };
        let plain = |part: &str| {
            !part.trim().is_empty()
                && part.len() <= MAX_NAME
                && !part.chars().any(char::is_control)
                && !part.contains('@')
        };
        if !plain(name) || !environment.is_none_or(plain) {
            return Err(ParseTargetNameError::Name);
        }
        Ok(Self::Name { name: name.to_owned(), environment: environment.map(str::to_owned) })
    }
}

impl TargetRef {
    /// The id, where that was typed.
    #[must_use]
    pub const fn id(&self) -> Option<TargetId> {
        match self {
            Self::Id(id) => Some(*id),
            Self::Name { .. } => None,
        }
    }

    /// The name, where that was typed.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Id(_) => None,
            Self::Name { name, .. } => Some(name),
        }
    }

    /// The environment, where one was typed.
    #[must_use]
    pub fn environment(&self) -> Option<&str> {
        match self {
            Self::Id(_) => None,
            Self::Name { environment, .. } => environment.as_deref(),
        }
    }
}

impl fmt::Display for TargetName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.user {
            Some(user) => write!(f, "{user}@{}", self.target),
            None => self.target.fmt(f),
        }
    }
}

impl fmt::Display for TargetRef {
    /// As typed: what known agents are kept under.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => id.fmt(f),
            Self::Name { name, environment: Some(environment) } => write!(f, "{name}.{environment}"),
            Self::Name { name, environment: None } => f.write_str(name),
        }
    }
}
