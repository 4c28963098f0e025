//! `POST /createRoom`: presets, options, room versions, and what is refused.

use serde_json::{Value, json};

use crate::support::{SharedServer, Sync, TestUser, find, has};

static SERVER: SharedServer = SharedServer::new();

/// The types of a room's events in the order in which they were made.
async fn history(user: &TestUser, room: &str) -> Vec<String> {
    let query = [("dir", "f"), ("limit", "100")];
    let page = user.query(&["rooms", room, "messages"], &query).await.granted();
    let chunk = page["chunk"].as_array().cloned().unwrap_or_default();
    chunk.iter().map(|event| event["type"].as_str().unwrap_or_default().to_owned()).collect()
}

async fn state(user: &TestUser, room: &str) -> Vec<Value> {
    user.state(room).await.granted().as_array().cloned().unwrap_or_default()
}

#[test]
fn a_room_is_of_version_12_unless_asked_otherwise() {
    SERVER.run(async |server| {
        let alice = server.user("alice").await;
        let room = alice.new_room(json!({})).await;

        let state = state(&alice, &room).await;
        let create = find(&state, "m.room.create", "");
        assert_eq!(create["content"]["room_version"], "12");
        assert_eq!(create["sender"], alice.id.as_str());
        assert_eq!(create["room_id"], room.as_str());
        assert!(create["content"].get("creator").is_none(), "{create}");
        // The id of the room is the create event's with another sigil.
        assert_eq!(create["event_id"].as_str().map(|id| &id[1..]), Some(&room[1..]));

        let levels = &find(&state, "m.room.power_levels", "")["content"];
        assert!(levels["users"].get(&alice.id).is_none(), "a creator has no level: {levels}");
        assert_eq!(levels["events"]["m.room.tombstone"], 150);
    });
}

#[test]
fn every_advertised_version_can_be_created() {
    SERVER.run(async |server| {
        let [alice, bob] = server.users(["alice", "bob"]).await;
        let capabilities = alice.get(&["capabilities"]).await.granted();
        let versions = &capabilities["capabilities"]["m.room_versions"];
        assert_eq!(versions["default"], "12");
        for version in ["6", "7", "8", "9", "10", "11", "12"] {
            assert_eq!(versions["available"][version], "stable", "{versions}");
            let room =
                alice.new_room(json!({ "room_version": version, "preset": "public_chat" })).await;
            bob.join(&room).await.granted();
            bob.say(&room, "hello").await;
            let create = bob.state_event(&room, "m.room.create", "").await.granted();
            assert_eq!(create["room_version"], version);
            if version != "12" {
                assert!(room.contains(':'), "{room}");
                let levels = bob.state_event(&room, "m.room.power_levels", "").await.granted();
                assert_eq!(levels["users"][&alice.id], 100, "version {version}");
            }
        }
    });
}

#[test]
fn versions_that_are_not_served_are_refused() {
    SERVER.run(async |server| {
        let alice = server.user("alice").await;
        for version in ["1", "2", "13", "org.example.unknown", ""] {
            alice
                .create_room(json!({ "room_version": version }))
                .await
                .refused(400, "M_UNSUPPORTED_ROOM_VERSION");
        }
        assert_eq!(alice.joined_rooms().await, Vec::<String>::new());
    });
}

#[test]
fn the_events_come_in_the_order_of_the_specification() {
    SERVER.run(async |server| {
        let [alice, bob] = server.users(["alice", "bob"]).await;
        let alias = format!("order-{}", alice.localpart);
        let room = alice
            .new_room(json!({
                "preset": "private_chat",
                "room_alias_name": alias,
                "initial_state": [{ "type": "org.example.first", "content": {} }],
                "name": "A name",
                "topic": "A topic",
                "invite": [bob.id],
            }))
            .await;
        assert_eq!(
            history(&alice, &room).await,
            [
                "m.room.create",
                "m.room.member",
                "m.room.power_levels",
                "m.room.canonical_alias",
                "m.room.join_rules",
                "m.room.history_visibility",
                "m.room.guest_access",
                "org.example.first",
                "m.room.name",
                "m.room.topic",
                "m.room.member",
            ]
        );
    });
}

