//! What holds for links: proofs are for one challenge, orders for one agent once, silence has an end.

use std::time::Duration;

use bz_core::time::UnixTime;

use super::*;

const ORG: OrganizationId = OrganizationId::from_bytes([1; 16]);

fn key(seed: u8) -> PrivateKey {
    PrivateKey::from_seed(&[seed; 32]).unwrap()
}

/// PR-LINK-1 (H7): a control login is for one challenge, organization, target and start.
#[test]
fn a_login_is_for_one_challenge() {
    let mut hello = AgentHello {
        versions: LINK_VERSIONS.to_vec(),
        target: TargetId::from_bytes([2; 16]),
        boot: BootId::from_bytes([3; 16]),
        version: "1".to_owned(),
        routes: vec![],
        proof: Signature::from_bytes([0; 64]),
    };
    hello.prove(&[7; 32], ORG, &key(1));
    let (good, other) = (key(1).public(), OrganizationId::from_bytes([9; 16]));
    assert_eq!(hello.check(&[7; 32], ORG, &good), Ok(()));
    assert_eq!(hello.check(&[8; 32], ORG, &good), Err(BadSignature));
    assert_eq!(hello.check(&[7; 32], other, &good), Err(BadSignature));
    assert_eq!(hello.check(&[7; 32], ORG, &key(2).public()), Err(BadSignature));
    hello.boot = BootId::from_bytes([4; 16]);
    assert_eq!(hello.check(&[7; 32], ORG, &good), Err(BadSignature));
    let client = ClientHello::prove(LoginId::from_bytes([5; 16]), &[7; 32], ORG, &key(1));
    assert_eq!(client.check(&[7; 32], ORG, &good), Ok(()));
    assert_eq!(client.check(&[8; 32], ORG, &good), Err(BadSignature));
}

/// PR-LINK-2: an order is obeyed once, by the agent and start it names, under the control certificate.
#[test]
fn an_order_is_obeyed_once_by_the_agent_it_names() {
    let certificate = |purpose| ServerCert {
        key: key(2).public(),
        purpose,
        node: "one".to_owned(),
        not_before: UnixTime::from_secs(0),
        not_after: UnixTime::from_secs(1000),
    };
    let boot = BootId::from_bytes([3; 16]);
    let order = |purpose, agent: u8, boot, counter, signer: u8| {
        let order = Order::Close { connection: ConnectionId::from_bytes([4; 16]) };
        let body = OrderBody { agent_key: key(agent).public(), boot, counter, order };
        SignedOrder {
            certificate: Signed::seal(&certificate(purpose), ORG, &key(1)).unwrap(),
            order: Signed::seal(&body, ORG, &key(signer)).unwrap(),
        }
    };
    let pins = Pins { organization: ORG, roots: &[key(1).public()], now: UnixTime::from_secs(10) };
    let mut ear = Orders::new(key(5).public(), boot);
    let mut check = |signed: &SignedOrder, want: Result<(), OrderError>| {
        assert_eq!(ear.hear(signed, &pins).map(|_| ()), want);
    };
    let control = Purpose::Control;
    check(&order(control, 5, boot, 1, 2), Ok(()));
    check(&order(control, 5, boot, 1, 2), Err(OrderError::Replay));
    check(&order(control, 5, boot, 3, 2), Ok(()));
    check(&order(control, 5, boot, 2, 2), Err(OrderError::Replay));
    check(&order(control, 6, boot, 9, 2), Err(OrderError::OtherAgent));
    check(&order(control, 5, BootId::from_bytes([4; 16]), 9, 2), Err(OrderError::OtherAgent));
    check(&order(control, 5, boot, 9, 6), Err(OrderError::Object(ObjectError::Signature)));
    check(&order(Purpose::Grant, 5, boot, 9, 2), Err(OrderError::Certificate(ServerCertError::Purpose)));
}

/// PR-LINK-3, F-032: a keepalive every twenty seconds, and death after two are missed.
#[test]
fn silence_has_an_end() {
    let at = |s: u64| Mono::at(Duration::from_secs(s));
    let mut link = Keepalive::new(at(0));
    assert!(!link.speaks(at(19)) && link.speaks(at(20)));
    link.spoke(at(20));
    assert_eq!(link.wake(), at(40));
    assert!(!link.is_dead(at(49)) && link.is_dead(at(50)));
    link.heard(at(45));
    assert!(!link.is_dead(at(94)) && link.is_dead(at(95)));
}
