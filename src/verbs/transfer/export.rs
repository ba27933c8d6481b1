//! `export`, and what a line of it holds.
//!
//! A key is one line, and all of them are of one revision. Text stands beside base64 only for whoever reads it: what is
//! imported is the base64.

use super::bar;
use super::pages::Pages;
use crate::api::pb::mvccpb;
use crate::cli::ExportArgs;
use crate::verbs::watch::notice;
use crate::verbs::{VerbError, base64, connect};
use serde::{Deserialize, Serialize};
use std::io::{self, BufWriter, Write};

/// A key, as a line.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Line {
    /// Base64. What lacks it is read nevertheless, so that whoever asks can say what else is wrong.
    pub(super) key: Option<String>,
    /// Base64.
    pub(super) value: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) key_text: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) value_text: Option<String>,
    #[serde(default)]
    pub(super) create_revision: i64,
    #[serde(default)]
    pub(super) mod_revision: i64,
    #[serde(default)]
    pub(super) version: i64,
    #[serde(default)]
    pub(super) lease: i64,
}

impl From<&mvccpb::KeyValue> for Line {
    fn from(kv: &mvccpb::KeyValue) -> Self {
        Self {
            key: Some(base64::encode(&kv.key)),
            value: Some(base64::encode(&kv.value)),
            key_text: readable(&kv.key),
            value_text: readable(&kv.value),
            create_revision: kv.create_revision,
            mod_revision: kv.mod_revision,
            version: kv.version,
            lease: kv.lease,
        }
    }
}

/// Text that a person can read.
fn readable(bytes: &[u8]) -> Option<String> {
    let text = str::from_utf8(bytes).ok()?;
    let is_readable = |letter: char| !letter.is_control() || letter == '\n' || letter == '\t';
    text.chars().all(is_readable).then(|| text.to_owned())
}

/// Writes every key as a line.
pub(in crate::verbs) async fn export(args: &ExportArgs, out: impl Write) -> Result<(), VerbError> {
    let channel = connect(&args.client).await?;
    let mut pages = Pages::new(&args.client, channel, &args.prefix, args.rev);
    let mut out = BufWriter::new(out);
    pages.peek().await?;
    let bar = bar("exporting", pages.total);
    let mut keys = 0_u64;
    while let Some(kv) = pages.next().await? {
        serde_json::to_writer(&mut out, &Line::from(&kv)).map_err(io::Error::from)?;
        out.write_all(b"\n")?;
        keys += 1;
        bar.inc(1);
    }
    out.flush()?;
    bar.finish_and_clear();
    let revision = pages.revision;
    notice(&format!("{keys} keys exported at revision {revision}"));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_text_where_there_is_text() {
        let kv = |value: &'static [u8]| mvccpb::KeyValue {
            key: "a".into(),
            value: value.into(),
            create_revision: 2,
            mod_revision: 3,
            version: 2,
            lease: 7,
        };
        let json = |value| serde_json::to_string(&Line::from(&kv(value))).unwrap();
        let numbers = r#""create_revision":2,"mod_revision":3,"version":2,"lease":7}"#;
        let both = r#"{"key":"YQ==","value":"Yg==","key_text":"a","value_text":"b","#;
        assert_eq!(json(b"b"), format!("{both}{numbers}"));
        let key_alone = r#"{"key":"YQ==","value":"/w==","key_text":"a","#;
        assert_eq!(json(b"\xff"), format!("{key_alone}{numbers}"));
        assert!(
            !json(b"\x1b[2J").contains("value_text"),
            "it would move a terminal's cursor"
        );
    }
}
