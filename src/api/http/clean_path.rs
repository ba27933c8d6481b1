//! Paths that have a shorter name for the same place: whoever asks for `/v3//kv/put` is sent to `/v3/kv/put`, as by etcd.
//!
//! Keys in paths are never touched: to them two slashes are two slashes.

use super::percent;
use actix_web::HttpResponse;
use actix_web::http::header::{CONTENT_TYPE, HeaderValue, LOCATION};
use actix_web::http::{Method, StatusCode, Uri};

/// What lies below it is a key.
const KEYS: &[u8] = b"/watch/";
/// A name of the gateway that nobody uses any more, but for its clients, and the gateway's own.
const BETA: &[u8] = b"/v3beta/";
const GATEWAY: &[u8] = b"/v3/";

/// Where a request should have gone, if that is elsewhere. A path that stands for no bytes is left to others.
pub(super) fn redirect(method: &Method, uri: &Uri, is_gateway_on: bool) -> Option<HttpResponse> {
    if *method == Method::CONNECT {
        return None;
    }
    let path = percent::path(uri.path())?;
    if path.starts_with(KEYS) {
        return None;
    }
    let path = match path.strip_prefix(BETA) {
        Some(rest) => [GATEWAY, rest].concat(),
        None => path,
    };
    let mut clean = clean(&path);
    if is_gateway_on && clean == b"/v3" {
        clean.push(b'/');
    }
    if clean == path {
        return None;
    }
    let mut location = percent::encode(&clean);
    if let Some(query) = uri.query() {
        location.push('?');
        location.push_str(query);
    }
    answer(method, &location)
}

/// The same place without empty names, `.` and `..`.
fn clean(path: &[u8]) -> Vec<u8> {
    let mut names: Vec<&[u8]> = Vec::new();
    for name in path.split(|byte| *byte == b'/') {
        match name {
            b"" | b"." => {}
            b".." => drop(names.pop()),
            name => names.push(name),
        }
    }
    let mut clean = b"/".to_vec();
    clean.extend(names.join(&b'/'));
    if path.ends_with(b"/") && !names.is_empty() {
        clean.push(b'/');
    }
    clean
}

fn answer(method: &Method, location: &str) -> Option<HttpResponse> {
    let mut response = HttpResponse::build(StatusCode::MOVED_PERMANENTLY);
    response.insert_header((LOCATION, HeaderValue::from_str(location).ok()?));
    let is_read = *method == Method::GET || *method == Method::HEAD;
    if is_read {
        response.insert_header((CONTENT_TYPE, "text/html; charset=utf-8"));
    }
    if *method == Method::GET {
        let link = escaped(location);
        return Some(response.body(format!("<a href=\"{link}\">Moved Permanently</a>.\n\n")));
    }
    Some(response.finish())
}

/// Text as HTML says it.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&#34;"),
            '\'' => escaped.push_str("&#39;"),
            letter => escaped.push(letter),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent_to(uri: &'static str, is_gateway_on: bool) -> Option<String> {
        let response = redirect(&Method::POST, &Uri::from_static(uri), is_gateway_on)?;
        assert_eq!(response.status(), 301);
        let location = response.headers().get(LOCATION).unwrap();
        Some(location.to_str().unwrap().to_owned())
    }

    #[test]
    fn who_goes_the_long_way_is_told_the_short_one() {
        for (uri, location) in [
            ("/v3", "/v3/"),
            ("/v3?x=1", "/v3/?x=1"),
            ("//v3", "/v3/"),
            ("/v3//kv/put", "/v3/kv/put"),
            ("/v3/kv/../kv/put", "/v3/kv/put"),
            ("/v3/./kv//put?x=1&y=2", "/v3/kv/put?x=1&y=2"),
            ("/v3/..", "/"),
            ("/../..//", "/"),
            ("//", "/"),
            ("/health//", "/health/"),
            ("/v3/%2e%2e/health", "/health"),
            ("/v3/kv%2F%2Fput", "/v3/kv/put"),
            ("/v3//%C3%A4*%3F", "/v3/%C3%A4%2A%3F"),
            ("/v3beta//kv/put", "/v3/kv/put"),
            ("//v3beta/kv/put", "/v3beta/kv/put"),
            ("//watch/a//b", "/watch/a/b"),
        ] {
            assert_eq!(sent_to(uri, true).as_deref(), Some(location), "{uri}");
        }
    }

    #[test]
    fn who_is_there_already_stays_and_so_does_every_key() {
        for uri in [
            "/",
            "/v3/",
            "/v3/kv/put",
            "/v3/kv/put/",
            "/v3beta/kv/put",
            "/v3beta",
            "/v3/kv%2Fput",
            "/v3/%zz//",
            "/watch/a//b/../c",
            "/watch/",
        ] {
            assert_eq!(sent_to(uri, true), None, "{uri}");
        }
        assert_eq!(sent_to("/v3", false), None, "there is no gateway");
        assert!(redirect(&Method::CONNECT, &Uri::from_static("//a"), true).is_none());
    }

    #[test]
    fn a_link_cannot_be_broken_out_of() {
        assert_eq!(escaped("/?a=\"><'&"), "/?a=&#34;&gt;&lt;&#39;&amp;");
    }
}
