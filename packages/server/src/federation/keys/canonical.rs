//! JSON as it is signed: with sorted keys and without space.

use std::cmp::Ordering;

use serde::de::Error;
use serde_json::{Value, value::RawValue};

/// How many values may stand in one text. It is more than fit into the largest events of a transaction.
pub(super) const MOST: usize = 2 << 20;
/// How many lists and objects may stand inside of one another, which is more than fit into the largest event.
const DEEPEST: usize = 64 << 10;
/// How many times as long as the text what is written once more may be, where the names of an object are not in order.
const AGAIN: usize = 128;

/// Writes a text of JSON anew behind what stands in `out`. Unlike ruma's canonical JSON, this also takes numbers that are
/// not canonical, and what is nested more deeply than parsers go down: one such event makes an event that is dropped,
/// and not a transaction that can never be delivered. No tree is made of it, which may be twenty times as large as the
/// text.
///
/// # Errors
/// When it is no JSON; when it has more than [`MOST`] values, or more than fits inside of one another, which is an error of
/// data and not of syntax.
pub(super) fn write(text: &[u8], out: &mut Vec<u8>) -> serde_json::Result<()> {
    // This goes over all of it, without going down into it: what follows can rely on it that brackets match.
    let mut rest = serde_json::from_slice::<&RawValue>(text)?.get();
    let mut open: Vec<Open> = Vec::new();
    let (mut left, mut again) = (MOST, rest.len().saturating_mul(AGAIN));
    let too_deep = || Error::custom("it is nested too deeply");
    while let Some(first) = rest.bytes().next() {
        let token;
        (token, rest) = rest.split_at(length(rest));
        let begins = !matches!(first, b' ' | b'\t' | b'\r' | b'\n' | b',' | b':' | b']' | b'}');
        if begins && first == b'"' && open.last().is_some_and(Open::wants_name) {
            let start = out.len();
            scalar(token, out)?;
            let name_end = out.len();
            out.push(b':');
            if let Some(Open { names: Some(names), .. }) = open.last_mut() {
                names.under_way = Some((start, name_end));
            }
            continue;
        }
        if begins {
            left = left.checked_sub(1).ok_or_else(|| Error::custom("there are too many values"))?;
        }
        match first {
            b'{' | b'[' if open.len() == DEEPEST => return Err(too_deep()),
            b'{' | b'[' => {
                let names = (first == b'{').then(Names::default);
                open.push(Open { from: out.len(), names });
                out.push(first);
            }
            b']' | b'}' => {
                close(out, first);
                let Some(Open { from, names }) = open.pop() else { continue };
                if let Some(Names { entries, .. }) = names
                    && !entries.is_sorted_by(|one, next| one.cmp(next, out) == Ordering::Less)
                {
                    again = again.checked_sub(out.len() - from).ok_or_else(too_deep)?;
                    sort(entries, from, out);
                }
                ended(&mut open, out);
            }
            _ if begins => {
                scalar(token, out)?;
                ended(&mut open, out);
            }
            _ => {}
        }
    }
    Ok(())
}

/// A list or an object whose end has not come yet.
struct Open {
    /// Where it begins in what has been written.
    from: usize,
    /// What an object has so far.
    names: Option<Names>,
}

#[derive(Default)]
struct Names {
    entries: Vec<Entry>,
    /// Where the name stands whose value comes next.
    under_way: Option<(usize, usize)>,
}

/// Where an entry of an object stands in what has been written: `"name":value`.
struct Entry {
    start: usize,
    name_end: usize,
    end: usize,
}

impl Open {
    fn wants_name(&self) -> bool {
        self.names.as_ref().is_some_and(|names| names.under_way.is_none())
    }
}

/// How long the first piece of a text is that is known to be JSON: a bracket, a string, what has no end of its own.
fn length(text: &str) -> usize {
    let bytes = text.as_bytes();
    match bytes[0] {
        b'"' => {
            let mut at = 1;
            while let Some(byte) = bytes.get(at) {
                match byte {
                    b'"' => return at + 1,
                    b'\\' => at += 2,
                    _ => at += 1,
                }
            }
            bytes.len()
        }
        b'-' | b'0'..=b'9' | b't' | b'f' | b'n' => {
            let part = |byte: &u8| byte.is_ascii_alphanumeric() || b"+-.".contains(byte);
            bytes.iter().position(|byte| !part(byte)).unwrap_or(bytes.len())
        }
        _ => 1,
    }
}

/// Writes a string, a number or a word.
fn scalar(token: &str, out: &mut Vec<u8>) -> serde_json::Result<()> {
    if token.starts_with('"') && !token.contains('\\') {
        // There is one way only to write it.
        out.extend_from_slice(token.as_bytes());
        return Ok(());
    }
    serde_json::to_writer(out, &serde_json::from_str::<Value>(token)?)
}

/// What has to be done behind a value.
fn ended(open: &mut [Open], out: &mut Vec<u8>) {
    let Some(around) = open.last_mut() else { return };
    if let Some(names) = &mut around.names
        && let Some((start, name_end)) = names.under_way.take()
    {
        names.entries.push(Entry { start, name_end, end: out.len() });
    }
    out.push(b',');
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
    fn what_is_nested_is_gone_through_and_not_down_into() {
        let nested = |depth: usize| {
            let text = format!("{} {{\"b\":1, \"a\":2}} {}", "[".repeat(depth), "]".repeat(depth));
            (written(&text), text)
        };
        for depth in [127, 128, DEEPEST - 1] {
            let (written, text) = nested(depth);
            let sorted = text.replace("\"b\":1, \"a\":2", "\"a\":2,\"b\":1").replace(' ', "");
            assert!(written.unwrap() == sorted, "{depth}");
        }
        assert!(nested(DEEPEST).0.unwrap_err().is_data());
        // Each of these would have to be written again with all that is in it.
        let depth = DEEPEST / 2;
        let unsorted = format!("{}1{}", "{\"b\":".repeat(depth), ",\"a\":1}".repeat(depth));
        assert!(written(&unsorted).unwrap_err().is_data());
        assert!(!written(&"[".repeat(200)).unwrap_err().is_data());
        assert!(!written(&"{\"a\":".repeat(200)).unwrap_err().is_data());
    }

    #[test]
    fn what_is_no_json_or_has_no_end_is_refused() {
        for text in ["", "{", "{\"a\"}", "[1,]", "{} x", "nonsense", "[1e999]", r#"["\ud800"]"#] {
            assert!(!written(text).unwrap_err().is_data(), "{text}");
        }
        let many = format!("[{}0]", "0,".repeat(MOST - 2));
        assert_eq!(written(&many).unwrap().len(), many.len());
        let error = written(&format!("[0,{}", &many[1..])).unwrap_err();
        assert!(error.is_data() && error.to_string().contains("too many"), "{error}");
    }
}
