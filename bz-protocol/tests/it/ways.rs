//! The race of carriers: who starts when, who wins, what is remembered, and what losers leave behind. Time is virtual.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bz_core::id::{LoginId, OrganizationId};
use bz_core::key::PrivateKey;
use bz_protocol::carrier::{Boxed, Carrier, Class, Link, LinkError, Stream, memory_pair};
use bz_protocol::control::{FromServer, ToServer};
use bz_protocol::driver::SystemClock;
use bz_protocol::limits::{HANDSHAKE, HEAD_START, KEEPALIVE, LINK_DEAD};
use bz_protocol::link::{Conversation, Linked, Memory, Recent, Ways, greet, send};
use tokio::io::AsyncReadExt as _;
use tokio::time::Instant;

const ORGANIZATION: OrganizationId = OrganizationId::from_bytes([9; 16]);
const RTT: Duration = Duration::from_millis(40);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// PR-LINK-5: the first starts at once, the second after its head start or when the first fails; the first answer wins.
#[tokio::test(start_paused = true)]
async fn who_answers_first_wins() {
    let late = HEAD_START + RTT;
    let check = async |quic: Way, ws: Way, winner: &str, after: Duration, dialed: &[(&str, Duration)]| {
        let stage = Stage::new(quic, ws);
        let began = Instant::now();
        let linked = stage.link().await.unwrap();
        assert_eq!((linked.carrier, began.elapsed()), (winner, after), "{quic:?} against {ws:?}");
        assert_eq!(stage.dialed(began), dialed, "{quic:?} against {ws:?}");
        assert_eq!(stage.memory.first().as_deref(), Some(winner), "{quic:?} against {ws:?}");
    };
    let (quic, both) = (("quic", Duration::ZERO), [("quic", Duration::ZERO), ("ws", HEAD_START)]);
    check(Way::Answers(RTT), Way::Answers(RTT), "quic", RTT, &[quic]).await;
    check(Way::Answers(late), Way::Answers(RTT * 2), "quic", late, &both).await;
    check(Way::Answers(late * 2), Way::Answers(RTT), "ws", late, &both).await;
    check(Way::Hangs, Way::Answers(RTT), "ws", late, &both).await;
    // A handshake is no answer: here the carrier makes one and its streams carry nothing.
    check(Way::Mute, Way::Answers(RTT), "ws", late, &both).await;
    check(Way::Fails(RTT), Way::Answers(RTT), "ws", RTT * 2, &[quic, ("ws", RTT)]).await;
    check(Way::Answers(HEAD_START * 3), Way::Fails(RTT), "quic", HEAD_START * 3, &both).await;
}

/// The winner of earlier races goes first, and the other still gets its turn: what changed heals.
#[tokio::test(start_paused = true)]
async fn a_winner_is_remembered_and_still_contested() {
    let stage = Stage::new(Way::Hangs, Way::Answers(RTT));
    stage.link().await.unwrap();
    let began = Instant::now();
    assert_eq!((stage.link().await.unwrap().carrier, began.elapsed()), ("ws", RTT));
    assert_eq!(stage.dialed(began), [("ws", Duration::ZERO)]);

    stage.now(Way::Answers(RTT), Way::Hangs);
    let began = Instant::now();
    assert_eq!((stage.link().await.unwrap().carrier, began.elapsed()), ("quic", HEAD_START + RTT));
    assert_eq!(stage.dialed(began), [("ws", Duration::ZERO), ("quic", HEAD_START)]);

    stage.now(Way::Hangs, Way::Answers(RTT));
    stage.link().await.unwrap();
    stage.now(Way::Answers(RTT), Way::Answers(RTT));
    assert_eq!(stage.link().await.unwrap().carrier, "ws");
    tokio::time::advance(DAY).await;
    assert_eq!(stage.link().await.unwrap().carrier, "quic", "what is remembered is forgotten in the end");
}

