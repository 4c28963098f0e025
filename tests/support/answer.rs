//! What the server answered, and what a test expects of it.

use reqwest::header::HeaderMap;
use serde_json::Value;

/// An answer of the client API, with what was asked for the messages of failing tests.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    /// `Null` when the body was no JSON.
    pub body: Value,
    pub text: String,
    pub asked: String,
}

impl Answer {
    pub async fn of(asked: String, response: reqwest::Response) -> Self {
        Self::try_of(asked, response).await.expect("the body of an answer")
    }

    /// Nothing when the connection breaks in the middle of the body.
    pub async fn try_of(asked: String, response: reqwest::Response) -> Option<Self> {
        let status = response.status().as_u16();
        let headers = response.headers().clone();
        let text = response.text().await.ok()?;
        let body = serde_json::from_str(&text).unwrap_or_default();
        Some(Self { status, headers, body, text, asked })
    }

    /// The body of an answer that must be a success.
    #[track_caller]
    pub fn granted(self) -> Value {
        assert_eq!(self.status, 200, "{} was answered {}: {}", self.asked, self.status, self.text);
        self.body
    }

    /// A string of a successful answer's body.
    #[track_caller]
    pub fn granted_str(self, key: &str) -> String {
        let asked = self.asked.clone();
        let body = self.granted();
        body[key].as_str().unwrap_or_else(|| panic!("{asked}: no `{key}` in {body}")).to_owned()
    }

    /// The id of the event that a successful request has made.
    #[track_caller]
    pub fn event_id(self) -> String {
        self.granted_str("event_id")
    }

    /// An error in the shape that Matrix gives errors, with a sentence that is one.
    #[track_caller]
    pub fn refused(self, status: u16, errcode: &str) -> Sentence {
        let got = (self.status, self.body["errcode"].as_str());
        assert_eq!(got, (status, Some(errcode)), "{} was answered {}", self.asked, self.text);
        self.refused_with_status(status)
    }

    /// An error with this status, where the specification leaves the code open.
    #[track_caller]
    pub fn refused_with_status(self, status: u16) -> Sentence {
        let Self { asked, text, body, .. } = self;
        assert_eq!(self.status, status, "{asked} was answered {text}");
        let errcode = body["errcode"].as_str().unwrap_or_default();
        assert!(errcode.starts_with("M_"), "{asked}: no errcode in {text}");
        let sentence = body["error"].as_str().unwrap_or_default().to_owned();
        assert!(
            sentence.split_whitespace().count() >= 3 && !sentence.contains("Error"),
            "{asked}: `{sentence}` helps nobody",
        );
        Sentence { asked, text: sentence }
    }

    /// Not yet: what is still to be done to prove who one is (401 with flows and a session).
    #[track_caller]
    pub fn refused_challenge(self) -> Value {
        let challenge = self.body["flows"].is_array() && self.body["session"].is_string();
        assert!(self.status == 401 && challenge, "{} was answered {}", self.asked, self.text);
        self.body
    }

    /// The commonest refusal: 403 `M_FORBIDDEN`.
    #[track_caller]
    pub fn forbidden(self) -> Sentence {
        self.refused(403, "M_FORBIDDEN")
    }
}

/// The sentence of a refusal.
#[derive(Debug)]
pub struct Sentence {
    asked: String,
    text: String,
}

impl Sentence {
    /// The sentence names this (letter case aside).
    #[track_caller]
    pub fn says(self, what: &str) -> Self {
        let found = self.text.to_lowercase().contains(&what.to_lowercase());
        assert!(found, "{}: `{}` does not say `{what}`", self.asked, self.text);
        self
    }
}
