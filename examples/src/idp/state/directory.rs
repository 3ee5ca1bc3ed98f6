//! The users, by the name they type.

use std::collections::BTreeMap;

use crate::idp::config::User;

/// Everybody the provider knows; a disabled user is known and not found.
#[derive(Debug)]
pub(in crate::idp) struct Directory(BTreeMap<String, Account>);

#[derive(Debug)]
enum Account {
    Enabled(User),
    Disabled,
}

impl Directory {
    pub(super) fn new(users: Vec<User>) -> Self {
        Self(users.into_iter().map(|user| (user.name.clone(), Account::Enabled(user))).collect())
    }

    pub(in crate::idp) fn put(&mut self, user: User) {
        self.0.insert(user.name.clone(), Account::Enabled(user));
    }

    /// Says whether there was such a user.
    pub(in crate::idp) fn disable(&mut self, name: &str) -> bool {
        self.0.get_mut(name).map(|account| *account = Account::Disabled).is_some()
    }

    pub(in crate::idp) fn find(&self, name: &str) -> Option<&User> {
        match self.0.get(name)? {
            Account::Enabled(user) => Some(user),
            Account::Disabled => None,
        }
    }
}
