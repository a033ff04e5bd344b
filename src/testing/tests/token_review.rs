use std::time::Duration;

use serde_json::json;

use super::{super::*, *};

#[tokio::test]
async fn a_good_token_is_its_service_account() {
    let cluster = cluster().await;
    let uid = cluster.create_service_account("team-a", "robot");
    let token = cluster.token("team-a", "robot").audience("x").audience("y").issue().unwrap();
    let request = post(TOKEN_REVIEWS, &json!({"spec": {"token": token, "audiences": ["z", "y"]}}));
    let review: Value = cluster.kube_client().unwrap().request(request).await.unwrap();
    let mut status = review["status"].clone();
    let id = status["user"]["extra"]["authentication.kubernetes.io/credential-id"][0].take();
    assert!(id.as_str().unwrap().starts_with("JTI="), "{id}");
    assert_eq!(
        status,
        json!({
            "authenticated": true,
            "audiences": ["y"],
            "user": {
                "username": "system:serviceaccount:team-a:robot",
                "uid": uid,
                "groups": ["system:serviceaccounts", "system:serviceaccounts:team-a", "system:authenticated"],
                "extra": {"authentication.kubernetes.io/credential-id": [null]},
            },
        })
    );
}

#[tokio::test]
async fn a_token_is_for_its_audiences_only() {
    let cluster = cluster().await;
    let api = cluster.issuer().to_owned();
    let for_x = cluster.token("team-a", "robot").audience("x").issue().unwrap();
    let for_api = cluster.token("team-a", "robot").issue().unwrap();
    assert_eq!(review(&cluster, &for_x, &["x"])["audiences"], json!(["x"]));
    assert_eq!(review(&cluster, &for_api, &[])["audiences"], json!([api]));
    assert_eq!(
        review(&cluster, &for_x, &[])["error"],
        format!(
            r#"[invalid bearer token, token audiences ["x"] is invalid for the target audiences ["{api}"]]"#
        )
    );
    assert!(!is_good(&cluster, &for_api));
}

#[tokio::test]
async fn times_are_judged_by_the_injected_clock_with_a_minute_of_leeway() {
    let clock = ManualClock::new();
    let cluster = with(Cluster::builder().clock(clock.clock())).await;
    let token = cluster
        .token("team-a", "robot")
        .audience("x")
        .expires_in(Duration::from_secs(600))
        .issue()
        .unwrap();
    clock.advance(Duration::from_secs(659));
    assert!(is_good(&cluster, &token));
    clock.advance(Duration::from_secs(2));
    assert_eq!(
        refusal(&cluster, &token),
        "[invalid bearer token, service account token has expired]"
    );
    clock.jump_back(Duration::from_secs(661 + 59));
    assert!(is_good(&cluster, &token), "not valid before, but within the leeway");
    clock.jump_back(Duration::from_secs(3));
    assert_eq!(
        refusal(&cluster, &token),
        "[invalid bearer token, service account token is not valid yet]"
    );
}

#[tokio::test]
async fn claims_are_read_as_go_reads_them() {
    let cluster = cluster().await;
    let now = claims(&cluster)["iat"].as_u64().unwrap();
    let good = |change: &dyn Fn(&mut Value)| {
        let mut claims = claims(&cluster);
        change(&mut claims);
        is_good(&cluster, &cluster.mint(&claims))
    };
    let without =
        |claims: &mut Value, name: &str| drop(claims.as_object_mut().unwrap().remove(name));
    assert!(good(&|_| ()));
    assert!(good(&|claims| claims["exp"] = json!(now as f64 + 600.5)));
    assert!(
        good(&|claims| without(claims, "exp")),
        "TokenReview of newer releases takes no `exp` for no end"
    );
    assert!(good(&|claims| claims["aud"] = json!("x")));
    assert!(
        good(&|claims| claims["sub"] = json!("somebody else")),
        "only the private claims count"
    );
    assert!(good(&|claims| claims["kubernetes.io"]["someday"] = json!({"name": "x"})));
    for (name, bad) in [
        ("exp", json!((now + 600).to_string())),
        ("exp", json!(-1)),
        ("exp", json!(1e30)),
        ("exp", json!(now - 61)),
        ("nbf", json!(now + 90)),
        ("iat", json!(now + 90)),
        ("aud", json!(5)),
        ("aud", json!(["x", 5])),
        ("aud", json!([])),
        ("jti", json!(5)),
        ("iss", json!([cluster.issuer()])),
        ("iss", json!("https://other")),
    ] {
        assert!(!good(&|claims| claims[name] = bad.clone()), "{name} {bad}");
    }
    for (name, bad) in [
        ("uid", json!("other")),
        ("name", json!("other")),
        ("name", json!(null)),
        ("uid", json!(null)),
    ] {
        assert!(
            !good(&|claims| claims["kubernetes.io"]["serviceaccount"][name] = bad.clone()),
            "{name} {bad}"
        );
    }
    assert!(!good(&|claims| claims["kubernetes.io"]["namespace"] = json!("default")));
}

