//! Names and pictures in member events.

use std::sync::Arc;

use futures::{StreamExt, stream};
use matryx_core::{membership::Membership, refusal::Refusal, room::StateKey};
use matryx_repository::StoreError;
use ruma::{CanonicalJsonObject, CanonicalJsonValue, OwnedUserId, RoomId, UserId};

use super::{
    change::{Deed, Facts, Verb},
    content::AUTHORISER,
};
use crate::{
    app::App,
    room::{Desk, Intent, Proposal, SendError},
};

/// The fields of a profile that member events carry.
const FIELDS: [&str; 2] = ["displayname", "avatar_url"];

/// What an earlier join said and a change of profile does not say again: why somebody came and who let them in.
const OF_THE_JOIN: [&str; 3] = ["reason", AUTHORISER, "third_party_invite"];

/// How many rooms are written to at the same time. Each has its lane; the committer takes them together.
const TOGETHER: usize = 32;

/// A user's name and picture, as far as they have them.
pub(crate) async fn of(app: &App, user: &UserId) -> Result<CanonicalJsonObject, StoreError> {
    let profile = app.database.profile(user).await?;
    let field = |name: &str| {
        let value = CanonicalJsonValue::try_from(profile.get(name)?.clone()).ok()?;
        Some((name.to_owned(), value))
    };
    Ok(FIELDS.into_iter().filter_map(field).collect())
}

/// Writes a user's profile into their member events, in every room that they are in.
///
/// A room where that is not possible (its join rule lets nobody join, and a change of profile is a join) keeps what it
/// has: that is no reason to refuse the change itself.
///
/// # Errors
/// When the database fails.
pub async fn rewrite(app: &App, user: &UserId) -> Result<(), StoreError> {
    loop {
        let facts = Arc::new(Facts::load(app, Membership::Joined, user).await?);
        let joined = facts.rooms.iter().filter(|(_, mine)| mine.membership == Membership::Joined);
        stream::iter(joined)
            .for_each_concurrent(TOGETHER, async |(room, _)| {
                if let Err(error) = rewrite_in(app, room, user, &facts).await {
                    tracing::info!(%room, %user, %error, "membership.profile_kept");
                }
            })
            .await;
        // Of two changes at the same time the later one must be the last word in every room.
        if of(app, user).await? == facts.profile {
            return Ok(());
        }
    }
}

async fn rewrite_in(
    app: &App,
    room: &RoomId,
    user: &UserId,
    facts: &Arc<Facts>,
) -> Result<(), SendError> {
    let (user, facts) = (user.to_owned(), Arc::clone(facts));
    let needs = vec![StateKey::member(&user)];
    let intent = Intent::new(needs, move |desk| renamed(desk, &facts, &user));
    app.rooms.send(room, intent).await.map(drop)
}

/// The member event that stands, with another name and picture.
fn renamed(desk: &Desk<'_>, facts: &Facts, user: &OwnedUserId) -> Result<Proposal, Refusal> {
    let standing = desk.member(user).filter(|event| event.membership() == Some(Membership::Joined));
    let Some(standing) = standing else {
        return Err(Refusal::forbidden("The user is not in the room any more."));
    };
    let mut content = standing.content_as::<CanonicalJsonObject>().unwrap_or_default();
    if FIELDS.iter().all(|field| content.get(*field) == facts.profile.get(*field)) {
        return Ok(Proposal::Unchanged(standing.event_id().clone()));
    }
    for key in FIELDS.iter().chain(&OF_THE_JOIN) {
        content.remove(*key);
    }
    let verb = Verb::Put(Membership::Joined);
    Deed { verb, actor: user.clone(), target: user.clone(), content }.propose(desk, facts)
}
