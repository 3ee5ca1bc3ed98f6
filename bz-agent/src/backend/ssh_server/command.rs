//! A command without a terminal: its three pipes, and its status.

use bz_protocol::ssh::{INPUT, OUTPUT, Said};

use super::channel::Channel;
use crate::exec::{Exec, ExecRequest};
use crate::helper::ExitStatus;

/// Where a command is not started.
pub(super) const NOT_STARTED: ExitStatus = ExitStatus::Code(255);

pub(super) async fn run(mut channel: Channel, command: Vec<u8>) {
    let served = &channel.served;
    if !served.told.say(&Said::Command { command: command.clone() }).await {
        return channel.out.end(NOT_STARTED).await;
    }
    let request = ExecRequest { command, environment: channel.environment.clone() };
    let mut exec = match Exec::spawn(&served.server.helper, &served.user, request).await {
        Ok(exec) => exec,
        Err(error) => {
            tracing::warn!(%error, "a command could not be started");
            channel.out.complain("the command could not be started").await;
            return channel.out.end(NOT_STARTED).await;
        }
    };
    let (output, input) = (served.recording.output.then_some(OUTPUT), served.recording.input.then_some(INPUT));
    let (stdin, stdout, stderr) = (exec.stdin.take(), exec.stdout.take(), exec.stderr.take());
    let out = channel.out.clone();
    let ended = async {
        tokio::join!(out.copy(stdout, (false, output)), out.copy(stderr, (true, output)));
        exec.wait().await
    };
    let status = tokio::select! {
        status = ended => status,
        // The command dies with the value that holds it.
        () = channel.words.feed(stdin, input) => return,
    };
    let status = status.unwrap_or_else(|error| {
        tracing::warn!(%error, "a command's end is not known");
        NOT_STARTED
    });
    channel.out.end(status).await;
}
