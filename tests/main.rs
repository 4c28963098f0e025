//! Whole servers through their real doors: HTTP against a running server on the real engine.
//!
//! A file a chapter, and one server a file; `support` has what the tests are written with.

#![expect(clippy::expect_used, clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(unreachable_pub, reason = "a test binary exports nothing")]

mod accounts;
mod aliases;
mod certificates;
mod commands;
mod crash;
mod federation_bad_input;
mod federation_declining;
mod federation_destinations;
mod federation_enter;
mod federation_events;
mod federation_gaps;
mod federation_history;
mod federation_inbox;
mod federation_invites;
mod federation_inviting;
mod federation_join;
mod federation_join_answers;
mod federation_keys;
mod federation_knocks;
mod federation_left_out;
mod federation_losing;
mod federation_nonsense;
mod federation_outbox;
mod federation_own_keys;
mod federation_resident;
mod federation_signatures;
mod federation_taken_back;
mod federation_trust;
mod federation_undone;
mod federation_vouching;
mod federation_waiting;
mod federation_wire;
mod filters;
mod history;
mod http_errors;
mod member_state_door;
mod members;
mod membership_ban;
mod membership_forget;
mod membership_invite;
mod membership_join;
mod membership_kick;
mod membership_knock;
mod membership_leave;
mod messages;
mod model;
mod nio;
mod profile;
mod profile_fields;
mod push_rules;
mod redact;
mod registration;
mod restart;
mod rooms_create;
mod scenes;
mod sessions;
mod shared_secret;
mod simulation;
mod start_stop;
mod state;
mod support;
mod sync_sections;
mod sync_shape;
mod sync_timeline;
mod sync_waiting;
mod sync_windows;
