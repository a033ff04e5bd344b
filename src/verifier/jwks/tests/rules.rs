//! The rules of `pkg/serviceaccount` and of RFC 7519 for the claims.

use super::*;

#[tokio::test]
async fn the_issuer_is_one_of_the_configured_set() {
    let setup = set_up_with(testing::Algorithm::ES256, |builder| {
        builder.issuer("https://old").issuer("https://new")
    });
    for issuer in ["https://old", "https://new"] {
        assert!(matches!(
            setup.verify_claims(&setup.with("iss", json!(issuer))).await,
            Verdict::Accept(_)
        ));
    }
    for issuer in [ISSUER, "https://new/", "HTTPS://new", "https://ne", ""] {
        assert_eq!(
            setup.reason(&setup.with("iss", json!(issuer))).await,
            RejectReason::Issuer,
            "{issuer:?}"
        );
    }
    assert_eq!(
        setup.reason(&setup.with("iss", json!(["https://new"]))).await,
        RejectReason::Malformed
    );
    assert_eq!(setup.reason(&setup.without("iss")).await, RejectReason::Malformed);
}

#[tokio::test]
async fn one_of_the_services_audiences_is_needed() {
    let setup = set_up();
    for audience in
        [json!("api"), json!(["api"]), json!(["x", "other-api"]), json!(["api", "other-api"])]
    {
        assert!(matches!(
            setup.verify_claims(&setup.with("aud", audience)).await,
            Verdict::Accept(_)
        ));
    }
    for audience in [json!("x"), json!([]), json!([""]), json!("API"), json!(["api "]), json!("")] {
        assert_eq!(setup.reason(&setup.with("aud", audience)).await, RejectReason::Audience);
    }
    assert_eq!(setup.reason(&setup.without("aud")).await, RejectReason::Audience);
    for audience in
        [json!(1), json!({ "api": true }), json!(["api", 1]), json!([["api"]]), json!(true)]
    {
        assert_eq!(setup.reason(&setup.with("aud", audience)).await, RejectReason::Malformed);
    }
    assert_eq!(setup.reason(&setup.with("aud", Value::Null)).await, RejectReason::Audience);
}

#[tokio::test]
async fn the_api_servers_audience_is_the_configured_one_and_without_a_name_nothing() {
    let named = set_up_with(testing::Algorithm::ES256, |builder| {
        builder.api_server_audience("https://api").api_server_audience("konnectivity")
    });
    let unnamed = set_up();
    let api_server = Audiences::api_server();
    for (audience, accepted) in [
        (json!("https://api"), true),
        (json!(["other", "konnectivity"]), true),
        (json!("api"), false),
        (json!([]), false),
        (Value::Null, false),
    ] {
        for (setup, accepted) in [(&named, accepted), (&unnamed, false)] {
            let token = setup.sign(&setup.with("aud", audience.clone()));
            let token = BearerToken::parse(&token).unwrap();
            let verdict = setup.verifier.verify(token, &api_server).await.unwrap();
            match verdict {
                Verdict::Accept(_) => assert!(accepted, "{audience}"),
                Verdict::Reject(reason) => {
                    assert_eq!((reason, accepted), (RejectReason::Audience, false), "{audience}");
                }
            }
        }
    }
    assert!(named.verifier.supports_api_server_audience());
    assert!(!unnamed.verifier.supports_api_server_audience());
}

#[tokio::test]
async fn exp_is_required_and_holds_within_the_leeway() {
    let setup = set_up();
    assert_eq!(setup.reason(&setup.without("exp")).await, RejectReason::Expired);
    assert_eq!(setup.reason(&setup.with("exp", Value::Null)).await, RejectReason::Expired);
    let now = setup.now();
    for (expiry, accepted) in
        [(now + 1.0, true), (now - 59.0, true), (now - 60.5, false), (now - 3600.0, false)]
    {
        let verdict = setup.verify_claims(&setup.with("exp", json!(expiry))).await;
        assert_eq!(matches!(verdict, Verdict::Accept(_)), accepted, "{}", expiry - now);
    }
    assert_eq!(setup.reason(&setup.with("exp", json!(0))).await, RejectReason::Expired);
    for odd in
        [json!(-1), json!(1e300), json!("4000000000"), json!([4e9]), json!(true), json!(u64::MAX)]
    {
        assert_eq!(
            setup.reason(&setup.with("exp", odd.clone())).await,
            RejectReason::Malformed,
            "{odd}"
        );
    }
    let token = setup.key.sign_bytes(
        "ES256",
        setup.key.header().to_string().as_bytes(),
        br#"{"exp":1e999}"#,
    );
    assert_eq!(setup.verify(&token).await.unwrap(), Verdict::Reject(RejectReason::Malformed));
}

