//! Record ids: arrays and the exact ranges over them; and the ids of Matrix that stand in rows.

use std::{fmt::Display, ops::Bound};

use ruma::OwnedEventId;
use surrealdb::types::{Array, RecordId, RecordIdKey, RecordIdKeyRange, Value};

use crate::StoreError;

/// `table:[parts…]`
pub(crate) fn record(table: &'static str, parts: impl Into<Vec<Value>>) -> RecordId {
    RecordId::new(table, Array::from(parts.into()))
}

/// `table:⟨name⟩`
pub(crate) fn named(table: &'static str, name: impl AsRef<str>) -> RecordId {
    RecordId::new(table, name.as_ref())
}

/// `table:[parts…]..[parts…, ..]`: every record whose id begins with these parts.
///
/// The upper bound is an array with a value after all strings and numbers at its end.
pub(crate) fn beginning_with(table: &'static str, parts: impl Into<Vec<Value>>) -> RecordId {
    let start = parts.into();
    let mut end = start.clone();
    end.push(Value::Array(Array::new()));
    range(table, start, Bound::Excluded(end))
}

/// `table:[from…]..=[to…]`
pub(crate) fn between(
    table: &'static str,
    from: impl Into<Vec<Value>>,
    to: impl Into<Vec<Value>>,
) -> RecordId {
    range(table, from.into(), Bound::Included(to.into()))
}

/// `table:[start…]..[end…]`
pub(crate) fn range(table: &'static str, start: Vec<Value>, end: Bound<Vec<Value>>) -> RecordId {
    let key = |parts: Vec<Value>| RecordIdKey::Array(Array::from(parts));
    RecordId::new(table, RecordIdKeyRange { start: Bound::Included(key(start)), end: end.map(key) })
}

/// The text at `index` of an array id.
pub(crate) fn text_part(id: &RecordId, index: usize) -> Result<&str, StoreError> {
    match parts(id).and_then(|parts| parts.get(index)) {
        Some(Value::String(text)) => Ok(text),
        _ => Err(misshapen(id)),
    }
}

/// The number at `index` of an array id.
pub(crate) fn number_part(id: &RecordId, index: usize) -> Result<i64, StoreError> {
    parts(id)
        .and_then(|parts| parts.get(index))
        .and_then(|part| part.clone().into_t::<i64>().ok())
        .ok_or_else(|| misshapen(id))
}

/// The name of a `table:⟨name⟩`.
pub(crate) fn name_of(id: &RecordId) -> Result<&str, StoreError> {
    match &id.key {
        RecordIdKey::String(name) => Ok(name),
        _ => Err(misshapen(id)),
    }
}

fn parts(id: &RecordId) -> Option<&[Value]> {
    match &id.key {
        RecordIdKey::Array(parts) => Some(parts),
        _ => None,
    }
}

fn misshapen(id: &RecordId) -> StoreError {
    unfit(id)("its id has another shape".to_owned())
}

/// Says of the row with this id what can't be read in it.
pub(crate) fn unfit(id: &RecordId) -> impl Fn(String) -> StoreError {
    move |why| match &id.key {
        RecordIdKey::String(name) => StoreError::inconsistent(id.table.as_str(), name, why),
        key => StoreError::inconsistent(id.table.as_str(), format_args!("{key:?}"), why),
    }
}

/// An id that was written as text.
pub(crate) fn parsed<T: for<'a> TryFrom<&'a str, Error: Display>>(
    text: &str,
    bad: &impl Fn(String) -> StoreError,
) -> Result<T, StoreError> {
    T::try_from(text).map_err(|error| bad(format!("{text}: {error}")))
}

/// The event that a row is named after.
pub(crate) fn event_named(id: &RecordId) -> Result<OwnedEventId, StoreError> {
    parsed(name_of(id)?, &unfit(id))
}
