//! Invites that come before the room that they are to.

use std::sync::Arc;

use matryx_core::{
    event::{Pdu, Place, seal},
    membership::Membership,
    room::{Judgement, StateKey},
};
use matryx_repository::{Mine, Source};
use ruma::{MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedUserId, RoomVersionId, uint};
use serde_json::json;

use super::{
    two::{CREATOR, Two, U, W},
    world::{World, draft, run},
};
use crate::room::{Aside, Door, Received, Record};

/// Writes down that a user has been invited to a room that nobody here is in.
async fn invited(world: &World, user: &str, pdu: &Arc<Pdu>) {
    let (user, pdu) = (OwnedUserId::try_from(user).unwrap(), Arc::clone(pdu));
    let room = pdu.room_id().to_owned();
    let mine = Mine {
        user: user.clone(),
        room: room.clone(),
        membership: Membership::Invited,
        event: pdu.event_id().clone(),
        source: Source::OutOfBand { version: RoomVersionId::V11, via: Vec::new() },
        n: 0,
        pos: 0,
        stripped: None,
        forgotten: false,
    };
    let aside = Aside::new(user, move |_| {
        let (mine, event) = (mine.clone(), Some(Arc::clone(&pdu)));
        Ok(Some(Record { mine, event, errand: None }))
    });
    world.rooms.aside(&room, aside).await.unwrap();
}

#[test]
fn an_invite_that_came_before_its_room_is_judged_with_it() {
    run(async {
        let two = Two::new(RoomVersionId::V11).await;
        let look = two.x.rooms.room(&two.room).await.unwrap().unwrap().look();
        let fit = two.x.member(&two.room, CREATOR, U, "invite").await.unwrap();
        let fit = two.pdus(fit.events).await.remove(0);
        let at = |keys: &[StateKey]| {
            keys.iter().filter_map(|key| Some(look.entry(key)?.event_id.clone())).collect()
        };
        let sealed = |sender: &str, membership: &str, auth_events: Vec<OwnedEventId>| {
            let content = json!({"membership": membership});
            let draft = draft(sender, "m.room.member", Some(W), content);
            let place = Place {
                room_id: Some(two.room.clone()),
                prev_events: look.prev_events().0,
                auth_events,
                depth: 9,
                origin_server_ts: MilliSecondsSinceUnixEpoch(uint!(5)),
            };
            seal(draft, place, &two.y.server, &two.y.key, &look.rules).unwrap()
        };
        // Whoever invites here was never in the room.
        let law = [StateKey::create(), StateKey::power_levels(), StateKey::join_rules()];
        let unfit = sealed("@nobody:y", "invite", at(&law));
        let mut auth: Vec<_> = at(&law);
        auth.push(unfit.event_id().clone());
        let join = sealed(W, "join", auth);
        invited(&two.y, U, &fit).await;
        invited(&two.y, W, &Arc::new(unfit.clone())).await;
        two.join(U).await;

        let kept = async |world: &World, id: &OwnedEventId| {
            world.rooms.events().get(id).await.unwrap().map(|event| event.fate.clone())
        };
        assert_eq!(kept(&two.y, fit.event_id()).await, Some(Judgement::Accepted));
        // What rests on the other one rests on what nobody has judged.
        two.y.rooms.learn(&two.room, vec![join.clone()]).await.unwrap();
        assert_eq!(kept(&two.y, join.event_id()).await, None);
        let heard = two.y.rooms.receive(join.clone(), Door::Transaction).await.unwrap();
        assert!(matches!(heard, Received::Missing(ids) if ids.contains(unfit.event_id())));
        two.y.rooms.learn(&two.room, vec![join.clone(), unfit.clone()]).await.unwrap();
        let two = two.restart_y().await;
        assert_eq!(kept(&two.y, fit.event_id()).await, Some(Judgement::Accepted));
        for pdu in [join, unfit] {
            let fate = kept(&two.y, pdu.event_id()).await;
            assert!(matches!(fate, Some(Judgement::Rejected(_))), "{fate:?}");
        }
    });
}
