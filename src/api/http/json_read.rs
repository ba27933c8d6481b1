//! JSON to a message, by its descriptor: what etcd's gateway takes is taken as it means it, and what it refuses is refused.
//!
//! It recurses from message to message and no deeper than [`MESSAGES_DEEP_MAX`]; whatever else is nested is counted, never
//! recursed into.

use super::json_scalars::scalar;
use super::json_values::{Nesting, Step};
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, Value};
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use std::fmt;

/// How deep JSON may be nested, as in etcd, objects and lists of unknown fields included.
const JSON_DEEP_MAX: usize = 10_000;
/// How deep messages may be nested. Those who read them as protobuf take one more, which an answer needs for its header.
pub(super) const MESSAGES_DEEP_MAX: usize = 99;
/// How much of a value is shown to whom it was refused.
const SHOWN_BYTES_MAX: usize = 64;

/// Reads the first value there is; what follows it is passed over.
pub(super) fn read(of: MessageDescriptor, json: &[u8]) -> Result<DynamicMessage, String> {
    let json = str::from_utf8(first_value(json)?);
    let json = json.map_err(|error| format!("the JSON is not UTF-8: {error}"))?;
    let mut reader = serde_json::Deserializer::from_str(json);
    // Its own limit counts lists and objects, and is below what etcd takes; ours counts messages.
    reader.disable_recursion_limit();
    let message = Message { of, deep: 0 }.deserialize(&mut reader);
    message.map_err(|error| error.to_string())
}

/// The bytes up to where the first object or list ends, or all of them.
fn first_value(json: &[u8]) -> Result<&[u8], String> {
    let mut nesting = Nesting::default();
    for (at, byte) in json.iter().enumerate() {
        match nesting.step(*byte) {
            Step::Ended => return Ok(json.get(..=at).unwrap_or(json)),
            Step::Inside if nesting.depth() > JSON_DEEP_MAX => {
                return Err(format!("the JSON is nested deeper than {JSON_DEEP_MAX}"));
            }
            Step::Inside | Step::Outside => {}
        }
    }
    Ok(json)
}

/// Reads one message.
struct Message {
    of: MessageDescriptor,
    /// How many messages are around it.
    deep: usize,
}

impl<'de> DeserializeSeed<'de> for Message {
    type Value = DynamicMessage;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<DynamicMessage, D::Error> {
        if self.deep > MESSAGES_DEEP_MAX {
            let limit = MESSAGES_DEEP_MAX;
            return Err(D::Error::custom(format!(
                "messages are nested deeper than {limit}"
            )));
        }
        reader.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Message {
    type Value = DynamicMessage;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<DynamicMessage, A::Error> {
        let mut message = DynamicMessage::new(self.of.clone());
        // Messages have few fields.
        let (mut seen, mut chosen) = (Vec::new(), Vec::new());
        while let Some(name) = fields.next_key::<String>()? {
            let by_json = self.of.get_field_by_json_name(&name);
            let Some(field) = by_json.or_else(|| self.of.get_field_by_name(&name)) else {
                fields.next_value::<IgnoredAny>()?;
                continue;
            };
            if seen.contains(&field.number()) {
                return Err(A::Error::custom(format!("duplicate field {name:?}")));
            }
            seen.push(field.number());
            let deep = self.deep;
            let found = fields.next_value_seed(Field {
                field: &field,
                deep,
            })?;
            let Some(found) = found else { continue };
            if let Some(oneof) = field.containing_oneof() {
                if chosen.contains(&oneof) {
                    let oneof = oneof.full_name();
                    return Err(A::Error::custom(format!(
                        "{name:?}: oneof {oneof} is already set"
                    )));
                }
                chosen.push(oneof);
            }
            message.set_field(&field, found);
        }
        Ok(message)
    }
}

/// Reads what a field has: nothing when that is null, or the name of an enum's value that there is not.
struct Field<'f> {
    field: &'f FieldDescriptor,
    deep: usize,
}

impl<'de> DeserializeSeed<'de> for Field<'_> {
    type Value = Option<Value>;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Option<Value>, D::Error> {
        reader.deserialize_option(self)
    }
}

