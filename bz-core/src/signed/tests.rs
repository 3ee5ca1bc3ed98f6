//! What holds for `signed`, and each way it must not.

use super::*;

#[derive(Debug, PartialEq, Encode, Decode)]
struct Note {
    text: String,
}

impl Object for Note {
    const LABEL: Label = Label::DirectoryEntry;
    const VERSION: u16 = 1;
    const LIMIT: usize = 256;
}

const ORG: OrganizationId = OrganizationId::from_bytes([1; 16]);

fn key() -> PrivateKey {
    PrivateKey::from_seed(&[1; 32]).unwrap()
}

fn note() -> Note {
    Note { text: "hello".to_owned() }
}

/// A note whose header says something else, rightly signed.
fn odd(label: &str, version: u16, organization: OrganizationId, extensions: &[Extension]) -> Signed<Note> {
    let header = Header { label: label.to_owned(), version, organization };
    let bytes = wire::encode(&(header, note(), extensions), 8192).unwrap();
    let signature = key().sign(Note::LABEL, &bytes);
    Signed { bytes, signature, object: PhantomData }
}

fn check(signed: &Signed<Note>, want: &Result<Note, ObjectError>) {
    assert_eq!(&signed.open(&key().public(), ORG), want);
}

/// PR-OBJ-1, PR-OBJ-2: header and extensions are checked; unknown extensions only when critical.
#[test]
fn an_object_is_what_its_header_says_or_refused() {
    let label = Note::LABEL.as_str();
    let extension = |critical| Extension { id: 9, critical, bytes: vec![1] };
    check(&Signed::seal(&note(), ORG, &key()).unwrap(), &Ok(note()));
    check(&odd(label, 1, ORG, &[extension(false)]), &Ok(note()));
    check(&odd(label, 1, ORG, &[extension(true)]), &Err(ObjectError::CriticalExtension));
    check(
        &odd(label, 1, ORG, &vec![extension(false); 17]),
        &Err(ObjectError::Wire(WireError::TooLarge { limit: 256 })),
    );
    check(&odd(label, 2, ORG, &[]), &Err(ObjectError::Version));
    check(&odd(Label::Grant.as_str(), 1, ORG, &[]), &Err(ObjectError::Label));
    check(&odd(label, 1, OrganizationId::from_bytes([2; 16]), &[]), &Err(ObjectError::Organization));
}

/// PR-SIG-1: every byte is covered.
#[test]
fn any_changed_byte_is_refused() {
    let good = Signed::seal(&note(), ORG, &key()).unwrap();
    for at in 0..good.bytes.len() {
        let mut bad = good.clone();
        bad.bytes[at] ^= 1;
        assert!(bad.open(&key().public(), ORG).is_err(), "byte {at}");
    }
    let other = PrivateKey::from_seed(&[2; 32]).unwrap().public();
    assert_eq!(good.open(&other, ORG), Err(ObjectError::Signature));
    assert_eq!(good.open_by(ORG, |_| None), Err(ObjectError::Signature));
}
