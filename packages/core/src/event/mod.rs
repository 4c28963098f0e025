//! Events: drafts, sealed and opened PDUs, the key that signs them.

mod draft;
mod key;
mod limits;
mod open;
mod pdu;
mod seal;

pub use self::{
    draft::{Draft, Place},
    key::{KeyFileError, SigningKey},
    limits::{
        Fault, MAX_AUTH_EVENTS, MAX_FIELD_BYTES, MAX_NESTING, MAX_PDU_BYTES, MAX_PREV_EVENTS,
    },
    open::{OpenError, open},
    pdu::{Pdu, RedactError},
    seal::{event_id_of, seal},
};
