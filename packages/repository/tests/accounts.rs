//! Accounts, devices and tokens on the real engine.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use matryx_repository::{Account, Database, DatabaseSettings, Login, NextPair, Removed, TokenHash};
use ruma::{
    MilliSecondsSinceUnixEpoch, OwnedDeviceId, OwnedUserId, UInt, owned_user_id, server_name,
};
use serde_json::json;
use tempfile::TempDir;

/// A store of its own, which is gone with it.
struct Store {
    database: Database,
    folder: TempDir,
}

impl Store {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { database: open(&folder).await, folder }
    }

    async fn restart(self) -> Self {
        let Self { database, folder } = self;
        database.close().await.unwrap();
        Self { database: open(&folder).await, folder }
    }
}

async fn open(folder: &TempDir) -> Database {
    let settings = DatabaseSettings::in_passing(folder.path());
    Database::open(&settings, server_name!("hs1")).await.unwrap()
}

fn run(test: impl Future<Output = ()>) {
    matryx_repository::runtime().unwrap().block_on(test);
}

fn alice() -> OwnedUserId {
    owned_user_id!("@alice:hs1")
}

fn at(milliseconds: u32) -> MilliSecondsSinceUnixEpoch {
    MilliSecondsSinceUnixEpoch(UInt::from(milliseconds))
}

fn account(user_id: OwnedUserId) -> Account {
    Account {
        user_id,
        password: Some("$argon2id$…".to_owned()),
        admin: false,
        deactivated: false,
        created: at(1),
    }
}

fn login(user_id: OwnedUserId, device: &str, access: &str, refresh: Option<&str>) -> Login {
    Login {
        user_id,
        device_id: device.into(),
        name: Some(format!("{device}'s name")),
        at: at(2),
        access: TokenHash::of(access),
        expires: refresh.map(|_| at(1000)),
        refresh: refresh.map(TokenHash::of),
    }
}

async fn whose(database: &Database, access: &str) -> Option<(OwnedUserId, OwnedDeviceId)> {
    let grant = database.grant(&TokenHash::of(access)).await.unwrap()?;
    Some((grant.user_id, grant.device_id))
}

fn removed(access: &[&str]) -> Removed {
    Removed(access.iter().map(|access| TokenHash::of(access)).collect())
}

#[test]
fn an_account_is_found_as_it_was_made_also_after_a_restart() {
    run(async {
        let store = Store::new().await;
        let account = account(alice());
        assert_eq!(store.database.account(&alice()).await.unwrap(), None);
        assert!(store.database.create_account(&account, None).await.unwrap());
        let store = store.restart().await;
        assert_eq!(store.database.account(&alice()).await.unwrap(), Some(account));
    });
}

#[test]
fn a_name_is_given_once_and_a_loser_leaves_nothing() {
    run(async {
        let Store { database, folder: _folder } = Store::new().await;
        let tries = (0..8).map(|number| {
            let database = database.clone();
            tokio::spawn(async move {
                let login = login(alice(), &format!("D{number}"), &format!("a{number}"), None);
                database.create_account(&account(alice()), Some(&login)).await.unwrap()
            })
        });
        let mut winners = Vec::new();
        for (number, task) in tries.collect::<Vec<_>>().into_iter().enumerate() {
            if task.await.unwrap() {
                winners.push(number);
            }
        }
        assert_eq!(winners.len(), 1);
        for number in 0..8 {
            let found = whose(&database, &format!("a{number}")).await;
            assert_eq!(found.is_some(), winners.contains(&number));
        }
        assert_eq!(database.devices(&alice()).await.unwrap().len(), 1);
    });
}

#[test]
fn passwords_and_admins_change() {
    run(async {
        let Store { database, folder: _folder } = Store::new().await;
        assert!(!database.set_admin(&alice(), true).await.unwrap());
        assert_eq!(database.set_password(&alice(), "x", true).await.unwrap(), None);
        let first = login(alice(), "D", "a", None);
        database.create_account(&account(alice()), Some(&first)).await.unwrap();

        assert!(database.set_admin(&alice(), true).await.unwrap());
        let kept = database.set_password(&alice(), "x", false).await.unwrap();
        assert_eq!(kept, Some(removed(&[])));
        assert!(whose(&database, "a").await.is_some());
        let gone = database.set_password(&alice(), "y", true).await.unwrap();
        assert_eq!(gone, Some(removed(&["a"])));
        assert_eq!(whose(&database, "a").await, None);

        let account = database.account(&alice()).await.unwrap().unwrap();
        assert_eq!((account.password.as_deref(), account.admin), (Some("y"), true));
    });
}

