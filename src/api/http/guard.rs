//! What holds for every HTTP request, whatever it asks for: who may read the answer in a browser, under which names the
//! server may be called, and that a path is said in the shortest way.
//!
//! gRPC clients never come by here.

use super::{Http, clean_path, reply};
use crate::api::grpc::Served;
use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN, HOST,
    HeaderMap, HeaderValue, ORIGIN,
};
use actix_web::http::{Method, StatusCode};
use actix_web::middleware::Next;
use actix_web::{Error, HttpResponse, web};

/// Stands for all names in a [`NameList`].
const ALL: &str = "*";

/// Names that are allowed: all of them, or some.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameList(Vec<String>);

impl Default for NameList {
    fn default() -> Self {
        Self::read(ALL)
    }
}

impl NameList {
    /// Reads a list with commas between the names; `*` stands for all, and nothing for none.
    pub fn read(list: &str) -> Self {
        let names = list.split(',').map(str::trim);
        Self(
            names
                .filter(|it| !it.is_empty())
                .map(str::to_owned)
                .collect(),
        )
    }

    /// True when every name is allowed.
    pub fn allows_all(&self) -> bool {
        self.allows(ALL)
    }

    /// True when this name is allowed.
    pub fn allows(&self, name: &str) -> bool {
        self.0.iter().any(|it| it == name || it == ALL)
    }
}

/// Passes a request on, if its host is known, and tells browsers who may read the answer.
pub async fn guard<B: Served>(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse, Error> {
    let Some(http) = request.app_data::<web::Data<Http<B>>>().cloned() else {
        return Ok(next.call(request).await?.map_into_boxed_body());
    };
    let settings = &http.settings;
    let host = request.headers().get(HOST);
    let host = host.and_then(|host| host.to_str().ok()).unwrap_or_default();
    if !settings.host_whitelist.allows(host_name(host)) {
        let said = format!("the host {host:?} is not in --host-whitelist\n");
        let refusal = reply::text(StatusCode::MISDIRECTED_REQUEST, said);
        return Ok(request.into_response(refusal));
    }
    let origin = allowed_origin(&settings.cors, request.headers());
    let mut response = if request.method() == Method::OPTIONS {
        let nothing = HttpResponse::Ok().finish();
        request.into_response(nothing)
    } else if let Some(elsewhere) =
        clean_path::redirect(request.method(), request.uri(), settings.grpc_gateway)
    {
        request.into_response(elsewhere)
    } else {
        next.call(request).await?.map_into_boxed_body()
    };
    if let Some(origin) = origin {
        let headers = response.headers_mut();
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        let methods = HeaderValue::from_static("POST, GET, OPTIONS, PUT, DELETE");
        headers.insert(ACCESS_CONTROL_ALLOW_METHODS, methods);
        let named = "accept, content-type, authorization, last-event-id";
        headers.insert(
            ACCESS_CONTROL_ALLOW_HEADERS,
            HeaderValue::from_static(named),
        );
    }
    Ok(response)
}

/// Whom to name in the answer as allowed to read it.
fn allowed_origin(allowed: &NameList, headers: &HeaderMap) -> Option<HeaderValue> {
    if allowed.allows_all() {
        return Some(HeaderValue::from_static(ALL));
    }
    let origin = headers.get(ORIGIN)?;
    allowed
        .allows(origin.to_str().ok()?)
        .then(|| origin.clone())
}

/// A host without its port, and without the brackets of an IPv6 address.
fn host_name(host: &str) -> &str {
    if let Some(inner) = host.strip_prefix('[') {
        return inner.split(']').next().unwrap_or_default();
    }
    host.split(':').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_compared_without_port_and_brackets() {
        for (host, name) in [
            ("a.example:2379", "a.example"),
            ("a.example", "a.example"),
            ("[::1]:2379", "::1"),
            ("[::1]", "::1"),
            ("", ""),
        ] {
            assert_eq!(host_name(host), name);
        }
    }

    #[test]
    fn an_origin_is_named_when_it_is_in_the_list() {
        let mut headers = HeaderMap::new();
        let some = NameList::read("http://a, http://b");
        assert_eq!(allowed_origin(&some, &headers), None);
        assert_eq!(allowed_origin(&NameList::default(), &headers).unwrap(), "*");
        headers.insert(ORIGIN, HeaderValue::from_static("http://b"));
        assert_eq!(allowed_origin(&some, &headers).unwrap(), "http://b");
        headers.insert(ORIGIN, HeaderValue::from_static("http://c"));
        assert_eq!(allowed_origin(&some, &headers), None);
        assert_eq!(allowed_origin(&NameList::read(""), &headers), None);
    }
}
