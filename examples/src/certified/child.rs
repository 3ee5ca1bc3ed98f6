//! The child process: orders go in on stdin, one line of JSON comes out per order, and stderr is kept for the error
//! that may need it. The end of stdin ends the provider, so not even a killed test leaves it behind.

use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::task::JoinHandle;

use super::OrderError;

/// Long enough for a cold start of Node.js on a busy machine.
const DEADLINE: Duration = Duration::from_secs(30);
const MAX_LINE: usize = 4096;
/// The end of stderr is where the reason of a crash is.
const KEPT_STDERR: usize = 4096;

#[derive(Debug)]
pub(super) struct Child {
    process: tokio::process::Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    stderr: Arc<Mutex<Vec<u8>>>,
    /// Reads stderr to its end; taken by the first who waits for that.
    reader: Option<JoinHandle<()>>,
}

impl Child {
    pub(super) fn spawn(folder: &Path) -> std::io::Result<Self> {
        let mut process = Command::new("node")
            .arg("provider.mjs")
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let (Some(stdin), Some(stdout), Some(stderr)) =
            (process.stdin.take(), process.stdout.take(), process.stderr.take())
        else {
            return Err(std::io::Error::other("the child has no pipes"));
        };
        let kept = Arc::default();
        // Ends with the pipe, which ends with the process.
        let reader = Some(tokio::spawn(keep_tail(stderr, Arc::clone(&kept))));
        Ok(Self { process, stdin, stdout: BufReader::new(stdout), stderr: kept, reader })
    }

    pub(super) async fn send(&mut self, order: &Value) -> Result<(), OrderError> {
        self.stdin.write_all(format!("{order}\n").as_bytes()).await?;
        Ok(self.stdin.flush().await?)
    }

    /// The next line of the provider. After a failure the conversation is out of step, so the process is killed.
    pub(super) async fn line(&mut self) -> Result<Value, OrderError> {
        let result = match tokio::time::timeout(DEADLINE, self.read_line()).await {
            Ok(result) => result,
            Err(_) => Err(OrderError::Timeout { stderr: self.stderr() }),
        };
        if result.is_err() {
            // It may be dead already, which is what is wanted.
            drop(self.process.start_kill());
        }
        result
    }

    async fn read_line(&mut self) -> Result<Value, OrderError> {
        let mut line = String::new();
        let bound = u64::try_from(MAX_LINE).unwrap_or(u64::MAX);
        if (&mut self.stdout).take(bound).read_line(&mut line).await? == 0 {
            if let Some(reader) = self.reader.take() {
                // It does not panic, and nobody aborts it; what it kept is all that counts.
                drop(reader.await);
            }
            return Err(OrderError::Ended { stderr: self.stderr() });
        }
        serde_json::from_str(&line).map_err(|_| OrderError::Answer { line })
    }

    fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.stderr.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }
}

async fn keep_tail(mut stderr: ChildStderr, kept: Arc<Mutex<Vec<u8>>>) {
    let mut chunk = [0; 1024];
    while let Ok(length @ 1..) = stderr.read(&mut chunk).await {
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.extend_from_slice(chunk.get(..length).unwrap_or_default());
        let surplus = kept.len().saturating_sub(KEPT_STDERR);
        kept.drain(..surplus);
    }
}
