//! Devices, `device:[user, device]`: what is logged in, and with which tokens.

use ruma::{DeviceId, MilliSecondsSinceUnixEpoch, OwnedDeviceId, OwnedUserId, UserId};
use surrealdb::{
    IndexedResults,
    types::{Object, RecordId, SurrealValue, object},
};

use crate::{
    Database, StoreError, time,
    token::{self, TokenHash},
    user, value,
};

/// A device that is logged in, new or known, with the tokens that it gets.
#[derive(Debug, Clone)]
pub struct Login {
    /// Whose device it is.
    pub user_id: OwnedUserId,
    /// Its id.
    pub device_id: OwnedDeviceId,
    /// How it is to be called, if it is new.
    pub name: Option<String>,
    /// The time now.
    pub at: MilliSecondsSinceUnixEpoch,
    /// The access token's hash.
    pub access: TokenHash,
    /// Until when the access token is good; for ever if none.
    pub expires: Option<MilliSecondsSinceUnixEpoch>,
    /// The refresh token's hash, if the client asked for one.
    pub refresh: Option<TokenHash>,
}

/// A device as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Its id, unique among its user's.
    pub device_id: OwnedDeviceId,
    /// How its user calls it.
    pub name: Option<String>,
    /// When it first logged in.
    pub created: MilliSecondsSinceUnixEpoch,
}

/// The access tokens that a change made worthless: whoever remembers one must forget it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Removed(pub Vec<TokenHash>);

impl Removed {
    /// The access tokens among the record ids of both kinds that a statement returned; nothing if it returned NONE.
    ///
    /// Asked for as an `Option`, an empty array would be NONE too.
    pub(crate) fn read(answer: &mut IndexedResults) -> Result<Option<Self>, StoreError> {
        let ids = Option::<Vec<RecordId>>::from_value(answer.take(0)?)?;
        let Some(ids) = ids else { return Ok(None) };
        ids.iter()
            .filter(|id| id.table.as_str() == token::ACCESS)
            .map(TokenHash::read)
            .collect::<Result<_, _>>()
            .map(|tokens| Some(Self(tokens)))
    }
}

#[derive(SurrealValue)]
struct Row {
    id: RecordId,
    name: Option<String>,
    created: i64,
}

impl TryFrom<Row> for Device {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        let (_, device_id) = parse(&row.id)?;
        Ok(Self { device_id, name: row.name, created: time::from_row(row.created) })
    }
}

/// `device:[user, device]`
pub(crate) fn id(user: &UserId, device: &DeviceId) -> RecordId {
    value::record("device", [user.as_str().into_value(), device.as_str().into_value()])
}

/// All devices of a user.
pub(crate) fn all_of(user: &UserId) -> RecordId {
    value::beginning_with("device", [user.as_str().into_value()])
}

/// The user and the device of a `device:[user, device]`.
pub(crate) fn parse(id: &RecordId) -> Result<(OwnedUserId, OwnedDeviceId), StoreError> {
    let user = value::parsed(value::text_part(id, 0)?, &value::unfit(id))?;
    Ok((user, value::text_part(id, 1)?.into()))
}

/// Statements that write a new device's row and its tokens, from [`variables`].
pub(crate) const CREATE: &str = "
    CREATE $device SET name = $name, created = $at, tokens = $tokens, next = [] RETURN NONE;
    INSERT INTO access_token $access_rows RETURN NONE;
    INSERT INTO refresh_token $refresh_rows RETURN NONE;
";

/// Statements that remove `$devices` and return the ids of their tokens.
pub(crate) const REMOVE: &str = "
    LET $removed = array::flatten((DELETE $devices RETURN BEFORE).map(|$d| array::concat($d.tokens, $d.next)));
    DELETE $removed;
    RETURN $removed;
";

/// The parameters of [`CREATE`].
pub(crate) fn variables(login: &Login) -> Object {
    let device = id(&login.user_id, &login.device_id);
    let access = login.access.access();
    let refresh = login.refresh.as_ref().map(TokenHash::refresh);
    let tokens: Vec<RecordId> = std::iter::once(access.clone()).chain(refresh.clone()).collect();
    let expires = login.expires.map(time::to_row);
    let access_rows =
        vec![object! { id: access, device: device.clone(), expires: expires, next: false }];
    let refresh_rows: Vec<Object> =
        refresh.map(|id| object! { id: id, device: device.clone() }).into_iter().collect();
    object! {
        device: device,
        name: login.name.clone(),
        at: time::to_row(login.at),
        tokens: tokens,
        access_rows: access_rows,
        refresh_rows: refresh_rows,
    }
}

impl Database {
    /// Logs a device in. If it is known, its tokens are replaced and it keeps its name.
    ///
    /// `None` if there is no such account, or it has been deactivated.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn log_in(&self, login: &Login) -> Result<Option<Removed>, StoreError> {
        // A login writes the account's row: a deactivation or a new password at the same time is a conflict then, and
        // not a login that outlives it. Reading FOR UPDATE is not enough, the other one's snapshot may be older.
        let sql = "{
            LET $open = UPDATE ONLY $user SET logins += 1 WHERE !deactivated RETURN VALUE true;
            IF $open != true { RETURN NONE };
            LET $was = SELECT tokens, next FROM ONLY $device;
            LET $removed = array::concat($was.tokens ?? [], $was.next ?? []);
            DELETE $removed;
            INSERT INTO access_token $access_rows RETURN NONE;
            INSERT INTO refresh_token $refresh_rows RETURN NONE;
            IF $was = NONE {
                CREATE $device SET name = $name, created = $at, tokens = $tokens, next = [];
            } ELSE {
                UPDATE $device SET tokens = $tokens, next = [];
            };
            RETURN $removed;
        }";
        let mut variables = variables(login);
        variables.insert("user".to_owned(), user::id(&login.user_id).into_value());
        let mut answer = self.change(sql, variables).await?;
        Removed::read(&mut answer)
    }

    /// Logs one device out: it and its tokens are gone.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn log_out(&self, user: &UserId, device: &DeviceId) -> Result<Removed, StoreError> {
        self.remove_devices(id(user, device)).await
    }

    /// Logs all of a user's devices out.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn log_out_all(&self, user: &UserId) -> Result<Removed, StoreError> {
        self.remove_devices(all_of(user)).await
    }

    /// One device of a user.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn device(
        &self,
        user: &UserId,
        device: &DeviceId,
    ) -> Result<Option<Device>, StoreError> {
        let variables = object! { device: id(user, device) };
        let mut answer = self.ask("SELECT id, name, created FROM ONLY $device", variables).await?;
        let row: Option<Row> = answer.take(0)?;
        row.map(Device::try_from).transpose()
    }

    /// All devices of a user, by id.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn devices(&self, user: &UserId) -> Result<Vec<Device>, StoreError> {
        let variables = object! { devices: all_of(user) };
        let mut answer = self.ask("SELECT id, name, created FROM $devices", variables).await?;
        let rows: Vec<Row> = answer.take(0)?;
        rows.into_iter().map(Device::try_from).collect()
    }

    async fn remove_devices(&self, devices: RecordId) -> Result<Removed, StoreError> {
        let sql = format!("{{ {REMOVE} }}");
        let mut answer = self.change(&sql, object! { devices: devices }).await?;
        Ok(Removed::read(&mut answer)?.unwrap_or_default())
    }
}
