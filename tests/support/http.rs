//! Requests to one server, in the words of the client API.

use reqwest::{Client, Method, RequestBuilder, Url};
use serde_json::Value;

use super::answer::Answer;

/// A connection to one server, with the access token of one of its users or without.
#[derive(Clone)]
pub struct Http {
    client: Client,
    base: Url,
    token: Option<String>,
}

impl Http {
    pub fn new(base: &str) -> Self {
        // For the whole process; fails when another connection has done it already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let base = Url::parse(base).expect("the address of a server");
        Self { client: Client::new(), base, token: None }
    }

    /// The same connection with somebody's access token.
    pub fn with_token(&self, token: &str) -> Self {
        Self { token: Some(token.to_owned()), ..self.clone() }
    }

    /// An address below the server's; every segment is encoded by itself.
    pub fn url(&self, segments: &[&str]) -> Url {
        let mut url = self.base.clone();
        url.path_segments_mut().expect("an address with a path").clear().extend(segments);
        url
    }

    /// A request with the token and nothing else.
    pub fn request(&self, method: Method, url: Url) -> RequestBuilder {
        let request = self.client.request(method, url);
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    /// Sends what was prepared.
    pub async fn send(&self, request: RequestBuilder) -> Answer {
        let request = request.build().expect("a well-formed request");
        let asked = format!("{} {}", request.method(), request.url());
        let response = self.client.execute(request).await;
        Answer::of(asked.clone(), response.unwrap_or_else(|error| panic!("{asked}: {error:?}")))
            .await
    }

    /// The same, for servers that may die while they are asked: nothing when no answer comes.
    async fn try_send(&self, request: RequestBuilder) -> Option<Answer> {
        let request = request.build().expect("a well-formed request");
        let asked = format!("{} {}", request.method(), request.url());
        let response = self.client.execute(request).await.ok()?;
        Answer::try_of(asked, response).await
    }

    pub async fn try_get(&self, segments: &[&str]) -> Option<Answer> {
        self.try_send(self.request(Method::GET, self.url(segments))).await
    }

    pub async fn try_query(&self, segments: &[&str], query: &[(&str, &str)]) -> Option<Answer> {
        self.try_send(self.request(Method::GET, self.url(segments)).query(query)).await
    }

    pub async fn try_put(&self, segments: &[&str], body: &Value) -> Option<Answer> {
        self.try_send(self.request(Method::PUT, self.url(segments)).json(body)).await
    }

    pub async fn try_post(&self, segments: &[&str], body: &Value) -> Option<Answer> {
        self.try_send(self.request(Method::POST, self.url(segments)).json(body)).await
    }

    pub async fn get(&self, segments: &[&str]) -> Answer {
        self.send(self.request(Method::GET, self.url(segments))).await
    }

    pub async fn query(&self, segments: &[&str], query: &[(&str, &str)]) -> Answer {
        self.send(self.request(Method::GET, self.url(segments)).query(query)).await
    }

    pub async fn post(&self, segments: &[&str], body: &Value) -> Answer {
        self.send(self.request(Method::POST, self.url(segments)).json(body)).await
    }

    /// A POST without any body, as some clients send it.
    pub async fn post_empty(&self, segments: &[&str]) -> Answer {
        self.send(self.request(Method::POST, self.url(segments))).await
    }

    pub async fn put(&self, segments: &[&str], body: &Value) -> Answer {
        self.send(self.request(Method::PUT, self.url(segments)).json(body)).await
    }

    pub async fn delete(&self, segments: &[&str]) -> Answer {
        self.send(self.request(Method::DELETE, self.url(segments))).await
    }
}