/// A carrier that begins well and then carries nothing does not win for ever.
#[tokio::test(start_paused = true)]
async fn a_carrier_whose_links_hardly_stand_loses_its_first_place() {
    let stage = Stage::new(Way::Answers(RTT), Way::Answers(RTT));
    assert_eq!(stage.link().await.unwrap().carrier, "quic");
    stage.ways.ended("quic", LINK_DEAD * 3);
    assert_eq!(stage.link().await.unwrap().carrier, "quic", "it stood long enough");
    stage.ways.ended("quic", LINK_DEAD + KEEPALIVE);
    assert_eq!(stage.link().await.unwrap().carrier, "ws", "quic died soon after it began");
    stage.ways.ended("ws", Duration::ZERO);
    assert_eq!(stage.link().await.unwrap().carrier, "quic");

    stage.now(Way::NeverWelcomes, Way::Answers(RTT));
    let began = Instant::now();
    let error = stage.link().await.unwrap_err().to_string();
    assert!(error.contains("did not answer in time"), "{error}");
    assert_eq!(began.elapsed(), HANDSHAKE + Duration::ZERO);
    assert_eq!(stage.link().await.unwrap().carrier, "ws", "quic did not carry the login");
}

/// What is remembered is a name and may be nonsense.
#[tokio::test(start_paused = true)]
async fn a_memory_of_another_carrier_changes_nothing() {
    let stage = Stage::new(Way::Answers(RTT), Way::Answers(RTT));
    stage.memory.keep("pigeon");
    assert_eq!(stage.link().await.unwrap().carrier, "quic");
}

/// Who loses was never logged in, and its link is closed.
#[tokio::test(start_paused = true)]
async fn losers_leave_no_login_behind() {
    let stage = Stage::new(Way::Mute, Way::Answers(RTT));
    let linked = stage.link().await.unwrap();
    let (mut far, mut near) = (stage.far("quic"), linked.link);
    let mut control = far.accept().await.unwrap();
    let mut said = Vec::new();
    control.read_to_end(&mut said).await.unwrap();
    assert_eq!(said, [0, 0, 0, 4, 0, 0, 0, 2], "more than a Ping came over the loser");
    assert!(far.accept().await.is_err(), "the loser's link is open");
    // The winner's is not.
    far = stage.far("ws");
    let mut stream = near.open(Class::Interactive).await.unwrap();
    send(&mut stream, &ToServer::Ping).await.unwrap();
    far.accept().await.unwrap();
    // A server that was hailed and is left alone is left in order, too.
    drop(stage.ways.hail(ORGANIZATION).await.unwrap());
    near = stage.far("ws");
    assert!(near.accept().await.is_err(), "the link is open");
}

/// Where nothing leads to the server, each carrier says why.
#[tokio::test(start_paused = true)]
async fn who_finds_no_way_names_every_cause() {
    let stage = Stage::new(Way::Fails(RTT), Way::Mute);
    let began = Instant::now();
    let error = stage.link().await.unwrap_err().to_string();
    assert_eq!(began.elapsed(), RTT + HANDSHAKE);
    let quic = error.find("by quic: the road is closed").unwrap_or_else(|| panic!("{error}"));
    let ws = error.find("by ws: the other end of the link did not answer in time").unwrap_or_else(|| panic!("{error}"));
    assert!(quic < ws, "{error}");
    let alone = Ways::from(stage.carrier("quic")).hail(ORGANIZATION).await.unwrap_err().to_string();
    assert_eq!(alone, "the link is gone: the road is closed");
    assert!(Ways::race([]).hail(ORGANIZATION).await.is_err());
}

/// PR-LINK-3: a link that takes nothing more is dead in time, also in the middle of a word.
#[tokio::test(start_paused = true)]
async fn a_link_that_takes_nothing_is_noticed() {
    let began = Instant::now();
    let (near, _far) = tokio::io::duplex(4);
    let clock = Arc::new(SystemClock::new());
    let mut talk = Conversation::<FromServer, ToServer>::new(Box::new(near), ToServer::Ping, clock);
    let error = talk.next().await.unwrap_err().to_string();
    assert!(error.contains("went silent"), "{error}");
    assert_eq!(began.elapsed(), LINK_DEAD);
    assert!(talk.say(&ToServer::Ping).await.is_err(), "a dead link takes words");
}

