//! `/pushrules`: the default rules, to read.

use reqwest::Method;
use serde_json::json;

use crate::support::{Answer, SharedServer, TestUser, v3};

static SERVER: SharedServer = SharedServer::new();

async fn get(user: &TestUser, path: &[&str]) -> Answer {
    user.get(&[&["pushrules"], path].concat()).await
}

#[test]
fn everyone_has_the_default_rules() {
    SERVER.run(async |server| {
        let alice = server.user("alice").await;
        let all = get(&alice, &[""]).await.granted();
        assert_eq!(all["global"]["override"][0]["rule_id"], ".m.rule.master");
        assert_eq!(get(&alice, &["global", ""]).await.granted(), all["global"]);
        let rules = ["override", "content", "room", "sender", "underride"]
            .into_iter()
            .flat_map(|kind| all["global"][kind].as_array().cloned().unwrap_or_default());
        let invitation = rules
            .clone()
            .find(|rule| rule["rule_id"] == ".m.rule.invite_for_me")
            .expect("the rule for invitations");
        let me = &invitation["conditions"].as_array().unwrap()[2];
        assert_eq!(me["pattern"].as_str().or(me["value"].as_str()), Some(alice.id.as_str()));
        assert!(rules.count() > 10);
    });
}

#[test]
fn a_rule_is_read_alone() {
    SERVER.run(async |server| {
        let alice = server.user("alice").await;
        let rule = ["global", "override", ".m.rule.master"];
        let master = get(&alice, &rule).await.granted();
        assert_eq!(master["rule_id"], ".m.rule.master");
        assert_eq!(master["default"], true);
        let part = async |part: &str| get(&alice, &[&rule[..], &[part]].concat()).await.granted();
        assert_eq!(part("enabled").await, json!({ "enabled": false }));
        assert_eq!(part("actions").await, json!({ "actions": [] }));
        for part in [&[][..], &["enabled"], &["actions"]] {
            let unknown = [&["global", "override", ".m.rule.nonsense"], part].concat();
            get(&alice, &unknown).await.refused(404, "M_NOT_FOUND").says(".m.rule.nonsense");
            let unknown = [&["global", "nonsense", ".m.rule.master"], part].concat();
            get(&alice, &unknown).await.refused(404, "M_NOT_FOUND");
        }
    });
}

#[test]
fn rules_are_for_users_and_not_changed_yet() {
    SERVER.run(async |server| {
        let alice = server.user("alice").await;
        server.http().get(&v3(&["pushrules", ""])).await.refused(401, "M_MISSING_TOKEN");
        let url = alice.http.url(&v3(&["pushrules", "global", "override", "org.example"]));
        let request = alice.http.request(Method::PUT, url).json(&json!({ "actions": [] }));
        alice.http.send(request).await.refused(405, "M_UNRECOGNIZED");
    });
}
