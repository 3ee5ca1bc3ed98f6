//! Files over `sftp` or the old `scp`: the channel joined to a helper that is the target user.

use bz_protocol::ssh::Said;

use super::TIDY;
use super::channel::Channel;
use super::command::NOT_STARTED;
use crate::helper::transfer::Service;
use crate::transfer::Transfer;

pub(super) async fn run(mut channel: Channel, service: Service) {
    let served = &channel.served;
    let begun = Transfer::begin(&served.server.helper, &served.user, service).await;
    let (transfer, stream, mut log) = match begun {
        Ok(begun) => begun,
        Err(error) => {
            tracing::warn!(%error, "files could not be served");
            channel.out.complain("files cannot be served now").await;
            return channel.out.end(NOT_STARTED).await;
        }
    };
    let (from, to) = stream.into_split();
    let out = channel.out.clone();
    let told = &served.told;
    let logging = async {
        while let Some(file) = log.next().await {
            if !told.say(&Said::File(file)).await {
                return;
            }
        }
    };
    let all = async {
        tokio::join!(out.copy(Some(from), (false, None)), logging);
        transfer.wait().await
    };
    let mut all = std::pin::pin!(all);
    let status = tokio::select! {
        status = &mut all => status,
        () = channel.words.feed(Some(to), None) => {
            // What was under way is in the log, too.
            if tokio::time::timeout(TIDY, all).await.is_err() {
                tracing::debug!("a transfer that was cut did not end by itself");
            }
            return;
        }
    };
    channel.out.end(status.unwrap_or(NOT_STARTED)).await;
}
