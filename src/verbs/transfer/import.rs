//! `import`: the lines of an export, put in transactions.
//!
//! Keys and values come back as they were; revisions, versions and leases do not, since they belong to the server that
//! gave them. A line that is not understood ends the import, and everything before it is there.

use super::bar;
use super::batch::{Batch, Change};
use super::export::Line;
use super::ops_max;
use crate::cli::ImportArgs;
use crate::verbs::watch::notice;
use crate::verbs::{VerbError, base64, connect};
use std::fs::File;
use std::io::{BufRead, BufReader, Read};

/// Puts every line's key.
pub(in crate::verbs) async fn import(args: &ImportArgs, stdin: impl Read) -> Result<(), VerbError> {
    let ops_max = ops_max(args.max_txn_ops)?;
    let input: Box<dyn Read + '_> = match &args.file {
        None => Box::new(stdin),
        Some(path) => Box::new(File::open(path).map_err(|source| VerbError::File {
            path: path.clone(),
            source,
        })?),
    };
    let mut input = BufReader::new(input);
    let channel = connect(&args.client).await?;
    let bar = bar("importing", 0);
    let mut batch = Batch::new(ops_max);
    let (mut number, mut keys) = (0_u64, 0_u64);
    let mut line = Vec::new();
    loop {
        line.clear();
        let bytes = input.read_until(b'\n', &mut line);
        let is_end = bytes.map_err(VerbError::Input)? == 0;
        number += 1;
        let read = if is_end { Ok(None) } else { change(&line) };
        let room = match &read {
            Ok(Some(change)) => batch.has_room_for(std::slice::from_ref(change)),
            Ok(None) => !is_end,
            Err(_) => false,
        };
        if !room {
            let more = batch.len() as u64;
            batch.apply(&args.client, &channel).await?;
            keys += more;
            bar.set_position(keys);
        }
        if is_end {
            break;
        }
        match read {
            Ok(change) => change.into_iter().for_each(|change| batch.add(change)),
            Err(reason) => {
                let (line, imported) = (number, keys);
                return Err(VerbError::Line {
                    line,
                    reason,
                    imported,
                });
            }
        }
    }
    bar.finish_and_clear();
    notice(&format!("{keys} keys imported"));
    Ok(())
}

/// What a line asks for; a blank one for nothing.
fn change(line: &[u8]) -> Result<Option<Change>, String> {
    if line.trim_ascii().is_empty() {
        return Ok(None);
    }
    let line: Line = serde_json::from_slice(line).map_err(|error| match error.classify() {
        // The position is that within the line, whose number is told.
        serde_json::error::Category::Data => error.to_string(),
        _ => format!("not JSON: {error}"),
    })?;
    let decode = |name: &str, text: Option<String>| {
        let text = text.ok_or_else(|| format!("{name} is missing"))?;
        let bytes = base64::decode(&text).ok_or_else(|| format!("{name} is not base64"));
        bytes.map(bytes::Bytes::from)
    };
    let (key, value) = (decode("key", line.key)?, decode("value", line.value)?);
    if key.is_empty() {
        return Err("key is empty".to_owned());
    }
    Ok(Some(Change::Put(key, value)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_is_no_good_says_why() {
        let put = Change::Put("a".into(), "b".into());
        assert_eq!(
            change(b"{\"key\":\"YQ==\",\"value\":\"Yg==\"}\n"),
            Ok(Some(put))
        );
        assert_eq!(change(b" \r\n"), Ok(None));
        let check = |line: &str, said: &str| {
            let error = change(line.as_bytes()).unwrap_err();
            assert!(error.contains(said), "{line}: {error}");
        };
        check("nonsense", "not JSON");
        check("{\"key\":\"YQ==\"", "not JSON");
        check("{\"key\":\"YQ==\"}", "value is missing");
        check("{\"value\":\"\"}", "key is missing");
        check("{\"key\":\"a b\"}", "key is not base64");
        check("{\"key\":\"YQ\",\"value\":\"\"}", "key is not base64");
        check("{\"key\":\"YQ==\",\"value\":\"?\"}", "value is not base64");
        check("{\"key\":\"\",\"value\":\"\"}", "key is empty");
        check(
            "{\"key\":\"\",\"value\":\"\",\"vaule\":1}",
            "unknown field `vaule`",
        );
    }
}
