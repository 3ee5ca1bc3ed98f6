//! One link: who is it, and then its streams until it ends.

use std::sync::Arc;

use bz_core::id::TargetId;
use bz_core::time::Mono;
use bz_protocol::carrier::{Link, LinkError, Stream};
use bz_protocol::control::{
    AgentHello, ClientHello, FromServer, LINK_VERSIONS, LinkRefusal, Preamble, ShellReport, ToServer,
};
use bz_protocol::limits::HANDSHAKE;
use bz_protocol::link::{Conversation, greet, receive, send};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::connection::link::{self, live_login, target_offline, target_online};
use crate::relay::{AgentLink, ClientLink, Relay, WORDS, issuer, pair, segment};
use crate::store::login::Login;
use crate::store::target::{Announced, Target};

/// Stands for a link that was lost before this start; numbers begin above it.
const BEFORE_START: u64 = 0;

/// Serves a link to its end.
pub(super) async fn serve(relay: Arc<Relay>, app: Arc<App>, link: Arc<dyn Link>, end: CancellationToken) {
    let served = async {
        let accept = async { tokio::time::timeout(HANDSHAKE, link.accept()).await };
        let late = |_| LinkError("no control stream in time".to_owned());
        let mut control = accept.await.map_err(late)??;
        let challenge = app.random().map_err(|e| LinkError(e.to_string()))?;
        let hello = greet(&mut control, app.organization, challenge).await?;
        match hello {
            ToServer::Agent(hello) => match known_agent(&app, &hello, &challenge).await {
                Ok(target) => agent(&relay, &app, (Arc::clone(&link), control), (target, *hello), &end).await,
                Err(refusal) => refuse(&mut control, refusal).await,
            },
            ToServer::Client(hello) => match known_client(&app, &hello, &challenge).await {
                Ok(login) => client(&relay, &app, (Arc::clone(&link), control), login, &end).await,
                Err(refusal) => refuse(&mut control, refusal).await,
            },
            ToServer::Ping | ToServer::Shells(_) => Err(LinkError("a link that does not say who it is".to_owned())),
        }
    };
    let ended: Result<(), LinkError> = tokio::select! {
        ended = served => ended,
        () = end.cancelled() => Ok(()),
    };
    link.close();
    if let Err(error) = ended {
        tracing::debug!(%error, "a link ended");
    }
}

async fn refuse(control: &mut Box<dyn Stream>, refusal: LinkRefusal) -> Result<(), LinkError> {
    send(control, &FromServer::Refused(refusal)).await?;
    Err(LinkError(refusal.to_string()))
}

async fn known_agent(app: &App, hello: &AgentHello, challenge: &[u8; 32]) -> Result<Target, LinkRefusal> {
    if !hello.versions.iter().any(|v| LINK_VERSIONS.contains(v)) {
        return Err(LinkRefusal::Version);
    }
    let target = app.store.target(hello.target).await.map_err(|_| LinkRefusal::Busy)?.ok_or(LinkRefusal::Unknown)?;
    hello.check(challenge, app.organization, &target.control_key).map_err(|_| LinkRefusal::Unknown)?;
    Ok(target)
}

async fn known_client(app: &App, hello: &ClientHello, challenge: &[u8; 32]) -> Result<Login, LinkRefusal> {
    if !hello.versions.iter().any(|v| LINK_VERSIONS.contains(v)) {
        return Err(LinkRefusal::Version);
    }
    let login = live_login(app, hello.login).await.map_err(|_| LinkRefusal::Unknown)?;
    hello.check(challenge, app.organization, &login.client_key).map_err(|_| LinkRefusal::Unknown)?;
    Ok(login)
}

async fn agent(
    relay: &Arc<Relay>,
    app: &Arc<App>,
    (link, mut control): (Arc<dyn Link>, Box<dyn Stream>),
    (target, hello): (Target, AgentHello),
    end: &CancellationToken,
) -> Result<(), LinkError> {
    let announced = Announced { boot: hello.boot, version: hello.version, routes: hello.routes };
    target_online(app, target.id, announced).await.map_err(|e| LinkError(e.to_string()))?;
    let (words, to_say) = mpsc::channel(WORDS);
    let number = {
        let mut table = relay.lock();
        table.next = table.next.wrapping_add(1);
        let number = table.next;
        let entry = AgentLink {
            number,
            boot: hello.boot,
            key: target.identity_key,
            counter: 0,
            link: Arc::clone(&link),
            words,
            shells: None,
            end: end.clone(),
        };
        table.lost.remove(&target.id);
        // A newer link of the same target takes the older one's place.
        if let Some(older) = table.agents.insert(target.id, entry) {
            older.end.cancel();
        }
        number
    };
    let _registered = Registered { relay: Arc::clone(relay), app: Arc::clone(app), target: target.id, number };
    send(&mut control, &FromServer::Welcome).await?;
    tracing::info!(target = %target.name, "agent linked");
    let clock = Arc::clone(app.clock());
    let mut talk = Conversation::<ToServer, FromServer>::new(control, FromServer::Ping, clock);
    let mut to_say = to_say;
    loop {
        tokio::select! {
            heard = talk.next() => if let ToServer::Shells(shells) = heard? {
                shells_reported(relay, app, (target.id, number), shells).await;
            },
            Some(word) = to_say.recv() => talk.say(&word).await?,
            stream = link.accept() => {
                let (app, stream) = (Arc::clone(app), stream?);
                relay.tasks.spawn(async move { from_agent(&app, target.id, stream).await });
            }
        }
    }
}

