//! The law and the vocabulary, from outside.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod histories;
mod judging;
mod opening;
mod powers;
mod resolution;
mod sealing;
mod state;
mod table;
mod telling;
mod world;
