//! One candidate: its template, our join, its answer, and what is made of that.

use std::{sync::Arc, time::Duration};

use matryx_core::{event::Pdu, membership::Membership, room::Judgement};
use ruma::{
    CanonicalJsonObject, OwnedEventId, OwnedServerName, OwnedUserId, RoomVersionId, ServerName,
    api::federation::membership::{create_join_event, prepare_join_event},
    room_version_rules::RoomVersionRules,
};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    Wish,
    answer::{self, Answer},
    failures::{Failure, Why},
};
use crate::{
    app::App,
    config::ROOM_VERSIONS,
    federation::inbox,
    membership::{content, out_of_band::Undo, profile, template},
    room::{Import, ImportError, Received, SendError},
};

/// How long a candidate may take for a template.
const TEMPLATE: Duration = Duration::from_secs(30);
/// How long it may take until it begins to answer a join: it has the state of a large room to put together.
const JOIN: Duration = Duration::from_mins(3);

/// What is being done, as users are told.
pub(super) const MAKE: &str = "make_join";
pub(super) const SEND: &str = "send_join";

/// A candidate that would let the user in.
pub(super) struct Offer {
    pub(super) server: OwnedServerName,
    version: RoomVersionId,
    rules: RoomVersionRules,
    template: Box<RawValue>,
    /// Who vouches for the join.
    authoriser: Option<OwnedUserId>,
}

/// Why a join through a candidate came to nothing.
pub(super) enum Undone {
    /// By its fault: another one may do better.
    Theirs(Failure),
    /// By ours.
    Ours(SendError),
}

impl From<SendError> for Undone {
    fn from(error: SendError) -> Self {
        Self::Ours(error)
    }
}

/// Asks a candidate for a template.
pub(super) async fn ask(app: &App, wish: &Wish, server: OwnedServerName) -> Result<Offer, Failure> {
    match offer(app, wish, &server).await {
        Ok(offer) => Ok(offer),
        Err(why) => Err(Failure { server, stage: MAKE, why }),
    }
}

async fn offer(app: &App, wish: &Wish, server: &OwnedServerName) -> Result<Offer, Why> {
    #[derive(Deserialize)]
    struct Template {
        content: Content,
    }
    #[derive(Deserialize)]
    struct Content {
        join_authorised_via_users_server: Option<OwnedUserId>,
    }

    let mut request = prepare_join_event::v1::Request::new(wish.room.clone(), wish.user.clone());
    request.ver = ROOM_VERSIONS.to_vec();
    // A user asks for this now, whatever was the matter with the server before.
    let client = app.federation.client().anyway();
    let answer = client.ask(server, request, TEMPLATE).await.map_err(Why::Peer)?;
    let version = answer.room_version.unwrap_or(RoomVersionId::V1);
    let rules = version.rules().filter(|_| ROOM_VERSIONS.contains(&version));
    let Some(rules) = rules else { return Err(Why::Version(version)) };
    let authoriser = if rules.authorization.restricted_join_rule {
        let template: Template = serde_json::from_str(answer.event.get())
            .map_err(|error| Why::Wrong(format!("its template is no event: {error}")))?;
        template.content.join_authorised_via_users_server
    } else {
        None
    };
    let offer =
        Offer { server: server.clone(), version, rules, template: answer.event, authoriser };
    // What is wrong with a template shows when it is sealed. Nothing of that is kept: the time moves on.
    let content =
        content::of_member(Membership::Joined, wish.content.clone(), &CanonicalJsonObject::new());
    offer.seal(app, wish, content).map_err(Why::Wrong)?;
    Ok(offer)
}

impl Offer {
    /// The join through it came to nothing.
    fn failed(&self, why: Why) -> Undone {
        Undone::Theirs(Failure { server: self.server.clone(), stage: SEND, why })
    }

    fn seal(&self, app: &App, wish: &Wish, content: CanonicalJsonObject) -> Result<Pdu, String> {
        let content = match &self.authoriser {
            Some(by) => content::authorised(content, by),
            None => content,
        };
        let wanted = template::Wanted {
            room: &wish.room,
            user: &wish.user,
            membership: Membership::Joined,
            content,
        };
        template::sealed(app, &self.template, wanted, &self.rules)
    }
}

