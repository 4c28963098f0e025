"""A conversation of three people over matrix-nio, unmodified, against a running server.

Usage: conversation.py HOMESERVER REGISTRATION_TOKEN
It ends with 0 when everybody saw everything live, otherwise with a report of what was missing.
"""

import asyncio
import sys
import traceback

from nio import (
    AsyncClient,
    ErrorResponse,
    InviteMemberEvent,
    RegisterResponse,
    RoomGetStateEventResponse,
    RoomMemberEvent,
    RoomMessageText,
    RoomPreset,
    SyncResponse,
)

PATIENCE = 60  # seconds; only a failing conversation waits so long
STEPS = []


def step(text):
    STEPS.append(text)
    print("-", text, flush=True)


class Missing(Exception):
    """Somebody did not see what had happened."""


async def good(request):
    """The answer to a request that must succeed."""
    answer = await request
    if isinstance(answer, ErrorResponse):
        raise Missing(f"refused: {answer}")
    return answer


async def refused(request, errcode):
    """The answer to a request that must be refused."""
    answer = await request
    if not isinstance(answer, ErrorResponse) or answer.status_code != errcode:
        raise Missing(f"{errcode} was expected, the answer was: {answer}")
    return answer


class Person:
    """A client that syncs all the time, in the background, and remembers what it saw."""

    def __init__(self, homeserver, name):
        self.client = AsyncClient(homeserver, name)
        self.name = name
        self.password = f"the secret of {name}"
        self.seen = []  # what was in sync: (room id, section, event or stripped state)
        self.news = asyncio.Condition()
        self.task = None

    @property
    def id(self):
        return self.client.user_id

    async def register(self, token):
        answer = await self.client.register_with_token(self.name, self.password, token, "nio")
        if not isinstance(answer, RegisterResponse):
            raise Missing(f"{self.name} could not register: {answer}")
        await self.client.logout()

    async def log_in(self):
        await good(self.client.login(self.password, device_name="nio"))
        await good(self.client.sync(timeout=0, full_state=True))
        self.client.add_response_callback(self.remember, SyncResponse)
        self.task = asyncio.create_task(self.client.sync_forever(timeout=30_000))

    async def remember(self, answer):
        async with self.news:
            for room_id, invite in answer.rooms.invite.items():
                self.seen.append((room_id, "invite", invite.invite_state))
            for section in ("join", "leave"):
                for room_id, room in getattr(answer.rooms, section).items():
                    self.seen += [(room_id, section, event) for event in room.timeline.events]
            self.news.notify_all()

    async def sees(self, what, room_id, look):
        """Waits until sync shows it, later than what was looked for in this room before."""

        def found():
            if self.task.done():
                self.task.result()
                raise Missing(f"{self.name} has stopped syncing")
            for position, (room, section, thing) in enumerate(self.seen):
                if room == room_id and look(section, thing):
                    later = self.seen[position + 1 :]
                    self.seen = [seen for seen in self.seen[:position] if seen[0] != room_id]
                    self.seen += later
                    return thing
            return None

        async with self.news:
            try:
                return await asyncio.wait_for(self.wait_for(found), PATIENCE)
            except asyncio.TimeoutError:
                shown = "\n".join(repr(seen) for seen in self.seen)
                raise Missing(f"{self.name} never saw {what}; in sync was:\n{shown}") from None

    async def wait_for(self, found):
        while True:
            if result := found():
                return result
            await self.news.wait()

    async def sees_invite(self, room_id):
        """The stripped state of an invitation that arrives."""
        return await self.sees(
            f"an invitation to {room_id}", room_id, lambda section, _: section == "invite"
        )

    async def sees_member(self, room_id, whom, membership, section="join"):
        """A member event in the timeline of a room."""

        def look(where, event):
            return (
                where == section
                and isinstance(event, RoomMemberEvent)
                and event.state_key == whom.id
                and event.membership == membership
            )

        what = f"{whom.name}'s {membership} in the {section} section"
        return await self.sees(what, room_id, look)

    async def sees_message(self, room_id, body):
        def look(_, event):
            return isinstance(event, RoomMessageText) and event.body == body

        return await self.sees(f"the message '{body}'", room_id, look)

    async def says(self, room_id, body):
        content = {"msgtype": "m.text", "body": body}
        await good(self.client.room_send(room_id, "m.room.message", content))

    async def goes(self):
        if self.task:
            self.task.cancel()
            await asyncio.gather(self.task, return_exceptions=True)
        await self.client.close()


