//! Prints what a service needs from its cluster, whether it is there, and the remedy.
//!
//! `cargo run --example doctor` runs in a Pod or with a kubeconfig. `--token FILE` also checks the
//! token that the service sends to others, and `--audience NAME` the audience that they expect.
//!
//! `--embedded` runs on an embedded cluster, and `--embedded NEED` on one where that is not met:
//! `tokenreviews`, `subjectaccessreviews` (the rights to create them), `keys`, `server`,
//! `credential` (for the API server), `clock`, `audience`, `expiry` (of the token for others).
//!
//! stderr has the log, of warnings or as `RUST_LOG` says.
//!
//! Exit codes: 0 all needs are met, 1 some need is not met or there is no configuration of an API
//! server, 2 wrong use.

use std::{error::Error, process::ExitCode, time::Duration};

use serde_json::{Value, json};
use tower_kube_auth::{
    ApiServer, Authenticator, JwksVerifier, TokenReviewVerifier, VerifierExt,
    authenticator::SelfCheck,
    authorizer::SubjectAccessReviewAuthorizer,
    client::{ProjectedToken, StaticToken, Token, TokenSource},
    testing::{Cluster, Endpoint, Fault, ManualClock},
};
use tracing_subscriber::EnvFilter;

const USAGE: &str = "usage: doctor [--token FILE [--audience NAME]] | doctor --embedded [NEED]
NEED: tokenreviews | subjectaccessreviews | keys | server | credential | clock | audience | expiry";

#[tokio::main]
async fn main() -> ExitCode {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match arguments[..] {
        [] => in_cluster(None, None).await,
        ["--token", file] => in_cluster(Some(file), None).await,
        ["--token", file, "--audience", audience] => in_cluster(Some(file), Some(audience)).await,
        ["--embedded"] => embedded("").await,
        ["--embedded", missing] if !missing.is_empty() => embedded(missing).await,
        _ => return wrong_use(),
    };
    match outcome {
        Ok(Some(true)) => ExitCode::SUCCESS,
        Ok(Some(false)) => ExitCode::from(1),
        Ok(None) => wrong_use(),
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(1)
        }
    }
}

fn wrong_use() -> ExitCode {
    eprintln!("{USAGE}");
    ExitCode::from(2)
}

type Outcome = Result<Option<bool>, Box<dyn Error>>;

async fn in_cluster(token: Option<&str>, audience: Option<&str>) -> Outcome {
    let api = ApiServer::try_default().await?;
    diagnose(api, token.map(ProjectedToken::new), audience).await
}

/// Runs on an embedded cluster in which something is `missing`; returns `None` if that is unknown.
async fn embedded(missing: &str) -> Outcome {
    let clock = ManualClock::new();
    if missing == "clock" {
        clock.jump_back(Duration::from_secs(300));
    }
    let cluster = Cluster::builder().clock(clock.clock()).start().await?;
    cluster.create_service_account("shop", "checkout");
    let own = cluster.token("shop", "checkout").audience("orders");
    let mut claims = own.claims()?;
    let mut client = cluster.kube_client()?;
    let grant = |group: &str, resource: &str| {
        let rule = json!({"apiGroups": [group], "resources": [resource], "verbs": ["create"]});
        cluster.revoke(Cluster::VERIFIER);
        cluster.grant(Cluster::VERIFIER, &rule);
    };
    match missing {
        "" | "clock" => {}
        "tokenreviews" => grant("authorization.k8s.io", "subjectaccessreviews"),
        "subjectaccessreviews" => grant("authentication.k8s.io", "tokenreviews"),
        "keys" => cluster.revoke_issuer_discovery(),
        "server" => {
            cluster.set_fault(Endpoint::All, Fault::Status { code: 503, retry_after: Some(60) });
        }
        "credential" => client = cluster.client_for(cluster.mint(&claims))?,
        "audience" => set(&mut claims, "aud", json!(["payments"])),
        // Of its hour, two minutes are left.
        "expiry" => {
            for claim in ["iat", "nbf", "exp"] {
                let time = claims.get(claim).and_then(Value::as_i64).unwrap_or_default();
                set(&mut claims, claim, json!(time - 3_480));
            }
        }
        _ => return Ok(None),
    }
    let own = StaticToken::new(Token::new(cluster.mint(&claims))?);
    diagnose(client.into(), Some(own), Some("orders")).await
}

fn set(claims: &mut Value, name: &str, value: Value) {
    if let Value::Object(claims) = claims {
        claims.insert(name.to_owned(), value);
    }
}

async fn diagnose(
    api: ApiServer,
    own: Option<impl TokenSource>,
    audience: Option<&str>,
) -> Outcome {
    let keys = JwksVerifier::in_cluster(api.clone()).build()?;
    let verifier = TokenReviewVerifier::new(api.clone()).or_when_unavailable(keys);
    let auth = Authenticator::builder(verifier).audience("doctor").build()?;
    let mut check = SelfCheck::new(&auth).authorizer(SubjectAccessReviewAuthorizer::new(api));
    if let Some(source) = own {
        check = check.token_source(source);
    }
    if let Some(audience) = audience {
        check = check.token_audience(audience);
    }
    let readiness = check.run().await;
    print!("{readiness}");
    Ok(Some(readiness.all_met()))
}
