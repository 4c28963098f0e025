//! A room of ten thousand members that a peer holds.

use bytes::Bytes;
use ruma::{OwnedEventId, OwnedUserId, RoomVersionId};
use serde_json::{Value, json};

use crate::{
    support::{Hosted, MAKE_JOIN, Peer, SEND_JOIN, Told, user_of},
    thread::{Says, Thread},
};

/// How many members it has.
pub(crate) const MEMBERS: usize = 10_000;

/// One in so many has changed their profile since they joined: their joins stand in the auth chain only.
const CHANGED: usize = 10;

/// The room, and what the peer answers to who joins it, made and signed once.
pub(crate) struct Crowded {
    pub(crate) hosted: Hosted,
    /// The member events that stand.
    pub(crate) members: Vec<(OwnedUserId, OwnedEventId)>,
    pub(crate) answer: Bytes,
    tip: OwnedEventId,
    depth: u64,
}

impl Crowded {
    pub(crate) fn new(peer: &Peer) -> Self {
        let hosted = Hosted::public(peer);
        let mut thread = Thread {
            peer,
            version: RoomVersionId::V11,
            room: hosted.id.clone(),
            tips: vec![hosted.tip.clone()],
            depth: hosted.depth,
        };
        let mut allowing = hosted.auth_events("@nobody:nowhere", "@nobody:nowhere");
        let mut state: Vec<Value> = hosted.state.iter().map(|(_, event)| event.clone()).collect();
        let mut chain = state.clone();
        let mut members = Vec::with_capacity(MEMBERS);
        for number in 0..MEMBERS {
            let user = peer.user(&format!("member{number}"));
            let mut joins = |name: Value, auth_events: &[OwnedEventId]| {
                let content = json!({ "membership": "join", "displayname": name });
                let (kind, key) = ("m.room.member", Some(user.as_str()));
                thread.say(Says { sender: user.as_str(), kind, key, content, auth_events })
            };
            let (mut id, mut event) = joins(format!("Member {number}").into(), &allowing);
            if number % CHANGED == 0 {
                allowing.push(id);
                chain.push(event);
                (id, event) = joins(format!("Number {number}").into(), &allowing);
                allowing.pop();
            }
            state.push(event);
            members.push((user, id));
        }
        let answer = json!({ "state": state, "auth_chain": chain, "members_omitted": false });
        let answer = answer.to_string().into();
        let tip = thread.tips.swap_remove(0);
        Self { hosted, members, answer, tip, depth: thread.depth }
    }

    /// Lets everybody in who asks the peer.
    pub(crate) fn open(&self, peer: &Peer) {
        let at = Hosted { tip: self.tip.clone(), depth: self.depth, ..self.hosted.clone() };
        peer.on(MAKE_JOIN, move |asked| Told::ok(at.template(&user_of(asked))));
        let answer = self.answer.clone();
        peer.on(SEND_JOIN, move |_| Told::Raw(200, answer.clone()));
    }

    /// Where the room goes on after what we have said of it.
    pub(crate) fn goes_on<'a>(&self, peer: &'a Peer, tips: Vec<OwnedEventId>) -> Thread<'a> {
        let (room, depth) = (self.hosted.id.clone(), self.depth + 1);
        Thread { peer, version: RoomVersionId::V11, room, tips, depth }
    }
}
