//! Bringing the login page before the person: in their browser, or as a printed address and a pasted answer.

use std::io;
use std::thread;

use bz_client::login::{Browser, BrowserFailed, Opening};
use tokio::sync::oneshot;
use url::Url;

use crate::output::Output;

/// The longest line that is read: codes and states are short.
const MAX_LINE: u64 = 16 << 10;

/// The system's browser.
#[derive(Debug)]
pub(crate) struct SystemBrowser(pub(crate) Output);

impl Browser for SystemBrowser {
    fn open<'a>(&'a self, url: &'a Url) -> Opening<'a> {
        Box::pin(async move {
            let text = url.to_string();
            let opened = tokio::task::spawn_blocking(move || webbrowser::open(&text)).await;
            if matches!(opened, Ok(Ok(()))) {
                self.0.say("The login continues in your browser.");
            } else {
                self.0.warn(&format!("No browser could be started. Open this page in one on this machine:\n\n{url}\n"));
            }
            Ok(None)
        })
    }
}

/// No browser here: the address is printed and the redirect pasted.
#[derive(Debug)]
pub(crate) struct Paste(pub(crate) Output);

impl Browser for Paste {
    fn open<'a>(&'a self, url: &'a Url) -> Opening<'a> {
        Box::pin(async move {
            self.0.warn(&format!(
                "Open this page in any browser and log in:\n\n{url}\n\nThe browser then goes to an address that begins \
                 with http://127.0.0.1 and may fail to show it. Paste that whole address here:"
            ));
            loop {
                let line = line().await.map_err(|error| BrowserFailed(error.to_string()))?;
                match Url::parse(line.trim()) {
                    Ok(redirect) => return Ok(Some(redirect)),
                    Err(_) => self.0.warn("That is no address. Paste all of it, beginning with http://127.0.0.1:"),
                }
            }
        })
    }
}

/// One line of standard input. Its thread is left behind when nobody types and the redirect comes by itself.
pub(crate) async fn line() -> io::Result<String> {
    let (send, receive) = oneshot::channel();
    thread::Builder::new().name("paste".to_owned()).spawn(move || {
        let mut line = String::new();
        let read = io::BufRead::read_line(&mut io::Read::take(io::stdin().lock(), MAX_LINE), &mut line);
        // Who does not wait any more does not want it.
        drop(send.send(read.map(|bytes| (bytes, line))));
    })?;
    match receive.await {
        Ok(Ok((0, _))) => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "standard input ended")),
        Ok(Ok((_, line))) => Ok(line),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(io::Error::other("standard input cannot be read")),
    }
}