#[tokio::test]
async fn the_clock_that_is_set_forward_expires_and_the_one_set_back_revives() {
    let setup = set_up();
    let token = setup.sign(&setup.claims());
    setup.clock.jump_forward(Duration::from_secs(3_659));
    assert!(setup.accepts(&token).await);
    setup.clock.jump_forward(Duration::from_secs(2));
    assert_eq!(setup.verify(&token).await.unwrap(), Verdict::Reject(RejectReason::Expired));
    setup.clock.jump_back(Duration::from_secs(7_200));
    assert_eq!(setup.verify(&token).await.unwrap(), Verdict::Reject(RejectReason::NotYetValid));
}

#[tokio::test]
async fn nbf_and_iat_must_not_lie_in_the_future_but_may_be_missing() {
    let setup = set_up();
    let now = setup.now();
    for claim in ["nbf", "iat"] {
        assert!(matches!(setup.verify_claims(&setup.without(claim)).await, Verdict::Accept(_)));
        assert!(matches!(
            setup.verify_claims(&setup.with(claim, json!(now + 59.0))).await,
            Verdict::Accept(_)
        ));
        assert_eq!(
            setup.reason(&setup.with(claim, json!(now + 61.0))).await,
            RejectReason::NotYetValid
        );
        for odd in [json!("now"), json!(-1), json!(1e300), json!({})] {
            assert_eq!(
                setup.reason(&setup.with(claim, odd.clone())).await,
                RejectReason::Malformed,
                "{claim} {odd}"
            );
        }
    }
}

#[tokio::test]
async fn the_leeway_is_an_option() {
    let setup = set_up_with(testing::Algorithm::ES256, |builder| builder.leeway(Duration::ZERO));
    assert_eq!(
        setup.reason(&setup.with("exp", json!(setup.now() - 1.0))).await,
        RejectReason::Expired
    );
    assert_eq!(
        setup.reason(&setup.with("nbf", json!(setup.now() + 1.0))).await,
        RejectReason::NotYetValid
    );
}

#[tokio::test]
async fn sub_must_say_the_same_as_the_private_claims() {
    let setup = set_up();
    for subject in [
        "system:serviceaccount:ns:other",
        "system:serviceaccount:other:sa",
        "system:admin",
        "",
        "sa",
    ] {
        assert_eq!(
            setup.reason(&setup.with("sub", json!(subject))).await,
            RejectReason::NotAServiceAccount,
            "{subject}"
        );
    }
    assert_eq!(setup.reason(&setup.without("sub")).await, RejectReason::Malformed);
    assert_eq!(setup.reason(&setup.with("sub", json!(1))).await, RejectReason::Malformed);
}

#[tokio::test]
async fn the_private_claims_must_name_a_service_account() {
    let setup = set_up();
    assert_eq!(
        setup.reason(&setup.without("kubernetes.io")).await,
        RejectReason::NotAServiceAccount
    );
    let account = json!({ "name": "sa", "uid": "u" });
    for private in [
        json!({ "namespace": "Ns", "serviceaccount": account }),
        json!({ "namespace": "", "serviceaccount": account }),
        json!({ "namespace": "ns:x", "serviceaccount": account }),
        json!({ "namespace": "ns", "serviceaccount": { "name": "sa" } }),
        json!({ "namespace": "ns", "serviceaccount": { "name": "sa", "uid": "" } }),
        json!({ "namespace": "ns", "serviceaccount": { "name": "sa:x", "uid": "u" } }),
    ] {
        let mut claims = setup.with("kubernetes.io", private.clone());
        let name = private["serviceaccount"]["name"].as_str().unwrap();
        claims["sub"] = json!(format!(
            "system:serviceaccount:{}:{name}",
            private["namespace"].as_str().unwrap()
        ));
        assert_eq!(setup.reason(&claims).await, RejectReason::NotAServiceAccount, "{private}");
    }
    for private in [
        json!([]),
        json!(["ns", { "name": "sa", "uid": "u" }]),
        json!("ns"),
        json!({ "namespace": "ns" }),
        json!({ "namespace": "ns", "serviceaccount": ["sa", "u"] }),
        json!({ "namespace": ["ns"], "serviceaccount": account }),
        json!({ "namespace": "ns", "serviceaccount": account, "pod": "p" }),
        json!({ "namespace": "ns", "serviceaccount": account, "pod": ["p", "u"] }),
    ] {
        assert_eq!(
            setup.reason(&setup.with("kubernetes.io", private.clone())).await,
            RejectReason::Malformed,
            "{private}"
        );
    }
}

#[tokio::test]
async fn a_jti_that_is_missing_or_no_string_is_just_not_there() {
    let setup = set_up();
    for claims in
        [setup.without("jti"), setup.with("jti", json!(7)), setup.with("jti", json!({ "a": [1] }))]
    {
        let Verdict::Accept(acceptance) = setup.verify_claims(&claims).await else {
            panic!("{claims}")
        };
        assert_eq!(acceptance.identity().credential_id(), None);
    }
}