#[test]
fn presets_decide_who_joins_and_reads() {
    SERVER.run(async |server| {
        let alice = server.user("alice").await;
        for (preset, rule, history, guests) in [
            ("private_chat", "invite", "shared", "can_join"),
            ("trusted_private_chat", "invite", "shared", "can_join"),
            ("public_chat", "public", "shared", "forbidden"),
        ] {
            let room = alice.new_room(json!({ "preset": preset })).await;
            let state = state(&alice, &room).await;
            let content = |kind: &str| find(&state, kind, "")["content"].clone();
            assert_eq!(content("m.room.join_rules")["join_rule"], rule, "{preset}");
            let visibility = content("m.room.history_visibility");
            assert_eq!(visibility["history_visibility"], history, "{preset}");
            // Without the event guests are kept out.
            if guests == "can_join" {
                assert_eq!(content("m.room.guest_access")["guest_access"], guests, "{preset}");
            }
        }
    });
}

#[test]
fn the_visibility_chooses_a_preset_where_none_is_given() {
    SERVER.run(async |server| {
        let alice = server.user("alice").await;
        for (visibility, rule) in [("public", "public"), ("private", "invite")] {
            let room = alice.new_room(json!({ "visibility": visibility })).await;
            let rules = alice.state_event(&room, "m.room.join_rules", "").await.granted();
            assert_eq!(rules["join_rule"], rule);
        }
    });
}

#[test]
fn initial_state_wins_over_the_preset() {
    SERVER.run(async |server| {
        let alice = server.user("alice").await;
        let room = alice
            .new_room(json!({
                "preset": "public_chat",
                "initial_state": [
                    { "type": "m.room.join_rules", "content": { "join_rule": "knock" } },
                    { "type": "org.example.thing", "state_key": "one", "content": { "n": 1 } },
                    { "type": "org.example.thing", "state_key": "two", "content": { "n": 2 } },
                ],
            }))
            .await;
        let rules = alice.state_event(&room, "m.room.join_rules", "").await.granted();
        assert_eq!(rules["join_rule"], "knock");
        let two = alice.state_event(&room, "org.example.thing", "two").await.granted();
        assert_eq!(two, json!({ "n": 2 }));
    });
}

#[test]
fn name_topic_and_creation_content_are_kept() {
    SERVER.run(async |server| {
        let alice = server.user("alice").await;
        let room = alice
            .new_room(json!({
                "name": "The room",
                "topic": "Of things",
                "creation_content": {
                    "m.federate": false,
                    "type": "m.space",
                    "room_version": "1",
                    "creator": "@somebody:else",
                    "org.example.kept": true,
                },
            }))
            .await;
        let state = state(&alice, &room).await;
        assert_eq!(find(&state, "m.room.name", "")["content"]["name"], "The room");
        assert_eq!(find(&state, "m.room.topic", "")["content"]["topic"], "Of things");
        let create = &find(&state, "m.room.create", "")["content"];
        assert_eq!(create["m.federate"], false);
        assert_eq!(create["type"], "m.space");
        assert_eq!(create["org.example.kept"], true);
        assert_eq!(create["room_version"], "12", "what the client says of it does not count");
        assert_ne!(create["creator"], "@somebody:else");
    });
}

#[test]
fn the_invited_are_told_at_once() {
    SERVER.run(async |server| {
        let [alice, bob] = server.users(["alice", "bob"]).await;
        let mut bobs = bob.listens().await;
        let room =
            alice.new_room(json!({ "invite": [bob.id], "is_direct": true, "name": "Us" })).await;
        let news = bobs.until_in("invite", &room).await;
        let stripped = news.invited(&room).stripped();
        let invite = find(stripped, "m.room.member", &bob.id);
        assert_eq!(invite["content"]["membership"], "invite");
        assert_eq!(invite["content"]["is_direct"], true);
        assert_eq!(find(stripped, "m.room.name", "")["content"]["name"], "Us");
        bob.join(&room).await.granted();
    });
}

