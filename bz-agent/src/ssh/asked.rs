//! What sshd asks of each key that somebody offers, by a command (`AuthorizedKeysCommand`) and the agent's own socket.
//!
//! A certificate of a session that is live, and a minute old at most, is answered with the line that lets it in as its
//! one user; everything else with nothing.
//!
//! The folder and the socket's other end must be the agent's user's, or root's. An agent that is gone answers nobody.
//!
//! **Absent:** files. What is answered is in memory alone.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bz_core::target::TargetUser;
use bz_core::time::Mono;
use bz_protocol::driver::Clock;
use rustix::process::geteuid;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::{JoinHandle, JoinSet};

use crate::file::{self, FileError};

/// The socket, in the agent's folder.
const SOCKET: &str = "ssh-keys.sock";
/// How long a session may take to log in.
const LIFE: Duration = Duration::from_secs(60);
/// sshd waits for its command.
const PATIENCE: Duration = Duration::from_secs(5);
/// A user and a certificate fit twice.
const MAX_QUESTION: u64 = 8 << 10;
const MAX_ANSWER: u64 = 4 << 10;
const MAX_AT_ONCE: usize = 32;
/// After an error of the machine's, such as too many open files.
const PAUSE: Duration = Duration::from_millis(100);

/// Answers sshd. Dropping it ends that.
#[derive(Debug)]
pub struct Asked {
    table: Arc<Table>,
    task: JoinHandle<()>,
}

struct Table {
    clock: Arc<dyn Clock>,
    /// By the base64 of certificates, as sshd says them.
    offers: Mutex<BTreeMap<String, Offered>>,
}

struct Offered {
    user: TargetUser,
    until: Mono,
    line: String,
    asked: bool,
}

impl Asked {
    /// Answers at the socket in the agent's folder. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn listen(folder: &Path, clock: Arc<dyn Clock>) -> Result<Self, FileError> {
        file::private_folder(folder)?;
        let path = folder.join(SOCKET);
        // What an agent left that is gone; nobody else may write here.
        if fs::symlink_metadata(&path).is_ok_and(|found| found.file_type().is_socket()) {
            fs::remove_file(&path).map_err(FileError::io(&path, "removed"))?;
        }
        let listener = UnixListener::bind(&path).map_err(FileError::io(&path, "made"))?;
        let table = Arc::new(Table { clock, offers: Mutex::default() });
        let task = tokio::spawn(answer_all(listener, Arc::clone(&table)));
        Ok(Self { table, task })
    }

    /// Answers for this certificate from now on, until the offer is dropped or a minute old.
    pub(super) fn offer(&self, user: &TargetUser, (certificate, line): (&[u8], String)) -> Offer {
        let key = STANDARD.encode(certificate);
        let until = self.table.clock.now().mono.after(LIFE);
        let offered = Offered { user: user.clone(), until, line, asked: false };
        self.table.offers().insert(key.clone(), offered);
        Offer { table: Arc::clone(&self.table), key }
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A session's certificate, as long as it is answered for.
pub(crate) struct Offer {
    table: Arc<Table>,
    key: String,
}

impl Drop for Offer {
    fn drop(&mut self) {
        let offered = self.table.offers().remove(&self.key);
        if let Some(Offered { user, asked: false, .. }) = offered {
            tracing::warn!(
                %user,
                "sshd never asked for the key of this session: `bz-agent ssh-ca --login command` prints the lines that it needs"
            );
        }
    }
}

impl Table {
    fn offers(&self) -> MutexGuard<'_, BTreeMap<String, Offered>> {
        self.offers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The line for a user and a key, or nothing.
    fn answer(&self, question: &str) -> String {
        let now = self.clock.now().mono;
        let mut words = question.split_ascii_whitespace();
        let (Some(user), Some(key), None) = (words.next(), words.next(), words.next()) else {
            return String::new();
        };
        match self.offers().get_mut(key) {
            Some(offered) if offered.user.as_str() == user && now < offered.until => {
                offered.asked = true;
                format!("{}\n", offered.line)
            }
            _ => String::new(),
        }
    }
}

async fn answer_all(listener: UnixListener, table: Arc<Table>) {
    let mut asking = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if asking.len() < MAX_AT_ONCE => match accepted {
                Ok((stream, _)) => {
                    let table = Arc::clone(&table);
                    asking.spawn(async move {
                        match tokio::time::timeout(PATIENCE, answer(stream, &table)).await {
                            Ok(Ok(())) => {}
                            Ok(Err(error)) => tracing::debug!(%error, "sshd could not be answered"),
                            Err(_) => tracing::debug!("somebody asked for a key, and did not go on"),
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "sshd cannot ask for keys");
                    tokio::time::sleep(PAUSE).await;
                }
            },
            Some(_) = asking.join_next() => {}
        }
    }
}

async fn answer(mut stream: UnixStream, table: &Table) -> io::Result<()> {
    // The folder lets nobody else in; this holds where somebody opened it.
    let who = stream.peer_cred()?.uid();
    if who != 0 && who != geteuid().as_raw() {
        return Err(io::Error::from(io::ErrorKind::PermissionDenied));
    }
    let mut question = String::new();
    (&mut stream).take(MAX_QUESTION).read_to_string(&mut question).await?;
    stream.write_all(table.answer(&question).as_bytes()).await?;
    stream.shutdown().await
}

/// Asks the agent whose folder this is what sshd is to know of a user and the key that somebody offers, in base64.
///
/// # Errors
/// When no agent answers there.
pub async fn ask(folder: &Path, user: &str, key: &str) -> io::Result<String> {
    let ask = async {
        let mut stream = UnixStream::connect(folder.join(SOCKET)).await?;
        stream.write_all(format!("{user} {key}").as_bytes()).await?;
        stream.shutdown().await?;
        let mut answer = String::new();
        stream.take(MAX_ANSWER).read_to_string(&mut answer).await?;
        Ok(answer)
    };
    tokio::time::timeout(PATIENCE, ask).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

impl std::fmt::Debug for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Table").field("offers", &self.offers().len()).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Offer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Offer").finish_non_exhaustive()
    }
}