#[tokio::test]
async fn what_the_cluster_did_not_sign_is_refused() {
    let cluster = cluster().await;
    let (claims, key) = (claims(&cluster), cluster.signing_key());
    let good = cluster.mint(&claims);
    let parts: Vec<&str> = good.split('.').collect();
    let [header, payload, signature] = parts.as_slice() else { panic!() };
    let stranger = SigningKey::generate(Algorithm::RS256).unwrap();
    let lying = json!({"alg": "HS256", "kid": key.kid()});
    let bad = [
        ("another key under our kid", stranger.sign(&key.header(), &claims)),
        ("another key", stranger.sign(&stranger.header(), &claims)),
        ("no signature", format!("{header}.{payload}.")),
        ("a cut signature", format!("{header}.{payload}.{}", &signature[..300])),
        ("HS256 with the public key", sign_hs256(&lying, &claims, key.public_key_pem().as_bytes())),
        ("alg none", key.sign(&json!({"alg": "none"}), &claims)),
        ("a lying alg", key.sign(&json!({"alg": "ES256", "kid": key.kid()}), &claims)),
        ("an unknown kid", key.sign(&json!({"alg": "RS256", "kid": "../../etc/passwd"}), &claims)),
        ("a critical extension", key.sign(&json!({"alg": "RS256", "crit": ["x"]}), &claims)),
        ("two parts", format!("{header}.{payload}")),
        ("four parts", format!("{good}.x")),
        ("padding", format!("{good}==")),
        (
            "JSON serialisation",
            json!({"protected": header, "payload": payload, "signature": signature}).to_string(),
        ),
        ("garbage", "garbage".to_owned()),
    ];
    for (what, token) in bad {
        assert!(!is_good(&cluster, &token), "{what}");
    }
    assert!(
        is_good(&cluster, &key.sign(&json!({"alg": "RS256"}), &claims)),
        "without a kid every key is tried"
    );
    assert!(is_good(&cluster, &key.sign(&json!({"alg": "PS512", "kid": key.kid()}), &claims)));
    let duplicate =
        format!("{},\"exp\":9999999999}}", claims.to_string().trim_end_matches('}')) + "}";
    let duplicate =
        key.sign_bytes("RS256", key.header().to_string().as_bytes(), duplicate.as_bytes());
    assert!(!is_good(&cluster, &duplicate));
}

/// Go's decoder ignores the bits that base64 has left over: one token, several spellings.
#[tokio::test]
async fn a_respelled_signature_is_still_good() {
    let cluster = cluster().await;
    let token = cluster.mint(&claims(&cluster));
    let last = token.chars().last().unwrap();
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let next = alphabet.chars().nth(alphabet.find(last).unwrap() + 1).unwrap();
    assert!(is_good(&cluster, &format!("{}{next}", &token[..token.len() - 1])));
}

#[tokio::test]
async fn a_token_ends_with_its_service_account() {
    let cluster = cluster().await;
    let token = cluster.token("team-a", "robot").audience("x").issue().unwrap();
    let old = cluster.create_service_account("team-a", "robot");
    assert!(cluster.delete_service_account("team-a", "robot"));
    assert_eq!(
        refusal(&cluster, &token),
        r#"[invalid bearer token, serviceaccounts "robot" not found]"#
    );
    let new = cluster.create_service_account("team-a", "robot");
    assert_eq!(
        refusal(&cluster, &token),
        format!("[invalid bearer token, service account UID ({new}) does not match claim ({old})]")
    );
}

