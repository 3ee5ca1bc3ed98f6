//! What holds for kept keys: fresh ones are not fetched, stale ones bridge an outage, very old ones do not.

use std::sync::Mutex as Lock;

use bz_core::time::{Now, UnixTime};

use super::*;

struct Fake {
    now: Lock<u64>,
    fetches: Lock<usize>,
    up: Lock<bool>,
}

impl Clock for Fake {
    fn now(&self) -> Now {
        let secs = *self.now.lock().unwrap();
        Now { mono: Mono::at(Duration::from_secs(secs)), wall: UnixTime::from_secs(secs) }
    }
}

impl JwksSource for Fake {
    fn fetch<'a>(&'a self, _: &'a str) -> Boxed<'a, Result<Jwks, FetchError>> {
        *self.fetches.lock().unwrap() += 1;
        let up = *self.up.lock().unwrap();
        Box::pin(async move { if up { Ok(Jwks::default()) } else { Err(FetchError::NotPinned) } })
    }
}

/// TRUST-9 (I1, I6): at most one refetch in an interval, an outage bridged within a bound, a cold cache closed.
#[tokio::test]
async fn keys_are_kept_for_a_while_and_no_longer() {
    let fake = Arc::new(Fake { now: Lock::new(0), fetches: Lock::new(0), up: Lock::new(true) });
    let cache = Cache::new(Arc::clone(&fake) as Arc<dyn JwksSource>, Arc::clone(&fake) as Arc<dyn Clock>);
    let check = async |now: u64, up: bool, anew: bool, has: bool, fetches: usize| {
        (*fake.now.lock().unwrap(), *fake.up.lock().unwrap()) = (now, up);
        let got = if anew { cache.get_anew("i").await } else { cache.get("i").await };
        assert_eq!((got.is_some(), *fake.fetches.lock().unwrap()), (has, fetches), "at {now}");
    };
    check(0, false, false, false, 1).await;
    check(1, true, false, true, 2).await;
    check(300, true, false, true, 2).await;
    check(300, true, true, true, 3).await;
    check(309, true, true, true, 3).await;
    check(310, true, true, true, 4).await;
    check(700, false, false, true, 5).await;
    check(310 + 3899, false, false, true, 6).await;
    check(310 + 3900, false, false, false, 7).await;
}
