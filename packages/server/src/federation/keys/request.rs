//! Who sent a request: the signature in its `Authorization` headers.

use std::fmt::Write;

use bytes::Bytes;
use http::{Request, header};
use ruma::{
    OwnedServerName, SigningKeyAlgorithm, api::federation::authentication::XMatrix,
    signatures::verify_canonical_json_bytes,
};
use serde_json::Value;

use super::{Keys, Wanted};

/// Why nobody knows who sent a request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The body is no JSON, so nothing can have been signed.
    #[error("The body is not JSON.")]
    NotJson,
    /// The signature is missing, not ours to check, or wrong: a sentence.
    #[error("{0}")]
    Unauthorized(String),
}

impl Keys {
    /// Checks the signatures of a request to us, and says who sent it. Of several headers those count that have keys
    /// which are known; one that is wrong is one too many.
    ///
    /// # Errors
    /// When nobody has signed it, or not like this.
    ///
    /// <https://spec.matrix.org/v1.19/server-server-api/#request-authentication>
    pub async fn verify_request(
        &self,
        request: &Request<Bytes>,
    ) -> Result<OwnedServerName, RequestError> {
        let headers = self.headers(request)?;
        let [first, ..] = &*headers else {
            return Err(unauthorized("This endpoint wants a request that a server has signed."));
        };
        let origin = first.origin.clone();
        if headers.iter().any(|header| header.origin != origin) {
            return Err(unauthorized("Several servers say that they have sent this request."));
        }
        let content = match &**request.body() {
            [] => None,
            body => Some(serde_json::from_slice(body).map_err(|_| RequestError::NotJson)?),
        };

        let now = self.now();
        let wanted = headers.iter().map(|header| (header.key.to_string(), Some(now)));
        let (known, missing) = self.find(&origin, &wanted.collect::<Wanted>(), true).await;
        let public = if origin == self.0.us {
            self.0.own.public(Some(now))
        } else {
            known.public(Some(now))
        };
        let mut verified = false;
        for header in &headers {
            let Some(key) = public.get(header.key.as_str()) else { continue };
            let object = signed(request, header, content.as_ref(), self.0.us.as_str());
            let (signature, key) = (header.sig.as_bytes(), key.as_bytes());
            verify_canonical_json_bytes(
                &SigningKeyAlgorithm::Ed25519,
                key,
                signature,
                object.as_bytes(),
            )
            .map_err(|_| {
                let id = &header.key;
                RequestError::Unauthorized(format!(
                    "The request is not what {origin} has signed with its key {id}."
                ))
            })?;
            verified = true;
        }
        if verified {
            return Ok(origin);
        }
        let ids: Vec<&str> = headers.iter().map(|header| header.key.as_str()).collect();
        let why = missing.map(|why| format!(": {why}")).unwrap_or_default();
        Err(RequestError::Unauthorized(format!(
            "The request's signature can't be checked, because {origin} has no valid key {}{why}.",
            ids.join(" or ")
        )))
    }

    /// The headers of this scheme, each of which must be for us.
    fn headers(&self, request: &Request<Bytes>) -> Result<Vec<XMatrix>, RequestError> {
        let mut found = Vec::new();
        for value in request.headers().get_all(header::AUTHORIZATION) {
            let Ok(value) = value.to_str() else { continue };
            let (scheme, rest) = value.trim().split_once(' ').unwrap_or((value, ""));
            if !scheme.eq_ignore_ascii_case(XMatrix::AUTH_SCHEME) {
                continue;
            }
            // There may be more than one space behind the scheme, which the parser does not know.
            let header = format!("{scheme} {}", rest.trim());
            let header = XMatrix::parse(header).map_err(|error| {
                RequestError::Unauthorized(format!(
                    "The Authorization header can't be understood: {error}."
                ))
            })?;
            if let Some(destination) = &header.destination
                && *destination != self.0.us
            {
                return Err(RequestError::Unauthorized(format!(
                    "The request is signed for {destination}, and this is {}.",
                    self.0.us
                )));
            }
            found.push(header);
        }
        Ok(found)
    }
}

fn unauthorized(sentence: &str) -> RequestError {
    RequestError::Unauthorized(sentence.to_owned())
}

/// What the sender has signed, as canonical JSON.
fn signed(request: &Request<Bytes>, header: &XMatrix, content: Option<&Value>, us: &str) -> String {
    let uri = request.uri().path_and_query().map_or("/", |uri| uri.as_str());
    let text = |text: &str| Value::String(text.to_owned());
    let mut object = serde_json::Map::from_iter([
        ("method".to_owned(), text(request.method().as_str())),
        ("origin".to_owned(), text(header.origin.as_str())),
        ("uri".to_owned(), text(uri)),
    ]);
    // What was not signed with a destination is a request of an old server.
    let destination = header.destination.as_ref().map_or(us, |name| name.as_str());
    object.insert("destination".to_owned(), text(destination));
    if let Some(content) = content {
        object.insert("content".to_owned(), content.clone());
    }
    let mut out = String::new();
    canonical(&Value::Object(object), &mut out);
    out
}

/// Writes JSON with sorted keys and without space. Unlike ruma's, it also takes numbers that are not canonical: one event
/// with such a number makes an event that is dropped, and not a transaction that can never be delivered.
fn canonical(value: &Value, out: &mut String) {
    match value {
        Value::Object(object) => {
            let mut entries: Vec<_> = object.iter().collect();
            entries.sort_unstable_by_key(|(key, _)| *key);
            out.push('{');
            for (index, (key, value)) in entries.into_iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                // Writing to a string does not fail.
                let _ = write!(out, "{}:", Value::from(key.as_str()));
                canonical(value, out);
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                canonical(item, out);
            }
            out.push(']');
        }
        plain => {
            let _ = write!(out, "{plain}");
        }
    }
}
