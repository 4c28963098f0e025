//! Who sent a request: the signature in its `Authorization` headers.

use bytes::Bytes;
use http::{Method, Request, header};
use ruma::{
    OwnedServerName, SigningKeyAlgorithm,
    api::federation::authentication::XMatrix,
    signatures::{PublicKeySet, verify_canonical_json_bytes},
};
use serde_json::json;

use super::{Keys, Wanted, canonical};

/// How many signatures of a request are looked at.
const MOST_SIGNATURES: usize = 4;
/// From how many bytes on a body is read beside other large ones, a few at a time.
const LARGE: usize = 64 << 10;
/// How many large bodies are read at the same time.
pub(super) const LARGE_AT_ONCE: usize = 4;

/// Why nobody knows who sent a request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The body is no JSON, so nothing can have been signed.
    #[error("The body is not JSON.")]
    NotJson,
    /// The body is small enough, and has too much in it.
    #[error(
        "The body has more than {} values, which is more than any request needs.",
        canonical::MOST
    )]
    TooMuch,
    /// The signature is missing, not ours to check, or wrong: a sentence.
    #[error("{0}")]
    Unauthorized(String),
}

impl Keys {
    /// Checks the signatures of a request to us, and says who sent it. Of several headers those count that have keys
    /// which are known; one that is wrong is one too many. The body is not looked at before there is a key: until then
    /// anybody may have sent it.
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
        let public = self.public_for(&origin, &headers).await?;
        let claim = Claim {
            origin: origin.clone(),
            destination: self.0.us.clone(),
            headers,
            public,
            method: request.method().clone(),
            uri: request.uri().path_and_query().map_or("/", |uri| uri.as_str()).to_owned(),
            body: request.body().clone(),
        };
        if claim.body.len() < LARGE {
            claim.check()?;
        } else {
            // Never closed.
            let _turn = self.0.large.acquire().await;
            match tokio::task::spawn_blocking(move || claim.check()).await {
                Ok(checked) => checked?,
                Err(error) => std::panic::resume_unwind(error.into_panic()),
            }
        }
        Ok(origin)
    }

    /// The keys of whoever says that they have sent the request, one of which at least has signed it.
    async fn public_for(
        &self,
        origin: &OwnedServerName,
        headers: &[XMatrix],
    ) -> Result<PublicKeySet, RequestError> {
        let now = self.now();
        let wanted = headers.iter().map(|header| (header.key.to_string(), Some(now)));
        let (known, missing) = self.find(origin, &wanted.collect::<Wanted>(), true).await;
        let public = if *origin == self.0.us {
            self.0.own.public(Some(now))
        } else {
            known.public(Some(now))
        };
        if headers.iter().any(|header| public.contains_key(header.key.as_str())) {
            return Ok(public);
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
            let header = format!("{scheme} {}", in_quotes(rest.trim()));
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
            if found.len() == MOST_SIGNATURES {
                let sentence = format!("The request has more than {MOST_SIGNATURES} signatures.");
                return Err(RequestError::Unauthorized(sentence));
            }
            found.push(header);
        }
        Ok(found)
    }
}

/// Parameters with each value in quotes. Old servers leave them out also where a value has a colon, as a name with a port
/// and the id of a key have; the parser takes only tokens without quotes.
fn in_quotes(parameters: &str) -> String {
    enum Place {
        Between,
        Quoted,
        Bare,
    }
    let mut out = String::with_capacity(parameters.len() + 8);
    let mut place = Place::Between;
    let mut chars = parameters.chars().peekable();
    while let Some(char) = chars.next() {
        if matches!((&place, char), (Place::Bare, ',' | ' ' | '\t')) {
            out.push('"');
            place = Place::Between;
        }
        out.push(char);
        place = match (place, char) {
            (Place::Quoted, '\\') => {
                out.extend(chars.next());
                Place::Quoted
            }
            (Place::Quoted, '"') => Place::Between,
            (Place::Between, '"') => Place::Quoted,
            (Place::Between, '=') if !matches!(chars.peek(), Some('"' | ' ' | '\t')) => {
                out.push('"');
                Place::Bare
            }
            (place, _) => place,
        };
    }
    if matches!(place, Place::Bare) {
        out.push('"');
    }
    out
}

fn unauthorized(sentence: &str) -> RequestError {
    RequestError::Unauthorized(sentence.to_owned())
}

/// A request, and who says that they have signed it.
struct Claim {
    origin: OwnedServerName,
    destination: OwnedServerName,
    headers: Vec<XMatrix>,
    public: PublicKeySet,
    method: Method,
    uri: String,
    body: Bytes,
}

impl Claim {
    fn check(&self) -> Result<(), RequestError> {
        let signed = self.signed()?;
        for header in &self.headers {
            let Some(key) = self.public.get(header.key.as_str()) else { continue };
            let (key, signature) = (key.as_bytes(), header.sig.as_bytes());
            verify_canonical_json_bytes(&SigningKeyAlgorithm::Ed25519, key, signature, &signed)
                .map_err(|_| {
                    RequestError::Unauthorized(format!(
                        "The request is not what {} has signed with its key {}.",
                        self.origin, header.key
                    ))
                })?;
        }
        Ok(())
    }

    /// What the sender has signed, as canonical JSON.
    fn signed(&self) -> Result<Vec<u8>, RequestError> {
        // What was not signed with a destination is a request of an old server.
        let rest = json!({
            "destination": self.destination,
            "method": self.method.as_str(),
            "origin": self.origin,
            "uri": self.uri,
        });
        let rest = rest.to_string();
        if self.body.is_empty() {
            return Ok(rest.into_bytes());
        }
        // The one key that comes before all others.
        let mut out = b"{\"content\":".to_vec();
        canonical::write(&self.body, &mut out).map_err(|error| {
            if error.is_data() { RequestError::TooMuch } else { RequestError::NotJson }
        })?;
        out.push(b',');
        out.extend_from_slice(rest.trim_start_matches('{').as_bytes());
        Ok(out)
    }
}