/// Takes an offer: seals the join, sends it, and takes in the room. What the room has let in, or may have, and does not come
/// in here is taken back later.
pub(super) async fn take(app: &App, wish: &Wish, offer: Offer) -> Result<OwnedEventId, Undone> {
    let profile = profile::of(app, &wish.user).await.map_err(SendError::from)?;
    let content = content::of_member(Membership::Joined, wish.content.clone(), &profile);
    let own = offer.seal(app, wish, content).map_err(|why| offer.failed(Why::Wrong(why)))?;
    let (version, server) = (&offer.version, &offer.server);
    let undo = Undo::prepare(app, &own, version, server, &wish.via).await;
    let undo = undo.map_err(SendError::from)?;
    let taken = hand_in(app, wish, &offer, &own).await;
    match &taken {
        Ok(_) => undo.needless(app).await,
        Err(Undone::Theirs(failure)) if failure.is_refusal() => undo.refused(app).await,
        Err(_) => {}
    }
    taken
}

async fn hand_in(app: &App, wish: &Wish, offer: &Offer, own: &Pdu) -> Result<OwnedEventId, Undone> {
    let theirs = |why: Why| offer.failed(why);
    let server = &offer.server;
    let pdu = RawValue::from_string(own.json().to_owned())
        .map_err(|error| theirs(Why::Wrong(error.to_string())))?;
    let request =
        create_join_event::v2::Request::new(wish.room.clone(), own.event_id().clone(), pdu);
    let client = app.federation.client().anyway();
    let response =
        client.ask_streamed(server, request, JOIN).await.map_err(|why| theirs(Why::Peer(why)))?;
    let answer = answer::read(app, response.into_body(), &offer.rules).await.map_err(theirs)?;
    let event = signed(app, own, &answer, offer).await.map_err(|why| theirs(Why::Wrong(why)))?;
    let event_id = event.event_id().clone();
    if answer.dropped > 0 {
        tracing::info!(
            room = %wish.room, %server, dropped = answer.dropped, "join.events_dropped"
        );
    }
    // Before the room is here: an end in between would leave it without them for ever.
    answer.left_out.keep(app, &wish.room, &event_id).await?;
    let import = Import {
        room_id: wish.room.clone(),
        version: offer.version.clone(),
        state: answer.state,
        auth_chain: answer.auth_chain,
        event: Arc::clone(&event),
    };
    match app.rooms.import(import).await {
        Ok(_) => Ok(event_id),
        Err(ImportError::Unfit(why)) => Err(theirs(Why::Wrong(why))),
        Err(ImportError::Failed(error)) => Err(error.into()),
        Err(ImportError::Held) => heard(app, server, event).await.map_err(|undone| match undone {
            Unheard::Theirs(why) => theirs(Why::Wrong(why)),
            Unheard::Ours(error) => Undone::Ours(error),
        }),
    }
}

/// Our join as it is in the room: with the signature of whoever vouches for it.
async fn signed(app: &App, own: &Pdu, answer: &Answer, offer: &Offer) -> Result<Arc<Pdu>, String> {
    let Some(event) = &answer.event else {
        return match &offer.authoriser {
            Some(by) => Err(format!("its answer lacks the join with the signature for {by}")),
            None => Ok(Arc::new(own.clone())),
        };
    };
    let opened = app.federation.open_all(vec![event.clone()], &offer.rules).await;
    match opened.into_iter().next() {
        Some(Ok(event)) if event.event_id() == own.event_id() => Ok(Arc::new(event)),
        // Ours is as good where nobody else had to sign it.
        _ if offer.authoriser.is_none() => Ok(Arc::new(own.clone())),
        Some(Err(error)) => {
            Err(format!("the join that it answers with cannot be believed: {error}"))
        }
        _ => Err("it answers with another event than the join".to_owned()),
    }
}

enum Unheard {
    Theirs(String),
    Ours(SendError),
}

/// We are in the room, and nobody of ours may vouch for the user: the join comes in as any event of the room does.
async fn heard(app: &App, server: &ServerName, event: Arc<Pdu>) -> Result<OwnedEventId, Unheard> {
    let event_id = event.event_id().clone();
    let received = inbox::let_in(app, server, Pdu::clone(&event)).await;
    match received.map_err(Unheard::Ours)? {
        Received::Judged(Judgement::Accepted) | Received::Known(Judgement::Accepted) => {
            Ok(event_id)
        }
        Received::Judged(fate) | Received::Known(fate) => match fate {
            Judgement::SoftFailed(why) | Judgement::Rejected(why) => {
                Err(Unheard::Theirs(format!("the join is not allowed {why}")))
            }
            Judgement::Accepted => Ok(event_id),
        },
        Received::Missing(_) => Err(Unheard::Theirs(
            "the join follows events that this server does not have yet".to_owned(),
        )),
    }
}
