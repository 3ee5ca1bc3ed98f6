//! Plays a scenario on a field, and says what came of it.

use std::collections::BTreeSet;
use std::time::Duration;

use bz_core::access::Mode;
use bz_core::grant::{Purpose, ServerCert};
use bz_core::id::{BootId, ConnectionId};
use bz_core::local::LocalPolicy;
use bz_core::signed::Signed;
use bz_core::time::UnixTime;

use crate::control::{Order, OrderBody, SignedOrder};
use crate::gate::LocalRule;
use crate::hostile::case::{Asking, Case, Forgery, Place};
use crate::hostile::field::Field;
use crate::hostile::found::{Found, came};
use crate::hostile::organization::{Dice, KitError, connection};
use crate::hostile::rogue::RogueClient;
use crate::hostile::scenario::{Came, Keys, Local, OrderLie, Rogue, Scenario, Step, Who};
use crate::hostile::talk::{Attempt, Kept, Own};
use crate::hostile::token::Issuer;
use crate::keys::Direction;

/// What came of a scenario.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Which.
    pub scenario: Scenario,
    /// What carried it.
    pub carrier: &'static str,
    /// The seed.
    pub seed: u64,
    /// Who noticed.
    pub noticed: BTreeSet<Who>,
    /// What sessions and attempts came to.
    pub came: BTreeSet<Came>,
    /// What the person saw last.
    pub saw: String,
    /// The unsafe effect, if there was one.
    pub harm: Option<String>,
    /// What is not as expected, if anything.
    pub unexpected: Option<String>,
}

impl Outcome {
    /// Whether it is safe and as expected.
    #[must_use]
    pub const fn is_good(&self) -> bool {
        self.harm.is_none() && self.unexpected.is_none()
    }

    /// One word.
    #[must_use]
    pub const fn verdict(&self) -> &'static str {
        match (&self.harm, &self.unexpected) {
            (Some(_), _) => "UNSAFE",
            (None, Some(_)) => "UNEXPECTED",
            (None, None) => "safe",
        }
    }
}

/// Plays it.
///
/// # Errors
/// [`KitError`], when the kit itself could not; that is no verdict.
pub async fn play(field: &mut dyn Field, scenario: &Scenario, seed: u64) -> Result<Outcome, KitError> {
    let mode = field.mode();
    let mut player = Player {
        dice: Dice::new(seed ^ 0x706c_6179),
        login: field.now().wall,
        issuer: field.organization().issuer.clone(),
        field,
        mode,
        session: 0,
        open: false,
        connection: 0,
        counter: 0,
        typed: 0,
        found: Found::new(scenario.expect),
    };
    for step in scenario.steps {
        player.step(step).await?;
    }
    let Player { field, mut found, .. } = player;
    found.did_not_happen(&field.relay().undone());
    let harm = field.observer().harm().or_else(|| found.harm.take());
    let unexpected = found.unexpected();
    let (noticed, came, saw) = (found.noticed, found.came, found.saw);
    Ok(Outcome { scenario: *scenario, carrier: field.carrier(), seed, noticed, came, saw, harm, unexpected })
}

struct Player<'a> {
    field: &'a mut dyn Field,
    dice: Dice,
    login: UnixTime,
    issuer: Issuer,
    mode: Mode,
    session: u32,
    open: bool,
    connection: u8,
    counter: u64,
    typed: u32,
    found: Found,
}

