//! `GET /_matrix/client/v3/sync`
//!
//! What has happened since the client asked last, or everything if it never has.
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3sync>

use std::{str::FromStr, sync::Arc, time::Duration};

use http::{HeaderValue, header};
use ruma::{
    UserId,
    api::{
        BytesBody, IncomingRequest, OutgoingResponse,
        client::{
            filter::FilterDefinition,
            sync::sync_events::v3::{self, Filter},
        },
        error::{DeserializationError, IntoHttpError},
    },
};

use crate::{
    app::App,
    http::{ApiError, Matrix, alike},
    sync::{
        token::StreamToken,
        v3::{Answer, Question, StateForm, sync as answer},
    },
};

/// How long a client may let itself be kept waiting. Without news it asks again, which costs little; what is forgotten on
/// the way would otherwise wait for ever.
const LONGEST: Duration = Duration::from_mins(10);

/// ruma's request, and a parameter by the name that it had before it was stable, which clients still use.
pub(super) struct Request {
    sync: v3::Request,
    use_state_after_unstable: bool,
}

/// An answer in its own shape.
pub(super) struct Response(Answer);

pub(super) async fn sync(app: App, request: Matrix<Request>) -> Result<Response, ApiError> {
    let Matrix { request: Request { sync, use_state_after_unstable }, identity, .. } = request;
    let since = sync.since.as_deref().map(StreamToken::from_str).transpose()?;
    let question = Question {
        filter: filter(&app, &identity.user_id, sync.filter).await?,
        user: identity.user_id.clone(),
        device: identity.device_id.clone(),
        since,
        timeout: sync.timeout.unwrap_or(Duration::ZERO).min(LONGEST),
        full_state: sync.full_state,
        form: match (sync.use_state_after, use_state_after_unstable) {
            (true, _) => StateForm::After,
            (false, true) => StateForm::AfterUnstable,
            (false, false) => StateForm::Before,
        },
    };
    tokio::select! {
        // The answer first: one that needs no waiting asks nothing about the session.
        biased;
        answer = answer(&app.rooms, &app.clock, &app.shutdown, &question) => Ok(Response(answer?)),
        ended = app.users.ended(&identity) => {
            ended?;
            Err(ApiError::session_ended())
        }
    }
}

/// The filter that a client names or spells out.
async fn filter(
    app: &App,
    user: &UserId,
    filter: Option<Filter>,
) -> Result<Arc<FilterDefinition>, ApiError> {
    match filter {
        None => Ok(Arc::default()),
        Some(Filter::FilterDefinition(filter)) => Ok(Arc::new(filter)),
        // What begins like JSON is no id; here it could not be read as a filter.
        Some(Filter::FilterId(text)) if text.trim_start().starts_with('{') => {
            let why = serde_json::from_str::<FilterDefinition>(&text).err();
            let why = why.map(|error| format!(": {error}")).unwrap_or_default();
            Err(ApiError::bad_json(format!("The filter is not one{why}.")))
        }
        Some(Filter::FilterId(id)) => app.users.filter(user, &id).await?.ok_or_else(|| {
            ApiError::invalid_param(format!("You have no filter with the id {id:?}."))
        }),
        Some(_) => Err(ApiError::invalid_param("The filter is neither an id nor a filter.")),
    }
}

alike!(Request => v3::Request);

impl IncomingRequest for Request {
    type EndpointError = <v3::Request as IncomingRequest>::EndpointError;
    type OutgoingResponse = Response;

    fn try_from_http_request_inner(
        request: http::Request<&[u8]>,
        path: &[&str],
    ) -> Result<Self, DeserializationError> {
        let use_state_after_unstable = request.uri().query().is_some_and(|query| {
            query.split('&').any(|pair| pair == "org.matrix.msc4222.use_state_after=true")
        });
        let sync = v3::Request::try_from_http_request_inner(request, path)?;
        Ok(Self { sync, use_state_after_unstable })
    }
}

impl OutgoingResponse for Response {
    type Body = BytesBody;

    fn try_into_http_response_inner(self) -> Result<http::Response<BytesBody>, IntoHttpError> {
        let mut response = http::Response::new(BytesBody(serde_json::to_vec(&self.0)?));
        let json = HeaderValue::from_static("application/json");
        response.headers_mut().insert(header::CONTENT_TYPE, json);
        Ok(response)
    }
}