/// What a carrier does when it is dialed.
#[derive(Debug, Clone, Copy)]
enum Way {
    /// The server's challenge is there after so long, and it welcomes whoever logs in.
    Answers(Duration),
    /// The server's challenge is there at once, and then nothing more comes.
    NeverWelcomes,
    /// It has a link after a round trip, and nothing comes over it.
    Mute,
    /// It never has a link.
    Hangs,
    /// It fails after so long.
    Fails(Duration),
}

struct Fake {
    name: &'static str,
    way: Mutex<Way>,
    /// When it was dialed.
    dialed: Mutex<Vec<Instant>>,
    /// The server's end of its last link.
    far: Mutex<Option<Arc<dyn Link>>>,
}

impl Carrier for Fake {
    fn name(&self) -> &'static str {
        self.name
    }

    fn dial(&self) -> Boxed<'_, Result<Arc<dyn Link>, LinkError>> {
        self.dialed.lock().unwrap().push(Instant::now());
        let way = *self.way.lock().unwrap();
        Box::pin(async move {
            let (near, far) = memory_pair();
            *self.far.lock().unwrap() = Some(Arc::clone(&far));
            match way {
                Way::Answers(after) => drop(tokio::spawn(serve(far, after, true))),
                Way::NeverWelcomes => drop(tokio::spawn(serve(far, Duration::ZERO, false))),
                Way::Mute => tokio::time::sleep(RTT).await,
                Way::Hangs => std::future::pending().await,
                Way::Fails(after) => {
                    tokio::time::sleep(after).await;
                    return Err(LinkError("the road is closed".to_owned()));
                }
            }
            Ok(near)
        })
    }
}

async fn serve(link: Arc<dyn Link>, after: Duration, welcomes: bool) {
    tokio::time::sleep(after).await;
    let Ok(mut control) = link.accept().await else { return };
    let Ok(hello) = greet(&mut control, ORGANIZATION, [1; 32]).await else { return };
    assert!(matches!(hello, ToServer::Client(_)), "{hello:?}");
    if welcomes {
        send(&mut control, &FromServer::Welcome).await.unwrap();
    }
    hold(control).await;
}

async fn hold(control: Box<dyn Stream>) {
    let _held = control;
    std::future::pending::<()>().await;
}

struct Stage {
    carriers: [Arc<Fake>; 2],
    memory: Arc<Recent>,
    ways: Ways,
}

impl Stage {
    fn new(quic: Way, ws: Way) -> Self {
        let fake = |name, way| Fake { name, way: Mutex::new(way), dialed: Mutex::default(), far: Mutex::default() };
        let carriers = [Arc::new(fake("quic", quic)), Arc::new(fake("ws", ws))];
        let memory = Arc::new(Recent::default());
        let ways = Ways::race(carriers.clone().map(|c| c as Arc<dyn Carrier>));
        Self { carriers, ways: ways.remembering(Arc::clone(&memory) as Arc<dyn Memory>), memory }
    }

    async fn link(&self) -> Result<Linked, LinkError> {
        let key = PrivateKey::from_seed(&[3; 32]).unwrap();
        Ok(self.ways.hail(ORGANIZATION).await?.client(LoginId::from_bytes([4; 16]), &key).await?)
    }

    fn now(&self, quic: Way, ws: Way) {
        *self.carriers[0].way.lock().unwrap() = quic;
        *self.carriers[1].way.lock().unwrap() = ws;
    }

    fn carrier(&self, name: &str) -> Arc<Fake> {
        Arc::clone(self.carriers.iter().find(|carrier| carrier.name == name).unwrap())
    }

    fn far(&self, name: &str) -> Arc<dyn Link> {
        self.carrier(name).far.lock().unwrap().clone().expect("it was dialed")
    }

    /// Who was dialed since, and when.
    fn dialed(&self, since: Instant) -> Vec<(&'static str, Duration)> {
        let all = self.carriers.iter().flat_map(|carrier| {
            let dialed = carrier.dialed.lock().unwrap().clone();
            dialed.into_iter().filter(|at| *at >= since).map(|at| (carrier.name, at - since)).collect::<Vec<_>>()
        });
        let mut all: Vec<_> = all.collect();
        all.sort_by_key(|(_, after)| *after);
        all
    }
}
