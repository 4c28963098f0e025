//! `GET https://⟨host⟩/.well-known/matrix/server`, and how long its answer holds.
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#getwell-knownmatrixserver>

use std::time::Duration;

use http::{HeaderMap, header};
use moka::sync::Cache;
use reqwest::{Client, Response, Url};
use ruma::{MilliSecondsSinceUnixEpoch, OwnedServerName};

use crate::{
    clock::{Clock, later},
    federation::Backoff,
};

/// The largest answer that is read, in bytes.
const LIMIT: usize = 50 << 10;
/// How long an answer holds that does not say how long it holds.
const DEFAULT: Duration = Duration::from_hours(24);
/// No answer holds for longer.
const LONGEST: Duration = Duration::from_hours(48);
/// No answer holds for less: a server is not asked for each of its events.
const SHORTEST: Duration = Duration::from_mins(5);
/// How long nobody asks again after a failure.
const FAILED: Backoff = Backoff { first: Duration::from_mins(2), longest: Duration::from_hours(1) };
/// How many hosts are remembered.
const REMEMBERED: u64 = 10_000;
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Asks hosts whom they delegate to, and remembers what they say.
#[derive(Clone, Debug)]
pub(in crate::federation) struct WellKnown {
    client: Client,
    clock: Clock,
    remembered: Cache<String, Remembered>,
}

/// What a host said.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Remembered {
    server: Option<OwnedServerName>,
    /// Until when nobody asks again.
    until: MilliSecondsSinceUnixEpoch,
    /// Until when the answer may be used while the host does not answer.
    usable: MilliSecondsSinceUnixEpoch,
    /// How often in a row it did not answer.
    failures: u32,
}

/// What came of asking.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Answer {
    /// The host delegates, for so long.
    Delegated(OwnedServerName, Duration),
    /// It does not.
    Nothing,
    /// It could not be asked.
    Failed,
}

impl WellKnown {
    /// With a client that follows redirects as far as it should, and connects only where it may.
    pub(in crate::federation) fn new(client: Client, clock: Clock) -> Self {
        Self { client, clock, remembered: Cache::new(REMEMBERED) }
    }

    /// The server that a host delegates to, if it does and says so.
    pub(in crate::federation) async fn delegated(&self, host: &str) -> Option<OwnedServerName> {
        let known = self.remembered.get(host);
        let now = self.clock.now();
        if let Some(known) = &known
            && known.until > now
        {
            return known.server.clone();
        }
        let url = Url::parse(&format!("https://{host}/.well-known/matrix/server")).ok()?;
        // Names that URLs take for addresses are none here.
        url.domain()?;
        let answer = tokio::time::timeout(PATIENCE, self.ask(url)).await.unwrap_or(Answer::Failed);
        let remembered = remember(known, answer, now);
        self.remembered.insert(host.to_owned(), remembered.clone());
        remembered.server
    }

    async fn ask(&self, url: Url) -> Answer {
        let Ok(response) = self.client.get(url).send().await else { return Answer::Failed };
        if response.status().is_server_error() {
            return Answer::Failed;
        }
        if !response.status().is_success() {
            return Answer::Nothing;
        }
        let holds = holds(response.headers(), self.clock.now());
        match read(response).await {
            Some(server) => Answer::Delegated(server, holds),
            None => Answer::Nothing,
        }
    }
}

/// The answer's body, which may claim to be something else than JSON; none, where it is no delegation.
async fn read(mut response: Response) -> Option<OwnedServerName> {
    #[derive(serde::Deserialize)]
    struct Body {
        #[serde(rename = "m.server")]
        server: OwnedServerName,
    }
    let mut body = Vec::new();
    while let Some(part) = response.chunk().await.ok()? {
        body.extend_from_slice(&part);
        if body.len() > LIMIT {
            return None;
        }
    }
    serde_json::from_slice::<Body>(&body).ok().map(|body| body.server)
}

