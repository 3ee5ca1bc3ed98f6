//! Where a login lives between runs, so that two programs of one person do not spend one refresh token twice.

use std::fmt;
use std::pin::Pin;

use crate::file::FileError;
use crate::login::Login;

/// What [`LoginStore::lock`] gives.
pub type Locking<'a> = Pin<Box<dyn Future<Output = Result<Box<dyn LockedLogin>, FileError>> + Send + 'a>>;

/// A login that several programs share.
pub trait LoginStore: fmt::Debug + Send + Sync {
    /// Takes the right to change the login, across processes, until the answer is dropped.
    fn lock(&self) -> Locking<'_>;
}

/// The right to change a stored login.
pub trait LockedLogin: fmt::Debug + Send + Sync {
    /// The login that is stored now.
    ///
    /// # Errors
    /// When it cannot be read.
    fn load(&self) -> Result<Option<Login>, FileError>;

    /// Replaces it.
    ///
    /// # Errors
    /// When it cannot be kept.
    fn save(&self, login: &Login) -> Result<(), FileError>;
}
