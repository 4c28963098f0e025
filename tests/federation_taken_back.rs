//! Joins that a room has let in and that do not come in here: the room is told.

use serde_json::json;

use crate::support::{
    Hosted, Peer, SEND_JOIN, SharedPair, Sync, SyncAnswer, TestServer, Told, eventually, runtime,
    user_of,
};

static PAIR: SharedPair = SharedPair::new();

const SEND_LEAVE: &str = "/_matrix/federation/v2/send_leave/";

/// Lets everybody leave who asks the peer.
fn lets_leave(peer: &Peer, room: &Hosted) {
    let room = room.clone();
    peer.on("/_matrix/federation/v1/make_leave/", move |asked| {
        let mut template = room.template(&user_of(asked));
        template["event"]["content"]["membership"] = json!("leave");
        Told::ok(template)
    });
    peer.on(SEND_LEAVE, |_| Told::ok(json!({})));
}

/// Answers joins with what cannot be the room.
fn is_unfit(peer: &Peer, room: &Hosted) {
    let hosted = room.clone();
    peer.on(SEND_JOIN, move |_| {
        let mut answer = hosted.answer();
        answer["state"].as_array_mut().unwrap().retain(|event| event["type"] != "m.room.create");
        Told::ok(answer)
    });
}

#[test]
fn a_join_that_cannot_be_taken_in_is_taken_back() {
    PAIR.run(async |pair| {
        let peer = Peer::start().await;
        let room = Hosted::public(&peer);
        room.open(&peer);
        is_unfit(&peer, &room);
        let user = pair.a.user("alice").await;
        user.join_via(&room.id, &[peer.name().as_str()]).await.refused_with_status(502);
        // The room shows a member who is not there until it can be told.
        assert_eq!(peer.count(SEND_LEAVE), 0);
        lets_leave(&peer, &room);
        let sent = peer.hears(SEND_LEAVE).await.body;
        assert_eq!(sent["content"], json!({ "membership": "leave" }));
        assert_eq!((&sent["sender"], &sent["state_key"]), (&json!(user.id), &json!(user.id)));
        user.sync(Sync::initial()).await.silent(&room.id);
        // Nothing of it stands in the way of the next one, which stays.
        room.open(&peer);
        user.join_via(&room.id, &[peer.name().as_str()]).await.granted();
        user.say(&room.id, "here").await;
        assert_eq!(peer.count(SEND_LEAVE), 1);
        user.sync(Sync::initial()).await.joined(&room.id);
    });
}

#[test]
fn an_invite_ends_with_the_join_that_is_taken_back_and_outlives_one_that_is_refused() {
    PAIR.run(async |pair| {
        let peer = Peer::start().await;
        let user = pair.a.user("alice").await;
        let mut room = Hosted::public(&peer);
        let creator = room.creator.clone();
        let invite = json!({ "membership": "invite" });
        let id = room.says(&peer, &creator, "m.room.member", &user.id, &invite);
        let event = room.state.last().unwrap().1.clone();
        let path = format!("/_matrix/federation/v2/invite/{}/{id}", room.id);
        let body = json!({ "room_version": "11", "event": event, "invite_room_state": [] });
        peer.put(&pair.a, &path, &body).await.granted();
        room.open(&peer);
        lets_leave(&peer, &room);
        peer.on(SEND_JOIN, |_| Told::error(403, "M_FORBIDDEN"));
        user.join(&room.id).await.forbidden();
        let before = user.sync(Sync::initial()).await;
        before.invited(&room.id);

        is_unfit(&peer, &room);
        user.join(&room.id).await.refused_with_status(502);
        peer.hears(SEND_LEAVE).await;
        let over = |answer: &SyncAnswer| answer.section(&room.id) == Some("leave");
        let mut listener = user.listens().await;
        if user.sync(Sync::since(&before.next_batch)).await.section(&room.id) != Some("leave") {
            listener.until("the end of the invite", over).await;
        }
        // Only the join that may stand there was taken back.
        assert_eq!(peer.count(SEND_LEAVE), 1);
        user.sync(Sync::initial()).await.silent(&room.id);
    });
}

#[test]
fn a_join_that_a_stop_cuts_short_is_taken_back_after_it() {
    runtime().block_on(async {
        let [server] = TestServer::together(["a"]).await;
        let peer = Peer::start().await;
        let room = Hosted::public(&peer);
        room.open(&peer);
        peer.on(SEND_JOIN, |_| Told::Hang);
        let user = server.user("alice").await;
        let joining = tokio::spawn({
            let (user, id, via) = (user.clone(), room.id.clone(), peer.name().to_owned());
            async move { user.join_via(&id, &[via.as_str()]).await.status }
        });
        peer.hears(SEND_JOIN).await;
        let server = server.restart().await;
        assert_ne!(joining.await.unwrap(), 200);
        lets_leave(&peer, &room);
        let sent = peer.hears(SEND_LEAVE).await.body;
        assert_eq!(sent["sender"], json!(user.id));
        let app = server.app();
        eventually("the errand done", async || match app.errands.count() {
            0 => Ok(()),
            left => Err(format!("{left} left")),
        })
        .await;
    });
}