/// What is remembered after asking.
fn remember(
    known: Option<Remembered>,
    answer: Answer,
    now: MilliSecondsSinceUnixEpoch,
) -> Remembered {
    match answer {
        Answer::Delegated(server, holds) => Remembered {
            server: Some(server),
            until: later(now, holds),
            usable: later(now, LONGEST),
            failures: 0,
        },
        Answer::Nothing => {
            let until = later(now, FAILED.longest);
            Remembered { server: None, until, usable: until, failures: 0 }
        }
        Answer::Failed => {
            let failures = known.as_ref().map_or(0, |known| known.failures).saturating_add(1);
            let until = later(now, FAILED.after(failures));
            // A host that is away for a moment has not moved its server.
            let usable = known.filter(|known| known.usable > now);
            let (server, usable) = usable.map_or((None, now), |known| (known.server, known.usable));
            Remembered { server, until, usable, failures }
        }
    }
}

/// For how long an answer holds: what its headers say, within bounds.
fn holds(headers: &HeaderMap, now: MilliSecondsSinceUnixEpoch) -> Duration {
    let text = |name| headers.get(name).and_then(|value: &http::HeaderValue| value.to_str().ok());
    let directives: Vec<String> = headers
        .get_all(header::CACHE_CONTROL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|directive| directive.trim().to_ascii_lowercase())
        .collect();
    let said = if directives.iter().any(|one| one == "no-store" || one == "no-cache") {
        Some(Duration::ZERO)
    } else {
        let age = directives.iter().find_map(|one| one.strip_prefix("max-age="));
        let age = age.and_then(|age| age.trim_matches('"').parse().ok()).map(Duration::from_secs);
        age.or_else(|| {
            let expires = text(header::EXPIRES)?;
            // What can't be read is in the past.
            Some(date(expires).map_or(Duration::ZERO, |expires| {
                Duration::from_millis(expires.saturating_sub(now.0.into()))
            }))
        })
    };
    said.unwrap_or(DEFAULT).clamp(SHORTEST, LONGEST)
}

