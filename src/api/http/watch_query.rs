//! What a URL asks to watch, and from where on.
//!
//! It only reads; a parameter that it does not know is refused, because a slip of the hand would watch something else.

use super::percent;
use crate::backend::WatchCreate;
use crate::model::{EventFilters, KeyRange, WatchId};
use bytes::Bytes;
use std::time::Duration;

/// A path that ends so names a directory: every key that begins with it.
const DIRECTORY_END: u8 = b'/';
/// The longest wait that can be asked for, in milliseconds: a day.
const TIMEOUT_MS_MAX: u64 = 24 * 3_600_000;

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct WatchQuery {
    /// The keys.
    pub(super) range: KeyRange,
    /// Everything after this revision; `None` is from now on.
    pub(super) since: Option<i64>,
    /// Which events are left out.
    pub(super) filters: EventFilters,
    /// Events carry the value before.
    pub(super) prev_kv: bool,
    /// Answer once, with the first that happens.
    pub(super) wait: bool,
    /// How long to wait for it; `None` is for ever.
    pub(super) timeout: Option<Duration>,
}

impl WatchQuery {
    /// Reads the part of the path that is the key, the query, and the header by which a browser says where it was.
    pub(super) fn read(
        key: &str,
        query: &str,
        last_event_id: Option<&str>,
    ) -> Result<Self, String> {
        let mut key = percent::path(key).ok_or("the key is not percent-encoded")?;
        let (mut prefix, mut range_end) = (false, Vec::new());
        let mut asked = Self {
            range: KeyRange::everything(),
            since: None,
            filters: EventFilters::default(),
            prev_kv: false,
            wait: false,
            timeout: None,
        };
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let bytes = percent::query(value);
            let bytes = bytes.ok_or_else(|| format!("{name} is not percent-encoded"))?;
            let text = String::from_utf8_lossy(&bytes);
            match name {
                "key" => key = bytes,
                "range_end" => range_end = bytes,
                "prefix" | "recursive" => prefix = flag(name, &text)?,
                "since" => asked.since = Some(revision(name, &text)?),
                "prev_kv" => asked.prev_kv = flag(name, &text)?,
                "wait" => asked.wait = flag(name, &text)?,
                "timeout_ms" => asked.timeout = Some(timeout(name, &text)?),
                "filter" => match text.to_ascii_lowercase().as_str() {
                    "noput" => asked.filters.no_put = true,
                    "nodelete" => asked.filters.no_delete = true,
                    _ => {
                        return Err(format!(
                            "filter is {text:?}, and noput or nodelete is needed"
                        ));
                    }
                },
                _ => return Err(format!("{name:?} is no parameter of a watch")),
            }
        }
        if let Some(id) = last_event_id.filter(|id| !id.is_empty()) {
            asked.since = Some(revision("Last-Event-ID", id)?);
        }
        asked.range = range(key, range_end, prefix)?;
        Ok(asked)
    }

    /// The watch that was asked for.
    pub(super) fn create(&self) -> WatchCreate {
        WatchCreate {
            watch_id: WatchId::AUTO,
            range: self.range.clone(),
            start_revision: self.since.map_or(0, |since| since.saturating_add(1)),
            filters: self.filters,
            prev_kv: self.prev_kv,
            fragment: false,
            progress_notify: false,
        }
    }
}

fn range(key: Vec<u8>, range_end: Vec<u8>, prefix: bool) -> Result<KeyRange, String> {
    if !range_end.is_empty() {
        if prefix {
            return Err("prefix and range_end exclude each other".to_owned());
        }
        return Ok(KeyRange::from_wire(key.into(), Bytes::from(range_end)));
    }
    if prefix || key.last().is_none_or(|last| *last == DIRECTORY_END) {
        return Ok(KeyRange::prefix(key));
    }
    Ok(KeyRange::single(key))
}

fn flag(name: &str, value: &str) -> Result<bool, String> {
    match value {
        "" | "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err(format!("{name} is {value:?}, and true or false is needed")),
    }
}

fn revision(name: &str, value: &str) -> Result<i64, String> {
    let revision = value.parse().ok().filter(|revision| *revision >= 0);
    revision.ok_or_else(|| format!("{name} is {value:?}, and a revision is needed"))
}

fn timeout(name: &str, value: &str) -> Result<Duration, String> {
    let timeout_ms = value.parse().ok().filter(|ms| *ms <= TIMEOUT_MS_MAX);
    timeout_ms
        .map(Duration::from_millis)
        .ok_or_else(|| format!("{name} is {value:?}, and 0 to {TIMEOUT_MS_MAX} is needed"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(key: &str, query: &str) -> Result<WatchQuery, String> {
        WatchQuery::read(key, query, None)
    }

    #[test]
    fn a_path_is_a_key_a_directory_or_everything() {
        let range = |key: &str, query: &str| read(key, query).unwrap().range;
        assert_eq!(range("a", ""), KeyRange::single("a"));
        assert_eq!(range("a/", ""), KeyRange::prefix("a/"));
        assert_eq!(range("/a%20b", ""), KeyRange::single("/a b"));
        assert_eq!(range("a", "prefix"), KeyRange::prefix("a"));
        assert_eq!(range("a", "recursive=true"), KeyRange::prefix("a"));
        assert_eq!(range("a", "prefix=false"), KeyRange::single("a"));
        assert_eq!(range("", ""), KeyRange::everything());
        assert_eq!(range("", "key=a%2F"), KeyRange::prefix("a/"));
        let until = KeyRange::from_wire("a".into(), "c".into());
        assert_eq!(range("a", "range_end=c"), until);
    }

    #[test]
    fn a_watch_begins_behind_the_revision_that_was_seen_last() {
        let start = |query: &str, id| {
            let asked = WatchQuery::read("a", query, id).unwrap();
            asked.create().start_revision
        };
        assert_eq!(start("", None), 0);
        assert_eq!(start("since=0", None), 1);
        assert_eq!(start("since=7", None), 8);
        // A browser that comes back asks the same URL, and says in the header how far it has come.
        assert_eq!(start("since=7", Some("9")), 10);
        assert_eq!(start("since=7", Some("")), 8);
        assert_eq!(start("since=9223372036854775807", None), i64::MAX);
    }

    #[test]
    fn the_rest_is_read_too() {
        let asked = read(
            "a",
            "prev_kv&wait=1&filter=noput&filter=NODELETE&timeout_ms=20",
        )
        .unwrap();
        assert!(asked.prev_kv && asked.wait);
        assert!(asked.filters.no_put && asked.filters.no_delete);
        assert_eq!(asked.timeout, Some(Duration::from_millis(20)));
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_name() {
        for (query, name) in [
            ("since=-1", "since"),
            ("since=x", "since"),
            ("prefix=maybe", "prefix"),
            ("filter=all", "filter"),
            ("timeout_ms=86400001", "timeout_ms"),
            ("sinse=4", "sinse"),
            ("key=%f", "key"),
            ("prefix&range_end=b", "range_end"),
        ] {
            let said = read("a", query).unwrap_err();
            assert!(said.contains(name), "{said}");
        }
        assert!(read("%f", "").is_err());
        let said = WatchQuery::read("a", "", Some("abc")).unwrap_err();
        assert!(said.contains("Last-Event-ID"), "{said}");
    }
}