/// An agent's place in the table; when it goes, the window begins after which the target is offline.
struct Registered {
    relay: Arc<Relay>,
    app: Arc<App>,
    target: TargetId,
    number: u64,
}

impl Drop for Registered {
    fn drop(&mut self) {
        // Before anybody can see that it is gone, and count from there.
        let since = self.app.now().mono;
        {
            let mut table = self.relay.lock();
            if table.agents.get(&self.target).is_some_and(|a| a.number == self.number) {
                table.agents.remove(&self.target);
                table.lost.insert(self.target, self.number);
            } else {
                return;
            }
        }
        let (relay, app, lost) = (Arc::clone(&self.relay), Arc::clone(&self.app), (self.target, self.number));
        self.relay.tasks.spawn(async move { offline_after_window(&relay, &app, lost, since).await });
    }
}

/// Marks a target offline when it has had no link for the window since it lost this one.
async fn offline_after_window(relay: &Relay, app: &Arc<App>, (target, number): (TargetId, u64), since: Mono) {
    let window = std::time::Duration::from_secs(app.config().offline_seconds.into());
    let at = since.after(window);
    tokio::select! {
        () = bz_protocol::driver::sleep_until(app.clock().as_ref(), Some(at)) => {}
        () = relay.end.cancelled() => return,
    }
    {
        let mut table = relay.lock();
        if table.lost.get(&target) != Some(&number) {
            return;
        }
        table.lost.remove(&target);
    }
    if let Err(error) = target_offline(app, target).await {
        tracing::error!(%target, %error, "a target could not be marked offline");
    }
}

/// After a start the server closes nothing before agents had their window to come back.
pub(super) async fn grace_after_start(relay: Arc<Relay>, app: Arc<App>) {
    match link::believed_online(&app).await {
        Ok(targets) => {
            for target in targets {
                {
                    let mut table = relay.lock();
                    if table.agents.contains_key(&target) {
                        continue;
                    }
                    table.lost.insert(target, BEFORE_START);
                }
                let (relay, app) = (Arc::clone(&relay), Arc::clone(&app));
                let tasks = relay.tasks.clone();
                let since = app.now().mono;
                tasks.spawn(async move { offline_after_window(&relay, &app, (target, BEFORE_START), since).await });
            }
        }
        Err(error) => tracing::error!(%error, "targets could not be read"),
    }
}

async fn shells_reported(relay: &Relay, app: &App, (target, number): (TargetId, u64), shells: Vec<ShellReport>) {
    let known = shells.iter().map(|r| r.shell).collect();
    if let Some(agent) = relay.lock().agents.get_mut(&target).filter(|a| a.number == number) {
        agent.shells = Some(known);
    }
    for report in shells.into_iter().filter(|r| r.running) {
        if let Err(error) = link::shell_attached(app, target, report.connection, report.shell).await {
            tracing::debug!(connection = %report.connection, %error, "a shell report that changes nothing");
        }
    }
    end_the_gone(relay, app, target).await;
}

/// Ends what is detached from a shell that its agent has no more.
pub(super) async fn end_the_gone(relay: &Relay, app: &App, target: TargetId) {
    let shells = relay.lock().agents.get(&target).and_then(|agent| agent.shells.clone());
    let Some(shells) = shells else { return };
    if let Err(error) = link::shells_known(app, target, &shells).await {
        tracing::error!(%target, %error, "connections whose shells are gone could not be closed");
    }
}

async fn from_agent(app: &Arc<App>, target: TargetId, mut stream: Box<dyn Stream>) {
    let preamble = tokio::time::timeout(HANDSHAKE, receive::<_, Preamble>(&mut stream)).await;
    match preamble {
        Ok(Ok(Preamble::Issuer { host, port })) => issuer::relay(app, &host, port, stream).await,
        Ok(Ok(Preamble::Segment { connection })) => segment::take(app, (target, connection), stream).await,
        Ok(Ok(Preamble::Session { .. })) => tracing::warn!("an agent opened a session"),
        Ok(Err(error)) => tracing::debug!(%error, "a stream without a preamble"),
        Err(_) => tracing::debug!("a stream whose preamble did not come in time"),
    }
}

async fn client(
    relay: &Arc<Relay>,
    app: &Arc<App>,
    (link, mut control): (Arc<dyn Link>, Box<dyn Stream>),
    login: Login,
    end: &CancellationToken,
) -> Result<(), LinkError> {
    let (words, mut to_say) = mpsc::channel(WORDS);
    let number = {
        let mut table = relay.lock();
        table.next = table.next.wrapping_add(1);
        let number = table.next;
        table.clients.insert(number, ClientLink { login: login.id, words, end: end.clone() });
        number
    };
    let _registered = RegisteredClient { relay: Arc::clone(relay), number };
    send(&mut control, &FromServer::Welcome).await?;
    let clock = Arc::clone(app.clock());
    let mut talk = Conversation::<ToServer, FromServer>::new(control, FromServer::Ping, clock);
    loop {
        tokio::select! {
            heard = talk.next() => drop(heard?),
            Some(word) = to_say.recv() => talk.say(&word).await?,
            stream = link.accept() => {
                let (relay, app, stream, login) = (Arc::clone(relay), Arc::clone(app), stream?, login.id);
                let tasks = relay.tasks.clone();
                tasks.spawn(async move { pair::from_client(&relay, &app, login, stream).await });
            }
        }
    }
}

struct RegisteredClient {
    relay: Arc<Relay>,
    number: u64,
}

impl Drop for RegisteredClient {
    fn drop(&mut self) {
        self.relay.lock().clients.remove(&self.number);
    }
}
