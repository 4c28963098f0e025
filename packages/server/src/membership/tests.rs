//! What the verbs do besides the table, which has its own tests.

use matryx_core::{
    event::Pdu,
    membership::Membership,
    refusal::{Refusal, RefusalKind},
    room::StateKey,
};
use ruma::{CanonicalJsonObject, OwnedRoomId, RoomId, RoomVersionId, UserId, user_id};
use serde_json::{Value, json};

use super::{ban, forget, invite, join, kick, leave, put, rewrite, unban};
use crate::{
    app::App,
    http::tests::with_app,
    room::{InitialState, NewRoom, Preset, SendError, create},
};

const NOTHING: CanonicalJsonObject = CanonicalJsonObject::new();

fn object(value: Value) -> CanonicalJsonObject {
    serde_json::from_value(value).unwrap()
}

fn alice() -> &'static UserId {
    user_id!("@alice:localhost")
}

fn bob() -> &'static UserId {
    user_id!("@bob:localhost")
}

/// A room of Alice's with these join rules.
async fn room(app: &App, rules: Value) -> OwnedRoomId {
    let wanted = NewRoom {
        version: RoomVersionId::V12,
        creation_content: NOTHING,
        preset: Preset::Public,
        initial_state: vec![InitialState {
            kind: "m.room.join_rules".into(),
            state_key: String::new(),
            content: object(rules),
        }],
        levels: NOTHING,
        name: None,
        topic: None,
        alias: None,
        invite: Vec::new(),
        is_direct: false,
    };
    create(app, alice(), wanted).await.unwrap().room
}

async fn member(app: &App, room: &RoomId, user: &UserId) -> Pdu {
    let look = app.rooms.room(room).await.unwrap().unwrap().look();
    let id = look.entry(&StateKey::member(user)).unwrap().event_id.clone();
    Pdu::clone(&app.rooms.events().get(&id).await.unwrap().unwrap().pdu)
}

async fn content(app: &App, room: &RoomId, user: &UserId) -> Value {
    member(app, room, user).await.content_as().unwrap()
}