#[test]
fn a_deactivated_account_has_nothing_and_gets_nothing() {
    run(async {
        let Store { database, folder: _folder } = Store::new().await;
        let first = login(alice(), "D", "a", Some("r"));
        database.create_account(&account(alice()), Some(&first)).await.unwrap();
        let gone = database.deactivate(&alice()).await.unwrap();
        assert_eq!(gone, Some(removed(&["a"])));

        let account = database.account(&alice()).await.unwrap().unwrap();
        assert!(account.deactivated);
        assert_eq!(account.password, None);
        assert_eq!(whose(&database, "a").await, None);
        assert_eq!(database.refresh_owner(&TokenHash::of("r")).await.unwrap(), None);
        assert_eq!(database.devices(&alice()).await.unwrap(), vec![]);
        let again = login(alice(), "D", "b", None);
        assert_eq!(database.log_in(&again).await.unwrap(), None);
        assert_eq!(whose(&database, "b").await, None);
        assert!(!database.create_account(&account, None).await.unwrap());
    });
}

#[test]
fn nobody_logs_in_past_a_deactivation() {
    run(async {
        let Store { database, folder: _folder } = Store::new().await;
        database.create_account(&account(alice()), None).await.unwrap();
        let logins = (0..8).map(|number| {
            let database = database.clone();
            tokio::spawn(async move {
                let login = login(alice(), &format!("D{number}"), &format!("a{number}"), None);
                database.log_in(&login).await.unwrap();
            })
        });
        let logins: Vec<_> = logins.collect();
        database.deactivate(&alice()).await.unwrap();
        for task in logins {
            task.await.unwrap();
        }
        assert_eq!(database.devices(&alice()).await.unwrap(), vec![]);
        for number in 0..8 {
            assert_eq!(whose(&database, &format!("a{number}")).await, None);
        }
    });
}

#[test]
fn logging_in_again_on_a_device_replaces_its_tokens_and_keeps_its_name() {
    run(async {
        let Store { database, folder: _folder } = Store::new().await;
        let unknown = login(alice(), "D", "a", None);
        assert_eq!(database.log_in(&unknown).await.unwrap(), None);

        database.create_account(&account(alice()), Some(&unknown)).await.unwrap();
        let mut again = login(alice(), "D", "b", Some("r"));
        again.name = Some("another name".to_owned());
        again.at = at(3);
        assert_eq!(database.log_in(&again).await.unwrap(), Some(removed(&["a"])));
        assert_eq!(whose(&database, "a").await, None);
        assert_eq!(whose(&database, "b").await, Some((alice(), "D".into())));
        let device = database.device(&alice(), "D".into()).await.unwrap().unwrap();
        assert_eq!((device.name.as_deref(), device.created), (Some("D's name"), at(2)));

        let grant = database.grant(&TokenHash::of("b")).await.unwrap().unwrap();
        assert_eq!((grant.expires, grant.next), (Some(at(1000)), false));
    });
}

#[test]
fn logging_out_takes_one_device_or_all_and_nobody_elses() {
    run(async {
        let Store { database, folder: _folder } = Store::new().await;
        // Bob's id begins with Alice's, and so do his rows.
        let bob = owned_user_id!("@alice:hs1.example");
        for user in [alice(), bob.clone()] {
            database.create_account(&account(user), None).await.unwrap();
        }
        for (device, access, refresh) in
            [("A", "a", None), ("B", "b", Some("rb")), ("C", "c", None)]
        {
            let login = login(alice(), device, access, refresh);
            database.log_in(&login).await.unwrap();
        }
        database.log_in(&login(bob.clone(), "A", "bob", None)).await.unwrap();

        let gone = database.log_out(&alice(), "A".into()).await.unwrap();
        assert_eq!(gone, removed(&["a"]));
        let gone = database.log_out(&alice(), "A".into()).await.unwrap();
        assert_eq!(gone, removed(&[]));
        assert_eq!(whose(&database, "a").await, None);
        assert!(whose(&database, "b").await.is_some());

        let gone = database.log_out_all(&alice()).await.unwrap();
        assert_eq!(gone, removed(&["b", "c"]));
        assert_eq!(database.refresh_owner(&TokenHash::of("rb")).await.unwrap(), None);
        assert_eq!(database.devices(&alice()).await.unwrap(), vec![]);
        assert_eq!(whose(&database, "bob").await, Some((bob, "A".into())));
    });
}