#[tokio::test]
async fn a_token_ends_with_what_it_is_bound_to() {
    let cluster = cluster().await;
    cluster.create_pod_on_node("team-a", "robot-0", "robot", "node-1");
    cluster.create_secret("team-a", "robot-secret");
    let token = || cluster.token("team-a", "robot").audience("x");
    let by_pod = token().bound_to_pod("robot-0").issue().unwrap();
    let by_secret = token().bound_to_secret("robot-secret").issue().unwrap();
    let by_node = token().bound_to_node("node-1").issue().unwrap();
    let extra = &review(&cluster, &by_pod, &["x"])["user"]["extra"];
    assert_eq!(extra["authentication.kubernetes.io/pod-name"], json!(["robot-0"]));
    assert_eq!(extra["authentication.kubernetes.io/node-name"], json!(["node-1"]));
    assert!(is_good(&cluster, &by_secret) && is_good(&cluster, &by_node));

    cluster.delete_pod("team-a", "robot-0");
    cluster.delete_secret("team-a", "robot-secret");
    for gone in [&by_pod, &by_secret] {
        assert_eq!(
            refusal(&cluster, gone),
            "[invalid bearer token, service account token has been invalidated]"
        );
    }
    cluster.create_pod("team-a", "robot-0", "robot");
    assert!(refusal(&cluster, &by_pod).contains("does not match service account pod ref claim"));
    let nodes: kube::Api<k8s_openapi::api::core::v1::Node> =
        kube::Api::all(cluster.admin_client().unwrap());
    nodes.delete("node-1", &Default::default()).await.unwrap();
    assert!(!is_good(&cluster, &by_node));
}

/// `DeletionTimestamp.Before(now - leeway)`: a minute of grace, to the second.
#[tokio::test]
async fn a_pod_marked_for_deletion_is_gone_a_minute_later() {
    let clock = ManualClock::new();
    let cluster = with(Cluster::builder().clock(clock.clock())).await;
    cluster.create_pod_on_node("team-a", "robot-0", "robot", "node-1");
    let token =
        cluster.token("team-a", "robot").audience("x").bound_to_pod("robot-0").issue().unwrap();
    let pods: kube::Api<k8s_openapi::api::core::v1::Pod> =
        kube::Api::namespaced(cluster.admin_client().unwrap(), "team-a");
    let grace = kube::api::DeleteParams { grace_period_seconds: Some(10), ..Default::default() };
    pods.delete("robot-0", &grace).await.unwrap();
    assert!(
        pods.get("robot-0").await.unwrap().metadata.deletion_timestamp.is_some(),
        "nothing runs here that ends it"
    );
    clock.advance(Duration::from_secs(10 + 59));
    assert!(is_good(&cluster, &token));
    clock.advance(Duration::from_secs(2));
    assert!(!is_good(&cluster, &token));
}

#[tokio::test]
async fn users_who_are_not_service_accounts_are_authenticated_too() {
    let cluster = cluster().await;
    cluster.add_static_token("s3cr3t", "jane", &["developers"]);
    let status = review(&cluster, "s3cr3t", &[]);
    assert_eq!(status["user"]["username"], "jane");
    assert_eq!(status["user"]["groups"], json!(["developers", "system:authenticated"]));
    assert_eq!(
        refusal(&cluster, "s3cr3t"),
        "invalid bearer token",
        "but for the API server's audience only"
    );
}

/// A TokenReview's token is put behind `Bearer ` into a header, and spaces then do what they do there.
#[tokio::test]
async fn spaces_in_a_token_do_what_they_do_in_kubernetes() {
    let cluster = cluster().await;
    let token = cluster.mint(&claims(&cluster));
    assert!(is_good(&cluster, &format!("{token} junk")));
    let anonymous = review(&cluster, " x", &["x"]);
    assert_eq!(anonymous["authenticated"], true);
    assert_eq!(anonymous["user"]["username"], "system:anonymous");
    assert_eq!(anonymous["audiences"], json!(["x"]));
    let empty = cluster.state.review_token(json!({"spec": {"token": ""}})).unwrap_err();
    assert_eq!((empty.code.as_u16(), empty.reason), (400, "BadRequest"));
}

