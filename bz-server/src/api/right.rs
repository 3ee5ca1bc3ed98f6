//! A caller whose answer goes on for long: asked for their right again and again.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bz_core::time::Mono;

use crate::api::Call;
use crate::app::App;
use crate::auth::key::{KeyCall, KeyStanding};
use crate::auth::{self, Caller, LoggedIn};
use crate::policy::OperationQuestion;

/// How long a right that was asked for is taken to hold.
const ASK_AGAIN: Duration = Duration::from_secs(2);

/// Who reads, and what they asked for.
pub(super) struct Right {
    app: Arc<App>,
    caller: Caller,
    from: IpAddr,
    operation: &'static str,
    asked: Option<Mono>,
}

impl Right {
    pub(super) fn of(call: &Call) -> Self {
        Self {
            app: Arc::clone(&call.app),
            caller: call.caller.clone(),
            from: call.from,
            operation: call.operation.name,
            asked: None,
        }
    }

    /// Whether the caller may still do this: a role or login may have ended since.
    pub(super) async fn holds(&mut self) -> bool {
        let now = self.app.now().mono;
        if self.asked.is_some_and(|asked| now.since(asked) < ASK_AGAIN) {
            return true;
        }
        self.asked = Some(now);
        let Some(caller) = self.caller_now().await else { return false };
        let asker = caller.asker();
        self.app.engine.may_call(&OperationQuestion { caller: &asker, operation: self.operation, owner: None })
    }

    async fn caller_now(&self) -> Option<Caller> {
        match &self.caller {
            Caller::Person(person) => {
                let (login, user) = self.app.store.login(person.login.id).await.ok()??;
                if login.ended || self.app.now().wall >= login.expires {
                    return None;
                }
                let standing = auth::standing(&self.app, &login).await.ok()?;
                Some(Caller::Person(Box::new(LoggedIn { login, user, standing })))
            }
            Caller::Key(call) => {
                let key = self.app.store.api_key(call.key.id).await.ok()??;
                let standing = KeyStanding::of(&key, self.from, self.app.now().wall);
                Some(Caller::Key(Box::new(KeyCall { key, standing })))
            }
            Caller::Anonymous | Caller::Hook(_) => None,
        }
    }
}
