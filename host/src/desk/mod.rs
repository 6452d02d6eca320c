//! The HTTP address of `tribox dev`: test messages from whatever can say POST. On loopback, and not
//! for web pages: a browser would let any page that is open send messages here.
//!
//! It must never be a part of `serve`: who reaches it can send what he likes.

use std::net::{IpAddr, SocketAddr};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, RawQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use tokio::net::TcpListener;

use crate::model::subject;
use crate::stream::{Nats, put};

/// Bytes of a request: more than any NATS server takes.
const LARGEST: usize = 64 << 20;

const USAGE: &str = "POST /publish/SUBJECT?id=ID&header=NAME:VALUE publishes the body as a \
                     message; id can be left out, and there can be any number of header\n";

/// Why a message was not published.
#[derive(Debug, PartialEq, Eq)]
struct Refused(StatusCode, String);

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        json(self.0, &serde_json::json!({ "error": self.1 }))
    }
}

fn json(status: StatusCode, value: &serde_json::Value) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], format!("{value}\n")).into_response()
}

/// Publishes what is posted here to the streams of `nats`, as long as it is awaited.
///
/// # Errors
/// The address can be used no more.
pub async fn serve(listener: TcpListener, nats: Nats) -> std::io::Result<()> {
    let router = Router::new()
        .route("/", get(|| async { USAGE }))
        .route("/publish/{subject}", post(publish))
        .layer(DefaultBodyLimit::max(LARGEST))
        .with_state(nats);
    axum::serve(listener, router).await
}

async fn publish(
    State(nats): State<Nats>,
    Path(subject): Path<String>,
    RawQuery(query): RawQuery,
    http: HeaderMap,
    payload: Bytes,
) -> Result<Response, Refused> {
    check_sender(&http)?;
    let bad = |why| Refused(StatusCode::BAD_REQUEST, why);
    subject::check_subject(&subject).map_err(|why| bad(format!("subject: {why}")))?;
    let headers = headers(query.as_deref().unwrap_or_default()).map_err(bad)?;
    let stored = put(&nats, &subject, &headers, payload).await.map_err(|why| {
        let status = if why.fatal { StatusCode::NOT_FOUND } else { StatusCode::BAD_GATEWAY };
        Refused(status, why.to_string())
    })?;
    let stored = serde_json::json!({
        "stream": stored.stream, "sequence": stored.sequence, "duplicate": stored.duplicate,
    });
    Ok(json(StatusCode::OK, &stored))
}

/// Pages in a browser are told by the origin that it names, and by the host they were loaded from.
fn check_sender(http: &HeaderMap) -> Result<(), Refused> {
    let host = http.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let address = host.parse().map(|address: SocketAddr| address.ip());
    let loopback = address.or_else(|_| host.parse()).is_ok_and(|ip: IpAddr| ip.is_loopback());
    let here = loopback || host.split(':').next() == Some("localhost");
    if http.contains_key(header::ORIGIN) || !here {
        let why = "web pages may not publish here; take a program, such as curl";
        return Err(Refused(StatusCode::FORBIDDEN, why.to_owned()));
    }
    Ok(())
}

/// The message's header lines, from the query: HTTP's own headers do not keep their capitals.
fn headers(query: &str) -> Result<Vec<(String, String)>, String> {
    let mut headers = Vec::new();
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        match (name.as_ref(), value.split_once(':')) {
            ("id", _) => headers.push(("Nats-Msg-Id".to_owned(), value.into_owned())),
            ("header", Some((name, value))) => {
                headers.push((name.trim().to_owned(), value.trim().to_owned()));
            }
            ("header", None) => return Err(format!("header={value} has no colon: NAME:VALUE")),
            (other, _) => return Err(format!("what is {other}? There are id and header")),
        }
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_lines_come_from_the_query() {
        let line = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(headers(""), Ok(Vec::new()));
        assert_eq!(
            headers("id=m%2F1&header=Trace-Id:+a%3Ab&header=B:"),
            Ok(vec![line("Nats-Msg-Id", "m/1"), line("Trace-Id", "a:b"), line("B", "")])
        );
        assert!(headers("header=A").unwrap_err().contains("no colon"));
        assert!(headers("Id=1").unwrap_err().contains("what is Id?"));
    }

    #[test]
    fn web_pages_are_refused() {
        let sender = |lines: &[(header::HeaderName, &'static str)]| {
            let line = |(name, value): &(header::HeaderName, &'static str)| {
                (name.clone(), header::HeaderValue::from_static(value))
            };
            check_sender(&lines.iter().map(line).collect()).is_ok()
        };
        for host in ["127.0.0.1:9465", "127.0.0.1", "localhost:1", "localhost", "[::1]:2"] {
            assert!(sender(&[(header::HOST, host)]), "{host}");
        }
        for host in ["shop.example:9465", "127.0.0.1.example", "localhost.example", ""] {
            assert!(!sender(&[(header::HOST, host)]), "{host}");
        }
        let page = (header::ORIGIN, "http://127.0.0.1:9465");
        assert!(!sender(&[(header::HOST, "127.0.0.1:9465"), page]));
        assert!(!sender(&[]));
    }
}