#[test]
fn trusted_invitees_are_creators_in_version_12() {
    SERVER.run(async |server| {
        let [alice, bob, carol] = server.users(["alice", "bob", "carol"]).await;
        let room = alice
            .new_room(json!({
                "preset": "trusted_private_chat",
                "invite": [bob.id, carol.id],
                "creation_content": { "additional_creators": [bob.id] },
            }))
            .await;
        let create = alice.state_event(&room, "m.room.create", "").await.granted();
        let mut creators: Vec<String> =
            serde_json::from_value(create["additional_creators"].clone()).unwrap();
        creators.sort();
        assert_eq!(creators, [bob.id.clone(), carol.id.clone()], "each once");
        // A creator may do what needs the highest level.
        bob.join(&room).await.granted();
        bob.put_state(&room, "m.room.power_levels", "", json!({ "state_default": 90 }))
            .await
            .granted();
        alice.kick(&room, &bob).await.forbidden();
    });
}

#[test]
fn trusted_invitees_get_the_creators_level_before_version_12() {
    SERVER.run(async |server| {
        let [alice, bob] = server.users(["alice", "bob"]).await;
        let options = json!({
            "preset": "trusted_private_chat", "invite": [bob.id], "room_version": "11",
        });
        let room = alice.new_room(options).await;
        let levels = alice.state_event(&room, "m.room.power_levels", "").await.granted();
        assert_eq!(levels["users"][&bob.id], 100);
        assert_eq!(levels["users"][&alice.id], 100);
    });
}

#[test]
fn levels_can_be_overridden() {
    SERVER.run(async |server| {
        let [alice, bob] = server.users(["alice", "bob"]).await;
        let room = alice
            .new_room(json!({
                "power_level_content_override": { "users": { &bob.id: 60 }, "invite": 42 },
            }))
            .await;
        let levels = alice.state_event(&room, "m.room.power_levels", "").await.granted();
        assert_eq!(levels["users"], json!({ &bob.id: 60 }));
        assert_eq!(levels["invite"], 42);
        assert_eq!(levels["events"]["m.room.tombstone"], 150, "the rest stays");
        // What is named takes the place of the default, as other servers have it; but a creator stays one.
        let room = alice
            .new_room(json!({
                "room_version": "11",
                "power_level_content_override": {
                    "users": { &bob.id: 60 }, "events": { "m.room.name": 0 },
                },
            }))
            .await;
        let levels = alice.state_event(&room, "m.room.power_levels", "").await.granted();
        assert_eq!(levels["events"], json!({ "m.room.name": 0 }));
        assert_eq!(levels["users"], json!({ &alice.id: 100, &bob.id: 60 }));
        assert_eq!(levels["ban"], 50);
    });
}

#[test]
fn a_room_does_not_begin_by_shutting_out_its_own_server() {
    SERVER.run(async |server| {
        let alice = server.user("alice").await;
        let with =
            |acl| json!({ "initial_state": [{ "type": "m.room.server_acl", "content": acl }] });
        let denied = with(json!({ "allow": ["*"], "deny": [server.name()] }));
        alice.create_room(denied).await.refused(400, "M_INVALID_PARAM").says(server.name());
        let open = with(json!({ "allow": ["*"], "deny": ["*.example"] }));
        alice.new_room(open).await;
    });
}

#[test]
fn creators_cannot_be_given_a_level() {
    SERVER.run(async |server| {
        let [alice, bob] = server.users(["alice", "bob"]).await;
        alice
            .create_room(json!({ "power_level_content_override": { "users": { &alice.id: 100 } } }))
            .await
            .refused_with_status(400)
            .says("creator");
        alice
            .create_room(json!({
                "creation_content": { "additional_creators": [bob.id] },
                "power_level_content_override": { "users": { &bob.id: 100 } },
            }))
            .await
            .refused_with_status(400)
            .says("creator");
        assert_eq!(alice.joined_rooms().await, Vec::<String>::new());
    });
}

