//! `--cors`: whose pages may read answers.
//!
//! What no browser ever says of a page is a slip of the hand, and would allow nobody in silence.

use super::ConfigError;
use crate::api::NameList;

/// What etcd takes too.
const SCHEMES: [&str; 4] = ["http", "https", "unix", "unixs"];

/// Reads `*`, origins with commas between them, or nothing for nobody.
pub(super) fn origins(list: &str) -> Result<NameList, ConfigError> {
    let wrong = list
        .split(',')
        .map(str::trim)
        .find(|it| !is_origin(it) && *it != "*" && !list.trim().is_empty());
    match wrong {
        None => Ok(NameList::read(list)),
        Some(wrong) => Err(ConfigError::Malformed {
            flag: "cors",
            value: wrong.to_owned(),
            expected: "*, or SCHEME://HOST or SCHEME://HOST:PORT with one of http, https, unix, unixs",
        }),
    }
}

fn is_origin(text: &str) -> bool {
    text.split_once("://").is_some_and(|(scheme, host)| {
        let is_known = SCHEMES.iter().any(|it| it.eq_ignore_ascii_case(scheme));
        let is_blank = |letter: char| letter.is_whitespace() || letter.is_control();
        is_known
            && !host.is_empty()
            && !host.contains(['/', '?', '#', '@'])
            && !host.contains(is_blank)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_have_a_scheme_and_a_host_and_nothing_else() {
        for list in [
            "*",
            "",
            "http://page",
            "http://page:8080, https://other",
            "https://[::1]:80",
            "unix://socket,unixs://localhost:1",
            "HTTP://page,*",
        ] {
            assert_eq!(origins(list), Ok(NameList::read(list)), "{list}");
        }
        for (list, wrong) in [
            ("page", "page"),
            ("http://page,other", "other"),
            ("ftp://page", "ftp://page"),
            ("null", "null"),
            ("//page", "//page"),
            ("http:page", "http:page"),
            ("http://", "http://"),
            ("http://page/", "http://page/"),
            ("http://page?x", "http://page?x"),
            ("http://a b", "http://a b"),
            ("http://page,", ""),
            (",", ""),
        ] {
            let error = origins(list).unwrap_err().to_string();
            let said = format!("--cors is {wrong:?}, and *, or SCHEME://HOST");
            assert!(error.starts_with(&said), "{list}: {error}");
        }
    }
}