#[tokio::test]
async fn legacy_tokens_only_where_that_is_asked_for() {
    let legacy = json!({
        "iss": "kubernetes/serviceaccount",
        "sub": "system:serviceaccount:ns:sa",
        "kubernetes.io/serviceaccount/namespace": "ns",
        "kubernetes.io/serviceaccount/secret.name": "sa-token",
        "kubernetes.io/serviceaccount/service-account.name": "sa",
        "kubernetes.io/serviceaccount/service-account.uid": "sa-uid",
    });
    assert_eq!(set_up().reason(&legacy).await, RejectReason::Issuer);

    let setup = set_up_with(testing::Algorithm::ES256, JwksBuilder::dangerous_accept_legacy_tokens);
    let Verdict::Accept(acceptance) = setup.verify_claims(&legacy).await else {
        panic!("rejected")
    };
    assert_eq!((acceptance.identity().uid(), acceptance.identity().expires_at()), ("sa-uid", None));
    assert_eq!(
        setup.reason(&setup.without("exp")).await,
        RejectReason::Expired,
        "a bound token still needs its exp"
    );
    assert_eq!(setup.reason(&setup.without("aud")).await, RejectReason::Audience);
    let mut other = legacy.clone();
    other["sub"] = json!("system:serviceaccount:ns:other");
    assert_eq!(setup.reason(&other).await, RejectReason::NotAServiceAccount);
    let mut expired = legacy;
    expired["exp"] = json!(1);
    assert_eq!(setup.reason(&expired).await, RejectReason::Expired);
}

#[tokio::test]
async fn claims_given_twice_are_rejected() {
    let setup = set_up();
    let good = setup.claims().to_string();
    for twice in [
        good.replacen('{', r#"{"aud":["api"],"#, 1),
        good.replacen('{', r#"{"sub":"system:serviceaccount:ns:sa","#, 1),
        good.replacen('{', r#"{"exp":1,"#, 1),
        good.replacen(r#""namespace""#, r#""namespace":"ns","namespace""#, 1),
        good.replacen(r#""name":"sa""#, r#""name":"sa","name":"sa""#, 1),
    ] {
        let header = setup.key.header().to_string();
        let token = setup.key.sign_bytes("ES256", header.as_bytes(), twice.as_bytes());
        assert_eq!(
            setup.verify(&token).await.unwrap(),
            Verdict::Reject(RejectReason::Malformed),
            "{twice}"
        );
    }
}

#[tokio::test]
async fn the_legacy_issuer_among_the_configured_ones_relaxes_nothing() {
    let legacy = json!({
        "iss": "kubernetes/serviceaccount",
        "sub": "system:serviceaccount:ns:sa",
        "kubernetes.io/serviceaccount/namespace": "ns",
        "kubernetes.io/serviceaccount/service-account.name": "sa",
        "kubernetes.io/serviceaccount/service-account.uid": "sa-uid",
    });
    let setup = set_up_with(testing::Algorithm::ES256, |builder| {
        builder.issuer("kubernetes/serviceaccount")
    });
    assert_eq!(
        setup.reason(&legacy).await,
        RejectReason::Expired,
        "only dangerous_accept_legacy_tokens does"
    );
    let mut with_expiry = legacy.clone();
    with_expiry["exp"] = json!(setup.now() + 3600.0);
    assert_eq!(setup.reason(&with_expiry).await, RejectReason::Audience);
    with_expiry["aud"] = json!(["api"]);
    assert_eq!(
        setup.reason(&with_expiry).await,
        RejectReason::NotAServiceAccount,
        "flat claims are not read"
    );
    let bound = setup.with("iss", json!("kubernetes/serviceaccount"));
    assert!(matches!(setup.verify_claims(&bound).await, Verdict::Accept(_)));
}

#[tokio::test]
async fn a_token_that_lives_longer_than_the_limit_is_rejected() {
    let setup = set_up_with(testing::Algorithm::ES256, |builder| {
        builder.max_token_lifetime(Duration::from_secs(3600))
    });
    let now = setup.now().floor();
    let accepts =
        async |claims: &Value| matches!(setup.verify_claims(claims).await, Verdict::Accept(_));
    assert!(accepts(&setup.claims()).await, "exactly the limit");
    assert!(!accepts(&setup.with("iat", json!(now - 1.0))).await, "a second longer");
    let year = setup.with("exp", json!(now + 31_536_000.0));
    for claims in [
        setup.with("exp", json!(now + 3601.0)),
        year.clone(),
        setup.without("iat"),
        setup.with("iat", Value::Null),
        setup.with("iat", json!(0)),
    ] {
        assert_eq!(setup.reason(&claims).await, RejectReason::LifetimeTooLong, "{claims}");
    }
    assert!(matches!(set_up().verify_claims(&year).await, Verdict::Accept(_)), "off by default");
}
