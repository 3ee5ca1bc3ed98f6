//! The command line of an old `scp`, read and never run: one program, known options, one path. Whatever a shell would make
//! something of is not read here at all.

use bz_core::access::request::MAX_PATH;
use bz_protocol::ssh::FileWay;

use crate::helper::transfer::Scp;

/// The command, when it is exactly one of an `scp`'s remote end.
pub(super) fn parse(line: &[u8]) -> Option<Scp> {
    let words = words(line)?;
    let (program, rest) = words.split_first()?;
    if program != b"scp" {
        return None;
    }
    let mut scp =
        Scp { way: FileWay::FromTarget, recursive: false, preserve: false, directory: false, path: Vec::new() };
    let (mut takes, mut gives, mut paths, mut options) = (false, false, Vec::new(), true);
    for word in rest {
        if options && word == b"--" {
            options = false;
        } else if options && word.first() == Some(&b'-') && paths.is_empty() {
            for option in word.get(1..).filter(|letters| !letters.is_empty())? {
                match option {
                    b't' => takes = true,
                    b'f' => gives = true,
                    b'r' => scp.recursive = true,
                    b'p' => scp.preserve = true,
                    b'd' => scp.directory = true,
                    b'v' | b'q' => {}
                    _ => return None,
                }
            }
        } else {
            paths.push(word);
        }
    }
    let [path] = paths.as_slice() else { return None };
    if takes == gives || path.len() > MAX_PATH || (options && path.first() == Some(&b'-')) {
        return None;
    }
    if takes {
        scp.way = FileWay::ToTarget;
    }
    scp.path = from_home(path);
    Some(scp)
}

/// `~` and `~/` are where relative paths are named from.
fn from_home(path: &[u8]) -> Vec<u8> {
    match path.strip_prefix(HOME) {
        Some([]) => b".".to_vec(),
        Some([b'/', rest @ ..]) if !rest.is_empty() => [b"./", rest].concat(),
        Some([b'/']) => b".".to_vec(),
        Some(_) | None if path.is_empty() => b".".to_vec(),
        Some(_) | None => path.to_vec(),
    }
}

/// Stands where an unquoted `~` began a word; no path has a zero byte.
const HOME: &[u8] = b"\0";

/// The words of a line in which nothing is to be expanded, substituted, redirected or chained.
fn words(line: &[u8]) -> Option<Vec<Vec<u8>>> {
    let (mut words, mut word, mut rest) = (Vec::new(), None::<Vec<u8>>, line.iter().copied());
    while let Some(byte) = rest.next() {
        match byte {
            b' ' => words.extend(word.take()),
            b'\'' => quoted(&mut rest, word.get_or_insert_default())?,
            b'"' => double_quoted(&mut rest, word.get_or_insert_default())?,
            b'\\' => word.get_or_insert_default().push(rest.next().filter(|byte| is_plain(*byte) && *byte != b'\n')?),
            b'~' if word.is_none() => {
                let mut ahead = rest.clone();
                if !matches!(ahead.next(), None | Some(b' ' | b'/')) {
                    return None;
                }
                word = Some(HOME.to_vec());
            }
            b'a'..=b'z'
            | b'A'..=b'Z'
            | b'0'..=b'9'
            | b'/'
            | b'.'
            | b'_'
            | b'-'
            | b'+'
            | b','
            | b':'
            | b'@'
            | b'%'
            | b'='
            | b'^'
            | 0x80.. => word.get_or_insert_default().push(byte),
            _ => return None,
        }
    }
    words.extend(word);
    Some(words)
}

fn quoted(rest: &mut impl Iterator<Item = u8>, word: &mut Vec<u8>) -> Option<()> {
    loop {
        match rest.next().filter(|byte| is_plain(*byte))? {
            b'\'' => return Some(()),
            byte => word.push(byte),
        }
    }
}

fn double_quoted(rest: &mut impl Iterator<Item = u8>, word: &mut Vec<u8>) -> Option<()> {
    loop {
        match rest.next().filter(|byte| is_plain(*byte))? {
            b'"' => return Some(()),
            b'$' | b'`' | b'!' => return None,
            b'\\' => match rest.next()? {
                byte @ (b'"' | b'\\' | b'$' | b'`') => word.push(byte),
                _ => return None,
            },
            byte => word.push(byte),
        }
    }
}

const fn is_plain(byte: u8) -> bool {
    byte != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, want: Option<(&str, &str)>) {
        let got = parse(line.as_bytes()).map(|scp| {
            let mut options = if scp.way == FileWay::ToTarget { "t" } else { "f" }.to_owned();
            for (is, letter) in [(scp.recursive, 'r'), (scp.preserve, 'p'), (scp.directory, 'd')] {
                options.extend(is.then_some(letter));
            }
            (options, String::from_utf8(scp.path).unwrap())
        });
        assert_eq!(got, want.map(|(options, path)| (options.to_owned(), path.to_owned())), "{line}");
    }

    #[test]
    fn a_remote_end_is_read() {
        check("scp -t x", Some(("t", "x")));
        check("scp -f x", Some(("f", "x")));
        check("scp -v -r -p -d -t -- /tmp/x", Some(("trpd", "/tmp/x")));
        check("scp -prt .", Some(("trp", ".")));
        check("scp -t 'with space'", Some(("t", "with space")));
        check("scp -t \"with space\"/x", Some(("t", "with space/x")));
        check("scp -t 'two\nlines; id'", Some(("t", "two\nlines; id")));
        check("scp -t it\\'s", Some(("t", "it's")));
        check("scp -t -- -x", Some(("t", "-x")));
        check("scp -t ~", Some(("t", ".")));
        check("scp -t ~/x", Some(("t", "./x")));
        check("scp -t '~'", Some(("t", "~")));
        check("scp -f ''", Some(("f", ".")));
        check("scp -t a~b=c", None);
    }

    /// PR-SSHD-6
    #[test]
    fn nothing_else_is() {
        for line in [
            "",
            "scp",
            "scp -t",
            "scp x",
            "scp -t -f x",
            "scp -t x y",
            "scp -t x; id",
            "scp -t x;id",
            "scp -t x && id",
            "scp -t x | id",
            "scp -t x & id",
            "scp -t x\nid",
            "scp -t `id`",
            "scp -t $(id)",
            "scp -t $HOME",
            "scp -t \"$(id)\"",
            "scp -t \"`id`\"",
            "scp -t x > /etc/passwd",
            "scp -t < x",
            "scp -t *",
            "scp -t x?",
            "scp -t [x]",
            "scp -t {a,b}",
            "scp -t (id)",
            "scp -t #x",
            "scp -t !x",
            "scp -t ~root/x",
            "scp -t 'x",
            "scp -t \"x",
            "scp -t x\\",
            "scp -t x\\\nid",
            "scp -S/bin/sh -t x",
            "scp -oProxyCommand=id -t x",
            "scp -t -oProxyCommand=id x",
            "scp -t x -S id",
            "scp -t - x",
            "scp -t -",
            "scp\t-t x",
            "/bin/scp -t x",
            "./scp -t x",
            "'scp -t' x",
            "scp -t x\0",
            "scp -t 'x\0'",
            "A=b scp -t x",
            "sh -c 'scp -t x'",
            "scpx -t x",
            " ; scp -t x",
        ] {
            check(line, None);
        }
    }
}