/// Reads `Sun, 06 Nov 1994 08:49:37 GMT`, in milliseconds since 1970.
fn date(text: &str) -> Option<u64> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let words: Vec<&str> = text.split_whitespace().collect();
    let [_, day, month, year, time, "GMT"] = words[..] else { return None };
    let month = u64::try_from(MONTHS.iter().position(|name| *name == month)?).ok()?;
    let (day, year): (u64, u64) = (day.parse().ok()?, year.parse().ok()?);
    let mut time = time.split(':').map(|part| part.parse::<u64>().ok());
    let (hours, minutes, seconds) = (time.next()??, time.next()??, time.next()??);
    if !(1970..10_000).contains(&year) || !(1..=31).contains(&day) || hours > 24 || minutes > 60 {
        return None;
    }
    // Days since 1970 of the proleptic Gregorian calendar; years begin in March here.
    let (year, month) = if month < 2 { (year - 1, month + 10) } else { (year, month - 2) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1;
    let days = days.checked_sub(719_468)?;
    Some((((days * 24 + hours) * 60 + minutes) * 60 + seconds) * 1000)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use ruma::{UInt, server_name};

    use super::*;

    fn now() -> MilliSecondsSinceUnixEpoch {
        MilliSecondsSinceUnixEpoch(UInt::new_saturating(784_111_777_000))
    }

    fn holding(headers: &[(&'static str, &'static str)]) -> Duration {
        let headers = headers
            .iter()
            .map(|(name, value)| {
                (http::HeaderName::from_static(name), HeaderValue::from_static(value))
            })
            .collect();
        holds(&headers, now())
    }

    #[test]
    fn dates_are_read() {
        assert_eq!(date("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777_000));
        assert_eq!(date("Thu, 01 Jan 1970 00:00:00 GMT"), Some(0));
        assert_eq!(date("Thu, 29 Feb 2024 12:00:00 GMT"), Some(1_709_208_000_000));
        for nonsense in
            ["0", "", "Sun, 99 Foo 1994 08:49:37 GMT", "Sun, 06 Nov 99999999 08:49:37 GMT"]
        {
            assert_eq!(date(nonsense), None, "{nonsense}");
        }
    }

    #[test]
    fn an_answer_holds_as_long_as_it_says_within_bounds() {
        assert_eq!(holding(&[]), DEFAULT);
        assert_eq!(holding(&[("cache-control", "public, max-age=7200")]), Duration::from_hours(2));
        assert_eq!(holding(&[("cache-control", "max-age=99999999")]), LONGEST);
        assert_eq!(holding(&[("cache-control", "Max-Age=1")]), SHORTEST);
        assert_eq!(holding(&[("cache-control", "no-store")]), SHORTEST);
        let expires = ("expires", "Sun, 06 Nov 1994 10:49:37 GMT");
        assert_eq!(holding(&[expires]), Duration::from_hours(2));
        let both = [("cache-control", "max-age=3600"), expires];
        assert_eq!(holding(&both), Duration::from_hours(1));
        assert_eq!(holding(&[("expires", "0")]), SHORTEST);
    }

    #[test]
    fn failures_are_remembered_longer_each_time_and_forget_nothing() {
        let after = |by| later(now(), by);
        let server = server_name!("matrix.example").to_owned();
        let known =
            remember(None, Answer::Delegated(server.clone(), Duration::from_hours(1)), now());
        assert_eq!(known.until, after(Duration::from_hours(1)));

        let failed = remember(Some(known), Answer::Failed, after(Duration::from_hours(1)));
        assert_eq!(failed.server, Some(server));
        assert_eq!(failed.until, later(after(Duration::from_hours(1)), FAILED.first));
        let mut failed = remember(Some(failed), Answer::Failed, after(LONGEST));
        assert_eq!(failed.server, None);
        assert_eq!(failed.until, later(after(LONGEST), FAILED.first * 2));
        for _ in 0..40 {
            failed = remember(Some(failed), Answer::Failed, now());
        }
        assert_eq!(failed.until, after(FAILED.longest));

        let nothing = remember(Some(failed), Answer::Nothing, now());
        assert_eq!((nothing.server, nothing.failures), (None, 0));
    }

    #[tokio::test]
    async fn an_answer_is_read_whatever_it_says_it_is() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let good = r#"{ "m.server": "matrix.example:443", "more": [] }"#;
        let large = format!("{{{} \"m.server\": \"a\" }}", " ".repeat(LIMIT));
        let routes = axum::Router::new().fallback(async move |uri: http::Uri| match uri.path() {
            "/good" => (http::StatusCode::OK, good.to_owned()),
            "/large" => (http::StatusCode::OK, large),
            "/bad" => (http::StatusCode::OK, r#"{ "m.server": "a b" }"#.to_owned()),
            "/down" => (http::StatusCode::BAD_GATEWAY, good.to_owned()),
            _ => (http::StatusCode::NOT_FOUND, good.to_owned()),
        });
        tokio::spawn(async move { axum::serve(listener, routes).await });
        let tls = crate::federation::tls::config(None, true).unwrap();
        let client = Client::builder().tls_backend_preconfigured(tls).build().unwrap();
        let well_known = WellKnown::new(client, Clock::machine());
        let ask =
            async |path: &str| well_known.ask(Url::parse(&format!("{base}{path}")).unwrap()).await;
        let server = server_name!("matrix.example:443").to_owned();
        assert_eq!(ask("/good").await, Answer::Delegated(server, DEFAULT));
        for nothing in ["/large", "/bad", "/missing"] {
            assert_eq!(ask(nothing).await, Answer::Nothing, "{nothing}");
        }
        assert_eq!(ask("/down").await, Answer::Failed);
    }
}