impl<'de> Visitor<'de> for Field<'_> {
    type Value = Option<Value>;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "a value for field {}", self.field.name())
    }

    fn visit_none<E: Error>(self) -> Result<Option<Value>, E> {
        Ok(None)
    }

    fn visit_some<D: Deserializer<'de>>(self, reader: D) -> Result<Option<Value>, D::Error> {
        let Self { field, deep } = self;
        if field.is_list() {
            let list = reader.deserialize_seq(List { field, deep })?;
            return Ok(Some(Value::List(list)));
        }
        Element { field, deep }.deserialize(reader)
    }
}

/// Reads a list.
struct List<'f> {
    field: &'f FieldDescriptor,
    deep: usize,
}

impl<'de> Visitor<'de> for List<'_> {
    type Value = Vec<Value>;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "a list for field {}", self.field.name())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Vec<Value>, A::Error> {
        let Self { field, deep } = self;
        let mut list = Vec::new();
        while let Some(element) = elements.next_element_seed(Element { field, deep })? {
            list.extend(element);
        }
        Ok(list)
    }
}

/// Reads a value of a field, or of its list.
struct Element<'f> {
    field: &'f FieldDescriptor,
    deep: usize,
}

impl<'de> DeserializeSeed<'de> for Element<'_> {
    type Value = Option<Value>;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Option<Value>, D::Error> {
        let kind = self.field.kind();
        if let Kind::Message(of) = kind {
            let deep = self.deep + 1;
            let message = Message { of, deep }.deserialize(reader)?;
            return Ok(Some(Value::Message(message)));
        }
        let text = <&RawValue>::deserialize(reader)?.get();
        scalar(&kind, text).ok_or_else(|| {
            let name = self.field.name();
            let shown = shown(text);
            D::Error::custom(format!("invalid value for {kind:?} field {name}: {shown}"))
        })
    }
}

