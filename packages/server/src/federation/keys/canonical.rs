//! JSON as it is signed: with sorted keys and without space.

use std::{borrow::Cow, cmp::Ordering, fmt};

use serde::{
    Deserializer,
    de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor},
    ser::Serialize,
};

/// How many values may stand in one text. It is more than fit into the largest events of a transaction.
pub(super) const MOST: usize = 2 << 20;

/// Writes a text of JSON anew behind what stands in `out`. Unlike ruma's canonical JSON, this also takes numbers that are
/// not canonical: one event with such a number makes an event that is dropped, and not a transaction that can never be
/// delivered. No tree is made of it, which may be twenty times as large as the text.
///
/// # Errors
/// When it is no JSON; when it has more than [`MOST`] values, which is an error of data and not of syntax.
pub(super) fn write(text: &[u8], out: &mut Vec<u8>) -> serde_json::Result<()> {
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let mut left = MOST;
    Writer { out, left: &mut left }.deserialize(&mut deserializer)?;
    deserializer.end()
}

/// Writes one value.
struct Writer<'a> {
    out: &'a mut Vec<u8>,
    /// How many values may still come.
    left: &'a mut usize,
}

/// Where an entry of an object stands in what has been written: `"name":value`.
struct Entry {
    start: usize,
    name_end: usize,
    end: usize,
}

impl Writer<'_> {
    fn plain<E: Error>(self, value: &(impl Serialize + ?Sized)) -> Result<(), E> {
        serde_json::to_writer(self.out, value).map_err(E::custom)
    }
}

impl<'de> DeserializeSeed<'de> for Writer<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        let left = self.left.checked_sub(1);
        *self.left = left.ok_or_else(|| D::Error::custom("there are too many values"))?;
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Writer<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.plain(&())
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        self.plain(&value)
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        self.plain(&value)
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        self.plain(&value)
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        self.plain(&value)
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<(), E> {
        self.plain(value)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let Self { out, left } = self;
        out.push(b'[');
        while items.next_element_seed(Writer { out, left })?.is_some() {
            out.push(b',');
        }
        close(out, b']');
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self { out, left } = self;
        let from = out.len();
        let mut entries = Vec::new();
        out.push(b'{');
        while let Some(name) = map.next_key::<Cow<'_, str>>()? {
            let start = out.len();
            serde_json::to_writer(&mut *out, &*name).map_err(A::Error::custom)?;
            let name_end = out.len();
            out.push(b':');
            map.next_value_seed(Writer { out, left })?;
            entries.push(Entry { start, name_end, end: out.len() });
            out.push(b',');
        }
        close(out, b'}');
        if !entries.is_sorted_by(|one, next| one.cmp(next, out) == Ordering::Less) {
            sort(entries, from, out);
        }
        Ok(())
    }
}

/// Ends a list, in place of the comma behind its last item.
fn close(out: &mut Vec<u8>, end: u8) {
    out.pop_if(|last| *last == b',');
    out.push(end);
}

/// Writes the object that begins at `from` once more, in order. Of several entries with one name the last one counts.
fn sort(mut entries: Vec<Entry>, from: usize, out: &mut Vec<u8>) {
    entries.sort_by(|one, other| one.cmp(other, out));
    let was = out.split_off(from);
    let entry = |entry: &Entry| &was[entry.start - from..entry.end - from];
    let name = |entry: &Entry| &was[entry.start - from..entry.name_end - from];
    out.push(b'{');
    for (at, this) in entries.iter().enumerate() {
        if entries.get(at + 1).is_none_or(|next| name(next) != name(this)) {
            out.extend_from_slice(entry(this));
            out.push(b',');
        }
    }
    close(out, b'}');
}

impl Entry {
    /// The order of the names.
    fn cmp(&self, other: &Self, out: &[u8]) -> Ordering {
        let [one, two] = [self, other].map(|entry| &out[entry.start..entry.name_end]);
        // What is escaped is ordered by what it stands for.
        if [one, two].iter().any(|name| name.contains(&b'\\')) {
            let read = |name| serde_json::from_slice::<String>(name).unwrap_or_default();
            return read(one).cmp(&read(two));
        }
        // Without their quotes, the last of which is no part of the order.
        one[1..one.len() - 1].cmp(&two[1..two.len() - 1])
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn written(text: &str) -> serde_json::Result<String> {
        let mut out = b"x".to_vec();
        write(text.as_bytes(), &mut out)?;
        Ok(String::from_utf8(out).unwrap().strip_prefix('x').unwrap().to_owned())
    }

    #[test]
    fn keys_are_sorted_and_space_is_left_out() {
        for (text, canonical) in [
            (" {} ", "{}"),
            ("[ ]", "[]"),
            (
                r#"{"b": [1, {"d": 1, "c": [ ]}], "a": null}"#,
                r#"{"a":null,"b":[1,{"c":[],"d":1}]}"#,
            ),
            (r#"{"a!": 1, "a": 2, "ab": 3}"#, r#"{"a":2,"a!":1,"ab":3}"#),
            (
                r#"{"ä": "ü", "z": "\u00e4\n\u0001", "a\"": 1, "a!": 2, "a#": 3}"#,
                "{\"a!\":2,\"a\\\"\":1,\"a#\":3,\"z\":\"ä\\n\\u0001\",\"ä\":\"ü\"}",
            ),
            (r#"{"a": 1, "b": 2, "a": {"z": 1, "y": ","}}"#, r#"{"a":{"y":",","z":1},"b":2}"#),
            (
                r#"[1.5, -0, 1e2, 18446744073709551616, "1e2", true]"#,
                r#"[1.5,-0.0,100.0,1.8446744073709552e+19,"1e2",true]"#,
            ),
            ("\"x,\"", "\"x,\""),
        ] {
            assert_eq!(written(text).unwrap(), canonical);
            assert_eq!(written(canonical).unwrap(), canonical);
            assert_eq!(serde_json::from_str::<Value>(text).unwrap().to_string(), canonical);
        }
    }

    #[test]
    fn what_is_no_json_or_has_no_end_is_refused() {
        for text in ["", "{", "{\"a\"}", "[1,]", "{} x", "nonsense", &"[".repeat(200)] {
            assert!(!written(text).unwrap_err().is_data(), "{text}");
        }
        let many = format!("[{}0]", "0,".repeat(MOST - 2));
        assert_eq!(written(&many).unwrap().len(), many.len());
        let error = written(&format!("[0,{}", &many[1..])).unwrap_err();
        assert!(error.is_data() && error.to_string().contains("too many"), "{error}");
    }
}