impl Player<'_> {
    async fn step(&mut self, step: &Step) -> Result<(), KitError> {
        match step {
            Step::Rules(rules) => self.field.relay().obey(rules),
            Step::Comes(came, who) => self.found.expect(came, who),
            Step::Session => {
                self.open(|_| ()).await?;
                self.lines(3).await?;
                self.close("").await?;
            }
            Step::Open => self.open(|_| ()).await?,
            Step::Lines(count) => self.lines(*count).await?,
            Step::Close => self.close("").await?,
            Step::Own(forgeries) => {
                for forgery in *forgeries {
                    self.own(forgery).await?;
                }
            }
            Step::Given(forgeries) => {
                for forgery in *forgeries {
                    self.open(forgery.change).await?;
                    self.lines(1).await?;
                    self.close(forgery.name).await?;
                }
            }
            Step::ReplayOpening { elsewhere } => {
                let openings = self.field.relay().seen(Direction::ToAgent).into_iter().take(1).collect();
                self.replay(openings, *elsewhere).await?;
            }
            Step::ReplayAll => {
                let all = self.field.relay().seen(Direction::ToAgent);
                self.replay(all, false).await?;
            }
            Step::Newer(forgeries) => {
                for forgery in *forgeries {
                    let mut case = self.case()?;
                    (forgery.change)(&mut case);
                    self.field.reauthenticate(case.certificate()?).await?;
                }
            }
            Step::Order(lie) => self.order(*lie).await?,
            Step::Rogue(rogue) => self.rogue(*rogue).await?,
            Step::Cut => self.field.cut().await?,
            Step::Restart => self.field.restart().await?,
            Step::Pass(time) => self.field.pass(*time).await?,
            Step::Publish(keys) => self.publish(*keys)?,
            Step::Local(local) => self.field.local(rule(*local)),
            Step::Mode(mode) => self.mode = *mode,
        }
        Ok(())
    }

    fn place(&self) -> Place {
        Place {
            boot: self.field.boot(),
            connection: connection(self.connection),
            now: self.field.now().wall,
            login: self.login,
            mode: self.mode,
        }
    }

    /// An honest session's parts, on the present connection.
    fn case(&mut self) -> Result<Case, KitError> {
        let mut case = Case::honest(self.field.organization(), self.place(), &mut self.dice)?;
        // A token of now beside that of the login.
        case.current.set("iat", self.field.now().wall.as_secs());
        case.current.set("exp", self.field.now().wall.as_secs().saturating_add(3600));
        case.both(|token| token.issuer = self.issuer.clone());
        Ok(case)
    }

    async fn open(&mut self, change: impl Fn(&mut Case)) -> Result<(), KitError> {
        self.connection = self.connection.wrapping_add(1);
        self.session = self.session.saturating_add(1);
        self.typed = 0;
        let mut case = self.case()?;
        change(&mut case);
        let opening = case.opening(&mut self.dice)?;
        self.open = true;
        self.field.relay().session_begins();
        self.field.open(self.session, Asking { case, opening }).await
    }

    async fn lines(&mut self, count: u32) -> Result<(), KitError> {
        for _ in 0..count {
            self.typed = self.typed.saturating_add(1);
            self.field.line(format!("session {} line {}", self.session, self.typed)).await?;
        }
        Ok(())
    }

    async fn close(&mut self, what: &str) -> Result<(), KitError> {
        if !std::mem::take(&mut self.open) {
            return Ok(());
        }
        let told = self.field.close().await?;
        match (told.success(), told.early) {
            (true, false) => self.field.observer().success(self.session),
            (true, true) => self.field.observer().closed(self.session),
            (false, _) => {}
        }
        let agent_left = self.field.relay().agent_left();
        let (came, who) = came(&told, agent_left);
        self.found.takes(came, &who, &format!("session {} {what}: {}", self.session, told.words));
        self.found.saw = told.words;
        Ok(())
    }

    async fn own(&mut self, forgery: &Forgery) -> Result<(), KitError> {
        self.connection = self.connection.wrapping_add(1);
        let mut case = self.case()?;
        (forgery.change)(&mut case);
        let opening = case.opening(&mut self.dice)?;
        let now = self.field.now();
        let mut own = Own::new(opening, format!("the server's: {}", forgery.name), now)?;
        let attempt = self.field.talk(case.connection, &mut own).await?;
        if attempt.answered {
            self.found.harm.get_or_insert_with(|| format!("the agent took {}", forgery.name));
        }
        self.attempted(&attempt, forgery.name);
        Ok(())
    }

    /// What came of an attempt or a replay: only what the agent did counts as noticed.
    fn attempted(&mut self, attempt: &Attempt, what: &str) {
        let (came, who): (_, &[Who]) = match (attempt.answered, attempt.noticed()) {
            (true, _) => (Came::Answered, &[]),
            (false, true) => (Came::Refused, &[Who::Agent]),
            (false, false) => (Came::Nothing, &[]),
        };
        let said = attempt.words();
        self.found.takes(came, who, &format!("{what}: the server heard {said}"));
        if self.session == 0 {
            self.found.saw = format!("nothing; the server heard: {said}");
        }
    }

    async fn replay(&mut self, packets: Vec<Vec<u8>>, elsewhere: bool) -> Result<(), KitError> {
        if packets.is_empty() {
            self.found.wrong("did not happen: there is nothing to say again".to_owned());
            return Ok(());
        }
        let on: ConnectionId = connection(if elsewhere { 200 } else { self.connection });
        let before = self.field.observer().actions();
        let attempt = self.field.talk(on, &mut Kept::new(packets)).await?;
        if self.field.observer().actions() > before {
            self.found.harm.get_or_insert_with(|| "a replay made the target act".to_owned());
        }
        self.attempted(&attempt, if elsewhere { "a replay elsewhere" } else { "a replay" });
        Ok(())
    }

    async fn order(&mut self, lie: OrderLie) -> Result<(), KitError> {
        self.counter = self.counter.saturating_add(1);
        let of = self.field.organization();
        let key = match lie {
            OrderLie::Close | OrderLie::OtherStart => &of.control,
            OrderLie::ByGrantKey => &of.grant,
            OrderLie::ByNobody => &of.thief,
        };
        let purpose = if lie == OrderLie::ByGrantKey { Purpose::Grant } else { Purpose::Control };
        let root = if lie == OrderLie::ByNobody { &of.thief } else { &of.root };
        let now = self.field.now().wall;
        let certificate = ServerCert {
            key: key.public(),
            purpose,
            node: "one".to_owned(),
            not_before: of.start,
            not_after: now.after(Duration::from_secs(3600)),
        };
        let boot = if lie == OrderLie::OtherStart { BootId::from_bytes([9; 16]) } else { self.field.boot() };
        let body = OrderBody {
            agent_key: of.agent.public(),
            boot,
            counter: self.counter,
            order: Order::Close { connection: connection(self.connection) },
        };
        let order = SignedOrder {
            certificate: Signed::seal(&certificate, of.id, root)?,
            order: Signed::seal(&body, of.id, key)?,
        };
        self.field.order(order).await
    }

    fn publish(&mut self, keys: Keys) -> Result<(), KitError> {
        let published = match keys {
            Keys::Own => Some(self.issuer.jwks()?),
            Keys::Withheld => None,
            Keys::Rotated => {
                self.issuer = Issuer::new(self.dice.bytes(), "k2")?;
                Some(self.issuer.jwks()?)
            }
        };
        self.field.publish(published);
        Ok(())
    }

    /// Its first line is its person's own; the other one is not.
    async fn rogue(&mut self, rogue: Rogue) -> Result<(), KitError> {
        self.connection = self.connection.wrapping_add(1);
        self.session = self.session.saturating_add(1);
        let line = format!("session {} line 1", self.session);
        self.field.observer().asked(self.session, &line);
        let case = self.case()?;
        let opening = case.opening(&mut self.dice)?;
        let mut client = RogueClient::new(rogue, opening, (line, format!("{rogue:?} was acted on")))?;
        let attempt = self.field.talk(case.connection, &mut client).await?;
        let (came, who): (_, &[Who]) = match (client.did(), attempt.noticed()) {
            (true, true) => (Came::Ended, &[Who::Agent]),
            (true, false) => (Came::Nothing, &[]),
            (false, _) => {
                self.found.wrong(format!("did not happen: {rogue:?}; the client heard {}", attempt.words()));
                (Came::Refused, &[])
            }
        };
        self.found.takes(came, who, &format!("{rogue:?}: the client heard {}", attempt.words()));
        self.found.saw = format!("its client heard: {}", attempt.words());
        Ok(())
    }
}

fn rule(local: Local) -> LocalRule {
    let allow = |more: &str| {
        let text = format!("version = 1\n[[allow]]\nissuer = \"https://idp.example\"\n{more}\n");
        LocalPolicy::parse(&text).map_or_else(|error| LocalRule::RefuseAll(error.to_string()), LocalRule::Policy)
    };
    let verbs = "verbs = [{ type = \"Handler\", name = \"act\" }]";
    match local {
        Local::Allows => allow(&format!("subjects = [\"alice\"]\n{verbs}")),
        Local::AllowsAnother => allow(&format!("subjects = [\"bob\"]\n{verbs}")),
        Local::SealedOnly => allow(&format!("subjects = [\"alice\"]\n{verbs}\nmodes = [\"sealed\"]")),
        Local::Recorded => allow(&format!("subjects = [\"alice\"]\n{verbs}\nrequire_recording = true")),
        Local::SecondFactor => allow(&format!("subjects = [\"alice\"]\n{verbs}\nrequire_mfa = true")),
        Local::Unusable => LocalRule::RefuseAll("no file".to_owned()),
    }
}