def expect(condition, text):
    if not condition:
        raise Missing(text)


def member_in(stripped, user_id):
    """Somebody's member event in the stripped state of an invitation."""
    for event in stripped:
        if isinstance(event, InviteMemberEvent) and event.state_key == user_id:
            return event
    raise Missing(f"no member event of {user_id} in {stripped}")


async def invite_and_decline(alice, bob):
    step("alice makes a room and invites bob")
    room = (await good(alice.client.room_create(name="Tea", topic="At five"))).room_id
    await alice.sees_member(room, alice, "join")
    await good(alice.client.room_invite(room, bob.id))
    stripped = await bob.sees_invite(room)
    expect(member_in(stripped, bob.id).membership == "invite", "bob's own event is no invite")
    expect(member_in(stripped, bob.id).sender == alice.id, "the inviter is not named")
    expect(member_in(stripped, alice.id).membership == "join", "the inviter's event is missing")
    expect(bob.client.invited_rooms[room].inviter == alice.id, "nio does not know the inviter")
    expect(bob.client.invited_rooms[room].name == "Tea", "nio does not know the room's name")
    await alice.sees_member(room, bob, "invite")

    step("bob declines, is invited again and joins")
    await good(bob.client.room_leave(room))
    declined = await alice.sees_member(room, bob, "leave")
    expect(declined.prev_membership == "invite", f"the invite before it is missing: {declined}")
    await bob.sees_member(room, bob, "leave", "leave")
    await good(alice.client.room_invite(room, bob.id))
    await bob.sees_invite(room)
    await good(bob.client.join(room))
    await bob.sees_member(room, bob, "join")
    await alice.sees_member(room, bob, "join")
    expect(room in bob.client.rooms, "nio does not know the room that it joined")
    names = set(bob.client.rooms[room].users)
    expect({alice.id, bob.id} <= names, f"nio sees only {names}")
    return room


async def talk(alice, bob, room):
    step("alice and bob talk")
    await alice.says(room, "hello bob")
    await bob.sees_message(room, "hello bob")
    await bob.says(room, "hello alice")
    await alice.sees_message(room, "hello alice")
    page = await good(bob.client.room_messages(room, limit=50))
    bodies = [event.body for event in page.chunk if isinstance(event, RoomMessageText)]
    expect("hello bob" in bodies, f"the history has only {bodies}")
    members = await good(bob.client.joined_members(room))
    expect({m.user_id for m in members.members} == {alice.id, bob.id}, f"members: {members}")


async def knock(alice, bob, carol):
    step("carol knocks, is denied, knocks again and is let in")
    room = (await good(alice.client.room_create(name="Club"))).room_id
    await good(alice.client.room_enable_knocking(room))
    await good(alice.client.room_invite(room, bob.id))
    await bob.sees_invite(room)
    await good(bob.client.join(room))
    await refused(carol.client.join(room), "M_FORBIDDEN")
    await good(carol.client.room_knock(room, "it is raining"))
    for member in (alice, bob):
        knocked = await member.sees_member(room, carol, "knock")
        expect(knocked.content["reason"] == "it is raining", f"no reason in {knocked}")
    await good(alice.client.room_kick(room, carol.id, "not now"))
    denied = await carol.sees_member(room, carol, "leave", "leave")
    expect(denied.content["reason"] == "not now", f"no reason in {denied}")
    await bob.sees_member(room, carol, "leave")
    await good(carol.client.room_knock(room, "still raining"))
    await alice.sees_member(room, carol, "knock")
    await good(alice.client.room_invite(room, carol.id))
    await carol.sees_invite(room)
    await good(carol.client.join(room))
    await carol.sees_member(room, carol, "join")
    await alice.sees_member(room, carol, "join")

    step("carol knocks at another room and withdraws")
    other = (await good(alice.client.room_create(name="Other"))).room_id
    await good(alice.client.room_enable_knocking(other))
    await good(carol.client.room_knock(other))
    await alice.sees_member(other, carol, "knock")
    await good(carol.client.room_leave(other))
    await alice.sees_member(other, carol, "leave")
    return room