#[tokio::test]
async fn legacy_tokens_last_as_long_as_their_secret() {
    let cluster = cluster().await;
    let token = cluster.legacy_token("team-a", "robot").unwrap();
    let status = review(&cluster, &token, &[]);
    assert_eq!(status["user"]["username"], "system:serviceaccount:team-a:robot");
    assert!(status["user"].get("extra").is_none());
    assert!(!is_good(&cluster, &token), "they are for the API server");
    cluster.delete_secret("team-a", "robot-token");
    assert!(review(&cluster, &token, &[])["authenticated"].is_null());
}

#[tokio::test]
async fn a_rotation_keeps_old_tokens_good_until_its_last_step() {
    let cluster = cluster().await;
    let old = cluster.mint(&claims(&cluster));
    let new = cluster.add_key(Algorithm::ES384).unwrap();
    assert_eq!(cluster.signing_key().algorithm(), Algorithm::RS256);
    cluster.sign_with_newest();
    let newer = cluster.mint(&claims(&cluster));
    assert!(is_good(&cluster, &old) && is_good(&cluster, &newer));
    cluster.hide_from_discovery(&new);
    assert!(!cluster.jwks_json().contains(new.kid()));
    assert!(is_good(&cluster, &newer), "TokenReview knows hidden keys");
    cluster.remove_old_keys();
    assert!(!is_good(&cluster, &old) && is_good(&cluster, &newer));
}

#[tokio::test]
async fn several_issuers_are_accepted_and_the_first_one_signs() {
    let cluster = with(Cluster::builder().issuer("https://new").issuer("https://old")).await;
    let mut claims = claims(&cluster);
    assert_eq!(claims["iss"], "https://new");
    claims["iss"] = json!("https://old");
    assert!(is_good(&cluster, &cluster.mint(&claims)));

    let several =
        Cluster::builder().release(Release::V1_20).issuer("https://new").issuer("https://old");
    let refused = several.start().await.unwrap_err();
    assert!(refused.to_string().contains("one issuer"), "{refused}");
}

#[tokio::test]
async fn release_1_20_has_its_own_words_and_knows_no_jti() {
    let clock = ManualClock::new();
    let cluster = with(Cluster::builder().release(Release::V1_20).clock(clock.clock())).await;
    cluster.create_pod_on_node("team-a", "robot-0", "robot", "node-1");
    let claims =
        cluster.token("team-a", "robot").audience("x").bound_to_pod("robot-0").claims().unwrap();
    assert!(claims.get("jti").is_none() && claims["kubernetes.io"].get("node").is_none());
    let node = cluster.token("team-a", "robot").bound_to_node("node-1").issue().unwrap_err();
    assert_eq!(node.to_string(), "cannot bind token to object of type /v1, Kind=Node");
    let token = cluster.mint(&claims);
    assert!(is_good(&cluster, &token));
    clock.advance(Duration::from_secs(4000));
    assert_eq!(refusal(&cluster, &token), "[invalid bearer token, Token has expired.]");
}

#[tokio::test]
async fn without_its_store_the_server_goes_by_what_it_knew() {
    let cluster = cluster().await;
    cluster.create_pod("team-a", "robot-0", "robot");
    let known =
        cluster.token("team-a", "robot").audience("x").bound_to_pod("robot-0").issue().unwrap();
    cluster.lose_store();
    cluster.delete_pod("team-a", "robot-0");
    assert!(is_good(&cluster, &known), "the deletion has not come through");

    cluster.create_service_account("team-a", "newcomer");
    let newcomer = cluster.token("team-a", "newcomer").audience("x").issue().unwrap();
    let cut_off =
        "[invalid bearer token, rpc error: code = Unavailable desc = transport is closing]";
    assert_eq!(refusal(&cluster, &newcomer), cut_off);
    cluster.create_pod("team-a", "robot-1", "robot");
    let new_pod =
        cluster.token("team-a", "robot").audience("x").bound_to_pod("robot-1").issue().unwrap();
    assert_eq!(
        refusal(&cluster, &new_pod),
        "[invalid bearer token, service account token has been invalidated]"
    );

    cluster.regain_store();
    assert!(
        is_good(&cluster, &newcomer) && is_good(&cluster, &new_pod) && !is_good(&cluster, &known)
    );
}
