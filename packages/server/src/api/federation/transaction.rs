//! `PUT /_matrix/federation/v1/send/{txnId}`
//!
//! What other servers send us. <https://spec.matrix.org/v1.19/server-server-api/#put_matrixfederationv1sendtxnid>

use ruma::{
    api::{
        error::ErrorKind,
        federation::transactions::send_transaction_message::v1::{Request, Response},
    },
    serde::Raw,
};

use crate::{
    app::App,
    federation::inbox::{self, MOST_EDUS, MOST_PDUS, Transaction},
    http::{ApiError, Matrix},
};

/// How large a transaction may be, in bytes: the largest events, and ephemeral messages beside them.
pub(super) const LARGEST: usize = 12 << 20;

/// How long a transaction's id may be, in bytes: it is remembered with the answer.
const LONGEST_ID: usize = 255;

pub(super) async fn send(app: App, matrix: Matrix<Request>) -> Result<Response, ApiError> {
    let origin = matrix.origin().to_owned();
    let Request { transaction_id, pdus, edus, .. } = matrix.request;
    if transaction_id.as_str().len() > LONGEST_ID {
        return Err(ApiError::new(
            http::StatusCode::BAD_REQUEST,
            ErrorKind::InvalidParam,
            format!("The transaction's id is longer than {LONGEST_ID} bytes."),
        ));
    }
    for (what, count, most) in [("PDUs", pdus.len(), MOST_PDUS), ("EDUs", edus.len(), MOST_EDUS)] {
        if count > most {
            return Err(ApiError::new(
                http::StatusCode::BAD_REQUEST,
                ErrorKind::InvalidParam,
                format!("The transaction has {count} {what}; at most {most} are allowed."),
            ));
        }
    }
    let kind = |edu: &Raw<_>| edu.get_field::<String>("edu_type").ok().flatten();
    let edus = edus.iter().filter_map(kind).collect();
    let transaction = Transaction { origin, id: transaction_id, pdus, edus };
    Ok(Response::new(inbox::take(&app, transaction).await?))
}
