//! Logs as they grow: one event after the other, none twice and none left out, over as many calls as it takes.

use bz_core::api::record::LogHead;

use crate::client::Client;
use crate::client::record::EventFilter;
use crate::http::Incoming;
use crate::rest::RestError;

/// The most bytes of one event on its way.
const MOST: usize = 4 << 20;

/// An event that came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Followed {
    /// Its number in the server's logs.
    pub number: u64,
    /// Which log, as paths name it.
    pub log: String,
    /// JSON, as the log gives it.
    pub event: String,
}

/// A log that is followed.
#[derive(Debug)]
pub struct Following<'a> {
    client: &'a Client,
    query: Vec<(&'static str, String)>,
    after: u64,
    come: Option<Incoming>,
    bytes: Vec<u8>,
}

impl Client {
    /// The end of the server's logs: whoever writes it down elsewhere can prove later that nothing was changed.
    ///
    /// # Errors
    /// [`RestError`].
    pub async fn log_head(&self) -> Result<LogHead, RestError> {
        self.get("events/head", &[]).await
    }

    /// Follows a log from here on.
    ///
    /// # Errors
    /// [`RestError`].
    pub async fn follow<'a>(&'a self, log: &str, filter: &EventFilter) -> Result<Following<'a>, RestError> {
        let after = self.log_head().await?.count;
        let mut query = filter.query();
        query.retain(|(name, _)| *name != "eventCount");
        query.push(("logs", log.to_owned()));
        let mut following = Following { client: self, query, after, come: None, bytes: Vec::new() };
        following.open().await?;
        Ok(following)
    }
}

impl Following<'_> {
    /// The next event. A stream that ended is taken up where it was.
    ///
    /// # Errors
    /// [`RestError`] when it cannot be.
    pub async fn next(&mut self) -> Result<Followed, RestError> {
        loop {
            if let Some(event) = self.cut() {
                self.after = event.number;
                return Ok(event);
            }
            let chunk = match &mut self.come {
                Some(come) => come.next().await.ok().flatten(),
                None => None,
            };
            match chunk {
                Some(chunk) if self.bytes.len() <= MOST => self.bytes.extend(chunk),
                _ => self.open().await?,
            }
        }
    }

    async fn open(&mut self) -> Result<(), RestError> {
        self.bytes.clear();
        let after = self.after.to_string();
        let mut query: Vec<(&str, &str)> = self.query.iter().map(|(name, value)| (*name, value.as_str())).collect();
        query.push(("after", &after));
        let caller = self.client.caller().await;
        self.come = Some(self.client.rest.download(&caller, "events/stream", &query).await?);
        Ok(())
    }

    /// The first event in what has come, if it is whole.
    fn cut(&mut self) -> Option<Followed> {
        loop {
            let end = self.bytes.windows(2).position(|two| two == b"\n\n")?;
            let text: Vec<u8> = self.bytes.drain(..end + 2).collect();
            if let Some(event) = parse(&String::from_utf8_lossy(&text)) {
                return Some(event);
            }
        }
    }
}

/// An event of a stream; nothing for a sign of life.
fn parse(text: &str) -> Option<Followed> {
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
    Some(Followed { number: field("id: ")?.parse().ok()?, log: field("event: ")?, event: field("data: ")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_and_signs_of_life() {
        let event = |number, log: &str, event: &str| Followed { number, log: log.into(), event: event.into() };
        assert_eq!(parse("id: 7\nevent: command\ndata: {\"a\":1}\n\n"), Some(event(7, "command", "{\"a\":1}")));
        assert_eq!(parse(":\n\n"), None);
        assert_eq!(parse("retry: 2000\n\n"), None);
    }
}
