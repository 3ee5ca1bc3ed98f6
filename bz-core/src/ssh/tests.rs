//! Encodings are what OpenSSH reads; that it does is shown with the real programs, end to end.

use super::*;

fn key(seed: u8) -> SshKey {
    SshKey::from_seed(&[seed; 32]).unwrap()
}

fn ed25519() -> Vec<u8> {
    Writer::default().text("ssh-ed25519").string(&[7; 32]).finish()
}

#[test]
fn a_persons_key_is_one_of_two_kinds_and_exact() {
    let check = |blob: &[u8], good: bool| {
        assert_eq!(
            SshPublicKey::from_blob(blob).map(|key| key.blob() == blob),
            if good { Ok(true) } else { Err(Malformed) }
        );
    };
    let ecdsa = key(1).public();
    check(ecdsa.blob(), true);
    check(&ed25519(), true);
    for blob in [ecdsa.blob(), &ed25519()] {
        assert!(blob.len() <= MAX_KEY);
        check(&blob[..blob.len() - 1], false);
        check(&[blob, &[0]].concat(), false);
    }
    let mut off_the_curve = ecdsa.blob().to_owned();
    *off_the_curve.last_mut().unwrap() ^= 1;
    check(&off_the_curve, false);
    check(&Writer::default().text("ssh-ed25519").string(&[7; 31]).finish(), false);
    check(&Writer::default().text("ssh-rsa").string(&[1, 0, 1]).string(&[7; 256]).finish(), false);
    check(&Writer::default().text("ecdsa-sha2-nistp256").text("nistp384").string(&[4; 65]).finish(), false);
    check(&[], false);
    check(&[0xff; 16], false);
}

#[test]
fn a_hosts_key_is_read_from_its_line_and_its_bytes() {
    let line = key(1).public().to_line();
    let host = HostKey::from_line(&format!("{line} root@web\n")).unwrap();
    assert_eq!(host.to_line(), line);
    assert_eq!(HostKey::from_blob(host.blob()), Ok(host));
    let steers = Writer::default().text("ssh-x\nevil").finish();
    assert_eq!(HostKey::from_blob(&steers), Err(Malformed));
    let long = Writer::default().text("ssh-rsa").string(&[7; MAX_HOST_KEY]).finish();
    assert_eq!(HostKey::from_blob(&long), Err(Malformed));
    for bad in ["", "ssh-ed25519", "ssh-ed25519 !", &line.replacen("ecdsa", "ed", 1)] {
        assert_eq!(HostKey::from_line(bad), Err(Malformed), "{bad}");
    }
}

#[test]
fn numbers_are_as_short_as_they_can_be_and_never_negative() {
    let check = |bytes: &[u8], want: &[u8]| assert_eq!(Writer::default().number(bytes).finish(), want, "{bytes:?}");
    check(&[0, 0], &[0, 0, 0, 0]);
    check(&[0, 0x7f], &[0, 0, 0, 1, 0x7f]);
    check(&[0, 0x80, 0], &[0, 0, 0, 3, 0, 0x80, 0]);
}

#[test]
fn a_certificate_says_what_it_was_made_of() {
    let (authority, person) = (key(1), "alice".parse().unwrap());
    for public in [key(2).public(), SshPublicKey::from_blob(&ed25519()).unwrap()] {
        let at = UnixTime::from_secs(1000);
        let certificate = UserCertificate {
            key: &public,
            principal: &person,
            id: "session",
            serial: 7,
            after: at,
            before: at.after(std::time::Duration::from_secs(60)),
            sources: "127.0.0.1/32",
        };
        let bytes = certificate.sign(&[9; 32], &authority);
        assert!(bytes.len() <= MAX_CERTIFICATE);
        let mut reader = Reader::new(&bytes);
        assert!(reader.string().unwrap().ends_with(b"-cert-v01@openssh.com"));
        assert_eq!(reader.string(), Ok(&[9; 32][..]));
        let rest = reader.rest().strip_prefix(public.fields()).unwrap();
        let mut reader = Reader::new(rest);
        assert_eq!((reader.u32(), reader.u32(), reader.u32()), (Ok(0), Ok(7), Ok(USER)));
        assert_eq!(reader.string(), Ok(&b"session"[..]));
        assert_eq!(reader.string(), Ok(&b"\0\0\0\x05alice"[..]));
        assert_eq!((reader.u32(), reader.u32(), reader.u32(), reader.u32()), (Ok(0), Ok(1000), Ok(0), Ok(1060)));
        let critical =
            Writer::default().text("source-address").string(&Writer::default().text("127.0.0.1/32").finish());
        assert_eq!(reader.string(), Ok(&critical.finish()[..]));
        assert!(reader.string().unwrap().ends_with(b"\0\0\0\x0epermit-user-rc\0\0\0\0"));
        assert_eq!(reader.string(), Ok(&b""[..]));
        assert_eq!(reader.string(), Ok(authority.public().blob()));
        reader.string().unwrap();
        assert_eq!(reader.end(), Ok(()));
    }
}
