//! Scenes between two servers that know each other by nothing but the network: Matryx and Synapse, as it comes from
//! `PyPI`, with the room at the one or at the other, and two Matryx;
//! and scenes of all of them.
//!
//! A scene is written against the client API alone and does not know what its servers run. That the scenes themselves
//! are right is shown by two Synapses: `cargo test --workspace -- --ignored both_synapse`.

/// A test of each scene for every pair of servers. What is said of a scene holds for those with Matryx.
macro_rules! scenes {
    ($play:ident: $($(#[$said:meta])* $name:ident),* $(,)?) => {$(
        mod $name {
            use crate::{scenes::stage::$play, support::Software::{Matryx, Synapse}};

            #[test]
            $(#[$said])*
            fn at_matryx_with_synapse() {
                $play(Matryx, Synapse, super::$name);
            }

            #[test]
            $(#[$said])*
            fn at_synapse_with_matryx() {
                $play(Synapse, Matryx, super::$name);
            }

            #[test]
            $(#[$said])*
            fn both_matryx() {
                $play(Matryx, Matryx, super::$name);
            }

            #[test]
            #[ignore = "a proof of the scene, not of Matryx"]
            fn both_synapse() {
                $play(Synapse, Synapse, super::$name);
            }
        }
    )*};
}

mod crowds;
mod invites;
mod joins;
mod knocks;
mod look_ups;
mod messages;
mod moderation;
mod outages;
mod stage;
