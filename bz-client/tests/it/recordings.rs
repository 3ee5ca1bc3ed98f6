//! Recordings on their way from a server whose answers break off.

use bz_client::RestError;
use bz_client::client::Watched;

use crate::stand::Stand;
use crate::stand::server::{CONNECTION, Piece};

const TEXT: &str = "0123456789";

fn piece(status: u16, tag: &str, from: usize, to: usize) -> Piece {
    let mut headers = vec![("etag", tag.to_owned())];
    if status == 206 {
        headers.push(("content-range", format!("bytes {from}-{}/10", TEXT.len() - 1)));
    }
    let bytes = TEXT.as_bytes()[from..to].to_vec();
    let asked = vec![
        ("range", (from > 0).then(|| format!("bytes={from}-"))),
        ("if-range", (from > 0 && !tag.starts_with("W/")).then(|| tag.to_owned())),
    ];
    Piece { status, headers, bytes, breaks: to < TEXT.len(), asked }
}

/// F-110~: a download that breaks off is taken up where it was, as long as it is of the same.
#[tokio::test]
async fn a_download_is_taken_up_where_it_broke_off() {
    for tag in ["\"strong\"", "W/\"weak\""] {
        let stand = Stand::new().await;
        let client = stand.client().await;
        let call = format!("GET session-recordings/{CONNECTION}");
        let load = async |pieces: Vec<Piece>| {
            stand.rest.pieces(&call, pieces);
            let mut download = client.recording(CONNECTION).await?;
            let mut text = String::new();
            while let Some(bytes) = download.next().await? {
                text += std::str::from_utf8(&bytes).unwrap();
            }
            Ok::<_, RestError>(text)
        };
        let whole = load(vec![piece(200, tag, 0, 4), piece(206, tag, 4, 7), piece(206, tag, 7, 10)]).await;
        assert_eq!(whole.as_deref(), Ok(TEXT), "{tag}");

        let other = Piece { headers: vec![("etag", "\"other\"".to_owned())], ..piece(206, tag, 4, 10) };
        assert_eq!(load(vec![piece(200, tag, 0, 4), other]).await, Err(RestError::Changed), "{tag}");
        // The server took no part, and began anew.
        let anew = Piece { asked: vec![], ..piece(200, tag, 0, 10) };
        assert_eq!(load(vec![piece(200, tag, 0, 4), anew]).await, Err(RestError::Changed), "{tag}");
        let elsewhere = Piece { headers: piece(206, tag, 5, 10).headers, ..piece(206, tag, 4, 10) };
        assert_eq!(load(vec![piece(200, tag, 0, 4), elsewhere]).await, Err(RestError::Changed), "{tag}");
    }
}

/// F-109~: who watches comes back where the stream broke off, and sees nothing twice.
#[tokio::test]
async fn a_recording_that_is_watched_is_taken_up() {
    let stand = Stand::new().await;
    let client = stand.client().await;
    let path = format!("GET session-recordings/{CONNECTION}/stream");
    let piece = |text: &str| Piece {
        status: 200,
        headers: vec![("content-type", "text/event-stream".to_owned())],
        bytes: text.as_bytes().to_vec(),
        breaks: true,
        asked: vec![],
    };
    let header = "event: header\ndata: {\"version\": 2}\n\n";
    stand.rest.pieces(
        &path,
        [
            piece(&format!("retry: 2000\n\n{header}id: 1.2.0\nevent: line\ndata: [1, \"o\", \"a\"]\n\nid: 1.3.0\neve")),
            piece(":\n\n"),
            piece(&format!(
                "{header}id: 1.3.0\nevent: line\ndata: [2, \"o\", \"b\"]\n\nevent: deleted\ndata: {{}}\n\n"
            )),
            piece("event: end\ndata: {}\n\n"),
        ],
    );
    let mut watching = client.watch_recording(CONNECTION).await.unwrap();
    let mut seen = Vec::new();
    while let Some(watched) = watching.next().await.unwrap() {
        seen.push(watched);
    }
    let line = |text: &str| Watched::Line(text.to_owned());
    let head = Watched::Header("{\"version\": 2}".to_owned());
    assert_eq!(seen, [head, line("[1, \"o\", \"a\"]"), line("[2, \"o\", \"b\"]"), Watched::Deleted]);
    assert_eq!(watching.next().await, Ok(None));
    let asked: Vec<_> =
        stand.rest.calls().into_iter().filter_map(|call| call.split_once('?').map(|(_, q)| q.to_owned())).collect();
    assert_eq!(asked, ["after=1.2.0", "after=1.2.0", "after=1.3.0"]);
}