#[track_caller]
fn refused<T: std::fmt::Debug>(result: Result<T, SendError>) -> Refusal {
    match result {
        Err(SendError::Refused(refusal)) => refusal,
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn a_user_of_a_server_that_is_not_there_is_not_invited_and_can_be_banned() {
    with_app(async |app| {
        let room = room(&app, json!({"join_rule": "public"})).await;
        let stranger = user_id!("@stranger:elsewhere.invalid");
        // Who may not invite at all is told that, and nobody is asked.
        let refusal = refused(invite(&app, &room, bob(), stranger, NOTHING).await);
        assert_eq!(refusal.kind, RefusalKind::Forbidden);
        for door in [true, false] {
            let invited = if door {
                invite(&app, &room, alice(), stranger, NOTHING).await
            } else {
                let content = object(json!({"membership": "invite"}));
                put(&app, &room, alice(), stranger, Membership::Invited, content).await
            };
            let Err(SendError::Elsewhere(told)) = invited else { panic!("{invited:?}") };
            assert_eq!(told.status, http::StatusCode::BAD_GATEWAY);
        }
        ban(&app, &room, alice(), stranger, NOTHING).await.unwrap();
        unban(&app, &room, alice(), stranger, NOTHING).await.unwrap();
    });
}

#[test]
fn a_new_name_is_shown_in_every_room_that_lets_it() {
    with_app(async |app| {
        let club = room(&app, json!({"join_rule": "public"})).await;
        let allow = json!([{"type": "m.room_membership", "room_id": club}]);
        let restricted = room(&app, json!({"join_rule": "restricted", "allow": allow})).await;
        let closed = room(&app, json!({"join_rule": "public"})).await;
        let left = room(&app, json!({"join_rule": "public"})).await;
        let why = object(json!({"reason": "why not", "org.example": 1}));
        for room in [&club, &restricted, &closed, &left] {
            join(&app, room, bob(), why.clone(), Vec::new()).await.unwrap();
        }
        leave(&app, &left, bob(), NOTHING).await.unwrap();
        let named = content(&app, &restricted, bob()).await;
        assert_eq!(named["join_authorised_via_users_server"], alice().as_str());
        let close = crate::room::Saying {
            sender: alice().to_owned(),
            kind: "m.room.join_rules".into(),
            state_key: Some(String::new()),
            content: object(json!({"join_rule": "private"})),
        };
        app.rooms.say(&closed, close, None).await.unwrap();

        app.database.set_profile_field(bob(), "displayname", &json!("Bob")).await.unwrap();
        rewrite(&app, bob()).await.unwrap();
        let renamed = json!({"membership": "join", "displayname": "Bob", "org.example": 1});
        assert_eq!(content(&app, &club, bob()).await, renamed);
        assert_eq!(content(&app, &restricted, bob()).await, renamed);
        let kept = json!({"membership": "join", "reason": "why not", "org.example": 1});
        assert_eq!(content(&app, &closed, bob()).await, kept);
        assert_eq!(content(&app, &left, bob()).await, json!({"membership": "leave"}));

        // Nothing new to say is not said.
        let before = member(&app, &club, bob()).await;
        rewrite(&app, bob()).await.unwrap();
        assert_eq!(member(&app, &club, bob()).await.event_id(), before.event_id());
    });
}

#[test]
fn what_is_put_as_state_is_the_verb_that_it_means_there() {
    with_app(async |app| {
        let room = room(&app, json!({"join_rule": "public"})).await;
        join(&app, &room, bob(), NOTHING, Vec::new()).await.unwrap();
        let leave_of_bob = async |reason: &str| {
            let content = object(json!({"membership": "leave", "reason": reason}));
            put(&app, &room, alice(), bob(), Membership::Left, content).await
        };
        let kicked = leave_of_bob("go").await.unwrap();
        assert_eq!(leave_of_bob("go").await.unwrap(), kicked);
        // A kick of somebody who has left.
        assert_eq!(refused(leave_of_bob("go on").await).kind, RefusalKind::Forbidden);
        ban(&app, &room, alice(), bob(), NOTHING).await.unwrap();
        // An unban, which a kick of the banned is not.
        assert_eq!(
            refused(kick(&app, &room, alice(), bob(), NOTHING).await).kind,
            RefusalKind::Forbidden
        );
        leave_of_bob("come").await.unwrap();
        join(&app, &room, bob(), NOTHING, Vec::new()).await.unwrap();
        // The same content by the same sender is the same event, whoever let them in.
        let content = object(json!({"membership": "join", "displayname": "B"}));
        let again = async || {
            put(&app, &room, bob(), bob(), Membership::Joined, content.clone()).await.unwrap()
        };
        assert_eq!(again().await, again().await);
    });
}

#[test]
fn who_comes_back_has_nothing_to_forget() {
    with_app(async |app| {
        let room = room(&app, json!({"join_rule": "public"})).await;
        assert_eq!(refused(forget(&app, &room, bob()).await).kind, RefusalKind::NotFound);
        for _ in 0..20 {
            join(&app, &room, bob(), NOTHING, Vec::new()).await.unwrap();
            leave(&app, &room, bob(), NOTHING).await.unwrap();
            let (forgotten, joined) = tokio::join!(
                forget(&app, &room, bob()),
                join(&app, &room, bob(), NOTHING, Vec::new())
            );
            joined.unwrap();
            if let Err(error) = forgotten {
                assert_eq!(refused(Err::<(), _>(error)).kind, RefusalKind::Unknown);
            }
            let standing = app.rooms.stream().standing(bob()).await.unwrap();
            let mine = &standing.rooms[&room];
            assert_eq!((mine.membership, mine.forgotten), (Membership::Joined, false));
        }
    });
}
