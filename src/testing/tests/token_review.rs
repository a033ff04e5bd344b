use std::time::Duration;

use serde_json::json;

use super::{super::*, *};

#[tokio::test]
async fn a_valid_token_authenticates_its_service_account() {
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
                "groups": [
                    "system:serviceaccounts",
                    "system:serviceaccounts:team-a",
                    "system:authenticated",
                ],
                "extra": {"authentication.kubernetes.io/credential-id": [null]},
            },
        })
    );
}

#[tokio::test]
async fn a_token_is_accepted_for_its_audiences_only() {
    let cluster = cluster().await;
    let api = cluster.issuer().to_owned();
    let for_x = cluster.token("team-a", "robot").audience("x").issue().unwrap();
    let for_api = cluster.token("team-a", "robot").issue().unwrap();
    assert_eq!(review(&cluster, &for_x, &["x"])["audiences"], json!(["x"]));
    assert_eq!(review(&cluster, &for_api, &[])["audiences"], json!([api]));
    assert_eq!(
        review(&cluster, &for_x, &[])["error"],
        format!(
            "[invalid bearer token, token audiences [\"x\"] is invalid for the target audiences \
             [\"{api}\"]]"
        )
    );
    assert!(!is_accepted(&cluster, &for_api));
}

#[tokio::test]
async fn times_follow_the_injected_clock_with_a_minute_of_leeway() {
    let time = ManualClock::new();
    let cluster = with(Cluster::builder().clock(time.clock())).await;
    let token = cluster
        .token("team-a", "robot")
        .audience("x")
        .expires_in(Duration::from_secs(600))
        .issue()
        .unwrap();
    time.advance(Duration::from_secs(659));
    assert!(is_accepted(&cluster, &token));
    time.advance(Duration::from_secs(2));
    assert_eq!(
        rejection(&cluster, &token),
        "[invalid bearer token, service account token has expired]"
    );
    time.jump_back(Duration::from_secs(661 + 59));
    assert!(is_accepted(&cluster, &token), "before `nbf`, but within the leeway");
    time.jump_back(Duration::from_secs(3));
    assert_eq!(
        rejection(&cluster, &token),
        "[invalid bearer token, service account token is not valid yet]"
    );
}