async fn refresh(database: &Database, used: &str, access: &str, refresh: &str) -> Option<Removed> {
    let used = TokenHash::of(used);
    let owner = database.refresh_owner(&used).await.unwrap()?;
    let (access, refresh) = (TokenHash::of(access), TokenHash::of(refresh));
    let pair = NextPair { access, expires: at(2000), refresh };
    database.refresh(&used, &owner, &pair).await.unwrap()
}

async fn settle(database: &Database, access: &str) -> Option<Removed> {
    let access = TokenHash::of(access);
    let grant = database.grant(&access).await.unwrap()?;
    database.settle(&access, &grant).await.unwrap()
}

#[test]
fn the_old_pair_is_good_until_the_next_one_is_used() {
    run(async {
        let Store { database, folder: _folder } = Store::new().await;
        let first = login(alice(), "D", "a1", Some("r1"));
        database.create_account(&account(alice()), Some(&first)).await.unwrap();

        assert_eq!(refresh(&database, "unknown", "x", "y").await, None);
        assert_eq!(refresh(&database, "r1", "a2", "r2").await, Some(removed(&[])));
        assert!(whose(&database, "a1").await.is_some());
        // The answer got lost: the same refresh token again, and what nobody has used is gone.
        assert_eq!(refresh(&database, "r1", "a3", "r3").await, Some(removed(&["a2"])));
        assert_eq!(whose(&database, "a2").await, None);
        assert!(database.grant(&TokenHash::of("a3")).await.unwrap().unwrap().next);

        assert_eq!(settle(&database, "a3").await, Some(removed(&["a1"])));
        assert_eq!(settle(&database, "a3").await, Some(removed(&[])));
        assert!(!database.grant(&TokenHash::of("a3")).await.unwrap().unwrap().next);
        assert_eq!(whose(&database, "a1").await, None);
        assert_eq!(refresh(&database, "r1", "x", "y").await, None);

        // Using the next refresh token settles the pair as well.
        assert_eq!(refresh(&database, "r3", "a4", "r4").await, Some(removed(&[])));
        assert_eq!(refresh(&database, "r4", "a5", "r5").await, Some(removed(&["a3"])));
        assert!(whose(&database, "a4").await.is_some());
        assert_eq!(refresh(&database, "r3", "x", "y").await, None);

        // Logging out takes both pairs.
        let gone = database.log_out(&alice(), "D".into()).await.unwrap();
        assert_eq!(gone, removed(&["a4", "a5"]));
        assert_eq!(settle(&database, "a5").await, None);
        assert_eq!(refresh(&database, "r5", "x", "y").await, None);
    });
}

#[test]
fn a_profile_is_kept_field_by_field() {
    run(async {
        let store = Store::new().await;
        let database = &store.database;
        assert!(database.profile(&alice()).await.unwrap().is_empty());
        assert_eq!(database.profile_field(&alice(), "displayname").await.unwrap(), None);

        let name = json!("Alice \u{0} 🙂");
        database.set_profile_field(&alice(), "displayname", &json!("old")).await.unwrap();
        database.set_profile_field(&alice(), "displayname", &name).await.unwrap();
        database
            .set_profile_field(&alice(), "m.tz", &json!({"b": [1, null], "a": 1.0}))
            .await
            .unwrap();
        let store = store.restart().await;
        let database = &store.database;
        let all = database.profile(&alice()).await.unwrap();
        assert_eq!(all["displayname"], name);
        assert_eq!(all["m.tz"], json!({"b": [1, null], "a": 1.0}));
        assert_eq!(all.len(), 2);

        database.remove_profile_field(&alice(), "m.tz").await.unwrap();
        database.remove_profile_field(&alice(), "m.tz").await.unwrap();
        assert_eq!(database.profile_field(&alice(), "m.tz").await.unwrap(), None);
        assert_eq!(database.profile_field(&alice(), "displayname").await.unwrap(), Some(name));
    });
}

#[test]
fn the_same_filter_has_the_same_id() {
    run(async {
        let Store { database, folder: _folder } = Store::new().await;
        let bob = owned_user_id!("@bob:hs1");
        let first = database.keep_filter(&alice(), r#"{"room":{}}"#).await.unwrap();
        let other = database.keep_filter(&alice(), "{}").await.unwrap();
        assert_ne!(first, other);
        assert_eq!(database.keep_filter(&alice(), r#"{"room":{}}"#).await.unwrap(), first);
        let found = database.filter(&alice(), &first).await.unwrap();
        assert_eq!(found.as_deref(), Some(r#"{"room":{}}"#));
        assert_eq!(database.filter(&bob, &first).await.unwrap(), None);
    });
}
