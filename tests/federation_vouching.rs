//! Rooms that the members of another room may join: who of ours vouches for those of other servers.

use futures::FutureExt;
use serde_json::{Value, json};

use super::federation_resident::membership;
use crate::support::{Guest, KEYS, Peer, SharedNeighbours, TestUser, Told};

static SCENE: SharedNeighbours = SharedNeighbours::new();

/// A room of this version that the members of `allow` may join.
async fn restricted(alice: &TestUser, rule: &str, version: &str, allow: &[&str]) -> String {
    let allow: Vec<_> =
        allow.iter().map(|room| json!({ "type": "m.room_membership", "room_id": room })).collect();
    let content = json!({ "join_rule": rule, "allow": allow });
    let rules = json!([{ "type": "m.room.join_rules", "content": content }]);
    let options = json!({ "room_version": version, "initial_state": rules });
    alice.new_room(options).await
}

#[test]
fn the_members_of_another_room_are_vouched_for() {
    SCENE.run(async |scene| {
        let alice = scene.alice().await;
        let club = alice.public_room().await;
        for (rule, version) in [
            ("restricted", "8"),
            ("restricted", "9"),
            ("knock_restricted", "10"),
            ("restricted", "11"),
            ("knock_restricted", "12"),
        ] {
            let room = restricted(&alice, rule, version, &[&club, "!elsewhere:x"]).await;
            let carol = scene.guest("carol");
            carol.make("join", &room).await.refused(400, "M_UNABLE_TO_AUTHORISE_JOIN");
            carol.join(&club).await;
            let template = carol.make("join", &room).await.granted();
            let voucher = &template["event"]["content"]["join_authorised_via_users_server"];
            assert_eq!(*voucher, alice.id, "{version}");
            // Without the voucher it is no way in.
            let strip = |event: &mut Value| event["content"] = json!({ "membership": "join" });
            let ready = carol.ready("join", &room, strip).await;
            let answer = carol.hand_in("v2/send_join", &room, &ready).await;
            answer.refused(403, "M_FORBIDDEN").says("join_authorised_via_users_server");
            let (answer, _) = carol.join(&room).await;
            let signatures = answer["event"]["signatures"].as_object().unwrap();
            assert!(signatures.contains_key(scene.server.name()));
            // Who is in already needs nobody.
            let template = carol.make("join", &room).await.granted();
            assert_eq!(template["event"]["content"], json!({ "membership": "join" }));
        }
    });
}

#[test]
fn a_condition_that_does_not_hold_any_more_lets_nobody_in() {
    SCENE.run(async |scene| {
        let alice = scene.alice().await;
        let club = alice.public_room().await;
        let room = restricted(&alice, "restricted", "11", &[&club]).await;
        let carol = scene.guest("carol");
        let answer = carol.make("join", &room).await;
        answer.refused(403, "M_FORBIDDEN").says("you are not among them");
        carol.join(&club).await;
        let ready = carol.ready("join", &room, |_| {}).await;
        carol.leave(&club).await;
        let answer = carol.hand_in("v2/send_join", &room, &ready).await;
        answer.refused(403, "M_FORBIDDEN").says("you are not among them");
        assert_eq!(membership(&alice, &room, &carol).await, None);
        // The invited need no condition.
        let mangled = restricted(&alice, "restricted", "11", &[]).await;
        let bad = json!({ "join_rule": "restricted", "allow": "mangled" });
        alice.put_state(&mangled, "m.room.join_rules", "", bad).await.granted();
        carol.make("join", &mangled).await.refused(403, "M_FORBIDDEN");
    });
}

#[test]
fn the_condition_counts_as_it_is_when_the_keys_are_there() {
    SCENE.run(async |scene| {
        let alice = scene.alice().await;
        let club = alice.public_room().await;
        let room = restricted(&alice, "restricted", "11", &[&club]).await;
        let peer = Peer::start().await;
        let carol = Guest { peer: &peer, server: &scene.server, id: peer.user("carol") };
        carol.join(&club).await;
        let (asked, mut was_asked) = tokio::sync::oneshot::channel();
        let (go, gone) = std::sync::mpsc::channel::<()>();
        let first = std::sync::Mutex::new(Some((asked, gone)));
        peer.on(KEYS, move |_| {
            if let Some((asked, gone)) = first.lock().unwrap().take() {
                asked.send(()).unwrap();
                // Blocks one thread of the runtime until the rule has changed.
                gone.recv().unwrap();
            }
            Told::error(503, "M_UNKNOWN")
        });
        let (carol, room) = (&carol, &room);
        let joining = loop {
            let mut ready = carol.ready("join", room, |_| {}).await;
            // A signature with a key that nobody knows yet, for which the peer is asked, and takes its time.
            ready.event["signatures"][peer.name().as_str()]["ed25519:other"] = json!("AAAA");
            let hand_in = async move { carol.hand_in("v2/send_join", room, &ready).await };
            let mut handing_in = hand_in.boxed();
            tokio::select! {
                biased;
                _ = &mut was_asked => break handing_in,
                // Who has been asked a moment ago is left alone for some milliseconds; one good signature is enough.
                early = &mut handing_in => drop(early.granted()),
            }
            carol.leave(room).await;
        };
        let nobody = json!({ "join_rule": "restricted", "allow": [] });
        alice.put_state(room, "m.room.join_rules", "", nobody).await.granted();
        go.send(()).unwrap();
        joining.await.forbidden();
        assert_ne!(membership(&alice, room, carol).await.as_deref(), Some("join"));
    });
}

#[test]
fn who_may_not_invite_cannot_vouch() {
    SCENE.run(async |scene| {
        let [alice, bob] = scene.server.users(["alice", "bob"]).await;
        let club = alice.public_room().await;
        let room = restricted(&alice, "restricted", "11", &[&club]).await;
        alice.bring(&room, &bob).await;
        let levels = json!({ "users": { (alice.id.clone()): 100 }, "invite": 50 });
        alice.put_state(&room, "m.room.power_levels", "", levels).await.granted();
        alice.leave(&room).await.granted();
        let carol = scene.guest("carol");
        carol.join(&club).await;
        carol.make("join", &room).await.refused(400, "M_UNABLE_TO_GRANT_JOIN").says("50");
        // Naming somebody who may not does not help.
        let ready = carol.seal(
            &"11".try_into().unwrap(),
            {
                let mut event = carol.make("join", &club).await.granted()["event"].clone();
                event["room_id"] = json!(room);
                event["content"]["join_authorised_via_users_server"] = json!(bob.id);
                event
            },
            |_| {},
        );
        let answer = carol.hand_in("v2/send_join", &room, &ready).await;
        assert!([400, 403].contains(&answer.status), "{}", answer.text);
    });
}