async def moderate(alice, bob, carol, room):
    step("alice kicks carol, who cannot come back by herself")
    await good(alice.client.room_kick(room, carol.id, "mud"))
    kicked = await carol.sees_member(room, carol, "leave", "leave")
    expect(kicked.sender == alice.id, f"who kicked? {kicked}")
    expect(kicked.content["reason"] == "mud", f"no reason in {kicked}")
    await bob.sees_member(room, carol, "leave")
    await refused(carol.client.join(room), "M_FORBIDDEN")
    await refused(alice.client.room_kick(room, carol.id), "M_FORBIDDEN")

    step("alice bans carol, who cannot knock any more")
    await good(alice.client.room_ban(room, carol.id, "more mud"))
    banned = await carol.sees_member(room, carol, "ban", "leave")
    expect(banned.content["reason"] == "more mud", f"no reason in {banned}")
    await bob.sees_member(room, carol, "ban")
    await refused(carol.client.room_knock(room), "M_FORBIDDEN")
    await refused(alice.client.room_invite(room, carol.id), "M_FORBIDDEN")
    await refused(bob.client.room_unban(room, carol.id), "M_FORBIDDEN")

    step("alice unbans carol and invites her again")
    await good(alice.client.room_unban(room, carol.id))
    await carol.sees_member(room, carol, "leave", "leave")
    await bob.sees_member(room, carol, "leave")
    await good(alice.client.room_invite(room, carol.id))
    await carol.sees_invite(room)
    await good(carol.client.join(room))
    await bob.sees_member(room, carol, "join")

    step("bob leaves and forgets the room")
    await good(bob.client.room_leave(room))
    await bob.sees_member(room, bob, "leave", "leave")
    await carol.sees_member(room, bob, "leave")
    await good(bob.client.room_forget(room))
    await refused(bob.client.room_messages(room), "M_FORBIDDEN")
    rules = await good(carol.client.room_get_state_event(room, "m.room.join_rules"))
    expect(isinstance(rules, RoomGetStateEventResponse), f"{rules}")
    expect(rules.content["join_rule"] == "knock", f"{rules}")


async def public(alice, bob, carol):
    step("a public room takes everybody who comes")
    created = await good(
        alice.client.room_create(preset=RoomPreset.public_chat, name="Square", alias="square")
    )
    room = created.room_id
    await good(bob.client.join("#square:" + alice.id.split(":", 1)[1]))
    await good(carol.client.join(room))
    await alice.sees_member(room, bob, "join")
    await alice.sees_member(room, carol, "join")
    await carol.says(room, "what a nice square")
    await bob.sees_message(room, "what a nice square")


async def conversation(homeserver, token):
    people = [Person(homeserver, name) for name in ("alice", "bob", "carol")]
    alice, bob, carol = people
    try:
        step("three people register with the token that the server printed, and log in")
        for person in people:
            await person.register(token)
            await person.log_in()
        room = await invite_and_decline(alice, bob)
        await talk(alice, bob, room)
        club = await knock(alice, bob, carol)
        await moderate(alice, bob, carol, club)
        await public(alice, bob, carol)
    finally:
        for person in people:
            await person.goes()


def main():
    homeserver, token = sys.argv[1:3]
    try:
        asyncio.run(asyncio.wait_for(conversation(homeserver, token), 300))
    except Exception as error:  # noqa: BLE001
        traceback.print_exc()
        print(f"\nFAILED at: {STEPS[-1] if STEPS else 'the start'}\n{error}", file=sys.stderr)
        return 1
    print(f"all {len(STEPS)} parts went well")
    return 0


if __name__ == "__main__":
    sys.exit(main())
