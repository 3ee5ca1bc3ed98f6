//! What is asked of a login, and what becomes of a code, without a store.

use bz_core::totp::STEP_SECONDS;

use super::*;

const ALICE: UserId = UserId::from_bytes([1; 16]);
const LOGIN: LoginId = LoginId::from_bytes([2; 16]);
const GRACE: Duration = Duration::from_secs(3600);

fn at(seconds: u64) -> UnixTime {
    UnixTime::from_secs(1_800_000_000 + seconds)
}

fn vault() -> Vault {
    Vault::new(&[3; 32]).unwrap()
}

fn secret() -> TotpSecret {
    TotpSecret::from_bytes([4; 20])
}

fn enrolled() -> Enrolment {
    let sealed = vault().seal(ALICE, &secret(), [5; 12]).unwrap();
    Enrolment { secret: Some(sealed), ..Enrolment::default() }
}

/// F-047: what is asked, by what the organization wants, what the person has, and when the login passed.
#[test]
fn what_is_asked_of_a_login() {
    use MfaActionRequired::{None as Nothing, Reset, ResetDeferAllowed, Totp};
    let factor = |org: bool, own: Option<bool>, has: bool, grace_ends: Option<u64>| Factor {
        controls: Controls { enabled: org, lasts: Some(Duration::from_secs(100)) },
        enrolment: Enrolment {
            enabled: own,
            grace_ends: grace_ends.map(at),
            ..if has { enrolled() } else { Enrolment::default() }
        },
    };
    let check = |factor: Factor, passed: Option<u64>, want| {
        let passed = passed.map(|then| Mfa { method: TOTP.to_owned(), at: at(then) });
        assert_eq!(factor.standing(passed.as_ref(), at(1000), GRACE).action, want, "{factor:?} {passed:?}");
    };
    check(factor(false, None, false, None), None, Nothing);
    check(factor(true, None, false, None), None, ResetDeferAllowed);
    check(factor(true, None, false, Some(1001)), None, ResetDeferAllowed);
    check(factor(true, None, false, Some(1000)), None, Reset);
    // One that was passed with a secret that is gone is not the one that is asked for.
    check(factor(true, None, false, Some(0)), Some(999), Reset);
    check(factor(true, Some(false), false, None), None, Nothing);
    check(factor(true, Some(false), true, None), None, Nothing);
    check(factor(false, Some(true), false, Some(0)), None, Reset);
    check(factor(true, None, true, None), None, Totp);
    check(factor(false, Some(true), true, None), None, Totp);
    check(factor(true, None, true, None), Some(901), Nothing);
    check(factor(true, None, true, None), Some(900), Totp);
    assert_eq!(
        factor(true, None, false, None).standing(None, at(1000), Duration::ZERO).action,
        Reset,
        "settings without grace"
    );
}

/// F-048: wrong codes lock for a while, whatever is given meanwhile, and one more locks again.
#[test]
fn wrong_codes_lock() {
    let mut enrolment = enrolled();
    let mut give = |token: &str, now| {
        let (after, outcome) =
            attempt(&vault(), &enrolment, &Attempt { user: ALICE, login: LOGIN, token, fresh: &[], now }).unwrap();
        enrolment = after;
        outcome
    };
    let good = |now: UnixTime| secret().code(bz_core::totp::step(now));
    for _ in 0..TRIES {
        assert_eq!(give("000000", at(0)), Outcome::Wrong);
    }
    let until = at(0).after(LOCK);
    assert_eq!(give(&good(at(1)), at(1)), Outcome::Locked(until));
    assert_eq!(give("000000", until), Outcome::Wrong);
    let again = until.after(LOCK);
    assert_eq!(give(&good(until), until), Outcome::Locked(again));
    assert_eq!(give(&good(again), again), Outcome::Passed(TOTP));
    assert_eq!(give(&good(again), again), Outcome::Used, "a code was taken twice");
    let next = again.after(Duration::from_secs(STEP_SECONDS));
    assert_eq!(give(&good(next), next), Outcome::Passed(TOTP));
    assert_eq!((enrolment.failures, enrolment.locked_until), (0, None));
}

/// F-048: a proposed secret counts for the login it was shown to, and from its first code on in place of the old one.
#[test]
fn a_code_confirms_a_proposed_secret() {
    let proposed = TotpSecret::from_bytes([9; 20]);
    let mut before = enrolled();
    before.proposed = Some((vault().seal(ALICE, &proposed, [6; 12]).unwrap(), LOGIN));
    let (codes, fresh) = recovery_codes(ALICE, &std::array::from_fn(|at| u8::try_from(at).unwrap()));
    let give = |before: &Enrolment, login, token: &str| {
        attempt(&vault(), before, &Attempt { user: ALICE, login, token, fresh: &fresh, now: at(0) }).unwrap()
    };
    let step = bz_core::totp::step(at(0));
    let (new, old) = (proposed.code(step), secret().code(step));
    assert_eq!(give(&before, LoginId::from_bytes([8; 16]), &new).1, Outcome::Wrong);
    assert_eq!(give(&before, LOGIN, &old).1, Outcome::Passed(TOTP));
    let (after, outcome) = give(&before, LOGIN, &new);
    assert_eq!((outcome, after.recovery.len()), (Outcome::Confirmed, RECOVERY_CODES));
    assert_eq!(give(&after, LOGIN, &old).1, Outcome::Wrong);
    let typed = codes[0].to_uppercase().replace('-', " ");
    let (used, outcome) = give(&after, LOGIN, &typed);
    assert_eq!((outcome, used.recovery.len()), (Outcome::Passed(RECOVERY), RECOVERY_CODES - 1));
    assert_eq!(give(&used, LOGIN, &typed).1, Outcome::Wrong, "a recovery code was taken twice");
    assert_eq!(give(&Enrolment::default(), LOGIN, &new).1, Outcome::NotEnrolled);
}

/// A secret at rest is its owner's and its key's.
#[test]
fn a_sealed_secret_opens_for_its_owner_alone() {
    let sealed = vault().seal(ALICE, &secret(), [5; 12]).unwrap();
    assert_eq!(vault().open(ALICE, &sealed), Ok(secret()));
    assert_eq!(vault().open(UserId::from_bytes([2; 16]), &sealed), Err(VaultError));
    assert_eq!(Vault::new(&[4; 32]).unwrap().open(ALICE, &sealed), Err(VaultError));
    assert!(!sealed.as_str().contains(&hex::encode([4; 20])), "the secret is not encrypted");
}