/// The beginning of a text.
fn shown(text: &str) -> String {
    let end = text.floor_char_boundary(SHOWN_BYTES_MAX);
    match text.split_at_checked(end) {
        Some((start, rest)) if !rest.is_empty() => format!("{start}..."),
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::pb::{DESCRIPTORS, etcdserverpb as pb};
    use pb::request_op::Request;
    use prost::Message as _;
    use prost_reflect::DescriptorPool;

    fn message(name: &str, json: &str) -> Result<DynamicMessage, String> {
        let pool = DescriptorPool::decode(DESCRIPTORS).unwrap();
        let of = pool.get_message_by_name(&format!("etcdserverpb.{name}"));
        read(of.unwrap(), json.as_bytes())
    }

    fn txn(json: &str) -> Result<pb::TxnRequest, String> {
        Ok(message("TxnRequest", json)?.transcode_to().unwrap())
    }

    fn nested(levels: usize) -> String {
        let around = r#"{"success":[{"request_txn":"#.repeat(levels);
        let inner = r#"{"success":[{"request_put":{"key":"YQ=="}}]}"#;
        format!("{around}{inner}{}", "}]}".repeat(levels))
    }

    #[test]
    fn no_field_is_of_a_kind_that_is_not_read() {
        let pool = DescriptorPool::decode(DESCRIPTORS).unwrap();
        for message in pool.all_messages() {
            for field in message.fields() {
                let kind = field.kind();
                let is_real = matches!(kind, Kind::Float | Kind::Double);
                assert!(!field.is_map() && !is_real, "{}", field.full_name());
            }
        }
    }

    #[test]
    fn a_field_that_is_given_twice_is_refused_by_whatever_names() {
        for (json, said) in [
            (
                r#"{"compare":[],"compare":[]}"#,
                "duplicate field \"compare\"",
            ),
            (
                r#"{"compare":null,"compare":[]}"#,
                "duplicate field \"compare\"",
            ),
            (
                r#"{"success":[{"request_range":{"rangeEnd":"YQ==","range_end":"YQ=="}}]}"#,
                "duplicate field \"range_end\"",
            ),
            (
                r#"{"success":[{"request_put":{},"request_range":{}}]}"#,
                "\"request_range\": oneof etcdserverpb.RequestOp.request is already set",
            ),
        ] {
            let error = txn(json).unwrap_err();
            assert!(error.starts_with(said), "{json}: {error}");
        }
        let nobody =
            r#"{"nobody":1,"nobody":2,"success":[{"request_put":null,"request_range":{}}]}"#;
        let read = txn(nobody).unwrap();
        let range = Request::RequestRange(pb::RangeRequest::default());
        assert_eq!(read.success[0].request, Some(range));
    }

    #[test]
    fn null_is_no_value_of_a_field_and_none_in_a_list() {
        assert_eq!(
            txn(r#"{"success":null}"#).unwrap(),
            pb::TxnRequest::default()
        );
        assert!(txn(r#"{"success":[null]}"#).is_err());
        assert!(message("MemberAddRequest", r#"{"peerURLs":["x",null]}"#).is_err());
    }

    #[test]
    fn what_is_refused_is_shown_and_not_all_of_it() {
        let error = message("PutRequest", r#"{"key":"YQ="}"#).unwrap_err();
        let said = r#"invalid value for bytes field key: "YQ=" at line 1 column 13"#;
        assert_eq!(error, said);
        let long = format!(r#"{{"key":"{}"}}"#, "\u{e4}".repeat(100_000));
        let error = message("PutRequest", &long).unwrap_err();
        assert!(error.len() < 200 && error.contains("..."), "{error}");
    }

    #[test]
    fn messages_may_be_nested_as_deep_as_their_readers_take_and_no_deeper() {
        let mut levels = 0;
        let mut read = txn(&nested((MESSAGES_DEEP_MAX - 2) / 2)).unwrap();
        while let Some(Request::RequestTxn(inner)) = read.success[0].request.take() {
            read = inner;
            levels += 1;
        }
        assert_eq!(levels, (MESSAGES_DEEP_MAX - 2) / 2);
        for levels in [MESSAGES_DEEP_MAX / 2, 3000] {
            let error = txn(&nested(levels)).unwrap_err();
            assert!(
                error.contains("messages are nested deeper than 99"),
                "{error}"
            );
        }
    }

    #[test]
    fn json_that_nobody_looks_at_is_nested_as_deep_as_in_etcd_and_no_deeper() {
        let unknown = |levels: usize| {
            let json = format!(
                r#"{{"nobody":{}{}}}"#,
                "[".repeat(levels),
                "]".repeat(levels)
            );
            txn(&json)
        };
        assert!(unknown(JSON_DEEP_MAX - 1).is_ok());
        for levels in [JSON_DEEP_MAX, 1_000_000] {
            let error = unknown(levels).unwrap_err();
            assert_eq!(error, "the JSON is nested deeper than 10000");
        }
        let strings = format!(
            r#"{{"nobody":"{}\"{}"}} [["#,
            "[".repeat(20_000),
            "{".repeat(9)
        );
        assert!(txn(&strings).is_ok());
        let open = "[{".repeat(1_000_000);
        assert!(txn(&open).is_err());
    }

    #[test]
    fn what_is_in_fields_that_nobody_knows_is_not_looked_at() {
        let json = r#"{"nobody":{"knows":["\ud800",{"a":1,"a":1e999}]}}"#;
        assert_eq!(txn(json).unwrap(), pb::TxnRequest::default());
        assert!(
            message("AlarmRequest", r#"{"\ud800":1}"#).is_err(),
            "a name"
        );
    }

    #[test]
    fn text_that_is_no_utf_8_is_refused_wherever_it_is_in_the_value() {
        let pool = DescriptorPool::decode(DESCRIPTORS).unwrap();
        let of = pool.get_message_by_name("etcdserverpb.PutRequest").unwrap();
        let error = read(of.clone(), b"{\"nobody\":\"\xff\"}").unwrap_err();
        assert!(error.contains("not UTF-8"), "{error}");
        assert!(read(of, b"{}\xff").unwrap().encode_to_vec().is_empty());
    }
}
