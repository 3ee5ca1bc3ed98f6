//! What holds for `key`, and each way it must not.

use super::*;

fn key(seed: u8) -> PrivateKey {
    PrivateKey::from_seed(&[seed; 32]).unwrap()
}

/// PR-SIG-1: a signature holds for one label and one message.
#[test]
fn a_signature_holds_for_its_label_and_bytes_only() {
    let signature = key(1).sign(Label::Grant, b"bytes");
    let public = key(1).public();
    assert_eq!(public.verify(Label::Grant, b"bytes", &signature), Ok(()));
    assert_eq!(public.verify(Label::Syn, b"bytes", &signature), Err(BadSignature));
    assert_eq!(public.verify(Label::Grant, b"byteS", &signature), Err(BadSignature));
    assert_eq!(key(2).public().verify(Label::Grant, b"bytes", &signature), Err(BadSignature));
}

/// PR-SIG-2: the high-s twin of a signature is refused.
#[test]
fn the_high_s_twin_is_refused() {
    let signature = key(1).sign(Label::Grant, b"bytes");
    let parsed = p256::ecdsa::Signature::from_slice(signature.as_bytes()).unwrap();
    let (r, s) = parsed.split_scalars();
    let twin = p256::ecdsa::Signature::from_scalars(r, -*s).unwrap();
    assert!(key(1).0.verifying_key().verify(&labelled(Label::Grant, b"bytes"), &twin).is_ok());
    let twin = Signature::from_bytes(twin.to_bytes().into());
    assert_eq!(key(1).public().verify(Label::Grant, b"bytes", &twin), Err(BadSignature));
}

/// PR-KEY-1: only uncompressed points on the curve are keys.
#[test]
fn other_encodings_of_a_point_are_refused() {
    let good = key(1).public().to_bytes();
    assert_eq!(PublicKey::from_bytes(&good), Ok(key(1).public()));
    let compressed = key(1).0.verifying_key().to_sec1_point(true);
    let mut hybrid = good;
    hybrid[0] = 6 | (good[64] & 1);
    let mut off_curve = good;
    off_curve[64] ^= 1;
    for bad in [compressed.as_bytes(), &hybrid, &off_curve, &good[..64], &[0], &[]] {
        assert_eq!(PublicKey::from_bytes(bad), Err(KeyError::PublicKey), "{}", hex::encode(bad));
    }
}

#[test]
fn both_ends_agree_on_the_secret() {
    let a = EphemeralKey::from_seed(&[1; 32]).unwrap();
    let b = EphemeralKey::from_seed(&[2; 32]).unwrap();
    let (pa, pb) = (a.public(), b.public());
    assert_eq!(a.agree(&pb), b.agree(&pa));
}

#[test]
fn keys_are_not_shown() {
    assert_eq!(format!("{:?}", key(1)), "PrivateKey(…)");
}