#[test]
fn additional_creators_must_be_users() {
    SERVER.run(async |server| {
        let alice = server.user("alice").await;
        for creators in
            [json!("@bob:localhost"), json!(["bob"]), json!([1]), json!({}), json!([""])]
        {
            alice
                .create_room(json!({ "creation_content": { "additional_creators": creators } }))
                .await
                .refused_with_status(400);
        }
    });
}

#[test]
fn an_alias_belongs_to_one_room() {
    SERVER.run(async |server| {
        let [alice, bob] = server.users(["alice", "bob"]).await;
        let name = format!("the-room-of-{}", alice.localpart);
        let options = json!({ "room_alias_name": name, "preset": "public_chat" });
        let room = alice.new_room(options.clone()).await;
        let alias = format!("#{name}:{}", server.name());
        let canonical = alice.state_event(&room, "m.room.canonical_alias", "").await.granted();
        assert_eq!(canonical["alias"], alias.as_str());
        bob.create_room(options).await.refused(400, "M_ROOM_IN_USE");
        assert_eq!(bob.join_by(&alias).await.granted()["room_id"], room.as_str());
    });
}

#[test]
fn the_creator_sees_the_new_room_at_once() {
    SERVER.run(async |server| {
        let alice = server.user("alice").await;
        let mut listener = alice.listens().await;
        let room = alice.public_room().await;
        let news = listener.until_in("join", &room).await;
        let there = news.joined(&room);
        let events = [there.state(), there.timeline()].concat();
        assert!(has(&events, "m.room.create", ""));
        assert_eq!(there.membership(&alice), Some("join"));
        assert_eq!(alice.joined_rooms().await, [room]);
    });
}

#[test]
fn a_failed_creation_leaves_nothing_behind() {
    SERVER.run(async |server| {
        let alice = server.user("alice").await;
        let name = format!("nothing-{}", alice.localpart);
        let mut listener = alice.listens().await;
        alice
            .create_room(json!({
                "room_alias_name": name,
                "initial_state": [{ "type": "m.room.power_levels", "content": { "ban": "high" } }],
            }))
            .await
            .refused_with_status(400);
        // The alias is free, and the first news is the second room.
        let room = alice.new_room(json!({ "room_alias_name": name })).await;
        let news = listener.next().await;
        assert_eq!(news.body["rooms"]["join"].as_object().unwrap().len(), 1);
        news.joined(&room);
    });
}

#[test]
fn bad_bodies_are_told_apart() {
    SERVER.run(async |server| {
        let alice = server.user("alice").await;
        let wrong = [
            json!({ "name": 5 }),
            json!({ "invite": "@bob:localhost" }),
            json!({ "initial_state": [{ "content": {} }] }),
            json!({ "creation_content": [] }),
            json!([]),
        ];
        for body in wrong {
            alice.create_room(body).await.refused_with_status(400);
        }
        for invited in ["bob", "@bob", "", "@:localhost:x:y"] {
            alice.create_room(json!({ "invite": [invited] })).await.refused_with_status(400);
        }
        for alias in ["with space", "#sigil:localhost", "nul\u{0}", &"x".repeat(300)] {
            alice.create_room(json!({ "room_alias_name": alias })).await.refused_with_status(400);
        }
        assert_eq!(alice.sync(Sync::initial()).await.body["rooms"].get("join"), None);
    });
}

#[test]
fn what_is_too_large_for_an_event_is_refused() {
    SERVER.run(async |server| {
        let alice = server.user("alice").await;
        let topic = "x".repeat(70_000);
        alice.create_room(json!({ "topic": topic })).await.refused(413, "M_TOO_LARGE");
        assert_eq!(alice.joined_rooms().await, Vec::<String>::new());
    });
}
