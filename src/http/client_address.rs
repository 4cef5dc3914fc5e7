//! Where a request comes from: the socket's address, unless a proxy of ours says whom it speaks for.
//!
//! Only `X-Forwarded-For` is read; `Forwarded` (RFC 7239) is ignored, so that a proxy which sets one of them cannot be
//! talked around by the other. What a peer says that is no proxy of ours is never believed.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};

use axum::extract::FromRequestParts;
use axum::http::HeaderMap;
use axum::http::request::Parts;

use super::frame::Visit;
use crate::config::Networks;

const FORWARDED_FOR: &str = "x-forwarded-for";

/// Where the request comes from; `None` for one made in this process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClientAddress(pub Option<IpAddr>);

impl<S: Sync + Send> FromRequestParts<S> for ClientAddress {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Infallible> {
        Ok(Self(Visit::of(&parts.extensions).and_then(|visit| visit.client)))
    }
}

/// The peer; where that is a trusted proxy, the rightmost address of `X-Forwarded-For` that is none. What cannot be read
/// ends the search at the last proxy before it.
pub fn client_address(peer: IpAddr, headers: &HeaderMap, trusted: &Networks) -> IpAddr {
    let mut client = peer.to_canonical();
    let values = headers.get_all(FORWARDED_FOR).into_iter().rev();
    let mut hops = values.flat_map(|value| value.as_bytes().rsplit(|byte| *byte == b','));
    while trusted.contains(client) {
        match hops.next().and_then(read_hop) {
            Some(address) => client = address,
            None => break,
        }
    }
    client
}

/// An address as proxies write it: bare, with a port, or an IPv6 one in brackets.
fn read_hop(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?.trim();
    let address = text.parse().ok().or_else(|| text.parse().ok().map(|with_port: SocketAddr| with_port.ip()));
    let address = address.or_else(|| text.strip_prefix('[')?.strip_suffix(']')?.parse().ok());
    address.map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn asked(peer: &str, forwarded: &[&[u8]], trusted: &str) -> String {
        let mut headers = HeaderMap::new();
        for value in forwarded {
            headers.append(FORWARDED_FOR, HeaderValue::from_bytes(value).unwrap());
        }
        let trusted = if trusted.is_empty() { Networks::default() } else { trusted.parse().unwrap() };
        client_address(peer.parse().unwrap(), &headers, &trusted).to_string()
    }

    #[test]
    fn a_proxy_of_ours_is_believed_and_nobody_else() {
        for (peer, forwarded, trusted, client) in [
            ("203.0.113.9", &[&b"198.51.100.1"[..]][..], "", "203.0.113.9"),
            ("203.0.113.9", &[b"127.0.0.1"], "127.0.0.1", "203.0.113.9"),
            ("127.0.0.1", &[], "127.0.0.1", "127.0.0.1"),
            ("127.0.0.1", &[b"198.51.100.1"], "127.0.0.1", "198.51.100.1"),
            ("::ffff:127.0.0.1", &[b"198.51.100.1"], "127.0.0.1", "198.51.100.1"),
            // What the client wrote itself stands on the left.
            ("10.0.0.1", &[b"1.1.1.1, 198.51.100.1, 10.0.0.2"], "10.0.0.0/8", "198.51.100.1"),
            ("10.0.0.1", &[b"1.1.1.1", b"198.51.100.1", b"10.0.0.2"], "10.0.0.0/8", "198.51.100.1"),
            ("10.0.0.1", &[b"10.0.0.3, 10.0.0.2"], "10.0.0.0/8", "10.0.0.3"),
            ("10.0.0.1", &[b"198.51.100.1:4711"], "10.0.0.0/8", "198.51.100.1"),
            ("::1", &[b"[2001:db8::7]:443"], "::1", "2001:db8::7"),
            ("::1", &[b"[2001:db8::7]"], "::1", "2001:db8::7"),
            // Nonsense hides what is behind it.
            ("10.0.0.1", &[b"198.51.100.1, unknown, 10.0.0.2"], "10.0.0.0/8", "10.0.0.2"),
            ("10.0.0.1", &[b""], "10.0.0.0/8", "10.0.0.1"),
            ("10.0.0.1", &[b"198.51.100.1, \xff"], "10.0.0.0/8", "10.0.0.1"),
        ] {
            assert_eq!(asked(peer, forwarded, trusted), client, "{peer} {forwarded:?} {trusted}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_sent_the_answer_is_the_peer_or_an_address_that_was_named(
            texts in prop::collection::vec("[0-9a-f:., \\[\\]\u{80}-\u{ff}]{0,40}", 0..4),
            trusted: bool,
        ) {
            let values: Vec<&[u8]> = texts.iter().map(String::as_bytes).collect();
            let client = asked("10.0.0.1", &values, if trusted { "10.0.0.0/8" } else { "" });
            let named = texts.iter().flat_map(|text| text.split(',')).filter_map(|hop| read_hop(hop.as_bytes()));
            let named: Vec<String> = named.map(|address| address.to_string()).collect();
            prop_assert!(client == "10.0.0.1" || (trusted && named.contains(&client)), "{client}");
        }
    }
}