#[tokio::test]
async fn claims_are_parsed_as_in_go() {
    let cluster = cluster().await;
    let now = claims(&cluster)["iat"].as_u64().unwrap();
    let good = |change: &dyn Fn(&mut Value)| {
        let mut claims = claims(&cluster);
        change(&mut claims);
        is_accepted(&cluster, &cluster.mint(&claims))
    };
    let without =
        |claims: &mut Value, name: &str| drop(claims.as_object_mut().unwrap().remove(name));
    assert!(good(&|_| ()));
    assert!(good(&|claims| claims["exp"] = json!(now as f64 + 600.5)));
    assert!(good(&|claims| without(claims, "exp")), "newer releases accept a token without `exp`");
    assert!(good(&|claims| claims["aud"] = json!("x")));
    assert!(good(&|claims| claims["sub"] = json!("other")), "only the private claims matter");
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
async fn tokens_that_the_cluster_did_not_sign_are_rejected() {
    let cluster = cluster().await;
    let (claims, key) = (claims(&cluster), cluster.signing_key());
    let good = cluster.mint(&claims);
    let parts: Vec<&str> = good.split('.').collect();
    let [header, payload, signature] = parts.as_slice() else { panic!() };
    let stranger = SigningKey::generate(Algorithm::RS256).unwrap();
    let hs256 = json!({"alg": "HS256", "kid": key.kid()});
    let bad = [
        ("another key with the cluster's kid", stranger.sign(&key.header(), &claims)),
        ("another key", stranger.sign(&stranger.header(), &claims)),
        ("no signature", format!("{header}.{payload}.")),
        ("a truncated signature", format!("{header}.{payload}.{}", &signature[..300])),
        ("HS256 with the public key", sign_hs256(&hs256, &claims, key.public_key_pem().as_bytes())),
        ("alg none", key.sign(&json!({"alg": "none"}), &claims)),
        ("a wrong alg", key.sign(&json!({"alg": "ES256", "kid": key.kid()}), &claims)),
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
        assert!(!is_accepted(&cluster, &token), "{what}");
    }
    assert!(
        is_accepted(&cluster, &key.sign(&json!({"alg": "RS256"}), &claims)),
        "every key is tried without a kid"
    );
    assert!(is_accepted(&cluster, &key.sign(&json!({"alg": "PS512", "kid": key.kid()}), &claims)));
    let duplicate =
        format!("{},\"exp\":9999999999}}", claims.to_string().trim_end_matches('}')) + "}";
    let duplicate =
        key.sign_bytes("RS256", key.header().to_string().as_bytes(), duplicate.as_bytes());
    assert!(!is_accepted(&cluster, &duplicate));
}

/// Go's decoder ignores the trailing bits of base64, so one token has several encodings.
#[tokio::test]
async fn a_signature_with_other_trailing_bits_is_accepted() {
    let cluster = cluster().await;
    let token = cluster.mint(&claims(&cluster));
    let last = token.chars().last().unwrap();
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let next = alphabet.chars().nth(alphabet.find(last).unwrap() + 1).unwrap();
    assert!(is_accepted(&cluster, &format!("{}{next}", &token[..token.len() - 1])));
}

#[tokio::test]
async fn deleting_the_service_account_invalidates_its_tokens() {
    let cluster = cluster().await;
    let token = cluster.token("team-a", "robot").audience("x").issue().unwrap();
    let old = cluster.create_service_account("team-a", "robot");
    assert!(cluster.delete_service_account("team-a", "robot"));
    assert_eq!(
        rejection(&cluster, &token),
        r#"[invalid bearer token, serviceaccounts "robot" not found]"#
    );
    let new = cluster.create_service_account("team-a", "robot");
    assert_eq!(
        rejection(&cluster, &token),
        format!("[invalid bearer token, service account UID ({new}) does not match claim ({old})]")
    );
}

#[tokio::test]
async fn deleting_the_bound_object_invalidates_the_token() {
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
    assert!(is_accepted(&cluster, &by_secret) && is_accepted(&cluster, &by_node));

    cluster.delete_pod("team-a", "robot-0");
    cluster.delete_secret("team-a", "robot-secret");
    for gone in [&by_pod, &by_secret] {
        assert_eq!(
            rejection(&cluster, gone),
            "[invalid bearer token, service account token has been invalidated]"
        );
    }
    cluster.create_pod("team-a", "robot-0", "robot");
    assert!(rejection(&cluster, &by_pod).contains("does not match service account pod ref claim"));
    let nodes: kube::Api<k8s_openapi::api::core::v1::Node> =
        kube::Api::all(cluster.admin_client().unwrap());
    nodes.delete("node-1", &Default::default()).await.unwrap();
    assert!(!is_accepted(&cluster, &by_node));
}

/// Kubernetes compares `DeletionTimestamp.Before(now - leeway)`, with a leeway of a minute.
#[tokio::test]
async fn a_pod_marked_for_deletion_invalidates_its_tokens_a_minute_later() {
    let time = ManualClock::new();
    let cluster = with(Cluster::builder().clock(time.clock())).await;
    cluster.create_pod_on_node("team-a", "robot-0", "robot", "node-1");
    let token =
        cluster.token("team-a", "robot").audience("x").bound_to_pod("robot-0").issue().unwrap();
    let pods: kube::Api<k8s_openapi::api::core::v1::Pod> =
        kube::Api::namespaced(cluster.admin_client().unwrap(), "team-a");
    let grace = kube::api::DeleteParams { grace_period_seconds: Some(10), ..Default::default() };
    pods.delete("robot-0", &grace).await.unwrap();
    assert!(
        pods.get("robot-0").await.unwrap().metadata.deletion_timestamp.is_some(),
        "without kubelet it stays marked"
    );
    time.advance(Duration::from_secs(10 + 59));
    assert!(is_accepted(&cluster, &token));
    time.advance(Duration::from_secs(2));
    assert!(!is_accepted(&cluster, &token));
}

#[tokio::test]
async fn static_tokens_authenticate_users_that_are_not_service_accounts() {
    let cluster = cluster().await;
    cluster.add_static_token("s3cr3t", "jane", &["developers"]);
    let status = review(&cluster, "s3cr3t", &[]);
    assert_eq!(status["user"]["username"], "jane");
    assert_eq!(status["user"]["groups"], json!(["developers", "system:authenticated"]));
    assert_eq!(
        rejection(&cluster, "s3cr3t"),
        "invalid bearer token",
        "only for the API server's audience"
    );
}

/// TokenReview parses the token as an `Authorization` header after `Bearer `.
#[tokio::test]
async fn spaces_in_a_token_have_the_effect_they_have_in_kubernetes() {
    let cluster = cluster().await;
    let token = cluster.mint(&claims(&cluster));
    assert!(is_accepted(&cluster, &format!("{token} junk")));
    let anonymous = review(&cluster, " x", &["x"]);
    assert_eq!(anonymous["authenticated"], true);
    assert_eq!(anonymous["user"]["username"], "system:anonymous");
    assert_eq!(anonymous["audiences"], json!(["x"]));
    let empty = cluster.state.review_token(json!({"spec": {"token": ""}})).unwrap_err();
    assert_eq!((empty.code.as_u16(), empty.reason), (400, "BadRequest"));
}

#[tokio::test]
async fn deleting_the_secret_invalidates_a_legacy_token() {
    let cluster = cluster().await;
    let token = cluster.legacy_token("team-a", "robot").unwrap();
    let status = review(&cluster, &token, &[]);
    assert_eq!(status["user"]["username"], "system:serviceaccount:team-a:robot");
    assert!(status["user"].get("extra").is_none());
    assert!(!is_accepted(&cluster, &token), "it is for the API server");
    cluster.delete_secret("team-a", "robot-token");
    assert!(review(&cluster, &token, &[])["authenticated"].is_null());
}

#[tokio::test]
async fn a_rotation_keeps_old_tokens_valid_until_its_last_step() {
    let cluster = cluster().await;
    let old = cluster.mint(&claims(&cluster));
    let new = cluster.add_key(Algorithm::ES384).unwrap();
    assert_eq!(cluster.signing_key().algorithm(), Algorithm::RS256);
    cluster.sign_with_newest();
    let newer = cluster.mint(&claims(&cluster));
    assert!(is_accepted(&cluster, &old) && is_accepted(&cluster, &newer));
    cluster.hide_from_discovery(&new);
    assert!(!cluster.jwks_json().contains(new.kid()));
    assert!(is_accepted(&cluster, &newer), "TokenReview accepts hidden keys");
    cluster.remove_old_keys();
    assert!(!is_accepted(&cluster, &old) && is_accepted(&cluster, &newer));
}

#[tokio::test]
async fn several_issuers_are_accepted_and_the_first_signs() {
    let cluster = with(Cluster::builder().issuer("https://new").issuer("https://old")).await;
    let mut claims = claims(&cluster);
    assert_eq!(claims["iss"], "https://new");
    claims["iss"] = json!("https://old");
    assert!(is_accepted(&cluster, &cluster.mint(&claims)));

    let several =
        Cluster::builder().release(Release::V1_20).issuer("https://new").issuer("https://old");
    let error = several.start().await.unwrap_err();
    assert!(error.to_string().contains("one issuer"), "{error}");
}

#[tokio::test]
async fn release_1_20_has_other_messages_and_no_jti() {
    let time = ManualClock::new();
    let cluster = with(Cluster::builder().release(Release::V1_20).clock(time.clock())).await;
    cluster.create_pod_on_node("team-a", "robot-0", "robot", "node-1");
    let claims =
        cluster.token("team-a", "robot").audience("x").bound_to_pod("robot-0").claims().unwrap();
    assert!(claims.get("jti").is_none() && claims["kubernetes.io"].get("node").is_none());
    let node = cluster.token("team-a", "robot").bound_to_node("node-1").issue().unwrap_err();
    assert_eq!(node.to_string(), "cannot bind token to object of type /v1, Kind=Node");
    let token = cluster.mint(&claims);
    assert!(is_accepted(&cluster, &token));
    time.advance(Duration::from_secs(4000));
    assert_eq!(rejection(&cluster, &token), "[invalid bearer token, Token has expired.]");
}

#[tokio::test]
async fn during_an_etcd_outage_the_server_uses_its_watch_cache() {
    let cluster = cluster().await;
    cluster.create_pod("team-a", "robot-0", "robot");
    let known =
        cluster.token("team-a", "robot").audience("x").bound_to_pod("robot-0").issue().unwrap();
    cluster.start_etcd_outage();
    cluster.delete_pod("team-a", "robot-0");
    assert!(is_accepted(&cluster, &known), "the server has not seen the deletion");

    cluster.create_service_account("team-a", "newcomer");
    let newcomer = cluster.token("team-a", "newcomer").audience("x").issue().unwrap();
    let unavailable =
        "[invalid bearer token, rpc error: code = Unavailable desc = transport is closing]";
    assert_eq!(rejection(&cluster, &newcomer), unavailable);
    cluster.create_pod("team-a", "robot-1", "robot");
    let new_pod =
        cluster.token("team-a", "robot").audience("x").bound_to_pod("robot-1").issue().unwrap();
    assert_eq!(
        rejection(&cluster, &new_pod),
        "[invalid bearer token, service account token has been invalidated]"
    );

    cluster.end_etcd_outage();
    assert!(
        is_accepted(&cluster, &newcomer)
            && is_accepted(&cluster, &new_pod)
            && !is_accepted(&cluster, &known)
    );
}
